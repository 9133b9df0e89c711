//! The fields of a VMCS (Intel SDM vol. 3, appendix B) and what their bits mean (chapters "Virtual-Machine Control
//! Structures", "VM Entries" and "VM Exits").

/// What a field is for (Intel SDM vol. 3, 25.11.2): bits 11:10 of its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Set by software, left alone by the processor.
    Control,
    /// Written by the processor at an exit.
    Told,
    /// The guest's, which the processor changes while it runs.
    Guest,
    /// What an exit loads.
    Host,
}

macro_rules! fields {
    ($($name:ident = $encoding:literal,)*) => {
        /// A field, named as in the manual.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "named as in the manual")]
        pub enum Field { $($name,)* }

        impl Field {
            /// All of them, each at the place of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its number for VMREAD and VMWRITE.
            #[must_use]
            pub const fn encoding(self) -> u32 {
                match self { $(Self::$name => $encoding,)* }
            }
        }
    };
}

fields! {
    Vpid = 0x0000,
    EsSelector = 0x0800,
    CsSelector = 0x0802,
    SsSelector = 0x0804,
    DsSelector = 0x0806,
    FsSelector = 0x0808,
    GsSelector = 0x080a,
    LdtrSelector = 0x080c,
    TrSelector = 0x080e,
    HostEsSelector = 0x0c00,
    HostCsSelector = 0x0c02,
    HostSsSelector = 0x0c04,
    HostDsSelector = 0x0c06,
    HostFsSelector = 0x0c08,
    HostGsSelector = 0x0c0a,
    HostTrSelector = 0x0c0c,
    MsrBitmap = 0x2004,
    TscOffset = 0x2010,
    VirtualApic = 0x2012,
    EptPointer = 0x201a,
    XssExitBitmap = 0x202c,
    GuestPhysicalAddress = 0x2400,
    VmcsLink = 0x2800,
    DebugCtl = 0x2802,
    Efer = 0x2806,
    Pdpte0 = 0x280a,
    Pdpte1 = 0x280c,
    Pdpte2 = 0x280e,
    Pdpte3 = 0x2810,
    HostEfer = 0x2c02,
    PinControls = 0x4000,
    PrimaryControls = 0x4002,
    ExceptionBitmap = 0x4004,
    PageFaultMask = 0x4006,
    PageFaultMatch = 0x4008,
    Cr3TargetCount = 0x400a,
    ExitControls = 0x400c,
    ExitMsrStoreCount = 0x400e,
    ExitMsrLoadCount = 0x4010,
    EntryControls = 0x4012,
    EntryMsrLoadCount = 0x4014,
    EntryEvent = 0x4016,
    EntryErrorCode = 0x4018,
    EntryInstructionLength = 0x401a,
    TprThreshold = 0x401c,
    SecondaryControls = 0x401e,
    PauseLoopGap = 0x4020,
    PauseLoopWindow = 0x4022,
    InstructionError = 0x4400,
    ExitReason = 0x4402,
    ExitEvent = 0x4404,
    ExitErrorCode = 0x4406,
    VectoringEvent = 0x4408,
    VectoringErrorCode = 0x440a,
    InstructionLength = 0x440c,
    EsLimit = 0x4800,
    CsLimit = 0x4802,
    SsLimit = 0x4804,
    DsLimit = 0x4806,
    FsLimit = 0x4808,
    GsLimit = 0x480a,
    LdtrLimit = 0x480c,
    TrLimit = 0x480e,
    GdtrLimit = 0x4810,
    IdtrLimit = 0x4812,
    EsRights = 0x4814,
    CsRights = 0x4816,
    SsRights = 0x4818,
    DsRights = 0x481a,
    FsRights = 0x481c,
    GsRights = 0x481e,
    LdtrRights = 0x4820,
    TrRights = 0x4822,
    Interruptibility = 0x4824,
    Activity = 0x4826,
    SysenterCs = 0x482a,
    PreemptionTimer = 0x482e,
    HostSysenterCs = 0x4c00,
    Cr0Mask = 0x6000,
    Cr4Mask = 0x6002,
    Cr0Shadow = 0x6004,
    Cr4Shadow = 0x6006,
    Qualification = 0x6400,
    LinearAddress = 0x640a,
    Cr0 = 0x6800,
    Cr3 = 0x6802,
    Cr4 = 0x6804,
    EsBase = 0x6806,
    CsBase = 0x6808,
    SsBase = 0x680a,
    DsBase = 0x680c,
    FsBase = 0x680e,
    GsBase = 0x6810,
    LdtrBase = 0x6812,
    TrBase = 0x6814,
    GdtrBase = 0x6816,
    IdtrBase = 0x6818,
    Dr7 = 0x681a,
    Rsp = 0x681c,
    Rip = 0x681e,
    Rflags = 0x6820,
    PendingDebug = 0x6822,
    SysenterEsp = 0x6824,
    SysenterEip = 0x6826,
    HostCr0 = 0x6c00,
    HostCr3 = 0x6c02,
    HostCr4 = 0x6c04,
    HostFsBase = 0x6c06,
    HostGsBase = 0x6c08,
    HostTrBase = 0x6c0a,
    HostGdtrBase = 0x6c0c,
    HostIdtrBase = 0x6c0e,
    HostSysenterEsp = 0x6c10,
    HostSysenterEip = 0x6c12,
    HostRsp = 0x6c14,
    HostRip = 0x6c16,
}

/// Number of fields.
pub const FIELDS: usize = Field::ALL.len();

impl Field {
    /// What it is for.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.encoding() >> 10 & 3 {
            0 => Class::Control,
            1 => Class::Told,
            2 => Class::Guest,
            _ => Class::Host,
        }
    }

    /// Its bit in a set of fields.
    #[must_use]
    pub const fn bit(self) -> u128 {
        1 << self as u8
    }
}

/// An event that an entry gives, that ended a run, or that was being delivered when a run ended (tables 25-17, 25-19
/// and 25-20).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod event {
    pub const VECTOR: u64 = 0xff;
    pub const KIND_SHIFT: u32 = 8;
    pub const KIND: u64 = 7 << KIND_SHIFT;
    pub const EXTERNAL: u64 = 0;
    pub const NMI: u64 = 2;
    pub const HARDWARE_EXCEPTION: u64 = 3;
    pub const SOFTWARE_INTERRUPT: u64 = 4;
    /// #DB of ICEBP.
    pub const PRIVILEGED_EXCEPTION: u64 = 5;
    /// #BP of INT3, #OF of INTO.
    pub const SOFTWARE_EXCEPTION: u64 = 6;
    pub const HAS_ERROR: u64 = 1 << 11;
    /// An IRET had ended the masking of NMIs before the fault. Not in events that were being delivered.
    pub const UNMASKED_BY_IRET: u64 = 1 << 12;
    pub const VALID: u64 = 1 << 31;
}

/// What holds interrupts back (table 25-3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod interruptibility {
    pub const STI: u64 = 1 << 0;
    pub const MOV_SS: u64 = 1 << 1;
    pub const NMI: u64 = 1 << 3;
}

/// Access rights of a segment (table 25-2). Bits 0 to 7 are those of a descriptor.
#[allow(missing_docs, reason = "named as in the manual")]
pub mod rights {
    /// AVL, L, D/B, G.
    pub const UPPER_SHIFT: u32 = 12;
    pub const L: u64 = 1 << 13;
    pub const DB: u64 = 1 << 14;
    pub const G: u64 = 1 << 15;
    pub const UNUSABLE: u64 = 1 << 16;
}

/// Bit 31 of the exit reason: the entry failed (table 25-18).
pub const ENTRY_FAILED: u32 = 1 << 31;

const _: () = assert!(FIELDS <= 128, "a set of fields is one word");
