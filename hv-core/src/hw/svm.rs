//! AMD-V on this machine: finding it, turning it on for each CPU, and the world switch.
//!
//! What `enter` does not switch is its caller's: FPU and XCR0 (`context.rs`, `fpu.rs`), DR0 to DR3, TSC_AUX and other MSRs
//! that a VMCB has no place for. The run loop's order around it is that of `run_guest`: interrupts off, the last look at
//! owed work, what the guest is due, `enter`, the exit. An interrupt that ended the run has not been taken: it waits
//! until the exit's handler turns interrupts on, and is then one that hit the hypervisor (`traps::host_trap`), which sets
//! its bits; the loop sees them. The same holds for an NMI, but that it is taken before `enter` returns. A machine check
//! that the guest met is an exit too, and nobody was told of it: `traps::guest_machine_check`.
//!
//! When it returns, FS, GS and LDTR are null and the MSRs of SYSCALL are ours: a PV vCPU that is loaded next gets its own
//! as always (`context::load`), and none may be loaded while this is used (`context::clear`).

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_core::base::Mfn;
use hv_core::hvm::exit::Exit;
use hv_core::hvm::processor::Processor;
use hv_core::hvm::svm_facts::{Absent, Readings, SvmFacts};
use hv_core::hvm::vmcb::{Maps, Vmcb, maps};
use hv_core::pv::frame::GuestFrame;
use spin::Once;

use super::percpu::{self, PerCpu};
use super::{cpu, hvm, pages};
use crate::say;

/// EFER and its bit; VM_CR; VM_HSAVE_PA (AMD APM vol. 2, 15.4 and 15.30).
const EFER: u32 = 0xc000_0080;
const SVME: u64 = 1 << 12;
const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// What the whole machine shares.
#[derive(Clone, Copy)]
struct Shared {
    facts: SvmFacts,
    maps: Maps,
}

static SHARED: Once<Shared> = Once::new();
/// A CPU is there that cannot run guests by AMD-V.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// The pages of one CPU.
#[derive(Clone, Copy)]
pub struct HostPages {
    /// Where VMRUN keeps the host's state.
    save_area: Mfn,
    /// A VMCB with the host's FS, GS, TR, LDTR and entry MSRs.
    vmcb: Mfn,
}

/// What a CPU has for AMD-V; none while it is not on.
#[derive(Default)]
pub struct HostState {
    pages: Cell<Option<HostPages>>,
    on: Cell<bool>,
}

hvm::world_switch!("svm.S");

// SAFETY: `svm.S` defines it, with these arguments.
unsafe extern "C" {
    /// VMRUN between the guest's and the host's rest of the state.
    fn svm_enter(guest_vmcb: u64, host_vmcb: u64, regs: *mut GuestFrame);
}

fn readings() -> Readings {
    let last_leaf = cpu::cpuid(0x8000_0000, 0)[0];
    let leaf = |number: u32| {
        if number <= last_leaf {
            cpu::cpuid(number, 0)
        } else {
            [0; 4]
        }
    };
    let amd = cpu::is_amd();
    let extended_ecx = leaf(0x8000_0001)[2];
    Readings {
        amd,
        last_leaf,
        extended_ecx,
        svm: leaf(0x8000_000a),
        // Only AMD's processors have the register.
        vm_cr: if amd { cpu::rdmsr_safe(VM_CR) } else { None },
    }
}

/// Tags of translations that this CPU has; 0 where there is no AMD-V.
pub fn asids() -> u32 {
    SvmFacts::of(&readings()).map_or(0, |facts| facts.asids)
}

/// What this CPU offers.
///
/// # Errors
/// Why AMD-V is not used.
pub fn detect() -> Result<SvmFacts, Absent> {
    SvmFacts::of(&readings())
}

/// Finds out on the boot CPU whether guests can be run by AMD-V, says so, and turns it on.
pub fn discover() {
    let facts = match detect() {
        Ok(facts) => facts,
        Err(why) => {
            say!("HVM: no AMD-V: {why}");
            return;
        }
    };
    let Some(maps) = make_maps() else {
        say!("HVM: no AMD-V: there is no memory for its maps");
        return;
    };
    SHARED.call_once(|| Shared { facts, maps });
    if let Err(why) = enable_here() {
        say!("HVM: no AMD-V: {why}");
        return;
    }
    facts.lines(|line| say!("{line}"));
}

/// Fills the permission maps that all guests share.
fn make_maps() -> Option<Maps> {
    Some(Maps {
        ports: hvm::make_map(maps::PORT_MAP_WORDS, maps::port_map)?,
        msrs: hvm::make_map(maps::MSR_MAP_WORDS, maps::msr_map)?,
    })
}

/// Turns AMD-V on for this CPU, which may have had it on before it was away. Interrupts are off, its tables are loaded and
/// no guest is. Nothing is done on a machine without it.
///
/// # Errors
/// Why this CPU cannot have it; then no guest of the machine may be run by AMD-V ([`usable`]).
pub fn enable_here() -> Result<(), &'static str> {
    let Some(shared) = SHARED.get() else {
        return Ok(());
    };
    let this = percpu::this();
    let result = turn_on(this, shared);
    this.svm.on.set(result.is_ok());
    if result.is_err() {
        REFUSED.store(true, Ordering::SeqCst);
    }
    result
}

fn turn_on(this: &PerCpu, shared: &Shared) -> Result<(), &'static str> {
    if !detect().is_ok_and(|own| own.covers(&shared.facts)) {
        return Err("this CPU does not offer what the boot CPU does");
    }
    let pages = match this.svm.pages.get() {
        Some(pages) => pages,
        None => host_pages().ok_or("there is no memory for a CPU's state")?,
    };
    this.svm.pages.set(Some(pages));
    // SAFETY: the bit allows the instructions of SVM, of which ours are here and those of PV guests, at CPL 3, fault.
    // The save area is a page of this CPU's alone, for good.
    unsafe {
        cpu::wrmsr(EFER, cpu::rdmsr(EFER) | SVME);
        cpu::wrmsr(VM_HSAVE_PA, pages.save_area.addr().0);
    }
    // SAFETY: writes the host's state into a page of this CPU's alone.
    unsafe { core::arch::asm!("vmsave rax", in("rax") pages.vmcb.addr().0, options(nostack)) };
    this.asids.start();
    Ok(())
}

fn host_pages() -> Option<HostPages> {
    Some(HostPages {
        save_area: pages::alloc_zeroed()?,
        vmcb: pages::alloc_zeroed()?,
    })
}

/// What guests are run with, where AMD-V is on for every CPU that has come up.
pub fn usable() -> Option<(SvmFacts, Maps)> {
    let shared = SHARED.get()?;
    (!REFUSED.load(Ordering::SeqCst)).then_some((shared.facts, shared.maps))
}

/// Runs a guest until it leaves; says why it did. The registers are its own before and after.
///
/// # Safety
/// - Interrupts are off, AMD-V is on for this CPU, no lock is held, and no PV vCPU is loaded here.
/// - The nested root of the VMCB leads to frames that references hold for as long as a TLB may have them, and none of them
///   is the hypervisor's.
/// - The VMCB's page and its maps are for nothing else, and no other CPU uses them.
/// - The guest's FPU state and XCR0 are loaded; DR0 to DR3 too where the guest has them.
pub unsafe fn enter(regs: &mut GuestFrame, vmcb: &mut Vmcb) -> Exit {
    let this = percpu::this();
    let host = this.svm.pages.get().filter(|_| this.svm.on.get());
    let host = host.expect("guests run where AMD-V is on");
    vmcb.prepare(&this.asids, this.id);
    vmcb.load_frame(regs);
    percpu::count(&this.counts.exits);
    // SAFETY: the host VMCB holds this CPU's own state since `enable_here`: its TR and the entry MSRs never change, and
    // the rest is null. For the guest's the caller vouches; it intercepts all that would reach further (`Vmcb`).
    unsafe { svm_enter(vmcb.mfn().addr().0, host.vmcb.addr().0, regs) };
    vmcb.left(&this.asids);
    vmcb.store_frame(regs);
    vmcb.exit()
}
