//! The multiple APIC description table: CPUs and interrupt controllers (ACPI specification,
//! 5.2.12).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use super::table::{Entry, Table, push_bounded};
use super::warning::{AcpiWarning, Warnings};
use crate::base::PhysAddr;

/// Most CPUs taken.
const MAX_CPUS: usize = 4096;
/// Most I/O APICs taken.
const MAX_IO_APICS: usize = 128;
/// Most interrupt overrides taken: there are 16 ISA interrupts.
const MAX_OVERRIDES: usize = 64;
/// Most NMI entries of either kind taken.
const MAX_NMIS: usize = 4096;
/// Bytes before the first entry.
const HEAD_LEN: usize = 44;

/// Entry types.
mod kind {
    pub const LOCAL_APIC: u8 = 0;
    pub const IO_APIC: u8 = 1;
    pub const OVERRIDE: u8 = 2;
    pub const NMI_SOURCE: u8 = 3;
    pub const LOCAL_APIC_NMI: u8 = 4;
    pub const LOCAL_APIC_ADDRESS: u8 = 5;
    pub const LOCAL_X2APIC: u8 = 9;
    pub const LOCAL_X2APIC_NMI: u8 = 10;
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuEntry {
    /// Its local APIC's identifier.
    pub apic_id: u32,
    /// What AML calls it.
    pub acpi_uid: u32,
    /// It can be started.
    pub enabled: bool,
    /// It is not there or not powered, but may come.
    pub online_capable: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicEntry {
    /// Its identifier.
    pub id: u8,
    /// Its registers.
    pub address: PhysAddr,
    /// The first global interrupt that it serves.
    pub gsi_base: u32,
}

/// Which level of an interrupt line is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// As the bus has it (ISA: high).
    BusDefault,
    /// Active high.
    High,
    /// Active low.
    Low,
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// As the bus has it (ISA: edge).
    BusDefault,
    /// By a change of level.
    Edge,
    /// By the level itself.
    Level,
}

impl fmt::Display for Polarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BusDefault => "dfl",
            Self::High => "high",
            Self::Low => "low",
        })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BusDefault => "dfl",
            Self::Edge => "edge",
            Self::Level => "level",
        })
    }
}

/// Polarity and trigger from the flags word that entries share (table "MPS INTI Flags").
fn line_mode(flags: u16) -> Option<(Polarity, Trigger)> {
    let polarity = match flags & 3 {
        0 => Polarity::BusDefault,
        1 => Polarity::High,
        3 => Polarity::Low,
        _ => return None,
    };
    let trigger = match flags >> 2 & 3 {
        0 => Trigger::BusDefault,
        1 => Trigger::Edge,
        3 => Trigger::Level,
        _ => return None,
    };
    Some((polarity, trigger))
}

/// An ISA interrupt that is not wired as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt.
    pub source_irq: u8,
    /// The global interrupt that it arrives at.
    pub gsi: u32,
    /// Its active level.
    pub polarity: Polarity,
    /// Its signal.
    pub trigger: Trigger,
}

impl fmt::Display for Override {
    /// As the boot log has it: `INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "INT_SRC_OVR (bus 0 bus_irq {} global_irq {} {} {})",
            self.source_irq, self.gsi, self.polarity, self.trigger
        )
    }
}

/// An I/O APIC input that is an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NmiSource {
    /// The global interrupt.
    pub gsi: u32,
    /// Its active level.
    pub polarity: Polarity,
    /// Its signal.
    pub trigger: Trigger,
}

/// Which CPUs an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuTarget {
    /// All of them.
    All,
    /// The one with this [`CpuEntry::acpi_uid`].
    Uid(u32),
}

/// A local APIC input that is an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// Whose.
    pub target: CpuTarget,
    /// LINT0 or LINT1.
    pub lint: u8,
    /// Its active level.
    pub polarity: Polarity,
    /// Its signal.
    pub trigger: Trigger,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Madt {
    /// Where every CPU sees its local APIC.
    pub local_apic_address: PhysAddr,
    /// There is a pair of 8259 interrupt controllers, to be masked.
    pub has_pics: bool,
    /// CPUs in the firmware's order.
    pub cpus: Vec<CpuEntry>,
    /// I/O APICs in the firmware's order.
    pub io_apics: Vec<IoApicEntry>,
    /// Unusual ISA interrupts.
    pub overrides: Vec<Override>,
    /// NMIs at I/O APICs.
    pub nmis: Vec<NmiSource>,
    /// NMIs at local APICs.
    pub local_nmis: Vec<LocalNmi>,
}

impl Madt {
    /// Reads the table; an entry that is wrong is skipped with a warning.
    pub(super) fn parse(table: &Table<'_>, warnings: &mut Warnings) -> Option<Self> {
        let address = table.fields.u32(36)?;
        let flags = table.fields.u32(40)?;
        let mut reader = Reader {
            table,
            warnings,
            apic_ids: BTreeSet::new(),
            madt: Self {
                local_apic_address: PhysAddr(u64::from(address)),
                has_pics: flags & 1 != 0,
                cpus: Vec::new(),
                io_apics: Vec::new(),
                overrides: Vec::new(),
                nmis: Vec::new(),
                local_nmis: Vec::new(),
            },
        };
        for entry in table.entries(HEAD_LEN) {
            match entry {
                Ok(entry) => {
                    if reader.take(&entry).is_none() {
                        reader.warnings.push(table.bad_entry(&entry));
                    }
                }
                Err(warning) => reader.warnings.push(warning),
            }
        }
        Some(reader.madt)
    }
}

/// A table being read.
struct Reader<'a, 't> {
    table: &'a Table<'t>,
    warnings: &'a mut Warnings,
    /// Identifiers of CPUs that can run, so that none is started twice.
    apic_ids: BTreeSet<u32>,
    madt: Madt,
}

impl Reader<'_, '_> {
    /// Takes one entry; `None` when it is too short for its type.
    fn take(&mut self, entry: &Entry<'_>) -> Option<()> {
        let fields = entry.fields;
        match entry.kind {
            kind::LOCAL_APIC => {
                let (uid, id) = (fields.u8(2)?, fields.u8(3)?);
                self.take_cpu(entry, u32::from(id), u32::from(uid), fields.u32(4)?);
            }
            kind::LOCAL_X2APIC => {
                let (id, flags, uid) = (fields.u32(4)?, fields.u32(8)?, fields.u32(12)?);
                self.take_cpu(entry, id, uid, flags);
            }
            kind::IO_APIC => {
                let apic = IoApicEntry {
                    id: fields.u8(2)?,
                    address: PhysAddr(u64::from(fields.u32(4)?)),
                    gsi_base: fields.u32(8)?,
                };
                self.take_io_apic(entry, apic);
            }
            kind::OVERRIDE => {
                let (bus, irq) = (fields.u8(2)?, fields.u8(3)?);
                self.take_override(entry, bus, irq, fields.u32(4)?, fields.u16(8)?);
            }
            kind::NMI_SOURCE => self.take_nmi(entry, fields.u16(2)?, fields.u32(4)?),
            kind::LOCAL_APIC_NMI => {
                let target = match fields.u8(2)? {
                    0xff => CpuTarget::All,
                    uid => CpuTarget::Uid(u32::from(uid)),
                };
                self.take_local_nmi(entry, target, fields.u16(3)?, fields.u8(5)?);
            }
            kind::LOCAL_X2APIC_NMI => {
                let target = match fields.u32(4)? {
                    u32::MAX => CpuTarget::All,
                    uid => CpuTarget::Uid(uid),
                };
                self.take_local_nmi(entry, target, fields.u16(2)?, fields.u8(8)?);
            }
            kind::LOCAL_APIC_ADDRESS => {
                self.madt.local_apic_address = PhysAddr(fields.u64(4)?);
            }
            // Kinds for other architectures and newer ones say nothing we act on.
            _ => {}
        }
        Some(())
    }

    /// A CPU, by either kind of entry.
    fn take_cpu(&mut self, entry: &Entry<'_>, apic_id: u32, acpi_uid: u32, flags: u32) {
        let cpu = CpuEntry {
            apic_id,
            acpi_uid,
            enabled: flags & 1 != 0,
            online_capable: flags & 2 != 0,
        };
        // Firmware fills unused entries with any identifier; only running CPUs must be distinct.
        if cpu.enabled && !self.apic_ids.insert(apic_id) {
            let what = "this CPU is listed before";
            self.warnings.push(self.table.nonsense(entry.offset, what));
            return;
        }
        let too_many = self.too_many("CPUs", MAX_CPUS);
        push_bounded(&mut self.madt.cpus, cpu, MAX_CPUS, self.warnings, too_many);
    }

    /// An I/O APIC, unless its address cannot be one or is taken.
    fn take_io_apic(&mut self, entry: &Entry<'_>, apic: IoApicEntry) {
        let known = &mut self.madt.io_apics;
        let what = if apic.address.0 == 0 {
            Some("an I/O APIC at address 0")
        } else if known.iter().any(|other| other.address == apic.address) {
            Some("this I/O APIC is listed before")
        } else {
            None
        };
        if let Some(what) = what {
            self.warnings.push(self.table.nonsense(entry.offset, what));
            return;
        }
        let too_many = self.too_many("I/O APICs", MAX_IO_APICS);
        let list = &mut self.madt.io_apics;
        push_bounded(list, apic, MAX_IO_APICS, self.warnings, too_many);
    }

    /// An interrupt override; only the ISA bus (0) has any.
    fn take_override(&mut self, entry: &Entry<'_>, bus: u8, source_irq: u8, gsi: u32, flags: u16) {
        let Some((polarity, trigger)) = line_mode(flags).filter(|_| bus == 0) else {
            let what = "an interrupt override of another bus or with reserved flags";
            self.warnings.push(self.table.nonsense(entry.offset, what));
            return;
        };
        let found = Override {
            source_irq,
            gsi,
            polarity,
            trigger,
        };
        let too_many = self.too_many("interrupt overrides", MAX_OVERRIDES);
        let list = &mut self.madt.overrides;
        push_bounded(list, found, MAX_OVERRIDES, self.warnings, too_many);
    }

    /// An NMI at an I/O APIC.
    fn take_nmi(&mut self, entry: &Entry<'_>, flags: u16, gsi: u32) {
        let Some((polarity, trigger)) = line_mode(flags) else {
            let what = "an NMI with reserved flags";
            self.warnings.push(self.table.nonsense(entry.offset, what));
            return;
        };
        let found = NmiSource {
            gsi,
            polarity,
            trigger,
        };
        let too_many = self.too_many("NMIs", MAX_NMIS);
        push_bounded(
            &mut self.madt.nmis,
            found,
            MAX_NMIS,
            self.warnings,
            too_many,
        );
    }

    /// An NMI at a local APIC; there are two inputs.
    fn take_local_nmi(&mut self, entry: &Entry<'_>, target: CpuTarget, flags: u16, lint: u8) {
        let Some((polarity, trigger)) = line_mode(flags).filter(|_| lint < 2) else {
            let what = "a local NMI with reserved flags or at an input that does not exist";
            self.warnings.push(self.table.nonsense(entry.offset, what));
            return;
        };
        let found = LocalNmi {
            target,
            lint,
            polarity,
            trigger,
        };
        let too_many = self.too_many("local NMIs", MAX_NMIS);
        let list = &mut self.madt.local_nmis;
        push_bounded(list, found, MAX_NMIS, self.warnings, too_many);
    }

    fn too_many(&self, what: &'static str, limit: usize) -> AcpiWarning {
        AcpiWarning::TooMany {
            table: self.table.signature(),
            what,
            limit,
        }
    }
}
