//! What a hypercall handler works with.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use xen_abi::arch_x86::IretContext;
use xen_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::narrow::Overlay;
use crate::base::{CpuId, DomId};
use crate::domain::{Domain, Hypervisor, Vcpu};
use crate::hvm::state::HvmState;
use crate::mm::PtMachine;
use crate::mm::pins::OwedPuts;
use crate::pv::frame::GuestFrame;
use crate::pv::state::PvState;
use crate::sched::CpuSet;
use crate::time::Clock;

/// Arguments of a hypercall, in order (rdi, rsi, rdx, r10, r8, r9 for 64-bit callers).
pub type Args = [u64; 6];

/// What happens after a handler.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The value goes into the guest's result register.
    Return(u64),
    /// The call was preempted: the guest makes it again with these arguments.
    Restart(Args),
    /// The registers are already as the guest shall see them (iret).
    Resume,
    /// The guest broke its contract: stop that domain, for the reason just logged.
    Crash,
}

/// Success without a value.
pub const DONE: Reply = Ok(Outcome::Return(0));

/// A handler's result; an error becomes the negative errno.
pub type Reply = Result<Outcome, Errno>;

/// Which of the loaded vCPU's segment bases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the ABI (SEGBASE_*)")]
pub enum SegmentBase {
    Fs,
    GsUser,
    GsKernel,
}

/// Which CPUs and what of their TLBs to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Everything of guests, global entries too.
    All,
    /// One page.
    Page(u64),
}

/// The CPU that runs the calling vCPU, as handlers need it. Methods act on the state that is loaded;
/// the caller keeps `PvState` in step.
pub trait Host: PtMachine {
    /// Copies from the caller's address space.
    ///
    /// # Errors
    /// `EFAULT`.
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno>;
    /// Copies to the caller's address space.
    ///
    /// # Errors
    /// `EFAULT`.
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno>;
    /// [`Self::copy_in`] in place, for the few callers that are called most.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn copy_in_here(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        self.copy_in(to, from)
    }
    /// [`Self::copy_out`] in place, for the few callers that are called most.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn copy_out_here(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        self.copy_out(to, from)
    }
    /// From now on copies see this over the memory of the caller, which is in a container; `None`: nothing. Gives what
    /// was there before.
    fn lay_over(&self, overlay: Option<Overlay>) -> Option<Overlay>;
    /// Copies whole words to the caller's address space: a frame for the guest's kernel.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn store_words<const N: usize>(&self, to: u64, words: &[u64; N]) -> Result<(), Errno> {
        self.copy_out(to, words.as_bytes())
    }
    /// Copies whole words from the caller's address space: a short request.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn load_words<const N: usize>(&self, from: u64) -> Result<[u64; N], Errno> {
        let mut words = [0; N];
        self.copy_in(words.as_mut_bytes(), from)?;
        Ok(words)
    }
    /// Copies four bytes to the caller's address space.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn store_u32(&self, to: u64, value: u32) -> Result<(), Errno> {
        self.copy_out(to, value.as_bytes())
    }
    /// Copies the frame of an iret hypercall from the caller's address space.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    fn load_iret_frame(&self, from: u64) -> Result<IretContext, Errno> {
        let mut frame = IretContext::default();
        self.copy_in(frame.as_mut_bytes(), from)?;
        Ok(frame)
    }
    /// Loads a segment base.
    fn load_base(&self, which: SegmentBase, value: u64);
    /// Reads a segment base back from the hardware.
    fn read_base(&self, which: SegmentBase) -> u64;
    /// Exchanges the two GS bases, at a change between the guest's user mode and its kernel.
    fn swap_gs(&self);
    /// Loads a selector into the user's GS; `false` when the selector is bad (the null one is loaded then).
    fn load_gs_user_selector(&self, selector: u16) -> bool;
    /// Maps the GDT frames of the state into this CPU's window.
    fn load_gdt(&self, state: &PvState);
    /// Points the LDT at what the state says and forgets pages mapped before.
    fn load_ldt(&self, state: &PvState);
    /// Loads CR3 with the root of the state's mode.
    fn load_root(&self, state: &PvState);
    /// The same, and nothing of another address space stays in this CPU's TLB, global entries included.
    fn load_space(&self, state: &PvState) {
        self.load_root(state);
        self.flush_here(Flush::All);
    }
    /// Makes the hardware's breakpoints those of the state: all registers while one is enabled, none
    /// otherwise.
    fn load_debug_set(&self, state: &PvState);
    /// DR6 as the processor left it at a debug exception.
    fn debug_status(&self) -> u64;
    /// Sets or clears CR0.TS.
    fn set_task_switched(&self, on: TaskSwitched);
    /// Flushes on this CPU.
    fn flush_here(&self, what: Flush);
    /// Flushes on those CPUs of the set where the domain may have translations, and waits.
    fn flush_on(&self, cpus: &CpuSet, domain: &Domain, what: Flush);
    /// Writes back and invalidates the caches of this CPU.
    fn write_back_caches(&self);
    /// This CPU asks the scheduler before the guest goes on.
    fn reschedule_here(&self);
    /// Number of CPUs that are online.
    fn online_cpus(&self) -> CpuId;
    /// The machine's TSC as a function of system time.
    fn tsc_clock(&self) -> Clock;
    /// Lines of 64 bytes in an FPU image.
    fn fpu_lines(&self) -> usize;
}

/// CR0.TS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum TaskSwitched {
    Set,
    Clear,
}

/// The state of a caller of either kind.
pub enum AnyState<'a> {
    /// Of a PV vCPU.
    Pv(&'a mut PvState),
    /// Of a vCPU in a hardware container.
    Hvm(&'a mut HvmState),
}

impl AnyState<'_> {
    /// The state of a PV caller.
    #[must_use]
    pub fn pv(&mut self) -> Option<&mut PvState> {
        match self {
            Self::Pv(state) => Some(state),
            Self::Hvm(_) => None,
        }
    }

    /// The state of a caller in a container.
    #[must_use]
    pub fn hvm(&mut self) -> Option<&mut HvmState> {
        match self {
            Self::Pv(_) => None,
            Self::Hvm(state) => Some(state),
        }
    }

    /// References to page tables whose dropping was interrupted.
    #[inline(always)]
    pub fn owed_puts(&mut self) -> &mut OwedPuts {
        match self {
            Self::Pv(state) => &mut state.owed_puts,
            Self::Hvm(state) => &mut state.owed_puts,
        }
    }
}

/// The surroundings of a call that both kinds of guests make.
pub type AnyCtx<'a, H> = Ctx<'a, H, AnyState<'a>>;

/// One hypercall's surroundings; of a PV caller, where nothing else is said.
pub struct Ctx<'a, H: Host, S = &'a mut PvState> {
    /// All domains.
    pub hv: &'static Hypervisor,
    /// The CPU under the caller.
    pub host: &'a H,
    /// The caller's domain.
    pub domain: &'a Arc<Domain>,
    /// The caller.
    pub vcpu: &'a Vcpu,
    /// The caller's state, owned by this CPU while it runs.
    pub state: S,
    /// The caller's registers.
    pub regs: &'a mut GuestFrame,
}

impl<H: Host> Ctx<'_, H> {
    /// As calls see it that others may make as well.
    #[inline(always)]
    #[must_use]
    pub fn any(&mut self) -> AnyCtx<'_, H> {
        Ctx {
            hv: self.hv,
            host: self.host,
            domain: self.domain,
            vcpu: self.vcpu,
            state: AnyState::Pv(self.state),
            regs: self.regs,
        }
    }
}

impl<H: Host> Ctx<'_, H, &mut HvmState> {
    /// As calls see it that others may make as well.
    #[must_use]
    pub fn any(&mut self) -> AnyCtx<'_, H> {
        Ctx {
            hv: self.hv,
            host: self.host,
            domain: self.domain,
            vcpu: self.vcpu,
            state: AnyState::Hvm(self.state),
            regs: self.regs,
        }
    }
}

impl<H: Host> AnyCtx<'_, H> {
    /// As calls see it that only PV guests make; `None` for another caller.
    #[inline(always)]
    #[must_use]
    pub fn pv(&mut self) -> Option<Ctx<'_, H>> {
        let state = self.state.pv()?;
        Some(Ctx {
            hv: self.hv,
            host: self.host,
            domain: self.domain,
            vcpu: self.vcpu,
            state,
            regs: self.regs,
        })
    }
}

impl<H: Host, S> Ctx<'_, H, S> {
    /// The first word of the caller's `vcpu_info`, with the pending and the mask byte of its upcalls; `None`
    /// while it has none.
    #[inline(always)]
    #[must_use]
    pub fn upcall_word(&self) -> Option<&AtomicU64> {
        let (frame, offset) = self.vcpu.info_place()?;
        self.host.table(frame).get(offset / 8)
    }

    /// Copies one value from the guest.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read<T: FromBytes + IntoBytes>(&self, at: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_into(&mut value, at)?;
        Ok(value)
    }

    /// The same to where the value, or a list of them, is to stand: a large one that is returned is copied again.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_into<T: FromBytes + IntoBytes + ?Sized>(
        &self,
        value: &mut T,
        at: u64,
    ) -> Result<(), Errno> {
        self.host.copy_in(value.as_mut_bytes(), at)
    }

    /// Copies one value to the guest.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write<T: IntoBytes + Immutable + ?Sized>(
        &self,
        at: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.host.copy_out(at, value.as_bytes())
    }

    /// [`Self::read_into`] in place, for what is called most.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    pub fn read_here<T: FromBytes + IntoBytes>(&self, value: &mut T, at: u64) -> Result<(), Errno> {
        self.host.copy_in_here(value.as_mut_bytes(), at)
    }

    /// [`Self::write`] in place, for what is called most.
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline(always)]
    pub fn write_here<T: IntoBytes + Immutable>(&self, at: u64, value: &T) -> Result<(), Errno> {
        self.host.copy_out_here(at, value.as_bytes())
    }

    /// Copies `count` values of an array from the guest; the caller bounds `count`.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub fn read_array<T: FromBytes + IntoBytes + Clone>(
        &self,
        at: u64,
        count: usize,
    ) -> Result<Vec<T>, Errno> {
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        values.resize_with(count, T::new_zeroed);
        self.host.copy_in(values.as_mut_bytes(), at)?;
        Ok(values)
    }

    /// Address of element `index` of an array in the guest.
    ///
    /// # Errors
    /// `EFAULT` when it wraps around.
    pub fn element<T>(&self, base: u64, index: u64) -> Result<u64, Errno> {
        index
            .checked_mul(size_of::<T>() as u64)
            .and_then(|o| base.checked_add(o))
            .ok_or(Errno::EFAULT)
    }

    /// The domain that the caller names.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn named(&self, id: DomId) -> Result<Arc<Domain>, Errno> {
        self.hv.named(self.domain, id).ok_or(Errno::ESRCH)
    }

    /// The domain that the caller names, which must be itself unless the caller is the control domain.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`.
    pub fn target(&self, id: DomId) -> Result<Arc<Domain>, Errno> {
        let target = self.named(id)?;
        if target.id != self.domain.id && !self.domain.is_control() {
            return Err(Errno::EPERM);
        }
        Ok(target)
    }

    /// Refuses callers other than the control domain.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn require_control(&self) -> Result<(), Errno> {
        if self.domain.is_control() {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}
