//! Xenstore's messages as they come through a ring (io/xs_wire.h): a header, then its payload.

use zerocopy::IntoBytes;

use crate::io_xs_wire::{
    XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_TYPE_COUNT, XS_WATCH_EVENT, XsdSockmsg,
};
use crate::ring::{BadIndices, Consumer, RingPage};

/// What cannot be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMessage {
    /// The ring's indices are impossible.
    Indices(BadIndices),
    /// The payload is longer than any may be.
    Length(u32),
    /// There is no such type.
    Type(u32),
}

impl From<BadIndices> for BadMessage {
    fn from(bad: BadIndices) -> Self {
        Self::Indices(bad)
    }
}

/// The header of a request.
///
/// # Errors
/// [`BadMessage::Length`] when the payload is too long to be sent.
pub fn request(r#type: u32, req_id: u32, tx_id: u32, len: usize) -> Result<XsdSockmsg, BadMessage> {
    let short = u32::try_from(len).unwrap_or(u32::MAX);
    if len > XENSTORE_PAYLOAD_MAX {
        return Err(BadMessage::Length(short));
    }
    Ok(XsdSockmsg {
        r#type,
        req_id,
        tx_id,
        len: short,
    })
}

/// Whether a message answers the request, be it with an error; what else comes is an event of a watch.
#[must_use]
pub fn answers(answer: &XsdSockmsg, request: &XsdSockmsg) -> bool {
    answer.r#type != XS_WATCH_EVENT
        && answer.req_id == request.req_id
        && (answer.r#type == request.r#type || answer.r#type == XS_ERROR)
}

/// A message that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming {
    header: [u8; size_of::<XsdSockmsg>()],
    /// Bytes of header and payload that have come.
    got: usize,
}

impl Incoming {
    /// Reads what is there. A whole message gives its header, and its payload is the beginning of `payload`,
    /// which must be the same slice at each call for one message.
    ///
    /// # Errors
    /// What came cannot be a message: the connection is of no use any more.
    pub fn read(
        &mut self,
        ring: &mut Consumer,
        page: &impl RingPage,
        payload: &mut [u8; XENSTORE_PAYLOAD_MAX],
    ) -> Result<Option<XsdSockmsg>, BadMessage> {
        const HEADER: usize = size_of::<XsdSockmsg>();
        if self.got < HEADER {
            self.got += ring.take(page, &mut self.header[self.got..])?;
            if self.got < HEADER {
                return Ok(None);
            }
        }
        let mut header = XsdSockmsg::default();
        header.as_mut_bytes().copy_from_slice(&self.header);
        if header.r#type >= XS_TYPE_COUNT {
            return Err(BadMessage::Type(header.r#type));
        }
        let len = header.len as usize;
        let rest = payload
            .get_mut(self.got - HEADER..len)
            .ok_or(BadMessage::Length(header.len))?;
        self.got += ring.take(page, rest)?;
        if self.got < HEADER + len {
            return Ok(None);
        }
        *self = Self::default();
        Ok(Some(header))
    }
}

/// The number that stands in an answer, as that of a new transaction does: decimal, ended by a zero byte.
#[must_use]
pub fn number(payload: &[u8]) -> Option<u32> {
    let digits = payload.strip_suffix(&[0]).unwrap_or(payload);
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The zero-terminated strings of a payload; a last one without its zero counts too.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = payload.strip_suffix(&[0]).unwrap_or(payload);
    let count = if payload.is_empty() { 0 } else { usize::MAX };
    whole.split(|byte| *byte == 0).take(count)
}
