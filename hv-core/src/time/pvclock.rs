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

    use proptest::prelude::*;
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

    /// A guest's arithmetic (xen.h): 64 bits wide before the product, which has 96.
    fn guest_reads(info: &VcpuTimeInfo, tsc: u64) -> u64 {
        let delta = tsc.wrapping_sub(info.tsc_timestamp);
        let shifted = if info.tsc_shift < 0 {
            delta >> info.tsc_shift.unsigned_abs()
        } else {
            delta << info.tsc_shift
        };
        let product = u128::from(shifted) * u128::from(info.tsc_to_system_mul);
        info.system_time.wrapping_add((product >> 32) as u64)
    }

    /// A hundred days.
    const UPTIME: u64 = 100 * 24 * 3_600;

    proptest! {
        /// Whichever vCPU's record a guest reads by, time never goes back over a hundred days of reading, is the
        /// hypervisor's own to the nanosecond, and is off the TSC's by no more than the factor's last bit.
        #[test]
        fn time_is_one_for_all_vcpus_over_a_hundred_days(
            hz in 100_000_000..=5_000_000_000_u64,
            start in 0..1_u64 << 62,
            moments in prop::collection::vec((0..UPTIME, 0..1_000_000_000_u64, 0..4_usize), 2..60),
        ) {
            let clock = Clock::starting_at(start, TscScale::from_hz(hz).unwrap());
            let vcpus: Vec<[AtomicU32; WORDS]> = (0..4).map(|_| Default::default()).collect();
            let mut readings: Vec<_> = moments
                .iter()
                .map(|(second, part, vcpu)| (start + second * hz + part % hz, *vcpu))
                .collect();
            readings.extend(readings.clone().iter().map(|(tsc, vcpu)| (tsc + 1, 3 - vcpu)));
            readings.sort_unstable();
            let mut before = 0;
            for (tsc, vcpu) in readings {
                // It has just been loaded, as so often before.
                publish(&vcpus[vcpu], &time_info(&clock, 0));
                let now = guest_reads(&read(&vcpus[vcpu]), tsc);
                prop_assert!(now >= before, "{now} after {before}");
                prop_assert_eq!(now, clock.at(tsc));
                let exact = u128::from(tsc - start) * 1_000_000_000 / u128::from(hz);
                let off = exact.abs_diff(now.into());
                prop_assert!(off <= (exact >> 31) + 16, "{off} ns off");
                before = now;
            }
        }

        /// A deadline that a guest computes by its record and the TSC at which the hardware fires for it: not before the
        /// guest's clock shows it, and hardly after, after a hundred days too.
        #[test]
        fn a_deadline_of_the_guests_clock_is_met(
            hz in 100_000_000..=5_000_000_000_u64,
            start in 0..1_u64 << 62,
            age in 0..UPTIME * 1_000_000_000,
            ahead in 0..3_600_000_000_000_u64,
        ) {
            let clock = Clock::starting_at(start, TscScale::from_hz(hz).unwrap());
            let info = time_info(&clock, 0);
            let deadline = age + ahead;
            let fires = clock.tsc_at(deadline);
            let shown = guest_reads(&info, fires);
            prop_assert!((deadline..=deadline + 40).contains(&shown), "{shown} for {deadline}");
        }
    }
}
