//! What the vendors' pages show as the payload of their events, and so what receivers must find.
//!
//! The texts are read from the pages' copies themselves and not through the library, which the receivers check.

use serde_json::Value;

use super::scenario::{Event, Form, TYPED_ID, Vendor};

const LEVERS_CALL: &str = include_str!("../examples/levers_phone_call_ended.json");
const LEVRAGE_CALL: &str = include_str!("../examples/levrage_call_ended.json");
const SUBVERSE_CALL: &str = include_str!("../examples/subverse_call.json");
const SUBVERSE_WORKFLOW: &str = include_str!("../examples/subverse_workflow.json");

/// What a receiver must find as an event's `data`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// Exactly these bytes.
    Bytes(&'static str),
    /// Any JSON text of this value.
    Value(Value),
}

/// The page's example payload of an event.
pub(super) fn payload(vendor: Vendor, event_type: &str) -> &'static str {
    let text = match vendor {
        Vendor::Levers => LEVERS_CALL,
        Vendor::Levrage => LEVRAGE_CALL,
        Vendor::Subverse if event_type.starts_with("workflow.") => SUBVERSE_WORKFLOW,
        Vendor::Subverse => SUBVERSE_CALL,
    };
    // The files end in a line break, which the pages' payloads do not have.
    text.trim_end()
}

/// The member of `data` that identifies what happened, by the vendor's page.
pub(super) fn id_member(vendor: Vendor, event_type: &str) -> &'static str {
    match vendor {
        Vendor::Levers => "providerCallId",
        Vendor::Levrage => "session_id",
        Vendor::Subverse if event_type.starts_with("workflow.") => "workflowId",
        Vendor::Subverse => "callId",
    }
}

/// What must arrive of an event.
///
/// # Errors
/// The copy of the page is not JSON.
pub(super) fn expected(event: &Event) -> serde_json::Result<Expected> {
    let text = payload(event.vendor, event.event_type);
    Ok(match event.form {
        Form::Document => Expected::Bytes(text),
        Form::Typed => {
            let mut value: Value = serde_json::from_str(text)?;
            value[id_member(event.vendor, event.event_type)] = TYPED_ID.into();
            Expected::Value(value)
        }
    })
}
