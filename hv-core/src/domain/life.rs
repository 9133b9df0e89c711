//! How domains other than the first begin, rest and end.
//!
//! One CPU at a time works on a domain ([`Domain::turn`]). A domain ends in phases, which `hypercall/destroy.rs` goes
//! through, and is in the list until its last frame is free: pages that others still map keep it there, as one that is
//! dying.

use alloc::sync::Arc;
use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use xen_abi::errno::Errno;
use xen_abi::xen::{DOMID_FIRST_RESERVED, VIRQ_DOM_EXC};

use super::domain::{Domain, DomainKind, Limits, Rights};
use super::machine::Machine;
use super::registry::Hypervisor;
use super::translated::{ADDRESS_BITS, DEFAULT_POOL, Step, Translated};
use super::vcpu::{Owed, RunFlags, Vcpu};
use crate::base::DomId;
use crate::events;
use crate::sched::{Affinity, PoolId};
use crate::time::Watchdogs;
use crate::time::runstate::State;
use crate::time::vtimer::VcpuTimers;

/// Looks for a vCPU's registers until they are asked for again.
const LOOKS: u32 = 10_000;

/// Work that one CPU does at a time. Whoever comes second makes its call again.
#[derive(Debug, Default)]
pub struct Turn(AtomicBool);

/// The turn is this CPU's for as long as this lives.
#[derive(Debug)]
pub struct Claim<'a>(&'a Turn);

impl Turn {
    /// Nobody has it.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Takes the turn, if nobody has it.
    #[must_use]
    pub fn claim(&self) -> Option<Claim<'_>> {
        // Made only for who gets it: the end of a claim ends the turn.
        (!self.0.swap(true, Ordering::Acquire)).then(|| Claim(self))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// No vCPU of the domain runs for as long as this lives.
#[derive(Debug)]
pub struct AtRest<'a>(&'a Domain);

impl Drop for AtRest<'_> {
    fn drop(&mut self) {
        if self.0.unpause() {
            self.0.wake_all();
        }
    }
}

/// Another domain works on the domain's page tables for as long as this lives.
#[derive(Debug)]
pub struct TableWork<'a>(&'a Domain);

impl Drop for TableWork<'_> {
    fn drop(&mut self) {
        self.0.table_work.fetch_sub(1, Ordering::SeqCst);
    }
}

impl core::fmt::Debug for Domain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "d{}", self.id)
    }
}

/// Has the block ready that the next `Arc::new` of such a value takes, which would abort where memory has run out.
///
/// # Errors
/// `ENOMEM`.
fn set_aside<T>(machine: &dyn Machine) -> Result<(), Errno> {
    // The two counts, then the value.
    let counts = Layout::new::<[AtomicUsize; 2]>();
    let (block, _) = counts
        .extend(Layout::new::<T>())
        .map_err(|_| Errno::ENOMEM)?;
    machine.set_aside(block.pad_to_align())
}

impl Domain {
    /// Whether it is being destroyed.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::SeqCst)
    }

    /// Begins work on its page tables, which it does not do itself; nothing when it is dying. What such work leaves half
    /// done in its frames is undone by its end, which waits for it.
    #[must_use]
    pub fn work_on_tables(&self) -> Option<TableWork<'_>> {
        self.table_work.fetch_add(1, Ordering::SeqCst);
        let work = TableWork(self);
        (!self.is_dying()).then_some(work)
    }

    /// Whether another domain is at work on its page tables.
    #[must_use]
    pub fn has_table_work(&self) -> bool {
        self.table_work.load(Ordering::SeqCst) != 0
    }

    /// Keeps the domain from running. Not for its own vCPUs.
    #[must_use]
    pub fn at_rest(&self) -> AtRest<'_> {
        self.pause();
        self.stop_running();
        self.wait_until_stopped();
        AtRest(self)
    }

    /// Has the registers of a vCPU brought back by the CPU that idles with them. For a vCPU that may not run.
    pub fn fetch_state(&self, vcpu: &Vcpu) {
        let Some(unit) = vcpu.unit.get() else { return };
        // Asked for more than once: a wake-up that was on its way may have it chosen again, and then the CPU forgets.
        while let Some(cpu) = self.sched.unload(unit) {
            self.machine.reschedule(cpu);
            for _ in 0..LOOKS {
                if vcpu.state.lock().is_some() {
                    return;
                }
                core::hint::spin_loop();
            }
        }
    }

    /// Notes that a vCPU has no registers any more: it is down, waits for nothing, and runs where it was first allowed to.
    pub fn make_new(&self, vcpu: &Vcpu) {
        let now = self.machine.now();
        vcpu.set_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
        let waits = RunFlags::BLOCKED | RunFlags::POLLING;
        vcpu.clear_flags(waits | RunFlags::RESETTING);
        events::end_poll(self, vcpu.id);
        vcpu.take_owed(Owed::NMI);
        vcpu.runstate.lock().change(State::Offline, now);
        let pinned_from = vcpu.pinned_from.lock().take();
        if let (Some(before), Some(unit)) = (pinned_from, vcpu.unit.get()) {
            // Its CPUs may have gone offline meanwhile: then it runs anywhere.
            let _any = self
                .sched
                .set_affinity(unit, &before, now)
                .or_else(|_| self.sched.set_affinity(unit, &Affinity::ANY, now));
        }
    }

    /// Begins the end: the domain runs no more, and nobody begins to use its grants or ports. `false`: that was so before.
    pub fn begin_to_die(&self) -> bool {
        if self.dying.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.pause();
        self.grants.mark_dying();
        self.holdings.close();
        self.give_up_claim();
        *self.watchdogs.lock() = Watchdogs::new();
        true
    }

    /// Keeps free what the domain lacks of `pages` in all; zero ends that.
    ///
    /// # Errors
    /// `EINVAL` while there is a claim, for no more than it has, and for more than it may have; `ENOMEM`.
    pub fn claim_pages(&self, pages: u64) -> Result<(), Errno> {
        if pages == 0 {
            self.give_up_claim();
            return Ok(());
        }
        let has = self.pages.load(Ordering::Relaxed);
        let may_have = self.max_pages.load(Ordering::Relaxed);
        if self.claim.load(Ordering::Acquire) != 0 || pages <= has || pages > may_have {
            return Err(Errno::EINVAL);
        }
        self.machine.claim(pages - has)?;
        self.put_back_claim(pages - has);
        Ok(())
    }

    /// Takes from the domain's claim what there is of `pages`, for an allocation.
    #[must_use]
    pub fn take_claim(&self, pages: u64) -> u64 {
        let rest = |claim: u64| Some(claim.saturating_sub(pages));
        let before = self
            .claim
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, rest);
        before.unwrap_or(0).min(pages)
    }

    /// Puts back what an allocation that failed has taken.
    pub fn put_back_claim(&self, pages: u64) {
        self.claim.fetch_add(pages, Ordering::SeqCst);
        // The end of the domain has perhaps looked for it in vain.
        if self.is_dying() {
            self.give_up_claim();
        }
    }

    fn give_up_claim(&self) {
        self.machine
            .drop_claim(self.claim.swap(0, Ordering::SeqCst));
    }

    /// Lets go of the pages in which a vCPU's `vcpu_info` lie. None of them runs or gets events any more.
    pub fn drop_registered_infos(&self) {
        let registered = core::mem::take(&mut *self.registered_infos.lock());
        for vcpu in registered.into_iter().filter_map(|id| self.vcpu(id)) {
            if let Some((frame, _)) = vcpu.info_place() {
                vcpu.forget_info_place();
                self.machine.drop_writable(frame);
            }
        }
    }

    /// Gives back the pages of ours that the domain sees: its grant table and `shared_info`. Once.
    pub fn take_back_pages(&self) {
        if !self.emptied.swap(true, Ordering::AcqRel) {
            self.grants.abandon(&self.grant_pool());
            self.machine.unshare(self.shared_info);
        }
    }
}

impl Hypervisor {
    /// Makes a domain in a pool, without vCPUs or memory, paused by the toolstack, with the number `asked` for or, for 0
    /// and reserved ones, a free one. Nothing: another CPU is making one.
    ///
    /// # Errors
    /// `EEXIST` when the number is taken, `ENOMEM`, `EOPNOTSUPP` for a kind that this machine cannot run, what
    /// [`Domain::new`] and [`Pools::assign`](crate::sched::Pools::assign) say.
    pub fn create_domain(
        &self,
        asked: DomId,
        kind: DomainKind,
        handle: [u8; 16],
        pool: PoolId,
        limits: Limits,
    ) -> Result<Option<Arc<Domain>>, Errno> {
        let Some(_turn) = self.creating.claim() else {
            return Ok(None);
        };
        let id = match asked {
            1..DOMID_FIRST_RESERVED if self.domain(asked).is_some() => return Err(Errno::EEXIST),
            1..DOMID_FIRST_RESERVED => asked,
            _ => self.next_domain_id()?,
        };
        self.make_room()?;
        let mut domain = Domain::new(id, kind, Rights::Guest, limits, self.backing)?;
        *domain.handle.lock() = handle;
        domain.pause_by_tool()?;
        if kind == DomainKind::Hvm {
            domain.translated = Some(self.new_map(id).inspect_err(|_| domain.take_back_pages())?);
        }
        let put = self.backing.pools.assign(id, pool);
        put.and_then(|()| set_aside::<Domain>(self.backing.machine))
            .inspect_err(|_| {
                domain.take_back_pages();
                if let Some(map) = &domain.translated {
                    // Empty: it ends at once.
                    while map.tear_down(1) == Step::More {}
                }
                self.backing.sched.forget_domain(id);
            })?;
        let domain = Arc::new(domain);
        self.add(domain.clone())?;
        self.publish_wallclock(&domain);
        Ok(Some(domain))
    }

    /// The map of a new domain whose frames are translated.
    fn new_map(&self, id: DomId) -> Result<Translated, Errno> {
        let containers = self.facts.hvm.as_ref().ok_or(Errno::EOPNOTSUPP)?;
        let bits = u32::from(containers.address_bits).min(ADDRESS_BITS);
        let (format, machine) = (containers.format(), self.backing.machine);
        let mut map = Translated::new(id, machine, format, bits, DEFAULT_POOL)?;
        if containers.gib_pages {
            map.allow_gib_pages();
        }
        Ok(map)
    }

    /// Makes the vCPUs of a domain, all down, or what is missing of them.
    ///
    /// # Errors
    /// `ENOMEM`; what the scheduler says.
    pub fn make_vcpus(&self, domain: &Arc<Domain>) -> Result<(), Errno> {
        if domain.vcpus().is_empty() {
            domain.create_vcpus(domain.max_vcpus)?;
        }
        for vcpu in domain.vcpus() {
            if vcpu.unit.get().is_none() {
                if let Some((frame, offset)) = vcpu.info_place() {
                    // Events are masked until the guest says otherwise.
                    domain.machine.words(frame)[offset / 8].store(1 << 8, Ordering::SeqCst);
                }
                self.schedule_vcpu(domain, vcpu, &Affinity::ANY)?;
            }
        }
        Ok(())
    }

    /// Takes a vCPU of a dying domain from the scheduler, its timers with it. Its state is in the vCPU afterwards.
    pub fn retire_vcpu(&self, domain: &Domain, vcpu: &Vcpu) {
        domain.fetch_state(vcpu);
        let unit = {
            let mut timers = vcpu.timers.lock();
            *timers = VcpuTimers::new();
            let unit = vcpu.unit.get();
            vcpu.unit.set(None);
            if let Some(unit) = unit {
                self.backing.machine.arm_vcpu_timer(unit, None);
            }
            unit
        };
        let Some(unit) = unit else { return };
        self.forget_unit(unit);
        self.once_off(unit, &|unit| self.backing.sched.remove(unit));
    }

    /// Takes domains whose last frame is free out of the list, and tells the toolstack.
    pub fn forget_dead(&self) {
        for domain in self.domains() {
            if domain.gone.load(Ordering::Acquire) && self.remove(&domain) {
                self.tell_of_domains();
            }
        }
    }

    /// Tells the toolstack that a domain has changed its life.
    pub fn tell_of_domains(&self) {
        if let Some(control) = self.control_domain() {
            events::raise_global_virq(&*control, VIRQ_DOM_EXC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_a_turn_does_not_end_it() {
        let turn = Turn::new();
        let first = turn.claim();
        assert!(first.is_some());
        assert!(turn.claim().is_none());
        assert!(turn.claim().is_none());
        drop(first);
        assert!(turn.claim().is_some());
    }
}
