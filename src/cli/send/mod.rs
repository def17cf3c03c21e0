//! `ringback send`: one message, or a file of them.

mod bulk;
mod lines;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use ringback::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::input;
use super::client::Posted;
use super::exit::{Exit, Problem};
use super::records::{Message, Record};
use super::target::{Session, Target};
use super::times;

/// Sends a message, or a file of messages, to an application's endpoints
///
/// The payload is sent as it stands in the file, to the byte. It is stored when the command ends; the exit code says
/// nothing about receivers: `ringback show` does.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("form").required(true).args(["event_type", "ndjson"]))]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// The file with the payload, which is JSON; `-` or nothing is the standard input
    #[arg(conflicts_with_all = ["with", "ndjson"])]
    file: Option<PathBuf>,
    /// The event type, such as call.completed
    #[arg(long = "type", value_name = "TYPE", id = "event_type")]
    event_type: Option<String>,
    /// The payload itself, in place of a file
    #[arg(long, value_name = "JSON", conflicts_with = "ndjson")]
    with: Option<String>,
    /// Your own id of the event: a second event of the same id is refused
    #[arg(long, value_name = "ID", conflicts_with = "ndjson")]
    event_id: Option<String>,
    /// A channel that it happened in; can be given more than once
    #[arg(long, value_name = "CHANNEL", conflicts_with = "ndjson")]
    channel: Vec<String>,
    /// A key under which a repeated send stores nothing new
    #[arg(long, value_name = "KEY", conflicts_with = "ndjson")]
    idempotency_key: Option<String>,
    /// Messages of one key reach each endpoint in the order of their acceptance
    #[arg(long, value_name = "KEY", conflicts_with = "ndjson")]
    ordering_key: Option<String>,
    /// Not to be attempted before then: a time such as 2026-01-31T08:30:00Z, or a duration from now such as 15m
    #[arg(long, value_name = "WHEN", value_parser = times::ahead, conflicts_with = "ndjson")]
    deliver_at: Option<Timestamp>,
    /// No attempt starts after then
    #[arg(long, value_name = "WHEN", value_parser = times::ahead, conflicts_with_all = ["ndjson", "max_age"])]
    expire_at: Option<Timestamp>,
    /// No attempt starts later than this after it was accepted, or after --deliver-at; whole seconds
    #[arg(long, value_name = "DURATION", value_parser = times::whole_seconds, conflicts_with = "ndjson")]
    max_age: Option<Duration>,
    /// A label to find, cancel and erase it by, such as user:123; can be given more than once
    #[arg(long, value_name = "TAG", conflicts_with = "ndjson")]
    tag: Vec<String>,
    /// A file of messages in place of one, one JSON object a line: {"eventType":"…","payload":…,"eventId":"…","channels":[…]}
    ///
    /// Each line has an idempotency key made of its number, its bytes and the --run-id, so the same file can be sent
    /// again after an error: what was stored is not stored twice, a line that was corrected is sent.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Tells runs apart: with another id, the same lines are sent again
    #[arg(long, value_name = "ID", requires = "ndjson", default_value = "")]
    run_id: String,
    /// How many messages of the file are sent at once
    #[arg(long, value_name = "N", requires = "ndjson", default_value_t = 128,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
}

/// A message as the API takes it. The payload's bytes stay as they are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageIn<'a> {
    event_type: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    channels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
}

/// Sends.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    match (&options.ndjson, &options.event_type) {
        (Some(file), _) => {
            let (told, bite) = (Cell::new(false), options.in_flight.into());
            let run = bulk::Run { app: &options.app, run_id: &options.run_id, bite, told: &told };
            bulk::send(session, run, file).await
        }
        (None, Some(event_type)) => one(session, &options, event_type).await,
        (None, None) => Err(Problem::usage("give --type TYPE, or --ndjson FILE")),
    }
}

async fn one(session: &Session, options: &Options, event_type: &str) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let given = match &options.with {
        Some(text) => text.clone().into_bytes(),
        None => input(options.file.as_deref()).await?,
    };
    let payload: &RawValue =
        serde_json::from_slice(&given).map_err(|error| Problem::usage(format!("the payload is not JSON: {error}")))?;
    let message = MessageIn {
        event_type,
        payload,
        event_id: options.event_id.as_deref(),
        channels: &options.channel,
        ordering_key: options.ordering_key.as_deref(),
        deliver_at: options.deliver_at,
        expire_at: options.expire_at,
        max_age: options.max_age.map(|age| age.as_secs()),
        tags: &options.tag,
    };
    let body = serde_json::to_vec(&message).map_err(|error| Problem::failed(error.to_string()))?;
    let path = ["app", &options.app, "msg"];
    let query = vec![("with_content", "false".to_owned())];
    let key = options.idempotency_key.as_deref();
    let Posted { value: sent, repeated } = api.post_bytes::<Record<Message>>(&path, &query, body.into(), key).await?;
    if repeated {
        out.note("it had been sent before under this key: nothing new is stored");
    }
    if out.json() {
        out.raw(&sent.raw)?;
    } else {
        out.field("id", &sent.value.id)?;
        out.field("goes", &sent.value.went())?;
    }
    let routed = sent.value.routing["to"].as_array().is_some_and(|to| !to.is_empty());
    if routed && let Some(why) = session.not_delivering().await {
        out.note(&format!("it is stored, and not delivered yet: {why}"));
    }
    Ok(Exit::Done)
}
