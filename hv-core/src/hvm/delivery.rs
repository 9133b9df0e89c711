//! Which event a vCPU gets with its next entry, and what it is to stop for otherwise.
//!
//! One event at most goes in with an entry. In order (AMD APM vol. 2, 8.5 and 15.20; Intel SDM vol. 3, "Priority Among
//! Concurrent Events"): what is chosen already (an event whose delivery was interrupted, an exception of an emulated
//! instruction), NMI, the event channels' interrupt, the local APIC's. There is no PIC.
//!
//! The event channels' interrupt (`HVM_PARAM_CALLBACK_IRQ` of type vector, hvm/params.h) passes the local APIC by: it
//! has no IRR, no priority and no EOI, and comes again as long as the guest leaves `evtchn_upcall_pending` set. One that
//! was asked for with `HVMOP_set_evtchn_upcall_vector` is an interrupt of the local APIC like any other.

/// State of a vCPU as far as delivery depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// The next entry has an event already.
    pub occupied: bool,
    /// A non-maskable interrupt waits.
    pub nmi: bool,
    /// The guest is in an NMI handler that has not ended by IRET.
    pub nmi_masked: bool,
    /// The instruction before was STI or loaded SS: nothing interrupts after it.
    pub shadow: bool,
    /// RFLAGS.IF.
    pub interrupts_enabled: bool,
    /// The event channels' interrupt is due: [`upcall_vector`].
    pub upcall: Option<u8>,
    /// [`super::lapic::Lapic::pending`].
    pub lapic: Option<u8>,
    /// [`super::lapic::Lapic::blocked_by_task`] is not `None`.
    pub blocked_by_task: bool,
}

/// Where an event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The non-maskable interrupt: it no longer waits, and NMIs are masked.
    Nmi,
    /// The event channels, with this vector. Nothing is acknowledged.
    Upcall(u8),
    /// The local APIC, which is to [`super::lapic::Lapic::acknowledge`] this vector.
    Lapic(u8),
}

/// What the vCPU is to stop for, so that a waiting NMI gets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmiWindow {
    /// Nothing.
    Closed,
    /// The IRET that ends the NMI handler.
    Iret,
    /// The end of the interrupt shadow, or of the delivery that goes in: the next instruction boundary.
    Boundary,
}

/// What is done before the next entry.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Goes in.
    pub inject: Option<Source>,
    /// Stop as soon as the guest can take an interrupt, whatever the task's priority.
    pub interrupt_window: bool,
    /// Stop for an NMI.
    pub nmi_window: NmiWindow,
    /// Stop when the guest lowers CR8, if it can do so without an exit.
    pub watch_task_priority: bool,
}

impl Situation {
    fn maskable(&self) -> Option<Source> {
        let upcall = self.upcall.map(Source::Upcall);
        upcall.or(self.lapic.map(Source::Lapic))
    }

    /// Whether something would go in if the instruction before were not STI, or a load of SS.
    #[must_use]
    pub fn is_held_by_shadow(&self) -> bool {
        let free = !self.occupied && self.interrupts_enabled;
        free && self.shadow && self.maskable().is_some()
    }

    /// Decides.
    pub fn decide(&self) -> Decision {
        let free = !self.occupied && !self.shadow;
        let nmi_due = self.nmi && !self.nmi_masked;
        let inject = if free && nmi_due {
            Some(Source::Nmi)
        } else if free && self.interrupts_enabled {
            self.maskable()
        } else {
            None
        };
        // What waits behind the one that goes in, be it of the same kind, gets in when the handler allows.
        let left = match inject {
            Some(Source::Upcall(_)) => self.lapic.is_some(),
            Some(Source::Lapic(_)) => false,
            Some(Source::Nmi) | None => self.maskable().is_some(),
        };
        Decision {
            inject,
            interrupt_window: left,
            nmi_window: match (self.nmi, self.nmi_masked) {
                (false, _) => NmiWindow::Closed,
                (true, true) => NmiWindow::Iret,
                (true, false) if inject == Some(Source::Nmi) => NmiWindow::Closed,
                (true, false) => NmiWindow::Boundary,
            },
            watch_task_priority: self.blocked_by_task,
        }
    }

    /// Whether a vCPU that executed HLT goes on. A shadow does not count: HLT was the instruction in it.
    #[must_use]
    pub fn wakes(&self) -> bool {
        let nmi = self.nmi && !self.nmi_masked;
        self.occupied || nmi || self.interrupts_enabled && self.maskable().is_some()
    }
}

/// Type of `HVM_PARAM_CALLBACK_IRQ`, its top byte: bits 7:0 are a vector (hvm/params.h).
pub const CALLBACK_TYPE_VECTOR: u8 = 2;

/// The vector that is due: the parameter `callback_irq` names one, and `evtchn_upcall_pending` is set in the vCPU's
/// `vcpu_info`. Its `evtchn_upcall_mask` is for PV guests: here RFLAGS.IF masks, and nothing would clear it.
#[must_use]
pub fn upcall_vector(callback_irq: u64, pending: bool) -> Option<u8> {
    let by_vector = callback_irq >> 56 == u64::from(CALLBACK_TYPE_VECTOR);
    (by_vector && pending).then_some(callback_irq as u8)
}

#[cfg(test)]
mod tests;
