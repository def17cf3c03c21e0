//! The sender's process: it delivers, and sends numbered messages as fast as it can until it is killed.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use ringback::{ApplicationId, Config, Error, NewApplication, NewEndpoint, NewMessage, RetryPolicy, Ringback};

use super::{SECRET, UNSETTLED, payload, support};

/// How many messages are being sent at once.
const TASKS: u64 = 8;
const UID: &str = "crash";
const NAMES: [&str; 2] = ["one", "two"];

pub fn config(folder: &Path) -> Config {
    let mut config = support::config(folder);
    config.max_unsettled = UNSETTLED;
    config
}

/// Sends from `start` on. Each number is printed with its message's id once, and only if, `send` has returned `Ok`.
pub async fn send(folder: &Path, receiver: &str, start: u64, compacting: bool) {
    let ringback = Ringback::open(config(folder)).await.unwrap();
    let application = application(&ringback, receiver).await;
    let running = support::run(&ringback);
    say("ready");
    for task in 0..TASKS {
        let ringback = ringback.clone();
        // Numbers with the same remainder are sent one after the other: that is the order of their keys.
        let first = start + (task + TASKS - start % TASKS) % TASKS;
        tokio::spawn(async move {
            for number in (first..).step_by(TASKS as usize) {
                // Also what was sent before the last kill and not answered: it must be stored once.
                let mut message = NewMessage::bytes("crash.test", payload(number)).idempotency_key(number.to_string());
                if let Some(key) = ordering_key(number) {
                    message = message.ordering_key(key.to_string());
                }
                let sent = ringback.send(application, message).await.unwrap();
                say(&format!("sent {number} {}", sent.id));
            }
        });
    }
    if compacting {
        loop {
            ringback.compact().await.unwrap();
            say("compacted");
        }
    }
    running.await.unwrap();
}

/// The ordering key of every eighth of what a task sends.
pub fn ordering_key(number: u64) -> Option<u64> {
    (number / TASKS).is_multiple_of(8).then_some(number % TASKS)
}

/// A line in one write, so that a kill leaves no half of one.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The application and its endpoints; what an earlier run had made of them by its end is not made again.
async fn application(ringback: &Ringback, receiver: &str) -> ApplicationId {
    let application = match ringback.application_by_uid(UID) {
        Ok(application) => application,
        Err(Error::NotFound(_)) => ringback.create_application(NewApplication::named("Crash").uid(UID)).await.unwrap(),
        Err(error) => panic!("{error}"),
    };
    for name in NAMES {
        if ringback.endpoint_by_uid(application.id, name).is_ok() {
            continue;
        }
        let endpoint = NewEndpoint::at(format!("{receiver}/{name}"))
            .uid(name)
            .secret(SECRET)
            .timeout(Duration::from_millis(300))
            .retry(RetryPolicy::delays([Duration::from_millis(20); 50]));
        ringback.create_endpoint(application.id, endpoint).await.unwrap();
    }
    application.id
}

/// The application that the killed senders sent to.
pub fn application_of(ringback: &Ringback) -> ApplicationId {
    ringback.application_by_uid(UID).unwrap().id
}

/// How many endpoints each message goes to, at most.
pub const fn endpoints() -> usize {
    NAMES.len()
}
