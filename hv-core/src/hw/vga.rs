//! The screen, until dom0 takes it: VGA text, or a linear framebuffer with a font.

use hv_core::base::PhysAddr;
use hv_core::boot::info::{Framebuffer, VideoInfo};
use hv_core::boot::memmap::MemoryMap;
use hv_core::console::screen::{CELL, Surface, TextGrid, glyph};
use spin::Mutex;

use super::layout::direct;
use super::paging;
use crate::say;

/// Where VGA has its text.
const TEXT: PhysAddr = PhysAddr(0xb8000);
/// Grey on black.
const ATTRIBUTE: u16 = 0x0700;
/// Pixels in a line from which on each is drawn as four.
const FINE: u32 = 2560;
/// First address that the boot's own tables do not map.
const BOOT_LIMIT: u64 = 4 << 30;

/// Only tried, never waited for: whoever prints has the console's lock, and a crash does without the screen where
/// another CPU is drawing.
static SCREEN: Mutex<Option<Screen>> = Mutex::new(None);

struct Screen {
    grid: TextGrid,
    memory: Memory,
}

enum Memory {
    /// Cells of VGA text in the mapped first MiB, so many in a row.
    Text(usize),
    /// Pixels, where they are mapped.
    Pixels(Pixels),
}

struct Pixels {
    /// Address of the first one; 0 while they are not mapped.
    at: u64,
    address: PhysAddr,
    pitch: usize,
    len: u64,
    /// Bytes of a pixel: 3 or 4.
    size: usize,
    scale: usize,
    colour: u32,
}

impl Surface for Memory {
    fn draw(&mut self, column: usize, row: usize, character: u8) {
        match self {
            Self::Text(columns) => {
                let offset = (row * *columns + column) * 2;
                let cell = (direct(TEXT) + offset as u64) as *mut u16;
                // SAFETY: the grid is as large as the text mode's screen, whose cells lie in the mapped first MiB.
                unsafe { cell.write_volatile(ATTRIBUTE | u16::from(character)) };
            }
            Self::Pixels(pixels) => pixels.draw(column, row, character),
        }
    }
}

impl Pixels {
    fn draw(&self, column: usize, row: usize, character: u8) {
        if self.at == 0 {
            return;
        }
        let (width, height) = (CELL.0 * self.scale, CELL.1 * self.scale);
        let lines = glyph(character);
        for y in 0..height {
            let line = lines[y / (2 * self.scale)];
            let offset = (row * height + y) * self.pitch + column * width * self.size;
            for x in 0..width {
                let set = line >> (x / self.scale) & 1 != 0;
                let colour = if set { self.colour } else { 0 };
                self.put(self.at + (offset + x * self.size) as u64, colour);
            }
        }
    }
}

impl Pixels {
    /// Writes the pixel at an address of a cell of the grid.
    fn put(&self, at: u64, colour: u32) {
        // SAFETY: the grid has as many cells as fit into the framebuffer, which is mapped and no RAM.
        unsafe {
            if self.size == 4 {
                (at as *mut u32).write_volatile(colour);
                return;
            }
            for (byte, value) in colour.to_le_bytes()[..3].iter().enumerate() {
                (at as *mut u8).add(byte).write_volatile(*value);
            }
        }
    }
}

/// Takes the screen that the loader left, if it is one that we can write to.
pub fn take(video: &VideoInfo, memory: &MemoryMap) {
    let screen = match video {
        VideoInfo::Text { columns, rows, .. } => text(usize::from(*columns), usize::from(*rows)),
        VideoInfo::Unknown => text(80, 25),
        VideoInfo::Linear(framebuffer) => match framebuffer.check_for_text(memory) {
            Ok(len) => linear(framebuffer, len),
            Err(why) => {
                say!("The screen is not used: {why}");
                None
            }
        },
    };
    if let (Some(mut screen), Some(mut place)) = (screen, SCREEN.try_lock()) {
        screen.grid.redraw(&mut screen.memory);
        *place = Some(screen);
    }
}

fn text(columns: usize, rows: usize) -> Option<Screen> {
    Some(Screen {
        grid: TextGrid::try_new(columns, rows)?,
        memory: Memory::Text(columns),
    })
}

fn linear(framebuffer: &Framebuffer, len: u64) -> Option<Screen> {
    let scale = if framebuffer.width >= FINE { 2 } else { 1 };
    let cells = |pixels: u32, cell: usize| pixels as usize / (cell * scale);
    let reachable = framebuffer.address.0 + len <= BOOT_LIMIT;
    let at = if reachable {
        direct(framebuffer.address)
    } else {
        0
    };
    Some(Screen {
        grid: TextGrid::try_new(
            cells(framebuffer.width, CELL.0),
            cells(framebuffer.height, CELL.1),
        )?,
        memory: Memory::Pixels(Pixels {
            at,
            address: framebuffer.address,
            pitch: framebuffer.pitch as usize,
            len,
            size: usize::from(framebuffer.bits_per_pixel / 8),
            scale,
            colour: framebuffer.white(),
        }),
    })
}

/// Maps the framebuffer in the final tables, which are loaded; until then nothing may be printed.
pub fn map() {
    let Some(mut screen) = SCREEN.try_lock().and_then(|mut place| place.take()) else {
        return;
    };
    if let Memory::Pixels(pixels) = &mut screen.memory {
        pixels.at = paging::map_write_combining(pixels.address, pixels.len);
        screen.grid.redraw(&mut screen.memory);
    }
    if let Some(mut place) = SCREEN.try_lock() {
        *place = Some(screen);
    }
}

/// Writes text, where there is a screen of ours.
pub fn write(text: &[u8]) {
    if let Some(mut place) = SCREEN.try_lock()
        && let Some(screen) = place.as_mut()
    {
        screen.grid.write(text, &mut screen.memory);
    }
}

/// Whether there is a screen of ours.
pub fn is_ours() -> bool {
    SCREEN.try_lock().is_some_and(|place| place.is_some())
}

/// Leaves the screen to dom0.
pub fn give_up() {
    if let Some(mut place) = SCREEN.try_lock() {
        *place = None;
    }
}
