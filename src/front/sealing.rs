//! Secrets in records: sealed where there is a key, opened, and sealed anew after the keys were turned over.
//!
//! Invariants: a secret is sealed for its endpoint and its role, and opens nowhere else; no sender opens while a secret that
//! is stored does not open; a key is never made where something is sealed already. A sealed endpoint is written under one
//! key, so a record that is under the active key needs no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::delivery::Lane;
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId};
use crate::key_file::KeyFile;
use crate::keyring::{Keyring, NotOpened, Sealed};
use crate::random::nonce;
use crate::secret::Secret;
use crate::store::{MAX_PAGE, Put, Record, RecordKey, RecordKind, Store};

use super::config::KeySource;
use super::{Config, Ringback, records};

/// How many endpoints one write seals anew.
const BITE: usize = 50;
/// The key id of a secret that is not sealed.
pub(super) const PLAIN: u32 = 0;

/// A secret in a record.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredSecret {
    /// The key that it is sealed under; 0: it is not sealed.
    pub(super) key: u32,
    text: String,
}

/// What a secret is to its endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'r> {
    SigningKey,
    Header(&'r str),
}

/// How an endpoint's secrets stand under keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUse {
    /// The key that seals; `None` where secrets are stored as they are.
    pub active: Option<u32>,
    /// How many endpoints have secrets under which key; 0 is none: they are stored as they are.
    pub endpoints: BTreeMap<u32, u64>,
}

impl KeyUse {
    /// How many endpoints are still to be sealed under the active key.
    pub fn left(&self) -> u64 {
        let others = self.endpoints.iter().filter(|(key, _)| self.active.is_some_and(|active| active != **key));
        others.map(|(_, count)| count).sum()
    }
}

/// The keys of a sender, and which records are to be sealed anew.
#[derive(Debug)]
pub(super) struct Seals {
    keys: Option<Keyring>,
    /// Where the keys came from, for people.
    source: String,
    stale: Mutex<BTreeSet<RecordKey>>,
}

const UNPOISONED: &str = "no code panics while it holds what is to be sealed anew";

impl Seals {
    /// Whether the keys of the folder, or of the file that is named, can be read, if they are there.
    #[cfg(feature = "sled")]
    pub(super) fn check_file(config: &Config) -> Result<(), Error> {
        match &config.keys {
            KeySource::Folder => KeyFile::at(config.path.join(KeyFile::NAME)).read().map(drop).map_err(unusable),
            KeySource::File(path) => named(&KeyFile::at(path)).map(drop),
            KeySource::Given(_) => Ok(()),
        }
    }

    /// The keys for a store of the caller's own. Without a folder there is no file of keys in it.
    pub(super) fn given(config: &Config) -> Result<Seals, Error> {
        let (keys, source) = match &config.keys {
            KeySource::Folder => (None, "Config::keys".to_owned()),
            KeySource::File(path) => {
                let file = KeyFile::at(path);
                let keys = named(&file)?;
                file.warn_of_readers();
                (Some(keys), path.display().to_string())
            }
            KeySource::Given(keys) => (Some(keys.clone()), "the keys that were given".to_owned()),
        };
        Ok(Seals { keys, source, stale: Mutex::default() })
    }

    /// The keys for the store in a folder. The folder's file is made if nothing is sealed yet.
    #[cfg(feature = "sled")]
    pub(super) async fn of_folder(config: &Config, store: &dyn Store) -> Result<Seals, Error> {
        let KeySource::Folder = &config.keys else { return Seals::given(config) };
        let file = KeyFile::at(config.path.join(KeyFile::NAME));
        let shown = file.path().display().to_string();
        let keys = match file.read().map_err(unusable)? {
            Some(keys) => {
                file.warn_of_readers();
                keys
            }
            None => {
                let sealed: BTreeMap<u32, u64> =
                    counts(store).await?.into_iter().filter(|(key, _)| *key != PLAIN).collect();
                if !sealed.is_empty() {
                    return Err(missing(&sealed, &format!("{shown} is not there")));
                }
                let (keys, made) = file.read_or_make().map_err(unusable)?;
                if made {
                    tracing::warn!(
                        "{shown} was made: it holds the key that secrets are sealed under. Back it up apart from the folder: \
                         without it they cannot be opened"
                    );
                }
                keys
            }
        };
        Ok(Seals { keys: Some(keys), source: shown, stale: Mutex::default() })
    }

    pub(super) fn seal(&self, of: Lane, role: Role<'_>, secret: &Secret) -> StoredSecret {
        match &self.keys {
            Some(keys) => {
                let Sealed { key, text } = keys.seal(nonce(), &context(of, role), secret);
                StoredSecret { key, text }
            }
            None => StoredSecret { key: PLAIN, text: secret.expose().to_owned() },
        }
    }

    pub(super) fn open(&self, of: Lane, role: Role<'_>, stored: &StoredSecret) -> Result<Secret, NotOpened> {
        let StoredSecret { key, text } = stored;
        match &self.keys {
            _ if *key == PLAIN => Ok(Secret::from(text.as_str())),
            Some(keys) => keys.open(&Sealed { key: *key, text: text.clone() }, &context(of, role)),
            None => Err(NotOpened::NoKey(*key)),
        }
    }

    /// Whether a secret under this key is to be sealed anew.
    pub(super) fn is_stale(&self, key: u32) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.active() != key)
    }

    fn next_stale(&self) -> Vec<RecordKey> {
        self.stale.lock().expect(UNPOISONED).iter().take(BITE).cloned().collect()
    }

    fn done(&self, keys: &[RecordKey]) {
        let mut stale = self.stale.lock().expect(UNPOISONED);
        stale.retain(|key| !keys.contains(key));
    }
}

/// What a sealed secret is bound to: its record and its role in it. The ids have a fixed length, the role ends it.
fn context(of: Lane, role: Role<'_>) -> Vec<u8> {
    let role = match role {
        Role::SigningKey => "signing key".to_owned(),
        Role::Header(name) => format!("header:{}", name.to_ascii_lowercase()),
    };
    [b"ringback 1 endpoint ", &of.application.to_bytes()[..], &of.endpoint.to_bytes(), role.as_bytes()].concat()
}

fn unusable(invalid: crate::Invalid) -> Error {
    Error::Keys(invalid.problem().to_owned())
}

/// A file that the operator named is never made: one that is not mounted would be made beside the mount.
fn named(file: &KeyFile) -> Result<Keyring, Error> {
    let keys = file.read().map_err(unusable)?;
    let shown = file.path().display();
    keys.ok_or_else(|| {
        Error::Keys(format!(
            "{shown}, the file of the keys that secrets are sealed under, is not there: put it back, or have `ringback key add` \
             make a first one; an open never makes it"
        ))
    })
}

/// `what` says what is missing; whoever reads it is told which keys to put back.
fn missing(sealed: &BTreeMap<u32, u64>, what: &str) -> Error {
    let (ids, most): (Vec<String>, u64) = (sealed.keys().map(u32::to_string).collect(), sealed.values().sum());
    let (endpoints, keys) =
        (if most == 1 { "endpoint" } else { "endpoints" }, if ids.len() == 1 { "key" } else { "keys" });
    let back = if ids.len() == 1 { "put it back" } else { "put them back" };
    Error::Keys(format!(
        "{what}, and the secrets of {most} {endpoints} are sealed under {keys} {}: {back}; nothing was changed",
        ids.join(", ")
    ))
}

/// The endpoint that a record is of.
fn lane(key: &RecordKey) -> Option<Lane> {
    let endpoint = EndpointId::from_bytes(key.key.as_slice().try_into().ok()?);
    Some(Lane { application: key.application?, endpoint })
}

/// The records of a kind.
pub(super) async fn all_records(
    store: &dyn Store,
    kind: RecordKind,
    of: Option<ApplicationId>,
) -> Result<Vec<Record>, Error> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let after = all.last().map(|record| record.key.key.clone());
        let page = store.list(kind, of, after, MAX_PAGE).await?;
        let last = page.len() < MAX_PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Every endpoint's record, application by application.
async fn each_endpoint(store: &dyn Store, mut look: impl FnMut(Lane, Record)) -> Result<(), Error> {
    for application in all_records(store, RecordKind::Application, None).await? {
        let Ok(id) = application.key.key.as_slice().try_into().map(ApplicationId::from_bytes) else { continue };
        for record in all_records(store, RecordKind::Endpoint, Some(id)).await? {
            if let Some(lane) = lane(&record.key) {
                look(lane, record);
            }
        }
    }
    Ok(())
}

/// How many endpoints have secrets under which key.
async fn counts(store: &dyn Store) -> Result<BTreeMap<u32, u64>, Error> {
    let mut counts = BTreeMap::new();
    each_endpoint(store, |_, record| {
        let keys: BTreeSet<u32> = records::sealed_secrets(&record.value).iter().map(|(_, stored)| stored.key).collect();
        keys.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
    })
    .await?;
    Ok(counts)
}

impl Ringback {
    /// Opens every secret that is stored, to see whether all of them open, and notes what is to be sealed anew. Nothing
    /// is written.
    pub(super) async fn check_seals(&self) -> Result<(), Error> {
        let seals = &self.inner.seals;
        let mut no_key: BTreeMap<u32, u64> = BTreeMap::new();
        let mut refused: BTreeMap<u32, (u64, Lane)> = BTreeMap::new();
        let mut stale = BTreeSet::new();
        each_endpoint(&*self.inner.store, |lane, record| {
            let mut without = BTreeSet::new();
            for (role, stored) in &records::sealed_secrets(&record.value) {
                match seals.open(lane, role.borrowed(), stored) {
                    Ok(_) => {}
                    Err(NotOpened::NoKey(key)) => drop(without.insert(key)),
                    Err(NotOpened::Refused) => refused.entry(stored.key).or_insert((0, lane)).0 += 1,
                }
                if seals.is_stale(stored.key) {
                    stale.insert(record.key.clone());
                }
            }
            without.into_iter().for_each(|key| *no_key.entry(key).or_default() += 1);
        })
        .await?;
        let source = &seals.source;
        if !no_key.is_empty() {
            return Err(missing(&no_key, &format!("a key is not in {source}")));
        }
        if let Some((key, (count, first))) = refused.pop_first() {
            let secrets = if count == 1 { "secret does" } else { "secrets do" };
            return Err(Error::Keys(format!(
                "{count} {secrets} not open under key {key} of {source} (the first is one of {}): it is another key than the one \
                 that sealed, or the records were altered: put that key back, or the folder from a backup; nothing was changed",
                first.endpoint
            )));
        }
        *seals.stale.lock().expect(UNPOISONED) = stale;
        Ok(())
    }

    /// Seals anew what is not under the active key: what an earlier version stored as it is, and what is under an older key.
    pub(super) async fn turn_over(&self) -> Result<(), Error> {
        let mut sealed = 0;
        loop {
            let bite = self.inner.seals.next_stale();
            if bite.is_empty() {
                break;
            }
            sealed += self.seal_anew(&bite).await?;
            self.inner.seals.done(&bite);
        }
        if sealed > 0 {
            let key = self.inner.seals.keys.as_ref().map(Keyring::active);
            tracing::info!(endpoints = sealed, key, "secrets were sealed anew, under the active key");
        }
        Ok(())
    }

    /// Answers how many were. One that is changed meanwhile was sealed by its change.
    async fn seal_anew(&self, bite: &[RecordKey]) -> Result<usize, Error> {
        let store = &self.inner.store;
        let mut batch = Vec::new();
        for key in bite {
            let (Some(record), Some(lane)) = (store.get(key.clone()).await?, lane(key)) else { continue };
            let Some(value) = records::sealed_anew(lane, &record.value, &self.inner.seals) else { continue };
            let Record { key, version, active, .. } = record;
            batch.push(Put { key, expected: version, active, value: Some(value) });
        }
        let mut sealed = 0;
        if batch.is_empty() {
            return Ok(sealed);
        }
        let batches = match store.put(batch.clone()).await? {
            true => {
                sealed = batch.len();
                self.show_versions(&batch);
                return Ok(sealed);
            }
            false => batch.into_iter().map(|put| vec![put]),
        };
        for alone in batches {
            if store.put(alone.clone()).await? {
                sealed += 1;
                self.show_versions(&alone);
            }
        }
        Ok(sealed)
    }

    fn show_versions(&self, written: &[Put]) {
        for put in written {
            if let Some(lane) = lane(&put.key) {
                self.inner.directory.rewritten(lane, put.expected);
            }
        }
    }

    /// Under which keys the secrets of endpoints are sealed. It reads every endpoint's record.
    ///
    /// [`run`](Ringback::run) seals what is under an older key anew, at its start; every change of an endpoint does, too.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn key_use(&self) -> Result<KeyUse, Error> {
        let active = self.inner.seals.keys.as_ref().map(Keyring::active);
        Ok(KeyUse { active, endpoints: counts(&*self.inner.store).await? })
    }
}

/// A role that owns its header's name.
pub(super) enum OwnedRole {
    SigningKey,
    Header(String),
}

impl OwnedRole {
    pub(super) fn borrowed(&self) -> Role<'_> {
        match self {
            OwnedRole::SigningKey => Role::SigningKey,
            OwnedRole::Header(name) => Role::Header(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::endpoint::NewEndpoint;
    use crate::front::fixture::Fixture;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// Keys of these ids, each of which has this many as its bytes.
    fn keys(ids: &[u32]) -> KeySource {
        KeySource::Given(ids.iter().fold(Keyring::new(ids[0], [ids[0] as u8; 32]).unwrap(), |ring, id| {
            if *id == ids[0] { ring } else { ring.with(*id, [*id as u8; 32]).unwrap() }
        }))
    }

    async fn endpoint(ringback: &Ringback) -> Lane {
        let application = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let new = NewEndpoint::at("https://a.example/").secret(SECRET).header("X-One", "1").plain_header("X-Two", "2");
        Lane { application, endpoint: ringback.create_endpoint(application, new).await.unwrap().id }
    }

    fn record_key(of: Lane) -> RecordKey {
        records::endpoint_key(of.application, of.endpoint)
    }

    async fn stored(fixture: &Fixture, of: Lane) -> serde_json::Value {
        serde_json::from_slice(&fixture.store.get(record_key(of)).await.unwrap().unwrap().value).unwrap()
    }

    async fn store(fixture: &Fixture, of: Lane, record: &serde_json::Value) {
        let key = record_key(of);
        let expected = fixture.store.get(key.clone()).await.unwrap().map_or(0, |record| record.version);
        let put = Put { key, expected, active: true, value: Some(record.to_string().into()) };
        assert!(fixture.store.put(vec![put]).await.unwrap());
    }

    fn problem(opened: Result<Ringback, Error>) -> String {
        let Err(Error::Keys(problem)) = opened else { panic!("{opened:?}") };
        problem
    }

    #[tokio::test]
    async fn what_is_sealed_for_one_endpoint_or_role_opens_in_no_other() {
        let fixture = Fixture::new();
        let ringback = fixture.open_with(keys(&[1])).await.unwrap();
        let (one, other) = (endpoint(&ringback).await, endpoint(&ringback).await);
        let good = stored(&fixture, one).await;
        assert!(fixture.open_with(keys(&[1])).await.is_ok());
        let swaps: [fn(&mut serde_json::Value); 3] = [
            // A header's value in the place of the signing key, and another header's.
            |record| record["keys"][0][0] = record["headers"][0][1].clone(),
            |record| record["headers"][0][1] = record["keys"][0][0].clone(),
            |record| record["headers"][0][1] = record["headers"][1][1].clone(),
        ];
        for swap in swaps {
            let mut swapped = good.clone();
            swap(&mut swapped);
            store(&fixture, one, &swapped).await;
            let problem = problem(fixture.open_with(keys(&[1])).await);
            assert!(
                problem.contains("1 secret does not open under key 1") && problem.contains(&one.endpoint.to_string())
            );
            assert_eq!(stored(&fixture, one).await, swapped, "it is left as it is");
        }
        store(&fixture, one, &good).await;
        store(&fixture, other, &good).await;
        assert!(problem(fixture.open_with(keys(&[1])).await).contains("3 secrets do not open"));
    }

    #[tokio::test]
    async fn a_store_opens_only_with_every_key_that_it_needs() {
        let fixture = Fixture::new();
        let one = endpoint(&fixture.open_with(keys(&[1])).await.unwrap()).await;
        endpoint(&fixture.open_with(keys(&[1, 3])).await.unwrap()).await;
        let before = stored(&fixture, one).await;
        for (given, says) in [
            (
                keys(&[3]),
                "a key is not in the keys that were given, and the secrets of 1 endpoint are sealed under key 1: put it back",
            ),
            (keys(&[2]), "the secrets of 2 endpoints are sealed under keys 1, 3"),
            (KeySource::Folder, "the secrets of 2 endpoints are sealed under keys 1, 3"),
            (
                KeySource::Given(Keyring::new(1, [9; 32]).unwrap().with(3, [3; 32]).unwrap()),
                "3 secrets do not open under key 1",
            ),
        ] {
            let problem = problem(fixture.open_with(given).await);
            assert!(problem.contains(says) && problem.contains("nothing was changed"), "{problem}");
        }
        assert_eq!(stored(&fixture, one).await, before);
        assert!(fixture.open_with(keys(&[4, 3, 1])).await.is_ok());
    }

    #[tokio::test]
    async fn what_was_stored_plain_or_under_an_older_key_is_sealed_anew_and_a_change_seals_at_once() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let mut lanes = Vec::new();
        for _ in 0..=BITE {
            lanes.push(endpoint(&ringback).await);
        }
        let read = |ringback: &Ringback| -> Vec<_> {
            lanes.iter().map(|lane| ringback.endpoint(lane.application, lane.endpoint).unwrap()).collect()
        };
        let before = read(&ringback);
        let all = lanes.len() as u64;
        for (given, active, old) in [(keys(&[1]), 1, PLAIN), (keys(&[1, 2]), 2, 1)] {
            let ringback = fixture.open_with(given).await.unwrap();
            let uses = ringback.key_use().await.unwrap();
            assert_eq!((uses.active, &uses.endpoints, uses.left()), (Some(active), &[(old, all)].into(), all));
            let lane = lanes[0];
            ringback.disable_endpoint(lane.application, lane.endpoint).await.unwrap();
            ringback.enable_endpoint(lane.application, lane.endpoint).await.unwrap();
            let uses = ringback.key_use().await.unwrap();
            assert_eq!(uses.endpoints, [(old, all - 1), (active, 1)].into());
            ringback.turn_over().await.unwrap();
            let uses = ringback.key_use().await.unwrap();
            assert_eq!((&uses.endpoints, uses.left()), (&[(active, all)].into(), 0));
            assert_eq!(read(&ringback)[1..], before[1..], "the endpoints are as they were");
            let text = stored(&fixture, lanes[1]).await.to_string();
            assert!(!text.contains(SECRET) && text.contains("X-One"), "{text}");
        }
        assert_eq!(
            read(&fixture.open_with(keys(&[2])).await.unwrap())[1..],
            before[1..],
            "the older key is not needed"
        );
    }

    #[tokio::test]
    async fn whoever_changes_an_endpoint_while_it_is_sealed_anew_is_not_told_of_a_conflict() {
        let fixture = Fixture::new();
        let lane = endpoint(&fixture.open().await).await;
        // What another handle does is what goes on beside a call: it is stored, and not shown.
        let (late, other) =
            (fixture.open_with(keys(&[1])).await.unwrap(), fixture.open_with(keys(&[1])).await.unwrap());
        other.turn_over().await.unwrap();
        let changed = late
            .update_endpoint(
                lane.application,
                lane.endpoint,
                NewEndpoint::at("https://b.example/").header("X-New", "n"),
            )
            .await
            .unwrap();
        // The other one's view is the older now, and there is nothing for it to seal.
        late.inner.seals.stale.lock().unwrap().insert(record_key(lane));
        late.turn_over().await.unwrap();
        assert_eq!(fixture.open_with(keys(&[1])).await.unwrap().endpoint(lane.application, lane.endpoint), Ok(changed));
        let real = other.disable_endpoint(lane.application, lane.endpoint).await;
        assert!(matches!(real, Err(Error::Conflict(_))), "a real change still is one: {real:?}");
    }

    #[tokio::test]
    async fn the_version_that_is_shown_follows_a_record_that_was_sealed_anew() {
        let fixture = Fixture::new();
        let lane = endpoint(&fixture.open().await).await;
        let ringback = fixture.open_with(keys(&[1])).await.unwrap();
        ringback.turn_over().await.unwrap();
        let version = fixture.store.get(record_key(lane)).await.unwrap().unwrap().version;
        assert_eq!((version, ringback.destination(lane.application, lane.endpoint).unwrap().version), (2, 2));
    }
}
