//! The tags of guests' translations in one CPU's TLB (AMD APM vol. 2, 15.16).
//!
//! A vCPU keeps a [`Ticket`]: the tag that it had, on which CPU and in which generation. A ticket is good on its CPU
//! while the generation lasts. The generation ends when this CPU forgets everything ([`Asids::renew_all`], part of each
//! full flush), and when the tags are used up. Tags are given out in order and none twice before all were; so a new
//! generation needs no flush of the hardware, until the tags start again at the first one.
//!
//! A vCPU has one ticket, so one that was elsewhere in between gets a new tag: what its guest invalidated there is
//! still known here under the old one.

use core::cell::Cell;

use crate::base::CpuId;

#[cfg(test)]
mod tests;

/// The tag of the hypervisor itself.
const HOST: u32 = 0;
/// The first tag of a guest.
const FIRST: u32 = HOST + 1;

/// The tag that a vCPU has on a CPU. The default one is good nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticket {
    cpu: CpuId,
    /// 0: none.
    generation: u64,
    asid: u32,
}

impl Ticket {
    /// The tag; 0 in a ticket that is none.
    #[must_use]
    pub const fn asid(&self) -> u32 {
        self.asid
    }
}

/// The tags of one CPU. Only that CPU uses it.
#[derive(Debug)]
pub struct Asids {
    /// Tags below this exist.
    max: u32,
    next: Cell<u32>,
    generation: Cell<u64>,
    /// The tags start again: with the next entry the hardware forgets all.
    flush_owed: Cell<bool>,
    /// How often this CPU started.
    starts: Cell<u32>,
}

impl Asids {
    /// For a CPU with so many tags (CPUID 8000_000A ebx), the hypervisor's included. Where there are too few to run a
    /// guest, nothing is entered, but one can have this all the same.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self {
            max: max.max(FIRST + 1),
            next: Cell::new(FIRST),
            generation: Cell::new(1),
            // What is in the TLB at the start is not known.
            flush_owed: Cell::new(true),
            starts: Cell::new(0),
        }
    }

    /// No ticket of this CPU is good any more. Part of each full flush.
    #[inline]
    pub fn renew_all(&self) {
        // In 64 bits the generations do not come round.
        self.generation.set(self.generation.get().wrapping_add(1));
    }

    /// This CPU starts, perhaps not for the first time: nothing is known of its TLB.
    pub fn start(&self) {
        self.starts.set(self.starts.get().wrapping_add(1));
        self.renew_all();
        self.flush_owed.set(true);
    }

    /// Changes with each full flush: what nested tables led to before is not used in a new one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Changes when the CPU started again.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.starts.get()
    }

    /// The ticket for an entry on this CPU, whose number is `cpu`, and whether the hardware must forget all
    /// translations with it. To be asked with interrupts off, and nothing but the entry may come after; if the entry
    /// happened, [`Self::entered`].
    #[must_use]
    pub fn ticket(&self, old: &Ticket, cpu: CpuId) -> (Ticket, bool) {
        if old.cpu == cpu && old.generation == self.generation.get() {
            return (*old, self.flush_owed.get());
        }
        if self.next.get() >= self.max {
            self.next.set(FIRST);
            self.renew_all();
            self.flush_owed.set(true);
        }
        let asid = self.next.get();
        self.next.set(asid + 1);
        let new = Ticket {
            cpu,
            generation: self.generation.get(),
            asid,
        };
        (new, self.flush_owed.get())
    }

    /// An entry happened, with a flush if one was asked for.
    #[inline]
    pub fn entered(&self) {
        self.flush_owed.set(false);
    }
}
