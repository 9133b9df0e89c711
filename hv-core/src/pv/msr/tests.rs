//! MSRs against what the reference hypervisor answers to a dom0 kernel.

use super::*;
use crate::pv::privop::tests::world::{World, vcpu};

#[test]
fn reads_are_answered_as_by_the_reference() {
    let world = World::new(Rights::Control);
    let (_, state) = vcpu();
    let reads = [
        (0x8b, 0x1000065),
        (0x277, 0x50100070406),
        (0x1b, 0xfee00900),
        (0xc0010015, 0),
        (0xc0011029, 2),
        (0x179, 2),
        (0x17a, 0),
        (0x400, u64::MAX),
        (0x401, 0),
        (0x403, 0),
        (0x404, u64::MAX),
        (0x405, 0),
        (0x407, 0),
        (0xc0000102, 0),
        (0xc0010000, 0),
        (0xc0010001, 0),
        (0xc0010002, 0),
        (0xc0010003, 0),
        (0xc0010007, 0),
    ];
    for (msr, value) in reads {
        assert_eq!(read(&world, &state, msr), Ok(value), "{msr:#x}");
    }
    for msr in [
        0xc0010055,
        0x408,
        0x3a,
        0xce,
        0x10a,
        0x48,
        0xfe,
        0,
        u32::MAX,
    ] {
        assert_eq!(read(&world, &state, msr), Err(Refused), "{msr:#x}");
    }
}

#[test]
fn writes_are_accepted_as_by_the_reference() {
    let world = World::new(Rights::Control);
    let (_, mut state) = vcpu();
    let writes = [
        (0xc0010015, 0x40),
        (0x400, !0),
        (0x401, 0),
        (0x404, !0),
        (0x405, 0),
        (0xc0010007, 0xffff),
        (0x17a, 0),
    ];
    for (msr, value) in writes {
        assert_eq!(write(&world, &mut state, msr, value), Ok(()), "{msr:#x}");
    }
    for (msr, value) in [
        (0x401, 1),
        (0x277, 0),
        (0xc0000080, 0),
        (0xc0000082, 0),
        (0x10, 0),
        (0x1b, 0xfee0_0c00),
    ] {
        assert_eq!(
            write(&world, &mut state, msr, value),
            Err(Refused),
            "{msr:#x}"
        );
    }
    assert_eq!(
        write(&world, &mut state, 0x277, 0x50100070406),
        Ok(()),
        "no change"
    );
}

#[test]
fn bases_reach_the_state_and_the_cpu() {
    let world = World::new(Rights::Guest);
    let (_, mut state) = vcpu();
    for (msr, value) in [
        (0xc000_0100, 0x7f00_0000_1000),
        (0xc000_0101, 0xffff_ffff_8304_4000),
        (0xc000_0102, 0x2000),
    ] {
        assert_eq!(write(&world, &mut state, msr, value), Ok(()));
        assert_eq!(read(&world, &state, msr), Ok(value));
        assert_eq!(
            write(&world, &mut state, msr, 0x8000_0000_0000),
            Err(Refused),
            "not canonical"
        );
    }
    let bases = state.bases;
    assert_eq!(
        [bases.fs, bases.gs_kernel, bases.gs_user],
        [0x7f00_0000_1000, 0xffff_ffff_8304_4000, 0x2000]
    );
}

#[test]
fn a_guest_learns_less_than_the_control_domain() {
    let mut world = World::new(Rights::Control);
    let (_, state) = vcpu();
    world.host_msrs.extend([(0xfe, 0x508), (0xc001_001f, 1)]);
    assert_eq!(
        [
            read(&world, &state, 0xfe),
            read(&world, &state, 0xc001_001f)
        ],
        [Ok(0x508), Ok(1)]
    );
    world.rights = Rights::Guest;
    assert_eq!(
        [
            read(&world, &state, 0xfe),
            read(&world, &state, 0xc001_001f)
        ],
        [Err(Refused); 2]
    );
}

#[test]
fn each_register_is_logged_once() {
    let log = MsrLog::new();
    assert!(log.is_first(0x10a) && log.is_first(0x48));
    assert!(!log.is_first(0x10a));
    let many = (0x1000..0x2000).filter(|&msr| log.is_first(msr)).count();
    assert_eq!(many, 62, "a guest cannot fill the console");
}

#[test]
fn breakpoints_have_masks_where_the_cpu_has_them() {
    use crate::cpuid::Policies;
    use crate::cpuid::tests::{ALL_ON, reference_cpu};
    let mut world = World::new(Rights::Guest);
    let (_, mut state) = vcpu();
    let masks = [0xc001_1027, 0xc001_1019, 0xc001_101a, 0xc001_101b];
    for msr in masks {
        assert_eq!(read(&world, &state, msr), Err(Refused));
        assert_eq!(write(&world, &mut state, msr, 0), Err(Refused));
    }
    assert!(carried(world.policy()).is_empty());
    let mut cpu = reference_cpu();
    let leaf = cpu.0.iter_mut().find(|(l, ..)| *l == 0x8000_0001).unwrap();
    leaf.2[2] |= Feature::DBEXT.mask;
    world.tables.policies = Policies::new(&cpu, &ALL_ON);
    assert_eq!(carried(world.policy()), masks);
    for (msr, value) in masks.into_iter().zip([0xffff_ffff, 0xfff, 1, 0]) {
        assert_eq!(write(&world, &mut state, msr, value), Ok(()));
        assert_eq!(read(&world, &state, msr), Ok(value));
        assert_eq!(write(&world, &mut state, msr, 1 << 32), Err(Refused));
        assert_eq!(
            read_carried(&state, world.policy(), msr),
            Some(value),
            "as before"
        );
    }
    assert_eq!(state.debug_masks, [0xffff_ffff, 0xfff, 1, 0]);
}
