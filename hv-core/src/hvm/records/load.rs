//! Records that become a vCPU's state.

use xen_abi::errno::Errno;
use xen_abi::hvm_save as abi;
use xen_abi::hvm_save::{
    HvmHwCpu, HvmHwLapic, HvmHwLapicRegs, HvmMsr, HvmOneMsr, HvmTscAdjust, HvmVmceVcpu,
};
use zerocopy::FromBytes;

use super::save::XSAVE_PREFIX;
use super::{Record, Refused, Terms, cpu, wrong};
use crate::base::Nanos;
use crate::cpuid::{msr, xstate};
use crate::hvm::lapic::{self, RecordError, TimeSource};
use crate::hvm::mtrr;
use crate::hvm::processor::{Processor, Register};
use crate::hvm::state::HvmState;
use crate::time::Clock;

/// The number of banks in MCG_CAP.
const BANK_COUNT: u64 = 0xff;

/// Time as a vCPU at rest knows it.
pub(super) struct GuestTime {
    now: Nanos,
    tsc: Clock,
}

impl GuestTime {
    pub(super) fn new(state: &HvmState, terms: &Terms<'_>) -> Self {
        let offset = state.processor.read(Register::TscOffset);
        Self {
            now: terms.now,
            tsc: Clock {
                tsc: terms.tsc.tsc.wrapping_add(offset),
                ..terms.tsc
            },
        }
    }
}

impl TimeSource for GuestTime {
    fn now(&self) -> Nanos {
        self.now
    }

    fn time_of_tsc(&self, tsc: u64) -> Nanos {
        // Rounded down by less than the tick that is added.
        self.tsc.at(tsc).saturating_add(1)
    }
}

/// What follows from a record for who keeps the vCPU.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// It has registers now, and runs.
    Registers,
    /// Its local APIC is another: where it is reached, and when its timer fires.
    Lapic,
    /// Nothing.
    Nothing,
}

/// Makes a record a vCPU's state.
///
/// # Errors
/// `EINVAL` for a kind that there is not or what the vCPU cannot have; `EPERM` for machine checks that can do more than
/// those here, `EOPNOTSUPP` for a compacted image. The vCPU is as before then.
pub fn load(
    state: &mut HvmState,
    record: &Record<'_>,
    terms: &Terms<'_>,
) -> Result<Loaded, Refused> {
    match record.kind {
        abi::HVM_SAVE_CODE_CPU => {
            // Earlier releases had no flags, and an FPU always.
            let least = core::mem::offset_of!(HvmHwCpu, flags);
            let mut registers: HvmHwCpu = record.extended(least)?;
            if record.body.len() == least {
                registers.flags = abi::XEN_X86_FPU_INITIALISED;
            }
            cpu::adopt(state, &registers, terms)?;
            Ok(Loaded::Registers)
        }
        abi::HVM_SAVE_CODE_LAPIC => lapic_head(state, record, terms),
        abi::HVM_SAVE_CODE_LAPIC_REGS => lapic_registers(state, record, terms),
        abi::HVM_SAVE_CODE_MTRR => {
            let words: [u64; mtrr::WORDS] = record.exactly()?;
            let Some((pat, mtrrs)) = mtrr::Mtrrs::from_words(&words, terms.policy) else {
                return wrong("memory types that it cannot have");
            };
            state.processor.write(Register::Pat, pat);
            state.msrs.mtrrs = mtrrs;
            Ok(Loaded::Nothing)
        }
        abi::CPU_XSAVE_CODE => xsave(state, record, terms),
        abi::HVM_SAVE_CODE_VMCE_VCPU => {
            let body: HvmVmceVcpu = record.extended(size_of::<u64>())?;
            let more = body.mci_ctl2_bank0 | body.mci_ctl2_bank1 | body.mcg_ext_ctl;
            if body.caps & !BANK_COUNT != 0 || more != 0 {
                return Err((
                    Errno::EPERM,
                    "its machine checks can do more than those here",
                ));
            }
            Ok(Loaded::Nothing)
        }
        abi::HVM_SAVE_CODE_TSC_ADJUST => {
            let body: HvmTscAdjust = record.exactly()?;
            state.msrs.tsc_adjust = body.tsc_adjust;
            Ok(Loaded::Nothing)
        }
        abi::CPU_MSR_CODE => msrs(state, record, terms),
        _ => wrong("a device that domains here do not have"),
    }
}

fn refused(why: RecordError) -> Refused {
    let words = match why {
        RecordError::Base => "IA32_APIC_BASE cannot be",
        RecordError::Disabled => "unknown reasons for a disabled local APIC",
        RecordError::Divisor => "no divisor that the timer of a local APIC has",
        RecordError::Id => "the local APIC of another vCPU",
        RecordError::TimerMode => "no mode that the timer of a local APIC has",
    };
    (Errno::EINVAL, words)
}

fn lapic_head(
    state: &mut HvmState,
    record: &Record<'_>,
    terms: &Terms<'_>,
) -> Result<Loaded, Refused> {
    let body: HvmHwLapic = record.extended(size_of::<u64>() * 2)?;
    let head = lapic::Record {
        apic_base_msr: body.apic_base_msr,
        disabled: body.disabled,
        timer_divisor: body.timer_divisor,
        tdt_msr: body.tdt_msr,
    };
    let time = GuestTime::new(state, terms);
    state.lapic.load(&head, &time).map_err(refused)?;
    Ok(Loaded::Lapic)
}

fn lapic_registers(
    state: &mut HvmState,
    record: &Record<'_>,
    terms: &Terms<'_>,
) -> Result<Loaded, Refused> {
    let body: HvmHwLapicRegs = record.exactly()?;
    let time = GuestTime::new(state, terms);
    state
        .lapic
        .load_registers(&body.data, &time)
        .map_err(refused)?;
    Ok(Loaded::Lapic)
}

fn xsave(state: &mut HvmState, record: &Record<'_>, terms: &Terms<'_>) -> Result<Loaded, Refused> {
    let Ok((prefix, image)) = <[u64; XSAVE_PREFIX]>::read_from_prefix(record.body) else {
        return wrong("a record of another size");
    };
    let [_, xcr0, ever] = prefix;
    terms.components.check(xcr0, ever, image)?;
    xstate::fill(&mut state.fpu, image);
    state.xcr0 = xcr0;
    Ok(Loaded::Nothing)
}

fn msrs(state: &mut HvmState, record: &Record<'_>, terms: &Terms<'_>) -> Result<Loaded, Refused> {
    let Ok((head, mut rest)) = HvmMsr::read_from_prefix(record.body) else {
        return wrong("a record of another size");
    };
    if u64::from(head.count) * size_of::<HvmOneMsr>() as u64 != rest.len() as u64 {
        return wrong("another number of MSRs than it says");
    }
    let mut masks = state.msrs.breakpoint_masks;
    while let Ok((one, behind)) = HvmOneMsr::read_from_prefix(rest) {
        let HvmOneMsr { index, _rsvd, val } = one;
        if _rsvd != 0 || msr::set_mask(&mut masks, terms.policy, index, val).is_err() {
            return wrong("an MSR that it does not have, or not so");
        }
        rest = behind;
    }
    state.msrs.breakpoint_masks = masks;
    Ok(Loaded::Nothing)
}
