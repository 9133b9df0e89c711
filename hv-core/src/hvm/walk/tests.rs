//! The walk against a second one that follows the manuals' figures format by format, over memory full of random
//! entries; and what is known about single cases.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod model;

/// RAM whose words are entries derived from their addresses, but for those that were written.
#[derive(Clone)]
pub struct Memory {
    seed: u64,
    /// Bytes of RAM.
    size: u64,
    written: RefCell<BTreeMap<u64, u64>>,
    /// Times that a swap is to find something else.
    races: RefCell<u32>,
}

impl Memory {
    pub fn empty(size: u64) -> Self {
        Self {
            seed: 0,
            size,
            written: RefCell::default(),
            races: RefCell::new(0),
        }
    }

    pub fn set(&self, gpa: u64, word: u64) {
        assert!(gpa.is_multiple_of(8) && gpa < self.size);
        self.written.borrow_mut().insert(gpa, word);
    }

    fn random(seed: u64) -> Self {
        Self {
            seed,
            ..Self::empty(24 << 12)
        }
    }

    /// Two 32-bit entries or a 64-bit one: mostly present, mostly pointing to RAM, sometimes with bits that are reserved.
    fn derived(&self, gpa: u64) -> u64 {
        let mut dice = Dice(self.seed ^ gpa.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let half = |dice: &mut Dice| {
            let mut entry = dice.below(24) << 12 | dice.below(0x1000) & !0x80 | 7;
            for bit in [0, 1, 2] {
                if dice.below(16) == 0 {
                    entry &= !(1 << bit);
                }
            }
            if dice.below(4) == 0 {
                entry |= entry::LARGE;
                if dice.below(4) != 0 {
                    entry &= !0x3f_f000;
                }
            }
            entry
        };
        let low = half(&mut dice);
        if self.seed & 1 == 0 {
            return low | half(&mut dice) << 32;
        }
        let mut entry = low;
        match dice.below(12) {
            0 | 1 => entry |= entry::NX,
            2 => entry |= 1 << dice.below(64),
            3 => entry |= dice.below(16) << 59,
            // PAE's four entries have hardly any bits.
            4..=7 => entry &= !0x1e6,
            _ => {}
        }
        entry
    }

    fn count_written(&self) -> BTreeMap<u64, u64> {
        self.written.borrow().clone()
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

impl GuestPhysical for Memory {
    fn load(&self, gpa: u64) -> Option<u64> {
        assert!(gpa.is_multiple_of(8), "{gpa:#x}");
        if gpa >= self.size {
            return None;
        }
        let written = self.written.borrow().get(&gpa).copied();
        Some(written.unwrap_or_else(|| if self.seed == 0 { 0 } else { self.derived(gpa) }))
    }

    fn compare_exchange(&self, gpa: u64, old: u64, new: u64) -> Option<bool> {
        let now = self.load(gpa)?;
        let mut races = self.races.borrow_mut();
        if *races > 0 {
            *races -= 1;
            return Some(false);
        }
        if now == old {
            self.set(gpa, new);
        }
        Some(now == old)
    }
}

fn mode() -> impl Strategy<Value = PagingMode> {
    let paging = prop_oneof![Just(0), Just(cr4::PAE), Just(cr4::PAE | cr4::LA57)];
    let features = (0..32_u64).prop_map(|n| {
        [cr4::PSE, cr4::SMEP, cr4::SMAP, cr4::PKE]
            .into_iter()
            .enumerate()
            .map(|(i, bit)| bit * (n >> i & 1))
            .sum::<u64>()
    });
    (
        paging,
        features,
        0..8_u64,
        any::<bool>(),
        0..24_u64,
        0..128_u64,
        any::<u32>(),
        prop_oneof![
            Just(32_u8),
            Just(36),
            Just(39),
            Just(40),
            Just(48),
            Just(52)
        ],
        any::<bool>(),
    )
        .prop_map(
            |(paging, features, bits, long, page, low, pkru, address_bits, gigabyte_pages)| {
                PagingMode {
                    cr0: cr0::PE | cr0::PG | if bits & 1 != 0 { cr0::WP } else { 0 },
                    cr3: page << 12 | low << 5 & 0xfe0,
                    cr4: paging | features,
                    efer: if bits & 2 != 0 { efer::NXE } else { 0 }
                        | if paging != 0 && long { efer::LMA } else { 0 },
                    rflags: if bits & 4 != 0 { AC } else { 0 },
                    pkru,
                    address_bits,
                    gigabyte_pages,
                }
            },
        )
}

fn access() -> impl Strategy<Value = Access> {
    (
        prop::sample::select(vec![Kind::Read, Kind::Write, Kind::Fetch]),
        prop::sample::select(vec![
            Privilege::User,
            Privilege::Supervisor,
            Privilege::Implicit,
        ]),
    )
        .prop_map(|(kind, privilege)| Access { kind, privilege })
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => any::<u64>(),
        4 => any::<u64>().prop_map(|va| ((va << 16) as i64 >> 16) as u64),
        2 => any::<u64>().prop_map(|va| ((va << 7) as i64 >> 7) as u64),
        2 => any::<u32>().prop_map(u64::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn walks_as_the_manuals_say(seed in 1..u64::MAX, mode in mode(), va in address(), access in access()) {
        let (ours, models) = (Memory::random(seed), Memory::random(seed));
        let expected = model::walk(&models, &mode, va, access);
        let found = walk(&ours, &mode, va, access);
        prop_assert_eq!(found, expected, "{:#x?} {:#x} {:?}", mode, va, access);
        prop_assert_eq!(ours.count_written(), models.count_written());
        // Again, with the bits set: in a table that is one of another level too, where a bit means something else, that may end otherwise.
        let expected = model::walk(&models, &mode, va, access);
        prop_assert_eq!(walk(&ours, &mode, va, access), expected);
        prop_assert_eq!(ours.count_written(), models.count_written());
    }
}

/// The random memory reaches all kinds of answers, so that the comparison says something.
#[test]
fn random_tables_lead_everywhere() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..20_000 {
        let strategy = (1..u64::MAX, mode(), address(), access());
        let (seed, mode, va, access) = strategy.new_tree(&mut runner).unwrap().current();
        let what = match walk(&Memory::random(seed), &mode, va, access) {
            Ok(found) => format!("{:?} {}", Tables::of(&mode).unwrap(), found.page_shift),
            Err(Refused::Page(fault)) => format!("fault {:#x}", fault.error & !0x16),
            Err(refused) => format!("{refused:?}").split(' ').next().unwrap().into(),
        };
        *seen.entry(what).or_insert(0) += 1;
    }
    let formats = [
        "Narrow 12",
        "Narrow 22",
        "Pae 12",
        "Pae 21",
        "Long(4) 12",
        "Long(4) 21",
        "Long(4) 30",
        "Long(5) 12",
        "Long(5) 21",
        "Long(5) 30",
        "fault 0x0",
        "fault 0x1",
        "fault 0x9",
        "fault 0x21",
        "NotCanonical",
        "NoMemory",
    ];
    for what in formats {
        assert!(seen.get(what).is_some_and(|n| *n >= 10), "{what}: {seen:?}");
    }
}

use proptest::strategy::ValueTree;

fn long_mode(cr3: u64) -> PagingMode {
    PagingMode {
        cr0: cr0::PE | cr0::PG | cr0::WP,
        cr3,
        cr4: cr4::PAE,
        efer: efer::LMA | efer::NXE,
        address_bits: 48,
        ..PagingMode::default()
    }
}

/// Memory with one page mapped at 0 through tables at 1000, 2000, 3000 and 4000, the last entry with these bits.
fn one_page(bits: u64) -> Memory {
    let memory = Memory::empty(0x10_0000);
    for table in 1..4 {
        memory.set(table << 12, (table + 1) << 12 | 7);
    }
    memory.set(0x4000, 0x5000 | bits);
    memory
}

const READ: Access = Access::at_cpl(Kind::Read, 0);
const WRITE: Access = Access::at_cpl(Kind::Write, 0);

fn fault(result: Result<Translation, Refused>) -> Option<u32> {
    match result {
        Err(Refused::Page(fault)) => Some(fault.error),
        _ => None,
    }
}

#[test]
fn a_read_sets_accessed_bits_and_a_write_the_dirty_bit_of_the_page() {
    let memory = one_page(7);
    assert_eq!(
        walk(&memory, &long_mode(0x1000), 0x123, READ).unwrap().gpa,
        0x5123
    );
    assert_eq!(memory.load(0x1000), Some(0x2000 | 0x27));
    assert_eq!(memory.load(0x4000), Some(0x5000 | 0x27));
    walk(&memory, &long_mode(0x1000), 0, WRITE).unwrap();
    assert_eq!(memory.load(0x3000), Some(0x4000 | 0x27));
    assert_eq!(memory.load(0x4000), Some(0x5000 | 0x67));
}

#[test]
fn a_refused_access_leaves_no_trace() {
    let memory = one_page(entry::PRESENT | entry::USER);
    let before = memory.count_written();
    assert_eq!(
        fault(walk(&memory, &long_mode(0x1000), 0, WRITE)),
        Some(error::PRESENT | error::WRITE)
    );
    assert_eq!(memory.count_written(), before);
}

#[test]
fn the_kernel_writes_read_only_pages_without_wp() {
    let memory = one_page(entry::PRESENT);
    let mode = PagingMode {
        cr0: cr0::PE | cr0::PG,
        ..long_mode(0x1000)
    };
    assert!(walk(&memory, &mode, 0, WRITE).is_ok());
    assert_eq!(
        fault(walk(&memory, &mode, 0, Access::at_cpl(Kind::Write, 3))),
        Some(error::PRESENT | error::WRITE | error::USER)
    );
}

#[test]
fn user_pages_are_closed_to_the_kernel_but_with_ac() {
    let memory = one_page(7);
    let mut mode = long_mode(0x1000);
    mode.cr4 |= cr4::SMAP | cr4::SMEP;
    assert_eq!(fault(walk(&memory, &mode, 0, READ)), Some(error::PRESENT));
    mode.rflags = AC;
    assert!(walk(&memory, &mode, 0, READ).is_ok());
    let implicit = Access {
        kind: Kind::Read,
        privilege: Privilege::Implicit,
    };
    assert_eq!(
        fault(walk(&memory, &mode, 0, implicit)),
        Some(error::PRESENT)
    );
    let fetch = Access::at_cpl(Kind::Fetch, 0);
    assert_eq!(
        fault(walk(&memory, &mode, 0, fetch)),
        Some(error::PRESENT | error::FETCH)
    );
}

#[test]
fn entries_that_change_start_the_walk_again_and_not_for_ever() {
    let memory = one_page(7);
    *memory.races.borrow_mut() = 3;
    assert!(walk(&memory, &long_mode(0x1000), 0, WRITE).is_ok());
    let memory = one_page(7);
    *memory.races.borrow_mut() = u32::MAX;
    assert_eq!(
        walk(&memory, &long_mode(0x1000), 0, WRITE),
        Err(Refused::Unsteady)
    );
}

#[test]
fn tables_outside_of_ram_are_told() {
    let mode = long_mode(0x7fff_f000);
    assert_eq!(
        walk(&one_page(7), &mode, 8 << 39, READ),
        Err(Refused::NoMemory {
            gpa: 0x7fff_f000 + 64
        })
    );
}

#[test]
fn without_paging_addresses_are_of_32_bits() {
    let memory = Memory::empty(0);
    let found = walk(&memory, &PagingMode::default(), 0x1_2345_6789, WRITE).unwrap();
    assert_eq!(found.gpa, 0x2345_6789);
}

#[test]
fn pages_of_4_mib_reach_40_bits() {
    let memory = Memory::empty(0x2000);
    // The second of the two entries in a word.
    memory.set(
        0x1000,
        (0x0040_0000_u64 | 0xab << 13 | 0x83) << 32 | 0xdead_beee,
    );
    let mut mode = PagingMode {
        cr0: cr0::PE | cr0::PG,
        cr3: 0x1000,
        cr4: cr4::PSE,
        address_bits: 40,
        ..PagingMode::default()
    };
    let found = walk(&memory, &mode, 0x0041_2345, WRITE).unwrap();
    assert_eq!((found.gpa, found.page_shift), (0xab_0041_2345, 22));
    assert_eq!(memory.load(0x1000).unwrap() & 0xffff_ffff, 0xdead_beee);
    assert_eq!(memory.load(0x1000).unwrap() >> 32 & 0x60, 0x60);
    mode.address_bits = 36;
    assert_eq!(
        fault(walk(&memory, &mode, 0x0041_2345, READ)),
        Some(error::PRESENT | error::RESERVED)
    );
}
