//! Where the hypervisor enters the kernel: trap table, callbacks, NMI, kernel stack.

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TrapInfo};
use xen_abi::callback::*;
use xen_abi::errno::Errno::{EFAULT, EINVAL, ENOSYS};
use xen_abi::hypercall::*;
use xen_abi::nmi::{NmiCallback, XENNMI_register_callback, XENNMI_unregister_callback};

use super::bad;
use crate::call::{Argument, hypercall, send};
use crate::memory::{PAGE, Page};
use crate::report::{result, same};
use crate::tables::{self, WRITABLE};
use crate::trap::{self, probe};

/// First address that is not canonical.
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

/// set_trap_table.
pub fn traps() {
    let call = |pointer: u64| hypercall(__HYPERVISOR_set_trap_table, [pointer]);
    for (kind, pointer) in &bad::POINTERS[1..] {
        result(
            format_args!("table, {kind} pointer"),
            call(*pointer),
            EFAULT,
        );
    }
    let page = Page::take();
    let entry = |vector: u8, address: u64| TrapInfo {
        vector,
        flags: 0,
        cs: FLAT_KERNEL_CS,
        address,
        ..TrapInfo::default()
    };
    for address in [
        NON_CANONICAL,
        0xffff_7fff_ffff_ffff,
        0xdead_beef_dead_beef,
        1 << 63,
    ] {
        page.put(0, &entry(3, address));
        let name = format_args!("table with handler {address:#x}");
        result(name, call(page.address()), EINVAL);
    }
    // A handler in the hypervisor's range is canonical; using it would be a page fault.
    page.put(0, &entry(200, 0xffff_8300_0000_0000));
    result("table with a handler of theirs", call(page.address()), 0);
    page.put(
        0,
        &TrapInfo {
            cs: 0,
            ..entry(201, 0x1000)
        },
    );
    result("table with a null selector", call(page.address()), 0);
    let row = Page::take_row(2);
    row[0].put(PAGE - 16, &entry(202, trap::stubs()[0]));
    tables::protect(&row[1], 0);
    let start = row[1].address() - 16;
    result("table that runs into a hole", call(start), EFAULT);
    tables::protect(&row[1], WRITABLE);
    trap::fill_table(page);
    result("a good table", call(page.address()), 0);
    same("a trap arrives", probe!("ud2"), trap::other(6, 0));
    for page in row {
        page.give_back();
    }
    page.give_back();
}

/// set_callbacks, callback_op, nmi_op, stack_switch.
pub fn callbacks() {
    let [_, event, failsafe, syscall, _, nmi] = trap::stubs();
    let old = |args: [u64; 3]| hypercall(__HYPERVISOR_set_callbacks, args);
    result("set_callbacks", old([event, failsafe, syscall]), 0);
    let bad = NON_CANONICAL;
    // The old operation says nothing and keeps what was there.
    result("bad event callback", old([bad, failsafe, syscall]), 0);
    result("bad failsafe callback", old([event, bad, syscall]), 0);
    result("bad syscall callback", old([event, failsafe, bad]), 0);
    let new = |kind: u16, address: u64| {
        let value = CallbackRegister {
            r#type: kind,
            address,
            ..CallbackRegister::default()
        };
        send(__HYPERVISOR_callback_op, CALLBACKOP_register, &value)
    };
    for (kind, name, address) in [
        (CALLBACKTYPE_event, "event", event),
        (CALLBACKTYPE_failsafe, "failsafe", failsafe),
        (CALLBACKTYPE_syscall, "syscall", syscall),
        (CALLBACKTYPE_syscall32, "syscall32", syscall),
        (CALLBACKTYPE_sysenter, "sysenter", syscall),
        (CALLBACKTYPE_nmi, "nmi", nmi),
    ] {
        result(format_args!("register {name}"), new(kind, address), 0);
        result(format_args!("register {name}, bad"), new(kind, bad), EINVAL);
    }
    for kind in [CALLBACKTYPE_sysenter_deprecated, 6, 8, 0xffff] {
        result(
            format_args!("register type {kind}"),
            new(kind, event),
            ENOSYS,
        );
    }
    unregister();
    nmis();
    stack();
}

fn unregister() {
    let call = |kind: u16| {
        let value = CallbackUnregister {
            r#type: kind,
            _unused: 0,
        };
        send(__HYPERVISOR_callback_op, CALLBACKOP_unregister, &value)
    };
    for (kind, name) in [
        (CALLBACKTYPE_event, "event"),
        (CALLBACKTYPE_failsafe, "failsafe"),
        (CALLBACKTYPE_syscall, "syscall"),
        (CALLBACKTYPE_syscall32, "syscall32"),
        (CALLBACKTYPE_sysenter, "sysenter"),
    ] {
        result(format_args!("unregister {name}"), call(kind), EINVAL);
    }
    result("unregister nmi", call(CALLBACKTYPE_nmi), 0);
    result("unregister type 8", call(8), ENOSYS);
    let raw = |op: u64, at: u64| hypercall(__HYPERVISOR_callback_op, [op, at]);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("register, {kind} pointer");
        result(name, raw(CALLBACKOP_register.into(), *pointer), EFAULT);
        let name = format_args!("unregister, {kind} pointer");
        result(name, raw(CALLBACKOP_unregister.into(), *pointer), EFAULT);
    }
    result("callback_op 2", raw(2, 0), ENOSYS);
    result("callback_op -1", raw(u64::from(u32::MAX), 0), ENOSYS);
}

fn nmis() {
    let call = |op: u64, pointer: u64| hypercall(__HYPERVISOR_nmi_op, [op, pointer]);
    let callback = |handler_address: u64| {
        Argument::new(&NmiCallback {
            handler_address,
            pad: 0,
        })
    };
    let good = callback(trap::stubs()[5]);
    let wrong = callback(NON_CANONICAL);
    let register = u64::from(XENNMI_register_callback);
    result("nmi callback", call(register, good.address()), 0);
    result("bad nmi callback", call(register, wrong.address()), EINVAL);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("nmi callback, {kind} pointer");
        result(name, call(register, *pointer), EFAULT);
    }
    let remove = u64::from(XENNMI_unregister_callback);
    result("no nmi callback", call(remove, 0), 0);
    result("no nmi callback, again", call(remove, 0), 0);
    result("nmi_op 2", call(2, 0), ENOSYS);
}

fn stack() {
    let call = |ss: u64, sp: u64| hypercall(__HYPERVISOR_stack_switch, [ss, sp]);
    let page = Page::take();
    let top = page.address() + PAGE;
    let ss = u64::from(FLAT_KERNEL_SS);
    // Any value is taken; only its use can fail.
    result("kernel stack", call(ss, top), 0);
    result(
        "kernel stack that is not canonical",
        call(ss, NON_CANONICAL),
        0,
    );
    result("kernel stack of theirs", call(ss, 0xffff_8300_0000_0000), 0);
    result("kernel stack segment 0", call(0, top), 0);
    result("kernel stack again", call(ss, top), 0);
}
