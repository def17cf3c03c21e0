//! Durations and times as people write them: `90s`, `2h`, `1d12h`, `2026-01-31T08:30:00Z`.

use std::time::Duration;

use ringback::Timestamp;
use ringback::clock::{Clock, SystemClock};

/// What time it is.
pub(crate) fn now() -> Timestamp {
    SystemClock::starting_after(Timestamp::ZERO).now()
}

/// Reads a duration: numbers with the units `ms`, `s`, `m`, `h`, `d`, `w`, one after the other.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration, such as 90s, 15m, 2h or 7d");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_ms: u64 = match &rest[digits..digits + letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Reads a duration of at least a second and no part of one.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let given = duration(text)?;
    if given.is_zero() || given.subsec_nanos() > 0 {
        return Err(format!("`{text}` is not a whole number of seconds, at least one"));
    }
    Ok(given)
}

/// Reads a point in time: a duration ago (`2h`) or RFC 3339.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = duration(text).map_err(|_| {
        format!("`{text}` is neither a time such as 2026-01-31T08:30:00Z nor a duration ago such as 2h or 7d")
    })?;
    Ok(now() - ago)
}

/// Reads a point in time to come: a duration from now (`15m`) or RFC 3339.
pub(crate) fn ahead(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ahead = duration(text).map_err(|_| {
        format!("`{text}` is neither a time such as 2026-01-31T08:30:00Z nor a duration from now such as 15m or 2h")
    })?;
    Ok(now() + ahead)
}

/// Reads a signature's time: Unix seconds, or RFC 3339.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Timestamp::from_millis(seconds.saturating_mul(1_000))),
        Err(_) => text
            .parse()
            .map_err(|_| format!("`{text}` is neither a time such as 2026-01-31T08:30:00Z nor Unix seconds")),
    }
}

/// A server's timestamp in a fixed width: `2026-01-31 08:30:00.000`, in UTC.
pub(crate) fn clock_time(text: &str) -> String {
    let Ok(time) = text.parse::<Timestamp>() else { return text.to_owned() };
    let seconds = Timestamp::from_millis(time.as_seconds() * 1_000).to_string();
    let seconds = seconds.trim_end_matches('Z').replace('T', " ");
    format!("{seconds}.{:03}", time.as_millis() % 1_000)
}

/// A duration as people write it: `85 ms`, `2.5 s`, `3 min`, `2 h`.
pub(crate) fn short(duration: Duration) -> String {
    let ms = duration.as_millis();
    let tenths = |unit_ms: u128, unit: &str| {
        let tenths = (ms * 10 + unit_ms / 2) / unit_ms;
        match tenths % 10 {
            0 => format!("{} {unit}", tenths / 10),
            rest => format!("{}.{rest} {unit}", tenths / 10),
        }
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => tenths(1_000, "s"),
        60_000..3_600_000 => tenths(60_000, "min"),
        3_600_000..172_800_000 => tenths(3_600_000, "h"),
        _ => tenths(86_400_000, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [("500ms", 500), ("90s", 90_000), ("2h", 7_200_000), ("1d12h", 129_600_000), ("7d", 604_800_000)];
        for (text, ms) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "2", "h", "2 h", "-2h", "2y", "1.5h", "99999999999999999999s", "20000000000000000w", "2hé"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(moment("2026-01-31T08:30:00Z").unwrap().to_string(), "2026-01-31T08:30:00Z");
        let ago = now().since(moment("2h").unwrap());
        assert!(ago >= Duration::from_secs(7_199) && ago < Duration::from_secs(7_300), "{ago:?}");
        assert!(moment("yesterday").is_err());
        assert_eq!(instant("1614265330").unwrap().to_string(), "2021-02-25T15:02:10Z");
    }

    #[test]
    fn times_are_shown_in_one_width_and_durations_short() {
        assert_eq!(clock_time("2026-01-31T08:30:00Z"), "2026-01-31 08:30:00.000");
        assert_eq!(clock_time("2026-01-31T08:30:00.05Z"), "2026-01-31 08:30:00.050");
        assert_eq!(clock_time("soon"), "soon");
        let shown = [85, 2_500, 25_000, 300_000, 5_400_000].map(|ms| short(Duration::from_millis(ms)));
        assert_eq!(shown, ["85 ms", "2.5 s", "25 s", "5 min", "1.5 h"]);
    }
}
