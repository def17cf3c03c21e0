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

    /// Closes half of what is kept, the longest unused; `false` if there was nothing.
    pub(super) fn let_go(&self) -> bool {
        let gone = self.0.lock().take_oldest_half();
        !gone.is_empty()
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

    fn take_oldest_half(&mut self) -> Vec<Idle> {
        let half = self.idle.len().div_ceil(2);
        let places: Vec<u64> = self.idle.keys().take(half).copied().collect();
        places.into_iter().filter_map(|place| self.take_oldest(place)).collect()
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
        let gone = shelves.lock().sweep(now());
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

#[cfg(test)]
mod tests {
    use super::super::connection::Post;
    use super::*;
    use crate::egress::Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A connection that has had its first answer, and the receiver's end of it.
    async fn used() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "to a listener of this test")]
        let connecting = TcpStream::connect(address);
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        let mut theirs = theirs.unwrap().0;
        let mut connection = Connection::new(Stream::Left(ours.unwrap()), address, now()).await.unwrap();
        let mut post = Post::default();
        *post.method_mut() = http::Method::POST;
        let answering = async {
            assert!(theirs.read(&mut [0; 1024]).await.unwrap() > 0);
            theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(connection.post(post), answering);
        let read = connection.read(answer.unwrap().body_mut(), now() + Duration::from_secs(60)).await;
        assert_eq!(read, (bytes::Bytes::new(), false));
        (connection, theirs)
    }

    fn origin(port: usize) -> Origin {
        Origin::of(&format!("https://acme.example:{port}/hooks?x").parse().unwrap())
    }

    fn kept(pool: &Pool) -> usize {
        let kept = pool.0.lock();
        assert_eq!(kept.idle.len(), kept.of.values().map(VecDeque::len).sum::<usize>());
        kept.idle.len()
    }

    async fn is_closed(theirs: &mut TcpStream) -> bool {
        theirs.read(&mut [0; 16]).await.unwrap() == 0
    }

    #[tokio::test]
    async fn a_connection_is_used_again_for_its_own_origin_alone() {
        let pool = Pool::default();
        let (connection, _theirs) = used().await;
        pool.keep(origin(1), connection);
        assert!(pool.take(&origin(2)).is_none());
        assert!(pool.take(&Origin::of(&"http://acme.example:1/".parse().unwrap())).is_none());
        assert!(pool.take(&origin(1)).is_some());
        assert!(pool.take(&origin(1)).is_none());
        assert_eq!(kept(&pool), 0);
    }

    #[tokio::test]
    async fn an_unused_connection_goes_after_30_seconds_although_nobody_asks() {
        let pool = Pool::default();
        let (connection, mut theirs) = used().await;
        pool.keep(origin(1), connection);
        tokio::time::pause();
        tokio::time::sleep(IDLE_TIME - Duration::from_millis(1)).await;
        assert_eq!(kept(&pool), 1);
        tokio::time::sleep(SWEEP_EVERY * 2).await;
        assert_eq!(kept(&pool), 0);
        assert!(is_closed(&mut theirs).await);
        assert!(!pool.0.lock().swept, "nothing is swept where nothing is kept");
    }

    #[tokio::test]
    async fn a_connection_is_used_for_five_minutes_at_most() {
        let pool = Pool::default();
        let (mut connection, _theirs) = used().await;
        tokio::time::pause();
        for _ in 0..14 {
            pool.keep(origin(1), connection);
            tokio::time::advance(Duration::from_secs(20)).await;
            connection = pool.take(&origin(1)).unwrap();
        }
        pool.keep(origin(1), connection);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(pool.take(&origin(1)).is_none());
    }

    #[tokio::test]
    async fn what_the_receiver_closed_or_wrote_to_unasked_is_not_used_again() {
        for unasked in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"] {
            let pool = Pool::default();
            let (connection, mut theirs) = used().await;
            pool.keep(origin(1), connection);
            match unasked {
                b"" => drop(theirs),
                some => theirs.write_all(some).await.unwrap(),
            }
            // Until it has arrived: nothing tells so without taking the connection.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(pool.take(&origin(1)).is_none(), "{unasked:?}");
        }
    }

    #[tokio::test]
    async fn what_the_receiver_closed_is_let_go_although_nobody_asks() {
        let pool = Pool::default();
        let (connection, theirs) = used().await;
        pool.keep(origin(1), connection);
        drop(theirs);
        while kept(&pool) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looking at one costs a task's budget, which is spent after 128.
    #[tokio::test]
    async fn of_many_that_the_receiver_closed_at_once_none_is_taken_for_open() {
        let pool = Pool::default();
        let mut ends = Vec::new();
        for _ in 0..200 {
            let (connection, theirs) = used().await;
            pool.keep(origin(1), connection);
            ends.push(theirs);
        }
        drop(ends);
        // The ends of the streams have come by then, and nobody has swept.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(pool.take(&origin(1)).is_none());
    }

    #[tokio::test]
    async fn of_too_many_the_longest_unused_goes_first() {
        let pool = Pool::default();
        let mut ends = Vec::new();
        for _ in 0..=MAX_IDLE_OF_ONE {
            let (connection, theirs) = used().await;
            pool.keep(origin(1), connection);
            ends.push(theirs);
        }
        assert_eq!(kept(&pool), MAX_IDLE_OF_ONE);
        assert!(is_closed(&mut ends[0]).await);
        let last = pool.take(&origin(1)).unwrap();
        assert_eq!(last.peer, ends.last().unwrap().local_addr().unwrap(), "the one that was used last is taken first");
    }

    #[tokio::test]
    async fn where_descriptors_are_scarce_the_longest_unused_half_goes() {
        let pool = Pool::default();
        let mut ends = Vec::new();
        for port in 1..=3 {
            let (connection, theirs) = used().await;
            pool.keep(origin(port), connection);
            ends.push(theirs);
        }
        assert!(pool.let_go());
        assert_eq!(kept(&pool), 1);
        assert!(is_closed(&mut ends[0]).await && is_closed(&mut ends[1]).await);
        assert!(pool.let_go() && !pool.let_go());
    }

    #[tokio::test]
    async fn connections_go_with_their_pool() {
        let pool = Pool::default();
        let (connection, mut theirs) = used().await;
        pool.keep(origin(1), connection);
        drop(pool);
        assert!(is_closed(&mut theirs).await);
    }
}
