//! VT-x on this machine: finding it, turning it on for each CPU, its instructions, and the world switch.
//!
//! What `enter` does not switch is its caller's, as with AMD-V (`svm.rs`): FPU and XCR0, DR0 to DR3, TSC_AUX. The MSRs of SYSCALL are
//! the guest's from [`load`] to [`park`]. An interrupt that ended the run has not been taken: exits do not acknowledge it.
//!
//! **Which VMCS is where.** That of the vCPU which is loaded on a CPU is *current* there. All others are clear: whoever reads or
//! writes one at rest makes it current for that moment. So no CPU has anything of a VMCS that another one may load.

use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_core::base::Mfn;
use hv_core::boot::cmdline::VmxOptions;
use hv_core::hvm::exit::Exit;
use hv_core::hvm::processor::Processor;
use hv_core::hvm::vmcs::fields::Ports;
use hv_core::hvm::vmcs::layout::Field;
use hv_core::hvm::vmcs::{Common, GUARDED, GUARDED_MSRS, Vmcs, checks};
use hv_core::hvm::vmx_facts::{Absent, Capabilities, Readings, VmxFacts};
use hv_core::hvm::vmx_maps::{MSR_MAP_WORDS, msr_map};
use hv_core::pv::frame::GuestFrame;
use spin::Once;

use super::percpu::{self, PerCpu};
use super::{cpu, hvm, layout, pages, tables};
use crate::say;

/// IA32_FEATURE_CONTROL (Intel SDM vol. 4).
const FEATURE_CONTROL: u32 = 0x3a;
/// IA32_EFER.
const EFER: u32 = 0xc000_0080;
/// CPUID 1 ecx: VMX.
const VMX: u32 = 1 << 5;
/// CR0.NE and CR0.TS.
const NE: u64 = 1 << 5;
const TS: u64 = 1 << 3;
/// CR4.VMXE.
const VMXE: u64 = 1 << 13;
/// What INVEPT and INVVPID drop: all contexts (Intel SDM vol. 3, "INVEPT" and "INVVPID").
const ALL_CONTEXTS: u64 = 2;

static SHARED: Once<Common> = Once::new();
/// A CPU is there that cannot run guests by VT-x.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// What a CPU has for VT-x.
#[derive(Default)]
pub struct HostState {
    region: Cell<Option<Mfn>>,
    on: Cell<bool>,
    /// Its current VMCS.
    current: Cell<Option<Mfn>>,
    /// The generation of tags in which nested translations were dropped last.
    flushed: Cell<u64>,
    /// The MSRs of SYSCALL as the hypervisor has them.
    own_msrs: Cell<[u64; GUARDED]>,
    /// Runs of guests.
    runs: Cell<u64>,
    /// VMREADs and VMWRITEs.
    accesses: Cell<u64>,
}

hvm::world_switch!(
    "vmx.S",
    host_rsp = const Field::HostRsp.encoding(),
    rax = const offset_of!(GuestFrame, rax)
);

// SAFETY: `vmx.S` defines them, with these arguments.
unsafe extern "C" {
    /// The entry of the current VMCS; whether the instruction failed.
    fn vmx_enter(regs: *mut GuestFrame, resume: u32, host_rsp: *mut u64) -> u32;
    /// Where exits arrive.
    fn vmx_left();
}

/// The capability MSRs, from IA32_VMX_BASIC on (Intel SDM vol. 3, appendix A).
mod capability {
    pub const BASIC: u32 = 0x480;
    pub const PIN: u32 = 0x481;
    pub const PRIMARY: u32 = 0x482;
    pub const EXIT: u32 = 0x483;
    pub const ENTRY: u32 = 0x484;
    pub const MISC: u32 = 0x485;
    pub const CR0_FIXED: [u32; 2] = [0x486, 0x487];
    pub const CR4_FIXED: [u32; 2] = [0x488, 0x489];
    pub const SECONDARY: u32 = 0x48b;
    pub const EPT_VPID: u32 = 0x48c;
    /// What is between those of the four words whose names have TRUE in them and the others.
    pub const TO_TRUE: u32 = 0xc;
}

fn readings() -> Readings {
    let leaf_1_ecx = cpu::cpuid(1, 0)[2];
    if leaf_1_ecx & VMX == 0 {
        // There is nothing else to be read.
        return Readings {
            leaf_1_ecx,
            ..Readings::default()
        };
    }
    let read = |msr| cpu::rdmsr_safe(msr).unwrap_or(0);
    let words = |more: u32| Capabilities {
        pin: read(capability::PIN + more),
        primary: read(capability::PRIMARY + more),
        exit: read(capability::EXIT + more),
        entry: read(capability::ENTRY + more),
    };
    Readings {
        leaf_1_ecx,
        feature_control: cpu::rdmsr_safe(FEATURE_CONTROL),
        basic: read(capability::BASIC),
        plain: words(0),
        exact: words(capability::TO_TRUE),
        secondary: read(capability::SECONDARY),
        misc: read(capability::MISC),
        cr0_fixed: capability::CR0_FIXED.map(read),
        cr4_fixed: capability::CR4_FIXED.map(read),
        ept_vpid: read(capability::EPT_VPID),
    }
}

/// Tags of translations that this CPU has, before any option is looked at; 0 where there is no VT-x.
pub fn tags() -> u32 {
    VmxFacts::of(&readings(), &VmxOptions::default()).map_or(0, |facts| facts.asids())
}

/// What this CPU offers.
///
/// # Errors
/// Why VT-x is not used.
pub fn detect(options: &VmxOptions) -> Result<VmxFacts, Absent> {
    VmxFacts::of(&readings(), options)
}

/// Finds out on the boot CPU whether guests can be run by VT-x, says so, and turns it on.
pub fn discover(options: &VmxOptions) {
    let facts = match detect(options) {
        Ok(facts) => facts,
        Err(why) => {
            say!("HVM: no VT-x: {why}");
            return;
        }
    };
    let Some(map) = hvm::make_map(MSR_MAP_WORDS, msr_map) else {
        say!("HVM: no VT-x: there is no memory for its maps");
        return;
    };
    SHARED.call_once(|| Common {
        facts,
        msr_map: map,
        ports: &Here,
    });
    if let Err(why) = enable_here() {
        say!("HVM: no VT-x: {why}");
        return;
    }
    facts.lines(|line| say!("{line}"));
}

/// Turns VT-x on for this CPU, which may have had it on before it was away. Interrupts are off, its tables are loaded and
/// no guest is. Nothing is done on a machine without it.
///
/// # Errors
/// Why this CPU cannot have it; then no guest of the machine may be run by VT-x ([`usable`]).
pub fn enable_here() -> Result<(), &'static str> {
    let Some(shared) = SHARED.get() else {
        return Ok(());
    };
    let this = percpu::this();
    let result = turn_on(this, shared);
    this.vmx.on.set(result.is_ok());
    if result.is_err() {
        REFUSED.store(true, Ordering::SeqCst);
    }
    result
}

fn turn_on(this: &PerCpu, shared: &Common) -> Result<(), &'static str> {
    // What the options exclude the boot CPU has not.
    let own = detect(&VmxOptions::default()).ok();
    let Some(own) = own.filter(|own| own.covers(&shared.facts)) else {
        return Err("this CPU does not offer what the boot CPU does");
    };
    let region = match this.vmx.region.get() {
        Some(region) => region,
        None => pages::alloc_zeroed().ok_or("there is no memory for a CPU's state")?,
    };
    this.vmx.region.set(Some(region));
    super::paging::table(region)[0].store(shared.facts.revision.into(), Ordering::Relaxed);
    // SAFETY: allows VMXON in this mode; nothing else depends on it until the next reset, which clears the lock.
    let unlocked = own
        .feature_control_to_write()
        .is_none_or(|value| unsafe { cpu::wrmsr_safe(FEATURE_CONTROL, value) });
    if !unlocked {
        return Err("IA32_FEATURE_CONTROL cannot be written");
    }
    // SAFETY: errors of the FPU are exceptions, as they are for all who run here; the instructions of VT-x are ours, and those of guests
    // fault or are exits.
    unsafe {
        cpu::set_cr0(cpu::cr0() | NE);
        cpu::set_cr4(cpu::cr4() | VMXE);
    }
    // SAFETY: the region is a page of this CPU's alone, for good, with the revision in its first word.
    if unsafe { on(region.addr().0) } {
        return Err("VMXON fails");
    }
    this.vmx.own_msrs.set(GUARDED_MSRS.map(cpu::rdmsr));
    this.vmx.current.set(None);
    this.asids.start();
    Ok(())
}

/// Turns VT-x off for this CPU: while it is on, an INIT does not reach it. No guest is loaded.
pub fn disable_here() {
    let this = percpu::this();
    if this.vmx.on.replace(false) {
        // SAFETY: no VMCS is current here, and none will be.
        unsafe {
            core::arch::asm!("vmxoff", options(nostack));
            cpu::set_cr4(cpu::cr4() & !VMXE);
        }
    }
}

/// What guests are run with, where VT-x is on for every CPU that has come up.
pub fn usable() -> Option<Common> {
    let shared = SHARED.get()?;
    (!REFUSED.load(Ordering::SeqCst)).then_some(*shared)
}

/// VMXON; whether it failed.
///
/// # Safety
/// The page is a VMXON region that is for nothing else; CR0 and CR4 allow the instruction.
unsafe fn on(region: u64) -> bool {
    let failed: u8;
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("vmxon [{a}]", "setna {f}", a = in(reg) &raw const region, f = out(reg_byte) failed, options(nostack));
    }
    failed != 0
}

/// Makes a VMCS current.
fn make_current(this: &PerCpu, block: Mfn) {
    let at = block.addr().0;
    // SAFETY: the page is a vCPU's VMCS, clear on all other CPUs, for which its owner vouches (`Ports`).
    unsafe {
        core::arch::asm!("vmptrld [{}]", in(reg) &raw const at, options(nostack));
    }
    this.vmx.current.set(Some(block));
}

/// Makes a VMCS clear: all of it is in its page, and no CPU has it.
fn make_clear(this: &PerCpu, block: Mfn) {
    let at = block.addr().0;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("vmclear [{}]", in(reg) &raw const at, options(nostack));
    }
    if this.vmx.current.get() == Some(block) {
        this.vmx.current.set(None);
    }
}

/// Does something while a VMCS is current.
#[inline]
fn with<R>(block: Mfn, what: impl FnOnce() -> R) -> R {
    let this = percpu::this();
    percpu::count(&this.vmx.accesses);
    let before = this.vmx.current.get();
    if before == Some(block) {
        return what();
    }
    make_current(this, block);
    let result = what();
    make_clear(this, block);
    if let Some(before) = before {
        make_current(this, before);
    }
    result
}

/// The processor that this runs on.
struct Here;

impl Ports for Here {
    fn clear(&self, block: Mfn) {
        make_clear(percpu::this(), block);
    }

    #[inline]
    fn read(&self, block: Mfn, field: Field) -> u64 {
        with(block, || {
            let value: u64;
            // SAFETY: reads a field of the current VMCS; one that the processor does not have leaves zero.
            unsafe {
                core::arch::asm!("vmread {v}, {f}", v = inout(reg) 0u64 => value, f = in(reg) u64::from(field.encoding()), options(nostack));
            }
            value
        })
    }

    #[inline]
    fn write(&self, block: Mfn, field: Field, value: u64) {
        with(block, || {
            // SAFETY: a field of a vCPU's VMCS: what it lets the guest do is for `Vmcs` to decide; the host's state is written by `load`.
            unsafe {
                core::arch::asm!("vmwrite {f}, {v}", v = in(reg) value, f = in(reg) u64::from(field.encoding()), options(nostack));
            }
        });
    }

    fn read_msr(&self, msr: u32) -> u64 {
        cpu::rdmsr_safe(msr).unwrap_or(0)
    }

    fn write_msr(&self, msr: u32, value: u64) {
        if !GUARDED_MSRS.contains(&msr) {
            return;
        }
        // SAFETY: an MSR of SYSCALL or SWAPGS, which mean nothing while no PV vCPU is loaded; `park` puts ours back.
        let _refused = unsafe { cpu::wrmsr_safe(msr, value) };
    }
}

/// The vCPU of this VMCS comes onto this CPU.
pub fn load(this: &PerCpu, vmcs: &mut Vmcs) {
    make_current(this, vmcs.mfn());
    vmcs.loaded();
    let area = layout::cpu_area(this.id);
    for (field, value) in [
        (Field::HostCsSelector, u64::from(tables::HYP_CS)),
        (Field::HostSsSelector, tables::HYP_DS.into()),
        (Field::HostDsSelector, 0),
        (Field::HostEsSelector, 0),
        (Field::HostFsSelector, 0),
        (Field::HostGsSelector, 0),
        (Field::HostTrSelector, tables::TSS_SELECTOR.into()),
        // TS is the PV vCPUs' business, who get it when they are loaded.
        (Field::HostCr0, cpu::cr0() & !TS),
        (Field::HostCr3, cpu::cr3()),
        (Field::HostCr4, cpu::cr4()),
        (Field::HostEfer, cpu::rdmsr(EFER)),
        (Field::HostFsBase, 0),
        (Field::HostGsBase, 0),
        (Field::HostTrBase, area + layout::TSS_OFFSET),
        (Field::HostGdtrBase, area + layout::GDT_OFFSET),
        (Field::HostIdtrBase, tables::idt_address()),
        (Field::HostSysenterCs, cpu::rdmsr(cpu::msr::SYSENTER_CS)),
        (Field::HostSysenterEsp, cpu::rdmsr(cpu::msr::SYSENTER_ESP)),
        (Field::HostSysenterEip, cpu::rdmsr(cpu::msr::SYSENTER_EIP)),
        (Field::HostRip, vmx_left as *const () as u64),
    ] {
        vmcs.set_host(field, value);
    }
}

/// It goes: its VMCS is clear afterwards, and the MSRs of SYSCALL are ours.
pub fn park(this: &PerCpu, vmcs: &mut Vmcs) {
    vmcs.parked();
    make_clear(this, vmcs.mfn());
    for (msr, value) in GUARDED_MSRS.iter().zip(this.vmx.own_msrs.get()) {
        // SAFETY: what this CPU had at its start.
        unsafe { cpu::wrmsr(*msr, value) };
    }
}

/// INVEPT or INVVPID of all contexts.
macro_rules! drop_all {
    ($instruction:literal) => {{
        let nothing = [0u64; 2];
        // SAFETY: forgets translations.
        unsafe {
            core::arch::asm!(
                concat!($instruction, " {t}, [{d}]"),
                t = in(reg) ALL_CONTEXTS, d = in(reg) nothing.as_ptr(), options(nostack)
            );
        }
    }};
}

/// Forgets of guests' translations what is not to be used again. Tags end with a generation, so what they led to is not found any
/// more; nested translations have no tag, but that of their root, which stays.
fn forget(this: &PerCpu, vmcs: &Vmcs, tags: bool) {
    let generation = this.asids.generation();
    if tags && vmcs.has_tags() {
        drop_all!("invvpid");
    }
    if tags || this.vmx.flushed.get() != generation {
        drop_all!("invept");
        this.vmx.flushed.set(generation);
    }
}

/// Runs a guest until it leaves; says why it did. The registers are its own before and after.
///
/// # Safety
/// - Interrupts are off, VT-x is on for this CPU, no lock is held, and the vCPU of this VMCS is loaded here ([`load`]).
/// - The nested root of the VMCS leads to frames that references hold for as long as a TLB may have them, and none of them
///   is the hypervisor's.
/// - The guest's FPU state and XCR0 are loaded; DR0 to DR3 too where the guest has them.
pub unsafe fn enter(regs: &mut GuestFrame, vmcs: &mut Vmcs) -> Exit {
    let this = percpu::this();
    let tags = vmcs.prepare(&this.asids, this.id);
    forget(this, vmcs, tags);
    vmcs.load_frame(regs);
    percpu::count(&this.counts.exits);
    percpu::count(&this.vmx.runs);
    if cpu::cr2() != vmcs.cr2() {
        cpu::set_cr2(vmcs.cr2());
    }
    let resume = u32::from(vmcs.is_launched());
    // SAFETY: the VMCS is current, and its host state is that of this CPU since `load`. For the guest's the caller vouches; it
    // intercepts all that would reach further (`Vmcs`).
    let failed = unsafe { vmx_enter(regs, resume, vmcs.host_rsp()) } != 0;
    vmcs.keep_cr2(cpu::cr2());
    if failed {
        let why = vmcs.failed();
        log::error!(
            "the processor refuses to enter a guest: {}",
            checks::instruction_error(why)
        );
        return Exit::Invalid;
    }
    vmcs.left(&this.asids);
    let exit = vmcs.exit();
    match exit {
        Exit::Invalid => explain(vmcs),
        // It was not taken, and others are blocked until an IRET.
        // SAFETY: the handler of NMIs, on a stack of its own.
        Exit::Nmi => unsafe { core::arch::asm!("int 2") },
        _ => {}
    }
    vmcs.store_frame(regs);
    exit
}

/// Says what is wrong with the state of a guest that the processor refused.
#[cold]
fn explain(vmcs: &Vmcs) {
    let bits = cpu::identity()
        .get_processor_capacity_feature_info()
        .map_or(36, |c| c.physical_address_bits());
    match vmcs.violation(bits) {
        Some(violation) => log::error!("the processor refuses a guest's state: {violation}"),
        None => {
            log::error!("the processor refuses a guest's state, in which nothing wrong was found")
        }
    }
}

/// Runs of guests on this CPU so far, and the VMREADs and VMWRITEs for them; nothing where VT-x is not on.
pub fn counts() -> Option<(u64, u64)> {
    let vmx = &percpu::this().vmx;
    vmx.on.get().then(|| (vmx.runs.get(), vmx.accesses.get()))
}
