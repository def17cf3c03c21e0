//! A program that sends is killed before anything was delivered. The next one that opens its folder delivers.
//!
//!     cargo run --example survive_crash

#![allow(clippy::disallowed_methods, reason = "a program spawns its own tasks")]

#[allow(clippy::unwrap_used, reason = "a helper of the tests")]
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use receiver::Receiver;
use ringback::{Config, NewApplication, NewEndpoint, NewMessage, Ringback};

const BEFORE_THE_CRASH: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, folder, url] = args.as_slice()
        && role == "child"
    {
        return send_for_ever(Path::new(folder), url).await;
    }

    let customer = Receiver::answering(204).await;
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .arg(folder.path())
        .arg(&customer.url)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut sent: BTreeSet<String> = said.by_ref().take(BEFORE_THE_CRASH).collect::<Result<_, _>>()?;
    // SIGKILL: it can tidy nothing up.
    child.kill()?;
    child.wait()?;
    // What it said between the last line that was read and its end counts as well.
    sent.extend(said.map_while(Result::ok));
    println!("the sender was killed after {} messages; {} were delivered", sent.len(), customer.count());
    assert_eq!(customer.count(), 0);

    let ringback = open(folder.path()).await?;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await }
    });
    while ringback.health().await?.open > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    ringback.shutdown().await?;
    running.await??;

    let received: BTreeSet<String> =
        customer.received().iter().filter_map(|request| request.header("svix-id").map(str::to_owned)).collect();
    println!("the next one delivered {}", received.len());
    assert!(received.is_superset(&sent), "lost: {:?}", sent.difference(&received));
    Ok(())
}

async fn open(folder: &Path) -> Result<Ringback, Box<dyn Error>> {
    let mut config = Config::new(folder);
    config.egress.allowed_networks.push("127.0.0.0/8".parse()?);
    Ok(Ringback::open(config).await?)
}

/// Sends until it is killed, and says what it has sent. It never calls `run`, so nothing is delivered.
async fn send_for_ever(folder: &Path, url: &str) -> Result<(), Box<dyn Error>> {
    let ringback = open(folder).await?;
    let app = ringback.create_application(NewApplication::named("Acme")).await?.id;
    ringback.create_endpoint(app, NewEndpoint::at(url)).await?;
    loop {
        let sent = ringback.send(app, NewMessage::bytes("call.ended", "{}")).await?;
        println!("{}", sent.id);
    }
}
