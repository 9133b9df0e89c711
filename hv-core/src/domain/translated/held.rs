//! Pages that look-ups give out: with a reference, so that a copy is safe whatever the guest does to its map meanwhile.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::Translated;
use super::demand::Lack;
use crate::base::{Gfn, Mfn};
use crate::mm::p2m::{Mapping, P2mKind};

/// Times the entry may change under a look-up before that gives up.
const RACES: u32 = 16;

/// A page behind a guest frame, kept where it is until this is dropped.
pub struct HeldPage<'a> {
    map: &'a Translated,
    gfn: Gfn,
    mfn: Mfn,
    write: bool,
}

impl HeldPage<'_> {
    /// Where it was found.
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// The page.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// Whether it may be written.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.write
    }

    /// Its contents, which the guest may change at any time.
    #[must_use]
    pub fn words(&self) -> &'static [AtomicU64; 512] {
        self.map.machine().words(self.mfn)
    }

    /// Hands the reference over: to be ended by `Machine::drop_mapped`, or, where it is one to write, by `Machine::drop_writable`.
    #[must_use]
    pub fn keep(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl Drop for HeldPage<'_> {
    fn drop(&mut self) {
        if self.write && self.map.logs.load(Ordering::Relaxed) {
            // The log was perhaps read before what was written through this.
            let _logged = self.map.log_write(self.gfn);
        }
        self.map.machine().drop_mapped(self.mfn, self.write);
    }
}

impl Translated {
    /// The page behind a guest frame, held; to write it only if the guest may. Memory of whatever kind; nothing for holes and device registers.
    /// A promised frame gets its page, if one is set aside; see [`Domain::hold`](crate::domain::Domain::hold) for one that is looked for.
    #[must_use]
    pub fn hold(&self, gfn: Gfn, write: bool) -> Option<HeldPage<'_>> {
        for _ in 0..RACES {
            let Mapping { mfn, kind, .. } = self.mapping(gfn);
            if kind == P2mKind::OnDemand {
                match self.fill(gfn) {
                    Ok(()) | Err(Lack::Busy) => continue,
                    Err(Lack::Page | Lack::Table | Lack::Over) => return None,
                }
            }
            if write && kind == P2mKind::RamLogDirty {
                let _logged = self.log_write(gfn);
                continue;
            }
            if !kind.is_memory() || (write && !kind.may_write()) {
                return None;
            }
            if !self.take(mfn, kind, write) {
                continue;
            }
            let held = HeldPage {
                map: self,
                gfn,
                mfn,
                write,
            };
            // It may have been unmapped, and become somebody else's, before the reference was there.
            match self.lookup(gfn) {
                Some((now, kind)) if now == mfn && (kind.may_write() || !write) => {
                    return Some(held);
                }
                _ => drop(held),
            }
        }
        None
    }

    /// A word of the page behind a guest frame, read without a reference, which costs more than the read. Memory of whatever kind;
    /// nothing for holes and device registers.
    ///
    /// For decisions only, such as where an entry of the guest's tables leads, and not to be copied to anybody: should the page have
    /// gone and come back between the two looks, with a flush of all CPUs in between, the word may have been another's.
    #[must_use]
    pub fn peek(&self, gfn: Gfn, word: usize) -> Option<u64> {
        for _ in 0..RACES {
            let before = self.lookup(gfn)?;
            let (mfn, kind) = before;
            if !kind.is_memory() {
                return None;
            }
            // The look-up behind it comes after it.
            let value = self.machine().words(mfn).get(word)?.load(Ordering::Acquire);
            if self.lookup(gfn) == Some(before) {
                return Some(value);
            }
        }
        None
    }

    /// Takes the reference of a look-up.
    fn take(&self, mfn: Mfn, kind: P2mKind, write: bool) -> bool {
        let machine = self.machine();
        if kind.is_ram() {
            return match write {
                true => machine.take_writable(mfn, self.id).is_ok(),
                false => machine.take_mapped(mfn, self.id, false).is_ok(),
            };
        }
        // Whose it is does not change while it is mapped, and whether it still is, the caller asks again.
        machine
            .owner_of(mfn)
            .is_some_and(|owner| machine.take_mapped(mfn, owner, write).is_ok())
    }

    /// A page of the domain's own (or lent to it) for the hypervisor to write for long: `vcpu_info`, event queues. The reference is
    /// one of `Machine::take_writable`, for `Machine::drop_writable`.
    ///
    /// # Errors
    /// `EINVAL` when there is no such page that the guest may write.
    pub fn hold_own(&self, gfn: Gfn) -> Result<Mfn, Errno> {
        let Some(held) = self.hold(gfn, true) else {
            self.starve_if_promised(gfn);
            return Err(Errno::EINVAL);
        };
        match self.lookup(gfn) {
            Some((mfn, kind)) if mfn == held.mfn && kind.is_ram() => Ok(held.keep()),
            _ => Err(Errno::EINVAL),
        }
    }
}
