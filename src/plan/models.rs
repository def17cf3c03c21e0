//! Figures of the plan on a virtual clock: what endpoints that hang cost the others, and how one comes back that has much
//! waiting.
//!
//! The store is a model of one: due times in memory, and nothing fails. The plan and the decisions are the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::attempt::{Timing, Trigger};
use crate::breaker::BreakerState;
use crate::delivery::{DeliveryId, Failure, Progress};
use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus};
use crate::id::{AttemptId, EndpointId, MessageId};
use crate::retry::{RetryPolicy, RetrySettings};
use crate::store::Fence;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// What the settings say by default.
const CAPS: Caps = Caps {
    in_flight: 1_024,
    per_endpoint: 64,
    per_origin: 256,
    per_application: None,
    throttle_rate: None,
    breaker: BreakerRules { failures: 10, rest: Duration::from_secs(5), max_rest: Duration::from_secs(300) },
    unsettled: 8_192,
};
const LIMIT: Duration = Duration::from_secs(5);
const OK: Outcome = Outcome::answered(200);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What waits in a lane: its due times, with what each has been through.
type Waiting = BTreeMap<(Timestamp, u64), Progress>;

enum Happening {
    Arrives(usize),
    Ends(Lease, Arc<Destination>, Outcome, Timestamp),
}

/// How an attempt at this endpoint at this time ends, and after how long.
type Receivers = fn(usize, Timestamp, &mut Xoshiro256PlusPlus) -> (Outcome, Duration);

struct Model {
    plan: Plan,
    random: Xoshiro256PlusPlus,
    receivers: Receivers,
    now: Timestamp,
    endpoints: Vec<Arc<Destination>>,
    numbers: BTreeMap<Lane, usize>,
    waiting: BTreeMap<Lane, Waiting>,
    ready: BTreeSet<Lane>,
    later: BTreeSet<(Timestamp, Lane)>,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    entries: u64,
    in_flight: Vec<u32>,
    /// When an attempt started, at which endpoint, and how many were on their way with it.
    starts: Vec<(Timestamp, usize, u32)>,
    /// For each message that was delivered: its endpoint, and how long after it was accepted.
    delivered: Vec<(usize, Duration)>,
}

impl Model {
    fn new(seed: u64, applications: usize, endpoints: usize, receivers: Receivers) -> Model {
        let destination = |number: usize| {
            let application = ApplicationId::from_bytes([1 + (number % applications) as u8; 16]);
            let delays = [1, 5, 25].map(Duration::from_secs);
            let endpoint = Endpoint {
                id: EndpointId::from_parts(START, number as u128),
                application,
                settings: EndpointSettings {
                    timeout_ms: Some(LIMIT.as_millis() as u64),
                    retry: Some(RetrySettings::from(RetryPolicy::delays(delays))),
                    ..EndpointSettings::at(format!("https://e{number}.example/"))
                },
                keys: Vec::new(),
                status: EndpointStatus::Enabled,
                created_at: START,
                updated_at: START,
            };
            Arc::new(Destination::new(endpoint, 1).unwrap())
        };
        let endpoints: Vec<_> = (0..endpoints).map(destination).collect();
        let numbers = endpoints.iter().enumerate().map(|(number, endpoint)| (endpoint.lane(), number)).collect();
        Model {
            plan: Plan::new(CAPS),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            receivers,
            now: START,
            in_flight: vec![0; endpoints.len()],
            endpoints,
            numbers,
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            agenda: BTreeMap::new(),
            entries: 0,
            starts: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn at(&mut self, time: Timestamp, what: Happening) {
        self.entries += 1;
        self.agenda.insert((time, self.entries), what);
    }

    fn put(&mut self, lane: Lane, due: Timestamp, progress: Progress) {
        self.entries += 1;
        self.waiting.entry(lane).or_default().insert((due, self.entries), progress);
        self.reposition(lane);
    }

    fn reposition(&mut self, lane: Lane) {
        self.ready.remove(&lane);
        if let Some(((due, _), _)) = self.waiting.get(&lane).and_then(|waiting| waiting.first_key_value()) {
            self.later.insert((*due, lane));
        }
    }

    fn look(&mut self, after: Option<Lane>, limit: usize) -> Event {
        while let Some((due, lane)) = self.later.first().copied().filter(|(due, _)| *due <= self.now) {
            self.later.remove(&(due, lane));
            self.ready.insert(lane);
        }
        let beyond = self.ready.iter().filter(|lane| Some(**lane) > after);
        let lanes = beyond.take(limit + 1).map(|lane| (*lane, None)).collect();
        let mut found = Found { lanes, ..Found::default() };
        let more = found.lanes.len() > limit;
        found.lanes.truncate(limit);
        for (lane, destination) in &mut found.lanes {
            *destination = Some(Arc::clone(&self.endpoints[self.numbers[lane]]));
        }
        Event::Looked { found, more, next_due: self.later.first().map(|(due, _)| *due) }
    }

    fn claim(&mut self, wanted: Vec<(Lane, usize)>) -> Event {
        let mut leases = Vec::new();
        for (lane, most) in wanted {
            let Some(waiting) = self.waiting.get_mut(&lane) else { continue };
            for _ in 0..most {
                let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= self.now) else { break };
                let progress = first.remove();
                let delivery = DeliveryId { lane, message: MessageId::from_bytes([1; 16]) };
                let fence = Fence { epoch: 1, counter: 1 };
                leases.push(Lease { delivery, progress, message: None, fence, lost: false });
            }
            self.reposition(lane);
        }
        Event::Claimed(leases)
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for command in self.plan.step(event, self.now) {
                match command {
                    Command::Look { after, limit } => events.push(self.look(after, limit)),
                    Command::Claim { wanted, .. } => events.push(self.claim(wanted)),
                    Command::Attempt { lease, destination } => {
                        let number = self.numbers[&destination.lane()];
                        let (outcome, took) = (self.receivers)(number, self.now, &mut self.random);
                        self.in_flight[number] += 1;
                        self.starts.push((self.now, number, self.in_flight[number]));
                        self.at(self.now + took, Happening::Ends(lease, destination, outcome, self.now));
                    }
                    Command::Settle(batch) => {
                        for settlement in batch.iter() {
                            if let State::Waiting { due } = settlement.state {
                                self.put(settlement.lease.delivery.lane, due, settlement.lease.progress.tried());
                            }
                        }
                        events.push(Event::Settled(Ok(batch.iter().map(|_| Settled::Done).collect())));
                    }
                    Command::Stop => {}
                }
            }
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrives(number) => {
                self.put(self.endpoints[number].lane(), self.now, Progress::new(self.now));
                self.tell(Event::Rang);
            }
            Happening::Ends(lease, destination, outcome, started_at) => {
                let number = self.numbers[&destination.lane()];
                self.in_flight[number] -= 1;
                if outcome == OK {
                    self.delivered.push((number, self.now.since(lease.progress.since)));
                }
                let attempt = Attempt {
                    id: AttemptId::from_bytes([1; 16]),
                    delivery: lease.delivery,
                    number: 1,
                    round: 1,
                    trigger: Trigger::First,
                    started_at,
                    url: String::new(),
                    request_headers: Vec::new(),
                    outcome,
                    response: None,
                    timing: Timing { head_us: None, total_us: self.now.since(started_at).as_micros() as u64 },
                    result: StateKind::Leased,
                };
                let (ended_at, draw, attempt) = (self.now, self.random.random(), Some(attempt));
                let (terms, open) = (Terms::default(), Ok(()));
                let ended = Attempted { lease, destination, attempt, terms, ended_at, draw, open };
                self.tell(Event::Attempted(Box::new(ended)));
            }
        }
    }

    /// Runs until then; `each` looks at the model after every step.
    fn run(&mut self, until: Timestamp, mut each: impl FnMut(&mut Model)) {
        self.tell(Event::Rang);
        loop {
            let agenda = self.agenda.keys().next().map(|(time, _)| *time);
            let next = [agenda, self.plan.wake_at()].into_iter().flatten().min().filter(|time| *time <= until);
            let Some(time) = next else { break };
            self.now = self.now.max(time);
            match self.agenda.first_entry().filter(|first| first.key().0 <= self.now) {
                Some(first) => {
                    let what = first.remove();
                    self.happen(what);
                }
                None => self.tell(Event::Rang),
            }
            each(self);
        }
        self.now = until;
    }
}

/// How many of a hundred hang.
fn receivers_of_which(hang: usize) -> Receivers {
    fn answer(random: &mut Xoshiro256PlusPlus) -> (Outcome, Duration) {
        (OK, Duration::from_millis(random.random_range(20..60)))
    }
    const HANG: (Outcome, Duration) = (Outcome::Failed(Failure::Timeout), LIMIT);
    match hang {
        0 => |_, _, random| answer(random),
        10 => |number, _, random| if number / 10 % 10 == 3 { HANG } else { answer(random) },
        50 => |number, _, random| if number / 10 % 2 == 1 { HANG } else { answer(random) },
        _ => unreachable!("no such share is asked for"),
    }
}

/// A thousand endpoints, each of which gets a message every two seconds: the good ones' deliveries a second, and their p99.
fn good_ones(hang: usize, applications: usize) -> (f64, Duration) {
    let receivers = receivers_of_which(hang);
    let mut model = Model::new(1, applications, 1_000, receivers);
    let is_good = |number: usize| receivers(number, START, &mut Xoshiro256PlusPlus::seed_from_u64(1)).0 == OK;
    const TIME: u64 = 10;
    for number in 0..1_000 {
        for nth in 0..TIME / 2 {
            let time = START + Duration::from_millis(nth * 2_000 + model.random.random_range(0..2_000));
            model.at(time, Happening::Arrives(number));
        }
    }
    model.run(START + seconds(TIME), |_| {});
    let mut took: Vec<Duration> =
        model.delivered.iter().filter(|(number, _)| is_good(*number)).map(|(_, took)| *took).collect();
    took.sort();
    let good = (0..1_000).filter(|number| is_good(*number)).count();
    (took.len() as f64 / good as f64, took[took.len() * 99 / 100])
}

#[test]
fn good_endpoints_keep_their_rate_and_their_times_however_many_others_hang() {
    let (rate, p99) = good_ones(0, 10);
    for (hang, applications) in [(10, 10), (50, 10), (50, 1)] {
        let (beside, slowed) = good_ones(hang, applications);
        assert!(beside >= 0.95 * rate, "{beside} of {rate} with {hang} % of {applications} applications");
        assert!(slowed <= p99 * 2, "{slowed:?} instead of {p99:?} with {hang} % of {applications} applications");
    }
}

const HEALED: Timestamp = Timestamp::from_millis(START.as_millis() + 3_600_000);

/// Down for an hour.
fn down_for_an_hour(_: usize, now: Timestamp, random: &mut Xoshiro256PlusPlus) -> (Outcome, Duration) {
    if now < HEALED {
        (Outcome::Failed(Failure::Refused), Duration::from_millis(2))
    } else {
        (OK, Duration::from_millis(random.random_range(40..60)))
    }
}

#[test]
fn an_endpoint_that_is_back_after_an_hour_never_gets_more_than_its_slow_start_allows() {
    const WAITING: usize = 100_000;
    let mut model = Model::new(2, 1, 1, down_for_an_hour);
    for nth in 0..WAITING {
        let time = START + Duration::from_millis(nth as u64 * 3_600_000 / WAITING as u64);
        // They never end while it is down: what matters is that they wait.
        model.put(model.endpoints[0].lane(), time, Progress::new(time));
    }
    let (mut cap, mut answers, mut seen, mut done, mut probes) = (1, 0, 0, 0, 0);
    model.run(HEALED + seconds(900), |model| {
        let back = model.delivered.len();
        for _ in done..back {
            answers += 1;
            // The first answer leaves it at one.
            if answers > 1 && answers > cap {
                (cap, answers) = (cap * 2, 1)
            }
        }
        for (time, _, in_flight) in &model.starts[seen..] {
            let most = if *time < HEALED || back == 0 { 10 } else { cap.min(CAPS.per_endpoint) };
            assert!(*in_flight <= most.max(1), "{in_flight} at once where {most} may be");
            probes += usize::from(*time < HEALED);
        }
        (seen, done) = (model.starts.len(), back);
    });
    assert!(probes < 60, "{probes} attempts in an hour of being down");
    assert!(model.delivered.len() + probes >= WAITING, "{} have arrived", model.delivered.len());
    let known = model.plan.permits.remembered(model.endpoints[0].lane());
    assert_eq!(known.breaker.shown(model.now), (BreakerState::Closed, 0));
}
