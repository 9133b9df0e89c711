//! Privileged instructions of PV guests: the environment that the emulator works in.

use core::sync::atomic::Ordering;

use hv_core::base::{DomId, VcpuId};
use hv_core::cpuid::features::Feature;
use hv_core::cpuid::guest::{GuestTsc, MachineFacts};
use hv_core::cpuid::msr::{MsrLog, has_tsc_aux};
use hv_core::cpuid::{
    CpuidSource, HostSetup, HvmSetup, Leaf, Lfence, Policies, Policy, TscAux, Which,
};
use hv_core::domain::{Domain, Machine, Rights, Vcpu};
use hv_core::hvm::msr::Msrs;
use hv_core::hypercall::{Ctx, Host, SegmentBase, TaskSwitched, mmu};
use hv_core::mm::Stop;
use hv_core::mm::pins::RootKind;
use hv_core::pv::bounce::{self, Undeliverable};
use hv_core::pv::frame::rflags;
use hv_core::pv::ports::{PortBus, PortMap, SharedPorts, Width};
use hv_core::pv::privop::{
    CodeSegment, Effect, GUEST_CR4, PrivEnv, PrivTables, Stepping, Trap, Verdict, emulate,
    hardware_cr4,
};
use hv_core::pv::state::{Mode, PvState};
use hv_core::time::Clock;
use spin::Once;
use xen_abi::arch_x86::FLAT_KERNEL_CS;
use xen_abi::errno::Errno;
use xen_abi::xen::VCPU_INFO_CR2;

use super::cpu::{self, msr};
use super::host::{HV, HW, Hw};
use super::{clock, fpu};

/// CPUID of the CPU that runs this.
pub struct HostCpuid;

impl CpuidSource for HostCpuid {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        Leaf::from(cpu::cpuid(leaf, subleaf))
    }
}

static TABLES: Once<PrivTables> = Once::new();

/// Derives the policies; once, on the boot CPU, after the clock is set.
pub fn init(version: u32, address_bits: u32) {
    TABLES.call_once(|| PrivTables {
        policies: Policies::new(&HostCpuid, &host_setup()),
        shared_ports: SharedPorts::new(),
        msr_log: MsrLog::new(),
        machine: MachineFacts {
            version,
            tsc_khz: (clock::tsc_hz() / 1000) as u32,
            address_bits,
        },
    });
}

/// How this CPU is set up for guests.
fn host_setup() -> HostSetup {
    // AMD's DE_CFG; elsewhere there is no such register.
    let lfence_bit = cpu::rdmsr_safe(0xc001_1029).is_some_and(|value| value & 2 != 0);
    HostSetup {
        lfence: if lfence_bit {
            Lfence::Dispatching
        } else {
            Lfence::Unknown
        },
        // The register is not switched with the vCPU.
        tsc_aux: TscAux::Missing,
        xcr0: fpu::xcr0(),
        hvm: super::hvm::usable().map(|containers| HvmSetup {
            unkept: containers.missing_features(),
        }),
    }
}

/// The tables.
pub fn tables() -> &'static PrivTables {
    TABLES
        .get()
        .expect("the policies are derived before any guest runs")
}

/// Whether breakpoints have masks (AMD APM vol. 2, 13.1.2.4).
pub fn has_debug_masks() -> bool {
    tables().policies.get(Which::Host).has(Feature::DBEXT)
}

/// The vCPU that trapped.
struct Env<'a> {
    domain: &'a Domain,
    vcpu: &'a Vcpu,
    tsc: Option<Clock>,
}

/// The I/O space of the machine.
pub struct Ports;

impl PortBus for Ports {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        match width {
            Width::Byte => u32::from(cpu::inb(port)),
            Width::Word => u32::from(cpu::inw(port)),
            Width::Dword => cpu::inl(port),
        }
    }

    fn port_out(&self, port: u16, width: Width, value: u32) {
        match width {
            Width::Byte => cpu::outb(port, value as u8),
            Width::Word => cpu::outw(port, value as u16),
            Width::Dword => cpu::outl(port, value),
        }
    }
}

impl PortBus for Env<'_> {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        Ports.port_in(port, width)
    }

    fn port_out(&self, port: u16, width: Width, value: u32) {
        Ports.port_out(port, width, value);
    }

    fn guest_config_write(
        &self,
        shared: &SharedPorts,
        (address, lane): (u32, u16),
        width: Width,
        value: u32,
    ) {
        match (self.domain.is_control(), HV.get()) {
            (true, Some(hv)) => {
                let (at, register) = super::pci::decode(address, lane);
                let bytes = width.bytes() as u8;
                hv.irqs.config_write(at, register, bytes, value);
            }
            _ => shared.config_write(self, address, lane, width, value),
        }
    }
}

impl PrivEnv for Env<'_> {
    fn tables(&self) -> &PrivTables {
        tables()
    }

    fn domain_id(&self) -> DomId {
        self.domain.id
    }

    fn vcpu_id(&self) -> VcpuId {
        self.vcpu.id
    }

    fn rights(&self) -> Rights {
        self.domain.rights
    }

    fn policy(&self) -> &Policy {
        let of_kind = tables()
            .policies
            .of_domain(self.domain.kind, self.domain.rights);
        self.domain.policy.fix(of_kind)
    }

    fn ports(&self) -> &PortMap {
        &self.domain.ports
    }

    fn guest_tsc(&self) -> Option<GuestTsc> {
        guest_tsc(self.domain)
    }

    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        HW.copy_in(to, from)
    }

    fn copy_in_kernel(&self, state: &PvState, to: &mut [u8], from: u64) -> Result<(), Errno> {
        HW.with_kernel_root(state, || HW.copy_in(to, from))
    }

    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        HW.copy_out(to, from)
    }

    fn code_segment(&self, selector: u16) -> CodeSegment {
        let (rights, valid): (u32, u8);
        // SAFETY: LAR only reads the descriptor; a selector that is not there clears ZF.
        unsafe {
            core::arch::asm!("xor {r:e}, {r:e}", "lar {r:e}, {s:e}", "setz {v}",
                r = out(reg) rights, s = in(reg) u32::from(selector), v = out(reg_byte) valid, options(nostack))
        };
        // Present code of type S; L and D (AMD APM vol. 2, 4.8.1).
        if valid == 0 || rights & 0x9800 != 0x9800 {
            CodeSegment::Other
        } else if rights & (1 << 21) != 0 {
            CodeSegment::Long
        } else if rights & (1 << 22) != 0 {
            CodeSegment::Flat32
        } else {
            CodeSegment::Other
        }
    }

    fn read_base(&self, which: SegmentBase) -> u64 {
        HW.read_base(which)
    }

    fn load_base(&self, which: SegmentBase, value: u64) {
        HW.load_base(which, value);
    }

    fn load_debug_set(&self, state: &PvState) {
        HW.load_debug_set(state);
    }

    fn load_controls(&self, state: &PvState) {
        HW.set_task_switched(if state.task_switched {
            TaskSwitched::Set
        } else {
            TaskSwitched::Clear
        });
        load_cr4(state);
    }

    fn fault_address(&self) -> u64 {
        self.cr2().map_or(0, |w| w.load(Ordering::Relaxed))
    }

    fn set_fault_address(&self, address: u64) {
        if let Some(word) = self.cr2() {
            word.store(address, Ordering::Relaxed);
        }
    }

    fn xcr0(&self) -> u64 {
        fpu::current_xcr0()
    }

    fn tsc_aux(&self) -> u32 {
        cpu::rdmsr_safe(msr::TSC_AUX).unwrap_or(0) as u32
    }

    fn load_tsc_aux(&self, value: u32) {
        load_tsc_aux(value);
    }

    fn tsc(&self) -> u64 {
        match self.tsc {
            Some(clock) => clock.tsc_at(clock::now()),
            None => cpu::rdtsc(),
        }
    }

    fn read_host_msr(&self, index: u32) -> Option<u64> {
        cpu::rdmsr_safe(index)
    }

    fn forget_branches(&self) {
        forget_branches();
    }
}

/// Loads what RDTSCP gives guests beside the TSC, on CPUs that have it.
pub fn load_tsc_aux(value: u32) {
    // SAFETY: only guests read the register.
    unsafe { cpu::wrmsr_safe(msr::TSC_AUX, u64::from(value)) };
}

/// Makes this CPU forget its branch predictions.
pub fn forget_branches() {
    // SAFETY: IBPB has no effect but on branch prediction.
    unsafe { cpu::wrmsr_safe(0x49, 1) };
}

/// Address bits that breakpoints 0 to 3 ignore (AMD's processors with DBEXT).
const BREAKPOINT_MASKS: [u32; 4] = [0xc001_1027, 0xc001_1019, 0xc001_101a, 0xc001_101b];

/// Loads the masks of a guest's breakpoints, on CPUs that have them.
pub fn load_breakpoint_masks(masks: &[u32; 4]) {
    if has_debug_masks() {
        for (number, mask) in BREAKPOINT_MASKS.into_iter().zip(masks) {
            // SAFETY: no breakpoint is enabled while the hypervisor runs, and the registers exist.
            unsafe { cpu::wrmsr(number, (*mask).into()) };
        }
    }
}

/// Loads what a vCPU in a container has of its own in registers that its control block does not hold.
pub fn load_own_msrs(msrs: &Msrs) {
    if has_tsc_aux(tables().policies.get(Which::Host)) {
        load_tsc_aux(msrs.tsc_aux);
    }
    if msrs.breakpoint_masks != [0; 4] {
        load_breakpoint_masks(&msrs.breakpoint_masks);
    }
}

/// What a domain is told of its TSC by CPUID; nothing for the one that has the machine's.
pub fn guest_tsc(domain: &Domain) -> Option<GuestTsc> {
    if domain.is_control() {
        return None;
    }
    let tsc = *domain.tsc.lock();
    let (khz, clock) = match tsc.own {
        Some(own) => (own.khz, own.clock),
        None => (tables().machine.tsc_khz, clock::clock()),
    };
    let scale = clock.scale;
    let never_stops = tables().policies.get(Which::Host).has(Feature::ITSC);
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    Some(GuestTsc {
        flags: flag(tsc.own.is_some(), GuestTsc::EMULATED) | flag(never_stops, GuestTsc::SAFE),
        mode: tsc.mode,
        khz,
        incarnation: tsc.incarnation,
        offset: tsc.origin,
        mul_frac: scale.mul(),
        shift: scale.shift(),
    })
}

impl Env<'_> {
    fn cr2(&self) -> Option<&'static core::sync::atomic::AtomicU64> {
        let (frame, offset) = self.vcpu.info_place()?;
        HW.words(frame).get((offset + VCPU_INFO_CR2) / 8)
    }
}

/// Loads the CR4 bits that the guest may choose.
pub fn load_cr4(state: &PvState) {
    let now = cpu::cr4();
    // FSGSBASE and OSXSAVE are on since the set-up where the CPU has them, else a fault: what guests may use is for
    // their CPUID to say.
    let choice = GUEST_CR4 & !(super::cpu::cr4::OSXSAVE | super::cpu::cr4::FSGSBASE);
    let want = now & !choice | hardware_cr4(state) & choice;
    if want != now {
        // SAFETY: the bits only allow or forbid instructions at CPL 3.
        unsafe { cpu::set_cr4(want) };
    }
}

/// #UD.
///
/// # Errors
/// When the guest must get the exception and cannot.
pub fn invalid_opcode(cx: &mut Ctx<'_, Hw>) -> Result<(), Undeliverable> {
    run(cx, Trap::InvalidOpcode, 6, None)
}

/// #GP.
///
/// # Errors
/// As above.
pub fn general_protection(cx: &mut Ctx<'_, Hw>, error: u32) -> Result<(), Undeliverable> {
    if error == 0 && base_read(cx) {
        return Ok(());
    }
    run(cx, Trap::GeneralProtection { error }, 13, Some(error))
}

/// RDMSR.
const RDMSR: u64 = 0x320f;

/// Does at once what Linux's 64-bit kernel does at each switch of processes: reading a segment base by
/// RDMSR. `false` for everything else, with nothing changed.
fn base_read(cx: &mut Ctx<'_, Hw>) -> bool {
    let plain = cx.state.mode == Mode::Kernel
        && cx.regs.cs == u64::from(FLAT_KERNEL_CS)
        && cx.regs.rflags & rflags::TF == 0;
    let which = match cx.regs.rcx as u32 {
        msr::FS_BASE => SegmentBase::Fs,
        msr::GS_BASE => SegmentBase::GsKernel,
        msr::KERNEL_GS_BASE => SegmentBase::GsUser,
        _ => return false,
    };
    if !plain || !matches!(HW.load_words(cx.regs.rip), Ok([code]) if code & 0xffff == RDMSR) {
        return false;
    }
    let base = HW.read_base(which);
    let r = &mut *cx.regs;
    (r.rax, r.rdx) = (base & 0xffff_ffff, base >> 32);
    r.rip = r.rip.wrapping_add(2);
    r.rflags &= !rflags::RF;
    // Leaving by SYSRET would clobber rcx and r11.
    r.entry = 0;
    true
}

fn run(
    cx: &mut Ctx<'_, Hw>,
    why: Trap,
    vector: u8,
    error: Option<u32>,
) -> Result<(), Undeliverable> {
    let env = Env {
        domain: cx.domain,
        vcpu: cx.vcpu,
        tsc: cx.state.tsc,
    };
    let verdict = emulate(&env, cx.regs, cx.state, why);
    // Registers changed: rcx and r11 must not be clobbered on the way out.
    cx.regs.entry = 0;
    match verdict {
        Verdict::Done(effect, stepping) => {
            enact(cx, effect);
            if stepping == Stepping::DebugTrap {
                bounce::trap(cx, 1, None)
            } else {
                Ok(())
            }
        }
        Verdict::NewBase { mfn, next_rip } => {
            match mmu::set_root(cx, RootKind::Kernel, Some(mfn)) {
                Ok(()) => {
                    cx.regs.rip = next_rip;
                    Ok(())
                }
                Err(Stop::Restart) => Ok(()),
                Err(Stop::Refused(_)) => bounce::trap(cx, vector, error),
            }
        }
        Verdict::Again => Ok(()),
        Verdict::Reflect => bounce::trap(cx, vector, error),
        Verdict::PageFault { address, error } => bounce::page_fault(cx, address, error),
    }
}

fn enact(cx: &mut Ctx<'_, Hw>, effect: Effect) {
    match effect {
        Effect::Nothing => {}
        Effect::WriteBackCaches => cx.host.write_back_caches(),
        Effect::SetXcr0(value) => {
            cx.state.xcr0 = value;
            fpu::load_xcr0(value);
        }
        // POPF does not trap, so what CLI masked might never be unmasked: Linux brackets code with
        // PUSHF, CLI and POPF and would hang. With the I/O privilege both do nothing.
        Effect::MaskEvents | Effect::UnmaskEvents => {}
    }
}
