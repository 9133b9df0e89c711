//! Every code, and what comes with it.

use proptest::prelude::*;

use super::*;

fn plain(code: u64) -> Exit {
    decode(code, 0, 0, Assists::Absent)
}

/// Codes of which nothing more is to be known.
const SIMPLE: [(u64, Exit); 39] = [
    (0x60, Exit::Interrupt),
    (0x61, Exit::Nmi),
    (0x62, Exit::Smi),
    (0x63, Exit::Init),
    (0x64, Exit::InterruptWindow),
    (0x66, Exit::DescriptorTable),
    (0x6d, Exit::DescriptorTable),
    (0x6e, Exit::Rdtsc),
    (0x6f, Exit::Rdpmc),
    (0x72, Exit::Cpuid),
    (0x73, Exit::Forbidden),
    (0x74, Exit::IretDone),
    (0x76, Exit::Invd),
    (0x77, Exit::Pause),
    (0x78, Exit::Hlt),
    (0x7a, Exit::Forbidden),
    (0x7d, Exit::TaskSwitch),
    (0x7f, Exit::Shutdown),
    (0x80, Exit::Forbidden),
    (0x81, Exit::Hypercall),
    (0x82, Exit::Forbidden),
    (0x83, Exit::Forbidden),
    (0x84, Exit::Forbidden),
    (0x85, Exit::Forbidden),
    (0x86, Exit::Forbidden),
    (0x87, Exit::Rdtscp),
    (0x89, Exit::Wbinvd),
    (0x8a, Exit::Monitor),
    (0x8b, Exit::Mwait),
    (0x8c, Exit::Mwait),
    (0x8d, Exit::Xsetbv),
    (0x8e, Exit::Forbidden),
    (0xa0, Exit::Forbidden),
    (0xa1, Exit::Forbidden),
    (0xa3, Exit::Forbidden),
    (0xa4, Exit::Forbidden),
    (0xa6, Exit::Hlt),
    (0xffff_ffff, Exit::Invalid),
    (u64::MAX, Exit::Invalid),
];

#[test]
fn each_code_has_its_meaning() {
    for (code, exit) in SIMPLE {
        assert_eq!(plain(code), exit, "{code:#x}");
    }
    for code in u64::MAX - 3..u64::MAX {
        assert_eq!(plain(code), Exit::Invalid);
    }
}

#[test]
fn codes_without_a_meaning_are_told_as_they_are() {
    for code in [
        0x70,
        0x71,
        0x75,
        0x7e,
        0x88,
        0x8f,
        0x90,
        0x9f,
        0xa2,
        0xa5,
        0xa7,
        0x3ff,
        0x401,
        0x402,
        0x403,
        0x1234_5678,
        0xffff_fffb,
        1 << 32,
        0x72 | 1 << 32,
    ] {
        let exit = decode(code, 5, 7, Assists::Decoded);
        let (info1, info2) = (5, 7);
        let name = code_name(code);
        let unknown = Exit::Unknown {
            code,
            name,
            info1,
            info2,
        };
        assert_eq!(exit, unknown);
        assert_eq!(instruction_length(&exit, 0x1000, Some(0x1003)), None);
    }
}

#[test]
fn control_and_debug_registers() {
    for number in 0..16u8 {
        for write in [false, true] {
            let code = u64::from(number) + if write { 0x10 } else { 0 };
            let (cr, dr, mov) = (number, number, 1 << 63 | 11);
            let told = |code, info, assists| decode(code, info, 0, assists);
            let access = |gpr| Exit::CrAccess { cr, write, gpr };
            assert_eq!(told(code, mov, Assists::Decoded), access(Some(11)));
            assert_eq!(told(code, mov, Assists::Absent), access(None));
            assert_eq!(
                told(code, 11, Assists::Decoded),
                access(None),
                "CLTS, LMSW and SMSW have no general register there"
            );
            let access = |gpr| Exit::DrAccess { dr, write, gpr };
            assert_eq!(told(code + 0x20, 3, Assists::Decoded), access(Some(3)));
            assert_eq!(told(code + 0x20, 3, Assists::Absent), access(None));
        }
    }
    let selective = Exit::CrAccess {
        cr: 0,
        write: true,
        gpr: None,
    };
    assert_eq!(plain(0x65), selective);
}

#[test]
fn exceptions_have_what_theirs_is() {
    let with_code = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];
    for vector in 0..32u8 {
        let exit = decode(
            0x40 + u64::from(vector),
            0xffff_ffff_0000_0018,
            0x7fff_0000_1234,
            Assists::Absent,
        );
        let expected = Exit::Exception {
            vector,
            error: with_code.contains(&vector).then_some(0x18),
            address: if vector == 14 { 0x7fff_0000_1234 } else { 0 },
        };
        assert_eq!(exit, expected);
    }
}

#[test]
fn accesses_to_ports() {
    let port = |info1| decode(0x7b, info1, 0x2002, Assists::Absent);
    // OUT of a byte to 0x3f8; IN of 4 bytes from 0xcf8; REP INS of 2 bytes from 0xffff.
    let cases = [
        (0x03f8_0010, (true, 0x3f8, 1, false, false)),
        (0x0cf8_0041, (false, 0xcf8, 4, false, false)),
        (0xffff_002d, (false, 0xffff, 2, true, true)),
        (0x0080_0014, (true, 0x80, 1, true, false)),
    ];
    for (info1, (write, number, size, string, rep)) in cases {
        let expected = Exit::Port {
            write,
            port: number,
            size,
            string,
            rep,
            next_rip: 0x2002,
        };
        assert_eq!(port(info1), expected, "{info1:#x}");
    }
    for size_bits in [0, 3, 5, 6, 7] {
        assert!(matches!(port(size_bits << 4), Exit::Port { size: 1, .. }));
    }
}

#[test]
fn accesses_to_msrs_and_pages() {
    assert_eq!(plain(0x7c), Exit::Msr { write: false });
    let write = decode(0x7c, 1, 0, Assists::Absent);
    assert_eq!(write, Exit::Msr { write: true });
    let page = |assists| decode(0x79, 0xffff_8000, 0, assists);
    let address = Some(0xffff_8000);
    assert_eq!(page(Assists::Decoded), Exit::Invlpg { address });
    assert_eq!(page(Assists::Absent), Exit::Invlpg { address: None });
}

#[test]
fn nested_faults() {
    for bits in 0..16u64 {
        let bit = |index: u32| bits >> index & 1 != 0;
        let info1 = u64::from(bit(0))
            | u64::from(bit(1)) << 1
            | 1 << 2
            | u64::from(bit(2)) << 4
            | if bit(3) { 1 << 33 } else { 1 << 32 };
        let expected = Exit::NestedFault {
            address: 0xfee0_0020,
            present: bit(0),
            write: bit(1),
            fetch: bit(2),
            in_walk: bit(3),
        };
        let exit = decode(0x400, info1, 0xfee0_0020, Assists::Absent);
        assert_eq!(exit, expected);
    }
}

#[test]
fn lengths_of_instructions() {
    let cpuid = |rip, next| instruction_length(&Exit::Cpuid, rip, next);
    assert_eq!(cpuid(0x1000, Some(0x1002)), Some(2));
    assert_eq!(cpuid(0x1000, Some(0x100f)), Some(15));
    assert_eq!(cpuid(0x1000, Some(0x1010)), None);
    assert_eq!(cpuid(0x1000, Some(0x1000)), None, "the CPU keeps zero");
    assert_eq!(cpuid(0x1000, Some(0)), None);
    assert_eq!(cpuid(0x1000, None), None);
    assert_eq!(cpuid(0xffff_ffff, Some(1)), Some(2), "of 32-bit code");
    assert_eq!(cpuid(u64::MAX, Some(1)), Some(2));
    let port = plain(0x7b);
    assert_eq!(instruction_length(&port, u64::MAX, None), Some(1));
    assert_eq!(
        instruction_length(&Exit::Interrupt, 0x1000, Some(0x1002)),
        None,
        "what is there was not what ended the run"
    );
}

proptest! {
    #[test]
    fn whatever_the_hardware_says_is_decoded(
        code in prop_oneof![any::<u64>(), 0u64..0x410],
        info1: u64,
        info2: u64,
        rip: u64,
        next: Option<u64>,
    ) {
        for assists in [Assists::Absent, Assists::Decoded] {
            let exit = decode(code, info1, info2, assists);
            if let Some(length) = instruction_length(&exit, rip, next) {
                prop_assert!((1..=15).contains(&length));
            }
            match exit {
                Exit::CrAccess { cr, gpr, .. } => prop_assert!(cr < 16 && gpr.is_none_or(|g| g < 16)),
                Exit::DrAccess { dr, gpr, .. } => prop_assert!(dr < 16 && gpr.is_none_or(|g| g < 16)),
                Exit::Port { size, .. } => prop_assert!(matches!(size, 1 | 2 | 4)),
                Exit::Exception { vector, .. } => prop_assert!(vector < 32),
                _ => {}
            }
        }
    }
}
