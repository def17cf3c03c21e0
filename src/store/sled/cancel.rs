//! Cancels: what waits or is held ends, and what is on its way is left to its attempt.

use std::collections::BTreeSet;
use std::io;

use crate::delivery::{CancelReason, DeliveryId, Lane, State};
use crate::id::MessageId;
use crate::ordering::KeyHash;
use crate::store::Cancel;
use crate::time::Timestamp;

use super::keys::{self, Place, Rank};
use super::replay::Found;
use super::rows::{self, DeliveryRow, HeldRow, ProgressRow, StateRow, WaitingRow};
use super::writer::{Effect, Writer};

/// One that is to be canceled.
struct Canceled {
    id: DeliveryId,
    place: Place,
    row: DeliveryRow,
    ordered: Option<KeyHash>,
    held: bool,
}

impl Writer {
    pub(super) fn cancel(
        &mut self,
        tree: &sled::Tree,
        what: &Cancel,
        reason: CancelReason,
        now: Timestamp,
    ) -> io::Result<usize> {
        match what {
            Cancel::Delivery(id) => self.cancel_each(tree, &[*id], reason, now),
            Cancel::Deliveries(ids) => self.cancel_each(tree, ids, reason, now),
            Cancel::Lane { lane, limit } => {
                let held = self.cancel_held(tree, *lane, *limit, reason, now)?;
                Ok(held + self.cancel_waiting(tree, *lane, limit - held, reason, now)?)
            }
        }
    }

    fn cancel_each(
        &mut self,
        tree: &sled::Tree,
        ids: &[DeliveryId],
        reason: CancelReason,
        now: Timestamp,
    ) -> io::Result<usize> {
        let mut all = Vec::with_capacity(ids.len());
        let mut named = BTreeSet::new();
        for id in ids.iter().copied().filter(|id| named.insert(*id)) {
            let Some(Found { row, state: State::Waiting { due }, ordered, held, .. }) = self.find(tree, id)? else {
                continue;
            };
            all.push(Canceled { id, place: (due, row.sequence), row, ordered, held });
        }
        // Those that are held come first: then none of them follows one that is canceled with it.
        all.sort_by_key(|canceled| !canceled.held);
        let mut count = 0;
        for canceled in all {
            count += usize::from(self.cancel_one(tree, canceled, reason, now)?);
        }
        Ok(count)
    }

    fn cancel_held(
        &mut self,
        tree: &sled::Tree,
        lane: Lane,
        limit: usize,
        reason: CancelReason,
        now: Timestamp,
    ) -> io::Result<usize> {
        let mut canceled = 0;
        for item in tree.scan_prefix(keys::orders(lane)) {
            if canceled == limit {
                break;
            }
            let (key, value) = item?;
            let Some(order) = keys::read_order(&key).filter(|order| order.rank == Rank::Held) else { continue };
            let id = DeliveryId { lane, message: order.message };
            let Ok(HeldRow { due, progress, bytes }) = rows::unseal::<HeldRow>(&key, &value) else {
                // It is mended from the delivery's own row, and canceled by the next call.
                self.shared.met_damage(&key);
                continue;
            };
            let place = (Timestamp::from_millis(due), order.sequence);
            let row = own_row(tree, id, place, progress, bytes)?;
            let one = Canceled { id, place, row, ordered: Some(order.key), held: true };
            canceled += usize::from(self.cancel_one(tree, one, reason, now)?);
        }
        Ok(canceled)
    }

    fn cancel_waiting(
        &mut self,
        tree: &sled::Tree,
        lane: Lane,
        limit: usize,
        reason: CancelReason,
        now: Timestamp,
    ) -> io::Result<usize> {
        let mut canceled = 0;
        for item in tree.scan_prefix(keys::lane(lane)) {
            if canceled == limit {
                break;
            }
            let (key, value) = item?;
            let Some((_, place)) = keys::read_waiting(&key) else { continue };
            let Ok(waiting) = WaitingRow::unseal(&key, &value) else {
                self.shared.met_damage(&key);
                continue;
            };
            let id = DeliveryId { lane, message: MessageId::from_bytes(waiting.message) };
            let row = own_row(tree, id, place, waiting.progress, waiting.bytes)?;
            let one = Canceled { id, place, row, ordered: waiting.ordered, held: false };
            canceled += usize::from(self.cancel_one(tree, one, reason, now)?);
        }
        Ok(canceled)
    }

    /// `false` if an attempt of it is on its way. Whether one is is asked at the moment from which no claim gives it.
    fn cancel_one(
        &mut self,
        tree: &sled::Tree,
        canceled: Canceled,
        reason: CancelReason,
        now: Timestamp,
    ) -> io::Result<bool> {
        let Canceled { id, place, mut row, ordered, held } = canceled;
        if !held && !self.shared.lanes().withhold(id.lane, place, now) {
            return Ok(false);
        }
        self.saw(now);
        match ordered.filter(|_| held) {
            Some(key) => self.leave_hold(id, key, place.1),
            None => {
                self.commit.delete(keys::waiting(id.lane, place));
                self.effects.push(Effect::Remove(id.lane, place));
                self.let_pass(tree, id, ordered, place.1, now)?;
            }
        }
        self.ended(id.lane.application, row.bytes);
        row.state = StateRow::of(State::Canceled { at: now, reason });
        self.put_delivery(id, &row);
        if self.commit.is_full() {
            self.finish();
            if self.database.is_none() {
                return Err(io::Error::other("the store failed while it canceled"));
            }
        }
        Ok(true)
    }
}

/// The row of a delivery that waits so: the stored one, or that of one never attempted.
fn own_row(
    tree: &sled::Tree,
    id: DeliveryId,
    place: Place,
    progress: ProgressRow,
    bytes: u32,
) -> io::Result<DeliveryRow> {
    let key = keys::delivery(id);
    Ok(match tree.get(&key)?.map(|value| rows::unseal::<DeliveryRow>(&key, &value)) {
        Some(Ok(row)) => DeliveryRow { progress, ..row },
        Some(Err(rows::Damaged)) | None => DeliveryRow {
            state: StateRow::Waiting { due: place.0.as_millis() },
            progress,
            sequence: place.1,
            bytes,
            attempts: Vec::new(),
        },
    })
}
