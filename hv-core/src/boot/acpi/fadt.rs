//! The fixed ACPI description table: power management registers (ACPI specification, 5.2.9).

use core::fmt;

use super::table::Table;
use crate::base::PhysAddr;
use crate::boot::phys::Fields;

/// Bits of the flags word.
mod flag {
    pub const TIMER_IS_32_BITS: u32 = 1 << 8;
    pub const RESET_REGISTER: u32 = 1 << 10;
    pub const HARDWARE_REDUCED: u32 = 1 << 20;
}

/// Which space a register's address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceId {
    /// Physical memory.
    Memory,
    /// I/O ports.
    Io,
    /// PCI configuration space of bus 0.
    PciConfig,
    /// Any other number.
    Other(u8),
}

/// A register's address (table "Generic Address Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenericAddress {
    /// Where the address counts.
    pub space: SpaceId,
    /// Width of the register in bits.
    pub bits: u8,
    /// Its first bit.
    pub bit_offset: u8,
    /// The address.
    pub address: u64,
}

impl GenericAddress {
    /// The structure at offset `at`; `None` beyond the table's end and for address 0, which
    /// means that there is no such register.
    pub(super) fn at(fields: Fields<'_>, at: usize) -> Option<Self> {
        let address = fields.u64(at + 4).filter(|&address| address != 0)?;
        Some(Self {
            space: match fields.u8(at)? {
                0 => SpaceId::Memory,
                1 => SpaceId::Io,
                2 => SpaceId::PciConfig,
                number => SpaceId::Other(number),
            },
            bits: fields.u8(at + 1)?,
            bit_offset: fields.u8(at + 2)?,
            address,
        })
    }

    /// The I/O port, when it is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        (self.space == SpaceId::Io)
            .then(|| u16::try_from(self.address).ok())
            .flatten()
    }
}

/// The power management timer: 3.579545 MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// Its I/O port.
    pub port: u16,
    /// 24 or 32 bits of it count.
    pub bits: u8,
}

impl fmt::Display for PmTimer {
    /// As the boot log has it: `PM-Timer IO Port: 0x608 (24 bits)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PM-Timer IO Port: {:#x} ({} bits)", self.port, self.bits)
    }
}

/// The reset register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRegister {
    /// Where.
    pub register: GenericAddress,
    /// What to write.
    pub value: u8,
}

/// What the table says that a hypervisor needs. Entering a sleep state is dom0's decision; it
/// names the register values through a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// The power management timer.
    pub pm_timer: Option<PmTimer>,
    /// How to reset the machine, when the flags say that the register is there.
    pub reset: Option<ResetRegister>,
    /// The interrupt of ACPI events: an ISA interrupt, or a global one without 8259s.
    pub sci_int: u16,
    /// PM1a event block and its length in bytes.
    pub pm1a_event: Option<GenericAddress>,
    /// PM1b event block.
    pub pm1b_event: Option<GenericAddress>,
    /// Length of each event block in bytes.
    pub pm1_event_len: u8,
    /// PM1a control block.
    pub pm1a_control: Option<GenericAddress>,
    /// PM1b control block.
    pub pm1b_control: Option<GenericAddress>,
    /// The DSDT.
    pub dsdt: Option<PhysAddr>,
    /// The firmware control structure.
    pub facs: Option<PhysAddr>,
    /// The flags word.
    pub flags: u32,
    /// The IA-PC boot architecture flags (legacy devices, 8042, VGA, RTC).
    pub boot_arch: u16,
    /// CMOS register of the century; 0 for none.
    pub century: u8,
}

/// Byte offsets: the 32-bit form, and the generic address that replaces it since ACPI 2.0.
mod offset {
    pub const FACS: (usize, usize) = (36, 132);
    pub const DSDT: (usize, usize) = (40, 140);
    pub const SCI_INT: usize = 46;
    pub const PM1A_EVENT: (usize, usize) = (56, 148);
    pub const PM1B_EVENT: (usize, usize) = (60, 160);
    pub const PM1A_CONTROL: (usize, usize) = (64, 172);
    pub const PM1B_CONTROL: (usize, usize) = (68, 184);
    pub const PM_TIMER: (usize, usize) = (76, 208);
    pub const PM1_EVENT_LEN: usize = 88;
    pub const PM1_CONTROL_LEN: usize = 89;
    pub const PM_TIMER_LEN: usize = 91;
    pub const CENTURY: usize = 108;
    pub const BOOT_ARCH: usize = 109;
    pub const FLAGS: usize = 112;
    pub const RESET_REGISTER: usize = 116;
    pub const RESET_VALUE: usize = 128;
}

impl Fadt {
    /// Reads the table; `None` when it is shorter than that of ACPI 1.0.
    pub(super) fn parse(table: &Table<'_>) -> Option<Self> {
        let fields = table.fields;
        let flags = fields.u32(offset::FLAGS)?;
        let event_len = fields.u8(offset::PM1_EVENT_LEN)?;
        let control_len = fields.u8(offset::PM1_CONTROL_LEN)?;
        let reset = || {
            Some(ResetRegister {
                register: GenericAddress::at(fields, offset::RESET_REGISTER)?,
                value: fields.u8(offset::RESET_VALUE)?,
            })
        };
        Some(Self {
            pm_timer: pm_timer(fields, flags),
            reset: (flags & flag::RESET_REGISTER != 0).then(reset).flatten(),
            sci_int: fields.u16(offset::SCI_INT)?,
            pm1a_event: register(fields, offset::PM1A_EVENT, event_len),
            pm1b_event: register(fields, offset::PM1B_EVENT, event_len),
            pm1_event_len: event_len,
            pm1a_control: register(fields, offset::PM1A_CONTROL, control_len),
            pm1b_control: register(fields, offset::PM1B_CONTROL, control_len),
            dsdt: pointer(fields, offset::DSDT),
            facs: pointer(fields, offset::FACS),
            flags,
            boot_arch: fields.u16(offset::BOOT_ARCH)?,
            century: fields.u8(offset::CENTURY)?,
        })
    }

    /// The machine has no CMOS clock (ACPI 6.5, table 5.10).
    #[must_use]
    pub const fn lacks_cmos_clock(&self) -> bool {
        self.boot_arch & 1 << 5 != 0
    }

    /// The machine has no fixed ACPI registers at all.
    #[must_use]
    pub const fn is_hardware_reduced(&self) -> bool {
        self.flags & flag::HARDWARE_REDUCED != 0
    }
}

/// A register block: its generic address, else its port.
fn register(
    fields: Fields<'_>,
    (port, generic): (usize, usize),
    len: u8,
) -> Option<GenericAddress> {
    let legacy = || {
        let address = fields.u32(port).filter(|&address| address != 0)?;
        Some(GenericAddress {
            space: SpaceId::Io,
            bits: len.saturating_mul(8),
            bit_offset: 0,
            address: u64::from(address),
        })
    };
    GenericAddress::at(fields, generic).or_else(legacy)
}

/// A table's address: the 64-bit one, else the 32-bit one.
fn pointer(fields: Fields<'_>, (short, long): (usize, usize)) -> Option<PhysAddr> {
    let short = || fields.u32(short).map(u64::from);
    let address = fields
        .u64(long)
        .filter(|&address| address != 0)
        .or_else(short)?;
    (address != 0).then_some(PhysAddr(address))
}

/// The timer, when its length is right and it is an I/O port.
fn pm_timer(fields: Fields<'_>, flags: u32) -> Option<PmTimer> {
    let len = fields.u8(offset::PM_TIMER_LEN)?;
    let port = register(fields, offset::PM_TIMER, len)?.port()?;
    let bits = if flags & flag::TIMER_IS_32_BITS != 0 {
        32
    } else {
        24
    };
    (len == 4 && flags & flag::HARDWARE_REDUCED == 0).then_some(PmTimer { port, bits })
}
