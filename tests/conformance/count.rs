//! Promises of `count`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringback::store::{CountQuery, Counts, Lease, Prune, Settlement};
use ringback::{ApplicationId, Lane, State};

use crate::world::{World, at, canceled, dead, delivered, plain, waiting};

async fn count(world: &World, application: ApplicationId, query: CountQuery) -> Counts {
    world.store.count(application, query).await.unwrap()
}

/// Messages, routed, and the states in the order of their life.
fn row(counts: Counts) -> [u64; 7] {
    let Counts { messages, routed, waiting, leased, delivered, dead, canceled, .. } = counts;
    [messages, routed, waiting, leased, delivered, dead, canceled]
}

pub(crate) async fn each_delivery_is_counted_once_in_the_state_that_it_is_in(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let elsewhere = world.lane();
    world.send(&[elsewhere], 1).await;
    let all = CountQuery::default();
    assert_eq!(row(count(&world, lane.application, all).await), [0; 7]);
    let nobody = world.message_to_nobody(lane.application, 1);
    world.store_message(nobody).await;
    for seconds in 1..=6 {
        world.send(&[lane, other], seconds).await;
    }
    assert_eq!(row(count(&world, lane.application, all).await), [7, 12, 12, 0, 0, 0, 0]);
    let first = world.pass(lane, 1, delivered(7)).await;
    world.pass(lane, 2, dead(7)).await;
    world.pass(lane, 3, canceled(7)).await;
    world.pass(lane, 4, waiting(900)).await;
    let _lease = world.claim_one(lane, 5).await;
    world.pass(other, 1, delivered(7)).await;
    let counts = count(&world, lane.application, all).await;
    assert_eq!(row(counts), [7, 12, 7, 1, 2, 1, 1]);
    assert!(counts.adds_up());
    world.store.replay(vec![first.into()], at(8), None).await.unwrap();
    assert_eq!(row(count(&world, lane.application, all).await), [7, 12, 8, 1, 1, 1, 1]);
    world.reopen().await;
    assert_eq!(row(count(&world, lane.application, all).await), [7, 12, 9, 0, 1, 1, 1]);
    for _ in 0..4 {
        world.pass(lane, 900, delivered(900)).await;
    }
    for _ in 0..5 {
        world.pass(other, 900, delivered(900)).await;
    }
    let prune = Prune { now: at(901), delivered_before: at(901), ended_before: at(3), limit: 100, ..Prune::default() };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 6, "the canceled one stays");
    assert_eq!(row(count(&world, lane.application, all).await), [1, 2, 0, 0, 1, 0, 1]);
    assert_eq!(row(count(&world, elsewhere.application, all).await), [1, 1, 1, 0, 0, 0, 0]);
    assert!(!Counts { dead: 2, ..counts }.adds_up(), "one delivery twice");
    assert!(!Counts { waiting: 6, ..counts }.adds_up(), "one delivery nowhere");
}

pub(crate) async fn what_is_counted_can_be_narrowed_to_an_endpoint_and_a_window(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let silent = world.lane_beside(lane);
    for seconds in 1..=4 {
        world.send(&[lane], seconds).await;
        // When it ended does not matter: its message's acceptance does.
        world.pass(lane, 100, dead(200 - seconds)).await;
        world.send(&[lane, other], seconds).await;
        world.pass(lane, 100, waiting(500)).await;
    }
    let of = |lane: Option<Lane>, since: Option<u64>, until: Option<u64>| CountQuery {
        endpoint: lane.map(|lane| lane.endpoint),
        since: since.map(at),
        until: until.map(at),
    };
    let table = [
        (of(None, None, None), [8, 12, 8, 0, 0, 4, 0]),
        (of(None, Some(2), Some(4)), [4, 6, 4, 0, 0, 2, 0]),
        (of(None, Some(4), None), [2, 3, 2, 0, 0, 1, 0]),
        (of(None, None, Some(1)), [0; 7]),
        (of(None, Some(3), Some(2)), [0; 7]),
        (of(Some(lane), None, None), [8, 8, 4, 0, 0, 4, 0]),
        (of(Some(lane), Some(4), None), [2, 2, 1, 0, 0, 1, 0]),
        (of(Some(other), None, None), [4, 4, 4, 0, 0, 0, 0]),
        (of(Some(other), None, Some(3)), [2, 2, 2, 0, 0, 0, 0]),
        (of(Some(silent), None, None), [0; 7]),
    ];
    for (query, expected) in table {
        assert_eq!(row(count(&world, lane.application, query).await), expected, "{query:?}");
    }
}

pub(crate) async fn more_than_a_store_looks_at_at_once_is_counted(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let batch = (0..1_300).map(|_| plain(world.message(&[lane, other], 1))).collect();
    world.store.enqueue(batch).await.unwrap();
    let settlements = world.claim(lane, 1, 1_100).await.into_iter().map(|lease| ended(lease, dead(1)));
    let settlements = settlements.collect();
    world.store.settle(Arc::new(settlements)).await.unwrap();
    let counts = count(&world, lane.application, CountQuery::default()).await;
    assert_eq!(row(counts), [1_300, 2_600, 1_500, 0, 0, 1_100, 0]);
}

fn ended(lease: Lease, state: State) -> Settlement {
    Settlement { lease, attempt: None, state, lets_pass: false }
}

/// A few deliveries that are counted again and again while all of them move at once: settled, replayed, removed.
pub(crate) async fn the_counts_add_up_while_everything_moves(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    for _ in 0..10 {
        world.send(&[other], 1).await;
    }
    let over = AtomicBool::new(false);
    let store = Arc::clone(&world.store);
    let counting = async {
        let mut rounds = 0;
        while !over.load(Ordering::SeqCst) {
            let counts = store.count(lane.application, CountQuery::default()).await.unwrap();
            assert!(counts.adds_up(), "{counts:?}");
            rounds += 1;
            tokio::task::yield_now().await;
        }
        rounds
    };
    let moving = async {
        for round in 2..122 {
            let batch = (0..20).map(|_| plain(world.message(&[lane], round))).collect();
            world.store.enqueue(batch).await.unwrap();
            for (lane, wanted, state) in [(lane, 20, delivered(round)), (other, 10, dead(round))] {
                let settlements: Vec<_> =
                    world.claim(lane, round, wanted).await.into_iter().map(|lease| ended(lease, state)).collect();
                let ids = settlements.iter().map(|settlement| settlement.lease.delivery.into()).collect();
                world.store.settle(Arc::new(settlements)).await.unwrap();
                if lane == other {
                    world.store.replay(ids, at(round), None).await.unwrap();
                }
            }
            let prune =
                Prune { now: at(999), delivered_before: at(999), ended_before: at(0), limit: 300, ..Prune::default() };
            assert_eq!(world.store.prune(prune).await.unwrap().removed, 20);
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let (rounds, ()) = tokio::join!(counting, moving);
    assert!(rounds > 0);
}
