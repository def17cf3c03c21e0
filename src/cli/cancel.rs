//! `ringback cancel`: what waits is not sent; of one message, or whatever fits a filter.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringback::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::exit::{Exit, Problem};
use super::out::confirm;
use super::records::Record;
use super::target::{Session, Target};
use super::times;

/// Cancels what waits: of a message, or of all messages that fit a filter
#[derive(Debug, clap::Args)]
#[command(override_usage = "ringback cancel [OPTIONS] <APP> <MESSAGE> [OF_ENDPOINT]\n       \
                            ringback cancel [OPTIONS] <APP> --tag <TAG> …")]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// The message's id, or your own id of the event
    #[arg(required_unless_present_any = FILTER)]
    message: Option<String>,
    /// The endpoint's id or uid [default: all of them]
    #[arg(requires = "message")]
    of_endpoint: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Say how many deliveries fit the filter, and do nothing
    #[arg(long, conflicts_with_all = ["message", "yes"])]
    preview: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

const FILTER: [&str; 7] = ["endpoint", "ordering_key", "event_type", "channel", "tag", "since", "until"];

/// What of many messages is canceled.
#[derive(Debug, clap::Args)]
#[group(conflicts_with = "message")]
struct Filter {
    /// Only what waits for this endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only messages with this ordering key
    #[arg(long, visible_alias = "key", value_name = "KEY")]
    ordering_key: Option<String>,
    /// Only messages of this event type, such as call.*; can be given more than once
    #[arg(long, value_name = "TYPE")]
    event_type: Vec<String>,
    /// Only messages in this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Only messages with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only messages from then on, such as 2h or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    since: Option<Timestamp>,
    /// Only messages until then
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    until: Option<Timestamp>,
}

impl Filter {
    fn members(self) -> Map<String, Value> {
        let members = [
            ("endpointId", self.endpoint.map(Value::from)),
            ("orderingKey", self.ordering_key.map(Value::from)),
            ("eventTypes", (!self.event_type.is_empty()).then(|| self.event_type.into())),
            ("channel", self.channel.map(Value::from)),
            ("tag", self.tag.map(Value::from)),
            ("since", self.since.map(|time| time.to_string().into())),
            // What is sent from now on is left alone, however long this takes.
            ("until", Some(self.until.unwrap_or_else(times::now).to_string().into())),
        ];
        members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
    }
}

#[derive(Deserialize)]
struct Canceled {
    canceled: u64,
    #[serde(default)]
    iterator: Option<String>,
}

/// Cancels. Nothing that waited is no error: it has ended already.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    let Options { app, message, of_endpoint, filter, preview, yes, .. } = options;
    let Some(message) = message else {
        let filter = filter.members();
        return if preview { count(session, &app, filter).await } else { matching(session, &app, filter, yes).await };
    };
    let mut path = vec!["app", &app, "msg", &message];
    path.extend(of_endpoint.iter().flat_map(|endpoint| ["endpoint", endpoint]));
    path.push("cancel");
    let Record { raw, value } = session.api.post::<Record<Canceled>>(&path, &Vec::new(), &json!({})).await?;
    if session.out.json() {
        session.out.raw(&raw)?;
    } else {
        session.out.line(&match value.canceled {
            0 => "nothing of it was waiting".to_owned(),
            count => said(count),
        })?;
    }
    Ok(Exit::Done)
}

fn said(count: u64) -> String {
    match count {
        1 => "1 delivery is canceled".to_owned(),
        count => format!("{count} deliveries are canceled"),
    }
}

/// How many would be canceled, in words.
fn would(found: u64) -> String {
    match found {
        1 => "1 delivery would be canceled".to_owned(),
        found => format!("{found} deliveries would be canceled"),
    }
}

/// How many deliveries fit the filter.
async fn preview(session: &Session, app: &str, mut filter: Map<String, Value>) -> Result<u64, Problem> {
    filter.insert("preview".to_owned(), true.into());
    go_through(session, app, filter, &ProgressBar::hidden()).await
}

/// Counts, and cancels nothing.
async fn count(session: &Session, app: &str, filter: Map<String, Value>) -> Result<Exit, Problem> {
    let found = preview(session, app, filter).await?;
    if session.out.json() {
        session.out.value(&json!({ "count": found }))?;
    } else {
        session.out.line(&would(found))?;
    }
    Ok(Exit::Done)
}

async fn matching(session: &Session, app: &str, filter: Map<String, Value>, yes: bool) -> Result<Exit, Problem> {
    let out = &session.out;
    let found = preview(session, app, filter.clone()).await?;
    if found > 0 {
        confirm(&format!("{}. Go on?", would(found)), yes).await?;
    }
    let bar = progress_bar(session, found);
    let canceled = if found > 0 { go_through(session, app, filter, &bar).await? } else { 0 };
    bar.finish_and_clear();
    if out.json() {
        out.value(&json!({ "canceled": canceled }))?;
    } else {
        out.line(&match canceled {
            0 => "nothing like this was waiting".to_owned(),
            count => said(count),
        })?;
    }
    Ok(Exit::Done)
}

/// Asks until there is nothing more to look at. Whoever gives up in between can ask for the same again.
async fn go_through(
    session: &Session,
    app: &str,
    mut body: Map<String, Value>,
    bar: &ProgressBar,
) -> Result<u64, Problem> {
    let mut total = 0;
    loop {
        let step: Canceled = session.api.post(&["app", app, "cancel"], &Vec::new(), &body).await?;
        total += step.canceled;
        bar.set_position(total);
        let Some(iterator) = step.iterator else { return Ok(total) };
        body.insert("iterator".to_owned(), iterator.into());
    }
}

/// A bar on the standard error, if that is a terminal.
fn progress_bar(session: &Session, total: u64) -> ProgressBar {
    if session.out.json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} canceled, {eta} left");
    bar.with_style(style.expect("the template names what a bar has"))
}
