//! The dispatcher: the plan's thin shell. The only place that spawns tasks, and it joins them.
//!
//! One task owns the plan. It waits for an attempt's end, a settlement's end, the store's bell, the next due
//! time or the shutdown; tells the plan; and does what the plan says. Attempts run as tasks of their own, and
//! write nothing.

mod courier;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

use crate::attempt::Attempt;
use crate::board::Board;
use crate::clock::Clock;
use crate::directory::{Directory, Sweeps};
use crate::observed::Observed;
use crate::plan::{Attempted, Caps, Command, Event, Plan, stragglers};
use crate::random::IdSource;
use crate::store::{self, Settled, Settlement, Store};
use crate::transport::Transport;

/// What a dispatcher works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) sweeps: Arc<Sweeps>,
    pub(crate) board: Arc<Board>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) ids: Arc<IdSource>,
    /// Settled attempts, for whoever watches.
    pub(crate) settled: broadcast::Sender<Arc<Attempt>>,
}

type Settling = Pin<Box<dyn Future<Output = (Arc<Vec<Settlement>>, Result<Vec<Settled>, store::Error>)> + Send>>;

/// Runs the plan.
pub(crate) struct Dispatcher {
    parts: Parts,
    plan: Plan,
    tasks: JoinSet<Box<Attempted>>,
    settling: Option<Settling>,
    /// How many applications the directory had forgotten when the plan was told last.
    forgotten: u64,
    stopped: bool,
}

impl Dispatcher {
    pub(crate) fn new(parts: Parts, caps: Caps) -> Self {
        let forgotten = parts.directory.forgotten();
        Dispatcher { parts, plan: Plan::new(caps), tasks: JoinSet::new(), settling: None, forgotten, stopped: false }
    }

    /// Delivers until `shutdown` rings, then lets what is on its way finish for at most `grace`. What has not
    /// finished by then leaves no record and is due again at the next open.
    pub(crate) async fn run(mut self, shutdown: &Notify, grace: Duration) {
        let bell = self.parts.store.bell();
        self.tell(Event::Rang).await;
        let mut grace_over = None::<Pin<Box<tokio::time::Sleep>>>;
        while !self.stopped {
            let wake = self.plan.wake_at().map(|at| at.since(self.parts.clock.now()));
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.attempts_ended(ended).await,
                done = wait(&mut self.settling) => self.settled(done).await,
                () = bell.notified() => self.tell(Event::Rang).await,
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => self.tell(Event::Rang).await,
                () = shutdown.notified(), if grace_over.is_none() => {
                    grace_over = Some(Box::pin(tokio::time::sleep(grace)));
                    self.tell(Event::Shutdown).await;
                }
                () = async { grace_over.as_mut().expect("guarded").as_mut().await }, if grace_over.is_some() => break,
            }
        }
        self.tasks.shutdown().await;
        if let Some(settling) = self.settling.take() {
            let _ = settling.await;
        }
    }

    /// Tells the plan, and does what it says, until it has nothing more to say.
    async fn tell(&mut self, event: Event) {
        let directory = &self.parts.directory;
        let forgotten = directory.forgotten();
        if std::mem::replace(&mut self.forgotten, forgotten) != forgotten {
            self.plan.forget_applications(|application| directory.knows(application));
        }
        let mut commands = VecDeque::from(self.plan.step(event, self.parts.clock.now()));
        while let Some(command) = commands.pop_front() {
            if let Some(event) = self.carry_out(command).await {
                commands.extend(self.plan.step(event, self.parts.clock.now()));
            }
        }
        self.parts.board.show(self.plan.take_changed());
    }

    /// Does one thing; the event is its immediate answer.
    async fn carry_out(&mut self, command: Command) -> Option<Event> {
        let Parts { store, clock, directory, .. } = &self.parts;
        match command {
            Command::Look { after, limit } => match store.due_lanes(clock.now(), after, limit).await {
                Ok(due) => {
                    let found = directory.find(&due.lanes);
                    Some(Event::Looked { found, more: due.more, next_due: due.next_due })
                }
                Err(error) => Some(store_failed(&error)),
            },
            Command::Claim { wanted, until } => match store.claim(clock.now(), wanted, until).await {
                Ok(leases) => Some(Event::Claimed(leases)),
                Err(error) => Some(store_failed(&error)),
            },
            Command::Attempt { lease, destination } => {
                let parts = self.parts.clone();
                self.tasks.spawn(courier::attempt(parts, lease, destination));
                None
            }
            Command::Settle(batch) => {
                let store = Arc::clone(store);
                self.settling = Some(Box::pin(async move {
                    let result = store.settle(Arc::clone(&batch)).await;
                    (batch, result)
                }));
                None
            }
            Command::Stop => {
                self.stopped = true;
                None
            }
        }
    }

    /// Tells the plan of an ended attempt, and of all others that have ended by now.
    async fn attempts_ended(&mut self, first: Result<Box<Attempted>, tokio::task::JoinError>) {
        let mut next = Some(first);
        while let Some(ended) = next {
            match ended {
                Ok(ended) => self.tell(Event::Attempted(ended)).await,
                // Attempts catch their own panics, and are aborted only after the last event.
                Err(error) => tracing::error!(%error, "an attempt ended without a result"),
            }
            next = self.tasks.try_join_next();
        }
    }

    async fn settled(&mut self, done: (Arc<Vec<Settlement>>, Result<Vec<Settled>, store::Error>)) {
        self.settling = None;
        let (batch, result) = done;
        match &result {
            Ok(results) => {
                for (settlement, settled) in batch.iter().zip(results) {
                    self.publish(settlement, *settled);
                }
                let Parts { observed, directory, clock, .. } = &self.parts;
                observed.settled(&batch, results, directory, clock.now());
                for (lane, reason) in stragglers(&batch, &self.parts.directory) {
                    self.parts.sweeps.note(lane, Err(reason));
                }
            }
            Err(error) => tracing::warn!(%error, settlements = batch.len(), "settlements wait for the store"),
        }
        drop(batch);
        self.tell(Event::Settled(result)).await;
    }

    /// An event for each attempt that is on record; and a line, for an embedding program that wants one and has no watcher.
    fn publish(&self, settlement: &Settlement, settled: Settled) {
        let (Some(attempt), Settled::Done) = (&settlement.attempt, settled) else { return };
        tracing::debug!(
            application = %attempt.delivery.lane.application,
            endpoint = %attempt.delivery.lane.endpoint,
            message_id = %attempt.delivery.message,
            number = attempt.number,
            outcome = ?attempt.outcome,
            result = ?attempt.result,
            milliseconds = attempt.timing.total_us / 1000,
            "attempt"
        );
        if self.parts.settled.receiver_count() > 0 {
            // An error means that the last watcher has just gone.
            let _ = self.parts.settled.send(Arc::new(attempt.clone()));
        }
    }
}

fn store_failed(error: &store::Error) -> Event {
    match error {
        store::Error::Closed => Event::StoreClosed,
        store::Error::Overloaded(_)
        | store::Error::Unavailable(_)
        | store::Error::Locked { .. }
        | store::Error::NewerFormat { .. }
        | store::Error::NotCompacted(_)
        | store::Error::Open { .. } => {
            tracing::warn!(%error, "the dispatcher waits for the store");
            Event::StoreFailed
        }
    }
}

async fn wait(settling: &mut Option<Settling>) -> (Arc<Vec<Settlement>>, Result<Vec<Settled>, store::Error>) {
    match settling {
        Some(settling) => settling.await,
        None => std::future::pending().await,
    }
}
