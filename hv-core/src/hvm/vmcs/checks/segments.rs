//! Segment registers (Intel SDM vol. 3, 27.3.1.2).

use super::super::layout::{Field, rights};
use super::super::segments::{Place, place};
use super::{Checked, Guest};
use crate::base::GuestVa;
use crate::hvm::controls::cr0;
use crate::hvm::processor::SegmentName;

const SECTION: &str = "27.3.1.2";
/// In a selector: of the local table.
const LOCAL: u64 = 1 << 2;
/// Data and code in virtual 8086 mode.
const RIGHTS_8086: u64 = 0xf3;
const LIMIT_8086: u64 = 0xffff;
/// Bits of access rights that are always clear.
const RESERVED: u64 = 0xf00 | !0x1_ffff;
/// Bits of access rights as in descriptors.
const TYPE: u64 = 0xf;
const S: u64 = 1 << 4;
const P: u64 = 1 << 7;
/// Types.
const ACCESSED: u64 = 1 << 0;
const READABLE: u64 = 1 << 1;
const CONFORMING: u64 = 1 << 2;
const CODE: u64 = 1 << 3;
const DATA: u64 = 3;
const LDT: u64 = 2;
const BUSY_TASK_16: u64 = 3;
const BUSY_TASK: u64 = 11;

/// The registers of code and data.
const ORDINARY: [SegmentName; 6] = [
    SegmentName::Cs,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Es,
    SegmentName::Fs,
    SegmentName::Gs,
];

pub fn check(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    selectors(g)?;
    bases(g)?;
    for name in ORDINARY {
        if g.is_virtual_8086() {
            virtual_8086(g, place(name))?;
        } else {
            ordinary(g, name)?;
        }
    }
    if !g.is_virtual_8086() {
        levels(g)?;
    }
    task(g)?;
    if g.is_usable(Field::LdtrRights) {
        let rule = (SECTION, "the type must be that of a local table");
        g.must(Field::LdtrRights, |r| r & TYPE == LDT, rule)?;
        system(g, SegmentName::Ldtr)?;
    }
    Ok(())
}

fn selectors(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let rule = (SECTION, "must be of the global table");
    g.must(Field::TrSelector, |s| s & LOCAL == 0, rule)?;
    if g.is_usable(Field::LdtrRights) {
        g.must(Field::LdtrSelector, |s| s & LOCAL == 0, rule)?;
    }
    Ok(())
}

fn bases(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let canonical = |base| GuestVa(base).is_canonical();
    let rule = (SECTION, "must be canonical");
    for field in [Field::TrBase, Field::FsBase, Field::GsBase] {
        g.must(field, canonical, rule)?;
    }
    if g.is_usable(Field::LdtrRights) {
        g.must(Field::LdtrBase, canonical, rule)?;
    }
    let narrow = |base: u64| base >> 32 == 0;
    let rule = (SECTION, "has 32 bits");
    g.must(Field::CsBase, narrow, rule)?;
    for (base, rights) in [
        (Field::SsBase, Field::SsRights),
        (Field::DsBase, Field::DsRights),
        (Field::EsBase, Field::EsRights),
    ] {
        if g.is_usable(rights) {
            g.must(base, narrow, rule)?;
        }
    }
    Ok(())
}

/// Virtual 8086 mode leaves no choice.
fn virtual_8086(g: &Guest<impl Fn(Field) -> u64>, place: Place) -> Checked {
    let Some((selector, rights)) = place.described else {
        return Ok(());
    };
    let start = g.read(selector) << 4;
    let rule = (SECTION, "must be 16 times the selector in 8086 mode");
    g.must(place.base, |base| base == start, rule)?;
    let rule = (SECTION, "must be 0xffff in 8086 mode");
    g.must(place.limit, |limit| limit == LIMIT_8086, rule)?;
    let rule = (SECTION, "must be 0xf3 in 8086 mode");
    g.must(rights, |value| value == RIGHTS_8086, rule)
}

/// Code and data in the other modes.
fn ordinary(g: &Guest<impl Fn(Field) -> u64>, name: SegmentName) -> Checked {
    let Some((_, field)) = place(name).described else {
        return Ok(());
    };
    if name != SegmentName::Cs && !g.is_usable(field) {
        return Ok(());
    }
    match name {
        SegmentName::Cs => g.must(
            field,
            |r| matches!(r & TYPE, 3 | 9 | 11 | 13 | 15),
            (SECTION, "the type must be accessed code, or 3"),
        )?,
        SegmentName::Ss => g.must(
            field,
            |r| matches!(r & TYPE, 3 | 7),
            (SECTION, "the type must be accessed, writable data"),
        )?,
        _ => g.must(
            field,
            |r| r & ACCESSED != 0 && (r & CODE == 0 || r & READABLE != 0),
            (SECTION, "the type must be accessed and readable"),
        )?,
    }
    let rule = (SECTION, "must be of code or data");
    g.must(field, |r| r & S != 0, rule)?;
    common(g, name)
}

/// What all that are usable have in common.
fn common(g: &Guest<impl Fn(Field) -> u64>, name: SegmentName) -> Checked {
    let Place {
        limit,
        described: Some((_, field)),
        ..
    } = place(name)
    else {
        return Ok(());
    };
    let rule = (SECTION, "must be present");
    g.must(field, |r| r & P != 0, rule)?;
    let rule = (SECTION, "reserved bits must be clear");
    g.must(field, |r| r & RESERVED == 0, rule)?;
    if name == SegmentName::Cs && g.is_long() {
        let rule = (SECTION, "64-bit code has no D");
        let both = rights::L | rights::DB;
        g.must(field, |r| r & both != both, rule)?;
    }
    let limit = g.read(limit);
    let must_not = limit & 0xfff != 0xfff;
    let must = limit >> 20 != 0;
    g.must(
        field,
        |r| if r & rights::G != 0 { !must_not } else { !must },
        (SECTION, "G must agree with the limit"),
    )
}

/// Privilege levels of CS and SS.
fn levels(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    const fn dpl(rights: u64) -> u64 {
        rights >> 5 & 3
    }
    let code = g.read(Field::CsRights);
    let level = dpl(g.read(Field::SsRights));
    let data = code & TYPE == DATA;
    match code & TYPE {
        DATA => g.must(
            Field::CsRights,
            |r| dpl(r) == 0,
            (SECTION, "DPL must be 0 of data"),
        )?,
        kind if kind & CONFORMING == 0 => g.must(
            Field::CsRights,
            |r| dpl(r) == level,
            (SECTION, "DPL must be that of SS"),
        )?,
        _ => g.must(
            Field::CsRights,
            |r| dpl(r) <= level,
            (SECTION, "DPL must not be above that of SS"),
        )?,
    }
    let real = !g.has(Field::Cr0, cr0::PE);
    g.must(
        Field::SsRights,
        |r| dpl(r) == 0 || !(real || data),
        (SECTION, "DPL must be 0 in real mode, or with data in CS"),
    )
}

fn task(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let long = g.is_long();
    g.must(
        Field::TrRights,
        |r| match r & TYPE {
            BUSY_TASK => true,
            BUSY_TASK_16 => !long,
            _ => false,
        },
        (
            SECTION,
            "the type must be a busy task, in long mode a wide one",
        ),
    )?;
    let rule = (SECTION, "must be usable");
    g.must(Field::TrRights, |r| r & rights::UNUSABLE == 0, rule)?;
    system(g, SegmentName::Tr)
}

/// What TR and LDTR have in common.
fn system(g: &Guest<impl Fn(Field) -> u64>, name: SegmentName) -> Checked {
    let Some((_, field)) = place(name).described else {
        return Ok(());
    };
    let rule = (SECTION, "must be a system segment");
    g.must(field, |r| r & S == 0, rule)?;
    common(g, name)
}
