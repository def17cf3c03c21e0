//! How a store is, and how a compaction of it stands.

/// How a store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Deliveries that have not ended.
    pub open: u64,
    /// The payload bytes of those, each delivery counting its message's as it was sent.
    pub open_bytes: u64,
    /// Deliveries with a lease that was neither settled nor claimed again.
    pub leased: u64,
    /// Bytes on disk; 0 where there is no disk.
    pub disk_bytes: u64,
    /// Bytes of the messages and attempts that are kept; 0 where there is no disk. What is on disk beyond a few times
    /// this is free space, which [`Store::compact`](super::Store::compact) gives back.
    pub kept_bytes: u64,
    /// How the last compaction since it was opened stands.
    pub compaction: Option<Compaction>,
    /// Damaged records that were set aside since it was opened.
    pub damaged: u64,
    /// Why it cannot write, if it cannot.
    pub failed: Option<String>,
    /// What an operator should look at; empty if all is well.
    pub warnings: Vec<String>,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes on disk before it.
    pub before_bytes: u64,
    /// Bytes on disk after it.
    pub after_bytes: u64,
}

/// How a compaction stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compaction {
    /// It is under way.
    Running {
        /// The bytes of messages and attempts that have been copied.
        copied_bytes: u64,
        /// How many there were when it began. What is stored meanwhile is copied, too.
        of_bytes: u64,
    },
    /// It has ended.
    Done(Compacted),
    /// It was given up for this reason; the store is as it was.
    Failed(String),
}
