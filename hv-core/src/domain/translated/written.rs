//! The log of written pages, which `xl migrate` reads in rounds (domctl shadow_op).
//!
//! It is kept in the entries themselves and costs no memory: while it is on, RAM is [`P2mKind::Ram`] if it was written since it was last
//! read and [`P2mKind::RamLogDirty`] if not. The latter is read-only to the processor, whose fault [`Translated::log_write`] answers. What the
//! hypervisor writes for the guest counts as the guest's ([`Translated::hold`]).
//!
//! A mapping of 2 MiB or 1 GiB is split by its first store. Where there is no page for the tables, all of it counts as written: more than is
//! true, and never less. When the log ends, what can be one mapping becomes one.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use super::{HUGE, Inner, LARGE, Step, Translated};
use crate::base::Gfn;
use crate::mm::p2m::P2mKind;

/// How far turning the log on or off has come.
#[derive(Default)]
pub(super) struct Log {
    on: bool,
    /// The first guest frame that was not looked at.
    reached: u64,
}

impl Log {
    /// Whether written pages are logged.
    pub(super) const fn is_on(&self) -> bool {
        self.on
    }
}

impl Translated {
    /// Whether written pages are logged.
    #[must_use]
    pub fn log_enabled(&self) -> bool {
        self.logs.load(Ordering::Relaxed)
    }

    /// Turns the log on (no page counts as written) or off, over at most `steps` entries and holes. On [`Step::More`] call again with the same; on
    /// [`Step::Done`] the caller flushes ([`Domain::flush_translations`](crate::domain::Domain::flush_translations)).
    ///
    /// # Errors
    /// `ESRCH` for a domain that has died.
    pub fn set_log(&self, on: bool, steps: u64) -> Result<Step, Errno> {
        let mut inner = self.open()?;
        if inner.log.on != on {
            inner.log = Log { on, reached: 0 };
            self.logs.store(on, Ordering::SeqCst);
        }
        for _ in 0..steps {
            let at = Gfn(inner.log.reached);
            if at.0 > self.max_gfn() {
                // What comes later is new to whoever reads the log, however often that is turned on.
                inner.log.reached = u64::MAX;
                return Ok(Step::Done);
            }
            inner.log.reached = self.turn(&mut inner, at, on).0;
        }
        Ok(Step::More)
    }

    /// Gives one entry the kind that the log's state asks for; returns what is behind it.
    fn turn(&self, inner: &mut Inner, at: Gfn, on: bool) -> Gfn {
        let inventory = &mut inner.inventory;
        let found = self.map.see(&self.ram, inventory, at);
        let next = found.next(at);
        let (from, to) = if on {
            (P2mKind::Ram, P2mKind::RamLogDirty)
        } else {
            (P2mKind::RamLogDirty, P2mKind::Ram)
        };
        if found.kind == from {
            self.map.set_kind(&self.ram, inventory, at, to);
        }
        if !on && found.order == 0 && next.0.is_multiple_of(1 << LARGE) {
            self.map.merge(&self.ram, inventory, at, LARGE);
        }
        if !on && self.gib_pages && next.0.is_multiple_of(1 << HUGE) {
            self.map.merge(&self.ram, inventory, at, HUGE);
        }
        next
    }

    /// The guest stores to a page. `true`: that was to be noted, is, and the page is writable now.
    #[must_use]
    pub fn log_write(&self, gfn: Gfn) -> bool {
        let Ok(mut inner) = self.open() else {
            return false;
        };
        let inventory = &mut inner.inventory;
        if self.map.see(&self.ram, inventory, gfn).kind != P2mKind::RamLogDirty {
            return false;
        }
        // Without a page for a table, all that is still one mapping counts as written.
        let _split = [LARGE, 0].map(|order| self.map.split(&self.ram, inventory, gfn, order));
        self.map.set_kind(&self.ram, inventory, gfn, P2mKind::Ram);
        true
    }

    /// Writes into `bits`, one for each guest frame from `first` on, which pages were written; returns how many were. With `clean` they count
    /// as not written from then on: the caller flushes ([`Domain::flush_translations`](crate::domain::Domain::flush_translations)) before the
    /// toolstack looks at a page, also where it fails.
    ///
    /// The map is locked meanwhile: a KiB at a time is enough.
    #[must_use]
    pub fn log_read(&self, first: Gfn, bits: &mut [u8], clean: bool) -> u64 {
        bits.fill(0);
        let Ok(mut inner) = self.open() else { return 0 };
        let end = first.0.saturating_add(bits.len() as u64 * 8);
        let end = end.min(self.limit()).min(self.max_gfn() + 1);
        let (mut at, mut written) = (first, 0);
        while at.0 < end {
            let found = self.map.see(&self.ram, &inner.inventory, at);
            let next = found.next(at).0.min(end);
            if found.kind == P2mKind::Ram {
                for gfn in at.0..next {
                    let bit = gfn - first.0;
                    if let Some(byte) = bits.get_mut((bit / 8) as usize) {
                        *byte |= 1 << (bit % 8);
                    }
                }
                written += next - at.0;
                if clean && inner.log.on {
                    self.clean(&mut inner, (at, next), found.order);
                }
            }
            at = Gfn(next);
        }
        written
    }

    /// Notes as not written the part of an entry between two guest frames. Of a mapping that cannot be split, what is beside them would be lost:
    /// it stays as it is.
    fn clean(&self, inner: &mut Inner, (from, to): (Gfn, u64), order: u32) {
        let inventory = &mut inner.inventory;
        let (map, ram) = (&self.map, &self.ram);
        if to - from.0 == 1 << order {
            map.set_kind(ram, inventory, from, P2mKind::RamLogDirty);
        } else if order > LARGE {
            if map.split(ram, inventory, from, LARGE).is_ok() {
                self.clean_each(inner, (from, to));
            }
        } else if map.split(ram, inventory, from, 0).is_ok() {
            for gfn in from.0..to {
                map.set_kind(ram, inventory, Gfn(gfn), P2mKind::RamLogDirty);
            }
        }
    }

    /// The same for a part that is several mappings of 2 MiB now.
    fn clean_each(&self, inner: &mut Inner, (from, to): (Gfn, u64)) {
        let mut at = from;
        while at.0 < to {
            let found = self.map.see(&self.ram, &inner.inventory, at);
            let next = found.next(at).0.min(to);
            self.clean(inner, (at, next), found.order.min(LARGE));
            at = Gfn(next);
        }
    }
}
