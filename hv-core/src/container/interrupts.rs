//! What a vCPU is given before it is entered: letters of other CPUs, what it is owed, the event or interrupt that is due.
//! And what its local APIC sends to others.

use core::sync::atomic::Ordering;

use super::exits::emulator_state;
use super::memory::Glance;
use super::{Cell, Ready, Room, crash, go_down};
use crate::base::Nanos;
use crate::domain::{Domain, Owed, RunFlags, Vcpu};
use crate::hvm::delivery::{NmiWindow, Situation, Source, upcall_vector};
use crate::hvm::inbox::Letters;
use crate::hvm::lapic::{Delivery, Effect, Ipi, TimeSource, arbitrate, matches};
use crate::hvm::processor::{Event, Intercept, Processor};
use crate::hvm::start;
use crate::hypercall::Host;
use crate::pv::frame::rflags;
use crate::time::Clock;

/// The system's time, and when a guest's TSC reaches a value.
pub(super) struct Time {
    now: Nanos,
    tsc: Option<Clock>,
}

#[cfg(test)]
impl Time {
    pub(super) const fn at(now: Nanos, tsc: Option<Clock>) -> Self {
        Self { now, tsc }
    }
}

impl TimeSource for Time {
    fn now(&self) -> Nanos {
        self.now
    }

    fn time_of_tsc(&self, tsc: u64) -> Nanos {
        let Some(clock) = &self.tsc else {
            return Nanos::MAX;
        };
        // Counted from now: the guest's TSC may have passed zero since the clock's reference point.
        match tsc.checked_sub(tsc_at(clock, self.now)) {
            None | Some(0) => self.now,
            // Both the scale's steps of several ticks and the nanosecond are rounded down.
            Some(left) => {
                let wait = clock.scale.ticks_to_ns(left).saturating_add(2);
                self.now.saturating_add(wait)
            }
        }
    }
}

/// A guest's TSC at a time that is not before its clock's reference point; it counts modulo 2^64.
pub(super) fn tsc_at(clock: &Clock, now: Nanos) -> u64 {
    let ticks = clock.scale.ns_to_ticks(now.saturating_sub(clock.ns));
    clock.tsc.wrapping_add(ticks)
}

/// Gives the vCPU what is due; interrupts are off, so that nothing becomes due unseen after this.
pub fn prepare<H: Host + Room>(cx: &mut Cell<'_, H>) -> Ready {
    // One that waits for its start stays so whoever let it run.
    if cx.state.waits_for_start || !cx.vcpu.inbox.is_empty() {
        let letters = cx.vcpu.inbox.take().unwrap_or_default();
        if read(cx, &letters) == Ready::Look {
            return Ready::Look;
        }
    }
    if !cx.vcpu.owes_nothing() {
        pay(cx);
    }
    if cx.state.processor.wants_directories() && !load_directories(cx) {
        return Ready::Look;
    }
    deliver(cx);
    Ready::Enter
}

/// Loads the entries above PAE's tables for the processor; without them the guest cannot go on.
#[cold]
fn load_directories<H: Host + Room>(cx: &mut Cell<'_, H>) -> bool {
    let mode = cx.paging();
    let found = cx.domain.translated.as_ref();
    let Some(entries) = found.and_then(|map| Glance(map).directories(&mode)) else {
        log::error!(
            "d{}v{}: the page directory pointers at {:#x} cannot be loaded",
            cx.domain.id,
            cx.vcpu.id,
            mode.cr3
        );
        crash(cx);
        return false;
    };
    cx.state.processor.set_directories(entries);
    true
}

/// Does what the vCPU is owed. Its clock and runstate are published by the run loop.
#[cold]
fn pay<H: Host + Room>(cx: &mut Cell<'_, H>) {
    let mine = Owed::NMI | Owed::LAPIC | Owed::UPCALL | Owed::ASSISTS;
    let owed = cx.vcpu.take_owed(mine);
    if owed & Owed::NMI != 0 {
        cx.state.nmi_pending = true;
    }
    if owed & Owed::UPCALL != 0
        && let Some(vector) = cx.vcpu.upcall_vector()
    {
        // Not while that is disabled: kernels look for interrupts that were left there before they enable it.
        let _accepted = cx.state.lapic.accept(vector, false);
    }
    if owed & Owed::LAPIC != 0 {
        let now = cx.domain.machine.now();
        let _it_is_requested = cx.state.lapic.advance(now);
        arm_timer(cx);
    }
}

/// Acts on letters; [`Ready::Look`]: the vCPU runs no more for now.
fn read<H: Host + Room>(cx: &mut Cell<'_, H>, letters: &Letters) -> Ready {
    if letters.init && !cx.state.waits_for_start {
        start::init(cx.state, cx.regs);
        cx.host.load_xcr0(cx.state.xcr0);
        cx.vcpu.inbox.publish(cx.state.lapic.address());
        arm_timer(cx);
    }
    if let Some(page) = letters.start_up
        && cx.state.waits_for_start
    {
        start::at_page(cx.state, cx.regs, page);
    }
    cx.state.nmi_pending |= letters.nmi;
    cx.state.lapic.accept_letters(letters);
    if !cx.state.waits_for_start {
        return Ready::Enter;
    }
    // Down first, the look second: who leaves a letter after it sees that the vCPU is down.
    let waits = RunFlags::DOWN | RunFlags::UNINITIALISED;
    cx.vcpu.set_flags(waits);
    if !cx.vcpu.inbox.is_empty() {
        cx.vcpu.clear_flags(waits);
    }
    cx.host.reschedule_here();
    Ready::Look
}

/// What the decision about the next event hangs on.
pub(super) fn situation<H: Host + Room>(cx: &Cell<'_, H>) -> Situation {
    let state = &*cx.state;
    Situation {
        occupied: state.processor.injecting(),
        nmi: state.nmi_pending,
        nmi_masked: state.processor.nmi_masked(),
        shadow: state.processor.interrupt_shadow(),
        interrupts_enabled: cx.regs.rflags & rflags::IF != 0,
        upcall: upcall(cx),
        lapic: state.lapic.pending(),
        blocked_by_task: state.lapic.blocked_by_task().is_some(),
    }
}

/// The vector of the event channels' interrupt, if it is due.
fn upcall<H: Host + Room>(cx: &Cell<'_, H>) -> Option<u8> {
    let callback = cx.domain.hvm.as_ref()?.callback();
    let word = cx.upcall_word()?.load(Ordering::SeqCst);
    upcall_vector(callback, word as u8 != 0)
}

fn deliver<H: Host + Room>(cx: &mut Cell<'_, H>) {
    let mut now = situation(cx);
    // STI and HLT: what waits behind the STI ends the HLT, so that is done here. To enter the guest for it costs an exit; and QEMU's
    // VMRUN (7.2) forgets the shadow: the interrupt would come before the HLT, and nothing would end that.
    if now.is_held_by_shadow() && stands_at_halt(cx) {
        cx.advance(HLT_LENGTH);
        now = situation(cx);
    }
    let decision = now.decide();
    match decision.inject {
        Some(Source::Nmi) => {
            cx.state.nmi_pending = false;
            cx.state.processor.inject(Event::nmi());
        }
        Some(Source::Upcall(vector)) => cx.state.processor.inject(Event::interrupt(vector)),
        Some(Source::Lapic(vector)) if cx.state.lapic.acknowledge(vector) => {
            cx.state.processor.inject(Event::interrupt(vector));
        }
        Some(Source::Lapic(_)) | None => {}
    }
    let boundary = decision.nmi_window == NmiWindow::Boundary;
    let processor = &mut cx.state.processor;
    let told = processor.want_nmi_window(boundary);
    processor.want_interrupt_window(decision.interrupt_window || boundary && !told);
    processor.intercept(Intercept::TaskPriority, decision.watch_task_priority);
    processor.set_task_priority(cx.state.lapic.cr8());
}

/// Has the machine's timer come when the local APIC's next does.
pub(super) fn arm_timer<H: Host + Room>(cx: &Cell<'_, H>) {
    let deadline = cx.state.lapic.next_deadline();
    // Without a unit it does not run any more.
    let _armed = cx
        .domain
        .change_timers(cx.vcpu, |timers, now| Ok(timers.set_lapic(deadline, now)));
}

/// The time as the vCPU's local APIC knows it.
pub(super) fn time<H: Host + Room>(cx: &Cell<'_, H>) -> Time {
    Time {
        now: cx.domain.machine.now(),
        tsc: cx.state.clock,
    }
}

/// Does what an access to the local APIC leads to.
pub(super) fn act<H: Host + Room>(cx: &mut Cell<'_, H>, effect: Effect) {
    match effect {
        // There are no I/O APICs to be told of ends.
        Effect::None | Effect::EndOfInterrupt(_) => {}
        Effect::Ipi(ipi) => send(cx, &ipi),
        Effect::Address => cx.vcpu.inbox.publish(cx.state.lapic.address()),
        Effect::Enabled => {
            cx.vcpu.inbox.publish(cx.state.lapic.address());
            // Of these it has not been told if they came before.
            cx.domain.tell_if_due(cx.vcpu);
        }
        Effect::Timer => arm_timer(cx),
        Effect::Base { .. } => {
            cx.vcpu.inbox.publish(cx.state.lapic.address());
            arm_timer(cx);
        }
    }
}

/// Sends an interprocessor interrupt.
fn send<H: Host + Room>(cx: &mut Cell<'_, H>, ipi: &Ipi) {
    let own = cx.vcpu.id;
    let meant = |vcpu: &&Vcpu| matches(&vcpu.inbox.address(), ipi, vcpu.id == own);
    if ipi.delivery == Delivery::LowestPriority {
        let candidates = cx.domain.vcpus().iter().filter(meant).map(|v| (v.id, 0));
        if let Some(one) = arbitrate(candidates, own)
            && let Some(vcpu) = cx.domain.vcpu(one)
        {
            post(cx.domain, vcpu, ipi);
        }
        return;
    }
    for vcpu in cx.domain.vcpus().iter().filter(meant) {
        post(cx.domain, vcpu, ipi);
    }
}

/// Leaves a message with a vCPU and has it look.
fn post(domain: &Domain, vcpu: &Vcpu, ipi: &Ipi) {
    match ipi.delivery {
        Delivery::Fixed | Delivery::LowestPriority => vcpu.inbox.interrupt(ipi.vector, ipi.level),
        Delivery::Nmi => vcpu.inbox.nmi(),
        Delivery::Init => vcpu.inbox.init(),
        Delivery::StartUp => vcpu.inbox.start_up(ipi.vector),
        Delivery::Smi | Delivery::ExtInt => {
            log::debug!("d{}v{}: {:?} dropped", domain.id, vcpu.id, ipi.delivery);
            return;
        }
    }
    // One that waits for its start reads it; whoever was taken down by the guest stays so, and reads it later.
    if ipi.delivery == Delivery::StartUp {
        vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
        domain.wake(vcpu);
    }
    domain.end_wait(vcpu, RunFlags::BLOCKED | RunFlags::POLLING);
}

/// Bytes of HLT, and its opcode.
const HLT_LENGTH: u8 = 1;
const HLT: u8 = 0xf4;

/// Whether the next instruction is HLT, without a prefix, as far as can be told with interrupts off.
fn stands_at_halt<H: Host + Room>(cx: &Cell<'_, H>) -> bool {
    let Some(map) = &cx.domain.translated else {
        return false;
    };
    cx.cpl() == 0 && Glance(map).code(&cx.paging(), emulator_state(cx).code_address()) == Some(HLT)
}

/// HLT, of this length: waits for what would end it.
///
/// What the vCPU was not given yet may end the wait or not, so it is given first, and the guest executes HLT again.
pub(super) fn halt<H: Host + Room>(cx: &mut Cell<'_, H>, length: u8) {
    let news = |cx: &Cell<'_, H>| !cx.vcpu.inbox.is_empty() || !cx.vcpu.owes_nothing();
    if news(cx) {
        return;
    }
    let stepped = cx.regs.rflags & rflags::TF != 0;
    if stepped || situation(cx).wakes() {
        return cx.advance(length);
    }
    if cx.regs.rflags & rflags::IF == 0 {
        // Nothing but an NMI could end that, and a guest that goes down halts so.
        return for_good(cx);
    }
    cx.vcpu.set_flags(RunFlags::BLOCKED);
    // Flag first, look second: whoever has something for the vCPU after the look sees the flag.
    if news(cx) || situation(cx).wakes() {
        cx.vcpu.clear_flags(RunFlags::BLOCKED);
        return;
    }
    cx.advance(length);
    cx.host.reschedule_here();
}

/// The vCPU goes down, at its HLT: should it be let run without a new start, it halts again. With the last one the domain goes
/// down.
fn for_good<H: Host + Room>(cx: &Cell<'_, H>) {
    let before = cx.vcpu.set_flags(RunFlags::DOWN);
    // Down first, look second, as above: who sent a start before that has let it run already.
    if !cx.vcpu.inbox.is_empty() && before & RunFlags::DOWN == 0 {
        cx.vcpu.clear_flags(RunFlags::DOWN);
        return;
    }
    if cx.domain.vcpus().iter().any(Vcpu::is_up) {
        cx.domain.stop_vcpu(cx.vcpu);
        cx.host.reschedule_here();
    } else {
        log::info!("d{}: all its vCPUs have halted for good", cx.domain.id);
        go_down(cx, xen_abi::sched::SHUTDOWN_poweroff);
    }
}
