//! The state of the display at hand-over: text mode or a linear framebuffer.

use core::fmt;

use crate::base::PhysAddr;
use crate::boot::phys::{Fields, PhysMem};

/// Position and width of one colour in a pixel, in bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColourField {
    /// Lowest bit.
    pub position: u8,
    /// Number of bits.
    pub size: u8,
}

/// A linear framebuffer of direct colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// First byte of the top left pixel.
    pub address: PhysAddr,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits in a pixel.
    pub bits_per_pixel: u8,
    /// Where red is in a pixel.
    pub red: ColourField,
    /// Where green is in a pixel.
    pub green: ColourField,
    /// Where blue is in a pixel.
    pub blue: ColourField,
}

/// What the display shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoInfo {
    /// Nobody said.
    Unknown,
    /// VGA text mode.
    Text {
        /// Characters in a row.
        columns: u16,
        /// Rows.
        rows: u16,
        /// Scan lines of a character.
        font_height: u16,
        /// Cursor: column and row, from 0.
        cursor: (u8, u8),
    },
    /// Linear framebuffer.
    Linear(Framebuffer),
}

impl fmt::Display for VideoInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Text {
                columns,
                rows,
                font_height,
                ..
            } => write!(f, "VGA is text mode {columns}x{rows}, font 8x{font_height}"),
            Self::Linear(fb) => write!(
                f,
                "VGA is graphics mode {}x{}, {} bpp",
                fb.width, fb.height, fb.bits_per_pixel
            ),
        }
    }
}

/// Colour types of a multiboot framebuffer (both versions of the specification).
const TYPE_DIRECT_COLOUR: u8 = 1;
const TYPE_TEXT: u8 = 2;

/// Offsets in the BIOS data area, from physical address 0x400.
mod bios_data {
    pub const BASE: u64 = 0x400;
    pub const LEN: usize = 0x100;
    pub const MODE: usize = 0x49;
    pub const COLUMNS: usize = 0x4a;
    pub const CURSOR: usize = 0x50;
    pub const LAST_ROW: usize = 0x84;
    pub const FONT_HEIGHT: usize = 0x85;
}

impl VideoInfo {
    /// Text mode as the BIOS data area describes it; unknown when that describes none, as on
    /// machines without a BIOS.
    pub(super) fn from_bios_data<M: PhysMem + ?Sized>(mem: &M) -> Self {
        let text = || {
            let area = Fields(mem.read(PhysAddr(bios_data::BASE), bios_data::LEN)?);
            // Modes 0-3 and 7 are text; bit 7 only says that the screen was not cleared.
            let mode = area.u8(bios_data::MODE)? & 0x7f;
            let columns = area.u16(bios_data::COLUMNS)?;
            let rows = u16::from(area.u8(bios_data::LAST_ROW)?) + 1;
            let [column, row] = area.array(bios_data::CURSOR)?;
            let sane = matches!(mode, 0..=3 | 7)
                && (40..=132).contains(&columns)
                && (12..=60).contains(&rows);
            sane.then_some(Self::Text {
                columns,
                rows,
                font_height: area.u16(bios_data::FONT_HEIGHT)?,
                cursor: (column, row),
            })
        };
        text().unwrap_or(Self::Unknown)
    }

    /// From the framebuffer fields, which both multiboot versions lay out alike: `fields` begins
    /// with the address; `colours` is where the positions and sizes of direct colour begin.
    pub(super) fn from_multiboot(fields: Fields<'_>, colours: usize) -> Option<Self> {
        let (width, height) = (fields.u32(12)?, fields.u32(16)?);
        let colour = |index: usize| {
            let [position, size] = fields.array(colours + index * 2)?;
            Some(ColourField { position, size })
        };
        match fields.u8(21)? {
            TYPE_DIRECT_COLOUR => Some(Self::Linear(Framebuffer {
                address: PhysAddr(fields.u64(0)?),
                pitch: fields.u32(8)?,
                width,
                height,
                bits_per_pixel: fields.u8(20)?,
                red: colour(0)?,
                green: colour(1)?,
                blue: colour(2)?,
            })),
            TYPE_TEXT => Some(Self::Text {
                columns: u16::try_from(width).ok()?,
                rows: u16::try_from(height).ok()?,
                font_height: 16,
                cursor: (0, 0),
            }),
            _ => None,
        }
    }

    /// From a VBE mode information block (VBE 3.0, function 01h): linear modes of direct colour.
    pub(super) fn from_vbe_mode(block: Fields<'_>) -> Option<Self> {
        const LINEAR: u16 = 1 << 7;
        const DIRECT_COLOUR_MODEL: u8 = 6;
        let colour = |at: usize| {
            let [size, position] = block.array(at)?;
            Some(ColourField { position, size })
        };
        let linear = block.u16(0)? & LINEAR != 0 && block.u8(27)? == DIRECT_COLOUR_MODEL;
        let framebuffer = Framebuffer {
            address: PhysAddr(u64::from(block.u32(40)?)),
            pitch: u32::from(block.u16(16)?),
            width: u32::from(block.u16(18)?),
            height: u32::from(block.u16(20)?),
            bits_per_pixel: block.u8(25)?,
            red: colour(31)?,
            green: colour(33)?,
            blue: colour(35)?,
        };
        (linear && framebuffer.address.0 != 0).then_some(Self::Linear(framebuffer))
    }
}
