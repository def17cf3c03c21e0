//! Permits: who may have one more request on its way. Caps, shares, throttles and rests, kept for each lane, each
//! application and each origin.
//!
//! Invariants: what is taken is given back, once; the counts of an application and of all are the sums of their lanes'; a
//! permit of a slow lane counts as slow from the moment on from which the lane is. Looking at a lane that may have none
//! costs one look-up, whatever waits in it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::attempt::Attempt;
use crate::breaker::{Breaker, Ended};
use crate::delivery::{Lane, Outcome};
use crate::directory::{Bounds, Destination};
use crate::health::{Health, Pace, QUICK, Remembered, Shares, SlowOne};
use crate::id::ApplicationId;
use crate::throttle::Throttle;
use crate::time::Timestamp;

use super::Caps;
use super::turns::Last;

/// Of how many lanes with nothing on its way it is remembered how they answered: about 20 MiB.
pub(super) const MOST_REMEMBERED: usize = 131_072;

/// Why a lane has no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) whom: Whom,
    /// When it may have one, as far as it is a matter of time.
    pub(super) until: Option<Timestamp>,
}

/// Who else has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    Lane,
    Application,
    Everybody,
}

#[derive(Debug, Default)]
struct LaneState {
    in_flight: u32,
    health: Health,
    breaker: Breaker,
    throttle: Option<Throttle>,
    /// As of when its endpoint's settings are. Those that are changed begin anew: the change may be the cure.
    as_of: Timestamp,
    /// When an attempt ended, or the first of those on their way began.
    sign: Timestamp,
    /// Whether it stands among those that may fall silent.
    watched: bool,
}

#[derive(Debug, Default)]
struct ApplicationState {
    held: usize,
    slow: usize,
    throttle: Option<Throttle>,
    /// Which of its lanes had a turn last.
    last: Last<Lane>,
    /// It was deleted, and is forgotten with its last permit.
    gone: bool,
}

/// All permits.
#[derive(Debug)]
pub(super) struct Permits {
    caps: Caps,
    shares: Shares,
    lanes: HashMap<Lane, LaneState>,
    applications: HashMap<ApplicationId, ApplicationState>,
    origins: HashMap<String, u32>,
    held: usize,
    /// Of those, the ones of slow lanes.
    slow: usize,
    throttle: Option<Throttle>,
    /// Quick lanes with something on its way, and when they count as silent.
    watch: BTreeSet<(Timestamp, Lane)>,
    /// Lanes whose remembered is another than it was shown.
    changed: BTreeSet<Lane>,
}

impl LaneState {
    fn pace(&self) -> Pace {
        self.health.pace()
    }

    fn remembered(&self) -> Remembered {
        Remembered { breaker: self.breaker, health: self.health, in_flight: self.in_flight }
    }

    /// Whether there is nothing to remember.
    fn is_blank(&mut self, now: Timestamp) -> bool {
        self.remembered() == Remembered::default()
            && self.throttle.as_mut().is_none_or(|throttle| throttle.is_full(now))
    }
}

/// A throttle at the rate that its settings say by now.
fn tune(throttle: &mut Option<Throttle>, rate: Option<u32>, now: Timestamp) {
    match (rate, throttle.as_mut()) {
        (None, _) => *throttle = None,
        (Some(rate), Some(throttle)) => throttle.set_rate(rate, now),
        (Some(rate), None) => *throttle = Some(Throttle::new(rate, now)),
    }
}

/// Whether a throttle, if there is one, has a token.
fn ready(throttle: &mut Option<Throttle>, now: Timestamp) -> Result<(), Timestamp> {
    throttle.as_mut().map_or(Ok(()), |throttle| throttle.ready(now))
}

impl Permits {
    pub(super) fn new(caps: Caps) -> Self {
        Permits {
            caps,
            shares: Shares::of(caps.in_flight, 0),
            lanes: HashMap::new(),
            applications: HashMap::new(),
            origins: HashMap::new(),
            held: 0,
            slow: 0,
            throttle: None,
            watch: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// How many are taken.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the server's own throttle has a token.
    pub(super) fn server_ready(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        tune(&mut self.throttle, self.caps.throttle_rate, now);
        ready(&mut self.throttle, now)
    }

    /// Lanes that let [`QUICK`] pass without an end of any attempt are slow from now on.
    pub(super) fn notice_silence(&mut self, now: Timestamp) {
        while let Some((at, lane)) = self.watch.first().copied().filter(|(at, _)| *at <= now) {
            self.watch.remove(&(at, lane));
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            state.watched = false;
            if state.in_flight > 0 && state.sign + QUICK <= now {
                self.change(lane, |state| state.health.silent());
            } else {
                self.watch(lane);
            }
        }
    }

    fn watch(&mut self, lane: Lane) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if state.in_flight > 0 && state.pace() == Pace::Quick && !std::mem::replace(&mut state.watched, true) {
            self.watch.insert((state.sign + QUICK, lane));
        }
    }

    /// Changes what is known of a lane. Its permits go over to where they count from then on.
    fn change(&mut self, lane: Lane, change: impl FnOnce(&mut LaneState)) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let before = state.pace();
        change(state);
        self.changed.insert(lane);
        let held = state.in_flight as usize;
        let own = self.applications.entry(lane.application).or_default();
        match (before, state.pace()) {
            (Pace::Quick, Pace::Slow) => {
                self.slow += held;
                own.slow += held;
            }
            (Pace::Slow, Pace::Quick) => {
                self.slow -= held;
                own.slow -= held;
            }
            (Pace::Quick, Pace::Quick) | (Pace::Slow, Pace::Slow) => {}
        }
    }

    /// Notes an application that has work, and says which of its lanes had a turn last.
    pub(super) fn meet(&mut self, application: ApplicationId) -> Last<Lane> {
        let own = self.applications.entry(application).or_default();
        // Its lanes are found: it has not been deleted after all.
        own.gone = false;
        let last = own.last;
        self.shares = Shares::of(self.caps.in_flight, self.applications.len());
        last
    }

    pub(super) fn had_turn(&mut self, application: ApplicationId, last: Last<Lane>) {
        self.applications.entry(application).or_default().last = last;
    }

    /// Forgets the applications that are no more.
    pub(super) fn forget(&mut self, exists: impl Fn(ApplicationId) -> bool) {
        self.applications.retain(|application, own| {
            own.gone = !exists(*application);
            !own.gone || own.held > 0
        });
        let Permits { lanes, changed, .. } = self;
        lanes.retain(|lane, state| {
            let kept = state.in_flight > 0 || exists(lane.application);
            if !kept {
                changed.insert(*lane);
            }
            kept
        });
    }

    /// Takes a permit for a lane, with a token of each throttle.
    ///
    /// # Errors
    /// It may have none now.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        destination: &Destination,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.lane_may(lane, destination, now)?;
        self.application_may(lane.application, bounds, now)?;
        let refused = |until| Refused { whom: Whom::Everybody, until: Some(until) };
        self.server_ready(now).map_err(refused)?;
        // Only now: none of these is kept if another one refuses.
        let state = self.lanes.entry(lane).or_default();
        let own = self.applications.entry(lane.application).or_default();
        state.as_of = destination.endpoint.updated_at;
        tune(&mut state.throttle, destination.endpoint.settings.throttle_rate, now);
        for throttle in [&mut state.throttle, &mut own.throttle, &mut self.throttle].into_iter().flatten() {
            throttle.reserve();
        }
        if state.in_flight == 0 {
            state.sign = now;
        }
        state.in_flight += 1;
        own.held += 1;
        self.held += 1;
        if state.pace() == Pace::Slow {
            own.slow += 1;
            self.slow += 1;
        }
        match self.origins.get_mut(&destination.origin) {
            Some(at_origin) => *at_origin += 1,
            None => drop(self.origins.insert(destination.origin.clone(), 1)),
        }
        self.changed.insert(lane);
        self.watch(lane);
        Ok(())
    }

    fn lane_may(&mut self, lane: Lane, destination: &Destination, now: Timestamp) -> Result<(), Refused> {
        let refused = |until| Refused { whom: Whom::Lane, until };
        let settings = &destination.endpoint.settings;
        let (mut slow, mut untried) = (true, true);
        if let Some(state) = self.lanes.get_mut(&lane) {
            if state.as_of != destination.endpoint.updated_at {
                state.as_of = destination.endpoint.updated_at;
                state.breaker = Breaker::default();
                self.changed.insert(lane);
            }
            state.breaker.rested(now).map_err(|until| refused(Some(until)))?;
            if state.in_flight >= state.health.cap(state.breaker.cap(self.caps.most(destination))) {
                return Err(refused(None));
            }
            tune(&mut state.throttle, settings.throttle_rate, now);
            ready(&mut state.throttle, now).map_err(|until| refused(Some(until)))?;
            slow = state.pace() == Pace::Slow;
            untried = state.in_flight == 0 && !state.health.is_known();
        }
        let own = self.applications.get(&lane.application).map_or(0, |own| own.slow);
        if slow && !self.shares.have_room_for_slow(SlowOne { own, all: self.slow, untried }) {
            return Err(refused(None));
        }
        let at_origin = self.origins.get(&destination.origin).copied().unwrap_or(0);
        if at_origin >= self.caps.per_origin { Err(refused(None)) } else { Ok(()) }
    }

    fn application_may(&mut self, id: ApplicationId, bounds: Bounds, now: Timestamp) -> Result<(), Refused> {
        let refused = |until| Refused { whom: Whom::Application, until };
        let own = self.applications.entry(id).or_default();
        let most = bounds.max_in_flight.or(self.caps.per_application).map_or(usize::MAX, |most| most as usize);
        if own.held >= most || !self.shares.have_room(own.held) {
            return Err(refused(None));
        }
        tune(&mut own.throttle, bounds.throttle_rate, now);
        ready(&mut own.throttle, now).map_err(|until| refused(Some(until)))
    }

    /// A permit was used: there is a request to be made.
    pub(super) fn used(&mut self, lane: Lane, now: Timestamp) {
        let of_lane = self.lanes.get_mut(&lane).and_then(|state| {
            state.breaker.claimed();
            state.throttle.as_mut()
        });
        let of_application = self.applications.get_mut(&lane.application).and_then(|own| own.throttle.as_mut());
        for throttle in [of_lane, of_application, self.throttle.as_mut()].into_iter().flatten() {
            throttle.spend(now);
        }
    }

    /// Permits that were not used go back, each with its tokens.
    pub(super) fn unused(&mut self, lane: Lane, origin: &str, permits: u32, now: Timestamp) {
        let of_lane = self.lanes.get_mut(&lane).and_then(|state| state.throttle.as_mut());
        let of_application = self.applications.get_mut(&lane.application).and_then(|own| own.throttle.as_mut());
        for throttle in [of_lane, of_application, self.throttle.as_mut()].into_iter().flatten() {
            (0..permits).for_each(|_| throttle.release());
        }
        self.give_back(lane, origin, permits, now);
    }

    /// An attempt has ended: what it showed counts, and its permit goes back. The endpoint may have moved since: that is to
    /// the origin that it was taken for.
    pub(super) fn ended(&mut self, destination: &Destination, attempt: Option<&Attempt>, at: Timestamp, draw: f64) {
        let lane = destination.lane();
        if let Some(attempt) = attempt {
            let rules = self.caps.breaker;
            let profile = &destination.profile;
            let ended = Ended {
                outcome: attempt.outcome,
                success: matches!(attempt.outcome, Outcome::Answered { status, .. } if profile.success.contains(status)),
                follow_retry_after: profile.follow_retry_after,
                most: self.caps.most(destination),
                at,
                draw,
            };
            let took: Duration = attempt.timing.total();
            self.change(lane, |state| {
                state.health.observe(ended.outcome, took);
                state.breaker.observe(ended, rules);
                state.sign = at;
            });
        }
        self.give_back(lane, &destination.origin, 1, at);
        self.watch(lane);
    }

    fn give_back(&mut self, lane: Lane, origin: &str, permits: u32, now: Timestamp) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let count = permits as usize;
        let slow = if state.pace() == Pace::Slow { count } else { 0 };
        state.in_flight -= permits;
        self.held -= count;
        self.slow -= slow;
        self.changed.insert(lane);
        let mut gone = false;
        if let Some(own) = self.applications.get_mut(&lane.application) {
            own.held -= count;
            own.slow -= slow;
            gone = own.gone;
            if own.gone && own.held == 0 {
                self.applications.remove(&lane.application);
            }
        }
        if let Some(at_origin) = self.origins.get_mut(origin) {
            *at_origin -= permits;
            if *at_origin == 0 {
                self.origins.remove(origin);
            }
        }
        if state.in_flight == 0 && (gone || state.is_blank(now)) {
            self.lanes.remove(&lane);
        }
        // Lanes of endpoints that are gone would stay for ever. Those that are not have to prove themselves anew.
        if self.lanes.len() > MOST_REMEMBERED {
            let Permits { lanes, changed, .. } = self;
            lanes.retain(|lane, state| {
                let kept = state.in_flight > 0;
                if !kept {
                    changed.insert(*lane);
                }
                kept
            });
        }
    }

    /// The lanes that stand otherwise than they did, with how; none of one of which nothing is remembered.
    pub(super) fn take_changed(&mut self) -> Vec<(Lane, Option<Remembered>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|lane| (lane, self.lanes.get(&lane).map(LaneState::remembered))).collect()
    }
}

/// What the tests look at.
#[cfg(test)]
impl Permits {
    /// Whether all counts are what the lanes' own add up to.
    pub(super) fn add_up(&self) -> bool {
        let mut of: HashMap<ApplicationId, (usize, usize)> = HashMap::new();
        for (lane, state) in &self.lanes {
            let sums = of.entry(lane.application).or_default();
            sums.0 += state.in_flight as usize;
            sums.1 += if state.pace() == Pace::Slow { state.in_flight as usize } else { 0 };
        }
        let all = of.values().fold((0, 0), |all, own| (all.0 + own.0, all.1 + own.1));
        let own = |application| self.applications.get(application).map_or((0, 0), |own| (own.held, own.slow));
        let origins: u32 = self.origins.values().sum();
        all == (self.held, self.slow)
            && origins as usize == self.held
            && of.iter().all(|(application, sums)| own(application) == *sums)
            && self.applications.iter().all(|(id, own)| of.contains_key(id) || own.held == 0)
    }

    pub(super) fn applications(&self) -> usize {
        self.applications.len()
    }

    pub(super) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<_> = self.lanes.keys().copied().collect();
        lanes.sort_unstable();
        lanes
    }

    pub(super) fn remembered(&self, lane: Lane) -> Remembered {
        self.lanes.get(&lane).map(LaneState::remembered).unwrap_or_default()
    }

    /// Remembers something of a lane that has nothing on its way.
    pub(super) fn remember(&mut self, lane: Lane, health: Health) {
        self.lanes.insert(lane, LaneState { health, ..LaneState::default() });
    }
}
