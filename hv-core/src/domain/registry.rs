//! The hypervisor as one value: the machine, the scheduler and all domains.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeFrom;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::e820::E820Entry;
use xen_abi::errno::Errno;
use xen_abi::xen::{DOMID_FIRST_RESERVED, DOMID_SELF, VIRQ_MCA};

use super::domain::{Backing, Domain, ShutdownReason};
use super::hotplug::Hotplug;
use super::hvm::Containers;
use super::life::Turn;
use super::machine_check::{self, Findings, Severity, Source, Telemetry, Urgency};
use super::notes::{Family, Notes};
use super::processor::Processor;
use super::services::Services;
use super::vcpu::Vcpu;
use crate::base::lock::{Mutex, RwLock, rank};
use crate::base::{CpuId, DomId, Mfn, VcpuId};
use crate::boot::cmdline::Param;
use crate::events;
use crate::irq::Irqs;
use crate::sched::{Affinity, Unit};
use crate::time::wallclock::WallClock;

/// What the hypervisor says about itself (xen_version, sysctl).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named as in xen/version.h")]
pub struct Identity {
    pub major: u16,
    pub minor: u16,
    pub extra: String,
    pub changeset: String,
    pub compiler: String,
    pub compile_by: String,
    pub compile_domain: String,
    pub compile_date: String,
    pub command_line: String,
    pub build_id: Vec<u8>,
    pub params: Vec<Param>,
}

/// What the boot found out and nothing changes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// First frame number above all RAM.
    pub max_page: u64,
    /// Pages of RAM.
    pub total_pages: u64,
    /// The machine's memory map as dom0 gets it.
    pub memory_map: Vec<E820Entry>,
    /// First frame of each 2 MiB of the M2P; none where there is no RAM behind.
    pub m2p_frames: Vec<Option<Mfn>>,
    /// TSC ticks per millisecond.
    pub tsc_khz: u32,
    /// What the CPUs are and where they sit.
    pub processor: Processor,
    /// What they offer for guests in containers, if they do.
    pub hvm: Option<Containers>,
}

/// Which vCPU a scheduler's unit is.
type Place = (Arc<Domain>, VcpuId);

/// Where a domain is in the list, or would be.
fn place_of(domains: &[Arc<Domain>], id: DomId) -> Result<usize, usize> {
    domains.binary_search_by_key(&id, |d| d.id)
}

/// The hypervisor.
pub struct Hypervisor {
    /// What domains stand on.
    pub backing: Backing,
    /// The console and other parts of the binary that tools reach.
    pub services: Services,
    /// Physical interrupts, and what dom0 tells of PCI.
    pub irqs: &'static Irqs,
    /// What it says about itself.
    pub identity: Identity,
    /// What the boot found out.
    pub facts: Facts,
    /// By number.
    domains: RwLock<Vec<Arc<Domain>>>,
    units: RwLock<Vec<Option<Place>>>,
    next_id: Mutex<RangeFrom<DomId>>,
    missing: AtomicU64,
    missing_memory: AtomicU64,
    notes: Notes,
    wallclock: Mutex<Option<WallClock>>,
    pub(super) hotplug: Hotplug,
    /// Translated domains whose writes are logged.
    write_logs: AtomicU32,
    /// Who makes a domain.
    pub(super) creating: Turn,
    /// What machine checks told and dom0 has not fetched.
    pub telemetry: Telemetry,
}

impl Hypervisor {
    /// A hypervisor without domains.
    #[must_use]
    pub fn new(
        backing: Backing,
        services: Services,
        irqs: &'static Irqs,
        identity: Identity,
        facts: Facts,
    ) -> Self {
        Self {
            backing,
            services,
            irqs,
            identity,
            facts,
            domains: RwLock::new(rank::DOMAINS, Vec::new()),
            units: RwLock::new(rank::UNITS, Vec::new()),
            next_id: Mutex::new(rank::NEXT_ID, 1..),
            missing: AtomicU64::new(0),
            missing_memory: AtomicU64::new(0),
            notes: Notes::default(),
            wallclock: Mutex::new(rank::WALLCLOCK, None),
            hotplug: Hotplug::default(),
            write_logs: AtomicU32::new(0),
            creating: Turn::new(),
            telemetry: Telemetry::default(),
        }
    }

    /// Whether there may be a translated domain whose written pages are logged: then who writes one on its behalf says so.
    #[inline(always)]
    #[must_use]
    pub fn logs_writes(&self) -> bool {
        self.write_logs.load(Ordering::Relaxed) != 0
    }

    /// One more such domain, or one less.
    pub fn count_write_log(&self, on: bool) {
        if on {
            self.write_logs.fetch_add(1, Ordering::SeqCst);
        } else {
            self.write_logs.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether this is the first time that the absence of call `number` (below 64) is met.
    #[must_use]
    pub fn first_missing(&self, number: u64) -> bool {
        self.missing.fetch_or(1 << (number & 63), Ordering::Relaxed) & (1 << (number & 63)) == 0
    }

    /// As `first_missing`, for the commands of memory_op.
    #[must_use]
    pub fn first_missing_memory_op(&self, command: u32) -> bool {
        self.missing_memory
            .fetch_or(1 << (command & 63), Ordering::Relaxed)
            & (1 << (command & 63))
            == 0
    }

    /// Logs that something is not implemented, with its name.
    pub fn note_missing(&self, caller: DomId, what: &str) {
        log::info!("d{caller}: {what}: not implemented");
    }

    /// Logs once that a sub-operation is not implemented, with its name.
    pub fn note_missing_once(&self, caller: DomId, family: Family, number: u32, name: &str) {
        if self.notes.first(family, number) {
            self.note_missing(caller, name);
        }
    }

    /// Sets the time of day and tells every domain.
    pub fn set_wallclock(&self, clock: WallClock) {
        // Held until all know it, so that two changes reach every domain in the same order.
        let mut kept = self.wallclock.lock();
        *kept = Some(clock);
        for domain in self.domains() {
            // The page of one that dies may be gone.
            if !domain.is_dying() {
                domain.publish_wallclock(&clock);
            }
        }
    }

    /// Waits until nobody writes the time of day of domains that have begun to die.
    pub fn settle_wallclock(&self) {
        drop(self.wallclock.lock());
    }

    /// The time of day, once it is known.
    #[must_use]
    pub fn wallclock(&self) -> Option<WallClock> {
        *self.wallclock.lock()
    }

    /// Tells a new domain the time of day, if it is known. Domains in the list are told of every
    /// later change.
    pub fn publish_wallclock(&self, domain: &Domain) {
        let kept = self.wallclock.lock();
        // One that another CPU destroys already has perhaps no page for it any more.
        if let Some(clock) = *kept
            && !domain.is_dying()
        {
            domain.publish_wallclock(&clock);
        }
    }

    /// What a CPU's banks held, to the log and to dom0.
    pub fn report_machine_check(
        &self,
        cpu: CpuId,
        found: &Findings,
        source: Source,
        severity: Severity,
    ) {
        for bank in &found.banks {
            log::warn!(
                "machine check on CPU {cpu}, {source:?}: {severity:?}: bank {} status {:#x} address {:#x} misc {:#x}",
                bank.number,
                bank.status,
                bank.address,
                bank.misc
            );
        }
        let place = self.facts.processor.cpus.get(cpu as usize);
        let info =
            machine_check::block(place.copied().unwrap_or_default(), found, source, severity);
        let urgency = if severity >= Severity::Recoverable {
            Urgency::Urgent
        } else {
            Urgency::NonUrgent
        };
        if !self.telemetry.push(urgency, info) {
            log::warn!("dom0 does not fetch machine checks: this one is lost to it");
        }
        if let Some(control) = self.control_domain() {
            events::raise_global_virq(&*control, VIRQ_MCA);
        }
    }

    /// Takes a domain down: its vCPUs stop, the toolstack learns why. dom0 takes the machine along.
    pub fn shut_down(&self, domain: &Arc<Domain>, reason: ShutdownReason) {
        {
            // The pause belongs to it: whoever resumes the domain finds both.
            let mut kept = domain.shutdown.lock();
            if kept.is_some() {
                return;
            }
            domain.pause();
            let said = domain.shutdown_code.load(Ordering::Relaxed);
            *kept = Some(if said == u32::MAX {
                reason
            } else {
                ShutdownReason(said)
            });
        }
        domain.stop_running();
        if domain.id == 0 {
            self.backing.machine.hardware_shutdown(reason);
        } else {
            self.tell_of_domains();
        }
    }

    /// Lets a domain that went down go on, as after a suspend that came to nothing.
    pub fn resume(&self, domain: &Domain) {
        let was_down = {
            let mut kept = domain.shutdown.lock();
            domain.shutdown_code.store(u32::MAX, Ordering::Relaxed);
            kept.take().is_some()
        };
        if was_down && domain.unpause() {
            domain.wake_all();
        }
    }

    /// A free domain number.
    ///
    /// # Errors
    /// `ENOMEM` when all are in use.
    pub fn next_domain_id(&self) -> Result<DomId, Errno> {
        let mut next = self.next_id.lock();
        for _ in 0..DOMID_FIRST_RESERVED {
            let id = next.start;
            *next = if id + 1 >= DOMID_FIRST_RESERVED {
                1..
            } else {
                id + 1..
            };
            if place_of(&self.domains.read(), id).is_err() {
                return Ok(id);
            }
        }
        Err(Errno::ENOMEM)
    }

    /// Sees to it that a domain can be put into the list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn make_room(&self) -> Result<(), Errno> {
        let mut domains = self.domains.write();
        domains.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    /// Puts a domain into the list.
    ///
    /// # Errors
    /// `EEXIST` when its number is taken, `ENOMEM`.
    pub fn add(&self, domain: Arc<Domain>) -> Result<(), Errno> {
        let mut domains = self.domains.write();
        match place_of(&domains, domain.id) {
            Ok(_) => Err(Errno::EEXIST),
            Err(at) => {
                domains.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                domains.insert(at, domain);
                Ok(())
            }
        }
    }

    /// Takes a domain out of the list; `false`: it is not there.
    pub(super) fn remove(&self, domain: &Domain) -> bool {
        // Dropped after the lock.
        let removed = {
            let mut domains = self.domains.write();
            let at = place_of(&domains, domain.id);
            at.ok()
                .filter(|at| core::ptr::eq(&raw const *domains[*at], domain))
                .map(|at| domains.remove(at))
        };
        removed.is_some()
    }

    /// The number of a unit stands for no vCPU any more.
    pub(super) fn forget_unit(&self, unit: Unit) {
        // Dropped after the lock.
        let _place = {
            let mut units = self.units.write();
            units.get_mut(unit.index()).and_then(Option::take)
        };
    }

    /// Makes a vCPU known to the scheduler.
    ///
    /// # Errors
    /// What the scheduler says; `ENOMEM`.
    pub fn schedule_vcpu(
        &self,
        domain: &Arc<Domain>,
        vcpu: &Vcpu,
        affinity: &Affinity,
    ) -> Result<(), Errno> {
        let unit = self.backing.sched.insert(domain.id, vcpu.id, affinity)?;
        let mut units = self.units.write();
        if units.len() <= unit.index() {
            let more = unit.index() + 1 - units.len();
            if units.try_reserve(more).is_err() {
                drop(units);
                // It has never been awake.
                let _asleep = self.backing.sched.remove(unit);
                return Err(Errno::ENOMEM);
            }
            units.resize(unit.index() + 1, None);
        }
        units[unit.index()] = Some((domain.clone(), vcpu.id));
        vcpu.unit.set(Some(unit));
        Ok(())
    }

    /// The vCPU behind a scheduler's unit.
    #[must_use]
    pub fn vcpu_of(&self, unit: Unit) -> Option<(Arc<Domain>, VcpuId)> {
        self.units.read().get(unit.index())?.clone()
    }

    /// A domain by its number.
    #[must_use]
    pub fn domain(&self, id: DomId) -> Option<Arc<Domain>> {
        let domains = self.domains.read();
        let at = place_of(&domains, id).ok()?;
        domains.get(at).cloned()
    }

    /// A domain as a caller names it: DOMID_SELF is the caller.
    #[must_use]
    pub fn named(&self, caller: &Arc<Domain>, id: DomId) -> Option<Arc<Domain>> {
        if id == DOMID_SELF || id == caller.id {
            Some(caller.clone())
        } else {
            self.domain(id)
        }
    }

    /// The first domain whose number is at least `id`.
    #[must_use]
    pub fn domain_from(&self, id: DomId) -> Option<Arc<Domain>> {
        let domains = self.domains.read();
        let at = place_of(&domains, id).unwrap_or_else(|after| after);
        domains.get(at).cloned()
    }

    /// All domains, by number; those that come or go meanwhile may be among them or not.
    pub fn domains(&self) -> impl Iterator<Item = Arc<Domain>> + '_ {
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let domain = self.domain_from(next?)?;
            next = domain.id.checked_add(1);
            Some(domain)
        })
    }

    /// dom0.
    #[must_use]
    pub fn control_domain(&self) -> Option<Arc<Domain>> {
        self.domain(0)
    }
}
