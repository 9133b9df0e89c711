use proptest::prelude::*;

use super::*;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{Policies, Which};

fn policy() -> Policy {
    let policies = Policies::new(&reference_cpu(), &ALL_ON);
    policies.get(Which::HvmMax).clone()
}

/// In 64-bit mode, as kernels run.
fn long() -> Controls {
    Controls {
        cr0: 0x8005_0033,
        cr3: 0x1000,
        cr4: cr4::PAE,
        efer: efer::LME | efer::LMA | efer::SCE | efer::NXE,
    }
}

#[test]
fn the_way_into_long_mode_and_back() {
    let policy = policy();
    let start = Controls::RESET;
    assert!(start.are_possible(&policy));
    let protected = write_cr0(start, 0x11, Code::Other).unwrap();
    let pae = write_cr4(protected, cr4::PAE, &policy).unwrap();
    let tables = write_cr3(pae, 0x1000, &policy).unwrap();
    let enabled = write_efer(tables, efer::LME, &policy).unwrap();
    assert_eq!(enabled.efer, efer::LME);
    let active = write_cr0(enabled, 0x8000_0011, Code::Other).unwrap();
    assert_eq!(active.efer, efer::LME | efer::LMA);
    assert!(active.long_mode() && active.are_possible(&policy));
    // Without the tables' format, or from 64-bit code (which is none yet), there is no way in.
    let legacy = write_cr4(enabled, 0, &policy).unwrap();
    assert_eq!(write_cr0(legacy, 0x8000_0011, Code::Other), Err(Fault));
    assert_eq!(write_cr0(enabled, 0x8000_0011, Code::Long), Err(Fault));
    // Out by way of a segment of 32 bits.
    assert_eq!(write_cr0(active, 0x11, Code::Long), Err(Fault));
    let out = write_cr0(active, 0x11, Code::Other).unwrap();
    assert_eq!(out.efer, efer::LME);
    // In it, neither the format nor the mode changes.
    assert_eq!(write_cr4(active, 0, &policy), Err(Fault));
    assert_eq!(write_efer(active, 0, &policy), Err(Fault));
    assert_eq!(write_efer(active, efer::LME, &policy), Ok(active));
}

#[test]
fn cr0_has_what_the_manual_names() {
    let from = Controls::RESET;
    let cr0 = |value| write_cr0(from, value, Code::Other).map(|new| new.cr0);
    assert_eq!(cr0(0), Ok(cr0::ET));
    assert_eq!(cr0(0xffff_ffff), Ok(cr0::ALL));
    for bad in [1 << 32, !0, cr0::PG, cr0::PE | cr0::NW] {
        assert_eq!(cr0(bad), Err(Fault), "{bad:#x}");
    }
    let on = write_machine_status(from, 0xffff, Code::Other).unwrap();
    assert_eq!(on.cr0, from.cr0 | 0xf);
    let off = write_machine_status(on, 0, Code::Other).unwrap();
    assert_eq!(off.cr0, from.cr0 | cr0::PE, "PE stays");
}

#[test]
fn cr3_has_as_many_bits_as_addresses() {
    let policy = policy();
    let bits = policy.physical_address_bits();
    let cr3 = |from, value| write_cr3(from, value, &policy).map(|new| new.cr3);
    assert_eq!(cr3(long(), 0x1fff), Ok(0x1fff));
    assert_eq!(cr3(long(), 1 << (bits - 1)), Ok(1 << (bits - 1)));
    assert_eq!(cr3(long(), 1 << bits), Err(Fault));
    assert_eq!(cr3(long(), cr3::KEEP), Err(Fault), "no process contexts");
    let contexts = Controls {
        cr4: cr4::PAE | cr4::PCIDE,
        ..long()
    };
    assert_eq!(cr3(contexts, cr3::KEEP | 0x1005), Ok(0x1005));
    assert_eq!(cr3(Controls::RESET, 0x5_0000_1000), Ok(0x1000));
}

#[test]
fn cr4_and_efer_have_what_the_policy_has() {
    let policy = policy();
    // The reference has none of these.
    assert_eq!(cr4_bits(&policy) & (cr4::VME | cr4::SMAP | cr4::PCIDE), 0);
    for (bit, there) in [
        (cr4::PCE, true),
        (cr4::OSXSAVE, true),
        (cr4::SMEP, true),
        (cr4::UMIP, true),
        (1 << 12, false),
        (1 << 13, false),
        (1 << 14, false),
        (1 << 15, false),
        (1 << 23, false),
        (1 << 63, false),
    ] {
        let done = write_cr4(long(), cr4::PAE | bit, &policy);
        assert_eq!(done.is_ok(), there, "{bit:#x}");
    }
    for (bit, there) in [(0, true), (11, true), (12, false), (13, false), (15, false)] {
        let done = write_efer(long(), efer::LME | 1 << bit, &policy);
        assert_eq!(done.is_ok(), there, "EFER {bit}");
    }
}

#[test]
fn process_contexts_begin_with_none() {
    let mut cpu = reference_cpu();
    cpu.0.iter_mut().find(|(l, ..)| *l == 1).unwrap().2[2] |= Feature::PCID.mask;
    let policies = Policies::new(&cpu, &ALL_ON);
    let policy = policies.get(Which::HvmDefault);
    let wanted = cr4::PAE | cr4::PCIDE;
    let one = Controls {
        cr3: 0x1001,
        ..long()
    };
    assert_eq!(write_cr4(one, wanted, policy), Err(Fault));
    let on = write_cr4(long(), wanted, policy).unwrap();
    assert!(on.are_possible(policy));
    let chosen = write_cr3(on, 0x1001, policy).unwrap();
    assert!(write_cr4(chosen, wanted | cr4::PGE, policy).is_ok());
    assert_eq!(write_cr0(on, 0x11, Code::Other), Err(Fault), "not out");
    let protected = Controls {
        cr0: 0x11,
        efer: 0,
        ..long()
    };
    assert_eq!(write_cr4(protected, wanted, policy), Err(Fault));
}

#[test]
fn the_rest() {
    let policy = policy();
    assert_eq!(write_cr8(15), Ok(15));
    assert_eq!(write_cr8(16), Err(Fault));
    assert_eq!(write_cr8(1 << 32), Err(Fault));
    assert_eq!(write_xcr0(0, 7, &policy), Ok(7));
    for (register, value) in [(0, 0), (0, 5), (0, 1 << 3 | 1), (0, 1 << 63 | 1), (1, 1)] {
        assert_eq!(write_xcr0(register, value, &policy), Err(Fault));
    }
}

#[derive(Clone, Copy, Debug)]
enum Write {
    Cr0(u64, bool),
    Status(u16, bool),
    Cr3(u64),
    Cr4(u64),
    Efer(u64),
}

/// A value with few bits of all, or a change of one bit that matters.
fn value(bits: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => any::<u64>().prop_map(move |v| v & bits),
        1 => any::<u64>(),
    ]
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        (value(cr0::PE | cr0::PG | cr0::WP | cr0::CD), any::<bool>())
            .prop_map(|(v, long)| Write::Cr0(v, long)),
        (any::<u16>(), any::<bool>()).prop_map(|(v, long)| Write::Status(v, long)),
        value(0xf_ffff_f005).prop_map(Write::Cr3),
        value(cr4::PAE | cr4::PCIDE | cr4::PGE).prop_map(Write::Cr4),
        value(efer::LME | efer::LMA | efer::NXE).prop_map(Write::Efer),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    /// Whatever is written, in whatever order: the registers stay such as a processor can have.
    #[test]
    fn no_writes_lead_to_what_cannot_be(list in writes(), pcid in any::<bool>()) {
        let mut cpu = reference_cpu();
        if pcid {
            cpu.0.iter_mut().find(|(l, ..)| *l == 1).unwrap().2[2] |= Feature::PCID.mask;
        }
        let policies = Policies::new(&cpu, &ALL_ON);
        let policy = policies.get(Which::HvmMax);
        let mut now = Controls::RESET;
        for write in list {
            let code = |long| if long && now.long_mode() { Code::Long } else { Code::Other };
            let new = match write {
                Write::Cr0(value, long) => write_cr0(now, value, code(long)),
                Write::Status(value, long) => write_machine_status(now, value, code(long)),
                Write::Cr3(value) => write_cr3(now, value, policy),
                Write::Cr4(value) => write_cr4(now, value, policy),
                Write::Efer(value) => write_efer(now, value, policy),
            };
            let Ok(new) = new else { continue };
            // The laws themselves, told apart from the code above.
            let (pg, pe) = (new.cr0 >> 31 & 1 == 1, new.cr0 & 1 == 1);
            let (lme, lma) = (new.efer >> 8 & 1 == 1, new.efer >> 10 & 1 == 1);
            prop_assert!(pe || !pg);
            prop_assert!(new.cr0 & 1 << 29 == 0 || new.cr0 & 1 << 30 != 0);
            prop_assert_eq!(lma, lme && pg);
            prop_assert!(!lma || new.cr4 >> 5 & 1 == 1);
            prop_assert!(new.cr4 >> 17 & 1 == 0 || lma);
            prop_assert_eq!(new.cr0 >> 32, 0);
            prop_assert_eq!(new.efer & !0x4d01, 0);
            prop_assert_eq!(new.cr3 >> 52, 0);
            // Into and out of long mode only by CR0.PG.
            if lma != now.long_mode() {
                prop_assert!(matches!(write, Write::Cr0(..)));
            }
            prop_assert_eq!(new.are_possible(policy), lma || new.cr3 >> 32 == 0);
            now = new;
        }
    }
}
