//! Domains other than dom0: how they begin, get their registers and end.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use xen_abi::GuestHandle;
use xen_abi::arch_x86::*;
use xen_abi::domctl::{self as abi, Domctl, DomctlCreateDomain};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_domctl as CALL;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::base::Mfn;
use crate::domain::{Domain, Machine, RunFlags, ShutdownReason, VcpuState};
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};
use crate::mm::PtMachine;

const CONTEXT: u64 = GUEST + 0x2000;

/// What `xl create` asks for.
pub(super) fn config() -> DomctlCreateDomain {
    DomctlCreateDomain {
        ssidref: 12,
        handle: *b"0123456789abcdef",
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 2,
        ..DomctlCreateDomain::default()
    }
}

pub(super) fn ask<T: IntoBytes + Immutable>(
    f: &mut Fixture,
    cmd: u32,
    domain: u16,
    value: &T,
) -> Result<Domctl, Errno> {
    f.put(GUEST, &super::domctl::request(cmd, domain, value));
    f.call(CALL, &[GUEST])?;
    Ok(f.get(GUEST))
}

pub(super) fn create(
    f: &mut Fixture,
    domain: u16,
    config: &DomctlCreateDomain,
) -> Result<u16, Errno> {
    ask(f, abi::XEN_DOMCTL_createdomain, domain, config).map(|op| op.domain)
}

fn info(f: &mut Fixture, domain: u16) -> Result<abi::DomctlGetDomainInfo, Errno> {
    let empty = abi::DomctlGetDomainInfo::default();
    let op = ask(f, abi::XEN_DOMCTL_getdomaininfo, domain, &empty)?;
    let (info, _) = abi::DomctlGetDomainInfo::read_from_prefix(op.u.as_bytes()).unwrap();
    Ok(info)
}

fn destroy(f: &mut Fixture, domain: u16) -> Result<(), Errno> {
    ask(f, abi::XEN_DOMCTL_destroydomain, domain, &0u64).map(drop)
}

/// A domain with its vCPUs; d1.
pub(super) fn born() -> Fixture {
    born_in(Fixture::control())
}

fn born_in(mut f: Fixture) -> Fixture {
    assert_eq!(create(&mut f, 0xffff, &config()), Ok(1));
    let vcpus = abi::DomctlMaxVcpus { max: 2 };
    ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus).unwrap();
    f
}

#[test]
fn a_new_domain_is_as_tools_expect_it() {
    let mut f = Fixture::control();
    assert_eq!(create(&mut f, 0xffff, &config()), Ok(1));
    let i = info(&mut f, 1).unwrap();
    assert_eq!(i.flags, 0xffff_0008);
    assert_eq!((i.tot_pages, i.max_pages, i.nr_online_vcpus), (0, 0, 0));
    assert_eq!(i.max_vcpu_id, u32::MAX);
    assert_eq!(i.handle, config().handle);
    let vcpus = |max| abi::DomctlMaxVcpus { max };
    for wrong in [0, 1, 3, u32::MAX] {
        let refused = ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus(wrong));
        assert_eq!(refused.unwrap_err(), Errno::EINVAL);
    }
    for _again in 0..2 {
        ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus(2)).unwrap();
        let i = info(&mut f, 1).unwrap();
        assert_eq!((i.flags, i.max_vcpu_id), (0xffff_0008, 1));
    }
}

#[test]
fn numbers_are_chosen_in_turn_or_taken() {
    let mut f = Fixture::control();
    assert_eq!(create(&mut f, 0, &config()), Ok(1));
    assert_eq!(create(&mut f, 3, &config()), Ok(3));
    assert_eq!(create(&mut f, 3, &config()), Err(Errno::EEXIST));
    assert_eq!(create(&mut f, 0x7ff0, &config()), Ok(2));
    assert_eq!(create(&mut f, 0xffff, &config()), Ok(4));
    f.caller = f.hv.domain(4).unwrap();
    f.caller.turn.claim().unwrap();
}

#[test]
fn each_part_of_the_configuration_is_checked() {
    let mut f = Fixture::control();
    let before = f.machine.free_pages();
    type Change = fn(&mut DomctlCreateDomain);
    let wrong: [(Change, Errno); 19] = [
        (|c| c.flags = abi::XEN_DOMCTL_CDF_hvm, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_hap, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_iommu, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_vpmu, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_xs_domain, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_nested_virt, Errno::EINVAL),
        (|c| c.flags = 1 << 8, Errno::EINVAL),
        (|c| c.iommu_opts = 1, Errno::EINVAL),
        (|c| c.max_vcpus = 0, Errno::EINVAL),
        (|c| c.max_vcpus = 513, Errno::EINVAL),
        (|c| c.max_grant_frames = 0, Errno::EINVAL),
        (|c| c.max_grant_frames = i32::MAX, Errno::EINVAL),
        (|c| c.max_maptrack_frames = i32::MAX, Errno::EINVAL),
        (|c| c.grant_opts = 0, Errno::EINVAL),
        (|c| c.grant_opts = 0x12, Errno::EINVAL),
        (|c| c.vmtrace_size = 4096, Errno::EINVAL),
        (|c| c.cpupool_id = 1, Errno::ENOENT),
        (|c| c.arch.emulation_flags = 1, Errno::EINVAL),
        (|c| c.arch.misc_flags = 2, Errno::EINVAL),
    ];
    for (index, (change, errno)) in wrong.into_iter().enumerate() {
        let mut c = config();
        change(&mut c);
        assert_eq!(create(&mut f, 0, &c), Err(errno), "{index}");
    }
    assert_eq!(f.machine.free_pages(), before);
    let mut c = config();
    c.flags = abi::XEN_DOMCTL_CDF_oos_off | abi::XEN_DOMCTL_CDF_s3_integrity;
    c.arch.misc_flags = XEN_X86_MSR_RELAXED;
    // The one for which there was no pool had a number.
    assert_eq!(create(&mut f, 0, &c), Ok(2));
}

#[test]
fn guests_make_no_domains() {
    let mut f = Fixture::guest();
    assert_eq!(create(&mut f, 0, &config()), Err(Errno::EPERM));
    assert_eq!(destroy(&mut f, 0), Err(Errno::EPERM));
}

/// A context that a toolstack could send, with page tables and a GDT page of the domain's.
pub(super) fn context(f: &Fixture, id: u16) -> Box<VcpuGuestContext> {
    let (root, gdt) = (f.machine.page_of(id), f.machine.page_of(id));
    let mut c = VcpuGuestContext::new_box_zeroed().unwrap();
    c.flags = VGCF_in_kernel | VGCF_online;
    c.user_regs.rip = 0xffff_ffff_8100_0000;
    c.user_regs.cs = FLAT_KERNEL_CS;
    c.user_regs.ss = FLAT_KERNEL_SS;
    c.kernel_ss = FLAT_KERNEL_SS.into();
    c.ctrlreg[3] = root.addr().0;
    c.gdt_frames[0] = gdt.0;
    c.gdt_ents = 512;
    c
}

pub(super) fn set(f: &mut Fixture, vcpu: u32, context: &VcpuGuestContext) -> Result<(), Errno> {
    f.put(CONTEXT, context);
    set_at(f, vcpu, CONTEXT)
}

pub(super) fn set_at(f: &mut Fixture, vcpu: u32, at: u64) -> Result<(), Errno> {
    let request = abi::DomctlVcpuContext {
        vcpu,
        ctxt: GuestHandle::new(at),
        ..Default::default()
    };
    ask(f, abi::XEN_DOMCTL_setvcpucontext, 1, &request).map(drop)
}

pub(super) fn get(f: &mut Fixture, vcpu: u32) -> Result<Box<VcpuGuestContext>, Errno> {
    let request = abi::DomctlVcpuContext {
        vcpu,
        ctxt: GuestHandle::new(CONTEXT),
        ..Default::default()
    };
    ask(f, abi::XEN_DOMCTL_getvcpucontext, 1, &request)?;
    Ok(Box::new(f.get(CONTEXT)))
}

#[test]
fn registers_are_set_read_and_set_again() {
    let mut f = born();
    assert_eq!(get(&mut f, 0).unwrap_err(), Errno::ENODATA);
    let mut c = context(&f, 1);
    c.user_regs.rax = 7;
    c.user_regs.rflags = 0x3202;
    c.ctrlreg[0] = 8;
    c.debugreg[0] = 0x1234;
    c.debugreg[1] = HYPERVISOR_VIRT_START;
    c.debugreg[7] = 3;
    c.trap_ctxt[3].address = 0x77;
    c.vm_assist = 1 << 5 | 1 << 40;
    set(&mut f, 0, &c).unwrap();
    let domain = f.hv.domain(1).unwrap();
    assert!(domain.vcpus()[0].is_up());
    assert_eq!(domain.assists.load(Ordering::Relaxed), 1 << 5);
    let mut back = get(&mut f, 0).unwrap();
    assert_eq!(back.user_regs.rax, 7);
    assert_eq!(back.user_regs.rflags, 0x3202);
    assert_eq!(back.flags & !VGCF_i387_valid, c.flags);
    assert_eq!(back.ctrlreg[0] & 8, 8);
    assert_eq!(back.ctrlreg[3], c.ctrlreg[3]);
    assert_eq!(back.debugreg[0], 0x1234);
    // What the domain may not watch is not watched.
    assert_eq!(back.debugreg[1], 0);
    assert_eq!(back.debugreg[7], 0x403);
    assert_eq!(back.trap_ctxt[3].address, 0x77);
    assert_eq!(back.vm_assist, 1 << 5);
    // The tables are those that it has, and nothing else about it need be.
    back.user_regs.rax = 1;
    back.flags &= !VGCF_online;
    set(&mut f, 0, &back).unwrap();
    assert!(!domain.vcpus()[0].is_up());
    assert_eq!(get(&mut f, 0).unwrap().user_regs.rax, 1);
    back.ctrlreg[3] += 0x1000;
    assert_eq!(set(&mut f, 0, &back), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_context_must_be_there_and_for_a_vcpu() {
    let mut f = born();
    let c = context(&f, 1);
    assert_eq!(set(&mut f, 2, &c), Err(Errno::EINVAL));
    assert_eq!(set_at(&mut f, 0, NOWHERE), Err(Errno::EFAULT));
    assert_eq!(set_at(&mut f, 2, 0), Err(Errno::EINVAL));
    assert_eq!(get(&mut f, 2).unwrap_err(), Errno::EINVAL);
    let own = abi::DomctlVcpuContext {
        ctxt: GuestHandle::new(CONTEXT),
        ..Default::default()
    };
    for cmd in [
        abi::XEN_DOMCTL_setvcpucontext,
        abi::XEN_DOMCTL_getvcpucontext,
    ] {
        let refused = ask(&mut f, cmd, 0, &own);
        assert_eq!(refused.unwrap_err(), Errno::EINVAL);
    }
}

/// One field of a context is made bad.
fn spoil(c: &mut VcpuGuestContext, which: usize, value: u64) {
    let crooked = value & 0x0000_ffff_ffff_ffff | 0x00ff_0000_0000_0000;
    match which {
        0 => c.user_regs.rip = crooked,
        1 => c.user_regs.rsp = crooked,
        2 => c.kernel_sp = crooked,
        3 => c.event_callback_eip = crooked,
        4 => c.failsafe_callback_eip = crooked,
        5 => c.syscall_callback_eip = crooked,
        6 => c.fs_base = crooked,
        7 => c.gs_base_kernel = crooked,
        8 => c.gs_base_user = crooked,
        9 => c.ldt_base = value & 0x7fff_ffff_f000 | 1,
        10 => c.ldt_ents = 8193 + value / 2,
        11 => c.gdt_ents = u64::from(FIRST_RESERVED_GDT_ENTRY) + 1 + value / 2,
        12 => c.trap_ctxt[value as usize % 256].address = crooked,
        13 => c.ctrlreg[3] = value | 1 << 30,
        14 => c.ctrlreg[1] = value | 1 << 30,
        15 => c.gdt_frames[0] = value | 1 << 20,
        16 => c.flags &= !VGCF_in_kernel,
        17 => c.ldt_base = HYPERVISOR_VIRT_START + (value & 0xff_f000),
        _ => {
            c.flags |= VGCF_i387_valid;
            c.fpu_ctxt[26] = value as u8 | 1;
        }
    }
}

proptest! {
    #[test]
    fn a_bad_context_is_refused_and_leaves_nothing(which in 0..19usize, value: u64) {
        let mut f = born();
        let mut c = context(&f, 1);
        let frames = [Mfn(c.ctrlreg[3] >> 12), Mfn(c.gdt_frames[0])];
        spoil(&mut c, which, value);
        prop_assert_eq!(set(&mut f, 0, &c), Err(Errno::EINVAL));
        let domain = f.hv.domain(1).unwrap();
        prop_assert!(domain.vcpus()[0].state.lock().is_none());
        prop_assert!(domain.vcpus()[0].flags() & RunFlags::UNINITIALISED != 0);
        for mfn in frames {
            prop_assert_eq!(f.machine.frame(mfn).unwrap().references(), 1);
        }
    }

    /// Whatever is sent: it is refused, or the vCPU has what a guest may have.
    #[test]
    fn any_bytes_make_a_guests_registers(bytes in prop::collection::vec(any::<u8>(), 5168), sane: bool) {
        let mut f = born();
        let good = context(&f, 1);
        let mut c = Box::new(VcpuGuestContext::read_from_bytes(&bytes).unwrap());
        if sane {
            // Addresses that pass, so that the rest is looked at.
            c.user_regs.rip &= 0x7fff_ffff_ffff;
            c.user_regs.rsp &= 0x7fff_ffff_ffff;
            for part in [&mut c.kernel_sp, &mut c.event_callback_eip, &mut c.failsafe_callback_eip,
                &mut c.syscall_callback_eip, &mut c.fs_base, &mut c.gs_base_kernel, &mut c.gs_base_user] {
                *part &= 0x7fff_ffff_ffff;
            }
            c.trap_ctxt.iter_mut().for_each(|t| t.address &= 0x7fff_ffff_ffff);
            (c.ldt_base, c.ldt_ents) = (c.ldt_base & 0x7fff_ffff_f000, c.ldt_ents & 8191);
            (c.gdt_frames, c.gdt_ents) = (good.gdt_frames, good.gdt_ents);
            (c.ctrlreg[1], c.ctrlreg[3]) = (0, good.ctrlreg[3]);
            c.flags |= VGCF_in_kernel;
            c.fpu_ctxt[26..28].fill(0);
            prop_assert_eq!(set(&mut f, 0, &c), Ok(()));
        } else if set(&mut f, 0, &c).is_err() {
            return Ok(());
        }
        let domain = f.hv.domain(1).unwrap();
        let kept = domain.vcpus()[0].state.lock();
        let state = kept.as_ref().and_then(VcpuState::pv).unwrap();
        prop_assert_eq!((state.regs.cs & 3, state.regs.ss & 3, state.kernel_ss & 3), (3, 3, 3));
        // No I/O privilege, no virtual 8086 mode, interrupts on.
        prop_assert_eq!(state.regs.rflags & (3 << 12 | 1 << 17 | 1 << 9), 1 << 9);
        prop_assert!(state.debug[7] & (1 << 13) == 0 && state.debug[7] >> 32 == 0);
        for address in &state.debug[..4] {
            prop_assert!(!(HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(address));
        }
        prop_assert_eq!(u32::from_le_bytes(state.fpu[0].0[24..28].try_into().unwrap()) >> 16, 0);
    }
}

#[test]
fn a_hypercall_page_is_written_into_the_domains_memory_only() {
    let mut f = born();
    let (own, other) = (f.machine.page_of(1), f.machine.page_of(0));
    let page = |mfn: Mfn| abi::DomctlHypercallInit { gmfn: mfn.0 };
    ask(&mut f, abi::XEN_DOMCTL_hypercall_init, 1, &page(own)).unwrap();
    let words = f.machine.words(own);
    let stub = |number: usize| words[number * 4].load(Ordering::Relaxed).to_le_bytes();
    assert_eq!(stub(1), [0x51, 0x41, 0x53, 0xb8, 1, 0, 0, 0]);
    assert_eq!(stub(23), [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0]);
    for bad in [other, Mfn(1 << 40)] {
        let refused = ask(&mut f, abi::XEN_DOMCTL_hypercall_init, 1, &page(bad));
        assert_eq!(refused.unwrap_err(), Errno::EINVAL);
    }
}

#[test]
fn a_domain_that_went_down_can_go_on() {
    let mut f = born();
    let domain = f.hv.domain(1).unwrap();
    assert!(domain.unpause_by_tool().unwrap());
    f.hv.shut_down(&domain, ShutdownReason(2));
    assert_eq!(info(&mut f, 1).unwrap().flags, 0x2_0004);
    assert!(domain.is_paused());
    for _twice in 0..2 {
        ask(&mut f, abi::XEN_DOMCTL_resumedomain, 1, &0u64).unwrap();
        assert!(!domain.is_paused());
        assert_eq!(info(&mut f, 1).unwrap().flags, 0xffff_0000);
    }
    let own = ask(&mut f, abi::XEN_DOMCTL_resumedomain, 0, &0u64);
    assert_eq!(own.unwrap_err(), Errno::EINVAL);
}

/// References to a frame.
fn references(f: &Fixture, mfn: u64) -> u64 {
    f.machine.frame(Mfn(mfn)).unwrap().references()
}

#[test]
fn a_domain_ends_in_steps_and_leaves_nothing() {
    for patience in [u32::MAX, 1, 2] {
        let f = Fixture::control();
        let before = f.machine.free_pages();
        let mut f = born_in(f);
        let c = context(&f, 1);
        set(&mut f, 0, &c).unwrap();
        let domain = f.hv.domain(1).unwrap();
        let unit = domain.vcpus()[0].unit.get().unwrap();
        assert!(f.hv.vcpu_of(unit).is_some());
        assert_eq!(references(&f, c.gdt_frames[0]), 2);
        f.host.preempt_every(patience);
        for _again in 0..2 {
            destroy(&mut f, 1).unwrap();
        }
        f.host.preempt_every(u32::MAX);
        f.hv.forget_dead();
        assert!(f.hv.vcpu_of(unit).is_none());
        assert!(domain.vcpus().iter().all(|v| v.unit.get().is_none()));
        assert_eq!(
            (f.machine.free_pages(), domain.holdings.frames()),
            (before, 0)
        );
        assert_eq!(info(&mut f, 1).unwrap_err(), Errno::ESRCH);
        assert_eq!(create(&mut f, 1, &config()), Ok(1));
    }
}

#[test]
fn a_page_that_others_use_keeps_a_dead_domain() {
    let mut f = born();
    let domain = f.hv.domain(1).unwrap();
    let page = f.machine.page_of(1);
    f.machine.take_writable(page, 1).unwrap();
    destroy(&mut f, 1).unwrap();
    f.hv.forget_dead();
    assert_eq!(domain.holdings.frames(), 1);
    assert_eq!(info(&mut f, 1).unwrap().flags & 1, abi::XEN_DOMINF_dying);
    assert_eq!(create(&mut f, 1, &config()), Err(Errno::EEXIST));
    let vcpus = abi::DomctlMaxVcpus { max: 2 };
    let late = ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus);
    assert_eq!(late.unwrap_err(), Errno::EINVAL);
    f.machine.drop_writable(page);
    f.hv.forget_dead();
    assert_eq!(info(&mut f, 1).unwrap_err(), Errno::ESRCH);
}

#[test]
fn a_domain_does_not_end_itself() {
    let mut f = Fixture::control();
    assert_eq!(destroy(&mut f, 0), Err(Errno::EINVAL));
    assert_eq!(destroy(&mut f, 9), Err(Errno::ESRCH));
}

#[test]
fn the_tsc_is_chosen_before_the_domain_runs() {
    let mut f = born();
    let tsc = |tsc_mode, gtsc_khz, elapsed_nsec| abi::DomctlTscInfo {
        tsc_mode,
        gtsc_khz,
        elapsed_nsec,
        incarnation: 4,
        pad: 0xa5,
    };
    let mut settsc = |t| ask(&mut f, abi::XEN_DOMCTL_settscinfo, 1, &t).map(drop);
    assert_eq!(settsc(tsc(0, 0, 0)), Ok(()));
    assert_eq!(settsc(tsc(2, 1, 0)), Ok(()));
    assert_eq!(settsc(tsc(1, 0, 0)), Ok(()));
    assert_eq!(settsc(tsc(0, 1_000_000, 0)), Ok(()));
    assert_eq!(settsc(tsc(3, 0, 0)), Err(Errno::EINVAL));
    assert_eq!(settsc(tsc(1, u32::MAX, u64::MAX)), Err(Errno::EINVAL));
    assert_eq!(settsc(tsc(0, 2_600_100, 500)), Ok(()));
    let op = ask(&mut f, abi::XEN_DOMCTL_gettscinfo, 1, &tsc(9, 9, 9)).unwrap();
    let (told, _) = abi::DomctlTscInfo::read_from_prefix(op.u.as_bytes()).unwrap();
    assert_eq!((told.tsc_mode, told.gtsc_khz), (0, 2_600_000));
    assert_eq!((told.incarnation, told.elapsed_nsec), (5, 500));
    ask(&mut f, abi::XEN_DOMCTL_unpausedomain, 1, &0u64).unwrap();
    let late = ask(&mut f, abi::XEN_DOMCTL_settscinfo, 1, &tsc(0, 0, 0));
    assert_eq!(late.unwrap_err(), Errno::EINVAL);
}

#[test]
fn rights_to_devices_are_refused_in_words() {
    let mut f = born();
    let irq = |allow_access| abi::DomctlIrqPermission {
        pirq: 3,
        allow_access,
        pad: [0; 3],
    };
    let mut permit = |domain, allow| {
        let cmd = abi::XEN_DOMCTL_irq_permission;
        ask(&mut f, cmd, domain, &irq(allow)).map(drop)
    };
    assert_eq!(permit(1, 0), Ok(()));
    assert_eq!(permit(1, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(permit(0, 1), Ok(()));
    assert_eq!(permit(0, 0), Err(Errno::EOPNOTSUPP));
}

#[test]
fn one_cpu_at_a_time_works_on_a_domain() {
    let f = born();
    let domain = f.hv.domain(1).unwrap();
    let turn = domain.turn.claim();
    assert!(turn.is_some() && domain.turn.claim().is_none());
    drop(turn);
    assert!(domain.turn.claim().is_some());
    let _: &Domain = &domain;
}

#[test]
fn pages_of_a_domain_are_cleared_and_copied_for_it() {
    use xen_abi::hypercall::__HYPERVISOR_mmuext_op;
    use xen_abi::xen::{MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MmuextOp};
    let mut f = born();
    let (one, other, ours) = (
        f.machine.page_of(1),
        f.machine.page_of(1),
        f.machine.page_of(0),
    );
    f.machine.words(one)[7].store(5, Ordering::Relaxed);
    let ext = |f: &mut Fixture, cmd, to: Mfn, from: Mfn, domain: u64| {
        let (arg1, arg2) = (to.0, from.0);
        let op = MmuextOp {
            cmd,
            arg1,
            arg2,
            ..MmuextOp::default()
        };
        f.put(GUEST, &op);
        f.call(__HYPERVISOR_mmuext_op, &[GUEST, 1, 0, domain])
    };
    let machine = f.machine;
    let word = |mfn: Mfn| machine.words(mfn)[7].load(Ordering::Relaxed);
    assert_eq!(ext(&mut f, MMUEXT_COPY_PAGE, other, one, 1), Ok(0));
    assert_eq!(word(other), 5);
    assert_eq!(ext(&mut f, MMUEXT_CLEAR_PAGE, one, one, 1), Ok(0));
    assert_eq!((word(one), word(other)), (0, 5));
    let refused = ext(&mut f, MMUEXT_CLEAR_PAGE, ours, ours, 1);
    assert_eq!(refused, Err(Errno::EINVAL));
}

#[test]
fn what_a_running_domain_gave_the_hypervisor_goes_with_it() {
    use xen_abi::event_channel::*;
    use xen_abi::hypercall::{
        __HYPERVISOR_event_channel_op, __HYPERVISOR_physdev_op, __HYPERVISOR_vcpu_op,
    };
    use xen_abi::physdev::{PHYSDEVOP_pirq_eoi_gmfn_v2, PhysdevPirqEoiGmfn};
    use xen_abi::vcpu::{VCPUOP_register_vcpu_info, VcpuRegisterVcpuInfo};
    let f = Fixture::control();
    let before = f.machine.free_pages();
    let mut f = born_in(f);
    let c = context(&f, 1);
    set(&mut f, 0, &c).unwrap();
    let [info, control, array, ends] = [(); 4].map(|()| f.machine.page_of(1));
    let dom0 = std::mem::replace(&mut f.caller, f.hv.domain(1).unwrap());
    f.put(
        GUEST,
        &VcpuRegisterVcpuInfo {
            mfn: info.0,
            offset: 64,
            ..Default::default()
        },
    );
    let register = [VCPUOP_register_vcpu_info.into(), 0, GUEST];
    f.call(__HYPERVISOR_vcpu_op, &register).unwrap();
    f.put(
        GUEST,
        &EvtchnInitControl {
            control_gfn: control.0,
            ..Default::default()
        },
    );
    let call = __HYPERVISOR_event_channel_op;
    f.call(call, &[EVTCHNOP_init_control.into(), GUEST])
        .unwrap();
    f.put(GUEST, &EvtchnExpandArray { array_gfn: array.0 });
    f.call(call, &[EVTCHNOP_expand_array.into(), GUEST])
        .unwrap();
    f.put(GUEST, &PhysdevPirqEoiGmfn { gmfn: ends.0 });
    let give = [PHYSDEVOP_pirq_eoi_gmfn_v2.into(), GUEST];
    f.call(__HYPERVISOR_physdev_op, &give).unwrap();
    f.caller = dom0;
    let domain = f.hv.domain(1).unwrap();
    destroy(&mut f, 1).unwrap();
    f.hv.forget_dead();
    for page in [info, control, array, ends] {
        assert_eq!(references(&f, page.0), 0, "{page:?}");
    }
    assert_eq!(
        (f.machine.free_pages(), domain.holdings.frames()),
        (before, 0)
    );
}
