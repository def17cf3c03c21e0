//! Erasing payloads and responses' bodies: the row that had them is written anew without, and what else has them goes.

use std::io;

use crate::delivery::Lane;
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};

use super::keys::{self, Key};
use super::rows::{AttemptRow, MessageRow};
use super::writer::{Effect, Writer};

/// What is to be erased, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Payload(ApplicationId, MessageId),
    Response(Lane, AttemptId),
}

impl Writer {
    /// `false` if there was nothing.
    pub(super) fn expunge(&mut self, tree: &sled::Tree, target: Target) -> io::Result<bool> {
        match target {
            Target::Payload(application, id) => self.expunge_payload(tree, application, id),
            Target::Response(lane, id) => self.expunge_response(tree, lane, id),
        }
    }

    pub(super) fn expunge_payload(
        &mut self,
        tree: &sled::Tree,
        application: ApplicationId,
        id: MessageId,
    ) -> io::Result<bool> {
        let key = keys::message(application, id);
        let mut found = false;
        if let Some(value) = tree.get(&key)? {
            found = true;
            match MessageRow::unseal(&key, &value) {
                Ok(stored) if stored.expunged => {}
                Ok(stored) => {
                    for endpoint in &stored.row.to {
                        let lane = Lane { application, endpoint: EndpointId::from_bytes(*endpoint) };
                        self.effects.push(Effect::DropCached(lane, stored.row.place()));
                    }
                    self.replace(key.clone(), value.len(), stored.row.seal_expunged(&key));
                }
                // It would be copied with what it holds when it is set aside later.
                Err(_) => self.set_aside_now(tree, &key)?,
            }
        }
        let parts = keys::parts(application, id);
        for item in tree.scan_prefix(&parts) {
            let (key, value) = item?;
            found = true;
            let kept = &mut self.commit.counters.kept_bytes;
            *kept = kept.saturating_sub(value.len() as u64);
            self.commit.delete(key.to_vec());
        }
        // Damaged rows of it.
        for copy in [keys::set_aside(&key), keys::set_aside(&parts)] {
            for key in tree.scan_prefix(copy).keys() {
                found = true;
                self.commit.delete(key?.to_vec());
            }
        }
        Ok(found)
    }

    fn expunge_response(&mut self, tree: &sled::Tree, lane: Lane, id: AttemptId) -> io::Result<bool> {
        let key = keys::attempt(lane, id);
        let mut found = false;
        if let Some(value) = tree.get(&key)? {
            found = true;
            match AttemptRow::unseal(&key, &value) {
                Ok(stored) if stored.expunged => {}
                Ok(stored) => self.replace(key.clone(), value.len(), stored.row.seal_expunged(&key)),
                Err(_) => self.set_aside_now(tree, &key)?,
            }
        }
        let copy = keys::set_aside(&key);
        if tree.contains_key(&copy)? {
            found = true;
            self.commit.delete(copy);
        }
        Ok(found)
    }

    /// Moves a damaged row aside before the rest is done.
    fn set_aside_now(&mut self, tree: &sled::Tree, key: &Key) -> io::Result<()> {
        self.shared.met_damage(key);
        self.set_aside(tree, key.clone())?;
        match self.database {
            Some(_) => Ok(()),
            None => Err(io::Error::other("the store failed while it expunged")),
        }
    }

    /// Writes a row whose bytes count towards the cap on what is kept anew.
    pub(super) fn replace(&mut self, key: Key, length: usize, value: Vec<u8>) {
        let kept = &mut self.commit.counters.kept_bytes;
        *kept = (*kept + value.len() as u64).saturating_sub(length as u64);
        self.commit.put(key, value);
    }
}
