//! The state of a table as text, for a debug key or `GNTTABOP_dump_table`.

use super::table::{PageRange, Target};
use super::{GrantRef, Grants};
use arrayvec::ArrayVec;
use core::fmt::{self, Write};

/// Entries in one piece.
const PIECE: usize = 16;

impl Grants {
    /// Writes the table's head and up to 16 used entries from `from` on; returns where to go on.
    ///
    /// Nothing is locked while `out` writes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump(
        &self,
        from: GrantRef,
        out: &mut dyn Write,
    ) -> Result<Option<GrantRef>, fmt::Error> {
        let (size, version) = (self.query_size(), self.version());
        if from == 0 {
            writeln!(
                out,
                "d{}: grants v{}, {} of {} frames, {} mappings of others' grants",
                self.dom,
                version.number(),
                size.frames,
                size.max_frames,
                self.mappings(),
            )?;
        }
        let used: ArrayVec<_, PIECE> = {
            let table = self.table.lock();
            table.used(from).map(|(r, a)| (r, *a)).take(PIECE).collect()
        };
        for (reference, active) in &used {
            let (hr, hw, dr, dw) = active.pins.counts();
            let grantee = active.grantee;
            write!(out, "d{}: grant {reference} to d{grantee}: ", self.dom)?;
            write!(out, "host r{hr} w{hw} device r{dr} w{dw}, ")?;
            match active.target {
                Target::Page(PageRange { mfn, start, len }) => {
                    writeln!(out, "mfn {mfn:#x} bytes {start}+{len}")?;
                }
                Target::Through { dom, reference } => {
                    writeln!(out, "through d{dom} grant {reference}")?;
                }
            }
        }
        let full = used.is_full();
        Ok(used.last().filter(|_| full).map(|(last, _)| last + 1))
    }
}
