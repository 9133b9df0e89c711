//! The front for callers in 32-bit code: firmware of HVM guests, and 32-bit kernels in them.
//!
//! Arguments are 32-bit registers. Where the ABI's structures are the same for both widths the call goes
//! straight to its handler. Where they hold pointers or `unsigned long`, the front reads the narrow
//! structure, and the handler finds the wide one, and arrays of words too, in an [`Overlay`] over the caller's memory.
//! A call for which neither is done does not exist here (`ENOSYS`): no handler ever reads a structure by the wrong
//! layout.

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::sched::{self as sch, SchedPoll};
use xen_abi::{hypercall as nr, narrow, vcpu, version};
use zerocopy::IntoBytes;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use super::front;
use crate::pv::frame::GuestFrame;

mod grants;
mod memory;
mod overlay;
#[cfg(test)]
pub(super) mod tests;

pub use overlay::Overlay;
use overlay::{STRUCTURE, Structure};

/// First address that 32-bit PV guests leave to the hypervisor (__HYPERVISOR_VIRT_START_PAE of
/// arch-x86/xen-x86_32.h). It means nothing to others, who may ask all the same.
const VIRT_START: u32 = 0xf580_0000;

/// Handles the hypercall that 32-bit code made with an instruction of `length` bytes; `false` when the domain
/// must be stopped for it.
pub fn call<H: Host>(cx: &mut AnyCtx<'_, H>, length: u8) -> bool {
    let (number, args) = (cx.regs.rax & 0xffff_ffff, front::args32(cx.regs));
    cx.regs.rax = match dispatch(cx, number, args) {
        Ok(Outcome::Return(value)) => u64::from(narrowed(value)),
        Err(errno) => u64::from(errno.to_ret() as u32),
        Ok(Outcome::Resume) => return true,
        Ok(Outcome::Restart(args)) => {
            restart(cx.regs, length, args);
            number
        }
        Ok(Outcome::Crash) => return false,
    };
    true
}

/// A result as a 32-bit `long`: counts that do not fit are as large as can be.
fn narrowed(value: u64) -> u32 {
    match value as i64 {
        negative if negative < 0 => negative as u32,
        positive => positive.min(i64::from(i32::MAX)) as u32,
    }
}

/// Sets the registers so that the instruction runs again.
fn restart(regs: &mut GuestFrame, length: u8, args: Args) {
    regs.rip = u64::from((regs.rip as u32).wrapping_sub(length.into()));
    // No call has a sixth argument: ebp is the caller's to keep.
    let [first, second, third, fourth, fifth, _] = args;
    [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi] =
        [first, second, third, fourth, fifth].map(|arg| arg & 0xffff_ffff);
}

/// Runs one call.
fn dispatch<H: Host>(cx: &mut AnyCtx<'_, H>, number: u64, args: Args) -> Reply {
    let command = args[0] as u32;
    match number as u32 {
        nr::__HYPERVISOR_xen_version if command == version::XENVER_platform_parameters => {
            cx.write(args[1], &VIRT_START)?;
            DONE
        }
        nr::__HYPERVISOR_memory_op => memory::memory_op(cx, args),
        nr::__HYPERVISOR_grant_table_op => grants::grant_table_op(cx, args),
        nr::__HYPERVISOR_sched_op => sched_op(cx, args),
        // 64 bits of time in two registers.
        nr::__HYPERVISOR_set_timer_op => {
            let deadline = args[0] | args[1] << 32;
            front::dispatch(cx, number, [deadline, 0, 0, 0, 0, 0])
        }
        nr::__HYPERVISOR_vcpu_op => match command {
            vcpu::VCPUOP_up | vcpu::VCPUOP_down | vcpu::VCPUOP_is_up => {
                front::dispatch(cx, number, args)
            }
            _ => Err(Errno::ENOSYS),
        },
        // Structures of numbers of fixed size, each at a multiple of its size, or bytes.
        nr::__HYPERVISOR_xen_version
        | nr::__HYPERVISOR_console_io
        | nr::__HYPERVISOR_event_channel_op
        | nr::__HYPERVISOR_hvm_op => front::dispatch(cx, number, args),
        _ => Err(Errno::ENOSYS),
    }
}

fn sched_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let number = nr::__HYPERVISOR_sched_op;
    match args[0] as u32 {
        sch::SCHEDOP_yield
        | sch::SCHEDOP_block
        | sch::SCHEDOP_shutdown
        | sch::SCHEDOP_shutdown_code
        | sch::SCHEDOP_remote_shutdown => front::dispatch(cx, number.into(), args),
        sch::SCHEDOP_poll => {
            let narrow: narrow::SchedPoll = cx.read(args[1])?;
            let [low, high] = narrow.timeout;
            let wide = SchedPoll {
                ports: GuestHandle::new(narrow.ports.into()),
                nr_ports: narrow.nr_ports,
                timeout: u64::from(high) << 32 | u64::from(low),
                ..SchedPoll::default()
            };
            widened(cx, number, args, wide.as_bytes(), None).map(|(outcome, _)| outcome)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Makes the call with a wide structure in place of its second argument, and with an array of words in the
/// caller's memory that looks like one of 64-bit words. Also gives the structure as it is after the call.
fn widened<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    number: u32,
    args: Args,
    structure: &[u8],
    array: Option<u32>,
) -> Result<(Outcome, Structure), Errno> {
    let [command, pointer, third, fourth, fifth, sixth] = args;
    let given = [command, STRUCTURE, third, fourth, fifth, sixth];
    let below = cx.host.lay_over(Some(Overlay::new(structure, array)));
    let reply = front::dispatch(cx, number.into(), given);
    let overlay = cx.host.lay_over(below);
    let outcome = match reply? {
        Outcome::Restart([command, ..]) => {
            Outcome::Restart([command, pointer, third, fourth, fifth, sixth])
        }
        other => other,
    };
    let overlay = overlay.ok_or(Errno::EFAULT)?;
    Ok((outcome, *overlay.structure()))
}
