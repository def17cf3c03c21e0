//! What the two processes say to each other: one JSON value a line, commands down, reports up.

use ringback::{StateKind, Trigger};
use serde::{Deserialize, Serialize};

/// What the sender is told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Command {
    /// Send these events, by their keys.
    Send(Vec<String>),
    /// Replay the dead letter of this event.
    Replay(String),
    /// Say how every delivery stands, close the queue and end.
    Conclude,
}

/// What the sender reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    /// The queue is open.
    Ready,
    /// An event is on disk with its delivery: `send` returned.
    Accepted(Accepted),
    /// An attempt is on record.
    Attempted(Attempted),
    /// A dead letter is to be attempted again.
    Replayed {
        /// Its event's key.
        event: String,
        /// The events of all dead letters that there were.
        dead_letters: Vec<String>,
    },
    /// How a delivery stands at the end, by the queue on disk.
    Stands {
        /// Its event's key.
        event: String,
        /// How it stands.
        state: StateKind,
        /// How many attempts of it are on record.
        attempts: usize,
    },
}

/// An event that is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    /// Its key.
    pub(super) event: String,
    /// Its message.
    pub(super) message: String,
    /// Whether it had been sent before, so that nothing new was stored.
    pub(super) repeated: bool,
}

/// An attempt that is on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempted {
    /// Its event's key.
    pub(super) event: String,
    /// Its own id.
    pub(super) id: String,
    /// Its number, from 1.
    pub(super) number: u32,
    /// Its round.
    pub(super) round: u32,
    /// What caused it.
    pub(super) trigger: Trigger,
    /// The answer's status, or the failure's word.
    pub(super) outcome: String,
    /// The start of the answer's body, escaped: it is the receiver's, and goes to a terminal.
    pub(super) answer: String,
    /// How the delivery stood after it.
    pub(super) result: StateKind,
    /// What it probably means.
    pub(super) hint: Option<String>,
    /// How long the next one waits, in milliseconds.
    pub(super) wait_ms: Option<u64>,
    /// How long it took, in milliseconds.
    pub(super) took_ms: u64,
    /// Whether it was read from the log at the start, and not watched.
    pub(super) from_log: bool,
}
