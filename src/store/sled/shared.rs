//! What the store's handle, its writer and its reader share.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use tokio::sync::Notify;

use crate::id::ApplicationId;
use crate::store::{Compaction, Error, Health};
use crate::time::Timestamp;

use super::compact::Step;
use super::database::{Database, Opened};
use super::folder::Folder;
use super::keys::Key;
use super::lanes::Lanes;
use super::open_bytes::OpenBytes;
use super::rows::Counters;
use super::writer::Effect;

pub(super) struct Shared {
    pub(super) folder: Folder,
    lanes: Mutex<Lanes>,
    /// For reading. `None` while the store cannot write, and after it was closed.
    tree: RwLock<Option<sled::Tree>>,
    pub(super) bell: Arc<Notify>,
    open: AtomicU64,
    open_bytes: AtomicU64,
    /// The same of each application that has any.
    open_bytes_of: Mutex<HashMap<ApplicationId, u64>>,
    latest: AtomicU64,
    damaged: AtomicU64,
    /// Keys of damaged rows that were met and are to be set aside.
    met: Mutex<BTreeSet<Key>>,
    /// Keys that were met since the database was opened: a reader may meet one again before it is set aside.
    reported: Mutex<BTreeSet<Key>>,
    failure: Mutex<Option<String>>,
    warnings: Mutex<Vec<String>>,
    /// Bytes of the messages and attempts that are kept.
    kept_bytes: AtomicU64,
    /// How the last compaction stands.
    compaction: Mutex<Option<Compaction>>,
    /// Where a test stops a compaction.
    #[cfg(test)]
    pub(super) stop: Mutex<Option<StopAt>>,
}

/// Says at each step whether a compaction goes on.
#[cfg(test)]
pub(super) type StopAt = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

const UNPOISONED: &str = "no code panics while it holds the store's state";

impl Shared {
    pub(super) fn new(
        folder: Folder,
        tree: sled::Tree,
        counters: Counters,
        open_bytes: &OpenBytes,
        lanes: Lanes,
        warnings: Vec<String>,
    ) -> Self {
        let shared = Shared {
            folder,
            lanes: Mutex::new(lanes),
            tree: RwLock::new(Some(tree)),
            bell: Arc::new(Notify::new()),
            open: AtomicU64::new(0),
            open_bytes: AtomicU64::new(0),
            open_bytes_of: Mutex::new(open_bytes.figures().clone()),
            latest: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            met: Mutex::default(),
            reported: Mutex::default(),
            failure: Mutex::new(None),
            warnings: Mutex::new(warnings),
            kept_bytes: AtomicU64::new(0),
            compaction: Mutex::new(None),
            #[cfg(test)]
            stop: Mutex::new(None),
        };
        shared.committed(&counters, Vec::new());
        shared
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().expect(UNPOISONED)
    }

    pub(super) fn tree(&self) -> Result<sled::Tree, Error> {
        self.tree.read().expect(UNPOISONED).clone().ok_or_else(|| self.unavailable())
    }

    pub(super) fn tree_is_gone(&self) {
        *self.tree.write().expect(UNPOISONED) = None;
    }

    /// The counters of a commit that is durable, and the open bytes of the applications where they changed.
    pub(super) fn committed(&self, counters: &Counters, open_bytes: Vec<(ApplicationId, u64)>) {
        let mut figures = self.open_bytes_of.lock().expect(UNPOISONED);
        for (application, bytes) in open_bytes {
            match bytes {
                0 => figures.remove(&application),
                bytes => figures.insert(application, bytes),
            };
        }
        drop(figures);
        self.open.store(counters.open, Relaxed);
        self.open_bytes.store(counters.open_bytes, Relaxed);
        self.latest.store(counters.latest, Relaxed);
        self.kept_bytes.store(counters.kept_bytes, Relaxed);
    }

    /// Readers go on with another database, which has what the one before had.
    pub(super) fn tree_is_now(&self, tree: &sled::Tree) {
        *self.tree.write().expect(UNPOISONED) = Some(tree.clone());
    }

    pub(super) fn compaction_is(&self, how: Compaction) {
        *self.compaction.lock().expect(UNPOISONED) = Some(how);
    }

    /// A compaction has come to a step; a test may stop it there.
    #[cfg(test)]
    pub(super) fn at(&self, step: Step) -> io::Result<()> {
        match &mut *self.stop.lock().expect(UNPOISONED) {
            Some(stop) => stop(step),
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test may stop a compaction here")]
    pub(super) fn at(&self, _: Step) -> io::Result<()> {
        Ok(())
    }

    /// Shows the lanes what a durable commit changed, and rings.
    pub(super) fn show(&self, effects: impl Iterator<Item = Effect>) {
        let mut lanes = self.lanes();
        for effect in effects {
            match effect {
                Effect::EndLease(fence) => lanes.end_lease(fence),
                Effect::Insert(lane, place, entry) => lanes.insert(lane, place, entry),
                Effect::Remove(lane, place) => lanes.remove(lane, place),
                Effect::Closed(lane, closed) => lanes.set_closed(lane, closed),
                Effect::DropCached(lane, place) => lanes.drop_cached(lane, place),
            }
        }
        drop(lanes);
        self.bell.notify_one();
    }

    /// A row's checksum does not fit. It is reported once, and set aside by the writer.
    pub(super) fn met_damage(&self, key: &[u8]) {
        if self.reported.lock().expect(UNPOISONED).insert(key.to_vec()) {
            self.met.lock().expect(UNPOISONED).insert(key.to_vec());
            self.damaged.fetch_add(1, Relaxed);
            let key = crate::signature::hex(key);
            tracing::error!(key, "a stored record is damaged; it is set aside");
        }
    }

    pub(super) fn take_damage(&self) -> Option<Key> {
        self.met.lock().expect(UNPOISONED).pop_first()
    }

    pub(super) fn has_damage(&self) -> bool {
        !self.met.lock().expect(UNPOISONED).is_empty()
    }

    pub(super) fn failed(&self, error: &io::Error) {
        *self.failure.lock().expect(UNPOISONED) = Some(error.to_string());
        self.tree_is_gone();
    }

    pub(super) fn reopened(&self, opened: Opened) -> (Database, OpenBytes) {
        let Opened { database, counters, open_bytes, lanes, warnings } = opened;
        self.committed(&counters, Vec::new());
        *self.open_bytes_of.lock().expect(UNPOISONED) = open_bytes.figures().clone();
        *self.lanes() = lanes;
        self.reported.lock().expect(UNPOISONED).clear();
        *self.warnings.lock().expect(UNPOISONED) = warnings;
        *self.failure.lock().expect(UNPOISONED) = None;
        *self.tree.write().expect(UNPOISONED) = Some((*database.db).clone());
        self.bell.notify_one();
        (database, open_bytes)
    }

    /// Why nothing can be written or read now.
    pub(super) fn unavailable(&self) -> Error {
        match self.failure.lock().expect(UNPOISONED).clone() {
            Some(why) => Error::Unavailable(why),
            None => Error::Closed,
        }
    }

    pub(super) fn open_bytes_of(&self, application: ApplicationId) -> u64 {
        self.open_bytes_of.lock().expect(UNPOISONED).get(&application).copied().unwrap_or(0)
    }

    pub(super) fn latest(&self) -> Timestamp {
        Timestamp::from_millis(self.latest.load(Relaxed))
    }

    pub(super) fn health(&self) -> Health {
        Health {
            open: self.open.load(Relaxed),
            open_bytes: self.open_bytes.load(Relaxed),
            leased: self.lanes().leased_count(),
            disk_bytes: self.folder.disk_bytes(),
            kept_bytes: self.kept_bytes.load(Relaxed),
            compaction: self.compaction.lock().expect(UNPOISONED).clone(),
            damaged: self.damaged.load(Relaxed),
            failed: self.failure.lock().expect(UNPOISONED).clone(),
            warnings: self.warnings.lock().expect(UNPOISONED).clone(),
        }
    }
}
