//! Messages between APICs, and the interrupt command register that asks for them (Intel SDM vol. 3, "Interrupt
//! Command Register (ICR)" and "ICR Operation in x2APIC Mode"; AMD APM vol. 2, 16.5).

use crate::hvm::vectors::FIRST_LEGAL;

/// What the receiver does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Puts the vector into IRR.
    Fixed,
    /// The same, at the one of the destinations that [`super::arbitrate`] chooses.
    LowestPriority,
    /// A system management interrupt: guests have no such mode, so whoever delivers says so and drops it.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// Resets the processor, which then waits for a start-up message.
    Init,
    /// Starts the processor at page `vector`.
    StartUp,
    /// An interrupt whose vector a PIC knows; from I/O APICs only.
    ExtInt,
}

/// Whom a message is for. A destination of all ones is [`Destination::All`] already, in the sender's width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The one with this ID.
    Physical(u32),
    /// Those whose logical ID is met.
    Logical(u32),
    /// Every one.
    All,
    /// Every one but the sender.
    AllButSelf,
}

impl Destination {
    /// From a destination of eight bits: xAPIC mode, I/O APICs, MSIs.
    #[must_use]
    pub const fn narrow(id: u8, logical: bool) -> Self {
        match (id, logical) {
            (u8::MAX, _) => Self::All,
            (_, true) => Self::Logical(id as u32),
            (_, false) => Self::Physical(id as u32),
        }
    }

    /// From a destination of 32 bits: x2APIC mode.
    #[must_use]
    pub const fn wide(id: u32, logical: bool) -> Self {
        match (id, logical) {
            (u32::MAX, _) => Self::All,
            (_, true) => Self::Logical(id),
            (_, false) => Self::Physical(id),
        }
    }
}

/// A message to local APICs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipi {
    /// What it does.
    pub delivery: Delivery,
    /// The vector; for [`Delivery::StartUp`] the page, otherwise without meaning where there is none.
    pub vector: u8,
    /// Level-triggered: its EOI goes to the I/O APICs. Never from a processor, whose messages are all edges.
    pub level: bool,
    /// For whom.
    pub destination: Destination,
}

/// What a write to the command register asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// Send it.
    Send(Ipi),
    /// An interrupt for the sender itself.
    ToSelf(u8),
    /// Nothing: INIT level de-assert, which no processor of this architecture needs; reserved modes; and
    /// combinations that the manuals call invalid.
    Nothing,
    /// A vector below 16.
    IllegalVector,
}

/// Bits of the command register's low half that mean something.
pub(super) const ICR_LOW: u32 = 0x000c_cfff;
const LOGICAL: u32 = 1 << 11;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

/// Reads the command `low` for the destination field `destination`, of 32 bits if `wide`, otherwise of eight.
pub(super) fn command(low: u32, destination: u32, wide: bool) -> Command {
    let vector = low as u8;
    let delivery = match low >> 8 & 7 {
        0 => Delivery::Fixed,
        1 => Delivery::LowestPriority,
        2 => Delivery::Smi,
        4 => Delivery::Nmi,
        5 if low & (ASSERT | LEVEL) == LEVEL => return Command::Nothing,
        5 => Delivery::Init,
        6 => Delivery::StartUp,
        _ => return Command::Nothing,
    };
    let by_vector = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
    if by_vector && vector < FIRST_LEGAL {
        return Command::IllegalVector;
    }
    let resets = matches!(delivery, Delivery::Init | Delivery::StartUp);
    let logical = low & LOGICAL != 0;
    let destination = match low >> 18 & 3 {
        0 if wide => Destination::wide(destination, logical),
        0 => Destination::narrow(destination as u8, logical),
        1 if delivery == Delivery::Fixed => return Command::ToSelf(vector),
        1 => return Command::Nothing,
        2 if resets => return Command::Nothing,
        2 => Destination::All,
        _ => Destination::AllButSelf,
    };
    Command::Send(Ipi {
        delivery,
        vector,
        level: false,
        destination,
    })
}
