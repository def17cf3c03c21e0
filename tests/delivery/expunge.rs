//! What is erased on request is gone, is never sent as something else, and leaves its record.

use std::sync::Arc;

use ringback::{
    CancelReason, DeadReason, Error, Failure, JobStatus, MessageId, NewEndpoint, NewReplay, Outcome, ReplayFilter,
    State, StateKind,
};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

const NEVER: &[u64] = &[600_000];

async fn is_expunged(world: &World, message: MessageId) -> bool {
    let message = world.ringback.message(world.app, message).await.unwrap();
    let shown = serde_json::to_value(&*message).unwrap();
    assert_eq!(shown["expunged"], message.expunged);
    message.expunged && message.payload.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_of_an_expunged_message_is_canceled_and_never_sent() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(503).await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(NEVER))).await.id;
    let fresh = world.send("e", r#"{"secret":1}"#).await;
    world.ringback.expunge_message(world.app, fresh).await.unwrap();
    world.run();
    let retried = world.send("e", r#"{"secret":2}"#).await;
    until(async || !world.attempts(retried).await.is_empty()).await;
    world.becomes(retried, StateKind::Waiting).await;
    world.ringback.expunge_message(world.app, retried).await.unwrap();
    for _ in 0..2 {
        for message in [fresh, retried] {
            let state = world.state(message).await;
            assert!(matches!(state, State::Canceled { reason: CancelReason::Expunged, .. }), "{state:?}");
            assert!(is_expunged(&world, message).await);
            let answer = world.ringback.replay(world.app, message, endpoint).await;
            assert_eq!(answer, Err(Error::Conflict("the message's payload has been expunged")));
            world.ringback.expunge_message(world.app, message).await.unwrap();
        }
        world.reopen().await;
        world.run();
    }
    assert_eq!(receiver.count(), 1, "the one attempt from before");
    assert_eq!(world.attempts(retried).await.len(), 1);
    let unknown = MessageId::from_bytes([9; 16]);
    assert_eq!(world.ringback.expunge_message(world.app, unknown).await, Err(Error::NotFound("message")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_on_its_way_ends_and_its_retry_finds_nothing_to_send() {
    let world = World::running().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let receiver = Receiver::start(move |request, _| {
        let status = if request.body.contains(&b'5') { 500 } else { 200 };
        Behaviour::Hold(Arc::clone(&held), status)
    })
    .await;
    world.endpoint(quick(&receiver.url)).await;
    let (failing, well) = (world.send("e", "500").await, world.send("e", "200").await);
    receiver.wait_for(2).await;
    for message in [failing, well] {
        world.ringback.expunge_message(world.app, message).await.unwrap();
        assert_eq!(world.state(message).await.kind(), StateKind::Leased, "it is not called back");
    }
    gate.add_permits(2);
    assert_eq!(world.ended(well).await.kind(), StateKind::Delivered);
    let state = world.ended(failing).await;
    assert!(matches!(state, State::Dead { reason: DeadReason::Expunged, .. }), "{state:?}");
    let last = world.attempts(failing).await.pop().unwrap();
    assert_eq!((last.number, last.outcome), (2, Outcome::Failed(Failure::Expunged)));
    assert!(last.hint().unwrap().contains("erased") && last.response.is_none());
    assert_eq!(serde_json::to_value(last.outcome).unwrap(), serde_json::json!({"failed": "expunged"}));
    assert_eq!(Failure::Expunged.code(), "expunged");
    assert_eq!(receiver.count(), 2, "no request without its body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_job_skips_the_letters_of_expunged_messages_and_ends() {
    let mut world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer(if before < 60 { 500 } else { 200 })).await;
    world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[]))).await;
    let sent = world.send_many(60).await;
    world.all_ended(&sent).await;
    let expunged: Vec<_> = sent.iter().copied().step_by(4).collect();
    for message in &expunged {
        world.ringback.expunge_message(world.app, *message).await.unwrap();
    }
    world.reopen().await;
    world.run();
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(200)).await.unwrap().id;
    until(async || world.ringback.replay_job(job).await.unwrap().status != JobStatus::Running).await;
    let job = world.ringback.replay_job(job).await.unwrap();
    assert_eq!((job.status, job.total, job.replayed, job.skipped), (JobStatus::Finished, 60, 45, 15));
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    let left: Vec<_> = world.dead().await.iter().map(|id| id.message).collect();
    assert_eq!(left, expunged, "they stay dead letters");
    assert_eq!(receiver.count(), 60 + 45);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_is_expunged_by_itself_and_an_attempt_is_found_by_its_id() {
    let mut world = World::running().await;
    let answer = |_: &_, _| Behaviour::AnswerWith(200, vec![("X-Trace", "abc".into())], b"personal".to_vec());
    let receiver = Receiver::start(answer).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let sent = world.send_many(3).await;
    world.all_ended(&sent).await;
    let attempt = world.attempts(sent[1]).await.remove(0);
    assert_eq!(world.ringback.attempt(world.app, attempt.id).await.unwrap(), attempt);
    world.ringback.expunge_attempt(world.app, attempt.id).await.unwrap();
    world.reopen().await;
    let found = world.ringback.attempt(world.app, attempt.id).await.unwrap();
    let response = found.response.as_ref().unwrap();
    assert!(response.expunged && response.body.is_empty());
    assert_eq!((response.status, &response.headers), (200, &attempt.response.as_ref().unwrap().headers));
    assert_eq!(serde_json::to_value(&found).unwrap()["response"]["expunged"], true);
    assert_eq!((found.delivery.lane.endpoint, found.number, found.timing), (endpoint, 1, attempt.timing));
    assert!(!world.ringback.message(world.app, sent[1]).await.unwrap().expunged);
    let other = world.attempts(sent[2]).await.remove(0);
    assert_eq!(&other.response.unwrap().body[..], b"personal");
    let unknown = ringback::AttemptId::from_bytes([9; 16]);
    assert_eq!(world.ringback.attempt(world.app, unknown).await, Err(Error::NotFound("attempt")));
    assert_eq!(world.ringback.expunge_attempt(world.app, unknown).await, Err(Error::NotFound("attempt")));
}
