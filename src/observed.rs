//! What settled attempts say beyond their own delivery: the standing of endpoints, what receivers ask for, and what the
//! operator wants to hear of.
//!
//! The dispatcher tells it of each batch once that is on disk; the chores of the front take from it and write. It is kept
//! in memory: the records of standings are the truth after a restart, the rest is lost with the process.
//!
//! Invariants: an endpoint that works costs one look-up an attempt and no write, and one that fails now and then costs none
//! either, as long as it works again within [`WRITE_AFTER`]; every list here has a bound (that of endpoints,
//! or [`MAX_NOTICES`]); no lock is held across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::attempt::Attempt;
use crate::delivery::{self, DeadReason, DeliveryId, Lane, Outcome, Progress, State};
use crate::directory::Directory;
use crate::endpoint::DisableReason;
use crate::id::AttemptId;
use crate::standing::{Follows, Rule, Says, Standing, says};
use crate::store::{Settled, Settlement};
use crate::time::Timestamp;

/// How many notices wait for the chores at most; beyond that they are counted and left out.
pub(crate) const MAX_NOTICES: usize = 10_000;
/// The failed attempt of a round that the operator hears of.
pub(crate) const FAILING_AT: u32 = 4;
/// How long an endpoint fails before that is written.
pub(crate) const WRITE_AFTER: Duration = Duration::from_secs(5);
/// How often the record of an endpoint that goes on failing is written, at most.
pub(crate) const COUNTS_EVERY: Duration = Duration::from_secs(60);

const UNPOISONED: &str = "no code panics while it holds the book";

/// What was observed, and not acted on yet.
#[derive(Debug)]
pub(crate) struct Observed {
    rule: Rule,
    /// The uid of the application that the operator is told through.
    operational: Option<String>,
    book: Mutex<Book>,
    /// Rings when there is something to do.
    pub(crate) bell: Notify,
}

#[derive(Debug, Default)]
struct Book {
    /// Endpoints that do nothing but fail, and those whose record still says so.
    lanes: HashMap<Lane, Entry>,
    /// Those of them that the chores are to look at.
    due: BTreeSet<Lane>,
    /// When the next of the others is to be looked at, or earlier.
    look_at: Option<Timestamp>,
    /// Endpoints that are to be disabled, since their receivers say so.
    closing: BTreeMap<Lane, DisableReason>,
    notices: VecDeque<Notice>,
    /// Notices that there was no room for.
    missed: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// `None`: it is good again, and its record is to be removed.
    standing: Option<Standing>,
    stored: Option<Stored>,
    unseen: Option<Unseen>,
    /// A write is under way.
    writing: bool,
}

/// While the process was down, or just before: there may be a success then that the record does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// When the record was written.
    pub(crate) from: Timestamp,
    /// When it was read.
    pub(crate) until: Timestamp,
}

/// A standing as its record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) standing: Standing,
    /// When it was written.
    pub(crate) at: Timestamp,
}

/// A standing that is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) lane: Lane,
    /// `None`: its record is to be removed.
    pub(crate) standing: Option<Standing>,
    pub(crate) stored: Option<Stored>,
    pub(crate) unseen: Option<Unseen>,
}

/// What the operator is to hear of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) what: NoticeKind,
    pub(crate) delivery: DeliveryId,
    /// The message's event id; `None` where the message is not at hand.
    pub(crate) event_id: Option<Option<String>>,
    pub(crate) attempt: AttemptId,
    /// The status of its answer; 0 without one.
    pub(crate) status: u16,
    pub(crate) round: u32,
}

/// What happened to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    /// It gave up.
    Exhausted(DeadReason),
    /// An attempt failed, and it was the fourth one of its round.
    Failing,
    /// It was delivered after it was failing.
    Recovered,
    /// It was delivered in a round that a replay opened; whether it had given up before is to be looked up.
    Replayed,
}

impl Observed {
    pub(crate) fn new(rule: Rule, operational: Option<String>) -> Self {
        Observed { rule, operational, book: Mutex::default(), bell: Notify::new() }
    }

    /// The rule that an endpoint is under.
    pub(crate) fn rule(&self, auto_disable: Option<bool>) -> Rule {
        self.rule.of_endpoint(auto_disable)
    }

    /// Takes a batch into account that is on disk.
    pub(crate) fn settled(&self, batch: &[Settlement], results: &[Settled], directory: &Directory, now: Timestamp) {
        let mut ring = false;
        let mut book = self.book.lock().expect(UNPOISONED);
        for (settlement, settled) in batch.iter().zip(results) {
            let (Some(attempt), Settled::Done) = (&settlement.attempt, settled) else { continue };
            ring |= match says(attempt.outcome, attempt.result) {
                Says::Works => book.works(attempt.delivery.lane),
                Says::Fails => self.fails(&mut book, attempt, directory, now),
                Says::Nothing => false,
            };
            ring |= book.asked(attempt, directory);
            if let Some(what) = noticed(settlement.lease.progress.tried(), settlement.state)
                && self.is_told(directory, attempt.delivery.lane)
            {
                let message = settlement.lease.message.as_ref();
                let event_id = message.map(|message| message.event_id.clone());
                ring |= book.notice(what, attempt, event_id);
            }
        }
        drop(book);
        if ring {
            self.bell.notify_one();
        }
    }

    fn fails(&self, book: &mut Book, attempt: &Attempt, directory: &Directory, now: Timestamp) -> bool {
        let lane = attempt.delivery.lane;
        // What ends after the endpoint was closed, or comes from where it was before, says nothing about how it is.
        let open = directory
            .destination(lane)
            .filter(|destination| destination.open().is_ok() && destination.endpoint.settings.url == attempt.url);
        open.is_some_and(|destination| book.fails(lane, self.rule(destination.endpoint.settings.auto_disable), now))
    }

    /// Whether the operator hears of what happens in a lane: not of the application that it is heard through.
    fn is_told(&self, directory: &Directory, lane: Lane) -> bool {
        let Some(operational) = &self.operational else { return false };
        let tenant = directory.tenant(lane.application);
        tenant.is_some_and(|tenant| tenant.application.uid.as_ref() != Some(operational))
    }

    /// The standing of an endpoint that does nothing but fail.
    pub(crate) fn standing(&self, lane: Lane) -> Option<Standing> {
        self.book.lock().expect(UNPOISONED).lanes.get(&lane)?.standing
    }

    /// Takes over what the store has.
    pub(crate) fn read(&self, lane: Lane, stored: Stored, now: Timestamp) {
        let entry = Entry {
            standing: Some(stored.standing),
            stored: Some(stored),
            unseen: Some(Unseen { from: stored.at, until: now }),
            writing: false,
        };
        self.book.lock().expect(UNPOISONED).lanes.insert(lane, entry);
    }

    /// The endpoint begins anew: its record went with the change that this follows.
    pub(crate) fn forget(&self, lane: Lane) {
        let mut book = self.book.lock().expect(UNPOISONED);
        book.lanes.remove(&lane);
        book.due.remove(&lane);
        book.closing.remove(&lane);
    }

    /// A success was found that had not been seen.
    pub(crate) fn works(&self, lane: Lane) {
        if self.book.lock().expect(UNPOISONED).works(lane) {
            self.bell.notify_one();
        }
    }

    /// No success was missed before the open.
    pub(crate) fn seen(&self, lane: Lane) {
        if let Some(entry) = self.book.lock().expect(UNPOISONED).lanes.get_mut(&lane) {
            entry.unseen = None;
        }
    }

    /// When standings are to be looked at that are not due yet.
    pub(crate) fn look_at(&self) -> Option<Timestamp> {
        self.book.lock().expect(UNPOISONED).look_at
    }

    /// Notes those that have become due, if it is time: failures that last, and counts that were not written lately.
    pub(crate) fn note_due(&self, now: Timestamp) {
        let mut book = self.book.lock().expect(UNPOISONED);
        if book.look_at.is_none_or(|at| now < at) {
            return;
        }
        let Book { lanes, due, look_at, .. } = &mut *book;
        *look_at = None;
        for (lane, entry) in lanes.iter() {
            match entry.write_at() {
                Some(at) if at <= now => drop(due.insert(*lane)),
                Some(at) => *look_at = Some(look_at.map_or(at, |soonest| soonest.min(at))),
                None => {}
            }
        }
    }

    /// Takes standings that are to be written. Each is to be [`written`](Observed::written) or put back.
    pub(crate) fn take_due(&self, limit: usize) -> Vec<Look> {
        let mut book = self.book.lock().expect(UNPOISONED);
        let mut looks = Vec::new();
        while looks.len() < limit
            && let Some(lane) = book.due.pop_first()
        {
            let Some(entry) = book.lanes.get_mut(&lane) else { continue };
            entry.writing = true;
            let Entry { standing, stored, unseen, .. } = *entry;
            looks.push(Look { lane, standing, stored, unseen });
        }
        looks
    }

    /// The record is as it is given here; `None`: there is none.
    pub(crate) fn written(&self, lane: Lane, stored: Option<Stored>) {
        let mut book = self.book.lock().expect(UNPOISONED);
        let Book { lanes, due, look_at, .. } = &mut *book;
        // One that was forgotten meanwhile: what was written about it is to go.
        let entry = lanes.entry(lane).or_default();
        entry.writing = false;
        entry.stored = stored;
        let again = match (&mut entry.standing, stored) {
            (Some(standing), Some(stored)) if standing.since == stored.standing.since => {
                standing.warned_at = stored.standing.warned_at;
                false
            }
            (Some(_), Some(_)) | (None, Some(_)) => true,
            // It failed anew meanwhile, which is written if it lasts.
            (Some(standing), None) => {
                let at = standing.since + WRITE_AFTER;
                *look_at = Some(look_at.map_or(at, |soonest| soonest.min(at)));
                self.bell.notify_one();
                false
            }
            (None, None) => {
                lanes.remove(&lane);
                due.remove(&lane);
                false
            }
        };
        if again {
            due.insert(lane);
            self.bell.notify_one();
        }
    }

    /// To be looked at again: it could not be written.
    pub(crate) fn put_back(&self, lanes: impl IntoIterator<Item = Lane>) {
        let mut book = self.book.lock().expect(UNPOISONED);
        for lane in lanes {
            if let Some(entry) = book.lanes.get_mut(&lane) {
                entry.writing = false;
                book.due.insert(lane);
            }
        }
    }

    /// Nothing is to be written of it now.
    pub(crate) fn leave(&self, lane: Lane) {
        if let Some(entry) = self.book.lock().expect(UNPOISONED).lanes.get_mut(&lane) {
            entry.writing = false;
        }
    }

    /// Takes an endpoint that is to be disabled, since its receiver says so.
    pub(crate) fn take_closing(&self) -> Option<(Lane, DisableReason)> {
        self.book.lock().expect(UNPOISONED).closing.pop_first()
    }

    /// To be tried again at the next look.
    pub(crate) fn put_back_closing(&self, lane: Lane, reason: DisableReason) {
        self.book.lock().expect(UNPOISONED).closing.insert(lane, reason);
    }

    /// Takes notices, oldest first, and how many there was no room for since the last call.
    pub(crate) fn take_notices(&self, limit: usize) -> (Vec<Notice>, u64) {
        let mut book = self.book.lock().expect(UNPOISONED);
        let most = limit.min(book.notices.len());
        (book.notices.drain(..most).collect(), std::mem::take(&mut book.missed))
    }

    /// Puts notices back that could not be sent, before those that came since.
    pub(crate) fn put_back_notices(&self, notices: Vec<Notice>) {
        let mut book = self.book.lock().expect(UNPOISONED);
        for notice in notices.into_iter().rev() {
            if book.notices.len() < MAX_NOTICES {
                book.notices.push_front(notice);
            } else {
                book.missed += 1;
            }
        }
    }
}

impl Entry {
    /// When its record is to be written, if nothing else happens that matters.
    fn write_at(&self) -> Option<Timestamp> {
        match (self.standing, self.stored) {
            (Some(standing), None) => Some(standing.since + WRITE_AFTER),
            (Some(standing), Some(stored)) => (standing != stored.standing).then(|| stored.at + COUNTS_EVERY),
            (None, None | Some(_)) => None,
        }
    }
}

impl Book {
    /// A success. Whether there is something to do.
    fn works(&mut self, lane: Lane) -> bool {
        let Some(entry) = self.lanes.get_mut(&lane) else { return false };
        entry.unseen = None;
        if entry.standing.take().is_none() {
            return false;
        }
        if entry.stored.is_none() && !entry.writing {
            self.lanes.remove(&lane);
            self.due.remove(&lane);
            return false;
        }
        self.due.insert(lane)
    }

    /// A failure. Whether there is something to do.
    fn fails(&mut self, lane: Lane, rule: Rule, now: Timestamp) -> bool {
        let entry = self.lanes.entry(lane).or_default();
        let before = entry.standing;
        let standing = before.map_or_else(|| Standing::first(now), Standing::failed);
        entry.standing = Some(standing);
        if standing.follows(rule, now) != Follows::Nothing {
            return self.due.insert(lane);
        }
        // Whoever waits until then is told only if it is sooner than was said.
        let sooner = entry.write_at().filter(|at| self.look_at.is_none_or(|said| *at < said));
        self.look_at = sooner.or(self.look_at);
        sooner.is_some()
    }

    /// What the receiver says about its endpoint as a whole. Whether there is something to do.
    fn asked(&mut self, attempt: &Attempt, directory: &Directory) -> bool {
        // Most answers ask for nothing, and the directory need not be asked.
        if !matches!(attempt.outcome, Outcome::Answered { status: 410, .. } | Outcome::Answered { asked: Some(_), .. })
        {
            return false;
        }
        let lane = attempt.delivery.lane;
        let Some(destination) = directory.destination(lane) else { return false };
        let endpoint = &destination.endpoint;
        // Whoever changed or enabled it since the request left has the last word.
        let is_current = attempt.url == endpoint.settings.url && attempt.started_at >= endpoint.updated_at;
        match delivery::closes(&destination.profile, attempt.outcome) {
            Some(reason) if is_current && endpoint.is_enabled() => self.closing.insert(lane, reason).is_none(),
            Some(_) | None => false,
        }
    }

    fn notice(&mut self, what: NoticeKind, attempt: &Attempt, event_id: Option<Option<String>>) -> bool {
        if self.notices.len() >= MAX_NOTICES {
            self.missed += 1;
            return self.missed == 1;
        }
        let status = match attempt.outcome {
            Outcome::Answered { status, .. } => status,
            Outcome::Failed(_) => 0,
        };
        let Attempt { id, delivery, round, .. } = *attempt;
        self.notices.push_back(Notice { what, delivery, event_id, attempt: id, status, round });
        true
    }
}

/// What the operator is to hear of, given what has been tried and how the delivery stands now.
fn noticed(progress: Progress, state: State) -> Option<NoticeKind> {
    match state {
        // It was erased on request: nobody is surprised.
        State::Dead { reason: DeadReason::Expunged, .. } => None,
        State::Dead { reason, .. } => Some(NoticeKind::Exhausted(reason)),
        State::Waiting { .. } => (progress.tries == FAILING_AT).then_some(NoticeKind::Failing),
        State::Delivered { .. } if progress.tries > FAILING_AT => Some(NoticeKind::Recovered),
        State::Delivered { .. } => (progress.round > 1).then_some(NoticeKind::Replayed),
        State::Held { .. } | State::Leased { .. } | State::Canceled { .. } => None,
    }
}
