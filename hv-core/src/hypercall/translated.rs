//! Calls on and by domains whose guest frames the hypervisor translates ([`Translated`](crate::domain::Translated)).
//!
//! The handlers of `memory_op`, `mmu_update` and the grant operations are the same for all domains. Where a frame number is
//! one of such a domain they go on here:
//! - [`reservation`]: memory that a domain is given, and gives back.
//! - [`huge`]: 1 GiB of it, which comes 2 MiB at a time.
//! - [`demand`]: memory that it is promised, and what is set aside for that.
//! - [`physmap`]: what stands behind a guest frame.
//! - [`foreign`]: guest frames in page tables of the control domain.
//! - [`grants`]: guest frames in grant entries, and grants mapped at guest frames.
//!
//! # References
//! No number of a guest frame is translated once and used later: either a page is held by the look-up until who uses it has
//! a reference of its own, or the look-up is made again with that reference. What is taken out of a map is settled before a handler
//! returns, on every way out.

pub(super) mod demand;
pub(super) mod foreign;
pub(super) mod grants;
pub(super) mod huge;
pub(super) mod physmap;
pub(super) mod reservation;

use alloc::sync::Arc;

use crate::domain::{Domain, Translated};

/// A domain with its map.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) domain: &'a Arc<Domain>,
    pub(super) map: &'a Translated,
}

impl<'a> Target<'a> {
    /// Of a domain that is translated.
    pub(super) fn of(domain: &'a Arc<Domain>) -> Option<Self> {
        let map = domain.translated.as_ref()?;
        Some(Self { domain, map })
    }
}
