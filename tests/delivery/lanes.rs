//! Endpoints beside each other: one costs the others nothing, and each is held to its cap.

use std::sync::Arc;
use std::time::Duration;

use ringback::{BreakerState, MessageId, NewApplication, NewEndpoint, Pace, StateKind, Timestamp};
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

/// When the first attempt of each message began, in order.
async fn starts(world: &World, messages: &[MessageId]) -> Vec<Timestamp> {
    let mut starts = Vec::new();
    for message in messages {
        starts.extend(world.attempts(*message).await.iter().map(|attempt| attempt.started_at));
    }
    starts.sort();
    starts
}

/// No span of time has more starts than the rate and its burst of one allow. An attempt starts a moment after its claim.
fn assert_throttled(starts: &[Timestamp], per_second: usize) {
    for (first, start) in starts.iter().enumerate() {
        for (last, end) in starts.iter().enumerate().skip(first + 2) {
            let least = (last - first - 1) as u64 * 1_000 / per_second as u64;
            let span = end.since(*start).as_millis() as u64;
            assert!(span + 50 >= least, "{} attempts within {span} ms", last - first + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttles_of_an_endpoint_an_application_and_the_server_hold_for_retries_too() {
    let throttled = |endpoint: NewEndpoint, which| if which == 0 { endpoint.throttle_rate(10) } else { endpoint };
    for which in 0..3 {
        let mut world = World::with(|config| config.throttle_rate = (which == 2).then_some(10)).await;
        if which == 1 {
            let new = NewApplication { throttle_rate: Some(10), ..NewApplication::named("Acme") };
            world.ringback.update_application(world.app, new).await.unwrap();
        }
        let receiver = Receiver::start(|_, before| Behaviour::Answer(if before < 3 { 500 } else { 200 })).await;
        world.endpoint(throttled(NewEndpoint::at(&receiver.url).retry(retries(&[1, 1, 1, 1])), which)).await;
        let sent = world.send_many(5).await;
        world.run();
        world.all_ended(&sent).await;
        let starts = starts(&world, &sent).await;
        assert_eq!((receiver.count(), starts.len()), (8, 8));
        assert_throttled(&starts, 10);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_on_their_way_than_an_application_allows() {
    let mut world = World::open().await;
    let new = NewApplication { max_in_flight: Some(3), ..NewApplication::named("Acme") };
    world.ringback.update_application(world.app, new).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let receiver = holding(&gate).await;
    for _ in 0..3 {
        world.endpoint(quick(&receiver.url)).await;
    }
    let sent = world.send_many(4).await;
    world.run();
    for ended in 0..9 {
        receiver.wait_for(3 + ended).await;
        assert_eq!(world.ringback.health().await.unwrap().leased, 3);
        gate.add_permits(1);
        receiver.wait_for(4 + ended).await;
        until(async || world.ringback.health().await.unwrap().leased == 3).await;
    }
    gate.add_permits(100);
    world.all_ended(&sent).await;
    assert_eq!((receiver.count(), receiver.most_at_once()), (12, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_ten_times_in_a_row_rests_and_what_waits_keeps_its_tries() {
    let mut world = World::with(|config| {
        config.breaker_failures = 10;
        config.breaker_rest = Duration::from_secs(600);
        config.breaker_max_rest = Duration::from_secs(600);
    })
    .await;
    let receiver = Receiver::answering(500).await;
    let endpoint = NewEndpoint::at(&receiver.url).max_in_flight(1).retry(retries(&[1, 1, 1, 1, 1]));
    let id = world.endpoint(endpoint).await.id;
    let known = |world: &World| world.ringback.endpoint_health(world.app, id).unwrap();
    let unknown = known(&world);
    assert_eq!((unknown.breaker, unknown.cap, unknown.pace), (BreakerState::Closed, 1, Pace::Slow));
    let sent = world.send_many(7).await;
    world.run();
    until(async || matches!(known(&world).breaker, BreakerState::Resting { .. })).await;
    let health = known(&world);
    let BreakerState::Resting { until: end } = health.breaker else { panic!("{health:?}") };
    assert_eq!((health.failures, health.cap, health.in_flight), (10, 0, 0));
    let tries = async || {
        let mut tries = 0;
        for message in &sent {
            tries += world.deliveries(*message).await[0].progress.tries;
        }
        tries
    };
    until(async || tries().await == 10).await;
    assert_eq!(receiver.count(), 10, "nothing more is claimed");
    let last = *starts(&world, &sent).await.last().unwrap();
    assert!(end.since(last) >= Duration::from_secs(300), "half of the rest at least");

    // Its settings are changed: it need not rest any longer.
    let well = Receiver::answering(200).await;
    let changed = NewEndpoint::at(&well.url).max_in_flight(1).retry(retries(&[1, 1, 1, 1, 1]));
    world.ringback.update_endpoint(world.app, id, changed).await.unwrap();
    world.all_ended(&sent).await;
    let health = known(&world);
    assert_eq!((health.breaker, health.failures, health.pace), (BreakerState::Closed, 0, Pace::Quick));
    assert_eq!(well.count(), sent.len());
    world.stop().await;
    assert_eq!(known(&world), unknown, "what does not run knows nothing");
}
