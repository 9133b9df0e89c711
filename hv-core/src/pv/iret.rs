//! The iret hypercall: how a 64-bit PV kernel returns from its handlers.

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::VGCF_in_syscall;

use super::bounce::{UPCALL_MASK, UPCALL_MASKED, who};
use super::frame::{RETURN_BY_SYSRET, rflags};
use super::state::{IoplPlace, Mode, PvState, ring3};
use crate::base::{DomId, GuestVa, VcpuId};
use crate::hypercall::{Ctx, Host, Outcome, Reply};

/// The hypercall's handler: loads the frame at the guest's stack pointer (`struct iret_context`).
///
/// # Errors
/// None: a frame that cannot be read or makes no sense stops the domain.
pub fn iret<H: Host>(cx: &mut Ctx<'_, H>) -> Reply {
    Ok(load(cx))
}

/// The same where every instruction counts: each system call ends with it.
#[inline(always)]
pub fn load<H: Host>(cx: &mut Ctx<'_, H>) -> Outcome {
    let Ok(frame) = cx.host.load_iret_frame(cx.regs.rsp) else {
        return unreadable(who(cx), cx.regs.rsp);
    };
    // RPL 3 means the guest's user mode: its kernel sees its own selectors with RPL 0.
    if frame.cs & 3 == 3 {
        if cx.state.roots.user.is_none() {
            return no_user_root(who(cx));
        }
        cx.state.mode = Mode::User;
        cx.host.swap_gs();
        cx.host.load_root(cx.state);
    }
    if cx.state.iopl_place == IoplPlace::Flags {
        take_privilege(cx.state, frame.rflags);
    }
    let regs = &mut *cx.regs;
    regs.rax = frame.rax;
    regs.rip = frame.rip;
    regs.cs = ring3(frame.cs);
    regs.rflags = (frame.rflags & !(rflags::IOPL | rflags::VM | rflags::VIF | rflags::VIP))
        | rflags::IF
        | rflags::FIXED;
    regs.rsp = frame.rsp;
    regs.ss = ring3(frame.ss);
    regs.entry = 0;
    if frame.flags & VGCF_in_syscall != 0 && GuestVa(frame.rip).is_canonical() {
        regs.entry = RETURN_BY_SYSRET;
    } else {
        regs.rcx = frame.rcx;
        regs.r11 = frame.r11;
    }
    if let Some(word) = cx.upcall_word() {
        if frame.rflags & rflags::IF != 0 {
            word.fetch_and(!UPCALL_MASK, Ordering::SeqCst);
        } else {
            word.fetch_or(UPCALL_MASKED, Ordering::SeqCst);
        }
    }
    cx.state.nmi_masked = false;
    Outcome::Resume
}

/// The I/O privilege in the flags is the guest's own; the processor's stays 0.
#[cold]
fn take_privilege(state: &mut PvState, flags: u64) {
    state.iopl = (flags >> rflags::IOPL.trailing_zeros() & 3) as u8;
}

#[cold]
fn unreadable((domain, vcpu): (DomId, VcpuId), at: u64) -> Outcome {
    log::error!("d{domain}v{vcpu}: cannot read the iret frame at {at:#x}");
    Outcome::Crash
}

#[cold]
fn no_user_root((domain, vcpu): (DomId, VcpuId)) -> Outcome {
    log::error!("d{domain}v{vcpu}: iret to user mode without a user page table");
    Outcome::Crash
}
