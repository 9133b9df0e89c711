//! Pools against a model that knows only who is where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::sched::Place;

mod scenarios;

const CPUS: u32 = 6;

fn layout() -> Layout {
    Layout {
        max_cpus: CPUS,
        group_width: 2,
        max_units: 24,
    }
}

/// Where a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Off,
    Free,
    In(PoolId),
}

#[derive(Clone, Copy, Debug)]
struct Cpu {
    at: At,
    current: Option<Unit>,
    loaded: Option<Unit>,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    unit: Unit,
    dom: DomId,
    affinity: Affinity,
    awake: bool,
}

/// Pools, CPUs that do what they are told, and what should be true of them.
struct World {
    pools: Pools,
    now: Nanos,
    ids: BTreeSet<PoolId>,
    cpus: Vec<Cpu>,
    doms: BTreeMap<DomId, PoolId>,
    units: Vec<Owned>,
    kicks: BTreeSet<CpuId>,
}

#[derive(Clone, Debug)]
enum Step {
    Create(Option<PoolId>),
    Destroy(PoolId),
    Give(PoolId, CpuId),
    Take(PoolId, CpuId),
    /// Before the CPU hears of it.
    Carry(PoolId, PoolId, CpuId),
    Online(CpuId),
    Offline(CpuId),
    NewDomain(DomId, PoolId, u32),
    EndDomain(DomId),
    Move(DomId, PoolId),
    Pin(usize, u8, u8),
    Wake(usize),
    Sleep(usize),
    SliceEnds(CpuId),
}

fn step() -> impl Strategy<Value = Step> {
    let (pool, cpu, dom) = (0..4_u32, 0..CPUS, 1..6_u16);
    prop_oneof![
        1 => prop::option::of(pool.clone()).prop_map(Step::Create),
        1 => pool.clone().prop_map(Step::Destroy),
        4 => (pool.clone(), cpu.clone()).prop_map(|(p, c)| Step::Give(p, c)),
        4 => (pool.clone(), cpu.clone()).prop_map(|(p, c)| Step::Take(p, c)),
        6 => (pool.clone(), pool.clone(), cpu.clone()).prop_map(|(p, q, c)| Step::Carry(p, q, c)),
        1 => cpu.clone().prop_map(Step::Online),
        1 => cpu.clone().prop_map(Step::Offline),
        2 => (dom.clone(), pool.clone(), 0..4_u32).prop_map(|(d, p, n)| Step::NewDomain(d, p, n)),
        1 => dom.clone().prop_map(Step::EndDomain),
        4 => (dom, pool).prop_map(|(d, p)| Step::Move(d, p)),
        3 => (0..24_usize, 1..64_u8, 1..64_u8).prop_map(|(u, h, s)| Step::Pin(u, h, s)),
        6 => (0..24_usize).prop_map(Step::Wake),
        3 => (0..24_usize).prop_map(Step::Sleep),
        8 => cpu.prop_map(Step::SliceEnds),
    ]
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            pools: Pools::new(layout()).unwrap(),
            now: 0,
            ids: BTreeSet::from([0]),
            cpus: vec![
                Cpu {
                    at: At::Off,
                    current: None,
                    loaded: None
                };
                CPUS as usize
            ],
            doms: BTreeMap::from([(0, 0)]),
            units: Vec::new(),
            kicks: BTreeSet::new(),
        };
        (0..CPUS).for_each(|cpu| world.go(&Step::Online(cpu)));
        world.insert(0);
        world
    }

    fn members(&self, at: At) -> CpuSet {
        let there = |cpu: &CpuId| self.cpus[*cpu as usize].at == at;
        (0..CPUS).filter(there).collect()
    }

    fn has_domains(&self, pool: PoolId) -> bool {
        self.doms.values().any(|p| *p == pool)
    }

    fn insert(&mut self, dom: DomId) {
        let affinity = Affinity::ANY;
        let number = self.units.len() as u32;
        match self.pools.insert(dom, number, &affinity) {
            Ok(unit) => self.units.push(Owned {
                unit,
                dom,
                affinity,
                awake: false,
            }),
            Err(e) => assert_eq!((e, self.units.len()), (Errno::ENOSPC, 24)),
        }
    }

    fn kick(&mut self, cpus: impl IntoIterator<Item = CpuId>) {
        self.kicks.extend(cpus);
    }

    /// What a run loop does when it is told to ask.
    fn ask(&mut self, cpu: CpuId) {
        let decision = self.pools.schedule(cpu, self.now);
        self.kick(decision.kick);
        let here = &mut self.cpus[cpu as usize];
        here.current = decision.next;
        if let Some(unit) = decision.save {
            assert_eq!(
                here.loaded.take(),
                Some(unit),
                "CPU {cpu} saves what it has"
            );
            let other = self.pools.context_saved(cpu, unit, self.now);
            self.kick(other);
        }
        let Some(next) = decision.next else { return };
        let owned = self.units.iter().find(|owned| owned.unit == next).unwrap();
        let pool = self.doms[&owned.dom];
        assert_eq!(
            self.cpus[cpu as usize].at,
            At::In(pool),
            "CPU {cpu} runs {owned:?}"
        );
        let allowed = owned.affinity.effective(&self.members(At::In(pool)));
        assert!(allowed.contains(cpu), "CPU {cpu} runs {owned:?}");
        let elsewhere = (0..CPUS).filter(|other| *other != cpu);
        for other in elsewhere {
            assert_ne!(
                self.cpus[other as usize].loaded,
                Some(next),
                "{owned:?} twice"
            );
        }
        let here = &mut self.cpus[cpu as usize];
        assert!(
            here.loaded.is_none_or(|unit| unit == next),
            "nothing is lost"
        );
        here.loaded = Some(next);
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let Some(cpu) = self.kicks.pop_first() else {
                return;
            };
            self.ask(cpu);
        }
        panic!("CPUs kick each other for ever");
    }

    fn stop(&mut self, unit: Unit, what: impl Fn(&Pools) -> Result<(), Errno>) {
        for _ in 0..10 {
            match what(&self.pools) {
                Err(Errno::EBUSY) => {}
                other => return assert_eq!(other, Ok(())),
            }
            let cpus = [self.pools.sleep(unit), self.pools.unload(unit)];
            self.kick(cpus.into_iter().flatten());
            self.settle();
        }
        panic!("{unit:?} does not stop");
    }

    fn go(&mut self, step: &Step) {
        self.now += 300_000;
        let now = self.now;
        match *step {
            Step::Create(asked) => {
                let lowest = (0..).find(|id| !self.ids.contains(id)).unwrap();
                let wanted = match asked {
                    Some(id) if self.ids.contains(&id) => Err(Errno::EEXIST),
                    Some(id) => Ok(id),
                    None if self.ids.len() > CPUS as usize + SPARE => Err(Errno::ENOMEM),
                    None => Ok(lowest),
                };
                assert_eq!(self.pools.create(asked), wanted);
                self.ids.extend(wanted.ok());
            }
            Step::Destroy(id) => {
                let busy = self.has_domains(id) || !self.members(At::In(id)).is_empty();
                let wanted = match self.ids.contains(&id) {
                    false => Err(Errno::ENOENT),
                    true if busy => Err(Errno::EBUSY),
                    true => Ok(()),
                };
                assert_eq!(self.pools.destroy(id), wanted);
                if wanted.is_ok() {
                    self.ids.remove(&id);
                }
            }
            Step::Give(id, cpu) => {
                let wanted = match (self.cpus[cpu as usize].at, self.ids.contains(&id)) {
                    (At::Free, true) => Ok(()),
                    (At::Free, false) => Err(Errno::ENOENT),
                    _ => Err(Errno::ENODEV),
                };
                let mut given = self.pools.give_cpu(id, cpu, now);
                if given == Ok(None) {
                    self.settle();
                    given = self.pools.give_cpu(id, cpu, now);
                    assert_ne!(given, Ok(None), "it has left by now");
                }
                assert_eq!(given.map(|_| ()), wanted);
                if let Ok(Some(kicks)) = given {
                    self.cpus[cpu as usize].at = At::In(id);
                    self.kick(kicks.iter());
                }
            }
            Step::Take(id, cpu) => {
                let wanted = if self.ids.contains(&id) {
                    self.may_leave(id, cpu)
                } else {
                    Err(Errno::ENOENT)
                };
                let taken = self.pools.take_cpu(id, cpu, now);
                self.has_left(cpu, taken, wanted, At::Free);
            }
            Step::Carry(from, to, cpu) => {
                self.go(&Step::Take(from, cpu));
                self.go(&Step::Give(to, cpu));
            }
            Step::Offline(cpu) => {
                let wanted = match self.cpus[cpu as usize].at {
                    At::Off => Err(Errno::ENOENT),
                    At::In(0) => self.may_leave(0, cpu),
                    _ => Err(Errno::ENODEV),
                };
                let taken = self.pools.remove_cpu(cpu, now);
                self.has_left(cpu, taken, wanted, At::Off);
                // It is away only when it has told so.
                self.settle();
            }
            Step::Online(cpu) => {
                let added = self.pools.add_cpu(cpu, now);
                if self.cpus[cpu as usize].at == At::Off {
                    self.cpus[cpu as usize].at = At::In(0);
                    self.kick(added.unwrap().iter());
                } else {
                    assert_eq!(added, Err(Errno::EEXIST));
                }
            }
            Step::NewDomain(dom, id, vcpus) => {
                if !self.doms.contains_key(&dom) && self.assign(dom, id) {
                    (0..vcpus).for_each(|_| self.insert(dom));
                }
            }
            Step::EndDomain(dom) => {
                for owned in self.units_of(dom) {
                    self.stop(owned.unit, |pools| pools.remove(owned.unit));
                }
                self.units.retain(|owned| owned.dom != dom);
                self.pools.forget_domain(dom);
                self.doms.remove(&dom);
            }
            Step::Move(dom, id) => {
                let before = self.doms.get(&dom).copied();
                if before.is_some() && self.assign(dom, id) && before != Some(id) {
                    self.moves(dom);
                }
            }
            Step::Pin(at, hard, soft) => self.pin(at, hard, soft),
            Step::Wake(at) => {
                if let Some(owned) = self.units.get_mut(at) {
                    owned.awake = true;
                    let unit = owned.unit;
                    let cpu = self.pools.wake(unit, now);
                    self.kick(cpu);
                }
            }
            Step::Sleep(at) => {
                if let Some(owned) = self.units.get_mut(at) {
                    owned.awake = false;
                    let unit = owned.unit;
                    let cpu = self.pools.sleep(unit);
                    self.kick(cpu);
                }
            }
            Step::SliceEnds(cpu) => self.ask(cpu),
        }
    }

    fn units_of(&self, dom: DomId) -> Vec<Owned> {
        let of_it = self.units.iter().filter(|owned| owned.dom == dom);
        of_it.copied().collect()
    }

    fn may_leave(&self, id: PoolId, cpu: CpuId) -> Result<(), Errno> {
        let cpus = self.members(At::In(id));
        match cpus.contains(cpu) {
            false => Err(Errno::EADDRNOTAVAIL),
            true if cpus.len() == 1 && self.has_domains(id) => Err(Errno::EBUSY),
            true => Ok(()),
        }
    }

    fn has_left(
        &mut self,
        cpu: CpuId,
        taken: Result<CpuSet, Errno>,
        wanted: Result<(), Errno>,
        to: At,
    ) {
        assert_eq!(taken.map(|_| ()), wanted);
        if let Ok(kicks) = taken {
            self.cpus[cpu as usize].at = to;
            self.kick(kicks.iter());
        }
    }

    fn assign(&mut self, dom: DomId, id: PoolId) -> bool {
        let wanted = match self.ids.contains(&id) {
            false => Err(Errno::ENOENT),
            true if self.members(At::In(id)).is_empty() => Err(Errno::ENODEV),
            true => Ok(()),
        };
        assert_eq!(self.pools.assign(dom, id), wanted);
        if wanted.is_ok() {
            self.doms.insert(dom, id);
        }
        wanted.is_ok()
    }

    /// Until all of it is there its units may not run: the old pool's CPUs are no longer theirs.
    fn moves(&mut self, dom: DomId) {
        let units = self.units_of(dom);
        let cpus = units.iter().filter_map(|o| self.pools.sleep(o.unit));
        let cpus: Vec<_> = cpus.collect();
        cpus.into_iter().for_each(|cpu| self.ask(cpu));
        for owned in self.units_of(dom) {
            assert!(!self.pools.is_home(owned.unit));
            self.stop(owned.unit, |pools| pools.move_unit(owned.unit));
            assert!(self.pools.is_home(owned.unit));
        }
        for at in 0..self.units.len() {
            if self.units[at].dom == dom {
                self.units[at].affinity = Affinity::ANY;
                if self.units[at].awake {
                    let cpu = self.pools.wake(self.units[at].unit, self.now);
                    self.kick(cpu);
                }
            }
        }
    }

    fn pin(&mut self, at: usize, hard: u8, soft: u8) {
        let Some(owned) = self.units.get(at).copied() else {
            return;
        };
        let set = |bits: u8| CpuSet::from_bytes(&[bits], CPUS);
        let affinity = Affinity {
            hard: set(hard),
            soft: set(soft),
        };
        let cpus = self.members(At::In(self.doms[&owned.dom]));
        let done = self.pools.set_affinity(owned.unit, &affinity, self.now);
        if affinity.hard.intersection(&cpus).is_empty() {
            assert_eq!(done, Err(Errno::EINVAL));
        } else {
            self.units[at].affinity = affinity;
            self.kick(done.unwrap());
        }
    }

    fn check(&mut self) {
        let mut next = Some(0);
        let mut listed = BTreeSet::new();
        while let Some((id, policy)) = next.and_then(|id| self.pools.pool_from(id)) {
            listed.insert(id);
            next = id.checked_add(1);
            let there = policy.online();
            assert_eq!(there, self.members(At::In(id)), "pool {id}");
        }
        assert_eq!(listed, self.ids);
        assert_eq!(self.pools.free_cpus(), self.members(At::Free));
        for (dom, pool) in &self.doms {
            assert_eq!(self.pools.pool_of(*dom), *pool);
            assert_eq!(self.pools.cpus_of(*dom), self.members(At::In(*pool)));
        }
        self.settle();
        for owned in &self.units {
            let info = self.pools.info(owned.unit).unwrap();
            assert_eq!(info.dom, owned.dom);
            assert_eq!(self.pools.affinity(owned.unit), Some(owned.affinity));
            match info.place {
                Place::Asleep => assert!(!owned.awake, "{owned:?} sleeps for ever"),
                Place::Running(cpu) => {
                    assert_eq!(self.cpus[cpu as usize].current, Some(owned.unit));
                }
                Place::Parked => panic!("{owned:?} has no cap"),
                Place::Queued => {
                    let cpus = self.members(At::In(self.doms[&owned.dom]));
                    let allowed = owned.affinity.effective(&cpus).intersection(&cpus);
                    for cpu in allowed.iter() {
                        let current = self.cpus[cpu as usize].current;
                        assert!(current.is_some(), "CPU {cpu} idles beside {owned:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_cpu_and_each_unit_is_where_it_should_be(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.go(step);
            // CPUs are slow to hear of some.
            if world.now.is_multiple_of(900_000) {
                world.check();
            }
        }
        world.check();
    }
}
