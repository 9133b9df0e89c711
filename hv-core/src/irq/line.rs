//! One interrupt line: who is bound to it, and when it must be masked.

use arrayvec::ArrayVec;
use xen_abi::errno::Errno;

use super::ioapic::{Entry, Gate, IoApic};
use super::routing::{LineMode, Trigger};
use super::storm::Storm;
use super::vectors::Vectors;
use crate::base::{CpuId, DomId, Nanos};
use crate::events::PirqSharing;
use crate::pci::PciHost;
use crate::pci::message::{Mask, Message};

/// Most domains that share one line.
pub const MAX_SHARERS: usize = 8;

/// A domain and its number for the line.
pub(super) type Target = (DomId, u32);

/// Those to be told of an interrupt.
pub(super) type Targets = ArrayVec<Target, MAX_SHARERS>;

/// What a line is made of.
#[derive(Clone, Copy)]
pub(super) enum Pin<'a> {
    /// An input of an I/O APIC.
    Input(&'a IoApic, u8),
    /// A message; the line's state knows which.
    Message(&'a dyn PciHost),
}

/// What a line is called on the console.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Gsi(u32),
    Message(Message),
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Gsi(gsi) => write!(f, "GSI {gsi}"),
            Self::Message(message) => message.fmt(f),
        }
    }
}

/// Where interrupts go: a CPU and its APIC id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Destination {
    pub cpu: CpuId,
    pub apic_id: u8,
}

/// A domain bound to the line.
struct Guest {
    target: Target,
    sharing: PirqSharing,
    /// Told of a level interrupt that it has not ended.
    owes_end: bool,
}

/// Who a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    /// Whoever binds it.
    Guests,
    /// Us, and it stays silent.
    Silent(&'static str),
    /// A device that we drive.
    Driven(&'static str),
}

/// What an interrupt means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Tell these.
    Guests(Targets),
    /// It is for a device that we drive.
    Ours,
    /// Nobody waits for it; how often that has happened.
    Nobody(u64),
}

/// An interrupt and what it led to.
pub(super) struct Came {
    pub meaning: Meaning,
    /// A storm was noticed: the line rests until then; how many there were.
    pub storm: Option<(Nanos, u64)>,
}

/// The state of a line, behind its lock.
pub(super) struct LineState {
    mode: LineMode,
    /// What is sent; none for a line of an I/O APIC, or when nothing is mapped here.
    message: Option<Message>,
    /// dom0 or the firmware's table has said how it signals, in so many words.
    set_up: bool,
    holder: Holder,
    guests: ArrayVec<Guest, MAX_SHARERS>,
    /// A device that we drive has an interrupt that its driver has not ended (level only).
    in_service: bool,
    /// Allocated at the first use, kept for good.
    vector: Option<u8>,
    /// Where its interrupts go; of no meaning without a vector.
    cpu: CpuId,
    storm: Storm,
    /// What the mask bit was last set to.
    gate: Gate,
    arrived: u64,
    unwanted: u64,
    storms: u64,
}

impl LineState {
    /// A line that nobody uses; its entry is masked.
    pub fn new(mode: LineMode) -> Self {
        Self {
            mode,
            message: None,
            set_up: false,
            holder: Holder::Guests,
            guests: ArrayVec::new(),
            in_service: false,
            vector: None,
            cpu: 0,
            storm: Storm::default(),
            gate: Gate::Masked,
            arrived: 0,
            unwanted: 0,
            storms: 0,
        }
    }

    /// How the line signals.
    pub fn mode(&self) -> LineMode {
        self.mode
    }

    /// Whether several domains are bound.
    pub fn is_shared(&self) -> bool {
        self.guests.len() > 1
    }

    /// Whether there is anything to say about it.
    pub fn is_known(&self) -> bool {
        self.vector.is_some()
            || self.message.is_some()
            || self.set_up
            || self.holder != Holder::Guests
    }

    /// Whether somebody may get interrupts from it now.
    fn in_use(&self) -> bool {
        !self.guests.is_empty() || matches!(self.holder, Holder::Driven(_))
    }

    /// Whether the entry must be open: the rule of a line.
    fn wanted_gate(&self) -> Gate {
        let unfinished = self.mode.trigger == Trigger::Level
            && (self.in_service || self.guests.iter().any(|g| g.owes_end));
        if self.in_use() && !unfinished && self.storm.until().is_none() {
            Gate::Open
        } else {
            Gate::Masked
        }
    }

    /// Writes the mask bit if it is not what the rule says.
    fn settle(&mut self, pin: Pin<'_>) {
        let wanted = self.wanted_gate();
        if wanted != self.gate {
            self.write_gate(pin, wanted);
        }
    }

    fn write_gate(&mut self, pin: Pin<'_>, gate: Gate) {
        match (pin, &self.message) {
            (Pin::Input(chip, pin), _) => chip.set_gate(pin, gate),
            (Pin::Message(host), Some(message)) => message.set_mask(host, mask_of(gate)),
            (Pin::Message(_), None) => {}
        }
        self.gate = gate;
    }

    /// What the line is called; its index is the GSI for those that have one.
    pub fn name(&self, index: u32) -> Name {
        self.message.map_or(Name::Gsi(index), Name::Message)
    }

    /// The message that is sent, if one is mapped here.
    pub fn message(&self) -> Option<Message> {
        self.message
    }

    /// The function's table has moved.
    pub fn set_message(&mut self, message: Message) {
        self.message = Some(message);
    }

    /// Takes a message with its vector; it is held back until somebody is bound.
    pub fn take_message(&mut self, pin: Pin<'_>, message: Message, vector: u8, to: Destination) {
        self.message = Some(message);
        self.start(pin, vector, to);
        self.write_gate(pin, Gate::Masked);
    }

    /// Writes a message as it was, after the function has forgotten it.
    pub fn restore(&mut self, pin: Pin<'_>, to: Destination) {
        if let Some(vector) = self.vector {
            let gate = self.gate;
            self.start(pin, vector, to);
            self.write_gate(pin, gate);
        }
    }

    /// Lets the message go, and whoever was bound; the vector that it had.
    pub fn drop_message(&mut self, pin: Pin<'_>) -> Option<u8> {
        self.write_gate(pin, Gate::Masked);
        let vector = self.vector;
        *self = Self::new(self.mode);
        vector
    }

    /// Where interrupts go now.
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Writes the entry, masked, for the first user of the line.
    fn start(&mut self, pin: Pin<'_>, vector: u8, to: Destination) {
        self.vector = Some(vector);
        self.cpu = to.cpu;
        self.gate = Gate::Masked;
        match (pin, &self.message) {
            (Pin::Input(chip, pin), _) => chip.program(
                pin,
                Entry {
                    vector,
                    destination: to.apic_id,
                    mode: self.mode,
                    gate: Gate::Masked,
                },
            ),
            (Pin::Message(host), Some(message)) => message.program(host, to.apic_id, vector),
            (Pin::Message(_), None) => {}
        }
    }

    /// The line's vector, allocated if it has none.
    fn vector(&self, vectors: &Vectors, line: u32) -> Result<u8, Errno> {
        match self.vector {
            Some(vector) => Ok(vector),
            None => vectors.allocate(line),
        }
    }

    /// Says how the line signals.
    ///
    /// # Errors
    /// `EEXIST` when that was said before or the line is ours; `EBUSY` when somebody is bound and it
    /// would change.
    pub fn set_up(&mut self, mode: LineMode) -> Result<(), Errno> {
        if self.set_up || self.holder != Holder::Guests {
            return Err(Errno::EEXIST);
        }
        if mode != self.mode && self.in_use() {
            return Err(Errno::EBUSY);
        }
        // The entry is written when the line is first used.
        self.mode = mode;
        self.set_up = true;
        Ok(())
    }

    /// Binds a domain and, if it is the first, starts the line.
    ///
    /// # Errors
    /// `EBUSY` when the line is ours, bound by the domain already, or cannot be shared; `ENOSPC` when
    /// no vector is left.
    pub fn bind(
        &mut self,
        pin: Pin<'_>,
        (vectors, line): (&Vectors, u32),
        (target, sharing): (Target, PirqSharing),
        to: Destination,
    ) -> Result<(), Errno> {
        let exclusive = |s: PirqSharing| s == PirqSharing::Exclusive;
        let refused = self.holder != Holder::Guests
            || self.guests.is_full()
            || self
                .guests
                .iter()
                .any(|g| g.target.0 == target.0 || exclusive(g.sharing) || exclusive(sharing));
        if refused {
            return Err(Errno::EBUSY);
        }
        if self.guests.is_empty() {
            let vector = self.vector(vectors, line)?;
            self.start(pin, vector, to);
        }
        self.guests.push(Guest {
            target,
            sharing,
            owes_end: false,
        });
        self.settle(pin);
        Ok(())
    }

    /// Ends a domain's binding, if there is one; what it had not ended counts as ended.
    pub fn unbind(&mut self, pin: Pin<'_>, target: Target) {
        self.guests.retain(|g| g.target != target);
        self.settle(pin);
    }

    /// Sends interrupts to another CPU, if the domain is the one that decides: the first bound.
    pub fn route(&mut self, pin: Pin<'_>, target: Target, to: Destination) {
        if self.guests.first().is_some_and(|g| g.target == target) {
            self.send_to(pin, to);
        }
    }

    /// Sends interrupts to another CPU than one that stops, if they go there.
    pub fn evacuate(&mut self, pin: Pin<'_>, cpu: CpuId, to: Destination) {
        if self.vector.is_some() && self.cpu == cpu {
            self.send_to(pin, to);
        }
    }

    fn send_to(&mut self, pin: Pin<'_>, to: Destination) {
        if self.cpu == to.cpu {
            return;
        }
        let moved = match (pin, &self.message) {
            (Pin::Input(chip, pin), _) => {
                chip.set_destination(pin, to.apic_id);
                true
            }
            (Pin::Message(host), Some(message)) => {
                message.redirect(host, to.apic_id, mask_of(self.gate))
            }
            (Pin::Message(_), None) => false,
        };
        if moved {
            self.cpu = to.cpu;
        }
    }

    /// A domain has ended its interrupt.
    pub fn end(&mut self, pin: Pin<'_>, target: Target) {
        for guest in &mut self.guests {
            if guest.target == target {
                guest.owes_end = false;
            }
        }
        self.settle(pin);
    }

    /// Keeps a line for ourselves, masked.
    ///
    /// # Errors
    /// `EBUSY` when it is used.
    pub fn keep(&mut self, pin: Pin<'_>, name: &'static str) -> Result<(), Errno> {
        if self.in_use() {
            return Err(Errno::EBUSY);
        }
        self.holder = Holder::Silent(name);
        self.settle(pin);
        Ok(())
    }

    /// Takes a line for a device that we drive, and starts it.
    ///
    /// # Errors
    /// `EBUSY` when it is used, `ENOSPC` when no vector is left.
    pub fn claim(
        &mut self,
        pin: Pin<'_>,
        (vectors, line): (&Vectors, u32),
        name: &'static str,
        to: Destination,
    ) -> Result<u8, Errno> {
        if self.in_use() {
            return Err(Errno::EBUSY);
        }
        let vector = self.vector(vectors, line)?;
        self.start(pin, vector, to);
        self.holder = Holder::Driven(name);
        self.settle(pin);
        Ok(vector)
    }

    /// Our driver has dealt with the line's interrupt.
    pub fn end_ours(&mut self, pin: Pin<'_>) {
        self.in_service = false;
        self.settle(pin);
    }

    /// An interrupt has come. Afterwards the local APIC may be told: a level line is masked by then.
    pub fn arrive(&mut self, pin: Pin<'_>, now: Nanos, limit: u32) -> Came {
        if !self.in_use() {
            // It was on its way when the line was masked; or the entry is not as we left it.
            self.unwanted += 1;
            self.write_gate(pin, Gate::Masked);
            let meaning = Meaning::Nobody(self.unwanted);
            let storm = None;
            return Came { meaning, storm };
        }
        self.arrived += 1;
        // One that comes though its line rests could not be held back: who is bound looks when the rest ends.
        let rests = self.storm.until().is_some();
        let storm = self.storm.count(now, limit);
        self.storms += u64::from(storm.is_some());
        let level = self.mode.trigger == Trigger::Level;
        let meaning = match self.holder {
            Holder::Driven(_) => {
                self.in_service = level;
                Meaning::Ours
            }
            _ if rests => Meaning::Guests(Targets::new()),
            Holder::Guests | Holder::Silent(_) => {
                for guest in &mut self.guests {
                    guest.owes_end = level;
                }
                Meaning::Guests(self.targets())
            }
        };
        self.settle(pin);
        Came {
            meaning,
            storm: storm.map(|until| (until, self.storms)),
        }
    }

    /// Ends a storm's rest if it is over. For an edge line those who are bound are returned: what came
    /// meanwhile was lost, so they have to look.
    pub fn end_storm(&mut self, pin: Pin<'_>, now: Nanos) -> Targets {
        if !self.storm.end(now) {
            return Targets::new();
        }
        self.settle(pin);
        match self.mode.trigger {
            Trigger::Edge => self.targets(),
            Trigger::Level => Targets::new(),
        }
    }

    /// When the storm's rest ends, if there is one.
    pub fn rests_until(&self) -> Option<Nanos> {
        self.storm.until()
    }

    fn targets(&self) -> Targets {
        self.guests.iter().map(|g| g.target).collect()
    }

    /// Writes the line's state in words.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump(&self, index: u32, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let LineMode { trigger, polarity } = self.mode;
        let (gate, vector) = (self.gate, self.vector.unwrap_or(0));
        match self.message {
            Some(message) => write!(out, "{message}:")?,
            None => write!(out, "GSI {index:3}: {trigger:?}/{polarity:?}")?,
        }
        write!(
            out,
            " {gate:?} vector {vector:#04x} CPU {} count {}",
            self.cpu, self.arrived
        )?;
        if self.unwanted + self.storms != 0 {
            write!(out, ", {} unwanted, {} storms", self.unwanted, self.storms)?;
        }
        match self.holder {
            Holder::Guests => {}
            Holder::Silent(name) => write!(out, ", kept: {name}")?,
            Holder::Driven(name) => write!(out, ", ours: {name}")?,
        }
        for Guest {
            target: (domain, pirq),
            owes_end,
            ..
        } in &self.guests
        {
            let owes = if *owes_end { " (to be ended)" } else { "" };
            write!(out, ", d{domain} pirq {pirq}{owes}")?;
        }
        writeln!(out)
    }
}

/// The mask of a message for a line's gate.
fn mask_of(gate: Gate) -> Mask {
    match gate {
        Gate::Open => Mask::Off,
        Gate::Masked => Mask::On,
    }
}
