//! Entering the guest's kernel: the frame that its handlers find on the stack.
//!
//! From low to high addresses: rcx, r11, for the failsafe callback ds, es, fs, gs, the error code where
//! the vector has one, then rip, cs with the saved event mask in its upper half, rflags, rsp, ss
//! (xen/arch-x86/xen-x86_64.h, start of "HYPERVISOR_iret" and callbacks).

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TI_IF};

use super::frame::{GuestFrame, RETURN_BY_SYSRET, rflags};
use super::state::{Callback, IoplPlace, Mode, PvState};
use crate::base::{DomId, VcpuId};
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
pub(super) const UPCALL_MASK: u64 = 0xff << 8;
pub(super) const UPCALL_MASKED: u64 = 1 << 8;

/// Enters the guest's handler for an exception.
///
/// # Errors
/// `Undeliverable` when the guest has no handler or no stack for it.
pub fn trap<H: Host>(
    cx: &mut Ctx<'_, H>,
    vector: u8,
    error_code: Option<u32>,
) -> Result<(), Undeliverable> {
    trap_here(cx, vector, error_code)
}

#[inline(always)]
fn trap_here<H: Host>(
    cx: &mut Ctx<'_, H>,
    vector: u8,
    error_code: Option<u32>,
) -> Result<(), Undeliverable> {
    let entry = cx.state.traps[vector as usize];
    if entry.address == 0 {
        return Err(no_handler(
            who(cx),
            cx.state.mode,
            cx.regs,
            vector,
            error_code,
        ));
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

/// The vCPU, for a message. The functions that print them take no context: it could not stay in
/// registers on the way that prints nothing.
#[inline(always)]
pub(super) fn who<H: Host>(cx: &Ctx<'_, H>) -> (DomId, VcpuId) {
    (cx.domain.id, cx.vcpu.id)
}

#[cold]
fn no_handler(
    (domain, vcpu): (DomId, VcpuId),
    mode: Mode,
    regs: &GuestFrame,
    vector: u8,
    error_code: Option<u32>,
) -> Undeliverable {
    log::error!(
        "d{domain}v{vcpu}: trap {vector} at {:#x} (error {error_code:?}, {mode:?} mode, rsp {:#x}) and the guest has no handler for it",
        regs.rip,
        regs.rsp
    );
    Undeliverable
}

/// Enters the guest's page-fault handler; the address goes into its `vcpu_info`.
///
/// # Errors
/// As `trap`.
#[inline(always)]
pub fn page_fault<H: Host>(
    cx: &mut Ctx<'_, H>,
    address: u64,
    error_code: u32,
) -> Result<(), Undeliverable> {
    if let Some((frame, offset)) = cx.vcpu.info_place() {
        let word = offset / 8 + xen_abi::xen::VCPU_INFO_CR2 / 8;
        if let Some(cr2) = cx.host.table(frame).get(word) {
            cr2.store(address, Ordering::Relaxed);
        }
    }
    trap_here(cx, 14, Some(error_code))
}

/// Enters one of the callbacks.
///
/// # Errors
/// As `trap`.
#[inline(always)]
pub fn callback<H: Host>(
    cx: &mut Ctx<'_, H>,
    which: Callback,
    name: &str,
) -> Result<(), Undeliverable> {
    if which.address == 0 {
        return Err(not_registered(who(cx), name));
    }
    enter(cx, which, Extra::Nothing)
}

#[cold]
fn not_registered((domain, vcpu): (DomId, VcpuId), name: &str) -> Undeliverable {
    log::error!("d{domain}v{vcpu}: no {name} callback registered");
    Undeliverable
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
#[inline(always)]
pub fn to_kernel<H: Host>(cx: &mut Ctx<'_, H>) {
    if cx.state.mode == Mode::User {
        cx.state.mode = Mode::Kernel;
        cx.host.swap_gs();
        cx.host.load_root(cx.state);
    }
}

/// Inlined into each way in, because every instruction here counts for each system call.
#[inline(always)]
fn enter<H: Host>(
    cx: &mut Ctx<'_, H>,
    target: Callback,
    extra: Extra,
) -> Result<(), Undeliverable> {
    // The guest tells its two modes apart by the RPL: ours is 3 in both.
    let (stack, selector_bits) = match cx.state.mode {
        Mode::User => (cx.state.kernel_sp, 0xffff),
        Mode::Kernel => (cx.regs.rsp, 0xfffc),
    };
    to_kernel(cx);
    let stack = stack & !15;
    let masked = match cx.upcall_word() {
        Some(word) => word.load(Ordering::SeqCst) & UPCALL_MASK,
        None => UPCALL_MASKED,
    };
    let r = &*cx.regs;
    let mut seen = r.rflags & !(rflags::IF | rflags::IOPL);
    if cx.state.iopl_place == IoplPlace::Flags {
        seen |= privilege_shown(cx.state);
    }
    let flags = if masked == 0 { seen | rflags::IF } else { seen };
    let cs = r.cs & selector_bits | masked << 24;
    let (rip, rsp, ss) = (r.rip, r.rsp, r.ss & 0xffff);
    let (written, bytes) = match extra {
        Extra::Nothing => {
            let frame = [r.rcx, r.r11, rip, cs, flags, rsp, ss];
            (cx.host.store_words(stack.wrapping_sub(56), &frame), 56)
        }
        Extra::ErrorCode(code) => {
            let frame = [r.rcx, r.r11, u64::from(code), rip, cs, flags, rsp, ss];
            (cx.host.store_words(stack.wrapping_sub(64), &frame), 64)
        }
        Extra::Selectors => {
            let [ds, es, fs, gs] = [r.ds, r.es, r.fs, r.gs];
            let frame = [r.rcx, r.r11, ds, es, fs, gs, rip, cs, flags, rsp, ss];
            (cx.host.store_words(stack.wrapping_sub(88), &frame), 88)
        }
    };
    let at = stack.wrapping_sub(bytes);
    if written.is_err() {
        return Err(no_stack(who(cx), target.address, at));
    }
    if target.masks_events
        && let Some(word) = cx.upcall_word()
    {
        word.fetch_or(UPCALL_MASKED, Ordering::SeqCst);
    }
    let r = &mut *cx.regs;
    r.rsp = at;
    r.rip = target.address;
    r.cs = u64::from(FLAT_KERNEL_CS);
    r.ss = u64::from(FLAT_KERNEL_SS);
    r.rflags = (r.rflags & !(rflags::TF | rflags::RF | rflags::NT | rflags::AC | rflags::VM))
        | rflags::IF
        | rflags::FIXED;
    // rcx and r11 are in the frame: the fast way out may clobber them. Addresses were checked to be
    // canonical when they were registered.
    r.entry = RETURN_BY_SYSRET;
    Ok(())
}

/// The guest's own I/O privilege, as its kernel finds it in the flags.
#[cold]
fn privilege_shown(state: &PvState) -> u64 {
    u64::from(state.iopl) << rflags::IOPL.trailing_zeros()
}

#[cold]
fn no_stack((domain, vcpu): (DomId, VcpuId), target: u64, at: u64) -> Undeliverable {
    log::error!(
        "d{domain}v{vcpu}: cannot write the frame for {target:#x} to the guest kernel's stack at {at:#x}"
    );
    Undeliverable
}
