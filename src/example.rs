//! Example events, for trying an endpoint out: each vendor's own, as its page shows it, and one for everybody else.
//!
//! Invariant: a vendor's example is the page's payload to the letter; only the event type follows the request.

use crate::levers::PHONE_CALL_ENDED;
use crate::levrage::CALL_ENDED;
use crate::message::{NewMessage, validate_event_type};

/// From Levers' webhook events page.
const LEVERS_CALL: &str = include_str!("examples/levers_phone_call_ended.json");
/// From Levrage's webhooks page: the payload's `data`.
const LEVRAGE_CALL: &str = include_str!("examples/levrage_call_ended.json");
/// From Subverse's webhooks integration page: `data` of the call events and of the workflow events.
const SUBVERSE_CALL: &str = include_str!("examples/subverse_call.json");
const SUBVERSE_WORKFLOW: &str = include_str!("examples/subverse_workflow.json");
/// For profiles that belong to no vendor.
const GENERIC: &str = include_str!("examples/generic.json");

const SUBVERSE_TYPES: [&str; 11] = [
    "call.in_queue",
    "call.placed",
    "call.errored",
    "call.canceled",
    "call.expired",
    "call.completed",
    "workflow.in_queue",
    "workflow.started",
    "workflow.node_execution",
    "workflow.failed",
    "workflow.completed",
];

/// The event types that a profile has an example of. A vendor's profile has its vendor's and no others; every other
/// profile (`svix`, `standard-webhooks`, one of the user's own) has one of any event type, and this names one.
pub fn example_event_types(profile_name: &str) -> &'static [&'static str] {
    match profile_name {
        "levers" => &[PHONE_CALL_ENDED],
        "levrage" => &[CALL_ENDED],
        "subverse" => &SUBVERSE_TYPES,
        _ => &["example.event"],
    }
}

/// The example event of a profile, to be sent like any other message; `None` where the vendor has no such event type, or
/// it is no event type at all. [`send_test`](crate::Ringback::send_test) sends the same, marked as a test.
///
/// The payload is the vendor's `data`, as its page shows it: the profile's envelope stands around it as around any other.
///
/// ```
/// let message = ringback::example("levrage", "CALL_ENDED").expect("the page shows it").event_id("call_uuid");
/// assert_eq!(ringback::example("levrage", "call.completed"), None);
/// # let _ = message;
/// ```
pub fn example(profile_name: &str, event_type: &str) -> Option<NewMessage> {
    let payload = match profile_name {
        "levers" | "levrage" | "subverse" if !example_event_types(profile_name).contains(&event_type) => return None,
        "levers" => LEVERS_CALL,
        "levrage" => LEVRAGE_CALL,
        "subverse" if event_type.starts_with("workflow.") => SUBVERSE_WORKFLOW,
        "subverse" => SUBVERSE_CALL,
        _ => {
            validate_event_type("eventType", event_type).ok()?;
            GENERIC
        }
    };
    // The files end in a line break, as text files do; the pages' payloads do not.
    Some(NewMessage::bytes(event_type.to_owned(), payload.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn every_built_in_profile_has_an_example_that_can_be_sent() {
        for name in Profile::BUILTIN {
            assert!(!example_event_types(name).is_empty());
            for event_type in example_event_types(name) {
                let message = example(name, event_type).unwrap();
                assert_eq!(message.event_type, *event_type);
                assert!(serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap().is_object());
                assert!(!message.payload.ends_with(b"\n"));
                message.validate(100_000).unwrap();
            }
        }
    }

    #[test]
    fn an_event_type_that_the_vendor_does_not_have_has_no_example() {
        for name in ["levers", "levrage", "subverse"] {
            assert_eq!(example(name, "invoice.paid"), None);
        }
        for name in ["svix", "standard-webhooks", "my-own"] {
            assert!(example(name, "invoice.paid").is_some());
            assert_eq!(example(name, "invoice paid"), None);
        }
    }

    #[test]
    fn a_status_in_the_payload_does_not_follow_the_event_type() {
        let payload = |event_type| example("subverse", event_type).unwrap().payload;
        assert_eq!(payload("call.errored"), payload("call.placed"));
        assert_eq!(payload("workflow.failed"), payload("workflow.in_queue"));
        assert_ne!(payload("call.in_queue"), payload("workflow.in_queue"));
    }

    #[test]
    fn the_listed_event_types_are_the_typed_ones() {
        use crate::subverse::{CallEventType, WorkflowEventType};
        for event_type in SUBVERSE_TYPES {
            let named = match event_type.split_once('.') {
                Some(("call", _)) => !matches!(CallEventType::from(event_type), CallEventType::Other(_)),
                _ => !matches!(WorkflowEventType::from(event_type), WorkflowEventType::Other(_)),
            };
            assert!(named, "{event_type}");
        }
    }
}
