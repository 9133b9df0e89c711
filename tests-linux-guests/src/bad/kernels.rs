//! Files that stand where dom0's kernel should be.

use std::io;
use std::path::{Path, PathBuf};

use crate::emulator::Files;

/// What the first module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// There is no module at all.
    Missing,
    /// An empty file.
    Empty,
    /// Text.
    Text,
    /// The hypervisor itself, which can be started by PVH but not as a PV guest.
    Hypervisor,
    /// A 64-bit program that knows nothing of Xen.
    Program,
    /// A 32-bit program.
    Program32,
    /// A PV kernel whose first instruction is undefined.
    Crashing,
    /// A PV kernel that runs on the spot.
    Idle,
    /// A real kernel's boot image.
    Real,
    /// The first half of a real kernel's boot image.
    CutImage,
    /// A real kernel's boot image with some bytes changed in the middle.
    DamagedImage,
    /// A boot image whose payload is compressed with bzip2.
    Bzip2Image,
    /// A bare file compressed with bzip2.
    Bzip2File,
}

/// Where the small kernels run (`XEN_ELFNOTE_VIRT_BASE`).
const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Physical address of their code.
const LOAD: u64 = 0x10_0000;
/// Numbers of the notes that they need (xen/elfnote.h).
const NOTE_ENTRY: u32 = 1;
const NOTE_VIRT_BASE: u32 = 3;
const NOTE_XEN_VERSION: u32 = 5;
/// UD2
const CRASH: &[u8] = &[0x0f, 0x0b];
/// JMP to itself
const SPIN: &[u8] = &[0xeb, 0xfe];
/// How a file compressed with bzip2 begins.
const BZIP2: &[u8] = b"BZh91AY&SY\x01\x02\x03\x04 and so on";

impl Kernel {
    /// The file to boot: an existing one or a new one at `place`; `None` for none.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn file(self, files: &Files, place: &Path) -> io::Result<Option<PathBuf>> {
        let bytes = match self {
            Self::Missing => return Ok(None),
            Self::Real => return Ok(Some(files.kernel.clone())),
            Self::Hypervisor => return Ok(Some(files.hypervisor.clone())),
            Self::Empty => Vec::new(),
            Self::Text => b"This is not the kernel that you are looking for.\n".repeat(100),
            Self::Program => elf(CRASH, &[]),
            Self::Program32 => {
                let mut file = elf(CRASH, &pv_notes());
                file[4] = 1;
                file
            }
            Self::Crashing => elf(CRASH, &pv_notes()),
            Self::Idle => elf(SPIN, &pv_notes()),
            Self::CutImage => {
                let mut image = std::fs::read(&files.kernel)?;
                image.truncate(image.len() / 2);
                image
            }
            Self::DamagedImage => {
                let mut image = std::fs::read(&files.kernel)?;
                // Early in the payload: unpacking up to there takes time.
                let at = image.len() / 8;
                image[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0x5a);
                image
            }
            Self::Bzip2Image => boot_image(BZIP2),
            Self::Bzip2File => BZIP2.to_vec(),
        };
        std::fs::write(place, bytes)?;
        Ok(Some(place.to_owned()))
    }
}

/// Notes of a PV kernel.
fn pv_notes() -> Vec<u8> {
    let mut notes = Vec::new();
    note(&mut notes, NOTE_ENTRY, &(VIRT_BASE + LOAD).to_le_bytes());
    note(&mut notes, NOTE_VIRT_BASE, &VIRT_BASE.to_le_bytes());
    note(&mut notes, NOTE_XEN_VERSION, b"xen-3.0\0");
    notes
}

/// Adds a note of Xen's; `content` is whole words.
fn note(notes: &mut Vec<u8>, kind: u32, content: &[u8]) {
    for word in [4, content.len() as u32, kind] {
        notes.extend(word.to_le_bytes());
    }
    notes.extend(b"Xen\0");
    notes.extend(content);
}

/// A 64-bit x86 executable that is loaded at [`LOAD`].
fn elf(code: &[u8], notes: &[u8]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM_HEADER: u64 = 56;
    let at = HEADER + 2 * PROGRAM_HEADER;
    let notes_at = at + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Executable, x86-64, version 1.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [LOAD, HEADER, 0] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0; 4]);
    for half in [HEADER, PROGRAM_HEADER, 2, 0, 0, 0] {
        file.extend((half as u16).to_le_bytes());
    }
    for (kind, offset, size) in [(1_u32, at, code.len()), (4, notes_at, notes.len())] {
        let size = size as u64;
        file.extend(kind.to_le_bytes());
        file.extend(7_u32.to_le_bytes());
        let memory = if kind == 1 { 4096 } else { size };
        for word in [offset, LOAD, LOAD, size, memory, 4] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(code);
    file.extend(notes);
    file
}

/// A Linux boot image with one setup sector (Documentation/arch/x86/boot.rst).
fn boot_image(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1;
    file[0x1fe..0x200].copy_from_slice(&0xaa55_u16.to_le_bytes());
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file
}
