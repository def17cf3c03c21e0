//! Values that are too large for one record: they are parted over several, beside the record that says how long they are.
//!
//! Invariant: all parts of a value are made in one write, and removed in one; none is ever changed.

use crate::error::Error;
use crate::store::{Put, RecordKey, RecordKind, Store};

/// How many bytes a part has, as a payload's have: larger ones would leave the store's log.
const PART: usize = 32 * 1024;

fn keys(kind: RecordKind, owner: &[u8], length: usize) -> impl Iterator<Item = RecordKey> {
    let parts = u16::try_from(length.div_ceil(PART)).expect("what is parted is of bounded size");
    (0..parts).map(move |part| RecordKey { kind, application: None, key: [owner, &part.to_be_bytes()].concat() })
}

/// The changes that store a value.
pub(super) fn write(kind: RecordKind, owner: &[u8], value: &[u8]) -> Vec<Put> {
    let parts = keys(kind, owner, value.len()).zip(value.chunks(PART));
    parts.map(|(key, part)| Put { key, expected: 0, active: true, value: Some(part.to_vec().into()) }).collect()
}

/// The changes that remove a value of this length.
pub(super) fn remove(kind: RecordKind, owner: &[u8], length: usize) -> Vec<Put> {
    keys(kind, owner, length).map(|key| Put { key, expected: 1, active: true, value: None }).collect()
}

/// A value of this length; `None` if a part is missing.
pub(super) async fn read(
    store: &dyn Store,
    kind: RecordKind,
    owner: &[u8],
    length: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let mut value = Vec::with_capacity(length);
    for key in keys(kind, owner, length) {
        let Some(part) = store.get(key).await? else { return Ok(None) };
        value.extend_from_slice(&part.value);
    }
    Ok((value.len() == length).then_some(value))
}
