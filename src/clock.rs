//! The clock seam: what time it is.
//!
//! Deadlines and schedules must not move when somebody sets the machine's clock. So [`SystemClock`] reads
//! the wall clock once, and counts on from there with the runtime's monotonic clock. Only the timestamp of a
//! signature, which receivers compare with their own clock, is the wall clock's.

use crate::time::Timestamp;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// The time that schedules are kept in. It never runs backwards.
    fn now(&self) -> Timestamp;

    /// The time that receivers compare with their own.
    fn wall(&self) -> Timestamp;
}

/// The machine's clock. Under a paused tokio runtime its monotonic part is paused, too.
#[derive(Debug)]
pub struct SystemClock {
    start: Timestamp,
    since: tokio::time::Instant,
}

impl SystemClock {
    /// Starts at the wall clock's time, but not before `latest`: the latest time that a store has seen.
    pub fn starting_after(latest: Timestamp) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock seam")]
        let since = tokio::time::Instant::now();
        SystemClock { start: wall_clock().max(latest), since }
    }

    /// Starts at a given time, for tests.
    pub fn starting_at(start: Timestamp) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock seam")]
        let since = tokio::time::Instant::now();
        SystemClock { start, since }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.start + self.since.elapsed()
    }

    fn wall(&self) -> Timestamp {
        wall_clock()
    }
}

fn wall_clock() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock seam")]
    let now = std::time::SystemTime::now();
    let since_1970 = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO + since_1970
}
