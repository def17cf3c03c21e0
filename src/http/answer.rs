//! What is taken from an answer's head: how long to wait, and what the log keeps.

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::delivery::{Asked, MAX_RETRY_AFTER};
use crate::time::Timestamp;

const WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("webhook-delivery");

/// How much of a response's headers the log keeps, names and values together: 16 KiB.
const MAX_RESPONSE_HEADERS: usize = 16 * 1024;

/// The first headers that fit, as text.
pub(super) fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = MAX_RESPONSE_HEADERS;
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    // As text: a byte that is none takes three.
    let fits = |(name, value): &(String, String)| {
        let left = room.checked_sub(name.len() + value.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    headers.iter().map(text).take_while(fits).collect()
}

/// How long the receiver asks to be left alone: seconds or an IMF-fixdate (RFC 9110), at most 24 h. Whatever
/// else stands there is as if nothing did.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wanted = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number too large for 64 bits fails.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        // The parser takes the two obsolete forms, too, whose year or zone has to be guessed.
        if httpdate::fmt_http_date(date) != text {
            return None;
        }
        (Timestamp::ZERO + date.duration_since(SystemTime::UNIX_EPOCH).ok()?).since(now)
    };
    Some(wanted.min(MAX_RETRY_AFTER))
}

/// What the receiver asks for: `webhook-delivery: abort-message` or `disable`, whatever the case. A list, or the header
/// several times, asks for the most of it; other words are as if they were not there.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Asked> {
    let lines = headers.get_all(WEBHOOK_DELIVERY).iter().filter_map(|value| value.to_str().ok());
    let words = lines.flat_map(|line| line.split(',')).map(str::trim);
    let known = |word: &str| match word {
        word if word.eq_ignore_ascii_case("disable") => Some(Asked::Disable),
        word if word.eq_ignore_ascii_case("abort-message") => Some(Asked::AbortMessage),
        _ => None,
    };
    words.filter_map(known).reduce(|one, other| if one == Asked::Disable { one } else { other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_asks_for_is_read_and_other_words_are_ignored() {
        let asked_in = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append("webhook-delivery", HeaderValue::from_bytes(value).unwrap());
            });
            asked(&headers)
        };
        for (values, expected) in [
            (&[&b"abort-message"[..]][..], Some(Asked::AbortMessage)),
            (&[b"disable"], Some(Asked::Disable)),
            (&[b" Disable "], Some(Asked::Disable)),
            (&[b"ABORT-MESSAGE"], Some(Asked::AbortMessage)),
            (&[b"abort-message, disable"], Some(Asked::Disable)),
            (&[b"disable", b"abort-message"], Some(Asked::Disable)),
            (&[b"abort-message,abort-message"], Some(Asked::AbortMessage)),
            (&[b"later, abort-message"], Some(Asked::AbortMessage)),
            (&[b"\xff", b"disable"], Some(Asked::Disable)),
            (&[], None),
            (&[b""], None),
            (&[b"abort"], None),
            (&[b"disabled"], None),
            (&[b"disable=1"], None),
            (&[b"abort message"], None),
            (&[b"pause"], None),
            (&[b"disable\xff"], None),
        ] {
            assert_eq!(asked_in(values), expected, "{values:?}");
        }
    }

    /// 2026-11-21 07:28:00 UTC.
    const NOW: Timestamp = Timestamp::from_millis(1_795_246_080_000);

    fn waits(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
        retry_after(&headers, NOW).map(|wanted| wanted.as_secs())
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_never_exceeds_a_day() {
        const DAY: u64 = 24 * 3600;
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("000120", Some(120)),
            ("86401", Some(DAY)),
            ("18446744073709551616", Some(DAY)),
            ("99999999999999999999999999999999999999", Some(DAY)),
            ("Sat, 21 Nov 2026 07:30:00 GMT", Some(120)),
            ("Sat, 21 Nov 2026 07:20:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(DAY)),
        ] {
            assert_eq!(waits(value), seconds, "{value}");
        }
    }

    #[test]
    fn a_retry_after_that_is_neither_is_ignored() {
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x10",
            "1, 2",
            "soon",
            "Saturday, 21-Nov-26 07:30:00 GMT",
            "Sat Nov 21 07:30:00 2026",
            "Sun, 21 Nov 2026 07:30:00 GMT",
            "Sat, 31 Feb 2026 07:30:00 GMT",
            "2026-11-21T07:30:00Z",
            "caf\u{e9}",
        ] {
            assert_eq!(waits(value), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW), None);
    }

    #[test]
    fn at_most_16_kib_of_headers_are_kept() {
        let mut headers = HeaderMap::new();
        for _ in 0..5 {
            headers.append("x-large", HeaderValue::from_bytes(&[b'a'; 4000]).unwrap());
        }
        assert_eq!(kept_headers(&headers).len(), 4);
        let mut headers = HeaderMap::new();
        for _ in 0..5 {
            headers.append("x-large", HeaderValue::from_bytes(&[0xff; 4000]).unwrap());
        }
        assert_eq!(kept_headers(&headers).len(), 1, "what is no text counts as it is kept");
    }

    #[test]
    fn header_values_that_are_no_text_are_shown_all_the_same() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(b"a\xff").unwrap())]);
        assert_eq!(kept_headers(&headers), [("retry-after".to_owned(), "a\u{fffd}".to_owned())]);
    }
}
