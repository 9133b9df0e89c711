//! Domains in containers: how they begin, what the toolstack gives them and sees of them, and their vCPUs.

mod context;
mod narrow;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use xen_abi::GuestHandle;
use xen_abi::arch_x86::*;
use xen_abi::domctl::{self as abi, DomctlCreateDomain, DomctlHvmContext, DomctlHvmContextPartial};
use xen_abi::errno::Errno;
use xen_abi::event_channel::{EVTCHNOP_send, EvtchnSend};
use xen_abi::hvm_op::*;
use xen_abi::hvm_save::*;
use xen_abi::hvm_vcpu::*;
use xen_abi::hypercall::*;
use xen_abi::sysctl::{self, SysctlPhysInfo};
use xen_abi::vcpu as vcpu_abi;
use xen_abi::version::XENVER_capabilities;
use xen_abi::xen::DOMID_SELF;
use zerocopy::IntoBytes;

use super::domains::{ask, config as pv_config, create};
use super::domctl::{op, plain};
use crate::domain::{Domain, Machine, Owed, RunFlags, VcpuState};
use crate::hvm::processor::{Processor, Register};
use crate::hvm::records::tests::first_record;
use crate::hvm::state::HvmState;
use crate::hypercall::testing::{Fixture, GUEST};
use context::{set_context, stream};

const BUFFER: u64 = GUEST + 0x4000;

/// What `xl create` asks for.
fn config() -> DomctlCreateDomain {
    DomctlCreateDomain {
        flags: abi::XEN_DOMCTL_CDF_hvm | abi::XEN_DOMCTL_CDF_hap,
        arch: ArchDomainConfig {
            emulation_flags: XEN_X86_EMU_LAPIC,
            misc_flags: 0,
        },
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        ..pv_config()
    }
}

/// A domain with its vCPUs; d1.
fn born() -> (Fixture, Arc<Domain>) {
    let mut f = Fixture::with_containers();
    assert_eq!(create(&mut f, 0, &config()), Ok(1));
    let vcpus = abi::DomctlMaxVcpus { max: 2 };
    ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus).unwrap();
    let domain = f.hv.domain(1).unwrap();
    (f, domain)
}

fn inside<R>(domain: &Domain, vcpu: usize, what: impl FnOnce(&mut HvmState) -> R) -> R {
    let mut kept = domain.vcpus()[vcpu].state.lock();
    what(kept.as_mut().and_then(VcpuState::hvm_mut).unwrap())
}

fn info(f: &mut Fixture) -> abi::DomctlGetDomainInfo {
    let empty = abi::DomctlGetDomainInfo::default();
    op(f, abi::XEN_DOMCTL_getdomaininfo, 1, empty).unwrap()
}

#[test]
fn a_new_domain_is_as_tools_expect_it() {
    let (mut f, domain) = born();
    let i = info(&mut f);
    assert_eq!(i.flags, 0xffff_010a);
    assert_eq!((i.gpaddr_bits, i.max_vcpu_id), (40, 1));
    assert_eq!(i.arch_config, config().arch);
    assert_eq!(domain.online_vcpus(), 0);
    assert_eq!(domain.vcpus()[0].timers.lock().period(), 0);
    // Once more changes nothing.
    let root = inside(&domain, 1, |state| state.processor.pages().next());
    let vcpus = abi::DomctlMaxVcpus { max: 2 };
    ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus).unwrap();
    assert_eq!(
        inside(&domain, 1, |state| state.processor.pages().next()),
        root
    );
}

#[test]
fn the_machine_says_what_it_can_run() {
    for (mut f, capabilities, text) in [
        (Fixture::control(), 0x302, "xen-3.0-x86_64 "),
        (
            Fixture::with_containers(),
            0x30b,
            "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
        ),
    ] {
        let empty = SysctlPhysInfo::default();
        let info = super::sysctl::op(&mut f, sysctl::XEN_SYSCTL_physinfo, empty).unwrap();
        assert_eq!(info.capabilities, capabilities);
        let args = [XENVER_capabilities.into(), GUEST];
        f.call(__HYPERVISOR_xen_version, &args).unwrap();
        assert_eq!(f.text(GUEST), text);
    }
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let mut f = Fixture::with_containers();
    let before = f.machine.free_pages();
    type Change = fn(&mut DomctlCreateDomain);
    let wrong: [(Change, Errno); 9] = [
        (|c| c.flags = abi::XEN_DOMCTL_CDF_hvm, Errno::EINVAL),
        (|c| c.flags = abi::XEN_DOMCTL_CDF_hap, Errno::EINVAL),
        (
            |c| c.flags |= abi::XEN_DOMCTL_CDF_nested_virt,
            Errno::EINVAL,
        ),
        (|c| c.flags |= abi::XEN_DOMCTL_CDF_vpmu, Errno::EINVAL),
        (|c| c.arch.emulation_flags = 0, Errno::EOPNOTSUPP),
        (
            |c| c.arch.emulation_flags = XEN_X86_EMU_ALL,
            Errno::EOPNOTSUPP,
        ),
        (|c| c.arch.misc_flags = 2, Errno::EINVAL),
        (|c| c.max_vcpus = 129, Errno::EINVAL),
        (|c| c.cpupool_id = 7, Errno::ENOENT),
    ];
    for (change, errno) in wrong {
        let mut config = config();
        change(&mut config);
        assert_eq!(create(&mut f, 0, &config), Err(errno));
    }
    assert_eq!(f.machine.free_pages(), before);
    let mut without = Fixture::control();
    assert_eq!(create(&mut without, 0, &config()), Err(Errno::EINVAL));
}

#[test]
fn all_pages_come_back() {
    let mut f = Fixture::with_containers();
    let before = f.machine.free_pages();
    for _ in 0..2 {
        create(&mut f, 1, &config()).unwrap();
        let vcpus = abi::DomctlMaxVcpus { max: 2 };
        ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus).unwrap();
        assert!(f.machine.free_pages() < before);
        plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
        f.hv.forget_dead();
        assert_eq!(f.machine.free_pages(), before);
    }
}

/// hvm_op with a parameter.
fn param(f: &mut Fixture, cmd: u32, domid: u16, index: u32, value: u64) -> Result<u64, Errno> {
    let request = HvmParam {
        domid,
        pad: 0xa5a5,
        index,
        value,
    };
    f.put(GUEST, &request);
    f.call(__HYPERVISOR_hvm_op, &[cmd.into(), GUEST])?;
    Ok(f.get::<HvmParam>(GUEST).value)
}

#[test]
fn parameters_are_set_by_tools_and_read_by_the_guest() {
    let (mut f, domain) = born();
    // As the toolstack does it for a PVH domain.
    for (index, value) in [
        (HVM_PARAM_TIMER_MODE, 1),
        (HVM_PARAM_ALTP2M, 0),
        (HVM_PARAM_STORE_PFN, 0xfeffc),
        (HVM_PARAM_BUFIOREQ_PFN, 0xfeffb),
        (HVM_PARAM_IOREQ_PFN, 0xfeffd),
        (HVM_PARAM_CONSOLE_PFN, 0xfefff),
        (HVM_PARAM_PAGING_RING_PFN, 0xfeff8),
        (HVM_PARAM_MONITOR_RING_PFN, 0xfeff9),
        (HVM_PARAM_SHARING_RING_PFN, 0xfeffa),
        (HVM_PARAM_IDENT_PT, 0xfeff_e000),
        (HVM_PARAM_CONSOLE_EVTCHN, 2),
        (HVM_PARAM_STORE_EVTCHN, 1),
    ] {
        param(&mut f, HVMOP_set_param, 1, index, value).unwrap();
        assert_eq!(param(&mut f, HVMOP_get_param, 1, index, 9), Ok(value));
    }
    for (id, errno) in [
        (0, Errno::EINVAL),
        (5, Errno::ESRCH),
        (DOMID_SELF, Errno::EINVAL),
    ] {
        let refused = param(&mut f, HVMOP_get_param, id, HVM_PARAM_STORE_PFN, 0);
        assert_eq!(refused, Err(errno));
    }
    f.caller = domain;
    let mine = |f: &mut Fixture, cmd, index| param(f, cmd, DOMID_SELF, index, 7);
    assert_eq!(
        mine(&mut f, HVMOP_get_param, HVM_PARAM_STORE_PFN),
        Ok(0xfeffc)
    );
    assert_eq!(
        mine(&mut f, HVMOP_get_param, HVM_PARAM_IOREQ_PFN),
        Err(Errno::EPERM)
    );
    assert_eq!(
        mine(&mut f, HVMOP_set_param, HVM_PARAM_STORE_PFN),
        Err(Errno::EPERM)
    );
    assert_eq!(
        mine(&mut f, HVMOP_set_param, HVM_NR_PARAMS),
        Err(Errno::EINVAL)
    );
    assert_eq!(param(&mut f, HVMOP_get_param, 0, 0, 0), Err(Errno::EINVAL));
}

#[test]
fn other_operations_answer_as_kernels_probe_them() {
    let (mut f, domain) = born();
    f.caller = domain;
    let mut call = |cmd: u32, at| f.call(__HYPERVISOR_hvm_op, &[cmd.into(), at]);
    assert_eq!(call(HVMOP_pagetable_dying, GUEST), Err(Errno::ESRCH));
    assert_eq!(call(HVMOP_get_time, GUEST), Ok(0));
    assert_eq!(call(HVMOP_altp2m, GUEST), Err(Errno::EOPNOTSUPP));
    assert_eq!(
        call(HVMOP_guest_request_vm_event, 0),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(call(HVMOP_guest_request_vm_event, 1), Err(Errno::EINVAL));
    assert_eq!(call(99, GUEST), Err(Errno::ENOSYS));
    assert_eq!(call(HVMOP_flush_tlbs, 1), Err(Errno::EINVAL));
    assert_eq!(call(HVMOP_flush_tlbs, 0), Ok(0));
    let dying = HvmPagetableDying {
        domid: DOMID_SELF,
        ..HvmPagetableDying::default()
    };
    f.put(GUEST, &dying);
    let args = [HVMOP_pagetable_dying.into(), GUEST];
    assert_eq!(f.call(__HYPERVISOR_hvm_op, &args), Err(Errno::EINVAL));
    let asked = HvmGetMemType {
        domid: DOMID_SELF,
        pfn: 5,
        ..HvmGetMemType::default()
    };
    f.put(GUEST, &asked);
    let args = [HVMOP_get_mem_type.into(), GUEST];
    assert_eq!(f.call(__HYPERVISOR_hvm_op, &args), Ok(0));
    assert_eq!(f.get::<HvmGetMemType>(GUEST).mem_type, HVMMEM_mmio_dm);
}

#[test]
fn a_guest_starts_its_other_vcpu() {
    let (mut f, domain) = born();
    set_context(&mut f, &stream(HVM_SAVE_CODE_CPU, 0, &first_record())).unwrap();
    let mut context = VcpuHvmContext {
        mode: VCPU_HVM_MODE_64B,
        ..VcpuHvmContext::default()
    };
    let registers = VcpuHvmX8664 {
        rip: 0x1000,
        cr0: 0x8000_0011,
        cr4: 0x20,
        efer: 0x100,
        ..VcpuHvmX8664::default()
    };
    registers
        .write_to_prefix(context.cpu_regs.as_mut_bytes())
        .unwrap();
    f.caller = domain.clone();
    f.put(BUFFER, &context);
    let args = |cmd: u32, vcpu| [cmd.into(), vcpu, BUFFER];
    let mut call = |cmd, vcpu| f.call(__HYPERVISOR_vcpu_op, &args(cmd, vcpu));
    assert_eq!(call(vcpu_abi::VCPUOP_up, 1), Err(Errno::EINVAL));
    assert_eq!(call(vcpu_abi::VCPUOP_initialise, 2), Err(Errno::ENOENT));
    assert_eq!(call(vcpu_abi::VCPUOP_initialise, 0), Err(Errno::EEXIST));
    assert_eq!(call(vcpu_abi::VCPUOP_initialise, 1), Ok(0));
    assert_eq!(call(vcpu_abi::VCPUOP_initialise, 1), Err(Errno::EEXIST));
    assert_eq!(call(vcpu_abi::VCPUOP_is_up, 1), Ok(0));
    assert_eq!(call(vcpu_abi::VCPUOP_up, 1), Ok(0));
    assert_eq!(call(vcpu_abi::VCPUOP_is_up, 1), Ok(1));
    inside(&domain, 1, |state| assert_eq!(state.regs.rip, 0x1000));
    context.mode = 7;
    f.put(BUFFER, &context);
    domain.vcpus()[1].set_flags(RunFlags::UNINITIALISED);
    let refused = f.call(__HYPERVISOR_vcpu_op, &args(vcpu_abi::VCPUOP_initialise, 1));
    assert_eq!(refused, Err(Errno::EINVAL));
}

#[test]
fn events_come_by_the_vector_that_was_named() {
    let (mut f, domain) = born();
    let vcpu = &domain.vcpus()[0];
    vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    f.caller = domain.clone();
    let name = |f: &mut Fixture, vcpu, vector| {
        let request = HvmEvtchnUpcallVector {
            vcpu,
            vector,
            ..HvmEvtchnUpcallVector::default()
        };
        f.put(GUEST, &request);
        let args = [HVMOP_set_evtchn_upcall_vector.into(), GUEST];
        f.call(__HYPERVISOR_hvm_op, &args)
    };
    assert_eq!(name(&mut f, 0, 15), Err(Errno::EINVAL));
    assert_eq!(name(&mut f, 2, 0xf3), Err(Errno::ENOENT));
    assert_eq!(name(&mut f, 0, 0xf3), Ok(0));
    assert!(vcpu.inbox.is_empty(), "nothing is pending");
    // The guest unmasks upcalls and sends itself an event.
    let (frame, offset) = vcpu.info_place().unwrap();
    f.machine.words(frame)[offset / 8].store(0, Ordering::SeqCst);
    let port = crate::events::raise_virq(&*domain, 0, xen_abi::xen::VIRQ_TIMER);
    let _nobody_listens = port;
    assert!(vcpu.inbox.is_empty());
    vcpu.set_flags(RunFlags::BLOCKED);
    domain.tell_of_events(vcpu);
    assert_eq!(vcpu.flags(), 0, "it is awake");
    assert_eq!(vcpu.take_owed(Owed::UPCALL), Owed::UPCALL);
    assert!(vcpu.inbox.is_empty(), "it is not another CPU's interrupt");
    // A vector of the domain's passes the local APIC by.
    vcpu.set_upcall_vector(0);
    domain.tell_of_events(vcpu);
    assert_eq!(vcpu.take_owed(Owed::UPCALL), 0);
    let send = EvtchnSend { port: 99 };
    f.put(GUEST, &send);
    assert!(
        f.call(
            __HYPERVISOR_event_channel_op,
            &[EVTCHNOP_send.into(), GUEST]
        )
        .is_err()
    );
}

#[test]
fn the_timer_of_a_local_apic_ends_a_wait() {
    let (_f, domain) = born();
    let vcpu = &domain.vcpus()[0];
    vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    vcpu.set_flags(RunFlags::BLOCKED);
    domain
        .change_timers(vcpu, |timers, now| Ok(timers.set_lapic(Some(now), now)))
        .unwrap();
    assert_eq!(
        (vcpu.flags(), vcpu.take_owed(Owed::LAPIC)),
        (0, Owed::LAPIC)
    );
}

#[test]
fn tools_see_registers_and_take_them_away() {
    let (mut f, domain) = born();
    set_context(&mut f, &stream(HVM_SAVE_CODE_CPU, 0, &first_record())).unwrap();
    let request = |vcpu, at| abi::DomctlVcpuContext {
        vcpu,
        ctxt: GuestHandle::new(at),
        ..abi::DomctlVcpuContext::default()
    };
    ask(
        &mut f,
        abi::XEN_DOMCTL_getvcpucontext,
        1,
        &request(0, BUFFER),
    )
    .unwrap();
    let found: VcpuGuestContext = f.get(BUFFER);
    assert_eq!((found.user_regs.rip, found.ctrlreg[0]), (0x100_0000, 0x11));
    assert_eq!(found.flags & VGCF_online, VGCF_online);
    let none = ask(
        &mut f,
        abi::XEN_DOMCTL_getvcpucontext,
        1,
        &request(1, BUFFER),
    );
    assert_eq!(none.unwrap_err(), Errno::ENODATA);
    let set = ask(
        &mut f,
        abi::XEN_DOMCTL_setvcpucontext,
        1,
        &request(0, BUFFER),
    );
    set.unwrap();
    // As libxc does it with a guest that goes on after a save of its state.
    let mut wanted = found;
    (wanted.user_regs.rax, wanted.ctrlreg[0]) = (1, 0);
    f.put(BUFFER, &wanted);
    let registers = |f: &mut Fixture, vcpu| {
        let request = request(vcpu, BUFFER);
        ask(f, abi::XEN_DOMCTL_setvcpucontext, 1, &request).map(drop)
    };
    assert_eq!(registers(&mut f, 0), Ok(()));
    inside(&domain, 0, |state| {
        assert_eq!((state.regs.rax, state.regs.rip), (1, 0x100_0000));
        assert_eq!(
            state.processor.read(Register::Cr0) & 0x11,
            0x11,
            "that stays"
        );
    });
    wanted.user_regs.rflags = 1 << 17 | 1 << 63;
    f.put(BUFFER, &wanted);
    assert_eq!(registers(&mut f, 0), Err(Errno::EINVAL));
    assert_eq!(
        registers(&mut f, 1),
        Err(Errno::EOPNOTSUPP),
        "it never had any"
    );
    ask(&mut f, abi::XEN_DOMCTL_setvcpucontext, 1, &request(0, 0)).unwrap();
    let down = RunFlags::DOWN | RunFlags::UNINITIALISED;
    assert_eq!(domain.vcpus()[0].flags(), down);
    inside(&domain, 0, |state| assert_eq!(state.regs.rip, 0xfff0));
}

#[test]
fn an_nmi_is_the_only_button() {
    let (mut f, domain) = born();
    let mut send = |trigger| {
        let request = abi::DomctlSendTrigger { trigger, vcpu: 0 };
        ask(&mut f, abi::XEN_DOMCTL_sendtrigger, 1, &request).map(drop)
    };
    assert_eq!(send(abi::XEN_DOMCTL_SENDTRIGGER_NMI), Ok(()));
    assert_eq!(
        send(abi::XEN_DOMCTL_SENDTRIGGER_POWER),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(send(abi::XEN_DOMCTL_SENDTRIGGER_RESET), Err(Errno::ENOSYS));
    assert_eq!(domain.vcpus()[0].take_owed(Owed::NMI), Owed::NMI);
}

#[test]
fn debug_keys_show_its_vcpus() {
    let (f, _domain) = born();
    let mut out = String::new();
    crate::hypercall::debugkeys::show(f.hv, b'd', &mut out).unwrap();
    assert!(
        out.contains("d1v0: in a container, rip 000000000000fff0"),
        "{out}"
    );
}

#[test]
fn whoever_waits_takes_what_its_local_apic_has() {
    use xen_abi::sched::{SCHEDOP_block, SCHEDOP_poll, SchedPoll};
    let (mut f, domain) = born();
    let vcpu = &domain.vcpus()[0];
    vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    f.caller = domain.clone();
    f.put(GUEST, &SchedPoll::default());
    let mut wait = |cmd: u32| {
        f.call(__HYPERVISOR_sched_op, &[cmd.into(), GUEST]).unwrap();
        vcpu.clear_flags(u32::MAX)
    };
    for cmd in [SCHEDOP_block, SCHEDOP_poll] {
        assert_ne!(wait(cmd), 0, "it waits");
        vcpu.inbox.interrupt(0x40, false);
        assert_eq!(wait(cmd), 0, "a letter");
        let _read = vcpu.inbox.take();
        vcpu.owe(Owed::LAPIC);
        assert_eq!(wait(cmd), 0, "its timer");
        vcpu.take_owed(u32::MAX);
    }
}
