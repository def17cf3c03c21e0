//! A job's pace: how many deliveries it takes up at once, and when the next ones. Pure.
//!
//! A second has some slots of about the same size, which add up to the rate whichever the first of them is. Two slots
//! are never closer than a slot is long, so no second, wherever it begins, has more than the rate.

use std::time::Duration;

/// The most deliveries of one write: their rounds and the job's progress are one commit.
const MOST: u32 = 60;
/// The most where each writes its message anew, with up to 32 KiB of payload.
const MOST_ADDED: u32 = 20;
/// How many slots a second has at least, so that a job goes on evenly.
const EVENLY: u32 = 10;

/// How a job's deliveries are spread over a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    rate: u32,
    slots: u32,
}

impl Pace {
    /// The pace of a rate, which is at least 1; `adds` says that messages are given deliveries.
    pub(super) fn of(rate: u32, adds: bool) -> Pace {
        let most = if adds { MOST_ADDED } else { MOST };
        Pace { rate, slots: rate.div_ceil(most).max(EVENLY.min(rate)) }
    }

    /// How many deliveries the slot with this number has.
    pub(super) fn size(self, slot: u32) -> usize {
        let (slot, rate, slots) = (u64::from(slot % self.slots), u64::from(self.rate), u64::from(self.slots));
        let up_to = |slot: u64| slot * rate / slots;
        usize::try_from(up_to(slot + 1) - up_to(slot)).expect("a slot has at most 60")
    }

    /// How long a slot is: in whole milliseconds, as times are.
    pub(super) fn length(self) -> Duration {
        Duration::from_millis(u64::from(1000_u32.div_ceil(self.slots)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_second_has_more_than_the_rate_and_little_less(rate in 1u32..=10_000, adds: bool, first in 0u32..2_000) {
            let pace = Pace::of(rate, adds);
            let length = pace.length().as_millis();
            // Each slot at its earliest, over a second that begins with any of them.
            let in_a_second = 1000_u128.div_ceil(length) as u32;
            let sum: usize = (first..first + in_a_second).map(|slot| pace.size(slot)).sum();
            prop_assert!(sum <= rate as usize, "{sum} of {rate}");
            prop_assert!(sum as f64 >= f64::from(rate) * 0.66, "{sum} of {rate}");
            let largest = (0..in_a_second).map(|slot| pace.size(slot)).max().unwrap();
            let most = if adds { 20 } else { 60 };
            prop_assert!((1..=most).contains(&largest), "{largest}");
        }
    }

    #[test]
    fn a_slow_job_takes_one_at_a_time() {
        let pace = Pace::of(3, false);
        assert_eq!((pace.size(0), pace.size(1), pace.size(5), pace.length()), (1, 1, 1, Duration::from_millis(334)));
    }
}
