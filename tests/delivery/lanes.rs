//! Endpoints beside each other: one costs the others nothing, and each is held to its cap.

use std::sync::Arc;
use std::time::Duration;

use ringback::{NewEndpoint, StateKind};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

async fn holding(gate: &Arc<Semaphore>) -> Receiver {
    let gate = Arc::clone(gate);
    Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&gate), 200)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_does_not_delay_another() {
    let world = World::running().await;
    let gate = Arc::new(Semaphore::new(0));
    let hanging = holding(&gate).await;
    let good = Receiver::answering(200).await;
    world.endpoint(quick(&hanging.url).timeout(Duration::from_secs(120))).await;
    let well = world.endpoint(quick(&good.url)).await;
    let sent = world.send_many(300).await;
    good.wait_for(300).await;
    until(async || world.ringback.health().await.unwrap().open == 300).await;
    for message in &sent {
        for delivery in world.deliveries(*message).await {
            let delivered = delivery.state.kind() == StateKind::Delivered;
            assert_eq!(delivered, delivery.id.lane.endpoint == well.id);
        }
    }
    assert_eq!(good.count(), 300);
    assert!(hanging.count() <= 64, "{} are on their way to it", hanging.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_does_not_delay_another() {
    let world = World::running().await;
    let failing = Receiver::start(|_, _| Behaviour::Close).await;
    let good = Receiver::answering(200).await;
    world.endpoint(NewEndpoint::at(&failing.url).retry(retries(&[600_000]))).await;
    world.endpoint(quick(&good.url)).await;
    world.send_many(100).await;
    good.wait_for(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_on_their_way_than_an_endpoint_allows() {
    let mut world = World::open().await;
    let mut receivers = Vec::new();
    for most in [1, 3] {
        let slow = Receiver::start(|_, _| Behaviour::Hang(Duration::from_millis(5))).await;
        world.endpoint(quick(&slow.url).max_in_flight(most)).await;
        receivers.push((slow, most as usize));
    }
    let sent = world.send_many(40).await;
    world.run();
    world.all_ended(&sent).await;
    for (slow, most) in receivers {
        assert_eq!((slow.most_at_once(), slow.count()), (most, 40));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caps_of_the_settings_hold_over_all_endpoints() {
    let gate = Arc::new(Semaphore::new(0));
    let hanging = holding(&gate).await;
    let mut world = World::with(|config| config.max_in_flight_per_origin = 5).await;
    world.config.max_in_flight_per_endpoint = 4;
    for _ in 0..3 {
        world.endpoint(quick(&hanging.url)).await;
    }
    let sent = world.send_many(10).await;
    world.reopen().await;
    world.run();
    hanging.wait_for(5).await;
    for held in 0..25 {
        assert_eq!(hanging.count(), 5 + held);
        gate.add_permits(1);
        hanging.wait_for(6 + held).await;
    }
    gate.add_permits(100);
    world.all_ended(&sent).await;
    assert_eq!((hanging.count(), hanging.most_at_once()), (30, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_times_out_again_and_again_is_held_to_four_requests_until_it_answers() {
    let world = World::running().await;
    let hanging = Receiver::start(|_, _| Behaviour::Hang(Duration::from_secs(60))).await;
    let endpoint = NewEndpoint::at(&hanging.url).timeout(Duration::from_millis(100)).max_in_flight(3);
    let endpoint = world.endpoint(endpoint.retry(retries(&[]))).await.id;
    let timed_out = world.send_many(3).await;
    world.all_ended(&timed_out).await;
    let gate = Arc::new(Semaphore::new(0));
    let back = holding(&gate).await;
    let changed = NewEndpoint::at(&back.url).max_in_flight(20).retry(retries(&[]));
    world.ringback.update_endpoint(world.app, endpoint, changed).await.unwrap();
    let sent = world.send_many(30).await;
    back.wait_for(4).await;
    // The next start needs an answer: four wait for theirs.
    until(async || world.ringback.health().await.unwrap().leased == 4).await;
    assert_eq!(back.count(), 4);
    gate.add_permits(1);
    back.wait_for(21).await;
    gate.add_permits(100);
    world.all_ended(&sent).await;
}
