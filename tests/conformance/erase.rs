//! Promises of `erase`.

use std::collections::BTreeSet;

use ringback::store::{
    AttemptQuery, CountQuery, DeadQuery, Enqueue, Enqueued, Erase, Erased, Idempotency, Put, RecordKey, RecordKind,
};
use ringback::{ApplicationId, Lane, MessageId, StateKind};

use crate::world::{World, at, dead, delivered, list_of, plain, waiting};

async fn erase(world: &World, application: ApplicationId, ids: &[MessageId]) -> Erased {
    world.store.erase(application, Erase::Messages(ids.to_vec()), at(500)).await.unwrap()
}

async fn left(world: &World, lane: Lane) -> BTreeSet<MessageId> {
    world.messages(lane.application).await.iter().map(|message| message.id).collect()
}

pub(crate) async fn an_erased_message_leaves_nothing(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut message = world.message(&[lane, other], 1);
    message.event_id = Some("event".into());
    message.payload = vec![7; 200_000].into();
    let id = message.id;
    let idempotency = Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(90_000) });
    world.enqueue(Enqueue { idempotency: idempotency.clone(), ..plain(message.clone()) }).await;
    let delivery = world.pass(lane, 1, waiting(2)).await;
    world.pass(lane, 2, dead(2)).await;
    let kept = world.send(&[lane], 9).await;
    world.pass(lane, 9, dead(9)).await;
    let expected = Erased { messages: 1, deliveries: 2, attempts: 2, ..Erased::default() };
    assert_eq!(erase(&world, lane.application, &[id, id]).await, expected, "one of the two waited");
    assert_eq!(erase(&world, lane.application, &[id]).await, Erased::default(), "once more does nothing");
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        assert_eq!(world.store.message(lane.application, id).await.unwrap(), None);
        assert!(world.deliveries(delivery).await.is_empty() && world.attempts(delivery).await.is_empty());
        assert_eq!(world.store.message_by_event_id(lane.application, "event".into()).await.unwrap(), None);
        assert_eq!(left(&world, lane).await, BTreeSet::from([kept.message]));
        let dead = DeadQuery { limit: 10, ..DeadQuery::default() };
        assert_eq!(world.store.dead_letters(lane.application, dead).await.unwrap().items, [kept]);
        let attempts = AttemptQuery { limit: 10, ..AttemptQuery::default() };
        assert_eq!(world.store.attempts(lane.application, attempts).await.unwrap().items.len(), 1);
        let counts = world.store.count(lane.application, CountQuery::default()).await.unwrap();
        assert!(counts.adds_up() && counts.messages == 1 && counts.canceled == 0, "{counts:?}");
        let health = world.health().await;
        assert_eq!((health.open, health.open_bytes), (0, 0));
        world.assert_nothing_to_claim(other, 600).await;
    }
    let mut again = world.message(&[lane], 20);
    again.event_id = Some("event".into());
    assert_eq!(world.enqueue(Enqueue { idempotency, ..plain(again) }).await, Enqueued::Stored, "both keys are free");
}

pub(crate) async fn what_is_being_attempted_is_erased_once_that_has_ended(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let flying = world.send(&[lane, other], 1).await;
    let resting = world.send(&[other], 1).await;
    let lease = world.claim_one(lane, 1).await;
    let ids = [flying.message, resting.message];
    let first = erase(&world, lane.application, &ids).await;
    assert_eq!((first.messages, first.in_flight), (1, vec![flying.message]));
    let states: Vec<StateKind> = world.deliveries(flying).await.iter().map(|one| one.state.kind()).collect();
    assert_eq!(states, [StateKind::Leased, StateKind::Canceled], "nothing else of it starts");
    world.end(lease, 2, waiting(3)).await;
    let second = erase(&world, lane.application, &ids).await;
    assert_eq!((second.messages, second.attempts, second.in_flight), (1, 1, vec![]), "its retry is canceled");
    assert!(left(&world, lane).await.is_empty());
    assert_eq!(world.health().await.open, 0);
}

pub(crate) async fn what_an_erased_message_held_goes_on(mut world: World) {
    let lane = world.lane();
    let mut ids = Vec::new();
    for seconds in 1..=3 {
        let mut message = world.message(&[lane], seconds);
        message.ordering_key = Some("key".into());
        ids.push(world.store_message(message).await);
    }
    assert_eq!(erase(&world, lane.application, &ids[..2]).await.messages, 2);
    let lease = world.claim_one(lane, 600).await;
    assert_eq!(lease.delivery.message, ids[2]);
    world.end(lease, 600, delivered(600)).await;
    assert_eq!(world.health().await.open, 0, "none is left behind");
}

pub(crate) async fn the_rest_of_an_application_goes_and_no_other_s(mut world: World) {
    let lanes = [world.lane(), world.lane()];
    for lane in lanes {
        world.set_active(lane, true).await;
        let list = Put { key: list_of(lane.application), expected: 0, active: true, value: Some("list".into()) };
        assert!(world.store.put(vec![list]).await.unwrap());
    }
    let id = world.send(&[lanes[0]], 1).await.message;
    let kept = world.send(&[lanes[1]], 1).await.message;
    erase(&world, lanes[0].application, &[id]).await;
    let mut bites = 0;
    while world.store.erase(lanes[0].application, Erase::Rest { limit: 1 }, at(9)).await.unwrap().more {
        bites += 1;
        assert!(bites < 20, "it ends");
    }
    let again = world.store.erase(lanes[0].application, Erase::Rest { limit: 9 }, at(9)).await.unwrap();
    assert_eq!(again, Erased::default());
    for (lane, versions) in [(lanes[0], 0), (lanes[1], 1)] {
        for kind in [RecordKind::Endpoint, RecordKind::EndpointList] {
            let found = world.store.list(kind, Some(lane.application), None, 9).await.unwrap();
            assert_eq!(found.len(), versions);
        }
        let list = RecordKey { kind: RecordKind::EndpointList, application: Some(lane.application), key: Vec::new() };
        let stale = Enqueue { routed_over: Some((list, 1)), ..plain(world.message(&[lane], 10)) };
        let expected = if versions == 1 { Enqueued::Stored } else { Enqueued::Stale };
        assert_eq!(world.enqueue(stale).await, expected);
    }
    assert!(left(&world, lanes[1]).await.contains(&kept));
    world.pass(lanes[1], 20, delivered(20)).await;
}
