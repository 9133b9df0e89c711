//! grant_table_op: the calls that must be refused.

use xen_abi::GuestHandle;
use xen_abi::errno::Errno::*;
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bad;
use crate::call::{Argument, hypercall};
use crate::memory::{PAGE, Page};
use crate::report::{optional, result, same};

/// One operation; the call's result and the structure afterwards.
pub fn op<T: FromBytes + IntoBytes + Immutable>(command: u32, value: &T) -> (i64, T) {
    let argument = Argument::new(value);
    let args = [command.into(), argument.address(), 1];
    let code = hypercall(__HYPERVISOR_grant_table_op, args);
    (code, argument.get())
}

/// Commands, counts and pointers.
pub fn call() {
    let raw = |command: u64, pointer: u64, count: u64| {
        hypercall(__HYPERVISOR_grant_table_op, [command, pointer, count])
    };
    let page = Page::take();
    let at = page.address();
    for command in [13, 14, 99, 0xfff] {
        result(
            format_args!("operation {command}"),
            raw(command, at, 1),
            ENOSYS,
        );
        result(
            format_args!("operation {command}, nothing"),
            raw(command, at, 0),
            ENOSYS,
        );
    }
    for command in 0..13 {
        let name = |what: &'static str| Named(command, what);
        result(name("count -1"), raw(command, at, 0xffff_ffff), EINVAL);
        result(name("count 2^31"), raw(command, at, 1 << 31), EINVAL);
        if command != u64::from(GNTTABOP_cache_flush) {
            result(name("continuation"), raw(command | 1 << 12, at, 1), EINVAL);
        }
        // Dumping a table was never made.
        let dump = command == u64::from(GNTTABOP_dump_table);
        let want = if dump { ENOSYS } else { EFAULT };
        for (kind, pointer) in bad::POINTERS {
            let name = format_args!("operation {command}, {kind} pointer");
            optional(name, raw(command, *pointer, 1), want);
        }
    }
    for command in [
        GNTTABOP_map_grant_ref,
        GNTTABOP_unmap_grant_ref,
        GNTTABOP_transfer,
        GNTTABOP_copy,
        GNTTABOP_unmap_and_replace,
        GNTTABOP_swap_grant_ref,
        GNTTABOP_cache_flush,
    ] {
        optional(
            format_args!("operation {command}, nothing"),
            raw(command.into(), at, 0),
            0,
        );
    }
    page.give_back();
}

struct Named(u64, &'static str);

impl core::fmt::Display for Named {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "operation {}, {}", self.0, self.1)
    }
}

/// Domains that do not exist.
const NO_DOMAINS: [u16; 6] = [0x6fff, 0x7fef, 0x7ff1, 0x7ff4, 0x7fff, 0xffff];

/// Tables and versions.
pub fn table() {
    for dom in NO_DOMAINS {
        let setup = GnttabSetupTable {
            dom,
            nr_frames: 1,
            ..GnttabSetupTable::default()
        };
        let (code, answer) = op(GNTTABOP_setup_table, &setup);
        let name = format_args!("setup_table of {dom:#x}");
        same(name, (code, answer.status), (0, GNTST_bad_domain));
        let size = GnttabQuerySize {
            dom,
            ..GnttabQuerySize::default()
        };
        let (code, answer) = op(GNTTABOP_query_size, &size);
        let name = format_args!("query_size of {dom:#x}");
        same(name, (code, answer.status), (0, GNTST_bad_domain));
        let version = GnttabGetVersion {
            dom,
            ..GnttabGetVersion::default()
        };
        result(
            format_args!("get_version of {dom:#x}"),
            op(GNTTABOP_get_version, &version).0,
            ESRCH,
        );
    }
    frames();
    versions();
}

/// The frames of our own table.
fn frames() {
    let page = Page::take();
    let setup = |nr_frames: u32, at: u64| {
        let setup = GnttabSetupTable {
            dom: DOMID_SELF,
            nr_frames,
            frame_list: GuestHandle::new(at),
            ..GnttabSetupTable::default()
        };
        let (code, answer) = op(GNTTABOP_setup_table, &setup);
        (code, answer.status)
    };
    same(
        "65 frames",
        setup(65, page.address()),
        (0, GNTST_general_error),
    );
    same(
        "2^32 - 1 frames",
        setup(u32::MAX, page.address()),
        (0, GNTST_general_error),
    );
    for (kind, pointer) in bad::POINTERS {
        // A pointer into the guest's part is only tried, and then the operation has failed; any
        // other fails the call.
        let guest = *pointer < 1 << 47 || *pointer == u64::MAX;
        let want = if guest {
            (0, GNTST_bad_virt_addr)
        } else {
            (EFAULT.to_ret(), 0)
        };
        let name = format_args!("frame list at {kind} pointer");
        same(name, setup(1, *pointer), want);
    }
    same("2 frames", setup(2, page.address()), (0, GNTST_okay));
    let size = GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::default()
    };
    let (code, size) = op(GNTTABOP_query_size, &size);
    same(
        "query_size",
        (code, size.status, size.nr_frames >= 2),
        (0, GNTST_okay, true),
    );
    page.give_back();
}

fn versions() {
    let set = |version: u32| {
        let (code, answer) = op(GNTTABOP_set_version, &GnttabSetVersion { version });
        (code, answer.version)
    };
    let get = || {
        let question = GnttabGetVersion {
            dom: DOMID_SELF,
            ..GnttabGetVersion::default()
        };
        let (code, answer) = op(GNTTABOP_get_version, &question);
        (code, answer.version)
    };
    let status = |nr_frames: u32| {
        let page = Page::take();
        let question = GnttabGetStatusFrames {
            nr_frames,
            dom: DOMID_SELF,
            frame_list: GuestHandle::new(page.address()),
            ..GnttabGetStatusFrames::default()
        };
        let (code, answer) = op(GNTTABOP_get_status_frames, &question);
        page.give_back();
        (code, answer.status)
    };
    same("version at first", get(), (0, 1));
    for version in [0, 3, u32::MAX] {
        result(
            format_args!("set_version {version}"),
            set(version).0,
            EINVAL,
        );
    }
    same(
        "status frames of version 1",
        status(1),
        (0, GNTST_general_error),
    );
    same("set_version 1", set(1), (0, 1));
    same("set_version 2", set(2), (0, 2));
    same("version 2", get(), (0, 2));
    same("a status frame", status(1), (0, GNTST_okay));
    same("100 status frames", status(100), (0, GNTST_general_error));
    same("set_version 1 again", set(1), (0, 1));
}

fn map(request: &GnttabMapGrantRef) -> (i64, i16) {
    let (code, answer) = op(GNTTABOP_map_grant_ref, request);
    (code, answer.status)
}

/// Maps that must be refused, whatever the table holds.
pub fn maps() {
    let page = Page::take();
    let good = GnttabMapGrantRef {
        host_addr: page.address(),
        flags: GNTMAP_host_map,
        ..GnttabMapGrantRef::default()
    };
    for dom in NO_DOMAINS.into_iter().chain([DOMID_SELF]) {
        let name = format_args!("map of {dom:#x}");
        same(
            name,
            map(&GnttabMapGrantRef { dom, ..good }),
            (0, GNTST_bad_domain),
        );
    }
    for gref in [0, 8, 511, 1024, 4096, 0x7fff_ffff, u32::MAX] {
        let request = GnttabMapGrantRef {
            r#ref: gref,
            ..good
        };
        // An entry in the table that grants nothing differs from one behind the table.
        let want = if gref < 1024 {
            GNTST_general_error
        } else {
            GNTST_bad_gntref
        };
        same(
            format_args!("map of reference {gref}"),
            map(&request),
            (0, want),
        );
    }
    for flags in [0, GNTMAP_readonly, GNTMAP_contains_pte] {
        let request = GnttabMapGrantRef { flags, ..good };
        same(
            format_args!("map with flags {flags:#x}"),
            map(&request),
            (0, GNTST_bad_gntref),
        );
    }
    page.give_back();
    handles();
}

/// Handles that name no mapping.
fn handles() {
    let page = Page::take();
    let unmap = |handle: u32| {
        let request = GnttabUnmapGrantRef {
            host_addr: page.address(),
            handle,
            ..GnttabUnmapGrantRef::default()
        };
        let (code, answer) = op(GNTTABOP_unmap_grant_ref, &request);
        (code, answer.status)
    };
    for handle in [0, 1, 1023, 4096, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        same(
            format_args!("unmap of handle {handle:#x}"),
            unmap(handle),
            (0, GNTST_bad_handle),
        );
        let request = GnttabUnmapAndReplace {
            host_addr: page.address(),
            handle,
            ..GnttabUnmapAndReplace::default()
        };
        let (code, answer) = op(GNTTABOP_unmap_and_replace, &request);
        let name = format_args!("replacement of handle {handle:#x}");
        same(name, (code, answer.status), (0, GNTST_bad_handle));
    }
    page.give_back();
}

fn copy(request: GnttabCopy) -> (i64, i16) {
    let (code, answer) = op(GNTTABOP_copy, &request);
    (code, answer.status)
}

/// Copies.
pub fn copies() {
    let (from, to) = (Page::take(), Page::take());
    from.set_word(1, 0x1111);
    let side = |page: &Page| GnttabCopyPtr {
        u: page.machine(),
        domid: DOMID_SELF,
        ..GnttabCopyPtr::default()
    };
    let good = GnttabCopy {
        source: side(from),
        dest: side(to),
        len: 64,
        ..GnttabCopy::default()
    };
    same("copy", copy(good), (0, GNTST_okay));
    same("the copy", to.word(1), 0x1111);
    wrong_sides(good);
    let foreign = GnttabCopyPtr {
        domid: 0,
        ..good.source
    };
    same(
        "copy by frame of domain 0",
        copy(GnttabCopy {
            source: foreign,
            ..good
        }),
        (0, GNTST_permission_denied),
    );
    same(
        "copy of nothing",
        copy(GnttabCopy { len: 0, ..good }),
        (0, GNTST_okay),
    );
    let root = crate::memory::frame_at(crate::tables::root());
    let dest = GnttabCopyPtr {
        u: root,
        ..good.dest
    };
    same(
        "copy to our L4",
        copy(GnttabCopy { dest, ..good }),
        (0, GNTST_general_error),
    );
    by_reference(good);
    from.give_back();
    to.give_back();
    others();
}

/// Offsets, lengths and frames that are wrong on either side.
fn wrong_sides(good: GnttabCopy) {
    for (offset, len) in [(0, 4097), (4096, 1), (4095, 2), (0xffff, 1), (1, 0xffff)] {
        let source = GnttabCopyPtr {
            offset,
            ..good.source
        };
        let dest = GnttabCopyPtr {
            offset,
            ..good.dest
        };
        let want = (0, GNTST_bad_copy_arg);
        same(
            format_args!("{len} bytes from {offset}"),
            copy(GnttabCopy {
                source,
                len,
                ..good
            }),
            want,
        );
        same(
            format_args!("{len} bytes to {offset}"),
            copy(GnttabCopy { dest, len, ..good }),
            want,
        );
    }
    for (owner, frame) in bad::frames() {
        let source = GnttabCopyPtr {
            u: frame,
            ..good.source
        };
        let dest = GnttabCopyPtr {
            u: frame,
            ..good.dest
        };
        let want = (0, GNTST_bad_page);
        same(
            format_args!("copy from {owner}"),
            copy(GnttabCopy { source, ..good }),
            want,
        );
        same(
            format_args!("copy to {owner}"),
            copy(GnttabCopy { dest, ..good }),
            want,
        );
    }
}

/// Copies from references that grant nothing.
fn by_reference(good: GnttabCopy) {
    for domid in NO_DOMAINS {
        let source = GnttabCopyPtr {
            domid,
            ..good.source
        };
        let want = (0, GNTST_bad_domain);
        let request = GnttabCopy {
            source,
            flags: GNTCOPY_source_gref,
            ..good
        };
        same(
            format_args!("copy from domain {domid:#x}"),
            copy(request),
            want,
        );
    }
    for gref in [0_u64, 100, 4096, 0xffff_ffff] {
        let source = GnttabCopyPtr {
            u: gref,
            domid: 0,
            ..good.source
        };
        let request = GnttabCopy {
            source,
            flags: GNTCOPY_source_gref,
            ..good
        };
        let want = if gref < 1024 {
            GNTST_general_error
        } else {
            GNTST_bad_gntref
        };
        same(
            format_args!("copy from reference {gref}"),
            copy(request),
            (0, want),
        );
    }
}

/// A transfer that must be refused.
fn transferred(what: &str, request: &GnttabTransfer) {
    let (code, answer) = op(GNTTABOP_transfer, request);
    optional(format_args!("transfer of {what}"), code, 0);
    if code == 0 {
        same(
            format_args!("its status of {what}"),
            answer.status,
            GNTST_bad_page,
        );
    }
}

fn others() {
    let page = Page::take();
    for (owner, mfn) in bad::frames() {
        let request = GnttabTransfer {
            mfn,
            domid: 1,
            ..GnttabTransfer::default()
        };
        transferred(owner, &request);
    }
    let request = GnttabTransfer {
        mfn: page.machine(),
        domid: 1,
        ..GnttabTransfer::default()
    };
    transferred("a mapped page", &request);
    same(
        "the page is still ours",
        crate::trap::try_write(page.address(), 1),
        None,
    );
    for (ref_a, ref_b) in [(0, 1 << 20), (u32::MAX, 0), (u32::MAX, u32::MAX)] {
        let request = GnttabSwapGrantRef {
            ref_a,
            ref_b,
            ..GnttabSwapGrantRef::default()
        };
        let (code, answer) = op(GNTTABOP_swap_grant_ref, &request);
        let name = format_args!("swap of {ref_a} and {ref_b}");
        same(name, (code, answer.status), (0, GNTST_bad_gntref));
    }
    let flush = |a: u64, offset: u16, length: u16, op_bits: u32| {
        let request = GnttabCacheFlush {
            a,
            offset,
            length,
            op: op_bits,
        };
        op(GNTTABOP_cache_flush, &request).0
    };
    let own = page.machine() * PAGE;
    result(
        "flush behind the page",
        flush(own, 4095, 2, GNTTAB_CACHE_CLEAN),
        EINVAL,
    );
    result("flush with unknown bits", flush(own, 0, 1, 1 << 7), EINVAL);
    result(
        "flush of all ones",
        flush(u64::MAX, 0, 1, GNTTAB_CACHE_CLEAN),
        EINVAL,
    );
    page.give_back();
}
