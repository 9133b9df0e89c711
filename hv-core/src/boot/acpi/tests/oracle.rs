//! The `acpi` crate reads the same tables and must find the same.

use std::ptr::NonNull;

use ::acpi::sdt::fadt::Fadt as TheirFadt;
use ::acpi::sdt::madt::{Madt as TheirMadt, MadtEntry};
use ::acpi::sdt::mcfg::Mcfg as TheirMcfg;
use ::acpi::{AcpiTables, Handler, HpetInfo, PciAddress, RawPhysicalMapping};

use super::*;

/// Hands the crate copies of the fixture's memory.
#[derive(Clone)]
struct FixtureHandler(&'static FakeMem);

/// Methods that reading tables never calls.
macro_rules! unused {
    ($($name:ident($($arg:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $(_: $arg),*) $(-> $result)? {
            unreachable!("tables are read from memory only")
        })*
    };
}

impl Handler for FixtureHandler {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> RawPhysicalMapping<T> {
        let at = PhysAddr(address as u64);
        // The crate maps 36 bytes for a root pointer, of which an old one has only 20.
        let bytes = self.0.read(at, size).or_else(|| self.0.read(at, 20));
        let mut bytes = bytes
            .expect("the crate reads only what the fixture has")
            .to_vec();
        bytes.resize(size.max(size_of::<T>()), 0);
        let start = NonNull::from(Vec::leak(bytes)).cast();
        // SAFETY: the leaked copy is valid for `size` bytes for ever and is nobody else's; the types
        // of the crate's tables are packed and take any alignment and any bytes.
        unsafe { RawPhysicalMapping::new(address, start, size, size) }
    }

    unsafe fn unmap_physical_region<T>(&self, _: RawPhysicalMapping<T>) {}

    unused! {
        read_u8(usize) -> u8;
        read_u16(usize) -> u16;
        read_u32(usize) -> u32;
        read_u64(usize) -> u64;
        write_u8(usize, u8);
        write_u16(usize, u16);
        write_u32(usize, u32);
        write_u64(usize, u64);
        read_io_u8(u16) -> u8;
        read_io_u16(u16) -> u16;
        read_io_u32(u16) -> u32;
        write_io_u8(u16, u8);
        write_io_u16(u16, u16);
        write_io_u32(u16, u32);
        read_pci_u8(PciAddress, u16) -> u8;
        read_pci_u16(PciAddress, u16) -> u16;
        read_pci_u32(PciAddress, u16) -> u32;
        write_pci_u8(PciAddress, u16, u8);
        write_pci_u16(PciAddress, u16, u16);
        write_pci_u32(PciAddress, u16, u32);
        nanos_since_boot() -> u64;
        stall(u64);
        sleep(u64);
    }
}

/// The crate's view of a fixture.
fn theirs(mem: FakeMem, rsdp: u64) -> AcpiTables<FixtureHandler> {
    let mem = Box::leak(Box::new(mem));
    // SAFETY: the address is that of the fixture's root pointer, and the handler serves it.
    unsafe { AcpiTables::from_rsdp(FixtureHandler(mem), rsdp as usize) }.expect("valid tables")
}

/// CPUs, I/O APICs and overrides as the crate sees them.
type Entries = (Vec<(u32, u32, u32)>, Vec<(u8, u64, u32)>, Vec<(u8, u32)>);

fn their_entries(tables: &AcpiTables<FixtureHandler>) -> Entries {
    let madt = tables.find_table::<TheirMadt>().expect("a MADT");
    let mut found = Entries::default();
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(cpu) => {
                found.0.push((
                    u32::from(cpu.apic_id),
                    u32::from(cpu.processor_id),
                    cpu.flags,
                ));
            }
            MadtEntry::LocalX2Apic(cpu) => {
                found.0.push((cpu.x2apic_id, cpu.processor_uid, cpu.flags));
            }
            MadtEntry::IoApic(apic) => found.1.push((
                apic.io_apic_id,
                u64::from(apic.io_apic_address),
                apic.global_system_interrupt_base,
            )),
            MadtEntry::InterruptSourceOverride(line) => {
                found.2.push((line.irq, line.global_system_interrupt));
            }
            _ => {}
        }
    }
    found
}

fn our_entries(facts: &AcpiFacts) -> Entries {
    let madt = facts.madt.as_ref().expect("a MADT");
    let flags = |cpu: &CpuEntry| u32::from(cpu.enabled) | u32::from(cpu.online_capable) << 1;
    (
        madt.cpus
            .iter()
            .map(|cpu| (cpu.apic_id, cpu.acpi_uid, flags(cpu)))
            .collect(),
        madt.io_apics
            .iter()
            .map(|apic| (apic.id, apic.address.0, apic.gsi_base))
            .collect(),
        madt.overrides
            .iter()
            .map(|line| (line.source_irq, line.gsi))
            .collect(),
    )
}

fn compare(fixture: fn() -> FakeMem, rsdp: u64) {
    let tables = theirs(fixture(), rsdp);
    let (facts, _) = parse(&fixture(), rsdp);
    assert_eq!(our_entries(&facts), their_entries(&tables));

    let fadt = tables.find_table::<TheirFadt>().expect("a FADT");
    let ours = facts.fadt.expect("a FADT");
    assert_eq!(ours.sci_int, { fadt.sci_interrupt });
    let control = fadt.pm1a_control_block().expect("a control block").address;
    assert_eq!(ours.pm1a_control.map(|block| block.address), Some(control));
    let timer = fadt
        .pm_timer_block()
        .expect("an address")
        .expect("a timer")
        .address;
    assert_eq!(
        ours.pm_timer.map(|timer| u64::from(timer.port)),
        Some(timer)
    );
    assert_eq!(ours.dsdt.map(|at| at.0 as usize), fadt.dsdt_address().ok());

    let hpet = HpetInfo::new(&tables)
        .ok()
        .map(|hpet| hpet.base_address as u64);
    assert_eq!(facts.hpet_address().map(|at| at.0), hpet);
}

#[test]
fn the_acpi_crate_agrees_about_the_pc() {
    compare(pc, PC_RSDP);
}

/// The crate takes an address of 0 in the list for a table, so that hole is closed here.
fn server_without_hole() -> FakeMem {
    let mut mem = server();
    let list = [0x7000_2000, 0x7000_3000, 0x7000_4000, 0x7000_5000];
    mem.put(0x7000_1000, &xsdt(&list));
    mem
}

#[test]
fn the_acpi_crate_agrees_about_the_server() {
    compare(server_without_hole, SERVER_RSDP);
    let tables = theirs(server_without_hole(), SERVER_RSDP);
    let mcfg = tables.find_table::<TheirMcfg>().expect("an MCFG");
    let theirs: Vec<_> = mcfg
        .entries()
        .iter()
        .map(|entry| {
            (
                entry.base_address,
                entry.bus_number_start,
                entry.bus_number_end,
            )
        })
        .collect();
    let (facts, _) = parse(&server(), SERVER_RSDP);
    let ours: Vec<_> = facts
        .mcfg
        .iter()
        .map(|entry| (entry.base.0, entry.first_bus, entry.last_bus))
        .collect();
    // The third entry has its buses backwards; the crate passes it on, we do not.
    assert_eq!(ours, theirs[..2]);
}
