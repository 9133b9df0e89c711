//! A translated domain's memory, by guest physical addresses and through a vCPU's own tables.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::errno::Errno;

use crate::base::{Gfn, PAGE_SIZE};
use crate::domain::{Domain, HeldPage, Translated};
use crate::hvm::copies::{self, GuestMemory};
use crate::hvm::walk::{Access, GuestPhysical, Kind, PagingMode, Privilege, walk};
use crate::hypercall::narrow::Overlay;

/// RAM of a domain by guest physical addresses. Each access holds the page for its time. Nothing where the domain's memory is not translated.
#[derive(Clone, Copy)]
pub struct Memory<'a>(pub &'a Domain);

impl<'a> Memory<'a> {
    fn hold(&self, gpa: u64, write: bool) -> Option<HeldPage<'a>> {
        self.0.hold(Gfn(gpa / PAGE_SIZE as u64), write)
    }
}

/// The same for a look while nobody may wait: what is promised only is not there, and no accessed bit is set.
#[derive(Clone, Copy)]
pub(super) struct Glance<'a>(pub &'a Translated);

impl Glance<'_> {
    /// The byte of code at a linear address, as the guest's kernel fetches it.
    pub(super) fn code(&self, mode: &PagingMode, at: u64) -> Option<u8> {
        let found = walk(self, mode, at, Access::at_cpl(Kind::Fetch, 0)).ok()?;
        let word = self.load(found.gpa)?;
        Some((word >> (8 * (found.gpa & 7))) as u8)
    }

    /// The four entries above PAE's tables, which begin at CR3; `None` where one is not as it has to be (Intel SDM vol. 3, table 4-8).
    pub(super) fn directories(&self, mode: &PagingMode) -> Option<[u64; 4]> {
        let reserved = |entry: u64| {
            let address = (1 << mode.address_bits.clamp(32, 52)) - 1;
            entry & 1 != 0 && entry & (!address | 0x1e6) != 0
        };
        let mut entries = [0; 4];
        for (index, entry) in (0..).zip(&mut entries) {
            *entry = self.load((mode.cr3 & 0xffff_ffe0) + 8 * index)?;
        }
        (!entries.into_iter().any(reserved)).then_some(entries)
    }
}

impl GuestPhysical for Glance<'_> {
    fn load(&self, gpa: u64) -> Option<u64> {
        self.0.peek(Gfn(gpa / PAGE_SIZE as u64), offset(gpa) / 8)
    }

    fn compare_exchange(&self, _: u64, _: u64, _: u64) -> Option<bool> {
        None
    }
}

/// Where in its page a guest physical address lies.
const fn offset(gpa: u64) -> usize {
    gpa as usize % PAGE_SIZE
}

impl GuestPhysical for Memory<'_> {
    fn load(&self, gpa: u64) -> Option<u64> {
        let (gfn, word) = (Gfn(gpa / PAGE_SIZE as u64), offset(gpa) / 8);
        if let Some(value) = self.0.translated.as_ref()?.peek(gfn, word) {
            return Some(value);
        }
        // It may be promised only.
        let page = self.hold(gpa, false)?;
        Some(page.words().get(word)?.load(Ordering::Relaxed))
    }

    fn compare_exchange(&self, gpa: u64, old: u64, new: u64) -> Option<bool> {
        let page = self.hold(gpa, true)?;
        let word = page.words().get(offset(gpa) / 8)?;
        let done = word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed);
        Some(done.is_ok())
    }
}

impl GuestMemory for Memory<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Option<()> {
        let page = self.hold(gpa, false)?;
        let mut at = offset(gpa);
        let mut rest = into;
        while !rest.is_empty() {
            let count = (8 - at % 8).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            let word = page.words().get(at / 8)?.load(Ordering::Relaxed);
            now.copy_from_slice(&word.to_le_bytes()[at % 8..][..count]);
            at += count;
            rest = later;
        }
        Some(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        let page = self.hold(gpa, true)?;
        let mut at = offset(gpa);
        let mut rest = from;
        while !rest.is_empty() {
            let count = (8 - at % 8).min(rest.len());
            let (now, later) = rest.split_at(count);
            store(page.words().get(at / 8)?, at % 8, now);
            at += count;
            rest = later;
        }
        Some(())
    }
}

/// Stores bytes into a word without touching those beside them, which the guest may be changing.
fn store(word: &AtomicU64, at: usize, bytes: &[u8]) {
    let mut mask = [0; 8];
    let mut value = [0; 8];
    for (index, byte) in bytes.iter().enumerate().take(8 - at) {
        mask[at + index] = 0xff;
        value[at + index] = *byte;
    }
    let (mask, value) = (u64::from_le_bytes(mask), u64::from_le_bytes(value));
    if mask == u64::MAX {
        word.store(value, Ordering::Relaxed);
        return;
    }
    let merged = |old: u64| Some(old & !mask | value);
    let _always_done = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, merged);
}

/// A vCPU's address space as its hypercalls mean it: that of its kernel.
pub struct Space<'a> {
    memory: Memory<'a>,
    mode: PagingMode,
    /// What copies see over it.
    overlay: RefCell<Option<Overlay>>,
}

impl<'a> Space<'a> {
    /// The space of a vCPU of this domain; nothing where the domain's memory is not translated.
    #[must_use]
    pub fn new(domain: &'a Domain, mode: PagingMode) -> Option<Self> {
        domain.translated.as_ref()?;
        let memory = Memory(domain);
        let overlay = RefCell::new(None);
        Some(Self {
            memory,
            mode,
            overlay,
        })
    }

    /// From now on copies see this over it, or nothing. Gives what was there before.
    pub fn lay_over(&self, overlay: Option<Overlay>) -> Option<Overlay> {
        self.overlay.replace(overlay)
    }

    /// Copies from it.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(never)]
    pub fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        let own = |to: &mut [u8], from| {
            let privilege = Privilege::Supervisor;
            let copied = copies::copy_in(&self.memory, &self.mode, privilege, from, to);
            copied.map_err(|_| Errno::EFAULT)
        };
        match &*self.overlay.borrow() {
            Some(overlay) => overlay.copy_in(to, from, own),
            None => own(to, from),
        }
    }

    /// Copies to it.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(never)]
    pub fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        let own = |to, from: &[u8]| {
            let privilege = Privilege::Supervisor;
            let copied = copies::copy_out(&self.memory, &self.mode, privilege, to, from);
            copied.map_err(|_| Errno::EFAULT)
        };
        match &mut *self.overlay.borrow_mut() {
            Some(overlay) => overlay.copy_out(to, from, own),
            None => own(to, from),
        }
    }
}
