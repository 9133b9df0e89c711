//! Entering the guest's kernel: the frame that its handlers find on the stack.
//!
//! From low to high addresses: rcx, r11, for the failsafe callback ds, es, fs, gs, the error code where
//! the vector has one, then rip, cs with the saved event mask in its upper half, rflags, rsp, ss
//! (xen/arch-x86/xen-x86_64.h, start of "HYPERVISOR_iret" and callbacks).

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TI_IF};

use super::frame::{RETURN_BY_SYSRET, rflags};
use super::state::{Callback, Mode};
use crate::events::EventHost;
use crate::hypercall::{Ctx, Host};

/// The guest's kernel cannot be entered: its domain must be stopped. The reason has been logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undeliverable;

/// What the handler is to find besides the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extra {
    Nothing,
    ErrorCode(u32),
    Selectors,
}

/// Byte 1 of the first word of `vcpu_info`.
const UPCALL_MASK: u64 = 0xff << 8;
const UPCALL_MASKED: u64 = 1 << 8;

/// Enters the guest's handler for an exception.
///
/// # Errors
/// `Undeliverable` when the guest has no handler or no stack for it.
pub fn trap<H: Host>(
    cx: &mut Ctx<'_, H>,
    vector: u8,
    error_code: Option<u32>,
) -> Result<(), Undeliverable> {
    let entry = cx.state.traps[vector as usize];
    if entry.address == 0 {
        log::error!(
            "d{}v{}: trap {vector} at {:#x} (error {:?}, {:?} mode, rsp {:#x}) and the guest has no handler for it",
            cx.domain.id,
            cx.vcpu.id,
            cx.regs.rip,
            error_code,
            cx.state.mode,
            cx.regs.rsp
        );
        return Err(Undeliverable);
    }
    let target = Callback {
        address: entry.address,
        masks_events: entry.flags & TI_IF != 0,
    };
    enter(
        cx,
        target,
        error_code.map_or(Extra::Nothing, Extra::ErrorCode),
    )
}

/// Enters the guest's page-fault handler; the address goes into its `vcpu_info`.
///
/// # Errors
/// As `trap`.
pub fn page_fault<H: Host>(
    cx: &mut Ctx<'_, H>,
    address: u64,
    error_code: u32,
) -> Result<(), Undeliverable> {
    if let Some((frame, offset)) = cx.vcpu.info_place() {
        let word = offset / 8 + xen_abi::xen::VCPU_INFO_CR2 / 8;
        if let Some(cr2) = cx.domain.machine.words(frame).get(word) {
            cr2.store(address, Ordering::Relaxed);
        }
    }
    trap(cx, 14, Some(error_code))
}

/// Enters one of the callbacks.
///
/// # Errors
/// As `trap`.
pub fn callback<H: Host>(
    cx: &mut Ctx<'_, H>,
    which: Callback,
    name: &str,
) -> Result<(), Undeliverable> {
    if which.address == 0 {
        log::error!(
            "d{}v{}: no {name} callback registered",
            cx.domain.id,
            cx.vcpu.id
        );
        return Err(Undeliverable);
    }
    enter(cx, which, Extra::Nothing)
}

/// Enters the failsafe callback: a selector or frame that the guest wanted loaded was bad.
///
/// # Errors
/// As `trap`.
pub fn failsafe<H: Host>(cx: &mut Ctx<'_, H>) -> Result<(), Undeliverable> {
    let which = cx.state.callbacks.failsafe;
    if which.address == 0 {
        log::error!(
            "d{}v{}: bad guest frame and no failsafe callback registered",
            cx.domain.id,
            cx.vcpu.id
        );
        return Err(Undeliverable);
    }
    enter(cx, which, Extra::Selectors)
}

/// Goes from the guest's user mode to its kernel.
pub fn to_kernel<H: Host>(cx: &mut Ctx<'_, H>) {
    if cx.state.mode == Mode::User {
        cx.state.mode = Mode::Kernel;
        cx.host.swap_gs();
        cx.host.load_root(cx.state);
    }
}

fn enter<H: Host>(
    cx: &mut Ctx<'_, H>,
    target: Callback,
    extra: Extra,
) -> Result<(), Undeliverable> {
    let from = cx.state.mode;
    let regs = *cx.regs;
    let stack = match from {
        Mode::User => cx.state.kernel_sp,
        Mode::Kernel => regs.rsp,
    } & !15;
    to_kernel(cx);
    let info = cx.domain.vcpu_info(cx.vcpu.id);
    let masked = info.map_or(UPCALL_MASKED, |i| i[0].load(Ordering::SeqCst) & UPCALL_MASK) >> 8;
    let mut frame = [0u64; 12];
    let mut count = 0;
    let mut push = |value| {
        frame[count] = value;
        count += 1;
    };
    push(regs.rcx);
    push(regs.r11);
    match extra {
        Extra::Nothing => {}
        Extra::ErrorCode(code) => push(u64::from(code)),
        Extra::Selectors => [regs.ds, regs.es, regs.fs, regs.gs]
            .into_iter()
            .for_each(&mut push),
    }
    push(regs.rip);
    // The guest tells its two modes apart by the RPL: ours is 3 in both.
    let cs = if from == Mode::Kernel {
        regs.cs & 0xfffc
    } else {
        regs.cs & 0xffff
    };
    push(cs | masked << 32);
    let seen = regs.rflags & !(rflags::IF | rflags::IOPL);
    push(if masked == 0 { seen | rflags::IF } else { seen });
    push(regs.rsp);
    push(regs.ss & 0xffff);

    let at = stack.wrapping_sub(count as u64 * 8);
    if cx
        .host
        .copy_out(at, zerocopy::IntoBytes::as_bytes(&frame[..count]))
        .is_err()
    {
        log::error!(
            "d{}v{}: cannot write the frame for {:#x} to the guest kernel's stack at {at:#x}",
            cx.domain.id,
            cx.vcpu.id,
            target.address
        );
        return Err(Undeliverable);
    }
    if target.masks_events
        && let Some(info) = info
    {
        info[0].fetch_or(UPCALL_MASKED, Ordering::SeqCst);
    }
    cx.regs.rsp = at;
    cx.regs.rip = target.address;
    cx.regs.cs = u64::from(FLAT_KERNEL_CS);
    cx.regs.ss = u64::from(FLAT_KERNEL_SS);
    cx.regs.rflags = (regs.rflags
        & !(rflags::TF | rflags::RF | rflags::NT | rflags::AC | rflags::VM))
        | rflags::IF
        | rflags::FIXED;
    // rcx and r11 are in the frame: the fast way out may clobber them. Addresses were checked to be
    // canonical when they were registered.
    cx.regs.entry = RETURN_BY_SYSRET;
    Ok(())
}
