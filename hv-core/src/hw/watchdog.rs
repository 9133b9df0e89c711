//! The watchdog over the CPUs: who looks, who is asked, and what a CPU that is stuck tells
//! ([`hv_core::time::heartbeat`] decides).
//!
//! Looks are made by the timer's interrupt, with atomics only, so that CPUs that all wait for one lock still look at each
//! other; one that waits with interrupts off is seen by the one before it. While the watchdog is off none of this runs.

use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_core::base::{CpuId, Nanos};
use hv_core::pv::frame::GuestFrame;
use hv_core::time::heartbeat::{self, Sign, Verdict};

use super::percpu::{self, PerCpu, softirq};
use super::serial::Raw;
use super::{apic, clock, cpu, traps};

/// The time-out in seconds; 0: nobody looks.
static TIMEOUT: AtomicU32 = AtomicU32::new(0);

/// What `Remote::question` asks by an NMI: where the CPU is, while the machine ends. 0: nothing; anything else: whether it has
/// still beaten one time less.
const TELL: u64 = u64::MAX;
/// Time for an answer to that.
const PATIENCE_US: u64 = 200_000;

/// From now on CPUs are watched; the boot is over.
pub fn begin(timeout: Option<u32>) {
    let Some(timeout) = timeout else { return };
    let (this, alone) = (percpu::this(), percpu::online().count() == 1);
    this.remote.beat();
    TIMEOUT.store(timeout, Ordering::Release);
    let limit = if alone {
        "; with one CPU, only while it takes interrupts"
    } else {
        ""
    };
    crate::say!("Watchdog: a CPU that is stuck for {timeout} s ends the machine{limit}");
}

/// A CPU that prints works: a long report is no hang.
pub fn printing() {
    if TIMEOUT.load(Ordering::Relaxed) != 0 {
        percpu::this().remote.beat();
    }
}

/// When this CPU looks next.
pub fn next_look(this: &PerCpu) -> Option<Nanos> {
    (TIMEOUT.load(Ordering::Relaxed) != 0).then(|| this.next_watch.load(Ordering::Relaxed).max(1))
}

/// Looks at another CPU, when it is time. Interrupts are off.
pub fn look() {
    let timeout = TIMEOUT.load(Ordering::Acquire);
    if timeout == 0 {
        return;
    }
    let (this, now) = (percpu::this(), clock::now());
    if this.next_watch.load(Ordering::Relaxed) <= now {
        let next = now.saturating_add(heartbeat::period(timeout));
        this.next_watch.store(next, Ordering::Relaxed);
        watch(this);
    }
    // The loop sets the timer anew, unless it is not reached any more.
    clock::wake_at(this.next_watch.load(Ordering::Relaxed), now);
}

fn watch(this: &PerCpu) {
    if traps::crashing().is_some() {
        // Who crashes beats no more.
        return;
    }
    let there = |cpu| percpu::remote(cpu).is_some_and(|r| r.online.load(Ordering::Acquire));
    let whom = heartbeat::watched_by(this.id, percpu::created(), there);
    let Some(remote) = percpu::remote(whom) else {
        return;
    };
    let sign = Sign {
        beats: remote.beats.load(Ordering::Acquire),
        rests: remote.idle.load(Ordering::Acquire),
    };
    let mut watch = this.watch.get();
    let verdict = watch.look(whom, sign);
    this.watch.set(watch);
    match verdict {
        Verdict::Fine => {}
        Verdict::Ask => {
            remote.softirq.fetch_or(softirq::BEAT, Ordering::SeqCst);
            if whom != this.id {
                apic::send_ipi(whom, apic::vector::EVENT_CHECK);
            }
        }
        Verdict::Stuck => {
            remote.question.store(sign.beats + 1, Ordering::SeqCst);
            apic::send_nmi(whom);
        }
        Verdict::Gone => panic!("CPU {whom} is stuck and takes no NMI"),
    }
}

/// An NMI hit this CPU: answers the watchdog's question, if there is one. `false`: the NMI is somebody else's.
pub fn answer(frame: &GuestFrame) -> bool {
    let remote = &percpu::this().remote;
    let question = remote.question.load(Ordering::SeqCst);
    if question == 0 {
        return false;
    }
    if traps::crashing() == Some(i64::from(percpu::this().id)) {
        // Its report goes on.
        return true;
    }
    if question == TELL {
        tell(frame);
    }
    remote.question.store(0, Ordering::SeqCst);
    let stuck = question == remote.beats.load(Ordering::Relaxed) + 1;
    // One that was in a guest comes out of it and goes on.
    if stuck && in_hypervisor(frame) {
        end(frame);
    }
    true
}

fn in_hypervisor(frame: &GuestFrame) -> bool {
    frame.cs & 3 == 0
}

/// Ends the machine with what this CPU was at, and all others.
fn end(frame: &GuestFrame) -> ! {
    if !traps::first_to_crash() {
        // Another one was stuck as well, or crashed: it asks where it wants to know.
        while percpu::this().remote.question.load(Ordering::SeqCst) != TELL {
            core::hint::spin_loop();
        }
        tell(frame);
    }
    let out = traps::report(frame, "stuck in the hypervisor", locks);
    for other in percpu::online().filter(|cpu| *cpu != percpu::this().id) {
        ask_where(other);
    }
    traps::end_report(out)
}

fn ask_where(other: CpuId) {
    let Some(remote) = percpu::remote(other) else {
        return;
    };
    remote.question.store(TELL, Ordering::SeqCst);
    apic::send_nmi(other);
    let until = clock::tsc_after_us(PATIENCE_US);
    while remote.question.load(Ordering::SeqCst) == TELL {
        if cpu::rdtsc() > until {
            let _ = writeln!(Raw, "(XEN) CPU {other} takes no NMI");
            break;
        }
        core::hint::spin_loop();
    }
}

/// Tells where this CPU is and stays there: the machine ends.
fn tell(frame: &GuestFrame) -> ! {
    let mut out = Raw;
    let (id, rip) = (percpu::this().id, frame.rip);
    if in_hypervisor(frame) {
        let _ = writeln!(out, "(XEN) CPU {id}:");
        locks(&mut out);
        traps::backtrace(&mut out, rip, frame.rbp);
    } else {
        let _ = writeln!(out, "(XEN) CPU {id}: in a guest at {rip:#x}");
    }
    percpu::this().remote.question.store(0, Ordering::SeqCst);
    cpu::stop()
}

/// Which locks this CPU holds and waits for, in builds that keep them.
fn locks(out: &mut Raw) {
    #[cfg(debug_assertions)]
    percpu::this().show_locks(out);
    #[cfg(not(debug_assertions))]
    let _ = out;
}
