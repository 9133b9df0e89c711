//! `GNTTABOP_copy`: bytes from one page to another, each the caller's own or granted to it.

use super::entry::{Purpose, Terms};
use super::host::{Access, GrantHost, HasGrants};
use super::pins::Parts;
use super::table::{PageRange, Target, Use};
use super::{GrantError, GrantRef};
use crate::base::{DomId, Gfn, PAGE_SIZE};
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

/// One end of the copies of a call. Each copy often names a page of the one before again, so the last one's stays held.
struct End<P> {
    access: Access,
    held: Option<Held>,
    /// Whose entry it is that is held, or was held last: often the next one's too.
    granter: Option<P>,
    /// The entry that the first one stands for.
    further: Option<(P, GrantRef)>,
}

/// A page that is held, and by which name.
struct Held {
    place: Place,
    page: PageRange,
}

/// The copies of one call. They must be let go by [`Self::finish`]: dropping them leaks what is held.
#[must_use = "pages are held until it is finished"]
pub struct Copies<P> {
    source: End<P>,
    dest: End<P>,
}

impl<P> Default for Copies<P> {
    fn default() -> Self {
        Self {
            source: End::new(Access::Read),
            dest: End::new(Access::Write),
        }
    }
}

impl<P: HasGrants> Copies<P> {
    /// Copies bytes.
    ///
    /// # Errors
    /// [`GrantError::BadDomain`], [`GrantError::BadGntref`], [`GrantError::General`] when an entry does
    /// not grant it or grants only other bytes of the page, and those of [`GrantHost`].
    #[inline(always)]
    pub fn copy<H: GrantHost<Peer = P>>(
        &mut self,
        host: &H,
        request: &CopyRequest,
    ) -> Result<(), GrantError> {
        let source = self.source.page_at(host, request.source.0)?;
        let dest = self.dest.page_at(host, request.dest.0)?;
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
    pub fn finish<H: GrantHost<Peer = P>>(mut self, host: &H) {
        self.dest.release(host);
        self.source.release(host);
    }
}

impl<P> End<P> {
    const fn new(access: Access) -> Self {
        Self {
            access,
            held: None,
            granter: None,
            further: None,
        }
    }
}

impl<P: HasGrants> End<P> {
    /// The page of this name, held.
    #[inline(always)]
    fn page_at<H: GrantHost<Peer = P>>(
        &mut self,
        host: &H,
        place: Place,
    ) -> Result<PageRange, GrantError> {
        match &self.held {
            Some(held) if held.place == place => Ok(held.page),
            _ => self.move_to(host, place),
        }
    }

    /// Holds that page in the place of the last one.
    #[inline(never)]
    fn move_to<H: GrantHost<Peer = P>>(
        &mut self,
        host: &H,
        place: Place,
    ) -> Result<PageRange, GrantError> {
        self.release(host);
        let page = match place {
            Place::Own(gfn) => {
                PageRange::whole(host.take_frame(host.caller(), gfn, self.access)?)
            }
            Place::Granted { dom, reference } => self.pin(host, dom, reference)?,
        };
        self.held = Some(Held { place, page });
        Ok(page)
    }

    /// Pins an entry and, if that stands for another domain's, that one too.
    #[inline(always)]
    fn pin<H: GrantHost<Peer = P>>(
        &mut self,
        host: &H,
        dom: Option<DomId>,
        reference: GrantRef,
    ) -> Result<PageRange, GrantError> {
        let caller = host.caller().grants().dom;
        let dom = dom.unwrap_or(caller);
        let granter = peer(host, &mut self.granter, dom)?;
        let terms = Terms {
            grantee: caller,
            access: self.access,
            purpose: Purpose::Copy,
        };
        match pin(host, granter, reference, terms)? {
            Target::Page(page) => Ok(page),
            Target::Through {
                dom: further,
                reference: second,
            } => {
                // The second entry is granted to the domain in the middle.
                let terms = Terms {
                    grantee: dom,
                    purpose: Purpose::CopyDirect,
                    ..terms
                };
                let (page, peer) = pin_further(host, further, second, terms)
                    .inspect_err(|_| unpin(granter, reference, terms.access))?;
                self.further = Some((peer, second));
                Ok(page)
            }
        }
    }

    /// Lets go of what is held.
    #[inline(always)]
    fn release<H: GrantHost<Peer = P>>(&mut self, host: &H) {
        let Some(Held { place, page }) = self.held.take() else {
            return;
        };
        if let Some((peer, reference)) = self.further.take() {
            unpin(&peer, reference, self.access);
        }
        if let (Place::Granted { reference, .. }, Some(peer)) = (place, &self.granter) {
            unpin(peer, reference, self.access);
        }
        // One reference, whether the page is the caller's own or was found through entries.
        host.put_page(page.mfn, self.access);
    }
}

/// The domain of this number, which is looked up unless it is the last one.
#[inline(always)]
fn peer<'a, H: GrantHost>(
    host: &H,
    last: &'a mut Option<H::Peer>,
    dom: DomId,
) -> Result<&'a H::Peer, GrantError> {
    if last.as_ref().is_none_or(|last| last.grants().dom != dom) {
        *last = Some(host.peer(dom).ok_or(GrantError::BadDomain)?);
    }
    last.as_ref().ok_or(GrantError::BadDomain)
}

#[inline(always)]
fn pin<H: GrantHost>(
    host: &H,
    peer: &H::Peer,
    reference: GrantRef,
    terms: Terms,
) -> Result<Target, GrantError> {
    let wanted = Use {
        reference,
        parts: Parts::HOST,
        terms,
    };
    peer.grants().table.lock().pin(host, peer, &wanted)
}

/// Pins the entry that another one stands for: it must be of a page.
#[cold]
fn pin_further<H: GrantHost>(
    host: &H,
    dom: DomId,
    reference: GrantRef,
    terms: Terms,
) -> Result<(PageRange, H::Peer), GrantError> {
    let peer = host.peer(dom).ok_or(GrantError::BadDomain)?;
    match pin(host, &peer, reference, terms)? {
        Target::Page(page) => Ok((page, peer)),
        Target::Through { .. } => {
            unpin(&peer, reference, terms.access);
            Err(GrantError::General)
        }
    }
}

fn unpin<P: HasGrants>(peer: &P, reference: GrantRef, access: Access) {
    let mut table = peer.grants().table.lock();
    table.unpin(reference, Parts::HOST, access);
}
