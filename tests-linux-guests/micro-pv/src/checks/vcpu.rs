//! vcpu_op on what needs no second vCPU.

use xen_abi::errno::Errno::*;
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;
use xen_abi::vcpu::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{bad, clock, upcall};
use crate::call::{Argument, hypercall};
use crate::memory::Page;
use crate::report::{either, holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE};
use crate::trap;

/// vcpu_op.
pub fn op<T: FromBytes + IntoBytes + Immutable>(command: u32, vcpu: u32, value: &T) -> (i64, T) {
    let argument = Argument::new(value);
    let args = [command.into(), vcpu.into(), argument.address()];
    let code = hypercall(__HYPERVISOR_vcpu_op, args);
    (code, argument.get())
}

/// vcpu_op with a pointer of any kind, or none.
pub fn raw(command: u32, vcpu: u32, pointer: u64) -> i64 {
    hypercall(__HYPERVISOR_vcpu_op, [command.into(), vcpu.into(), pointer])
}

/// vCPUs, commands and pointers that do not exist.
pub fn call() {
    for vcpu in [2, 31, 32, 128, 8191, 8192, 0x7fff_ffff, u32::MAX] {
        for command in 0..14 {
            let name = format_args!("operation {command} on vCPU {vcpu}");
            result(name, raw(command, vcpu, 0), ENOENT);
        }
    }
    for command in [14, 15, 99, u32::MAX] {
        result(
            format_args!("operation {command}"),
            raw(command, 0, 0),
            ENOSYS,
        );
    }
    for (kind, pointer) in bad::POINTERS {
        for command in [
            VCPUOP_get_runstate_info,
            VCPUOP_register_runstate_memory_area,
            VCPUOP_set_periodic_timer,
            VCPUOP_set_singleshot_timer,
            VCPUOP_register_vcpu_info,
            VCPUOP_get_physid,
            VCPUOP_register_vcpu_time_memory_area,
        ] {
            let name = format_args!("operation {command}, {kind} pointer");
            result(name, raw(command, 0, *pointer), EFAULT);
        }
    }
    result("initialise the first", raw(VCPUOP_initialise, 0, 0), EFAULT);
    result("is the first up", raw(VCPUOP_is_up, 0, 0), 1);
    result("up with the first", raw(VCPUOP_up, 0, 0), 0);
    let (code, id) = op(VCPUOP_get_physid, 0, &VcpuGetPhysid::default());
    either("get_physid", code, 0, EINVAL);
    holds("its answer", id.phys_id >> 32 < 256, id.phys_id);
}

/// Places for the hypervisor to write to.
pub fn places() {
    let page = Page::take();
    let vcpu_info = |vcpu: u32, mfn: u64, offset: u32| {
        let request = VcpuRegisterVcpuInfo {
            mfn,
            offset,
            rsvd: 0,
        };
        op(VCPUOP_register_vcpu_info, vcpu, &request).0
    };
    for offset in [4033, 4040, 4095, 4096, 0x1_0000, u32::MAX] {
        let name = format_args!("vcpu_info at offset {offset}");
        result(name, vcpu_info(1, page.machine(), offset), ENXIO);
    }
    for (owner, frame) in bad::frames() {
        let name = format_args!("vcpu_info in a frame {owner}");
        result(name, vcpu_info(1, frame, 0), EINVAL);
    }
    tables::protect(page, READ_ONLY);
    tables::extended(0, page.machine(), 0);
    result(
        "vcpu_info in a page table",
        vcpu_info(1, page.machine(), 0),
        EINVAL,
    );
    tables::release(page);
    result("vcpu_info", vcpu_info(1, page.machine(), 64), 0);
    result("vcpu_info twice", vcpu_info(1, page.machine(), 128), EINVAL);
    // The page is the hypervisor's to write to from now on: it may be no page table.
    tables::protect(page, READ_ONLY);
    result(
        "a page table of it",
        tables::extended(0, page.machine(), 0),
        EINVAL,
    );
    tables::protect(page, WRITABLE);
    runstate();
    time_area();
}

fn time_area() {
    let time = |addr: u64| {
        let area = VcpuRegisterTimeMemoryArea { addr };
        op(VCPUOP_register_vcpu_time_memory_area, 0, &area).0
    };
    for (kind, pointer) in bad::POINTERS
        .iter()
        .filter(|(_, at)| at >> 47 != 0 && *at != u64::MAX)
    {
        result(
            format_args!("time area at {kind} pointer"),
            time(*pointer),
            EFAULT,
        );
        let area = VcpuRegisterRunstateMemoryArea { addr: *pointer };
        let code = op(VCPUOP_register_runstate_memory_area, 0, &area).0;
        result(
            format_args!("runstate area at {kind} pointer"),
            code,
            EFAULT,
        );
    }
    let second = Page::take();
    result("time area", time(second.address()), 0);
    let record: xen_abi::xen::VcpuTimeInfo = second.get(0);
    same(
        "its content",
        record.tsc_to_system_mul,
        clock::record().tsc_to_system_mul,
    );
    result("no time area", time(0), 0);
    // As above.
}

fn runstate() {
    let page = Page::take();
    let area = VcpuRegisterRunstateMemoryArea {
        addr: page.address(),
    };
    let register = |area| op(VCPUOP_register_runstate_memory_area, 0, area).0;
    result("runstate area", register(&area), 0);
    let seen: VcpuRunstateInfo = page.get(0);
    same("it says running", seen.state, RUNSTATE_running);
    let (code, asked) = op(VCPUOP_get_runstate_info, 0, &VcpuRunstateInfo::default());
    result("get_runstate_info", code, 0);
    same("it says so too", asked.state, RUNSTATE_running);
    let now = clock::now();
    holds(
        "running since",
        asked.state_entry_time <= now,
        asked.state_entry_time,
    );
    let sum: u64 = asked.time.iter().sum();
    holds(
        "the times add up",
        sum > 0 && sum <= now + 1_000_000_000,
        sum,
    );
    let later = op(VCPUOP_get_runstate_info, 0, &VcpuRunstateInfo::default()).1;
    holds(
        "the time runs",
        later.time[0] > asked.time[0],
        later.time[0],
    );
    let (_, second) = op(VCPUOP_get_runstate_info, 1, &VcpuRunstateInfo::default());
    same("the second is offline", second.state, RUNSTATE_offline);
    super::timers::block_for(50_000_000);
    let seen: VcpuRunstateInfo = page.get(0);
    holds(
        "blocked time was noted",
        seen.time[2] >= 1_000_000,
        seen.time[2],
    );
    let gone = VcpuRegisterRunstateMemoryArea { addr: 0x1000 };
    result("runstate area in a hole", register(&gone), 0);
    super::timers::block_for(1_000_000);
    result(
        "no runstate area",
        register(&VcpuRegisterRunstateMemoryArea { addr: 0 }),
        0,
    );
    // The page is not used again, lest the hypervisor still writes to it.
}

/// Non-maskable interrupts to ourselves.
pub fn nmi() {
    use xen_abi::nmi::{NmiCallback, XENNMI_register_callback, XENNMI_unregister_callback};
    let number = xen_abi::hypercall::__HYPERVISOR_nmi_op;
    upcall::nmis();
    result("without a callback", raw(VCPUOP_send_nmi, 0, 0), 0);
    same("none came", upcall::nmis(), 0);
    let callback = Argument::new(&NmiCallback {
        handler_address: trap::stubs()[5],
        pad: 0,
    });
    let register = [XENNMI_register_callback.into(), callback.address()];
    result("register", hypercall(number, register), 0);
    // The one sent before may be waiting still.
    upcall::release();
    upcall::nmis();
    result("send", raw(VCPUOP_send_nmi, 0, 0), 0);
    same("one came", upcall::nmis(), 1);
    result("send again", raw(VCPUOP_send_nmi, 0, 0), 0);
    same("another came", upcall::nmis(), 1);
    result(
        "unregister",
        hypercall(number, [XENNMI_unregister_callback.into(), 0]),
        0,
    );
    upcall::hold();
}
