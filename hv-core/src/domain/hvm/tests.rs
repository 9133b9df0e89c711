use proptest::prelude::*;
use xen_abi::errno::Errno;
use xen_abi::hvm_op::*;

use super::*;

#[test]
fn a_guest_sets_what_is_its_own() {
    let hvm = HvmDomain::new();
    let vector = HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 0xf3;
    hvm.set(HVM_PARAM_CALLBACK_IRQ, vector, Setter::Guest)
        .unwrap();
    assert_eq!(hvm.callback(), vector);
    for index in [
        HVM_PARAM_STORE_PFN,
        HVM_PARAM_CONSOLE_PFN,
        HVM_PARAM_IOREQ_PFN,
        HVM_PARAM_TIMER_MODE,
        HVM_PARAM_TRIPLE_FAULT_REASON,
        HVM_PARAM_ALTP2M,
    ] {
        assert_eq!(hvm.set(index, 0, Setter::Guest), Err(Errno::EPERM));
    }
    hvm.set(HVM_PARAM_STORE_PFN, 0xfeffc, Setter::Tool).unwrap();
    assert_eq!(hvm.get(HVM_PARAM_STORE_PFN, Setter::Guest), Ok(0xfeffc));
    assert_eq!(
        hvm.get(HVM_PARAM_TRIPLE_FAULT_REASON, Setter::Guest),
        Err(Errno::EPERM)
    );
    assert_eq!(hvm.get(HVM_PARAM_TRIPLE_FAULT_REASON, Setter::Tool), Ok(1));
}

#[test]
fn some_are_set_once() {
    let hvm = HvmDomain::new();
    let set = |value| hvm.set(HVM_PARAM_IOREQ_PFN, value, Setter::Tool);
    assert_eq!(set(0), Ok(()));
    assert_eq!(set(5), Ok(()));
    assert_eq!(set(5), Ok(()));
    assert_eq!(set(6), Err(Errno::EEXIST));
    assert_eq!(set(0), Err(Errno::EEXIST));
    assert_eq!(hvm.param(HVM_PARAM_IOREQ_PFN), 5);
}

#[test]
fn what_is_not_there_is_not_promised() {
    let hvm = HvmDomain::new();
    for (index, good, bad) in [
        (HVM_PARAM_TIMER_MODE, 3, 4),
        (HVM_PARAM_TRIPLE_FAULT_REASON, 5, 6),
        (HVM_PARAM_X87_FIP_WIDTH, 4, 5),
        (HVM_PARAM_NR_IOREQ_SERVER_PAGES, 64, 65),
        (HVM_PARAM_VIRIDIAN, 0, 1),
        (HVM_PARAM_ALTP2M, 0, 1),
        (HVM_PARAM_MCA_CAP, 0, 1),
        (HVM_PARAM_ACPI_S_STATE, 0, 3),
    ] {
        assert_eq!(hvm.set(index, good, Setter::Tool), Ok(()), "{index}");
        let refused = hvm.set(index, bad, Setter::Tool);
        assert!(
            matches!(refused, Err(Errno::EINVAL | Errno::EEXIST)),
            "{index}"
        );
        assert_eq!(hvm.param(index), good);
    }
}

proptest! {
    /// Whatever is tried: a guest changes nothing but what is its own, and a value that was refused is not there.
    #[test]
    fn a_guest_reaches_no_other_parameter(
        tries in prop::collection::vec((0..HVM_NR_PARAMS + 3, any::<u64>(), any::<bool>()), 1..60),
    ) {
        const OWN: [u32; 7] = [
            HVM_PARAM_CALLBACK_IRQ,
            HVM_PARAM_STORE_EVTCHN,
            HVM_PARAM_CONSOLE_EVTCHN,
            HVM_PARAM_VM86_TSS,
            HVM_PARAM_VM86_TSS_SIZED,
            HVM_PARAM_VM_GENERATION_ID_ADDR,
            HVM_PARAM_X87_FIP_WIDTH,
        ];
        let hvm = HvmDomain::new();
        for (index, value, guest) in tries {
            let by = if guest { Setter::Guest } else { Setter::Tool };
            let before = hvm.param(index);
            let done = hvm.set(index, value, by);
            prop_assert!(!guest || done.is_err() || OWN.contains(&index));
            let expected = if done.is_ok() { value } else { before };
            prop_assert_eq!(hvm.param(index), expected);
            if index >= HVM_NR_PARAMS {
                prop_assert_eq!(done, Err(Errno::EINVAL));
                prop_assert_eq!(hvm.get(index, by), Err(Errno::EINVAL));
            }
        }
        prop_assert!(hvm.triple_fault_reason() <= SHUTDOWN_MAX);
    }
}
