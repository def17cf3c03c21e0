//! Messages: what happened, as the platform told it.
//!
//! Invariants: a [`Message`] that exists is a valid one; its payload's bytes, its id and its time never change (but
//! the payload can be expunged).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::invalid::Invalid;
use crate::ordering::KeyHash;
use crate::time::Timestamp;

/// The most channels of one message.
pub const MAX_CHANNELS: usize = 20;
/// The most tags of one message.
pub const MAX_TAGS: usize = 20;
/// How far ahead a message can be scheduled.
pub const MAX_AHEAD: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a caller sends: an event type, a payload, and what routes and identifies it.
///
/// ```
/// let message = ringback::NewMessage::bytes("call.completed", r#"{"callId":"call_1"}"#)
///     .event_id("call_1-completed")
///     .channel("agent:agent_123");
/// # let _ = message;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    pub(crate) event_type: Cow<'static, str>,
    pub(crate) payload: Bytes,
    pub(crate) event_id: Option<String>,
    pub(crate) channels: Vec<String>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) deliver_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) tags: Vec<String>,
}

impl NewMessage {
    /// A message whose payload is these bytes. They are what is signed and sent, unchanged. JSON is nested at most 128 levels deep.
    pub fn bytes(event_type: impl Into<Cow<'static, str>>, payload: impl Into<Bytes>) -> Self {
        NewMessage {
            event_type: event_type.into(),
            payload: payload.into(),
            event_id: None,
            channels: Vec::new(),
            occurred_at: None,
            idempotency_key: None,
            ordering_key: None,
            deliver_at: None,
            expires_at: None,
            max_age: None,
            tags: Vec::new(),
        }
    }

    /// A message whose payload is this JSON value.
    pub fn value(event_type: impl Into<Cow<'static, str>>, payload: &serde_json::Value) -> Self {
        NewMessage::bytes(event_type, payload.to_string())
    }

    /// A message whose payload is this value's JSON form.
    ///
    /// # Errors
    /// The value has no JSON form (a map whose keys are not texts, for example).
    pub fn json<T: Serialize + ?Sized>(event_type: impl Into<Cow<'static, str>>, payload: &T) -> Result<Self, Invalid> {
        let bytes = serde_json::to_vec(payload).map_err(|error| Invalid::new("payload", error.to_string()))?;
        Ok(NewMessage::bytes(event_type, bytes))
    }

    /// The caller's own id of the event: 1 to 256 printable characters, unique per application while the message lives.
    pub fn event_id(mut self, id: impl Into<String>) -> Self {
        self.event_id = Some(id.into());
        self
    }

    /// Adds a channel (`eu`) or one with a dimension (`agent:agent_123`): at most 20, each 1 to 128 of
    /// `a-z A-Z 0-9 - _ . :`.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channels.push(channel.into());
        self
    }

    /// When it happened. Default: when the message is accepted. Envelopes carry it.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// A key under which a repeated send is answered with the first one's result: 1 to 256 printable characters.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Messages of one key reach each endpoint in the order of their acceptance: 1 to 256 printable characters. A
    /// delivery is held until the one before it has ended; other keys, and messages without one, flow.
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Not to be attempted before this time, which is at most 30 days ahead. A time that is past means now.
    pub fn deliver_at(mut self, time: Timestamp) -> Self {
        self.deliver_at = Some(time);
        self
    }

    /// No attempt starts after this time: a delivery that has not arrived by then gives up. It is after
    /// [`deliver_at`](NewMessage::deliver_at), and not given beside [`max_age`](NewMessage::max_age).
    pub fn expires_at(mut self, time: Timestamp) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// As [`expires_at`](NewMessage::expires_at), counted from the acceptance, or from
    /// [`deliver_at`](NewMessage::deliver_at) where that is later. More than 0.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Adds a label to find, cancel and erase messages by, such as whom it is about (`user:123`): at most 20, each 1 to
    /// 128 printable characters. Receivers do not see it.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// When a message that is accepted now is due and when it expires.
    pub(crate) fn timetable(&self, accepted_at: Timestamp) -> Result<Timetable, Invalid> {
        if self.deliver_at.is_some_and(|at| at > accepted_at + MAX_AHEAD) {
            return Err(Invalid::new("deliverAt", "is at most 30 days ahead"));
        }
        let deliver_at = self.deliver_at.filter(|at| *at > accepted_at);
        let expires_at = match (self.expires_at, self.max_age) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(Invalid::new("maxAge", "stands beside expireAt: give one of them")),
            (Some(at), None) if self.deliver_at.is_some_and(|begin| at <= begin) => {
                return Err(Invalid::new("expireAt", "must be later than deliverAt"));
            }
            // One that is past is taken: the same send may be repeated later, and has its first answer then.
            (Some(at), None) => Some(at),
            (None, Some(Duration::ZERO)) => return Err(Invalid::new("maxAge", "must be more than 0")),
            (None, Some(age)) => Some(deliver_at.unwrap_or(accepted_at) + age),
        };
        Ok(Timetable { deliver_at, expires_at })
    }

    pub(crate) fn validate(&self, max_payload: usize) -> Result<(), Invalid> {
        validate_event_type("eventType", &self.event_type)?;
        if self.payload.len() > max_payload {
            return Err(Invalid::new(
                "payload",
                format!("has {} bytes; the limit is {max_payload}", self.payload.len()),
            ));
        }
        if self.channels.len() > MAX_CHANNELS {
            return Err(Invalid::new("channels", "has at most 20 channels"));
        }
        self.channels.iter().try_for_each(|channel| validate_channel(channel))?;
        let keys = [
            ("eventId", &self.event_id),
            ("idempotencyKey", &self.idempotency_key),
            ("orderingKey", &self.ordering_key),
        ];
        for (field, text) in keys {
            text.as_ref().map_or(Ok(()), |text| validate_key(field, text))?;
        }
        if self.tags.len() > MAX_TAGS {
            return Err(Invalid::new("tags", "has at most 20 tags"));
        }
        self.tags.iter().try_for_each(|tag| validate_tag(tag))
    }
}

/// When a message is due and when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timetable {
    /// Later than its acceptance.
    pub(crate) deliver_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A message in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Message {
    /// Its id, the same on every attempt.
    pub id: MessageId,
    /// The application that it belongs to.
    pub application: ApplicationId,
    /// What happened.
    pub event_type: String,
    /// The payload, as it was given.
    #[serde(serialize_with = "payload_as_json")]
    pub payload: Bytes,
    /// Whether the payload is JSON. Sent as `application/json` if it is, else as `application/octet-stream`.
    pub json: bool,
    /// The caller's own id of the event.
    pub event_id: Option<String>,
    /// What endpoints may filter by.
    pub channels: Vec<String>,
    /// The message's time in envelopes: when it happened, else when it was accepted.
    pub occurred_at: Timestamp,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whether it is an example sent by `send_test`.
    pub test: bool,
    /// Where it goes.
    pub routing: Routing,
    /// Whether its payload was erased on request. The payload is then empty, and nothing more is sent of it.
    pub expunged: bool,
    /// Messages of one key reach each endpoint in the order of their acceptance.
    pub ordering_key: Option<String>,
    /// When it is due, if that is later than its acceptance.
    pub deliver_at: Option<Timestamp>,
    /// No attempt of its first round starts after this time.
    #[serde(rename = "expireAt")]
    pub expires_at: Option<Timestamp>,
    /// What it can be found, canceled and erased by.
    pub tags: Vec<String>,
}

impl Message {
    /// When its first attempts are due.
    pub(crate) fn due(&self) -> Timestamp {
        self.deliver_at.unwrap_or(self.accepted_at)
    }

    /// Its ordering key, as indexes have it.
    pub(crate) fn key_hash(&self) -> Option<KeyHash> {
        self.ordering_key.as_deref().map(KeyHash::of)
    }
}

/// JSON stands in JSON output as it is; other bytes as a text, with what is not UTF-8 replaced.
fn payload_as_json<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_slice::<&serde_json::value::RawValue>(payload) {
        Ok(json) => json.serialize(serializer),
        Err(_) => serializer.serialize_str(&String::from_utf8_lossy(payload)),
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Routing {
    /// One delivery to each of these endpoints.
    To(Vec<EndpointId>),
    /// No endpoint wanted it, and why.
    Nowhere(NoRoute),
}

/// Why a message matched no endpoint: the furthest that any of them got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NoRoute {
    /// The application has no endpoints.
    NoEndpoints,
    /// All of its endpoints are disabled.
    AllDisabled,
    /// None that is enabled takes this event type.
    EventTypeNotWanted,
    /// None that takes the event type listens to these channels.
    ChannelsNotWanted,
}

impl NoRoute {
    /// The reason in plain words.
    pub fn describe(self) -> &'static str {
        match self {
            NoRoute::NoEndpoints => "the application has no endpoints",
            NoRoute::AllDisabled => "all endpoints of the application are disabled",
            NoRoute::EventTypeNotWanted => "no enabled endpoint takes this event type",
            NoRoute::ChannelsNotWanted => "no endpoint that takes this event type listens to its channels",
        }
    }
}

/// An event id or an idempotency key is a text that its caller chooses.
pub(crate) fn validate_key(field: &'static str, key: &str) -> Result<(), Invalid> {
    if key.is_empty() || key.len() > 256 || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(Invalid::new(field, "must have 1 to 256 printable ASCII characters"));
    }
    Ok(())
}

/// A tag is a text that its caller chooses.
pub(crate) fn validate_tag(tag: &str) -> Result<(), Invalid> {
    if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(Invalid::new("tags", "each has 1 to 128 printable ASCII characters"));
    }
    Ok(())
}

/// A tag that messages are looked for by. One that none can have is a mistake, and not nothing found.
pub(crate) fn validate_wanted_tag(tag: &str) -> Result<(), Invalid> {
    validate_tag(tag).map_err(|_| Invalid::new("tag", "must have 1 to 128 printable ASCII characters"))
}

/// An event type is a dotted name.
pub(crate) fn validate_event_type(field: &'static str, name: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let dots_part_words = !name.starts_with('.') && !name.ends_with('.') && !name.contains("..");
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) || !dots_part_words {
        return Err(Invalid::new(field, "must be a dotted name of 1 to 256 characters of a-z, A-Z, 0-9, -, _ and ."));
    }
    Ok(())
}

/// A channel is a name, or a dimension, a colon and a name.
pub(crate) fn validate_channel(channel: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    let halves_named = !channel.starts_with(':') && !channel.ends_with(':');
    if channel.is_empty() || channel.len() > 128 || !channel.bytes().all(allowed) || !halves_named {
        return Err(Invalid::new("channels", "each has 1 to 128 characters of a-z, A-Z, 0-9, -, _, . and :"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn message() -> NewMessage {
        NewMessage::bytes("call.ended", "{}")
    }

    fn refused(message: &NewMessage) -> String {
        message.timetable(NOW).unwrap_err().to_string()
    }

    #[test]
    fn a_time_past_means_now_and_one_beyond_thirty_days_is_refused() {
        let due = |at| message().deliver_at(at).timetable(NOW).map(|timetable| timetable.deliver_at);
        assert_eq!(due(NOW - HOUR), Ok(None));
        assert_eq!(due(NOW), Ok(None));
        assert_eq!(due(NOW + MAX_AHEAD), Ok(Some(NOW + MAX_AHEAD)));
        assert!(refused(&message().deliver_at(NOW + MAX_AHEAD + Duration::from_millis(1))).contains("deliverAt"));
    }

    #[test]
    fn an_age_counts_from_the_acceptance_or_from_when_it_is_due() {
        let expiry = |message: NewMessage| message.timetable(NOW).unwrap().expires_at;
        assert_eq!(expiry(message()), None);
        assert_eq!(expiry(message().max_age(HOUR)), Some(NOW + HOUR));
        assert_eq!(expiry(message().max_age(HOUR).deliver_at(NOW + HOUR)), Some(NOW + 2 * HOUR));
        assert_eq!(expiry(message().max_age(HOUR).deliver_at(NOW - HOUR)), Some(NOW + HOUR));
        assert_eq!(expiry(message().expires_at(NOW - HOUR)), Some(NOW - HOUR), "a repeated send may come late");
    }

    #[test]
    fn contradictions_are_refused_with_the_members_name() {
        assert!(refused(&message().expires_at(NOW + HOUR).max_age(HOUR)).contains("maxAge"));
        assert!(refused(&message().max_age(Duration::ZERO)).contains("maxAge"));
        for expiry in [NOW, NOW + HOUR] {
            assert!(refused(&message().deliver_at(NOW + HOUR).expires_at(expiry)).contains("expireAt"));
        }
    }

    #[test]
    fn keys_and_tags_have_bounds() {
        let valid = |message: NewMessage| message.validate(1024).map_err(|error| error.to_string());
        assert_eq!(valid(message().ordering_key("agent 7/é".replace('é', "e")).tag("user:123")), Ok(()));
        for key in [String::new(), "k".repeat(257), "a\nb".into(), "é".into()] {
            assert!(valid(message().ordering_key(key)).unwrap_err().contains("orderingKey"));
        }
        for tag in [String::new(), "t".repeat(129), "a\tb".into()] {
            assert!(valid(message().tag(tag)).unwrap_err().contains("tags"));
        }
        let many = |count| (0..count).fold(message(), |message, number| message.tag(number.to_string()));
        assert_eq!(valid(many(MAX_TAGS)), Ok(()));
        assert!(valid(many(MAX_TAGS + 1)).unwrap_err().contains("tags"));
    }
}
