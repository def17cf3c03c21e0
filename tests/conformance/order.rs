//! Promises of ordering keys.

use std::sync::Arc;

use ringback::store::{Cancel, CountQuery, Enqueued, Prune, Replayed, Settled, Settlement};
use ringback::{CancelReason, DeliveryId, Lane, MessageId, State, StateKind};

use crate::world::{LEASE, World, at, canceled, copy, dead, delivered, ids, plain, waiting};

/// Sends a message with an ordering key; answers its delivery to the first lane.
async fn send(world: &mut World, lanes: &[Lane], seconds: u64, key: &str) -> DeliveryId {
    let mut message = world.message(lanes, seconds);
    message.ordering_key = Some(key.into());
    DeliveryId { lane: lanes[0], message: world.store_message(message).await }
}

async fn several(world: &mut World, lane: Lane, count: usize, key: &str) -> Vec<DeliveryId> {
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.push(send(world, &[lane], 1, key).await);
    }
    sent
}

fn held(behind: DeliveryId) -> State {
    State::Held { behind: behind.message }
}

fn messages(of: &[DeliveryId]) -> Vec<MessageId> {
    of.iter().map(|id| id.message).collect()
}

async fn cancel(world: &World, id: DeliveryId, seconds: u64) -> usize {
    world.store.cancel(Cancel::Delivery(id), CancelReason::Requested, at(seconds)).await.unwrap()
}

async fn replay(world: &World, id: DeliveryId, seconds: u64) -> Replayed {
    world.store.replay(vec![id.into()], at(seconds), None).await.unwrap().unwrap().remove(0)
}

async fn assert_adds_up(world: &World, lane: Lane, held: u64) {
    let counts = world.store.count(lane.application, CountQuery::default()).await.unwrap();
    assert!(counts.adds_up() && counts.held == held, "{counts:?}");
    let health = world.health().await;
    assert_eq!(health.open, counts.waiting + counts.held + counts.leased);
    assert_eq!(health.damaged, 0);
    assert_eq!(world.store.open_bytes(lane.application).await.unwrap(), health.open_bytes);
}

pub(crate) async fn of_one_key_one_goes_first_and_others_flow(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let a = several(&mut world, lane, 3, "a").await;
    let b = send(&mut world, &[lane], 1, "b").await;
    let none = world.send(&[lane], 1).await;
    let elsewhere = send(&mut world, &[other], 1, "a").await;
    assert_eq!(world.state(a[1]).await, held(a[0]));
    assert_eq!(world.state(a[2]).await, held(a[0]), "behind the one that goes first");
    assert_adds_up(&world, lane, 2).await;
    let leases = world.claim(lane, 1, 3).await;
    assert_eq!(ids(&leases), messages(&[a[0], b, none]));
    world.assert_nothing_to_claim(lane, 1).await;
    assert_eq!(world.claim_one(other, 1).await.delivery, elsewhere, "another endpoint has its own order");
    let mut leases = leases.into_iter();
    let first = leases.next().unwrap();
    assert_eq!(world.end(first, 50, delivered(50)).await, Settled::Done);
    assert_eq!(world.state(a[1]).await, waiting(1), "it is due as it was");
    assert_eq!(world.state(a[2]).await, held(a[1]));
    let second = world.claim_one(lane, 50).await;
    assert_eq!((second.delivery, second.progress.since), (a[1], at(50)), "its round counts from its turn");
    assert_eq!(world.delivery(a[1]).await.progress, second.progress);
    assert_adds_up(&world, lane, 1).await;
}

pub(crate) async fn those_behind_wait_for_each_retry_and_follow_each_way_to_end(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 5, "a").await;
    world.pass(lane, 1, waiting(10)).await;
    world.assert_nothing_to_claim(lane, 9).await;
    assert_eq!(world.pass(lane, 10, waiting(20)).await, sent[0], "a retry keeps its place");
    assert_eq!(world.pass(lane, 20, delivered(20)).await, sent[0]);
    assert_eq!(world.pass(lane, 20, dead(20)).await, sent[1]);
    assert_eq!(world.pass(lane, 20, canceled(20)).await, sent[2]);
    assert_eq!(cancel(&world, sent[3], 21).await, 1);
    assert_eq!(world.state(sent[4]).await, waiting(1));
    assert_eq!(world.delivery(sent[4]).await.progress.since, at(21));
    assert_eq!(world.pass(lane, 22, delivered(22)).await, sent[4]);
    world.assert_nothing_to_claim(lane, 1_000).await;
    let later = send(&mut world, &[lane], 30, "a").await;
    assert_eq!(world.claim_one(lane, 30).await.delivery, later, "nothing is left in its way");
    assert_adds_up(&world, lane, 0).await;
}

pub(crate) async fn a_held_delivery_is_canceled_without_a_trace_in_the_order(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 4, "a").await;
    assert_eq!((cancel(&world, sent[1], 2).await, cancel(&world, sent[1], 2).await), (1, 0));
    assert_eq!(world.state(sent[1]).await, canceled(2));
    let lease = world.claim_one(lane, 2).await;
    assert_eq!(cancel(&world, sent[0], 3).await, 0, "it is left to its attempt");
    assert_eq!(world.end(lease, 3, delivered(3)).await, Settled::Done);
    assert_eq!(world.claim_one(lane, 3).await.delivery, sent[2]);
    assert_adds_up(&world, lane, 1).await;
}

pub(crate) async fn a_lane_is_canceled_with_what_is_held_first_up_to_the_limit(mut world: World) {
    let lane = world.lane();
    let a = several(&mut world, lane, 4, "a").await;
    let none = world.send(&[lane], 1).await;
    let sweep = async |limit| {
        let what = Cancel::Lane { lane, limit };
        world.store.cancel(what, CancelReason::EndpointDisabled, at(2)).await.unwrap()
    };
    assert_eq!(sweep(2).await, 2);
    assert_eq!(world.state(a[3]).await, held(a[0]));
    assert_eq!((world.state(a[1]).await.kind(), world.state(none).await), (StateKind::Canceled, waiting(1)));
    assert_eq!(sweep(2).await, 2);
    assert_eq!((sweep(2).await, sweep(2).await), (1, 0));
    for id in a.into_iter().chain([none]) {
        assert_eq!(world.state(id).await.kind(), StateKind::Canceled);
    }
    assert_eq!(world.health().await.open, 0);
    let later = send(&mut world, &[lane], 3, "a").await;
    assert_eq!(world.claim_one(lane, 3).await.delivery, later);
}

pub(crate) async fn a_settlement_can_let_others_pass(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 3, "a").await;
    let lease = world.claim_one(lane, 1).await;
    let attempt = Some(world.attempt(&lease, 5, waiting(60)));
    let settlement = Settlement { lease, attempt, state: waiting(60), lets_pass: true };
    assert_eq!(world.settle(settlement).await, Settled::Done);
    assert_eq!((world.state(sent[0]).await, world.state(sent[2]).await), (waiting(60), held(sent[1])));
    assert_eq!(world.pass(lane, 6, delivered(6)).await, sent[1]);
    let third = world.claim_one(lane, 6).await;
    assert_eq!(third.delivery, sent[2]);
    let behind = send(&mut world, &[lane], 7, "a").await;
    // The one that let others pass is nobody's way any more.
    assert_eq!(world.pass(lane, 60, dead(60)).await, sent[0]);
    assert_eq!(world.state(behind).await, held(sent[2]));
    assert_eq!(world.end(third, 61, delivered(61)).await, Settled::Done);
    assert_eq!(world.state(behind).await, waiting(7));
    assert_adds_up(&world, lane, 0).await;
}

pub(crate) async fn what_is_replayed_takes_its_place_in_the_order(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 4, "a").await;
    world.pass(lane, 1, dead(1)).await;
    world.pass(lane, 1, delivered(1)).await;
    let third = world.claim_one(lane, 1).await;
    assert_eq!(replay(&world, sent[1], 5).await, Replayed::Reopened);
    assert_eq!(replay(&world, sent[0], 6).await, Replayed::Reopened);
    assert_eq!(replay(&world, sent[2], 6).await, Replayed::InFlight);
    assert_eq!(replay(&world, sent[3], 6).await, Replayed::Hastened, "it is held all the same");
    for place in [0, 1, 3] {
        assert_eq!(world.state(sent[place]).await, held(sent[2]));
    }
    assert_adds_up(&world, lane, 3).await;
    world.reopen().await;
    assert_eq!(world.end(third, 7, delivered(7)).await, Settled::Stale);
    for place in [2, 0, 1, 3] {
        let lease = world.claim_one(lane, 10).await;
        assert_eq!(lease.delivery, sent[place]);
        assert_eq!(lease.progress.round, if place < 2 { 2 } else { 1 });
        world.end(lease, 10, delivered(10)).await;
    }
    assert_eq!(replay(&world, sent[3], 20).await, Replayed::Reopened);
    assert_eq!(world.state(sent[3]).await, waiting(20), "nobody goes first");
}

pub(crate) async fn a_batch_of_replays_keeps_the_order_of_a_key(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 3, "a").await;
    for _ in &sent {
        world.pass(lane, 1, dead(1)).await;
    }
    let batch = [sent[0], sent[2], sent[1], sent[0]].map(Into::into).to_vec();
    let answers = world.store.replay(batch, at(5), None).await.unwrap().unwrap();
    assert_eq!(answers, [Replayed::Reopened, Replayed::Reopened, Replayed::Reopened, Replayed::Hastened]);
    for place in [0, 1, 2] {
        assert_eq!(world.pass(lane, 5, delivered(5)).await, sent[place]);
    }
}

pub(crate) async fn what_is_held_and_due_later_waits_until_then(mut world: World) {
    let lane = world.lane();
    let first = send(&mut world, &[lane], 1, "a").await;
    let mut message = world.message(&[lane], 2);
    message.ordering_key = Some("a".into());
    message.deliver_at = Some(at(100));
    let scheduled = DeliveryId { lane, message: world.store_message(message).await };
    assert_eq!(world.state(scheduled).await, held(first));
    world.pass(lane, 3, delivered(3)).await;
    assert_eq!(world.state(scheduled).await, waiting(100));
    let behind = send(&mut world, &[lane], 4, "a").await;
    assert_eq!(world.state(behind).await, held(scheduled), "it was accepted later");
    world.assert_nothing_to_claim(lane, 99).await;
    let lease = world.claim_one(lane, 100).await;
    assert_eq!((lease.delivery, lease.progress.since), (scheduled, at(100)));
    world.end(lease, 100, delivered(100)).await;
    assert_eq!(world.claim_one(lane, 100).await.delivery, behind);
}

pub(crate) async fn the_order_outlives_restarts_and_lost_leases(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 4, "a").await;
    world.pass(lane, 1, delivered(1)).await;
    world.reopen().await;
    assert_eq!(world.state(sent[2]).await, held(sent[1]));
    assert_adds_up(&world, lane, 2).await;
    let lost = world.claim_one(lane, 1).await;
    let again = world.claim_one(lane, 1 + LEASE).await;
    assert!(again.lost && again.delivery == sent[1]);
    assert_eq!(world.end(copy(&lost), 70, delivered(70)).await, Settled::Stale, "a stale one lets nobody pass");
    assert_eq!(world.state(sent[2]).await, held(sent[1]));
    assert_eq!(world.end(again, 71, delivered(71)).await, Settled::Done);
    world.reopen().await;
    assert_eq!(world.pass(lane, 72, delivered(72)).await, sent[2]);
    assert_eq!(world.pass(lane, 72, delivered(72)).await, sent[3]);
    assert_adds_up(&world, lane, 0).await;
}

pub(crate) async fn requests_of_one_write_see_each_other_s_order(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for round in 0..30 {
        // A batch of sends of one key, and beside it the end of the one that goes first.
        let batch: Vec<_> = (0..4)
            .map(|_| {
                let mut message = world.message(&[lane], 1);
                message.ordering_key = Some("a".into());
                sent.push(DeliveryId { lane, message: message.id });
                plain(message)
            })
            .collect();
        let settled = async {
            if round > 0 {
                let lease = world.store.claim(at(1), vec![(lane, 9)], at(1 + LEASE)).await.unwrap();
                assert!(lease.len() <= 1, "one of a key at a time: {lease:?}");
                for lease in lease {
                    let settlement = Settlement { lease, attempt: None, state: delivered(1), lets_pass: false };
                    let done = world.store.settle(Arc::new(vec![settlement])).await.unwrap();
                    assert_eq!(done, [Settled::Done]);
                }
            }
        };
        let (stored, ()) = tokio::join!(world.store.enqueue(batch), settled);
        assert!(stored.unwrap().iter().all(|one| *one == Enqueued::Stored));
    }
    let mut order = Vec::new();
    for id in &sent {
        if world.state(*id).await == delivered(1) {
            order.push(*id);
        }
    }
    assert_eq!(order[..], sent[..order.len()], "those that arrived are the first");
    for id in &sent[order.len()..] {
        assert_eq!(world.pass(lane, 2, delivered(2)).await, *id);
    }
    assert_adds_up(&world, lane, 0).await;
}

pub(crate) async fn a_long_order_is_gone_through_completely(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for _ in 0..3 {
        let mut batch = Vec::new();
        for number in 0..200 {
            let mut message = world.message(&[lane], 1);
            message.ordering_key = Some(format!("key {}", number % 40));
            sent.push((number % 40, message.id));
            batch.push(plain(message));
        }
        world.store.enqueue(batch).await.unwrap();
    }
    assert_adds_up(&world, lane, 560).await;
    world.reopen().await;
    let mut arrived = Vec::new();
    for _ in 0..15 {
        let leases = world.claim(lane, 2, 40).await;
        arrived.extend(ids(&leases));
        let settle = |lease| Settlement { lease, attempt: None, state: delivered(2), lets_pass: false };
        world.store.settle(Arc::new(leases.into_iter().map(settle).collect())).await.unwrap();
    }
    world.assert_nothing_to_claim(lane, 3).await;
    for key in 0..40 {
        let of_key: Vec<_> = sent.iter().filter(|(of, _)| *of == key).map(|(_, id)| *id).collect();
        let order: Vec<_> = arrived.iter().filter(|id| of_key.contains(id)).copied().collect();
        assert_eq!(order, of_key, "key {key}");
    }
    assert_adds_up(&world, lane, 0).await;
}

pub(crate) async fn retention_keeps_what_is_held(mut world: World) {
    let lane = world.lane();
    let sent = several(&mut world, lane, 2, "a").await;
    let everything = || Prune {
        now: at(99),
        delivered_before: at(99),
        ended_before: at(99),
        after: None,
        limit: 10,
        ..Default::default()
    };
    let lease = world.claim_one(lane, 1).await;
    assert_eq!(world.store.prune(everything()).await.unwrap().removed, 0);
    world.end(lease, 2, delivered(2)).await;
    assert_eq!(world.store.prune(everything()).await.unwrap().removed, 1);
    assert_eq!(world.pass(lane, 3, delivered(3)).await, sent[1]);
    assert_eq!(world.store.prune(everything()).await.unwrap().removed, 1);
    let later = send(&mut world, &[lane], 4, "a").await;
    assert_eq!(world.claim_one(lane, 4).await.delivery, later);
}

pub(crate) async fn a_batch_that_is_canceled_lets_none_of_itself_follow(mut world: World) {
    let lane = world.lane();
    let a = several(&mut world, lane, 4, "a").await;
    let none = world.send(&[lane], 1).await;
    let unknown = DeliveryId { message: world.message_id(9), ..none };
    let batch = vec![a[0], none, a[1], unknown, a[2], a[0]];
    let store = Arc::clone(&world.store);
    let cancel = async |batch: Vec<DeliveryId>| {
        store.cancel(Cancel::Deliveries(batch), CancelReason::Requested, at(5)).await.unwrap()
    };
    assert_eq!((cancel(batch.clone()).await, cancel(batch).await), (4, 0));
    for place in [0, 1, 2] {
        assert_eq!(world.state(a[place]).await, canceled(5));
        assert_eq!(world.delivery(a[place]).await.progress.since, at(1), "its turn never came");
    }
    assert_eq!((world.state(none).await, world.state(a[3]).await), (canceled(5), waiting(1)));
    let lease = world.claim_one(lane, 5).await;
    assert_eq!(cancel(vec![a[3]]).await, 0, "it is left to its attempt");
    world.end(lease, 6, delivered(6)).await;
    let many = several(&mut world, lane, 600, "b").await;
    assert_eq!(cancel(many).await, 600);
    assert_adds_up(&world, lane, 0).await;
    world.assert_nothing_to_claim(lane, 100).await;
}
