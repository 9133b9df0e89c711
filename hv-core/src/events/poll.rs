//! vCPUs that wait for ports with their upcalls masked (`SCHEDOP_poll` in `sched.h`).

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use super::PortNumber;
use super::host::EventHost;
use super::raise::is_pending;
use crate::base::VcpuId;

/// What a vCPU that wants to poll does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PollStart {
    /// A port is pending already: go on.
    Ready,
    /// Block until [`EventHost::wake_poller`], an upcall or the timeout, then [`end_poll`].
    Wait,
}

/// Registers a vCPU as waiting for any of `ports`; with none, for any event of the domain.
///
/// The vCPU must already count as blocked to its scheduler, so that a wake-up which comes before
/// this returns is not lost; the caller then checks [`upcall_due`](super::upcall_due), which ends
/// a poll as well. The number of ports is the caller's to bound. More than one port makes every event wake it, and the guest looks.
///
/// # Errors
///
/// `ENOENT` for a vCPU and `EINVAL` for a port that does not exist; it is not registered then.
pub fn start_poll<D: EventHost>(
    d: &D,
    vcpu: VcpuId,
    ports: &[PortNumber],
) -> Result<PollStart, Errno> {
    let events = d.events();
    let only = match ports {
        [port] => *port,
        _ => 0,
    };
    let own = events.vcpu(d, vcpu)?;
    own.poll_port.store(only, Ordering::SeqCst);
    if let Some(word) = events.polling.get(vcpu as usize / 64) {
        word.fetch_or(1 << (vcpu % 64), Ordering::SeqCst);
    }
    // Registered first: an event from here on wakes the vCPU, an earlier one is seen below.
    for &port in ports {
        match is_pending(d, port) {
            Ok(false) => {}
            Ok(true) => {
                end_poll(d, vcpu);
                return Ok(PollStart::Ready);
            }
            Err(errno) => {
                end_poll(d, vcpu);
                return Err(errno);
            }
        }
    }
    Ok(PollStart::Wait)
}

/// The vCPU no longer polls, for whatever reason; harmless when it did not.
pub fn end_poll<D: EventHost>(d: &D, vcpu: VcpuId) {
    if let Some(word) = d.events().polling.get(vcpu as usize / 64) {
        word.fetch_and(!(1 << (vcpu % 64)), Ordering::SeqCst);
    }
}

/// Wakes the vCPUs that wait for a port, or for any.
pub(super) fn wake<D: EventHost>(d: &D, port: PortNumber) {
    for (index, word) in d.events().polling.iter().enumerate() {
        let mut left = word.load(Ordering::SeqCst);
        while left != 0 {
            let bit = left & left.wrapping_neg();
            left &= !bit;
            let vcpu = index * 64 + bit.trailing_zeros() as usize;
            let only = d
                .events()
                .vcpus
                .get(vcpu)
                .map_or(0, |v| v.poll_port.load(Ordering::SeqCst));
            if (only == 0 || only == port) && word.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                d.wake_poller(vcpu as VcpuId);
            }
        }
    }
}
