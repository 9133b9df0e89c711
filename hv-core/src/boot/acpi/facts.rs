//! All tables together: the walk from the root pointer, and the small tables.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::fadt::{Fadt, GenericAddress, SpaceId};
use super::madt::Madt;
use super::rsdp::RootPointer;
use super::table::{FACS, HEADER_LEN, Table, TableSummary, push_bounded};
use super::warning::{AcpiWarning, Signature, Warnings};
use crate::base::PhysAddr;
use crate::boot::phys::PhysMem;

/// Most tables taken.
const MAX_TABLES: usize = 256;
/// Most PCI segments and affinity entries taken.
const MAX_SEGMENTS: usize = 256;
const MAX_AFFINITIES: usize = 8192;

const RSDT: Signature = Signature(*b"RSDT");
const XSDT: Signature = Signature(*b"XSDT");
const DSDT: Signature = Signature(*b"DSDT");
const MADT: Signature = Signature(*b"APIC");
const FADT: Signature = Signature(*b"FACP");
const HPET: Signature = Signature(*b"HPET");
const MCFG: Signature = Signature(*b"MCFG");
const SRAT: Signature = Signature(*b"SRAT");

/// The event timer block (IA-PC HPET specification, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hpet {
    /// Its identification register.
    pub id: u32,
    /// Its registers.
    pub address: PhysAddr,
    /// Its number.
    pub number: u8,
    /// Shortest period in ticks that loses no interrupt.
    pub min_tick: u16,
}

/// Memory-mapped configuration space of some PCI buses (PCI Firmware specification, 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mcfg {
    /// Where bus 0 is, or would be.
    pub base: PhysAddr,
    /// The PCI segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
}

/// A CPU's place in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorAffinity {
    /// Identifier of its local APIC.
    pub apic_id: u32,
    /// The proximity domain it belongs to.
    pub domain: u32,
}

/// A memory range's place in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAffinity {
    /// First byte.
    pub base: PhysAddr,
    /// Length in bytes.
    pub len: u64,
    /// The proximity domain it belongs to.
    pub domain: u32,
    /// It may be added while the machine runs.
    pub hot_pluggable: bool,
}

/// The system resource affinity table (ACPI specification, 5.2.16): enabled entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srat {
    /// CPUs.
    pub cpus: Vec<ProcessorAffinity>,
    /// Memory.
    pub memory: Vec<MemoryAffinity>,
}

/// Everything the static tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcpiFacts {
    /// The root pointer, when it is valid.
    pub root: Option<RootPointer>,
    /// All tables, in the order of the boot log.
    pub tables: Vec<TableSummary>,
    /// CPUs and interrupt controllers.
    pub madt: Option<Madt>,
    /// Power management.
    pub fadt: Option<Fadt>,
    /// The event timer block.
    pub hpet: Option<Hpet>,
    /// PCI configuration space; empty without an MCFG table.
    pub mcfg: Vec<Mcfg>,
    /// What is near what.
    pub srat: Option<Srat>,
}

impl AcpiFacts {
    /// Reads all tables from the root pointer at `rsdp`. Never fails: what cannot be read is
    /// missing from the facts and named in the warnings.
    #[must_use]
    pub fn parse<M: PhysMem + ?Sized>(mem: &M, rsdp: PhysAddr) -> (Self, Vec<AcpiWarning>) {
        match RootPointer::read(mem, rsdp) {
            Some(root) => Reader::read(mem, root),
            None => (Self::default(), [AcpiWarning::NoRootPointer(rsdp)].into()),
        }
    }

    /// The same from a copy of the root pointer, as multiboot 2 loaders pass it.
    #[must_use]
    pub fn parse_copy<M: PhysMem + ?Sized>(mem: &M, rsdp: &[u8]) -> (Self, Vec<AcpiWarning>) {
        match RootPointer::parse(rsdp) {
            Some(root) => Reader::read(mem, root),
            None => {
                let nowhere = AcpiWarning::NoRootPointer(PhysAddr(0));
                (Self::default(), [nowhere].into())
            }
        }
    }

    /// The first table of this name.
    #[must_use]
    pub fn table(&self, signature: [u8; 4]) -> Option<&TableSummary> {
        self.tables
            .iter()
            .find(|table| table.signature == Signature(signature))
    }

    /// The registers of the event timer block.
    #[must_use]
    pub fn hpet_address(&self) -> Option<PhysAddr> {
        self.hpet.map(|hpet| hpet.address)
    }
}

/// Tables being read.
struct Reader<'m, M: ?Sized> {
    mem: &'m M,
    facts: AcpiFacts,
    warnings: Warnings,
    /// Addresses of tables taken; a pointer back to one of them leads nowhere new.
    seen: BTreeSet<PhysAddr>,
}

impl<'m, M: PhysMem + ?Sized> Reader<'m, M> {
    fn read(
        mem: &'m M,
        (root, warning): (RootPointer, Option<AcpiWarning>),
    ) -> (AcpiFacts, Vec<AcpiWarning>) {
        let mut reader = Self {
            mem,
            facts: AcpiFacts {
                root: Some(root),
                ..AcpiFacts::default()
            },
            warnings: Warnings::default(),
            seen: BTreeSet::new(),
        };
        if let Some(warning) = warning {
            reader.warnings.push(warning);
        }
        reader.read_list(&root);
        (reader.facts, reader.warnings.into_list())
    }

    /// Reads the 64-bit list of tables, or the 32-bit one where the first is missing or broken.
    fn read_list(&mut self, root: &RootPointer) {
        let lists = [(root.xsdt, XSDT, 8), (u64::from(root.rsdt), RSDT, 4)];
        for (address, signature, width) in lists {
            if address == 0 {
                continue;
            }
            if let Some(list) = self.open(PhysAddr(address), Some(signature)) {
                self.read_entries(&list, width);
                return;
            }
        }
        self.warnings.push(AcpiWarning::NoTableList);
    }

    /// Reads the tables that a list names by addresses of `width` bytes.
    fn read_entries(&mut self, list: &Table<'m>, width: usize) {
        let addresses = list.fields.0.get(HEADER_LEN..).unwrap_or_default();
        if addresses.len() / width > MAX_TABLES {
            self.warnings.push(AcpiWarning::TooMany {
                table: list.signature(),
                what: "tables",
                limit: MAX_TABLES,
            });
        }
        for bytes in addresses.chunks_exact(width).take(MAX_TABLES) {
            let mut address = [0; 8];
            address[..width].copy_from_slice(bytes);
            let address = PhysAddr(u64::from_le_bytes(address));
            // Some firmware leaves holes in its list.
            if address.0 == 0 {
                continue;
            }
            if let Some(table) = self.open(address, None) {
                self.take(&table);
            }
        }
    }

    /// Opens a table that was not opened before and adds it to the summaries.
    fn open(&mut self, address: PhysAddr, expected: Option<Signature>) -> Option<Table<'m>> {
        if !self.seen.insert(address) {
            self.warnings.push(AcpiWarning::Repeated(address));
            return None;
        }
        let mem = self.mem;
        let checked = Table::read(mem, address).and_then(|table| {
            let found = table.signature();
            match expected {
                Some(expected) if expected != found => Err(AcpiWarning::WrongSignature {
                    address,
                    expected,
                    found,
                }),
                None if found == RSDT || found == XSDT => Err(AcpiWarning::NestedList(address)),
                _ => Ok(table),
            }
        });
        match checked {
            Ok(table) => {
                self.facts.tables.push(table.summary);
                Some(table)
            }
            Err(warning) => {
                self.warnings.push(warning);
                None
            }
        }
    }

    /// Takes what a table says, if it is one that matters here.
    fn take(&mut self, table: &Table<'m>) {
        let facts = &mut self.facts;
        let again = match table.signature() {
            MADT => facts.madt.is_some(),
            FADT => facts.fadt.is_some(),
            // Several blocks have several tables; the first is the one with the legacy timers.
            HPET if facts.hpet.is_some() => return,
            MCFG => !facts.mcfg.is_empty(),
            SRAT => facts.srat.is_some(),
            _ => false,
        };
        if again {
            self.warnings
                .push(AcpiWarning::SecondTable(table.signature()));
            return;
        }
        let taken = match table.signature() {
            MADT => Madt::parse(table, &mut self.warnings).map(|madt| self.facts.madt = Some(madt)),
            FADT => Fadt::parse(table).map(|fadt| self.take_fadt(fadt)),
            HPET => self.take_hpet(table),
            MCFG => self.take_mcfg(table),
            SRAT => self.take_srat(table),
            _ => Some(()),
        };
        if taken.is_none() {
            self.warnings.push(table.too_short());
        }
    }

    /// Keeps the FADT and opens the two tables that only it names.
    fn take_fadt(&mut self, fadt: Fadt) {
        self.facts.fadt = Some(fadt);
        for (address, signature) in [(fadt.dsdt, DSDT), (fadt.facs, FACS)] {
            if let Some(address) = address {
                self.open(address, Some(signature));
            }
        }
    }

    fn take_hpet(&mut self, table: &Table<'m>) -> Option<()> {
        let fields = table.fields;
        let (id, number, min_tick) = (fields.u32(36)?, fields.u8(52)?, fields.u16(53)?);
        let registers = GenericAddress::at(fields, 40);
        match registers.filter(|registers| registers.space == SpaceId::Memory) {
            Some(registers) => {
                self.facts.hpet = Some(Hpet {
                    id,
                    address: PhysAddr(registers.address),
                    number,
                    min_tick,
                });
            }
            None => {
                let what = "the timer block has no address in memory";
                self.warnings.push(table.nonsense(40, what));
            }
        }
        Some(())
    }

    fn take_mcfg(&mut self, table: &Table<'m>) -> Option<()> {
        const HEAD_LEN: usize = 44;
        const ENTRY_LEN: usize = 16;
        let entries = table.fields.0.get(HEAD_LEN..)?;
        for (index, bytes) in entries.chunks_exact(ENTRY_LEN).enumerate() {
            let fields = crate::boot::phys::Fields(bytes);
            let entry = Mcfg {
                base: PhysAddr(fields.u64(0)?),
                segment: fields.u16(8)?,
                first_bus: fields.u8(10)?,
                last_bus: fields.u8(11)?,
            };
            if entry.base.0 == 0 || entry.base.offset() != 0 || entry.first_bus > entry.last_bus {
                let what = "PCI configuration space with impossible address or buses";
                let at = HEAD_LEN + index * ENTRY_LEN;
                self.warnings.push(table.nonsense(at, what));
                continue;
            }
            let too_many = AcpiWarning::TooMany {
                table: MCFG,
                what: "PCI segments",
                limit: MAX_SEGMENTS,
            };
            let list = &mut self.facts.mcfg;
            push_bounded(list, entry, MAX_SEGMENTS, &mut self.warnings, too_many);
        }
        Some(())
    }

    fn take_srat(&mut self, table: &Table<'m>) -> Option<()> {
        const HEAD_LEN: usize = 48;
        table.fields.0.get(HEAD_LEN..)?;
        let mut srat = Srat::default();
        for entry in table.entries(HEAD_LEN) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(warning) => {
                    self.warnings.push(warning);
                    break;
                }
            };
            let too_many = AcpiWarning::TooMany {
                table: SRAT,
                what: "affinity entries",
                limit: MAX_AFFINITIES,
            };
            let (limit, warnings) = (MAX_AFFINITIES, &mut self.warnings);
            match affinity(&entry) {
                Some(Affinity::Cpu(cpu)) => {
                    push_bounded(&mut srat.cpus, cpu, limit, warnings, too_many);
                }
                Some(Affinity::Memory(memory)) => {
                    push_bounded(&mut srat.memory, memory, limit, warnings, too_many);
                }
                Some(Affinity::None) => {}
                None => warnings.push(table.bad_entry(&entry)),
            }
        }
        self.facts.srat = Some(srat);
        Some(())
    }
}

/// What an SRAT entry says.
enum Affinity {
    Cpu(ProcessorAffinity),
    Memory(MemoryAffinity),
    /// Disabled, or of a kind that does not matter here.
    None,
}

/// Reads an SRAT entry; `None` when it is too short for its type.
fn affinity(entry: &super::table::Entry<'_>) -> Option<Affinity> {
    const ENABLED: u32 = 1 << 0;
    const HOT_PLUGGABLE: u32 = 1 << 1;
    let fields = entry.fields;
    let (flags, found) = match entry.kind {
        0 => {
            // The domain's lowest byte stands apart from the others.
            let [high @ .., _] = fields.array::<4>(9)?;
            let domain = u32::from_le_bytes([fields.u8(2)?, high[0], high[1], high[2]]);
            let apic_id = u32::from(fields.u8(3)?);
            (
                fields.u32(4)?,
                Affinity::Cpu(ProcessorAffinity { apic_id, domain }),
            )
        }
        1 => {
            let flags = fields.u32(28)?;
            let memory = MemoryAffinity {
                base: PhysAddr(fields.u64(8)?),
                len: fields.u64(16)?,
                domain: fields.u32(2)?,
                hot_pluggable: flags & HOT_PLUGGABLE != 0,
            };
            (flags, Affinity::Memory(memory))
        }
        2 => {
            let (domain, apic_id) = (fields.u32(4)?, fields.u32(8)?);
            (
                fields.u32(12)?,
                Affinity::Cpu(ProcessorAffinity { apic_id, domain }),
            )
        }
        _ => return Some(Affinity::None),
    };
    Some(if flags & ENABLED != 0 {
        found
    } else {
        Affinity::None
    })
}
