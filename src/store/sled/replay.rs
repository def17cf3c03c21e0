//! Replays: what has ended waits again, and a message gets a delivery to one more endpoint.
//!
//! Invariant: a batch is looked at as a whole before any of it is written, since the record that goes along counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::delivery::{DeliveryId, Lane, Progress, State};
use crate::id::EndpointId;
use crate::ordering::KeyHash;
use crate::store::{Put, Replay, Replayed};
use crate::time::Timestamp;

use super::keys::{self, Key};
use super::lanes::Entry;
use super::rows::{self, DeliveryRow, MessageRow, StateRow, StoredMessage, WaitingRow};
use super::upkeep::record_version;
use super::writer::{Effect, Writer};

/// A delivery as the disk has it.
pub(super) struct Found {
    pub(super) row: DeliveryRow,
    pub(super) state: State,
    /// Whether its message's payload is gone.
    expunged: bool,
    /// Its message's ordering key, and whether another one of it goes first.
    pub(super) ordered: Option<KeyHash>,
    pub(super) held: bool,
}

/// What is to be done with one of a batch.
enum Step {
    /// A new round.
    Reopen(DeliveryRow, Option<KeyHash>),
    /// It waits, or is held, until this time, and goes on so.
    Hasten(Found, Timestamp),
    /// A delivery to one more endpoint.
    Add,
    /// It was named before in the same batch.
    Again,
    /// Nothing, and why.
    Leave(Replayed),
}

impl Step {
    fn result(&self) -> Replayed {
        match self {
            Step::Reopen(..) => Replayed::Reopened,
            Step::Hasten(..) | Step::Again => Replayed::Hastened,
            Step::Add => Replayed::Added,
            Step::Leave(why) => *why,
        }
    }
}

/// A message whose routing gains endpoints, and how long its row was.
struct Rerouted {
    stored: StoredMessage,
    length: usize,
}

impl Writer {
    pub(super) fn replay(
        &mut self,
        tree: &sled::Tree,
        batch: &[Replay],
        now: Timestamp,
        record: Option<Put>,
    ) -> io::Result<Option<Vec<Replayed>>> {
        if let Some(put) = &record
            && record_version(tree, &put.key)? != put.expected
        {
            return Ok(None);
        }
        let mut rerouted = BTreeMap::new();
        let mut taken_up = BTreeSet::new();
        let mut steps = Vec::with_capacity(batch.len());
        for replay in batch {
            let step = match taken_up.contains(&replay.delivery) {
                true => Step::Again,
                false => self.step(tree, *replay, now, &mut rerouted)?,
            };
            if step.result().is_taken_up() {
                taken_up.insert(replay.delivery);
            }
            steps.push(step);
        }
        let mut results: Vec<Replayed> = steps.iter().map(Step::result).collect();
        if let Some(put) = &record {
            if !results.iter().all(|result| result.is_taken_up()) {
                let refused = |result: &mut Replayed| *result = Replayed::Untouched;
                results.iter_mut().filter(|result| result.is_taken_up()).for_each(refused);
                return Ok(Some(results));
            }
            self.put_record(put);
        }
        for (replay, step) in batch.iter().zip(steps) {
            self.take(tree, replay.delivery, step, now, &mut rerouted)?;
        }
        for (key, Rerouted { stored, length }) in rerouted {
            let value = stored.row.seal(&key, &stored.head);
            self.replace(key, length, value);
        }
        if !taken_up.is_empty() {
            self.saw(now);
        }
        Ok(Some(results))
    }

    /// What is to be done. A message that is to get one more delivery is put beside, as it is.
    fn step(
        &self,
        tree: &sled::Tree,
        Replay { delivery: id, add }: Replay,
        now: Timestamp,
        rerouted: &mut BTreeMap<Key, Rerouted>,
    ) -> io::Result<Step> {
        let Some(found) = self.find(tree, id)? else {
            return if add { self.step_to_add(tree, id, rerouted) } else { Ok(Step::Leave(Replayed::NotFound)) };
        };
        if found.expunged {
            return Ok(Step::Leave(Replayed::Expunged));
        }
        Ok(match found.state {
            State::Waiting { due } | State::Leased { until: due } => {
                match self.shared.lanes().is_leased(id.lane, (due, found.row.sequence), now) {
                    true => Step::Leave(Replayed::InFlight),
                    false => Step::Hasten(found, due),
                }
            }
            State::Held { .. } => Step::Leave(Replayed::NotFound),
            State::Delivered { .. } | State::Canceled { .. } | State::Dead { .. } => {
                Step::Reopen(found.row, found.ordered)
            }
        })
    }

    fn step_to_add(
        &self,
        tree: &sled::Tree,
        id: DeliveryId,
        rerouted: &mut BTreeMap<Key, Rerouted>,
    ) -> io::Result<Step> {
        let key = keys::message(id.lane.application, id.message);
        let Some(value) = tree.get(&key)? else { return Ok(Step::Leave(Replayed::NotFound)) };
        let Ok(stored) = MessageRow::unseal(&key, &value) else {
            self.shared.met_damage(&key);
            return Ok(Step::Leave(Replayed::NotFound));
        };
        if stored.row.to.contains(&id.lane.endpoint.to_bytes()) {
            // It has the delivery, whose own row is damaged.
            return Ok(Step::Leave(Replayed::NotFound));
        }
        if stored.expunged {
            return Ok(Step::Leave(Replayed::Expunged));
        }
        rerouted.entry(key).or_insert(Rerouted { stored, length: value.len() });
        Ok(Step::Add)
    }

    fn take(
        &mut self,
        tree: &sled::Tree,
        id: DeliveryId,
        step: Step,
        now: Timestamp,
        rerouted: &mut BTreeMap<Key, Rerouted>,
    ) -> io::Result<()> {
        let entry = |progress: Progress, bytes, ordered| Entry {
            message_id: id.message,
            progress,
            bytes,
            ordered,
            message: None,
            lost: None,
        };
        match step {
            Step::Reopen(mut row, ordered) => {
                let entry = entry(Progress::from(row.progress).next_round(now), row.bytes, ordered);
                row.progress = entry.progress.into();
                row.state = StateRow::Waiting { due: now.as_millis() };
                self.begin(tree, id.lane, (now, row.sequence), entry)?;
                self.put_delivery(id, &row);
                self.commit.delete(keys::dead(id));
            }
            Step::Hasten(Found { mut row, ordered, held, .. }, due) if due > now => {
                let place = |due| (due, row.sequence);
                match ordered.filter(|_| held) {
                    Some(key) => self.hold(id, key, place(now), row.progress.into(), row.bytes),
                    None => {
                        if !self.shared.lanes().withhold(id.lane, place(due), now) {
                            // It has become due since it was looked at, and a claim was faster.
                            return Ok(());
                        }
                        self.commit.delete(keys::waiting(id.lane, place(due)));
                        self.effects.push(Effect::Remove(id.lane, place(due)));
                        self.wait(id.lane, place(now), entry(row.progress.into(), row.bytes, ordered));
                    }
                }
                row.state = StateRow::Waiting { due: now.as_millis() };
                self.put_delivery(id, &row);
            }
            Step::Add => {
                let key = keys::message(id.lane.application, id.message);
                let Rerouted { stored, .. } =
                    rerouted.get_mut(&key).expect("what adds a delivery reroutes its message");
                for endpoint in &stored.row.to {
                    // Its routing is another one now than that which was kept at hand.
                    let lane = Lane { endpoint: EndpointId::from_bytes(*endpoint), ..id.lane };
                    self.effects.push(Effect::DropCached(lane, stored.row.place()));
                }
                stored.row.route_to(id.lane.endpoint);
                let entry = entry(Progress::new(now), stored.row.length, stored.row.key_hash());
                // Its place is not the one in the message's row, so it has a row of its own from the start.
                let row = DeliveryRow {
                    state: StateRow::Waiting { due: now.as_millis() },
                    progress: entry.progress.into(),
                    sequence: stored.row.sequence,
                    bytes: entry.bytes,
                    attempts: Vec::new(),
                };
                self.begin(tree, id.lane, (now, row.sequence), entry)?;
                self.put_delivery(id, &row);
            }
            Step::Hasten(..) | Step::Again | Step::Leave(_) => {}
        }
        Ok(())
    }

    pub(super) fn put_delivery(&mut self, id: DeliveryId, row: &DeliveryRow) {
        let key = keys::delivery(id);
        let value = rows::seal(&key, row);
        self.commit.put(key, value);
    }

    /// A delivery by its message's row and its own.
    pub(super) fn find(&self, tree: &sled::Tree, id: DeliveryId) -> io::Result<Option<Found>> {
        let key = keys::message(id.lane.application, id.message);
        let Some(Ok(message)) = tree.get(&key)?.map(|value| MessageRow::unseal(&key, &value)) else {
            return Ok(None);
        };
        let (expunged, ordered) = (message.expunged, message.row.key_hash());
        let key = keys::delivery(id);
        if let Some(value) = tree.get(&key)? {
            let Ok(row) = rows::unseal::<DeliveryRow>(&key, &value) else {
                self.shared.met_damage(&key);
                return Ok(None);
            };
            let Some(state) = row.state.state() else { return Ok(None) };
            let held = self.is_held(tree, id, ordered, row.sequence)?;
            let row = if held { row } else { turned(tree, id, ordered, row)? };
            return Ok(Some(Found { row, state, expunged, ordered, held }));
        }
        if !message.row.to.contains(&id.lane.endpoint.to_bytes()) {
            return Ok(None);
        }
        let (due, sequence) = message.row.place();
        // Without a row of its own it has never moved: it waits where it was sent.
        let row = DeliveryRow {
            state: StateRow::Waiting { due: due.as_millis() },
            progress: Progress::new(due).into(),
            sequence,
            bytes: message.row.length,
            attempts: Vec::new(),
        };
        let held = self.is_held(tree, id, ordered, sequence)?;
        let row = if held { row } else { turned(tree, id, ordered, row)? };
        Ok(Some(Found { row, state: State::Waiting { due }, expunged, ordered, held }))
    }
}

/// The row of a delivery that waits, with what only its waiting row knows: when the turn came of one that was held.
fn turned(tree: &sled::Tree, id: DeliveryId, ordered: Option<KeyHash>, row: DeliveryRow) -> io::Result<DeliveryRow> {
    let (Some(_), StateRow::Waiting { due }) = (ordered, row.state) else { return Ok(row) };
    let key = keys::waiting(id.lane, (Timestamp::from_millis(due), row.sequence));
    let waiting = tree.get(&key)?.and_then(|value| WaitingRow::unseal(&key, &value).ok());
    Ok(DeliveryRow { progress: waiting.map_or(row.progress, |waiting| waiting.progress), ..row })
}
