//! How many bytes wait in each application, so that one of them cannot take all the room.
//!
//! Invariant: an application's figure is the sum over its waiting rows, leased ones included, and those of what is held. It is a row of its own
//! (`O`), written in the same commit as what changes it; an application that has none has no bytes open.

use std::collections::{BTreeSet, HashMap};
use std::io;

use sled::Batch;

use crate::id::ApplicationId;

use super::commit::{Commit, MAX_ROWS};
use super::database::next_application;
use super::keys::{self, Rank};
use super::rows::{self, HeldRow, WaitingRow};
use super::writer::Writer;

/// The figures, as the writer has them: those of the commit that is being put together.
#[derive(Debug, Default)]
pub(super) struct OpenBytes {
    /// Those that are not 0.
    figures: HashMap<ApplicationId, u64>,
    /// Whose row the commit has to write.
    changed: BTreeSet<ApplicationId>,
}

impl OpenBytes {
    /// Reads the rows. If `counted` says that there are none yet, or if one is damaged, what waits is added up anew;
    /// `true` if that was because of damage.
    pub(super) fn read(tree: &sled::Tree, counted: bool) -> sled::Result<(OpenBytes, bool)> {
        let (mut open, mut damaged) = (OpenBytes::default(), false);
        let (mut batch, mut rows) = (Batch::default(), 0);
        let mut from = keys::after_application(ApplicationId::NONE);
        while let Some(application) = next_application(tree, &from)? {
            from = keys::after_application(application);
            let key = keys::open_bytes(application);
            let value = tree.get(&key)?;
            let bytes = match value.as_ref().map(|value| rows::unseal::<u64>(&key, value)) {
                Some(Ok(bytes)) if counted => bytes,
                None if counted => 0,
                row => {
                    damaged |= matches!(row, Some(Err(rows::Damaged)));
                    let bytes = add_up(tree, application, |_| {})?;
                    match bytes {
                        0 => batch.remove(key.as_slice()),
                        bytes => batch.insert(key.as_slice(), rows::seal(&key, &bytes)),
                    }
                    rows += 1;
                    bytes
                }
            };
            if bytes > 0 {
                open.figures.insert(application, bytes);
            }
            if rows == MAX_ROWS {
                tree.apply_batch(std::mem::take(&mut batch))?;
                rows = 0;
            }
        }
        // On disk with the commit that opening ends with.
        tree.apply_batch(batch)?;
        Ok((open, damaged))
    }

    pub(super) fn of(&self, application: ApplicationId) -> u64 {
        self.figures.get(&application).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, application: ApplicationId, bytes: u64) {
        if self.of(application) == bytes {
            return;
        }
        match bytes {
            0 => self.figures.remove(&application),
            bytes => self.figures.insert(application, bytes),
        };
        self.changed.insert(application);
    }

    /// Adds the rows that have changed to the commit.
    pub(super) fn write_to(&mut self, commit: &mut Commit) -> Vec<(ApplicationId, u64)> {
        let changed = std::mem::take(&mut self.changed);
        let changed: Vec<_> = changed.into_iter().map(|application| (application, self.of(application))).collect();
        for (application, bytes) in &changed {
            let key = keys::open_bytes(*application);
            match bytes {
                0 => commit.delete(key),
                bytes => {
                    let value = rows::seal(&key, bytes);
                    commit.put(key, value);
                }
            }
        }
        changed
    }

    pub(super) fn figures(&self) -> &HashMap<ApplicationId, u64> {
        &self.figures
    }
}

impl Writer {
    /// Counts an application's bytes anew, because nobody knows how many a damaged row had. `mended` are those of rows
    /// that this commit is to write.
    pub(super) fn recount_open_bytes(
        &mut self,
        tree: &sled::Tree,
        application: ApplicationId,
        mended: u64,
    ) -> io::Result<()> {
        // Other damaged rows are left out as well: each is mended or given up next, and counted again.
        let bytes = mended + add_up(tree, application, |key| self.shared.met_damage(key))?;
        let before = self.open_bytes.of(application);
        let all = &mut self.commit.counters.open_bytes;
        *all = all.saturating_sub(before) + bytes;
        self.open_bytes.set(application, bytes);
        Ok(())
    }
}

/// Adds up what waits in an application, and names the rows that are damaged.
fn add_up(tree: &sled::Tree, application: ApplicationId, damaged: impl Fn(&[u8])) -> sled::Result<u64> {
    let mut bytes = 0;
    for item in tree.scan_prefix(keys::lanes(application)) {
        let (key, value) = item?;
        match WaitingRow::unseal(&key, &value) {
            Ok(row) => bytes += u64::from(row.bytes),
            Err(rows::Damaged) => damaged(&key),
        }
    }
    for item in tree.scan_prefix(keys::all_orders(application)) {
        let (key, value) = item?;
        if keys::read_order(&key).is_none_or(|order| order.rank == Rank::First) {
            continue;
        }
        match rows::unseal::<HeldRow>(&key, &value) {
            Ok(row) => bytes += u64::from(row.bytes),
            Err(rows::Damaged) => damaged(&key),
        }
    }
    Ok(bytes)
}
