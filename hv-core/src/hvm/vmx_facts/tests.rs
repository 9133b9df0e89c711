use proptest::prelude::*;

use super::*;

/// A server's processor with all that we have a name for.
pub(crate) fn server() -> Readings {
    let plain = Capabilities {
        pin: 0x0000_00ff_0000_0016,
        primary: 0xfff9_fffe_0401_e172,
        exit: 0x01ff_ffff_0003_6dff,
        entry: 0x0003_ffff_0000_11ff,
    };
    Readings {
        leaf_1_ecx: 1 << 5,
        feature_control: Some(5),
        basic: 0x00da_0400_0000_0004,
        plain,
        exact: Capabilities {
            primary: 0xfff9_fffe_0400_6172,
            exit: 0x01ff_ffff_0003_6dfb,
            entry: 0x0003_ffff_0000_11fb,
            ..plain
        },
        secondary: 0x025f_ffff_0000_0000,
        misc: 0x7004_c1e7,
        cr0_fixed: [0x8000_0021, 0xffff_ffff],
        cr4_fixed: [0x2000, 0x0037_67ff],
        ept_vpid: 0x0f01_0673_4141,
    }
}

fn facts(change: impl FnOnce(&mut Readings)) -> Result<VmxFacts, Absent> {
    let mut readings = server();
    change(&mut readings);
    VmxFacts::of(&readings, &VmxOptions::default())
}

fn lines(facts: &VmxFacts) -> Vec<String> {
    let mut lines = Vec::new();
    facts.lines(|line| lines.push(line.to_string()));
    lines
}

#[test]
fn what_a_server_offers() {
    let facts = facts(|_| {}).unwrap();
    assert_eq!((facts.revision, facts.region_size), (4, 1024));
    assert_eq!((facts.timer_shift, facts.asids()), (7, 65536));
    assert!(facts.has_gib_pages());
    assert_eq!(
        lines(&facts),
        [
            "VMX: Supported advanced features:",
            " - APIC MMIO access virtualisation",
            " - APIC TPR shadow",
            " - Extended Page Tables (EPT)",
            " - Virtual-Processor Identifiers (VPID)",
            " - Virtual NMI",
            " - MSR direct-access bitmap",
            " - Unrestricted Guest",
            " - APIC Register Virtualization",
            " - Virtual Interrupt Delivery",
            " - Posted Interrupt Processing",
            " - VMCS shadowing",
            " - VM Functions",
            " - Virtualisation Exceptions",
            " - Page Modification Logging",
            " - TSC Scaling",
            "HVM: VMX enabled",
            "HVM: Hardware Assisted Paging (HAP) detected",
            "HVM: HAP page sizes: 4kB, 2MB, 1GB",
            "HVM: VMX revision 0x4, 65536 address space identifiers",
        ]
    );
}

/// By the numbers of the bits in the manual, besides those that are always set.
#[test]
fn what_a_vmcs_begins_with() {
    let bits = |list: &[u32]| list.iter().fold(0, |word, bit| word | 1 << bit);
    let Controls {
        pin,
        primary,
        secondary,
        exit,
        entry,
    } = facts(|_| {}).unwrap().controls;
    assert_eq!(pin.bits(), 0x16 | bits(&[0, 3, 5, 6]));
    let always = bits(&[3, 7, 10, 11, 23, 24, 28, 29, 31]);
    assert_eq!(primary.bits(), 0x0400_6172 | always | bits(&[21]));
    assert_eq!(secondary.bits(), bits(&[1, 3, 5, 6, 7, 10, 12, 20]));
    assert_eq!(exit.bits(), 0x0003_6dfb | bits(&[2, 9, 21]));
    assert_eq!(entry.bits(), 0x0000_11fb | bits(&[2, 15]));
}

#[test]
fn instructions_go_with_their_controls() {
    let missing = |bits: u64| -> Vec<Feature> {
        let facts = facts(|r| r.secondary &= !(bits << 32)).unwrap();
        facts.missing_features().collect()
    };
    assert_eq!(missing(0), []);
    assert_eq!(missing(1 << 3), [Feature::RDTSCP, Feature::RDPID]);
    assert_eq!(missing(1 << 12), [Feature::INVPCID]);
    assert_eq!(missing(1 << 20), [Feature::XSAVES]);
}

#[test]
fn why_not() {
    let refused = |change: fn(&mut Readings)| facts(change).unwrap_err();
    assert_eq!(refused(|r| r.leaf_1_ecx = !(1 << 5)), Absent::NotThere);
    for basic in [
        0x00da_0000_0000_0004,
        0x00da_1001_0000_0004,
        0x00db_0400_0000_0004,
        0x00c2_0400_0000_0004,
    ] {
        assert_eq!(facts(|r| r.basic = basic), Err(Absent::Regions));
    }
    assert!(facts(|r| r.basic = 0x00da_1000_0000_0004).is_ok());
    let locked = refused(|r| r.feature_control = Some(1 | 2));
    assert_eq!(
        locked.to_string(),
        "VMX is locked off by the firmware (IA32_FEATURE_CONTROL)"
    );
    let missing = refused(|r| r.secondary &= !(1 << 39));
    assert_eq!(
        missing.to_string(),
        "this processor's VMX has no UNRESTRICTED_GUEST"
    );
    // Without the second set of MSRs, accesses to CR3 are always exits.
    let stuck = refused(|r| r.basic &= !(1 << 55));
    assert_eq!(
        stuck.to_string(),
        "this processor's VMX cannot be without CR3_LOAD_EXITING"
    );
    let options = VmxOptions {
        ept: false,
        ..VmxOptions::default()
    };
    let off = VmxFacts::of(&server(), &options).unwrap_err();
    assert_eq!(
        off.to_string(),
        "nested paging is switched off on the command line (ept)"
    );
}

#[test]
fn a_lock_is_set_where_there_is_none() {
    let after = |value| facts(|r| r.feature_control = value).map(|f| f.feature_control_to_write());
    assert_eq!(after(Some(0)), Ok(Some(5)));
    assert_eq!(after(Some(0x0010_0000)), Ok(Some(0x0010_0005)));
    assert_eq!(after(Some(4)), Ok(Some(5)));
    assert_eq!(after(Some(5)), Ok(None));
    assert_eq!(after(None), Ok(None));
    assert_eq!(after(Some(1)), Err(Absent::LockedOff));
}

/// A word of the readings.
type Word = fn(&mut Readings) -> &mut u64;

const PIN: Word = |r| &mut r.exact.pin;
const PRIMARY: Word = |r| &mut r.exact.primary;
const SECONDARY: Word = |r| &mut r.secondary;
const EXIT: Word = |r| &mut r.exact.exit;
const ENTRY: Word = |r| &mut r.exact.entry;

#[test]
fn each_control_that_is_needed_is_asked_for() {
    let needed: [(Word, &[u32]); 5] = [
        (PIN, &[0, 3, 5]),
        (PRIMARY, &[2, 3, 7, 10, 11, 12, 19, 22, 23, 24, 28, 29, 31]),
        (SECONDARY, &[1, 6, 7]),
        (EXIT, &[2, 9, 21]),
        (ENTRY, &[2, 9, 15]),
    ];
    for (word, bits) in needed {
        for bit in 0..32 {
            let result = facts(|r| *word(r) &= !(1 << (32 + bit) | 1 << bit));
            let missing = matches!(result, Err(Absent::Missing(_)));
            assert_eq!(missing, bits.contains(&bit), "bit {bit}");
        }
    }
    let capabilities: [u32; 5] = [6, 14, 16, 20, 26];
    for bit in 0..64 {
        let result = facts(|r| r.ept_vpid &= !(1 << bit));
        let missing = matches!(result, Err(Absent::Missing(_)));
        assert_eq!(missing, capabilities.contains(&bit), "bit {bit}");
    }
}

#[test]
fn each_control_that_must_go_can() {
    let switched: [(Word, &[u32]); 5] = [
        (PIN, &[]),
        (PRIMARY, &[2, 9, 12, 15, 16, 19, 20, 22, 23]),
        (SECONDARY, &[]),
        (EXIT, &[15]),
        (ENTRY, &[9]),
    ];
    for (word, bits) in switched {
        for bit in 0..32 {
            let result = facts(|r| *word(r) |= 1 << (32 + bit) | 1 << bit);
            let stuck = matches!(result, Err(Absent::Stuck(_)));
            assert_eq!(stuck, bits.contains(&bit), "bit {bit}");
        }
    }
}

#[test]
fn without_a_place_for_cr8_its_accesses_are_exits() {
    let cr8 = Primary::CR8_LOAD_EXITING | Primary::CR8_STORE_EXITING;
    let with = facts(|_| {}).unwrap().controls.primary;
    assert!(!with.intersects(cr8) && with.contains(Primary::TPR_SHADOW));
    let without = facts(|r| r.exact.primary &= !(1 << 53)).unwrap();
    assert!(without.controls.primary.contains(cr8));
    assert!(!without.controls.primary.contains(Primary::TPR_SHADOW));
    assert_eq!(
        facts(|r| r.exact.primary &= !(1 << 53 | 1 << 52)),
        Err(Absent::Missing("CR8_STORE_EXITING"))
    );
}

#[test]
fn tags_need_a_way_to_forget_them() {
    for bit in [32, 42] {
        let facts = facts(|r| r.ept_vpid &= !(1 << bit)).unwrap();
        assert!(!facts.controls.secondary.contains(Secondary::VPID));
        assert!(!facts.offered.secondary.contains(Secondary::VPID));
        assert_eq!(facts.asids(), 1);
    }
    assert_eq!(facts(|r| r.ept_vpid &= !(1 << 41)).unwrap().asids(), 65536);
}

#[test]
fn the_command_line_leaves_things_off() {
    let with = |vpid, apicv| {
        let options = VmxOptions {
            ept: true,
            vpid,
            apicv,
        };
        VmxFacts::of(&server(), &options).unwrap()
    };
    let all = lines(&with(true, true));
    let gone = |facts: &VmxFacts| {
        let left = lines(facts);
        let gone = all.iter().filter(|line| !left.contains(line)).cloned();
        gone.collect::<Vec<_>>()
    };
    let no_vpid = with(false, true);
    assert_eq!(no_vpid.asids(), 1);
    assert_eq!(
        gone(&no_vpid),
        [
            " - Virtual-Processor Identifiers (VPID)",
            "HVM: VMX revision 0x4, 65536 address space identifiers",
        ]
    );
    assert_eq!(
        gone(&with(true, false)),
        [
            " - APIC Register Virtualization",
            " - Virtual Interrupt Delivery",
            " - Posted Interrupt Processing",
        ]
    );
}

#[test]
fn small_pages_are_told_of_too() {
    let facts = facts(|r| r.ept_vpid &= !(1 << 17)).unwrap();
    assert!(!facts.has_gib_pages());
    assert!(lines(&facts).contains(&String::from("HVM: HAP page sizes: 4kB, 2MB")));
}

#[test]
fn a_cpu_with_less_does_not_cover_one_with_more() {
    let first = facts(|_| {}).unwrap();
    assert!(first.covers(&first));
    let less: [fn(&mut Readings); 8] = [
        |r| r.secondary &= !(1 << 42),
        |r| r.exact.pin &= !(1 << 38),
        |r| r.exact.entry &= !(1 << 49),
        |r| r.exact.exit |= 1 << 20,
        |r| r.ept_vpid &= !(1 << 17),
        |r| r.cr4_fixed[1] &= !(1 << 21),
        |r| r.cr0_fixed[0] |= 1 << 16,
        |r| r.ept_vpid &= !(1 << 42),
    ];
    for change in less {
        let other = facts(change).unwrap();
        assert!(!other.covers(&first), "{other:?}");
        assert!(first.covers(&other), "{other:?}");
    }
    let other = facts(|r| r.basic += 1).unwrap();
    assert!(!other.covers(&first) && !first.covers(&other));
    // Each CPU has a lock of its own.
    let unlocked = facts(|r| r.feature_control = Some(0)).unwrap();
    assert!(unlocked.covers(&first) && first.covers(&unlocked));
}

/// What a word can be: the bits that must be set are among those that may be.
fn range(sample: u64) -> impl Strategy<Value = u64> {
    // Mostly as it is, or nothing would ever be allowed.
    let rare = || (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(a, b, c)| a & b & c);
    let none = prop_oneof![Just(0u32), rare()];
    (none, rare()).prop_map(move |(less, more)| {
        let may = (sample >> 32) as u32 & !less;
        let must = (sample as u32 | more) & may;
        u64::from(may) << 32 | u64::from(must)
    })
}

proptest! {
    /// Whatever the processor can do, a value that comes out is one that it takes.
    #[test]
    fn a_value_is_allowed(
        pin in range(server().exact.pin),
        primary in range(server().exact.primary),
        exit in range(server().exact.exit),
        entry in range(server().exact.entry),
        secondary in range(server().secondary),
    ) {
        let exact = Capabilities { pin, primary, exit, entry };
        let Ok(facts) = facts(|r| (r.exact, r.secondary) = (exact, secondary)) else {
            return Ok(());
        };
        let controls = facts.controls;
        for (word, value) in [
            (pin, controls.pin.bits()),
            (primary, controls.primary.bits()),
            (secondary, controls.secondary.bits()),
            (exit, controls.exit.bits()),
            (entry, controls.entry.bits()),
        ] {
            prop_assert_eq!(word as u32 & !value, 0, "must be set");
            prop_assert_eq!(value & !(word >> 32) as u32, 0, "may be set");
        }
        prop_assert!(facts.covers(&facts));
    }

    /// What is in force is what the entry accepts, and of the guest's choice all that can be.
    #[test]
    fn control_registers_conform(guest in any::<u64>()) {
        let facts = facts(|_| {}).unwrap();
        let cr0 = facts.cr0_in_force(guest);
        prop_assert_eq!(cr0 & 0x20, 0x20);
        prop_assert_eq!(cr0 >> 32, 0);
        prop_assert_eq!((cr0 ^ guest) & 0xffff_ffdf, 0);
        prop_assert_eq!(facts.cr0_in_force(cr0), cr0);
        let cr4 = facts.cr4_in_force(guest);
        prop_assert_eq!(cr4, guest & 0x0037_67ff | 0x2000);
        prop_assert_eq!(facts.cr4_in_force(cr4), cr4);
    }
}
