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
/// A vector stays with its line for good: with another vector the end of an interrupt that is still
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

    /// The line that a vector belongs to.
    #[must_use]
    pub fn line_of(&self, vector: u8) -> Option<u32> {
        self.lines[usize::from(vector)]
            .load(Ordering::Acquire)
            .checked_sub(1)
    }
}
