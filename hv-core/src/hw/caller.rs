//! The CPU under a hypercall's caller ([`Host`]): copies from and to the caller's memory, and what is loaded of a PV vCPU.

use core::sync::atomic::Ordering;

use hv_core::base::CpuId;
use hv_core::domain::Domain;
use hv_core::hypercall::narrow::Overlay;
use hv_core::hypercall::{Flush, Host, SegmentBase, TaskSwitched};
use hv_core::pv::state::{Mode, PvState};
use hv_core::sched::CpuSet;
use xen_abi::arch_x86::IretContext;
use xen_abi::errno::Errno;
use zerocopy::IntoBytes;

use super::cpu::{self, msr};
use super::host::Hw;
use super::layout::{HYPERVISOR_END, M2P_GUEST};
use super::percpu::{self, softirq};
use super::{clock, container, fpu, guestmem, tables, tlb};

impl Hw {
    /// Does something in the address space of the guest's kernel, which the user root does not map.
    pub fn with_kernel_root<R>(&self, state: &PvState, what: impl FnOnce() -> R) -> R {
        let user = state.mode == Mode::User;
        if user && let Some(root) = state.roots.kernel {
            percpu::count(&percpu::this().counts.cr3_loads);
            // SAFETY: the guest's own validated root, held by a reference.
            unsafe { cpu::set_cr3(root.addr().0) };
        }
        let result = what();
        if user {
            self.load_root(state);
        }
        result
    }
}

/// The answer of a copy of which so many bytes are left.
#[inline(always)]
const fn whole(left: usize) -> Result<(), Errno> {
    match left {
        0 => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

impl Host for Hw {
    // Once in the image and not at each of the many places that copy; what must be fast has copies of its own below.
    #[inline(never)]
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        if let Some(space) = container::space() {
            return space.copy_in(to, from);
        }
        whole(guestmem::copy_in(to, from))
    }

    #[inline(never)]
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        if let Some(space) = container::space() {
            return space.copy_out(to, from);
        }
        whole(guestmem::copy_out(to, from))
    }

    #[inline(always)]
    fn copy_in_here(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        if container::space().is_some() {
            return self.copy_in(to, from);
        }
        whole(guestmem::copy_in(to, from))
    }

    #[inline(always)]
    fn copy_out_here(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        if container::space().is_some() {
            return self.copy_out(to, from);
        }
        whole(guestmem::copy_out(to, from))
    }

    fn lay_over(&self, overlay: Option<Overlay>) -> Option<Overlay> {
        container::space()?.lay_over(overlay)
    }

    #[inline(always)]
    fn store_words<const N: usize>(&self, to: u64, words: &[u64; N]) -> Result<(), Errno> {
        if guestmem::store_words(to, words) {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    #[inline(always)]
    fn load_words<const N: usize>(&self, from: u64) -> Result<[u64; N], Errno> {
        if let Some(space) = container::space() {
            let mut words = [0; N];
            return space.copy_in(words.as_mut_bytes(), from).map(|()| words);
        }
        guestmem::load_words(from).ok_or(Errno::EFAULT)
    }

    #[inline(always)]
    fn store_u32(&self, to: u64, value: u32) -> Result<(), Errno> {
        if let Some(space) = container::space() {
            return space.copy_out(to, value.as_bytes());
        }
        if guestmem::store_u32(to, value) {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    #[inline(always)]
    fn load_iret_frame(&self, from: u64) -> Result<IretContext, Errno> {
        guestmem::load_iret_frame(from).ok_or(Errno::EFAULT)
    }

    fn load_base(&self, which: SegmentBase, value: u64) {
        // The guest's kernel runs: its GS is the active one, the user's the kept one.
        let index = match which {
            SegmentBase::Fs => msr::FS_BASE,
            SegmentBase::GsKernel => msr::GS_BASE,
            SegmentBase::GsUser => msr::KERNEL_GS_BASE,
        };
        // SAFETY: the base was checked to be canonical; the hypervisor uses neither FS nor GS.
        unsafe { cpu::wrmsr(index, value) };
    }

    fn read_base(&self, which: SegmentBase) -> u64 {
        cpu::rdmsr(match which {
            SegmentBase::Fs => msr::FS_BASE,
            SegmentBase::GsKernel => msr::GS_BASE,
            SegmentBase::GsUser => msr::KERNEL_GS_BASE,
        })
    }

    #[inline]
    fn swap_gs(&self) {
        // SAFETY: exchanges two registers that only the guest uses.
        unsafe { core::arch::asm!("swapgs", options(nomem, nostack, preserves_flags)) };
    }

    fn load_gs_user_selector(&self, selector: u16) -> bool {
        super::context::load_gs_user(selector)
    }

    fn load_gdt(&self, state: &PvState) {
        tables::show_gdt(percpu::this(), state, cpu::invlpg);
    }

    fn load_ldt(&self, state: &PvState) {
        tables::show_ldt(percpu::this(), state, cpu::invlpg);
    }

    #[inline]
    fn load_root(&self, state: &PvState) {
        let Some(root) = state.active_root() else {
            return;
        };
        percpu::count(&percpu::this().counts.cr3_loads);
        // SAFETY: a validated L4 table of the guest, with our slots in it; held by a reference.
        unsafe { cpu::set_cr3(root.addr().0) };
    }

    fn load_space(&self, state: &PvState) {
        if let Some(root) = state.active_root() {
            percpu::count(&percpu::this().counts.cr3_loads);
            tlb::load_space(root);
        }
    }

    fn load_debug_set(&self, state: &PvState) {
        super::context::load_debug_set(state);
    }

    fn debug_status(&self) -> u64 {
        let status = cpu::dr6();
        // SAFETY: the status bits are sticky; the guest keeps its own copy.
        unsafe { cpu::set_dr6(0xffff_0ff0) };
        status
    }

    fn set_task_switched(&self, on: TaskSwitched) {
        match on {
            TaskSwitched::Clear => cpu::clts(),
            // SAFETY: TS only makes the guest's next FPU instruction trap.
            TaskSwitched::Set => unsafe { cpu::set_cr0(cpu::cr0() | 8) },
        }
    }

    fn flush_here(&self, what: Flush) {
        match what {
            Flush::All => tlb::flush_all_here(),
            Flush::Page(va) if (M2P_GUEST..HYPERVISOR_END).contains(&va) => {}
            Flush::Page(va) => cpu::invlpg(va),
        }
    }

    fn flush_on(&self, cpus: &CpuSet, domain: &Domain, what: Flush) {
        let this = percpu::this().id;
        let wanted = |c: &CpuId| cpus.contains(*c) && domain.is_dirty(*c);
        let others = percpu::online().filter(move |c| *c != this).filter(wanted);
        if wanted(&this) {
            self.flush_here(what);
        }
        if others.clone().next().is_some() {
            tlb::flush_on(others);
        }
    }

    fn write_back_caches(&self) {
        // SAFETY: writes caches back; slow, without other effect.
        unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
    }

    fn reschedule_here(&self) {
        percpu::this()
            .remote
            .softirq
            .fetch_or(softirq::SCHEDULE, Ordering::Relaxed);
    }

    fn online_cpus(&self) -> CpuId {
        percpu::online().count() as CpuId
    }

    fn tsc_clock(&self) -> hv_core::time::Clock {
        clock::clock()
    }

    fn fpu_lines(&self) -> usize {
        fpu::lines()
    }
}
