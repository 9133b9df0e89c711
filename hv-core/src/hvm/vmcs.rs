//! The VMCS: Intel's control block of one vCPU (Intel SDM vol. 3, "Virtual-Machine Control Structures"), as a
//! [`Processor`].
//!
//! What is where:
//! - in the VMCS, through [`fields::Fields`], what the processor loads with an entry and stores with an exit;
//! - beside it what is the guest's view only ([`Shadow`]): CR0 (caching stays on, CD and NW are the guest's view; NE is always on), CR4
//!   (MCE and VMXE are always on), EFER, PAT (the nested tables say how memory is cached), and what a VMCS has no place for:
//!   CR2, DR6 and the MSRs of SYSCALL, which are loaded with the vCPU and stay until it is saved.
//!
//! The guest reads CR0 and CR4 without an exit (the shadows are in the VMCS too) and leaves only for writes that change
//! something. It writes no MSR of SYSCALL without an exit but KERNEL_GS_BASE, which SWAPGS changes: that one is read
//! from the CPU while the vCPU is loaded.
//!
//! One run is: [`Vmcs::prepare`], [`Vmcs::load_frame`], VMLAUNCH or VMRESUME, [`Vmcs::left`], [`Vmcs::store_frame`];
//! `hw/vmx.rs` does all of it.

pub mod checks;
pub mod exits;
pub mod fields;
pub mod layout;
mod processor;
pub mod segments;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};

use super::asid::{Asids, Ticket};
use super::controls;
use super::exit::Exit;
use super::processor::{Event, EventKind, INTERCEPTED_EXCEPTIONS, Intercept, Processor, RESET_PAT};
use super::registers::FLAGS;
use super::vmx_facts::{Pin, Primary, Secondary, VmxFacts};
use crate::base::{CpuId, Mfn, PhysAddr};
use crate::cpuid::msr::index;
use crate::mm::p2m::eptp;
use crate::pv::frame::{GuestFrame, rflags};

use fields::{Fields, Ports};
use layout::{ENTRY_FAILED, Field, event};

/// A page of ours as the words that it is.
pub type Words = [AtomicU64; 512];

/// No VMCS is linked.
const NO_LINK: u64 = u64::MAX;
/// In the virtual APIC's page, the word with the task priority: bits 7:4 of the byte at 0x80.
const TASK_PRIORITY: usize = 0x80 / 8;
/// PAUSEs that are less ticks apart are one loop, and a loop that is longer makes the guest leave.
const PAUSE_GAP: u64 = 128;
const PAUSE_WINDOW: u64 = 4096;
/// No run takes more ticks of the TSC than this, be the guest's interrupts on or off. An interrupt of the machine ends a run in any
/// case; but Bochs 2.7 keeps it from a guest that was entered with interrupts off, for as long as it leaves them off: vCPUs that
/// wait for each other would never be changed.
const LONGEST_RUN: u64 = 1 << 22;
/// The length of the instruction whose event is given again after it was done.
const SOFTWARE_LENGTH: u64 = 1;

/// Registers as the guest sees them where a VMCS holds something else, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shadow {
    cr0: u64,
    cr2: u64,
    cr4: u64,
    dr6: u64,
    efer: u64,
    pat: u64,
    rax: u64,
    guarded: [u64; GUARDED],
}

/// MSRs that are the guest's while its vCPU is loaded.
pub const GUARDED: usize = 5;

/// Their numbers: STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
pub const GUARDED_MSRS: [u32; GUARDED] = [
    index::STAR,
    index::LSTAR,
    index::CSTAR,
    index::SFMASK,
    index::KERNEL_GS_BASE,
];

/// The place of KERNEL_GS_BASE, which the guest changes without an exit.
const KERNEL_GS: usize = 4;

/// What all VMCS of a machine have in common.
#[derive(Clone, Copy)]
pub struct Common {
    /// What the processors offer, and the controls that follow from it.
    pub facts: VmxFacts,
    /// The map of MSRs that guests use without an exit ([`super::vmx_maps::msr_map`]).
    pub msr_map: PhysAddr,
    /// The processor.
    pub ports: &'static dyn Ports,
}

impl Common {
    /// Whether each vCPU needs a second page, for its task priority.
    #[must_use]
    pub fn wants_task_page(&self) -> bool {
        self.facts.controls.primary.contains(Primary::TPR_SHADOW)
    }
}

impl core::fmt::Debug for Common {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Common")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// One vCPU's VMCS and what belongs to it.
pub struct Vmcs {
    fields: Fields,
    common: Common,
    /// The virtual APIC's page, where the processor has use for one: only the task priority is looked at.
    task: Option<(Mfn, &'static Words)>,
    shadow: Shadow,
    /// The priority where there is no such page.
    priority: u8,
    ticket: Ticket,
    /// The event that goes in with the next entry.
    event: Option<Event>,
    /// Whether a handler of an NMI runs.
    nmi_masked: bool,
    /// The instruction that held interrupts back is passed, which the VMCS does not say yet.
    shadow_ended: bool,
    /// The vCPU is on a CPU: its VMCS is current there.
    loaded: bool,
    /// The processor has entered the guest since the VMCS was made current: VMRESUME, not VMLAUNCH.
    launched: bool,
    exit: Exit,
    host_rsp: u64,
    /// The guest's rsp is in the VMCS only, not in the frame.
    rsp_is_left: bool,
    /// The registers were changed in a way that the four entries above PAE's tables are to be loaded again.
    directories_are_stale: bool,
}

impl Vmcs {
    /// Makes a VMCS in a page of ours, which the vCPU keeps, as a vCPU is after a reset. It lacks the nested root. `task`: another page,
    /// where [`VmxFacts`] wants a virtual APIC's.
    #[must_use]
    pub fn new(
        (block, words): (Mfn, &'static Words),
        task: Option<(Mfn, &'static Words)>,
        common: Common,
    ) -> Self {
        words[0].store(common.facts.revision.into(), Ordering::Relaxed);
        common.ports.clear(block);
        let mut new = Self {
            fields: Fields::new(block, common.ports),
            common,
            task,
            shadow: Shadow {
                cr0: 0,
                cr2: 0,
                cr4: 0,
                dr6: 0,
                efer: 0,
                pat: RESET_PAT,
                rax: 0,
                guarded: [0; GUARDED],
            },
            priority: 0,
            ticket: Ticket::default(),
            event: None,
            nmi_masked: false,
            shadow_ended: false,
            loaded: false,
            launched: false,
            exit: Exit::Interrupt,
            host_rsp: 0,
            rsp_is_left: false,
            directories_are_stale: false,
        };
        new.set_up_controls();
        new.reset();
        new
    }

    /// The page.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.fields.block()
    }

    /// The virtual APIC's page.
    #[must_use]
    pub fn task_page(&self) -> Option<Mfn> {
        self.task.map(|(page, _)| page)
    }

    /// What every guest leaves for, and the rest that stays.
    fn set_up_controls(&mut self) {
        let controls = self.common.facts.controls;
        let f = &self.fields;
        for (field, value) in [
            (Field::PinControls, u64::from(controls.pin.bits())),
            (Field::PrimaryControls, controls.primary.bits().into()),
            (Field::SecondaryControls, controls.secondary.bits().into()),
            (Field::ExitControls, controls.exit.bits().into()),
            (Field::EntryControls, controls.entry.bits().into()),
            (Field::ExceptionBitmap, INTERCEPTED_EXCEPTIONS.into()),
            (Field::PageFaultMask, 0),
            (Field::PageFaultMatch, 0),
            (Field::Cr3TargetCount, 0),
            (Field::ExitMsrStoreCount, 0),
            (Field::ExitMsrLoadCount, 0),
            (Field::EntryMsrLoadCount, 0),
            (Field::EntryEvent, 0),
            (Field::TscOffset, 0),
            (Field::MsrBitmap, self.common.msr_map.0),
            (Field::VmcsLink, NO_LINK),
            (Field::DebugCtl, 0),
            (Field::Activity, 0),
            (Field::Interruptibility, 0),
            (Field::PendingDebug, 0),
            // All bits are ours: what the guest reads is its shadow.
            (Field::Cr0Mask, u64::MAX),
            (Field::Cr4Mask, u64::MAX),
        ] {
            f.set(field, value);
        }
        if let Some((page, _)) = self.task {
            f.set(Field::VirtualApic, page.addr().0);
            f.set(Field::TprThreshold, 0);
        }
        if self.has(Secondary::PAUSE_LOOP_EXITING) {
            f.set(Field::PauseLoopGap, PAUSE_GAP);
            f.set(Field::PauseLoopWindow, PAUSE_WINDOW);
        }
        if controls.pin.contains(Pin::PREEMPTION_TIMER) {
            // Each entry begins with it anew.
            let ticks = LONGEST_RUN >> self.common.facts.timer_shift;
            f.set(Field::PreemptionTimer, ticks.max(1));
        }
        if self.has(Secondary::XSAVES) {
            // XSS is zero for all.
            f.set(Field::XssExitBitmap, 0);
        }
        self.intercept(Intercept::DebugRegisters, true);
        self.intercept(Intercept::Pause, true);
    }

    /// The vCPU comes onto a CPU, where its VMCS is current from now on: its MSRs are put into the CPU.
    pub fn loaded(&mut self) {
        self.loaded = true;
        self.launched = false;
        for (msr, value) in GUARDED_MSRS.iter().zip(self.shadow.guarded) {
            self.common.ports.write_msr(*msr, value);
        }
    }

    /// The vCPU goes from the CPU. Its VMCS is still current; the caller clears it and puts the CPU's own MSRs back.
    pub fn parked(&mut self) {
        self.shadow.guarded[KERNEL_GS] = self.common.ports.read_msr(index::KERNEL_GS_BASE);
        self.loaded = false;
        self.launched = false;
    }

    /// A field of the host's state, for the CPU on which the VMCS is current.
    pub fn set_host(&mut self, field: Field, value: u64) {
        self.fields.set(field, value);
    }

    /// Gets everything ready for an entry on this CPU but the registers of the frame. Interrupts are off, and nothing
    /// but the entry may come after. Whether all that the CPU knows of guests' translations goes first.
    pub fn prepare(&mut self, asids: &Asids, cpu: CpuId) -> bool {
        let (ticket, flush) = asids.ticket(&self.ticket, cpu);
        self.ticket = ticket;
        if self.has_tags() {
            self.fields.set(Field::Vpid, ticket.asid().into());
        }
        flush
    }

    /// The registers that are in the frame too, and the event that goes in.
    pub fn load_frame(&mut self, regs: &GuestFrame) {
        let flags = regs.rflags & FLAGS | rflags::FIXED;
        let were = self.fields.get(Field::Rflags);
        // Neither a step of one instruction nor interrupts that are off by now go with a shadow that is over.
        if self.shadow_ended
            && (self.event.is_some() || flags & rflags::TF != 0 || were & !flags & rflags::IF != 0)
        {
            self.end_shadow();
        }
        self.shadow_ended = false;
        let f = &self.fields;
        f.set(Field::Rip, regs.rip);
        if !self.rsp_is_left {
            f.set(Field::Rsp, regs.rsp);
        }
        f.set(Field::Rflags, flags);
        let Some(given) = self.event else { return };
        let protected = self.shadow.cr0 & controls::cr0::PE != 0;
        let (word, error) = exits::encode(given, protected);
        f.set(Field::EntryEvent, word);
        if word & event::HAS_ERROR != 0 {
            f.set(Field::EntryErrorCode, error);
        }
        if given.kind == EventKind::SoftwareInterrupt {
            // It returns to behind an instruction of so many bytes; the frame is there already.
            f.set(Field::EntryInstructionLength, SOFTWARE_LENGTH);
            f.set(Field::Rip, regs.rip.wrapping_sub(SOFTWARE_LENGTH));
        }
    }

    /// The CPU is back from the guest.
    pub fn left(&mut self, asids: &Asids) {
        self.fields.ran();
        let reason = self.fields.get(Field::ExitReason) as u32;
        self.exit = exits::decode(reason, |field| self.fields.get(field));
        if reason & ENTRY_FAILED != 0 {
            return;
        }
        asids.entered();
        self.launched = true;
        self.event = None;
        if exits::unmasked_by_iret(&self.exit, |field| self.fields.get(field)) {
            self.set_nmi_masked(true);
        }
        if let Exit::Exception { vector: 1, .. } = self.exit {
            let met = self.fields.get(Field::Qualification);
            self.shadow.dr6 = exits::debug_status(self.shadow.dr6, met);
        }
    }

    /// The CPU refused to run it at all (VMfail); why, as a number (Intel SDM vol. 3, "VM Instruction Error Numbers").
    pub fn failed(&mut self) -> u64 {
        self.fields.refused();
        self.exit = Exit::Invalid;
        self.fields.get(Field::InstructionError)
    }

    /// The registers after an exit. A hypercall has no use for rsp, which stays where it is until [`Processor::complete_frame`].
    pub fn store_frame(&mut self, regs: &mut GuestFrame) {
        regs.rip = self.fields.get(Field::Rip);
        regs.rflags = self.fields.get(Field::Rflags);
        self.rsp_is_left = self.exit == Exit::Hypercall;
        if !self.rsp_is_left {
            regs.rsp = self.fields.get(Field::Rsp);
        }
    }

    /// CR2 as it is to be in the CPU with the entry.
    #[must_use]
    pub const fn cr2(&self) -> u64 {
        self.shadow.cr2
    }

    /// CR2 as the guest left it.
    pub const fn keep_cr2(&mut self, value: u64) {
        self.shadow.cr2 = value;
    }

    /// What the VMCS has as the host's rsp, for the entry to compare and to keep.
    pub const fn host_rsp(&mut self) -> &mut u64 {
        &mut self.host_rsp
    }

    /// Whether the guest's translations have tags.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.has(Secondary::VPID)
    }

    /// What in the guest's state the processor refuses; addresses have so many bits.
    #[must_use]
    pub fn violation(&self, address_bits: u8) -> Option<checks::Violation> {
        let facts = &self.common.facts;
        checks::first_violation(
            |field| self.fields.get(field),
            address_bits,
            facts.cr0_fixed(),
            facts.cr4_fixed(),
        )
    }

    /// Whether the next entry is a VMRESUME.
    #[must_use]
    pub const fn is_launched(&self) -> bool {
        self.launched
    }

    /// The instruction that held interrupts back is behind: the VMCS is told.
    fn end_shadow(&mut self) {
        use layout::interruptibility::{MOV_SS, STI};
        self.fields
            .switch(Field::Interruptibility, STI | MOV_SS, false);
    }

    fn has(&self, what: Secondary) -> bool {
        self.common.facts.controls.secondary.contains(what)
    }

    /// LMA as LME and paging make it.
    fn long_mode_active(&self) -> u64 {
        controls::long_mode_active(self.shadow.cr0, self.shadow.efer)
    }
}
