//! Erasing: messages with everything that is theirs, and what is left of an application.

use std::collections::BTreeSet;
use std::io;

use crate::delivery::{CancelReason, DeadReason, DeliveryId, Lane, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::store::{Cancel, Erase, Erased, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::keys::{self, Key};
use super::prune::Of;
use super::rows::{self, AttemptRow, DeliveryRow, HeldRow, MessageRow, WaitingRow};
use super::writer::{Effect, Writer};

impl Writer {
    pub(super) fn erase(
        &mut self,
        tree: &sled::Tree,
        application: ApplicationId,
        what: &Erase,
        now: Timestamp,
    ) -> io::Result<Erased> {
        match what {
            Erase::Messages(ids) => {
                let ids: BTreeSet<MessageId> = ids.iter().copied().collect();
                self.erase_messages(tree, application, &ids, now)
            }
            Erase::Rest { limit } => self.erase_rest(tree, application, *limit),
        }
    }

    fn erase_messages(
        &mut self,
        tree: &sled::Tree,
        application: ApplicationId,
        ids: &BTreeSet<MessageId>,
        now: Timestamp,
    ) -> io::Result<Erased> {
        // What waits ends first, as any cancel does it: what comes behind it goes on, but for those that are erased with it.
        let mut open = Vec::new();
        for id in ids {
            let key = keys::message(application, *id);
            let Some(Ok(stored)) = tree.get(&key)?.map(|value| MessageRow::unseal(&key, &value)) else { continue };
            for endpoint in &stored.row.to {
                let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
                open.push(DeliveryId { lane, message: *id });
            }
        }
        self.cancel(tree, &Cancel::Deliveries(open), CancelReason::Expunged, now)?;
        self.finish();
        let mut erased = Erased::default();
        for id in ids {
            if self.database.is_none() {
                return Err(io::Error::other("the store failed while it erased"));
            }
            self.erase_one(tree, application, *id, &mut erased)?;
            self.room("erased")?;
        }
        Ok(erased)
    }

    fn erase_one(
        &mut self,
        tree: &sled::Tree,
        application: ApplicationId,
        id: MessageId,
        erased: &mut Erased,
    ) -> io::Result<()> {
        let key = keys::message(application, id);
        let Some(value) = tree.get(&key)? else { return self.erase_copies(tree, &key) };
        let Ok(stored) = MessageRow::unseal(&key, &value) else {
            // Nobody knows where it went; its bytes go.
            self.expunge_payload(tree, application, id)?;
            erased.messages += 1;
            return Ok(());
        };
        let mut deliveries = Vec::with_capacity(stored.row.to.len());
        for endpoint in &stored.row.to {
            let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
            let of = DeliveryId { lane, message: id };
            match self.ended_row(tree, of)? {
                Some(row) => deliveries.push((of, row)),
                None => {
                    erased.in_flight.push(id);
                    return Ok(());
                }
            }
        }
        for (of, row) in deliveries {
            let attempts = attempts_of(tree, of, &row)?;
            erased.deliveries += 1;
            erased.attempts += attempts.len() as u64;
            self.remove_delivery(tree, of, &attempts)?;
            self.erase_copies(tree, &keys::delivery(of))?;
            for attempt in attempts {
                self.erase_copies(tree, &keys::attempt(of.lane, AttemptId::from_bytes(attempt)))?;
            }
        }
        for copied in [
            key.clone(),
            keys::parts(application, id),
            stored.row.event_id.as_deref().map_or_else(Key::new, |event_id| keys::event_id(application, event_id)),
            stored.row.idempotency.as_ref().map_or_else(Key::new, |(name, _)| keys::idempotency(application, name)),
        ] {
            if !copied.is_empty() {
                self.erase_copies(tree, &copied)?;
            }
        }
        let of = Of { application, id, key, bytes: value.len() as u64, stored };
        self.remove_message(tree, &of)?;
        erased.messages += 1;
        Ok(())
    }

    /// A delivery's row, if it has ended. One that is damaged is mended or buried first.
    fn ended_row(&mut self, tree: &sled::Tree, id: DeliveryId) -> io::Result<Option<DeliveryRow>> {
        let key = keys::delivery(id);
        let Some(value) = tree.get(&key)? else { return Ok(None) };
        let Ok(row) = rows::unseal::<DeliveryRow>(&key, &value) else {
            self.shared.met_damage(&key);
            return Ok(None);
        };
        Ok(row.state.state().is_some_and(|state| state.is_terminal()).then_some(row))
    }

    /// Removes what was set aside of a row, or of all whose keys start so.
    fn erase_copies(&mut self, tree: &sled::Tree, key: &[u8]) -> io::Result<()> {
        for copy in tree.scan_prefix(keys::set_aside(key)).keys() {
            self.commit.delete(copy?.to_vec());
        }
        Ok(())
    }

    /// Removes whatever is left of an application whose messages are gone.
    fn erase_rest(&mut self, tree: &sled::Tree, application: ApplicationId, limit: usize) -> io::Result<Erased> {
        let mut erased = Erased::default();
        let all = keys::all_of(application);
        let aside = keys::set_aside(&all);
        for (number, item) in tree.scan_prefix(&all).chain(tree.scan_prefix(&aside)).enumerate() {
            if number == limit {
                erased.more = true;
                break;
            }
            let (key, value) = item?;
            if let Some((lane, place)) = keys::read_waiting(&key) {
                let bytes = WaitingRow::unseal(&key, &value).map_or(0, |row| row.bytes);
                self.effects.push(Effect::Remove(lane, place));
                self.ended(application, bytes);
            }
            if keys::read_order(&key).is_some_and(|order| order.rank == keys::Rank::Held) {
                let bytes = rows::unseal::<HeldRow>(&key, &value).map_or(0, |row| row.bytes);
                self.ended(application, bytes);
            }
            if key.get(16).is_some_and(|tag| keys::COUNTED_AS_KEPT.contains(tag)) {
                let kept = &mut self.commit.counters.kept_bytes;
                *kept = kept.saturating_sub(value.len() as u64);
            }
            if let Some(endpoint) = keys::read_endpoint(&key) {
                // Nothing of the lane is to stay in memory either.
                self.effects.push(Effect::Closed(Lane { application, endpoint }, false));
            }
            self.commit.delete(key.to_vec());
            self.room("erased")?;
        }
        self.open_bytes.set(application, 0);
        let list = RecordKey { kind: RecordKind::EndpointList, application: Some(application), key: Vec::new() };
        self.forget_list_version(&list);
        Ok(erased)
    }
}

/// The attempts of a delivery. Of one that was damaged they are looked for, since its row no longer names them.
fn attempts_of(tree: &sled::Tree, id: DeliveryId, row: &DeliveryRow) -> io::Result<Vec<[u8; 16]>> {
    let lost = matches!(row.state.state(), Some(State::Dead { reason: DeadReason::Damaged, .. }));
    if !lost {
        return Ok(row.attempts.clone());
    }
    let mut found = Vec::new();
    for item in tree.scan_prefix(keys::attempts(id.lane)) {
        let (key, value) = item?;
        let own = AttemptRow::unseal(&key, &value).is_ok_and(|stored| stored.row.message == id.message.to_bytes());
        if let (true, Some((_, attempt))) = (own, keys::read_attempt(&key)) {
            found.push(attempt.to_bytes());
        }
    }
    Ok(found)
}
