//! Retention: messages that go with all that is theirs, and payloads and attempts that go before their message.

use std::collections::BTreeSet;
use std::io;

use crate::delivery::{DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::store::{Prune, Pruned, Rule};

use super::database::next_application;
use super::keys::{self, Key};
use super::rows::{self, DeliveryRow, IdempotencyRow, MessageRow, StateRow, StoredMessage};
use super::writer::Writer;

/// A message as it is found.
pub(super) struct Of {
    pub(super) application: ApplicationId,
    pub(super) id: MessageId,
    pub(super) key: Key,
    /// The length of its row.
    pub(super) bytes: u64,
    pub(super) stored: StoredMessage,
}

/// How the deliveries of a message stand.
struct Standing {
    deliveries: Vec<(Lane, DeliveryRow)>,
    /// One has not ended, or nobody can tell.
    open: bool,
    /// All have rows that say so.
    all_delivered: bool,
}

impl Writer {
    pub(super) fn prune(&mut self, tree: &sled::Tree, prune: &Prune) -> io::Result<Pruned> {
        let mut pruned = Pruned::default();
        if !prune.only.is_empty() {
            for (application, id) in prune.only.iter().copied().collect::<BTreeSet<_>>() {
                let key = keys::message(application, id);
                if let Some(value) = tree.get(&key)? {
                    self.prune_row(tree, prune, (application, id), &key, &value, &mut pruned)?;
                }
            }
            return Ok(pruned);
        }
        let mut looked = 0;
        let mut from = match prune.after {
            Some((application, id)) => after_key(keys::message(application, id)),
            None => keys::after_application(ApplicationId::NONE),
        };
        while let Some(application) = next_application(tree, &from)? {
            let start = keys::messages(application).max(from);
            let end = keys::after_prefix(keys::messages(application));
            for item in tree.range(start..end) {
                let (key, value) = item?;
                let Some(id) = keys::read_message(&key) else { continue };
                if looked == prune.limit {
                    return Ok(pruned);
                }
                looked += 1;
                pruned.next = Some((application, id));
                self.prune_row(tree, prune, (application, id), &key, &value, &mut pruned)?;
            }
            from = keys::after_application(application);
        }
        pruned.next = None;
        Ok(pruned)
    }

    fn prune_row(
        &mut self,
        tree: &sled::Tree,
        prune: &Prune,
        (application, id): (ApplicationId, MessageId),
        key: &[u8],
        value: &[u8],
        pruned: &mut Pruned,
    ) -> io::Result<()> {
        if let Ok(stored) = MessageRow::unseal(key, value) {
            let of = Of { application, id, key: key.to_vec(), bytes: value.len() as u64, stored };
            self.prune_one(tree, prune, &of, pruned)?;
        }
        self.room("pruned")
    }

    /// Writes the commit if it is full.
    pub(super) fn room(&mut self, what: &str) -> io::Result<()> {
        if self.commit.is_full() {
            self.finish();
            if self.database.is_none() {
                return Err(io::Error::other(format!("the store failed while it {what}")));
            }
        }
        Ok(())
    }

    fn prune_one(&mut self, tree: &sled::Tree, prune: &Prune, of: &Of, pruned: &mut Pruned) -> io::Result<()> {
        let row = &of.stored.row;
        let rule = prune.of(of.application, row.event_type());
        let Standing { deliveries, open, all_delivered } = standing(tree, of)?;
        let before = if all_delivered { rule.delivered_before } else { rule.ended_before };
        let keyed = row.idempotency.as_ref().is_some_and(|(_, expires_at)| *expires_at > prune.now.as_millis());
        if !open && !keyed && row.accepted_at < before.as_millis() {
            for (lane, delivery) in deliveries {
                self.remove_delivery(tree, DeliveryId { lane, message: of.id }, &delivery.attempts)?;
            }
            self.remove_message(tree, of)?;
            pruned.removed += 1;
            return Ok(());
        }
        if !open && !of.stored.expunged && payload_may_go(&rule, row, all_delivered) {
            self.expunge_payload(tree, of.application, of.id)?;
            pruned.payloads += 1;
        }
        for (lane, delivery) in deliveries {
            pruned.attempts += self.prune_attempts(tree, DeliveryId { lane, message: of.id }, delivery, &rule)?;
        }
        Ok(())
    }

    /// Removes the attempts of a delivery that are old enough; answers how many.
    fn prune_attempts(
        &mut self,
        tree: &sled::Tree,
        id: DeliveryId,
        mut delivery: DeliveryRow,
        rule: &Rule,
    ) -> io::Result<usize> {
        let old = |attempt: &[u8; 16]| AttemptId::from_bytes(*attempt).time() < rule.attempts_before;
        let (gone, kept): (Vec<_>, Vec<_>) = delivery.attempts.iter().partition(|attempt| old(attempt));
        if gone.is_empty() {
            return Ok(0);
        }
        for attempt in &gone {
            self.remove_kept(tree, keys::attempt(id.lane, AttemptId::from_bytes(*attempt)))?;
        }
        delivery.attempts = kept;
        self.put_delivery(id, &delivery);
        Ok(gone.len())
    }

    /// Removes a delivery's row, its place among the dead letters and its attempts.
    pub(super) fn remove_delivery(
        &mut self,
        tree: &sled::Tree,
        id: DeliveryId,
        attempts: &[[u8; 16]],
    ) -> io::Result<()> {
        for attempt in attempts {
            self.remove_kept(tree, keys::attempt(id.lane, AttemptId::from_bytes(*attempt)))?;
        }
        self.commit.delete(keys::delivery(id));
        self.commit.delete(keys::dead(id));
        Ok(())
    }

    /// Removes a message with its payload, event id and idempotency record. Its deliveries are gone already.
    pub(super) fn remove_message(&mut self, tree: &sled::Tree, of: &Of) -> io::Result<()> {
        for number in 0..of.stored.parts() {
            self.remove_kept(tree, keys::part(of.application, of.id, number))?;
        }
        if let Some(event_id) = &of.stored.row.event_id {
            self.commit.delete(keys::event_id(of.application, event_id));
        }
        if let Some((name, _)) = &of.stored.row.idempotency {
            self.forget_idempotency(tree, keys::idempotency(of.application, name), of.id)?;
        }
        self.commit.delete(of.key.clone());
        let kept = &mut self.commit.counters.kept_bytes;
        *kept = kept.saturating_sub(of.bytes);
        Ok(())
    }

    /// Removes a row whose bytes count towards the cap on what is kept.
    pub(super) fn remove_kept(&mut self, tree: &sled::Tree, key: Key) -> io::Result<()> {
        let freed = tree.get(&key)?.map_or(0, |value| value.len() as u64);
        let kept = &mut self.commit.counters.kept_bytes;
        *kept = kept.saturating_sub(freed);
        self.commit.delete(key);
        Ok(())
    }

    /// Removes an idempotency record, unless a later message took its key over after it had expired.
    fn forget_idempotency(&mut self, tree: &sled::Tree, key: Key, id: MessageId) -> io::Result<()> {
        let Some(value) = tree.get(&key)? else { return Ok(()) };
        let own = rows::unseal::<IdempotencyRow>(&key, &value).is_ok_and(|row| row.message == id.to_bytes());
        if own {
            self.commit.delete(key);
        }
        Ok(())
    }
}

fn payload_may_go(rule: &Rule, row: &MessageRow, all_delivered: bool) -> bool {
    let at_once = rule.delete_on_success && all_delivered && !row.to.is_empty();
    at_once || row.accepted_at < rule.payloads_before.as_millis()
}

fn standing(tree: &sled::Tree, of: &Of) -> io::Result<Standing> {
    let mut standing = Standing { deliveries: Vec::new(), open: false, all_delivered: true };
    for endpoint in &of.stored.row.to {
        let lane = Lane { application: of.application, endpoint: EndpointId::from_bytes(*endpoint) };
        let key = keys::delivery(DeliveryId { lane, message: of.id });
        let row = tree.get(&key)?.map(|value| rows::unseal::<DeliveryRow>(&key, &value));
        let Some(Ok(row)) = row else {
            // Never attempted, or damaged.
            standing.open = true;
            continue;
        };
        match row.state {
            StateRow::Waiting { .. } => standing.open = true,
            StateRow::Delivered { .. } => {}
            StateRow::Dead { .. } | StateRow::Canceled { .. } => standing.all_delivered = false,
        }
        standing.deliveries.push((lane, row));
    }
    Ok(standing)
}

pub(super) fn after_key(mut key: Key) -> Key {
    key.push(0);
    key
}
