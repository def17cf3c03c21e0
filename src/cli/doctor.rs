//! `ringback doctor`: whether all is well, and what is not.

use serde::Deserialize;

use super::exit::{Exit, Problem};
use super::out::Out;
use super::records::Record;
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};

/// Checks the store and the counts of every application
///
/// The exit code is 0 only if nothing is wrong. Dead letters are no fault of the store's: they are named, and so is what
/// to do with them. What waits on a folder that no server runs on is wrong.
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
    store: Store,
    #[serde(default)]
    keys: Keys,
    #[serde(default)]
    applications: Vec<Counts>,
    #[serde(default)]
    problems: Vec<String>,
    #[serde(default)]
    advice: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Store {
    open: u64,
    open_bytes: u64,
    leased: u64,
    disk_bytes: u64,
    kept_bytes: u64,
    damaged: u64,
}

/// How the secrets of endpoints are sealed, as the server says it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Keys {
    /// The key that seals.
    pub(super) active: Option<u32>,
    /// How many endpoints are still to be sealed anew.
    pub(super) left: u64,
    /// What is sealed under which key.
    pub(super) sealed: Vec<Sealed>,
}

/// How many endpoints have secrets under a key; 0 is none.
#[derive(Deserialize)]
pub(super) struct Sealed {
    pub(super) key: u32,
    pub(super) endpoints: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    id: String,
    uid: Option<String>,
    messages: u64,
    waiting: u64,
    held: u64,
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
    let stuck = if session.offline() { report.store.open } else { 0 };
    let exit = if report.ok && stuck == 0 { Exit::Done } else { Exit::Failed };
    if out.json() {
        out.raw(&raw)?;
        return Ok(exit);
    }
    out.field("version", &report.version)?;
    show_store(out, &report.store)?;
    show_keys(out, &report.keys)?;
    show_counts(out, &report.applications)?;
    for problem in &report.problems {
        out.line(&out.paint(Style::Bad, &format!("problem: {}", super::escape::shown(problem))))?;
    }
    if stuck > 0 {
        let problem = format!(
            "problem: {stuck} {} with no server to deliver",
            plural(stuck, "delivery waits", "deliveries wait")
        );
        out.line(&out.paint(Style::Bad, &problem))?;
    }
    for counts in report.applications.iter().filter(|counts| counts.dead > 0) {
        out.line(&out.paint(Style::Waiting, &advice(counts)))?;
    }
    for advice in &report.advice {
        out.line(&out.paint(Style::Waiting, &super::escape::shown(advice)))?;
    }
    let dead = report.applications.iter().any(|counts| counts.dead > 0);
    out.line(&match (report.ok, dead || stuck > 0) {
        (true, false) => out.paint(Style::Good, "all is well"),
        (true, true) => out.paint(Style::Good, "the store is sound"),
        (false, _) => out.paint(Style::Bad, "not all is well"),
    })?;
    Ok(exit)
}

fn show_store(out: &Out, store: &Store) -> Result<(), Problem> {
    let Store { open, open_bytes, leased, disk_bytes, kept_bytes, damaged } = store;
    out.field(
        "open",
        &format!("{open} {}, {} of payloads", plural(*open, "delivery", "deliveries"), bytes(*open_bytes)),
    )?;
    out.field("on their way", &leased.to_string())?;
    out.field("kept", &bytes(*kept_bytes))?;
    out.field("on disk", &bytes(*disk_bytes))?;
    out.field("damaged", &format!("{damaged} {}", plural(*damaged, "record", "records")))
}

fn show_keys(out: &Out, keys: &Keys) -> Result<(), Problem> {
    let sealed = match (keys.active, keys.left) {
        // A server of before says nothing of keys.
        (None, _) => return Ok(()),
        (Some(key), 0) => format!("sealed under key {key}"),
        (Some(key), left) => {
            format!("sealed under key {key}; {left} {} still to be", plural(left, "endpoint is", "endpoints are"))
        }
    };
    out.field("secrets", &sealed)
}

fn show_counts(out: &Out, applications: &[Counts]) -> Result<(), Problem> {
    let head = ["application", "uid", "messages", "waiting", "held", "on their way", "delivered", "dead", "canceled"];
    let mut table = Table::new(&head);
    for counts in applications {
        let Counts { messages, waiting, held, leased, delivered, dead, canceled, .. } = counts;
        let [messages, waiting, held, leased, delivered, dead, canceled] =
            [messages, waiting, held, leased, delivered, dead, canceled].map(u64::to_string);
        let style = if counts.adds_up { Style::Plain } else { Style::Bad };
        let uid = counts.uid.as_deref().unwrap_or("-");
        let cells = [counts.id.as_str(), uid, &messages, &waiting, &held, &leased, &delivered, &dead, &canceled];
        table.styled(cells.map(|cell| (cell, style)), (!counts.adds_up).then_some("these do not add up"));
    }
    table.print(out, "there are no applications")
}

/// What to do with dead letters.
fn advice(counts: &Counts) -> String {
    let app = super::escape::shown(counts.uid.as_deref().unwrap_or(&counts.id));
    let dead = counts.dead;
    let letters = plural(dead, "letter", "letters");
    format!("{dead} dead {letters}: ringback log {app} --status failed; ringback replay {app}")
}

pub(super) fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Bytes as people read them: `512 bytes`, `4.0 MiB`.
pub(super) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} {}", plural(count, "byte", "bytes"));
    }
    // Rounded first: 1,048,575 bytes are 1.0 MiB, and not 1024.0 KiB.
    let tenths = |unit: u64| (u128::from(count) * 10 + u128::from(unit) / 2) / u128::from(unit);
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let fitting = units.into_iter().find(|(_, unit)| tenths(*unit) < 10_240);
    let (name, unit) = fitting.unwrap_or(("TiB", 1 << 40));
    format!("{}.{} {name}", tenths(unit) / 10, tenths(unit) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        let shown = [0, 1, 1_023, 1_024, 1_048_575, 4 << 20, 5_368_709_120, u64::MAX].map(bytes);
        let expected =
            ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.0 MiB", "4.0 MiB", "5.0 GiB", "16777216.0 TiB"];
        assert_eq!(shown, expected);
    }
}
