//! What other CPUs tell a vCPU: interrupts, NMI, INIT and start-up messages, left without a lock and taken by the CPU
//! that runs the vCPU; and, the other way round, where its local APIC can be reached.
//!
//! Who leaves something then wakes or kicks the vCPU; who is about to block or to enter the guest looks into the box
//! *after* it has said so. All accesses are sequentially consistent, so one of both sees the other.
//!
//! Order: INIT undoes what came before it, so of an NMI, a start-up message and INIT only those after the last INIT
//! are kept; of several start-up messages the first counts, because the processor runs then and ignores the rest
//! (Intel SDM vol. 3, "MP Initialization Protocol"). Interrupts carry no order relative to INIT: it empties IRR, and
//! until software enables the local APIC again none is accepted.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use super::lapic::Address;
use super::vectors::Vectors;

// Bits of `summary`. Bit `n` of the first four: word `n` of `edge` or `level` may hold something.
const WORDS: u32 = 0xf;
const NMI: u32 = 1 << 4;
const INIT: u32 = 1 << 5;
const START_UP: u32 = 1 << 6;
const PAGE_SHIFT: u32 = 16;
const PAGE: u32 = 0xff << PAGE_SHIFT;

/// The box of one vCPU.
#[derive(Debug)]
pub struct Inbox {
    summary: AtomicU32,
    edge: [AtomicU64; 4],
    level: [AtomicU64; 4],
    address: AtomicU64,
}

/// What was in the box. To be acted on in the order of the fields.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Letters {
    /// Reset the vCPU as INIT does; it then waits for a start-up message.
    pub init: bool,
    /// Start in real mode at this page (address `page << 12`), if the vCPU waits for that.
    pub start_up: Option<u8>,
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// Edge-triggered interrupts for the local APIC.
    pub edge: Vectors,
    /// Level-triggered ones, whose EOI I/O APICs are to be told. One that was left in both ways is only here:
    /// an EOI too many is harmless, one too few blocks the line.
    pub level: Vectors,
}

impl Inbox {
    /// An empty box of a vCPU that cannot be reached yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            summary: AtomicU32::new(0),
            edge: [const { AtomicU64::new(0) }; 4],
            level: [const { AtomicU64::new(0) }; 4],
            address: AtomicU64::new(Address::UNREACHABLE.pack()),
        }
    }

    /// Leaves an interrupt with `vector`. Several of the same vector are one.
    pub fn interrupt(&self, vector: u8, level: bool) {
        let word = usize::from(vector >> 6);
        let set = if level { &self.level } else { &self.edge };
        set[word].fetch_or(1 << (vector & 63), SeqCst);
        // After the vector: whoever takes this bit finds the vector.
        self.summary.fetch_or(1 << word, SeqCst);
    }

    /// Leaves a non-maskable interrupt.
    pub fn nmi(&self) {
        self.summary.fetch_or(NMI, SeqCst);
    }

    /// Leaves an INIT.
    pub fn init(&self) {
        self.change(|old| old & WORDS | INIT);
    }

    /// Leaves a start-up message for `page`.
    pub fn start_up(&self, page: u8) {
        self.change(|old| {
            if old & START_UP != 0 {
                return old;
            }
            old & !PAGE | START_UP | u32::from(page) << PAGE_SHIFT
        });
    }

    fn change(&self, how: impl Fn(u32) -> u32) {
        let mut old = self.summary.load(SeqCst);
        while let Err(now) = self
            .summary
            .compare_exchange_weak(old, how(old), SeqCst, SeqCst)
        {
            old = now;
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.summary.load(SeqCst) == 0
    }

    /// Takes all there is; `None` if that is nothing.
    pub fn take(&self) -> Option<Letters> {
        if self.is_empty() {
            return None;
        }
        let summary = self.summary.swap(0, SeqCst);
        let (mut edge, mut level) = ([0; 4], [0; 4]);
        for word in (0..4).filter(|word| summary & 1 << word != 0) {
            level[word] = self.level[word].swap(0, SeqCst);
            edge[word] = self.edge[word].swap(0, SeqCst) & !level[word];
        }
        let letters = Letters {
            init: summary & INIT != 0,
            start_up: (summary & START_UP != 0).then_some((summary >> PAGE_SHIFT & 0xff) as u8),
            nmi: summary & NMI != 0,
            edge: Vectors::from_words(edge),
            level: Vectors::from_words(level),
        };
        // A vector may have been taken on behalf of an earlier one in its word.
        (letters != Letters::default()).then_some(letters)
    }

    /// Says where the local APIC can be reached from now on. Only the CPU that runs the vCPU does so.
    pub fn publish(&self, address: Address) {
        self.address.store(address.pack(), SeqCst);
    }

    /// Where the local APIC can be reached, for senders to match destinations with.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::unpack(self.address.load(SeqCst))
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
