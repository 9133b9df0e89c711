//! Printing in whole pieces, on a ring if there is one.

use core::fmt::{self, Write};

use xen_abi::ring::{Producer, Ring};

use crate::memory::Shared;

/// Times that a full ring is looked at before what should go into it is lost: nobody reads it.
const PATIENCE: u32 = 1 << 20;

/// Puts bytes on a console's ring, waiting for room: `notify` tells the reader, `wait` passes the time.
pub fn put(page: &Shared, mut bytes: &[u8], notify: impl Fn(), wait: impl Fn()) {
    let mut ring = Producer::attach(Ring::CONSOLE_OUTPUT, page);
    for _ in 0..PATIENCE {
        let count = ring.put(page, bytes).unwrap_or(0);
        if count != 0 {
            notify();
            bytes = &bytes[count..];
        }
        if bytes.is_empty() {
            return;
        }
        wait();
    }
}

/// Collects text and hands it on in whole pieces.
struct Line {
    bytes: [u8; 256],
    used: usize,
    sink: fn(&[u8]),
}

impl Line {
    fn flush(&mut self) {
        (self.sink)(&self.bytes[..self.used]);
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

/// Prints to `sink`.
pub fn write(text: fmt::Arguments<'_>, sink: fn(&[u8])) {
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
        sink,
    };
    // Our own writer never fails.
    let _ = line.write_fmt(text);
    line.flush();
}
