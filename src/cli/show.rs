//! `ringback show`: one message and its story.

use serde_json::json;

use super::escape::{escaped, shown};
use super::exit::{Exit, Problem};
use super::json_text;
use super::out::Out;
use super::records::{Attempt, Destination, Message, Record, list};
use super::style::Style;
use super::target::{Session, Target};
use super::times;

/// How much of an answer's body is shown.
const ANSWER: usize = 400;
/// The most endpoints and attempts that are shown.
const MOST: usize = 5_000;

/// Shows a message: its payload, where it went, and every attempt
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// The message's id, or your own id of the event
    message: String,
}

/// Shows a message.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let message: Record<Message> = api.get(&["app", &options.app, "msg", &options.message], &Vec::new()).await?;
    let id = &message.value.id;
    let (destinations, _) =
        list::<Destination>(session, &["app", &options.app, "msg", id, "endpoint"], &Vec::new(), MOST).await?;
    let (mut attempts, more) =
        list::<Attempt>(session, &["app", &options.app, "attempt", "msg", id], &Vec::new(), MOST).await?;
    attempts.reverse();
    if out.json() {
        let raws =
            |items: Vec<&serde_json::value::RawValue>| items.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
        out.value(&Story {
            message: &message.raw,
            endpoints: raws(destinations.iter().map(|item| &*item.raw).collect()),
            attempts: raws(attempts.iter().map(|item| &*item.raw).collect()),
        })?;
        return Ok(Exit::Done);
    }
    show_message(out, &message.value)?;
    for Record { value: destination, .. } in &destinations {
        out.line("")?;
        show_destination(out, destination)?;
        for Record { value: attempt, .. } in attempts.iter().filter(|one| one.value.endpoint_id == destination.id) {
            show_attempt(out, attempt)?;
        }
    }
    if more {
        out.note(&format!("only the last {MOST} attempts are shown"));
    }
    Ok(Exit::Done)
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Story<'a> {
    message: &'a serde_json::value::RawValue,
    endpoints: Vec<Box<serde_json::value::RawValue>>,
    attempts: Vec<Box<serde_json::value::RawValue>>,
}

fn show_message(out: &Out, message: &Message) -> Result<(), Problem> {
    out.field("id", &message.id)?;
    out.field("event id", message.event_id.as_deref().unwrap_or_default())?;
    out.field("type", &message.event_type)?;
    out.field("channels", &message.channels.as_deref().unwrap_or_default().join(" "))?;
    out.field("time", &message.timestamp)?;
    let occurred = message.occurred_at.as_deref().filter(|time| *time != message.timestamp);
    out.field("occurred", occurred.unwrap_or_default())?;
    out.field("ordering key", message.ordering_key.as_deref().unwrap_or_default())?;
    out.field("due", message.deliver_at.as_deref().unwrap_or_default())?;
    out.field("expires", message.expire_at.as_deref().unwrap_or_default())?;
    out.field("tags", &message.tags.as_deref().unwrap_or_default().join(" "))?;
    out.field("goes", &message.went())?;
    out.field("test", if message.test { "yes" } else { "" })?;
    match &message.payload {
        _ if message.expunged => out.field("payload", "expunged"),
        Some(payload) => {
            out.line(&out.paint(Style::Dim, "payload"))?;
            out.line(&format!("  {}", json_text::indented(payload.get(), 2)))
        }
        None => Ok(()),
    }
}

fn show_destination(out: &Out, destination: &Destination) -> Result<(), Problem> {
    let (style, how) = standing(destination);
    let uid = destination.uid.as_deref().map(|uid| format!("{} ", out.paint(Style::Bold, &shown(uid))));
    let id = out.paint(if uid.is_some() { Style::Dim } else { Style::Bold }, &shown(&destination.id));
    out.line(&format!("{}{id} {}", uid.unwrap_or_default(), shown(&destination.url)))?;
    out.line(&format!("  {}", out.paint(style, &shown(&how))))?;
    // What has ended has nothing to wait for, whatever its endpoint does.
    let waits = matches!(destination.state.state.as_str(), "waiting" | "leased");
    match destination.health.as_ref().and_then(|health| health.held_back()).filter(|_| waits) {
        Some(held) => out.line(&format!("  {}", out.paint(Style::Waiting, &shown(&format!("the endpoint {held}"))))),
        None => Ok(()),
    }
}

/// How a delivery stands, in words.
fn standing(destination: &Destination) -> (Style, String) {
    let state = &destination.state;
    let at = state.at.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
    let why = state.reason.as_deref().map(|reason| format!(": {}", because(reason))).unwrap_or_default();
    match state.state.as_str() {
        "delivered" => (Style::Good, format!("delivered{at}, {}", attempts(destination))),
        "waiting" => {
            let next = destination.next_attempt.as_deref().unwrap_or("soon");
            (Style::Waiting, format!("waiting, next attempt {next}, {}", attempts(destination)))
        }
        "held" => {
            let behind = state.behind.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
            (Style::Waiting, format!("held behind message{behind} of its ordering key, {}", attempts(destination)))
        }
        "leased" => (Style::Waiting, format!("on its way, {}", attempts(destination))),
        "dead" => (Style::Bad, format!("a dead letter{at}{why}, {}", attempts(destination))),
        "canceled" => (Style::Bad, format!("canceled{at}{why}, {}", attempts(destination))),
        other => (Style::Plain, other.to_owned()),
    }
}

fn attempts(destination: &Destination) -> String {
    let count = match destination.attempts {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    if destination.round > 1 { format!("{count} in {} rounds", destination.round) } else { count }
}

/// A reason in plain words.
fn because(reason: &str) -> &str {
    match reason {
        "exhausted" => "no retry is left",
        "refused" => "an answer that is not retried",
        "gone" => "the receiver says that it is gone",
        "aborted" => "the receiver asked not to be sent it again",
        "tooOld" => "the next retry would have come too late",
        "expired" => "its message expired before it arrived",
        "blocked" => "its URL may not be called",
        "unsendable" => "no request can be made of it",
        "damaged" => "its record is damaged",
        "endpointDisabled" => "its endpoint was disabled",
        "endpointDeleted" => "its endpoint was deleted",
        "requested" => "by request",
        other => other,
    }
}

fn show_attempt(out: &Out, attempt: &Attempt) -> Result<(), Problem> {
    let style = if attempt.result == "delivered" { Style::Good } else { Style::Bad };
    let outcome = out.paint(style, &escaped(attempt.outcome().as_bytes(), 40));
    let trigger = if attempt.round > 1 {
        format!("{}, round {}", attempt.trigger, attempt.round)
    } else {
        attempt.trigger.clone()
    };
    let time = times::clock_time(&attempt.timestamp);
    let took = times::short(attempt.took());
    out.line(&format!("  #{} {} {outcome} after {took} ({})", attempt.number, shown(&time), shown(&trigger)))?;
    if attempt.response_status_code != 0 && !attempt.response.is_empty() {
        let cut = if attempt.truncated { " (cut)" } else { "" };
        out.line(&format!("     {}{cut}", out.paint(Style::Dim, &escaped(attempt.response.as_bytes(), ANSWER))))?;
    }
    match &attempt.hint {
        Some(hint) => out.line(&out.paint(Style::Dim, &format!("     hint: {}", shown(hint)))),
        None => Ok(()),
    }
}

/// Attempts a delivery again: in a new round if it had ended, at once if it waits
#[derive(Debug, clap::Args)]
pub(super) struct Resend {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// The message's id, or your own id of the event
    message: String,
    /// The endpoint's id or uid
    endpoint: String,
    /// Give the message a delivery to the endpoint if it was not to go there
    #[arg(long)]
    add: bool,
}

/// Resends.
pub(super) async fn resend(session: &Session, options: Resend) -> Result<Exit, Problem> {
    let Resend { app, message, endpoint, add, .. } = &options;
    let path = ["app", app, "msg", message, "endpoint", endpoint, "resend"];
    let body = if *add { json!({"add": true}) } else { json!({}) };
    let answer: Box<serde_json::value::RawValue> = session.api.post(&path, &Vec::new(), &body).await?;
    if session.out.json() {
        session.out.raw(&answer)?;
    }
    match session.not_delivering().await {
        Some(why) => session.out.note(&format!("{message} is to be attempted again, but not yet: {why}")),
        None => session.out.note(&format!("{message} is attempted again: ringback show {app} {message}")),
    }
    Ok(Exit::Done)
}
