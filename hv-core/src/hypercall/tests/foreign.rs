//! Memory across domains: dom0 builds one, maps its pages, and takes it apart.

use std::sync::atomic::Ordering;

use xen_abi::GuestHandle;
use xen_abi::domctl as abi;
use xen_abi::errno::Errno;
use xen_abi::hypercall::*;
use xen_abi::memory::*;
use xen_abi::xen::*;
use zerocopy::{Immutable, IntoBytes};

use super::domctl::{op, plain};
use crate::base::Mfn;
use crate::domain::{Hypervisor, Machine};
use crate::hypercall::destroy::destroy;
use crate::hypercall::testing::{FakeHost, FakeMachine, Fixture, GUEST, MAX_PAGES, NOWHERE};
use crate::hypercall::{AnyState, Ctx, Host};
use crate::mm::{Owner, PageType, PtResult, Stop};
use crate::pv::frame::GuestFrame;
use crate::pv::state::PvState;

/// Where lists are.
const LIST: u64 = GUEST + 0x1000;
/// The domain that dom0 builds.
const BUILT: u16 = 1;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;

fn memory<T: IntoBytes + Immutable>(f: &mut Fixture, cmd: u32, value: &T) -> Result<u64, Errno> {
    f.put(GUEST, value);
    f.call(__HYPERVISOR_memory_op, &[cmd.into(), GUEST])
}

/// Gives `BUILT` pages at guest frames from `first` on; returns how many extents were done, and the frames.
fn populate(f: &mut Fixture, first: u64, extents: u64, order: u32) -> (u64, Vec<u64>) {
    for n in 0..extents {
        f.put(LIST + 8 * n, &(first + (n << order)));
    }
    let request = MemoryReservation {
        extent_start: GuestHandle::new(LIST),
        nr_extents: extents,
        extent_order: order,
        domid: BUILT,
        ..MemoryReservation::default()
    };
    let done = memory(f, XENMEM_populate_physmap, &request).unwrap();
    (done, (0..done).map(|n| f.get(LIST + 8 * n)).collect())
}

/// One mmu_update; `tables` and `pages` are the halves of the foreign domain.
fn update(f: &mut Fixture, ptr: u64, val: u64, tables: u16, pages: u16) -> Result<u64, Errno> {
    f.put(GUEST, &MmuUpdate { ptr, val });
    let high = if tables == DOMID_SELF {
        0
    } else {
        u64::from(tables) + 1
    };
    let foreign = high << 16 | u64::from(pages);
    f.call(__HYPERVISOR_mmu_update, &[GUEST, 1, 0, foreign])
}

fn extended(f: &mut Fixture, cmd: u32, mfn: u64, of: u16) -> Result<u64, Errno> {
    let op = MmuextOp {
        cmd,
        arg1: mfn,
        ..MmuextOp::default()
    };
    f.put(GUEST, &op);
    f.call(__HYPERVISOR_mmuext_op, &[GUEST, 1, 0, of.into()])
}

/// A pinned, empty L1 table of dom0.
fn own_table(f: &mut Fixture) -> u64 {
    let table = f.machine.page_of(0);
    extended(f, MMUEXT_PIN_L1_TABLE, table.0, DOMID_SELF).unwrap();
    table.0
}

fn pages(f: &Fixture) -> u64 {
    let domain = f.hv.domain(BUILT).expect("it is in the list");
    domain.pages.load(Ordering::Relaxed)
}

#[test]
fn a_domain_is_given_memory_and_it_all_comes_back() {
    let mut f = Fixture::control();
    let table = own_table(&mut f);
    let free = f.machine.free_pages();
    for patience in [u32::MAX, 1, 3] {
        f.add(BUILT);
        f.host.preempt_every(patience);
        let (done, blocks) = populate(&mut f, 0x40, 3, 3);
        assert_eq!((done, pages(&f)), (3, 24));
        for (n, first) in blocks.iter().enumerate() {
            assert_eq!(first % 8, 0);
            for page in 0..8 {
                let gfn = f.machine.m2p(Mfn(first + page));
                assert_eq!(gfn, 0x40 + 8 * n as u64 + page);
            }
        }
        // One is mapped by dom0, writable; the domain has a table in which another one is.
        let (shown, other, l1) = (blocks[0], blocks[1], blocks[2]);
        let map = |f: &mut Fixture, entry| update(f, table << 12, entry, DOMID_SELF, BUILT);
        map(&mut f, shown << 12 | P | RW | US).unwrap();
        update(&mut f, l1 << 12, other << 12 | P | US, BUILT, BUILT).unwrap();
        extended(&mut f, MMUEXT_PIN_L1_TABLE, l1, BUILT).unwrap();
        update(&mut f, (l1 << 12) + 8, other << 12 | P | US, BUILT, BUILT).unwrap();
        plain(&mut f, abi::XEN_DOMCTL_destroydomain, BUILT).unwrap();
        // It is a zombie for the sake of that page, and gets no more.
        assert_eq!(pages(&f), 1);
        let info = abi::DomctlGetDomainInfo::default();
        let info = op(&mut f, abi::XEN_DOMCTL_getdomaininfo, BUILT, info).unwrap();
        assert_eq!((info.tot_pages, info.flags & 1), (1, 1));
        assert_eq!(populate(&mut f, 0, 1, 0).0, 0);
        assert_eq!(f.machine.free_pages(), free - 1);
        f.hv.forget_dead();
        assert_eq!(pages(&f), 1);
        map(&mut f, 0).unwrap();
        f.hv.forget_dead();
        assert!(f.hv.domain(BUILT).is_none());
        assert_eq!(f.machine.free_pages(), free);
    }
}

#[test]
fn a_dying_domain_gets_no_pins() {
    let mut f = Fixture::control();
    let table = own_table(&mut f);
    f.add(BUILT);
    let (_, list) = populate(&mut f, 0, 2, 0);
    update(
        &mut f,
        table << 12,
        list[0] << 12 | P | US,
        DOMID_SELF,
        BUILT,
    )
    .unwrap();
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, BUILT).unwrap();
    let pinned = extended(&mut f, MMUEXT_PIN_L1_TABLE, list[0], BUILT);
    assert_eq!(pinned, Err(Errno::EINVAL));
    let state = f.machine.frame_of(Mfn(list[0])).type_state();
    assert_eq!((state.count(), state.is_pinned()), (0, false));
    let again = (table << 12) + 8;
    let mapped = update(&mut f, again, list[0] << 12 | P | US, DOMID_SELF, BUILT);
    assert!(
        mapped.is_ok(),
        "another mapping of what is mapped: {mapped:?}"
    );
    update(&mut f, again, 0, DOMID_SELF, BUILT).unwrap();
    update(&mut f, table << 12, 0, DOMID_SELF, BUILT).unwrap();
    f.hv.forget_dead();
    assert!(f.hv.domain(BUILT).is_none());
}

/// dom0's second vCPU, on a CPU of its own, destroys a domain as far as it gets.
fn destroy_elsewhere(hv: &'static Hypervisor, machine: &'static FakeMachine) -> PtResult {
    let (host, domain) = (FakeHost::new(machine), hv.domain(0).unwrap());
    let mut state = PvState::at_reset(host.fpu_lines()).unwrap();
    let mut cx = Ctx {
        hv,
        host: &host,
        domain: &domain,
        vcpu: &domain.vcpus()[1],
        state: AnyState::Pv(&mut state),
        regs: &mut GuestFrame::default(),
    };
    destroy(&mut cx, &hv.domain(BUILT).unwrap())
}

/// dom0 works on a domain's tables by a call that is interrupted, while another CPU destroys it: between the two parts
/// of a table, below a frame that is busy, lies one that the end has looked at already.
fn tables_of_one_that_dies(call: fn(&mut Fixture, &[u64]) -> Result<u64, Errno>) {
    let mut f = Fixture::control();
    let table = own_table(&mut f);
    let free = f.machine.free_pages();
    f.add(BUILT);
    // A level 3 table with two of level 2, which share two of level 1. The domain's end looks at the last one first.
    let (_, list) = populate(&mut f, 0, 8, 0);
    let fill = |f: &Fixture, at: usize, slot: usize, to: u64| {
        let words = f.machine.words(Mfn(list[at]));
        words[slot].store(list[to as usize] << 12 | P | RW | US, Ordering::Relaxed);
    };
    for (at, slot, to) in [
        (0, 0, 1),
        (0, 1, 7),
        (1, 0, 2),
        (1, 1, 3),
        (7, 0, 2),
        (7, 1, 3),
    ] {
        fill(&f, at, slot, to);
    }
    // dom0 has it mapped, so it outlives the look.
    let shown = list[7] << 12 | P | US;
    update(&mut f, table << 12, shown, DOMID_SELF, BUILT).unwrap();
    let (hv, machine, upper) = (f.hv, f.machine, Mfn(list[1]));
    let mut dead = false;
    f.host.meanwhile(Some(Box::new(move || {
        let state = machine.frame_of(upper).type_state();
        let first_done = !state.is_busy() && state.count() == 1;
        if first_done && !dead {
            dead = true;
            assert_eq!(destroy_elsewhere(hv, machine), Err(Stop::Restart));
            return false;
        }
        dead
    })));
    assert_eq!(call(&mut f, &list), Err(Errno::EINVAL));
    f.host.meanwhile(None);
    assert!(f.hv.domain(BUILT).unwrap().is_dying());
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, BUILT).unwrap();
    update(&mut f, table << 12, 0, DOMID_SELF, BUILT).unwrap();
    f.hv.forget_dead();
    assert!(f.hv.domain(BUILT).is_none(), "a frame is kept");
    assert_eq!(f.machine.free_pages(), free);
}

#[test]
fn a_pin_that_meets_the_end_of_the_domain_leaves_nothing() {
    tables_of_one_that_dies(|f, list| extended(f, MMUEXT_PIN_L3_TABLE, list[0], BUILT));
}

#[test]
fn an_update_that_meets_the_end_of_the_domain_leaves_nothing() {
    tables_of_one_that_dies(|f, list| {
        // An empty table of level 4 is in use; the entry to come leads to the one of level 3.
        extended(f, MMUEXT_PIN_L4_TABLE, list[6], BUILT).unwrap();
        let entry = list[0] << 12 | P | RW | US;
        update(f, list[6] << 12, entry, BUILT, BUILT)
    });
}

#[test]
fn only_the_control_domain_touches_others() {
    let mut f = Fixture::guest();
    f.add(2);
    let theirs = f.machine.page_of(2).0;
    let table = f.machine.page_of(1).0;
    extended(&mut f, MMUEXT_PIN_L1_TABLE, table, DOMID_SELF).unwrap();
    for (tables, pages) in [(DOMID_SELF, 2), (2, 2), (2, DOMID_SELF), (DOMID_SELF, 0)] {
        let mapped = update(&mut f, table << 12, theirs << 12 | P | US, tables, pages);
        assert_eq!(mapped, Err(Errno::EPERM));
        let known = update(&mut f, theirs << 12 | MMU_MACHPHYS_UPDATE, 5, tables, pages);
        assert_eq!(known, Err(Errno::EPERM));
    }
    let unnamed = update(
        &mut f,
        table << 12,
        theirs << 12 | P | US,
        DOMID_SELF,
        DOMID_SELF,
    );
    assert_eq!(unnamed, Err(Errno::EBUSY));
    assert_eq!(
        extended(&mut f, MMUEXT_PIN_L1_TABLE, theirs, 2),
        Err(Errno::EPERM)
    );
    let asked = MemoryReservation {
        nr_extents: 1,
        domid: 2,
        ..MemoryReservation::default()
    };
    for cmd in [
        XENMEM_populate_physmap,
        XENMEM_increase_reservation,
        XENMEM_decrease_reservation,
    ] {
        assert_eq!(memory(&mut f, cmd, &asked), Ok(0));
    }
    let of = MemoryDomain { domid: 2 };
    assert_eq!(
        memory(&mut f, XENMEM_current_reservation, &of),
        Err(Errno::EPERM)
    );
    assert_eq!(f.machine.frame_of(Mfn(theirs)).owner(), Owner::Domain(2));
}

#[test]
fn the_m2p_of_another_domain_is_written_by_name() {
    let mut f = Fixture::control();
    f.add(BUILT);
    let (_, list) = populate(&mut f, 7, 1, 0);
    let at = list[0] << 12 | MMU_MACHPHYS_UPDATE;
    assert_eq!(
        update(&mut f, at, 99, DOMID_SELF, DOMID_SELF),
        Err(Errno::EINVAL)
    );
    assert_eq!(f.machine.m2p(Mfn(list[0])), 7);
    assert_eq!(update(&mut f, at, 99, DOMID_SELF, BUILT), Ok(0));
    assert_eq!(f.machine.m2p(Mfn(list[0])), 99);
}

#[test]
fn pages_of_another_domain_are_cleared_and_copied() {
    let mut f = Fixture::control();
    f.add(BUILT);
    let (_, list) = populate(&mut f, 0, 2, 0);
    let own = f.machine.page_of(0).0;
    let word = |f: &Fixture, mfn| f.machine.words(Mfn(mfn))[9].load(Ordering::Relaxed);
    f.machine.words(Mfn(list[0]))[9].store(7, Ordering::Relaxed);
    let copy = |f: &mut Fixture, to, from| {
        let op = MmuextOp {
            cmd: MMUEXT_COPY_PAGE,
            arg1: to,
            arg2: from,
            ..MmuextOp::default()
        };
        f.put(GUEST, &op);
        f.call(__HYPERVISOR_mmuext_op, &[GUEST, 1, 0, BUILT.into()])
    };
    assert_eq!(copy(&mut f, list[1], list[0]), Ok(0));
    assert_eq!((word(&f, list[0]), word(&f, list[1])), (7, 7));
    // Only pages of the domain that is named.
    assert_eq!(copy(&mut f, own, list[0]), Err(Errno::EINVAL));
    assert_eq!(copy(&mut f, list[0], own), Err(Errno::EINVAL));
    assert_eq!(extended(&mut f, MMUEXT_CLEAR_PAGE, list[0], BUILT), Ok(0));
    assert_eq!((word(&f, list[0]), word(&f, list[1])), (0, 7));
    let flush = extended(&mut f, MMUEXT_TLB_FLUSH_LOCAL, 0, BUILT);
    assert_eq!(flush, Err(Errno::EPERM));
}

#[test]
fn claims_are_kept_for_those_who_made_them() {
    let mut f = Fixture::control();
    let claim = |f: &mut Fixture, domid, nr_extents| {
        let request = MemoryReservation {
            nr_extents,
            domid,
            ..MemoryReservation::default()
        };
        memory(f, XENMEM_claim_pages, &request)
    };
    let built = f.add(BUILT);
    let other = f.add(2);
    let free = f.machine.free_pages();
    assert_eq!(claim(&mut f, BUILT, MAX_PAGES + 1), Err(Errno::EINVAL));
    assert_eq!(claim(&mut f, BUILT, 40), Ok(0));
    assert_eq!(claim(&mut f, BUILT, 41), Err(Errno::EINVAL));
    assert_eq!((f.machine.claimed(), f.machine.free_pages()), (40, free));
    other.max_pages.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(claim(&mut f, 2, free - 39), Err(Errno::ENOMEM));
    // The rest is for the taking, no more.
    let take = |f: &mut Fixture, domid, nr_extents| {
        let request = MemoryReservation {
            nr_extents,
            domid,
            ..MemoryReservation::default()
        };
        memory(f, XENMEM_increase_reservation, &request)
    };
    assert_eq!(take(&mut f, 2, free), Ok(free - 40));
    assert_eq!(take(&mut f, BUILT, 10), Ok(10));
    assert_eq!(f.machine.claimed(), 30);
    // What the domain gets counts, and what it cannot get is put back.
    assert_eq!(populate(&mut f, 0, 1, 6).0, 0);
    assert_eq!(
        (f.machine.claimed(), built.claim.load(Ordering::Relaxed)),
        (30, 30)
    );
    let info = abi::DomctlGetDomainInfo::default();
    let info = op(&mut f, abi::XEN_DOMCTL_getdomaininfo, BUILT, info).unwrap();
    assert_eq!((info.tot_pages, info.outstanding_pages), (10, 30));
    assert_eq!(claim(&mut f, BUILT, 0), Ok(0));
    assert_eq!(f.machine.claimed(), 0);
    assert_eq!(claim(&mut f, BUILT, 10), Err(Errno::EINVAL));
    assert_eq!(claim(&mut f, BUILT, 20), Ok(0));
    assert_eq!(f.machine.claimed(), 10);
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, BUILT).unwrap();
    assert_eq!(f.machine.claimed(), 0);
}

#[test]
fn frames_are_told_by_what_they_are() {
    let mut f = Fixture::control();
    let domain = f.add(BUILT);
    let (_, list) = populate(&mut f, 0, 4, 0);
    extended(&mut f, MMUEXT_PIN_L1_TABLE, list[1], BUILT).unwrap();
    update(
        &mut f,
        list[2] << 12,
        list[1] << 12 | P | RW | US,
        BUILT,
        BUILT,
    )
    .unwrap();
    extended(&mut f, MMUEXT_PIN_L2_TABLE, list[2], BUILT).unwrap();
    extended(&mut f, MMUEXT_UNPIN_TABLE, list[1], BUILT).unwrap();
    let strange = [f.machine.page_of(0).0, u64::MAX, domain.shared_info.0];
    let asked: Vec<u64> = list.iter().copied().chain(strange).collect();
    f.put(LIST, asked.as_slice());
    let request = |num| abi::DomctlGetPageFrameInfo3 {
        num,
        array: GuestHandle::new(LIST),
    };
    let cmd = abi::XEN_DOMCTL_getpageframeinfo3;
    op(&mut f, cmd, BUILT, request(asked.len() as u64)).unwrap();
    let told: Vec<u64> = (0..7).map(|n| f.get(LIST + 8 * n)).collect();
    let none = abi::XEN_DOMCTL_PFINFO_XTAB;
    let l2 = abi::XEN_DOMCTL_PFINFO_L2TAB | abi::XEN_DOMCTL_PFINFO_LPINTAB;
    let expected = [0, abi::XEN_DOMCTL_PFINFO_L1TAB, l2, 0, none, none, none];
    assert_eq!(told, expected.map(u64::from));
    assert_eq!(op(&mut f, cmd, BUILT, request(1025)), Err(Errno::E2BIG));
    assert_eq!(op(&mut f, cmd, 77, request(1)), Err(Errno::ESRCH));
    let nowhere = abi::DomctlGetPageFrameInfo3 {
        num: 1,
        array: GuestHandle::new(NOWHERE),
    };
    assert_eq!(op(&mut f, cmd, BUILT, nowhere), Err(Errno::EFAULT));
    // A table that nobody uses any more is a page like others.
    extended(&mut f, MMUEXT_UNPIN_TABLE, list[2], BUILT).unwrap();
    let frame = f.machine.frame_of(Mfn(list[2]));
    assert_eq!(frame.type_state().page_type(), PageType::L2);
    f.put(LIST, &list[2]);
    op(&mut f, cmd, BUILT, request(1)).unwrap();
    assert_eq!(f.get::<u64>(LIST), 0);
}

#[test]
fn the_log_of_written_pages_names_all() {
    let mut f = Fixture::control();
    f.add(BUILT);
    populate(&mut f, 0, 4, 0);
    let bits = 20_000;
    let ask = |f: &mut Fixture, domain, op_code, mode| {
        let request = abi::DomctlShadowOp {
            op: op_code,
            mode,
            dirty_bitmap: GuestHandle::new(LIST),
            pages: bits,
            ..abi::DomctlShadowOp::default()
        };
        op(f, abi::XEN_DOMCTL_shadow_op, domain, request)
    };
    let off = abi::XEN_DOMCTL_SHADOW_OP_OFF;
    let on = abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    let clean = abi::XEN_DOMCTL_SHADOW_OP_CLEAN;
    let fails = |r: Result<abi::DomctlShadowOp, Errno>| r.unwrap_err();
    assert_eq!(fails(ask(&mut f, BUILT, off, 0)), Errno::EINVAL);
    assert_eq!(fails(ask(&mut f, BUILT, clean, 0)), Errno::EINVAL);
    assert_eq!(fails(ask(&mut f, 0, on, 0)), Errno::EINVAL);
    let shadow = abi::XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION;
    assert_eq!(fails(ask(&mut f, BUILT, shadow, 0)), Errno::EOPNOTSUPP);
    ask(&mut f, BUILT, on, 0).unwrap();
    assert_eq!(fails(ask(&mut f, BUILT, on, 0)), Errno::EINVAL);
    assert_eq!(fails(ask(&mut f, BUILT, clean, 2)), Errno::EINVAL);
    for patience in [u32::MAX, 1, 2] {
        f.host.preempt_every(patience);
        f.put(LIST, [0_u8; 2501].as_slice());
        let told = ask(&mut f, BUILT, clean, 1).unwrap();
        assert_eq!((told.pages, told.stats.dirty_count), (bits, 4));
        assert!((0..2500).all(|n| f.get::<u8>(LIST + n) == 0xff));
        assert_eq!(f.get::<u8>(LIST + 2500), 0);
    }
    f.host.preempt_every(u32::MAX);
    let lost = abi::DomctlShadowOp {
        op: clean,
        dirty_bitmap: GuestHandle::new(NOWHERE),
        pages: bits,
        ..abi::DomctlShadowOp::default()
    };
    let told = op(&mut f, abi::XEN_DOMCTL_shadow_op, BUILT, lost);
    assert_eq!(fails(told), Errno::EFAULT);
    ask(&mut f, BUILT, off, 0).unwrap();
    assert_eq!(fails(ask(&mut f, BUILT, clean, 0)), Errno::EINVAL);
}

#[test]
fn an_exchange_for_another_domain_keeps_its_account() {
    let mut f = Fixture::control();
    let domain = f.add(BUILT);
    let (_, old) = populate(&mut f, 0x10, 4, 0);
    let free = f.machine.free_pages();
    let out = LIST + 0x100;
    let request = MemoryExchange {
        r#in: MemoryReservation {
            extent_start: GuestHandle::new(LIST),
            nr_extents: 4,
            domid: BUILT,
            ..MemoryReservation::default()
        },
        out: MemoryReservation {
            extent_start: GuestHandle::new(out),
            nr_extents: 1,
            extent_order: 2,
            domid: BUILT,
            ..MemoryReservation::default()
        },
        nr_exchanged: 0,
    };
    let exchange = |f: &mut Fixture, old: &[u64]| {
        f.put(LIST, old);
        f.put(out, &0x40_u64);
        memory(f, XENMEM_exchange, &request)
    };
    assert_eq!(exchange(&mut f, &old), Ok(0));
    let first: u64 = f.get(out);
    assert_eq!((first % 4, pages(&f), f.machine.free_pages()), (0, 4, free));
    for page in 0..4 {
        assert!(f.machine.frame_of(Mfn(first + page)).belongs_to(BUILT));
        assert_eq!(f.machine.m2p(Mfn(first + page)), 0x40 + page);
    }
    // One of the pages is in use: the domain keeps what it has, each page once.
    let table = own_table(&mut f);
    let (at, used) = (table << 12, first + 3);
    update(&mut f, at, used << 12 | P | US, DOMID_SELF, BUILT).unwrap();
    let free = f.machine.free_pages();
    let now: Vec<u64> = (first..first + 4).collect();
    assert_eq!(exchange(&mut f, &now), Err(Errno::EBUSY));
    assert_eq!((pages(&f), f.machine.free_pages()), (4, free));
    let mut listed = vec![];
    domain
        .holdings
        .for_first(f.machine, 8, |mfn| listed.push(mfn.0));
    listed.sort_unstable();
    assert_eq!(listed, now);
    // Lent pages are not for exchange.
    let lent = [first, first + 1, first + 2, domain.shared_info.0];
    assert_eq!(exchange(&mut f, &lent), Err(Errno::EBUSY));
    assert_eq!(pages(&f), 4);
}
