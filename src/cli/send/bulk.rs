//! `ringback send --ndjson`: many messages, several at once, and a word on each that was not stored.
//!
//! Invariants: a line's refusal costs no other line anything; a line's key is made of its number and its bytes, so a second
//! run stores nothing twice; no more lines are in memory than are under way.

use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, BufReader};

use super::lines::{LONGEST, Line, Lines};
use crate::cli::client::{Posted, Refusal};
use crate::cli::exit::{Exit, Problem};
use crate::cli::interrupt::Interrupt;
use crate::cli::target::Session;

/// The longest pause before a line is tried again, whatever the server says.
const MOST_PATIENT: Duration = Duration::from_secs(300);

/// What all lines of a run share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) app: &'a str,
    pub(super) run_id: &'a str,
    pub(super) in_flight: usize,
    /// Whether it was said that the server is busy.
    pub(super) told: &'a Cell<bool>,
}

/// What the answer to a send says.
#[derive(Deserialize)]
struct Stored {
    id: String,
}

/// A line that has been dealt with.
struct Ended {
    number: u64,
    result: Result<Posted<Stored>, Refusal>,
}

/// How the run stands.
#[derive(Default)]
struct Counts {
    lines: u64,
    empty: u64,
    stored: u64,
    repeated: u64,
    refused: u64,
}

/// Sends every line of a file.
pub(super) async fn send(session: &Session, run: Run<'_>, file: &Path) -> Result<Exit, Problem> {
    let unreadable = |error: std::io::Error| Problem::usage(format!("{} cannot be read: {error}", file.display()));
    let (reader, size): (Pin<Box<dyn AsyncBufRead>>, Option<u64>) = if file == Path::new("-") {
        (Box::pin(BufReader::new(tokio::io::stdin())), None)
    } else {
        let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let size = opened.metadata().await.map_err(unreadable)?.len();
        (Box::pin(BufReader::with_capacity(1 << 16, opened)), Some(size))
    };
    let bar = progress_bar(session, size);
    let mut counts = Counts::default();
    let mut interrupt = Interrupt::or_terminate()?;
    let sent = tokio::select! {
        sent = send_all(session, run, Lines::new(reader, LONGEST), &bar, &mut counts) => sent,
        () = interrupt.came() => Err(Sending::Interrupted),
    };
    bar.finish_and_clear();
    match sent {
        Ok(()) => conclude(session, &counts).await,
        Err(Sending::Unreadable(error)) => Err(stopped(unreadable(error), &counts)),
        Err(Sending::Failed(problem)) => Err(stopped(problem, &counts)),
        Err(Sending::Interrupted) => Err(stopped(Problem::new(Exit::Interrupted, "interrupted"), &counts)),
    }
}

/// Why a run ended before the file did.
enum Sending {
    Unreadable(std::io::Error),
    Failed(Problem),
    Interrupted,
}

/// Sends the lines. Those that are read go out while the next one is waited for: whoever writes them may take a break.
async fn send_all(
    session: &Session,
    run: Run<'_>,
    mut lines: Lines<impl AsyncBufRead + Unpin>,
    bar: &ProgressBar,
    counts: &mut Counts,
) -> Result<(), Sending> {
    let mut under_way = FuturesUnordered::new();
    let mut at_end = false;
    while !at_end || !under_way.is_empty() {
        tokio::select! {
            line = lines.next(), if !at_end && under_way.len() < run.in_flight => {
                let Some(line) = line.map_err(Sending::Unreadable)? else {
                    at_end = true;
                    continue;
                };
                counts.lines += 1;
                bar.set_position(lines.read);
                match line {
                    Line::Read(line) if line.trim_ascii().is_empty() => counts.empty += 1,
                    Line::Read(line) => under_way.push(one(session, run, counts.lines, line)),
                    Line::TooLong => {
                        let number = counts.lines;
                        refused(session, bar, counts, number, "is longer than 17 MiB").map_err(Sending::Failed)?;
                    }
                }
            }
            Some(ended) = under_way.next() => {
                note(session, bar, counts, ended).map_err(Sending::Failed)?;
                bar.set_message(format!("{} stored", counts.stored));
            }
        }
    }
    Ok(())
}

/// Sends a line, as often as the server asks for patience.
async fn one(session: &Session, run: Run<'_>, number: u64, line: Vec<u8>) -> Ended {
    let line = Bytes::from(line);
    let key = key(run.run_id, number, &line);
    // What is no JSON object is refused here: the server could not even say which member is wrong.
    let checked = serde_json::from_slice::<std::collections::BTreeMap<String, &RawValue>>(&line).map(|_| ());
    if let Err(error) = checked {
        let text = format!("is not a JSON object: {error}");
        return Ended { number, result: Err(Refusal::Answered { status: 422, text, retry_after: None }) };
    }
    let path = ["app", run.app, "msg"];
    let query = vec![("with_content", "false".to_owned())];
    loop {
        let sent = session.api.post_bytes(&path, &query, line.clone(), Some(&key)).await;
        match sent {
            Err(Refusal::Answered { status: 429 | 503, retry_after: Some(wait), text }) => {
                if !run.told.replace(true) {
                    session.out.note(&format!("the server takes no more for now, and is waited for: {text}"));
                }
                tokio::time::sleep(wait.clamp(Duration::from_millis(100), MOST_PATIENT)).await;
            }
            result => return Ended { number, result },
        }
    }
}

/// A key that is the same for the same line of the same run.
fn key(run_id: &str, number: u64, line: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((run_id.len() as u64).to_be_bytes());
    hash.update(run_id);
    hash.update(number.to_be_bytes());
    hash.update(line);
    let digest = hash.finalize();
    let hex: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("line-{hex}")
}

/// Counts a line that has ended, and says what came of it.
///
/// # Errors
/// The server cannot be reached or takes nothing from this token: the other lines would fare no better.
fn note(session: &Session, bar: &ProgressBar, counts: &mut Counts, ended: Ended) -> Result<(), Problem> {
    match ended.result {
        Ok(Posted { value, repeated }) => {
            counts.stored += 1;
            counts.repeated += u64::from(repeated);
            if session.out.json() {
                session.out.value(&json!({"line": ended.number, "id": value.id, "repeated": repeated}))?;
            }
            Ok(())
        }
        Err(refusal @ (Refusal::NoConnection(_) | Refusal::NoAnswer(_))) => Err(refusal.into()),
        Err(refusal @ Refusal::Answered { status: 401 | 403 | 404, .. }) => Err(refusal.into()),
        Err(Refusal::Answered { text, .. }) => refused(session, bar, counts, ended.number, &text),
    }
}

fn refused(session: &Session, bar: &ProgressBar, counts: &mut Counts, number: u64, text: &str) -> Result<(), Problem> {
    counts.refused += 1;
    bar.suspend(|| session.out.note(&format!("line {number}: {text}")));
    if session.out.json() {
        session.out.value(&json!({"line": number, "error": text}))?;
    }
    Ok(())
}

/// What a run that did not come to its end says beside the reason.
fn stopped(problem: Problem, counts: &Counts) -> Problem {
    let messages = if counts.stored == 1 { "message" } else { "messages" };
    let text = format!(
        "{}\nIt stopped after {} {messages}. The same command again goes on where it stopped: what is stored is not \
         stored twice",
        problem.text, counts.stored
    );
    Problem { text: if problem.text.is_empty() { problem.text } else { text }, ..problem }
}

async fn conclude(session: &Session, counts: &Counts) -> Result<Exit, Problem> {
    let Counts { lines, empty, stored, repeated, refused } = counts;
    let mut text = format!("{lines} lines: {stored} stored, {refused} refused");
    if *empty > 0 {
        text.push_str(&format!(", {empty} empty"));
    }
    if *repeated > 0 {
        text.push_str(&format!(
            "; {repeated} of those stored had been sent before (--run-id sends the same lines again)"
        ));
    }
    if session.out.json() {
        session.out.note(&text)
    } else {
        session.out.line(&text)?
    }
    if *stored > 0
        && let Some(why) = session.not_delivering().await
    {
        session.out.note(&format!("they are stored, and not delivered yet: {why}"));
    }
    Ok(if *refused == 0 { Exit::Done } else { Exit::Failed })
}

/// A bar on the standard error, if that is a terminal.
fn progress_bar(session: &Session, size: Option<u64>) -> ProgressBar {
    if session.out.json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr_with_hz(5));
    let template = match size {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {msg}, {eta} left",
        None => "{spinner} {bytes} {msg}",
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template names what a bar has"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lines_key_follows_its_number_its_bytes_and_the_run() {
        let first = key("", 1, b"{}");
        assert_eq!(first, key("", 1, b"{}"));
        let others = [key("", 2, b"{}"), key("", 1, b"{ }"), key("a", 1, b"{}"), key("\u{1}", 1, b"{}")];
        assert!(others.iter().all(|other| *other != first));
        assert!(first.len() <= 256 && first.is_ascii());
    }
}
