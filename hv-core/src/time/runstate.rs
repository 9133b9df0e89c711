//! How a vCPU spends its time: `vcpu_runstate_info` (vcpu.h).

use core::mem::offset_of;

use xen_abi::vcpu::{
    RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running, VcpuRunstateInfo,
    XEN_RUNSTATE_UPDATE,
};
use zerocopy::IntoBytes;

use crate::base::Nanos;

/// What a vCPU does (`RUNSTATE_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// On a CPU.
    Running,
    /// Would run but waits for a CPU.
    Runnable,
    /// Waits for an event.
    Blocked,
    /// Down or paused.
    Offline,
}

impl State {
    /// The ABI's number, also the index of its time.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Running => RUNSTATE_running,
            Self::Runnable => RUNSTATE_runnable,
            Self::Blocked => RUNSTATE_blocked,
            Self::Offline => RUNSTATE_offline,
        }
    }
}

/// The account of one vCPU. The four times always add up to the time since creation.
#[derive(Clone, Copy, Debug)]
pub struct Runstate {
    state: State,
    entered: Nanos,
    times: [Nanos; 4],
}

impl Runstate {
    /// A vCPU created at `now`, offline.
    #[must_use]
    pub const fn new(now: Nanos) -> Self {
        Self {
            state: State::Offline,
            entered: now,
            times: [0; 4],
        }
    }

    /// What it does.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// It does something else from `now` on. A `now` before the last change (another CPU's clock
    /// read a moment earlier) counts as that moment.
    pub fn change(&mut self, state: State, now: Nanos) {
        if state == self.state {
            return;
        }
        let now = now.max(self.entered);
        self.times = self.times_at(now);
        self.state = state;
        self.entered = now;
    }

    /// Nanoseconds spent in each state by `now`, by the ABI's number.
    #[must_use]
    pub fn times_at(&self, now: Nanos) -> [Nanos; 4] {
        let mut times = self.times;
        times[self.state.number() as usize] += now.saturating_sub(self.entered);
        times
    }

    /// Time on a CPU: what a domain's `cpu_time` adds up (`XEN_DOMCTL_getdomaininfo`).
    #[must_use]
    pub fn cpu_time(&self, now: Nanos) -> Nanos {
        self.times_at(now)[RUNSTATE_running as usize]
    }

    /// Time in which it did not run although it might have: what guests count as stolen.
    #[must_use]
    pub fn steal(&self, now: Nanos) -> Nanos {
        let times = self.times_at(now);
        times[RUNSTATE_runnable as usize] + times[RUNSTATE_offline as usize]
    }

    /// The structure as it is kept in guest memory: times up to the last change.
    #[must_use]
    pub fn info(&self) -> VcpuRunstateInfo {
        self.info_with(self.times)
    }

    /// The structure that `VCPUOP_get_runstate_info` returns: times up to `now`.
    #[must_use]
    pub fn info_at(&self, now: Nanos) -> VcpuRunstateInfo {
        self.info_with(self.times_at(now))
    }

    fn info_with(&self, time: [Nanos; 4]) -> VcpuRunstateInfo {
        VcpuRunstateInfo {
            state: self.state.number(),
            state_entry_time: self.entered,
            time,
            ..VcpuRunstateInfo::default()
        }
    }
}

/// A domain's CPU time: the sum over its vCPUs.
#[must_use]
pub fn domain_cpu_time<'a>(vcpus: impl IntoIterator<Item = &'a Runstate>, now: Nanos) -> Nanos {
    vcpus.into_iter().map(|vcpu| vcpu.cpu_time(now)).sum()
}

/// Whether the guest asked for the update flag (`VMASST_TYPE_runstate_update_flag`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateFlag {
    /// The copy is simply overwritten: right for readers on the same vCPU only.
    Unused,
    /// `XEN_RUNSTATE_UPDATE` is set during the update, for readers on other vCPUs.
    Used,
}

/// Where a guest wants the copy. Writes must become visible in the order in which they are made,
/// and those of 8 bytes at once.
pub trait RunstateArea {
    /// Why a write failed (the guest unmapped the area).
    type Error;

    /// Writes `bytes` at `offset` in the area.
    ///
    /// # Errors
    /// Those of the memory.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Copies `info` to the guest.
///
/// # Errors
/// The first one of the area; the rest is not written then.
pub fn publish<A: RunstateArea>(
    area: &mut A,
    info: &VcpuRunstateInfo,
    flag: UpdateFlag,
) -> Result<(), A::Error> {
    if flag == UpdateFlag::Unused {
        return area.write(0, info.as_bytes());
    }
    let at = offset_of!(VcpuRunstateInfo, state_entry_time);
    let marked = VcpuRunstateInfo {
        state_entry_time: info.state_entry_time | XEN_RUNSTATE_UPDATE,
        ..*info
    };
    area.write(at, marked.state_entry_time.as_bytes())?;
    area.write(0, marked.as_bytes())?;
    area.write(at, info.state_entry_time.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromBytes;

    use super::*;

    const STATES: [State; 4] = [
        State::Running,
        State::Runnable,
        State::Blocked,
        State::Offline,
    ];

    #[test]
    fn times_go_to_the_state_that_was_left() {
        let mut runstate = Runstate::new(100);
        runstate.change(State::Runnable, 110);
        runstate.change(State::Running, 130);
        runstate.change(State::Running, 150);
        runstate.change(State::Blocked, 170);
        assert_eq!(runstate.times_at(180), [40, 20, 10, 10]);
        assert_eq!(runstate.steal(180), 30);
        assert_eq!(runstate.cpu_time(180), 40);
        assert_eq!(runstate.info().time, [40, 20, 0, 10]);
        assert_eq!(runstate.info_at(180).time, [40, 20, 10, 10]);
        assert_eq!(runstate.info().state, RUNSTATE_blocked);
        assert_eq!(runstate.info().state_entry_time, 170);
        assert_eq!(domain_cpu_time([&runstate, &runstate], 180), 80);
    }

    proptest! {
        #[test]
        fn times_add_up_to_the_age(
            start in 0..1_000_u64,
            steps in prop::collection::vec((0..4_usize, -20..1_000_i64), 0..50),
        ) {
            let (mut runstate, mut now) = (Runstate::new(start), start);
            let mut latest = start;
            for (state, step) in steps {
                now = now.saturating_add_signed(step);
                runstate.change(STATES[state], now);
                latest = latest.max(now);
                let sum: u64 = runstate.times_at(latest).iter().sum();
                prop_assert_eq!(sum, latest - start);
            }
        }
    }

    /// Guest memory that keeps every intermediate state, and may fail.
    struct Area {
        bytes: [u8; 48],
        seen: Vec<VcpuRunstateInfo>,
        fail_at: usize,
    }

    impl RunstateArea for Area {
        type Error = ();

        fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), ()> {
            if self.seen.len() == self.fail_at {
                return Err(());
            }
            self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
            let info = VcpuRunstateInfo::read_from_bytes(&self.bytes).unwrap();
            self.seen.push(info);
            Ok(())
        }
    }

    fn area(fail_at: usize) -> Area {
        Area {
            bytes: [0; 48],
            seen: Vec::new(),
            fail_at,
        }
    }

    #[test]
    fn the_flag_is_set_whenever_the_copy_is_not_final() {
        let mut runstate = Runstate::new(5);
        runstate.change(State::Running, 77);
        let mut area = area(9);
        publish(&mut area, &runstate.info(), UpdateFlag::Used).unwrap();
        let (last, before) = area.seen.split_last().unwrap();
        assert_eq!(*last, runstate.info());
        assert_eq!(before.len(), 2);
        for info in before {
            assert_ne!(info.state_entry_time & XEN_RUNSTATE_UPDATE, 0);
        }
    }

    #[test]
    fn without_the_flag_there_is_one_write() {
        let runstate = Runstate::new(5);
        let mut area = area(9);
        publish(&mut area, &runstate.info(), UpdateFlag::Unused).unwrap();
        assert_eq!(area.seen, [runstate.info()]);
    }

    #[test]
    fn a_failed_write_ends_the_update() {
        let mut area = area(1);
        let result = publish(&mut area, &Runstate::new(5).info(), UpdateFlag::Used);
        assert_eq!((result, area.seen.len()), (Err(()), 1));
    }
}
