//! `ringback erase`: what must be gone for good.

use std::time::Duration;

use serde::Deserialize;

use super::exit::{Exit, Problem};
use super::interrupt::Interrupt;
use super::out::confirm;
use super::records::{Message, Record};
use super::target::{Session, Target};

/// How often a job is looked at.
const EVERY: Duration = Duration::from_millis(300);

/// Erases messages for good, by a tag or one by one, or a whole application
///
/// They go with their payloads, deliveries, attempts and idempotency keys, also where they wait to be delivered. The bytes
/// stay in the free space of the store's files until those are compacted.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) at: Target,
    /// The application's id or uid
    app: String,
    /// Every message with this tag, such as user:123
    #[arg(long, value_name = "TAG", group = "what")]
    tag: Option<String>,
    /// This message, by its id or your own id of the event
    #[arg(long, value_name = "ID", group = "what")]
    message: Option<String>,
    /// The application itself, with its endpoints and everything else
    #[arg(long, group = "what")]
    application: bool,
    /// Compact the store afterwards, so that the bytes are gone from its files as well
    #[arg(long)]
    compact: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    id: String,
    status: String,
    messages: u64,
    deliveries: u64,
    attempts: u64,
    in_flight: u64,
}

#[derive(Deserialize)]
struct Preview {
    count: u64,
}

/// Erases, and waits for the end.
pub(super) async fn run(session: &Session, options: Options) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    let app = options.app.as_str();
    let mut job: Record<Job> = match (&options.tag, &options.message) {
        (None, None) => {
            confirm(&format!("Erase the application {app} with everything that it has, for good?"), options.yes)
                .await?;
            api.delete_with(&["app", app], &vec![("erase", "true".to_owned())]).await?
        }
        (tag, message) => {
            let mut body = serde_json::Map::new();
            if let Some(tag) = tag {
                body.insert("tag".to_owned(), tag.as_str().into());
            }
            if let Some(message) = message {
                // The API takes its id alone, so that nothing else is erased by a slip of the pen.
                let found: Message = api.get(&["app", app, "msg", message], &Vec::new()).await?;
                body.insert("messageId".to_owned(), found.id.into());
            }
            body.insert("preview".to_owned(), true.into());
            let Preview { count } = api.post(&["app", app, "erase"], &Vec::new(), &body).await?;
            if count == 0 {
                out.note("there are no such messages");
                return Ok(Exit::Done);
            }
            let messages = super::doctor::plural(count, "message", "messages");
            confirm(&format!("Erase {count} {messages} of {app} for good?"), options.yes).await?;
            body.remove("preview");
            api.post(&["app", app, "erase"], &Vec::new(), &body).await?
        }
    };
    let mut interrupt = Interrupt::listen()?;
    let id = job.value.id.clone();
    while job.value.status == "running" {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = interrupt.came() => {
                out.note(&format!("the job {id} goes on without you, also after a restart"));
                return Ok(Exit::Done);
            }
        }
        job = api.get(&["erase", &id], &Vec::new()).await?;
    }
    if out.json() {
        out.raw(&job.raw)?;
    } else {
        let Job { messages, deliveries, attempts, in_flight, .. } = &job.value;
        out.field("erased", &format!("{messages} messages, {deliveries} deliveries, {attempts} attempts"))?;
        if *in_flight > 0 {
            out.field("in flight", &in_flight.to_string())?;
        }
    }
    if options.compact {
        return super::compact::run(session).await;
    }
    out.note("their bytes are gone from the store's files once it is compacted: ringback compact");
    Ok(Exit::Done)
}
