//! For the front's unit tests: a store that fails when it is told to, before a write or behind it.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::store::{
    Answer, AttemptQuery, Cancel, Compacted, CountQuery, Counts, DeadQuery, DueLanes, Enqueue, Enqueued, Erase, Erased,
    Error, Expunge, Health, Lease, MessageQuery, Page, Prune, Pruned, Put, Record, RecordKey, RecordKind, Replay,
    Replayed, Settled, Settlement, Store, Walk,
};
use crate::time::Timestamp;

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// It fails, and nothing was written.
    Before,
    /// It fails, and all was written: nobody can rely on that.
    Behind,
}

/// A store whose replays, erasures and records fail as `next` says.
pub(super) struct Faulty {
    inner: Arc<dyn Store>,
    next: Mutex<Box<dyn FnMut() -> Fault + Send>>,
}

impl Faulty {
    pub(super) fn over(inner: Arc<dyn Store>, next: impl FnMut() -> Fault + Send + 'static) -> Faulty {
        Faulty { inner, next: Mutex::new(Box::new(next)) }
    }

    fn write<'a, T: Send + 'a>(&'a self, work: impl FnOnce() -> Answer<'a, T> + Send + 'a) -> Answer<'a, T> {
        let fault = self.next.lock().unwrap()();
        Box::pin(async move {
            let failed = || Error::Unavailable("as it was told to".into());
            match fault {
                Fault::None => work().await,
                Fault::Before => Err(failed()),
                Fault::Behind => {
                    work().await?;
                    Err(failed())
                }
            }
        })
    }
}

macro_rules! as_it_is {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
            self.inner.$name($($argument),*)
        })*
    };
}

impl Store for Faulty {
    fn replay(&self, batch: Vec<Replay>, now: Timestamp, record: Option<Put>) -> Answer<'_, Option<Vec<Replayed>>> {
        self.write(move || self.inner.replay(batch, now, record))
    }

    fn put(&self, batch: Vec<Put>) -> Answer<'_, bool> {
        self.write(move || self.inner.put(batch))
    }

    fn erase(&self, application: ApplicationId, what: Erase, now: Timestamp) -> Answer<'_, Erased> {
        self.write(move || self.inner.erase(application, what, now))
    }

    as_it_is! {
        enqueue(batch: Vec<Enqueue>) -> Vec<Enqueued>;
        due_lanes(now: Timestamp, after: Option<Lane>, limit: usize) -> DueLanes;
        claim(now: Timestamp, wanted: Vec<(Lane, usize)>, until: Timestamp) -> Vec<Lease>;
        cancel(what: Cancel, reason: CancelReason, now: Timestamp) -> usize;
        expunge(application: ApplicationId, what: Expunge) -> bool;
        message(application: ApplicationId, id: MessageId) -> Option<Arc<Message>>;
        message_by_event_id(application: ApplicationId, event_id: String) -> Option<MessageId>;
        messages(application: ApplicationId, query: MessageQuery) -> Page<Arc<Message>, MessageId>;
        walk(application: ApplicationId, query: MessageQuery) -> Walk;
        deliveries(application: ApplicationId, message: MessageId) -> Vec<Delivery>;
        dead_letters(application: ApplicationId, query: DeadQuery) -> Page<DeliveryId, (EndpointId, MessageId)>;
        count_dead_letters(application: ApplicationId, query: DeadQuery) -> u64;
        attempts(application: ApplicationId, query: AttemptQuery) -> Page<Attempt, AttemptId>;
        attempt(application: ApplicationId, id: AttemptId) -> Option<Attempt>;
        count(application: ApplicationId, query: CountQuery) -> Counts;
        get(key: RecordKey) -> Option<Record>;
        list(kind: RecordKind, application: Option<ApplicationId>, after: Option<Vec<u8>>, limit: usize) -> Vec<Record>;
        prune(prune: Prune) -> Pruned;
        open_bytes(application: ApplicationId) -> u64;
        health() -> Health;
        close() -> ();
    }

    fn compact(&self) -> Answer<'_, Answer<'static, Compacted>> {
        self.inner.compact()
    }

    fn settle<'a>(&'a self, batch: Arc<Vec<Settlement>>) -> Answer<'a, Vec<Settled>> {
        self.inner.settle(batch)
    }

    fn latest_time(&self) -> Timestamp {
        self.inner.latest_time()
    }

    fn bell(&self) -> Arc<Notify> {
        self.inner.bell()
    }
}
