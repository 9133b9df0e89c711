//! Privileged instructions of PV guests.
use hv_core::hypercall::Ctx;
use hv_core::pv::bounce::{self, Undeliverable};
use super::host::Hw;

/// #UD.
pub fn invalid_opcode(cx: &mut Ctx<'_, Hw>) -> Result<(), Undeliverable> {
    bounce::trap(cx, 6, None)
}

/// #GP.
pub fn general_protection(cx: &mut Ctx<'_, Hw>, error: u32) -> Result<(), Undeliverable> {
    bounce::trap(cx, 13, Some(error))
}
