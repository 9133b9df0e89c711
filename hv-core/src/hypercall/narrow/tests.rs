use std::sync::atomic::Ordering;

use proptest::prelude::*;
use xen_abi::e820::E820Entry;
use xen_abi::errno::Errno;
use xen_abi::event_channel as ev;
use xen_abi::hypercall as nr;
use xen_abi::memory as mem;
use xen_abi::sched as sch;
use xen_abi::xen::CONSOLEIO_write;
use xen_abi::xen::DOMID_SELF;
use xen_abi::{vcpu, version};

mod overlay;

use super::call;
use crate::hypercall::testing::{Fixture, GUEST, MAX_PAGES};

const RIP: u64 = 0x8_0000;
const STRUCT: u32 = GUEST as u32;
const LIST: u32 = GUEST as u32 + 0x1000;
const SELF: u32 = DOMID_SELF as u32;

/// One run of the instruction, VMMCALL of 3 bytes; rip is behind it.
fn once(f: &mut Fixture) {
    assert!(f.with_any(|cx| call(cx, 3)));
}

/// Makes a call as 32-bit code does, until it has its result.
pub(in crate::hypercall) fn make(f: &mut Fixture, number: u32, args: [u32; 3]) -> i32 {
    // The upper halves are whatever 64-bit code left there.
    let dirty = 0xdead_0000_0000_0000;
    f.regs.rax = dirty | u64::from(number);
    [f.regs.rbx, f.regs.rcx, f.regs.rdx] = args.map(|a| dirty | u64::from(a));
    (f.regs.rsi, f.regs.rdi, f.regs.rbp) = (dirty, dirty, dirty | 7);
    loop {
        f.regs.rip = RIP + 3;
        once(f);
        assert_eq!(f.regs.rbp, dirty | 7, "ebp is the caller's");
        match f.regs.rip {
            RIP => {
                assert_eq!(f.regs.rax, u64::from(number), "the number again");
                // To the structure, or to what is left of a list.
                let pointer = u64::from(args[1]);
                let list = number == nr::__HYPERVISOR_grant_table_op && args[2] > 1;
                let further = list && f.regs.rcx > pointer && f.regs.rcx >> 32 == 0;
                assert!(further || f.regs.rcx == pointer, "and the pointer");
                f.restarts += 1;
            }
            _ => break,
        }
    }
    assert_eq!(f.regs.rip, RIP + 3);
    assert_eq!(f.regs.rax >> 32, 0);
    f.regs.rax as i32
}

fn refused(errno: Errno) -> i32 {
    errno.to_ret() as i32
}

#[test]
fn what_is_the_same_for_both_widths_goes_straight_through() {
    let mut f = Fixture::control();
    let version = nr::__HYPERVISOR_xen_version;
    assert_eq!(
        make(&mut f, version, [version::XENVER_version, 0, 0]),
        0x4_0011
    );
    assert_eq!(
        make(&mut f, version, [version::XENVER_extraversion, STRUCT, 0]),
        0
    );
    assert_eq!(f.text(GUEST), ".test");
    let bad = make(
        &mut f,
        version,
        [version::XENVER_extraversion, 0xdead_0000, 0],
    );
    assert_eq!(bad, refused(Errno::EFAULT));

    let unbound = ev::EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        ..ev::EvtchnAllocUnbound::default()
    };
    f.put(GUEST, &unbound);
    let events = nr::__HYPERVISOR_event_channel_op;
    assert_eq!(
        make(&mut f, events, [ev::EVTCHNOP_alloc_unbound, STRUCT, 0]),
        0
    );
    assert_ne!(f.get::<ev::EvtchnAllocUnbound>(GUEST).port, 0);

    f.put(GUEST, b"hello");
    let console = nr::__HYPERVISOR_console_io;
    assert_eq!(make(&mut f, console, [CONSOLEIO_write, 5, STRUCT]), 0);
    assert_eq!(&f.console.control.lock().unwrap()[..], b"hello");
    let up = make(&mut f, nr::__HYPERVISOR_vcpu_op, [vcpu::VCPUOP_is_up, 1, 0]);
    assert_eq!(up, 0);
}

#[test]
fn platform_parameters_are_one_word() {
    let mut f = Fixture::control();
    f.put(GUEST, &u64::MAX);
    let args = [version::XENVER_platform_parameters, STRUCT, 0];
    assert_eq!(make(&mut f, nr::__HYPERVISOR_xen_version, args), 0);
    assert_eq!(f.get::<u64>(GUEST), 0xffff_ffff_f580_0000);
}

#[test]
fn extents_are_words_in_the_callers_memory() {
    let mut f = Fixture::control();
    let op = nr::__HYPERVISOR_memory_op;
    let before = f.caller.pages.load(Ordering::Relaxed);
    f.put(GUEST, &[LIST, 3, 0, 0, SELF]);
    f.put(u64::from(LIST), &[0xaaaa_aaaa_u32; 5]);
    let done = make(&mut f, op, [mem::XENMEM_increase_reservation, STRUCT, 0]);
    assert_eq!(done, 3);
    assert_eq!(f.caller.pages.load(Ordering::Relaxed), before + 3);
    let frames: [u32; 5] = f.get(u64::from(LIST));
    assert_eq!(frames[3..], [0xaaaa_aaaa; 2], "no more than asked for");
    assert!(frames[0] != frames[1] && frames[1] != frames[2]);
    assert!(frames[..3].iter().all(|frame| *frame < 0x1000));

    let done = make(&mut f, op, [mem::XENMEM_decrease_reservation, STRUCT, 0]);
    assert_eq!(done, 3);
    assert_eq!(f.caller.pages.load(Ordering::Relaxed), before);

    f.put(GUEST, &SELF);
    let most = make(&mut f, op, [mem::XENMEM_maximum_reservation, STRUCT, 0]);
    assert_eq!(most, MAX_PAGES as i32);
    f.caller.max_pages.store(u64::MAX, Ordering::Relaxed);
    let clamped = make(&mut f, op, [mem::XENMEM_maximum_reservation, STRUCT, 0]);
    assert_eq!(clamped, -1, "all ones is minus one in any width");
    f.caller.max_pages.store(1 << 40, Ordering::Relaxed);
    let clamped = make(&mut f, op, [mem::XENMEM_maximum_reservation, STRUCT, 0]);
    assert_eq!(clamped, i32::MAX);
}

#[test]
fn a_preempted_call_is_made_again_with_its_own_pointer() {
    let mut f = Fixture::control();
    f.host.preempt_every(1);
    f.put(GUEST, &[LIST, 4, 0, 0, SELF]);
    let op = nr::__HYPERVISOR_memory_op;
    let done = make(&mut f, op, [mem::XENMEM_increase_reservation, STRUCT, 0]);
    assert_eq!((done, f.restarts), (4, 3));
    let frames: [u32; 4] = f.get(u64::from(LIST));
    assert!(frames.iter().all(|frame| *frame != 0));
}

/// A word as firmware might send it: small, an address, or anything.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..40_u32,
        (0..64_u32).prop_map(|i| STRUCT + i * 4),
        any::<u32>()
    ]
}

proptest! {
    #[test]
    fn random_calls_are_answered(
        calls in prop::collection::vec((0..64_u32, word(), word(), word()), 1..20),
        words in prop::collection::vec(word(), 64),
        patience in 1..4_u32,
        translated in any::<bool>(),
    ) {
        let mut f = Fixture::guest();
        if translated {
            f.caller = f.add_translated(2);
        }
        f.put(GUEST, words.as_slice());
        f.host.preempt_every(patience);
        for (number, first, second, third) in calls {
            f.regs.rax = number.into();
            [f.regs.rbx, f.regs.rcx, f.regs.rdx] = [first, second, third].map(u64::from);
            for _ in 0..20 {
                f.regs.rip = RIP + 3;
                once(&mut f);
                if f.regs.rip != RIP {
                    break;
                }
            }
        }
    }
}

#[test]
fn extents_that_cannot_be_reached_end_the_call() {
    let mut f = Fixture::control();
    let op = nr::__HYPERVISOR_memory_op;
    for (list, count) in [
        (0xdead_0000, 2),
        (0xffff_fffc, 2),
        (LIST, u32::MAX),
        (LIST, 1 << 26),
    ] {
        f.put(GUEST, &[list, count, 0, 0, SELF]);
        f.put(u64::from(LIST), &[0x7fff_ffff_u32]);
        let done = make(&mut f, op, [mem::XENMEM_decrease_reservation, STRUCT, 0]);
        assert_eq!(done, 0, "{list:#x}, {count}");
    }
    let done = make(
        &mut f,
        op,
        [mem::XENMEM_decrease_reservation, 0xdead_0000, 0],
    );
    assert_eq!(done, 0);
}

#[test]
fn a_memory_map_comes_through_a_short_pointer() {
    let mut f = Fixture::control();
    let entry = E820Entry {
        addr: 0x1000,
        size: 0x2000,
        r#type: 1,
    };
    f.caller.memory_map.lock().extend([entry, entry]);
    let op = nr::__HYPERVISOR_memory_op;
    f.put(GUEST, &[8, LIST, 0x5555_5555_u32]);
    assert_eq!(make(&mut f, op, [mem::XENMEM_memory_map, STRUCT, 0]), 0);
    assert_eq!(f.get::<[u32; 3]>(GUEST), [2, LIST, 0x5555_5555]);
    assert_eq!(f.get::<E820Entry>(u64::from(LIST) + 20), entry);
}

#[test]
fn polls_and_timers_have_64_bits_of_time() {
    let mut f = Fixture::control();
    // Port 0 cannot be waited for: that the handler found the list at all shows by its answer.
    f.put(GUEST, &[LIST, 1, 0, 0_u32]);
    f.put(u64::from(LIST), &[0x7fff_ffff_u32]);
    let poll = nr::__HYPERVISOR_sched_op;
    assert_eq!(
        make(&mut f, poll, [sch::SCHEDOP_poll, STRUCT, 0]),
        refused(Errno::EINVAL)
    );
    f.put(GUEST, &[0xdead_0000, 1, 0, 0_u32]);
    assert_eq!(
        make(&mut f, poll, [sch::SCHEDOP_poll, STRUCT, 0]),
        refused(Errno::EFAULT)
    );

    let timer = nr::__HYPERVISOR_set_timer_op;
    assert_eq!(make(&mut f, timer, [5, 0x10, 0]), 0);
    let armed = f.caller.vcpus()[0].timers.lock().next_deadline();
    assert_eq!(armed, Some(0x10_0000_0005));
}

#[test]
fn what_has_no_narrow_form_does_not_exist() {
    let mut f = Fixture::control();
    for number in 0..64 {
        let known = matches!(
            number,
            nr::__HYPERVISOR_xen_version
                | nr::__HYPERVISOR_console_io
                | nr::__HYPERVISOR_event_channel_op
                | nr::__HYPERVISOR_set_timer_op
        );
        if !known {
            let answer = make(&mut f, number, [0x3f, STRUCT, STRUCT]);
            assert_eq!(answer, refused(Errno::ENOSYS), "call {number}");
        }
    }
    for (number, command) in [
        (nr::__HYPERVISOR_memory_op, mem::XENMEM_exchange),
        (nr::__HYPERVISOR_memory_op, mem::XENMEM_machine_memory_map),
        (nr::__HYPERVISOR_vcpu_op, vcpu::VCPUOP_get_runstate_info),
    ] {
        let answer = make(&mut f, number, [command, 0, 0]);
        assert_eq!(answer, refused(Errno::ENOSYS), "call {number}, {command}");
    }
}
