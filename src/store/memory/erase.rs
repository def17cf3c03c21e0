//! Erasing in memory.

use std::collections::BTreeSet;

use super::super::{Cancel, Erase, Erased};
use super::tables::{Tables, endpoints_of};
use crate::delivery::{CancelReason, DeliveryId, Lane};
use crate::id::{ApplicationId, MessageId};
use crate::time::Timestamp;

impl Tables {
    pub(in crate::store::memory) fn erase(
        &mut self,
        application: ApplicationId,
        what: &Erase,
        now: Timestamp,
    ) -> Erased {
        let mut erased = Erased::default();
        match what {
            Erase::Messages(ids) => {
                let ids: BTreeSet<MessageId> = ids.iter().copied().collect();
                // All of them first, and those that are held before the others: none goes on because another one has gone.
                let open = ids.iter().flat_map(|id| self.deliveries_named(application, *id)).collect();
                self.cancel(Cancel::Deliveries(open), CancelReason::Expunged, now);
                ids.into_iter().for_each(|id| self.erase_one(application, id, &mut erased));
            }
            Erase::Rest { limit } => {
                let own = |key: &&super::super::RecordKey| key.application == Some(application);
                let keys: Vec<_> = self.records.keys().filter(own).cloned().collect();
                erased.more = keys.len() > *limit;
                for key in keys.into_iter().take(*limit) {
                    self.records.remove(&key);
                }
            }
        }
        erased
    }

    fn deliveries_named(&self, application: ApplicationId, message: MessageId) -> Vec<DeliveryId> {
        let Some(stored) = self.messages.get(&(application, message)) else { return Vec::new() };
        let lane = |endpoint: &_| Lane { application, endpoint: *endpoint };
        endpoints_of(&stored.message).iter().map(|endpoint| DeliveryId { lane: lane(endpoint), message }).collect()
    }

    fn erase_one(&mut self, application: ApplicationId, id: MessageId, erased: &mut Erased) {
        if !self.messages.contains_key(&(application, id)) {
            return;
        }
        let deliveries = self.deliveries_named(application, id);
        if deliveries.iter().any(|delivery| self.leases.contains_key(delivery)) {
            erased.in_flight.push(id);
            return;
        }
        let before = self.attempts.len();
        self.attempts.retain(|(of, _), attempt| !(*of == application && attempt.delivery.message == id));
        self.remove((application, id));
        erased.messages += 1;
        erased.deliveries += deliveries.len() as u64;
        erased.attempts += (before - self.attempts.len()) as u64;
    }
}
