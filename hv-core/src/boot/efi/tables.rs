//! The system table and what hangs on it (UEFI 2.10, chapter 4).

use alloc::vec::Vec;
use core::fmt;

use super::map::{EfiRegion, attribute, kind};
use crate::base::{PAGE_SIZE, PhysAddr};
use crate::boot::phys::{Fields, PhysMem};

const SYSTEM_SIGNATURE: &[u8; 8] = b"IBI SYST";
const RUNTIME_SIGNATURE: &[u8; 8] = b"RUNTSERV";
/// Bytes of both tables that are read.
const SYSTEM_LEN: usize = 120;
const RUNTIME_LEN: usize = 136;
/// Where the runtime table's functions begin.
const FUNCTIONS: usize = 24;
/// Most characters of the vendor's name, configuration tables and attribute entries taken.
const MAX_VENDOR: usize = 128;
const MAX_TABLES: u64 = 1024;
const MAX_ENTRIES: u32 = 4096;
/// EFI_MEMORY_ATTRIBUTES_TABLE_GUID.
const ATTRIBUTES_TABLE: [u8; 16] = [
    0x1d, 0x91, 0xfa, 0xdc, 0xeb, 0x26, 0x9f, 0x46, 0xa2, 0x20, 0x38, 0xb7, 0xdc, 0x46, 0x12, 0x20,
];
/// Most memory that runtime services may ask to be mapped.
const MAX_RUNTIME: u64 = 1 << 30;
/// Addresses from here on cannot be mapped where they are: they are no lower-half ones.
const LOWER_HALF: u64 = 1 << 47;

/// A runtime service, by its place in the table (UEFI 2.10, 4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the specification")]
pub enum Service {
    GetTime = 0,
    SetTime = 1,
    GetWakeupTime = 2,
    SetWakeupTime = 3,
    GetVariable = 6,
    GetNextVariableName = 7,
    SetVariable = 8,
    GetNextHighMonotonicCount = 9,
    ResetSystem = 10,
    QueryVariableInfo = 13,
}

/// Number of services.
const SERVICES: usize = 14;

/// The runtime services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Revision of the table.
    pub revision: u32,
    functions: [Option<u64>; SERVICES],
    mappings: Vec<RuntimeMapping>,
}

impl Runtime {
    /// Address of a service's code, which lies in memory that is mapped for execution; `None` for one that the
    /// firmware lacks.
    #[must_use]
    pub fn function(&self, service: Service) -> Option<u64> {
        self.functions[service as usize]
    }

    /// What to map, each where it is; a later one replaces what an earlier one says.
    #[must_use]
    pub fn mappings(&self) -> &[RuntimeMapping] {
        &self.mappings
    }
}

/// How memory is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// As all RAM.
    WriteBack,
    /// Writes go through.
    WriteThrough,
    /// Not at all.
    Uncached,
}

/// Memory of the runtime services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeMapping {
    /// First byte, at a page.
    pub base: PhysAddr,
    /// Bytes, whole pages.
    pub len: u64,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
    /// How it is cached.
    pub cache: Cache,
}

impl RuntimeMapping {
    fn new(region: &EfiRegion, writable: bool, executable: bool) -> Self {
        let cache = match region.attributes {
            a if a & attribute::WB != 0 => Cache::WriteBack,
            a if a & attribute::WT != 0 => Cache::WriteThrough,
            _ => Cache::Uncached,
        };
        Self {
            base: region.base,
            len: region.len,
            writable,
            executable,
            cache,
        }
    }
}

/// What EFI says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfiFacts {
    /// Revision of the specification.
    pub revision: u32,
    /// The firmware's maker, UCS-2 without a terminator.
    pub vendor: Vec<u16>,
    /// The maker's revision.
    pub vendor_revision: u32,
    /// The array of configuration tables.
    pub tables: PhysAddr,
    /// How many there are.
    pub table_count: u32,
    /// The runtime services, or why there are none.
    pub runtime: Result<Runtime, EfiProblem>,
    /// The memory map.
    pub memory: Vec<EfiRegion>,
}

/// Why something of EFI cannot be used. Prints as a part of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EfiProblem {
    /// The system table cannot be read or is none.
    NoSystemTable(PhysAddr),
    /// The firmware is 32-bit code.
    Narrow,
    /// The loader gave no EFI memory map.
    NoMap,
    /// The table of runtime services cannot be read or is none.
    NoRuntimeTable(PhysAddr),
    /// Even the code of GetVariable is not in memory that is kept for the services.
    Stray(u64),
    /// The runtime services want memory mapped that is not in whole pages or where it cannot be.
    Unmappable(PhysAddr),
    /// They want this many bytes mapped.
    TooLarge(u64),
}

impl fmt::Display for EfiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystemTable(at) => write!(f, "there is no system table at {at:#x}"),
            Self::Narrow => f.write_str("the firmware is 32-bit code"),
            Self::NoMap => f.write_str("the boot loader gave no EFI memory map"),
            Self::NoRuntimeTable(at) => {
                write!(f, "there is no table of runtime services at {at:#x}")
            }
            Self::Stray(at) => write!(
                f,
                "the code of GetVariable at {at:#x} is not in memory kept for them"
            ),
            Self::Unmappable(at) => write!(f, "memory of theirs at {at:#x} cannot be mapped"),
            Self::TooLarge(len) => write!(f, "they want {} MiB mapped", len >> 20),
        }
    }
}

impl EfiFacts {
    /// Reads the tables. Call before any memory of the boot services is used for something else.
    ///
    /// # Errors
    /// There is no system table at `at`. Runtime services that cannot be used are no error: see
    /// [`EfiFacts::runtime`].
    pub fn read<M: PhysMem + ?Sized>(
        mem: &M,
        at: PhysAddr,
        memory: Vec<EfiRegion>,
    ) -> Result<Self, EfiProblem> {
        let problem = EfiProblem::NoSystemTable(at);
        let table = signed(mem, at, SYSTEM_LEN, SYSTEM_SIGNATURE).ok_or(problem)?;
        let word = |at| table.u64(at).unwrap_or(0);
        let tables = PhysAddr(word(112));
        let table_count = word(104).min(MAX_TABLES) as u32;
        let runtime = read_runtime(mem, PhysAddr(word(88)), &memory, (tables, table_count));
        Ok(Self {
            revision: table.u32(8).unwrap_or(0),
            vendor: read_vendor(mem, PhysAddr(word(24))),
            vendor_revision: table.u32(32).unwrap_or(0),
            tables,
            table_count,
            runtime,
            memory,
        })
    }

    /// The region that a byte lies in.
    #[must_use]
    pub fn region_of(&self, at: u64) -> Option<&EfiRegion> {
        self.memory.iter().find(|region| region.holds(at, 1))
    }
}

/// The first bytes of a table that begins with its signature.
fn signed<'a, M: PhysMem + ?Sized>(
    mem: &'a M,
    at: PhysAddr,
    len: usize,
    signature: &[u8; 8],
) -> Option<Fields<'a>> {
    let bytes = mem.read(at, len).filter(|_| at.0 != 0)?;
    bytes.starts_with(signature).then_some(Fields(bytes))
}

/// The vendor's name; empty when it cannot be read.
fn read_vendor<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Vec<u16> {
    let character = |index: usize| {
        let at = at.0.checked_add(index as u64 * 2).map(PhysAddr)?;
        Fields(mem.read(at, 2)?).u16(0)
    };
    (0..MAX_VENDOR)
        .map_while(character)
        .take_while(|character| *character != 0)
        .collect()
}

fn read_runtime<M: PhysMem + ?Sized>(
    mem: &M,
    at: PhysAddr,
    memory: &[EfiRegion],
    tables: (PhysAddr, u32),
) -> Result<Runtime, EfiProblem> {
    if memory.is_empty() {
        return Err(EfiProblem::NoMap);
    }
    let problem = EfiProblem::NoRuntimeTable(at);
    let table = signed(mem, at, RUNTIME_LEN, RUNTIME_SIGNATURE).ok_or(problem)?;
    let in_code = |at: u64| {
        let mut code = memory
            .iter()
            .filter(|r| r.kind == kind::RUNTIME_CODE && r.is_runtime());
        code.any(|region| region.holds(at, 1))
    };
    // Those that came with later revisions may be missing, those for the boot's end are gone.
    let place = |index| table.u64(FUNCTIONS + index * 8);
    let functions = core::array::from_fn(|index| place(index).filter(|at| in_code(*at)));
    if functions[Service::GetVariable as usize].is_none() {
        let stray = place(Service::GetVariable as usize).unwrap_or(0);
        return Err(EfiProblem::Stray(stray));
    }
    let mut mappings = whole_regions(memory)?;
    mappings.extend(finer_parts(mem, memory, tables));
    Ok(Runtime {
        revision: table.u32(8).unwrap_or(0),
        functions,
        mappings,
    })
}

/// Each region as a whole: code is also written to, as it has data in it.
fn whole_regions(memory: &[EfiRegion]) -> Result<Vec<RuntimeMapping>, EfiProblem> {
    let mut total = 0u64;
    let mut mappings = Vec::new();
    for region in memory.iter().filter(|r| r.is_runtime()) {
        let aligned = region.base.offset() == 0 && region.end() <= LOWER_HALF;
        // What is mapped there must be theirs alone.
        if !aligned || region.kind == kind::CONVENTIONAL {
            return Err(EfiProblem::Unmappable(region.base));
        }
        total = total.saturating_add(region.len);
        let code = region.kind == kind::RUNTIME_CODE;
        mappings.push(RuntimeMapping::new(region, true, code));
    }
    if total > MAX_RUNTIME {
        return Err(EfiProblem::TooLarge(total));
    }
    Ok(mappings)
}

/// What the memory attributes table says of parts of them (UEFI 2.10, 4.6.3); nothing where it is missing or
/// makes no sense.
fn finer_parts<M: PhysMem + ?Sized>(
    mem: &M,
    memory: &[EfiRegion],
    tables: (PhysAddr, u32),
) -> Vec<RuntimeMapping> {
    let parts = || {
        let at = find_table(mem, tables, &ATTRIBUTES_TABLE)?;
        let head = Fields(mem.read(at, 16)?);
        let (count, step) = (head.u32(4)?, head.u32(8)? as usize);
        if count > MAX_ENTRIES || !(40..=PAGE_SIZE).contains(&step) {
            return None;
        }
        let first = at.0.checked_add(16).map(PhysAddr)?;
        let entries = mem.read(first, count as usize * step)?;
        Some(entries.chunks_exact(step).filter_map(|entry| {
            let part = EfiRegion::parse(Fields(entry))?;
            let within = |r: &&EfiRegion| r.is_runtime() && r.holds(part.base.0, part.len);
            let whole = memory.iter().find(within)?;
            let sense = part.base.offset() == 0
                && matches!(whole.kind, kind::RUNTIME_CODE | kind::RUNTIME_DATA);
            let has = |bit| part.attributes & bit != 0;
            let code = part.kind == kind::RUNTIME_CODE && !has(attribute::XP);
            let region = EfiRegion {
                attributes: whole.attributes,
                ..part
            };
            sense.then(|| RuntimeMapping::new(&region, !has(attribute::RO), code))
        }))
    };
    parts().map(Iterator::collect).unwrap_or_default()
}

/// The configuration table of this name.
fn find_table<M: PhysMem + ?Sized>(
    mem: &M,
    (tables, count): (PhysAddr, u32),
    name: &[u8; 16],
) -> Option<PhysAddr> {
    let array = mem.read(tables, count as usize * 24)?;
    let entry = array
        .chunks_exact(24)
        .find(|entry| entry.starts_with(name))?;
    Fields(entry).u64(16).map(PhysAddr)
}
