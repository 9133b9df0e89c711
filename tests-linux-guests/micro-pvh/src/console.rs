//! Printing on the console's ring; without one, at the port that hypervisors keep in their own log.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use micro_base::memory::Shared;
use xen_abi::event_channel::{EVTCHNOP_send, EvtchnSend};
use xen_abi::hvm_op::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
use xen_abi::hypercall::{__HYPERVISOR_event_channel_op, __HYPERVISOR_sched_op};
use xen_abi::sched::SCHEDOP_yield;

use crate::call::{hypercall, send};
use crate::events;
use crate::pages::PAGE;

/// Address of the console's page; zero while there is none.
static RING: AtomicU64 = AtomicU64::new(0);
/// Its event channel.
static PORT: AtomicU64 = AtomicU64::new(0);

/// Finds out where to print; before anything is printed.
pub fn init() {
    PORT.store(
        events::parameter(HVM_PARAM_CONSOLE_EVTCHN).unwrap_or(0),
        Ordering::Relaxed,
    );
    let frame = events::parameter(HVM_PARAM_CONSOLE_PFN).unwrap_or(0);
    RING.store(frame * PAGE, Ordering::Relaxed);
}

/// Frame of the console's page.
pub fn frame() -> u64 {
    RING.load(Ordering::Relaxed) / PAGE
}

/// Its event channel.
pub fn port() -> u32 {
    PORT.load(Ordering::Relaxed) as u32
}

/// Hands bytes on.
fn sink(bytes: &[u8]) {
    let page = RING.load(Ordering::Relaxed);
    if page == 0 {
        for byte in bytes {
            // SAFETY: the port of debug output, which changes nothing.
            unsafe { asm!("out 0xe9, al", in("al") *byte) };
        }
        return;
    }
    let notify = || {
        let port = EvtchnSend { port: port() };
        send(__HYPERVISOR_event_channel_op, EVTCHNOP_send, &port);
    };
    let wait = || {
        hypercall(__HYPERVISOR_sched_op, [SCHEDOP_yield.into(), 0]);
    };
    micro_base::console::put(&Shared(page), bytes, notify, wait);
}

/// Prints; used by `println!`.
pub fn write(text: fmt::Arguments<'_>) {
    micro_base::console::write(text, sink);
}

/// Prints a line.
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use println;
