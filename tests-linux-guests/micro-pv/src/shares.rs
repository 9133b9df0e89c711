//! What a domain gets of the CPUs, as the domain itself sees it.
//!
//! Several domains that are compared begin at the same moment: the next one at which system time, the same for all
//! of a machine, is a multiple of `every` seconds.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::vcpu::{RUNSTATE_running, VCPUOP_get_runstate_info, VcpuRunstateInfo};

use crate::checks::{clock, events, second, timers, upcall, vcpu};
use crate::console::println;
use crate::kernel::word;
use crate::memory::{PAGE, Page};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Steps of a unit of work: some thirty microseconds.
const STEPS: u64 = 10_000;

/// A number on the command line.
fn number(line: &str, key: &str) -> u64 {
    let digits = word(line, key).expect("the command line has it");
    digits.parse().expect("a number")
}

/// One unit of work.
fn work() {
    for step in 0..STEPS {
        black_box(step);
    }
}

/// Sleeps until system time is a multiple of `every` seconds, then without the tick that a vCPU starts with; that time.
fn begin(every: u64) -> u64 {
    assert_eq!(timers::stop_periodic(), 0, "a vCPU may do without a tick");
    let period = every * SECOND;
    let start = (clock::now() / period + 1) * period;
    println!("MICRO-BEGINS {}", start / SECOND);
    while clock::now() < start {
        timers::block_for(start.saturating_sub(clock::now()));
    }
    start
}

/// Nanoseconds that the first vCPU has run so far.
fn ran() -> u64 {
    let (result, info) = vcpu::op(VCPUOP_get_runstate_info, 0, &VcpuRunstateInfo::default());
    assert_eq!(result, 0, "a vCPU asks about itself");
    info.time[RUNSTATE_running as usize]
}

/// Works for `seconds`: how much was done, and for how many nanoseconds it ran.
pub fn hog(line: &str) {
    let start = begin(number(line, "every"));
    let end = start + number(line, "seconds") * SECOND;
    let before = ran();
    let mut done = 0_u64;
    while clock::now() < end {
        work();
        done += 1;
    }
    println!("MICRO-WORK {} {done} {}", start / SECOND, ran() - before);
}

/// Units that each vCPU is to do.
static JOB: AtomicU64 = AtomicU64::new(0);

fn job_of_one() {
    for _ in 0..JOB.load(Ordering::SeqCst) {
        work();
    }
}

/// Does a fixed number of `units` of work on each of two vCPUs: how many nanoseconds that took.
pub fn job(line: &str) {
    JOB.store(number(line, "units"), Ordering::SeqCst);
    let start = begin(number(line, "every"));
    assert_eq!(second::start(job_of_one), [0, 0], "a second vCPU");
    job_of_one();
    assert!(second::ended(), "the second vCPU has done its part");
    println!("MICRO-JOB {} {}", start / SECOND, clock::now() - start);
}

/// Most wake-ups that are measured: a page of them.
const SAMPLES: u64 = PAGE / size_of::<u64>() as u64;

/// Sleeps a few milliseconds and works a little, again and again: how late it wakes, in nanoseconds.
pub fn wake(line: &str) {
    let lateness = Page::take();
    // It has a timer of its own until then.
    begin(number(line, "every"));
    let (result, port) = events::virq(xen_abi::xen::VIRQ_TIMER, 0);
    assert_eq!(result, 0, "a timer");
    upcall::set_port_mask(port, 0);
    for sample in 0..SAMPLES {
        work();
        // Not in step with anybody's period.
        let at = clock::now() + 2_000_000 + sample * 7_919 % 1_000_000;
        upcall::hold();
        upcall::fired(port);
        timers::singleshot(at, 0);
        while upcall::fired(port) == 0 {
            timers::block();
            upcall::hold();
            upcall::collect();
        }
        insert(lateness, sample, clock::now().saturating_sub(at));
    }
    for (name, rank) in [
        ("p50", SAMPLES / 2),
        ("p99", SAMPLES * 99 / 100),
        ("max", SAMPLES - 1),
    ] {
        println!("BENCH wake-up, {name} {}", lateness.get::<u64>(rank * 8));
    }
    println!("MICRO-WOKE");
}

/// Puts a value among `count` that are sorted.
fn insert(sorted: &Page, count: u64, value: u64) {
    let mut at = count;
    while at > 0 && sorted.get::<u64>((at - 1) * 8) > value {
        sorted.put(at * 8, &sorted.get::<u64>((at - 1) * 8));
        at -= 1;
    }
    sorted.put(at * 8, &value);
}
