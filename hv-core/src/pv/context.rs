//! From the ABI's `vcpu_guest_context` to a vCPU at rest (VCPUOP_initialise).

use xen_abi::arch_x86::{
    CpuUserRegs, FIRST_RESERVED_GDT_ENTRY, VGCF_failsafe_disables_events, VGCF_in_kernel,
    VGCF_syscall_disables_events, VcpuGuestContext,
};
use xen_abi::errno::Errno;

use super::frame::{GuestFrame, rflags};
use super::state::{Callback, GDT_PAGES, Mode, PvState, SegmentBases, StateBox, TrapEntry, ring3};
use crate::base::{GuestVa, Mfn, PhysAddr};
use crate::domain::Domain;
use crate::hypercall::{Host, mmu};
use crate::mm::Stop;
use crate::mm::pins::{self, OwedPuts, RootKind};
use crate::mm::refs::get_page_and_type;
use crate::mm::types::{PageType, Reach};

/// Why no state could be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// The context makes no sense, or memory is short.
    Refused(Errno),
    /// Checking its page tables was interrupted: try again.
    Restart,
}

impl From<Stop> for BuildError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Restart => Self::Restart,
            Stop::Refused(_) => Self::Refused(Errno::EINVAL),
        }
    }
}

/// Builds a vCPU's state, with references to its roots and its GDT pages.
///
/// # Errors
/// `EINVAL` for addresses that are not canonical or frames that cannot be what they should be, `ENOMEM`;
/// nothing is kept then.
pub fn build<H: Host>(
    host: &H,
    domain: &Domain,
    wanted: &VcpuGuestContext,
    owed: &mut OwedPuts,
) -> Result<StateBox, BuildError> {
    check_addresses(wanted).map_err(BuildError::Refused)?;
    let mut state = PvState::at_reset(host.fpu_lines()).map_err(BuildError::Refused)?;
    state.regs = frame(&wanted.user_regs);
    // The I/O privilege is virtual: the flag never reaches the hardware.
    state.iopl = (wanted.user_regs.rflags >> 12 & 3) as u8;
    // A vCPU starts in its kernel; only a restored one may be elsewhere.
    state.mode = if wanted.flags & VGCF_in_kernel != 0 || wanted.ctrlreg[1] & 1 == 0 {
        Mode::Kernel
    } else {
        Mode::User
    };
    for (entry, trap) in state.traps.iter_mut().zip(&wanted.trap_ctxt) {
        *entry = TrapEntry {
            address: trap.address,
            cs: trap.cs,
            flags: trap.flags,
        };
    }
    state.callbacks.event = Callback {
        address: wanted.event_callback_eip,
        masks_events: true,
    };
    state.callbacks.failsafe = Callback {
        address: wanted.failsafe_callback_eip,
        masks_events: wanted.flags & VGCF_failsafe_disables_events != 0,
    };
    state.callbacks.syscall = Callback {
        address: wanted.syscall_callback_eip,
        masks_events: wanted.flags & VGCF_syscall_disables_events != 0,
    };
    state.kernel_sp = wanted.kernel_sp;
    state.kernel_ss = ring3(wanted.kernel_ss);
    state.bases = SegmentBases {
        fs: wanted.fs_base,
        gs_kernel: wanted.gs_base_kernel,
        gs_user: wanted.gs_base_user,
    };
    state.ldt_base = wanted.ldt_base;
    state.ldt_entries = wanted.ldt_ents as u32;
    state.cr4 = wanted.ctrlreg[4];
    // Breakpoints start disabled: a new vCPU sets its own.
    take_frames(host, domain, wanted, &mut state, owed)
        .inspect_err(|_| release(host, &mut state, owed))?;
    Ok(state)
}

fn check_addresses(wanted: &VcpuGuestContext) -> Result<(), Errno> {
    let traps = wanted.trap_ctxt.iter().map(|t| t.address);
    let canonical = traps
        .chain([
            wanted.event_callback_eip,
            wanted.failsafe_callback_eip,
            wanted.syscall_callback_eip,
            wanted.fs_base,
            wanted.gs_base_kernel,
            wanted.gs_base_user,
            wanted.ldt_base,
            wanted.user_regs.rip,
        ])
        .all(|a| GuestVa(a).is_canonical());
    let counts = wanted.gdt_ents <= u64::from(FIRST_RESERVED_GDT_ENTRY) && wanted.ldt_ents <= 8192;
    if canonical
        && counts
        && wanted
            .ldt_base
            .is_multiple_of(crate::base::PAGE_SIZE as u64)
    {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn frame(regs: &CpuUserRegs) -> GuestFrame {
    GuestFrame {
        r15: regs.r15,
        r14: regs.r14,
        r13: regs.r13,
        r12: regs.r12,
        rbp: regs.rbp,
        rbx: regs.rbx,
        r11: regs.r11,
        r10: regs.r10,
        r9: regs.r9,
        r8: regs.r8,
        rax: regs.rax,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        error_code: 0,
        entry: 0,
        rip: regs.rip,
        cs: ring3(u64::from(regs.cs)),
        rflags: (regs.rflags & !(rflags::IOPL | rflags::VM | rflags::VIF | rflags::VIP))
            | rflags::IF
            | rflags::FIXED,
        rsp: regs.rsp,
        ss: ring3(u64::from(regs.ss)),
        es: u64::from(regs.es),
        ds: u64::from(regs.ds),
        fs: u64::from(regs.fs),
        gs: u64::from(regs.gs),
    }
}

/// Takes what the state refers to: GDT pages, then the roots.
fn take_frames<H: Host>(
    host: &H,
    domain: &Domain,
    wanted: &VcpuGuestContext,
    state: &mut PvState,
    owed: &mut OwedPuts,
) -> Result<(), BuildError> {
    let pages = (wanted.gdt_ents as usize * 8)
        .div_ceil(crate::base::PAGE_SIZE)
        .min(GDT_PAGES);
    for (slot, &mfn) in state.gdt_frames.iter_mut().zip(&wanted.gdt_frames[..pages]) {
        get_page_and_type(host, Mfn(mfn), domain.id, PageType::SegDesc, Reach::Owner)?;
        *slot = Some(Mfn(mfn));
    }
    state.gdt_entries = wanted.gdt_ents as u32;
    let kernel = PhysAddr(wanted.ctrlreg[3]).mfn();
    let old = pins::set_base(
        host,
        domain.id,
        &mut state.roots,
        RootKind::Kernel,
        Some(kernel),
        owed,
    )?;
    debug_assert!(old.is_none(), "a new state has no root");
    mmu::show_m2p(host, domain, RootKind::Kernel, kernel);
    if wanted.ctrlreg[1] & 1 != 0 {
        let user = PhysAddr(wanted.ctrlreg[1]).mfn();
        let old = pins::set_base(
            host,
            domain.id,
            &mut state.roots,
            RootKind::User,
            Some(user),
            owed,
        )?;
        debug_assert!(old.is_none(), "a new state has no root");
        mmu::show_m2p(host, domain, RootKind::User, user);
    }
    Ok(())
}

fn release<H: Host>(host: &H, state: &mut PvState, owed: &mut OwedPuts) {
    for mfn in state.gdt_frames.iter_mut().filter_map(Option::take) {
        let _owed = owed.put(host, mfn);
    }
    let _owed = pins::clear_roots(host, &mut state.roots, owed);
}

/// Drops a state that is not wanted after all.
pub fn give_up<H: Host>(host: &H, mut state: StateBox, owed: &mut OwedPuts) {
    release(host, &mut state, owed);
}
