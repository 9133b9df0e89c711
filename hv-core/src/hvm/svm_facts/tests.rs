use super::*;

/// The emulator's processor: revision 1, 16 tags, nested paging, virtual GIF, VMCB address check.
fn emulated() -> Readings {
    Readings {
        amd: true,
        last_leaf: 0x8000_000a,
        extended_ecx: 0x0000_0006,
        svm: [1, 16, 0, 1 | 1 << 16 | 1 << 28],
        vm_cr: Some(0),
    }
}

#[test]
fn what_the_emulator_offers() {
    let facts = SvmFacts::of(&emulated()).unwrap();
    assert_eq!((facts.revision, facts.asids), (1, 16));
    assert_eq!(
        facts.features,
        Features::NESTED_PAGING | Features::VIRTUAL_GIF | Features::VMCB_ADDRESS_CHECK
    );
    let mut lines = Vec::new();
    facts.lines(|line| lines.push(line.to_string()));
    assert_eq!(
        lines,
        [
            "SVM: Supported advanced features:",
            " - Nested Page Tables (NPT)",
            " - Virtual GIF",
            " - VMCB address check",
            "HVM: SVM enabled",
            "HVM: Hardware Assisted Paging (HAP) detected",
            "HVM: SVM revision 1, 16 address space identifiers",
        ]
    );
}

#[test]
fn why_not() {
    let refused = |change: fn(&mut Readings)| {
        let mut readings = emulated();
        change(&mut readings);
        SvmFacts::of(&readings).unwrap_err()
    };
    assert_eq!(refused(|r| r.amd = false), Absent::Vendor);
    assert_eq!(refused(|r| r.last_leaf = 0x8000_0008), Absent::NotThere);
    assert_eq!(refused(|r| r.extended_ecx &= !4), Absent::NotThere);
    assert_eq!(refused(|r| r.svm[3] &= !1), Absent::NoNestedPaging);
    assert_eq!(refused(|r| r.svm[1] = 1), Absent::NoAsid);
    let locked = refused(|r| r.vm_cr = Some(0x18));
    assert_eq!(
        locked.to_string(),
        "SVM is locked off by the firmware (VM_CR.SVMDIS)"
    );
    let off = refused(|r| r.vm_cr = Some(0x10));
    assert_eq!(
        off.to_string(),
        "SVM is switched off by the firmware (VM_CR.SVMDIS)"
    );
}

#[test]
fn a_lock_alone_disables_nothing() {
    for vm_cr in [None, Some(0x08)] {
        let readings = Readings {
            vm_cr,
            ..emulated()
        };
        assert!(SvmFacts::of(&readings).is_ok());
    }
}

#[test]
fn a_cpu_with_less_does_not_cover_one_with_more() {
    let first = SvmFacts::of(&emulated()).unwrap();
    let mut other = first;
    assert!(other.covers(&first));
    other.features |= Features::NEXT_RIP;
    other.asids = 32;
    assert!(other.covers(&first) && !first.covers(&other));
    other.features = Features::NESTED_PAGING;
    assert!(!other.covers(&first));
}
