//! The run loop of each CPU: do what is owed, ask the scheduler, run the guest, handle its exit.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use hv_core::base::{GuestVa, VcpuId, lock};
use hv_core::domain::{Domain, Hypervisor, ShutdownReason, Vcpu, VcpuState};
use hv_core::events;
use hv_core::hvm::state::HvmState;
use hv_core::hypercall::{Ctx, Host};
use hv_core::pv::frame::GuestFrame;
use hv_core::pv::state::{PvState, StateBox};
use hv_core::sched::Unit;
use x86_64::instructions::interrupts::without_interrupts;

use super::cpuinfo::{CpuInfo, enter_guest};
use super::host::{HW, SHUTDOWN, hv};
use super::percpu::{self, PerCpu, softirq};
use super::{
    clock, container, context, cpu, cpuid_fault, exits, irq, mce, microcode, paging, power,
    publish, serial_line, smp, tlb, view, watchdog,
};

/// A vCPU whose state is on this CPU: a PV vCPU, where nothing else is said.
pub struct Loaded<S = PvState> {
    /// Its domain.
    pub domain: Arc<Domain>,
    /// Which of the domain's.
    pub id: VcpuId,
    /// Its state, ours until it is saved.
    pub state: StateBox<S>,
    /// It waits for an event and the CPU idles: its root is not in CR3.
    pub idle: bool,
    /// The scheduler's handle. One that is being destroyed has lost it, and must be saved all the same.
    unit: Unit,
    /// What `domain` and `id` lead to, found once.
    vcpu: NonNull<Vcpu>,
    hv: &'static Hypervisor,
}

impl<S> Loaded<S> {
    fn new(domain: Arc<Domain>, (id, unit): (VcpuId, Unit), state: StateBox<S>) -> Self {
        let vcpu = NonNull::from(&domain.vcpus()[id as usize]);
        Self {
            domain,
            id,
            state,
            idle: false,
            unit,
            vcpu,
            hv: hv(),
        }
    }

    /// The vCPU as others see it.
    #[inline(always)]
    pub fn vcpu(&self) -> &Vcpu {
        // SAFETY: a domain's vCPUs are made once, stay in place for as long as it exists, and are only shared;
        // `domain` keeps it.
        unsafe { self.vcpu.as_ref() }
    }

    /// What handlers work with.
    #[inline(always)]
    pub fn context<'a>(
        &'a mut self,
        regs: &'a mut GuestFrame,
    ) -> Ctx<'a, super::host::Hw, &'a mut S> {
        Ctx {
            hv: self.hv,
            host: &HW,
            domain: &self.domain,
            // SAFETY: see `vcpu`.
            vcpu: unsafe { self.vcpu.as_ref() },
            state: &mut self.state,
            regs,
        }
    }
}

/// A loaded vCPU of either kind.
pub enum Guest {
    /// Paravirtualised.
    Pv(Loaded),
    /// In a hardware container.
    Hvm(Loaded<HvmState>),
}

/// What both kinds have.
macro_rules! either {
    ($guest:expr, $l:ident => $what:expr) => {
        match $guest {
            Guest::Pv($l) => $what,
            Guest::Hvm($l) => $what,
        }
    };
}

impl Guest {
    /// Its domain.
    pub fn domain(&self) -> &Arc<Domain> {
        either!(self, l => &l.domain)
    }

    /// The vCPU as others see it.
    #[inline(always)]
    pub fn vcpu(&self) -> &Vcpu {
        either!(self, l => l.vcpu())
    }

    fn unit(&self) -> Unit {
        either!(self, l => l.unit)
    }

    fn is_idle(&self) -> bool {
        either!(self, l => l.idle)
    }

    fn set_idle(&mut self, idle: bool) {
        either!(self, l => l.idle = idle);
    }

    fn publish_all(&mut self) {
        either!(self, l => publish::all(l));
    }
}

/// Runs guests on this CPU, for good.
pub fn run_cpu() -> ! {
    let this = percpu::this();
    // A secondary CPU may be here before there is anything to run.
    loop {
        cpu::cli();
        tlb::serve();
        // With interrupts off between the look and the halt, the wake-up cannot slip by.
        if super::host::HV.get().is_some() {
            break;
        }
        cpu::halt_until_interrupt();
    }
    this.remote
        .softirq
        .fetch_or(softirq::SCHEDULE, Ordering::Relaxed);
    cpu::sti();
    let mut loaded: Option<Guest> = None;
    loop {
        work(this, &mut loaded);
        match &mut loaded {
            Some(Guest::Pv(l)) if !l.idle => run_guest(this, l),
            Some(Guest::Hvm(l)) if !l.idle => container::run(this, l),
            None if this.remote.leaving.load(Ordering::Relaxed) => smp::leave(this),
            _ => idle(this),
        }
    }
}

/// Sleeps until an interrupt, unless something is owed.
fn idle(this: &PerCpu) {
    cpu::cli();
    if this.remote.softirq.load(Ordering::Relaxed) == 0 {
        this.remote.idle.store(true, Ordering::Relaxed);
        this.remote.idle_entries.fetch_add(1, Ordering::Relaxed);
        let since = clock::now();
        super::idle::wait(&this.remote.softirq);
        this.remote
            .idle_ns
            .fetch_add(clock::now().saturating_sub(since), Ordering::Relaxed);
        this.remote.idle.store(false, Ordering::Relaxed);
    }
    cpu::sti();
}

/// Does what is owed until nothing is.
fn work(this: &PerCpu, loaded: &mut Option<Guest>) {
    loop {
        let bits = this.remote.softirq.swap(0, Ordering::SeqCst);
        if bits == 0 {
            return;
        }
        this.remote.beat();
        if bits & softirq::VECTORS != 0 {
            irq::take_vectors(super::devices::arrived);
        }
        if bits & softirq::TIMER != 0 {
            timer(this);
        }
        if bits & softirq::SERIAL != 0 {
            serial_line::reports();
        }
        if bits & softirq::MICROCODE != 0 {
            microcode::follow();
        }
        if bits & softirq::REAP != 0 {
            hv().forget_dead();
        }
        if bits & (softirq::SCHEDULE | softirq::SYNC) != 0 {
            power::sleep_if_planned();
            if SHUTDOWN.load(Ordering::SeqCst) != 0 {
                shut_machine_down(this, loaded);
            }
            schedule(this, loaded);
        }
    }
}

fn timer(this: &PerCpu) {
    clock::fired();
    without_interrupts(watchdog::look);
    clock::take_due(|id| {
        if let Some((domain, vcpu)) = hv().vcpu_of(hv_core::sched::Unit::from_index(id.0))
            && let Some(vcpu) = domain.vcpu(vcpu)
        {
            domain.fire_timers(vcpu);
            if vcpu.id == 0 && domain.has_hungry_watchdog() {
                log::error!("d{}: its watchdog was not fed", domain.id);
                hv().shut_down(&domain, ShutdownReason(xen_abi::sched::SHUTDOWN_watchdog));
            }
        }
    });
    serial_line::poll();
    mce::poll(this);
    super::devices::end_storms();
    let end = this.slice_end.get();
    if end != 0 && end <= clock::now() {
        this.slice_end.set(0);
        this.remote
            .softirq
            .fetch_or(softirq::SCHEDULE, Ordering::Relaxed);
    }
    clock::program();
}

/// Asks the scheduler and does what it says.
fn schedule(this: &PerCpu, loaded: &mut Option<Guest>) {
    let sched = hv().backing.sched;
    if let Some(l) = loaded {
        // It stops here of its own accord, or because somebody paused it.
        let (domain, vcpu) = (l.domain(), l.vcpu());
        if !domain.runnable(vcpu) {
            let _this_cpu = sched.sleep(l.unit());
            // A wake-up between the look and the call would be lost.
            if domain.runnable(vcpu) {
                domain.wake(vcpu);
            }
        }
    }
    let mut stray = None;
    loop {
        let now = clock::now();
        let decision = sched.schedule(this.id, now);
        if let Some(unit) = stray.take()
            && let Some(other) = sched.context_saved(this.id, unit, now)
        {
            hv().backing.machine.reschedule(other);
        }
        if let Some(other) = decision.kick {
            hv().backing.machine.reschedule(other);
        }
        this.slice_end.set(
            decision
                .run_for
                .map_or(0, |slice| now.saturating_add(slice)),
        );
        let current = loaded.as_ref().map(Guest::unit);
        // Where another takes its place, that one's page tables come first.
        let other = decision.next.filter(|next| Some(*next) != current);
        if decision.save.is_some() && decision.save == current && other.is_none() {
            stop_running(loaded);
            save(this, loaded);
        }
        match decision.next {
            Some(unit) if loaded.as_ref().map(Guest::unit) == Some(unit) => {
                let stays = |l: &Guest| l.domain().runnable(l.vcpu());
                if !loaded.as_ref().is_some_and(stays) {
                    send_to_sleep(unit);
                    continue;
                }
                resume(this, loaded);
            }
            Some(unit) => {
                if !change_to(this, loaded, unit) {
                    send_to_sleep(unit);
                    stray = Some(unit);
                    continue;
                }
            }
            None => go_idle(loaded),
        }
        break;
    }
    leave_dying(this, loaded);
    clock::program();
}

/// Loads another vCPU in the place of the loaded one, if there is one; `false`: it is not to run, and none is loaded.
fn change_to(this: &PerCpu, loaded: &mut Option<Guest>, unit: Unit) -> bool {
    stop_running(loaded);
    let old = take_off(loaded);
    let good = load(this, loaded, unit);
    // The one before is kept from others until its page tables are out of CR3.
    if !good {
        leave_spaces(this);
    }
    if let Some(old) = old {
        release(this, old);
    }
    good
}

/// A unit was chosen that may not run: it was woken when it had just been stopped, or it is gone.
fn send_to_sleep(unit: Unit) {
    let _this_cpu = hv().backing.sched.sleep(unit);
    // A wake-up between the look and the call would be lost.
    if let Some((domain, id)) = hv().vcpu_of(unit)
        && let Some(vcpu) = domain.vcpu(id)
    {
        domain.wake(vcpu);
    }
}

/// Forgets a dying domain whose translations may still be here.
fn leave_dying(this: &PerCpu, loaded: &Option<Guest>) {
    let stays = |d: &Arc<Domain>| {
        !d.is_dying() || loaded.as_ref().is_some_and(|l| Arc::ptr_eq(l.domain(), d))
    };
    if this.tlb_domain.borrow().as_ref().is_none_or(stays) {
        return;
    }
    tlb::flush_all_here();
    if let Some(gone) = this.tlb_domain.borrow_mut().take() {
        gone.clear_dirty(this.id);
    }
}

/// The loaded vCPU no longer runs; its state stays.
fn stop_running(loaded: &mut Option<Guest>) {
    let Some(l) = loaded else { return };
    if l.is_idle() {
        return;
    }
    l.domain().account_stop(l.vcpu());
    either!(&mut *l, l => publish::runstate(l));
    l.vcpu().set_running(None);
}

/// Keeps the state loaded while the CPU idles, but leaves the guest's page tables.
fn go_idle(loaded: &mut Option<Guest>) {
    stop_running(loaded);
    if let Some(l) = loaded
        && !l.is_idle()
    {
        l.set_idle(true);
        paging::load_master();
    }
}

/// The loaded vCPU runs (again).
fn resume(this: &PerCpu, loaded: &mut Option<Guest>) {
    let Some(l) = loaded else { return };
    if l.is_idle() {
        l.set_idle(false);
        if let Guest::Pv(l) = l {
            HW.load_root(&l.state);
        }
    } else if l.vcpu().running_on().is_some() {
        return;
    }
    l.vcpu().set_running(Some(this.id));
    l.domain().account_start(l.vcpu());
    l.publish_all();
}

/// Takes the state off this CPU so that another may load it.
fn save(this: &PerCpu, loaded: &mut Option<Guest>) {
    if let Some(old) = take_off(loaded) {
        leave_spaces(this);
        release(this, old);
    }
}

/// Completes the state of the loaded vCPU. Its page tables and descriptors are in use here until others are, or none.
fn take_off(loaded: &mut Option<Guest>) -> Option<Guest> {
    let mut l = loaded.take()?;
    let info: *mut CpuInfo = percpu::info();
    // SAFETY: this CPU's own frame, with the guest out.
    let regs = unsafe { &(*info).regs };
    match &mut l {
        Guest::Pv(l) => context::save(&mut l.state, regs),
        Guest::Hvm(l) => container::save(percpu::this(), &mut l.state, regs),
    }
    Some(l)
}

/// Nothing of a guest stays in use on this CPU.
fn leave_spaces(this: &PerCpu) {
    paging::load_master();
    context::clear(this);
}

/// Lets others load a state that this CPU uses no more.
fn release(this: &PerCpu, old: Guest) {
    let unit = old.unit();
    let (domain, id, state) = match old {
        Guest::Pv(l) => (l.domain, l.id, VcpuState::Pv(l.state)),
        Guest::Hvm(l) => (l.domain, l.id, VcpuState::Hvm(l.state)),
    };
    if let Some(vcpu) = domain.vcpu(id) {
        *vcpu.state.lock() = Some(state);
    }
    if let Some(other) = hv()
        .backing
        .sched
        .context_saved(this.id, unit, clock::now())
    {
        hv().backing.machine.reschedule(other);
    }
}

/// Loads a vCPU that rests; `false`: it is not to run.
fn load(this: &PerCpu, loaded: &mut Option<Guest>, unit: Unit) -> bool {
    let Some((domain, id)) = hv().vcpu_of(unit) else {
        return false;
    };
    let Some(vcpu) = domain.vcpu(id) else {
        return false;
    };
    let moved = vcpu.cpu() != this.id;
    // It runs first and is asked for second: whoever pauses it does so the other way round, and waits.
    vcpu.set_running(Some(this.id));
    if moved {
        events::vcpu_moved(&*domain, id);
    }
    if !domain.runnable(vcpu) {
        vcpu.set_running(None);
        return false;
    }
    let Some(state) = vcpu.state.lock().take() else {
        vcpu.set_running(None);
        log::error!(
            "d{}v{id}: chosen to run without registers: stopped",
            domain.id
        );
        domain.pause();
        domain.stop_running();
        return false;
    };
    domain.mark_dirty(this.id);
    let info: *mut CpuInfo = percpu::info();
    // SAFETY: this CPU's own frame, with no guest in it.
    let regs = unsafe { &mut (*info).regs };
    let (mut guest, good) = match state {
        VcpuState::Pv(state) => {
            let mut l = Loaded::new(domain, (id, unit), state);
            l.state.tsc = l.domain.tsc.lock().own.map(|own| own.clock);
            let good = context::load(&mut l.state, regs);
            note_translations(this, &l.domain);
            view::choose(this, info, l.domain.is_control());
            cpuid_fault::follow(this, l.domain.rights);
            (Guest::Pv(l), good)
        }
        VcpuState::Hvm(state) => {
            let mut l = Loaded::new(domain, (id, unit), state);
            container::load(this, &mut l, regs);
            (Guest::Hvm(l), true)
        }
    };
    guest.domain().account_start(guest.vcpu());
    guest.publish_all();
    if let Guest::Pv(l) = loaded.insert(guest)
        && !good
    {
        exits::bad_selectors(l);
    }
    true
}

/// Translations of this domain only are in this CPU's TLB now: the last one need not flush here any more.
pub fn note_translations(this: &PerCpu, domain: &Arc<Domain>) {
    let same = |d: &Arc<Domain>| Arc::ptr_eq(d, domain);
    if this.tlb_domain.borrow().as_ref().is_some_and(same) {
        return;
    }
    if let Some(old) = this.tlb_domain.borrow_mut().replace(domain.clone()) {
        old.clear_dirty(this.id);
    }
}

/// Runs the loaded vCPU until something is owed.
fn run_guest(this: &PerCpu, l: &mut Loaded) {
    let info: *mut CpuInfo = percpu::info();
    loop {
        cpu::cli();
        if this.remote.softirq.load(Ordering::Relaxed) != 0 {
            cpu::sti();
            return;
        }
        if !exits::before_entry(l) {
            cpu::sti();
            return;
        }
        // SAFETY: this CPU's own frame, with the guest out.
        let regs = unsafe { &mut (*info).regs };
        // SYSRET to an address that is not canonical would fault at CPL 0 on the guest's stack: such a
        // frame leaves by IRET, whose fault is handled.
        if !GuestVa(regs.rip).is_canonical() {
            regs.entry = 0;
        }
        lock::expect_none("a guest runs");
        percpu::count(&this.counts.exits);
        view::before_entry(this, info);
        // SAFETY: the frame holds registers that a guest may have: CPL 3 selectors, IF set.
        let reason = unsafe { enter_guest(info) };
        exits::handle(l, reason);
    }
}

/// What dom0's shutdown asks of the machine.
fn shut_machine_down(this: &PerCpu, loaded: &mut Option<Guest>) {
    let reason = SHUTDOWN.load(Ordering::SeqCst) - 1;
    if this.id != 0 || power::sleep_was_planned() {
        stop_running(loaded);
        // Nobody may wait for a flush on this CPU any more.
        this.remote.online.store(false, Ordering::SeqCst);
        cpu::stop();
    }
    match reason {
        xen_abi::sched::SHUTDOWN_poweroff => {
            crate::say!("Hardware Dom0 halted: halting machine");
            power::off()
        }
        xen_abi::sched::SHUTDOWN_crash => {
            crate::say!("Hardware Dom0 crashed");
            power::after_crash()
        }
        xen_abi::sched::SHUTDOWN_reboot => {
            crate::say!("Hardware Dom0 shutdown: rebooting machine");
            power::reboot()
        }
        xen_abi::sched::SHUTDOWN_watchdog => {
            crate::say!("Hardware Dom0 shutdown: watchdog rebooting machine");
            power::reboot()
        }
        other => {
            crate::say!("Hardware Dom0 shutdown: reason {other}");
            power::after_crash()
        }
    }
}
