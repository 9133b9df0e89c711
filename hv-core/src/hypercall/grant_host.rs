//! What grant operations need of the rest. A PV domain names its pages by machine frames and maps others in its own page tables;
//! for one whose frames are translated see [`translated::grants`].

use alloc::sync::Arc;
use core::cell::RefCell;

use xen_abi::xen::DOMID_FIRST_RESERVED;

use super::context::{AnyCtx, Host};
use super::translated;
use crate::base::{DomId, Gfn, GuestVa, Mfn, PhysAddr};
use crate::domain::translated::After;
use crate::domain::{Domain, Hypervisor, Removed};
use crate::grants::{
    Access, GrantError, GrantHost, Grants, HasGrants, HostMapping, Paging, Unmapping,
};
use crate::mm::pins::OwedPuts;
use crate::mm::refs::{get_page, get_page_and_type, put_page, put_writable};
use crate::mm::update::{self, Hold, Slot};
use crate::mm::{Owner, PageType, PtResult, Pte, Reach, Refusal, Stop, granted};

/// Software bits of an entry that the caller may choose: three, from bit 9 on (`GNTMAP_guest_avail*`).
const AVAILABLE: u64 = 7;
/// Where they stand in an entry.
const AVAILABLE_SHIFT: u32 = 9;

impl HasGrants for Arc<Domain> {
    fn grants(&self) -> &Grants {
        &self.grants
    }
}

/// The calling domain with its page tables, for one element of a batch.
pub(super) struct Caller<'a, H: Host> {
    hv: &'static Hypervisor,
    host: &'a H,
    domain: &'a Arc<Domain>,
    root: Option<Mfn>,
    owed: RefCell<&'a mut OwedPuts>,
    /// What is taken out of the caller's map, for who settles that himself.
    removed: Option<&'a RefCell<Removed>>,
}

impl<'a, H: Host> Caller<'a, H> {
    pub fn new(cx: &'a mut AnyCtx<'_, H>) -> Self {
        Self {
            hv: cx.hv,
            host: cx.host,
            domain: cx.domain,
            root: cx.state.pv().and_then(|state| state.roots.kernel),
            owed: RefCell::new(cx.state.owed_puts()),
            removed: None,
        }
    }

    /// The same for unmappings that share a flush: entries taken out of the caller's map are to be settled before the
    /// unmappings are finished.
    pub fn collecting(cx: &'a mut AnyCtx<'_, H>, removed: &'a RefCell<Removed>) -> Self {
        Self {
            removed: Some(removed),
            ..Self::new(cx)
        }
    }

    /// A domain that is taken apart by the control domain. It has no address space any more.
    pub fn dying(cx: &'a mut AnyCtx<'_, H>, domain: &'a Arc<Domain>) -> Self {
        Self {
            hv: cx.hv,
            host: cx.host,
            domain,
            root: None,
            owed: RefCell::new(cx.state.owed_puts()),
            removed: None,
        }
    }

    /// Finds the entry that a mapping names and holds its table.
    #[inline(always)]
    fn hold(&self, addr: u64, contains_pte: bool) -> PtResult<(Hold, usize)> {
        let slot = if contains_pte {
            let at = PhysAddr(addr);
            if !at.0.is_multiple_of(8) {
                return Err(Refusal::Invalid.into());
            }
            Slot {
                table: at.mfn(),
                index: at.offset() / 8,
            }
        } else {
            let root = self.root.ok_or(Refusal::Invalid)?;
            let found = update::walk(self.host, self.domain.id, root, GuestVa(addr));
            found.ok_or(Refusal::Invalid)?
        };
        let owed = &mut **self.owed.borrow_mut();
        let hold = update::hold_l1(self.host, slot.table, self.domain.id, owed)?;
        Ok((hold, slot.index))
    }

    /// Does something with a held table. What is left of releasing it is owed and no failure: the
    /// element is done, and the rest is finished before the next.
    fn with_entry<T>(
        &self,
        addr: u64,
        contains_pte: bool,
        work: impl FnOnce(&Hold, usize) -> PtResult<T>,
    ) -> Result<T, GrantError> {
        let (hold, slot) = self.hold(addr, contains_pte).map_err(status)?;
        let result = work(&hold, slot);
        let owed = &mut **self.owed.borrow_mut();
        if let Err(stop) = update::release_table(self.host, hold, owed) {
            debug_assert_eq!(stop, Stop::Restart, "releasing a table is never refused");
        }
        result.map_err(status)
    }

    /// Whether the frame is this domain's now.
    fn owns(&self, owner: &Domain, mfn: Mfn) -> bool {
        let frame = self.host.frame(mfn);
        frame.is_some_and(|f| f.owner() == Owner::Domain(owner.id))
    }

    fn reach(&self, owner: &Domain) -> Reach {
        if owner.id == self.domain.id {
            Reach::Owner
        } else {
            Reach::Foreign
        }
    }
}

/// Why an entry was not changed; the ABI has no status of its own for an unusable address here.
fn status(stop: Stop) -> GrantError {
    match stop {
        Stop::Refused(_) => GrantError::General,
        Stop::Restart => GrantError::Eagain,
    }
}

/// The entry that a mapping asks for.
fn entry_of(mapping: &HostMapping) -> Pte {
    let mut flags = Pte::PRESENT | Pte::ACCESSED | Pte::DIRTY;
    if mapping.access == Access::Write {
        flags |= Pte::RW;
    }
    if mapping.for_application() {
        flags |= Pte::USER;
    }
    flags |= (u64::from(mapping.available_bits()) & AVAILABLE) << AVAILABLE_SHIFT;
    Pte::new(mapping.mfn, flags)
}

impl<H: Host> GrantHost for Caller<'_, H> {
    type Peer = Arc<Domain>;

    fn caller(&self) -> &Arc<Domain> {
        self.domain
    }

    fn paging(&self) -> Paging {
        match self.domain.translated {
            None => Paging::Direct,
            Some(_) => Paging::Translated,
        }
    }

    fn peer(&self, dom: DomId) -> Option<Arc<Domain>> {
        if dom >= DOMID_FIRST_RESERVED {
            return None;
        }
        self.hv.domain(dom)
    }

    fn take_frame(&self, owner: &Arc<Domain>, gfn: Gfn, access: Access) -> Result<Mfn, GrantError> {
        let Some(map) = &owner.translated else {
            let mfn = Mfn(gfn.0);
            self.take_page(owner, mfn, access)?;
            return Ok(mfn);
        };
        translated::grants::take_frame(
            map,
            gfn,
            access,
            |mfn| self.take_page(owner, mfn, access),
            |mfn| self.put_page(mfn, access),
        )
    }

    fn take_page(&self, owner: &Arc<Domain>, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        let taken = match access {
            Access::Read => get_page(self.host, mfn, Owner::Domain(owner.id))
                .map_err(|_| Stop::Refused(Refusal::Invalid)),
            Access::Write => {
                let (want, reach) = (PageType::Writable, self.reach(owner));
                get_page_and_type(self.host, mfn, owner.id, want, reach)
            }
        };
        taken.map_err(|stop| match stop {
            // Its own page, but a page table or descriptors now.
            Stop::Refused(_) if self.owns(owner, mfn) && access == Access::Write => {
                GrantError::General
            }
            Stop::Refused(_) => GrantError::BadPage,
            Stop::Restart => GrantError::Eagain,
        })
    }

    fn put_page(&self, mfn: Mfn, access: Access) {
        match access {
            Access::Read => put_page(self.host, mfn),
            Access::Write => {
                if self.hv.logs_writes() {
                    self.mark_written(mfn);
                }
                put_writable(self.host, mfn);
            }
        }
    }

    fn create_host_mapping(&self, mapping: &HostMapping) -> Result<(), GrantError> {
        if self.domain.translated.is_some() {
            return translated::grants::map(self.domain, mapping);
        }
        let new = entry_of(mapping);
        self.with_entry(mapping.addr, mapping.contains_pte(), |hold, slot| {
            granted::enter(self.host, hold, slot, new)
        })
    }

    fn destroy_host_mapping(
        &self,
        mapping: &HostMapping,
        instead: Unmapping,
    ) -> Result<(), GrantError> {
        if self.domain.translated.is_some() {
            return self.unmap_translated(mapping, instead);
        }
        let gone = entry_of(mapping);
        let other = match instead {
            Unmapping::Clear => Pte(0),
            Unmapping::Replace(addr) => self.with_entry(addr, false, |hold, slot| {
                granted::take(self.host, hold, slot)
            })?,
        };
        let replaced = self.with_entry(mapping.addr, mapping.contains_pte(), |hold, slot| {
            granted::replace(self.host, hold, slot, gone, other)
        });
        if let (Err(_), Unmapping::Replace(addr)) = (&replaced, instead) {
            self.put_back(addr, other);
        }
        replaced
    }

    fn copy_bytes(&self, from: (Mfn, u16), to: (Mfn, u16), len: u16) {
        self.domain.machine.copy_bytes(from, to, len);
    }

    fn flush_cache(&self, at: (Mfn, u16), _len: u16) {
        self.host.write_back(at.0);
    }
}

impl<H: Host> Caller<'_, H> {
    fn unmap_translated(
        &self,
        mapping: &HostMapping,
        instead: Unmapping,
    ) -> Result<(), GrantError> {
        let unmap = |removed: &mut Removed| {
            translated::grants::unmap(self.domain, mapping, instead, removed)
        };
        match self.removed {
            Some(removed) => unmap(&mut removed.borrow_mut()),
            None => {
                let mut removed = Removed::new();
                let done = unmap(&mut removed);
                self.domain.settle_map(&mut removed, After::Keep);
                done
            }
        }
    }

    /// A page was perhaps written through a grant: its owner's log is told, if it has one.
    #[cold]
    fn mark_written(&self, mfn: Mfn) {
        let Some(Owner::Domain(owner)) = self.host.frame(mfn).map(|frame| frame.owner()) else {
            return;
        };
        if let Some(owner) = self.hv.named(self.domain, owner) {
            translated::grants::mark_written(&owner, mfn);
        }
    }

    /// Undoes the taking of an entry. If its table is gone meanwhile, so is its mapping.
    fn put_back(&self, addr: u64, entry: Pte) {
        if !entry.is_present() {
            return;
        }
        let back = self.with_entry(addr, false, |hold, slot| {
            granted::enter(self.host, hold, slot, entry)
        });
        if back.is_err() {
            crate::mm::entries::drop_l1(self.host, entry);
        }
    }
}
