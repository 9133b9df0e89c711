//! Descriptor tables (Intel SDM vol. 3, 27.3.1.3), RIP and RFLAGS (27.3.1.4).

use super::super::layout::{Field, event, rights};
use super::{Checked, Guest};
use crate::base::GuestVa;
use crate::hvm::controls::cr0;
use crate::pv::frame::rflags;

const TABLES: &str = "27.3.1.3";
const FLOW: &str = "27.3.1.4";
/// Bits of RFLAGS that can be set.
const FLAGS: u64 = 0x003f_7fd7;
/// Bits of a linear address: without LA57, which no guest has.
const LINEAR_BITS: u32 = 48;

pub fn check(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    tables(g)?;
    pointer(g)?;
    flags(g)
}

fn tables(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    for (base, limit) in [
        (Field::GdtrBase, Field::GdtrLimit),
        (Field::IdtrBase, Field::IdtrLimit),
    ] {
        let rule = (TABLES, "must be canonical");
        g.must(base, |v| GuestVa(v).is_canonical(), rule)?;
        g.must(limit, |v| v >> 16 == 0, (TABLES, "has 16 bits"))?;
    }
    Ok(())
}

fn pointer(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    if !g.is_long() || !g.has(Field::CsRights, rights::L) {
        let rule = (FLOW, "has 32 bits outside of 64-bit code");
        return g.must(Field::Rip, |rip| rip >> 32 == 0, rule);
    }
    // Not quite canonical: behind the last instruction of the lower half the guest is to get its fault itself.
    let same = |rip: u64| matches!((rip as i64) >> LINEAR_BITS, 0 | -1);
    let rule = (FLOW, "the bits above linear addresses must be equal");
    g.must(Field::Rip, same, rule)
}

fn flags(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    g.must(
        Field::Rflags,
        |flags| flags & !FLAGS == 0 && flags & rflags::FIXED != 0,
        (FLOW, "reserved bits must be as they always are"),
    )?;
    let has_8086 = !g.is_long() && g.has(Field::Cr0, cr0::PE);
    g.must(
        Field::Rflags,
        |flags| flags & rflags::VM == 0 || has_8086,
        (FLOW, "8086 mode is one of protected mode, not of long mode"),
    )?;
    g.must(
        Field::Rflags,
        |flags| flags & rflags::IF != 0 || !g.gets(event::EXTERNAL),
        (FLOW, "IF must be set for the interrupt that is given"),
    )
}
