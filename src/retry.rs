//! When a failed attempt is tried again: a list of delays, or an exponential schedule that becomes one.

use std::time::Duration;

use backoff::backoff::Backoff;
use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

/// The most retries that a round of attempts may have.
pub const MAX_RETRIES: usize = 50;
/// The longest delay between two attempts: 7 days.
pub const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a failed attempt is tried again, and until when. Delays count from the end of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RetrySettings", into = "RetrySettings")]
pub struct RetryPolicy {
    /// The delays before the retries.
    pub schedule: Schedule,
    /// How far a delay may be shortened or lengthened at random, as a part of it: 0 (exact) to 1.
    pub jitter: f64,
    /// Statuses that are retried although the profile would not.
    pub also_on: Vec<u16>,
    /// No retry starts later than this after the message was accepted (or replayed).
    pub max_age: Option<Duration>,
}

/// The delays before the retries.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// One delay a retry, at most 50, each at most 7 days. Empty: no retry.
    Delays(Vec<Duration>),
    /// Growing delays.
    Exponential(Exponential),
}

/// The JSON form of a retry policy: what is absent keeps the profile's value (or, in a profile, the
/// value of the `svix` profile).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrySettings {
    /// The delays before the retries, in milliseconds: at most 50, each at most 604,800,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays_ms: Option<Vec<u64>>,
    /// In place of `delaysMs`: a schedule that grows by a factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<Exponential>,
    /// 0 (exact) to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// Statuses between 300 and 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_on: Option<Vec<u16>>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
}

impl RetrySettings {
    /// The policy that results from these settings over `base`.
    ///
    /// # Errors
    /// The first member that is out of its range; its name starts with `retry.`.
    pub fn over(&self, base: &RetryPolicy) -> Result<RetryPolicy, Invalid> {
        let schedule = match (&self.delays_ms, self.exponential) {
            (Some(_), Some(_)) => {
                return Err(Invalid::new("retry.exponential", "stands in place of delaysMs, not beside it"));
            }
            (Some(delays), None) => Schedule::Delays(delays.iter().copied().map(Duration::from_millis).collect()),
            (None, Some(growth)) => Schedule::Exponential(growth),
            (None, None) => base.schedule.clone(),
        };
        let policy = RetryPolicy {
            schedule,
            jitter: self.jitter.unwrap_or(base.jitter),
            also_on: self.also_on.clone().unwrap_or_else(|| base.also_on.clone()),
            max_age: self.max_age_seconds.map(Duration::from_secs).or(base.max_age),
        };
        policy.validate()?;
        Ok(policy)
    }
}

impl TryFrom<RetrySettings> for RetryPolicy {
    type Error = Invalid;
    fn try_from(settings: RetrySettings) -> Result<Self, Invalid> {
        settings.over(&RetryPolicy::svix())
    }
}

impl From<RetryPolicy> for RetrySettings {
    fn from(policy: RetryPolicy) -> Self {
        let (delays_ms, exponential) = match policy.schedule {
            Schedule::Delays(delays) => (Some(delays.into_iter().map(millis).collect()), None),
            Schedule::Exponential(growth) => (None, Some(growth)),
        };
        RetrySettings {
            delays_ms,
            exponential,
            jitter: Some(policy.jitter),
            also_on: Some(policy.also_on),
            max_age_seconds: policy.max_age.map(|age| age.as_secs()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A schedule in which each delay is the one before it times a factor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exponential {
    /// The delay before the first retry, in milliseconds.
    pub initial_ms: u64,
    /// The factor from one delay to the next: 1 to 100.
    pub multiplier: f64,
    /// The longest delay, in milliseconds.
    pub max_interval_ms: u64,
    /// How many retries there are.
    pub retries: usize,
}

/// Which failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOn {
    /// Every answer but a success, timeouts and network errors.
    #[default]
    AnyFailure,
    /// Answers of 500 and above, timeouts and network errors; any other answer ends the delivery.
    ServerErrors,
}

impl RetryOn {
    /// Whether this rule alone retries an answer with this status.
    pub fn covers(self, status: u16) -> bool {
        match self {
            RetryOn::AnyFailure => true,
            RetryOn::ServerErrors => status >= 500,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::svix()
    }
}

impl RetryPolicy {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h, each ±20 %.
    pub fn svix() -> Self {
        let seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        RetryPolicy { jitter: 0.2, ..RetryPolicy::delays(seconds.map(Duration::from_secs)) }
    }

    /// 1 s, 5 s, 25 s, exact: four attempts at most.
    pub fn three_retries() -> Self {
        RetryPolicy::delays([1, 5, 25].map(Duration::from_secs))
    }

    /// Exactly these delays.
    pub fn delays(delays: impl IntoIterator<Item = Duration>) -> Self {
        RetryPolicy {
            schedule: Schedule::Delays(delays.into_iter().collect()),
            jitter: 0.0,
            also_on: Vec::new(),
            max_age: None,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first member that is out of its range; its name starts with `retry.`.
    pub fn validate(&self) -> Result<(), Invalid> {
        match &self.schedule {
            Schedule::Delays(delays) if delays.len() > MAX_RETRIES => {
                return Err(Invalid::new("retry.delaysMs", "has at most 50 delays"));
            }
            Schedule::Delays(delays) if delays.iter().any(|delay| *delay > MAX_DELAY) => {
                return Err(Invalid::new("retry.delaysMs", "each delay is at most 7 days (604,800,000 ms)"));
            }
            Schedule::Delays(_) => {}
            Schedule::Exponential(growth) => growth.validate()?,
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Invalid::new("retry.jitter", "must be between 0 and 1"));
        }
        if self.also_on.iter().any(|status| !(300..=599).contains(status)) {
            return Err(Invalid::new("retry.alsoOn", "holds statuses between 300 and 599"));
        }
        Ok(())
    }

    /// The delay before retry number `retry` (0 is the first), without jitter; `None` when there is none left.
    pub fn delay(&self, retry: usize) -> Option<Duration> {
        match &self.schedule {
            Schedule::Delays(delays) => delays.get(retry).copied(),
            Schedule::Exponential(growth) => growth.delay(retry),
        }
    }

    /// How many retries a round has.
    pub fn retries(&self) -> usize {
        match &self.schedule {
            Schedule::Delays(delays) => delays.len(),
            Schedule::Exponential(growth) => growth.retries,
        }
    }

    /// A delay moved by the jitter; `draw` is a random number from 0 up to, not including, 1.
    pub fn jittered(&self, delay: Duration, draw: f64) -> Duration {
        let factor = 1.0 + self.jitter * (2.0 * draw.clamp(0.0, 1.0) - 1.0);
        delay.mul_f64(factor.max(0.0))
    }
}

impl Exponential {
    fn validate(&self) -> Result<(), Invalid> {
        let field = "retry.exponential";
        let factor_ok = self.multiplier.is_finite() && (1.0..=100.0).contains(&self.multiplier);
        if !factor_ok || self.initial_ms == 0 || self.retries > MAX_RETRIES {
            let problem = "needs initialMs of at least 1, a multiplier of 1 to 100 and at most 50 retries";
            return Err(Invalid::new(field, problem));
        }
        if self.max_interval_ms < self.initial_ms || self.max_interval_ms > millis(MAX_DELAY) {
            let problem = "maxIntervalMs must be at least initialMs and at most 7 days (604,800,000 ms)";
            return Err(Invalid::new(field, problem));
        }
        Ok(())
    }

    fn delay(&self, retry: usize) -> Option<Duration> {
        if retry >= self.retries {
            return None;
        }
        let mut schedule = backoff::ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(self.initial_ms))
            .with_multiplier(self.multiplier)
            .with_max_interval(Duration::from_millis(self.max_interval_ms))
            // Jitter is drawn outside, so that the schedule itself is pure; the number of retries ends it, not a time.
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        std::iter::from_fn(|| schedule.next_backoff()).nth(retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exponential(initial_ms: u64, multiplier: f64, max_interval_ms: u64, retries: usize) -> RetryPolicy {
        RetryPolicy {
            schedule: Schedule::Exponential(Exponential { initial_ms, multiplier, max_interval_ms, retries }),
            ..RetryPolicy::three_retries()
        }
    }

    #[test]
    fn an_exponential_schedule_grows_to_its_longest_delay_and_ends() {
        let policy = exponential(1_000, 5.0, 60_000, 4);
        let delays: Vec<_> = (0..5).map(|retry| policy.delay(retry).map(|d| d.as_millis())).collect();
        assert_eq!(delays, [Some(1_000), Some(5_000), Some(25_000), Some(60_000), None]);
    }

    #[test]
    fn an_exponential_of_one_five_twentyfive_is_the_vendors_list() {
        let (list, growth) = (RetryPolicy::three_retries(), exponential(1_000, 5.0, 25_000, 3));
        for retry in 0..5 {
            assert_eq!(list.delay(retry), growth.delay(retry));
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_part_of_the_delay(ms in 1u64..100_000_000, jitter in 0.0..=1.0f64, draw in 0.0..1.0f64) {
            let policy = RetryPolicy { jitter, ..RetryPolicy::three_retries() };
            let moved = policy.jittered(Duration::from_millis(ms), draw).as_secs_f64() * 1000.0;
            prop_assert!(moved >= ms as f64 * (1.0 - jitter) - 1.0);
            prop_assert!(moved <= ms as f64 * (1.0 + jitter) + 1.0);
        }

        #[test]
        fn a_valid_exponential_never_exceeds_its_bounds(initial in 1u64..1_000_000, multiplier in 1.0..=100.0f64,
                                                        more in 0u64..1_000_000, retries in 0usize..=50) {
            let policy = exponential(initial, multiplier, initial + more, retries);
            prop_assert!(policy.validate().is_ok());
            for retry in 0..retries {
                let delay = policy.delay(retry).expect("there is a delay for each retry").as_millis() as u64;
                prop_assert!(delay >= initial.min(initial + more) && delay <= initial + more);
            }
            prop_assert_eq!(policy.delay(retries), None);
        }
    }

    #[test]
    fn policies_out_of_range_are_refused_by_name() {
        let cases = [
            (RetryPolicy { jitter: 1.5, ..RetryPolicy::svix() }, "retry.jitter"),
            (RetryPolicy { also_on: vec![200], ..RetryPolicy::svix() }, "retry.alsoOn"),
            (RetryPolicy::delays([Duration::from_secs(1); 51]), "retry.delaysMs"),
            (RetryPolicy::delays([MAX_DELAY * 2]), "retry.delaysMs"),
            (exponential(0, 2.0, 10, 3), "retry.exponential"),
            (exponential(10, f64::NAN, 10, 3), "retry.exponential"),
        ];
        for (policy, field) in cases {
            assert_eq!(policy.validate().unwrap_err().field(), field);
        }
        let both = r#"{"delaysMs":[1],"exponential":{"initialMs":1,"multiplier":2,"maxIntervalMs":9,"retries":3}}"#;
        assert!(serde_json::from_str::<RetryPolicy>(both).is_err());
    }

    #[test]
    fn settings_keep_what_they_do_not_name() {
        let settings: RetrySettings = serde_json::from_str(r#"{"alsoOn":[429]}"#).unwrap();
        let policy = settings.over(&RetryPolicy::three_retries()).unwrap();
        assert_eq!(policy, RetryPolicy { also_on: vec![429], ..RetryPolicy::three_retries() });
    }
}
