//! The root system description pointer (ACPI specification, 5.2.5).

use core::fmt;

use super::table::sums_to_zero;
use super::warning::{AcpiWarning, Text};
use crate::base::PhysAddr;
use crate::boot::phys::{Fields, PhysMem};

const SIGNATURE: &[u8; 8] = b"RSD PTR ";
/// Bytes of the structure of ACPI 1.0, and with the fields of 2.0.
const LEN_V1: usize = 20;
const LEN_V2: usize = 36;
/// The pointer lies at a multiple of this.
const ALIGN: usize = 16;
/// Where the BIOS keeps the segment of its extended data area, and how much of that is searched.
const EBDA_SEGMENT: PhysAddr = PhysAddr(0x40e);
const EBDA_LEN: usize = 1024;
/// The BIOS ROM area.
const ROM: PhysAddr = PhysAddr(0xe_0000);
const ROM_LEN: usize = 0x2_0000;

/// A checked root pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPointer {
    /// Where it was found; `None` when the loader passed a copy.
    pub address: Option<PhysAddr>,
    /// 0 for ACPI 1.0, 2 since ACPI 2.0.
    pub revision: u8,
    /// Who made it.
    pub oem: [u8; 6],
    /// The list of tables with 32-bit addresses; 0 for none.
    pub rsdt: u32,
    /// The list of tables with 64-bit addresses; 0 for none.
    pub xsdt: u64,
}

impl fmt::Display for RootPointer {
    /// As the boot log has it: `RSDP 000F59D0, 0014 (r0 BOCHS )`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.map_or(0, |at| at.0);
        let len = if self.revision >= 2 { LEN_V2 } else { LEN_V1 };
        let (revision, oem) = (self.revision, Text(&self.oem));
        write!(f, "RSDP {address:08X}, {len:04X} (r{revision} {oem:<6})")
    }
}

impl RootPointer {
    /// Reads and checks the pointer at `at`.
    pub(super) fn read<M: PhysMem + ?Sized>(
        mem: &M,
        at: PhysAddr,
    ) -> Option<(Self, Option<AcpiWarning>)> {
        let bytes = mem.read(at, LEN_V2).or_else(|| mem.read(at, LEN_V1))?;
        let (mut root, warning) = Self::parse(bytes)?;
        root.address = Some(at);
        Some((root, warning))
    }

    /// Checks a pointer's bytes. `None` when they are none; where only the extended part is wrong
    /// the first part counts, and the warning says so.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, Option<AcpiWarning>)> {
        let first = bytes.get(..LEN_V1)?;
        if !first.starts_with(SIGNATURE) || !sums_to_zero(first) {
            return None;
        }
        let fields = Fields(bytes);
        let mut root = Self {
            address: None,
            revision: fields.u8(15)?,
            oem: fields.array(9)?,
            rsdt: fields.u32(16)?,
            xsdt: 0,
        };
        if root.revision < 2 {
            return Some((root, None));
        }
        let length = fields.u32(20).unwrap_or(0);
        let extended = bytes.get(..LEN_V2).filter(|_| length as usize >= LEN_V2);
        if extended.is_some_and(sums_to_zero) {
            root.xsdt = fields.u64(24)?;
            Some((root, None))
        } else {
            root.revision = 0;
            Some((root, Some(AcpiWarning::BadExtendedRootPointer)))
        }
    }
}

/// Searches the places where a BIOS puts the root pointer: the first KiB of its extended data
/// area and its ROM. On EFI machines the loader knows instead.
pub fn find_rsdp<M: PhysMem + ?Sized>(mem: &M) -> Option<PhysAddr> {
    let segment = mem
        .read(EBDA_SEGMENT, 2)
        .and_then(|bytes| Fields(bytes).u16(0));
    // Below this there are the interrupt vectors and the BIOS data area.
    let ebda = segment
        .map(|segment| PhysAddr(u64::from(segment) << 4))
        .filter(|ebda| ebda.0 >= 0x500);
    ebda.and_then(|ebda| search(mem, ebda, EBDA_LEN))
        .or_else(|| search(mem, ROM, ROM_LEN))
}

/// Searches `len` bytes from `start`.
fn search<M: PhysMem + ?Sized>(mem: &M, start: PhysAddr, len: usize) -> Option<PhysAddr> {
    let area = mem.read(start, len)?;
    (0..len).step_by(ALIGN).find_map(|at| {
        let window = area.get(at..)?;
        RootPointer::parse(&window[..window.len().min(LEN_V2)])?;
        Some(PhysAddr(start.0 + at as u64))
    })
}
