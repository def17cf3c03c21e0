//! What erasing asks of a store, and what it answers.

use crate::id::MessageId;

/// What goes of an application, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erase {
    /// These messages, with their payloads, deliveries, attempts, event ids and idempotency records, and what was set aside
    /// of them. What waits of them is canceled first. A message with an attempt on its way stays until that has ended.
    Messages(Vec<MessageId>),
    /// Everything that the application still has, its records included, at most `limit` rows. Its messages are gone
    /// already.
    Rest {
        /// How many rows at most.
        limit: usize,
    },
}

/// What was erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many messages.
    pub messages: u64,
    /// How many deliveries, with those messages.
    pub deliveries: u64,
    /// How many attempts, with those messages.
    pub attempts: u64,
    /// The messages that stay for now, because an attempt of theirs is on its way.
    pub in_flight: Vec<MessageId>,
    /// Whether there is more of the rest.
    pub more: bool,
}
