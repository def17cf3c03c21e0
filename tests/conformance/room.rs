//! Promises of the room that one application has.

use ringback::store::{Cancel, Enqueue, Enqueued, Expunge, Idempotency, Prune, Replayed};
use ringback::{ApplicationId, CancelReason, DeliveryId, Lane, Message};

use crate::world::{World, at, canceled, dead, delivered, list_of, plain, waiting};

const LIMIT: u64 = 1_000;

/// A message of so many bytes.
fn sized(world: &mut World, lanes: &[Lane], bytes: usize) -> Message {
    let mut message = world.message(lanes, 1);
    message.payload = vec![b'1'; bytes].into();
    message
}

async fn send_sized(world: &mut World, lanes: &[Lane], bytes: usize) -> DeliveryId {
    let message = sized(world, lanes, bytes);
    DeliveryId { lane: lanes[0], message: world.store_message(message).await }
}

async fn open(world: &World, application: ApplicationId) -> u64 {
    world.store.open_bytes(application).await.unwrap()
}

fn no_room(open: u64) -> Enqueued {
    Enqueued::NoRoom { open, limit: LIMIT }
}

pub(crate) async fn a_message_beyond_its_application_s_room_is_refused_alone(mut world: World) {
    world.limit(LIMIT).await;
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let elsewhere = world.lane();
    let mut batch = Vec::new();
    for (lanes, bytes) in [
        (&[lane][..], 600),
        (&[lane, other], 201),
        (&[lane, other], 150),
        (&[elsewhere], 1_000),
        (&[other], 101),
        (&[other], 100),
        (&[lane], 1),
        (&[elsewhere], 1),
    ] {
        batch.push(plain(sized(&mut world, lanes, bytes)));
    }
    let answers = world.store.enqueue(batch.clone()).await.unwrap();
    let stored = Enqueued::Stored;
    let expected = [
        stored.clone(),
        no_room(600),
        stored.clone(),
        stored.clone(),
        no_room(900),
        stored.clone(),
        no_room(1_000),
        no_room(1_000),
    ];
    assert_eq!(answers, expected, "each delivery counts its message's payload");
    for (item, answer) in batch.iter().zip(&answers) {
        let found = world.store.message(item.message.application, item.message.id).await.unwrap();
        assert_eq!(found.is_some(), *answer == stored);
    }
    for _ in 0..2 {
        assert_eq!((open(&world, lane.application).await, open(&world, elsewhere.application).await), (1_000, 1_000));
        assert_eq!((world.health().await.open, world.health().await.open_bytes), (5, 2_000));
        let one = plain(sized(&mut world, &[lane], 1));
        assert_eq!(world.enqueue(one).await, no_room(1_000));
        world.reopen().await;
    }
    let unknown = world.lane().application;
    assert_eq!(open(&world, unknown).await, 0);
}

pub(crate) async fn what_ends_makes_room_again(mut world: World) {
    world.limit(LIMIT).await;
    let lane = world.lane();
    for (round, end) in (2..).zip([delivered(1), dead(1), canceled(1)]) {
        send_sized(&mut world, &[lane], 1_000).await;
        let refused = plain(sized(&mut world, &[lane], 1));
        assert_eq!(world.enqueue(refused.clone()).await, no_room(1_000));
        world.pass(lane, round, waiting(round)).await;
        assert_eq!(world.enqueue(refused.clone()).await, no_room(1_000), "a retry has not ended");
        if round == 3 {
            world.reopen().await;
        }
        let lease = world.claim_one(lane, round).await;
        assert_eq!(world.enqueue(refused.clone()).await, no_room(1_000), "nor has what is on its way");
        world.end(lease, round, end).await;
        assert_eq!(open(&world, lane.application).await, 0);
    }
    let id = send_sized(&mut world, &[lane], 1_000).await;
    assert_eq!(world.store.cancel(Cancel::Delivery(id), CancelReason::Requested, at(9)).await.unwrap(), 1);
    assert_eq!(open(&world, lane.application).await, 0);
    send_sized(&mut world, &[lane], 1_000).await;
    let what = Cancel::Lane { lane, limit: 10 };
    assert_eq!(world.store.cancel(what, CancelReason::Requested, at(9)).await.unwrap(), 1);
    send_sized(&mut world, &[lane], 1_000).await;
}

pub(crate) async fn replays_are_taken_up_beyond_the_room(mut world: World) {
    world.limit(LIMIT).await;
    let lane = world.lane();
    let first = send_sized(&mut world, &[lane], 700).await;
    world.pass(lane, 1, dead(1)).await;
    let second = send_sized(&mut world, &[lane], 800).await;
    let replayed = world.store.replay(vec![first.into(), second.into()], at(2), None).await.unwrap().unwrap();
    assert_eq!(replayed, [Replayed::Reopened, Replayed::Hastened], "what was accepted is not refused later");
    for _ in 0..2 {
        assert_eq!(open(&world, lane.application).await, 1_500);
        let refused = plain(sized(&mut world, &[lane], 1));
        assert_eq!(world.enqueue(refused).await, no_room(1_500));
        world.reopen().await;
    }
    // Its bytes count until it has ended, whatever became of them.
    assert!(world.store.expunge(lane.application, Expunge::Payload(first.message)).await.unwrap());
    assert_eq!(open(&world, lane.application).await, 1_500);
    for _ in 0..2 {
        world.pass(lane, 3, delivered(3)).await;
    }
    let prune = Prune { now: at(9), delivered_before: at(9), ended_before: at(9), limit: 10, ..Prune::default() };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 2);
    assert_eq!(open(&world, lane.application).await, 0);
    send_sized(&mut world, &[lane], 1_000).await;
}

pub(crate) async fn what_adds_nothing_has_room_and_other_reasons_come_first(mut world: World) {
    world.limit(LIMIT).await;
    let lane = world.lane();
    let key = |seconds| Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(seconds) });
    let mut message = sized(&mut world, &[lane], 1_000);
    message.event_id = Some("event".into());
    let first = Enqueue { idempotency: key(100), ..plain(message) };
    assert_eq!(world.enqueue(first.clone()).await, Enqueued::Stored);
    send_sized(&mut world, &[lane], 0).await;
    let nobody = world.message_to_nobody(lane.application, 1);
    world.store_message(nobody).await;

    let repeated = Enqueue { idempotency: key(100), ..plain(sized(&mut world, &[lane], 9)) };
    assert_eq!(world.enqueue(repeated.clone()).await, Enqueued::Repeated(first.message.id));
    let conflict = repeated.idempotency.map(|key| Idempotency { digest: [2; 32], ..key });
    let conflict = Enqueue { idempotency: conflict, ..plain(sized(&mut world, &[lane], 9)) };
    assert_eq!(world.enqueue(conflict).await, Enqueued::IdempotencyConflict);
    let mut same_event = sized(&mut world, &[lane], 9);
    same_event.event_id = Some("event".into());
    assert_eq!(world.enqueue(plain(same_event)).await, Enqueued::EventIdTaken(first.message.id));
    let stale = Enqueue { routed_over: Some((list_of(lane.application), 5)), ..plain(sized(&mut world, &[lane], 9)) };
    assert_eq!(world.enqueue(stale).await, Enqueued::Stale);
    // A refusal for want of room uses up neither the key nor the event id.
    let mut message = sized(&mut world, &[lane], 9);
    message.event_id = Some("other".into());
    let other_key = key(100).map(|key| Idempotency { key: "other".into(), ..key });
    let refused = Enqueue { idempotency: other_key, ..plain(message) };
    assert_eq!(world.enqueue(refused.clone()).await, no_room(1_000));
    world.pass(lane, 1, delivered(1)).await;
    assert_eq!(world.enqueue(refused).await, Enqueued::Stored);
}
