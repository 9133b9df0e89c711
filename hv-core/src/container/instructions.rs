//! Instructions that leave a container.
//!
//! Where the processor does not say how long the instruction was, it is fetched and decoded. The guest may have changed it
//! meanwhile: what does not fit the exit is left to the guest to execute again.

use super::exits::{device, fetch, fetch_failed};
use super::interrupts::tsc_at;
use super::memory::Memory;
use super::{Cell, Room, processor};
use crate::base::insn::{Failure, Operand};
use crate::hvm::controls::{self, Code, Controls};
use crate::hvm::exit::Exit;
use crate::hvm::insn::{Instruction, Operation, decode};
use crate::hvm::processor::{Processor, Register, SegmentName};
use crate::hypercall::Host;

/// Does or refuses an instruction that left the container.
pub(super) fn instruction<H: Host + Room>(cx: &mut Cell<'_, H>, exit: Exit) {
    match exit {
        // Not in its CPUID, or never given to guests.
        Exit::Forbidden | Exit::Monitor | Exit::Mwait => cx.invalid_opcode(),
        Exit::Rdpmc => cx.protection(),
        Exit::CrAccess { cr, write, gpr } => control_register(cx, (cr, write, gpr)),
        Exit::DrAccess { dr, write, gpr } => debug_register(cx, (dr, write, gpr)),
        // What the processor tells of a port is all that is needed.
        Exit::Port {
            string, next_rip, ..
        } if !string => port(cx, exit, next_rip),
        Exit::Port { .. } => {
            let fits = |found: Instruction| fits(&exit, &found.operation);
            if decoded(cx).is_some_and(fits) {
                let domain = cx.domain.clone();
                device(cx, Memory(&domain));
            }
        }
        _ => {
            if let Some(length) = length(cx, &exit) {
                simple(cx, exit, length);
            }
        }
    }
}

/// The instructions of which only the length is to be known.
fn simple<H: Host + Room>(cx: &mut Cell<'_, H>, exit: Exit, length: u8) {
    match exit {
        Exit::Cpuid => super::cpuid::cpuid(cx),
        Exit::Msr { write } => {
            if !super::msr::access(cx, write) {
                return cx.protection();
            }
        }
        Exit::Rdtsc | Exit::Rdtscp => read_tsc(cx, exit),
        Exit::Xsetbv => {
            if cx.register(Register::Cr4) & controls::cr4::OSXSAVE == 0 {
                return cx.invalid_opcode();
            }
            if !set_xcr(cx) {
                return cx.protection();
            }
        }
        Exit::Pause => {
            if let Some(unit) = cx.vcpu.unit.get() {
                cx.domain.sched.yield_unit(unit);
            }
            cx.host.reschedule_here();
        }
        // Memory of guests is cached, and other guests' caches are not theirs to flush.
        Exit::Invd | Exit::Wbinvd => {}
        _ => return cx.invalid_opcode(),
    }
    cx.advance(length);
}

/// How long the instruction was that left the container; nothing when the guest is to try again or got an exception.
pub(super) fn length<H: Host + Room>(cx: &mut Cell<'_, H>, exit: &Exit) -> Option<u8> {
    if let Some(length) = cx.state.processor.instruction_length() {
        return Some(length);
    }
    let found = decoded(cx)?;
    fits(exit, &found.operation).then_some(found.length)
}

/// The instruction at the guest's rip.
fn decoded<H: Host + Room>(cx: &mut Cell<'_, H>) -> Option<Instruction> {
    let domain = cx.domain.clone();
    let bytes = fetch(cx, Memory(&domain));
    match decode(bytes.as_slice(), cx.code_size()) {
        Ok(found) => Some(found),
        Err(Failure::TooShort) if bytes.fault().is_some() => {
            fetch_failed(cx, &bytes);
            None
        }
        // Another instruction by now.
        Err(_) => None,
    }
}

/// Whether an instruction can have led to the exit.
fn fits(exit: &Exit, operation: &Operation) -> bool {
    match (exit, operation) {
        (Exit::Cpuid, Operation::Cpuid)
        | (Exit::Hlt, Operation::Hlt)
        | (Exit::Pause, Operation::Pause)
        | (Exit::Rdtsc, Operation::Rdtsc)
        | (Exit::Rdtscp, Operation::Rdtscp)
        // QEMU's INVD (7.2) leaves as if it were WBINVD; neither does anything here.
        | (Exit::Invd | Exit::Wbinvd, Operation::Invd | Operation::Wbinvd)
        | (Exit::Xsetbv, Operation::Xsetbv)
        | (Exit::Port { .. }, Operation::Ins(_) | Operation::Outs(_)) => true,
        (Exit::Msr { write }, Operation::Rdmsr) => !write,
        (Exit::Msr { write }, Operation::Wrmsr) => *write,
        _ => false,
    }
}

/// IN and OUT: nothing is at any port, so reads give ones and writes go nowhere.
fn port<H: Host + Room>(cx: &mut Cell<'_, H>, exit: Exit, next_rip: u64) {
    let Exit::Port { write, size, .. } = exit else {
        return;
    };
    if !write {
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 4)));
        // Of the wider registers only a write of 32 bits changes the rest.
        cx.regs.rax = match size {
            4 => ones,
            _ => cx.regs.rax | ones,
        };
    }
    let length = next_rip.wrapping_sub(cx.regs.rip) as u8;
    cx.advance(length);
}

/// Which control register, whether it is written, and the general register where the processor tells.
type CrAccess = (u8, bool, Option<u8>);

/// Whether an instruction can have accessed control register `cr`.
fn fits_control(cr: u8, write: bool, operation: &Operation) -> bool {
    match *operation {
        Operation::ReadControl { cr: own, .. } => own == cr && !write,
        Operation::WriteControl { cr: own, .. } => own == cr && write,
        Operation::Clts | Operation::Lmsw(_) => cr == 0 && write,
        Operation::Smsw(..) => cr == 0 && !write,
        _ => false,
    }
}

fn control_register<H: Host + Room>(cx: &mut Cell<'_, H>, (cr, write, gpr): CrAccess) {
    // The processor tells a register only together with the length.
    let told = gpr.zip(cx.state.processor.instruction_length());
    let operation = match told {
        Some((gpr, length)) if write => Instruction {
            operation: Operation::WriteControl { cr, gpr },
            length,
        },
        Some((gpr, length)) => Instruction {
            operation: Operation::ReadControl { cr, gpr },
            length,
        },
        None => match decoded(cx) {
            Some(found) if fits_control(cr, write, &found.operation) => found,
            // Another instruction by now, or an exception.
            _ => return,
        },
    };
    // The processor has checked that of what it found there; this may be another, and SMSW is for everybody.
    if cx.cpl() != 0 && !matches!(operation.operation, Operation::Smsw(..)) {
        return cx.protection();
    }
    let gprs = processor::gprs(cx.regs);
    let value_of = |gpr: u8| gprs[usize::from(gpr & 15)];
    let cr0 = cx.register(Register::Cr0);
    let wanted = match operation.operation {
        Operation::ReadControl { cr: 0, gpr } => {
            return read_control(cx, cr0, gpr, operation.length);
        }
        Operation::ReadControl { cr: 4, gpr } => {
            let value = cx.register(Register::Cr4);
            return read_control(cx, value, gpr, operation.length);
        }
        Operation::ReadControl { cr: 8, gpr } => {
            let value = cx.state.lapic.cr8().into();
            return read_control(cx, value, gpr, operation.length);
        }
        Operation::WriteControl { cr: 0, gpr } => Change::Cr0(value_of(gpr)),
        Operation::WriteControl { cr: 8, gpr } => Change::Cr8(value_of(gpr)),
        Operation::WriteControl { cr: 4, gpr } => Change::Cr4(value_of(gpr)),
        Operation::Clts => Change::Cr0(cr0 & !controls::cr0::TS),
        Operation::Lmsw(Operand::Register(gpr)) => Change::Status(value_of(gpr) as u16),
        Operation::Smsw(Operand::Register(gpr), width) => {
            let bits = width.bits();
            let mask = u64::MAX >> (64 - bits);
            // A write of 32 bits clears the rest.
            let kept = if bits == 16 { value_of(gpr) & !mask } else { 0 };
            return read_control(cx, kept | cr0 & mask, gpr, operation.length);
        }
        // LMSW and SMSW with an operand in memory, which no kernel uses.
        Operation::Lmsw(_) | Operation::Smsw(..) => return cx.invalid_opcode(),
        // Another instruction by now.
        _ => return,
    };
    if write_control(cx, wanted) {
        cx.advance(operation.length);
    } else {
        cx.protection();
    }
}

fn read_control<H: Host + Room>(cx: &mut Cell<'_, H>, value: u64, gpr: u8, length: u8) {
    let mut values = processor::gprs(cx.regs);
    values[usize::from(gpr & 15)] = value;
    processor::set_gprs(cx.regs, &values);
    cx.advance(length);
}

/// What a guest does to a control register.
enum Change {
    Cr0(u64),
    /// LMSW.
    Status(u16),
    Cr4(u64),
    Cr8(u64),
}

/// Makes a change; `false`: the guest gets #GP.
fn write_control<H: Host + Room>(cx: &mut Cell<'_, H>, change: Change) -> bool {
    let before = current(cx);
    let code = if cx.state.processor.segment(SegmentName::Cs).is_long() {
        Code::Long
    } else {
        Code::Other
    };
    let changed = match change {
        Change::Cr0(value) => controls::write_cr0(before, value, code),
        Change::Status(value) => controls::write_machine_status(before, value, code),
        Change::Cr8(value) => {
            let Ok(priority) = controls::write_cr8(value) else {
                return false;
            };
            cx.state.lapic.set_cr8(priority);
            return true;
        }
        Change::Cr4(value) => controls::write_cr4(before, value, cx.policy()),
    };
    let Ok(changed) = changed else { return false };
    adopt(cx, &before, &changed);
    true
}

/// The control registers as the guest sees them.
pub(super) fn current<H: Host + Room>(cx: &Cell<'_, H>) -> Controls {
    Controls {
        cr0: cx.register(Register::Cr0),
        cr3: cx.register(Register::Cr3),
        cr4: cx.register(Register::Cr4),
        efer: cx.register(Register::Efer),
    }
}

/// Takes over what of the control registers has changed.
pub(super) fn adopt<H: Host + Room>(cx: &mut Cell<'_, H>, before: &Controls, after: &Controls) {
    let processor = &mut cx.state.processor;
    for (register, old, new) in [
        (Register::Efer, before.efer, after.efer),
        (Register::Cr4, before.cr4, after.cr4),
        (Register::Cr0, before.cr0, after.cr0),
    ] {
        if old != new {
            processor.write(register, new);
        }
    }
}

/// Which debug register, whether it is written, and the general register where the processor tells.
fn debug_register<H: Host + Room>(cx: &mut Cell<'_, H>, (dr, write, gpr): CrAccess) {
    let told = gpr.zip(cx.state.processor.instruction_length());
    let (gpr, length) = match told {
        Some(told) => told,
        None => match decoded(cx).map(|i| (i.operation, i.length)) {
            Some((Operation::ReadDebug { dr: own, gpr }, length)) if own == dr && !write => {
                (gpr, length)
            }
            Some((Operation::WriteDebug { dr: own, gpr }, length)) if own == dr && write => {
                (gpr, length)
            }
            // Another instruction by now, or an exception.
            _ => return,
        },
    };
    if cx.cpl() != 0 {
        return cx.protection();
    }
    let mut values = processor::gprs(cx.regs);
    let value = &mut values[usize::from(gpr & 15)];
    // DR4 and DR5 are other names of DR6 and DR7 without CR4.DE, and #UD with it.
    const DEBUG_EXTENSIONS: u64 = 1 << 3;
    let dr = match dr {
        4 | 5 if cx.register(Register::Cr4) & DEBUG_EXTENSIONS != 0 => return cx.invalid_opcode(),
        4 | 5 => dr + 2,
        0..=3 | 6 | 7 => dr,
        _ => return cx.invalid_opcode(),
    };
    if !write {
        *value = match dr {
            6 => cx.register(Register::Dr6),
            7 => cx.register(Register::Dr7),
            _ => cx.state.debug[usize::from(dr)],
        };
        processor::set_gprs(cx.regs, &values);
        return cx.advance(length);
    }
    let wanted = *value;
    match dr {
        6 | 7 if wanted >> 32 != 0 => return cx.protection(),
        6 => cx
            .state
            .processor
            .write(Register::Dr6, wanted & 0xe00f | 0xffff_0ff0),
        7 => cx
            .state
            .processor
            .write(Register::Dr7, wanted & 0xffff_2fff | 0x400),
        _ => cx.state.debug[usize::from(dr)] = wanted,
    }
    cx.state.debug_loaded = false;
    cx.advance(length);
}

/// RDTSC and RDTSCP of a guest whose TSC is emulated.
fn read_tsc<H: Host + Room>(cx: &mut Cell<'_, H>, exit: Exit) {
    let now = cx.domain.machine.now();
    let tsc = cx.state.clock.map_or(0, |clock| tsc_at(&clock, now));
    (cx.regs.rax, cx.regs.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
    if exit == Exit::Rdtscp {
        cx.regs.rcx = cx.state.msrs.tsc_aux.into();
    }
}

/// XSETBV; `false`: the guest gets #GP.
fn set_xcr<H: Host + Room>(cx: &mut Cell<'_, H>) -> bool {
    let value = cx.regs.rax & 0xffff_ffff | cx.regs.rdx << 32;
    let register = cx.regs.rcx as u32;
    let allowed = controls::write_xcr0(register, value, cx.policy());
    let (0, Ok(value)) = (cx.cpl(), allowed) else {
        return false;
    };
    cx.state.xcr0 = value;
    cx.host.load_xcr0(value);
    true
}
