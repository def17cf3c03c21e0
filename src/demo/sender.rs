//! The sender: what an embedding program does, in a process of its own that can be killed at any time.
//!
//! Everything it does can be done again: the application and the endpoints have uids, the events have ids and
//! idempotency keys. What it must remember stands in the queue alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ringback::store::{AttemptQuery, DeadQuery};
use ringback::{
    Application, Attempt, Config, Endpoint, Error, MessageId, NewApplication, NewEndpoint, NewMessage, Outcome,
    Ringback, State,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::cli::escaped;

use super::documents;
use super::lines::{Accepted, Attempted, Command, Line};
use super::scenario::{Event, Form, PerVendor, TYPED_ID, Vendor, events};

/// The platform's own name for its application.
const APPLICATION: &str = "ringback-demo";
/// The most attempts or dead letters that the scenario makes: far fewer.
const PAGE: usize = 250;
/// How much of an answer's body is reported.
const ANSWER: usize = 40;

/// What the sender is started with.
#[derive(Debug, clap::Args)]
pub(crate) struct SenderOptions {
    /// The queue's folder
    #[arg(long)]
    data: PathBuf,
    /// Where levers' customer receives
    #[arg(long)]
    levers: String,
    /// Where levrage's customer receives
    #[arg(long)]
    levrage: String,
    /// Where subverse's customer receives
    #[arg(long)]
    subverse: String,
}

impl SenderOptions {
    /// The arguments that say this.
    pub(super) fn arguments(data: &Path, urls: &PerVendor<String>) -> Vec<std::ffi::OsString> {
        let mut arguments = vec!["demo-sender".into(), "--data".into(), data.into()];
        for (vendor, url) in Vendor::ALL.into_iter().zip(urls.iter()) {
            arguments.extend([format!("--{}", vendor.name()).into(), url.into()]);
        }
        arguments
    }

    fn url(&self, vendor: Vendor) -> &str {
        match vendor {
            Vendor::Levers => &self.levers,
            Vendor::Levrage => &self.levrage,
            Vendor::Subverse => &self.subverse,
        }
    }
}

/// Opens the queue and delivers, reports every attempt on the standard output, and obeys the standard input until
/// it ends.
pub(crate) async fn run(options: SenderOptions) -> anyhow::Result<()> {
    let ringback = Ringback::open(config(&options.data)?).await.context("cannot open the queue")?;
    let sender = Sender::set_up(ringback.clone(), &options).await?;
    let attempts = ringback.watch();
    report(&Line::Ready)?;
    sender.report_the_log().await?;
    let work = async {
        let worked = tokio::select! {
            obeyed = sender.obey() => obeyed,
            failed = sender.report_attempts(attempts) => failed,
        };
        let closed = ringback.shutdown().await.context("cannot close the queue");
        worked.and(closed)
    };
    let (ran, worked) = tokio::join!(ringback.run(), work);
    worked?;
    ran.context("cannot deliver")
}

fn config(data: &Path) -> anyhow::Result<Config> {
    let mut config = Config::new(data);
    // Receivers on this machine are called by nobody's default.
    config.egress.allowed_networks.push("127.0.0.1".parse()?);
    config.shutdown_grace = Duration::from_secs(1);
    // A demo fits on a small disk.
    config.min_free_bytes = 16 << 20;
    // It shows the vendors' schedules: with a receiver that is down for a while, an endpoint's rest would hide them.
    config.breaker_failures = 0;
    Ok(config)
}

fn report(line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).context("nobody reads the reports")
}

struct Sender {
    ringback: Ringback,
    application: Application,
    endpoints: PerVendor<Endpoint>,
}

impl Sender {
    /// Finds the application and its endpoints, or makes them.
    async fn set_up(ringback: Ringback, options: &SenderOptions) -> anyhow::Result<Self> {
        let application = match ringback.application_by_uid(APPLICATION) {
            Err(Error::NotFound(_)) => {
                let new = NewApplication::named("The demo's platform").uid(APPLICATION);
                ringback.create_application(new).await
            }
            found => found,
        };
        let application = application.context("cannot make the application")?;
        let mut made = Vec::new();
        for vendor in Vendor::ALL {
            let endpoint = match ringback.endpoint_by_uid(application.id, vendor.name()) {
                Err(Error::NotFound(_)) => {
                    ringback.create_endpoint(application.id, new_endpoint(vendor, options.url(vendor))).await
                }
                found => found,
            };
            made.push(endpoint.with_context(|| format!("cannot make the endpoint of {}", vendor.name()))?);
        }
        let mut made = made.into_iter();
        let endpoints = PerVendor::try_make(|_| made.next().context("there is an endpoint a vendor"))?;
        Ok(Sender { ringback, application, endpoints })
    }

    /// Does what the standard input says, line by line, until it ends.
    async fn obey(&self) -> anyhow::Result<()> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await.context("cannot read the commands")? {
            match serde_json::from_str(&line).context("cannot understand a command")? {
                Command::Send(keys) => self.send(&keys).await?,
                Command::Replay(key) => self.replay(&key).await?,
                Command::Conclude => return self.report_how_it_stands().await,
            }
        }
        Ok(())
    }

    async fn send(&self, keys: &[String]) -> anyhow::Result<()> {
        for event in events().into_iter().filter(|event| keys.contains(&event.key())) {
            let key = event.key();
            let message = message(&event)?.event_id(&key).idempotency_key(&key);
            let sent = self.ringback.send(self.application.id, message).await;
            let sent = sent.with_context(|| format!("cannot send {key}"))?;
            // `send` has returned, so this is a promise.
            report(&Line::Accepted(Accepted { event: key, message: sent.id.to_string(), repeated: sent.repeated }))?;
        }
        Ok(())
    }

    async fn replay(&self, key: &str) -> anyhow::Result<()> {
        let application = self.application.id;
        let query = DeadQuery { limit: PAGE, ..DeadQuery::default() };
        let mut dead_letters = Vec::new();
        for letter in self.ringback.dead_letters(application, query).await?.items {
            dead_letters.push(self.key_of(letter.message).await?);
        }
        let event = event_by_key(key)?;
        let message = self.ringback.message_by_event_id(application, key).await?;
        let endpoint = self.endpoints.of(event.vendor).id;
        self.ringback.replay(application, message.id, endpoint).await.context("cannot replay")?;
        report(&Line::Replayed { event: key.to_owned(), dead_letters })
    }

    /// Reports how every delivery stands, by the queue and not by what was watched.
    async fn report_how_it_stands(&self) -> anyhow::Result<()> {
        let application = self.application.id;
        for event in events() {
            let key = event.key();
            let message = self.ringback.message_by_event_id(application, &key).await?;
            let deliveries = self.ringback.deliveries(application, message.id).await?;
            let [delivery] = deliveries.as_slice() else {
                bail!("{key} has {} deliveries, not one", deliveries.len());
            };
            let query = AttemptQuery { message: Some(message.id), limit: PAGE, ..AttemptQuery::default() };
            let attempts = self.ringback.attempts(application, query).await?.items.len();
            report(&Line::Stands { event: key, state: delivery.state.kind(), attempts })?;
        }
        Ok(())
    }

    /// Reports the attempts of earlier lives, oldest first: what was recorded and not reported before a kill.
    async fn report_the_log(&self) -> anyhow::Result<()> {
        let query = AttemptQuery { limit: PAGE, ..AttemptQuery::default() };
        let attempts = self.ringback.attempts(self.application.id, query).await?.items;
        for attempt in attempts.iter().rev() {
            report(&Line::Attempted(Attempted { from_log: true, ..self.attempted(attempt).await? }))?;
        }
        Ok(())
    }

    async fn report_attempts(&self, mut attempts: broadcast::Receiver<Arc<Attempt>>) -> anyhow::Result<()> {
        loop {
            match attempts.recv().await {
                Ok(attempt) => report(&Line::Attempted(self.attempted(&attempt).await?))?,
                Err(RecvError::Lagged(missed)) => bail!("{missed} attempts were missed"),
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn attempted(&self, attempt: &Attempt) -> anyhow::Result<Attempted> {
        let answer = attempt.response.as_ref().map(|response| escaped(&response.body, ANSWER));
        Ok(Attempted {
            event: self.key_of(attempt.delivery.message).await?,
            id: attempt.id.to_string(),
            number: attempt.number,
            round: attempt.round,
            trigger: attempt.trigger,
            outcome: match attempt.outcome {
                Outcome::Answered { status, .. } => status.to_string(),
                Outcome::Failed(failure) => failure.code().to_owned(),
            },
            answer: answer.unwrap_or_default(),
            result: attempt.result,
            hint: attempt.hint().map(str::to_owned),
            wait_ms: self.wait_after(attempt).await?,
            took_ms: attempt.timing.total_us / 1000,
            from_log: false,
        })
    }

    /// How long the delivery waits after an attempt; `None` if it does not wait, or has got on already.
    async fn wait_after(&self, attempt: &Attempt) -> anyhow::Result<Option<u64>> {
        let id = attempt.delivery;
        let deliveries = self.ringback.deliveries(id.lane.application, id.message).await?;
        let now = deliveries.iter().find(|delivery| delivery.id == id);
        let ended = attempt.started_at + attempt.timing.total();
        Ok(now.filter(|now| now.progress.attempts == attempt.number).and_then(|now| match now.state {
            State::Waiting { due } => u64::try_from(due.since(ended).as_millis()).ok(),
            State::Held { .. }
            | State::Leased { .. }
            | State::Delivered { .. }
            | State::Dead { .. }
            | State::Canceled { .. } => None,
        }))
    }

    async fn key_of(&self, message: MessageId) -> anyhow::Result<String> {
        let message = self.ringback.message(self.application.id, message).await?;
        message.event_id.clone().context("a message without an event id is none of the demo's")
    }
}

fn event_by_key(key: &str) -> anyhow::Result<Event> {
    let found = events().into_iter().find(|event| event.key() == key);
    found.with_context(|| format!("the demo has no event {key}"))
}

fn new_endpoint(vendor: Vendor, url: &str) -> NewEndpoint {
    let endpoint = NewEndpoint::at(url)
        .uid(vendor.name())
        .profile(vendor.name())
        .retry(vendor.scaled_retry())
        .timeout(vendor.scaled_timeout());
    // All three are one application's, so the event types say whose is what.
    match vendor {
        Vendor::Levers => endpoint.event_type("phone_call.*").secret(vendor.secret()),
        Vendor::Levrage => endpoint.event_type("CALL_ENDED").secret(vendor.secret()),
        Vendor::Subverse => {
            endpoint.event_type("call.*").event_type("workflow.*").header("Authorization", vendor.secret())
        }
    }
}

/// What is sent of an event.
fn message(event: &Event) -> anyhow::Result<NewMessage> {
    match event.form {
        Form::Document => ringback::example(event.vendor.name(), event.event_type)
            .with_context(|| format!("{} has no example of {}", event.vendor.name(), event.event_type)),
        Form::Typed => typed_message(event),
    }
}

/// The typed event, filled with what the vendor's page says in its example.
fn typed_message(event: &Event) -> anyhow::Result<NewMessage> {
    use ringback::levers::PhoneCallEnded;
    use ringback::levrage::CallEnded;
    use ringback::subverse::{CallData, CallEvent, WorkflowData, WorkflowEvent};

    let document = documents::payload(event.vendor, event.event_type);
    let id = TYPED_ID.to_owned();
    Ok(match event.vendor {
        Vendor::Levers => {
            let call: PhoneCallEnded = serde_json::from_str(document)?;
            PhoneCallEnded { provider_call_id: id, ..call }.into()
        }
        Vendor::Levrage => {
            let call: CallEnded = serde_json::from_str(document)?;
            CallEnded { session_id: id, ..call }.into()
        }
        Vendor::Subverse if event.event_type.starts_with("workflow.") => {
            let run: WorkflowData = serde_json::from_str(document)?;
            WorkflowEvent::new(event.event_type.into(), WorkflowData { workflow_id: id, ..run }).into()
        }
        Vendor::Subverse => {
            let call: CallData = serde_json::from_str(document)?;
            CallEvent::new(event.event_type.into(), CallData { call_id: id, ..call }).into()
        }
    })
}
