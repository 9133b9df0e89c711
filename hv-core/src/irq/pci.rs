//! The PCI functions that dom0 has reported (`physdev.h`, PHYSDEVOP_pci_device_add and its like), what of their
//! message interrupts is in use, and what dom0 may write to their configuration space and tables.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use xen_abi::errno::Errno;

use crate::base::PhysAddr;
use crate::base::lock::{Mutex, MutexGuard, rank};
pub use crate::pci::PciAddress;
use crate::pci::guard::{Guarded, Guards};
use crate::pci::message::{Message, is_message};
use crate::pci::msi::{Msi, Sending};
use crate::pci::msix::{self, Msix};
use crate::pci::{PciHost, ones, register};

/// Most devices kept.
const MAX_DEVICES: usize = 8192;

/// What a PCI function is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PciKind {
    /// A function of its own.
    Function,
    /// An extended function (ARI).
    Extended,
    /// A virtual function; its physical one's bus, device and function.
    Virtual {
        /// Bus.
        bus: u8,
        /// Device and function.
        devfn: u8,
    },
}

/// A PCI function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// What it is part of.
    pub kind: PciKind,
    /// Its proximity domain, when dom0 knows it (ACPI `_PXM`).
    pub proximity: Option<u32>,
}

/// The messages of a function that are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mapped {
    None,
    /// Without a table, so many.
    Msi(u32),
    /// Entries of the table, so many.
    Msix(u32),
}

/// A function, and what we found in it.
pub(super) struct Known {
    pub device: PciDevice,
    pub msi: Option<Msi>,
    pub msix: Option<Msix>,
    /// Size of the BARs of MSI-X table and pending bits.
    sizes: [u64; 2],
    /// Where dom0 says that the table's BAR is, for functions that do not.
    told_base: Option<PhysAddr>,
    /// The table, if it is somewhere.
    pub table: Option<PhysAddr>,
    pending: Option<PhysAddr>,
    pub mapped: Mapped,
    /// dom0 has said that the table stays where it is (`PHYSDEVOP_prepare_msix`).
    pub prepared: bool,
    /// A write of dom0's was dropped, and it was said.
    noted: bool,
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It is made, with this value.
    Write(u32),
    /// It is not.
    Drop,
}

impl Known {
    /// Reads the capabilities; the function has no driver yet.
    fn new(host: &dyn PciHost, device: PciDevice) -> Self {
        let at = device.address;
        let msix = Msix::find(host, at);
        let sizes = match (&msix, device.kind) {
            (Some(m), PciKind::Function | PciKind::Extended) => {
                let table = msix::bar_size(host, at, m.table.bar);
                let pending = if m.pending.bar == m.table.bar {
                    table
                } else {
                    msix::bar_size(host, at, m.pending.bar)
                };
                [table, pending]
            }
            // The BARs of virtual functions are in the physical one, and what dom0 says counts.
            _ => [u64::MAX; 2],
        };
        Self {
            device,
            msi: Msi::find(host, at),
            msix,
            sizes,
            told_base: None,
            table: None,
            pending: None,
            mapped: Mapped::None,
            prepared: false,
            noted: false,
        }
    }

    /// Where something in a BAR is: inside of it, and over nothing that is RAM, ours or the addresses of messages.
    fn locate(
        &self,
        host: &dyn PciHost,
        place: msix::Place,
        len: u64,
        size: u64,
    ) -> Option<PhysAddr> {
        let end = u64::from(place.offset) + len;
        let base = msix::bar_base(host, self.device.address, place.bar)
            .filter(|base| base.0 != 0)
            .or(self.told_base)?;
        let first = PhysAddr(base.0.checked_add(u64::from(place.offset))?);
        first.0.checked_add(len)?;
        let free = !host.is_taken(first, len) && !is_message(first, len);
        (end <= size && free).then_some(first)
    }

    /// Looks where table and pending bits are now, and guards them.
    fn relocate(&mut self, host: &dyn PciHost, guards: &Guards) -> Result<(), Errno> {
        let Some(m) = self.msix else { return Ok(()) };
        self.table = self.locate(host, m.table, m.table_len(), self.sizes[0]);
        self.pending = self.locate(host, m.pending, m.pending_len(), self.sizes[1]);
        let mut ranges = ArrayVec::<_, 2>::new();
        ranges.extend(self.table.map(|t| (t, m.table_len())));
        ranges.extend(self.pending.map(|p| (p, m.pending_len())));
        guards.set_tables(self.device.address, &ranges)
    }

    /// dom0 says where the table's BAR is; it counts where the function does not know.
    pub fn tell_base(
        &mut self,
        host: &dyn PciHost,
        guards: &Guards,
        base: u64,
    ) -> Result<(), Errno> {
        if self.table.is_none() && base != 0 {
            self.told_base = Some(PhysAddr(base));
            self.relocate(host, guards)?;
        }
        Ok(())
    }

    /// Whether any of these bytes belongs to the table or the pending bits.
    fn has_in_table(&self, at: PhysAddr, bytes: u8) -> bool {
        let Some(m) = &self.msix else { return false };
        let touches = |first: Option<PhysAddr>, len: u64| {
            first.is_some_and(|f| at.0 < f.0 + len && f.0 < at.0 + u64::from(bytes))
        };
        touches(self.table, m.table_len()) || touches(self.pending, m.pending_len())
    }

    /// What becomes of a write to configuration space.
    fn judge(&self, host: &dyn PciHost, register: u16, bytes: u8, value: u32) -> Verdict {
        let (aligned, shift) = (register & !3, 8 * u32::from(register & 3));
        let mut value = value;
        if let Some(m) = &self.msix
            && m.capability == aligned
        {
            let in_use = matches!(self.mapped, Mapped::Msix(_));
            value = m.filter(value << shift, in_use) >> shift;
        }
        let Some(m) = &self.msi else {
            return Verdict::Write(value);
        };
        let in_use = matches!(self.mapped, Mapped::Msi(_));
        let (fixed, clear_only) = m.protected(aligned, in_use);
        let all = ones(bytes) as u32;
        let (fixed, clear_only) = (fixed >> shift & all, clear_only >> shift & all);
        if fixed | clear_only == 0 {
            return Verdict::Write(value);
        }
        if fixed == all {
            return Verdict::Drop;
        }
        let now = host.config_read(self.device.address, register, bytes);
        Verdict::Write(value & !(fixed | clear_only) | now & (fixed | value & clear_only))
    }

    /// Says once that dom0 writes what is ours.
    fn note(&mut self, what: &str) {
        if !self.noted {
            self.noted = true;
            let at = self.device.address;
            log::info!("d0: a write to the {what} of {at} was dropped, like those to come");
        }
    }
}

/// All reported functions, by address, and the pages that are guarded for them.
pub struct PciDevices {
    host: &'static dyn PciHost,
    /// What dom0 may only read.
    pub guards: Guards,
    list: Mutex<Vec<Known>>,
}

/// The list, locked.
pub(super) type Devices<'a> = MutexGuard<'a, Vec<Known>>;

/// A function in the list.
pub(super) fn find<'a>(list: &'a mut Devices<'_>, at: PciAddress) -> Result<&'a mut Known, Errno> {
    let index = list.binary_search_by_key(&at, |k| k.device.address);
    list.get_mut(index.map_err(|_| Errno::ENODEV)?)
        .ok_or(Errno::ENODEV)
}

impl PciDevices {
    /// None.
    #[must_use]
    pub const fn new(host: &'static dyn PciHost) -> Self {
        Self {
            host,
            guards: Guards::new(),
            list: Mutex::new(rank::PCI_DEVICES, Vec::new()),
        }
    }

    /// Access to the devices.
    #[must_use]
    pub fn host(&self) -> &'static dyn PciHost {
        self.host
    }

    /// Locks the list: the first of this layer's locks.
    pub(super) fn lock(&self) -> Devices<'_> {
        self.list.lock()
    }

    /// Adds a function; one that is known stays as it is, but for what it is part of.
    ///
    /// # Errors
    /// `ENOSPC` when there are too many, `ENOMEM`.
    pub fn add(&self, device: PciDevice) -> Result<(), Errno> {
        let mut list = self.list.lock();
        match list.binary_search_by_key(&device.address, |k| k.device.address) {
            Ok(at) => list[at].device = device,
            Err(_) if list.len() >= MAX_DEVICES => return Err(Errno::ENOSPC),
            Err(at) => {
                list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                let mut known = Known::new(self.host, device);
                known.relocate(self.host, &self.guards)?;
                list.insert(at, known);
            }
        }
        Ok(())
    }

    /// Forgets a function that has no messages any more.
    pub(super) fn forget(&self, list: &mut Devices<'_>, address: PciAddress) {
        list.retain(|k| k.device.address != address);
        // Nothing is added, so nothing can be missing.
        let _ = self.guards.set_tables(address, &[]);
    }

    /// A device (sysctl pcitopoinfo asks for its proximity domain).
    #[must_use]
    pub fn find(&self, address: PciAddress) -> Option<PciDevice> {
        find(&mut self.list.lock(), address).ok().map(|k| k.device)
    }

    /// A write of dom0's to configuration space: made, as far as it is not about messages that are ours. `moved` gets
    /// what has to follow when a table is elsewhere afterwards.
    pub(super) fn config_write(
        &self,
        at: PciAddress,
        register: u16,
        bytes: u8,
        value: u32,
    ) -> Option<(Devices<'_>, PciAddress)> {
        let mut list = self.list.lock();
        let Ok(known) = find(&mut list, at) else {
            self.host.config_write(at, register, bytes, value);
            return None;
        };
        match known.judge(self.host, register, bytes, value) {
            Verdict::Write(value) => self.host.config_write(at, register, bytes, value),
            Verdict::Drop => known.note("message registers"),
        }
        let bars = register::BARS..register::BARS + 24;
        if known.msix.is_none() || !bars.contains(&(register & !3)) {
            return None;
        }
        let before = known.table;
        if known.relocate(self.host, &self.guards).is_err() {
            known.table = None;
        }
        (known.table != before).then_some((list, at))
    }

    /// A store of dom0's to a page with a table: made where it is to other registers.
    pub(super) fn table_write(&self, at: PhysAddr, bytes: u8, value: u64) {
        let mut list = self.list.lock();
        match list.iter_mut().find(|k| k.has_in_table(at, bytes)) {
            Some(known) => known.note("MSI-X table"),
            None if self.host.is_taken(at, u64::from(bytes)) => {}
            None => self.host.register_write(at, bytes, value),
        }
    }

    /// What a byte is, if dom0 may only read its page.
    #[must_use]
    pub fn guarded(&self, at: PhysAddr) -> Option<Guarded> {
        self.guards.find(at)
    }

    /// Turns the messages of a function off, since the last is gone.
    pub(super) fn turn_off(&self, known: &mut Known) {
        let at = known.device.address;
        match (known.mapped, known.msi, known.msix) {
            (Mapped::Msi(_), Some(msi), _) => msi.set_control(self.host, at, 1, Sending::Off),
            (Mapped::Msix(_), _, Some(msix)) => msix.disable(self.host, at),
            _ => {}
        }
        known.mapped = Mapped::None;
    }

    /// Masks all entries of a function's table, since the first is mapped.
    ///
    /// # Errors
    /// `ENXIO` when the table is nowhere, or the function does not answer.
    pub(super) fn mask_all(&self, known: &Known) -> Result<(), Errno> {
        let (table, m) = (known.table, known.msix.ok_or(Errno::ENODEV)?);
        let table = table.ok_or(Errno::ENXIO)?;
        if !msix::answers(self.host, known.device.address) {
            return Err(Errno::ENXIO);
        }
        Message::mask_table(self.host, table, m.entries);
        Ok(())
    }
}
