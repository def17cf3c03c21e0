//! Chores beside delivering: sweeping up after closed endpoints, replay jobs, sealing anew, retention. One loop, no tasks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::delivery::{CancelReason, Lane};
use crate::error::Error;
use crate::id::{ApplicationId, JobId, MessageId};
use crate::store::{Cancel, Prune, Put, Record, RecordKey, RecordKind};
use crate::time::Timestamp;

use super::Ringback;
use super::replay::{JobStatus, ReplayJob};

/// How many deliveries one write of a sweep cancels, and how many messages one write of retention looks at.
pub(super) const BITE: usize = 250;
/// How many such writes of each there are before the other chores have their turn.
const SWEEP_BITES: usize = 20;
const PRUNE_BITES: usize = 20;
/// How long operational events wait that there was no room for.
const UNTIL_ROOM: Duration = Duration::from_secs(5);
/// How long the chores wait after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is to be done when.
#[derive(Default)]
struct Agenda {
    prune_at: Timestamp,
    /// How far the pass of retention is that is under way.
    pruning: Option<(ApplicationId, MessageId)>,
    /// Running jobs, the oldest first: whose each is, and when it gets on.
    jobs: BTreeMap<JobId, (ApplicationId, Timestamp)>,
    /// When events that there was no room for are sent.
    tell_at: Option<Timestamp>,
}

impl Agenda {
    /// The jobs that get on, of which there are so many at most: the oldest of each application, then the second ones, …
    /// So nobody's jobs keep those of another application waiting, however many they are.
    fn active(&self, most: usize) -> impl Iterator<Item = (JobId, Timestamp)> {
        let mut older: HashMap<ApplicationId, usize> = HashMap::new();
        let rank = |(id, (of, at)): (&JobId, &(ApplicationId, Timestamp))| {
            let rank = older.entry(*of).or_default();
            *rank += 1;
            (*rank, *id, *at)
        };
        let mut jobs: Vec<_> = self.jobs.iter().map(rank).collect();
        jobs.sort_unstable();
        jobs.into_iter().take(most).map(|(_, id, at)| (id, at))
    }

    /// When there is something to do again.
    fn next(&self, most: usize, standings: Option<Timestamp>) -> Timestamp {
        if self.pruning.is_some() {
            return Timestamp::ZERO;
        }
        let jobs = self.active(most).map(|(_, at)| at);
        jobs.chain(standings).chain(self.tell_at).fold(self.prune_at, Timestamp::min)
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
                self.keep_standings().await?;
                self.sweep().await?;
                self.advance_jobs(&mut agenda).await?;
                self.turn_over().await?;
                self.prune_if_due(&mut agenda).await?;
                self.tell_if_possible(&mut agenda).await
            };
            let next = tokio::select! {
                done = done => match done {
                    Ok(()) => agenda.next(self.inner.config.max_running_replays, self.inner.observed.look_at()),
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

    /// Cancels what waits for endpoints that were closed, as much as one turn has. What is left rings for the next one.
    async fn sweep(&self) -> Result<(), Error> {
        let mut bites = SWEEP_BITES;
        while let Some((lane, reason)) = self.inner.sweeps.take() {
            match self.sweep_lane(lane, reason, &mut bites).await {
                Ok(true) => {}
                Ok(false) => {
                    self.inner.sweeps.note(lane, Err(reason));
                    break;
                }
                Err(error) => {
                    self.inner.sweeps.put_back(lane, reason);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether it is done.
    async fn sweep_lane(&self, lane: Lane, reason: CancelReason, bites: &mut usize) -> Result<bool, Error> {
        // Each time anew: it may have been enabled again.
        while self.inner.directory.open(lane).is_err() {
            let what = Cancel::Lane { lane, limit: BITE };
            if self.inner.store.cancel(what, reason, self.now()).await? < BITE {
                break;
            }
            *bites = bites.saturating_sub(1);
            if *bites == 0 {
                return Ok(false);
            }
        }
        Ok(true)
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
                agenda.jobs.entry(job.id).or_insert((job.application, Timestamp::ZERO));
            } else if !job.told {
                self.tell_of_replay(job.id).await?;
            }
        }
        Ok(())
    }

    /// One turn for each job whose time has come: none waits for more than the others' turns.
    async fn advance_jobs(&self, agenda: &mut Agenda) -> Result<(), Error> {
        let now = self.now();
        let active = agenda.active(self.inner.config.max_running_replays);
        let due: Vec<JobId> = active.filter(|(_, at)| *at <= now).map(|(id, _)| id).collect();
        for id in due {
            match self.advance_replay(id).await {
                Ok(Some(next)) => {
                    if let Some((_, at)) = agenda.jobs.get_mut(&id) {
                        *at = next;
                    }
                }
                // Finished, paused, stopped, or its record is lost.
                Ok(None) | Err(Error::NotFound(_)) => {
                    self.tell_of_replay(id).await?;
                    agenda.jobs.remove(&id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gets on with a pass of retention, or begins the next one. A store that fails has it begin anew.
    async fn prune_if_due(&self, agenda: &mut Agenda) -> Result<(), Error> {
        let after = agenda.pruning.take();
        if after.is_none() && self.now() < agenda.prune_at {
            return Ok(());
        }
        // By the rules of now, at each turn.
        let mut prune = Prune { after, ..self.pass() };
        for _ in 0..PRUNE_BITES {
            prune.after = self.inner.store.prune(prune.clone()).await?.next;
            if prune.after.is_none() {
                self.prune_records().await?;
                agenda.prune_at = self.now() + self.inner.config.prune_every;
                return Ok(());
            }
        }
        agenda.pruning = prune.after;
        Ok(())
    }

    /// Removes records that nobody needs any more: expired tokens and receipts, jobs that ended long ago.
    pub(super) async fn prune_records(&self) -> Result<(), Error> {
        self.prune_tokens().await?;
        self.prune_receipts().await?;
        self.prune_erasures().await?;
        self.prune_jobs().await
    }

    /// Removes jobs that ended long ago.
    async fn prune_jobs(&self) -> Result<(), Error> {
        let before = self.now() - self.inner.config.keep_delivered;
        for record in self.all_records(RecordKind::ReplayJob, None).await? {
            let Some(job) = ReplayJob::read(&record.value) else { continue };
            if job.status.has_ended() && job.updated_at < before {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::endpoint::NewEndpoint;
    use crate::front::fixture::Fixture;
    use crate::front::{NewReplay, ReplayFilter, ReplayWhat};
    use crate::message::NewMessage;

    #[tokio::test]
    async fn replay_jobs_go_a_while_after_they_ended_and_running_ones_stay() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let start = async || ringback.start_replay(app, ReplayFilter::default()).await.unwrap().id;
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

    #[tokio::test]
    async fn a_long_pass_of_retention_lets_the_other_chores_have_their_turns() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        for _ in 0..6 {
            ringback.send_batch(app, vec![NewMessage::bytes("a.b", "{}"); 1000]).await.unwrap();
        }
        fixture.clock.pass(ringback.config().keep_delivered + Duration::from_secs(1));
        let mut agenda = Agenda::default();
        ringback.prune_if_due(&mut agenda).await.unwrap();
        assert_eq!(agenda.next(1, None), Timestamp::ZERO, "it goes on at once, after the others");
        let left = async || fixture.store.count(app, crate::store::CountQuery::default()).await.unwrap().messages;
        assert_eq!(left().await, 1000);
        ringback.prune_if_due(&mut agenda).await.unwrap();
        assert_eq!(left().await, 0);
        assert_eq!(agenda.next(1, None), ringback.now() + ringback.config().prune_every, "the pass is over");
    }

    #[tokio::test]
    async fn a_long_sweep_lets_the_other_chores_have_their_turns() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let endpoint = NewEndpoint::at("https://a.example/");
        let endpoint = ringback.create_endpoint(app, endpoint).await.unwrap().id;
        for _ in 0..6 {
            ringback.send_batch(app, vec![NewMessage::bytes("a.b", "{}"); 1000]).await.unwrap();
        }
        ringback.disable_endpoint(app, endpoint).await.unwrap();
        let waiting = async || fixture.store.count(app, crate::store::CountQuery::default()).await.unwrap().waiting;
        ringback.inner.sweeps.bell.notified().await;
        ringback.sweep().await.unwrap();
        assert_eq!(waiting().await, 1000);
        ringback.inner.sweeps.bell.notified().await;
        ringback.sweep().await.unwrap();
        assert_eq!((waiting().await, ringback.inner.sweeps.take()), (0, None));
    }

    #[tokio::test]
    async fn the_jobs_of_one_application_do_not_keep_another_one_s_waiting() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let most = ringback.config().max_running_replays;
        let mut jobs = Vec::new();
        for wanted in [most + 1, 1] {
            let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
            let endpoint = NewEndpoint::at("https://a.example/");
            let endpoint = ringback.create_endpoint(app, endpoint).await.unwrap().id;
            for _ in 0..3 {
                let sent = ringback.send(app, NewMessage::bytes("a.b", "{}")).await.unwrap().id;
                ringback.cancel(app, sent, None).await.unwrap();
            }
            let all = ReplayFilter { what: ReplayWhat::All, endpoint: Some(endpoint), ..ReplayFilter::default() };
            for _ in 0..wanted {
                jobs.push(ringback.start_replay(app, NewReplay::from(all.clone()).rate(1)).await.unwrap().id);
            }
        }
        let mut agenda = Agenda { prune_at: Timestamp::MAX, ..Agenda::default() };
        ringback.find_jobs(&mut agenda).await.unwrap();
        ringback.advance_jobs(&mut agenda).await.unwrap();
        let dealt_with = async |id: JobId| {
            let job = ringback.replay_job(id).await.unwrap();
            job.replayed + job.skipped
        };
        assert_eq!(
            dealt_with(jobs[most + 1]).await,
            1,
            "it is the youngest of all, and the only one of its application"
        );
        assert_eq!((dealt_with(jobs[most - 2]).await > 0, dealt_with(jobs[most - 1]).await), (true, 0));
    }

    #[tokio::test]
    async fn the_oldest_jobs_share_the_turns_and_the_others_wait_for_them() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let endpoint = NewEndpoint::at("https://a.example/");
        let endpoint = ringback.create_endpoint(app, endpoint).await.unwrap().id;
        for _ in 0..3 {
            let sent = ringback.send(app, NewMessage::bytes("a.b", "{}")).await.unwrap().id;
            ringback.cancel(app, sent, None).await.unwrap();
        }
        let most = ringback.config().max_running_replays;
        let all = || ReplayFilter { what: ReplayWhat::All, endpoint: Some(endpoint), ..ReplayFilter::default() };
        let mut ids = Vec::new();
        for _ in 0..most + 2 {
            ids.push(ringback.start_replay(app, NewReplay::from(all()).rate(1)).await.unwrap().id);
        }
        let mut agenda = Agenda { prune_at: Timestamp::MAX, ..Agenda::default() };
        ringback.find_jobs(&mut agenda).await.unwrap();
        let dealt_with = async || {
            let jobs = ringback.replay_jobs().await.unwrap();
            jobs.iter().map(|job| job.replayed + job.skipped).collect::<Vec<_>>()
        };
        ringback.advance_jobs(&mut agenda).await.unwrap();
        let first = dealt_with().await;
        assert!(first[..most].iter().all(|count| *count > 0), "each has had its turn: {first:?}");
        assert_eq!(first[most..], [0, 0], "they wait");
        ringback.pause_replay(ids[0]).await.unwrap();
        fixture.clock.pass(Duration::from_secs(1));
        ringback.advance_jobs(&mut agenda).await.unwrap();
        ringback.advance_jobs(&mut agenda).await.unwrap();
        let then = dealt_with().await;
        assert_eq!(then[0], first[0], "it rests");
        assert!(then[most..].iter().all(|count| *count > 0), "places were free: {then:?}");
        while !agenda.jobs.is_empty() {
            fixture.clock.pass(agenda.next(most, None).since(ringback.now()));
            ringback.advance_jobs(&mut agenda).await.unwrap();
        }
        ringback.resume_replay(ids[0]).await.unwrap();
        ringback.find_jobs(&mut agenda).await.unwrap();
        assert_eq!(agenda.jobs.keys().copied().collect::<Vec<_>>(), [ids[0]]);
    }
}
