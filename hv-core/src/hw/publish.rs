//! What a vCPU is told when it starts or stops running: its clock and its runstate.

use core::sync::atomic::Ordering;

use hv_core::domain::Owed;
use hv_core::hypercall::Host;
use hv_core::pv::state::PvState;
use hv_core::time::Clock;
use hv_core::time::pvclock::{self, SharedWords};
use hv_core::time::runstate::{self, RunstateArea, UpdateFlag};
use xen_abi::errno::Errno;
use xen_abi::xen::{VCPU_INFO_TIME, VMASST_TYPE_runstate_update_flag};
use zerocopy::IntoBytes;

use super::clock;
use super::host::HW;
use super::run::Loaded;

struct Words<'a>(&'a [core::sync::atomic::AtomicU32]);

impl SharedWords for Words<'_> {
    fn load(&self, index: usize) -> u32 {
        self.0.get(index).map_or(0, |w| w.load(Ordering::SeqCst))
    }
    fn store(&self, index: usize, value: u32) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Ordering::SeqCst);
        }
    }
}

/// A vCPU's state, as far as areas in its memory depend on it.
pub trait Space {
    /// Its TSC, where it is not the host's.
    fn tsc(&self) -> Option<Clock>;
    /// Does something while copies mean the memory of the guest's kernel.
    fn within<R>(l: &Loaded<Self>, what: impl FnOnce() -> R) -> R
    where
        Self: Sized;
}

impl Space for PvState {
    fn tsc(&self) -> Option<Clock> {
        self.tsc
    }

    fn within<R>(l: &Loaded<Self>, what: impl FnOnce() -> R) -> R {
        HW.with_kernel_root(&l.state, what)
    }
}

/// Clock and runstate, at the start of a run.
pub fn all<S: Space>(l: &mut Loaded<S>) {
    let _now_done = l.vcpu().take_owed(Owed::TIME | Owed::RUNSTATE);
    time(l);
    runstate(l);
}

/// What is owed of it.
pub fn owed<S: Space>(l: &mut Loaded<S>) {
    let bits = l.vcpu().take_owed(Owed::TIME | Owed::RUNSTATE);
    if bits & Owed::TIME != 0 {
        time(l);
    }
    if bits & Owed::RUNSTATE != 0 {
        runstate(l);
        time(l);
    }
}

fn time<S: Space>(l: &Loaded<S>) {
    let clock = l.state.tsc().unwrap_or_else(clock::clock);
    let info = pvclock::time_info(&clock, 0);
    if let Some((frame, offset)) = l.vcpu().info_place() {
        let words = l.domain.machine.words32(frame);
        pvclock::publish(&Words(&words[(offset + VCPU_INFO_TIME) / 4..]), &info);
    }
    let area = l.vcpu().time_area.load(Ordering::Acquire);
    if area != 0 {
        S::within(l, || {
            // The same bytes for as long as it is registered, so readers elsewhere need no version. The guest's page may be
            // gone: that is its own business.
            let _ = HW.copy_out(area, info.as_bytes());
        });
    }
}

struct Area(u64);

impl RunstateArea for Area {
    type Error = Errno;
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        HW.copy_out(self.0.wrapping_add(offset as u64), bytes)
    }
}

/// The runstate into the guest's area, if it has one.
pub fn runstate<S: Space>(l: &Loaded<S>) {
    let area = l.vcpu().runstate_area.load(Ordering::Acquire);
    if area == 0 || l.idle {
        return;
    }
    let info = l.vcpu().runstate.lock().info();
    let flag = if l.domain.has_assist(VMASST_TYPE_runstate_update_flag) {
        UpdateFlag::Used
    } else {
        UpdateFlag::Unused
    };
    S::within(l, || {
        // As above.
        let _ = runstate::publish(&mut Area(area), &info, flag);
    });
}
