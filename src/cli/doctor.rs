//! `ringback doctor`: whether all is well, and what is not.

use serde::Deserialize;
use serde_json::Value;

use super::exit::{Exit, Problem};
use super::records::Record;
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};

/// Checks the store and the counts of every application
///
/// The exit code is 0 only if nothing is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
}

#[derive(Deserialize)]
struct Report {
    ok: bool,
    #[serde(default)]
    version: String,
    #[serde(default)]
    store: serde_json::Map<String, Value>,
    #[serde(default)]
    applications: Vec<Counts>,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    id: String,
    uid: Option<String>,
    messages: u64,
    waiting: u64,
    leased: u64,
    delivered: u64,
    dead: u64,
    canceled: u64,
    adds_up: bool,
}

/// Shows the report.
pub(super) async fn run(session: &Session) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let Record { raw, value: report } = api.get::<Record<Report>>(&["doctor"], &Vec::new()).await?;
    let exit = if report.ok { Exit::Done } else { Exit::Failed };
    if out.json() {
        out.raw(&raw)?;
        return Ok(exit);
    }
    out.field("version", &report.version)?;
    for (name, value) in &report.store {
        let text = match value {
            Value::Null => continue,
            Value::Array(texts) if texts.is_empty() => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        out.field(&format!("store {name}"), &text)?;
    }
    let mut table =
        Table::new(&["application", "uid", "messages", "waiting", "leased", "delivered", "dead", "canceled"]);
    for counts in &report.applications {
        let Counts { messages, waiting, leased, delivered, dead, canceled, .. } = counts;
        let [messages, waiting, leased, delivered, dead, canceled] =
            [messages, waiting, leased, delivered, dead, canceled].map(u64::to_string);
        let style = if counts.adds_up { Style::Plain } else { Style::Bad };
        let uid = counts.uid.as_deref().unwrap_or("-");
        let cells = [counts.id.as_str(), uid, &messages, &waiting, &leased, &delivered, &dead, &canceled];
        table.styled(cells.map(|cell| (cell, style)), (!counts.adds_up).then_some("these do not add up"));
    }
    table.print(out, "there are no applications")?;
    for problem in &report.problems {
        out.line(&out.paint(Style::Bad, &format!("problem: {}", super::escape::shown(problem))))?;
    }
    out.line(&match report.ok {
        true => out.paint(Style::Good, "all is well"),
        false => out.paint(Style::Bad, "not all is well"),
    })?;
    Ok(exit)
}
