//! Spin locks that know their place in the order of all locks ([`rank`]).
//!
//! With debug assertions each CPU (on the host: each thread) keeps what it holds, and taking a lock
//! out of order panics with both names. Without them nothing of this is there.

use core::fmt;
use core::ops::{Deref, DerefMut};

pub mod rank;

#[cfg(debug_assertions)]
mod held;
#[cfg(test)]
mod tests;

#[cfg(debug_assertions)]
pub use held::{HeldLocks, Holders, watch};
pub use rank::Rank;

/// A lock's place: its rank, and its number among those of the same rank.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    rank: Rank,
    number: u32,
}

/// Panics, with debug assertions, when this CPU holds any lock. `what` says what it is about to do.
#[inline(always)]
pub fn expect_none(what: &str) {
    #[cfg(debug_assertions)]
    held::expect_none(what);
    #[cfg(not(debug_assertions))]
    let _ = what;
}

/// A lock for one party at a time.
pub struct Mutex<T> {
    #[cfg(debug_assertions)]
    place: Place,
    inner: spin::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock of this rank; no two of one rank are held at once.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self::numbered(rank, 0, value)
    }

    /// A lock of this rank. Of several, those with lower numbers are taken first.
    pub const fn numbered(rank: Rank, number: u32, value: T) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = (rank, number);
        Self {
            #[cfg(debug_assertions)]
            place: Place { rank, number },
            inner: spin::Mutex::new(value),
        }
    }

    /// Waits for the lock.
    #[inline(always)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = held::take(self.place);
        let inner = self.inner.lock();
        #[cfg(debug_assertions)]
        held.got();
        MutexGuard {
            inner,
            #[cfg(debug_assertions)]
            _held: held,
        }
    }

    /// The value, of which the caller has the only reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What a [`Mutex`] guards, until it is dropped.
pub struct MutexGuard<'a, T> {
    // Dropped in this order: first unlocked, then forgotten.
    inner: spin::MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Holding,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock for many readers or one writer.
pub struct RwLock<T> {
    #[cfg(debug_assertions)]
    place: Place,
    inner: spin::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock of this rank; no two of one rank are held at once.
    pub const fn new(rank: Rank, value: T) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = rank;
        Self {
            #[cfg(debug_assertions)]
            place: Place { rank, number: 0 },
            inner: spin::RwLock::new(value),
        }
    }

    /// Waits until nobody writes.
    #[inline(always)]
    pub fn read(&self) -> ReadGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = held::take(self.place);
        let inner = self.inner.read();
        #[cfg(debug_assertions)]
        held.got();
        ReadGuard {
            inner,
            #[cfg(debug_assertions)]
            _held: held,
        }
    }

    /// Waits until nobody reads or writes.
    #[inline(always)]
    pub fn write(&self) -> WriteGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = held::take(self.place);
        let inner = self.inner.write();
        #[cfg(debug_assertions)]
        held.got();
        WriteGuard {
            inner,
            #[cfg(debug_assertions)]
            _held: held,
        }
    }
}

/// What an [`RwLock`] guards, to be read until it is dropped.
pub struct ReadGuard<'a, T> {
    inner: spin::RwLockReadGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Holding,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

/// What an [`RwLock`] guards, until it is dropped.
pub struct WriteGuard<'a, T> {
    inner: spin::RwLockWriteGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Holding,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
