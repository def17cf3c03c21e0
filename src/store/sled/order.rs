//! Who goes first of the deliveries of an ordering key, and who is held: the `K` rows.
//!
//! Invariants: where one is held there is one that goes first; what is held has no `W` row; the write that ends the first
//! lets the next one follow. Several requests of one commit see each other's rows through [`Commit::ordered`], so that
//! none of them has to wait for the disk.
//!
//! [`Commit::ordered`]: super::commit::Commit

use std::io;

use crate::delivery::{DeliveryId, Lane, Progress};
use crate::ordering::KeyHash;
use crate::store::sled::keys::Rank;
use crate::time::Timestamp;

use super::keys::{self, Key, Place};
use super::lanes::Entry;
use super::replay::Found;
use super::rows::{self, DeliveryRow, HeldRow, StateRow};
use super::writer::Writer;

impl Writer {
    /// A round of a delivery begins: it waits, or is held if another one of its key goes first.
    pub(super) fn begin(&mut self, tree: &sled::Tree, lane: Lane, place: Place, entry: Entry) -> io::Result<()> {
        self.opened(lane.application, &entry);
        let Some(key) = entry.ordered else {
            self.wait(lane, place, entry);
            return Ok(());
        };
        let id = DeliveryId { lane, message: entry.message_id };
        let first = self.commit.first_ordered(tree, keys::ordered(lane, key, Rank::First))?;
        if first.is_some() {
            self.hold(id, key, place, entry.progress, entry.bytes);
        } else if self.commit.first_ordered(tree, keys::ordered(lane, key, Rank::Held))?.is_some() {
            // The row of the one that went first was lost: those that are held go on, and this one after them.
            self.hold(id, key, place, entry.progress, entry.bytes);
            let now = Timestamp::from_millis(self.commit.counters.latest);
            self.promote(tree, lane, key, now)?;
        } else {
            self.goes_first(id, key, place.1);
            self.wait(lane, place, entry);
        }
        Ok(())
    }

    fn goes_first(&mut self, id: DeliveryId, key: KeyHash, sequence: u64) {
        let row = keys::order(id, key, Rank::First, sequence);
        let value = rows::seal_raw(&row, &[]);
        self.commit.put_ordered(row, value);
    }

    pub(super) fn hold(&mut self, id: DeliveryId, key: KeyHash, place: Place, progress: Progress, bytes: u32) {
        let row = keys::order(id, key, Rank::Held, place.1);
        let held = HeldRow { due: place.0.as_millis(), progress: progress.into(), bytes };
        let value = rows::seal(&row, &held);
        self.commit.put_ordered(row, value);
    }

    /// Whether a delivery is held.
    pub(super) fn is_held(
        &self,
        tree: &sled::Tree,
        id: DeliveryId,
        key: Option<KeyHash>,
        sequence: u64,
    ) -> io::Result<bool> {
        let Some(key) = key else { return Ok(false) };
        Ok(self.commit.ordered(tree, &keys::order(id, key, Rank::Held, sequence))?.is_some())
    }

    /// A held delivery is held no more, and does not wait either.
    pub(super) fn leave_hold(&mut self, id: DeliveryId, key: KeyHash, sequence: u64) {
        self.commit.delete_ordered(keys::order(id, key, Rank::Held, sequence));
    }

    /// A delivery has ended, or lets others of its key pass: if it was the first, the next one follows.
    pub(super) fn let_pass(
        &mut self,
        tree: &sled::Tree,
        id: DeliveryId,
        key: Option<KeyHash>,
        sequence: u64,
        now: Timestamp,
    ) -> io::Result<()> {
        let Some(key) = key else { return Ok(()) };
        let first = keys::order(id, key, Rank::First, sequence);
        if self.commit.ordered(tree, &first)?.is_none() {
            return Ok(());
        }
        self.commit.delete_ordered(first);
        self.promote(tree, id.lane, key, now)
    }

    /// The next one of a key follows. One that is gone for good is passed over.
    fn promote(&mut self, tree: &sled::Tree, lane: Lane, key: KeyHash, now: Timestamp) -> io::Result<()> {
        while let Some((row, value)) = self.commit.first_ordered(tree, keys::ordered(lane, key, Rank::Held))? {
            let Some(order) = keys::read_order(&row) else { break };
            let id = DeliveryId { lane, message: order.message };
            let held = match rows::unseal::<HeldRow>(&row, &value) {
                Ok(held) => Some(held),
                Err(rows::Damaged) => self.held_as_found(tree, id)?,
            };
            self.commit.delete_ordered(row.clone());
            let Some(HeldRow { due, progress, bytes }) = held else {
                self.shared.met_damage(&row);
                self.ended(lane.application, 0);
                continue;
            };
            let progress = Progress::from(progress).promoted(now);
            let entry =
                Entry { message_id: id.message, progress, bytes, ordered: Some(key), message: None, lost: None };
            self.goes_first(id, key, order.sequence);
            self.wait(lane, (Timestamp::from_millis(due), order.sequence), entry);
            break;
        }
        Ok(())
    }

    /// What the row of a held delivery said, by its message and its own row.
    fn held_as_found(&self, tree: &sled::Tree, id: DeliveryId) -> io::Result<Option<HeldRow>> {
        let Some(Found { row, .. }) = self.find(tree, id)? else { return Ok(None) };
        let DeliveryRow { state, progress, bytes, .. } = row;
        Ok(match state {
            StateRow::Waiting { due } => Some(HeldRow { due, progress, bytes }),
            StateRow::Delivered { .. } | StateRow::Dead { .. } | StateRow::Canceled { .. } => None,
        })
    }

    /// What the row of its own says of a delivery that is held, wherever in its lane: for when its key is not known.
    pub(super) fn held_row_of(tree: &sled::Tree, id: DeliveryId) -> io::Result<Option<DeliveryRow>> {
        for item in tree.scan_prefix(keys::orders(id.lane)) {
            let (row, value) = item?;
            let Some(order) = keys::read_order(&row) else { continue };
            if order.rank == Rank::Held && order.message == id.message {
                let held = rows::unseal::<HeldRow>(&row, &value).ok();
                return Ok(held.map(|HeldRow { due, progress, bytes }| DeliveryRow {
                    state: StateRow::Waiting { due },
                    progress,
                    sequence: order.sequence,
                    bytes,
                    attempts: Vec::new(),
                }));
            }
        }
        Ok(None)
    }

    /// The delivery with this place in a lane is lost: if it went first of a key, the next one follows.
    pub(super) fn lost_place(&mut self, tree: &sled::Tree, lane: Lane, sequence: u64) -> io::Result<()> {
        let now = Timestamp::from_millis(self.commit.counters.latest);
        for item in tree.scan_prefix(keys::orders(lane)).keys() {
            let row = item?;
            let Some(order) = keys::read_order(&row) else { continue };
            if order.rank == Rank::First && order.sequence == sequence {
                let id = DeliveryId { lane, message: order.message };
                self.let_pass(tree, id, Some(order.key), sequence, now)?;
            }
        }
        Ok(())
    }

    /// Puts a key's rows right, one of which was found damaged or out of place: it says only what deliveries say.
    pub(super) fn mend_order(&mut self, tree: &sled::Tree, row: &Key) -> io::Result<()> {
        let Some(order) = keys::read_order(row) else {
            self.commit.delete(row.clone());
            return Ok(());
        };
        let keys::Order { lane, key, rank, sequence, message } = order;
        let id = DeliveryId { lane, message };
        let waits = match self.held_as_found(tree, id)? {
            Some(held) => {
                let place = (Timestamp::from_millis(held.due), sequence);
                Some((held, tree.contains_key(keys::waiting(lane, place))?))
            }
            None => None,
        };
        match (rank, waits) {
            // It waits, and goes first.
            (Rank::First, Some((_, true))) => self.goes_first(id, key, sequence),
            // It is held, and nothing else says so.
            (Rank::Held, Some((held, false))) => {
                let place = (Timestamp::from_millis(held.due), sequence);
                self.hold(id, key, place, held.progress.into(), held.bytes);
            }
            (Rank::Held, None) => {
                self.commit.delete_ordered(row.clone());
                self.ended(lane.application, 0);
            }
            (Rank::First, Some((_, false)) | None) | (Rank::Held, Some((_, true))) => {
                self.commit.delete_ordered(row.clone());
            }
        }
        if self.commit.first_ordered(tree, keys::ordered(lane, key, Rank::First))?.is_none() {
            let now = Timestamp::from_millis(self.commit.counters.latest);
            self.promote(tree, lane, key, now)?;
        }
        Ok(())
    }
}
