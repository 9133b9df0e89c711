//! Small ELF files made for tests.

/// A loadable segment.
pub struct Load {
    pub paddr: u64,
    pub data: Vec<u8>,
    pub mem_size: u64,
}

/// Where the notes are found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NotesIn {
    Segment,
    Section,
}

/// What an ELF file is made of.
pub struct ElfFile {
    pub entry: u64,
    pub loads: Vec<Load>,
    pub notes: Vec<u8>,
    pub notes_in: NotesIn,
}

pub const EHDR: usize = 64;
pub const PHDR: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;

/// Appends a note of the owner `name`.
pub fn add_note(notes: &mut Vec<u8>, name: &str, kind: u32, desc: &[u8]) {
    let name = [name.as_bytes(), b"\0"].concat();
    for word in [name.len() as u32, desc.len() as u32, kind] {
        notes.extend_from_slice(&word.to_le_bytes());
    }
    for part in [&name[..], desc] {
        notes.extend_from_slice(part);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

/// Notes of Xen's from numbers and texts.
pub fn xen_notes(numbers: &[(u32, u64)], texts: &[(u32, &str)]) -> Vec<u8> {
    let mut notes = Vec::new();
    add_note(&mut notes, "GNU", 3, b"build");
    for (kind, value) in numbers {
        add_note(&mut notes, "Xen", *kind, &value.to_le_bytes());
    }
    for (kind, text) in texts {
        let text = [text.as_bytes(), b"\0"].concat();
        add_note(&mut notes, "Xen", *kind, &text);
    }
    notes
}

impl ElfFile {
    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let in_segment = self.notes_in == NotesIn::Segment;
        let phnum = self.loads.len() + usize::from(in_segment);
        let mut data_at = EHDR + phnum * PHDR;
        let mut headers = Vec::new();
        let mut data = Vec::new();
        for load in &self.loads {
            let size = load.data.len() as u64;
            program_header(
                &mut headers,
                PT_LOAD,
                [data_at as u64, 0, load.paddr, size, load.mem_size, 4096],
            );
            data.extend_from_slice(&load.data);
            data_at += load.data.len();
        }
        let notes_at = data_at as u64;
        let notes_size = self.notes.len() as u64;
        if in_segment {
            let words = [notes_at, 0, 0, notes_size, notes_size, 4];
            program_header(&mut headers, PT_NOTE, words);
        }
        data.extend_from_slice(&self.notes);

        let shoff = if in_segment { 0 } else { notes_at + notes_size };
        let mut file = self.file_header(phnum as u16, shoff);
        file.extend_from_slice(&headers);
        file.extend_from_slice(&data);
        if !in_segment {
            section_header(&mut file, notes_at, notes_size);
        }
        file
    }

    fn file_header(&self, phnum: u16, shoff: u64) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(16, 0);
        header.extend_from_slice(&2u16.to_le_bytes());
        header.extend_from_slice(&62u16.to_le_bytes());
        header.extend_from_slice(&1u32.to_le_bytes());
        for word in [self.entry, EHDR as u64, shoff] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        header.extend_from_slice(&0u32.to_le_bytes());
        let sections = u16::from(shoff != 0);
        for half in [EHDR as u16, PHDR as u16, phnum, 64, sections, 0] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        header
    }
}

fn program_header(out: &mut Vec<u8>, kind: u32, words: [u64; 6]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&7u32.to_le_bytes());
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn section_header(out: &mut Vec<u8>, offset: u64, size: u64) {
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&SHT_NOTE.to_le_bytes());
    for word in [0, 0, offset, size, 0, 4, 0] {
        out.extend_from_slice(&u64::to_le_bytes(word));
    }
}
