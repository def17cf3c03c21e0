//! Receipts: what became of an operation that a caller named with an idempotency key, for all operations but sends,
//! whose keys stand with their messages.
//!
//! ```text
//!            receipt                    answered, done
//!   nothing ─────────▶ BEGUN (pending) ───────────────▶ ANSWERED ── window over ──▶ nothing
//!      ▲                 │       └ dropped, or the process ended: its outcome is not known
//!      └──── refused ────┘
//! ```
//!
//! Invariant: an operation is begun on disk before it is done, so no key is worked on twice without the caller being
//! told.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::id::ApplicationId;
use crate::message::validate_key;
use crate::store::{MAX_PAGE, Put, Record, RecordKind};
use crate::time::Timestamp;

use super::claims::{Claim, Claims};
use super::records::{self, StoredReceipt, StoredReceiptState};
use super::{Ringback, parts};

/// The most receipts of a store whose keys have not been forgotten.
pub const MAX_RECEIPTS: usize = 100_000;
/// The most of them of one application, so that none takes the room of all.
pub const MAX_RECEIPTS_OF_ONE: usize = 20_000;
/// The largest answer that is kept, in bytes: 64 KiB.
pub const MAX_ANSWER: usize = 64 * 1024;

const BUSY: Error = Error::Conflict("a call with this idempotency key is being worked on; try again");
const UNKNOWN: Error = Error::Conflict(
    "a call with this idempotency key was begun, and its outcome is not known: look whether it was done, then use a new key",
);
const NOT_KEPT: Error = Error::Conflict(
    "a call with this idempotency key was done, and its answer is not kept: look at what it did, or use a new key",
);

type Hash = [u8; 32];

const UNPOISONED: &str = "no code panics while it holds the counts";

/// How many receipts there are, and those being worked on.
#[derive(Default)]
pub(super) struct Receipts {
    pending: Claims<Hash>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    of: HashMap<ApplicationId, usize>,
}

impl Receipts {
    /// Whether there is room for one more.
    fn check_room(&self, application: Option<ApplicationId>) -> Result<(), Error> {
        let counts = self.counts.lock().expect(UNPOISONED);
        let own = application.and_then(|id| counts.of.get(&id)).copied().unwrap_or_default();
        if own >= MAX_RECEIPTS_OF_ONE {
            let text = "20,000 idempotency keys are kept of the application, as many as may be";
            return Err(Error::ApplicationOverloaded(text.to_owned()));
        }
        if counts.all >= MAX_RECEIPTS {
            return Err(Error::Overloaded("100,000 idempotency keys are kept, as many as may be".to_owned()));
        }
        Ok(())
    }

    fn noted_one(&self, application: Option<ApplicationId>) {
        let mut counts = self.counts.lock().expect(UNPOISONED);
        counts.all += 1;
        if let Some(id) = application {
            *counts.of.entry(id).or_default() += 1;
        }
    }

    fn forgot_one(&self, application: Option<ApplicationId>) {
        let mut counts = self.counts.lock().expect(UNPOISONED);
        // A call that was dropped in the middle may not have been counted.
        counts.all = counts.all.saturating_sub(1);
        if let Some(id) = application
            && let Some(own) = counts.of.get_mut(&id)
        {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.of.remove(&id);
            }
        }
    }
}

/// What an idempotency key stands for.
#[derive(Debug)]
#[must_use = "a pending operation that is dropped has an unknown outcome"]
pub enum Receipt {
    /// Nothing yet: do the operation, and say how it ended.
    Fresh(Pending),
    /// The operation was done before: this was its answer.
    Answered(Bytes),
}

/// An operation that is being worked on under its idempotency key.
///
/// Say how it ended. If it is dropped instead, or the process ends, the key says from then on that the outcome is not
/// known, until the window of idempotency keys is over.
#[must_use = "a pending operation that is dropped has an unknown outcome"]
pub struct Pending {
    ringback: Ringback,
    begun: StoredReceipt,
    claim: Claim<Hash>,
}

impl Ringback {
    /// Begins an operation under a caller's idempotency key: 1 to 256 printable ASCII characters, unique for the
    /// application (`None` for the whole store's operations) and the operation's name. `digest` is of all that the
    /// operation is asked to do. Keys are forgotten after `Config::idempotency_window`.
    ///
    /// Sends need none: they have [`NewMessage::idempotency_key`](crate::NewMessage::idempotency_key).
    ///
    /// # Errors
    /// [`Error::Invalid`] (`idempotencyKey`); [`Error::IdempotencyConflict`] if it was used with another digest;
    /// [`Error::Conflict`] if it is being worked on right now, if it was begun before and its outcome is not known, or
    /// if it was done and its answer is not kept; [`Error::ApplicationOverloaded`] if 20,000 are kept of the
    /// application, [`Error::Overloaded`] if 100,000 are of all; [`Error::Storage`]: begin no operation; the same key may then say that its outcome is not known.
    pub async fn receipt(
        &self,
        application: Option<ApplicationId>,
        operation: &str,
        key: &str,
        digest: [u8; 32],
    ) -> Result<Receipt, Error> {
        validate_key("idempotencyKey", key)?;
        let hash = name(application, operation, key);
        let claim = self.inner.receipts.pending.claim(hash);
        let now = self.now();
        let record = self.inner.store.get(records::receipt_key(&hash)).await?;
        // One that cannot be read is no reason to do the operation again.
        let stored = record.as_ref().map(|record| records::receipt_from(&record.value).ok_or(UNKNOWN)).transpose()?;
        let kept = stored.as_ref().filter(|stored| stored.expires_at > now);
        if kept.is_some_and(|kept| kept.digest != digest) {
            return Err(Error::IdempotencyConflict);
        }
        let claim = claim.ok_or(BUSY)?;
        match kept.map(|kept| &kept.state) {
            Some(StoredReceiptState::Begun) => Err(UNKNOWN),
            Some(StoredReceiptState::NotKept) => Err(NOT_KEPT),
            Some(StoredReceiptState::Answered { bytes }) => {
                let answer = parts::read(&*self.inner.store, RecordKind::ReceiptAnswer, &hash, *bytes).await?;
                answer.map(|answer| Receipt::Answered(answer.into())).ok_or(NOT_KEPT)
            }
            None => {
                let expires_at = now + self.inner.config.idempotency_window;
                let begun = StoredReceipt::begun(application, digest, expires_at);
                self.begin(&hash, &begun, record.as_ref()).await?;
                Ok(Receipt::Fresh(Pending { ringback: self.clone(), begun, claim }))
            }
        }
    }

    /// Puts on disk that an operation begins, in place of what has expired.
    async fn begin(&self, hash: &Hash, begun: &StoredReceipt, expired: Option<&Record>) -> Result<(), Error> {
        let receipts = &self.inner.receipts;
        if expired.is_none() {
            receipts.check_room(begun.application)?;
        }
        let mut batch = expired.map(removal).unwrap_or_default();
        let value = Some(records::receipt_to(begun));
        batch.push(Put { key: records::receipt_key(hash), expected: 0, active: true, value });
        if !self.inner.store.put(batch).await? {
            return Err(BUSY);
        }
        if expired.is_none() {
            receipts.noted_one(begun.application);
        }
        Ok(())
    }

    /// Counts what there is.
    pub(super) async fn read_receipts(&self) -> Result<(), Error> {
        let mut counts = Counts::default();
        let mut after = None;
        loop {
            let page = self.inner.store.list(RecordKind::Receipt, None, after, MAX_PAGE).await?;
            let Some(last) = page.last() else { break };
            counts.all += page.len();
            let applications = page.iter().filter_map(|record| records::receipt_from(&record.value)?.application);
            applications.for_each(|id| *counts.of.entry(id).or_default() += 1);
            after = Some(last.key.key.clone());
        }
        *self.inner.receipts.counts.lock().expect(UNPOISONED) = counts;
        Ok(())
    }

    /// Forgets the keys whose window is over.
    pub(super) async fn prune_receipts(&self) -> Result<(), Error> {
        let now = self.now();
        self.forget_receipts(|stored| stored.expires_at <= now).await
    }

    /// Forgets all keys of an application.
    pub(super) async fn erase_receipts(&self, application: ApplicationId) -> Result<(), Error> {
        self.forget_receipts(|stored| stored.application == Some(application)).await
    }

    async fn forget_receipts(&self, goes: impl Fn(&StoredReceipt) -> bool) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.inner.store.list(RecordKind::Receipt, None, after, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.key.clone());
            for record in &page {
                // One that moves at this moment is looked at the next time; one that cannot be read stays.
                let over = records::receipt_from(&record.value).filter(|stored| goes(stored));
                if let Some(over) = over
                    && self.inner.store.put(removal(record)).await?
                {
                    self.inner.receipts.forgot_one(over.application);
                }
            }
        }
    }
}

impl Pending {
    /// The operation was done, and this is its answer: whoever repeats it gets the same. An answer of more than 64 KiB
    /// is not kept; then this is as [`done`](Pending::done).
    ///
    /// # Errors
    /// [`Error::Storage`]: the operation was done, and the key may say that its outcome is not known.
    pub async fn answered(self, answer: Bytes) -> Result<(), Error> {
        if answer.len() > MAX_ANSWER {
            return self.done().await;
        }
        let kept = parts::write(RecordKind::ReceiptAnswer, self.claim.name(), &answer);
        self.end(StoredReceiptState::Answered { bytes: answer.len() }, kept).await
    }

    /// The operation was done, and its answer is not to be kept, since it shows a secret: whoever repeats it is told
    /// that it was done ([`Error::Conflict`]).
    ///
    /// # Errors
    /// As [`answered`](Pending::answered).
    pub async fn done(self) -> Result<(), Error> {
        self.end(StoredReceiptState::NotKept, Vec::new()).await
    }

    /// The operation was not done: the key is forgotten, and may be used again.
    ///
    /// # Errors
    /// [`Error::Storage`]: the key may say that the outcome is not known.
    pub async fn refused(self) -> Result<(), Error> {
        let put = Put { key: records::receipt_key(self.claim.name()), expected: 1, active: true, value: None };
        if self.ringback.inner.store.put(vec![put]).await? {
            self.ringback.inner.receipts.forgot_one(self.begun.application);
        }
        Ok(())
    }

    async fn end(self, state: StoredReceiptState, mut batch: Vec<Put>) -> Result<(), Error> {
        let value = Some(records::receipt_to(&StoredReceipt { state, ..self.begun }));
        batch.push(Put { key: records::receipt_key(self.claim.name()), expected: 1, active: true, value });
        if !self.ringback.inner.store.put(batch).await? {
            tracing::debug!("an operation took longer than its idempotency key is kept");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("expires_at", &self.begun.expires_at).finish_non_exhaustive()
    }
}

impl StoredReceipt {
    fn begun(application: Option<ApplicationId>, digest: [u8; 32], expires_at: Timestamp) -> Self {
        StoredReceipt { v: records::VERSION, application, digest, expires_at, state: StoredReceiptState::Begun }
    }
}

/// The changes that forget a receipt and its answer.
fn removal(record: &Record) -> Vec<Put> {
    let bytes = match records::receipt_from(&record.value).map(|stored| stored.state) {
        Some(StoredReceiptState::Answered { bytes }) => bytes,
        Some(StoredReceiptState::Begun | StoredReceiptState::NotKept) | None => 0,
    };
    let mut batch = parts::remove(RecordKind::ReceiptAnswer, &record.key.key, bytes);
    batch.push(Put { key: record.key.clone(), expected: record.version, active: true, value: None });
    batch
}

/// What a key is stored under: callers' keys are theirs to choose, and may be long.
fn name(application: Option<ApplicationId>, operation: &str, key: &str) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(application.unwrap_or(ApplicationId::NONE).to_bytes());
    hasher.update((operation.len() as u64).to_be_bytes());
    hasher.update(operation);
    hasher.update(key);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::fixture::Fixture;
    use futures_util::future::join_all;
    use std::time::Duration;

    const ONE: [u8; 32] = [1; 32];
    const WINDOW: Duration = Duration::from_secs(24 * 3600);

    async fn receipt(ringback: &Ringback, key: &str, digest: [u8; 32]) -> Result<Receipt, Error> {
        ringback.receipt(None, "create", key, digest).await
    }

    fn count(ringback: &Ringback) -> usize {
        ringback.inner.receipts.counts.lock().unwrap().all
    }

    async fn fresh(ringback: &Ringback, key: &str) -> Pending {
        match receipt(ringback, key, ONE).await {
            Ok(Receipt::Fresh(pending)) => pending,
            other => panic!("{key}: {other:?}"),
        }
    }

    async fn answer(ringback: &Ringback, key: &str) -> Bytes {
        match receipt(ringback, key, ONE).await {
            Ok(Receipt::Answered(answer)) => answer,
            other => panic!("{key}: {other:?}"),
        }
    }

    async fn refusal(ringback: &Ringback, key: &str) -> Error {
        receipt(ringback, key, ONE).await.unwrap_err()
    }

    async fn stored(fixture: &Fixture) -> [usize; 2] {
        let list = async |kind| fixture.store.list(kind, None, None, 250).await.unwrap().len();
        [list(RecordKind::Receipt).await, list(RecordKind::ReceiptAnswer).await]
    }

    #[tokio::test]
    async fn a_repetition_gets_the_first_answer_and_other_content_a_conflict() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        for (key, bytes) in [("empty", 0), ("small", 5), ("parted", 40_000), ("largest", MAX_ANSWER)] {
            let given = Bytes::from(key.repeat(bytes)[..bytes].to_owned());
            fresh(&ringback, key).await.answered(given.clone()).await.unwrap();
            for ringback in [&ringback, &fixture.open().await] {
                assert_eq!(answer(ringback, key).await, given, "{key}");
                assert_eq!(receipt(ringback, key, [2; 32]).await.unwrap_err(), Error::IdempotencyConflict);
            }
        }
    }

    #[tokio::test]
    async fn a_key_belongs_to_its_application_and_operation() {
        let ringback = Fixture::new().open().await;
        let app = |byte| Some(ApplicationId::from_bytes([byte; 16]));
        for (application, operation, key) in
            [(None, "ab", "c"), (None, "a", "bc"), (app(1), "ab", "c"), (app(2), "ab", "c"), (app(2), "ab", "d")]
        {
            let receipt = ringback.receipt(application, operation, key, ONE).await;
            let Ok(Receipt::Fresh(pending)) = receipt else { panic!("{receipt:?}") };
            pending.answered(Bytes::new()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_twins_one_works_and_the_others_are_told() {
        let ringback = Fixture::new().open().await;
        let twins = join_all((0..20).map(|_| receipt(&ringback, "k", ONE))).await;
        let (worked, told): (Vec<_>, Vec<_>) = twins.into_iter().partition(Result::is_ok);
        assert_eq!((worked.len(), told.len()), (1, 19));
        assert!(told.into_iter().all(|told| told.unwrap_err() == BUSY));
        let other = receipt(&ringback, "k", [2; 32]).await.unwrap_err();
        assert_eq!(other, Error::IdempotencyConflict, "waiting for it would not help");
        let Some(Ok(Receipt::Fresh(pending))) = worked.into_iter().next() else { panic!() };
        pending.answered("done".into()).await.unwrap();
        assert_eq!(answer(&ringback, "k").await, "done");
    }

    #[tokio::test]
    async fn what_was_begun_and_never_ended_is_not_done_again() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let pending = fresh(&ringback, "dropped").await;
        assert_eq!(refusal(&fixture.open().await, "dropped").await, UNKNOWN, "of a process that ended");
        drop(pending);
        assert_eq!(refusal(&ringback, "dropped").await, UNKNOWN);
        fixture.clock.pass(WINDOW - Duration::from_millis(1));
        assert_eq!(refusal(&ringback, "dropped").await, UNKNOWN);
        fixture.clock.pass(Duration::from_millis(1));
        fresh(&ringback, "dropped").await.answered("again".into()).await.unwrap();
        assert_eq!(answer(&ringback, "dropped").await, "again");
    }

    #[tokio::test]
    async fn what_was_refused_may_be_tried_again_under_its_key() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        fresh(&ringback, "k").await.refused().await.unwrap();
        assert_eq!(stored(&fixture).await, [0, 0]);
        let Ok(Receipt::Fresh(pending)) = receipt(&ringback, "k", [2; 32]).await else { panic!() };
        pending.refused().await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_or_shows_a_secret_is_not_kept() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        fresh(&ringback, "large").await.answered(vec![b'x'; MAX_ANSWER + 1].into()).await.unwrap();
        fresh(&ringback, "secret").await.done().await.unwrap();
        for key in ["large", "secret"] {
            assert_eq!(refusal(&fixture.open().await, key).await, NOT_KEPT);
            assert_eq!(receipt(&ringback, key, [2; 32]).await.unwrap_err(), Error::IdempotencyConflict);
        }
        assert_eq!(stored(&fixture).await, [2, 0]);
    }

    #[tokio::test]
    async fn receipts_are_forgotten_whole_once_their_window_is_over() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        fresh(&ringback, "old").await.answered(vec![b'x'; 60_000].into()).await.unwrap();
        fresh(&ringback, "renewed").await.answered(vec![b'x'; 60_000].into()).await.unwrap();
        fixture.clock.pass(WINDOW);
        fresh(&ringback, "renewed").await.answered("short".into()).await.unwrap();
        assert_eq!(stored(&fixture).await, [2, 2 + 1]);
        ringback.prune().await.unwrap();
        assert_eq!(stored(&fixture).await, [1, 1]);
        assert_eq!(answer(&ringback, "renewed").await, "short");
        assert_eq!(count(&ringback), 1);
    }

    #[tokio::test]
    async fn an_operation_that_outlives_its_key_ends_without_an_error() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let pending = fresh(&ringback, "slow").await;
        fixture.clock.pass(WINDOW);
        ringback.prune().await.unwrap();
        pending.answered("late".into()).await.unwrap();
        assert_eq!(stored(&fixture).await, [0, 0]);
    }

    #[tokio::test]
    async fn no_more_receipts_are_begun_than_there_is_room_for() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        fresh(&ringback, "first").await.answered("1".into()).await.unwrap();
        assert_eq!(count(&fixture.open().await), 1, "those of before count");
        ringback.inner.receipts.counts.lock().unwrap().all = MAX_RECEIPTS;
        assert!(matches!(refusal(&ringback, "one more").await, Error::Overloaded(_)));
        assert_eq!(answer(&ringback, "first").await, "1");
        fixture.clock.pass(WINDOW);
        ringback.prune().await.unwrap();
        fresh(&ringback, "one more").await.refused().await.unwrap();
    }

    #[tokio::test]
    async fn one_application_does_not_take_the_room_of_all() {
        let fixture = Fixture::new();
        let busy = ApplicationId::from_bytes([1; 16]);
        let begin = async |ringback: &Ringback, application, key| {
            ringback.receipt(Some(application), "POST /x", key, [1; 32]).await
        };
        let Receipt::Fresh(first) = begin(&fixture.open().await, busy, "first").await.unwrap() else { panic!() };
        first.answered("1".into()).await.unwrap();
        let ringback = fixture.open().await;
        let own = |ringback: &Ringback| ringback.inner.receipts.counts.lock().unwrap().of.get(&busy).copied();
        assert_eq!(own(&ringback), Some(1), "those of before count");
        ringback.inner.receipts.counts.lock().unwrap().of.insert(busy, MAX_RECEIPTS_OF_ONE);
        assert!(matches!(begin(&ringback, busy, "more").await, Err(Error::ApplicationOverloaded(_))));
        let quiet = ApplicationId::from_bytes([2; 16]);
        assert!(matches!(begin(&ringback, quiet, "more").await, Ok(Receipt::Fresh(_))));
        fresh(&ringback, "more").await.refused().await.unwrap();
        fixture.clock.pass(WINDOW);
        ringback.prune().await.unwrap();
        assert_eq!(own(&ringback), Some(MAX_RECEIPTS_OF_ONE - 1));
        assert!(matches!(begin(&ringback, busy, "more").await, Ok(Receipt::Fresh(_))));
    }

    #[tokio::test]
    async fn a_key_that_is_no_key_is_refused() {
        let ringback = Fixture::new().open().await;
        for key in ["", &"x".repeat(257), "a\nb", "\u{e9}"] {
            assert!(matches!(refusal(&ringback, key).await, Error::Invalid(_)), "{key:?}");
        }
        fresh(&ringback, &"x".repeat(256)).await.refused().await.unwrap();
    }
}
