//! Calls that only the control domain may make.

use xen_abi::domctl::{self, Domctl, XEN_DOMCTL_INTERFACE_VERSION};
use xen_abi::errno::Errno::{self, EINVAL, EOPNOTSUPP, EPERM, ESRCH};
use xen_abi::hypercall::*;
use xen_abi::platform::{PlatformOp, XENPF_INTERFACE_VERSION};
use xen_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION;
use zerocopy::FromZeros;

use crate::call::{Argument, hypercall};
use crate::kernel;
use crate::memory::Page;
use crate::report::{holds, result, same};

/// Operations of an interface that are asked; there are fewer.
const OPERATIONS: u32 = 100;

/// A domain that there is not.
const ABSENT: u16 = 0x6fff;

/// Operations of domctl at whose arguments Xen looks before rights, and what it says of these.
const EARLY: &[(u32, Errno)] = &[
    (domctl::XEN_DOMCTL_ioport_permission, EINVAL),
    (domctl::XEN_DOMCTL_bind_pt_irq, EINVAL),
    (domctl::XEN_DOMCTL_memory_mapping, EINVAL),
    (domctl::XEN_DOMCTL_ioport_mapping, EOPNOTSUPP),
    (domctl::XEN_DOMCTL_set_target, EINVAL),
    (domctl::XEN_DOMCTL_set_target, EOPNOTSUPP),
    (domctl::XEN_DOMCTL_unbind_pt_irq, EINVAL),
    (domctl::XEN_DOMCTL_get_device_group, EOPNOTSUPP),
];

/// Every operation of domctl, sysctl and platform_op.
pub fn control() {
    let domains = [0, kernel::domain(), ABSENT];
    let mut other = 0_usize;
    for cmd in 0..OPERATIONS {
        for domain in domains {
            let op = Domctl {
                cmd,
                interface_version: XEN_DOMCTL_INTERFACE_VERSION,
                domain,
                ..Domctl::new_zeroed()
            };
            let op = Argument::new(&op);
            let code = hypercall(__HYPERVISOR_domctl, [op.address()]);
            let told = domain == ABSENT && code == ESRCH.to_ret() || early(cmd, code);
            other += usize::from(!told && !refused("domctl", cmd, code));
        }
    }
    same("domctl: answers that are no refusal", other, 0);
    let page = Page::take();
    other = 0;
    for cmd in 0..OPERATIONS {
        page.put(0, &[cmd, XEN_SYSCTL_INTERFACE_VERSION]);
        let code = hypercall(__HYPERVISOR_sysctl, [page.address()]);
        other += usize::from(!refused("sysctl", cmd, code));
    }
    same("sysctl: answers that are no refusal", other, 0);
    other = 0;
    for cmd in 0..OPERATIONS {
        let op = PlatformOp {
            cmd,
            interface_version: XENPF_INTERFACE_VERSION,
            ..PlatformOp::new_zeroed()
        };
        let op = Argument::new(&op);
        let code = hypercall(__HYPERVISOR_platform_op, [op.address()]);
        other += usize::from(!refused("platform_op", cmd, code));
    }
    same("platform_op: answers that are no refusal", other, 0);
    others(page);
}

/// EPERM; any other answer is printed.
fn refused(call: &str, cmd: u32, code: i64) -> bool {
    let refused = code == EPERM.to_ret();
    if !refused {
        crate::console::println!("{call} {cmd}: {code}");
    }
    refused
}

/// Whether this is what Xen says of an operation's arguments, which it looks at before rights.
fn early(cmd: u32, code: i64) -> bool {
    EARLY
        .iter()
        .any(|(early, errno)| cmd == *early && code == errno.to_ret())
}

/// Calls with one operation or few.
fn others(page: &Page) {
    let at = page.address();
    page.clear();
    for (name, number, args) in [
        ("kexec_op", __HYPERVISOR_kexec_op, [0, at]),
        ("mca", __HYPERVISOR_mca, [at, 0]),
        ("console_io: write", __HYPERVISOR_console_io, [0, 1]),
        ("console_io: read", __HYPERVISOR_console_io, [1, 1]),
        ("hypfs_op", __HYPERVISOR_hypfs_op, [0, 0]),
    ] {
        let code = hypercall(number, [args[0], args[1], at, 0, 0]);
        let not = [EPERM, Errno::ENOSYS, EOPNOTSUPP, Errno::EACCES];
        let known = not.map(Errno::to_ret).contains(&code);
        holds(name, known, code);
    }
    result("nothing was written", page.word(0) as i64, 0);
}
