//! What holds for a stored record's bytes, whatever they are: it is read whole or not at all, and written back as it was read.

use std::fmt::Debug;

use bytes::Bytes;

use crate::id::{ApplicationId, EndpointId};
use crate::testing::chosen;

use super::config::KeySource;
use super::sealing::Seals;
use super::{Config, records};
use crate::keyring::Keyring;

fn reads_back<T: PartialEq + Debug>(value: Option<T>, write: impl Fn(&T) -> Bytes, read: impl Fn(&[u8]) -> Option<T>) {
    if let Some(value) = value {
        assert_eq!(read(&write(&value)), Some(value));
    }
}

fn sealing() -> Seals {
    let keys = Keyring::new(1, [7; 32]).expect("an id from 1 on");
    let config = Config { keys: KeySource::Given(keys), ..Config::default() };
    Seals::given(&config).expect("keys that are given are there")
}

/// The first byte chooses the kind of record.
pub fn record(bytes: &[u8]) {
    let (kind, value) = chosen(bytes);
    let (application, endpoint) = (ApplicationId::from_bytes([1; 16]), EndpointId::from_bytes([2; 16]));
    match kind % 5 {
        0 => {
            let read = |value: &[u8]| records::application_from(application, value);
            reads_back(read(value), records::application_to, read);
        }
        1 => {
            let seals = sealing();
            let read = |value: &[u8]| records::endpoint_from(application, endpoint, value, &seals);
            if let Some(found) = read(value) {
                let shown = serde_json::to_string(&found).expect("an endpoint can be shown");
                for key in found.keys.iter().map(|key| key.secret.expose()).filter(|key| key.len() > 40) {
                    assert!(
                        value.windows(key.len()).filter(|window| *window == key.as_bytes()).count() != 1
                            || !shown.contains(key)
                    );
                }
                reads_back(Some(found), |endpoint| records::endpoint_to(endpoint, &seals), read);
            }
        }
        2 => {
            let Some(stored) = records::event_type_from(value) else { return };
            let length = stored.schemas_bytes;
            let found = stored.into_event_type("a.b".to_owned(), None);
            let again = records::event_type_from(&records::event_type_to(&found, length)).expect("what was written");
            assert_eq!((again.schemas_bytes, again.into_event_type("a.b".to_owned(), None)), (length, found));
        }
        3 => reads_back(records::token_from(value), records::token_to, records::token_from),
        _ => {
            let Some(stored) = records::receipt_from(value) else { return };
            let written = records::receipt_to(&stored);
            let again = records::receipt_from(&written).expect("what was written");
            assert_eq!(records::receipt_to(&again), written);
        }
    }
}
