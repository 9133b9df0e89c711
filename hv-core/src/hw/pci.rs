//! PCI: configuration space by the two ports or in memory, and registers of devices through one page of ours.

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::acpi::Mcfg;
use hv_core::boot::memmap::RegionKind;
use hv_core::irq::Irqs;
use hv_core::mm::{IoAccess, PtMachine};
use hv_core::pci::guard::{Guarded, Reserved};
use hv_core::pci::{PciAddress, PciHost};
use hv_core::pv::ports::Width;
use spin::Once;

use super::host::{HW, address_limit};
use super::paging::{self, flag};
use super::privileged::{self, Ports};
use super::start::Boot;
use super::{devices, mmio};

/// The machine's devices.
pub struct Pci;

/// The page through which registers are reached: every use maps it anew, and forgets what this CPU knew of it.
static PAGE: Once<Mutex<u64>> = Once::new();

/// The function and register that a configuration address names.
pub fn decode(address: u32, lane: u16) -> (PciAddress, u16) {
    let at = PciAddress {
        segment: 0,
        bus: (address >> 16) as u8,
        devfn: (address >> 8) as u8,
    };
    (at, (address & 0xfc) as u16 | lane & 3)
}

/// The address for the ports, where these reach the register.
fn encode(at: PciAddress, register: u16) -> Option<u32> {
    let low = u32::from(at.bus) << 16 | u32::from(at.devfn) << 8 | u32::from(register & 0xfc);
    (at.segment == 0 && register < 0x100).then_some(1 << 31 | low)
}

fn width(bytes: u8) -> Width {
    match bytes {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    }
}

/// Accesses `bytes` at an address that is no RAM, nor any register of ours.
fn access<R>(at: PhysAddr, what: impl FnOnce(u64) -> R) -> R {
    let page = PAGE.call_once(|| Mutex::new(rank::DEVICE_PAGE, paging::device_page()));
    let va = page.lock();
    paging::set_page(*va, at.mfn().addr().0 | flag::MMIO & !flag::G);
    what(*va + at.offset() as u64)
}

fn write(at: PhysAddr, bytes: u8, value: u64) {
    access(at, |va| {
        // SAFETY: the page is mapped for this, uncached, and the callers have seen that neither RAM nor a register
        // of ours is there. The access is aligned to its size.
        unsafe {
            match bytes {
                1 => (va as *mut u8).write_volatile(value as u8),
                2 => (va as *mut u16).write_volatile(value as u16),
                4 => (va as *mut u32).write_volatile(value as u32),
                _ => (va as *mut u64).write_volatile(value),
            }
        }
    });
}

fn read(at: PhysAddr, bytes: u8) -> u32 {
    access(at, |va| {
        // SAFETY: as for writes.
        unsafe {
            match bytes {
                1 => u32::from((va as *const u8).read_volatile()),
                2 => u32::from((va as *const u16).read_volatile()),
                _ => (va as *const u32).read_volatile(),
            }
        }
    })
}

impl PciHost for Pci {
    fn config_read(&self, at: PciAddress, register: u16, bytes: u8) -> u32 {
        let width = width(bytes);
        if let Some(address) = encode(at, register) {
            let shared = &privileged::tables().shared_ports;
            return shared.config_read(&Ports, address, register & 3, width) & width.mask();
        }
        match devices::config_address(at, register) {
            Some(place) => read(place, bytes),
            None => width.mask(),
        }
    }

    fn config_write(&self, at: PciAddress, register: u16, bytes: u8, value: u32) {
        if let Some(address) = encode(at, register) {
            let shared = &privileged::tables().shared_ports;
            shared.config_write(&Ports, address, register & 3, width(bytes), value);
        } else if let Some(place) = devices::config_address(at, register) {
            write(place, bytes, u64::from(value));
        }
    }

    fn register_read(&self, at: PhysAddr) -> u32 {
        read(at, 4)
    }

    fn register_write(&self, at: PhysAddr, bytes: u8, value: u64) {
        write(at, bytes, value);
    }

    fn is_taken(&self, first: PhysAddr, len: u64) -> bool {
        let Some(last) = first.0.checked_add(len.max(1) - 1) else {
            return true;
        };
        (first.mfn().0..=last / PAGE_SIZE as u64).any(|frame| {
            let frame = Mfn(frame);
            let config = matches!(devices::guarded(frame), Some(Guarded::Config(..)));
            frame.0 >= address_limit()
                || HW.frame(frame).is_some_and(|f| !f.is_io())
                || mmio::ours(frame) != IoAccess::Full
                || config
        })
    }
}

/// Notes the windows of configuration space that the firmware's table names; one that overlaps RAM is left out.
pub fn add_windows(irqs: &Irqs, boot: &Boot) {
    for place in &boot.acpi.mcfg {
        let Mcfg {
            base,
            segment,
            first_bus,
            last_bus,
        } = *place;
        let bus = |number: u64| base.0.saturating_add(number << 20);
        let (first, end) = (bus(first_bus.into()), bus(u64::from(last_bus) + 1));
        let overlaps = boot.memory.usable().any(|ram| {
            let (from, to) = (ram.start.addr().0, ram.end.addr().0);
            from < end && first < to
        });
        if overlaps {
            log::warn!(
                "PCI segment {segment:#x}: configuration space at {first:#x} overlaps RAM: not used"
            );
            continue;
        }
        let reserved = boot.memory.regions().iter().any(|r| {
            r.kind != RegionKind::Usable
                && r.base.0 <= first
                && end <= r.base.0.saturating_add(r.len)
        });
        let known = if reserved {
            Reserved::Yes
        } else {
            Reserved::No
        };
        match irqs.pci.guards.add_window(*place, known) {
            Ok(()) => log::info!(
                "PCI segment {segment:#x}: configuration space of buses {first_bus:#x} to {last_bus:#x} at {first:#x}{}",
                if reserved {
                    ""
                } else {
                    ", used once dom0 finds it reserved"
                }
            ),
            Err(why) => log::warn!("PCI segment {segment:#x}: configuration space: {why}"),
        }
    }
}
