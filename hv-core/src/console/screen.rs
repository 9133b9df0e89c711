//! Text on a screen: a grid of characters in RAM, which says what to draw. Video memory is slow and never read.

use alloc::vec::Vec;

use font8x8::legacy::BASIC_LEGACY;

/// Pixels of a character's cell; each line of a glyph is drawn twice.
pub const CELL: (usize, usize) = (8, 16);
/// Largest grid: what lies to the right of it or below stays empty.
const LARGEST: (usize, usize) = (240, 100);
/// Columns between tabulator stops.
const TAB: usize = 8;

/// What shows characters.
pub trait Surface {
    /// Draws a printable character. The grid stays inside what it was made for.
    fn draw(&mut self, column: usize, row: usize, character: u8);
}

/// The lines of a character, the leftmost pixel in bit 0; a box for what is not ASCII.
#[must_use]
pub fn glyph(character: u8) -> [u8; 8] {
    const BOX: [u8; 8] = [0, 0x7e, 0x42, 0x42, 0x42, 0x42, 0x7e, 0];
    *BASIC_LEGACY.get(usize::from(character)).unwrap_or(&BOX)
}

/// A screen full of characters, and where the next one goes.
#[derive(Debug)]
pub struct TextGrid {
    cells: Vec<u8>,
    columns: usize,
    column: usize,
    row: usize,
}

impl TextGrid {
    /// An empty grid; `None` without memory, or when nothing fits on the screen.
    #[must_use]
    pub fn try_new(columns: usize, rows: usize) -> Option<Self> {
        let (columns, rows) = (columns.min(LARGEST.0), rows.min(LARGEST.1));
        let count = columns * rows;
        let mut cells = Vec::new();
        cells
            .try_reserve_exact(count)
            .ok()
            .filter(|()| count != 0)?;
        cells.resize(count, b' ');
        Some(Self {
            cells,
            columns,
            column: 0,
            row: 0,
        })
    }

    /// Writes text at the cursor, scrolling. Control characters but line ends and tabulators are left out.
    pub fn write<S: Surface>(&mut self, text: &[u8], surface: &mut S) {
        for &byte in text {
            match byte {
                b'\n' => self.end_line(surface),
                b'\r' => self.column = 0,
                b'\t' => {
                    let stop = (self.column / TAB + 1) * TAB;
                    self.column = stop.min(self.columns - 1);
                }
                0..=0x1f | 0x7f => {}
                _ => self.put(byte, surface),
            }
        }
    }

    /// Draws everything.
    pub fn redraw<S: Surface>(&self, surface: &mut S) {
        for (index, cell) in self.cells.iter().enumerate() {
            surface.draw(index % self.columns, index / self.columns, *cell);
        }
    }

    fn put<S: Surface>(&mut self, byte: u8, surface: &mut S) {
        if self.column == self.columns {
            self.end_line(surface);
        }
        self.set(self.row * self.columns + self.column, byte, surface);
        self.column += 1;
    }

    /// Changes a cell, and the screen if that shows.
    fn set<S: Surface>(&mut self, index: usize, byte: u8, surface: &mut S) {
        if self.cells[index] != byte {
            self.cells[index] = byte;
            surface.draw(index % self.columns, index / self.columns, byte);
        }
    }

    fn end_line<S: Surface>(&mut self, surface: &mut S) {
        self.column = 0;
        if (self.row + 2) * self.columns <= self.cells.len() {
            self.row += 1;
            return;
        }
        for index in 0..self.cells.len() {
            let below = self.cells.get(index + self.columns).copied();
            self.set(index, below.unwrap_or(b' '), surface);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen, and how often it was drawn on.
    struct Shown {
        rows: Vec<Vec<u8>>,
        draws: usize,
    }

    impl Shown {
        fn new(columns: usize, rows: usize) -> Self {
            let rows = vec![vec![b' '; columns]; rows];
            Self { rows, draws: 0 }
        }

        fn text(&self) -> Vec<String> {
            let lines = self.rows.iter();
            lines
                .map(|row| String::from_utf8_lossy(row).trim_end().to_owned())
                .collect()
        }
    }

    impl Surface for Shown {
        fn draw(&mut self, column: usize, row: usize, character: u8) {
            self.rows[row][column] = character;
            self.draws += 1;
        }
    }

    #[test]
    fn lines_wrap_and_scroll() {
        let mut shown = Shown::new(6, 3);
        let mut grid = TextGrid::try_new(6, 3).unwrap();
        grid.write(b"one\ntwo", &mut shown);
        assert_eq!(shown.text(), ["one", "two", ""]);
        grid.write(b"\rT\n123456", &mut shown);
        assert_eq!(shown.text(), ["one", "Two", "123456"]);
        grid.write(b"7\x1b\0\x7f", &mut shown);
        assert_eq!(shown.text(), ["Two", "123456", "7"]);
        grid.write(b"\r\n\ta\n\n\n\xff", &mut shown);
        assert_eq!(shown.rows[2][0], 0xff);
        let mut fresh = Shown::new(6, 3);
        grid.redraw(&mut fresh);
        assert_eq!(fresh.rows, shown.rows);
    }

    #[test]
    fn scrolling_draws_what_changes() {
        let mut shown = Shown::new(80, 25);
        let mut grid = TextGrid::try_new(80, 25).unwrap();
        for _ in 0..25 {
            grid.write(b"the same\n", &mut shown);
        }
        let before = shown.draws;
        grid.write(b"the same\n", &mut shown);
        // Seven letters in a new line, and gone from the one that is empty again.
        assert_eq!(shown.draws - before, 14);
    }

    #[test]
    fn sizes_are_bounded() {
        assert!(TextGrid::try_new(0, 25).is_none());
        assert!(TextGrid::try_new(80, 0).is_none());
        let grid = TextGrid::try_new(usize::MAX, usize::MAX).unwrap();
        assert_eq!(grid.cells.len(), 240 * 100);
        let mut one = Shown::new(1, 1);
        let mut grid = TextGrid::try_new(1, 1).unwrap();
        grid.write(b"a\tb\n\r\nc", &mut one);
        assert_eq!(one.text(), ["c"]);
    }

    #[test]
    fn glyphs() {
        assert_eq!(glyph(b' '), [0; 8]);
        assert_ne!(glyph(b'A'), glyph(b'B'));
        assert_eq!(glyph(0x80), glyph(0xff));
    }
}
