//! Starting, stopping, and starting again: nothing is lost, and nothing comes twice without a fault.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringback::{Error, NewMessage, State, StateKind, Trigger};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, until};

/// How often each message arrived.
fn arrivals(receiver: &Receiver) -> HashMap<String, usize> {
    let mut arrivals = HashMap::new();
    for request in receiver.received() {
        *arrivals.entry(request.header("svix-id").unwrap().to_owned()).or_insert(0) += 1;
    }
    arrivals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_once_and_logged() {
    let world = World::running().await;
    let receiver = Receiver::answering(204).await;
    let endpoint = world.endpoint(quick(&receiver.url).profile("levers")).await;
    let sent = world.send("phone_call.ended", r#"{"n":3.0}"#).await;
    assert!(matches!(world.ended(sent).await, State::Delivered { .. }));
    let attempts = world.attempts(sent).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].trigger, attempts[0].number), (Trigger::First, 1));
    assert_eq!(attempts[0].delivery.lane.endpoint, endpoint.id);
    assert!(attempts[0].succeeded() && attempts[0].hint().is_none());
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_receiver_is_tried_again_until_it_answers() {
    let world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer([500, 500, 200][before.min(2)])).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send("test.happened", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    let story: Vec<_> = world.attempts(sent).await.iter().map(|a| (a.number, a.trigger, a.result)).collect();
    assert_eq!(
        story,
        [
            (1, Trigger::First, StateKind::Waiting),
            (2, Trigger::Retry, StateKind::Waiting),
            (3, Trigger::Retry, StateKind::Delivered)
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_every_message_arrives_exactly_once() {
    let mut world = World::running().await;
    let receivers = [Receiver::answering(200).await, Receiver::answering(204).await];
    for receiver in &receivers {
        world.endpoint(quick(&receiver.url)).await;
    }
    let mut sent = world.send_many(200).await;
    for n in 0..20 {
        let message = NewMessage::bytes("test.happened", format!("{n}"));
        sent.push(world.ringback.send(world.app, message).await.unwrap().id);
    }
    world.all_ended(&sent).await;
    world.stop().await;
    for receiver in &receivers {
        let arrivals = arrivals(receiver);
        assert_eq!(arrivals.len(), 220);
        assert!(arrivals.values().all(|count| *count == 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_what_is_on_its_way_and_keeps_the_rest() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let slow = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&held), 200)).await;
    let mut world = World::with(|config| config.shutdown_grace = Duration::from_secs(60)).await;
    world.endpoint(quick(&slow.url).max_in_flight(2)).await;
    world.run();
    let sent = world.send_many(5).await;
    slow.wait_for(2).await;
    let stopping = tokio::spawn({
        let ringback = world.ringback.clone();
        async move { ringback.shutdown().await }
    });
    // It has been told once no further attempt starts, although a permit is free.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished());
    gate.add_permits(2);
    stopping.await.unwrap().unwrap();
    assert_eq!(slow.count(), 2);
    let answer = world.ringback.send(world.app, NewMessage::bytes("test.happened", "{}")).await;
    assert_eq!(answer, Err(Error::Closed));
    assert_eq!(world.ringback.deliveries(world.app, sent[0]).await, Err(Error::Closed));

    world.reopen().await;
    let mut delivered = 0;
    for message in &sent {
        delivered += usize::from(world.state(*message).await.kind() == StateKind::Delivered);
    }
    assert_eq!(delivered, 2, "what was on its way is on record");
    gate.add_permits(100);
    world.run();
    world.all_ended(&sent).await;
    assert!(arrivals(&slow).values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_longer_than_its_grace_and_what_was_cut_off_is_attempted_again() {
    let mut world = World::open().await;
    let receiver = Receiver::start(|_, before| match before {
        0 => Behaviour::Hang(Duration::from_secs(600)),
        _ => Behaviour::Answer(200),
    })
    .await;
    world.endpoint(quick(&receiver.url).timeout(Duration::from_secs(120))).await;
    world.run();
    let sent = world.send("test.happened", "{}").await;
    receiver.wait_for(1).await;
    world.reopen().await;
    assert!(world.attempts(sent).await.is_empty(), "what was cut off leaves no record");
    world.run();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    let attempts = world.attempts(sent).await;
    assert_eq!((attempts.len(), attempts[0].number, receiver.count()), (1, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_accepted_is_delivered_after_run_was_dropped_in_the_middle() {
    let mut world = World::open().await;
    let receiver = Receiver::start(|_, _| Behaviour::Hang(Duration::from_millis(2))).await;
    world.endpoint(quick(&receiver.url).max_in_flight(8)).await;
    let mut sent = world.send_many(150).await;
    world.run();
    receiver.wait_for(40).await;
    world.abort().await;
    sent.push(world.send("test.happened", "after").await);
    world.reopen().await;
    world.run();
    world.all_ended(&sent).await;
    let arrivals = arrivals(&receiver);
    assert_eq!(arrivals.len(), 151, "none is lost");
    for message in &sent {
        assert_eq!(world.state(*message).await.kind(), StateKind::Delivered);
    }
    let twice = receiver.count() - 151;
    assert!(twice <= 8 + 40, "{twice} came twice: at most those on their way or not yet on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_retry_keeps_its_due_time_and_its_number_over_a_restart() {
    let mut world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer([500, 200][before.min(1)])).await;
    world.endpoint(quick(&receiver.url).retry(crate::support::retries(&[400]))).await;
    let sent = world.send("test.happened", "{}").await;
    until(async || !world.attempts(sent).await.is_empty()).await;
    let before = world.state(sent).await;
    world.reopen().await;
    assert_eq!(world.state(sent).await, before);
    world.run();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    let attempts = world.attempts(sent).await;
    assert_eq!((attempts[1].number, attempts[1].trigger), (2, Trigger::Retry));
    let State::Waiting { due } = before else { panic!("it waits") };
    assert!(attempts[1].started_at >= due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_run_at_a_time() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send("test.happened", "{}").await;
    world.ended(sent).await;
    assert!(matches!(world.ringback.run().await, Err(Error::Conflict(_))));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_every_settled_attempt() {
    let world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer([500, 200][before.min(1)])).await;
    world.endpoint(quick(&receiver.url)).await;
    let mut watch = world.ringback.watch();
    let sent = world.send("test.happened", "{}").await;
    let seen = [watch.recv().await.unwrap(), watch.recv().await.unwrap()];
    let logged = world.attempts(sent).await;
    assert_eq!(logged.iter().collect::<Vec<_>>(), seen.iter().map(|attempt| &**attempt).collect::<Vec<_>>());
}

/// A program that asks to stop before delivering has begun gets its stop, and its `run` ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_before_delivering_has_begun_ends_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let ringback = crate::support::open(dir.path()).await;
        let running = crate::support::run(&ringback);
        ringback.shutdown().await.unwrap();
        running.await.unwrap();
    }
}
