//! The FIFO form: set-up, order, moves between queues, hostile words.

use proptest::prelude::*;

use super::guest::{ARRAY_GFN, CONTROL_GFN, Guest, enter_fifo, mask, open, word};
use super::*;

/// A FIFO domain of `vcpus` with `ports` open IPI ports from number 1, all at vCPU 0.
fn with_ipis(vcpus: u32, ports: u32) -> Arc<Fake> {
    let d = Fake::new(1, vcpus);
    enter_fifo(&d, 1);
    for port in 1..=ports {
        assert_eq!(bind_ipi(&*d, 0), Ok(port));
        open(&d, port);
    }
    d
}

/// A FIFO domain with `ports` movable ports from number 1, and the peer that sends to them.
fn with_peer(vcpus: u32, ports: u32) -> (Arc<Fake>, Arc<Fake>) {
    let (d, peer) = (Fake::new(1, vcpus), Fake::new(2, 1));
    enter_fifo(&d, 1);
    for port in 1..=ports {
        assert_eq!(alloc_unbound(&*d, 2), Ok(port));
        assert_eq!(bind_interdomain(&peer, &d, port), Ok(port));
        open(&d, port);
    }
    (d, peer)
}

#[test]
fn setting_up_checks_its_arguments() {
    let d = Fake::new(1, 1);
    assert_eq!(expand_array(&*d, ARRAY_GFN), Err(Errno::EOPNOTSUPP));
    assert_eq!(set_priority(&*d, 0, 3), Err(Errno::ENOSYS));
    assert_eq!(init_control(&*d, 1, CONTROL_GFN, 0), Err(Errno::ENOENT));
    for offset in [4, 4096 - 64, 4096, u32::MAX] {
        let refused = init_control(&*d, 0, CONTROL_GFN, offset);
        assert_eq!(refused, Err(Errno::EINVAL), "{offset}");
    }
    assert_eq!(
        init_control(&*d, 0, 1, 0),
        Err(Errno::EINVAL),
        "no such page"
    );
    assert_eq!(d.pages_out(), 0);
    assert_eq!(init_control(&*d, 0, CONTROL_GFN, 4096 - 72), Ok(17));
    assert_eq!(init_control(&*d, 0, CONTROL_GFN, 0), Err(Errno::EINVAL));
    assert_eq!(expand_array(&*d, 1), Err(Errno::EINVAL));
    for _ in 0..128 {
        assert_eq!(expand_array(&*d, ARRAY_GFN), Ok(()));
    }
    assert_eq!(expand_array(&*d, ARRAY_GFN), Err(Errno::ENOSPC));
    assert_eq!(d.pages_out(), 129);
    assert_eq!(set_priority(&*d, 1, 16), Err(Errno::EINVAL));
    assert_eq!(set_priority(&*d, 1 << 17, 1), Err(Errno::EINVAL));
}

#[test]
fn events_come_in_order_and_once() {
    let d = with_ipis(1, 5);
    let mut guest = Guest::new(&d, 0);
    for port in [3, 1, 3, 5, 2] {
        send(&*d, port).unwrap();
    }
    assert_eq!(d.news(), [Told::Kick(0)]);
    assert_eq!(guest.take(), [3, 1, 5, 2]);
    assert!(guest.take().is_empty());
    send(&*d, 2).unwrap();
    send(&*d, 3).unwrap();
    assert_eq!(guest.take(), [2, 3]);
}

#[test]
fn an_emptied_queue_starts_anew() {
    let d = with_ipis(1, 3);
    let mut guest = Guest::new(&d, 0);
    for port in [1, 2, 3, 1] {
        send(&*d, port).unwrap();
        assert_eq!(guest.take(), [port]);
    }
    assert_eq!(d.news(), [Told::Kick(0); 4]);
}

#[test]
fn a_higher_priority_overtakes() {
    let d = with_ipis(1, 3);
    set_priority(&*d, 3, 0).unwrap();
    set_priority(&*d, 1, 15).unwrap();
    for port in 1..=3 {
        send(&*d, port).unwrap();
    }
    assert_eq!(Guest::new(&d, 0).take(), [3, 2, 1]);
}

#[test]
fn a_masked_port_is_queued_by_unmask() {
    let d = with_ipis(1, 1);
    let mut guest = Guest::new(&d, 0);
    mask(&d, 1);
    send(&*d, 1).unwrap();
    assert!(!guest.upcall());
    assert_eq!(is_pending(&*d, 1), Ok(true));
    open(&d, 1);
    assert_eq!(guest.take(), [1]);
    assert_eq!(is_pending(&*d, 1), Ok(false));
}

#[test]
fn unmask_raises_nothing_by_itself() {
    let d = with_ipis(1, 1);
    unmask(&*d, 1).unwrap();
    assert!(d.news().is_empty());
    assert_eq!(word(&d, 1).load(Ordering::SeqCst), 0);
}

#[test]
fn the_last_of_an_old_queue_does_not_drag_the_next_event_along() {
    let (d, peer) = with_peer(2, 2);
    let (mut zero, mut one) = (Guest::new(&d, 0), Guest::new(&d, 1));
    send(&*peer, 1).unwrap();
    assert_eq!(zero.take(), [1]);
    bind_vcpu(&*d, 1, 1).unwrap();
    send(&*peer, 1).unwrap();
    // Port 1 was the last of vCPU 0's queue, and is now linked at vCPU 1.
    send(&*peer, 2).unwrap();
    assert_eq!(zero.take(), [2]);
    assert_eq!(one.take(), [1]);
    destroy(&peer);
}

#[test]
fn a_port_that_is_queued_stays_there_when_it_moves() {
    let (d, peer) = with_peer(2, 2);
    let (mut zero, mut one) = (Guest::new(&d, 0), Guest::new(&d, 1));
    send(&*peer, 1).unwrap();
    bind_vcpu(&*d, 1, 1).unwrap();
    send(&*peer, 1).unwrap();
    send(&*peer, 2).unwrap();
    assert_eq!(zero.take(), [1, 2]);
    assert!(one.take().is_empty());
    destroy(&peer);
}

#[test]
fn a_vcpu_without_control_block_gets_its_events_later() {
    let (d, peer) = (Fake::new(1, 3), Fake::new(2, 1));
    assert_eq!(init_control(&*d, 0, CONTROL_GFN, 0), Ok(17));
    assert_eq!(expand_array(&*d, ARRAY_GFN), Ok(()));
    for port in 1..=2 {
        alloc_unbound(&*d, 2).unwrap();
        bind_interdomain(&peer, &d, port).unwrap();
        bind_vcpu(&*d, port, port).unwrap();
        send(&*peer, port).unwrap();
        assert_eq!(is_pending(&*d, port), Ok(true));
    }
    bind_vcpu(&*d, 2, 0).unwrap();
    assert_eq!(
        Guest::new(&d, 0).take(),
        [2],
        "moved to one that has a block"
    );
    assert_eq!(init_control(&*d, 1, CONTROL_GFN, 128), Ok(17));
    assert_eq!(Guest::new(&d, 1).take(), [1]);
    destroy(&peer);
}

#[test]
fn pending_events_survive_the_switch_of_form() {
    let d = Fake::new(1, 1);
    for port in 1..=3 {
        bind_ipi(&*d, 0).unwrap();
        d.set_masked(port);
    }
    send(&*d, 2).unwrap();
    // A stray bit of a port that is not in use.
    d.pending[1].store(1, Ordering::SeqCst);
    init_control(&*d, 0, CONTROL_GFN, 0).unwrap();
    assert_eq!(is_pending(&*d, 2), Ok(true));
    send(&*d, 3).unwrap();
    assert_eq!(is_pending(&*d, 3), Ok(true), "before its event word exists");
    for word in &d.pages[1] {
        word.store(1 << 30, Ordering::SeqCst);
    }
    expand_array(&*d, ARRAY_GFN).unwrap();
    (1..=3).for_each(|port| open(&d, port));
    assert_eq!(Guest::new(&d, 0).take(), [2, 3]);
    assert_eq!(is_pending(&*d, 64), Ok(false));
}

#[test]
fn a_closed_port_is_not_reused_while_it_is_queued() {
    let d = with_ipis(1, 2);
    let mut guest = Guest::new(&d, 0);
    send(&*d, 1).unwrap();
    close(&*d, 1).unwrap();
    assert_eq!(bind_ipi(&*d, 0), Ok(3));
    assert!(guest.take().is_empty(), "its event is gone");
    assert_eq!(bind_ipi(&*d, 0), Ok(1));
}

#[test]
fn reset_returns_to_2_level_and_gives_pages_back() {
    let d = with_ipis(2, 2);
    reraise(&*d, 0);
    send(&*d, 1).unwrap();
    assert_eq!(d.pages_out(), 3);
    while reset(&*d) == Progress::More {}
    assert_eq!(d.pages_out(), 0);
    Guest::new(&d, 0).take();
    let port = bind_ipi(&*d, 0).unwrap();
    send(&*d, port).unwrap();
    assert_eq!(d.take_two_level(0), [port], "no selector was left");
    close(&*d, port).unwrap();
    d.pages[0].iter().for_each(|w| w.store(0, Ordering::SeqCst));
    enter_fifo(&d, 1);
    let port = bind_ipi(&*d, 0).unwrap();
    open(&d, port);
    send(&*d, port).unwrap();
    assert_eq!(Guest::new(&d, 0).take(), [port]);
    destroy(&d);
    assert_eq!(d.pages_out(), 0);
}

#[test]
fn more_ports_than_the_2_level_form_has() {
    let d = Fake::new(1, 1);
    enter_fifo(&d, 5);
    for port in 1..5000 {
        assert_eq!(bind_ipi(&*d, 0), Ok(port));
    }
    open(&d, 4999);
    open(&d, 1);
    send(&*d, 4999).unwrap();
    send(&*d, 1).unwrap();
    assert_eq!(Guest::new(&d, 0).take(), [4999, 1]);
}

proptest! {
    /// Whatever a guest writes into the shared pages, nothing panics, hangs or leaks.
    #[test]
    fn scribbled_words_harm_nobody_else(
        steps in prop::collection::vec((0u32..7, 1u32..40, any::<u32>(), 0usize..1100), 1..200)
    ) {
        let (d, peer) = with_peer(2, 30);
        for (what, port, value, place) in steps {
            match what {
                0 => word(&d, port).store(value, Ordering::SeqCst),
                1 => d.pages[0][place % 1024].store(value, Ordering::SeqCst),
                2 => { let _ = send(&*peer, port); }
                3 => { let _ = unmask(&*d, port); }
                4 => { let _ = bind_vcpu(&*d, port, value % 3); }
                5 => { let _ = set_priority(&*d, port, value % 17); }
                _ => { let _ = close(&*d, port).and_then(|()| alloc_unbound(&*d, 2)); }
            }
        }
        destroy(&d);
        prop_assert_eq!(d.pages_out(), 0);
        prop_assert_eq!((Arc::strong_count(&d), Arc::strong_count(&peer)), (1, 1));
    }
}
