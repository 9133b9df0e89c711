//! Copies against a flat picture of the address space.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::hvm::walk::{cr0, cr4, efer};

const PAGES: u64 = 16;
/// Where the tables' single L1 maps its first pages.
const BASE: u64 = 0xffff_8000_0000_0000;

/// 16 pages of RAM: four tables, then data.
struct Ram(RefCell<Vec<u8>>);

impl Ram {
    fn new(mapped: &[(u64, u64)]) -> Self {
        let ram = Self(RefCell::new(vec![0; (PAGES << 12) as usize]));
        for (at, entry) in [(256 * 8, 0x1007), (0x1000, 0x2007), (0x2000, 0x3007)] {
            ram.put(at, entry);
        }
        for (slot, entry) in mapped {
            ram.put(0x3000 + slot * 8, *entry);
        }
        ram
    }

    fn put(&self, gpa: u64, word: u64) {
        self.0.borrow_mut()[gpa as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }
}

impl GuestPhysical for Ram {
    fn load(&self, gpa: u64) -> Option<u64> {
        let ram = self.0.borrow();
        let bytes = ram.get(gpa as usize..)?.get(..8)?;
        Some(u64::from_le_bytes(bytes.try_into().unwrap()))
    }

    fn compare_exchange(&self, gpa: u64, old: u64, new: u64) -> Option<bool> {
        let same = self.load(gpa)? == old;
        if same {
            self.put(gpa, new);
        }
        Some(same)
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Option<()> {
        assert!(into.len() as u64 <= 4096 - gpa % 4096);
        let ram = self.0.borrow();
        into.copy_from_slice(ram.get(gpa as usize..)?.get(..into.len())?);
        Some(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        assert!(from.len() as u64 <= 4096 - gpa % 4096);
        let mut ram = self.0.borrow_mut();
        ram.get_mut(gpa as usize..)?
            .get_mut(..from.len())?
            .copy_from_slice(from);
        Some(())
    }
}

fn mode() -> PagingMode {
    PagingMode {
        cr0: cr0::PE | cr0::PG | cr0::WP,
        cr4: cr4::PAE,
        efer: efer::LMA | efer::NXE,
        address_bits: 48,
        ..PagingMode::default()
    }
}

/// Entries of the first eight pages: absent, read-only, writable, or outside of RAM.
fn mapping() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let entry = (4..PAGES, 0..12_u32).prop_map(|(page, what)| match what {
        0 => 0,
        1 => page << 12 | 1,
        2 => (page + PAGES) << 12 | 3,
        _ => page << 12 | 3,
    });
    prop::collection::vec(entry, 8).prop_map(|entries| (0..).zip(entries).collect())
}

proptest! {
    #[test]
    fn copies_move_what_is_mapped_up_to_the_first_page_that_is_not(
        mapping in mapping(), start in 0..0x7000_u64, length in 0..0x5000_usize,
    ) {
        let ram = Ram::new(&mapping);
        for i in 0x4000..PAGES << 12 {
            ram.0.borrow_mut()[i as usize] = (i * 7 + (i >> 8)) as u8;
        }
        let entry = |at: u64| mapping.get((at >> 12) as usize).map_or(0, |(_, entry)| *entry);
        let byte = |at: u64| (entry(at) >> 12 << 12 | at & 0xfff) as usize;
        let bad = |at: u64, write: bool| {
            let e = entry(at);
            e & 1 == 0 || e >> 12 >= PAGES || write && e & 2 == 0
        };
        let first_bad = |write| (start..start + length as u64).find(|at| bad(*at, write));
        let mut into = vec![0; length];
        let result = copy_in(&ram, &mode(), Privilege::Supervisor, BASE + start, &mut into);
        let stopped = first_bad(false);
        prop_assert_eq!(result.err().map(|fault| fault.va), stopped.map(|at| BASE + at));
        let done = stopped.map_or(length, |at| (at - start) as usize);
        prop_assert_eq!(result.err().map_or(length, |fault| fault.done), done);
        for (i, got) in into.iter().enumerate().take(done) {
            prop_assert_eq!(*got, ram.0.borrow()[byte(start + i as u64)]);
        }
        let mut expected = ram.0.borrow().clone();
        let from: Vec<u8> = (0..length).map(|i| i as u8 ^ 0x5a).collect();
        let stopped = first_bad(true);
        let done = stopped.map_or(length, |at| (at - start) as usize);
        for (i, value) in from.iter().enumerate().take(done) {
            expected[byte(start + i as u64)] = *value;
        }
        let result = copy_out(&ram, &mode(), Privilege::Supervisor, BASE + start, &from);
        prop_assert_eq!(result.err().map(|fault| fault.va), stopped.map(|at| BASE + at));
        prop_assert_eq!(&ram.0.borrow()[0x4000..], &expected[0x4000..]);
    }
}

#[test]
fn ranges_over_an_end_of_the_address_space_stop_there() {
    let ram = Ram::new(&[]);
    ram.put(511 * 8, 0x1007);
    ram.put(0x1000 + 511 * 8, 0x2007);
    ram.put(0x2000 + 511 * 8, 0x3007);
    ram.put(0x3000 + 511 * 8, 0x4007);
    let mut into = [0; 32];
    let last = u64::MAX - 15;
    let fault = copy_in(&ram, &mode(), Privilege::Supervisor, last, &mut into).unwrap_err();
    assert_eq!((fault.done, fault.reason), (16, Reason::End));
    assert_eq!(fault.va, 0);
    let flat = PagingMode::default();
    let fault = copy_in(&ram, &flat, Privilege::Supervisor, 1 << 32, &mut into).unwrap_err();
    assert_eq!((fault.done, fault.reason), (0, Reason::End));
}

#[test]
fn the_hole_between_the_halves_is_refused() {
    let ram = Ram::new(&[]);
    let mut into = [0; 16];
    let fault = copy_in(&ram, &mode(), Privilege::Supervisor, 1 << 47, &mut into).unwrap_err();
    assert_eq!(fault.reason, Reason::Refused(Refused::NotCanonical));
    assert_eq!(
        copy_out(&ram, &mode(), Privilege::User, 1 << 47, &[]),
        Ok(())
    );
}
