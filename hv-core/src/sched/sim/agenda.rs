//! What happens next, among thousands of CPUs and units.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::base::Nanos;

/// To whom something happens. At the same time CPUs come before units, low numbers before high.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Cpu(usize),
    Unit(usize),
}

/// No entry.
const NEVER: Nanos = Nanos::MAX;

/// A heap of times. It may name a time that has become too early, for the owner to look again; it
/// never names one too late as long as every change is noted.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Nanos, Target)>>,
    /// The earliest entry of each target; later ones are stale.
    cpus: Vec<Nanos>,
    units: Vec<Nanos>,
}

impl Agenda {
    fn slot(&mut self, target: Target) -> &mut Nanos {
        let (list, index) = match target {
            Target::Cpu(index) => (&mut self.cpus, index),
            Target::Unit(index) => (&mut self.units, index),
        };
        if list.len() <= index {
            list.resize(index + 1, NEVER);
        }
        &mut list[index]
    }

    /// Looks at the target at `at`, or before.
    pub(super) fn note(&mut self, target: Target, at: Nanos) {
        let slot = self.slot(target);
        if at < *slot {
            *slot = at;
            self.heap.push(Reverse((at, target)));
        }
    }

    /// Takes the first entry that is not after `end`.
    pub(super) fn next(&mut self, end: Nanos) -> Option<(Nanos, Target)> {
        while let Some(&Reverse((at, target))) = self.heap.peek() {
            if at > end {
                return None;
            }
            self.heap.pop();
            let slot = self.slot(target);
            if *slot == at {
                *slot = NEVER;
                return Some((at, target));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_order_and_each_target_once() {
        let mut agenda = Agenda::default();
        agenda.note(Target::Unit(3), 20);
        agenda.note(Target::Unit(3), 10);
        agenda.note(Target::Cpu(5), 10);
        agenda.note(Target::Unit(3), 15);
        agenda.note(Target::Cpu(1), 40);
        assert_eq!(agenda.next(30), Some((10, Target::Cpu(5))));
        assert_eq!(agenda.next(30), Some((10, Target::Unit(3))));
        assert_eq!(agenda.next(30), None);
        assert_eq!(agenda.next(40), Some((40, Target::Cpu(1))));
    }
}
