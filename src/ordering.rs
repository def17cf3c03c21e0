//! Ordering keys: which deliveries wait for each other, and what a failing one does to those behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::invalid::Invalid;

/// The most attempts after which a failing delivery can let others pass: the first, and all retries that there can be.
pub const MAX_AFTER_ATTEMPTS: u32 = 51;
/// The longest time after which a failing delivery can expire: 30 days.
pub const MAX_AFTER_SECONDS: u64 = 30 * 24 * 3600;

/// What a delivery with an ordering key does to those behind it while it fails. In JSON `{"rule":"wait"}`,
/// `{"rule":"skip","afterAttempts":3}` or `{"rule":"expire","afterSeconds":600}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum BlockedHead {
    /// They wait until it has ended.
    #[default]
    Wait,
    /// After so many failed attempts of a round they go on, and it is retried beside them: 1 to 51.
    Skip {
        /// How many.
        after_attempts: u32,
    },
    /// It gives up if it has not ended so long after its turn came: 1 s to 30 days. It has one attempt in any case.
    Expire {
        /// In whole seconds.
        after_seconds: u64,
    },
}

impl BlockedHead {
    /// How long a failing delivery is retried.
    pub(crate) fn patience(self) -> Option<Duration> {
        match self {
            BlockedHead::Wait | BlockedHead::Skip { .. } => None,
            BlockedHead::Expire { after_seconds } => Some(Duration::from_secs(after_seconds)),
        }
    }

    /// Whether others go on after so many failed attempts.
    pub(crate) fn lets_pass(self, tries: u32) -> bool {
        match self {
            BlockedHead::Wait | BlockedHead::Expire { .. } => false,
            BlockedHead::Skip { after_attempts } => tries >= after_attempts,
        }
    }

    pub(crate) fn validate(self) -> Result<(), Invalid> {
        match self {
            BlockedHead::Skip { after_attempts } if !(1..=MAX_AFTER_ATTEMPTS).contains(&after_attempts) => {
                Err(Invalid::new("blockedHead.afterAttempts", "must be between 1 and 51"))
            }
            BlockedHead::Expire { after_seconds } if !(1..=MAX_AFTER_SECONDS).contains(&after_seconds) => {
                Err(Invalid::new("blockedHead.afterSeconds", "must be between 1 and 2,592,000 (30 days)"))
            }
            BlockedHead::Wait | BlockedHead::Skip { .. } | BlockedHead::Expire { .. } => Ok(()),
        }
    }
}

/// The JSON form: with members that belong to another rule it is refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object such as {\"rule\":\"wait\"}")]
struct Written {
    rule: Rule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Rule {
    Wait,
    Skip,
    Expire,
}

impl TryFrom<Written> for BlockedHead {
    type Error = &'static str;
    fn try_from(Written { rule, after_attempts, after_seconds }: Written) -> Result<Self, &'static str> {
        match (rule, after_attempts, after_seconds) {
            (Rule::Wait, None, None) => Ok(BlockedHead::Wait),
            (Rule::Skip, Some(after_attempts), None) => Ok(BlockedHead::Skip { after_attempts }),
            (Rule::Expire, None, Some(after_seconds)) => Ok(BlockedHead::Expire { after_seconds }),
            (Rule::Wait, _, _) => Err("the rule `wait` has neither afterAttempts nor afterSeconds"),
            (Rule::Skip, _, _) => Err("the rule `skip` has afterAttempts, and nothing else"),
            (Rule::Expire, _, _) => Err("the rule `expire` has afterSeconds, and nothing else"),
        }
    }
}

impl From<BlockedHead> for Written {
    fn from(rule: BlockedHead) -> Self {
        let (rule, after_attempts, after_seconds) = match rule {
            BlockedHead::Wait => (Rule::Wait, None, None),
            BlockedHead::Skip { after_attempts } => (Rule::Skip, Some(after_attempts), None),
            BlockedHead::Expire { after_seconds } => (Rule::Expire, None, Some(after_seconds)),
        };
        Written { rule, after_attempts, after_seconds }
    }
}

/// Names an ordering key in indexes, in a fixed length: the first 16 bytes of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct KeyHash([u8; 16]);

impl KeyHash {
    pub(crate) fn of(key: &str) -> KeyHash {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let (hash, _) = digest.split_first_chunk().expect("32 bytes have a first half");
        KeyHash(*hash)
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> KeyHash {
        KeyHash(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_and_contradictions_are_refused() {
        for (rule, text) in [
            (BlockedHead::Wait, r#"{"rule":"wait"}"#),
            (BlockedHead::Skip { after_attempts: 3 }, r#"{"rule":"skip","afterAttempts":3}"#),
            (BlockedHead::Expire { after_seconds: 600 }, r#"{"rule":"expire","afterSeconds":600}"#),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), text);
            assert_eq!(serde_json::from_str::<BlockedHead>(text).unwrap(), rule);
        }
        for (text, named) in [
            (r#"{"rule":"wait","afterAttempts":3}"#, "wait"),
            (r#"{"rule":"skip"}"#, "afterAttempts"),
            (r#"{"rule":"skip","afterAttempts":3,"afterSeconds":3}"#, "skip"),
            (r#"{"rule":"expire","afterAttempts":3}"#, "afterSeconds"),
            (r#"{"rule":"drop"}"#, "drop"),
            (r#"{"rule":"wait","after":3}"#, "after"),
        ] {
            let problem = serde_json::from_str::<BlockedHead>(text).unwrap_err().to_string();
            assert!(problem.contains(named), "{text}: {problem}");
        }
        for out_of_range in [
            BlockedHead::Skip { after_attempts: 0 },
            BlockedHead::Skip { after_attempts: MAX_AFTER_ATTEMPTS + 1 },
            BlockedHead::Expire { after_seconds: 0 },
            BlockedHead::Expire { after_seconds: MAX_AFTER_SECONDS + 1 },
        ] {
            assert!(out_of_range.validate().is_err(), "{out_of_range:?}");
        }
    }
}
