//! Xenstore, as a domU reaches it: messages over the ring that the builder has set up.

use core::fmt;

use xen_abi::errno::Errno;
use xen_abi::io_xs_wire::*;
use xen_abi::ring::{Consumer, Producer, Ring};
use xen_abi::xs_message::{self, BadMessage, Incoming};
use zerocopy::IntoBytes;

use crate::checks::{clock, events, timers, upcall};
use crate::memory;
use micro_base::memory::Shared;

/// No transaction.
pub const NO_TRANSACTION: u32 = 0;
/// Nanoseconds after which an answer will not come any more.
const PATIENCE: u64 = 60_000_000_000;

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The daemon says so.
    Said(Errno),
    /// The daemon says something that is no error of ours.
    Unknown,
    /// What came is no message.
    Nonsense(BadMessage),
    /// Nothing came.
    Silence,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(error) => f.write_str(error.name()),
            Self::Unknown => f.write_str("an unknown error"),
            Self::Nonsense(bad) => bad.fmt(f),
            Self::Silence => f.write_str("no answer"),
        }
    }
}

impl From<BadMessage> for Refused {
    fn from(bad: BadMessage) -> Self {
        Self::Nonsense(bad)
    }
}

/// A node that changed, as a watch tells.
#[derive(Clone, Copy)]
pub struct Event {
    bytes: [u8; 128],
    used: usize,
}

impl Event {
    /// The path and the token of the watch.
    pub fn strings(&self) -> (&[u8], &[u8]) {
        let mut strings = xs_message::strings(&self.bytes[..self.used]);
        let mut next = || strings.next().unwrap_or_default();
        (next(), next())
    }
}

/// The connection to the daemon.
pub struct Store {
    page: Shared,
    port: u32,
    requests: Producer,
    answers: Consumer,
    incoming: Incoming,
    payload: [u8; XENSTORE_PAYLOAD_MAX],
    /// Number of the last request.
    last: u32,
    /// Events that nobody has asked for yet, the oldest first; more are lost.
    events: [Option<Event>; 8],
}

impl Store {
    /// Goes on with the connection where the page says that it stands; there must be nothing under way.
    pub fn attach() -> Self {
        let info = memory::start_info();
        let page = Shared(memory::address_of_frame(info.store_mfn));
        Self {
            page,
            port: info.store_evtchn,
            requests: Producer::attach(Ring::XENSTORE_REQUESTS, &page),
            answers: Consumer::attach(Ring::XENSTORE_ANSWERS, &page),
            incoming: Incoming::default(),
            payload: [0; XENSTORE_PAYLOAD_MAX],
            last: 0,
            events: [None; 8],
        }
    }

    /// The page with the rings.
    pub fn page(&self) -> Shared {
        self.page
    }

    /// One request whose payload is these parts, one after the other; the answer's payload.
    pub fn ask(&mut self, kind: u32, tx: u32, parts: &[&[u8]]) -> Result<&[u8], Refused> {
        let end = clock::now() + PATIENCE;
        self.last += 1;
        let length = parts.iter().map(|part| part.len()).sum();
        let request = xs_message::request(kind, self.last, tx, length)?;
        self.send(request.as_bytes(), end)?;
        for part in parts {
            self.send(part, end)?;
        }
        loop {
            let answer = self.receive(end)?;
            if xs_message::answers(&answer, &request) {
                let payload = &self.payload[..answer.len as usize];
                return match answer.r#type {
                    XS_ERROR => Err(error(payload)),
                    _ => Ok(payload),
                };
            }
        }
    }

    /// Puts all these bytes on the ring.
    fn send(&mut self, mut bytes: &[u8], end: u64) -> Result<(), Refused> {
        while !bytes.is_empty() {
            let count = self.requests.put(&self.page, bytes);
            bytes = &bytes[count.map_err(BadMessage::from)?..];
            events::send(self.port);
            if !bytes.is_empty() {
                self.wait(end)?;
            }
        }
        Ok(())
    }

    /// The next message; events are kept as well.
    fn receive(&mut self, end: u64) -> Result<XsdSockmsg, Refused> {
        loop {
            let waiting = self.answers.waiting(&self.page);
            let makes_room = waiting.map_err(BadMessage::from)? != 0;
            let read = self
                .incoming
                .read(&mut self.answers, &self.page, &mut self.payload)?;
            if makes_room {
                events::send(self.port);
            }
            if let Some(header) = read {
                if header.r#type == XS_WATCH_EVENT {
                    self.note(header.len as usize);
                }
                return Ok(header);
            }
            self.wait(end)?;
        }
    }

    /// Gives the daemon time to do its part. Costs nobody anything meanwhile: there may be hundreds who wait.
    fn wait(&self, end: u64) -> Result<(), Refused> {
        if clock::now() > end {
            return Err(Refused::Silence);
        }
        // An event since the rings were looked at ends this at once.
        timers::poll_port(self.port, end);
        upcall::clear_pending(self.port);
        Ok(())
    }

    fn note(&mut self, length: usize) {
        let mut event = Event {
            bytes: [0; 128],
            used: length.min(128),
        };
        let used = event.used;
        event.bytes[..used].copy_from_slice(&self.payload[..used]);
        if let Some(free) = self.events.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(event);
        }
    }

    /// The oldest event; waits until there is one.
    pub fn event(&mut self) -> Result<Event, Refused> {
        let end = clock::now() + PATIENCE;
        loop {
            if let Some(event) = self.events[0].take() {
                self.events.rotate_left(1);
                return Ok(event);
            }
            self.receive(end)?;
        }
    }

    /// The value of a node.
    pub fn read(&mut self, tx: u32, path: &str) -> Result<&[u8], Refused> {
        self.ask(XS_READ, tx, &[path.as_bytes(), &[0]])
    }

    /// Makes or changes a node.
    pub fn write(&mut self, tx: u32, path: &str, value: &[u8]) -> Result<(), Refused> {
        self.ask(XS_WRITE, tx, &[path.as_bytes(), &[0], value])
            .map(drop)
    }

    /// Removes a node with all below it.
    pub fn remove(&mut self, tx: u32, path: &str) -> Result<(), Refused> {
        self.ask(XS_RM, tx, &[path.as_bytes(), &[0]]).map(drop)
    }

    /// Begins a transaction; its number.
    pub fn begin(&mut self) -> Result<u32, Refused> {
        let answer = self.ask(XS_TRANSACTION_START, NO_TRANSACTION, &[&[0]])?;
        xs_message::number(answer).ok_or(Refused::Unknown)
    }

    /// Ends a transaction, with `T` to do and with `F` to forget it.
    pub fn end(&mut self, tx: u32, how: &str) -> Result<(), Refused> {
        self.ask(XS_TRANSACTION_END, tx, &[how.as_bytes(), &[0]])
            .map(drop)
    }

    /// Our domain's number.
    pub fn domain(&mut self) -> Result<u16, Refused> {
        let answer = self.read(NO_TRANSACTION, "domid")?;
        let number = xs_message::number(answer).and_then(|number| u16::try_from(number).ok());
        number.ok_or(Refused::Unknown)
    }
}

/// The error that an answer names.
fn error(payload: &[u8]) -> Refused {
    let name = xs_message::strings(payload).next().unwrap_or_default();
    let known = Errno::ALL.iter().find(|e| e.name().as_bytes() == name);
    known.map_or(Refused::Unknown, |error| Refused::Said(*error))
}
