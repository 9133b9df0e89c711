//! Why a guest left its container, decoded from a VMCB (AMD APM vol. 2, appendix C).
//!
//! What a CPU without decode assists does not tell is `None`, and then the instruction is to be looked at.

#[cfg(test)]
mod tests;

/// Why a guest left its container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// An interrupt of the machine waits: it is taken by the CPU's own handlers once interrupts are on.
    Interrupt,
    /// The same of an NMI, which has been taken by now.
    Nmi,
    /// The same of a system management interrupt.
    Smi,
    /// The same of an INIT.
    Init,
    /// The guest raised an exception, which it has not got.
    Exception {
        /// Which.
        vector: u8,
        /// Its error code.
        error: Option<u32>,
        /// What CR2 is to become, for #PF; else 0.
        address: u64,
    },
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest is about to execute the IRET that ends its handler of an NMI. NMIs are to be unmasked; but this one
    /// IRET must not be interrupted, or the stack of NMIs grows: with the interrupt shadow set nothing that looks at
    /// it comes in between.
    IretDone,
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// PAUSE, often enough.
    Pause,
    /// RDTSC.
    Rdtsc,
    /// RDTSCP.
    Rdtscp,
    /// RDPMC.
    Rdpmc,
    /// INVD.
    Invd,
    /// WBINVD.
    Wbinvd,
    /// INVLPG.
    Invlpg {
        /// Of this linear address.
        address: Option<u64>,
    },
    /// MONITOR or MONITORX.
    Monitor,
    /// MWAIT or MWAITX.
    Mwait,
    /// XSETBV.
    Xsetbv,
    /// VMMCALL.
    Hypercall,
    /// RDMSR or WRMSR.
    Msr {
        /// WRMSR.
        write: bool,
    },
    /// IN, OUT, INS or OUTS.
    Port {
        /// OUT or OUTS.
        write: bool,
        /// The first port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// INS or OUTS.
        string: bool,
        /// With a REP prefix.
        rep: bool,
        /// Where the guest goes on.
        next_rip: u64,
    },
    /// An access to a control register: MOV, or for CR0 also CLTS, LMSW or SMSW.
    CrAccess {
        /// Which, 0 to 15.
        cr: u8,
        /// It is written.
        write: bool,
        /// The general register of the MOV, by its number in instructions.
        gpr: Option<u8>,
    },
    /// MOV to or from a debug register.
    DrAccess {
        /// Which, 0 to 15.
        dr: u8,
        /// It is written.
        write: bool,
        /// The general register, by its number in instructions.
        gpr: Option<u8>,
    },
    /// A guest physical address is not mapped for this access.
    NestedFault {
        /// The guest physical address.
        address: u64,
        /// A write.
        write: bool,
        /// An instruction fetch.
        fetch: bool,
        /// There is a mapping, which does not allow it.
        present: bool,
        /// The address is that of one of the guest's page tables.
        in_walk: bool,
    },
    /// LGDT and the like.
    DescriptorTable,
    /// A task switch.
    TaskSwitch,
    /// The guest met a triple fault. Its state in the container is not to be relied on.
    Shutdown,
    /// An instruction that the guest is told that it does not have: #UD.
    Forbidden,
    /// The hardware refused the state: nothing was executed.
    Invalid,
    /// What we did not ask for.
    Unknown {
        /// The vendor's code.
        code: u64,
        /// What came with it.
        info1: u64,
        /// And more.
        info2: u64,
    },
}

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
/// The longest instruction.
const MAX_LENGTH: u64 = 15;
/// #PF.
const PAGE_FAULT: u8 = 14;

/// Whether an exception pushes an error code (AMD APM vol. 2, table 8-1).
#[must_use]
pub const fn has_error_code(vector: u8) -> bool {
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

impl Exit {
    /// Decodes EXITCODE, EXITINFO1 and EXITINFO2.
    #[must_use]
    pub fn decode(code: u64, info1: u64, info2: u64, assists: Assists) -> Self {
        let unknown = Self::Unknown { code, info1, info2 };
        // Codes of failed entries are negative; some processors write the low half only.
        if !matches!(code >> 32, 0 | 0xffff_ffff) {
            return unknown;
        }
        let decoded = assists == Assists::Decoded;
        let low = code as u32;
        match low {
            0x00..=0x3f => Self::register(low as u8, info1, decoded),
            0x40..=0x5f => Self::exception((low & 0x1f) as u8, info1, info2),
            0x60 => Self::Interrupt,
            0x61 => Self::Nmi,
            0x62 => Self::Smi,
            0x63 => Self::Init,
            0x64 => Self::InterruptWindow,
            0x65 => Self::register(0x10, info1, decoded),
            0x66..=0x6d => Self::DescriptorTable,
            0x74 => Self::IretDone,
            0x79 => Self::Invlpg {
                address: decoded.then_some(info1),
            },
            0x7b => Self::port(info1, info2),
            0x7c => Self::Msr {
                write: info1 & 1 != 0,
            },
            0x7d => Self::TaskSwitch,
            0x7f => Self::Shutdown,
            0x400 => Self::nested_fault(info1, info2),
            0xffff_fffc..=0xffff_ffff => Self::Invalid,
            _ => Self::instruction(low).unwrap_or(unknown),
        }
    }

    /// Instructions of which the code says all.
    const fn instruction(low: u32) -> Option<Self> {
        Some(match low {
            0x6e => Self::Rdtsc,
            0x6f => Self::Rdpmc,
            0x72 => Self::Cpuid,
            0x76 => Self::Invd,
            0x77 => Self::Pause,
            0x78 | 0xa6 => Self::Hlt,
            0x81 => Self::Hypercall,
            0x87 => Self::Rdtscp,
            0x89 => Self::Wbinvd,
            0x8a => Self::Monitor,
            0x8b | 0x8c => Self::Mwait,
            0x8d => Self::Xsetbv,
            // RSM, INVLPGA; VMRUN; VMLOAD to SKINIT; RDPRU; INVLPGB, MCOMMIT, TLBSYNC.
            0x73 | 0x7a | 0x80 | 0x82..=0x86 | 0x8e | 0xa0 | 0xa1 | 0xa3 | 0xa4 => Self::Forbidden,
            _ => return None,
        })
    }

    const fn register(low: u8, info1: u64, decoded: bool) -> Self {
        let (number, write) = (low & 0xf, low & 0x10 != 0);
        let gpr = (info1 & 0xf) as u8;
        if low < 0x20 {
            return Self::CrAccess {
                cr: number,
                write,
                gpr: if decoded && info1 & WAS_MOV != 0 {
                    Some(gpr)
                } else {
                    None
                },
            };
        }
        Self::DrAccess {
            dr: number,
            write,
            gpr: if decoded { Some(gpr) } else { None },
        }
    }

    fn exception(vector: u8, info1: u64, info2: u64) -> Self {
        Self::Exception {
            vector,
            error: has_error_code(vector).then_some(info1 as u32),
            address: if vector == PAGE_FAULT { info2 } else { 0 },
        }
    }

    fn port(info1: u64, info2: u64) -> Self {
        // One of three bits is set; a CPU that set none or several would mean a byte.
        let size = match info1 >> port::SIZE_SHIFT & 7 {
            2 => 2,
            4 => 4,
            _ => 1,
        };
        Self::Port {
            write: info1 & port::IN == 0,
            port: (info1 >> port::NUMBER_SHIFT) as u16,
            size,
            string: info1 & port::STRING != 0,
            rep: info1 & port::REP != 0,
            next_rip: info2,
        }
    }

    fn nested_fault(info1: u64, info2: u64) -> Self {
        Self::NestedFault {
            address: info2,
            write: info1 & nested::WRITE != 0,
            fetch: info1 & nested::FETCH != 0,
            present: info1 & nested::PRESENT != 0,
            in_walk: info1 & nested::IN_WALK != 0,
        }
    }

    /// Whether an instruction ended the run by itself, so that the hardware may know where the next one is.
    #[must_use]
    pub const fn is_instruction(&self) -> bool {
        match self {
            Self::IretDone
            | Self::Cpuid
            | Self::Hlt
            | Self::Pause
            | Self::Rdtsc
            | Self::Rdtscp
            | Self::Rdpmc
            | Self::Invd
            | Self::Wbinvd
            | Self::Invlpg { .. }
            | Self::Monitor
            | Self::Mwait
            | Self::Xsetbv
            | Self::Hypercall
            | Self::Msr { .. }
            | Self::Port { .. }
            | Self::CrAccess { .. }
            | Self::DrAccess { .. }
            | Self::DescriptorTable
            | Self::Forbidden => true,
            Self::Interrupt
            | Self::Nmi
            | Self::Smi
            | Self::Init
            | Self::Exception { .. }
            | Self::InterruptWindow
            | Self::NestedFault { .. }
            | Self::TaskSwitch
            | Self::Shutdown
            | Self::Invalid
            | Self::Unknown { .. } => false,
        }
    }

    /// The length of the instruction at `rip` that ended the run: from what came with the exit, or from the next rip
    /// that the CPU keeps (`next_rip`; `None` where it keeps none). A length that no instruction has is not told.
    #[must_use]
    pub fn instruction_length_hint(&self, rip: u64, next_rip: Option<u64>) -> Option<u8> {
        let next = match self {
            Self::Port { next_rip, .. } => *next_rip,
            _ if self.is_instruction() => next_rip?,
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
}
