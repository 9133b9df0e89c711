//! event_channel_op: from the guest's arguments to the operations of `events`
//! (xen/event_channel.h).

use alloc::sync::Arc;

use xen_abi::errno::Errno;
use xen_abi::event_channel as abi;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::base::DomId;
use crate::domain::Domain;
use crate::events::{self, PirqSharing, PortNumber, Progress};

/// event_channel_op(cmd, argument).
///
/// # Errors
/// Those of the sub-operations, `ESRCH` and `EPERM` for the domain named, `EFAULT`, `ENOSYS` for an
/// unknown command.
pub fn event_channel_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let at = args[1];
    match args[0] as u32 {
        abi::EVTCHNOP_send => {
            let mut request = abi::EvtchnSend::default();
            cx.read_here(&mut request, at)?;
            done(events::send(&**cx.domain, request.port))
        }
        abi::EVTCHNOP_unmask => {
            let request: abi::EvtchnUnmask = cx.read(at)?;
            done(events::unmask(&**cx.domain, request.port))
        }
        abi::EVTCHNOP_alloc_unbound => alloc_unbound(cx, at),
        abi::EVTCHNOP_bind_interdomain => bind_interdomain(cx, at),
        abi::EVTCHNOP_bind_virq => bind_virq(cx, at),
        abi::EVTCHNOP_bind_ipi => bind_ipi(cx, at),
        abi::EVTCHNOP_bind_pirq => bind_pirq(cx, at),
        abi::EVTCHNOP_close => {
            let request: abi::EvtchnClose = cx.read(at)?;
            done(events::close(&**cx.domain, request.port))
        }
        abi::EVTCHNOP_status => status(cx, at),
        abi::EVTCHNOP_bind_vcpu => {
            let request: abi::EvtchnBindVcpu = cx.read(at)?;
            done(events::bind_vcpu(&**cx.domain, request.port, request.vcpu))
        }
        abi::EVTCHNOP_reset => reset(cx, args),
        abi::EVTCHNOP_init_control => init_control(cx, at),
        abi::EVTCHNOP_expand_array => {
            let request: abi::EvtchnExpandArray = cx.read(at)?;
            done(events::expand_array(&**cx.domain, request.array_gfn))
        }
        abi::EVTCHNOP_set_priority => {
            let request: abi::EvtchnSetPriority = cx.read(at)?;
            done(events::set_priority(
                &**cx.domain,
                request.port,
                request.priority,
            ))
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn done(result: Result<(), Errno>) -> Reply {
    result?;
    DONE
}

/// Reads a request, makes a port with it and writes the request back with the port's number.
///
/// A port that the guest cannot be told of is closed again.
fn make<H: Host, T: FromBytes + IntoBytes + Immutable>(
    cx: &AnyCtx<'_, H>,
    at: u64,
    owner: &Domain,
    mut request: T,
    place: fn(&mut T) -> &mut PortNumber,
    port: Result<PortNumber, Errno>,
) -> Reply {
    let port = port?;
    *place(&mut request) = port;
    if let Err(fault) = cx.write(at, &request) {
        if events::close(owner, port).is_err() {
            log::debug!("d{}: port {port} was closed by another vCPU", owner.id);
        }
        return Err(fault);
    }
    DONE
}

fn alloc_unbound<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::EvtchnAllocUnbound = cx.read(at)?;
    let owner = cx.target(request.dom)?;
    let remote = own_if_self(cx, request.remote_dom);
    let port = events::alloc_unbound(&*owner, remote);
    make(cx, at, &owner, request, |r| &mut r.port, port)
}

fn bind_interdomain<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::EvtchnBindInterdomain = cx.read(at)?;
    // No right is needed: the remote domain chose whom its port waits for.
    let remote = cx.named(request.remote_dom)?;
    let port = events::bind_interdomain(cx.domain, &remote, request.remote_port);
    make(cx, at, cx.domain, request, |r| &mut r.local_port, port)
}

fn bind_virq<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::EvtchnBindVirq = cx.read(at)?;
    let port = events::bind_virq(&**cx.domain, request.virq, request.vcpu);
    make(cx, at, cx.domain, request, |r| &mut r.port, port)
}

fn bind_ipi<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::EvtchnBindIpi = cx.read(at)?;
    let port = events::bind_ipi(&**cx.domain, request.vcpu);
    make(cx, at, cx.domain, request, |r| &mut r.port, port)
}

fn bind_pirq<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::EvtchnBindPirq = cx.read(at)?;
    // Devices are the control domain's; others have no such numbers.
    if request.pirq < cx.hv.irqs.line_count() {
        cx.require_control()?;
    }
    let sharing = if request.flags & abi::BIND_PIRQ__WILL_SHARE != 0 {
        PirqSharing::Shared
    } else {
        PirqSharing::Exclusive
    };
    let port = events::bind_pirq(&**cx.domain, request.pirq, sharing);
    make(cx, at, cx.domain, request, |r| &mut r.port, port)
}

fn status<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::EvtchnStatus = cx.read(at)?;
    let domain = cx.target(request.dom)?;
    events::status(&*domain, request.port)?.fill(&mut request);
    cx.write(at, &request)?;
    DONE
}

/// Closes all ports of a domain. Of another domain only while the toolstack keeps it paused: its
/// vCPUs must not bind while this runs.
fn reset<H: Host>(cx: &AnyCtx<'_, H>, args: Args) -> Reply {
    let request: abi::EvtchnReset = cx.read(args[1])?;
    let domain: Arc<Domain> = cx.target(request.dom)?;
    if domain.id != cx.domain.id && !domain.is_paused_by_tool() {
        return Err(Errno::EINVAL);
    }
    while events::reset(&*domain) == Progress::More {
        if cx.host.preempt_pending() {
            return Ok(Outcome::Restart(args));
        }
    }
    DONE
}

fn init_control<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::EvtchnInitControl = cx.read(at)?;
    // Page and offset are the guest's for good now: a fault below changes nothing about that.
    request.link_bits = events::init_control(
        &**cx.domain,
        request.vcpu,
        request.control_gfn,
        request.offset,
    )?;
    cx.write(at, &request)?;
    DONE
}

fn own_if_self<H: Host>(cx: &AnyCtx<'_, H>, id: DomId) -> DomId {
    if id == DOMID_SELF { cx.domain.id } else { id }
}
