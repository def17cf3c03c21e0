//! A program that embeds the sender: open a folder, register a customer's endpoint, send an event, read the log.
//!
//!     cargo run --example embed

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks")]

#[allow(clippy::unwrap_used, reason = "a helper of the tests")]
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::error::Error;

use receiver::Receiver;
use ringback::levers::{CallOutput, PassFail, PhoneCallEnded, Sentiment};
use ringback::store::AttemptQuery;
use ringback::{Config, NewApplication, NewEndpoint, NewMessage, Ringback, StateKind};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let customer = Receiver::answering(204).await;

    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path());
    // Only public addresses are called by https, unless the operator says otherwise.
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    let ringback = Ringback::open(config).await?;

    // Deliveries are made while this runs.
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });
    let mut attempts = ringback.watch();

    let acme = ringback.create_application(NewApplication::named("Acme").uid("customer-7")).await?;
    let endpoint = NewEndpoint::at(&customer.url).profile("levers").event_type("phone_call.ended");
    let endpoint = ringback.create_endpoint(acme.id, endpoint).await?;
    let secret = ringback.endpoint_secret(acme.id, endpoint.id)?.expect("the profile signs");
    println!("the customer verifies with a secret of {} characters", secret.expose().len());

    let call = PhoneCallEnded {
        number_from: "+15074106928".into(),
        number_to: "+971585420805".into(),
        duration: 53,
        ..PhoneCallEnded::new("069652c8-d01e", PassFail::Pass, CallOutput::PaymentPromise, Sentiment::Neutral)
    };
    // From here on it is on disk: a crash loses nothing.
    let sent = ringback.send(acme.id, NewMessage::from(call).event_id("069652c8-d01e")).await?;

    let attempt = attempts.recv().await?;
    assert_eq!((attempt.delivery.message, attempt.result), (sent.id, StateKind::Delivered));

    let log = ringback.attempts(acme.id, AttemptQuery { limit: 10, ..AttemptQuery::default() }).await?;
    for attempt in &log.items {
        let millis = attempt.timing.total_us / 1000;
        println!("{} attempt {} to {}: {:?} in {millis} ms", sent.id, attempt.number, attempt.url, attempt.outcome);
    }
    assert_eq!(log.items.len(), 1);

    ringback.shutdown().await?;
    running.await??;

    let received = customer.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("svix-id"), Some(sent.id.to_string().as_str()));
    let event: serde_json::Value = serde_json::from_slice(&received[0].body)?;
    assert_eq!((&event["type"], &event["data"]["duration"]), (&"phone_call.ended".into(), &53.into()));
    println!("the customer got {event}");
    Ok(())
}
