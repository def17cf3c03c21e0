//! In memory: the reference implementation of the store, written to be read and not to be fast.
//!
//! The other stores are compared with it, and the engine's tests and simulations run on it. Invariants: the
//! same calls give the same answers (no clock, no randomness, no order of a hash map); the lock is never held
//! across an await, since each method does its work before it returns its answer.

mod erase;
mod orders;
mod prune;
mod queries;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use self::tables::Tables;
use super::{
    Answer, AttemptQuery, Cancel, Compacted, CountQuery, Counts, DeadQuery, DueLanes, Enqueue, Enqueued, Erase, Erased,
    Error, Expunge, Health, Lease, MAX_OPEN_BYTES_PER_APPLICATION, MessageQuery, Page, Prune, Pruned, Put, Record,
    RecordKey, RecordKind, Replay, Replayed, Settled, Settlement, Store, Walk,
};
use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::time::Timestamp;

/// A store that lives as long as its process. See the [port](super) for its contract.
#[derive(Debug)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    bell: Arc<Notify>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::limited(MAX_OPEN_BYTES_PER_APPLICATION)
    }
}

impl MemoryStore {
    /// An empty store, where an application may have 1 GiB of payload waiting.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// An empty store, where an application may have so many bytes of payload waiting.
    pub fn limited(max_open_bytes_per_application: u64) -> Self {
        MemoryStore { tables: Mutex::new(Tables::limited(max_open_bytes_per_application)), bell: Arc::default() }
    }

    /// What a restart does to a durable store: no lease outlives it, everything else does.
    #[doc(hidden)]
    pub fn drop_leases(&self) {
        self.lock().drop_leases();
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no method panics while it holds the lock")
    }

    /// Does the work at once, unless the store is closed, and rings if it made something claimable.
    fn answer<'a, T: Send + 'a>(&'a self, work: impl FnOnce(&mut Tables) -> T) -> Answer<'a, T> {
        let mut tables = self.lock();
        let result = if tables.closed { Err(Error::Closed) } else { Ok(work(&mut tables)) };
        if std::mem::take(&mut tables.ring) {
            self.bell.notify_one();
        }
        Box::pin(std::future::ready(result))
    }
}

impl Store for MemoryStore {
    fn enqueue(&self, batch: Vec<Enqueue>) -> Answer<'_, Vec<Enqueued>> {
        self.answer(|tables| batch.into_iter().map(|item| tables.enqueue(item)).collect())
    }

    fn due_lanes(&self, now: Timestamp, after: Option<Lane>, limit: usize) -> Answer<'_, DueLanes> {
        self.answer(|tables| tables.due_lanes(now, after, limit))
    }

    fn claim(&self, now: Timestamp, wanted: Vec<(Lane, usize)>, until: Timestamp) -> Answer<'_, Vec<Lease>> {
        self.answer(|tables| wanted.into_iter().flat_map(|(lane, most)| tables.claim(now, lane, most, until)).collect())
    }

    fn settle<'a>(&'a self, batch: Arc<Vec<Settlement>>) -> Answer<'a, Vec<Settled>> {
        self.answer(|tables| batch.iter().map(|settlement| tables.settle(settlement)).collect())
    }

    fn replay(&self, batch: Vec<Replay>, now: Timestamp, record: Option<Put>) -> Answer<'_, Option<Vec<Replayed>>> {
        self.answer(|tables| {
            if let Some(refused) = record.as_ref().and_then(|put| tables.replay_refused(&batch, now, put)) {
                return Some(refused);
            }
            let unmoved = tables.put(record.into_iter().collect());
            unmoved.then(|| batch.into_iter().map(|replay| tables.replay(replay, now)).collect())
        })
    }

    fn cancel(&self, what: Cancel, reason: CancelReason, now: Timestamp) -> Answer<'_, usize> {
        self.answer(|tables| tables.cancel(what, reason, now))
    }

    fn expunge(&self, application: ApplicationId, what: Expunge) -> Answer<'_, bool> {
        self.answer(|tables| tables.expunge(application, what))
    }

    fn message(&self, application: ApplicationId, id: MessageId) -> Answer<'_, Option<Arc<Message>>> {
        self.answer(|tables| tables.message(application, id))
    }

    fn message_by_event_id(&self, application: ApplicationId, event_id: String) -> Answer<'_, Option<MessageId>> {
        self.answer(|tables| tables.message_by_event_id(application, event_id))
    }

    fn messages(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Page<Arc<Message>, MessageId>> {
        self.answer(|tables| tables.messages(application, &query))
    }

    fn walk(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Walk> {
        self.answer(|tables| tables.walk(application, &query))
    }

    fn deliveries(&self, application: ApplicationId, message: MessageId) -> Answer<'_, Vec<Delivery>> {
        self.answer(|tables| tables.deliveries_of(application, message))
    }

    fn dead_letters(
        &self,
        application: ApplicationId,
        query: DeadQuery,
    ) -> Answer<'_, Page<DeliveryId, (EndpointId, MessageId)>> {
        self.answer(|tables| tables.dead_letters(application, &query))
    }

    fn count_dead_letters(&self, application: ApplicationId, query: DeadQuery) -> Answer<'_, u64> {
        self.answer(|tables| tables.count_dead_letters(application, &query))
    }

    fn attempts(&self, application: ApplicationId, query: AttemptQuery) -> Answer<'_, Page<Attempt, AttemptId>> {
        self.answer(|tables| tables.attempts(application, &query))
    }

    fn attempt(&self, application: ApplicationId, id: AttemptId) -> Answer<'_, Option<Attempt>> {
        self.answer(|tables| tables.attempts.get(&(application, id)).cloned())
    }

    fn count(&self, application: ApplicationId, query: CountQuery) -> Answer<'_, Counts> {
        self.answer(|tables| tables.count(application, &query))
    }

    fn get(&self, key: RecordKey) -> Answer<'_, Option<Record>> {
        self.answer(|tables| tables.get(&key))
    }

    fn list(
        &self,
        kind: RecordKind,
        application: Option<ApplicationId>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Answer<'_, Vec<Record>> {
        self.answer(|tables| tables.list(kind, application, after, limit))
    }

    fn put(&self, batch: Vec<Put>) -> Answer<'_, bool> {
        self.answer(|tables| tables.put(batch))
    }

    fn prune(&self, prune: Prune) -> Answer<'_, Pruned> {
        self.answer(|tables| tables.prune(&prune))
    }

    fn erase(&self, application: ApplicationId, what: Erase, now: Timestamp) -> Answer<'_, Erased> {
        self.answer(|tables| tables.erase(application, &what, now))
    }

    fn compact(&self) -> Answer<'_, Answer<'static, Compacted>> {
        self.answer(|_| -> Answer<'static, Compacted> { Box::pin(std::future::ready(Ok(Compacted::default()))) })
    }

    fn open_bytes(&self, application: ApplicationId) -> Answer<'_, u64> {
        self.answer(|tables| tables.open_bytes(application))
    }

    fn health(&self) -> Answer<'_, Health> {
        self.answer(|tables| tables.health())
    }

    fn latest_time(&self) -> Timestamp {
        self.lock().latest
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    fn close(&self) -> Answer<'_, ()> {
        self.answer(|tables| tables.closed = true)
    }
}
