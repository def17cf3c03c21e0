//! A receiver that is down makes dead letters. When it is back, a replay job delivers them.
//!
//!     cargo run --example replay

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks")]

#[allow(clippy::unwrap_used, reason = "a helper of the tests")]
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use receiver::{Behaviour, Receiver};
use ringback::store::DeadQuery;
use ringback::{
    Config, JobStatus, NewApplication, NewEndpoint, NewMessage, NewReplay, ReplayFilter, RetryPolicy, Ringback,
    StateKind,
};

const MESSAGES: u64 = 25;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let up = Arc::new(AtomicBool::new(false));
    let customer = Receiver::start({
        let up = Arc::clone(&up);
        move |_, _| Behaviour::Answer(if up.load(Ordering::Relaxed) { 204 } else { 503 })
    })
    .await;

    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path());
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    // An endpoint that fails ten times in a row would rest, longer each time; here all is to fail at once.
    config.breaker_failures = 0;
    let ringback = Ringback::open(config).await?;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });

    let app = ringback.create_application(NewApplication::named("Acme")).await?.id;
    // Two retries within a moment, so that the example ends; the profiles' own schedules take hours.
    let impatient = RetryPolicy::delays([Duration::from_millis(20); 2]);
    let endpoint = ringback.create_endpoint(app, NewEndpoint::at(&customer.url).retry(impatient)).await?.id;
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let message = NewMessage::bytes("invoice.paid", format!(r#"{{"number":{number}}}"#));
        sent.push(ringback.send(app, message).await?.id);
    }

    // Each is tried three times and then gives up.
    let filter = ReplayFilter { endpoint: Some(endpoint), ..ReplayFilter::default() };
    while ringback.preview_replay(app, filter.clone()).await?.count < MESSAGES {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let letters = ringback.dead_letters(app, DeadQuery { limit: 100, ..DeadQuery::default() }).await?;
    println!("{} dead letters after {} requests", letters.items.len(), customer.count());
    assert_eq!(customer.count() as u64, MESSAGES * 3);

    up.store(true, Ordering::Relaxed);
    let mut job = ringback.start_replay(app, NewReplay::from(filter.clone()).rate(1000)).await?;
    println!("job {} replays {}", job.id, job.total);
    while job.status == JobStatus::Running {
        tokio::time::sleep(Duration::from_millis(10)).await;
        job = ringback.replay_job(job.id).await?;
    }
    assert_eq!((job.status, job.replayed), (JobStatus::Finished, MESSAGES));

    for id in &sent {
        loop {
            let delivery = ringback.deliveries(app, *id).await?.remove(0);
            if delivery.state.is_terminal() {
                assert_eq!((delivery.state.kind(), delivery.progress.round), (StateKind::Delivered, 2));
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(ringback.preview_replay(app, filter.clone()).await?.count, 0);
    println!("all {} are delivered, under their first ids", sent.len());

    ringback.shutdown().await?;
    running.await??;
    Ok(())
}
