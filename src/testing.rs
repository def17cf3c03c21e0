//! Values that only a store or the engine can otherwise make, for integration tests and benches.
//!
//! Not part of the public interface. The fields are public: a test changes what it needs to be different.

use bytes::Bytes;

use crate::attempt::{Attempt, Timing, Trigger};
use crate::delivery::{DeliveryId, Outcome, Progress, StateKind};
use crate::id::{ApplicationId, AttemptId, MessageId};
use crate::message::{Message, Routing};
use crate::time::Timestamp;

/// A byte that chooses, and the rest. Without any bytes it is the first choice over nothing.
#[cfg(any(test, fuzzing))]
pub(crate) fn chosen(bytes: &[u8]) -> (usize, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest))
}

/// A message as it would be accepted: of type `test.happened`, without an event id and channels.
pub fn message(
    application: ApplicationId,
    id: MessageId,
    accepted_at: Timestamp,
    payload: impl Into<Bytes>,
    routing: Routing,
) -> Message {
    let payload = payload.into();
    Message {
        id,
        application,
        event_type: "test.happened".into(),
        json: serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok(),
        payload,
        event_id: None,
        channels: Vec::new(),
        occurred_at: accepted_at,
        accepted_at,
        test: false,
        routing,
        expunged: false,
        ordering_key: None,
        deliver_at: None,
        expires_at: None,
        tags: Vec::new(),
    }
}

/// The attempt that follows `before`, the progress in its lease; it started when its id was made.
pub fn attempt(id: AttemptId, delivery: DeliveryId, before: Progress, outcome: Outcome, result: StateKind) -> Attempt {
    let trigger = match (before.tries, before.round) {
        (0, 1) => Trigger::First,
        (0, _) => Trigger::Replay,
        (_, _) => Trigger::Retry,
    };
    Attempt {
        id,
        delivery,
        number: before.tried().attempts,
        round: before.round,
        trigger,
        started_at: id.time(),
        url: "https://receiver.example/hooks".into(),
        request_headers: vec![("content-type".into(), "application/json".into())],
        outcome,
        response: None,
        timing: Timing { head_us: None, total_us: 1_500 },
        result,
    }
}
