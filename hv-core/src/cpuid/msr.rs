//! MSRs that belong to a CPU policy, and those that are alike for all kinds of guests (Intel SDM vol. 4; AMD APM
//! vol. 2, appendix A).
//!
//! Most answers are fixed: a guest learns that a facility is off, or finds what the hypervisor set up.

use arrayvec::ArrayVec;

use super::features::Feature;
use super::{Policy, Vendor};
use crate::base::lock::{Mutex, rank};

/// Numbers.
#[allow(missing_docs, reason = "named as in the manuals")]
pub mod index {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    /// Intel's EBC_FREQUENCY_ID.
    pub const FREQUENCY_ID: u32 = 0x2c;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const PRED_CMD: u32 = 0x49;
    pub const PATCH_LEVEL: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUG_CTL: u32 = 0x1d9;
    pub const LAST_BRANCH_FROM: u32 = 0x1db;
    pub const LAST_EXCEPTION_TO: u32 = 0x1de;
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
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const X2APIC_LAST: u32 = 0x8ff;
    pub const XSS: u32 = 0xda0;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const SYSCFG: u32 = 0xc001_0010;
    pub const HWCR: u32 = 0xc001_0015;
    pub const TOP_MEM: u32 = 0xc001_001a;
    pub const TOP_MEM2: u32 = 0xc001_001d;
    pub const NB_CFG: u32 = 0xc001_001f;
    pub const INT_PENDING: u32 = 0xc001_0055;
    pub const MMIO_CONFIG_BASE: u32 = 0xc001_0058;
    pub const PSTATE_LIMIT: u32 = 0xc001_0061;
    pub const PSTATE_LAST: u32 = 0xc001_006b;
    pub const VM_CR: u32 = 0xc001_0114;
    pub const DR1_ADDR_MASK: u32 = 0xc001_1019;
    pub const DR3_ADDR_MASK: u32 = 0xc001_101b;
    pub const BU_CFG: u32 = 0xc001_1023;
    pub const DR0_ADDR_MASK: u32 = 0xc001_1027;
    pub const DE_CFG: u32 = 0xc001_1029;
    pub const BU_CFG2: u32 = 0xc001_102a;
}

/// Machine-check banks shown, which never report anything.
pub const MC_BANKS: u32 = 2;
/// HWCR: the TSC runs at the frequency of the highest performance state.
const HWCR_TSC_AT_P0: u64 = 1 << 24;
/// DE_CFG: LFENCE waits for older instructions.
const DE_CFG_LFENCE: u64 = 1 << 1;
/// FEATURE_CONTROL: locked, with VMX and SMX off.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// PRED_CMD: IBPB.
pub const PRED_CMD_IBPB: u64 = 1;
/// MISC_ENABLE: no branch trace store, no precise events.
const MISC_ENABLE_SET: u64 = 1 << 11 | 1 << 12;
/// MISC_ENABLE: performance monitoring, enhanced SpeedStep and MONITOR.
const MISC_ENABLE_CLEAR: u64 = 1 << 7 | 1 << 16 | 1 << 18;

/// The guest gets #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Reads a register that is alike for all kinds of guests: whose value they cannot change. `machine` reads the machine's.
#[must_use]
pub fn read_fixed(policy: &Policy, msr: u32, machine: impl Fn(u32) -> Option<u64>) -> Option<u64> {
    let amd = policy.vendor().is_amd_like();
    let intel = policy.vendor() == Vendor::Intel;
    match msr {
        _ if is_performance_counter(policy, msr) => Some(0),
        index::MC0_CTL.. if msr < index::MC0_CTL + 4 * MC_BANKS => Some(machine_check_bank(msr)),
        index::PATCH_LEVEL => machine(msr),
        index::MCG_CAP => Some(u64::from(MC_BANKS)),
        index::MCG_STATUS => Some(0),
        index::PLATFORM_ID if intel => machine(msr),
        index::PLATFORM_INFO if intel => Some(0),
        index::FEATURE_CONTROL if intel => Some(FEATURE_CONTROL_LOCKED),
        index::MISC_ENABLE if intel => {
            machine(msr).map(|value| value & !MISC_ENABLE_CLEAR | MISC_ENABLE_SET)
        }
        index::HWCR if amd && policy.has(Feature::ITSC) => Some(machine(msr)? & HWCR_TSC_AT_P0),
        index::HWCR if amd => Some(0),
        index::DE_CFG if amd => Some(if policy.has(Feature::LFENCE_DISPATCH) {
            DE_CFG_LFENCE
        } else {
            0
        }),
        _ => None,
    }
}

/// Whether a write to one of the registers of [`read_fixed`] is accepted, though it changes nothing: the counters stand
/// still, whatever is written, and choices that are ours tell so when they are read back. `None` for other registers.
#[must_use]
pub fn accepts(policy: &Policy, msr: u32, value: u64) -> Option<bool> {
    let amd = policy.vendor().is_amd_like();
    let intel = policy.vendor() == Vendor::Intel;
    match msr {
        // Before asking for its level a kernel clears the register.
        index::PATCH_LEVEL => Some(intel && value == 0),
        _ if is_performance_counter(policy, msr) => Some(true),
        index::MCG_STATUS => Some(value == 0),
        index::MC0_CTL.. if msr < index::MC0_CTL + 4 * MC_BANKS => {
            Some(msr.is_multiple_of(4) || value == 0)
        }
        index::HWCR | index::DE_CFG => Some(amd),
        index::MISC_ENABLE => Some(intel),
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

/// What the register holds of these masks.
#[must_use]
pub fn read_mask(masks: &[u32; 4], policy: &Policy, msr: u32) -> Option<u64> {
    let index = carried(policy).iter().position(|m| *m == msr)?;
    masks.get(index).map(|mask| u64::from(*mask))
}

/// Changes the mask that the register stands for.
///
/// # Errors
/// `Refused` for another register, or a value that it cannot have.
pub fn set_mask(
    masks: &mut [u32; 4],
    policy: &Policy,
    msr: u32,
    value: u64,
) -> Result<(), Refused> {
    let index = carried(policy).iter().position(|m| *m == msr);
    let slot = index.and_then(|index| masks.get_mut(index));
    match (slot, u32::try_from(value)) {
        (Some(slot), Ok(value)) => {
            *slot = value;
            Ok(())
        }
        _ => Err(Refused),
    }
}

/// Whether there is TSC_AUX.
#[must_use]
pub fn has_tsc_aux(policy: &Policy) -> bool {
    policy.has(Feature::RDTSCP) || policy.has(Feature::RDPID)
}

/// Control all ones, the rest zero: everything is reported, and there is nothing to report.
fn machine_check_bank(msr: u32) -> u64 {
    if msr.is_multiple_of(4) { !0 } else { 0 }
}

/// Whether the register tells of memory types, apart from PAT.
#[must_use]
pub fn is_mtrr(msr: u32) -> bool {
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
    pub fn is_first(&self, msr: u32) -> bool {
        let mut seen = self.seen.lock();
        !seen.contains(&msr) && seen.try_push(msr).is_ok()
    }
}
