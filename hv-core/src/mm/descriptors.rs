//! Segment descriptors that a 64-bit PV guest may have in its GDT and LDT (AMD APM vol. 2, 4.8).
//!
//! The processor takes descriptors from these tables while it runs guest code, so they must not lead
//! to a more privileged ring or to a gate. Bases and limits need no check: the processor ignores
//! them in 64-bit mode, and 32-bit code cannot reach our addresses.

/// Bit 47: present.
const PRESENT: u64 = 1 << 47;
/// Bits 46..45: descriptor privilege level.
const DPL: u64 = 3 << 45;
/// Bit 44: a code or data segment; clear for system descriptors and gates.
const SEGMENT: u64 = 1 << 44;
/// Bits 43..40: type.
const TYPE: u64 = 0xf << 40;
/// Type bit 0 of a segment: accessed. Set by us: the tables are mapped read-only, so that the
/// processor could not.
const ACCESSED: u64 = 1 << 40;
/// Type bit 3: code.
const CODE: u64 = 1 << 43;
/// Bit 53: 64-bit code.
const LONG: u64 = 1 << 53;
/// Bit 54: default operand size 32.
const DEFAULT_32: u64 = 1 << 54;

/// Why a descriptor is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadDescriptor {
    /// A gate, TSS or LDT descriptor.
    System,
    /// Code that claims to be 64-bit and 32-bit at once.
    LongAnd32Bit,
}

impl core::fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::System => "a gate or system descriptor",
            Self::LongAnd32Bit => "a code segment with both L and D",
        })
    }
}

/// Checks one descriptor and returns it as it may stand in a table: a present segment gets DPL 3, the
/// only ring a 64-bit PV guest has, and counts as accessed.
///
/// What is not present faults on use and is kept as it is. System type 0 faults on use as
/// well; it is also the upper half of an empty 16-byte descriptor.
pub const fn check_descriptor(raw: u64) -> Result<u64, BadDescriptor> {
    if raw & PRESENT == 0 {
        return Ok(raw);
    }
    if raw & SEGMENT == 0 {
        return if raw & TYPE == 0 {
            Ok(raw | DPL)
        } else {
            Err(BadDescriptor::System)
        };
    }
    if raw & CODE != 0 && raw & (LONG | DEFAULT_32) == LONG | DEFAULT_32 {
        return Err(BadDescriptor::LongAnd32Bit);
    }
    Ok(raw | DPL | ACCESSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flat 64-bit kernel code as Linux writes it: P, DPL 0, S, code, read, L, G.
    const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;

    #[test]
    fn kernel_segments_are_raised_to_ring_3() {
        assert_eq!(check_descriptor(KERNEL_CODE), Ok(KERNEL_CODE | DPL));
        let data = 0x00cf_9300_0000_ffff;
        assert_eq!(check_descriptor(data), Ok(data | DPL));
        let user32 = 0x00cf_fb00_0000_ffff;
        assert_eq!(check_descriptor(user32), Ok(user32));
    }

    #[test]
    fn empty_and_absent_descriptors_pass() {
        assert_eq!(check_descriptor(0), Ok(0));
        let absent_gate = 0x0000_6c00_0000_0000 & !PRESENT;
        assert_eq!(check_descriptor(absent_gate), Ok(absent_gate));
    }

    #[test]
    fn every_present_system_type_is_refused() {
        for ty in 1..16 {
            for dpl in 0..4 {
                let raw = PRESENT | ty << 40 | dpl << 45;
                assert_eq!(check_descriptor(raw), Err(BadDescriptor::System));
            }
        }
    }

    #[test]
    fn code_cannot_be_64_and_32_bit() {
        assert_eq!(
            check_descriptor(KERNEL_CODE | DEFAULT_32),
            Err(BadDescriptor::LongAnd32Bit)
        );
    }

    #[test]
    fn accepted_descriptors_pass_unchanged_the_second_time() {
        for raw in [KERNEL_CODE, 0, PRESENT, 0x00cf_9300_0000_ffff] {
            let once = check_descriptor(raw).unwrap();
            assert_eq!(check_descriptor(once), Ok(once));
        }
    }
}
