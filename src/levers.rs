//! The typed event of Levers, as its webhook events page describes it.
//!
//! The page names one event, `phone_call.ended`, and its 15 members. Which of them may be null is its word too:
//! `summary` and `endedReason`, and no other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::NewMessage;
use crate::open_enum::open_enum;

/// The event type of [`PhoneCallEnded`].
pub const PHONE_CALL_ENDED: &str = "phone_call.ended";

/// `phone_call.ended`: an AI phone call has finished. Source of every member: Levers' webhook events page.
///
/// Written as JSON it has the page's 15 members in the page's order, then `extra`. Sent through the profile `levers`
/// it becomes the envelope's `data`, which is where the receivers on Levers' verification page look for it.
///
/// ```
/// use ringback::levers::{CallOutput, PassFail, PhoneCallEnded, Sentiment};
///
/// let event = PhoneCallEnded {
///     number_from: "+15074106928".into(),
///     number_to: "+971585420805".into(),
///     duration: 53,
///     ..PhoneCallEnded::new("069652c8-d01e", PassFail::Pass, CallOutput::PaymentPromise, Sentiment::Neutral)
/// };
/// let message = ringback::NewMessage::from(event).event_id("069652c8-d01e");
/// # let _ = message;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhoneCallEnded {
    /// The telephony provider's id of the call (a UUID).
    pub provider_call_id: String,
    /// The Levers number that made the call, in E.164 form.
    pub number_from: String,
    /// The number that was called, in E.164 form.
    pub number_to: String,
    /// How the call went as the provider sees it.
    pub provider_status: PassFail,
    /// Whether the call reached the other side.
    pub delivery_status: PassFail,
    /// How long the call was, in seconds.
    pub duration: u64,
    /// A short summary. Null where there is none.
    pub summary: Option<String>,
    /// Why the call ended. Null where that is not known.
    pub ended_reason: Option<String>,
    /// What the conversation came to.
    pub call_output: CallOutput,
    /// The reasons for `callOutput`.
    pub call_output_reasoning: String,
    /// The contact's sentiment.
    pub sentiment_output: Sentiment,
    /// The reasons for `sentimentOutput`.
    pub sentiment_output_reasoning: String,
    /// The whole conversation as text.
    pub transcription: String,
    /// Where the recording is. An opaque text: the page's example is a path in a storage.
    pub recording_url: String,
    /// What else belongs to the call; `requestMetadata` holds what was given when the call was started.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PhoneCallEnded {
    /// An event with the members that have no empty value. `status` becomes both `providerStatus` and
    /// `deliveryStatus`; texts start empty, `duration` 0, `summary` and `endedReason` null.
    pub fn new(
        provider_call_id: impl Into<String>,
        status: PassFail,
        call_output: CallOutput,
        sentiment_output: Sentiment,
    ) -> Self {
        PhoneCallEnded {
            provider_call_id: provider_call_id.into(),
            number_from: String::new(),
            number_to: String::new(),
            provider_status: status.clone(),
            delivery_status: status,
            duration: 0,
            summary: None,
            ended_reason: None,
            call_output,
            call_output_reasoning: String::new(),
            sentiment_output,
            sentiment_output_reasoning: String::new(),
            transcription: String::new(),
            recording_url: String::new(),
            metadata: Map::new(),
            extra: Map::new(),
        }
    }
}

/// The page gives the event no time, so the message's is the one of its acceptance, unless `occurred_at` is set.
impl From<PhoneCallEnded> for NewMessage {
    fn from(event: PhoneCallEnded) -> Self {
        NewMessage::json(PHONE_CALL_ENDED, &event).expect("texts, numbers and maps by text have a JSON form")
    }
}

open_enum! {
    /// A status of Levers' webhook events page: `pass` or `fail`.
    pub enum PassFail {
        /// `pass`
        Pass = "pass",
        /// `fail`
        Fail = "fail",
    }
}

open_enum! {
    /// The call output values of Levers' webhook events page. The page says that there are others ("such as"), and
    /// its example has one.
    pub enum CallOutput {
        /// `PAYMENT EXTENSION`: the contact wants more time to pay.
        PaymentExtension = "PAYMENT EXTENSION",
        /// `PAYMENT PROMISE`: the contact will pay by a certain day.
        PaymentPromise = "PAYMENT PROMISE",
        /// `CALL BACK REQUESTED`: the contact wants to be called later.
        CallBackRequested = "CALL BACK REQUESTED",
        /// `WRONG NUMBER`: the number is not the contact's.
        WrongNumber = "WRONG NUMBER",
        /// `NOT INTERESTED`: the contact would not talk about it.
        NotInterested = "NOT INTERESTED",
        /// `PAYMENT COMPLETED`: it was paid during or after the call.
        PaymentCompleted = "PAYMENT COMPLETED",
    }
}

open_enum! {
    /// The sentiment values of Levers' webhook events page.
    pub enum Sentiment {
        /// `POSITIVE`: the contact took part willingly.
        Positive = "POSITIVE",
        /// `NEUTRAL`: neither willing nor unwilling.
        Neutral = "NEUTRAL",
        /// `NEGATIVE`: the contact was annoyed or refused.
        Negative = "NEGATIVE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("examples/levers_phone_call_ended.json");

    #[test]
    fn the_page_s_example_is_read_and_written_without_a_loss() {
        let event: PhoneCallEnded = serde_json::from_str(PAGE).unwrap();
        assert_eq!(event.provider_status, PassFail::Pass);
        assert_eq!(event.call_output, CallOutput::Other("CALL_RESULT".into()));
        assert_eq!(event.sentiment_output, Sentiment::Neutral);
        assert!(event.extra.is_empty());
        assert_eq!(serde_json::to_value(&event).unwrap(), serde_json::from_str::<Value>(PAGE).unwrap());
    }

    #[test]
    fn the_fifteen_members_stand_in_the_page_s_order() {
        let page_order: Vec<&str> =
            PAGE.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        assert_eq!(page_order.len(), 15);
        let event = PhoneCallEnded::new("id", PassFail::Fail, CallOutput::WrongNumber, Sentiment::Negative);
        let json = serde_json::to_string(&event).unwrap();
        let places: Vec<usize> = page_order.iter().map(|name| json.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{json}");
        assert_eq!(serde_json::from_str::<Map<String, Value>>(&json).unwrap().len(), 15);
        assert!(json.contains(r#""summary":null,"endedReason":null"#), "{json}");
    }

    #[test]
    fn members_that_the_page_does_not_name_are_kept() {
        let mut value: Value = serde_json::from_str(PAGE).unwrap();
        value["language"] = "en".into();
        let event: PhoneCallEnded = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(event.extra["language"], "en");
        assert_eq!(serde_json::to_value(&event).unwrap(), value);
    }

    #[test]
    fn the_message_is_the_event_itself() {
        let event: PhoneCallEnded = serde_json::from_str(PAGE).unwrap();
        let message = NewMessage::from(event.clone());
        assert_eq!(message.event_type, PHONE_CALL_ENDED);
        assert_eq!(message.payload, serde_json::to_vec(&event).unwrap());
        assert!(message.channels.is_empty() && message.occurred_at.is_none());
        message.validate(1_000_000).unwrap();
    }
}
