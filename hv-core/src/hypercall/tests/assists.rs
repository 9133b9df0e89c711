//! What a kernel turns on by vm_assist.

use xen_abi::arch_x86::{IretContext, VcpuGuestContext};
use xen_abi::errno::Errno;
use xen_abi::hypercall::{
    __HYPERVISOR_iret, __HYPERVISOR_mmuext_op, __HYPERVISOR_vcpu_op, __HYPERVISOR_vm_assist,
};
use xen_abi::vcpu::VCPUOP_initialise;
use xen_abi::xen::*;
use zerocopy::FromZeros;

use crate::base::Mfn;
use crate::domain::Machine;
use crate::hypercall::Outcome;
use crate::hypercall::testing::{Fixture, GUEST};
use crate::hypercall::tests::machine::FIRST_SLOT;
use crate::mm::pte::HYPERVISOR_SLOT_FIRST;
use crate::pv::state::TrapEntry;

/// rflags: I/O privilege 3.
const IOPL_3: u64 = 3 << 12;
/// Where the kernel's stack is.
const STACK: u64 = GUEST + 0x1000;

fn enable(f: &mut Fixture, kind: u32) -> Result<u64, Errno> {
    f.call(
        __HYPERVISOR_vm_assist,
        &[VMASST_CMD_enable.into(), kind.into()],
    )
}

#[test]
fn known_kinds_are_taken() {
    let mut f = Fixture::guest();
    for kind in 0..64 {
        let known = [
            VMASST_TYPE_4gb_segments,
            VMASST_TYPE_4gb_segments_notify,
            VMASST_TYPE_writable_pagetables,
            VMASST_TYPE_pae_extended_cr3,
            VMASST_TYPE_architectural_iopl,
            VMASST_TYPE_runstate_update_flag,
            VMASST_TYPE_m2p_strict,
        ];
        let want = if known.contains(&kind) {
            Ok(0)
        } else {
            Err(Errno::EINVAL)
        };
        assert_eq!(enable(&mut f, kind), want, "{kind}");
    }
}

/// Returns by hypercall to a frame with these flags, then traps; the flags that the kernel finds.
fn round_trip(f: &mut Fixture, flags: u64) -> u64 {
    let frame = IretContext {
        rflags: flags,
        rsp: STACK,
        ..IretContext::default()
    };
    f.put(GUEST, &frame);
    f.regs.rsp = GUEST;
    let done = f.call_once(__HYPERVISOR_iret, [0; 6]);
    assert_eq!(done, Ok(Outcome::Resume));
    assert_eq!(f.regs.rflags & IOPL_3, 0, "never the processor's");
    f.state.traps[3] = TrapEntry {
        address: 0x1000,
        ..TrapEntry::default()
    };
    f.with(|cx| crate::pv::bounce::trap(cx, 3, None)).unwrap();
    // rcx, r11, rip, cs, rflags.
    f.get(f.regs.rsp + 32)
}

#[test]
fn the_privilege_in_flags_counts_where_the_kernel_asked_for_it() {
    let mut f = Fixture::guest();
    assert_eq!(round_trip(&mut f, IOPL_3) & IOPL_3, 0);
    assert_eq!(f.state.iopl, 0);
    enable(&mut f, VMASST_TYPE_architectural_iopl).unwrap();
    assert_eq!(round_trip(&mut f, IOPL_3) & IOPL_3, IOPL_3);
    assert_eq!(f.state.iopl, 3);
    assert_eq!(round_trip(&mut f, 0) & IOPL_3, 0);
}

#[test]
fn a_strict_domain_hides_the_m2p_from_its_programs() {
    let mut f = Fixture::guest();
    let base = |f: &mut Fixture, cmd, mfn: Mfn| {
        let op = MmuextOp {
            cmd,
            arg1: mfn.0,
            ..MmuextOp::default()
        };
        f.put(GUEST, &op);
        let own = u64::from(DOMID_SELF);
        f.call(__HYPERVISOR_mmuext_op, &[GUEST, 1, 0, own]).unwrap();
    };
    let machine = f.machine;
    let slot = |mfn: Mfn| {
        machine.words(mfn)[HYPERVISOR_SLOT_FIRST].load(std::sync::atomic::Ordering::Relaxed)
    };
    let (kernel, user) = (machine.page_of(1), machine.page_of(1));
    base(&mut f, MMUEXT_NEW_BASEPTR, kernel);
    base(&mut f, MMUEXT_NEW_USER_BASEPTR, user);
    assert_eq!((slot(kernel), slot(user)), (FIRST_SLOT, 0));
    base(&mut f, MMUEXT_NEW_USER_BASEPTR, kernel);
    assert_eq!(slot(kernel), FIRST_SLOT);
    enable(&mut f, VMASST_TYPE_m2p_strict).unwrap();
    base(&mut f, MMUEXT_NEW_USER_BASEPTR, kernel);
    base(&mut f, MMUEXT_NEW_BASEPTR, user);
    assert_eq!((slot(kernel), slot(user)), (0, FIRST_SLOT));
    // The same for a vCPU that starts with both.
    let mut context = VcpuGuestContext::new_zeroed();
    context.ctrlreg[3] = kernel.addr().0;
    context.ctrlreg[1] = user.addr().0 | 1;
    f.put(GUEST, &context);
    let initialise = [VCPUOP_initialise.into(), 1, GUEST];
    assert_eq!(f.call(__HYPERVISOR_vcpu_op, &initialise), Ok(0));
    assert_eq!((slot(kernel), slot(user)), (FIRST_SLOT, 0));
}
