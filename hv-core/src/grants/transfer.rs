//! `GNTTABOP_transfer`: an entry at which its domain accepts a page from another one.
//!
//! The entry goes through three states, which the accepting domain sees: open (`GTF_accept_transfer` alone), committed
//! when a page is on its way, completed when the frame number is in the entry.

use super::entry::{Entry, Header};
use super::table::{GrantTable, Life};
use super::{GrantError, GrantRef, Grants};
use crate::base::{DomId, Mfn};
use core::sync::atomic::{AtomicU32, Ordering};
use xen_abi::grant_table as abi;

/// Attempts to change an entry while the guest keeps changing it.
const ATTEMPTS: usize = 5;

impl Grants {
    /// Commits an open entry to a page from `from`. No other page is accepted there then.
    ///
    /// # Errors
    /// [`GrantError::General`] when there is no such entry or it does not accept that.
    pub fn commit_transfer(&self, reference: GrantRef, from: DomId) -> Result<(), GrantError> {
        let table = self.table.lock();
        let (first, _) = words(&table, reference).ok_or(GrantError::General)?;
        let open = Header {
            flags: abi::GTF_accept_transfer,
            domid: from,
        };
        let committed = open.word() | u32::from(abi::GTF_transfer_committed);
        for _ in 0..ATTEMPTS {
            let (set, got) = (Ordering::SeqCst, Ordering::SeqCst);
            match first.compare_exchange(open.word(), committed, set, got) {
                Ok(_) => return Ok(()),
                Err(seen) if seen != open.word() => return Err(GrantError::General),
                Err(_) => {}
            }
        }
        Err(GrantError::General)
    }

    /// Shows the page in a committed entry. A domain that changed its table meanwhile finds the page elsewhere or not
    /// at all: it is its own all the same.
    pub fn complete_transfer(&self, reference: GrantRef, mfn: Mfn) {
        let table = self.table.lock();
        let Some((first, frame)) = words(&table, reference) else {
            return;
        };
        frame[0].store(mfn.0 as u32, Ordering::SeqCst);
        if let Some(high) = frame.get(1) {
            high.store((mfn.0 >> 32) as u32, Ordering::SeqCst);
        }
        first.fetch_or(u32::from(abi::GTF_transfer_completed), Ordering::SeqCst);
    }
}

/// The first word of an entry, and those of its frame number: one, or the low and the high one.
fn words(table: &GrantTable, reference: GrantRef) -> Option<(&AtomicU32, &[AtomicU32])> {
    if table.life != Life::Running {
        return None;
    }
    match Entry::locate(table.version, &table.shared, &table.status, reference)? {
        Entry::V1(words) => Some((&words[0], &words[1..])),
        Entry::V2 { words, .. } => Some((&words[0], &words[2..])),
    }
}
