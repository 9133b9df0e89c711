//! Several CPUs at once: no event is lost, nothing locks up.

use std::sync::atomic::AtomicBool;
use std::thread;

use super::guest::{Guest, enter_fifo, mask, open};
use super::*;

/// Ports events are sent to.
const PORTS: u32 = 24;
/// vCPUs that receive.
const VCPUS: u32 = 3;
/// Events each sender sends.
const SENDS: u32 = 4000;

/// A sequence of numbers without pattern (xorshift).
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % sides
    }
}

/// A receiver with `PORTS` open ports from number 1, connected to the same numbers of a sender.
fn connected(form: Form) -> (Arc<Fake>, Arc<Fake>) {
    let (receiver, sender) = (Fake::new(1, VCPUS), Fake::new(2, 1));
    if form == Form::Fifo {
        enter_fifo(&receiver, 1);
    }
    for port in 1..=PORTS {
        assert_eq!(alloc_unbound(&*receiver, 2), Ok(port));
        assert_eq!(bind_interdomain(&sender, &receiver, port), Ok(port));
        if form == Form::Fifo {
            open(&receiver, port);
        }
    }
    (receiver, sender)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    TwoLevel,
    Fifo,
}

/// Sends from two threads while ports move and are masked and opened; every note left before an
/// event must be found by whoever handles one.
fn no_event_is_lost(form: Form) {
    let (receiver, sender) = connected(form);
    let notes: Vec<AtomicU32> = (0..=PORTS).map(|_| AtomicU32::new(0)).collect();
    let over = AtomicBool::new(false);
    let handle = |ports: Vec<PortNumber>| {
        for port in ports {
            notes[port as usize].store(0, Ordering::SeqCst);
        }
    };
    let receive = |vcpu| {
        let mut guest = Guest::new(&receiver, vcpu);
        loop {
            // Read first: what was sent before the end is handled in the last round.
            let last = over.load(Ordering::SeqCst);
            handle(match form {
                Form::Fifo => guest.take(),
                Form::TwoLevel => receiver.take_two_level(vcpu),
            });
            if last {
                return;
            }
            thread::yield_now();
        }
    };
    thread::scope(|s| {
        let receivers: Vec<_> = (0..VCPUS).map(|v| s.spawn(move || receive(v))).collect();
        let (sender, receiver, notes) = (&sender, &receiver, &notes);
        let mut busy: Vec<_> = (1..=2)
            .map(|seed| {
                s.spawn(move || {
                    let mut dice = Dice(seed * 77);
                    for _ in 0..SENDS {
                        let port = 1 + dice.roll(PORTS);
                        notes[port as usize].store(1, Ordering::SeqCst);
                        send(&**sender, port).unwrap();
                    }
                })
            })
            .collect();
        busy.push(s.spawn(move || {
            let mut dice = Dice(5);
            for _ in 0..SENDS {
                let port = 1 + dice.roll(PORTS);
                bind_vcpu(&**receiver, port, dice.roll(VCPUS)).unwrap();
                if form == Form::Fifo {
                    // Few queues, so that they are long at times and empty at others.
                    set_priority(&**receiver, port, dice.roll(2)).unwrap();
                    mask(receiver, port);
                    open(receiver, port);
                } else {
                    receiver.set_masked(port);
                    unmask(&**receiver, port).unwrap();
                }
            }
        }));
        busy.into_iter().for_each(|t| t.join().unwrap());
        over.store(true, Ordering::SeqCst);
        receivers.into_iter().for_each(|t| t.join().unwrap());
    });
    for (port, note) in notes.iter().enumerate() {
        assert_eq!(note.load(Ordering::SeqCst), 0, "port {port} was forgotten");
    }
    destroy(&sender);
}

#[test]
fn no_event_is_lost_in_fifo_form() {
    no_event_is_lost(Form::Fifo);
}

#[test]
fn no_event_is_lost_in_2_level_form() {
    no_event_is_lost(Form::TwoLevel);
}

/// Two domains open, connect, send and close in both directions until both go.
#[test]
fn binding_and_closing_from_both_ends_never_locks_up() {
    let domains = [Fake::new(0, 1), Fake::new(1, 1)];
    thread::scope(|s| {
        for me in [0, 1, 0, 1] {
            let (near, far) = (&domains[me], &domains[1 - me]);
            s.spawn(move || {
                let mut dice = Dice(me as u32 * 9 + 3);
                for _ in 0..SENDS {
                    let port = dice.roll(12);
                    // Any of these may be refused: the other threads act on the same ports.
                    let _ = match dice.roll(6) {
                        0 => alloc_unbound(&**near, far.id).map(drop),
                        1 => bind_interdomain(near, far, port).map(drop),
                        2 => bind_interdomain(near, near, port).map(drop),
                        3 => close(&**near, port),
                        4 => unmask(&**near, port),
                        _ => send(&**near, port),
                    };
                }
            });
        }
    });
    thread::scope(|s| {
        for d in &domains {
            s.spawn(|| destroy(d));
        }
    });
    for d in &domains {
        assert_eq!(Arc::strong_count(d), 1, "d{} is still held", d.id);
    }
}
