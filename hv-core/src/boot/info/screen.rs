//! Whether a screen that the loader tells of makes sense, and the words in which dom0 is told of it.

use core::fmt;

use xen_abi::start_info::{
    Dom0VgaConsoleInfo, VgaTextMode3, VgaVesaLfb, XEN_VGATYPE_EFI_LFB, XEN_VGATYPE_TEXT_MODE_3,
    XEN_VGATYPE_VESA_LFB,
};
use zerocopy::{Immutable, IntoBytes};

use super::video::{ColourField, Framebuffer, VideoInfo};
use crate::base::PAGE_SIZE;
use crate::boot::memmap::{MemoryMap, PHYS_LIMIT};

/// Most bytes of a framebuffer: an 8K screen has half of that.
const LARGEST: u64 = 256 << 20;

/// Who set the screen up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenMaker {
    /// A BIOS.
    Bios,
    /// EFI.
    Efi,
}

/// What is wrong with a framebuffer. Prints as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramebufferFault {
    /// It has no pixels.
    Empty(Framebuffer),
    /// Its lines are longer than the distance between them, or that is not in whole words.
    Pitch(Framebuffer),
    /// It is absurdly large or reaches beyond all addresses.
    TooLarge(Framebuffer),
    /// RAM lies there.
    InRam(Framebuffer),
    /// Text cannot be drawn with pixels of this depth.
    Depth(u8),
}

impl fmt::Display for FramebufferFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (framebuffer, why) = match self {
            Self::Empty(framebuffer) => (framebuffer, "has no pixels"),
            Self::Pitch(framebuffer) => (
                framebuffer,
                "has lines that overlap or begin inside a pixel",
            ),
            Self::TooLarge(framebuffer) => (framebuffer, "is too large"),
            Self::InRam(framebuffer) => (framebuffer, "lies in RAM"),
            Self::Depth(bits) => {
                return write!(
                    f,
                    "pixels of {bits} bits are not drawn on, only those of 24 or 32"
                );
            }
        };
        let Framebuffer {
            address,
            pitch,
            width,
            height,
            ..
        } = framebuffer;
        write!(
            f,
            "the framebuffer at {address:#x}, {width}x{height}, {pitch} bytes a line, {why}"
        )
    }
}

impl Framebuffer {
    /// Its size in bytes, when it is one that can be and that lies where no RAM is.
    ///
    /// # Errors
    /// [`FramebufferFault`] in words.
    pub fn check(&self, memory: &MemoryMap) -> Result<u64, FramebufferFault> {
        let line = u64::from(self.width) * u64::from(self.bits_per_pixel.div_ceil(8));
        if line == 0 || self.height == 0 {
            return Err(FramebufferFault::Empty(*self));
        }
        if u64::from(self.pitch) < line {
            return Err(FramebufferFault::Pitch(*self));
        }
        let len = u64::from(self.pitch) * u64::from(self.height);
        let end = self.address.0.checked_add(len);
        let Some(end) = end.filter(|end| len <= LARGEST && *end <= PHYS_LIMIT) else {
            return Err(FramebufferFault::TooLarge(*self));
        };
        let frames = self.address.mfn().0..end.div_ceil(PAGE_SIZE as u64);
        if memory.has_ram(frames) || self.address.0 < 1 << 20 {
            return Err(FramebufferFault::InRam(*self));
        }
        Ok(len)
    }

    /// The same, when text can be drawn on it.
    ///
    /// # Errors
    /// [`FramebufferFault`] in words.
    pub fn check_for_text(&self, memory: &MemoryMap) -> Result<u64, FramebufferFault> {
        let len = self.check(memory)?;
        if !matches!(self.bits_per_pixel, 24 | 32) {
            return Err(FramebufferFault::Depth(self.bits_per_pixel));
        }
        // Words must lie at their size.
        if self.bits_per_pixel == 32 && (self.address.0 | u64::from(self.pitch)) & 3 != 0 {
            return Err(FramebufferFault::Pitch(*self));
        }
        Ok(len)
    }

    /// A white pixel.
    #[must_use]
    pub fn white(&self) -> u32 {
        let bits = |colour: ColourField| {
            let ones = (1u64 << colour.size.min(32)) - 1;
            (ones << colour.position.min(32)) as u32
        };
        match bits(self.red) | bits(self.green) | bits(self.blue) {
            0 => 0x00ff_ffff,
            white => white,
        }
    }
}

impl VideoInfo {
    /// The screen as dom0's kernel wants to know it (xen.h, `dom0_vga_console_info`); `None` for one that is
    /// unknown or makes no sense.
    #[must_use]
    pub fn for_dom0(&self, memory: &MemoryMap, maker: ScreenMaker) -> Option<Dom0VgaConsoleInfo> {
        match self {
            Self::Unknown => None,
            Self::Text {
                columns,
                rows,
                font_height,
                cursor,
            } => {
                let text = VgaTextMode3 {
                    font_height: *font_height,
                    cursor_x: u16::from(cursor.0),
                    cursor_y: u16::from(cursor.1),
                    rows: *rows,
                    columns: *columns,
                };
                Some(console_info(XEN_VGATYPE_TEXT_MODE_3, &text))
            }
            Self::Linear(framebuffer) => {
                let len = framebuffer.check(memory).ok()?;
                let kind = match maker {
                    ScreenMaker::Bios => XEN_VGATYPE_VESA_LFB,
                    ScreenMaker::Efi => XEN_VGATYPE_EFI_LFB,
                };
                Some(console_info(kind, &lfb(framebuffer, len)?))
            }
        }
    }
}

fn console_info<T: IntoBytes + Immutable>(kind: u8, screen: &T) -> Dom0VgaConsoleInfo {
    let mut info = Dom0VgaConsoleInfo {
        video_type: kind,
        ..Default::default()
    };
    let bytes = screen.as_bytes();
    info.u.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    info
}

/// The fields are narrower than a loader's: a framebuffer that does not fit into them is not passed on.
fn lfb(framebuffer: &Framebuffer, len: u64) -> Option<VgaVesaLfb> {
    let address = framebuffer.address.0;
    Some(VgaVesaLfb {
        width: framebuffer.width.try_into().ok()?,
        height: framebuffer.height.try_into().ok()?,
        bytes_per_line: framebuffer.pitch.try_into().ok()?,
        bits_per_pixel: u16::from(framebuffer.bits_per_pixel),
        lfb_base: address as u32,
        lfb_size: len.div_ceil(64 << 10) as u32,
        red_pos: framebuffer.red.position,
        red_size: framebuffer.red.size,
        green_pos: framebuffer.green.position,
        green_size: framebuffer.green.size,
        blue_pos: framebuffer.blue.position,
        blue_size: framebuffer.blue.size,
        ext_lfb_base: (address >> 32) as u32,
        ..unused_bits(framebuffer)
    })
}

/// What is left of a pixel above its colours.
fn unused_bits(framebuffer: &Framebuffer) -> VgaVesaLfb {
    let end = |colour: ColourField| colour.position.saturating_add(colour.size);
    let used = end(framebuffer.red)
        .max(end(framebuffer.green))
        .max(end(framebuffer.blue));
    let size = framebuffer.bits_per_pixel.saturating_sub(used);
    VgaVesaLfb {
        rsvd_pos: if size == 0 { 0 } else { used },
        rsvd_size: size,
        ..VgaVesaLfb::default()
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::super::tests::framebuffer;
    use super::*;
    use crate::base::PhysAddr;
    use crate::boot::memmap::{MemRegion, RegionKind};

    fn memory() -> MemoryMap {
        let region = |base, len, kind| MemRegion {
            base: PhysAddr(base),
            len,
            kind,
        };
        let entries = [
            region(0, 0x8000_0000, RegionKind::Usable),
            region(0x8000_0000, 0x1000, RegionKind::Reserved),
        ];
        MemoryMap::new(&entries, 1 << 40).0
    }

    /// Above the memory.
    fn good() -> Framebuffer {
        Framebuffer {
            address: PhysAddr(0x1_c000_0000),
            ..framebuffer()
        }
    }

    #[test]
    fn senseless_framebuffers_are_refused_in_words() {
        let good = good();
        assert_eq!(good.check(&memory()), Ok(3 << 20));
        let with = |change: fn(&mut Framebuffer)| {
            let mut bad = good;
            change(&mut bad);
            let info = VideoInfo::Linear(bad).for_dom0(&memory(), ScreenMaker::Efi);
            assert!(info.is_none() || bad.check(&memory()).is_ok());
            bad.check_for_text(&memory()).unwrap_err().to_string()
        };
        for (change, why) in [
            (
                (|f| f.width = 0) as fn(&mut Framebuffer),
                "the framebuffer at 0x1c0000000, 0x768, 4096 bytes a line, has no pixels",
            ),
            (|f| f.height = 0, "has no pixels"),
            (|f| f.bits_per_pixel = 0, "has no pixels"),
            (|f| f.pitch = 0, "has lines that overlap"),
            (|f| f.pitch = 4095, "has lines that overlap"),
            (|f| f.pitch = u32::MAX, "is too large"),
            (|f| f.height = u32::MAX, "is too large"),
            (|f| f.address = PhysAddr(u64::MAX - 5), "is too large"),
            (|f| f.address = PhysAddr(1 << 52), "is too large"),
            (|f| f.address = PhysAddr(0x7fff_f000), "lies in RAM"),
            (|f| f.address = PhysAddr(0), "lies in RAM"),
            (|f| f.bits_per_pixel = 15, "pixels of 15 bits"),
            (|f| f.bits_per_pixel = 16, "pixels of 16 bits"),
            (|f| f.pitch = 4097, "begin inside a pixel"),
            (
                |f| f.address = PhysAddr(0x9000_0002),
                "begin inside a pixel",
            ),
        ] {
            let said = with(change);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn dom0_is_told_of_a_framebuffer() {
        let told = |video: VideoInfo, maker| video.for_dom0(&memory(), maker).unwrap();
        let info = told(VideoInfo::Linear(good()), ScreenMaker::Efi);
        assert_eq!(info.video_type, XEN_VGATYPE_EFI_LFB);
        let (lfb, _) = VgaVesaLfb::read_from_prefix(info.u.as_bytes()).unwrap();
        assert_eq!(
            (lfb.width, lfb.height, lfb.bytes_per_line),
            (1024, 768, 4096)
        );
        assert_eq!((lfb.lfb_base, lfb.ext_lfb_base), (0xc000_0000, 1));
        assert_eq!((lfb.lfb_size, lfb.red_pos, lfb.red_size), (48, 16, 8));
        assert_eq!((lfb.rsvd_pos, lfb.rsvd_size), (24, 8));
        let info = told(VideoInfo::Linear(good()), ScreenMaker::Bios);
        assert_eq!(info.video_type, XEN_VGATYPE_VESA_LFB);
        let text = VideoInfo::Text {
            columns: 80,
            rows: 25,
            font_height: 16,
            cursor: (3, 4),
        };
        let info = told(text, ScreenMaker::Bios);
        assert_eq!(info.video_type, XEN_VGATYPE_TEXT_MODE_3);
        assert_eq!(info.u[0], 16 | 3 << 16);
        assert_eq!(
            VideoInfo::Unknown.for_dom0(&memory(), ScreenMaker::Bios),
            None
        );
        // Wider than the ABI can say.
        let mut wide = good();
        (wide.width, wide.pitch) = (16385, 65540);
        wide.height = 10;
        let video = VideoInfo::Linear(wide);
        assert_eq!(video.for_dom0(&memory(), ScreenMaker::Bios), None);
    }

    #[test]
    fn white_has_all_bits_of_the_colours() {
        assert_eq!(good().white(), 0x00ff_ffff);
        let mut odd = good();
        for colour in [&mut odd.red, &mut odd.green, &mut odd.blue] {
            *colour = ColourField {
                position: 255,
                size: 255,
            };
        }
        let _ = odd.white();
        odd.red = ColourField {
            position: 22,
            size: 10,
        };
        odd.green = ColourField::default();
        odd.blue = ColourField::default();
        assert_eq!(odd.white(), 0xffc0_0000);
    }
}
