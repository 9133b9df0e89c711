//! The registers of a local APIC by number: offset in the page / 16 and MSR - 0x800 (Intel SDM vol. 3, "Local APIC
//! Register Address Map" and "x2APIC Register Address Space").

use super::lvt::Local;

/// A register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    RemoteRead,
    Logical,
    Format,
    Spurious,
    /// Vectors `32 * index ..`, as in the next two.
    InService(u8),
    TriggerMode(u8),
    Request(u8),
    ErrorStatus,
    Command,
    CommandHigh,
    Lvt(Local),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
}

impl Register {
    /// The register with that number.
    pub fn numbered(number: u32) -> Option<Self> {
        Some(match number {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x09 => Self::ArbitrationPriority,
            0x0a => Self::ProcessorPriority,
            0x0b => Self::EndOfInterrupt,
            0x0c => Self::RemoteRead,
            0x0d => Self::Logical,
            0x0e => Self::Format,
            0x0f => Self::Spurious,
            0x10..=0x17 => Self::InService(number as u8 & 7),
            0x18..=0x1f => Self::TriggerMode(number as u8 & 7),
            0x20..=0x27 => Self::Request(number as u8 & 7),
            0x28 => Self::ErrorStatus,
            0x30 => Self::Command,
            0x31 => Self::CommandHigh,
            0x32 => Self::Lvt(Local::Timer),
            0x33 => Self::Lvt(Local::Thermal),
            0x34 => Self::Lvt(Local::Performance),
            0x35 => Self::Lvt(Local::Lint0),
            0x36 => Self::Lvt(Local::Lint1),
            0x37 => Self::Lvt(Local::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }

    /// Whether the page of xAPIC mode has it.
    pub fn in_page(self) -> bool {
        self != Self::SelfIpi
    }

    /// Whether x2APIC mode has it.
    pub fn in_msrs(self) -> bool {
        !matches!(
            self,
            Self::ArbitrationPriority | Self::RemoteRead | Self::Format | Self::CommandHigh
        )
    }
}
