//! For the front's unit tests: a sender over a memory store, with a clock that stands until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::egress::Policy;
use crate::error::Error;
use crate::http::HttpTransport;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::time::Timestamp;

use super::{Config, KeySource, Ringback};

/// A clock that stands until it is moved.
pub(super) struct StandingClock(AtomicU64);

impl StandingClock {
    pub(super) fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// What outlives a sender.
pub(super) struct Fixture {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<StandingClock>,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let clock = StandingClock(AtomicU64::new(1_800_000_000_000));
        Fixture { store: Arc::new(MemoryStore::new()), clock: Arc::new(clock) }
    }

    /// Opens a sender on what is stored, as a restart does.
    pub(super) async fn open(&self) -> Ringback {
        self.open_with(KeySource::default()).await.unwrap()
    }

    /// The same with keys to seal under.
    pub(super) async fn open_with(&self, keys: KeySource) -> Result<Ringback, Error> {
        let clock: Arc<dyn Clock> = Arc::<StandingClock>::clone(&self.clock);
        let transport = HttpTransport::new(Policy::default(), b"", Arc::clone(&clock)).unwrap();
        let config = Config { keys, ..Config::default() };
        Ringback::from_parts(config, Arc::clone(&self.store), Arc::new(transport), clock).await
    }
}
