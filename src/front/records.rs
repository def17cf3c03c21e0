//! The stored forms of applications, endpoints, event types, tokens, receipts and replay jobs: JSON, apart from the forms in memory.
//!
//! To change one: add a field with a default, or raise `v` and read both. Secrets stand as (key id, text), sealed under
//! that key (see `sealing.rs`); key id 0 is plain, as all were before there were keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::application::Application;
use crate::delivery::Lane;
use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus, SigningKey};
use crate::event_type::EventType;
use crate::header::CustomHeader;
use crate::id::{ApplicationId, EndpointId, JobId, TokenId};
use crate::retention::Retention;
use crate::store::{RecordKey, RecordKind};
use crate::time::Timestamp;

use super::sealing::{OwnedRole, Role, Seals, StoredSecret};
use super::tokens::Token;

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct StoredApplication {
    v: u32,
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    throttle_rate: Option<u32>,
    #[serde(default)]
    max_in_flight: Option<u32>,
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    retention: Retention,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct StoredEndpoint {
    v: u32,
    /// Without the headers: their values are secrets, which the settings' own form redacts.
    settings: EndpointSettings,
    headers: Vec<(String, StoredSecret)>,
    /// The names of the headers whose values may be shown. Before there was this list, none might.
    #[serde(default)]
    shown: Vec<String>,
    keys: Vec<(StoredSecret, Option<Timestamp>)>,
    status: EndpointStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// An event type beside its name, which is the record's key, and its schemas.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredEventType {
    v: u32,
    description: String,
    archived: bool,
    deprecated: bool,
    feature_flag: Option<String>,
    /// How long the schemas' text is, which stands in records of its own; 0 without schemas.
    pub(super) schemas_bytes: usize,
    #[serde(default)]
    retention: Retention,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl StoredEventType {
    pub(super) fn into_event_type(self, name: String, schemas: Option<serde_json::Value>) -> EventType {
        let StoredEventType {
            description, archived, deprecated, feature_flag, retention, created_at, updated_at, ..
        } = self;
        EventType { name, description, archived, deprecated, schemas, feature_flag, retention, created_at, updated_at }
    }
}

/// A token beside its hash, which is the record's key.
#[derive(Serialize, Deserialize)]
struct StoredToken {
    v: u32,
    id: TokenId,
    application: ApplicationId,
    name: Option<String>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// What became of an operation under its idempotency key.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredReceipt {
    pub(super) v: u32,
    /// Whose it is; the store's own have none.
    #[serde(default)]
    pub(super) application: Option<ApplicationId>,
    pub(super) digest: [u8; 32],
    pub(super) expires_at: Timestamp,
    pub(super) state: StoredReceiptState,
}

#[derive(Serialize, Deserialize)]
pub(super) enum StoredReceiptState {
    Begun,
    /// With an answer of this length, which stands in records of its own.
    Answered {
        bytes: usize,
    },
    NotKept,
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("records are plain data with texts as keys").into()
}

pub(super) fn application_to(application: &Application) -> Bytes {
    encode(&StoredApplication {
        v: VERSION,
        uid: application.uid.clone(),
        name: application.name.clone(),
        metadata: application.metadata.clone(),
        throttle_rate: application.throttle_rate,
        max_in_flight: application.max_in_flight,
        weight: application.weight,
        retention: application.retention,
        created_at: application.created_at,
        updated_at: application.updated_at,
    })
}

pub(super) fn application_from(id: ApplicationId, value: &[u8]) -> Option<Application> {
    let stored: StoredApplication = serde_json::from_slice(value).ok()?;
    let StoredApplication { uid, name, metadata, throttle_rate, max_in_flight, weight, retention, .. } = stored;
    let StoredApplication { created_at, updated_at, .. } = stored;
    Some(Application {
        id,
        uid,
        name,
        metadata,
        throttle_rate,
        max_in_flight,
        weight,
        retention,
        created_at,
        updated_at,
    })
}

pub(super) fn endpoint_to(endpoint: &Endpoint, seals: &Seals) -> Bytes {
    let lane = Lane { application: endpoint.application, endpoint: endpoint.id };
    let headers = &endpoint.settings.headers;
    let header =
        |header: &CustomHeader| (header.name.clone(), seals.seal(lane, Role::Header(&header.name), &header.value));
    let key = |key: &SigningKey| (seals.seal(lane, Role::SigningKey, &key.secret), key.expires_at);
    encode(&StoredEndpoint {
        v: VERSION,
        settings: EndpointSettings { headers: Vec::new(), ..endpoint.settings.clone() },
        headers: headers.iter().map(header).collect(),
        shown: headers.iter().filter(|header| !header.is_sensitive()).map(|header| header.name.clone()).collect(),
        keys: endpoint.keys.iter().map(key).collect(),
        status: endpoint.status.clone(),
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
    })
}

pub(super) fn endpoint_from(
    application: ApplicationId,
    id: EndpointId,
    value: &[u8],
    seals: &Seals,
) -> Option<Endpoint> {
    let lane = Lane { application, endpoint: id };
    let StoredEndpoint { settings, headers, shown, keys, status, created_at, updated_at, .. } =
        serde_json::from_slice(value).ok()?;
    let header = |(name, value): (String, StoredSecret)| {
        let value = seals.open(lane, Role::Header(&name), &value).ok()?;
        Some(if shown.contains(&name) { CustomHeader::plain(name, value) } else { CustomHeader::new(name, value) })
    };
    let key = |(secret, expires_at): (StoredSecret, Option<Timestamp>)| {
        Some(SigningKey { secret: seals.open(lane, Role::SigningKey, &secret).ok()?, expires_at })
    };
    Some(Endpoint {
        id,
        application,
        settings: EndpointSettings { headers: headers.into_iter().map(header).collect::<Option<_>>()?, ..settings },
        keys: keys.into_iter().map(key).collect::<Option<_>>()?,
        status,
        created_at,
        updated_at,
    })
}

/// The secrets in an endpoint's record; none of one that cannot be read.
pub(super) fn sealed_secrets(value: &[u8]) -> Vec<(OwnedRole, StoredSecret)> {
    let Ok(StoredEndpoint { headers, keys, .. }) = serde_json::from_slice(value) else { return Vec::new() };
    let headers = headers.into_iter().map(|(name, value)| (OwnedRole::Header(name), value));
    headers.chain(keys.into_iter().map(|(secret, _)| (OwnedRole::SigningKey, secret))).collect()
}

/// An endpoint's record with all secrets under the active key; `None` if there is nothing to do, or it does not open.
pub(super) fn sealed_anew(lane: Lane, value: &[u8], seals: &Seals) -> Option<Bytes> {
    let mut stored: StoredEndpoint = serde_json::from_slice(value).ok()?;
    let mut changed = false;
    let mut anew = |role: Role<'_>, secret: &mut StoredSecret| {
        if seals.is_stale(secret.key) {
            *secret = seals.seal(lane, role, &seals.open(lane, role, secret).ok()?);
            changed = true;
        }
        Some(())
    };
    stored.headers.iter_mut().try_for_each(|(name, value)| anew(Role::Header(name), value))?;
    stored.keys.iter_mut().try_for_each(|(secret, _)| anew(Role::SigningKey, secret))?;
    changed.then(|| encode(&stored))
}

pub(super) fn event_type_to(event_type: &EventType, schemas_bytes: usize) -> Bytes {
    encode(&StoredEventType {
        v: VERSION,
        description: event_type.description.clone(),
        archived: event_type.archived,
        deprecated: event_type.deprecated,
        feature_flag: event_type.feature_flag.clone(),
        schemas_bytes,
        retention: event_type.retention,
        created_at: event_type.created_at,
        updated_at: event_type.updated_at,
    })
}

pub(super) fn event_type_from(value: &[u8]) -> Option<StoredEventType> {
    serde_json::from_slice(value).ok()
}

pub(super) fn token_to(token: &Token) -> Bytes {
    encode(&StoredToken {
        v: VERSION,
        id: token.id,
        application: token.application,
        name: token.name.clone(),
        created_at: token.created_at,
        expires_at: token.expires_at,
    })
}

pub(super) fn token_from(value: &[u8]) -> Option<Token> {
    let StoredToken { id, application, name, created_at, expires_at, .. } = serde_json::from_slice(value).ok()?;
    Some(Token { id, application, name, created_at, expires_at })
}

pub(super) fn receipt_to(receipt: &StoredReceipt) -> Bytes {
    encode(receipt)
}

pub(super) fn receipt_from(value: &[u8]) -> Option<StoredReceipt> {
    serde_json::from_slice(value).ok()
}

pub(super) fn application_key(id: ApplicationId) -> RecordKey {
    RecordKey { kind: RecordKind::Application, application: None, key: id.to_bytes().to_vec() }
}

pub(super) fn application_uid_key(uid: &str) -> RecordKey {
    RecordKey { kind: RecordKind::ApplicationUid, application: None, key: uid.as_bytes().to_vec() }
}

pub(super) fn endpoint_key(application: ApplicationId, id: EndpointId) -> RecordKey {
    RecordKey { kind: RecordKind::Endpoint, application: Some(application), key: id.to_bytes().to_vec() }
}

pub(super) fn endpoint_uid_key(application: ApplicationId, uid: &str) -> RecordKey {
    RecordKey { kind: RecordKind::EndpointUid, application: Some(application), key: uid.as_bytes().to_vec() }
}

/// Moves whenever an endpoint of the application changes: what a send was routed over.
pub(super) fn endpoint_list_key(application: ApplicationId) -> RecordKey {
    RecordKey { kind: RecordKind::EndpointList, application: Some(application), key: Vec::new() }
}

/// Of the whole store, so that one list has all of them.
pub(super) fn standing_key(lane: Lane) -> RecordKey {
    let key = [lane.application.to_bytes(), lane.endpoint.to_bytes()].concat();
    RecordKey { kind: RecordKind::EndpointStanding, application: None, key }
}

pub(super) fn operational_event_key(id: [u8; 16]) -> RecordKey {
    RecordKey { kind: RecordKind::OperationalEvent, application: None, key: id.to_vec() }
}

pub(super) fn job_key(id: JobId) -> RecordKey {
    RecordKey { kind: RecordKind::ReplayJob, application: None, key: id.to_bytes().to_vec() }
}

pub(super) fn event_type_key(name: &str) -> RecordKey {
    RecordKey { kind: RecordKind::EventType, application: None, key: name.as_bytes().to_vec() }
}

/// Whose the parts of an event type's schemas are: one version's of its record.
pub(super) fn schemas_owner(event_type: &RecordKey, version: u64) -> Vec<u8> {
    let name: [u8; 32] = Sha256::digest(&event_type.key).into();
    [&name[..], &version.to_be_bytes()].concat()
}

pub(super) fn token_key(hash: [u8; 32]) -> RecordKey {
    RecordKey { kind: RecordKind::Token, application: None, key: hash.to_vec() }
}

pub(super) fn receipt_key(hash: &[u8; 32]) -> RecordKey {
    RecordKey { kind: RecordKind::Receipt, application: None, key: hash.to_vec() }
}
