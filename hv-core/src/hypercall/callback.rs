//! Callbacks into the guest's kernel: events, failsafe, SYSCALL, NMI (xen/callback.h, xen/nmi.h).

use xen_abi::callback as abi;
use xen_abi::errno::Errno;
use xen_abi::nmi;

use super::context::{Args, Ctx, DONE, Host, Reply};
use crate::base::GuestVa;
use crate::pv::state::Callback;

/// callback_op(cmd, argument).
///
/// # Errors
/// `EINVAL` for an address that is not canonical, `ENOSYS` for unknown commands and types, `EFAULT`.
pub fn callback_op<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    match args[0] as u32 {
        abi::CALLBACKOP_register => {
            let reg: abi::CallbackRegister = cx.read(args[1])?;
            let to = checked(reg.address, reg.flags & abi::CALLBACKF_mask_events != 0)?;
            if reg.r#type == abi::CALLBACKTYPE_nmi {
                cx.state.set_nmi_handler(to.address);
            } else {
                *slot(cx, reg.r#type)? = to;
            }
        }
        abi::CALLBACKOP_unregister => {
            let reg: abi::CallbackUnregister = cx.read(args[1])?;
            if reg.r#type != abi::CALLBACKTYPE_nmi {
                slot(cx, reg.r#type)?;
                // Without these the guest could not be told anything any more.
                return Err(Errno::EINVAL);
            }
            cx.state.set_nmi_handler(0);
        }
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

/// set_callbacks(event, failsafe, syscall): the older form of three registrations. It has no errors: an address
/// that is not canonical leaves that callback as it was.
///
/// # Errors
/// None.
pub fn set_callbacks<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let kept = &mut cx.state.callbacks;
    let masks = [true, kept.failsafe.masks_events, kept.syscall.masks_events];
    let slots = [&mut kept.event, &mut kept.failsafe, &mut kept.syscall];
    for ((slot, address), masks_events) in slots.into_iter().zip(args).zip(masks) {
        if let Ok(callback) = checked(address, masks_events) {
            *slot = callback;
        }
    }
    DONE
}

/// nmi_op(cmd, argument).
///
/// # Errors
/// `EINVAL` away from vCPU 0 or for a bad address, `ENOSYS` for unknown commands, `EFAULT`.
pub fn nmi_op<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    match args[0] as u32 {
        nmi::XENNMI_register_callback => {
            let reg: nmi::NmiCallback = cx.read(args[1])?;
            if cx.vcpu.id != 0 {
                return Err(Errno::EINVAL);
            }
            let handler = checked(reg.handler_address, false)?;
            cx.state.set_nmi_handler(handler.address);
        }
        nmi::XENNMI_unregister_callback => cx.state.set_nmi_handler(0),
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

fn checked(address: u64, masks_events: bool) -> Result<Callback, Errno> {
    if GuestVa(address).is_canonical() {
        Ok(Callback {
            address,
            masks_events,
        })
    } else {
        Err(Errno::EINVAL)
    }
}

/// Where a callback of this type is kept; that of NMIs is in the trap table.
fn slot<'c, H: Host>(cx: &'c mut Ctx<'_, H>, kind: u16) -> Result<&'c mut Callback, Errno> {
    let c = &mut cx.state.callbacks;
    Ok(match kind {
        abi::CALLBACKTYPE_event => &mut c.event,
        abi::CALLBACKTYPE_failsafe => &mut c.failsafe,
        abi::CALLBACKTYPE_syscall => &mut c.syscall,
        abi::CALLBACKTYPE_syscall32 => &mut c.syscall32,
        abi::CALLBACKTYPE_sysenter => &mut c.sysenter,
        _ => return Err(Errno::ENOSYS),
    })
}
