//! The paravirtual clock.

use core::arch::x86_64::_rdtsc;

use xen_abi::xen::{VCPU_INFO_TIME, VcpuTimeInfo};

use crate::kernel;

/// The first vCPU's time record.
pub fn record() -> VcpuTimeInfo {
    loop {
        let before: VcpuTimeInfo = kernel::vcpu_info(VCPU_INFO_TIME);
        let after: VcpuTimeInfo = kernel::vcpu_info(VCPU_INFO_TIME);
        if before == after && before.version & 1 == 0 {
            return before;
        }
    }
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }
}

/// System time in nanoseconds.
pub fn now() -> u64 {
    let record = record();
    let delta = tsc().saturating_sub(record.tsc_timestamp);
    let shifted = match record.tsc_shift {
        left @ 0.. => delta << left,
        right => delta >> right.unsigned_abs(),
    };
    let scaled = (u128::from(shifted) * u128::from(record.tsc_to_system_mul)) >> 32;
    record.system_time + scaled as u64
}
