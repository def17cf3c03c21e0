//! Promises of `replay`.

use bytes::Bytes;
use ringback::store::{Prune, Put, RecordKey, RecordKind, Replayed, Settled};
use ringback::{DeliveryId, Lane, Progress, State};

use crate::world::{LEASE, World, at, canceled, dead, delivered, waiting};

async fn replay(world: &World, id: DeliveryId, seconds: u64) -> Replayed {
    world.store.replay(vec![id], at(seconds), None).await.unwrap().unwrap().remove(0)
}

pub(crate) async fn a_replay_opens_a_round_of_what_has_ended(mut world: World) {
    let lane = world.lane();
    for ending in [delivered(2), dead(2), canceled(2)] {
        let id = world.send(&[lane], 1).await;
        world.pass(lane, 1, waiting(2)).await;
        world.pass(lane, 2, ending).await;
        assert_eq!(replay(&world, id, 30).await, Replayed::Reopened);
        let delivery = world.delivery(id).await;
        assert_eq!(delivery.state, waiting(30));
        assert_eq!(delivery.progress, Progress { round: 2, tries: 0, attempts: 2, since: at(30) });
        assert_eq!(world.attempts(id).await.len(), 2, "the first round's attempts stay");
        world.assert_nothing_to_claim(lane, 29).await;
        let lease = world.claim_one(lane, 30).await;
        assert_eq!((lease.delivery, lease.progress), (id, delivery.progress));
        assert_eq!(world.end(lease, 30, delivered(31)).await, Settled::Done);
        assert_eq!(world.delivery(id).await.progress.attempts, 3);
    }
    assert_eq!(world.health().await.open, 0);
}

pub(crate) async fn a_replay_hastens_what_waits(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(500)).await;
    let before = world.delivery(id).await.progress;
    assert_eq!(replay(&world, id, 10).await, Replayed::Hastened);
    assert_eq!((world.state(id).await, world.delivery(id).await.progress), (waiting(10), before));
    assert_eq!(replay(&world, id, 20).await, Replayed::Hastened);
    assert_eq!(world.state(id).await, waiting(10), "what is due stays due since then");
    assert_eq!(world.claim_one(lane, 20).await.progress, before);
}

pub(crate) async fn a_replay_leaves_an_attempt_in_flight_alone(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    assert_eq!(replay(&world, id, LEASE).await, Replayed::InFlight);
    assert_eq!(world.state(id).await, State::Leased { until: at(1 + LEASE) });
    assert_eq!(world.end(lease, LEASE, waiting(100)).await, Settled::Done);
    assert_eq!(world.state(id).await, waiting(100));
}

pub(crate) async fn a_replay_hastens_what_was_lost(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let old = world.claim_one(lane, 1).await;
    assert_eq!(replay(&world, id, 1 + LEASE).await, Replayed::Hastened);
    let new = world.claim_one(lane, 1 + LEASE).await;
    assert_eq!((new.lost, new.progress), (true, old.progress));
    assert_eq!(world.end(old, 1 + LEASE, dead(1 + LEASE)).await, Settled::Stale);
}

pub(crate) async fn a_replay_of_what_is_not_there_finds_nothing(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, delivered(1)).await;
    let other_endpoint = DeliveryId { lane: world.lane_beside(lane), ..id };
    let other_application = DeliveryId { lane: Lane { endpoint: lane.endpoint, ..world.lane() }, ..id };
    let other_message = DeliveryId { message: world.message_id(1), ..id };
    for unknown in [other_endpoint, other_application, other_message] {
        assert_eq!(replay(&world, unknown, 2).await, Replayed::NotFound);
    }
    let prune = Prune { now: at(5), delivered_before: at(5), limit: 10, ..Prune::default() };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 1);
    assert_eq!(replay(&world, id, 6).await, Replayed::NotFound);
    world.assert_nothing_to_claim(lane, 6).await;
}

pub(crate) async fn a_replay_and_its_record_are_one_write(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, dead(1)).await;
    let key = RecordKey { kind: RecordKind::ReplayJob, application: Some(lane.application), key: b"job".to_vec() };
    let put = |expected, value: &'static str| {
        Some(Put { key: key.clone(), expected, active: true, value: Some(Bytes::from_static(value.as_bytes())) })
    };
    let moved = world.store.replay(vec![id], at(2), put(1, "a")).await.unwrap();
    assert_eq!((moved, world.state(id).await), (None, dead(1)), "nothing is done");
    assert_eq!(world.store.get(key.clone()).await.unwrap(), None);

    let done = world.store.replay(vec![id], at(2), put(0, "a")).await.unwrap();
    assert_eq!((done, world.state(id).await), (Some(vec![Replayed::Reopened]), waiting(2)));
    let none = world.store.replay(vec![], at(3), put(1, "b")).await.unwrap();
    assert_eq!(none, Some(vec![]), "the record alone");
    let record = world.store.get(key.clone()).await.unwrap().unwrap();
    assert_eq!((record.version, &record.value[..]), (2, &b"b"[..]));
    let moved = world.store.replay(vec![id], at(3), put(1, "c")).await.unwrap();
    assert_eq!(moved, None);
    assert_eq!(world.store.get(key).await.unwrap(), Some(record));
}

pub(crate) async fn a_replayed_delivery_of_a_closed_lane_waits_until_it_opens(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, dead(1)).await;
    world.set_active(lane, false).await;
    assert_eq!(replay(&world, id, 2).await, Replayed::Reopened);
    assert_eq!(world.state(id).await, waiting(2));
    world.assert_nothing_to_claim(lane, 3).await;
    world.set_active(lane, true).await;
    assert_eq!(world.claim_one(lane, 3).await.delivery, id);
}

pub(crate) async fn a_batch_of_replays_is_answered_in_its_order(mut world: World) {
    let lane = world.lane();
    let ended = world.send(&[lane], 1).await;
    world.pass(lane, 1, dead(1)).await;
    let leased = world.send(&[lane], 2).await;
    let _lease = world.claim_one(lane, 2).await;
    let waits = world.send(&[lane], 3).await;
    let unknown = DeliveryId { message: world.message_id(3), ..waits };
    let batch = vec![unknown, waits, leased, ended, ended];
    let answers = world.store.replay(batch, at(4), None).await.unwrap().unwrap();
    let expected = [Replayed::NotFound, Replayed::Hastened, Replayed::InFlight, Replayed::Reopened, Replayed::Hastened];
    assert_eq!(answers, expected);
    assert_eq!(world.delivery(ended).await.progress.round, 2, "one round, though it was asked for twice");
}
