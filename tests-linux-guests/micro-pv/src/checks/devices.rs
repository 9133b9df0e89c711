//! physdev_op.

use xen_abi::GuestHandle;
use xen_abi::errno::Errno::*;
use xen_abi::hypercall::__HYPERVISOR_physdev_op;
use xen_abi::physdev::*;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bad;
use crate::call::{hypercall, send};
use crate::memory::Page;
use crate::report::{either, optional, result};

fn op<T: FromBytes + IntoBytes + Immutable>(command: u32, value: &T) -> i64 {
    send(__HYPERVISOR_physdev_op, command, value)
}

/// Unknown operations and bad pointers.
pub fn call() {
    let raw = |command: u32, at: u64| hypercall(__HYPERVISOR_physdev_op, [command.into(), at]);
    for command in [0, 1, 2, 3, 18, 22, 32, 33, 99, u32::MAX] {
        result(format_args!("operation {command}"), raw(command, 0), ENOSYS);
    }
    for command in [
        PHYSDEVOP_irq_status_query,
        PHYSDEVOP_set_iopl,
        PHYSDEVOP_set_iobitmap,
        PHYSDEVOP_apic_read,
        PHYSDEVOP_apic_write,
        PHYSDEVOP_alloc_irq_vector,
        PHYSDEVOP_eoi,
        PHYSDEVOP_map_pirq,
        PHYSDEVOP_unmap_pirq,
        PHYSDEVOP_manage_pci_add,
        PHYSDEVOP_manage_pci_remove,
        PHYSDEVOP_pirq_eoi_gmfn_v1,
        PHYSDEVOP_restore_msi,
        PHYSDEVOP_manage_pci_add_ext,
        PHYSDEVOP_setup_gsi,
        PHYSDEVOP_get_free_pirq,
        PHYSDEVOP_pci_mmcfg_reserved,
        PHYSDEVOP_pci_device_add,
        PHYSDEVOP_pci_device_remove,
        PHYSDEVOP_restore_msi_ext,
        PHYSDEVOP_pirq_eoi_gmfn_v2,
        PHYSDEVOP_dbgp_op,
        PHYSDEVOP_prepare_msix,
        PHYSDEVOP_release_msix,
    ] {
        for (kind, pointer) in bad::POINTERS {
            let name = format_args!("operation {command}, {kind} pointer");
            optional(name, raw(command, *pointer), EFAULT);
        }
    }
}

/// Privileges of I/O.
pub fn io() {
    for iopl in [1, 3, 0] {
        result(
            format_args!("I/O privilege {iopl}"),
            op(PHYSDEVOP_set_iopl, &PhysdevSetIopl { iopl }),
            0,
        );
    }
    for iopl in [4, 255, u32::MAX] {
        let name = format_args!("I/O privilege {iopl}");
        result(
            name,
            op(PHYSDEVOP_set_iopl, &PhysdevSetIopl { iopl }),
            EINVAL,
        );
    }
    let bitmap = |nr_ports: u32, at: u64| {
        let request = PhysdevSetIobitmap {
            bitmap: GuestHandle::new(at),
            nr_ports,
            ..PhysdevSetIobitmap::default()
        };
        op(PHYSDEVOP_set_iobitmap, &request)
    };
    optional("65536 ports", bitmap(65_536, 0), 0);
    for ports in [65_537, 1 << 31, u32::MAX] {
        optional(format_args!("{ports} ports"), bitmap(ports, 0), EINVAL);
    }
    optional("no ports", bitmap(0, 0), 0);
    let apic = |command: u32, apic_physbase: u64, reg: u32| {
        let request = PhysdevApic {
            apic_physbase,
            reg,
            ..PhysdevApic::default()
        };
        op(command, &request)
    };
    for base in [0, 0x1000, 0xfee0_0000, u64::MAX] {
        for command in [PHYSDEVOP_apic_read, PHYSDEVOP_apic_write] {
            let name = format_args!("operation {command} on an I/O APIC at {base:#x}");
            optional(name, apic(command, base, 0), EINVAL);
        }
    }
}

/// Interrupts.
pub fn interrupts() {
    for irq in [4096, 65_536, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        result(
            format_args!("eoi {irq}"),
            op(PHYSDEVOP_eoi, &PhysdevEoi { irq }),
            EINVAL,
        );
        let request = PhysdevIrqStatusQuery { irq, flags: 0 };
        result(
            format_args!("status of {irq}"),
            op(PHYSDEVOP_irq_status_query, &request),
            EINVAL,
        );
        let request = PhysdevIrq { irq, vector: 0 };
        // Nothing is allocated any more; the number is handed back.
        let code = op(PHYSDEVOP_alloc_irq_vector, &request);
        result(format_args!("vector of {irq}"), code, 0);
        let request = PhysdevUnmapPirq {
            domid: DOMID_SELF,
            pirq: irq as i32,
            ..PhysdevUnmapPirq::default()
        };
        result(
            format_args!("unmap {irq}"),
            op(PHYSDEVOP_unmap_pirq, &request),
            EINVAL,
        );
    }
    maps();
    for gsi in [-1, 4096, i32::MAX, i32::MIN] {
        let request = PhysdevSetupGsi {
            gsi,
            ..PhysdevSetupGsi::default()
        };
        result(
            format_args!("setup_gsi {gsi}"),
            op(PHYSDEVOP_setup_gsi, &request),
            EINVAL,
        );
    }
    eoi_pages();
}

/// Maps of pIRQs.
fn maps() {
    let map = |domid: u16, kind: i32, index: i32, pirq: i32| {
        let request = PhysdevMapPirq {
            domid,
            r#type: kind,
            index,
            pirq,
            ..PhysdevMapPirq::default()
        };
        op(PHYSDEVOP_map_pirq, &request)
    };
    for domid in [0x6fff, 0x7fef, 0x7ff4, 0xffff] {
        result(
            format_args!("map for {domid:#x}"),
            map(domid, MAP_PIRQ_TYPE_GSI, 5, -1),
            ESRCH,
        );
        let request = PhysdevUnmapPirq {
            domid,
            ..PhysdevUnmapPirq::default()
        };
        result(
            format_args!("unmap for {domid:#x}"),
            op(PHYSDEVOP_unmap_pirq, &request),
            ESRCH,
        );
    }
    for index in [-2, 4096, i32::MAX, i32::MIN] {
        let code = map(DOMID_SELF, MAP_PIRQ_TYPE_GSI, index, -1);
        result(format_args!("map GSI {index}"), code, EINVAL);
    }
    for kind in [5, 99, -1, i32::MIN] {
        result(
            format_args!("map kind {kind}"),
            map(DOMID_SELF, kind, 5, -1),
            EINVAL,
        );
    }
    for pirq in [4096, i32::MAX] {
        let code = map(DOMID_SELF, MAP_PIRQ_TYPE_GSI, 5, pirq);
        result(format_args!("map to pIRQ {pirq}"), code, EINVAL);
    }
    for kind in [1, 2, 99, -1] {
        let request = PhysdevGetFreePirq {
            r#type: kind,
            pirq: 0,
        };
        optional(
            format_args!("get_free_pirq {kind}"),
            op(PHYSDEVOP_get_free_pirq, &request),
            0,
        );
    }
}

fn eoi_pages() {
    for (owner, gmfn) in bad::frames() {
        for command in [PHYSDEVOP_pirq_eoi_gmfn_v1, PHYSDEVOP_pirq_eoi_gmfn_v2] {
            let name = format_args!("operation {command} with a frame {owner}");
            optional(name, op(command, &PhysdevPirqEoiGmfn { gmfn }), EINVAL);
        }
    }
    let page = Page::take();
    let gmfn = page.machine();
    let command = PHYSDEVOP_pirq_eoi_gmfn_v2;
    optional("an EOI page", op(command, &PhysdevPirqEoiGmfn { gmfn }), 0);
    optional(
        "another EOI page",
        op(command, &PhysdevPirqEoiGmfn { gmfn }),
        EBUSY,
    );
    // The page is the hypervisor's to write to from now on.
    let device = PhysdevPciDevice {
        seg: 0xffff,
        bus: 255,
        devfn: 255,
    };
    for (command, name) in [
        (PHYSDEVOP_pci_device_remove, "remove"),
        (PHYSDEVOP_restore_msi_ext, "restore_msi_ext"),
        (PHYSDEVOP_prepare_msix, "prepare_msix"),
        (PHYSDEVOP_release_msix, "release_msix"),
    ] {
        either(
            format_args!("{name} of a device that is not there"),
            op(command, &device),
            ENODEV,
            ESRCH,
        );
    }
    for debug_op in [0, 3, 255] {
        let request = PhysdevDbgpOp {
            op: debug_op,
            ..PhysdevDbgpOp::default()
        };
        // Without a debug port there is nothing to do; not knowing the operation is as good.
        either(
            format_args!("dbgp_op {debug_op}"),
            op(PHYSDEVOP_dbgp_op, &request),
            0,
            ENOSYS,
        );
    }
}
