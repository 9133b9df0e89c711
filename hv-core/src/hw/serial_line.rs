//! The serial line's input, and reports that interrupt handlers left.

use core::sync::atomic::Ordering;

use hv_core::console::{InputEffect, input::Effects};
use hv_core::domain::Domain;
use hv_core::events;
use hv_core::hypercall::debugkeys;
use xen_abi::xen::VIRQ_CONSOLE;

use super::host::HV;
use super::{console, mce, nmi, percpu, serial};

/// Takes what has come in and gives it to whom it belongs.
pub fn poll() {
    while let Some(effects) = receive() {
        for effect in effects {
            enact(effect);
        }
    }
}

/// The next byte. It leaves the UART under the lock of the ring: another CPU polls too, and keys must not overtake each other.
fn receive() -> Option<Effects> {
    let mut input = console::input().lock();
    serial::read().map(|byte| input.receive(byte))
}

fn enact(effect: InputEffect) {
    let Some(hv) = HV.get() else { return };
    match effect {
        InputEffect::RaiseVirqConsole => {
            if let Some(dom0) = hv.control_domain() {
                let dom0: &Domain = &dom0;
                events::raise_global_virq(dom0, VIRQ_CONSOLE);
            }
        }
        InputEffect::DebugKey(key) => debugkeys::press(hv, key),
        InputEffect::FocusMoved(_) => {
            let banner = console::input().lock().banner();
            console::print(format_args!("{banner}"));
        }
    }
}

/// Says what interrupt handlers could only note.
pub fn reports() {
    let remote = &percpu::this().remote;
    let errors = remote.apic_errors.swap(0, Ordering::Relaxed);
    if errors != 0 {
        log::warn!("local APIC error {errors:#x}");
    }
    nmi::report();
    mce::report();
    poll();
}

/// Registers as a line of text, for the debug key.
pub fn registers(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    for cpu in percpu::online() {
        let Some(remote) = percpu::remote(cpu) else {
            continue;
        };
        writeln!(
            out,
            "CPU{cpu}: idle {}, softirq {:#x}, flushed at {}",
            remote.idle.load(Ordering::Relaxed),
            remote.softirq.load(Ordering::Relaxed),
            remote.flushed_at.load(Ordering::Relaxed)
        )?;
    }
    let (exits, roots, flushes) = super::context::counts();
    writeln!(
        out,
        "this CPU: {exits} guest entries, {roots} CR3 loads, {flushes} full TLB flushes"
    )?;
    let Some((runs, accesses)) = super::vmx::counts() else {
        return Ok(());
    };
    writeln!(
        out,
        "this CPU: {runs} runs of VT-x guests, {accesses} VMREADs and VMWRITEs"
    )
}
