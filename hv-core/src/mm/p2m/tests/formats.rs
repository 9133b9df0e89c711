//! Entries as the manuals read them, and what each kind must come out as.

use proptest::prelude::*;

use super::super::*;

/// What an access to a page meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    write: bool,
    execute: bool,
    cached: bool,
}

/// What the processor reads in an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    Nothing,
    Table(u64),
    Page(u64, Access),
}

pub fn any() -> impl Strategy<Value = Format> {
    proptest::sample::select(&[Format::Npt, Format::Ept])
}

/// What the guest meets behind a kind that has a page.
pub fn of_kind(kind: P2mKind) -> Access {
    use P2mKind::{ForeignWrite, GrantWrite, Hole, Mmio, OnDemand, Ram, RamLogDirty, RamReadOnly};
    assert!(!matches!(kind, Hole | OnDemand));
    Access {
        write: matches!(kind, Ram | Mmio | GrantWrite | ForeignWrite),
        execute: matches!(kind, Ram | RamReadOnly | RamLogDirty),
        cached: kind != Mmio,
    }
}

/// Reads an entry that covers `1 << shift` pages as the processor does, which must find nothing wrong with it.
pub fn read(format: Format, shift: u32, entry: u64) -> Read {
    let large = entry & 1 << 7 != 0;
    let frame = entry >> 12 & 0xff_ffff_ffff;
    let is_page = shift == 0 || large;
    let present = match format {
        Format::Npt => entry & 1,
        Format::Ept => entry & 7,
    };
    if present == 0 {
        return Read::Nothing;
    }
    assert!(shift < 27 || !large, "no mappings of 512 GiB");
    let access = match format {
        Format::Npt => read_npt(entry),
        Format::Ept => read_ept(entry, is_page),
    };
    if is_page {
        assert_eq!(frame & ((1 << shift) - 1), 0, "reserved bits");
        return Read::Page(frame, access);
    }
    let all = (access.write, access.execute);
    assert_eq!(all, (true, true), "rights are those of the mapping");
    Read::Table(frame)
}

/// AMD APM vol. 2, 5.3 and 15.25.5.
fn read_npt(entry: u64) -> Access {
    assert_ne!(entry & 4, 0, "a nested walk is one of user mode");
    Access {
        write: entry & 2 != 0,
        execute: entry >> 63 == 0,
        // Entries of the PAT after reset: write-back, and uncached.
        cached: match entry >> 3 & 3 {
            0 => true,
            3 => false,
            other => panic!("memory type {other}"),
        },
    }
}

/// Intel SDM vol. 3, 29.3.2 and 29.3.3.1 (misconfigurations).
fn read_ept(entry: u64, is_page: bool) -> Access {
    assert_ne!(entry & 1, 0, "written or executed without being read");
    for bit in [10, 11, 57, 58, 60, 61, 63] {
        assert_eq!(entry >> bit & 1, 0, "bit {bit} means something at times");
    }
    let kind = entry >> 3 & 7;
    if !is_page {
        assert_eq!(entry & 0xf8, 0, "reserved bits");
    } else {
        assert!(kind == 0 || kind == 6, "memory type {kind}");
        assert_ne!(entry & 1 << 6, 0, "the guest's PAT counts for nothing");
    }
    Access {
        write: entry & 2 != 0,
        execute: entry & 4 != 0,
        cached: kind == 6,
    }
}

fn kinds() -> impl Iterator<Item = P2mKind> {
    (0..KINDS as u64).map(P2mKind::from_number)
}

proptest! {
    /// What is written is read as that: by us, by the processor, and at each level.
    #[test]
    fn an_entry_is_what_was_written(
        format in any(),
        level in proptest::sample::select(&[Level::L1, Level::L2, Level::L3]),
        number in 0..1u64 << 22,
    ) {
        let first = Mfn(number << order_of(level));
        for kind in kinds() {
            let entry = format.leaf(level, first, kind);
            let (ours, processors) = match kind {
                P2mKind::Hole => (Slot::Hole, Read::Nothing),
                P2mKind::OnDemand => (Slot::Leaf(Mfn(0), kind), Read::Nothing),
                _ => (Slot::Leaf(first, kind), Read::Page(first.0, of_kind(kind))),
            };
            prop_assert_eq!(format.decode(level, entry), ours);
            prop_assert_eq!(read(format, order_of(level), entry), processors);
        }
        let table = format.table(Mfn(number));
        for above in [Level::L2, Level::L3, Level::L4] {
            prop_assert_eq!(format.decode(above, table), Slot::Table(Mfn(number)));
            prop_assert_eq!(read(format, order_of(above), table), Read::Table(number));
        }
    }

    /// What the processor notes in an entry changes nothing of what it is.
    #[test]
    fn an_entry_that_was_used_is_the_same(format in any(), number in 0..1u64 << 40) {
        let used = match format {
            Format::Npt => 1 << 5 | 1 << 6,
            Format::Ept => 1 << 8 | 1 << 9,
        };
        for kind in kinds().filter(|kind| kind.has_page()) {
            let entry = format.leaf(Level::L1, Mfn(number), kind);
            prop_assert_eq!(entry | used, entry);
        }
        let table = format.table(Mfn(number)) | used;
        prop_assert_eq!(format.decode(Level::L2, table), Slot::Table(Mfn(number)));
    }
}

/// Every word of the two formats in full, for one page.
#[test]
fn words_as_the_manuals_have_them() {
    let leaf = |format: Format, level, kind| format.leaf(level, Mfn(0x1_2200), kind);
    let page = 0x1220_0000;
    let npt = |kind| leaf(Format::Npt, Level::L1, kind);
    assert_eq!(npt(P2mKind::Ram), 1 << 52 | page | 0x67);
    assert_eq!(npt(P2mKind::RamReadOnly), 2 << 52 | page | 0x65);
    assert_eq!(npt(P2mKind::Mmio), 1 << 63 | 4 << 52 | page | 0x7f);
    assert_eq!(npt(P2mKind::GrantRead), 1 << 63 | 6 << 52 | page | 0x65);
    let ept = |kind| leaf(Format::Ept, Level::L1, kind);
    assert_eq!(ept(P2mKind::Ram), 1 << 52 | page | 0x377);
    assert_eq!(ept(P2mKind::RamReadOnly), 2 << 52 | page | 0x375);
    assert_eq!(ept(P2mKind::Mmio), 4 << 52 | page | 0x343);
    assert_eq!(ept(P2mKind::GrantRead), 6 << 52 | page | 0x371);
    let large = leaf(Format::Ept, Level::L2, P2mKind::ForeignWrite);
    assert_eq!(large, 7 << 52 | page | 0x3f3);
    assert_eq!(Format::Npt.table(Mfn(5)), 0x5067);
    assert_eq!(Format::Ept.table(Mfn(5)), 0x5107);
    assert_eq!(eptp(Mfn(5)), 0x501e);
}
