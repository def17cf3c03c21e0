//! Secrets are sealed in the folder, under keys that are kept beside it and can be turned over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringback::profile::Profile;
use ringback::store::sled::{SledConfig, SledStore};
use ringback::store::{Put, Record, RecordKey, RecordKind, Store};
use ringback::{
    ApplicationId, Error, KeyFile, KeySource, Keyring, NewApplication, Ringback, Secret, Timestamp, signature,
};

use crate::support::{Receiver, World, quick, until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const VALUE: &str = "Bearer canary-of-the-header";

/// Whether any file of a folder, but the file of keys, has these bytes.
fn found(folder: &Path, bytes: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return found(&path, bytes);
        }
        let content = fs::read(&path).unwrap();
        !path.ends_with(KeyFile::NAME) && content.windows(bytes.len()).any(|window| window == bytes.as_bytes())
    })
}

fn file(world: &World) -> KeyFile {
    KeyFile::at(world.config.path.join(KeyFile::NAME))
}

/// Looks at the records of a closed store.
async fn records(folder: &Path, app: ApplicationId) -> (SledStore, Vec<Record>) {
    let store = SledStore::open(SledConfig::new(folder)).await.unwrap();
    let records = store.list(RecordKind::Endpoint, Some(app), None, 250).await.unwrap();
    (store, records)
}

async fn values(world: &World) -> BTreeMap<Vec<u8>, (u64, Vec<u8>)> {
    let (store, records) = records(&world.config.path, world.app).await;
    store.close().await.unwrap();
    records.into_iter().map(|record| (record.key.key, (record.version, record.value.to_vec()))).collect()
}

/// Sends a message and checks that it arrives, signed with the secret and with the header's value.
async fn still_signs(world: &mut World, receiver: &Receiver) {
    let before = receiver.count();
    let sent = world.send("e", r#"{"n":1}"#).await;
    world.ended(sent).await;
    let request = receiver.expect(before + 1).await.pop().unwrap();
    assert_eq!(request.header("authorization"), Some(VALUE));
    let now = Timestamp::from_millis(request.header("svix-timestamp").unwrap().parse::<u64>().unwrap() * 1_000);
    let svix = Profile::builtin("svix").unwrap();
    let tolerance = std::time::Duration::from_secs(5);
    let url = receiver.url.as_str();
    let verified = signature::verify(
        &svix,
        &[Secret::from(SECRET)],
        |name| request.header(name),
        url,
        &request.body,
        now,
        tolerance,
    );
    assert_eq!(verified, Ok(()));
}

async fn refused(world: &World) -> String {
    let opened = Ringback::open(world.config.clone()).await;
    let Err(Error::Keys(problem)) = opened else { panic!("{opened:?}") };
    problem
}

async fn with_an_endpoint(receiver: &Receiver) -> World {
    let world = World::open().await;
    world
        .endpoint(quick(&receiver.url).secret(SECRET).header("Authorization", VALUE).plain_header("X-Plain", "plainly"))
        .await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_the_folder_has_a_secret_in_plain() {
    let receiver = Receiver::answering(200).await;
    let mut world = with_an_endpoint(&receiver).await;
    world.run();
    still_signs(&mut world, &receiver).await;
    world.reopen().await;
    world.run();
    still_signs(&mut world, &receiver).await;
    world.stop().await;
    let folder = &world.config.path;
    for secret in [SECRET, &SECRET[6..], VALUE, "canary", "plainly"] {
        assert!(!found(folder, secret), "{secret}");
    }
    assert!(found(folder, "test.happened") || found(folder, "X-Plain"), "the search finds what is there");
    let mode = fs::metadata(file(&world).path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_turned_over_and_the_old_one_is_retired_without_a_receiver_noticing() {
    let receiver = Receiver::answering(200).await;
    let mut world = with_an_endpoint(&receiver).await;
    world.run();
    still_signs(&mut world, &receiver).await;
    assert_eq!(file(&world).add(), Ok(2));
    assert_eq!(world.ringback.key_use().await.unwrap().active, Some(1), "it counts from the next open on");
    world.reopen().await;
    assert_eq!(world.ringback.key_use().await.unwrap().left(), 1);
    world.run();
    until(async || world.ringback.key_use().await.unwrap().left() == 0).await;
    still_signs(&mut world, &receiver).await;
    file(&world).retire(1).unwrap();
    world.reopen().await;
    world.run();
    still_signs(&mut world, &receiver).await;
    assert_eq!(world.ringback.key_use().await.unwrap().endpoints, [(2, 1)].into());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_gone_or_another_stops_the_open_and_nothing_is_changed_or_made() {
    let receiver = Receiver::answering(200).await;
    let mut world = with_an_endpoint(&receiver).await;
    world.stop().await;
    let before = values(&world).await;
    let path = file(&world).path().to_owned();
    let (shown, good) = (path.display().to_string(), fs::read_to_string(&path).unwrap());

    fs::remove_file(&path).unwrap();
    let problem = refused(&world).await;
    assert!(
        problem.contains(&format!("{shown} is not there")) && problem.contains("1 endpoint are sealed under key 1")
    );
    assert!(!path.exists(), "no key is made");

    // Another key under the same id, and another id.
    KeyFile::at(&path).add().unwrap();
    let another = fs::read_to_string(&path).unwrap();
    let problem = refused(&world).await;
    assert!(problem.contains("3 secrets do not open under key 1") && problem.contains(&shown), "{problem}");
    fs::write(&path, another.replace("\n1:", "\n7:")).unwrap();
    assert!(refused(&world).await.contains("sealed under key 1"));
    for (content, says) in
        [("", "holds no key"), ("1:x\n", "secrets.key:1: "), (&format!("{good}{good}"), "stands twice")]
    {
        fs::write(&path, content).unwrap();
        let problem = refused(&world).await;
        assert!(problem.contains(&shown) && problem.contains(says), "{problem}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "it is not replaced");
    }
    assert_eq!(values(&world).await, before);

    fs::write(&path, &good).unwrap();
    world.reopen().await;
    world.run();
    still_signs(&mut world, &receiver).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_named_is_used_and_never_made_and_keys_that_are_given_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = KeyFile::at(dir.path().join("keys"));
    let mut config = crate::support::config(&dir.path().join("store"));
    config.keys = KeySource::File(elsewhere.path().to_owned());
    let error = Ringback::open(config.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Keys(problem) if problem.contains("keys, the file")), "{error}");
    assert!(!elsewhere.path().exists() && !config.path.exists());
    elsewhere.add().unwrap();
    let ringback = Ringback::open(config.clone()).await.unwrap();
    let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
    ringback.create_endpoint(app, ringback::NewEndpoint::at("https://a.example/").secret(SECRET)).await.unwrap();
    ringback.shutdown().await.unwrap();

    let line = fs::read_to_string(elsewhere.path()).unwrap();
    let keys: Keyring = line.parse().unwrap();
    config.keys = KeySource::Given(keys);
    let ringback = Ringback::open(config.clone()).await.unwrap();
    assert_eq!(ringback.endpoints(app).unwrap()[0].keys[0].secret, Secret::from(SECRET));
    ringback.shutdown().await.unwrap();
    assert!(!config.path.join(KeyFile::NAME).exists());
    assert!(!found(&config.path, SECRET));
}

/// An endpoint's record as it was written before there were keys.
fn plain(url: &str, status: &str) -> String {
    format!(
        r#"{{"v":1,"settings":{{"url":"{url}","profile":"svix","retry":{{"delaysMs":[20]}}}},
        "headers":[["Authorization",{{"key":0,"text":"{VALUE}"}}]],"keys":[[{{"key":0,"text":"{SECRET}"}},null]],
        "status":{status},"created_at":"2026-01-31T08:30:00Z","updated_at":"2026-01-31T08:30:00Z"}}"#
    )
}

/// A closed store of an earlier version with this many endpoints, of which the first has the URL.
async fn earlier(url: &str, endpoints: u8) -> World {
    let mut world = World::open().await;
    world.stop().await;
    let (store, _) = records(&world.config.path, world.app).await;
    for number in 0..endpoints {
        let key = RecordKey { kind: RecordKind::Endpoint, application: Some(world.app), key: vec![number + 1; 16] };
        let (url, status) = match number {
            0 => (url, r#""enabled""#),
            _ => ("https://a.example/", r#"{"disabled":{"since":"2026-01-31T08:30:00Z"}}"#),
        };
        let put = Put { key, expected: 0, active: number == 0, value: Some(plain(url, status).into()) };
        assert!(store.put(vec![put]).await.unwrap());
    }
    store.close().await.unwrap();
    fs::remove_file(file(&world).path()).unwrap();
    fs::write(world.config.path.join("FORMAT"), "2\n").unwrap();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_an_earlier_version_opens_and_its_secrets_are_sealed() {
    let receiver = Receiver::answering(200).await;
    let mut world = earlier(&receiver.url, 1).await;
    assert!(found(&world.config.path, SECRET), "it is plain");
    world.reopen().await;
    let shown = world.ringback.endpoints(world.app).unwrap();
    assert!(shown[0].settings.headers[0].is_sensitive(), "what was stored before stays sensitive");
    world.run();
    until(async || world.ringback.key_use().await.unwrap().endpoints == [(1, 1)].into()).await;
    still_signs(&mut world, &receiver).await;
    world.stop().await;
    let stored = values(&world).await.into_values().next().unwrap().1;
    assert!(!String::from_utf8(stored).unwrap().contains("canary"));
    assert_eq!(
        fs::read_to_string(world.config.path.join("FORMAT")).unwrap(),
        "4\n",
        "an older program would leave it out"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_over_that_is_cut_short_goes_on_where_it_was() {
    const ENDPOINTS: u8 = 240;
    let receiver = Receiver::answering(200).await;
    let mut world = earlier(&receiver.url, ENDPOINTS).await;
    let mut cut = 0;
    loop {
        world.reopen().await;
        let left = world.ringback.key_use().await.unwrap().left();
        world.run();
        if left == 0 {
            break;
        }
        // Dropped in the middle of whatever it does.
        until(async || world.ringback.key_use().await.unwrap().left() < left).await;
        cut += u64::from(world.ringback.key_use().await.unwrap().left() > 0);
        world.abort().await;
    }
    assert_eq!(world.ringback.key_use().await.unwrap().endpoints, [(1, u64::from(ENDPOINTS))].into());
    assert_eq!(world.ringback.endpoints(world.app).unwrap().len(), usize::from(ENDPOINTS));
    // What is still plain beside what is sealed never kept it from signing.
    still_signs(&mut world, &receiver).await;
    world.stop().await;
    println!("cut short {cut} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_was_stored_before_its_name_was_reserved_overrides_none_of_ours() {
    let receiver = Receiver::answering(200).await;
    let mut world = earlier(&receiver.url, 1).await;
    let (store, records) = records(&world.config.path, world.app).await;
    let record = records.into_iter().next().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
    let names =
        ["svix-signature", "Svix-Id", "WEBHOOK-SIGNATURE", "Host", "Content-Length", "Content-Type", "Metadata-Token"];
    for name in names {
        let forged = serde_json::json!([name, {"key": 0, "text": "99"}]);
        value["headers"].as_array_mut().unwrap().push(forged);
    }
    let put = Put { key: record.key, expected: record.version, active: true, value: Some(value.to_string().into()) };
    assert!(store.put(vec![put]).await.unwrap());
    store.close().await.unwrap();
    world.reopen().await;
    world.run();
    // The signature is ours and fits, and the header that is no harm still goes out.
    still_signs(&mut world, &receiver).await;
    let request = receiver.received().pop().unwrap();
    for name in names {
        let values: Vec<_> = request.headers.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)).collect();
        assert!(values.len() <= 1 && values.iter().all(|(_, value)| value != "99"), "{values:?}");
    }
    assert_eq!((request.header("webhook-signature"), request.header("metadata-token")), (None, None));
    world.stop().await;
}
