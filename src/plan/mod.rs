//! The plan: the pure scheduler. Events in, commands out; no I/O, no clock, no randomness.
//!
//! ```text
//!   Rang ──▶ Look ──▶ Looked ──▶ Claim ──▶ Claimed ──▶ Attempt … ──▶ Attempted ──▶ Settle ──▶ Settled
//!    ▲                  │ permits first                                   │ permit back
//!    └── due time ◀─────┘ nothing due, or no permit                       └──▶ Look
//! ```
//!
//! Invariants: permits are taken before a claim and cover the POST only; no more is claimed than permits
//! were taken for; every claimed lease is attempted and every attempt is settled, once; one settlement batch is
//! under way at a time and has a bound, so a slow disk makes larger batches and not more work, and no send waits
//! behind a long one; what waits to be settled has a bound, and no claim is made beyond it.

#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::delivery::{self, CancelReason, Lane, Outcome, State, StateKind, Terms};
use crate::directory::{Destination, Directory};
use crate::health::{Health, Shares};
use crate::id::ApplicationId;
use crate::store::{self, DueLanes, Lease, Settled, Settlement};
use crate::time::Timestamp;

/// The bounds of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Requests on their way, in all.
    pub(crate) in_flight: usize,
    /// To one endpoint, where it does not say otherwise.
    pub(crate) per_endpoint: u32,
    /// To one scheme, host and port.
    pub(crate) per_origin: u32,
    /// Attempts that have ended and are not settled.
    pub(crate) unsettled: usize,
}

/// How many due lanes one look lists.
const LOOK: usize = 1024;
/// How many attempts one settlement batch ends at most. Sends wait behind a batch, so a larger one makes them slow.
const SETTLE: usize = 250;
/// How long the plan waits after a failed write or claim.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How long a lease outlives its attempt's time limit.
const LEASE_MARGIN: Duration = Duration::from_secs(60);

/// Of how many lanes with nothing on its way it is remembered how they answered: about 10 MiB.
const MOST_REMEMBERED: usize = 131_072;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something may have become claimable, or the time has come.
    Rang,
    /// What a look showed; each lane with its destination, if the directory knows one.
    Looked { lanes: Vec<(Lane, Option<Arc<Destination>>)>, more: bool, next_due: Option<Timestamp> },
    /// What a claim gave.
    Claimed(Vec<Lease>),
    /// The store answered a look or a claim with an error.
    StoreFailed,
    /// The store has been closed under the plan: nothing can be claimed or settled any more.
    StoreClosed,
    /// An attempt has ended.
    Attempted(Box<Attempted>),
    /// A settlement batch is on disk, or was refused by the store.
    Settled(Result<Vec<Settled>, store::Error>),
    /// No new attempts from now on.
    Shutdown,
}

/// An attempt's end.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) lease: Lease,
    pub(crate) destination: Arc<Destination>,
    /// The record, its `result` still to be decided; `None` if nothing was tried: the message could not be read, or it has
    /// expired.
    pub(crate) attempt: Option<Attempt>,
    /// What the message sets; nothing, if it could not be read.
    pub(crate) terms: Terms,
    pub(crate) ended_at: Timestamp,
    /// For the jitter.
    pub(crate) draw: f64,
    /// Whether the endpoint still takes attempts.
    pub(crate) open: Result<(), CancelReason>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    /// List due lanes after this one.
    Look { after: Option<Lane>, limit: usize },
    /// Claim from these lanes.
    Claim { wanted: Vec<(Lane, usize)>, until: Timestamp },
    /// Make an attempt.
    Attempt { lease: Lease, destination: Arc<Destination> },
    /// Write these.
    Settle(Arc<Vec<Settlement>>),
    /// All is done; there will be no further command.
    Stop,
}

#[derive(Debug, Default)]
struct LaneState {
    in_flight: u32,
    health: Health,
}

/// Permits that are held, in all and for each application.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<ApplicationId, usize>,
}

/// The scheduler's state.
#[derive(Debug)]
pub(crate) struct Plan {
    caps: Caps,
    lanes: HashMap<Lane, LaneState>,
    origins: HashMap<String, u32>,
    /// All permits; and those of lanes whose endpoints do not answer.
    held: Held,
    unanswered: Held,
    /// A look or a claim is under way; and whether something rang meanwhile.
    looking: bool,
    rang: bool,
    /// The permits that the claim under way was given, and each lane's destination as the look found it.
    wanted: BTreeMap<Lane, (u32, Arc<Destination>)>,
    /// Whose turn it was last: rounds go on after it.
    last_application: Option<ApplicationId>,
    last_lane: HashMap<ApplicationId, Lane>,
    /// Where the next look starts, if there are more due lanes than one look lists; and whether the looks since the
    /// last event have come round to the first lane.
    cursor: Option<Lane>,
    came_round: bool,
    unsettled: Vec<Settlement>,
    settling: Option<Arc<Vec<Settlement>>>,
    /// When to look again, and when to write again after a failure.
    look_at: Option<Timestamp>,
    settle_at: Option<Timestamp>,
    draining: bool,
    stopped: bool,
}

impl Plan {
    pub(crate) fn new(caps: Caps) -> Self {
        Plan {
            caps,
            lanes: HashMap::new(),
            origins: HashMap::new(),
            held: Held::default(),
            unanswered: Held::default(),
            looking: false,
            rang: false,
            wanted: BTreeMap::new(),
            last_application: None,
            last_lane: HashMap::new(),
            cursor: None,
            came_round: false,
            unsettled: Vec::new(),
            settling: None,
            look_at: None,
            settle_at: None,
            draining: false,
            stopped: false,
        }
    }

    /// When the plan wants to be woken with [`Event::Rang`], if nothing else happens before.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        // While no look can be made, whatever makes one possible again also makes it.
        let can_look = !self.draining && !self.looking && self.settle_at.is_none() && self.free() > 0;
        let look_at = self.look_at.filter(|_| can_look);
        [look_at, self.settle_at].into_iter().flatten().min()
    }

    /// Requests on their way.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.held.all
    }

    /// Whether the permits counted for endpoints that do not answer are those that such lanes hold.
    #[cfg(test)]
    pub(crate) fn unanswered_add_up(&self) -> bool {
        let held = self.lanes.iter().filter(|(_, state)| !state.health.is_answering());
        let mut of: HashMap<ApplicationId, usize> = HashMap::new();
        held.filter(|(_, state)| state.in_flight > 0)
            .for_each(|(lane, state)| *of.entry(lane.application).or_insert(0) += state.in_flight as usize);
        self.unanswered.all == of.values().sum::<usize>() && self.unanswered.of == of
    }

    /// Takes an event, and says what is to be done.
    pub(crate) fn step(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Rang => self.look_afresh(now, &mut commands),
            Event::Looked { lanes, more, next_due } => self.looked(lanes, more, next_due, now, &mut commands),
            Event::Claimed(leases) => self.claimed(leases, now, &mut commands),
            Event::StoreFailed => self.store_failed(now),
            Event::StoreClosed => self.store_closed(now),
            Event::Attempted(ended) => {
                self.attempted(*ended);
                self.look_afresh(now, &mut commands);
            }
            Event::Settled(result) => self.settled(result, now, &mut commands),
            Event::Shutdown => self.draining = true,
        }
        self.settle(now, &mut commands);
        if self.draining
            && self.held.all == 0
            && !self.looking
            && self.unsettled.is_empty()
            && self.settling.is_none()
            && !std::mem::replace(&mut self.stopped, true)
        {
            commands.push(Command::Stop);
        }
        commands
    }

    /// Permits that can be taken now.
    fn free(&self) -> usize {
        let unsettled = self.unsettled.len() + self.settling.as_ref().map_or(0, |batch| batch.len());
        let by_settling = self.caps.unsettled.saturating_sub(unsettled + self.held.all);
        self.caps.in_flight.saturating_sub(self.held.all).min(by_settling)
    }

    /// A look at all lanes, starting where the last one left off.
    fn look_afresh(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        self.came_round = self.cursor.is_none();
        self.look(now, commands);
    }

    fn look(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if self.looking {
            self.rang = true;
            return;
        }
        if self.draining || self.free() == 0 || self.settle_at.is_some_and(|at| now < at) {
            return;
        }
        self.looking = true;
        self.look_at = None;
        commands.push(Command::Look { after: self.cursor, limit: LOOK });
    }

    fn looked(
        &mut self,
        lanes: Vec<(Lane, Option<Arc<Destination>>)>,
        more: bool,
        next_due: Option<Timestamp>,
        now: Timestamp,
        commands: &mut Vec<Command>,
    ) {
        self.looking = false;
        self.look_at = [self.look_at, next_due].into_iter().flatten().min();
        if self.draining {
            return;
        }
        self.cursor = lanes.last().map(|(lane, _)| *lane).filter(|_| more);
        let timeout = self.grant(lanes);
        if self.wanted.is_empty() {
            if more || !std::mem::replace(&mut self.came_round, true) {
                self.look(now, commands);
            } else if std::mem::take(&mut self.rang) {
                self.look_afresh(now, commands);
            }
            return;
        }
        self.looking = true;
        let wanted = self.wanted.iter().map(|(lane, (permits, _))| (*lane, *permits as usize)).collect();
        commands.push(Command::Claim { wanted, until: now + timeout + LEASE_MARGIN });
    }

    /// Takes permits for lanes, in turns: application by application, and within one lane by lane. Gives the
    /// longest time limit among them.
    fn grant(&mut self, lanes: Vec<(Lane, Option<Arc<Destination>>)>) -> Duration {
        let mut applications: BTreeMap<ApplicationId, Vec<(Lane, Arc<Destination>)>> = BTreeMap::new();
        for (lane, destination) in lanes {
            // A lane that the directory does not know, or knows as closed, is about to be swept.
            if let Some(destination) = destination.filter(|destination| destination.open().is_ok()) {
                applications.entry(lane.application).or_default().push((lane, destination));
            }
        }
        let mut turns: Vec<(ApplicationId, Turns)> = Vec::with_capacity(applications.len());
        for (application, lanes) in applications {
            turns.push((application, Turns::after(self.last_lane.get(&application).copied(), lanes)));
        }
        let unseen = turns.iter().filter(|(application, _)| !self.last_lane.contains_key(application)).count();
        let shares = Shares::of(self.caps.in_flight, self.last_lane.len() + unseen);
        let start = turns.partition_point(|(application, _)| Some(*application) <= self.last_application);
        let shift = start.checked_rem(turns.len()).unwrap_or(0);
        turns.rotate_left(shift);
        let mut timeout = Duration::ZERO;
        let mut free = self.free();
        while free > 0 && !turns.is_empty() {
            turns.retain_mut(|(application, lanes)| {
                if free == 0 {
                    return true;
                }
                let Some((lane, limit)) = self.grant_one(lanes, shares) else { return false };
                timeout = timeout.max(limit);
                self.last_application = Some(*application);
                self.last_lane.insert(*application, lane);
                free -= 1;
                true
            });
        }
        timeout
    }

    /// Takes one permit for the next lane that may have one.
    fn grant_one(&mut self, turns: &mut Turns, shares: Shares) -> Option<(Lane, Duration)> {
        while let Some((lane, destination)) = turns.next() {
            let state = self.lanes.entry(lane).or_default();
            let most = destination.endpoint.settings.max_in_flight.unwrap_or(self.caps.per_endpoint);
            let at_origin = self.origins.get(&destination.origin).copied().unwrap_or(0);
            let shared = !state.health.is_answering();
            let no_share = !shares.have_room(
                self.held.of(lane.application),
                shared.then(|| (self.unanswered.of(lane.application), self.unanswered.all)),
            );
            if state.in_flight >= state.health.cap(most) || at_origin >= self.caps.per_origin || no_share {
                turns.drop_last();
                continue;
            }
            let timeout = destination.profile.timeout();
            state.in_flight += 1;
            if shared {
                self.unanswered.take(lane.application, 1);
            }
            *self.origins.entry(destination.origin.clone()).or_insert(0) += 1;
            self.held.take(lane.application, 1);
            self.wanted.entry(lane).or_insert((0, destination)).0 += 1;
            return Some((lane, timeout));
        }
        None
    }

    /// The endpoint may have moved since: permits are returned to the origin that they were taken for.
    fn return_permits(&mut self, lane: Lane, origin: &str, permits: u32) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.in_flight -= permits;
        self.held.give_back(lane.application, permits);
        if !state.health.is_answering() {
            self.unanswered.give_back(lane.application, permits);
        }
        if let Some(at_origin) = self.origins.get_mut(origin) {
            *at_origin -= permits;
            if *at_origin == 0 {
                self.origins.remove(origin);
            }
        }
        if state.in_flight == 0 && state.health == Health::default() {
            self.lanes.remove(&lane);
        }
        // Lanes of endpoints that are gone would stay for ever. Those that are not have to prove themselves anew.
        if self.lanes.len() > MOST_REMEMBERED {
            self.lanes.retain(|_, state| state.in_flight > 0);
        }
    }

    fn claimed(&mut self, leases: Vec<Lease>, now: Timestamp, commands: &mut Vec<Command>) {
        self.looking = false;
        let mut unused = std::mem::take(&mut self.wanted);
        let any = !leases.is_empty();
        for lease in leases {
            let granted = unused.get_mut(&lease.delivery.lane);
            let (permits, destination) = granted.expect("claims are made where permits were taken, alone");
            *permits -= 1;
            commands.push(Command::Attempt { lease, destination: Arc::clone(destination) });
        }
        for (lane, (permits, destination)) in unused {
            self.return_permits(lane, &destination.origin, permits);
        }
        if any || std::mem::take(&mut self.rang) {
            self.look_afresh(now, commands);
        }
    }

    fn store_closed(&mut self, now: Timestamp) {
        self.store_failed(now);
        self.settling = None;
        self.settle_at = None;
        self.unsettled.clear();
        self.draining = true;
    }

    fn store_failed(&mut self, now: Timestamp) {
        self.looking = false;
        for (lane, (permits, destination)) in std::mem::take(&mut self.wanted) {
            self.return_permits(lane, &destination.origin, permits);
        }
        self.look_at = Some(now + AFTER_FAILURE);
    }

    /// Decides what follows an attempt, and puts it with what is to be settled.
    fn attempted(&mut self, ended: Attempted) {
        let Attempted { lease, destination, attempt, terms, ended_at: now, draw, open } = ended;
        let lane = lease.delivery.lane;
        if let (Some(state), Some(attempt)) = (self.lanes.get_mut(&lane), &attempt) {
            let answered = state.health.is_answering();
            state.health.observe(attempt.outcome);
            // All permits of the lane go over to where it counts from now on.
            match (answered, state.health.is_answering()) {
                (false, true) => self.unanswered.give_back(lane.application, state.in_flight),
                (true, false) => self.unanswered.take(lane.application, state.in_flight),
                (true, true) | (false, false) => {}
            }
        }
        self.return_permits(lane, &destination.origin, 1);
        let state = match (&attempt, open) {
            (Some(attempt), open) => {
                delivery::next(&destination.profile, lease.progress.tried(), attempt.outcome, now, draw, open, terms)
            }
            // Nothing was tried: it waits on, unless it has expired or its endpoint was closed meanwhile.
            (None, Ok(())) => {
                delivery::before(lease.progress, now, terms).unwrap_or(State::Waiting { due: now + AFTER_FAILURE })
            }
            (None, Err(reason)) => State::Canceled { at: now, reason },
        };
        let lets_pass = attempt.is_some() && delivery::lets_pass(lease.progress.tried(), state, terms);
        let attempt = attempt.map(|attempt| Attempt { result: state.kind(), ..attempt });
        self.unsettled.push(Settlement { lease, attempt, state, lets_pass });
    }

    fn settle(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        let wait = self.settle_at.is_some_and(|at| now < at);
        if wait || (self.settling.is_some() && self.settle_at.is_none()) {
            return;
        }
        let again = self.settle_at.take().and(self.settling.clone());
        let batch = match again {
            Some(batch) => batch,
            None if self.unsettled.is_empty() => return,
            None => {
                let batch = self.unsettled.len().min(SETTLE);
                Arc::new(self.unsettled.drain(..batch).collect())
            }
        };
        self.settling = Some(Arc::clone(&batch));
        commands.push(Command::Settle(batch));
    }

    fn settled(&mut self, result: Result<Vec<Settled>, store::Error>, now: Timestamp, commands: &mut Vec<Command>) {
        match result {
            // A stale one belongs to a lease that ran out: its delivery has been claimed anew.
            Ok(_) => self.settling = None,
            Err(store::Error::Closed) => self.store_closed(now),
            // The write is repeated, not the POST.
            Err(_) => self.settle_at = Some(now + AFTER_FAILURE),
        }
        self.look_afresh(now, commands);
    }
}

impl Held {
    fn of(&self, application: ApplicationId) -> usize {
        self.of.get(&application).copied().unwrap_or(0)
    }

    fn take(&mut self, application: ApplicationId, permits: u32) {
        self.all += permits as usize;
        *self.of.entry(application).or_insert(0) += permits as usize;
    }

    fn give_back(&mut self, application: ApplicationId, permits: u32) {
        self.all -= permits as usize;
        if let Some(own) = self.of.get_mut(&application) {
            *own -= permits as usize;
            if *own == 0 {
                self.of.remove(&application);
            }
        }
    }
}

/// Lanes that were closed while the retries just settled were on their way to the store: what waits there has
/// missed the sweep that came with the closing.
pub(crate) fn stragglers(batch: &[Settlement], directory: &Directory) -> BTreeMap<Lane, CancelReason> {
    let waiting = batch.iter().filter(|settlement| settlement.state.kind() == StateKind::Waiting);
    let lanes = waiting.map(|settlement| settlement.lease.delivery.lane);
    lanes.filter_map(|lane| Some((lane, directory.open(lane).err()?))).collect()
}

/// The lanes of one application, in turns.
struct Turns {
    lanes: Vec<(Lane, Arc<Destination>)>,
    next: usize,
}

impl Turns {
    /// The turn goes on after `last`.
    fn after(last: Option<Lane>, mut lanes: Vec<(Lane, Arc<Destination>)>) -> Self {
        let start = lanes.partition_point(|(lane, _)| Some(*lane) <= last);
        let shift = start.checked_rem(lanes.len()).unwrap_or(0);
        lanes.rotate_left(shift);
        Turns { lanes, next: 0 }
    }

    fn next(&mut self) -> Option<(Lane, Arc<Destination>)> {
        if self.lanes.is_empty() {
            return None;
        }
        self.next %= self.lanes.len();
        let (lane, destination) = &self.lanes[self.next];
        self.next += 1;
        Some((*lane, Arc::clone(destination)))
    }

    /// The lane that was given last takes no more.
    fn drop_last(&mut self) {
        self.next -= 1;
        self.lanes.remove(self.next);
    }
}

impl From<(DueLanes, Vec<(Lane, Option<Arc<Destination>>)>)> for Event {
    fn from((due, lanes): (DueLanes, Vec<(Lane, Option<Arc<Destination>>)>)) -> Self {
        Event::Looked { lanes, more: due.more, next_due: due.next_due }
    }
}

/// The outcome of an attempt that was never made, because an earlier lease of the delivery ran out.
pub(crate) const LOST: Outcome = Outcome::Failed(delivery::Failure::Lost);
