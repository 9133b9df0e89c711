//! Multiboot 1: the structure that EBX points to (Multiboot Specification 0.6.96, 3.3).

use alloc::string::String;

use super::{
    BootError, BootInfo, MAX_MODULES, MAX_REGIONS, Module, Part, PhysMem, Protocol, VideoInfo,
    bytes_of, check_count, string_of,
};
use crate::base::PhysAddr;
use crate::boot::memmap::{MemRegion, RegionKind};
use crate::boot::phys::Fields;

/// Bits of the first word: which of the following fields hold something.
mod flag {
    pub const MEMORY_SIZES: u32 = 1 << 0;
    pub const COMMAND_LINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
    pub const VBE: u32 = 1 << 11;
    pub const FRAMEBUFFER: u32 = 1 << 12;
}

/// Byte offsets of the fields.
mod offset {
    pub const MEM_LOWER: usize = 4;
    pub const MEM_UPPER: usize = 8;
    pub const COMMAND_LINE: usize = 16;
    pub const MODULE_COUNT: usize = 20;
    pub const MODULES: usize = 24;
    pub const MAP_LENGTH: usize = 44;
    pub const MAP: usize = 48;
    pub const LOADER_NAME: usize = 64;
    pub const VBE_MODE_INFO: usize = 76;
    pub const FRAMEBUFFER: usize = 88;
}

/// Bytes of a module list entry: start, end, string, reserved.
const MODULE_LEN: usize = 16;
/// Bytes of a VBE mode information block that matter here.
const VBE_BLOCK_LEN: usize = 50;
/// Bytes of the map that hold the entries we take; entries may be longer than their 24 bytes.
const MAX_MAP_LEN: usize = MAX_REGIONS * 64;

/// Reads the structure at `at`.
pub(super) fn parse<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Result<BootInfo, BootError> {
    let head = Fields(bytes_of(mem, Part::Header, at, 4)?);
    let flags = head.u32(0).unwrap_or(0);
    // A loader that sets none of the later flags need not have the later fields.
    let len = match flags {
        _ if flags & flag::FRAMEBUFFER != 0 => 116,
        _ if flags & flag::VBE != 0 => 88,
        _ => 72,
    };
    let fields = Fields(bytes_of(mem, Part::Header, at, len)?);
    // All offsets below are less than `len`, so the default is never taken.
    let word = |offset| fields.u32(offset).unwrap_or(0);
    let pointer = |offset| PhysAddr(u64::from(word(offset)));

    let mut boot = BootInfo::empty(Protocol::Multiboot1);
    if flags & flag::LOADER_NAME != 0 {
        boot.loader_name = string_of(mem, Part::LoaderName, pointer(offset::LOADER_NAME))?;
    }
    if flags & flag::COMMAND_LINE != 0 {
        boot.command_line = string_of(mem, Part::CommandLine, pointer(offset::COMMAND_LINE))?;
    }
    if flags & flag::MODULES != 0 {
        read_modules(
            mem,
            &mut boot,
            pointer(offset::MODULES),
            word(offset::MODULE_COUNT),
        )?;
    }
    if flags & flag::MEMORY_MAP != 0 {
        read_map(
            mem,
            &mut boot,
            pointer(offset::MAP),
            word(offset::MAP_LENGTH),
        )?;
    } else if flags & flag::MEMORY_SIZES != 0 {
        map_from_sizes(&mut boot, word(offset::MEM_LOWER), word(offset::MEM_UPPER))?;
    }
    boot.video = read_video(mem, fields, flags);
    Ok(boot)
}

/// The list of `count` modules at `at`.
fn read_modules<M: PhysMem + ?Sized>(
    mem: &M,
    boot: &mut BootInfo,
    at: PhysAddr,
    count: u32,
) -> Result<(), BootError> {
    check_count(Part::ModuleList, u64::from(count), MAX_MODULES)?;
    let list = bytes_of(mem, Part::ModuleList, at, count as usize * MODULE_LEN)?;
    for entry in list.chunks_exact(MODULE_LEN) {
        let entry = Fields(entry);
        let [start, end, string] =
            [0, 4, 8].map(|offset| PhysAddr(u64::from(entry.u32(offset).unwrap_or(0))));
        let len = end
            .0
            .checked_sub(start.0)
            .ok_or(BootError::BackwardModule { start, end })?;
        let command_line = match string.0 {
            0 => String::new(),
            _ => string_of(mem, Part::ModuleCommandLine, string)?,
        };
        boot.push_module(Module {
            start,
            len,
            command_line,
        })?;
    }
    Ok(())
}

/// The memory map of `len` bytes at `at`: entries that begin with their own size.
fn read_map<M: PhysMem + ?Sized>(
    mem: &M,
    boot: &mut BootInfo,
    at: PhysAddr,
    len: u32,
) -> Result<(), BootError> {
    check_count(Part::MemoryMap, u64::from(len), MAX_MAP_LEN)?;
    let mut rest = bytes_of(mem, Part::MemoryMap, at, len as usize)?;
    while !rest.is_empty() {
        let entry = Fields(rest);
        // The size does not count the four bytes that hold it.
        let size = entry.u32(0).unwrap_or(0);
        let too_short = BootError::TooShort {
            part: Part::MemoryMap,
            size: u64::from(size),
        };
        let (Some(base), Some(len), Some(kind)) = (entry.u64(4), entry.u64(12), entry.u32(20))
        else {
            return Err(too_short);
        };
        boot.push_region(MemRegion {
            base: PhysAddr(base),
            len,
            kind: RegionKind::from_e820(kind),
        })?;
        let step = (size as usize).checked_add(4).filter(|&step| step >= 24);
        rest = rest.get(step.ok_or(too_short)?..).ok_or(too_short)?;
    }
    Ok(())
}

/// Without a map: KiB below 640 KiB, and KiB above 1 MiB up to the first hole.
fn map_from_sizes(boot: &mut BootInfo, lower: u32, upper: u32) -> Result<(), BootError> {
    for (base, kib) in [(0, lower.min(640)), (1 << 20, upper)] {
        boot.push_region(MemRegion {
            base: PhysAddr(base),
            len: u64::from(kib) << 10,
            kind: RegionKind::Usable,
        })?;
    }
    Ok(())
}

/// The display; what cannot be read of it is unknown, which is no reason not to boot.
fn read_video<M: PhysMem + ?Sized>(mem: &M, fields: Fields<'_>, flags: u32) -> VideoInfo {
    let framebuffer = || {
        let tail = fields.0.get(offset::FRAMEBUFFER..)?;
        VideoInfo::from_multiboot(Fields(tail), 22)
    };
    let vbe = || {
        let block = PhysAddr(u64::from(fields.u32(offset::VBE_MODE_INFO)?));
        VideoInfo::from_vbe_mode(Fields(mem.read(block, VBE_BLOCK_LEN)?))
    };
    let mut video = None;
    if flags & flag::FRAMEBUFFER != 0 {
        video = framebuffer();
    }
    if flags & flag::VBE != 0 {
        video = video.or_else(vbe);
    }
    video.unwrap_or(VideoInfo::Unknown)
}
