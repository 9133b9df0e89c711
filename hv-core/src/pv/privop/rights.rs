//! Who may use I/O ports: by I/O privilege, or port by port by the bitmap that the guest's kernel gives.

use super::PrivEnv;
use super::execute::Refusal;
use crate::pv::ports::Width;
use crate::pv::state::{IoplPlace, Mode, PvState};

/// Refuses without I/O privilege. The guest's user programs count as ring 3, its kernel as ring 1, or as ring 0 where
/// it asked for that.
pub(super) fn require_privilege(state: &PvState) -> Result<(), Refusal> {
    let level = match state.mode {
        Mode::Kernel if state.iopl_place == IoplPlace::Flags => 0,
        Mode::Kernel => 1,
        Mode::User => 3,
    };
    if state.iopl >= level {
        Ok(())
    } else {
        Err(Refusal::Exception)
    }
}

/// Refuses an access to `port` that neither the privilege nor the bitmap allows.
pub(super) fn require_port<E: PrivEnv>(
    env: &E,
    state: &PvState,
    port: u16,
    width: Width,
) -> Result<(), Refusal> {
    if require_privilege(state).is_ok() {
        return Ok(());
    }
    let (first, bytes) = (u32::from(port), u32::from(width.bytes()));
    if first + bytes > state.port_bitmap.ports {
        return Err(Refusal::Exception);
    }
    let wanted = ((1 << bytes) - 1) << (first % 8);
    if denied(env, state, first / 8) & wanted == 0 {
        Ok(())
    } else {
        Err(Refusal::Exception)
    }
}

/// 16 bits of the bitmap from byte `index` on; what cannot be read denies.
fn denied<E: PrivEnv>(env: &E, state: &PvState, index: u32) -> u16 {
    let at = state.port_bitmap.address.wrapping_add(u64::from(index));
    let mut bits = [0xff; 2];
    // Two bytes whatever the port, as the processor does; the second may lie behind the bitmap.
    if env.copy_in_kernel(state, &mut bits, at).is_err() {
        bits = [0xff; 2];
        let first = &mut bits[..1];
        if env.copy_in_kernel(state, first, at).is_err() {
            first.fill(0xff);
        }
    }
    u16::from_le_bytes(bits)
}
