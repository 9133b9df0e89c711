//! Entering and leaving the FIFO form, and its priorities.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::event_channel::{EVTCHN_FIFO_LINK_BITS, EvtchnFifoControlBlock};

use super::fifo::{ARRAY_PAGES, ControlBlock, PAGE_WORDS, Queues};
use super::host::EventHost;
use super::raise::{look_again, raise};
use super::registry::{Ledger, Mode};
use super::{PortNumber, two_level};
use crate::base::{PAGE_SIZE, VcpuId};

/// Bytes of a control block.
const CONTROL_BLOCK_BYTES: u32 = size_of::<EvtchnFifoControlBlock>() as u32;

/// Sets up a vCPU's control block (`EVTCHNOP_init_control`) and gives the number of link bits.
///
/// The first one switches the domain to the FIFO form. Events pending in the 2-level form are
/// delivered again once the guest adds the page of their port to the event array.
///
/// # Errors
///
/// `ENOENT` for a vCPU that does not exist; `EINVAL` when it has a block already, when the block
/// is not aligned to 8 bytes or leaves its page, or when the domain dies; what
/// [`EventHost::take_page`] says.
pub fn init_control<D: EventHost>(d: &D, vcpu: VcpuId, gfn: u64, offset: u32) -> Result<u8, Errno> {
    let events = d.events();
    let own = events.vcpu(d, vcpu)?;
    if !offset.is_multiple_of(8) || offset > PAGE_SIZE as u32 - CONTROL_BLOCK_BYTES {
        return Err(Errno::EINVAL);
    }
    let ledger = events.ledger();
    // Only holders of the book set a control block.
    if ledger.dying || own.queues.lock().control.is_some() {
        return Err(Errno::EINVAL);
    }
    let page = d.take_page(gfn)?;
    own.queues.lock().control = Some(ControlBlock {
        page,
        word: offset as usize / 4,
    });
    match events.mode() {
        Mode::TwoLevel => switch(d, &ledger),
        Mode::Fifo => link_waiting(d, &ledger, vcpu),
    }
    Ok(EVTCHN_FIFO_LINK_BITS as u8)
}

/// Adds a page to the event array (`EVTCHNOP_expand_array`).
///
/// # Errors
///
/// `EOPNOTSUPP` in the 2-level form, `ENOSPC` when the array is complete, what
/// [`EventHost::take_page`] says.
pub fn expand_array<D: EventHost>(d: &D, gfn: u64) -> Result<(), Errno> {
    let events = d.events();
    let mut ledger = events.ledger();
    if events.mode() != Mode::Fifo {
        return Err(Errno::EOPNOTSUPP);
    }
    let index = ledger.array_pages;
    if index >= ARRAY_PAGES {
        return Err(Errno::ENOSPC);
    }
    events.array.replace(index, Some(d.take_page(gfn)?));
    ledger.array_pages = index + 1;
    let first = (index * PAGE_WORDS) as PortNumber;
    for number in first..first + PAGE_WORDS as PortNumber {
        let Some(port) = events.ports.get(number) else {
            continue;
        };
        let _bound = port.binding.lock();
        if port.deferred.swap(false, Ordering::SeqCst) {
            raise(d, number, port);
        }
    }
    Ok(())
}

/// Sets the priority of a port's next events, 0 (highest) to 15 (`EVTCHNOP_set_priority`).
///
/// # Errors
///
/// `EINVAL` for a port or a priority that does not exist, `ENOSYS` in the 2-level form.
pub fn set_priority<D: EventHost>(d: &D, number: PortNumber, priority: u32) -> Result<(), Errno> {
    let events = d.events();
    let port = events.port(number)?;
    let _bound = port.binding.lock();
    if events.mode() != Mode::Fifo {
        return Err(Errno::ENOSYS);
    }
    let target = port.target().with_priority(priority);
    port.set_target(target.ok_or(Errno::EINVAL)?);
    Ok(())
}

/// Goes from the 2-level form to the FIFO form, taking pending events along.
fn switch<D: EventHost>(d: &D, ledger: &Ledger) {
    let events = d.events();
    events.set_mode(Mode::Fifo);
    // Who found the old mode holds its vCPU's queues until its bits are set.
    for vcpu in &events.vcpus {
        drop(vcpu.queues.lock());
    }
    for index in 0..d.layout().two_level_ports() / 64 {
        let mut left = d.pending_word(index as usize).swap(0, Ordering::SeqCst);
        while left != 0 {
            let number = index * 64 + left.trailing_zeros();
            left &= left - 1;
            if let Some(port) = events.ports.get(number)
                && ledger.is_taken(number)
            {
                port.deferred.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// Queues what became pending at a vCPU while it had no control block.
fn link_waiting<D: EventHost>(d: &D, ledger: &Ledger, vcpu: VcpuId) {
    for number in 1..ledger.known_ports() {
        if let Some(port) = d.events().ports.get(number)
            && ledger.is_taken(number)
            && port.target().vcpu == vcpu
        {
            let _bound = port.binding.lock();
            look_again(d, number, port);
        }
    }
}

/// Goes back to the 2-level form and gives the guest its pages back.
pub(super) fn detach<D: EventHost>(d: &D, ledger: &mut Ledger) {
    let events = d.events();
    if events.mode() == Mode::Fifo {
        // A guest in the FIFO form lets selectors stand: each would hide the next event there.
        for vcpu in 0..events.vcpus.len() {
            two_level::select_none(d, vcpu as VcpuId);
        }
    }
    events.set_mode(Mode::TwoLevel);
    // Who found the old mode holds its vCPU's queues: past the last one the pages are unused.
    for vcpu in &events.vcpus {
        let old = core::mem::replace(&mut *vcpu.queues.lock(), Queues::new());
        if let Some(control) = old.control {
            d.release_page(control.page);
        }
    }
    for index in 0..ledger.array_pages {
        if let Some(page) = events.array.replace(index, None) {
            d.release_page(page);
        }
    }
    ledger.array_pages = 0;
}
