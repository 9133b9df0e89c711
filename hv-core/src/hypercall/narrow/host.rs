//! The CPU under a 32-bit caller, with two things in its address space that the caller does not have.

use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::AtomicU64;

use xen_abi::errno::Errno;

use crate::base::{CpuId, DomId, Mfn};
use crate::domain::Domain;
use crate::hypercall::{Flush, Host, SegmentBase, TaskSwitched};
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::{Frame, Globals, IoAccess, PtMachine, TlbScope};
use crate::pv::state::PvState;
use crate::sched::CpuSet;

/// Where the handler finds the structure. No 32-bit caller can name an address as high.
pub(super) const STRUCTURE: u64 = 1 << 48;
/// Where it finds the array.
pub(super) const ARRAY: u64 = 1 << 56;
/// Elements that fit into a 32-bit address space.
const ELEMENTS: u64 = 1 << 30;

/// Room for any of the structures.
pub(super) type Structure = [u8; 40];

/// The caller's host with a structure of ours at [`STRUCTURE`], and at [`ARRAY`] words of the caller's as
/// 64-bit words.
pub(super) struct Wide<'a, H> {
    caller: &'a H,
    structure: RefCell<Structure>,
    /// Where the caller has the words.
    array: Option<u32>,
}

impl<'a, H: Host> Wide<'a, H> {
    /// Over `caller`; of the structure as much as there is room for.
    pub fn new(caller: &'a H, structure: &[u8], array: Option<u32>) -> Self {
        let mut kept: Structure = [0; _];
        for (to, from) in kept.iter_mut().zip(structure) {
            *to = *from;
        }
        Self {
            caller,
            structure: RefCell::new(kept),
            array,
        }
    }

    /// The structure as it is now.
    pub fn structure(&self) -> Structure {
        *self.structure.borrow()
    }

    /// Which bytes of the structure an access means; `None`: none.
    fn in_structure(at: u64, length: usize) -> Option<core::ops::Range<usize>> {
        let start = usize::try_from(at.checked_sub(STRUCTURE)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= size_of::<Structure>()).then_some(start..end)
    }

    /// The caller's address of the first word that an access to the array means, which is of whole
    /// elements; `None`: not in the array.
    fn in_array(&self, at: u64, length: usize) -> Option<Result<u64, Errno>> {
        let offset = at.checked_sub(ARRAY)?;
        let place = || {
            let (index, count) = (offset / 8, length as u64 / 8);
            let whole = offset.is_multiple_of(8) && length.is_multiple_of(8);
            let base = u64::from(self.array?);
            let end = base + (index.checked_add(count)?.min(ELEMENTS) * 4);
            (whole && index + count <= ELEMENTS && end <= 1 << 32).then_some(base + index * 4)
        };
        Some(place().ok_or(Errno::EFAULT))
    }
}

/// Methods that are the caller's own.
macro_rules! callers {
    ($(fn $name:ident(&self $(, $arg:ident: $kind:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self $(, $arg: $kind)*) $(-> $result)? {
            self.caller.$name($($arg),*)
        })*
    };
}

impl<H: Host> PtMachine for Wide<'_, H> {
    callers! {
        fn frame(&self, mfn: Mfn) -> Option<&Frame>;
        fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES];
        fn hypervisor_slots(&self, owner: DomId) -> &[u64; HYPERVISOR_SLOTS];
        fn io_access(&self, by: DomId, mfn: Mfn) -> IoAccess;
        fn may_bypass_caches(&self, by: DomId) -> bool;
        fn may_map_foreign(&self, by: DomId, owner: DomId) -> bool;
        fn shares_read_only(&self, by: DomId, mfn: Mfn) -> bool;
        fn globals(&self) -> Globals;
        fn preempt_pending(&self) -> bool;
        fn flush_stale(&self, scope: TlbScope, stamp: u32);
        fn tlb_clock(&self) -> u32;
        fn flush_paging_structures(&self, owner: DomId);
        fn write_back(&self, mfn: Mfn);
        fn release(&self, mfn: Mfn);
        fn note(&self, why: fmt::Arguments<'_>);
    }
}

impl<H: Host> Host for Wide<'_, H> {
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        if let Some(place) = self.in_array(from, to.len()) {
            for (word, at) in to.chunks_exact_mut(8).zip((place?..).step_by(4)) {
                let mut narrow = [0; 4];
                self.caller.copy_in(&mut narrow, at)?;
                word.copy_from_slice(&u64::from(u32::from_le_bytes(narrow)).to_le_bytes());
            }
            return Ok(());
        }
        if from >= STRUCTURE {
            let range = Self::in_structure(from, to.len()).ok_or(Errno::EFAULT)?;
            to.copy_from_slice(&self.structure.borrow()[range]);
            return Ok(());
        }
        self.caller.copy_in(to, from)
    }

    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        if let Some(place) = self.in_array(to, from.len()) {
            for (word, at) in from.chunks_exact(8).zip((place?..).step_by(4)) {
                let wide = word.try_into().map_err(|_| Errno::EFAULT)?;
                let narrow = u32::try_from(u64::from_le_bytes(wide)).map_err(|_| Errno::EFAULT)?;
                self.caller.copy_out(at, &narrow.to_le_bytes())?;
            }
            return Ok(());
        }
        if to >= STRUCTURE {
            let range = Self::in_structure(to, from.len()).ok_or(Errno::EFAULT)?;
            self.structure.borrow_mut()[range].copy_from_slice(from);
            return Ok(());
        }
        self.caller.copy_out(to, from)
    }

    callers! {
        fn load_base(&self, which: SegmentBase, value: u64);
        fn read_base(&self, which: SegmentBase) -> u64;
        fn swap_gs(&self);
        fn load_gs_user_selector(&self, selector: u16) -> bool;
        fn load_gdt(&self, state: &PvState);
        fn load_ldt(&self, state: &PvState);
        fn load_root(&self, state: &PvState);
        fn load_space(&self, state: &PvState);
        fn load_debug_set(&self, state: &PvState);
        fn debug_status(&self) -> u64;
        fn set_task_switched(&self, on: TaskSwitched);
        fn flush_here(&self, what: Flush);
        fn flush_on(&self, cpus: &CpuSet, domain: &Domain, what: Flush);
        fn write_back_caches(&self);
        fn reschedule_here(&self);
        fn online_cpus(&self) -> CpuId;
        fn fpu_lines(&self) -> usize;
    }
}
