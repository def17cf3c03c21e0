//! `ringback send --ndjson`: many messages, some at once, and a word on each that was not stored.
//!
//! Invariants: a line's refusal costs no other line anything; a line's key is made of its number and its bytes, so a second
//! run stores nothing twice; no more lines are in memory than are sent at once.

use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

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

/// How many bytes are sent at once, the line that goes beyond included.
const BITE_BYTES: usize = 4 << 20;
/// How long the next line may take to go out with those before it.
const TOGETHER: Duration = Duration::from_millis(10);
/// The longest pause before a line is tried again, whatever the server says.
const MOST_PATIENT: Duration = Duration::from_secs(300);

/// What all lines of a run share.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) app: &'a str,
    pub(super) run_id: &'a str,
    /// How many lines are sent at once.
    pub(super) bite: usize,
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

/// Sends the lines, a bite after the other. What is read goes out while the next line is waited for: whoever writes them may
/// take a break.
async fn send_all(
    session: &Session,
    run: Run<'_>,
    mut lines: Lines<impl AsyncBufRead + Unpin>,
    bar: &ProgressBar,
    counts: &mut Counts,
) -> Result<(), Sending> {
    let mut at_end = false;
    while !at_end {
        let mut bite = Vec::new();
        let mut bytes = 0;
        while bite.len() < run.bite && bytes < BITE_BYTES {
            let next = async {
                // Nothing is lost if this is given up.
                match bite.is_empty() {
                    true => Some(lines.next().await),
                    false => tokio::time::timeout(TOGETHER, lines.next()).await.ok(),
                }
            };
            let Some(line) = next.await else { break };
            let Some(line) = line.map_err(Sending::Unreadable)? else {
                at_end = true;
                break;
            };
            counts.lines += 1;
            bar.set_position(lines.read);
            let number = counts.lines;
            match line {
                Line::Read(line) if line.trim_ascii().is_empty() => counts.empty += 1,
                Line::Read(line) => match keyed(run.run_id, number, &line) {
                    Ok(line) => {
                        bytes += line.len();
                        bite.push((number, line));
                    }
                    // The server could not even say which member is wrong.
                    Err(error) => {
                        let text = format!("is not a JSON object: {error}");
                        refused(session, bar, counts, number, &text).map_err(Sending::Failed)?;
                    }
                },
                Line::TooLong => {
                    refused(session, bar, counts, number, "is longer than 17 MiB").map_err(Sending::Failed)?;
                }
            }
        }
        send_bite(session, run, bite, bar, counts).await.map_err(Sending::Failed)?;
        bar.set_message(format!("{} stored", counts.stored));
    }
    Ok(())
}

/// Sends some lines, those that there is no room for as often as the server asks for patience.
async fn send_bite(
    session: &Session,
    run: Run<'_>,
    mut bite: Vec<(u64, Vec<u8>)>,
    bar: &ProgressBar,
    counts: &mut Counts,
) -> Result<(), Problem> {
    while !bite.is_empty() {
        let mut text = Vec::with_capacity(bite.iter().map(|(_, line)| line.len() + 1).sum());
        for (_, line) in &bite {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let sent = session.api.post_lines::<Stored>(&["app", run.app, "msg", "ndjson"], text.into()).await;
        let results = match sent {
            Ok(results) => results,
            Err(Refusal::Answered { status: 429 | 503, retry_after: Some(wait), text }) => {
                wait_for_room(session, run, wait, &text).await;
                continue;
            }
            Err(refusal) => return Err(refusal.into()),
        };
        if results.len() != bite.len() {
            return Err(Problem::new(Exit::Unreachable, "the server's answer ended before its last line"));
        }
        let mut again = Vec::new();
        let mut busy: Option<(Duration, String)> = None;
        for ((number, line), result) in bite.into_iter().zip(results) {
            match result {
                Err(Refusal::Answered { status: 429 | 503, retry_after: Some(wait), text }) => {
                    busy = Some(busy.map_or((wait, text), |(longest, text)| (longest.max(wait), text)));
                    again.push((number, line));
                }
                result => note(session, bar, counts, Ended { number, result })?,
            }
        }
        bite = again;
        if let Some((wait, text)) = busy {
            wait_for_room(session, run, wait, &text).await;
        }
    }
    Ok(())
}

async fn wait_for_room(session: &Session, run: Run<'_>, wait: Duration, text: &str) {
    if !run.told.replace(true) {
        session.out.note(&format!("the server takes no more for now, and is waited for: {text}"));
    }
    tokio::time::sleep(wait.clamp(Duration::from_millis(100), MOST_PATIENT)).await;
}

/// A line with its key as its first member, unless it has one of its own. The other bytes stay as they are.
fn keyed(run_id: &str, number: u64, line: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let members = serde_json::from_slice::<std::collections::BTreeMap<String, &RawValue>>(line)?;
    let line = line.trim_ascii();
    if members.contains_key("idempotencyKey") {
        return Ok(line.to_vec());
    }
    let key = key(run_id, number, line);
    let comma = if members.is_empty() { "" } else { "," };
    let mut keyed = format!(r#"{{"idempotencyKey":"{key}"{comma}"#).into_bytes();
    keyed.extend_from_slice(&line[1..]);
    Ok(keyed)
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

    #[test]
    fn a_key_stands_in_its_line_beside_all_that_was_there() {
        let keyed = |line: &str| String::from_utf8(keyed("r", 7, line.as_bytes()).unwrap()).unwrap();
        let key = key("r", 7, br#"{ "payload": {"n": 1.0} }"#);
        assert_eq!(
            keyed(r#" { "payload": {"n": 1.0} }"#),
            format!(r#"{{"idempotencyKey":"{key}", "payload": {{"n": 1.0}} }}"#)
        );
        assert!(serde_json::from_str::<serde_json::Value>(&keyed("{}")).unwrap()["idempotencyKey"].is_string());
        let own = r#"{"idempotencyKey":"mine","eventType":"a"}"#;
        assert_eq!(keyed(own), own);
        assert!(super::keyed("", 1, b"[1]").is_err());
    }
}
