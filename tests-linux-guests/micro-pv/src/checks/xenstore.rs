//! Xenstore over the ring: what a domU may do with the stock daemons, C and OCaml.

use xen_abi::errno::Errno::*;
use xen_abi::io_xs_wire::*;
use xen_abi::xs_message::{self, BadMessage};

use crate::report::{holds, same};
use crate::store::{NO_TRANSACTION as NONE, Refused, Store};

/// A node that the toolstack makes for what a guest wants to tell, and below it what is ours.
const PLACE: &str = "data/micro";
/// See [`PLACE`].
const NODE: &str = "data/micro/node";

/// All of it.
pub fn check() {
    let mut store = Store::attach();
    let domain = store.domain();
    holds(
        "our number",
        domain.is_ok_and(|id| (1..0x7ff0).contains(&id)),
        format_args!("{domain:?}"),
    );
    nodes(&mut store);
    large(&mut store);
    watches(&mut store);
    transactions(&mut store);
    refused(&mut store);
    same("remove our place", store.remove(NONE, PLACE), Ok(()));
    same(
        "read there",
        read(&mut store, NODE),
        Err(Refused::Said(ENOENT)),
    );
}

/// A value of at most eight bytes.
fn read(store: &mut Store, path: &str) -> Result<u64, Refused> {
    read_in(store, NONE, path)
}

fn read_in(store: &mut Store, tx: u32, path: &str) -> Result<u64, Refused> {
    let value = store.read(tx, path)?;
    Ok(value
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn children(store: &mut Store, path: &str) -> Result<usize, Refused> {
    let answer = store.ask(XS_DIRECTORY, NONE, &[path.as_bytes(), &[0]])?;
    Ok(xs_message::strings(answer)
        .filter(|s| !s.is_empty())
        .count())
}

fn nodes(store: &mut Store) {
    same(
        "read what is not there",
        read(store, NODE),
        Err(Refused::Said(ENOENT)),
    );
    same("write", store.write(NONE, NODE, b"one"), Ok(()));
    same("read", read(store, NODE), Ok(0x006f_6e65));
    same("write again", store.write(NONE, NODE, b"four"), Ok(()));
    same("read again", read(store, NODE), Ok(0x666f_7572));
    same("write nothing", store.write(NONE, NODE, b""), Ok(()));
    same("read nothing", read(store, NODE), Ok(0));
    same("write zeros", store.write(NONE, NODE, b"\0\x01\0"), Ok(()));
    same("read zeros", read(store, NODE), Ok(0x100));
    let made = store
        .ask(XS_MKDIR, NONE, &[b"data/micro/folder\0"])
        .map(drop);
    same("make a folder", made, Ok(()));
    same("list", children(store, PLACE), Ok(2));
    same("list a node without any", children(store, NODE), Ok(0));
    same(
        "list what is not there",
        children(store, "data/micro/none"),
        Err(Refused::Said(ENOENT)),
    );
    same("remove", store.remove(NONE, "data/micro/folder"), Ok(()));
    same("list then", children(store, PLACE), Ok(1));
    let mut made = 0;
    for index in 0..26_u8 {
        let path = [b"data/micro/node/", &[b'a' + index][..]].concat_in();
        made += usize::from(store.write(NONE, path.text(), &[index]).is_ok());
    }
    same("26 nodes are made", made, 26);
    same("list them", children(store, NODE), Ok(26));
    let mine = store.ask(XS_GET_PERMS, NONE, &[PLACE.as_bytes(), &[0]]);
    let mine = mine.map(|perms| perms.first() == Some(&b'n'));
    same("our place is ours alone", mine, Ok(true));
}

/// Requests and answers longer than the rings.
fn large(store: &mut Store) {
    // Nearly twice what the ring holds; the C daemon has a bound of 2048 with all that belongs to a node.
    let value = core::array::from_fn::<u8, 1900, _>(|at| (at * 7 + at / 251) as u8);
    same("write 1900 bytes", store.write(NONE, NODE, &value), Ok(()));
    let answer = store.read(NONE, NODE);
    same("read them", answer.map(|bytes| bytes == value), Ok(true));
    let path_and_zero = NODE.len() + 1;
    let most = [0x55; XENSTORE_PAYLOAD_MAX];
    let refused = store.write(NONE, NODE, &most[path_and_zero - 1..]);
    let length = XENSTORE_PAYLOAD_MAX as u32 + 1;
    same(
        "a request too long is not sent",
        refused,
        Err(Refused::Nonsense(BadMessage::Length(length))),
    );
    let path = [b'x'; XENSTORE_ABS_PATH_MAX + 1];
    let answer = store.ask(XS_READ, NONE, &[b"/", &path, &[0]]).map(drop);
    same("a path too long", answer, Err(Refused::Said(EINVAL)));
}

/// Our watch's next event: path and token are these.
fn fires(store: &mut Store, name: &str, path: &str) {
    match store.event() {
        Ok(event) => same(name, event.strings() == (path.as_bytes(), b"token"), true),
        Err(why) => same(name, Err(why), Ok(())),
    }
}

fn watches(store: &mut Store) {
    let node = [NODE.as_bytes(), b"\0token\0"];
    same("watch", store.ask(XS_WATCH, NONE, &node).map(drop), Ok(()));
    fires(store, "it fires at once", NODE);
    same(
        "watch twice",
        store.ask(XS_WATCH, NONE, &node).map(drop),
        Err(Refused::Said(EEXIST)),
    );
    same("write to it", store.write(NONE, NODE, b"1"), Ok(()));
    fires(store, "it fires", NODE);
    let below = "data/micro/node/below";
    same("write below it", store.write(NONE, below, b"1"), Ok(()));
    fires(store, "it fires for that", below);
    same(
        "write beside it",
        store.write(NONE, "data/micro/x", b""),
        Ok(()),
    );
    same("remove it", store.remove(NONE, NODE), Ok(()));
    fires(store, "it fires for its end", NODE);
    same(
        "unwatch",
        store.ask(XS_UNWATCH, NONE, &node).map(drop),
        Ok(()),
    );
    same(
        "unwatch twice",
        store.ask(XS_UNWATCH, NONE, &node).map(drop),
        Err(Refused::Said(ENOENT)),
    );
}

/// Whether there is no such transaction, as the C daemon says it or the other.
fn gone(answer: Result<(), Refused>) -> bool {
    matches!(answer, Err(Refused::Said(ENOENT | EIO)))
}

fn transactions(store: &mut Store) {
    same("write before", store.write(NONE, NODE, b"a"), Ok(()));
    let Ok(tx) = store.begin() else {
        return same("begin", "no transaction", "a transaction");
    };
    same("write within", store.write(tx, NODE, b"b"), Ok(()));
    same("read within", read_in(store, tx, NODE), Ok(0x62));
    same("read outside", read(store, NODE), Ok(0x61));
    same("end it", store.end(tx, "T"), Ok(()));
    same("read afterwards", read(store, NODE), Ok(0x62));
    let again = store.end(tx, "T");
    same("end it twice", gone(again), true);
    let tx = store.begin().unwrap_or(0);
    same("write within another", store.write(tx, NODE, b"c"), Ok(()));
    same("forget it", store.end(tx, "F"), Ok(()));
    same("read what was before", read(store, NODE), Ok(0x62));
    let tx = store.begin().unwrap_or(0);
    same("read in a third", read_in(store, tx, NODE), Ok(0x62));
    same("write in the third", store.write(tx, NODE, b"d"), Ok(()));
    same("write beside it", store.write(NONE, NODE, b"e"), Ok(()));
    same(
        "it cannot end",
        store.end(tx, "T"),
        Err(Refused::Said(EAGAIN)),
    );
    same("what was beside stays", read(store, NODE), Ok(0x65));
}

/// Waits until the toolstack wants an end, and says that it was heard. Until then whatever is written to `data/ping`
/// comes back in `data/pong`.
pub fn wait_for_shutdown(store: &mut Store) -> Result<(), Refused> {
    store.write(NONE, "data/ping", b"")?;
    store.ask(XS_WATCH, NONE, &[b"data/ping\0token\0"])?;
    store.ask(XS_WATCH, NONE, &[b"control/shutdown\0token\0"])?;
    loop {
        // It may take its time.
        match store.event() {
            Ok(_) | Err(Refused::Silence) => {}
            Err(why) => return Err(why),
        }
        let mut ping = [0; 8];
        let value = store.read(NONE, "data/ping")?;
        let length = value.len().min(ping.len());
        ping[..length].copy_from_slice(&value[..length]);
        if length != 0 {
            store.write(NONE, "data/pong", &ping[..length])?;
        }
        if !store.read(NONE, "control/shutdown")?.is_empty() {
            return store.write(NONE, "control/shutdown", b"");
        }
    }
}

/// What is not ours.
fn refused(store: &mut Store) {
    let denied = Err(Refused::Said(EACCES));
    let of_dom0 = "/local/domain/0/micro";
    same(
        "write to dom0's place",
        store.write(NONE, of_dom0, b"x"),
        denied,
    );
    same(
        "write to the root",
        store.write(NONE, "/micro", b"x"),
        denied,
    );
    same("remove our home", store.remove(NONE, "/local"), denied);
    let answer = store.ask(XS_READ, 77, &[NODE.as_bytes(), &[0]]).map(drop);
    same("a transaction that is not there", gone(answer), true);
    let introduce = store.ask(XS_INTRODUCE, NONE, &[b"1\x001\x001\0"]).map(drop);
    same("introduce a domain", introduce, denied);
    let answer = store.ask(XS_READ, NONE, &[b"a//b\0"]).map(drop);
    same(
        "a path with an empty part",
        answer,
        Err(Refused::Said(EINVAL)),
    );
    let answer = store.ask(XS_WRITE, NONE, &[b"no end"]).map(drop);
    same("a path without an end", answer, Err(Refused::Said(EINVAL)));
}

/// A short text put together.
struct Text {
    bytes: [u8; 32],
    used: usize,
}

impl Text {
    fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.used]).unwrap_or("")
    }
}

trait ConcatIn {
    /// Both, one after the other; together at most 32 bytes.
    fn concat_in(self) -> Text;
}

impl ConcatIn for [&[u8]; 2] {
    fn concat_in(self) -> Text {
        let mut text = Text {
            bytes: [0; 32],
            used: 0,
        };
        for byte in self.into_iter().flatten() {
            text.bytes[text.used] = *byte;
            text.used += 1;
        }
        text
    }
}
