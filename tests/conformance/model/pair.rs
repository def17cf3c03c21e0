//! A store and its model side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use ringback::store::memory::MemoryStore;
use ringback::store::{
    AttemptQuery, AttemptStatus, Bounds, Cancel, CountQuery, DeadQuery, Enqueue, Enqueued, Erase, Exceptions, Expunge,
    Idempotency, Lease, MAX_PAGE, MessageQuery, Order, Prune, Put, RecordKey, RecordKind, Replay, Replayed, Settlement,
    Store,
};
use ringback::{
    ApplicationId, AttemptId, CancelReason, DeadReason, DeliveryId, EndpointId, Failure, Lane, MessageId, NoRoute,
    Outcome, Response, Routing, State, StateKind, Timestamp, testing,
};

use super::command::{Change, Command, ENDPOINTS, Ending, Exception, Next, Query, Retention, Send};
use crate::subject::Subject;
use crate::world::{at, copy, endpoint_record, list_of};

type Check<T = ()> = Result<T, TestCaseError>;

/// How often a claim is repeated, a fiftieth of a second apart, before something counts as missing.
const PATIENCE: usize = 100;

/// What one application may have waiting: a few of the large payloads are too much.
const ROOM: u64 = 150_000;

/// Asks both the same, and goes on with the answer if it is the same.
macro_rules! both {
    ($pair:expr, $method:ident($($argument:expr),*)) => {{
        let expected = $pair.model.$method($($argument),*).await;
        let found = $pair.store.$method($($argument),*).await;
        prop_assert!(found == expected, "{}: found {found:#?}, expected {expected:#?}", stringify!($method));
        expected.map_err(|error| TestCaseError::fail(error.to_string()))?
    }};
}

/// One delivery's lease of the model, and of the store.
struct Leases {
    model: Lease,
    store: Lease,
}

pub(super) struct Pair {
    subject: Box<dyn Subject>,
    store: Arc<dyn Store>,
    model: MemoryStore,
    now: Timestamp,
    drawn: u128,
    /// All that there ever were, the pruned ones too.
    deliveries: Vec<DeliveryId>,
    /// The lengths of the payloads that were sent.
    lengths: BTreeMap<MessageId, u64>,
    attempts: Vec<(ApplicationId, AttemptId)>,
    /// Not settled yet; some of them are lost.
    live: Vec<Leases>,
    /// Settled, or of before a reopen: none of them settles anything.
    late: Vec<Leases>,
    /// The latest acceptance.
    latest: Timestamp,
}

fn application(place: usize) -> ApplicationId {
    ApplicationId::from_parts(at(0), place as u128 + 1)
}

fn lane(place: usize) -> Lane {
    let (application_place, endpoint) = (place / ENDPOINTS, place % ENDPOINTS);
    Lane { application: application(application_place), endpoint: endpoint_id(endpoint) }
}

/// Both applications have the same ids, which must not matter.
fn endpoint_id(place: usize) -> EndpointId {
    EndpointId::from_parts(at(0), place as u128 + 1)
}

fn record_key(place: usize) -> RecordKey {
    if place < 2 * ENDPOINTS { endpoint_record(lane(place)) } else { list_of(application(place - 2 * ENDPOINTS)) }
}

impl Pair {
    pub(super) async fn new(mut subject: Box<dyn Subject>) -> Self {
        subject.limit(ROOM);
        let store = subject.open().await;
        let (deliveries, live, late) = (Vec::new(), Vec::new(), Vec::new());
        let (now, latest) = (at(1_000), Timestamp::ZERO);
        Pair {
            subject,
            store,
            model: MemoryStore::limited(ROOM),
            now,
            drawn: 0,
            deliveries,
            lengths: BTreeMap::new(),
            attempts: Vec::new(),
            live,
            late,
            latest,
        }
    }

    pub(super) async fn run(&mut self, command: &Command) -> Check {
        match command {
            Command::Enqueue(sends) => self.enqueue(sends).await,
            Command::Claim(wanted, seconds) => self.claim(wanted, *seconds).await,
            Command::Settle(endings) => self.settle(endings).await,
            Command::Advance(seconds) => {
                self.now = self.now + Duration::from_secs(*seconds);
                Ok(())
            }
            Command::Replay(deliveries, record) => self.replay(deliveries, *record).await,
            Command::CancelLane(place, limit) => self.cancel(Cancel::Lane { lane: lane(*place), limit: *limit }).await,
            Command::CancelDelivery(delivery) => self.cancel(Cancel::Delivery(self.pick(*delivery))).await,
            Command::CancelDeliveries(deliveries) => {
                let ids = deliveries.iter().map(|index| self.pick(*index)).collect();
                self.cancel(Cancel::Deliveries(ids)).await
            }
            Command::ExpungePayload(delivery) => {
                let id = self.pick(*delivery);
                self.expunge(id.lane.application, Expunge::Payload(id.message)).await
            }
            Command::ExpungeResponse(attempt) => {
                let unknown = (application(0), AttemptId::from_parts(at(0), 1));
                let all: Vec<_> = self.attempts.iter().copied().chain([unknown]).collect();
                let (application, id) = *attempt.get(&all);
                both!(self, attempt(application, id));
                self.expunge(application, Expunge::Response(id)).await
            }
            Command::Put(changes) => self.put(changes).await,
            Command::Prune(retention) => self.prune(retention).await,
            Command::Query(query) => self.query(query).await,
            Command::Erase(deliveries) => {
                let ids: Vec<_> = deliveries.iter().map(|index| self.pick(*index)).collect();
                for application in [application(0), application(1)] {
                    let own = ids.iter().filter(|id| id.lane.application == application);
                    let what = Erase::Messages(own.map(|id| id.message).collect());
                    both!(self, erase(application, what.clone(), self.now));
                }
                Ok(())
            }
            Command::Compact => {
                let end = self.store.compact().await.unwrap();
                prop_assert!(end.await.is_ok());
                Ok(())
            }
            Command::Reopen => {
                self.store = self.subject.open().await;
                self.model.drop_leases();
                self.late.append(&mut self.live);
                Ok(())
            }
        }
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.drawn
    }

    /// A delivery of any time, or one that never was; a leased one more often than the others.
    fn pick(&self, index: Index) -> DeliveryId {
        let unknown = DeliveryId { lane: lane(0), message: MessageId::from_parts(at(0), 1) };
        let leased = self.live.iter().map(|leases| leases.store.delivery);
        let all: Vec<_> = self.deliveries.iter().copied().chain(leased).chain([unknown]).collect();
        *index.get(&all)
    }

    async fn version(&self, key: &RecordKey) -> Check<u64> {
        Ok(both!(self, get(key.clone())).map_or(0, |record| record.version))
    }

    async fn enqueue(&mut self, sends: &[Send]) -> Check {
        let mut batch = Vec::new();
        for send in sends {
            batch.push(self.enqueue_of(send).await?);
        }
        let answers = both!(self, enqueue(batch.clone()));
        for (Enqueue { message, .. }, answer) in batch.into_iter().zip(answers) {
            let stored = matches!(answer, Enqueued::Stored);
            if let (true, Routing::To(endpoints)) = (stored, &message.routing) {
                let lanes =
                    endpoints.iter().map(|endpoint| Lane { application: message.application, endpoint: *endpoint });
                self.deliveries.extend(lanes.map(|lane| DeliveryId { lane, message: message.id }));
            }
            if stored {
                self.lengths.insert(message.id, message.payload.len() as u64);
                self.latest = self.now;
            }
        }
        Ok(())
    }

    async fn enqueue_of(&mut self, send: &Send) -> Check<Enqueue> {
        let application = application(send.application);
        let id = MessageId::from_parts(self.now, self.draw());
        let endpoints: Vec<_> = send.endpoints.iter().map(|place| endpoint_id(*place)).collect();
        let routing =
            if endpoints.is_empty() { Routing::Nowhere(NoRoute::ChannelsNotWanted) } else { Routing::To(endpoints) };
        let payload: Vec<u8> = (0..send.payload).map(|i| (i as u128 + self.drawn) as u8).collect();
        let mut message = testing::message(application, id, self.now, payload, routing);
        message.event_type = TYPES[send.event_type].into();
        message.channels = send.channels.iter().map(|place| CHANNELS[*place].into()).collect();
        message.event_id = send.event_id.map(|number| format!("event-{number}"));
        message.ordering_key = send.options.ordering_key.map(ordering_key);
        message.deliver_at = send.options.deliver_in.map(|seconds| self.now + Duration::from_secs(seconds));
        message.tags = send.options.tag.map(tag).into_iter().collect();
        let routed_over = match send.routed_over {
            Some(right) => {
                let list = list_of(application);
                let version = self.version(&list).await? + u64::from(!right);
                Some((list, version))
            }
            None => None,
        };
        let idempotency = send.idempotency.as_ref().map(|key| Idempotency {
            key: format!("key-{}", key.key),
            digest: [key.digest; 32],
            expires_at: self.now + Duration::from_secs(key.seconds),
        });
        Ok(Enqueue { message: Arc::new(message), routed_over, idempotency })
    }

    /// The model says which leases there are; the store may need some tries to give them all.
    async fn claim(&mut self, wanted: &[(usize, usize)], seconds: u64) -> Check {
        let mut seen = BTreeSet::new();
        let wanted: Vec<_> = wanted.iter().filter(|(place, _)| seen.insert(*place)).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(place, most)| (lane(*place), *most)).collect();
        let until = self.now + Duration::from_secs(seconds);
        let expected = self.model.claim(self.now, wanted.clone(), until).await.unwrap();
        let expected_of = |lane| expected.iter().filter(|lease| lease.delivery.lane == lane).count();

        let mut found: Vec<Lease> = self.store.claim(self.now, wanted.clone(), until).await.unwrap();
        for _ in 0..PATIENCE {
            if found.len() >= expected.len() {
                break;
            }
            let bell = self.store.bell();
            let _ = tokio::time::timeout(Duration::from_millis(20), bell.notified()).await;
            let found_of = |lane| found.iter().filter(|lease| lease.delivery.lane == lane).count();
            let rest = wanted.iter().map(|(lane, _)| (*lane, expected_of(*lane).saturating_sub(found_of(*lane))));
            let rest: Vec<_> = rest.filter(|(_, rest)| *rest > 0).collect();
            found.extend(self.store.claim(self.now, rest, until).await.unwrap());
        }
        // Within a lane the order counts, between lanes it does not.
        let by_lane = |leases: &mut Vec<Lease>| leases.sort_by_key(|lease| lease.delivery.lane);
        let mut expected = expected;
        by_lane(&mut expected);
        by_lane(&mut found);
        let ids = |leases: &[Lease]| leases.iter().map(|lease| lease.delivery).collect::<Vec<_>>();
        prop_assert_eq!(ids(&found), ids(&expected), "claimed at {:?}", self.now);
        for (model, store) in expected.into_iter().zip(found) {
            prop_assert_eq!((store.progress, store.lost), (model.progress, model.lost), "of {:?}", store.delivery);
            prop_assert!(store.message.as_ref().is_none_or(|message| Some(message) == model.message.as_ref()));
            self.live.push(Leases { model, store });
        }
        Ok(())
    }

    async fn settle(&mut self, endings: &[Ending]) -> Check {
        let (mut for_model, mut for_store, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        for ending in endings {
            let from = if ending.late { &mut self.late } else { &mut self.live };
            if from.is_empty() {
                continue;
            }
            let leases = from.remove(ending.lease.index(from.len()));
            let (state, outcome) = self.ending(ending.state);
            let attempt = ending.tried.then(|| {
                let id = AttemptId::from_parts(self.now, self.draw());
                self.attempts.push((leases.model.delivery.lane.application, id));
                let mut attempt =
                    testing::attempt(id, leases.model.delivery, leases.model.progress, outcome, state.kind());
                if let Outcome::Answered { status, .. } = outcome {
                    let body = format!("answer {}", self.drawn).into();
                    attempt.response =
                        Some(Response { status, headers: Vec::new(), body, truncated: false, expunged: false });
                }
                attempt
            });
            for_model.push(Settlement {
                lease: copy(&leases.model),
                attempt: attempt.clone(),
                state,
                lets_pass: ending.lets_pass,
            });
            for_store.push(Settlement { lease: copy(&leases.store), attempt, state, lets_pass: ending.lets_pass });
            settled.push(leases);
        }
        self.late.append(&mut settled);
        let expected = self.model.settle(Arc::new(for_model)).await;
        let found = self.store.settle(Arc::new(for_store)).await;
        prop_assert_eq!(found, expected);
        Ok(())
    }

    fn ending(&self, next: Next) -> (State, Outcome) {
        let at = self.now;
        match next {
            Next::Retry(seconds) => {
                let due = at + Duration::from_secs(seconds);
                (State::Waiting { due }, Outcome::answered(503))
            }
            Next::Delivered => (State::Delivered { at }, Outcome::answered(204)),
            Next::Dead => (State::Dead { at, reason: DeadReason::Exhausted }, Outcome::Failed(Failure::Timeout)),
            Next::Canceled => {
                let state = State::Canceled { at, reason: CancelReason::EndpointDisabled };
                (state, Outcome::answered(500))
            }
        }
    }

    async fn replay(&mut self, deliveries: &[(Index, Option<usize>)], record: Option<bool>) -> Check {
        let replay = |(index, add): &(Index, Option<usize>)| {
            let id = self.pick(*index);
            let endpoint = add.map_or(id.lane.endpoint, endpoint_id);
            let lane = Lane { endpoint, ..id.lane };
            Replay { delivery: DeliveryId { lane, ..id }, add: add.is_some() }
        };
        let batch: Vec<Replay> = deliveries.iter().map(replay).collect();
        let record = match record {
            Some(right) => {
                let key = RecordKey { kind: RecordKind::ReplayJob, application: Some(application(0)), key: vec![1] };
                let expected = self.version(&key).await? + u64::from(!right);
                let value = Some(format!("{batch:?}").into());
                Some(Put { key, expected, active: true, value })
            }
            None => None,
        };
        let answers = both!(self, replay(batch.clone(), self.now, record.clone()));
        let added = batch.iter().zip(answers.unwrap_or_default()).filter(|(_, answer)| *answer == Replayed::Added);
        self.deliveries.extend(added.map(|(replay, _)| replay.delivery));
        Ok(())
    }

    async fn cancel(&mut self, what: Cancel) -> Check {
        both!(self, cancel(what.clone(), CancelReason::Requested, self.now));
        Ok(())
    }

    async fn expunge(&mut self, application: ApplicationId, what: Expunge) -> Check {
        both!(self, expunge(application, what));
        Ok(())
    }

    async fn put(&mut self, changes: &[Change]) -> Check {
        let mut batch = Vec::new();
        for Change { record, expected, active, remove } in changes {
            let key = record_key(*record);
            let expected = self.version(&key).await? + u64::from(!expected);
            let value = (!remove).then(|| format!("value {}", self.draw()).into());
            batch.push(Put { key, expected, active: *active, value });
        }
        both!(self, put(batch.clone()));
        Ok(())
    }

    async fn prune(&mut self, retention: &Retention) -> Check {
        let ago = |seconds| self.now - Duration::from_secs(seconds);
        let bounds = |exception: &Exception| Bounds {
            delivered_before: exception.delivered.map(ago),
            ended_before: exception.ended.map(ago),
            payloads_before: exception.payloads.map(ago),
            attempts_before: exception.attempts.map(ago),
            delete_on_success: exception.on_success,
        };
        let [first, second] = retention.exceptions.each_ref().map(|exception| exception.as_ref().map(bounds));
        let exceptions = Exceptions {
            applications: first.into_iter().map(|bounds| (application(0), bounds)).collect(),
            event_types: second.into_iter().map(|bounds| (TYPES[0].to_owned(), bounds)).collect(),
        };
        let only = retention.only.iter().map(|index| self.pick(*index));
        let mut prune = Prune {
            now: self.now,
            delivered_before: ago(retention.delivered),
            ended_before: ago(retention.ended),
            payloads_before: ago(retention.payloads),
            attempts_before: ago(retention.attempts),
            delete_on_success: retention.on_success,
            exceptions: Arc::new(exceptions),
            only: only.map(|id| (id.lane.application, id.message)).collect(),
            after: None,
            limit: retention.limit,
        };
        loop {
            let pruned = both!(self, prune(prune.clone()));
            prune.after = pruned.next;
            if prune.after.is_none() {
                return Ok(());
            }
        }
    }

    async fn query(&self, query: &Query) -> Check {
        let application = application(query.application);
        let ago = |seconds| self.now - Duration::from_secs(seconds);
        let (since, until, limit) = (query.since.map(ago), query.until.map(ago), query.limit);
        let endpoint = query.endpoint.map(endpoint_id);

        let event_types: Vec<_> = query.event_types.iter().map(|place| WANTED_TYPES[*place].to_owned()).collect();
        let channel = query.channel.map(|place| CHANNELS[place].to_owned());
        let order = if query.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
        let mut messages = MessageQuery {
            since,
            until,
            event_types: event_types.clone(),
            channel: channel.clone(),
            endpoint,
            ordering_key: query.ordering_key.map(ordering_key),
            tag: query.tag.map(tag),
            unrouted: query.unrouted,
            order,
            after: None,
            limit,
        };
        loop {
            messages.after = both!(self, messages(application, messages.clone())).next;
            if messages.after.is_none() {
                break;
            }
        }
        let mut stretch = MessageQuery { after: None, ..messages };
        loop {
            stretch.after = both!(self, walk(application, stretch.clone())).next;
            if stretch.after.is_none() {
                break;
            }
        }
        let message = query.message.map(|index| self.pick(index).message);
        let status = query.status.map(status);
        let mut attempts =
            AttemptQuery { endpoint, message, status, event_types, channel, since, until, order, after: None, limit };
        loop {
            attempts.after = both!(self, attempts(application, attempts.clone())).next;
            if attempts.after.is_none() {
                break;
            }
        }
        let counts = both!(self, count(application, CountQuery { endpoint, since, until }));
        prop_assert!(counts.adds_up(), "{counts:?}");
        let mut dead = DeadQuery { endpoint, since, until, after: None, limit };
        both!(self, count_dead_letters(application, dead.clone()));
        loop {
            dead.after = both!(self, dead_letters(application, dead.clone())).next;
            if dead.after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Everything that can be asked, asked of both; and that the counts are those of the deliveries.
    pub(super) async fn compare(&self) -> Check {
        let (mut open, mut open_bytes, mut leased) = (0, 0, 0);
        for application in [application(0), application(1)] {
            let mut own_bytes = 0;
            let all = MessageQuery { limit: MAX_PAGE, ..MessageQuery::default() };
            for message in both!(self, messages(application, all.clone())).items {
                both!(self, message(application, message.id));
                let deliveries = both!(self, deliveries(application, message.id));
                let named = match &message.routing {
                    Routing::To(endpoints) => endpoints.len(),
                    Routing::Nowhere(_) => 0,
                };
                prop_assert_eq!(deliveries.len(), named, "each delivery is in one state");
                for delivery in deliveries.iter().filter(|delivery| !delivery.state.is_terminal()) {
                    open += 1;
                    own_bytes += self.lengths[&message.id];
                    leased += u64::from(delivery.state.kind() == StateKind::Leased);
                }
            }
            let counted = both!(self, open_bytes(application));
            prop_assert_eq!(counted, own_bytes, "the bytes of {:?} that wait", application);
            open_bytes += own_bytes;
            for number in 0..5 {
                both!(self, message_by_event_id(application, format!("event-{number}")));
            }
            let all = AttemptQuery { limit: MAX_PAGE, ..AttemptQuery::default() };
            both!(self, attempts(application, all.clone()));
            let all = DeadQuery { limit: MAX_PAGE, ..DeadQuery::default() };
            both!(self, dead_letters(application, all.clone()));
            both!(self, count_dead_letters(application, all.clone()));
            for kind in [RecordKind::Endpoint, RecordKind::EndpointList, RecordKind::ReplayJob] {
                both!(self, list(kind, Some(application), None, MAX_PAGE));
            }
        }
        for store in [&*self.store, &self.model] {
            let health = store.health().await.unwrap();
            prop_assert_eq!((health.open, health.open_bytes, health.leased), (open, open_bytes, leased));
            let latest = store.latest_time();
            prop_assert!((self.latest..=self.now).contains(&latest), "the latest time {latest:?}");
        }
        self.compare_due_lanes().await
    }

    async fn compare_due_lanes(&self) -> Check {
        let expected = self.model.due_lanes(self.now, None, usize::MAX).await;
        for _ in 0..PATIENCE {
            if self.store.due_lanes(self.now, None, usize::MAX).await == expected {
                break;
            }
            let bell = self.store.bell();
            let _ = tokio::time::timeout(Duration::from_millis(20), bell.notified()).await;
        }
        prop_assert_eq!(self.store.due_lanes(self.now, None, usize::MAX).await, expected);
        Ok(())
    }
}

fn ordering_key(number: u8) -> String {
    format!("order-{number}")
}

fn tag(number: u8) -> String {
    format!("user:{number}")
}

const TYPES: [&str; 2] = ["call.started", "call.ended"];
/// What queries ask for.
const WANTED_TYPES: [&str; 4] = ["call.started", "call.ended", "call.*", "callback.*"];
const CHANNELS: [&str; 2] = ["eu", "agent:a"];

fn status(place: usize) -> AttemptStatus {
    let all = [
        AttemptStatus::Succeeded,
        AttemptStatus::Failed,
        AttemptStatus::Code(503),
        AttemptStatus::Class(2),
        AttemptStatus::Class(5),
        AttemptStatus::NoAnswer,
    ];
    all[place]
}
