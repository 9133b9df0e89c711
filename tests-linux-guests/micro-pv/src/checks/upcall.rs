//! The receiving side of events (two-level): which ports fired, and how often.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::xen::{
    SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING, VCPU_INFO_PENDING_SEL,
    VCPU_INFO_UPCALL_MASK, VCPU_INFO_UPCALL_PENDING,
};

use crate::kernel;
use crate::memory;

static UPCALLS: AtomicU32 = AtomicU32::new(0);
static NMIS: AtomicU32 = AtomicU32::new(0);
/// How often each of the first ports fired.
static FIRED: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
/// System time of the last upcall.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Called at each upcall.
pub fn handle() {
    UPCALLS.fetch_add(1, Ordering::Relaxed);
    LAST.store(crate::checks::clock::now(), Ordering::Relaxed);
    collect();
}

/// Takes all pending, unmasked events.
pub fn collect() {
    kernel::set_vcpu_info(VCPU_INFO_UPCALL_PENDING, 0_u8);
    kernel::set_vcpu_info(VCPU_INFO_PENDING_SEL, 0_u64);
    let shared = kernel::shared_info();
    let pending = shared + SHARED_INFO_EVTCHN_PENDING as u64;
    let mask = shared + SHARED_INFO_EVTCHN_MASK as u64;
    let ready: u64 = memory::read::<u64>(pending) & !memory::read::<u64>(mask);
    for (port, fired) in (0_u32..).zip(&FIRED) {
        if ready >> port & 1 != 0 {
            fired.fetch_add(1, Ordering::Relaxed);
            clear_pending(port);
        }
    }
}

/// Clears the pending bit of one of the first ports.
pub fn clear_pending(port: u32) {
    let address = kernel::shared_info() + SHARED_INFO_EVTCHN_PENDING as u64;
    // SAFETY: the shared info page is mapped; the access is atomic as the interface asks.
    let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
    word.fetch_and(!(1 << port), Ordering::SeqCst);
}

/// Whether the pending bit of one of the first ports is set.
pub fn is_pending(port: u32) -> bool {
    let address = kernel::shared_info() + SHARED_INFO_EVTCHN_PENDING as u64;
    memory::read::<u64>(address) >> port & 1 != 0
}

/// Masks or unmasks one of the first ports without telling the hypervisor.
pub fn set_port_mask(port: u32, masked: u64) {
    let address = kernel::shared_info() + SHARED_INFO_EVTCHN_MASK as u64;
    // SAFETY: see `clear_pending`.
    let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
    word.fetch_and(!(1 << port), Ordering::SeqCst);
    word.fetch_or(masked << port, Ordering::SeqCst);
}

/// How often this port fired since it was last asked.
pub fn fired(port: u32) -> u32 {
    FIRED[port as usize].swap(0, Ordering::Relaxed)
}

/// How many upcalls there were since it was last asked.
pub fn upcalls() -> u32 {
    UPCALLS.swap(0, Ordering::Relaxed)
}

/// When the last upcall came, in system time.
pub fn last() -> u64 {
    LAST.load(Ordering::Relaxed)
}

/// Called at each NMI.
pub fn count_nmi() {
    NMIS.fetch_add(1, Ordering::Relaxed);
}

/// How many NMIs there were since it was last asked.
pub fn nmis() -> u32 {
    NMIS.swap(0, Ordering::Relaxed)
}

/// Holds events off; tells whether they were.
pub fn hold() -> u8 {
    let before = kernel::vcpu_info::<u8>(VCPU_INFO_UPCALL_MASK);
    kernel::set_vcpu_info(VCPU_INFO_UPCALL_MASK, 1_u8);
    before
}

/// Lets events come; one that waits is delivered at once by a hypercall's return.
pub fn release() {
    kernel::set_vcpu_info(VCPU_INFO_UPCALL_MASK, 0_u8);
    // Any hypercall's way back delivers what waits.
    let _ = crate::call::hypercall(
        xen_abi::hypercall::__HYPERVISOR_xen_version,
        [xen_abi::version::XENVER_version.into(), 0],
    );
}
