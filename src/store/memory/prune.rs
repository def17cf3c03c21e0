//! Retention in memory.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::super::{Expunge, Prune, Pruned, Rule};
use super::tables::{Stored, Tables};
use crate::delivery::State;
use crate::id::{ApplicationId, MessageId};

/// What goes of a message.
enum Goes {
    /// It, with all that is its.
    Whole,
    /// Its payload, or not; and attempts that are old enough.
    Parts { payload: bool, rule: Rule },
}

impl Tables {
    pub(in crate::store::memory) fn prune(&mut self, prune: &Prune) -> Pruned {
        let (seen, more) = self.to_look_at(prune);
        let mut pruned = Pruned { next: seen.last().copied().filter(|_| more), ..Pruned::default() };
        for (application, id) in seen {
            let Some(goes) = self.goes((application, id), prune) else { continue };
            let before = self.attempts.len();
            let own = |of: ApplicationId, message: MessageId| (of, message) == (application, id);
            match goes {
                Goes::Whole => {
                    self.remove((application, id));
                    self.attempts.retain(|(of, _), attempt| !own(*of, attempt.delivery.message));
                    pruned.removed += 1;
                }
                Goes::Parts { payload, rule } => {
                    if payload {
                        self.expunge(application, Expunge::Payload(id));
                        pruned.payloads += 1;
                    }
                    let old = rule.attempts_before;
                    self.attempts.retain(|(of, at), attempt| !(own(*of, attempt.delivery.message) && at.time() < old));
                    pruned.attempts += before - self.attempts.len();
                }
            }
        }
        pruned
    }

    /// The messages that a call looks at, and whether there are more.
    fn to_look_at(&self, prune: &Prune) -> (Vec<(ApplicationId, MessageId)>, bool) {
        if !prune.only.is_empty() {
            let only: BTreeSet<_> = prune.only.iter().copied().collect();
            return (only.into_iter().collect(), false);
        }
        let mut ids = self.messages.range((prune.after.map_or(Unbounded, Excluded), Unbounded)).map(|(id, _)| *id);
        let seen = ids.by_ref().take(prune.limit.max(1)).collect();
        (seen, ids.next().is_some())
    }

    fn goes(&self, (application, id): (ApplicationId, MessageId), prune: &Prune) -> Option<Goes> {
        let Stored { message, idempotency_key, .. } = self.messages.get(&(application, id))?;
        let rule = prune.of(application, &message.event_type);
        let key = idempotency_key.as_ref().map(|key| (application, key.clone()));
        let record = key.and_then(|key| self.idempotency.get(&key));
        let keyed = record.is_some_and(|(owner, record)| *owner == id && record.expires_at > prune.now);
        let (mut open, mut all_delivered) = (false, true);
        let deliveries = self.deliveries_of(application, id);
        for delivery in &deliveries {
            match delivery.state {
                State::Waiting { .. } | State::Held { .. } | State::Leased { .. } => open = true,
                State::Delivered { .. } => {}
                State::Dead { .. } | State::Canceled { .. } => all_delivered = false,
            }
        }
        let before = if all_delivered { rule.delivered_before } else { rule.ended_before };
        if !open && !keyed && message.accepted_at < before {
            return Some(Goes::Whole);
        }
        let at_once = rule.delete_on_success && all_delivered && !deliveries.is_empty();
        let payload = !open && !message.expunged && (at_once || message.accepted_at < rule.payloads_before);
        Some(Goes::Parts { payload, rule })
    }
}
