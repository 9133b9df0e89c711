//! What one domain grants: the shared pages, their size, and which entries are in use.

use super::entry::{Entry, Granted, Purpose, STATUS_PER_FRAME, Terms};
use super::host::{Access, GrantHost};
use super::pins::{Hold, Parts, Pins};
use super::{FrameKind, FramePool, GrantError, GrantRef, SharedFrame, Version};
use crate::base::{DomId, Mfn, PAGE_SIZE};
use alloc::vec::Vec;
use xen_abi::domctl::XEN_DOMCTL_GRANT_version_mask;
use xen_abi::errno::Errno;

/// `gnttab_max_frames=` when it is absent.
const DEFAULT_MAX_FRAMES: u32 = 64;
/// Handles that tools count as one maptrack frame.
const HANDLES_PER_FRAME: u32 = 256;
/// Handles allowed when `gnttab_max_maptrack_frames=` is absent: 1024 frames.
const DEFAULT_MAX_HANDLES: u32 = 1024 * HANDLES_PER_FRAME;
/// Upper bound of both limits, so that index arithmetic stays in 32 bits.
const LARGEST_LIMIT: u32 = 1 << 20;

/// Whether entries may stand for those of a third domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transitive {
    /// Copies follow them (one step).
    Allowed,
    /// Copies through them fail.
    Refused,
}

/// Bounds of a domain's grant state (`XEN_DOMCTL_createdomain`, `gnttab_*=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames of the shared table, at least 1.
    pub max_frames: u32,
    /// Mappings of other domains' grants.
    pub max_handles: u32,
    /// Highest version that may be chosen.
    pub max_version: Version,
    /// What transitive entries are good for.
    pub transitive: Transitive,
}

impl Limits {
    /// Limits for a new domain out of `XEN_DOMCTL_createdomain`: a negative number of frames means
    /// that of `defaults`, and no version above that of `defaults` is allowed.
    ///
    /// # Errors
    /// `EINVAL` for an unknown or forbidden version, unknown options, and numbers out of range.
    pub fn for_domain(
        max_grant_frames: i32,
        max_maptrack_frames: i32,
        grant_opts: u32,
        defaults: Self,
    ) -> Result<Self, Errno> {
        let version = grant_opts & XEN_DOMCTL_GRANT_version_mask;
        let max_version = Version::from_number(version).ok_or(Errno::EINVAL)?;
        if version != grant_opts || max_version > defaults.max_version {
            return Err(Errno::EINVAL);
        }
        let handles = u32::try_from(max_maptrack_frames).map(|f| f.checked_mul(HANDLES_PER_FRAME));
        let limits = Self {
            max_frames: u32::try_from(max_grant_frames).unwrap_or(defaults.max_frames),
            max_handles: handles
                .unwrap_or(Some(defaults.max_handles))
                .ok_or(Errno::EINVAL)?,
            max_version,
            transitive: defaults.transitive,
        };
        limits.check()?;
        Ok(limits)
    }

    fn check(&self) -> Result<(), Errno> {
        let sane = (1..=LARGEST_LIMIT).contains(&self.max_frames);
        if sane && self.max_handles <= LARGEST_LIMIT {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frames: DEFAULT_MAX_FRAMES,
            max_handles: DEFAULT_MAX_HANDLES,
            max_version: Version::V2,
            transitive: Transitive::Allowed,
        }
    }
}

/// Size of the shared table in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// In use.
    pub frames: u32,
    /// Allowed.
    pub max_frames: u32,
}

/// Some bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) mfn: Mfn,
    /// First byte.
    pub(super) start: u16,
    /// Number of bytes; the guest's word, so the sum may lie beyond the page.
    pub(super) len: u16,
}

impl PageRange {
    /// The whole page.
    pub(super) const fn whole(mfn: Mfn) -> Self {
        Self {
            mfn,
            start: 0,
            len: PAGE_SIZE as u16,
        }
    }

    const fn is_whole(self) -> bool {
        self.start == 0 && self.len as usize == PAGE_SIZE
    }

    /// Whether `len` bytes at `offset` lie inside.
    pub(super) fn contains(&self, offset: u16, len: u16) -> bool {
        let end = u32::from(offset) + u32::from(len);
        offset >= self.start && end <= u32::from(self.start) + u32::from(self.len)
    }
}

/// What a used entry stands for: fixed by the first pin, kept while there are pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A page, or part of one.
    Page(PageRange),
    /// Another domain's entry.
    Through { dom: DomId, reference: GrantRef },
}

/// Our side of an entry. `target` means something only while `pins` are not all zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub(super) pins: Pins,
    pub(super) grantee: DomId,
    pub(super) target: Target,
}

impl Active {
    const IDLE: Self = Self {
        pins: Pins::NONE,
        grantee: 0,
        target: Target::Page(PageRange::whole(Mfn(0))),
    };
}

/// A use of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) reference: GrantRef,
    pub(super) parts: Parts,
    pub(super) terms: Terms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Dying,
    /// There is no table any more.
    Over,
}

/// What one domain grants.
#[derive(Debug)]
pub(super) struct GrantTable {
    pub(super) owner: DomId,
    pub(super) version: Version,
    pub(super) limits: Limits,
    pub(super) life: Life,
    pub(super) shared: Vec<SharedFrame>,
    /// At least as many as version 2 needs while that is in effect.
    pub(super) status: Vec<SharedFrame>,
    /// One chunk for each shared frame, each with as many as a version 1 frame has entries. The
    /// index is the grant reference in both versions.
    active: Vec<Vec<Active>>,
}

/// Entries in one chunk of [`GrantTable::active`].
const CHUNK: u32 = Version::V1.entries_per_frame();

impl GrantTable {
    pub(super) fn new(owner: DomId, limits: Limits) -> Result<Self, Errno> {
        limits.check()?;
        Ok(Self {
            owner,
            version: Version::V1,
            limits,
            life: Life::Running,
            shared: Vec::new(),
            status: Vec::new(),
            active: Vec::new(),
        })
    }

    pub(super) fn size(&self) -> TableSize {
        TableSize {
            frames: self.shared.len() as u32,
            max_frames: self.limits.max_frames,
        }
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// Number of entries.
    pub(super) fn entries(&self) -> u32 {
        self.shared.len() as u32 * self.version.entries_per_frame()
    }

    /// Status frames that belong to a version 2 table of this size.
    pub(super) fn status_frames(&self) -> u32 {
        status_frames_for(self.shared.len() as u32)
    }

    pub(super) fn frame(&self, kind: FrameKind, index: u32) -> Option<Mfn> {
        let frames = match kind {
            FrameKind::Shared => &self.shared,
            FrameKind::Status if self.version == Version::V2 => &self.status,
            FrameKind::Status => return None,
        };
        frames.get(index as usize).map(SharedFrame::mfn)
    }

    pub(super) fn most_frames(&self, kind: FrameKind) -> u32 {
        match kind {
            FrameKind::Shared => self.limits.max_frames,
            FrameKind::Status => status_frames_for(self.limits.max_frames),
        }
    }

    pub(super) fn grown_frame(
        &mut self,
        kind: FrameKind,
        index: u32,
        pool: &dyn FramePool,
    ) -> Result<Mfn, Errno> {
        let needed = match kind {
            FrameKind::Shared => index.checked_add(1),
            FrameKind::Status if self.version == Version::V2 => {
                // The first shared frame whose entries have their status in that frame.
                index.checked_mul(SHARED_PER_STATUS).map(|first| first + 1)
            }
            FrameKind::Status => None,
        };
        let needed = needed.filter(|n| *n <= self.limits.max_frames);
        self.grow(needed.ok_or(Errno::EINVAL)?, pool)?;
        self.frame(kind, index).ok_or(Errno::EINVAL)
    }

    /// Makes the table at least `frames` large, all or nothing.
    pub(super) fn grow(&mut self, frames: u32, pool: &dyn FramePool) -> Result<(), Errno> {
        if frames > self.limits.max_frames {
            return Err(Errno::EINVAL);
        }
        if self.life != Life::Running {
            return Err(Errno::EINVAL);
        }
        let before = self.shared.len();
        if frames as usize <= before {
            return Ok(());
        }
        if self.version == Version::V2 {
            self.grow_status(status_frames_for(frames), pool)?;
        }
        while self.shared.len() < frames as usize {
            if self.push_frame(pool).is_none() {
                for frame in self.shared.drain(before..) {
                    pool.free(frame);
                }
                self.active.truncate(before);
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }

    /// Makes sure of `frames` status frames. What was allocated stays when it fails: it is bounded
    /// and found again by the next try.
    pub(super) fn grow_status(&mut self, frames: u32, pool: &dyn FramePool) -> Result<(), Errno> {
        while self.status.len() < frames as usize {
            self.status.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let frame = pool.alloc(self.owner).ok_or(Errno::ENOMEM)?;
            self.status.push(frame);
        }
        Ok(())
    }

    /// Adds one shared frame and its active entries.
    fn push_frame(&mut self, pool: &dyn FramePool) -> Option<()> {
        self.shared.try_reserve(1).ok()?;
        self.active.try_reserve(1).ok()?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK as usize).ok()?;
        chunk.resize(CHUNK as usize, Active::IDLE);
        self.shared.push(pool.alloc(self.owner)?);
        self.active.push(chunk);
        Some(())
    }

    /// Our side of an entry; `None` beyond the table's end.
    pub(super) fn active(&self, reference: GrantRef) -> Option<&Active> {
        if reference >= self.entries() {
            return None;
        }
        let chunk = self.active.get((reference / CHUNK) as usize)?;
        chunk.get((reference % CHUNK) as usize)
    }

    /// Both sides of an entry, to change ours; `None` beyond the table's end.
    #[inline(always)]
    fn sides(&mut self, reference: GrantRef) -> Option<(&mut Active, Entry<'_>)> {
        let entry = Entry::locate(self.version, &self.shared, &self.status, reference)?;
        let chunk = self.active.get_mut((reference / CHUNK) as usize)?;
        Some((chunk.get_mut((reference % CHUNK) as usize)?, entry))
    }

    /// The shared side of an entry; `None` beyond the table's end.
    pub(super) fn entry(&self, reference: GrantRef) -> Option<Entry<'_>> {
        Entry::locate(self.version, &self.shared, &self.status, reference)
    }

    /// Begins a use of an entry: one pin and one page reference for each part.
    ///
    /// A target that stands for another domain's entry comes without page references; the caller
    /// goes on there.
    pub(super) fn pin<H: GrantHost>(
        &mut self,
        host: &H,
        owner: &H::Peer,
        wanted: &Use,
    ) -> Result<Target, GrantError> {
        if self.life != Life::Running {
            return Err(GrantError::BadDomain);
        }
        let transitive = self.limits.transitive;
        let Some((active, entry)) = self.sides(wanted.reference) else {
            return Err(GrantError::BadGntref);
        };
        let Use { parts, terms, .. } = *wanted;
        let pins = active.pins.with(parts, terms.access);
        let pins = pins.ok_or(GrantError::General)?;
        if active.pins.hold() == Hold::Idle {
            let header = entry.begin(&narrowed(terms, transitive), Hold::Idle)?;
            let target = first_target(host, owner, entry.granted(header), terms.access, parts);
            active.target = target.inspect_err(|_| entry.settle(Hold::Idle))?;
            active.grantee = terms.grantee;
        } else {
            join(host, owner, active, &entry, wanted)?;
        }
        active.pins = pins;
        Ok(active.target)
    }

    /// Ends a use of an entry. The caller drops the page references, after the lock.
    ///
    /// Ends what [`Self::pin`] began, so it cannot fail; if our books are wrong all the same it
    /// says so and leaves the entry pinned, which is safe.
    pub(super) fn unpin(&mut self, reference: GrantRef, parts: Parts, access: Access) {
        if self.life == Life::Over {
            return;
        }
        let ended = self.sides(reference).and_then(|(active, entry)| {
            active.pins = active.pins.without(parts, access)?;
            entry.settle(active.pins.hold());
            Some(())
        });
        if ended.is_none() {
            released_too_often(self.owner, reference);
        }
    }

    /// Empties the table, for its end.
    pub(super) fn take_frames(&mut self) -> (Vec<SharedFrame>, Vec<SharedFrame>) {
        self.active = Vec::new();
        (
            core::mem::take(&mut self.shared),
            core::mem::take(&mut self.status),
        )
    }

    /// References of the entries in use, from `from` on.
    pub(super) fn used(&self, from: GrantRef) -> impl Iterator<Item = (GrantRef, &Active)> {
        (from..self.entries()).filter_map(|reference| {
            let active = self.active(reference)?;
            (active.pins.hold() != Hold::Idle).then_some((reference, active))
        })
    }
}

/// Shared frames whose status words fill one status frame.
const SHARED_PER_STATUS: u32 = STATUS_PER_FRAME / Version::V2.entries_per_frame();

const fn status_frames_for(shared: u32) -> u32 {
    shared.div_ceil(SHARED_PER_STATUS)
}

#[cold]
fn released_too_often(owner: DomId, reference: GrantRef) {
    log::error!("d{owner}: grant {reference} released too often");
}

/// The terms with what the granter's limits take away.
#[inline(always)]
const fn narrowed(mut terms: Terms, transitive: Transitive) -> Terms {
    if let (Purpose::Copy, Transitive::Refused) = (terms.purpose, transitive) {
        terms.purpose = Purpose::CopyDirect;
    }
    terms
}

/// A further use of an entry, which must agree with what the first one fixed: marks the shared entry where needed and takes
/// the page references.
#[inline(never)]
fn join<H: GrantHost>(
    host: &H,
    owner: &H::Peer,
    active: &Active,
    entry: &Entry<'_>,
    wanted: &Use,
) -> Result<(), GrantError> {
    let Use { parts, terms, .. } = *wanted;
    let shape = match terms.purpose {
        Purpose::Map => matches!(active.target, Target::Page(page) if page.is_whole()),
        Purpose::CopyDirect => matches!(active.target, Target::Page(_)),
        Purpose::Copy => true,
    };
    if active.grantee != terms.grantee || !shape {
        return Err(GrantError::General);
    }
    let before = active.pins.hold();
    if before < Hold::from(terms.access) {
        entry.begin(&terms, before)?;
    }
    match active.target {
        Target::Page(page) => take_pages(host, owner, page.mfn, terms.access, parts.count())
            .inspect_err(|_| entry.settle(before)),
        Target::Through { .. } => Ok(()),
    }
}

/// Resolves what the guest wrote and takes the references of the first use.
#[inline(always)]
fn first_target<H: GrantHost>(
    host: &H,
    owner: &H::Peer,
    granted: Granted,
    access: Access,
    parts: Parts,
) -> Result<Target, GrantError> {
    let (gfn, start, len) = match granted {
        Granted::Page(gfn) => (gfn, 0, PAGE_SIZE as u16),
        Granted::Part { gfn, start, len } => (gfn, start, len),
        Granted::Through { dom, reference } => return Ok(Target::Through { dom, reference }),
    };
    let mfn = host.take_frame(owner, gfn, access)?;
    let further = parts.count().saturating_sub(1);
    if further > 0 {
        take_pages(host, owner, mfn, access, further)
            .inspect_err(|_| host.put_page(mfn, access))?;
    }
    Ok(Target::Page(PageRange { mfn, start, len }))
}

/// Takes `count` references, all or nothing.
fn take_pages<H: GrantHost>(
    host: &H,
    owner: &H::Peer,
    mfn: Mfn,
    access: Access,
    count: u32,
) -> Result<(), GrantError> {
    for taken in 0..count {
        host.take_page(owner, mfn, access).inspect_err(|_| {
            for _ in 0..taken {
                host.put_page(mfn, access);
            }
        })?;
    }
    Ok(())
}
