//! The timer against one that counts every step.

use super::*;

/// Counts down bus cycle by bus cycle.
struct Brute {
    periodic: bool,
    initial: u32,
    count: u32,
    /// Bus cycles of one count, and how many of them have passed.
    divisor: u64,
    cycles: u64,
    /// Zeros since somebody looked.
    zeros: u32,
    /// There was one at the last look, which was too soon after the one before.
    missed: bool,
    not_before: u64,
}

impl Brute {
    fn cycle(&mut self) {
        if self.count == 0 {
            return;
        }
        self.cycles += 1;
        if self.cycles < self.divisor {
            return;
        }
        self.cycles = 0;
        self.count -= 1;
        if self.count == 0 {
            self.zeros += 1;
            if self.periodic {
                self.count = self.initial;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Look,
    Initial(u32),
    Periodic(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9_000_u64).prop_map(Step::Pass),
        4 => Just(Step::Look),
        1 => prop_oneof![Just(0), 1..4000_u32].prop_map(Step::Initial),
        1 => any::<bool>().prop_map(Step::Periodic),
    ]
}

const VECTOR: u32 = 0x60;

fn code(shift: u32) -> u32 {
    let code = shift.wrapping_sub(1) & 7;
    (code & 4) << 1 | code & 3
}

proptest! {
    #[test]
    fn counts_follow_every_cycle(shift in 0..8_u32, steps in prop::collection::vec(step(), 0..50)) {
        let mut lapic = enabled(0);
        let _ = write(&mut lapic, LVT_TIMER, VECTOR);
        let _ = write(&mut lapic, DIVIDE, code(shift));
        let mut brute = Brute {
            periodic: false, initial: 0, count: 0, divisor: 1 << shift, cycles: 0, zeros: 0, missed: false, not_before: 0,
        };
        let mut now = 0;
        for step in steps {
            match step {
                Step::Pass(cycles) => {
                    now += cycles * BUS_CYCLE;
                    (0..cycles).for_each(|_| brute.cycle());
                }
                // Whoever sets the timer otherwise is told first what is due.
                Step::Look => drop(lapic.advance(now)),
                Step::Initial(count) => {
                    let _ = lapic.write_mmio(INITIAL, 4, count.into(), &At(now));
                }
                Step::Periodic(periodic) => {
                    let mode = u32::from(periodic) << 17;
                    let _ = lapic.write_mmio(LVT_TIMER, 4, u64::from(VECTOR | mode), &At(now));
                }
            }
            if !matches!(step, Step::Pass(_)) {
                let fired = lapic.acknowledge(VECTOR as u8);
                lapic.eoi();
                let due = brute.zeros > 0 || brute.missed;
                // Periodic ones are thinned out, but none is invented or lost.
                prop_assert_eq!(fired, due && (!brute.periodic || now >= brute.not_before));
                brute.missed = due && !fired;
                if fired && brute.periodic {
                    brute.not_before = now + SHORTEST_SERVED;
                }
                brute.zeros = 0;
            }
            match step {
                Step::Initial(count) => {
                    (brute.initial, brute.count, brute.cycles) = (count, count, 0);
                    brute.missed = false;
                }
                Step::Periodic(periodic) => {
                    brute.periodic = periodic;
                    brute.missed &= periodic;
                }
                Step::Pass(_) | Step::Look => {}
            }
            prop_assert_eq!(lapic.read_mmio(CURRENT, 4, &At(now)), u64::from(brute.count));
        }
    }

    /// However short the period, there is a least distance between two interrupts.
    #[test]
    fn short_periods_are_thinned(count in 1..20_000_u32, shift in 0..8_u32) {
        let mut lapic = enabled(0);
        let _ = write(&mut lapic, DIVIDE, code(shift));
        let _ = write(&mut lapic, LVT_TIMER, 1 << 17 | VECTOR);
        let _ = write(&mut lapic, INITIAL, count);
        let period = (u64::from(count) * BUS_CYCLE) << shift;
        let mut last = lapic.next_deadline().unwrap();
        prop_assert_eq!(last, period);
        for _ in 0..10 {
            prop_assert!(lapic.advance(last).fired);
            let next = lapic.next_deadline().unwrap();
            prop_assert_eq!(next, last + period.max(SHORTEST_SERVED));
            last = next;
        }
    }
}

#[test]
fn a_change_of_the_divisor_keeps_the_count() {
    let mut lapic = enabled(0);
    let _ = write(&mut lapic, DIVIDE, 0xb);
    let _ = write(&mut lapic, INITIAL, 1000);
    assert_eq!(lapic.next_deadline(), Some(10_000));
    let _ = lapic.write_mmio(DIVIDE, 4, 0x3, &At(4_000));
    assert_eq!(lapic.read_mmio(CURRENT, 4, &At(4_000)), 600);
    assert_eq!(lapic.next_deadline(), Some(4_000 + 600 * 160));
}

#[test]
fn a_masked_timer_counts_but_does_not_interrupt() {
    let mut lapic = enabled(0);
    let _ = write(&mut lapic, LVT_TIMER, 0x1_0000 | VECTOR);
    assert!(!lapic.timer_can_interrupt());
    let _ = write(&mut lapic, INITIAL, 10);
    assert!(lapic.advance(200).fired);
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.next_deadline(), None);
}

#[test]
fn a_deadline_fires_once_and_is_cleared() {
    let mut lapic = enabled(0);
    let time = &At(0);
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 5000, time).unwrap();
    assert_eq!(lapic.read_msr(TSC_DEADLINE_MSR, time), Ok(0), "other mode");
    let _ = write(&mut lapic, INITIAL, 77);
    let _ = write(&mut lapic, LVT_TIMER, 2 << 17 | VECTOR);
    assert_eq!(lapic.next_deadline(), None, "the change of mode stops it");
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 5001, time).unwrap();
    assert_eq!(lapic.read_msr(TSC_DEADLINE_MSR, time), Ok(5001));
    assert_eq!(lapic.next_deadline(), Some(2001));
    let _ = write(&mut lapic, INITIAL, 5);
    assert_eq!(read(&mut lapic, INITIAL), 0, "ignored");
    assert_eq!(lapic.next_deadline(), Some(2001));
    assert!(!lapic.advance(2000).fired);
    assert!(lapic.advance(2001).fired);
    assert_eq!(lapic.pending(), Some(VECTOR as u8));
    assert_eq!(lapic.read_msr(TSC_DEADLINE_MSR, time), Ok(0));
    assert!(!lapic.advance(9999).fired);
    // In the past: at once. Zero: never.
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 1, &At(50)).unwrap();
    assert!(lapic.advance(50).fired);
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 9000, time).unwrap();
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 0, time).unwrap();
    assert_eq!(lapic.next_deadline(), None);
    let _ = lapic.write_msr(TSC_DEADLINE_MSR, 9000, time).unwrap();
    let _ = write(&mut lapic, LVT_TIMER, VECTOR);
    assert_eq!(lapic.next_deadline(), None);
    assert_eq!(lapic.tsc_deadline(), None);
}
