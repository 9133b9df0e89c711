//! Why a guest left its container, by a VMCB's exit code (AMD APM vol. 2, appendix C). What a CPU without decode assists
//! does not tell is `None`.

#[cfg(test)]
mod tests;

use crate::hvm::exit::{Exit, MAX_LENGTH};

/// EXITINFO1 of an access to a port (AMD APM vol. 2, 15.10.2).
mod port {
    pub const IN: u64 = 1 << 0;
    pub const STRING: u64 = 1 << 2;
    pub const REP: u64 = 1 << 3;
    pub const SIZE_SHIFT: u32 = 4;
    pub const NUMBER_SHIFT: u32 = 16;
}

/// EXITINFO1 of a nested page fault (AMD APM vol. 2, 15.25.6).
mod nested {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const FETCH: u64 = 1 << 4;
    pub const IN_WALK: u64 = 1 << 33;
}

/// EXITINFO1 of an access to a control register: it was a MOV (AMD APM vol. 2, 15.8.1).
const WAS_MOV: u64 = 1 << 63;
/// #PF.
const PAGE_FAULT: u8 = 14;

/// Whether an exception pushes an error code (AMD APM vol. 2, table 8-1).
const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// Whether the CPU says what the instruction was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assists {
    /// It does (CPUID 8000_000A edx bit 7).
    Decoded,
    /// It does not.
    Absent,
}

/// The lowest code of a state that was refused, in its low half.
const FIRST_REFUSAL: u32 = 0xffff_fffc;

/// Decodes EXITCODE, EXITINFO1 and EXITINFO2.
#[must_use]
pub fn decode(code: u64, info1: u64, info2: u64, assists: Assists) -> Exit {
    let unknown = Exit::Unknown {
        code,
        name: code_name(code),
        info1,
        info2,
    };
    // Codes of failed entries are negative; some processors write the low half only.
    if !matches!(code >> 32, 0 | 0xffff_ffff) {
        return unknown;
    }
    let decoded = assists == Assists::Decoded;
    let low = code as u32;
    match low {
        0x00..=0x3f => register(low as u8, info1, decoded),
        0x40..=0x5f => exception((low & 0x1f) as u8, info1, info2),
        0x60 => Exit::Interrupt,
        0x61 => Exit::Nmi,
        0x62 => Exit::Smi,
        0x63 => Exit::Init,
        0x64 => Exit::InterruptWindow,
        0x65 => register(0x10, info1, decoded),
        0x66..=0x6d => Exit::DescriptorTable,
        0x74 => Exit::IretDone,
        0x79 => Exit::Invlpg {
            address: decoded.then_some(info1),
        },
        0x7b => port(info1, info2),
        0x7c => Exit::Msr {
            write: info1 & 1 != 0,
        },
        0x7d => Exit::TaskSwitch,
        0x7f => Exit::Shutdown,
        0x400 => nested_fault(info1, info2),
        FIRST_REFUSAL..=0xffff_ffff => Exit::Invalid,
        _ => instruction(low).unwrap_or(unknown),
    }
}

/// Codes that we do not ask for, in words.
const fn code_name(code: u64) -> &'static str {
    match code {
        0x70 => "PUSHF",
        0x71 => "POPF",
        0x75 => "INT n",
        0x7e => "FERR_FREEZE",
        0x88 => "ICEBP",
        0x8f => "a write of EFER, done",
        0x90..=0x9f => "a write of a control register, done",
        0xa2 => "INVPCID",
        0xa5 => "bus lock",
        0x401 => "incomplete IPI",
        0x402 => "access to the virtual APIC",
        0x403 => "VMGEXIT",
        _ => "no code of the manual",
    }
}

/// Instructions of which the code says all.
const fn instruction(low: u32) -> Option<Exit> {
    Some(match low {
        0x6e => Exit::Rdtsc,
        0x6f => Exit::Rdpmc,
        0x72 => Exit::Cpuid,
        0x76 => Exit::Invd,
        0x77 => Exit::Pause,
        0x78 | 0xa6 => Exit::Hlt,
        0x81 => Exit::Hypercall,
        0x87 => Exit::Rdtscp,
        0x89 => Exit::Wbinvd,
        0x8a => Exit::Monitor,
        0x8b | 0x8c => Exit::Mwait,
        0x8d => Exit::Xsetbv,
        // RSM, INVLPGA; VMRUN; VMLOAD to SKINIT; RDPRU; INVLPGB, MCOMMIT, TLBSYNC.
        0x73 | 0x7a | 0x80 | 0x82..=0x86 | 0x8e | 0xa0 | 0xa1 | 0xa3 | 0xa4 => Exit::Forbidden,
        _ => return None,
    })
}

const fn register(low: u8, info1: u64, decoded: bool) -> Exit {
    let (number, write) = (low & 0xf, low & 0x10 != 0);
    let gpr = (info1 & 0xf) as u8;
    if low < 0x20 {
        return Exit::CrAccess {
            cr: number,
            write,
            gpr: if decoded && info1 & WAS_MOV != 0 {
                Some(gpr)
            } else {
                None
            },
        };
    }
    Exit::DrAccess {
        dr: number,
        write,
        gpr: if decoded { Some(gpr) } else { None },
    }
}

fn exception(vector: u8, info1: u64, info2: u64) -> Exit {
    Exit::Exception {
        vector,
        error: has_error_code(vector).then_some(info1 as u32),
        address: if vector == PAGE_FAULT { info2 } else { 0 },
    }
}

fn port(info1: u64, info2: u64) -> Exit {
    // One of three bits is set; a CPU that set none or several would mean a byte.
    let size = match info1 >> port::SIZE_SHIFT & 7 {
        2 => 2,
        4 => 4,
        _ => 1,
    };
    Exit::Port {
        write: info1 & port::IN == 0,
        port: (info1 >> port::NUMBER_SHIFT) as u16,
        size,
        string: info1 & port::STRING != 0,
        rep: info1 & port::REP != 0,
        next_rip: info2,
    }
}

fn nested_fault(info1: u64, info2: u64) -> Exit {
    Exit::NestedFault {
        address: info2,
        write: info1 & nested::WRITE != 0,
        fetch: info1 & nested::FETCH != 0,
        present: info1 & nested::PRESENT != 0,
        in_walk: info1 & nested::IN_WALK != 0,
    }
}

/// Whether an exit code says that the state was refused, so that nothing was executed ([`Exit::Invalid`]).
#[must_use]
pub const fn is_refusal(code: u64) -> bool {
    // Codes of failed entries are negative; some processors write the low half only.
    matches!(code >> 32, 0 | 0xffff_ffff) && code as u32 >= FIRST_REFUSAL
}

/// The length of the instruction at `rip` that ended the run: from what came with the exit, or from the next rip that
/// the CPU keeps (`next_rip`; `None` where it keeps none). A length that no instruction has is not told.
#[must_use]
pub fn instruction_length(exit: &Exit, rip: u64, next_rip: Option<u64>) -> Option<u8> {
    let next = match exit {
        Exit::Port { next_rip, .. } => *next_rip,
        _ if exit.is_instruction() => next_rip?,
        _ => return None,
    };
    let length = next.wrapping_sub(rip);
    // Outside long mode the instruction pointer has 32 bits.
    let length = if length > MAX_LENGTH {
        length & 0xffff_ffff
    } else {
        length
    };
    (1..=MAX_LENGTH).contains(&length).then_some(length as u8)
}
