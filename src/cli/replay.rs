//! `ringback replay`: dead letters, many at once.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringback::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::exit::{Exit, Problem};
use super::interrupt::Interrupt;
use super::out::{Out, confirm};
use super::records::{Record, ReplayJob, list};
use super::table::Table;
use super::target::{Session, Target};
use super::times;

/// How often a job is looked at.
const EVERY: Duration = Duration::from_millis(300);
/// How often a line says how far it is, where there is no terminal for a bar.
const WORD: Duration = Duration::from_secs(10);

/// Attempts dead letters again, after a preview and a question; or looks after such a job
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    #[command(subcommand)]
    what: Option<What>,
    /// The application's id or uid
    #[arg(required = true)]
    app: Option<String>,
    /// Only those to this endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only messages from then on, such as 2d or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    since: Option<Timestamp>,
    /// Only messages until then
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    until: Option<Timestamp>,
    /// How many a second at most [default: the server's]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Lists the replay jobs of an application
    List {
        /// The application's id or uid
        app: String,
    },
    /// Shows how a job stands
    Status {
        /// The application's id or uid
        app: String,
        /// The job's id
        job: String,
    },
    /// Stops a job. What it has replayed stays replayed
    Stop {
        /// The application's id or uid
        app: String,
        /// The job's id
        job: String,
    },
}

#[derive(Deserialize)]
struct Preview {
    count: u64,
}

/// Replays, or looks after a job.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    let api = &session.api;
    match (options.what, options.app) {
        (Some(What::List { app }), _) => jobs(session, &app).await?,
        (Some(What::Status { app, job }), _) => {
            show(session, &app, &api.get(&["app", &app, "replay", &job], &Vec::new()).await?)?;
        }
        (Some(What::Stop { app, job }), _) => {
            show(session, &app, &api.post(&["app", &app, "replay", &job, "stop"], &Vec::new(), &json!({})).await?)?;
        }
        (None, Some(app)) => {
            let filter = [
                ("endpointId", options.endpoint.map(Value::from)),
                ("since", options.since.map(|time| time.to_string().into())),
                ("until", options.until.map(|time| time.to_string().into())),
            ];
            let members = filter.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
            return start(session, &app, members.collect(), options.rate, options.yes).await;
        }
        (None, None) => return Err(Problem::usage("name an application")),
    }
    Ok(Exit::Done)
}

async fn start(
    session: &Session,
    app: &str,
    mut body: Map<String, Value>,
    rate: Option<u32>,
    yes: bool,
) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let preview: Preview = api.post(&["app", app, "replay", "preview"], &Vec::new(), &body).await?;
    if preview.count == 0 {
        out.note("there are no such dead letters");
        return Ok(Exit::Done);
    }
    let count = preview.count;
    confirm(&format!("{count} dead {} would be attempted again. Go on?", letters(count)), yes).await?;
    body.extend(rate.map(|rate| ("rate".to_owned(), rate.into())));
    let job: Record<ReplayJob> = api.post(&["app", app, "replay"], &Vec::new(), &body).await?;
    if let Some(why) = session.not_delivering().await {
        show(session, app, &job)?;
        out.note(&format!("the job is stored, and does nothing yet: {why}"));
        return Ok(Exit::Done);
    }
    watch(session, app, job).await
}

fn letters(count: u64) -> &'static str {
    if count == 1 { "letter" } else { "letters" }
}

/// Shows a job's progress until it has ended. Giving up on it does not stop it.
async fn watch(session: &Session, app: &str, mut job: Record<ReplayJob>) -> Result<Exit, Problem> {
    let out = &session.out;
    let id = job.value.id.clone();
    let bar = progress_bar(session, job.value.total);
    let mut interrupt = Interrupt::listen()?;
    let mut word = tokio::time::interval(WORD);
    word.tick().await;
    let wordy = !std::io::stderr().is_terminal();
    out.note(&format!("the job {id} attempts them again; Ctrl-C leaves it running"));
    while job.value.status == "running" {
        bar.set_length(job.value.total);
        bar.set_position(job.value.replayed + job.value.skipped);
        job = tokio::select! {
            later = later(session, app, &id) => later.map_err(|problem| lost(problem, app, &id))?,
            _ = word.tick(), if wordy => {
                let ReplayJob { replayed, skipped, total, .. } = &job.value;
                out.note(&format!("{} of {total} so far", replayed + skipped));
                continue;
            }
            () = interrupt.came() => {
                bar.abandon();
                out.note(&format!(
                    "the job goes on without you. How it stands: ringback replay status {app} {id}\n\
                     To stop it: ringback replay stop {app} {id}"
                ));
                return Ok(Exit::Done);
            }
        };
    }
    bar.finish_and_clear();
    show(session, app, &job)?;
    Ok(if job.value.status == "finished" { Exit::Done } else { Exit::Failed })
}

/// The server ended, and the job did not.
fn lost(problem: Problem, app: &str, id: &str) -> Problem {
    if problem.exit != Exit::Unreachable {
        return problem;
    }
    let text =
        format!("{}\nthe job goes on when the server runs again: ringback replay status {app} {id}", problem.text);
    Problem { text, ..problem }
}

/// How a job stands a moment later.
async fn later(session: &Session, app: &str, id: &str) -> Result<Record<ReplayJob>, Problem> {
    tokio::time::sleep(EVERY).await;
    session.api.get(&["app", app, "replay", id], &Vec::new()).await
}

/// A bar on the standard error, if that is a terminal.
fn progress_bar(session: &Session, total: u64) -> ProgressBar {
    if session.out.json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left");
    bar.with_style(style.expect("the template names what a bar has"))
}

fn show(session: &Session, app: &str, job: &Record<ReplayJob>) -> Result<(), Problem> {
    let out = &session.out;
    if out.json() {
        out.raw(&job.raw)?;
    } else {
        show_job(out, &job.value)?;
    }
    let ReplayJob { skipped, endpoint_id, .. } = &job.value;
    if *skipped > 0 {
        let endpoint = endpoint_id.as_deref().unwrap_or("ENDPOINT");
        out.note(&format!(
            "{skipped} skipped: the endpoint takes nothing (disabled), or the payload was expunged; \
             ringback endpoint enable {app} {endpoint}"
        ));
    }
    Ok(())
}

fn show_job(out: &Out, job: &ReplayJob) -> Result<(), Problem> {
    out.field("job", &job.id)?;
    out.field("status", &job.status)?;
    out.field("replayed", &format!("{} of {}", job.replayed, job.total))?;
    out.field("skipped", &if job.skipped > 0 { job.skipped.to_string() } else { String::new() })
}

async fn jobs(session: &Session, app: &str) -> Result<(), Problem> {
    let (jobs, _) = list::<ReplayJob>(session, &["app", app, "replay"], &Vec::new(), 1_000).await?;
    if session.out.json() {
        return jobs.iter().try_for_each(|job| session.out.raw(&job.raw));
    }
    let mut table = Table::new(&["id", "started (UTC)", "status", "replayed", "skipped", "of"]);
    for Record { value: job, .. } in &jobs {
        let [replayed, skipped, total] = [job.replayed, job.skipped, job.total].map(|count| count.to_string());
        table.row([&job.id, &times::clock_time(&job.created_at), &job.status, &replayed, &skipped, &total]);
    }
    table.print(&session.out, "there are no replay jobs")
}
