//! `ringback compact`: the disk gets back what was removed.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use super::doctor::bytes;
use super::exit::{Exit, Problem};
use super::interrupt::Interrupt;
use super::records::Record;
use super::target::{Session, Target};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Gives back the disk space of messages that were removed
///
/// All that is kept is copied to new files, and the old ones are removed. A server goes on meanwhile. The disk needs room
/// for the copy while it is made. Where no server runs on a folder, the command does it by itself.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compaction {
    status: String,
    copied_bytes: Option<u64>,
    of_bytes: Option<u64>,
    before_bytes: Option<u64>,
    after_bytes: Option<u64>,
    error: Option<String>,
}

/// Compacts, and waits for the end.
pub(super) async fn run(session: &Session) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let mut state: Record<Compaction> = api.post(&["compact"], &Vec::new(), &json!({})).await?;
    let bar = match out.json() || !std::io::stderr().is_terminal() {
        true => ProgressBar::hidden(),
        false => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5)),
    };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {eta} left");
    let bar = bar.with_style(style.expect("the template names what a bar has"));
    let mut interrupt = Interrupt::listen()?;
    while state.value.status == "running" {
        bar.set_length(state.value.of_bytes.unwrap_or(0));
        bar.set_position(state.value.copied_bytes.unwrap_or(0));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = interrupt.came() => {
                bar.abandon();
                out.note(match session.offline() {
                    true => "given up: the folder is as it was",
                    false => "the server goes on without you",
                });
                return Ok(if session.offline() { Exit::Failed } else { Exit::Done });
            }
        }
        state = api.get(&["compact"], &Vec::new()).await?;
    }
    bar.finish_and_clear();
    if out.json() {
        out.raw(&state.raw)?;
    }
    let Compaction { before_bytes, after_bytes, error, .. } = state.value;
    match (before_bytes, after_bytes) {
        (Some(before), Some(after)) => {
            if !out.json() {
                out.field("before", &bytes(before))?;
                out.field("after", &bytes(after))?;
            }
            Ok(Exit::Done)
        }
        (_, _) => Err(Problem::failed(error.unwrap_or_else(|| "the server was started anew meanwhile".to_owned()))),
    }
}
