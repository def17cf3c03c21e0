//! Promises of a store's life: its counts, a reopen, its clock's floor, the bell, the end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ringback::store::{
    AttemptQuery, Cancel, CountQuery, DeadQuery, Enqueue, Enqueued, Error, Expunge, Idempotency, MessageQuery, Prune,
    Put, RecordKind, Settled,
};
use ringback::{AttemptId, CancelReason, Progress, State};

use crate::world::{LEASE, World, at, canceled, copy, dead, delivered, endpoint_record, list_of, plain, waiting};

pub(crate) async fn the_counts_add_up(mut world: World) {
    async fn counts(world: &World) -> (u64, u64, u64) {
        let health = world.health().await;
        (health.open, health.open_bytes, health.leased)
    }
    let lane = world.lane();
    let other = world.lane_beside(lane);
    assert_eq!(counts(&world).await, (0, 0, 0));
    let mut message = world.message(&[lane, other], 1);
    message.payload = vec![1; 1_000].into();
    world.store_message(message).await;
    assert_eq!(counts(&world).await, (2, 2_000, 0), "each delivery counts its message's payload");
    let second = world.send(&[lane], 1).await;
    let bytes = 2_000 + 7;
    let leases = world.claim(lane, 1, 2).await;
    assert_eq!(counts(&world).await, (3, bytes, 2));
    for (lease, state) in leases.into_iter().zip([delivered(1), waiting(9)]) {
        world.end(lease, 1, state).await;
    }
    assert_eq!(counts(&world).await, (2, bytes - 1_000, 0));
    let _lost = world.claim_one(other, 2).await;
    let again = world.claim_one(other, 2 + LEASE).await;
    assert_eq!(counts(&world).await, (2, bytes - 1_000, 1), "a lost lease counts once");
    world.store.cancel(Cancel::Delivery(second), CancelReason::Requested, at(3)).await.unwrap();
    assert_eq!(counts(&world).await, (1, 1_000, 1));
    world.store.replay(vec![second.into()], at(4), None).await.unwrap();
    assert_eq!(counts(&world).await, (2, 1_007, 1));
    world.reopen().await;
    assert_eq!(counts(&world).await, (2, 1_007, 0));
    assert_eq!(world.end(again, 5, delivered(5)).await, Settled::Stale);
    world.pass(other, 100, dead(100)).await;
    world.pass(lane, 100, delivered(100)).await;
    assert_eq!(counts(&world).await, (0, 0, 0));
    let prune = Prune { now: at(200), delivered_before: at(200), ended_before: at(200), limit: 10, ..Prune::default() };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 2);
    assert_eq!(counts(&world).await, (0, 0, 0));
}

pub(crate) async fn everything_reads_back_after_a_reopen(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut sent = Vec::new();
    for state in [delivered(2), dead(2), canceled(2), waiting(50)] {
        sent.push(world.send(&[lane, other], 1).await);
        world.pass(lane, 2, state).await;
    }
    world.set_active(other, false).await;
    let everything = async |world: &World| {
        let mut deliveries = Vec::new();
        for id in &sent {
            deliveries.extend(world.deliveries(*id).await);
        }
        let application = lane.application;
        let attempts = AttemptQuery { limit: 100, ..AttemptQuery::default() };
        let dead = DeadQuery { limit: 100, ..DeadQuery::default() };
        (
            deliveries,
            world.messages(application).await,
            world.store.attempts(application, attempts).await.unwrap(),
            world.store.dead_letters(application, dead).await.unwrap(),
            world.store.list(RecordKind::Endpoint, Some(application), None, 100).await.unwrap(),
            world.store.due_lanes(at(10), None, 100).await.unwrap(),
            (world.health().await.open, world.health().await.open_bytes),
        )
    };
    let before = everything(&world).await;
    for _ in 0..3 {
        world.reopen().await;
        assert_eq!(everything(&world).await, before);
    }
}

pub(crate) async fn after_a_reopen_what_had_not_ended_waits_as_it_was_settled(mut world: World) {
    let lane = world.lane();
    let retried = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(5)).await;
    let later = world.send(&[lane], 2).await;
    world.pass(lane, 2, waiting(500)).await;
    let fresh = world.send(&[lane], 3).await;
    let _leases = world.claim(lane, 5, 2).await;
    world.reopen().await;
    assert_eq!(world.state(retried).await, waiting(5));
    assert_eq!(world.state(fresh).await, waiting(3));
    assert_eq!(world.state(later).await, waiting(500), "a retry keeps its time");
    let leases = world.claim(lane, 6, 2).await;
    assert_eq!((leases[0].delivery, leases[1].delivery), (fresh, retried));
    assert_eq!(leases[1].progress, Progress::new(at(1)).tried(), "the attempt in flight left no trace");
    assert!(leases.iter().all(|lease| !lease.lost), "that is not a lost lease");
    world.assert_nothing_to_claim(lane, 6).await;
}

pub(crate) async fn after_a_reopen_no_lease_of_before_settles(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let old = world.claim_one(lane, 1).await;
    world.reopen().await;
    assert_eq!(world.end(copy(&old), 2, dead(2)).await, Settled::Stale);
    let new = world.claim_one(lane, 2).await;
    assert!(new.fence > old.fence);
    assert_eq!(world.end(old, 2, dead(2)).await, Settled::Stale, "nor while a new lease lives");
    assert_eq!(world.state(id).await, State::Leased { until: at(2 + LEASE) });
    assert_eq!(world.end(new, 2, delivered(2)).await, Settled::Done);
    assert_eq!(world.attempts(id).await.len(), 1);
}

pub(crate) async fn refusals_hold_after_a_reopen(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 1);
    message.event_id = Some("event".into());
    let idempotency = Some(Idempotency { key: "key".into(), digest: [3; 32], expires_at: at(100) });
    let first = Enqueue { idempotency: idempotency.clone(), ..plain(message) };
    world.enqueue(first.clone()).await;
    let put = Put { key: list_of(lane.application), expected: 0, active: true, value: Some("x".into()) };
    assert!(world.store.put(vec![put]).await.unwrap());
    world.reopen().await;
    let repeated = Enqueue { idempotency: idempotency.clone(), ..plain(world.message(&[lane], 2)) };
    assert_eq!(world.enqueue(repeated).await, Enqueued::Repeated(first.message.id));
    let other = idempotency.map(|idempotency| Idempotency { digest: [4; 32], ..idempotency });
    let conflict = Enqueue { idempotency: other, ..plain(world.message(&[lane], 2)) };
    assert_eq!(world.enqueue(conflict).await, Enqueued::IdempotencyConflict);
    let mut same_event = world.message(&[lane], 2);
    same_event.event_id = Some("event".into());
    assert_eq!(world.enqueue(plain(same_event)).await, Enqueued::EventIdTaken(first.message.id));
    let moved = Enqueue { routed_over: Some((list_of(lane.application), 0)), ..plain(world.message(&[lane], 2)) };
    assert_eq!(world.enqueue(moved).await, Enqueued::Stale);
}

pub(crate) async fn the_latest_time_is_that_of_the_last_write(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 10).await;
    assert_eq!(world.store.latest_time(), at(10));
    world.pass(lane, 20, dead(20)).await;
    assert_eq!(world.store.latest_time(), at(20));
    world.store.replay(vec![id.into()], at(30), None).await.unwrap();
    assert_eq!(world.store.latest_time(), at(30));
    world.pass(lane, 30, waiting(9_000)).await;
    assert_eq!(world.store.latest_time(), at(30), "a due time lies in the future");
    world.store.cancel(Cancel::Delivery(id), CancelReason::Requested, at(40)).await.unwrap();
    assert_eq!(world.store.latest_time(), at(40));
    let idempotency = Some(Idempotency { key: "key".into(), digest: [0; 32], expires_at: at(9_000) });
    let item = Enqueue { idempotency, ..plain(world.message(&[lane], 50)) };
    world.enqueue(item).await;
    assert_eq!(world.store.latest_time(), at(50));
    world.reopen().await;
    assert_eq!(world.store.latest_time(), at(50));
}

pub(crate) async fn the_bell_rings_when_something_may_be_claimable(mut world: World) {
    let bell = world.store.bell();
    let rings = async |limit| tokio::time::timeout(Duration::from_millis(limit), bell.notified()).await.is_ok();
    // A ring that nobody heard is kept; this one belongs to what was done before.
    let quiet = async || while rings(20).await {};
    quiet().await;
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    assert!(rings(2_000).await, "a send");
    quiet().await;
    let lease = world.claim_one(lane, 1).await;
    quiet().await;
    world.end(lease, 1, waiting(5)).await;
    assert!(rings(2_000).await, "a retry");
    quiet().await;
    world.pass(lane, 5, dead(5)).await;
    quiet().await;
    world.store.replay(vec![id.into()], at(6), None).await.unwrap();
    assert!(rings(2_000).await, "a replay");
    quiet().await;
    world.set_active(lane, false).await;
    quiet().await;
    world.set_active(lane, true).await;
    assert!(rings(2_000).await, "a lane that opens");
}

pub(crate) async fn after_close_every_call_answers_closed(mut world: World) {
    async fn closed<T>(answer: impl Future<Output = Result<T, Error>>) {
        assert_eq!(answer.await.err(), Some(Error::Closed));
    }
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let application = lane.application;
    let message = world.message(&[lane], 2);
    world.store.close().await.unwrap();
    let store = Arc::clone(&world.store);
    closed(store.enqueue(vec![plain(message)])).await;
    closed(store.due_lanes(at(1), None, 1)).await;
    closed(store.claim(at(1), vec![(lane, 1)], at(9))).await;
    closed(store.settle(Arc::default())).await;
    closed(store.replay(vec![id.into()], at(1), None)).await;
    closed(store.cancel(Cancel::Delivery(id), CancelReason::Requested, at(1))).await;
    closed(store.message(application, id.message)).await;
    closed(store.message_by_event_id(application, "event".into())).await;
    closed(store.messages(application, MessageQuery::default())).await;
    closed(store.walk(application, MessageQuery::default())).await;
    closed(store.deliveries(application, id.message)).await;
    closed(store.dead_letters(application, DeadQuery::default())).await;
    closed(store.count_dead_letters(application, DeadQuery::default())).await;
    closed(store.attempts(application, AttemptQuery::default())).await;
    closed(store.attempt(application, AttemptId::from_bytes([1; 16]))).await;
    closed(store.expunge(application, Expunge::Payload(id.message))).await;
    closed(store.expunge(application, Expunge::Response(AttemptId::from_bytes([1; 16])))).await;
    closed(store.count(application, CountQuery::default())).await;
    closed(store.get(endpoint_record(lane))).await;
    closed(store.list(RecordKind::Endpoint, Some(application), None, 1)).await;
    closed(store.put(vec![])).await;
    closed(store.prune(Prune::default())).await;
    closed(store.open_bytes(application)).await;
    closed(store.health()).await;
    closed(store.close()).await;
    assert_eq!(store.latest_time(), at(1), "what needs no file is still answered");
}
