//! What a guest in a container sees on the reference CPU (AMD, family 15).

use super::*;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{HostSetup, HvmSetup, Policies, Which};

/// Long mode with everything on that there is.
fn view() -> View {
    View {
        domain: 5,
        vcpu: 3,
        controls: Controls {
            cr0: 0x8005_0033,
            cr3: 0x1000,
            cr4: cr4::PAE | cr4::OSXSAVE | cr4::PKE,
            efer: efer::LME | efer::LMA,
        },
        xcr0: 7,
        apic_base: 0xfee0_0800,
        machine: MachineFacts {
            version: 0x40011,
            tsc_khz: 2_600_000,
            address_bits: 32,
        },
        tsc: None,
    }
}

fn shown(view: &View, leaf: u32, subleaf: u32) -> Leaf {
    let policies = Policies::new(&reference_cpu(), &ALL_ON);
    answer(policies.get(Which::HvmDefault), view, leaf, subleaf)
}

#[test]
fn leaves_of_the_processor() {
    let on = view();
    assert_eq!(
        shown(&on, 1, 0),
        [0x00060fb1, 0x0602_0800, 0xfef8_3203, 0x1fcb_fbfd]
    );
    // SMEP, UMIP, PKU and OSPKE are there; SMAP and RDPID the CPU has not.
    assert_eq!(shown(&on, 7, 0), [0, 0x0188_03a9, 0x21c, 0]);
    assert_eq!(shown(&on, 0xb, 0), [0, 0, 0, 6]);
    assert_eq!(shown(&on, 0xb, 1), [0, 0, 1, 6]);
    assert_eq!(shown(&on, 0xd, 0), [0x207, 0x340, 0xa88, 0]);
    assert_eq!(shown(&on, 0xd, 9), [8, 0xa80, 0, 0]);
    assert_eq!(
        shown(&on, 0x8000_0001, 0)[3] & 1 << 26,
        1 << 26,
        "1 GiB pages"
    );
    assert_eq!(shown(&on, 0x8000_0001, 0)[2] & 1 << 2, 0, "no SVM");
    assert_eq!(shown(&on, 0x8000_000a, 0), [0; 4]);
    assert_eq!(shown(&on, 0x8000_0008, 0)[0], 0x3028);
}

#[test]
fn what_registers_say_is_mirrored() {
    let off = View {
        controls: Controls::RESET,
        xcr0: 1,
        apic_base: 0xfee0_0000,
        ..view()
    };
    assert_eq!(shown(&off, 1, 0)[2] & Feature::OSXSAVE.mask, 0);
    assert_eq!(shown(&off, 1, 0)[3] & Feature::APIC.mask, 0);
    assert_eq!(shown(&off, 0x8000_0001, 0)[3] & Feature::APIC.mask, 0);
    assert_eq!(shown(&off, 7, 0)[2], 0x20c);
    assert_eq!(shown(&off, 0xd, 0), [0x207, 0x240, 0xa88, 0]);
}

#[test]
fn the_guest_finds_us_and_its_numbers() {
    let view = view();
    let first = [0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
    assert_eq!(shown(&view, 0x4000_0000, 0), first);
    assert_eq!(shown(&view, 0x4000_0001, 0), [0x40011, 0, 0, 0]);
    assert_eq!(shown(&view, 0x4000_0002, 0), [1, 0x4000_0000, 0, 0]);
    assert_eq!(shown(&view, 0x4000_0003, 2), [2_600_000, 0, 0, 0]);
    assert_eq!(shown(&view, 0x4000_0004, 0), [0x58, 3, 5, 0]);
    assert_eq!(shown(&view, 0x4000_0004, 1), [0; 4]);
    assert_eq!(shown(&view, 0x4000_0005, 0), [0; 4], "for PV guests");
    assert_eq!(shown(&view, 0x4000_0006, 0), [0; 4]);
}

#[test]
fn an_intel_guest_sees_syscall_in_long_mode() {
    let mut cpu = reference_cpu();
    for (leaf, _, values) in &mut cpu.0 {
        match leaf {
            0 | 0x8000_0000 => {
                *values = [values[0], 0x756e_6547, 0x6c65_746e, 0x4965_6e69];
            }
            0x8000_0001 => *values = [0, 0, 0x121, 0x2c10_0800],
            _ => {}
        }
    }
    let policies = Policies::new(&cpu, &ALL_ON);
    let policy = policies.get(Which::HvmDefault);
    let bits = |view: &View| answer(policy, view, 0x8000_0001, 0)[3];
    assert_eq!(bits(&view()), 0x2c10_0800);
    let mut off = view();
    off.controls = Controls::RESET;
    assert_eq!(bits(&off), 0x2c10_0000);
}

#[test]
fn what_is_not_kept_is_not_there() {
    let with = |unkept: &[Feature]| {
        let unkept = unkept.to_vec();
        let hvm = Some(HvmSetup { unkept });
        Policies::new(&reference_cpu(), &HostSetup { hvm, ..ALL_ON })
    };
    let all = with(&[]);
    let fewer = with(&[Feature::SMEP, Feature::XSAVE]);
    let (all, fewer) = (all.get(Which::HvmMax), fewer.get(Which::HvmMax));
    assert!(all.has(Feature::SMEP) && !fewer.has(Feature::SMEP));
    assert!(!fewer.has(Feature::XSAVE));
    assert_eq!(fewer.xcr0_mask(), 0);
}
