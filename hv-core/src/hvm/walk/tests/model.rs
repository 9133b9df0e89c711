//! A walk written out for each format, as the figures of AMD APM vol. 2, 5.2 and 5.3 show it.

use super::Memory;
use crate::hvm::walk::*;

struct Model<'a> {
    memory: &'a Memory,
    mode: &'a PagingMode,
    access: Access,
    w: bool,
    u: bool,
    nx: bool,
    /// (address of the word, bits to set in it)
    marks: Vec<(u64, u64)>,
}

fn has(value: u64, bit: u32) -> bool {
    value >> bit & 1 == 1
}

fn any(value: u64, low: u32, high: u32) -> bool {
    (low..=high).any(|bit| has(value, bit))
}

fn field(value: u64, low: u32, high: u32) -> u64 {
    (low..=high).fold(0, |sum, bit| sum | (value & 1 << bit))
}

pub fn walk(
    memory: &Memory,
    mode: &PagingMode,
    va: u64,
    access: Access,
) -> Result<Translation, Refused> {
    let mut model = Model {
        memory,
        mode,
        access,
        w: true,
        u: true,
        nx: false,
        marks: vec![],
    };
    let pae = has(mode.cr4, 5);
    let (gpa, page_shift, key) = if !pae {
        model.two_levels(va & 0xffff_ffff)?
    } else if !has(mode.efer, 10) {
        model.pae(va & 0xffff_ffff)?
    } else {
        model.long(va)?
    };
    model.allowed(key)?;
    for (gpa, bits) in &model.marks {
        let word = memory.load(*gpa).unwrap();
        if word | bits != word {
            memory.set(*gpa, word | bits);
        }
    }
    Ok(Translation {
        gpa,
        page_shift,
        rights: Rights {
            writable: model.w,
            user: model.u,
            executable: !model.nx,
        },
    })
}

impl Model<'_> {
    fn fault<T>(&self, p: u32, rsvd: u32, pk: u32) -> Result<T, Refused> {
        let w = u32::from(self.access.kind == Kind::Write);
        let u = u32::from(self.access.privilege == Privilege::User);
        let fetches = has(self.mode.cr4, 20) || has(self.mode.cr4, 5) && has(self.mode.efer, 11);
        let i = u32::from(self.access.kind == Kind::Fetch && fetches);
        Err(Refused::Page(PageFault {
            error: p + 2 * w + 4 * u + 8 * rsvd + 16 * i + 32 * pk,
        }))
    }

    fn collect(&mut self, value: u64) {
        self.w = self.w && has(value, 1);
        self.u = self.u && has(value, 2);
    }

    fn leaf_bits(&self) -> u64 {
        if self.access.kind == Kind::Write {
            0x60
        } else {
            0x20
        }
    }

    fn narrow_entry(&mut self, at: u64, mark: impl Fn(&Self, u64) -> u64) -> Result<u64, Refused> {
        let word = at & !7;
        let value = self
            .memory
            .load(word)
            .ok_or(Refused::NoMemory { gpa: word })?;
        let value = if has(at, 2) {
            value >> 32
        } else {
            value & 0xffff_ffff
        };
        if !has(value, 0) {
            return self.fault(0, 0, 0);
        }
        let bits = mark(self, value);
        self.marks
            .push((word, if has(at, 2) { bits << 32 } else { bits }));
        self.collect(value);
        Ok(value)
    }

    fn two_levels(&mut self, va: u64) -> Result<(u64, u32, Option<u64>), Refused> {
        let pse = has(self.mode.cr4, 4);
        let large = |pde: u64| pse && has(pde, 7);
        let at = field(self.mode.cr3, 12, 31) + (va >> 22) * 4;
        let pde = self.narrow_entry(
            at,
            |model, pde| {
                if large(pde) { model.leaf_bits() } else { 0x20 }
            },
        )?;
        if large(pde) {
            let width = u32::from(self.mode.address_bits).min(40);
            if has(pde, 21) || (13..=20).any(|bit| has(pde, bit) && bit - 13 + 32 >= width) {
                return self.fault(1, 1, 0);
            }
            let high = field(pde, 13, 20) << 19;
            return Ok((high + field(pde, 22, 31) + field(va, 0, 21), 22, None));
        }
        let at = field(pde, 12, 31) + field(va, 12, 21) / 1024;
        let pte = self.narrow_entry(at, |model, _| model.leaf_bits())?;
        Ok((field(pte, 12, 31) + field(va, 0, 11), 12, None))
    }

    /// A 64-bit entry, without what is special for its level.
    fn entry(
        &mut self,
        at: u64,
        reserved: impl Fn(&PagingMode, u64) -> bool,
    ) -> Result<u64, Refused> {
        let value = self.memory.load(at).ok_or(Refused::NoMemory { gpa: at })?;
        if !has(value, 0) {
            return self.fault(0, 0, 0);
        }
        if reserved(self.mode, value) {
            return self.fault(1, 1, 0);
        }
        Ok(value)
    }

    fn use_entry(&mut self, at: u64, value: u64, leaf: bool) {
        self.collect(value);
        self.nx = self.nx || has(value, 63);
        let bits = if leaf { self.leaf_bits() } else { 0x20 };
        self.marks.push((at, bits));
    }

    fn pae(&mut self, va: u64) -> Result<(u64, u32, Option<u64>), Refused> {
        let width = u32::from(self.mode.address_bits);
        let common =
            move |mode: &PagingMode, e: u64| any(e, width, 62) || has(e, 63) && !has(mode.efer, 11);
        let at = field(self.mode.cr3, 5, 31) + (va >> 30) * 8;
        let pdpte = self.entry(at, |_, e| any(e, 1, 2) || any(e, 5, 8) || any(e, width, 63))?;
        let at = field(pdpte, 12, 51) + field(va, 21, 29) / (1 << 18);
        let pde = self.entry(at, |mode, e| common(mode, e) || has(e, 7) && any(e, 13, 20))?;
        self.use_entry(at, pde, has(pde, 7));
        if has(pde, 7) {
            return Ok((field(pde, 21, 51) % (1 << 52) + field(va, 0, 20), 21, None));
        }
        let at = field(pde, 12, 51) + field(va, 12, 20) / 512;
        let pte = self.entry(at, common)?;
        self.use_entry(at, pte, true);
        Ok((field(pte, 12, 51) + field(va, 0, 11), 12, None))
    }

    fn long(&mut self, va: u64) -> Result<(u64, u32, Option<u64>), Refused> {
        let five = has(self.mode.cr4, 12);
        let top = if five { 56 } else { 47 };
        if (top..64).any(|bit| has(va, bit) != has(va, top)) {
            return Err(Refused::NotCanonical);
        }
        let width = u32::from(self.mode.address_bits);
        let common = move |mode: &PagingMode, e: u64| {
            width < 52 && any(e, width, 51) || has(e, 63) && !has(mode.efer, 11)
        };
        let slot = |low: u32| (va >> low) % 512 * 8;
        let mut table = field(self.mode.cr3, 12, 51);
        for low in if five { vec![48, 39] } else { vec![39] } {
            let at = table + slot(low);
            let e = self.entry(at, |mode, e| common(mode, e) || has(e, 7))?;
            self.use_entry(at, e, false);
            table = field(e, 12, 51);
        }
        for low in [30, 21] {
            let at = table + slot(low);
            let e = self.entry(at, |mode, e| {
                let allowed = low == 21 || mode.gigabyte_pages;
                common(mode, e) || has(e, 7) && (!allowed || any(e, 13, low - 1))
            })?;
            self.use_entry(at, e, has(e, 7));
            if has(e, 7) {
                return Ok((
                    field(e, low, 51) + field(va, 0, low - 1),
                    low,
                    Some(e >> 59 & 15),
                ));
            }
            table = field(e, 12, 51);
        }
        let at = table + slot(12);
        let e = self.entry(at, common)?;
        self.use_entry(at, e, true);
        Ok((field(e, 12, 51) + field(va, 0, 11), 12, Some(e >> 59 & 15)))
    }

    fn allowed(&self, key: Option<u64>) -> Result<(), Refused> {
        let (mode, kind) = (self.mode, self.access.kind);
        let (data, write) = (kind != Kind::Fetch, kind == Kind::Write);
        let wp = has(mode.cr0, 16);
        let right = if self.access.privilege == Privilege::User {
            self.u && (self.w || !write) && (data || !self.nx)
        } else {
            let ac = has(mode.rflags, 18) && self.access.privilege == Privilege::Supervisor;
            let smap = has(mode.cr4, 21) && self.u && data && !ac;
            let smep = has(mode.cr4, 20) && self.u && !data;
            !smap && !smep && (self.w || !write || !wp) && (data || !self.nx)
        };
        let mut pk = false;
        if let (true, true, true, Some(key)) = (has(mode.cr4, 22), self.u, data, key) {
            let pair = u64::from(mode.pkru) >> (2 * key) & 3;
            let user_or_wp = wp || self.access.privilege == Privilege::User;
            pk = has(pair, 0) || has(pair, 1) && write && user_or_wp;
        }
        if right && !pk {
            return Ok(());
        }
        self.fault(1, 0, pk.into())
    }
}
