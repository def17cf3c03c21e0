//! What the store is asked to read. Everything here runs on the threads that read, beside the writer.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use sled::IVec;

use crate::attempt::Attempt;
use crate::delivery::{Delivery, DeliveryId, Lane, Progress, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::ordering::KeyHash;
use crate::store::{
    AttemptQuery, DeadQuery, MAX_DEAD_PAGE, MAX_PAGE, MAX_PAGE_BYTES, MAX_WALK, MessageQuery, Order, Page, Record,
    RecordKey, RecordKind, Walk, Walked,
};

use super::keys::{self, Key, Place, Rank};
use super::rows::{self, AttemptRow, DeliveryRow, MessageRow, RecordRow, StoredMessage, WaitingRow};
use super::shared::Shared;

/// How often a delivery that moved under the look is looked at again.
pub(super) const TRIES: usize = 8;

/// A look at the tree.
pub(super) struct Look<'t> {
    pub(super) tree: &'t sled::Tree,
    pub(super) shared: &'t Shared,
}

pub(super) type Found<T> = sled::Result<T>;

impl Look<'_> {
    pub(super) fn row<R: DeserializeOwned>(&self, key: &Key) -> Found<Option<R>> {
        let Some(value) = self.tree.get(key)? else { return Ok(None) };
        Ok(self.sound(key, rows::unseal(key, &value)))
    }

    /// A row, unless it is damaged: then it is counted, and left out.
    pub(super) fn sound<R>(&self, key: &[u8], row: Result<R, rows::Damaged>) -> Option<R> {
        if row.is_err() {
            self.shared.met_damage(key);
        }
        row.ok()
    }

    pub(super) fn message(&self, application: ApplicationId, id: MessageId) -> Found<Option<Arc<Message>>> {
        let key = keys::message(application, id);
        match self.tree.get(&key)? {
            Some(value) => self.read_message(application, id, &key, &value),
            None => Ok(None),
        }
    }

    /// A message from its row and, where its payload is large, the parts.
    fn read_message(
        &self,
        application: ApplicationId,
        id: MessageId,
        key: &[u8],
        value: &[u8],
    ) -> Found<Option<Arc<Message>>> {
        let Some(stored) = self.sound(key, MessageRow::unseal(key, value)) else { return Ok(None) };
        self.with_payload(application, id, stored)
    }

    fn with_payload(
        &self,
        application: ApplicationId,
        id: MessageId,
        stored: StoredMessage,
    ) -> Found<Option<Arc<Message>>> {
        if let Some(payload) = self.payload(application, id, &stored)? {
            return Ok(Some(Arc::new(stored.into_message(application, id, payload))));
        }
        // A part is not there: the message may have been expunged since its row was read.
        let key = keys::message(application, id);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        let again = MessageRow::unseal(&key, &value).ok().filter(|stored| stored.expunged);
        Ok(again.map(|stored| Arc::new(stored.into_message(application, id, Bytes::new()))))
    }

    /// A payload, put together from its parts. `None` if one is missing or damaged.
    fn payload(&self, application: ApplicationId, id: MessageId, stored: &StoredMessage) -> Found<Option<Bytes>> {
        let mut payload = stored.head.clone();
        if stored.parts() > 0 {
            let mut whole = Vec::with_capacity(stored.length());
            whole.extend_from_slice(&payload);
            for number in 0..stored.parts() {
                let key = keys::part(application, id, number);
                let Some(value) = self.tree.get(&key)? else { return Ok(None) };
                let Some(part) = self.sound(&key, rows::unseal_raw(&key, &value)) else { return Ok(None) };
                whole.extend_from_slice(part);
            }
            payload = Bytes::from(whole);
        }
        Ok(Some(payload).filter(|payload| payload.len() == stored.length()))
    }

    pub(super) fn message_by_event_id(&self, application: ApplicationId, event_id: &str) -> Found<Option<MessageId>> {
        let key = keys::event_id(application, event_id);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        let bytes = self.sound(&key, rows::unseal_raw(&key, &value));
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(MessageId::from_bytes))
    }

    pub(super) fn messages(
        &self,
        application: ApplicationId,
        query: &MessageQuery,
    ) -> Found<Page<Arc<Message>, MessageId>> {
        let window = Window::of_messages(application, query);
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut items: Vec<Arc<Message>> = Vec::with_capacity(limit.min(64));
        let mut bytes = 0;
        for item in window.walk(self.tree, query.order) {
            let (key, value) = item?;
            let Some(id) = keys::read_message(&key) else { continue };
            let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { continue };
            // The parts of a payload are read only for what is wanted.
            if !query.fits(&stored.row.clone().without_payload(application, id)) {
                continue;
            }
            let Some(message) = self.with_payload(application, id, stored)? else { continue };
            if items.len() == limit || bytes >= MAX_PAGE_BYTES {
                let next = items.last().map(|message| message.id);
                return Ok(Page { items, next });
            }
            bytes += message.payload.len();
            items.push(message);
        }
        Ok(Page { items, next: None })
    }

    /// The messages of a window with how their deliveries stand.
    pub(super) fn walk(&self, application: ApplicationId, query: &MessageQuery) -> Found<Walk> {
        let limit = query.limit.clamp(1, MAX_WALK);
        let mut walk = Walk::default();
        let mut last = None;
        for (looked_at, item) in Window::of_messages(application, query).walk(self.tree, query.order).enumerate() {
            if looked_at == limit {
                walk.next = last;
                break;
            }
            let (key, value) = item?;
            let Some(id) = keys::read_message(&key) else { continue };
            last = Some(id);
            let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { continue };
            let (row, expunged) = (stored.row, stored.expunged);
            let message = Message { expunged, ..row.clone().without_payload(application, id) };
            if query.fits(&message) {
                let deliveries = self.deliveries_of(application, id, &row)?;
                walk.messages.push(Walked { message: Arc::new(message), deliveries });
            }
        }
        Ok(walk)
    }

    pub(super) fn deliveries(&self, application: ApplicationId, id: MessageId) -> Found<Vec<Delivery>> {
        let key = keys::message(application, id);
        let Some(value) = self.tree.get(&key)? else { return Ok(Vec::new()) };
        let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { return Ok(Vec::new()) };
        self.deliveries_of(application, id, &stored.row)
    }

    fn deliveries_of(&self, application: ApplicationId, id: MessageId, message: &MessageRow) -> Found<Vec<Delivery>> {
        let mut deliveries = Vec::with_capacity(message.to.len());
        let ordered = message.key_hash();
        for endpoint in &message.to {
            let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
            let id = DeliveryId { lane, message: id };
            let (due, sequence) = message.place();
            let (mut state, progress) = match self.row::<DeliveryRow>(&keys::delivery(id))? {
                Some(row) => (row.state.state().unwrap_or(State::Waiting { due }), row.progress.into()),
                None => (State::Waiting { due }, Progress::new(due)),
            };
            let mut progress = progress;
            if let State::Waiting { due } = state {
                let place = (due, sequence);
                if let Some(key) = ordered {
                    match self.behind(id, key, sequence)? {
                        Some(behind) => state = State::Held { behind },
                        None => progress = self.turned(lane, place)?.unwrap_or(progress),
                    }
                }
                if let Some(until) = self.shared.lanes().leased_until(lane, place) {
                    state = State::Leased { until };
                }
            }
            deliveries.push(Delivery { id, state, progress });
        }
        Ok(deliveries)
    }

    /// Whose delivery goes first, if this one is held.
    fn behind(&self, id: DeliveryId, key: KeyHash, sequence: u64) -> Found<Option<MessageId>> {
        for _ in 0..TRIES {
            if !self.tree.contains_key(keys::order(id, key, Rank::Held, sequence))? {
                return Ok(None);
            }
            let first = self.tree.scan_prefix(keys::ordered(id.lane, key, Rank::First)).keys().next();
            if let Some(first) = first.transpose()?.and_then(|first| keys::read_order(&first)) {
                // It may have become the first one itself between the two looks.
                return Ok(Some(first.message).filter(|first| *first != id.message));
            }
        }
        Ok(None)
    }

    /// When the turn came of one that was held is in its waiting row alone.
    fn turned(&self, lane: Lane, place: Place) -> Found<Option<Progress>> {
        let key = keys::waiting(lane, place);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        Ok(WaitingRow::unseal(&key, &value).ok().map(|row| row.progress.into()))
    }

    /// Each dead letter that fits the query, until `take` says it has enough.
    fn each_dead(
        &self,
        application: ApplicationId,
        query: &DeadQuery,
        mut take: impl FnMut(DeliveryId) -> bool,
    ) -> Found<()> {
        let prefix = keys::dead_of(application, query.endpoint);
        let end = keys::after_prefix(prefix.clone());
        let mut start = prefix;
        if let Some((endpoint, message)) = query.after {
            let mut after = keys::dead(DeliveryId { lane: Lane { application, endpoint }, message });
            after.push(0);
            start = start.max(after);
        }
        if start >= end {
            return Ok(());
        }
        for key in self.tree.range(start..end).keys() {
            let Some((endpoint, message)) = keys::read_dead(&key?) else { continue };
            let time = message.time();
            let within = query.since.is_none_or(|since| time >= since) && query.until.is_none_or(|until| time < until);
            if within && !take(DeliveryId { lane: Lane { application, endpoint }, message }) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn dead_letters(
        &self,
        application: ApplicationId,
        query: &DeadQuery,
    ) -> Found<Page<DeliveryId, (EndpointId, MessageId)>> {
        let limit = query.limit.clamp(1, MAX_DEAD_PAGE);
        let mut items: Vec<DeliveryId> = Vec::new();
        let mut more = false;
        self.each_dead(application, query, |id| {
            more = items.len() == limit;
            if !more {
                items.push(id);
            }
            !more
        })?;
        let next = items.last().filter(|_| more).map(|id| (id.lane.endpoint, id.message));
        Ok(Page { items, next })
    }

    pub(super) fn count_dead_letters(&self, application: ApplicationId, query: &DeadQuery) -> Found<u64> {
        let query = DeadQuery { after: None, ..query.clone() };
        let mut count = 0;
        self.each_dead(application, &query, |_| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    pub(super) fn attempts(&self, application: ApplicationId, query: &AttemptQuery) -> Found<Page<Attempt, AttemptId>> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut first = First { order: query.order, most: limit + 1, items: Vec::new() };
        match (query.message, query.endpoint) {
            (Some(message), _) => self.attempts_of_message(application, message, query, &mut first)?,
            (None, Some(endpoint)) => self.attempts_of_lane(Lane { application, endpoint }, query, &mut first)?,
            (None, None) => {
                for endpoint in self.endpoints_with_attempts(application)? {
                    self.attempts_of_lane(Lane { application, endpoint }, query, &mut first)?;
                }
            }
        }
        let mut items = first.items;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|attempt| attempt.id);
        Ok(Page { items, next })
    }

    fn fits(&self, query: &AttemptQuery, attempt: &Attempt) -> Found<bool> {
        if !query.fits(attempt) {
            return Ok(false);
        }
        if !query.asks_for_messages() {
            return Ok(true);
        }
        let (application, id) = (attempt.delivery.lane.application, attempt.delivery.message);
        let key = keys::message(application, id);
        let Some(value) = self.tree.get(&key)? else { return Ok(false) };
        let stored = self.sound(&key, MessageRow::unseal(&key, &value));
        let message = stored.map(|stored| stored.row.without_payload(application, id));
        Ok(message.is_some_and(|message| query.fits_message(&message)))
    }

    fn attempts_of_message(
        &self,
        application: ApplicationId,
        message: MessageId,
        query: &AttemptQuery,
        to: &mut First,
    ) -> Found<()> {
        let key = keys::message(application, message);
        let Some(value) = self.tree.get(&key)? else { return Ok(()) };
        let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { return Ok(()) };
        let wanted = |id: &[u8; 16]| query.endpoint.is_none_or(|endpoint| endpoint.to_bytes() == *id);
        for endpoint in stored.row.to.iter().filter(|id| wanted(id)) {
            let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
            let Some(row) = self.row::<DeliveryRow>(&keys::delivery(DeliveryId { lane, message }))? else { continue };
            for id in row.attempts.into_iter().map(AttemptId::from_bytes) {
                if !to.takes(id) {
                    continue;
                }
                if let Some(attempt) = self.attempt_of_lane(lane, id)?
                    && self.fits(query, &attempt)?
                {
                    to.add(attempt);
                }
            }
        }
        Ok(())
    }

    fn attempts_of_lane(&self, lane: Lane, query: &AttemptQuery, to: &mut First) -> Found<()> {
        let window = Window {
            all: keys::attempts(lane),
            since: query.since.map(|time| keys::attempt(lane, AttemptId::from_parts(time, 0))),
            until: query.until.map(|time| keys::attempt(lane, AttemptId::from_parts(time, 0))),
            after: query.after.map(|id| keys::attempt(lane, id)),
        };
        for item in window.walk(self.tree, query.order) {
            let (key, value) = item?;
            let Some((_, id)) = keys::read_attempt(&key) else { continue };
            if !to.takes(id) {
                break;
            }
            let stored = self.sound(&key, AttemptRow::unseal(&key, &value));
            let Some(attempt) = stored.and_then(|stored| stored.into_attempt(lane, id)) else { continue };
            if self.fits(query, &attempt)? {
                to.add(attempt);
            }
        }
        Ok(())
    }

    fn attempt_of_lane(&self, lane: Lane, id: AttemptId) -> Found<Option<Attempt>> {
        let key = keys::attempt(lane, id);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        let stored = self.sound(&key, AttemptRow::unseal(&key, &value));
        Ok(stored.and_then(|stored| stored.into_attempt(lane, id)))
    }

    /// An attempt by its id: a look into each lane that has attempts.
    pub(super) fn attempt(&self, application: ApplicationId, id: AttemptId) -> Found<Option<Attempt>> {
        match self.lane_of_attempt(application, id)? {
            Some(lane) => self.attempt_of_lane(lane, id),
            None => Ok(None),
        }
    }

    /// The lane of an attempt, also of a damaged one that was set aside.
    pub(super) fn lane_of_attempt(&self, application: ApplicationId, id: AttemptId) -> Found<Option<Lane>> {
        for endpoint in self.endpoints_with_attempts(application)? {
            let lane = Lane { application, endpoint };
            let key = keys::attempt(lane, id);
            if self.tree.contains_key(&key)? || self.tree.contains_key(keys::set_aside(&key))? {
                return Ok(Some(lane));
            }
        }
        Ok(None)
    }

    /// The endpoints that have attempts, by jumps from one to the next.
    fn endpoints_with_attempts(&self, application: ApplicationId) -> Found<Vec<EndpointId>> {
        let mut endpoints = Vec::new();
        let mut seek = keys::all_attempts(application);
        let end = keys::after_prefix(seek.clone());
        while let Some(item) = self.tree.range(seek.as_slice()..end.as_slice()).next() {
            let Some((endpoint, _)) = keys::read_attempt(&item?.0) else { break };
            endpoints.push(endpoint);
            seek = keys::after_prefix(keys::attempts(Lane { application, endpoint }));
        }
        Ok(endpoints)
    }

    pub(super) fn record(&self, name: RecordKey) -> Found<Option<Record>> {
        let row = self.row::<RecordRow>(&keys::record(&name))?;
        Ok(row.map(|row| row.into_record(name)))
    }

    pub(super) fn records(
        &self,
        kind: RecordKind,
        application: Option<ApplicationId>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Found<Vec<Record>> {
        let prefix = keys::records(kind, application);
        let end = keys::after_prefix(prefix.clone());
        let mut start = prefix;
        if let Some(after) = after {
            start = keys::record(&RecordKey { kind, application, key: after });
            start.push(0);
        }
        let limit = limit.clamp(1, MAX_PAGE);
        let mut records = Vec::new();
        for item in self.tree.range(start..end) {
            if records.len() == limit {
                break;
            }
            let (key, value) = item?;
            let name = RecordKey { kind, application, key: keys::read_record(&key).to_vec() };
            let row = self.sound(&key, rows::unseal::<RecordRow>(&key, &value));
            records.extend(row.map(|row| row.into_record(name)));
        }
        Ok(records)
    }
}

/// A range of keys, from filters that the keys answer.
struct Window {
    /// What all of them start with.
    all: Key,
    since: Option<Key>,
    until: Option<Key>,
    after: Option<Key>,
}

impl Window {
    fn of_messages(application: ApplicationId, query: &MessageQuery) -> Self {
        Window {
            all: keys::messages(application),
            since: query.since.map(|time| keys::message(application, MessageId::from_parts(time, 0))),
            until: query.until.map(|time| keys::message(application, MessageId::from_parts(time, 0))),
            after: query.after.map(|id| keys::message(application, id)),
        }
    }

    fn walk(self, tree: &sled::Tree, order: Order) -> Box<dyn Iterator<Item = sled::Result<(IVec, IVec)>>> {
        let mut end = self.until.unwrap_or_else(|| keys::after_prefix(self.all.clone()));
        let mut start = self.since.unwrap_or(self.all);
        match (order, self.after) {
            (Order::NewestFirst, Some(after)) => end = end.min(after),
            (Order::OldestFirst, Some(mut after)) => {
                after.push(0);
                start = start.max(after);
            }
            (Order::NewestFirst | Order::OldestFirst, None) => {}
        }
        if start >= end {
            return Box::new(std::iter::empty());
        }
        let range = tree.range(start..end);
        match order {
            Order::NewestFirst => Box::new(range.rev()),
            Order::OldestFirst => Box::new(range),
        }
    }
}

/// The first attempts of an order, out of several lanes: no more of them are held than are asked for.
struct First {
    order: Order,
    most: usize,
    /// In order.
    items: Vec<Attempt>,
}

impl First {
    /// Whether this one would be among them, as far as is known by now.
    fn takes(&self, id: AttemptId) -> bool {
        let last = self.items.last().filter(|_| self.items.len() == self.most);
        last.is_none_or(|last| match self.order {
            Order::NewestFirst => id > last.id,
            Order::OldestFirst => id < last.id,
        })
    }

    fn add(&mut self, attempt: Attempt) {
        let place = match self.order {
            Order::NewestFirst => self.items.partition_point(|other| other.id > attempt.id),
            Order::OldestFirst => self.items.partition_point(|other| other.id < attempt.id),
        };
        self.items.insert(place, attempt);
        self.items.truncate(self.most);
    }
}
