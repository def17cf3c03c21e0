//! `ringback endpoint`: where an application's events go.

mod headers;
pub(super) mod health;
mod secret;
mod settings;
mod test;

use std::path::PathBuf;
use std::time::Duration;

use ringback::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::{Header, read};
use super::exit::{Exit, Problem};
use super::out::{Out, confirm};
use super::records::{Endpoint, Record, ReplayJob, list};
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};
use super::times;
use settings::Settings;

/// Endpoints: where an application's events go, and how
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    #[command(subcommand)]
    pub(super) what: What,
}

/// An endpoint, by its id or uid.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The application's id or uid
    app: String,
    /// The endpoint's id or uid
    endpoint: String,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Lists the endpoints of an application
    List {
        /// The application's id or uid
        app: String,
        /// How many at most
        #[arg(long, default_value_t = 250, value_name = "N")]
        limit: usize,
    },
    /// Makes one
    Create {
        /// The application's id or uid
        app: String,
        /// Where the events go
        url: String,
        #[command(flatten)]
        settings: Box<Settings>,
        /// The file with its secret [default: one is made, where the profile signs]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Take no events yet
        #[arg(long)]
        disabled: bool,
    },
    /// Shows one
    Get(Named),
    /// Changes what is given, and nothing else
    Update {
        #[command(flatten)]
        named: Named,
        /// Another URL
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        settings: Box<Settings>,
        /// Go back to the default of this; can be given more than once
        #[arg(long, value_name = "MEMBER", value_parser = settings::RESETTABLE)]
        reset: Vec<String>,
    },
    /// Deletes one. What waits for it is canceled; its log stays
    Delete {
        #[command(flatten)]
        named: Named,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Lets it take events again
    Enable {
        #[command(flatten)]
        named: Named,
        /// And attempts again what failed, and what was canceled because it was disabled, as a replay job
        #[arg(long)]
        replay: bool,
        /// Of that, only messages from then on, such as 2d or 2026-01-31T08:30:00Z
        #[arg(long, value_name = "WHEN", value_parser = times::moment, requires = "replay")]
        since: Option<Timestamp>,
        /// How many a second at most, 1 to 10,000 [default: 100]
        #[arg(long, value_name = "N", requires = "replay", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rate: Option<u32>,
    },
    /// Stops deliveries to it. What waits for it is canceled
    Disable(Named),
    /// Shows its secret (of an ed25519 key, the public half)
    Secret(Named),
    /// Replaces its secret. The old one signs, too, until the grace period is over
    ///
    /// A profile that sends one signature (levrage) has no room for a second: there the new secret signs from now on,
    /// and the old one no longer does.
    Rotate {
        #[command(flatten)]
        named: Named,
        /// The file with the new secret [default: one is made]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// How long the old secret signs, too, where the profile sends several signatures; 0s revokes it at once
        /// [default: the server's, 24h]
        #[arg(long, value_name = "DURATION", value_parser = times::duration)]
        grace: Option<Duration>,
    },
    /// Shows or changes the headers that its requests carry beside the profile's
    Headers {
        #[command(flatten)]
        named: Named,
        /// Set a header. Others on this machine can read an argument: use --set-file for what is secret
        #[arg(long, value_name = "NAME: VALUE")]
        set: Vec<Header>,
        /// Set the headers of a file, one a line
        #[arg(long, value_name = "FILE")]
        set_file: Option<PathBuf>,
        /// Remove a header
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
        /// Never show the value of this header again; can be given more than once. Those whose names say that they carry
        /// credentials are never shown anyway
        #[arg(long, value_name = "NAME")]
        sensitive: Vec<String>,
    },
    /// Shows how it stands: whether it rests after failures, and what may be on its way to it
    Health(Named),
    /// Counts its deliveries by how they stand
    Stats {
        #[command(flatten)]
        named: Named,
        /// From then on, such as 24h or 2026-01-31T08:30:00Z
        #[arg(long, value_name = "WHEN", value_parser = times::moment)]
        since: Option<Timestamp>,
        /// Until then
        #[arg(long, value_name = "WHEN", value_parser = times::moment)]
        until: Option<Timestamp>,
    },
    /// Sends it an example event, waits for the attempt and shows what came of it
    ///
    /// The exit code is 0 only if it was delivered.
    Test {
        #[command(flatten)]
        named: Named,
        /// Which event [default: the first that the profile has an example of]
        #[arg(long, value_name = "TYPE")]
        event_type: Option<String>,
    },
}

#[derive(Deserialize)]
struct Stats {
    success: u64,
    pending: u64,
    sending: u64,
    fail: u64,
    #[serde(default)]
    canceled: u64,
}

impl Named {
    fn path(&self) -> [&str; 4] {
        ["app", &self.app, "endpoint", &self.endpoint]
    }

    fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&self.path(), rest].concat()
    }
}

/// Does what is asked for with endpoints.
pub(super) async fn run(session: &Session, what: What) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    match what {
        What::List { app, limit } => show_list(session, &app, limit).await?,
        What::Create { app, url, settings, secret_file, disabled } => {
            let mut body = settings.members()?;
            body.insert("url".into(), url.into());
            if let Some(file) = secret_file {
                body.insert("secret".into(), read(&file)?.trim().into());
            }
            if disabled {
                body.insert("disabled".into(), true.into());
            }
            let endpoint: Record<Endpoint> = api.post(&["app", &app, "endpoint"], &Vec::new(), &body).await?;
            show(out, &endpoint)?;
            out.note(&format!("its secret: ringback endpoint secret {app} {}", endpoint.value.id));
        }
        What::Get(named) => {
            let endpoint = api.get(&named.path(), &Vec::new()).await?;
            show(out, &endpoint)?;
            if !out.json() {
                health::of(session, &named).await?.value.show(out, &endpoint.value)?;
            }
        }
        What::Health(named) => health::run(session, &named).await?,
        What::Update { named, url, settings, reset } => {
            let mut body = settings.members()?;
            body.extend(url.map(|url| ("url".to_owned(), Value::from(url))));
            body.extend(reset.into_iter().map(|member| (member, Value::Null)));
            show(out, &api.patch(&named.path(), &body).await?)?;
        }
        What::Delete { named, yes } => {
            confirm(&format!("Delete the endpoint {}? What waits for it is canceled.", named.endpoint), yes).await?;
            api.delete(&named.path(), &Vec::new()).await?;
            out.note(&format!("{} is deleted", named.endpoint));
        }
        What::Enable { named, replay, since, rate } => {
            let members = [("since", since.map(|time| time.to_string().into())), ("rate", rate.map(Value::from))];
            let given = members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
            let replay = replay.then(|| Value::Object(given.collect()));
            enable(session, &named, replay).await?;
        }
        What::Disable(named) => show(out, &api.post(&named.below(&["disable"]), &Vec::new(), &json!({})).await?)?,
        What::Secret(named) => secret::reveal(session, &named).await?,
        What::Rotate { named, secret_file, grace } => secret::rotate(session, &named, secret_file, grace).await?,
        What::Headers { named, set, set_file, remove, sensitive } => {
            headers::run(session, &named, set, set_file.as_deref(), &remove, &sensitive).await?;
        }
        What::Stats { named, since, until } => show_stats(session, &named, since, until).await?,
        What::Test { named, event_type } => return test::run(session, &named, event_type).await,
    }
    Ok(Exit::Done)
}

/// Enables it, and starts a replay if one is asked for.
async fn enable(session: &Session, named: &Named, replay: Option<Value>) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Enabled {
        #[serde(flatten)]
        endpoint: Endpoint,
        replay: Option<ReplayJob>,
    }
    let body = replay.map_or_else(|| json!({}), |replay| json!({ "replay": replay }));
    let path = named.below(&["enable"]);
    let Record { raw, value } = session.api.post::<Record<Enabled>>(&path, &Vec::new(), &body).await?;
    show(&session.out, &Record { raw, value: value.endpoint })?;
    if let Some(ReplayJob { id, total, .. }) = value.replay {
        let app = &named.app;
        session.out.note(&format!("{total} are attempted again; how far it is: ringback replay show {app} {id}"));
        if let Some(why) = session.not_delivering().await {
            session.out.note(&format!("the job is stored, and does nothing yet: {why}"));
        }
    }
    Ok(())
}

async fn show_stats(
    session: &Session,
    named: &Named,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<(), Problem> {
    let times = [("since", since), ("until", until)];
    let query = times.into_iter().filter_map(|(name, time)| time.map(|time| (name, time.to_string()))).collect();
    let Record { raw, value } = session.api.get::<Record<Stats>>(&named.below(&["stats"]), &query).await?;
    if session.out.json() {
        return session.out.raw(&raw);
    }
    let Stats { success, pending, sending, fail, canceled } = value;
    let counts = [
        ("delivered", success),
        ("waiting", pending),
        ("on their way", sending),
        ("dead", fail),
        ("canceled", canceled),
    ];
    counts.into_iter().try_for_each(|(name, count)| session.out.field(name, &count.to_string()))
}

async fn show_list(session: &Session, app: &str, limit: usize) -> Result<(), Problem> {
    let (items, more) = list::<Endpoint>(session, &["app", app, "endpoint"], &Vec::new(), limit).await?;
    if session.out.json() {
        return items.iter().try_for_each(|item| session.out.raw(&item.raw));
    }
    let mut table = Table::new(&["id", "uid", "state", "profile", "wants", "url"]);
    for Record { value: endpoint, .. } in &items {
        let word = match endpoint.disabled_reason.as_deref() {
            Some("failing") => "disabled (failing)",
            Some("gone") => "disabled (gone)",
            Some("askedByReceiver") => "disabled (asked)",
            Some(_) | None => "disabled",
        };
        let state = if endpoint.disabled { (word, Style::Bad) } else { ("enabled", Style::Good) };
        let plain = Style::plain;
        let uid = endpoint.uid.as_deref().unwrap_or("-");
        let wants = endpoint.wants();
        let profile = endpoint.profile_name();
        let cells = [plain(&endpoint.id), plain(uid), state, plain(profile), plain(&wants), plain(&endpoint.url)];
        table.styled(cells, None);
    }
    table.print(&session.out, "it has no endpoints: `ringback endpoint create APP URL` makes one")?;
    if more {
        session.out.note("there are more: --limit");
    }
    Ok(())
}

fn show(out: &Out, endpoint: &Record<Endpoint>) -> Result<(), Problem> {
    if out.json() {
        return out.raw(&endpoint.raw);
    }
    let endpoint = &endpoint.value;
    out.field("id", &endpoint.id)?;
    out.field("uid", endpoint.uid.as_deref().unwrap_or_default())?;
    out.field("url", &endpoint.url)?;
    out.field("state", &endpoint.state())?;
    out.field("profile", endpoint.profile_name())?;
    out.field("body", endpoint.body.as_deref().unwrap_or_default())?;
    out.field("wants", &endpoint.wants())?;
    out.field("description", &endpoint.description)?;
    let timeout = endpoint.timeout_ms.map(|ms| times::short(Duration::from_millis(ms)));
    out.field("timeout", &timeout.unwrap_or_default())?;
    out.field("retry", &if endpoint.retry.is_null() { String::new() } else { endpoint.retry.to_string() })?;
    out.field("in flight", &endpoint.max_in_flight.map(|most| format!("at most {most}")).unwrap_or_default())?;
    out.field("throttle", &endpoint.throttle())?;
    out.field("weight", &endpoint.weight.map(|weight| weight.to_string()).unwrap_or_default())?;
    let blocked = &endpoint.blocked_head;
    out.field("blocked head", &if blocked.is_null() { String::new() } else { blocked.to_string() })?;
    if endpoint.auto_disable == Some(false) {
        out.field("auto-disable", "off")?;
    }
    for (name, value) in &endpoint.metadata {
        out.field("metadata", &format!("{name}={value}"))?;
    }
    out.field("created", &endpoint.created_at)
}
