//! `GNTTABOP_copy`: bytes from one page to another, each the caller's own or granted to it.

use super::entry::{Purpose, Terms};
use super::host::{Access, GrantHost, HasGrants};
use super::map::unpin;
use super::pins::Parts;
use super::table::{PageRange, Target, Use};
use super::{GrantError, GrantRef};
use crate::base::{DomId, Gfn, PAGE_SIZE};
use arrayvec::ArrayVec;
use xen_abi::grant_table as abi;
use xen_abi::xen::DOMID_SELF;

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A frame of the caller.
    Own(Gfn),
    /// A page granted to the caller.
    Granted {
        /// Granting domain; `None` is the caller itself.
        dom: Option<DomId>,
        /// Its entry.
        reference: GrantRef,
    },
}

/// The inputs of `GnttabCopy`, checked as far as they can be alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    source: (Place, u16),
    dest: (Place, u16),
    len: u16,
}

impl TryFrom<&abi::GnttabCopy> for CopyRequest {
    type Error = GrantError;

    /// # Errors
    /// [`GrantError::PermissionDenied`] for another domain's frame without a grant,
    /// [`GrantError::BadCopyArg`] when a range leaves its page.
    fn try_from(op: &abi::GnttabCopy) -> Result<Self, GrantError> {
        let source = place(&op.source, op.flags & abi::GNTCOPY_source_gref != 0)?;
        let dest = place(&op.dest, op.flags & abi::GNTCOPY_dest_gref != 0)?;
        Self::new((source, op.source.offset), (dest, op.dest.offset), op.len)
    }
}

fn place(end: &abi::GnttabCopyPtr, is_grant: bool) -> Result<Place, GrantError> {
    let own = end.domid == DOMID_SELF;
    if is_grant {
        Ok(Place::Granted {
            dom: (!own).then_some(end.domid),
            // The union holds a 32-bit reference in its low half.
            reference: end.u as GrantRef,
        })
    } else if own {
        Ok(Place::Own(Gfn(end.u)))
    } else {
        Err(GrantError::PermissionDenied)
    }
}

impl CopyRequest {
    /// A copy of `len` bytes between two places, each with an offset in its page.
    ///
    /// # Errors
    /// [`GrantError::BadCopyArg`] when a range leaves its page.
    pub fn new(source: (Place, u16), dest: (Place, u16), len: u16) -> Result<Self, GrantError> {
        let fits = |offset: u16| usize::from(offset) + usize::from(len) <= PAGE_SIZE;
        if fits(source.1) && fits(dest.1) {
            Ok(Self { source, dest, len })
        } else {
            Err(GrantError::BadCopyArg)
        }
    }
}

/// A page held for the duration of a copy.
struct HeldPage<P> {
    page: PageRange,
    access: Access,
    /// Entries in use: none for an own frame, two when the first stands for the second.
    entries: ArrayVec<(P, GrantRef), 2>,
}

/// One end of a copy that is done, and the page that is still held for it.
struct End<P> {
    place: Place,
    held: HeldPage<P>,
}

/// The copies of one call. Each often names a page of the one before again, so both ends of the last stay held. They must
/// be let go by [`Self::finish`]: dropping them leaks what is held.
#[must_use = "pages are held until it is finished"]
pub struct Copies<P> {
    source: Option<End<P>>,
    dest: Option<End<P>>,
}

impl<P> Default for Copies<P> {
    fn default() -> Self {
        Self {
            source: None,
            dest: None,
        }
    }
}

impl<P: HasGrants> Copies<P> {
    /// Copies bytes.
    ///
    /// # Errors
    /// [`GrantError::BadDomain`], [`GrantError::BadGntref`], [`GrantError::General`] when an entry does
    /// not grant it or grants only other bytes of the page, and those of [`GrantHost`].
    pub fn copy<H: GrantHost<Peer = P>>(
        &mut self,
        host: &H,
        request: &CopyRequest,
    ) -> Result<(), GrantError> {
        let source = page_at(host, &mut self.source, request.source.0, Access::Read)?;
        let dest = page_at(host, &mut self.dest, request.dest.0, Access::Write)?;
        let (from, to, len) = (request.source.1, request.dest.1, request.len);
        if !source.contains(from, len) || !dest.contains(to, len) {
            return Err(GrantError::General);
        }
        if len > 0 {
            host.copy_bytes((source.mfn, from), (dest.mfn, to), len);
        }
        Ok(())
    }

    /// Lets go of what the last copy held.
    pub fn finish<H: GrantHost<Peer = P>>(self, host: &H) {
        for end in [self.dest, self.source].iter().flatten() {
            release(host, &end.held);
        }
    }
}

/// The page at this end, held, in the place of the one before unless that is it.
fn page_at<'a, H: GrantHost>(
    host: &H,
    end: &'a mut Option<End<H::Peer>>,
    place: Place,
    access: Access,
) -> Result<&'a PageRange, GrantError> {
    if end.as_ref().is_none_or(|end| end.place != place) {
        if let Some(old) = end.as_ref() {
            release(host, &old.held);
        }
        *end = None;
        let held = hold(host, place, access)?;
        *end = Some(End { place, held });
    }
    end.as_ref()
        .map(|end| &end.held.page)
        .ok_or(GrantError::General)
}

fn hold<H: GrantHost>(
    host: &H,
    place: Place,
    access: Access,
) -> Result<HeldPage<H::Peer>, GrantError> {
    match place {
        Place::Own(gfn) => Ok(HeldPage {
            page: PageRange::whole(host.take_frame(host.caller(), gfn, access)?),
            access,
            entries: ArrayVec::new(),
        }),
        Place::Granted { dom, reference } => {
            let caller = host.caller().grants().dom;
            hold_granted(host, (dom.unwrap_or(caller), reference), access)
        }
    }
}

/// Pins an entry and, if that stands for another domain's, that one too.
fn hold_granted<H: GrantHost>(
    host: &H,
    (dom, reference): (DomId, GrantRef),
    access: Access,
) -> Result<HeldPage<H::Peer>, GrantError> {
    let terms = |grantee, purpose| Terms {
        grantee,
        access,
        purpose,
    };
    let caller = host.caller().grants().dom;
    let (peer, target) = pin(host, (dom, reference), terms(caller, Purpose::Copy))?;
    let mut entries = ArrayVec::new();
    entries.push((peer, reference));
    let further = match target {
        Target::Page(page) => {
            return Ok(HeldPage {
                page,
                access,
                entries,
            });
        }
        Target::Through { dom, reference } => (dom, reference),
    };
    // The second entry is granted to the domain in the middle, and must be of a page.
    match pin(host, further, terms(dom, Purpose::CopyDirect)) {
        Ok((peer, target)) => {
            entries.push((peer, further.1));
            if let Target::Page(page) = target {
                return Ok(HeldPage {
                    page,
                    access,
                    entries,
                });
            }
            release_entries(host, &entries, access);
            Err(GrantError::General)
        }
        Err(error) => {
            release_entries(host, &entries, access);
            Err(error)
        }
    }
}

fn pin<H: GrantHost>(
    host: &H,
    (dom, reference): (DomId, GrantRef),
    terms: Terms,
) -> Result<(H::Peer, Target), GrantError> {
    let peer = host.peer(dom).ok_or(GrantError::BadDomain)?;
    let wanted = Use {
        reference,
        parts: Parts::HOST,
        terms,
    };
    let target = peer.grants().table.lock().pin(host, &peer, &wanted)?;
    Ok((peer, target))
}

fn release<H: GrantHost>(host: &H, held: &HeldPage<H::Peer>) {
    release_entries(host, &held.entries, held.access);
    // One reference, whether the page is the caller's own or was found through entries.
    host.put_page(held.page.mfn, held.access);
}

fn release_entries<H: GrantHost>(host: &H, entries: &[(H::Peer, GrantRef)], access: Access) {
    for (peer, reference) in entries.iter().rev() {
        unpin(host, peer, *reference, Parts::HOST, access, None);
    }
}
