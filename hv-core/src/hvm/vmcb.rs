//! The VMCB: AMD's control block of one vCPU (AMD APM vol. 2, 15.5 and appendix B), as a [`Processor`].
//!
//! What is the guest's view and not the hardware's stands beside the page, in [`Shadow`]: CR0 (caching stays on, so CD
//! and NW are the guest's view only), CR4 (MCE is always on: a machine check is ours), EFER (SVME is always on while a
//! guest runs) and PAT (memory of guests is write-back; the nested tables say what is not). All writes of CR0, CR4,
//! EFER and PAT leave the guest, so the shadows are right at any time; CR3, CR2, DR6, DR7 and the rest are what the page
//! says after an exit.
//!
//! DR0 to DR3 are not in a VMCB: while the debug registers are intercepted ([`Intercept::DebugRegisters`]) the guest has
//! none; whoever lets it have them loads and saves those four around the entry.
//!
//! One entry is: [`Vmcb::prepare`] (the tag, what the CPU may keep), [`Vmcb::load_frame`], VMRUN, [`Vmcb::left`],
//! [`Vmcb::store_frame`]; `hw/svm.rs` does all of it.

pub mod exits;
pub mod layout;
pub mod maps;
mod page;
mod processor;
#[cfg(test)]
mod tests;

use crate::base::{CpuId, Mfn, PhysAddr};
use crate::pv::frame::GuestFrame;

use super::asid::{Asids, Ticket};
use super::controls::{self, stale};
use super::processor::{
    INTERCEPTED_EXCEPTIONS, Intercept, Processor, RESET_PAT, Register, SegmentName,
};
use super::svm_facts::Features;

use layout::{clean, control, cr0, cr4, efer, fifth, fourth, interrupt, save, third};
use page::Page;
pub use page::Words;

/// A guest's memory is write-back (AMD APM vol. 2, 7.8.2): type 6 in all entries.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;

/// PAUSEs in a row that make a guest leave, and cycles between two of them that begin a new row.
const PAUSE_COUNT: u32 = 3000;
const PAUSE_THRESHOLD: u32 = 128;

/// Registers as the guest sees them where the hardware holds something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shadow {
    cr0: u64,
    cr4: u64,
    efer: u64,
    pat: u64,
}

/// The permission maps of all guests.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Of ports ([`maps::port_map`]).
    pub ports: PhysAddr,
    /// Of MSRs ([`maps::msr_map`]).
    pub msrs: PhysAddr,
}

/// One vCPU's VMCB and what belongs to it.
pub struct Vmcb {
    mfn: Mfn,
    page: Page,
    features: Features,
    shadow: Shadow,
    /// What has not changed since the CPU last had it.
    clean: u32,
    /// On which CPU, and which of its starts, that was.
    cached: Option<(CpuId, u32)>,
    ticket: Ticket,
    nmi_masked: bool,
}

impl Vmcb {
    /// Makes a VMCB in a page of ours, which the vCPU keeps, as a vCPU is after a reset. It lacks the nested root.
    #[must_use]
    pub fn new(mfn: Mfn, words: &'static Words, shared: Maps, features: Features) -> Self {
        let mut new = Self {
            mfn,
            page: Page(words),
            features,
            shadow: Shadow {
                cr0: 0,
                cr4: 0,
                efer: 0,
                pat: RESET_PAT,
            },
            clean: 0,
            cached: None,
            ticket: Ticket::default(),
            nmi_masked: false,
        };
        for word in words {
            word.store(0, core::sync::atomic::Ordering::Relaxed);
        }
        new.set_up_control(shared);
        new.reset();
        new
    }

    /// The page, for VMRUN.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// What every guest leaves for, and the rest that stays.
    fn set_up_control(&mut self, shared: Maps) {
        let p = self.page;
        // Reads too: the guest's own values are the shadows.
        let of_both = |registers: u32| registers | registers << 16;
        p.set32(control::INTERCEPT_CR, of_both(1 << 0 | 1 << 4));
        p.set32(control::INTERCEPT_EXCEPTIONS, INTERCEPTED_EXCEPTIONS);
        p.set32(
            control::INTERCEPT_THIRD,
            third::INTR
                | third::NMI
                | third::SMI
                | third::INIT
                | third::RDPMC
                | third::CPUID
                | third::INVD
                | third::HLT
                | third::INVLPGA
                | third::IOIO
                | third::MSR
                | third::TASK_SWITCH
                | third::SHUTDOWN,
        );
        p.set32(
            control::INTERCEPT_FOURTH,
            fourth::VMRUN
                | fourth::VMMCALL
                | fourth::VMLOAD
                | fourth::VMSAVE
                | fourth::STGI
                | fourth::CLGI
                | fourth::SKINIT
                | fourth::WBINVD
                | fourth::MONITOR
                | fourth::MWAIT
                | fourth::XSETBV
                | fourth::RDPRU,
        );
        p.set32(
            control::INTERCEPT_FIFTH,
            fifth::INVLPGB | fifth::INVLPGB_ILLEGAL | fifth::MCOMMIT | fifth::TLBSYNC,
        );
        p.set(control::IOPM_BASE, shared.ports.0);
        p.set(control::MSRPM_BASE, shared.msrs.0);
        p.set(control::VIRTUAL_INTERRUPT, interrupt::V_INTR_MASKING);
        p.set(control::NESTED_PAGING, 1);
        p.set(save::PAT, ALL_WRITE_BACK);
        self.intercept(Intercept::DebugRegisters, true);
        self.intercept(Intercept::Pause, true);
    }

    /// Gets everything ready for an entry on this CPU but the registers of the frame. Interrupts are off, and nothing
    /// but the entry may come after.
    pub fn prepare(&mut self, asids: &Asids, cpu: CpuId) {
        let (ticket, flush) = asids.ticket(&self.ticket, cpu);
        self.ticket = ticket;
        self.set_asid(ticket.asid(), flush);
        let here = Some((cpu, asids.starts()));
        if self.cached != here {
            self.cached = here;
            self.clean = 0;
        }
        let keeps = self.features.contains(Features::CLEAN);
        self.page
            .set32(control::CLEAN, if keeps { self.clean } else { 0 });
    }

    /// The registers that are in the frame too, for the entry.
    pub fn load_frame(&mut self, regs: &GuestFrame) {
        let p = self.page;
        p.set(save::RIP, regs.rip);
        p.set(save::RSP, regs.rsp);
        p.set(save::RFLAGS, regs.rflags);
        p.set(save::RAX, regs.rax);
        // An injected `INT n` returns to there (AMD APM vol. 2, 15.20).
        p.set(control::NEXT_RIP, regs.rip);
    }

    /// The same after the exit.
    pub fn store_frame(&self, regs: &mut GuestFrame) {
        let p = self.page;
        regs.rip = p.get(save::RIP);
        regs.rsp = p.get(save::RSP);
        regs.rflags = p.get(save::RFLAGS);
        regs.rax = p.get(save::RAX);
    }

    /// The CPU came back from VMRUN.
    pub fn left(&mut self, asids: &Asids) {
        if exits::is_refusal(self.page.get(control::EXIT_CODE)) {
            // Nothing was done: the event still waits, and what the CPU has of the page is not known.
            self.clean = 0;
            return;
        }
        asids.entered();
        self.clean = clean::ALL;
        self.page.set(control::EVENT_INJECTION, 0);
    }

    /// The next entry gives what was changed to the CPU.
    fn spoil(&mut self, group: u32) {
        self.clean &= !group;
    }

    /// LMA as LME and paging make it.
    fn long_mode_active(&self) -> u64 {
        controls::long_mode_active(self.shadow.cr0, self.shadow.efer)
    }

    fn put_efer(&mut self) {
        let value = self.shadow.efer & !efer::LMA | self.long_mode_active() | efer::SVME;
        self.page.set(save::EFER, value);
        self.spoil(clean::CRX);
    }

    fn write_cr0(&mut self, value: u64) {
        let changed = self.shadow.cr0 ^ value;
        self.shadow.cr0 = value;
        self.page.set(save::CR0, value & !(cr0::CD | cr0::NW));
        self.put_efer();
        if changed & stale::CR0 != 0 {
            self.forget_translations();
        }
    }

    fn write_cr4(&mut self, value: u64) {
        let changed = self.shadow.cr4 ^ value;
        self.shadow.cr4 = value;
        self.page.set(save::CR4, value | cr4::MCE);
        self.spoil(clean::CRX);
        if changed & stale::CR4 != 0 {
            self.forget_translations();
        }
    }

    fn write_efer(&mut self, value: u64) {
        let changed = self.shadow.efer ^ value;
        self.shadow.efer = value & !efer::LMA;
        self.put_efer();
        if changed & stale::EFER != 0 {
            self.forget_translations();
        }
    }
}

/// Where a register is, and what the CPU may keep that holds it; for those that are as the guest sees them.
const fn place(which: Register) -> (usize, u32) {
    match which {
        Register::Rip => (save::RIP, 0),
        Register::Rsp => (save::RSP, 0),
        Register::Rflags => (save::RFLAGS, 0),
        Register::Rax => (save::RAX, 0),
        Register::Cr0 => (save::CR0, clean::CRX),
        Register::Cr2 => (save::CR2, clean::CR2),
        Register::Cr3 => (save::CR3, clean::CRX),
        Register::Cr4 => (save::CR4, clean::CRX),
        Register::Efer => (save::EFER, clean::CRX),
        Register::Dr6 => (save::DR6, clean::DRX),
        Register::Dr7 => (save::DR7, clean::DRX),
        Register::Star => (save::STAR, 0),
        Register::Lstar => (save::LSTAR, 0),
        Register::Cstar => (save::CSTAR, 0),
        Register::Sfmask => (save::SFMASK, 0),
        Register::KernelGsBase => (save::KERNEL_GS_BASE, 0),
        Register::SysenterCs => (save::SYSENTER_CS, 0),
        Register::SysenterEsp => (save::SYSENTER_ESP, 0),
        Register::SysenterEip => (save::SYSENTER_EIP, 0),
        Register::Pat => (save::PAT, clean::NP),
        Register::TscOffset => (control::TSC_OFFSET, clean::INTERCEPTS),
    }
}

/// The same of a segment register.
const fn segment_place(which: SegmentName) -> (usize, u32) {
    match which {
        SegmentName::Es => (save::ES, clean::SEG),
        SegmentName::Cs => (save::CS, clean::SEG),
        SegmentName::Ss => (save::SS, clean::SEG),
        SegmentName::Ds => (save::DS, clean::SEG),
        SegmentName::Fs => (save::FS, 0),
        SegmentName::Gs => (save::GS, 0),
        SegmentName::Ldtr => (save::LDTR, 0),
        SegmentName::Tr => (save::TR, 0),
        SegmentName::Gdtr => (save::GDTR, clean::DT),
        SegmentName::Idtr => (save::IDTR, clean::DT),
    }
}
