//! Does what a decoded instruction says.

use super::control;
use super::fetch::Access;
use super::privdecode::{Decoded, Operation, PortOperand, Register, Segment};
use super::rights::{require_port, require_privilege};
use super::{Effect, PrivEnv, cr4, strings};
use crate::base::{GuestVa, Mfn};
use crate::cpuid::guest;
use crate::cpuid::xstate::is_valid_xcr0;
use crate::domain::Rights;
use crate::hypercall::SegmentBase;
use crate::pv::frame::GuestFrame;
use crate::pv::msr;
use crate::pv::ports::Width;
use crate::pv::state::{Mode, PvState};

/// How far it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Done(Effect),
    NewBase(Mfn),
    /// The registers say what is left of a repeated instruction.
    Unfinished,
}

/// Why it was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// The guest gets its exception.
    Exception,
    PageFault {
        address: u64,
        access: Access,
    },
}

const DONE: Result<Step, Refusal> = Ok(Step::Done(Effect::Nothing));

/// Executes; rip is the caller's business.
pub(super) fn execute<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    state: &mut PvState,
    decoded: &Decoded,
) -> Result<Step, Refusal> {
    match decoded.operation {
        Operation::Cpuid => cpuid(env, regs, state.mode),
        Operation::ReadTsc => read_tsc(env, regs, state),
        Operation::ReadTscAndAux => {
            read_tsc(env, regs, state)?;
            regs.rcx = u64::from(env.tsc_aux());
            DONE
        }
        Operation::In { width, port } => {
            let port = port_number(regs, port);
            require_port(env, state, port, width)?;
            input(env, regs, width, port)
        }
        Operation::Out { width, port } => {
            let (port, value) = (port_number(regs, port), regs.rax as u32);
            require_port(env, state, port, width)?;
            env.ports()
                .write(env, &env.tables().shared_ports, port, width, value);
            DONE
        }
        Operation::InString(io) => {
            require_port(env, state, regs.rdx as u16, io.width)?;
            strings::input(env, regs, &io)
        }
        Operation::OutString(io) => {
            require_port(env, state, regs.rdx as u16, io.width)?;
            strings::output(env, regs, &io)
        }
        _ => {
            require_kernel(state)?;
            kernel_only(env, regs, state, decoded)
        }
    }
}

/// What the guest's user programs cannot do: registers that hold values.
fn kernel_only<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    state: &mut PvState,
    decoded: &Decoded,
) -> Result<Step, Refusal> {
    match decoded.operation {
        Operation::ReadMsr => {
            let value = msr::read(env, state, regs.rcx as u32).map_err(|_| Refusal::Exception)?;
            set_edx_eax(regs, value);
            DONE
        }
        Operation::WriteMsr => {
            let value = edx_eax(regs);
            msr::write(env, state, regs.rcx as u32, value).map_err(|_| Refusal::Exception)?;
            DONE
        }
        Operation::ReadControl { index, to } => {
            *register(regs, to) = control::read(env, state, index).ok_or(Refusal::Exception)?;
            DONE
        }
        Operation::WriteControl { index, from } => {
            let value = *register(regs, from);
            control::write(env, state, index, value)
        }
        Operation::ReadDebug { index, to } => {
            *register(regs, to) = control::read_debug(state, index).ok_or(Refusal::Exception)?;
            DONE
        }
        Operation::WriteDebug { index, from } => {
            let value = *register(regs, from);
            control::write_debug(env, state, index, value)
        }
        Operation::ClearTaskSwitched => {
            state.task_switched = false;
            env.load_controls(state);
            DONE
        }
        _ => effect_of(env, regs, state, decoded).map(Step::Done),
    }
}

/// What the guest's user programs cannot do: instructions that the caller carries out.
fn effect_of<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    state: &PvState,
    decoded: &Decoded,
) -> Result<Effect, Refusal> {
    match decoded.operation {
        // Without devices no one can tell whether it was done.
        Operation::WriteBackCaches if env.rights() == Rights::Guest => Ok(Effect::Nothing),
        Operation::WriteBackCaches => Ok(Effect::WriteBackCaches),
        Operation::SetXcr => {
            let value = edx_eax(regs);
            if regs.rcx as u32 != 0 || !is_valid_xcr0(env.policy().xcr0_mask(), value) {
                return Err(Refusal::Exception);
            }
            Ok(Effect::SetXcr0(value))
        }
        Operation::ClearInterrupts => require_privilege(state).map(|()| Effect::MaskEvents),
        Operation::SetInterrupts => require_privilege(state).map(|()| Effect::UnmaskEvents),
        _ => Err(Refusal::Exception),
    }
}

fn require_kernel(state: &PvState) -> Result<(), Refusal> {
    if state.mode == Mode::Kernel {
        Ok(())
    } else {
        Err(Refusal::Exception)
    }
}

fn cpuid<E: PrivEnv>(env: &E, regs: &mut GuestFrame, mode: Mode) -> Result<Step, Refusal> {
    let [a, b, c, d] = guest::answer(
        env.policy(),
        &super::view(env, mode),
        regs.rax as u32,
        regs.rcx as u32,
    );
    (regs.rax, regs.rbx) = (u64::from(a), u64::from(b));
    (regs.rcx, regs.rdx) = (u64::from(c), u64::from(d));
    DONE
}

fn read_tsc<E: PrivEnv>(env: &E, regs: &mut GuestFrame, state: &PvState) -> Result<Step, Refusal> {
    // The guest's kernel itself may have forbidden it to its programs.
    if state.mode == Mode::User && state.cr4 & cr4::TSD != 0 {
        return Err(Refusal::Exception);
    }
    set_edx_eax(regs, env.tsc());
    DONE
}

fn input<E: PrivEnv>(
    env: &E,
    regs: &mut GuestFrame,
    width: Width,
    port: u16,
) -> Result<Step, Refusal> {
    let value = u64::from(
        env.ports()
            .read(env, &env.tables().shared_ports, port, width),
    );
    regs.rax = match width {
        Width::Dword => value,
        Width::Byte | Width::Word => regs.rax & !u64::from(width.mask()) | value,
    };
    DONE
}

fn port_number(regs: &GuestFrame, port: PortOperand) -> u16 {
    match port {
        PortOperand::Immediate(number) => u16::from(number),
        PortOperand::Dx => regs.rdx as u16,
    }
}

fn edx_eax(regs: &GuestFrame) -> u64 {
    regs.rdx << 32 | regs.rax & 0xffff_ffff
}

fn set_edx_eax(regs: &mut GuestFrame, value: u64) {
    regs.rax = value & 0xffff_ffff;
    regs.rdx = value >> 32;
}

/// A general register by its number.
pub(super) fn register(regs: &mut GuestFrame, which: Register) -> &mut u64 {
    match which.0 {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        _ => &mut regs.r15,
    }
}

/// Base of a segment in 64-bit code.
pub(super) fn segment_base<E: PrivEnv>(env: &E, segment: Segment) -> u64 {
    match segment {
        Segment::Flat => 0,
        Segment::Fs => env.read_base(SegmentBase::Fs),
        // Only the kernel gets here with GS in use, or a program that may use the port: see `strings`.
        Segment::Gs => env.read_base(SegmentBase::GsKernel),
    }
}

/// Whether a whole access is canonical.
pub(super) fn is_canonical(first: u64, bytes: u64) -> bool {
    GuestVa(first).is_canonical() && GuestVa(first.wrapping_add(bytes - 1)).is_canonical()
}
