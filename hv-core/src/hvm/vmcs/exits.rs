//! Why a guest left its container, by a VMCS's exit reason (Intel SDM vol. 3, 28.2 and appendix C), and the events that
//! cross an exit or an entry.
//!
//! Each field costs a VMREAD, so everything here takes a function that reads one and asks only for what it needs.

#[cfg(test)]
mod tests;

use super::layout::{ENTRY_FAILED, Field, event};
use crate::hvm::exit::{Exit, MAX_LENGTH};
use crate::hvm::processor::{Event, EventKind};

/// The part of the reason that says what happened.
const BASIC: u32 = 0xffff;
/// NMIs, #DF and #PF.
const NMI_VECTOR: u8 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u8 = 14;
const MACHINE_CHECK: u8 = 18;

/// The qualification of an access to a control register (Intel SDM vol. 3, 28.2.1).
mod control {
    pub const NUMBER: u64 = 0xf;
    pub const ACCESS_SHIFT: u32 = 4;
    pub const MOV_TO: u64 = 0;
    pub const MOV_FROM: u64 = 1;
    pub const GPR_SHIFT: u32 = 8;
}

/// The qualification of an access to a debug register (Intel SDM vol. 3, 28.2.1).
mod debug {
    pub const NUMBER: u64 = 7;
    pub const READ: u64 = 1 << 4;
    pub const GPR_SHIFT: u32 = 8;
}

/// The qualification of an access to a port (Intel SDM vol. 3, 28.2.1).
mod port {
    pub const SIZE: u64 = 7;
    pub const IN: u64 = 1 << 3;
    pub const STRING: u64 = 1 << 4;
    pub const REP: u64 = 1 << 5;
    pub const NUMBER_SHIFT: u32 = 16;
}

/// The qualification of an EPT violation (Intel SDM vol. 3, 28.2.1).
mod nested {
    pub const WRITE: u64 = 1 << 1;
    pub const FETCH: u64 = 1 << 2;
    /// What the tables allow: to read, to write, to execute.
    pub const ALLOWED: u64 = 7 << 3;
    /// There is a linear address, and the access was to what it leads to, not to one of the guest's tables.
    pub const LINEAR: u64 = 1 << 7;
    pub const FINAL: u64 = 1 << 8;
    pub const UNMASKED_BY_IRET: u64 = 1 << 12;
}

/// Decodes the exit reason.
#[must_use]
pub fn decode(reason: u32, read: impl Fn(Field) -> u64) -> Exit {
    let basic = reason & BASIC;
    if reason & ENTRY_FAILED != 0 {
        return match basic {
            41 => Exit::Exception {
                vector: MACHINE_CHECK,
                error: None,
                address: 0,
            },
            _ => Exit::Invalid,
        };
    }
    match basic {
        0 => event(&read).unwrap_or_else(|| unknown(reason, &read)),
        // The second is the preemption timer.
        1 | 52 => Exit::Interrupt,
        2 => Exit::Shutdown,
        3 => Exit::Init,
        5 | 6 => Exit::Smi,
        // The second is a task priority below the threshold, behind which an interrupt waits.
        7 | 43 => Exit::InterruptWindow,
        8 => Exit::NmiWindow,
        9 => Exit::TaskSwitch,
        14 => Exit::Invlpg {
            address: Some(read(Field::Qualification)),
        },
        28 => control_register(read(Field::Qualification)),
        29 => debug_register(read(Field::Qualification)),
        30 => port(&read),
        48 => nested_fault(&read),
        _ => instruction(basic).unwrap_or_else(|| unknown(reason, &read)),
    }
}

/// Instructions of which the reason says all.
const fn instruction(basic: u32) -> Option<Exit> {
    Some(match basic {
        10 => Exit::Cpuid,
        12 => Exit::Hlt,
        13 => Exit::Invd,
        15 => Exit::Rdpmc,
        16 => Exit::Rdtsc,
        18 => Exit::Hypercall,
        31 => Exit::Msr { write: false },
        32 => Exit::Msr { write: true },
        36 => Exit::Mwait,
        39 => Exit::Monitor,
        40 => Exit::Pause,
        46 | 47 => Exit::DescriptorTable,
        51 => Exit::Rdtscp,
        54 => Exit::Wbinvd,
        55 => Exit::Xsetbv,
        // GETSEC, RSM; those of VMX itself.
        11 | 17 | 19..=27 | 50 | 53 | 59
        // RDRAND, INVPCID, ENCLS, RDSEED, XSAVES, XRSTORS, PCONFIG, UMWAIT, TPAUSE, LOADIWKEY, ENCLV.
        | 57 | 58 | 60 | 61 | 63..=65 | 67..=70
        // SEAMCALL and TDCALL, which no control turns off; RDMSRLIST, WRMSRLIST.
        | 76..=79 => Exit::Forbidden,
        _ => return None,
    })
}

fn unknown(reason: u32, read: impl Fn(Field) -> u64) -> Exit {
    Exit::Unknown {
        code: reason.into(),
        name: reason_name(reason),
        info1: read(Field::Qualification),
        info2: read(Field::GuestPhysicalAddress),
    }
}

/// An exception or an NMI.
fn event(read: impl Fn(Field) -> u64) -> Option<Exit> {
    let what = read(Field::ExitEvent);
    if what & event::VALID == 0 {
        return None;
    }
    if kind(what) == event::NMI {
        return Some(Exit::Nmi);
    }
    let vector = (what & event::VECTOR) as u8;
    Some(Exit::Exception {
        vector,
        error: (what & event::HAS_ERROR != 0).then(|| read(Field::ExitErrorCode) as u32),
        address: if vector == PAGE_FAULT {
            read(Field::Qualification)
        } else {
            0
        },
    })
}

const fn kind(event: u64) -> u64 {
    (event & event::KIND) >> event::KIND_SHIFT
}

/// CLTS and LMSW are to be looked at: their operands are not in general registers.
const fn control_register(qualification: u64) -> Exit {
    let gpr = Some((qualification >> control::GPR_SHIFT & 0xf) as u8);
    let (cr, write, gpr) = match qualification >> control::ACCESS_SHIFT & 3 {
        control::MOV_TO => ((qualification & control::NUMBER) as u8, true, gpr),
        control::MOV_FROM => ((qualification & control::NUMBER) as u8, false, gpr),
        _ => (0, true, None),
    };
    Exit::CrAccess { cr, write, gpr }
}

const fn debug_register(qualification: u64) -> Exit {
    Exit::DrAccess {
        dr: (qualification & debug::NUMBER) as u8,
        write: qualification & debug::READ == 0,
        gpr: Some((qualification >> debug::GPR_SHIFT & 0xf) as u8),
    }
}

fn port(read: impl Fn(Field) -> u64) -> Exit {
    let qualification = read(Field::Qualification);
    // There are no other sizes; a CPU that told one would mean a byte.
    let size = match qualification & port::SIZE {
        1 => 2,
        3 => 4,
        _ => 1,
    };
    Exit::Port {
        write: qualification & port::IN == 0,
        port: (qualification >> port::NUMBER_SHIFT) as u16,
        size,
        string: qualification & port::STRING != 0,
        rep: qualification & port::REP != 0,
        next_rip: read(Field::Rip).wrapping_add(read(Field::InstructionLength)),
    }
}

fn nested_fault(read: impl Fn(Field) -> u64) -> Exit {
    let qualification = read(Field::Qualification);
    Exit::NestedFault {
        address: read(Field::GuestPhysicalAddress),
        write: qualification & nested::WRITE != 0,
        fetch: qualification & nested::FETCH != 0,
        present: qualification & nested::ALLOWED != 0,
        in_walk: qualification & (nested::LINEAR | nested::FINAL) == nested::LINEAR,
    }
}

/// The length of the instruction that ended the run, or that raised the event during whose delivery the run ended
/// (Intel SDM vol. 3, 28.2.5). A length that no instruction has is not told.
#[must_use]
pub fn instruction_length(exit: &Exit, read: impl Fn(Field) -> u64) -> Option<u8> {
    let told = match exit {
        Exit::Exception { .. } => of_instruction(read(Field::ExitEvent)),
        exit => exit.is_instruction(),
    };
    if !told && !of_instruction(read(Field::VectoringEvent)) {
        return None;
    }
    let length = read(Field::InstructionLength);
    (1..=MAX_LENGTH).contains(&length).then_some(length as u8)
}

/// Whether an event is one that an instruction raises on purpose: INT n, INT1, INT3, INTO.
const fn of_instruction(event: u64) -> bool {
    event & event::VALID != 0
        && matches!(
            kind(event),
            event::SOFTWARE_INTERRUPT | event::PRIVILEGED_EXCEPTION | event::SOFTWARE_EXCEPTION
        )
}

/// The event that was being delivered when the guest left, from `VectoringEvent` and `VectoringErrorCode`, if it is to
/// be given again (Intel SDM vol. 3, 28.2.4).
///
/// What an instruction raises on purpose is not told of: INT n, INT3, INTO, and INT1, too. The guest's rip is still that
/// of the instruction (28.3.3), which is executed again.
#[must_use]
pub fn interrupted(vectoring: u64, error: u64) -> Option<Event> {
    if vectoring & event::VALID == 0 {
        return None;
    }
    let kind = match kind(vectoring) {
        event::EXTERNAL => EventKind::Interrupt,
        event::NMI => EventKind::Nmi,
        event::HARDWARE_EXCEPTION => EventKind::Exception,
        _ => return None,
    };
    Some(Event {
        kind,
        vector: (vectoring & event::VECTOR) as u8,
        error: (vectoring & event::HAS_ERROR != 0).then_some(error as u32),
    })
}

/// `EntryEvent` and `EntryErrorCode` for an event that the guest is given. `protected` is CR0.PE.
///
/// An entry fails unless an error code comes with exactly the exceptions that have one, and in protected mode only; and
/// if it has more than 16 bits (Intel SDM vol. 3, 27.2.1.3). One that is missing is zero.
#[must_use]
pub fn encode(event: Event, protected: bool) -> (u64, u64) {
    let kind = match event.kind {
        EventKind::Interrupt => event::EXTERNAL,
        EventKind::Nmi => event::NMI,
        EventKind::Exception => event::HARDWARE_EXCEPTION,
        EventKind::SoftwareInterrupt => event::SOFTWARE_INTERRUPT,
    };
    let vector = match event.kind {
        EventKind::Nmi => NMI_VECTOR,
        _ => event.vector,
    };
    let word = event::VALID | kind << event::KIND_SHIFT | u64::from(vector);
    if event.kind != EventKind::Exception || !protected || !has_error_code(vector) {
        return (word, 0);
    }
    let error = event.error.unwrap_or(0) & 0xffff;
    (word | event::HAS_ERROR, error.into())
}

/// Whether an entry gives an error code with an exception (Intel SDM vol. 3, 27.2.1.3). That of #CP is missing: no guest
/// has CET.
const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

/// Whether the run ended by a fault of an IRET that had ended the masking of NMIs already: it will be executed again, so
/// NMIs are to be masked until then (Intel SDM vol. 3, 28.2.3 and 28.2.1).
#[must_use]
pub fn unmasked_by_iret(exit: &Exit, read: impl Fn(Field) -> u64) -> bool {
    let said = match exit {
        Exit::Exception { .. } => {
            let event = read(Field::ExitEvent);
            // Of a double fault the bit is not defined.
            event & event::VALID != 0
                && event & event::VECTOR != DOUBLE_FAULT
                && event & event::UNMASKED_BY_IRET != 0
        }
        Exit::NestedFault { .. } => read(Field::Qualification) & nested::UNMASKED_BY_IRET != 0,
        _ => false,
    };
    // Nor is it while another event was being delivered.
    said && read(Field::VectoringEvent) & event::VALID == 0
}

/// What DR6 is to become when a #DB ended the run: then the processor leaves it alone, and the qualification says what it
/// would have got (Intel SDM vol. 3, 28.1 and 28.2.1).
#[must_use]
pub const fn debug_status(dr6: u64, qualification: u64) -> u64 {
    const BREAKPOINTS: u64 = 0xf;
    const ACCESS_AND_STEP: u64 = 3 << 13;
    dr6 & !BREAKPOINTS | qualification & (BREAKPOINTS | ACCESS_AND_STEP)
}

/// An exit reason in words (Intel SDM vol. 3, appendix C).
#[must_use]
pub const fn reason_name(reason: u32) -> &'static str {
    match reason & BASIC {
        basic @ 0..=39 => older_name(basic),
        basic => newer_name(basic),
    }
}

const fn older_name(basic: u32) -> &'static str {
    match basic {
        0 => "exception or NMI",
        1 => "external interrupt",
        2 => "triple fault",
        3 => "INIT",
        4 => "start-up message",
        5 => "SMI of an I/O instruction",
        6 => "another SMI",
        7 => "interrupt window",
        8 => "NMI window",
        9 => "task switch",
        10 => "CPUID",
        11 => "GETSEC",
        12 => "HLT",
        13 => "INVD",
        14 => "INVLPG",
        15 => "RDPMC",
        16 => "RDTSC",
        17 => "RSM",
        18 => "VMCALL",
        19 => "VMCLEAR",
        20 => "VMLAUNCH",
        21 => "VMPTRLD",
        22 => "VMPTRST",
        23 => "VMREAD",
        24 => "VMRESUME",
        25 => "VMWRITE",
        26 => "VMXOFF",
        27 => "VMXON",
        28 => "access to a control register",
        29 => "access to a debug register",
        30 => "access to a port",
        31 => "RDMSR",
        32 => "WRMSR",
        33 => "entry with an invalid guest state",
        34 => "entry that could not load MSRs",
        36 => "MWAIT",
        37 => "monitor trap",
        39 => "MONITOR",
        _ => NO_REASON,
    }
}

const fn newer_name(basic: u32) -> &'static str {
    match basic {
        40 => "PAUSE",
        41 => "machine check during an entry",
        43 => "task priority below the threshold",
        44 => "access to the APIC page",
        45 => "virtualized EOI",
        46 => "access to GDTR or IDTR",
        47 => "access to LDTR or TR",
        48 => "EPT violation",
        49 => "EPT misconfiguration",
        50 => "INVEPT",
        51 => "RDTSCP",
        52 => "preemption timer",
        53 => "INVVPID",
        54 => "WBINVD or WBNOINVD",
        55 => "XSETBV",
        56 => "write to the virtual APIC",
        57 => "RDRAND",
        58 => "INVPCID",
        59 => "VMFUNC",
        60 => "ENCLS",
        61 => "RDSEED",
        62 => "page modification log full",
        63 => "XSAVES",
        64 => "XRSTORS",
        65 => "PCONFIG",
        66 => "sub-page permissions",
        67 => "UMWAIT",
        68 => "TPAUSE",
        69 => "LOADIWKEY",
        70 => "ENCLV",
        72 => "ENQCMD without a PASID",
        73 => "ENQCMDS without a PASID",
        74 => "bus lock",
        75 => "no interrupt window for too long",
        76 => "SEAMCALL",
        77 => "TDCALL",
        78 => "RDMSRLIST",
        79 => "WRMSRLIST",
        _ => NO_REASON,
    }
}

const NO_REASON: &str = "no reason of the manual";
