//! Which CPUs share a run queue, and where each CPU has its seat.
//!
//! Inside the scheduler CPUs go by seat: a renumbering that puts the CPUs of a group side by side,
//! so that a group's part of a set of CPUs is a few bits of it. Where the CPUs are numbered by
//! neighbourhood anyway both numbers are the same.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use super::affinity::Affinity;
use super::cpuset::{CpuSet, MAX_CPUS};
use crate::base::CpuId;
use crate::boot::cmdline::RunQueueBy;

/// Most CPUs of a group.
pub(super) const MAX_WIDTH: u32 = u64::BITS;

/// Where a CPU is in the machine: what decides who its neighbours are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Socket.
    pub socket: u32,
    /// Core in its socket.
    pub core: u32,
}

/// The division of CPUs into groups.
#[derive(Debug)]
pub(super) struct Seats {
    rows: Vec<Row>,
    groups: usize,
}

/// What is known by a number, which is a CPU's, a seat's and a group's in turn.
#[derive(Clone, Copy, Default, Debug)]
struct Row {
    /// Where the CPU of this number sits.
    seat: u16,
    /// Who sits on this seat.
    cpu: u16,
    /// The group of this seat.
    group: u16,
    /// The first seat of this group.
    base: u16,
}

impl Seats {
    /// Groups of at most `most` CPUs. `order` says who is whose neighbour; those for whom it is the
    /// same but for the lowest `shift` bits may share a group.
    ///
    /// # Errors
    /// `EINVAL` unless there are 1 to [`MAX_CPUS`] CPUs and `most` is 1 to [`MAX_WIDTH`],
    /// `ENOMEM`.
    fn new(count: u32, most: u32, shift: u32, order: &dyn Fn(CpuId) -> u64) -> Result<Self, Errno> {
        if !(1..=MAX_CPUS).contains(&count) || !(1..=MAX_WIDTH).contains(&most) {
            return Err(Errno::EINVAL);
        }
        let mut rows = reserved(count as usize)?;
        rows.resize(count as usize, Row::default());
        let mut last = None;
        let (mut groups, mut width, mut key) = (0, 0, None);
        for seat in 0..count as usize {
            // The next in order; of equals, by number.
            let all = (0..count).map(|cpu| u128::from(order(cpu)) << 32 | u128::from(cpu));
            last = all.filter(|&next| Some(next) > last).min();
            let next = last.unwrap_or(0);
            let (cpu, now) = (next as u32, next >> 32 >> shift);
            if width == most || key != Some(now) {
                rows[groups].base = seat as u16;
                (groups, width, key) = (groups + 1, 0, Some(now));
            }
            width += 1;
            rows[cpu as usize].seat = seat as u16;
            rows[seat].cpu = cpu as u16;
            rows[seat].group = groups as u16 - 1;
        }
        Ok(Self { rows, groups })
    }

    /// Groups of as many CPUs as they are numbered.
    ///
    /// # Errors
    /// As [`Seats::new`], `EINVAL` too for a width that is no power of two.
    pub(super) fn even(max_cpus: u32, width: u32) -> Result<Self, Errno> {
        if !width.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        Self::new(max_cpus, width, width.ilog2(), &u64::from)
    }

    /// Groups by neighbourhood of so many CPUs, of at most `most`. All memory counts as one node.
    ///
    /// # Errors
    /// As [`Seats::new`].
    pub(super) fn by_position(
        count: u32,
        position: &dyn Fn(CpuId) -> Position,
        by: RunQueueBy,
        most: u32,
    ) -> Result<Self, Errno> {
        let shift = match by {
            RunQueueBy::Cpu | RunQueueBy::Core => 0,
            RunQueueBy::Socket => 32,
            RunQueueBy::Node | RunQueueBy::All => 64,
        };
        let most = if by == RunQueueBy::Cpu { 1 } else { most };
        Self::new(count, most, shift, &|cpu| {
            let Position { socket, core } = position(cpu);
            u64::from(socket) << 32 | u64::from(core)
        })
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// First seat of a group and how many it has.
    pub(super) fn range(&self, group: usize) -> (CpuId, u32) {
        let all = self.rows.len() as u32;
        let first = |group: usize| {
            let row = self.rows.get(group).filter(|_| group < self.groups);
            row.map_or(all, |row| row.base.into())
        };
        (first(group), first(group + 1) - first(group))
    }

    /// The seat of a CPU; none for one that there is not.
    pub(super) fn seat(&self, cpu: CpuId) -> Option<CpuId> {
        let row = self.rows.get(cpu as usize)?;
        Some(row.seat.into())
    }

    /// The CPU on a seat.
    pub(super) fn cpu(&self, seat: CpuId) -> CpuId {
        self.rows
            .get(seat as usize)
            .map_or(seat, |row| row.cpu.into())
    }

    /// The group of a seat, and the place in it.
    pub(super) fn locate(&self, seat: CpuId) -> Option<(usize, u32)> {
        let group = usize::from(self.rows.get(seat as usize)?.group);
        let base = self.rows.get(group)?.base;
        Some((group, seat - u32::from(base)))
    }

    /// The seat of a CPU, and its group with the place in it.
    pub(super) fn find(&self, cpu: CpuId) -> Option<(CpuId, (usize, u32))> {
        let seat = self.seat(cpu)?;
        Some((seat, self.locate(seat)?))
    }

    /// A set of CPUs as seats.
    pub(super) fn seats(&self, cpus: &CpuSet) -> CpuSet {
        self.renumbered(cpus, true)
    }

    /// A set of seats as CPUs.
    pub(super) fn cpus(&self, seats: &CpuSet) -> CpuSet {
        self.renumbered(seats, false)
    }

    /// CPUs to seats or back; numbers beyond all CPUs stay.
    #[inline(never)]
    fn renumbered(&self, set: &CpuSet, to_seats: bool) -> CpuSet {
        let mut new = *set;
        for (number, row) in (0..).zip(&self.rows) {
            let old = if to_seats { row.cpu } else { row.seat };
            if set.contains(old.into()) {
                new.insert(number);
            } else {
                new.remove(number);
            }
        }
        new
    }

    pub(super) fn affinity_in_seats(&self, affinity: &Affinity) -> Affinity {
        Affinity {
            hard: self.seats(&affinity.hard),
            soft: self.seats(&affinity.soft),
        }
    }
}

/// An empty vector with room for `count`.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn reserved<T>(count: usize) -> Result<Vec<T>, Errno> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    Ok(vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of three cores with two threads, numbered threads last and sockets first.
    fn machine(by: RunQueueBy, most: u32) -> Result<Seats, Errno> {
        let position = |cpu| Position {
            socket: cpu % 2,
            core: cpu / 2 % 3,
        };
        Seats::by_position(12, &position, by, most)
    }

    fn groups(by: RunQueueBy, most: u32) -> Vec<Vec<CpuId>> {
        let seats = machine(by, most).unwrap();
        (0..seats.groups())
            .map(|group| {
                let (base, width) = seats.range(group);
                (base..base + width).map(|seat| seats.cpu(seat)).collect()
            })
            .collect()
    }

    #[test]
    fn queues_follow_the_topology() {
        assert_eq!(groups(RunQueueBy::Cpu, 16).len(), 12);
        assert_eq!(
            groups(RunQueueBy::Core, 16),
            [[0, 6], [2, 8], [4, 10], [1, 7], [3, 9], [5, 11]]
        );
        let sockets = [[0, 6, 2, 8, 4, 10], [1, 7, 3, 9, 5, 11]];
        assert_eq!(groups(RunQueueBy::Socket, 16), sockets);
        for by in [RunQueueBy::Node, RunQueueBy::All] {
            assert_eq!(groups(by, 16), [sockets.concat()]);
        }
    }

    #[test]
    fn queues_have_a_greatest_length_and_keep_threads_together() {
        let all: Vec<_> = groups(RunQueueBy::All, 8);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4]);
        let halves = groups(RunQueueBy::Socket, 4);
        assert_eq!(halves[..2], [vec![0, 6, 2, 8], vec![4, 10]]);
        for bad in [0, 65] {
            let seats = machine(RunQueueBy::All, bad);
            assert_eq!(seats.err(), Some(Errno::EINVAL));
        }
    }

    #[test]
    fn sets_keep_their_members() {
        let seats = machine(RunQueueBy::Socket, 16).unwrap();
        let set: CpuSet = [1, 6, 7, 11, 12, 100].into_iter().collect();
        let moved = seats.seats(&set);
        assert_eq!(seats.cpus(&moved), set);
        for cpu in 0..12 {
            let seat = seats.seat(cpu).unwrap();
            assert_eq!(moved.contains(seat), set.contains(cpu), "{cpu}");
            let (group, place) = seats.locate(seat).unwrap();
            assert_eq!(seats.range(group).0 + place, seat);
        }
        assert!(moved.contains(12) && moved.contains(100));
        assert_eq!(seats.seats(&CpuSet::ALL), CpuSet::ALL);
        assert_eq!((seats.seat(12), seats.locate(12)), (None, None));
    }
}
