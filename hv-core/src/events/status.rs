//! What a port is bound to, as the guest may ask (`EVTCHNOP_status`).

use super::abi::Errno;
use super::host::EventHost;
use super::port::{Binding, PortNumber};
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

/// The state of a port (`EVTCHNOP_status`).
///
/// # Errors
///
/// `EINVAL` when there is no such port.
pub fn status<D: EventHost>(d: &D, number: PortNumber) -> Result<PortStatus, Errno> {
    let port = d.events().port(number)?;
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
    Ok(PortStatus {
        status,
        vcpu: port.target().vcpu,
    })
}
