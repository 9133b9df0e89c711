//! Reading the machine's screen through QEMU's monitor: VGA text out of its memory, a framebuffer out of a
//! screenshot, by the font that the hypervisor draws with.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::Duration;

use font8x8::legacy::BASIC_LEGACY;

use crate::monitor::NmiButton;

/// What the screen is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// 80 columns and 25 rows of VGA text.
    Text,
    /// Pixels.
    Framebuffer,
}

/// Columns of VGA text, and where it is, with its bytes.
const COLUMNS: usize = 80;
const TEXT: (u32, usize) = (0xb8000, COLUMNS * 25 * 2);
/// Pixels of a character's cell.
const CELL: (usize, usize) = (8, 16);
/// Time that the monitor has to write a file.
const WRITES: Duration = Duration::from_millis(400);

impl Screen {
    /// What it shows now, a line for each row; a file is left in `folder`. Empty while it is not to be had.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub fn read(self, monitor: &NmiButton, folder: &Path) -> io::Result<String> {
        let file = folder.join(match self {
            Self::Text => "screen.text",
            Self::Framebuffer => "screen.ppm",
        });
        let _ = std::fs::remove_file(&file);
        let path = file.display();
        let line = match self {
            Self::Text => format!("pmemsave {:#x} {:#x} \"{path}\"", TEXT.0, TEXT.1),
            Self::Framebuffer => format!("screendump \"{path}\""),
        };
        let _heard = monitor.say(&line)?;
        std::thread::sleep(WRITES);
        let bytes = std::fs::read(&file).unwrap_or_default();
        Ok(match self {
            Self::Text => text_of(&bytes),
            Self::Framebuffer => picture_of(&bytes).unwrap_or_default(),
        })
    }
}

/// The characters of VGA text: each has its colours behind it.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    for row in bytes.chunks(COLUMNS * 2) {
        let line: Vec<u8> = row.iter().copied().step_by(2).collect();
        let _ = writeln!(text, "{}", String::from_utf8_lossy(&line).trim_end());
    }
    text
}

/// The characters of a picture in the format P6 (width, height and 255 in the head, then three bytes a pixel).
fn picture_of(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let mut head = [""; 4];
    for word in &mut head {
        let start = rest.iter().position(|b| !b.is_ascii_whitespace())?;
        rest = &rest[start..];
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        *word = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end..];
    }
    let [kind, width, height, _] = head;
    let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
    let pixels = rest.get(1..=width * height * 3)?;
    let is_set = |x: usize, y: usize| pixels[(y * width + x) * 3] > 0x7f;
    let known = font();
    let mut text = String::new();
    for row in 0..height / CELL.1 {
        let mut line = String::new();
        for column in 0..width / CELL.0 {
            // Each line of a glyph is there twice.
            let glyph: [u8; 8] = std::array::from_fn(|y| {
                let at = (column * CELL.0, row * CELL.1 + y * 2);
                (0..8).fold(0, |bits, x| bits | u8::from(is_set(at.0 + x, at.1)) << x)
            });
            line.push(known.get(&glyph).copied().unwrap_or('?'));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    (kind == "P6").then_some(text)
}

/// Printable characters by what they look like.
fn font() -> BTreeMap<[u8; 8], char> {
    let printable = (b' '..=b'~').map(|code| (BASIC_LEGACY[usize::from(code)], char::from(code)));
    printable.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of some lines.
    fn draw(lines: &[&str], width: usize) -> Vec<u8> {
        let height = lines.len() * CELL.1;
        let mut picture = format!("P6\n{width} {height}\n255\n").into_bytes();
        for y in 0..height {
            for x in 0..width {
                let line = lines[y / CELL.1].as_bytes();
                let code = line.get(x / CELL.0).copied().unwrap_or(b' ');
                let bits = BASIC_LEGACY[usize::from(code)][y % CELL.1 / 2];
                let set = bits >> (x % CELL.0) & 1 != 0;
                picture.extend(if set { [255; 3] } else { [0; 3] });
            }
        }
        picture
    }

    #[test]
    fn what_is_drawn_is_read() {
        let lines = ["(XEN) Cannot boot: 0x1f", "", "|{}~ @#"];
        let picture = draw(&lines, 803);
        assert_eq!(picture_of(&picture).unwrap(), lines.join("\n") + "\n");
        assert_eq!(picture_of(&picture[..picture.len() - 1]), None);
        assert_eq!(picture_of(b"P6\n1"), None);
    }

    #[test]
    fn glyphs_are_told_apart() {
        assert_eq!(font().len(), usize::from(b'~' - b' ') + 1);
    }

    #[test]
    fn text_memory_is_read() {
        let mut memory = [b' ', 7].repeat(COLUMNS * 2);
        memory[0] = b'A';
        memory[COLUMNS * 2] = b'B';
        assert_eq!(text_of(&memory), "A\nB\n");
    }
}
