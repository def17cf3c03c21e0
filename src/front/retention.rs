//! Retention: what the rules of the server, its applications and its event types let go.
//!
//! A pass walks over all messages, every `Config::prune_every`. Payloads that go as soon as they are delivered go by
//! what was settled, many in one write; what was missed, because nobody ran or too much came at once, goes with a pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::attempt::Attempt;
use crate::delivery::StateKind;
use crate::error::Error;
use crate::id::{ApplicationId, MessageId};
use crate::retention::Retention;
use crate::store::{Bounds, Exceptions, Prune};
use crate::time::Timestamp;

use super::Ringback;
use super::chores::BITE;

/// How long the deletions wait after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How many times as long as a pass the next one waits that what was missed calls for; and how long at least.
const PASS_PAUSE: u32 = 10;
const LEAST_PASS_PAUSE: Duration = Duration::from_millis(100);

/// The bounds that a rule sets at a time.
fn bounds(retention: &Retention, now: Timestamp) -> Bounds {
    let before = |span: Option<Duration>| span.map(|span| now - span);
    Bounds {
        delivered_before: before(retention.keep_delivered),
        ended_before: before(retention.keep_ended),
        payloads_before: before(retention.keep_payloads),
        attempts_before: before(retention.keep_attempts),
        delete_on_success: retention.delete_on_success,
    }
}

impl Ringback {
    /// Removes what retention allows, now; answers how many messages. [`run`](Ringback::run) does it every
    /// `Config::prune_every`.
    ///
    /// [`Retention`] says which rule holds for a message. Payloads and attempts may go before their message; they are not
    /// counted in the answer. With the messages go replay jobs that ended longer ago than `Config::keep_delivered`, and
    /// tokens and receipts that have expired. The records of endpoints and applications that were deleted stay, without
    /// their secrets: the log names them.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn prune(&self) -> Result<usize, Error> {
        let mut prune = self.pass();
        let mut removed = 0;
        loop {
            let pruned = self.inner.store.prune(prune.clone()).await?;
            removed += pruned.removed;
            if pruned.next.is_none() {
                break;
            }
            prune.after = pruned.next;
        }
        self.prune_records().await?;
        Ok(removed)
    }

    /// The first write of a pass. Each further one goes on after the last message that the one before has looked at.
    pub(super) fn pass(&self) -> Prune {
        Prune { limit: BITE, ..self.rules() }
    }

    /// What the rules say now.
    fn rules(&self) -> Prune {
        let now = self.now();
        let rule = self.inner.config.retention();
        let server = bounds(&rule, now);
        let applications = self.inner.directory.tenants().into_iter().filter_map(|tenant| {
            let retention = &tenant.application.retention;
            (!retention.is_empty()).then(|| (tenant.application.id, bounds(retention, now)))
        });
        let event_types = self.event_types().into_iter().filter_map(|event_type| {
            let retention = &event_type.retention;
            (!retention.is_empty()).then(|| (event_type.name.clone(), bounds(retention, now)))
        });
        let exceptions = Exceptions { applications: applications.collect(), event_types: event_types.collect() };
        Prune {
            now,
            delivered_before: server.delivered_before.unwrap_or_default(),
            ended_before: server.ended_before.unwrap_or_default(),
            payloads_before: server.payloads_before.unwrap_or_default(),
            attempts_before: server.attempts_before.unwrap_or_default(),
            delete_on_success: server.delete_on_success.unwrap_or_default(),
            exceptions: Arc::new(exceptions),
            ..Prune::default()
        }
    }

    /// Whether a rule lets payloads go as soon as they are delivered.
    fn deletes_on_success(&self) -> bool {
        let rules = self.rules();
        let on = |bounds: &Bounds| bounds.delete_on_success == Some(true);
        rules.delete_on_success
            || rules.exceptions.applications.values().any(on)
            || rules.exceptions.event_types.values().any(on)
    }

    /// Lets payloads go whose every delivery is delivered, by what is settled from now on. Never ends, unless the store
    /// is closed.
    pub(super) async fn delete_on_success(&self) {
        // Also over changes of the rules, each of which owes a pass.
        let mut pass_at = Timestamp::ZERO;
        loop {
            let changed = self.inner.rules_changed.notified();
            if !self.deletes_on_success() {
                changed.await;
                continue;
            }
            tokio::select! {
                error = self.delete_what_is_settled(&mut pass_at) => {
                    if error == Error::Closed {
                        return std::future::pending().await;
                    }
                    tracing::warn!(%error, "payloads that are to go wait for the store");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
                () = changed => {}
            }
        }
    }

    /// Ends with the error that stopped it.
    async fn delete_what_is_settled(&self, pass_at: &mut Timestamp) -> Error {
        let mut settled = self.watch();
        let mut delivered = BTreeSet::new();
        // What was settled before anybody listened is found by a pass over all, as is what was missed.
        let mut owed = true;
        loop {
            let wait = pass_at.since(self.now());
            tokio::select! {
                attempt = settled.recv() => match attempt {
                    Ok(attempt) => note(&mut delivered, &attempt),
                    Err(RecvError::Lagged(_)) => owed = true,
                    Err(RecvError::Closed) => return Error::Closed,
                },
                () = tokio::time::sleep(wait), if owed => {
                    let began = self.now();
                    if let Err(error) = self.prune().await {
                        return error;
                    }
                    // A pass reads every message: where there are many, the next one can wait.
                    let ended = self.now();
                    *pass_at = ended + (ended.since(began) * PASS_PAUSE).max(LEAST_PASS_PAUSE);
                    owed = false;
                }
            }
            while delivered.len() < BITE {
                match settled.try_recv() {
                    Ok(attempt) => note(&mut delivered, &attempt),
                    Err(TryRecvError::Lagged(_)) => owed = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            let only: Vec<_> = std::mem::take(&mut delivered).into_iter().collect();
            if !only.is_empty()
                && let Err(error) = self.inner.store.prune(Prune { only, ..self.rules() }).await
            {
                return error.into();
            }
        }
    }
}

/// Notes the message of a delivery that succeeded.
fn note(delivered: &mut BTreeSet<(ApplicationId, MessageId)>, attempt: &Attempt) {
    if attempt.result == StateKind::Delivered {
        delivered.insert((attempt.delivery.lane.application, attempt.delivery.message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::event_type::NewEventType;
    use crate::front::fixture::Fixture;
    use crate::message::NewMessage;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn the_shorter_of_application_and_event_type_holds_and_else_the_server_s_rule() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let keep = |days: u32| Retention { keep_delivered: Some(DAY * days), ..Retention::default() };
        let app = async |retention| {
            let new = NewApplication { retention, ..NewApplication::named("A") };
            ringback.create_application(new).await.unwrap().id
        };
        let (ten, fifty, plain) = (app(keep(10)).await, app(keep(50)).await, app(Retention::default()).await);
        let typed = NewEventType { retention: keep(20), ..NewEventType::named("brief") };
        ringback.create_event_type(typed).await.unwrap();
        for application in [ten, fifty, plain] {
            for event_type in ["brief", "other"] {
                ringback.send(application, NewMessage::bytes(event_type, "{}")).await.unwrap();
            }
        }
        let ringback = fixture.open().await;
        let mut passed = 0;
        for (days, expected) in [(10, 0), (11, 2), (20, 0), (21, 2), (30, 0), (31, 1), (50, 0), (51, 1), (100, 0)] {
            fixture.clock.pass(DAY * (days - passed));
            passed = days;
            assert_eq!(ringback.prune().await, Ok(expected), "after {days} days");
        }
    }

    #[tokio::test]
    async fn a_rule_that_contradicts_the_server_s_is_refused() {
        let ringback = Fixture::new().open().await;
        let long = Retention { keep_payloads: Some(DAY * 91), ..Retention::default() };
        let field = |error: Error| {
            let Error::Invalid(invalid) = error else { panic!("{error}") };
            invalid.field().to_owned()
        };
        let new = NewApplication { retention: long, ..NewApplication::named("A") };
        assert_eq!(field(ringback.create_application(new.clone()).await.unwrap_err()), "retention.keepPayloadsDays");
        let typed = NewEventType { retention: long, ..NewEventType::named("a") };
        assert_eq!(field(ringback.put_event_type(typed.clone()).await.unwrap_err()), "retention.keepPayloadsDays");
        assert_eq!(field(ringback.create_event_type(typed).await.unwrap_err()), "retention.keepPayloadsDays");
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap();
        assert_eq!(field(ringback.update_application(app.id, new).await.unwrap_err()), "retention.keepPayloadsDays");
    }
}
