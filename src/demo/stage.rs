//! The play itself: one task that owns the receivers' customers, the sender's process and everything that is known.
//!
//! It waits for one of two things, a request that a receiver got or a line that the sender reported, until what the
//! present act is about has come true.

use ringback::Timestamp;
use ringback::clock::{Clock, SystemClock};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use anyhow::{Context, bail};

use super::customer::Customer;
use super::lines::{Command, Line};
use super::process::Process;
use super::receiver::{Asked, Down};
use super::record::{News, Record, Story};
use super::report::{Facts, Kill, Report, judge};
use super::scenario::{PerVendor, Vendor, Wave};
use super::scratch::Scratch;
use super::screen::Screen;

/// How many requests may wait for the stage. There are at most as many as deliveries.
const WAITING: usize = 64;

/// Everything that the play works with.
pub(super) struct Stage {
    screen: Screen,
    clock: SystemClock,
    scratch: Scratch,
    urls: PerVendor<String>,
    /// Receivers that are up. They end with the stage.
    receivers: JoinSet<()>,
    asked: mpsc::Receiver<Asked>,
    /// How a receiver that comes up asks the stage.
    ask: mpsc::Sender<Asked>,
    /// Subverse's receiver, until it comes up.
    down: Option<Down>,
    customers: PerVendor<Customer>,
    record: Record,
    sender: Option<Process>,
    facts: Facts,
    waits_for: &'static str,
}

impl Stage {
    /// Takes the ports and starts the receivers that are up from the start.
    pub(super) fn set_up(screen: Screen, scratch: Scratch) -> anyhow::Result<Self> {
        let mut receivers = JoinSet::new();
        let (ask, asked) = mpsc::channel(WAITING);
        let mut down = None;
        let urls = PerVendor::try_make(|vendor| {
            let receiver = Down::at_a_free_port(vendor)?;
            let url = receiver.url();
            match vendor {
                Vendor::Levers | Vendor::Levrage => receiver.come_up(&mut receivers, ask.clone())?,
                Vendor::Subverse => down = Some(receiver),
            }
            anyhow::Ok(url)
        })?;
        let facts = Facts { folder: scratch.kept(), ..Facts::default() };
        screen.introduce(&scratch.path().display().to_string(), &urls);
        Ok(Stage {
            screen,
            clock: SystemClock::starting_at(Timestamp::ZERO),
            scratch,
            urls,
            receivers,
            asked,
            ask,
            down,
            customers: PerVendor::try_make(Customer::of)?,
            record: Record::new(),
            sender: None,
            facts,
            waits_for: "the sender to start",
        })
    }

    /// What it is waiting for, to be told if it never comes.
    pub(super) fn waits_for(&self) -> &'static str {
        self.waits_for
    }

    /// Plays the whole of it.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        self.screen.act("The first events: two customers are in trouble, the third is down");
        self.start_sender().await?;
        self.send(Wave::First).await?;
        let levers_delivered = |record: &Record| {
            record.stories.iter().filter(|story| story.event.vendor == Vendor::Levers).all(Story::delivered)
        };
        self.until("levers' events to be delivered", levers_delivered).await?;

        self.screen.act("More events, and as soon as they are acknowledged the sender is killed");
        self.send(Wave::Second).await?;
        self.kill().await?;

        self.screen.act("The sender is started again on the same folder, and is told to send everything once more");
        self.start_sender().await?;
        self.facts.restarts += 1;
        self.send_again().await?;
        let gave_up = |record: &Record| {
            let mut letters = record.stories.iter().filter(|story| story.event.becomes_a_dead_letter());
            letters.all(Story::gave_up) && record.wave(Wave::Second).all(|story| !story.attempts.is_empty())
        };
        self.until("a delivery to give up", gave_up).await?;

        self.screen.act("Subverse's customer comes back on the same port");
        let down = self.down.take().context("the receiver is up already")?;
        down.come_up(&mut self.receivers, self.ask.clone())?;
        self.note("it listens; what waits is delivered by its next retry, what gave up stays a dead letter");
        self.until("all others to be delivered", |record| record.stories.iter().all(|s| s.delivered() || s.dead()))
            .await?;

        self.screen.act("What gave up is replayed");
        let letters: Vec<String> = self.record.stories.iter().filter(|s| s.dead()).map(|s| s.event.key()).collect();
        for letter in letters {
            self.tell(&Command::Replay(letter)).await?;
        }
        self.until("the replay to be delivered", |record| record.stories.iter().all(Story::delivered)).await?;
        self.conclude().await
    }

    /// Kills the sender if it still runs, and judges what there is.
    pub(super) async fn end(mut self, played: anyhow::Result<()>) -> Report {
        if let Some(sender) = self.sender.take() {
            // Its folder is about to be removed.
            let _ = sender.kill().await;
        }
        self.facts.failure = played.err().map(|error| format!("{error:#}"));
        self.facts.seconds = self.clock.now().since(Timestamp::ZERO).as_secs_f64();
        let report = judge(self.facts, &self.record, &self.customers);
        self.screen.conclude(&report);
        report
    }

    async fn start_sender(&mut self) -> anyhow::Result<()> {
        let sender = Process::start(self.scratch.path(), &self.urls)?;
        self.note(&format!("the sender starts as process {}", sender.id()));
        self.sender = Some(sender);
        Ok(())
    }

    /// Has the events of a wave sent, and waits until each is acknowledged.
    async fn send(&mut self, wave: Wave) -> anyhow::Result<()> {
        let keys: Vec<String> = self.record.wave(wave).map(|story| story.event.key()).collect();
        let count = keys.len();
        self.tell(&Command::Send(keys)).await?;
        let acknowledged = move |record: &Record| record.wave(wave).all(|story| story.message.is_some());
        self.until("the events to be acknowledged", acknowledged).await?;
        self.note(&format!("acknowledged: {count} events are on disk"));
        Ok(())
    }

    async fn send_again(&mut self) -> anyhow::Result<()> {
        let keys: Vec<String> = self.record.stories.iter().map(|story| story.event.key()).collect();
        let count = keys.len();
        self.tell(&Command::Send(keys)).await?;
        self.until("the events to be acknowledged again", |record| record.stories.iter().all(|s| s.repeated)).await?;
        self.note(&format!("all {count} events were known by their idempotency keys: nothing new is stored"));
        Ok(())
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        let sender = self.sender.take().context("no sender runs")?;
        let id = sender.id();
        let (status, rest) = sender.kill().await?;
        for line in rest {
            self.hear(line)?;
        }
        let known: Vec<&Story> = self.record.stories.iter().filter(|story| story.message.is_some()).collect();
        let delivered = known.iter().filter(|story| story.delivered()).count();
        let open = known.len() - delivered;
        let acknowledged = known.iter().map(|story| story.event.key()).collect();
        let in_flight = self.in_flight();
        self.note(&format!(
            "process {id} is killed: {delivered} events delivered, {open} acknowledged and open, {in_flight} requests on their way"
        ));
        let by_signal = ended_by_signal(status);
        self.facts.kills.push(Kill { by_signal, acknowledged, delivered, open, in_flight });
        Ok(())
    }

    /// Requests that receivers got and no attempt on record accounts for.
    fn in_flight(&self) -> usize {
        let stories = self.record.stories.iter();
        let unaccounted = stories.map(|story| {
            let got = self.customers.of(story.event.vendor).got(&story.event);
            // Refused connections are attempts without a request.
            got.requests.saturating_sub(story.attempts.len() - story.count("refused"))
        });
        unaccounted.sum()
    }

    /// Hears how every delivery stands, and lets the sender end by itself.
    async fn conclude(&mut self) -> anyhow::Result<()> {
        self.tell(&Command::Conclude).await?;
        self.until("the sender's account", |record| record.stories.iter().all(|s| s.stands.is_some())).await?;
        self.waits_for = "the sender to end";
        let status = self.sender.take().context("no sender runs")?.ended().await?;
        self.facts.ended_in_order = status.success();
        Ok(())
    }

    async fn tell(&mut self, command: &Command) -> anyhow::Result<()> {
        self.sender.as_mut().context("no sender runs")?.tell(command).await
    }

    /// Answers requests and hears reports until something holds.
    async fn until(&mut self, waits_for: &'static str, holds: impl Fn(&Record) -> bool) -> anyhow::Result<()> {
        self.waits_for = waits_for;
        while !holds(&self.record) {
            let sender = self.sender.as_mut().context("no sender runs")?;
            tokio::select! {
                // What a receiver got is known before the sender's report of it.
                biased;
                Some(asked) = self.asked.recv() => self.answer(asked),
                line = sender.next() => match line? {
                    Some(line) => self.hear(line)?,
                    None => bail!("the sender ended by itself"),
                },
            }
        }
        Ok(())
    }

    fn answer(&mut self, Asked { request, answer }: Asked) {
        let customer = self.customers.of_mut(request.vendor);
        // If nobody waits for the answer, the sender has hung up or was killed.
        let _ = answer.send(customer.answer(&request, receivers_clock()));
    }

    fn hear(&mut self, line: Line) -> anyhow::Result<()> {
        match self.record.take_in(line)? {
            News::Attempt(attempted) => {
                let event = &self.record.story(&attempted.event)?.event;
                let verified = self.customers.of(event.vendor).got(event).verified();
                self.screen.attempt(self.clock.now().since(Timestamp::ZERO), event, &attempted, verified);
            }
            News::DeadLetters(letters) => {
                self.note(&format!("dead letters in the queue: {}", letters.join(", ")));
                if self.facts.dead_letters.is_empty() {
                    self.facts.dead_letters = letters;
                    self.facts.dead_letters.sort();
                }
            }
            News::Nothing => {}
        }
        Ok(())
    }

    fn note(&self, text: &str) {
        self.screen.note(self.clock.now().since(Timestamp::ZERO), text);
    }
}

/// The receivers have a clock of their own, in seconds since 1970: the sender's may be wrong.
fn receivers_clock() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a receiver does not share the sender's clock")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(unix)]
fn ended_by_signal(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal().is_some()
}

#[cfg(not(unix))]
fn ended_by_signal(status: std::process::ExitStatus) -> bool {
    !status.success()
}
