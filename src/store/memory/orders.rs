//! Who goes first of the deliveries of an ordering key, and who is held.
//!
//! Invariants: where one is held there is one that goes first; what is held is in no lane.

use std::collections::BTreeMap;

use super::tables::{Row, Tables};
use crate::delivery::{DeliveryId, Lane, State};
use crate::id::MessageId;
use crate::ordering::KeyHash;
use crate::time::Timestamp;

/// Deliveries of one lane and ordering key.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    /// Whose end the others wait for. There is one where any is held.
    first: Option<MessageId>,
    /// By their sequence.
    pub(super) held: BTreeMap<u64, MessageId>,
}

impl Tables {
    /// A round of a delivery begins: it is held if another one of its key goes first.
    pub(super) fn begin(&mut self, id: DeliveryId, row: Row) {
        let order = row.key.map(|key| self.orders.entry((id.lane, key)).or_default());
        let held = order.is_some_and(|order| *order.first.get_or_insert(id.message) != id.message);
        self.place(id, Row { held, ..row });
    }

    /// A delivery has ended, or lets others of its key pass: if it was the first, the next one follows.
    pub(super) fn let_pass(&mut self, id: DeliveryId, key: Option<KeyHash>, now: Timestamp) {
        let Some(place) = key.map(|key| (id.lane, key)) else { return };
        let Some(order) = self.orders.get_mut(&place).filter(|order| order.first == Some(id.message)) else { return };
        let next = order.held.pop_first().map(|(_, message)| message);
        order.first = next;
        if let Some(message) = next {
            let id = DeliveryId { message, ..id };
            let row = self.deliveries.get(&id).copied().expect("what is held has its row");
            self.place(id, Row { held: false, progress: row.progress.promoted(now), ..row });
            self.ring = true;
        }
        if self.orders.get(&place).is_some_and(|order| order.first.is_none()) {
            self.orders.remove(&place);
        }
    }

    /// The deliveries of a lane that are held, by their keys.
    pub(super) fn held_in(&self, lane: Lane) -> impl Iterator<Item = DeliveryId> {
        let (first, last) = (KeyHash::from_bytes([0; 16]), KeyHash::from_bytes([0xff; 16]));
        let orders = self.orders.range((lane, first)..=(lane, last));
        orders
            .flat_map(move |(_, order)| order.held.values().map(move |message| DeliveryId { lane, message: *message }))
    }

    /// How a delivery stands.
    pub(super) fn standing(&self, id: DeliveryId, row: &Row) -> State {
        let order = row.key.filter(|_| row.held).and_then(|key| self.orders.get(&(id.lane, key)));
        let behind = order.and_then(|order| order.first).map(|behind| State::Held { behind });
        let leased = self.leases.get(&id).map(|leased| State::Leased { until: leased.until });
        behind.or(leased).unwrap_or(row.state)
    }
}
