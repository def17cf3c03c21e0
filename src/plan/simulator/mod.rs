//! The seeded simulator: the real plan, decisions and memory store, under a virtual clock, scripted receivers
//! and a store that sometimes fails. The same seed gives the same run.
//!
//! Each run sends messages, some of them with an ordering key, while receivers fail, hang, take their time and answer oddly, endpoints are throttled, weighed,
//! disabled and enabled, the store refuses writes and the process crashes; then everything heals, and all must finish.
//! Invariants are checked at every step, by the plan's own books and by a [`Watch`] that knows nothing of them.

mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::{Attempted, Caps, Command, Event, Plan};
use crate::application::NewApplication;
use crate::attempt::{Attempt, Timing, Trigger};
use crate::breaker::BreakerRules;
use crate::delivery::{CancelReason, DeliveryId, Failure, Lane, Outcome, StateKind, Terms};
use crate::directory::{Bounds, Destination, Directory, Tenant};
use crate::endpoint::{DisableReason, Endpoint, EndpointSettings, EndpointStatus};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Routing;
use crate::retry::{RetryPolicy, RetrySettings};
use crate::store::memory::MemoryStore;
use crate::store::{self, Answer, Cancel, Enqueue, Lease, Put, RecordKey, RecordKind, Settlement, Store};
use crate::time::Timestamp;
use watch::Watch;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const CAPS: Caps = Caps {
    in_flight: 12,
    per_endpoint: 4,
    per_origin: 6,
    per_application: None,
    throttle_rate: None,
    breaker: BreakerRules { failures: 4, rest: Duration::from_secs(4), max_rest: Duration::from_secs(30) },
    unsettled: 20,
};
const TROUBLED: Duration = Duration::from_secs(120);
const HEALED: Duration = Duration::from_secs(4000);

/// The memory store answers at once.
fn now<T>(answer: Answer<'_, T>) -> Result<T, store::Error> {
    answer.now_or_never().expect("the memory store answers at once")
}

/// What happens at a point in time.
enum Happening {
    AttemptEnds(Lease, Arc<Destination>, Outcome, Timestamp),
    Settle(Arc<Vec<Settlement>>),
    Send,
    Toggle,
    Crash,
}

struct Simulation {
    random: Xoshiro256PlusPlus,
    time: Timestamp,
    store: MemoryStore,
    directory: Directory,
    plan: Plan,
    /// Raised by a crash: what was on its way before it never ends.
    life: u32,
    agenda: BTreeMap<(Timestamp, u64), (u32, Happening)>,
    entries: u64,
    lanes: Vec<Lane>,
    caps: Caps,
    watch: Watch,
    /// Endpoints that are down from a time to another.
    down: HashMap<Lane, (Timestamp, Timestamp)>,
    /// Endpoints that answer after nearly their whole time limit.
    slow: Vec<Lane>,
    versions: HashMap<Lane, u64>,
    sent: Vec<(ApplicationId, MessageId)>,
    /// Attempts on record, by delivery.
    attempts: HashMap<DeliveryId, u32>,
    trace: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let caps = Caps {
            throttle_rate: random.random_bool(0.2).then(|| random.random_range(1..30)),
            per_application: random.random_bool(0.2).then(|| random.random_range(1..8)),
            ..CAPS
        };
        let mut simulation = Simulation {
            random,
            time: START,
            store: MemoryStore::new(),
            directory: Directory::default(),
            plan: Plan::new(caps),
            caps,
            watch: Watch::new(caps),
            down: HashMap::new(),
            slow: Vec::new(),
            life: 0,
            agenda: BTreeMap::new(),
            entries: 0,
            lanes: Vec::new(),
            versions: HashMap::new(),
            sent: Vec::new(),
            attempts: HashMap::new(),
            trace: Vec::new(),
        };
        let applications = simulation.random.random_range(1..4u128);
        for number in 0..applications {
            simulation.add_tenant(number);
        }
        simulation
    }

    fn add_tenant(&mut self, number: u128) {
        let id = ApplicationId::from_parts(START, number);
        let new = NewApplication {
            weight: self.random.random_bool(0.3).then(|| self.random.random_range(1..5)),
            throttle_rate: self.random.random_bool(0.2).then(|| self.random.random_range(1..20)),
            max_in_flight: self.random.random_bool(0.2).then(|| self.random.random_range(1..6)),
            ..NewApplication::named("a")
        };
        let application = new.build(id, START).unwrap();
        let mut tenant = Tenant { application, version: 1, list_version: 0, endpoints: BTreeMap::new() };
        for endpoint in 0..self.random.random_range(1..5u128) {
            // Two endpoints of three share an origin.
            let host = if endpoint % 3 == 2 { format!("e{number}{endpoint}") } else { "shared".to_owned() };
            let delays = [1, 5, 25].map(Duration::from_secs);
            let settings = EndpointSettings {
                retry: Some(RetrySettings::from(RetryPolicy { jitter: 0.2, ..RetryPolicy::delays(delays) })),
                timeout_ms: Some(3_000),
                max_in_flight: (endpoint == 1).then_some(1),
                throttle_rate: self.random.random_bool(0.2).then(|| self.random.random_range(1..15)),
                weight: self.random.random_bool(0.2).then(|| self.random.random_range(1..5)),
                ..EndpointSettings::at(format!("https://{host}.example/{endpoint}"))
            };
            let endpoint = Endpoint {
                id: EndpointId::from_parts(START, number * 100 + endpoint),
                application: id,
                settings,
                keys: Vec::new(),
                status: EndpointStatus::Enabled,
                created_at: START,
                updated_at: START,
            };
            let lane = Lane { application: id, endpoint: endpoint.id };
            self.lanes.push(lane);
            if self.random.random_bool(0.3) {
                let from = self.soon(TROUBLED.as_millis() as u64 / 2);
                let length = Duration::from_millis(self.random.random_range(1_000..60_000));
                self.down.insert(lane, (from, from + length));
            }
            if self.random.random_bool(0.2) {
                self.slow.push(lane);
            }
            self.put_endpoint(lane, true);
            tenant.endpoints.insert(endpoint.id, Arc::new(Destination::new(endpoint, 1).unwrap()));
        }
        self.directory.show(tenant);
    }

    fn put_endpoint(&mut self, lane: Lane, active: bool) {
        let key = RecordKey {
            kind: RecordKind::Endpoint,
            application: Some(lane.application),
            key: lane.endpoint.to_bytes().to_vec(),
        };
        let version = self.versions.entry(lane).or_insert(0);
        let put = Put { key, expected: *version, active, value: Some("e".into()) };
        *version += 1;
        assert!(now(self.store.put(vec![put])).unwrap());
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.healing() || self.random.random_range(0..100) >= percent
    }

    fn healing(&self) -> bool {
        self.time >= START + TROUBLED
    }

    fn at(&mut self, time: Timestamp, what: Happening) {
        self.entries += 1;
        self.agenda.insert((time, self.entries), (self.life, what));
    }

    fn soon(&mut self, most_ms: u64) -> Timestamp {
        self.time + Duration::from_millis(self.random.random_range(0..=most_ms))
    }

    fn note(&mut self, what: String) {
        let offset = self.time.since(START).as_millis();
        self.trace.push(format!("{offset:>7} ms  {what}"));
    }

    /// Runs until nothing is left to happen.
    fn run(mut self) -> Vec<String> {
        for _ in 0..self.random.random_range(10..60) {
            let time = self.soon(TROUBLED.as_millis() as u64);
            self.at(time, Happening::Send);
        }
        for _ in 0..self.random.random_range(0..6) {
            let time = self.soon(TROUBLED.as_millis() as u64 - 1);
            let what = if self.random.random_bool(0.3) { Happening::Crash } else { Happening::Toggle };
            self.at(time, what);
        }
        self.tell(Event::Rang);
        let mut steps = 0;
        while let Some(time) = self.next_time() {
            assert!(time <= START + TROUBLED + HEALED, "work goes on without end");
            self.time = self.time.max(time);
            steps += 1;
            assert!(steps < 100_000, "it steps without getting on");
            match self.agenda.first_key_value().filter(|((at, _), _)| *at <= self.time).map(|(key, _)| *key) {
                Some(key) => {
                    let (life, what) = self.agenda.remove(&key).unwrap();
                    self.happen(life, what);
                }
                None => self.tell(Event::Rang),
            }
            self.check();
        }
        self.check_end();
        let Watch { rests, asked, .. } = self.watch;
        self.note(format!("{} rests, {} asked for", rests.min(1), asked.min(1)));
        self.trace
    }

    fn next_time(&self) -> Option<Timestamp> {
        let agenda = self.agenda.keys().next().map(|(time, _)| *time);
        [agenda, self.plan.wake_at()].into_iter().flatten().min()
    }

    fn happen(&mut self, life: u32, what: Happening) {
        match what {
            Happening::Send => self.send(),
            Happening::Toggle => self.toggle(),
            Happening::Crash => self.crash(),
            Happening::AttemptEnds(lease, destination, outcome, started_at) if life == self.life => {
                self.attempt_ends(lease, destination, outcome, started_at);
            }
            Happening::Settle(batch) if life == self.life => self.settle(batch),
            // It was on its way in a life that a crash ended.
            Happening::AttemptEnds(lease, ..) => self.note(format!("{:?} never ended", lease.delivery.message)),
            Happening::Settle(_) => {}
        }
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for command in self.plan.step(event, self.time) {
                events.extend(self.carry_out(command));
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Look { .. } | Command::Claim { .. } if !self.chance(5) => Some(Event::StoreFailed),
            Command::Look { after, limit } => {
                let due = now(self.store.due_lanes(self.time, after, limit)).unwrap();
                let found = self.directory.find(&due.lanes);
                Some(Event::Looked { found, more: due.more, next_due: due.next_due })
            }
            Command::Claim { wanted, until } => {
                assert!(self.plan.in_flight() <= self.caps.in_flight, "permits come before claims");
                Some(Event::Claimed(now(self.store.claim(self.time, wanted, until)).unwrap()))
            }
            Command::Attempt { lease, destination } => {
                self.start_attempt(lease, destination);
                None
            }
            Command::Settle(batch) => {
                let time = self.soon(300);
                self.at(time, Happening::Settle(batch));
                None
            }
            Command::Stop => None,
        }
    }

    fn start_attempt(&mut self, lease: Lease, destination: Arc<Destination>) {
        let lane = lease.delivery.lane;
        let latest = self.directory.destination(lane).unwrap();
        assert!(latest.open().is_ok(), "no attempt starts after its endpoint was disabled");
        let tenant = self.directory.tenant(lane.application).unwrap();
        self.watch.started(lane, &latest, Bounds::from(&tenant.application), self.time);
        if let Some(key) = ordering_key(&lease) {
            self.watch.has_its_turn(lease.delivery, key);
        }
        let outcome = self.outcome(lane);
        let slow = self.slow.contains(&lane) && !self.healing();
        let time = match outcome {
            Outcome::Failed(Failure::Timeout) => self.time + destination.profile.timeout(),
            Outcome::Answered { .. } if slow => self.time + destination.profile.timeout() - Duration::from_millis(50),
            Outcome::Answered { .. } | Outcome::Failed(_) => self.soon(2_000),
        };
        self.note(format!("{:?} try {} to {:?}", lease.delivery.message, lease.progress.attempts + 1, lane.endpoint));
        let started_at = self.time;
        self.at(time, Happening::AttemptEnds(lease, destination, outcome, started_at));
    }

    fn outcome(&mut self, lane: Lane) -> Outcome {
        let answered = |status| Outcome::answered(status);
        let is_down = self.down.get(&lane).is_some_and(|(from, to)| (*from..*to).contains(&self.time));
        match self.random.random_range(0..100) {
            _ if self.healing() => answered(200),
            0..50 if is_down => Outcome::Failed(Failure::Refused),
            50..80 if is_down => Outcome::Failed(Failure::Timeout),
            _ if is_down => answered(503),
            0..40 => answered(204),
            40..60 => answered(500),
            60..65 => Outcome::Answered { status: 429, retry_after: Some(Duration::from_secs(9)), asked: None },
            65..70 => answered(410),
            70..85 => Outcome::Failed(Failure::Timeout),
            85..95 => Outcome::Failed(Failure::Refused),
            _ => Outcome::Failed(Failure::Reset),
        }
    }

    fn attempt_ends(&mut self, lease: Lease, destination: Arc<Destination>, outcome: Outcome, started_at: Timestamp) {
        let progress = lease.progress.tried();
        if let Some(key) = ordering_key(&lease) {
            self.watch.had_its_turn(lease.delivery, key);
        }
        self.entries += 1;
        let attempt = Attempt {
            id: AttemptId::from_parts(started_at, self.entries.into()),
            delivery: lease.delivery,
            number: progress.attempts,
            round: progress.round,
            trigger: Trigger::First,
            started_at,
            url: String::new(),
            request_headers: Vec::new(),
            outcome,
            response: None,
            timing: Timing { head_us: None, total_us: self.time.since(started_at).as_micros() as u64 },
            result: StateKind::Leased,
        };
        let open = self.directory.destination(lease.delivery.lane).unwrap().open();
        let attempt = self.chance(3).then_some(attempt);
        let seen = attempt.as_ref().map(|attempt| attempt.outcome);
        self.watch.ended(lease.delivery.lane, seen, started_at, self.time);
        let draw = self.random.random();
        let ended_at = self.time;
        let terms = Terms::default();
        self.tell(Event::Attempted(Box::new(Attempted { lease, destination, attempt, terms, ended_at, draw, open })));
    }

    fn settle(&mut self, batch: Arc<Vec<Settlement>>) {
        if !self.chance(10) {
            self.note("a settlement fails".into());
            return self.tell(Event::Settled(Err(store::Error::Unavailable("scripted".into()))));
        }
        let results = now(self.store.settle(Arc::clone(&batch))).unwrap();
        for (settlement, settled) in batch.iter().zip(&results) {
            assert_eq!(*settled, store::Settled::Done, "no lease runs out while its attempt is on its way");
            let id = settlement.lease.delivery;
            if let Some(attempt) = &settlement.attempt {
                let number = self.attempts.entry(id).or_insert(0);
                *number += 1;
                assert_eq!(attempt.number, *number, "attempts are numbered without gaps");
            }
            self.note(format!("{:?} is {:?}", id.message, settlement.state.kind()));
        }
        for (lane, reason) in super::stragglers(&batch, &self.directory) {
            let what = Cancel::Lane { lane, limit: usize::MAX };
            now(self.store.cancel(what, reason, self.time)).unwrap();
        }
        self.tell(Event::Settled(Ok(results)));
    }

    fn send(&mut self) {
        let lane = self.lanes[self.random.random_range(0..self.lanes.len())];
        let tenant = self.directory.tenant(lane.application).unwrap();
        let open = tenant.endpoints.values().filter(|destination| destination.open().is_ok());
        let to: Vec<EndpointId> = open.map(|destination| destination.endpoint.id).collect();
        self.entries += 1;
        let id = MessageId::from_parts(self.time, self.entries.into());
        let mut message = crate::testing::message(lane.application, id, self.time, "{}", Routing::To(to));
        message.ordering_key = self.random.random_bool(0.6).then(|| format!("k{}", self.random.random_range(0..3)));
        let item = Enqueue { message: Arc::new(message), routed_over: None, idempotency: None };
        now(self.store.enqueue(vec![item])).unwrap();
        let deliveries = now(self.store.deliveries(lane.application, id)).unwrap();
        let held = deliveries.iter().filter(|delivery| delivery.state.kind() == StateKind::Held).count();
        self.note(format!("{id:?} is sent, {} held", held.min(1)));
        self.sent.push((lane.application, id));
        self.tell(Event::Rang);
    }

    /// Disables an enabled endpoint and cancels what waits for it, or enables a disabled one.
    fn toggle(&mut self) {
        let lane = self.lanes[self.random.random_range(0..self.lanes.len())];
        let tenant = self.directory.tenant(lane.application).unwrap();
        let old = &tenant.endpoints[&lane.endpoint];
        let enable = old.open().is_err();
        let status = if enable {
            EndpointStatus::Enabled
        } else {
            EndpointStatus::Disabled { since: self.time, reason: DisableReason::Requested }
        };
        self.note(format!("{:?} becomes {status:?}", lane.endpoint));
        self.put_endpoint(lane, enable);
        let endpoint = Endpoint { status, updated_at: self.time, ..old.endpoint.clone() };
        self.watch.changed(lane);
        let mut endpoints = tenant.endpoints.clone();
        endpoints.insert(lane.endpoint, Arc::new(Destination::new(endpoint, 1).unwrap()));
        self.directory.show(Tenant { endpoints, list_version: tenant.list_version + 1, ..(*tenant).clone() });
        if !enable {
            let what = Cancel::Lane { lane, limit: usize::MAX };
            now(self.store.cancel(what, CancelReason::EndpointDisabled, self.time)).unwrap();
        }
        self.tell(Event::Rang);
    }

    /// The process dies: leases and everything on its way are gone, the store is not.
    fn crash(&mut self) {
        self.note("crash".into());
        self.life += 1;
        self.store.drop_leases();
        self.plan = Plan::new(self.caps);
        self.watch.crashed();
        for lane in self.lanes.clone() {
            if let Err(reason) = self.directory.destination(lane).unwrap().open() {
                let what = Cancel::Lane { lane, limit: usize::MAX };
                now(self.store.cancel(what, reason, self.time)).unwrap();
            }
        }
        self.tell(Event::Rang);
    }

    /// What must hold at every step.
    fn check(&mut self) {
        let total = self.watch.on_their_way();
        assert_eq!(total, self.plan.in_flight(), "a permit for each attempt on its way, and none else");
        assert!(total <= self.caps.in_flight);
        assert!(self.plan.permits.add_up());
        let mut origins: HashMap<String, u32> = HashMap::new();
        let mut due = Vec::new();
        let claimable = now(self.store.due_lanes(self.time, None, usize::MAX)).unwrap().lanes;
        for lane in &self.lanes {
            let destination = self.directory.destination(*lane).unwrap();
            let known = self.plan.permits.remembered(*lane);
            *origins.entry(destination.origin.clone()).or_insert(0) += known.in_flight;
            let rests = known.breaker.rested(self.time).is_err();
            if destination.open().is_ok() && !rests && claimable.contains(lane) {
                due.push(*lane);
            }
        }
        assert!(origins.values().all(|count| *count <= self.caps.per_origin));
        self.watch.nobody_is_forgotten(&due, self.time);
    }

    /// What must hold once everything has healed and calmed down.
    fn check_end(&self) {
        assert_eq!(self.plan.wake_at(), None, "nothing waits, so nothing wakes");
        for (application, id) in &self.sent {
            for delivery in now(self.store.deliveries(*application, *id)).unwrap() {
                let progress = delivery.progress;
                assert!(delivery.state.is_terminal(), "{delivery:?}");
                assert!(progress.tries <= 4, "at most the first attempt and three retries: {delivery:?}");
                assert_eq!(self.attempts.get(&delivery.id).copied().unwrap_or(0), progress.attempts);
            }
        }
        let health = now(self.store.health()).unwrap();
        assert_eq!((health.open, health.leased), (0, 0));
    }
}

fn ordering_key(lease: &Lease) -> Option<String> {
    lease.message.as_ref()?.ordering_key.clone()
}

fn seeds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    std::env::var("RINGBACK_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[test]
fn every_seed_keeps_the_invariants_and_finishes() {
    for seed in 0..seeds() {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run());
        assert!(run.is_ok(), "seed {seed} breaks an invariant");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(Simulation::new(seed).run(), Simulation::new(seed).run());
    }
}

#[test]
fn the_runs_are_not_empty() {
    let traces: Vec<String> = (0..50).flat_map(|seed| Simulation::new(seed).run()).collect();
    for word in [
        "Delivered",
        "Dead",
        "Canceled",
        "crash",
        "a settlement fails",
        "never ended",
        "Disabled",
        "1 rests",
        "1 asked for",
        "1 held",
    ] {
        assert!(traces.iter().any(|line| line.contains(word)), "no run showed: {word}");
    }
}
