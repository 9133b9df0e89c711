//! Making ports: what each kind of binding checks, and moving a port to another vCPU.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::xen::NR_VIRQS;

use super::PortNumber;
use super::host::{Consumer, EventHost, PirqSharing};
use super::port::Binding;
use super::raise::{look_again, raise};
use super::registry::Pair;
use super::virq::VirqClass;
use crate::base::{DomId, VcpuId};

/// Makes a port of `d` that waits for `remote` to bind (`EVTCHNOP_alloc_unbound`).
///
/// # Errors
///
/// `EINVAL` when `d` dies, `ENOSPC` when it has no port left, `ENOMEM`.
pub fn alloc_unbound<D: EventHost>(d: &D, remote: DomId) -> Result<PortNumber, Errno> {
    allocate(d, Binding::Unbound { remote })
}

/// Makes a port of `d` that waits for `remote`, whose end in `d` belongs to the hypervisor.
///
/// The guest can neither send through it nor close it. Events arrive at
/// [`EventHost::consume`], with `vcpu`.
///
/// # Errors
///
/// As [`alloc_unbound`]; `ENOENT` when the vCPU does not exist.
pub fn alloc_unbound_internal<D: EventHost>(
    d: &D,
    vcpu: VcpuId,
    remote: DomId,
    consumer: Consumer,
) -> Result<PortNumber, Errno> {
    let events = d.events();
    events.vcpu(d, vcpu)?;
    let mut ledger = events.ledger();
    let number = events.allocate(d, &mut ledger)?;
    let port = events.port(number)?;
    let mut binding = port.binding.lock();
    port.set_consumer(Some(consumer));
    port.set_target(port.target().with_vcpu(vcpu));
    *binding = Binding::Unbound { remote };
    Ok(number)
}

/// Connects a new port of `local` to an unbound one of `remote` (`EVTCHNOP_bind_interdomain`).
///
/// The new port starts pending, for the peer may have sent before anybody listened. The two may
/// be the same domain.
///
/// # Errors
///
/// `EINVAL` when `remote_port` does not wait for `local` or one of them dies; `ENOSPC`, `ENOMEM`.
pub fn bind_interdomain<D: EventHost>(
    local: &Arc<D>,
    remote: &Arc<D>,
    remote_port: PortNumber,
) -> Result<PortNumber, Errno> {
    let mut pair = Pair::lock(&**local, &**remote);
    let events = local.events();
    let number = events.allocate(&**local, pair.local())?;
    let far = remote.events().port(remote_port);
    let waits = far.as_ref().is_ok_and(
        |far| matches!(&*far.binding.lock(), Binding::Unbound { remote } if *remote == local.id()),
    );
    let may = waits && !pair.remote_is_dying();
    let (true, Ok(far), Ok(near)) = (may, far, events.port(number)) else {
        pair.local().release(number);
        return Err(Errno::EINVAL);
    };
    // Both books are locked: neither port changes between these steps.
    let mut binding = near.binding.lock();
    *binding = Binding::Interdomain {
        peer: remote.clone(),
        port: remote_port,
    };
    raise(&**local, number, near);
    drop(binding);
    *far.binding.lock() = Binding::Interdomain {
        peer: local.clone(),
        port: number,
    };
    Ok(number)
}

/// Binds a virtual interrupt to a new port (`EVTCHNOP_bind_virq`).
///
/// # Errors
///
/// `EINVAL` for a number out of range, or a global interrupt on another vCPU than 0; `ENOENT` for
/// a vCPU that does not exist; `EEXIST` when it is bound; else as [`alloc_unbound`].
pub fn bind_virq<D: EventHost>(d: &D, virq: u32, vcpu: VcpuId) -> Result<PortNumber, Errno> {
    if virq >= NR_VIRQS || (VirqClass::of(virq) == VirqClass::Global && vcpu != 0) {
        return Err(Errno::EINVAL);
    }
    let events = d.events();
    let slot = events
        .vcpu(d, vcpu)?
        .virqs
        .get(virq as usize)
        .ok_or(Errno::EINVAL)?;
    let mut ledger = events.ledger();
    if slot.load(Ordering::Acquire) != 0 {
        return Err(Errno::EEXIST);
    }
    let number = events.allocate(d, &mut ledger)?;
    let port = events.port(number)?;
    let mut binding = port.binding.lock();
    port.set_target(port.target().with_vcpu(vcpu));
    *binding = Binding::Virq { virq, home: vcpu };
    slot.store(number, Ordering::Release);
    Ok(number)
}

/// Makes a port by which the domain interrupts its own vCPU (`EVTCHNOP_bind_ipi`).
///
/// # Errors
///
/// `ENOENT` for a vCPU that does not exist, else as [`alloc_unbound`].
pub fn bind_ipi<D: EventHost>(d: &D, vcpu: VcpuId) -> Result<PortNumber, Errno> {
    let events = d.events();
    events.vcpu(d, vcpu)?;
    let mut ledger = events.ledger();
    let number = events.allocate(d, &mut ledger)?;
    let port = events.port(number)?;
    let mut binding = port.binding.lock();
    port.set_target(port.target().with_vcpu(vcpu));
    *binding = Binding::Ipi;
    Ok(number)
}

/// Binds a physical interrupt to a new port (`EVTCHNOP_bind_pirq`).
///
/// # Errors
///
/// `EINVAL` for a number out of range, `EEXIST` when it is bound, what
/// [`EventHost::bind_pirq`] says, else as [`alloc_unbound`].
pub fn bind_pirq<D: EventHost>(
    d: &D,
    pirq: u32,
    sharing: PirqSharing,
) -> Result<PortNumber, Errno> {
    let events = d.events();
    let slot = events.pirqs.get(pirq as usize).ok_or(Errno::EINVAL)?;
    let mut ledger = events.ledger();
    if slot.load(Ordering::Acquire) != 0 {
        return Err(Errno::EEXIST);
    }
    let number = events.allocate(d, &mut ledger)?;
    let port = events.port(number)?;
    // Bound before the interrupt layer starts: the first interrupt must find its port.
    *port.binding.lock() = Binding::Pirq { pirq };
    slot.store(number, Ordering::Release);
    if let Err(errno) = d.bind_pirq(pirq, sharing, port.target().vcpu) {
        slot.store(0, Ordering::Release);
        super::close::free(d, &mut ledger, number, port);
        return Err(errno);
    }
    Ok(number)
}

/// Has a port notify another vCPU from the next event on (`EVTCHNOP_bind_vcpu`).
///
/// # Errors
///
/// `ENOENT` for a vCPU that does not exist; `EINVAL` for a port that does not exist or whose vCPU
/// is fixed.
pub fn bind_vcpu<D: EventHost>(d: &D, number: PortNumber, vcpu: VcpuId) -> Result<(), Errno> {
    let events = d.events();
    events.vcpu(d, vcpu)?;
    let port = events.port(number)?;
    // Two movers of one interrupt must tell the interrupt layer in the order they moved it.
    let _ledger = events.ledger();
    if port.consumer().is_some() {
        return Err(Errno::EINVAL);
    }
    let binding = port.binding.lock();
    let routed = match &*binding {
        Binding::Virq { virq, .. } if VirqClass::of(*virq) == VirqClass::Global => None,
        Binding::Unbound { .. } | Binding::Interdomain { .. } => None,
        Binding::Pirq { pirq } => Some(*pirq),
        Binding::Virq { .. } | Binding::Ipi | Binding::Free | Binding::Reserved => {
            return Err(Errno::EINVAL);
        }
    };
    let old = port.target();
    port.set_target(old.with_vcpu(vcpu));
    if old.vcpu != vcpu {
        // It may wait at a vCPU that has no control block.
        look_again(d, number, port);
    }
    drop(binding);
    if let Some(pirq) = routed
        && old.vcpu != vcpu
    {
        d.route_pirq(pirq, vcpu);
    }
    Ok(())
}

/// A vCPU runs on another CPU than before: its physical interrupts follow it there.
pub fn vcpu_moved<D: EventHost>(d: &D, vcpu: VcpuId) {
    let events = d.events();
    if events.pirqs.is_empty() {
        return;
    }
    // As in `bind_vcpu`: whoever comes later sees where both are.
    let _ledger = events.ledger();
    for (pirq, slot) in events.pirqs.iter().enumerate() {
        let number = slot.load(Ordering::Acquire);
        if number != 0
            && let Ok(port) = events.port(number)
            && port.target().vcpu == vcpu
        {
            d.route_pirq(pirq as u32, vcpu);
        }
    }
}

/// Takes a port and binds it.
fn allocate<D: EventHost>(d: &D, to: Binding<D>) -> Result<PortNumber, Errno> {
    let events = d.events();
    let mut ledger = events.ledger();
    let number = events.allocate(d, &mut ledger)?;
    *events.port(number)?.binding.lock() = to;
    Ok(number)
}
