//! What short work costs. The time stamp counter is the clock: where instructions are counted it tells nanoseconds, one
//! for each.

use core::arch::asm;

/// Of so many rounds the cheapest counts.
pub const ROUNDS: u32 = 5;

/// Nanoseconds for each operation, and how many there were.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Those of the cheapest round.
    pub best: u64,
    /// Operations of all rounds that counted.
    pub operations: u32,
}

/// The time stamp counter.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: it reads a register.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Does the work in rounds of so many times, between marks that the emulator's counters know (`count.c`).
pub fn measure(times: u32, mut work: impl FnMut()) -> Figure {
    work();
    let mut best = u64::MAX;
    // SAFETY: a no-operation of seven bytes.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 0, 0x58, 0x45, 0x4e") };
    for _ in 0..ROUNDS {
        let start = tsc();
        for _ in 0..times {
            work();
        }
        best = best.min((tsc() - start) / u64::from(times));
    }
    // SAFETY: the same.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 1, 0x58, 0x45, 0x4e") };
    Figure {
        best,
        operations: ROUNDS * times,
    }
}
