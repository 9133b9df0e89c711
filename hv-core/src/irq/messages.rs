//! Message interrupts: mapping the messages of a PCI function, and what becomes of dom0's writes to it.
//!
//! The list of functions is locked throughout (it is the first lock of this layer), so messages of one
//! function are mapped, unmapped, moved and restored one after the other.

use xen_abi::errno::Errno;

use super::pci::{Devices, Known, Mapped, PciAddress, find};
use super::pirqs::Irqs;
use crate::base::{DomId, PhysAddr};
use crate::pci::guard::Guarded;
use crate::pci::message::{Form, Message};
use crate::pci::msi::Sending;
use crate::pci::msix;

/// Most messages of a function without a table.
const MOST_MESSAGES: u32 = 32;

/// Which messages of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Messages {
    /// So many without a table; rounded up to a power of two.
    Msi {
        /// How many, 1 to 32.
        count: u32,
    },
    /// An entry of its table.
    Msix {
        /// Which.
        entry: u32,
        /// Where dom0 thinks that the BAR with the table is.
        base: u64,
    },
}

/// What dom0 says of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum TableStays {
    Yes,
    No,
}

/// Why messages cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmappable {
    /// The function sends fewer, so many.
    TooMany(u32),
    /// Something else.
    Errno(Errno),
}

impl From<Errno> for Unmappable {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Irqs {
    /// Maps messages of a function to numbers of a domain, which follow each other, and gives the first and how many
    /// they are. They are held back, where they can be, until they are bound.
    ///
    /// # Errors
    /// `ENODEV` for a function that was not reported or cannot send such messages; `EEXIST` for messages that are
    /// mapped; `EBUSY` when the other kind is; `EDOM` for a number of messages that does not exist; `EINVAL` for an entry that is not in the table; `ENXIO` for a table that
    /// cannot be reached; `ENOSPC` when no vector, number or slot is left; `TooMany`. Else those of
    /// [`NumberTable::map_messages`](super::numbers::NumberTable::map_messages).
    pub fn map_messages(
        &self,
        domain: DomId,
        (device, messages): (PciAddress, Messages),
        wanted: Option<u32>,
    ) -> Result<(u32, u32), Unmappable> {
        let mut list = self.pci.lock();
        let known = find(&mut list, device)?;
        let (form, count) = match messages {
            Messages::Msi { count } => {
                if !(1..=MOST_MESSAGES).contains(&count) {
                    return Err(Errno::EDOM.into());
                }
                let count = count.next_power_of_two();
                (self.msi_form(known, count)?, count)
            }
            Messages::Msix { entry, base } => (self.msix_form(domain, known, entry, base)?, 1),
        };
        let first = self.free_run(count).ok_or(Errno::ENOSPC)?;
        let pirq = self
            .numbers
            .write()
            .map_messages(domain, first, count, wanted)?;
        let vector = match self.vectors.allocate_run(first, count as u8) {
            Ok(vector) => vector,
            Err(errno) => {
                for number in pirq..pirq + count {
                    let _ = self.numbers.write().unmap(domain, number);
                }
                log::warn!("d{domain}: {count} more vectors for messages of {device}: {errno}");
                return Err(errno.into());
            }
        };
        for index in 0..count {
            let message = Message {
                device,
                form: nth(form, index as u8),
            };
            if let Ok((pin, mut line)) = self.line(first + index) {
                line.take_message(pin, message, vector + index as u8, self.destination(0));
            }
        }
        known.mapped = match (form, known.mapped) {
            (Form::Msi { .. }, _) => Mapped::Msi(count),
            (Form::Msix { .. }, Mapped::Msix(before)) => Mapped::Msix(before + 1),
            (Form::Msix { .. }, _) => Mapped::Msix(1),
        };
        Ok((pirq, count))
    }

    /// The first of the messages without a table that are to be mapped; the function is told how many it may use.
    fn msi_form(&self, known: &Known, count: u32) -> Result<Form, Unmappable> {
        let at = known.device.address;
        let msi = known.msi.ok_or(Errno::ENODEV)?;
        match known.mapped {
            Mapped::None => {}
            Mapped::Msi(_) => return Err(Errno::EEXIST.into()),
            Mapped::Msix(_) => return Err(Errno::EBUSY.into()),
        }
        if count > msi.messages {
            return Err(Unmappable::TooMany(msi.messages));
        }
        msi.set_control(self.pci.host(), at, count, Sending::Off);
        Ok(Form::Msi {
            msi,
            index: 0,
            count: count as u8,
        })
    }

    /// The entry of the table that is to be mapped; all are masked when it is the first.
    fn msix_form(
        &self,
        domain: DomId,
        known: &mut Known,
        entry: u32,
        base: u64,
    ) -> Result<Form, Unmappable> {
        let m = known.msix.ok_or(Errno::ENODEV)?;
        if entry >= m.entries {
            return Err(Errno::EINVAL.into());
        }
        match known.mapped {
            Mapped::None => {
                known.tell_base(self.pci.host(), &self.pci.guards, base)?;
                self.pci.mask_all(known).inspect_err(|errno| {
                    let at = known.device.address;
                    log::warn!("d{domain}: the MSI-X table of {at} cannot be used: {errno}");
                })?;
            }
            Mapped::Msix(_) => {}
            Mapped::Msi(_) => return Err(Errno::EBUSY.into()),
        }
        let index = entry as u16;
        let is_same = |form: Form| matches!(form, Form::Msix { index: i, .. } if i == index);
        let at = known.device.address;
        if self.messages_of(at).any(|(_, m)| is_same(m.form)) {
            return Err(Errno::EEXIST.into());
        }
        Ok(Form::Msix {
            index,
            entry: entry_at(known.table, index),
        })
    }

    /// Message lines in a row that are free.
    fn free_run(&self, count: u32) -> Option<u32> {
        let mut run = 0;
        for index in self.line_count()..self.pirq_limit() {
            let free = self.message(index).is_none();
            run = if free { run + 1 } else { 0 };
            if run == count {
                return Some(index + 1 - count);
            }
        }
        None
    }

    fn message(&self, index: u32) -> Option<Message> {
        let line = self.lines.get(index as usize)?;
        line.state.lock().message()
    }

    /// The messages of a function that are mapped, with their lines.
    fn messages_of(&self, device: PciAddress) -> impl Iterator<Item = (u32, Message)> + '_ {
        (self.line_count()..self.pirq_limit())
            .filter_map(|index| Some((index, self.message(index)?)))
            .filter(move |(_, message)| message.device == device)
    }

    /// Takes the messages back that a number of a domain stands for; `false` when it stands for none.
    pub(super) fn unmap_messages(&self, domain: DomId, pirq: u32) -> Result<bool, Errno> {
        let mut list = self.pci.lock();
        let Some(line) = self.numbers.read().line_of(domain, pirq) else {
            return Ok(false);
        };
        let Some(message) = self.message(line) else {
            return Ok(false);
        };
        let count = match message.form {
            Form::Msi { index, .. } if index != 0 => return Err(Errno::EBUSY),
            Form::Msi { count, .. } => u32::from(count),
            Form::Msix { .. } => 1,
        };
        self.drop_messages(&mut list, message.device, (line, count));
        Ok(true)
    }

    /// Takes lines with messages of one function back, with the numbers that stand for them.
    fn drop_messages(&self, list: &mut Devices<'_>, device: PciAddress, (line, count): (u32, u32)) {
        if let Ok(known) = find(list, device) {
            match &mut known.mapped {
                Mapped::Msix(left) if *left > count => *left -= count,
                _ => self.pci.turn_off(known),
            }
        }
        let mut numbers = self.numbers.write();
        for index in line..line + count {
            if let Ok((pin, mut line)) = self.line(index)
                && let Some(vector) = line.drop_message(pin)
            {
                self.vectors.release(vector);
            }
            if let Some((domain, pirq)) = numbers.number_of(index) {
                let _ = numbers.unmap(domain, pirq);
            }
        }
    }

    /// Takes all messages of a dying domain back.
    pub(super) fn forget_messages(&self, domain: DomId) {
        let mut list = self.pci.lock();
        for index in self.line_count()..self.pirq_limit() {
            let owner = self.numbers.read().number_of(index);
            if owner.is_some_and(|(d, _)| d == domain)
                && let Some(message) = self.message(index)
            {
                self.drop_messages(&mut list, message.device, (index, 1));
            }
        }
    }

    /// Forgets a function and its messages (`PHYSDEVOP_pci_device_remove`).
    ///
    /// # Errors
    /// `ENODEV` when it is not known.
    pub fn remove_device(&self, device: PciAddress) -> Result<(), Errno> {
        let mut list = self.pci.lock();
        find(&mut list, device)?;
        while let Some((index, _)) = self.messages_of(device).next() {
            self.drop_messages(&mut list, device, (index, 1));
        }
        self.pci.forget(&mut list, device);
        Ok(())
    }

    /// dom0 says that the table of a function stays where it is, or may move (`PHYSDEVOP_prepare_msix`,
    /// `_release_msix`).
    ///
    /// # Errors
    /// `ENODEV` for a function that is not known or has no table, `EBUSY` while its messages are mapped or when that
    /// was said before, `ENXIO` for a table that is nowhere.
    pub fn prepare_table(&self, device: PciAddress, stays: TableStays) -> Result<(), Errno> {
        let mut list = self.pci.lock();
        let known = find(&mut list, device)?;
        known.msix.ok_or(Errno::ENODEV)?;
        if known.mapped != Mapped::None || known.prepared == (stays == TableStays::Yes) {
            return Err(Errno::EBUSY);
        }
        if stays == TableStays::Yes {
            known.table.ok_or(Errno::ENXIO)?;
        }
        known.prepared = stays == TableStays::Yes;
        Ok(())
    }

    /// Writes all messages of a function again, because it has forgotten them (`PHYSDEVOP_restore_msi`).
    ///
    /// # Errors
    /// `ENODEV` when it is not known, `ENXIO` when its table cannot be reached.
    pub fn restore_messages(&self, device: PciAddress) -> Result<(), Errno> {
        let (mut list, host) = (self.pci.lock(), self.pci.host());
        let known = find(&mut list, device)?;
        match (known.mapped, known.msi) {
            (Mapped::Msi(count), Some(msi)) => {
                let sending = msi.sending(host, device);
                msi.set_control(host, device, count, Sending::Off);
                self.restore_lines(device);
                msi.set_control(host, device, count, sending);
            }
            (Mapped::Msix(_), _) => {
                self.pci.mask_all(known)?;
                self.restore_lines(device);
            }
            _ => {}
        }
        Ok(())
    }

    fn restore_lines(&self, device: PciAddress) {
        for (index, _) in self.messages_of(device) {
            if let Ok((pin, mut line)) = self.line(index) {
                let to = self.destination(line.cpu());
                line.restore(pin, to);
            }
        }
    }

    /// A write of dom0's to configuration space.
    pub fn config_write(&self, at: PciAddress, register: u16, bytes: u8, value: u32) {
        let Some((mut list, device)) = self.pci.config_write(at, register, bytes, value) else {
            return;
        };
        // The table has moved, and its messages with it.
        let Ok(known) = find(&mut list, device) else {
            return;
        };
        for (index, message) in self.messages_of(device) {
            if let (Form::Msix { index: entry, .. }, Ok((_, mut line))) =
                (message.form, self.line(index))
            {
                line.set_message(Message {
                    device,
                    form: Form::Msix {
                        index: entry,
                        entry: entry_at(known.table, entry),
                    },
                });
            }
        }
    }

    /// A store of dom0's to a page that it may only read; `false` when that is not because of PCI.
    #[must_use]
    pub fn guarded_write(&self, at: PhysAddr, bytes: u8, value: u64) -> bool {
        match self.pci.guarded(at) {
            Some(Guarded::Config(device, register)) => {
                if bytes <= 4 {
                    self.config_write(device, register, bytes, value as u32);
                } else {
                    self.config_write(device, register, 4, value as u32);
                    self.config_write(device, register + 4, 4, (value >> 32) as u32);
                }
                true
            }
            Some(Guarded::Table) => {
                self.pci.table_write(at, bytes, value);
                true
            }
            None => false,
        }
    }
}

/// Another of the messages that a function sends without a table.
fn nth(form: Form, index: u8) -> Form {
    match form {
        Form::Msi { msi, count, .. } => Form::Msi { msi, index, count },
        other @ Form::Msix { .. } => other,
    }
}

/// Where an entry of a table is.
fn entry_at(table: Option<PhysAddr>, index: u16) -> Option<PhysAddr> {
    table.map(|t| PhysAddr(t.0 + u64::from(index) * msix::ENTRY))
}
