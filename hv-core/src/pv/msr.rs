//! MSRs of a PV guest's kernel (Intel SDM vol. 4; AMD APM vol. 2, appendix A).
//!
//! Most answers are those that all kinds of guests get (`cpuid/msr.rs`). What is not listed raises #GP, which kernels expect of MSRs that may be missing; the first access
//! to each is logged.

use super::privop::PrivEnv;
use super::state::PvState;
use crate::base::GuestVa;
use crate::cpuid::Policy;
use crate::cpuid::features::Feature;
use crate::cpuid::msr::{self as shared, PRED_CMD_IBPB, has_tsc_aux, index, is_mtrr};
pub use crate::cpuid::msr::{MsrLog, Refused, carried};
use crate::domain::Rights;
use crate::hypercall::SegmentBase;

#[cfg(test)]
mod tests;

/// The page attributes that the ABI prescribes: WB, WT, UC-, UC, WC, WP, UC, UC.
const ABI_PAT: u64 = 0x0000_0501_0007_0406;
/// xAPIC on, at its usual place; bit 8 marks the boot CPU.
const APIC_BASE_ON: u64 = 0xfee0_0800;
const APIC_BASE_BOOT_CPU: u64 = 1 << 8;
/// SCE, LME, LMA, NXE.
const EFER_VALUE: u64 = 0xd01;
/// Reads an MSR for the guest's kernel.
///
/// # Errors
/// `Refused`.
pub fn read<E: PrivEnv>(env: &E, state: &PvState, msr: u32) -> Result<u64, Refused> {
    let policy = env.policy();
    let found = base_register(msr)
        .map(|which| env.read_base(which))
        .or_else(|| read_carried(state, policy, msr))
        .or_else(|| shared::read_fixed(policy, msr, |msr| env.read_host_msr(msr)))
        .or_else(|| match msr {
            _ if msr < 0xc000_0000 => read_architectural(env, msr),
            _ => read_high(env, policy, msr),
        });
    found.ok_or_else(|| {
        complain(env, "RDMSR", msr);
        Refused
    })
}

/// Writes an MSR for the guest's kernel.
///
/// # Errors
/// `Refused`.
pub fn write<E: PrivEnv>(
    env: &E,
    state: &mut PvState,
    msr: u32,
    value: u64,
) -> Result<(), Refused> {
    if let Some(which) = base_register(msr) {
        if !GuestVa(value).is_canonical() {
            return Err(Refused);
        }
        *match which {
            SegmentBase::Fs => &mut state.bases.fs,
            SegmentBase::GsKernel => &mut state.bases.gs_kernel,
            SegmentBase::GsUser => &mut state.bases.gs_user,
        } = value;
        env.load_base(which, value);
        return Ok(());
    }
    let policy = env.policy();
    let accepted = match msr {
        index::PRED_CMD if policy.has(Feature::IBPB) && value & !PRED_CMD_IBPB == 0 => {
            if value != 0 {
                env.forget_branches();
            }
            true
        }
        index::TSC_AUX if has_tsc_aux(policy) && value >> 32 == 0 => {
            env.load_tsc_aux(value as u32);
            true
        }
        _ if carried(policy).contains(&msr) => {
            let done = set_carried(state, policy, msr, value);
            env.load_debug_set(state);
            done.is_ok()
        }
        // Writing back what was read changes nothing.
        index::PAT | index::EFER | index::APIC_BASE | index::NB_CFG => {
            read(env, state, msr) == Ok(value)
        }
        _ => shared::accepts(policy, msr, value).unwrap_or(false),
    };
    if accepted {
        return Ok(());
    }
    complain(env, "WRMSR", msr);
    Err(Refused)
}

/// Segment bases while the guest's kernel runs.
fn base_register(msr: u32) -> Option<SegmentBase> {
    match msr {
        index::FS_BASE => Some(SegmentBase::Fs),
        index::GS_BASE => Some(SegmentBase::GsKernel),
        index::KERNEL_GS_BASE => Some(SegmentBase::GsUser),
        _ => None,
    }
}

/// What such a register holds.
#[must_use]
pub fn read_carried(state: &PvState, policy: &Policy, msr: u32) -> Option<u64> {
    shared::read_mask(&state.debug_masks, policy, msr)
}

/// Changes one that was saved.
///
/// # Errors
/// `Refused` for another register, or a value that it cannot have.
pub fn set_carried(
    state: &mut PvState,
    policy: &Policy,
    msr: u32,
    value: u64,
) -> Result<(), Refused> {
    shared::set_mask(&mut state.debug_masks, policy, msr, value)
}

/// Registers of both makers.
fn read_architectural<E: PrivEnv>(env: &E, msr: u32) -> Option<u64> {
    match msr {
        index::TSC => Some(env.tsc()),
        index::APIC_BASE => Some(
            APIC_BASE_ON
                | if env.vcpu_id() == 0 {
                    APIC_BASE_BOOT_CPU
                } else {
                    0
                },
        ),
        index::PAT => Some(ABI_PAT),
        _ if is_mtrr(msr) && env.rights() == Rights::Control => env.read_host_msr(msr),
        _ => None,
    }
}

/// Registers of long mode and of AMD.
fn read_high<E: PrivEnv>(env: &E, policy: &Policy, msr: u32) -> Option<u64> {
    let amd = policy.vendor().is_amd_like();
    match msr {
        index::EFER => Some(EFER_VALUE),
        index::TSC_AUX if has_tsc_aux(policy) => Some(env.tsc_aux().into()),
        index::NB_CFG | index::MMIO_CONFIG_BASE | index::PSTATE_LIMIT..=index::PSTATE_LAST
            if amd && env.rights() == Rights::Control =>
        {
            env.read_host_msr(msr)
        }
        _ => None,
    }
}

fn complain<E: PrivEnv>(env: &E, what: &str, msr: u32) {
    if env.tables().msr_log.is_first(msr) {
        log::info!(
            "d{}v{}: {what} of MSR {msr:#x}, which guests do not have",
            env.domain_id(),
            env.vcpu_id()
        );
    }
}
