//! How vCPUs spend their time, whatever happens to them, and what they are told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_vcpu_op as CALL;
use xen_abi::vcpu::*;

use crate::domain::{Domain, RunFlags, Vcpu};
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};
use crate::time::runstate::State;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A CPU runs a vCPU that may run; two never do.
    Load(u32),
    /// The CPU that runs it stops doing so.
    Leave,
    /// It waits for an event, if it runs.
    Block(u32),
    /// The event comes.
    Raise,
    PauseDomain,
    UnpauseDomain,
    PauseVcpu,
    UnpauseVcpu,
    Down,
    Up,
}

fn event() -> impl Strategy<Value = Event> {
    let wait = prop_oneof![Just(RunFlags::BLOCKED), Just(RunFlags::POLLING)];
    prop_oneof![
        4 => (0..4_u32).prop_map(Event::Load),
        3 => Just(Event::Leave),
        2 => wait.prop_map(Event::Block),
        3 => Just(Event::Raise),
        1 => Just(Event::PauseDomain),
        1 => Just(Event::UnpauseDomain),
        1 => Just(Event::PauseVcpu),
        1 => Just(Event::UnpauseVcpu),
        1 => Just(Event::Down),
        2 => Just(Event::Up),
    ]
}

fn happen(domain: &Domain, vcpu: &Vcpu, event: Event) {
    match event {
        Event::Load(cpu) => {
            if domain.runnable(vcpu) && vcpu.running_on().is_none() {
                vcpu.set_running(Some(cpu));
                domain.account_start(vcpu);
            }
        }
        Event::Leave => leave(domain, vcpu),
        Event::Block(flag) => {
            if vcpu.running_on().is_some() {
                vcpu.set_flags(flag);
                leave(domain, vcpu);
            }
        }
        Event::Raise => domain.end_wait(vcpu, RunFlags::BLOCKED | RunFlags::POLLING),
        Event::PauseDomain => {
            domain.pause();
            domain.stop_running();
        }
        Event::UnpauseDomain => {
            if domain.unpause() {
                domain.wake_all();
            }
        }
        Event::PauseVcpu => {
            vcpu.pause();
            domain.stop_vcpu(vcpu);
        }
        Event::UnpauseVcpu => {
            if vcpu.unpause() {
                domain.wake(vcpu);
            }
        }
        Event::Down => {
            vcpu.set_flags(RunFlags::DOWN);
            domain.stop_vcpu(vcpu);
        }
        Event::Up => {
            vcpu.clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
            domain.start(vcpu);
        }
    }
}

fn leave(domain: &Domain, vcpu: &Vcpu) {
    if vcpu.running_on().is_some() {
        domain.account_stop(vcpu);
        vcpu.set_running(None);
    }
}

/// What it does, by what is known of it.
fn truth(domain: &Domain, vcpu: &Vcpu) -> State {
    let flags = vcpu.flags();
    match vcpu.running_on() {
        Some(_) => State::Running,
        None if flags & RunFlags::DOWN != 0 => State::Offline,
        None if flags & (RunFlags::BLOCKED | RunFlags::POLLING) != 0 => State::Blocked,
        None if domain.runnable(vcpu) => State::Runnable,
        None => State::Offline,
    }
}

proptest! {
    /// The times add up to the age, none ever shrinks, and what a vCPU is said to do is what it does. CPUs read their
    /// clocks at slightly different moments.
    #[test]
    fn every_moment_is_accounted_for_once(
        events in prop::collection::vec((0..2_usize, event(), 0..1_000_u64, 0..30_u64), 1..120),
    ) {
        let f = Fixture::guest();
        let domain: Arc<Domain> = f.caller.clone();
        let mut latest = f.machine.now.load(Ordering::Relaxed);
        let born: Vec<u64> = domain
            .vcpus()
            .iter()
            .map(|v| {
                let times = v.runstate.lock().times_at(latest);
                latest - times.iter().sum::<u64>()
            })
            .collect();
        domain.wake_all();
        let mut before = vec![[0; 4]; domain.vcpus().len()];
        for (which, event, step, behind) in events {
            latest += step;
            f.machine.now.store(latest - behind, Ordering::Relaxed);
            happen(&domain, &domain.vcpus()[which], event);
            for (v, vcpu) in domain.vcpus().iter().enumerate() {
                let account = *vcpu.runstate.lock();
                let times = account.times_at(latest);
                prop_assert_eq!(times.iter().sum::<u64>(), latest - born[v]);
                if which == v || matches!(event, Event::PauseDomain | Event::UnpauseDomain) {
                    prop_assert_eq!(account.state(), truth(&domain, vcpu));
                }
                for (now, then) in times.iter().zip(before[v]) {
                    // Up to what the clocks are apart.
                    prop_assert!(*now + 30 >= then, "{event:?}: {before:?} then {times:?}");
                }
                before[v] = times;
            }
        }
    }
}

#[test]
fn a_pause_is_no_time_in_the_queue() {
    let f = Fixture::guest();
    let (domain, vcpu) = (f.caller.clone(), &f.caller.vcpus()[0]);
    happen(&domain, vcpu, Event::Up);
    leave(&domain, vcpu);
    assert_eq!(vcpu.runstate.lock().state(), State::Runnable);
    happen(&domain, vcpu, Event::PauseDomain);
    assert_eq!(vcpu.runstate.lock().state(), State::Offline);
    happen(&domain, vcpu, Event::UnpauseDomain);
    assert_eq!(vcpu.runstate.lock().state(), State::Runnable);
    // One that waits does so while it is paused; its event makes it one that is paused.
    happen(&domain, vcpu, Event::Load(1));
    happen(&domain, vcpu, Event::Block(RunFlags::BLOCKED));
    happen(&domain, vcpu, Event::PauseVcpu);
    assert_eq!(vcpu.runstate.lock().state(), State::Blocked);
    happen(&domain, vcpu, Event::Raise);
    assert_eq!(vcpu.runstate.lock().state(), State::Offline);
    happen(&domain, vcpu, Event::UnpauseVcpu);
    assert_eq!(vcpu.runstate.lock().state(), State::Runnable);
}

#[test]
fn areas_are_written_when_they_are_registered() {
    let mut f = Fixture::guest();
    let start = f.machine.now.load(Ordering::Relaxed);
    f.machine.now.store(start + 500, Ordering::Relaxed);
    let area = GUEST + 0x200;
    let register = |f: &mut Fixture, vcpu: u64, addr| {
        f.put(GUEST, &VcpuRegisterRunstateMemoryArea { addr });
        let op = VCPUOP_register_runstate_memory_area.into();
        f.call(CALL, &[op, vcpu, GUEST])
    };
    assert_eq!(register(&mut f, 1, area), Ok(0));
    let other: VcpuRunstateInfo = f.get(area);
    assert_eq!((other.state, other.time[3]), (RUNSTATE_offline, 500));
    f.caller.account_start(&f.caller.vcpus()[0]);
    f.machine.now.store(start + 900, Ordering::Relaxed);
    assert_eq!(register(&mut f, 0, area), Ok(0));
    let own: VcpuRunstateInfo = f.get(area);
    assert_eq!(own, f.caller.vcpus()[0].runstate.lock().info());
    assert_eq!(own.state, RUNSTATE_running);
    // Up to this moment.
    let op = VCPUOP_get_runstate_info.into();
    assert_eq!(f.call(CALL, &[op, 0, GUEST]), Ok(0));
    let asked: VcpuRunstateInfo = f.get(GUEST);
    assert_eq!(asked.time[0], own.time[0] + 900 - 500);
    assert_eq!(f.call(CALL, &[op, 0, NOWHERE]), Err(Errno::EFAULT));
    // No page yet, and none any more.
    assert_eq!(register(&mut f, 0, NOWHERE), Ok(0));
    assert_eq!(register(&mut f, 0, 0), Ok(0));
    assert_eq!(f.caller.vcpus()[0].runstate_area.load(Ordering::Relaxed), 0);
}
