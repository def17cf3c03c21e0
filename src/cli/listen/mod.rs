//! `ringback listen`: a receiver on this machine, which verifies what arrives and shows it.
//!
//! ```text
//!   connections ─▶ receiver: verify, answer as told ─▶ a bounded channel ─▶ shown here, one after the other
//! ```

mod arrived;
mod receiver;

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::arguments::ProfileChoice;
use super::exit::{Exit, Problem};
use super::out::Out;
use super::secrets::Source;
use super::times;
use crate::server::Listening;
use arrived::{Arrived, Verdict};
use receiver::Receiver;

/// How many requests may wait to be shown; more wait for their answer.
const WAITING: usize = 64;
/// The most connections at once.
const CONNECTIONS: usize = 256;
/// How long the last answers may take once enough has arrived.
const GRACE: Duration = Duration::from_secs(2);

/// Receives events on this machine, verifies them and shows them
///
/// With --exit-after, the exit code is 0 only if none of them failed to verify.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The port; 0 is a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Whose way they are sent: svix, standard-webhooks, levers, levrage, subverse, or @file.json
    #[arg(long, value_name = "NAME", default_value = "svix")]
    profile: ProfileChoice,
    #[command(flatten)]
    secret: Source,
    /// The endpoint's URL as the sender has it, for profiles that sign it [default: from the request]
    #[arg(long)]
    url: Option<String>,
    /// How far the signature's time may be from now
    #[arg(long, value_name = "DURATION", value_parser = times::duration, default_value = "5m")]
    tolerance: Duration,
    /// What to answer; given more than once, one after the other, and the last for the rest
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Vec<u16>,
    /// How long to wait before answering, such as 2s
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    delay: Option<Duration>,
    /// End after so many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    exit_after: Option<u64>,
    /// Print each as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Receives until it is interrupted, or has received enough.
pub(super) async fn run(options: Options) -> Result<Exit, Problem> {
    let out = Out::new(options.json);
    let profile = options.profile.profile()?;
    let secrets = options.secret.given(&profile)?;
    let listener = tokio::net::TcpListener::bind((options.host, options.port))
        .await
        .map_err(|error| not_listening(&options, &error))?;
    let address = listener.local_addr().map_err(|error| Problem::failed(error.to_string()))?;
    let (show, mut arrivals) = mpsc::channel(WAITING);
    out.note(&format!("listening on http://{address}, as a receiver of the profile {}", profile.name));
    if secrets.is_empty() {
        out.note("nothing is verified: no secret was given (--secret-file, RINGBACK_SECRET)");
    }
    let receiver = Receiver {
        profile,
        secrets,
        url: options.url,
        tolerance: options.tolerance,
        statuses: options.status,
        delay: options.delay.unwrap_or_default(),
        most: options.exit_after,
        show,
    };
    let listening = Listening::start(listener, receiver::router(receiver), CONNECTIONS);
    let shown = tokio::select! {
        shown = show_all(out, &mut arrivals, options.exit_after) => shown,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    };
    arrivals.close();
    listening.stop(GRACE).await;
    shown
}

fn not_listening(options: &Options, error: &std::io::Error) -> Problem {
    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
    let what = if taken { "another program has it; choose another with --port".to_owned() } else { error.to_string() };
    Problem::failed(format!("cannot listen on {}: {what}", std::net::SocketAddr::new(options.host, options.port)))
}

async fn show_all(out: Out, arrivals: &mut mpsc::Receiver<Arrived>, most: Option<u64>) -> Result<Exit, Problem> {
    let mut exit = Exit::Done;
    let mut count = 0;
    while let Some(arrived) = arrivals.recv().await {
        arrived.show(out)?;
        if matches!(arrived.verdict, Verdict::Refused(_)) {
            exit = Exit::Failed;
        }
        count += 1;
        if most.is_some_and(|most| count >= most) {
            break;
        }
    }
    Ok(exit)
}
