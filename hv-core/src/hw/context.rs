//! Loading and saving the parts of a vCPU that stay in the CPU while the hypervisor works: selectors,
//! segment bases, debug registers, FPU.

use core::arch::asm;

use hv_core::hypercall::{Host, SegmentBase};
use hv_core::pv::frame::GuestFrame;
use hv_core::pv::state::{Mode, PvState};

use super::cpu::{self, msr};
use super::host::HW;
use super::percpu::{self, PerCpu};
use super::{fpu, paging, privileged, tables, tlb};

/// Loads a data selector; `false` when it is bad (null is loaded then).
macro_rules! load_selector {
    ($name:ident, $seg:literal) => {
        #[doc = concat!("Loads ", $seg, "; `false` when the selector is bad, and null is loaded instead.")]
        fn $name(selector: u16) -> bool {
            let bad: u32;
            // SAFETY: a bad selector faults and goes on at 3; data segments mean nothing in long mode
            // but for the bases, which are loaded after.
            unsafe {
                asm!(
                    concat!("2: mov ", $seg, ", {s:x}"), "xor {b:e}, {b:e}", "jmp 4f",
                    "3: xor {s:e}, {s:e}", concat!("mov ", $seg, ", {s:x}"), "mov {b:e}, 1",
                    "4:",
                    ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
                    s = inout(reg) u32::from(selector) => _, b = out(reg) bad, options(nostack)
                )
            };
            bad == 0
        }
    };
}
load_selector!(load_ds, "ds");
load_selector!(load_es, "es");
load_selector!(load_fs, "fs");
load_selector!(load_gs, "gs");

macro_rules! read_selector {
    ($seg:literal) => {{
        let value: u64;
        // SAFETY: reads a selector.
        unsafe { asm!(concat!("mov {:e}, ", $seg), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value & 0xffff
    }};
}

/// Loads a selector into the user's GS while the guest's kernel runs: its base is the kept one.
pub fn load_gs_user(selector: u16) -> bool {
    HW.swap_gs();
    let ok = load_gs(selector);
    HW.swap_gs();
    ok
}

/// DR7 without an enabled breakpoint.
pub const NO_BREAKPOINTS: u64 = 0x400;

/// Makes the hardware's breakpoints those of the state: what a guest without breakpoints keeps in its
/// registers is in the state only, so that nothing of it is left for another.
pub fn load_debug_set(state: &PvState) {
    let enabled = state.debug[7] & 0xff != 0;
    // SAFETY: values were checked: no address of ours, no I/O breakpoint, no general detect. What masks add lies in
    // the same 4 GiB.
    unsafe {
        if enabled {
            cpu::set_dr0(state.debug[0]);
            cpu::set_dr1(state.debug[1]);
            cpu::set_dr2(state.debug[2]);
            cpu::set_dr3(state.debug[3]);
            cpu::set_dr6(state.debug[6]);
            cpu::set_dr7(state.debug[7]);
            // Else they are all zero, for good.
            privileged::load_breakpoint_masks(&state.debug_masks);
        } else if cpu::dr7() != NO_BREAKPOINTS {
            cpu::set_dr7(NO_BREAKPOINTS);
        }
    }
}

/// Puts a vCPU at rest onto this CPU; the guest's registers go to `regs`. `false` when a selector was bad:
/// the guest is to get its failsafe callback.
pub fn load(state: &mut PvState, regs: &mut GuestFrame) -> bool {
    *regs = state.regs;
    let this = percpu::this();
    // What the windows showed before goes with the other address space.
    tables::show_gdt(this, state, |_| {});
    tables::show_ldt(this, state, |_| {});
    load_space(state);
    // Selectors first: loading one clears or changes the base.
    let mut good = load_ds(state.regs.ds as u16) & load_es(state.regs.es as u16);
    good &= load_fs(state.regs.fs as u16) & load_gs(state.regs.gs as u16);
    let (active, kept) = match state.mode {
        Mode::Kernel => (state.bases.gs_kernel, state.bases.gs_user),
        Mode::User => (state.bases.gs_user, state.bases.gs_kernel),
    };
    // SAFETY: bases were canonical when they were set.
    unsafe {
        cpu::wrmsr(msr::FS_BASE, state.bases.fs);
        cpu::wrmsr(msr::GS_BASE, active);
        cpu::wrmsr(msr::KERNEL_GS_BASE, kept);
    }
    fpu::restore(&state.fpu);
    if state.xcr0 != 0 {
        fpu::load_xcr0(state.xcr0);
    }
    privileged::load_cr4(state);
    if state.task_switched {
        HW.set_task_switched(hv_core::hypercall::TaskSwitched::Set);
    }
    load_debug_set(state);
    good
}

/// Loads the root of a vCPU that was at rest. Nothing stays of the address space before, whosever it was: another vCPU of
/// the same domain may run another process, and user entries are global.
fn load_space(state: &PvState) {
    if state.active_root().is_some() {
        HW.load_space(state);
    } else {
        paging::load_master();
        tlb::flush_all_here();
    }
}

/// Notes the data selectors as they are now: the guest changes them without us, so those in its frame
/// are as old as its last time in [`save`].
pub fn note_selectors(regs: &mut GuestFrame) {
    regs.ds = read_selector!("ds");
    regs.es = read_selector!("es");
    regs.fs = read_selector!("fs");
    regs.gs = read_selector!("gs");
}

/// Takes the guest's state off this CPU.
pub fn save(state: &mut PvState, regs: &GuestFrame) {
    state.regs = *regs;
    note_selectors(&mut state.regs);
    // With FSGSBASE the guest may have changed the bases without us.
    state.bases.fs = HW.read_base(SegmentBase::Fs);
    let (active, kept) = (cpu::rdmsr(msr::GS_BASE), cpu::rdmsr(msr::KERNEL_GS_BASE));
    match state.mode {
        Mode::Kernel => (state.bases.gs_kernel, state.bases.gs_user) = (active, kept),
        Mode::User => (state.bases.gs_user, state.bases.gs_kernel) = (active, kept),
    }
    if state.xcr0 != 0 {
        fpu::load_xcr0(fpu::xcr0());
    }
    fpu::save(&mut state.fpu);
    if state.debug[7] & 0xff != 0 {
        state.debug[6] = cpu::dr6();
    }
}

/// Leaves nothing of a guest in this CPU's segment registers and descriptor windows.
pub fn clear(this: &PerCpu) {
    let _ = (load_ds(0), load_es(0), load_fs(0), load_gs(0));
    tables::hide_descriptors(this);
}

/// Keeps the owner-only counters readable for the debug key.
pub fn counts() -> (u64, u64, u64) {
    let c = &percpu::this().counts;
    (c.exits.get(), c.cr3_loads.get(), c.flushes.get())
}
