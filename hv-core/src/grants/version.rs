//! The two layouts of entries, and the change from one to the other (`GNTTABOP_set_version`).

use super::FramePool;
use super::entry::{Entry, Header};
use super::frames::WORDS;
use super::pins::Hold;
use super::table::GrantTable;
use core::sync::atomic::Ordering;
use xen_abi::errno::Errno;
use xen_abi::grant_table as abi;

/// Layout of a domain's grant entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 8 bytes each.
    V1,
    /// 16 bytes each, with the hypervisor's flags in separate status frames.
    V2,
}

impl Version {
    /// The ABI's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// Entries in one shared frame.
    #[must_use]
    pub const fn entries_per_frame(self) -> u32 {
        let words = match self {
            Self::V1 => 2,
            Self::V2 => 4,
        };
        WORDS as u32 / words
    }
}

/// A reserved entry on its way between the layouts.
#[derive(Clone, Copy, Debug, Default)]
struct Reserved {
    /// Word 0, with the marks that version 2 keeps in the status.
    first: u32,
    gfn: u64,
}

const RESERVED: usize = abi::GNTTAB_NR_RESERVED_ENTRIES as usize;
const MARKS: u16 = abi::GTF_reading | abi::GTF_writing;

impl GrantTable {
    /// Changes the layout. All entries are cleared but the reserved ones, which tools may have
    /// filled (and mapped) before the guest came to choose a version.
    pub(super) fn set_version(&mut self, number: u32, pool: &dyn FramePool) -> Result<(), Errno> {
        let version = Version::from_number(number).ok_or(Errno::EINVAL)?;
        if version == self.version {
            return Ok(());
        }
        if version > self.limits.max_version {
            return Err(Errno::ENOSYS);
        }
        if self.used(abi::GNTTAB_NR_RESERVED_ENTRIES).next().is_some() {
            return Err(Errno::EBUSY);
        }
        let mut kept = [Reserved::default(); RESERVED];
        for (slot, reference) in kept.iter_mut().zip(0..) {
            *slot = self.save_reserved(reference)?;
        }
        if version == Version::V2 {
            self.grow_status(self.status_frames(), pool)?;
        }
        for frame in self.shared.iter().chain(&self.status) {
            frame.clear();
        }
        self.version = version;
        for (slot, reference) in kept.iter().zip(0..) {
            self.restore_reserved(reference, slot);
        }
        Ok(())
    }

    /// Reads an entry that is to survive: whole-page access, in use or not. Any other kind is
    /// dropped, or refused while it is in use, since the other layout has no place for it.
    fn save_reserved(&self, reference: u32) -> Result<Reserved, Errno> {
        let Some(entry) = self.entry(reference) else {
            return Ok(Reserved::default());
        };
        let header = Header {
            flags: entry.all_flags(),
            ..entry.header()
        };
        let words = entry.words();
        let word = |i: usize| words.get(i).map_or(0, |w| w.load(Ordering::SeqCst));
        let active = self.active(reference);
        let in_use = active.is_some_and(|a| a.pins.hold() != Hold::Idle);
        let gfn = match entry {
            Entry::V1(_) => u64::from(word(1)),
            Entry::V2 { .. } => u64::from(word(3)) << 32 | u64::from(word(2)),
        };
        // In version 1 the bit of GTF_sub_page has no meaning and is not carried over.
        let whole = self.version == Version::V1 || header.flags & abi::GTF_sub_page == 0;
        let fits = self.version == Version::V1 || u32::try_from(gfn).is_ok();
        if header.kind() == abi::GTF_permit_access && whole && fits {
            let flags = header.flags & !abi::GTF_sub_page;
            let first = Header { flags, ..header }.word();
            Ok(Reserved { first, gfn })
        } else if in_use {
            Err(Errno::EBUSY)
        } else {
            Ok(Reserved::default())
        }
    }

    fn restore_reserved(&self, reference: u32, saved: &Reserved) {
        let header = Header::from_word(saved.first);
        let (low, high) = (saved.gfn as u32, (saved.gfn >> 32) as u32);
        match self.entry(reference) {
            Some(Entry::V1(words)) => {
                words[1].store(low, Ordering::SeqCst);
                words[0].store(saved.first, Ordering::SeqCst);
            }
            Some(Entry::V2 { words, status }) => {
                words[2].store(low, Ordering::SeqCst);
                words[3].store(high, Ordering::SeqCst);
                status.show(header.flags & MARKS);
                let flags = header.flags & !MARKS;
                words[0].store(Header { flags, ..header }.word(), Ordering::SeqCst);
            }
            None => {}
        }
    }
}
