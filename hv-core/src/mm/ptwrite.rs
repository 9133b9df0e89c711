//! Stores of a guest into its own live page tables, which fault because tables are mapped read-only.
//!
//! Linux changes L1 entries in place with plain stores, `xchg`, `cmpxchg` and locked bit operations. The
//! faulting instruction is decoded (`ptdecode`), its effect on the entry computed, and the new
//! value goes through the same checked compare-and-swap as `mmu_update`. What is not such a store, or
//! would not pass the checks, stays the guest's own page fault.

use super::entries::Whose;
use super::pins::OwedPuts;
use super::ptdecode::{NotHandled, Op, RDI, Regs, Store, decode};
use super::update::{Hold, Swap, hold_l1, look_up, read_entry, release_table, swap_entry};
use super::{PtMachine, Stop};
use crate::base::alu::{Arith, combine, flag};
use crate::base::insn::{Reg, Width};
use crate::base::{DomId, GuestVa, Mfn};

/// Times the entry may change under the emulation before it restarts.
const RACES: u32 = 64;

/// What came of a page-table write fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteFault {
    /// Emulated; the registers are those after the instruction.
    Done,
    /// Not a store for us: give the guest its page fault. Registers are untouched.
    NotHandled,
    /// Interrupted: return to the guest, which faults again. Registers are untouched.
    Restart,
}

/// What an instruction does with an operand that holds a given value.
struct Effect {
    /// The value to store; `None` where the instruction leaves memory as it is.
    store: Option<u64>,
    /// Register that gets a value.
    load: Option<(Reg, u64)>,
    /// Flags: (mask, value).
    flags: (u64, u64),
}

/// Emulates the store that faulted on a read-only page at `fault`.
///
/// `bytes` are the instruction's, copied once (up to 15); the guest runs 64-bit code, in its kernel, with tables
/// below `root`. The caller has seen that the fault was a write to a present page.
pub fn emulate_write<M: PtMachine>(
    m: &M,
    domain: DomId,
    root: Mfn,
    fault: GuestVa,
    bytes: &[u8],
    regs: &mut impl Regs,
    owed: &mut OwedPuts,
) -> WriteFault {
    if owed.finish(m).is_err() {
        return WriteFault::Restart;
    }
    // The cheap question first: most write faults are not on tables.
    let Some(mapping) = look_up(m, domain, root, fault) else {
        return WriteFault::NotHandled;
    };
    // Only tables that map pages: the others are changed by hypercalls.
    let hold = match hold_l1(m, mapping.mfn(), domain, owed) {
        Ok(hold) => hold,
        Err(Stop::Restart) => return WriteFault::Restart,
        Err(Stop::Refused(_)) => return WriteFault::NotHandled,
    };
    let outcome = match decode_at(bytes, regs, fault) {
        Ok(store) => apply(m, &Whose::own(domain), &hold, &store, regs, owed),
        Err(NotHandled) => WriteFault::NotHandled,
    };
    // If this was the table's last reference, it may be taken apart later; the store itself stands.
    match release_table(m, hold, owed) {
        Ok(()) | Err(_) => outcome,
    }
}

/// Decodes a plain store that faulted on a page of another kind at `fault`: naturally aligned, of a value. Nothing is
/// done; for registers of devices, where any other instruction would have to read first.
#[must_use]
pub fn decode_plain(bytes: &[u8], regs: &impl Regs, fault: GuestVa) -> Option<(Store, u64)> {
    let store = decode_at(bytes, regs, fault).ok()?;
    match store.op {
        Op::Mov(value) => Some((store, value)),
        _ => None,
    }
}

/// Decodes, and makes sure that the instruction is about the page that faulted and stays in one entry.
fn decode_at(bytes: &[u8], regs: &impl Regs, fault: GuestVa) -> Result<Store, NotHandled> {
    let store = decode(bytes, regs)?;
    let aligned = store.va.0.is_multiple_of(store.width.bytes());
    let inside = fault.0.wrapping_sub(store.va.0) < store.width.bytes();
    if aligned && inside {
        Ok(store)
    } else {
        Err(NotHandled)
    }
}

fn apply<M: PtMachine>(
    m: &M,
    whose: &Whose,
    hold: &Hold,
    store: &Store,
    regs: &mut impl Regs,
    owed: &mut OwedPuts,
) -> WriteFault {
    let slot = store.va.offset() / 8;
    let shift = (store.va.offset() as u32 % 8) * 8;
    let mask = store.width.mask() << shift;
    for _ in 0..RACES {
        let Ok(seen) = read_entry(m, hold, slot) else {
            return WriteFault::NotHandled;
        };
        let effect = effect_of(store, regs, (seen & mask) >> shift);
        let swap = match effect.store {
            Some(value) => {
                let new = seen & !mask | (value << shift) & mask;
                swap_entry(m, whose, hold, slot, seen, new, owed)
            }
            None => Ok(Swap::Done),
        };
        match swap {
            Ok(Swap::Done) => {
                finish(regs, store, &effect);
                return WriteFault::Done;
            }
            Ok(Swap::Raced) if owed.is_empty() => {}
            Ok(Swap::Raced) | Err(Stop::Restart) => return WriteFault::Restart,
            Err(Stop::Refused(_)) => return WriteFault::NotHandled,
        }
    }
    WriteFault::Restart
}

/// Registers after the instruction.
fn finish(regs: &mut impl Regs, store: &Store, effect: &Effect) {
    if let Some((reg, value)) = effect.load {
        // An address is whole, whatever the width of what is stored.
        let width = match store.op {
            Op::Stos(_) => Width::Qword,
            _ => store.width,
        };
        regs.write(reg, width, value);
    }
    let (mask, value) = effect.flags;
    regs.set_flags(regs.flags() & !mask | value);
    regs.set_rip(regs.rip().wrapping_add(u64::from(store.len)));
}

/// What the instruction does where its operand holds `old` (cut to the width).
fn effect_of(store: &Store, regs: &impl Regs, old: u64) -> Effect {
    let width = store.width;
    match store.op {
        Op::Mov(value) => Effect {
            store: Some(value),
            load: None,
            flags: (0, 0),
        },
        Op::Stos(step) => stos(regs, width, step),
        Op::Xchg(reg) => Effect {
            store: Some(regs.read(reg, width)),
            load: Some((reg, old)),
            flags: (0, 0),
        },
        Op::Cmpxchg(reg) => {
            let expected = regs.read(Reg::RAX, width);
            let (_, flags) = combine(Arith::Cmp, expected, old, false, width);
            let flags = (flag::ARITHMETIC, flags);
            if expected == old {
                Effect {
                    store: Some(regs.read(reg, width)),
                    load: None,
                    flags,
                }
            } else {
                Effect {
                    store: None,
                    load: Some((Reg::RAX, old)),
                    flags,
                }
            }
        }
        Op::Arith(arith, value) => {
            let (result, flags) = combine(arith, old, value, false, width);
            Effect {
                store: Some(result),
                load: None,
                flags: (flag::ARITHMETIC, flags),
            }
        }
        Op::Bit(op, bit) => {
            let (result, carry) = op.apply(old, bit);
            Effect {
                store: Some(result),
                load: None,
                flags: (flag::CF, carry),
            }
        }
    }
}

fn stos(regs: &impl Regs, width: Width, step: u64) -> Effect {
    let next = regs.read(RDI, Width::Qword).wrapping_add(step);
    Effect {
        store: Some(regs.read(Reg::RAX, width)),
        load: Some((RDI, next)),
        flags: (0, 0),
    }
}
