//! Health: whether an endpoint holds its permits for long, and how many permits those that do have between them. Pure.
//!
//! ```text
//!            an answer, and attempts that take under a second
//!   SLOW ─────────────────────────────────────────────────────▶ QUICK
//!     ▲     attempts take longer · a second without any end         │
//!     └─────  · three timeouts in a row  ◀──────────────────────────┘
//! ```
//!
//! Whoever does not answer, is not known yet, or takes long shares what is left over: see [`Shares`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::{Breaker, BreakerState};
use crate::delivery::{Failure, Outcome};
use crate::standing::Failing;
use crate::time::Timestamp;

/// After this many timeouts in a row an endpoint is held to [`TIMING_OUT_CAP`] requests at once.
pub const TIMEOUTS_IN_A_ROW: u32 = 3;
/// The cap of an endpoint that times out.
pub const TIMING_OUT_CAP: u32 = 4;
/// An endpoint is quick while its attempts take less than this, smoothed, and while it does not let this pass without an
/// end of any of them.
pub const QUICK: Duration = Duration::from_secs(1);
/// How much a new attempt counts in the smoothed duration: one part of so many.
const SMOOTHING: u32 = 8;

/// How long an endpoint holds its permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// It answers, and its attempts take less than a second.
    Quick,
    /// It takes longer, does not answer, or nothing is known of it yet: it shares the slow ones' permits.
    Slow,
}

/// How an endpoint has answered lately. Kept in memory: a restart starts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    timeouts: u32,
    /// How long its attempts take, smoothed; none before its first answer.
    takes: Option<Duration>,
    /// A second has passed without an end of any attempt that was on its way.
    silent: bool,
}

/// How an endpoint stands in the sender's eyes. `docs/delivery.md` has the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EndpointHealth {
    /// Whether it gets requests, and if not, until when.
    pub breaker: BreakerState,
    /// How many attempts in a row failed in a way that speaks about the endpoint.
    pub failures: u32,
    /// How many requests may be on their way to it now.
    pub cap: u32,
    /// How many are.
    pub in_flight: u32,
    /// How long it holds its permits.
    pub pace: Pace,
    /// How long it has done nothing but fail, over restarts; `None` if it last succeeded.
    pub failing: Option<Failing>,
}

/// What is remembered of an endpoint, to be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) breaker: Breaker,
    pub(crate) health: Health,
    pub(crate) in_flight: u32,
}

impl Remembered {
    /// How it stands now, `most` being its own cap.
    pub(crate) fn shown(&self, most: u32, now: Timestamp) -> EndpointHealth {
        let (breaker, failures) = self.breaker.shown(now);
        let cap = match breaker {
            BreakerState::Resting { .. } => 0,
            BreakerState::Closed | BreakerState::Probing => self.health.cap(self.breaker.cap(most)),
        };
        EndpointHealth { breaker, failures, cap, in_flight: self.in_flight, pace: self.health.pace(), failing: None }
    }
}

/// How many requests may be on their way for whom, so that nobody takes the permits of all: neither endpoints that are slow,
/// nor one application whose endpoints all are quick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For one application: a half of all permits, where there is another.
    pub of_one_application: usize,
    /// To slow endpoints of one application: a quarter; a half, where there is no other.
    pub slow_of_one: usize,
    /// To those of all: a half.
    pub slow_of_all: usize,
    in_flight: usize,
}

/// Who asks for a permit for a slow endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowOne {
    /// How many such permits its application holds.
    pub own: usize,
    /// How many all do.
    pub all: usize,
    /// Nothing is known of the endpoint, and nothing is on its way to it: this request will show how it is.
    pub untried: bool,
}

impl Shares {
    /// The shares of so many applications where this many requests may be on their way in all; at least four, where there
    /// are as many.
    pub fn of(in_flight: usize, applications: usize) -> Shares {
        let part = |of: usize| (in_flight / of).max(in_flight.min(TIMING_OUT_CAP as usize));
        let alone = applications <= 1;
        Shares {
            of_one_application: if alone { in_flight } else { part(2) },
            slow_of_one: part(if alone { 2 } else { 4 }),
            slow_of_all: part(2),
            in_flight,
        }
    }

    /// Whether an application that holds this many may take one more.
    pub fn have_room(self, own: usize) -> bool {
        own < self.of_one_application
    }

    /// Whether one more may be taken for a slow endpoint. A quarter of these shares is left to the first request to each
    /// that is untried, and the first of an application may even be beyond them: that is how an endpoint comes to be known
    /// as quick, however many others hang. A quarter of all permits is left to the quick ones in any case.
    pub fn have_room_for_slow(self, who: SlowOne) -> bool {
        let SlowOne { own, all, untried } = who;
        if own == 0 {
            return all < (self.in_flight - self.in_flight / 4).max(self.slow_of_all);
        }
        let most = |share: usize| if untried { share } else { share - share / 4 };
        own < most(self.slow_of_one) && all < most(self.slow_of_all)
    }
}

impl Health {
    /// Takes an attempt's end into account. Any answer, whatever its status, ends a run of timeouts.
    pub fn observe(&mut self, outcome: Outcome, took: Duration) {
        match outcome {
            // Whoever does not answer at all holds its permit for a whole step of connecting.
            // And a name that leads inside counts as one that leads nowhere: the pace of its attempts shows no difference.
            Outcome::Failed(
                Failure::Timeout | Failure::Unreachable | Failure::Dns | Failure::BlockedAddress | Failure::Tls,
            ) => {
                self.timeouts = self.timeouts.saturating_add(1);
                self.takes = self.takes.map(|before| smoothed(before, took));
            }
            Outcome::Answered { .. } => {
                self.timeouts = 0;
                self.silent = false;
                self.takes = Some(self.takes.map_or(took, |before| smoothed(before, took)));
            }
            // Other failures hold no permit for long; they say nothing about slowness.
            Outcome::Failed(_) => self.silent = false,
        }
    }

    /// Whether an attempt of its has shown how it is.
    pub fn is_known(self) -> bool {
        self.takes.is_some() || self.timeouts > 0 || self.silent
    }

    /// Notes that [`QUICK`] has passed without an end of any of its attempts.
    pub fn silent(&mut self) {
        self.silent = true;
    }

    /// How long it holds its permits.
    pub fn pace(self) -> Pace {
        let quick = self.takes.is_some_and(|takes| takes < QUICK) && self.timeouts < TIMEOUTS_IN_A_ROW && !self.silent;
        if quick { Pace::Quick } else { Pace::Slow }
    }

    /// The cap in force, `most` being the endpoint's own.
    pub fn cap(self, most: u32) -> u32 {
        if self.timeouts >= TIMEOUTS_IN_A_ROW { most.min(TIMING_OUT_CAP) } else { most }
    }
}

fn smoothed(before: Duration, took: Duration) -> Duration {
    (before * (SMOOTHING - 1) + took) / SMOOTHING
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Outcome = Outcome::answered(500);
    const TIMEOUT: Outcome = Outcome::Failed(Failure::Timeout);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_endpoint_that_times_out_is_held_back_until_it_answers() {
        let mut health = Health::default();
        for _ in 0..TIMEOUTS_IN_A_ROW {
            assert_eq!(health.cap(64), 64);
            health.observe(TIMEOUT, ms(10));
        }
        assert_eq!((health.cap(64), health.cap(2)), (4, 2));
        health.observe(ANSWER, ms(10));
        assert_eq!(health.cap(64), 64);
    }

    #[test]
    fn an_endpoint_is_quick_once_it_has_answered_and_until_it_times_out() {
        let mut health = Health::default();
        assert_eq!(health.pace(), Pace::Slow, "nothing is known of it");
        health.observe(Outcome::Failed(Failure::Refused), ms(1));
        assert_eq!(health.pace(), Pace::Slow);
        for _ in 0..2 {
            health.observe(ANSWER, ms(10));
            assert_eq!(health.pace(), Pace::Quick);
            for _ in 1..TIMEOUTS_IN_A_ROW {
                health.observe(TIMEOUT, ms(100));
                assert_eq!(health.pace(), Pace::Quick);
            }
            health.observe(TIMEOUT, ms(100));
            assert_eq!(health.pace(), Pace::Slow);
        }
    }

    #[test]
    fn an_endpoint_that_answers_after_taking_long_is_slow_until_it_does_not() {
        let mut health = Health::default();
        health.observe(ANSWER, ms(29_000));
        assert_eq!(health.pace(), Pace::Slow);
        let mut answers = 0;
        while health.pace() == Pace::Slow {
            health.observe(ANSWER, ms(20));
            answers += 1;
        }
        assert!((20..30).contains(&answers), "{answers}");
        health.observe(ANSWER, ms(29_000));
        assert_eq!(health.pace(), Pace::Slow, "one attempt that takes long is enough");
    }

    #[test]
    fn an_endpoint_that_falls_silent_is_slow_before_its_attempts_end() {
        let mut health = Health::default();
        health.observe(ANSWER, ms(20));
        health.silent();
        assert_eq!(health.pace(), Pace::Slow);
        health.observe(ANSWER, ms(20));
        assert_eq!(health.pace(), Pace::Quick);
    }

    #[test]
    fn a_name_that_leads_inside_is_slowed_down_as_one_that_does_not_resolve() {
        let (mut inside, mut nowhere) = (Health::default(), Health::default());
        for _ in 0..TIMEOUTS_IN_A_ROW {
            assert_eq!(inside, nowhere);
            inside.observe(Outcome::Failed(Failure::BlockedAddress), ms(10));
            nowhere.observe(Outcome::Failed(Failure::Dns), ms(10));
        }
        assert_eq!((inside.cap(64), nowhere.cap(64)), (TIMING_OUT_CAP, TIMING_OUT_CAP));
    }

    #[test]
    fn nobody_has_a_share_in_the_permits_that_are_left_for_others() {
        let shares = |in_flight, applications| {
            let Shares { of_one_application, slow_of_one, slow_of_all, .. } = Shares::of(in_flight, applications);
            (of_one_application, slow_of_one, slow_of_all)
        };
        assert_eq!(shares(1_024, 2), (512, 256, 512));
        assert_eq!(shares(1_024, 1), (1_024, 512, 512), "where there is no other, nothing is left for it");
        assert_eq!((shares(10, 3), shares(1, 2)), ((5, 4, 5), (1, 1, 1)));
        let shares = Shares::of(1_024, 2);
        assert!(shares.have_room(511) && !shares.have_room(512));
        let room = |own, all, untried| shares.have_room_for_slow(SlowOne { own, all, untried });
        assert!(room(191, 383, false) && !room(192, 300, false) && !room(1, 384, false));
        assert!(room(255, 511, true), "what is untried is tried");
        assert!(!room(256, 300, true) && !room(1, 512, true), "within the shares");
        assert!(room(0, 767, false) && !room(0, 768, true), "a quarter is for the quick ones");
    }
}
