//! Messages with an ordering key arrive in order, whatever happens on the way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringback::store::CountQuery;
use ringback::{BlockedHead, CancelReason, DeadReason, MessageId, NewMessage, State, StateKind};

use crate::support::{Behaviour, Received, Receiver, World, quick, retries, until};

const KEYS: [&str; 3] = ["a", "b", "c"];

/// What a payload says of its message: its key and its number.
fn read(request: &Received) -> (String, u64) {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    (body["key"].as_str().unwrap_or("-").to_owned(), body["n"].as_u64().unwrap())
}

fn message(key: &str, n: u64) -> NewMessage {
    let message = NewMessage::bytes("test.happened", format!(r#"{{"key":"{key}","n":{n}}}"#));
    if key == "-" { message } else { message.ordering_key(key) }
}

async fn send(world: &World, key: &str, n: u64) -> MessageId {
    world.ringback.send(world.app, message(key, n)).await.unwrap().id
}

/// The arrivals of each key, in their order.
fn arrivals(receiver: &Receiver) -> HashMap<String, Vec<u64>> {
    let mut arrivals: HashMap<String, Vec<u64>> = HashMap::new();
    for (key, n) in receiver.received().iter().map(read) {
        arrivals.entry(key).or_default().push(n);
    }
    arrivals
}

async fn held(world: &World) -> u64 {
    let counts = world.ringback.counts(world.app, CountQuery::default()).await.unwrap();
    assert!(counts.adds_up(), "{counts:?}");
    counts.held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_key_arrive_in_order_past_every_failure() {
    let mut world = World::open().await;
    // Two requests of five fail, those that come again, too.
    let receiver = Receiver::start(|_, before| match before % 5 {
        1 => Behaviour::Answer(500),
        3 => Behaviour::Close,
        _ => Behaviour::Answer(200),
    })
    .await;
    world.endpoint(quick(&receiver.url).retry(retries(&[5; 50]))).await;
    let mut sent = Vec::new();
    for n in 0..20 {
        for key in KEYS {
            sent.push(send(&world, key, n).await);
        }
        sent.push(send(&world, "-", n).await);
    }
    assert_eq!(held(&world).await, 19 * 3);
    world.run();
    world.all_ended(&sent).await;
    for (key, arrived) in arrivals(&receiver).iter().filter(|(key, _)| *key != "-") {
        assert!(arrived.is_sorted(), "{key}: {arrived:?}");
        let mut distinct = arrived.clone();
        distinct.dedup();
        assert_eq!(distinct, (0..20).collect::<Vec<_>>(), "{key}");
    }
    for message in sent {
        assert_eq!(world.state(message).await.kind(), StateKind::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_head_holds_its_own_key_alone_over_kills_and_restarts() {
    let mut world = World::open().await;
    let fails = |request: &Received| read(request) == ("a".to_owned(), 0);
    let healed = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&healed);
    let receiver = Receiver::start(move |request, _| {
        let fail = fails(request) && !well.load(Ordering::SeqCst);
        Behaviour::Answer(if fail { 503 } else { 200 })
    })
    .await;
    world.endpoint(quick(&receiver.url).retry(retries(&[10; 50]))).await;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for n in 0..10 {
        own.push(send(&world, "a", n).await);
        others.push(send(&world, "b", n).await);
        others.push(send(&world, "-", n).await);
    }
    for _ in 0..3 {
        world.run();
        let before = receiver.count();
        receiver.wait_for(before + 2).await;
        // As a kill does it: what is on its way has no record.
        world.abort().await;
        world.reopen().await;
        assert_eq!(world.state(own[9]).await, State::Held { behind: own[0] });
    }
    world.run();
    world.all_ended(&others).await;
    assert_eq!(held(&world).await, 9);
    let arrived = arrivals(&receiver);
    assert!(arrived["a"].iter().all(|n| *n == 0), "{arrived:?}");
    assert!(arrived["b"].is_sorted());
    healed.store(true, Ordering::SeqCst);
    world.all_ended(&own).await;
    assert!(arrivals(&receiver)["a"].is_sorted());
    assert_eq!(held(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_gives_up_lets_the_next_one_follow() {
    let world = World::running().await;
    let receiver = Receiver::start(|request, _| Behaviour::Answer(if read(request).1 == 0 { 500 } else { 200 })).await;
    let endpoint = world.endpoint(quick(&receiver.url).retry(retries(&[10]))).await.id;
    let (first, second) = (send(&world, "a", 0).await, send(&world, "a", 1).await);
    assert_eq!(world.ended(second).await.kind(), StateKind::Delivered);
    assert!(matches!(world.state(first).await, State::Dead { reason: DeadReason::Exhausted, .. }));
    assert_eq!(arrivals(&receiver)["a"], [0, 0, 1]);
    let attempts = world.attempts(second).await;
    assert!(attempts[0].started_at >= world.attempts(first).await[1].started_at);
    world.ringback.replay(world.app, first, endpoint).await.unwrap();
    until(async || receiver.count() == 5).await;
    world.all_ended(&[first]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_fails_often_lets_others_pass_if_its_endpoint_says_so() {
    let world = World::running().await;
    let receiver = Receiver::start(|request, _| Behaviour::Answer(if read(request).1 == 0 { 500 } else { 200 })).await;
    let skip = BlockedHead::Skip { after_attempts: 2 };
    world.endpoint(quick(&receiver.url).retry(retries(&[10, 600_000])).blocked_head(skip)).await;
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(send(&world, "a", n).await);
    }
    world.all_ended(&sent[1..]).await;
    assert_eq!(world.state(sent[0]).await.kind(), StateKind::Waiting, "it is retried beside them");
    assert_eq!(arrivals(&receiver)["a"], [0, 0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_takes_too_long_expires_if_its_endpoint_says_so() {
    let world = World::running().await;
    let receiver = Receiver::start(|request, _| Behaviour::Answer(if read(request).1 == 0 { 500 } else { 200 })).await;
    let expire = BlockedHead::Expire { after_seconds: 60 };
    world.endpoint(quick(&receiver.url).retry(retries(&[10, 600_000])).blocked_head(expire)).await;
    let (first, second) = (send(&world, "a", 0).await, send(&world, "a", 1).await);
    let plain = send(&world, "-", 0).await;
    assert_eq!(world.ended(second).await.kind(), StateKind::Delivered);
    assert!(matches!(world.state(first).await, State::Dead { reason: DeadReason::Expired, .. }));
    until(async || world.attempts(plain).await.len() == 2).await;
    assert_eq!(world.state(plain).await.kind(), StateKind::Waiting, "without a key the rule means nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_canceled_with_its_endpoint_and_with_its_message() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(send(&world, "a", n).await);
    }
    assert_eq!(world.ringback.cancel(world.app, sent[1], None).await.unwrap(), 1);
    world.ringback.expunge_message(world.app, sent[2]).await.unwrap();
    assert_eq!(world.state(sent[2]).await.kind(), StateKind::Canceled);
    world.run();
    world.all_ended(&sent).await;
    assert_eq!(arrivals(&receiver)["a"], [0, 3, 4]);
    world.reopen().await;
    for n in 5..400 {
        sent.push(send(&world, "a", n).await);
    }
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    world.run();
    world.all_ended(&sent).await;
    assert!(matches!(world.state(sent[399]).await, State::Canceled { reason: CancelReason::EndpointDisabled, .. }));
    world.ringback.enable_endpoint(world.app, endpoint).await.unwrap();
    let later = send(&world, "a", 400).await;
    assert_eq!(world.ended(later).await.kind(), StateKind::Delivered);
    assert_eq!(arrivals(&receiver)["a"], [0, 3, 4, 400]);
}
