//! The FIFO form: an event word for each port, linked on queues by priority for each vCPU
//! (`event_channel.h`, "FIFO ABI").
//!
//! The hypervisor appends, the guest takes from the front. A queue's first port stands in the
//! guest's control block, each event word holds the number of the next port, and the last port is
//! known to the hypervisor alone. The guest takes a port off by clearing `LINKED` and the link in
//! one exchange, so an append that still finds `LINKED` in the last word has reached the consumer,
//! and one that does not starts the queue anew. The hypervisor never follows a link.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::event_channel::{
    EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING,
};

use super::PortNumber;
use super::host::EventHost;
use super::port::{Port, QueueId};
use super::raise::Raised;
use super::registry::{Events, Mode};
use crate::base::Mfn;
use crate::base::lock::MutexGuard;

/// An event came and was not handled.
const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
/// The guest does not want the port on a queue.
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
/// The port is on a queue.
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
/// The guest must not change the word just now.
const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;

/// Event words in a page.
pub(super) const PAGE_WORDS: usize = 1024;
/// Pages in a full event array.
pub(super) const ARRAY_PAGES: usize = EVTCHN_FIFO_NR_CHANNELS as usize / PAGE_WORDS;

/// Exchanges tried on the last word of a queue before the guest is asked to leave it alone.
const TRIES_POLITE: u32 = 4;
/// Exchanges tried in all.
const TRIES: u32 = 8;
/// How often a port may move between queues while it is being raised.
const MOVES: u32 = 8;

/// Word of the control block that says which queues have something (`ready`).
const READY_WORD: usize = 0;
/// Word of the control block with the first port of queue 0 (`head`).
const HEAD_WORD: usize = 2;

/// Where a vCPU's control block lies.
#[derive(Clone, Copy)]
pub(super) struct ControlBlock {
    /// The page, taken from the guest.
    pub page: Mfn,
    /// Index of its first word in the page; the whole block lies in the page.
    pub word: usize,
}

/// The queues of a vCPU.
pub(super) struct Queues {
    /// Nothing until the guest sets it up.
    pub control: Option<ControlBlock>,
    /// Last port of each queue, 0 for none. It may have been consumed since.
    pub tails: [PortNumber; EVTCHN_FIFO_MAX_QUEUES as usize],
}

impl Queues {
    /// No control block, nothing queued.
    pub const fn new() -> Self {
        Self {
            control: None,
            tails: [0; EVTCHN_FIFO_MAX_QUEUES as usize],
        }
    }
}

/// The guest's event words: pages added one by one.
///
/// Used by holders of the ledger or of any vCPU's queues; see the module documentation.
pub(super) struct EventArray {
    /// Frame number plus 1, 0 for a page not there yet.
    pages: [AtomicU64; ARRAY_PAGES],
}

impl EventArray {
    /// An array without pages.
    pub const fn new() -> Self {
        Self {
            pages: [const { AtomicU64::new(0) }; ARRAY_PAGES],
        }
    }

    /// Puts a page in place, or takes it out; gives what was there.
    pub fn replace(&self, index: usize, page: Option<Mfn>) -> Option<Mfn> {
        let raw = page.map_or(0, |Mfn(mfn)| mfn + 1);
        let old = self.pages.get(index)?.swap(raw, Ordering::SeqCst);
        old.checked_sub(1).map(Mfn)
    }

    /// The event word of a port, once its page is there.
    fn word<'a, D: EventHost>(&self, d: &'a D, port: PortNumber) -> Option<&'a AtomicU32> {
        let slot = self.pages.get(port as usize / PAGE_WORDS)?;
        let page = slot.load(Ordering::SeqCst).checked_sub(1)?;
        Some(&d.page(Mfn(page))[port as usize % PAGE_WORDS])
    }

    /// Whether the guest still has the port on a queue.
    pub fn is_linked<D: EventHost>(&self, d: &D, port: PortNumber) -> bool {
        self.word(d, port)
            .is_some_and(|word| word.load(Ordering::SeqCst) & LINKED != 0)
    }

    /// Whether the port's event is pending.
    pub fn is_pending<D: EventHost>(&self, d: &D, port: PortNumber) -> bool {
        self.word(d, port)
            .is_some_and(|word| word.load(Ordering::SeqCst) & PENDING != 0)
    }

    /// Whether the guest masked the port.
    pub fn is_masked<D: EventHost>(&self, d: &D, port: PortNumber) -> bool {
        self.word(d, port)
            .is_some_and(|word| word.load(Ordering::SeqCst) & MASKED != 0)
    }

    /// Forgets that the port was pending.
    pub fn clear_pending<D: EventHost>(&self, d: &D, port: PortNumber) {
        if let Some(word) = self.word(d, port) {
            word.fetch_and(!PENDING, Ordering::SeqCst);
        }
    }
}

/// What to do to an event word before it is queued.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// An event came.
    Pend,
    /// The guest wants the port back on a queue.
    Unmask,
    /// Nothing: only look whether it belongs on a queue.
    Look,
}

/// The queues of the vCPU a port goes to, and of the one it was last linked at.
struct Held<'a> {
    target: MutexGuard<'a, Queues>,
    /// Nothing when both are the same vCPU.
    old: Option<MutexGuard<'a, Queues>>,
}

impl<'a> Held<'a> {
    /// Locks both, the lower vCPU first.
    fn lock<D>(events: &'a Events<D>, target: QueueId, last: QueueId) -> Option<Self> {
        let to = &events.vcpus.get(target.vcpu as usize)?.queues;
        if target.vcpu == last.vcpu {
            return Some(Self {
                target: to.lock(),
                old: None,
            });
        }
        let from = &events.vcpus.get(last.vcpu as usize)?.queues;
        let (target, old) = if target.vcpu < last.vcpu {
            let target = to.lock();
            (target, from.lock())
        } else {
            let old = from.lock();
            (to.lock(), old)
        };
        Some(Self {
            target,
            old: Some(old),
        })
    }

    /// The queues of the vCPU the port was last linked at.
    fn old(&mut self) -> &mut Queues {
        self.old.as_deref_mut().unwrap_or(&mut self.target)
    }
}

/// Changes a port's event word and queues the port when that is due.
///
/// Nothing comes back when the mode changed meanwhile: the caller looks again.
pub(super) fn touch<D: EventHost>(
    d: &D,
    number: PortNumber,
    port: &Port<D>,
    how: Touch,
) -> Option<Raised> {
    let events = d.events();
    for _ in 0..MOVES {
        let (target, last) = (port.target(), port.last());
        let Some(mut held) = Held::lock(events, target, last) else {
            return Some(Raised::NOTHING);
        };
        if events.mode() != Mode::Fifo {
            return None;
        }
        if port.last() == last {
            return Some(touch_locked(d, number, port, how, target, &mut held));
        }
    }
    log::trace!(
        "d{}: port {number} keeps changing queues, an event is lost",
        d.id()
    );
    Some(Raised::NOTHING)
}

/// [`touch`] with the queues of the port's old and new place locked.
fn touch_locked<D: EventHost>(
    d: &D,
    number: PortNumber,
    port: &Port<D>,
    how: Touch,
    target: QueueId,
    held: &mut Held<'_>,
) -> Raised {
    let array = &d.events().array;
    let word = match array
        .word(d, number)
        .ok_or(())
        .or_else(|()| defer(d, number, port, how))
    {
        Ok(word) => word,
        Err(raised) => return raised,
    };
    let old = match how {
        Touch::Pend => word.fetch_or(PENDING, Ordering::SeqCst),
        Touch::Unmask => word.fetch_and(!MASKED, Ordering::SeqCst) & !MASKED,
        Touch::Look => word.load(Ordering::SeqCst),
    };
    let pending = how == Touch::Pend || old & PENDING != 0;
    let queue = pending && old & (MASKED | LINKED) == 0;
    Raised {
        fresh: how == Touch::Pend && old & PENDING == 0,
        upcall: (queue && link(d, number, word, port, target, held)).then_some(target.vcpu),
    }
}

/// Remembers an event of a port whose event word is not there; gives the word if it came just now.
fn defer<'a, D: EventHost>(
    d: &'a D,
    number: PortNumber,
    port: &Port<D>,
    how: Touch,
) -> Result<&'a AtomicU32, Raised> {
    if how != Touch::Pend {
        return Err(Raised::NOTHING);
    }
    let fresh = !port.deferred.swap(true, Ordering::SeqCst);
    // The page may have come after it was missed, and its giver have seen nothing deferred.
    let Some(word) = d.events().array.word(d, number) else {
        return Err(Raised {
            fresh,
            upcall: None,
        });
    };
    port.deferred.store(false, Ordering::SeqCst);
    Ok(word)
}

/// Puts a port at the end of the queue `target`; true when the vCPU must be told.
fn link<D: EventHost>(
    d: &D,
    number: PortNumber,
    word: &AtomicU32,
    port: &Port<D>,
    target: QueueId,
    held: &mut Held<'_>,
) -> bool {
    let Some(control) = held.target.control else {
        // Stays pending: the port is looked at again when the control block comes.
        return false;
    };
    if word.fetch_or(LINKED, Ordering::SeqCst) & LINKED != 0 {
        return false;
    }
    let last = port.last();
    if last != target {
        // If the port ended its old queue, that queue is empty now. Were it still taken for the
        // end, the next append there would write into a word that is part of the new queue.
        if let Some(tail) = held.old().tails.get_mut(last.priority())
            && *tail == number
        {
            *tail = 0;
        }
        port.set_last(target);
    }
    let Some(tail) = held.target.tails.get_mut(target.priority()) else {
        return false;
    };
    let previous = core::mem::replace(tail, number);
    // A port that follows itself was consumed, for it was not linked a moment ago.
    let appended = previous != 0
        && previous != number
        && d.events()
            .array
            .word(d, previous)
            .is_some_and(|word| append(word, number));
    !appended && start_queue(d, control, number, target)
}

/// Writes `next` as the link of a queue's last word, unless the guest took that port off.
fn append(word: &AtomicU32, next: PortNumber) -> bool {
    let mut old = word.load(Ordering::SeqCst);
    for attempt in 1..=TRIES {
        if old & LINKED == 0 {
            break;
        }
        let new = old & !(EVTCHN_FIFO_LINK_MASK | BUSY) | next;
        match word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return true,
            Err(_) if attempt == TRIES_POLITE => {
                old = word.fetch_or(BUSY, Ordering::SeqCst) | BUSY;
            }
            Err(now) => old = now,
        }
    }
    word.fetch_and(!BUSY, Ordering::SeqCst);
    false
}

/// Makes a port the first of an empty queue; true when the guest had not been told of the queue.
fn start_queue<D: EventHost>(
    d: &D,
    control: ControlBlock,
    number: PortNumber,
    queue: QueueId,
) -> bool {
    let page = d.page(control.page);
    let head = control.word + HEAD_WORD + queue.priority();
    let (Some(head), Some(ready)) = (page.get(head), page.get(control.word + READY_WORD)) else {
        return false;
    };
    head.store(number, Ordering::SeqCst);
    let bit = 1 << queue.priority();
    ready.fetch_or(bit, Ordering::SeqCst) & bit == 0
}
