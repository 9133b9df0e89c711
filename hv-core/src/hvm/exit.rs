//! Why a guest left its container, whichever vendor made the processor: `vmcb/exits.rs` and `vmcs/exits.rs` tell it from
//! what the hardware says.
//!
//! What the processor does not tell is `None`, and then the instruction is to be looked at.

/// The longest instruction (AMD APM vol. 3, 1.1).
pub const MAX_LENGTH: u64 = 15;

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
    /// The IRET that ends the guest's handler of an NMI is done, and NMIs can be taken again.
    NmiWindow,
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
    /// VMMCALL or VMCALL.
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
        /// The same in words.
        name: &'static str,
        /// What came with it.
        info1: u64,
        /// And more.
        info2: u64,
    },
}

impl Exit {
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
            | Self::NmiWindow
            | Self::NestedFault { .. }
            | Self::TaskSwitch
            | Self::Shutdown
            | Self::Invalid
            | Self::Unknown { .. } => false,
        }
    }
}
