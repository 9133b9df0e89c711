//! Stand-in for the parts of `xen-abi` used here, until that crate has them.
#![allow(non_upper_case_globals, missing_docs, dead_code)]
pub mod elfnote {
    /// Free text, name=value (elfnote.h).
    pub const XEN_ELFNOTE_INFO: u32 = 0;
    /// Virtual address of the PV entry point (elfnote.h).
    pub const XEN_ELFNOTE_ENTRY: u32 = 1;
    /// Virtual address of the page to fill with hypercall stubs (elfnote.h).
    pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
    /// Virtual address at which the image is mapped (elfnote.h).
    pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
    /// What to subtract from ELF physical addresses (elfnote.h).
    pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
    /// Interface the kernel was written for, e.g. "xen-3.0" (elfnote.h).
    pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
    /// Name of the guest's operating system (elfnote.h).
    pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
    /// Version of the guest's operating system (elfnote.h).
    pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
    /// Type of loader, "generic" (elfnote.h).
    pub const XEN_ELFNOTE_LOADER: u32 = 8;
    /// 32-bit kernels: "yes", "no" or "bimodal" (elfnote.h).
    pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
    /// Features as a string, '|' between names, '!' before required ones (elfnote.h).
    pub const XEN_ELFNOTE_FEATURES: u32 = 10;
    /// "yes": load the symbol table too (elfnote.h).
    pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
    /// Lowest address at which the hypervisor's hole may begin (elfnote.h).
    pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
    /// Mask and value pairs that tell level-1 entries with valid frames (elfnote.h).
    pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
    /// The kernel can go on after a cancelled suspend (elfnote.h).
    pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
    /// Virtual address at which to map the physical-to-machine list (elfnote.h).
    pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
    /// The module may be left unmapped and passed by frame number (elfnote.h).
    pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
    /// Features as a bitmap of `XENFEAT_*` (elfnote.h).
    pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
    /// Physical address of the 32-bit PVH entry point (elfnote.h).
    pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    /// Highest note for loaders (elfnote.h).
    pub const XEN_ELFNOTE_MAX: u32 = 18;
    /// Crash note: state of the system (elfnote.h).
    pub const XEN_ELFNOTE_CRASH_INFO: u32 = 16_777_217;
    /// Crash note: registers of one CPU (elfnote.h).
    pub const XEN_ELFNOTE_CRASH_REGS: u32 = 16_777_218;
    /// Core dump: marks the file (elfnote.h).
    pub const XEN_ELFNOTE_DUMPCORE_NONE: u32 = 33_554_432;
    /// Core dump: header (elfnote.h).
    pub const XEN_ELFNOTE_DUMPCORE_HEADER: u32 = 33_554_433;
    /// Core dump: version of the hypervisor (elfnote.h).
    pub const XEN_ELFNOTE_DUMPCORE_XEN_VERSION: u32 = 33_554_434;
    /// Core dump: version of the format (elfnote.h).
    pub const XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION: u32 = 33_554_435;
}
pub mod features {
    /// The guest writes its page tables itself (features.h).
    pub const XENFEAT_writable_page_tables: u32 = 0;
    /// The guest writes its descriptor tables itself (features.h).
    pub const XENFEAT_writable_descriptor_tables: u32 = 1;
    /// The hypervisor translates guest-physical addresses (features.h).
    pub const XENFEAT_auto_translated_physmap: u32 = 2;
    /// The guest's kernel runs in ring 0 (features.h).
    pub const XENFEAT_supervisor_mode_kernel: u32 = 3;
    /// PAE page directories may lie above 4 GiB (features.h).
    pub const XENFEAT_pae_pgdir_above_4gb: u32 = 4;
    /// `MMU_PT_UPDATE_PRESERVE_AD` exists (features.h).
    pub const XENFEAT_mmu_pt_update_preserve_ad: u32 = 5;
    /// `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE` exist (features.h).
    pub const XENFEAT_highmem_assist: u32 = 6;
    /// Grant mapping sets the available bits asked for (features.h).
    pub const XENFEAT_gnttab_map_avail_bits: u32 = 7;
    /// Events can arrive as an interrupt vector (features.h).
    pub const XENFEAT_hvm_callback_vector: u32 = 8;
    /// The paravirtual clock is usable by fully virtualised guests (features.h).
    pub const XENFEAT_hvm_safe_pvclock: u32 = 9;
    /// Fully virtualised guests can bind physical interrupts (features.h).
    pub const XENFEAT_hvm_pirqs: u32 = 10;
    /// The guest may be the first domain (features.h).
    pub const XENFEAT_dom0: u32 = 11;
    /// `XENMEMF_vnode` exists (features.h).
    pub const XENFEAT_memory_op_vnode_supported: u32 = 13;
    /// Arm only: SMC calling convention (features.h).
    pub const XENFEAT_ARM_SMCCC_supported: u32 = 14;
    /// PVH: the RSDP may lie anywhere (features.h).
    pub const XENFEAT_linux_rsdp_unrestricted: u32 = 15;
    /// The guest's frame numbers are not machine frame numbers (features.h).
    pub const XENFEAT_not_direct_mapped: u32 = 16;
    /// The guest's frame numbers are machine frame numbers (features.h).
    pub const XENFEAT_direct_mapped: u32 = 17;
    /// Number of 32-bit words of features (features.h).
    pub const XENFEAT_NR_SUBMAPS: u32 = 1;
}
pub mod arch_x86 {
    /// Start of the address range a PV guest leaves to the hypervisor (arch-x86/xen.h).
    pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
    /// End (exclusive) of that range (arch-x86/xen.h).
    pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
}
pub mod hypercall {
    /// Return from an exception frame built on the kernel stack (xen.h).
    pub const __HYPERVISOR_iret: u32 = 23;
}
pub mod start_info {

    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    /// Flag: the domain is privileged (xen.h).
    pub const SIF_PRIVILEGED: u32 = 0x1;
    /// Flag: this is the first domain (xen.h).
    pub const SIF_INITDOMAIN: u32 = 0x2;
    /// Flag: `mod_start` is a [`MultibootModList`] (xen.h).
    pub const SIF_MULTIBOOT_MOD: u32 = 0x4;
    /// Flag: `mod_start` is a frame number, not an address (xen.h).
    pub const SIF_MOD_START_PFN: u32 = 0x8;
    /// Flag: tools understand a linear physical-to-machine list (xen.h).
    pub const SIF_VIRT_P2M_4TOOLS: u32 = 0x10;
    /// Flags: power-management bits (xen.h).
    pub const SIF_PM_MASK: u32 = 0xff00;

    /// Size in bytes of the command line, with its zero (xen.h).
    pub const MAX_GUEST_CMDLINE: usize = 1024;

    /// What a PV kernel is told when it starts (xen.h).
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    pub struct StartInfo {
        /// Interface name, `xen-3.0-x86_64`, zero-terminated.
        pub magic: [u8; 32],
        /// Pages the domain has.
        pub nr_pages: u64,
        /// Machine address of the shared info page.
        pub shared_info: u64,
        /// `SIF_*`.
        pub flags: u32,
        /// Padding.
        pub _pad0: [u8; 4],
        /// Machine frame of the xenstore page.
        pub store_mfn: u64,
        /// Event channel of xenstore.
        pub store_evtchn: u32,
        /// Padding.
        pub _pad1: [u8; 4],
        /// A [`StartInfoConsoleDomu`] or a [`StartInfoConsoleDom0`].
        pub console: [u64; 2],
        /// Virtual address of the level-4 table.
        pub pt_base: u64,
        /// Number of initial page-table frames.
        pub nr_pt_frames: u64,
        /// Virtual address of the physical-to-machine list.
        pub mfn_list: u64,
        /// Virtual address (or frame, or list: see the flags) of the module.
        pub mod_start: u64,
        /// Size in bytes of the module.
        pub mod_len: u64,
        /// Zero-terminated command line.
        pub cmd_line: [u8; 1024],
        /// First frame of the physical-to-machine list if that is not in the initial mapping.
        pub first_p2m_pfn: u64,
        /// Number of frames of that list.
        pub nr_p2m_frames: u64,
    }

    impl Default for StartInfo {
        fn default() -> Self {
            zerocopy::FromZeros::new_zeroed()
        }
    }

    /// [`StartInfo::console`] of an ordinary domain (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct StartInfoConsoleDomu {
        /// Machine frame of the console page.
        pub mfn: u64,
        /// Event channel of the console.
        pub evtchn: u32,
        /// Padding.
        pub _pad0: [u8; 4],
    }

    /// [`StartInfo::console`] of the first domain (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct StartInfoConsoleDom0 {
        /// Offset from the start info page of a [`Dom0VgaConsoleInfo`].
        pub info_off: u32,
        /// Size in bytes of that structure.
        pub info_size: u32,
    }

    /// One module; the list ends with an entry whose `mod_start` is zero (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct MultibootModList {
        /// Offset of the first byte from the list's start.
        pub mod_start: u32,
        /// Offset of the last byte.
        pub mod_end: u32,
        /// Offset of the zero-terminated command line.
        pub cmdline: u32,
        /// Padding; zero.
        pub pad: u32,
    }

    /// VGA text mode 3; [`VgaTextMode3`] (xen.h).
    pub const XEN_VGATYPE_TEXT_MODE_3: u8 = 0x3;
    /// Linear frame buffer from VESA; [`VgaVesaLfb`] (xen.h).
    pub const XEN_VGATYPE_VESA_LFB: u8 = 0x23;
    /// Linear frame buffer from EFI; [`VgaVesaLfb`] (xen.h).
    pub const XEN_VGATYPE_EFI_LFB: u8 = 0x70;

    /// The screen the first domain inherits (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Dom0VgaConsoleInfo {
        /// `XEN_VGATYPE_*`.
        pub video_type: u8,
        /// Padding.
        pub _pad0: [u8; 3],
        /// A [`VgaTextMode3`] or a [`VgaVesaLfb`].
        pub u: [u32; 9],
    }

    /// Text screen (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct VgaTextMode3 {
        /// Height of a character in pixels.
        pub font_height: u16,
        /// Column of the cursor.
        pub cursor_x: u16,
        /// Row of the cursor.
        pub cursor_y: u16,
        /// Number of rows.
        pub rows: u16,
        /// Number of columns.
        pub columns: u16,
    }

    /// Linear frame buffer (xen.h).
    #[repr(C)]
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct VgaVesaLfb {
        /// Width in pixels.
        pub width: u16,
        /// Height in pixels.
        pub height: u16,
        /// Bytes from one line to the next.
        pub bytes_per_line: u16,
        /// Bits per pixel.
        pub bits_per_pixel: u16,
        /// Physical address, low half.
        pub lfb_base: u32,
        /// Size in units of 64 KiB.
        pub lfb_size: u32,
        /// Lowest bit of red.
        pub red_pos: u8,
        /// Number of bits of red.
        pub red_size: u8,
        /// Lowest bit of green.
        pub green_pos: u8,
        /// Number of bits of green.
        pub green_size: u8,
        /// Lowest bit of blue.
        pub blue_pos: u8,
        /// Number of bits of blue.
        pub blue_size: u8,
        /// Lowest unused bit.
        pub rsvd_pos: u8,
        /// Number of unused bits.
        pub rsvd_size: u8,
        /// VESA capabilities.
        pub gbl_caps: u32,
        /// VESA mode attributes.
        pub mode_attrs: u16,
        /// Padding; zero.
        pub pad: u16,
        /// Physical address, high half.
        pub ext_lfb_base: u32,
    }

    /// Value of [`StartInfo::magic`] up to its terminating zero for a 64-bit guest (xen.h).
    pub const START_INFO_MAGIC: &[u8] = b"xen-3.0-x86_64";
}
