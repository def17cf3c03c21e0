//! Attempts: immutable records of single HTTP requests, and the hints that explain them.

use std::time::Duration;

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::delivery::{Asked, DeliveryId, Failure, Outcome, StateKind};
use crate::id::AttemptId;
use crate::time::Timestamp;

/// How much of a response body the log keeps: 16 KiB.
pub const MAX_RESPONSE_BODY: usize = 16 * 1024;

/// One HTTP request and what came of it. Its JSON form has the [`hint`](Attempt::hint) as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its id, which carries its time.
    pub id: AttemptId,
    /// Which message, to which endpoint.
    pub delivery: DeliveryId,
    /// Its number among all attempts of the delivery, from 1.
    pub number: u32,
    /// The round that it belongs to.
    pub round: u32,
    /// What caused it.
    pub trigger: Trigger,
    /// When it started.
    pub started_at: Timestamp,
    /// Where it went.
    pub url: String,
    /// The request's headers as they were written; the values of custom headers are redacted.
    pub request_headers: Vec<(String, String)>,
    /// What it showed.
    pub outcome: Outcome,
    /// The answer, where one came.
    pub response: Option<Response>,
    /// How long it took.
    pub timing: Timing,
    /// How the delivery stood after it.
    pub result: StateKind,
}

// By hand, for the hint, which is no field.
impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Attempt { id, delivery, number, round, trigger, started_at, url, .. } = self;
        let Attempt { request_headers, outcome, response, timing, result, .. } = self;
        let mut shown = serializer.serialize_struct("Attempt", 15)?;
        shown.serialize_field("id", id)?;
        shown.serialize_field("application", &delivery.lane.application)?;
        shown.serialize_field("endpoint", &delivery.lane.endpoint)?;
        shown.serialize_field("message", &delivery.message)?;
        shown.serialize_field("number", number)?;
        shown.serialize_field("round", round)?;
        shown.serialize_field("trigger", trigger)?;
        shown.serialize_field("startedAt", started_at)?;
        shown.serialize_field("url", url)?;
        shown.serialize_field("requestHeaders", request_headers)?;
        shown.serialize_field("outcome", outcome)?;
        shown.serialize_field("response", response)?;
        shown.serialize_field("timing", timing)?;
        shown.serialize_field("result", result)?;
        shown.serialize_field("hint", &self.hint())?;
        shown.end()
    }
}

/// What caused an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// The message was sent.
    First,
    /// An earlier attempt of the round failed.
    Retry,
    /// A replay opened a new round.
    Replay,
    /// `send_test`.
    Test,
}

/// A receiver's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, at most 16 KiB of them.
    pub headers: Vec<(String, String)>,
    /// The first 16 KiB of its body.
    #[serde(serialize_with = "lossy")]
    pub body: Bytes,
    /// Whether the body had more than is kept, or was not read to its end.
    pub truncated: bool,
    /// Whether the body was erased on request. It is then empty.
    pub expunged: bool,
}

fn lossy<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// How long an attempt took, on a monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// Microseconds until the response head was complete.
    pub head_us: Option<u64>,
    /// Microseconds until the attempt's end.
    pub total_us: u64,
}

impl Timing {
    /// The whole attempt.
    pub fn total(self) -> Duration {
        Duration::from_micros(self.total_us)
    }
}

impl Attempt {
    /// Whether it delivered the message.
    pub fn succeeded(&self) -> bool {
        self.result == StateKind::Delivered
    }

    /// What it probably means and what to look at, in plain words; `None` for a success.
    pub fn hint(&self) -> Option<&'static str> {
        if self.succeeded() {
            return None;
        }
        hint(self.outcome)
    }
}

/// What an outcome probably means, for whoever reads the log.
pub fn hint(outcome: Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::Answered { asked: Some(Asked::Disable), .. } => {
            "the receiver asks to be sent nothing more (`webhook-delivery: disable`); where the profile follows that, its \
             endpoint was disabled"
        }
        Outcome::Answered { asked: Some(Asked::AbortMessage), .. } => {
            "the receiver asks not to be sent this message again (`webhook-delivery: abort-message`), which counts where \
             the profile follows it"
        }
        Outcome::Answered { status, asked: None, .. } => match status {
            200..=299 => return None,
            300..=399 => "the receiver redirects; redirects are not followed: set the endpoint's URL to the final one",
            400 | 401 | 403 => "the receiver refused it: is the secret the same on both sides, and the clock right?",
            404 => "the receiver has nothing at this path: is the URL right?",
            405 => "the receiver does not take POST at this path",
            408 => "the receiver gave up waiting for the request",
            410 => {
                "the receiver says it is gone for good: unless its profile says otherwise, the endpoint was disabled"
            }
            413 => "the receiver finds the body too large",
            415 => "the receiver does not take this content type",
            429 => "the receiver asks to be called less often",
            500 => "the receiver's own code failed: its logs will say why",
            502..=504 => "a proxy in front of the receiver could not reach it in time",
            _ => "the receiver did not accept it: its logs will say why",
        },
        Outcome::Failed(failure) => match failure {
            Failure::Timeout => "no answer within the time limit: answer first, work afterwards",
            Failure::Dns => "the host's name does not resolve: is the URL right, and does the name server answer?",
            Failure::Refused => "nothing listens at this address and port: is the receiver running?",
            Failure::Unreachable => {
                "the host cannot be reached: a firewall, a wrong address, or the proxy that deliveries go through"
            }
            Failure::Tls => "the TLS handshake failed: is the certificate valid for this host, and its chain complete?",
            Failure::Reset => "the receiver closed the connection before it answered",
            Failure::Protocol => "what answers at this port does not speak HTTP",
            Failure::Blocked => {
                "the URL leads where nothing may be sent: an address inside, plain http, or another protocol's port; the operator \
                 can allow a network (`--allow-network`)"
            }
            Failure::BlockedAddress => {
                "the host's name leads to an address that must not be called, which the server's log names; if it is meant, the operator \
                 can allow its network (`--allow-network`)"
            }
            Failure::Unsendable => {
                "no request can be made: the endpoint's secret, headers or body mode do not fit the message"
            }
            Failure::Lost => "the attempt's end was not recorded; the receiver may have got it",
            Failure::Panicked => "the sender failed in this attempt; its log has the details",
            Failure::Damaged => "the stored message is damaged and was set aside",
            Failure::Expunged => "the message's payload was erased on request: there is nothing to send",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Progress;
    use crate::id::{ApplicationId, EndpointId, MessageId};
    use crate::testing;
    use crate::time::Timestamp;
    use serde_json::json;

    fn attempt(outcome: Outcome, result: StateKind) -> Attempt {
        let lane = crate::delivery::Lane {
            application: ApplicationId::from_bytes([1; 16]),
            endpoint: EndpointId::from_bytes([2; 16]),
        };
        let delivery = DeliveryId { lane, message: MessageId::from_bytes([3; 16]) };
        let started = Timestamp::from_millis(1_000);
        testing::attempt(AttemptId::from_parts(started, 1), delivery, Progress::new(started), outcome, result)
    }

    #[test]
    fn the_json_form_says_what_to_look_at_and_when_the_receiver_wants_the_next() {
        let busy = Outcome::Answered { status: 429, retry_after: Some(Duration::from_millis(1_500)), asked: None };
        let failed = attempt(busy, StateKind::Waiting);
        let shown = serde_json::to_value(&failed).unwrap();
        assert_eq!(shown["outcome"], json!({"answered": {"status": 429, "retryAfterSeconds": 2}}));
        assert_eq!(shown["hint"], json!(failed.hint().unwrap()));
        assert_eq!(shown["application"], json!(failed.delivery.lane.application));
        assert_eq!(shown["endpoint"], json!(failed.delivery.lane.endpoint));
        assert_eq!(shown["message"], json!(failed.delivery.message));
        assert_eq!(shown["startedAt"], json!("1970-01-01T00:00:01Z"));
        let members: Vec<_> = shown.as_object().unwrap().keys().collect();
        assert_eq!(members.len(), 15, "{members:?}");
        let taken = attempt(Outcome::answered(302), StateKind::Delivered);
        let shown = serde_json::to_value(&taken).unwrap();
        assert_eq!((&shown["hint"], &shown["outcome"]["answered"]["retryAfterSeconds"]), (&json!(null), &json!(null)));
    }

    #[test]
    fn an_outcome_in_json_reads_back() {
        let whole = Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(7)), asked: None };
        for outcome in [whole, Outcome::answered(200), Outcome::Failed(Failure::Dns)] {
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome, "{json}");
        }
    }
}
