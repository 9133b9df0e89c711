//! MSRs of a PV guest's kernel (Intel SDM vol. 4; AMD APM vol. 2, appendix A).
//!
//! Most answers are fixed: a guest learns that a facility is off, or finds what the hypervisor set up.
//! What is not listed raises #GP, which kernels expect of MSRs that may be missing; the first access
//! to each is logged.

use arrayvec::ArrayVec;

use super::privop::PrivEnv;
use super::state::PvState;
use crate::base::GuestVa;
use crate::base::lock::{Mutex, rank};
use crate::cpuid::features::Feature;
use crate::cpuid::{Policy, Vendor};
use crate::domain::Rights;
use crate::hypercall::SegmentBase;

#[cfg(test)]
mod tests;

/// Numbers.
#[allow(missing_docs, reason = "named as in the manuals")]
mod index {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const PRED_CMD: u32 = 0x49;
    pub const PATCH_LEVEL: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const MTRR_VARIABLE: u32 = 0x200;
    pub const MTRR_VARIABLE_LAST: u32 = 0x20f;
    pub const MTRR_FIXED_64K: u32 = 0x250;
    pub const MTRR_FIXED_16K: u32 = 0x258;
    pub const MTRR_FIXED_16K_HIGH: u32 = 0x259;
    pub const MTRR_FIXED_4K: u32 = 0x268;
    pub const MTRR_FIXED_4K_LAST: u32 = 0x26f;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEFAULT: u32 = 0x2ff;
    pub const MC0_CTL: u32 = 0x400;
    pub const EFER: u32 = 0xc000_0080;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const HWCR: u32 = 0xc001_0015;
    pub const NB_CFG: u32 = 0xc001_001f;
    pub const MMIO_CONFIG_BASE: u32 = 0xc001_0058;
    pub const PSTATE_LIMIT: u32 = 0xc001_0061;
    pub const PSTATE_LAST: u32 = 0xc001_006b;
    pub const DR1_ADDR_MASK: u32 = 0xc001_1019;
    pub const DR3_ADDR_MASK: u32 = 0xc001_101b;
    pub const DR0_ADDR_MASK: u32 = 0xc001_1027;
    pub const DE_CFG: u32 = 0xc001_1029;
}

/// The page attributes that the ABI prescribes: WB, WT, UC-, UC, WC, WP, UC, UC.
const ABI_PAT: u64 = 0x0000_0501_0007_0406;
/// xAPIC on, at its usual place; bit 8 marks the boot CPU.
const APIC_BASE_ON: u64 = 0xfee0_0800;
const APIC_BASE_BOOT_CPU: u64 = 1 << 8;
/// Machine-check banks shown, which never report anything.
const MC_BANKS: u32 = 2;
/// SCE, LME, LMA, NXE.
const EFER_VALUE: u64 = 0xd01;
/// HWCR: the TSC runs at the frequency of the highest performance state.
const HWCR_TSC_AT_P0: u64 = 1 << 24;
/// DE_CFG: LFENCE waits for older instructions.
const DE_CFG_LFENCE: u64 = 1 << 1;
/// FEATURE_CONTROL: locked, with VMX and SMX off.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// PRED_CMD: IBPB.
const PRED_CMD_IBPB: u64 = 1;
/// MISC_ENABLE: no branch trace store, no precise events.
const MISC_ENABLE_SET: u64 = 1 << 11 | 1 << 12;
/// MISC_ENABLE: performance monitoring, enhanced SpeedStep and MONITOR.
const MISC_ENABLE_CLEAR: u64 = 1 << 7 | 1 << 16 | 1 << 18;

/// The guest gets #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Reads an MSR for the guest's kernel.
///
/// # Errors
/// `Refused`.
pub fn read<E: PrivEnv>(env: &E, state: &PvState, msr: u32) -> Result<u64, Refused> {
    let policy = env.policy();
    let found = base_register(msr)
        .map(|which| env.read_base(which))
        .or_else(|| read_carried(state, policy, msr))
        .or_else(|| match msr {
            _ if is_performance_counter(policy, msr) => Some(0),
            index::MC0_CTL.. if msr < index::MC0_CTL + 4 * MC_BANKS => {
                Some(machine_check_bank(msr))
            }
            _ if msr < 0xc000_0000 => read_architectural(env, policy, msr),
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
    let amd = policy.vendor().is_amd_like();
    let intel = policy.vendor() == Vendor::Intel;
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
        // Before asking for its level a kernel clears the register.
        index::PATCH_LEVEL => intel && value == 0,
        // The counters stand still, whatever is written.
        _ if is_performance_counter(policy, msr) => true,
        index::MCG_STATUS => value == 0,
        index::MC0_CTL.. if msr < index::MC0_CTL + 4 * MC_BANKS => {
            msr.is_multiple_of(4) || value == 0
        }
        // Choices that are ours: what the guest reads back tells it.
        index::HWCR | index::DE_CFG => amd,
        index::MISC_ENABLE => intel,
        // Writing back what was read changes nothing.
        index::PAT | index::EFER | index::APIC_BASE | index::NB_CFG => {
            read(env, state, msr) == Ok(value)
        }
        _ => false,
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

/// Registers that hold a value of the vCPU's own, as the policy has them: what is saved with it and restored.
#[must_use]
pub fn carried(policy: &Policy) -> &'static [u32] {
    const DEBUG_MASKS: [u32; 4] = [
        index::DR0_ADDR_MASK,
        index::DR1_ADDR_MASK,
        index::DR1_ADDR_MASK + 1,
        index::DR3_ADDR_MASK,
    ];
    if policy.has(Feature::DBEXT) {
        &DEBUG_MASKS
    } else {
        &[]
    }
}

/// Reads a register of [`carried`].
#[must_use]
pub fn read_carried(state: &PvState, policy: &Policy, msr: u32) -> Option<u64> {
    let index = carried(policy).iter().position(|m| *m == msr)?;
    state.debug_masks.get(index).map(|mask| u64::from(*mask))
}

/// Sets a register of [`carried`] in the state.
///
/// # Errors
/// `Refused` for another register, or a value that it cannot have.
pub fn set_carried(
    state: &mut PvState,
    policy: &Policy,
    msr: u32,
    value: u64,
) -> Result<(), Refused> {
    let index = carried(policy).iter().position(|m| *m == msr);
    let slot = index.and_then(|index| state.debug_masks.get_mut(index));
    match (slot, u32::try_from(value)) {
        (Some(slot), Ok(value)) => {
            *slot = value;
            Ok(())
        }
        _ => Err(Refused),
    }
}

fn has_tsc_aux(policy: &Policy) -> bool {
    policy.has(Feature::RDTSCP) || policy.has(Feature::RDPID)
}

/// Registers of both makers.
fn read_architectural<E: PrivEnv>(env: &E, policy: &Policy, msr: u32) -> Option<u64> {
    let intel = policy.vendor() == Vendor::Intel;
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
        index::PATCH_LEVEL => env.read_host_msr(msr),
        index::MCG_CAP => Some(u64::from(MC_BANKS)),
        index::MCG_STATUS => Some(0),
        index::PAT => Some(ABI_PAT),
        index::PLATFORM_ID if intel => env.read_host_msr(msr),
        index::PLATFORM_INFO if intel => Some(0),
        index::FEATURE_CONTROL if intel => Some(FEATURE_CONTROL_LOCKED),
        index::MISC_ENABLE if intel => env
            .read_host_msr(msr)
            .map(|value| value & !MISC_ENABLE_CLEAR | MISC_ENABLE_SET),
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
        index::HWCR if amd && policy.has(Feature::ITSC) => {
            Some(env.read_host_msr(msr)? & HWCR_TSC_AT_P0)
        }
        index::HWCR if amd => Some(0),
        index::DE_CFG if amd => Some(if policy.has(Feature::LFENCE_DISPATCH) {
            DE_CFG_LFENCE
        } else {
            0
        }),
        index::NB_CFG | index::MMIO_CONFIG_BASE | index::PSTATE_LIMIT..=index::PSTATE_LAST
            if amd && env.rights() == Rights::Control =>
        {
            env.read_host_msr(msr)
        }
        _ => None,
    }
}

/// Control all ones, the rest zero: everything is reported, and there is nothing to report.
fn machine_check_bank(msr: u32) -> u64 {
    if msr.is_multiple_of(4) { !0 } else { 0 }
}

fn is_mtrr(msr: u32) -> bool {
    matches!(
        msr,
        index::MTRR_CAP
            | index::MTRR_VARIABLE..=index::MTRR_VARIABLE_LAST
            | index::MTRR_FIXED_64K
            | index::MTRR_FIXED_16K
            | index::MTRR_FIXED_16K_HIGH
            | index::MTRR_FIXED_4K..=index::MTRR_FIXED_4K_LAST
            | index::MTRR_DEFAULT
    )
}

/// Performance monitoring, which guests do not have: the registers exist and do nothing.
fn is_performance_counter(policy: &Policy, msr: u32) -> bool {
    match policy.vendor() {
        Vendor::Intel => {
            matches!(msr, 0xc1..=0xc8 | 0x186..=0x18d | 0x309..=0x30b | 0x38d..=0x390 | 0x4c1..=0x4c8)
        }
        Vendor::Amd | Vendor::Hygon => {
            matches!(msr, 0xc001_0000..=0xc001_0007 | 0xc001_0200..=0xc001_020b)
        }
        Vendor::Other => false,
    }
}

/// Registers that were complained about.
pub struct MsrLog {
    seen: Mutex<ArrayVec<u32, 64>>,
}

impl Default for MsrLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MsrLog {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            seen: Mutex::new(rank::MSR_LOG, ArrayVec::new_const()),
        }
    }

    /// Whether this is the first time for the register; `false` too when the log is full.
    fn is_first(&self, msr: u32) -> bool {
        let mut seen = self.seen.lock();
        !seen.contains(&msr) && seen.try_push(msr).is_ok()
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
