//! The ELF notes named "Xen" (xen/elfnote.h), read into typed fields.

use core::fmt;

use crate::fields::{slice_at, u16_at, u32_at, u64_at};
use xen_abi::elfnote::*;
use xen_abi::features::*;

/// Bytes of a note's fixed part: sizes of name and descriptor, type.
const NOTE_HEADER: u64 = 12;
const OWNER: &[u8] = b"Xen";

/// Feature names as `XEN_ELFNOTE_FEATURES` spells them (xen/features.h), with their bits.
const FEATURE_NAMES: [(&str, u32); 12] = [
    ("writable_page_tables", XENFEAT_writable_page_tables),
    (
        "writable_descriptor_tables",
        XENFEAT_writable_descriptor_tables,
    ),
    ("auto_translated_physmap", XENFEAT_auto_translated_physmap),
    ("supervisor_mode_kernel", XENFEAT_supervisor_mode_kernel),
    ("pae_pgdir_above_4gb", XENFEAT_pae_pgdir_above_4gb),
    (
        "mmu_pt_update_preserve_ad",
        XENFEAT_mmu_pt_update_preserve_ad,
    ),
    ("highmem_assist", XENFEAT_highmem_assist),
    ("gnttab_map_avail_bits", XENFEAT_gnttab_map_avail_bits),
    ("hvm_callback_vector", XENFEAT_hvm_callback_vector),
    ("hvm_safe_pvclock", XENFEAT_hvm_safe_pvclock),
    ("hvm_pirqs", XENFEAT_hvm_pirqs),
    ("dom0", XENFEAT_dom0),
];

/// Name of feature bit `bit`, where the string note has one.
#[must_use]
pub fn feature_name(bit: u32) -> Option<&'static str> {
    let known = FEATURE_NAMES.iter().find(|(_, known)| *known == bit)?;
    Some(known.0)
}

/// Sets of `XENFEAT_*` bits, submap 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The kernel can use these; all required ones are among them.
    pub supported: u32,
    /// The kernel cannot run without these.
    pub required: u32,
}

/// How a 32-bit kernel handles PAE; of no effect on a 64-bit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaeMode {
    /// "yes"
    Yes,
    /// "no"
    No,
    /// "bimodal"
    Bimodal,
}

/// Mask and value pairs that tell which non-present level-1 entries carry valid frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1MfnValid<'a>(&'a [u8]);

impl L1MfnValid<'_> {
    /// The pairs: an entry qualifies where `entry & mask == value`.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0
            .chunks_exact(16)
            .filter_map(|pair| Some((u64_at(pair, 0)?, u64_at(pair, 8)?)))
    }
}

/// What a kernel tells Xen about itself; `None` where it has no such note.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XenNotes<'a> {
    /// INFO: free text; the last one counts.
    pub info: Option<&'a str>,
    /// ENTRY: virtual address of the PV entry point.
    pub entry: Option<u64>,
    /// HYPERCALL_PAGE: virtual address of the page to fill with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// VIRT_BASE: virtual address of pseudo-physical address 0.
    pub virt_base: Option<u64>,
    /// PADDR_OFFSET: what to subtract from ELF physical addresses.
    pub paddr_offset: Option<u64>,
    /// XEN_VERSION, such as "xen-3.0".
    pub xen_version: Option<&'a str>,
    /// GUEST_OS, such as "linux".
    pub guest_os: Option<&'a str>,
    /// GUEST_VERSION, such as "2.6".
    pub guest_version: Option<&'a str>,
    /// LOADER, such as "generic".
    pub loader: Option<&'a str>,
    /// PAE_MODE.
    pub pae_mode: Option<PaeMode>,
    /// FEATURES, the string, parsed.
    pub features: Option<Features>,
    /// A feature that FEATURES requires and that has no known name.
    pub unknown_required: Option<&'a str>,
    /// SUPPORTED_FEATURES: a bitmap of `XENFEAT_*`.
    pub supported_features: Option<u32>,
    /// BSD_SYMTAB: whether the symbol table must be loaded too.
    pub bsd_symtab: Option<bool>,
    /// HV_START_LOW: lowest address at which the hypervisor's hole may begin.
    pub hv_start_low: Option<u64>,
    /// L1_MFN_VALID.
    pub l1_mfn_valid: Option<L1MfnValid<'a>>,
    /// SUSPEND_CANCEL: whether the kernel can go on after a cancelled suspend.
    pub suspend_cancel: Option<bool>,
    /// INIT_P2M: virtual address for the physical-to-machine list.
    pub init_p2m: Option<u64>,
    /// MOD_START_PFN: whether the module may stay unmapped and be named by frame.
    pub mod_start_pfn: Option<bool>,
    /// PHYS32_ENTRY: physical address of the 32-bit PVH entry point.
    pub phys32_entry: Option<u64>,
}

/// What is wrong with a kernel's Xen notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteError {
    /// There are none.
    Missing,
    /// A note's sizes lead beyond its segment.
    Truncated,
    /// A numeric note of this type has so many bytes.
    BadNumber(u32, usize),
    /// A string note of this type is not text, or not one of its values.
    BadString(u32),
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(
                f,
                "the kernel has no Xen ELF notes: it was built without Xen guest support"
            ),
            Self::Truncated => write!(f, "the kernel's ELF notes are damaged"),
            Self::BadNumber(kind, size) => write!(
                f,
                "the kernel's Xen ELF note {kind} is not a number ({size} bytes)"
            ),
            Self::BadString(kind) => {
                write!(f, "the kernel's Xen ELF note {kind} has no meaningful text")
            }
        }
    }
}

impl core::error::Error for NoteError {}

/// Rounds up to the four bytes that parts of a note are aligned to.
fn align(size: u32) -> u64 {
    u64::from(size).next_multiple_of(4)
}

fn number(kind: u32, desc: &[u8]) -> Result<u64, NoteError> {
    match desc.len() {
        1 => desc.first().copied().map(u64::from),
        2 => u16_at(desc, 0).map(u64::from),
        4 => u32_at(desc, 0).map(u64::from),
        8 => u64_at(desc, 0),
        _ => None,
    }
    .ok_or(NoteError::BadNumber(kind, desc.len()))
}

/// The text up to its zero, or to the note's end: Linux leaves the zero of its features out.
fn text(kind: u32, desc: &[u8]) -> Result<&str, NoteError> {
    let text = desc.split(|&byte| byte == 0).next().unwrap_or_default();
    core::str::from_utf8(text).map_err(|_| NoteError::BadString(kind))
}

fn yes_or_no(kind: u32, desc: &[u8]) -> Result<bool, NoteError> {
    match text(kind, desc)? {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(NoteError::BadString(kind)),
    }
}

fn pae_mode(desc: &[u8]) -> Result<PaeMode, NoteError> {
    match text(XEN_ELFNOTE_PAE_MODE, desc)? {
        "yes" => Ok(PaeMode::Yes),
        "no" => Ok(PaeMode::No),
        "bimodal" | "yes,bimodal" => Ok(PaeMode::Bimodal),
        _ => Err(NoteError::BadString(XEN_ELFNOTE_PAE_MODE)),
    }
}

impl<'a> XenNotes<'a> {
    /// Reads one block of notes; returns how many of them are Xen's.
    pub(super) fn read(&mut self, block: &'a [u8]) -> Result<usize, NoteError> {
        let mut found = 0;
        let mut at = 0u64;
        while at.saturating_add(NOTE_HEADER) <= block.len() as u64 {
            let word = |offset: u64| {
                usize::try_from(at + offset)
                    .ok()
                    .and_then(|at| u32_at(block, at))
                    .ok_or(NoteError::Truncated)
            };
            let (name_size, desc_size, kind) = (word(0)?, word(4)?, word(8)?);
            let name_at = at + NOTE_HEADER;
            let desc_at = name_at + align(name_size);
            let name =
                slice_at(block, name_at, u64::from(name_size)).ok_or(NoteError::Truncated)?;
            let desc =
                slice_at(block, desc_at, u64::from(desc_size)).ok_or(NoteError::Truncated)?;
            if name.strip_suffix(b"\0").unwrap_or(name) == OWNER {
                self.take(kind, desc)?;
                found += 1;
            }
            at = desc_at + align(desc_size);
        }
        Ok(found)
    }

    /// Stores one note. Types that are not for loaders are ignored.
    fn take(&mut self, kind: u32, desc: &'a [u8]) -> Result<(), NoteError> {
        match kind {
            XEN_ELFNOTE_INFO => self.info = Some(text(kind, desc)?),
            XEN_ELFNOTE_ENTRY => self.entry = Some(number(kind, desc)?),
            XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(number(kind, desc)?),
            XEN_ELFNOTE_VIRT_BASE => self.virt_base = Some(number(kind, desc)?),
            XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = Some(number(kind, desc)?),
            XEN_ELFNOTE_XEN_VERSION => self.xen_version = Some(text(kind, desc)?),
            XEN_ELFNOTE_GUEST_OS => self.guest_os = Some(text(kind, desc)?),
            XEN_ELFNOTE_GUEST_VERSION => self.guest_version = Some(text(kind, desc)?),
            XEN_ELFNOTE_LOADER => self.loader = Some(text(kind, desc)?),
            XEN_ELFNOTE_PAE_MODE => self.pae_mode = Some(pae_mode(desc)?),
            XEN_ELFNOTE_FEATURES => self.take_features(text(kind, desc)?),
            XEN_ELFNOTE_BSD_SYMTAB => self.bsd_symtab = Some(yes_or_no(kind, desc)?),
            XEN_ELFNOTE_HV_START_LOW => self.hv_start_low = Some(number(kind, desc)?),
            XEN_ELFNOTE_L1_MFN_VALID => self.l1_mfn_valid = Some(L1MfnValid(desc)),
            XEN_ELFNOTE_SUSPEND_CANCEL => self.suspend_cancel = Some(number(kind, desc)? != 0),
            XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(number(kind, desc)?),
            XEN_ELFNOTE_MOD_START_PFN => self.mod_start_pfn = Some(number(kind, desc)? != 0),
            XEN_ELFNOTE_SUPPORTED_FEATURES => {
                // Submap 0 is all there is (XENFEAT_NR_SUBMAPS).
                self.supported_features = Some(number(kind, desc)? as u32);
            }
            XEN_ELFNOTE_PHYS32_ENTRY => self.phys32_entry = Some(number(kind, desc)?),
            _ => {}
        }
        Ok(())
    }

    /// Parses the string of feature names: '|' between them, '!' before required ones.
    fn take_features(&mut self, list: &'a str) {
        let mut features = Features::default();
        for item in list.split('|').filter(|item| !item.is_empty()) {
            let required = item.strip_prefix('!');
            let name = required.unwrap_or(item);
            match FEATURE_NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, bit)) => {
                    features.supported |= 1 << bit;
                    if required.is_some() {
                        features.required |= 1 << bit;
                    }
                }
                None if required.is_some() => self.unknown_required = Some(name),
                None => {}
            }
        }
        self.features = Some(features);
    }

    /// Features from both notes together, as hypervisors since 4.2 combine them.
    #[must_use]
    pub fn all_features(&self) -> Features {
        let named = self.features.unwrap_or_default();
        Features {
            supported: named.supported | self.supported_features.unwrap_or(0),
            required: named.required,
        }
    }
}
