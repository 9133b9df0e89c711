//! Microcode: the patch for this machine's CPUs, loaded by each as it comes up, or when dom0 brings one.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hv_core::base::lock::{RwLock, rank};
use hv_core::boot::microcode::{Maker, Patch, Target, in_initrd, select};
use xen_abi::errno::Errno;

use super::percpu::{self, softirq};
use super::start::Boot;
use super::{apic, cpu, pages};
use crate::say;

const REVISION: u32 = 0x8b;
const PLATFORM_ID: u32 = 0x17;
const LOAD_INTEL: u32 = 0x79;
const LOAD_AMD: u32 = 0xc001_0020;

/// The patch, aligned as the CPU wants it.
struct Kept {
    blocks: Vec<u128>,
    entry: usize,
    revision: u32,
}

/// Held for reading while a CPU loads it.
static PATCH: RwLock<Option<Kept>> = RwLock::new(rank::MICROCODE, None);

/// This CPU, if its maker's microcode is known.
fn target() -> Option<Target> {
    let vendor = cpu::identity().get_vendor_info()?;
    let maker = Maker::of(vendor.as_str().as_bytes().first_chunk()?)?;
    let platform = match maker {
        Maker::Intel => 1 << (cpu::rdmsr_safe(PLATFORM_ID).unwrap_or(0) >> 50 & 7),
        Maker::Amd => 0,
    };
    Some(Target {
        maker,
        signature: cpu::cpuid(1, 0)[0],
        platform,
        revision: revision(maker),
    })
}

/// The revision that this CPU runs (Intel SDM vol. 3, 10.11.7.1; AMD: PATCH_LEVEL).
fn revision(maker: Maker) -> u32 {
    if maker == Maker::Intel {
        // SAFETY: clears what CPUID fills in next.
        unsafe { cpu::wrmsr_safe(REVISION, 0) };
        let _ = cpu::cpuid(1, 0);
        return (cpu::rdmsr_safe(REVISION).unwrap_or(0) >> 32) as u32;
    }
    cpu::rdmsr_safe(REVISION).unwrap_or(0) as u32
}

/// Looks for microcode where `ucode=` says, on the boot CPU.
pub fn early(boot: &Boot) {
    let wanted = boot.command_line.options.microcode;
    if wanted.module.is_none() && !wanted.scan {
        return;
    }
    let Some(cpu) = target() else {
        say!("Microcode: not for CPUs of this maker");
        return;
    };
    let modules = &boot.info.modules;
    let bytes = |index: usize| {
        // SAFETY: the modules lie in RAM, were checked, and nobody writes them before dom0 is built.
        modules
            .get(index)
            .map(|m| unsafe { pages::ram(m.start, m.len as usize) })
    };
    let file = match wanted.index(modules.len()) {
        Some(0 | 1) => {
            say!(
                "Microcode: that module is dom0's; it must come behind the initrd, or in it (scan)"
            );
            None
        }
        Some(index) => bytes(index),
        None if wanted.module.is_some() => {
            say!("Microcode: there is no such module");
            None
        }
        None => None,
    };
    let scanned = || {
        let found = bytes(1)
            .filter(|_| wanted.scan)
            .map(|i| in_initrd(i, cpu.maker));
        if found == Some(None) {
            say!("Microcode: none at the start of the initrd");
        }
        found.flatten()
    };
    if let Some(file) = file.or_else(scanned) {
        // What is wrong was said.
        let _loaded = load(file, cpu);
    }
}

/// Loads a file on this CPU and keeps its patch for the others.
fn load(file: &[u8], cpu: Target) -> Result<(), Errno> {
    let patch = select(file, cpu).map_err(|why| {
        say!("Microcode: revision {:#x} stays: {why}", cpu.revision);
        Errno::from(why)
    })?;
    let kept = keep(patch).ok_or(Errno::ENOMEM)?;
    if !apply(&kept, cpu) {
        return Err(Errno::EIO);
    }
    // The last one is dropped after the lock.
    let _last = PATCH.write().replace(kept);
    Ok(())
}

fn keep(patch: Patch<'_>) -> Option<Kept> {
    let mut blocks = Vec::new();
    blocks
        .try_reserve_exact(patch.bytes.len().div_ceil(16))
        .ok()?;
    for part in patch.bytes.chunks(16) {
        let mut block = [0; 16];
        block[..part.len()].copy_from_slice(part);
        blocks.push(u128::from_le_bytes(block));
    }
    Some(Kept {
        blocks,
        entry: patch.entry,
        revision: patch.revision,
    })
}

/// Gives the patch to this CPU; whether that runs it then.
fn apply(kept: &Kept, before: Target) -> bool {
    let register = match before.maker {
        Maker::Amd => LOAD_AMD,
        Maker::Intel => LOAD_INTEL,
    };
    let address = kept.blocks.as_ptr() as u64 + kept.entry as u64;
    // SAFETY: the patch is mapped, aligned and checked as far as its format goes; the CPU checks the rest and refuses
    // what its maker has not signed.
    let taken = unsafe { cpu::wrmsr_safe(register, address) };
    let now = revision(before.maker);
    let id = percpu::this().id;
    if taken && now == kept.revision {
        say!(
            "Microcode: CPU {id}: revision {:#x} replaces {:#x}",
            now,
            before.revision
        );
        return true;
    }
    say!(
        "Microcode: CPU {id} refuses revision {:#x}{} and stays at {now:#x}",
        kept.revision,
        if taken { "" } else { " (#GP)" }
    );
    false
}

/// A CPU comes up, or was told that there is a newer patch.
pub fn follow() {
    let patch = PATCH.read();
    if let (Some(kept), Some(cpu)) = (&*patch, target())
        && cpu.revision < kept.revision
    {
        apply(kept, cpu);
    }
}

/// A file from dom0.
pub fn update(file: &[u8]) -> Result<(), Errno> {
    load(file, target().ok_or(Errno::EINVAL)?)?;
    let this = percpu::this().id;
    for other in percpu::online().filter(|c| *c != this) {
        if let Some(remote) = percpu::remote(other) {
            remote
                .softirq
                .fetch_or(softirq::MICROCODE, Ordering::SeqCst);
            apic::send_ipi(other, apic::vector::EVENT_CHECK);
        }
    }
    Ok(())
}
