//! A machine of a few domains and pages that counts every reference.

use crate::base::{DomId, Gfn, Mfn, PAGE_SIZE};
use crate::grants::copy::{Copies, CopyRequest};
use crate::grants::frames::WORDS;
use crate::grants::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use xen_abi::grant_table as abi;

/// First machine frame of the table pages.
const TABLE_FRAMES: u64 = 0x1000;
/// Pages of each domain.
pub const PAGES: u64 = 8;

pub struct Page {
    pub owner: DomId,
    pub reads: u32,
    pub writes: u32,
    pub bytes: [u8; PAGE_SIZE],
}

#[derive(Default)]
pub struct Pool {
    frames: RefCell<Vec<&'static [AtomicU32; WORDS]>>,
    pub live: Cell<u32>,
    /// Allocations that still succeed.
    pub left: Cell<Option<u32>>,
}

impl FramePool for Pool {
    fn alloc(&self, _owner: DomId) -> Option<SharedFrame> {
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        let words: &'static _ = Box::leak(Box::new([const { AtomicU32::new(0) }; WORDS]));
        let mfn = Mfn(TABLE_FRAMES + self.frames.borrow().len() as u64);
        self.frames.borrow_mut().push(words);
        self.live.set(self.live.get() + 1);
        Some(SharedFrame::new(mfn, words))
    }

    fn free(&self, _frame: SharedFrame) {
        self.live.set(self.live.get() - 1);
    }
}

/// What the next operations fail at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    CreateMapping,
    DestroyMapping,
    /// The reference after this many.
    Reference(u32),
}

pub struct World {
    pub pool: Pool,
    pub domains: Vec<Grants>,
    pub pages: RefCell<BTreeMap<u64, Page>>,
    /// Host mappings by domain and address.
    pub entries: RefCell<BTreeMap<(DomId, u64), (Mfn, Access)>>,
    pub flushed: RefCell<Vec<(Mfn, u16, u16)>>,
    pub fault: Cell<Fault>,
}

/// The machine frame of a domain's page.
pub fn page_of(dom: DomId, index: u64) -> u64 {
    0x100 * (u64::from(dom) + 1) + index
}

impl World {
    pub fn new(domains: u16, limits: Limits) -> Self {
        let pool = Pool::default();
        let domains: Vec<_> = (0..domains)
            .map(|dom| Grants::new(dom, limits, 0, &pool).unwrap())
            .collect();
        let pages = (0..domains.len() as DomId)
            .flat_map(|owner| (0..PAGES).map(move |i| (owner, page_of(owner, i))))
            .map(|(owner, frame)| {
                let bytes = [frame as u8; PAGE_SIZE];
                let page = Page {
                    owner,
                    reads: 0,
                    writes: 0,
                    bytes,
                };
                (frame, page)
            })
            .collect();
        Self {
            pool,
            domains,
            pages: RefCell::new(pages),
            entries: RefCell::default(),
            flushed: RefCell::default(),
            fault: Cell::new(Fault::None),
        }
    }

    pub fn host(&self, caller: DomId) -> FakeHost<'_> {
        self.host_with(caller, Paging::Direct)
    }

    pub fn host_with(&self, caller: DomId, paging: Paging) -> FakeHost<'_> {
        FakeHost {
            world: self,
            caller: &self.domains[usize::from(caller)],
            paging,
        }
    }

    pub fn grants(&self, dom: DomId) -> &Grants {
        &self.domains[usize::from(dom)]
    }

    fn word(&self, dom: DomId, kind: FrameKind, index: usize) -> &'static AtomicU32 {
        let mfn = self
            .grants(dom)
            .frame(kind, (index / WORDS) as u32)
            .unwrap();
        &self.pool.frames.borrow()[(mfn.0 - TABLE_FRAMES) as usize][index % WORDS]
    }

    /// The guest's view of the words of an entry.
    pub fn entry_word(&self, dom: DomId, reference: u32, word: usize) -> &'static AtomicU32 {
        let size = match self.grants(dom).version() {
            Version::V1 => 2,
            Version::V2 => 4,
        };
        self.word(dom, FrameKind::Shared, reference as usize * size + word)
    }

    /// The guest fills an entry with a whole page.
    pub fn grant(&self, dom: DomId, reference: u32, to: DomId, frame: u64, flags: u16) {
        let put = |word, value: u64| {
            let word = self.entry_word(dom, reference, word);
            word.store(value as u32, Ordering::SeqCst);
        };
        match self.grants(dom).version() {
            Version::V1 => put(1, frame),
            Version::V2 => {
                put(2, frame);
                put(3, frame >> 32);
            }
        }
        self.set_header(dom, reference, to, flags);
    }

    pub fn set_header(&self, dom: DomId, reference: u32, to: DomId, flags: u16) {
        let header = u32::from(to) << 16 | u32::from(flags);
        self.entry_word(dom, reference, 0)
            .store(header, Ordering::SeqCst);
    }

    /// `GTF_*` as the guest of either version finds them out.
    pub fn flags(&self, dom: DomId, reference: u32) -> u16 {
        let flags = self.entry_word(dom, reference, 0).load(Ordering::SeqCst) as u16;
        match self.grants(dom).version() {
            Version::V1 => flags,
            Version::V2 => flags | self.status(dom, reference),
        }
    }

    pub fn status(&self, dom: DomId, reference: u32) -> u16 {
        let word = self.word(dom, FrameKind::Status, reference as usize / 2);
        (word.load(Ordering::SeqCst) >> (16 * (reference & 1))) as u16
    }

    /// Reading and writing references of a page.
    pub fn refs(&self, frame: u64) -> (u32, u32) {
        let pages = self.pages.borrow();
        (pages[&frame].reads, pages[&frame].writes)
    }

    pub fn total_refs(&self) -> u32 {
        let pages = self.pages.borrow();
        pages.values().map(|p| p.reads + p.writes).sum()
    }

    fn take(&self, owner: DomId, frame: u64, access: Access) -> Result<(), GrantError> {
        if let Fault::Reference(left) = self.fault.get() {
            let left = left.checked_sub(1).ok_or(GrantError::BadPage)?;
            self.fault.set(Fault::Reference(left));
        }
        let mut pages = self.pages.borrow_mut();
        let page = pages.get_mut(&frame).filter(|p| p.owner == owner);
        let page = page.ok_or(GrantError::BadPage)?;
        match access {
            Access::Read => page.reads += 1,
            Access::Write => page.writes += 1,
        }
        Ok(())
    }

    pub fn put(&self, frame: u64, access: Access) {
        let mut pages = self.pages.borrow_mut();
        let page = pages.get_mut(&frame).unwrap();
        let count = match access {
            Access::Read => &mut page.reads,
            Access::Write => &mut page.writes,
        };
        *count = count.checked_sub(1).expect("reference dropped twice");
    }

    /// A dying PV domain's page tables go: each entry drops its reference.
    pub fn tear_down_page_tables(&self, dom: DomId) {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|(owner, _), (mfn, access)| {
            if *owner == dom {
                self.put(mfn.0, *access);
            }
            *owner != dom
        });
    }
}

pub struct FakeHost<'a> {
    pub world: &'a World,
    caller: &'a Grants,
    paging: Paging,
}

impl<'a> GrantHost for FakeHost<'a> {
    type Peer = &'a Grants;

    fn caller(&self) -> &Self::Peer {
        &self.caller
    }

    fn paging(&self) -> Paging {
        self.paging
    }

    fn peer(&self, dom: DomId) -> Option<Self::Peer> {
        self.world.domains.get(usize::from(dom))
    }

    fn take_frame(&self, owner: &Self::Peer, gfn: Gfn, access: Access) -> Result<Mfn, GrantError> {
        self.world.take(owner.dom(), gfn.0, access)?;
        Ok(Mfn(gfn.0))
    }

    fn take_page(&self, owner: &Self::Peer, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        self.world.take(owner.dom(), mfn.0, access)
    }

    fn put_page(&self, mfn: Mfn, access: Access) {
        self.world.put(mfn.0, access);
    }

    fn create_host_mapping(&self, mapping: &HostMapping) -> Result<(), GrantError> {
        let place = (self.caller.dom(), mapping.addr);
        let mut entries = self.world.entries.borrow_mut();
        if self.world.fault.get() == Fault::CreateMapping || entries.contains_key(&place) {
            return Err(GrantError::BadVirtAddr);
        }
        entries.insert(place, (mapping.mfn, mapping.access));
        Ok(())
    }

    fn destroy_host_mapping(
        &self,
        mapping: &HostMapping,
        instead: Unmapping,
    ) -> Result<(), GrantError> {
        let dom = self.caller.dom();
        let mut entries = self.world.entries.borrow_mut();
        let found = entries.get(&(dom, mapping.addr)).copied();
        let faulty = self.world.fault.get() == Fault::DestroyMapping;
        if faulty || found != Some((mapping.mfn, mapping.access)) {
            return Err(GrantError::General);
        }
        entries.remove(&(dom, mapping.addr));
        if let Unmapping::Replace(from) = instead
            && let Some(moved) = entries.remove(&(dom, from))
        {
            entries.insert((dom, mapping.addr), moved);
        }
        Ok(())
    }

    fn copy_bytes(&self, from: (Mfn, u16), to: (Mfn, u16), len: u16) {
        assert!(self.world.refs(from.0.0).0 > 0, "source not held");
        assert!(self.world.refs(to.0.0).1 > 0, "destination not held");
        let (start, len) = (usize::from(from.1), usize::from(len));
        let mut pages = self.world.pages.borrow_mut();
        let bytes = pages[&from.0.0].bytes[start..start + len].to_vec();
        let page = pages.get_mut(&to.0.0).unwrap();
        page.bytes[usize::from(to.1)..][..len].copy_from_slice(&bytes);
    }

    fn flush_cache(&self, at: (Mfn, u16), len: u16) {
        self.world.flushed.borrow_mut().push((at.0, at.1, len));
    }
}

/// Maps a page for CPUs.
pub fn map_host(
    host: &FakeHost<'_>,
    dom: DomId,
    reference: u32,
    addr: u64,
    more_flags: u32,
) -> Result<MapOutcome, GrantError> {
    let request = MapRequest {
        dom,
        reference,
        host_addr: addr,
        flags: abi::GNTMAP_host_map | more_flags,
    };
    map::map_grant_ref(host, &request)
}

/// Unmaps, both phases at once.
pub fn unmap(
    host: &FakeHost<'_>,
    handle: u32,
    host_addr: u64,
    dev_bus_addr: u64,
) -> Result<(), GrantError> {
    let request = UnmapRequest {
        handle,
        host_addr,
        dev_bus_addr,
        instead: Unmapping::Clear,
    };
    let pending = map::prepare_unmap(host, &request)?;
    pending.finish(host);
    Ok(())
}

/// One copy alone.
pub fn copy(host: &FakeHost<'_>, request: &CopyRequest) -> Result<(), GrantError> {
    let mut copies = Copies::default();
    let result = copies.copy(host, request);
    copies.finish(host);
    result
}
