//! `ringback log`: every attempt, newest first, or as they come.
//!
//! An attempt bears the time at which it began and is on record once it has ended. So a log that is followed is read again
//! from a while back at every look; what was shown is remembered and not shown twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringback::Timestamp;

use super::client::Query;
use super::exit::{Exit, Problem};
use super::interrupt::Interrupt;
use super::records::{Attempt, EndpointNames, Page, Record, list};
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};
use super::times;

/// The longest time between an attempt's beginning and its record: the longest limit, and some more.
const LATE: Duration = Duration::from_secs(330);
/// How often a followed log is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Shows attempts: what was sent where, what came of it and why
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// Only those to this endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only those of this message
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// Only those that delivered, or that did not
    #[arg(long, value_name = "STATUS", conflicts_with_all = ["code", "class"])]
    status: Option<Status>,
    /// Only those that were answered with this status, such as 503
    #[arg(long, value_name = "STATUS")]
    code: Option<u16>,
    /// Only those that were answered with a status of this class, or that got no answer
    #[arg(long, value_name = "CLASS", conflicts_with = "code")]
    class: Option<Class>,
    /// Only those of messages of this event type; can be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Vec<String>,
    /// Only those of messages in this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// From then on, such as 2h or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    since: Option<Timestamp>,
    /// Until then
    #[arg(long, value_name = "WHEN", value_parser = times::moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// How many at most [default: 50; 10 before those that --follow shows]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on, and show each attempt when it is on record
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Status {
    Delivered,
    Failed,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Class {
    #[value(name = "none")]
    NoAnswer,
    #[value(name = "1xx")]
    Informational,
    #[value(name = "2xx")]
    Success,
    #[value(name = "3xx")]
    Redirection,
    #[value(name = "4xx")]
    ClientError,
    #[value(name = "5xx")]
    ServerError,
}

impl Class {
    fn code(self) -> u16 {
        match self {
            Class::NoAnswer => 0,
            Class::Informational => 100,
            Class::Success => 200,
            Class::Redirection => 300,
            Class::ClientError => 400,
            Class::ServerError => 500,
        }
    }
}

/// What people are shown beside each attempt is asked for: its message, without any content.
fn with_message(session: &Session) -> Query {
    if session.out.json() {
        return Query::new();
    }
    vec![("with_msg", "true".to_owned()), ("with_content", "false".to_owned())]
}

impl Options {
    fn query(&self) -> Query {
        let status = self.status.map(|status| match status {
            Status::Delivered => "0".to_owned(),
            Status::Failed => "2".to_owned(),
        });
        let single = [
            ("endpoint_id", self.endpoint.clone()),
            ("msg_id", self.message.clone()),
            ("status", status),
            ("status_code", self.code.map(|code| code.to_string())),
            ("status_code_class", self.class.map(|class| class.code().to_string())),
            ("channel", self.channel.clone()),
            ("before", self.until.map(|time| time.to_string())),
        ];
        let mut query: Query =
            single.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        query.extend(self.event_type.iter().map(|name| ("event_types", name.clone())));
        query
    }
}

/// Shows the log.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    if options.follow { follow(session, &options).await } else { show(session, &options).await }
}

async fn show(session: &Session, options: &Options) -> Result<Exit, Problem> {
    let mut query = options.query();
    query.extend(with_message(session));
    query.extend(options.since.map(|time| ("after", time.to_string())));
    let path = ["app", &options.app, "attempt"];
    let (attempts, more) = list::<Attempt>(session, &path, &query, options.limit.unwrap_or(50)).await?;
    if session.out.json() {
        attempts.iter().try_for_each(|attempt| session.out.raw(&attempt.raw))?;
        return Ok(Exit::Done);
    }
    let names =
        if attempts.is_empty() { EndpointNames::default() } else { EndpointNames::of(session, &options.app).await? };
    let mut table = Table::new(&["time (UTC)", "message", "type", "endpoint", "no", "outcome", "took", "result"]);
    let mut hints = BTreeSet::new();
    for Record { value: attempt, .. } in &attempts {
        let cells = cells(attempt, &names);
        let [time, message, event_type, endpoint, number, outcome, took, result] = &cells;
        let plain = Style::plain;
        let row = [
            plain(time),
            plain(message),
            plain(event_type),
            plain(endpoint),
            plain(number),
            (outcome.as_str(), style(attempt)),
            plain(took),
            (result.as_str(), style(attempt)),
        ];
        table.styled(row, hint(attempt, &mut hints).as_deref());
    }
    table.print(&session.out, "there are no such attempts")?;
    if more {
        session.out.note("there are more: --limit, --since, --until");
    }
    Ok(Exit::Done)
}

/// A hint explains an outcome once.
fn hint(attempt: &Attempt, known: &mut BTreeSet<String>) -> Option<String> {
    let hint = attempt.hint.as_ref()?;
    known.insert(attempt.outcome()).then(|| format!("hint: {hint}"))
}

fn cells(attempt: &Attempt, names: &EndpointNames) -> [String; 8] {
    [
        times::clock_time(&attempt.timestamp),
        attempt.msg_id.clone(),
        attempt.msg.as_ref().map_or("-", |message| &message.event_type).to_owned(),
        names.name(&attempt.endpoint_id).to_owned(),
        attempt.number.to_string(),
        attempt.outcome(),
        times::short(attempt.took()),
        attempt.result.clone(),
    ]
}

fn style(attempt: &Attempt) -> Style {
    match attempt.result.as_str() {
        "delivered" => Style::Good,
        "waiting" => Style::Waiting,
        _ => Style::Bad,
    }
}

/// A log that is being followed.
struct Follower<'a> {
    session: &'a Session,
    app: &'a str,
    path: [&'a str; 3],
    query: Query,
    /// What was shown or passed over, with its time, as far back as it can be met again.
    known: BTreeMap<String, Timestamp>,
    newest: Timestamp,
    hints: BTreeSet<String>,
    names: EndpointNames,
}

async fn follow(session: &Session, options: &Options) -> Result<Exit, Problem> {
    if session.offline() {
        return Err(Problem::failed("no server runs on this folder, so nothing new will come: leave out --follow"));
    }
    let mut follower = Follower {
        session,
        app: &options.app,
        path: ["app", &options.app, "attempt"],
        query: options.query().into_iter().chain(with_message(session)).collect(),
        known: BTreeMap::new(),
        newest: times::now(),
        hints: BTreeSet::new(),
        names: EndpointNames::default(),
    };
    // Those that are there already are known before the last of them are read, so that none falls between.
    follower.look(false).await?;
    let mut query = follower.query.clone();
    query.extend(options.since.map(|time| ("after", time.to_string())));
    let most = options.limit.unwrap_or(if options.since.is_some() { usize::MAX } else { 10 });
    let (attempts, _) = list::<Attempt>(session, &follower.path, &query, most).await?;
    for attempt in attempts.iter().rev() {
        follower.remember(&attempt.value);
        follower.show(attempt).await?;
    }
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        ended = follower.go_on() => ended,
        () = interrupt.came() => Ok(Exit::Done),
    }
}

impl Follower<'_> {
    async fn go_on(&mut self) -> Result<Exit, Problem> {
        loop {
            let before = times::now();
            self.look(true).await?;
            // A log in which much happens is read less often than it takes to read it.
            let took = times::now().since(before);
            tokio::time::sleep(EVERY.max(took * 4)).await;
        }
    }

    /// Reads from a while back, in the order of their times.
    async fn look(&mut self, show: bool) -> Result<(), Problem> {
        let mut iterator: Option<String> = None;
        loop {
            let mut query = self.query.clone();
            query.push(("after", (self.newest - LATE).to_string()));
            query.push(("order", "ascending".to_owned()));
            query.push(("limit", "250".to_owned()));
            query.extend(iterator.take().map(|iterator| ("iterator", iterator)));
            let page: Page<Attempt> = self.session.api.get(&self.path, &query).await?;
            for attempt in &page.data {
                if self.remember(&attempt.value) && show {
                    self.show(attempt).await?;
                }
            }
            if page.done || page.data.is_empty() || page.iterator.is_none() {
                break;
            }
            iterator = page.iterator;
        }
        let oldest = self.newest - LATE;
        self.known.retain(|_, time| *time >= oldest);
        Ok(())
    }

    /// Whether it is new.
    fn remember(&mut self, attempt: &Attempt) -> bool {
        let time = attempt.timestamp.parse().unwrap_or(self.newest);
        self.newest = self.newest.max(time);
        self.known.insert(attempt.id.clone(), time).is_none()
    }

    async fn show(&mut self, attempt: &Record<Attempt>) -> Result<(), Problem> {
        let out = &self.session.out;
        if out.json() {
            return out.raw(&attempt.raw);
        }
        let Record { value: attempt, .. } = attempt;
        self.names.learn(self.session, self.app, &attempt.endpoint_id).await?;
        let shown = cells(attempt, &self.names).map(|cell| super::escape::escaped(cell.as_bytes(), 60));
        let [time, message, event_type, endpoint, number, outcome, took, result] = &shown;
        let style = style(attempt);
        let outcome = out.paint(style, &format!("{outcome:<9}"));
        let result = out.paint(style, result);
        out.line(&format!("{time}  {message}  {event_type}  {endpoint}  #{number:<3} {outcome} {took:>7}  {result}"))?;
        match hint(attempt, &mut self.hints) {
            Some(hint) => out.line(&out.paint(Style::Dim, &format!("  {}", super::escape::shown(&hint)))),
            None => Ok(()),
        }
    }
}
