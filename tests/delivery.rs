//! Promises of delivery, over real sockets and the real store.

mod support;

use std::time::Duration;

use ringback::store::AttemptQuery;
use ringback::{NewApplication, NewEndpoint, NewMessage, RetryPolicy, StateKind, Trigger};
use support::{Behaviour, Receiver, open, run, until};

fn quick_retries(count: usize) -> RetryPolicy {
    RetryPolicy::delays(vec![Duration::from_millis(30); count])
}

fn all() -> AttemptQuery {
    AttemptQuery { limit: 250, ..AttemptQuery::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_once_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(204).await;
    let ringback = open(dir.path()).await;
    let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap();
    let endpoint = ringback.create_endpoint(app.id, NewEndpoint::at(&receiver.url).profile("levers")).await.unwrap();
    let running = run(&ringback);
    let sent = ringback.send(app.id, NewMessage::bytes("phone_call.ended", r#"{"n":3.0}"#)).await.unwrap();
    receiver.wait_for(1).await;
    until(async || ringback.deliveries(app.id, sent.id).await.unwrap()[0].state.is_terminal()).await;
    let attempts = ringback.attempts(app.id, all()).await.unwrap().items;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].trigger, attempts[0].number), (Trigger::First, 1));
    assert_eq!(attempts[0].delivery.lane.endpoint, endpoint.id);
    assert!(attempts[0].succeeded());
    let received = &receiver.received()[0];
    assert_eq!(received.header("svix-id"), Some(sent.id.to_string().as_str()));
    assert!(received.body.ends_with(br#""data":{"n":3.0}}"#));
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_receiver_is_tried_again_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let receiver =
        Receiver::start(|_, before| if before < 2 { Behaviour::Answer(500) } else { Behaviour::Answer(200) }).await;
    let ringback = open(dir.path()).await;
    let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap();
    let endpoint = NewEndpoint::at(&receiver.url).profile("levrage").secret("whsec_x").retry(quick_retries(3));
    ringback.create_endpoint(app.id, endpoint).await.unwrap();
    let running = run(&ringback);
    let sent = ringback.send(app.id, NewMessage::bytes("CALL_ENDED", "{}")).await.unwrap();
    receiver.wait_for(3).await;
    until(async || ringback.deliveries(app.id, sent.id).await.unwrap()[0].state.is_terminal()).await;
    let attempts = ringback.attempts(app.id, all()).await.unwrap().items;
    let story: Vec<_> = attempts.iter().rev().map(|a| (a.number, a.trigger, a.result)).collect();
    assert_eq!(
        story,
        [
            (1, Trigger::First, StateKind::Waiting),
            (2, Trigger::Retry, StateKind::Waiting),
            (3, Trigger::Retry, StateKind::Delivered)
        ]
    );
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
}
