//! Small calls of the control domain's kernel about the machine: performance counters, device models (xen/xenpmu.h,
//! xen/hvm/dm_op.h).

use xen_abi::errno::Errno;

use super::context::{AnyCtx, Args, Host, Reply};

/// xenpmu_op(cmd, argument): there are no virtual performance counters.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn xenpmu_op<H: Host>(_cx: &mut AnyCtx<'_, H>, _args: Args) -> Reply {
    Err(Errno::EOPNOTSUPP)
}

/// dm_op(domid, nr_buffers, buffers): there are no domains with a device model.
///
/// # Errors
/// `EPERM`; `ENODATA` without buffers, the first of which is the operation; `ENOSYS` for any operation.
pub fn dm_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    Err(if args[1] as u32 == 0 {
        Errno::ENODATA
    } else {
        Errno::ENOSYS
    })
}
