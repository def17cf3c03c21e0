//! `ringback event-type`: the catalogue of what can happen.

use serde_json::{Map, Value};

use super::arguments::Json;
use super::exit::{Exit, Problem};
use super::records::{EventType, Record, list};
use super::retention::Rules;
use super::table::Table;
use super::target::{Session, Target};

/// Event types: the catalogue of what can happen
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// What it means
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The JSON schemas of its payload, by version: JSON or @file.json
    #[arg(long, value_name = "JSON")]
    schemas: Option<Json>,
    /// Whether it is going out of use
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    deprecated: Option<bool>,
    #[command(flatten)]
    retention: Rules,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Lists the event types
    List {
        /// Those that are archived, too
        #[arg(long)]
        archived: bool,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
    },
    /// Makes one
    Create {
        /// Its name, such as call.completed
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Shows one
    Get {
        /// Its name
        name: String,
    },
    /// Changes what is given, and nothing else
    Update {
        /// Its name
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Takes it out of the catalogue that is shown. It can be made again
    Archive {
        /// Its name
        name: String,
    },
    /// Removes it for good
    Delete {
        /// Its name
        name: String,
    },
}

impl Settings {
    fn members(&self) -> Result<Map<String, Value>, Problem> {
        let members = [
            ("description", self.description.as_deref().map(Value::from)),
            ("schemas", self.schemas.as_ref().map(Json::value).transpose()?),
            ("deprecated", self.deprecated.map(Value::from)),
            ("retention", self.retention.member()?),
        ];
        Ok(members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect())
    }
}

/// Does what is asked for with event types.
pub(super) async fn run(session: &Session, what: What) -> Result<Exit, Problem> {
    let api = &session.api;
    match what {
        What::List { archived, limit } => show_list(session, archived, limit).await?,
        What::Create { name, settings } => {
            let mut body = settings.members()?;
            body.insert("name".into(), name.into());
            body.entry("description").or_insert_with(|| "".into());
            show(session, &api.post(&["event-type"], &Vec::new(), &body).await?)?;
        }
        What::Get { name } => show(session, &api.get(&["event-type", &name], &Vec::new()).await?)?,
        What::Update { name, settings } => {
            show(session, &api.patch(&["event-type", &name], &settings.members()?).await?)?;
        }
        What::Archive { name } => {
            api.delete(&["event-type", &name], &Vec::new()).await?;
            session.out.note(&format!("{name} is archived"));
        }
        What::Delete { name } => {
            api.delete(&["event-type", &name], &vec![("expunge", "true".to_owned())]).await?;
            session.out.note(&format!("{name} is deleted"));
        }
    }
    Ok(Exit::Done)
}

async fn show_list(session: &Session, archived: bool, limit: usize) -> Result<(), Problem> {
    let query = vec![("include_archived", archived.to_string())];
    let (items, more) = list::<EventType>(session, &["event-type"], &query, limit).await?;
    if session.out.json() {
        return items.iter().try_for_each(|item| session.out.raw(&item.raw));
    }
    let mut table = Table::new(&["name", "state", "description"]);
    for Record { value, .. } in &items {
        table.row([&value.name, state(value), &value.description]);
    }
    table.print(&session.out, "there are no event types")?;
    if more {
        session.out.note("there are more: --limit");
    }
    Ok(())
}

fn state(event_type: &EventType) -> &'static str {
    match (event_type.archived, event_type.deprecated) {
        (true, _) => "archived",
        (false, true) => "deprecated",
        (false, false) => "in use",
    }
}

fn show(session: &Session, event_type: &Record<EventType>) -> Result<(), Problem> {
    let out = &session.out;
    if out.json() {
        return out.raw(&event_type.raw);
    }
    out.field("name", &event_type.value.name)?;
    out.field("description", &event_type.value.description)?;
    out.field("state", state(&event_type.value))?;
    super::retention::show(out, event_type.value.retention.as_ref())
}
