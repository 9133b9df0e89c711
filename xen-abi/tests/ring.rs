//! Rings with a peer that is honest, and with one that writes anything at any time.

use std::cell::{Cell, RefCell};

use proptest::collection::vec;
use proptest::prelude::*;
use xen_abi::io_xs_wire::{XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_READ, XS_WATCH_EVENT, XsdSockmsg};
use xen_abi::ring::{Consumer, Producer, Ring, RingPage};
use xen_abi::xs_message::{self, BadMessage, Incoming};
use zerocopy::IntoBytes;

/// A page that nobody else writes.
struct Honest(RefCell<[u8; 4096]>);

impl Honest {
    fn new() -> Self {
        Self(RefCell::new([0; 4096]))
    }
}

impl RingPage for Honest {
    fn index(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0.borrow()[at..at + 4].try_into().unwrap())
    }

    fn set_index(&self, at: usize, value: u32) {
        self.0.borrow_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.borrow()[at]
    }

    fn set_byte(&self, at: usize, value: u8) {
        self.0.borrow_mut()[at] = value;
    }
}

/// A page in which each read of an index finds something else, and which knows what may be touched.
struct Hostile {
    ring: (usize, usize),
    indices: [usize; 2],
    answers: Vec<u32>,
    asked: Cell<usize>,
    bytes: Cell<usize>,
}

impl Hostile {
    fn touch(&self, at: usize) {
        let (from, size) = self.ring;
        assert!(at >= from && at < from + size, "byte {at}");
        self.bytes.set(self.bytes.get() + 1);
    }
}

impl RingPage for Hostile {
    fn index(&self, at: usize) -> u32 {
        assert!(self.indices.contains(&at), "index at {at}");
        let asked = self.asked.replace(self.asked.get() + 1);
        self.answers[asked % self.answers.len()]
    }

    fn set_index(&self, at: usize, _: u32) {
        assert!(self.indices.contains(&at), "index at {at}");
    }

    fn byte(&self, at: usize) -> u8 {
        self.touch(at);
        self.asked.get() as u8
    }

    fn set_byte(&self, at: usize, _: u8) {
        self.touch(at);
    }
}

/// The four rings: where their bytes and their indices lie by the headers.
const RINGS: [(Ring, (usize, usize), [usize; 2]); 4] = [
    (Ring::CONSOLE_INPUT, (0, 1024), [3072, 3076]),
    (Ring::CONSOLE_OUTPUT, (1024, 2048), [3080, 3084]),
    (Ring::XENSTORE_REQUESTS, (0, 1024), [2048, 2052]),
    (Ring::XENSTORE_ANSWERS, (1024, 1024), [2056, 2060]),
];

/// Indices of a hostile peer: anything, and what is nearly right.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..4_u32,
        1020..1030_u32,
        2040..2060_u32,
        u32::MAX - 2048..=u32::MAX
    ]
}

proptest! {
    #[test]
    fn a_hostile_peer_leads_nowhere(
        which in 0..4_usize,
        answers in vec(index(), 1..12),
        lengths in vec(0..6000_usize, 1..8),
    ) {
        let (ring, bytes, indices) = RINGS[which];
        let page = Hostile { ring: bytes, indices, answers, asked: Cell::new(0), bytes: Cell::new(0) };
        let mut producer = Producer::attach(ring, &page);
        let mut consumer = Consumer::attach(ring, &page);
        for length in lengths {
            let mut buffer = vec![0; length];
            let asked = page.asked.get();
            let put = producer.put(&page, &buffer);
            let took = consumer.take(&page, &mut buffer);
            prop_assert_eq!(page.asked.get() - asked, 2, "each reads the peer's index once");
            let most = length.min(bytes.1);
            let done: Vec<_> = [put, took].into_iter().flatten().collect();
            prop_assert!(done.iter().all(|count| *count <= most));
            prop_assert_eq!(page.bytes.replace(0), done.iter().sum::<usize>());
        }
    }

    #[test]
    fn a_hostile_xenstore_ends_or_waits(answers in vec(index(), 1..12), calls in 1..50_usize) {
        let (ring, bytes, indices) = RINGS[3];
        let page = Hostile { ring: bytes, indices, answers, asked: Cell::new(0), bytes: Cell::new(0) };
        let mut consumer = Consumer::attach(ring, &page);
        let mut incoming = Incoming::default();
        let mut payload = [0; XENSTORE_PAYLOAD_MAX];
        for _ in 0..calls {
            match incoming.read(&mut consumer, &page, &mut payload) {
                Ok(None) => {}
                Ok(Some(header)) => prop_assert!(header.len as usize <= XENSTORE_PAYLOAD_MAX),
                Err(_) => break,
            }
        }
        prop_assert!(page.bytes.get() <= 2 * 1024 * calls);
    }

    #[test]
    fn what_is_put_is_taken(
        start in index(),
        which in 0..4_usize,
        steps in vec((0..3000_usize, 0..3000_usize), 1..20),
    ) {
        let (ring, _, indices) = RINGS[which];
        let page = Honest::new();
        for at in indices {
            page.set_index(at, start);
        }
        let mut producer = Producer::attach(ring, &page);
        let mut consumer = Consumer::attach(ring, &page);
        let (mut sent, mut come) = (0_usize, 0_usize);
        let text = |at: usize| (at * 7 + at / 251) as u8;
        for (put, take) in steps {
            let bytes: Vec<_> = (sent..sent + put).map(text).collect();
            let room = producer.room(&page).unwrap() as usize;
            prop_assert_eq!(room, ring.size() as usize - (sent - come));
            let count = producer.put(&page, &bytes).unwrap();
            prop_assert_eq!(count, put.min(room));
            sent += count;
            let mut bytes = vec![0; take];
            let count = consumer.take(&page, &mut bytes).unwrap();
            prop_assert_eq!(count, take.min(sent - come));
            prop_assert!(bytes[..count].iter().enumerate().all(|(i, b)| *b == text(come + i)));
            come += count;
        }
    }

    #[test]
    fn messages_come_whole_in_whatever_pieces(
        lengths in vec(0..=XENSTORE_PAYLOAD_MAX, 1..5),
        pieces in vec(1..1500_usize, 1..6),
    ) {
        let page = Honest::new();
        let mut producer = Producer::attach(Ring::XENSTORE_ANSWERS, &page);
        let mut consumer = Consumer::attach(Ring::XENSTORE_ANSWERS, &page);
        let mut stream = Vec::new();
        for (id, &length) in (1..).zip(&lengths) {
            stream.extend_from_slice(xs_message::request(XS_READ, id, 0, length).unwrap().as_bytes());
            stream.extend((0..length).map(|at| at as u8 ^ id as u8));
        }
        let mut incoming = Incoming::default();
        let mut payload = [0; XENSTORE_PAYLOAD_MAX];
        let mut come = Vec::new();
        let mut pieces = pieces.iter().cycle();
        let mut sent = 0;
        while come.len() < lengths.len() {
            let end = stream.len().min(sent + pieces.next().unwrap());
            sent += producer.put(&page, &stream[sent..end]).unwrap();
            while let Some(header) = incoming.read(&mut consumer, &page, &mut payload).unwrap() {
                let length = header.len as usize;
                let right = |(at, byte): (usize, &u8)| *byte == at as u8 ^ header.req_id as u8;
                prop_assert!(payload[..length].iter().enumerate().all(right));
                come.push(length);
            }
        }
        prop_assert_eq!(come, lengths);
    }
}

/// What [`Incoming`] makes of these bytes.
fn read(bytes: &[u8]) -> Result<Option<XsdSockmsg>, BadMessage> {
    let page = Honest::new();
    let mut producer = Producer::attach(Ring::XENSTORE_ANSWERS, &page);
    producer.put(&page, bytes).unwrap();
    let mut consumer = Consumer::attach(Ring::XENSTORE_ANSWERS, &page);
    Incoming::default().read(&mut consumer, &page, &mut [0; XENSTORE_PAYLOAD_MAX])
}

#[test]
fn what_cannot_be_a_message_is_refused() {
    let good = XsdSockmsg {
        r#type: XS_READ,
        req_id: 1,
        tx_id: 0,
        len: 4096,
    };
    assert_eq!(read(good.as_bytes()), Ok(None), "its payload is to come");
    let empty = XsdSockmsg { len: 0, ..good };
    assert_eq!(read(empty.as_bytes()), Ok(Some(empty)));
    for len in [4097, 0x8000_0000, u32::MAX] {
        let long = XsdSockmsg { len, ..good };
        assert_eq!(read(long.as_bytes()), Err(BadMessage::Length(len)));
        let request = xs_message::request(XS_READ, 1, 0, len as usize);
        assert_eq!(request, Err(BadMessage::Length(len)));
    }
    for kind in [23, 0xffff, u32::MAX] {
        let unknown = XsdSockmsg {
            r#type: kind,
            ..good
        };
        assert_eq!(read(unknown.as_bytes()), Err(BadMessage::Type(kind)));
    }
}

#[test]
fn an_answer_has_the_requests_number_and_its_type_or_that_of_errors() {
    let request = xs_message::request(XS_READ, 5, 0, 0).unwrap();
    let with = |r#type, req_id| XsdSockmsg {
        r#type,
        req_id,
        ..request
    };
    assert!(xs_message::answers(&request, &request));
    assert!(xs_message::answers(&with(XS_ERROR, 5), &request));
    assert!(!xs_message::answers(&with(XS_WATCH_EVENT, 5), &request));
    assert!(!xs_message::answers(&with(XS_READ, 6), &request));
    assert!(!xs_message::answers(&with(XS_READ + 1, 5), &request));
}

#[test]
fn payloads_are_strings_with_zeros() {
    let strings = |bytes| xs_message::strings(bytes).collect::<Vec<_>>();
    assert_eq!(strings(b"a\0bc\0\0"), [&b"a"[..], b"bc", b""]);
    assert_eq!(strings(b"a\0b"), [b"a", b"b"]);
    assert_eq!(strings(b""), Vec::<&[u8]>::new());
    assert_eq!(xs_message::number(b"17\0"), Some(17));
    assert_eq!(xs_message::number(b"17"), Some(17));
    for bad in [&b""[..], b"\0", b"-1\0", b"4294967296\0", b"x\0", b"\xff\0"] {
        assert_eq!(xs_message::number(bad), None);
    }
}
