//! A vCPU's state as records.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use xen_abi::errno::Errno;
use xen_abi::hvm_save as abi;
use xen_abi::hvm_save::{
    HvmHwCpu, HvmHwLapic, HvmHwLapicRegs, HvmHwMtrr, HvmMsr, HvmOneMsr, HvmTscAdjust, HvmVmceVcpu,
};
use zerocopy::IntoBytes;

use super::load::GuestTime;
use super::{DESCRIPTOR, Terms, Writer, cpu};
use crate::cpuid::msr;
use crate::hvm::lapic::REGISTERS_SIZE;
use crate::hvm::processor::{Processor, Register};
use crate::hvm::state::HvmState;

/// What a guest's MCG_CAP says: two banks, and nothing that they could do more.
pub const MACHINE_CHECK: u64 = 2;
/// Most MSRs in a record of their own: the masks of the breakpoints.
pub(super) const MAX_MSRS: usize = 4;
/// Words before the image in a record of what is behind XSAVE.
pub(super) const XSAVE_PREFIX: usize = 3;

/// Kinds of records that there are of a vCPU, in the order of a stream.
pub const KINDS: [u16; 8] = [
    abi::HVM_SAVE_CODE_CPU,
    abi::HVM_SAVE_CODE_LAPIC,
    abi::HVM_SAVE_CODE_LAPIC_REGS,
    abi::HVM_SAVE_CODE_MTRR,
    abi::CPU_XSAVE_CODE,
    abi::HVM_SAVE_CODE_VMCE_VCPU,
    abi::HVM_SAVE_CODE_TSC_ADJUST,
    abi::CPU_MSR_CODE,
];

/// Whether there was anything to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saved {
    /// A record was added.
    Record,
    /// There is none of this kind for this vCPU.
    Nothing,
}

/// Bytes of all records of a vCPU, at most.
#[must_use]
pub fn max_len(terms: &Terms<'_>) -> usize {
    let bodies = size_of::<HvmHwCpu>()
        + size_of::<HvmHwLapic>()
        + size_of::<HvmHwLapicRegs>()
        + size_of::<HvmHwMtrr>()
        + size_of::<HvmVmceVcpu>()
        + size_of::<HvmTscAdjust>()
        + size_of::<HvmMsr>()
        + MAX_MSRS * size_of::<HvmOneMsr>()
        + XSAVE_PREFIX * size_of::<u64>()
        + terms.components.max_len();
    bodies + KINDS.len() * DESCRIPTOR
}

/// Adds the record of one kind of a vCPU's, which is `up` or not.
///
/// # Errors
/// `ENOMEM`; `EINVAL` for a kind that there is not.
pub fn save(
    out: &mut Writer,
    kind: u16,
    vcpu: u16,
    state: &HvmState,
    up: bool,
    terms: &Terms<'_>,
) -> Result<Saved, Errno> {
    match kind {
        // Who loads a vCPU without registers leaves it down.
        abi::HVM_SAVE_CODE_CPU if !up => return Ok(Saved::Nothing),
        abi::HVM_SAVE_CODE_CPU => out.put(kind, vcpu, &cpu::describe(state, terms))?,
        abi::HVM_SAVE_CODE_LAPIC => {
            let record = state.lapic.save();
            let body = HvmHwLapic {
                apic_base_msr: record.apic_base_msr,
                disabled: record.disabled,
                timer_divisor: record.timer_divisor,
                tdt_msr: record.tdt_msr,
            };
            out.put(kind, vcpu, &body)?;
        }
        abi::HVM_SAVE_CODE_LAPIC_REGS => {
            let mut data = [0; REGISTERS_SIZE];
            let time = GuestTime::new(state, terms);
            state.lapic.save_registers(&time, &mut data);
            out.push(kind, vcpu, &[&data])?;
        }
        abi::HVM_SAVE_CODE_MTRR => {
            let pat = state.processor.read(Register::Pat);
            out.put(kind, vcpu, &state.msrs.mtrrs.words(pat))?;
        }
        abi::CPU_XSAVE_CODE => return xsave(out, vcpu, state, terms),
        abi::HVM_SAVE_CODE_VMCE_VCPU => {
            let body = HvmVmceVcpu {
                caps: MACHINE_CHECK,
                ..HvmVmceVcpu::default()
            };
            out.put(kind, vcpu, &body)?;
        }
        abi::HVM_SAVE_CODE_TSC_ADJUST => {
            let tsc_adjust = state.msrs.tsc_adjust;
            out.put(kind, vcpu, &HvmTscAdjust { tsc_adjust })?;
        }
        abi::CPU_MSR_CODE => return msrs(out, vcpu, state, terms),
        _ => return Err(Errno::EINVAL),
    }
    Ok(Saved::Record)
}

fn xsave(out: &mut Writer, vcpu: u16, state: &HvmState, terms: &Terms<'_>) -> Result<Saved, Errno> {
    let image: Vec<u8> = terms.components.image(&state.fpu)?;
    if image.is_empty() {
        return Ok(Saved::Nothing);
    }
    let ever = terms.components.guest_mask();
    let prefix: [u64; XSAVE_PREFIX] = [terms.components.mask(), state.xcr0 & ever, ever];
    out.push(abi::CPU_XSAVE_CODE, vcpu, &[prefix.as_bytes(), &image])?;
    Ok(Saved::Record)
}

fn msrs(out: &mut Writer, vcpu: u16, state: &HvmState, terms: &Terms<'_>) -> Result<Saved, Errno> {
    let masks = &state.msrs.breakpoint_masks;
    let found = msr::carried(terms.policy).iter().filter_map(|&index| {
        let val = msr::read_mask(masks, terms.policy, index)?;
        (val != 0).then_some(HvmOneMsr {
            index,
            _rsvd: 0,
            val,
        })
    });
    let list: ArrayVec<_, MAX_MSRS> = found.take(MAX_MSRS).collect();
    if list.is_empty() {
        return Ok(Saved::Nothing);
    }
    let head = HvmMsr {
        count: list.len() as u32,
        ..HvmMsr::default()
    };
    let parts = [head.as_bytes(), list.as_bytes()];
    out.push(abi::CPU_MSR_CODE, vcpu, &parts)?;
    Ok(Saved::Record)
}
