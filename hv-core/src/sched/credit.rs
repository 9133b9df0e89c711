//! The arithmetic of credit: nanoseconds of run time, scaled by weight.

use crate::base::Nanos;

/// A domain's weight unless set otherwise.
pub(super) const DEFAULT_WEIGHT: u16 = 256;
/// What a reset gives, and the most a unit that slept brings along (10 ms).
pub(super) const GRANT: i64 = 10_000_000;
/// How much a unit that competes may hold: a reset does not take away what it had left, up to
/// 5 ms. More would be fairer still, but one that wakes (with a grant) would wait for longer.
pub(super) const CEILING: i64 = GRANT + 5_000_000;
/// Credit that a unit which wakes needs beyond the running one's to preempt it (0.5 ms).
pub(super) const WAKE_RESISTANCE: i64 = 500_000;
/// Advantage that a unit needs to run outside its soft affinity (2 ms).
pub(super) const SOFT_RESISTANCE: i64 = 2_000_000;
/// The longest time between two decisions on a CPU that is not idle (10 ms).
pub(super) const MAX_SLICE: Nanos = 10_000_000;
/// The shortest time slice (0.5 ms); the rate limit can only lengthen it.
pub(super) const MIN_SLICE: Nanos = 500_000;
/// How often a group of CPUs looks at the load of the others (10 ms).
pub(super) const BALANCE_PERIOD: Nanos = 10_000_000;
/// How long a unit stays where balancing has moved it (100 ms): averages need time to show what
/// the move has done.
pub(super) const SETTLE_TIME: Nanos = 100_000_000;

/// Longest interval that is charged in one go: keeps the product below inside 63 bits.
const MAX_CHARGE: Nanos = 1 << 40;

/// Credit burnt by running `elapsed`: the heaviest unit burns one per nanosecond.
pub(super) fn burn(elapsed: Nanos, weight: u16, max_weight: u16) -> i64 {
    let elapsed = elapsed.min(MAX_CHARGE);
    if weight >= max_weight {
        return elapsed as i64;
    }
    (elapsed * u64::from(max_weight) / u64::from(weight.max(1))) as i64
}

/// Time in which a unit burns `credit`.
pub(super) fn time_to_burn(credit: i64, weight: u16, max_weight: u16) -> Nanos {
    let credit = (credit.max(0) as u64).min(MAX_CHARGE);
    if weight >= max_weight {
        return credit;
    }
    credit * u64::from(weight) / u64::from(max_weight)
}

/// How many grants lift `credit` above zero.
pub(super) fn grants_needed(credit: i64) -> u64 {
    credit.min(0).unsigned_abs() / GRANT as u64 + 1
}

/// `credit` after `grants` resets, at most `ceiling`.
pub(super) fn granted(credit: i64, grants: u64, ceiling: i64) -> i64 {
    let grants = i64::try_from(grants).unwrap_or(i64::MAX);
    credit
        .saturating_add(grants.saturating_mul(GRANT))
        .min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_is_inverse_to_weight() {
        assert_eq!(burn(1000, 256, 256), 1000);
        assert_eq!(burn(1000, 128, 256), 2000);
        assert_eq!(burn(1000, 512, 256), 1000);
        assert!(burn(u64::MAX, 1, u16::MAX) > 0);
    }

    #[test]
    fn time_to_burn_undoes_burn() {
        for weight in [1, 3, 256, 65535] {
            let time = time_to_burn(burn(1_000_000, weight, 65535), weight, 65535);
            assert!(time.abs_diff(1_000_000) <= 1, "{weight}: {time}");
        }
        assert_eq!(time_to_burn(-5, 1, 1), 0);
    }

    #[test]
    fn needed_grants_make_credit_positive_and_no_more() {
        for credit in [0, -1, -GRANT + 1, -GRANT, -GRANT - 1, -10 * GRANT] {
            let grants = grants_needed(credit);
            let after = granted(credit, grants, i64::MAX);
            assert!(after > 0 && after <= GRANT, "{credit}: {after}");
        }
        assert_eq!(granted(i64::MIN, u64::MAX, CEILING), -1);
    }
}
