//! Points in time, as milliseconds since 1970 in UTC.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 9999-12-30T22:00:00Z: the largest time that is 9999 in every time zone, which is the largest that is written and read.
const LATEST: u64 = 253_402_207_200_000;

/// A point in time. Arithmetic saturates; the text form is RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// A text that is not an RFC 3339 timestamp between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 timestamp, such as 2026-01-31T08:30:00Z")]
pub struct NotATimestamp;

impl Timestamp {
    /// The start of 1970.
    pub const ZERO: Timestamp = Timestamp(0);
    /// The latest time there is.
    pub const MAX: Timestamp = Timestamp(LATEST);

    /// The time this many milliseconds after the start of 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Timestamp(if millis > LATEST { LATEST } else { millis })
    }

    /// Milliseconds since the start of 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the start of 1970.
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this one; zero if that is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0 as i64).expect("a Timestamp is between 1970 and 9999");
        fmt::Display::fmt(&time, f)
    }
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;
    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let time: jiff::Timestamp = text.parse().map_err(|_| NotATimestamp)?;
        u64::try_from(time.as_millisecond()).map(Timestamp::from_millis).map_err(|_| NotATimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_form_reads_back(millis in 0..=LATEST) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
        }
    }

    #[test]
    fn the_first_and_the_last_time_read_back() {
        for time in [Timestamp::ZERO, Timestamp::MAX, Timestamp::from_millis(u64::MAX)] {
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn whole_seconds_have_no_fraction() {
        let time: Timestamp = "2025-01-15T10:30:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2025-01-15T10:30:00Z");
        assert_eq!((time + Duration::from_millis(5)).to_string(), "2025-01-15T10:30:00.005Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::ZERO - Duration::MAX, Timestamp::ZERO);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
    }
}
