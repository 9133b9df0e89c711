//! The handles of one domain: which grants of others it has mapped, and how.

use super::host::Access;
use super::pins::Parts;
use super::{GrantError, GrantHandle, GrantRef};
use crate::base::{DomId, Mfn};
use alloc::vec::Vec;

/// Slots allocated at once.
const CHUNK: usize = 256;

/// A mapping behind a handle. The page and the pins belong to it until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Who granted it.
    pub(super) peer: DomId,
    /// Which of those that had this number.
    pub(super) born: u64,
    pub(super) reference: GrantRef,
    pub(super) mfn: Mfn,
    pub(super) access: Access,
    /// The request's `GNTMAP_*` bits.
    pub(super) flags: u32,
    /// Parts that exist.
    pub(super) parts: Parts,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Not in use; the next free one behind it.
    Free(Option<GrantHandle>),
    /// A mapping is being made.
    Reserved,
    /// `claimed` are the parts (of those that exist) that someone is unmapping right now.
    Mapped { mapping: Mapping, claimed: Parts },
}

/// Table of handles, growing up to a limit.
#[derive(Debug)]
pub(super) struct Maptrack {
    chunks: Vec<Vec<Slot>>,
    free: Option<GrantHandle>,
    limit: u32,
    used: u32,
    /// Where a teardown goes on.
    cursor: GrantHandle,
}

impl Maptrack {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            chunks: Vec::new(),
            free: None,
            limit,
            used: 0,
            cursor: 0,
        }
    }

    /// Handles in use.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Takes a handle for a mapping about to be made.
    pub(super) fn reserve(&mut self) -> Result<GrantHandle, GrantError> {
        let handle = match self.free {
            Some(handle) => handle,
            None => self.grow().ok_or(GrantError::NoSpace)?,
        };
        let Some(slot) = self.slot_mut(handle) else {
            return Err(GrantError::NoSpace);
        };
        let Slot::Free(next) = *slot else {
            return Err(GrantError::NoSpace);
        };
        *slot = Slot::Reserved;
        self.free = next;
        self.used += 1;
        Ok(handle)
    }

    /// Gives a reserved handle back: the mapping could not be made.
    pub(super) fn abandon(&mut self, handle: GrantHandle) {
        if let Some(Slot::Reserved) = self.slot_mut(handle) {
            self.release(handle);
        }
    }

    /// Enters the mapping made for a reserved handle.
    pub(super) fn commit(&mut self, handle: GrantHandle, mapping: Mapping) {
        if let Some(slot @ Slot::Reserved) = self.slot_mut(handle) {
            *slot = Slot::Mapped {
                mapping,
                claimed: Parts::empty(),
            };
        }
    }

    /// The mapping behind a handle, with its parts that nobody is unmapping.
    pub(super) fn get(&self, handle: GrantHandle) -> Option<Mapping> {
        match *self.slot(handle)? {
            Slot::Mapped { mapping, claimed } => {
                let parts = mapping.parts.difference(claimed);
                (!parts.is_empty()).then_some(Mapping { parts, ..mapping })
            }
            Slot::Free(_) | Slot::Reserved => None,
        }
    }

    /// Claims those of `wanted` that exist and that nobody else is unmapping.
    ///
    /// Returns the mapping with exactly the claimed parts.
    pub(super) fn claim(
        &mut self,
        handle: GrantHandle,
        wanted: Parts,
    ) -> Result<Mapping, GrantError> {
        let mapping = self.get(handle).ok_or(GrantError::BadHandle)?;
        let parts = mapping.parts & wanted;
        if let Some(Slot::Mapped { claimed, .. }) = self.slot_mut(handle) {
            claimed.insert(parts);
        }
        Ok(Mapping { parts, ..mapping })
    }

    /// Takes a claim back: the parts are still mapped.
    pub(super) fn unclaim(&mut self, handle: GrantHandle, parts: Parts) {
        if let Some(Slot::Mapped { claimed, .. }) = self.slot_mut(handle) {
            claimed.remove(parts);
        }
    }

    /// The claimed parts are gone; the handle too, if they were the last.
    pub(super) fn remove(&mut self, handle: GrantHandle, parts: Parts) {
        let Some(Slot::Mapped { mapping, claimed }) = self.slot_mut(handle) else {
            return;
        };
        claimed.remove(parts);
        mapping.parts.remove(parts);
        if mapping.parts.is_empty() {
            self.release(handle);
        }
    }

    /// Claims the whole of the next mapping of a teardown; each slot looked at takes one from
    /// `budget`.
    pub(super) fn claim_next(&mut self, budget: &mut u32) -> Next {
        while *budget > 0 {
            *budget -= 1;
            if self.slot(self.cursor).is_none() {
                self.cursor = 0;
                return Next::End;
            }
            let handle = self.cursor;
            self.cursor += 1;
            if let Ok(mapping) = self.claim(handle, Parts::all()) {
                return Next::Claimed(handle, mapping);
            }
        }
        Next::Later
    }

    /// Looks for a mapping of this frame among the handles from `from` on.
    pub(super) fn find_frame(&self, mfn: Mfn, from: GrantHandle, budget: u32) -> Found {
        for handle in from..from.saturating_add(budget) {
            if self.slot(handle).is_none() {
                return Found::No;
            }
            if self.get(handle).is_some_and(|m| m.mfn == mfn) {
                return Found::Yes;
            }
        }
        Found::Later(from.saturating_add(budget))
    }

    fn slot(&self, handle: GrantHandle) -> Option<&Slot> {
        let index = handle as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    fn slot_mut(&mut self, handle: GrantHandle) -> Option<&mut Slot> {
        let index = handle as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    fn release(&mut self, handle: GrantHandle) {
        let next = self.free;
        if let Some(slot) = self.slot_mut(handle) {
            *slot = Slot::Free(next);
            self.free = Some(handle);
            self.used -= 1;
        }
    }

    /// Adds a chunk of free slots; returns the first.
    fn grow(&mut self) -> Option<GrantHandle> {
        let first = self.chunks.len() * CHUNK;
        let room = (self.limit as usize).checked_sub(first)?.min(CHUNK);
        if room == 0 {
            return None;
        }
        self.chunks.try_reserve(1).ok()?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(room).ok()?;
        let end = first + room;
        chunk.extend(
            (first + 1..=end).map(|next| Slot::Free((next < end).then_some(next as GrantHandle))),
        );
        self.chunks.push(chunk);
        self.free = Some(first as GrantHandle);
        self.free
    }
}

/// Outcome of [`Maptrack::claim_next`].
pub(super) enum Next {
    /// This one, with all the parts that were left.
    Claimed(GrantHandle, Mapping),
    /// The budget is used up.
    Later,
    /// All slots were looked at.
    End,
}

/// Outcome of [`Maptrack::find_frame`].
pub(super) enum Found {
    Yes,
    No,
    /// Go on from this handle.
    Later(GrantHandle),
}
