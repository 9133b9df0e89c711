//! domctl and sysctl: requests of the control domain, and of others, which get nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use xen_abi::domctl::{self as domctl_abi, Domctl, DomctlCreateDomain};
use xen_abi::errno::Errno;
use xen_abi::hypercall::{__HYPERVISOR_domctl, __HYPERVISOR_memory_op, __HYPERVISOR_sysctl};
use xen_abi::memory::{XENMEM_claim_pages, XENMEM_decrease_reservation, XENMEM_populate_physmap};
use xen_abi::sysctl as sysctl_abi;
use xen_abi::xen::DOMID_FIRST_RESERVED;
use zerocopy::{FromZeros, IntoBytes};

use super::engine::Answer;
use super::steps::{BUFFER, GUESTS, LIST, Step, World, step};
use crate::domain::Machine;

/// The step that fills the buffers.
const FILL: u8 = 0xff;
/// The step that is a memory_op.
const MEMORY: u8 = 0xfe;

/// Requests for each operation, by the control domain on each domain and by another.
pub fn of_domains() -> Vec<Vec<u8>> {
    let operation =
        |cmd: u8, who: u8, domain: u16, words: &[u64]| step(who, cmd, (domain, 0), words);
    let mut create = DomctlCreateDomain {
        max_vcpus: 2,
        max_evtchn_port: 127,
        max_grant_frames: 4,
        max_maptrack_frames: 16,
        grant_opts: 1,
        ..DomctlCreateDomain::new_zeroed()
    };
    create.handle = [7; 16];
    let mut words = [0; 8];
    words.as_mut_bytes()[..size_of_val(&create)].copy_from_slice(create.as_bytes());
    let life: Vec<u8> = [
        operation(domctl_abi::XEN_DOMCTL_createdomain as u8, 0, 7, &words),
        operation(domctl_abi::XEN_DOMCTL_max_mem as u8, 0, 7, &[64]),
        operation(domctl_abi::XEN_DOMCTL_max_vcpus as u8, 0, 7, &[2]),
        operation(domctl_abi::XEN_DOMCTL_settimeoffset as u8, 0, 7, &[3600]),
        step(0, FILL, (0, 0), &[0, 1, 2]),
        step(
            0,
            MEMORY,
            (XENMEM_populate_physmap as u16, 0),
            &[BUFFER, 3, 0, 7],
        ),
        step(
            0,
            MEMORY,
            (XENMEM_claim_pages as u16, 0),
            &[BUFFER, 9, 0, 7],
        ),
        step(
            0,
            MEMORY,
            (XENMEM_decrease_reservation as u16, 0),
            &[BUFFER, 1, 0, 7],
        ),
        operation(domctl_abi::XEN_DOMCTL_getdomaininfo as u8, 0, 7, &[]),
        step(0, FILL, (0, 0), &[0; 32]),
        operation(
            domctl_abi::XEN_DOMCTL_setvcpucontext as u8,
            0,
            7,
            &[0, BUFFER],
        ),
        operation(domctl_abi::XEN_DOMCTL_unpausedomain as u8, 0, 7, &[]),
        operation(domctl_abi::XEN_DOMCTL_pausedomain as u8, 0, 7, &[]),
        operation(
            domctl_abi::XEN_DOMCTL_getvcpucontext as u8,
            0,
            7,
            &[0, BUFFER],
        ),
        operation(domctl_abi::XEN_DOMCTL_destroydomain as u8, 0, 7, &[]),
        operation(domctl_abi::XEN_DOMCTL_destroydomain as u8, 0, 1, &[]),
        operation(domctl_abi::XEN_DOMCTL_getdomaininfo as u8, 0, 0, &[]),
    ]
    .concat();
    let all = |who: u8, domain: u16| -> Vec<u8> {
        let words = [0, BUFFER, 16, BUFFER + 0x800, 1, BUFFER, 64];
        let ask = |cmd: u8| operation(cmd, who, domain, &words);
        (1..90).step_by(2).flat_map(ask).collect()
    };
    let mut told = all(0, 1);
    told.extend(operation(
        domctl_abi::XEN_DOMCTL_getdomaininfo as u8,
        0,
        0,
        &[],
    ));
    let mut even: Vec<u8> = (2..90)
        .step_by(2)
        .flat_map(|cmd| operation(cmd, 0, 2, &[1, BUFFER, 2, 8, BUFFER, 8]))
        .collect();
    even.extend(operation(
        domctl_abi::XEN_DOMCTL_getdomaininfo as u8,
        0,
        0,
        &[],
    ));
    let mut mixed = operation(domctl_abi::XEN_DOMCTL_getdomaininfo as u8, 0, 0, &[]);
    mixed.extend(all(1, 2));
    vec![life, told, even, mixed, contained_life()]
}

/// The life of a domain in containers.
fn contained_life() -> Vec<u8> {
    let operation = |cmd: u32, words: &[u64]| step(0, cmd as u8, (7, 0), words);
    let mut create = DomctlCreateDomain {
        flags: domctl_abi::XEN_DOMCTL_CDF_hvm | domctl_abi::XEN_DOMCTL_CDF_hap,
        max_vcpus: 2,
        max_evtchn_port: 127,
        max_grant_frames: 4,
        max_maptrack_frames: 16,
        grant_opts: 1,
        ..DomctlCreateDomain::new_zeroed()
    };
    create.arch.emulation_flags = xen_abi::arch_x86::XEN_X86_EMU_LAPIC;
    let mut words = [0; 8];
    words.as_mut_bytes()[..size_of_val(&create)].copy_from_slice(create.as_bytes());
    // A header, TSC_ADJUST of vCPU 1, the end.
    let header = [1 | 24 << 32, 0x1_5438_1286, 0, 0];
    let stream = [&header[..], &[19 | 1 << 16 | 8 << 32, 5, 0]].concat();
    let size = 8 * stream.len() as u64;
    [
        operation(domctl_abi::XEN_DOMCTL_createdomain, &words),
        operation(domctl_abi::XEN_DOMCTL_max_mem, &[64]),
        operation(domctl_abi::XEN_DOMCTL_max_vcpus, &[2]),
        step(0, FILL, (0, 0), &[0, 1, 2]),
        step(
            0,
            MEMORY,
            (XENMEM_populate_physmap as u16, 0),
            &[BUFFER, 3, 0, 7],
        ),
        step(0, FILL, (0, 0), &stream),
        operation(domctl_abi::XEN_DOMCTL_sethvmcontext, &[size, BUFFER]),
        operation(domctl_abi::XEN_DOMCTL_gethvmcontext, &[0, 0]),
        operation(domctl_abi::XEN_DOMCTL_gethvmcontext, &[0x4000, BUFFER]),
        operation(
            domctl_abi::XEN_DOMCTL_gethvmcontext_partial,
            &[5 | 1 << 32, 0x400, BUFFER],
        ),
        operation(domctl_abi::XEN_DOMCTL_hypercall_init, &[1]),
        operation(domctl_abi::XEN_DOMCTL_sendtrigger, &[0]),
        operation(domctl_abi::XEN_DOMCTL_unpausedomain, &[]),
        operation(domctl_abi::XEN_DOMCTL_setvcpucontext, &[1, 0]),
        operation(domctl_abi::XEN_DOMCTL_destroydomain, &[]),
    ]
    .concat()
}

/// Operations, and what they leave.
pub fn domctl(input: &[u8]) -> Answer {
    let mut world = World::new();
    let answer = world.run(input, domctl_step);
    assert_eq!(
        all_die(&mut world),
        all_die(&mut World::new()),
        "free pages at last"
    );
    answer
}

fn domctl_step(w: &mut World, step: &Step) {
    if step.what == MEMORY {
        w.f.put(LIST, step.words.as_slice());
        let command = step.a.into();
        let _ = w.call(__HYPERVISOR_memory_op, [command, LIST, 0, 0, 0, 0]);
        registry(w);
    } else if !fill(w, step) {
        let result = ask_of_domain(w, step);
        of_others(step, result);
        registry(w);
    }
}

/// All domains but the control domain die; the pages that are free then, or its own.
fn all_die(w: &mut World) -> u64 {
    w.f.caller = w.domains[0].clone();
    w.f.host.preempt_every(u32::MAX);
    for domain in w.f.hv.domains().filter(|d| d.id != 0) {
        let mut op = Domctl::new_zeroed();
        op.cmd = domctl_abi::XEN_DOMCTL_destroydomain;
        op.interface_version = domctl_abi::XEN_DOMCTL_INTERFACE_VERSION;
        op.domain = domain.id;
        w.f.put(LIST, &op);
        let died = w.call(__HYPERVISOR_domctl, [LIST, 0, 0, 0, 0, 0]);
        assert_eq!(died, Ok(0), "d{} does not die", domain.id);
    }
    let own = w.domains[0].pages.load(Ordering::Relaxed);
    w.f.machine.free_pages() + own
}

#[test]
fn a_good_life_is_one() {
    let mut world = World::new();
    world.run(&of_domains()[0], domctl_step);
    let failed = |answer: &&Result<u64, Errno>| answer.is_err();
    let failed: Vec<_> = world.answers.iter().filter(failed).collect();
    // The context is nonsense, and so there is none to be read.
    assert_eq!(failed, [&Err(Errno::EINVAL), &Err(Errno::ENODATA)]);
    assert!(world.answers.len() > 10);
}

#[test]
fn a_good_life_in_containers_is_one() {
    let mut world = World::new();
    world.run(&contained_life(), domctl_step);
    let failed = |answer: &&Result<u64, Errno>| answer.is_err();
    assert_eq!(world.answers.iter().filter(failed).count(), 0);
    assert!(world.answers.len() > 10);
}

fn ask_of_domain(w: &mut World, step: &Step) -> Result<u64, Errno> {
    let mut op = Domctl::new_zeroed();
    op.cmd = step.what.into();
    op.interface_version = domctl_abi::XEN_DOMCTL_INTERFACE_VERSION ^ u32::from(step.b);
    op.domain = step.a;
    let count = op.u.len().min(step.words.len());
    op.u[..count].copy_from_slice(&step.words[..count]);
    w.f.put(LIST, &op);
    w.call(__HYPERVISOR_domctl, [LIST, 0, 0, 0, 0, 0])
}

/// Memory that requests point to is filled; whether this was all.
fn fill(w: &World, step: &Step) -> bool {
    if step.what == FILL {
        let at = BUFFER + u64::from(step.a % 0x1000) * 8;
        w.f.put(at, step.words.as_slice());
    }
    step.what == FILL
}

/// Whoever is not the control domain gets nothing.
fn of_others(step: &Step, result: Result<u64, Errno>) {
    if step.who != 0 {
        let known = [Errno::EPERM, Errno::EACCES, Errno::EFAULT];
        assert!(result.is_err_and(|why| known.contains(&why)), "{result:?}");
    }
}

/// The list of domains agrees with itself.
fn registry(w: &World) {
    let hv = w.f.hv;
    let domains: Vec<_> = hv.domains().collect();
    let ids: BTreeSet<_> = domains.iter().map(|d| d.id).collect();
    assert_eq!(ids.len(), domains.len(), "a number twice");
    assert!(ids.iter().all(|id| *id < DOMID_FIRST_RESERVED));
    assert!(ids.contains(&0), "the control domain stays");
    for domain in &domains {
        let found = hv.domain(domain.id).expect("what is listed is found");
        assert!(std::sync::Arc::ptr_eq(&found, domain));
        for (id, vcpu) in (0..).zip(domain.vcpus()) {
            assert_eq!(vcpu.id, id);
        }
    }
    assert!(domains.len() <= 1 + GUESTS.len() + w.f.machine.frames.len());
}

/// Requests for each operation of sysctl.
pub fn of_system() -> Vec<Vec<u8>> {
    let words = [0, 16, BUFFER, 8, BUFFER + 0x800, 4, BUFFER];
    let all = |from: u8, who: u8| -> Vec<u8> {
        let ask = |cmd: u8| step(who, cmd, (0, 0), &words);
        (from..33).step_by(2).flat_map(ask).collect()
    };
    let mut mixed = all(1, 1);
    mixed.extend(step(0, sysctl_abi::XEN_SYSCTL_physinfo as u8, (0, 0), &[]));
    let list = [1, 16, BUFFER, 0];
    let list = step(
        0,
        sysctl_abi::XEN_SYSCTL_getdomaininfolist as u8,
        (0, 0),
        &list,
    );
    vec![all(1, 0), all(2, 0), mixed, list]
}

/// Operations of sysctl.
pub fn sysctl(input: &[u8]) -> Answer {
    World::new().run(input, |w, step| {
        if fill(w, step) {
            return;
        }
        let version = sysctl_abi::XEN_SYSCTL_INTERFACE_VERSION ^ u32::from(step.b);
        // The operation that stops the machine when it is asked to is not asked.
        if u32::from(step.what) == sysctl_abi::XEN_SYSCTL_debug_keys {
            return;
        }
        w.f.put(LIST, &[u32::from(step.what), version]);
        let count = step.words.len().min(16);
        w.f.put(LIST + 8, &step.words[..count]);
        let result = w.call(__HYPERVISOR_sysctl, [LIST, 0, 0, 0, 0, 0]);
        of_others(step, result);
        registry(w);
    })
}
