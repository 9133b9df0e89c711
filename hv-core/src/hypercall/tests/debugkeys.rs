use std::sync::atomic::Ordering;

use crate::hypercall::debugkeys::{KEYS, press, show};
use crate::hypercall::testing::Fixture;
use crate::time::wallclock::WallClock;

fn shown(f: &Fixture, key: u8) -> String {
    let mut text = String::new();
    show(f.hv, key, &mut text).unwrap();
    text
}

#[test]
fn keys_are_unique_and_all_listed() {
    let f = Fixture::control();
    let help = shown(&f, b'h');
    for (index, key) in KEYS.iter().enumerate() {
        assert!(KEYS[..index].iter().all(|k| k.key != key.key));
        assert!(help.contains(&format!("  key '{}': {}", key.key as char, key.about)));
    }
    for wanted in b"hreqgmMstdiC" {
        assert!(KEYS.iter().any(|k| k.key == *wanted));
    }
}

#[test]
fn each_key_says_something_true() {
    let f = Fixture::control();
    let guest = f.add(3);
    guest.pages.store(33, Ordering::Relaxed);
    guest.pause_by_tool().unwrap();
    f.hv.set_wallclock(WallClock::set(1_000_000_000, 0, 0).unwrap());
    for (key, wanted) in [
        (b'd', "the registers"),
        (b'd', "  d3v1: never initialised"),
        (b'e', "d3: event channels"),
        (b'g', "d3: grants v1"),
        (b'i', "the interrupts"),
        (b'm', "d3: 33 pages of at most 64"),
        (b'q', "paused by the toolstack"),
        (b'q', "  d0v0: runs on cpu 0, ran"),
        (b'q', "  d3v1: last on cpu 0, down, never initialised"),
        (b'r', "credit2"),
        (b's', "wall clock 2001-09-09 01:46:40 UTC"),
        (
            b's',
            "cpu 1: idled 4 times, for 0 ms in all; 9 timer interrupts",
        ),
        (b't', "d3v0: period 10000000 ns, none armed"),
        (b'?', "key '?' has no meaning"),
        (0xf3, "key '\\xf3' has no meaning"),
    ] {
        let text = shown(&f, key);
        assert!(text.contains(wanted), "{}: {text}", key as char);
    }
}

#[test]
#[should_panic(expected = "the crash that was asked for")]
fn the_crash_key_crashes() {
    let f = Fixture::control();
    press(f.hv, b'C');
}

#[test]
fn output_is_cut_into_lines() {
    let f = Fixture::control();
    press(f.hv, b'q');
    let lines = f.console.lines.lock().unwrap();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "'q' pressed: domains and their vCPUs");
}
