//! A vendor of your own, written as JSON: one header that holds the time and the signature.
//!
//! The receiver in here knows nothing of this crate: it verifies with its own HMAC, as a customer would.
//!
//!     cargo run --example custom_profile

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks")]

#[allow(clippy::unwrap_used, reason = "a helper of the tests")]
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::error::Error;

use hmac::{Hmac, KeyInit, Mac};
use receiver::{Behaviour, Received, Receiver};
use ringback::{Config, NewApplication, NewEndpoint, NewMessage, Profile, Ringback, StateKind};
use sha2::Sha256;

const PROFILE: &str = r#"{
    "name": "acme-phone",
    "signing": {
        "secret": "required",
        "keys": [{ "kind": "hmac-sha256", "prefix": "apk_", "minBytes": 16 }],
        "content": "v0:{ts}:{body}",
        "headers": [{ "name": "X-Acme-Signature", "value": "t={ts},v0={sig}" }]
    },
    "body": "envelope",
    "envelope": { "eventType": "kind", "timestamp": "at", "data": "call" },
    "timeoutMs": 8000,
    "retry": { "delaysMs": [1000, 60000, 3600000], "jitter": 0.1 },
    "retryOn": "serverErrors"
}"#;

const SECRET: &str = "apk_4b1f6c0de2a94d37";

/// What the customer runs: no more than HMAC-SHA256 over `v0:<time>:<body>`, in hex.
fn verify(request: &Received) -> Option<serde_json::Value> {
    let header = request.header("x-acme-signature")?;
    let (time, signature) = header.strip_prefix("t=")?.split_once(",v0=")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).ok()?;
    mac.update(format!("v0:{time}:").as_bytes());
    mac.update(&request.body);
    let bytes: Option<Vec<u8>> = (0..signature.len())
        .step_by(2)
        .map(|at| signature.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect();
    mac.verify_slice(&bytes?).ok()?;
    serde_json::from_slice(&request.body).ok()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let customer =
        Receiver::start(|request, _| Behaviour::Answer(if verify(request).is_some() { 200 } else { 401 })).await;

    let profile: Profile = serde_json::from_str(PROFILE)?;
    profile.validate()?;

    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path());
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    let ringback = Ringback::open(config).await?;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });
    let mut attempts = ringback.watch();

    let app = ringback.create_application(NewApplication::named("Acme")).await?.id;
    // A secret that the profile cannot use is refused here, not at the first delivery.
    let wrong = NewEndpoint::at(&customer.url).profile(profile.clone()).secret("whsec_abc");
    let refused = ringback.create_endpoint(app, wrong).await;
    println!("refused: {}", refused.expect_err("it has another prefix"));
    ringback.create_endpoint(app, NewEndpoint::at(&customer.url).profile(profile).secret(SECRET)).await?;

    ringback.send(app, NewMessage::bytes("call.ended", r#"{"seconds":53.0}"#)).await?;
    let attempt = attempts.recv().await?;
    assert_eq!(attempt.result, StateKind::Delivered, "{:?}", attempt.outcome);

    let received = customer.received();
    let event = verify(&received[0]).expect("the customer accepted it");
    println!("{}\n{event}", received[0].header("x-acme-signature").unwrap_or_default());
    assert_eq!(event["kind"], "call.ended");
    // The payload's bytes are sent as they were given: 53.0 stays 53.0.
    assert!(received[0].body.ends_with(br#""call":{"seconds":53.0}}"#));

    ringback.shutdown().await?;
    running.await??;
    Ok(())
}
