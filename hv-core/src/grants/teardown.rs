//! The end of a domain, in phases.
//!
//! 1. [`Grants::mark_dying`]: nobody begins to use its grants any more.
//! 2. [`release_mappings`], again and again: what it has mapped from others is let go of.
//! 3. Its pages return as its peers unmap them; peers still find it through [`GrantHost::peer`].
//! 4. [`Grants::abandon`]: the table goes, whether peers have unmapped or not.

use super::host::{GrantHost, HasGrants, Paging};
use super::map::{granter, unpin};
use super::maptrack::{Mapping, Next};
use super::pins::Parts;
use super::table::Life;
use super::{FramePool, Grants};

/// How far a teardown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left.
    Done,
    /// Call again.
    More,
}

impl Grants {
    /// From now on neither maps nor copies through this domain's entries begin, and its table does
    /// not grow. Ending what has begun stays possible.
    pub fn mark_dying(&self) {
        self.table.lock().life = Life::Dying;
    }

    /// Gives the frames of the table back. Peers that have mapped its pages may unmap them later: the pages are
    /// held by references of their own, and the books about the entries are closed.
    pub fn abandon(&self, pool: &dyn FramePool) {
        let (shared, status) = {
            let mut table = self.table.lock();
            table.life = Life::Over;
            table.take_frames()
        };
        for frame in shared.into_iter().chain(status) {
            pool.free(frame);
        }
    }
}

/// Lets go of what the dying caller has mapped, looking at no more than `budget` handles.
///
/// None of its vCPUs may run any more, and none of its unmaps may be between their two phases.
/// Under [`Paging::Direct`] the page references of host mappings belong to its page-table entries
/// and are dropped when those are torn down, before or after this; under [`Paging::Translated`]
/// they are dropped here, so that no CPU may hold a translation of it when this is called.
pub fn release_mappings<H: GrantHost>(host: &H, budget: u32) -> Progress {
    let maptrack = &host.caller().grants().maptrack;
    let mut left = budget;
    loop {
        let next = maptrack.lock().claim_next(&mut left);
        match next {
            Next::Claimed(handle, mapping) => {
                release(host, &mapping);
                maptrack.lock().remove(handle, mapping.parts);
            }
            Next::Later => return Progress::More,
            Next::End if maptrack.lock().used() == 0 => return Progress::Done,
            Next::End => return Progress::More,
        }
    }
}

fn release<H: GrantHost>(host: &H, mapping: &Mapping) {
    let Mapping {
        parts,
        access,
        reference,
        mfn,
        ..
    } = *mapping;
    if let Some(peer) = granter(host, mapping) {
        unpin(host, &peer, reference, parts, access, None);
    }
    let ours = match host.paging() {
        Paging::Direct => parts.difference(Parts::HOST),
        Paging::Translated => parts,
    };
    for _ in 0..ours.count() {
        host.put_page(mfn, access);
    }
}
