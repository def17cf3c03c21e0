//! Messages of one ordering key reach a receiver that fails at first in their order, whatever has to be tried again. Then all
//! of them are replayed to another endpoint, in the same order.
//!
//!     cargo run --example order_and_replay

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks")]

#[allow(clippy::unwrap_used, reason = "a helper of the tests")]
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::error::Error;
use std::time::Duration;

use receiver::{Behaviour, Receiver};
use ringback::{
    Config, JobStatus, NewApplication, NewEndpoint, NewMessage, NewReplay, ReplayFilter, ReplayWhat, RetryPolicy,
    Ringback,
};
use serde_json::{Value, json};

const CALLS: [&str; 3] = ["call_1", "call_2", "call_3"];
const STEPS: u64 = 5;
/// So many requests are answered 503 before the customer is up.
const FAILURES: usize = 7;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let customer = Receiver::start(|_, before| Behaviour::Answer(if before < FAILURES { 503 } else { 204 })).await;
    let archive = Receiver::answering(204).await;

    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path());
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    let ringback = Ringback::open(config).await?;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });

    let app = ringback.create_application(NewApplication::named("Acme")).await?.id;
    // Retries within a moment, so that the example ends; the profiles' own schedules take hours.
    let impatient = RetryPolicy::delays([Duration::from_millis(20); 20]);
    let hook = NewEndpoint::at(&customer.url).event_type("call.*").retry(impatient);
    let endpoint = ringback.create_endpoint(app, hook).await?.id;
    let spare = ringback.create_endpoint(app, NewEndpoint::at(&archive.url).event_type("nothing.yet")).await?.id;

    // A call's steps must arrive in order: its id is the ordering key. The calls do not wait for each other.
    for step in 1..=STEPS {
        for call in CALLS {
            let message = NewMessage::value("call.progress", &json!({"call": call, "step": step}));
            ringback.send(app, message.ordering_key(call)).await?;
        }
    }
    let sent = CALLS.len() * STEPS as usize;
    let arrived = customer.expect(sent + FAILURES).await;
    // What failed came again, and nothing behind it came before that.
    for call in CALLS {
        let steps = steps(&arrived, call)?;
        assert!(steps.is_sorted(), "{call}: {steps:?}");
        println!("{call} arrived as {steps:?}");
    }

    let delivered = ReplayFilter { what: ReplayWhat::Delivered, endpoint: Some(endpoint), ..ReplayFilter::default() };
    // A moment passes between an answer and its record.
    while ringback.preview_replay(app, delivered.clone()).await?.count < sent as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut job = ringback.start_replay(app, NewReplay::from(delivered).to(spare).rate(1000)).await?;
    while job.status == JobStatus::Running {
        tokio::time::sleep(Duration::from_millis(10)).await;
        job = ringback.replay_job(job.id).await?;
    }
    assert_eq!((job.status, job.replayed, job.skipped), (JobStatus::Finished, sent as u64, 0));
    let arrived = archive.expect(sent).await;
    for call in CALLS {
        assert_eq!(steps(&arrived, call)?, (1..=STEPS).collect::<Vec<_>>(), "{call}: each once, and in order");
    }
    println!("all {sent} were replayed to another endpoint, in the same order");

    ringback.shutdown().await?;
    running.await??;
    Ok(())
}

/// The steps of a call, as they arrived.
fn steps(arrived: &[receiver::Received], call: &str) -> Result<Vec<u64>, Box<dyn Error>> {
    let bodies = arrived.iter().map(|one| serde_json::from_slice(&one.body)).collect::<Result<Vec<Value>, _>>()?;
    Ok(bodies.iter().filter(|body| body["call"] == call).filter_map(|body| body["step"].as_u64()).collect())
}
