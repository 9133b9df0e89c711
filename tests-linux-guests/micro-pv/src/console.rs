//! Printing: as dom0 through the hypervisor's console, as a domU on the ring of its own.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::event_channel::{EVTCHNOP_send, EvtchnSend};
use xen_abi::hypercall::{
    __HYPERVISOR_console_io, __HYPERVISOR_event_channel_op, __HYPERVISOR_sched_op,
};
use xen_abi::ring::{Producer, Ring};
use xen_abi::sched::SCHEDOP_yield;
use xen_abi::start_info::StartInfoConsoleDomu;
use xen_abi::xen::CONSOLEIO_write;
use zerocopy::{FromBytes, IntoBytes};

use crate::call::hypercall;
use crate::kernel::{self, Role};
use crate::memory;
use crate::shared::Shared;

/// Address of the console's page; zero while there is none.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// Its event channel.
static PORT: AtomicU64 = AtomicU64::new(0);

/// Times that a full ring is looked at before what should go into it is lost: nobody reads it.
const PATIENCE: u32 = 1 << 20;

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

/// Puts bytes on the ring, waiting for room.
fn put(mut bytes: &[u8]) {
    let page = page();
    let mut ring = Producer::attach(Ring::CONSOLE_OUTPUT, &page);
    for _ in 0..PATIENCE {
        let count = ring.put(&page, bytes).unwrap_or(0);
        if count != 0 {
            // Not on a page of the pool, which may be empty when this is to be told.
            let send = EvtchnSend { port: port() };
            let args = [EVTCHNOP_send.into(), &raw const send as u64];
            hypercall(__HYPERVISOR_event_channel_op, args);
            bytes = &bytes[count..];
        }
        if bytes.is_empty() {
            return;
        }
        hypercall(__HYPERVISOR_sched_op, [SCHEDOP_yield.into(), 0]);
    }
}

/// Collects text and hands it on in whole pieces.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        if PAGE.load(Ordering::Relaxed) != 0 {
            put(&self.bytes[..self.used]);
            self.used = 0;
            return;
        }
        // A console that refuses leaves no way to say so.
        let _ = hypercall(
            __HYPERVISOR_console_io,
            [
                CONSOLEIO_write.into(),
                self.used as u64,
                self.bytes.as_ptr() as u64,
            ],
        );
        self.used = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Prints; used by `print!`.
pub fn write(text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
    };
    // Our own writer never fails.
    let _ = line.write_fmt(text);
    line.flush();
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub use crate::println;
