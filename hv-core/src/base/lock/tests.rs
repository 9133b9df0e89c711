use super::held::HeldLocks;
use super::rank::{BINDING, HEAP, LEDGER, MAPTRACK, WALLCLOCK};
use super::{Mutex, RwLock, expect_none, held};

#[test]
fn locks_are_taken_from_the_outside_in() {
    let outer = Mutex::new(WALLCLOCK, 1);
    let middle = RwLock::new(BINDING, 2);
    let inner = Mutex::new(HEAP, 3);
    for _ in 0..2 {
        let first = outer.lock();
        let mut second = middle.write();
        *second += 1;
        let third = inner.lock();
        // Dropped in any order.
        drop(first);
        drop(second);
        assert_eq!(*third, 3);
    }
    assert_eq!(*middle.read(), 4);
    expect_none("something");
}

#[test]
#[should_panic = "the time of day (0) is taken under the binding of a port (0)"]
fn an_inversion_panics() {
    let (outer, inner) = (Mutex::new(WALLCLOCK, ()), RwLock::new(BINDING, ()));
    let _inner = inner.read();
    let _outer = outer.lock();
}

#[test]
#[should_panic = "is taken under a domain's mappings of grants (0)"]
fn two_of_a_level_panic() {
    let (one, two) = (Mutex::new(MAPTRACK, ()), Mutex::new(MAPTRACK, ()));
    let _one = one.lock();
    let _two = two.lock();
}

#[test]
fn numbers_order_a_rank() {
    let books = [3, 7].map(|id| Mutex::numbered(LEDGER, id, ()));
    let _first = books[0].lock();
    let _second = books[1].lock();
}

#[test]
#[should_panic = "(3) is taken under"]
fn a_lower_number_panics() {
    let books = [3, 7].map(|id| Mutex::numbered(LEDGER, id, ()));
    let _first = books[1].lock();
    let _second = books[0].lock();
}

#[test]
#[should_panic = "a copy under the heap"]
fn work_that_allows_no_lock_panics() {
    let lock = Mutex::new(HEAP, ());
    let _held = lock.lock();
    expect_none("a copy");
}

#[test]
fn threads_hold_their_own() {
    let (outer, inner) = (Mutex::new(WALLCLOCK, ()), Mutex::new(HEAP, ()));
    let _inner = inner.lock();
    std::thread::scope(|s| {
        s.spawn(|| drop(outer.lock()));
    });
}

/// What the list of this thread says.
fn told() -> String {
    held::with(|held: &mut HeldLocks| held.to_string()).unwrap()
}

#[test]
fn what_is_held_and_what_is_waited_for_is_told_by_name() {
    let (outer, inner) = (Mutex::new(WALLCLOCK, ()), RwLock::new(BINDING, ()));
    assert_eq!(told(), "holds no lock");
    let first = outer.lock();
    assert_eq!(told(), "holds the time of day (0, rank 10)");
    let second = inner.read();
    assert_eq!(
        told(),
        "holds the time of day (0, rank 10), holds the binding of a port (0, rank 21)"
    );
    drop(second);
    // As another thread sees it that has to wait.
    let text = std::thread::scope(|s| {
        let waits = s.spawn(|| {
            let place = super::Place {
                rank: WALLCLOCK,
                number: 3,
            };
            let _about_to = held::take(place);
            told()
        });
        waits.join().unwrap()
    });
    assert_eq!(text, "waits for the time of day (3, rank 10)");
    drop(first);
    assert_eq!(told(), "holds no lock");
}
