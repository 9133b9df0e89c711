//! The hypervisor's one value, from the boot's facts.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::sync::atomic::Ordering;

use hv_core::base::{CpuId, VcpuId};
use hv_core::domain::{Backing, Domain, Facts, Hypervisor, Identity, PirqLayer};
use hv_core::events::PirqSharing;
use hv_core::sched::{Credit2, Layout, Scheduler};
use hv_core::time::pvclock::SharedWords;
use hv_core::time::wallclock::WallClock;
use spin::Mutex;
use xen_abi::errno::Errno;
use xen_abi::xen::SHARED_INFO_WC_VERSION;

use super::host::{self, HV, HW};
use super::percpu::{self, MAX_CPUS, MAX_UNITS};
use super::start::{Boot, refuse};
use super::clock;

/// The wall clock of the machine.
pub static WALLCLOCK: Mutex<Option<WallClock>> = Mutex::new(None);

struct NoPirqs;

impl PirqLayer for NoPirqs {
    fn bind(&self, _: &Domain, _: u32, _: PirqSharing, _: VcpuId) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn unbind(&self, _: &Domain, _: u32) {}
    fn route(&self, _: &Domain, _: u32, _: VcpuId) {}
}

/// Sets everything up that domains stand on.
pub fn hypervisor(boot: &Boot) {
    let layout = Layout { max_cpus: MAX_CPUS as u32, group_width: 16, max_units: MAX_UNITS };
    let sched: &'static Credit2 = match Credit2::new(layout) {
        Ok(sched) => Box::leak(Box::new(sched)),
        Err(why) => refuse(format_args!("scheduler: {why}")),
    };
    for cpu in percpu::online() {
        add_cpu(sched, cpu);
    }
    let backing = Backing { machine: &HW, sched, pirqs: &NoPirqs };
    HV.call_once(|| Hypervisor::new(backing, identity(boot), facts(boot)));
    host::fix_slots();
    let century = boot.acpi.fadt.as_ref().map_or(0, |f| f.century);
    *WALLCLOCK.lock() = WallClock::set(clock::read_rtc(century), 0, clock::now()).ok();
}

fn add_cpu(sched: &Credit2, cpu: CpuId) {
    if let Err(why) = sched.add_cpu(cpu, clock::now()) {
        log::error!("CPU {cpu} is not scheduled on: {why}");
    }
}

fn identity(boot: &Boot) -> Identity {
    let abi = boot.command_line.options.abi;
    Identity {
        major: abi.major,
        minor: abi.minor,
        extra: ".0-xenolith".to_string(),
        changeset: String::new(),
        compiler: concat!("rustc, Xenolith ", env!("CARGO_PKG_VERSION")).to_string(),
        compile_by: "xenolith".to_string(),
        compile_domain: String::new(),
        compile_date: String::new(),
        command_line: boot.info.command_line.clone(),
        build_id: alloc::vec::Vec::new(),
    }
}

fn facts(boot: &Boot) -> Facts {
    let madt = boot.acpi.madt.as_ref();
    let local = madt.map_or(hv_core::base::PhysAddr(0xfee0_0000), |m| m.local_apic_address);
    let io: alloc::vec::Vec<_> = madt.iter().flat_map(|m| &m.io_apics).map(|a| a.address).collect();
    Facts {
        max_page: boot.memory.max_page(),
        total_pages: boot.memory.total_frames(),
        memory_map: boot.memory.machine_map(local, &io).regions().iter().map(|r| (*r).into()).collect(),
        m2p_frames: boot.m2p.clone(),
        tsc_khz: (clock::tsc_hz() / 1000) as u32,
    }
}

/// Physical interrupts that dom0 may bind.
pub fn dom0_pirqs() -> u32 {
    256
}

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

/// Writes the wall clock into a domain's shared page.
pub fn publish_wallclock(domain: &Domain) {
    if let Some(clock) = *WALLCLOCK.lock() {
        let words = domain.machine.words32(domain.shared_info);
        clock.publish(&Words(&words[SHARED_INFO_WC_VERSION / 4..]), 0);
        // The upper half of the seconds lies behind the architecture's part.
        words[xen_abi::xen::SHARED_INFO_WC_SEC_HI / 4].load(Ordering::Relaxed);
    }
}
