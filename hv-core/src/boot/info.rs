//! What the loader left behind, whichever protocol it speaks, as one [`BootInfo`].
//!
//! Loaders are trusted with the machine but not with our parsing: every count and size is bounded,
//! every pointer goes through [`PhysMem`], and a structure that makes no sense ends in a
//! [`BootError`] that says which part of it does not.

mod multiboot1;
mod multiboot2;
mod pvh;
mod screen;
mod video;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use xen_abi::hvm_start_info::XEN_HVM_START_MAGIC_VALUE;

use super::efi::{EfiHandover, EfiMapError};
use super::memmap::MemRegion;
use super::phys::{StringFault, read_string};
use crate::base::PhysAddr;

pub use super::phys::PhysMem;
pub use screen::{FramebufferFault, ScreenMaker};
pub use video::{ColourField, Framebuffer, VideoInfo};

/// Longest command line taken from a loader, in bytes.
pub const MAX_COMMAND_LINE: usize = 4096;
/// Most modules taken from a loader.
pub const MAX_MODULES: usize = 64;
/// Most memory map entries taken from a loader.
pub const MAX_REGIONS: usize = 1024;

/// Value of EAX at entry from a multiboot 1 loader (Multiboot Specification 0.6.96, 3.2).
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// Value of EAX at entry from a multiboot 2 loader (Multiboot2 Specification 2.0, 3.3).
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;

/// How the loader handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Multiboot version 1.
    Multiboot1,
    /// Multiboot version 2.
    Multiboot2,
    /// The Xen PVH entry point (`hvm_start_info`).
    Pvh,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiboot1 => "multiboot",
            Self::Multiboot2 => "multiboot2",
            Self::Pvh => "PVH",
        })
    }
}

/// A file that the loader put into memory beside us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// First byte.
    pub start: PhysAddr,
    /// Length in bytes.
    pub len: u64,
    /// Its arguments, without the file's name.
    pub command_line: String,
}

/// Where the ACPI root pointer is, when the loader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rsdp {
    /// At this physical address.
    Address(PhysAddr),
    /// The loader passed a copy of its bytes.
    Copy(Vec<u8>),
}

/// Everything the loader said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo {
    /// The protocol it spoke.
    pub protocol: Protocol,
    /// Its name; "unknown" when it gave none.
    pub loader_name: String,
    /// The hypervisor's own arguments, without the file's name.
    pub command_line: String,
    /// The firmware's memory map as given: unsorted, perhaps overlapping. Empty when the loader
    /// gave none.
    pub memory_map: Vec<MemRegion>,
    /// Modules, in the loader's order; the first is the dom0 kernel.
    pub modules: Vec<Module>,
    /// The ACPI root pointer, when the loader gave it.
    pub rsdp: Option<Rsdp>,
    /// What the loader said of EFI.
    pub efi: EfiHandover,
    /// The state of the display.
    pub video: VideoInfo,
}

/// A part of the loader's structures, for error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The structure the loader's register points to.
    Header,
    /// The hypervisor's command line.
    CommandLine,
    /// The loader's name.
    LoaderName,
    /// The list of modules.
    ModuleList,
    /// The command line of a module.
    ModuleCommandLine,
    /// The memory map.
    MemoryMap,
    /// A multiboot 2 tag of this type.
    Tag(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("boot information"),
            Self::CommandLine => f.write_str("command line"),
            Self::LoaderName => f.write_str("loader name"),
            Self::ModuleList => f.write_str("module list"),
            Self::ModuleCommandLine => f.write_str("module command line"),
            Self::MemoryMap => f.write_str("memory map"),
            Self::Tag(number) => write!(f, "boot information tag {number}"),
        }
    }
}

/// Why the loader's structures could not be taken. Prints as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The entry register holds no magic number that we know.
    UnknownMagic(u32),
    /// The part lies, at least in part, in memory that is not mapped.
    Unmapped(Part, PhysAddr),
    /// The part is larger than we take (`size` against `limit`, in bytes or entries).
    TooLarge {
        /// What is too large.
        part: Part,
        /// What the loader claims.
        size: u64,
        /// What we take.
        limit: u64,
    },
    /// The part is too short for what it must hold (`size` bytes).
    TooShort {
        /// What is too short.
        part: Part,
        /// What the loader claims, in bytes.
        size: u64,
    },
    /// A module's end lies before its start.
    BackwardModule {
        /// Claimed first byte.
        start: PhysAddr,
        /// Claimed end.
        end: PhysAddr,
    },
    /// A string has no terminator within [`MAX_COMMAND_LINE`] bytes.
    Unterminated(Part),
    /// The memory map of EFI makes no sense.
    EfiMap(EfiMapError),
}

impl From<EfiMapError> for BootError {
    fn from(why: EfiMapError) -> Self {
        Self::EfiMap(why)
    }
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownMagic(magic) => {
                write!(f, "the loader's magic number {magic:#x} is not known")
            }
            Self::Unmapped(part, at) => write!(
                f,
                "the loader's {part} at {at:#x} lies outside the memory that can be read"
            ),
            Self::TooLarge { part, size, limit } => write!(
                f,
                "the loader's {part} is too large: {size:#x}, where {limit:#x} is the limit"
            ),
            Self::TooShort { part, size } => {
                write!(f, "the loader's {part} is too short: {size:#x} bytes")
            }
            Self::BackwardModule { start, end } => write!(
                f,
                "a module of the loader ends at {end:#x}, before its start at {start:#x}"
            ),
            Self::Unterminated(part) => write!(
                f,
                "the loader's {part} does not end within {MAX_COMMAND_LINE} bytes"
            ),
            Self::EfiMap(why) => why.fmt(f),
        }
    }
}

impl BootInfo {
    /// Reads what the loader left: `magic` is its value in EAX at entry (for PVH, where there is
    /// none, `XEN_HVM_START_MAGIC_VALUE`), `info` the address in EBX.
    ///
    /// # Errors
    /// A [`BootError`] in words: an unknown magic, structures outside mapped memory or beyond
    /// the limits of this module.
    pub fn parse<M: PhysMem + ?Sized>(
        mem: &M,
        magic: u32,
        info: PhysAddr,
    ) -> Result<Self, BootError> {
        let mut boot = match magic {
            MULTIBOOT1_MAGIC => multiboot1::parse(mem, info),
            MULTIBOOT2_MAGIC => multiboot2::parse(mem, info),
            XEN_HVM_START_MAGIC_VALUE => pvh::parse(mem, info),
            _ => Err(BootError::UnknownMagic(magic)),
        }?;
        boot.drop_file_names();
        // On a machine with EFI there need not be a BIOS that left data.
        if boot.video == VideoInfo::Unknown && boot.efi.system_table.is_none() {
            boot.video = VideoInfo::from_bios_data(mem);
        }
        Ok(boot)
    }

    /// An empty description, for a protocol's parser to fill in.
    fn empty(protocol: Protocol) -> Self {
        Self {
            protocol,
            loader_name: String::from("unknown"),
            command_line: String::new(),
            memory_map: Vec::new(),
            modules: Vec::new(),
            rsdp: None,
            efi: EfiHandover::default(),
            video: VideoInfo::Unknown,
        }
    }

    /// Takes the file name off the front of each command line, where this loader puts one there.
    fn drop_file_names(&mut self) {
        let names = file_names(self.protocol, &self.loader_name);
        let lines = self
            .modules
            .iter_mut()
            .map(|module| &mut module.command_line);
        for line in lines.chain([&mut self.command_line]) {
            let arguments = match names {
                FileNames::Absent => line.trim_matches(' '),
                FileNames::First => after_first_word(line),
            };
            *line = String::from(arguments);
        }
    }

    /// Adds a module after checking that there is room for it.
    fn push_module(&mut self, module: Module) -> Result<(), BootError> {
        check_count(Part::ModuleList, self.modules.len() as u64 + 1, MAX_MODULES)?;
        self.modules.push(module);
        Ok(())
    }

    /// Adds a memory map entry after checking that there is room for it.
    fn push_region(&mut self, region: MemRegion) -> Result<(), BootError> {
        check_count(
            Part::MemoryMap,
            self.memory_map.len() as u64 + 1,
            MAX_REGIONS,
        )?;
        self.memory_map.push(region);
        Ok(())
    }
}

/// Whether a loader puts the file's name in front of its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileNames {
    /// Arguments only: GRUB 2 with either protocol, and PVH.
    Absent,
    /// The name is the first word: QEMU's `-kernel`, GRUB 0.9x, and other multiboot loaders.
    First,
}

/// What Xen does too: GRUB calls itself "GRUB 2.06-13" since it became GRUB 2 (whose first
/// versions were 1.9x), "GNU GRUB 0.97" before; QEMU's multiboot loader is "qemu".
fn file_names(protocol: Protocol, loader: &str) -> FileNames {
    let grub2 = loader
        .split_once("GRUB ")
        .is_some_and(|(_, version)| !version.starts_with('0'));
    if protocol == Protocol::Pvh || grub2 {
        FileNames::Absent
    } else {
        FileNames::First
    }
}

/// `line` without its first word and without the spaces around what follows.
fn after_first_word(line: &str) -> &str {
    let line = line.trim_matches(' ');
    line.split_once(' ')
        .map_or("", |(_, rest)| rest.trim_start_matches(' '))
}

/// Refuses more than `limit` entries.
fn check_count(part: Part, size: u64, limit: usize) -> Result<(), BootError> {
    let limit = limit as u64;
    if size > limit {
        return Err(BootError::TooLarge { part, size, limit });
    }
    Ok(())
}

/// Reads `len` bytes of `part` at `at`; where there are none to read, the address does not matter.
fn bytes_of<M: PhysMem + ?Sized>(
    mem: &M,
    part: Part,
    at: PhysAddr,
    len: usize,
) -> Result<&[u8], BootError> {
    if len == 0 {
        return Ok(&[]);
    }
    mem.read(at, len)
        .filter(|bytes| bytes.len() == len)
        .ok_or(BootError::Unmapped(part, at))
}

/// Reads the string of `part` at `at`.
fn string_of<M: PhysMem + ?Sized>(mem: &M, part: Part, at: PhysAddr) -> Result<String, BootError> {
    read_string(mem, at, MAX_COMMAND_LINE).map_err(|fault| match fault {
        StringFault::Unmapped => BootError::Unmapped(part, at),
        StringFault::TooLong => BootError::Unterminated(part),
    })
}
