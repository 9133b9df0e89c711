//! What copies see through an overlay, beside a plain model of it.

use std::cell::RefCell;
use std::ops::Range;

use proptest::prelude::*;
use xen_abi::errno::Errno;

use crate::hypercall::narrow::overlay::{ARRAY, Overlay, STRUCTURE};

/// Bytes of the caller's memory, which begins at address 0.
const SIZE: usize = 128;
/// Bytes of the structure.
const SHOWN: usize = 40;

/// Where copies begin that may mean something.
fn address() -> impl Strategy<Value = u64> {
    let near = |base: u64| (0..SIZE as u64 + 8).prop_map(move |offset| base.wrapping_add(offset));
    prop_oneof![
        near(0),
        near(STRUCTURE - 8),
        near(ARRAY - 8),
        near(ARRAY).prop_map(|at| at & !7),
        near(u64::MAX - 64),
    ]
}

/// The place of the byte that an address means, of the caller's memory or else of the structure.
fn place(at: u64, array: Option<u32>) -> Option<Result<usize, usize>> {
    let within = |at: u64, size: usize| usize::try_from(at).ok().filter(|at| *at < size);
    match at {
        ARRAY.. => {
            let (index, byte) = ((at - ARRAY) / 8, (at - ARRAY) % 8);
            let word = u64::from(array?).checked_add(index * 4)?;
            // The upper half of a word stands nowhere: its place is told by the caller of this.
            (byte < 4).then_some(Ok(within(word + byte, SIZE)?))
        }
        STRUCTURE.. => within(at - STRUCTURE, SHOWN).map(Err),
        _ => within(at, SIZE).map(Ok),
    }
}

proptest! {
    #[test]
    fn a_byte_is_found_where_it_stands(
        at in address(),
        length in prop_oneof![0..64_usize, (0..8_usize).prop_map(|words| words * 8)],
        array in prop::option::of(0..SIZE as u32),
        memory in prop::collection::vec(any::<u8>(), SIZE),
        structure in prop::collection::vec(any::<u8>(), SHOWN),
    ) {
        let overlay = Overlay::new(&structure, array);
        let below = |to: &mut [u8], from: u64| {
            let start = usize::try_from(from).map_err(|_| Errno::EFAULT)?;
            let range = start..start.checked_add(to.len()).ok_or(Errno::EFAULT)?;
            to.copy_from_slice(memory.get(range).ok_or(Errno::EFAULT)?);
            Ok(())
        };
        let mut copied = vec![0; length];
        let done = overlay.copy_in(&mut copied, at, below);
        let in_array = at >= ARRAY;
        if in_array && (at % 8 != 0 || length % 8 != 0) {
            prop_assert_eq!(done, Err(Errno::EFAULT), "only whole words");
            return Ok(());
        }
        for (offset, byte) in copied.iter().enumerate() {
            let expected = match at.checked_add(offset as u64) {
                Some(at) if in_array && at % 8 >= 4 => Some(0),
                at => at.and_then(|at| place(at, array)).map(|place| match place {
                    Ok(place) => memory[place],
                    Err(place) => structure[place],
                }),
            };
            match expected {
                Some(expected) if done.is_ok() => prop_assert_eq!(*byte, expected),
                Some(_) => {}
                None => prop_assert_eq!(done, Err(Errno::EFAULT)),
            }
        }
    }

    #[test]
    fn what_is_copied_out_is_read_back(
        at in address(),
        words in prop::collection::vec(prop_oneof![4 => any::<u32>().prop_map(u64::from), 1 => any::<u64>()], 0..6),
        array in prop::option::of(0..SIZE as u32),
    ) {
        let mut overlay = Overlay::new(&[0x55; SHOWN], array);
        let memory = RefCell::new([0xaa_u8; SIZE]);
        let range = |start: u64, length: usize| -> Result<Range<usize>, Errno> {
            let start = usize::try_from(start).map_err(|_| Errno::EFAULT)?;
            let end = start.checked_add(length).filter(|end| *end <= SIZE);
            Ok(start..end.ok_or(Errno::EFAULT)?)
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let done = overlay.copy_out(at, &bytes, |to, from| {
            memory.borrow_mut()[range(to, from.len())?].copy_from_slice(from);
            Ok(())
        });
        let fits = words.iter().all(|word| u32::try_from(*word).is_ok());
        prop_assert!(fits || at < ARRAY || done.is_err(), "a frame that 32 bits do not say");
        if done.is_ok() {
            let mut back = vec![0; bytes.len()];
            let read = overlay.copy_in(&mut back, at, |to, from| {
                to.copy_from_slice(&memory.borrow()[range(from, to.len())?]);
                Ok(())
            });
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(back, bytes);
        }
        if (STRUCTURE..ARRAY).contains(&at) {
            prop_assert_eq!(*memory.borrow(), [0xaa; SIZE]);
        } else {
            prop_assert_eq!(overlay.structure(), &[0x55; SHOWN]);
        }
    }
}

#[test]
fn the_number_of_no_frame_is_all_ones_in_any_width() {
    let mut overlay = Overlay::new(&[], Some(8));
    let done = overlay.copy_out(ARRAY + 8, &u64::MAX.to_le_bytes(), |to, from| {
        assert_eq!((to, from), (12, [0xff; 4].as_slice()));
        Ok(())
    });
    assert_eq!(done, Ok(()));
    let wide = (u64::MAX - 1).to_le_bytes();
    let refused = overlay.copy_out(ARRAY, &wide, |_, _| Ok(()));
    assert_eq!(refused, Err(Errno::EFAULT));
}

#[test]
fn what_lies_over_memory_is_seen_until_it_is_taken_away() {
    use crate::hypercall::Host;
    use crate::hypercall::testing::Fixture;

    let f = Fixture::guest();
    let mut bytes = [0; 4];
    assert_eq!(f.host.copy_in(&mut bytes, STRUCTURE), Err(Errno::EFAULT));
    assert!(
        f.host
            .lay_over(Some(Overlay::new(&[1, 2, 3, 4], None)))
            .is_none()
    );
    assert_eq!(f.host.copy_in(&mut bytes, STRUCTURE), Ok(()));
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(f.host.copy_out(STRUCTURE, &[9]), Ok(()));
    let taken = f.host.lay_over(None).unwrap();
    assert_eq!(taken.structure()[..4], [9, 2, 3, 4]);
    assert_eq!(f.host.copy_in(&mut bytes, STRUCTURE), Err(Errno::EFAULT));
}
