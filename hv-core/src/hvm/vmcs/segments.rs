//! Segment registers as a VMCS holds them (Intel SDM vol. 3, 25.4.1), and the nearest that an entry takes
//! ([`conform`]).

#[cfg(test)]
mod tests;

use super::layout::{Field, rights};
use crate::hvm::processor::{Segment, SegmentName, attribute};

/// Bits of a segment's attributes that there are.
const ATTRIBUTES: u16 = 0xfff;
/// Those that an unusable segment keeps: the privilege level of a vCPU is that of SS, usable or not.
const OF_UNUSABLE: u16 = 3 << attribute::DPL_SHIFT;
/// The upper four bits of the attributes, and where they begin.
const UPPER: u16 = 0xf00;
const UPPER_SHIFT: u32 = 8;

/// The type of a segment.
mod kind {
    pub const MASK: u16 = 0xf;
    pub const ACCESSED: u16 = 1 << 0;
    /// Of data: it can be written. Of code: it can be read.
    pub const WRITABLE: u16 = 1 << 1;
    pub const READABLE: u16 = 1 << 1;
    pub const CODE: u16 = 1 << 3;
    pub const DATA: u16 = ACCESSED | WRITABLE;
    pub const LDT: u16 = 2;
    pub const BUSY_TASK_16: u16 = 3;
    pub const BUSY_TASK: u16 = 11;
}

/// Where a segment register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its base.
    pub base: Field,
    /// Its limit.
    pub limit: Field,
    /// Its selector and its access rights. GDTR and IDTR have none.
    pub described: Option<(Field, Field)>,
}

/// Where a segment register is.
#[must_use]
pub const fn place(name: SegmentName) -> Place {
    use Field as F;
    let (base, limit, described) = match name {
        SegmentName::Es => (F::EsBase, F::EsLimit, Some((F::EsSelector, F::EsRights))),
        SegmentName::Cs => (F::CsBase, F::CsLimit, Some((F::CsSelector, F::CsRights))),
        SegmentName::Ss => (F::SsBase, F::SsLimit, Some((F::SsSelector, F::SsRights))),
        SegmentName::Ds => (F::DsBase, F::DsLimit, Some((F::DsSelector, F::DsRights))),
        SegmentName::Fs => (F::FsBase, F::FsLimit, Some((F::FsSelector, F::FsRights))),
        SegmentName::Gs => (F::GsBase, F::GsLimit, Some((F::GsSelector, F::GsRights))),
        SegmentName::Ldtr => (
            F::LdtrBase,
            F::LdtrLimit,
            Some((F::LdtrSelector, F::LdtrRights)),
        ),
        SegmentName::Tr => (F::TrBase, F::TrLimit, Some((F::TrSelector, F::TrRights))),
        SegmentName::Gdtr => (F::GdtrBase, F::GdtrLimit, None),
        SegmentName::Idtr => (F::IdtrBase, F::IdtrLimit, None),
    };
    Place {
        base,
        limit,
        described,
    }
}

/// Access rights of a segment with these attributes. One that is not present is unusable.
#[must_use]
pub const fn rights(attributes: u16) -> u64 {
    let low = (attributes & 0xff) as u64;
    let high = ((attributes & UPPER) >> UPPER_SHIFT) as u64;
    let unusable = if attributes & attribute::P == 0 {
        rights::UNUSABLE
    } else {
        0
    };
    low | high << rights::UPPER_SHIFT | unusable
}

/// Attributes of a segment with these access rights. Those of an unusable one mean nothing but for its level.
#[must_use]
pub const fn attributes(rights: u64) -> u16 {
    let low = (rights & 0xff) as u16;
    let high = (rights >> rights::UPPER_SHIFT & 0xf) as u16;
    if rights & rights::UNUSABLE != 0 {
        return low & OF_UNUSABLE;
    }
    low | high << UPPER_SHIFT
}

/// The nearest segment that an entry takes in the register (Intel SDM vol. 3, 27.3.1.2, with unrestricted guest), as far
/// as neither another register nor the mode decides. Of a task in long mode see [`long_task`]; bases and selectors are the
/// caller's.
#[must_use]
pub const fn conform(name: SegmentName, segment: Segment) -> Segment {
    let given = segment.attributes & ATTRIBUTES;
    let usable = given & attribute::P != 0;
    let attributes = match name {
        SegmentName::Gdtr | SegmentName::Idtr => return segment,
        SegmentName::Cs => with_kind(given | attribute::P | attribute::S, code(given)),
        SegmentName::Tr if usable => with_kind(given & !attribute::S, task(given)),
        SegmentName::Tr => attribute::P | kind::BUSY_TASK,
        _ if !usable => {
            return Segment {
                attributes: given,
                ..segment
            };
        }
        SegmentName::Ldtr => with_kind(given & !attribute::S, kind::LDT),
        SegmentName::Ss => with_kind(given | attribute::S, given & !kind::CODE | kind::DATA),
        SegmentName::Es | SegmentName::Ds | SegmentName::Fs | SegmentName::Gs => {
            with_kind(given | attribute::S, data(given))
        }
    };
    granular(Segment {
        attributes,
        ..segment
    })
}

/// A task register that an entry into long mode takes: whatever wide task a legacy mode left there is one of 64 bits now.
#[must_use]
pub const fn long_task(segment: Segment) -> Segment {
    let segment = conform(SegmentName::Tr, segment);
    Segment {
        attributes: segment.attributes | kind::BUSY_TASK,
        ..segment
    }
}

const fn with_kind(attributes: u16, kind: u16) -> u16 {
    attributes & !kind::MASK | kind & kind::MASK
}

/// Data is in CS in virtual 8086 mode, and at level 0 in real mode and just behind it.
const fn code(attributes: u16) -> u16 {
    if attributes & kind::CODE != 0 {
        attributes | kind::ACCESSED
    } else {
        kind::DATA
    }
}

/// Code can be in a data segment register if it can be read.
const fn data(attributes: u16) -> u16 {
    if attributes & kind::CODE != 0 {
        attributes | kind::ACCESSED | kind::READABLE
    } else {
        attributes | kind::ACCESSED
    }
}

/// A task that is loaded is busy.
const fn task(attributes: u16) -> u16 {
    match attributes & kind::MASK | 2 {
        kind::BUSY_TASK_16 => kind::BUSY_TASK_16,
        _ => kind::BUSY_TASK,
    }
}

/// A limit of more than 20 bits counts pages, and one that does not end with a page counts bytes.
const fn granular(mut segment: Segment) -> Segment {
    const IN_PAGE: u32 = 0xfff;
    if segment.limit >> 20 != 0 {
        segment.attributes |= attribute::G;
        segment.limit |= IN_PAGE;
    } else if segment.limit & IN_PAGE != IN_PAGE {
        segment.attributes &= !attribute::G;
    }
    segment
}
