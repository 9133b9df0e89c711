//! Event channels: the shared info page, the callback's vector, ports to ourselves.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use micro_base::memory::{read, write};
use xen_abi::event_channel::*;
use xen_abi::hvm_op::*;
use xen_abi::hypercall::{__HYPERVISOR_event_channel_op, __HYPERVISOR_hvm_op};
use xen_abi::memory::{AddToPhysmap, XENMAPSPACE_shared_info, XENMEM_add_to_physmap};
use xen_abi::xen::{
    DOMID_SELF, SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING, VCPU_INFO_PENDING_SEL,
    VCPU_INFO_UPCALL_PENDING,
};

use crate::call::{memory, send, with};
use crate::pages::PAGE;

/// Vector of the callback.
pub const VECTOR: u8 = 0xf3;
/// Frame at which the shared info page is mapped.
pub const SHARED_INFO: u64 = 0xe0000;
/// Its address.
const PLACE: u64 = SHARED_INFO * PAGE;

/// Whether it is mapped.
static READY: AtomicBool = AtomicBool::new(false);
/// Ports of the first word that have fired.
static FIRED: AtomicU64 = AtomicU64::new(0);

/// One of this domain's parameters.
pub fn parameter(index: u32) -> Option<u64> {
    let ask = HvmParam {
        domid: DOMID_SELF,
        index,
        ..HvmParam::default()
    };
    let (result, answer) = with(__HYPERVISOR_hvm_op, HVMOP_get_param, &ask);
    (result == 0).then_some(answer.value)
}

/// Sets one of them.
pub fn set_parameter(index: u32, value: u64) -> i64 {
    let ask = HvmParam {
        domid: DOMID_SELF,
        index,
        value,
        ..HvmParam::default()
    };
    send(__HYPERVISOR_hvm_op, HVMOP_set_param, &ask)
}

/// Maps a frame of one of the spaces.
pub fn map(space: u32, idx: u64, gpfn: u64) -> i64 {
    let map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 1,
        space,
        idx,
        gpfn,
    };
    memory(XENMEM_add_to_physmap, &map).0
}

/// Maps the page and sets the vector.
pub fn init() {
    if READY.load(Ordering::Relaxed) {
        return;
    }
    assert_eq!(
        map(XENMAPSPACE_shared_info, 0, SHARED_INFO),
        0,
        "shared info"
    );
    let callback = HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | u64::from(VECTOR);
    assert_eq!(
        set_parameter(HVM_PARAM_CALLBACK_IRQ, callback),
        0,
        "callback"
    );
    READY.store(true, Ordering::Relaxed);
}

/// Whether events come by the callback.
pub fn is_ready() -> bool {
    READY.load(Ordering::Relaxed)
}

/// Forgets the page: it was mapped elsewhere.
pub fn forget() {
    READY.store(false, Ordering::Relaxed);
}

/// An operation with its result and its structure.
pub fn op<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Copy>(
    command: u32,
    value: &T,
) -> (i64, T) {
    with(__HYPERVISOR_event_channel_op, command, value)
}

/// A port that this vCPU sends to itself by, open.
pub fn to_self() -> u32 {
    let (result, bound) = op(EVTCHNOP_bind_ipi, &EvtchnBindIpi::default());
    assert_eq!(result, 0, "a port for this vCPU");
    let mask = PLACE + SHARED_INFO_EVTCHN_MASK as u64;
    write(mask, read::<u64>(mask) & !(1 << bound.port));
    bound.port
}

/// Takes what is pending; called with interrupts held off.
pub fn collect() {
    write(PLACE + VCPU_INFO_UPCALL_PENDING as u64, 0_u8);
    write(PLACE + VCPU_INFO_PENDING_SEL as u64, 0_u64);
    let pending = PLACE + SHARED_INFO_EVTCHN_PENDING as u64;
    // SAFETY: a word of the shared page, which both sides change by atomic operations.
    let word = unsafe { AtomicU64::from_ptr(pending as *mut u64) };
    FIRED.fetch_or(word.swap(0, Ordering::AcqRel), Ordering::AcqRel);
}

/// Whether the port has fired since it was last asked.
pub fn fired(port: u32) -> bool {
    FIRED.fetch_and(!(1 << port), Ordering::AcqRel) & 1 << port != 0
}

/// Sends to a port of ours.
pub fn notify(port: u32) -> i64 {
    op(EVTCHNOP_send, &EvtchnSend { port }).0
}
