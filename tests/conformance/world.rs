//! A store with the moves that the promises are told in.

use std::sync::Arc;
use std::time::Duration;

use ringback::store::{
    AttemptQuery, Enqueue, Enqueued, Health, Lease, MessageQuery, Put, RecordKey, RecordKind, Settled, Settlement,
    Store,
};
use ringback::{
    ApplicationId, Attempt, AttemptId, CancelReason, DeadReason, Delivery, DeliveryId, EndpointId, Failure, Lane,
    Message, MessageId, NoRoute, Outcome, Routing, State, StateKind, Timestamp, testing,
};

use crate::subject::Subject;

/// How long the world's leases last, in seconds.
pub(crate) const LEASE: u64 = 60;

/// How often a claim is repeated, a fiftieth of a second apart, before something counts as missing.
const PATIENCE: usize = 100;

pub(crate) struct World {
    subject: Box<dyn Subject>,
    pub(crate) store: Arc<dyn Store>,
    drawn: u128,
}

/// Seconds after the suite's beginning.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000) + Duration::from_secs(seconds)
}

pub(crate) fn waiting(seconds: u64) -> State {
    State::Waiting { due: at(seconds) }
}

pub(crate) fn delivered(seconds: u64) -> State {
    State::Delivered { at: at(seconds) }
}

pub(crate) fn dead(seconds: u64) -> State {
    State::Dead { at: at(seconds), reason: DeadReason::Exhausted }
}

pub(crate) fn canceled(seconds: u64) -> State {
    State::Canceled { at: at(seconds), reason: CancelReason::Requested }
}

pub(crate) fn ids(leases: &[Lease]) -> Vec<MessageId> {
    leases.iter().map(|lease| lease.delivery.message).collect()
}

pub(crate) fn plain(message: Message) -> Enqueue {
    Enqueue { message: Arc::new(message), routed_over: None, idempotency: None }
}

/// The same lease once more, as a caller that comes late has it.
pub(crate) fn copy(lease: &Lease) -> Lease {
    let Lease { delivery, progress, ref message, fence, lost } = *lease;
    Lease { delivery, progress, message: message.clone(), fence, lost }
}

pub(crate) fn list_of(application: ApplicationId) -> RecordKey {
    RecordKey { kind: RecordKind::EndpointList, application: Some(application), key: Vec::new() }
}

pub(crate) fn endpoint_record(lane: Lane) -> RecordKey {
    let key = lane.endpoint.to_bytes().to_vec();
    RecordKey { kind: RecordKind::Endpoint, application: Some(lane.application), key }
}

impl World {
    pub(crate) async fn open(mut subject: Box<dyn Subject>) -> Self {
        let store = subject.open().await;
        World { subject, store, drawn: 0 }
    }

    /// Lets an application have so many bytes waiting. Nothing has been stored yet.
    pub(crate) async fn limit(&mut self, max_open_bytes_per_application: u64) {
        self.subject.limit(max_open_bytes_per_application);
        self.reopen().await;
    }

    pub(crate) async fn reopen(&mut self) {
        self.store = self.subject.open().await;
    }

    /// A number that was not drawn before, greater than all before.
    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.drawn
    }

    /// A new endpoint of a new application.
    pub(crate) fn lane(&mut self) -> Lane {
        let application = ApplicationId::from_parts(at(0), self.draw());
        self.lane_beside(Lane { application, endpoint: EndpointId::from_parts(at(0), 0) })
    }

    /// A new endpoint of the same application.
    pub(crate) fn lane_beside(&mut self, lane: Lane) -> Lane {
        Lane { endpoint: EndpointId::from_parts(at(0), self.draw()), ..lane }
    }

    pub(crate) fn message_id(&mut self, seconds: u64) -> MessageId {
        MessageId::from_parts(at(seconds), self.draw())
    }

    /// A message for these lanes, which are of one application.
    pub(crate) fn message(&mut self, lanes: &[Lane], seconds: u64) -> Message {
        let routing = Routing::To(lanes.iter().map(|lane| lane.endpoint).collect());
        let id = self.message_id(seconds);
        testing::message(lanes[0].application, id, at(seconds), r#"{"a":1}"#, routing)
    }

    pub(crate) fn message_to_nobody(&mut self, application: ApplicationId, seconds: u64) -> Message {
        let id = self.message_id(seconds);
        testing::message(application, id, at(seconds), "{}", Routing::Nowhere(NoRoute::NoEndpoints))
    }

    pub(crate) async fn enqueue(&self, item: Enqueue) -> Enqueued {
        self.store.enqueue(vec![item]).await.unwrap().remove(0)
    }

    pub(crate) async fn store_message(&self, message: Message) -> MessageId {
        let id = message.id;
        assert_eq!(self.enqueue(plain(message)).await, Enqueued::Stored);
        id
    }

    /// Stores a message for these lanes; answers its delivery to the first.
    pub(crate) async fn send(&mut self, lanes: &[Lane], seconds: u64) -> DeliveryId {
        let message = self.message(lanes, seconds);
        DeliveryId { lane: lanes[0], message: self.store_message(message).await }
    }

    /// Claims until it has this many, since a store may give fewer than are due. The bell says when to try again.
    pub(crate) async fn claim(&self, lane: Lane, seconds: u64, wanted: usize) -> Vec<Lease> {
        let mut leases = Vec::new();
        for _ in 0..PATIENCE {
            let claim = vec![(lane, wanted - leases.len())];
            leases.extend(self.store.claim(at(seconds), claim, at(seconds + LEASE)).await.unwrap());
            if leases.len() >= wanted {
                assert_eq!(leases.len(), wanted, "no more is claimed than was asked for");
                return leases;
            }
            let bell = self.store.bell();
            let _ = tokio::time::timeout(Duration::from_millis(20), bell.notified()).await;
        }
        panic!("only {} of {wanted} deliveries could be claimed", leases.len());
    }

    pub(crate) async fn claim_one(&self, lane: Lane, seconds: u64) -> Lease {
        self.claim(lane, seconds, 1).await.remove(0)
    }

    pub(crate) async fn assert_nothing_to_claim(&self, lane: Lane, seconds: u64) {
        let leases = self.store.claim(at(seconds), vec![(lane, 10)], at(seconds + LEASE)).await.unwrap();
        assert!(leases.is_empty(), "{leases:?}");
        let due = self.store.due_lanes(at(seconds), None, usize::MAX).await.unwrap();
        assert!(!due.lanes.contains(&lane), "{due:?}");
    }

    /// The attempt that ends a lease in this state, started at this second.
    pub(crate) fn attempt(&mut self, lease: &Lease, seconds: u64, state: State) -> Attempt {
        let id = AttemptId::from_parts(at(seconds), self.draw());
        let outcome = match state.kind() {
            StateKind::Delivered => Outcome::answered(200),
            StateKind::Waiting | StateKind::Held | StateKind::Leased => Outcome::answered(503),
            StateKind::Dead | StateKind::Canceled => Outcome::Failed(Failure::Timeout),
        };
        testing::attempt(id, lease.delivery, lease.progress, outcome, state.kind())
    }

    pub(crate) async fn settle(&self, settlement: Settlement) -> Settled {
        self.store.settle(Arc::new(vec![settlement])).await.unwrap().remove(0)
    }

    /// Settles with an attempt that ended at this second.
    pub(crate) async fn end(&mut self, lease: Lease, seconds: u64, state: State) -> Settled {
        let attempt = Some(self.attempt(&lease, seconds, state));
        self.settle(Settlement { lease, attempt, state, lets_pass: false }).await
    }

    /// Claims the lane's first delivery and ends it so.
    pub(crate) async fn pass(&mut self, lane: Lane, seconds: u64, state: State) -> DeliveryId {
        let lease = self.claim_one(lane, seconds).await;
        let delivery = lease.delivery;
        assert_eq!(self.end(lease, seconds, state).await, Settled::Done);
        delivery
    }

    pub(crate) async fn deliveries(&self, id: DeliveryId) -> Vec<Delivery> {
        self.store.deliveries(id.lane.application, id.message).await.unwrap()
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> Delivery {
        let all = self.deliveries(id).await;
        all.into_iter().find(|delivery| delivery.id == id).expect("the delivery exists")
    }

    pub(crate) async fn state(&self, id: DeliveryId) -> State {
        self.delivery(id).await.state
    }

    pub(crate) async fn messages(&self, application: ApplicationId) -> Vec<Arc<Message>> {
        let query = MessageQuery { limit: 250, ..MessageQuery::default() };
        self.store.messages(application, query).await.unwrap().items
    }

    pub(crate) async fn attempts(&self, id: DeliveryId) -> Vec<Attempt> {
        let query = AttemptQuery {
            endpoint: Some(id.lane.endpoint),
            message: Some(id.message),
            limit: 250,
            ..AttemptQuery::default()
        };
        self.store.attempts(id.lane.application, query).await.unwrap().items
    }

    pub(crate) async fn health(&self) -> Health {
        self.store.health().await.unwrap()
    }

    /// Opens or closes a lane, whatever its record's version is.
    pub(crate) async fn set_active(&self, lane: Lane, active: bool) {
        let key = endpoint_record(lane);
        let expected = self.store.get(key.clone()).await.unwrap().map_or(0, |record| record.version);
        let put = Put { key, expected, active, value: Some("an endpoint".into()) };
        assert!(self.store.put(vec![put]).await.unwrap());
    }
}
