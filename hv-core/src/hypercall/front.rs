//! Decode, route, encode: the table of hypercalls.

use xen_abi::errno::Errno;
use xen_abi::hypercall as nr;

use super::context::{AnyCtx, Args, Ctx, Host, Outcome, Reply};
use super::{
    callback, console, control, descriptors, domctl, event, grant, hvm, hypfs, mca, memory, misc,
    mmu, multicall, physdev, platform, sched, sysctl, vcpu, version,
};
use crate::pv::frame::GuestFrame;
use crate::pv::iret;

/// Names of the calls, for the log.
const NAMES: [&str; 56] = [
    "set_trap_table",
    "mmu_update",
    "set_gdt",
    "stack_switch",
    "set_callbacks",
    "fpu_taskswitch",
    "sched_op_compat",
    "platform_op",
    "set_debugreg",
    "get_debugreg",
    "update_descriptor",
    "?",
    "memory_op",
    "multicall",
    "update_va_mapping",
    "set_timer_op",
    "event_channel_op_compat",
    "xen_version",
    "console_io",
    "physdev_op_compat",
    "grant_table_op",
    "vm_assist",
    "update_va_mapping_otherdomain",
    "iret",
    "vcpu_op",
    "set_segment_base",
    "mmuext_op",
    "xsm_op",
    "nmi_op",
    "sched_op",
    "callback_op",
    "xenoprof_op",
    "event_channel_op",
    "physdev_op",
    "hvm_op",
    "sysctl",
    "domctl",
    "kexec_op",
    "tmem_op",
    "argo_op",
    "xenpmu_op",
    "dm_op",
    "hypfs_op",
    "?",
    "?",
    "?",
    "?",
    "?",
    "mca",
    "?",
    "?",
    "?",
    "?",
    "?",
    "?",
    "?",
];

/// Arguments of a 64-bit caller.
#[must_use]
pub fn args64(regs: &GuestFrame) -> Args {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}

/// Arguments of a 32-bit caller (ebx, ecx, edx, esi, edi, ebp).
#[must_use]
pub fn args32(regs: &GuestFrame) -> Args {
    [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|r| r & 0xffff_ffff)
}

/// Handles the hypercall that a 64-bit PV guest made with SYSCALL; `false` when the domain must be
/// stopped for it.
pub fn pv64<H: Host>(cx: &mut Ctx<'_, H>) -> bool {
    let (call, args) = (cx.regs.rax, args64(cx.regs));
    match dispatch_here(cx, call, args) {
        Ok(Outcome::Return(value)) => cx.regs.rax = value,
        Err(e) => cx.regs.rax = e.to_ret() as u64,
        Ok(Outcome::Resume) => {}
        Ok(Outcome::Restart(args)) => restart(cx.regs, SYSCALL_LENGTH, call, args),
        Ok(Outcome::Crash) => return false,
    }
    true
}

/// Handles the hypercall that 64-bit code in a container made with an instruction of `length` bytes; `false` when the
/// domain must be stopped for it.
pub fn hvm64<H: Host>(cx: &mut AnyCtx<'_, H>, length: u8) -> bool {
    let (call, args) = (cx.regs.rax, args64(cx.regs));
    match dispatch(cx, call, args) {
        Ok(Outcome::Return(value)) => cx.regs.rax = value,
        Err(e) => cx.regs.rax = e.to_ret() as u64,
        Ok(Outcome::Resume) => {}
        Ok(Outcome::Restart(args)) => restart(cx.regs, length, call, args),
        Ok(Outcome::Crash) => return false,
    }
    true
}

/// SYSCALL.
const SYSCALL_LENGTH: u8 = 2;

/// Sets the registers so that the guest's instruction runs again.
fn restart(regs: &mut GuestFrame, length: u8, call: u64, args: Args) {
    regs.rip = regs.rip.wrapping_sub(length.into());
    regs.rax = call;
    // No call has a sixth argument: r9 is the caller's to keep.
    let [first, second, third, fourth, fifth, _] = args;
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8] = [first, second, third, fourth, fifth];
}

/// Runs one call of either kind of guest. Calls that are not in its table do not exist.
///
/// # Errors
/// The handler's; `ENOSYS` for a call that does not exist.
#[inline(never)]
pub fn dispatch<H: Host>(cx: &mut AnyCtx<'_, H>, call: u64, args: Args) -> Reply {
    match cx.pv() {
        Some(mut cx) => dispatch_here(&mut cx, call, args),
        None => contained(cx, call, args),
    }
}

#[inline(always)]
fn dispatch_here<H: Host>(cx: &mut Ctx<'_, H>, call: u64, args: Args) -> Reply {
    let Ok(number) = u32::try_from(call) else {
        return Err(Errno::ENOSYS);
    };
    match number {
        nr::__HYPERVISOR_set_trap_table => descriptors::set_trap_table(cx, args),
        nr::__HYPERVISOR_mmu_update => mmu::mmu_update(cx, args),
        nr::__HYPERVISOR_set_gdt => descriptors::set_gdt(cx, args),
        nr::__HYPERVISOR_stack_switch => misc::stack_switch(cx, args),
        nr::__HYPERVISOR_set_callbacks => callback::set_callbacks(cx, args),
        nr::__HYPERVISOR_fpu_taskswitch => misc::fpu_taskswitch(cx, args),
        nr::__HYPERVISOR_set_debugreg => misc::set_debugreg(cx, args),
        nr::__HYPERVISOR_get_debugreg => misc::get_debugreg(cx, args),
        nr::__HYPERVISOR_update_descriptor => descriptors::update_descriptor(cx, args),
        nr::__HYPERVISOR_update_va_mapping => mmu::update_va_mapping(cx, args),
        nr::__HYPERVISOR_update_va_mapping_otherdomain => {
            mmu::update_va_mapping_otherdomain(cx, args)
        }
        nr::__HYPERVISOR_iret => iret::iret(cx),
        nr::__HYPERVISOR_set_segment_base => misc::set_segment_base(cx, args),
        nr::__HYPERVISOR_mmuext_op => mmu::mmuext_op(cx, args),
        nr::__HYPERVISOR_nmi_op => callback::nmi_op(cx, args),
        nr::__HYPERVISOR_callback_op => callback::callback_op(cx, args),
        nr::__HYPERVISOR_mca => mca::mca(&mut cx.any(), args),
        _ => shared(&mut cx.any(), number, args),
    }
}

/// The calls of a guest in a container.
fn contained<H: Host>(cx: &mut AnyCtx<'_, H>, call: u64, args: Args) -> Reply {
    match u32::try_from(call) {
        // It has no interrupts of devices, and kernels learn that by this answer.
        Ok(nr::__HYPERVISOR_physdev_op) | Err(_) => Err(Errno::ENOSYS),
        Ok(number) => shared(cx, number, args),
    }
}

/// The calls that both kinds of guests have.
#[inline(always)]
fn shared<H: Host>(cx: &mut AnyCtx<'_, H>, number: u32, args: Args) -> Reply {
    match number {
        nr::__HYPERVISOR_memory_op => memory::memory_op(cx, args),
        nr::__HYPERVISOR_multicall => multicall::multicall(cx, args),
        nr::__HYPERVISOR_set_timer_op => vcpu::set_timer_op(cx, args),
        nr::__HYPERVISOR_vm_assist => misc::vm_assist(cx, args),
        nr::__HYPERVISOR_vcpu_op => vcpu::vcpu_op(cx, args),
        nr::__HYPERVISOR_sched_op => sched::sched_op(cx, args),
        nr::__HYPERVISOR_xen_version => version::xen_version(cx, args),
        nr::__HYPERVISOR_console_io => console::console_io(cx, args),
        nr::__HYPERVISOR_event_channel_op => event::event_channel_op(cx, args),
        nr::__HYPERVISOR_grant_table_op => grant::grant_table_op(cx, args),
        nr::__HYPERVISOR_physdev_op => physdev::physdev_op(cx, args),
        nr::__HYPERVISOR_platform_op => platform::platform_op(cx, args),
        nr::__HYPERVISOR_sysctl => sysctl::sysctl(cx, args),
        nr::__HYPERVISOR_domctl => domctl::domctl(cx, args),
        nr::__HYPERVISOR_xenpmu_op => control::xenpmu_op(cx, args),
        nr::__HYPERVISOR_dm_op => control::dm_op(cx, args),
        nr::__HYPERVISOR_hvm_op => hvm::hvm_op(cx, args),
        nr::__HYPERVISOR_hypfs_op => hypfs::hypfs_op(cx, args),
        _ => {
            note_missing(cx, number.into());
            Err(Errno::ENOSYS)
        }
    }
}

/// Logs the name of a call that does not exist, once.
fn note_missing<H: Host>(cx: &AnyCtx<'_, H>, call: u64) {
    let Some(name) = NAMES.get(call as usize) else {
        return;
    };
    if cx.hv.first_missing(call) {
        log::info!(
            "d{}: hypercall {name} ({call}) is not implemented",
            cx.domain.id
        );
    }
}
