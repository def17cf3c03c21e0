//! Operational events: what happens to endpoints and deliveries, told to the operator as messages of an application of
//! their own (`Config::operational_application`).
//!
//! ```text
//!   a record changes ─▶ its event in the same write (the outbox) ─┐
//!   a batch settled ──▶ a notice in memory ───────────────────────┴─▶ the chores send it ─▶ the outbox's record goes
//! ```
//!
//! Invariants: an event that tells of a record is neither lost nor sent twice, whenever the process ends: it is removed only
//! once its message is stored, and its message has an event id of its own. Nothing tells of the application that it is told
//! through. No event has a secret, a header or a payload.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::application::NewApplication;
use crate::delivery::StateKind;
use crate::endpoint::{DisableReason, Endpoint, EndpointStatus};
use crate::error::Error;
use crate::id::{ApplicationId, JobId, MessageId};
use crate::message::NewMessage;
use crate::observed::{Notice, NoticeKind};
use crate::standing::Standing;
use crate::store::{AttemptQuery, Order, Put, Record, RecordKind};

use super::{Ringback, records};

/// How many events wait to be sent at most; beyond that they are counted and left out.
const MAX_WAITING: usize = 10_000;
/// How many events are sent in one write.
const BITE: usize = 100;
/// How many writes of noted events there are before the other chores have their turn.
const ROUNDS: usize = 20;

/// The events that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: AtomicUsize,
    missed: AtomicU64,
    /// Rings when there is one more.
    pub(super) bell: Notify,
}

impl Outbox {
    /// So many wait no more. Others may be counted at the same time.
    fn has_gone(&self, events: usize) {
        let rest = |waiting: usize| Some(waiting.saturating_sub(events));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    }
}

/// An event's record.
#[derive(Serialize, Deserialize)]
struct StoredEvent {
    v: u32,
    event_type: String,
    data: Map<String, Value>,
}

impl Ringback {
    /// Makes the operational application if it is not there.
    pub(super) async fn operational_application(&self) -> Result<Option<ApplicationId>, Error> {
        let Some(uid) = &self.inner.config.operational_application else { return Ok(None) };
        if let Ok(found) = self.application_by_uid(uid) {
            return Ok(Some(found.id));
        }
        let new = NewApplication { uid: Some(uid.clone()), ..NewApplication::named("Operational events") };
        match self.create_application(new).await {
            Ok(made) => Ok(Some(made.id)),
            Err(Error::UidTaken(_)) => Ok(self.application_by_uid(uid).ok().map(|found| found.id)),
            Err(error) => Err(error),
        }
    }

    /// Counts what was left to be sent.
    pub(super) async fn read_outbox(&self) -> Result<(), Error> {
        let left = self.all_records(RecordKind::OperationalEvent, None).await?.len();
        self.inner.outbox.waiting.store(left, Ordering::Relaxed);
        self.operational_application().await.map(drop)
    }

    /// Writes changes some of which may be events, and has those sent.
    pub(super) async fn put_with_events(&self, puts: Vec<Put>) -> Result<bool, Error> {
        let events = puts.iter().filter(|put| put.key.kind == RecordKind::OperationalEvent).count();
        if puts.is_empty() {
            return Ok(true);
        }
        let written = self.inner.store.put(puts).await?;
        if written && events > 0 {
            self.inner.outbox.waiting.fetch_add(events, Ordering::Relaxed);
            self.inner.outbox.bell.notify_one();
        }
        Ok(written)
    }

    /// The record of an event about an application; `None` if nobody is to hear of it.
    pub(super) fn event_put(
        &self,
        application: ApplicationId,
        event_type: &str,
        data: Map<String, Value>,
    ) -> Option<Put> {
        let operational = self.inner.config.operational_application.as_ref()?;
        let tenant = self.inner.directory.tenant(application)?;
        if tenant.application.uid.as_ref() == Some(operational) {
            return None;
        }
        let Outbox { waiting, missed, .. } = &self.inner.outbox;
        if waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            if missed.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("too many operational events wait to be sent: the newest are left out");
            }
            return None;
        }
        let mut whole = Map::new();
        whole.insert("appId".into(), json!(application));
        whole.insert("appUid".into(), json!(tenant.application.uid));
        whole.extend(data);
        let event = StoredEvent { v: records::VERSION, event_type: event_type.to_owned(), data: whole };
        let value = serde_json::to_vec(&event).expect("an event is JSON");
        let (time, random) = self.inner.ids.next(self.now());
        let key = records::operational_event_key(MessageId::from_parts(time, random).to_bytes());
        Some(Put { key, expected: 0, active: true, value: Some(value.into()) })
    }

    fn endpoint_put(&self, endpoint: &Endpoint, event_type: &str, more: Value) -> Option<Put> {
        let mut data = Map::new();
        data.insert("endpointId".into(), json!(endpoint.id));
        data.insert("endpointUid".into(), json!(endpoint.settings.uid));
        data.extend(more.as_object().cloned().unwrap_or_default());
        self.event_put(endpoint.application, event_type, data)
    }

    /// The events of an endpoint's change, for the write that makes it.
    pub(super) fn endpoint_events(&self, old: Option<&Endpoint>, new: &Endpoint) -> Vec<Put> {
        let is_enabled = |endpoint: &Endpoint| endpoint.is_enabled();
        let changed = old.is_some_and(|old| old.settings != new.settings || old.keys != new.keys);
        let told = match (old, &new.status) {
            (None, _) => vec![self.endpoint_put(new, "endpoint.created", json!({}))],
            // Its uid goes with it; the event names what it was.
            (Some(old), EndpointStatus::Deleted { .. }) => vec![self.endpoint_put(old, "endpoint.deleted", json!({}))],
            (Some(old), EndpointStatus::Disabled { since, reason }) => {
                let lane = crate::delivery::Lane { application: new.application, endpoint: new.id };
                let fail_since = self.inner.observed.standing(lane).map_or(*since, |standing| standing.since);
                let trigger = match reason {
                    DisableReason::Requested => "manual",
                    DisableReason::Failing | DisableReason::Gone | DisableReason::AskedByReceiver => "automatic",
                };
                let more =
                    json!({"failSince": fail_since, "disabledSince": since, "reason": reason, "trigger": trigger});
                vec![
                    changed.then(|| self.endpoint_put(new, "endpoint.updated", json!({}))).flatten(),
                    is_enabled(old).then(|| self.endpoint_put(new, "endpoint.disabled", more)).flatten(),
                ]
            }
            (Some(old), EndpointStatus::Enabled) => vec![
                changed.then(|| self.endpoint_put(new, "endpoint.updated", json!({}))).flatten(),
                (!is_enabled(old)).then(|| self.endpoint_put(new, "endpoint.enabled", json!({}))).flatten(),
            ],
        };
        told.into_iter().flatten().collect()
    }

    /// The event that warns of an endpoint.
    pub(super) fn warning(
        &self,
        endpoint: &Endpoint,
        standing: Standing,
        disable_at: crate::time::Timestamp,
    ) -> Option<Put> {
        let Standing { since, failures, .. } = standing;
        let more = json!({"failSince": since, "failures": failures, "disableAt": disable_at});
        self.endpoint_put(endpoint, "endpoint.failing", more)
    }

    /// The event that takes a warning back.
    pub(super) fn recovered(&self, endpoint: &Endpoint, standing: Standing) -> Option<Put> {
        self.endpoint_put(endpoint, "endpoint.recovered", json!({"failSince": standing.since}))
    }

    /// Tells of a replay job that has ended, once: its record says so, and moves in the same write.
    pub(super) async fn tell_of_replay(&self, id: JobId) -> Result<(), Error> {
        loop {
            let (mut job, version) = match self.stored_job(id).await {
                Ok(stored) => stored,
                Err(Error::NotFound(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            if job.told || !job.status.has_ended() {
                return Ok(());
            }
            job.told = true;
            let mut data = Map::new();
            data.insert("endpointId".into(), json!(job.filter.endpoint));
            data.insert("jobId".into(), json!(job.id));
            data.insert("status".into(), json!(job.status));
            for (name, count) in [("total", job.total), ("replayed", job.replayed), ("skipped", job.skipped)] {
                data.insert(name.into(), json!(count));
            }
            let mut puts = vec![job.put(version)];
            puts.extend(self.event_put(job.application, "replay.finished", data));
            if self.put_with_events(puts).await? {
                return Ok(());
            }
        }
    }

    /// Sends what waits to be told; `false` if some of it has to wait for room.
    pub(super) async fn tell_operator(&self) -> Result<bool, Error> {
        let Some(to) = self.operational_application().await? else {
            // It was told of before, and is not any more.
            return self.drop_outbox().await.map(|()| true);
        };
        let mut after = None;
        for _ in 0..MAX_WAITING / BITE {
            let counted = self.inner.outbox.waiting.load(Ordering::Relaxed);
            if counted == 0 {
                break;
            }
            let page = self.inner.store.list(RecordKind::OperationalEvent, None, after, BITE).await?;
            let Some(last) = page.last() else {
                // One that came since is counted, and found by the next look.
                self.inner.outbox.has_gone(counted);
                break;
            };
            after = Some(last.key.key.clone());
            if !self.send_outbox(to, page).await? {
                return Ok(false);
            }
        }
        self.inner.outbox.missed.store(0, Ordering::Relaxed);
        self.send_notices(to).await
    }

    /// Sends events and removes their records; `false` if there is no room.
    async fn send_outbox(&self, to: ApplicationId, page: Vec<Record>) -> Result<bool, Error> {
        let mut messages = Vec::with_capacity(page.len());
        let mut removals = Vec::with_capacity(page.len());
        let mut sent = Vec::with_capacity(page.len());
        for record in page {
            let Record { key, version, value, .. } = record;
            let id = key.key.as_slice().try_into().map(MessageId::from_bytes);
            let event = serde_json::from_slice::<StoredEvent>(&value);
            let removal = Put { key, expected: version, active: true, value: None };
            match (id, event) {
                (Ok(id), Ok(event)) => {
                    messages.push(message(event.event_type, &event.data, &format!("operational_{id}")));
                    sent.push(removal);
                }
                _ => {
                    tracing::error!("an operational event's record cannot be read; it is removed");
                    removals.push(removal);
                }
            }
        }
        let mut room = true;
        for (removal, kept) in sent.into_iter().zip(self.tell(to, messages).await?) {
            match kept {
                true => removals.push(removal),
                false => room = false,
            }
        }
        let removed = removals.len();
        if removed > 0 && self.inner.store.put(removals).await? {
            self.inner.outbox.has_gone(removed);
        }
        Ok(room)
    }

    /// Sends events as messages. Of each, whether it is done with: only one that there is no room for is not.
    async fn tell(&self, to: ApplicationId, messages: Vec<NewMessage>) -> Result<Vec<bool>, Error> {
        let results = match self.send_all(to, messages.clone(), None).await {
            Ok(results) => results,
            Err(Error::Overloaded(_)) => return Ok(vec![false; messages.len()]),
            Err(error) => return Err(error),
        };
        let done = |result: Result<_, Error>| match result {
            Ok(_) | Err(Error::EventIdTaken(_) | Error::IdempotencyConflict) => true,
            Err(Error::ApplicationOverloaded(_) | Error::Conflict(_)) => false,
            Err(error) => {
                tracing::error!(%error, "an operational event cannot be sent; it is left out");
                true
            }
        };
        Ok(results.into_iter().map(done).collect())
    }

    async fn drop_outbox(&self) -> Result<(), Error> {
        if self.inner.outbox.waiting.swap(0, Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let left = self.all_records(RecordKind::OperationalEvent, None).await?;
        self.remove_records(left.into_iter().map(|record| record.key).collect()).await
    }

    /// Sends notices; `false` if some of them have to wait for room.
    async fn send_notices(&self, to: ApplicationId) -> Result<bool, Error> {
        // A bound, so that the other chores have their turn however much happens.
        for _ in 0..ROUNDS {
            let (notices, missed) = self.inner.observed.take_notices(BITE);
            if missed > 0 {
                tracing::error!(missed, "more happened than the operator could be told of: these events are left out");
            }
            if notices.is_empty() {
                return Ok(true);
            }
            let sent = self.try_notices(to, &notices).await;
            let unsent = match &sent {
                Ok(done) => {
                    notices.into_iter().zip(done).filter(|(_, done)| !**done).map(|(notice, _)| notice).collect()
                }
                Err(_) => notices,
            };
            let room = unsent.is_empty();
            self.inner.observed.put_back_notices(unsent);
            sent?;
            if !room {
                return Ok(false);
            }
        }
        self.inner.observed.bell.notify_one();
        Ok(true)
    }

    async fn try_notices(&self, to: ApplicationId, notices: &[Notice]) -> Result<Vec<bool>, Error> {
        let mut done = vec![true; notices.len()];
        let (mut messages, mut places) = (Vec::new(), Vec::new());
        for (place, notice) in notices.iter().enumerate() {
            if let Some(message) = self.notice_message(notice).await? {
                messages.push(message);
                places.push(place);
            }
        }
        for (place, kept) in places.into_iter().zip(self.tell(to, messages).await?) {
            done[place] = kept;
        }
        Ok(done)
    }

    /// The message of a notice; `None` if there is nothing to tell after all.
    async fn notice_message(&self, notice: &Notice) -> Result<Option<NewMessage>, Error> {
        let Notice { delivery, attempt, .. } = notice;
        let event_type = match notice.what {
            NoticeKind::Exhausted(_) => "message.attempt.exhausted",
            NoticeKind::Failing => "message.attempt.failing",
            NoticeKind::Recovered => "message.attempt.recovered",
            NoticeKind::Replayed if self.had_given_up(notice).await? => "message.attempt.recovered",
            NoticeKind::Replayed => return Ok(None),
        };
        let application = delivery.lane.application;
        let event_id = match &notice.event_id {
            Some(event_id) => event_id.clone(),
            None => {
                let message = self.inner.store.message(application, delivery.message).await?;
                message.and_then(|message| message.event_id.clone())
            }
        };
        let shown = self.inner.directory.tenant(application);
        let endpoint = self.inner.directory.destination(delivery.lane);
        let mut data = Map::new();
        data.insert("appId".into(), json!(application));
        data.insert("appUid".into(), json!(shown.and_then(|tenant| tenant.application.uid.clone())));
        data.insert("endpointId".into(), json!(delivery.lane.endpoint));
        data.insert("endpointUid".into(), json!(endpoint.and_then(|shown| shown.endpoint.settings.uid.clone())));
        data.insert("msgId".into(), json!(delivery.message));
        data.insert("msgEventId".into(), json!(event_id));
        if let NoticeKind::Exhausted(reason) = notice.what {
            data.insert("reason".into(), json!(reason));
        }
        let last = json!({"id": attempt, "responseStatusCode": notice.status, "timestamp": attempt.time()});
        data.insert("lastAttempt".into(), last);
        Ok(Some(message(event_type.to_owned(), &data, &format!("operational_{attempt}"))))
    }

    /// Whether the round before this one of a delivery ended as a dead letter.
    async fn had_given_up(&self, notice: &Notice) -> Result<bool, Error> {
        let query = AttemptQuery {
            endpoint: Some(notice.delivery.lane.endpoint),
            message: Some(notice.delivery.message),
            order: Order::NewestFirst,
            limit: 100,
            ..AttemptQuery::default()
        };
        let page = self.inner.store.attempts(notice.delivery.lane.application, query).await?;
        let before = page.items.iter().find(|attempt| attempt.round < notice.round);
        Ok(before.is_some_and(|attempt| attempt.result == StateKind::Dead))
    }
}

/// An event as it is sent, the way the field does: its type, and what it is about. The id keeps it from being sent twice.
fn message(event_type: String, data: &Map<String, Value>, id: &str) -> NewMessage {
    let payload = json!({"type": event_type, "data": data});
    NewMessage::value(event_type, &payload).event_id(id).idempotency_key(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::egress::Policy;
    use crate::endpoint::NewEndpoint;
    use crate::front::Config;
    use crate::front::faulty::{Fault, Faulty};
    use crate::front::fixture::{Fixture, StandingClock};
    use crate::http::HttpTransport;
    use crate::store::MessageQuery;

    /// Opens a sender that tells of what happens, as a restart does; again until it succeeds.
    async fn open(fixture: &Fixture) -> Ringback {
        loop {
            // What a process told before it ended is earlier than what the next one tells.
            fixture.clock.pass(Duration::from_millis(1));
            let clock: Arc<dyn Clock> = Arc::<StandingClock>::clone(&fixture.clock);
            let transport = Arc::new(HttpTransport::new(Policy::default(), b"", Arc::clone(&clock)).unwrap());
            let config = Config { operational_application: Some("operations".into()), ..Config::default() };
            if let Ok(opened) = Ringback::from_parts(config, Arc::clone(&fixture.store), transport, clock).await {
                return opened;
            }
        }
    }

    /// The types of what was told, oldest first.
    async fn told(ringback: &Ringback) -> Vec<String> {
        let operations = ringback.application_by_uid("operations").unwrap().id;
        let query = MessageQuery { order: Order::OldestFirst, limit: 250, ..MessageQuery::default() };
        let messages = ringback.messages(operations, query).await.unwrap().items;
        let ids: BTreeSet<_> = messages.iter().map(|message| message.event_id.clone().unwrap()).collect();
        assert_eq!(ids.len(), messages.len());
        messages.iter().map(|message| message.event_type.clone()).collect()
    }

    /// Fails before or behind a write, as a seed says; after each failure everything starts again from what is stored.
    async fn told_under_faults(seed: u64) {
        let mut fixture = Fixture::new();
        let (mut random, steady) = (seed, Arc::clone(&fixture.store));
        fixture.store = Arc::new(Faulty::over(Arc::clone(&steady), move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match (random >> 33) % 5 {
                0 => Fault::Before,
                1 => Fault::Behind,
                _ => Fault::None,
            }
        }));
        let mut ringback = open(&fixture).await;
        let app = loop {
            let new = NewApplication { uid: Some("acme".into()), ..NewApplication::named("A") };
            let _ = ringback.create_application(new).await;
            ringback = open(&fixture).await;
            if let Ok(found) = ringback.application_by_uid("acme") {
                break found.id;
            }
        };
        let endpoint = loop {
            let _ = ringback.create_endpoint(app, NewEndpoint::at("https://a.example/").uid("e")).await;
            ringback = open(&fixture).await;
            if let Ok(found) = ringback.endpoint_by_uid(app, "e") {
                break found.id;
            }
        };
        let mut expected = vec!["endpoint.created"];
        for disable in [true, false].into_iter().cycle().take(12) {
            while ringback.endpoint(app, endpoint).unwrap().is_enabled() == disable {
                let changed = if disable {
                    ringback.disable_endpoint(app, endpoint).await
                } else {
                    ringback.enable_endpoint(app, endpoint).await
                };
                if changed.is_err() {
                    ringback = open(&fixture).await;
                }
            }
            expected.push(if disable { "endpoint.disabled" } else { "endpoint.enabled" });
            while ringback.tell_operator().await.is_err() {
                ringback = open(&fixture).await;
            }
        }
        assert_eq!(told(&ringback).await, expected, "seed {seed}");
        assert!(steady.list(RecordKind::OperationalEvent, None, None, 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_told_of_a_record_is_told_once_whatever_write_fails() {
        for seed in 0..40 {
            told_under_faults(seed).await;
        }
    }

    #[tokio::test]
    async fn no_more_than_its_bound_waits_to_be_told_and_what_is_told_makes_room() {
        let fixture = Fixture::new();
        let ringback = open(&fixture).await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        ringback.inner.outbox.waiting.store(MAX_WAITING - 1, Ordering::Relaxed);
        for number in 0..3 {
            let new = NewEndpoint::at("https://a.example/").uid(format!("e{number}"));
            ringback.create_endpoint(app, new).await.unwrap();
        }
        let kept = async || fixture.store.list(RecordKind::OperationalEvent, None, None, 250).await.unwrap().len();
        assert_eq!(kept().await, 1, "the others are left out, and the endpoints are made");
        assert_eq!(ringback.tell_operator().await, Ok(true));
        ringback.create_endpoint(app, NewEndpoint::at("https://a.example/").uid("e3")).await.unwrap();
        assert_eq!(kept().await, 1);
        assert_eq!(ringback.tell_operator().await, Ok(true));
        assert_eq!(told(&ringback).await, ["endpoint.created", "endpoint.created"]);
    }

    #[tokio::test]
    async fn whoever_is_told_no_more_leaves_nothing_behind() {
        let fixture = Fixture::new();
        let ringback = open(&fixture).await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        ringback.create_endpoint(app, NewEndpoint::at("https://a.example/")).await.unwrap();
        let without = fixture.open().await;
        assert_eq!(without.tell_operator().await, Ok(true));
        assert!(fixture.store.list(RecordKind::OperationalEvent, None, None, 1).await.unwrap().is_empty());
    }
}
