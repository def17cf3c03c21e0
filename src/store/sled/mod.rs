//! The embedded store: one sled tree, one thread that writes, two that read.
//!
//! ```text
//!  callers ──▶ channel ──▶ writer: fold ▶ batch ▶ flush ▶ fdatasync ▶ show the lanes ▶ answer all
//!  claims  ──▶ lanes (memory)      ▲ fills windows
//!  looks   ──▶ channel ──▶ reader: a few rows, by their keys
//!  walks   ──▶ channel ──▶ walker: lists and counts, over as many rows as there are
//! ```
//!
//! Invariants: only the writer writes; nothing is acknowledged before the sync; after a failed write nothing
//! is acknowledged until the database has been opened again; claims never wait for the disk; the payload of a
//! message is written once.
//!
//! `docs/adr/` has the reasons: why sled 0.34, why an `fdatasync` of our own, how the rows were laid out.

mod admission;
mod cancel;
mod commit;
mod compact;
mod counts;
mod current;
mod database;
mod erase;
mod expunge;
mod folder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod intake;
mod keys;
mod lanes;
mod open_bytes;
mod order;
mod prune;
mod queries;
mod replay;
mod rows;
mod shared;
mod upkeep;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::store::{
    Answer, AttemptQuery, Cancel, Compacted, CountQuery, Counts, DeadQuery, DueLanes, Enqueue, Enqueued, Erase, Erased,
    Error, Expunge, Health, Lease, MAX_OPEN_BYTES_PER_APPLICATION, MessageQuery, Page, Prune, Pruned, Put, Record,
    RecordKey, RecordKind, Replay, Replayed, Settled, Settlement, Store, Walk,
};
use crate::time::Timestamp;

use admission::Queued;
use counts::Counting;
use database::{Database, Opened};
use expunge::Target;
use folder::Folder;
use queries::Look;
use shared::Shared;
use writer::{Reply, Request, Writer};

/// How many requests may wait for the writer: senders beyond them are told that the store is overloaded.
const WAITING_REQUESTS: usize = 8192;
/// How many queries may wait for a thread that reads: further ones wait for a place.
const WAITING_QUERIES: usize = 256;

/// The settings of a [`SledStore`].
#[derive(Debug, Clone)]
pub struct SledConfig {
    /// The folder. It is made if it is not there.
    pub path: PathBuf,
    /// Sends are refused while this many bytes of payload wait to be delivered (each delivery counts its
    /// message's). Default: 8 GiB.
    pub max_open_bytes: u64,
    /// A send is refused by itself that would take the same of its application beyond this many bytes. Default: 1 GiB.
    pub max_open_bytes_per_application: u64,
    /// Sends are refused while this many bytes of messages and attempts are kept; the folder takes up to
    /// six times as much. Default: 64 GiB.
    pub max_kept_bytes: u64,
    /// Sends are refused while less than this is free on the file system, so that what was accepted can still
    /// be settled. Default: 256 MiB.
    pub min_free_bytes: u64,
    /// Fresh messages are kept in memory up to this many bytes, and go out without being read back.
    /// Default: 32 MiB.
    pub max_cached_bytes: usize,
}

impl SledConfig {
    /// The defaults, for this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SledConfig {
            path: path.into(),
            max_open_bytes: 8 << 30,
            max_open_bytes_per_application: MAX_OPEN_BYTES_PER_APPLICATION,
            max_kept_bytes: 64 << 30,
            min_free_bytes: 256 << 20,
            max_cached_bytes: 32 << 20,
        }
    }
}

type Query = Box<dyn FnOnce() + Send>;

/// The ways to the threads that read. A list whose filter fits little may walk over all that an application has: what
/// asks for a few rows does not wait for that.
#[derive(Clone)]
struct Readers {
    looks: mpsc::Sender<Query>,
    walks: mpsc::Sender<Query>,
}

fn start_reader(name: &str) -> std::io::Result<(mpsc::Sender<Query>, JoinHandle<()>)> {
    let (queries, mut receiver) = mpsc::channel::<Query>(WAITING_QUERIES);
    let reader = std::thread::Builder::new().name(name.into()).spawn(move || {
        while let Some(query) = receiver.blocking_recv() {
            query();
        }
    })?;
    Ok((queries, reader))
}

/// The embedded store. See the [module](self).
pub struct SledStore {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    queued: Queued,
    queries: Mutex<Option<Readers>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SledStore {
    /// Opens the store of a folder, or makes it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::NewerFormat`] if a newer version wrote it,
    /// [`Error::Open`] if it cannot be read or written.
    pub async fn open(config: SledConfig) -> Result<SledStore, Error> {
        let (reply, opened) = oneshot::channel();
        let folder = config.path.display().to_string();
        let failed = |problem: String| Error::Open { folder: folder.clone(), problem };
        // Opening reads files, so it has the writer's thread to itself from the start.
        let (requests, receiver) = mpsc::channel(WAITING_REQUESTS);
        let writer = std::thread::Builder::new()
            .name("ringback-store".into())
            .spawn(move || match open(&config) {
                Ok((shared, writer)) => {
                    if reply.send(Ok(shared)).is_ok() {
                        writer.run(receiver);
                    }
                }
                Err(error) => drop(reply.send(Err(error))),
            })
            .map_err(|error| failed(error.to_string()))?;
        let shared = opened.await.map_err(|_| failed("the store's thread ended".into()))??;
        let (looks, reader) = start_reader("ringback-reader").map_err(|error| failed(error.to_string()))?;
        let (walks, walker) = start_reader("ringback-walker").map_err(|error| failed(error.to_string()))?;
        let store = SledStore {
            shared,
            requests,
            queued: Queued::default(),
            queries: Mutex::new(Some(Readers { looks, walks })),
            threads: Mutex::new(vec![writer, reader, walker]),
        };
        store.ask_to_fill();
        Ok(store)
    }

    /// Asks the writer; waits for a place in its channel.
    fn ask<T: Send + 'static>(&self, request: impl FnOnce(Reply<T>) -> Request + Send + 'static) -> Answer<'_, T> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.requests.send(request(reply)).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        })
    }

    /// Asks the reader.
    fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(Look<'_>) -> sled::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        self.read(|readers| readers.looks, query)
    }

    /// Asks the walker, for what may go over many rows.
    fn ask_walker<T: Send + 'static>(
        &self,
        query: impl FnOnce(Look<'_>) -> sled::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        self.read(|readers| readers.walks, query)
    }

    fn read<T: Send + 'static>(
        &self,
        which: impl FnOnce(Readers) -> mpsc::Sender<Query> + Send + 'static,
        query: impl FnOnce(Look<'_>) -> sled::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move {
            self.shared.tree()?;
            let queries = self.queries.lock().expect("no code panics while it holds it").clone().map(which);
            let (reply, answer) = oneshot::channel();
            let shared = Arc::clone(&self.shared);
            let run = move || {
                // Only now: a compaction may have put another one in its place while this query waited.
                let found = shared.tree().and_then(|tree| {
                    let found = query(Look { tree: &tree, shared: &shared });
                    found.map_err(|error| Error::Unavailable(error.to_string()))
                });
                let _ = reply.send(found);
            };
            queries.ok_or(Error::Closed)?.send(Box::new(run)).await.map_err(|_| Error::Closed)?;
            let found = answer.await.map_err(|_| Error::Closed)?;
            if self.shared.has_damage() {
                // If the channel is full, the writer is busy, and looks for damage by itself.
                let _ = self.requests.try_send(Request::Tidy);
            }
            found
        })
    }

    /// Asks the writer to fill the windows that run low. A full channel is asked again at the next claim.
    fn ask_to_fill(&self) {
        let lanes = self.shared.lanes().take_hungry();
        for lane in lanes {
            if self.requests.try_send(Request::Fill(lane)).is_err() {
                self.shared.lanes().not_filled(lane);
            }
        }
    }
}

fn open(config: &SledConfig) -> Result<(Arc<Shared>, Writer), Error> {
    let folder = Folder::open(&config.path)?;
    let opened = Database::open(&folder, config.max_cached_bytes)?;
    for warning in &opened.warnings {
        tracing::error!(folder = %config.path.display(), warning, "the store was opened with a warning");
    }
    let tree = (*opened.database.db).clone();
    let Opened { database, counters, open_bytes, lanes, warnings } = opened;
    let shared = Arc::new(Shared::new(folder, tree, counters, &open_bytes, lanes, warnings));
    let writer = Writer::new(Arc::clone(&shared), config.clone(), (database, counters, open_bytes));
    Ok((shared, writer))
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("path", &self.shared.folder.path()).finish_non_exhaustive()
    }
}

impl Store for SledStore {
    fn enqueue(&self, batch: Vec<Enqueue>) -> Answer<'_, Vec<Enqueued>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let queued = self.queued.take(&batch)?;
            self.requests.try_send(Request::Enqueue(batch, queued, reply)).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded("too many sends wait for the disk".into()),
                mpsc::error::TrySendError::Closed(_) => Error::Closed,
            })?;
            answer.await.map_err(|_| Error::Closed)?
        })
    }

    fn due_lanes(&self, now: Timestamp, after: Option<Lane>, limit: usize) -> Answer<'_, DueLanes> {
        let open = self.shared.tree().map(|_| ());
        let due = open.map(|()| self.shared.lanes().due(now, after, limit));
        self.ask_to_fill();
        Box::pin(std::future::ready(due))
    }

    fn claim(&self, now: Timestamp, wanted: Vec<(Lane, usize)>, until: Timestamp) -> Answer<'_, Vec<Lease>> {
        let leases = self.shared.tree().map(|_| {
            let mut leases = Vec::new();
            let mut lanes = self.shared.lanes();
            for (lane, most) in wanted {
                lanes.claim(now, lane, most, until, &mut leases);
            }
            leases
        });
        self.ask_to_fill();
        Box::pin(std::future::ready(leases))
    }

    fn settle<'a>(&'a self, batch: Arc<Vec<Settlement>>) -> Answer<'a, Vec<Settled>> {
        self.ask(move |reply| Request::Settle(batch, reply))
    }

    fn replay(&self, batch: Vec<Replay>, now: Timestamp, record: Option<Put>) -> Answer<'_, Option<Vec<Replayed>>> {
        self.ask(move |reply| Request::Replay(batch, now, record, reply))
    }

    fn cancel(&self, what: Cancel, reason: CancelReason, now: Timestamp) -> Answer<'_, usize> {
        self.ask(move |reply| Request::Cancel(what, reason, now, reply))
    }

    fn expunge(&self, application: ApplicationId, what: Expunge) -> Answer<'_, bool> {
        Box::pin(async move {
            let target = match what {
                Expunge::Payload(id) => Some(Target::Payload(application, id)),
                // The reader looks for it, so that the writer need not.
                Expunge::Response(id) => {
                    let lane = self.look(move |look| look.lane_of_attempt(application, id)).await?;
                    lane.map(|lane| Target::Response(lane, id))
                }
            };
            match target {
                Some(target) => self.ask(move |reply| Request::Expunge(target, reply)).await,
                None => Ok(false),
            }
        })
    }

    fn message(&self, application: ApplicationId, id: MessageId) -> Answer<'_, Option<Arc<Message>>> {
        self.look(move |look| look.message(application, id))
    }

    fn message_by_event_id(&self, application: ApplicationId, event_id: String) -> Answer<'_, Option<MessageId>> {
        self.look(move |look| look.message_by_event_id(application, &event_id))
    }

    fn messages(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Page<Arc<Message>, MessageId>> {
        self.ask_walker(move |look| look.messages(application, &query))
    }

    fn walk(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Walk> {
        self.ask_walker(move |look| look.walk(application, &query))
    }

    fn deliveries(&self, application: ApplicationId, message: MessageId) -> Answer<'_, Vec<Delivery>> {
        self.look(move |look| look.deliveries(application, message))
    }

    fn dead_letters(
        &self,
        application: ApplicationId,
        query: DeadQuery,
    ) -> Answer<'_, Page<DeliveryId, (EndpointId, MessageId)>> {
        self.ask_walker(move |look| look.dead_letters(application, &query))
    }

    fn count_dead_letters(&self, application: ApplicationId, query: DeadQuery) -> Answer<'_, u64> {
        self.ask_walker(move |look| look.count_dead_letters(application, &query))
    }

    fn attempts(&self, application: ApplicationId, query: AttemptQuery) -> Answer<'_, Page<Attempt, AttemptId>> {
        self.ask_walker(move |look| look.attempts(application, &query))
    }

    fn attempt(&self, application: ApplicationId, id: AttemptId) -> Answer<'_, Option<Attempt>> {
        self.look(move |look| look.attempt(application, id))
    }

    fn count(&self, application: ApplicationId, query: CountQuery) -> Answer<'_, Counts> {
        Box::pin(async move {
            let mut counting = Counting::new(application, query);
            loop {
                // A bite at a time: other queries have their turn between them.
                counting = self.ask_walker(move |look| look.count_on(counting)).await?;
                if let Some(counts) = counting.done() {
                    return Ok(counts);
                }
            }
        })
    }

    fn get(&self, key: RecordKey) -> Answer<'_, Option<Record>> {
        self.look(move |look| look.record(key))
    }

    fn list(
        &self,
        kind: RecordKind,
        application: Option<ApplicationId>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Answer<'_, Vec<Record>> {
        self.look(move |look| look.records(kind, application, after, limit))
    }

    fn put(&self, batch: Vec<Put>) -> Answer<'_, bool> {
        self.ask(move |reply| Request::Put(batch, reply))
    }

    fn prune(&self, prune: Prune) -> Answer<'_, Pruned> {
        self.ask(move |reply| Request::Prune(prune, reply))
    }

    fn erase(&self, application: ApplicationId, what: Erase, now: Timestamp) -> Answer<'_, Erased> {
        self.ask(move |reply| Request::Erase(application, what, now, reply))
    }

    fn compact(&self) -> Answer<'_, Answer<'static, Compacted>> {
        Box::pin(async move {
            let (done, end) = oneshot::channel();
            self.ask(move |begun| Request::Compact(begun, done)).await?;
            let end: Answer<'static, Compacted> = Box::pin(async move { end.await.map_err(|_| Error::Closed)? });
            Ok(end)
        })
    }

    fn open_bytes(&self, application: ApplicationId) -> Answer<'_, u64> {
        let shared = Arc::clone(&self.shared);
        self.look(move |_| Ok(shared.open_bytes_of(application)))
    }

    fn health(&self) -> Answer<'_, Health> {
        let shared = Arc::clone(&self.shared);
        if let Error::Unavailable(_) = self.shared.unavailable() {
            return Box::pin(std::future::ready(Ok(shared.health())));
        }
        self.look(move |_| Ok(shared.health()))
    }

    fn latest_time(&self) -> Timestamp {
        self.shared.latest()
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.bell)
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            *self.queries.lock().expect("no code panics while it holds it") = None;
            let (reply, closed) = oneshot::channel();
            self.requests.send(Request::Close(reply)).await.map_err(|_| Error::Closed)?;
            // An error here means that the thread has ended already, which is what was asked for.
            let _ = closed.await;
            let threads = std::mem::take(&mut *self.threads.lock().expect("no code panics while it holds it"));
            for thread in threads {
                // The threads have nothing left to do but return.
                let _ = thread.join();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_asks_for_a_row_does_not_wait_for_a_long_walk() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(SledConfig::new(folder.path())).await.unwrap();
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let walk = store.ask_walker(move |_| {
            let _ = held.recv();
            Ok(())
        });
        let look = async {
            let id = MessageId::from_bytes([1; 16]);
            assert!(store.message(ApplicationId::from_bytes([2; 16]), id).await.unwrap().is_none());
            store.health().await.unwrap();
            drop(let_go);
        };
        let both = async { tokio::join!(walk, look) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("the look comes first").0.unwrap();
        store.close().await.unwrap();
    }
}
