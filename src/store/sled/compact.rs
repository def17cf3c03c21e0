//! Compaction: the records are copied to a new database, which takes the place of the old one and of its free space.
//!
//! ```text
//!  begun ▶ bite, bite, …, between the writer's commits; each commit is repeated into the copy ▶ all is copied
//!        ▶ the copy is synced ▶ CURRENT names it (from here it is in force) ▶ the old one is dropped and removed
//! ```
//!
//! Invariants: until CURRENT names the copy, nobody reads it and it may be lost at any moment; the copy has every row
//! before its cursor as the database in force has it, because the writer is the only one that writes, and writes to
//! both; nothing is acknowledged by the copy before it is in force. Whatever goes wrong before the switch leaves all
//! as it was.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use sled::Batch;

use crate::store::{Compacted, Compaction, Error};

use super::commit::MAX_ROWS;
use super::current;
use super::database::Database;
use super::folder::sync_folder;
use super::keys::{self, Key};
use super::rows::Counters;
use super::shared::Shared;
use super::writer::{Reply, Writer};

/// How many bytes are copied before other requests have their turn.
const BITE: usize = 256 * 1024;
/// How many bytes of the copy wait to be synced, so that the last sync is a short one.
const UNSYNCED: usize = 8 << 20;
/// What a new database takes on disk before it has a record.
const EMPTY: u64 = 16 << 20;

/// The moments at which a test can stop a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begun,
    Bitten,
    Copied,
    Synced,
    Switched,
    Removed,
}

/// Who waits for the end of a compaction.
type Waiting = Vec<Reply<Compacted>>;

/// A compaction that is under way.
pub(super) struct Copying {
    /// The copy, and its name in the folder.
    copy: Database,
    name: String,
    /// The first key that has not been copied.
    cursor: Key,
    unsynced: usize,
    copied_bytes: u64,
    of_bytes: u64,
    before_bytes: u64,
    waiting: Waiting,
}

/// The old database on its way out.
pub(super) struct Leaving {
    thread: JoinHandle<()>,
    gone: mpsc::Receiver<()>,
}

impl Leaving {
    /// Waits until it is gone, but not for ever: sled was seen to block there.
    pub(super) fn wait(self) {
        if self.gone.recv_timeout(super::database::PATIENCE).is_err() {
            tracing::warn!("the files of before the compaction are removed at the next start");
        } else {
            let _ = self.thread.join();
        }
    }
}

impl Copying {
    fn begin(shared: &Shared, counters: &Counters, min_free_bytes: u64) -> io::Result<Copying> {
        let folder = shared.folder.path();
        current::remove_others(folder, &current::in_force(folder)?)?;
        let (needed, free) = (room_for(counters.kept_bytes), shared.folder.free_bytes());
        if free < needed.saturating_add(min_free_bytes) {
            return Err(io::Error::other(format!(
                "the copy may take {needed} bytes and {min_free_bytes} are to stay free, but the disk has {free}: make \
                 room, or let retention remove more first"
            )));
        }
        let before_bytes = shared.folder.disk_bytes();
        let name = current::next(folder)?;
        let copy = Database::create(&folder.join(&name))?;
        Ok(Copying {
            copy,
            name,
            cursor: Key::new(),
            unsynced: 0,
            copied_bytes: 0,
            of_bytes: counters.kept_bytes,
            before_bytes,
            waiting: Vec::new(),
        })
    }

    /// Copies the next rows. `true` once there are no more.
    fn bite(&mut self, from: &sled::Tree) -> io::Result<bool> {
        let (mut batch, mut rows, mut bytes) = (Batch::default(), 0, 0);
        let mut last = None;
        for item in from.range(self.cursor.as_slice()..) {
            let (key, value) = item?;
            rows += 1;
            bytes += key.len() + value.len();
            if key.get(16).is_some_and(|tag| keys::COUNTED_AS_KEPT.contains(tag)) {
                self.copied_bytes += value.len() as u64;
            }
            last = Some(key.clone());
            batch.insert(key, value);
            if rows == MAX_ROWS || bytes >= BITE {
                break;
            }
        }
        let Some(last) = last else { return Ok(true) };
        self.cursor.clear();
        self.cursor.extend_from_slice(&last);
        self.cursor.push(0);
        self.write(batch, bytes)?;
        Ok(false)
    }

    /// Writes to the copy, and lets little of it wait for the last sync.
    fn write(&mut self, batch: Batch, bytes: usize) -> io::Result<()> {
        self.copy.db.apply_batch(batch)?;
        self.unsynced += bytes;
        if self.unsynced >= UNSYNCED {
            self.unsynced = 0;
            self.copy.db.flush()?;
            self.copy.file.sync_data()?;
        }
        Ok(())
    }

    /// Makes all of the copy durable, and looks whether it is what it should be.
    fn seal(&self, folder: &Path, counters: &Counters) -> io::Result<()> {
        self.copy.db.flush()?;
        let path = folder.join(&self.name);
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        sync_folder(&path)?;
        sync_folder(folder)?;
        let key = keys::commit();
        let read = self.copy.db.get(&key)?.and_then(|value| Counters::unseal(&key, &value).ok());
        if read.is_none_or(|(read, _)| read.commit != counters.commit) {
            return Err(io::Error::other("the copy does not have the last commit"));
        }
        Ok(())
    }

    /// Lets go of the copy, and removes it.
    fn give_up(self, folder: &Path) -> Waiting {
        let Copying { copy, name, waiting, .. } = self;
        copy.drop_within_bound();
        if let Err(error) = fs::remove_dir_all(folder.join(&name)) {
            tracing::warn!(%error, name, "what was copied is removed at the next start");
        }
        waiting
    }
}

/// What a copy of so many kept bytes may take on disk: rows beside them, and pages that were written more than once. Measured:
/// 2.2 to 2.5 times with payloads of 1 KiB and more, 3.9 times with 300 bytes.
pub(super) fn room_for(kept_bytes: u64) -> u64 {
    kept_bytes.saturating_mul(4).saturating_add(EMPTY)
}

impl Writer {
    /// Begins a compaction, or joins the one that is under way.
    pub(super) fn begin_compaction(&mut self, begun: Reply<()>, done: Reply<Compacted>) {
        if self.compaction.is_none() {
            // A database of before may still be on its way out: one at a time.
            if let Some(leaving) = self.leaving.take() {
                leaving.wait();
            }
            let counters = self.commit.counters;
            let copying = Copying::begin(&self.shared, &counters, self.config.min_free_bytes);
            match copying.and_then(|copying| self.shared.at(Step::Begun).map(|()| copying)) {
                Ok(copying) => {
                    tracing::info!(bytes = copying.of_bytes, "the store's records are copied to new files");
                    self.compaction = Some(copying);
                }
                Err(error) => {
                    let _ = begun.send(Err(Error::NotCompacted(error.to_string())));
                    return;
                }
            }
            self.show_progress();
        }
        if let Some(copying) = &mut self.compaction {
            copying.waiting.push(done);
        }
        let _ = begun.send(Ok(()));
    }

    fn show_progress(&self) {
        if let Some(Copying { copied_bytes, of_bytes, .. }) = &self.compaction {
            self.shared.compaction_is(Compaction::Running { copied_bytes: *copied_bytes, of_bytes: *of_bytes });
        }
    }

    /// Repeats a commit that is durable into the copy.
    pub(super) fn repeat(&mut self, batch: Batch, bytes: usize) {
        let Some(copying) = &mut self.compaction else { return };
        if let Err(error) = copying.write(batch, bytes) {
            self.give_compaction_up(&error);
        }
    }

    /// Gets on with the compaction by a bite. Nothing waits to be committed now.
    pub(super) fn compact_on(&mut self) {
        let (Some(copying), Some(database)) = (&mut self.compaction, &self.database) else { return };
        let free = self.shared.folder.free_bytes();
        let bitten = match free < self.config.min_free_bytes {
            true => Err(io::Error::other(format!("the disk has no more than {free} bytes free"))),
            false => copying.bite(&database.db),
        };
        match bitten.and_then(|all| self.shared.at(Step::Bitten).map(|()| all)) {
            Ok(false) => self.show_progress(),
            Ok(true) => self.switch_over(),
            Err(error) => self.give_compaction_up(&error),
        }
    }

    /// The short last step.
    fn switch_over(&mut self) {
        let Some(copying) = &self.compaction else { return };
        let folder = self.shared.folder.path();
        let sealed = self
            .shared
            .at(Step::Copied)
            .and_then(|()| copying.seal(folder, &self.commit.counters))
            .and_then(|()| self.shared.at(Step::Synced));
        if let Err(error) = sealed {
            return self.give_compaction_up(&error);
        }
        let switched = current::switch(folder, &copying.name);
        let Some(Copying { copy, name, before_bytes, waiting, .. }) = self.compaction.take() else { return };
        if let Err(error) = switched {
            // Which of the two is in force cannot be known now: both are let go of, and both stay. Opening will say.
            copy.drop_within_bound();
            self.shared.compaction_is(Compaction::Failed(error.to_string()));
            let failed = |done: Reply<Compacted>| drop(done.send(Err(Error::NotCompacted(error.to_string()))));
            waiting.into_iter().for_each(failed);
            return self.fail(&error);
        }
        self.shared.tree_is_now(&copy.db);
        if let Some(old) = self.database.replace(copy) {
            self.leaving = leave(Arc::clone(&self.shared), old, name, before_bytes, waiting);
        }
    }

    /// Ends a compaction that did not come to its end. All is as it was.
    pub(super) fn give_compaction_up(&mut self, error: &io::Error) {
        let Some(copying) = self.compaction.take() else { return };
        tracing::warn!(%error, "the store was not compacted, and is as it was");
        for done in copying.give_up(self.shared.folder.path()) {
            let _ = done.send(Err(Error::NotCompacted(error.to_string())));
        }
        self.shared.compaction_is(Compaction::Failed(error.to_string()));
    }
}

/// Drops the old database and removes its files, on a thread of its own, and tells those who wait.
fn leave(shared: Arc<Shared>, old: Database, name: String, before_bytes: u64, waiting: Waiting) -> Option<Leaving> {
    let (done, gone) = mpsc::channel();
    let work = move || {
        let path: PathBuf = old.path.clone();
        if let Err(error) = shared.at(Step::Switched) {
            tracing::warn!(%error, "a test stopped here");
            return;
        }
        drop(old);
        if let Err(error) = fs::remove_dir_all(&path).and_then(|()| sync_folder(shared.folder.path())) {
            tracing::warn!(%error, "the files of before the compaction are removed at the next start");
        }
        let compacted = Compacted { before_bytes, after_bytes: shared.folder.disk_bytes() };
        let Compacted { before_bytes, after_bytes } = compacted;
        tracing::info!(name, before_bytes, after_bytes, "the store is compacted");
        let _ = shared.at(Step::Removed);
        shared.compaction_is(Compaction::Done(compacted));
        waiting.into_iter().for_each(|reply| drop(reply.send(Ok(compacted))));
        let _ = done.send(());
    };
    let thread = std::thread::Builder::new().name("ringback-compact".into()).spawn(work);
    thread.ok().map(|thread| Leaving { thread, gone })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::delivery::{Lane, State};
    use crate::id::{ApplicationId, EndpointId, MessageId};
    use crate::message::Routing;
    use crate::store::sled::{SledConfig, SledStore};
    use crate::store::{Enqueue, Enqueued, Lease, MessageQuery, Prune, Settled, Settlement, Store};
    use crate::time::Timestamp;

    fn lane() -> Lane {
        Lane { application: ApplicationId::from_bytes([1; 16]), endpoint: EndpointId::from_bytes([2; 16]) }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    async fn open(folder: &Path) -> SledStore {
        SledStore::open(SledConfig::new(folder)).await.unwrap()
    }

    /// Stores messages from this number on; some have a payload of several parts.
    async fn send(store: &SledStore, numbers: std::ops::Range<u64>) -> Vec<MessageId> {
        let (mut ids, mut batch) = (Vec::new(), Vec::new());
        for number in numbers {
            let id = MessageId::from_parts(at(number), u128::from(number));
            let payload = vec![number as u8; if number.is_multiple_of(50) { 70_000 } else { 500 }];
            let routing = Routing::To(vec![lane().endpoint]);
            let message = Arc::new(crate::testing::message(lane().application, id, at(number), payload, routing));
            batch.push(Enqueue { message, routed_over: None, idempotency: None });
            ids.push(id);
        }
        assert_eq!(store.enqueue(batch).await.unwrap(), vec![Enqueued::Stored; ids.len()]);
        ids
    }

    async fn claim(store: &SledStore, wanted: usize) -> Vec<Lease> {
        let mut leases = Vec::new();
        while leases.len() < wanted {
            leases.extend(store.claim(at(50_000), vec![(lane(), wanted - leases.len())], at(90_000)).await.unwrap());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        leases
    }

    async fn deliver(store: &SledStore, lease: Lease) -> Settled {
        let state = State::Delivered { at: at(50_500) };
        let batch = Arc::new(vec![Settlement { lease, attempt: None, state, lets_pass: false }]);
        store.settle(batch).await.unwrap().remove(0)
    }

    /// Every message that is there, with its payload.
    async fn kept(store: &SledStore) -> BTreeSet<MessageId> {
        let (mut found, mut after) = (BTreeSet::new(), None);
        loop {
            let query = MessageQuery { limit: 250, after, ..MessageQuery::default() };
            let page = store.messages(lane().application, query).await.unwrap();
            for message in &page.items {
                assert!(!message.payload.is_empty() && message.payload.iter().all(|byte| *byte == message.payload[0]));
                found.insert(message.id);
            }
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    /// The databases in a folder.
    fn databases(folder: &Path) -> BTreeSet<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("sled")).collect()
    }

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => copy_folder(&entry.path(), &to.join(entry.file_name())),
                false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
            }
        }
    }

    fn stop_at(store: &SledStore, stop: impl FnMut(Step) -> io::Result<()> + Send + 'static) {
        *store.shared.stop.lock().unwrap() = Some(Box::new(stop));
    }

    async fn compact(store: &SledStore) -> Result<Compacted, Error> {
        store.compact().await?.await
    }

    #[tokio::test]
    async fn the_space_of_what_is_gone_comes_back_and_all_else_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let mut levels = Vec::new();
        for round in 0..8 {
            send(&store, round * 2_000..(round + 1) * 2_000).await;
            let state = State::Delivered { at: at(50_500) };
            let ends = claim(&store, 2_000).await.into_iter().map(|lease| Settlement {
                lease,
                attempt: None,
                state,
                lets_pass: false,
            });
            store.settle(Arc::new(ends.collect())).await.unwrap();
            let everything = Prune { now: at(99_000), delivered_before: at(99_000), limit: 10_000, ..Prune::default() };
            assert_eq!(store.prune(everything).await.unwrap().removed, 2_000);
            levels.push(store.health().await.unwrap().disk_bytes);
        }
        // What was removed is used again: the files level off, and do not grow with all that ever was.
        assert!(levels[7] < levels[2] * 2, "{levels:?}");
        let ids: BTreeSet<_> = send(&store, 20_000..20_200).await.into_iter().collect();
        let leases = claim(&store, 10).await;
        let before = store.health().await.unwrap();
        let Compacted { before_bytes, after_bytes } = compact(&store).await.unwrap();
        assert!(after_bytes * 2 < before_bytes, "{before_bytes} became {after_bytes}");
        assert!(after_bytes <= room_for(before.kept_bytes), "{after_bytes} for {} kept", before.kept_bytes);
        let after = store.health().await.unwrap();
        assert_eq!(after.disk_bytes, after_bytes);
        assert_eq!(after.compaction, Some(Compaction::Done(Compacted { before_bytes, after_bytes })));
        assert_eq!((after.open, after.leased, after.kept_bytes), (before.open, 10, before.kept_bytes));
        assert_eq!(kept(&store).await, ids);
        for lease in leases {
            assert_eq!(deliver(&store, lease).await, Settled::Done, "a lease of before holds");
        }
        assert_eq!(databases(folder.path()), BTreeSet::from(["sled.1".to_owned()]));
        compact(&store).await.unwrap();
        store.close().await.unwrap();
        let store = open(folder.path()).await;
        assert_eq!((kept(&store).await, store.health().await.unwrap().open), (ids, 190));
        assert!(store.health().await.unwrap().warnings.is_empty(), "no acknowledged commit is missing");
        assert_eq!(databases(folder.path()), BTreeSet::from(["sled.2".to_owned()]));
        store.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_meanwhile_is_in_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(open(folder.path()).await);
        let mut ids: BTreeSet<_> = send(&store, 0..1_000).await.into_iter().collect();
        let leases = claim(&store, 500).await;
        // Each bite waits until something has been written behind the cursor and before it.
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let bites = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&bites);
        stop_at(&store, move |step| {
            if step == Step::Bitten {
                *counted.lock().unwrap() += 1;
                let _ = gate.recv_timeout(Duration::from_secs(5));
            }
            Ok(())
        });
        let end = store.compact().await.unwrap();
        let joined = store.compact().await.unwrap();
        for (number, lease) in leases.into_iter().enumerate() {
            go.send(()).unwrap();
            ids.extend(send(&store, 2_000 + number as u64..2_001 + number as u64).await);
            assert_eq!(deliver(&store, lease).await, Settled::Done);
        }
        drop(go);
        let compacted = end.await.unwrap();
        assert_eq!(joined.await.unwrap(), compacted, "one that came meanwhile joins it");
        assert!(*bites.lock().unwrap() > 4, "{bites:?} bites");
        assert_eq!((kept(&store).await, store.health().await.unwrap().open), (ids.clone(), 1_000));
        store.close().await.unwrap();
        let store = open(folder.path()).await;
        assert_eq!((kept(&store).await, store.health().await.unwrap().open), (ids, 1_000));
        assert!(store.health().await.unwrap().warnings.is_empty());
        store.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_folder_cut_off_at_any_step_opens_with_one_whole_database() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("store");
        let store = open(&folder).await;
        let ids: BTreeSet<_> = send(&store, 0..600).await.into_iter().collect();
        let images = Arc::new(Mutex::new(Vec::new()));
        let (from, to, taken) = (folder.clone(), dir.path().to_owned(), Arc::clone(&images));
        stop_at(&store, move |step| {
            let mut taken = taken.lock().unwrap();
            let image = to.join(format!("image-{}", taken.len()));
            copy_folder(&from, &image);
            taken.push((step, image));
            Ok(())
        });
        compact(&store).await.unwrap();
        store.close().await.unwrap();
        let images = std::mem::take(&mut *images.lock().unwrap());
        let steps: Vec<Step> = images.iter().map(|(step, _)| *step).collect();
        for step in [Step::Begun, Step::Bitten, Step::Copied, Step::Synced, Step::Switched, Step::Removed] {
            assert!(steps.contains(&step), "{steps:?}");
        }
        for (step, image) in images {
            let store = open(&image).await;
            assert_eq!((kept(&store).await, store.health().await.unwrap().open), (ids.clone(), 600), "{step:?}");
            assert!(store.health().await.unwrap().warnings.is_empty(), "{step:?}");
            let switched = matches!(step, Step::Switched | Step::Removed);
            let expected = if switched { "sled.1" } else { "sled" };
            assert_eq!(databases(&image), BTreeSet::from([expected.to_owned()]), "{step:?}");
            store.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_fails_leaves_all_as_it_was_and_the_next_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let mut ids: BTreeSet<_> = send(&store, 0..300).await.into_iter().collect();
        for (number, failing) in [Step::Begun, Step::Bitten, Step::Copied, Step::Synced].into_iter().enumerate() {
            stop_at(&store, move |step| if step == failing { Err(io::Error::other("the disk broke")) } else { Ok(()) });
            let error = compact(&store).await.unwrap_err();
            assert_eq!(error, Error::NotCompacted("the disk broke".into()), "{failing:?}");
            let number = number as u64;
            ids.extend(send(&store, 1_000 + number..1_001 + number).await);
            assert_eq!(kept(&store).await, ids, "{failing:?}");
        }
        *store.shared.stop.lock().unwrap() = None;
        compact(&store).await.unwrap();
        assert_eq!(kept(&store).await, ids);
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn without_room_for_the_copy_it_is_refused_and_nothing_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let ids: BTreeSet<_> = send(&store, 0..10).await.into_iter().collect();
        store.close().await.unwrap();
        let config = SledConfig { min_free_bytes: 1 << 60, ..SledConfig::new(folder.path()) };
        let store = SledStore::open(config).await.unwrap();
        let Err(Error::NotCompacted(why)) = compact(&store).await else { panic!("there is no such disk") };
        assert!(why.contains("make room"), "{why}");
        assert_eq!((kept(&store).await, store.health().await.unwrap().compaction), (ids, None));
        assert_eq!(databases(folder.path()), BTreeSet::from(["sled".to_owned()]));
        store.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_gives_it_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let ids: BTreeSet<_> = send(&store, 0..600).await.into_iter().collect();
        stop_at(&store, |_| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        });
        let end = store.compact().await.unwrap();
        store.close().await.unwrap();
        assert!(matches!(end.await, Err(Error::NotCompacted(_))));
        let store = open(folder.path()).await;
        assert_eq!(kept(&store).await, ids);
        assert_eq!(databases(folder.path()), BTreeSet::from(["sled".to_owned()]));
        store.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_whose_switch_fails_is_decided_by_the_folder_and_the_store_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let mut ids: BTreeSet<_> = send(&store, 0..100).await.into_iter().collect();
        let draft = folder.path().join("CURRENT.new");
        let in_the_way = draft.clone();
        stop_at(&store, move |step| if step == Step::Synced { fs::create_dir(&in_the_way) } else { Ok(()) });
        assert!(matches!(compact(&store).await, Err(Error::NotCompacted(_))));
        fs::remove_dir(&draft).unwrap();
        // It opens its files again, and finds the database that was in force.
        while store.health().await.unwrap().failed.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ids.extend(send(&store, 1_000..1_010).await);
        assert_eq!(kept(&store).await, ids);
        *store.shared.stop.lock().unwrap() = None;
        compact(&store).await.unwrap();
        assert_eq!(kept(&store).await, ids);
        assert_eq!(databases(folder.path()).len(), 1);
        store.close().await.unwrap();
    }
}
