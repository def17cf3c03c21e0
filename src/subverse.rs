//! The typed events of Subverse, as its webhooks integration page describes them.
//!
//! The page shows one payload for calls and one for workflows, and says of no member that it is always there: so only
//! the ids are, and what is `None` is left out. It spells some event types in its payloads and gives the others by
//! label; those are spelled after the same pattern.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::NewMessage;
use crate::open_enum::open_enum;
use crate::time::Timestamp;

/// Something happened to a call. Source: Subverse's webhooks integration page, "Call Events Payload".
///
/// Its JSON form is the page's whole body. As a message the payload is `data`, and the profile `subverse` wraps it the
/// same way; it happened at `created_at`, and has the channel `agent:<agentId>`.
///
/// ```
/// use ringback::subverse::{CallData, CallEvent, CallEventType, CallStatus};
///
/// let event = CallEvent::new(
///     CallEventType::Completed,
///     CallData {
///         call_id: "call_xyz789".into(),
///         agent_id: "agent_123".into(),
///         call_status: Some(CallStatus::Completed),
///         call_duration: Some(185),
///         ..CallData::default()
///     },
/// );
/// let message = ringback::NewMessage::from(event).event_id("call_xyz789-completed");
/// # let _ = message;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallEvent {
    /// What happened.
    pub event_type: CallEventType,
    /// When it happened. Absent: when the message is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The call.
    pub data: CallData,
}

impl CallEvent {
    /// An event that happens now.
    pub fn new(event_type: CallEventType, data: CallData) -> Self {
        CallEvent { event_type, created_at: None, data }
    }
}

/// The agent becomes the channel `agent:<agentId>`. An id that is empty or has characters which a channel cannot
/// have makes `send` refuse the message: left out, it would reach endpoints that ask for other agents only.
impl From<CallEvent> for NewMessage {
    fn from(event: CallEvent) -> Self {
        let channel = format!("agent:{}", event.data.agent_id);
        message(event.event_type.as_str(), &event.data, channel, event.created_at)
    }
}

/// Something happened to a workflow. Source: Subverse's webhooks integration page, "Workflow Events Payload".
///
/// Its JSON form is the page's whole body. As a message the payload is `data`, and the profile `subverse` wraps it the
/// same way; it happened at `created_at`, and has the channel `workflow:<workflowId>`.
///
/// ```
/// use ringback::subverse::{WorkflowData, WorkflowEvent, WorkflowEventType};
///
/// let data = WorkflowData { workflow_id: "wf_456".into(), nodes_executed: Some(5), ..WorkflowData::default() };
/// let message = ringback::NewMessage::from(WorkflowEvent::new(WorkflowEventType::Completed, data));
/// # let _ = message;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowEvent {
    /// What happened.
    pub event_type: WorkflowEventType,
    /// When it happened. Absent: when the message is accepted. Receivers tell a workflow's events apart by it
    /// ("Implement Idempotency").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The workflow.
    pub data: WorkflowData,
}

impl WorkflowEvent {
    /// An event that happens now.
    pub fn new(event_type: WorkflowEventType, data: WorkflowData) -> Self {
        WorkflowEvent { event_type, created_at: None, data }
    }
}

/// The workflow becomes the channel `workflow:<workflowId>`. An id that is empty or has characters which a channel
/// cannot have makes `send` refuse the message: left out, it would reach endpoints that ask for other workflows only.
impl From<WorkflowEvent> for NewMessage {
    fn from(event: WorkflowEvent) -> Self {
        let channel = format!("workflow:{}", event.data.workflow_id);
        message(event.event_type.as_str(), &event.data, channel, event.created_at)
    }
}

fn message<T: Serialize>(event_type: &str, data: &T, channel: String, time: Option<Timestamp>) -> NewMessage {
    let mut message = NewMessage::json(event_type.to_owned(), data)
        .expect("texts, numbers and maps by text have a JSON form")
        .channel(channel);
    message.occurred_at = time;
    message
}

open_enum! {
    /// The call events of Subverse's webhooks integration page. It spells `call.placed` and `call.completed`; the
    /// others are its labels in the same pattern.
    pub enum CallEventType {
        /// `call.in_queue`: waits to be processed.
        InQueue = "call.in_queue",
        /// `call.placed`: an outbound call has been started.
        Placed = "call.placed",
        /// `call.errored`: met an error.
        Errored = "call.errored",
        /// `call.canceled`: was canceled before it was over.
        Canceled = "call.canceled",
        /// `call.expired`: ran out of time.
        Expired = "call.expired",
        /// `call.completed`: ended well.
        Completed = "call.completed",
    }
}

open_enum! {
    /// The workflow events of Subverse's webhooks integration page. It spells `workflow.in_queue`, `workflow.started`
    /// and `workflow.completed`; the others are its labels in the same pattern.
    pub enum WorkflowEventType {
        /// `workflow.in_queue`: waits to run.
        InQueue = "workflow.in_queue",
        /// `workflow.started`: has begun to run.
        Started = "workflow.started",
        /// `workflow.node_execution`: one of its nodes has run.
        NodeExecution = "workflow.node_execution",
        /// `workflow.failed`: failed.
        Failed = "workflow.failed",
        /// `workflow.completed`: ended well.
        Completed = "workflow.completed",
    }
}

/// A call. Source: Subverse's webhooks integration page, "Call Events Payload".
///
/// `call_status` is the caller's word: it is never derived from the event type, and the page's example of
/// `call.placed` has `call_placed`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallData {
    /// The call's id. Receivers use it as their idempotency key ("Implement Idempotency").
    pub call_id: String,
    /// The customer's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_number: Option<String>,
    /// How the call stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_status: Option<CallStatus>,
    /// The agent's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_number: Option<String>,
    /// The agent, by which endpoints may filter.
    pub agent_id: String,
    /// The agent's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// How long the call was (185 in the page's example, which gives no unit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_duration: Option<u64>,
    /// Who called whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_direction: Option<CallDirection>,
    /// When the call was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_time: Option<Timestamp>,
    /// The conversation as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<String>,
    /// What the conversation came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// Where the recording is: an opaque text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_url: Option<String>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a conversation came to. Source: Subverse's webhooks integration page, `analysis`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The customer's sentiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<Sentiment>,
    /// What was said, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The fields that the agent was set up to fill.
    #[serde(default)]
    pub custom_fields: Map<String, Value>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A workflow's run. Source: Subverse's webhooks integration page, "Workflow Events Payload".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowData {
    /// The workflow, by which endpoints may filter.
    pub workflow_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_name: Option<String>,
    /// The run's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// How the run stands, for example `in_queue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How long the run took, in seconds (300 between the two times of the page's example).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// How many nodes have run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_executed: Option<u64>,
    /// What the run came to, for example `callsMade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Map<String, Value>>,
    /// Members that the page does not name. None may have the name of one above.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

open_enum! {
    /// How a call stands: the two values that Subverse's webhooks integration page shows.
    pub enum CallStatus {
        /// `call_placed`, in the example payload.
        CallPlaced = "call_placed",
        /// `completed`, in the receiver of "Workflow Automation".
        Completed = "completed",
    }
}

open_enum! {
    /// Who called whom. The page shows `outbound`.
    pub enum CallDirection {
        /// `outbound`: the agent called.
        Outbound = "outbound",
        /// `inbound`: the agent was called. Not spelled on the page.
        Inbound = "inbound",
    }
}

open_enum! {
    /// The customer's sentiment: the two values that Subverse's webhooks integration page shows.
    pub enum Sentiment {
        /// `positive`, in the example payload.
        Positive = "positive",
        /// `negative`, in the receiver of "Team Notifications".
        Negative = "negative",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = include_str!("examples/subverse_call.json");
    const WORKFLOW: &str = include_str!("examples/subverse_workflow.json");

    #[test]
    fn the_page_s_payloads_are_read_and_written_without_a_loss() {
        let call: CallData = serde_json::from_str(CALL).unwrap();
        assert_eq!(call.call_status, Some(CallStatus::CallPlaced));
        assert!(call.extra.is_empty());
        assert_eq!(serde_json::to_value(&call).unwrap(), serde_json::from_str::<Value>(CALL).unwrap());

        let workflow: WorkflowData = serde_json::from_str(WORKFLOW).unwrap();
        assert!(workflow.extra.is_empty());
        assert_eq!(serde_json::to_value(&workflow).unwrap(), serde_json::from_str::<Value>(WORKFLOW).unwrap());
    }

    #[test]
    fn an_event_s_own_form_is_the_page_s_whole_body() {
        let body = format!(r#"{{"eventType":"call.placed","createdAt":"2025-12-08T10:30:00Z","data":{CALL}}}"#);
        let event: CallEvent = serde_json::from_str(&body).unwrap();
        assert_eq!(event.event_type, CallEventType::Placed);
        assert_eq!(serde_json::to_value(&event).unwrap(), serde_json::from_str::<Value>(&body).unwrap());
    }

    #[test]
    fn members_that_the_page_does_not_name_are_kept_at_every_level() {
        let mut value: Value = serde_json::from_str(CALL).unwrap();
        value["campaign"] = "spring".into();
        value["analysis"]["score"] = 7.into();
        let call: CallData = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&call).unwrap(), value);
    }

    #[test]
    fn the_message_names_its_agent_or_its_workflow_and_its_time() {
        let time = "2025-12-08T10:30:00Z".parse().ok();
        let call = CallEvent {
            created_at: time,
            ..CallEvent::new(CallEventType::Expired, serde_json::from_str(CALL).unwrap())
        };
        let message = NewMessage::from(call.clone());
        assert_eq!(message.event_type, "call.expired");
        assert_eq!(message.channels, ["agent:agent_123"]);
        assert_eq!(message.occurred_at, time);
        // The payload is the call as it was given: the status does not follow the event type.
        assert_eq!(message.payload, serde_json::to_vec(&call.data).unwrap());
        message.validate(1_000_000).unwrap();

        let data = serde_json::from_str(WORKFLOW).unwrap();
        let message = NewMessage::from(WorkflowEvent::new(WorkflowEventType::NodeExecution, data));
        assert_eq!(message.event_type, "workflow.node_execution");
        assert_eq!(message.channels, ["workflow:wf_456"]);
        assert_eq!(message.occurred_at, None);
        message.validate(1_000_000).unwrap();
    }

    #[test]
    fn an_id_that_is_no_channel_is_refused_and_not_left_out() {
        let call = CallEvent::new(CallEventType::Placed, CallData::default());
        let workflow = WorkflowEvent::new(
            WorkflowEventType::Started,
            WorkflowData { workflow_id: "order confirmation".into(), ..WorkflowData::default() },
        );
        for message in [NewMessage::from(call), NewMessage::from(workflow)] {
            assert_eq!(message.validate(1_000_000).unwrap_err().field(), "channels");
        }
    }
}
