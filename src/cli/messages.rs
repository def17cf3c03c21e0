//! `ringback messages`: what was sent, newest first, those included that went nowhere.

use ringback::Timestamp;

use super::exit::{Exit, Problem};
use super::records::{Message, Record, list};
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};
use super::times;

/// Lists messages, those included that no endpoint wanted
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// Only those that no endpoint wanted
    #[arg(long)]
    unrouted: bool,
    /// Only those to this endpoint
    #[arg(long, value_name = "ID", conflicts_with = "unrouted")]
    endpoint: Option<String>,
    /// Only those of this event type; can be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Vec<String>,
    /// Only those in this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Only those with this ordering key
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// From then on, such as 2h or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    since: Option<Timestamp>,
    /// Until then
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    until: Option<Timestamp>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Lists messages.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    let single = [
        // People see no payloads here; a program asked for all there is.
        ("with_content", Some(session.out.json().to_string())),
        ("unrouted", options.unrouted.then(|| "true".to_owned())),
        ("endpoint_id", options.endpoint),
        ("channel", options.channel),
        ("ordering_key", options.ordering_key),
        ("tag", options.tag),
        ("after", options.since.map(|time| time.to_string())),
        ("before", options.until.map(|time| time.to_string())),
    ];
    let mut query: Vec<_> = single.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    query.extend(options.event_type.into_iter().map(|name| ("event_types", name)));
    let (messages, more) = list::<Message>(session, &["app", &options.app, "msg"], &query, options.limit).await?;
    if session.out.json() {
        messages.iter().try_for_each(|message| session.out.raw(&message.raw))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["time (UTC)", "id", "event id", "type", "goes"]);
    for Record { value: message, .. } in &messages {
        let (time, went) = (times::clock_time(&message.timestamp), message.went());
        let style = if message.routing["nowhere"].is_null() { Style::Plain } else { Style::Waiting };
        let plain = Style::plain;
        let event_id = message.event_id.as_deref().unwrap_or("-");
        table.styled(
            [plain(&time), plain(&message.id), plain(event_id), plain(&message.event_type), (went.as_str(), style)],
            None,
        );
    }
    table.print(&session.out, "there are no such messages")?;
    if more {
        session.out.note("there are more: --limit, --since, --until");
    }
    Ok(Exit::Done)
}
