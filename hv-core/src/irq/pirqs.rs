//! All physical interrupts as one object: what events, hypercalls and the run loop call.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::eoi_page::{self, AtEnd};
use super::ioapic::{ChipPlace, Entry, IoApic, Register};
use super::line::{Destination, LineState, Meaning, Pin, Targets};
use super::numbers::{NumberTable, Numbering};
use super::pci::PciDevices;
use super::routing::{LineMode, Override, Place, Routing, Span, Trigger};
use super::vectors::Vectors;
use crate::base::lock::{Mutex, MutexGuard, RwLock, rank};
use crate::base::{CpuId, DomId, Mfn, Nanos, PhysAddr, VcpuId};
use crate::domain::{Domain, PirqLayer};
use crate::events::PirqSharing;
use crate::pci::PciHost;

/// Interrupts of one line in 10 ms above which it is put to rest: 200 000 a second are more than any
/// device needs and still leave the CPU some time.
pub const STORM_LIMIT: u32 = 2000;

/// No number of interrupts is too many.
const NO_LIMIT: u32 = u32::MAX;

/// No storm's rest ends at any time.
const NEVER: Nanos = Nanos::MAX;

/// What this layer needs of the machine and of the registry of domains.
pub trait IrqHost: Send + Sync {
    /// A vector that this CPU's local APIC has accepted may come again ([`InService::end`](super::service::InService::end)).
    fn end(&self, vector: u8);
    /// The APIC id of a CPU; `None` when there is no such CPU or it stops.
    fn apic_id_of(&self, cpu: CpuId) -> Option<u32>;
    /// System time.
    fn now(&self) -> Nanos;
    /// Raises a domain's PIRQ (`events::raise_pirq`); no lock of this layer is held.
    fn raise(&self, domain: DomId, pirq: u32);
}

/// What an interrupt was, after [`Irqs::handle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Arrival {
    /// Domains were told.
    Guests,
    /// It is for a device that we drive: the caller runs its driver, then [`Irqs::end_ours`].
    Ours {
        /// The line.
        gsi: u32,
    },
    /// Nobody waits for it; its line is masked.
    Unwanted,
}

/// What `PHYSDEVOP_irq_status_query` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineStatus {
    /// Level lines want `PHYSDEVOP_eoi`.
    pub trigger: Trigger,
    /// Several domains are bound.
    pub shared: bool,
}

/// A line and where it is.
pub(super) struct Line {
    place: Option<Place>,
    pub state: Mutex<LineState>,
}

/// The physical interrupts of the machine.
pub struct Irqs {
    pub(super) host: &'static dyn IrqHost,
    chips: Box<[IoApic]>,
    routing: Routing,
    /// By GSI; behind them the messages.
    pub(super) lines: Box<[Line]>,
    pub(super) vectors: Vectors,
    pub(super) numbers: RwLock<NumberTable>,
    pirq_limit: u32,
    storm_limit: u32,
    /// The first end of a storm's rest.
    first_end: AtomicU64,
    /// Vectors without a line that have come.
    strays: AtomicU64,
    /// PCI devices that dom0 has reported.
    pub pci: PciDevices,
}

impl Irqs {
    /// Takes over the I/O APICs, all masked. There may be `messages` beyond the lines.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        host: &'static dyn IrqHost,
        places: Vec<ChipPlace>,
        overrides: Vec<Override>,
        pci: &'static dyn PciHost,
        messages: u32,
    ) -> Result<Self, Errno> {
        let chips: Vec<IoApic> = places.into_iter().map(IoApic::new).collect();
        let spans = chips.iter().map(|c| Span {
            gsi_base: c.gsi_base,
            pins: c.pins,
        });
        let routing = Routing::new(spans.collect(), overrides);
        let count = routing.lines();
        let pirq_limit = count + messages.min(0x8000 - count.min(0x8000));
        let mut lines = Vec::new();
        lines
            .try_reserve_exact(pirq_limit as usize)
            .map_err(|_| Errno::ENOMEM)?;
        for index in 0..pirq_limit {
            let mode = if index < count {
                routing.mode(index)
            } else {
                LineMode::ISA
            };
            lines.push(Line {
                place: routing.place(index),
                state: Mutex::new(rank::IRQ_LINE, LineState::new(mode)),
            });
        }
        Ok(Self {
            host,
            chips: chips.into_boxed_slice(),
            routing,
            lines: lines.into_boxed_slice(),
            vectors: Vectors::new(),
            numbers: RwLock::new(rank::IRQ_NUMBERS, NumberTable::new(count, pirq_limit)),
            pirq_limit,
            storm_limit: STORM_LIMIT,
            first_end: AtomicU64::new(NEVER),
            strays: AtomicU64::new(0),
            pci: PciDevices::new(pci),
        })
    }

    /// The same with another limit of interrupts of one line in 10 ms than [`STORM_LIMIT`]; 0: none.
    #[must_use]
    pub fn with_storm_limit(self, limit: u32) -> Self {
        let storm_limit = if limit == 0 { NO_LIMIT } else { limit };
        Self {
            storm_limit,
            ..self
        }
    }

    /// One more than the highest GSI.
    #[must_use]
    pub fn line_count(&self) -> u32 {
        self.routing.lines()
    }

    /// One more than the highest PIRQ of any domain; for the limits of new domains.
    #[must_use]
    pub fn pirq_limit(&self) -> u32 {
        self.pirq_limit
    }

    /// The GSI at which an ISA interrupt arrives.
    #[must_use]
    pub fn gsi_of_isa(&self, irq: u8) -> u32 {
        self.routing.gsi_of_isa(irq)
    }

    /// Takes a line for ourselves; it stays masked, and no domain can bind it.
    ///
    /// # Errors
    /// `EINVAL` for no line, `EBUSY` when it is used.
    pub fn keep(&self, gsi: u32, name: &'static str) -> Result<(), Errno> {
        let (pin, mut line) = self.input(gsi)?;
        line.keep(pin, name)
    }

    /// Takes a line for a device that we drive and starts it: from now on [`handle`](Self::handle) says
    /// [`Arrival::Ours`]. Gives the vector.
    ///
    /// # Errors
    /// `EINVAL` for no line, `EBUSY` when it is used, `ENOSPC` when no vector is left.
    pub fn claim(&self, gsi: u32, name: &'static str, cpu: CpuId) -> Result<u8, Errno> {
        let (pin, mut line) = self.input(gsi)?;
        line.claim(pin, (&self.vectors, gsi), name, self.destination(cpu))
    }

    /// Our driver has dealt with the interrupt of its line.
    pub fn end_ours(&self, gsi: u32) {
        if let Ok((pin, mut line)) = self.line(gsi) {
            line.end_ours(pin);
        }
    }

    /// Deals with an interrupt of this CPU, whose vector is in service at its local APIC; called once
    /// for each, by the run loop.
    ///
    pub fn handle(&self, vector: u8) -> Arrival {
        let Some(gsi) = self.vectors.line_of(vector) else {
            self.host.end(vector);
            let count = self.strays.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                log::warn!("interrupt at vector {vector:#04x}, which no line has ({count} so far)");
            }
            return Arrival::Unwanted;
        };
        let Ok((pin, mut line)) = self.line(gsi) else {
            self.host.end(vector);
            return Arrival::Unwanted;
        };
        let limit = self.storm_limit;
        let came = line.arrive(pin, self.host.now(), limit);
        drop(line);
        self.host.end(vector);
        if let Some((until, storms)) = came.storm {
            self.first_end.fetch_min(until, Ordering::SeqCst);
            if storms.is_power_of_two() {
                let what = format_args!(
                    "more than {limit} interrupts in 10 ms, rests for as long ({storms} times so far)"
                );
                self.warn(gsi, what);
            }
        }
        match came.meaning {
            Meaning::Guests(targets) => {
                self.raise(&targets);
                Arrival::Guests
            }
            Meaning::Ours => Arrival::Ours { gsi },
            Meaning::Nobody(count) => {
                if count.is_power_of_two() {
                    let what = format_args!("interrupt that nobody waits for ({count} so far)");
                    self.warn(gsi, what);
                }
                Arrival::Unwanted
            }
        }
    }

    /// Says something about a line by its name.
    #[cold]
    fn warn(&self, index: u32, what: fmt::Arguments<'_>) {
        if let Ok((_, line)) = self.line(index) {
            log::warn!("{}: {what}", line.name(index));
        }
    }

    /// When a storm's rest ends next, for the timer; cheap.
    #[must_use]
    pub fn next_storm_end(&self) -> Option<Nanos> {
        let end = self.first_end.load(Ordering::Relaxed);
        (end != NEVER).then_some(end)
    }

    /// Unmasks lines whose storm's rest is over; cheap when there is none. Any CPU's run loop calls it.
    pub fn end_storms(&self) {
        if self.first_end.load(Ordering::Relaxed) == NEVER {
            return;
        }
        let now = self.host.now();
        if now < self.first_end.load(Ordering::SeqCst) {
            return;
        }
        // A storm that begins from here on puts its own end in.
        self.first_end.store(NEVER, Ordering::SeqCst);
        for index in 0..self.pirq_limit {
            let Ok((pin, mut line)) = self.line(index) else {
                continue;
            };
            let targets = line.end_storm(pin, now);
            let rests_until = line.rests_until();
            drop(line);
            if let Some(until) = rests_until {
                self.first_end.fetch_min(until, Ordering::SeqCst);
            }
            self.raise(&targets);
        }
    }

    /// Gives a line a number in a domain (`PHYSDEVOP_map_pirq`), and says which. The caller has
    /// checked that the domain may have it.
    ///
    /// # Errors
    /// `EINVAL` for no line or a bad number, `EEXIST` when line or number are taken, `ENOSPC`, `ENOMEM`.
    pub fn map(
        &self,
        domain: DomId,
        numbering: Numbering,
        gsi: u32,
        wanted: Option<u32>,
    ) -> Result<u32, Errno> {
        self.place(gsi)?;
        self.numbers.write().map(domain, numbering, gsi, wanted)
    }

    /// Hands out an unused number above the lines (`PHYSDEVOP_get_free_pirq`).
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn reserve(&self, domain: DomId) -> Result<u32, Errno> {
        self.numbers.write().reserve(domain)
    }

    /// Takes a number back (`PHYSDEVOP_unmap_pirq`); a line bound by it is unbound, whatever the
    /// domain thinks. That of the first of several messages takes all back.
    ///
    /// # Errors
    /// `EINVAL` when the number stands for nothing, `EBUSY` for that of another message than the first.
    pub fn unmap(&self, domain: DomId, pirq: u32) -> Result<(), Errno> {
        if self.unmap_messages(domain, pirq)? {
            return Ok(());
        }
        let mut numbers = self.numbers.write();
        if let Some(gsi) = numbers.unmap(domain, pirq)?
            && let Ok((pin, mut line)) = self.line(gsi)
        {
            line.unbind(pin, (domain, pirq));
        }
        Ok(())
    }

    /// Says how a line signals (`PHYSDEVOP_setup_gsi`).
    ///
    /// # Errors
    /// `EINVAL` for no line, `EEXIST` when that was said before or the line is ours, `EBUSY` when
    /// somebody is bound and it would change.
    pub fn set_up(&self, gsi: u32, mode: LineMode) -> Result<(), Errno> {
        let (_, mut line) = self.input(gsi)?;
        line.set_up(mode)
    }

    /// What a domain asks about its interrupt.
    ///
    /// # Errors
    /// `EINVAL` when the number is no line's.
    pub fn status(&self, domain: DomId, pirq: u32) -> Result<LineStatus, Errno> {
        let gsi = self.numbers.read().line_of(domain, pirq);
        let (_, line) = self.line(gsi.ok_or(Errno::EINVAL)?)?;
        Ok(LineStatus {
            trigger: line.mode().trigger,
            shared: line.is_shared(),
        })
    }

    /// A domain has dealt with its interrupt (`PHYSDEVOP_eoi`). Harmless when there is none.
    ///
    /// # Errors
    /// `EINVAL` when the number is no line's.
    pub fn end(&self, domain: DomId, pirq: u32) -> Result<(), Errno> {
        let gsi = self.numbers.read().line_of(domain, pirq);
        let (pin, mut line) = self.line(gsi.ok_or(Errno::EINVAL)?)?;
        line.end(pin, (domain, pirq));
        Ok(())
    }

    /// Reads a register of the I/O APIC at an address (`PHYSDEVOP_apic_read`).
    ///
    /// # Errors
    /// `EINVAL` when there is none.
    pub fn read_chip(&self, address: PhysAddr, register: u32) -> Result<u32, Errno> {
        let chip = self.chips.iter().find(|c| c.address == address);
        chip.ok_or(Errno::EINVAL)?.read(register)
    }

    /// Writes a register of the I/O APIC at an address, as far as dom0 may: of an entry's low half
    /// trigger and polarity count, as in [`set_up`](Self::set_up). Vector, destination and mask are ours.
    ///
    /// # Errors
    /// `EINVAL` when there is none or for other deliveries than fixed and lowest priority, `EPERM` for
    /// every other register, `EBUSY` for a line that is used otherwise.
    pub fn write_chip(&self, address: PhysAddr, register: u32, value: u32) -> Result<(), Errno> {
        let chip = self.chips.iter().find(|c| c.address == address);
        let chip = chip.ok_or(Errno::EINVAL)?;
        let Register::EntryLow(pin) = chip.register(register)? else {
            return Err(Errno::EPERM);
        };
        if Entry::delivery_of(value) > 1 {
            return Err(Errno::EINVAL);
        }
        let gsi = chip.gsi_base.checked_add(u32::from(pin));
        let (_, mut line) = self.input(gsi.ok_or(Errno::EINVAL)?)?;
        let mode = Entry::mode_of(value);
        match line.set_up(mode) {
            Err(Errno::EEXIST) if line.mode() == mode => Ok(()),
            Err(Errno::EEXIST) => Err(Errno::EBUSY),
            other => other,
        }
    }

    /// Takes the page in which a domain sees which PIRQs want an end
    /// (`PHYSDEVOP_pirq_eoi_gmfn_v1`, `_v2`).
    ///
    /// # Errors
    /// `EBUSY` when it has given one; `EINVAL` or `EAGAIN` when the page will not do.
    pub fn register_eoi_page(
        &self,
        domain: &Domain,
        page: Mfn,
        at_end: AtEnd,
    ) -> Result<(), Errno> {
        eoi_page::register(domain, page, at_end)?;
        let numbers = self.numbers.read();
        for (pirq, gsi) in numbers.mapped(domain.id) {
            if let Ok((_, line)) = self.line(gsi) {
                eoi_page::mark(domain, pirq, line.mode().trigger);
            }
        }
        Ok(())
    }

    /// What `PHYSDEVOP_eoi` of a domain does to the port.
    #[must_use]
    pub fn at_end(&self, domain: &Domain) -> AtEnd {
        eoi_page::at_end(domain)
    }

    /// Takes everything from a dying domain: bindings, numbers, its page. Nothing of it runs any more.
    pub fn release_domain(&self, domain: &Domain) {
        self.forget(domain.id);
        eoi_page::release(domain);
    }

    /// Takes bindings and numbers from a domain.
    pub(super) fn forget(&self, domain: DomId) {
        self.forget_messages(domain);
        let mut numbers = self.numbers.write();
        for (pirq, gsi) in numbers.mapped(domain) {
            if let Ok((pin, mut line)) = self.line(gsi) {
                line.unbind(pin, (domain, pirq));
            }
        }
        numbers.forget(domain);
    }

    /// Binds a domain's number to its line.
    pub(super) fn bind_line(
        &self,
        (domain, pirq): (DomId, u32),
        sharing: PirqSharing,
        cpu: CpuId,
    ) -> Result<Trigger, Errno> {
        // Held until bound, so that nobody takes the number back in between.
        let numbers = self.numbers.read();
        let gsi = numbers.line_of(domain, pirq).ok_or(Errno::EPERM)?;
        let (pin, mut line) = self.line(gsi)?;
        let guest = ((domain, pirq), sharing);
        line.bind(pin, (&self.vectors, gsi), guest, self.destination(cpu))?;
        Ok(line.mode().trigger)
    }

    /// Ends a binding.
    pub(super) fn unbind_line(&self, domain: DomId, pirq: u32) {
        let gsi = self.numbers.read().line_of(domain, pirq);
        // No line when the number was taken back before.
        if let Some(Ok((pin, mut line))) = gsi.map(|g| self.line(g)) {
            line.unbind(pin, (domain, pirq));
        }
    }

    /// Moves a binding to another CPU.
    pub(super) fn route_line(&self, domain: DomId, pirq: u32, cpu: CpuId) {
        let gsi = self.numbers.read().line_of(domain, pirq);
        if let Some(Ok((pin, mut line))) = gsi.map(|g| self.line(g)) {
            line.route(pin, (domain, pirq), self.destination(cpu));
        }
    }

    /// Sends every line that goes to a CPU elsewhere, because it stops; [`IrqHost::apic_id_of`] has no
    /// answer for it any more, so that nothing is sent there afterwards.
    ///
    /// Interrupts that it has accepted before stay with it: it handles them before it stops, for as long
    /// as one that was on its way may take.
    pub fn evacuate(&self, cpu: CpuId) {
        for index in 0..self.pirq_limit {
            if let Ok((pin, mut line)) = self.line(index) {
                line.evacuate(pin, cpu, self.destination(0));
            }
        }
    }

    /// Writes all lines in use in words, for the operator.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump(&self, out: &mut dyn Write) -> fmt::Result {
        let strays = self.strays.load(Ordering::Relaxed);
        writeln!(
            out,
            "{} lines, {strays} stray interrupts",
            self.line_count()
        )?;
        for index in 0..self.pirq_limit {
            self.dump_line(index, out)?;
        }
        Ok(())
    }

    /// Writes the messages in use in words, for the operator.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump_messages(&self, out: &mut dyn Write) -> fmt::Result {
        (self.line_count()..self.pirq_limit).try_for_each(|index| self.dump_line(index, out))
    }

    fn dump_line(&self, index: u32, out: &mut dyn Write) -> fmt::Result {
        match self.line(index) {
            Ok((_, line)) if line.is_known() => line.dump(index, out),
            _ => Ok(()),
        }
    }

    /// Where a GSI arrives.
    pub(super) fn place(&self, gsi: u32) -> Result<(&Line, Place), Errno> {
        let line = self.lines.get(gsi as usize).ok_or(Errno::EINVAL)?;
        Ok((line, line.place.ok_or(Errno::EINVAL)?))
    }

    /// A line of an I/O APIC, locked, and its input.
    fn input(&self, gsi: u32) -> Result<(Pin<'_>, MutexGuard<'_, LineState>), Errno> {
        let (line, place) = self.place(gsi)?;
        let chip = self.chips.get(place.chip).ok_or(Errno::EINVAL)?;
        Ok((Pin::Input(chip, place.pin), line.state.lock()))
    }

    /// A line or message, locked, and what it is made of.
    pub(super) fn line(&self, index: u32) -> Result<(Pin<'_>, MutexGuard<'_, LineState>), Errno> {
        if index < self.line_count() {
            return self.input(index);
        }
        let line = self.lines.get(index as usize).ok_or(Errno::EINVAL)?;
        Ok((Pin::Message(self.pci.host()), line.state.lock()))
    }

    /// Where interrupts for a CPU go. APIC ids have 8 bits there, all ones being broadcast; CPUs beyond that,
    /// and those that stop, get theirs by way of the boot CPU. To be asked with the line locked: `evacuate`
    /// then comes before, and the answer is another, or after, and moves the line.
    pub(super) fn destination(&self, cpu: CpuId) -> Destination {
        let reachable = |cpu| {
            let apic_id = u8::try_from(self.host.apic_id_of(cpu)?).ok()?;
            (apic_id != u8::MAX).then_some(Destination { cpu, apic_id })
        };
        reachable(cpu)
            .or_else(|| reachable(0))
            .unwrap_or(Destination { cpu: 0, apic_id: 0 })
    }

    fn raise(&self, targets: &Targets) {
        for (domain, pirq) in targets {
            self.host.raise(*domain, *pirq);
        }
    }
}

impl PirqLayer for Irqs {
    fn bind(
        &self,
        domain: &Domain,
        pirq: u32,
        sharing: PirqSharing,
        vcpu: VcpuId,
    ) -> Result<(), Errno> {
        let cpu = cpu_of(domain, vcpu);
        match self.bind_line((domain.id, pirq), sharing, cpu) {
            Ok(trigger) => {
                eoi_page::mark(domain, pirq, trigger);
                Ok(())
            }
            Err(errno) => {
                log::info!("d{}: PIRQ {pirq} cannot be bound: {errno}", domain.id);
                Err(errno)
            }
        }
    }

    fn unbind(&self, domain: &Domain, pirq: u32) {
        self.unbind_line(domain.id, pirq);
    }

    fn route(&self, domain: &Domain, pirq: u32, vcpu: VcpuId) {
        self.route_line(domain.id, pirq, cpu_of(domain, vcpu));
    }
}

/// The CPU where a vCPU runs or ran last; the boot CPU for one that never did.
fn cpu_of(domain: &Domain, vcpu: VcpuId) -> CpuId {
    domain.vcpu(vcpu).map_or(0, |v| v.cpu())
}
