//! A sender with one application in a folder of its own, to be closed and opened again.

#![allow(dead_code, reason = "not every suite needs every method")]

use std::time::Duration;

use ringback::store::{AttemptQuery, DeadQuery, MessageQuery};
use ringback::{
    ApplicationId, Attempt, Config, Delivery, DeliveryId, Endpoint, Error, MessageId, NewApplication, NewEndpoint,
    NewMessage, RetryPolicy, Ringback, State, StateKind,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{config, run, until};

/// A sender, its folder and an application.
pub struct World {
    pub ringback: Ringback,
    pub app: ApplicationId,
    pub config: Config,
    pub dir: TempDir,
    running: Option<JoinHandle<()>>,
}

/// A schedule of these delays, in milliseconds, exact.
pub fn retries(delays: &[u64]) -> RetryPolicy {
    RetryPolicy::delays(delays.iter().copied().map(Duration::from_millis).collect::<Vec<_>>())
}

/// An endpoint that tries twice again, at once.
pub fn quick(url: &str) -> NewEndpoint {
    NewEndpoint::at(url).retry(retries(&[20, 20]))
}

impl World {
    /// Opens it; nothing is delivered before `run`.
    pub async fn open() -> World {
        World::with(|_| {}).await
    }

    /// Opens it with settings of its own.
    pub async fn with(change: impl FnOnce(&mut Config)) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir.path().join("store"));
        // Receivers that hang do not hold a test up.
        config.shutdown_grace = Duration::from_millis(100);
        change(&mut config);
        let ringback = Ringback::open(config.clone()).await.unwrap();
        let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap().id;
        World { ringback, app, config, dir, running: None }
    }

    /// Opens it and delivers.
    pub async fn running() -> World {
        let mut world = World::open().await;
        world.run();
        world
    }

    pub fn run(&mut self) {
        assert!(self.running.is_none());
        self.running = Some(run(&self.ringback));
    }

    /// Drops `run` in the middle of whatever it does.
    pub async fn abort(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    pub async fn stop(&mut self) {
        assert!(matches!(self.ringback.shutdown().await, Ok(()) | Err(Error::Closed)));
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }

    /// Closes it and opens it again; nothing is delivered before `run`.
    pub async fn reopen(&mut self) {
        self.stop().await;
        self.ringback = Ringback::open(self.config.clone()).await.unwrap();
    }

    pub async fn endpoint(&self, new: NewEndpoint) -> Endpoint {
        self.ringback.create_endpoint(self.app, new).await.unwrap()
    }

    pub async fn send(&self, event_type: &'static str, payload: &str) -> MessageId {
        self.ringback.send(self.app, NewMessage::bytes(event_type, payload.to_owned())).await.unwrap().id
    }

    /// Sends this many messages, `{"n":0}` and so on, in one batch.
    pub async fn send_many(&self, count: usize) -> Vec<MessageId> {
        let messages = (0..count).map(|n| NewMessage::bytes("test.happened", format!(r#"{{"n":{n}}}"#))).collect();
        let sent = self.ringback.send_batch(self.app, messages).await.unwrap();
        sent.into_iter().map(|sent| sent.unwrap().id).collect()
    }

    pub async fn deliveries(&self, message: MessageId) -> Vec<Delivery> {
        self.ringback.deliveries(self.app, message).await.unwrap()
    }

    /// The state of a message's only delivery.
    pub async fn state(&self, message: MessageId) -> State {
        let deliveries = self.deliveries(message).await;
        assert_eq!(deliveries.len(), 1);
        deliveries[0].state
    }

    /// The state of a message's only delivery once it has ended.
    pub async fn ended(&self, message: MessageId) -> State {
        self.all_ended(&[message]).await;
        self.state(message).await
    }

    /// Waits until all deliveries of these messages have ended.
    pub async fn all_ended(&self, messages: &[MessageId]) {
        for message in messages {
            until(async || self.deliveries(*message).await.iter().all(|delivery| delivery.state.is_terminal())).await;
        }
    }

    /// Waits until a message's only delivery is in a state of this kind.
    pub async fn becomes(&self, message: MessageId, kind: StateKind) {
        until(async || self.state(message).await.kind() == kind).await;
    }

    /// The attempts of a message, oldest first.
    pub async fn attempts(&self, message: MessageId) -> Vec<Attempt> {
        let query = AttemptQuery { message: Some(message), limit: 250, ..AttemptQuery::default() };
        let mut attempts = self.ringback.attempts(self.app, query).await.unwrap().items;
        attempts.reverse();
        attempts
    }

    /// How many messages there are (at most 250).
    pub async fn message_count(&self) -> usize {
        let query = MessageQuery { limit: 250, ..MessageQuery::default() };
        self.ringback.messages(self.app, query).await.unwrap().items.len()
    }

    pub async fn dead(&self) -> Vec<DeliveryId> {
        let query = DeadQuery { limit: 10_000, ..DeadQuery::default() };
        self.ringback.dead_letters(self.app, query).await.unwrap().items
    }
}
