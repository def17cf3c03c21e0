//! One commit: rows gathered from many requests, written in one batch and made durable by one sync.
//!
//! `flush` does not reach the disk on Linux (it ends in `sync_file_range`), so a commit ends with an
//! `fdatasync` through a descriptor of our own on sled's file. Only then is anything acknowledged.

use std::collections::HashMap;
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
