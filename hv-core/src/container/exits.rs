//! What is done about each exit.

use super::interrupts::{act, halt, time};
use super::memory::Memory;
use super::{Cell, Room, calls, crash, go_down, instructions};
use crate::base::insn::{CodeSize, Width};
use crate::base::{Gfn, PAGE_SIZE};
use crate::domain::Translated;
use crate::hvm::copies::{GuestMemory, Reason};
use crate::hvm::emulate::{Bus, Exception, Outcome, State, emulate};
use crate::hvm::exit::Exit;
use crate::hvm::insn::InsnBytes;
use crate::hvm::processor::{Event, Processor, Register, SegmentName};
use crate::hvm::walk::{GuestPhysical, Refused};
use crate::hypercall::Host;
use crate::mm::p2m::P2mKind;

use super::processor::{gprs, set_gprs};

/// Does what an exit asks for. Interrupts are on.
pub fn handle<H: Host + Room>(cx: &mut Cell<'_, H>, exit: Exit) {
    // What the guest was in the middle of taking is taken again, unless what follows puts another event in its place.
    if let Some(event) = cx.state.processor.interrupted_delivery() {
        cx.state.processor.inject(event);
    }
    // The guest lowers and raises its priority without us. CR8 is the upper half of it alone.
    let priority = cx.state.processor.task_priority();
    if priority != cx.state.lapic.cr8() {
        cx.state.lapic.set_cr8(priority);
    }
    match exit {
        // Taken by the machine as soon as interrupts were on; windows are looked at by the next preparation.
        Exit::Interrupt | Exit::Nmi | Exit::Smi | Exit::Init | Exit::InterruptWindow => {}
        Exit::IretDone => {
            // Nothing comes in before the IRET itself is done.
            cx.state.processor.set_nmi_masked(false);
            cx.state.processor.set_interrupt_shadow(true);
        }
        // There the IRET is done.
        Exit::NmiWindow => cx.state.processor.set_nmi_masked(false),
        Exit::Hypercall => calls::hypercall(cx),
        Exit::Hlt => hlt(cx),
        Exit::NestedFault {
            address,
            write,
            fetch,
            ..
        } => nested_fault(cx, address, (write, fetch)),
        Exit::Exception { vector, error, .. } => exception(cx, vector, error),
        Exit::Shutdown => shutdown(cx),
        Exit::Invalid => {
            log::error!(
                "d{}v{}: the processor refuses its state",
                cx.domain.id,
                cx.vcpu.id
            );
            crash(cx);
        }
        Exit::TaskSwitch => {
            log::error!(
                "d{}v{}: hardware task switches are not supported",
                cx.domain.id,
                cx.vcpu.id
            );
            crash(cx);
        }
        Exit::Unknown {
            code,
            name,
            info1,
            info2,
        } => {
            log::error!(
                "d{}v{}: left its container for an unknown reason: {code:#x} ({name}), qualification {info1:#x}, {info2:#x}",
                cx.domain.id,
                cx.vcpu.id
            );
            crash(cx);
        }
        other => instructions::instruction(cx, other),
    }
    if cx
        .domain
        .translated
        .as_ref()
        .is_some_and(Translated::is_starved)
    {
        crash(cx);
    }
}

fn hlt<H: Host + Room>(cx: &mut Cell<'_, H>) {
    if let Some(length) = instructions::length(cx, &Exit::Hlt) {
        halt(cx, length);
    }
}

/// Exceptions that leave the guest only because their delivery might not end; and machine checks, which are the host's and
/// were reported already.
fn exception<H: Host + Room>(cx: &mut Cell<'_, H>, vector: u8, error: Option<u32>) {
    const MACHINE_CHECK: u8 = 18;
    if vector != MACHINE_CHECK {
        cx.state.processor.inject(Event::exception(vector, error));
    }
}

/// A triple fault. What it means is the toolstack's to say; a PC is reset by it.
pub(super) fn shutdown<H: Host + Room>(cx: &mut Cell<'_, H>) {
    log::error!(
        "d{}v{}: triple fault on CPU {} at {:#x}, cr2 {:#x} cr3 {:#x} rsp {:#x}",
        cx.domain.id,
        cx.vcpu.id,
        cx.vcpu.cpu(),
        cx.regs.rip,
        cx.register(Register::Cr2),
        cx.register(Register::Cr3),
        cx.regs.rsp
    );
    cx.regs.log();
    let reason = cx
        .domain
        .hvm
        .as_ref()
        .map_or(xen_abi::sched::SHUTDOWN_reboot, |hvm| {
            hvm.triple_fault_reason()
        });
    go_down(cx, reason);
}

/// Whether the nested tables let a guest execute what is there.
const fn may_execute(kind: P2mKind) -> bool {
    matches!(
        kind,
        P2mKind::Ram | P2mKind::RamReadOnly | P2mKind::RamLogDirty
    )
}

/// The guest reached for memory that its nested tables do not let it have: to write or to fetch, as said.
fn nested_fault<H: Host + Room>(cx: &mut Cell<'_, H>, address: u64, (write, fetch): (bool, bool)) {
    let gfn = Gfn(address / PAGE_SIZE as u64);
    let domain = cx.domain.clone();
    let Some(translated) = domain.translated.as_ref() else {
        return crash(cx);
    };
    match translated.mapping(gfn).kind {
        P2mKind::RamLogDirty if write && translated.log_write(gfn) => {}
        // Its first touch. Without a page the guest touches it again, or the domain is starved.
        P2mKind::OnDemand => {
            let _seen_by_the_guest = domain.populate(gfn);
        }
        // No instruction did that, so none can be emulated in its place.
        P2mKind::Hole if cx.state.processor.injecting() => {
            log::error!(
                "d{}v{}: an event cannot be delivered: its stack or table is at {address:#x}, where no memory is",
                cx.domain.id,
                cx.vcpu.id
            );
            crash(cx);
        }
        P2mKind::Hole => device(cx, Memory(&domain)),
        // Somebody changed it meanwhile.
        kind if (kind.may_write() || !write) && (may_execute(kind) || !fetch) => {}
        kind => {
            let what = if fetch { "fetch from" } else { "write to" };
            log::debug!(
                "d{}v{}: {what} {kind:?} at {address:#x}",
                cx.domain.id,
                cx.vcpu.id
            );
            cx.protection();
        }
    }
}

/// The registers of devices in a guest's memory: its local APIC. Where nothing is, reads give ones and writes go nowhere.
struct Devices<'a, 'b, H: Host> {
    cx: &'a mut Cell<'b, H>,
    memory: Memory<'a>,
}

impl<H: Host + Room> Devices<'_, '_, H> {
    /// The offset in the page of the local APIC's registers.
    fn in_lapic(&self, gpa: u64) -> Option<u32> {
        let offset = gpa.checked_sub(self.cx.state.lapic.window()?)?;
        (offset < PAGE_SIZE as u64).then_some(offset as u32)
    }
}

impl<H: Host + Room> GuestPhysical for Devices<'_, '_, H> {
    fn load(&self, gpa: u64) -> Option<u64> {
        self.memory.load(gpa)
    }

    fn compare_exchange(&self, gpa: u64, old: u64, new: u64) -> Option<bool> {
        self.memory.compare_exchange(gpa, old, new)
    }
}

impl<H: Host + Room> Bus for Devices<'_, '_, H> {
    fn read(&mut self, gpa: u64, width: Width) -> u64 {
        if let Some(offset) = self.in_lapic(gpa) {
            let time = time(self.cx);
            let size = width.bytes() as u8;
            return self.cx.state.lapic.read_mmio(offset, size, &time);
        }
        let mut bytes = [0; 8];
        let part = &mut bytes[..width.bytes() as usize];
        match self.memory.read(gpa, part) {
            Some(()) => u64::from_le_bytes(bytes),
            None => u64::MAX,
        }
    }

    fn write(&mut self, gpa: u64, width: Width, value: u64) {
        if let Some(offset) = self.in_lapic(gpa) {
            let time = time(self.cx);
            let size = width.bytes() as u8;
            // At once: a string instruction writes more than one register.
            let effect = self.cx.state.lapic.write_mmio(offset, size, value, &time);
            return act(self.cx, effect);
        }
        let bytes = value.to_le_bytes();
        let _dropped_where_nothing_is = self.memory.write(gpa, &bytes[..width.bytes() as usize]);
    }

    fn input(&mut self, _: u16, width: Width) -> u64 {
        width.mask()
    }

    fn output(&mut self, _: u16, _: Width, _: u64) {}
}

/// Emulates the instruction that reached for a device.
pub(super) fn device<H: Host + Room>(cx: &mut Cell<'_, H>, memory: Memory<'_>) {
    let mut state = emulator_state(cx);
    let bytes = fetch(cx, memory);
    let outcome = emulate(&bytes, &mut state, &mut Devices { cx, memory });
    match outcome {
        Outcome::Done { trap } => {
            adopt(cx, &state);
            cx.state.processor.set_interrupt_shadow(false);
            if trap {
                cx.single_step();
            }
        }
        Outcome::Again => adopt(cx, &state),
        Outcome::Fault(exception) => {
            adopt(cx, &state);
            cx.raise(exception);
        }
        Outcome::Unsupported => unsupported(cx, &bytes),
    }
}

/// An instruction that is not known here is none for the guest either, which can say where it stands. Where there is no code, a guest
/// would hardly come back.
fn unsupported<H: Host + Room>(cx: &mut Cell<'_, H>, bytes: &InsnBytes) {
    let (domain, vcpu, rip) = (cx.domain.id, cx.vcpu.id, cx.regs.rip);
    if bytes.as_slice().is_empty() {
        log::error!("d{domain}v{vcpu}: there is no code at {rip:#x}");
        return crash(cx);
    }
    let code = bytes.as_slice();
    log::debug!("d{domain}v{vcpu}: cannot emulate {code:02x?} at {rip:#x}");
    cx.invalid_opcode();
}

/// Takes over the registers that the emulator has changed.
fn adopt<H: Host + Room>(cx: &mut Cell<'_, H>, state: &State) {
    set_gprs(cx.regs, &state.gpr);
    (cx.regs.rip, cx.regs.rflags) = (state.rip, state.rflags);
}

/// The registers as the emulator works on them.
pub(super) fn emulator_state<H: Host + Room>(cx: &Cell<'_, H>) -> State {
    let names = [
        SegmentName::Es,
        SegmentName::Cs,
        SegmentName::Ss,
        SegmentName::Ds,
        SegmentName::Fs,
        SegmentName::Gs,
    ];
    State {
        gpr: gprs(cx.regs),
        rip: cx.regs.rip,
        rflags: cx.regs.rflags,
        code: cx.code_size(),
        cpl: cx.cpl(),
        bases: names.map(|name| cx.state.processor.segment(name).base),
        paging: cx.paging(),
    }
}

/// The bytes at the guest's instruction pointer, from the processor where it tells.
pub(super) fn fetch<H: Host + Room>(cx: &Cell<'_, H>, memory: Memory<'_>) -> InsnBytes {
    let mut bytes = [0; 15];
    let given = cx.state.processor.instruction_bytes(&mut bytes);
    if given != 0 {
        return InsnBytes::given(&bytes[..given.min(bytes.len())]);
    }
    let code = cx.code_size();
    let base = match code {
        CodeSize::Bits64 => 0,
        _ => cx.state.processor.segment(SegmentName::Cs).base,
    };
    let linear = base.wrapping_add(cx.regs.rip);
    let at = match code {
        CodeSize::Bits64 => linear,
        _ => linear & 0xffff_ffff,
    };
    InsnBytes::fetch(&memory, &cx.paging(), cx.cpl(), at)
}

/// Raises what kept an instruction from being fetched.
pub(super) fn fetch_failed<H: Host + Room>(cx: &mut Cell<'_, H>, bytes: &InsnBytes) {
    let exception = match bytes.fault() {
        Some(fault) => match fault.reason {
            Reason::Refused(Refused::Page(page)) => Exception::page_fault(page.error, fault.va),
            _ => Exception::PROTECTION,
        },
        None => Exception::INVALID_OPCODE,
    };
    cx.raise(exception);
}
