//! CPU vectors for devices. A line has the same vector on every CPU, so it can move to another CPU by
//! one write of the destination alone.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::errno::Errno;

/// Vectors for devices: above the exceptions and the PIC's range, below the hypervisor's own.
pub const DEVICES: RangeInclusive<u8> = 0x30..=0xef;

/// Never a device's: PV guests use it for system calls (INT 0x80), which must stay theirs.
pub const SYSCALL: u8 = 0x80;

/// Which line each vector belongs to. Reading takes no lock.
///
/// A vector stays with a line of an I/O APIC for good: with another vector the end of an interrupt that is still
/// on its way would not clear the line's Remote IRR bit, and the line would be dead.
pub struct Vectors {
    /// Line + 1; 0 for a free vector.
    lines: [AtomicU32; 256],
}

impl Default for Vectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Vectors {
    /// All vectors free.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lines: [const { AtomicU32::new(0) }; 256],
        }
    }

    /// Takes a free vector for a line. Consecutive lines get vectors of different priority classes
    /// (the upper four bits), since a local APIC holds back whatever is not above the class in service.
    ///
    /// # Errors
    /// `ENOSPC` when all are taken.
    pub fn allocate(&self, line: u32) -> Result<u8, Errno> {
        let owner = line.checked_add(1).ok_or(Errno::EINVAL)?;
        for low in 0..16_u8 {
            for high in 0..16_u8 {
                let vector = high << 4 | low;
                if !DEVICES.contains(&vector) || vector == SYSCALL {
                    continue;
                }
                let slot = &self.lines[usize::from(vector)];
                if slot
                    .compare_exchange(0, owner, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return Ok(vector);
                }
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Takes vectors that follow each other for lines that do, for messages that differ in the lowest bits of
    /// their vectors; `count` is a power of two. Gives the first.
    ///
    /// # Errors
    /// `ENOSPC` when there is no such run.
    pub fn allocate_run(&self, line: u32, count: u8) -> Result<u8, Errno> {
        if count <= 1 {
            return self.allocate(line);
        }
        let usable = |v: &u8| DEVICES.contains(v) && *v != SYSCALL;
        let free = |v: u8| self.lines[usize::from(v)].load(Ordering::Relaxed) == 0;
        let runs = DEVICES.step_by(usize::from(count));
        for first in runs.filter(|v| v.is_multiple_of(count)) {
            let run = first..=first.saturating_add(count - 1);
            if !run.clone().all(|v| usable(&v) && free(v)) {
                continue;
            }
            let mut taken = run.clone().zip(line..).take_while(|(v, line)| {
                let slot = &self.lines[usize::from(*v)];
                slot.compare_exchange(0, line + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            });
            let got = taken.by_ref().count();
            if got == usize::from(count) {
                return Ok(first);
            }
            // Somebody was faster.
            run.take(got).for_each(|v| self.release(v));
        }
        Err(Errno::ENOSPC)
    }

    /// Gives back the vector of a message. One that is on its way still is nobody's, or comes once for the next
    /// line that has the vector.
    pub fn release(&self, vector: u8) {
        self.lines[usize::from(vector)].store(0, Ordering::Release);
    }

    /// The line that a vector belongs to.
    #[must_use]
    pub fn line_of(&self, vector: u8) -> Option<u32> {
        self.lines[usize::from(vector)]
            .load(Ordering::Acquire)
            .checked_sub(1)
    }
}
