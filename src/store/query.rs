//! What a store is asked for: filters, orders, pages; and which items fit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::Attempt;
use crate::delivery::{Delivery, Outcome, StateKind};
use crate::fanout;
use crate::id::{AttemptId, EndpointId, MessageId};
use crate::message::{Message, Routing};
use crate::time::Timestamp;

/// One page of a longer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// The last item's cursor if there is more, for the next query; `None` at the end.
    pub next: Option<C>,
}

/// A message on a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The message. Its payload was not read: it is empty here.
    pub message: Arc<Message>,
    /// How its deliveries stand, in the order of its routing.
    pub deliveries: Vec<Delivery>,
}

/// A stretch of a walk over messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// Those that fit the query.
    pub messages: Vec<Walked>,
    /// The last message that was looked at if there are more in the query's window, for the next query's `after`; `None`
    /// at the end.
    pub next: Option<MessageId>,
}

/// In which order a list is walked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// From the greatest id to the smallest.
    #[default]
    NewestFirst,
    /// From the smallest id to the greatest.
    OldestFirst,
}

/// Which messages of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageQuery {
    /// Accepted at or after this time.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// Of one of these event types, each exact or ending in `.*`, as the filters of endpoints are. Empty: of any.
    pub event_types: Vec<String>,
    /// With this channel.
    pub channel: Option<String>,
    /// Routed to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// With this ordering key.
    pub ordering_key: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Only those that matched no endpoint.
    pub unrouted: bool,
    /// In which order.
    pub order: Order,
    /// Only those beyond this one, in the query's order: the cursor.
    pub after: Option<MessageId>,
    /// How many at most: 1 to 250.
    pub limit: usize,
}

impl MessageQuery {
    /// Whether a message passes the filters that its id does not answer. Its payload is not looked at.
    pub(crate) fn fits(&self, message: &Message) -> bool {
        let routed = match &message.routing {
            Routing::To(endpoints) => !self.unrouted && self.endpoint.is_none_or(|wanted| endpoints.contains(&wanted)),
            Routing::Nowhere(_) => self.endpoint.is_none(),
        };
        routed
            && of_kind(message, &self.event_types, self.channel.as_deref())
            && self.ordering_key.as_ref().is_none_or(|wanted| message.ordering_key.as_ref() == Some(wanted))
            && self.tag.as_ref().is_none_or(|wanted| message.tags.contains(wanted))
    }
}

/// Whether a message is of one of these types (if there are any) and has this channel.
fn of_kind(message: &Message, event_types: &[String], channel: Option<&str>) -> bool {
    let of_type = |wanted: &String| fanout::type_matches(wanted, &message.event_type);
    (event_types.is_empty() || event_types.iter().any(of_type))
        && channel.is_none_or(|wanted| message.channels.iter().any(|has| has == wanted))
}

/// Which attempts of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptQuery {
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this message.
    pub message: Option<MessageId>,
    /// With this result.
    pub status: Option<AttemptStatus>,
    /// Of a message of one of these event types, each exact or ending in `.*`. Empty: of any. An attempt whose message
    /// is not there any more fits none.
    pub event_types: Vec<String>,
    /// Of a message with this channel. An attempt whose message is not there any more fits none.
    pub channel: Option<String>,
    /// Started at or after this time.
    pub since: Option<Timestamp>,
    /// Started before this time.
    pub until: Option<Timestamp>,
    /// In which order.
    pub order: Order,
    /// Only those beyond this one, in the query's order: the cursor.
    pub after: Option<AttemptId>,
    /// How many at most: 1 to 250.
    pub limit: usize,
}

impl AttemptQuery {
    /// Whether an attempt passes the filters that it answers by itself.
    pub(crate) fn fits(&self, attempt: &Attempt) -> bool {
        let beyond = |after| match self.order {
            Order::NewestFirst => attempt.id < after,
            Order::OldestFirst => attempt.id > after,
        };
        self.after.is_none_or(beyond)
            && self.since.is_none_or(|since| attempt.started_at >= since)
            && self.until.is_none_or(|until| attempt.started_at < until)
            && self.endpoint.is_none_or(|wanted| wanted == attempt.delivery.lane.endpoint)
            && self.message.is_none_or(|wanted| wanted == attempt.delivery.message)
            && self.status.is_none_or(|wanted| wanted.fits(attempt))
    }

    /// Whether the message of an attempt has to be looked at, too.
    pub(crate) fn asks_for_messages(&self) -> bool {
        !self.event_types.is_empty() || self.channel.is_some()
    }

    /// Whether an attempt's message passes the filters. Its payload is not looked at.
    pub(crate) fn fits_message(&self, message: &Message) -> bool {
        of_kind(message, &self.event_types, self.channel.as_deref())
    }
}

/// A filter over attempts' results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptStatus {
    /// Those that delivered.
    Succeeded,
    /// Those that did not.
    Failed,
    /// Those that were answered with this status.
    Code(u16),
    /// Those that were answered with a status of this class (4 is 400 to 499).
    Class(u16),
    /// Those that got no answer.
    NoAnswer,
}

impl AttemptStatus {
    /// Whether an attempt passes the filter.
    pub fn fits(self, attempt: &Attempt) -> bool {
        let code = match attempt.outcome {
            Outcome::Answered { status, .. } => Some(status),
            Outcome::Failed(_) => None,
        };
        match self {
            AttemptStatus::Succeeded => attempt.succeeded(),
            AttemptStatus::Failed => !attempt.succeeded(),
            AttemptStatus::Code(wanted) => code == Some(wanted),
            AttemptStatus::Class(class) => code.is_some_and(|code| code / 100 == class),
            AttemptStatus::NoAnswer => code.is_none(),
        }
    }
}

/// Which dead letters of an application, ordered by endpoint and then by message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadQuery {
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Whose message was accepted at or after this time.
    pub since: Option<Timestamp>,
    /// Whose message was accepted before this time.
    pub until: Option<Timestamp>,
    /// Only those after this one: the cursor.
    pub after: Option<(EndpointId, MessageId)>,
    /// How many at most: 1 to 10,000.
    pub limit: usize,
}

/// Which messages and deliveries of an application to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CountQuery {
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Whose message was accepted at or after this time.
    pub since: Option<Timestamp>,
    /// Whose message was accepted before this time.
    pub until: Option<Timestamp>,
}

impl CountQuery {
    /// Whether what happened to a message counts. Its id carries the time of its acceptance.
    pub(crate) fn covers(&self, id: MessageId) -> bool {
        let time = id.time();
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// How many messages there are, and how their deliveries stand. Each state is counted where deliveries are kept, and
/// not worked out from the messages: where nothing was lost, both sides [add up](Counts::adds_up).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Messages; where an endpoint was asked for, those routed to it.
    pub messages: u64,
    /// Deliveries that the routings of these messages name.
    pub routed: u64,
    /// Deliveries that wait to be attempted.
    pub waiting: u64,
    /// Deliveries that wait behind another one of their ordering key.
    pub held: u64,
    /// Deliveries with an attempt on its way.
    pub leased: u64,
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Deliveries that gave up.
    pub dead: u64,
    /// Deliveries that somebody ended.
    pub canceled: u64,
}

impl Counts {
    /// Whether each delivery that a message was routed to is in exactly one state: nothing was lost, nothing doubled.
    pub fn adds_up(&self) -> bool {
        self.routed == self.waiting + self.held + self.leased + self.delivered + self.dead + self.canceled
    }

    /// Counts one more delivery of this kind.
    pub(crate) fn add(&mut self, kind: StateKind) {
        *match kind {
            StateKind::Waiting => &mut self.waiting,
            StateKind::Held => &mut self.held,
            StateKind::Leased => &mut self.leased,
            StateKind::Delivered => &mut self.delivered,
            StateKind::Dead => &mut self.dead,
            StateKind::Canceled => &mut self.canceled,
        } += 1;
    }
}
