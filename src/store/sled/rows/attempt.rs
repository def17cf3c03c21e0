//! The rows of attempts.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Damaged, EXPUNGED, VERSION, code, seal_bytes, unseal_expungeable};
use crate::attempt::{Attempt, Response, Timing, Trigger};
use crate::delivery::{Asked, DeliveryId, Failure, Lane, Outcome, StateKind};
use crate::id::{AttemptId, MessageId};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::sled) struct AttemptRow {
    pub(in crate::store::sled) message: [u8; 16],
    number: u32,
    round: u32,
    trigger: u8,
    started_at: u64,
    url: String,
    request_headers: Vec<(String, String)>,
    outcome: OutcomeRow,
    response: Option<ResponseRow>,
    head_us: Option<u64>,
    total_us: u64,
    result: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum OutcomeRow {
    Answered {
        status: u16,
        retry_after_ms: Option<u64>,
    },
    Failed(u8),
    /// An answer that asks for something.
    Asking {
        status: u16,
        retry_after_ms: Option<u64>,
        asked: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ResponseRow {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    truncated: bool,
}

impl AttemptRow {
    pub(in crate::store::sled) fn of(attempt: &Attempt) -> Self {
        let outcome = match attempt.outcome {
            Outcome::Answered { status, retry_after, asked } => {
                let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let retry_after_ms = retry_after.map(millis);
                match asked {
                    None => OutcomeRow::Answered { status, retry_after_ms },
                    Some(asked) => OutcomeRow::Asking { status, retry_after_ms, asked: code(&ASKED, asked) },
                }
            }
            Outcome::Failed(failure) => OutcomeRow::Failed(code(&FAILURES, failure)),
        };
        let response = attempt.response.as_ref().map(|response| ResponseRow {
            status: response.status,
            headers: response.headers.clone(),
            body: response.body.clone(),
            truncated: response.truncated,
        });
        AttemptRow {
            message: attempt.delivery.message.to_bytes(),
            number: attempt.number,
            round: attempt.round,
            trigger: code(&TRIGGERS, attempt.trigger),
            started_at: attempt.started_at.as_millis(),
            url: attempt.url.clone(),
            request_headers: attempt.request_headers.clone(),
            outcome,
            response,
            head_us: attempt.timing.head_us,
            total_us: attempt.timing.total_us,
            result: code(&STATE_KINDS, attempt.result),
        }
    }

    /// Encodes the row of an attempt.
    pub(in crate::store::sled) fn seal(&self, key: &[u8]) -> Vec<u8> {
        self.seal_as(VERSION, key)
    }

    /// Encodes the row without its response's body.
    pub(in crate::store::sled) fn seal_expunged(mut self, key: &[u8]) -> Vec<u8> {
        if let Some(response) = &mut self.response {
            response.body = Bytes::new();
        }
        self.seal_as(EXPUNGED, key)
    }

    fn seal_as(&self, version: u8, key: &[u8]) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("rows are plain data, which postcard encodes into memory");
        seal_bytes(version, key, &[&body])
    }

    pub(in crate::store::sled) fn unseal(key: &[u8], value: &[u8]) -> Result<StoredAttempt, Damaged> {
        let (body, expunged) = unseal_expungeable(key, value)?;
        Ok(StoredAttempt { row: postcard::from_bytes(body).map_err(|_| Damaged)?, expunged })
    }

    fn into_attempt(self, lane: Lane, id: AttemptId) -> Option<Attempt> {
        let outcome = match self.outcome {
            OutcomeRow::Answered { status, retry_after_ms } => {
                Outcome::Answered { status, retry_after: retry_after_ms.map(Duration::from_millis), asked: None }
            }
            OutcomeRow::Asking { status, retry_after_ms, asked } => Outcome::Answered {
                status,
                retry_after: retry_after_ms.map(Duration::from_millis),
                asked: Some(*ASKED.get(usize::from(asked))?),
            },
            OutcomeRow::Failed(failure) => Outcome::Failed(*FAILURES.get(usize::from(failure))?),
        };
        let response = self.response.map(|row| Response {
            status: row.status,
            headers: row.headers,
            body: row.body,
            truncated: row.truncated,
            expunged: false,
        });
        Some(Attempt {
            id,
            delivery: DeliveryId { lane, message: MessageId::from_bytes(self.message) },
            number: self.number,
            round: self.round,
            trigger: *TRIGGERS.get(usize::from(self.trigger))?,
            started_at: Timestamp::from_millis(self.started_at),
            url: self.url,
            request_headers: self.request_headers,
            outcome,
            response,
            timing: Timing { head_us: self.head_us, total_us: self.total_us },
            result: *STATE_KINDS.get(usize::from(self.result))?,
        })
    }
}

/// An attempt's row.
pub(in crate::store::sled) struct StoredAttempt {
    pub(in crate::store::sled) row: AttemptRow,
    /// Whether its response's body is gone.
    pub(in crate::store::sled) expunged: bool,
}

impl StoredAttempt {
    pub(in crate::store::sled) fn into_attempt(self, lane: Lane, id: AttemptId) -> Option<Attempt> {
        let mut attempt = self.row.into_attempt(lane, id)?;
        if let Some(response) = &mut attempt.response {
            response.expunged = self.expunged;
        }
        Some(attempt)
    }
}

// As the other lists of codes: new ones go to the end; none is removed.
const TRIGGERS: [Trigger; 4] = [Trigger::First, Trigger::Retry, Trigger::Replay, Trigger::Test];
const STATE_KINDS: [StateKind; 6] = [
    StateKind::Waiting,
    StateKind::Leased,
    StateKind::Delivered,
    StateKind::Dead,
    StateKind::Canceled,
    StateKind::Held,
];
const ASKED: [Asked; 2] = [Asked::AbortMessage, Asked::Disable];
const FAILURES: [Failure; 14] = [
    Failure::Timeout,
    Failure::Dns,
    Failure::Refused,
    Failure::Unreachable,
    Failure::Tls,
    Failure::Reset,
    Failure::Protocol,
    Failure::Blocked,
    Failure::BlockedAddress,
    Failure::Unsendable,
    Failure::Lost,
    Failure::Panicked,
    Failure::Damaged,
    Failure::Expunged,
];
