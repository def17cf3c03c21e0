//! What the store is asked to read. Everything here runs on the reader's thread, beside the writer.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::attempt::Attempt;
use crate::delivery::{Delivery, DeliveryId, Lane, Progress, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::{Message, Routing};
use crate::store::{AttemptQuery, DeadQuery, MAX_PAGE, MessageQuery, Page, Record, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::keys::{self, Key};
use super::rows::{self, AttemptRow, DeliveryRow, MessageRow, RecordRow};
use super::shared::Shared;

/// The most dead letters of a page: replay jobs take larger bites than people do.
const MAX_DEAD_PAGE: usize = 10_000;

/// A look at the tree.
pub(super) struct Look<'t> {
    pub(super) tree: &'t sled::Tree,
    pub(super) shared: &'t Shared,
}

type Found<T> = sled::Result<T>;

impl Look<'_> {
    fn row<R: DeserializeOwned>(&self, key: &Key) -> Found<Option<R>> {
        let Some(value) = self.tree.get(key)? else { return Ok(None) };
        Ok(self.sound(key, rows::unseal(key, &value)))
    }

    /// A row, unless it is damaged: then it is counted, and left out.
    fn sound<R>(&self, key: &[u8], row: Result<R, rows::Damaged>) -> Option<R> {
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
        let mut payload = stored.head;
        if stored.row.parts() > 0 {
            let mut whole = Vec::with_capacity(stored.row.length as usize);
            whole.extend_from_slice(&payload);
            for number in 0..stored.row.parts() {
                let key = keys::part(application, id, number);
                let Some(value) = self.tree.get(&key)? else { return Ok(None) };
                let Some(part) = self.sound(&key, rows::unseal_raw(&key, &value)) else { return Ok(None) };
                whole.extend_from_slice(part);
            }
            payload = Bytes::from(whole);
        }
        if payload.len() != stored.row.length as usize {
            return Ok(None);
        }
        Ok(Some(Arc::new(stored.row.into_message(application, id, payload))))
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
        let bound = |time: Timestamp| keys::message(application, MessageId::from_parts(time, 0));
        let start = query.since.map_or(keys::messages(application), bound);
        let mut end = query.until.map_or(keys::after_prefix(keys::messages(application)), bound);
        if let Some(before) = query.before {
            end = end.min(keys::message(application, before));
        }
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut items: Vec<Arc<Message>> = Vec::with_capacity(limit.min(64));
        if start >= end {
            return Ok(Page { items, next: None });
        }
        for item in self.tree.range(start..end).rev() {
            let (key, value) = item?;
            let Some(id) = keys::read_message(&key) else { continue };
            let Some(message) = self.read_message(application, id, &key, &value)? else { continue };
            let of_type = query.event_type.as_ref().is_none_or(|wanted| *wanted == message.event_type);
            let unrouted = !query.unrouted || matches!(message.routing, Routing::Nowhere(_));
            if !of_type || !unrouted {
                continue;
            }
            if items.len() == limit {
                let next = items.last().map(|message| message.id);
                return Ok(Page { items, next });
            }
            items.push(message);
        }
        Ok(Page { items, next: None })
    }

    pub(super) fn deliveries(&self, application: ApplicationId, id: MessageId) -> Found<Vec<Delivery>> {
        let key = keys::message(application, id);
        let Some(value) = self.tree.get(&key)? else { return Ok(Vec::new()) };
        let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { return Ok(Vec::new()) };
        let mut deliveries = Vec::with_capacity(stored.row.to.len());
        for endpoint in &stored.row.to {
            let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
            let id = DeliveryId { lane, message: id };
            let (due, sequence) = stored.row.place();
            let (mut state, progress) = match self.row::<DeliveryRow>(&keys::delivery(id))? {
                Some(row) => (row.state.state().unwrap_or(State::Waiting { due }), row.progress.into()),
                None => (State::Waiting { due }, Progress::new(due)),
            };
            if let State::Waiting { due } = state
                && let Some(until) = self.shared.lanes().leased_until(lane, (due, sequence))
            {
                state = State::Leased { until };
            }
            deliveries.push(Delivery { id, state, progress });
        }
        Ok(deliveries)
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
        let mut items = Vec::new();
        match (query.message, query.endpoint) {
            (Some(message), endpoint) => self.attempts_of_message(application, message, endpoint, query, &mut items)?,
            (None, Some(endpoint)) => {
                self.attempts_of_lane(Lane { application, endpoint }, query, limit + 1, &mut items)?;
            }
            (None, None) => {
                for endpoint in self.endpoints_with_attempts(application)? {
                    self.attempts_of_lane(Lane { application, endpoint }, query, limit + 1, &mut items)?;
                }
            }
        }
        items.sort_unstable_by_key(|attempt| std::cmp::Reverse(attempt.id));
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|attempt| attempt.id);
        Ok(Page { items, next })
    }

    fn fits(query: &AttemptQuery, attempt: &Attempt) -> bool {
        query.before.is_none_or(|before| attempt.id < before)
            && query.since.is_none_or(|since| attempt.started_at >= since)
            && query.until.is_none_or(|until| attempt.started_at < until)
            && query.status.is_none_or(|status| status.fits(attempt))
    }

    fn attempts_of_message(
        &self,
        application: ApplicationId,
        message: MessageId,
        endpoint: Option<EndpointId>,
        query: &AttemptQuery,
        to: &mut Vec<Attempt>,
    ) -> Found<()> {
        let key = keys::message(application, message);
        let Some(value) = self.tree.get(&key)? else { return Ok(()) };
        let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { return Ok(()) };
        let wanted = |id: &[u8; 16]| endpoint.is_none_or(|endpoint| endpoint.to_bytes() == *id);
        for endpoint in stored.row.to.iter().filter(|id| wanted(id)) {
            let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
            let Some(row) = self.row::<DeliveryRow>(&keys::delivery(DeliveryId { lane, message }))? else { continue };
            for id in row.attempts.into_iter().map(AttemptId::from_bytes) {
                let row = self.row::<AttemptRow>(&keys::attempt(lane, id))?;
                to.extend(row.and_then(|row| row.into_attempt(lane, id)).filter(|attempt| Self::fits(query, attempt)));
            }
        }
        Ok(())
    }

    fn attempts_of_lane(&self, lane: Lane, query: &AttemptQuery, most: usize, to: &mut Vec<Attempt>) -> Found<()> {
        let bound = |time: Timestamp| keys::attempt(lane, AttemptId::from_parts(time, 0));
        let start = query.since.map_or(keys::attempts(lane), bound);
        let mut end = query.until.map_or(keys::after_prefix(keys::attempts(lane)), bound);
        if let Some(before) = query.before {
            end = end.min(keys::attempt(lane, before));
        }
        if start >= end {
            return Ok(());
        }
        let mut taken = 0;
        for item in self.tree.range(start..end).rev() {
            let (key, value) = item?;
            let Some((_, id)) = keys::read_attempt(&key) else { continue };
            let row = self.sound(&key, rows::unseal::<AttemptRow>(&key, &value));
            let Some(attempt) = row.and_then(|row| row.into_attempt(lane, id)) else { continue };
            if Self::fits(query, &attempt) {
                to.push(attempt);
                taken += 1;
                if taken == most {
                    break;
                }
            }
        }
        Ok(())
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
