//! `ringback replay`: many deliveries once more, as a job of the server's.

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

/// Attempts deliveries again, after a preview and a question, as a job of the server's; or looks after such a job
///
/// Without --what it takes up what failed: dead letters, and what was canceled because its endpoint was disabled.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    #[command(subcommand)]
    action: Option<Action>,
    /// The application's id or uid
    #[arg(required = true)]
    app: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// How many a second at most, 1 to 10,000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// Say how many there are, and do nothing
    #[arg(long, conflicts_with_all = ["rate", "yes", "wait"])]
    preview: bool,
    /// Show the progress until the job has ended
    #[arg(long)]
    wait: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What is to be attempted again, and where.
#[derive(Debug, clap::Args)]
struct Filter {
    /// What to take up: failed, dead, canceled, delivered, all, or missing (what the endpoint never got)
    #[arg(long, value_name = "WHAT", value_parser = ["failed", "dead", "canceled", "delivered", "all", "missing"])]
    what: Option<String>,
    /// Only what goes to this endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only messages of this type, such as call.completed or call.*; can be given more than once
    #[arg(long, value_name = "TYPE")]
    event_type: Vec<String>,
    /// Only messages with this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Only messages with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only messages from then on, such as 2d or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    since: Option<Timestamp>,
    /// Only messages until then
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    until: Option<Timestamp>,
    /// Send to this endpoint in place of those that the messages were for
    #[arg(long, value_name = "ID", conflicts_with = "to_url")]
    to: Option<String>,
    /// Send to this URL, with the profile, the keys and the headers of --endpoint
    #[arg(long, value_name = "URL", requires = "endpoint")]
    to_url: Option<String>,
}

impl Filter {
    /// The members of the API's object, those that were given.
    fn members(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let time = |value: Option<Timestamp>| value.map(|time| time.to_string().into());
        let types = (!self.event_type.is_empty()).then(|| Value::from(self.event_type.as_slice()));
        let members = [
            ("what", text(&self.what)),
            ("endpointId", text(&self.endpoint)),
            ("eventTypes", types),
            ("channel", text(&self.channel)),
            ("tag", text(&self.tag)),
            ("since", time(self.since)),
            ("until", time(self.until)),
            ("toEndpointId", text(&self.to)),
            ("toUrl", text(&self.to_url)),
        ];
        members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
    }
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the replay jobs of an application
    List {
        /// The application's id or uid
        app: String,
    },
    /// Shows how a job stands
    #[command(alias = "status")]
    Show {
        #[command(flatten)]
        job: Named,
        /// Show the progress until it has ended
        #[arg(long)]
        wait: bool,
    },
    /// Lets a job rest until it is resumed
    Pause(Named),
    /// Lets a job that was paused go on where it was
    Resume(Named),
    /// Stops a job for good. What it has taken up goes on
    Stop(Named),
}

/// A job.
#[derive(Debug, clap::Args)]
struct Named {
    /// The application's id or uid
    app: String,
    /// The job's id
    job: String,
}

#[derive(Deserialize)]
struct Preview {
    count: u64,
    #[serde(default)]
    expunged: u64,
}

/// Replays, or looks after a job.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    match (&options.action, &options.app) {
        (Some(Action::List { app }), _) => jobs(session, app).await?,
        (Some(Action::Show { job: Named { app, job }, wait }), _) => {
            let job = session.api.get(&["app", app, "replay", job], &Vec::new()).await?;
            // Nothing would come of it, and a folder that is open keeps the server out that it waits for.
            let waits_for = if *wait { session.not_delivering().await } else { None };
            if *wait && waits_for.is_none() {
                return watch(session, app, job).await;
            }
            show(session, app, &job)?;
            if let Some(why) = waits_for {
                session.out.note(&format!("the job does nothing now: {why}"));
            }
        }
        (Some(Action::Pause(named)), _) => change(session, named, "pause").await?,
        (Some(Action::Resume(named)), _) => change(session, named, "resume").await?,
        (Some(Action::Stop(named)), _) => change(session, named, "stop").await?,
        (None, Some(app)) => return start(session, app, &options).await,
        (None, None) => return Err(Problem::usage("name an application")),
    }
    Ok(Exit::Done)
}

async fn change(session: &Session, Named { app, job }: &Named, how: &str) -> Result<(), Problem> {
    let path = ["app", app, "replay", job, how];
    show(session, app, &session.api.post(&path, &Vec::new(), &json!({})).await?)
}

async fn start(session: &Session, app: &str, options: &Options) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let mut body = options.filter.members();
    let Record { raw, value: Preview { count, expunged } } =
        api.post::<Record<Preview>>(&["app", app, "replay", "preview"], &Vec::new(), &body).await?;
    let word = if count == 1 { "delivery" } else { "deliveries" };
    let without = match expunged {
        0 => String::new(),
        expunged => format!(" ({expunged} of them without a payload any more, which are skipped)"),
    };
    if options.preview {
        if out.json() {
            out.raw(&raw)?;
        } else {
            out.line(&format!("{count} {word} would be attempted again{without}"))?;
        }
        return Ok(Exit::Done);
    }
    if count == 0 {
        out.note("there is nothing to replay");
        return Ok(Exit::Done);
    }
    confirm(&format!("{count} {word} would be attempted again{without}. Go on?"), options.yes).await?;
    body.extend(options.rate.map(|rate| ("rate".to_owned(), rate.into())));
    let job: Record<ReplayJob> = api.post(&["app", app, "replay"], &Vec::new(), &body).await?;
    let waits_for = session.not_delivering().await;
    if waits_for.is_none() && options.wait {
        return watch(session, app, job).await;
    }
    show(session, app, &job)?;
    out.note(&match waits_for {
        Some(why) => format!("the job is stored, and does nothing yet: {why}"),
        None => format!("the job goes on. How it stands: ringback replay show {app} {}", job.value.id),
    });
    Ok(Exit::Done)
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
    while matches!(job.value.status.as_str(), "running" | "paused") {
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
                    "the job goes on without you. How it stands: ringback replay show {app} {id}\n\
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
    let text = format!("{}\nthe job goes on when the server runs again: ringback replay show {app} {id}", problem.text);
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
    let ReplayJob { skips, endpoint_id, .. } = &job.value;
    let reasons = [
        (skips.closed, "their endpoint takes nothing (disabled)"),
        (skips.expunged, "their payload was expunged"),
        (skips.under_way, "they are under way already"),
        (skips.gone, "their message is not kept any more"),
    ];
    for (count, why) in reasons.into_iter().filter(|(count, _)| *count > 0) {
        out.note(&format!("{count} skipped: {why}"));
    }
    if skips.closed > 0 {
        let endpoint = endpoint_id.as_deref().unwrap_or("ENDPOINT");
        out.note(&format!("to let it take them: ringback endpoint enable {app} {endpoint}"));
    }
    Ok(())
}

fn show_job(out: &Out, job: &ReplayJob) -> Result<(), Problem> {
    out.field("job", &job.id)?;
    out.field("what", &job.what)?;
    out.field("to", job.to_endpoint_id.as_deref().unwrap_or_default())?;
    out.field("status", &job.status)?;
    out.field("replayed", &format!("{} of {}", job.replayed, job.total))?;
    out.field("skipped", &if job.skipped > 0 { job.skipped.to_string() } else { String::new() })?;
    let left = job.remaining_seconds.map(|seconds| times::short(Duration::from_secs(seconds)));
    out.field("at least", &left.map(|left| format!("{left} left")).unwrap_or_default())
}

async fn jobs(session: &Session, app: &str) -> Result<(), Problem> {
    let (jobs, _) = list::<ReplayJob>(session, &["app", app, "replay"], &Vec::new(), 1_000).await?;
    if session.out.json() {
        return jobs.iter().try_for_each(|job| session.out.raw(&job.raw));
    }
    let mut table = Table::new(&["id", "started (UTC)", "what", "status", "replayed", "skipped", "of"]);
    for Record { value: job, .. } in &jobs {
        let [replayed, skipped, total] = [job.replayed, job.skipped, job.total].map(|count| count.to_string());
        table.row([&job.id, &times::clock_time(&job.created_at), &job.what, &job.status, &replayed, &skipped, &total]);
    }
    table.print(&session.out, "there are no replay jobs")
}
