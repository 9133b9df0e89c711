use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_hypfs_op as CALL;
use xen_abi::hypfs::*;

use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};

const BUFFER: u64 = GUEST + 0x1000;
const HEADER: u64 = size_of::<HypfsDirentry>() as u64;

fn put_path(f: &Fixture, path: &str) -> u64 {
    f.put(GUEST, path.as_bytes());
    f.put(GUEST + path.len() as u64, &0_u8);
    path.len() as u64 + 1
}

fn op(f: &mut Fixture, command: u32, path: &str, size: u64) -> Result<u64, Errno> {
    let length = put_path(f, path);
    f.call(CALL, &[command.into(), GUEST, length, BUFFER, size])
}

/// Reads an entry: its header and contents.
fn read(f: &mut Fixture, path: &str) -> Result<(HypfsDirentry, Vec<u8>), Errno> {
    f.put(BUFFER, &[0xff_u8; 0x1000]);
    op(f, XEN_HYPFS_OP_read, path, 0x1000)?;
    let header: HypfsDirentry = f.get(BUFFER);
    assert_eq!(header.max_write_len, 0, "{path} is read-only");
    assert_eq!((header.encoding, header.pad), (XEN_HYPFS_ENC_PLAIN, 0));
    let end = BUFFER + HEADER + u64::from(header.content_len);
    assert_eq!(f.get::<u8>(end), 0xff, "nothing is written behind {path}");
    let bytes = (BUFFER + HEADER..end).map(|at| f.get(at)).collect();
    Ok((header, bytes))
}

/// Reads a directory: names with their headers.
fn list(f: &mut Fixture, path: &str) -> Vec<(String, HypfsDirentry)> {
    let (header, bytes) = read(f, path).unwrap();
    assert_eq!(header.r#type, XEN_HYPFS_TYPE_DIR);
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let here = BUFFER + HEADER + at as u64;
        let entry: HypfsDirlistentry = f.get(here);
        found.push((f.text(here + 14), entry.e));
        match usize::from(entry.off_next) {
            0 => break,
            next => at += next,
        }
    }
    assert!(at < bytes.len());
    found
}

fn names(f: &mut Fixture, path: &str) -> Vec<String> {
    list(f, path).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_version_takes_no_arguments() {
    let mut f = Fixture::control();
    let version = u64::from(XEN_HYPFS_OP_get_version);
    assert_eq!(f.call(CALL, &[version, 0, 0, 0, 0]), Ok(1));
    for place in 1..5 {
        let mut args = [version, 0, 0, 0, 0];
        args[place] = 1;
        assert_eq!(f.call(CALL, &args), Err(Errno::EINVAL));
    }
}

#[test]
fn the_tree_can_be_walked_and_every_header_is_true() {
    let mut f = Fixture::control();
    let mut todo = vec![String::new()];
    let mut leaves = Vec::new();
    while let Some(directory) = todo.pop() {
        for (name, said) in list(&mut f, &format!("{directory}/")) {
            let path = format!("{directory}/{name}");
            let (header, _) = read(&mut f, &path).unwrap();
            assert_eq!(header, said, "{path}");
            if header.r#type == XEN_HYPFS_TYPE_DIR {
                todo.push(path);
            } else {
                leaves.push(path);
            }
        }
    }
    leaves.sort();
    assert_eq!(
        leaves,
        [
            "/buildinfo/changeset",
            "/buildinfo/compileinfo/compile_by",
            "/buildinfo/compileinfo/compile_date",
            "/buildinfo/compileinfo/compile_domain",
            "/buildinfo/compileinfo/compiler",
            "/buildinfo/version/extra",
            "/buildinfo/version/major",
            "/buildinfo/version/minor",
            "/cpupool/0/sched-gran",
            "/params/abi",
            "/params/conring_size",
            "/params/credit2_balance_over",
            "/params/credit2_balance_under",
            "/params/credit2_cap_period_ms",
            "/params/credit2_load_precision_shift",
            "/params/credit2_load_window_shift",
            "/params/credit2_runqueue",
            "/params/guest_loglvl",
            "/params/loglvl",
            "/params/noreboot",
            "/params/sched",
            "/params/sched_credit2_max_cpus_runqueue",
            "/params/sched_credit2_migrate_resist",
            "/params/sync_console",
            "/params/timer_slop",
            "/params/watchdog",
        ]
    );
    assert_eq!(names(&mut f, "/"), ["buildinfo", "cpupool", "params"]);
}

#[test]
fn each_pool_is_listed() {
    let mut f = Fixture::control();
    for id in [3, u32::MAX - 1] {
        f.hv.backing.pools.create(Some(id)).unwrap();
    }
    assert_eq!(names(&mut f, "/cpupool"), ["0", "3", "4294967294"]);
    assert_eq!(names(&mut f, "/cpupool/4294967294"), ["sched-gran"]);
    f.hv.backing.pools.destroy(3).unwrap();
    assert_eq!(names(&mut f, "/cpupool/"), ["0", "4294967294"]);
}

#[test]
fn contents_have_their_types() {
    let mut f = Fixture::control();
    for (path, kind, contents) in [
        ("/buildinfo/changeset", XEN_HYPFS_TYPE_STRING, &b"abc\0"[..]),
        (
            "/buildinfo/version/major",
            XEN_HYPFS_TYPE_UINT,
            &[4, 0, 0, 0],
        ),
        (
            "/buildinfo/version/minor",
            XEN_HYPFS_TYPE_UINT,
            &[17, 0, 0, 0],
        ),
        ("/params/loglvl", XEN_HYPFS_TYPE_STRING, b"info/all\0"),
        (
            "/params/guest_loglvl",
            XEN_HYPFS_TYPE_STRING,
            b"none/warning\0",
        ),
        ("/params/noreboot", XEN_HYPFS_TYPE_BOOL, &[1]),
        ("/params/sync_console", XEN_HYPFS_TYPE_BOOL, &[0]),
        (
            "/params/conring_size",
            XEN_HYPFS_TYPE_UINT,
            &[0, 0x40, 0, 0],
        ),
    ] {
        let (header, bytes) = read(&mut f, path).unwrap();
        assert_eq!((header.r#type, &bytes[..]), (kind, contents), "{path}");
    }
}

#[test]
fn a_small_buffer_learns_the_size() {
    let mut f = Fixture::control();
    let full = read(&mut f, "/buildinfo").unwrap();
    let needed = HEADER + u64::from(full.0.content_len);
    for size in [HEADER, needed - 1] {
        f.put(BUFFER, &[0xff_u8; 0x100]);
        let refused = op(&mut f, XEN_HYPFS_OP_read, "/buildinfo", size);
        assert_eq!(refused, Err(Errno::ENOBUFS));
        assert_eq!(f.get::<HypfsDirentry>(BUFFER), full.0);
        assert_eq!(f.get::<u8>(BUFFER + HEADER), 0xff, "no contents");
    }
    assert_eq!(op(&mut f, XEN_HYPFS_OP_read, "/buildinfo", needed), Ok(0));
    let refused = op(&mut f, XEN_HYPFS_OP_read, "/buildinfo", HEADER - 1);
    assert_eq!(refused, Err(Errno::EINVAL));
}

#[test]
fn bad_paths_are_refused() {
    let mut f = Fixture::control();
    for (path, errno) in [
        ("", Errno::EINVAL),
        ("buildinfo", Errno::EINVAL),
        ("//", Errno::ENOENT),
        ("/buildinfo//", Errno::ENOENT),
        ("/buildinfo//version", Errno::ENOENT),
        ("/buildinf", Errno::ENOENT),
        ("/buildinfo/version/major/", Errno::ENOENT),
        ("/buildinfo/version/major/x", Errno::ENOENT),
        ("/version", Errno::ENOENT),
        ("/params/maxcpus", Errno::ENOENT),
        ("/\u{fc}", Errno::ENOENT),
    ] {
        assert_eq!(read(&mut f, path).unwrap_err(), errno, "{path:?}");
    }
    assert!(read(&mut f, "/buildinfo/version/").is_ok());
    let read_op = u64::from(XEN_HYPFS_OP_read);
    let length = put_path(&f, "/params");
    for (at, length, errno) in [
        (GUEST, 0, Errno::EINVAL),
        (GUEST, length - 1, Errno::EINVAL),
        (GUEST, length + 1, Errno::EINVAL),
        (GUEST, u64::from(XEN_HYPFS_MAX_PATHLEN) + 1, Errno::EINVAL),
        (GUEST, u64::MAX, Errno::EINVAL),
        (NOWHERE, length, Errno::EFAULT),
    ] {
        let refused = f.call(CALL, &[read_op, at, length, BUFFER, 0x1000]);
        assert_eq!(refused, Err(errno));
    }
    let refused = f.call(CALL, &[read_op, GUEST, length, NOWHERE, 0x1000]);
    assert_eq!(refused, Err(Errno::EFAULT));
}

#[test]
fn nothing_is_written_and_guests_see_nothing() {
    let mut f = Fixture::control();
    for path in ["/params/loglvl", "/params", "/"] {
        let refused = op(&mut f, XEN_HYPFS_OP_write_contents, path, 4);
        assert_eq!(refused, Err(Errno::EACCES), "{path}");
    }
    let refused = op(&mut f, XEN_HYPFS_OP_write_contents, "/nothing", 4);
    assert_eq!(refused, Err(Errno::ENOENT));
    assert_eq!(op(&mut f, 3, "/params", 4), Err(Errno::EOPNOTSUPP));
    let mut guest = Fixture::guest();
    for command in 0..4 {
        assert_eq!(op(&mut guest, command, "/", 4), Err(Errno::EPERM));
    }
}
