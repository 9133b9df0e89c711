//! What brought a PV guest back into the hypervisor, and what is done about it.

use hv_core::base::{GuestVa, PhysAddr};
use hv_core::domain::{Owed, ShutdownReason};
use hv_core::events;
use hv_core::hypercall::{Ctx, Host, Outcome, descriptors, front, misc};
use hv_core::mm::PtMachine;
use hv_core::mm::ptdecode::Regs;
use hv_core::mm::ptwrite::{WriteFault, decode_plain, emulate_write};
use hv_core::mm::update::look_up;
use hv_core::pv::bounce::{self, Undeliverable};
use hv_core::pv::frame::GuestFrame;
use hv_core::pv::iret;
use hv_core::pv::state::{Callback, Mode, NMI_VECTOR};
use xen_abi::arch_x86::FLAT_RING3_CS32;
use xen_abi::hypercall::__HYPERVISOR_iret;
use zerocopy::IntoBytes;

use super::cpuinfo::{CpuInfo, EXIT_BAD_FRAME, EXIT_SYSCALL, EXIT_SYSENTER};
use super::host::{HW, Hw, hv};
use super::layout::{GDT_OFFSET, HYPERVISOR_END, LDT_OFFSET, M2P_GUEST, M2P_GUEST_END, cpu_area};
use super::run::Loaded;
use super::{context, cpu, devices, irq, nmi, percpu, privileged, publish, traps};

/// Page-fault error code bits (AMD APM vol. 2, 8.4.2).
mod pf {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const USER: u32 = 4;
    pub const RESERVED: u32 = 8;
    pub const FETCH: u32 = 16;
}

type Delivered = Result<(), Undeliverable>;

/// Delivers what is due before the guest runs; interrupts are off. `false`: look at owed work first.
#[inline(always)]
pub fn before_entry(l: &mut Loaded) -> bool {
    if !l.vcpu().owes_nothing() && !pay(l) {
        return false;
    }
    if with_context(l, |cx| cx.upcall_word().is_some_and(events::is_due)) {
        return upcall(l);
    }
    true
}

/// Does what the vCPU is owed; `false`: look at everything again, the domain may even have been stopped.
#[cold]
fn pay(l: &mut Loaded) -> bool {
    if l.vcpu().take_owed(Owed::ASSISTS) != 0 {
        misc::follow_assists(&l.domain, &mut l.state);
    }
    // An NMI waits while the guest handles one.
    let nmi = if l.state.takes_nmi() { Owed::NMI } else { 0 };
    let owed = l.vcpu().take_owed(Owed::TIME | Owed::RUNSTATE | nmi);
    if owed != 0 {
        slow_owed(l, owed);
    }
    owed == 0
}

/// Enters the event callback, where the guest has one; `false` when that ended the domain.
fn upcall(l: &mut Loaded) -> bool {
    let event = Callback {
        masks_events: true,
        ..l.state.callbacks.event
    };
    if event.address == 0 {
        return true;
    }
    let delivered = with_context(l, |cx| bounce::callback(cx, event, "event"));
    if delivered.is_err() {
        crash(l);
    }
    delivered.is_ok()
}

#[cold]
fn slow_owed(l: &mut Loaded, owed: u32) {
    l.vcpu().owe(owed & (Owed::TIME | Owed::RUNSTATE));
    publish::owed(l);
    if owed & Owed::NMI != 0 {
        l.state.nmi_masked = true;
        let delivered = with_context(l, |cx| bounce::trap(cx, NMI_VECTOR, None));
        if delivered.is_err() {
            crash(l);
        }
    }
}

#[inline(always)]
fn with_context<R>(l: &mut Loaded, what: impl FnOnce(&mut Ctx<'_, Hw>) -> R) -> R {
    let info: *mut CpuInfo = percpu::info();
    // SAFETY: this CPU's own frame; the guest is out, so nobody else touches it.
    let regs: &mut GuestFrame = unsafe { &mut (*info).regs };
    what(&mut l.context(regs))
}

/// Handles an exit; interrupts are off on entry and may be on after.
#[inline(always)]
pub fn handle(l: &mut Loaded, reason: u32) {
    if reason == EXIT_SYSCALL {
        syscall(l);
    } else {
        interruption(l, reason);
    }
}

fn interruption(l: &mut Loaded, reason: u32) {
    let delivered = match reason {
        14 => page_fault(l, cpu::cr2()),
        0x20..=0xff if reason != 0x80 => {
            irq::note(reason as u8);
            return;
        }
        EXIT_SYSENTER => sysenter(l),
        EXIT_BAD_FRAME => {
            let address = cpu::cr2();
            cpu::sti();
            bad_frame(l, address)
        }
        vector => {
            cpu::sti();
            trap(l, vector as u8)
        }
    };
    if delivered.is_err() {
        crash(l);
    }
}

/// SYSCALL: from user mode into the guest's kernel, from its kernel a hypercall. A system call and the
/// kernel's return from it are short enough to leave interrupts off.
#[inline(always)]
fn syscall(l: &mut Loaded) {
    let good = if l.state.mode == Mode::User {
        user_syscall(l).is_ok()
    } else if with_context(l, |cx| cx.regs.rax == u64::from(__HYPERVISOR_iret)) {
        with_context(l, iret::load) == Outcome::Resume
    } else {
        hypercall(l)
    };
    if !good {
        crash(l);
    }
}

#[inline(always)]
fn user_syscall(l: &mut Loaded) -> Delivered {
    let compatible = with_context(l, |cx| cx.regs.cs == u64::from(FLAT_RING3_CS32));
    let entry = if compatible {
        l.state.callbacks.syscall32
    } else {
        l.state.callbacks.syscall
    };
    if entry.address == 0 {
        return no_syscall(l);
    }
    with_context(l, |cx| bounce::callback(cx, entry, "syscall"))
}

/// SYSENTER: a system call of a 32-bit program. Without a handler it faults, as where the instruction is not set up.
#[inline(never)]
fn sysenter(l: &mut Loaded) -> Delivered {
    let entry = l.state.callbacks.sysenter;
    with_context(l, |cx| {
        // A kernel that executes it has lost its stack: it is stopped.
        if cx.state.mode == Mode::Kernel || entry.address == 0 {
            return bounce::trap(cx, 13, Some(0));
        }
        bounce::callback(cx, entry, "sysenter")
    })
}

/// Without a handler SYSCALL is an instruction that the guest does not have.
#[cold]
fn no_syscall(l: &mut Loaded) -> Delivered {
    with_context(l, |cx| bounce::trap(cx, 6, None))
}

#[inline(never)]
fn hypercall(l: &mut Loaded) -> bool {
    cpu::sti();
    with_context(l, front::pv64)
}

/// The registers of a guest whose kernel runs: only that writes tables.
struct GuestRegs<'a>(&'a mut GuestFrame);

impl Regs for GuestRegs<'_> {
    #[inline(always)]
    fn gpr(&self, index: u8) -> u64 {
        let f = &*self.0;
        match index & 15 {
            0 => f.rax,
            1 => f.rcx,
            2 => f.rdx,
            3 => f.rbx,
            4 => f.rsp,
            5 => f.rbp,
            6 => f.rsi,
            7 => f.rdi,
            8 => f.r8,
            9 => f.r9,
            10 => f.r10,
            11 => f.r11,
            12 => f.r12,
            13 => f.r13,
            14 => f.r14,
            _ => f.r15,
        }
    }
    fn set_gpr(&mut self, index: u8, value: u64) {
        let f = &mut *self.0;
        *match index & 15 {
            0 => &mut f.rax,
            1 => &mut f.rcx,
            2 => &mut f.rdx,
            3 => &mut f.rbx,
            4 => &mut f.rsp,
            5 => &mut f.rbp,
            6 => &mut f.rsi,
            7 => &mut f.rdi,
            8 => &mut f.r8,
            9 => &mut f.r9,
            10 => &mut f.r10,
            11 => &mut f.r11,
            12 => &mut f.r12,
            13 => &mut f.r13,
            14 => &mut f.r14,
            _ => &mut f.r15,
        } = value;
    }
    fn rip(&self) -> u64 {
        self.0.rip
    }
    fn set_rip(&mut self, value: u64) {
        self.0.rip = value;
        // Leaving by SYSRET would clobber rcx and r11.
        self.0.entry = 0;
    }
    fn flags(&self) -> u64 {
        self.0.rflags
    }
    fn set_flags(&mut self, value: u64) {
        self.0.rflags = value;
    }
    fn fs_base(&self) -> u64 {
        HW.read_base(hv_core::hypercall::SegmentBase::Fs)
    }
    fn gs_base(&self) -> u64 {
        HW.read_base(hv_core::hypercall::SegmentBase::GsKernel)
    }
}

/// Interrupts are off: on they go where more is to be done than to enter the guest's handler.
fn page_fault(l: &mut Loaded, address: u64) -> Delivered {
    let error = with_context(l, |cx| cx.regs.error_code);
    if (M2P_GUEST..HYPERVISOR_END).contains(&address) {
        cpu::sti();
        return with_context(l, |cx| own_range_fault(cx, address, error));
    }
    let write =
        error & (pf::PRESENT | pf::WRITE | pf::RESERVED | pf::FETCH) == pf::PRESENT | pf::WRITE;
    if write && l.state.mode == Mode::Kernel {
        cpu::sti();
        match with_context(l, |cx| table_write(cx, address)) {
            WriteFault::Done | WriteFault::Restart => return Ok(()),
            WriteFault::NotHandled if with_context(l, |cx| device_write(cx, address)) => {
                return Ok(());
            }
            WriteFault::NotHandled => {}
        }
    }
    with_context(l, |cx| reflect_page_fault(cx, address, error))
}

#[inline(always)]
fn reflect_page_fault(cx: &mut Ctx<'_, Hw>, address: u64, error: u32) -> Delivered {
    // To its kernel a fault in the kernel is one in supervisor mode.
    let error = if cx.state.mode == Mode::Kernel {
        error & !pf::USER
    } else {
        error
    };
    bounce::page_fault(cx, address, error)
}

/// The IRET into the guest faulted: perhaps only because an LDT page was not mapped yet, else its frame is bad. To its
/// kernel it is then as if what the frame leads to had faulted.
fn bad_frame(l: &mut Loaded, address: u64) -> Delivered {
    let vector = percpu::this().failed_vector.get();
    with_context(l, |cx| {
        let error = cx.regs.error_code;
        match vector {
            10..=13 => bounce::trap(cx, vector as u8, Some(error)),
            14 if (M2P_GUEST..HYPERVISOR_END).contains(&address) => {
                own_range_fault(cx, address, error)
            }
            _ => {
                // Its kernel tells a bad frame from a bad selector by comparing: had it to think that a
                // selector was bad, it would only try the same frame again, for ever.
                context::note_selectors(cx.regs);
                bounce::failsafe(cx)
            }
        }
    })
}

/// The guest touched our range: a descriptor that is not mapped, or a plain mistake.
fn own_range_fault(cx: &mut Ctx<'_, Hw>, address: u64, error: u32) -> Delivered {
    let area = cpu_area(percpu::this().id);
    // Loading a descriptor is an access in supervisor mode, whatever the CPL.
    let implicit = error & (pf::USER | pf::PRESENT) == 0;
    if implicit && (area + LDT_OFFSET..area + LDT_OFFSET + 0x1_0000).contains(&address) {
        let offset = address - (area + LDT_OFFSET);
        if descriptors::map_ldt_page(cx, offset) {
            return Ok(());
        }
        let va = cx.state.ldt_base.wrapping_add(offset);
        return reflect_page_fault(cx, va, error & !pf::PRESENT);
    }
    // The guest's pages that it gave no frame, and the one behind ours: no such descriptor.
    if implicit && (area + GDT_OFFSET..area + LDT_OFFSET).contains(&address) {
        let selector = (address - (area + GDT_OFFSET)) as u32 & !7;
        return bounce::trap(cx, 13, Some(selector));
    }
    // Whether something of ours is mapped there is not for the guest to learn; the M2P it may read.
    let hidden = if address < M2P_GUEST_END {
        0
    } else {
        pf::PRESENT
    };
    reflect_page_fault(cx, address, error & !hidden)
}

/// A store of the guest's kernel into a page table that is mapped read-only.
fn table_write(cx: &mut Ctx<'_, Hw>, address: u64) -> WriteFault {
    let Some(root) = cx.state.roots.kernel else {
        return WriteFault::NotHandled;
    };
    let Some((code, len)) = instruction(cx) else {
        return WriteFault::NotHandled;
    };
    emulate_write(
        cx.host,
        cx.domain.id,
        root,
        GuestVa(address),
        &code[..len],
        &mut GuestRegs(cx.regs),
        &mut cx.state.owed_puts,
    )
}

/// The bytes at the guest's rip, as many as can be read.
#[inline(always)]
fn instruction(cx: &mut Ctx<'_, Hw>) -> Option<([u8; 15], usize)> {
    let mut code = [0u8; 15];
    let len = match HW.load_words::<2>(cx.regs.rip) {
        Ok(words) => {
            code.copy_from_slice(&words.as_bytes()[..15]);
            code.len()
        }
        // The instruction may end with its page.
        Err(_) => {
            let room = 4096 - (cx.regs.rip & 4095) as usize;
            let len = room.min(code.len());
            cx.host.copy_in(&mut code[..len], cx.regs.rip).ok()?;
            len
        }
    };
    Some((code, len))
}

/// A plain store of dom0's kernel to PCI registers that it may only read: made as far as it may be. `false` when it is
/// no such store.
#[cold]
fn device_write(cx: &mut Ctx<'_, Hw>, address: u64) -> bool {
    let Some(root) = cx.state.roots.kernel.filter(|_| cx.domain.is_control()) else {
        return false;
    };
    let Some(frame) = look_up(cx.host, cx.domain.id, root, GuestVa(address)).map(|e| e.mfn())
    else {
        return false;
    };
    if HW.frame(frame).is_some_and(|f| !f.is_io()) || !devices::is_guarded(frame) {
        return false;
    }
    let Some((code, len)) = instruction(cx) else {
        return false;
    };
    let Some((store, value)) = decode_plain(&code[..len], &GuestRegs(cx.regs), GuestVa(address))
    else {
        return false;
    };
    let at = PhysAddr(frame.addr().0 + store.va.offset() as u64);
    let bytes = store.width.bytes() as u8;
    if !cx.hv.irqs.guarded_write(at, bytes, value) {
        return false;
    }
    let next = cx.regs.rip.wrapping_add(u64::from(store.len));
    GuestRegs(cx.regs).set_rip(next);
    true
}

/// Exceptions other than page faults.
fn trap(l: &mut Loaded, vector: u8) -> Delivered {
    match vector {
        2 => {
            with_context(l, |cx| nmi::from_guest(cx.regs));
            return Ok(());
        }
        18 => {
            traps::guest_machine_check();
            return Ok(());
        }
        _ => {}
    }
    with_context(l, |cx| match vector {
        1 => {
            cx.state.debug[6] = cx.host.debug_status();
            bounce::trap(cx, 1, None)
        }
        6 => privileged::invalid_opcode(cx),
        7 => device_not_available(cx),
        3 | 4 | 0x80 => software_interrupt(cx, vector),
        13 => general_protection(cx),
        10..=12 | 17 | 21 => {
            let error = cx.regs.error_code;
            bounce::trap(cx, vector, Some(error))
        }
        _ => bounce::trap(cx, vector, None),
    })
}

/// Whether the guest's present mode may use `int vector`: its own gate's DPL decides.
fn may_interrupt(cx: &Ctx<'_, Hw>, vector: u8) -> bool {
    let entry = cx.state.traps[vector as usize];
    let needed = if cx.state.mode == Mode::Kernel { 1 } else { 3 };
    entry.address != 0 && entry.flags & xen_abi::arch_x86::TI_DPL_MASK >= needed
}

/// INT3, INTO or INT 0x80, which our own gates let through.
fn software_interrupt(cx: &mut Ctx<'_, Hw>, vector: u8) -> Delivered {
    if may_interrupt(cx, vector) {
        return bounce::trap(cx, vector, None);
    }
    // To the guest it is as if the gate had refused: rip at the instruction.
    let length = if vector == 0x80 { 2 } else { 1 };
    cx.regs.rip = cx.regs.rip.wrapping_sub(length);
    bounce::trap(cx, 13, Some(u32::from(vector) << 3 | 2))
}

fn device_not_available(cx: &mut Ctx<'_, Hw>) -> Delivered {
    let virtual_ts = core::mem::take(&mut cx.state.task_switched);
    cpu::clts();
    if virtual_ts {
        bounce::trap(cx, 7, None)
    } else {
        Ok(())
    }
}

/// #GP: a software interrupt through a gate that only we may use, a privileged instruction, or the
/// guest's own fault.
fn general_protection(cx: &mut Ctx<'_, Hw>) -> Delivered {
    let error = cx.regs.error_code;
    // Error code with the IDT bit and not external: `int n`.
    if error & 3 == 2 {
        let vector = (error >> 3) as u8;
        if may_interrupt(cx, vector) {
            cx.regs.rip = cx.regs.rip.wrapping_add(2);
            return bounce::trap(cx, vector, None);
        }
        return bounce::trap(cx, 13, Some(error));
    }
    privileged::general_protection(cx, error)
}

/// A selector of the vCPU's was bad when it was loaded.
pub fn bad_selectors(l: &mut Loaded) {
    if with_context(l, bounce::failsafe).is_err() {
        crash(l);
    }
}

/// The guest broke its contract: its domain goes down, and the console says what it did.
fn crash(l: &mut Loaded) {
    // What comes may take locks and wait for others: not with interrupts off.
    cpu::sti();
    let (domain, id) = (l.domain.clone(), l.id);
    with_context(l, |cx| {
        // Tests and operators look for where it crashed in the first line.
        let r = &*cx.regs;
        log::error!(
            "d{}v{id} crashed in {:?} mode: rip {:#x} rsp {:#x} rflags {:#x} entry {:#x}",
            domain.id,
            cx.state.mode,
            r.rip,
            r.rsp,
            r.rflags,
            r.entry
        );
        r.log();
    });
    hv().shut_down(&domain, ShutdownReason(xen_abi::sched::SHUTDOWN_crash));
    percpu::this().remote.softirq.fetch_or(
        percpu::softirq::SCHEDULE,
        core::sync::atomic::Ordering::Relaxed,
    );
}
