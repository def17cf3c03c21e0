//! Replays: one delivery at once, or many as a job that is a record in the store.
//!
//! Invariant: a job's progress and the deliveries that it takes up are one write, so a restart neither skips one nor
//! replays one twice.

mod advance;
mod choice;
mod job;
mod pace;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::delivery::{DeliveryId, Lane};
use crate::directory::Destination;
use crate::endpoint::{Endpoint, EndpointSettings};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId, JobId, MessageId};
use crate::invalid::Invalid;
use crate::store::{MAX_PAGE, MAX_WALK, Put, RecordKind, Replay, Replayed};

use super::{Ringback, records};
use choice::choices;
use job::{MAX_RATE, Why};

pub use job::{JobStatus, NewReplay, ReplayFilter, ReplayJob, ReplayPreview, ReplaySkips, ReplayTo, ReplayWhat};

const EXPUNGED: &str = "the message's payload has been expunged";
/// The most jobs of an application that have not ended.
const MAX_OPEN_JOBS: usize = 100;

const DISABLED: &str = "the endpoint is disabled; enable it first";

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
        self.replay_one(application, message, endpoint, false).await
    }

    /// The same, and a message that was never to go to the endpoint is given a delivery to it, whatever its filters.
    ///
    /// # Errors
    /// As [`replay`](Ringback::replay); [`Error::NotFound`]: no such message or endpoint.
    pub async fn replay_to(
        &self,
        application: ApplicationId,
        message: MessageId,
        endpoint: EndpointId,
    ) -> Result<(), Error> {
        self.replay_one(application, message, endpoint, true).await
    }

    async fn replay_one(
        &self,
        application: ApplicationId,
        message: MessageId,
        endpoint: EndpointId,
        add: bool,
    ) -> Result<(), Error> {
        if self.destination(application, endpoint)?.open().is_err() {
            return Err(Error::Conflict(DISABLED));
        }
        let delivery = DeliveryId { lane: Lane { application, endpoint }, message };
        let replayed = self.inner.store.replay(vec![Replay { delivery, add }], self.now(), None).await?;

        match replayed.and_then(|results| results.first().copied()) {
            Some(Replayed::Reopened | Replayed::Added | Replayed::Hastened) => {
                self.note_if_closed(delivery.lane);
                Ok(())
            }
            Some(Replayed::Expunged | Replayed::Untouched) => Err(Error::Conflict(EXPUNGED)),
            Some(Replayed::InFlight) => Err(Error::Conflict("an attempt is on its way; try again")),
            Some(Replayed::NotFound) | None => Err(Error::NotFound(if add { "message" } else { "delivery" })),
        }
    }

    /// How many deliveries a job with this filter would take up, exactly, as they stand now; it goes through all messages
    /// of the filter's window.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] names the field that contradicts; [`Error::Storage`].
    pub async fn preview_replay(
        &self,
        application: ApplicationId,
        new: impl Into<NewReplay>,
    ) -> Result<ReplayPreview, Error> {
        let new = new.into();
        let to = self.check_replay(application, &new)?;
        // A URL's endpoint is not there yet, and nothing has gone to it: any other id stands for it.
        let to = match &new.to {
            ReplayTo::Url(_) => Some(EndpointId::from_bytes([0; 16])),
            ReplayTo::Itself | ReplayTo::Endpoint(_) => to,
        };
        self.count_replay(application, &new.filter, to).await
    }

    /// Starts a job that replays many deliveries at a rate. It goes on while [`run`](Ringback::run) runs, also after a
    /// restart. Messages that are sent after its start are left alone. Of more jobs than
    /// [`Config::max_running_replays`](crate::Config::max_running_replays) the oldest of each application get on, and the
    /// others wait for them.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] names the field (`rate`, `since`, `endpoint`, `to`, `url`, …);
    /// [`Error::ApplicationOverloaded`] if a URL needs one endpoint too many, or the application has 100 jobs that have not
    /// ended; [`Error::Storage`].
    pub async fn start_replay(
        &self,
        application: ApplicationId,
        new: impl Into<NewReplay>,
    ) -> Result<ReplayJob, Error> {
        let (job, put) = self.prepare_replay(application, new.into()).await?;
        if !self.inner.store.put(vec![put]).await? {
            return Err(Error::Conflict("a job with this id exists; try again"));
        }
        self.inner.jobs.notify_one();
        Ok(job)
    }

    /// A job that is about to be started, and the record that starts it, for a write of the caller's; afterwards
    /// `inner.jobs` is to be rung.
    pub(super) async fn prepare_replay(
        &self,
        application: ApplicationId,
        new: NewReplay,
    ) -> Result<(ReplayJob, Put), Error> {
        if !(1..=MAX_RATE).contains(&new.rate) {
            return Err(Invalid::new("rate", "must be between 1 and 10,000 a second").into());
        }
        let mut to = self.check_replay(application, &new)?;
        let jobs = self.replay_jobs().await?.into_iter();
        if jobs.filter(|job| job.application == application && !job.status.has_ended()).count() >= MAX_OPEN_JOBS {
            return Err(Error::ApplicationOverloaded(format!(
                "this application has {MAX_OPEN_JOBS} replay jobs that have not ended; stop some of them, or wait"
            )));
        }
        let NewReplay { filter, to: wanted, rate } = new;
        if let ReplayTo::Url(url) = wanted {
            to = Some(self.endpoint_for_replays(application, filter.endpoint, url).await?.id);
        }
        let (now, random) = self.inner.ids.next(self.now());
        // Messages sent from now on are of a later millisecond than every one before: the window parts them exactly.
        let start = now + Duration::from_millis(1);
        self.inner.ids.next(start);
        let until = Some(filter.until.map_or(start, |until| until.min(start)));
        let filter = ReplayFilter { until, ..filter };
        let total = self.count_replay(application, &filter, to).await?.count;
        let mut job = ReplayJob::new(JobId::from_parts(now, random), application, (filter, to, rate));
        job.total = total;
        job.told = self.inner.config.operational_application.is_none();
        let put = job.put(0);
        Ok((job, put))
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
            jobs.extend(page.iter().filter_map(|record| ReplayJob::read(&record.value)));
        }
    }

    /// Lets a job rest, also over restarts, until it is resumed. What it has taken up goes on. One that does not run stays
    /// as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn pause_replay(&self, id: JobId) -> Result<ReplayJob, Error> {
        self.change_replay(id, |status| match status {
            JobStatus::Running => JobStatus::Paused,
            other @ (JobStatus::Paused | JobStatus::Finished | JobStatus::Stopped) => other,
        })
        .await
    }

    /// Lets a job that was paused go on where it was. Another one stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn resume_replay(&self, id: JobId) -> Result<ReplayJob, Error> {
        let resumed = self.change_replay(id, |status| match status {
            JobStatus::Paused => JobStatus::Running,
            other @ (JobStatus::Running | JobStatus::Finished | JobStatus::Stopped) => other,
        });
        let job = resumed.await?;
        self.inner.jobs.notify_one();
        Ok(job)
    }

    /// Stops a job for good. What it has taken up stays taken up. A job that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn stop_replay(&self, id: JobId) -> Result<ReplayJob, Error> {
        self.change_replay(id, |status| match status {
            JobStatus::Running | JobStatus::Paused => JobStatus::Stopped,
            other @ (JobStatus::Finished | JobStatus::Stopped) => other,
        })
        .await
    }

    async fn change_replay(&self, id: JobId, next: impl Fn(JobStatus) -> JobStatus) -> Result<ReplayJob, Error> {
        loop {
            let (mut job, version) = self.stored_job(id).await?;
            let status = next(job.status);
            if status == job.status {
                return Ok(job);
            }
            (job.status, job.updated_at) = (status, self.now());
            // If the job got on meanwhile, it is changed where it is now.
            if self.inner.store.put(vec![job.put(version)]).await? {
                // A place may be free for another one.
                self.inner.jobs.notify_one();
                return Ok(job);
            }
        }
    }

    pub(super) async fn stored_job(&self, id: JobId) -> Result<(ReplayJob, u64), Error> {
        let record = self.inner.store.get(records::job_key(id)).await?.ok_or(Error::NotFound("replay job"))?;
        let job = ReplayJob::read(&record.value).ok_or(Error::NotFound("replay job"))?;
        Ok((job, record.version))
    }

    /// Goes through all messages that a job would go through.
    async fn count_replay(
        &self,
        application: ApplicationId,
        filter: &ReplayFilter,
        to: Option<EndpointId>,
    ) -> Result<ReplayPreview, Error> {
        let source = self.replay_source(application, filter);
        let source = source.as_deref().map(|source| &source.endpoint);
        let mut preview = ReplayPreview::default();
        let mut after = None;
        loop {
            let walk = self.inner.store.walk(application, filter.query(after, MAX_WALK)).await?;
            for choice in walk.messages.iter().flat_map(|walked| choices(filter, source, to, walked)) {
                preview.count += 1;
                preview.expunged += u64::from(choice.take == Err(Why::Expunged));
            }
            after = walk.next;
            if after.is_none() {
                return Ok(preview);
            }
        }
    }

    /// The filter's endpoint, also if it was deleted: its filters are still known.
    fn replay_source(&self, application: ApplicationId, filter: &ReplayFilter) -> Option<std::sync::Arc<Destination>> {
        self.inner.directory.destination(Lane { application, endpoint: filter.endpoint? })
    }

    /// Checks that a job can be started, and gives the endpoint that it sends to, if that is another one and there
    /// already.
    fn check_replay(&self, application: ApplicationId, new: &NewReplay) -> Result<Option<EndpointId>, Error> {
        self.tenant(application)?;
        new.filter.validate()?;
        let of = new.filter.endpoint;
        match &new.to {
            ReplayTo::Itself => {
                // One that was deleted gets nothing again.
                of.map(|endpoint| self.destination(application, endpoint)).transpose()?;
                Ok(None)
            }
            ReplayTo::Endpoint(to) => {
                of.map(|_| self.replay_source(application, &new.filter).ok_or(Error::NotFound("endpoint")))
                    .transpose()?;
                let there = self.destination(application, *to);
                let there =
                    there.map_err(|_| Invalid::new("to", "is no endpoint of this application, or was deleted"))?;
                there.open().map_err(|_| Invalid::new("to", DISABLED))?;
                Ok(Some(*to).filter(|to| of != Some(*to)))
            }
            ReplayTo::Url(url) => {
                let Some(_) = of else {
                    let problem = "is needed: a URL gets the profile, the keys and the headers of an endpoint";
                    return Err(Invalid::new("endpoint", problem).into());
                };
                let source = self.replay_source(application, &new.filter).ok_or(Error::NotFound("endpoint"))?;
                if source.is_deleted() {
                    let problem = "was deleted, and its keys with it: send to another endpoint";
                    return Err(Invalid::new("endpoint", problem).into());
                }
                let (url, _) = settings_for_replays(&source.endpoint, url.clone()).validate()?;
                self.inner.gate.policy().check_url(&url)?;
                Ok(None)
            }
        }
    }

    /// An endpoint that gets nothing but replays, beside that which the messages were for.
    async fn endpoint_for_replays(
        &self,
        application: ApplicationId,
        of: Option<EndpointId>,
        url: String,
    ) -> Result<Endpoint, Error> {
        let source = self.destination(application, of.ok_or(Error::NotFound("endpoint"))?)?;
        self.create_copy(&source.endpoint, settings_for_replays(&source.endpoint, url)).await
    }

    /// An endpoint that was closed while something was replayed to it has something waiting again.
    fn note_if_closed(&self, lane: Lane) {
        self.inner.sweeps.note(lane, self.inner.directory.open(lane));
    }
}

/// The settings of an endpoint that gets replays of what another one was to get.
fn settings_for_replays(source: &Endpoint, url: String) -> EndpointSettings {
    EndpointSettings {
        url,
        uid: None,
        description: format!("replays of {}", source.id),
        replay_only: true,
        ..source.settings.clone()
    }
}
