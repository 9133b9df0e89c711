//! The PVH entry point: `hvm_start_info` (xen/arch-x86/hvm/start_info.h), versions 0 and 1.

use alloc::string::String;
use core::mem::{offset_of, size_of};

use xen_abi::hvm_start_info::{
    HvmMemmapTableEntry, HvmModlistEntry, HvmStartInfo, XEN_HVM_START_MAGIC_VALUE,
};
use zerocopy::FromBytes;

use super::{
    BootError, BootInfo, MAX_MODULES, MAX_REGIONS, Module, Part, PhysMem, Protocol, Rsdp, bytes_of,
    check_count, string_of,
};
use crate::base::PhysAddr;
use crate::boot::memmap::{MemRegion, RegionKind};

/// Bytes of the structure in version 0, which ends before the memory map.
const LEN_V0: usize = offset_of!(HvmStartInfo, memmap_paddr);

/// Reads the structure at `at`.
pub(super) fn parse<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Result<BootInfo, BootError> {
    let info = read_start_info(mem, at)?;
    if info.magic != XEN_HVM_START_MAGIC_VALUE {
        return Err(BootError::UnknownMagic(info.magic));
    }
    let mut boot = BootInfo::empty(Protocol::Pvh);
    boot.loader_name = String::from("PVH");
    boot.command_line = optional_string(mem, Part::CommandLine, info.cmdline_paddr)?;
    boot.rsdp = (info.rsdp_paddr != 0).then_some(Rsdp::Address(PhysAddr(info.rsdp_paddr)));
    read_modules(mem, &mut boot, &info)?;
    read_map(mem, &mut boot, &info)?;
    Ok(boot)
}

/// The structure; what version 0 lacks is 0.
fn read_start_info<M: PhysMem + ?Sized>(mem: &M, at: PhysAddr) -> Result<HvmStartInfo, BootError> {
    const LEN: usize = size_of::<HvmStartInfo>();
    let mut bytes = [0; LEN];
    bytes[..LEN_V0].copy_from_slice(bytes_of(mem, Part::Header, at, LEN_V0)?);
    let head: HvmStartInfo = zerocopy::transmute!(bytes);
    if head.version == 0 {
        return Ok(head);
    }
    bytes.copy_from_slice(bytes_of(mem, Part::Header, at, LEN)?);
    Ok(zerocopy::transmute!(bytes))
}

/// Copies an array of `count` structures at `at`.
fn read_array<T: FromBytes, M: PhysMem + ?Sized>(
    mem: &M,
    part: Part,
    at: u64,
    count: u32,
) -> Result<impl Iterator<Item = T>, BootError> {
    let len = count as usize * size_of::<T>();
    let bytes = bytes_of(mem, part, PhysAddr(at), len)?;
    // The pieces have the size of T, so none is dropped.
    let pieces = bytes.chunks_exact(size_of::<T>());
    Ok(pieces.filter_map(|piece| T::read_from_bytes(piece).ok()))
}

/// The string at `at`, where 0 means that there is none.
fn optional_string<M: PhysMem + ?Sized>(mem: &M, part: Part, at: u64) -> Result<String, BootError> {
    match at {
        0 => Ok(String::new()),
        _ => string_of(mem, part, PhysAddr(at)),
    }
}

/// The list of modules.
fn read_modules<M: PhysMem + ?Sized>(
    mem: &M,
    boot: &mut BootInfo,
    info: &HvmStartInfo,
) -> Result<(), BootError> {
    let (part, count) = (Part::ModuleList, info.nr_modules);
    check_count(part, u64::from(count), MAX_MODULES)?;
    for entry in read_array::<HvmModlistEntry, _>(mem, part, info.modlist_paddr, count)? {
        boot.push_module(Module {
            start: PhysAddr(entry.paddr),
            len: entry.size,
            command_line: optional_string(mem, Part::ModuleCommandLine, entry.cmdline_paddr)?,
        })?;
    }
    Ok(())
}

/// The memory map.
fn read_map<M: PhysMem + ?Sized>(
    mem: &M,
    boot: &mut BootInfo,
    info: &HvmStartInfo,
) -> Result<(), BootError> {
    let (part, count) = (Part::MemoryMap, info.memmap_entries);
    check_count(part, u64::from(count), MAX_REGIONS)?;
    for entry in read_array::<HvmMemmapTableEntry, _>(mem, part, info.memmap_paddr, count)? {
        boot.push_region(MemRegion {
            base: PhysAddr(entry.addr),
            len: entry.size,
            kind: RegionKind::from_e820(entry.r#type),
        })?;
    }
    Ok(())
}
