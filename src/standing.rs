//! Standing: how long an endpoint has done nothing but fail, and what follows from that. Pure.
//!
//! ```text
//!            a failure                      half of the time            all of the time, enough failures
//!   GOOD ───────────────▶ FAILING since t ──────────────────▶ WARNED ────────────────────────────────────▶ disable
//!    ▲                        │ any success                     │ any success
//!    └────────────────────────┴─────────────────────────────────┘
//! ```
//!
//! Invariants: only a failure moves an endpoint on, so nothing happens to one that is sent nothing; one that is disabled was
//! warned of at least half of the time before; any success makes the standing good again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{Failure, Outcome, StateKind};
use crate::time::Timestamp;

/// When an endpoint that does nothing but fail is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// After nothing but failures for this long; `None`: never.
    pub(crate) after: Option<Duration>,
    /// And not before there were this many of them.
    pub(crate) failures: u32,
}

impl Rule {
    /// The rule of an endpoint: this one, unless it is switched off for it.
    pub(crate) fn of_endpoint(self, auto_disable: Option<bool>) -> Rule {
        if auto_disable == Some(false) { Rule { after: None, ..self } } else { self }
    }
}

/// The standing of an endpoint that has done nothing but fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    /// When the first of these failures ended.
    pub(crate) since: Timestamp,
    /// How many there were.
    pub(crate) failures: u64,
    /// When it was warned of.
    pub(crate) warned_at: Option<Timestamp>,
}

/// How long an endpoint has done nothing but fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Failing {
    /// When the first of these failures ended.
    pub since: Timestamp,
    /// How many there were.
    pub failures: u64,
    /// Whether the operator was warned that it will be disabled.
    pub warned: bool,
    /// When it is disabled at the earliest, by a failure at that time or later; `None` where it never is.
    pub disable_at: Option<Timestamp>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    Nothing,
    /// To be warned of: it will be disabled, at this time at the earliest.
    Warning(Timestamp),
    Disabling,
}

/// What an attempt says about the endpoint that it was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Works,
    Fails,
    /// It never got as far as the receiver, or nobody knows whether it did.
    Nothing,
}

/// What an attempt's outcome, and how its delivery stood afterwards, say about the endpoint.
pub(crate) fn says(outcome: Outcome, result: StateKind) -> Says {
    if result == StateKind::Delivered {
        return Says::Works;
    }
    match outcome {
        Outcome::Answered { .. } => Says::Fails,
        Outcome::Failed(failure) => match failure {
            Failure::Timeout
            | Failure::Dns
            | Failure::Refused
            | Failure::Unreachable
            | Failure::Tls
            | Failure::Reset
            | Failure::Protocol => Says::Fails,
            // Our policy, our settings, our store or our code: the receiver was not asked.
            Failure::Blocked
            | Failure::BlockedAddress
            | Failure::Unsendable
            | Failure::Lost
            | Failure::Panicked
            | Failure::Damaged
            | Failure::Expunged => Says::Nothing,
        },
    }
}

impl Standing {
    /// The first failure after a success, or after the endpoint was made or enabled.
    pub(crate) fn first(now: Timestamp) -> Standing {
        Standing { since: now, failures: 1, warned_at: None }
    }

    /// One more failure.
    #[must_use]
    pub(crate) fn failed(self) -> Standing {
        Standing { failures: self.failures.saturating_add(1), ..self }
    }

    /// It was warned of.
    #[must_use]
    pub(crate) fn warned(self, now: Timestamp) -> Standing {
        Standing { warned_at: Some(now), ..self }
    }

    /// As it is shown to people.
    pub(crate) fn shown(self, rule: Rule) -> Failing {
        let Standing { since, failures, warned_at } = self;
        Failing { since, failures, warned: warned_at.is_some(), disable_at: self.disable_at(rule) }
    }

    /// When it is disabled at the earliest if nothing but failures come: once the rule's time is over, and half of it after
    /// the warning, so that there is time to act on it. `None`: never.
    pub(crate) fn disable_at(self, rule: Rule) -> Option<Timestamp> {
        let after = rule.after?;
        let warned_at = self.warned_at.unwrap_or(self.since + after / 2);
        Some((self.since + after).max(warned_at + after / 2))
    }

    /// What follows from a failure at this time, which it counts already.
    pub(crate) fn follows(self, rule: Rule, now: Timestamp) -> Follows {
        let Some(after) = rule.after else { return Follows::Nothing };
        match self.warned_at {
            None if now >= self.since + after / 2 => {
                let disable_at = self.warned(now).disable_at(rule).unwrap_or(Timestamp::MAX);
                Follows::Warning(disable_at)
            }
            Some(_)
                if self.failures >= u64::from(rule.failures) && self.disable_at(rule).is_some_and(|at| now >= at) =>
            {
                Follows::Disabling
            }
            None | Some(_) => Follows::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const RULE: Rule = Rule { after: Some(Duration::from_secs(5 * 24 * 3600)), failures: 10 };

    fn failed(failures: u64) -> Standing {
        Standing { failures, ..Standing::first(START) }
    }

    #[test]
    fn half_of_the_time_warns_and_all_of_it_disables() {
        let half = START + DAY * 5 / 2;
        assert_eq!(failed(50).follows(RULE, half - Duration::from_millis(1)), Follows::Nothing);
        assert_eq!(failed(50).follows(RULE, half), Follows::Warning(START + DAY * 5));
        let warned = failed(50).warned(half);
        assert_eq!(warned.follows(RULE, half), Follows::Nothing, "once");
        assert_eq!(warned.follows(RULE, START + DAY * 5 - Duration::from_millis(1)), Follows::Nothing);
        assert_eq!(warned.follows(RULE, START + DAY * 5), Follows::Disabling);
    }

    #[test]
    fn an_endpoint_that_was_warned_of_late_has_half_of_the_time_from_then_on() {
        let late = START + DAY * 30;
        assert_eq!(failed(50).follows(RULE, late), Follows::Warning(late + DAY * 5 / 2), "and never disables at once");
        let warned = failed(50).warned(late);
        assert_eq!(warned.follows(RULE, late + DAY * 2), Follows::Nothing);
        assert_eq!(warned.follows(RULE, late + DAY * 5 / 2), Follows::Disabling);
    }

    #[test]
    fn a_few_failures_disable_nothing_however_long_ago_the_first_was() {
        let warned = |failures| failed(failures).warned(START + DAY * 3);
        assert_eq!(warned(9).follows(RULE, START + DAY * 90), Follows::Nothing);
        assert_eq!(warned(10).follows(RULE, START + DAY * 90), Follows::Disabling);
    }

    #[test]
    fn nothing_follows_where_it_is_switched_off() {
        let off = RULE.of_endpoint(Some(false));
        for rule in [off, Rule { after: None, failures: 1 }] {
            assert_eq!(failed(1_000_000).warned(START).follows(rule, START + DAY * 900), Follows::Nothing);
            assert_eq!(failed(1_000_000).follows(rule, START + DAY * 900), Follows::Nothing);
            assert_eq!(failed(1).disable_at(rule), None);
        }
        assert_eq!((RULE.of_endpoint(None), RULE.of_endpoint(Some(true))), (RULE, RULE));
    }

    #[test]
    fn what_never_reached_the_receiver_is_not_its_failure() {
        use Failure::*;
        let waiting = StateKind::Waiting;
        for failure in [Timeout, Dns, Refused, Unreachable, Tls, Reset, Protocol] {
            assert_eq!(says(Outcome::Failed(failure), waiting), Says::Fails, "{failure:?}");
        }
        for failure in [Blocked, BlockedAddress, Unsendable, Lost, Panicked, Damaged, Expunged] {
            assert_eq!(says(Outcome::Failed(failure), StateKind::Dead), Says::Nothing, "{failure:?}");
        }
        for status in [301, 400, 410, 429, 500] {
            assert_eq!(says(Outcome::answered(status), waiting), Says::Fails, "{status}");
        }
        assert_eq!(says(Outcome::answered(204), StateKind::Delivered), Says::Works);
    }

    proptest! {
        #[test]
        fn no_endpoint_is_disabled_before_its_time_nor_without_a_warning_long_before(
            gaps in proptest::collection::vec(0u64..400, 1..200), hours in 1u32..200, least in 1u32..40,
        ) {
            let rule = Rule { after: Some(HOUR * hours), failures: least };
            let (mut now, mut standing, mut warned) = (START, Standing::first(START), None::<(Timestamp, Timestamp)>);
            for gap in gaps {
                now = now + HOUR * u32::try_from(gap).unwrap() / 10;
                standing = standing.failed();
                match standing.follows(rule, now) {
                    Follows::Nothing => {}
                    Follows::Warning(at) => {
                        prop_assert!(warned.is_none() && now.since(START) >= HOUR * hours / 2);
                        warned = Some((now, at));
                        standing = standing.warned(now);
                        prop_assert_eq!(standing.disable_at(rule), Some(at), "as it was announced");
                    }
                    Follows::Disabling => {
                        let (warned_at, at) = warned.expect("it was warned of");
                        prop_assert!(now >= at && now.since(START) >= HOUR * hours);
                        prop_assert!(now.since(warned_at) >= HOUR * hours / 2);
                        prop_assert!(standing.failures >= u64::from(least));
                        return Ok(());
                    }
                }
            }
        }
    }
}
