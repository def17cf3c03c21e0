//! Compaction: giving back the space of what retention, expunging and erasing have removed.

use crate::error::Error;
use crate::store::Compacted;

use super::Ringback;

impl Ringback {
    /// Copies what the store keeps to new files, which take the place of the old ones and of their free space. What is
    /// removed from a store is free for what comes later, but the folder does not shrink by itself; nor are the bytes of
    /// what was removed overwritten until then.
    ///
    /// Everything else goes on meanwhile, somewhat slower; for its duration the disk needs room for the copy, about four
    /// times the kept bytes at most. A compaction that is under way is joined, and [`health`](Ringback::health) says how
    /// far it is. It goes on if this future is dropped. A crash at any moment leaves the store as it was, or compacted.
    ///
    /// # Errors
    /// [`Error::NotCompacted`] if there is no room, or something went wrong: all is as it was. [`Error::Storage`],
    /// [`Error::Closed`].
    pub async fn compact(&self) -> Result<Compacted, Error> {
        Ok(self.inner.store.compact().await?.await?)
    }

    /// Begins [`compact`](Ringback::compact) and does not wait for its end.
    ///
    /// # Errors
    /// As `compact`, if it cannot begin.
    pub async fn start_compaction(&self) -> Result<(), Error> {
        drop(self.inner.store.compact().await?);
        Ok(())
    }
}
