//! Byte rings between a guest and a daemon: xenstore's (io/xs_wire.h) and the console's (io/console.h).
//!
//! Both indices run freely and wrap at 2^32; their difference is what waits, and an index modulo the ring's
//! size is a place. The peer writes its index whenever it likes and whatever it likes. So each side keeps its
//! own index for itself, never reads it back from the page, reads the peer's once for each call, and
//! refuses one that no honest peer can have written. Whatever the page says, a call touches only the ring's
//! own bytes and its two indices, and at most as many bytes as the caller's slice and the ring have.

use crate::{io_console, io_xs_wire};

/// Access to a ring's page, which the peer changes at the same time.
pub trait RingPage {
    /// Reads the index at this offset; bytes that are read later are at least as new as it (acquire).
    fn index(&self, at: usize) -> u32;
    /// Writes the index at this offset; the peer sees it after all bytes written before (release).
    fn set_index(&self, at: usize, value: u32);
    /// Reads the byte at this offset.
    fn byte(&self, at: usize) -> u8;
    /// Writes the byte at this offset.
    fn set_byte(&self, at: usize, value: u8);
}

/// Where a ring lies in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Offset of its first byte.
    bytes: usize,
    /// Its bytes, a power of two.
    size: u32,
    /// Offset of the consumer's index.
    cons: usize,
    /// Offset of the producer's index.
    prod: usize,
}

impl Ring {
    /// What is typed at a console: the daemon writes (io/console.h).
    pub const CONSOLE_INPUT: Self = Self {
        bytes: io_console::XENCONS_IN,
        size: io_console::XENCONS_IN_SIZE as u32,
        cons: io_console::XENCONS_IN_CONS,
        prod: io_console::XENCONS_IN_PROD,
    };
    /// What a console shows: the guest writes (io/console.h).
    pub const CONSOLE_OUTPUT: Self = Self {
        bytes: io_console::XENCONS_OUT,
        size: io_console::XENCONS_OUT_SIZE as u32,
        cons: io_console::XENCONS_OUT_CONS,
        prod: io_console::XENCONS_OUT_PROD,
    };
    /// What xenstore is asked: the guest writes (io/xs_wire.h).
    pub const XENSTORE_REQUESTS: Self = Self {
        bytes: io_xs_wire::XENSTORE_REQ,
        size: io_xs_wire::XENSTORE_RING_SIZE as u32,
        cons: io_xs_wire::XENSTORE_REQ_CONS,
        prod: io_xs_wire::XENSTORE_REQ_PROD,
    };
    /// What xenstore answers and tells: the daemon writes (io/xs_wire.h).
    pub const XENSTORE_ANSWERS: Self = Self {
        bytes: io_xs_wire::XENSTORE_RSP,
        size: io_xs_wire::XENSTORE_RING_SIZE as u32,
        cons: io_xs_wire::XENSTORE_RSP_CONS,
        prod: io_xs_wire::XENSTORE_RSP_PROD,
    };

    /// Its bytes.
    #[must_use]
    pub const fn size(self) -> u32 {
        self.size
    }

    /// Offset in the page at which an index points.
    const fn place(self, index: u32) -> usize {
        self.bytes + (index & (self.size - 1)) as usize
    }

    /// Bytes between the two indices.
    const fn waiting(self, cons: u32, prod: u32) -> Result<u32, BadIndices> {
        let waiting = prod.wrapping_sub(cons);
        if waiting > self.size {
            return Err(BadIndices { cons, prod });
        }
        Ok(waiting)
    }
}

/// Indices further apart than the ring is long: the peer is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIndices {
    /// The consumer's.
    pub cons: u32,
    /// The producer's.
    pub prod: u32,
}

/// The end of a ring that writes.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    ring: Ring,
    prod: u32,
}

impl Producer {
    /// Goes on where the page says that this side was; the one time that its own index is read.
    #[must_use]
    pub fn attach(ring: Ring, page: &impl RingPage) -> Self {
        let prod = page.index(ring.prod);
        Self { ring, prod }
    }

    /// Bytes that can be written now.
    ///
    /// # Errors
    /// The peer's index is impossible.
    pub fn room(&self, page: &impl RingPage) -> Result<u32, BadIndices> {
        let waiting = self.ring.waiting(page.index(self.ring.cons), self.prod)?;
        Ok(self.ring.size - waiting)
    }

    /// Writes as many of the bytes as there is room for and shows them to the peer; how many.
    ///
    /// # Errors
    /// The peer's index is impossible; nothing is written.
    pub fn put(&mut self, page: &impl RingPage, bytes: &[u8]) -> Result<usize, BadIndices> {
        let count = bytes.len().min(self.room(page)? as usize);
        for byte in &bytes[..count] {
            page.set_byte(self.ring.place(self.prod), *byte);
            self.prod = self.prod.wrapping_add(1);
        }
        page.set_index(self.ring.prod, self.prod);
        Ok(count)
    }
}

/// The end of a ring that reads.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    ring: Ring,
    cons: u32,
}

impl Consumer {
    /// Goes on where the page says that this side was; the one time that its own index is read.
    #[must_use]
    pub fn attach(ring: Ring, page: &impl RingPage) -> Self {
        let cons = page.index(ring.cons);
        Self { ring, cons }
    }

    /// Bytes that can be read now.
    ///
    /// # Errors
    /// The peer's index is impossible.
    pub fn waiting(&self, page: &impl RingPage) -> Result<u32, BadIndices> {
        self.ring.waiting(self.cons, page.index(self.ring.prod))
    }

    /// Reads as many bytes as wait and fit, each once, and gives their room back to the peer; how many.
    ///
    /// # Errors
    /// The peer's index is impossible; nothing is read.
    pub fn take(&mut self, page: &impl RingPage, into: &mut [u8]) -> Result<usize, BadIndices> {
        let count = into.len().min(self.waiting(page)? as usize);
        for byte in &mut into[..count] {
            *byte = page.byte(self.ring.place(self.cons));
            self.cons = self.cons.wrapping_add(1);
        }
        page.set_index(self.ring.cons, self.cons);
        Ok(count)
    }
}
