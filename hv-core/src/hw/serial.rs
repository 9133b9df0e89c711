//! The 16550 UART that carries the console (COM1 by default).

use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use super::cpu::{inb, outb};

/// I/O port of the UART in use; 0: none.
static PORT: AtomicU16 = AtomicU16::new(0x3f8);

/// Registers as offsets from the port (16550 data sheet).
const DATA: u16 = 0;
const IER: u16 = 1;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;

/// Sets the UART to 8N1 at `baud` and remembers its port; `baud` 0 leaves the speed as it is.
pub fn init(port: u16, baud: u32) {
    PORT.store(port, Ordering::Relaxed);
    if port == 0 {
        return;
    }
    outb(port + IER, 0);
    if let Some(divisor) = 115_200u32.checked_div(baud) {
        let divisor = divisor.clamp(1, 0xffff) as u16;
        outb(port + LCR, 0x80);
        outb(port + DATA, divisor as u8);
        outb(port + IER, (divisor >> 8) as u8);
    }
    outb(port + LCR, 0x03);
    outb(port + FCR, 0x07);
    outb(port + MCR, 0x0b);
}

/// The UART's first port, 0 where there is none.
pub fn port() -> u16 {
    PORT.load(Ordering::Relaxed)
}

/// Lets the UART interrupt when a byte has come in.
pub fn enable_receive_interrupt() {
    if port() != 0 {
        outb(port() + IER, 1);
    }
}

/// Writes bytes, line feeds with a carriage return before them; gives up on a UART that never drains.
pub fn write(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// The next byte received, if one waits.
pub fn read() -> Option<u8> {
    let port = port();
    if port == 0 {
        return None;
    }
    // All ones: there is no UART at this port.
    let status = inb(port + LSR);
    (status != 0xff && status & 1 != 0).then(|| inb(port + DATA))
}

fn put(byte: u8) {
    let port = port();
    if port == 0 {
        return;
    }
    for _ in 0..100_000 {
        if inb(port + LSR) & 0x20 != 0 {
            outb(port + DATA, byte);
            return;
        }
        core::hint::spin_loop();
    }
    // There is no UART, or nobody takes what it has: do not wait for each byte again.
    PORT.store(0, Ordering::Relaxed);
}

/// Formats straight to the UART and the screen, for the panic path.
pub struct Raw;

impl fmt::Write for Raw {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        write(s.as_bytes());
        super::vga::write(s.as_bytes());
        Ok(())
    }
}
