//! Connections that are kept for the next request to the same origin.
//!
//! Invariants: at most [`MAX_IDLE`] are kept in all, the longest unused going first; none for longer than
//! [`IDLE_TIME`] unused or [`MAX_AGE`] in all. While any is kept, one task looks for those that are to go; with none,
//! there is nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::connection::Connection;
use super::now;

/// How many connections are kept in all.
const MAX_IDLE: usize = 2_048;

/// How many are kept for one origin: as many as may be in flight to it by default. With fewer, a busy origin of
/// several endpoints would have those beyond closed after each answer and opened again.
const MAX_IDLE_OF_ONE: usize = 256;

/// How long a connection is kept unused. Shorter than what proxies in front of receivers commonly keep (60 s), so
/// that it is rarely they who close it while a request is on its way.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// How long a connection is used at most: a name that moved is followed within it.
const MAX_AGE: Duration = Duration::from_secs(300);

/// How often it is looked for what is to go.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a connection can be used again for: a scheme, a host as it was typed, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin(String);

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        Origin(url[..url::Position::BeforePath].to_owned())
    }
}

/// The connections that are kept.
#[derive(Default)]
pub(super) struct Pool(Arc<Shelves>);

#[derive(Default)]
struct Shelves {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By when they were put here.
    idle: BTreeMap<u64, Idle>,
    /// Of each origin, the places in `idle`, the latest last.
    of: HashMap<Origin, VecDeque<u64>>,
    next: u64,
    swept: bool,
}

struct Idle {
    origin: Origin,
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection to this origin that was used last, of those that can still be.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            // One at a time, so that whoever is dropped here is dropped without the lock.
            let mut idle = self.0.lock().take_latest(origin)?;
            if !idle.is_over(now()) && idle.connection.is_reusable() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn keep(&self, origin: Origin, mut connection: Connection) {
        if !connection.is_reusable() {
            return;
        }
        let idle = Idle { origin, connection, since: now() };
        let (over, begins) = self.0.lock().put(idle);
        drop(over);
        if begins {
            let shelves = Arc::downgrade(&self.0);
            #[expect(clippy::disallowed_methods, reason = "the one task of a pool; it ends with its last connection")]
            tokio::spawn(sweep(shelves));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().idle.len()
    }
}

impl Shelves {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take_latest(&mut self, origin: &Origin) -> Option<Idle> {
        let places = self.of.get_mut(origin)?;
        let place = places.pop_back()?;
        if places.is_empty() {
            self.of.remove(origin);
        }
        self.idle.remove(&place)
    }

    /// Of an origin's connections, the first put here is the first in its row.
    fn take_oldest(&mut self, place: u64) -> Option<Idle> {
        let idle = self.idle.remove(&place)?;
        if let Some(places) = self.of.get_mut(&idle.origin) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.of.remove(&idle.origin);
            }
        }
        Some(idle)
    }

    /// What had to go for it, and whether a sweep is to begin.
    fn put(&mut self, idle: Idle) -> (Option<Idle>, bool) {
        let place = self.next;
        self.next += 1;
        let places = self.of.entry(idle.origin.clone()).or_default();
        places.push_back(place);
        let first_of_one = places.front().copied().filter(|_| places.len() > MAX_IDLE_OF_ONE);
        self.idle.insert(place, idle);
        let first_of_all = self.idle.keys().next().copied().filter(|_| self.idle.len() > MAX_IDLE);
        let over = first_of_one.or(first_of_all).and_then(|place| self.take_oldest(place));
        let begins = !std::mem::replace(&mut self.swept, true);
        (over, begins)
    }

    /// Takes out what is to go.
    fn sweep(&mut self, now: Instant) -> Vec<Idle> {
        let gone = |idle: &mut Idle| idle.is_over(now) || !idle.connection.is_reusable();
        let places: Vec<u64> = self.idle.iter_mut().filter_map(|(place, idle)| gone(idle).then_some(*place)).collect();
        places.into_iter().filter_map(|place| self.take_oldest(place)).collect()
    }
}

impl Idle {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= IDLE_TIME || now.duration_since(self.connection.opened) >= MAX_AGE
    }
}

/// Sweeps until nothing is kept.
async fn sweep(shelves: Weak<Shelves>) {
    let mut ends = Swept(Some(shelves.clone()));
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(shelves) = shelves.upgrade() else { return };
        // Unconstrained: looking at a connection costs a budget that is for work, and would end after a few.
        let gone = tokio::task::unconstrained(async { shelves.lock().sweep(now()) }).await;
        drop(gone);
        let mut kept = shelves.lock();
        if kept.idle.is_empty() {
            kept.swept = false;
            // Another may begin as soon as the lock is free: it is not this one's to end.
            ends.0 = None;
            return;
        }
    }
}

/// Says that nobody sweeps any more, if the runtime that did is gone.
struct Swept(Option<Weak<Shelves>>);

impl Drop for Swept {
    fn drop(&mut self) {
        if let Some(shelves) = self.0.take().and_then(|shelves| shelves.upgrade()) {
            shelves.lock().swept = false;
        }
    }
}
