use std::sync::Arc;

use proptest::prelude::*;
use xen_abi::GuestHandle;
use xen_abi::domctl::{
    self as abi, Domctl, DomctlExtVcpuContext, DomctlVcpuExtState, DomctlVcpuMsr, DomctlVcpuMsrs,
};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_domctl as CALL;
use zerocopy::{FromBytes, IntoBytes};

use super::domctl::{op, plain, request};
use crate::cpuid::features::Feature;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{Policies, Which};
use crate::domain::{Domain, VcpuState};
use crate::hypercall::Host;
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};
use crate::pv::state::{Callback, PvState};

const BUFFER: u64 = GUEST + 0x1000;
/// The components of the reference machine: what they are, and the size of an image with all of them.
const MACHINE: u64 = 0x21f;
const MACHINE_SIZE: u64 = 16 + 0xa88;
/// A guest has x87, SSE and AVX.
const GUEST_SIZE: u64 = 16 + 832;

/// A domain whose first vCPU has registers.
fn with_registers(f: &Fixture, id: u16) -> Arc<Domain> {
    let domain = f.add(id);
    let state = PvState::at_reset(f.host.fpu_lines()).unwrap();
    *domain.vcpus()[0].state.lock() = Some(VcpuState::Pv(state));
    domain
}

fn inside<R>(domain: &Domain, what: impl FnOnce(&mut PvState) -> R) -> R {
    what(
        domain.vcpus()[0]
            .state
            .lock()
            .as_mut()
            .and_then(VcpuState::pv_mut)
            .unwrap(),
    )
}

fn buffer(size: u64) -> DomctlVcpuExtState {
    DomctlVcpuExtState {
        xfeature_mask: MACHINE,
        size,
        buffer: GuestHandle::new(BUFFER),
        ..DomctlVcpuExtState::default()
    }
}

fn get(f: &mut Fixture, id: u16, ask: DomctlVcpuExtState) -> Result<DomctlVcpuExtState, Errno> {
    op(f, abi::XEN_DOMCTL_getvcpuextstate, id, ask)
}

fn set(f: &mut Fixture, id: u16, ask: DomctlVcpuExtState) -> Result<(), Errno> {
    op(f, abi::XEN_DOMCTL_setvcpuextstate, id, ask).map(drop)
}

#[test]
fn extended_state_goes_from_one_vcpu_to_another() {
    let mut f = Fixture::control();
    let (old, new) = (with_registers(&f, 1), with_registers(&f, 2));
    inside(&old, |state| {
        state.fpu[2].0 = [0x77; 64];
        state.fpu[8].0[0] = 7;
        state.fpu[9].0 = [0x99; 64];
        // Beyond what a guest has.
        state.fpu[40].0 = [0x55; 64];
    });
    let size = get(&mut f, 1, DomctlVcpuExtState::default()).unwrap();
    assert_eq!((size.xfeature_mask, size.size), (MACHINE, MACHINE_SIZE));
    let told = get(&mut f, 1, buffer(MACHINE_SIZE)).unwrap();
    assert_eq!(told.size, GUEST_SIZE, "what was written");
    let image: [u8; GUEST_SIZE as usize] = f.get(BUFFER);
    assert_eq!(set(&mut f, 2, buffer(GUEST_SIZE)), Ok(()));
    inside(&new, |state| {
        assert_eq!(state.xcr0, 7);
        assert_eq!((state.fpu[2].0, state.fpu[9].0), ([0x77; 64], [0x99; 64]));
        assert_eq!(state.fpu[40].0, [0; 64]);
    });
    f.put(BUFFER, &[0u8; GUEST_SIZE as usize]);
    assert_eq!(get(&mut f, 2, buffer(GUEST_SIZE)), Ok(told));
    assert_eq!(f.get::<[u8; GUEST_SIZE as usize]>(BUFFER), image);
    assert!(old.runnable(&old.vcpus()[0]), "they only rested");
}

#[test]
fn extended_state_that_cannot_be_is_refused() {
    let mut f = Fixture::control();
    let guest = with_registers(&f, 1);
    get(&mut f, 1, buffer(MACHINE_SIZE)).unwrap();
    let nowhere = DomctlVcpuExtState {
        buffer: GuestHandle::new(NOWHERE),
        ..buffer(GUEST_SIZE)
    };
    let of = |vcpu| DomctlVcpuExtState {
        vcpu,
        ..buffer(GUEST_SIZE)
    };
    let masked = DomctlVcpuExtState {
        xfeature_mask: 7,
        ..buffer(GUEST_SIZE)
    };
    assert_eq!(get(&mut f, 1, buffer(GUEST_SIZE - 1)), Err(Errno::EINVAL));
    assert_eq!(get(&mut f, 1, masked), Err(Errno::EINVAL));
    for (ask, errno) in [
        (nowhere, Errno::EFAULT),
        (of(1), Errno::ENODATA),
        (of(2), Errno::ESRCH),
        (of(u32::MAX), Errno::ESRCH),
    ] {
        assert_eq!(get(&mut f, 1, ask), Err(errno));
        assert_eq!(set(&mut f, 1, ask), Err(errno));
    }
    for size in [
        0,
        15,
        16,
        GUEST_SIZE - 1,
        GUEST_SIZE + 1,
        MACHINE_SIZE + 1,
        u64::MAX,
    ] {
        assert_eq!(set(&mut f, 1, buffer(size)), Err(Errno::EINVAL), "{size}");
    }
    assert_eq!(get(&mut f, 0, buffer(GUEST_SIZE)), Err(Errno::EINVAL));
    assert_eq!(set(&mut f, 0, buffer(GUEST_SIZE)), Err(Errno::EINVAL));
    assert!(guest.runnable(&guest.vcpus()[0]), "nobody was left paused");
}

#[test]
fn the_state_is_fetched_from_a_cpu_that_idles_with_it() {
    let mut f = Fixture::control();
    let guest = with_registers(&f, 1);
    let unit = guest.vcpus()[0].unit.get().unwrap();
    guest.wake_all();
    let cpu = f.machine.kicked.lock().unwrap()[0];
    assert_eq!(guest.sched.schedule(cpu, 2_000_000).next, Some(unit));
    let state = guest.vcpus()[0].state.lock().take();
    let (other, waiting) = (guest.clone(), guest.clone());
    // The CPU's run loop: it idles with the state until it is asked for it.
    let holder = std::thread::spawn(move || {
        while other.runnable(&other.vcpus()[0]) {
            std::thread::yield_now();
        }
        while other.sched.schedule(cpu, 3_000_000).save.is_none() {
            std::thread::yield_now();
        }
        *other.vcpus()[0].state.lock() = state;
        let _elsewhere = other.sched.context_saved(cpu, unit, 3_000_000);
    });
    assert_eq!(get(&mut f, 1, buffer(GUEST_SIZE)).unwrap().size, GUEST_SIZE);
    holder.join().unwrap();
    assert!(waiting.runnable(&waiting.vcpus()[0]));
}

#[test]
fn entry_points_for_32_bit_programs_are_carried() {
    let mut f = Fixture::control();
    let (old, new) = (with_registers(&f, 1), with_registers(&f, 2));
    let (get, set) = (
        abi::XEN_DOMCTL_get_ext_vcpucontext,
        abi::XEN_DOMCTL_set_ext_vcpucontext,
    );
    let empty = op(&mut f, get, 1, DomctlExtVcpuContext::default()).unwrap();
    let expected = DomctlExtVcpuContext {
        size: 64,
        vmce: [2, 0, 0, 0],
        ..DomctlExtVcpuContext::default()
    };
    assert_eq!(empty, expected);
    assert_eq!(op(&mut f, set, 2, empty).map(drop), Ok(()));
    inside(&old, |state| {
        let callback = |address, masks_events| Callback {
            address,
            masks_events,
        };
        state.callbacks.sysenter = callback(0xffff_ffff_8100_0000, true);
        state.callbacks.syscall32 = callback(0xffff_ffff_8100_1000, false);
    });
    let told = op(&mut f, get, 1, DomctlExtVcpuContext::default()).unwrap();
    assert_eq!(
        (told.sysenter_callback_cs, told.sysenter_disables_events),
        (0xe033, 1)
    );
    assert_eq!(op(&mut f, set, 2, told).map(drop), Ok(()));
    let again = op(&mut f, get, 2, DomctlExtVcpuContext::default());
    assert_eq!(again, Ok(told));
    inside(&new, |state| assert!(state.callbacks.sysenter.masks_events));
    let change = |change: fn(&mut DomctlExtVcpuContext)| {
        let mut changed = told;
        change(&mut changed);
        changed
    };
    for (bad, errno) in [
        (change(|c| c.size = 31), Errno::EINVAL),
        (change(|c| c.sysenter_callback_eip = 1 << 63), Errno::EINVAL),
        (
            change(|c| c.syscall32_callback_eip = 0x8000_0000_0000),
            Errno::EINVAL,
        ),
        (change(|c| c.sysenter_callback_cs = 0x10), Errno::EINVAL),
        (change(|c| c.vmce[0] = 1 << 24 | 2), Errno::EPERM),
        (change(|c| c.vmce[2] = 1), Errno::EPERM),
        (change(|c| c.vcpu = 2), Errno::ESRCH),
        (change(|c| c.vcpu = 1), Errno::ENODATA),
    ] {
        assert_eq!(op(&mut f, set, 2, bad).map(drop), Err(errno));
    }
    // What is beyond the size is not looked at.
    let short = change(|c| (c.size, c.vmce) = (32, [!0; 4]));
    assert_eq!(op(&mut f, set, 2, short).map(drop), Ok(()));
    assert_eq!(plain(&mut f, get, 0), Err(Errno::EINVAL), "the caller");
}

fn msrs(msr_count: u32) -> DomctlVcpuMsrs {
    DomctlVcpuMsrs {
        vcpu: 0,
        msr_count,
        msrs: GuestHandle::new(BUFFER),
    }
}

/// Makes a call; the request as it is then, too.
fn msr_call(
    f: &mut Fixture,
    cmd: u32,
    id: u16,
    ask: DomctlVcpuMsrs,
) -> (Result<u64, Errno>, DomctlVcpuMsrs) {
    f.put(GUEST, &request(cmd, id, &ask));
    let done = f.call(CALL, &[GUEST]);
    let op: Domctl = f.get(GUEST);
    (
        done,
        DomctlVcpuMsrs::read_from_prefix(op.u.as_bytes()).unwrap().0,
    )
}

/// A domain on a CPU with masks for breakpoints.
fn with_masks(f: &Fixture, id: u16) -> Arc<Domain> {
    let domain = with_registers(f, id);
    let mut cpu = reference_cpu();
    let leaf = cpu.0.iter_mut().find(|(l, ..)| *l == 0x8000_0001).unwrap();
    leaf.2[2] |= Feature::DBEXT.mask;
    let policies = Policies::new(&cpu, &ALL_ON);
    let policy = policies.get(Which::PvDefault).clone();
    domain.policy.give(policy).unwrap();
    domain
}

#[test]
fn registers_of_a_vcpu_are_carried() {
    let mut f = Fixture::control();
    let (get, set) = (abi::XEN_DOMCTL_get_vcpu_msrs, abi::XEN_DOMCTL_set_vcpu_msrs);
    with_registers(&f, 1);
    let (old, new) = (with_masks(&f, 2), with_masks(&f, 3));
    let size = DomctlVcpuMsrs::default();
    assert_eq!(msr_call(&mut f, get, 1, size).1.msr_count, 0);
    assert_eq!(msr_call(&mut f, get, 2, size).1.msr_count, 4);
    assert_eq!(msr_call(&mut f, get, 2, msrs(4)), (Ok(0), msrs(0)));
    inside(&old, |state| state.debug_masks = [0, 0xfff, 0, 3]);
    let (done, told) = msr_call(&mut f, get, 2, msrs(1));
    assert_eq!((done, told.msr_count), (Err(Errno::ENOBUFS), 2));
    assert_eq!(msr_call(&mut f, get, 2, msrs(u32::MAX)), (Ok(0), msrs(2)));
    let list: [DomctlVcpuMsr; 2] = [f.get(BUFFER), f.get(BUFFER + 16)];
    let msr = |index, value| DomctlVcpuMsr {
        index,
        value,
        ..DomctlVcpuMsr::default()
    };
    assert_eq!(list, [msr(0xc001_1019, 0xfff), msr(0xc001_101b, 3)]);
    assert_eq!(msr_call(&mut f, set, 3, msrs(2)).0, Ok(0));
    inside(&new, |state| {
        assert_eq!(state.debug_masks, [0, 0xfff, 0, 3])
    });
    // The second cannot be set: the first is.
    for (second, flag) in [
        (msr(0x140, 1), 0),
        (msr(0xc001_101a, 1 << 32), 0),
        (msr(0xc001_101a, 0), 1),
    ] {
        f.put(BUFFER, &msr(0xc001_1027, 5));
        let reserved = DomctlVcpuMsr {
            reserved: flag,
            ..second
        };
        f.put(BUFFER + 16, &reserved);
        let (done, told) = msr_call(&mut f, set, 3, msrs(2));
        assert_eq!((done, told.msr_count), (Err(Errno::EINVAL), 1));
        inside(&new, |state| assert_eq!(state.debug_masks[0], 5));
    }
    for count in [5, u32::MAX] {
        assert_eq!(msr_call(&mut f, set, 3, msrs(count)).0, Err(Errno::EINVAL));
    }
    assert_eq!(msr_call(&mut f, set, 1, msrs(1)).0, Err(Errno::EINVAL));
    assert_eq!(msr_call(&mut f, set, 0, msrs(0)).0, Err(Errno::EINVAL));
    let none = DomctlVcpuMsrs { vcpu: 9, ..msrs(0) };
    assert_eq!(msr_call(&mut f, get, 2, none).0, Err(Errno::ESRCH));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn rubbish_changes_nothing_that_could_not_be_loaded(
        words in proptest::collection::vec(any::<u64>(), 110),
        kind in 0..4u8,
        size in prop_oneof![Just(GUEST_SIZE), Just(592), any::<u64>()],
        components in prop_oneof![Just(7u64), Just(3), any::<u64>()],
    ) {
        let mut f = Fixture::control();
        let guest = with_registers(&f, 1);
        f.put(BUFFER, words.as_slice());
        f.put(BUFFER, &[components, components]);
        if kind & 1 != 0 {
            // A header that may be right.
            f.put(BUFFER + 16 + 512, &[0u64; 8]);
            f.put(BUFFER + 16 + 512, &(words[100] & 7));
        }
        if kind & 2 != 0 {
            f.put(BUFFER + 16 + 24, &0x1f80u32);
        }
        let done = set(&mut f, 1, buffer(size));
        inside(&guest, |state| {
            let header: [u64; 8] = zerocopy::transmute!(state.fpu[8].0);
            prop_assert_eq!(header[0] & !7, 0);
            prop_assert_eq!(&header[1..], [0; 7]);
            prop_assert!(state.fpu[0].0[26..28] == [0, 0], "MXCSR");
            prop_assert_eq!(done.is_err() || state.xcr0 & 1 == 1, true);
            Ok(())
        })?;
    }
}
