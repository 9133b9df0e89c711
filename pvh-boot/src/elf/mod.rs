//! The kernel's ELF file: what is to be loaded where, and the notes it carries for Xen.
//!
//! Structures are goblin's; the reading is done here with every offset checked, because the file
//! comes from outside. Only 64-bit x86 executables are taken.

use alloc::vec::Vec;
use core::fmt;

use goblin::elf64::header::{
    EI_CLASS, EI_DATA, ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_DYN, ET_EXEC,
    Header, SIZEOF_EHDR,
};
use goblin::elf64::program_header::{PT_LOAD, PT_NOTE, ProgramHeader, SIZEOF_PHDR};
use goblin::elf64::section_header::{SHT_NOTE, SIZEOF_SHDR, SectionHeader};

use crate::fields::{slice_at, u16_at, u32_at, u64_at};

mod notes;

pub use notes::{Features, L1MfnValid, NoteError, PaeMode, XenNotes, feature_name};

/// Most loadable segments a kernel may have.
const MAX_SEGMENTS: usize = 64;

/// A piece of the kernel to be placed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Physical address that the ELF file asks for (`p_paddr`).
    pub paddr: u64,
    /// Bytes in memory; what exceeds `data` is zero.
    pub mem_size: u64,
    /// Bytes from the file.
    pub data: &'a [u8],
}

impl Segment<'_> {
    /// First physical address after the segment; checked when the file was read.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.paddr.saturating_add(self.mem_size)
    }
}

/// A checked kernel file.
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    /// Virtual address of the ELF entry point.
    pub entry: u64,
    /// Loadable segments by ascending address; they do not overlap, and there is at least one.
    pub segments: Vec<Segment<'a>>,
    /// What the kernel says to Xen.
    pub notes: XenNotes<'a>,
}

/// Why an ELF file is not a kernel that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Not an ELF file.
    NotElf,
    /// A 32-bit kernel.
    Only32Bit,
    /// A class or byte order that no x86 kernel has.
    WrongFormat,
    /// For another processor (`e_machine`).
    WrongMachine(u16),
    /// Not an executable (`e_type`).
    NotExecutable(u16),
    /// A part named in the headers lies beyond the end of the file.
    Truncated(&'static str),
    /// A header entry has an impossible size or count.
    BadHeader(&'static str),
    /// No segment to load, or too many.
    SegmentCount(usize),
    /// A segment holds more bytes in the file than in memory, or wraps around; its address.
    BadSegment(u64),
    /// Two segments overlap at this address.
    Overlap(u64),
    /// Memory for the list of segments ran out.
    OutOfMemory,
    /// The notes for Xen are missing or wrong.
    Notes(NoteError),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "it is not an ELF file"),
            Self::Only32Bit => write!(f, "the kernel is 32-bit only, a 64-bit one is needed"),
            Self::WrongFormat => write!(f, "the ELF file is neither 64-bit nor little-endian"),
            Self::WrongMachine(machine) => {
                write!(
                    f,
                    "the kernel is for another processor (ELF machine {machine})"
                )
            }
            Self::NotExecutable(kind) => {
                write!(f, "the ELF file is not an executable (type {kind})")
            }
            Self::Truncated(what) => write!(f, "the ELF file is cut short: its {what} is missing"),
            Self::BadHeader(what) => write!(f, "the ELF file is damaged: wrong {what}"),
            Self::SegmentCount(0) => write!(f, "the ELF file has nothing to load"),
            Self::SegmentCount(count) => write!(
                f,
                "the ELF file has {count} segments to load, more than {MAX_SEGMENTS}"
            ),
            Self::BadSegment(paddr) => {
                write!(f, "the ELF segment at {paddr:#x} has an impossible size")
            }
            Self::Overlap(paddr) => write!(f, "two ELF segments overlap at {paddr:#x}"),
            Self::OutOfMemory => write!(f, "no memory for its list of segments"),
            Self::Notes(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ElfError {}

impl From<NoteError> for ElfError {
    fn from(error: NoteError) -> Self {
        Self::Notes(error)
    }
}

impl<'a> Kernel<'a> {
    /// Reads and checks a kernel's ELF file.
    ///
    /// # Errors
    /// The file is not a 64-bit x86 executable, is cut short or damaged, or carries no Xen notes.
    pub fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        let header = read_header(file)?;
        let segments = load_segments(file, &header)?;
        let notes = xen_notes(file, &header)?;
        Ok(Self {
            entry: header.e_entry,
            segments,
            notes,
        })
    }

    /// Lowest and first free physical address of all segments.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let first = self.segments.first().map_or(0, |segment| segment.paddr);
        let end = self.segments.last().map_or(0, Segment::end);
        (first, end)
    }
}

/// Reads the file header and refuses what is not a 64-bit x86 executable.
fn read_header(file: &[u8]) -> Result<Header, ElfError> {
    const TRUNCATED: ElfError = ElfError::Truncated("header");
    if !file.starts_with(ELFMAG) {
        return Err(ElfError::NotElf);
    }
    match (file.get(EI_CLASS).copied(), file.get(EI_DATA).copied()) {
        (Some(ELFCLASS64), Some(ELFDATA2LSB)) => {}
        (Some(ELFCLASS32), _) => return Err(ElfError::Only32Bit),
        (Some(_), Some(_)) => return Err(ElfError::WrongFormat),
        _ => return Err(TRUNCATED),
    }
    let header = parse_header(file).ok_or(TRUNCATED)?;
    if header.e_machine != EM_X86_64 {
        return Err(ElfError::WrongMachine(header.e_machine));
    }
    if header.e_type != ET_EXEC && header.e_type != ET_DYN {
        return Err(ElfError::NotExecutable(header.e_type));
    }
    if header.e_phnum != 0 && usize::from(header.e_phentsize) < SIZEOF_PHDR {
        return Err(ElfError::BadHeader("program header size"));
    }
    Ok(header)
}

fn parse_header(file: &[u8]) -> Option<Header> {
    let header = file.get(..SIZEOF_EHDR)?;
    Some(Header {
        e_ident: header.get(..16)?.try_into().ok()?,
        e_type: u16_at(header, 16)?,
        e_machine: u16_at(header, 18)?,
        e_version: u32_at(header, 20)?,
        e_entry: u64_at(header, 24)?,
        e_phoff: u64_at(header, 32)?,
        e_shoff: u64_at(header, 40)?,
        e_flags: u32_at(header, 48)?,
        e_ehsize: u16_at(header, 52)?,
        e_phentsize: u16_at(header, 54)?,
        e_phnum: u16_at(header, 56)?,
        e_shentsize: u16_at(header, 58)?,
        e_shnum: u16_at(header, 60)?,
        e_shstrndx: u16_at(header, 62)?,
    })
}

/// The bytes of entry `index` of a table in the file.
fn table_entry(file: &[u8], table: u64, entry_size: u16, index: u16) -> Option<&[u8]> {
    let offset = u64::from(entry_size).checked_mul(u64::from(index))?;
    slice_at(file, table.checked_add(offset)?, u64::from(entry_size))
}

fn program_header(file: &[u8], header: &Header, index: u16) -> Result<ProgramHeader, ElfError> {
    table_entry(file, header.e_phoff, header.e_phentsize, index)
        .and_then(|entry| {
            Some(ProgramHeader {
                p_type: u32_at(entry, 0)?,
                p_flags: u32_at(entry, 4)?,
                p_offset: u64_at(entry, 8)?,
                p_vaddr: u64_at(entry, 16)?,
                p_paddr: u64_at(entry, 24)?,
                p_filesz: u64_at(entry, 32)?,
                p_memsz: u64_at(entry, 40)?,
                p_align: u64_at(entry, 48)?,
            })
        })
        .ok_or(ElfError::Truncated("program header table"))
}

fn section_header(file: &[u8], header: &Header, index: u16) -> Option<SectionHeader> {
    let entry = table_entry(file, header.e_shoff, header.e_shentsize, index)?;
    Some(SectionHeader {
        sh_name: u32_at(entry, 0)?,
        sh_type: u32_at(entry, 4)?,
        sh_flags: u64_at(entry, 8)?,
        sh_addr: u64_at(entry, 16)?,
        sh_offset: u64_at(entry, 24)?,
        sh_size: u64_at(entry, 32)?,
        sh_link: u32_at(entry, 40)?,
        sh_info: u32_at(entry, 44)?,
        sh_addralign: u64_at(entry, 48)?,
        sh_entsize: u64_at(entry, 56)?,
    })
}

/// Collects the loadable segments, sorted and checked against each other.
fn load_segments<'a>(file: &'a [u8], header: &Header) -> Result<Vec<Segment<'a>>, ElfError> {
    let mut segments = Vec::new();
    segments
        .try_reserve_exact(usize::from(header.e_phnum).min(MAX_SEGMENTS))
        .map_err(|_| ElfError::OutOfMemory)?;
    for index in 0..header.e_phnum {
        let program = program_header(file, header, index)?;
        if program.p_type != PT_LOAD || program.p_memsz == 0 {
            continue;
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(ElfError::SegmentCount(usize::from(header.e_phnum)));
        }
        segments.push(load_segment(file, &program)?);
    }
    if segments.is_empty() {
        return Err(ElfError::SegmentCount(0));
    }
    segments.sort_unstable_by_key(|segment| segment.paddr);
    for pair in segments.windows(2) {
        if pair[0].end() > pair[1].paddr {
            return Err(ElfError::Overlap(pair[1].paddr));
        }
    }
    Ok(segments)
}

fn load_segment<'a>(file: &'a [u8], program: &ProgramHeader) -> Result<Segment<'a>, ElfError> {
    let bad = ElfError::BadSegment(program.p_paddr);
    if program.p_filesz > program.p_memsz {
        return Err(bad);
    }
    program.p_paddr.checked_add(program.p_memsz).ok_or(bad)?;
    let data = slice_at(file, program.p_offset, program.p_filesz)
        .ok_or(ElfError::Truncated("segment data"))?;
    Ok(Segment {
        paddr: program.p_paddr,
        mem_size: program.p_memsz,
        data,
    })
}

/// Reads the Xen notes of the program headers, or else of the sections.
fn xen_notes<'a>(file: &'a [u8], header: &Header) -> Result<XenNotes<'a>, ElfError> {
    let mut notes = XenNotes::default();
    let mut found = 0;
    for index in 0..header.e_phnum {
        let program = program_header(file, header, index)?;
        if program.p_type == PT_NOTE {
            let bytes = slice_at(file, program.p_offset, program.p_filesz)
                .ok_or(ElfError::Truncated("note segment"))?;
            found += notes.read(bytes)?;
        }
    }
    if found == 0 && usize::from(header.e_shentsize) >= SIZEOF_SHDR {
        for index in 0..header.e_shnum {
            let Some(section) = section_header(file, header, index) else {
                return Err(ElfError::Truncated("section header table"));
            };
            if section.sh_type == SHT_NOTE {
                let bytes = slice_at(file, section.sh_offset, section.sh_size)
                    .ok_or(ElfError::Truncated("note section"))?;
                found += notes.read(bytes)?;
            }
        }
    }
    if found == 0 {
        return Err(NoteError::Missing.into());
    }
    Ok(notes)
}
