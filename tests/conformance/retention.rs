//! Promises of `prune`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringback::store::{
    AttemptQuery, Bounds, DeadQuery, Enqueue, Enqueued, Exceptions, Idempotency, Prune, Pruned, Replay,
};
use ringback::{Lane, MessageId};

use crate::world::{LEASE, World, at, canceled, dead, delivered, plain, waiting};

/// All that was accepted before this second and has ended.
fn everything(seconds: u64) -> Prune {
    let time = at(seconds);
    Prune { now: time, delivered_before: time, ended_before: time, limit: 1000, ..Prune::default() }
}

async fn prune(world: &World, prune: Prune) -> usize {
    let pruned = world.store.prune(prune).await.unwrap();
    assert_eq!(pruned.next, None, "it was asked for all at once");
    pruned.removed
}

async fn left(world: &World, lane: Lane) -> BTreeSet<MessageId> {
    world.messages(lane.application).await.iter().map(|message| message.id).collect()
}

pub(crate) async fn retention_keeps_what_has_not_ended(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let half = world.send(&[lane, other], 1).await.message;
    world.pass(lane, 1, delivered(1)).await;
    let retried = world.send(&[lane], 1).await.message;
    world.pass(lane, 1, waiting(2)).await;
    let lease = world.claim_one(lane, 2).await;
    assert_eq!(lease.delivery.message, retried);
    let waits = world.send(&[lane], 3).await.message;
    let third = world.lane_beside(lane);
    let ended = world.send(&[third], 1).await;
    world.pass(ended.lane, 1, dead(1)).await;
    let replayed = world.store.replay(vec![ended.into()], at(3), None).await.unwrap();
    assert!(replayed.is_some());

    assert_eq!(prune(&world, everything(10_000)).await, 0);
    assert_eq!(left(&world, lane).await, BTreeSet::from([half, retried, waits, ended.message]));
    assert_eq!(prune(&world, everything(LEASE * 100)).await, 0, "nor what was lost");
    world.end(lease, 4, delivered(4)).await;
    assert_eq!(prune(&world, everything(10_000)).await, 1);
    assert_eq!(left(&world, lane).await, BTreeSet::from([half, waits, ended.message]));
}

pub(crate) async fn retention_removes_what_was_delivered_before_its_time(mut world: World) {
    let lane = world.lane();
    let old = world.send(&[lane], 1).await.message;
    let young = world.send(&[lane], 2).await.message;
    for _ in 0..2 {
        world.pass(lane, 50, delivered(50)).await;
    }
    let nowhere_old = world.message_to_nobody(lane.application, 1);
    let nowhere_old = world.store_message(nowhere_old).await;
    let nowhere_young = world.message_to_nobody(lane.application, 2);
    let nowhere_young = world.store_message(nowhere_young).await;
    let delivered_only = Prune { ended_before: at(0), ..everything(2) };
    assert_eq!(prune(&world, delivered_only).await, 2);
    assert_eq!(left(&world, lane).await, BTreeSet::from([young, nowhere_young]), "{old} {nowhere_old} went");
}

pub(crate) async fn retention_removes_what_failed_before_its_own_time(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut kept = BTreeSet::new();
    for (seconds, ending) in [(1, dead(60)), (1, canceled(60)), (5, dead(60)), (5, canceled(60))] {
        let id = world.send(&[lane, other], seconds).await;
        world.pass(lane, 50, ending).await;
        world.pass(other, 50, delivered(60)).await;
        if seconds == 5 {
            kept.insert(id.message);
        }
    }
    let delivered_only = Prune { ended_before: at(0), ..everything(100) };
    assert_eq!(prune(&world, delivered_only).await, 0, "one delivery of each did not succeed");
    let before_five = Prune { ended_before: at(5), delivered_before: at(0), ..everything(100) };
    assert_eq!(prune(&world, before_five).await, 2);
    assert_eq!(left(&world, lane).await, kept);
}

pub(crate) async fn retention_keeps_a_message_while_its_idempotency_key_lives(mut world: World) {
    let lane = world.lane();
    let idempotency = |expires_at| Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(expires_at) });
    let first = Enqueue { idempotency: idempotency(100), ..plain(world.message(&[lane], 1)) };
    world.enqueue(first.clone()).await;
    world.pass(lane, 1, delivered(1)).await;
    assert_eq!(prune(&world, Prune { now: at(99), ..everything(200) }).await, 0);
    let again = Enqueue { idempotency: idempotency(200), ..plain(world.message(&[lane], 99)) };
    assert_eq!(world.enqueue(again).await, Enqueued::Repeated(first.message.id));
    assert_eq!(prune(&world, Prune { now: at(100), ..everything(200) }).await, 1);
    assert!(left(&world, lane).await.is_empty());
}

pub(crate) async fn retention_forgets_no_idempotency_key_of_another_message(mut world: World) {
    let lane = world.lane();
    let idempotency = |expires_at| Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(expires_at) });
    let first = Enqueue { idempotency: idempotency(10), ..plain(world.message(&[lane], 1)) };
    world.enqueue(first).await;
    world.pass(lane, 1, delivered(1)).await;
    let second = Enqueue { idempotency: idempotency(500), ..plain(world.message(&[lane], 20)) };
    assert_eq!(world.enqueue(second.clone()).await, Enqueued::Stored);
    assert_eq!(prune(&world, everything(30)).await, 1, "the first one's key is the second one's now");
    let third = Enqueue { idempotency: idempotency(600), ..plain(world.message(&[lane], 40)) };
    assert_eq!(world.enqueue(third).await, Enqueued::Repeated(second.message.id));
}

pub(crate) async fn retention_leaves_nothing_of_a_message(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 1);
    message.event_id = Some("event".into());
    message.payload = vec![7; 200_000].into();
    let id = message.id;
    let idempotency = Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(5) });
    world.enqueue(Enqueue { idempotency, ..plain(message) }).await;
    let delivery = world.pass(lane, 1, waiting(2)).await;
    world.pass(lane, 2, dead(2)).await;
    let kept = world.send(&[lane], 9).await;
    world.pass(lane, 9, dead(9)).await;
    assert_eq!(prune(&world, everything(8)).await, 1);

    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        assert_eq!(world.store.message(lane.application, id).await.unwrap(), None);
        assert!(world.deliveries(delivery).await.is_empty());
        assert!(world.attempts(delivery).await.is_empty());
        assert_eq!(world.store.message_by_event_id(lane.application, "event".into()).await.unwrap(), None);
        assert_eq!(left(&world, lane).await, BTreeSet::from([kept.message]));
        let dead = DeadQuery { limit: 10, ..DeadQuery::default() };
        assert_eq!(world.store.dead_letters(lane.application, dead.clone()).await.unwrap().items, [kept]);
        assert_eq!(world.store.count_dead_letters(lane.application, dead).await.unwrap(), 1);
        let attempts = AttemptQuery { limit: 10, ..AttemptQuery::default() };
        assert_eq!(world.store.attempts(lane.application, attempts).await.unwrap().items.len(), 1);
    }
}

pub(crate) async fn retention_walks_all_applications_by_pages(mut world: World) {
    let lanes = [world.lane(), world.lane()];
    let (mut all, mut kept) = (Vec::new(), Vec::new());
    for lane in lanes {
        for seconds in 1..=6 {
            let id = world.send(&[lane], seconds).await.message;
            all.push((lane.application, id));
            if seconds % 3 == 0 {
                kept.push((lane.application, id));
            } else {
                world.pass(lane, seconds, delivered(seconds)).await;
                continue;
            }
            // The delivery stays open, out of the next ones' way.
            let lease = world.claim_one(lane, seconds).await;
            world.end(lease, seconds, waiting(9_000)).await;
        }
    }
    all.sort();
    let (mut after, mut pages, mut removed) = (None, Vec::new(), 0);
    loop {
        let Pruned { removed: some, next, .. } =
            world.store.prune(Prune { after, limit: 5, ..everything(100) }).await.unwrap();
        removed += some;
        after = next;
        let Some(stop) = next else { break };
        pages.push(stop);
    }
    assert_eq!((removed, pages), (8, vec![all[4], all[9]]));
    let mut found: Vec<_> = Vec::new();
    for lane in lanes {
        found.extend(left(&world, lane).await.into_iter().map(|id| (lane.application, id)));
    }
    assert_eq!(found, kept);
    let exactly = world.store.prune(Prune { limit: 4, ..everything(100) }).await.unwrap();
    assert_eq!(exactly, Pruned::default(), "nothing follows the last one");
}

/// Nothing but payloads and attempts, of before this second.
fn parts(seconds: u64) -> Prune {
    Prune { now: at(10_000), payloads_before: at(seconds), limit: 1000, ..Prune::default() }
}

async fn expunged(world: &World, lane: Lane, id: MessageId) -> bool {
    let message = world.store.message(lane.application, id).await.unwrap().unwrap();
    assert_eq!(message.expunged, message.payload.is_empty());
    message.expunged
}

pub(crate) async fn payloads_go_before_their_message_once_it_has_ended(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let idempotency = Some(Idempotency { key: "key".into(), digest: [1; 32], expires_at: at(90_000) });
    let keyed = Enqueue { idempotency, ..plain(world.message(&[lane], 1)) };
    world.enqueue(keyed.clone()).await;
    world.pass(lane, 1, delivered(1)).await;
    let failed = world.send(&[lane], 2).await;
    world.pass(lane, 2, dead(2)).await;
    let young = world.send(&[lane], 9).await.message;
    world.pass(lane, 9, delivered(9)).await;
    let mut half = world.message(&[lane, other], 3);
    half.payload = vec![7; 100_000].into();
    let half = world.store_message(half).await;
    world.pass(lane, 9, delivered(9)).await;
    let nowhere = world.message_to_nobody(lane.application, 4);
    let nowhere = world.store_message(nowhere).await;
    for (payloads, half_is_gone) in [(3, false), (0, false)] {
        let pruned = world.store.prune(parts(9)).await.unwrap();
        assert_eq!(pruned, Pruned { payloads, ..Pruned::default() });
        for (id, gone) in
            [(keyed.message.id, true), (failed.message, true), (young, false), (half, half_is_gone), (nowhere, true)]
        {
            assert_eq!(expunged(&world, lane, id).await, gone, "{id}");
        }
    }
    assert_eq!(world.enqueue(keyed.clone()).await, Enqueued::Repeated(keyed.message.id), "the key holds");
    assert_eq!(world.attempts(failed).await.len(), 1);
    world.pass(other, 9, delivered(9)).await;
    assert_eq!(world.store.prune(parts(9)).await.unwrap().payloads, 1);
    world.reopen().await;
    assert!(expunged(&world, lane, half).await);
    assert_eq!(prune(&world, everything(9)).await, 3, "the rest goes when it is time, but for the key");
}

pub(crate) async fn attempts_go_before_their_message_and_the_numbers_go_on(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    for (seconds, state) in [(1, waiting(5)), (5, waiting(20)), (20, dead(20))] {
        world.pass(lane, seconds, state).await;
    }
    let open = world.send(&[lane], 2).await;
    world.pass(lane, 21, waiting(600)).await;
    let before = world.deliveries(id).await;
    let old = |seconds| Prune { attempts_before: at(seconds), ..parts(0) };
    assert_eq!(world.store.prune(old(20)).await.unwrap(), Pruned { attempts: 2, ..Pruned::default() });
    assert_eq!(world.deliveries(id).await, before, "how it stands and how many it had stays");
    let left = world.attempts(id).await;
    assert_eq!((left.len(), left[0].number), (1, 3));
    assert_eq!(world.store.prune(old(22)).await.unwrap().attempts, 2, "also of what is still open");
    assert!(world.attempts(id).await.is_empty() && world.attempts(open).await.is_empty());
    world.reopen().await;
    let replays = vec![Replay { delivery: id, add: false }];
    world.store.replay(replays, at(30), None).await.unwrap();
    world.pass(lane, 30, delivered(30)).await;
    let left = world.attempts(id).await;
    assert_eq!((left.len(), left[0].number, left[0].round), (1, 4, 2));
    world.pass(lane, 600, delivered(600)).await;
    assert_eq!(world.attempts(open).await[0].number, 2);
    let all = AttemptQuery { limit: 10, ..AttemptQuery::default() };
    assert_eq!(world.store.attempts(lane.application, all).await.unwrap().items.len(), 2);
    assert_eq!(prune(&world, everything(9_000)).await, 2);
}

pub(crate) async fn a_payload_goes_at_once_where_all_of_its_deliveries_succeeded(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut ids = Vec::new();
    for ends in
        [&[delivered(5), delivered(5)][..], &[delivered(5), dead(5)], &[delivered(5), canceled(5)], &[delivered(5)]]
    {
        let id = world.send(&[lane, other], 1).await.message;
        for (lane, end) in [lane, other].into_iter().zip(ends) {
            world.pass(lane, 5, *end).await;
        }
        ids.push((lane.application, id));
    }
    let nowhere = world.message_to_nobody(lane.application, 1);
    ids.push((lane.application, world.store_message(nowhere).await));
    let on_success = Prune { now: at(9), delete_on_success: true, ..Prune::default() };
    let one = Prune { only: vec![ids[0], ids[1], ids[0]], limit: 0, ..on_success.clone() };
    assert_eq!(world.store.prune(one).await.unwrap(), Pruned { payloads: 1, ..Pruned::default() });
    let all = Prune { limit: 100, ..on_success };
    assert_eq!(world.store.prune(all).await.unwrap(), Pruned::default(), "no other one succeeded everywhere");
    for (number, (_, id)) in ids.into_iter().enumerate() {
        assert_eq!(expunged(&world, lane, id).await, number == 0, "number {number}");
    }
}

pub(crate) async fn exceptions_hold_for_their_application_and_event_type(mut world: World) {
    let lanes = [world.lane(), world.lane()];
    let mut ids = Vec::new();
    for lane in lanes {
        for event_type in ["brief", "other"] {
            let mut message = world.message_to_nobody(lane.application, 10);
            message.event_type = event_type.into();
            ids.push(world.store_message(message).await);
        }
    }
    let before = |seconds| Bounds { delivered_before: Some(at(seconds)), ..Bounds::default() };
    let exceptions = Exceptions {
        applications: BTreeMap::from([(lanes[0].application, before(5))]),
        event_types: BTreeMap::from([("brief".to_owned(), before(20))]),
    };
    let rules = Prune { exceptions: Arc::new(exceptions), ..everything(11) };
    assert_eq!(prune(&world, rules).await, 3);
    assert_eq!(left(&world, lanes[0]).await, BTreeSet::from([ids[1]]), "its application keeps it longer");
    assert!(left(&world, lanes[1]).await.is_empty());
}
