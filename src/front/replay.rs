//! Replays: one delivery at once, or many as a job that is a record in the store.
//!
//! Invariant: a job's progress and the rounds that it opens are one write, so a restart neither skips a dead
//! letter nor replays one twice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{DeliveryId, Lane};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId, JobId, MessageId};
use crate::invalid::Invalid;
use crate::store::{DeadQuery, MAX_PAGE, Put, RecordKind, Replayed};
use crate::time::Timestamp;

use super::chores::bite;
use super::{Ringback, records};

const EXPUNGED: &str = "the message's payload has been expunged";

/// The highest rate of a replay job, in deliveries a second.
pub const MAX_RATE: u32 = 10_000;

/// Which dead letters of an application a job replays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayFilter {
    /// Those to this endpoint. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
    /// Whose message was accepted at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whose message was accepted before this time. Default: the job's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl ReplayFilter {
    fn query(&self, after: Option<(EndpointId, MessageId)>, limit: usize) -> DeadQuery {
        DeadQuery { endpoint: self.endpoint, since: self.since, until: self.until, after, limit }
    }
}

/// A replay of many dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReplayJob {
    /// Its id.
    pub id: JobId,
    /// The application.
    pub application: ApplicationId,
    /// What it replays.
    pub filter: ReplayFilter,
    /// Deliveries a second.
    pub rate: u32,
    /// How it stands.
    pub status: JobStatus,
    /// How many dead letters there were when it began.
    pub total: u64,
    /// How many it has taken up again (one that was replayed by hand meanwhile counts, too).
    pub replayed: u64,
    /// How many it has left dead, because their endpoint takes nothing or their message's payload has been expunged.
    pub skipped: u64,
    /// The last dead letter that it has dealt with.
    after: Option<(EndpointId, MessageId)>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last got on.
    pub updated_at: Timestamp,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStatus {
    /// It goes on, also after a restart.
    Running,
    /// It has replayed all there was.
    Finished,
    /// It was stopped.
    Stopped,
}

impl Ringback {
    /// Attempts a delivery again: one that has ended in a new round of the full schedule, one that waits at once.
    /// It keeps its message's id and bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such delivery, or its endpoint was deleted; [`Error::Conflict`]: an attempt is on
    /// its way, the endpoint is disabled, or the message's payload has been expunged; [`Error::Storage`].
    pub async fn replay(
        &self,
        application: ApplicationId,
        message: MessageId,
        endpoint: EndpointId,
    ) -> Result<(), Error> {
        if self.destination(application, endpoint)?.open().is_err() {
            return Err(Error::Conflict("the endpoint is disabled; enable it first"));
        }
        let id = DeliveryId { lane: Lane { application, endpoint }, message };
        let replayed = self.inner.store.replay(vec![id.into()], self.now(), None).await?;

        match replayed.and_then(|results| results.first().copied()) {
            Some(Replayed::Reopened | Replayed::Added | Replayed::Hastened) => {
                self.note_if_closed(id.lane);
                Ok(())
            }
            Some(Replayed::Expunged | Replayed::Untouched) => Err(Error::Conflict(EXPUNGED)),
            Some(Replayed::InFlight) => Err(Error::Conflict("an attempt is on its way; try again")),
            Some(Replayed::NotFound) | None => Err(Error::NotFound("delivery")),
        }
    }

    /// How many dead letters a job would replay.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn preview_replay(&self, application: ApplicationId, filter: &ReplayFilter) -> Result<u64, Error> {
        self.check_filter(application, filter)?;
        Ok(self.inner.store.count_dead_letters(application, filter.query(None, 1)).await?)
    }

    /// Starts a job that replays dead letters at `rate` a second (1 to 10,000). It goes on while
    /// [`run`](Ringback::run) runs, also after a restart. Letters of messages sent after its start are left alone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] (`rate`, `since`); [`Error::Storage`].
    pub async fn start_replay(
        &self,
        application: ApplicationId,
        filter: ReplayFilter,
        rate: u32,
    ) -> Result<ReplayJob, Error> {
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(Invalid::new("rate", "must be between 1 and 10,000 a second").into());
        }
        let total = self.preview_replay(application, &filter).await?;
        let (now, random) = self.inner.ids.next(self.now());
        // Messages sent from now on are of a later millisecond than every one before: the window parts them exactly.
        let start = now + Duration::from_millis(1);
        self.inner.ids.next(start);
        let until = Some(filter.until.map_or(start, |until| until.min(start)));
        let job = ReplayJob {
            id: JobId::from_parts(now, random),
            application,
            filter: ReplayFilter { until, ..filter },
            rate,
            status: JobStatus::Running,
            total,
            replayed: 0,
            skipped: 0,
            after: None,
            created_at: now,
            updated_at: now,
        };
        if !self.inner.store.put(vec![put(&job, 0)]).await? {
            return Err(Error::Conflict("a job with this id exists; try again"));
        }
        self.inner.jobs.notify_one();
        Ok(job)
    }

    /// A job, with its progress.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn replay_job(&self, id: JobId) -> Result<ReplayJob, Error> {
        Ok(self.stored_job(id).await?.0)
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn replay_jobs(&self) -> Result<Vec<ReplayJob>, Error> {
        let mut jobs = Vec::new();
        let mut after = None;
        loop {
            let page = self.inner.store.list(RecordKind::ReplayJob, None, after, MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(jobs) };
            after = Some(last.key.key.clone());
            jobs.extend(page.iter().filter_map(|record| serde_json::from_slice(&record.value).ok()));
        }
    }

    /// Stops a job. What it has replayed stays replayed. A job that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn stop_replay(&self, id: JobId) -> Result<ReplayJob, Error> {
        loop {
            let (job, version) = self.stored_job(id).await?;
            if job.status != JobStatus::Running {
                return Ok(job);
            }
            let job = ReplayJob { status: JobStatus::Stopped, updated_at: self.now(), ..job };
            // If the job got on meanwhile, it is stopped where it is now.
            if self.inner.store.put(vec![put(&job, version)]).await? {
                return Ok(job);
            }
        }
    }

    /// Gets a running job on by one bite. `None` when it has ended.
    pub(super) async fn advance_replay(&self, id: JobId) -> Result<Option<ReplayJob>, Error> {
        // Again from the start if it was stopped between the read and the write.
        loop {
            let (job, version) = self.stored_job(id).await?;
            if job.status != JobStatus::Running {
                return Ok(None);
            }
            if let Some(job) = self.advance(job, version).await? {
                return Ok(Some(job).filter(|job| job.status == JobStatus::Running));
            }
        }
    }

    /// One bite, on top of this version of the record; `None` if that has moved.
    async fn advance(&self, job: ReplayJob, version: u64) -> Result<Option<ReplayJob>, Error> {
        let most = bite(job.rate);
        let now = self.now();
        let page = self.inner.store.dead_letters(job.application, job.filter.query(job.after, most)).await?;
        let Some(last) = page.items.last() else {
            let finished = ReplayJob { status: JobStatus::Finished, updated_at: now, ..job };
            let written = self.inner.store.put(vec![put(&finished, version)]).await?;
            return Ok(written.then_some(finished));
        };
        let after = Some((last.lane.endpoint, last.message));
        // Letters to an endpoint that takes nothing stay dead: they can be replayed once it is enabled.
        let open = |id: &DeliveryId| self.inner.directory.destination(id.lane).is_some_and(|d| d.open().is_ok());
        let looked_at = page.items.len() as u64;
        let mut batch: Vec<DeliveryId> = page.items.into_iter().filter(open).collect();
        loop {
            let replayed = batch.len() as u64;
            let job = ReplayJob {
                after,
                replayed: job.replayed + replayed,
                skipped: job.skipped + looked_at - replayed,
                updated_at: now,
                ..job.clone()
            };
            // The record moves in the same write as the rounds that it counts. If it was stopped meanwhile, nothing is
            // done.
            let record = Some(put(&job, version));
            let Some(results) =
                self.inner.store.replay(batch.iter().map(|id| (*id).into()).collect(), now, record).await?
            else {
                return Ok(None);
            };
            if results.iter().all(|result| result.is_taken_up()) {
                let lanes: BTreeSet<Lane> = batch.iter().map(|id| id.lane).collect();
                lanes.into_iter().for_each(|lane| self.note_if_closed(lane));
                return Ok(Some(job));
            }
            // Nothing was done. What cannot be replayed is left out; the batch gets smaller each time.
            let kept = batch.into_iter().zip(results).filter(|(_, result)| *result == Replayed::Untouched);
            batch = kept.map(|(id, _)| id).collect();
        }
    }

    /// An endpoint that was closed while something was replayed to it has something waiting again.
    fn note_if_closed(&self, lane: Lane) {
        self.inner.sweeps.note(lane, self.inner.directory.open(lane));
    }

    async fn stored_job(&self, id: JobId) -> Result<(ReplayJob, u64), Error> {
        let record = self.inner.store.get(records::job_key(id)).await?.ok_or(Error::NotFound("replay job"))?;
        let job = serde_json::from_slice(&record.value).map_err(|_| Error::NotFound("replay job"))?;
        Ok((job, record.version))
    }

    fn check_filter(&self, application: ApplicationId, filter: &ReplayFilter) -> Result<(), Error> {
        self.tenant(application)?;
        if let Some(endpoint) = filter.endpoint {
            self.destination(application, endpoint)?;
        }
        if let (Some(since), Some(until)) = (filter.since, filter.until)
            && since >= until
        {
            return Err(Invalid::new("since", "must be before until").into());
        }
        Ok(())
    }
}

fn put(job: &ReplayJob, expected: u64) -> Put {
    let value = serde_json::to_vec(job).expect("a job is plain data");
    Put { key: records::job_key(job.id), expected, active: true, value: Some(value.into()) }
}
