//! Promises of replays: one delivery, or many as a job.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "receivers and their clock are not the sender's")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringback::{
    EndpointId, Error, JobId, JobStatus, MessageId, NewEndpoint, NewReplay, ReplayFilter, ReplayJob, State, StateKind,
    Trigger,
};
use support::{Behaviour, Receiver, World, quick, retries, until};
use tokio::sync::Semaphore;

/// A receiver that is down until it is told to be up.
async fn moody() -> (Receiver, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&up);
    let behaviour = move |_: &_, _| Behaviour::Answer(if told.load(Ordering::SeqCst) { 200 } else { 500 });
    (Receiver::start(behaviour).await, up)
}

/// An endpoint that never tries again.
fn once(url: &str) -> NewEndpoint {
    NewEndpoint::at(url).retry(retries(&[]))
}

/// How often each message arrived after the first `skip` requests.
fn arrivals(receiver: &Receiver, skip: usize) -> HashMap<String, usize> {
    let mut arrivals = HashMap::new();
    for request in receiver.received().iter().skip(skip) {
        *arrivals.entry(request.header("svix-id").unwrap().to_owned()).or_insert(0) += 1;
    }
    arrivals
}

fn each_once(messages: &[MessageId]) -> HashMap<String, usize> {
    messages.iter().map(|id| (id.to_string(), 1)).collect()
}

async fn finished(world: &World, job: JobId) -> ReplayJob {
    until(async || world.ringback.replay_job(job).await.unwrap().status != JobStatus::Running).await;
    world.ringback.replay_job(job).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_delivery_keeps_its_id_and_bytes_and_opens_a_round() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    let endpoint = world.endpoint(quick(&receiver.url).profile("levers")).await.id;
    let sent = world.send("phone_call.ended", r#"{"n": 3.0}"#).await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Dead);
    up.store(true, Ordering::SeqCst);
    world.ringback.replay(world.app, sent, endpoint).await.unwrap();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    assert!(world.dead().await.is_empty());
    let story: Vec<_> = world.attempts(sent).await.iter().map(|a| (a.number, a.round, a.trigger)).collect();
    let expected = [(1, 1, Trigger::First), (2, 1, Trigger::Retry), (3, 1, Trigger::Retry), (4, 2, Trigger::Replay)];
    assert_eq!(story, expected);
    let received = receiver.received();
    assert!(received.iter().all(|request| request.body == received[0].body));
    assert!(received.iter().all(|request| request.header("svix-id") == Some(sent.to_string().as_str())));

    world.ringback.replay(world.app, sent, endpoint).await.unwrap();
    until(async || world.attempts(sent).await.len() == 5).await;
    let last = world.attempts(sent).await.pop().unwrap();
    assert_eq!((last.number, last.round, last.trigger), (5, 3, Trigger::Replay), "a delivered one, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_that_a_replay_opened_has_the_full_schedule() {
    let world = World::running().await;
    let (receiver, _) = moody().await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let sent = world.send("test.happened", "{}").await;
    world.ended(sent).await;
    world.ringback.replay(world.app, sent, endpoint).await.unwrap();
    until(async || receiver.count() == 6 && world.state(sent).await.is_terminal()).await;
    let rounds: Vec<_> = world.attempts(sent).await.iter().map(|a| (a.number, a.round, a.trigger)).collect();
    assert_eq!(rounds[3..], [(4, 2, Trigger::Replay), (5, 2, Trigger::Retry), (6, 2, Trigger::Retry)]);
    assert_eq!(world.dead().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_waits_is_hastened_in_its_round() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[600_000, 600_000]))).await.id;
    let sent = world.send("test.happened", "{}").await;
    until(async || !world.attempts(sent).await.is_empty()).await;
    world.becomes(sent, StateKind::Waiting).await;
    up.store(true, Ordering::SeqCst);
    world.ringback.replay(world.app, sent, endpoint).await.unwrap();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    let last = world.attempts(sent).await.pop().unwrap();
    assert_eq!((last.number, last.round, last.trigger, receiver.count()), (2, 1, Trigger::Retry, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_is_refused() {
    let world = World::running().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&held), 200)).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let other = world.endpoint(quick(&receiver.url).event_type("other")).await.id;
    let sent = world.send("test.happened", "{}").await;
    receiver.wait_for(1).await;
    let replay = async |endpoint: EndpointId| world.ringback.replay(world.app, sent, endpoint).await;
    assert!(matches!(replay(endpoint).await, Err(Error::Conflict(_))), "an attempt is on its way");
    gate.add_permits(1);
    world.ended(sent).await;
    assert_eq!(replay(other).await, Err(Error::NotFound("delivery")), "it did not go there");
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    assert!(matches!(replay(endpoint).await, Err(Error::Conflict(_))), "the endpoint is disabled");
    world.ringback.delete_endpoint(world.app, endpoint).await.unwrap();
    assert_eq!(replay(endpoint).await, Err(Error::NotFound("endpoint")));
    assert_eq!((world.state(sent).await.kind(), receiver.count()), (StateKind::Delivered, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_canceled_can_be_replayed_once_its_endpoint_is_enabled() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[600_000]))).await.id;
    let sent = world.send("test.happened", "{}").await;
    until(async || !world.attempts(sent).await.is_empty()).await;
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Canceled);
    world.ringback.enable_endpoint(world.app, endpoint).await.unwrap();
    up.store(true, Ordering::SeqCst);
    world.ringback.replay(world.app, sent, endpoint).await.unwrap();
    until(async || world.state(sent).await.kind() == StateKind::Delivered).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_replays_each_dead_letter_of_an_endpoint_once() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    let (other, _) = moody().await;
    let endpoint = world.endpoint(once(&receiver.url)).await.id;
    world.endpoint(once(&other.url)).await;
    let sent = world.send_many(120).await;
    world.all_ended(&sent).await;
    up.store(true, Ordering::SeqCst);
    let filter = ReplayFilter { endpoint: Some(endpoint), ..ReplayFilter::default() };
    let preview = world.ringback.preview_replay(world.app, filter.clone()).await.unwrap().count;
    let job = world.ringback.start_replay(world.app, NewReplay::from(filter).rate(2000)).await.unwrap();
    assert_eq!((preview, job.total, job.status), (120, 120, JobStatus::Running));
    let job = finished(&world, job.id).await;
    assert_eq!((job.status, job.replayed, job.skipped), (JobStatus::Finished, 120, 0));
    world.all_ended(&sent).await;
    assert_eq!(arrivals(&receiver, 120), each_once(&sent));
    assert_eq!((other.count(), world.dead().await.len()), (120, 120), "the other endpoint is left alone");
    let rounds: Vec<_> = world.attempts(sent[0]).await.into_iter().filter(|a| a.round == 2).collect();
    assert_eq!((rounds.len(), rounds[0].number, rounds[0].trigger), (1, 2, Trigger::Replay));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_an_application_takes_the_letters_of_its_window() {
    let world = World::running().await;
    let (receivers, ups): (Vec<_>, Vec<_>) = [moody().await, moody().await].into_iter().unzip();
    for receiver in &receivers {
        world.endpoint(once(&receiver.url)).await;
    }
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(world.send_many(4).await);
        world.all_ended(sent.last().unwrap()).await;
        // The next ones are accepted in a later millisecond.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ups.iter().for_each(|up| up.store(true, Ordering::SeqCst));
    let window = (sent[1][0].time(), sent[2][0].time());
    let filter = ReplayFilter { since: Some(window.0), until: Some(window.1), ..ReplayFilter::default() };
    assert_eq!(world.ringback.preview_replay(world.app, filter.clone()).await.unwrap().count, 8);
    let job = world.ringback.start_replay(world.app, NewReplay::from(filter).rate(1000)).await.unwrap();
    let job = finished(&world, job.id).await;
    assert_eq!((job.total, job.replayed), (8, 8));
    world.all_ended(&sent[1]).await;
    for receiver in &receivers {
        assert_eq!(arrivals(receiver, 12), each_once(&sent[1]));
    }
    assert_eq!(world.dead().await.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_dies_again_is_not_replayed_twice_by_its_job_nor_is_a_later_one() {
    let world = World::running().await;
    let (receiver, _) = moody().await;
    world.endpoint(once(&receiver.url)).await;
    let sent = world.send_many(20).await;
    world.all_ended(&sent).await;
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(100)).await.unwrap().id;
    let later = world.send_many(5).await;
    let job = finished(&world, job).await;
    world.all_ended(&later).await;
    until(async || world.dead().await.len() == 25).await;
    assert_eq!((job.replayed, job.total, receiver.count()), (20, 20, 45));
    let mut expected = each_once(&sent);
    expected.extend(each_once(&later));
    assert_eq!(arrivals(&receiver, 20), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_keeps_its_rate_and_shows_its_progress() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    world.endpoint(once(&receiver.url)).await;
    let sent = world.send_many(40).await;
    world.all_ended(&sent).await;
    up.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(50)).await.unwrap().id;
    let mut seen = vec![0];
    loop {
        let job = world.ringback.replay_job(job).await.unwrap();
        // A bite of a tenth of a second's worth at once, then one for each tenth that has passed (to the millisecond).
        let most = 6 + (start.elapsed().as_secs_f64() * 50.0) as u64;
        assert!(job.replayed <= most, "{} after {:?}", job.replayed, start.elapsed());
        if job.replayed != *seen.last().unwrap() {
            seen.push(job.replayed);
        }
        if job.status == JobStatus::Finished {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs_f64((40.0 - 5.0) / 50.0));
    assert!(seen.is_sorted() && seen.len() > 3, "{seen:?}");
    world.all_ended(&sent).await;
    assert_eq!(arrivals(&receiver, 40), each_once(&sent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_stopped_replays_no_more() {
    let world = World::running().await;
    let (receiver, up) = moody().await;
    world.endpoint(once(&receiver.url)).await;
    let sent = world.send_many(100).await;
    world.all_ended(&sent).await;
    up.store(true, Ordering::SeqCst);
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(100)).await.unwrap().id;
    until(async || world.ringback.replay_job(job).await.unwrap().replayed >= 10).await;
    let stopped = world.ringback.stop_replay(job).await.unwrap();
    assert_eq!(stopped.status, JobStatus::Stopped);
    assert!(stopped.replayed < 100);
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    // Longer than its pause between two bites.
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(world.ringback.replay_job(job).await.unwrap(), stopped);
    assert_eq!(world.ringback.stop_replay(job).await.unwrap(), stopped, "it stays as it is");
    assert_eq!(receiver.count() as u64, 100 + stopped.replayed);
    assert_eq!(world.dead().await.len() as u64, 100 - stopped.replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_after_a_restart_and_neither_skips_nor_doubles() {
    let mut world = World::with(|config| config.shutdown_grace = Duration::from_secs(60)).await;
    world.run();
    let (receiver, up) = moody().await;
    world.endpoint(once(&receiver.url)).await;
    let sent = world.send_many(150).await;
    world.all_ended(&sent).await;
    up.store(true, Ordering::SeqCst);
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(200)).await.unwrap().id;
    for progress in [20, 60, 100] {
        until(async || world.ringback.replay_job(job).await.unwrap().replayed >= progress).await;
        world.reopen().await;
        let stands = world.ringback.replay_job(job).await.unwrap();
        assert_eq!((stands.status, stands.total), (JobStatus::Running, 150));
        world.run();
    }
    let job = finished(&world, job).await;
    assert_eq!((job.replayed, job.skipped), (150, 0));
    world.all_ended(&sent).await;
    assert_eq!(arrivals(&receiver, 150), each_once(&sent));
    assert!(world.dead().await.is_empty());
    assert_eq!(world.ringback.replay_jobs().await.unwrap(), [job]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_to_a_disabled_endpoint_stay_dead_and_are_counted_as_skipped() {
    let world = World::running().await;
    let (receiver, _) = moody().await;
    let endpoint = world.endpoint(once(&receiver.url)).await.id;
    let sent = world.send_many(7).await;
    world.all_ended(&sent).await;
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    let job =
        world.ringback.start_replay(world.app, NewReplay::from(ReplayFilter::default()).rate(1000)).await.unwrap().id;
    let job = finished(&world, job).await;
    assert_eq!((job.replayed, job.skipped, receiver.count()), (0, 7, 7));
    assert_eq!(world.dead().await.len(), 7);
    assert!(matches!(world.state(sent[0]).await, State::Dead { .. }));
}
