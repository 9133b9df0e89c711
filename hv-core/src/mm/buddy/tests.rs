use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn buddy<const N: usize>(regions: [Range<u64>; N]) -> Buddy {
    let mut buddy = Buddy::new();
    for region in regions {
        buddy
            .add_region(Mfn(region.start)..Mfn(region.end))
            .unwrap();
    }
    buddy
}

/// A layout of one region.
fn one(region: Range<u64>) -> [Range<u64>; 1] {
    [region]
}

const GIB: u64 = 1 << 18;
const HIGH: u64 = 4 * GIB;

#[test]
fn the_highest_memory_goes_first() {
    let mut buddy = buddy([GIB..2 * GIB, HIGH..HIGH + 8]);
    assert_eq!(buddy.alloc(0, 64), Some(Mfn(HIGH + 7)));
    assert_eq!(buddy.alloc(2, 64), Some(Mfn(HIGH)));
    assert_eq!(buddy.alloc(0, 64), Some(Mfn(HIGH + 6)));
    assert_eq!(buddy.alloc(1, 64), Some(Mfn(HIGH + 4)));
    assert_eq!(buddy.alloc(0, 64), Some(Mfn(0x7_ffff)));
    assert_eq!(buddy.free_pages(), GIB - 1);
    assert_eq!(buddy.total_pages(), GIB + 8);
}

#[test]
fn fragments_of_low_memory_are_spared_while_there_is_high_memory() {
    let mut buddy = buddy([GIB..2 * GIB, HIGH..HIGH + GIB]);
    let low = buddy.alloc(0, 32).unwrap();
    assert_eq!(low, Mfn(0x7_ffff));
    // A free order 0 block lies just below it, and high memory has to be split.
    assert_eq!(buddy.alloc(0, 64), Some(Mfn(HIGH + GIB - 1)));
}

#[test]
fn address_limits_hold_and_split_what_straddles_them() {
    let mut buddy = buddy(one(0..2 * GIB));
    assert_eq!(buddy.alloc(0, 24), Some(Mfn(0xfff)));
    assert_eq!(buddy.alloc(18, 30), None);
    assert_eq!(buddy.alloc(18, 31), Some(Mfn(GIB)));
    assert_eq!(buddy.alloc(4, 20), Some(Mfn(0xf0)));
    assert_eq!(buddy.alloc(0, 12), Some(Mfn(0)));
    assert_eq!(buddy.alloc(0, 12), None);
    assert_eq!(buddy.alloc(0, 11), None);
    assert_eq!(buddy.alloc(0, 0), None);
    assert_eq!(buddy.alloc(MAX_ORDER + 1, 64), None);
    assert_eq!(buddy.alloc(u32::MAX, u32::MAX), None);
}

#[test]
fn blocks_merge_back_whatever_way_they_come() {
    let mut buddy = buddy(one(0..2 * GIB));
    let block = buddy.alloc(10, 64).unwrap();
    for page in (0..1 << 10).rev() {
        buddy.free(Mfn(block.0 + page), 0).unwrap();
    }
    assert_eq!(buddy.free_pages(), 2 * GIB);
    assert_eq!(buddy.alloc(18, 64), Some(Mfn(GIB)));
    assert_eq!(buddy.alloc(18, 64), Some(Mfn(0)));
    assert_eq!(buddy.alloc(0, 64), None);
}

#[test]
fn wrong_frees_are_errors() {
    let mut buddy = buddy([0x10..0x20, 0x20..0x28]);
    let block = buddy.alloc(2, 64).unwrap();
    assert_eq!(buddy.free(Mfn(block.0 + 1), 2), Err(FrameError::BadBlock));
    assert_eq!(buddy.free(Mfn(0x10), 0), Err(FrameError::AlreadyFree));
    assert_eq!(buddy.free(Mfn(0x20), 3), Err(FrameError::AlreadyFree));
    assert_eq!(buddy.free(Mfn(0x30), 0), Err(FrameError::Foreign));
    assert_eq!(buddy.free(Mfn(0x20), 4), Err(FrameError::Foreign));
    assert_eq!(buddy.free(Mfn(0), 5), Err(FrameError::Foreign));
    assert_eq!(buddy.free(Mfn::INVALID, 0), Err(FrameError::BadBlock));
    assert_eq!(buddy.free(Mfn(0), 64), Err(FrameError::BadBlock));
    assert_eq!(buddy.free(block, 2), Ok(()));
    assert_eq!(buddy.free(block, 2), Err(FrameError::AlreadyFree));
    assert_eq!(buddy.free_pages(), 0x18);
}

#[test]
fn exact_frames_can_be_taken() {
    let mut buddy = buddy(one(0..GIB));
    assert_eq!(buddy.take(Mfn(0x1234), 2), Ok(()));
    assert_eq!(buddy.take(Mfn(0x1235), 0), Err(FrameError::InUse));
    assert_eq!(buddy.take(Mfn(0x1000), 12), Err(FrameError::InUse));
    assert_eq!(buddy.take(Mfn(GIB), 0), Err(FrameError::Foreign));
    assert_eq!(buddy.is_free(Mfn(0x1237)), Some(false));
    assert_eq!(buddy.is_free(Mfn(0x1238)), Some(true));
    assert_eq!(buddy.is_free(Mfn(GIB)), None);
    assert_eq!(buddy.free(Mfn(0x1234), 2), Ok(()));
    assert_eq!(buddy.take(Mfn(0), 18), Ok(()));
    assert_eq!(buddy.free_pages(), 0);
}

#[test]
fn bad_regions_are_refused() {
    let mut buddy = buddy(one(0x10..0x20));
    let mut add = |start, end| buddy.add_region(Mfn(start)..Mfn(end));
    assert_eq!(add(5, 5), Err(RegionError::BadRange));
    assert_eq!(add(6, 5), Err(RegionError::BadRange));
    assert_eq!(add(0, u64::MAX), Err(RegionError::BadRange));
    assert_eq!(add(0x1f, 0x21), Err(RegionError::Overlap));
    assert_eq!(add(0, 0x11), Err(RegionError::Overlap));
    assert_eq!(add(0, 0x30), Err(RegionError::Overlap));
    assert_eq!(add(0x20, 0x21), Ok(()));
    assert_eq!(add(0, 0x10), Ok(()));
    assert_eq!(Buddy::words_for(&(Mfn(5)..Mfn(5))), 0);
    let few = Box::leak(Box::new([0; 4]));
    let range = Mfn(0x1000)..Mfn(0x2000);
    assert_eq!(buddy.add_region_in(range, few), Err(RegionError::NoMemory));
}

#[test]
fn bits_may_be_lent_and_cost_about_two_per_page() {
    let range = Mfn(0x10_0000)..Mfn(0x10_0000 + GIB);
    let words = Buddy::words_for(&range);
    assert!((words as u64 * 64) < GIB * 21 / 10, "{words}");
    let store = Box::leak(vec![u64::MAX; words].into_boxed_slice());
    let mut buddy = Buddy::new();
    buddy.add_region_in(range, store).unwrap();
    assert_eq!(buddy.alloc(18, 64), Some(Mfn(0x10_0000)));
    assert_eq!(buddy.alloc(0, 64), None);
}

/// 4 TiB with a hole below 4 GiB: its bits would be 256 MiB, so the layout alone is computed, and a
/// tenth of it is really run.
#[test]
fn terabytes_need_few_bits() {
    let words = Buddy::words_for(&(Mfn(HIGH)..Mfn(HIGH + 4096 * GIB)));
    assert!(words as u64 * 8 < 280 << 20, "{words}");
    let mut buddy = buddy([0x100..3 * GIB, HIGH..HIGH + 400 * GIB]);
    let mut taken = Vec::new();
    for _ in 0..400 {
        taken.push(buddy.alloc(18, 64).unwrap());
    }
    assert_eq!(taken[0], Mfn(HIGH + 399 * GIB));
    assert_eq!(taken[399], Mfn(HIGH));
    assert_eq!(buddy.alloc(18, 64), Some(Mfn(2 * GIB)));
    for mfn in taken {
        buddy.free(mfn, 18).unwrap();
    }
    assert_eq!(buddy.free_pages(), 402 * GIB - 0x100);
}

#[test]
fn many_regions_are_found() {
    let mut buddy = Buddy::new();
    // Mostly upwards, which is quick, some downwards.
    let last = MAX_REGIONS as u64;
    for index in (8..last).chain((0..8).rev()) {
        let start = index * 3 + 1;
        buddy.add_region(Mfn(start)..Mfn(start + 2)).unwrap();
    }
    let next = Mfn(1 << 20)..Mfn(2 << 20);
    assert_eq!(buddy.add_region(next), Err(RegionError::TooMany));
    for index in (0..MAX_REGIONS as u64).rev() {
        let first = buddy.alloc(0, 64).unwrap();
        assert!(first.0 > index);
    }
    assert_eq!(buddy.free_pages(), MAX_REGIONS as u64);
}

/// One step of the property test.
#[derive(Clone, Debug)]
enum Step {
    Alloc { order: u32, bits: u32 },
    Free { which: usize },
    FreePart { which: usize, order: u32 },
    FreeAny { mfn: u64, order: u32 },
    Take { mfn: u64, order: u32 },
}

/// Regions of the property test, in frames: odd edges, neighbours, some beyond 16 MiB and 4 GiB.
const REGIONS: [Range<u64>; 5] = [
    1..0x9f,
    0x100..0x523,
    0x523..0x700,
    0xff0..0x1041,
    HIGH - 5..HIGH + 0x333,
];

fn any_frame() -> impl Strategy<Value = u64> {
    prop_oneof![0..0x1050_u64, HIGH - 8..HIGH + 0x340]
}

fn any_step() -> impl Strategy<Value = Step> {
    let bits = prop_oneof![Just(64_u32), Just(32), Just(24), 12..35_u32];
    prop_oneof![
        4 => (0..8_u32, bits).prop_map(|(order, bits)| Step::Alloc { order, bits }),
        2 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => (any::<usize>(), 0..3_u32).prop_map(|(which, order)| Step::FreePart { which, order }),
        1 => (any_frame(), 0..6_u32).prop_map(|(mfn, order)| Step::FreeAny { mfn, order }),
        1 => (any_frame(), 0..6_u32).prop_map(|(mfn, order)| Step::Take { mfn, order }),
    ]
}

/// The model: the frames that are free, one by one.
struct Model {
    free: BTreeSet<u64>,
    /// Blocks in use.
    blocks: BTreeMap<u64, u32>,
}

impl Model {
    fn new() -> Self {
        Self {
            free: REGIONS.into_iter().flatten().collect(),
            blocks: BTreeMap::new(),
        }
    }

    fn all_free(&self, first: u64, order: u32) -> bool {
        (first..first + (1 << order)).all(|frame| self.free.contains(&frame))
    }

    /// Whether an aligned block below the limit is free inside one region.
    fn can_alloc(&self, order: u32, bits: u32) -> bool {
        let size = 1 << order;
        let limit = 1_u128 << bits.saturating_sub(12);
        REGIONS.into_iter().any(|region| {
            (region.start.next_multiple_of(size)..region.end)
                .step_by(size as usize)
                .filter(|first| first + size <= region.end)
                .any(|first| u128::from(first + size) <= limit && self.all_free(first, order))
        })
    }

    /// What freeing or taking this block says, when every frame's state should be `free`.
    fn check(&self, first: u64, order: u32, free: bool) -> Option<FrameError> {
        let end = first + (1 << order);
        if !first.is_multiple_of(1 << order) {
            return Some(FrameError::BadBlock);
        }
        if !REGIONS
            .iter()
            .any(|region| region.start <= first && end <= region.end)
        {
            return Some(FrameError::Foreign);
        }
        let wrong = (first..end).any(|frame| self.free.contains(&frame) != free);
        wrong.then_some(if free {
            FrameError::InUse
        } else {
            FrameError::AlreadyFree
        })
    }

    fn set(&mut self, first: u64, order: u32, free: bool) {
        for frame in first..first + (1 << order) {
            if free {
                assert!(self.free.insert(frame));
            } else {
                assert!(self.free.remove(&frame));
            }
        }
    }

    /// The `which`-th block in use.
    fn pick(&self, which: usize) -> Option<(u64, u32)> {
        let at = which.checked_rem(self.blocks.len())?;
        self.blocks
            .iter()
            .nth(at)
            .map(|(&first, &order)| (first, order))
    }
}

fn run(model: &mut Model, buddy: &mut Buddy, step: &Step) -> Result<(), TestCaseError> {
    match *step {
        Step::Alloc { order, bits } => {
            let possible = model.can_alloc(order, bits);
            let got = buddy.alloc(order, bits);
            prop_assert_eq!(got.is_some(), possible);
            if let Some(Mfn(first)) = got {
                prop_assert_eq!(first % (1 << order), 0);
                prop_assert!(model.all_free(first, order));
                let end = u128::from(first + (1 << order));
                prop_assert!(end <= 1 << (bits - 12));
                model.set(first, order, false);
                model.blocks.insert(first, order);
            }
        }
        Step::Free { which } => {
            if let Some((first, order)) = model.pick(which) {
                prop_assert_eq!(buddy.free(Mfn(first), order), Ok(()));
                model.set(first, order, true);
                model.blocks.remove(&first);
            }
        }
        Step::FreePart { which, order } => {
            if let Some((first, whole)) = model.pick(which) {
                let order = order.min(whole);
                prop_assert_eq!(buddy.free(Mfn(first), order), Ok(()));
                model.set(first, order, true);
                model.blocks.remove(&first);
                // What remains of the block is in use, in pieces.
                for piece in order..whole {
                    model.blocks.insert(first + (1 << piece), piece);
                }
            }
        }
        Step::FreeAny { mfn, order } => {
            // Only what must fail: a success would free a part of some block in the model.
            if let Some(error) = model.check(mfn, order, false) {
                prop_assert_eq!(buddy.free(Mfn(mfn), order), Err(error));
            }
        }
        Step::Take { mfn, order } => match model.check(mfn, order, true) {
            Some(error) => prop_assert_eq!(buddy.take(Mfn(mfn), order), Err(error)),
            None => {
                prop_assert_eq!(buddy.take(Mfn(mfn), order), Ok(()));
                model.set(mfn, order, false);
                model.blocks.insert(mfn, order);
            }
        },
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_allocator_agrees_with_a_set_of_frames(
        turn in 0..REGIONS.len(),
        steps in proptest::collection::vec(any_step(), 1..120),
    ) {
        let mut regions = REGIONS;
        regions.rotate_left(turn);
        let mut buddy = buddy(regions);
        let mut model = Model::new();
        for step in &steps {
            run(&mut model, &mut buddy, step)?;
            prop_assert_eq!(buddy.free_pages(), model.free.len() as u64);
        }
        for region in REGIONS {
            for frame in region {
                prop_assert_eq!(buddy.is_free(Mfn(frame)), Some(model.free.contains(&frame)));
            }
        }
        // Everything comes back and merges.
        for (first, order) in core::mem::take(&mut model.blocks) {
            buddy.free(Mfn(first), order).unwrap();
        }
        prop_assert_eq!(buddy.free_pages(), buddy.total_pages());
        prop_assert_eq!(buddy.alloc(9, 64), Some(Mfn(HIGH)));
    }
}

/// The RAM of a machine with 4 TiB and holes, in frames.
const FOUR_TIB: [Range<u64>; 4] = [
    0x100..0x7_fef0,
    1 << 20..128 << 20,
    160 << 20..0xfd0_0000,
    1 << 28..(1 << 30) - (3 << 18),
];

#[test]
fn four_tib_with_holes() {
    let mut buddy = Buddy::new();
    let mut total = 0;
    for run in FOUR_TIB {
        let (frames, count) = (Mfn(run.start)..Mfn(run.end), run.end - run.start);
        // Little more than two bits for each page.
        assert!(Buddy::words_for(&frames) as u64 <= count / 64 * 9 / 4 + 256);
        buddy.add_region(frames).unwrap();
        total += count;
    }
    assert_eq!(buddy.free_pages(), total);
    let high = buddy.alloc(MAX_ORDER, 64).unwrap();
    assert_eq!(high, Mfn((1 << 30) - (4 << 18)));
    let low = buddy.alloc(17, 32).unwrap();
    assert!(low.0 + (1 << 17) <= 1 << 20);
    buddy.free(high, MAX_ORDER).unwrap();
    buddy.free(low, 17).unwrap();
    assert_eq!(buddy.free_pages(), total);
}
