//! physdev_op: PCI functions and message interrupts. The machine may have functions with such interrupts; where it
//! has none, only the refusals are checked.

use xen_abi::errno::Errno::*;
use xen_abi::event_channel::{EVTCHNOP_bind_pirq, EVTCHNOP_close, EvtchnBindPirq, EvtchnClose};
use xen_abi::hypercall::{__HYPERVISOR_event_channel_op, __HYPERVISOR_physdev_op};
use xen_abi::physdev::*;
use xen_abi::xen::{DOMID_SELF, UVMF_INVLPG};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::call::{send, with};
use crate::memory::{PAGE, Page, read, write};
use crate::pci::{self, Function};
use crate::report::{either, holds, result, same};
use crate::tables::{self, WRITABLE};

/// Capability of messages without a table.
const MSI: u8 = 5;
/// Capability of messages with one.
const MSIX: u8 = 0x11;
/// Where no function is.
const NOWHERE: (i32, i32) = (0, 0xff);
/// Page flags: not cached.
const UNCACHED: u64 = 0x18;

fn op<T: FromBytes + IntoBytes + Immutable>(command: u32, value: &T) -> i64 {
    send(__HYPERVISOR_physdev_op, command, value)
}

fn request(kind: i32, (bus, devfn): (i32, i32), entry_nr: i32, table_base: u64) -> PhysdevMapPirq {
    PhysdevMapPirq {
        domid: DOMID_SELF,
        r#type: kind,
        index: -1,
        pirq: -1,
        bus,
        devfn,
        entry_nr,
        table_base,
        ..PhysdevMapPirq::default()
    }
}

fn map(request: PhysdevMapPirq) -> (i64, PhysdevMapPirq) {
    with(__HYPERVISOR_physdev_op, PHYSDEVOP_map_pirq, &request)
}

fn unmap(pirq: i32) -> i64 {
    let request = PhysdevUnmapPirq {
        domid: DOMID_SELF,
        pirq,
        ..PhysdevUnmapPirq::default()
    };
    op(PHYSDEVOP_unmap_pirq, &request)
}

fn place(f: Function) -> (i32, i32) {
    (f.bus.into(), f.devfn.into())
}

fn device(f: Function) -> PhysdevPciDevice {
    PhysdevPciDevice {
        seg: 0,
        bus: f.bus,
        devfn: f.devfn,
    }
}

fn report(f: Function) -> i64 {
    let add = PhysdevPciDeviceAdd {
        bus: f.bus,
        devfn: f.devfn,
        ..PhysdevPciDeviceAdd::default()
    };
    op(PHYSDEVOP_pci_device_add, &add)
}

/// What no machine can have.
pub fn refused() {
    let kinds = [
        (MAP_PIRQ_TYPE_MSI, "MSI"),
        (MAP_PIRQ_TYPE_MSI_SEG, "MSI_SEG"),
        (MAP_PIRQ_TYPE_MULTI_MSI, "MULTI_MSI"),
    ];
    for (kind, name) in kinds {
        let code = map(request(kind, NOWHERE, 1, 0)).0;
        result(format_args!("{name} of nobody"), code, ENODEV);
        let far = request(kind, (0x7fff_0000, 0), 1, 0);
        result(
            format_args!("{name} in another segment"),
            map(far).0,
            ENODEV,
        );
        let far = PhysdevMapPirq {
            domid: 0x7ff4,
            ..far
        };
        result(
            format_args!("{name} for a domain that does not exist"),
            map(far).0,
            ESRCH,
        );
        if kind == MAP_PIRQ_TYPE_MULTI_MSI {
            continue;
        }
        for base in [1, 0xfee0_0000, u64::MAX] {
            let code = map(request(kind, NOWHERE, 0, base)).0;
            result(
                format_args!("{name} with a table at {base:#x} of nobody"),
                code,
                ENODEV,
            );
        }
        for index in [0, 1, 23, -2, 4096, i32::MAX, i32::MIN] {
            let named = PhysdevMapPirq {
                index,
                ..request(kind, NOWHERE, 1, 0)
            };
            result(
                format_args!("{name} by index {index}"),
                map(named).0,
                EINVAL,
            );
        }
    }
    for count in [0, -1, 33, i32::MAX, i32::MIN] {
        let code = map(request(MAP_PIRQ_TYPE_MULTI_MSI, NOWHERE, count, 0)).0;
        // The function is looked for first, or the count.
        either(format_args!("{count} messages"), code, EDOM, ENODEV);
    }
    let code = map(request(MAP_PIRQ_TYPE_MULTI_MSI, NOWHERE, 1, 0x1000)).0;
    result("several messages with a table", code, EINVAL);
    for flags in [2, u32::MAX] {
        let window = PhysdevPciMmcfgReserved {
            flags,
            ..PhysdevPciMmcfgReserved::default()
        };
        let code = op(PHYSDEVOP_pci_mmcfg_reserved, &window);
        result(format_args!("a window with flags {flags:#x}"), code, EINVAL);
    }
    for segment in [7, 0xffff] {
        let window = PhysdevPciMmcfgReserved {
            address: u64::MAX,
            segment,
            flags: XEN_PCI_MMCFG_RESERVED,
            ..PhysdevPciMmcfgReserved::default()
        };
        let code = op(PHYSDEVOP_pci_mmcfg_reserved, &window);
        result(format_args!("a window of segment {segment}"), code, ENODEV);
    }
    for (is_extfn, is_virtfn) in [(2, 0), (0, 2), (u32::MAX, u32::MAX)] {
        let request = PhysdevManagePciExt {
            is_extfn,
            is_virtfn,
            ..PhysdevManagePciExt::default()
        };
        let code = op(PHYSDEVOP_manage_pci_add_ext, &request);
        result(
            format_args!("a function of kind {is_extfn:#x}, {is_virtfn:#x}"),
            code,
            EINVAL,
        );
    }
}

/// Messages of the functions that the machine has.
pub fn mapped() {
    let iopl = |iopl| op(PHYSDEVOP_set_iopl, &PhysdevSetIopl { iopl });
    result("the right to use ports", iopl(1), 0);
    for (f, capability) in pci::with_capability(MSI) {
        without_table(f, capability);
    }
    for (f, capability) in pci::with_capability(MSIX) {
        with_table(f, capability);
    }
    result("no right to use ports", iopl(0), 0);
}

fn bind_and_close(f: Function, pirq: i32) {
    let bind = EvtchnBindPirq {
        pirq: pirq as u32,
        flags: 0,
        port: 0,
    };
    let (code, bound) = with(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_pirq, &bind);
    result(format_args!("{f:x?}: bind"), code, 0);
    let close = EvtchnClose { port: bound.port };
    let code = send(__HYPERVISOR_event_channel_op, EVTCHNOP_close, &close);
    result(format_args!("{f:x?}: close"), code, 0);
}

fn without_table(f: Function, capability: u16) {
    let first = request(MAP_PIRQ_TYPE_MSI, place(f), 0, 0);
    result(
        format_args!("{f:x?}: MSI before it is reported"),
        map(first).0,
        ENODEV,
    );
    result(format_args!("{f:x?}: reported"), report(f), 0);
    result(format_args!("{f:x?}: reported again"), report(f), 0);
    let many = request(MAP_PIRQ_TYPE_MULTI_MSI, place(f), 32, 0);
    let able = 1 << (f.read(capability) >> 17 & 7);
    if able < 32 {
        // Too many for the function; or without interrupt remapping too many for the hypervisor.
        either(
            format_args!("{f:x?}: 32 messages"),
            map(many).0,
            ENFILE,
            EOPNOTSUPP,
        );
    }
    let (code, done) = map(first);
    result(format_args!("{f:x?}: MSI"), code, 0);
    holds(
        format_args!("{f:x?}: its number"),
        done.pirq >= 16,
        done.pirq,
    );
    // Xen gives the same message a second number.
    either(format_args!("{f:x?}: MSI again"), map(first).0, EEXIST, 0);
    same(
        format_args!("{f:x?}: the address"),
        f.read(capability + 4) >> 20,
        0xfee,
    );
    f.write_word(capability + 2, 1);
    same(
        format_args!("{f:x?}: turned on"),
        f.read(capability) >> 16 & 1,
        1,
    );
    bind_and_close(f, done.pirq);
    result(
        format_args!("{f:x?}: restored"),
        op(PHYSDEVOP_restore_msi_ext, &device(f)),
        0,
    );
    same(
        format_args!("{f:x?}: still on"),
        f.read(capability) >> 16 & 1,
        1,
    );
    result(format_args!("{f:x?}: unmapped"), unmap(done.pirq), 0);
    same(format_args!("{f:x?}: off"), f.read(capability) >> 16 & 1, 0);
    unmapped_and_gone(f, done.pirq);
    result(
        format_args!("{f:x?}: MSI of what is gone"),
        map(first).0,
        ENODEV,
    );
}

/// A number that was unmapped is no number any more, and its function can be taken out.
fn unmapped_and_gone(f: Function, pirq: i32) {
    result(format_args!("{f:x?}: unmapped again"), unmap(pirq), EINVAL);
    result(
        format_args!("{f:x?}: gone"),
        op(PHYSDEVOP_pci_device_remove, &device(f)),
        0,
    );
}

fn with_table(f: Function, capability: u16) {
    let (entries, table) = (
        (f.read(capability) >> 16 & 0x7ff) as i32 + 1,
        f.read(capability + 4),
    );
    let bar = f.bar(table as u16 & 7);
    if bar == 0 {
        return;
    }
    // The function answers, as when a driver has it.
    f.write_word(4, 2);
    let entry = |n| request(MAP_PIRQ_TYPE_MSI_SEG, place(f), n, bar);
    result(
        format_args!("{f:x?}: MSI-X before it is reported"),
        map(entry(0)).0,
        ENODEV,
    );
    result(format_args!("{f:x?}: reported"), report(f), 0);
    for beyond in [entries, -1, i32::MAX, i32::MIN] {
        let name = format_args!("{f:x?}: entry {beyond}");
        result(name, map(entry(beyond)).0, EINVAL);
    }
    let prepare = |command| op(command, &device(f));
    result(
        format_args!("{f:x?}: prepared"),
        prepare(PHYSDEVOP_prepare_msix),
        0,
    );
    result(
        format_args!("{f:x?}: prepared again"),
        prepare(PHYSDEVOP_prepare_msix),
        EBUSY,
    );
    result(
        format_args!("{f:x?}: released"),
        prepare(PHYSDEVOP_release_msix),
        0,
    );
    result(
        format_args!("{f:x?}: released again"),
        prepare(PHYSDEVOP_release_msix),
        EBUSY,
    );
    let (code, done) = map(entry(0));
    result(format_args!("{f:x?}: entry 0"), code, 0);
    let code = map(entry(0)).0;
    either(format_args!("{f:x?}: entry 0 again"), code, EEXIST, 0);
    guarded(f, bar + u64::from(table & !7));
    bind_and_close(f, done.pirq);
    result(
        format_args!("{f:x?}: restored"),
        op(PHYSDEVOP_restore_msi_ext, &device(f)),
        0,
    );
    result(format_args!("{f:x?}: unmapped"), unmap(done.pirq), 0);
    unmapped_and_gone(f, done.pirq);
    f.write_word(4, 0);
}

/// A table that is mapped cannot be written to.
fn guarded(f: Function, table: u64) {
    let page = Page::take();
    let frame = table / PAGE * PAGE;
    let code = tables::map(page.address(), frame | WRITABLE | UNCACHED, UVMF_INVLPG);
    result(format_args!("{f:x?}: its table mapped"), code, 0);
    let at = page.address() + table % PAGE;
    let before: u32 = read(at);
    same(format_args!("{f:x?}: its address"), before >> 20, 0xfee);
    for offset in [0, 4, 8, 12] {
        write(at + offset, 0xdead_beef_u32);
    }
    same(
        format_args!("{f:x?}: after a store"),
        read::<u32>(at),
        before,
    );
    holds(
        format_args!("{f:x?}: its mask after a store"),
        read::<u32>(at + 12) & 1 == 1,
        "not masked",
    );
    tables::protect(page, WRITABLE);
    page.give_back();
}
