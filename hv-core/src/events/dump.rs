//! A domain's channels in words, for the operator (debug key `e`).

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use super::host::EventHost;
use super::raise::{is_masked, is_pending};
use super::registry::Mode;
use super::status::{Status, describe};

/// Writes every port in use: number, pending/masked, binding, vCPU.
///
/// # Errors
///
/// Those of `out`.
pub fn dump<D: EventHost>(d: &D, out: &mut dyn Write) -> fmt::Result {
    let events = d.events();
    let form = match events.mode() {
        Mode::TwoLevel => "2-level",
        Mode::Fifo => "FIFO",
    };
    writeln!(out, "d{}: event channels, {form}", d.id())?;
    for (index, word) in events.polling.iter().enumerate() {
        let vcpus = word.load(Ordering::Relaxed);
        if vcpus != 0 {
            writeln!(out, "  polling, from vCPU {}: {vcpus:#x}", index * 64)?;
        }
    }
    let known = events.ledger().known_ports();
    for number in 1..known {
        let Some(port) = events.ports.get(number) else {
            continue;
        };
        let state = describe(port);
        if state.status == Status::Closed {
            continue;
        }
        let pending = u8::from(is_pending(d, number).unwrap_or(false));
        let masked = u8::from(is_masked(d, number, port));
        write!(out, "  {number:5} [{pending}/{masked}] v{} ", state.vcpu)?;
        match state.status {
            Status::Closed => {}
            Status::Unbound { remote } => write!(out, "unbound, waits for d{remote}")?,
            Status::Interdomain { remote, port } => write!(out, "to d{remote} port {port}")?,
            Status::Pirq(pirq) => write!(out, "pirq {pirq}")?,
            Status::Virq(virq) => write!(out, "virq {virq}")?,
            Status::Ipi => write!(out, "ipi")?,
        }
        let consumer = port.consumer().map_or("", |_| ", ours");
        writeln!(out, "{consumer}, priority {}", port.target().priority())?;
    }
    Ok(())
}
