//! The store's thread: the only writer.
//!
//! It takes whatever waits in its channel, folds it into one commit, makes that durable, shows the lanes what
//! changed, and answers everybody. It never waits to fill a commit. After a failed write nothing is
//! acknowledged until the database has been opened again, which it tries by itself once there is room.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::delivery::{CancelReason, Lane};
use crate::id::ApplicationId;
use crate::store::{
    Cancel, Compacted, Enqueue, Enqueued, Erase, Erased, Error, Fence, Prune, Pruned, Put, RecordKey, Replay, Replayed,
    Settled, Settlement,
};
use crate::time::Timestamp;

use super::SledConfig;
use super::admission::QueuedBytes;
use super::commit::Commit;
use super::compact::{Copying, Leaving};
use super::database::Database;
use super::expunge::Target;
use super::keys::{self, Place};
use super::lanes::Entry;
use super::open_bytes::OpenBytes;
use super::rows::{self, Counters, RecordRow};
use super::shared::Shared;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the thread can be asked.
pub(super) enum Request {
    Enqueue(Vec<Enqueue>, QueuedBytes, Reply<Vec<Enqueued>>),
    Settle(Arc<Vec<Settlement>>, Reply<Vec<Settled>>),
    Replay(Vec<Replay>, Timestamp, Option<Put>, Reply<Option<Vec<Replayed>>>),
    Cancel(Cancel, CancelReason, Timestamp, Reply<usize>),
    Expunge(Target, Reply<bool>),
    Put(Vec<Put>, Reply<bool>),
    Prune(Prune, Reply<Pruned>),
    Erase(ApplicationId, Erase, Timestamp, Reply<Erased>),
    /// Is answered when it has begun, and at its end.
    Compact(Reply<()>, Reply<Compacted>),
    Fill(Lane),
    /// Damaged rows were met: see `Shared::take_damage`.
    Tidy,
    Close(Reply<()>),
}

impl Request {
    fn refuse(self, error: Error) {
        match self {
            Request::Enqueue(.., reply) => drop(reply.send(Err(error))),
            Request::Settle(_, reply) => drop(reply.send(Err(error))),
            Request::Replay(.., reply) => drop(reply.send(Err(error))),
            Request::Cancel(.., reply) => drop(reply.send(Err(error))),
            Request::Expunge(_, reply) => drop(reply.send(Err(error))),
            Request::Put(_, reply) => drop(reply.send(Err(error))),
            Request::Prune(_, reply) => drop(reply.send(Err(error))),
            Request::Erase(.., reply) => drop(reply.send(Err(error))),
            Request::Compact(begun, _) => drop(begun.send(Err(error))),
            Request::Close(reply) => drop(reply.send(Err(error))),
            Request::Fill(_) | Request::Tidy => {}
        }
    }
}

/// What the lanes are shown once a commit is durable.
pub(super) enum Effect {
    EndLease(Fence),
    Insert(Lane, Place, Entry),
    Remove(Lane, Place),
    Closed(Lane, bool),
    DropCached(Lane, Place),
}

type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) config: SledConfig,
    /// `None` after a failed write, until it has been opened again.
    pub(super) database: Option<Database>,
    pub(super) commit: Commit,
    pub(super) open_bytes: OpenBytes,
    pub(super) effects: Vec<Effect>,
    /// Leases that this commit ends: the lanes do not know yet.
    pub(super) settled: HashSet<Fence>,
    answers: Vec<Answer>,
    /// Versions of endpoint lists, which every send compares.
    list_versions: HashMap<RecordKey, u64>,
    pub(super) disk: super::admission::DiskWatch,
    /// The compaction that is under way.
    pub(super) compaction: Option<Copying>,
    /// What the last one took the place of.
    pub(super) leaving: Option<Leaving>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, config: SledConfig, opened: (Database, Counters, OpenBytes)) -> Self {
        let (database, counters, open_bytes) = opened;
        Writer {
            shared,
            config,
            database: Some(database),
            commit: Commit::over(counters),
            open_bytes,
            effects: Vec::new(),
            settled: HashSet::new(),
            answers: Vec::new(),
            list_versions: HashMap::new(),
            disk: super::admission::DiskWatch::default(),
            compaction: None,
            leaving: None,
        }
    }

    /// Serves requests until it is told to close, or every handle is gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        while closing.is_none() {
            if self.database.is_none() {
                closing = self.wait_for_room(&mut requests);
                continue;
            }
            let mut next = match self.compaction {
                // It gets on between requests, and waits for none.
                Some(_) => match requests.try_recv() {
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                    first => first.ok(),
                },
                None => match requests.blocking_recv() {
                    Some(first) => Some(first),
                    None => break,
                },
            };
            while let Some(request) = next {
                if let Request::Close(reply) = request {
                    closing = Some(reply);
                    break;
                }
                self.serve(request);
                if self.commit.is_full() || self.database.is_none() {
                    break;
                }
                next = requests.try_recv().ok();
            }
            self.finish();
            self.tidy();
            if closing.is_none() {
                self.compact_on();
            }
        }
        requests.close();
        self.give_compaction_up(&io::Error::other("the store was closed"));
        self.shared.tree_is_gone();
        if let Some(database) = self.database.take() {
            database.drop_within_bound();
        }
        if let Some(leaving) = self.leaving.take() {
            leaving.wait();
        }
        self.shared.folder.release();
        if let Some(reply) = closing {
            let _ = reply.send(Ok(()));
        }
        while let Ok(request) = requests.try_recv() {
            request.refuse(Error::Closed);
        }
    }

    /// Sets aside what was found damaged.
    fn tidy(&mut self) {
        while self.database.is_some()
            && let Some(key) = self.shared.take_damage()
        {
            let Some(tree) = self.database.as_ref().map(|database| (*database.db).clone()) else { return };
            if let Err(error) = self.set_aside(&tree, key) {
                self.fail(&error);
            }
        }
    }

    /// Works out what a request writes. Its answer waits for the commit.
    fn serve(&mut self, request: Request) {
        let Some(tree) = self.database.as_ref().map(|database| (*database.db).clone()) else {
            return request.refuse(self.shared.unavailable());
        };
        match request {
            Request::Enqueue(items, _queued, reply) => match self.admit(&items) {
                Err(error) => drop(reply.send(Err(error))),
                Ok(()) => self.each(items, reply, |writer, item| writer.enqueue(&tree, &item)),
            },
            Request::Settle(batch, reply) => {
                let places: Vec<usize> = (0..batch.len()).collect();
                self.each(places, reply, |writer, place| writer.settle(&tree, &batch[place]));
            }
            Request::Replay(batch, now, record, reply) => {
                self.alone(reply, |writer| writer.replay(&tree, &batch, now, record));
            }
            Request::Cancel(what, reason, now, reply) => {
                self.alone(reply, |writer| writer.cancel(&tree, &what, reason, now));
            }
            Request::Expunge(target, reply) => self.alone(reply, |writer| writer.expunge(&tree, target)),
            Request::Put(batch, reply) => self.alone(reply, |writer| writer.put(&tree, &batch)),
            Request::Prune(prune, reply) => self.alone(reply, |writer| writer.prune(&tree, &prune)),
            Request::Erase(application, what, now, reply) => {
                self.alone(reply, |writer| writer.erase(&tree, application, &what, now));
            }
            Request::Compact(begun, done) => {
                self.finish();
                match self.database {
                    Some(_) => self.begin_compaction(begun, done),
                    None => drop(begun.send(Err(self.shared.unavailable()))),
                }
            }
            Request::Fill(lane) => {
                // A fill reads rows; what this commit has not written yet would be missed.
                self.finish();
                if let Err(error) = self.fill(&tree, lane) {
                    self.fail(&error);
                }
            }
            Request::Tidy => {}
            Request::Close(_) => {}
        }
    }

    /// Serves a request of many items, which may be spread over several commits between its items.
    fn each<I, T: Send + 'static>(
        &mut self,
        items: Vec<I>,
        reply: Reply<Vec<T>>,
        mut one: impl FnMut(&mut Self, I) -> io::Result<T>,
    ) {
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            match one(self, item) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.fail(&error);
                    let _ = reply.send(Err(self.shared.unavailable()));
                    return;
                }
            }
            if self.commit.is_full() {
                self.finish();
                if self.database.is_none() {
                    let _ = reply.send(Err(self.shared.unavailable()));
                    return;
                }
            }
        }
        self.answers.push(Box::new(move |written| drop(reply.send(written.map(|()| results)))));
    }

    /// Serves a request that reads what earlier ones wrote: in a commit of its own.
    fn alone<T: Send + 'static>(&mut self, reply: Reply<T>, work: impl FnOnce(&mut Self) -> io::Result<T>) {
        self.finish();
        if self.database.is_none() {
            let _ = reply.send(Err(self.shared.unavailable()));
            return;
        }
        match work(self) {
            Ok(result) => {
                self.answers.push(Box::new(move |written| drop(reply.send(written.map(|()| result)))));
                self.finish();
            }
            Err(error) => {
                self.fail(&error);
                let _ = reply.send(Err(self.shared.unavailable()));
            }
        }
    }

    /// Writes the commit, makes it durable, shows the lanes, and answers.
    pub(super) fn finish(&mut self) {
        let copied = match self.write() {
            Ok(copied) => copied,
            Err(error) => return self.fail(&error),
        };
        for answer in self.answers.drain(..) {
            answer(Ok(()));
        }
        if let Some((batch, bytes)) = copied {
            self.repeat(batch, bytes);
        }
    }

    /// Gives what it wrote, if that is to be repeated into a copy.
    fn write(&mut self) -> io::Result<Option<(sled::Batch, usize)>> {
        if self.commit.is_empty() {
            return Ok(None);
        }
        let Some(database) = &self.database else { return Ok(None) };
        let open_bytes = self.open_bytes.write_to(&mut self.commit);
        let counters = self.commit.counters;
        let commit = std::mem::replace(&mut self.commit, Commit::over(counters));
        let mut copied = self.compaction.is_some().then(|| commit.copied());
        let counters = commit.write(&database.db, &database.file, &self.shared.folder)?;
        if let Some((batch, _)) = &mut copied {
            let key = keys::commit();
            let value = counters.seal(&key);
            batch.insert(key, value);
        }
        self.commit.counters = counters;
        self.shared.committed(&counters, open_bytes);
        if !self.effects.is_empty() {
            self.shared.show(self.effects.drain(..));
        }
        self.settled.clear();
        Ok(copied)
    }

    /// After a failed write nothing that sled holds can be trusted to be on disk: let go of it.
    pub(super) fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the store cannot write; it will try to open its files again");
        self.give_compaction_up(error);
        self.shared.failed(error);
        self.effects.clear();
        self.settled.clear();
        self.commit = Commit::over(self.commit.counters);
        for answer in self.answers.drain(..) {
            answer(Err(self.shared.unavailable()));
        }
        if let Some(database) = self.database.take() {
            database.drop_within_bound();
        }
    }

    /// Refuses everything until the database is open again. Gives the reply of a close that came meanwhile.
    fn wait_for_room(&mut self, requests: &mut mpsc::Receiver<Request>) -> Option<Reply<()>> {
        const PAUSE: Duration = Duration::from_millis(50);
        const TRY_EVERY: u32 = 10;
        for _ in 0..TRY_EVERY {
            loop {
                match requests.try_recv() {
                    Ok(Request::Close(reply)) => return Some(reply),
                    Ok(request) => request.refuse(self.shared.unavailable()),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        let (reply, _) = oneshot::channel();
                        return Some(reply);
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
        if self.shared.folder.free_bytes() >= self.config.min_free_bytes {
            self.reopen();
        }
        None
    }

    fn reopen(&mut self) {
        match Database::open(&self.shared.folder, self.config.max_cached_bytes) {
            Ok(opened) => {
                tracing::info!("the store writes again");
                self.commit = Commit::over(opened.counters);
                self.list_versions.clear();
                let (database, open_bytes) = self.shared.reopened(opened);
                self.open_bytes = open_bytes;
                self.database = Some(database);
            }
            Err(error) => tracing::warn!(%error, "the store still cannot be opened"),
        }
    }

    /// The version of an endpoint list, 0 if there is none.
    pub(super) fn list_version(&mut self, tree: &sled::Tree, name: &RecordKey) -> io::Result<u64> {
        if let Some(version) = self.list_versions.get(name) {
            return Ok(*version);
        }
        let key = keys::record(name);
        let version = match tree.get(&key)? {
            Some(value) => rows::unseal::<RecordRow>(&key, &value).map_or(0, |row| row.version),
            None => 0,
        };
        self.list_versions.insert(name.clone(), version);
        Ok(version)
    }

    pub(super) fn forget_list_version(&mut self, name: &RecordKey) {
        self.list_versions.remove(name);
    }
}
