//! A PV domU of 4 MiB: it prints on its console, talks to xenstore and powers off.
//!
//! `act=NAME` on its command line chooses what it does: `store` (the default) checks the ring to xenstore,
//! `hello` only prints a line, `wait` does so and then sleeps until xenstore's `control/shutdown` says what to do,
//! `work` never ends: the second vCPU always runs, the first says how often it has woken up; nor does `flicker`: the
//! second goes down again and again, and the first has it up again,
//! `lend` grants a page to dom0 and leaves it so, `measure` measures calls with the help of another domain that does
//! `answer`, and `hog`, `job` and `wake` tell what the scheduler gives them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use micro_pv::checks::{clock, events, granted, second, timers, vcpu, xenstore};
#[cfg(target_os = "none")]
use micro_pv::{console::println, kernel, measure, memory::Page, report, shares, store::Store};
#[cfg(target_os = "none")]
use xen_abi::vcpu::VCPUOP_up;

/// What this kernel does.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
fn micro_program(line: &str) {
    match kernel::word(line, "act").unwrap_or("store") {
        "store" => {
            println!("REPORT-BEGIN");
            report::enter(&"xenstore");
            xenstore::check();
            report::finish();
        }
        "hello" => println!("MICRO-HELLO"),
        "wait" => {
            println!("MICRO-WAITS");
            let asked = xenstore::wait_for_shutdown(&mut Store::attach());
            println!("MICRO-ASKED {asked:?}");
        }
        "work" => {
            second::start(|| {
                loop {
                    core::hint::spin_loop();
                }
            });
            // Nobody sends to it.
            let (_, port) = events::ipi(0);
            for round in 1_u64.. {
                println!("MICRO-WORKS {round}");
                let end = clock::now() + 100_000_000;
                while clock::now() < end {
                    timers::poll_port(port, end);
                }
            }
        }
        "flicker" => {
            second::start(|| {});
            let (_, port) = events::ipi(0);
            println!("MICRO-FLICKERS");
            loop {
                timers::poll_port(port, clock::now() + 1_000_000);
                vcpu::raw(VCPUOP_up, 1, 0);
            }
        }
        "lend" => {
            let page = Page::take();
            page.set_word(0, 0x1e27);
            println!("MICRO-LENDS {}", granted::lend_to_dom0(page));
        }
        "measure" => measure::run(),
        "answer" => measure::answer(),
        "hog" => shares::hog(line),
        "job" => shares::job(line),
        "wake" => shares::wake(line),
        other => println!("MICRO-RESULT no act {other}"),
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
