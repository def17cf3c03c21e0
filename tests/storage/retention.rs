//! What retention removes and what it keeps; and the room that payloads take.

use std::fs;
use std::time::Duration;

use ringback::store::AttemptQuery;
use ringback::{Error, MessageId, NewMessage, StateKind};

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

const HOUR: Duration = Duration::from_secs(3600);

async fn gone(world: &World, message: MessageId) -> bool {
    match world.ringback.message(world.app, message).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error, Error::NotFound("message"));
            assert!(world.deliveries(message).await.is_empty());
            assert!(world.attempts(message).await.is_empty());
            true
        }
    }
}

/// A receiver that refuses what says so.
async fn picky() -> Receiver {
    Receiver::start(|request, _| Behaviour::Answer(if request.body == br#""bad""# { 500 } else { 200 })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_messages_go_first_and_dead_ones_are_kept_longer() {
    let mut world = World::with(|config| {
        config.keep_delivered = Duration::ZERO;
        config.keep_ended = HOUR;
    })
    .await;
    let nowhere = world.send("e", "{}").await;
    let receiver = picky().await;
    world.endpoint(quick(&receiver.url)).await;
    world.run();
    let event = |payload: &'static str| NewMessage::bytes("e", payload).event_id("event 1");
    let delivered = world.ringback.send(world.app, event("1")).await.unwrap().id;
    let large = format!("\"{}\"", "x".repeat(200_000));
    let large = world.send("e", &large).await;
    let dead = world.send("e", r#""bad""#).await;
    world.all_ended(&[delivered, large, dead]).await;
    // `run` prunes as it starts, perhaps before they had ended.
    world.ringback.prune().await.unwrap();
    for message in [nowhere, delivered, large] {
        assert!(gone(&world, message).await);
    }
    let not_found = world.ringback.message_by_event_id(world.app, "event 1").await;
    assert_eq!(not_found.unwrap_err(), Error::NotFound("message"));
    let again = world.ringback.send(world.app, event("2")).await.unwrap().id;
    assert_eq!(world.ended(again).await.kind(), StateKind::Delivered, "the event id is free again");
    assert_eq!((world.state(dead).await.kind(), world.attempts(dead).await.len()), (StateKind::Dead, 3));

    world.config.keep_ended = Duration::ZERO;
    world.reopen().await;
    assert_eq!(world.ringback.prune().await, Ok(2));
    assert!(gone(&world, dead).await && gone(&world, again).await);
    assert!(world.dead().await.is_empty());
    let all = AttemptQuery { limit: 250, ..AttemptQuery::default() };
    assert!(world.ringback.attempts(world.app, all).await.unwrap().items.is_empty());
    assert_eq!((world.message_count().await, world.ringback.health().await.unwrap().open), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_ended_or_is_remembered_by_a_key_is_kept() {
    let mut world = World::with(|config| {
        config.keep_delivered = Duration::ZERO;
        config.keep_ended = Duration::ZERO;
        config.idempotency_window = HOUR;
    })
    .await;
    let receiver = Receiver::answering(500).await;
    let fine = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url).retry(retries(&[600_000]))).await;
    world.endpoint(quick(&fine.url)).await;
    let untried = world.send("e", "{}").await;
    assert_eq!(world.ringback.prune().await, Ok(0));
    world.run();
    fine.wait_for(1).await;
    until(async || world.ringback.health().await.unwrap().leased == 0 && world.attempts(untried).await.len() == 2)
        .await;
    assert_eq!(world.ringback.prune().await, Ok(0), "one of its deliveries waits");
    assert_eq!(world.attempts(untried).await.len(), 2);

    let keyed = || NewMessage::bytes("other", "{}").idempotency_key("k");
    let mine = world.ringback.create_application(ringback::NewApplication::named("B")).await.unwrap().id;
    let first = world.ringback.send(mine, keyed()).await.unwrap().id;
    assert_eq!(world.ringback.prune().await, Ok(0));
    assert_eq!(world.ringback.send(mine, keyed()).await.unwrap().id, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_forgotten_after_its_window() {
    let world = World::with(|config| config.idempotency_window = Duration::from_millis(300)).await;
    let keyed = |payload: &'static str| NewMessage::bytes("e", payload).idempotency_key("k");
    let first = world.ringback.send(world.app, keyed("1")).await.unwrap().id;
    assert_eq!(world.ringback.send(world.app, keyed("2")).await, Err(Error::IdempotencyConflict));
    tokio::time::sleep(Duration::from_millis(310)).await;
    let second = world.ringback.send(world.app, keyed("2")).await.unwrap();
    assert!(!second.repeated && second.id != first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_removes_what_retention_allows_by_itself() {
    let mut world = World::with(|config| {
        config.keep_delivered = Duration::ZERO;
        config.prune_every = Duration::from_millis(20);
    })
    .await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    world.run();
    world.send_many(300).await;
    receiver.wait_for(300).await;
    until(async || world.message_count().await == 0).await;
    assert_eq!(receiver.count(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_stay_in_the_log_that_is_synced() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let payload: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut sent = Vec::new();
    for _ in 0..24 {
        let message = NewMessage::bytes("e", payload.clone());
        sent.push(world.ringback.send(world.app, message).await.unwrap().id);
    }
    world.all_ended(&sent).await;
    let blobs = world.config.path.join("sled").join("blobs");
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
    world.reopen().await;
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
    assert_eq!(world.ringback.health().await.unwrap().warnings, Vec::<String>::new());
    let message = world.ringback.message(world.app, sent[23]).await.unwrap();
    assert!(message.payload == payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_goes_once_it_is_delivered_everywhere_and_not_before() {
    let mut world = World::with(|config| config.delete_on_success = true).await;
    let fine = Receiver::answering(200).await;
    let bad = Receiver::answering(500).await;
    world.endpoint(quick(&fine.url)).await;
    let first = world.send("e", "{}").await;
    world.run();
    world.all_ended(&[first]).await;
    until(async || world.ringback.message(world.app, first).await.unwrap().expunged).await;
    world.endpoint(quick(&bad.url)).await;
    let half = world.send("e", "{}").await;
    world.all_ended(&[half]).await;
    let many = {
        world.ringback.prune().await.unwrap();
        assert!(!world.ringback.message(world.app, half).await.unwrap().expunged, "one is dead: it can be replayed");
        world.send_many(20).await;
        world.send("e", "{}").await
    };
    world.all_ended(&[many]).await;
    assert!(!world.ringback.message(world.app, many).await.unwrap().expunged);
}
