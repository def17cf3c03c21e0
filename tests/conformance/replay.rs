//! Promises of `replay`.

use std::time::Duration;

use bytes::Bytes;
use ringback::store::{
    Cancel, CountQuery, Counts, Expunge, MessageQuery, Prune, Put, RecordKey, RecordKind, Replay, Replayed, Settled,
};
use ringback::{ApplicationId, CancelReason, DeliveryId, Lane, Progress, Routing, State};

use crate::world::{LEASE, World, at, canceled, dead, delivered, waiting};

async fn replay(world: &World, id: DeliveryId, seconds: u64) -> Replayed {
    world.store.replay(vec![id.into()], at(seconds), None).await.unwrap().unwrap().remove(0)
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

/// It becomes due at another moment in each round: before it is hastened, while that is written, or after it.
pub(crate) async fn what_is_hastened_as_it_becomes_due_is_claimed_once(mut world: World) {
    let lane = world.lane();
    for round in 0..100 {
        let id = world.send(&[lane], 1).await;
        world.pass(lane, 1, waiting(500)).await;
        let claim = async {
            std::thread::sleep(Duration::from_micros(round * 20));
            world.store.claim(at(500), vec![(lane, 9)], at(500 + LEASE)).await.unwrap()
        };
        let (_, mut leases) = tokio::join!(replay(&world, id, 499), claim);
        leases.extend(world.store.claim(at(500), vec![(lane, 9)], at(500 + LEASE)).await.unwrap());
        assert_eq!(leases.len(), 1, "round {round}");
        assert_eq!(world.end(leases.remove(0), 501, delivered(501)).await, Settled::Done);
        assert_eq!(world.health().await.open, 0, "round {round}");
    }
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
    let moved = world.store.replay(vec![id.into()], at(2), put(1, "a")).await.unwrap();
    assert_eq!((moved, world.state(id).await), (None, dead(1)), "nothing is done");
    assert_eq!(world.store.get(key.clone()).await.unwrap(), None);

    let done = world.store.replay(vec![id.into()], at(2), put(0, "a")).await.unwrap();
    assert_eq!((done, world.state(id).await), (Some(vec![Replayed::Reopened]), waiting(2)));
    let none = world.store.replay(vec![], at(3), put(1, "b")).await.unwrap();
    assert_eq!(none, Some(vec![]), "the record alone");
    let record = world.store.get(key.clone()).await.unwrap().unwrap();
    assert_eq!((record.version, &record.value[..]), (2, &b"b"[..]));
    let moved = world.store.replay(vec![id.into()], at(3), put(1, "c")).await.unwrap();
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
    let answers =
        world.store.replay(batch.into_iter().map(Replay::from).collect(), at(4), None).await.unwrap().unwrap();
    let expected = [Replayed::NotFound, Replayed::Hastened, Replayed::InFlight, Replayed::Reopened, Replayed::Hastened];
    assert_eq!(answers, expected);
    assert_eq!(world.delivery(ended).await.progress.round, 2, "one round, though it was asked for twice");
}

async fn add(world: &World, id: DeliveryId, seconds: u64) -> Replayed {
    let replay = Replay { delivery: id, add: true };
    world.store.replay(vec![replay], at(seconds), None).await.unwrap().unwrap().remove(0)
}

async fn count(world: &World, application: ApplicationId) -> Counts {
    let counts = world.store.count(application, CountQuery::default()).await.unwrap();
    assert!(counts.adds_up(), "{counts:?}");
    counts
}

pub(crate) async fn a_message_is_given_a_delivery_where_it_had_none(mut world: World) {
    let lane = world.lane();
    let (other, third) = (world.lane_beside(lane), world.lane_beside(lane));
    let old = world.send(&[lane], 1).await;
    world.pass(lane, 1, delivered(1)).await;
    let later = world.send(&[other], 9).await;
    let new = DeliveryId { lane: other, ..old };
    assert_eq!(replay(&world, new, 5).await, Replayed::NotFound, "unless it is asked for, nothing is added");
    assert_eq!(add(&world, new, 5).await, Replayed::Added);
    assert_eq!(add(&world, new, 6).await, Replayed::Hastened, "once");
    world.reopen().await;
    let message = world.store.message(lane.application, old.message).await.unwrap().unwrap();
    assert_eq!(message.routing, Routing::To(vec![lane.endpoint, other.endpoint]));
    assert_eq!(&message.payload[..], br#"{"a":1}"#, "all else of the message is as it was");
    let found = world.deliveries(old).await;
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [old, new]);
    assert_eq!((found[0].state, found[1].state), (delivered(1), waiting(5)));
    assert_eq!(found[1].progress, Progress::new(at(5)), "its schedule begins now");
    let of_other = MessageQuery { endpoint: Some(other.endpoint), limit: 9, ..MessageQuery::default() };
    let listed = world.store.messages(lane.application, of_other).await.unwrap().items;
    assert_eq!(listed.iter().map(|message| message.id).collect::<Vec<_>>(), [later.message, old.message]);

    world.assert_nothing_to_claim(other, 4).await;
    let lease = world.claim_one(other, 9).await;
    assert_eq!(lease.delivery, new, "it is due before what was sent later");
    assert_eq!(add(&world, new, 9).await, Replayed::InFlight);
    assert_eq!(world.end(lease, 9, waiting(100)).await, Settled::Done);
    assert_eq!(add(&world, DeliveryId { lane: third, ..old }, 10).await, Replayed::Added);
    assert_eq!(count(&world, lane.application).await.routed, 4);
    world.pass(other, 20, delivered(20)).await;
    world.pass(other, 100, dead(100)).await;
    assert_eq!(add(&world, new, 101).await, Replayed::Reopened, "what it has is replayed");
    assert_eq!(world.delivery(new).await.progress.round, 2);
    assert_eq!(world.attempts(new).await.len(), 2);
}

pub(crate) async fn an_added_delivery_is_canceled_expunged_and_kept_as_any_other(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let prune = |before| Prune { now: at(500), delivered_before: at(before), ended_before: at(9), ..Prune::default() };
    let prune = |before| Prune { limit: 10, ..prune(before) };
    let mut added = Vec::new();
    for seconds in 1..=3 {
        let message = if seconds == 2 {
            let nobody = world.message_to_nobody(lane.application, seconds);
            world.store_message(nobody).await
        } else {
            let old = world.send(&[lane], seconds).await;
            world.pass(lane, seconds, delivered(seconds)).await;
            old.message
        };
        let new = DeliveryId { lane: other, message };
        assert_eq!(add(&world, new, 5).await, Replayed::Added);
        added.push(new);
    }
    assert_eq!(count(&world, lane.application).await.waiting, 3);
    assert_eq!(world.health().await.open, 3);
    assert_eq!(world.store.open_bytes(lane.application).await.unwrap(), 7 + 2 + 7);
    assert_eq!(world.store.prune(prune(400)).await.unwrap().removed, 0, "what waits is kept");
    assert_eq!(world.claim(other, 5, 3).await.into_iter().map(|l| l.delivery).collect::<Vec<_>>(), added, "in order");
    world.reopen().await;

    let cancel = Cancel::Delivery(added[0]);
    assert_eq!(world.store.cancel(cancel, CancelReason::Requested, at(6)).await.unwrap(), 1);
    assert_eq!(world.state(added[0]).await, canceled(6));
    let went_nowhere = world.store.message(lane.application, added[1].message).await.unwrap().unwrap();
    assert_eq!(went_nowhere.routing, Routing::To(vec![other.endpoint]));
    world.pass(other, 7, delivered(7)).await;
    let payload = Expunge::Payload(added[2].message);
    assert!(world.store.expunge(lane.application, payload).await.unwrap());
    let lease = world.claim_one(other, 8).await;
    assert!(lease.message.as_ref().is_none_or(|message| message.expunged), "the payload is gone for it, too");
    world.end(lease, 8, dead(8)).await;
    let third = DeliveryId { lane: world.lane_beside(lane), ..added[2] };
    assert_eq!(add(&world, third, 9).await, Replayed::Expunged);

    let counts = count(&world, lane.application).await;
    assert_eq!((counts.routed, counts.delivered, counts.dead, counts.canceled), (5, 3, 1, 1));
    assert_eq!(world.store.open_bytes(lane.application).await.unwrap(), 0);
    assert_eq!(world.store.prune(prune(3)).await.unwrap().removed, 3, "by how its deliveries ended");
    assert_eq!(count(&world, lane.application).await, Counts::default());
    assert_eq!(add(&world, added[0], 10).await, Replayed::NotFound, "the message is gone");
}

pub(crate) async fn a_batch_adds_several_deliveries_of_large_messages(mut world: World) {
    let lane = world.lane();
    let others = [world.lane_beside(lane), world.lane_beside(lane)];
    let mut message = world.message(&[lane], 1);
    message.payload = (0..100_000_u32).map(|i| i as u8).collect::<Vec<_>>().into();
    let (id, payload) = (message.id, message.payload.clone());
    world.store_message(message).await;
    let batch = others.map(|lane| Replay { delivery: DeliveryId { lane, message: id }, add: true });
    let batch = [batch[0], batch[1], Replay { add: false, ..batch[1] }].to_vec();
    let answers = world.store.replay(batch, at(2), None).await.unwrap().unwrap();
    assert_eq!(answers, [Replayed::Added, Replayed::Added, Replayed::Hastened]);
    let stored = world.store.message(lane.application, id).await.unwrap().unwrap();
    assert_eq!(stored.payload, payload);
    let routed = [lane, others[0], others[1]].map(|lane| lane.endpoint);
    assert_eq!(stored.routing, Routing::To(routed.to_vec()));
    assert_eq!(count(&world, lane.application).await.waiting, 3);
}

pub(crate) async fn a_record_goes_along_only_if_all_of_the_batch_is_taken_up(mut world: World) {
    let lane = world.lane();
    let ended = world.send(&[lane], 1).await;
    world.pass(lane, 1, dead(1)).await;
    let leased = world.send(&[lane], 2).await;
    let _lease = world.claim_one(lane, 2).await;
    let unknown = DeliveryId { message: world.message_id(3), ..ended };
    let new = Replay { delivery: DeliveryId { lane: world.lane_beside(lane), ..ended }, add: true };
    let key = RecordKey { kind: RecordKind::ReplayJob, application: None, key: b"job".to_vec() };
    let record = || Some(Put { key: key.clone(), expected: 0, active: true, value: Some("counts".into()) });
    for (odd_one, why) in [(leased, Replayed::InFlight), (unknown, Replayed::NotFound)] {
        let batch = vec![ended.into(), odd_one.into(), new];
        let answers = world.store.replay(batch, at(3), record()).await.unwrap().unwrap();
        assert_eq!(answers, [Replayed::Untouched, why, Replayed::Untouched]);
        assert_eq!(world.store.get(key.clone()).await.unwrap(), None);
        assert_eq!((world.state(ended).await, world.deliveries(ended).await.len()), (dead(1), 1));
    }
    let answers = world.store.replay(vec![ended.into(), new], at(3), record()).await.unwrap().unwrap();
    assert_eq!(answers, [Replayed::Reopened, Replayed::Added]);
    assert_eq!(world.store.get(key).await.unwrap().unwrap().version, 1);
}
