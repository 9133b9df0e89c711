//! ELF notes by which a kernel describes itself (elfnote.h); the note name is "Xen".

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
