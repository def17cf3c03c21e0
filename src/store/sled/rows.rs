//! The values of the tree: version, checksum, body.
//!
//! Every value is a byte for its layout's version, a CRC-32 over key, version and body, and the body
//! (postcard). A value whose checksum does not fit its key is damaged, whatever it decodes to.
//!
//! To change a row: add a struct beside the old one, raise the version that it is sealed with, and read both where it
//! is unsealed. A field added at the end of a postcard struct is a change, too. A version that older programs do not
//! know raises [`FORMAT`](super::folder::FORMAT): they would take it for damage.

mod attempt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::delivery::{CancelReason, DeadReason, Progress, State};
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::message::{Message, NoRoute, Routing};
use crate::ordering::KeyHash;
use crate::store::Record;
use crate::time::Timestamp;

pub(super) use attempt::AttemptRow;

/// The version of every row's layout today.
const VERSION: u8 = 1;
/// The version of the row of a message without its payload, or of an attempt without its response's body: all else
/// is laid out as in version 1.
const EXPUNGED: u8 = 2;
/// The versions of the row of a message that has options: as versions 1 and 2, with those behind the row.
const OPTIONS: u8 = 3;
const OPTIONS_EXPUNGED: u8 = 4;
const HEAD: usize = 5;

/// The largest part of a payload in one value. A leaf of the tree holds up to 16 values, and a leaf over a
/// quarter of a segment (1 MiB of 4) would be written to a file of its own that is never synced.
pub(super) const PART: usize = 32 * 1024;

/// A value that cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// Puts version and checksum before a body.
fn seal_bytes(version: u8, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + parts.iter().map(|part| part.len()).sum::<usize>());
    value.extend_from_slice(&[version, 0, 0, 0, 0]);
    parts.iter().for_each(|part| value.extend_from_slice(part));
    let checksum = checksum(key, version, &value[HEAD..]);
    value[1..HEAD].copy_from_slice(&checksum.to_be_bytes());
    value
}

/// The version and the body of a value whose checksum fits.
fn unseal_any<'v>(key: &[u8], value: &'v [u8]) -> Result<(u8, &'v [u8]), Damaged> {
    let (head, body) = value.split_at_checked(HEAD).ok_or(Damaged)?;
    let sum = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if sum != checksum(key, head[0], body) {
        return Err(Damaged);
    }
    Ok((head[0], body))
}

/// The body of a value that has one version only.
fn unseal_bytes<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], Damaged> {
    match unseal_any(key, value)? {
        (VERSION, body) => Ok(body),
        (_, _) => Err(Damaged),
    }
}

/// The body of a value that can be expunged, and whether it is.
fn unseal_expungeable<'v>(key: &[u8], value: &'v [u8]) -> Result<(&'v [u8], bool), Damaged> {
    match unseal_any(key, value)? {
        (VERSION, body) => Ok((body, false)),
        (EXPUNGED, body) => Ok((body, true)),
        (_, _) => Err(Damaged),
    }
}

fn checksum(key: &[u8], version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize()
}

/// Encodes a row for its key.
pub(super) fn seal<R: Serialize>(key: &[u8], row: &R) -> Vec<u8> {
    let body = postcard::to_stdvec(row).expect("rows are plain data, which postcard encodes into memory");
    seal_bytes(VERSION, key, &[&body])
}

/// Decodes the row of a key.
pub(super) fn unseal<R: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<R, Damaged> {
    postcard::from_bytes(unseal_bytes(key, value)?).map_err(|_| Damaged)
}

/// A value that is bytes alone: a part of a payload, or a damaged row set aside.
pub(super) fn seal_raw(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    seal_bytes(VERSION, key, &[bytes])
}

pub(super) fn unseal_raw<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], Damaged> {
    unseal_bytes(key, value)
}

/// The counters of the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// Counts the commits; the last acknowledged one is kept outside the tree as well.
    pub(super) commit: u64,
    /// Raised at each open: the first half of a fence.
    pub(super) epoch: u64,
    /// The next message's sequence.
    pub(super) sequence: u64,
    /// Deliveries that have not ended, and their payloads' bytes.
    pub(super) open: u64,
    pub(super) open_bytes: u64,
    /// Bytes of the messages and attempts that are kept.
    pub(super) kept_bytes: u64,
    /// The latest time in any write.
    pub(super) latest: u64,
}

impl Counters {
    /// Version 2 says that the rows with each application's open bytes are there; all else is as in version 1.
    const VERSION: u8 = 2;

    pub(super) fn seal(&self, key: &[u8]) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("rows are plain data, which postcard encodes into memory");
        seal_bytes(Counters::VERSION, key, &[&body])
    }

    /// The counters, and whether applications have been counted.
    pub(super) fn unseal(key: &[u8], value: &[u8]) -> Result<(Counters, bool), Damaged> {
        let (version, body) = unseal_any(key, value)?;
        if version != VERSION && version != Counters::VERSION {
            return Err(Damaged);
        }
        let counters = postcard::from_bytes(body).map_err(|_| Damaged)?;
        Ok((counters, version == Counters::VERSION))
    }
}

/// A message without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageRow {
    event_type: String,
    json: bool,
    pub(super) event_id: Option<String>,
    channels: Vec<String>,
    occurred_at: u64,
    pub(super) accepted_at: u64,
    test: bool,
    pub(super) to: Vec<[u8; 16]>,
    nowhere: Option<u8>,
    /// With `accepted_at` (or when it is due, if that is later) the place of its first waiting rows.
    pub(super) sequence: u64,
    pub(super) idempotency: Option<(String, u64)>,
    /// The whole payload's length; what does not fit this row is in parts.
    pub(super) length: u32,
    /// Encoded behind the rest, and only if there are any.
    #[serde(skip)]
    pub(super) options: OptionsRow,
}

/// What few messages have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OptionsRow {
    pub(super) ordering_key: Option<String>,
    /// In place of `accepted_at` the due time of its first waiting rows.
    deliver_at: Option<u64>,
    expires_at: Option<u64>,
    tags: Vec<String>,
}

impl OptionsRow {
    fn of(message: &Message) -> Self {
        OptionsRow {
            ordering_key: message.ordering_key.clone(),
            deliver_at: message.deliver_at.map(Timestamp::as_millis),
            expires_at: message.expires_at.map(Timestamp::as_millis),
            tags: message.tags.clone(),
        }
    }
}

/// A message row and the payload's first part.
pub(super) struct StoredMessage {
    pub(super) row: MessageRow,
    pub(super) head: Bytes,
    /// Whether the payload is gone: then there is no part of it.
    pub(super) expunged: bool,
}

impl StoredMessage {
    /// How long the payload is that is stored.
    pub(super) fn length(&self) -> usize {
        if self.expunged { 0 } else { self.row.length as usize }
    }

    /// How many further parts the payload has.
    pub(super) fn parts(&self) -> u16 {
        let beyond = self.length().saturating_sub(PART);
        u16::try_from(beyond.div_ceil(PART)).unwrap_or(u16::MAX)
    }

    /// The message, with the payload that was put together from its parts.
    pub(super) fn into_message(self, application: ApplicationId, id: MessageId, payload: Bytes) -> Message {
        Message { expunged: self.expunged, ..self.row.into_message(application, id, payload) }
    }
}

impl MessageRow {
    pub(super) fn of(message: &Message, sequence: u64, idempotency: Option<(String, u64)>) -> Self {
        let (to, nowhere) = match &message.routing {
            Routing::To(endpoints) => (endpoints.iter().map(|id| id.to_bytes()).collect(), None),
            Routing::Nowhere(why) => (Vec::new(), Some(no_route_code(*why))),
        };
        MessageRow {
            event_type: message.event_type.clone(),
            json: message.json,
            event_id: message.event_id.clone(),
            channels: message.channels.clone(),
            occurred_at: message.occurred_at.as_millis(),
            accepted_at: message.accepted_at.as_millis(),
            test: message.test,
            to,
            nowhere,
            sequence,
            idempotency,
            length: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
            options: OptionsRow::of(message),
        }
    }

    /// Encodes the row with the payload's first part behind it.
    pub(super) fn seal(&self, key: &[u8], payload: &[u8]) -> Vec<u8> {
        self.seal_as([VERSION, OPTIONS], key, &payload[..payload.len().min(PART)])
    }

    /// Encodes the row alone, its payload being gone.
    pub(super) fn seal_expunged(&self, key: &[u8]) -> Vec<u8> {
        self.seal_as([EXPUNGED, OPTIONS_EXPUNGED], key, &[])
    }

    /// What has no options is written as it was before there were any.
    fn seal_as(&self, [plain, with_options]: [u8; 2], key: &[u8], payload: &[u8]) -> Vec<u8> {
        let plain_data = "rows are plain data, which postcard encodes into memory";
        let mut row = postcard::to_stdvec(self).expect(plain_data);
        let mut version = plain;
        if self.options != OptionsRow::default() {
            row = postcard::to_extend(&self.options, row).expect(plain_data);
            version = with_options;
        }
        let length = u32::try_from(row.len()).expect("a message's settings have bounded lengths").to_be_bytes();
        seal_bytes(version, key, &[&length, &row, payload])
    }

    pub(super) fn unseal(key: &[u8], value: &[u8]) -> Result<StoredMessage, Damaged> {
        let (version, body) = unseal_any(key, value)?;
        let (expunged, has_options) = match version {
            VERSION => (false, false),
            EXPUNGED => (true, false),
            OPTIONS => (false, true),
            OPTIONS_EXPUNGED => (true, true),
            _ => return Err(Damaged),
        };
        let (length, rest) = body.split_first_chunk::<4>().ok_or(Damaged)?;
        let (row, head) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Damaged)?;
        let (mut row, options) = postcard::take_from_bytes::<MessageRow>(row).map_err(|_| Damaged)?;
        if has_options {
            row.options = postcard::from_bytes(options).map_err(|_| Damaged)?;
        }
        Ok(StoredMessage { row, head: Bytes::copy_from_slice(head), expunged })
    }

    /// The message has a delivery to one more endpoint.
    pub(super) fn route_to(&mut self, endpoint: EndpointId) {
        self.to.push(endpoint.to_bytes());
        self.nowhere = None;
    }

    pub(super) fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Its ordering key, as indexes have it.
    pub(super) fn key_hash(&self) -> Option<KeyHash> {
        self.options.ordering_key.as_deref().map(KeyHash::of)
    }

    pub(super) fn place(&self) -> (Timestamp, u64) {
        (Timestamp::from_millis(self.options.deliver_at.unwrap_or(self.accepted_at)), self.sequence)
    }

    /// The message as far as this row knows it, for filters.
    pub(super) fn without_payload(self, application: ApplicationId, id: MessageId) -> Message {
        self.into_message(application, id, Bytes::new())
    }

    fn into_message(self, application: ApplicationId, id: MessageId, payload: Bytes) -> Message {
        let routing = match self.nowhere.and_then(no_route) {
            Some(why) => Routing::Nowhere(why),
            None => Routing::To(self.to.into_iter().map(EndpointId::from_bytes).collect()),
        };
        Message {
            id,
            application,
            event_type: self.event_type,
            payload,
            json: self.json,
            event_id: self.event_id,
            channels: self.channels,
            occurred_at: Timestamp::from_millis(self.occurred_at),
            accepted_at: Timestamp::from_millis(self.accepted_at),
            test: self.test,
            routing,
            expunged: false,
            ordering_key: self.options.ordering_key,
            deliver_at: self.options.deliver_at.map(Timestamp::from_millis),
            expires_at: self.options.expires_at.map(Timestamp::from_millis),
            tags: self.options.tags,
        }
    }
}

/// A waiting delivery: what a claim needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WaitingRow {
    pub(super) message: [u8; 16],
    pub(super) progress: ProgressRow,
    /// The payload's length, for the counters.
    pub(super) bytes: u32,
    /// Its message's ordering key: encoded behind the rest, and only if there is one.
    #[serde(skip)]
    pub(super) ordered: Option<KeyHash>,
}

impl WaitingRow {
    /// Version 2 is version 1 with an ordering key behind it.
    const ORDERED: u8 = 2;

    pub(super) fn seal(&self, key: &[u8]) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("rows are plain data, which postcard encodes into memory");
        match self.ordered {
            None => seal_bytes(VERSION, key, &[&body]),
            Some(ordered) => seal_bytes(WaitingRow::ORDERED, key, &[&body, &ordered.to_bytes()]),
        }
    }

    pub(super) fn unseal(key: &[u8], value: &[u8]) -> Result<WaitingRow, Damaged> {
        let (version, body) = unseal_any(key, value)?;
        let (mut row, rest) = postcard::take_from_bytes::<WaitingRow>(body).map_err(|_| Damaged)?;
        row.ordered = match version {
            VERSION => None,
            WaitingRow::ORDERED => Some(KeyHash::from_bytes(rest.try_into().map_err(|_| Damaged)?)),
            _ => return Err(Damaged),
        };
        Ok(row)
    }
}

/// A held delivery: what its waiting row will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldRow {
    pub(super) due: u64,
    pub(super) progress: ProgressRow,
    pub(super) bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProgressRow {
    round: u32,
    tries: u32,
    attempts: u32,
    since: u64,
}

impl From<Progress> for ProgressRow {
    fn from(progress: Progress) -> Self {
        let Progress { round, tries, attempts, since } = progress;
        ProgressRow { round, tries, attempts, since: since.as_millis() }
    }
}

impl From<ProgressRow> for Progress {
    fn from(row: ProgressRow) -> Self {
        let ProgressRow { round, tries, attempts, since } = row;
        Progress { round, tries, attempts, since: Timestamp::from_millis(since) }
    }
}

/// A delivery that has been attempted or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeliveryRow {
    pub(super) state: StateRow,
    pub(super) progress: ProgressRow,
    pub(super) sequence: u64,
    pub(super) bytes: u32,
    /// Its attempts, oldest first: with the lane they make the attempts' keys.
    pub(super) attempts: Vec<[u8; 16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StateRow {
    Waiting { due: u64 },
    Delivered { at: u64 },
    Dead { at: u64, reason: u8 },
    Canceled { at: u64, reason: u8 },
}

impl StateRow {
    /// The row of a state; a leased delivery is a waiting one on disk, and so is one that is held.
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Waiting { due } => StateRow::Waiting { due: due.as_millis() },
            State::Leased { until } => StateRow::Waiting { due: until.as_millis() },
            // Nobody settles one so: it is due at once, which does the least harm.
            State::Held { .. } => StateRow::Waiting { due: 0 },
            State::Delivered { at } => StateRow::Delivered { at: at.as_millis() },
            State::Dead { at, reason } => StateRow::Dead { at: at.as_millis(), reason: code(&DEAD_REASONS, reason) },
            State::Canceled { at, reason } => {
                StateRow::Canceled { at: at.as_millis(), reason: code(&CANCEL_REASONS, reason) }
            }
        }
    }

    pub(super) fn state(self) -> Option<State> {
        let at = Timestamp::from_millis;
        Some(match self {
            StateRow::Waiting { due } => State::Waiting { due: at(due) },
            StateRow::Delivered { at: time } => State::Delivered { at: at(time) },
            StateRow::Dead { at: time, reason } => {
                State::Dead { at: at(time), reason: *DEAD_REASONS.get(usize::from(reason))? }
            }
            StateRow::Canceled { at: time, reason } => {
                State::Canceled { at: at(time), reason: *CANCEL_REASONS.get(usize::from(reason))? }
            }
        })
    }
}

/// What was sent under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdempotencyRow {
    pub(super) digest: [u8; 32],
    pub(super) message: [u8; 16],
    pub(super) expires_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordRow {
    pub(super) version: u64,
    pub(super) active: bool,
    pub(super) value: Bytes,
}

impl RecordRow {
    pub(super) fn into_record(self, key: crate::store::RecordKey) -> Record {
        Record { key, version: self.version, active: self.active, value: self.value }
    }
}

// The codes of the rows' small enumerations: a value's place in its list. New ones go to the end; none is removed.
const DEAD_REASONS: [DeadReason; 10] = [
    DeadReason::Exhausted,
    DeadReason::Refused,
    DeadReason::Gone,
    DeadReason::TooOld,
    DeadReason::Blocked,
    DeadReason::Unsendable,
    DeadReason::Damaged,
    DeadReason::Expunged,
    DeadReason::Aborted,
    DeadReason::Expired,
];
const CANCEL_REASONS: [CancelReason; 4] =
    [CancelReason::EndpointDisabled, CancelReason::EndpointDeleted, CancelReason::Requested, CancelReason::Expunged];
const NO_ROUTES: [NoRoute; 4] =
    [NoRoute::NoEndpoints, NoRoute::AllDisabled, NoRoute::EventTypeNotWanted, NoRoute::ChannelsNotWanted];

fn code<T: PartialEq>(list: &[T], value: T) -> u8 {
    let place = list.iter().position(|known| *known == value).expect("every value stands in its list");
    u8::try_from(place).expect("the lists are short")
}

fn no_route_code(why: NoRoute) -> u8 {
    code(&NO_ROUTES, why)
}

fn no_route(code: u8) -> Option<NoRoute> {
    NO_ROUTES.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Response;
    use std::time::Duration;

    use crate::delivery::{Asked, Lane, Outcome, StateKind};
    use crate::id::AttemptId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flipped_bit_or_another_key_is_damage(body in proptest::collection::vec(any::<u8>(), 0..200),
                                                  bit in 0usize..1600) {
            let value = seal_raw(b"key", &body);
            prop_assert_eq!(unseal_raw(b"key", &value), Ok(&body[..]));
            prop_assert_eq!(unseal_raw(b"kez", &value), Err(Damaged));
            let mut flipped = value.clone();
            let bit = bit % (value.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(unseal_raw(b"key", &flipped), Err(Damaged));
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sealed = seal_raw(b"k", &bytes);
            for value in [&bytes, &sealed] {
                let _ = MessageRow::unseal(b"k", value);
                let _ = (WaitingRow::unseal(b"k", value), unseal::<HeldRow>(b"k", value));
                let _ = unseal::<DeliveryRow>(b"k", value);
                let _ = AttemptRow::unseal(b"k", value);
                let _ = unseal::<IdempotencyRow>(b"k", value);
                let _ = unseal::<RecordRow>(b"k", value);
                let _ = Counters::unseal(b"k", value);
            }
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// As they stand in the folders of earlier programs. These texts never change.
    #[test]
    fn rows_of_the_first_version_are_read() {
        let (application, id) = (ApplicationId::from_bytes([1; 16]), MessageId::from_bytes([2; 16]));
        let value = bytes(
            "019101f5ad0000003e0a63616c6c2e656e6465640101056576656e740102657580a0f1c2b13481a0f1c2b134000103030303\
             030303030303030303030303000701036b657909077b2261223a317d",
        );
        let stored = MessageRow::unseal(b"key", &value).unwrap();
        assert_eq!((&stored.head[..], stored.expunged, stored.length()), (&br#"{"a":1}"#[..], false, 7));
        assert_eq!(
            (stored.row.place(), &stored.row.idempotency),
            ((Timestamp::from_millis(1_800_000_000_001), 7), &Some(("key".to_owned(), 9)))
        );
        assert_eq!(stored.row.seal(b"key", &stored.head), value, "what is not expunged is written as ever");
        let head = stored.head.clone();
        let message = stored.into_message(application, id, head);
        assert_eq!((message.event_type.as_str(), message.event_id.as_deref()), ("call.ended", Some("event")));
        assert_eq!(message.routing, Routing::To(vec![EndpointId::from_bytes([3; 16])]));
        assert!(message.json && !message.expunged && message.channels == ["eu"]);

        let value = bytes(
            "01f71fd11202020202020202020202020202020202010100848890a0c080011e68747470733a2f2f72656365697665722e65\
             78616d706c652f686f6f6b73010c636f6e74656e742d74797065106170706c69636174696f6e2f6a736f6e00f4030001f403\
             0103782d610162046f6f70730100dc0b00",
        );
        let stored = AttemptRow::unseal(b"key", &value).unwrap();
        assert_eq!(stored.row.seal(b"key"), value);
        let lane = Lane { application, endpoint: EndpointId::from_bytes([3; 16]) };
        let attempt = stored.into_attempt(lane, AttemptId::from_bytes([4; 16])).unwrap();
        let headers = vec![("x-a".to_owned(), "b".to_owned())];
        let response = Response { status: 500, headers, body: "oops".into(), truncated: true, expunged: false };
        assert_eq!((attempt.response, attempt.delivery.message), (Some(response), id));

        let value = bytes("0115a619c601020304f403d80407");
        let expected =
            Counters { commit: 1, epoch: 2, sequence: 3, open: 4, open_bytes: 500, kept_bytes: 600, latest: 7 };
        assert_eq!(Counters::unseal(b"key", &value), Ok((expected, false)));
        assert_eq!(Counters::unseal(b"key", &expected.seal(b"key")), Ok((expected, true)));
    }

    #[test]
    fn what_has_no_options_is_written_as_before_and_options_read_back() {
        let (application, id) = (ApplicationId::from_bytes([1; 16]), MessageId::from_bytes([2; 16]));
        let routing = Routing::To(vec![EndpointId::from_bytes([3; 16])]);
        let at = Timestamp::from_millis;
        let plain = crate::testing::message(application, id, at(1_000), "{}", routing);
        assert_eq!(MessageRow::of(&plain, 7, None).seal(b"key", b"{}")[0], VERSION);
        assert_eq!(MessageRow::of(&plain, 7, None).seal_expunged(b"key")[0], EXPUNGED);
        let message = Message {
            ordering_key: Some("agent".into()),
            deliver_at: Some(at(5_000)),
            expires_at: Some(at(9_000)),
            tags: vec!["user:1".into()],
            ..plain
        };
        let row = MessageRow::of(&message, 7, None);
        assert_eq!(row.place(), (at(5_000), 7));
        for (value, payload, expunged) in
            [(row.seal(b"key", b"{}"), "{}", false), (row.seal_expunged(b"key"), "", true)]
        {
            let stored = MessageRow::unseal(b"key", &value).unwrap();
            assert_eq!(stored.head, payload);
            let head = stored.head.clone();
            let expected = Message { payload: payload.into(), expunged, ..message.clone() };
            assert_eq!(stored.into_message(application, id, head), expected);
        }
    }

    #[test]
    fn what_a_receiver_asked_for_reads_back() {
        let lane = Lane { application: ApplicationId::from_bytes([1; 16]), endpoint: EndpointId::from_bytes([3; 16]) };
        let delivery = crate::delivery::DeliveryId { lane, message: MessageId::from_bytes([2; 16]) };
        let started = Timestamp::from_millis(1_000);
        for asked in [None, Some(Asked::AbortMessage), Some(Asked::Disable)] {
            let outcome = Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(7)), asked };
            let id = AttemptId::from_parts(started, 1);
            let progress = Progress::new(started).tried();
            let attempt = crate::testing::attempt(id, delivery, progress, outcome, StateKind::Dead);
            let stored = AttemptRow::unseal(b"key", &AttemptRow::of(&attempt).seal(b"key")).unwrap();
            assert_eq!(stored.into_attempt(lane, id).unwrap().outcome, outcome);
        }
    }

    #[test]
    fn a_row_of_an_unknown_version_is_damage() {
        let mut value = seal_bytes(5, b"key", &[b"body"]);
        assert_eq!(unseal_raw(b"key", &value), Err(Damaged));
        assert!(MessageRow::unseal(b"key", &value).is_err() && AttemptRow::unseal(b"key", &value).is_err());
        value = seal_bytes(EXPUNGED, b"key", &[&[]]);
        assert_eq!(unseal_raw(b"key", &value), Err(Damaged), "only messages and attempts can be expunged");
    }
}
