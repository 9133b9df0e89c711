//! The PCI devices that dom0 has reported (`physdev.h`, PHYSDEVOP_pci_device_add and its like).

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use crate::base::lock::{Mutex, rank};

/// Most devices kept.
const MAX_DEVICES: usize = 8192;

/// Where a PCI function is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "named as in the ABI")]
pub struct PciAddress {
    pub segment: u16,
    pub bus: u8,
    pub devfn: u8,
}

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

/// All reported devices, by address.
pub struct PciDevices(Mutex<Vec<PciDevice>>);

impl PciDevices {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(rank::PCI_DEVICES, Vec::new()))
    }

    /// Adds a device; one that is known is replaced.
    ///
    /// # Errors
    /// `ENOSPC` when there are too many, `ENOMEM`.
    pub fn add(&self, device: PciDevice) -> Result<(), Errno> {
        let mut devices = self.0.lock();
        match devices.binary_search_by_key(&device.address, |d| d.address) {
            Ok(at) => devices[at] = device,
            Err(_) if devices.len() >= MAX_DEVICES => return Err(Errno::ENOSPC),
            Err(at) => {
                devices.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                devices.insert(at, device);
            }
        }
        Ok(())
    }

    /// Forgets a device.
    ///
    /// # Errors
    /// `ENODEV` when it is not known.
    pub fn remove(&self, address: PciAddress) -> Result<(), Errno> {
        let mut devices = self.0.lock();
        let at = devices.binary_search_by_key(&address, |d| d.address);
        devices.remove(at.map_err(|_| Errno::ENODEV)?);
        Ok(())
    }

    /// A device (sysctl pcitopoinfo asks for its proximity domain).
    #[must_use]
    pub fn find(&self, address: PciAddress) -> Option<PciDevice> {
        let devices = self.0.lock();
        let at = devices.binary_search_by_key(&address, |d| d.address).ok()?;
        devices.get(at).copied()
    }
}

impl Default for PciDevices {
    fn default() -> Self {
        Self::new()
    }
}
