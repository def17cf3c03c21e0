//! Whether there is room for more: asked before a message is taken, so that what was taken can always end.

use std::time::{Duration, Instant};

use crate::message::Routing;
use crate::store::{Enqueue, Error};

use super::writer::Writer;

/// How often the file system is asked for its free space.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The free space of the file system, as of the last look.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    looked: Option<Instant>,
    free: u64,
}

/// What a message adds to the bytes that wait: its payload once a delivery.
fn opened_bytes(item: &Enqueue) -> u64 {
    let deliveries = match &item.message.routing {
        Routing::To(endpoints) => endpoints.len() as u64,
        Routing::Nowhere(_) => 0,
    };
    item.message.payload.len() as u64 * deliveries
}

impl Writer {
    /// Refuses messages that would go over a cap.
    pub(super) fn admit(&mut self, items: &[Enqueue]) -> Result<(), Error> {
        let counters = &self.commit.counters;
        let payloads: u64 = items.iter().map(|item| item.message.payload.len() as u64).sum();
        let opened: u64 = items.iter().map(opened_bytes).sum();
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
