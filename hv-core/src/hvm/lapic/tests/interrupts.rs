//! Requests, service and priorities against a naive model.

use std::collections::BTreeSet;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Accept(u8, bool),
    Take,
    End,
    Priority(u8),
    Cr8(u8),
    SelfIpi(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<u8>(), any::<bool>()).prop_map(|(vector, level)| Step::Accept(vector, level)),
        3 => Just(Step::Take),
        3 => Just(Step::End),
        1 => any::<u8>().prop_map(Step::Priority),
        2 => (0..16_u8).prop_map(Step::Cr8),
        1 => any::<u8>().prop_map(Step::SelfIpi),
    ]
}

/// What the manuals say, with sets instead of bits.
#[derive(Default)]
struct Model {
    requested: BTreeSet<u8>,
    served: BTreeSet<u8>,
    level: BTreeSet<u8>,
    task: u8,
}

impl Model {
    fn accept(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            return;
        }
        self.requested.insert(vector);
        if level {
            self.level.insert(vector);
        } else {
            self.level.remove(&vector);
        }
    }

    fn priority(&self) -> u8 {
        let class = self
            .served
            .iter()
            .map(|vector| vector / 16)
            .max()
            .unwrap_or(0);
        if self.task / 16 >= class {
            self.task
        } else {
            class * 16
        }
    }

    fn pending(&self) -> Option<u8> {
        let floor = self.priority() / 16;
        self.requested
            .iter()
            .copied()
            .filter(|vector| vector / 16 > floor)
            .max()
    }
}

proptest! {
    #[test]
    fn priorities_follow_the_model(
        steps in prop::collection::vec(step(), 0..120),
        x2apic: bool,
    ) {
        let mut lapic = if x2apic { enabled_x2(1) } else { enabled(1) };
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Accept(vector, level) => {
                    prop_assert_eq!(lapic.accept(vector, level), vector >= 16);
                    model.accept(vector, level);
                }
                Step::Take => {
                    if let Some(vector) = lapic.pending() {
                        prop_assert!(lapic.acknowledge(vector));
                        prop_assert!(!lapic.acknowledge(vector));
                        model.requested.remove(&vector);
                        model.served.insert(vector);
                    }
                }
                Step::End => {
                    let ended = model.served.pop_last();
                    let told = ended.filter(|vector| model.level.contains(vector));
                    let effect = told.map_or(Effect::None, Effect::EndOfInterrupt);
                    if x2apic {
                        prop_assert_eq!(lapic.write_msr(0x80b, 0, &At(0)), Ok(effect));
                    } else {
                        prop_assert_eq!(write(&mut lapic, EOI, 0), effect);
                    }
                }
                Step::Priority(value) => {
                    model.task = value;
                    let _ = if x2apic {
                        lapic.write_msr(0x808, value.into(), &At(0)).unwrap()
                    } else {
                        write(&mut lapic, TPR, value.into())
                    };
                }
                Step::Cr8(class) => {
                    model.task = class * 16;
                    lapic.set_cr8(class);
                }
                Step::SelfIpi(vector) => {
                    let _ = if x2apic {
                        lapic.write_msr(0x83f, vector.into(), &At(0)).unwrap()
                    } else {
                        write(&mut lapic, ICR, 0x4_0000 | u32::from(vector))
                    };
                    model.accept(vector, false);
                }
            }
            prop_assert_eq!(lapic.pending(), model.pending());
            prop_assert_eq!(lapic.processor_priority(), model.priority());
            prop_assert_eq!(lapic.cr8(), model.task / 16);
            let without_task = Model { task: 0, ..Model {
                requested: model.requested.clone(),
                served: model.served.clone(),
                ..Model::default()
            }};
            let blocked = without_task.pending().filter(|_| model.pending().is_none());
            prop_assert_eq!(lapic.blocked_by_task(), blocked);
        }
    }
}

#[test]
fn while_disabled_nothing_is_accepted_or_delivered() {
    let mut lapic = Lapic::new(0, FACTS);
    assert!(!lapic.is_enabled());
    assert!(!lapic.accept(0x40, false));
    let _ = write(&mut lapic, SVR, 0x1ff);
    assert!(lapic.accept(0x40, false));
    assert_eq!(lapic.pending(), Some(0x40));
    assert_eq!(write(&mut lapic, SVR, 0xff), Effect::Address);
    assert_eq!(lapic.pending(), None);
    assert_eq!(write(&mut lapic, SVR, 0x1ff), Effect::Enabled);
    assert_eq!(lapic.pending(), Some(0x40), "what was requested stays");
}

#[test]
fn letters_are_accepted_as_they_were_left() {
    let inbox = crate::hvm::inbox::Inbox::new();
    inbox.interrupt(0x35, false);
    inbox.interrupt(0x91, true);
    let mut lapic = enabled(0);
    lapic.accept_letters(&inbox.take().unwrap());
    assert!(lapic.acknowledge(0x91));
    assert_eq!(lapic.eoi(), Some(0x91));
    assert!(lapic.acknowledge(0x35));
    assert_eq!(lapic.eoi(), None);
}

#[test]
fn local_pins_do_what_their_entries_say() {
    let mut lapic = enabled(0);
    assert_eq!(lapic.deliver_local(Local::Lint1), LocalDelivery::Nothing);
    let _ = write(&mut lapic, LINT1, 0x400);
    assert_eq!(lapic.deliver_local(Local::Lint1), LocalDelivery::Nmi);
    let _ = write(&mut lapic, LINT0, 0x700);
    assert_eq!(lapic.deliver_local(Local::Lint0), LocalDelivery::ExtInt);
    let _ = write(&mut lapic, LINT0, 0x8055);
    assert_eq!(lapic.deliver_local(Local::Lint0), LocalDelivery::Accepted);
    assert!(lapic.acknowledge(0x55));
    assert_eq!(lapic.eoi(), Some(0x55));
    let _ = write(&mut lapic, LINT0, 0x5);
    assert_eq!(lapic.deliver_local(Local::Lint0), LocalDelivery::Nothing);
    let _ = write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0x40, "illegal vector received");
    let _ = write(&mut lapic, 0x340, 0x400);
    assert_eq!(lapic.deliver_local(Local::Performance), LocalDelivery::Nmi);
    assert_eq!(
        lapic.deliver_local(Local::Performance),
        LocalDelivery::Nothing
    );
    assert_eq!(lapic.deliver_local(Local::Timer), LocalDelivery::Nothing);
    let _ = write(&mut lapic, SVR, 0xff);
    assert_eq!(lapic.deliver_local(Local::Lint1), LocalDelivery::Nothing);
}
