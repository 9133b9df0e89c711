//! The iret hypercall: how a 64-bit PV kernel returns from its handlers.

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{IretContext, VGCF_in_syscall};

use super::frame::{RETURN_BY_SYSRET, rflags};
use super::state::{Mode, ring3};
use crate::base::GuestVa;
use crate::events::EventHost;
use crate::hypercall::{Ctx, Host, Outcome, Reply};

/// Loads the frame at the guest's stack pointer (`struct iret_context`).
///
/// # Errors
/// None: a frame that cannot be read or makes no sense stops the domain.
pub fn iret<H: Host>(cx: &mut Ctx<'_, H>) -> Reply {
    let Ok(frame) = cx.read::<IretContext>(cx.regs.rsp) else {
        log::error!(
            "d{}v{}: cannot read the iret frame at {:#x}",
            cx.domain.id,
            cx.vcpu.id,
            cx.regs.rsp
        );
        return Ok(Outcome::Crash);
    };
    // RPL 3 means the guest's user mode: its kernel sees its own selectors with RPL 0.
    if frame.cs & 3 == 3 {
        if cx.state.roots.user.is_none() {
            log::error!(
                "d{}v{}: iret to user mode without a user page table",
                cx.domain.id,
                cx.vcpu.id
            );
            return Ok(Outcome::Crash);
        }
        cx.state.mode = Mode::User;
        cx.host.swap_gs();
        cx.host.load_root(cx.state);
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
    if let Some(info) = cx.domain.vcpu_info(cx.vcpu.id) {
        if frame.rflags & rflags::IF != 0 {
            info[0].fetch_and(!(0xff << 8), Ordering::SeqCst);
        } else {
            info[0].fetch_or(1 << 8, Ordering::SeqCst);
        }
    }
    cx.state.nmi_masked = false;
    Ok(Outcome::Resume)
}
