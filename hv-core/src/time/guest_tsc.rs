//! What a domain's TSC is (`XEN_DOMCTL_settscinfo`, domctl.h): the host's, or one of its own, which RDTSC gets by
//! emulation.

use xen_abi::domctl::DomctlTscInfo;

use super::scale::{Clock, TscScale};
use crate::base::Nanos;

/// Modes (xen/arch-x86/cpuid.h): by need, always emulated, never. Mode 3 is gone from the ABI.
const BY_NEED: u32 = 0;
const EMULATED: u32 = 1;
const NATIVE: u32 = 2;
/// Two measurements of one clock differ by less than this part of it.
const TOLERANCE: u32 = 1000;

/// A domain's TSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DomainTsc {
    /// XEN_CPUID_TSC_MODE_*.
    pub mode: u32,
    /// Counts the moves between machines.
    pub incarnation: u32,
    /// System time when the domain began, before its moves.
    pub origin: Nanos,
    /// Its own TSC, as a function of system time, where it is not the host's.
    pub own: Option<OwnTsc>,
}

/// A TSC that is emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnTsc {
    /// Rate in kHz.
    pub khz: u32,
    /// System time by this TSC.
    pub clock: Clock,
}

impl DomainTsc {
    /// What a toolstack wants, at system time `now` on a machine whose TSC runs at `host_khz`.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    pub fn new(wanted: &DomctlTscInfo, now: Nanos, host_khz: u32) -> Result<Self, &'static str> {
        let khz = if wanted.gtsc_khz == 0 {
            host_khz
        } else {
            wanted.gtsc_khz
        };
        let own = match wanted.tsc_mode {
            BY_NEED if khz.abs_diff(host_khz) <= host_khz / TOLERANCE => None,
            NATIVE => None,
            BY_NEED | EMULATED => {
                let scale = TscScale::from_khz(khz).ok_or("no rate that a TSC has")?;
                let tsc = scale.ns_to_ticks(wanted.elapsed_nsec);
                let clock = Clock {
                    tsc,
                    ns: now,
                    scale,
                };
                Some(OwnTsc { khz, clock })
            }
            _ => return Err("no such TSC mode"),
        };
        let moved = u32::from(wanted.elapsed_nsec != 0);
        Ok(Self {
            mode: wanted.tsc_mode,
            incarnation: wanted.incarnation.wrapping_add(moved),
            origin: now.wrapping_sub(wanted.elapsed_nsec),
            own,
        })
    }

    /// What a toolstack carries to another machine.
    #[must_use]
    pub fn info(&self, now: Nanos, host_khz: u32) -> DomctlTscInfo {
        DomctlTscInfo {
            tsc_mode: self.mode,
            gtsc_khz: self.own.map_or(host_khz, |own| own.khz),
            incarnation: self.incarnation,
            pad: 0,
            elapsed_nsec: now.wrapping_sub(self.origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: u32 = 2_600_000;

    fn wanted(tsc_mode: u32, gtsc_khz: u32, elapsed_nsec: u64) -> DomctlTscInfo {
        DomctlTscInfo {
            tsc_mode,
            gtsc_khz,
            elapsed_nsec,
            ..DomctlTscInfo::default()
        }
    }

    #[test]
    fn it_is_the_hosts_when_that_is_as_good() {
        for (mode, khz) in [
            (0, 0),
            (0, HOST),
            (0, HOST + 2600),
            (0, HOST - 2600),
            (2, 0),
            (2, 1),
        ] {
            assert_eq!(
                DomainTsc::new(&wanted(mode, khz, 0), 5, HOST).unwrap().own,
                None
            );
        }
        for (mode, khz) in [(0, HOST + 2601), (0, 1_000_000), (1, 0), (1, HOST)] {
            let tsc = DomainTsc::new(&wanted(mode, khz, 0), 5, HOST).unwrap();
            assert_eq!(tsc.own.unwrap().khz, if khz == 0 { HOST } else { khz });
        }
        for mode in [3, 4, u32::MAX] {
            assert!(DomainTsc::new(&wanted(mode, 0, 0), 5, HOST).is_err());
        }
    }

    #[test]
    fn a_move_keeps_the_time_that_has_gone_by() {
        let first = DomainTsc::new(&wanted(0, 0, 0), 1_000, HOST).unwrap();
        assert_eq!(first.info(1_000, HOST), wanted(0, HOST, 0));
        let told = first.info(5_000_001_000, HOST);
        assert_eq!((told.elapsed_nsec, told.incarnation), (5_000_000_000, 0));
        // To a slower machine that has been up for less.
        let second = DomainTsc::new(&told, 7, 2_000_000).unwrap();
        let own = second.own.unwrap();
        assert_eq!((own.khz, own.clock.tsc), (HOST, 13_000_000_000));
        assert_eq!(own.clock.tsc_at(1_000_000_007), 15_600_000_000);
        let told = second.info(1_000_000_007, 2_000_000);
        assert_eq!((told.gtsc_khz, told.incarnation), (HOST, 1));
        assert_eq!(told.elapsed_nsec, 6_000_000_000);
        // And back.
        let third = DomainTsc::new(&told, 9_000_000_000, HOST).unwrap();
        assert_eq!((third.own, third.incarnation), (None, 2));
    }

    proptest! {
        #[test]
        fn whatever_is_wanted_time_by_it_goes_on(
            mode in 0..5u32,
            khz in prop_oneof![any::<u32>(), 1_000_000..5_000_000u32],
            elapsed: u64,
            now in 0..1u64 << 60,
            later in 0..1u64 << 50,
        ) {
            if let Ok(tsc) = DomainTsc::new(&wanted(mode, khz, elapsed), now, HOST) {
                prop_assert_eq!(tsc.info(now, HOST).elapsed_nsec, elapsed);
                if let Some(own) = tsc.own {
                    let (first, second) = (own.clock.tsc_at(now), own.clock.tsc_at(now + later));
                    prop_assert!(first <= second);
                    if second < u64::MAX {
                        // What the guest computes from it is system time, to a tick.
                        let tick = 1_000_000 / u64::from(own.khz) + 1;
                        let seen = own.clock.at(second);
                        prop_assert!((now + later..=now + later + tick).contains(&seen));
                    }
                }
            }
        }
    }
}
