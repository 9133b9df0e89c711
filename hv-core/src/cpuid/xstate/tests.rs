use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{HostSetup, Policies, Which};
use crate::domain::DomainKind;
use crate::pv::state::PvState;

/// x87, SSE, AVX.
const ALL: u64 = 7;
/// Size of an image with these.
const IMAGE: usize = 576 + 256;

fn policies(xcr0: u64) -> Policies {
    Policies::new(&reference_cpu(), &HostSetup { xcr0, ..ALL_ON })
}

fn state() -> crate::pv::state::StateBox {
    PvState::at_reset(IMAGE / 64).unwrap()
}

fn describe(components: &Components<'_>, vcpu: &PvState) -> Result<Vec<u8>, Errno> {
    components.describe(vcpu.xcr0, &vcpu.fpu)
}

fn adopt(components: &Components<'_>, vcpu: &mut PvState, bytes: &[u8]) -> Result<(), Refused> {
    if let Some(xcr0) = components.adopt(&mut vcpu.fpu, bytes)? {
        vcpu.choose_xcr0(xcr0, components.mask());
    }
    Ok(())
}

fn run<R>(xcr0: u64, what: impl FnOnce(&Components<'_>) -> R) -> R {
    let policies = policies(xcr0);
    let (host, guest) = (policies.get(Which::Host), policies.get(Which::PvDefault));
    what(&Components::new(host, guest))
}

/// An image that is good, with a byte of each part.
fn good() -> Vec<u8> {
    let mut bytes = vec![0; PREFIX + IMAGE];
    bytes[..8].copy_from_slice(&ALL.to_le_bytes());
    bytes[8..16].copy_from_slice(&ALL.to_le_bytes());
    let image = &mut bytes[PREFIX..];
    image[MXCSR].copy_from_slice(&0x1f80_u32.to_le_bytes());
    image[XSTATE_BV] = ALL as u8;
    for at in [0, 32, 160, 576, IMAGE - 1] {
        image[at] = 0x5a;
    }
    bytes
}

#[test]
fn what_was_adopted_is_described() {
    run(ALL, |components| {
        assert_eq!((components.mask(), components.max_len()), (ALL, 848));
        let mut vcpu = state();
        let fresh = describe(components, &vcpu).unwrap();
        assert_eq!(fresh.len(), 848);
        assert_eq!((word(&fresh, 0), word(&fresh, 8)), (ALL, ALL));
        assert_eq!(adopt(components, &mut vcpu, &good()), Ok(()));
        assert_eq!(vcpu.xcr0, 0, "all there is");
        assert_eq!(describe(components, &vcpu).unwrap(), good());
        // One that had less.
        let mut less = good();
        less[0] = 3;
        assert_eq!(adopt(components, &mut vcpu, &less), Ok(()));
        assert_eq!(vcpu.xcr0, 3);
        assert_eq!(describe(components, &vcpu).unwrap(), less);
    });
}

#[test]
fn components_that_the_guest_has_not_stay_here() {
    let policies = policies(ALL);
    let mut small = policies.get(Which::PvDefault).clone();
    let mut leaf = *small
        .leaves()
        .unwrap()
        .iter()
        .find(|l| l.leaf == 1)
        .unwrap();
    leaf.c &= !(1 << 28);
    small.overlay(&[leaf], &[]).unwrap();
    let (small, _) = small.settled(&policies, DomainKind::Pv64).unwrap();
    let components = Components::new(policies.get(Which::Host), &small);
    assert_eq!(components.max_len(), 848);
    let mut vcpu = state();
    run(ALL, |all| adopt(all, &mut vcpu, &good()).unwrap());
    let told = describe(&components, &vcpu).unwrap();
    assert_eq!(told.len(), PREFIX + 576);
    assert_eq!((word(&told, 0), word(&told, 8)), (3, 3));
    assert_eq!(word(&told[PREFIX..], XSTATE_BV), 3);
    assert_eq!(adopt(&components, &mut vcpu, &told), Ok(()));
    assert_eq!(vcpu.xcr0, 3, "fewer than the machine's");
    assert!(adopt(&components, &mut vcpu, &good()).is_err());
}

#[test]
fn without_xsave_there_is_nothing_to_carry() {
    run(0, |components| {
        assert_eq!((components.mask(), components.max_len()), (0, PREFIX));
        let mut vcpu = state();
        let told = describe(components, &vcpu).unwrap();
        assert_eq!(told, [0; PREFIX]);
        assert_eq!(adopt(components, &mut vcpu, &told), Ok(()));
        assert!(adopt(components, &mut vcpu, &good()).is_err());
    });
}

#[test]
fn what_the_processor_would_refuse_is_refused() {
    let bad: [(usize, u8, Errno); 12] = [
        (0, 0, Errno::EINVAL),
        (0, 6, Errno::EINVAL),
        (0, 5, Errno::EINVAL),
        (1, 2, Errno::EINVAL),
        (8, 3, Errno::EINVAL),
        (15, 0x80, Errno::EINVAL),
        (PREFIX + MXCSR.start + 2, 1, Errno::EINVAL),
        (PREFIX + XSTATE_BV, 0xf, Errno::EINVAL),
        (PREFIX + XSTATE_BV + 7, 0x40, Errno::EINVAL),
        (PREFIX + XCOMP_BV + 7, 0x80, Errno::EOPNOTSUPP),
        (PREFIX + XCOMP_BV, 1, Errno::EINVAL),
        (PREFIX + RESERVED.end - 1, 1, Errno::EINVAL),
    ];
    run(ALL, |components| {
        for (at, value, errno) in bad {
            let mut bytes = good();
            bytes[at] = value;
            let mut vcpu = state();
            let refused = adopt(components, &mut vcpu, &bytes).map_err(|why| why.0);
            assert_eq!(refused, Err(errno), "{at} {value:#x}");
            assert_eq!(vcpu.fpu[0].0[..2], 0x37f_u16.to_le_bytes(), "unchanged");
        }
        for len in [0, 1, PREFIX, PREFIX + 1, PREFIX + 576, 847, 849, 4096] {
            let mut bytes = good();
            bytes.resize(len, 0);
            assert!(adopt(components, &mut state(), &bytes).is_err(), "{len}");
        }
    });
}

proptest! {
    #[test]
    fn any_damage_is_refused_or_loadable(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..20),
        len in prop_oneof![Just(848usize), Just(592), 0..900usize],
        which in 0..8u64,
    ) {
        let mut bytes = good();
        for (at, value) in damage {
            // Half of it where it matters.
            let at = if value & 1 == 0 { at.index(848) } else { at.index(80) + PREFIX + 496 };
            bytes[at] = value;
        }
        bytes.resize(len, 0x11);
        run(which, |components| {
            let mut vcpu = state();
            if adopt(components, &mut vcpu, &bytes).is_ok() && !vcpu.fpu.is_empty() {
                let told = describe(components, &vcpu).unwrap();
                prop_assert!(told.len() <= components.max_len());
                let mut again = state();
                prop_assert_eq!(adopt(components, &mut again, &told), Ok(()));
                prop_assert_eq!(describe(components, &again).unwrap(), told.clone());
                if told.len() > PREFIX {
                    let image = &told[PREFIX..];
                    prop_assert_eq!(word(image, XSTATE_BV) & !components.mask(), 0);
                    prop_assert_eq!(word(image, MXCSR.start) as u32 >> 16, 0);
                    prop_assert!(image[XCOMP_BV..RESERVED.end].iter().all(|b| *b == 0));
                }
            }
            Ok(())
        })?;
    }
}
