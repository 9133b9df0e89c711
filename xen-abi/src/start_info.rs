//! Start of day of a PV domain (xen.h): the page in `rsi` at entry, its flags, the VGA console
//! description behind it and the list of boot modules.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handle::zero_default;

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

zero_default!(StartInfo);

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
