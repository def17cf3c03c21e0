//! The store port: the trait that every store implements, and its written contract.
//!
//! A store keeps messages, deliveries, attempts and a few kinds of records. It decides nothing: fairness,
//! caps, retries and routing are the engine's. `tests/conformance.rs` runs the same suite over every store.
//!
//! # The contract
//!
//! - `Ok` from a write means on stable storage (the memory store's process is its stable storage).
//! - A write is atomic per message: an enqueued message, its deliveries, its event id and its idempotency
//!   record exist together or not at all; a settlement's attempt and next state likewise; a replay and the
//!   record that goes with it; the records of one `put`. A batch may be split between messages.
//! - A write that answers an [`Error`] has changed nothing that a caller can rely on: it may be repeated.
//! - A waiting delivery is claimed by one lease at a time. A lease that ran out is claimed again, marked as
//!   lost, and the older lease then settles nothing. Until then the older one is still the delivery's lease: it
//!   settles, and the delivery counts and shows as leased.
//! - A lane gives its deliveries in the order of their due times and, where those are equal, of their messages'
//!   storing. A lease that ran out is where its delivery was before it was claimed.
//! - Of the deliveries of a lane whose messages have the same ordering key one goes first, and the others are held: no
//!   claim gives them. Once that one has ended, or is settled so that it lets others pass, the first of those held
//!   follows in the same write, in the order of their messages' storing: its round counts from then, and it is due as it
//!   was. One that is replayed or added takes its place in that order, and is held if another one goes first.
//! - What is canceled is claimed no more, and what is claimed is not canceled, also where both are asked for at the same
//!   time. A lease that ran out in a lane whose endpoint's record is inactive does not keep its delivery from being canceled:
//!   nobody would claim it anew. That lease then settles nothing.
//! - No claim on a lane whose endpoint's record is inactive. A lane without such a record is open.
//! - After a reopen every delivery that had not ended is waiting, with the progress and the due time last
//!   settled, and no lease of before settles anything.
//!
//! What a caller owes a store: ids are never used twice; a message's id carries the time of its acceptance and
//! an attempt's id that of its start, so that a store may look for a window of time by ids; time goes forwards.

mod erase;
mod health;
pub mod memory;
mod prune;
mod query;
#[cfg(feature = "sled")]
pub mod sled;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane, Progress, State};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::{Message, Routing};
use crate::time::Timestamp;

pub use erase::{Erase, Erased};
pub use health::{Compacted, Compaction, Health};
pub(crate) use prune::Rule;
pub use prune::{Bounds, Exceptions, Prune, Pruned};
pub use query::{AttemptQuery, AttemptStatus, CountQuery, Counts, DeadQuery, MessageQuery, Order, Page, Walk, Walked};

/// What a store's methods return.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The default of the most payload bytes that one application may have waiting: 1 GiB.
pub const MAX_OPEN_BYTES_PER_APPLICATION: u64 = 1 << 30;

/// The most items of a page.
pub const MAX_PAGE: usize = 250;

/// How many bytes of payloads a page has, after which it takes no further message: 8 MiB.
pub const MAX_PAGE_BYTES: usize = 8 << 20;

/// The most dead letters of a page, which has ids only.
pub const MAX_DEAD_PAGE: usize = 10_000;

/// The most messages that one walk looks at.
pub const MAX_WALK: usize = 1000;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It has no room for more: try again later. Nothing was stored.
    #[error("the store is full: {0}")]
    Overloaded(String),
    /// It cannot write now (a full disk, an I/O error); it goes on by itself when it can. Nothing was acknowledged.
    #[error("the store cannot write: {0}")]
    Unavailable(String),
    /// It has been closed.
    #[error("the store is closed")]
    Closed,
    /// Another process holds the folder.
    #[error("{folder} is in use by {holder}; stop it first, or use another folder")]
    Locked {
        /// The folder.
        folder: String,
        /// Who holds it.
        holder: String,
    },
    /// The folder was written by a newer version; it was not touched.
    #[error("{folder} has format {found}, this version reads up to {known}: use a newer version of ringback")]
    NewerFormat {
        /// The folder.
        folder: String,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// It was not compacted, and is as it was: there is no room for the copy, or something went wrong meanwhile.
    #[error("the store was not compacted, and is as it was: {0}")]
    NotCompacted(String),
    /// The folder cannot be opened.
    #[error("cannot open {folder}: {problem}")]
    Open {
        /// The folder.
        folder: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// A message to store, with a delivery for each endpoint that its routing names, due when the message says, else when it
/// was accepted. That is also when its first round opens.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The message.
    pub message: Arc<Message>,
    /// The endpoint list that it was routed over: refused as stale if that record's version has moved. A record
    /// that does not exist has version 0.
    pub routed_over: Option<(RecordKey, u64)>,
    /// Under which key a repetition is answered with this message.
    pub idempotency: Option<Idempotency>,
}

impl Enqueue {
    /// What it adds to the bytes that wait: its payload once a delivery.
    pub(crate) fn opened_bytes(&self) -> u64 {
        let deliveries = match &self.message.routing {
            Routing::To(endpoints) => endpoints.len() as u64,
            Routing::Nowhere(_) => 0,
        };
        self.message.payload.len() as u64 * deliveries
    }

    /// Whether its application has room for it, beside what is open there. What adds nothing always has.
    pub(crate) fn room(&self, open: u64, limit: u64) -> Result<(), Enqueued> {
        let adds = self.opened_bytes();
        if adds > 0 && open.saturating_add(adds) > limit { Err(Enqueued::NoRoom { open, limit }) } else { Ok(()) }
    }
}

/// A caller's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// A digest of what was sent under it.
    pub digest: [u8; 32],
    /// When the key is forgotten: a message accepted at that time or later may use it anew.
    pub expires_at: Timestamp,
}

/// What became of a message that was to be enqueued. Where several reasons refuse it, the first of these is
/// answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored.
    Stored,
    /// Its idempotency key was used before with the same content, for this message; nothing was stored.
    Repeated(MessageId),
    /// Its idempotency key was used before with other content; nothing was stored.
    IdempotencyConflict,
    /// Its event id was used before, by this message; nothing was stored.
    EventIdTaken(MessageId),
    /// The endpoint list moved since it was routed; nothing was stored.
    Stale,
    /// Its application has no room for it, until some of what waits there has ended; nothing was stored. Other
    /// applications have room.
    NoRoom {
        /// The payload bytes of the application's deliveries that have not ended.
        open: u64,
        /// The most that there may be, with this message's.
        limit: u64,
    },
}

/// Guards a lease against an older one of the same delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence {
    /// Raised durably each time a store is opened.
    pub epoch: u64,
    /// Counts the leases of an epoch.
    pub counter: u64,
}

/// A claimed delivery: the right to attempt it, until a time.
#[derive(Debug)]
#[must_use = "a lease that is dropped blocks its delivery until it runs out"]
pub struct Lease {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// What has been tried before.
    pub progress: Progress,
    /// The message, where the store has it at hand; otherwise [`Store::message`] reads it.
    pub message: Option<Arc<Message>>,
    /// Guards the settlement.
    pub fence: Fence,
    /// Whether an earlier lease of it ran out: that attempt's end was not recorded.
    pub lost: bool,
}

/// The end of a lease: what was tried, and how the delivery stands now.
#[derive(Debug)]
pub struct Settlement {
    /// The lease that ends.
    pub lease: Lease,
    /// What was tried; `None` gives the delivery back untried.
    pub attempt: Option<Attempt>,
    /// How the delivery stands now: anything but leased or held. Its progress counts one more try if there is an attempt.
    pub state: State,
    /// Whether those held behind it go on although it waits. Without an ordering key it means nothing.
    pub lets_pass: bool,
}

impl Settlement {
    /// When it says that the delivery ended, or let others pass.
    pub(crate) fn time(&self) -> Timestamp {
        match self.state {
            State::Delivered { at } | State::Dead { at, .. } | State::Canceled { at, .. } => at,
            State::Waiting { .. } | State::Held { .. } | State::Leased { .. } => {
                let ended = |attempt: &Attempt| attempt.started_at + Duration::from_micros(attempt.timing.total_us);
                self.attempt.as_ref().map_or(Timestamp::ZERO, ended)
            }
        }
    }
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is stored.
    Done,
    /// The lease was settled before, or it ran out and was claimed again, or it is of an earlier epoch: nothing
    /// was stored.
    Stale,
}

/// Lanes with something due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueLanes {
    /// Lanes with a claimable delivery, in order.
    pub lanes: Vec<Lane>,
    /// Whether lanes beyond the last one may be due as well.
    pub more: bool,
    /// The next time at which something more becomes claimable, over all open lanes, whatever `after` and `limit`
    /// say: the due time of the first delivery of a lane where nothing is claimable now, or the end of a lease.
    pub next_due: Option<Timestamp>,
}

/// A delivery to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Whether a message that has no delivery to that endpoint is given one.
    pub add: bool,
}

impl From<DeliveryId> for Replay {
    /// The replay of a delivery that there is.
    fn from(delivery: DeliveryId) -> Self {
        Replay { delivery, add: false }
    }
}

/// What became of a delivery that was to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// A new round is open; it is due now.
    Reopened,
    /// The message had no delivery to that endpoint. Now it has one, the last of its routing, in its first round and due
    /// now.
    Added,
    /// It was waiting, or its lease had run out; now it is due at once. Its round goes on.
    Hastened,
    /// An attempt is on its way; nothing changed.
    InFlight,
    /// There is no such delivery and none was to be added, or its message is gone; nothing changed.
    NotFound,
    /// Its message's payload has been expunged: there is nothing to send; nothing changed.
    Expunged,
    /// Nothing changed, because another one of the batch could not be replayed and a record went along.
    Untouched,
}

impl Replayed {
    /// Whether it waits now, because of the replay or already before.
    pub fn is_taken_up(self) -> bool {
        match self {
            Replayed::Reopened | Replayed::Added | Replayed::Hastened => true,
            Replayed::InFlight | Replayed::NotFound | Replayed::Expunged | Replayed::Untouched => false,
        }
    }
}

/// What to erase. The rest of its record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunge {
    /// A message's payload.
    Payload(MessageId),
    /// The body of the response to an attempt.
    Response(AttemptId),
}

/// What to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancel {
    /// At most `limit` deliveries of a lane: those that are held, and then the waiting ones in its order.
    Lane {
        /// The lane.
        lane: Lane,
        /// How many at most.
        limit: usize,
    },
    /// This delivery, if it waits or is held.
    Delivery(DeliveryId),
    /// Those of these that wait or are held, in one write as far as they fit in one. Of an ordering key the held ones end
    /// first, so that none of them follows another one of these.
    Deliveries(Vec<DeliveryId>),
}

/// The kinds of records. A new kind never widens the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// An application, under its id.
    Application,
    /// An application's uid, naming its id.
    ApplicationUid,
    /// An endpoint, under its id. Its lane is open while the record is active.
    Endpoint,
    /// An endpoint's uid, naming its id.
    EndpointUid,
    /// Moves whenever an endpoint of the application changes.
    EndpointList,
    /// A replay job, under its id.
    ReplayJob,
    /// An event type, under its name.
    EventType,
    /// A part of an event type's schemas, under a digest of its name, its record's version and the part's number.
    EventTypeSchemas,
    /// A token, under its digest.
    Token,
    /// What became of an operation of the API, under a digest of the operation and its idempotency key.
    Receipt,
    /// A part of the answer of such an operation, under the receipt's name and the part's number.
    ReceiptAnswer,
    /// An erase job, under its id.
    EraseJob,
    /// How long an endpoint has done nothing but fail, under its application's id and its own.
    EndpointStanding,
    /// What is to be told to the operator, under an id that ascends.
    OperationalEvent,
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Its kind.
    pub kind: RecordKind,
    /// The application that it belongs to; `None` for the whole store's.
    pub application: Option<ApplicationId>,
    /// Its name within those: at most 256 bytes.
    pub key: Vec<u8>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// 1 when it is made (again, if it was removed), and one more with each change.
    pub version: u64,
    /// For an endpoint: whether its lane is open.
    pub active: bool,
    /// Its content.
    pub value: Bytes,
}

/// A change of a record, made only if its version is the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its name.
    pub key: RecordKey,
    /// The version it must have; 0 if it must not exist.
    pub expected: u64,
    /// For an endpoint: whether its lane is open.
    pub active: bool,
    /// Its new content; `None` removes it.
    pub value: Option<Bytes>,
}

/// A durable queue, log and record keeper. See the [module](self) for the contract.
pub trait Store: Send + Sync + 'static {
    /// Stores messages with their deliveries. One result a message, in order; each sees those before it.
    fn enqueue(&self, batch: Vec<Enqueue>) -> Answer<'_, Vec<Enqueued>>;

    /// Lanes with a claimable delivery at `now`, at most `limit`, in order, starting after `after`.
    /// Leases that have run out count as claimable.
    fn due_lanes(&self, now: Timestamp, after: Option<Lane>, limit: usize) -> Answer<'_, DueLanes>;

    /// Leases at most the given number of due deliveries from each lane, until `until`. It may give fewer
    /// although more are due; the [bell](Store::bell) rings when they can be claimed.
    fn claim(&self, now: Timestamp, wanted: Vec<(Lane, usize)>, until: Timestamp) -> Answer<'_, Vec<Lease>>;

    /// Ends leases. One result a settlement, in order.
    ///
    /// After an [`Error`] the same settlements may be given again: the leases stay live.
    fn settle<'a>(&'a self, batch: Arc<Vec<Settlement>>) -> Answer<'a, Vec<Settled>>;

    /// Opens a new round of each delivery that has ended, makes a waiting one due at `now` if it was due later, and
    /// adds one where that is asked for. `record` is changed in the same write; if its version has moved, nothing is
    /// done and `None` is answered. What is replayed in a closed lane waits until the lane opens.
    ///
    /// What cannot be replayed stays as it is. A record that goes along counts what is replayed, so then nothing is done
    /// at all: each of the batch answers why it cannot be replayed, or [`Replayed::Untouched`].
    fn replay(&self, batch: Vec<Replay>, now: Timestamp, record: Option<Put>) -> Answer<'_, Option<Vec<Replayed>>>;

    /// Cancels waiting and held deliveries; answers how many. Leased ones are left to their attempt, also after their time.
    fn cancel(&self, what: Cancel, reason: CancelReason, now: Timestamp) -> Answer<'_, usize>;

    /// Erases a payload or a response's body, for good; `false` if there is no such message or attempt. A delivery of
    /// the message that has not ended goes on, and counts the bytes that it had; a lease given before may have them.
    fn expunge(&self, application: ApplicationId, what: Expunge) -> Answer<'_, bool>;

    /// A message by its id.
    fn message(&self, application: ApplicationId, id: MessageId) -> Answer<'_, Option<Arc<Message>>>;

    /// A message's id by the caller's event id.
    fn message_by_event_id(&self, application: ApplicationId, event_id: String) -> Answer<'_, Option<MessageId>>;

    /// Messages in the order of their ids, forwards or backwards. A page ends early, with a cursor, once it has
    /// [`MAX_PAGE_BYTES`] of payloads.
    fn messages(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Page<Arc<Message>, MessageId>>;

    /// The messages of a query with how their deliveries stand, and without their payloads. `limit` (1 to
    /// [`MAX_WALK`]) is how many messages are looked at, at most, whether they fit or not. Nothing else waits for it.
    fn walk(&self, application: ApplicationId, query: MessageQuery) -> Answer<'_, Walk>;

    /// The deliveries of a message, in the order of its routing. One that is leased shows its lease.
    fn deliveries(&self, application: ApplicationId, message: MessageId) -> Answer<'_, Vec<Delivery>>;

    /// Dead letters.
    fn dead_letters(
        &self,
        application: ApplicationId,
        query: DeadQuery,
    ) -> Answer<'_, Page<DeliveryId, (EndpointId, MessageId)>>;

    /// How many dead letters fit the query, cursor and limit aside.
    fn count_dead_letters(&self, application: ApplicationId, query: DeadQuery) -> Answer<'_, u64>;

    /// Attempts in the order of their ids, forwards or backwards.
    fn attempts(&self, application: ApplicationId, query: AttemptQuery) -> Answer<'_, Page<Attempt, AttemptId>>;

    /// An attempt by its id.
    fn attempt(&self, application: ApplicationId, id: AttemptId) -> Answer<'_, Option<Attempt>>;

    /// How many messages there are and how their deliveries stand. A delivery that moves meanwhile is counted once, as
    /// it was or as it became. Nothing else waits for it, however much there is to count.
    fn count(&self, application: ApplicationId, query: CountQuery) -> Answer<'_, Counts>;

    /// A record.
    fn get(&self, key: RecordKey) -> Answer<'_, Option<Record>>;

    /// The records of a kind and an application, in the order of their keys, starting after `after`: at most
    /// `limit`, which is 1 to 250.
    fn list(
        &self,
        kind: RecordKind,
        application: Option<ApplicationId>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Answer<'_, Vec<Record>>;

    /// Changes records, all or none; `false` if a version was not the expected one. Each change sees those before it.
    fn put(&self, batch: Vec<Put>) -> Answer<'_, bool>;

    /// Removes what retention allows.
    fn prune(&self, prune: Prune) -> Answer<'_, Pruned>;

    /// Erases messages, or what is left of an application: no row of them is left. The same may be asked again.
    fn erase(&self, application: ApplicationId, what: Erase, now: Timestamp) -> Answer<'_, Erased>;

    /// Copies all that is kept to new files and lets go of the old ones, which gives their free space back. Answers once
    /// it has begun; the answer in that, at its end. It goes on although nobody waits, and joins one that is under way.
    /// Everything else goes on meanwhile; leases hold. If it is cut off, all is as it was, or as it was to become.
    fn compact(&self) -> Answer<'_, Answer<'static, Compacted>>;

    /// The payload bytes of an application's deliveries that have not ended, each delivery counting its message's as it
    /// was sent: what [`Enqueued::NoRoom`] is decided by.
    fn open_bytes(&self, application: ApplicationId) -> Answer<'_, u64>;

    /// How it is.
    fn health(&self) -> Answer<'_, Health>;

    /// The latest time that it has stored (a message's acceptance, an attempt's start, an end, a replay; no due time
    /// and no expiry): a clock that starts before it was set back.
    fn latest_time(&self) -> Timestamp;

    /// Rings when something may have become claimable.
    fn bell(&self) -> Arc<Notify>;

    /// Finishes what was asked, and lets go of files and threads. Every later call answers [`Error::Closed`].
    fn close(&self) -> Answer<'_, ()>;
}
