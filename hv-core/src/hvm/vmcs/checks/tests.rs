//! Every check, each by the one field that spoils it; and whatever tools may give a vCPU against all of them.

mod given;

use proptest::prelude::*;

use super::super::layout::{FIELDS, interruptibility};
use super::super::segments::{conform, place, rights};
use super::*;
use crate::hvm::processor::{Segment, SegmentName};
use crate::hvm::vmx_facts::AtEntry;

/// Bits that CR0 and CR4 must have, and those that they may.
const CR0_FIXED: (u64, u64) = (0x8000_0021, 0xffff_ffff);
const CR4_FIXED: (u64, u64) = (0x2000, 0x0077_2fff);
const ADDRESS_BITS: u8 = 39;

/// A control block without a processor.
#[derive(Clone)]
pub(super) struct Block([u64; FIELDS]);

impl Block {
    pub fn get(&self, field: Field) -> u64 {
        self.0[field as usize]
    }

    pub fn set(&mut self, field: Field, value: u64) {
        self.0[field as usize] = value;
    }

    /// With other values of some fields.
    fn with(&self, changes: &[(Field, u64)]) -> Self {
        let mut new = self.clone();
        for (field, value) in changes {
            new.set(*field, *value);
        }
        new
    }

    pub fn put(&mut self, name: SegmentName, segment: Segment) {
        let segment = conform(name, segment);
        let place = place(name);
        self.set(place.base, segment.base);
        self.set(place.limit, segment.limit.into());
        if let Some((selector, field)) = place.described {
            self.set(selector, segment.selector.into());
            self.set(field, rights(segment.attributes));
        }
    }

    pub fn violation(&self) -> Option<Violation> {
        self.violation_within(ADDRESS_BITS)
    }

    /// With physical addresses of so many bits.
    pub fn violation_within(&self, bits: u8) -> Option<Violation> {
        first_violation(|field| self.get(field), bits, CR0_FIXED, CR4_FIXED)
    }

    /// Each of the changes alone spoils the block, at its field and by this section.
    fn refuses(&self, section: &str, changes: &[(Field, u64)]) {
        assert_eq!(self.violation(), None);
        for (field, value) in changes {
            let new = self.with(&[(*field, *value)]);
            let found = new.violation();
            let found = found.unwrap_or_else(|| panic!("{field:?} {value:#x}"));
            assert_eq!((found.field, found.value), (*field, *value), "{found}");
            assert_eq!(found.section, section, "{found}");
        }
    }

    fn takes(&self, changes: &[(Field, u64)]) {
        let new = self.with(changes);
        let found = new.violation().map(|found| found.to_string());
        assert_eq!(found, None, "{changes:x?}");
    }
}

fn entry_bits(bits: AtEntry) -> u64 {
    bits.bits().into()
}

/// What is the same for all guests.
pub(super) fn blank() -> Block {
    let mut block = Block([0; FIELDS]);
    let controls = entry_bits(AtEntry::LOAD_DEBUG | AtEntry::LOAD_EFER);
    for (field, value) in [
        (Field::EntryControls, controls),
        (Field::PinControls, Pin::VIRTUAL_NMIS.bits().into()),
        (Field::Cr0, 0x30),
        (Field::Cr4, 0x2040),
        (Field::Dr7, 0x400),
        (Field::Rflags, 2),
        (Field::VmcsLink, u64::MAX),
    ] {
        block.set(field, value);
    }
    block
}

/// A vCPU after a reset.
fn reset() -> Block {
    let mut block = blank();
    let segment = |attributes| Segment {
        attributes,
        limit: 0xffff,
        ..Segment::default()
    };
    let code = Segment {
        selector: 0xf000,
        base: 0xffff_0000,
        ..segment(0x9b)
    };
    for (name, segment) in [
        (SegmentName::Cs, code),
        (SegmentName::Ds, segment(0x93)),
        (SegmentName::Es, segment(0x93)),
        (SegmentName::Ss, segment(0x93)),
        (SegmentName::Fs, segment(0x93)),
        (SegmentName::Gs, segment(0x93)),
        (SegmentName::Ldtr, segment(0x82)),
        (SegmentName::Tr, segment(0x8b)),
        (SegmentName::Gdtr, segment(0)),
        (SegmentName::Idtr, segment(0)),
    ] {
        block.put(name, segment);
    }
    block.set(Field::Rip, 0xfff0);
    block
}

/// 64-bit code of a kernel.
fn long() -> Block {
    let controls = reset().get(Field::EntryControls) | entry_bits(AtEntry::LONG_MODE_GUEST);
    reset().with(&[
        (Field::EntryControls, controls),
        (Field::Cr0, 0x8005_0033),
        (Field::Cr3, 0x1000),
        (Field::Cr4, 0x20e0),
        (Field::Efer, 0xd01),
        (Field::CsBase, 0),
        (Field::CsLimit, 0xffff_ffff),
        (Field::CsRights, 0xa09b),
        (Field::SsRights, 0x1_0000),
        (Field::DsRights, 0x1_0000),
        (Field::GsBase, 0xffff_8880_0000_0000),
        (Field::LdtrRights, 0x1_0000),
        (Field::TrSelector, 0x40),
        (Field::TrBase, 0xffff_8880_0000_1000),
        (Field::TrLimit, 0x67),
        (Field::Rip, 0xffff_ffff_8100_0000),
        (Field::Rflags, 0x202),
    ])
}

/// 32-bit code of a process, without paging.
fn protected() -> Block {
    reset().with(&[
        (Field::Cr0, 0x31),
        (Field::CsRights, 0xfb),
        (Field::SsRights, 0xf3),
        (Field::Rflags, 0x202),
    ])
}

/// Virtual 8086 mode.
fn old() -> Block {
    let mut block = protected();
    block.set(Field::Rflags, 0x2_0202);
    for (rights, selector, base) in [
        (Field::CsRights, Field::CsSelector, Field::CsBase),
        (Field::SsRights, Field::SsSelector, Field::SsBase),
        (Field::DsRights, Field::DsSelector, Field::DsBase),
        (Field::EsRights, Field::EsSelector, Field::EsBase),
        (Field::FsRights, Field::FsSelector, Field::FsBase),
        (Field::GsRights, Field::GsSelector, Field::GsBase),
    ] {
        block.set(rights, 0xf3);
        block.set(selector, 0x1234);
        block.set(base, 0x1_2340);
    }
    block
}

#[test]
fn plausible_states_pass() {
    for block in [reset(), long(), protected(), old()] {
        assert_eq!(block.violation(), None);
    }
}

#[test]
fn violations_are_told_in_words() {
    let block = protected().with(&[(Field::CsRights, 0xc09b), (Field::CsLimit, 0xffff_ffff)]);
    assert_eq!(
        block.violation().unwrap().to_string(),
        "CsRights 0xc09b: DPL must be that of SS (SDM 27.3.1.2)"
    );
    for number in 0..30 {
        let known = !matches!(number, 0 | 14 | 21 | 27 | 29);
        let words = instruction_error(number);
        assert_eq!(words != "no error of the manual", known, "{number}");
    }
}

#[test]
fn control_registers() {
    let section = "27.3.1.1";
    reset().refuses(
        section,
        &[
            (Field::Cr0, 0x10),
            (Field::Cr0, 0x1_0000_0030),
            (Field::Cr0, 0x8000_0030),
            (Field::Cr4, 0x40),
            (Field::Cr4, 0x2040 | 1 << 12),
            (Field::Cr4, 0x2040 | 1 << 17),
            (Field::Cr3, 1 << ADDRESS_BITS),
        ],
    );
    reset().takes(&[(Field::Cr0, 0x6000_0030)]);
    long().refuses(section, &[(Field::Cr4, 0x20c0), (Field::Cr0, 0x5_0033)]);
    let cet = |cr0| {
        let block = long().with(&[(Field::Cr0, cr0), (Field::Cr4, 0x80_20e0)]);
        let fixed = (0x2000, u64::MAX);
        first_violation(|field| block.get(field), ADDRESS_BITS, CR0_FIXED, fixed)
    };
    assert_eq!(cet(0x8005_0033), None);
    assert_eq!(cet(0x8004_0033).unwrap().field, Field::Cr4);
    long().takes(&[(Field::Cr4, 0x2_20e0)]);
}

#[test]
fn debug_registers_and_msrs() {
    let section = "27.3.1.1";
    let wrong = [(Field::DebugCtl, 1 << 3), (Field::Dr7, 1 << 32 | 0x400)];
    reset().refuses(section, &wrong);
    let alone = (Field::EntryControls, AtEntry::LOAD_EFER.bits().into());
    reset().takes(&[alone, wrong[0], wrong[1]]);
    let wrong = [(Field::SysenterEsp, 1 << 47), (Field::SysenterEip, 1 << 63)];
    reset().refuses(section, &wrong);
    let wrong = [
        (Field::Efer, 0xd01 | 1 << 14),
        (Field::Efer, 0x901),
        (Field::Efer, 0xc01),
    ];
    long().refuses(section, &wrong);
    reset().refuses(section, &[(Field::Efer, 0x400)]);
    // LME alone, while paging is off.
    reset().takes(&[(Field::Efer, 0x100)]);
    let alone = entry_bits(AtEntry::LOAD_DEBUG | AtEntry::LONG_MODE_GUEST);
    long().takes(&[(Field::EntryControls, alone), (Field::Efer, 0)]);
}

#[test]
fn segments_of_code_and_data() {
    let section = "27.3.1.2";
    protected().refuses(
        section,
        &[
            (Field::CsBase, 1 << 32),
            (Field::SsBase, 1 << 32),
            (Field::FsBase, 1 << 47),
            (Field::GsBase, 1 << 47),
            (Field::TrBase, 1 << 47),
            (Field::LdtrBase, 1 << 47),
            (Field::CsRights, 0xf2),
            (Field::CsRights, 0xfa),
            (Field::CsRights, 0xeb),
            (Field::CsRights, 0x7b),
            (Field::CsRights, 0x1fb),
            (Field::CsRights, 0x2_00fb),
            (Field::CsRights, 0x9b),
            (Field::CsRights, 0xf3),
            (Field::SsRights, 0xf1),
            (Field::SsRights, 0xfb),
            (Field::SsRights, 0x73),
            (Field::DsRights, 0x92),
            (Field::DsRights, 0x99),
            (Field::EsRights, 0x83),
            (Field::FsRights, 0x13),
            (Field::GsRights, 0x893),
        ],
    );
    // Conforming code of a more privileged level; G with a limit that ends with a page; unusable, of whatever kind.
    protected().takes(&[(Field::CsRights, 0x9f)]);
    protected().takes(&[(Field::CsRights, 0x80fb)]);
    protected().takes(&[(Field::DsRights, 0x1_0e0c), (Field::DsBase, 1 << 50)]);
    let kernel = protected().with(&[(Field::CsRights, 0x9b), (Field::SsRights, 0x93)]);
    kernel.refuses(section, &[(Field::CsRights, 0xff)]);
    long().refuses(section, &[(Field::CsRights, 0xe09b)]);
    protected().takes(&[(Field::CsRights, 0x60fb)]);
}

#[test]
fn limits_and_what_they_count() {
    let block = protected();
    for (limit, counts_bytes, counts_pages) in [
        (0xffff, true, true),
        (0xfffe, true, false),
        (0xffff_ffff, false, true),
        (0x10_0000, false, false),
    ] {
        for (rights, fits) in [(0x93, counts_bytes), (0x8093, counts_pages)] {
            let changes = [(Field::DsLimit, limit), (Field::DsRights, rights)];
            assert_eq!(
                block.with(&changes).violation().is_none(),
                fits,
                "{limit:#x}"
            );
        }
    }
}

#[test]
fn levels_of_real_mode_and_of_data_in_cs() {
    let section = "27.3.1.2";
    reset().refuses(section, &[(Field::CsRights, 0xfb), (Field::CsRights, 0xf3)]);
    reset().takes(&[(Field::CsRights, 0x93)]);
    let conforming = reset().with(&[(Field::CsRights, 0x9f)]);
    conforming.refuses(section, &[(Field::SsRights, 0xf3)]);
    let data = reset().with(&[(Field::Cr0, 0x31), (Field::CsRights, 0x93)]);
    data.refuses(section, &[(Field::SsRights, 0xf3)]);
}

#[test]
fn virtual_8086_mode_has_one_form_of_segments() {
    old().refuses(
        "27.3.1.2",
        &[
            (Field::CsBase, 0x1_2341),
            (Field::SsLimit, 0xfffe),
            (Field::DsRights, 0xfb),
            (Field::EsRights, 0x93),
            (Field::FsRights, 0x1_00f3),
            (Field::GsBase, 0x1_2350),
        ],
    );
}

#[test]
fn system_segments() {
    let section = "27.3.1.2";
    for block in [reset(), long()] {
        block.refuses(
            section,
            &[
                (Field::TrSelector, 4),
                (Field::TrRights, 0x89),
                (Field::TrRights, 0x9b),
                (Field::TrRights, 0x0b),
                (Field::TrRights, 0x18b),
                (Field::TrRights, 0x1_008b),
                (Field::TrRights, 0x4_008b),
            ],
        );
    }
    reset().takes(&[(Field::TrRights, 0x83)]);
    long().refuses(section, &[(Field::TrRights, 0x83)]);
    let wrong = [
        (Field::LdtrSelector, 4),
        (Field::LdtrRights, 0x8b),
        (Field::LdtrRights, 0x92),
        (Field::LdtrRights, 0x02),
        (Field::LdtrRights, 0x282),
    ];
    reset().refuses(section, &wrong);
    long().takes(&[(Field::LdtrSelector, 4), (Field::LdtrBase, 1 << 50)]);
}

#[test]
fn tables_rip_and_flags() {
    for (base, limit) in [
        (Field::GdtrBase, Field::GdtrLimit),
        (Field::IdtrBase, Field::IdtrLimit),
    ] {
        reset().refuses("27.3.1.3", &[(base, 1 << 47), (limit, 0x1_0000)]);
    }
    let section = "27.3.1.4";
    let reserved = [0, 0xa, 0x22, 0x8002, 0x40_0002, 1 << 63 | 2];
    reset().refuses(section, &reserved.map(|flags| (Field::Rflags, flags)));
    reset().refuses(section, &[(Field::Rip, 1 << 32)]);
    long().refuses(section, &[(Field::Rip, 1 << 48), (Field::Rip, 1 << 63)]);
    long().takes(&[(Field::Rip, 1 << 47)]);
    let narrow = long().with(&[(Field::CsRights, 0xc09b), (Field::Rip, 0x1000)]);
    narrow.refuses(section, &[(Field::Rip, 1 << 32)]);
    let mut old_in_long = old();
    for field in [Field::EntryControls, Field::Cr0, Field::Cr4, Field::Efer] {
        old_in_long.set(field, long().get(field));
    }
    assert_eq!(old_in_long.violation().unwrap().field, Field::Rflags);
    let real = old().with(&[(Field::Cr0, 0x30)]);
    assert_eq!(real.violation().unwrap().field, Field::Rflags);
}

fn given(kind: u64, vector: u64) -> u64 {
    event::VALID | kind << event::KIND_SHIFT | vector
}

#[test]
fn events_that_are_given() {
    let section = "27.2.1.3";
    let fault = given(3, 14) | event::HAS_ERROR;
    protected().refuses(
        section,
        &[
            given(1, 0x20),
            given(2, 3),
            given(3, 32),
            given(7, 1),
            given(3, 14),
            given(3, 6) | event::HAS_ERROR,
            given(0, 14) | event::HAS_ERROR,
            given(0, 0x20) | 1 << 12,
        ]
        .map(|word| (Field::EntryEvent, word)),
    );
    let faults = protected().with(&[(Field::EntryEvent, fault)]);
    faults.refuses(section, &[(Field::EntryErrorCode, 0x1_0000)]);
    reset().refuses(section, &[(Field::EntryEvent, fault)]);
    reset().takes(&[(Field::EntryEvent, given(3, 14))]);
    let software = protected().with(&[(Field::EntryEvent, given(4, 0x80))]);
    software.refuses(section, &[(Field::EntryInstructionLength, 16)]);
    let interrupt = protected().with(&[(Field::EntryEvent, given(0, 0x20))]);
    interrupt.refuses("27.3.1.4", &[(Field::Rflags, 2)]);
}

#[test]
fn activities() {
    let section = "27.3.1.5";
    reset().refuses(section, &[(Field::Activity, 4)]);
    protected().refuses(section, &[(Field::Activity, 1)]);
    let held = long().with(&[(Field::Interruptibility, 1)]);
    held.refuses(section, &[(Field::Activity, 1), (Field::Activity, 3)]);
    // What ends HLT, a shutdown, and the wait for a start.
    for (kind, vector, ends) in [
        (0, 0x20, [true, false, false]),
        (2, 2, [true, true, false]),
        (3, 1, [true, false, false]),
        (3, 18, [true, true, false]),
        (3, 6, [false, false, false]),
        (4, 0x80, [false, false, false]),
        (7, 0, [true, false, false]),
    ] {
        let block = long().with(&[(Field::EntryEvent, given(kind, vector))]);
        for (state, ends) in (1..4).zip(ends) {
            let fits = block.with(&[(Field::Activity, state)]).violation();
            assert_eq!(fits.is_none(), ends, "{kind} {vector} {state}");
        }
    }
}

#[test]
fn what_holds_back() {
    use interruptibility::{MOV_SS, NMI, STI};
    let section = "27.3.1.5";
    let all = |words: &[u64]| -> Vec<_> {
        let field = Field::Interruptibility;
        words.iter().map(|word| (field, *word)).collect()
    };
    long().refuses(
        section,
        &all(&[1 << 5, 1 << 2, STI | MOV_SS, MOV_SS | 1 << 4]),
    );
    reset().refuses(section, &all(&[STI]));
    long().takes(&all(&[STI]));
    let interrupt = long().with(&[(Field::EntryEvent, given(0, 0x20))]);
    interrupt.refuses(section, &all(&[STI, MOV_SS]));
    interrupt.takes(&all(&[NMI]));
    let nmi = long().with(&[(Field::EntryEvent, given(2, 2))]);
    nmi.refuses(section, &all(&[STI, MOV_SS, NMI]));
    let real_nmis = (Field::PinControls, 0);
    nmi.takes(&[real_nmis, (Field::Interruptibility, NMI)]);
}

#[test]
fn debug_exceptions_that_wait() {
    let section = "27.3.1.5";
    let field = Field::PendingDebug;
    let step = (field, 1 << 14);
    let wrong = [1 << 4, 1 << 13, 1 << 15, 1 << 17, 1 << 16].map(|bits| (field, bits));
    reset().refuses(section, &wrong);
    reset().takes(&[(field, 1 << 16 | 1 << 12)]);
    reset().takes(&[step]);
    for held in [(Field::Interruptibility, 1), (Field::Activity, 1)] {
        long().with(&[held]).refuses(section, &[step]);
        let flags = (Field::Rflags, 0x302);
        let stepping = long().with(&[held, flags, step]);
        stepping.refuses(section, &[(field, 0)]);
        long().takes(&[held, flags, (Field::DebugCtl, 2)]);
    }
    let behind_ss = (Field::Interruptibility, 2);
    let behind = reset().with(&[behind_ss]);
    behind.refuses(section, &[(field, 1 << 16 | 1 << 12)]);
    reset().refuses(section, &[(Field::VmcsLink, 0x1000)]);
}

#[test]
fn entries_of_pae_paging() {
    let pae = protected().with(&[(Field::Cr0, 0x8000_0031), (Field::Cr4, 0x2060)]);
    let fields = [Field::Pdpte0, Field::Pdpte1, Field::Pdpte2, Field::Pdpte3];
    for field in fields {
        let wrong = [3, 0x21, 0x101, 1 << ADDRESS_BITS | 1, 1 << 63 | 1];
        pae.refuses("27.3.1.6", &wrong.map(|entry| (field, entry)));
        pae.takes(&[(field, 0x1019)]);
        pae.takes(&[(field, 0x1fe)]);
        long().takes(&[(field, 3)]);
    }
}

proptest! {
    /// Whatever is in the registers: made to fit, an entry takes them, if their levels agree.
    #[test]
    fn segments_that_were_made_to_fit_are_taken(
        attributes: [u16; 8],
        limits: [u32; 8],
        level in 0..4u16,
    ) {
        let segment = |n: usize, attributes| Segment {
            attributes,
            limit: limits[n],
            ..Segment::default()
        };
        let mut block = protected();
        for (n, name) in [
            SegmentName::Ds,
            SegmentName::Es,
            SegmentName::Fs,
            SegmentName::Gs,
            SegmentName::Ldtr,
            SegmentName::Tr,
        ]
        .into_iter()
        .enumerate()
        {
            block.put(name, segment(n, attributes[n]));
        }
        let of_level = |attributes: u16| attributes & !(3 << 5) | level << 5;
        // Data is in CS at level 0 alone.
        let code = of_level(attributes[6]) | if level == 0 { 0 } else { 8 };
        block.put(SegmentName::Cs, segment(6, code));
        block.put(SegmentName::Ss, segment(7, of_level(attributes[7])));
        prop_assert_eq!(block.violation(), None);
    }
}
