//! Printing through the hypervisor's console.

use core::fmt::{self, Write};

use xen_abi::hypercall::__HYPERVISOR_console_io;
use xen_abi::xen::CONSOLEIO_write;

use crate::call::hypercall;

/// Collects text and hands it on in whole pieces.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
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
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use println;
