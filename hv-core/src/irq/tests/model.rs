//! Random operations of devices, CPUs and domains, against the rule of a line.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// An edge line, a level line of ISA, two of PCI.
const GSIS: [u32; 4] = [1, 9, 16, 17];
const DOMAINS: [DomId; 3] = [0, 4, 9];

#[derive(Clone, Copy, Debug)]
enum Op {
    Assert(usize),
    Deassert(usize),
    Take(usize),
    /// The domain deals with its event; the device is content then, or not.
    Serve(usize, usize, bool),
    /// An end that nobody asked for.
    End(usize, usize),
    Bind(usize, usize, usize),
    Unbind(usize, usize),
    Route(usize, usize, usize),
    Pass,
    EndStorms,
}

fn op() -> impl Strategy<Value = Op> {
    let (gsi, dom, cpu) = (0..GSIS.len(), 0..DOMAINS.len(), 0..machine::CPUS);
    prop_oneof![
        3 => gsi.clone().prop_map(Op::Assert),
        2 => gsi.clone().prop_map(Op::Deassert),
        5 => cpu.clone().prop_map(Op::Take),
        5 => (gsi.clone(), dom.clone(), any::<bool>()).prop_map(|(g, d, c)| Op::Serve(g, d, c)),
        1 => (gsi.clone(), dom.clone()).prop_map(|(g, d)| Op::End(g, d)),
        3 => (gsi.clone(), dom.clone(), cpu.clone()).prop_map(|(g, d, c)| Op::Bind(g, d, c)),
        1 => (gsi.clone(), dom.clone()).prop_map(|(g, d)| Op::Unbind(g, d)),
        1 => (gsi, dom, cpu).prop_map(|(g, d, c)| Op::Route(g, d, c)),
        1 => Just(Op::Pass),
        1 => Just(Op::EndStorms),
    ]
}

/// What the domains know.
struct World {
    machine: &'static Machine,
    irqs: Irqs,
    /// Bound lines, and whether the domain was told of an interrupt that it has not dealt with.
    bound: BTreeMap<(usize, usize), bool>,
    edges: usize,
    told_edges: usize,
}

impl World {
    fn new() -> Self {
        let (machine, irqs) = Machine::start(Setup::default());
        for domain in DOMAINS {
            for gsi in GSIS {
                irqs.map(domain, Numbering::Identity, gsi, None).unwrap();
            }
        }
        Self {
            machine,
            irqs,
            bound: BTreeMap::new(),
            edges: 0,
            told_edges: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        let irqs = &self.irqs;
        match op {
            Op::Assert(g) => {
                self.edges += usize::from(g == 0);
                self.machine.drive(GSIS[g] as usize, true);
            }
            Op::Deassert(g) => self.machine.drive(GSIS[g] as usize, false),
            Op::Take(cpu) => {
                let _ = self.machine.take(irqs, cpu);
            }
            Op::Serve(g, d, content) => {
                if self.bound.get(&(g, d)) == Some(&true) {
                    if content {
                        self.machine.drive(GSIS[g] as usize, false);
                    }
                    self.bound.insert((g, d), false);
                    irqs.end(DOMAINS[d], GSIS[g]).unwrap();
                }
            }
            Op::End(g, d) => {
                if self.bound.get(&(g, d)) == Some(&false) {
                    irqs.end(DOMAINS[d], GSIS[g]).unwrap();
                }
            }
            Op::Bind(g, d, cpu) => {
                let guest = (DOMAINS[d], GSIS[g]);
                let known = self.bound.contains_key(&(g, d));
                let result = irqs.bind_line(guest, PirqSharing::Shared, cpu as CpuId);
                assert_eq!(result.is_ok(), !known);
                self.bound.entry((g, d)).or_insert(false);
            }
            Op::Unbind(g, d) => {
                irqs.unbind_line(DOMAINS[d], GSIS[g]);
                self.bound.remove(&(g, d));
            }
            Op::Route(g, d, cpu) => irqs.route_line(DOMAINS[d], GSIS[g], cpu as CpuId),
            Op::Pass => self.machine.pass(5_000_000),
            Op::EndStorms => irqs.end_storms(),
        }
        self.hear();
        self.check();
    }

    /// Domains learn what was raised.
    fn hear(&mut self) {
        for (domain, gsi) in self.machine.raised() {
            let g = GSIS.iter().position(|x| *x == gsi).unwrap();
            let d = DOMAINS.iter().position(|x| *x == domain).unwrap();
            self.told_edges += usize::from(g == 0);
            let told = self.bound.get_mut(&(g, d));
            *told.expect("only those bound are told") = true;
        }
    }

    fn check(&self) {
        let mut vectors = BTreeSet::new();
        for (g, gsi) in GSIS.iter().enumerate() {
            let input = *gsi as usize;
            let mut guests = self.bound.iter().filter(|((at, _), _)| *at == g);
            let anybody = guests.clone().next().is_some();
            let unfinished = g != 0 && guests.any(|(_, told)| *told);
            let open = self.machine.is_open(input);
            assert_eq!(open, anybody && !unfinished, "GSI {gsi}");
            let vector = self.machine.low(input) as u8;
            assert!(vector == 0 || vectors.insert(vector), "vectors differ");
        }
        let sharers = DOMAINS.len();
        assert!(self.told_edges <= self.edges * sharers, "once per edge");
    }

    /// Everybody does their work: then all that is asserted must be told, again and again.
    fn settle(&mut self) {
        for _ in 0..3 {
            for cpu in (0..machine::CPUS).cycle().take(4 * machine::CPUS) {
                self.apply(Op::Take(cpu));
            }
            for ((g, d), told) in self.bound.clone() {
                if g != 0 && self.is_asserted(g) {
                    assert!(told, "GSI {} of d{} is lost", GSIS[g], DOMAINS[d]);
                }
            }
            for (g, d) in self.bound.clone().into_keys() {
                self.apply(Op::Serve(g, d, false));
            }
        }
    }

    fn is_asserted(&self, g: usize) -> bool {
        self.machine.is_asserted(GSIS[g] as usize)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lines_keep_their_rule(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        // What was told of before the end counts from here.
        for (g, d) in world.bound.clone().into_keys() {
            world.apply(Op::Serve(g, d, false));
        }
        world.settle();
    }

    #[test]
    fn each_edge_taken_at_once_is_told_once(gaps in prop::collection::vec(0..20_000_000_u64, 1..60)) {
        let (machine, irqs) = Machine::start(Setup::default());
        bind(&irqs, 1);
        for gap in gaps {
            machine.pass(gap);
            machine.pulse(1);
            let _ = machine.take_all(&irqs);
            prop_assert_eq!(machine.raised(), [(0, 1)]);
        }
    }

    #[test]
    fn no_number_panics(
        dom in any::<DomId>(), numbers in any::<[u32; 6]>(), vector in any::<u8>(), at in any::<u64>(),
    ) {
        let (machine, irqs) = Machine::start(Setup::default());
        let [gsi, wanted, pirq, cpu, register, value] = numbers;
        let _ = irqs.map(dom, Numbering::Free, gsi, Some(wanted));
        let _ = irqs.map(dom, Numbering::Identity, gsi % 24, Some(wanted % 80));
        let _ = irqs.bind_line((dom, pirq), PirqSharing::Shared, cpu);
        let _ = irqs.bind_line((dom, pirq % 64), PirqSharing::Shared, cpu);
        irqs.route_line(dom, pirq, cpu);
        let _ = irqs.end(dom, pirq);
        let _ = irqs.status(dom, pirq);
        let _ = irqs.set_up(gsi, LineMode::PCI);
        let _ = irqs.read_chip(PhysAddr(at), register);
        let _ = irqs.write_chip(machine::BASE, register, value);
        let _ = irqs.write_chip(machine::BASE, register % 0x50, value);
        machine.inject(0, vector);
        let _ = machine.take(&irqs, 0);
        let _ = irqs.unmap(dom, pirq);
        irqs.forget(dom);
        for input in 0..machine::PINS {
            prop_assert!(!machine.is_open(input));
        }
    }
}
