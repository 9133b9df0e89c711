//! The event that the guest is given (Intel SDM vol. 3, 27.2.1.3), and what it waits for and holds back (27.3.1.5).

use super::super::layout::{Field, event, interruptibility};
use super::{Checked, Guest};
use crate::hvm::controls::cr0;
use crate::pv::frame::rflags;

const INJECTION: &str = "27.2.1.3";
const SECTION: &str = "27.3.1.5";
/// Bits of the event between its flags and the one that it is valid by.
const EVENT_RESERVED: u64 = 0x7fff_f000;
/// The kind without a meaning, and the one of monitor traps.
const NO_KIND: u64 = 1;
const OTHER: u64 = 7;
/// Vectors.
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const MACHINE_CHECK: u64 = 18;
const EXCEPTIONS: u64 = 32;

/// The activity states (Intel SDM vol. 3, 25.4.2).
const ACTIVE: u64 = 0;
const HALTED: u64 = 1;
const SHUT_DOWN: u64 = 2;
const WAITS_FOR_START: u64 = 3;

/// More of `interruptibility`: that of SMM, and all that there are.
const SMI: u64 = 1 << 2;
const ENCLAVE: u64 = 1 << 4;
const ALL: u64 = interruptibility::STI | interruptibility::MOV_SS | interruptibility::NMI | ENCLAVE;

/// Debug exceptions that wait (Intel SDM vol. 3, 25.4.2).
mod pending {
    pub const BREAKPOINTS: u64 = 0xf;
    pub const BUS_LOCK: u64 = 1 << 11;
    pub const ENABLED: u64 = 1 << 12;
    pub const STEP: u64 = 1 << 14;
    pub const TRANSACTION: u64 = 1 << 16;
    pub const ALL: u64 = BREAKPOINTS | BUS_LOCK | ENABLED | STEP | TRANSACTION;
}

/// A step is taken per branch (Intel SDM vol. 3, 18.4.1).
const DEBUGCTL_BTF: u64 = 1 << 1;

/// The event that is given. What is wrong there fails the instruction, not the entry.
pub fn injection(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let Some((kind, vector)) = g.event() else {
        return Ok(());
    };
    let field = Field::EntryEvent;
    let rule = (INJECTION, "there is no event of that kind");
    g.must(field, |_| kind != NO_KIND, rule)?;
    g.must(
        field,
        |_| match kind {
            event::NMI => vector == NMI,
            event::HARDWARE_EXCEPTION => vector < EXCEPTIONS,
            OTHER => vector == 0,
            _ => true,
        },
        (INJECTION, "the vector must be one of that kind"),
    )?;
    let rule = (INJECTION, "reserved bits must be clear");
    g.must(field, |word| word & EVENT_RESERVED == 0, rule)?;
    let has_error = matches!(vector, 8 | 10..=14 | 17)
        && kind == event::HARDWARE_EXCEPTION
        && g.has(Field::Cr0, cr0::PE);
    g.must(
        field,
        |word| (word & event::HAS_ERROR != 0) == has_error,
        (
            INJECTION,
            "must have an error code exactly if its kind does",
        ),
    )?;
    if has_error {
        let rule = (INJECTION, "has 16 bits");
        g.must(Field::EntryErrorCode, |code| code >> 16 == 0, rule)?;
    }
    let of_instruction = matches!(
        kind,
        event::SOFTWARE_INTERRUPT | event::PRIVILEGED_EXCEPTION | event::SOFTWARE_EXCEPTION
    );
    g.must(
        Field::EntryInstructionLength,
        |length| !of_instruction || length <= 15,
        (INJECTION, "must be the length of an instruction"),
    )
}

/// What the guest waits for and holds back.
pub fn check(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    activity(g)?;
    held_back(g)?;
    pending_debug(g)?;
    let rule = (SECTION, "must be all ones: there is no other VMCS");
    g.must(Field::VmcsLink, |link| link == u64::MAX, rule)
}

fn activity(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let field = Field::Activity;
    let rule = (SECTION, "there is no such state");
    g.must(field, |state| state <= WAITS_FOR_START, rule)?;
    let level = g.read(Field::SsRights) >> 5 & 3;
    let rule = (SECTION, "only privileged code halts");
    g.must(field, |state| state != HALTED || level == 0, rule)?;
    let blocks = interruptibility::STI | interruptibility::MOV_SS;
    let blocked = g.has(Field::Interruptibility, blocks);
    let rule = (SECTION, "must be active behind STI or a load of SS");
    g.must(field, |state| state == ACTIVE || !blocked, rule)?;
    let Some((kind, vector)) = g.event() else {
        return Ok(());
    };
    let exception = |wanted: u64| kind == event::HARDWARE_EXCEPTION && vector == wanted;
    let machine_check = exception(MACHINE_CHECK);
    let nmi = kind == event::NMI;
    g.must(
        field,
        |state| match state {
            ACTIVE => true,
            HALTED => {
                nmi || machine_check || exception(DEBUG) || matches!(kind, event::EXTERNAL | OTHER)
            }
            SHUT_DOWN => nmi || machine_check,
            _ => false,
        },
        (SECTION, "the event that is given does not end that state"),
    )
}

fn held_back(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    use interruptibility::{MOV_SS, NMI, STI};
    let field = Field::Interruptibility;
    let clear = |mask: u64, when: bool, rule: &'static str| {
        g.must(field, |value| value & mask == 0 || !when, (SECTION, rule))
    };
    g.must(
        field,
        |value| value & !(ALL | SMI) == 0,
        (SECTION, "reserved bits must be clear"),
    )?;
    clear(SMI, true, "SMIs are masked in SMM only")?;
    let both = STI | MOV_SS;
    g.must(
        field,
        |value| value & both != both,
        (SECTION, "STI and a load of SS are two instructions"),
    )?;
    let masked = !g.has(Field::Rflags, rflags::IF);
    clear(STI, masked, "behind STI, IF is set")?;
    let (interrupt, nmi) = (g.gets(event::EXTERNAL), g.gets(event::NMI));
    clear(both, interrupt, "holds back the interrupt that is given")?;
    clear(MOV_SS, nmi, "holds back the NMI that is given")?;
    let rule = "masks the NMI that is given";
    clear(NMI, nmi && g.has_virtual_nmis(), rule)?;
    let enclave = g.has(field, ENCLAVE);
    clear(MOV_SS, enclave, "a load of SS cannot be in an enclave")?;
    clear(STI, nmi, "some processors hold back NMIs behind STI")
}

fn pending_debug(g: &Guest<impl Fn(Field) -> u64>) -> Checked {
    let field = Field::PendingDebug;
    let rule = (SECTION, "reserved bits must be clear");
    g.must(field, |value| value & !pending::ALL == 0, rule)?;
    let blocks = interruptibility::STI | interruptibility::MOV_SS;
    if g.has(Field::Interruptibility, blocks) || g.read(Field::Activity) == HALTED {
        let per_branch = g.has(Field::DebugCtl, DEBUGCTL_BTF);
        let steps = g.has(Field::Rflags, rflags::TF) && !per_branch;
        g.must(
            field,
            |value| (value & pending::STEP != 0) == steps,
            (SECTION, "BS must be TF, unless steps are taken per branch"),
        )?;
    }
    let behind_ss = g.has(Field::Interruptibility, interruptibility::MOV_SS);
    let alone = pending::TRANSACTION | pending::ENABLED;
    g.must(
        field,
        |value| value & pending::TRANSACTION == 0 || value == alone && !behind_ss,
        (SECTION, "RTM comes with bit 12 alone"),
    )
}
