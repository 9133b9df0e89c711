//! What stock libxc asks about a domain's CPUs when it saves it, and sets when it restores it, in its order.

use std::sync::Arc;

use xen_abi::GuestHandle;
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl::{self as abi, Domctl};
use xen_abi::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::domains::{ask, config, context, create};
use crate::domain::{Domain, ShutdownReason, VcpuState};
use crate::hypercall::testing::{Fixture, GUEST};

const BUFFER: u64 = GUEST + 0x4000;
const MORE: u64 = GUEST + 0x6000;

/// All that is carried.
#[derive(Clone, PartialEq, Debug)]
struct Saved {
    leaves: Vec<[u32; 6]>,
    msrs: Vec<[u64; 2]>,
    tsc: abi::DomctlTscInfo,
    registers: Vec<u64>,
    entries: abi::DomctlExtVcpuContext,
    extended: Vec<u8>,
    vcpu_msrs: u32,
}

fn told<T: FromBytes>(op: Result<Domctl, Errno>) -> T {
    T::read_from_prefix(op.unwrap().u.as_bytes()).unwrap().0
}

fn does<T: IntoBytes + Immutable>(f: &mut Fixture, cmd: u32, id: u16, value: &T) {
    ask(f, cmd, id, value).unwrap();
}

fn array<T: FromBytes + IntoBytes + Clone>(f: &Fixture, at: u64, count: usize) -> Vec<T> {
    let element = |i: usize| f.get(at + (i * size_of::<T>()) as u64);
    (0..count).map(element).collect()
}

fn policy(nr_leaves: usize, nr_msrs: usize) -> abi::DomctlCpuPolicy {
    abi::DomctlCpuPolicy {
        nr_leaves: nr_leaves as u32,
        nr_msrs: nr_msrs as u32,
        leaves: GuestHandle::new(BUFFER),
        msrs: GuestHandle::new(MORE),
        ..Default::default()
    }
}

fn registers_at() -> abi::DomctlVcpuContext {
    abi::DomctlVcpuContext {
        ctxt: GuestHandle::new(BUFFER),
        ..Default::default()
    }
}

fn extended(mask: u64, size: u64) -> abi::DomctlVcpuExtState {
    abi::DomctlVcpuExtState {
        xfeature_mask: mask,
        size,
        buffer: GuestHandle::new(BUFFER),
        ..Default::default()
    }
}

fn save(f: &mut Fixture, id: u16) -> Saved {
    let most: abi::DomctlCpuPolicy = told(ask(
        f,
        abi::XEN_DOMCTL_get_cpu_policy,
        id,
        &abi::DomctlCpuPolicy::default(),
    ));
    let room = policy(most.nr_leaves as usize, most.nr_msrs as usize);
    let found: abi::DomctlCpuPolicy = told(ask(f, abi::XEN_DOMCTL_get_cpu_policy, id, &room));
    let leaves = array(f, BUFFER, found.nr_leaves as usize);
    let msrs = array(f, MORE, found.nr_msrs as usize);
    let tsc = told(ask(
        f,
        abi::XEN_DOMCTL_gettscinfo,
        id,
        &abi::DomctlTscInfo::default(),
    ));
    does(f, abi::XEN_DOMCTL_getvcpucontext, id, &registers_at());
    let registers = array(f, BUFFER, size_of::<VcpuGuestContext>() / 8);
    let empty = abi::DomctlExtVcpuContext::default();
    let entries = told(ask(f, abi::XEN_DOMCTL_get_ext_vcpucontext, id, &empty));
    let size: abi::DomctlVcpuExtState = told(ask(
        f,
        abi::XEN_DOMCTL_getvcpuextstate,
        id,
        &abi::DomctlVcpuExtState::default(),
    ));
    let room = extended(size.xfeature_mask, size.size);
    let size: abi::DomctlVcpuExtState = told(ask(f, abi::XEN_DOMCTL_getvcpuextstate, id, &room));
    let image = array(f, BUFFER, size.size as usize);
    let none = abi::DomctlVcpuMsrs::default();
    let msr_count: abi::DomctlVcpuMsrs = told(ask(f, abi::XEN_DOMCTL_get_vcpu_msrs, id, &none));
    Saved {
        leaves,
        msrs,
        tsc,
        registers,
        entries,
        extended: image,
        vcpu_msrs: msr_count.msr_count,
    }
}

/// Sets it all in a domain whose page tables lie elsewhere.
fn restore(f: &mut Fixture, id: u16, saved: &Saved) {
    f.put(BUFFER, saved.leaves.as_slice());
    f.put(MORE, saved.msrs.as_slice());
    let lists = policy(saved.leaves.len(), saved.msrs.len());
    does(f, abi::XEN_DOMCTL_set_cpu_policy, id, &lists);
    does(f, abi::XEN_DOMCTL_settscinfo, id, &saved.tsc);
    let own = context(f, id);
    let mut registers = VcpuGuestContext::new_box_zeroed().unwrap();
    registers
        .as_mut_bytes()
        .copy_from_slice(saved.registers.as_bytes());
    registers.ctrlreg[3] = own.ctrlreg[3];
    registers.gdt_frames = own.gdt_frames;
    f.put(BUFFER, &*registers);
    does(f, abi::XEN_DOMCTL_setvcpucontext, id, &registers_at());
    does(f, abi::XEN_DOMCTL_set_ext_vcpucontext, id, &saved.entries);
    f.put(BUFFER, saved.extended.as_slice());
    let size = saved.extended.len() as u64;
    does(f, abi::XEN_DOMCTL_setvcpuextstate, id, &extended(0, size));
}

/// What does not depend on where the page tables lie and how time goes on.
fn comparable(mut saved: Saved) -> Saved {
    let mut registers = VcpuGuestContext::read_from_bytes(saved.registers.as_bytes()).unwrap();
    registers.ctrlreg[3] = 0;
    registers.gdt_frames = [0; 16];
    saved
        .registers
        .as_mut_bytes()
        .copy_from_slice(registers.as_bytes());
    (saved.tsc.incarnation, saved.tsc.elapsed_nsec) = (0, 0);
    saved
}

/// A domain in the midst of something, and one that waits to become it.
fn two() -> (Fixture, Arc<Domain>, Arc<Domain>) {
    let mut f = Fixture::control();
    for _ in 0..2 {
        let id = create(&mut f, 0xffff, &config()).unwrap();
        let vcpus = abi::DomctlMaxVcpus { max: 2 };
        does(&mut f, abi::XEN_DOMCTL_max_vcpus, id, &vcpus);
    }
    let mut c = context(&f, 1);
    (c.user_regs.rax, c.user_regs.rdx, c.vm_assist) = (0, 0x1234, 1 << 5);
    c.trap_ctxt[14].address = 0xffff_ffff_8100_2000;
    c.fs_base = 0x7f00_0000_0000;
    f.put(BUFFER, &*c);
    does(&mut f, abi::XEN_DOMCTL_setvcpucontext, 1, &registers_at());
    let (old, new) = (f.hv.domain(1).unwrap(), f.hv.domain(2).unwrap());
    let mut kept = old.vcpus()[0].state.lock();
    let state = kept.as_mut().and_then(VcpuState::pv_mut).unwrap();
    state.fpu[3].0 = [0x33; 64];
    state.fpu[8].0[0] = 7;
    state.fpu[9].0 = [0x99; 64];
    state.callbacks.syscall32.address = 0xffff_ffff_8100_3000;
    drop(kept);
    (f, old, new)
}

#[test]
fn a_restored_domain_is_the_one_that_was_saved() {
    let (mut f, old, new) = two();
    f.hv.shut_down(&old, ShutdownReason(2));
    let saved = save(&mut f, 1);
    restore(&mut f, 2, &saved);
    let again = save(&mut f, 2);
    assert_eq!(comparable(again.clone()), comparable(saved.clone()));
    assert_eq!(again.tsc.incarnation, saved.tsc.incarnation + 1);
    assert!(again.tsc.elapsed_nsec >= saved.tsc.elapsed_nsec);
    assert!(new.vcpus()[0].is_up() && !new.vcpus()[1].is_up());
}

#[test]
fn a_checkpoint_changes_one_register() {
    let (mut f, old, _) = two();
    f.hv.shut_down(&old, ShutdownReason(2));
    let before = save(&mut f, 1);
    // xc_domain_resume: the guest's call returns that it was not suspended after all.
    does(&mut f, abi::XEN_DOMCTL_getvcpucontext, 1, &registers_at());
    let mut c: VcpuGuestContext = f.get(BUFFER);
    c.user_regs.rax = 1;
    f.put(BUFFER, &c);
    does(&mut f, abi::XEN_DOMCTL_setvcpucontext, 1, &registers_at());
    does(&mut f, abi::XEN_DOMCTL_resumedomain, 1, &0u64);
    let after = save(&mut f, 1);
    assert_eq!(
        after.extended, before.extended,
        "also what FXSAVE does not know"
    );
    let changed = before.registers.iter().zip(&after.registers);
    assert_eq!(changed.filter(|(old, new)| old != new).count(), 1);
}
