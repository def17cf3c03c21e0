//! What the memory store holds, and what its methods do with it: plain values, no lock, no future.
//!
//! Invariants: a delivery that has not ended has one row, and one place, in its lane or among those held; a row's state is
//! never [`State::Leased`] or [`State::Held`], which is what an entry in `leases` and its mark mean; a delivery's message
//! is there as long as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    Cancel, DueLanes, Enqueue, Enqueued, Expunge, Fence, Health, Idempotency, Lease, Put, Record, RecordKey,
    RecordKind, Replay, Replayed, Settled, Settlement,
};
use super::orders::Order;
use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane, Progress, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::{Message, Routing};
use crate::ordering::KeyHash;
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Tables {
    pub(super) messages: BTreeMap<(ApplicationId, MessageId), Stored>,
    event_ids: BTreeMap<(ApplicationId, String), MessageId>,
    pub(super) idempotency: BTreeMap<(ApplicationId, String), (MessageId, Idempotency)>,
    pub(super) deliveries: BTreeMap<DeliveryId, Row>,
    /// What has not ended, leased or not but not held, by (due, sequence).
    lanes: BTreeMap<Lane, BTreeMap<(Timestamp, u64), MessageId>>,
    /// Of the deliveries with an ordering key that have not ended: who goes first, and who is held.
    pub(super) orders: BTreeMap<(Lane, KeyHash), Order>,
    pub(super) leases: BTreeMap<DeliveryId, Leased>,
    pub(super) attempts: BTreeMap<(ApplicationId, AttemptId), Attempt>,
    pub(super) records: BTreeMap<RecordKey, Record>,
    /// The payload bytes of an application's deliveries that have not ended.
    open_bytes: BTreeMap<ApplicationId, u64>,
    /// The most of them, of one application.
    max_open_bytes: u64,
    last_sequence: u64,
    last_fence: Fence,
    pub(super) latest: Timestamp,
    /// Something may have become claimable.
    pub(super) ring: bool,
    pub(super) closed: bool,
}

/// A message, and the idempotency key that it was sent under.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) message: Arc<Message>,
    /// Its running number.
    sequence: u64,
    pub(super) idempotency_key: Option<String>,
}

/// A delivery as it was last settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The running number of its message.
    pub(super) sequence: u64,
    pub(super) state: State,
    pub(super) progress: Progress,
    /// Its message's payload, as it was sent.
    pub(super) bytes: u64,
    /// Its message's ordering key.
    pub(super) key: Option<KeyHash>,
    /// Whether another one of its key goes first.
    pub(super) held: bool,
}

/// A lease that was neither settled nor claimed again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leased {
    fence: Fence,
    pub(super) until: Timestamp,
}

impl Tables {
    /// Empty tables, where an application may have so many bytes of payload waiting.
    pub(super) fn limited(max_open_bytes: u64) -> Self {
        Tables {
            messages: BTreeMap::new(),
            event_ids: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            lanes: BTreeMap::new(),
            orders: BTreeMap::new(),
            leases: BTreeMap::new(),
            attempts: BTreeMap::new(),
            records: BTreeMap::new(),
            open_bytes: BTreeMap::new(),
            max_open_bytes,
            last_sequence: 0,
            last_fence: Fence { epoch: 1, counter: 0 },
            latest: Timestamp::ZERO,
            ring: false,
            closed: false,
        }
    }
}

// Writes.
impl Tables {
    pub(super) fn enqueue(&mut self, item: Enqueue) -> Enqueued {
        if let Some(refusal) = self.refusal(&item) {
            return refusal;
        }
        let Enqueue { message, routed_over: _, idempotency } = item;
        let Message { id, application, accepted_at, .. } = *message;
        self.saw(accepted_at);
        self.last_sequence += 1;
        let fresh = Row {
            sequence: self.last_sequence,
            state: State::Waiting { due: message.due() },
            progress: Progress::new(message.due()),
            bytes: message.payload.len() as u64,
            key: message.key_hash(),
            held: false,
        };
        for endpoint in endpoints_of(&message) {
            self.begin(DeliveryId { lane: Lane { application, endpoint: *endpoint }, message: id }, fresh);
            self.ring = true;
        }
        if let Some(event_id) = &message.event_id {
            self.event_ids.insert((application, event_id.clone()), id);
        }
        let idempotency_key = idempotency.as_ref().map(|idempotency| idempotency.key.clone());
        if let Some(idempotency) = idempotency {
            self.idempotency.insert((application, idempotency.key.clone()), (id, idempotency));
        }
        self.messages.insert((application, id), Stored { message, sequence: fresh.sequence, idempotency_key });
        Enqueued::Stored
    }

    fn refusal(&self, item: &Enqueue) -> Option<Enqueued> {
        let application = item.message.application;
        if let Some(wanted) = &item.idempotency
            && let Some((first, known)) = self.idempotency.get(&(application, wanted.key.clone()))
            && known.expires_at > item.message.accepted_at
        {
            let same = known.digest == wanted.digest;
            return Some(if same { Enqueued::Repeated(*first) } else { Enqueued::IdempotencyConflict });
        }
        if let Some(event_id) = &item.message.event_id
            && let Some(taken_by) = self.event_ids.get(&(application, event_id.clone()))
        {
            return Some(Enqueued::EventIdTaken(*taken_by));
        }
        let moved = item.routed_over.as_ref().is_some_and(|(list, version)| self.version(list) != *version);
        if moved {
            return Some(Enqueued::Stale);
        }
        item.room(self.open_bytes(application), self.max_open_bytes).err()
    }

    pub(super) fn claim(&mut self, now: Timestamp, lane: Lane, most: usize, until: Timestamp) -> Vec<Lease> {
        let due: Vec<DeliveryId> = self.claimable(lane, now).take(most).collect();
        due.into_iter().filter_map(|id| self.lease(id, until)).collect()
    }

    /// `None` never comes for a claimable delivery: it has its row.
    fn lease(&mut self, delivery: DeliveryId, until: Timestamp) -> Option<Lease> {
        let progress = self.deliveries.get(&delivery)?.progress;
        let message = self.message(delivery.lane.application, delivery.message);
        self.last_fence.counter += 1;
        let fence = self.last_fence;
        let lost = self.leases.insert(delivery, Leased { fence, until }).is_some();
        Some(Lease { delivery, progress, message, fence, lost })
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) -> Settled {
        let id = settlement.lease.delivery;
        let live = self.leases.get(&id).is_some_and(|held| held.fence == settlement.lease.fence);
        let Some(row) = self.deliveries.get(&id).copied().filter(|_| live) else {
            return Settled::Stale;
        };
        self.leases.remove(&id);
        let mut progress = row.progress;
        if let Some(attempt) = &settlement.attempt {
            progress = progress.tried();
            self.saw(attempt.started_at);
            self.attempts.insert((id.lane.application, attempt.id), attempt.clone());
        }
        let state = match settlement.state {
            // A lease is a due time: this is how a caller's mistake does the least harm.
            State::Waiting { due } | State::Leased { until: due } => {
                self.ring = true;
                State::Waiting { due }
            }
            State::Held { .. } => row.state,
            ended @ (State::Delivered { at } | State::Dead { at, .. } | State::Canceled { at, .. }) => {
                self.saw(at);
                ended
            }
        };
        self.place(id, Row { state, progress, ..row });
        if state.is_terminal() || settlement.lets_pass {
            self.let_pass(id, row.key, settlement.time());
        }
        Settled::Done
    }

    /// A record that goes along with a replay counts what is replayed: it is all or nothing.
    pub(super) fn replay_refused(&self, batch: &[Replay], now: Timestamp, record: &Put) -> Option<Vec<Replayed>> {
        if self.version(&record.key) != record.expected {
            return None;
        }
        let mut taken_up = BTreeSet::new();
        let answer = |replay: &Replay| match self.outlook(*replay, now) {
            Replayed::NotFound if taken_up.contains(&replay.delivery) => Replayed::Untouched,
            Replayed::Reopened | Replayed::Added | Replayed::Hastened => {
                taken_up.insert(replay.delivery);
                Replayed::Untouched
            }
            refused @ (Replayed::InFlight | Replayed::NotFound | Replayed::Expunged | Replayed::Untouched) => refused,
        };
        let answers: Vec<Replayed> = batch.iter().map(answer).collect();
        answers.iter().any(|answer| *answer != Replayed::Untouched).then_some(answers)
    }

    /// What would become of a delivery that is replayed.
    fn outlook(&self, Replay { delivery, add }: Replay, now: Timestamp) -> Replayed {
        let Some(stored) = self.messages.get(&(delivery.lane.application, delivery.message)) else {
            return Replayed::NotFound;
        };
        let row = self.deliveries.get(&delivery);
        if row.is_none() && !add {
            return Replayed::NotFound;
        }
        if stored.message.expunged {
            return Replayed::Expunged;
        }
        if self.leases.get(&delivery).is_some_and(|held| held.until > now) {
            return Replayed::InFlight;
        }
        row.map_or(Replayed::Added, |row| match row.state {
            State::Waiting { .. } | State::Held { .. } | State::Leased { .. } => Replayed::Hastened,
            State::Delivered { .. } | State::Dead { .. } | State::Canceled { .. } => Replayed::Reopened,
        })
    }

    pub(super) fn expunge(&mut self, application: ApplicationId, what: Expunge) -> bool {
        match what {
            Expunge::Payload(id) => {
                let Some(stored) = self.messages.get_mut(&(application, id)) else { return false };
                let message = Message { payload: Bytes::new(), expunged: true, ..(*stored.message).clone() };
                stored.message = Arc::new(message);
                true
            }
            Expunge::Response(id) => {
                let Some(attempt) = self.attempts.get_mut(&(application, id)) else { return false };
                if let Some(response) = &mut attempt.response {
                    (response.body, response.expunged) = (Bytes::new(), true);
                }
                true
            }
        }
    }

    pub(super) fn replay(&mut self, replay: Replay, now: Timestamp) -> Replayed {
        let id = replay.delivery;
        let outlook = self.outlook(replay, now);
        if !outlook.is_taken_up() {
            return outlook;
        }
        self.saw(now);
        self.ring = true;
        match self.deliveries.get(&id).copied() {
            Some(row) => match row.state {
                State::Waiting { due } | State::Leased { until: due } => {
                    self.place(id, Row { state: State::Waiting { due: due.min(now) }, ..row });
                }
                State::Held { .. } => {}
                State::Delivered { .. } | State::Dead { .. } | State::Canceled { .. } => {
                    let progress = row.progress.next_round(now);
                    self.begin(id, Row { state: State::Waiting { due: now }, progress, ..row });
                }
            },
            None => self.add(id, now),
        }
        outlook
    }

    /// Gives a message a delivery to one more endpoint.
    fn add(&mut self, id: DeliveryId, now: Timestamp) {
        let Some(stored) = self.messages.get_mut(&(id.lane.application, id.message)) else { return };
        let endpoints = endpoints_of(&stored.message).iter().copied().chain([id.lane.endpoint]).collect();
        stored.message = Arc::new(Message { routing: Routing::To(endpoints), ..(*stored.message).clone() });
        let row = Row {
            sequence: stored.sequence,
            state: State::Waiting { due: now },
            progress: Progress::new(now),
            bytes: stored.message.payload.len() as u64,
            key: stored.message.key_hash(),
            held: false,
        };
        self.begin(id, row);
    }

    pub(super) fn cancel(&mut self, what: Cancel, reason: CancelReason, now: Timestamp) -> usize {
        let free = |id: &DeliveryId| self.is_free(*id, now);
        let waiting: Vec<DeliveryId> = match what {
            Cancel::Lane { lane, limit } => {
                self.held_in(lane).chain(self.open_in(lane)).filter(free).take(limit).collect()
            }
            Cancel::Delivery(id) => self.cancelable(&[id], now),
            Cancel::Deliveries(ids) => self.cancelable(&ids, now),
        };
        for id in &waiting {
            self.saw(now);
            self.leases.remove(id);
            if let Some(row) = self.deliveries.get(id).copied() {
                self.place(*id, Row { state: State::Canceled { at: now, reason }, held: false, ..row });
                self.let_pass(*id, row.key, now);
            }
        }
        waiting.len()
    }

    /// Whether no attempt of a delivery is on its way. A lease that ran out holds it, for it may settle yet; in a closed lane
    /// it does not: nobody will claim it anew.
    fn is_free(&self, id: DeliveryId, now: Timestamp) -> bool {
        self.leases.get(&id).is_none_or(|held| held.until <= now && !self.takes_claims(id.lane))
    }

    /// Those of these that wait or are held, the held ones first.
    fn cancelable(&self, ids: &[DeliveryId], now: Timestamp) -> Vec<DeliveryId> {
        let mut named = BTreeSet::new();
        let open = |id: &DeliveryId| {
            let row = self.deliveries.get(id).filter(|row| !row.state.is_terminal())?;
            Some((!row.held, *id)).filter(|_| self.is_free(*id, now))
        };
        let ids = ids.iter().filter(|id| named.insert(**id));
        let mut open: Vec<(bool, DeliveryId)> = ids.filter_map(open).collect();
        open.sort_by_key(|(free, _)| *free);
        open.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn put(&mut self, batch: Vec<Put>) -> bool {
        let mut changed: BTreeMap<RecordKey, Option<Record>> = BTreeMap::new();
        for Put { key, expected, active, value } in batch {
            let version = match changed.get(&key) {
                Some(record) => record.as_ref().map_or(0, |record| record.version),
                None => self.version(&key),
            };
            if version != expected {
                return false;
            }
            let record = value.map(|value| Record { key: key.clone(), version: version + 1, active, value });
            changed.insert(key, record);
        }
        self.ring |= !changed.is_empty();
        for (key, record) in changed {
            match record {
                Some(record) => self.records.insert(key, record),
                None => self.records.remove(&key),
            };
        }
        true
    }

    /// All of a message but its attempts. It has no open delivery, so that its lanes need no change.
    pub(super) fn remove(&mut self, (application, id): (ApplicationId, MessageId)) {
        let Some(Stored { message, idempotency_key, .. }) = self.messages.remove(&(application, id)) else {
            return;
        };
        for endpoint in endpoints_of(&message) {
            self.deliveries.remove(&DeliveryId { lane: Lane { application, endpoint: *endpoint }, message: id });
        }
        if let Some(event_id) = &message.event_id {
            self.event_ids.remove(&(application, event_id.clone()));
        }
        // The key may have been used again since it expired: then it is another message's.
        let key = idempotency_key.map(|key| (application, key));
        if let Some(key) = key.filter(|key| self.idempotency.get(key).is_some_and(|(owner, _)| *owner == id)) {
            self.idempotency.remove(&key);
        }
    }

    /// The only place where a delivery's state changes, so that it and its lane's order cannot part.
    pub(super) fn place(&mut self, id: DeliveryId, row: Row) {
        let lane = self.lanes.entry(id.lane).or_default();
        let open_bytes = self.open_bytes.entry(id.lane.application).or_default();
        if let Some(old @ Row { state: State::Waiting { due }, .. }) = self.deliveries.insert(id, row) {
            lane.remove(&(due, old.sequence));
            *open_bytes -= old.bytes;
            if let Some(order) = old.key.filter(|_| old.held).and_then(|key| self.orders.get_mut(&(id.lane, key))) {
                order.held.remove(&old.sequence);
            }
        }
        if let State::Waiting { due } = row.state {
            *open_bytes += row.bytes;
            match row.key.filter(|_| row.held).and_then(|key| self.orders.get_mut(&(id.lane, key))) {
                Some(order) => drop(order.held.insert(row.sequence, id.message)),
                None => drop(lane.insert((due, row.sequence), id.message)),
            }
        }
        if lane.is_empty() {
            self.lanes.remove(&id.lane);
        }
    }

    pub(super) fn drop_leases(&mut self) {
        self.leases.clear();
        self.last_fence = Fence { epoch: self.last_fence.epoch + 1, counter: 0 };
    }

    fn saw(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
    }
}

// Reads.
impl Tables {
    fn version(&self, key: &RecordKey) -> u64 {
        self.records.get(key).map_or(0, |record| record.version)
    }

    fn takes_claims(&self, lane: Lane) -> bool {
        let key = lane.endpoint.to_bytes().to_vec();
        let endpoint = RecordKey { kind: RecordKind::Endpoint, application: Some(lane.application), key };
        self.records.get(&endpoint).is_none_or(|record| record.active)
    }

    /// The deliveries of a lane that have not ended and are not held, in order.
    fn open_in(&self, lane: Lane) -> impl Iterator<Item = DeliveryId> {
        self.lanes.get(&lane).into_iter().flatten().map(move |(_, message)| DeliveryId { lane, message: *message })
    }

    /// Those of them that can be claimed. A lease that ran out is where it was before it was claimed.
    fn claimable(&self, lane: Lane, now: Timestamp) -> impl Iterator<Item = DeliveryId> {
        let waiting = self.lanes.get(&lane).filter(|_| self.takes_claims(lane));
        let due = waiting.into_iter().flat_map(move |waiting| waiting.range(..=(now, u64::MAX)));
        due.map(move |(_, message)| DeliveryId { lane, message: *message })
            .filter(move |id| self.leases.get(id).is_none_or(|held| held.until <= now))
    }

    pub(super) fn due_lanes(&self, now: Timestamp, after: Option<Lane>, limit: usize) -> DueLanes {
        let beyond = self.lanes.range((after.map_or(Unbounded, Excluded), Unbounded)).map(|(lane, _)| *lane);
        let mut due = beyond.filter(|lane| self.claimable(*lane, now).next().is_some());
        let lanes = due.by_ref().take(limit).collect();
        let more = due.next().is_some();
        let next_due = self.lanes.keys().filter_map(|lane| self.next_due(*lane, now)).min();
        DueLanes { lanes, more, next_due }
    }

    fn next_due(&self, lane: Lane, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.lanes.get(&lane).filter(|_| self.takes_claims(lane))?;
        let idle = self.claimable(lane, now).next().is_none();
        let later = waiting.range((Excluded((now, u64::MAX)), Unbounded)).map(|((due, _), _)| *due).filter(|_| idle);
        let first = DeliveryId { lane, message: MessageId::from_bytes([0; 16]) };
        let last = DeliveryId { lane, message: MessageId::from_bytes([0xff; 16]) };
        let leased = self.leases.range(first..=last).map(|(_, held)| held.until).filter(|until| *until > now);
        later.chain(leased).min()
    }

    pub(super) fn message(&self, application: ApplicationId, id: MessageId) -> Option<Arc<Message>> {
        self.messages.get(&(application, id)).map(|stored| Arc::clone(&stored.message))
    }

    pub(super) fn message_by_event_id(&self, application: ApplicationId, event_id: String) -> Option<MessageId> {
        self.event_ids.get(&(application, event_id)).copied()
    }

    pub(super) fn deliveries_of(&self, application: ApplicationId, message: MessageId) -> Vec<Delivery> {
        let Some(stored) = self.messages.get(&(application, message)) else {
            return Vec::new();
        };
        let ids = endpoints_of(&stored.message)
            .iter()
            .map(|endpoint| DeliveryId { lane: Lane { application, endpoint: *endpoint }, message });
        ids.filter_map(|id| {
            let row = self.deliveries.get(&id)?;
            Some(Delivery { id, state: self.standing(id, row), progress: row.progress })
        })
        .collect()
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<Record> {
        self.records.get(key).cloned()
    }

    pub(super) fn open_bytes(&self, application: ApplicationId) -> u64 {
        self.open_bytes.get(&application).copied().unwrap_or(0)
    }

    pub(super) fn health(&self) -> Health {
        let mut health = Health { leased: self.leases.len() as u64, ..Health::default() };
        for row in self.deliveries.values().filter(|row| !row.state.is_terminal()) {
            health.open += 1;
            health.open_bytes += row.bytes;
        }
        health
    }
}

pub(super) fn endpoints_of(message: &Message) -> &[EndpointId] {
    match &message.routing {
        Routing::To(endpoints) => endpoints,
        Routing::Nowhere(_) => &[],
    }
}
