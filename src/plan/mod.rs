//! The plan: the pure scheduler. Events in, commands out; no I/O, no clock, no randomness.
//!
//! ```text
//!   Rang ──▶ Look ──▶ Looked ──▶ Claim ──▶ Claimed ──▶ Attempt … ──▶ Attempted ──▶ Settle ──▶ Settled
//!    ▲                  │ permits first                                   │ permit back
//!    └── due time ◀─────┘ nothing due, or no permit                       └──▶ Look
//! ```
//!
//! [`permits`] says who may have one more request on its way, [`turns`] whose turn it is.
//!
//! Invariants: permits are taken before a claim and cover the POST only; no more is claimed than permits
//! were taken for; every claimed lease is attempted and every attempt is settled, once; one settlement batch is
//! under way at a time and has a bound, so a slow disk makes larger batches and not more work, and no send waits
//! behind a long one; what waits to be settled has a bound, and no claim is made beyond it.

#[cfg(test)]
mod models;
mod permits;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::Attempt;
use crate::breaker::BreakerRules;
use crate::delivery::{self, CancelReason, Lane, Outcome, State, StateKind, Terms};
use crate::directory::{Bounds, Destination, Directory, Found};
use crate::health::Remembered;
use crate::id::ApplicationId;
use crate::store::{self, Lease, Settled, Settlement};
use crate::time::Timestamp;

use permits::{Permits, Whom};
use turns::{Last, Rounds};

/// The bounds of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Requests on their way, in all.
    pub(crate) in_flight: usize,
    /// To one endpoint, where it does not say otherwise.
    pub(crate) per_endpoint: u32,
    /// To one scheme, host and port.
    pub(crate) per_origin: u32,
    /// To the endpoints of one application, where it does not say otherwise; none: its share.
    pub(crate) per_application: Option<u32>,
    /// Attempts a second, in all.
    pub(crate) throttle_rate: Option<u32>,
    /// When endpoints that fail are left alone.
    pub(crate) breaker: BreakerRules,
    /// Attempts that have ended and are not settled.
    pub(crate) unsettled: usize,
}

impl Caps {
    /// How many requests an endpoint may have on its way at most.
    pub(crate) fn most(&self, destination: &Destination) -> u32 {
        destination.endpoint.settings.max_in_flight.unwrap_or(self.per_endpoint)
    }
}

/// How many due lanes one look lists.
const LOOK: usize = 1024;
/// How many attempts one settlement batch ends at most. Sends wait behind a batch, so a larger one makes them slow.
const SETTLE: usize = 250;
/// How long the plan waits after a failed write or claim.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How long a lease outlives its attempt's time limit.
const LEASE_MARGIN: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something may have become claimable, or the time has come.
    Rang,
    /// What a look showed.
    Looked { found: Found, more: bool, next_due: Option<Timestamp> },
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
    /// The record, its `result` still to be decided; `None` if nothing was tried: the message could not be read, it has
    /// expired, or the endpoint has moved.
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

/// The scheduler's state.
#[derive(Debug)]
pub(crate) struct Plan {
    caps: Caps,
    permits: Permits,
    /// A look or a claim is under way; and whether something rang meanwhile.
    looking: bool,
    rang: bool,
    /// The permits that the claim under way was given, and each lane's destination as the look found it.
    wanted: BTreeMap<Lane, (u32, Arc<Destination>)>,
    /// Whose turn it was last: rounds go on after it.
    last: Last<ApplicationId>,
    /// Where the next look starts, if there are more due lanes than one look lists; and whether the looks since the
    /// last event have come round to the first lane.
    cursor: Option<Lane>,
    came_round: bool,
    unsettled: Vec<Settlement>,
    settling: Option<Arc<Vec<Settlement>>>,
    /// When to look again: something is due then, or somebody who was refused may have a permit; and when to write again
    /// after a failure.
    look_at: Option<Timestamp>,
    refused_until: Option<Timestamp>,
    settle_at: Option<Timestamp>,
    draining: bool,
    stopped: bool,
}

impl Plan {
    pub(crate) fn new(caps: Caps) -> Self {
        Plan {
            caps,
            permits: Permits::new(caps),
            looking: false,
            rang: false,
            wanted: BTreeMap::new(),
            last: None,
            cursor: None,
            came_round: false,
            unsettled: Vec::new(),
            settling: None,
            look_at: None,
            refused_until: None,
            settle_at: None,
            draining: false,
            stopped: false,
        }
    }

    /// When the plan wants to be woken with [`Event::Rang`], if nothing else happens before.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        // While no look can be made, whatever makes one possible again also makes it.
        let can_look = !self.draining && !self.looking && self.settle_at.is_none() && self.free() > 0;
        let look_at = [self.look_at, self.refused_until].into_iter().flatten().min().filter(|_| can_look);
        [look_at, self.settle_at].into_iter().flatten().min()
    }

    /// Requests on their way.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.permits.held()
    }

    /// The lanes that stand otherwise than they did when this was asked last; none of one of which nothing is remembered.
    pub(crate) fn take_changed(&mut self) -> Vec<(Lane, Option<Remembered>)> {
        self.permits.take_changed()
    }

    /// Forgets the applications that are no more: they have no share, and no place in the rounds.
    pub(crate) fn forget_applications(&mut self, exists: impl Fn(ApplicationId) -> bool) {
        self.permits.forget(exists);
    }

    /// Takes an event, and says what is to be done.
    pub(crate) fn step(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        self.permits.notice_silence(now);
        match event {
            Event::Rang => self.look_afresh(now, &mut commands),
            Event::Looked { found, more, next_due } => self.looked(found, more, next_due, now, &mut commands),
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
            && self.permits.held() == 0
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
        let by_settling = self.caps.unsettled.saturating_sub(unsettled + self.permits.held());
        self.caps.in_flight.saturating_sub(self.permits.held()).min(by_settling)
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
        // The time has come for whoever was refused until now; the look says anew who is.
        self.refused_until = self.refused_until.filter(|at| now < *at);
        if let Err(until) = self.permits.server_ready(now) {
            // Whatever is due before has to wait until then, too.
            self.look_at = None;
            return self.refuse_until(Some(until));
        }
        self.looking = true;
        self.look_at = None;
        commands.push(Command::Look { after: self.cursor, limit: LOOK });
    }

    fn refuse_until(&mut self, until: Option<Timestamp>) {
        self.refused_until = [self.refused_until, until].into_iter().flatten().min();
    }

    fn looked(
        &mut self,
        found: Found,
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
        self.cursor = found.lanes.last().map(|(lane, _)| *lane).filter(|_| more);
        let timeout = self.grant(found, now);
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

    /// Takes permits for lanes, in rounds: application by application, and within one lane by lane. Gives the longest
    /// time limit among them.
    fn grant(&mut self, found: Found, now: Timestamp) -> Duration {
        let mut applications = self.rounds(found);
        let mut timeout = Duration::ZERO;
        let mut free = self.free();
        while free > 0
            && let Some((application, (bounds, lanes))) = applications.next()
        {
            match self.grant_one(application, *bounds, lanes, now) {
                Ok(limit) => {
                    timeout = timeout.max(limit);
                    self.last = applications.taken();
                    free -= 1;
                }
                Err(Whom::Lane | Whom::Application) => applications.leave(),
                Err(Whom::Everybody) => break,
            }
        }
        timeout
    }

    /// The applications with the lanes that take deliveries.
    fn rounds(&mut self, found: Found) -> Rounds<ApplicationId, Within> {
        let mut applications: Vec<(ApplicationId, Vec<Open>)> = Vec::new();
        for (lane, destination) in found.lanes {
            // A lane that the directory does not know, or knows as closed, is about to be swept.
            let Some(destination) = destination.filter(|destination| destination.open().is_ok()) else { continue };
            match applications.last_mut().filter(|(application, _)| *application == lane.application) {
                Some((_, lanes)) => lanes.push((lane, destination)),
                None => applications.push((lane.application, vec![(lane, destination)])),
            }
        }
        let mut turns = Vec::with_capacity(applications.len());
        for (application, lanes) in applications {
            let bounds = found.bounds.get(&application).copied().unwrap_or_default();
            let last = self.permits.meet(application);
            let weighed = lanes.into_iter().map(|(lane, destination)| {
                let weight = destination.endpoint.settings.weight.unwrap_or(1);
                (lane, weight, destination)
            });
            turns.push((application, bounds.weight.unwrap_or(1), (bounds, Rounds::new(weighed, last))));
        }
        Rounds::new(turns.into_iter(), self.last)
    }

    /// Takes one permit for the next lane of an application that may have one; gives its time limit.
    ///
    /// # Errors
    /// None of its lanes may, or nobody.
    fn grant_one(
        &mut self,
        application: ApplicationId,
        bounds: Bounds,
        lanes: &mut Rounds<Lane, Arc<Destination>>,
        now: Timestamp,
    ) -> Result<Duration, Whom> {
        while let Some((lane, destination)) = lanes.next() {
            match self.permits.take(lane, destination, bounds, now) {
                Ok(()) => {
                    let limit = destination.profile.timeout();
                    self.wanted.entry(lane).or_insert_with(|| (0, Arc::clone(destination))).0 += 1;
                    self.permits.had_turn(application, lanes.taken());
                    return Ok(limit);
                }
                Err(refused) => {
                    self.refuse_until(refused.until);
                    if refused.whom != Whom::Lane {
                        return Err(refused.whom);
                    }
                    lanes.leave();
                }
            }
        }
        Err(Whom::Application)
    }

    fn claimed(&mut self, leases: Vec<Lease>, now: Timestamp, commands: &mut Vec<Command>) {
        self.looking = false;
        let mut unused = std::mem::take(&mut self.wanted);
        let any = !leases.is_empty();
        for lease in leases {
            let granted = unused.get_mut(&lease.delivery.lane);
            let (permits, destination) = granted.expect("claims are made where permits were taken, alone");
            *permits -= 1;
            self.permits.used(lease.delivery.lane, now);
            commands.push(Command::Attempt { lease, destination: Arc::clone(destination) });
        }
        for (lane, (permits, destination)) in unused {
            self.permits.unused(lane, &destination.origin, permits, now);
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
            self.permits.unused(lane, &destination.origin, permits, now);
        }
        self.look_at = Some(now + AFTER_FAILURE);
    }

    /// Decides what follows an attempt, and puts it with what is to be settled.
    fn attempted(&mut self, ended: Attempted) {
        let Attempted { lease, destination, attempt, terms, ended_at: now, draw, open } = ended;
        self.permits.ended(&destination, attempt.as_ref(), now, draw);
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

/// A lane that takes deliveries.
type Open = (Lane, Arc<Destination>);

/// An application's bounds, and its lanes.
type Within = (Bounds, Rounds<Lane, Arc<Destination>>);

/// Lanes that were closed while the retries just settled were on their way to the store: what waits there has
/// missed the sweep that came with the closing.
pub(crate) fn stragglers(batch: &[Settlement], directory: &Directory) -> BTreeMap<Lane, CancelReason> {
    let waiting = batch.iter().filter(|settlement| settlement.state.kind() == StateKind::Waiting);
    let lanes = waiting.map(|settlement| settlement.lease.delivery.lane);
    lanes.filter_map(|lane| Some((lane, directory.open(lane).err()?))).collect()
}

/// The outcome of an attempt that was never made, because an earlier lease of the delivery ran out.
pub(crate) const LOST: Outcome = Outcome::Failed(delivery::Failure::Lost);
