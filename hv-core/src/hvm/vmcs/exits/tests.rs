//! Every reason, what comes with it, and what is read for it.

use core::cell::RefCell;

use proptest::prelude::*;

use super::*;

/// Fields of which all but some are zero, and which were read.
#[derive(Default)]
struct Fields {
    values: Vec<(Field, u64)>,
    asked: RefCell<Vec<Field>>,
}

impl Fields {
    fn with(values: &[(Field, u64)]) -> Self {
        Self {
            values: values.to_vec(),
            ..Self::default()
        }
    }

    fn read(&self, field: Field) -> u64 {
        self.asked.borrow_mut().push(field);
        let found = self.values.iter().find(|(own, _)| *own == field);
        found.map_or(0, |(_, value)| *value)
    }

    fn decode(&self, reason: u32) -> Exit {
        decode(reason, |field| self.read(field))
    }
}

fn with(reason: u32, values: &[(Field, u64)]) -> Exit {
    Fields::with(values).decode(reason)
}

/// Reasons of which nothing more is to be known.
const SIMPLE: [(u32, Exit); 27] = [
    (1, Exit::Interrupt),
    (2, Exit::Shutdown),
    (3, Exit::Init),
    (5, Exit::Smi),
    (6, Exit::Smi),
    (7, Exit::InterruptWindow),
    (8, Exit::NmiWindow),
    (9, Exit::TaskSwitch),
    (10, Exit::Cpuid),
    (12, Exit::Hlt),
    (13, Exit::Invd),
    (15, Exit::Rdpmc),
    (16, Exit::Rdtsc),
    (18, Exit::Hypercall),
    (31, Exit::Msr { write: false }),
    (32, Exit::Msr { write: true }),
    (36, Exit::Mwait),
    (39, Exit::Monitor),
    (40, Exit::Pause),
    (43, Exit::InterruptWindow),
    (46, Exit::DescriptorTable),
    (47, Exit::DescriptorTable),
    (51, Exit::Rdtscp),
    (52, Exit::Interrupt),
    (54, Exit::Wbinvd),
    (55, Exit::Xsetbv),
    (ENTRY_FAILED | 33, Exit::Invalid),
];

/// Instructions that the guest does not have.
const FORBIDDEN: [u32; 29] = [
    11, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 57, 58, 59, 60, 61, 63, 64, 65, 67, 68, 69,
    70, 76, 77, 78, 79,
];

/// What we do not ask for, and reasons that there are not.
const UNKNOWN: [u32; 19] = [
    4, 33, 34, 35, 37, 38, 41, 42, 44, 45, 49, 56, 62, 66, 71, 72, 75, 80, 0xffff,
];

#[test]
fn each_reason_has_its_meaning_and_nothing_is_read_for_it() {
    let forbidden = FORBIDDEN.map(|reason| (reason, Exit::Forbidden));
    for (reason, exit) in SIMPLE.into_iter().chain(forbidden) {
        let fields = Fields::default();
        assert_eq!(fields.decode(reason), exit, "{reason}");
        assert_eq!(*fields.asked.borrow(), [], "{reason}");
    }
}

#[test]
fn what_else_the_reason_says_changes_nothing() {
    // In an enclave, a monitor trap waits, out of VMX root operation, bus lock.
    for bit in [26, 27, 28, 29] {
        assert_eq!(with(1 << bit | 10, &[]), Exit::Cpuid);
    }
}

#[test]
fn entries_that_fail() {
    assert_eq!(with(ENTRY_FAILED | 34, &[]), Exit::Invalid);
    let machine_check = Exit::Exception {
        vector: 18,
        error: None,
        address: 0,
    };
    assert_eq!(with(ENTRY_FAILED | 41, &[]), machine_check);
    assert_eq!(with(ENTRY_FAILED, &[]), Exit::Invalid);
}

#[test]
fn reasons_without_a_meaning_are_told_as_they_are() {
    let fields = [(Field::Qualification, 5), (Field::GuestPhysicalAddress, 7)];
    for reason in UNKNOWN {
        let told = Exit::Unknown {
            code: reason.into(),
            name: reason_name(reason),
            info1: 5,
            info2: 7,
        };
        assert_eq!(with(reason, &fields), told);
    }
    assert_eq!(reason_name(49), "EPT misconfiguration");
    assert_eq!(
        reason_name(ENTRY_FAILED | 41),
        "machine check during an entry"
    );
    assert_eq!(reason_name(0), "exception or NMI");
    for reason in [35, 38, 42, 71, 80, 0xffff] {
        assert_eq!(reason_name(reason), NO_REASON);
    }
    let named = (0..80).filter(|reason| reason_name(*reason) != NO_REASON);
    assert_eq!(named.count(), 76);
}

#[test]
fn exceptions_have_what_theirs_is() {
    let exception = |event| {
        with(
            0,
            &[
                (Field::ExitEvent, event),
                (Field::ExitErrorCode, 0xffff_ffff_0000_0018),
                (Field::Qualification, 0x7fff_0000_1234),
            ],
        )
    };
    for vector in (0..32u8).filter(|vector| *vector != 2) {
        let address = if vector == 14 { 0x7fff_0000_1234 } else { 0 };
        for (error, bit) in [(None, 0), (Some(0x18), event::HAS_ERROR)] {
            let expected = Exit::Exception {
                vector,
                error,
                address,
            };
            let event = event::VALID | 3 << 8 | bit | u64::from(vector);
            assert_eq!(exception(event), expected);
        }
    }
    // INT3 is a software exception, INT1 one of a third kind.
    for (kind, vector) in [(6, 3), (5, 1)] {
        let exit = exception(event::VALID | kind << 8 | u64::from(vector));
        assert!(matches!(exit, Exit::Exception { vector: own, .. } if own == vector));
    }
    let nmi = event::VALID | 2 << 8 | 2;
    assert_eq!(exception(nmi), Exit::Nmi);
    assert!(matches!(exception(14), Exit::Unknown { code: 0, .. }));
}

#[test]
fn control_and_debug_registers() {
    let control = |qualification| with(28, &[(Field::Qualification, qualification)]);
    let debug = |qualification| with(29, &[(Field::Qualification, qualification)]);
    for number in 0..16u8 {
        for gpr in 0..16u8 {
            let bits = u64::from(number) | u64::from(gpr) << 8 | 0xf000_0000;
            let access = |write| Exit::CrAccess {
                cr: number,
                write,
                gpr: Some(gpr),
            };
            assert_eq!(control(bits), access(true));
            assert_eq!(control(bits | 1 << 4), access(false));
            let access = |write| Exit::DrAccess {
                dr: number & 7,
                write,
                gpr: Some(gpr),
            };
            assert_eq!(debug(bits & !8), access(true));
            assert_eq!(debug(bits & !8 | 1 << 4), access(false));
        }
    }
    let looked_at = Exit::CrAccess {
        cr: 0,
        write: true,
        gpr: None,
    };
    assert_eq!(control(2 << 4 | 0x300), looked_at, "CLTS");
    assert_eq!(control(3 << 4 | 0xfff0_0000), looked_at, "LMSW");
}

#[test]
fn accesses_to_ports() {
    let port = |qualification| {
        with(
            30,
            &[
                (Field::Qualification, qualification),
                (Field::Rip, 0x2000),
                (Field::InstructionLength, 2),
            ],
        )
    };
    // OUT of a byte to 0x3f8; IN of 4 bytes from 0xcf8; REP INS of 2 bytes from 0xffff; OUTS.
    let cases = [
        (0x03f8_0000, (true, 0x3f8, 1, false, false)),
        (0x0cf8_000b, (false, 0xcf8, 4, false, false)),
        (0xffff_0039, (false, 0xffff, 2, true, true)),
        (0x0080_0010, (true, 0x80, 1, true, false)),
    ];
    for (qualification, (write, number, size, string, rep)) in cases {
        let expected = Exit::Port {
            write,
            port: number,
            size,
            string,
            rep,
            next_rip: 0x2002,
        };
        assert_eq!(port(qualification), expected, "{qualification:#x}");
    }
    for size_bits in [0, 2, 4, 5, 6, 7] {
        assert!(matches!(port(size_bits), Exit::Port { size: 1, .. }));
    }
}

#[test]
fn accesses_to_pages() {
    let address = Some(0xffff_8000);
    let invlpg = with(14, &[(Field::Qualification, 0xffff_8000)]);
    assert_eq!(invlpg, Exit::Invlpg { address });
    for bits in 0..512u64 {
        let any = |mask: u64| bits & mask != 0;
        let expected = Exit::NestedFault {
            address: 0xfee0_0020,
            write: any(1 << 1),
            fetch: any(1 << 2),
            present: any(0b11_1000),
            in_walk: any(1 << 7) && !any(1 << 8),
        };
        let fields = Fields::with(&[
            (Field::Qualification, bits),
            (Field::GuestPhysicalAddress, 0xfee0_0020),
            (Field::LinearAddress, 0x1234),
        ]);
        assert_eq!(fields.decode(48), expected);
        assert_eq!(fields.asked.borrow().len(), 2);
    }
}

#[test]
fn lengths_of_instructions() {
    let length = |exit: Exit, length, event, vectoring| {
        let fields = Fields::with(&[
            (Field::InstructionLength, length),
            (Field::ExitEvent, event),
            (Field::VectoringEvent, vectoring),
        ]);
        instruction_length(&exit, |field| fields.read(field))
    };
    let of = |kind: u64| event::VALID | kind << 8;
    assert_eq!(length(Exit::Cpuid, 2, 0, 0), Some(2));
    assert_eq!(length(Exit::Cpuid, 15, 0, 0), Some(15));
    assert_eq!(length(Exit::Cpuid, 16, 0, 0), None);
    assert_eq!(length(Exit::Cpuid, 0, 0, 0), None);
    assert_eq!(length(Exit::Interrupt, 2, 0, 0), None);
    let breakpoint = with(0, &[(Field::ExitEvent, of(6) | 3)]);
    for kind in 0..8 {
        let software = matches!(kind, 4..=6).then_some(2);
        assert_eq!(length(Exit::TaskSwitch, 2, 0, of(kind)), software);
        assert_eq!(length(Exit::TaskSwitch, 2, of(kind), 0), None);
        assert_eq!(length(breakpoint, 2, of(kind), 0), software);
    }
    assert_eq!(length(Exit::TaskSwitch, 2, 0, 4 << 8), None);
}

#[test]
fn deliveries_that_are_to_be_done_again() {
    let of = |kind: u64, rest: u64| interrupted(event::VALID | kind << 8 | rest, 0x1_0000_0010);
    assert_eq!(of(0, 0x31), Some(Event::interrupt(0x31)));
    assert_eq!(of(2, 2), Some(Event::nmi()));
    assert_eq!(of(3, 1), Some(Event::exception(1, None)));
    let fault = Event::exception(14, Some(0x10));
    assert_eq!(of(3, event::HAS_ERROR | 14), Some(fault));
    // INT n, INT1, INT3: the instruction raises them again.
    for kind in [1, 4, 5, 6, 7] {
        assert_eq!(of(kind, 3), None);
    }
    assert_eq!(interrupted(0x31, 0), None);
}

#[test]
fn error_codes_go_with_their_exceptions_in_protected_mode_alone() {
    for vector in 0..32u8 {
        for error in [None, Some(0xffff_ffe8)] {
            let event = Event::exception(vector, error);
            let word = event::VALID | 3 << 8 | u64::from(vector);
            assert_eq!(encode(event, false), (word, 0));
            let expected = match (vector, error) {
                (8 | 10..=14 | 17, None) => (word | event::HAS_ERROR, 0),
                (8 | 10..=14 | 17, Some(_)) => (word | event::HAS_ERROR, 0xffe8),
                _ => (word, 0),
            };
            assert_eq!(encode(event, true), expected);
        }
    }
    let interrupt = Event::interrupt(14);
    assert_eq!(encode(interrupt, true), (event::VALID | 14, 0));
    assert_eq!(encode(Event::nmi(), true), (event::VALID | 0x202, 0));
    let software = Event {
        kind: EventKind::SoftwareInterrupt,
        vector: 0x80,
        error: None,
    };
    assert_eq!(encode(software, true), (event::VALID | 0x480, 0));
}

#[test]
fn an_iret_that_faults_has_unmasked_nmis_too_early() {
    let bit = event::UNMASKED_BY_IRET;
    let told = |reason, event, qualification, vectoring| {
        let fields = Fields::with(&[
            (Field::ExitEvent, event),
            (Field::Qualification, qualification),
            (Field::VectoringEvent, vectoring),
        ]);
        unmasked_by_iret(&fields.decode(reason), |field| fields.read(field))
    };
    let fault = |vector| event::VALID | 3 << 8 | vector;
    assert!(told(0, fault(17) | bit, 0, 0));
    assert!(!told(0, fault(17), bit, 0));
    assert!(!told(0, fault(8) | bit, 0, 0));
    assert!(!told(0, fault(17) | bit, 0, event::VALID));
    assert!(told(48, 0, bit, 0));
    assert!(!told(48, 0, bit, event::VALID));
    assert!(!told(10, fault(17) | bit, bit, 0));
}

#[test]
fn debug_exceptions_tell_what_dr6_would_have_got() {
    assert_eq!(debug_status(0xffff_0ff1, 1 << 14 | 2), 0xffff_4ff2);
    assert_eq!(debug_status(0xffff_4ff0, 1 << 13), 0xffff_6ff0);
    assert_eq!(debug_status(0xffff_0ff0, 1 << 12 | 1 << 16), 0xffff_0ff0);
}

proptest! {
    #[test]
    fn whatever_the_hardware_says_is_decoded(
        reason in prop_oneof![any::<u32>(), 0u32..90],
        values in prop::collection::vec(any::<u64>(), 8),
    ) {
        let read = |field: Field| values[field as usize % values.len()];
        let exit = decode(reason, read);
        if let Some(length) = instruction_length(&exit, read) {
            prop_assert!((1..=15).contains(&length));
        }
        match exit {
            Exit::CrAccess { cr, gpr, .. } => prop_assert!(cr < 16 && gpr.is_none_or(|g| g < 16)),
            Exit::DrAccess { dr, gpr, .. } => prop_assert!(dr < 8 && gpr.is_none_or(|g| g < 16)),
            Exit::Port { size, .. } => prop_assert!(matches!(size, 1 | 2 | 4)),
            _ => {}
        }
    }

    #[test]
    fn what_is_given_and_interrupted_is_given_again(vector in 3u8..32, error in 0u32..0x1_0000) {
        let error = has_error_code(vector).then_some(error);
        for event in [Event::nmi(), Event::interrupt(vector), Event::exception(vector, error)] {
            let (word, code) = encode(event, true);
            prop_assert_eq!(interrupted(word, code), Some(event));
        }
    }
}
