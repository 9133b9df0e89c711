//! Everything that a PV vCPU is while it does not run: registers, trap table, callbacks, segments,
//! page-table roots. The CPU that runs the vCPU takes it out of the vCPU and owns it until it saves.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use xen_abi::arch_x86::FLAT_KERNEL_CS;
use xen_abi::errno::Errno;

use super::frame::GuestFrame;
use crate::base::Mfn;
use crate::cpuid::xstate::LEGACY_FPU;
pub use crate::cpuid::xstate::{FpuLine, reset_fpu};
use crate::mm::pins::{OwedPuts, Roots};
use crate::time::Clock;

/// Pages of a guest's GDT (the rest of the 16 is ours: FIRST_RESERVED_GDT_PAGE).
pub const GDT_PAGES: usize = 14;
/// Pages of the largest LDT: 8192 entries.
pub const LDT_PAGES: usize = 16;

/// Which of its two modes a 64-bit PV guest is in; both run at CPL 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The guest's kernel: may make hypercalls, kernel root loaded.
    Kernel,
    /// The guest's user programs: user root loaded.
    User,
}

/// DR0 to DR7 at reset: no breakpoint (AMD APM vol. 2, 13.1.1).
pub const RESET_DEBUG: [u64; 8] = [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400];
/// CR0 of every PV guest: paging, write protection, alignment checks possible, native FPU errors.
pub const GUEST_CR0: u64 = 0x8005_0033;
/// CR0.TS.
pub const CR0_TASK_SWITCHED: u64 = 1 << 3;
/// CR4 (AMD APM vol. 2, 3.1.3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr4 {
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const OSXSAVE: u64 = 1 << 18;
}

/// CR4 bits that every PV guest sees set.
pub const FIXED_CR4: u64 = cr4::PAE | cr4::MCE | cr4::OSFXSR | cr4::OSXMMEXCPT;
/// CR4 bits that a PV guest may choose.
pub const GUEST_CR4: u64 = cr4::TSD | cr4::DE | cr4::FSGSBASE | cr4::OSXSAVE;

/// A handler in the guest's kernel for one vector (`trap_info`).
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapEntry {
    /// Address of the handler; 0: none.
    pub address: u64,
    /// Code selector.
    pub cs: u16,
    /// DPL in bits 0-1; bit 2 (TI_IF): events are masked on entry.
    pub flags: u8,
}

/// A callback of the guest (callback_op).
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback {
    /// Address; 0: none.
    pub address: u64,
    /// Whether events are masked on entry.
    pub masks_events: bool,
}

/// All callbacks.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "CALLBACKTYPE_* of xen/callback.h")]
pub struct Callbacks {
    pub event: Callback,
    pub failsafe: Callback,
    pub syscall: Callback,
    pub syscall32: Callback,
    pub sysenter: Callback,
}

/// The vector of NMIs in the trap table: what callback_op and nmi_op register is the entry there.
pub const NMI_VECTOR: u8 = 2;

/// Which I/O ports the guest's programs may use without the I/O privilege (PHYSDEVOP_set_iobitmap).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortBitmap {
    /// Where the guest's kernel has the bits, one for each port; a clear bit allows.
    pub address: u64,
    /// Number of bits; the ports above are denied.
    pub ports: u32,
}

/// Bases of FS and of the two GS.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "named by what they hold")]
pub struct SegmentBases {
    pub fs: u64,
    pub gs_kernel: u64,
    pub gs_user: u64,
}

/// State of a PV vCPU at rest.
pub struct PvState {
    /// General registers and the frame.
    pub regs: GuestFrame,
    /// Kernel or user.
    pub mode: Mode,
    /// Trap handlers by vector.
    pub traps: Box<[TrapEntry]>,
    /// Callbacks.
    pub callbacks: Callbacks,
    /// Stack of the guest's kernel for entries from user mode.
    pub kernel_sp: u64,
    /// Its stack selector.
    pub kernel_ss: u64,
    /// Segment bases.
    pub bases: SegmentBases,
    /// Frames of the GDT, each held as a descriptor page.
    pub gdt_frames: [Option<Mfn>; GDT_PAGES],
    /// Entries in the GDT.
    pub gdt_entries: u32,
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Entries in the LDT.
    pub ldt_entries: u32,
    /// LDT pages mapped so far, each held as a descriptor page.
    pub ldt_frames: [Option<Mfn>; LDT_PAGES],
    /// Page-table roots of the guest's kernel and of its user programs.
    pub roots: Roots,
    /// References whose dropping was interrupted; finished before anything else with page tables.
    pub owed_puts: OwedPuts,
    /// DR0-DR3, DR6, DR7 as the guest set them.
    pub debug: [u64; 8],
    /// Address bits that breakpoints 0 to 3 ignore, on AMD CPUs that have such masks.
    pub debug_masks: [u32; 4],
    /// Its TSC, where it is not the host's. Taken from the domain when the vCPU is loaded.
    pub tsc: Option<Clock>,
    /// CR0.TS as the guest sees it.
    pub task_switched: bool,
    /// Guest's view of CR4 bits that it may choose.
    pub cr4: u64,
    /// The I/O privilege that the guest asked for (PHYSDEVOP_set_iopl).
    pub iopl: u8,
    /// Where its kernel sees and sets that.
    pub iopl_place: IoplPlace,
    /// Ports that it allows beside that.
    pub port_bitmap: PortBitmap,
    /// Whether an NMI is being handled: the next waits for its IRET.
    pub nmi_masked: bool,
    /// XCR0 that the guest chose; 0: it has chosen none, and has all that the machine lets it.
    pub xcr0: u64,
    /// FPU image; its length is fixed by the machine.
    pub fpu: Vec<FpuLine>,
}

/// How a guest's kernel deals with its I/O privilege.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoplPlace {
    /// By hypercall; the flags say 0, and the kernel counts as ring 1.
    #[default]
    Hypercall,
    /// In the flags of its frames, as ring 0 (VMASST_TYPE_architectural_iopl).
    Flags,
}

/// A state on the heap. `Box::new` would abort where memory has run out, hence the detour by a vector.
pub struct StateBox<T = PvState>(Box<[T; 1]>);

impl<T> StateBox<T> {
    /// Puts a state on the heap.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(state: T) -> Result<Self, Errno> {
        filled_once(state).map(Self)
    }
}

impl<T> Deref for StateBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T> DerefMut for StateBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

/// `count` copies of a value.
///
/// # Errors
/// `ENOMEM`.
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, Errno> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.resize(count, value);
    Ok(list)
}

/// The value alone on the heap, or `ENOMEM`.
fn filled_once<T>(value: T) -> Result<Box<[T; 1]>, Errno> {
    let mut cell = Vec::new();
    cell.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
    cell.push(value);
    cell.into_boxed_slice()
        .try_into()
        .map_err(|_| Errno::ENOMEM)
}

impl PvState {
    /// A vCPU with everything zero, in kernel mode; `fpu_lines` 64-byte lines of FPU image.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn at_reset(fpu_lines: usize) -> Result<StateBox, Errno> {
        let mut fpu = filled(FpuLine([0; 64]), fpu_lines)?;
        reset_fpu(&mut fpu);
        let state = Self {
            regs: GuestFrame::default(),
            mode: Mode::Kernel,
            traps: filled(TrapEntry::default(), 256)?.into_boxed_slice(),
            callbacks: Callbacks::default(),
            kernel_sp: 0,
            kernel_ss: 0,
            bases: SegmentBases::default(),
            gdt_frames: [None; GDT_PAGES],
            gdt_entries: 0,
            ldt_base: 0,
            ldt_entries: 0,
            ldt_frames: [None; LDT_PAGES],
            roots: Roots::default(),
            owed_puts: OwedPuts::new(),
            debug: RESET_DEBUG,
            debug_masks: [0; 4],
            tsc: None,
            task_switched: false,
            cr4: 0,
            iopl: 0,
            iopl_place: IoplPlace::default(),
            port_bitmap: PortBitmap::default(),
            nmi_masked: false,
            xcr0: 0,
            fpu,
        };
        StateBox::new(state)
    }

    /// CR0 and CR4 as the guest sees them.
    #[must_use]
    pub const fn controls(&self) -> (u64, u64) {
        let task_switched = if self.task_switched {
            CR0_TASK_SWITCHED
        } else {
            0
        };
        (GUEST_CR0 | task_switched, FIXED_CR4 | self.cr4 & GUEST_CR4)
    }

    /// Takes over what a guest may choose of CR0 and CR4.
    pub const fn set_controls(&mut self, cr0: u64, cr4: u64) {
        self.task_switched = cr0 & CR0_TASK_SWITCHED != 0;
        self.cr4 = cr4 & GUEST_CR4;
    }

    /// Takes over the XCR0 that the guest chose; `all` is what the machine has. With that it need not be loaded at
    /// each switch.
    pub const fn choose_xcr0(&mut self, xcr0: u64, all: u64) {
        self.xcr0 = if xcr0 == all { 0 } else { xcr0 };
    }

    /// Replaces the FPU state by an image of FXSAVE that passed [`takes_fpu`](crate::cpuid::xstate::takes_fpu); components beyond are as at reset,
    /// but for the image that is there already: then nothing changes. Tools that change one register of a vCPU bring
    /// back what they were told.
    pub fn set_fpu(&mut self, image: &[u8; LEGACY_FPU]) {
        if *image == self.fpu_legacy() {
            return;
        }
        self.fpu.fill(FpuLine([0; 64]));
        let (lines, _) = image.as_chunks();
        for (to, from) in self.fpu.iter_mut().zip(lines) {
            to.0 = *from;
        }
        // The header that XSAVE has: x87 and SSE are there.
        if let Some(header) = self.fpu.get_mut(LEGACY_FPU / 64) {
            header.0[0] = 0b11;
        }
    }

    /// What FXSAVE would write.
    #[must_use]
    pub fn fpu_legacy(&self) -> [u8; LEGACY_FPU] {
        let mut image = [0; LEGACY_FPU];
        let (lines, _) = image.as_chunks_mut();
        for (to, from) in lines.iter_mut().zip(&self.fpu) {
            *to = from.0;
        }
        image
    }

    /// Makes the handler of NMIs another; address 0: none.
    pub fn set_nmi_handler(&mut self, address: u64) {
        self.traps[usize::from(NMI_VECTOR)] = TrapEntry {
            address,
            cs: FLAT_KERNEL_CS,
            flags: 0,
        };
    }

    /// Whether an NMI can be delivered now: there is a handler, which is not dealing with one.
    #[must_use]
    pub fn takes_nmi(&self) -> bool {
        !self.nmi_masked && self.traps[usize::from(NMI_VECTOR)].address != 0
    }

    /// The root that belongs in CR3 in the present mode.
    #[must_use]
    pub fn active_root(&self) -> Option<Mfn> {
        match self.mode {
            Mode::Kernel => self.roots.kernel,
            Mode::User => self.roots.user,
        }
    }
}

/// Makes a code or stack selector from a guest one that runs at CPL 3.
#[must_use]
pub const fn ring3(selector: u64) -> u64 {
    (selector & 0xffff) | 3
}

/// The code selector to use where the guest's kernel gave none.
pub const DEFAULT_KERNEL_CS: u64 = FLAT_KERNEL_CS as u64;
