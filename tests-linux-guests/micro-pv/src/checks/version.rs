//! xen_version, console_io, and numbers that are no hypercall.

use xen_abi::errno::Errno::{E2BIG, EFAULT, EINVAL, ENODATA, ENOSYS};
use xen_abi::features::*;
use xen_abi::hypercall::{__HYPERVISOR_console_io, __HYPERVISOR_xen_version};
use xen_abi::version::*;
use xen_abi::xen::{CONSOLEIO_read, CONSOLEIO_write};

use super::bad;
use crate::call::{hypercall, raw, with};
use crate::kernel::{self, Role};
use crate::memory::Page;
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE};

/// xen_version: each sub-operation.
pub fn version() {
    let call = |op: u32, arg: u64| hypercall(__HYPERVISOR_xen_version, [op.into(), arg]);
    result("version is 4.17", call(XENVER_version, 0), 4 << 16 | 17);
    result("pagesize", call(XENVER_pagesize, 0), 4096);
    for op in [XENVER_build_id + 1, 100, u32::MAX] {
        result(format_args!("xen_version {op}"), call(op, 0), ENOSYS);
    }
    let page = Page::take();
    let texts = [
        (XENVER_extraversion, "extraversion"),
        (XENVER_compile_info, "compile_info"),
        (XENVER_capabilities, "capabilities"),
        (XENVER_changeset, "changeset"),
        (XENVER_platform_parameters, "platform_parameters"),
        (XENVER_guest_handle, "guest_handle"),
        (XENVER_commandline, "commandline"),
        (XENVER_get_features, "get_features"),
    ];
    for (op, name) in texts {
        // The index of the features is read from the page.
        page.clear();
        result(name, call(op, page.address()), 0);
        for (kind, pointer) in bad::POINTERS {
            result(
                format_args!("{name}, {kind} pointer"),
                call(op, *pointer),
                EFAULT,
            );
        }
    }
    page.clear();
    tables::protect(page, READ_ONLY);
    for (op, name) in texts {
        let name = format_args!("{name}, read-only page");
        result(name, call(op, page.address()), EFAULT);
    }
    tables::protect(page, WRITABLE);
    call(XENVER_capabilities, page.address());
    let text: [u8; 64] = page.get(0);
    let found = text.windows(14).any(|w| w == b"xen-3.0-x86_64");
    holds("capabilities name our kind", found, "another text");
    call(XENVER_platform_parameters, page.address());
    same(
        "platform_parameters",
        page.word(0),
        xen_abi::arch_x86::HYPERVISOR_VIRT_START,
    );
    page.give_back();
    features();
    build_id();
}

fn features() {
    let ask = |submap_idx: u32| {
        let info = FeatureInfo {
            submap_idx,
            submap: 0,
        };
        let (code, info) = with(__HYPERVISOR_xen_version, XENVER_get_features, &info);
        (code, info.submap)
    };
    let (code, bits) = ask(0);
    result("get_features 0", code, 0);
    let wanted = [
        XENFEAT_mmu_pt_update_preserve_ad,
        XENFEAT_highmem_assist,
        XENFEAT_gnttab_map_avail_bits,
        XENFEAT_memory_op_vnode_supported,
        XENFEAT_direct_mapped,
    ];
    let wanted = wanted.iter().fold(0, |bits, bit| bits | 1 << bit);
    let ours = u32::from(kernel::role() == Role::Dom0) << XENFEAT_dom0;
    let wanted = wanted | ours;
    same("features of a PV dom0", bits, wanted);
    result("get_features 1", ask(1).0, EINVAL);
    result("get_features 2", ask(2).0, EINVAL);
    result("get_features -1", ask(u32::MAX).0, EINVAL);
}

fn build_id() {
    let call = |arg: u64| hypercall(__HYPERVISOR_xen_version, [XENVER_build_id.into(), arg]);
    let length = call(0);
    // An image may have none.
    if length == ENODATA.to_ret() {
        return;
    }
    result("build_id length", length, 20);
    let page = Page::take();
    result("build_id without room", call(page.address()), EINVAL);
    page.put(0, &64_u32);
    result("build_id", call(page.address()), length);
    for (kind, pointer) in &bad::POINTERS[1..] {
        let name = format_args!("build_id, {kind} pointer");
        result(name, call(*pointer), EFAULT);
    }
    page.give_back();
}

/// console_io: lengths, pointers, commands.
pub fn console() {
    let call = |op: u32, length: u64, pointer: u64| {
        hypercall(__HYPERVISOR_console_io, [op.into(), length, pointer])
    };
    let page = Page::take();
    let at = page.address();
    result("write nothing", call(CONSOLEIO_write, 0, at), 0);
    result("write nothing, null", call(CONSOLEIO_write, 0, 0), 0);
    result("read 2 GiB", call(CONSOLEIO_read, 1 << 31, at), E2BIG);
    result("read nothing", call(CONSOLEIO_read, 0, at), 0);
    result("read when nothing came", call(CONSOLEIO_read, 64, at), 0);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("write, {kind} pointer");
        result(name, call(CONSOLEIO_write, 8, *pointer), EFAULT);
    }
    // What can be read may appear; then comes the page that cannot. 4.17 has no limit of its own.
    let last = Page::take_row(2);
    tables::protect(&last[1], 0);
    let tail = last[1].address() - 1;
    last[0].put(4095, b"\n");
    for length in [300, 1 << 31, u64::from(u32::MAX)] {
        let name = format_args!("write {length} bytes up to a hole");
        result(name, call(CONSOLEIO_write, length, tail), EFAULT);
    }
    tables::protect(&last[1], WRITABLE);
    for op in [2, 3, 0xffff, u32::MAX] {
        result(format_args!("console_io {op}"), call(op, 1, at), ENOSYS);
    }
    for page in last {
        page.give_back();
    }
    page.give_back();
}

/// Numbers that are no hypercall of a PV guest. 31, the old profiler, depends on the build.
pub fn unknown() {
    let numbers = [
        11,
        38,
        39,
        43,
        44,
        45,
        46,
        47,
        50,
        51,
        55,
        56,
        63,
        64,
        127,
        128,
        255,
        256,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        // The whole register counts, not its low half.
        0x1_0000_0000 | __HYPERVISOR_xen_version as u64,
        0x8000_0000_0000_0000 | __HYPERVISOR_xen_version as u64,
        u64::MAX,
        u64::MAX - 37,
    ];
    for number in numbers {
        let name = format_args!("hypercall {number:#x}");
        result(name, raw(number, [0, 0, 0, 0, 0]), ENOSYS);
    }
}
