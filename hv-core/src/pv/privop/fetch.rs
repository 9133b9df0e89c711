//! Gets the instruction: its bytes, from the guest's memory, and its meaning.

use super::privdecode::{Bitness, Decoded, FORCED_PREFIX, Failure, MAX_LENGTH, Operation, decode};
use super::{PrivEnv, Trap, Verdict};
use crate::base::{GuestVa, PAGE_SIZE};
use crate::pv::frame::GuestFrame;
use crate::pv::state::Mode;

/// What a faulting access was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Read,
    Write,
    Fetch,
}

/// Reads and decodes the instruction at rip.
pub(super) fn instruction<E: PrivEnv>(
    env: &E,
    regs: &GuestFrame,
    mode: Mode,
    bitness: Bitness,
    why: Trap,
) -> Result<Decoded, Verdict> {
    let rip = match bitness {
        Bitness::Long => regs.rip,
        Bitness::Compatible => regs.rip & 0xffff_ffff,
    };
    if !GuestVa(rip).is_canonical() {
        return Err(Verdict::Reflect);
    }
    let mut bytes = [0; MAX_LENGTH];
    let in_page = (PAGE_SIZE - rip as usize % PAGE_SIZE).min(MAX_LENGTH);
    if env.copy_in(&mut bytes[..in_page], rip).is_err() {
        // It was there a moment ago.
        return Err(Verdict::PageFault {
            address: rip,
            error: fault_code(mode, Access::Fetch),
        });
    }
    match meaning(&bytes[..in_page], bitness, why) {
        Ok(decoded) => Ok(decoded),
        Err(Failure::TooShort) if in_page < MAX_LENGTH => {
            let next = rip.wrapping_add(in_page as u64);
            match (env.copy_in(&mut bytes[in_page..], next), why) {
                (Ok(()), _) => meaning(&bytes, bitness, why).map_err(|_| Verdict::Reflect),
                // An undefined instruction that is only like the start of the prefix may well end here.
                (Err(_), Trap::InvalidOpcode) => Err(Verdict::Reflect),
                (Err(_), Trap::GeneralProtection { .. }) => Err(Verdict::PageFault {
                    address: next,
                    error: fault_code(mode, Access::Fetch),
                }),
            }
        }
        Err(Failure::TooShort | Failure::NotOurs) => Err(Verdict::Reflect),
    }
}

/// Decodes, with the forced-emulation prefix where that is what brought us here.
fn meaning(bytes: &[u8], bitness: Bitness, why: Trap) -> Result<Decoded, Failure> {
    match why {
        Trap::GeneralProtection { .. } => decode(bytes, bitness),
        Trap::InvalidOpcode => {
            let common = bytes.len().min(FORCED_PREFIX.len());
            if bytes[..common] != FORCED_PREFIX[..common] {
                return Err(Failure::NotOurs);
            }
            let rest = decode(&bytes[common..], bitness)?;
            // Only CPUID, and without other prefixes, may be forced.
            if rest.operation != Operation::Cpuid || rest.length != 2 {
                return Err(Failure::NotOurs);
            }
            Ok(Decoded {
                length: rest.length + FORCED_PREFIX.len() as u8,
                ..rest
            })
        }
    }
}

/// rip behind an instruction.
pub(super) fn advanced(rip: u64, bitness: Bitness, length: u8) -> u64 {
    let next = rip.wrapping_add(u64::from(length));
    match bitness {
        Bitness::Long => next,
        Bitness::Compatible => next & 0xffff_ffff,
    }
}

/// Page-fault error code as the guest sees it (AMD APM vol. 2, 8.4.2): for its kernel an access is
/// not a user's. Whether the page was present is not known; not present makes the guest look.
pub(super) fn fault_code(mode: Mode, access: Access) -> u32 {
    let user = match mode {
        Mode::User => 1 << 2,
        Mode::Kernel => 0,
    };
    user | match access {
        Access::Read => 0,
        Access::Write => 1 << 1,
        Access::Fetch => 1 << 4,
    }
}
