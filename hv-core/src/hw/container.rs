//! Running vCPUs in hardware containers on this CPU: loading and saving what the control block has no place for, and the
//! loop around the world switch.

use core::sync::atomic::Ordering;

use super::host::Hw;
use hv_core::base::lock;
use hv_core::container::{self, Ready, Room, Space};
use hv_core::cpuid::msr::MsrLog;
use hv_core::cpuid::xen::{GuestTsc, MachineFacts};
use hv_core::domain::{Domain, Owed};
use hv_core::hvm::exit::Exit;
use hv_core::hvm::processor::{Intercept, Processor, Register};
use hv_core::hvm::state::HvmState;
use hv_core::hvm::walk::PagingMode;
use hv_core::pv::frame::GuestFrame;
use hv_core::time::Clock;

use super::cpuinfo::CpuInfo;
use super::percpu::{self, PerCpu};
use super::run::{Loaded, note_translations};
use super::{clock, context, cpu, fpu, hvm, paging, tlb, traps};
use super::{privileged, publish};

/// The memory that copies of hypercalls mean, where that is a guest's in a container.
#[inline(always)]
pub fn space() -> Option<&'static Space<'static>> {
    // SAFETY: `within` sets it for the time of a call that keeps what it points to, and nobody keeps what this returns
    // beyond a copy inside of that call.
    unsafe { percpu::this().space.get().as_ref() }
}

/// Does something while copies mean the memory of a vCPU's kernel.
fn within<R>(domain: &Domain, mode: PagingMode, what: impl FnOnce() -> R) -> R {
    let space = Space::new(domain, mode);
    let place = &percpu::this().space;
    let pointer = space.as_ref().map_or(core::ptr::null(), |s| &raw const *s);
    let before = place.replace(pointer.cast());
    let result = what();
    place.set(before);
    result
}

impl Room for Hw {
    fn machine_facts(&self) -> MachineFacts {
        privileged::tables().machine
    }

    fn guest_tsc(&self, domain: &Domain) -> Option<GuestTsc> {
        privileged::guest_tsc(domain)
    }

    fn read_tsc(&self) -> u64 {
        cpu::rdtsc()
    }

    fn load_xcr0(&self, value: u64) {
        fpu::load_xcr0(value);
    }

    fn load_tsc_aux(&self, value: u32) {
        privileged::load_tsc_aux(value);
    }

    fn load_breakpoint_masks(&self, masks: &[u32; 4]) {
        privileged::load_breakpoint_masks(masks);
    }

    fn forget_branches(&self) {
        privileged::forget_branches();
    }

    fn read_machine_msr(&self, msr: u32) -> Option<u64> {
        cpu::rdmsr_safe(msr)
    }

    fn msr_log(&self) -> &MsrLog {
        &privileged::tables().msr_log
    }
}

impl publish::Space for HvmState {
    fn tsc(&self) -> Option<Clock> {
        self.clock
    }

    fn within<R>(l: &Loaded<Self>, what: impl FnOnce() -> R) -> R {
        // SAFETY: this CPU's own frame, with the guest out.
        let flags = unsafe { (*percpu::info()).regs.rflags };
        within(&l.domain, l.state.paging(flags), what)
    }
}

/// Puts a vCPU at rest onto this CPU; the guest's registers go to `regs`.
pub fn load(this: &PerCpu, l: &mut Loaded<HvmState>, regs: &mut GuestFrame) {
    paging::load_master();
    context::clear(this);
    // Nothing stays of what was loaded before, here or in tagged translations: the domain's generation is this CPU's now.
    tlb::flush_all_here();
    note_translations(this, &l.domain);
    *regs = l.state.regs;
    let state = &mut *l.state;
    hvm::load(this, &mut state.processor);
    if let Some(translated) = &l.domain.translated {
        state.processor.set_nested_root(translated.root());
    }
    let own = l.domain.tsc.lock().own;
    state.processor.intercept(Intercept::Rdtsc, own.is_some());
    state.clock = Some(match own {
        Some(own) => own.clock,
        None => shifted(clock::clock(), state.processor.read(Register::TscOffset)),
    });
    fpu::restore(&state.fpu);
    fpu::load_xcr0(state.xcr0);
    state.debug_loaded = false;
    privileged::load_own_msrs(&state.msrs);
    container::follow_policy(&mut l.context(regs));
}

/// The clock of a guest whose TSC is the host's and an offset.
fn shifted(host: Clock, offset: u64) -> Clock {
    Clock {
        tsc: host.tsc.wrapping_add(offset),
        ..host
    }
}

/// Takes the guest's state off this CPU.
pub fn save(this: &PerCpu, state: &mut HvmState, regs: &GuestFrame) {
    state.regs = *regs;
    state.processor.complete_frame(&mut state.regs);
    hvm::park(this, &mut state.processor);
    fpu::load_xcr0(fpu::xcr0());
    fpu::save(&mut state.fpu);
    if state.msrs.tsc_aux != 0 {
        // PV guests can read it.
        privileged::load_tsc_aux(0);
    }
    if state.msrs.breakpoint_masks != [0; 4] {
        // Other guests rely on there being none.
        privileged::load_breakpoint_masks(&[0; 4]);
    }
}

/// Runs the loaded vCPU until something is owed.
pub fn run(this: &PerCpu, l: &mut Loaded<HvmState>) {
    loop {
        cpu::cli();
        if this.remote.softirq.load(Ordering::Relaxed) != 0 {
            cpu::sti();
            return;
        }
        if before_entry(l) == Ready::Look {
            cpu::sti();
            return;
        }
        load_breakpoints(&mut l.state);
        lock::expect_none("a guest runs");
        let info: *mut CpuInfo = percpu::info();
        // SAFETY: interrupts are off; the state is a loaded vCPU's, whose nested tables hold what they map until all CPUs
        // that may have used them have flushed (`Translated`); its FPU and XCR0 are loaded; debug registers are intercepted.
        let exit = unsafe { hvm::enter(&mut (*info).regs, &mut l.state.processor) };
        after_exit(l, exit);
    }
}

/// Loads the addresses of the guest's breakpoints, if it uses some: the control block has no place for them. Those of
/// other guests are loaded when they run, and no guest reads what is in the CPU.
fn load_breakpoints(state: &mut HvmState) {
    if state.debug_loaded {
        return;
    }
    state.debug_loaded = true;
    if state.processor.read(Register::Dr7) & 0xff != 0 {
        // SAFETY: while the hypervisor runs no breakpoint is enabled: the CPU keeps the guest's DR7 in its control block.
        unsafe {
            cpu::set_dr0(state.debug[0]);
            cpu::set_dr1(state.debug[1]);
            cpu::set_dr2(state.debug[2]);
            cpu::set_dr3(state.debug[3]);
        }
    }
}

fn before_entry(l: &mut Loaded<HvmState>) -> Ready {
    if l.vcpu().take_owed(Owed::TIME | Owed::RUNSTATE) != 0 {
        publish::all(l);
    }
    let info: *mut CpuInfo = percpu::info();
    // SAFETY: this CPU's own frame, with the guest out.
    let regs = unsafe { &mut (*info).regs };
    container::prepare(&mut l.context(regs))
}

fn after_exit(l: &mut Loaded<HvmState>, exit: Exit) {
    if matches!(exit, Exit::Exception { vector: 18, .. }) {
        traps::guest_machine_check();
    }
    // Interrupts that ended the run are taken here.
    cpu::sti();
    let info: *mut CpuInfo = percpu::info();
    // SAFETY: this CPU's own frame, with the guest out.
    let regs = unsafe { &mut (*info).regs };
    // Only hypercalls copy from and to what their caller calls memory.
    if exit != Exit::Hypercall {
        return container::handle(&mut l.context(regs), exit);
    }
    let (domain, mode) = (l.domain.clone(), l.state.paging(regs.rflags));
    within(&domain, mode, || {
        container::handle(&mut l.context(regs), exit)
    });
}
