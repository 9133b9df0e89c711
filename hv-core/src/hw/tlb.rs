//! TLB flushes, here and on other CPUs, and the clock that orders them (design: TLB stamps).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_core::base::{CpuId, Mfn};
use hv_core::mm::Globals;

use super::apic::{self, vector};
use super::cpu::{self, cr4};
use super::{percpu, view};

/// Counts flushes; a frame stamped with the value is covered by each flush that starts later.
static CLOCK: AtomicU64 = AtomicU64::new(1);

/// The low half of the clock, as frames keep it.
pub fn clock() -> u32 {
    CLOCK.load(Ordering::SeqCst) as u32
}

/// Guests have no global mappings: ours alone outlive a load of CR3, and those never change.
static NO_GUEST_GLOBALS: AtomicBool = AtomicBool::new(false);

/// Decides, before there is a guest, whether the guests' user mappings are global. With views nothing is: what is of ours would
/// be in the TLB at CPL 3. Under another hypervisor a write of CR4 costs an exit on AMD's processors, and dropping global entries
/// at each change of the address space takes two.
pub fn choose_globals() {
    let identity = cpu::identity();
    let intercepted = identity
        .get_feature_info()
        .is_some_and(|f| f.has_hypervisor());
    let nothing = view::isolation().any() || intercepted && cpu::is_amd();
    NO_GUEST_GLOBALS.store(nothing, Ordering::Relaxed);
}

/// Whether the guests' user mappings are global.
#[inline]
pub fn globals() -> Globals {
    if NO_GUEST_GLOBALS.load(Ordering::Relaxed) {
        Globals::Nothing
    } else {
        Globals::UserMappings
    }
}

/// Drops all that a guest can have mapped from this CPU's TLB, global entries, paging-structure caches and nested
/// translations included.
pub fn flush_all_here() {
    flush_and_load(None);
}

/// The same while the root is changed.
pub fn load_space(root: Mfn) {
    flush_and_load(Some(root.addr().0));
}

fn flush_and_load(root: Option<u64>) {
    let this = percpu::this();
    let on = cpu::interrupts_on();
    cpu::cli();
    // The clock is read before the flush: what was unmapped before that is gone after it.
    let at = CLOCK.fetch_add(1, Ordering::SeqCst) + 1;
    let by_cr4 = globals() == Globals::UserMappings;
    // SAFETY: the same root again, or a validated one of the guest's, held by a reference. Clearing and setting PGE
    // flushes; nothing else changes.
    unsafe {
        match root {
            Some(root) => cpu::set_cr3(root),
            None if !by_cr4 => cpu::set_cr3(cpu::cr3()),
            None => {}
        }
        if by_cr4 {
            let value = cpu::cr4();
            cpu::set_cr4(value & !cr4::PGE);
            cpu::set_cr4(value);
        }
    }
    // No copy of a guest's root from before is used again, nor what HVM guests' tags lead to: they get others.
    this.view.shown.outdate();
    this.asids.renew_all();
    this.remote.flushed_at.store(at, Ordering::SeqCst);
    percpu::count(&this.counts.flushes);
    if on {
        cpu::sti();
    }
}

/// Does what other CPUs have asked of this one. Interrupts are off.
pub fn serve() {
    let remote = &percpu::this().remote;
    let wanted = remote.flush_wanted.load(Ordering::SeqCst);
    if remote.flush_done.load(Ordering::SeqCst) < wanted {
        flush_all_here();
        remote.flush_done.store(wanted, Ordering::SeqCst);
    }
}

/// Flushes on all given CPUs that are online, this one included, and waits until it is done.
pub fn flush_on(cpus: impl Iterator<Item = CpuId> + Clone) {
    let this = percpu::this().id;
    let mut waits = [0u64; percpu::MAX_CPUS];
    for c in cpus.clone() {
        if c == this {
            flush_all_here();
        } else if let Some(remote) = percpu::remote(c).filter(|r| r.online.load(Ordering::Acquire))
        {
            waits[c as usize] = remote.flush_wanted.fetch_add(1, Ordering::SeqCst) + 1;
            apic::send_ipi(c, vector::FLUSH);
        }
    }
    for c in cpus {
        let wait = waits[c as usize];
        if let Some(remote) = percpu::remote(c).filter(|_| wait != 0) {
            while remote.flush_done.load(Ordering::SeqCst) < wait
                && remote.online.load(Ordering::SeqCst)
            {
                // Two CPUs may wait for each other with interrupts off: each serves meanwhile.
                if !cpu::interrupts_on() {
                    serve();
                }
                core::hint::spin_loop();
            }
        }
    }
}

/// Of the given CPUs, flushes those whose last full flush is not newer than `stamp`.
pub fn flush_stale(cpus: impl Iterator<Item = CpuId> + Clone, stamp: u32) {
    let now = CLOCK.load(Ordering::SeqCst);
    // The full stamp: the latest value not after now with these low bits.
    let mut full = (now & !0xffff_ffff) | u64::from(stamp);
    if full > now {
        full = full.saturating_sub(1 << 32);
    }
    let stale = move |c: &CpuId| {
        percpu::remote(*c).is_some_and(|r| r.flushed_at.load(Ordering::SeqCst) <= full)
    };
    flush_on(cpus.filter(stale));
}
