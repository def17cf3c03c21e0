//! Health: how many requests an endpoint may have on their way, given how it has answered lately. Pure.

use crate::delivery::{Failure, Outcome};

/// After this many timeouts in a row an endpoint is held to [`TIMING_OUT_CAP`] requests at once.
pub const TIMEOUTS_IN_A_ROW: u32 = 3;
/// The cap of an endpoint that times out.
pub const TIMING_OUT_CAP: u32 = 4;

/// How an endpoint has answered lately. Kept in memory: a restart starts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    timeouts: u32,
}

impl Health {
    /// Takes an outcome into account. Any answer, whatever its status, ends a run of timeouts.
    pub fn observe(&mut self, outcome: Outcome) {
        match outcome {
            // A host that does not answer at all holds its permit for the whole connect limit.
            Outcome::Failed(Failure::Timeout | Failure::Unreachable) => self.timeouts = self.timeouts.saturating_add(1),
            Outcome::Answered { .. } => self.timeouts = 0,
            // Other failures hold no permit for long; they say nothing about slowness.
            Outcome::Failed(_) => {}
        }
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
        health.observe(Outcome::Answered { status: 500, retry_after: None });
        assert_eq!(health.cap(64), 64);
    }
}
