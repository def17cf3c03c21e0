//! Health: how many requests an endpoint may have on their way, given how it has answered lately. Pure.
//!
//! ```text
//!              an answer                 three timeouts in a row
//!   UNPROVEN ─────────────▶ ANSWERING ───────────────────────────▶ HANGING
//!                              ▲                an answer             │
//!                              └──────────────────────────────────────┘
//! ```
//!
//! Whoever does not answer shares what is left over: see [`Shares`].

use crate::delivery::{Failure, Outcome};

/// After this many timeouts in a row an endpoint is held to [`TIMING_OUT_CAP`] requests at once.
pub const TIMEOUTS_IN_A_ROW: u32 = 3;
/// The cap of an endpoint that times out.
pub const TIMING_OUT_CAP: u32 = 4;

/// How an endpoint has answered lately. Kept in memory: a restart starts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    timeouts: u32,
    answered: bool,
}

/// How many requests may be on their way for whom, so that nobody takes the permits of all: neither endpoints that do not
/// answer, for want of a proof that they do or because they time out, nor one application whose endpoints take their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For one application: a half of all permits, where there is another.
    pub of_one_application: usize,
    /// To endpoints of one application that do not answer: a quarter.
    pub unanswered_of_one: usize,
    /// To those of all: a half.
    pub unanswered_of_all: usize,
}

impl Shares {
    /// The shares of so many applications where this many requests may be on their way in all; at least four, where there
    /// are as many.
    pub fn of(in_flight: usize, applications: usize) -> Shares {
        let part = |of: usize| (in_flight / of).max(in_flight.min(TIMING_OUT_CAP as usize));
        Shares {
            of_one_application: if applications > 1 { part(2) } else { in_flight },
            unanswered_of_one: part(4),
            unanswered_of_all: part(2),
        }
    }

    /// Whether one more permit may be taken by an application that holds this many; for an endpoint that does not answer
    /// also with how many such permits the application holds, and how many all do.
    pub fn have_room(self, own: usize, unanswered: Option<(usize, usize)>) -> bool {
        let among_unanswered = match unanswered {
            // Whoever holds none may always take one: that is how an endpoint comes to be known to answer, whatever
            // others hold.
            None | Some((0, _)) => true,
            Some((own, all)) => own < self.unanswered_of_one && all < self.unanswered_of_all,
        };
        own < self.of_one_application && among_unanswered
    }
}

impl Health {
    /// Takes an outcome into account. Any answer, whatever its status, ends a run of timeouts.
    pub fn observe(&mut self, outcome: Outcome) {
        match outcome {
            // Whoever does not answer at all holds its permit for a whole step of connecting.
            // And a name that leads inside counts as one that leads nowhere: the pace of its attempts shows no difference.
            Outcome::Failed(
                Failure::Timeout | Failure::Unreachable | Failure::Dns | Failure::BlockedAddress | Failure::Tls,
            ) => {
                self.timeouts = self.timeouts.saturating_add(1);
            }
            Outcome::Answered { .. } => *self = Health { timeouts: 0, answered: true },
            // Other failures hold no permit for long; they say nothing about slowness.
            Outcome::Failed(_) => {}
        }
    }

    /// Whether it has answered since the start, and has not timed out ever since.
    pub fn is_answering(self) -> bool {
        self.answered && self.timeouts < TIMEOUTS_IN_A_ROW
    }

    /// The cap in force, `most` being the endpoint's own.
    pub fn cap(self, most: u32) -> u32 {
        if self.timeouts >= TIMEOUTS_IN_A_ROW { most.min(TIMING_OUT_CAP) } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_times_out_is_held_back_until_it_answers() {
        let mut health = Health::default();
        for _ in 0..TIMEOUTS_IN_A_ROW {
            assert_eq!(health.cap(64), 64);
            health.observe(Outcome::Failed(Failure::Timeout));
        }
        assert_eq!((health.cap(64), health.cap(2)), (4, 2));
        health.observe(Outcome::answered(500));
        assert_eq!(health.cap(64), 64);
    }

    #[test]
    fn an_endpoint_answers_once_it_has_and_until_it_times_out() {
        let (answer, timeout) = (Outcome::answered(500), Outcome::Failed(Failure::Timeout));
        let mut health = Health::default();
        assert!(!health.is_answering(), "nothing is known of it");
        health.observe(Outcome::Failed(Failure::Refused));
        assert!(!health.is_answering());
        for _ in 0..2 {
            health.observe(answer);
            assert!(health.is_answering());
            for _ in 1..TIMEOUTS_IN_A_ROW {
                health.observe(timeout);
                assert!(health.is_answering());
            }
            health.observe(timeout);
            assert!(!health.is_answering());
        }
    }

    #[test]
    fn a_name_that_leads_inside_is_slowed_down_as_one_that_does_not_resolve() {
        let (mut inside, mut nowhere) = (Health::default(), Health::default());
        for _ in 0..TIMEOUTS_IN_A_ROW {
            assert_eq!(inside, nowhere);
            inside.observe(Outcome::Failed(Failure::BlockedAddress));
            nowhere.observe(Outcome::Failed(Failure::Dns));
        }
        assert_eq!((inside.cap(64), nowhere.cap(64)), (TIMING_OUT_CAP, TIMING_OUT_CAP));
    }

    #[test]
    fn nobody_has_a_share_in_the_permits_that_are_left_for_others() {
        let shares = |one, unanswered_of_one, unanswered_of_all| Shares {
            of_one_application: one,
            unanswered_of_one,
            unanswered_of_all,
        };
        assert_eq!(Shares::of(1_024, 2), shares(512, 256, 512));
        assert_eq!(Shares::of(1_024, 1), shares(1_024, 256, 512), "where there is no other, nothing is left for it");
        assert_eq!(Shares::of(10, 3), shares(5, 4, 5));
        assert_eq!(Shares::of(1, 2), shares(1, 1, 1));
        let shares = Shares::of(1_024, 2);
        assert!(shares.have_room(511, None) && !shares.have_room(512, None));
        assert!(shares.have_room(300, Some((255, 400))) && !shares.have_room(300, Some((256, 400))));
        assert!(!shares.have_room(300, Some((1, 512))) && shares.have_room(300, Some((0, 512))));
        assert!(!shares.have_room(512, Some((0, 0))));
    }
}
