//! Instructions that a PV guest, which always runs at CPL 3, may not execute and that are done for it.
//!
//! They arrive as #GP, and with the forced-emulation prefix as #UD. The guest's kernel may use nearly
//! all of them (not HLT and INVLPG, for which there are hypercalls), its user programs CPUID, the
//! time-stamp counter and, with I/O privilege 3 or by the bitmap of ports, ports.
//! Anything else goes back to the guest as its own exception.

use xen_abi::errno::Errno;

use super::frame::{GuestFrame, RETURN_BY_SYSRET, rflags};
use super::msr::MsrLog;
use super::ports::{PortBus, PortMap, SharedPorts};
use super::state::{Mode, PvState};
use crate::base::{DomId, Mfn, VcpuId};
use crate::cpuid::guest::{GuestTsc, MachineFacts, View};
use crate::cpuid::{Policies, Policy};
use crate::domain::Rights;
use crate::hypercall::SegmentBase;
use privdecode::Bitness;

mod control;
mod execute;
mod fetch;
pub mod privdecode;
mod rights;
mod strings;
#[cfg(test)]
pub(crate) mod tests;

/// Which exception brought the guest here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// #GP with its error code.
    GeneralProtection {
        /// Selector or vector, 0 for an instruction that is not allowed.
        error: u32,
    },
    /// #UD.
    InvalidOpcode,
}

/// What a code selector stands for, as far as emulation cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSegment {
    /// 64-bit code.
    Long,
    /// 32-bit code with base 0 and limit 4 GiB.
    Flat32,
    /// Anything else: nothing is emulated there.
    Other,
}

/// What the caller does after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing more.
    Nothing,
    /// WBINVD of a domain that has devices.
    WriteBackCaches,
    /// XSETBV: the checked value for XCR0, which becomes the vCPU's.
    SetXcr0(u64),
    /// CLI: upcalls are masked.
    MaskEvents,
    /// STI: upcalls are unmasked, and pending ones delivered.
    UnmaskEvents,
}

/// Whether the guest single-steps: it then gets a #DB (vector 1); DR6.BS is set already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Stepping {
    Off,
    DebugTrap,
}

/// Outcome of an emulation.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Done, rip is past the instruction.
    Done(Effect, Stepping),
    /// MOV to CR3. The caller makes the frame the kernel's root, then sets rip; when it cannot, the
    /// guest gets the exception that it came with.
    NewBase {
        /// The new root.
        mfn: Mfn,
        /// rip behind the instruction.
        next_rip: u64,
    },
    /// A repeated instruction did a part: the guest goes on with it.
    Again,
    /// Not done: the guest gets the exception that it came with.
    Reflect,
    /// Memory of the instruction could not be accessed: the guest gets a #PF.
    PageFault {
        /// Linear address.
        address: u64,
        /// Error code as the guest is to see it.
        error: u32,
    },
}

/// What emulation needs that is one for the whole machine.
pub struct PrivTables {
    /// CPUID.
    pub policies: Policies,
    /// Index and data pairs.
    pub shared_ports: SharedPorts,
    /// MSRs already complained about.
    pub msr_log: MsrLog,
    /// For the Xen leaves of CPUID.
    pub machine: MachineFacts,
}

/// The vCPU that traps and the CPU under it.
pub trait PrivEnv: PortBus {
    /// Tables of the machine.
    fn tables(&self) -> &PrivTables;
    /// The vCPU's domain.
    fn domain_id(&self) -> DomId;
    /// The vCPU.
    fn vcpu_id(&self) -> VcpuId;
    /// Rights of its domain.
    fn rights(&self) -> Rights;
    /// CPUID policy of its domain.
    fn policy(&self) -> &Policy;
    /// Ports of its domain.
    fn ports(&self) -> &PortMap;
    /// The domain's TSC, when it is not simply the host's.
    fn guest_tsc(&self) -> Option<GuestTsc>;

    /// Copies from the guest's present address space.
    ///
    /// # Errors
    /// `EFAULT`, also for addresses of the hypervisor.
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno>;
    /// Copies from the address space of the guest's kernel, whatever its mode.
    ///
    /// # Errors
    /// As `copy_in`.
    fn copy_in_kernel(&self, state: &PvState, to: &mut [u8], from: u64) -> Result<(), Errno>;
    /// Copies to the guest's present address space.
    ///
    /// # Errors
    /// As `copy_in`.
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno>;
    /// What a code selector stands for.
    fn code_segment(&self, selector: u16) -> CodeSegment;

    /// Reads a segment base from the hardware.
    fn read_base(&self, which: SegmentBase) -> u64;
    /// Loads a segment base.
    fn load_base(&self, which: SegmentBase, value: u64);
    /// Makes the hardware's breakpoints those of the state.
    fn load_debug_set(&self, state: &PvState);
    /// Makes CR0.TS and CR4 follow the state (`task_switched`, `cr4`, see `hardware_cr4`).
    fn load_controls(&self, state: &PvState);
    /// The guest's CR2 (in its `vcpu_info`).
    fn fault_address(&self) -> u64;
    /// Changes the guest's CR2.
    fn set_fault_address(&self, address: u64);
    /// The vCPU's XCR0; 0 when XSAVE is off.
    fn xcr0(&self) -> u64;
    /// The vCPU's TSC_AUX.
    fn tsc_aux(&self) -> u32;
    /// Changes the vCPU's TSC_AUX.
    fn load_tsc_aux(&self, value: u32);
    /// The vCPU's TSC.
    fn tsc(&self) -> u64;
    /// Reads an MSR of this CPU; `None` when there is none such.
    fn read_host_msr(&self, index: u32) -> Option<u64>;
    /// IBPB: forgets branch predictions (MSR 0x49, bit 0).
    fn forget_branches(&self);
}

pub use super::state::{GUEST_CR4, cr4};

/// The CR4 bits to run a guest with, of those that the guest may choose; the rest of CR4 is the
/// hypervisor's. XSAVE stays on: the guest's CPUID says so. RDTSC faults where the TSC is emulated.
#[must_use]
pub fn hardware_cr4(state: &PvState) -> u64 {
    let emulated = if state.tsc.is_some() { cr4::TSD } else { 0 };
    state.cr4 & GUEST_CR4 & !cr4::OSXSAVE | emulated
}

/// DR6: the trap is a single step.
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// Emulates the instruction at the guest's rip, after it raised `why`.
pub fn emulate<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    state: &mut PvState,
    why: Trap,
) -> Verdict {
    // An error code names a selector or a vector: that is about a segment load or INT n.
    if matches!(why, Trap::GeneralProtection { error } if error != 0) {
        return Verdict::Reflect;
    }
    let bitness = match env.code_segment(regs.cs as u16) {
        CodeSegment::Long => Bitness::Long,
        CodeSegment::Flat32 => Bitness::Compatible,
        CodeSegment::Other => return Verdict::Reflect,
    };
    let decoded = match fetch::instruction(env, regs, state.mode, bitness, why) {
        Ok(decoded) => decoded,
        Err(verdict) => return verdict,
    };
    let next_rip = fetch::advanced(regs.rip, bitness, decoded.length);
    match execute::execute(env, regs, state, &decoded) {
        Ok(execute::Step::Done(effect)) => {
            regs.rip = next_rip;
            regs.entry &= !RETURN_BY_SYSRET;
            regs.rflags &= !rflags::RF;
            Verdict::Done(effect, step(env, regs, state))
        }
        Ok(execute::Step::NewBase(mfn)) => Verdict::NewBase { mfn, next_rip },
        Ok(execute::Step::Unfinished) => {
            regs.entry &= !RETURN_BY_SYSRET;
            Verdict::Again
        }
        Err(execute::Refusal::Exception) => Verdict::Reflect,
        Err(execute::Refusal::PageFault { address, access }) => Verdict::PageFault {
            address,
            error: fetch::fault_code(state.mode, access),
        },
    }
}

/// Notes a single step in DR6 when the guest has set RFLAGS.TF.
fn step<E: PrivEnv>(env: &E, regs: &GuestFrame, state: &mut PvState) -> Stepping {
    if regs.rflags & rflags::TF == 0 {
        return Stepping::Off;
    }
    state.debug[6] |= DR6_SINGLE_STEP;
    env.load_debug_set(state);
    Stepping::DebugTrap
}

/// What the guest's CPUID depends on now.
fn view<E: PrivEnv>(env: &E, mode: Mode) -> View {
    View {
        rights: env.rights(),
        mode,
        xcr0: env.xcr0(),
        machine: env.tables().machine,
        tsc: env.guest_tsc(),
    }
}
