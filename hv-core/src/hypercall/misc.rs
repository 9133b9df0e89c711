//! The small calls about the calling vCPU's own CPU state: stack, FPU, debug registers, segment bases,
//! assists.

use xen_abi::errno::Errno;
use xen_abi::xen as abi;

use super::context::{AnyCtx, Args, Ctx, DONE, Host, Outcome, Reply, SegmentBase, TaskSwitched};
use crate::base::GuestVa;
use crate::domain::{Domain, Owed};
use crate::pv::state::{IoplPlace, PvState, ring3};

/// VMASST types that a 64-bit PV guest may turn on. Page-table writes are always emulated, CR3 is
/// always wide and there are no 4 GiB segments to speak of: those are accepted as in effect. The others are acted on:
/// the I/O privilege in flags (`pv/iret.rs`, `pv/bounce.rs`), the M2P that user programs do not see (`mmu.rs`), the flag
/// in runstate areas.
const ASSISTS: u64 = 1 << abi::VMASST_TYPE_4gb_segments
    | 1 << abi::VMASST_TYPE_4gb_segments_notify
    | 1 << abi::VMASST_TYPE_writable_pagetables
    | 1 << abi::VMASST_TYPE_pae_extended_cr3
    | 1 << abi::VMASST_TYPE_architectural_iopl
    | 1 << abi::VMASST_TYPE_runstate_update_flag
    | 1 << abi::VMASST_TYPE_m2p_strict;

/// stack_switch(ss, rsp): the kernel's stack for entries from user mode.
///
/// # Errors
/// None.
pub fn stack_switch<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    cx.state.kernel_ss = ring3(args[0]);
    cx.state.kernel_sp = args[1];
    DONE
}

/// fpu_taskswitch(set): CR0.TS.
///
/// # Errors
/// None.
pub fn fpu_taskswitch<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    cx.state.task_switched = args[0] != 0;
    cx.host.set_task_switched(if args[0] != 0 {
        TaskSwitched::Set
    } else {
        TaskSwitched::Clear
    });
    DONE
}

/// vm_assist(cmd, type).
///
/// # Errors
/// `EINVAL` for a type that this kind of guest cannot have; `ENOSYS` for an unknown command.
pub fn vm_assist<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    use core::sync::atomic::Ordering::Relaxed;
    let bit = u32::try_from(args[1])
        .ok()
        .and_then(|t| 1u64.checked_shl(t))
        .unwrap_or(0);
    if bit & ASSISTS == 0 {
        return Err(Errno::EINVAL);
    }
    match args[0] as u32 {
        abi::VMASST_CMD_enable => cx.domain.assists.fetch_or(bit, Relaxed),
        abi::VMASST_CMD_disable => cx.domain.assists.fetch_and(!bit, Relaxed),
        _ => return Err(Errno::ENOSYS),
    };
    // The others follow when they next enter the guest.
    cx.domain.vcpus().iter().for_each(|v| v.owe(Owed::ASSISTS));
    if let Some(state) = cx.state.pv() {
        follow_assists(cx.domain, state);
    }
    DONE
}

/// Turns on what a domain's first vCPU is to start with.
pub fn set_assists(domain: &Domain, wanted: u64) {
    domain
        .assists
        .store(wanted & ASSISTS, core::sync::atomic::Ordering::Relaxed);
    domain.vcpus().iter().for_each(|v| v.owe(Owed::ASSISTS));
}

/// Brings a vCPU's state up to date with what its domain has turned on. The vCPU is owed that by `vm_assist`.
pub fn follow_assists(domain: &Domain, state: &mut PvState) {
    state.iopl_place = if domain.has_assist(abi::VMASST_TYPE_architectural_iopl) {
        IoplPlace::Flags
    } else {
        IoplPlace::Hypercall
    };
}

/// set_segment_base(which, base).
///
/// # Errors
/// `EINVAL` for a base that is not canonical or an unknown register.
pub fn set_segment_base<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let base = args[1];
    let (which, kept) = match args[0] as u32 {
        abi::SEGBASE_FS => (SegmentBase::Fs, &mut cx.state.bases.fs),
        abi::SEGBASE_GS_USER => (SegmentBase::GsUser, &mut cx.state.bases.gs_user),
        abi::SEGBASE_GS_KERNEL => (SegmentBase::GsKernel, &mut cx.state.bases.gs_kernel),
        abi::SEGBASE_GS_USER_SEL => {
            // A bad selector leaves the null one, as the segment register would after a fault that
            // the guest's kernel fixed up.
            cx.host.load_gs_user_selector(base as u16);
            return DONE;
        }
        _ => return Err(Errno::EINVAL),
    };
    if !GuestVa(base).is_canonical() {
        return Err(Errno::EINVAL);
    }
    *kept = base;
    cx.host.load_base(which, base);
    DONE
}

/// set_debugreg(index, value).
///
/// # Errors
/// `EPERM` for an address of ours, I/O breakpoints and general detect, `EINVAL` for reserved bits, `ENODEV`
/// for an unknown register.
pub fn set_debugreg<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let (index, value) = (args[0], args[1]);
    // DR4 and DR5 are other names of DR6 and DR7.
    let index = match index {
        0..=3 | 6 | 7 => index as usize,
        4 | 5 => index as usize + 2,
        _ => return Err(Errno::ENODEV),
    };
    let value = checked_debug(index, value)?;
    cx.state.debug[index] = value;
    cx.host.load_debug_set(cx.state);
    DONE
}

/// get_debugreg(index).
///
/// # Errors
/// `ENODEV` for an unknown register.
pub fn get_debugreg<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    match args[0] {
        0..=3 | 6 | 7 => Ok(Outcome::Return(cx.state.debug[args[0] as usize])),
        4 | 5 => Ok(Outcome::Return(cx.state.debug[args[0] as usize + 2])),
        _ => Err(Errno::ENODEV),
    }
}

/// What a guest may have in a debug register (AMD APM vol. 2, 13.1.1).
pub(crate) fn checked_debug(index: usize, value: u64) -> Result<u64, Errno> {
    match index {
        0..=3 => {
            let ours = abi_range();
            if ours.contains(&value) {
                Err(Errno::EPERM)
            } else {
                GuestVa(value)
                    .is_canonical()
                    .then_some(value)
                    .ok_or(Errno::EPERM)
            }
        }
        6 | 7 if value >> 32 != 0 => Err(Errno::EINVAL),
        6 => Ok((value & 0xe00f) | 0xffff_0ff0),
        7 => {
            // Breakpoint conditions of 2 are I/O breakpoints; general detect would let the guest
            // see accesses that are ours.
            let io = (0..4).any(|i| value & (3 << (i * 2)) != 0 && value >> (16 + i * 4) & 3 == 2);
            if io || value & (1 << 13) != 0 {
                Err(Errno::EPERM)
            } else {
                Ok((value & 0xffff_23ff) | 0x400)
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The hypervisor's addresses.
fn abi_range() -> core::ops::Range<u64> {
    xen_abi::arch_x86::HYPERVISOR_VIRT_START..xen_abi::arch_x86::HYPERVISOR_VIRT_END
}
