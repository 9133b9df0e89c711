//! The root that a CPU has at CPL 3 where the guest's own would show too much ([`hv_core::pv::xpti`]), its *view*.
//!
//! Everything else of the hypervisor knows the guest's own root only, which is in CR3 whenever Rust runs. The entry code changes
//! CR3 (`traps.S`) where `CpuInfo::guest_cr3` is set; without XPTI it has not even the test.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_core::base::{CpuId, Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::cmdline::XptiOptions;
use hv_core::pv::xpti::{self, ARCH_CAPABILITIES, Isolation, Shown};

use super::cpuinfo::CpuInfo;
use super::layout::{self, cpu_area};
use super::percpu::PerCpu;
use super::{cpu, pages, paging, tables};

// SAFETY: the linker script defines them; they are used as addresses.
unsafe extern "C" {
    static text_start: [u8; 0];
    static entry_end: [u8; 0];
}

static DOM0: AtomicBool = AtomicBool::new(false);
static DOMU: AtomicBool = AtomicBool::new(false);

/// A CPU's view.
#[derive(Default)]
pub struct View {
    /// Its root, if there are views.
    root: Cell<Option<Mfn>>,
    /// Whose root it shows.
    pub shown: Shown,
}

/// Decides, early in the boot, which guests run on views.
pub fn decide(wanted: XptiOptions) {
    let identity = cpu::identity();
    let vendor = identity.get_vendor_info();
    let vendor = vendor.as_ref().map_or("", |v| v.as_str());
    let told = cpu::cpuid(0, 0)[0] >= 7 && cpu::cpuid(7, 0)[3] & 1 << 29 != 0;
    let capabilities = if told {
        cpu::rdmsr_safe(ARCH_CAPABILITIES)
    } else {
        None
    };
    let decided = Isolation::new(wanted, xpti::is_vulnerable(vendor, capabilities));
    DOM0.store(decided.dom0, Ordering::Relaxed);
    DOMU.store(decided.domu, Ordering::Relaxed);
}

/// What was decided.
pub fn isolation() -> Isolation {
    Isolation {
        dom0: DOM0.load(Ordering::Relaxed),
        domu: DOMU.load(Ordering::Relaxed),
    }
}

/// Makes a CPU's view, where there are views: of ours it has what the way in and out needs. The CPU's area is complete and the
/// CPU does not run yet.
pub fn create(cpu_id: CpuId, view: &View) -> Option<()> {
    if !isolation().any() {
        return Some(());
    }
    let root = pages::alloc_zeroed()?;
    let area = cpu_area(cpu_id);
    // The frame, but nothing of the main stack below the gap under it.
    paging::share(root, area + layout::STACK_BLOCK - PAGE_SIZE as u64, 1);
    for page in tables::interrupt_stacks(area) {
        paging::share(root, page, 1);
    }
    // GDT, LDT, stub and TSS have a table to themselves, so what changes there changes here.
    paging::share(root, area + layout::WINDOWS, 2);
    let entry = (&raw const text_start) as u64..(&raw const entry_end) as u64;
    for page in entry.step_by(PAGE_SIZE) {
        paging::share(root, page, 1);
    }
    paging::share(root, tables::idt_address(), 1);
    view.root.set(Some(root));
    Some(())
}

/// A PV vCPU was loaded: it runs on this CPU's view, or on its own root.
pub fn choose(this: &PerCpu, info: *mut CpuInfo, control: bool) {
    let isolation = isolation();
    let isolated = if control {
        isolation.dom0
    } else {
        isolation.domu
    };
    let root = this.view.root.get().filter(|_| isolated);
    // SAFETY: this CPU's own block, with the guest out. The root has all that the entry code uses.
    unsafe { (*info).guest_cr3 = root.map_or(0, |mfn| mfn.addr().0) };
}

/// Brings the view up to date, if the loaded vCPU runs on it. Interrupts are off, and the guest is entered next.
#[inline(always)]
pub fn before_entry(this: &PerCpu, info: *mut CpuInfo) {
    // SAFETY: this CPU's own block, with the guest out.
    if unsafe { (*info).guest_cr3 } != 0 {
        follow(this, info);
    }
}

#[inline(never)]
fn follow(this: &PerCpu, info: *mut CpuInfo) {
    let host = cpu::cr3();
    // SAFETY: as above. The guest's root, which is loaded; the way back loads it again.
    unsafe { (*info).host_cr3 = host };
    let guest = PhysAddr(host).mfn();
    if let Some(view) = this.view.root.get()
        && this.view.shown.turn_to(guest)
    {
        xpti::copy_guest_slots(paging::table(guest), paging::table(view));
    }
}
