//! Pages outside RAM that dom0 may only read, because stores to them are checked one by one: configuration space in
//! memory, and the tables of MSI-X.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use super::PciAddress;
use crate::base::lock::{Mutex, rank};
use crate::base::{Mfn, PAGE_SIZE, PhysAddr};
use crate::boot::acpi::Mcfg;

/// Bytes of configuration space of a function.
const FUNCTION: u64 = 4096;
/// Functions of a bus.
const FUNCTIONS: u64 = 256;

/// Whether the firmware keeps a range of addresses free for what it says is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Reserved {
    Yes,
    No,
}

/// Configuration space in memory.
struct Window {
    place: Mcfg,
    /// The firmware's memory map, or dom0 from the firmware's code, says that it is for this: we use it too.
    reserved: bool,
}

impl Window {
    fn first(&self) -> u64 {
        self.place.base.0 + u64::from(self.place.first_bus) * FUNCTIONS * FUNCTION
    }

    /// First byte behind it.
    fn end(&self) -> u64 {
        self.place.base.0 + (u64::from(self.place.last_bus) + 1) * FUNCTIONS * FUNCTION
    }
}

/// The pages of a function's tables, first and last.
struct Pages {
    device: PciAddress,
    first: u64,
    last: u64,
}

/// What a guarded byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarded {
    /// A register of configuration space.
    Config(PciAddress, u16),
    /// It lies in a page with a table.
    Table,
}

/// All of them.
pub struct Guards {
    windows: Mutex<Vec<Window>>,
    tables: Mutex<Vec<Pages>>,
}

impl Default for Guards {
    fn default() -> Self {
        Self::new()
    }
}

impl Guards {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            windows: Mutex::new(rank::CONFIG_WINDOWS, Vec::new()),
            tables: Mutex::new(rank::TABLE_PAGES, Vec::new()),
        }
    }

    /// Adds configuration space that the firmware's table names; `reserved` when its memory map agrees.
    ///
    /// # Errors
    /// `EINVAL` when it ends beyond all addresses, `ENOMEM`.
    pub fn add_window(&self, place: Mcfg, reserved: Reserved) -> Result<(), Errno> {
        let len = (u64::from(place.last_bus) + 1) * FUNCTIONS * FUNCTION;
        place.base.0.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut windows = self.windows.lock();
        windows.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        windows.push(Window {
            place,
            reserved: reserved == Reserved::Yes,
        });
        Ok(())
    }

    /// dom0 says whether the firmware has reserved a window (`PHYSDEVOP_pci_mmcfg_reserved`).
    ///
    /// # Errors
    /// `ENODEV` for buses that the firmware's table does not name together, `EIO` when it names another place.
    pub fn set_reserved(&self, place: Mcfg, reserved: Reserved) -> Result<(), Errno> {
        let mut windows = self.windows.lock();
        let buses = |m: Mcfg| (m.segment, m.first_bus, m.last_bus);
        let window = windows.iter_mut().find(|w| buses(w.place) == buses(place));
        let window = window.ok_or(Errno::ENODEV)?;
        if window.place.base != place.base {
            return Err(Errno::EIO);
        }
        window.reserved = reserved == Reserved::Yes;
        Ok(())
    }

    /// Where a register of configuration space is in memory, if it is and may be used.
    #[must_use]
    pub fn address_of(&self, at: PciAddress, register: u16) -> Option<PhysAddr> {
        let windows = self.windows.lock();
        let window = windows.iter().find(|w| {
            let Mcfg {
                segment,
                first_bus,
                last_bus,
                ..
            } = w.place;
            w.reserved && segment == at.segment && (first_bus..=last_bus).contains(&at.bus)
        })?;
        let function = u64::from(at.bus) * FUNCTIONS + u64::from(at.devfn);
        Some(PhysAddr(
            window.place.base.0 + function * FUNCTION + u64::from(register & 0xfff),
        ))
    }

    /// Guards the pages of a function's tables, in the place of those it had.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_tables(&self, device: PciAddress, ranges: &[(PhysAddr, u64)]) -> Result<(), Errno> {
        let mut tables = self.tables.lock();
        tables.retain(|t| t.device != device);
        tables
            .try_reserve(ranges.len())
            .map_err(|_| Errno::ENOMEM)?;
        for (first, len) in ranges {
            tables.push(Pages {
                device,
                first: first.mfn().0,
                last: (first.0 + len.saturating_sub(1)) / PAGE_SIZE as u64,
            });
        }
        Ok(())
    }

    /// Whether a page is guarded.
    #[must_use]
    pub fn guards(&self, page: Mfn) -> bool {
        self.find(page.addr()).is_some()
    }

    /// What a byte is, if its page is guarded.
    #[must_use]
    pub fn find(&self, at: PhysAddr) -> Option<Guarded> {
        if let Some(window) = self
            .windows
            .lock()
            .iter()
            .find(|w| (w.first()..w.end()).contains(&at.0))
        {
            let offset = at.0 - window.place.base.0;
            let function = offset / FUNCTION;
            let address = PciAddress {
                segment: window.place.segment,
                bus: (function / FUNCTIONS) as u8,
                devfn: function as u8,
            };
            return Some(Guarded::Config(address, (offset % FUNCTION) as u16));
        }
        let page = at.mfn().0;
        let tables = self.tables.lock();
        let found = tables.iter().any(|t| (t.first..=t.last).contains(&page));
        found.then_some(Guarded::Table)
    }
}
