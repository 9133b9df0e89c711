//! The console: the log ring, the serial line and VGA text, and who gets the input.

use core::fmt::{self, Write};

use hv_core::base::lock::{Mutex, rank};
use hv_core::console::input::{SerialInput, SwitchKey};
use hv_core::console::levels::{LogGates, Severity, Thresholds, write_host};
use hv_core::console::limit::Verdict;
use hv_core::console::ring::LogRing;
use spin::Once;

use super::{clock, serial, vga, watchdog};

/// Bytes of log kept before the heap exists.
const EARLY: usize = 4 << 10;

#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it ends as the small variant"
)]
enum Ring {
    Early(LogRing<[u8; EARLY]>),
    Large(LogRing<alloc::vec::Vec<u8>>),
}

/// What is shared by all who print.
pub struct Console {
    ring: Ring,
    gates: LogGates,
}

static CONSOLE: Once<Mutex<Console>> = Once::new();
static INPUT: Once<Mutex<SerialInput>> = Once::new();

/// The console's state.
pub fn console() -> &'static Mutex<Console> {
    CONSOLE.call_once(|| {
        let ring =
            LogRing::new([0; EARLY]).expect("the early ring has a size that is a power of two");
        Mutex::new(
            rank::CONSOLE,
            Console {
                ring: Ring::Early(ring),
                gates: LogGates::new(Thresholds::HOST, Thresholds::GUEST),
            },
        )
    })
}

/// The serial input's state.
pub fn input() -> &'static Mutex<SerialInput> {
    INPUT.call_once(|| Mutex::new(rank::KEYS, SerialInput::new(Some(SwitchKey::DEFAULT))))
}

impl Console {
    /// Sets which messages are shown.
    pub fn configure(&mut self, own: Thresholds, guests: Thresholds) {
        self.gates = LogGates::new(own, guests);
    }

    /// Moves the ring to the heap with the size wanted, with what it holds.
    pub fn enlarge(&mut self, size: u64) {
        if let Ring::Early(early) = &self.ring
            && let Some(mut large) = LogRing::<alloc::vec::Vec<u8>>::try_on_heap(Some(size))
        {
            large.adopt(early);
            self.ring = Ring::Large(large);
        }
    }

    /// Reads from the log ring.
    pub fn read(
        &mut self,
        request: hv_core::console::ring::ReadRequest,
        out: &mut [u8],
    ) -> hv_core::console::ring::ReadResult {
        match &mut self.ring {
            Ring::Early(r) => r.read(request, out),
            Ring::Large(r) => r.read(request, out),
        }
    }

    /// Text as it is, to all outputs.
    pub fn raw(&mut self, text: &[u8]) {
        match &mut self.ring {
            Ring::Early(r) => r.write(text),
            Ring::Large(r) => r.write(text),
        }
        self.out_only(text);
    }

    /// Text to the outputs but not into the ring (dom0's console).
    pub fn out_only(&mut self, text: &[u8]) {
        watchdog::printing();
        serial::write(text);
        vga::write(text);
    }
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.raw(s.as_bytes());
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut console = console().lock();
        let severity = Severity::from(record.level());
        let verdict = console.gates.admit(*record.args(), severity, clock::now());
        match verdict {
            Verdict::Refuse => {}
            Verdict::Pass { suppressed } => {
                if suppressed != 0 {
                    let _ = write_host(
                        &mut *console,
                        format_args!("{suppressed} messages suppressed"),
                    );
                }
                let _ = write_host(&mut *console, *record.args());
            }
        }
    }

    fn flush(&self) {}
}

/// A line that is shown whatever the levels say: the boot's facts.
pub fn print(args: fmt::Arguments<'_>) {
    let _ = write_host(&mut *console().lock(), args);
}

/// Prints a boot line in all cases.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::hw::console::print(format_args!($($arg)*)) };
}

/// Sends the `log` crate's records here.
pub fn install_logger() {
    // Only a second call can fail, and there is none.
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Debug);
}
