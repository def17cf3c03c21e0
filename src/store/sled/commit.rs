//! One commit: rows gathered from many requests, written in one batch and made durable by one sync.
//!
//! `flush` does not reach the disk on Linux (it ends in `sync_file_range`), so a commit ends with an
//! `fdatasync` through a descriptor of our own on sled's file. Only then is anything acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use sled::{Batch, IVec};

use super::folder::Folder;
use super::keys::{self, Key};
use super::rows::Counters;

/// A commit ends at this many rows: larger batches take memory out of all proportion.
pub(super) const MAX_ROWS: usize = 250;
/// Or at this many bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Commit {
    batch: Batch,
    rows: usize,
    bytes: usize,
    /// Unique keys that this commit writes, for later requests of the same commit to see.
    unique: HashMap<Key, Vec<u8>>,
    /// Rows of ordering keys that this commit writes, or removes, in their order: later requests of it see them.
    ordered: BTreeMap<Key, Option<Vec<u8>>>,
    /// The counters as they will be.
    pub(super) counters: Counters,
}

impl Commit {
    /// A commit on top of these counters.
    pub(super) fn over(counters: Counters) -> Self {
        Commit { counters, ..Default::default() }
    }

    pub(super) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.rows += 1;
        self.bytes += key.len() + value.len();
        self.batch.insert(key, value);
    }

    /// Writes a row that later requests of this commit must see.
    pub(super) fn put_unique(&mut self, key: Key, value: Vec<u8>) {
        self.unique.insert(key.clone(), value.clone());
        self.put(key, value);
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.rows += 1;
        self.bytes += key.len();
        self.batch.remove(key);
    }

    /// A unique row, as this commit leaves it.
    pub(super) fn unique(&self, tree: &sled::Tree, key: &[u8]) -> sled::Result<Option<IVec>> {
        match self.unique.get(key) {
            Some(value) => Ok(Some(IVec::from(value.as_slice()))),
            None => tree.get(key),
        }
    }

    pub(super) fn put_ordered(&mut self, key: Key, value: Vec<u8>) {
        self.ordered.insert(key.clone(), Some(value.clone()));
        self.put(key, value);
    }

    pub(super) fn delete_ordered(&mut self, key: Key) {
        self.ordered.insert(key.clone(), None);
        self.delete(key);
    }

    /// A row of an ordering key, as this commit leaves it.
    pub(super) fn ordered(&self, tree: &sled::Tree, key: &[u8]) -> sled::Result<Option<IVec>> {
        match self.ordered.get(key) {
            Some(value) => Ok(value.as_deref().map(IVec::from)),
            None => tree.get(key),
        }
    }

    /// The first row whose key starts so, as this commit leaves it.
    pub(super) fn first_ordered(&self, tree: &sled::Tree, prefix: Key) -> sled::Result<Option<(Key, IVec)>> {
        let end = keys::after_prefix(prefix.clone());
        let here = self.ordered.range(prefix.clone()..end);
        let here = here.filter_map(|(key, value)| Some((key, value.as_ref()?))).next();
        // No more are passed over than one commit has rows.
        for item in tree.scan_prefix(prefix) {
            let (key, value) = item?;
            if here.is_some_and(|(first, _)| first.as_slice() < key.as_ref()) {
                break;
            }
            if !self.ordered.contains_key(key.as_ref()) {
                return Ok(Some((key.to_vec(), value)));
            }
        }
        Ok(here.map(|(key, value)| (key.clone(), IVec::from(value.as_slice()))))
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All that it writes, for a copy; without its own row, which [`write`](Commit::write) adds.
    pub(super) fn copied(&self) -> (Batch, usize) {
        (self.batch.clone(), self.bytes)
    }

    /// Writes everything, makes it durable, and gives the counters that are now true.
    pub(super) fn write(mut self, db: &sled::Db, file: &File, folder: &Folder) -> io::Result<Counters> {
        self.counters.commit += 1;
        let key = keys::commit();
        let value = self.counters.seal(&key);
        self.batch.insert(key, value);
        db.apply_batch(self.batch)?;
        db.flush()?;
        file.sync_data()?;
        folder.acknowledge(self.counters.commit)?;
        Ok(self.counters)
    }
}
