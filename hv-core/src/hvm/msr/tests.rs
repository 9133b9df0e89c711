//! MSRs of a vCPU in a container, by a host of arrays.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{HostSetup, Policies, TscAux, Which};
use crate::hvm::controls::efer;

struct World {
    policy: Policy,
    log: MsrLog,
    strictness: Strictness,
    held: BTreeMap<u32, u64>,
    controls: Controls,
    tsc: u64,
    aux: u32,
    masks: [u32; 4],
    deadline: u64,
    apic: u64,
    page: Option<u64>,
    barriers: Cell<u32>,
    machine: BTreeMap<u32, u64>,
}

impl World {
    /// The reference CPU, with more that MSRs go with.
    fn new() -> Self {
        let mut cpu = reference_cpu();
        for (leaf, _, values) in &mut cpu.0 {
            match leaf {
                1 => values[2] |= Feature::TSC_DEADLINE.mask,
                7 => values[1] |= Feature::TSC_ADJUST.mask,
                0x8000_0001 => {
                    values[2] |= Feature::DBEXT.mask;
                    values[3] |= Feature::RDTSCP.mask;
                }
                0x8000_0008 => values[1] |= Feature::IBPB.mask,
                _ => {}
            }
        }
        let setup = HostSetup {
            tsc_aux: TscAux::Missing,
            ..ALL_ON
        };
        let policies = Policies::new(&cpu, &setup);
        Self {
            policy: policies.get(Which::HvmDefault).clone(),
            log: MsrLog::new(),
            strictness: Strictness::Strict,
            held: BTreeMap::new(),
            controls: Controls {
                cr0: 0x8005_0033,
                cr3: 0x1000,
                cr4: 0x20,
                efer: efer::LME | efer::LMA,
            },
            tsc: 1000,
            aux: 0,
            masks: [0; 4],
            deadline: 0,
            apic: 0xfee0_0900,
            page: None,
            barriers: Cell::new(0),
            machine: BTreeMap::from([(0x8b, 0x0100_0065), (0xc001_0015, 0), (0x1234, 7)]),
        }
    }
}

impl MsrHost for World {
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn name(&self) -> (DomId, VcpuId) {
        (1, 0)
    }
    fn log(&self) -> &MsrLog {
        &self.log
    }
    fn strictness(&self) -> Strictness {
        self.strictness
    }
    fn held(&self, which: Held) -> u64 {
        self.held.get(&(which as u32)).copied().unwrap_or(0)
    }
    fn hold(&mut self, which: Held, value: u64) {
        self.held.insert(which as u32, value);
    }
    fn controls(&self) -> Controls {
        self.controls
    }
    fn set_controls(&mut self, new: Controls) {
        self.controls = new;
    }
    fn tsc(&self) -> u64 {
        self.tsc
    }
    fn move_tsc(&mut self, by: u64) {
        self.tsc = self.tsc.wrapping_add(by);
    }
    fn load_tsc_aux(&mut self, value: u32) {
        self.aux = value;
    }
    fn load_breakpoint_masks(&mut self, masks: &[u32; 4]) {
        self.masks = *masks;
    }
    fn forget_branches(&self) {
        self.barriers.set(self.barriers.get() + 1);
    }
    fn apic_base(&self) -> u64 {
        self.apic
    }
    fn set_apic_base(&mut self, value: u64) -> Result<(), Fault> {
        self.apic = value;
        takes(value & 0xff == 0)
    }
    fn read_x2apic(&mut self, msr: u32) -> Result<u64, Fault> {
        takes(msr == 0x802).map(|()| 6)
    }
    fn write_x2apic(&mut self, msr: u32, _value: u64) -> Result<(), Fault> {
        takes(msr == 0x80b)
    }
    fn tsc_deadline(&self) -> u64 {
        self.deadline
    }
    fn set_tsc_deadline(&mut self, value: u64) {
        self.deadline = value;
    }
    fn fill_hypercall_page(&mut self, gfn: u64) -> Result<(), Fault> {
        takes(gfn < 0x1_0000)?;
        self.page = Some(gfn);
        Ok(())
    }
    fn read_machine(&self, msr: u32) -> Option<u64> {
        self.machine.get(&msr).copied()
    }
}

#[test]
fn kernels_find_what_they_read_at_boot() {
    let (mut world, state) = (World::new(), Msrs::default());
    for (msr, value) in [
        (0x10, 1000),
        (0x1b, 0xfee0_0900),
        (0x2c, 0),
        (0x3b, 0),
        (0x8b, 0x0100_0065),
        (0xfe, 0x508),
        (0x174, 0),
        (0x179, 2),
        (0x17a, 0),
        (0x1d9, 0),
        (0x1db, 0),
        (0x200, 0),
        (0x250, 0),
        (0x277, 0),
        (0x2ff, 0),
        (0x400, !0),
        (0x407, 0),
        (0x6e0, 0),
        (0x802, 6),
        (0x4000_0000, 0),
        (0xc000_0080, 0x500),
        (0xc000_0102, 0),
        (0xc000_0103, 0),
        (0xc001_0000, 0),
        (0xc001_0010, 0),
        (0xc001_0015, 0),
        (0xc001_001a, 0),
        (0xc001_001f, 0),
        (0xc001_0055, 0),
        (0xc001_0114, 0x18),
        (0xc001_0200, 0),
        (0xc001_1027, 0),
        (0xc001_1029, 2),
    ] {
        assert_eq!(read(&mut world, &state, msr), Ok(value), "{msr:#x}");
    }
    for msr in [
        0,
        0x17,
        0x3a,
        0x48,
        0x49,
        0xce,
        0x10a,
        0x408,
        0x800,
        0xda0,
        0x4000_0001,
        0xc001_0061,
        0xc001_0117,
        0xc001_0140,
        0xc001_011f,
        u32::MAX,
    ] {
        assert_eq!(read(&mut world, &state, msr), Err(Fault), "{msr:#x}");
    }
}

#[test]
fn writes_do_what_they_say_or_fault() {
    let (mut world, mut state) = (World::new(), Msrs::default());
    let mut put = |msr, value| write(&mut world, &mut state, msr, value);
    for (msr, value) in [
        (0xc000_0081, !0),
        (0xc000_0082, 0xffff_ffff_8000_0000),
        (0xc000_0084, 0x4_7700),
        (0xc000_0080, 0xd01),
        (0x277, 0x0007_0406_0007_0406),
        (0x2ff, 0xc06),
        (0x49, 1),
        (0x49, 0),
        (0x6e0, 77),
        (0x80b, 0),
        (0xc000_0103, 9),
        (0xc001_1027, 0xfff),
        (0x4000_0000, 0x5000),
        (0xc001_0015, 0x40),
        (0x1d9, 0),
        (0x400, 0),
    ] {
        assert_eq!(put(msr, value), Ok(()), "{msr:#x}");
    }
    for (msr, value) in [
        (0xc000_0082, 1 << 63),
        (0xc000_0101, 0x8000_0000_0000),
        (0xc000_0084, 1 << 32),
        (0xc000_0080, 0x1d01),
        (0xc000_0080, 0xc01),
        (0x277, 2),
        (0x2ff, 2),
        (0xfe, 0x508),
        (0x49, 2),
        (0x8b, 0),
        (0xc000_0103, 1 << 32),
        (0xc001_1027, 1 << 32),
        (0x4000_0000, 0x5001),
        (0x4000_0000, 1 << 40),
        (0x1d9, 2),
        (0x1db, 0),
        (0x401, 1),
        (0x802, 0),
        (0x48, 0),
        (0x1234, 0),
    ] {
        assert_eq!(put(msr, value), Err(Fault), "{msr:#x} {value:#x}");
    }
    assert_eq!(world.page, Some(5));
    assert_eq!(world.controls.efer, 0xd01);
    assert_eq!((world.aux, state.tsc_aux), (9, 9));
    assert_eq!(world.masks, [0xfff, 0, 0, 0]);
    assert_eq!((world.deadline, world.barriers.get()), (77, 1));
    assert_eq!(read(&mut world, &state, 0xc000_0084), Ok(0x4_7700));
}

#[test]
fn a_relaxed_domain_may_touch_what_the_machine_has() {
    let (mut world, mut state) = (World::new(), Msrs::default());
    world.strictness = Strictness::Relaxed;
    assert_eq!(
        read(&mut world, &state, 0x1234),
        Ok(0),
        "not the machine's 7"
    );
    assert_eq!(write(&mut world, &mut state, 0x1234, 5), Ok(()));
    assert_eq!(read(&mut world, &state, 0x1235), Err(Fault));
    assert_eq!(write(&mut world, &mut state, 0x1235, 5), Err(Fault));
    // What is known is not excused.
    assert_eq!(write(&mut world, &mut state, 0x277, 2), Err(Fault));
    assert_eq!(write(&mut world, &mut state, 0x8b, 0), Err(Fault));
}

#[test]
fn features_that_are_gone_take_their_registers_along() {
    let (mut world, mut state) = (World::new(), Msrs::default());
    let plain = Policies::new(&reference_cpu(), &ALL_ON);
    world.policy = plain.get(Which::PvDefault).clone();
    for msr in [0x3b, 0x6e0, 0xc000_0103, 0xc001_1027, 0x2ff, 0x200] {
        assert_eq!(read(&mut world, &state, msr), Err(Fault), "{msr:#x}");
        assert_eq!(
            write(&mut world, &mut state, msr, 0),
            Err(Fault),
            "{msr:#x}"
        );
    }
}

proptest! {
    #[test]
    fn the_tsc_and_its_adjustment_move_together(
        steps in proptest::collection::vec((any::<bool>(), any::<u64>()), 1..20),
    ) {
        let (mut world, mut state) = (World::new(), Msrs::default());
        let unmoved = world.tsc;
        for (adjust, value) in steps {
            let msr = if adjust { 0x3b } else { 0x10 };
            prop_assert_eq!(write(&mut world, &mut state, msr, value), Ok(()));
            prop_assert_eq!(read(&mut world, &state, msr), Ok(value));
            prop_assert_eq!(world.tsc, unmoved.wrapping_add(state.tsc_adjust));
        }
    }

    /// What was accepted and is held reads back; what faulted changes nothing.
    #[test]
    fn accepted_values_read_back(
        msr in prop_oneof![
            0x170..0x180u32, 0x1f8..0x300u32, 0xc000_0080..0xc000_0108u32, any::<u32>(),
        ],
        value in prop_oneof![any::<u64>(), 0..0x1000u64, Just(0x0606_0606_0606_0606)],
    ) {
        let (mut world, mut state) = (World::new(), Msrs::default());
        let before = read(&mut world, &state, msr);
        let done = write(&mut world, &mut state, msr, value);
        let after = read(&mut world, &state, msr);
        let ignored = matches!(msr, 0x179..=0x17a | 0x400..=0x407 | 0xc001_0000..=0xc001_ffff | 0x4000_0000 | 0x1b);
        match (done, msr) {
            (Err(_), _) => prop_assert_eq!(after, before),
            (Ok(()), 0xc000_0080) => prop_assert_eq!(after, Ok(value & !0x400 | 0x400)),
            (Ok(()), _) if ignored => {}
            (Ok(()), _) => prop_assert_eq!(after, Ok(value)),
        }
    }
}
