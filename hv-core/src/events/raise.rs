//! Events on their way: sending, raising, masking.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::errno::Errno;
use xen_abi::xen::NR_VIRQS;

use super::PortNumber;
use super::fifo::{self, Touch};
use super::host::EventHost;
use super::port::{Binding, Port};
use super::registry::{Events, Mode};
use super::virq::VirqClass;
use super::{poll, two_level};
use crate::base::VcpuId;

/// `evtchn_upcall_pending` in the first word of `vcpu_info`.
const UPCALL_PENDING: u64 = 0xff;
/// `evtchn_upcall_mask` in the first word of `vcpu_info`.
const UPCALL_MASK: u64 = 0xff << 8;
/// How often the ABI may change while one event is delivered.
const MODE_CHANGES: u32 = 8;

/// What became of an event, still to be told to those who wait.
#[derive(Clone, Copy)]
pub(super) struct Raised {
    /// The port was not pending before.
    pub fresh: bool,
    /// The vCPU that must look.
    pub upcall: Option<VcpuId>,
}

impl Raised {
    /// Nothing changed.
    pub const NOTHING: Self = Self {
        fresh: false,
        upcall: None,
    };
}

/// Sends an event through a port of `d` (`EVTCHNOP_send`).
///
/// On an unbound port the event is dropped, as nobody listens yet.
///
/// # Errors
///
/// `EINVAL` when the port is none that a guest can send through.
pub fn send<D: EventHost>(d: &D, number: PortNumber) -> Result<(), Errno> {
    let port = d.events().port(number)?;
    if port.consumer().is_some() {
        return Err(Errno::EINVAL);
    }
    match &*port.binding.lock() {
        Binding::Interdomain { peer, port } => notify_peer(&**peer, *port),
        Binding::Ipi => raise(d, number, port),
        Binding::Unbound { .. } => {}
        Binding::Free | Binding::Reserved | Binding::Pirq { .. } | Binding::Virq { .. } => {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

/// Sends an event through a port of `d` whose end belongs to the hypervisor.
///
/// # Errors
///
/// `EINVAL` when the port is not one of ours.
pub fn notify_internal<D: EventHost>(d: &D, number: PortNumber) -> Result<(), Errno> {
    let port = d.events().port(number)?;
    if port.consumer().is_none() {
        return Err(Errno::EINVAL);
    }
    if let Binding::Interdomain { peer, port } = &*port.binding.lock() {
        notify_peer(&**peer, *port);
    }
    Ok(())
}

/// Delivers to the other end; the caller holds the binding of its own, which keeps both bound.
fn notify_peer<D: EventHost>(peer: &D, number: PortNumber) {
    let Some(port) = peer.events().ports.get(number) else {
        return;
    };
    match port.consumer() {
        Some(consumer) => peer.consume(consumer, port.target().vcpu, number),
        None => raise(peer, number, port),
    }
}

/// Raises a virtual interrupt of one vCPU, if the guest bound it; says whether it did.
pub fn raise_virq<D: EventHost>(d: &D, vcpu: VcpuId, virq: u32) -> bool {
    let events = d.events();
    let bound = events
        .vcpus
        .get(vcpu as usize)
        .and_then(|v| v.virqs.get(virq as usize));
    let Some(number) = bound.map(|n| n.load(Ordering::Acquire)) else {
        return false;
    };
    if number == 0 {
        return false;
    }
    let Some(port) = events.ports.get(number) else {
        return false;
    };
    let binding = port.binding.lock();
    // The port may have been closed, and bound to something else, since the look-up.
    let ours = matches!(&*binding, Binding::Virq { virq: v, home } if *v == virq && *home == vcpu);
    if ours {
        raise(d, number, port);
    }
    ours
}

/// Raises a global virtual interrupt of the domain, if it bound it; says whether it did.
pub fn raise_global_virq<D: EventHost>(d: &D, virq: u32) -> bool {
    debug_assert!(virq < NR_VIRQS && VirqClass::of(virq) == VirqClass::Global);
    raise_virq(d, 0, virq)
}

/// Raises a physical interrupt of the domain; says whether it is bound.
pub fn raise_pirq<D: EventHost>(d: &D, pirq: u32) -> bool {
    let Some(number) = pirq_port(d, pirq) else {
        return false;
    };
    let Some(port) = d.events().ports.get(number) else {
        return false;
    };
    let binding = port.binding.lock();
    let ours = matches!(&*binding, Binding::Pirq { pirq: p } if *p == pirq);
    if ours {
        raise(d, number, port);
    }
    ours
}

/// The port a physical interrupt is bound to.
pub fn pirq_port<D: EventHost>(d: &D, pirq: u32) -> Option<PortNumber> {
    let number = d.events().pirqs.get(pirq as usize)?.load(Ordering::Acquire);
    (number != 0).then_some(number)
}

/// Clears a port's mask and delivers what is pending (`EVTCHNOP_unmask`).
///
/// # Errors
///
/// `EINVAL` when there is no such port.
pub fn unmask<D: EventHost>(d: &D, number: PortNumber) -> Result<(), Errno> {
    let port = d.events().port(number)?;
    let _bound = port.binding.lock();
    let raised = deliver(d, number, port, Touch::Unmask);
    upcall(d, raised);
    Ok(())
}

/// Whether a port is pending, masked or not (for `SCHEDOP_poll`).
///
/// # Errors
///
/// `EINVAL` when there is no such port.
pub fn is_pending<D: EventHost>(d: &D, number: PortNumber) -> Result<bool, Errno> {
    let events = d.events();
    let port = events.port(number)?;
    Ok(in_mode(events, port, |mode| match mode {
        Mode::TwoLevel => two_level::is_pending(d, number),
        Mode::Fifo => port.deferred.load(Ordering::SeqCst) || events.array.is_pending(d, number),
    })
    .unwrap_or(false))
}

/// Makes a vCPU look at everything, after its `vcpu_info` moved: an event may have come between
/// the copy and the switch.
pub fn reraise<D: EventHost>(d: &D, vcpu: VcpuId) {
    two_level::select_all(d, vcpu);
    mark_upcall(d, vcpu);
}

/// Whether an upcall to the vCPU is pending and not masked.
pub fn upcall_due<D: EventHost>(d: &D, vcpu: VcpuId) -> bool {
    d.vcpu_info(vcpu).is_some_and(|info| is_due(&info[0]))
}

/// Whether one is pending, masked or not: vCPUs in containers mask interrupts by their flags only.
pub fn upcall_pending<D: EventHost>(d: &D, vcpu: VcpuId) -> bool {
    d.vcpu_info(vcpu)
        .is_some_and(|info| info[0].load(Ordering::SeqCst) & UPCALL_PENDING != 0)
}

/// The same, from the first word of the vCPU's `vcpu_info`.
#[inline(always)]
#[must_use]
pub fn is_due(word: &AtomicU64) -> bool {
    // One comparison: the mask byte, which is the upper one, is zero and the pending byte is not.
    (1..=UPCALL_PENDING).contains(&(word.load(Ordering::SeqCst) & (UPCALL_PENDING | UPCALL_MASK)))
}

/// Makes a port pending. The caller holds its binding, or that of its peer.
pub(super) fn raise<D: EventHost>(d: &D, number: PortNumber, port: &Port<D>) {
    let raised = deliver(d, number, port, Touch::Pend);
    upcall(d, raised);
    if raised.fresh {
        poll::wake(d, number);
    }
}

/// Delivers a pending event that was not on a queue before.
pub(super) fn look_again<D: EventHost>(d: &D, number: PortNumber, port: &Port<D>) {
    let raised = deliver(d, number, port, Touch::Look);
    upcall(d, raised);
}

/// Forgets that a port was pending and whatever waited for its event word.
pub(super) fn clear_pending<D: EventHost>(d: &D, number: PortNumber, port: &Port<D>) {
    let events = d.events();
    port.deferred.store(false, Ordering::SeqCst);
    in_mode(events, port, |mode| match mode {
        Mode::TwoLevel => two_level::clear_pending(d, number),
        Mode::Fifo => events.array.clear_pending(d, number),
    });
}

/// Whether a port is masked.
pub(super) fn is_masked<D: EventHost>(d: &D, number: PortNumber, port: &Port<D>) -> bool {
    let events = d.events();
    in_mode(events, port, |mode| match mode {
        Mode::TwoLevel => two_level::is_masked(d, number),
        Mode::Fifo => events.array.is_masked(d, number),
    })
    .unwrap_or(false)
}

/// Runs `act` while the mode cannot change.
fn in_mode<D, R>(events: &Events<D>, port: &Port<D>, act: impl FnOnce(Mode) -> R) -> Option<R>
where
    D: EventHost,
{
    let vcpu = events.vcpus.get(port.target().vcpu as usize)?;
    let _queues = vcpu.queues.lock();
    Some(act(events.mode()))
}

/// Changes a port's pending or mask bit in the form in use.
fn deliver<D: EventHost>(d: &D, number: PortNumber, port: &Port<D>, how: Touch) -> Raised {
    let events = d.events();
    for _ in 0..MODE_CHANGES {
        let raised = match events.mode() {
            Mode::TwoLevel => deliver_two_level(d, number, port, how),
            Mode::Fifo => fifo::touch(d, number, port, how),
        };
        if let Some(raised) = raised {
            return raised;
        }
    }
    Raised::NOTHING
}

/// [`deliver`] for the 2-level form; nothing when the mode changed meanwhile.
fn deliver_two_level<D: EventHost>(
    d: &D,
    number: PortNumber,
    port: &Port<D>,
    how: Touch,
) -> Option<Raised> {
    let events = d.events();
    let target = port.target().vcpu;
    let Some(vcpu) = events.vcpus.get(target as usize) else {
        return Some(Raised::NOTHING);
    };
    let _queues = vcpu.queues.lock();
    if events.mode() != Mode::TwoLevel {
        return None;
    }
    Some(match how {
        Touch::Pend => two_level::set_pending(d, number, target),
        Touch::Unmask => two_level::unmask(d, number, target),
        Touch::Look => Raised::NOTHING,
    })
}

/// Tells the vCPU, if it must look.
fn upcall<D: EventHost>(d: &D, raised: Raised) {
    if let Some(vcpu) = raised.upcall {
        mark_upcall(d, vcpu);
    }
}

/// Sets `evtchn_upcall_pending` and, if it was clear, has the vCPU take the upcall.
fn mark_upcall<D: EventHost>(d: &D, vcpu: VcpuId) {
    if let Some(info) = d.vcpu_info(vcpu)
        && info[0].fetch_or(1, Ordering::SeqCst) & UPCALL_PENDING == 0
    {
        d.kick(vcpu);
    }
}
