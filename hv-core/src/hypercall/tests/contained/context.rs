//! The state of a domain in containers as a toolstack sets and gets it (`XEN_DOMCTL_sethvmcontext` and its kin).

use super::*;

/// Bytes of the records of a vCPU that tools set before it first runs: a header, the record, the end.
pub(super) fn stream<T: IntoBytes + zerocopy::Immutable>(
    kind: u16,
    instance: u16,
    body: &T,
) -> Vec<u8> {
    let head = |typecode, instance, length| HvmSaveDescriptor {
        typecode,
        instance,
        length,
    };
    let header = HvmSaveHeader {
        magic: HVM_FILE_MAGIC,
        version: HVM_FILE_VERSION,
        ..HvmSaveHeader::default()
    };
    [
        head(HVM_SAVE_CODE_HEADER, 0, 24).as_bytes(),
        header.as_bytes(),
        head(kind, instance, size_of::<T>() as u32).as_bytes(),
        body.as_bytes(),
        head(HVM_SAVE_CODE_END, 0, 0).as_bytes(),
    ]
    .concat()
}

pub(super) fn set_context(f: &mut Fixture, bytes: &[u8]) -> Result<(), Errno> {
    f.put(BUFFER, bytes);
    let request = DomctlHvmContext {
        size: bytes.len() as u32,
        buffer: GuestHandle::new(BUFFER),
        ..DomctlHvmContext::default()
    };
    op(f, abi::XEN_DOMCTL_sethvmcontext, 1, request).map(drop)
}

/// The whole state, as a tool gets it.
pub(super) fn get_context(f: &mut Fixture) -> Vec<u8> {
    let ask = DomctlHvmContext::default();
    let size = op(f, abi::XEN_DOMCTL_gethvmcontext, 1, ask).unwrap().size;
    let request = DomctlHvmContext {
        size,
        buffer: GuestHandle::new(BUFFER),
        ..ask
    };
    let less = DomctlHvmContext {
        size: size - 1,
        ..request
    };
    let refused = op(f, abi::XEN_DOMCTL_gethvmcontext, 1, less);
    assert_eq!(refused.unwrap_err(), Errno::ENOSPC);
    let told = op(f, abi::XEN_DOMCTL_gethvmcontext, 1, request).unwrap();
    assert!(told.size <= size);
    (0..u64::from(told.size))
        .map(|n| f.get(BUFFER + n))
        .collect()
}

#[test]
fn the_toolstacks_first_state_starts_the_first_vcpu() {
    let (mut f, domain) = born();
    let before = get_context(&mut f);
    set_context(&mut f, &stream(HVM_SAVE_CODE_CPU, 0, &first_record())).unwrap();
    assert_eq!(
        (info(&mut f).nr_online_vcpus, domain.vcpus()[0].flags()),
        (1, 0)
    );
    let down = RunFlags::DOWN | RunFlags::UNINITIALISED;
    assert_eq!(domain.vcpus()[1].flags(), down);
    let after = get_context(&mut f);
    assert_eq!(after.len() - before.len(), 8 + size_of::<HvmHwCpu>());
    // Both vCPUs begin with a TSC of zero.
    let offset = |vcpu| inside(&domain, vcpu, |s| s.processor.read(Register::TscOffset));
    assert_eq!(offset(0), offset(1));
    // Memory types of each, as they were told, with the ranges turned on.
    for vcpu in 0..2 {
        let mut mtrr = HvmHwMtrr {
            msr_pat_cr: 0x0007_0406_0007_0406,
            msr_mtrr_cap: 0x508,
            msr_mtrr_def_type: 0x806,
            ..HvmHwMtrr::default()
        };
        set_context(&mut f, &stream(HVM_SAVE_CODE_MTRR, vcpu, &mtrr)).unwrap();
        mtrr.msr_mtrr_def_type = 2;
        let refused = set_context(&mut f, &stream(HVM_SAVE_CODE_MTRR, vcpu, &mtrr));
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    let none = set_context(&mut f, &stream(HVM_SAVE_CODE_TSC_ADJUST, 2, &7u64));
    assert_eq!(none, Err(Errno::EINVAL));
    let huge = vec![0; 0x8000];
    assert_eq!(set_context(&mut f, &huge), Err(Errno::EINVAL));
}

#[test]
fn a_saved_state_is_loaded_by_another_domain() {
    let (mut f, old) = born();
    set_context(&mut f, &stream(HVM_SAVE_CODE_CPU, 0, &first_record())).unwrap();
    inside(&old, 0, |state| {
        state.regs.r15 = 0x1515;
        state.msrs.tsc_adjust = 5;
        let _new = state.lapic.accept(0x40, false);
    });
    let saved = get_context(&mut f);
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    drop(old);
    f.hv.forget_dead();
    create(&mut f, 1, &config()).unwrap();
    let vcpus = abi::DomctlMaxVcpus { max: 2 };
    ask(&mut f, abi::XEN_DOMCTL_max_vcpus, 1, &vcpus).unwrap();
    set_context(&mut f, &saved).unwrap();
    let new = f.hv.domain(1).unwrap();
    inside(&new, 0, |state| {
        assert_eq!((state.regs.r15, state.regs.rip), (0x1515, 0x100_0000));
        assert_eq!(state.msrs.tsc_adjust, 5);
    });
    assert!(new.vcpus()[0].is_up() && !new.vcpus()[1].is_up());
    assert_eq!(get_context(&mut f), saved);
}

#[test]
fn one_record_of_one_vcpu() {
    let (mut f, domain) = born();
    let mut one = |kind: u16, instance, bufsz, buffer| {
        let request = DomctlHvmContextPartial {
            r#type: kind.into(),
            instance,
            bufsz,
            buffer: GuestHandle::new(buffer),
        };
        op(&mut f, abi::XEN_DOMCTL_gethvmcontext_partial, 1, request).map(|r| r.bufsz)
    };
    let cpu = HVM_SAVE_CODE_CPU;
    assert_eq!(
        one(cpu, 0, 0x1000, BUFFER),
        Err(Errno::ENOENT),
        "it is down"
    );
    domain.vcpus()[0].clear_flags(RunFlags::DOWN | RunFlags::UNINITIALISED);
    let size = size_of::<HvmHwCpu>() as u64;
    assert_eq!(one(cpu, 0, 0, 0), Ok(size));
    assert_eq!(one(cpu, 0, 0x1000, BUFFER), Ok(size));
    assert_eq!(one(cpu, 0, size - 1, BUFFER), Err(Errno::ENOBUFS));
    assert_eq!(one(cpu, 2, size, BUFFER), Err(Errno::ENOENT));
    for kind in [
        HVM_SAVE_CODE_END,
        HVM_SAVE_CODE_HEADER,
        HVM_SAVE_CODE_PIC,
        99,
    ] {
        assert_eq!(one(kind, 0, size, BUFFER), Err(Errno::EINVAL));
    }
    assert_eq!(f.get::<HvmHwCpu>(BUFFER).rip, 0xfff0);
}
