//! Control, debug and extended control registers as a PV guest's kernel sees them.

use super::execute::{Refusal, Step};
use super::{Effect, PrivEnv, cr4};
use crate::base::PhysAddr;
use crate::hypercall::misc::checked_debug;
use crate::pv::state::{CR0_TASK_SWITCHED, FIXED_CR4, GUEST_CR0, GUEST_CR4, PvState};

/// CR3: page-level cache bits, without effect here.
const CR3_IGNORED: u64 = 0b1_1000;

/// MOV from CR0-CR4.
pub(super) fn read<E: PrivEnv>(env: &E, state: &PvState, index: u8) -> Option<u64> {
    match index {
        0 => Some(state.controls().0),
        2 => Some(env.fault_address()),
        3 => state.roots.kernel.map(|root| root.addr().0),
        4 => Some(state.controls().1),
        _ => None,
    }
}

/// MOV to CR0-CR4.
pub(super) fn write<E: PrivEnv>(
    env: &E,
    state: &mut PvState,
    index: u8,
    value: u64,
) -> Result<Step, Refusal> {
    match index {
        0 => {
            let other = (value ^ GUEST_CR0) & !CR0_TASK_SWITCHED;
            if other != 0 {
                log::warn!(
                    "d{}v{}: wants to change CR0 by {other:#x}",
                    env.domain_id(),
                    env.vcpu_id()
                );
                return Err(Refusal::Exception);
            }
            state.task_switched = value & CR0_TASK_SWITCHED != 0;
            env.load_controls(state);
        }
        2 => env.set_fault_address(value),
        3 => {
            // Anything but a page's address would be an option that PV does not have.
            if value & 0xfff & !CR3_IGNORED != 0 {
                return Err(Refusal::Exception);
            }
            return Ok(Step::NewBase(PhysAddr(value).mfn()));
        }
        4 => {
            let other = (value ^ FIXED_CR4) & !GUEST_CR4;
            if other != 0 {
                // Kernels set what they know of; CPUID and reading back tell what there is.
                log::debug!(
                    "d{}v{}: CR4 bits {other:#x} stay as they are",
                    env.domain_id(),
                    env.vcpu_id()
                );
            }
            state.cr4 = value & GUEST_CR4;
            env.load_controls(state);
        }
        _ => return Err(Refusal::Exception),
    }
    Ok(Step::Done(Effect::Nothing))
}

/// MOV from DR0-DR7; DR4 and DR5 are other names of DR6 and DR7 unless CR4.DE is set.
pub(super) fn read_debug(state: &PvState, index: u8) -> Option<u64> {
    debug_index(state, index).map(|index| state.debug[index])
}

/// MOV to DR0-DR7.
pub(super) fn write_debug<E: PrivEnv>(
    env: &E,
    state: &mut PvState,
    index: u8,
    value: u64,
) -> Result<Step, Refusal> {
    let index = debug_index(state, index).ok_or(Refusal::Exception)?;
    let value = checked_debug(index, value).map_err(|_| Refusal::Exception)?;
    state.debug[index] = value;
    env.load_debug_set(state);
    Ok(Step::Done(Effect::Nothing))
}

fn debug_index(state: &PvState, index: u8) -> Option<usize> {
    match index {
        4 | 5 if state.cr4 & cr4::DE == 0 => Some(usize::from(index) + 2),
        0..=3 | 6 | 7 => Some(index.into()),
        _ => None,
    }
}
