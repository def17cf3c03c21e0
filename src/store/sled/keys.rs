//! The keys of the one tree.
//!
//! A key is an application, a tag and the rest, so that all that belongs to an application is one range.
//! Numbers and times are big-endian and sort as they count.
//!
//! ```text
//! M message                     the message, with a payload of up to 32 KiB
//! P message number              a further part of a larger payload
//! W endpoint due sequence       a delivery that waits (the only rows a claim reads)
//! K endpoint key-hash rank sequence message   who goes first of an ordering key (rank 0), and who is held (1)
//! D endpoint message            a delivery that has been attempted or has ended
//! X endpoint message            a dead letter: the index that replays walk
//! A endpoint attempt            an attempt
//! E event id                    the message with this event id
//! I idempotency key             what was sent under it
//! R kind key                    a record
//! O                             the payload bytes of the application's deliveries that have not ended
//! C                             (application 0) the counters of the last commit
//! Q key                         (application 0) a damaged row, set aside
//! ```
//!
//! A delivery that was never attempted has a `W` row and no `D` row: sending writes two rows and the common
//! settlement three. One that is held has a `K` row in place of the `W` row. Its due time and sequence, and so its `W` key, stand in the message's row.

use crate::delivery::{DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::ordering::KeyHash;
use crate::store::{RecordKey, RecordKind};
use crate::time::Timestamp;

pub(super) type Key = Vec<u8>;

const MESSAGE: u8 = b'M';
const PART: u8 = b'P';
const WAITING: u8 = b'W';
const ORDER: u8 = b'K';
const DELIVERY: u8 = b'D';
const DEAD: u8 = b'X';
const ATTEMPT: u8 = b'A';
const EVENT_ID: u8 = b'E';
const IDEMPOTENCY: u8 = b'I';
const RECORD: u8 = b'R';
const OPEN_BYTES: u8 = b'O';
const COMMIT: u8 = b'C';
const SET_ASIDE: u8 = b'Q';

/// The tags of the rows whose bytes count towards the cap on what is kept.
pub(super) const COUNTED_AS_KEPT: [u8; 3] = [MESSAGE, PART, ATTEMPT];

fn key(application: ApplicationId, tag: u8, parts: &[&[u8]]) -> Key {
    let length = 17 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(length);
    key.extend_from_slice(&application.to_bytes());
    key.push(tag);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn message(application: ApplicationId, id: MessageId) -> Key {
    key(application, MESSAGE, &[&id.to_bytes()])
}

pub(super) fn messages(application: ApplicationId) -> Key {
    key(application, MESSAGE, &[])
}

pub(super) fn part(application: ApplicationId, id: MessageId, number: u16) -> Key {
    key(application, PART, &[&id.to_bytes(), &number.to_be_bytes()])
}

/// What the keys of all parts of a payload start with.
pub(super) fn parts(application: ApplicationId, id: MessageId) -> Key {
    key(application, PART, &[&id.to_bytes()])
}

/// The key of a waiting delivery, beside its lane.
pub(super) type Place = (Timestamp, u64);

pub(super) fn waiting(lane: Lane, (due, sequence): Place) -> Key {
    let due = due.as_millis().to_be_bytes();
    key(lane.application, WAITING, &[&lane.endpoint.to_bytes(), &due, &sequence.to_be_bytes()])
}

pub(super) fn lane(lane: Lane) -> Key {
    key(lane.application, WAITING, &[&lane.endpoint.to_bytes()])
}

pub(super) fn lanes(application: ApplicationId) -> Key {
    key(application, WAITING, &[])
}

/// The lane and the place of a `W` key.
pub(super) fn read_waiting(key: &[u8]) -> Option<(Lane, Place)> {
    if key.len() != 49 || key[16] != WAITING {
        return None;
    }
    let lane = Lane { application: read_application(key)?, endpoint: EndpointId::from_bytes(array(&key[17..33])?) };
    let due = Timestamp::from_millis(u64::from_be_bytes(array(&key[33..41])?));
    Some((lane, (due, u64::from_be_bytes(array(&key[41..49])?))))
}

/// What a `K` row says of its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    First,
    Held,
}

impl Rank {
    fn byte(self) -> u8 {
        match self {
            Rank::First => 0,
            Rank::Held => 1,
        }
    }
}

/// What a `K` key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) lane: Lane,
    pub(super) key: KeyHash,
    pub(super) rank: Rank,
    pub(super) sequence: u64,
    pub(super) message: MessageId,
}

pub(super) fn order(id: DeliveryId, of: KeyHash, rank: Rank, sequence: u64) -> Key {
    let mut row = ordered(id.lane, of, rank);
    row.extend_from_slice(&sequence.to_be_bytes());
    row.extend_from_slice(&id.message.to_bytes());
    row
}

/// What the `K` keys of an ordering key and a rank start with.
pub(super) fn ordered(lane: Lane, of: KeyHash, rank: Rank) -> Key {
    key(lane.application, ORDER, &[&lane.endpoint.to_bytes(), &of.to_bytes(), &[rank.byte()]])
}

pub(super) fn orders(of: Lane) -> Key {
    key(of.application, ORDER, &[&of.endpoint.to_bytes()])
}

pub(super) fn all_orders(application: ApplicationId) -> Key {
    key(application, ORDER, &[])
}

pub(super) fn read_order(key: &[u8]) -> Option<Order> {
    if key.len() != 74 || key[16] != ORDER {
        return None;
    }
    let lane = Lane { application: read_application(key)?, endpoint: EndpointId::from_bytes(array(&key[17..33])?) };
    let rank = match key[49] {
        0 => Rank::First,
        1 => Rank::Held,
        _ => return None,
    };
    Some(Order {
        lane,
        key: KeyHash::from_bytes(array(&key[33..49])?),
        rank,
        sequence: u64::from_be_bytes(array(&key[50..58])?),
        message: MessageId::from_bytes(array(&key[58..74])?),
    })
}

pub(super) fn delivery(id: DeliveryId) -> Key {
    key(id.lane.application, DELIVERY, &[&id.lane.endpoint.to_bytes(), &id.message.to_bytes()])
}

pub(super) fn deliveries(of: Lane) -> Key {
    key(of.application, DELIVERY, &[&of.endpoint.to_bytes()])
}

pub(super) fn all_deliveries(application: ApplicationId) -> Key {
    key(application, DELIVERY, &[])
}

/// The delivery of a `D` key.
pub(super) fn read_delivery(key: &[u8]) -> Option<DeliveryId> {
    if key.len() != 49 || key[16] != DELIVERY {
        return None;
    }
    let lane = Lane { application: read_application(key)?, endpoint: EndpointId::from_bytes(array(&key[17..33])?) };
    Some(DeliveryId { lane, message: MessageId::from_bytes(array(&key[33..49])?) })
}

pub(super) fn dead(id: DeliveryId) -> Key {
    key(id.lane.application, DEAD, &[&id.lane.endpoint.to_bytes(), &id.message.to_bytes()])
}

pub(super) fn dead_of(application: ApplicationId, endpoint: Option<EndpointId>) -> Key {
    match endpoint {
        Some(endpoint) => key(application, DEAD, &[&endpoint.to_bytes()]),
        None => key(application, DEAD, &[]),
    }
}

/// The endpoint and the message of an `X` key.
pub(super) fn read_dead(key: &[u8]) -> Option<(EndpointId, MessageId)> {
    if key.len() != 49 {
        return None;
    }
    Some((EndpointId::from_bytes(array(&key[17..33])?), MessageId::from_bytes(array(&key[33..49])?)))
}

pub(super) fn attempt(lane: Lane, id: AttemptId) -> Key {
    key(lane.application, ATTEMPT, &[&lane.endpoint.to_bytes(), &id.to_bytes()])
}

pub(super) fn attempts(lane: Lane) -> Key {
    key(lane.application, ATTEMPT, &[&lane.endpoint.to_bytes()])
}

pub(super) fn all_attempts(application: ApplicationId) -> Key {
    key(application, ATTEMPT, &[])
}

/// The endpoint and the attempt of an `A` key.
pub(super) fn read_attempt(key: &[u8]) -> Option<(EndpointId, AttemptId)> {
    if key.len() != 49 {
        return None;
    }
    Some((EndpointId::from_bytes(array(&key[17..33])?), AttemptId::from_bytes(array(&key[33..49])?)))
}

/// The message of an `M` key.
pub(super) fn read_message(key: &[u8]) -> Option<MessageId> {
    if key.len() != 33 {
        return None;
    }
    Some(MessageId::from_bytes(array(&key[17..33])?))
}

pub(super) fn event_id(application: ApplicationId, id: &str) -> Key {
    key(application, EVENT_ID, &[id.as_bytes()])
}

pub(super) fn idempotency(application: ApplicationId, name: &str) -> Key {
    key(application, IDEMPOTENCY, &[name.as_bytes()])
}

pub(super) fn record(name: &RecordKey) -> Key {
    key(name.application.unwrap_or(ApplicationId::NONE), RECORD, &[&[kind(name.kind)], &name.key])
}

pub(super) fn records(of: RecordKind, application: Option<ApplicationId>) -> Key {
    key(application.unwrap_or(ApplicationId::NONE), RECORD, &[&[kind(of)]])
}

/// A kind's byte in a key: never reused for another kind.
fn kind(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Application => 1,
        RecordKind::ApplicationUid => 2,
        RecordKind::Endpoint => 3,
        RecordKind::EndpointUid => 4,
        RecordKind::EndpointList => 5,
        RecordKind::ReplayJob => 6,
        RecordKind::EventType => 7,
        RecordKind::EventTypeSchemas => 8,
        RecordKind::Token => 9,
        RecordKind::Receipt => 10,
        RecordKind::ReceiptAnswer => 11,
        RecordKind::EraseJob => 40,
        RecordKind::EndpointStanding => 20,
        RecordKind::OperationalEvent => 21,
    }
}

/// The name of a record, after the kind's byte.
pub(super) fn read_record(key: &[u8]) -> &[u8] {
    key.get(18..).unwrap_or_default()
}

/// The endpoint whose record has this key.
pub(super) fn read_endpoint(key: &[u8]) -> Option<EndpointId> {
    if key.get(16) != Some(&RECORD) || key.get(17) != Some(&kind(RecordKind::Endpoint)) {
        return None;
    }
    Some(EndpointId::from_bytes(array(read_record(key))?))
}

pub(super) fn open_bytes(application: ApplicationId) -> Key {
    key(application, OPEN_BYTES, &[])
}

pub(super) fn commit() -> Key {
    key(ApplicationId::NONE, COMMIT, &[])
}

pub(super) fn set_aside(of: &[u8]) -> Key {
    key(ApplicationId::NONE, SET_ASIDE, &[of])
}

pub(super) fn all_set_aside() -> Key {
    key(ApplicationId::NONE, SET_ASIDE, &[])
}

pub(super) fn read_application(key: &[u8]) -> Option<ApplicationId> {
    Some(ApplicationId::from_bytes(array(key.get(..16)?)?))
}

/// What the keys of all that belongs to an application start with.
pub(super) fn all_of(application: ApplicationId) -> Key {
    application.to_bytes().to_vec()
}

/// The first key after all of an application's.
pub(super) fn after_application(application: ApplicationId) -> Key {
    key(application, 0xff, &[])
}

/// The first key after all that start with `prefix`.
pub(super) fn after_prefix(mut prefix: Key) -> Key {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waiting_keys_sort_by_due_time_and_sequence_and_read_back(a: (u64, u64), b: (u64, u64)) {
            let of = Lane {
                application: ApplicationId::from_bytes([7; 16]),
                endpoint: EndpointId::from_bytes([9; 16]),
            };
            let place = |(millis, sequence)| (Timestamp::from_millis(millis), sequence);
            let (a, b) = (place(a), place(b));
            prop_assert_eq!(waiting(of, a).cmp(&waiting(of, b)), a.cmp(&b));
            prop_assert_eq!(read_waiting(&waiting(of, a)), Some((of, a)));
        }

        #[test]
        fn order_keys_sort_by_rank_and_sequence_and_read_back(a: (bool, u64, u128), b: (bool, u64, u128)) {
            let lane = Lane {
                application: ApplicationId::from_bytes([7; 16]),
                endpoint: EndpointId::from_bytes([9; 16]),
            };
            let key = KeyHash::of("k");
            let row = |(held, sequence, message): (bool, u64, u128)| {
                let rank = if held { Rank::Held } else { Rank::First };
                let message = MessageId::from_bytes(message.to_be_bytes());
                let row = order(DeliveryId { lane, message }, key, rank, sequence);
                assert_eq!(read_order(&row), Some(Order { lane, key, rank, sequence, message }));
                assert!(row.starts_with(&ordered(lane, key, rank)) && row.starts_with(&orders(lane)));
                row
            };
            prop_assert_eq!(row(a).cmp(&row(b)), a.cmp(&b));
        }

        #[test]
        fn the_key_after_a_prefix_is_above_all_that_start_with_it(prefix in proptest::collection::vec(any::<u8>(), 1..20),
                                                                  rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut full = prefix.clone();
            full.extend(rest);
            let after = after_prefix(prefix);
            prop_assert!(after.is_empty() || after > full);
        }
    }
}
