//! Erasing for good: a message, all of a person's messages by a tag, or a whole application, as jobs that a restart does
//! not end.
//!
//! A job passes over the messages and has the store remove each with its payload, deliveries, attempts, event id and
//! idempotency record. What is being attempted may end its attempt; another pass takes it. A pass that is cut off is
//! begun anew: erasing again what is gone does nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ApplicationId, JobId, MessageId};
use crate::message::validate_wanted_tag;
use crate::store::{self, MAX_PAGE, MessageQuery, Order, Put, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::replay::ReplayJob;
use super::{Ringback, records};

/// How many messages are looked at, or rows removed, between two writes of a job's progress.
const BITE: usize = 200;
/// What parts the messages of before a job from those of after it: they are of different milliseconds.
const MOMENT: Duration = Duration::from_millis(1);
/// How long a pass waits for attempts that are on their way, or for a store that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erase {
    /// One message.
    Message(MessageId),
    /// Every message with this tag that was sent before the job was made.
    Tag(String),
    /// The application with all that is its: messages, endpoints, tokens, records, its uid.
    Application,
}

/// How an erase job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseStatus {
    /// It is under way, also over restarts.
    Running,
    /// All is gone.
    Finished,
}

/// What kind of thing a job erases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Erasing {
    /// One message.
    Message,
    /// Messages with a tag.
    Tag,
    /// An application.
    Application,
}

/// An erase job, and what it has removed. A job that was cut off by a crash may have removed a little more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EraseJob {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub application: ApplicationId,
    /// What kind of thing it erases.
    pub what: Erasing,
    /// The message, if it is one.
    pub message: Option<MessageId>,
    /// How it stands.
    pub status: EraseStatus,
    /// Messages that are gone, with their payloads.
    pub messages: u64,
    /// Their deliveries.
    pub deliveries: u64,
    /// Their attempts.
    pub attempts: u64,
    /// Messages of the last pass with an attempt on its way, which is waited for.
    pub in_flight: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last got on.
    pub updated_at: Timestamp,
}

/// A job as it is stored. The tag is what may name a person: it goes when the job is done.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    job: EraseJob,
    tag: Option<String>,
    after: Option<MessageId>,
}

/// What became of a bite of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advance {
    /// The job is done.
    Done,
    /// It can get on at once.
    More,
    /// A pass has ended, and attempts on their way are waited for.
    Waits,
}

fn key(id: JobId) -> RecordKey {
    RecordKey { kind: RecordKind::EraseJob, application: None, key: id.to_bytes().to_vec() }
}

impl Stored {
    fn put(&self, expected: u64) -> Put {
        let value = serde_json::to_vec(self).expect("a job is plain data with texts as keys");
        Put { key: key(self.job.id), expected, active: true, value: Some(value.into()) }
    }

    /// The messages that it still has to look at. The newest first: of an ordering key those that are held go before the
    /// one that they wait for, and none of them is sent because it has gone.
    fn query(&self) -> MessageQuery {
        let everything =
            MessageQuery { after: self.after, order: Order::NewestFirst, limit: BITE, ..MessageQuery::default() };
        match self.job.what {
            Erasing::Tag => {
                MessageQuery { tag: self.tag.clone(), until: Some(self.job.created_at + MOMENT), ..everything }
            }
            Erasing::Message | Erasing::Application => everything,
        }
    }
}

impl Ringback {
    /// Makes a job that erases something for good, and answers at once. [`run`](Ringback::run) carries it out, and
    /// [`finish_erasing`](Ringback::finish_erasing) does where nothing runs; a restart does not end it.
    ///
    /// What waits to be delivered is canceled, what is being attempted may end its attempt, and then messages go with
    /// their payloads, deliveries, attempts, event ids and idempotency records: an erased idempotency key may be used
    /// anew. An application is deleted first, as [`delete_application`](Ringback::delete_application) does it; then its
    /// endpoints and other records go as well, and nothing of it is left but this job.
    ///
    /// The bytes stay in the free space of the store's files until that is used again, or
    /// [`compact`](Ringback::compact) gives it back.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a tag that no message can have; [`Error::Storage`].
    pub async fn start_erase(&self, application: ApplicationId, what: Erase) -> Result<EraseJob, Error> {
        self.application(application)?;
        let (now, random) = self.inner.ids.next(self.now());
        // Messages sent from now on are of a later millisecond than the job, and those of before are not.
        self.inner.ids.next(now + MOMENT);
        let (kind, message, tag) = match what {
            Erase::Message(id) => {
                let found = self.inner.store.message(application, id).await?;
                found.ok_or(Error::NotFound("message"))?;
                (Erasing::Message, Some(id), None)
            }
            Erase::Tag(tag) => {
                validate_wanted_tag(&tag)?;
                (Erasing::Tag, None, Some(tag))
            }
            Erase::Application => (Erasing::Application, None, None),
        };
        let job = EraseJob {
            id: JobId::from_parts(now, random),
            application,
            what: kind,
            message,
            status: EraseStatus::Running,
            messages: 0,
            deliveries: 0,
            attempts: 0,
            in_flight: 0,
            created_at: now,
            updated_at: now,
        };
        let stored = Stored { v: records::VERSION, job: job.clone(), tag, after: None };
        if !self.inner.store.put(vec![stored.put(0)]).await? {
            return Err(Error::Conflict("the job's id was used at the same time; try again"));
        }
        let deleted = match kind {
            Erasing::Application => self.delete_application(application).await,
            Erasing::Message | Erasing::Tag => Ok(()),
        };
        // From here on the job does it, whatever became of that.
        self.inner.erasures.notify_one();
        match deleted {
            Ok(()) | Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(job),
            Err(error) => Err(error),
        }
    }

    /// How many messages [`start_erase`](Ringback::start_erase) would remove.
    ///
    /// # Errors
    /// As `start_erase`.
    pub async fn preview_erase(&self, application: ApplicationId, what: &Erase) -> Result<u64, Error> {
        self.application(application)?;
        let tag = match what {
            Erase::Message(id) => {
                let found = self.inner.store.message(application, *id).await?;
                return found.map(|_| 1).ok_or(Error::NotFound("message"));
            }
            Erase::Tag(tag) => {
                validate_wanted_tag(tag)?;
                Some(tag.clone())
            }
            Erase::Application => None,
        };
        let mut query = MessageQuery { tag, order: Order::OldestFirst, limit: MAX_PAGE, ..MessageQuery::default() };
        let mut count = 0;
        loop {
            let walk = self.inner.store.walk(application, query.clone()).await?;
            count += walk.messages.len() as u64;
            query.after = walk.next;
            if query.after.is_none() {
                return Ok(count);
            }
        }
    }

    /// How an erase job stands.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn erase_job(&self, id: JobId) -> Result<EraseJob, Error> {
        Ok(self.stored_erasure(id).await?.0.job)
    }

    /// All erase jobs, oldest first. One that has ended goes `Config::keep_delivered` later.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn erase_jobs(&self) -> Result<Vec<EraseJob>, Error> {
        let records = self.all_records(RecordKind::EraseJob, None).await?;
        let jobs = records.iter().filter_map(|record| serde_json::from_slice::<Stored>(&record.value).ok());
        Ok(jobs.map(|stored| stored.job).collect())
    }

    /// Waits until an erase job is done, and gets on with it meanwhile, also if nothing runs.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`]: try again.
    pub async fn finish_erasing(&self, id: JobId) -> Result<EraseJob, Error> {
        loop {
            match self.advance_erasure(id).await? {
                Advance::Done => return self.erase_job(id).await,
                Advance::More => {}
                Advance::Waits => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn stored_erasure(&self, id: JobId) -> Result<(Stored, u64), Error> {
        let record = self.inner.store.get(key(id)).await?.ok_or(Error::NotFound("erase job"))?;
        let stored = serde_json::from_slice(&record.value).map_err(|_| Error::NotFound("erase job"))?;
        Ok((stored, record.version))
    }

    /// Carries erase jobs out, for as long as it is polled.
    pub(super) async fn run_erasures(&self) {
        loop {
            match self.advance_erasures().await {
                Ok(true) => self.inner.erasures.notified().await,
                Ok(false) => tokio::time::sleep(PAUSE).await,
                Err(Error::Closed) => return std::future::pending().await,
                Err(error) => {
                    tracing::warn!(%error, "what is to be erased waits for the store");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Gets on with every job as far as it goes now. Whether all are done. One that fails keeps no other one waiting.
    async fn advance_erasures(&self) -> Result<bool, Error> {
        let mut all = true;
        let mut failed = None;
        for job in self.erase_jobs().await?.into_iter().filter(|job| job.status == EraseStatus::Running) {
            loop {
                match self.advance_erasure(job.id).await {
                    Ok(Advance::Done) => break,
                    Ok(Advance::More) => {}
                    Ok(Advance::Waits) => {
                        all = false;
                        break;
                    }
                    Err(Error::Closed) => return Err(Error::Closed),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
        }
        failed.map_or(Ok(all), Err)
    }

    /// Gets on with a job by a bite.
    async fn advance_erasure(&self, id: JobId) -> Result<Advance, Error> {
        let _one = self.inner.erasing.lock().await;
        let (mut stored, version) = self.stored_erasure(id).await?;
        if stored.job.status == EraseStatus::Finished {
            return Ok(Advance::Done);
        }
        let application = stored.job.application;
        let (ids, next) = match stored.job.message {
            Some(message) => (vec![message], None),
            None => {
                if stored.job.what == Erasing::Application && self.application(application).is_ok() {
                    // The call that made the job was cut off before it had deleted it.
                    self.delete_application(application).await?;
                }
                let walk = self.inner.store.walk(application, stored.query()).await?;
                (walk.messages.iter().map(|walked| walked.message.id).collect(), walk.next)
            }
        };
        if stored.after.is_none() {
            stored.job.in_flight = 0;
        }
        if !ids.is_empty() {
            let erased = self.inner.store.erase(application, store::Erase::Messages(ids), self.now()).await?;
            stored.job.messages += erased.messages;
            stored.job.deliveries += erased.deliveries;
            stored.job.attempts += erased.attempts;
            stored.job.in_flight += erased.in_flight.len() as u64;
        }
        stored.after = next;
        let over = next.is_none() && stored.job.in_flight == 0;
        if over {
            if stored.job.what == Erasing::Application {
                self.erase_rest(application).await?;
            }
            stored.job.status = EraseStatus::Finished;
            stored.tag = None;
        }
        stored.job.updated_at = self.now();
        self.inner.store.put(vec![stored.put(version)]).await?;
        Ok(match (over, next) {
            (true, _) => Advance::Done,
            (false, Some(_)) => Advance::More,
            (false, None) => Advance::Waits,
        })
    }

    /// What is left of an application without messages: rows of its own, and the store's records that are about it.
    async fn erase_rest(&self, application: ApplicationId) -> Result<(), Error> {
        self.erase_receipts(application).await?;
        for record in self.all_records(RecordKind::ReplayJob, None).await? {
            let own =
                serde_json::from_slice::<ReplayJob>(&record.value).is_ok_and(|job| job.application == application);
            if own {
                self.remove_as_it_is(record.key, record.version).await?;
            }
        }
        let rest = || store::Erase::Rest { limit: BITE };
        while self.inner.store.erase(application, rest(), self.now()).await?.more {}
        let own = records::application_key(application);
        if let Some(record) = self.inner.store.get(own).await? {
            self.remove_as_it_is(record.key, record.version).await?;
        }
        Ok(())
    }

    async fn remove_as_it_is(&self, key: RecordKey, version: u64) -> Result<(), Error> {
        // One that moves at this moment is found by the next pass.
        self.inner.store.put(vec![Put { key, expected: version, active: true, value: None }]).await?;
        Ok(())
    }

    /// Removes erase jobs that ended long ago.
    pub(super) async fn prune_erasures(&self) -> Result<(), Error> {
        let before = self.now() - self.inner.config.keep_delivered;
        for record in self.all_records(RecordKind::EraseJob, None).await? {
            let Ok(Stored { job, .. }) = serde_json::from_slice(&record.value) else { continue };
            if job.status == EraseStatus::Finished && job.updated_at < before {
                self.remove_as_it_is(record.key, record.version).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::front::faulty::{Fault, Faulty};
    use crate::front::fixture::Fixture;
    use crate::message::NewMessage;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// Stores a few messages of one tag and of another.
    async fn prepared() -> (Fixture, ApplicationId) {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A").uid("a")).await.unwrap().id;
        for tag in ["user:1", "user:2", "user:1"] {
            ringback.send(app, NewMessage::bytes("e", "{}").tag(tag)).await.unwrap();
        }
        fixture.clock.pass(Duration::from_millis(1));
        (fixture, app)
    }

    async fn left(fixture: &Fixture, app: ApplicationId) -> usize {
        let query = MessageQuery { limit: 100, ..MessageQuery::default() };
        fixture.store.messages(app, query).await.unwrap().items.len()
    }

    #[tokio::test]
    async fn a_job_that_a_failing_store_stops_at_any_write_goes_on_and_ends() {
        for what in [Erase::Tag("user:1".into()), Erase::Application] {
            for failing in 0..12 {
                for fault in [Fault::Before, Fault::Behind] {
                    let (mut fixture, app) = prepared().await;
                    let job = fixture.open().await.start_erase(app, what.clone()).await.unwrap();
                    let plain = Arc::clone(&fixture.store);
                    let writes = Arc::new(AtomicUsize::new(0));
                    let counted = Arc::clone(&writes);
                    let next = move || if counted.fetch_add(1, SeqCst) == failing { fault } else { Fault::None };
                    fixture.store = Arc::new(Faulty::over(plain, next));
                    let first = fixture.open().await.finish_erasing(job.id).await;
                    assert_eq!(first.is_err(), writes.load(SeqCst) > failing, "write {failing}, {fault:?}");
                    // A restart.
                    let done = fixture.open().await.finish_erasing(job.id).await.unwrap();
                    assert_eq!(done.status, EraseStatus::Finished);
                    let expected = if what == Erase::Application { 0 } else { 1 };
                    assert_eq!(left(&fixture, app).await, expected, "{what:?}, write {failing}, {fault:?}");
                    let stored = fixture.store.get(key(job.id)).await.unwrap().unwrap();
                    assert!(
                        !String::from_utf8_lossy(&stored.value).contains("user:1"),
                        "a job that is done forgets it"
                    );
                    let own = fixture.store.get(records::application_key(app)).await.unwrap();
                    assert_eq!(own.is_none(), what == Erase::Application);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_was_sent_just_before_goes_and_what_is_sent_just_after_stays() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let send = async || ringback.send(app, NewMessage::bytes("e", "{}").tag("user:1")).await.unwrap().id;
        send().await;
        let job = ringback.start_erase(app, Erase::Tag("user:1".into())).await.unwrap();
        let after = send().await;
        assert_eq!(ringback.finish_erasing(job.id).await.unwrap().messages, 1);
        let found = fixture.store.messages(app, MessageQuery { limit: 9, ..MessageQuery::default() }).await.unwrap();
        assert_eq!(found.items.iter().map(|message| message.id).collect::<Vec<_>>(), [after]);
    }

    #[tokio::test]
    async fn none_is_sent_because_an_erased_one_that_it_waited_for_has_gone() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        ringback.create_endpoint(app, crate::endpoint::NewEndpoint::at("https://a.example/")).await.unwrap();
        let message = NewMessage::bytes("e", "{}").tag("user:1").ordering_key("call 1");
        let sent = ringback.send_batch(app, vec![message; BITE + 1]).await.unwrap();
        let first = sent[0].as_ref().unwrap().id;
        let job = ringback.start_erase(app, Erase::Tag("user:1".into())).await.unwrap();
        assert_eq!(ringback.advance_erasure(job.id).await, Ok(Advance::More));
        let found = fixture.store.messages(app, MessageQuery { limit: 9, ..MessageQuery::default() }).await.unwrap();
        assert_eq!(found.items.iter().map(|message| message.id).collect::<Vec<_>>(), [first], "it waited all the time");
        assert_eq!(ringback.finish_erasing(job.id).await.unwrap().messages, BITE as u64 + 1);
    }

    #[tokio::test]
    async fn nothing_that_was_routed_before_an_application_is_erased_is_stored_after_it() {
        let (fixture, app) = prepared().await;
        let ringback = fixture.open().await;
        let (list, version) = ringback
            .inner
            .directory
            .tenant(app)
            .map(|tenant| (records::endpoint_list_key(app), tenant.list_version))
            .unwrap();
        let job = ringback.start_erase(app, Erase::Application).await.unwrap();
        let enqueue = async || {
            let id = MessageId::from_parts(ringback.now(), 1);
            let nowhere = crate::message::Routing::Nowhere(crate::message::NoRoute::NoEndpoints);
            let message = Arc::new(crate::testing::message(app, id, ringback.now(), "{}", nowhere));
            let late = store::Enqueue { message, routed_over: Some((list.clone(), version)), idempotency: None };
            fixture.store.enqueue(vec![late]).await.unwrap().remove(0)
        };
        assert_eq!(enqueue().await, store::Enqueued::Stale);
        ringback.finish_erasing(job.id).await.unwrap();
        assert_eq!(enqueue().await, store::Enqueued::Stale);
        assert_eq!(left(&fixture, app).await, 0);
    }

    #[tokio::test]
    async fn an_application_that_was_deleted_meanwhile_is_not_shown_again() {
        let (fixture, app) = prepared().await;
        let ringback = fixture.open().await;
        let read = ringback.inner.directory.tenant(app).unwrap();
        ringback.delete_application(app).await.unwrap();
        ringback.reread_tenant(&read).await.unwrap();
        assert_eq!(ringback.application(app), Err(Error::NotFound("application")));
        assert_eq!(ringback.send(app, NewMessage::bytes("e", "{}")).await, Err(Error::NotFound("application")));
    }

    #[tokio::test]
    async fn jobs_go_a_while_after_they_ended() {
        let (fixture, app) = prepared().await;
        let ringback = fixture.open().await;
        let job = ringback.start_erase(app, Erase::Tag("user:1".into())).await.unwrap();
        let running = ringback.start_erase(app, Erase::Tag("user:2".into())).await.unwrap();
        ringback.finish_erasing(job.id).await.unwrap();
        fixture.clock.pass(Duration::from_secs(31 * 86_400));
        ringback.prune().await.unwrap();
        let left: Vec<JobId> = ringback.erase_jobs().await.unwrap().iter().map(|job| job.id).collect();
        assert_eq!(left, [running.id]);
    }
}
