//! A domain's memory for tests, and a reader of page tables that shares nothing with the writer.

#![allow(dead_code)] // Each test file uses a part of this.

use std::collections::HashMap;

use pvh_boot::pv::DomainMemory;

pub mod elf_file;

pub const PAGE: usize = 4096;

/// Pages appear when written, filled with rubbish as memory that was used before is.
pub struct FakeMemory {
    nr_pages: u64,
    pages: HashMap<u64, Box<[u8; PAGE]>>,
}

impl FakeMemory {
    pub fn new(nr_pages: u64) -> Self {
        assert!(nr_pages <= 1 << 20);
        Self {
            nr_pages,
            pages: HashMap::new(),
        }
    }

    /// Scatters frames: multiplication by an odd number permutes the 20-bit numbers.
    fn scatter(pfn: u64) -> u64 {
        0x10_0000 + (pfn.wrapping_mul(0x9e37_79b1) & 0xf_ffff)
    }

    /// Frame of the domain behind a machine frame: the inverse of `scatter`.
    pub fn pfn_of(&self, mfn: u64) -> u64 {
        let inverse = (0..5).fold(0x9e37_79b1u64, |x, _| {
            x.wrapping_mul(2u64.wrapping_sub(x.wrapping_mul(0x9e37_79b1)))
        });
        let pfn = (mfn - 0x10_0000).wrapping_mul(inverse) & 0xf_ffff;
        assert_eq!(Self::scatter(pfn), mfn);
        assert!(pfn < self.nr_pages, "frame {mfn:#x} is not the domain's");
        pfn
    }

    pub fn page(&self, pfn: u64) -> &[u8; PAGE] {
        self.pages
            .get(&pfn)
            .unwrap_or_else(|| panic!("page {pfn:#x} was never written"))
    }

    pub fn u64_at(&self, pfn: u64, offset: usize) -> u64 {
        u64::from_le_bytes(self.page(pfn)[offset..offset + 8].try_into().unwrap())
    }

    pub fn u32_at(&self, pfn: u64, offset: usize) -> u32 {
        u32::from_le_bytes(self.page(pfn)[offset..offset + 4].try_into().unwrap())
    }

    /// Bytes at a pseudo-physical address.
    pub fn bytes(&self, mut paddr: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let offset = (paddr % PAGE as u64) as usize;
            let n = (PAGE - offset).min(length - bytes.len());
            bytes.extend_from_slice(&self.page(paddr / PAGE as u64)[offset..offset + n]);
            paddr += n as u64;
        }
        bytes
    }
}

impl DomainMemory for FakeMemory {
    fn mfn(&self, pfn: u64) -> u64 {
        assert!(pfn < self.nr_pages, "frame {pfn:#x} asked for");
        Self::scatter(pfn)
    }

    fn write(&mut self, pfn: u64, offset: usize, bytes: &[u8]) {
        assert!(pfn < self.nr_pages, "frame {pfn:#x} written");
        let page = self
            .pages
            .entry(pfn)
            .or_insert_with(|| Box::new([0xa5; PAGE]));
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn zero(&mut self, pfn: u64) {
        self.write(pfn, 0, &[0; PAGE]);
    }
}

/// A page that the tables map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub virt: u64,
    pub pfn: u64,
    pub writable: bool,
}

/// Everything that a root leads to.
#[derive(Default)]
pub struct Walked {
    /// Frames used as tables, with the level they were reached at.
    pub tables: HashMap<u64, u8>,
    pub mappings: Vec<Mapping>,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

impl Walked {
    /// Reads the whole tree below a level-4 table.
    pub fn from_root(memory: &FakeMemory, root_pfn: u64) -> Self {
        let mut walked = Self::default();
        walked.visit(memory, root_pfn, 4, 0);
        walked.mappings.sort_unstable_by_key(|mapping| mapping.virt);
        walked
    }

    fn visit(&mut self, memory: &FakeMemory, pfn: u64, level: u8, base: u64) {
        let before = self.tables.insert(pfn, level);
        assert_eq!(before, None, "table {pfn:#x} is used twice");
        for index in 0..512u64 {
            let entry = memory.u64_at(pfn, index as usize * 8);
            if entry & PRESENT == 0 {
                assert_eq!(entry, 0, "a non-present entry is not empty");
                continue;
            }
            assert_ne!(entry & USER, 0, "an entry is not for the guest");
            assert_eq!(entry & !(FRAME | 0x67), 0, "an entry has bits {entry:#x}");
            let virt = base | (index << (12 + 9 * (level - 1)));
            let below = memory.pfn_of((entry & FRAME) >> 12);
            if level > 1 {
                assert_ne!(entry & WRITABLE, 0, "an upper entry is read-only");
                self.visit(memory, below, level - 1, virt);
            } else {
                self.mappings.push(Mapping {
                    virt: ((virt << 16) as i64 >> 16) as u64,
                    pfn: below,
                    writable: entry & WRITABLE != 0,
                });
            }
        }
    }
}
