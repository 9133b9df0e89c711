//! Random operations on three domains against a model that knows nothing of words and queues.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xen_abi::xen::{VIRQ_DOM_EXC, VIRQ_TIMER};

use super::guest::{Guest, enter_fifo_with, mask, open};
use super::*;

/// vCPUs of each domain.
const VCPUS: u32 = 2;

/// What the model knows of one domain.
#[derive(Default)]
struct Known {
    fifo: bool,
    ports: BTreeMap<PortNumber, (Status, VcpuId)>,
    pending: BTreeSet<PortNumber>,
    /// Masks belong to the guest and to the form in use; they outlive ports.
    masked: BTreeSet<PortNumber>,
    masked_two_level: BTreeSet<PortNumber>,
}

/// Real domains beside the model.
struct World {
    real: Vec<Arc<Fake>>,
    known: Vec<Known>,
}

/// One step: operation, domain, two free numbers.
type Step = (u32, usize, u32, u32);

impl World {
    fn new() -> Self {
        Self {
            real: (0..3).map(|id| Fake::new(id, VCPUS)).collect(),
            known: (0..3).map(|_| Known::default()).collect(),
        }
    }

    /// Notes a port the real domain gave, which must have been free; the lowest one, unless the
    /// guest may still have a closed one on a queue.
    fn add(&mut self, d: usize, port: PortNumber, status: Status, vcpu: VcpuId) {
        let known = &mut self.known[d];
        if !known.fifo {
            let lowest = (1..).find(|p| !known.ports.contains_key(p));
            assert_eq!(Some(port), lowest);
        }
        assert!(known.ports.insert(port, (status, vcpu)).is_none());
        assert!(!known.pending.contains(&port));
    }

    /// Whether any port of the domain is bound to this.
    fn bound(&self, d: usize, status: Status, vcpu: Option<VcpuId>) -> bool {
        self.known[d]
            .ports
            .values()
            .any(|(s, v)| *s == status && vcpu.is_none_or(|vcpu| vcpu == *v))
    }

    fn state(&self, d: usize, port: PortNumber) -> Option<Status> {
        self.known[d].ports.get(&port).map(|(status, _)| *status)
    }

    fn bind(&mut self, op: u32, d: usize, a: u32, b: u32) {
        let (far, vcpu) = (b as usize % 3, b % VCPUS);
        let real = self.real[d].clone();
        match op {
            0 => {
                let remote = far as DomId;
                let port = alloc_unbound(&*real, remote).unwrap();
                self.add(d, port, Status::Unbound { remote }, 0);
            }
            1 => self.connect(d, far, a),
            2 => {
                let port = bind_ipi(&*real, vcpu).unwrap();
                self.add(d, port, Status::Ipi, vcpu);
            }
            3 => {
                let expected = self.bound(d, Status::Virq(VIRQ_TIMER), Some(vcpu));
                match bind_virq(&*real, VIRQ_TIMER, vcpu) {
                    Ok(port) => self.add(d, port, Status::Virq(VIRQ_TIMER), vcpu),
                    Err(e) => assert!(expected && e == Errno::EEXIST),
                }
            }
            4 => {
                let expected = self.bound(d, Status::Virq(VIRQ_DOM_EXC), None);
                match bind_virq(&*real, VIRQ_DOM_EXC, 0) {
                    Ok(port) => self.add(d, port, Status::Virq(VIRQ_DOM_EXC), 0),
                    Err(e) => assert!(expected && e == Errno::EEXIST),
                }
            }
            _ => {
                let pirq = a % 4;
                let expected = self.bound(d, Status::Pirq(pirq), None);
                match bind_pirq(&*real, pirq, PirqSharing::Exclusive) {
                    Ok(port) => self.add(d, port, Status::Pirq(pirq), 0),
                    Err(e) => assert!(expected && e == Errno::EEXIST),
                }
            }
        }
    }

    fn connect(&mut self, d: usize, far: usize, far_port: PortNumber) {
        let waits = self.state(far, far_port) == Some(Status::Unbound { remote: d as DomId });
        match bind_interdomain(&self.real[d], &self.real[far], far_port) {
            Ok(port) => {
                assert!(waits);
                let here = Status::Interdomain {
                    remote: far as DomId,
                    port: far_port,
                };
                self.add(d, port, here, 0);
                let there = Status::Interdomain {
                    remote: d as DomId,
                    port,
                };
                self.known[far].ports.get_mut(&far_port).unwrap().0 = there;
                self.known[d].pending.insert(port);
            }
            Err(e) => assert!(!waits && e == Errno::EINVAL),
        }
    }

    fn forget(&mut self, d: usize, port: PortNumber) {
        let known = &mut self.known[d];
        known.pending.remove(&port);
        if let Some((Status::Interdomain { remote, port: far }, _)) = known.ports.remove(&port) {
            let end = self.known[remote as usize].ports.get_mut(&far).unwrap();
            end.0 = Status::Unbound { remote: d as DomId };
        }
    }

    fn act(&mut self, op: u32, d: usize, a: u32, b: u32) {
        let (real, vcpu) = (self.real[d].clone(), b % VCPUS);
        match op {
            6 => self.send(d, a),
            7 => {
                let done = close(&*real, a);
                assert_eq!(done.is_ok(), self.state(d, a).is_some());
                self.forget(d, a);
            }
            8 => {
                let movable = match self.state(d, a) {
                    None | Some(Status::Closed | Status::Ipi | Status::Virq(VIRQ_TIMER)) => false,
                    Some(_) => true,
                };
                assert_eq!(bind_vcpu(&*real, a, vcpu).is_ok(), movable);
                if movable {
                    self.known[d].ports.get_mut(&a).unwrap().1 = vcpu;
                }
            }
            9 => self.raise(d, a, vcpu),
            10 => self.mask(d, a),
            11 => {
                if self.known[d].fifo {
                    open(&real, a);
                } else {
                    unmask(&*real, a).unwrap();
                }
                self.known[d].masked.remove(&a);
            }
            12 => {
                let done = set_priority(&*real, a, b);
                assert_eq!(done.is_ok(), self.known[d].fifo && b <= 15);
            }
            13 => self.take(d),
            14 => self.enter(d, b),
            _ => self.reset(d),
        }
    }

    fn send(&mut self, d: usize, a: PortNumber) {
        let may = match self.state(d, a) {
            Some(Status::Interdomain { remote, port }) => {
                self.known[remote as usize].pending.insert(port);
                true
            }
            Some(Status::Ipi) => {
                self.known[d].pending.insert(a);
                true
            }
            Some(Status::Unbound { .. }) => true,
            _ => false,
        };
        assert_eq!(send(&*self.real[d], a).is_ok(), may);
    }

    fn raise(&mut self, d: usize, a: u32, vcpu: VcpuId) {
        let real = &*self.real[d];
        let (done, what, at) = match a % 3 {
            0 => (
                raise_virq(real, vcpu, VIRQ_TIMER),
                Status::Virq(VIRQ_TIMER),
                Some(vcpu),
            ),
            1 => (
                raise_global_virq(real, VIRQ_DOM_EXC),
                Status::Virq(VIRQ_DOM_EXC),
                None,
            ),
            _ => (raise_pirq(real, a % 4), Status::Pirq(a % 4), None),
        };
        let known = &mut self.known[d];
        let port = known
            .ports
            .iter()
            .find(|(_, (s, v))| *s == what && at.is_none_or(|at| at == *v))
            .map(|(port, _)| *port);
        assert_eq!(done, port.is_some());
        known.pending.extend(port);
    }

    fn mask(&mut self, d: usize, a: PortNumber) {
        if self.known[d].fifo {
            mask(&self.real[d], a);
        } else {
            self.real[d].set_masked(a);
        }
        self.known[d].masked.insert(a);
    }

    /// All vCPUs of a domain handle their upcalls: all that is pending and not masked, once.
    fn take(&mut self, d: usize) {
        let real = &*self.real[d];
        let mut got = Vec::new();
        for vcpu in 0..VCPUS {
            got.extend(if self.known[d].fifo {
                Guest::new(real, vcpu).take()
            } else {
                real.take_two_level(vcpu)
            });
        }
        let known = &mut self.known[d];
        let due = known.pending.difference(&known.masked).copied();
        let due: BTreeSet<_> = due.collect();
        known.pending.retain(|port| !due.contains(port));
        assert_eq!(got.len(), due.len(), "each once: {got:?}, {due:?}");
        assert_eq!(BTreeSet::from_iter(got), due);
    }

    /// Goes to the FIFO form, with all ports masked or all open.
    fn enter(&mut self, d: usize, b: u32) {
        let (real, known) = (&self.real[d], &mut self.known[d]);
        if known.fifo {
            return;
        }
        real.pages[0]
            .iter()
            .for_each(|w| w.store(0, Ordering::SeqCst));
        enter_fifo_with(real, 1, (b % 2) << 30);
        known.fifo = true;
        known.masked_two_level = core::mem::take(&mut known.masked);
        if !b.is_multiple_of(2) {
            known.masked.extend(0..1024);
        }
    }

    fn reset(&mut self, d: usize) {
        while reset(&*self.real[d]) == Progress::More {}
        let ports: Vec<_> = self.known[d].ports.keys().copied().collect();
        ports.into_iter().for_each(|port| self.forget(d, port));
        let known = &mut self.known[d];
        if known.fifo {
            known.fifo = false;
            known.masked = core::mem::take(&mut known.masked_two_level);
        }
        assert_eq!(self.real[d].pages_out(), 0);
    }

    /// Compares everything that can be asked.
    fn check(&self) {
        for (real, known) in self.real.iter().zip(&self.known) {
            let highest = known.ports.keys().next_back().copied().unwrap_or(0);
            for port in 0..highest + 8 {
                let (expected, vcpu) = known
                    .ports
                    .get(&port)
                    .copied()
                    .unwrap_or((Status::Closed, 0));
                let got = status(&**real, port).unwrap();
                assert_eq!((got.status, got.vcpu), (expected, vcpu));
                let pending = known.pending.contains(&port);
                assert_eq!(is_pending(&**real, port), Ok(pending), "port {port}");
                if let Status::Interdomain { remote, port: far } = got.status {
                    let back = status(&*self.real[remote as usize], far).unwrap().status;
                    let here = Status::Interdomain {
                        remote: real.id,
                        port,
                    };
                    assert_eq!(back, here, "both ends agree");
                }
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Sending and handling are what happens most.
    let op = prop_oneof![
        16 => 0u32..6,
        24 => Just(6u32),
        20 => 7u32..13,
        10 => Just(13u32),
        2 => Just(14u32),
        1 => Just(15u32),
    ];
    prop::collection::vec((op, 0usize..3, 1u32..14, 0u32..18), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_operations_agree_with_the_model(steps in steps()) {
        let mut world = World::new();
        for (op, d, a, b) in steps {
            if op < 6 {
                world.bind(op, d, a, b);
            } else {
                world.act(op, d, a, b);
            }
            world.check();
        }
        for d in 0..3 {
            world.take(d);
        }
        for d in &world.real {
            destroy(d);
            prop_assert_eq!(d.pages_out(), 0);
        }
        for d in &world.real {
            prop_assert_eq!(Arc::strong_count(d), 1);
        }
    }
}
