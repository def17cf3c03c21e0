//! The breaker: when an endpoint that fails again and again is left alone, and how it is led back. Pure; the time and the
//! draw for the jitter are passed in.
//!
//! ```text
//!            so many failures in a row              the rest is over
//!   CLOSED ─────────────────────────────▶ RESTING ───────────────────▶ PROBING
//!     ▲                                    │   ▲   fails: twice as long   │ one request at a time
//!     │                     an answer late │   └──────────────────────────┤
//!     └─ slow start: 1, 2, 4, … at once ◀──┴──────────────────────────────┘ an answer
//! ```
//!
//! Invariant: nothing is claimed for an endpoint that rests, so its deliveries wait and no attempt of theirs is counted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{Failure, Outcome};
use crate::time::Timestamp;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// After so many failures in a row; 0: never.
    pub failures: u32,
    /// The first rest. Each that follows is twice as long as the one before.
    pub rest: Duration,
    /// The longest rest.
    pub max_rest: Duration,
}

/// Whether an endpoint gets requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum BreakerState {
    /// It does.
    #[default]
    Closed,
    /// It gets none until then: it failed too often in a row, or asked for it with `Retry-After`.
    Resting {
        /// When it is tried again.
        until: Timestamp,
    },
    /// It gets one at a time, until one is answered.
    Probing,
}

/// What an attempt says about the endpoint that it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It works: any answer that is neither 429 nor 500 and above, and whatever the profile calls a success.
    Sound,
    /// It does not, or not now.
    Failing {
        /// It asks for fewer requests at once: 429, 502, 503 and 504.
        overloaded: bool,
    },
    /// The attempt ended before it came to that.
    None,
}

fn sign(outcome: Outcome, success: bool) -> Sign {
    match outcome {
        Outcome::Answered { .. } if success => Sign::Sound,
        Outcome::Answered { status: 429 | 502..=504, .. } => Sign::Failing { overloaded: true },
        Outcome::Answered { status: 500.., .. } => Sign::Failing { overloaded: false },
        Outcome::Answered { .. } => Sign::Sound,
        Outcome::Failed(failure) => match failure {
            // A name that leads inside counts as one that leads nowhere: the pace of its attempts shows no difference.
            Failure::Timeout
            | Failure::Dns
            | Failure::BlockedAddress
            | Failure::Refused
            | Failure::Unreachable
            | Failure::Tls
            | Failure::Reset
            | Failure::Protocol => Sign::Failing { overloaded: false },
            Failure::Blocked
            | Failure::Unsendable
            | Failure::Lost
            | Failure::Panicked
            | Failure::Damaged
            | Failure::Expunged => Sign::None,
        },
    }
}

/// An attempt's end, as the breaker sees it.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it showed.
    pub outcome: Outcome,
    /// Whether the profile calls that a success.
    pub success: bool,
    /// Whether the profile follows `Retry-After`.
    pub follow_retry_after: bool,
    /// How many requests the endpoint may have on its way at most.
    pub most: u32,
    /// When it ended.
    pub at: Timestamp,
    /// For the jitter: from 0 up to, not including, 1.
    pub draw: f64,
}

/// How many requests at once an endpoint may have while it recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ramp {
    cap: u32,
    /// Answers since it was raised last.
    answers: u32,
}

/// What an endpoint's last attempts say about the next ones. Kept in memory: a restart starts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    /// Failures in a row.
    failures: u32,
    /// Rests since it last worked at its full cap.
    rests: u32,
    /// None: its own cap.
    ramp: Option<Ramp>,
    /// It asked to be left alone until then.
    asked: Option<Timestamp>,
}

impl Breaker {
    /// Whether requests may be claimed for it now, as far as rests go.
    ///
    /// # Errors
    /// When they may.
    pub fn rested(&self, now: Timestamp) -> Result<(), Timestamp> {
        match self.resting_until() {
            Some(until) if now < until => Err(until),
            Some(_) | None => Ok(()),
        }
    }

    fn resting_until(&self) -> Option<Timestamp> {
        let by_failures = match self.state {
            BreakerState::Resting { until } => Some(until),
            BreakerState::Closed | BreakerState::Probing => None,
        };
        by_failures.max(self.asked)
    }

    /// How many requests it may have on its way once it has rested, `most` being its own cap.
    pub fn cap(&self, most: u32) -> u32 {
        match self.state {
            BreakerState::Closed => self.ramp.map_or(most, |ramp| ramp.cap.min(most)),
            BreakerState::Resting { .. } | BreakerState::Probing => most.min(1),
        }
    }

    /// A request is claimed: after a rest it is a probe.
    pub fn claimed(&mut self) {
        self.asked = None;
        if matches!(self.state, BreakerState::Resting { .. }) {
            self.state = BreakerState::Probing;
        }
    }

    /// Takes an attempt's end into account.
    pub fn observe(&mut self, ended: Ended, rules: BreakerRules) {
        match sign(ended.outcome, ended.success) {
            Sign::Sound => self.sound(ended.most),
            Sign::Failing { overloaded } => self.failing(overloaded, ended, rules),
            Sign::None => {}
        }
    }

    fn sound(&mut self, most: u32) {
        self.failures = 0;
        let ramp = match self.state {
            BreakerState::Closed => self.ramp.map(|ramp| Ramp { answers: ramp.answers.saturating_add(1), ..ramp }),
            // An answer that comes while it rests is to a request of before: it is back all the same.
            BreakerState::Resting { .. } | BreakerState::Probing => Some(Ramp { cap: 1, answers: 0 }),
        };
        self.state = BreakerState::Closed;
        self.ramp = match ramp {
            Some(Ramp { cap, answers }) if answers >= cap => Some(Ramp { cap: cap.saturating_mul(2), answers: 0 }),
            Some(_) | None => ramp,
        };
        if self.ramp.is_none_or(|ramp| ramp.cap >= most) {
            self.ramp = None;
            self.rests = 0;
        }
    }

    fn failing(&mut self, overloaded: bool, ended: Ended, rules: BreakerRules) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            BreakerState::Closed if rules.failures > 0 && self.failures >= rules.failures => self.rest(ended, rules),
            BreakerState::Probing => self.rest(ended, rules),
            // What ends while it rests was on its way before: the rest is for that, too.
            BreakerState::Closed | BreakerState::Resting { .. } => {}
        }
        if !overloaded {
            return;
        }
        let cap = self.ramp.map_or(ended.most, |ramp| ramp.cap.min(ended.most)) / 2;
        self.ramp = Some(Ramp { cap: cap.max(1), answers: 0 });
        let asked = match ended.outcome {
            Outcome::Answered { retry_after, .. } if ended.follow_retry_after => retry_after,
            Outcome::Answered { .. } | Outcome::Failed(_) => None,
        };
        let until = asked.map(|wait| ended.at + wait.min(rules.max_rest)).filter(|until| *until > ended.at);
        self.asked = self.asked.max(until);
    }

    /// Half of the rest is fixed and half is drawn, so that endpoints which went together come back one by one.
    fn rest(&mut self, ended: Ended, rules: BreakerRules) {
        let doubled = 1u32.checked_shl(self.rests).map_or(rules.max_rest, |factor| rules.rest.saturating_mul(factor));
        let rest = doubled.min(rules.max_rest).mul_f64(0.5 + 0.5 * ended.draw.clamp(0.0, 1.0));
        self.rests = self.rests.saturating_add(1).min(31);
        self.state = BreakerState::Resting { until: ended.at + rest };
        // It comes back slowly, whatever it could take before.
        self.ramp = None;
    }

    /// How it stands: whether it gets requests, and how many attempts failed in a row.
    pub fn shown(&self, now: Timestamp) -> (BreakerState, u32) {
        let state = match (self.resting_until(), self.state) {
            (Some(until), _) if now < until => BreakerState::Resting { until },
            (_, BreakerState::Closed) => BreakerState::Closed,
            // The rest is over: whatever is claimed next is a probe.
            (_, BreakerState::Resting { .. } | BreakerState::Probing) => BreakerState::Probing,
        };
        (state, self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const RULES: BreakerRules =
        BreakerRules { failures: 10, rest: Duration::from_secs(5), max_rest: Duration::from_secs(300) };
    const TIMEOUT: Outcome = Outcome::Failed(Failure::Timeout);

    fn answered(status: u16) -> Outcome {
        Outcome::answered(status)
    }

    fn ended(outcome: Outcome, at: Timestamp) -> Ended {
        let success = matches!(outcome, Outcome::Answered { status: 200..=299, .. });
        Ended { outcome, success, follow_retry_after: true, most: 8, at, draw: 0.999_999 }
    }

    fn after(breaker: Breaker, outcomes: &[Outcome]) -> Breaker {
        let mut breaker = breaker;
        outcomes.iter().for_each(|outcome| breaker.observe(ended(*outcome, NOW), RULES));
        breaker
    }

    #[test]
    fn it_opens_after_ten_failures_in_a_row_that_speak_about_the_endpoint() {
        for speaks in [TIMEOUT, answered(500), answered(429), answered(503), Outcome::Failed(Failure::Refused)] {
            assert!(after(Breaker::default(), &[speaks; 9]).rested(NOW).is_ok());
            assert!(after(Breaker::default(), &[speaks; 10]).rested(NOW).is_err(), "{speaks:?}");
        }
        for other in [answered(400), answered(404), answered(301), Outcome::Failed(Failure::Blocked)] {
            assert_eq!(after(Breaker::default(), &[other; 50]), Breaker::default(), "{other:?}");
        }
        let mut row = [TIMEOUT; 19];
        row[9] = answered(404);
        assert!(after(Breaker::default(), &row).rested(NOW).is_ok(), "an answer ends the row");
        row[9] = Outcome::Failed(Failure::Panicked);
        assert!(after(Breaker::default(), &row).rested(NOW).is_err(), "what says nothing does not");
    }

    #[test]
    fn a_breaker_that_is_off_never_opens() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            breaker.observe(ended(TIMEOUT, NOW), BreakerRules { failures: 0, ..RULES });
        }
        assert_eq!((breaker.rested(NOW), breaker.cap(8), breaker.shown(NOW).1), (Ok(()), 8, 1_000));
    }

    #[test]
    fn rests_double_up_to_the_longest_and_are_drawn_from_their_second_half() {
        let mut breaker = after(Breaker::default(), &[TIMEOUT; 10]);
        let mut now = NOW;
        let mut rests = Vec::new();
        for _ in 0..9 {
            let until = breaker.rested(now).unwrap_err();
            rests.push(until.since(now).as_secs_f64().round() as u64);
            now = until;
            assert_eq!(breaker.rested(now), Ok(()));
            breaker.claimed();
            assert_eq!((breaker.shown(now).0, breaker.cap(8)), (BreakerState::Probing, 1));
            breaker.observe(ended(TIMEOUT, now), RULES);
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        let mut early = Breaker::default();
        (0..10).for_each(|_| early.observe(Ended { draw: 0.0, ..ended(TIMEOUT, NOW) }, RULES));
        assert_eq!(early.rested(NOW), Err(NOW + Duration::from_millis(2_500)));
    }

    #[test]
    fn after_a_probe_that_is_answered_the_cap_doubles_each_time_that_many_answers_came_in() {
        let mut breaker = after(Breaker::default(), &[TIMEOUT; 10]);
        breaker.claimed();
        let mut caps = Vec::new();
        for _ in 0..9 {
            breaker.observe(ended(answered(204), NOW), RULES);
            caps.push(breaker.cap(8));
        }
        assert_eq!(caps, [1, 2, 2, 4, 4, 4, 4, 8, 8]);
        assert_eq!(breaker, Breaker::default(), "it is as if nothing had been");
    }

    #[test]
    fn a_rest_after_a_slow_start_that_failed_is_longer_than_the_one_before() {
        let mut breaker = after(Breaker::default(), &[TIMEOUT; 10]);
        breaker.claimed();
        breaker = after(breaker, &[answered(200)]);
        breaker = after(breaker, &[TIMEOUT; 10]);
        assert_eq!(breaker.rested(NOW).unwrap_err().since(NOW).as_secs_f64().round(), 10.0);
    }

    #[test]
    fn an_overload_halves_the_cap_and_answers_bring_it_back() {
        let mut breaker = after(Breaker::default(), &[answered(503)]);
        assert_eq!(breaker.cap(8), 4);
        breaker = after(breaker, &[answered(429), answered(502), answered(504)]);
        assert_eq!(breaker.cap(8), 1, "never under one");
        assert_eq!(after(Breaker::default(), &[answered(500)]).cap(8), 8, "it failed; it is not overloaded");
        breaker = after(breaker, &[answered(200); 7]);
        assert_eq!(breaker.cap(8), 8);
    }

    #[test]
    fn retry_after_rests_the_endpoint_where_it_is_followed_and_never_beyond_the_longest_rest() {
        let asks =
            |seconds| Outcome::Answered { status: 429, retry_after: Some(Duration::from_secs(seconds)), asked: None };
        let until = |outcome, follow_retry_after| {
            let mut breaker = Breaker::default();
            breaker.observe(Ended { follow_retry_after, ..ended(outcome, NOW) }, RULES);
            breaker.rested(NOW)
        };
        assert_eq!(until(asks(9), true), Err(NOW + Duration::from_secs(9)));
        assert_eq!(until(asks(9), false), Ok(()));
        assert_eq!(until(asks(86_400), true), Err(NOW + RULES.max_rest));
        let mut breaker = after(Breaker::default(), &[asks(9), answered(200)]);
        assert!(breaker.rested(NOW).is_err(), "an answer to a request of before does not undo it");
        assert_eq!(breaker.rested(NOW + Duration::from_secs(9)), Ok(()));
        breaker.claimed();
        assert_eq!(breaker.shown(NOW).0, BreakerState::Closed, "it had not failed too often: it needs no probe");
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_neither_prolongs_the_rest_nor_is_lost_on_it() {
        let open = after(Breaker::default(), &[TIMEOUT; 10]);
        let longer = after(open, &[TIMEOUT; 50]);
        assert_eq!(longer.rested(NOW), open.rested(NOW));
        let back = after(longer, &[answered(200)]);
        assert_eq!((back.rested(NOW), back.cap(8)), (Ok(()), 1));
    }

    /// When each of a thousand endpoints that all were down for this long is tried for the first time afterwards.
    fn first_tries(down: Duration) -> Vec<Duration> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(17);
        let healed = NOW + down;
        let first_try = |_| {
            let (mut breaker, mut now) = (Breaker::default(), NOW);
            while now < healed {
                breaker.claimed();
                breaker.observe(Ended { draw: random.random(), ..ended(TIMEOUT, now) }, RULES);
                // They fail together at first: nothing but the draw parts them.
                now = breaker.rested(now).err().unwrap_or(now);
            }
            now.since(healed)
        };
        (0..1_000).map(first_try).collect()
    }

    #[test]
    fn a_thousand_endpoints_that_are_back_at_once_are_tried_one_by_one() {
        for (down, bucket) in [(30, 500), (600, 5_000), (3_600, 5_000)] {
            let tries = first_tries(Duration::from_secs(down));
            let last = tries.iter().max().unwrap();
            assert!(*last <= RULES.max_rest, "all are tried within the longest rest");
            let mut buckets = vec![0usize; last.as_millis() as usize / bucket + 1];
            tries.iter().for_each(|at| buckets[at.as_millis() as usize / bucket] += 1);
            let mean = tries.len() as f64 / buckets.len() as f64;
            let most = *buckets.iter().max().unwrap();
            assert!(most as f64 <= 3.0 * mean, "{most} where the mean is {mean} after {down} s: {buckets:?}");
        }
    }
}
