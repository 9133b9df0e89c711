//! Calls on a machine whose heap is used up: each fails in words that the ABI has, and nothing is lost.

use xen_abi::domctl::{self as abi, DomctlMaxVcpus};
use xen_abi::errno::Errno;

use super::domains::{ask, config, create};
use super::fuzz::heap::limited;
use crate::domain::Machine;
use crate::hypercall::testing::Fixture;

/// Makes a call again and again on fresh machines, each time with one more block of memory, until it is done. What
/// `fail` looks at after each failure must be as before. Returns how many blocks it needs.
fn until_done<R>(
    fresh: impl Fn() -> Fixture,
    mut call: impl FnMut(&mut Fixture) -> Result<R, Errno>,
    left: impl Fn(&Fixture) -> Vec<u64>,
) -> usize {
    for blocks in 0.. {
        let mut f = fresh();
        let before = left(&f);
        match limited(blocks, || call(&mut f)) {
            Ok(_) => return blocks,
            Err(why) => assert_eq!(why, Errno::ENOMEM, "with {blocks} blocks"),
        }
        assert_eq!(left(&f), before, "with {blocks} blocks");
        assert!(call(&mut f).is_ok(), "it can be had later");
    }
    unreachable!()
}

fn free_pages(f: &Fixture) -> Vec<u64> {
    let ids = f.hv.domains().map(|d| u64::from(d.id));
    ids.chain([f.machine.free_pages()]).collect()
}

#[test]
fn a_domain_is_made_or_not() {
    let make = |f: &mut Fixture| create(f, 7, &config());
    let blocks = until_done(Fixture::control, make, free_pages);
    assert!(blocks >= 4, "{blocks} blocks");
}

#[test]
fn vcpus_are_made_or_not() {
    let fresh = || {
        let mut f = Fixture::control();
        create(&mut f, 7, &config()).unwrap();
        f
    };
    let make = |f: &mut Fixture| {
        let vcpus = DomctlMaxVcpus { max: 2 };
        ask(f, abi::XEN_DOMCTL_max_vcpus, 7, &vcpus)
    };
    assert!(until_done(fresh, make, free_pages) >= 3);
}
