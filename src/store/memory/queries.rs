//! How the memory store answers queries: walks over its tables.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    AttemptQuery, CountQuery, Counts, DeadQuery, MAX_DEAD_PAGE, MAX_PAGE, MAX_PAGE_BYTES, MAX_WALK, MessageQuery,
    Order, Page, Record, RecordKey, RecordKind, Walk, Walked,
};
use super::tables::{Tables, endpoints_of};
use crate::attempt::Attempt;
use crate::delivery::{DeliveryId, Lane, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::time::Timestamp;

impl Tables {
    pub(super) fn messages(&self, application: ApplicationId, query: &MessageQuery) -> Page<Arc<Message>, MessageId> {
        let all = (MessageId::from_bytes([0; 16]), MessageId::from_bytes([0xff; 16]));
        let range = self.messages.range(beyond(application, all, query.after, query.order));
        let fitting = ordered(range, query.order)
            .map(|(_, stored)| &stored.message)
            .filter(|message| in_window(message.accepted_at, query.since, query.until) && query.fits(message));
        let mut page = page(fitting.cloned(), query.limit.clamp(1, MAX_PAGE), |message| message.id);
        let mut bytes = 0;
        let most = page.items.iter().take_while(|message| {
            let room = bytes < MAX_PAGE_BYTES;
            bytes += message.payload.len();
            room
        });
        let most = most.count();
        if most < page.items.len() {
            page.items.truncate(most);
            page.next = page.items.last().map(|message| message.id);
        }
        page
    }

    pub(super) fn walk(&self, application: ApplicationId, query: &MessageQuery) -> Walk {
        let all = (MessageId::from_bytes([0; 16]), MessageId::from_bytes([0xff; 16]));
        let range = self.messages.range(beyond(application, all, query.after, query.order));
        let mut window = ordered(range, query.order)
            .map(|(_, stored)| &stored.message)
            .filter(|message| in_window(message.accepted_at, query.since, query.until));
        let seen: Vec<_> = window.by_ref().take(query.limit.clamp(1, MAX_WALK)).collect();
        let next = window.next().and_then(|_| seen.last()).map(|message| message.id);
        let fitting = seen.into_iter().filter(|message| query.fits(message));
        let messages = fitting.map(|message| Walked {
            message: Arc::new(Message { payload: Bytes::new(), ..(**message).clone() }),
            deliveries: self.deliveries_of(application, message.id),
        });
        Walk { messages: messages.collect(), next }
    }

    pub(super) fn dead_letters(
        &self,
        application: ApplicationId,
        query: &DeadQuery,
    ) -> Page<DeliveryId, (EndpointId, MessageId)> {
        let limit = query.limit.clamp(1, MAX_DEAD_PAGE);
        page(self.dead(application, query, query.after), limit, |id| (id.lane.endpoint, id.message))
    }

    pub(super) fn count_dead_letters(&self, application: ApplicationId, query: &DeadQuery) -> u64 {
        self.dead(application, query, None).count() as u64
    }

    fn dead(
        &self,
        application: ApplicationId,
        query: &DeadQuery,
        after: Option<(EndpointId, MessageId)>,
    ) -> impl Iterator<Item = DeliveryId> {
        let at = |endpoint, message| DeliveryId { lane: Lane { application, endpoint }, message };
        let start = match after {
            Some((endpoint, message)) => Excluded(at(endpoint, message)),
            None => Included(at(EndpointId::from_bytes([0; 16]), MessageId::from_bytes([0; 16]))),
        };
        let of_application = self.deliveries.range((start, Unbounded));
        let of_application = of_application.take_while(move |(id, _)| id.lane.application == application);
        of_application
            .filter(move |(id, row)| {
                let message = self.messages.get(&(application, id.message));
                matches!(row.state, State::Dead { .. })
                    && query.endpoint.is_none_or(|wanted| wanted == id.lane.endpoint)
                    && message.is_some_and(|stored| in_window(stored.message.accepted_at, query.since, query.until))
            })
            .map(|(id, _)| *id)
    }

    pub(super) fn attempts(&self, application: ApplicationId, query: &AttemptQuery) -> Page<Attempt, AttemptId> {
        let all = (AttemptId::from_bytes([0; 16]), AttemptId::from_bytes([0xff; 16]));
        let range = self.attempts.range(beyond(application, all, query.after, query.order));
        let of_message = |attempt: &Attempt| {
            let stored = self.messages.get(&(application, attempt.delivery.message));
            !query.asks_for_messages() || stored.is_some_and(|stored| query.fits_message(&stored.message))
        };
        let attempts = ordered(range, query.order).map(|(_, attempt)| attempt);
        let fitting = attempts.filter(|attempt| query.fits(attempt) && of_message(attempt));
        page(fitting.cloned(), query.limit.clamp(1, MAX_PAGE), |attempt| attempt.id)
    }

    pub(super) fn count(&self, application: ApplicationId, query: &CountQuery) -> Counts {
        let mut counts = Counts::default();
        let all = (MessageId::from_bytes([0; 16]), MessageId::from_bytes([0xff; 16]));
        let messages = self.messages.range(beyond(application, all, None, Order::OldestFirst));
        for ((_, _), stored) in messages.filter(|((_, id), _)| query.covers(*id)) {
            let to = endpoints_of(&stored.message).iter();
            let routed = to.filter(|id| query.endpoint.is_none_or(|wanted| wanted == **id)).count() as u64;
            counts.messages += u64::from(query.endpoint.is_none() || routed > 0);
            counts.routed += routed;
        }
        let first = Lane { application, endpoint: EndpointId::from_bytes([0; 16]) };
        let first = DeliveryId { lane: first, message: MessageId::from_bytes([0; 16]) };
        let deliveries = self.deliveries.range(first..).take_while(|(id, _)| id.lane.application == application);
        let wanted = deliveries.filter(|(id, _)| {
            query.covers(id.message) && query.endpoint.is_none_or(|wanted| wanted == id.lane.endpoint)
        });
        for (id, row) in wanted {
            counts.add(self.standing(*id, row).kind());
        }
        counts
    }

    pub(super) fn list(
        &self,
        kind: RecordKind,
        application: Option<ApplicationId>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Vec<Record> {
        let start = match after {
            Some(key) => Excluded(RecordKey { kind, application, key }),
            None => Included(RecordKey { kind, application, key: Vec::new() }),
        };
        let records = self.records.range((start, Unbounded)).map(|(_, record)| record);
        let wanted = records.take_while(|record| record.key.kind == kind && record.key.application == application);
        wanted.take(limit.clamp(1, MAX_PAGE)).cloned().collect()
    }
}

type Bounds<I> = (Bound<(ApplicationId, I)>, Bound<(ApplicationId, I)>);

/// An application's ids that come after a cursor in an order.
fn beyond<I: Copy>(application: ApplicationId, (first, last): (I, I), after: Option<I>, order: Order) -> Bounds<I> {
    let (mut start, mut end) = (Included((application, first)), Included((application, last)));
    if let Some(after) = after {
        match order {
            Order::NewestFirst => end = Excluded((application, after)),
            Order::OldestFirst => start = Excluded((application, after)),
        }
    }
    (start, end)
}

fn ordered<'i, T: 'i>(
    ascending: impl DoubleEndedIterator<Item = T> + 'i,
    order: Order,
) -> Box<dyn Iterator<Item = T> + 'i> {
    match order {
        Order::NewestFirst => Box::new(ascending.rev()),
        Order::OldestFirst => Box::new(ascending),
    }
}

fn in_window(time: Timestamp, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
}

fn page<T, C>(mut fitting: impl Iterator<Item = T>, limit: usize, cursor: impl Fn(&T) -> C) -> Page<T, C> {
    let items: Vec<T> = fitting.by_ref().take(limit).collect();
    let next = fitting.next().and_then(|_| items.last()).map(cursor);
    Page { items, next }
}
