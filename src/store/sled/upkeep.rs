//! What the writer does beside sends, settlements, replays and retention: cancels, records, windows, damage.
//! Each is served alone, so that it can read the tree and see all that was written before it.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::delivery::{DeadReason, DeliveryId, Lane, Progress, State};
use crate::id::{EndpointId, MessageId};
use crate::message::MAX_AHEAD;
use crate::store::{Put, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::keys::{self, Key, Place};
use super::lanes::Entry;
use super::rows::{self, DeliveryRow, MessageRow, RecordRow, StateRow, StoredMessage, WaitingRow};
use super::writer::{Effect, Writer};

impl Writer {
    pub(super) fn put(&mut self, tree: &sled::Tree, batch: &[Put]) -> io::Result<bool> {
        let mut changed: HashMap<&RecordKey, u64> = HashMap::new();
        for put in batch {
            let version = match changed.get(&put.key) {
                Some(version) => *version,
                None => record_version(tree, &put.key)?,
            };
            if version != put.expected {
                return Ok(false);
            }
            changed.insert(&put.key, if put.value.is_some() { version + 1 } else { 0 });
        }
        batch.iter().for_each(|put| self.put_record(put));
        Ok(true)
    }

    pub(super) fn put_record(&mut self, put: &Put) {
        let key = keys::record(&put.key);
        match &put.value {
            Some(value) => {
                let row = RecordRow { version: put.expected + 1, active: put.active, value: value.clone() };
                let value = rows::seal(&key, &row);
                self.commit.put(key, value);
            }
            None => self.commit.delete(key),
        }
        match put.key.kind {
            RecordKind::Endpoint => {
                let endpoint = <[u8; 16]>::try_from(put.key.key.as_slice()).map(EndpointId::from_bytes);
                if let (Some(application), Ok(endpoint)) = (put.key.application, endpoint) {
                    let closed = put.value.is_some() && !put.active;
                    self.effects.push(Effect::Closed(Lane { application, endpoint }, closed));
                }
            }
            RecordKind::EndpointList => self.forget_list_version(&put.key),
            RecordKind::Application
            | RecordKind::ApplicationUid
            | RecordKind::EndpointUid
            | RecordKind::ReplayJob
            | RecordKind::EraseJob
            | RecordKind::EventType
            | RecordKind::EventTypeSchemas
            | RecordKind::Token
            | RecordKind::Receipt
            | RecordKind::ReceiptAnswer
            | RecordKind::EndpointStanding
            | RecordKind::OperationalEvent => {}
        }
    }

    /// Fills a lane's window from disk.
    pub(super) fn fill(&mut self, tree: &sled::Tree, lane: Lane) -> io::Result<()> {
        let size = self.shared.lanes().fill_size(lane);
        let mut found = Vec::with_capacity(size.min(2048));
        let mut all = true;
        for item in tree.scan_prefix(keys::lane(lane)) {
            if found.len() == size {
                all = false;
                break;
            }
            let (key, value) = item?;
            let (Some((_, place)), Ok(row)) = (keys::read_waiting(&key), WaitingRow::unseal(&key, &value)) else {
                self.shared.met_damage(&key);
                continue;
            };
            let entry = Entry {
                message_id: MessageId::from_bytes(row.message),
                progress: row.progress.into(),
                bytes: row.bytes,
                ordered: row.ordered,
                message: None,
                lost: None,
            };
            found.push((place, entry));
        }
        self.shared.lanes().filled(lane, found, all);
        self.shared.bell.notify_one();
        Ok(())
    }

    /// Moves a damaged row out of the way, where it can still be looked at.
    pub(super) fn set_aside(&mut self, tree: &sled::Tree, key: Key) -> io::Result<()> {
        let order = keys::read_order(&key);
        let Some(value) = tree.get(&key)? else {
            return order.map_or(Ok(()), |order| self.recount_order(tree, order));
        };
        let aside = keys::set_aside(&key);
        let copy = rows::seal_raw(&aside, &value);
        self.commit.put(aside, copy);
        if let Some((lane, place)) = keys::read_waiting(&key) {
            self.effects.push(Effect::Remove(lane, place));
            if let Some(entry) = waits_at(tree, lane, place)? {
                let bytes = u64::from(entry.bytes);
                self.mend(lane, place, entry);
                self.recount_open_bytes(tree, lane.application, bytes)?;
                self.finish();
                return Ok(());
            }
            self.ended(lane.application, 0);
            self.recount_open_bytes(tree, lane.application, 0)?;
            self.lost_place(tree, lane, place.1)?;
        }
        if let Some(order) = order {
            self.mend_order(tree, &key)?;
            self.finish();
            return self.recount_order(tree, order);
        }
        let held = match keys::read_delivery(&key) {
            Some(id) => Writer::held_row_of(tree, id)?,
            None => None,
        };
        match (keys::read_delivery(&key), held) {
            (Some(id), Some(row)) => self.put_delivery(id, &row),
            // It would look as if it had never been attempted: it is a dead letter, unless it waits.
            (Some(id), None) if !waits(tree, id)? => self.bury(id),
            (Some(_), None) | (None, _) => self.commit.delete(key),
        }
        self.finish();
        Ok(())
    }

    /// What a damaged row of an ordering key had is known to nobody.
    fn recount_order(&mut self, tree: &sled::Tree, order: keys::Order) -> io::Result<()> {
        if self.database.is_some() {
            self.recount_open_bytes(tree, order.lane.application, 0)?;
            self.finish();
        }
        Ok(())
    }

    /// Writes a waiting row anew.
    fn mend(&mut self, lane: Lane, place: Place, entry: Entry) {
        let leased = self.shared.lanes().leased_until(lane, place).is_some();
        self.wait(lane, place, entry);
        if leased {
            // It is not in its lane's window, and comes back there by its settlement alone.
            self.effects.pop();
        }
    }

    /// Makes a dead letter of a delivery whose own row is lost.
    fn bury(&mut self, id: DeliveryId) {
        let at = Timestamp::from_millis(self.commit.counters.latest);
        let row = DeliveryRow {
            state: StateRow::of(State::Dead { at, reason: DeadReason::Damaged }),
            progress: Progress::new(id.message.time()).into(),
            sequence: self.commit.counters.sequence,
            bytes: 0,
            attempts: Vec::new(),
        };
        self.commit.counters.sequence += 1;
        self.put_delivery(id, &row);
        let key = keys::dead(id);
        let value = rows::seal_raw(&key, &[]);
        self.commit.put(key, value);
    }
}

/// Whether a delivery has a waiting row, wherever in its lane.
fn waits(tree: &sled::Tree, id: DeliveryId) -> io::Result<bool> {
    for item in tree.scan_prefix(keys::lane(id.lane)) {
        let (key, value) = item?;
        if WaitingRow::unseal(&key, &value).is_ok_and(|row| row.message == id.message.to_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the damaged row of a place in a lane said, by the message (if it was never attempted) or else by the
/// delivery's own row.
fn waits_at(tree: &sled::Tree, lane: Lane, place: Place) -> io::Result<Option<Entry>> {
    let entry = |message_id, progress, bytes, ordered| {
        Some(Entry { message_id, progress, bytes, ordered, message: None, lost: None })
    };
    if let Some((id, row)) = message_at(tree, lane, place, place.0)? {
        return Ok(entry(id, Progress::new(place.0), row.length, row.key_hash()));
    }
    for item in tree.scan_prefix(keys::deliveries(lane)) {
        let (key, value) = item?;
        let (Some(id), Ok(row)) = (keys::read_delivery(&key), rows::unseal::<DeliveryRow>(&key, &value)) else {
            continue;
        };
        if row.state == (StateRow::Waiting { due: place.0.as_millis() }) && row.sequence == place.1 {
            let key = keys::message(lane.application, id.message);
            let message = tree.get(&key)?.and_then(|value| MessageRow::unseal(&key, &value).ok());
            let ordered = message.and_then(|stored| stored.row.key_hash());
            return Ok(entry(id.message, row.progress.into(), row.bytes, ordered));
        }
    }
    // It may have been scheduled: then it was accepted any time before.
    let scheduled = message_at(tree, lane, place, place.0 - MAX_AHEAD)?;
    Ok(scheduled.and_then(|(id, row)| entry(id, Progress::new(place.0), row.length, row.key_hash())))
}

/// The message whose first place this is, among those accepted from then until it was due.
fn message_at(
    tree: &sled::Tree,
    lane: Lane,
    place: Place,
    accepted_from: Timestamp,
) -> io::Result<Option<(MessageId, MessageRow)>> {
    let accepted = |time| keys::message(lane.application, MessageId::from_parts(time, 0));
    for item in tree.range(accepted(accepted_from)..accepted(place.0 + Duration::from_millis(1))) {
        let (key, value) = item?;
        let (Some(id), Ok(StoredMessage { row, .. })) = (keys::read_message(&key), MessageRow::unseal(&key, &value))
        else {
            continue;
        };
        if row.place() == place && row.to.contains(&lane.endpoint.to_bytes()) {
            return Ok(Some((id, row)));
        }
    }
    Ok(None)
}

/// A record's version; a damaged one has a version that nobody expects, so that it is not written over.
pub(super) fn record_version(tree: &sled::Tree, name: &RecordKey) -> io::Result<u64> {
    let key = keys::record(name);
    let Some(value) = tree.get(&key)? else { return Ok(0) };
    Ok(rows::unseal::<RecordRow>(&key, &value).map_or(u64::MAX, |row| row.version))
}
