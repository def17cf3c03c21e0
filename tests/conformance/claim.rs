//! Promises of `due_lanes` and `claim`.

use std::collections::BTreeSet;

use ringback::store::{DueLanes, Settled};
use ringback::{DeliveryId, Lane, State};

use crate::world::{LEASE, World, at, dead, delivered, ids, plain, waiting};

pub(crate) async fn nothing_is_claimed_before_it_is_due(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 10).await;
    world.assert_nothing_to_claim(lane, 9).await;
    let lease = world.claim_one(lane, 10).await;
    assert_eq!(lease.delivery, id);
    assert!(!lease.lost);
}

pub(crate) async fn a_scheduled_message_is_due_when_it_says_and_its_round_opens_then(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 10);
    message.deliver_at = Some(at(100));
    let scheduled = DeliveryId { lane, message: world.store_message(message).await };
    let now = world.send(&[lane], 20).await;
    assert_eq!(world.state(scheduled).await, waiting(100));
    world.reopen().await;
    assert_eq!(world.claim_one(lane, 20).await.delivery, now);
    world.assert_nothing_to_claim(lane, 79).await;
    assert_eq!(world.store.due_lanes(at(20), None, 1).await.unwrap().next_due, Some(at(20 + LEASE)));
    world.reopen().await;
    let leases = world.claim(lane, 100, 2).await;
    assert_eq!(ids(&leases), [now.message, scheduled.message], "due times go before the order of storing");
    assert_eq!(leases[1].progress.since, at(100));
    assert_eq!(world.delivery(scheduled).await.progress.since, at(100));
}

pub(crate) async fn a_lane_is_claimed_in_the_order_of_due_times_and_then_of_storing(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for seconds in [3, 1, 2, 1, 2] {
        sent.push(world.send(&[lane], seconds).await.message);
    }
    let claimed = ids(&world.claim(lane, 3, 5).await);
    assert_eq!(claimed, [1, 3, 2, 4, 0].map(|place| sent[place]));
}

pub(crate) async fn no_more_is_claimed_than_was_asked_for(mut world: World) {
    let first = world.lane();
    let lanes = [first, world.lane_beside(first), world.lane_beside(first)];
    for _ in 0..3 {
        world.send(&lanes, 1).await;
    }
    let wanted = vec![(lanes[0], 2), (lanes[1], 0), (lanes[2], 1)];
    let leases = world.store.claim(at(1), wanted, at(1 + LEASE)).await.unwrap();
    let from = |lane: Lane| leases.iter().filter(|lease| lease.delivery.lane == lane).count();
    assert!(from(lanes[0]) <= 2 && from(lanes[1]) == 0 && from(lanes[2]) <= 1, "{leases:?}");
    let mut claimed: BTreeSet<_> = leases.iter().map(|lease| lease.delivery).collect();
    for lane in lanes {
        let rest = world.claim(lane, 1, 3 - from(lane)).await;
        claimed.extend(rest.iter().map(|lease| lease.delivery));
    }
    assert_eq!(claimed.len(), 9, "each was claimed once");
}

pub(crate) async fn a_leased_delivery_is_not_claimed_again(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    assert_eq!(world.state(id).await, State::Leased { until: at(1 + LEASE) });
    world.assert_nothing_to_claim(lane, 1).await;
    world.assert_nothing_to_claim(lane, LEASE).await;
    assert_eq!(world.end(lease, LEASE, delivered(LEASE)).await, Settled::Done);
    world.assert_nothing_to_claim(lane, 10 * LEASE).await;
}

pub(crate) async fn a_lost_lease_is_claimed_again_and_the_old_one_settles_nothing(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(5)).await;
    let old = world.claim_one(lane, 5).await;
    let due = world.store.due_lanes(at(5 + LEASE), None, 10).await.unwrap();
    assert_eq!(due.lanes, [lane], "a lease that ran out counts as claimable");
    let new = world.claim_one(lane, 5 + LEASE).await;
    assert_eq!((new.delivery, new.progress), (id, old.progress));
    assert!(new.lost && !old.lost);
    assert!(new.fence > old.fence);

    assert_eq!(world.end(old, 70, dead(70)).await, Settled::Stale);
    assert_eq!(world.attempts(id).await.len(), 1, "the stale settlement's attempt is not stored");
    assert_eq!(world.state(id).await, State::Leased { until: at(5 + 2 * LEASE) });
    assert_eq!(world.end(new, 71, delivered(71)).await, Settled::Done);
    assert_eq!(world.state(id).await, delivered(71));
    assert_eq!(world.delivery(id).await.progress.attempts, 2);
}

pub(crate) async fn a_lost_lease_keeps_its_place(mut world: World) {
    let lane = world.lane();
    let first = world.send(&[lane], 1).await.message;
    let _lost = world.claim_one(lane, 1).await;
    let second = world.send(&[lane], 2).await.message;
    assert_eq!(ids(&world.claim(lane, 1 + LEASE, 2).await), [first, second]);
}

pub(crate) async fn a_lease_that_ran_out_settles_until_it_is_claimed_again(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    let late = 5 * LEASE;
    assert_eq!(world.end(lease, late, delivered(late)).await, Settled::Done);
    assert_eq!(world.state(id).await, delivered(late));
    world.assert_nothing_to_claim(lane, late).await;
}

pub(crate) async fn a_closed_lane_gives_no_lease(mut world: World) {
    let lane = world.lane();
    let open = world.lane_beside(lane);
    let elsewhere = Lane { application: world.lane().application, ..lane };
    world.send(&[lane, open], 1).await;
    world.send(&[elsewhere], 1).await;
    world.set_active(lane, false).await;
    world.assert_nothing_to_claim(lane, 5).await;
    assert_eq!(ids(&world.claim(open, 5, 1).await).len(), 1);
    assert_eq!(ids(&world.claim(elsewhere, 5, 1).await).len(), 1, "the same endpoint id of another application");

    let late = world.send(&[lane], 6).await;
    world.assert_nothing_to_claim(lane, 6).await;
    world.reopen().await;
    world.assert_nothing_to_claim(lane, 6).await;
    world.set_active(lane, true).await;
    let claimed = ids(&world.claim(lane, 6, 2).await);
    assert_eq!(claimed[1], late.message);
}

pub(crate) async fn an_attempt_in_flight_settles_although_its_lane_closed(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let other = world.send(&[lane], 1).await;
    let mut leases = world.claim(lane, 1, 2).await;
    world.set_active(lane, false).await;
    assert_eq!(world.end(leases.remove(0), 2, delivered(2)).await, Settled::Done);
    assert_eq!(world.end(leases.remove(0), 2, waiting(3)).await, Settled::Done);
    assert_eq!((world.state(id).await, world.state(other).await), (delivered(2), waiting(3)));
    world.assert_nothing_to_claim(lane, 10).await;
    let due = world.store.due_lanes(at(2), None, 10).await.unwrap();
    assert_eq!(due.next_due, None, "nothing of a closed lane becomes claimable");
}

pub(crate) async fn due_lanes_are_found_in_order_and_by_pages(mut world: World) {
    let mut lanes = Vec::new();
    for _ in 0..3 {
        let lane = world.lane();
        lanes.extend([lane, world.lane_beside(lane), world.lane_beside(lane)]);
    }
    for place in [5, 0, 7, 3, 8, 1] {
        world.send(&[lanes[place]], 1).await;
    }
    world.send(&[lanes[2]], 100).await;
    let expected: Vec<_> = [0, 1, 3, 5, 7, 8].map(|place| lanes[place]).to_vec();
    for limit in [1, 2, 4, 5, 6, 100] {
        let mut found = Vec::new();
        loop {
            let due = world.store.due_lanes(at(1), found.last().copied(), limit).await.unwrap();
            assert!(due.lanes.len() <= limit);
            assert_eq!(due.next_due, Some(at(100)), "of all lanes, on every page");
            found.extend(due.lanes);
            if !due.more {
                break;
            }
        }
        assert_eq!(found, expected, "by {limit}");
    }
}

pub(crate) async fn the_next_due_time_is_the_next_retry_or_the_end_of_a_lease(mut world: World) {
    let due_at = async |world: &World, seconds| world.store.due_lanes(at(seconds), None, 10).await.unwrap();
    let lane = world.lane();
    assert_eq!(due_at(&world, 1).await, DueLanes::default());
    world.send(&[lane], 10).await;
    let waits = DueLanes { lanes: vec![], more: false, next_due: Some(at(10)) };
    assert_eq!(due_at(&world, 9).await, waits);
    assert_eq!(due_at(&world, 10).await, DueLanes { lanes: vec![lane], more: false, next_due: None });
    let lease = world.claim_one(lane, 10).await;
    let leased = DueLanes { next_due: Some(at(10 + LEASE)), ..DueLanes::default() };
    assert_eq!(due_at(&world, 10).await, leased);
    world.end(lease, 11, waiting(20)).await;
    assert_eq!(due_at(&world, 11).await.next_due, Some(at(20)));
    world.pass(lane, 20, delivered(20)).await;
    assert_eq!(due_at(&world, 21).await, DueLanes::default());
}

/// Longer than what a store may keep at hand of a lane.
pub(crate) async fn a_long_backlog_is_claimed_completely_and_once(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for second in 0..12 {
        let messages: Vec<_> = (0..200).map(|_| world.message(&[lane], second)).collect();
        sent.extend(messages.iter().map(|message| message.id));
        world.store.enqueue(messages.into_iter().map(plain).collect()).await.unwrap();
    }
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        let mut claimed = Vec::new();
        while claimed.len() < sent.len() {
            claimed.extend(ids(&world.claim(lane, 12, 64.min(sent.len() - claimed.len())).await));
        }
        assert!(claimed == sent, "all, once and in order; reopened: {reopened}");
        world.assert_nothing_to_claim(lane, 12).await;
    }
}

pub(crate) async fn a_long_backlog_hides_no_other_lane(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let messages: Vec<_> = (0..1000).map(|_| world.message(&[lane], 1)).collect();
    world.store.enqueue(messages.into_iter().map(plain).collect()).await.unwrap();
    let last = world.send(&[other], 2).await;
    let due = world.store.due_lanes(at(2), None, 10).await.unwrap();
    assert_eq!(due.lanes, [lane, other]);
    let lease = world.claim_one(other, 2).await;
    assert_eq!(lease.delivery, last);
    world.end(lease, 2, delivered(2)).await;
    assert_eq!(world.health().await.open, 1000);
}
