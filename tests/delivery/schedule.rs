//! Messages that are due later, and messages that expire.

use std::sync::Arc;
use std::time::Duration;

use ringback::clock::{Clock, SystemClock};
use ringback::{DeadReason, NewMessage, State, StateKind, Timestamp};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

fn now() -> Timestamp {
    SystemClock::starting_after(Timestamp::ZERO).now()
}

fn message() -> NewMessage {
    NewMessage::bytes("test.happened", "{}")
}

fn is_expired(state: State) -> bool {
    matches!(state, State::Dead { reason: DeadReason::Expired, .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_is_not_attempted_before_its_time_also_after_a_restart() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let due = now() + Duration::from_millis(700);
    let later = world.ringback.send(world.app, message().deliver_at(due)).await.unwrap().id;
    assert_eq!(world.state(later).await, State::Waiting { due });
    world.run();
    let at_once =
        world.ringback.send(world.app, message().deliver_at(now() - Duration::from_secs(9))).await.unwrap().id;
    world.all_ended(&[at_once]).await;
    world.reopen().await;
    world.run();
    world.all_ended(&[later]).await;
    let attempts = world.attempts(later).await;
    assert_eq!(attempts.len(), 1);
    assert!(attempts[0].started_at >= due, "{attempts:?}");
    assert!(world.attempts(at_once).await[0].started_at < due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_until_it_expired_ends_without_a_request() {
    let world = World::running().await;
    let let_go = Arc::new(Semaphore::new(0));
    let holding = Arc::clone(&let_go);
    let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&holding), 200)).await;
    world.endpoint(quick(&receiver.url).max_in_flight(1)).await;
    let first = world.send("test.happened", "{}").await;
    receiver.wait_for(1).await;
    // Both wait behind the endpoint's cap; one of them for too long.
    let expiring = world.ringback.send(world.app, message().max_age(Duration::from_millis(50))).await.unwrap().id;
    let patient = world.ringback.send(world.app, message().max_age(Duration::from_secs(3600))).await.unwrap().id;
    let end = now() + Duration::from_millis(60);
    until(async || now() > end).await;
    let_go.add_permits(10);
    assert!(is_expired(world.ended(expiring).await));
    assert_eq!(world.ended(patient).await.kind(), StateKind::Delivered);
    assert_eq!(world.ended(first).await.kind(), StateKind::Delivered);
    assert_eq!((world.attempts(expiring).await.len(), receiver.count()), (0, 2), "no request and no record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_retry_comes_after_the_expiry_and_a_replay_has_none() {
    let world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer([500, 500, 200][before.min(2)])).await;
    let endpoint = quick(&receiver.url).retry(retries(&[10, 3_600_000]));
    let endpoint = world.endpoint(endpoint).await.id;
    let sent = world.ringback.send(world.app, message().expires_at(now() + Duration::from_secs(60))).await.unwrap().id;
    assert!(is_expired(world.ended(sent).await), "the second retry would have come too late");
    assert_eq!(world.attempts(sent).await.len(), 2);

    let late = world.ringback.send(world.app, message().expires_at(now() - Duration::from_secs(1))).await.unwrap().id;
    assert!(is_expired(world.ended(late).await));
    assert_eq!((world.attempts(late).await.len(), receiver.count()), (0, 2));
    world.ringback.replay(world.app, late, endpoint).await.unwrap();
    until(async || world.state(late).await.kind() == StateKind::Delivered).await;
    assert_eq!(receiver.count(), 3);
}
