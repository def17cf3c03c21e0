//! What holds for the rows and keys of the store, whatever their bytes are: damage is seen, and what is read is what was written.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::delivery::{DeliveryId, Lane};
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::ordering::KeyHash;
use crate::testing::chosen;

use super::keys;
use super::rows::{
    self, AttemptRow, Counters, DeliveryRow, HeldRow, IdempotencyRow, MessageRow, RecordRow, WaitingRow,
};

const KEY: &[u8] = b"a key";

fn reads_back<R: Serialize + DeserializeOwned + PartialEq + Debug>(value: &[u8]) -> Option<R> {
    let row: R = rows::unseal(KEY, value).ok()?;
    assert_eq!(rows::unseal::<R>(KEY, &rows::seal(KEY, &row)).as_ref(), Ok(&row));
    assert!(rows::unseal::<R>(b"another key", value).is_err(), "a row of another key");
    Some(row)
}

/// The first byte chooses the row; the rest is its body, under a checksum that fits.
pub fn row(bytes: &[u8]) {
    let (kind, body) = chosen(bytes);
    damage_is_seen(kind, body);
    keys_read_back(body);
    let value = rows::seal_raw(KEY, body);
    let (lane, message) = (
        Lane { application: ApplicationId::from_bytes([1; 16]), endpoint: EndpointId::from_bytes([2; 16]) },
        MessageId::from_bytes([3; 16]),
    );
    match kind % 7 {
        0 => {
            let Ok(stored) = MessageRow::unseal(KEY, &value) else { return };
            let (head, _) = (stored.head.clone(), (stored.length(), stored.parts()));
            let again = MessageRow::unseal(KEY, &stored.row.seal(KEY, &head)).expect("what was written");
            assert_eq!((&again.row, again.expunged), (&stored.row, stored.expunged));
            assert!(head.starts_with(&again.head));
            let read = stored.into_message(lane.application, message, head);
            serde_json::to_string(&read).expect("a message can be shown");
        }
        1 => {
            let Ok(stored) = AttemptRow::unseal(KEY, &value) else { return };
            let sealed = stored.row.seal(KEY);
            let id = AttemptId::from_bytes([4; 16]);
            let Some(attempt) = stored.into_attempt(lane, id) else { return };
            let again = AttemptRow::unseal(KEY, &sealed).expect("what was written").into_attempt(lane, id);
            assert_eq!(again.as_ref(), Some(&attempt));
            let row = AttemptRow::of(&attempt).seal(KEY);
            let through = AttemptRow::unseal(KEY, &row).expect("what was written").into_attempt(lane, id);
            assert_eq!(through, Some(attempt));
        }
        2 => drop(reads_back::<DeliveryRow>(&value).map(|row| row.state.state())),
        3 => {
            let _ = reads_back::<HeldRow>(&value);
            let Ok(row) = WaitingRow::unseal(KEY, &value) else { return };
            assert_eq!(WaitingRow::unseal(KEY, &row.seal(KEY)), Ok(row));
            let ordered = WaitingRow { ordered: Some(KeyHash::from_bytes([body.len() as u8; 16])), ..row };
            assert_eq!(WaitingRow::unseal(KEY, &ordered.seal(KEY)), Ok(ordered));
        }
        4 => drop(reads_back::<IdempotencyRow>(&value)),
        5 => drop(reads_back::<RecordRow>(&value)),
        _ => {
            let Ok((counters, _)) = Counters::unseal(KEY, &value) else { return };
            assert_eq!(Counters::unseal(KEY, &counters.seal(KEY)).map(|(read, _)| read), Ok(counters));
        }
    }
}

/// One bit that is turned over anywhere in a value, and it is damaged.
fn damage_is_seen(choice: usize, body: &[u8]) {
    let mut value = rows::seal_raw(KEY, body);
    assert_eq!(rows::unseal_raw(KEY, &value), Ok(body));
    let place = (choice * 31 + body.len() / 2) % value.len();
    value[place] ^= 1 << (choice % 8);
    assert!(rows::unseal_raw(KEY, &value).is_err(), "byte {place}");
    // And bytes that nobody sealed are read by chance alone: once in four billion.
    let _ = rows::unseal_raw(KEY, body);
}

fn keys_read_back(key: &[u8]) {
    if let Some((lane, place)) = keys::read_waiting(key) {
        let again = keys::waiting(lane, place);
        assert_eq!(keys::read_waiting(&again), Some((lane, place)));
    }
    if let Some(keys::Order { lane, key: of, rank, sequence, message }) = keys::read_order(key) {
        assert_eq!(keys::order(DeliveryId { lane, message }, of, rank, sequence), key);
    }
    if let Some(id) = keys::read_delivery(key) {
        assert_eq!(keys::delivery(id), key);
        let dead = keys::dead(id);
        assert_eq!(keys::read_dead(&dead), Some((id.lane.endpoint, id.message)));
        assert_eq!(keys::read_application(&dead), Some(id.lane.application));
        assert!(dead.starts_with(&keys::dead_of(id.lane.application, Some(id.lane.endpoint))));
    }
    let _ = (keys::read_dead(key), keys::read_attempt(key), keys::read_message(key), keys::read_application(key));
    let after = keys::after_prefix(key.to_vec());
    assert!(after.is_empty() || after.as_slice() > key, "{key:?}");
}
