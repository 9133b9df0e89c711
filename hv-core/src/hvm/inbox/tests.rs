//! The box against a list of what was left in it, and with threads.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::hvm::lapic::Mode;

#[derive(Clone, Copy, Debug)]
enum Step {
    Interrupt(u8, bool),
    Nmi,
    Init,
    StartUp(u8),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), any::<bool>()).prop_map(|(vector, level)| Step::Interrupt(vector, level)),
        1 => (0..4_u8, any::<bool>()).prop_map(|(vector, level)| Step::Interrupt(vector * 64, level)),
        1 => Just(Step::Nmi),
        1 => Just(Step::Init),
        2 => any::<u8>().prop_map(Step::StartUp),
        2 => Just(Step::Take),
    ]
}

/// What a processor would be told by the messages, one after the other.
fn expected(messages: &[Step]) -> Option<Letters> {
    let mut letters = Letters::default();
    let mut interrupts = BTreeMap::new();
    for message in messages {
        match *message {
            Step::Interrupt(vector, level) => *interrupts.entry(vector).or_insert(false) |= level,
            Step::Nmi => letters.nmi = true,
            Step::Init => {
                letters.init = true;
                letters.nmi = false;
                letters.start_up = None;
            }
            Step::StartUp(page) => letters.start_up = letters.start_up.or(Some(page)),
            Step::Take => unreachable!("not a message"),
        }
    }
    for (vector, level) in interrupts {
        if level {
            letters.level.insert(vector);
        } else {
            letters.edge.insert(vector);
        }
    }
    (!messages.is_empty()).then_some(letters)
}

proptest! {
    #[test]
    fn what_is_left_is_taken_once(steps in prop::collection::vec(step(), 0..60)) {
        let inbox = Inbox::new();
        let mut messages = Vec::new();
        for step in steps.into_iter().chain([Step::Take]) {
            prop_assert_eq!(inbox.is_empty(), messages.is_empty());
            match step {
                Step::Interrupt(vector, level) => inbox.interrupt(vector, level),
                Step::Nmi => inbox.nmi(),
                Step::Init => inbox.init(),
                Step::StartUp(page) => inbox.start_up(page),
                Step::Take => {
                    prop_assert_eq!(inbox.take(), expected(&messages));
                    messages.clear();
                    continue;
                }
            }
            messages.push(step);
        }
        prop_assert!(inbox.is_empty());
    }

    #[test]
    fn addresses_survive_packing(id: u32, logical: u8, priority: u8, flat: bool, enabled: bool, mode in 0..3) {
        let mode = [Mode::Disabled, Mode::XApic, Mode::X2Apic][mode as usize];
        let address = Address { id, logical, flat, mode, enabled, priority };
        let inbox = Inbox::new();
        prop_assert_eq!(inbox.address(), Address::UNREACHABLE);
        inbox.publish(address);
        prop_assert_eq!(inbox.address(), address);
    }
}

#[test]
fn init_then_start_up_keep_their_order() {
    let inbox = Inbox::new();
    inbox.start_up(1);
    inbox.nmi();
    inbox.init();
    inbox.start_up(2);
    inbox.start_up(3);
    let letters = inbox.take().unwrap();
    assert!(letters.init && !letters.nmi);
    assert_eq!(letters.start_up, Some(2));
    inbox.start_up(7);
    inbox.init();
    let letters = inbox.take().unwrap();
    assert_eq!((letters.init, letters.start_up), (true, None));
    assert_eq!(inbox.take(), None);
}

/// Each vector is left by one thread only, again when the taker has seen it: none is lost, none comes twice.
#[test]
fn no_vector_is_lost_between_threads() {
    const ROUNDS: u32 = 300;
    let inbox = Inbox::new();
    let seen: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for sender in 0..4_u8 {
            let (inbox, seen, failed) = (&inbox, &seen, &failed);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    for vector in (sender * 3..=255).step_by(61) {
                        inbox.interrupt(vector, vector & 1 != 0);
                    }
                    for vector in (sender * 3..=255).step_by(61) {
                        while seen[usize::from(vector)].load(SeqCst) < round {
                            if failed.load(SeqCst) {
                                return;
                            }
                            std::thread::yield_now();
                        }
                    }
                }
            });
        }
        let mut last = std::time::Instant::now();
        let wanted = |vector: u8| {
            (0..4_u8).any(|sender| vector >= sender * 3 && (vector - sender * 3).is_multiple_of(61))
        };
        while (0..=255)
            .any(|vector| wanted(vector) && seen[usize::from(vector)].load(SeqCst) < ROUNDS)
        {
            match inbox.take() {
                Some(letters) => {
                    last = std::time::Instant::now();
                    assert!(letters.level.iter().all(|vector| vector & 1 != 0));
                    for vector in letters.edge.iter().chain(letters.level.iter()) {
                        seen[usize::from(vector)].fetch_add(1, SeqCst);
                    }
                }
                None if last.elapsed().as_secs() > 20 => {
                    failed.store(true, SeqCst);
                    panic!("a vector was lost");
                }
                None => std::thread::yield_now(),
            }
        }
    });
    assert!(inbox.take().is_none());
}
