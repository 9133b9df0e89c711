//! Vectors in service against a local APIC that does what the manual says.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::irq::service::InService;

/// A local APIC: requests and what is in service.
#[derive(Default)]
struct Apic {
    requested: BTreeSet<u8>,
    serving: BTreeSet<u8>,
    ended: Vec<u8>,
}

impl Apic {
    /// The next vector that the CPU takes, interrupts being on: above the class in service.
    fn accept(&mut self) -> Option<u8> {
        let next = *self.requested.last()?;
        if self.serving.last().is_some_and(|s| s >> 4 >= next >> 4) {
            return None;
        }
        self.requested.remove(&next);
        self.serving.insert(next);
        Some(next)
    }

    fn eoi(&mut self) {
        let highest = self.serving.pop_last().expect("an end of nothing");
        self.ended.push(highest);
    }
}

/// What happens at a moment when interrupts are on.
fn interrupts(apic: &RefCell<Apic>, service: &InService, raised: &[u8]) {
    apic.borrow_mut().requested.extend(raised);
    loop {
        let Some(vector) = apic.borrow_mut().accept() else {
            break;
        };
        service.note(vector);
    }
}

proptest! {
    #[test]
    fn each_vector_is_ended_by_its_own_end(
        moments in proptest::collection::vec(proptest::collection::vec(0x30_u8..0xf0, 0..4), 1..60),
    ) {
        let (apic, service) = (RefCell::new(Apic::default()), InService::default());
        let mut moments = moments.iter();
        let mut quiet = false;
        let mut handled = BTreeSet::new();
        let mut raised = BTreeSet::new();
        while !quiet {
            let mut moment = || {
                let now = moments.next().map_or(&[][..], Vec::as_slice);
                raised.extend(now);
                interrupts(&apic, &service, now);
                now.is_empty()
            };
            quiet = moment();
            while let Some(vector) = service.take() {
                quiet = false;
                // Not ended yet: it cannot have been accepted again.
                prop_assert!(apic.borrow().serving.contains(&vector));
                handled.insert(vector);
                moment();
                let before = apic.borrow().ended.len();
                service.end(vector, || apic.borrow_mut().eoi());
                // Whatever is ended has been handled: nothing else may come a second time.
                for ended in &apic.borrow().ended[before..] {
                    prop_assert!(handled.remove(ended), "{ended:#x} is ended before it is handled");
                }
                moment();
            }
            quiet &= moments.len() == 0;
        }
        let apic = apic.borrow();
        prop_assert_eq!(&apic.serving, &BTreeSet::new(), "for ever in service");
        prop_assert_eq!(&apic.requested, &BTreeSet::new(), "never accepted");
        let ended: BTreeSet<u8> = apic.ended.iter().copied().collect();
        prop_assert_eq!(ended, raised);
    }
}

#[test]
fn a_higher_one_in_between_keeps_the_end_back() {
    let (apic, service) = (RefCell::new(Apic::default()), InService::default());
    interrupts(&apic, &service, &[0x51]);
    assert_eq!(service.take(), Some(0x51));
    interrupts(&apic, &service, &[0x61]);
    service.end(0x51, || apic.borrow_mut().eoi());
    assert!(apic.borrow().ended.is_empty());
    // It waits for its end, so it comes no second time now.
    interrupts(&apic, &service, &[0x61]);
    assert_eq!(service.take(), Some(0x61));
    service.end(0x61, || apic.borrow_mut().eoi());
    assert_eq!(apic.borrow().ended, [0x61, 0x51]);
    interrupts(&apic, &service, &[]);
    assert_eq!(service.take(), Some(0x61));
}
