//! MSRs of a vCPU in a container (Intel SDM vol. 4; AMD APM vol. 2, appendix A; xen/arch-x86/cpuid.h for our own).
//!
//! What is not listed raises #GP, which kernels expect of MSRs that may be missing; where the domain is relaxed
//! (XEN_X86_MSR_RELAXED) it reads as zero and ignores writes, if the machine has it. The first access to each is logged.

use crate::base::{DomId, GuestVa, PAGE_SIZE, VcpuId};
use crate::cpuid::features::Feature;
use crate::cpuid::msr::{
    self as shared, MsrLog, PRED_CMD_IBPB, Refused, has_tsc_aux, index, is_mtrr,
};
use crate::cpuid::xen::HYPERCALL_PAGE_MSR;
use crate::cpuid::{Policy, Vendor};
use crate::hvm::controls::{self, Controls, Fault};
use crate::hvm::mtrr::{self, Mtrrs};

/// VM_CR: virtualisation is off, and locked so (AMD APM vol. 2, 15.30.1).
const VM_CR_OFF: u64 = 1 << 4 | 1 << 3;

/// Registers of the processor that hold whatever the guest writes, within what fits; they are in force while the vCPU runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Held {
    Star,
    Lstar,
    Cstar,
    Sfmask,
    FsBase,
    GsBase,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
}

impl Held {
    /// The register of a number.
    #[must_use]
    pub const fn of(msr: u32) -> Option<Self> {
        Some(match msr {
            index::STAR => Self::Star,
            index::LSTAR => Self::Lstar,
            index::CSTAR => Self::Cstar,
            index::SFMASK => Self::Sfmask,
            index::FS_BASE => Self::FsBase,
            index::GS_BASE => Self::GsBase,
            index::KERNEL_GS_BASE => Self::KernelGsBase,
            index::SYSENTER_CS => Self::SysenterCs,
            index::SYSENTER_ESP => Self::SysenterEsp,
            index::SYSENTER_EIP => Self::SysenterEip,
            index::PAT => Self::Pat,
            _ => return None,
        })
    }

    /// Whether it may have a value.
    #[must_use]
    pub fn takes(self, value: u64) -> bool {
        match self {
            Self::Lstar
            | Self::Cstar
            | Self::FsBase
            | Self::GsBase
            | Self::KernelGsBase
            | Self::SysenterEsp
            | Self::SysenterEip => GuestVa(value).is_canonical(),
            Self::Sfmask | Self::SysenterCs => value >> 32 == 0,
            Self::Pat => mtrr::is_valid_pat(value),
            Self::Star => true,
        }
    }
}

/// What a vCPU has of its own beyond the registers of its control block and its local APIC.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Msrs {
    /// Memory types.
    pub mtrrs: Mtrrs,
    /// TSC_AUX, for RDTSCP and RDPID.
    pub tsc_aux: u32,
    /// TSC_ADJUST: how far writes have moved the TSC.
    pub tsc_adjust: u64,
    /// Address bits that breakpoints 0 to 3 ignore (AMD).
    pub breakpoint_masks: [u32; 4],
}

/// Whether unknown registers are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strictness {
    /// They are.
    Strict,
    /// Those that the machine has read as zero, and writes to them are ignored (XEN_X86_MSR_RELAXED).
    Relaxed,
}

/// The vCPU whose registers are read and written, and the CPU under it.
pub trait MsrHost {
    /// CPUID policy of its domain.
    fn policy(&self) -> &Policy;
    /// Which vCPU.
    fn name(&self) -> (DomId, VcpuId);
    /// The domain's log of unknown registers.
    fn log(&self) -> &MsrLog;
    /// Whether unknown registers are refused.
    fn strictness(&self) -> Strictness;

    /// A register of the processor.
    fn held(&self, which: Held) -> u64;
    /// Changes it; the value fits.
    fn hold(&mut self, which: Held, value: u64);
    /// The control registers.
    fn controls(&self) -> Controls;
    /// Takes over an EFER that passed the checks.
    fn set_controls(&mut self, new: Controls);

    /// The guest's TSC.
    fn tsc(&self) -> u64;
    /// Moves it for this vCPU by a number of ticks, modulo 2^64.
    fn move_tsc(&mut self, by: u64);
    /// Puts it into the CPU, and from now on with each entry.
    fn load_tsc_aux(&mut self, value: u32);
    /// Puts them into the CPU, and from now on with each entry.
    fn load_breakpoint_masks(&mut self, masks: &[u32; 4]);
    /// Makes the CPU forget its branch predictions.
    fn forget_branches(&self);

    /// IA32_APIC_BASE.
    fn apic_base(&self) -> u64;
    /// Writes it.
    ///
    /// # Errors
    /// `Fault` for what it cannot be, or not become.
    fn set_apic_base(&mut self, value: u64) -> Result<(), Fault>;
    /// A register of the local APIC in x2APIC mode (0x800 to 0x8ff).
    ///
    /// # Errors
    /// `Fault` for what there is not, and in any other mode.
    fn read_x2apic(&mut self, msr: u32) -> Result<u64, Fault>;
    /// Writes one.
    ///
    /// # Errors
    /// `Fault`, also for a value that it cannot have.
    fn write_x2apic(&mut self, msr: u32, value: u64) -> Result<(), Fault>;
    /// The TSC value at which the APIC timer fires, 0: none.
    fn tsc_deadline(&self) -> u64;
    /// Sets it.
    fn set_tsc_deadline(&mut self, value: u64);

    /// Fills the guest's page of this number with the stubs for hypercalls (`hypercall_page`).
    ///
    /// # Errors
    /// `Fault` where the guest has no memory that can be written.
    fn fill_hypercall_page(&mut self, gfn: u64) -> Result<(), Fault>;
    /// Reads an MSR of the machine, if it has it.
    fn read_machine(&self, msr: u32) -> Option<u64>;
}

/// Does RDMSR.
///
/// # Errors
/// `Fault`.
pub fn read<H: MsrHost>(host: &mut H, state: &Msrs, msr: u32) -> Result<u64, Fault> {
    if (index::X2APIC..=index::X2APIC_LAST).contains(&msr) {
        return host.read_x2apic(msr);
    }
    let policy = host.policy();
    let found = read_own(host, state, msr)
        .or_else(|| shared::read_mask(&state.breakpoint_masks, policy, msr))
        .or_else(|| shared::read_fixed(policy, msr, |msr| host.read_machine(msr)))
        .or_else(|| read_stub(policy, msr));
    found.ok_or(Fault).or_else(|fault| {
        complain(host, "RDMSR", msr);
        if forgives(host, msr) {
            Ok(0)
        } else {
            Err(fault)
        }
    })
}

/// Registers that hold something for this vCPU.
fn read_own<H: MsrHost>(host: &H, state: &Msrs, msr: u32) -> Option<u64> {
    let policy = host.policy();
    if let Some(which) = Held::of(msr).filter(|which| is_there(*which, policy)) {
        return Some(host.held(which));
    }
    match msr {
        index::EFER => Some(host.controls().efer),
        index::TSC => Some(host.tsc()),
        index::TSC_ADJUST if policy.has(Feature::TSC_ADJUST) => Some(state.tsc_adjust),
        index::TSC_AUX if has_tsc_aux(policy) => Some(state.tsc_aux.into()),
        index::TSC_DEADLINE if policy.has(Feature::TSC_DEADLINE) => Some(host.tsc_deadline()),
        index::APIC_BASE => Some(host.apic_base()),
        _ if is_mtrr(msr) && policy.has(Feature::MTRR) => state.mtrrs.read(msr),
        _ => None,
    }
}

/// Registers that kernels read unasked, and that tell of nothing in force. What is written to them is ignored, if at all
/// it can be written (`write_stub`).
fn read_stub(policy: &Policy, msr: u32) -> Option<u64> {
    let amd = policy.vendor().is_amd_like();
    match msr {
        HYPERCALL_PAGE_MSR => Some(0),
        index::XSS if policy.has(Feature::XSAVES) => Some(0),
        index::DEBUG_CTL | index::LAST_BRANCH_FROM..=index::LAST_EXCEPTION_TO => Some(0),
        index::VM_CR if amd => Some(VM_CR_OFF),
        // Memory is where the map of the domain says, bus and caches are as the machine has them.
        index::SYSCFG
        | index::TOP_MEM
        | index::TOP_MEM2
        | index::BU_CFG
        | index::BU_CFG2
        | index::NB_CFG
        | index::INT_PENDING
            if amd =>
        {
            Some(0)
        }
        // One that came from Intel's machine may go on asking.
        index::FREQUENCY_ID => Some(0),
        _ => None,
    }
}

/// Does WRMSR.
///
/// # Errors
/// `Fault`.
pub fn write<H: MsrHost>(
    host: &mut H,
    state: &mut Msrs,
    msr: u32,
    value: u64,
) -> Result<(), Fault> {
    if (index::X2APIC..=index::X2APIC_LAST).contains(&msr) {
        return host.write_x2apic(msr, value);
    }
    if let Some(done) = write_own(host, state, msr, value) {
        return done;
    }
    let policy = host.policy();
    let accepted = shared::accepts(policy, msr, value).or_else(|| write_stub(policy, msr, value));
    match accepted {
        Some(true) => Ok(()),
        Some(false) => Err(Fault),
        None => {
            complain(host, "WRMSR", msr);
            if forgives(host, msr) {
                Ok(())
            } else {
                Err(Fault)
            }
        }
    }
}

/// Registers that hold or do something; `None` for others.
fn write_own<H: MsrHost>(
    host: &mut H,
    state: &mut Msrs,
    msr: u32,
    value: u64,
) -> Option<Result<(), Fault>> {
    let policy = host.policy();
    if let Some(which) = Held::of(msr).filter(|which| is_there(*which, policy)) {
        return Some(takes(which.takes(value)).map(|()| host.hold(which, value)));
    }
    Some(match msr {
        index::EFER => {
            controls::write_efer(host.controls(), value, policy).map(|new| host.set_controls(new))
        }
        index::TSC => {
            let by = value.wrapping_sub(host.tsc());
            state.tsc_adjust = state.tsc_adjust.wrapping_add(by);
            host.move_tsc(by);
            Ok(())
        }
        index::TSC_ADJUST if policy.has(Feature::TSC_ADJUST) => {
            host.move_tsc(value.wrapping_sub(state.tsc_adjust));
            state.tsc_adjust = value;
            Ok(())
        }
        index::TSC_AUX if has_tsc_aux(policy) => takes(value >> 32 == 0).map(|()| {
            state.tsc_aux = value as u32;
            host.load_tsc_aux(state.tsc_aux);
        }),
        index::TSC_DEADLINE if policy.has(Feature::TSC_DEADLINE) => {
            host.set_tsc_deadline(value);
            Ok(())
        }
        index::APIC_BASE => host.set_apic_base(value),
        index::PRED_CMD if policy.has(Feature::IBPB) => {
            takes(value & !PRED_CMD_IBPB == 0).map(|()| {
                if value != 0 {
                    host.forget_branches();
                }
            })
        }
        HYPERCALL_PAGE_MSR => write_hypercall_page(host, value),
        _ if is_mtrr(msr) && policy.has(Feature::MTRR) => {
            takes(state.mtrrs.write(msr, value, policy))
        }
        _ if shared::carried(policy).contains(&msr) => {
            shared::set_mask(&mut state.breakpoint_masks, policy, msr, value)
                .map(|()| host.load_breakpoint_masks(&state.breakpoint_masks))
                .map_err(|Refused| Fault)
        }
        _ => return None,
    })
}

/// There is one page of stubs: the bits below the page number would choose another.
fn write_hypercall_page<H: MsrHost>(host: &mut H, value: u64) -> Result<(), Fault> {
    let page = PAGE_SIZE as u64;
    takes(value.is_multiple_of(page))?;
    host.fill_hypercall_page(value / page)
}

/// Whether a write to a register of `read_stub` is ignored; `None` for registers that are not there.
fn write_stub(policy: &Policy, msr: u32, value: u64) -> Option<bool> {
    read_stub(policy, msr)?;
    Some(match msr {
        // What could be turned on there would not work.
        index::XSS | index::DEBUG_CTL => value == 0,
        index::LAST_BRANCH_FROM..=index::LAST_EXCEPTION_TO | index::FREQUENCY_ID => false,
        // Locked: as the manual has it, nothing changes.
        _ => true,
    })
}

/// Whether the policy has a held register.
fn is_there(which: Held, policy: &Policy) -> bool {
    match which {
        Held::Star | Held::Lstar | Held::Cstar | Held::Sfmask => policy.has(Feature::SYSCALL),
        Held::FsBase | Held::GsBase | Held::KernelGsBase => policy.has(Feature::LM),
        // AMD's CPUs have the registers whatever CPUID says of SYSENTER.
        Held::SysenterCs | Held::SysenterEsp | Held::SysenterEip => {
            policy.vendor() != Vendor::Intel || policy.has(Feature::SEP)
        }
        Held::Pat => policy.has(Feature::PAT),
    }
}

const fn takes(fits: bool) -> Result<(), Fault> {
    if fits { Ok(()) } else { Err(Fault) }
}

/// Whether an unknown register is let pass.
fn forgives<H: MsrHost>(host: &H, msr: u32) -> bool {
    host.strictness() == Strictness::Relaxed && host.read_machine(msr).is_some()
}

fn complain<H: MsrHost>(host: &H, what: &str, msr: u32) {
    if host.log().is_first(msr) {
        let (domain, vcpu) = host.name();
        log::debug!("d{domain}v{vcpu}: {what} of MSR {msr:#x}, which guests do not have");
    }
}

#[cfg(test)]
mod tests;
