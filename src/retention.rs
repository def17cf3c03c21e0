//! Retention: how long what was sent is kept, as rules of the server, of an application and of an event type.
//!
//! ```text
//! application and event type both set a span   the shorter one holds
//! one of them sets it                          that one
//! neither does                                 the server's
//! ```
//!
//! A message is never kept longer by its payload or its attempts: those go before it, or with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

const DAY_MILLIS: f64 = 86_400_000.0;
/// The longest span: about a hundred years.
const MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// How long messages and what belongs to them are kept. What is not set is left to the rules around it.
///
/// The JSON form has camelCase members with the unit in their names; days may have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// Messages that were delivered everywhere, or went nowhere: from their acceptance.
    #[serde(default, with = "days", rename = "keepDeliveredDays", skip_serializing_if = "Option::is_none")]
    pub keep_delivered: Option<Duration>,
    /// Messages with a dead or canceled delivery: from their acceptance.
    #[serde(default, with = "days", rename = "keepEndedDays", skip_serializing_if = "Option::is_none")]
    pub keep_ended: Option<Duration>,
    /// Payloads: from their message's acceptance, once all of its deliveries have ended. The rest of the message stays,
    /// and it can no longer be replayed.
    #[serde(default, with = "days", rename = "keepPayloadsDays", skip_serializing_if = "Option::is_none")]
    pub keep_payloads: Option<Duration>,
    /// Attempts, with the bodies of their responses: from their start. How a delivery ended, and how many attempts it
    /// took, stays.
    #[serde(default, with = "days", rename = "keepAttemptsDays", skip_serializing_if = "Option::is_none")]
    pub keep_attempts: Option<Duration>,
    /// Whether a payload goes as soon as its message is delivered everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_success: Option<bool>,
}

impl Retention {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Retention::default()
    }

    /// Checks the spans, and that they do not contradict each other; `around` is what holds where a span is not set.
    ///
    /// # Errors
    /// The first member that is out of its range or contradicts another.
    pub fn validate(&self, around: &Retention) -> Result<(), Invalid> {
        let Retention { keep_delivered, keep_ended, keep_payloads, keep_attempts, delete_on_success } = *self;
        let spans = [
            ("retention.keepDeliveredDays", keep_delivered),
            ("retention.keepEndedDays", keep_ended),
            ("retention.keepPayloadsDays", keep_payloads),
            ("retention.keepAttemptsDays", keep_attempts),
        ];
        for (field, span) in spans {
            if span.is_some_and(|span| span < Duration::from_millis(1) || span > MAX) {
                return Err(Invalid::new(field, "must be more than 0 and at most 36,500 days"));
            }
        }
        let delivered = keep_delivered.or(around.keep_delivered);
        let ended = keep_ended.or(around.keep_ended);
        let longest = delivered.zip(ended).map(|(delivered, ended)| delivered.max(ended));
        for (field, span) in
            [("retention.keepPayloadsDays", keep_payloads), ("retention.keepAttemptsDays", keep_attempts)]
        {
            if span.zip(longest).is_some_and(|(span, longest)| span > longest) {
                return Err(Invalid::new(field, "must not be longer than the messages themselves are kept"));
            }
        }
        if delete_on_success == Some(true) && keep_payloads.is_some() {
            let problem = "must not be set with keepPayloadsDays: payloads either go at once, or after a time";
            return Err(Invalid::new("retention.deleteOnSuccess", problem));
        }
        Ok(())
    }
}

/// Spans as a number of days.
mod days {
    use super::{DAY_MILLIS, Duration};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => {
                let days = span.as_millis() as f64 / DAY_MILLIS;
                // Whole days are written as people write them.
                if days.fract() == 0.0 { to.serialize_u64(days as u64) } else { to.serialize_f64(days) }
            }
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let Some(days) = Option::<f64>::deserialize(from)? else { return Ok(None) };
        if !(days.is_finite() && (0.0..=1e6).contains(&days)) {
            return Err(D::Error::custom("must be a number of days, from 0 to 36,500"));
        }
        Ok(Some(Duration::from_millis((days * DAY_MILLIS).round() as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn days_are_read_and_written_with_fractions() {
        let text = r#"{"keepDeliveredDays":7,"keepPayloadsDays":0.5,"deleteOnSuccess":false}"#;
        let read: Retention = serde_json::from_str(text).unwrap();
        let expected = Retention {
            keep_delivered: Some(DAY * 7),
            keep_payloads: Some(DAY / 2),
            delete_on_success: Some(false),
            ..Retention::default()
        };
        assert_eq!(read, expected);
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        for millis in [1, 999, 86_399_999, 86_400_001, 3_153_600_000_000] {
            let retention = Retention { keep_ended: Some(Duration::from_millis(millis)), ..Retention::default() };
            let again: Retention = serde_json::from_str(&serde_json::to_string(&retention).unwrap()).unwrap();
            assert_eq!(again, retention);
        }
        for wrong in ["-1", "1e300", "\"7\"", "true"] {
            let text = format!(r#"{{"keepEndedDays":{wrong}}}"#);
            assert!(serde_json::from_str::<Retention>(&text).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Retention>(r#"{"keepDays":1}"#).is_err());
    }

    #[test]
    fn spans_that_contradict_each_other_are_refused_by_name() {
        let server = Retention { keep_delivered: Some(DAY * 30), keep_ended: Some(DAY * 90), ..Retention::default() };
        let none = Retention::default();
        let cases = [
            (Retention { keep_delivered: Some(Duration::ZERO), ..none }, "retention.keepDeliveredDays"),
            (Retention { keep_ended: Some(DAY * 36_501), ..none }, "retention.keepEndedDays"),
            (Retention { keep_payloads: Some(DAY * 91), ..none }, "retention.keepPayloadsDays"),
            (Retention { keep_attempts: Some(DAY * 91), ..none }, "retention.keepAttemptsDays"),
            (
                Retention {
                    keep_payloads: Some(DAY * 8),
                    keep_delivered: Some(DAY),
                    keep_ended: Some(DAY * 7),
                    ..none
                },
                "retention.keepPayloadsDays",
            ),
            (
                Retention { keep_payloads: Some(DAY), delete_on_success: Some(true), ..none },
                "retention.deleteOnSuccess",
            ),
        ];
        for (retention, field) in cases {
            assert_eq!(retention.validate(&server).unwrap_err().field(), field);
        }
        let fine = [
            none,
            Retention { keep_payloads: Some(DAY * 90), ..none },
            Retention { keep_payloads: Some(DAY * 8), keep_delivered: Some(DAY), keep_ended: Some(DAY * 9), ..none },
            Retention { keep_payloads: Some(DAY), delete_on_success: Some(false), ..none },
            Retention { delete_on_success: Some(true), ..none },
        ];
        for retention in fine {
            assert_eq!(retention.validate(&server), Ok(()));
        }
    }
}
