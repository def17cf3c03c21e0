//! Promises of `cancel`.

use std::time::Duration;

use ringback::store::{Cancel, Replayed, Settled};
use ringback::{CancelReason, DeliveryId, State};

use crate::world::{LEASE, World, at, dead, delivered, waiting};

async fn cancel(world: &World, what: Cancel, seconds: u64) -> usize {
    world.store.cancel(what, CancelReason::Requested, at(seconds)).await.unwrap()
}

fn canceled(seconds: u64) -> State {
    State::Canceled { at: at(seconds), reason: CancelReason::Requested }
}

pub(crate) async fn a_lane_is_canceled_in_order_up_to_the_limit(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut sent = Vec::new();
    for seconds in [4, 1, 3, 1] {
        sent.push(world.send(&[lane, other], seconds).await);
    }
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 0 }, 2).await, 0);
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 3 }, 2).await, 3, "what is not due yet waits as well");
    let states: Vec<_> = [world.state(sent[0]).await, world.state(sent[2]).await, world.state(sent[1]).await].to_vec();
    assert_eq!(states, [waiting(4), canceled(2), canceled(2)]);
    assert_eq!(world.state(sent[3]).await, canceled(2));
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 3 }, 3).await, 1);
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 3 }, 3).await, 0);
    world.assert_nothing_to_claim(lane, 10).await;
    assert_eq!(world.claim(other, 10, 4).await.len(), 4, "the other lane is as it was");
    world.reopen().await;
    assert_eq!(world.state(sent[1]).await, canceled(2));
    world.assert_nothing_to_claim(lane, 10).await;
}

pub(crate) async fn a_waiting_delivery_is_canceled(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let id = world.send(&[lane, other], 1).await;
    let kept = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(9)).await;
    let before = world.delivery(id).await.progress;
    let reason = CancelReason::EndpointDeleted;
    assert_eq!(world.store.cancel(Cancel::Delivery(id), reason, at(2)).await.unwrap(), 1);
    assert_eq!(world.state(id).await, State::Canceled { at: at(2), reason });
    assert_eq!(world.delivery(id).await.progress, before);
    assert_eq!(world.state(DeliveryId { lane: other, ..id }).await, waiting(1));
    assert_eq!(world.claim_one(lane, 10).await.delivery, kept);
    let unknown = DeliveryId { message: world.message_id(1), ..id };
    assert_eq!(cancel(&world, Cancel::Delivery(unknown), 3).await, 0);
    let replayed = world.store.replay(vec![id.into()], at(20), None).await.unwrap();
    assert_eq!(replayed, Some(vec![Replayed::Reopened]));
}

pub(crate) async fn an_attempt_in_flight_is_not_canceled(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    let waits = world.send(&[lane], 2).await;
    assert_eq!(cancel(&world, Cancel::Delivery(id), 3).await, 0);
    assert_eq!(cancel(&world, Cancel::Delivery(id), 2 * LEASE).await, 0, "after its time too: it may settle yet");
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 1 }, 3).await, 1, "it takes no place of the limit");
    assert_eq!(world.state(waits).await, canceled(3));
    assert_eq!(world.end(lease, 4, delivered(4)).await, Settled::Done);
    assert_eq!(world.state(id).await, delivered(4));
}

/// The claim comes at another moment in each round: before the cancel, while it is written, or after it.
pub(crate) async fn a_delivery_is_canceled_or_claimed_and_never_both(mut world: World) {
    let lane = world.lane();
    for round in 0..100 {
        let id = world.send(&[lane], 1).await;
        let claim = async {
            std::thread::sleep(Duration::from_micros(round * 20));
            world.store.claim(at(1), vec![(lane, 1)], at(1 + LEASE)).await.unwrap()
        };
        let (canceled, leases) = tokio::join!(cancel(&world, Cancel::Delivery(id), 1), claim);
        assert_eq!(canceled + leases.len(), 1, "round {round}");
        for lease in leases {
            assert_eq!(world.end(lease, 2, delivered(2)).await, Settled::Done);
        }
        let health = world.health().await;
        assert_eq!((health.open, health.open_bytes), (0, 0), "round {round}");
    }
}

pub(crate) async fn a_lease_that_ran_out_in_a_closed_lane_is_canceled(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    world.set_active(lane, false).await;
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 9 }, LEASE).await, 0, "its time is not over");
    assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 9 }, 2 * LEASE).await, 1);
    assert_eq!(world.state(id).await, canceled(2 * LEASE));
    assert_eq!(world.end(lease, 2 * LEASE, delivered(2 * LEASE)).await, Settled::Stale);
    assert_eq!(world.state(id).await, canceled(2 * LEASE));
    let health = world.health().await;
    assert_eq!((health.open, health.open_bytes, health.leased), (0, 0, 0));
}

pub(crate) async fn what_has_ended_is_not_canceled(mut world: World) {
    let lane = world.lane();
    for ending in [delivered(2), dead(2)] {
        let id = world.send(&[lane], 1).await;
        world.pass(lane, 2, ending).await;
        assert_eq!(cancel(&world, Cancel::Delivery(id), 3).await, 0);
        assert_eq!(cancel(&world, Cancel::Lane { lane, limit: 10 }, 3).await, 0);
        assert_eq!(world.state(id).await, ending);
    }
}

pub(crate) async fn a_closed_lane_can_be_canceled(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(world.send(&[lane], 1).await);
    }
    world.set_active(lane, false).await;
    let sweep = world.store.cancel(Cancel::Lane { lane, limit: 10 }, CancelReason::EndpointDisabled, at(2)).await;
    assert_eq!(sweep.unwrap(), 3);
    for id in sent {
        assert_eq!(world.state(id).await, State::Canceled { at: at(2), reason: CancelReason::EndpointDisabled });
    }
    world.set_active(lane, true).await;
    world.assert_nothing_to_claim(lane, 3).await;
    assert_eq!(world.health().await.open, 0);
}
