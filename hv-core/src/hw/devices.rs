//! Device interrupts: the I/O APICs' registers and the way from a vector to the irq layer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hv_core::base::{CpuId, DomId, Mfn, Nanos, PhysAddr};
use hv_core::events;
use hv_core::irq::{Arrival, ChipPlace, IoApicRegs, IrqHost, Irqs, STORM_LIMIT};
use hv_core::pci::PciAddress;
use hv_core::pci::guard::Guarded;
use spin::Once;

use super::host::HV;
use super::pci::{self, Pci};
use super::start::{Boot, refuse};
use super::{clock, irq, paging, percpu, serial, serial_line};

/// Message interrupts, which have the numbers above the lines: more than there are vectors.
const MESSAGES: u32 = 200;

static IRQS: Once<&'static Irqs> = Once::new();

/// Index and data register of one I/O APIC (82093AA data sheet, 3.1).
struct Chip(u64);

impl IoApicRegs for Chip {
    fn read(&self, index: u32) -> u32 {
        // SAFETY: the registers are mapped uncached for good; the irq layer serialises.
        unsafe {
            core::ptr::write_volatile(self.0 as *mut u32, index);
            core::ptr::read_volatile((self.0 + 0x10) as *const u32)
        }
    }

    fn write(&self, index: u32, value: u32) {
        // SAFETY: as above; what is written was decided by the irq layer.
        unsafe {
            core::ptr::write_volatile(self.0 as *mut u32, index);
            core::ptr::write_volatile((self.0 + 0x10) as *mut u32, value);
        }
    }
}

struct IrqMachine;

impl IrqHost for IrqMachine {
    fn end(&self, vector: u8) {
        irq::end(vector);
    }

    fn apic_id_of(&self, cpu: CpuId) -> Option<u32> {
        let stops = percpu::remote(cpu)?.stops.load(Ordering::SeqCst);
        (!stops).then(|| percpu::apic_id(cpu)).flatten()
    }

    fn now(&self) -> Nanos {
        clock::now()
    }

    fn raise(&self, dom: DomId, pirq: u32) {
        if let Some(domain) = HV.get().and_then(|hv| hv.domain(dom)) {
            events::raise_pirq(&*domain, pirq);
        }
    }
}

/// Takes over the I/O APICs; claims the lines of what we drive ourselves.
pub fn init(boot: &Boot) -> &'static Irqs {
    let acpi = &boot.acpi;
    let chips = acpi.madt.iter().flat_map(|m| &m.io_apics);
    let places: Vec<_> = chips
        .map(|a| ChipPlace {
            id: a.id,
            address: a.address,
            gsi_base: a.gsi_base,
            regs: Box::new(Chip(paging::map_mmio(a.address, 32))),
        })
        .collect();
    let overrides = acpi
        .madt
        .iter()
        .flat_map(|m| &m.overrides)
        .map(Into::into)
        .collect();
    let irqs: &'static Irqs = match Irqs::new(&IrqMachine, places, overrides, &Pci, MESSAGES) {
        Ok(irqs) => {
            let limit = boot.command_line.options.irq_ratelimit;
            Box::leak(Box::new(
                irqs.with_storm_limit(limit.unwrap_or(STORM_LIMIT)),
            ))
        }
        Err(why) => refuse(format_args!("interrupts: {why}")),
    };
    let note = |what: &str, result: Result<(), xen_abi::errno::Errno>| {
        if let Err(why) = result {
            log::warn!("{what}: its interrupt line cannot be kept: {why}");
        }
    };
    note("PIT", irqs.keep(irqs.gsi_of_isa(0), "PIT"));
    if serial::port() != 0 {
        let line = irqs.gsi_of_isa(if serial::port() == 0x2f8 { 3 } else { 4 });
        match irqs.claim(line, "serial console", 0) {
            Ok(_vector) => serial::enable_receive_interrupt(),
            Err(why) => note("serial console", Err(why)),
        }
    }
    pci::add_windows(irqs, boot);
    IRQS.call_once(|| irqs);
    irqs
}

/// A device vector has arrived; the irq layer ends it at the local APIC.
pub fn arrived(vector: u8) {
    let Some(irqs) = IRQS.get() else {
        irq::end(vector);
        return;
    };
    match irqs.handle(vector) {
        Arrival::Ours { gsi } => {
            serial_line::poll();
            irqs.end_ours(gsi);
        }
        Arrival::Guests | Arrival::Unwanted => {}
    }
    if irqs.next_storm_end().is_some() {
        clock::program();
    }
}

/// Whether dom0 may only read a frame, because PCI registers are there that we look after.
pub fn is_guarded(frame: Mfn) -> bool {
    IRQS.get().is_some_and(|irqs| irqs.pci.guards.guards(frame))
}

/// What a guarded frame is.
pub fn guarded(frame: Mfn) -> Option<Guarded> {
    IRQS.get()?.pci.guarded(frame.addr())
}

/// Where a register of configuration space is in memory.
pub fn config_address(at: PciAddress, register: u16) -> Option<PhysAddr> {
    IRQS.get()?.pci.guards.address_of(at, register)
}

/// Sends the interrupts of a CPU that is about to stop to another, and from now on none to it. It still
/// handles what it has accepted, and for as long as an interrupt may be on its way (a millisecond is plenty),
/// in its run loop with interrupts on; then it may stop.
pub fn evacuate(cpu: CpuId) {
    if let (Some(irqs), Some(remote)) = (IRQS.get(), percpu::remote(cpu)) {
        remote.stops.store(true, Ordering::SeqCst);
        irqs.evacuate(cpu);
    }
}

/// A CPU that was evacuated takes interrupts again.
pub fn admit(cpu: CpuId) {
    if let Some(remote) = percpu::remote(cpu) {
        remote.stops.store(false, Ordering::SeqCst);
    }
}

/// When a line that rests after a storm may go on.
pub fn next_storm_end() -> Option<Nanos> {
    IRQS.get().and_then(|irqs| irqs.next_storm_end())
}

/// Lines that rest after a storm and may go on.
pub fn end_storms() {
    if let Some(irqs) = IRQS.get() {
        irqs.end_storms();
    }
}
