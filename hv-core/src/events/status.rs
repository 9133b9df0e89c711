//! What a port is bound to, as the guest may ask (`EVTCHNOP_status`).

use xen_abi::errno::Errno;
use xen_abi::event_channel::{
    EVTCHNSTAT_closed, EVTCHNSTAT_interdomain, EVTCHNSTAT_ipi, EVTCHNSTAT_pirq, EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq, EvtchnStatus,
};

use super::PortNumber;
use super::host::EventHost;
use super::port::{Binding, Port};
use crate::base::{DomId, VcpuId};

/// State of a port (`EVTCHNSTAT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not in use.
    Closed,
    /// Waiting for a domain to bind.
    Unbound {
        /// That domain.
        remote: DomId,
    },
    /// Connected.
    Interdomain {
        /// Domain of the other end.
        remote: DomId,
        /// Port of the other end.
        port: PortNumber,
    },
    /// Bound to a physical interrupt.
    Pirq(u32),
    /// Bound to a virtual interrupt.
    Virq(u32),
    /// From vCPU to vCPU.
    Ipi,
}

/// A port's state and the vCPU it notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// What it is bound to.
    pub status: Status,
    /// Whom it notifies.
    pub vcpu: VcpuId,
}

impl PortStatus {
    /// Writes the answer into the argument of the hypercall.
    pub fn fill(self, out: &mut EvtchnStatus) {
        (out.status, out.u) = match self.status {
            Status::Closed => (EVTCHNSTAT_closed, [0, 0]),
            Status::Unbound { remote } => (EVTCHNSTAT_unbound, [remote.into(), 0]),
            Status::Interdomain { remote, port } => (EVTCHNSTAT_interdomain, [remote.into(), port]),
            Status::Pirq(pirq) => (EVTCHNSTAT_pirq, [pirq, 0]),
            Status::Virq(virq) => (EVTCHNSTAT_virq, [virq, 0]),
            Status::Ipi => (EVTCHNSTAT_ipi, [0, 0]),
        };
        out.vcpu = self.vcpu;
    }
}

/// The state of a port (`EVTCHNOP_status`).
///
/// # Errors
///
/// `EINVAL` when there is no such port, `EACCES` when its end is the hypervisor's.
pub fn status<D: EventHost>(d: &D, number: PortNumber) -> Result<PortStatus, Errno> {
    let port = d.events().port(number)?;
    if port.consumer().is_some() {
        return Err(Errno::EACCES);
    }
    Ok(describe(port))
}

/// The state of a port, whosever end it is.
pub(super) fn describe<D: EventHost>(port: &Port<D>) -> PortStatus {
    let status = match &*port.binding.lock() {
        Binding::Free | Binding::Reserved => Status::Closed,
        Binding::Unbound { remote } => Status::Unbound { remote: *remote },
        Binding::Interdomain { peer, port } => Status::Interdomain {
            remote: peer.id(),
            port: *port,
        },
        Binding::Pirq { pirq } => Status::Pirq(*pirq),
        Binding::Virq { virq, .. } => Status::Virq(*virq),
        Binding::Ipi => Status::Ipi,
    };
    PortStatus {
        status,
        vcpu: port.target().vcpu,
    }
}
