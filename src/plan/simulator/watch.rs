//! What the simulator watches by itself, beside the plan's own books: caps, rates, rests, the order of ordering keys, and that
//! nobody is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{DeliveryId, Failure, Lane, Outcome};
use crate::directory::{Bounds, Destination};
use crate::id::{ApplicationId, MessageId};
use crate::plan::Caps;
use crate::throttle::burst;
use crate::time::Timestamp;

/// How long due work may wait that nothing holds back: turns behind everything else, at the lowest rate there is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whose attempts a throttle counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Server,
    Application(ApplicationId),
    Endpoint(Lane),
}

/// What is known of a lane from its attempts alone.
#[derive(Debug, Default)]
struct Seen {
    in_flight: u32,
    failures: u32,
    /// It failed too often: no attempt starts before this.
    rests: Option<Timestamp>,
    /// It asked for it: neither does any before this.
    asked: Option<Timestamp>,
    /// Its settings were changed: when its row of failures began anew is not seen from here.
    changed: bool,
    /// Since when something is due for it, with nothing on its way.
    waits: Option<Timestamp>,
}

/// What was attempted last of an ordering key, and whether it is on its way.
#[derive(Debug)]
struct Turn {
    message: MessageId,
    on_its_way: bool,
}

/// The watch.
#[derive(Debug)]
pub(super) struct Watch {
    caps: Caps,
    lanes: HashMap<Lane, Seen>,
    starts: HashMap<Of, Vec<Timestamp>>,
    /// Over crashes, too.
    turns: HashMap<(Lane, String), Turn>,
    /// How often a rest was due, and an attempt throttled: so that a run is known to show something.
    pub(super) rests: u32,
    pub(super) asked: u32,
}

impl Watch {
    pub(super) fn new(caps: Caps) -> Self {
        Watch { caps, lanes: HashMap::new(), starts: HashMap::new(), turns: HashMap::new(), rests: 0, asked: 0 }
    }

    /// The process died: nothing is remembered, and all buckets are full.
    pub(super) fn crashed(&mut self) {
        self.lanes.clear();
        self.starts.clear();
        self.turns.values_mut().for_each(|turn| turn.on_its_way = false);
    }

    /// An attempt of a message with an ordering key starts: none of another one is on its way, nor was any later one attempted.
    pub(super) fn has_its_turn(&mut self, DeliveryId { lane, message }: DeliveryId, key: String) {
        if let Some(before) = self.turns.insert((lane, key), Turn { message, on_its_way: true }) {
            assert!(!before.on_its_way, "{message:?} starts beside {:?} of its key", before.message);
            assert!(before.message <= message, "{message:?} starts after {:?} of its key", before.message);
        }
    }

    /// The attempt has ended.
    pub(super) fn had_its_turn(&mut self, DeliveryId { lane, message }: DeliveryId, key: String) {
        let turn = self.turns.get_mut(&(lane, key)).filter(|turn| turn.message == message);
        turn.expect("it had started").on_its_way = false;
    }

    pub(super) fn changed(&mut self, lane: Lane) {
        self.lanes.entry(lane).or_default().changed = true;
    }

    pub(super) fn on_their_way(&self) -> usize {
        self.lanes.values().map(|seen| seen.in_flight as usize).sum()
    }

    pub(super) fn started(&mut self, lane: Lane, destination: &Arc<Destination>, bounds: Bounds, now: Timestamp) {
        let seen = self.lanes.entry(lane).or_default();
        seen.in_flight += 1;
        seen.waits = None;
        assert!(seen.in_flight <= self.caps.most(destination), "{} to {lane:?}", seen.in_flight);
        if !seen.changed {
            assert!(seen.rests.is_none_or(|until| until <= now), "{lane:?} rests until {:?}", seen.rests);
            assert!(seen.asked.is_none_or(|until| until <= now), "{lane:?} asked for {:?}", seen.asked);
        }
        let of_application = self.lanes.iter().filter(|(other, _)| other.application == lane.application);
        let held: u32 = of_application.map(|(_, seen)| seen.in_flight).sum();
        let most = bounds.max_in_flight.or(self.caps.per_application).unwrap_or(u32::MAX);
        assert!(held <= most, "{held} of one application");
        let rates = [
            (Of::Server, self.caps.throttle_rate),
            (Of::Application(lane.application), bounds.throttle_rate),
            (Of::Endpoint(lane), destination.endpoint.settings.throttle_rate),
        ];
        for (of, rate) in rates {
            let Some(rate) = rate else { continue };
            let starts = self.starts.entry(of).or_default();
            starts.push(now);
            // Over every span that ends now.
            for (count, start) in (1u64..).zip(starts.iter().rev()) {
                let span = now.since(*start).as_millis() as u64 + 1;
                let most = u64::from(burst(rate)) + u64::from(rate) * span / 1_000;
                assert!(count <= most, "{count} at {rate}/s within {span} ms: {of:?}");
            }
        }
    }

    pub(super) fn ended(&mut self, lane: Lane, outcome: Option<Outcome>, started_at: Timestamp, now: Timestamp) {
        let rules = self.caps.breaker;
        let seen = self.lanes.entry(lane).or_default();
        seen.in_flight -= 1;
        let Some(outcome) = outcome else { return };
        let failing = match outcome {
            Outcome::Answered { status, .. } => status == 429 || status >= 500,
            Outcome::Failed(failure) => failure != Failure::Lost,
        };
        if !failing {
            (seen.failures, seen.rests) = (0, None);
            return;
        }
        seen.failures += 1;
        // What was on its way when the rest began does not prolong it.
        if seen.failures >= rules.failures && seen.rests.is_none_or(|until| until <= started_at) {
            seen.rests = Some(now + rules.rest / 2);
            self.rests += 1;
        }
        if let Outcome::Answered { status: 429, retry_after: Some(wait), .. } = outcome {
            seen.asked = seen.asked.max(Some(now + wait.min(rules.max_rest)));
            self.asked += 1;
        }
    }

    /// `due` are the lanes that have something due, whose endpoints are open and do not rest.
    pub(super) fn nobody_is_forgotten(&mut self, due: &[Lane], now: Timestamp) {
        for (lane, seen) in &mut self.lanes {
            if seen.in_flight > 0 || !due.contains(lane) {
                seen.waits = None;
            }
        }
        for lane in due {
            let seen = self.lanes.entry(*lane).or_default();
            if seen.in_flight == 0 {
                let since = *seen.waits.get_or_insert(now);
                assert!(now.since(since) <= PATIENCE, "{lane:?} waits since {since}");
            }
        }
    }
}
