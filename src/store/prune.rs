//! What retention asks of a store: times before which things go, with exceptions by application and event type.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{ApplicationId, MessageId};
use crate::time::Timestamp;

/// What retention may remove, and where it goes on. A message with a delivery that has not ended stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// The time now: idempotency keys that have not expired keep their message.
    pub now: Timestamp,
    /// Messages whose every delivery succeeded (or that went nowhere) go if accepted before this time.
    pub delivered_before: Timestamp,
    /// Messages with a dead or canceled delivery go if accepted before this time.
    pub ended_before: Timestamp,
    /// Payloads of messages that stay, once every delivery has ended, go if accepted before this time. An idempotency
    /// key does not keep them.
    pub payloads_before: Timestamp,
    /// Attempts of messages that stay go if started before this time, whether their delivery has ended or not. How it
    /// stands and how many attempts it had stays.
    pub attempts_before: Timestamp,
    /// Whether the payload of a message that stays goes once it has deliveries and all of them succeeded.
    pub delete_on_success: bool,
    /// The exceptions.
    pub exceptions: Arc<Exceptions>,
    /// Looks at these messages and no others: the walk's members, `after` and `limit`, are not used then.
    pub only: Vec<(ApplicationId, MessageId)>,
    /// Where the last call stopped.
    pub after: Option<(ApplicationId, MessageId)>,
    /// How many messages to look at, at most, in the order of their applications and ids.
    pub limit: usize,
}

/// Where other times hold than those of [`Prune`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Those of applications.
    pub applications: BTreeMap<ApplicationId, Bounds>,
    /// Those of event types, by name.
    pub event_types: BTreeMap<String, Bounds>,
}

/// Times in place of those of [`Prune`], each where it is set. Where an application and an event type both set one, the
/// later time holds, by which more goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// See [`Prune::delivered_before`].
    pub delivered_before: Option<Timestamp>,
    /// See [`Prune::ended_before`].
    pub ended_before: Option<Timestamp>,
    /// See [`Prune::payloads_before`].
    pub payloads_before: Option<Timestamp>,
    /// See [`Prune::attempts_before`].
    pub attempts_before: Option<Timestamp>,
    /// See [`Prune::delete_on_success`].
    pub delete_on_success: Option<bool>,
}

/// What retention removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many messages, with their deliveries and attempts.
    pub removed: usize,
    /// How many payloads of messages that stay.
    pub payloads: usize,
    /// How many attempts of messages that stay.
    pub attempts: usize,
    /// The last message that was looked at, if there are more; `None` at the end.
    pub next: Option<(ApplicationId, MessageId)>,
}

/// What holds for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) delivered_before: Timestamp,
    pub(crate) ended_before: Timestamp,
    pub(crate) payloads_before: Timestamp,
    pub(crate) attempts_before: Timestamp,
    pub(crate) delete_on_success: bool,
}

impl Prune {
    /// What holds for a message of this application and event type.
    pub(crate) fn of(&self, application: ApplicationId, event_type: &str) -> Rule {
        let none = Bounds::default();
        let a = self.exceptions.applications.get(&application).unwrap_or(&none);
        let b = self.exceptions.event_types.get(event_type).unwrap_or(&none);
        // `None` is below every time, and `false` below `true`.
        Rule {
            delivered_before: a.delivered_before.max(b.delivered_before).unwrap_or(self.delivered_before),
            ended_before: a.ended_before.max(b.ended_before).unwrap_or(self.ended_before),
            payloads_before: a.payloads_before.max(b.payloads_before).unwrap_or(self.payloads_before),
            attempts_before: a.attempts_before.max(b.attempts_before).unwrap_or(self.attempts_before),
            delete_on_success: a.delete_on_success.max(b.delete_on_success).unwrap_or(self.delete_on_success),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_two_exceptions_holds_and_without_one_the_rule() {
        let at = Timestamp::from_millis;
        let with = |millis| Bounds { delivered_before: Some(at(millis)), ..Bounds::default() };
        let [a, b, c] = [1, 2, 3].map(|byte| ApplicationId::from_bytes([byte; 16]));
        let on = |flag| Bounds { delete_on_success: Some(flag), ..Bounds::default() };
        let exceptions = Exceptions {
            applications: BTreeMap::from([(a, with(100)), (b, Bounds { delete_on_success: Some(false), ..with(300) })]),
            event_types: BTreeMap::from([("x".to_owned(), with(200)), ("y".to_owned(), on(true))]),
        };
        let prune = Prune {
            delivered_before: at(150),
            ended_before: at(50),
            exceptions: Arc::new(exceptions),
            ..Prune::default()
        };
        let delivered = |application, event_type| prune.of(application, event_type).delivered_before.as_millis();
        assert_eq!([delivered(a, "x"), delivered(b, "x"), delivered(c, "x")], [200, 300, 200]);
        assert_eq!(
            [delivered(a, "z"), delivered(b, "z"), delivered(c, "z")],
            [100, 300, 150],
            "also if that is longer"
        );
        let on_success = |application, event_type| prune.of(application, event_type).delete_on_success;
        assert_eq!([on_success(a, "x"), on_success(b, "y"), on_success(c, "y")], [false, true, true]);
        assert_eq!(prune.of(a, "x").ended_before, at(50));
    }
}
