//! CPUs that keep of a VMCB whatever the clean bits let them (AMD APM vol. 2, 15.15.3), and a hypervisor that changes it
//! in between: no CPU may run with what is no longer there.

use super::*;

/// By bit: the parts of the page that the CPU may keep, as offset and mask of the word.
const GROUPS: [&[(usize, u64)]; 10] = [
    &[(0x00, !0), (0x08, !0), (0x10, !0), (0x38, !0), (0x50, !0)],
    &[(0x40, !0), (0x48, !0)],
    &[(0x58, 0xffff_ffff)],
    &[(0x60, !0)],
    &[(0xb0, !0), (0x668, !0)],
    &[(0x548, !0), (0x550, !0), (0x558, !0), (0x4d0, !0)],
    &[(0x560, !0), (0x568, !0)],
    &[(0x460, !0), (0x468, !0), (0x480, !0), (0x488, !0)],
    &[
        (0x400, !0),
        (0x408, !0),
        (0x410, !0),
        (0x418, !0),
        (0x420, !0),
        (0x428, !0),
        (0x430, !0),
        (0x438, !0),
        (0x4c8, !0),
    ],
    &[(0x640, !0)],
];

/// What the guest changes without leaving, so that the CPU has it and writes it back.
const GUEST_CHANGES: [(usize, u64); 7] = [
    (0x60, 0xf),
    (0x640, !0),
    (0x550, !0),
    (0x568, !0),
    (0x420, !0),
    (0x460, !0),
    (0x4c8, 0x300_0000),
];

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64),
    Segment(usize, Segment),
    Window(bool),
    Priority(u8),
    NmiMasked(bool),
    Root(u64),
    Intercept(usize, bool),
    Reset,
    Run { cpu: usize, exit: u64, value: u64 },
    Restart { cpu: usize },
}

const INTERCEPTS: [Intercept; 6] = [
    Intercept::Rdtsc,
    Intercept::Pause,
    Intercept::DebugRegisters,
    Intercept::Cr3,
    Intercept::Breakpoint,
    Intercept::InvalidOpcode,
];

fn step() -> impl Strategy<Value = Step> {
    // Of few values, so that old ones come back.
    let value = || 0u64..4;
    prop_oneof![
        4 => (0..REGISTERS.len(), value()).prop_map(|(which, v)| Step::Write(which, v)),
        3 => (0..SEGMENTS.len(), segment()).prop_map(|(which, v)| Step::Segment(which, v)),
        1 => any::<bool>().prop_map(Step::Window),
        1 => any::<u8>().prop_map(Step::Priority),
        1 => any::<bool>().prop_map(Step::NmiMasked),
        1 => value().prop_map(Step::Root),
        2 => (0..INTERCEPTS.len(), any::<bool>()).prop_map(|(which, on)| Step::Intercept(which, on)),
        1 => Just(Step::Reset),
        6 => (0..2usize, prop_oneof![4 => Just(0x60), 1 => Just(u64::MAX)], value())
            .prop_map(|(cpu, exit, value)| Step::Run { cpu, exit, value }),
        1 => (0..2usize).prop_map(|cpu| Step::Restart { cpu }),
    ]
}

struct Cpu {
    asids: Asids,
    kept: Vec<Vec<u64>>,
}

impl Cpu {
    fn new() -> Self {
        let kept = GROUPS.iter().map(|g| vec![0xbad; g.len()]).collect();
        let asids = Asids::new(8);
        Self { asids, kept }
    }

    /// Loads the page and runs with what it has.
    fn run(&mut self, v: &Vmcb) {
        let clean = at32(v, 0xc0);
        for (bit, group) in GROUPS.iter().enumerate() {
            for (kept, (offset, mask)) in self.kept[bit].iter_mut().zip(*group) {
                let there = at(v, *offset) & mask;
                if clean >> bit & 1 == 0 {
                    *kept = there;
                }
                assert_eq!(*kept, there, "kept of {offset:#x}, group {bit}");
            }
        }
    }

    fn change(&mut self, v: &Vmcb, value: u64) {
        for (offset, mask) in GUEST_CHANGES {
            let filled = value.wrapping_mul(0x1111_1111_1111_1111) & mask;
            v.page.set(offset, at(v, offset) & !mask | filled);
        }
        for (bit, group) in GROUPS.iter().enumerate() {
            for (kept, (offset, mask)) in self.kept[bit].iter_mut().zip(*group) {
                *kept = at(v, *offset) & mask;
            }
        }
    }
}

fn apply(v: &mut Vmcb, cpus: &mut [Cpu; 2], step: &Step) {
    match *step {
        Step::Write(which, value) => v.write(REGISTERS[which], value << 8),
        Step::Segment(which, value) => v.set_segment(SEGMENTS[which], value),
        Step::Window(on) => v.want_interrupt_window(on),
        Step::Priority(cr8) => v.set_task_priority(cr8),
        Step::NmiMasked(on) => v.set_nmi_masked(on),
        Step::Root(mfn) => v.set_nested_root(Mfn(mfn)),
        Step::Intercept(which, on) => v.intercept(INTERCEPTS[which], on),
        Step::Reset => v.reset(),
        Step::Run { cpu, exit, value } => {
            let number = cpu as CpuId;
            let cpu = &mut cpus[cpu];
            v.prepare(&cpu.asids, number);
            cpu.run(v);
            v.page.set(0x70, exit);
            if exit != u64::MAX {
                cpu.change(v, value);
            } else {
                // What a refused entry leaves in the CPU is not known.
                *cpu = Cpu {
                    asids: core::mem::replace(&mut cpu.asids, Asids::new(8)),
                    ..Cpu::new()
                };
            }
            v.left(&cpu.asids);
        }
        Step::Restart { cpu } => {
            cpus[cpu].kept = Cpu::new().kept;
            cpus[cpu].asids.start();
        }
    }
}

proptest! {
    #[test]
    fn no_cpu_runs_with_what_is_no_longer_there(steps in prop::collection::vec(step(), 1..120)) {
        let mut v = with(Features::CLEAN | Features::PAUSE_FILTER);
        let mut cpus = [Cpu::new(), Cpu::new()];
        for step in &steps {
            apply(&mut v, &mut cpus, step);
        }
    }
}

#[test]
fn a_cpu_without_clean_bits_is_not_told_of_any() {
    let mut v = vmcb();
    let asids = Asids::new(8);
    for _ in 0..3 {
        v.prepare(&asids, 0);
        assert_eq!(at32(&v, 0xc0), 0);
        v.page.set(0x70, 0x60);
        v.left(&asids);
    }
}
