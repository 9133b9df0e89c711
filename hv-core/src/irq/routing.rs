//! Which I/O APIC input serves a global system interrupt, and how its line signals (ACPI
//! specification, 5.2.12.3 and 5.2.12.5; defaults of the buses from the MultiProcessor
//! specification, 4.3.4).

use alloc::vec::Vec;

use crate::boot::acpi;

/// Most GSIs taken; inputs above are left out, with a warning.
pub const MAX_LINES: u32 = 1024;

/// Number of ISA interrupts.
const ISA_LINES: u32 = 16;

/// Which level of a line is active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Polarity {
    High,
    Low,
}

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// By a change of level.
    Edge,
    /// By the level itself.
    Level,
}

/// How a line is wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their types")]
pub struct LineMode {
    pub trigger: Trigger,
    pub polarity: Polarity,
}

impl LineMode {
    /// The default of ISA.
    pub const ISA: Self = Self {
        trigger: Trigger::Edge,
        polarity: Polarity::High,
    };
    /// The default of PCI.
    pub const PCI: Self = Self {
        trigger: Trigger::Level,
        polarity: Polarity::Low,
    };
}

/// An ISA interrupt that is not wired as usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// The ISA interrupt.
    pub source_irq: u8,
    /// Where it arrives.
    pub gsi: u32,
    /// Its active level; the bus's default when `None`.
    pub polarity: Option<Polarity>,
    /// Its signal; the bus's default when `None`.
    pub trigger: Option<Trigger>,
}

impl From<&acpi::Override> for Override {
    fn from(found: &acpi::Override) -> Self {
        Self {
            source_irq: found.source_irq,
            gsi: found.gsi,
            polarity: match found.polarity {
                acpi::Polarity::BusDefault => None,
                acpi::Polarity::High => Some(Polarity::High),
                acpi::Polarity::Low => Some(Polarity::Low),
            },
            trigger: match found.trigger {
                acpi::Trigger::BusDefault => None,
                acpi::Trigger::Edge => Some(Trigger::Edge),
                acpi::Trigger::Level => Some(Trigger::Level),
            },
        }
    }
}

/// The inputs of one I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// GSI of input 0.
    pub gsi_base: u32,
    /// Number of inputs.
    pub pins: u32,
}

/// An input of an I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Index of the I/O APIC.
    pub chip: usize,
    /// The input.
    pub pin: u8,
}

/// Where every GSI arrives; fixed at boot.
pub(super) struct Routing {
    spans: Vec<Span>,
    overrides: Vec<Override>,
    lines: u32,
}

impl Routing {
    /// Takes the I/O APICs, in the order of their indices, and what the firmware says of ISA.
    pub fn new(spans: Vec<Span>, overrides: Vec<Override>) -> Self {
        let mut lines = 0;
        for span in &spans {
            let end = span.gsi_base.saturating_add(span.pins);
            if end > MAX_LINES {
                log::warn!(
                    "interrupts: GSI {MAX_LINES} to {} are not supported",
                    end - 1
                );
            }
            if span.gsi_base < MAX_LINES {
                lines = lines.max(end.min(MAX_LINES));
            }
        }
        Self {
            spans,
            overrides,
            lines,
        }
    }

    /// One more than the highest GSI.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// The input that serves a GSI; where two claim it, the first I/O APIC.
    pub fn place(&self, gsi: u32) -> Option<Place> {
        if gsi >= self.lines {
            return None;
        }
        self.spans.iter().enumerate().find_map(|(chip, span)| {
            let pin = gsi.checked_sub(span.gsi_base).filter(|p| *p < span.pins)?;
            Some(Place {
                chip,
                pin: u8::try_from(pin).ok()?,
            })
        })
    }

    /// How a line signals unless somebody knows better: as the firmware says of the ISA interrupt
    /// that arrives there, as ISA below 16, as PCI above.
    pub fn mode(&self, gsi: u32) -> LineMode {
        match self.overrides.iter().find(|o| o.gsi == gsi) {
            Some(found) => LineMode {
                trigger: found.trigger.unwrap_or(LineMode::ISA.trigger),
                polarity: found.polarity.unwrap_or(LineMode::ISA.polarity),
            },
            None if gsi < ISA_LINES => LineMode::ISA,
            None => LineMode::PCI,
        }
    }

    /// The GSI at which an ISA interrupt arrives.
    pub fn gsi_of_isa(&self, irq: u8) -> u32 {
        self.overrides
            .iter()
            .find(|o| o.source_irq == irq)
            .map_or(u32::from(irq), |o| o.gsi)
    }
}
