//! The paravirtual clock: `vcpu_time_info` in a vCPU's shared area (xen.h).
//!
//! Only the CPU that runs a vCPU publishes its clock, so there is one writer. The guest may read
//! at any moment and retries while the version is odd or has changed.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use xen_abi::xen::VcpuTimeInfo;

use super::scale::Clock;

/// Shared memory as 32-bit words with atomic access; index 0 is the structure's first word.
pub trait SharedWords {
    /// Reads a word.
    fn load(&self, index: usize) -> u32;
    /// Writes a word.
    fn store(&self, index: usize, value: u32);
}

impl<const N: usize> SharedWords for [AtomicU32; N] {
    fn load(&self, index: usize) -> u32 {
        self[index].load(Ordering::Relaxed)
    }

    fn store(&self, index: usize, value: u32) {
        self[index].store(value, Ordering::Relaxed);
    }
}

/// Words in a [`VcpuTimeInfo`].
pub const WORDS: usize = size_of::<VcpuTimeInfo>() / 4;

/// The contents for a clock; the version is left to [`publish`].
///
/// `flags` are `XEN_PVCLOCK_*`; the clock's reference point becomes the guest's.
#[must_use]
pub fn time_info(clock: &Clock, flags: u8) -> VcpuTimeInfo {
    VcpuTimeInfo {
        version: 0,
        pad0: 0,
        tsc_timestamp: clock.tsc,
        system_time: clock.ns,
        tsc_to_system_mul: clock.scale.mul(),
        tsc_shift: clock.scale.shift(),
        flags,
        pad1: [0; 2],
    }
}

/// Writes all fields between an odd and an even version. The version goes on from the one in
/// memory, whatever the guest made of it: only that guest reads it.
pub fn publish(words: &impl SharedWords, info: &VcpuTimeInfo) {
    with_version(words, 0, || {
        store_u64(
            words,
            offset_of!(VcpuTimeInfo, tsc_timestamp),
            info.tsc_timestamp,
        );
        store_u64(
            words,
            offset_of!(VcpuTimeInfo, system_time),
            info.system_time,
        );
        words.store(
            offset_of!(VcpuTimeInfo, tsc_to_system_mul) / 4,
            info.tsc_to_system_mul,
        );
        let last = [info.tsc_shift as u8, info.flags, 0, 0];
        words.store(
            offset_of!(VcpuTimeInfo, tsc_shift) / 4,
            u32::from_le_bytes(last),
        );
    });
}

/// Runs `write` with the version word odd, then makes it the next even one.
pub(super) fn with_version(words: &impl SharedWords, index: usize, write: impl FnOnce()) {
    let odd = words.load(index).wrapping_add(1) | 1;
    words.store(index, odd);
    fence(Ordering::SeqCst);
    write();
    fence(Ordering::SeqCst);
    words.store(index, odd.wrapping_add(1));
}

fn store_u64(words: &impl SharedWords, offset: usize, value: u64) {
    words.store(offset / 4, value as u32);
    words.store(offset / 4 + 1, (value >> 32) as u32);
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use xen_abi::xen::XEN_PVCLOCK_TSC_STABLE_BIT;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;
    use crate::time::scale::TscScale;

    fn clock() -> Clock {
        Clock {
            tsc: 0x1_2345_6789,
            ns: 0x9_8765_4321,
            scale: TscScale::from_khz(2_500_000).unwrap(),
        }
    }

    fn read(words: &[AtomicU32; WORDS]) -> VcpuTimeInfo {
        let raw: Vec<u32> = words.iter().map(|w| w.load(Ordering::Relaxed)).collect();
        VcpuTimeInfo::read_from_bytes(raw.as_slice().as_bytes()).unwrap()
    }

    #[test]
    fn memory_holds_the_structure_with_an_even_version() {
        let words: [AtomicU32; WORDS] = Default::default();
        let info = time_info(&clock(), XEN_PVCLOCK_TSC_STABLE_BIT);
        for round in 1..4 {
            publish(&words, &info);
            let expected = VcpuTimeInfo {
                version: round * 2,
                ..info
            };
            assert_eq!(read(&words), expected);
        }
        assert_eq!(info.tsc_shift, -1);
    }

    #[test]
    fn any_version_left_by_the_guest_ends_even() {
        for old in [0, 1, 2, 7, u32::MAX - 1, u32::MAX] {
            let words: [AtomicU32; WORDS] = Default::default();
            words[0].store(old, Ordering::Relaxed);
            publish(&words, &time_info(&clock(), 0));
            let new = words[0].load(Ordering::Relaxed);
            assert!(new.is_multiple_of(2) && new != old, "{old} -> {new}");
        }
    }

    /// Records the order of writes.
    struct Journal(RefCell<Vec<(usize, u32)>>);

    impl SharedWords for Journal {
        fn load(&self, _: usize) -> u32 {
            4
        }
        fn store(&self, index: usize, value: u32) {
            self.0.borrow_mut().push((index, value));
        }
    }

    #[test]
    fn fields_are_written_while_the_version_is_odd() {
        let journal = Journal(RefCell::default());
        publish(&journal, &time_info(&clock(), 0));
        let writes = journal.0.into_inner();
        assert_eq!(writes.first(), Some(&(0, 5)));
        assert_eq!(writes.last(), Some(&(0, 6)));
        let fields: Vec<usize> = writes[1..writes.len() - 1].iter().map(|w| w.0).collect();
        assert_eq!(fields, [2, 3, 4, 5, 6, 7]);
    }
}
