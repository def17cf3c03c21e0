//! What a send and a settlement write: the two that every message pays for.

use std::io;
use std::sync::Arc;

use crate::delivery::{DeliveryId, Lane, Progress, State};
use crate::id::{ApplicationId, MessageId};
use crate::message::Routing;
use crate::store::{Enqueue, Enqueued, Settled, Settlement};
use crate::time::Timestamp;

use super::keys::{self, Key, Place};
use super::lanes::{Entry, Leased};
use super::rows::{self, AttemptRow, DeliveryRow, IdempotencyRow, MessageRow, PART, StateRow, WaitingRow};
use super::writer::{Effect, Writer};

impl Writer {
    pub(super) fn enqueue(&mut self, tree: &sled::Tree, item: &Enqueue) -> io::Result<Enqueued> {
        if let Some(refused) = self.refused(tree, item)? {
            return Ok(refused);
        }
        let message = &item.message;
        let application = message.application;
        let sequence = self.commit.counters.sequence;
        self.commit.counters.sequence += 1;
        self.saw(message.accepted_at);

        let idempotency = item.idempotency.as_ref().map(|given| (given.key.clone(), given.expires_at.as_millis()));
        let row = MessageRow::of(message, sequence, idempotency);
        let key = keys::message(application, message.id);
        let value = row.seal(&key, &message.payload);
        self.keep(key, value);
        for (number, part) in message.payload.chunks(PART).enumerate().skip(1) {
            let number = u16::try_from(number - 1).expect("a payload has at most 65,536 parts");
            let key = keys::part(application, message.id, number);
            let value = rows::seal_raw(&key, part);
            self.keep(key, value);
        }
        if let Some(event_id) = &message.event_id {
            let key = keys::event_id(application, event_id);
            let value = rows::seal_raw(&key, &message.id.to_bytes());
            self.commit.put_unique(key, value);
        }
        if let Some(given) = &item.idempotency {
            let key = keys::idempotency(application, &given.key);
            let row = IdempotencyRow {
                digest: given.digest,
                message: message.id.to_bytes(),
                expires_at: given.expires_at.as_millis(),
            };
            let value = rows::seal(&key, &row);
            self.commit.put_unique(key, value);
        }
        if let Routing::To(endpoints) = &message.routing {
            let ordered = row.key_hash();
            for endpoint in endpoints {
                let entry = Entry {
                    message_id: message.id,
                    progress: Progress::new(message.due()),
                    bytes: row.length,
                    ordered,
                    message: Some(Arc::clone(message)),
                    lost: None,
                };
                self.begin(tree, Lane { application, endpoint: *endpoint }, row.place(), entry)?;
            }
        }
        Ok(Enqueued::Stored)
    }

    /// Whether a unique key, a moved endpoint list or a full application stands against a message.
    fn refused(&mut self, tree: &sled::Tree, item: &Enqueue) -> io::Result<Option<Enqueued>> {
        let message = &item.message;
        if let Some(given) = &item.idempotency {
            let key = keys::idempotency(message.application, &given.key);
            if let Some(row) = self.unique::<IdempotencyRow>(tree, &key)?
                && row.expires_at > message.accepted_at.as_millis()
            {
                let same = row.digest == given.digest;
                let id = MessageId::from_bytes(row.message);
                return Ok(Some(if same { Enqueued::Repeated(id) } else { Enqueued::IdempotencyConflict }));
            }
        }
        if let Some(event_id) = &message.event_id {
            let key = keys::event_id(message.application, event_id);
            if let Some(value) = self.commit.unique(tree, &key)? {
                match rows::unseal_raw(&key, &value).ok().and_then(|id| id.try_into().ok()) {
                    Some(id) => return Ok(Some(Enqueued::EventIdTaken(MessageId::from_bytes(id)))),
                    None => self.shared.met_damage(&key),
                }
            }
        }
        if let Some((list, version)) = &item.routed_over
            && self.list_version(tree, list)? != *version
        {
            return Ok(Some(Enqueued::Stale));
        }
        let open = self.open_bytes.of(message.application);
        Ok(item.room(open, self.config.max_open_bytes_per_application).err())
    }

    /// A row as this commit leaves it; a damaged one counts as absent and is reported.
    fn unique<R: serde::de::DeserializeOwned>(&mut self, tree: &sled::Tree, key: &Key) -> io::Result<Option<R>> {
        let Some(value) = self.commit.unique(tree, key)? else { return Ok(None) };
        let row = rows::unseal(key, &value).ok();
        if row.is_none() {
            self.shared.met_damage(key);
        }
        Ok(row)
    }

    /// Writes a row whose bytes count towards the cap on what is kept.
    fn keep(&mut self, key: Key, value: Vec<u8>) {
        self.commit.counters.kept_bytes += value.len() as u64;
        self.commit.put(key, value);
    }

    pub(super) fn saw(&mut self, time: Timestamp) {
        let latest = &mut self.commit.counters.latest;
        *latest = (*latest).max(time.as_millis());
    }

    /// A delivery begins (again).
    pub(super) fn opened(&mut self, application: ApplicationId, entry: &Entry) {
        let bytes = u64::from(entry.bytes);
        self.commit.counters.open += 1;
        self.commit.counters.open_bytes += bytes;
        self.open_bytes.set(application, self.open_bytes.of(application) + bytes);
    }

    /// A delivery's round has ended.
    pub(super) fn ended(&mut self, application: ApplicationId, bytes: u32) {
        let bytes = u64::from(bytes);
        let counters = &mut self.commit.counters;
        counters.open = counters.open.saturating_sub(1);
        counters.open_bytes = counters.open_bytes.saturating_sub(bytes);
        self.open_bytes.set(application, self.open_bytes.of(application).saturating_sub(bytes));
    }

    /// Writes the waiting row of a delivery, and lets the lanes know once it is durable.
    pub(super) fn wait(&mut self, lane: Lane, place: Place, entry: Entry) {
        let key = keys::waiting(lane, place);
        let row = WaitingRow {
            message: entry.message_id.to_bytes(),
            progress: entry.progress.into(),
            bytes: entry.bytes,
            ordered: entry.ordered,
        };
        let value = row.seal(&key);
        self.commit.put(key, value);
        self.effects.push(Effect::Insert(lane, place, entry));
    }

    pub(super) fn settle(&mut self, tree: &sled::Tree, settlement: &Settlement) -> io::Result<Settled> {
        let Settlement { lease, attempt, state, lets_pass } = settlement;
        let leased = self.shared.lanes().lease(lease.fence).cloned();
        let Some(leased) = leased.filter(|_| self.settled.insert(lease.fence)) else { return Ok(Settled::Stale) };
        let Leased { lane, place, entry, .. } = leased;
        self.effects.push(Effect::EndLease(lease.fence));
        let id = DeliveryId { lane, message: entry.message_id };
        let mut row = self.delivery_row(tree, id, place, &entry)?;
        self.commit.delete(keys::waiting(lane, place));
        // Of one that was held, the row of its own does not know when its turn came.
        row.progress = entry.progress.into();
        if let Some(attempt) = attempt {
            self.saw(attempt.started_at);
            let key = keys::attempt(lane, attempt.id);
            let value = AttemptRow::of(attempt).seal(&key);
            self.keep(key, value);
            row.progress = entry.progress.tried().into();
            row.attempts.push(attempt.id.to_bytes());
        }
        row.state = StateRow::of(*state);
        if *lets_pass || state.is_terminal() {
            self.let_pass(tree, id, entry.ordered, place.1, settlement.time())?;
        }
        match *state {
            State::Waiting { due } | State::Leased { until: due } => {
                let entry = Entry { progress: row.progress.into(), message: None, lost: None, ..entry };
                self.wait(lane, (due, place.1), entry);
            }
            State::Held { .. } => {
                row.state = StateRow::Waiting { due: place.0.as_millis() };
                self.wait(lane, place, Entry { progress: row.progress.into(), message: None, lost: None, ..entry });
            }
            State::Dead { at, .. } => {
                self.saw(at);
                let key = keys::dead(id);
                let value = rows::seal_raw(&key, &[]);
                self.commit.put(key, value);
                self.ended(lane.application, entry.bytes);
            }
            State::Delivered { at } | State::Canceled { at, .. } => {
                self.saw(at);
                self.ended(lane.application, entry.bytes);
            }
        }
        let key = keys::delivery(id);
        let value = rows::seal(&key, &row);
        self.commit.put(key, value);
        Ok(Settled::Done)
    }

    /// The row of a delivery: the stored one, or that of one never attempted.
    fn delivery_row(
        &mut self,
        tree: &sled::Tree,
        id: DeliveryId,
        place: Place,
        entry: &Entry,
    ) -> io::Result<DeliveryRow> {
        let fresh = DeliveryRow {
            state: StateRow::Waiting { due: place.0.as_millis() },
            progress: entry.progress.into(),
            sequence: place.1,
            bytes: entry.bytes,
            attempts: Vec::new(),
        };
        // Sending writes no such row, and the common settlement need not look for one.
        if entry.progress == Progress::new(entry.progress.since) {
            return Ok(fresh);
        }
        let key = keys::delivery(id);
        match tree.get(&key)?.map(|value| rows::unseal(&key, &value)) {
            Some(Ok(row)) => Ok(row),
            Some(Err(rows::Damaged)) => {
                self.shared.met_damage(&key);
                Ok(fresh)
            }
            None => Ok(fresh),
        }
    }
}
