//! Which locks each CPU holds, and whether it may take another.

use core::fmt;

use arrayvec::ArrayVec;

use super::Place;

/// Most locks that a CPU holds at once.
const DEPTH: usize = 16;

/// The locks that one CPU holds, and the one that it waits for.
#[derive(Default)]
pub struct HeldLocks {
    /// In the order in which they were taken.
    places: ArrayVec<Place, DEPTH>,
    /// The last of them is not had yet.
    waits: bool,
}

impl HeldLocks {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: ArrayVec::new_const(),
            waits: false,
        }
    }

    /// Adds a lock, or says under which it must not be taken.
    fn add(&mut self, new: Place) -> Result<(), Place> {
        let before = |held: &Place| (held.rank.level, held.number) < (new.rank.level, new.number);
        if let Some(held) = self.places.iter().find(|held| !before(held)) {
            return Err(*held);
        }
        self.places.try_push(new).map_err(|_| new)?;
        self.waits = true;
        Ok(())
    }

    fn remove(&mut self, place: Place) {
        if let Some(at) = self.places.iter().rposition(|held| *held == place) {
            self.places.remove(at);
        }
    }
}

impl fmt::Display for HeldLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.places.is_empty() {
            return f.write_str("holds no lock");
        }
        let last = self.places.len() - 1;
        for (index, place) in self.places.iter().enumerate() {
            let (name, number, level) = (place.rank.name, place.number, place.rank.level);
            let does = if index == last && self.waits {
                "waits for"
            } else {
                "holds"
            };
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{does} {name} ({number}, rank {level})")?;
        }
        Ok(())
    }
}

/// Where the machine keeps [`HeldLocks`] for each CPU.
pub trait Holders: Sync {
    /// Does something with the list of the CPU that runs this.
    fn with(&self, what: &mut dyn FnMut(&mut HeldLocks));
}

#[cfg(not(test))]
static HOLDERS: spin::Once<&'static dyn Holders> = spin::Once::new();

/// From now on the order is checked; once each CPU that runs has its list.
pub fn watch(holders: &'static dyn Holders) {
    #[cfg(not(test))]
    HOLDERS.call_once(|| holders);
    #[cfg(test)]
    let _ = holders;
}

/// Does something with the list of this CPU, if there is one by now.
#[cfg(not(test))]
pub(super) fn with<R>(mut what: impl FnMut(&mut HeldLocks) -> R) -> Option<R> {
    let mut result = None;
    HOLDERS.get()?.with(&mut |held| result = Some(what(held)));
    result
}

/// Does something with the list of this thread.
#[cfg(test)]
pub(super) fn with<R>(mut what: impl FnMut(&mut HeldLocks) -> R) -> Option<R> {
    std::thread_local! {
        static HELD: core::cell::RefCell<HeldLocks> = const { core::cell::RefCell::new(HeldLocks::new()) };
    }
    HELD.try_with(|held| what(&mut held.borrow_mut())).ok()
}

/// That a lock is in the list, until it is dropped.
pub struct Holding(Option<Place>);

impl Holding {
    /// The lock has been taken.
    pub(super) fn got(&self) {
        if self.0.is_some() {
            with(|held| held.waits = false);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            with(|held| held.remove(place));
        }
    }
}

/// Notes that a lock is about to be taken.
pub(super) fn take(place: Place) -> Holding {
    match with(|held| held.add(place)) {
        None => Holding(None),
        Some(Ok(())) => Holding(Some(place)),
        Some(Err(under)) => panic!(
            "lock order: {} ({}) is taken under {} ({})",
            place.rank.name, place.number, under.rank.name, under.number
        ),
    }
}

/// See [`super::expect_none`].
pub(super) fn expect_none(what: &str) {
    if let Some(Some(held)) = with(|held| held.places.first().copied()) {
        panic!("lock order: {what} under {}", held.rank.name);
    }
}
