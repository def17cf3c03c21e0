//! Throttles: how many attempts a second somebody may get, counted with tokens. Pure; the time is passed in.
//!
//! ```text
//!             a token is there               claimed
//!   ready ───────────────────────▶ reserved ─────────▶ spent
//!                                      │ nothing was claimed
//!                                      └──────────────▶ as if it had never been asked for
//! ```
//!
//! Invariants: over any span of w milliseconds at most rate · w + burst tokens are spent, however often they are asked for,
//! reserved and released; whoever asks again as soon as there is a token gets no less than the rate. Tokens are counted in
//! thousandths, so that no part of a millisecond is lost or won.

use std::time::Duration;

use crate::time::Timestamp;

/// A token, in the unit that they are counted in: what a rate of one a second adds in a second of milliseconds.
const TOKEN: u64 = 1_000;

/// How many attempts may follow each other at once at this rate: a tenth of a second's, and at least one.
pub const fn burst(rate: u32) -> u32 {
    if rate <= 10 { 1 } else { rate.div_ceil(10) }
}

/// A bucket of tokens, full at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Tokens a second: at least 1.
    rate: u32,
    /// What there is, the reserved tokens included: those that are out keep their room.
    credit: u64,
    /// As of when.
    at: Timestamp,
    reserved: u32,
}

impl Throttle {
    /// A full bucket. A rate below 1 counts as 1.
    pub fn new(rate: u32, now: Timestamp) -> Self {
        let rate = rate.max(1);
        Throttle { rate, credit: u64::from(burst(rate)) * TOKEN, at: now, reserved: 0 }
    }

    /// The rate that counts from now on. What had come in until now stays, as far as there is room for it.
    pub fn set_rate(&mut self, rate: u32, now: Timestamp) {
        let rate = rate.max(1);
        if rate != self.rate {
            self.fill(now);
            self.rate = rate;
            self.credit = self.credit.min(self.room());
        }
    }

    /// Whether a token can be reserved now; otherwise when one will be there, if nobody takes it before.
    ///
    /// # Errors
    /// That time: always later than `now`.
    pub fn ready(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.fill(now);
        let wanted = u64::from(self.reserved) * TOKEN + TOKEN;
        match wanted.saturating_sub(self.credit) {
            0 => Ok(()),
            missing => Err(self.at + Duration::from_millis(missing.div_ceil(u64::from(self.rate)))),
        }
    }

    /// Sets a token aside. Ask [`ready`](Throttle::ready) first.
    pub fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// A token that was set aside is used. What came in since then, and had no room beside it, is lost.
    pub fn spend(&mut self, now: Timestamp) {
        self.fill(now);
        self.reserved = self.reserved.saturating_sub(1);
        self.credit = self.credit.saturating_sub(TOKEN);
    }

    /// A token that was set aside is not used.
    pub fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Whether a new bucket would be no different: nothing needs to be remembered.
    pub fn is_full(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        self.reserved == 0 && self.credit >= u64::from(burst(self.rate)) * TOKEN
    }

    /// A burst, and what comes in during the millisecond in which the bucket runs full: whoever asks once a millisecond
    /// would lose that otherwise.
    fn room(&self) -> u64 {
        u64::from(burst(self.rate)) * TOKEN + u64::from(self.rate) - 1
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = now.as_millis().saturating_sub(self.at.as_millis());
        self.credit = self.credit.saturating_add(passed.saturating_mul(u64::from(self.rate))).min(self.room());
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn after(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    /// The most tokens that may be spent in the milliseconds from `first` to `last`, both included.
    fn most(rate: u32, first: u64, last: u64) -> u64 {
        u64::from(burst(rate)) + u64::from(rate) * (last - first + 1) / 1_000
    }

    fn assert_within(rate: u32, spent: &[u64]) {
        for (n, first) in spent.iter().enumerate() {
            for (m, last) in spent.iter().enumerate().skip(n) {
                let count = (m - n + 1) as u64;
                assert!(count <= most(rate, *first, *last), "{count} at {rate}/s from {first} to {last} ms");
            }
        }
    }

    #[test]
    fn a_burst_is_a_tenth_of_a_second_and_at_least_one() {
        assert_eq!([1, 10, 11, 20, 21, 1_000, 65_535].map(burst), [1, 1, 2, 2, 3, 100, 6_554]);
    }

    #[test]
    fn the_burst_is_there_at_once_and_then_the_rate() {
        let mut throttle = Throttle::new(20, START);
        for _ in 0..2 {
            assert_eq!(throttle.ready(START), Ok(()));
            throttle.reserve();
            throttle.spend(START);
        }
        assert_eq!(throttle.ready(START), Err(after(50)));
        assert_eq!(throttle.ready(after(49)), Err(after(50)));
        assert_eq!(throttle.ready(after(50)), Ok(()));
    }

    #[test]
    fn a_token_that_was_not_used_is_there_again_and_is_no_second_one() {
        let mut throttle = Throttle::new(1, START);
        throttle.reserve();
        assert!(throttle.ready(after(5_000)).is_err(), "it is out: the bucket has no room for another");
        throttle.release();
        assert_eq!(throttle.ready(after(5_000)), Ok(()));
        throttle.reserve();
        throttle.spend(after(5_000));
        assert_eq!(throttle.ready(after(5_000)), Err(after(6_000)));
    }

    #[test]
    fn another_rate_counts_from_the_next_token_on() {
        let mut throttle = Throttle::new(1, START);
        throttle.reserve();
        throttle.spend(after(10));
        throttle.set_rate(100, after(10));
        assert_eq!(throttle.ready(after(10)), Err(after(20)), "a raised rate gives no burst for nothing");
        throttle.set_rate(1, after(1_000));
        assert!(throttle.is_full(after(1_000)), "and of a lowered one no more is left than its burst");
        throttle.reserve();
        throttle.spend(after(1_000));
        assert!(throttle.ready(after(1_000)).is_err());
    }

    proptest! {
        #[test]
        fn over_any_span_no_more_is_spent_than_the_rate_and_a_burst(
            rate in prop_oneof![1u32..=30, 100u32..=2_000],
            steps in proptest::collection::vec((0u64..400, 0u32..40, proptest::bool::weighted(0.2), 0u64..50), 1..60),
        ) {
            let (mut throttle, mut now, mut spent) = (Throttle::new(rate, START), 0, Vec::new());
            for (wait, wanted, unused, claim) in steps {
                now += wait;
                let mut reserved = 0;
                while reserved < wanted && throttle.ready(after(now)).is_ok() {
                    throttle.reserve();
                    reserved += 1;
                }
                // A claim may take its time, and give some of them back.
                now += claim;
                for n in 0..reserved {
                    if unused && n % 2 == 0 {
                        throttle.release();
                    } else {
                        throttle.spend(after(now));
                        spent.push(now);
                    }
                }
            }
            assert_within(rate, &spent);
        }

        #[test]
        fn whoever_asks_as_soon_as_there_is_a_token_gets_the_rate(rate in 1u32..=5_000, seconds in 1u64..20) {
            let (mut throttle, mut now, mut count) = (Throttle::new(rate, START), START, 0u64);
            let end = after(seconds * 1_000);
            while now <= end {
                match throttle.ready(now) {
                    Ok(()) => {
                        throttle.reserve();
                        throttle.spend(now);
                        count += 1;
                    }
                    Err(at) => {
                        prop_assert!(at > now);
                        now = at;
                    }
                }
            }
            prop_assert!(count >= u64::from(rate) * seconds, "{count} of {}", u64::from(rate) * seconds);
            prop_assert!(count <= u64::from(rate) * seconds + u64::from(burst(rate)) + u64::from(rate) / 1_000 + 1);
        }
    }
}
