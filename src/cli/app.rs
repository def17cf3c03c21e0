//! `ringback app`: applications, and the tokens of their portals.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::arguments::pair;
use super::exit::{Exit, Problem};
use super::out::confirm;
use super::records::{Application, Record, list};
use super::retention::Rules;
use super::table::Table;
use super::target::{Session, Target};
use super::times;

/// Applications: tenants, each with endpoints and messages of its own
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Lists the applications
    List {
        /// How many at most
        #[arg(long, default_value_t = 250, value_name = "N")]
        limit: usize,
    },
    /// Makes one
    Create {
        /// What people call it
        name: String,
        /// Your own id of it; it can stand wherever an application's id does
        #[arg(long)]
        uid: Option<String>,
        /// Whatever you want to keep with it
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
        #[command(flatten)]
        bounds: Bounds,
        #[command(flatten)]
        retention: Rules,
        /// Take the one that has this uid, if there is one
        #[arg(long, requires = "uid")]
        get_if_exists: bool,
    },
    /// Shows one
    Get {
        /// Its id or uid
        app: String,
    },
    /// Changes what is given, and nothing else
    Update {
        /// Its id or uid
        app: String,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        /// Another uid
        #[arg(long)]
        uid: Option<String>,
        /// All of its metadata
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
        #[command(flatten)]
        bounds: Bounds,
        /// Go back to the default of this; can be given more than once
        #[arg(long, value_name = "MEMBER", value_parser = RESETTABLE)]
        reset: Vec<String>,
        #[command(flatten)]
        retention: Rules,
    },
    /// Deletes one, with its endpoints
    Delete {
        /// Its id or uid
        app: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Makes a token that may do everything within the application, for a portal of its customer's
    Token {
        /// Its id or uid
        app: String,
        /// How long it is good for, such as 12h or 28d [default: the server's]
        #[arg(long, value_name = "DURATION", value_parser = times::duration)]
        expires: Option<Duration>,
    },
}

/// The members of the API's object that have a default to go back to.
const RESETTABLE: [&str; 5] = ["uid", "metadata", "throttleRate", "maxInFlight", "weight"];

/// What bounds the deliveries to all of its endpoints.
#[derive(Debug, clap::Args)]
pub(super) struct Bounds {
    /// How many requests a second its endpoints may get in all, retries too: 1 to 65,535 [default: any number]
    #[arg(long, value_name = "N")]
    throttle_rate: Option<u32>,
    /// How many requests may be on their way to its endpoints at once, in all [default: the server's]
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u32>,
    /// How many turns it has where other applications have one, when not all can: 1 to 100 [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
}

/// The members of the API's object, those that were given.
fn members(name: Option<String>, uid: Option<String>, metadata: Vec<(String, String)>, bounds: &Bounds) -> Members {
    let metadata: Members = metadata.into_iter().map(|(name, value)| (name, value.into())).collect();
    let members = [
        ("name", name.map(Value::from)),
        ("uid", uid.map(Value::from)),
        ("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata))),
        ("throttleRate", bounds.throttle_rate.map(Value::from)),
        ("maxInFlight", bounds.max_in_flight.map(Value::from)),
        ("weight", bounds.weight.map(Value::from)),
    ];
    members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
}

type Members = serde_json::Map<String, Value>;

#[derive(Deserialize)]
struct Access {
    url: String,
    token: String,
}

/// Does what is asked for with applications.
pub(super) async fn run(session: &Session, what: What) -> Result<Exit, Problem> {
    let api = &session.api;
    match what {
        What::List { limit } => return show_list(session, limit).await,
        What::Create { name, uid, metadata, bounds, retention, get_if_exists } => {
            let mut body = members(Some(name), uid, metadata, &bounds);
            body.extend(retention.member()?.map(|retention| ("retention".to_owned(), retention)));
            let query = if get_if_exists { vec![("get_if_exists", "true".to_owned())] } else { Vec::new() };
            show(session, &api.post(&["app"], &query, &body).await?)?;
        }
        What::Get { app } => show(session, &api.get(&["app", &app], &Vec::new()).await?)?,
        What::Update { app, name, uid, metadata, bounds, reset, retention } => {
            let mut body = members(name, uid, metadata, &bounds);
            body.extend(retention.member()?.map(|retention| ("retention".to_owned(), retention)));
            body.extend(reset.into_iter().map(|member| (member, Value::Null)));
            show(session, &api.patch(&["app", &app], &body).await?)?;
        }
        What::Delete { app, yes } => {
            confirm(&format!("Delete the application {app} with its endpoints?"), yes).await?;
            api.delete(&["app", &app], &Vec::new()).await?;
            session.out.note(&format!("{app} is deleted"));
        }
        What::Token { app, expires } => {
            let body = match expires {
                Some(expires) => serde_json::json!({ "expiry": expires.as_secs() }),
                None => serde_json::json!({}),
            };
            let access: Record<Access> = api.post(&["auth", "app-portal-access", &app], &Vec::new(), &body).await?;
            if session.out.json() {
                session.out.raw(&access.raw)?;
            } else {
                session.out.field("url", &access.value.url)?;
                session.out.field("token", &access.value.token)?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn show_list(session: &Session, limit: usize) -> Result<Exit, Problem> {
    let (items, more) = list::<Application>(session, &["app"], &Vec::new(), limit).await?;
    if session.out.json() {
        items.iter().try_for_each(|item| session.out.raw(&item.raw))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "uid", "name", "created (UTC)"]);
    for Record { value: app, .. } in &items {
        table.row([&app.id, app.uid.as_deref().unwrap_or("-"), &app.name, &times::clock_time(&app.created_at)]);
    }
    table.print(&session.out, "there are no applications: `ringback app create NAME` makes one")?;
    if more {
        session.out.note("there are more: --limit");
    }
    Ok(Exit::Done)
}

fn show(session: &Session, app: &Record<Application>) -> Result<(), Problem> {
    let out = &session.out;
    if out.json() {
        return out.raw(&app.raw);
    }
    let app = &app.value;
    out.field("id", &app.id)?;
    out.field("uid", app.uid.as_deref().unwrap_or_default())?;
    out.field("name", &app.name)?;
    out.field("throttle", &app.throttle_rate.map(|rate| format!("{rate} a second")).unwrap_or_default())?;
    out.field("in flight", &app.max_in_flight.map(|most| format!("at most {most}")).unwrap_or_default())?;
    out.field("weight", &app.weight.map(|weight| weight.to_string()).unwrap_or_default())?;
    for (name, value) in &app.metadata {
        out.field("metadata", &format!("{name}={value}"))?;
    }
    super::retention::show(out, app.retention.as_ref())?;
    out.field("created", &app.created_at)
}
