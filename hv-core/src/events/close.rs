//! Ending ports: one by one, all at the guest's wish, all when the domain dies.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use super::PortNumber;
use super::fifo_setup;
use super::host::EventHost;
use super::port::{Binding, Port, QueueId};
use super::raise::clear_pending;
use super::registry::{Ledger, Pair};

/// Ports looked at before a long operation lets others run.
const BATCH: u32 = 256;

/// Looks at a port that others connect and disconnect while it is being closed. A dying domain
/// needs two, for nobody connects to it any more.
const TRIES: u32 = 8;

/// Whether a long operation is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left.
    Done,
    /// Call again; where it stopped is remembered.
    More,
}

/// Who closes a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    /// The guest, who may not close the hypervisor's ends.
    Guest,
    /// The hypervisor.
    Hypervisor,
}

/// Closes a port (`EVTCHNOP_close`); the other end waits for a new connection.
///
/// # Errors
///
/// `EINVAL` when the port is not the guest's to close, `EAGAIN` when its peers never leave it alone.
pub fn close<D: EventHost>(d: &D, number: PortNumber) -> Result<(), Errno> {
    close_as(d, number, Closer::Guest)
}

/// Closes a port whose end in `d` belongs to the hypervisor.
///
/// # Errors
///
/// `EINVAL` when it is not one of those.
pub fn free_internal<D: EventHost>(d: &D, number: PortNumber) -> Result<(), Errno> {
    let port = d.events().port(number)?;
    if port.consumer().is_none() {
        return Err(Errno::EINVAL);
    }
    close_as(d, number, Closer::Hypervisor)
}

/// Closes every port of the guest and goes back to the 2-level ABI (`EVTCHNOP_reset`).
///
/// The hypervisor's own ends stay. For another domain than the caller's, that domain must be
/// paused.
pub fn reset<D: EventHost>(d: &D) -> Progress {
    close_some(d, Closer::Guest)
}

/// Ends all channels of a dying domain; none can be made any more.
///
/// Peers keep a reference to the domain until this is through.
pub fn teardown<D: EventHost>(d: &D) -> Progress {
    let mut ledger = d.events().ledger();
    if !ledger.dying {
        ledger.dying = true;
        ledger.cursor = 0;
    }
    drop(ledger);
    close_some(d, Closer::Hypervisor)
}

/// Closes a batch of ports from where the last call stopped, and the FIFO form after the last.
fn close_some<D: EventHost>(d: &D, who: Closer) -> Progress {
    let events = d.events();
    let (from, to, known) = {
        let mut ledger = events.ledger();
        let from = ledger.cursor;
        let known = ledger.known_ports();
        ledger.cursor = known.min(from.saturating_add(BATCH));
        (from, ledger.cursor, known)
    };
    for number in from..to {
        // Refused for ports that are free or not the closer's: nothing to do there.
        let _ = close_as(d, number, who);
    }
    let mut ledger = events.ledger();
    if to < known {
        return Progress::More;
    }
    ledger.cursor = 0;
    fifo_setup::detach(d, &mut ledger);
    Progress::Done
}

/// Closes a port, looking again while peers connect or disconnect it meanwhile.
fn close_as<D: EventHost>(d: &D, number: PortNumber, who: Closer) -> Result<(), Errno> {
    let port = d.events().port(number)?;
    for _ in 0..TRIES {
        // Kept until all locks are released: it may be the last reference to the other domain.
        let peer = port.peer();
        let mut pair = Pair::lock(d, peer.as_deref().unwrap_or(d));
        if who == Closer::Guest && port.consumer().is_some() {
            return Err(Errno::EINVAL);
        }
        let closed = close_locked(d, pair.local(), number, port, peer.as_ref());
        drop(pair);
        if let Some(dropped) = closed? {
            drop(dropped);
            return Ok(());
        }
    }
    Err(Errno::EAGAIN)
}

/// What a closed port and its far end were bound to; dropped when no lock is held.
struct Dropped<D> {
    _near: Binding<D>,
    _far: Option<Binding<D>>,
}

/// Closes a port with the books of both ends locked; nothing when its far end is not `peer`.
fn close_locked<D: EventHost>(
    d: &D,
    ledger: &mut Ledger,
    number: PortNumber,
    port: &Port<D>,
    peer: Option<&Arc<D>>,
) -> Result<Option<Dropped<D>>, Errno> {
    let far = match (&*port.binding.lock(), peer) {
        (Binding::Free | Binding::Reserved, _) => return Err(Errno::EINVAL),
        (Binding::Interdomain { peer: now, port }, Some(seen)) if Arc::ptr_eq(now, seen) => {
            Some((seen, *port))
        }
        (Binding::Interdomain { .. }, _) => return Ok(None),
        _ => None,
    };
    let mut was_far = None;
    if let Some((peer, far)) = far
        && let Ok(far) = peer.events().port(far)
    {
        // First the far end, so that nothing is sent here any more when this port is cleared.
        let waiting = Binding::Unbound { remote: d.id() };
        was_far = Some(core::mem::replace(&mut *far.binding.lock(), waiting));
    }
    let was = free(d, ledger, number, port);
    unbind_interrupt(d, number, &was);
    Ok(Some(Dropped {
        _near: was,
        _far: was_far,
    }))
}

/// Makes a port free, as it was before it was ever used, and gives what it was bound to.
///
/// Which queue it was last linked on stays: the guest may still have it there.
pub(super) fn free<D: EventHost>(
    d: &D,
    ledger: &mut Ledger,
    number: PortNumber,
    port: &Port<D>,
) -> Binding<D> {
    let mut binding = port.binding.lock();
    let was = core::mem::replace(&mut *binding, Binding::Free);
    clear_pending(d, number, port);
    port.set_target(QueueId::DEFAULT);
    port.set_consumer(None);
    ledger.release(number);
    was
}

/// Takes a freed port out of the tables that lead from an interrupt to it.
fn unbind_interrupt<D: EventHost>(d: &D, number: PortNumber, was: &Binding<D>) {
    let events = d.events();
    match was {
        Binding::Virq { virq, home } => {
            let slot = events
                .vcpus
                .get(*home as usize)
                .and_then(|v| v.virqs.get(*virq as usize));
            if let Some(slot) = slot {
                let _ = slot.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        Binding::Pirq { pirq } => {
            if let Some(slot) = events.pirqs.get(*pirq as usize) {
                slot.store(0, Ordering::Release);
            }
            d.unbind_pirq(*pirq);
        }
        Binding::Free
        | Binding::Reserved
        | Binding::Unbound { .. }
        | Binding::Interdomain { .. }
        | Binding::Ipi => {}
    }
}
