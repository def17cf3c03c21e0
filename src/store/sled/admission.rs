//! Whether there is room for more: asked before a message is taken, so that what was taken can always end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::store::{Enqueue, Error};

use super::writer::Writer;

/// How often the file system is asked for its free space.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The most payload bytes that may wait for the writer.
const MAX_QUEUED_BYTES: u64 = 256 << 20;

/// The free space of the file system, as of the last look.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    looked: Option<Instant>,
    free: u64,
}

/// The payload bytes of sends that wait for the writer. They are in memory until it has taken them.
#[derive(Debug, Clone, Default)]
pub(super) struct Queued(Arc<AtomicU64>);

/// A place among the bytes that wait, given back when it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(super) struct QueuedBytes(Queued, u64);

impl Queued {
    /// Refuses what would go over the bound. A send that nothing waits beside has its place, however large it is.
    pub(super) fn take(&self, items: &[Enqueue]) -> Result<QueuedBytes, Error> {
        let bytes = payload_bytes(items);
        let before = self.0.fetch_add(bytes, Relaxed);
        let place = QueuedBytes(self.clone(), bytes);
        if before > 0 && before + bytes > MAX_QUEUED_BYTES {
            return Err(Error::Overloaded(format!("sends with {before} bytes wait for the disk")));
        }
        Ok(place)
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Relaxed);
    }
}

fn payload_bytes(items: &[Enqueue]) -> u64 {
    items.iter().map(|item| item.message.payload.len() as u64).sum()
}

impl Writer {
    /// Refuses messages that would go over a cap.
    pub(super) fn admit(&mut self, items: &[Enqueue]) -> Result<(), Error> {
        let counters = &self.commit.counters;
        let payloads = payload_bytes(items);
        let opened: u64 = items.iter().map(Enqueue::opened_bytes).sum();
        if counters.open_bytes + opened > self.config.max_open_bytes {
            let full = format!("{} bytes of payload wait to be delivered", counters.open_bytes);
            return Err(Error::Overloaded(full));
        }
        if counters.kept_bytes + payloads > self.config.max_kept_bytes {
            return Err(Error::Overloaded(format!("{} bytes of messages and attempts are kept", counters.kept_bytes)));
        }
        if self.free_bytes() < self.config.min_free_bytes {
            return Err(Error::Overloaded(format!("{} bytes are free on the disk", self.disk.free)));
        }
        Ok(())
    }

    fn free_bytes(&mut self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "how old a look at the disk is; decides nothing else")]
        let now = Instant::now();
        if self.disk.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY) {
            self.disk = DiskWatch { looked: Some(now), free: self.shared.folder.free_bytes() };
        }
        self.disk.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ApplicationId, MessageId};
    use crate::message::{NoRoute, Routing};
    use crate::time::Timestamp;

    #[test]
    fn the_payloads_that_wait_for_the_writer_have_a_bound() {
        let queued = Queued::default();
        let sends = |mebibytes: usize, count: usize| {
            let (application, id) = (ApplicationId::from_bytes([1; 16]), MessageId::from_bytes([2; 16]));
            let payload = bytes::Bytes::from(vec![0; mebibytes << 20]);
            let routing = Routing::Nowhere(NoRoute::NoEndpoints);
            let message = Arc::new(crate::testing::message(application, id, Timestamp::ZERO, payload, routing));
            vec![Enqueue { message, routed_over: None, idempotency: None }; count]
        };
        let huge = queued.take(&sends(1, 300)).expect("alone it has its place");
        assert!(matches!(queued.take(&sends(1, 1)), Err(Error::Overloaded(_))));
        drop(huge);
        let half = queued.take(&sends(1, 128)).unwrap();
        let other_half = queued.take(&sends(1, 128)).unwrap();
        for _ in 0..3 {
            assert!(matches!(queued.take(&sends(1, 1)), Err(Error::Overloaded(_))));
        }
        let nothing = queued.take(&sends(0, 1)).expect("it takes no room");
        drop(half);
        let third = queued.take(&sends(1, 128)).unwrap();
        drop((nothing, other_half, third));
        assert_eq!(queued.0.load(Relaxed), 0);
    }
}
