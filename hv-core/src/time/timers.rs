//! The deadlines of one CPU: a heap with a place for each timer id.
//!
//! Nothing is allocated after construction. Ids are dense numbers that the owner of the heap
//! assigns; arming an id again moves its deadline. A deadline in the past is due at once.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use crate::base::Nanos;

/// A timer: a number below the heap's capacity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId(pub u32);

/// Whether the earliest deadline is another one than before: the hardware timer must be set.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front {
    /// It is.
    Changed,
    /// It is not.
    Same,
}

const ABSENT: u32 = u32::MAX;

/// Deadlines of a heap that are looked at for one interrupt: its upper levels, where the early ones are.
const LOOKED_AT: usize = 15;

/// When the hardware is to interrupt for these deadlines: never before the earliest, and at most `slop` after it, so that
/// one interrupt serves all that lie so close together. One that is alone is served to the point.
#[must_use]
pub fn one_interrupt(deadlines: impl Iterator<Item = Nanos> + Clone, slop: Nanos) -> Option<Nanos> {
    let limit = deadlines.clone().min()?.saturating_add(slop);
    deadlines.filter(|at| *at <= limit).max()
}

/// Deadlines by time and by id.
#[derive(Debug)]
pub struct DeadlineHeap {
    /// Binary heap, earliest first; equal deadlines by id.
    heap: Vec<(Nanos, TimerId)>,
    /// Where each id is in `heap`.
    places: Vec<u32>,
}

impl DeadlineHeap {
    /// A heap for ids below `capacity`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_capacity(capacity: u32) -> Result<Self, Errno> {
        let mut heap = Vec::new();
        let mut places = Vec::new();
        let count = capacity as usize;
        heap.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        places.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        places.resize(count, ABSENT);
        Ok(Self { heap, places })
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// The earliest deadline and others that are early, in no order.
    pub fn early(&self) -> impl Iterator<Item = Nanos> + Clone {
        self.heap.iter().take(LOOKED_AT).map(|&(at, _)| at)
    }

    /// Whether nothing is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The deadline of a timer that is armed.
    #[must_use]
    pub fn deadline(&self, id: TimerId) -> Option<Nanos> {
        self.place(id).map(|place| self.heap[place].0)
    }

    /// Arms a timer, or moves its deadline.
    ///
    /// # Errors
    /// `EINVAL` for an id beyond the capacity.
    pub fn arm(&mut self, id: TimerId, at: Nanos) -> Result<Front, Errno> {
        if id.0 as usize >= self.places.len() {
            return Err(Errno::EINVAL);
        }
        let before = self.next_deadline();
        match self.place(id) {
            Some(place) => {
                self.heap[place].0 = at;
                self.restore(place);
            }
            None => {
                let place = self.heap.len();
                self.heap.push((at, id));
                self.places[id.0 as usize] = place as u32;
                self.restore(place);
            }
        }
        Ok(self.front_since(before))
    }

    /// Disarms a timer; nothing happens if it is not armed.
    pub fn cancel(&mut self, id: TimerId) -> Front {
        let before = self.next_deadline();
        if let Some(place) = self.place(id) {
            self.remove(place);
        }
        self.front_since(before)
    }

    /// Disarms and returns the earliest timer if it is due at `now`.
    pub fn pop_due(&mut self, now: Nanos) -> Option<(TimerId, Nanos)> {
        let (at, id) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some((id, at))
    }

    fn front_since(&self, before: Option<Nanos>) -> Front {
        if self.next_deadline() == before {
            Front::Same
        } else {
            Front::Changed
        }
    }

    fn place(&self, id: TimerId) -> Option<usize> {
        let place = *self.places.get(id.0 as usize)?;
        (place != ABSENT).then_some(place as usize)
    }

    fn remove(&mut self, place: usize) {
        let (_, id) = self.heap.swap_remove(place);
        self.places[id.0 as usize] = ABSENT;
        if place < self.heap.len() {
            self.restore(place);
        }
    }

    /// Moves the entry at `place`, the only one that may be out of order, to where it belongs.
    fn restore(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter();
            let least = children
                .filter(|&child| child < self.heap.len())
                .min_by_key(|&child| self.heap[child]);
            match least {
                Some(child) if self.heap[child] < self.heap[place] => {
                    self.swap(place, child);
                    place = child;
                }
                _ => break,
            }
        }
        self.places[self.heap[place].1.0 as usize] = place as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].1.0 as usize] = a as u32;
        self.places[self.heap[b].1.0 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn past_deadlines_are_due_at_once_and_in_order() {
        let mut heap = DeadlineHeap::with_capacity(4).unwrap();
        assert_eq!(heap.arm(TimerId(0), 50), Ok(Front::Changed));
        assert_eq!(heap.arm(TimerId(1), 20), Ok(Front::Changed));
        assert_eq!(heap.arm(TimerId(2), 90), Ok(Front::Same));
        assert_eq!(heap.arm(TimerId(4), 1), Err(Errno::EINVAL));
        assert_eq!(heap.pop_due(60), Some((TimerId(1), 20)));
        assert_eq!(heap.pop_due(60), Some((TimerId(0), 50)));
        assert_eq!(heap.pop_due(60), None);
        assert_eq!(heap.cancel(TimerId(2)), Front::Changed);
        assert_eq!(heap.cancel(TimerId(9)), Front::Same);
        assert_eq!(heap.next_deadline(), None);
    }

    #[test]
    fn capacity_never_grows() {
        let mut heap = DeadlineHeap::with_capacity(64).unwrap();
        let room = heap.heap.capacity();
        for round in 0..10 {
            for id in 0..64 {
                let _ = heap.arm(TimerId(id), (round * 31 + u64::from(id) * 7) % 50);
            }
        }
        assert_eq!(heap.heap.capacity(), room);
        assert_eq!(DeadlineHeap::with_capacity(0).unwrap().pop_due(9), None);
    }

    #[test]
    fn close_deadlines_share_an_interrupt() {
        let at = |deadlines: &[Nanos]| one_interrupt(deadlines.iter().copied(), 50);
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[100]), Some(100), "alone");
        assert_eq!(at(&[100, 151]), Some(100));
        assert_eq!(at(&[150, 100, 120, 151]), Some(150));
        assert_eq!(at(&[u64::MAX, u64::MAX - 3]), Some(u64::MAX));
        assert_eq!(one_interrupt([7, 8].into_iter(), 0), Some(7));
    }

    proptest! {
        /// Serving deadlines one interrupt after the other: none early, none later than the slop, and two interrupts are
        /// further apart than that.
        #[test]
        fn interrupts_are_few_and_in_time(
            deadlines in prop::collection::vec(1..2_000_u64, 1..40),
            slop in 0..100_u64,
        ) {
            let mut heap = DeadlineHeap::with_capacity(40).unwrap();
            for (id, at) in deadlines.iter().enumerate() {
                let _ = heap.arm(TimerId(id as u32), *at).unwrap();
            }
            let mut served = 0;
            let mut first_of_last = None;
            while let Some(first) = heap.next_deadline() {
                let now = one_interrupt(heap.early(), slop).unwrap();
                prop_assert!((first..=first + slop).contains(&now));
                // What did not fit into the levels looked at may need one more.
                if deadlines.len() <= LOOKED_AT {
                    prop_assert!(first_of_last.is_none_or(|last| first > last + slop));
                }
                first_of_last = Some(first);
                while let Some((_, at)) = heap.pop_due(now) {
                    prop_assert!(at <= now && now - at <= slop);
                    served += 1;
                }
            }
            prop_assert_eq!(served, deadlines.len());
        }

        #[test]
        fn behaves_like_a_sorted_map(
            operations in prop::collection::vec((0..3_u8, 0..24_u32, 0..100_u64), 0..300),
        ) {
            let mut heap = DeadlineHeap::with_capacity(24).unwrap();
            let mut model = BTreeMap::new();
            for (kind, id, at) in operations {
                let before = model.values().min().copied();
                let front = match kind {
                    0 => {
                        model.insert(id, at);
                        heap.arm(TimerId(id), at).unwrap()
                    }
                    1 => {
                        model.remove(&id);
                        heap.cancel(TimerId(id))
                    }
                    _ => {
                        let due = model.iter().map(|(&id, &t)| (t, id)).min();
                        let due = due.filter(|&(t, _)| t <= at);
                        let popped = heap.pop_due(at).map(|(id, t)| (t, id.0));
                        prop_assert_eq!(popped, due);
                        if let Some((_, id)) = due {
                            model.remove(&id);
                        }
                        continue;
                    }
                };
                let after = model.values().min().copied();
                prop_assert_eq!(front == Front::Changed, before != after);
                prop_assert_eq!(heap.next_deadline(), after);
                for id in 0..24 {
                    prop_assert_eq!(heap.deadline(TimerId(id)), model.get(&id).copied());
                }
            }
        }
    }
}
