//! Calls that only the control domain may make.

use xen_abi::domctl::{Domctl, XEN_DOMCTL_INTERFACE_VERSION};
use xen_abi::errno::Errno::{self, EPERM};
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

/// Every operation of domctl, sysctl and platform_op.
pub fn control() {
    let domains = [0, kernel::domain(), 0x6fff];
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
            other += usize::from(!refused("domctl", cmd, code));
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

/// EPERM; for what does not exist also the answer for that, and Xen looks at the arguments of a few operations first.
fn refused(call: &str, cmd: u32, code: i64) -> bool {
    let known = [
        EPERM,
        Errno::ESRCH,
        Errno::ENOSYS,
        Errno::EOPNOTSUPP,
        Errno::EINVAL,
    ];
    let known = known.map(Errno::to_ret);
    if !known[..2].contains(&code) {
        crate::console::println!("{call} {cmd}: {code}");
    }
    known.contains(&code)
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
        let not = [EPERM, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EACCES];
        let known = not.map(Errno::to_ret).contains(&code);
        holds(name, known, code);
    }
    result("nothing was written", page.word(0) as i64, 0);
}
