//! Printing: as dom0 through the hypervisor's console, as a domU on the ring of its own.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use micro_base::memory::Shared;
use xen_abi::event_channel::{EVTCHNOP_send, EvtchnSend};
use xen_abi::hypercall::{
    __HYPERVISOR_console_io, __HYPERVISOR_event_channel_op, __HYPERVISOR_sched_op,
};
use xen_abi::sched::SCHEDOP_yield;
use xen_abi::start_info::StartInfoConsoleDomu;
use xen_abi::xen::CONSOLEIO_write;
use zerocopy::{FromBytes, IntoBytes};

use crate::call::hypercall;
use crate::kernel::{self, Role};
use crate::memory;

/// Address of the console's page; zero while there is none.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// Its event channel.
static PORT: AtomicU64 = AtomicU64::new(0);

/// Finds out where to print; before anything is printed.
pub fn init() {
    let info = memory::start_info();
    if kernel::role() == Role::Dom0 {
        return;
    }
    if let Ok((console, _)) = StartInfoConsoleDomu::read_from_prefix(info.console.as_bytes()) {
        PORT.store(console.evtchn.into(), Ordering::Relaxed);
        PAGE.store(memory::address_of_frame(console.mfn), Ordering::Relaxed);
    }
}

/// The event channel of a domU's console.
pub fn port() -> u32 {
    PORT.load(Ordering::Relaxed) as u32
}

/// The page of a domU's console.
pub fn page() -> Shared {
    Shared(PAGE.load(Ordering::Relaxed))
}

/// Hands bytes on.
fn sink(bytes: &[u8]) {
    if PAGE.load(Ordering::Relaxed) != 0 {
        // Not on a page of the pool, which may be empty when this is to be told.
        let send = EvtchnSend { port: port() };
        let args = [EVTCHNOP_send.into(), &raw const send as u64];
        let notify = || {
            hypercall(__HYPERVISOR_event_channel_op, args);
        };
        let wait = || {
            hypercall(__HYPERVISOR_sched_op, [SCHEDOP_yield.into(), 0]);
        };
        return micro_base::console::put(&page(), bytes, notify, wait);
    }
    let args = [
        CONSOLEIO_write.into(),
        bytes.len() as u64,
        bytes.as_ptr() as u64,
    ];
    // A console that refuses leaves no way to say so.
    let _ = hypercall(__HYPERVISOR_console_io, args);
}

/// Prints; used by `print!`.
pub fn write(text: fmt::Arguments<'_>) {
    micro_base::console::write(text, sink);
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub use crate::println;
