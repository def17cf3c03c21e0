//! Jobs over the memory store and a clock that stands: what each takes up, at what rate, whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::application::NewApplication;
use crate::delivery::{CancelReason, DeadReason, Delivery, State, StateKind};
use crate::endpoint::NewEndpoint;
use crate::front::faulty::{Fault, Faulty};
use crate::front::fixture::Fixture;
use crate::message::NewMessage;
use crate::store::{Expunge, Prune, Settlement};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

struct Scene {
    fixture: Fixture,
    ringback: Ringback,
    app: ApplicationId,
}

fn dead(at: Timestamp) -> State {
    State::Dead { at, reason: DeadReason::Exhausted }
}

fn disabled(at: Timestamp) -> State {
    State::Canceled { at, reason: CancelReason::EndpointDisabled }
}

impl Scene {
    async fn new() -> Scene {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        Scene { fixture, ringback, app }
    }

    async fn endpoint(&self, new: NewEndpoint) -> EndpointId {
        self.ringback.create_endpoint(self.app, new).await.unwrap().id
    }

    fn at(path: &str) -> NewEndpoint {
        NewEndpoint::at(format!("https://a.example/{path}"))
    }

    async fn send(&self, event_type: &'static str) -> MessageId {
        self.fixture.clock.pass(Duration::from_millis(2));
        self.ringback.send(self.app, NewMessage::bytes(event_type, "{}")).await.unwrap().id
    }

    /// Ends each delivery that waits as `how` says; `None` leaves it waiting for an hour.
    async fn end(&self, mut how: impl FnMut(DeliveryId) -> Option<State>) {
        let store = &self.fixture.store;
        let now = self.ringback.now();
        loop {
            let due = store.due_lanes(now, None, 100).await.unwrap().lanes;
            let wanted = due.into_iter().map(|lane| (lane, 100)).collect();
            let leases = store.claim(now, wanted, now + HOUR).await.unwrap();
            if leases.is_empty() {
                return;
            }
            let settlement = |lease: crate::store::Lease| {
                let state = how(lease.delivery).unwrap_or(State::Waiting { due: now + HOUR });
                Settlement { lease, attempt: None, state, lets_pass: false }
            };
            store.settle(Arc::new(leases.into_iter().map(settlement).collect())).await.unwrap();
        }
    }

    async fn delivery(&self, message: MessageId, endpoint: EndpointId) -> Option<Delivery> {
        let all = self.ringback.deliveries(self.app, message).await.unwrap();
        all.into_iter().find(|delivery| delivery.id.lane.endpoint == endpoint)
    }

    /// Gives the job its turns until it does not run any more.
    async fn finish(&self, id: JobId) -> ReplayJob {
        while let Some(next) = self.ringback.advance_replay(id).await.unwrap() {
            self.fixture.clock.pass(next.since(self.ringback.now()));
        }
        self.ringback.replay_job(id).await.unwrap()
    }

    async fn replay(&self, new: impl Into<NewReplay>) -> (ReplayPreview, ReplayJob) {
        let new = new.into().rate(MAX_RATE);
        let preview = self.ringback.preview_replay(self.app, new.clone()).await.unwrap();
        let job = self.ringback.start_replay(self.app, new).await.unwrap();
        assert_eq!(preview.count, job.total, "what was said before");
        (preview, self.finish(job.id).await)
    }
}

fn filter(what: ReplayWhat, endpoint: Option<EndpointId>) -> ReplayFilter {
    ReplayFilter { what, endpoint, ..ReplayFilter::default() }
}

#[tokio::test]
async fn failed_takes_up_the_dead_and_what_a_disabled_endpoint_was_to_get() {
    let scene = Scene::new().await;
    let endpoint = scene.endpoint(Scene::at("a")).await;
    let now = scene.ringback.now();
    let states = [
        dead(now),
        disabled(now),
        State::Canceled { at: now, reason: CancelReason::Requested },
        State::Delivered { at: now },
    ];
    let mut sent = Vec::new();
    for _ in states {
        sent.push(scene.send("a.b").await);
    }
    scene.end(|id| sent.iter().position(|one| *one == id.message).map(|place| states[place])).await;
    let (preview, job) = scene.replay(filter(ReplayWhat::Failed, None)).await;
    assert_eq!((preview.count, job.status, job.replayed, job.skipped), (2, JobStatus::Finished, 2, 0));
    assert_eq!(job.looked_at, 4);
    for (place, round) in [(0, 2), (1, 2), (2, 1), (3, 1)] {
        let delivery = scene.delivery(sent[place], endpoint).await.unwrap();
        assert_eq!(delivery.progress.round, round, "{place}");
    }
    scene.end(|_| Some(dead(now))).await;
    assert_eq!(scene.replay(filter(ReplayWhat::Dead, None)).await.1.replayed, 2);
    scene.end(|_| Some(State::Delivered { at: now })).await;
    let (preview, job) = scene.replay(filter(ReplayWhat::All, Some(endpoint))).await;
    assert_eq!((preview.count, job.replayed), (4, 4), "whatever became of it");
}

#[tokio::test]
async fn what_an_endpoint_never_got_is_given_to_it_once_and_only_what_its_filters_take() {
    let scene = Scene::new().await;
    let old = scene.endpoint(Scene::at("old")).await;
    let mut before = Vec::new();
    for event_type in ["call.ended", "other.thing", "call.started"] {
        before.push(scene.send(event_type).await);
    }
    scene.ringback.send_test(scene.app, old, "svix.ping").await.unwrap();
    let nowhere = {
        scene.ringback.disable_endpoint(scene.app, old).await.unwrap();
        scene.send("call.lost").await
    };
    let new = scene.endpoint(Scene::at("new").event_type("call.*")).await;
    let got = scene.send("call.late").await;
    let (preview, job) = scene.replay(filter(ReplayWhat::Missing, Some(new))).await;
    assert_eq!((preview.count, job.replayed, job.skipped), (3, 3, 0));
    for (message, has) in [(before[0], true), (before[1], false), (before[2], true), (nowhere, true), (got, true)] {
        let delivery = scene.delivery(message, new).await;
        assert_eq!(delivery.map(|one| (one.state.kind(), one.progress.round)), has.then_some((StateKind::Waiting, 1)));
    }
    let (preview, job) = scene.replay(filter(ReplayWhat::Missing, Some(new))).await;
    assert_eq!((preview.count, job.replayed, job.status), (0, 0, JobStatus::Finished), "it has them all");
}

#[tokio::test]
async fn another_endpoint_gets_what_failed_elsewhere_also_of_one_that_was_deleted() {
    let scene = Scene::new().await;
    let (one, two) = (scene.endpoint(Scene::at("1")).await, scene.endpoint(Scene::at("2")).await);
    let spare = scene.endpoint(Scene::at("3").event_type("none.at.all")).await;
    let sent = [scene.send("a.b").await, scene.send("a.b").await];
    let now = scene.ringback.now();
    scene.end(|id| Some(if id.message == sent[0] { dead(now) } else { State::Delivered { at: now } })).await;
    let to_spare = |endpoint| NewReplay::from(filter(ReplayWhat::Failed, endpoint)).to(spare);
    let (preview, job) = scene.replay(to_spare(None)).await;
    assert_eq!((preview.count, job.replayed, job.to), (1, 1, Some(spare)), "it failed twice, and goes there once");
    assert!(scene.delivery(sent[0], spare).await.is_some() && scene.delivery(sent[1], spare).await.is_none());
    assert_eq!(scene.delivery(sent[0], one).await.unwrap().state, dead(now), "the others stay as they are");

    scene.ringback.delete_endpoint(scene.app, two).await.unwrap();
    let itself = scene.ringback.start_replay(scene.app, filter(ReplayWhat::All, Some(two))).await;
    assert_eq!(itself, Err(Error::NotFound("endpoint")));
    let of_two = NewReplay::from(filter(ReplayWhat::All, Some(two))).to(spare);
    let (_, job) = scene.replay(of_two).await;
    assert_eq!((job.total, job.replayed, job.skips.under_way), (2, 1, 1), "one is on its way there");
    assert_eq!(scene.delivery(sent[1], spare).await.unwrap().progress.round, 1);
}

#[tokio::test]
async fn a_url_gets_the_endpoint_s_profile_keys_and_headers_and_nothing_but_replays() {
    let scene = Scene::new().await;
    let of = Scene::at("1").profile("levers").header("x-token", "canary").event_type("call.ended").max_in_flight(3);
    let source = scene.endpoint(of).await;
    let sent = scene.send("call.ended").await;
    let now = scene.ringback.now();
    scene.end(|_| Some(dead(now))).await;
    let to_url = NewReplay::from(filter(ReplayWhat::Failed, Some(source))).to_url("https://b.example/again");
    let (_, job) = scene.replay(to_url).await;
    let made = scene.ringback.endpoint(scene.app, job.to.unwrap()).unwrap();
    let old = scene.ringback.endpoint(scene.app, source).unwrap();
    assert_eq!((made.settings.url.as_str(), made.settings.replay_only), ("https://b.example/again", true));
    assert_eq!((&made.settings.profile, &made.settings.headers), (&old.settings.profile, &old.settings.headers));
    assert_eq!((made.keys == old.keys, made.keys.is_empty(), made.settings.max_in_flight), (true, false, Some(3)));
    assert_eq!(scene.delivery(sent, made.id).await.unwrap().state.kind(), StateKind::Waiting);
    let later = scene.send("call.ended").await;
    assert!(scene.delivery(later, made.id).await.is_none(), "new messages do not go there");
}

#[tokio::test]
async fn contradictions_are_refused_by_their_field_and_nothing_is_made() {
    let scene = Scene::new().await;
    let (one, other) = (scene.endpoint(Scene::at("1")).await, scene.endpoint(Scene::at("2").disabled(true)).await);
    let gone = scene.endpoint(Scene::at("3")).await;
    scene.ringback.delete_endpoint(scene.app, gone).await.unwrap();
    let elsewhere = scene.ringback.create_application(NewApplication::named("B")).await.unwrap().id;
    let foreign = scene.ringback.create_endpoint(elsewhere, Scene::at("4")).await.unwrap().id;
    let of = |endpoint| NewReplay::from(filter(ReplayWhat::Failed, endpoint));
    for (new, field) in [
        (of(None).to(gone), "to"),
        (of(None).to(other), "to"),
        (of(None).to(foreign), "to"),
        (of(None).to_url("https://b.example/"), "endpoint"),
        (of(Some(gone)).to_url("https://b.example/"), "endpoint"),
        (of(Some(one)).to_url("https://127.0.0.1/"), "url"),
        (of(Some(one)).to_url("http://[fd00::1]/"), "url"),
        (NewReplay::from(filter(ReplayWhat::Missing, None)), "endpoint"),
        (of(None).rate(0), "rate"),
        (of(None).rate(MAX_RATE + 1), "rate"),
    ] {
        let shown = format!("{new:?}");
        let Err(Error::Invalid(invalid)) = scene.ringback.start_replay(scene.app, new).await else { panic!("{shown}") };
        assert_eq!(invalid.field(), field, "{shown}");
    }
    assert_eq!(scene.ringback.start_replay(scene.app, of(Some(foreign))).await, Err(Error::NotFound("endpoint")));
    assert_eq!(scene.ringback.replay_jobs().await.unwrap(), []);
    assert_eq!(scene.ringback.endpoints(scene.app).unwrap().len(), 2);
    let to_itself = scene.ringback.start_replay(scene.app, of(Some(one)).to(one)).await.unwrap();
    assert_eq!(to_itself.to, None, "that is where it was to go");
}

#[tokio::test]
async fn what_is_skipped_is_counted_by_its_reason() {
    let scene = Scene::new().await;
    let (open, closed) = (scene.endpoint(Scene::at("1")).await, scene.endpoint(Scene::at("2")).await);
    let (expunged, plain) = (scene.send("a.b").await, scene.send("a.b").await);
    let waits = scene.send("a.b").await;
    let now = scene.ringback.now();
    scene.end(|id| (id.message != waits).then(|| dead(now))).await;
    assert!(scene.fixture.store.expunge(scene.app, Expunge::Payload(expunged)).await.unwrap());
    scene.ringback.disable_endpoint(scene.app, closed).await.unwrap();
    let (preview, job) = scene.replay(filter(ReplayWhat::All, None)).await;
    assert_eq!((preview.count, preview.expunged), (6, 2));
    assert_eq!((job.replayed, job.skipped, job.looked_at), (1, 5, 3));
    let ReplaySkips { closed: disabled, expunged: erased, under_way, gone } = job.skips;
    assert_eq!((disabled, erased, under_way, gone), (1, 2, 2, 0));
    assert_eq!(scene.delivery(plain, open).await.unwrap().progress.round, 2);
}

#[tokio::test]
async fn a_paused_job_rests_over_a_restart_and_goes_on_where_it_was() {
    let scene = Scene::new().await;
    let endpoint = scene.endpoint(Scene::at("1")).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(scene.send("a.b").await);
    }
    let now = scene.ringback.now();
    scene.end(|_| Some(dead(now))).await;
    let new = NewReplay::from(ReplayFilter::default()).rate(1);
    let id = scene.ringback.start_replay(scene.app, new).await.unwrap().id;
    for _ in 0..2 {
        let next = scene.ringback.advance_replay(id).await.unwrap().unwrap();
        scene.fixture.clock.pass(next.since(scene.ringback.now()));
    }
    let paused = scene.ringback.pause_replay(id).await.unwrap();
    assert_eq!((paused.status, paused.replayed, paused.remaining()), (JobStatus::Paused, 2, None));
    assert_eq!(scene.ringback.advance_replay(id).await, Ok(None));
    let again = scene.fixture.open().await;
    assert_eq!(again.replay_job(id).await.unwrap(), paused);
    assert_eq!(again.resume_replay(id).await.unwrap().remaining(), Some(Duration::from_secs(3)));
    let scene = Scene { ringback: again, ..scene };
    let job = scene.finish(id).await;
    assert_eq!((job.status, job.replayed, job.skipped), (JobStatus::Finished, 5, 0));
    for message in sent {
        assert_eq!(scene.delivery(message, endpoint).await.unwrap().progress.round, 2);
    }
    for ended in [scene.ringback.pause_replay(id).await, scene.ringback.resume_replay(id).await] {
        assert_eq!(ended.unwrap(), job, "what has ended stays as it is");
    }
    assert_eq!(scene.ringback.stop_replay(id).await.unwrap().status, JobStatus::Finished);
}

#[tokio::test]
async fn messages_sent_after_a_job_s_start_are_left_alone() {
    let scene = Scene::new().await;
    let endpoint = scene.endpoint(Scene::at("1")).await;
    let before = scene.send("a.b").await;
    let now = scene.ringback.now();
    scene.end(|_| Some(dead(now))).await;
    let id = scene.ringback.start_replay(scene.app, ReplayFilter::default()).await.unwrap().id;
    // Without a tick of the clock in between.
    let after = scene.ringback.send(scene.app, NewMessage::bytes("a.b", "{}")).await.unwrap().id;
    scene.fixture.clock.pass(Duration::from_millis(5));
    scene.end(|_| Some(dead(now))).await;
    assert_eq!(scene.finish(id).await.replayed, 1);
    assert_eq!(scene.delivery(before, endpoint).await.unwrap().progress.round, 2);
    assert_eq!(scene.delivery(after, endpoint).await.unwrap().progress.round, 1);
}

/// Many runs, each with its own mixture of states, endpoints, filters, failures, restarts and pauses.
#[tokio::test]
async fn a_job_takes_up_each_delivery_once_at_its_rate_whatever_fails() {
    for seed in 0..60 {
        one_run(seed).await;
    }
}

async fn one_run(seed: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut scene = Scene::new().await;
    let mut endpoints = Vec::new();
    for number in 0..random.random_range(1..=12) {
        endpoints.push(scene.endpoint(Scene::at(&number.to_string())).await);
    }
    let mut sent = Vec::new();
    for _ in 0..random.random_range(1..=25) {
        sent.push(scene.send("a.b").await);
    }
    let now = scene.ringback.now();
    scene
        .end(|_| match random.random_range(0..5) {
            0 => None,
            1 => Some(State::Delivered { at: now }),
            2 => Some(disabled(now)),
            _ => Some(dead(now)),
        })
        .await;
    let late = scene.endpoint(Scene::at("late")).await;
    for message in &sent {
        if random.random_bool(0.1) {
            scene.fixture.store.expunge(scene.app, Expunge::Payload(*message)).await.unwrap();
        }
    }
    let what = [ReplayWhat::Failed, ReplayWhat::Dead, ReplayWhat::All, ReplayWhat::Missing][random.random_range(0..4)];
    let of = (what == ReplayWhat::Missing).then_some(late);
    let rate = [3, 10, 47, 600][random.random_range(0..4)];
    let mut before = BTreeMap::new();
    for message in &sent {
        let erased = scene.ringback.message(scene.app, *message).await.unwrap().expunged;
        let all = scene.ringback.deliveries(scene.app, *message).await.unwrap();
        before.extend(all.into_iter().map(|delivery| (delivery.id, (delivery, erased))));
    }
    let new = NewReplay::from(filter(what, of)).rate(rate);
    let preview = scene.ringback.preview_replay(scene.app, new.clone()).await.unwrap();
    let id = scene.ringback.start_replay(scene.app, new).await.unwrap().id;

    let steady = Arc::clone(&scene.fixture.store);
    let mut faults = Xoshiro256PlusPlus::seed_from_u64(seed + 1_000_000);
    scene.fixture.store = Arc::new(Faulty::over(Arc::clone(&steady), move || match faults.random_range(0..6) {
        0 => Fault::Before,
        1 => Fault::Behind,
        _ => Fault::None,
    }));
    scene.ringback = scene.fixture.open().await;
    for step in 0.. {
        assert!(step < 5_000, "it ends: seed {seed}");
        match scene.ringback.advance_replay(id).await {
            Ok(Some(next)) => scene.fixture.clock.pass(next.since(scene.ringback.now())),
            Ok(None) => match scene.ringback.replay_job(id).await.unwrap().status {
                JobStatus::Finished => break,
                JobStatus::Paused => drop(scene.ringback.resume_replay(id).await),
                status @ (JobStatus::Running | JobStatus::Stopped) => assert_eq!(status, JobStatus::Running),
            },
            Err(_) => {}
        }
        match random.random_range(0..8) {
            0 => scene.ringback = scene.fixture.open().await,
            1 => drop(scene.ringback.pause_replay(id).await),
            _ => {}
        }
    }
    scene.fixture.store = steady;
    let job = scene.ringback.replay_job(id).await.unwrap();
    assert_eq!(job.replayed + job.skipped, job.total, "seed {seed}: {job:?}");
    assert_eq!((preview.count, preview.expunged), (job.total, job.skips.expunged), "seed {seed}");
    let mut times = Vec::new();
    let mut taken = 0;
    for message in &sent {
        for delivery in scene.ringback.deliveries(scene.app, *message).await.unwrap() {
            let Some((old, erased)) = before.get(&delivery.id) else {
                assert_eq!((what, delivery.id.lane.endpoint), (ReplayWhat::Missing, late));
                taken += 1;
                times.push(delivery.progress.since);
                continue;
            };
            let about = match old.state {
                State::Dead { .. } => what != ReplayWhat::Missing,
                State::Canceled { .. } => matches!(what, ReplayWhat::Failed | ReplayWhat::All),
                State::Delivered { .. } => what == ReplayWhat::All,
                State::Waiting { .. } | State::Held { .. } | State::Leased { .. } => false,
            };
            let round = if about && !erased { 2 } else { 1 };
            assert_eq!(delivery.progress.round, round, "seed {seed}: {what:?} of {old:?}");
            if round == 2 {
                taken += 1;
                times.push(delivery.progress.since);
            }
        }
    }
    assert_eq!(taken, job.replayed, "seed {seed}");
    times.sort_unstable();
    for (place, time) in times.iter().enumerate() {
        let within = times[place..].iter().take_while(|later| **later < *time + Duration::from_secs(1)).count();
        assert!(within <= rate as usize, "seed {seed}: {within} in a second, and the rate is {rate}");
    }
}

#[tokio::test]
async fn retention_between_two_turns_costs_only_what_it_removed() {
    let scene = Scene::new().await;
    scene.endpoint(Scene::at("1")).await;
    scene.endpoint(Scene::at("2")).await;
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(scene.send("a.b").await);
    }
    let now = scene.ringback.now();
    scene.end(|_| Some(dead(now))).await;
    let id = scene.ringback.start_replay(scene.app, NewReplay::from(ReplayFilter::default()).rate(1)).await.unwrap().id;
    scene.ringback.advance_replay(id).await.unwrap();
    // It stands in the middle of the first message. That one waits again, and stays; the second one goes.
    let (now, before) = (scene.ringback.now(), sent[2].time());
    let prune = Prune { now, delivered_before: before, ended_before: before, limit: 100, ..Prune::default() };
    assert_eq!(scene.fixture.store.prune(prune).await.unwrap().removed, 1);
    let job = scene.finish(id).await;
    assert_eq!((job.status, job.total, job.replayed, job.skipped), (JobStatus::Finished, 8, 6, 0));
    let left: BTreeSet<MessageId> = sent.iter().copied().filter(|id| *id != sent[1]).collect();
    for message in left {
        for delivery in scene.ringback.deliveries(scene.app, message).await.unwrap() {
            assert_eq!(delivery.progress.round, 2);
        }
    }
}

#[tokio::test]
async fn an_application_has_a_hundred_open_jobs_at_most_and_others_have_theirs() {
    let fixture = Fixture::new();
    let ringback = fixture.open().await;
    let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
    let other = ringback.create_application(NewApplication::named("B")).await.unwrap().id;
    let mut last = None;
    for _ in 0..100 {
        last = Some(ringback.start_replay(app, ReplayFilter::default()).await.unwrap().id);
    }
    let refused = ringback.start_replay(app, ReplayFilter::default()).await;
    assert!(matches!(refused, Err(Error::ApplicationOverloaded(_))), "{refused:?}");
    ringback.start_replay(other, ReplayFilter::default()).await.unwrap();
    ringback.stop_replay(last.unwrap()).await.unwrap();
    ringback.start_replay(app, ReplayFilter::default()).await.unwrap();
}
