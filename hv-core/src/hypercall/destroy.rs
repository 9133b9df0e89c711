//! The end of a domain (domctl destroydomain), in phases that can be interrupted and gone through again.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;

use super::context::{AnyCtx, Host};
use super::grant_host::Caller;
use crate::base::Mfn;
use crate::domain::{Domain, Step, Vcpu, VcpuState};
use crate::events;
use crate::grants::teardown;
use crate::mm::{PtResult, Stop};
use crate::pv::context;

/// Handles of grants that are let go of between two looks for other work.
const HANDLES: u32 = 64;
/// Lots of entries of a map, likewise.
const ENTRIES: u64 = 1;

/// Takes a domain apart, as far as there is time. Restart: call again.
pub(super) fn destroy<H: Host>(cx: &mut AnyCtx<'_, H>, domain: &Arc<Domain>) -> PtResult {
    cx.state.owed_puts().finish(cx.host)?;
    if domain.begin_to_die() {
        cx.hv.settle_wallclock();
    }
    domain.stop_running();
    domain.wait_until_stopped();
    // dom0 has perhaps begun to use one of its frames as a table, below one that was looked at already.
    if domain.has_table_work() {
        return Err(Stop::Restart);
    }
    repeat(cx.host, || {
        events::teardown(&**domain) == events::Progress::Done
    })?;
    release_map(cx, domain)?;
    release_grants(cx, domain)?;
    for vcpu in domain.vcpus() {
        cx.hv.retire_vcpu(domain, vcpu);
        release_state(cx.host, domain, vcpu)?;
    }
    domain.sched.forget_domain(domain.id);
    cx.hv.irqs.release_domain(domain);
    domain.drop_registered_infos();
    domain.holdings.relinquish_all(cx.host)?;
    say_what_is_kept(cx.host, domain);
    domain.take_back_pages();
    // Those that have its translations in their TLBs let go of the domain.
    for cpu in domain
        .sched
        .online()
        .iter()
        .filter(|cpu| domain.is_dirty(*cpu))
    {
        domain.machine.reschedule(cpu);
    }
    cx.hv.tell_of_domains();
    Ok(())
}

/// Names the first pages that others still use.
fn say_what_is_kept<H: Host>(host: &H, domain: &Domain) {
    let mut first = ArrayVec::<Mfn, 4>::new();
    let most = first.capacity();
    domain.holdings.for_first(host, most, |mfn| first.push(mfn));
    for mfn in first {
        if let Some(frame) = host.frame(mfn) {
            log::debug!(
                "d{}: frame {:#x} ({:#x}) is in use: {} references, {:?}",
                domain.id,
                mfn.0,
                domain.machine.m2p(mfn),
                frame.references(),
                frame.type_state()
            );
        }
    }
}

/// Does steps until one says that it was the last.
fn repeat<H: Host>(host: &H, mut last: impl FnMut() -> bool) -> PtResult {
    while !last() {
        if host.preempt_pending() {
            return Err(Stop::Restart);
        }
    }
    Ok(())
}

/// Takes apart the map of the domain's guest frames, before the grants and the pages go that it leads to.
fn release_map<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain) -> PtResult {
    let Some(map) = &domain.translated else {
        return Ok(());
    };
    if domain.dirty_log.swap(0, Ordering::SeqCst) != 0 {
        cx.hv.count_write_log(false);
    }
    // No vCPU runs any more: what is flushed now stays so.
    domain.flush_translations();
    repeat(cx.host, || map.tear_down(ENTRIES) == Step::Done)?;
    // The map has ended: who was interrupted while memory came finds no place for the rest any more.
    domain.abandon_growing();
    Ok(())
}

/// Lets go of what the domain has mapped of others.
fn release_grants<H: Host>(cx: &mut AnyCtx<'_, H>, domain: &Arc<Domain>) -> PtResult {
    let host = cx.host;
    let dying = Caller::dying(cx, domain);
    repeat(host, || {
        teardown::release_mappings(&dying, HANDLES) == teardown::Progress::Done
    })
}

/// Lets go of the tables of a vCPU whose state rests. What is interrupted is kept in that.
pub(super) fn release_state<H: Host>(host: &H, domain: &Domain, vcpu: &Vcpu) -> PtResult {
    let Some(mut state) = vcpu.state.lock().take() else {
        return Ok(());
    };
    let done = match &mut state {
        VcpuState::Pv(state) => context::dismantle(host, state),
        VcpuState::Hvm(state) => {
            let pages = state.processor.pages();
            pages.for_each(|page| domain.machine.free_page(page));
            Ok(())
        }
    };
    if done.is_err() {
        *vcpu.state.lock() = Some(state);
    }
    done
}
