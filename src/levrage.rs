//! The typed event of Levrage, as its webhooks page describes it.
//!
//! What is absent and what is null follows the page's own receiver: it reads `sentiment` and `call_summary` by index,
//! so they are always written (null where there is none), and asks `details_collection` for its members unless it is
//! absent, so that one is never null.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::NewMessage;
use crate::open_enum::open_enum;
use crate::time::Timestamp;

/// The event type of [`CallEnded`].
pub const CALL_ENDED: &str = "CALL_ENDED";

/// `CALL_ENDED`: a call that an agent handled is over. Source of every member: Levrage's webhooks page, "Payload".
///
/// Its JSON form is the page's `data`; the profile `levrage` adds `event` and `timestamp` around it. As a message it
/// happened at `ended_at` and has the channel `agent:<agent_id>`, so that endpoints may filter by agent.
///
/// ```
/// use ringback::levrage::{CallEnded, CallStatus, Direction, Sentiment};
///
/// let event = CallEnded {
///     agent_id: "agent_7".into(),
///     phone_number: "+919876543210".into(),
///     duration_seconds: 180,
///     duration_minutes: 3.0,
///     ended_at: "2025-01-15T10:30:00Z".parse().ok(),
///     sentiment: Some(Sentiment::Positive),
///     ..CallEnded::new("call_1", CallStatus::Completed, Direction::Outbound)
/// };
/// let message = ringback::NewMessage::from(event).event_id("call_1");
/// # let _ = message;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallEnded {
    /// The call's id. Receivers use it as their idempotency key ("Delivery Policy").
    pub session_id: String,
    /// The other side's number, in E.164 form.
    pub phone_number: String,
    /// Who called whom.
    pub direction: Direction,
    /// How the call went.
    pub status: CallStatus,
    /// How long it was, in seconds.
    pub duration_seconds: u64,
    /// How long it was, in minutes.
    pub duration_minutes: f64,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The agent that handled it.
    pub agent_id: String,
    /// What kind of agent that is, for example `sales`.
    pub agent_type: String,
    /// The customer's sentiment. Null where there was no conversation.
    pub sentiment: Option<Sentiment>,
    /// What was said, in short. Null where there was no conversation.
    pub call_summary: Option<String>,
    /// Why it ended, for example `agent_ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_end_reason: Option<String>,
    /// Who ended it, for example `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Which details the agent collected. Absent where it collects none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details_collection: Option<DetailsCollection>,
    /// What was said, in order.
    #[serde(default)]
    pub transcript: Vec<TranscriptEntry>,
    /// Where the recording is. Absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_url: Option<String>,
    /// What the caller of the API attached to the call.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// What the AI cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai_cost: Option<f64>,
    /// What the telephony cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telephony_cost: Option<f64>,
    /// What the call cost in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cost: Option<f64>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl CallEnded {
    /// An event with the members that have no empty value. Texts start empty, durations 0, `sentiment` and
    /// `call_summary` null, and what the page's receiver does not insist on absent.
    pub fn new(session_id: impl Into<String>, status: CallStatus, direction: Direction) -> Self {
        CallEnded {
            session_id: session_id.into(),
            phone_number: String::new(),
            direction,
            status,
            duration_seconds: 0,
            duration_minutes: 0.0,
            started_at: None,
            ended_at: None,
            agent_id: String::new(),
            agent_type: String::new(),
            sentiment: None,
            call_summary: None,
            call_end_reason: None,
            ended_by: None,
            details_collection: None,
            transcript: Vec::new(),
            recording_url: None,
            metadata: Map::new(),
            ai_cost: None,
            telephony_cost: None,
            total_cost: None,
            extra: Map::new(),
        }
    }
}

/// The agent becomes the channel `agent:<agent_id>`. An id that is empty or has characters which a channel cannot
/// have makes `send` refuse the message: left out, it would reach endpoints that ask for other agents only.
impl From<CallEnded> for NewMessage {
    fn from(event: CallEnded) -> Self {
        let mut message = NewMessage::json(CALL_ENDED, &event)
            .expect("texts, numbers and maps by text have a JSON form")
            .channel(format!("agent:{}", event.agent_id));
        message.occurred_at = event.ended_at;
        message
    }
}

/// Which details an agent collected in a call. Source: Levrage's webhooks page, `details_collection`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DetailsCollection {
    /// How far the collection got, for example `partial`.
    pub status: String,
    /// Which part of the details there is, for example 0.75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The names of the details that there are.
    #[serde(default)]
    pub collected_details: Vec<String>,
    /// The details by name.
    #[serde(default)]
    pub collected_values: Map<String, Value>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One thing said in a call. Source: Levrage's webhooks page, `transcript`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// When, as an opaque text: the page shows a time of day without a date (`10:27:01`).
    pub timestamp: String,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

open_enum! {
    /// Who called whom. The page shows `outbound` and speaks of "any call".
    pub enum Direction {
        /// `outbound`: the agent called.
        Outbound = "outbound",
        /// `inbound`: the agent was called. Not spelled on the page.
        Inbound = "inbound",
    }
}

open_enum! {
    /// The call statuses of Levrage's webhooks page.
    pub enum CallStatus {
        /// `completed`: somebody answered and there was a conversation.
        Completed = "completed",
        /// `no_answer`: it rang, and nobody answered.
        NoAnswer = "no_answer",
        /// `failed`: no connection could be made.
        Failed = "failed",
        /// `voicemail`: a voicemail answered.
        Voicemail = "voicemail",
        /// `busy`: the line was busy.
        Busy = "busy",
    }
}

open_enum! {
    /// The sentiment values of Levrage's webhooks page.
    pub enum Sentiment {
        /// `positive`: interested or satisfied.
        Positive = "positive",
        /// `neutral`: no strong opinion.
        Neutral = "neutral",
        /// `negative`: dissatisfied.
        Negative = "negative",
    }
}

open_enum! {
    /// Who speaks in a transcript, as in the example of Levrage's webhooks page.
    pub enum Role {
        /// `agent`: the AI agent.
        Agent = "agent",
        /// `user`: the other side.
        User = "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("examples/levrage_call_ended.json");

    #[test]
    fn the_page_s_example_is_read_and_written_without_a_loss() {
        let event: CallEnded = serde_json::from_str(PAGE).unwrap();
        assert_eq!(event.status, CallStatus::Completed);
        assert_eq!(event.sentiment, Some(Sentiment::Positive));
        assert_eq!(event.transcript[1].role, Role::User);
        assert_eq!(event.transcript[1].timestamp, "10:27:05");
        assert!(event.extra.is_empty());
        assert_eq!(serde_json::to_value(&event).unwrap(), serde_json::from_str::<Value>(PAGE).unwrap());
        // The page writes 3.0, not 3.
        assert!(serde_json::to_string(&event).unwrap().contains(r#""duration_minutes":3.0,"#));
    }

    #[test]
    fn a_call_that_nobody_answered_suits_the_page_s_receiver() {
        let event = CallEnded::new("call_1", CallStatus::NoAnswer, Direction::Outbound);
        let value = serde_json::to_value(&event).unwrap();
        for read_by_index in ["phone_number", "status", "sentiment", "call_summary"] {
            assert!(value.get(read_by_index).is_some(), "{read_by_index}");
        }
        assert_eq!(value.get("details_collection"), None);
        assert_eq!(serde_json::from_value::<CallEnded>(value).unwrap(), event);
    }

    #[test]
    fn members_that_the_page_does_not_name_are_kept_at_every_level() {
        let mut value: Value = serde_json::from_str(PAGE).unwrap();
        value["language"] = "hi".into();
        value["details_collection"]["missing"] = serde_json::json!(["city"]);
        value["transcript"][0]["confidence"] = 0.5.into();
        let event: CallEnded = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), value);
    }

    #[test]
    fn the_message_names_its_agent_and_its_end() {
        let message = NewMessage::from(serde_json::from_str::<CallEnded>(PAGE).unwrap());
        assert_eq!(message.event_type, CALL_ENDED);
        assert_eq!(message.channels, ["agent:agent_uuid"]);
        assert_eq!(message.occurred_at, Some("2025-01-15T10:30:00Z".parse().unwrap()));
        message.validate(1_000_000).unwrap();
    }

    #[test]
    fn an_agent_that_is_no_channel_is_refused_and_not_left_out() {
        for agent in ["", "agent 7", "agent/7"] {
            let event =
                CallEnded { agent_id: agent.into(), ..CallEnded::new("call_1", CallStatus::Busy, Direction::Outbound) };
            assert_eq!(NewMessage::from(event).validate(1_000_000).unwrap_err().field(), "channels");
        }
    }
}
