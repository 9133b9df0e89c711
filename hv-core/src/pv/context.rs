//! From the ABI's `vcpu_guest_context` to a vCPU at rest and back (VCPUOP_initialise, domctl setvcpucontext and
//! getvcpucontext).

use alloc::boxed::Box;

use xen_abi::arch_x86::{
    CpuUserRegs, FIRST_RESERVED_GDT_ENTRY, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, TrapInfo,
    VGCF_failsafe_disables_events, VGCF_i387_valid, VGCF_in_kernel, VGCF_syscall_disables_events,
    VcpuGuestContext,
};
use xen_abi::errno::Errno;
use zerocopy::FromZeros;

use super::frame::{GuestFrame, rflags};
use super::state::{
    Callback, GDT_PAGES, Mode, PvState, RESET_DEBUG, SegmentBases, StateBox, TrapEntry, ring3,
};
use crate::base::{GuestVa, Mfn, PhysAddr};
use crate::cpuid::xstate::takes_fpu;
use crate::domain::Domain;
use crate::hypercall::misc::checked_debug;
use crate::hypercall::{Host, mmu};
use crate::mm::pins::{self, OwedPuts, RootKind};
use crate::mm::refs::get_page_and_type;
use crate::mm::types::{PageType, Reach};
use crate::mm::{PtResult, Stop};

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
/// `EINVAL` for addresses that are not canonical, an FPU image that the processor would refuse or frames that cannot
/// be what they should be, `ENOMEM`; nothing is kept then.
pub fn build<H: Host>(
    host: &H,
    domain: &Domain,
    wanted: &VcpuGuestContext,
    owed: &mut OwedPuts,
) -> Result<StateBox, BuildError> {
    check(wanted).map_err(BuildError::Refused)?;
    let mut state = PvState::at_reset(host.fpu_lines()).map_err(BuildError::Refused)?;
    state.ldt_base = wanted.ldt_base;
    state.ldt_entries = wanted.ldt_ents as u32;
    fill(&mut state, wanted);
    take_frames(host, domain, wanted, &mut state, owed)
        .inspect_err(|_| release(host, &mut state, owed))?;
    Ok(state)
}

/// Changes the registers of a vCPU that has a state already; its tables stay.
///
/// # Errors
/// As [`build`]; `EOPNOTSUPP` where roots, GDT or LDT are to be others.
pub fn rebuild(state: &mut PvState, wanted: &VcpuGuestContext) -> Result<(), Errno> {
    check(wanted)?;
    let root = |of: Option<Mfn>| of.map_or(0, |mfn| mfn.addr().0);
    let gdt = state.gdt_frames.iter().map(|f| f.map_or(0, |mfn| mfn.0));
    let same = root(state.roots.kernel) == wanted.ctrlreg[3]
        && root(state.roots.user) == wanted.ctrlreg[1]
        && gdt.eq(wanted.gdt_frames[..GDT_PAGES].iter().copied())
        && u64::from(state.gdt_entries) == wanted.gdt_ents
        && state.ldt_base == wanted.ldt_base
        && u64::from(state.ldt_entries) == wanted.ldt_ents;
    if !same {
        return Err(Errno::EOPNOTSUPP);
    }
    fill(state, wanted);
    Ok(())
}

/// Everything but the tables.
fn fill(state: &mut PvState, wanted: &VcpuGuestContext) {
    state.regs = frame(&wanted.user_regs);
    // The I/O privilege is virtual: the flag never reaches the hardware.
    state.iopl = (wanted.user_regs.rflags >> 12 & 3) as u8;
    state.mode = if wanted.flags & VGCF_in_kernel != 0 {
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
    state.set_controls(wanted.ctrlreg[0], wanted.ctrlreg[4]);
    state.debug = RESET_DEBUG;
    for (index, &value) in wanted.debugreg.iter().enumerate() {
        // What a guest may not have is as if it had not asked; 4 and 5 are other names of 6 and 7.
        if let (0..=3 | 6 | 7, Ok(value)) = (index, checked_debug(index, value)) {
            state.debug[index] = value;
        }
    }
    if wanted.flags & VGCF_i387_valid != 0 {
        state.set_fpu(&wanted.fpu_ctxt);
    }
}

/// A state as the ABI has it. What belongs to the domain, `vm_assist`, and whether the vCPU is up are the caller's.
///
/// # Errors
/// `ENOMEM`.
pub fn describe(state: &PvState) -> Result<Box<VcpuGuestContext>, Errno> {
    let mut found = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    found.fpu_ctxt = state.fpu_legacy();
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    found.flags = VGCF_i387_valid
        | flag(state.mode == Mode::Kernel, VGCF_in_kernel)
        | flag(
            state.callbacks.failsafe.masks_events,
            VGCF_failsafe_disables_events,
        )
        | flag(
            state.callbacks.syscall.masks_events,
            VGCF_syscall_disables_events,
        );
    found.user_regs = registers(state);
    for (vector, (trap, entry)) in (0..=u8::MAX).zip(found.trap_ctxt.iter_mut().zip(&state.traps)) {
        *trap = TrapInfo {
            vector,
            flags: entry.flags,
            cs: entry.cs,
            address: entry.address,
            ..TrapInfo::default()
        };
    }
    found.ldt_base = state.ldt_base;
    found.ldt_ents = state.ldt_entries.into();
    for (to, from) in found.gdt_frames.iter_mut().zip(&state.gdt_frames) {
        *to = from.map_or(0, |mfn| mfn.0);
    }
    found.gdt_ents = state.gdt_entries.into();
    found.kernel_ss = state.kernel_ss;
    found.kernel_sp = state.kernel_sp;
    (found.ctrlreg[0], found.ctrlreg[4]) = state.controls();
    found.ctrlreg[3] = state.roots.kernel.map_or(0, |root| root.addr().0);
    found.ctrlreg[1] = state.roots.user.map_or(0, |root| root.addr().0);
    found.debugreg = state.debug;
    found.event_callback_eip = state.callbacks.event.address;
    found.failsafe_callback_eip = state.callbacks.failsafe.address;
    found.syscall_callback_eip = state.callbacks.syscall.address;
    found.fs_base = state.bases.fs;
    found.gs_base_kernel = state.bases.gs_kernel;
    found.gs_base_user = state.bases.gs_user;
    Ok(found)
}

fn check(wanted: &VcpuGuestContext) -> Result<(), Errno> {
    let traps = wanted.trap_ctxt.iter().map(|t| t.address);
    let canonical = traps
        .chain([
            wanted.event_callback_eip,
            wanted.failsafe_callback_eip,
            wanted.syscall_callback_eip,
            wanted.kernel_sp,
            wanted.fs_base,
            wanted.gs_base_kernel,
            wanted.gs_base_user,
            wanted.ldt_base,
            wanted.user_regs.rip,
            wanted.user_regs.rsp,
        ])
        .all(|a| GuestVa(a).is_canonical());
    let ours = (HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&wanted.ldt_base);
    let page = crate::base::PAGE_SIZE as u64;
    let tables = wanted.gdt_ents <= u64::from(FIRST_RESERVED_GDT_ENTRY)
        && wanted.ldt_ents <= 8192
        && wanted.ldt_base.is_multiple_of(page)
        && !ours;
    // User programs need a root of their own.
    let mode = wanted.flags & VGCF_in_kernel != 0 || wanted.ctrlreg[1] != 0;
    let fpu = wanted.flags & VGCF_i387_valid == 0 || takes_fpu(&wanted.fpu_ctxt);
    if canonical && tables && mode && fpu {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn registers(state: &PvState) -> CpuUserRegs {
    let r = &state.regs;
    CpuUserRegs {
        cs: r.cs as u16,
        rflags: r.rflags | u64::from(state.iopl) << 12,
        ss: r.ss as u16,
        es: r.es as u16,
        ds: r.ds as u16,
        fs: r.fs as u16,
        gs: r.gs as u16,
        ..r.to_user_regs()
    }
}

fn frame(regs: &CpuUserRegs) -> GuestFrame {
    GuestFrame {
        cs: ring3(u64::from(regs.cs)),
        rflags: (regs.rflags & !(rflags::IOPL | rflags::VM | rflags::VIF | rflags::VIP))
            | rflags::IF
            | rflags::FIXED,
        ss: ring3(u64::from(regs.ss)),
        es: u64::from(regs.es),
        ds: u64::from(regs.ds),
        fs: u64::from(regs.fs),
        gs: u64::from(regs.gs),
        ..GuestFrame::from_user_regs(regs)
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
    if wanted.ctrlreg[1] != 0 {
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

/// Lets go of what the state of a vCPU refers to that will not run again. Restart: the rest is owed in the state, to be
/// gone on with by another call.
///
/// # Errors
/// Restart only.
pub fn dismantle<H: Host>(host: &H, state: &mut PvState) -> PtResult {
    let mut owed = core::mem::take(&mut state.owed_puts);
    let done = owed.finish(host).and_then(|()| {
        release(host, state, &mut owed);
        owed.finish(host)
    });
    state.owed_puts = owed;
    done
}

/// Lets go of what a state refers to that no CPU has loaded. What is interrupted is owed.
fn release<H: Host>(host: &H, state: &mut PvState, owed: &mut OwedPuts) {
    let descriptors = state.gdt_frames.iter_mut().chain(&mut state.ldt_frames);
    for mfn in descriptors.filter_map(Option::take) {
        let _owed = owed.put(host, mfn);
    }
    let _owed = pins::clear_roots(host, &mut state.roots, owed);
}

/// Drops a state that is not wanted after all.
pub fn give_up<H: Host>(host: &H, mut state: StateBox, owed: &mut OwedPuts) {
    release(host, &mut state, owed);
}
