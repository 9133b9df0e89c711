//! Hardware containers on this machine, whoever made its processors.

use core::sync::atomic::{AtomicBool, Ordering};

use hv_core::base::{Mfn, PhysAddr};
use hv_core::boot::cmdline::VmxOptions;
use hv_core::domain::{BlockShape, Containers};
use hv_core::hvm::block::Block;
use hv_core::hvm::exit::Exit;
use hv_core::pv::frame::GuestFrame;

use super::percpu::PerCpu;
use super::{cpu, pages, paging, svm, vmx};

/// The assembly of a world switch, which finds the general registers in a [`GuestFrame`] by their names.
macro_rules! world_switch {
    ($file:literal $(, $name:ident = const $value:expr)*) => {
        core::arch::global_asm!(
            include_str!($file),
            r15 = const core::mem::offset_of!(GuestFrame, r15),
            r14 = const core::mem::offset_of!(GuestFrame, r14),
            r13 = const core::mem::offset_of!(GuestFrame, r13),
            r12 = const core::mem::offset_of!(GuestFrame, r12),
            r11 = const core::mem::offset_of!(GuestFrame, r11),
            r10 = const core::mem::offset_of!(GuestFrame, r10),
            r9 = const core::mem::offset_of!(GuestFrame, r9),
            r8 = const core::mem::offset_of!(GuestFrame, r8),
            rbp = const core::mem::offset_of!(GuestFrame, rbp),
            rbx = const core::mem::offset_of!(GuestFrame, rbx),
            rcx = const core::mem::offset_of!(GuestFrame, rcx),
            rdx = const core::mem::offset_of!(GuestFrame, rdx),
            rsi = const core::mem::offset_of!(GuestFrame, rsi),
            rdi = const core::mem::offset_of!(GuestFrame, rdi),
            $($name = const $value,)*
        );
    };
}
pub(super) use world_switch;

/// Bits of a guest physical address, as tools have been told of Xen's guests always.
const NESTED_ADDRESS_BITS: u8 = 40;

/// What the CPUs offer has been told, so guests are made by it.
static PROMISED: AtomicBool = AtomicBool::new(false);

/// Whether guests may be in containers: a CPU that cannot run them is of no use then.
pub fn is_promised() -> bool {
    PROMISED.load(Ordering::SeqCst)
}

/// Finds out on the boot CPU whether guests can be run in containers, says so, and turns that on.
pub fn discover(options: &VmxOptions) {
    if cpu::is_amd() {
        svm::discover();
    } else {
        vmx::discover(options);
    }
}

/// Turns them on for this CPU.
///
/// # Errors
/// Why this CPU cannot have them; then no guest is run so.
pub fn enable_here() -> Result<(), &'static str> {
    svm::enable_here().and_then(|()| vmx::enable_here())
}

/// Turns them off for this CPU, which is about to stop. No guest is loaded.
pub fn disable_here() {
    vmx::disable_here();
}

/// Tags of guests' translations that this CPU has; 0: none.
pub fn tags() -> u32 {
    svm::asids().max(vmx::tags())
}

/// What the CPUs that have come up offer.
pub fn usable() -> Option<Containers> {
    let (shape, gib_pages) = if let Some((facts, maps)) = svm::usable() {
        let extended = cpu::identity().get_extended_processor_and_feature_identifiers();
        let features = facts.features;
        let gib = extended.is_some_and(|e| e.has_1gib_pages());
        (BlockShape::Vmcb { maps, features }, gib)
    } else {
        let common = vmx::usable()?;
        (BlockShape::Vmcs(common), common.facts.has_gib_pages())
    };
    Some(Containers {
        shape,
        gib_pages,
        address_bits: NESTED_ADDRESS_BITS,
    })
}

/// The same, told to who makes guests: CPUs that come later have to offer it too.
pub fn promise() -> Option<Containers> {
    let containers = usable();
    PROMISED.store(containers.is_some(), Ordering::SeqCst);
    containers
}

/// Fills pages that the CPUs read in all guests' name: so many words, of which a function tells each.
pub fn make_map(words: usize, word_at: fn(usize) -> u64) -> Option<PhysAddr> {
    let count = words / 512;
    let first = pages::alloc_run(count)?;
    for page in 0..count {
        let words = paging::table(Mfn(first.0 + page as u64));
        for (index, word) in words.iter().enumerate() {
            word.store(word_at(page * 512 + index), Ordering::Relaxed);
        }
    }
    Some(first.addr())
}

/// The vCPU of this block comes onto this CPU.
pub fn load(this: &PerCpu, block: &mut Block) {
    match block {
        // It is loaded with each entry.
        Block::Vmcb(_) => {}
        Block::Vmcs(vmcs) => vmx::load(this, vmcs),
    }
}

/// It goes.
pub fn park(this: &PerCpu, block: &mut Block) {
    match block {
        Block::Vmcb(_) => {}
        Block::Vmcs(vmcs) => vmx::park(this, vmcs),
    }
}

/// Runs a guest until it leaves; says why it did.
///
/// # Safety
/// As [`svm::enter`] and [`vmx::enter`].
#[inline]
pub unsafe fn enter(regs: &mut GuestFrame, block: &mut Block) -> Exit {
    // SAFETY: the caller's.
    unsafe {
        match block {
            Block::Vmcb(vmcb) => svm::enter(regs, vmcb),
            Block::Vmcs(vmcs) => vmx::enter(regs, vmcs),
        }
    }
}
