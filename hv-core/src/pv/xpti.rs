//! Whom to hide the hypervisor's address space from while a PV guest runs (Meltdown, CVE-2017-5754), and what such a guest's
//! root looks like.
//!
//! A processor that has the flaw lets code at CPL 3 read, by speculation, whatever the loaded tables map, permitted or not. So
//! what must stay secret must not be mapped: each CPU has a root of its own, its *view*, with the guest's half of the address
//! space and of ours no more than the way in and out.

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::base::Mfn;
use crate::boot::cmdline::XptiOptions;
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOT_FIRST, is_hypervisor_slot};

/// Which PV guests run on a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The control domain.
    pub dom0: bool,
    /// All others.
    pub domu: bool,
}

/// IA32_ARCH_CAPABILITIES (Intel SDM vol. 4, table 2-2).
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// In it: loads at CPL 3 get nothing of what only CPL 0 may read.
const RDCL_NO: u64 = 1;

/// Whether a processor has the flaw, as far as it says: by its vendor and by IA32_ARCH_CAPABILITIES, where it has that.
#[must_use]
pub fn is_vulnerable(vendor: &str, capabilities: Option<u64>) -> bool {
    let never = matches!(vendor, "AuthenticAMD" | "HygonGenuine");
    !never && capabilities.unwrap_or(0) & RDCL_NO == 0
}

impl Isolation {
    /// What is done for what was asked for, on a processor that has the flaw or not.
    #[must_use]
    pub fn new(wanted: XptiOptions, vulnerable: bool) -> Self {
        Self {
            dom0: wanted.dom0.unwrap_or(vulnerable),
            domu: wanted.domu.unwrap_or(vulnerable),
        }
    }

    /// Whether any guest runs on a view: then no mapping of ours may be global, for it would be in the TLB at CPL 3.
    #[must_use]
    pub const fn any(self) -> bool {
        self.dom0 || self.domu
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on| if on { "enabled" } else { "disabled" };
        write!(
            f,
            "Dom0 {}, DomU {} (without PCID)",
            word(self.dom0),
            word(self.domu)
        )
    }
}

/// Whether a slot of a view is the guest's: all that are not ours, and the M2P that guests read.
const fn is_guests(slot: usize) -> bool {
    slot == HYPERVISOR_SLOT_FIRST || !is_hypervisor_slot(slot)
}

/// Makes a view show what a guest's root shows to the guest. Our part of it stays.
pub fn copy_guest_slots(guest: &[AtomicU64; ENTRIES], view: &[AtomicU64; ENTRIES]) {
    let pairs = guest.iter().zip(view).enumerate();
    for (_, (from, to)) in pairs.filter(|(slot, _)| is_guests(*slot)) {
        to.store(from.load(Ordering::Acquire), Ordering::Relaxed);
    }
}

/// Which root a CPU's view shows, used by that CPU alone.
///
/// An entry that was taken out of a root is dangerous in a copy once what it led to becomes something else. Before that happens
/// every CPU that may have used it makes a full flush, after the entry was gone (stamps, `mm`). So it is enough that each full
/// flush [outdates](Self::outdate) the view: a copy that is made later does not have the entry.
#[derive(Debug, Default)]
pub struct Shown(Cell<Option<Mfn>>);

impl Shown {
    /// The view is not to be used again before it was copied anew.
    #[inline]
    pub fn outdate(&self) {
        self.0.set(None);
    }

    /// The view is to show this root; whether that takes a copy.
    #[inline]
    #[must_use]
    pub fn turn_to(&self, root: Mfn) -> bool {
        self.0.replace(Some(root)) != Some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolation(dom0: bool, domu: bool) -> Isolation {
        Isolation { dom0, domu }
    }

    #[test]
    fn only_processors_that_may_have_the_flaw_count() {
        for vendor in ["AuthenticAMD", "HygonGenuine"] {
            assert!(!is_vulnerable(vendor, None));
            assert!(!is_vulnerable(vendor, Some(0)));
        }
        for vendor in ["GenuineIntel", "CentaurHauls", "  Shanghai  ", ""] {
            assert!(is_vulnerable(vendor, None));
            assert!(is_vulnerable(vendor, Some(!RDCL_NO)));
            assert!(!is_vulnerable(vendor, Some(RDCL_NO)));
        }
    }

    #[test]
    fn what_is_not_asked_for_is_as_the_processor_needs() {
        let default = XptiOptions::default();
        assert_eq!(Isolation::new(default, true), isolation(true, true));
        assert_eq!(Isolation::new(default, false), isolation(false, false));
        let mixed = XptiOptions {
            dom0: Some(false),
            domu: None,
        };
        assert_eq!(Isolation::new(mixed, true), isolation(false, true));
        assert_eq!(Isolation::new(mixed, false), isolation(false, false));
        let forced = XptiOptions {
            dom0: Some(true),
            domu: Some(false),
        };
        for vulnerable in [false, true] {
            assert_eq!(Isolation::new(forced, vulnerable), isolation(true, false));
        }
        assert!(isolation(true, false).any() && isolation(false, true).any());
        assert!(!isolation(false, false).any());
        assert_eq!(
            isolation(true, false).to_string(),
            "Dom0 enabled, DomU disabled (without PCID)"
        );
    }

    #[test]
    fn a_view_has_the_guests_slots_and_no_other_of_ours() {
        let table = |mark: u64| -> [AtomicU64; ENTRIES] {
            core::array::from_fn(|slot| AtomicU64::new(mark | slot as u64))
        };
        let (guest, view) = (table(0x1000), table(0x2000));
        copy_guest_slots(&guest, &view);
        for (slot, entry) in view.iter().enumerate() {
            let ours = (257..272).contains(&slot);
            let mark = if ours { 0x2000 } else { 0x1000 };
            assert_eq!(entry.load(Ordering::Relaxed), mark | slot as u64, "{slot}");
        }
    }

    #[test]
    fn a_view_is_copied_when_the_root_is_another_or_a_flush_came_between() {
        let shown = Shown::default();
        assert!(shown.turn_to(Mfn(0)));
        assert!(!shown.turn_to(Mfn(0)));
        assert!(shown.turn_to(Mfn(7)));
        assert!(!shown.turn_to(Mfn(7)));
        shown.outdate();
        assert!(shown.turn_to(Mfn(7)));
        assert!(shown.turn_to(Mfn(0)));
    }
}
