//! Places: the connections there are, whose turn it is on each, and which of them has to go when somebody needs its place.
//!
//! On a connection it is the client's turn while it may send a request or take an answer, however slowly, and the server's
//! while a request is being answered. Where no place is free, the connection whose client has had its turn for longest, and
//! for a second at least, is closed: an idle one, or one that drips.
//!
//! Invariant: a connection is closed for another's sake only on its client's turn; what the server has begun, it finishes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringback::Timestamp;
use ringback::clock::{Clock, SystemClock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::source::Source;

/// How long a client's turn may be before it can lose its place to another.
const TURN: Duration = Duration::from_secs(1);
/// How often it is looked whether one has been that long.
const LOOK_EACH: Duration = Duration::from_millis(100);
/// How often it is logged at most that all places are taken.
const LOGGED_EACH: Duration = Duration::from_secs(60);

/// All places.
pub(super) struct Places {
    most: usize,
    /// The most of one source that is not this machine: half of all.
    of_one_source: usize,
    free: Arc<Semaphore>,
    clock: SystemClock,
    next: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    taken: HashMap<u64, Arc<Place>>,
    logged: Option<Timestamp>,
}

/// What is known of one connection. Its requests carry it.
pub(super) struct Place {
    source: Source,
    /// Since when it is the client's turn; `None` while it is the server's.
    clients_since: Mutex<Option<Timestamp>>,
    places: Arc<Places>,
    asked_to_end: Notify,
}

/// A place that is taken; dropped, it is free again.
#[must_use]
pub(super) struct Taken {
    number: u64,
    place: Arc<Place>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Places> {
        Arc::new(Places {
            most,
            of_one_source: (most / 2).max(1),
            free: Arc::new(Semaphore::new(most)),
            clock: SystemClock::starting_at(Timestamp::ZERO),
            next: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. `None` if its source has its share of them, and needs all of those itself.
    pub(super) async fn take(self: &Arc<Self>, source: Source) -> Option<Taken> {
        let own = self.lock().taken.values().filter(|place| place.source == source).count();
        if !source.is_loopback() && own >= self.of_one_source && !self.end_one(|place| place.source == source) {
            return None;
        }
        let permit = self.permit().await;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place {
            source,
            clients_since: Mutex::new(Some(self.clock.now())),
            places: Arc::clone(self),
            asked_to_end: Notify::new(),
        });
        self.lock().taken.insert(number, Arc::clone(&place));
        Some(Taken { number, place, _permit: permit })
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            tokio::select! {
                biased;
                permit = Arc::clone(&self.free).acquire_owned() => {
                    return permit.expect("the semaphore is never closed");
                }
                () = self.look_for_one_to_end() => {}
            }
        }
    }

    async fn look_for_one_to_end(&self) {
        self.log_that_it_is_full();
        self.end_one(|_| true);
        tokio::time::sleep(LOOK_EACH).await;
    }

    /// Lets the connection go whose client has had its turn for longest: for want of something else than a place.
    pub(super) fn make_room(&self) {
        self.end_one(|_| true);
    }

    /// Asks the connection to end whose client has had its turn for longest; `false` if none has had it long enough.
    fn end_one(&self, of: impl Fn(&Place) -> bool) -> bool {
        let now = self.clock.now();
        let held = self.lock();
        let waiting = held.taken.values().filter(|place| of(place));
        let waiting = waiting.filter_map(|place| Some((place.turn().as_ref().copied()?, place)));
        match waiting.min_by_key(|(since, _)| *since) {
            Some((since, place)) if now.since(since) >= TURN => {
                place.asked_to_end.notify_one();
                true
            }
            _ => false,
        }
    }

    fn log_that_it_is_full(&self) {
        let now = self.clock.now();
        let mut held = self.lock();
        if held.logged.is_none_or(|logged| now.since(logged) >= LOGGED_EACH) {
            held.logged = Some(now);
            tracing::warn!(max_connections = self.most, "all connections are taken: idle ones are closed for others");
        }
    }
}

impl Place {
    fn turn(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.clients_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub(super) fn is_the_servers_turn(&self) {
        *self.turn() = None;
    }

    /// The answer is known.
    pub(super) fn is_the_clients_turn(&self) {
        self.turn().get_or_insert(self.places.clock.now());
    }
}

impl Taken {
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// Waits until the connection has to end for another's sake.
    pub(super) async fn must_end(&self) {
        loop {
            self.place.asked_to_end.notified().await;
            // A request may have come since it was asked.
            if self.place.turn().is_some() {
                return;
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.place.places.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use tokio::time::{advance, timeout};

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    async fn ends(taken: &Taken) -> bool {
        timeout(Duration::from_millis(1), taken.must_end()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_place_is_free_the_client_that_has_had_its_turn_for_longest_loses_its_own() {
        let places = Places::new(3);
        let here = source("127.0.0.1");
        let idle_long = places.take(here).await.unwrap();
        advance(TURN).await;
        let works = places.take(here).await.unwrap();
        works.place().is_the_servers_turn();
        let idle = places.take(here).await.unwrap();
        let fourth = places.take(here);
        tokio::pin!(fourth);
        assert!(timeout(Duration::from_millis(1), &mut fourth).await.is_err());
        assert!(ends(&idle_long).await && !ends(&works).await && !ends(&idle).await);
        drop(idle_long);
        let _fourth = fourth.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_loses_a_place_within_a_second_nor_while_the_server_works() {
        let places = Places::new(2);
        let here = source("127.0.0.1");
        let first = places.take(here).await.unwrap();
        let works = places.take(here).await.unwrap();
        works.place().is_the_servers_turn();
        let third = places.take(here);
        tokio::pin!(third);
        assert!(timeout(TURN - Duration::from_millis(10), &mut third).await.is_err());
        assert!(!ends(&first).await && !ends(&works).await);
        assert!(timeout(TURN * 100, &mut third).await.is_err());
        assert!(ends(&first).await && !ends(&works).await);
        // The answer is known, and its client takes it slowly.
        works.place().is_the_clients_turn();
        first.place().is_the_servers_turn();
        assert!(timeout(TURN * 2, &mut third).await.is_err());
        assert!(ends(&works).await && !ends(&first).await);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_drip_are_still_the_same_turn() {
        let places = Places::new(1);
        let taken = places.take(source("127.0.0.1")).await.unwrap();
        taken.place().is_the_servers_turn();
        taken.place().is_the_clients_turn();
        let began = *taken.place.turn();
        advance(TURN).await;
        taken.place().is_the_clients_turn();
        assert_eq!(*taken.place.turn(), began);
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_has_half_of_the_places_unless_it_is_this_machine() {
        let places = Places::new(4);
        let far = ["2001:db8::1", "2001:db8::2"].map(source);
        let held = [places.take(far[0]).await.unwrap(), places.take(far[1]).await.unwrap()];
        assert!(places.take(far[0]).await.is_none(), "one network of 64 bits is one source");
        let other = places.take(source("192.0.2.1")).await.unwrap();
        advance(TURN).await;
        other.place().is_the_servers_turn();
        held[1].place().is_the_servers_turn();
        let next = places.take(far[1]).await.expect("its own idle one makes room for it");
        assert!(ends(&held[0]).await && !ends(&held[1]).await && !ends(&other).await);
        drop((held, other, next));
        let here = source("127.0.0.1");
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(places.take(here).await.unwrap());
        }
        drop(all);
        assert!(places.lock().taken.is_empty());
        assert_eq!(places.free.available_permits(), 4);
    }
}
