//! `GNTTABOP_swap_grant_ref`: two unused entries of the caller change places.

use super::pins::Hold;
use super::table::GrantTable;
use super::{GrantError, GrantRef};
use core::sync::atomic::Ordering;

impl GrantTable {
    pub(super) fn swap(&mut self, a: GrantRef, b: GrantRef) -> Result<(), GrantError> {
        let (Some(active_a), Some(active_b)) = (self.active(a), self.active(b)) else {
            return Err(GrantError::BadGntref);
        };
        if a == b {
            return Ok(());
        }
        let idle = |hold: Hold| hold == Hold::Idle;
        if !idle(active_a.pins.hold()) || !idle(active_b.pins.hold()) {
            return Err(GrantError::Eagain);
        }
        let (Some(entry_a), Some(entry_b)) = (self.entry(a), self.entry(b)) else {
            return Err(GrantError::BadGntref);
        };
        // The table is locked, so nobody can begin to use either entry; a guest that changes them
        // at the same time gets some mixture of its own writes. The first word, which makes an
        // entry valid, comes last.
        for (x, y) in entry_a.words().iter().zip(entry_b.words()).rev() {
            let old = x.load(Ordering::SeqCst);
            x.store(y.swap(old, Ordering::SeqCst), Ordering::SeqCst);
        }
        Ok(())
    }
}
