//! hypfs_op: a read-only tree of what tools may ask about the build and the options (xen/hypfs.h).

use alloc::vec::Vec;
use core::fmt::Write;

use arrayvec::ArrayString;
use xen_abi::errno::Errno;
use xen_abi::hypfs as abi;
use xen_abi::hypfs::{HypfsDirentry, HypfsDirlistentry};
use zerocopy::IntoBytes;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::boot::cmdline::ParamValue;
use crate::domain::{Backing, Identity};

/// What an entry holds.
#[derive(Clone, Copy)]
enum Content<'a> {
    Directory,
    Text(&'a str),
    Number(u32),
    Switch(bool),
}

/// An entry of the tree.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// Path of its directory, without a slash at either end; empty in the root.
    parent: &'a str,
    name: &'a str,
    content: Content<'a>,
}

/// Offset of the name in an entry of a listing.
const NAME: usize = core::mem::offset_of!(HypfsDirlistentry, _pad0);
/// Bytes of an entry's header in what a read gives.
const HEADER: u64 = size_of::<HypfsDirentry>() as u64;

/// The root, which is the one directory with an empty name.
const ROOT: Entry<'_> = Entry {
    parent: "",
    name: "",
    content: Content::Directory,
};

/// hypfs_op(cmd, path, its length, buffer, its size).
///
/// # Errors
/// `EPERM`, `EINVAL`, `EFAULT`, `ENOENT`, `ENOBUFS` for a buffer that is too small, `EACCES` for a
/// write, `EOPNOTSUPP` for an unknown command.
pub fn hypfs_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let [command, path_at, path_len, buffer, size, _] = args;
    if command as u32 == abi::XEN_HYPFS_OP_get_version {
        return match (path_at, path_len, buffer, size) {
            (0, 0, 0, 0) => Ok(Outcome::Return(abi::XEN_HYPFS_VERSION.into())),
            _ => Err(Errno::EINVAL),
        };
    }
    let mut bytes = [0; abi::XEN_HYPFS_MAX_PATHLEN as usize];
    let path = read_path(cx, path_at, path_len, &mut bytes)?;
    let pools = pool_paths(&cx.hv.backing)?;
    let tree = entries(&cx.hv.identity, &pools)?;
    let found = find(&tree, path)?;
    match command as u32 {
        abi::XEN_HYPFS_OP_read => read(cx, &tree, found, buffer, size),
        abi::XEN_HYPFS_OP_write_contents => Err(Errno::EACCES),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Directory of the pools, with the slash behind it.
const POOLS: &str = "cpupool/";
/// `cpupool/7` for pool 7.
type PoolPath = ArrayString<20>;

fn pool_paths(backing: &Backing) -> Result<Vec<PoolPath>, Errno> {
    let mut paths = Vec::new();
    let mut next = Some(0);
    while let Some((id, _)) = next.and_then(|id| backing.pools.pool_from(id)) {
        let mut path = PoolPath::new();
        write!(path, "{POOLS}{id}").map_err(|_| Errno::ENOMEM)?;
        paths.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        paths.push(path);
        next = id.checked_add(1);
    }
    Ok(paths)
}

/// Copies the path, whose length counts its zero, and gives it without the slash in front.
fn read_path<'a, H: Host>(
    cx: &AnyCtx<'_, H>,
    at: u64,
    length: u64,
    bytes: &'a mut [u8],
) -> Result<&'a str, Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    let last = length.checked_sub(1).ok_or(Errno::EINVAL)?;
    cx.host.copy_in(bytes, at)?;
    if bytes.iter().position(|b| *b == 0) != Some(last) || bytes[0] != b'/' {
        return Err(Errno::EINVAL);
    }
    // No entry has a name of anything but ASCII.
    core::str::from_utf8(&bytes[1..last]).map_err(|_| Errno::ENOENT)
}

/// All entries but the root.
fn entries<'a>(identity: &'a Identity, pools: &'a [PoolPath]) -> Result<Vec<Entry<'a>>, Errno> {
    use Content::{Directory, Number, Switch, Text};
    let fixed = [
        ("", "buildinfo", Directory),
        ("", "cpupool", Directory),
        ("", "params", Directory),
        ("buildinfo", "changeset", Text(&identity.changeset)),
        ("buildinfo", "compileinfo", Directory),
        ("buildinfo", "version", Directory),
        (
            "buildinfo/compileinfo",
            "compile_by",
            Text(&identity.compile_by),
        ),
        (
            "buildinfo/compileinfo",
            "compile_date",
            Text(&identity.compile_date),
        ),
        (
            "buildinfo/compileinfo",
            "compile_domain",
            Text(&identity.compile_domain),
        ),
        (
            "buildinfo/compileinfo",
            "compiler",
            Text(&identity.compiler),
        ),
        ("buildinfo/version", "extra", Text(&identity.extra)),
        ("buildinfo/version", "major", Number(identity.major.into())),
        ("buildinfo/version", "minor", Number(identity.minor.into())),
    ];
    let count = fixed.len() + 2 * pools.len() + identity.params.len();
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    let mut add = |parent, name, content| {
        list.push(Entry {
            parent,
            name,
            content,
        });
    };
    for (parent, name, content) in fixed {
        add(parent, name, content);
    }
    // Each pool is scheduled CPU by CPU.
    for path in pools {
        add("cpupool", &path[POOLS.len()..], Directory);
        add(path, "sched-gran", Text("cpu"));
    }
    for param in &identity.params {
        let content = match &param.value {
            ParamValue::Text(text) => Text(text),
            ParamValue::Number(number) => Number(*number),
            ParamValue::Switch(on) => Switch(*on),
        };
        add("params", param.name, content);
    }
    Ok(list)
}

/// A path as the directory and the name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// What a path, without the slash in front, leads to. One slash may follow a directory.
fn find<'a>(tree: &[Entry<'a>], path: &str) -> Result<Entry<'a>, Errno> {
    if path.is_empty() {
        return Ok(ROOT);
    }
    let (plain, directory_only) = match path.strip_suffix('/') {
        Some(plain) => (plain, true),
        None => (path, false),
    };
    let place = split(plain);
    let mut all = tree.iter();
    let found = all.find(|e| (e.parent, e.name) == place);
    let found = *found.ok_or(Errno::ENOENT)?;
    if directory_only && !matches!(found.content, Content::Directory) {
        return Err(Errno::ENOENT);
    }
    Ok(found)
}

/// The entries of a directory.
fn listed<'a>(tree: &'a [Entry<'a>], directory: Entry<'a>) -> impl Iterator<Item = &'a Entry<'a>> {
    let place = (directory.parent, directory.name);
    tree.iter().filter(move |e| split(e.parent) == place)
}

/// Bytes of an entry's contents.
fn length(tree: &[Entry<'_>], entry: Entry<'_>) -> usize {
    match entry.content {
        Content::Directory => listed(tree, entry).map(|e| listing_size(e.name)).sum(),
        Content::Text(text) => text.len() + 1,
        Content::Number(_) => size_of::<u32>(),
        Content::Switch(_) => 1,
    }
}

/// Bytes of an entry of a listing: its name ends with a zero, and the next one is aligned.
fn listing_size(name: &str) -> usize {
    (NAME + name.len() + 1).next_multiple_of(align_of::<HypfsDirlistentry>())
}

/// What is said of an entry before its contents.
fn header(tree: &[Entry<'_>], entry: Entry<'_>) -> HypfsDirentry {
    HypfsDirentry {
        r#type: match entry.content {
            Content::Directory => abi::XEN_HYPFS_TYPE_DIR,
            Content::Text(_) => abi::XEN_HYPFS_TYPE_STRING,
            Content::Number(_) => abi::XEN_HYPFS_TYPE_UINT,
            Content::Switch(_) => abi::XEN_HYPFS_TYPE_BOOL,
        },
        encoding: abi::XEN_HYPFS_ENC_PLAIN,
        content_len: length(tree, entry) as u32,
        ..HypfsDirentry::default()
    }
}

/// Gives the header of an entry, and its contents if they fit too.
fn read<H: Host>(
    cx: &AnyCtx<'_, H>,
    tree: &[Entry<'_>],
    entry: Entry<'_>,
    buffer: u64,
    size: u64,
) -> Reply {
    if size < HEADER {
        return Err(Errno::EINVAL);
    }
    let head = header(tree, entry);
    cx.write(buffer, &head)?;
    if size < HEADER + u64::from(head.content_len) {
        return Err(Errno::ENOBUFS);
    }
    let at = buffer.checked_add(HEADER).ok_or(Errno::EFAULT)?;
    match entry.content {
        Content::Directory => cx.host.copy_out(at, &listing(tree, entry)?)?,
        Content::Text(text) => {
            cx.host.copy_out(at, text.as_bytes())?;
            let end = at.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?;
            cx.host.copy_out(end, &[0])?;
        }
        Content::Number(number) => cx.write(at, &number)?,
        Content::Switch(on) => cx.write(at, &u8::from(on))?,
    }
    DONE
}

/// The contents of a directory.
fn listing(tree: &[Entry<'_>], directory: Entry<'_>) -> Result<Vec<u8>, Errno> {
    let total = length(tree, directory);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(total).map_err(|_| Errno::ENOMEM)?;
    for entry in listed(tree, directory) {
        let end = bytes.len() + listing_size(entry.name);
        let head = HypfsDirlistentry {
            e: header(tree, *entry),
            off_next: if end == total {
                0
            } else {
                listing_size(entry.name) as u16
            },
            ..HypfsDirlistentry::default()
        };
        bytes.extend_from_slice(&head.as_bytes()[..NAME]);
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.resize(end, 0);
    }
    Ok(bytes)
}
