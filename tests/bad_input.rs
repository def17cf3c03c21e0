//! What cannot be taken is refused with the field's name, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringback::profile::BodyMode;
use ringback::store::AttemptQuery;
use ringback::{
    EndpointSettings, Error, Exponential, NewApplication, NewEndpoint, NewMessage, NewReplay, Profile, ReplayFilter,
    RetrySettings, Secret, StateKind,
};
use support::{Receiver, World, quick};

const URL: &str = "https://hooks.acme.example/";

fn field<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Invalid(invalid)) => invalid.field().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A profile of the caller's own whose endpoints must be given a secret.
fn requiring_a_secret() -> Profile {
    serde_json::from_value(serde_json::json!({
        "name": "acme",
        "signing": {
            "secret": "required",
            "keys": [{"kind": "hmac-sha256", "prefix": "acme_", "form": "base64", "minBytes": 16, "maxBytes": 64}],
            "content": "{body}",
            "headers": [{"name": "X-Acme-Signature", "value": "{sig}"}],
        },
    }))
    .unwrap()
}

/// URLs that no endpoint may have where no network is allowed.
const REFUSED_URLS: [&str; 31] = [
    "http://hooks.acme.example/",
    "ftp://hooks.acme.example/",
    "file:///etc/passwd",
    "https://user@hooks.acme.example/",
    "https://user:pass@hooks.acme.example/",
    "https://hooks.acme.example/#part",
    "hooks.acme.example/path",
    "https://",
    "https:///path",
    "https://hooks acme.example/",
    "https://hooks.acme.example/\r\nX-Injected: 1",
    "https://a\\b.example/",
    "https://[::1",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://169.254.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://0x0a000001/",
    "https://012.0.0.1/",
    "https://1.1.1.1:0/",
    "https://printer/",
    "https://db.internal/",
    "https://metadata.google.internal/",
    "https://1.1.1.1:6379/",
];

/// Every endpoint that is refused, and the field that the error names.
fn refused_endpoints() -> Vec<(&'static str, NewEndpoint)> {
    let at = NewEndpoint::at;
    let long = format!("{URL}{}", "x".repeat(2048));
    let urls = REFUSED_URLS.into_iter().chain([long.as_str()]);
    let mut rows: Vec<(&str, NewEndpoint)> = urls.map(|url| ("url", at(url))).collect();
    rows.extend([
        ("secret", at(URL).profile(requiring_a_secret())),
        ("secret", at(URL).profile(requiring_a_secret()).secret("other_AAAAAAAAAAAAAAAAAAAAAA==")),
        ("secret", at(URL).secret("no-prefix")),
        ("secret", at(URL).secret("whsec_not base64!")),
        ("secret", at(URL).secret("whsec_AAAA")),
        ("secret", at(URL).secret(format!("whsec_{}", "A".repeat(104)))),
        ("secret", at(URL).secret("whsk_AAAA")),
        ("secret", at(URL).profile("levrage").secret("")),
        ("secret", at(URL).profile("levrage").secret("x".repeat(513))),
        ("secret", at(URL).profile("subverse").event_type("call.placed").secret("whsec_abc")),
        ("profile", at(URL).profile("hooli")),
        ("profile", at(URL).profile("Svix")),
        ("profile.timeoutMs", at(URL).profile(Profile { timeout_ms: 0, ..requiring_a_secret() })),
        ("eventTypes", at(URL).profile("subverse")),
        ("eventTypes", at(URL).event_type("")),
        ("eventTypes", at(URL).event_type("*")),
        ("eventTypes", at(URL).event_type("call.*.placed")),
        ("eventTypes", at(URL).event_type("call placed")),
        ("channels", at(URL).channel("agent:")),
        ("channels", at(URL).channel("a b")),
        ("channels", (0..101).fold(at(URL), |endpoint, n| endpoint.channel(format!("c{n}")))),
        ("headers", at(URL).header("X-A", "1\nX-B: 2")),
        ("headers", at(URL).header("X-A", "1\r\n\r\nbody")),
        ("headers", at(URL).header("X-A\r\nX-B", "1")),
        ("headers", at(URL).header("X A", "1")),
        ("headers", at(URL).header("", "1")),
        ("headers", at(URL).header("X-A", "caf\u{e9}")),
        ("headers", at(URL).header("Content-Type", "text/plain")),
        ("headers", at(URL).header("content-length", "1")),
        ("headers", at(URL).header("HOST", "internal")),
        ("headers", at(URL).header("Transfer-Encoding", "chunked")),
        ("headers", at(URL).header("Svix-Signature", "v1,forged")),
        ("headers", at(URL).header("webhook-id", "msg_1")),
        ("headers", at(URL).header("X-Forwarded-For", "10.0.0.1")),
        ("headers", at(URL).profile("levrage").header("x-levrage-signature", "0")),
        ("headers", at(URL).header("X-A", "1").header("x-a", "2")),
        ("headers", at(URL).header("X-A", "a".repeat(16 * 1024))),
        ("headers", (0..33).fold(at(URL), |endpoint, n| endpoint.header(format!("X-{n}"), "1"))),
        ("timeoutMs", at(URL).timeout(Duration::ZERO)),
        ("timeoutMs", at(URL).timeout(Duration::from_secs(301))),
        ("maxInFlight", at(URL).max_in_flight(0)),
        ("maxInFlight", at(URL).max_in_flight(1025)),
        ("weight", at(URL).weight(0)),
        ("weight", at(URL).weight(101)),
        ("throttleRate", at(URL).throttle_rate(0)),
        ("uid", at(URL).uid("")),
        ("uid", at(URL).uid("with space")),
        ("uid", at(URL).uid("ep_01")),
    ]);
    rows.extend(refused_retries().map(|(field, retry)| (field, at(URL).retry(retry))));
    rows
}

fn refused_retries() -> [(&'static str, RetrySettings); 6] {
    let none = RetrySettings::default;
    let growth = Exponential { initial_ms: 1000, multiplier: 2.0, max_interval_ms: 60_000, retries: 3 };
    [
        ("retry.delaysMs", RetrySettings { delays_ms: Some(vec![1; 51]), ..none() }),
        ("retry.delaysMs", RetrySettings { delays_ms: Some(vec![604_800_001]), ..none() }),
        ("retry.exponential", RetrySettings { delays_ms: Some(vec![1]), exponential: Some(growth), ..none() }),
        ("retry.jitter", RetrySettings { jitter: Some(f64::NAN), ..none() }),
        ("retry.jitter", RetrySettings { jitter: Some(1.5), ..none() }),
        ("retry.alsoOn", RetrySettings { also_on: Some(vec![200]), ..none() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cannot_be_taken_is_refused_by_its_field_and_not_made() {
    let mut world = World::with(|config| config.egress.allowed_networks.clear()).await;
    let kept = world.endpoint(NewEndpoint::at(URL).uid("kept")).await;
    for (name, new) in refused_endpoints() {
        assert_eq!(field(world.ringback.create_endpoint(world.app, new.clone()).await), name, "{new:?}");
        let update = world.ringback.update_endpoint(world.app, kept.id, new.clone()).await;
        // An update keeps the keys that there are, where none is given.
        if let Err(error) = update {
            assert_eq!(field::<()>(Err(error)), name, "{new:?}");
        } else {
            panic!("{new:?}");
        }
    }
    let taken = world.ringback.create_endpoint(world.app, NewEndpoint::at(URL).uid("kept")).await;
    assert_eq!(taken.unwrap_err(), Error::UidTaken("kept".into()));
    assert_eq!(world.ringback.endpoints(world.app).unwrap(), std::slice::from_ref(&kept));
    world.reopen().await;
    assert_eq!(world.ringback.endpoints(world.app).unwrap(), [kept]);
}

#[test]
fn settings_as_json_name_what_is_wrong_with_them() {
    for (json, word) in [
        (r#"{}"#, "url"),
        (r#"{"url": 7}"#, "string"),
        (r#"{"url": "https://a.example/", "colour": "red"}"#, "colour"),
        (r#"{"url": "https://a.example/", "profile": {"name": "a", "signing": {"keys": [{"kind": "md5"}]}}}"#, "md5"),
        (r#"{"url": "https://a.example/", "profile": {"name": "a", "signing": {"content": "{nonce}"}}}"#, "nonce"),
        (r#"{"url": "https://a.example/", "body": "wrapped"}"#, "wrapped"),
        (r#"{"url": "https://a.example/", "retry": {"delays": [1]}}"#, "delays"),
    ] {
        let error = serde_json::from_str::<EndpointSettings>(json).unwrap_err().to_string();
        assert!(error.contains(word), "{json}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_cannot_be_taken_is_refused_by_its_field() {
    let world = World::open().await;
    let named = |name: &str| NewApplication::named(name);
    let metadata: BTreeMap<String, String> = (0..51).map(|n| (n.to_string(), String::new())).collect();
    for (name, new) in [
        ("name", named("")),
        ("name", named(&"x".repeat(257))),
        ("uid", named("A").uid("a b")),
        ("uid", named("A").uid("app_1")),
        ("metadata", NewApplication { metadata, ..named("A") }),
    ] {
        assert_eq!(field(world.ringback.create_application(new).await), name);
    }
    world.ringback.create_application(named("B").uid("b")).await.unwrap();
    let taken = world.ringback.create_application(named("C").uid("b")).await;
    assert_eq!(taken.unwrap_err(), Error::UidTaken("b".into()));
    assert_eq!(world.ringback.applications().len(), 2);
}

/// Every message that is refused, and the field that the error names.
fn refused_messages() -> Vec<(&'static str, NewMessage)> {
    let of = |event_type: &'static str| NewMessage::bytes(event_type, "{}");
    let channels = (0..21).fold(of("a.b"), |message, n| message.channel(format!("c{n}")));
    vec![
        ("eventType", of("")),
        ("eventType", of(".a")),
        ("eventType", of("a..b")),
        ("eventType", of("a b")),
        ("eventType", of("a.*")),
        ("eventType", NewMessage::bytes("x".repeat(257), "{}")),
        ("payload", NewMessage::bytes("a.b", vec![b' '; (1 << 20) + 1])),
        ("payload", NewMessage::bytes("a.b", "not json")),
        ("payload", NewMessage::bytes("a.b", "{\"a\":1} ,")),
        ("payload", NewMessage::bytes("a.b", &b"\"\xff\""[..])),
        ("payload", NewMessage::bytes("a.b", "")),
        ("eventId", of("a.b").event_id("")),
        ("eventId", of("a.b").event_id("line\nbreak")),
        ("eventId", of("a.b").event_id("x".repeat(257))),
        ("idempotencyKey", of("a.b").idempotency_key("")),
        ("idempotencyKey", of("a.b").idempotency_key("\u{e9}")),
        ("channels", of("a.b").channel("")),
        ("channels", of("a.b").channel(":agent")),
        ("channels", channels),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_taken_is_refused_by_its_field_and_not_stored() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url).profile("levers")).await;
    let refused = refused_messages();
    for (name, message) in refused.clone() {
        let shown = format!("{message:?}").chars().take(200).collect::<String>();
        assert_eq!(field(world.ringback.send(world.app, message).await), name, "{shown}");
    }
    assert_eq!(world.message_count().await, 0);

    let mut batch: Vec<NewMessage> = refused.iter().map(|(_, message)| message.clone()).collect();
    batch.insert(3, NewMessage::bytes("a.b", "[]"));
    let results = world.ringback.send_batch(world.app, batch).await.unwrap();
    let taken: Vec<usize> = (0..results.len()).filter(|place| results[*place].is_ok()).collect();
    assert_eq!(taken, [3], "those that are refused do not stop the others");
    assert_eq!(world.message_count().await, 1);
    receiver.wait_for(1).await;

    let mebibyte = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    assert!(world.ringback.send(world.app, NewMessage::bytes("a.b", mebibyte)).await.is_ok(), "1 MiB is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superset_body_refuses_what_it_cannot_be_made_from() {
    let world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url).profile("levers").body(BodyMode::Superset)).await;
    for payload in ["[1]", "1", "x", r#"{"type": 1}"#, r#"{"a": 1, "data": {}}"#, r#"{"timest\u0061mp": 0}"#] {
        assert_eq!(field(world.ringback.send(world.app, NewMessage::bytes("a.b", payload)).await), "payload");
    }
    assert_eq!(world.message_count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_its_limit_and_a_job_out_of_its_range_are_refused() {
    let mut world = World::with(|config| config.max_batch = 2).await;
    let messages = vec![NewMessage::bytes("a.b", "{}"); 3];
    assert_eq!(field(world.ringback.send_batch(world.app, messages).await), "messages");
    for rate in [0, 10_001] {
        assert_eq!(
            field(world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(rate)).await),
            "rate"
        );
    }
    let at = |text: &str| Some(text.parse().unwrap());
    let (since, until) = (at("2026-01-02T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    let backwards = ReplayFilter { since, until, ..ReplayFilter::default() };
    assert_eq!(field(world.ringback.start_replay(world.app, NewReplay::from(backwards).rate(10)).await), "since");
    assert_eq!(world.message_count().await, 0);
    assert_eq!(world.ringback.replay_jobs().await.unwrap(), []);
    world.config.max_in_flight = 0;
    world.stop().await;
    assert_eq!(field(ringback::Ringback::open(world.config.clone()).await), "maxInFlight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_id_is_taken_once() {
    let mut world = World::open().await;
    let event = |payload: &'static str| NewMessage::bytes("a.b", payload).event_id("event 1");
    let first = world.ringback.send(world.app, event("1")).await.unwrap().id;
    for payload in ["1", "2"] {
        let again = world.ringback.send(world.app, event(payload)).await;
        assert_eq!(again, Err(Error::EventIdTaken(first)));
    }
    let batch =
        vec![event("3"), NewMessage::bytes("a.b", "4").event_id("n"), NewMessage::bytes("a.b", "5").event_id("n")];
    let results = world.ringback.send_batch(world.app, batch).await.unwrap();
    let fresh = results[1].as_ref().unwrap().id;
    assert_eq!((&results[0], &results[2]), (&Err(Error::EventIdTaken(first)), &Err(Error::EventIdTaken(fresh))));
    assert_eq!(world.message_count().await, 2);
    world.reopen().await;
    assert_eq!(world.ringback.send(world.app, event("6")).await, Err(Error::EventIdTaken(first)));
    let other = world.ringback.create_application(NewApplication::named("Other")).await.unwrap().id;
    assert!(world.ringback.send(other, event("1")).await.is_ok(), "it is unique in its application alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_repeats_the_same_and_refuses_another() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let keyed = || NewMessage::bytes("a.b", "1").channel("eu").idempotency_key("key-1");
    let first = world.ringback.send(world.app, keyed()).await.unwrap();
    assert!(!first.repeated && first.routing.is_some());
    let again = world.ringback.send(world.app, keyed()).await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true));
    let others = [
        NewMessage::bytes("a.b", "2").channel("eu"),
        NewMessage::bytes("a.c", "1").channel("eu"),
        NewMessage::bytes("a.b", "1").channel("us"),
        NewMessage::bytes("a.b", "1"),
        keyed().event_id("e"),
    ];
    for other in others {
        let answer = world.ringback.send(world.app, other.idempotency_key("key-1")).await;
        assert_eq!(answer, Err(Error::IdempotencyConflict));
    }
    world.ended(first.id).await;
    world.reopen().await;
    world.run();
    let again = world.ringback.send(world.app, keyed()).await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true), "also after a restart");
    assert_eq!((world.message_count().await, receiver.count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_application_is_not_found() {
    let world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let message = world.send("a.b", "{}").await;
    let other = world.ringback.create_application(NewApplication::named("Other")).await.unwrap().id;
    let ringback = &world.ringback;
    assert_eq!(ringback.endpoint(other, endpoint).unwrap_err(), Error::NotFound("endpoint"));
    assert_eq!(ringback.endpoint_secret(other, endpoint).unwrap_err(), Error::NotFound("endpoint"));
    assert_eq!(ringback.delete_endpoint(other, endpoint).await.unwrap_err(), Error::NotFound("endpoint"));
    assert_eq!(ringback.message(other, message).await.unwrap_err(), Error::NotFound("message"));
    assert_eq!(ringback.deliveries(other, message).await.unwrap(), []);
    assert_eq!(ringback.replay(other, message, endpoint).await.unwrap_err(), Error::NotFound("endpoint"));
    let query = AttemptQuery { message: Some(message), limit: 10, ..AttemptQuery::default() };
    assert!(ringback.attempts(other, query).await.unwrap().items.is_empty());
}

/// What a program's logger would write.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_in_no_output() {
    const KEY: &str = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    let captured = Captured::default();
    let logger = captured.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || logger.clone());
    // For the whole process: the store's own threads are on it, too, and so are the other tests.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let mut world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let mut shown = Vec::new();
    let new = quick(&receiver.url).secret(format!("whsec_{KEY}")).header("Authorization", "Bearer canary-token");
    shown.push(format!("{new:?}"));
    let endpoint = world.endpoint(new.clone()).await;
    shown.push(format!("{endpoint:?} {}", serde_json::to_string(&endpoint).unwrap()));
    let sent = world.send("a.b", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Dead);
    let attempts = world.attempts(sent).await;
    shown.push(format!("{attempts:?} {}", serde_json::to_string(&attempts).unwrap()));
    let bad = [
        new.clone().secret(format!("whsec_{KEY}!")),
        new.clone().secret(format!("hooli_{KEY}")),
        new.clone().header("X-Canary", "canary-token\n"),
    ];
    for bad in bad {
        let error = world.ringback.create_endpoint(world.app, bad).await.unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    let secret = Secret::from(format!("whsec_{KEY}{KEY}"));
    let rotated = world.ringback.rotate_secret(world.app, endpoint.id, Some(secret), Duration::from_secs(60)).await;
    shown.push(format!("{:?}", rotated.unwrap()));
    world.reopen().await;
    let reopened = world.ringback.endpoint(world.app, endpoint.id).unwrap();
    shown.push(format!("{reopened:?} {} {:?}", serde_json::to_string(&reopened).unwrap(), world.ringback));
    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(log.contains("attempt") && log.contains(&sent.to_string()), "the log was captured");
    shown.push(log);
    for text in shown {
        assert!(!text.contains("anary-token") && !text.contains(KEY), "{text}");
    }
    let kept = world.ringback.endpoint_secret(world.app, endpoint.id).unwrap().unwrap();
    assert!(kept.expose().ends_with(&format!("{KEY}{KEY}")), "the one call that reveals it");
}
