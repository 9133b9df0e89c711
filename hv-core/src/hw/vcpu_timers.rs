//! On which CPU the timer of each vCPU is armed.

use core::sync::atomic::{AtomicU32, Ordering};

use hv_core::base::Nanos;
use hv_core::sched::Unit;
use hv_core::time::TimerId;

use super::percpu::{self, MAX_UNITS, PerCpu, softirq};
use super::{apic, clock};

/// On which CPU each vCPU's timer is armed, plus one; 0: nowhere.
static TIMER_HOMES: [AtomicU32; MAX_UNITS as usize] =
    [const { AtomicU32::new(0) }; MAX_UNITS as usize];

/// Arms the one timer of a vCPU on this CPU, or stops it.
pub fn arm(unit: Unit, deadline: Option<Nanos>) {
    let this = percpu::this();
    let id = TimerId(unit.index() as u32);
    let Some(home) = TIMER_HOMES.get(unit.index()) else {
        return;
    };
    let here = this.id + 1;
    let old = home.swap(if deadline.is_some() { here } else { 0 }, Ordering::AcqRel);
    if old != 0 && old != here {
        percpu::with_timers(old - 1, |heap| {
            // That CPU's hardware timer may fire once for nothing.
            let _ = heap.cancel(id);
        });
    }
    match deadline {
        Some(at) => {
            let armed = this.timers.lock().arm(id, at);
            debug_assert!(
                armed.is_ok(),
                "the scheduler has no more units than the heap has room"
            );
        }
        None => {
            let _ = this.timers.lock().cancel(id);
        }
    }
    clock::program();
}

/// Gives this CPU's deadlines to the boot CPU, which never leaves.
pub fn hand_over(this: &PerCpu) {
    let (here, there) = (this.id + 1, 0);
    loop {
        let Some((id, at)) = this.timers.lock().pop_due(Nanos::MAX) else {
            break;
        };
        percpu::with_timers(there, |heap| {
            let moved = TIMER_HOMES[id.0 as usize].compare_exchange(
                here,
                there + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            // Unless it was armed elsewhere or stopped since.
            if moved.is_ok() {
                let armed = heap.arm(id, at);
                debug_assert!(armed.is_ok(), "all heaps have the same room");
            }
        });
    }
    // It programs its hardware timer, for what a storm left to be done as well.
    if let Some(remote) = percpu::remote(there) {
        remote.softirq.fetch_or(softirq::TIMER, Ordering::SeqCst);
        apic::send_ipi(there, apic::vector::EVENT_CHECK);
    }
}
