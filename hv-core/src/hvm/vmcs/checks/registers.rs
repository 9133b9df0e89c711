//! Control and debug registers and MSRs (Intel SDM vol. 3, 27.3.1.1), and the four entries of PAE paging that the
//! processor keeps (27.3.1.6).

use super::super::layout::{Field, entry};
use super::{Checked, Guest};
use crate::base::GuestVa;
use crate::hvm::controls::{cr0, cr4, efer};

const SECTION: &str = "27.3.1.1";
/// Shadow stacks, which are in no policy.
const CR4_CET: u64 = 1 << 23;
/// Bits of DEBUGCTL that some processor has (Intel SDM vol. 4, 2.1).
const DEBUGCTL: u64 = 0xffc7;
/// Bits of EFER that Intel's processors have.
const EFER: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;

pub fn check(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    control(g)?;
    modes(g)?;
    debug(g)?;
    for field in [Field::SysenterEsp, Field::SysenterEip] {
        let rule = (SECTION, "must be canonical");
        g.must(field, |v| GuestVa(v).is_canonical(), rule)?;
    }
    if g.has(Field::EntryControls, entry::LOAD_EFER.into()) {
        extended(g)?;
    }
    Ok(())
}

/// Whether all bits are set that must be, and no others than may be.
const fn fits(value: u64, (set, may): (u64, u64)) -> bool {
    value & set == set && value & !may == 0
}

fn control(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    // Unrestricted guests choose paging and protection; the caches' bits are left alone by entries.
    const FREE: u64 = cr0::PE | cr0::PG | cr0::CD | cr0::NW;
    let (set, may) = g.cr0_fixed;
    let fixed = (set & !FREE, may | FREE);
    let rule = (SECTION, "a bit must be set, or must not");
    g.must(Field::Cr0, |cr0| fits(cr0, fixed), rule)?;
    g.must(
        Field::Cr0,
        |cr0| cr0 & cr0::PG == 0 || cr0 & cr0::PE != 0,
        (SECTION, "paging needs protected mode"),
    )?;
    g.must(Field::Cr4, |cr4| fits(cr4, g.cr4_fixed), rule)?;
    let protects = g.has(Field::Cr0, cr0::WP);
    g.must(
        Field::Cr4,
        |cr4| cr4 & CR4_CET == 0 || protects,
        (SECTION, "CET needs CR0.WP"),
    )
}

fn modes(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    if g.is_long() {
        let rule = (SECTION, "long mode needs paging");
        g.must(Field::Cr0, |cr0| cr0 & cr0::PG != 0, rule)?;
        let rule = (SECTION, "long mode needs PAE");
        g.must(Field::Cr4, |cr4| cr4 & cr4::PAE != 0, rule)?;
    } else {
        let rule = (SECTION, "PCIDs need long mode");
        g.must(Field::Cr4, |cr4| cr4 & cr4::PCIDE == 0, rule)?;
    }
    let rule = (SECTION, "must be within physical memory");
    g.must(Field::Cr3, |cr3| g.is_physical(cr3), rule)
}

fn debug(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    if !g.has(Field::EntryControls, entry::LOAD_DEBUG.into()) {
        return Ok(());
    }
    let rule = (SECTION, "reserved bits must be clear");
    g.must(Field::DebugCtl, |value| value & !DEBUGCTL == 0, rule)?;
    let rule = (SECTION, "has 32 bits");
    g.must(Field::Dr7, |value| value >> 32 == 0, rule)
}

fn extended(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let rule = (SECTION, "reserved bits must be clear");
    g.must(Field::Efer, |value| value & !EFER == 0, rule)?;
    g.must(
        Field::Efer,
        |value| (value & efer::LMA != 0) == g.is_long(),
        (SECTION, "LMA must be as the entry's controls say"),
    )?;
    let pages = g.has(Field::Cr0, cr0::PG);
    g.must(
        Field::Efer,
        |value| !pages || (value & efer::LMA != 0) == (value & efer::LME != 0),
        (SECTION, "LMA must be LME while paging is on"),
    )
}

/// Of PAE paging.
pub fn page_pointers(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    const PRESENT: u64 = 1;
    const RESERVED: u64 = 3 << 1 | 0xf << 5;
    let pae = g.has(Field::Cr0, cr0::PG) && g.has(Field::Cr4, cr4::PAE) && !g.is_long();
    if !pae {
        return Ok(());
    }
    for field in [Field::Pdpte0, Field::Pdpte1, Field::Pdpte2, Field::Pdpte3] {
        let fits =
            |entry: u64| entry & PRESENT == 0 || entry & RESERVED == 0 && g.is_physical(entry);
        let rule = ("27.3.1.6", "reserved bits must be clear in what is present");
        g.must(field, fits, rule)?;
    }
    Ok(())
}
