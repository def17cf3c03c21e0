//! Sends every vendor's example events to receivers that were written after the vendors' pages.
//!
//! `tests/receivers/run` starts such receivers and calls this; see there.
//!
//!     LEVERS_SECRET=… LEVRAGE_SECRET=… SUBVERSE_TOKEN=… \
//!         cargo run --example send_to_receivers -- http://127.0.0.1:8001 http://127.0.0.1:8002

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks and reads its environment")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use ringback::store::AttemptQuery;
use ringback::{
    ApplicationId, Config, Endpoint, MessageId, NewApplication, NewEndpoint, Ringback, StateKind, example_event_types,
};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let receivers: Vec<String> = std::env::args().skip(1).collect();
    if receivers.is_empty() {
        eprintln!("usage: send_to_receivers <base URL of a receiver>...");
        return Ok(ExitCode::from(2));
    }
    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path());
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    let ringback = Ringback::open(config).await?;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });

    let app = ringback.create_application(NewApplication::named("Receivers")).await?.id;
    let mut failed = 0;
    for receiver in &receivers {
        for new in endpoints(receiver)? {
            let endpoint = ringback.create_endpoint(app, new).await?;
            let profile = endpoint.settings.resolve_profile()?.name;
            for event_type in example_event_types(&profile) {
                // To this endpoint alone, so that each receiver gets each event once.
                let sent = ringback.send_test(app, endpoint.id, event_type).await?;
                failed += usize::from(!was_delivered(&ringback, app, &endpoint, sent.id).await?);
            }
        }
    }
    ringback.shutdown().await?;
    running.await??;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The endpoints that a customer of each vendor would register, at one receiver.
fn endpoints(receiver: &str) -> Result<[NewEndpoint; 3], Box<dyn Error>> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let at = |vendor: &str| NewEndpoint::at(format!("{}/{vendor}", receiver.trim_end_matches('/'))).profile(vendor);
    let mut subverse = at("subverse").header("Authorization", format!("Bearer {}", variable("SUBVERSE_TOKEN")?));
    for event_type in example_event_types("subverse") {
        subverse = subverse.event_type(*event_type);
    }
    Ok([at("levers").secret(variable("LEVERS_SECRET")?), at("levrage").secret(variable("LEVRAGE_SECRET")?), subverse])
}

/// Waits for the first attempt's end. A receiver that refuses is tried again much later, if at all.
async fn was_delivered(
    ringback: &Ringback,
    app: ApplicationId,
    endpoint: &Endpoint,
    message: MessageId,
) -> Result<bool, Box<dyn Error>> {
    let query = AttemptQuery { message: Some(message), limit: 1, ..AttemptQuery::default() };
    loop {
        if let Some(attempt) = ringback.attempts(app, query.clone()).await?.items.pop() {
            let delivered = attempt.result == StateKind::Delivered;
            if !delivered {
                eprintln!("{}: {:?} {:?}", endpoint.settings.url, attempt.outcome, attempt.response);
            }
            return Ok(delivered);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
