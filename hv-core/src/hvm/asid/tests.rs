//! The tags against a model of the TLBs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CPUS: usize = 3;
const VCPUS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A vCPU runs on a CPU.
    Run { vcpu: usize, cpu: usize },
    /// The same, but the hardware refuses the entry.
    Refused { vcpu: usize, cpu: usize },
    /// The CPU is to know nothing of before.
    Renew { cpu: usize },
    /// The vCPU's translations are wrong.
    Drop { vcpu: usize },
    /// The CPU was reset: its TLB may hold anything.
    Restart { cpu: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..VCPUS, 0..CPUS).prop_map(|(vcpu, cpu)| Step::Run { vcpu, cpu }),
        1 => (0..VCPUS, 0..CPUS).prop_map(|(vcpu, cpu)| Step::Refused { vcpu, cpu }),
        1 => (0..CPUS).prop_map(|cpu| Step::Renew { cpu }),
        1 => (0..VCPUS).prop_map(|vcpu| Step::Drop { vcpu }),
        1 => (0..CPUS).prop_map(|cpu| Step::Restart { cpu }),
    ];
    prop::collection::vec(step, 1..200)
}

/// Whose translation it is, and when it came into the TLB.
type Entry = (usize, u64);

/// What a TLB holds after a reset: nobody's.
const GARBAGE: Entry = (usize::MAX, 0);

/// One CPU's TLB by tag, and since when translations are good there.
struct Tlb {
    asids: Asids,
    entries: BTreeMap<u32, Vec<Entry>>,
    renewed: u64,
}

struct World {
    max: u32,
    cpus: Vec<Tlb>,
    tickets: [Ticket; VCPUS],
    /// When translations of a vCPU became wrong on a CPU.
    wrong: [[u64; CPUS]; VCPUS],
    now: u64,
}

impl World {
    fn new(max: u32) -> Self {
        let cpu = |_| {
            let mut tlb = Tlb {
                asids: Asids::new(max),
                entries: BTreeMap::new(),
                renewed: 0,
            };
            tlb.fill_with_garbage(max);
            tlb
        };
        Self {
            max,
            cpus: (0..CPUS).map(cpu).collect(),
            tickets: Default::default(),
            wrong: Default::default(),
            now: 1,
        }
    }

    fn run(&mut self, vcpu: usize, cpu: usize, refused: bool) {
        let tlb = &mut self.cpus[cpu];
        let (ticket, flush) = tlb.asids.ticket(&self.tickets[vcpu], cpu as CpuId);
        self.tickets[vcpu] = ticket;
        let asid = ticket.asid();
        assert!(asid >= FIRST && asid < self.max, "a tag of a guest: {asid}");
        if refused {
            return;
        }
        if flush {
            tlb.entries.clear();
        }
        tlb.asids.entered();
        let entries = tlb.entries.entry(asid).or_default();
        for (owner, since) in entries.iter() {
            assert_eq!(*owner, vcpu, "a tag that another's translations have");
            assert!(*since > tlb.renewed, "a translation from before the flush");
            assert!(*since > self.wrong[vcpu][cpu], "a wrong translation");
        }
        entries.push((vcpu, self.now));
        // While it runs here it invalidates what it knows elsewhere.
        for other in (0..CPUS).filter(|c| *c != cpu) {
            self.wrong[vcpu][other] = self.now;
        }
    }

    fn step(&mut self, step: &Step) {
        self.now += 1;
        match *step {
            Step::Run { vcpu, cpu } => self.run(vcpu, cpu, false),
            Step::Refused { vcpu, cpu } => self.run(vcpu, cpu, true),
            Step::Renew { cpu } => {
                self.cpus[cpu].asids.renew_all();
                self.cpus[cpu].renewed = self.now;
            }
            Step::Drop { vcpu } => {
                self.tickets[vcpu] = Ticket::default();
                self.wrong[vcpu] = [self.now; CPUS];
            }
            Step::Restart { cpu } => {
                self.cpus[cpu].asids.start();
                self.cpus[cpu].fill_with_garbage(self.max);
            }
        }
    }
}

impl Tlb {
    fn fill_with_garbage(&mut self, max: u32) {
        for asid in FIRST..max {
            self.entries.entry(asid).or_default().push(GARBAGE);
        }
    }
}

proptest! {
    #[test]
    fn nobody_meets_a_translation_that_is_not_its_own(max in 2u32..9, steps in steps()) {
        let mut world = World::new(max);
        for step in &steps {
            world.step(step);
        }
    }
}

#[test]
fn a_vcpu_that_stays_keeps_its_tag_and_flushes_once() {
    let asids = Asids::new(8);
    let (first, flush) = asids.ticket(&Ticket::default(), 3);
    assert!(flush, "what the TLB held at the start goes");
    asids.entered();
    assert_eq!(asids.ticket(&first, 3), (first, false));
    asids.renew_all();
    let (second, flush) = asids.ticket(&first, 3);
    assert_ne!(second.asid(), first.asid());
    assert!(!flush, "a tag that nobody had needs no flush");
}

#[test]
fn used_up_tags_begin_again_with_a_flush() {
    let asids = Asids::new(4);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (ticket, flush) = asids.ticket(&Ticket::default(), 0);
        asids.entered();
        seen.push((ticket.asid(), flush));
    }
    assert_eq!(
        seen,
        [(1, true), (2, false), (3, false), (1, true), (2, false)]
    );
}

#[test]
fn a_flush_is_owed_until_an_entry_happened() {
    let asids = Asids::new(8);
    let (ticket, flush) = asids.ticket(&Ticket::default(), 0);
    assert!(flush);
    assert!(asids.ticket(&ticket, 0).1, "the entry did not happen");
    asids.entered();
    assert!(!asids.ticket(&ticket, 0).1);
}

#[test]
fn too_few_tags_still_give_a_guest_its_own() {
    for max in [0, 1, 2] {
        let (ticket, _) = Asids::new(max).ticket(&Ticket::default(), 0);
        assert_eq!(ticket.asid(), 1);
    }
}
