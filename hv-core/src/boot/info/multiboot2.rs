//! Multiboot 2: a list of tags (Multiboot2 Specification 2.0, 3.6).
//!
//! The `multiboot2` crate reads these tags too, but only from a raw pointer
//! (`BootInformation::load` is an `unsafe fn`), and this library has no unsafe code. So the tags are
//! walked here, bounded, over [`PhysMem`]; the crate is the oracle that the tests compare with.

use alloc::string::String;

use super::{
    BootError, BootInfo, MAX_COMMAND_LINE, MAX_REGIONS, Module, Part, PhysMem, Protocol, Rsdp,
    VideoInfo, bytes_of, check_count,
};
use crate::base::PhysAddr;
use crate::boot::efi::{EfiRegion, EfiSystemTable};
use crate::boot::memmap::{MemRegion, RegionKind};
use crate::boot::phys::Fields;

/// Tag types.
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const VBE: u32 = 7;
    pub const FRAMEBUFFER: u32 = 8;
    pub const EFI32_SYSTEM_TABLE: u32 = 11;
    pub const EFI64_SYSTEM_TABLE: u32 = 12;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
    pub const EFI_MEMORY_MAP: u32 = 17;
}

/// Most bytes of tags taken.
const MAX_LEN: usize = 1 << 20;
/// Tags begin at multiples of this.
const TAG_ALIGN: usize = 8;
/// Bytes before a tag's content: type and size.
const TAG_HEAD: usize = 8;

/// One tag.
struct Tag<'a> {
    number: u32,
    /// The tag from its own first byte, so that offsets are those of the specification.
    fields: Fields<'a>,
}

/// Reads the tags at `at`.
pub(super) fn parse<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Result<BootInfo, BootError> {
    let head = Fields(bytes_of(mem, Part::Header, at, 8)?);
    let size = head.u32(0).unwrap_or(0);
    check_count(Part::Header, u64::from(size), MAX_LEN)?;
    let all = bytes_of(mem, Part::Header, at, size as usize)?;
    let too_short = BootError::TooShort {
        part: Part::Header,
        size: u64::from(size),
    };
    let mut rest = all.get(8..).ok_or(too_short)?;
    let mut boot = BootInfo::empty(Protocol::Multiboot2);
    while let Some(tag) = first_tag(rest)? {
        take_tag(&mut boot, &tag)?;
        let step = tag.fields.0.len().next_multiple_of(TAG_ALIGN);
        rest = rest.get(step..).unwrap_or_default();
    }
    if !boot.efi.memory.is_empty() {
        // The loader's other map is made of this one, with less in it.
        boot.memory_map = boot.efi.memory.iter().map(EfiRegion::region).collect();
    }
    Ok(boot)
}

/// The tag that `rest` begins with; `None` at the end tag or when nothing is left.
fn first_tag(rest: &[u8]) -> Result<Option<Tag<'_>>, BootError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let fields = Fields(rest);
    let (Some(number), Some(size)) = (fields.u32(0), fields.u32(4)) else {
        return Err(BootError::TooShort {
            part: Part::Header,
            size: rest.len() as u64,
        });
    };
    if number == tag::END {
        return Ok(None);
    }
    let part = Part::Tag(number);
    let wanted = u64::from(size);
    if (size as usize) < TAG_HEAD {
        return Err(BootError::TooShort { part, size: wanted });
    }
    check_count(part, wanted, rest.len())?;
    Ok(Some(Tag {
        number,
        fields: Fields(&rest[..size as usize]),
    }))
}

/// Takes what one tag says; tags of no interest are passed over.
fn take_tag(boot: &mut BootInfo, tag: &Tag<'_>) -> Result<(), BootError> {
    let fields = tag.fields;
    let part = Part::Tag(tag.number);
    let too_short = BootError::TooShort {
        part,
        size: fields.0.len() as u64,
    };
    match tag.number {
        tag::COMMAND_LINE => boot.command_line = tag_string(fields, 8, Part::CommandLine)?,
        tag::LOADER_NAME => boot.loader_name = tag_string(fields, 8, Part::LoaderName)?,
        tag::MODULE => {
            let (Some(start), Some(end)) = (fields.u32(8), fields.u32(12)) else {
                return Err(too_short);
            };
            let (start, end) = (PhysAddr(u64::from(start)), PhysAddr(u64::from(end)));
            let backward = BootError::BackwardModule { start, end };
            boot.push_module(Module {
                start,
                len: end.0.checked_sub(start.0).ok_or(backward)?,
                command_line: tag_string(fields, 16, Part::ModuleCommandLine)?,
            })?;
        }
        tag::MEMORY_MAP => take_map(boot, fields).ok_or(too_short)??,
        tag::FRAMEBUFFER => {
            if let Some(video) = VideoInfo::from_multiboot(Fields(&fields.0[TAG_HEAD..]), 24) {
                boot.video = video;
            }
        }
        tag::VBE if boot.video == VideoInfo::Unknown => {
            // The mode information follows four words of mode data and 512 bytes of control data.
            let block = fields.0.get(16 + 512..).map(Fields);
            if let Some(video) = block.and_then(VideoInfo::from_vbe_mode) {
                boot.video = video;
            }
        }
        tag::EFI32_SYSTEM_TABLE => {
            let at = fields.u32(8).ok_or(too_short)?;
            boot.efi.system_table = Some(EfiSystemTable::Narrow(PhysAddr(u64::from(at))));
        }
        tag::EFI64_SYSTEM_TABLE => {
            let at = fields.u64(8).ok_or(too_short)?;
            boot.efi.system_table = Some(EfiSystemTable::Wide(PhysAddr(at)));
        }
        tag::EFI_MEMORY_MAP => {
            let (Some(size), Some(version)) = (fields.u32(8), fields.u32(12)) else {
                return Err(too_short);
            };
            let entries = fields.0.get(16..).unwrap_or_default();
            boot.efi.memory = EfiRegion::parse_all(entries, size, version)?;
        }
        // The new form leads to 64-bit tables; the old one counts only without it.
        tag::ACPI_NEW => boot.rsdp = Some(Rsdp::Copy(fields.0[TAG_HEAD..].to_vec())),
        tag::ACPI_OLD if boot.rsdp.is_none() => {
            boot.rsdp = Some(Rsdp::Copy(fields.0[TAG_HEAD..].to_vec()));
        }
        _ => {}
    }
    Ok(())
}

/// The string at offset `at` of a tag, up to its terminator or the tag's end.
fn tag_string(fields: Fields<'_>, at: usize, part: Part) -> Result<String, BootError> {
    let bytes = fields.0.get(at..).unwrap_or_default();
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    check_count(part, text.len() as u64, MAX_COMMAND_LINE)?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The entries of a memory map tag; `None` when its entries are too short to be any.
fn take_map(boot: &mut BootInfo, fields: Fields<'_>) -> Option<Result<(), BootError>> {
    let entry_size = fields.u32(8)? as usize;
    let entries = fields.0.get(16..)?;
    if entry_size < 20 {
        return None;
    }
    let count = entries.len() / entry_size;
    if let Err(error) = check_count(Part::MemoryMap, count as u64, MAX_REGIONS) {
        return Some(Err(error));
    }
    for entry in entries.chunks_exact(entry_size).map(Fields) {
        let region = MemRegion {
            base: PhysAddr(entry.u64(0)?),
            len: entry.u64(8)?,
            kind: RegionKind::from_e820(entry.u32(16)?),
        };
        if let Err(error) = boot.push_region(region) {
            return Some(Err(error));
        }
    }
    Some(Ok(()))
}
