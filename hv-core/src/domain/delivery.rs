//! How events, wake-ups and interrupts reach a domain.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::arch_x86::ArchSharedInfo;
use xen_abi::errno::Errno;
use xen_abi::xen::{
    SHARED_INFO_ARCH, SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING, VIRQ_TIMER,
};

use super::domain::{Domain, DomainKind};
use super::machine::Machine;
use super::vcpu::{Owed, RunFlags, Vcpu};
use crate::base::{DomId, Gfn, Mfn, Nanos, VcpuId};
use crate::events::{self, Consumer, EventHost, Events, Layout, PirqSharing, PortNumber};
use crate::grants::{FramePool, SharedFrame};
use crate::mm::Holdings;
use crate::time::Watchdogs;
use crate::time::runstate::State;
use crate::time::vtimer::{Arming, VcpuTimers};

/// Why the last NMIs came, in a shared info page.
const NMI_REASON: usize = SHARED_INFO_ARCH + offset_of!(ArchSharedInfo, nmi_reason);

impl Domain {
    /// Tells the scheduler that the vCPU may run, if nothing else keeps it.
    pub fn wake(&self, vcpu: &Vcpu) {
        let Some(unit) = vcpu.unit.get() else { return };
        let now = self.settle(vcpu);
        if !self.runnable(vcpu) {
            return;
        }
        if let Some(cpu) = self.sched.wake(unit, now) {
            self.machine.reschedule(cpu);
        }
    }

    /// Accounts for what a vCPU does that is on no CPU, after that may have changed. Returns the time.
    ///
    /// Its flags are looked at under the account's lock: of two that change them, the later one's look sees both changes.
    fn settle(&self, vcpu: &Vcpu) -> Nanos {
        let now = self.machine.now();
        let mut runstate = vcpu.runstate.lock();
        if runstate.state() != State::Running {
            runstate.change(self.state_off_cpu(vcpu), now);
        }
        now
    }

    /// What a vCPU does while it is on no CPU.
    fn state_off_cpu(&self, vcpu: &Vcpu) -> State {
        let flags = vcpu.flags();
        if flags & RunFlags::DOWN != 0 {
            State::Offline
        } else if flags & (RunFlags::BLOCKED | RunFlags::POLLING) != 0 {
            // Also while it is paused: it would not run otherwise either.
            State::Blocked
        } else if self.runnable(vcpu) {
            State::Runnable
        } else {
            State::Offline
        }
    }

    /// A CPU runs the vCPU from now on.
    pub fn account_start(&self, vcpu: &Vcpu) {
        let now = self.machine.now();
        vcpu.runstate.lock().change(State::Running, now);
    }

    /// The CPU that ran the vCPU does so no more.
    pub fn account_stop(&self, vcpu: &Vcpu) {
        let now = self.machine.now();
        let mut runstate = vcpu.runstate.lock();
        runstate.change(self.state_off_cpu(vcpu), now);
    }

    /// Makes a vCPU that runs elsewhere look at its events.
    fn interrupt(&self, vcpu: &Vcpu) {
        if let Some(cpu) = vcpu.running_on()
            && cpu != self.machine.this_cpu()
        {
            self.machine.interrupt(cpu);
        }
    }

    /// Ends waits of the kinds in `flags`, or interrupts the vCPU where it runs.
    pub fn end_wait(&self, vcpu: &Vcpu, flags: u32) {
        let ended = vcpu.clear_flags(flags) & flags;
        if ended & RunFlags::POLLING != 0 {
            events::end_poll(self, vcpu.id);
        }
        if ended != 0 {
            self.wake(vcpu);
        } else {
            self.interrupt(vcpu);
        }
    }

    /// Lets a vCPU run that was just marked as up, with the timer that it starts with.
    pub fn start(&self, vcpu: &Vcpu) {
        // Without a unit it can neither have timers nor run.
        let _armed = self.change_timers(vcpu, |timers, now| Ok(timers.start(now)));
        self.wake(vcpu);
    }

    /// Sends a vCPU an NMI: it gets it with its next run, or when it has dealt with the one before.
    pub fn send_nmi(&self, vcpu: &Vcpu) {
        vcpu.owe(Owed::NMI);
        self.end_wait(vcpu, RunFlags::BLOCKED | RunFlags::POLLING);
    }

    /// Tells the domain of an NMI of the machine: the reason (`XEN_NMIREASON_*`) in its shared page, and
    /// an NMI for its first vCPU.
    pub fn report_nmi(&self, reason: u64) {
        self.machine.words(self.shared_info)[NMI_REASON / 8].fetch_or(reason, Ordering::SeqCst);
        if let Some(first) = self.vcpu(0) {
            self.send_nmi(first);
        }
    }

    /// Makes a vCPU that may no longer run stop where it runs.
    pub fn stop_vcpu(&self, vcpu: &Vcpu) {
        if let Some(unit) = vcpu.unit.get()
            && !self.runnable(vcpu)
        {
            self.settle(vcpu);
            if let Some(cpu) = self.sched.sleep(unit) {
                self.machine.reschedule(cpu);
            }
            // A wake-up between the look and the call would be lost.
            if self.runnable(vcpu) {
                self.wake(vcpu);
            }
        }
    }

    /// Stops vCPUs that are no longer runnable where they run. Call after a pause.
    pub fn stop_running(&self) {
        self.vcpus().iter().for_each(|v| self.stop_vcpu(v));
    }

    /// Waits until no vCPU that may not run does: after `stop_running`, so that whoever paused the domain
    /// finds it at rest. For others than the domain's own vCPUs, which would wait for themselves.
    ///
    /// The CPU that runs such a vCPU has been told, and looks before each entry into the guest. It may still have
    /// a step of a hypercall to finish, no more.
    pub fn wait_until_stopped(&self) {
        for vcpu in self.vcpus() {
            while !self.runnable(vcpu) && vcpu.running_on().is_some() {
                core::hint::spin_loop();
            }
        }
    }

    /// Changes a vCPU's timers and arms what they ask for.
    ///
    /// The one deadline that the machine keeps is set under the timers' lock: two CPUs that change it
    /// do so in the order in which they changed the timers.
    ///
    /// # Errors
    /// Those of the change; nothing is armed then.
    pub fn change_timers(
        &self,
        vcpu: &Vcpu,
        change: impl FnOnce(&mut VcpuTimers, Nanos) -> Result<Arming, Errno>,
    ) -> Result<(), Errno> {
        let due = {
            let mut timers = vcpu.timers.lock();
            let unit = vcpu.unit.get().ok_or(Errno::EINVAL)?;
            match change(&mut timers, self.machine.now())? {
                Arming::At(deadline) => self.machine.arm_vcpu_timer(unit, Some(deadline)),
                Arming::Idle => self.machine.arm_vcpu_timer(unit, None),
                Arming::Due => {}
            }
            timers
                .next_deadline()
                .is_some_and(|at| at <= self.machine.now())
        };
        if due {
            self.fire_timers(vcpu);
        }
        Ok(())
    }

    /// Makes, feeds or stops a watchdog; see [`Watchdogs::set`](crate::time::Watchdogs::set).
    ///
    /// # Errors
    /// As there.
    pub fn set_watchdog(&self, id: u32, timeout: u32) -> Result<u32, Errno> {
        let first = self.vcpu(0).ok_or(Errno::EINVAL)?;
        // Held over the arming: of two changes the later one's deadline stands.
        let mut watchdogs = self.watchdogs.lock();
        let done = watchdogs.set(id, timeout, self.machine.now())?;
        let next = watchdogs.next_deadline();
        self.change_timers(first, |timers, now| Ok(timers.set_watchdog(next, now)))?;
        Ok(done)
    }

    /// Whether a watchdog was not fed in time. To be asked when a timer of the domain fires; asked again it says no.
    #[must_use]
    pub fn has_hungry_watchdog(&self) -> bool {
        let mut watchdogs = self.watchdogs.lock();
        let hungry = watchdogs.is_hungry(self.machine.now());
        if hungry {
            *watchdogs = Watchdogs::new();
            if let Some(first) = self.vcpu(0) {
                let _armed =
                    self.change_timers(first, |timers, now| Ok(timers.set_watchdog(None, now)));
            }
        }
        hungry
    }

    /// Delivers what is due of a vCPU's timers and arms the rest.
    pub fn fire_timers(&self, vcpu: &Vcpu) {
        let expired = {
            let mut timers = vcpu.timers.lock();
            let expired = timers.expire(self.machine.now());
            if let Some(unit) = vcpu.unit.get() {
                self.machine.arm_vcpu_timer(unit, timers.next_deadline());
            }
            expired
        };
        if expired.virq_timer {
            events::raise_virq(self, vcpu.id, VIRQ_TIMER);
        }
        if expired.poll {
            self.end_wait(vcpu, RunFlags::POLLING);
        }
        if expired.lapic {
            vcpu.owe(Owed::LAPIC);
            self.end_wait(vcpu, RunFlags::BLOCKED | RunFlags::POLLING);
        }
    }

    /// The same, if it has events that it has not been told of in the present way.
    pub fn tell_if_due(&self, vcpu: &Vcpu) {
        if events::upcall_pending(self, vcpu.id) {
            self.tell_of_events(vcpu);
        }
    }

    /// Has a vCPU in a container take the interrupt of the event channels: by its local APIC where it has named a vector,
    /// else by what is looked at before each entry. A poll ends too; the guest polls again if that was not what it waited
    /// for.
    pub fn tell_of_events(&self, vcpu: &Vcpu) {
        if vcpu.upcall_vector().is_some() {
            vcpu.owe(Owed::UPCALL);
        }
        self.end_wait(vcpu, RunFlags::BLOCKED | RunFlags::POLLING);
    }
}

impl Domain {
    /// Wakes every vCPU that may run. Call after the last unpause.
    pub fn wake_all(&self) {
        self.vcpus().iter().for_each(|v| self.wake(v));
    }

    /// Takes a reference, for `Machine::drop_writable`, to the page that the domain names by this number of a frame of its own: a
    /// guest frame where those are translated, a machine frame otherwise.
    ///
    /// # Errors
    /// `EINVAL` when it is no page of the domain's to be written, `EAGAIN` when that is being decided at this moment.
    pub fn take_own_page(&self, number: u64) -> Result<Mfn, Errno> {
        match &self.translated {
            Some(map) => map.hold_own(Gfn(number)),
            None => {
                self.machine.take_writable(Mfn(number), self.id)?;
                Ok(Mfn(number))
            }
        }
    }

    /// The number by which the domain itself names one of its frames; all ones where it is behind no guest frame.
    #[must_use]
    pub fn own_number(&self, mfn: Mfn) -> u64 {
        match &self.translated {
            Some(map) => map.gfn_of(mfn).map_or(u64::MAX, |gfn| gfn.0),
            None => mfn.0,
        }
    }

    /// Where the pages of its grant table come from.
    #[must_use]
    pub fn grant_pool(&self) -> impl FramePool {
        GrantPool(self.machine, &self.holdings)
    }
}

/// Pages for a grant table.
pub(super) struct GrantPool<'a>(pub &'static dyn Machine, pub &'a Holdings);

impl FramePool for GrantPool<'_> {
    fn alloc(&self, _owner: DomId) -> Option<SharedFrame> {
        let mfn = self.0.alloc_page()?;
        if self.0.share_with(mfn, self.1).is_err() {
            self.0.free_page(mfn);
            return None;
        }
        Some(SharedFrame::new(mfn, self.0.words32(mfn)))
    }

    fn free(&self, frame: SharedFrame) {
        self.0.unshare(frame.mfn());
    }
}

impl EventHost for Domain {
    fn id(&self) -> DomId {
        self.id
    }

    fn events(&self) -> &Events<Self> {
        &self.events
    }

    fn layout(&self) -> Layout {
        Layout::Bits64
    }

    fn vcpu_exists(&self, vcpu: VcpuId) -> bool {
        self.vcpu(vcpu).is_some()
    }

    fn pending_word(&self, index: usize) -> &AtomicU64 {
        &self.machine.words(self.shared_info)[SHARED_INFO_EVTCHN_PENDING / 8 + index]
    }

    fn mask_word(&self, index: usize) -> &AtomicU64 {
        &self.machine.words(self.shared_info)[SHARED_INFO_EVTCHN_MASK / 8 + index]
    }

    fn vcpu_info(&self, vcpu: VcpuId) -> Option<&[AtomicU64; 2]> {
        let (frame, offset) = self.vcpu(vcpu)?.info_place()?;
        self.machine.words(frame).get(offset / 8..)?.first_chunk()
    }

    fn take_page(&self, gfn: u64) -> Result<Mfn, Errno> {
        self.take_own_page(gfn)
    }

    fn release_page(&self, page: Mfn) {
        self.machine.drop_writable(page);
    }

    fn page(&self, page: Mfn) -> &[AtomicU32; 1024] {
        self.machine.words32(page)
    }

    fn kick(&self, vcpu: VcpuId) {
        if let Some(v) = self.vcpu(vcpu) {
            if self.kind == DomainKind::Hvm {
                self.tell_of_events(v);
                return;
            }
            // An upcall ends a poll too, unless the guest has masked upcalls: then only its ports do.
            let polls = v.flags() & RunFlags::POLLING != 0 && events::upcall_due(self, vcpu);
            let wait = if polls {
                RunFlags::BLOCKED | RunFlags::POLLING
            } else {
                RunFlags::BLOCKED
            };
            self.end_wait(v, wait);
        }
    }

    fn wake_poller(&self, vcpu: VcpuId) {
        if let Some(v) = self.vcpu(vcpu) {
            self.end_wait(v, RunFlags::POLLING);
        }
    }

    fn consume(&self, consumer: Consumer, _vcpu: VcpuId, port: PortNumber) {
        // No part of the hypervisor listens at a port yet; nobody can have made one.
        log::error!(
            "d{}: event at port {port} for consumer {} that nobody registered",
            self.id,
            consumer.0
        );
    }

    fn bind_pirq(&self, pirq: u32, sharing: PirqSharing, vcpu: VcpuId) -> Result<(), Errno> {
        self.pirqs.bind(self, pirq, sharing, vcpu)
    }

    fn unbind_pirq(&self, pirq: u32) {
        self.pirqs.unbind(self, pirq);
    }

    fn route_pirq(&self, pirq: u32, vcpu: VcpuId) {
        self.pirqs.route(self, pirq, vcpu);
    }
}
