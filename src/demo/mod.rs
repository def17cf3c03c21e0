//! `ringback demo`: everything at once, on this machine, with nothing else installed.
//!
//! ```text
//!   parent ─────────────────────────────────────────────┐        child: `ringback demo-sender`
//!   │ stage     plays the acts, owns what is known       │ ─commands─▶ ┌───────────────────────┐
//!   │ process   starts, kills, starts again              │ ◀─reports── │ sender  the public API │
//!   │ receiver  HTTP on 127.0.0.1, for three vendors ◀───┼──requests── │         sled in a      │
//!   │ customer  judges (verify, documents), answers      │             │         temporary      │
//!   │ record, report, screen: what was seen, what holds  │             │         folder         │
//!   └────────────────────────────────────────────────────┘             └───────────────────────┘
//! ```
//!
//! Invariants: the receivers verify with code of their own (`verify.rs`); the exit code is 0 only if every claim of
//! `report.rs` holds; it all ends within [`LIMIT`].

mod customer;
mod documents;
mod lines;
mod process;
mod receiver;
mod record;
mod report;
mod scenario;
mod scratch;
mod screen;
mod sender;
mod stage;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::cli::colours;
use scratch::Scratch;
use screen::Screen;
use stage::Stage;

pub(crate) use sender::SenderOptions;
pub(crate) use sender::run as run_sender;

/// After this the demo has failed.
const LIMIT: Duration = Duration::from_secs(55);

/// How the demo is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print nothing but the final report, as JSON
    #[arg(long)]
    json: bool,
    /// Keep the queue's folder
    #[arg(long)]
    keep: bool,
}

/// Runs the demo. The exit code says whether all of it held.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(!options.json, colours(&std::io::stdout()));
    let mut stage = Stage::set_up(screen, Scratch::new(options.keep)?)?;
    let played = tokio::select! {
        played = tokio::time::timeout(LIMIT, stage.play()) => played.ok(),
        _ = tokio::signal::ctrl_c() => Some(Err(anyhow!("it was interrupted"))),
    };
    let played =
        played.unwrap_or_else(|| Err(anyhow!("after {} s it still waited for {}", LIMIT.as_secs(), stage.waits_for())));
    let report = stage.end(played).await;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).context("the report has no JSON form")?);
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
