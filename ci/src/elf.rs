//! Just enough ELF64: cutting sections off, and reading the symbol table.

use std::fmt;

/// Why a file was not understood.
#[derive(Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Not a little-endian ELF64 file.
    NotElf64,
    /// A table lies outside the file.
    Truncated,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf64 => "not a little-endian ELF64 file",
            Self::Truncated => "an ELF table lies outside the file",
        })
    }
}

/// A section header, the fields used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.text`.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// Address in memory.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in memory.
    pub size: u64,
    /// `sh_link`: for a symbol table the index of its string table.
    pub link: u32,
}

/// `sh_type` of the full symbol table.
const SHT_SYMTAB: u32 = 2;
/// `sh_type` of a section without bytes in the file.
pub const SHT_NOBITS: u32 = 8;
/// `sh_flags`: takes memory when loaded.
pub const SHF_ALLOC: u64 = 2;
/// `sh_flags`: writable.
pub const SHF_WRITE: u64 = 1;
/// `sh_flags`: executable.
pub const SHF_EXECINSTR: u64 = 4;

/// A symbol with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name as the linker knows it (mangled).
    pub name: String,
    /// Address.
    pub address: u64,
    /// Bytes; 0 for labels.
    pub size: u64,
    /// Low nibble of `st_info`: 1 object, 2 function.
    pub kind: u8,
}

fn bytes<const N: usize>(file: &[u8], at: u64) -> Result<[u8; N], ElfError> {
    let start = usize::try_from(at).map_err(|_| ElfError::Truncated)?;
    let end = start.checked_add(N).ok_or(ElfError::Truncated)?;
    let slice = file.get(start..end).ok_or(ElfError::Truncated)?;
    slice.try_into().map_err(|_| ElfError::Truncated)
}

fn u16_at(file: &[u8], at: u64) -> Result<u16, ElfError> {
    bytes(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: u64) -> Result<u32, ElfError> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: u64) -> Result<u64, ElfError> {
    bytes(file, at).map(u64::from_le_bytes)
}

fn check_header(file: &[u8]) -> Result<(), ElfError> {
    match file.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => Ok(()),
        _ => Err(ElfError::NotElf64),
    }
}

/// The file cut down to what the program headers load: no section headers, no symbols, no debug
/// information. Offsets of what stays do not move, as boot loaders that copy by file offset need.
pub fn segments_only(file: &[u8]) -> Result<Vec<u8>, ElfError> {
    check_header(file)?;
    let table = u64_at(file, 32)?;
    let entry_size = u64::from(u16_at(file, 54)?);
    let count = u64::from(u16_at(file, 56)?);
    let mut end = table + entry_size * count;
    for index in 0..count {
        let header = table + index * entry_size;
        end = end.max(u64_at(file, header + 8)? + u64_at(file, header + 32)?);
    }
    let end = usize::try_from(end).map_err(|_| ElfError::Truncated)?;
    let mut out = file.get(..end).ok_or(ElfError::Truncated)?.to_vec();
    out[40..48].fill(0); // e_shoff
    out[60..64].fill(0); // e_shnum, e_shstrndx
    Ok(out)
}

/// All section headers.
pub fn sections(file: &[u8]) -> Result<Vec<Section>, ElfError> {
    check_header(file)?;
    let table = u64_at(file, 40)?;
    let entry_size = u64::from(u16_at(file, 58)?);
    let count = u64::from(u16_at(file, 60)?);
    let names = u64::from(u16_at(file, 62)?);
    let name_base = if count == 0 {
        0
    } else {
        u64_at(file, table + names * entry_size + 24)?
    };
    (0..count)
        .map(|index| {
            let at = table + index * entry_size;
            Ok(Section {
                name: string(file, name_base + u64::from(u32_at(file, at)?))?,
                kind: u32_at(file, at + 4)?,
                flags: u64_at(file, at + 8)?,
                address: u64_at(file, at + 16)?,
                offset: u64_at(file, at + 24)?,
                size: u64_at(file, at + 32)?,
                link: u32_at(file, at + 40)?,
            })
        })
        .collect()
}

/// All symbols that have a section, sorted by address.
pub fn symbols(file: &[u8]) -> Result<Vec<Symbol>, ElfError> {
    const ENTRY: u64 = 24;
    let sections = sections(file)?;
    let mut list = Vec::new();
    for table in sections.iter().filter(|s| s.kind == SHT_SYMTAB) {
        let strings = sections
            .get(table.link as usize)
            .ok_or(ElfError::Truncated)?;
        for index in 0..table.size / ENTRY {
            let at = table.offset + index * ENTRY;
            let section = u16_at(file, at + 6)?;
            let name = string(file, strings.offset + u64::from(u32_at(file, at)?))?;
            if section == 0 || section >= 0xff00 || name.is_empty() {
                continue;
            }
            list.push(Symbol {
                name,
                address: u64_at(file, at + 8)?,
                size: u64_at(file, at + 16)?,
                kind: bytes::<1>(file, at + 4)?[0] & 0xf,
            });
        }
    }
    list.sort_by_key(|symbol| (symbol.address, symbol.size));
    Ok(list)
}

fn string(file: &[u8], at: u64) -> Result<String, ElfError> {
    let start = usize::try_from(at).map_err(|_| ElfError::Truncated)?;
    let rest = file.get(start..).ok_or(ElfError::Truncated)?;
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(ElfError::Truncated)?;
    Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// The libraries that an executable or library names in its dynamic section.
pub fn needed(file: &[u8]) -> Result<Vec<String>, ElfError> {
    const SHT_DYNAMIC: u32 = 6;
    const DT_NEEDED: u64 = 1;
    const ENTRY: u64 = 16;
    let sections = sections(file)?;
    let mut list = Vec::new();
    for table in sections.iter().filter(|s| s.kind == SHT_DYNAMIC) {
        let strings = sections
            .get(table.link as usize)
            .ok_or(ElfError::Truncated)?;
        for index in 0..table.size / ENTRY {
            let at = table.offset + index * ENTRY;
            if u64_at(file, at)? == DT_NEEDED {
                list.push(string(file, strings.offset + u64_at(file, at + 8)?)?);
            }
        }
    }
    Ok(list)
}

/// The modules that a kernel module names in its `.modinfo` section.
pub fn module_depends(file: &[u8]) -> Result<Vec<String>, ElfError> {
    let sections = sections(file)?;
    let Some(info) = sections.iter().find(|s| s.name == ".modinfo") else {
        return Ok(Vec::new());
    };
    let mut at = info.offset;
    while at < info.offset + info.size {
        let entry = string(file, at)?;
        if let Some(list) = entry.strip_prefix("depends=") {
            let names = list.split(',').filter(|name| !name.is_empty());
            return Ok(names.map(str::to_owned).collect());
        }
        at += entry.len() as u64 + 1;
    }
    Ok(Vec::new())
}
