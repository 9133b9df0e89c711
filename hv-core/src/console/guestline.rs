//! Text that unprivileged domains print with `CONSOLEIO_write`.
//!
//! It is hostile: only printable ASCII and tabs pass (an escape sequence could reprogram the
//! operator's terminal), a line is bounded, and each domain may print at a limited rate only.

use super::levels::write_guest;
use super::limit::{TokenBucket, Verdict};
use crate::base::{DomId, Nanos};
use arrayvec::ArrayVec;
use core::fmt::{self, Write};

/// Longest line; longer ones are broken.
pub const LINE_SIZE: usize = 200;
/// Lines that a domain may print in one burst: about a kernel's boot messages.
const BURST: u32 = 500;
/// Time in which a domain earns one more line.
const INTERVAL: Nanos = 50_000_000;

/// One domain's unfinished line and its rate limit.
#[derive(Debug)]
pub struct GuestConsole {
    dom: DomId,
    /// Printable ASCII and tabs only.
    line: ArrayVec<u8, LINE_SIZE>,
    bucket: TokenBucket,
}

impl GuestConsole {
    /// For domain `dom`, with the usual limit: 500 lines, then 20 a second.
    #[must_use]
    pub const fn new(dom: DomId) -> Self {
        Self::with_limit(dom, TokenBucket::new(BURST, INTERVAL))
    }

    /// For domain `dom`, with a rate limit of the caller's.
    #[must_use]
    pub const fn with_limit(dom: DomId, bucket: TokenBucket) -> Self {
        Self {
            dom,
            line: ArrayVec::new_const(),
            bucket,
        }
    }

    /// Takes text and writes each line it completes to `out`, with the domain's prefix.
    ///
    /// Work and output are proportional to `text`, which the caller bounds. Not to be called for
    /// lines that the guest log level hides: those are not to use up the limit.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, text: &[u8], now: Nanos, out: &mut dyn Write) -> fmt::Result {
        for &byte in text {
            match byte {
                b'\n' => self.flush(now, out)?,
                b'\t' | b' '..=b'~' => {
                    if self.line.is_full() {
                        self.flush(now, out)?;
                    }
                    self.line.push(byte);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what is there as a line, even when it is empty.
    fn flush(&mut self, now: Nanos, out: &mut dyn Write) -> fmt::Result {
        let line = core::mem::take(&mut self.line);
        let Verdict::Pass { suppressed } = self.bucket.take(now) else {
            return Ok(());
        };
        if suppressed > 0 {
            write_guest(out, self.dom, format_args!("{suppressed} lines suppressed"))?;
        }
        // Only ASCII was stored, so this never falls back to the empty text.
        let text = core::str::from_utf8(&line).unwrap_or_default();
        write_guest(out, self.dom, format_args!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_assembled_across_calls() {
        let (mut c, mut out) = (GuestConsole::new(3), String::new());
        c.write(b"Linux ver", 0, &mut out).unwrap();
        assert_eq!(out, "");
        c.write(b"sion\nnext\n\npart", 0, &mut out).unwrap();
        assert_eq!(out, "(d3) Linux version\n(d3) next\n(d3) \n");
    }

    #[test]
    fn control_characters_are_dropped() {
        let (mut c, mut out) = (GuestConsole::new(1), String::new());
        c.write(b"a\x1b[2J\x07\tb\r\xff\0\x7f\n", 0, &mut out)
            .unwrap();
        assert_eq!(out, "(d1) a[2J\tb\n");
    }

    #[test]
    fn long_lines_are_broken() {
        let (mut c, mut out) = (GuestConsole::new(1), String::new());
        c.write(&[b'x'; LINE_SIZE + 1], 0, &mut out).unwrap();
        c.write(b"\n", 0, &mut out).unwrap();
        let lengths: Vec<usize> = out.lines().map(str::len).collect();
        assert_eq!(lengths, [5 + LINE_SIZE, 5 + 1]);
    }

    #[test]
    fn flood_is_cut_and_reported() {
        let mut c = GuestConsole::with_limit(2, TokenBucket::new(2, 100));
        let mut out = String::new();
        c.write(b"1\n2\n3\n4\n5\n", 0, &mut out).unwrap();
        assert_eq!(out, "(d2) 1\n(d2) 2\n");
        out.clear();
        c.write(b"6\n", 100, &mut out).unwrap();
        assert_eq!(out, "(d2) 3 lines suppressed\n(d2) 6\n");
    }
}
