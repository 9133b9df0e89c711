//! One entry in the shared pages, and the protocol by which hypervisor and guest change it.
//!
//! Version 1: flags and domain are one 32-bit word which both sides change by compare-and-swap, so
//! that the guest cannot revoke an entry in the instant it comes into use. Version 2: only we write
//! the status word; we set it, then look at the flags again, while the guest clears the flags, then
//! looks at the status: at least one side sees the other. The frame number is read after that, once.

use super::GrantError;
use super::frames::WORDS;
use super::host::Access;
use super::pins::Hold;
use super::{SharedFrame, Version};
use crate::base::{DomId, Gfn};
use core::sync::atomic::{AtomicU32, Ordering};
use xen_abi::grant_table as abi;

/// Attempts to change a version 1 entry while the guest keeps changing it.
const ATTEMPTS: usize = 5;
/// Words of an entry.
const V1_WORDS: usize = 2;
const V2_WORDS: usize = 4;
/// Status words (16 bits each) in a frame.
pub(super) const STATUS_PER_FRAME: u32 = (WORDS * 2) as u32;

/// First word of an entry, copied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u16,
    pub(super) domid: DomId,
}

impl Header {
    pub(super) const fn from_word(word: u32) -> Self {
        Self {
            flags: word as u16,
            domid: (word >> 16) as u16,
        }
    }

    pub(super) const fn word(self) -> u32 {
        (self.domid as u32) << 16 | self.flags as u32
    }

    pub(super) const fn kind(self) -> u16 {
        self.flags & abi::GTF_type_mask
    }
}

/// What the entry is to be used for; decides which types of entries will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Mapping: whole pages only.
    Map,
    /// Copying through an entry that may itself stand for another domain's.
    Copy,
    /// Copying where the entry must be the domain's own page.
    CopyDirect,
}

/// Who wants to use the entry, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) grantee: DomId,
    pub(super) access: Access,
    pub(super) purpose: Purpose,
}

/// What an entry grants, as the guest wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// A whole page.
    Page(Gfn),
    /// Some bytes of a page, for copying.
    Part { gfn: Gfn, start: u16, len: u16 },
    /// Whatever another domain's entry grants.
    Through { dom: DomId, reference: u32 },
}

/// An entry in the shared pages.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    V1(&'a [AtomicU32; V1_WORDS]),
    V2 {
        words: &'a [AtomicU32; V2_WORDS],
        status: Status<'a>,
    },
}

/// The 16-bit status of a version 2 entry inside its 32-bit word.
#[derive(Clone, Copy)]
pub(super) struct Status<'a> {
    word: &'a AtomicU32,
    shift: u32,
}

impl Status<'_> {
    fn set(self, bits: u16) {
        self.word
            .fetch_or(u32::from(bits) << self.shift, Ordering::SeqCst);
    }

    fn clear(self, bits: u16) {
        self.word
            .fetch_and(!(u32::from(bits) << self.shift), Ordering::SeqCst);
    }

    /// Sets bits of an entry that nobody uses yet.
    pub(super) fn show(self, bits: u16) {
        self.set(bits);
    }

    fn get(self) -> u16 {
        (self.word.load(Ordering::SeqCst) >> self.shift) as u16
    }
}

impl<'a> Entry<'a> {
    /// Entry `reference` of a table; `None` beyond its end.
    #[inline(always)]
    pub(super) fn locate(
        version: Version,
        shared: &'a [SharedFrame],
        status: &'a [SharedFrame],
        reference: u32,
    ) -> Option<Self> {
        let per_frame = version.entries_per_frame();
        let frame = shared.get((reference / per_frame) as usize)?;
        let slot = (reference % per_frame) as usize;
        match version {
            Version::V1 => {
                let (entries, _) = frame.words().as_chunks::<V1_WORDS>();
                entries.get(slot).map(Self::V1)
            }
            Version::V2 => {
                let (entries, _) = frame.words().as_chunks::<V2_WORDS>();
                let status = status.get((reference / STATUS_PER_FRAME) as usize)?;
                let word = (reference % STATUS_PER_FRAME / 2) as usize;
                Some(Self::V2 {
                    words: entries.get(slot)?,
                    status: Status {
                        word: status.words().get(word)?,
                        shift: (reference & 1) * 16,
                    },
                })
            }
        }
    }

    /// The entry's words.
    pub(super) const fn words(&self) -> &'a [AtomicU32] {
        match self {
            Self::V1(words) => *words,
            Self::V2 { words, .. } => *words,
        }
    }

    /// Its first word, now.
    pub(super) fn header(&self) -> Header {
        let first = match self {
            Self::V1(words) => &words[0],
            Self::V2 { words, .. } => &words[0],
        };
        Header::from_word(first.load(Ordering::SeqCst))
    }

    /// Flags including those that version 2 keeps apart.
    pub(super) fn all_flags(&self) -> u16 {
        match self {
            Self::V1(_) => self.header().flags,
            Self::V2 { status, .. } => {
                self.header().flags | status.get() & (abi::GTF_reading | abi::GTF_writing)
            }
        }
    }

    /// Marks the entry as used under `terms`, if it grants that. `before` is what the marks show.
    ///
    /// Returns the header under which the use is granted.
    ///
    /// # Errors
    /// [`GrantError::General`]; the marks then show `before` again.
    #[inline(always)]
    pub(super) fn begin(&self, terms: &Terms, before: Hold) -> Result<Header, GrantError> {
        self.begin_while(terms, before, || {})
    }

    /// As [`Self::begin`]; `meanwhile` runs between each look at the entry and the marking, where
    /// a guest on another CPU may do its worst. Tests put such a guest there.
    #[inline(always)]
    pub(super) fn begin_while(
        &self,
        terms: &Terms,
        before: Hold,
        meanwhile: impl Fn(),
    ) -> Result<Header, GrantError> {
        let marks = marks(Hold::from(terms.access));
        match self {
            Self::V1(words) => begin_v1(&words[0], terms, marks, meanwhile),
            Self::V2 { status, .. } => {
                check(Version::V2, self.header(), terms)?;
                meanwhile();
                status.set(marks);
                let header = self.header();
                check(Version::V2, header, terms).inspect_err(|_| self.settle(before))?;
                Ok(header)
            }
        }
    }

    /// Takes away the marks beyond those of `hold`.
    #[inline(always)]
    pub(super) fn settle(&self, hold: Hold) {
        let excess = marks(Hold::Writing) & !marks(hold);
        match self {
            Self::V1(words) => {
                words[0].fetch_and(!u32::from(excess), Ordering::SeqCst);
            }
            Self::V2 { status, .. } => status.clear(excess),
        }
    }

    /// What the entry grants; `header` is that which [`Self::begin`] returned.
    #[inline(always)]
    pub(super) fn granted(&self, header: Header) -> Granted {
        match self {
            Self::V1(words) => Granted::Page(Gfn(u64::from(words[1].load(Ordering::SeqCst)))),
            Self::V2 { words, .. } => {
                let word = |i: usize| words[i].load(Ordering::SeqCst);
                if header.kind() == abi::GTF_transitive {
                    return Granted::Through {
                        dom: word(1) as u16,
                        reference: word(2),
                    };
                }
                let gfn = Gfn(u64::from(word(3)) << 32 | u64::from(word(2)));
                if header.flags & abi::GTF_sub_page != 0 {
                    let range = word(1);
                    let (start, len) = (range as u16, (range >> 16) as u16);
                    Granted::Part { gfn, start, len }
                } else {
                    Granted::Page(gfn)
                }
            }
        }
    }
}

/// The flags that show a hold.
#[inline(always)]
const fn marks(hold: Hold) -> u16 {
    match hold {
        Hold::Idle => 0,
        Hold::Reading => abi::GTF_reading,
        Hold::Writing => abi::GTF_reading | abi::GTF_writing,
    }
}

#[inline(always)]
fn begin_v1(
    first: &AtomicU32,
    terms: &Terms,
    marks: u16,
    meanwhile: impl Fn(),
) -> Result<Header, GrantError> {
    let mut seen = first.load(Ordering::SeqCst);
    for _ in 0..ATTEMPTS {
        let header = Header::from_word(seen);
        check(Version::V1, header, terms)?;
        meanwhile();
        let marked = seen | u32::from(marks);
        match first.compare_exchange(seen, marked, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(header),
            Err(changed) => seen = changed,
        }
    }
    Err(GrantError::General)
}

/// Whether an entry with this header grants what `terms` ask for.
#[inline(always)]
fn check(version: Version, header: Header, terms: &Terms) -> Result<(), GrantError> {
    let usable = match (version, header.kind()) {
        (Version::V1, abi::GTF_permit_access) => true,
        (Version::V2, abi::GTF_permit_access) => {
            terms.purpose != Purpose::Map || header.flags & abi::GTF_sub_page == 0
        }
        (Version::V2, abi::GTF_transitive) => terms.purpose == Purpose::Copy,
        _ => false,
    };
    let allowed = terms.access == Access::Read || header.flags & abi::GTF_readonly == 0;
    if usable && allowed && header.domid == terms.grantee {
        Ok(())
    } else {
        Err(GrantError::General)
    }
}
