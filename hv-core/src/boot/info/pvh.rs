//! The PVH entry point: `hvm_start_info` (xen/arch-x86/hvm/start_info.h), versions 0 and 1.

use alloc::string::String;

use super::{
    BootError, BootInfo, MAX_MODULES, MAX_REGIONS, Module, Part, PhysMem, Protocol, Rsdp, bytes_of,
    check_count, string_of,
};
use crate::base::PhysAddr;
use crate::boot::memmap::{MemRegion, RegionKind};
use crate::boot::phys::Fields;

/// First word of the structure (`XEN_HVM_START_MAGIC_VALUE`).
pub(super) const MAGIC: u32 = 0x336e_c578;
/// Bytes of the structure in version 0, and with the memory map of version 1.
const LEN_V0: usize = 40;
const LEN_V1: usize = 56;
/// Bytes of an `hvm_modlist_entry`.
const MODULE_LEN: usize = 32;
/// Bytes of an `hvm_memmap_table_entry`.
const REGION_LEN: usize = 24;

/// Reads the structure at `at`.
pub(super) fn parse<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Result<BootInfo, BootError> {
    let head = Fields(bytes_of(mem, Part::Header, at, LEN_V0)?);
    // The offsets below lie inside the bytes read, so the defaults are never taken.
    let word = |offset| head.u32(offset).unwrap_or(0);
    let pointer = |offset| PhysAddr(head.u64(offset).unwrap_or(0));
    if word(0) != MAGIC {
        return Err(BootError::UnknownMagic(word(0)));
    }
    let mut boot = BootInfo::empty(Protocol::Pvh);
    boot.loader_name = String::from("PVH");
    boot.command_line = optional_string(mem, Part::CommandLine, pointer(24))?;
    boot.rsdp = (pointer(32).0 != 0).then(|| Rsdp::Address(pointer(32)));
    read_modules(mem, &mut boot, pointer(16), word(12))?;
    if word(4) >= 1 {
        let tail = Fields(bytes_of(mem, Part::Header, at, LEN_V1)?);
        let map = PhysAddr(tail.u64(40).unwrap_or(0));
        read_map(mem, &mut boot, map, tail.u32(48).unwrap_or(0))?;
    }
    Ok(boot)
}

/// The string at `at`, where 0 means that there is none.
fn optional_string<M: PhysMem + ?Sized>(
    mem: &M,
    part: Part,
    at: PhysAddr,
) -> Result<String, BootError> {
    match at.0 {
        0 => Ok(String::new()),
        _ => string_of(mem, part, at),
    }
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
    for entry in list.chunks_exact(MODULE_LEN).map(Fields) {
        let [start, len, string] = [0, 8, 16].map(|offset| entry.u64(offset).unwrap_or(0));
        boot.push_module(Module {
            start: PhysAddr(start),
            len,
            command_line: optional_string(mem, Part::ModuleCommandLine, PhysAddr(string))?,
        })?;
    }
    Ok(())
}

/// The map of `count` entries at `at`.
fn read_map<M: PhysMem + ?Sized>(
    mem: &M,
    boot: &mut BootInfo,
    at: PhysAddr,
    count: u32,
) -> Result<(), BootError> {
    check_count(Part::MemoryMap, u64::from(count), MAX_REGIONS)?;
    let map = bytes_of(mem, Part::MemoryMap, at, count as usize * REGION_LEN)?;
    for entry in map.chunks_exact(REGION_LEN).map(Fields) {
        boot.push_region(MemRegion {
            base: PhysAddr(entry.u64(0).unwrap_or(0)),
            len: entry.u64(8).unwrap_or(0),
            kind: RegionKind::from_e820(entry.u32(16).unwrap_or(2)),
        })?;
    }
    Ok(())
}
