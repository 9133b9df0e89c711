//! Calls with arguments and memory that nobody means: no panic, no call without end.

use proptest::prelude::*;
use xen_abi::hypercall as nr;
use xen_abi::{domctl, mca, platform, sysctl};

use super::fuzz::heap::limited;
use crate::hypercall::Outcome;
use crate::hypercall::testing::{Fixture, GUEST, GUEST_SIZE, NOWHERE};

/// An address: mostly good, also at the end of memory and outside.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..0x40u64).prop_map(|i| GUEST + i * 64),
        1 => (0..200u64).prop_map(|i| GUEST + GUEST_SIZE as u64 - i),
        1 => prop_oneof![Just(0), Just(NOWHERE), Just(u64::MAX), Just(u64::MAX - 100)],
    ]
}

/// A word as guests like to send it: small, an address, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20u64,
        address(),
        any::<u64>(),
        any::<u32>().prop_map(u64::from)
    ]
}

/// Blocks of memory that a call gets; often few.
fn blocks() -> impl Strategy<Value = usize> {
    prop_oneof![Just(usize::MAX), 0..4usize]
}

/// A call: the number, the header that its request needs, and how arguments are placed.
fn call() -> impl Strategy<Value = (u32, Option<u32>)> {
    prop_oneof![
        Just((
            nr::__HYPERVISOR_sysctl,
            Some(sysctl::XEN_SYSCTL_INTERFACE_VERSION)
        )),
        Just((
            nr::__HYPERVISOR_domctl,
            Some(domctl::XEN_DOMCTL_INTERFACE_VERSION)
        )),
        Just((
            nr::__HYPERVISOR_platform_op,
            Some(platform::XENPF_INTERFACE_VERSION)
        )),
        Just((nr::__HYPERVISOR_mca, Some(mca::XEN_MCA_INTERFACE_VERSION))),
        Just((nr::__HYPERVISOR_xen_version, None)),
        Just((nr::__HYPERVISOR_console_io, None)),
        Just((nr::__HYPERVISOR_grant_table_op, None)),
        Just((nr::__HYPERVISOR_event_channel_op, None)),
        Just((nr::__HYPERVISOR_hypfs_op, None)),
        Just((nr::__HYPERVISOR_dm_op, None)),
        Just((nr::__HYPERVISOR_memory_op, None)),
        Just((nr::__HYPERVISOR_mmu_update, None)),
        Just((nr::__HYPERVISOR_mmuext_op, None)),
        Just((nr::__HYPERVISOR_physdev_op, None)),
        Just((nr::__HYPERVISOR_sched_op, None)),
        Just((nr::__HYPERVISOR_vcpu_op, None)),
        Just((nr::__HYPERVISOR_multicall, None)),
        Just((nr::__HYPERVISOR_xenpmu_op, None)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_requests_are_answered(
        is_control in any::<bool>(),
        calls in prop::collection::vec(
            (call(), 0..90u32, address(), prop::collection::vec(word(), 24), 1..4u32, blocks()),
            1..12,
        ),
    ) {
        let mut f = if is_control { Fixture::control() } else { Fixture::guest() };
        f.add(5);
        for ((number, version), cmd, at, words, patience, blocks) in calls {
            f.put(GUEST, words.as_slice());
            let args = match version {
                Some(version) => {
                    f.put(GUEST, &[cmd, version]);
                    [GUEST, 0, 0, 0, 0, 0]
                }
                None => [cmd.into(), at, words[0], words[1], words[2], words[3]],
            };
            f.host.preempt_every(patience);
            // A batch of two thousand million elements never ends here; a few steps are enough.
            let mut now = args;
            for _ in 0..50 {
                match limited(blocks, || f.call_once(number, now)) {
                    Ok(Outcome::Restart(again)) => now = again,
                    _ => break,
                }
            }
        }
    }
}
