//! What a program that embeds the library writes about its secrets: in every form for people, and when it panics.

use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ringback::clock::SystemClock;
use ringback::store::Store;
use ringback::store::memory::MemoryStore;
use ringback::transport::{Reply, Request, Transport};
use ringback::{
    Config, KeySource, Keyring, NewApplication, NewEndpoint, NewMessage, Ringback, Secret, SigningKey, Timestamp,
};

use super::heard::{Canary, Heard};

const CHILD: &str = "RINGBACK_TEST_PANICS";
const SECRETS: [&str; 5] = [
    "Y2FuYXJ5LW9mLWFuLWVuZHBvaW50LS0tLS0t",
    "canary-of-a-header",
    "canary-of-a-signing-key",
    "canary-that-is-wrong",
    "Y2FuYXJ5LXNlYWxpbmcta2V5LW9mLTMyLWJ5dGVzLS0",
];

/// Panics with all that it was given in its message.
struct Panics;

impl Transport for Panics {
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        panic!("the transport was given {request:?}");
    }
}

/// Not a test of its own: what the child of the test below does.
#[tokio::test]
async fn as_a_program_that_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let keys: Keyring = format!("1:{}", SECRETS[4]).parse().unwrap();
    let mut config = Config::default();
    config.keys = KeySource::Given(keys);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock = Arc::new(SystemClock::starting_after(Timestamp::ZERO));
    let ringback = Ringback::from_parts(config.clone(), store, Arc::new(Panics), clock).await.unwrap();
    let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap().id;
    let new = NewEndpoint::at("https://a.example/").secret(format!("whsec_{}", SECRETS[0])).header("X-A", SECRETS[1]);
    let endpoint = ringback.create_endpoint(app, new.clone()).await.unwrap();
    let key = SigningKey { secret: SECRETS[2].into(), expires_at: None };
    let token = ringback.issue_token(app, Duration::from_secs(60), None).await.unwrap();
    println!(
        "{ringback:?} {config:#?} {new:#?} {endpoint:#?} {key:?} {token:?} {}",
        serde_json::to_string(&endpoint).unwrap()
    );
    println!("token {}", token.secret.expose());
    let refused = ringback.rotate_secret(app, endpoint.id, Some(Secret::from(SECRETS[3])), Duration::ZERO).await;
    println!("{refused:?} {}", format!("9:{}x", SECRETS[4]).parse::<Keyring>().unwrap_err());
    ringback.send(app, NewMessage::bytes("e", "{}")).await.unwrap();
    let mut settled = ringback.watch();
    let run = ringback.run();
    tokio::select! {
        _ = run => {}
        attempt = settled.recv() => println!("{attempt:?}"),
    }
    panic!("in the middle of it: {ringback:?} {endpoint:?}");
}

#[test]
fn no_form_for_people_and_no_panic_shows_a_secret() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "panics::as_a_program_that_panics", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    assert!(!child.status.success(), "it panics");
    let said = [child.stdout, child.stderr].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    assert!(text.contains("the transport was given Request") && text.contains("in the middle of it"), "{text}");
    assert!(text.contains("[redacted]") && text.contains("DEBUG ringback::dispatcher"), "{text}");
    let token = text.lines().find_map(|line| line.strip_prefix("token ")).unwrap().to_owned();
    let mut heard = Heard::default();
    heard.hear("program".into(), text.replace(&format!("token {token}\n"), "").into_bytes());
    let canaries = SECRETS.iter().copied().chain([token.as_str()]).map(Canary::of);
    let found: Vec<String> = canaries.flat_map(|canary| heard.leaks(&canary)).collect();
    assert_eq!(found, Vec::<String>::new());
}
