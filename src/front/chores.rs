//! Chores beside delivering: sweeping up after closed endpoints, replay jobs, sealing anew, retention. One loop, no tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::delivery::{CancelReason, Lane};
use crate::error::Error;
use crate::id::JobId;
use crate::store::{Cancel, Put, Record, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::Ringback;
use super::replay::{JobStatus, ReplayJob};

/// How many deliveries one write of a sweep cancels, and how many messages one write of retention looks at.
pub(super) const BITE: usize = 250;
/// How long operational events wait that there was no room for.
const UNTIL_ROOM: Duration = Duration::from_secs(5);
/// How long the chores wait after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is to be done when.
#[derive(Default)]
struct Agenda {
    prune_at: Timestamp,
    /// Running jobs, and when each gets on.
    jobs: BTreeMap<JobId, Timestamp>,
    /// When the counts of failing endpoints are written next.
    counts_at: Timestamp,
    /// When events that there was no room for are sent.
    tell_at: Option<Timestamp>,
}

impl Agenda {
    /// When there is something to do.
    fn next(&self, any_failing: bool) -> Timestamp {
        let jobs = self.jobs.values().copied();
        let counts = any_failing.then_some(self.counts_at);
        jobs.chain(counts).chain(self.tell_at).fold(self.prune_at, Timestamp::min)
    }
}

impl Ringback {
    /// Does the chores until the dispatcher has stopped.
    pub(super) async fn run_chores(&self) {
        let mut agenda = Agenda::default();
        let mut known = false;
        loop {
            let now = self.now();
            let done = async {
                if !std::mem::replace(&mut known, true) {
                    self.find_jobs(&mut agenda).await.inspect_err(|_| known = false)?;
                }
                self.keep_standings(&mut agenda.counts_at).await?;
                self.sweep().await?;
                self.advance_jobs(&mut agenda).await?;
                self.turn_over().await?;
                self.prune_if_due(&mut agenda).await?;
                self.tell_if_possible(&mut agenda).await
            };
            let next = tokio::select! {
                done = done => match done {
                    Ok(()) => agenda.next(self.inner.observed.any_failing()),
                    Err(Error::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "chores wait for the store");
                        now + AFTER_FAILURE
                    }
                },
                () = self.inner.shutdown_chores.notified() => return,
            };
            let pause = tokio::time::sleep(next.since(self.now()).min(Duration::from_secs(3600)));
            tokio::select! {
                () = pause => {}
                () = self.inner.sweeps.bell.notified() => {}
                () = self.inner.observed.bell.notified() => {}
                () = self.inner.outbox.bell.notified() => {}
                () = self.inner.jobs.notified() => known = false,
                () = self.inner.shutdown_chores.notified() => return,
            }
        }
    }

    /// Cancels what waits for endpoints that were closed.
    async fn sweep(&self) -> Result<(), Error> {
        while let Some((lane, reason)) = self.inner.sweeps.take() {
            if let Err(error) = self.sweep_lane(lane, reason).await {
                self.inner.sweeps.put_back(lane, reason);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn sweep_lane(&self, lane: Lane, reason: CancelReason) -> Result<(), Error> {
        // Each time anew: it may have been enabled again.
        while self.inner.directory.open(lane).is_err() {
            let what = Cancel::Lane { lane, limit: BITE };
            if self.inner.store.cancel(what, reason, self.now()).await? < BITE {
                break;
            }
        }
        Ok(())
    }

    /// Sends the operator's events; those that there is no room for after a while.
    async fn tell_if_possible(&self, agenda: &mut Agenda) -> Result<(), Error> {
        if agenda.tell_at.is_some_and(|at| self.now() < at) {
            return Ok(());
        }
        agenda.tell_at = if self.tell_operator().await? { None } else { Some(self.now() + UNTIL_ROOM) };
        Ok(())
    }

    async fn find_jobs(&self, agenda: &mut Agenda) -> Result<(), Error> {
        for job in self.replay_jobs().await? {
            if job.status == JobStatus::Running {
                agenda.jobs.entry(job.id).or_insert(Timestamp::ZERO);
            }
        }
        Ok(())
    }

    async fn advance_jobs(&self, agenda: &mut Agenda) -> Result<(), Error> {
        let now = self.now();
        let due: Vec<JobId> = agenda.jobs.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            match self.advance_replay(id).await {
                Ok(Some(job)) => drop(agenda.jobs.insert(id, self.now() + pause(&job))),
                // Finished, stopped, or its record is lost.
                Ok(None) | Err(Error::NotFound(_)) => drop(agenda.jobs.remove(&id)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn prune_if_due(&self, agenda: &mut Agenda) -> Result<(), Error> {
        let now = self.now();
        if now < agenda.prune_at {
            return Ok(());
        }
        self.prune().await?;
        agenda.prune_at = self.now() + self.inner.config.prune_every;
        Ok(())
    }

    /// Removes records that nobody needs any more: expired tokens and receipts, jobs that ended long ago.
    pub(super) async fn prune_records(&self) -> Result<(), Error> {
        self.prune_tokens().await?;
        self.prune_receipts().await?;
        self.prune_jobs().await
    }

    /// Removes jobs that ended long ago.
    async fn prune_jobs(&self) -> Result<(), Error> {
        let before = self.now() - self.inner.config.keep_delivered;
        for record in self.all_records(RecordKind::ReplayJob, None).await? {
            let Ok(job) = serde_json::from_slice::<ReplayJob>(&record.value) else { continue };
            if job.status != JobStatus::Running && job.updated_at < before {
                let Record { key, version, .. } = record;
                self.inner.store.put(vec![Put { key, expected: version, active: true, value: None }]).await?;
            }
        }
        Ok(())
    }

    /// Removes records that are as they were made; one that is gone already is no error.
    pub(super) async fn remove_records(&self, keys: Vec<RecordKey>) -> Result<(), Error> {
        let removal = |key: &RecordKey| Put { key: key.clone(), expected: 1, active: true, value: None };
        for bite in keys.chunks(BITE) {
            if !self.inner.store.put(bite.iter().map(removal).collect()).await? {
                for key in bite {
                    self.inner.store.put(vec![removal(key)]).await?;
                }
            }
        }
        Ok(())
    }
}

/// How many letters a job replays at once: a tenth of a second's worth, at most what one write holds well.
pub(super) fn bite(rate: u32) -> usize {
    (rate as usize / 10).clamp(1, 60)
}

/// How long a job waits after that many, to keep its rate.
fn pause(job: &ReplayJob) -> Duration {
    Duration::from_secs_f64(bite(job.rate) as f64 / f64::from(job.rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::front::ReplayFilter;
    use crate::front::fixture::Fixture;

    #[tokio::test]
    async fn replay_jobs_go_a_while_after_they_ended_and_running_ones_stay() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let start = async || ringback.start_replay(app, ReplayFilter::default(), 1).await.unwrap().id;
        let (finished, stopped, running) = (start().await, start().await, start().await);
        assert_eq!(ringback.advance_replay(finished).await, Ok(None), "there is nothing to replay");
        fixture.clock.pass(DAY);
        ringback.stop_replay(stopped).await.unwrap();
        let left = async || {
            ringback.prune().await.unwrap();
            ringback.replay_jobs().await.unwrap().iter().map(|job| job.id).collect::<Vec<_>>()
        };
        fixture.clock.pass(DAY * 29);
        assert_eq!(left().await, [finished, stopped, running]);
        fixture.clock.pass(Duration::from_millis(1));
        assert_eq!(left().await, [stopped, running]);
        fixture.clock.pass(DAY);
        assert_eq!(left().await, [running]);
        assert_eq!(ringback.replay_job(finished).await, Err(Error::NotFound("replay job")));
    }
}
