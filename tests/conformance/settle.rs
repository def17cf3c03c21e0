//! Promises of `settle`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringback::store::{AttemptQuery, Settled, Settlement};
use ringback::{CancelReason, DeadReason, Failure, Outcome, Progress, Response, State, StateKind, Timing, Trigger};

use crate::world::{World, at, canceled, copy, dead, delivered, plain, waiting};

pub(crate) async fn a_settlement_stores_the_attempt_and_the_state(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 2).await;
    assert_eq!(lease.progress, Progress::new(at(1)));
    let attempt = world.attempt(&lease, 2, delivered(3));
    let settlement = Settlement { lease, attempt: Some(attempt.clone()), state: delivered(3), lets_pass: false };
    assert_eq!(world.settle(settlement).await, Settled::Done);
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        let delivery = world.delivery(id).await;
        assert_eq!(delivery.state, delivered(3));
        assert_eq!(delivery.progress, Progress::new(at(1)).tried());
        assert_eq!(world.attempts(id).await, std::slice::from_ref(&attempt));
    }
}

pub(crate) async fn every_field_of_an_attempt_reads_back(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let mut stored = Vec::new();
    let noise: Vec<u8> = (0..16 * 1024_usize).map(|i| (i * 7 + i / 255) as u8).collect();
    let bodies: [Bytes; 4] = [Bytes::new(), "ça marche 🦀".into(), vec![0xff, 0, 0xfe].into(), noise.into()];
    for (seconds, body) in (1..).zip(bodies) {
        let lease = world.claim_one(lane, seconds).await;
        let mut attempt = world.attempt(&lease, seconds, waiting(seconds + 1));
        attempt.url = format!("https://receiver.example:8443/hooks?n={seconds}&q=ü");
        attempt.request_headers =
            vec![("webhook-id".into(), id.message.to_string()), ("x-empty".into(), String::new())];
        attempt.trigger = [Trigger::First, Trigger::Retry, Trigger::Replay, Trigger::Test][seconds as usize - 1];
        attempt.outcome =
            Outcome::Answered { status: 429, retry_after: Some(Duration::from_millis(1_500)), asked: None };
        attempt.response = Some(Response {
            status: 429,
            headers: vec![("retry-after".into(), "2".into()), ("x-b".into(), "é".into()), ("x-b".into(), "2".into())],
            truncated: body.len() == 16 * 1024,
            expunged: false,
            body,
        });
        attempt.timing = Timing { head_us: Some(u64::from(u32::MAX) + seconds), total_us: u64::MAX };
        stored.insert(0, attempt.clone());
        let settlement = Settlement { lease, attempt: Some(attempt), state: waiting(seconds + 1), lets_pass: false };
        assert_eq!(world.settle(settlement).await, Settled::Done);
    }
    assert!(world.attempts(id).await == stored);
    world.reopen().await;
    assert!(world.attempts(id).await == stored);
}

pub(crate) async fn every_outcome_and_result_reads_back(mut world: World) {
    let lane = world.lane();
    let failures = [
        Failure::Timeout,
        Failure::Dns,
        Failure::Refused,
        Failure::Unreachable,
        Failure::Tls,
        Failure::Reset,
        Failure::Protocol,
        Failure::Blocked,
        Failure::BlockedAddress,
        Failure::Unsendable,
        Failure::Lost,
        Failure::Panicked,
        Failure::Damaged,
        Failure::Expunged,
    ];
    let id = world.send(&[lane], 0).await;
    let mut stored = Vec::new();
    for (seconds, failure) in (0..).zip(failures) {
        let lease = world.claim_one(lane, seconds).await;
        let mut attempt = world.attempt(&lease, seconds, waiting(seconds + 1));
        attempt.outcome = Outcome::Failed(failure);
        attempt.result = [StateKind::Waiting, StateKind::Dead, StateKind::Canceled][seconds as usize % 3];
        stored.insert(0, attempt.clone());
        world.settle(Settlement { lease, attempt: Some(attempt), state: waiting(seconds + 1), lets_pass: false }).await;
    }
    assert_eq!(world.attempts(id).await, stored);
    world.reopen().await;
    assert_eq!(world.attempts(id).await, stored);
}

pub(crate) async fn a_retry_is_claimed_when_it_is_due_with_its_progress(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(20)).await;
    assert_eq!(world.state(id).await, waiting(20));
    world.assert_nothing_to_claim(lane, 19).await;
    let lease = world.claim_one(lane, 20).await;
    assert_eq!(lease.progress, Progress { round: 1, tries: 1, attempts: 1, since: at(1) });
    assert_eq!(world.end(lease, 20, waiting(40)).await, Settled::Done);
    assert_eq!(world.claim_one(lane, 40).await.progress.tries, 2);
}

pub(crate) async fn a_lease_that_is_given_back_untried_keeps_its_progress(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, waiting(5)).await;
    let lease = world.claim_one(lane, 5).await;
    let before = lease.progress;
    assert_eq!(
        world.settle(Settlement { lease, attempt: None, state: waiting(5), lets_pass: false }).await,
        Settled::Done
    );
    assert_eq!(world.delivery(id).await.progress, before);
    let again = world.claim_one(lane, 5).await;
    assert_eq!(again.progress, before);
    assert!(!again.lost, "it was given back, not lost");
    assert_eq!(
        world.settle(Settlement { lease: again, attempt: None, state: canceled(6), lets_pass: false }).await,
        Settled::Done
    );
    assert_eq!((world.state(id).await, world.attempts(id).await.len()), (canceled(6), 1));
}

pub(crate) async fn each_way_to_end_ends_the_delivery(mut world: World) {
    let lane = world.lane();
    let dead = |reason| State::Dead { at: at(2), reason };
    let canceled = |reason| State::Canceled { at: at(2), reason };
    let endings = [
        delivered(2),
        dead(DeadReason::Exhausted),
        dead(DeadReason::Refused),
        dead(DeadReason::Gone),
        dead(DeadReason::TooOld),
        dead(DeadReason::Blocked),
        dead(DeadReason::Unsendable),
        dead(DeadReason::Damaged),
        dead(DeadReason::Expunged),
        canceled(CancelReason::EndpointDisabled),
        canceled(CancelReason::EndpointDeleted),
        canceled(CancelReason::Requested),
    ];
    let mut ended = Vec::new();
    for ending in endings {
        world.send(&[lane], 1).await;
        ended.push((world.pass(lane, 2, ending).await, ending));
    }
    assert_eq!(world.health().await.open, 0);
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        world.assert_nothing_to_claim(lane, 1_000).await;
        for (id, ending) in &ended {
            assert_eq!(world.state(*id).await, *ending, "reopened: {reopened}");
        }
    }
}

pub(crate) async fn a_lease_settles_once(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let lease = world.claim_one(lane, 1).await;
    let late = copy(&lease);
    assert_eq!(world.end(lease, 1, waiting(2)).await, Settled::Done);
    assert_eq!(world.end(late, 1, dead(1)).await, Settled::Stale);
    assert_eq!((world.state(id).await, world.attempts(id).await.len()), (waiting(2), 1));

    let lease = world.claim_one(lane, 2).await;
    let twice =
        [copy(&lease), lease].map(|lease| Settlement { lease, attempt: None, state: delivered(2), lets_pass: false });
    let answers = world.store.settle(Arc::new(twice.into())).await.unwrap();
    assert_eq!(answers, [Settled::Done, Settled::Stale], "in one batch too");
}

pub(crate) async fn a_batch_is_answered_in_its_order(mut world: World) {
    let lane = world.lane();
    for _ in 0..4 {
        world.send(&[lane], 1).await;
    }
    let leases = world.claim(lane, 1, 4).await;
    assert_eq!(world.end(copy(&leases[1]), 1, delivered(1)).await, Settled::Done);
    let settle = |lease| Settlement { lease, attempt: None, state: dead(2), lets_pass: false };
    let batch = Arc::new(leases.into_iter().map(settle).collect::<Vec<_>>());
    let answers = world.store.settle(Arc::clone(&batch)).await.unwrap();
    assert_eq!(answers, [Settled::Done, Settled::Stale, Settled::Done, Settled::Done]);
    let again = world.store.settle(batch).await.unwrap();
    assert_eq!(again, [Settled::Stale; 4]);
    assert!(world.store.settle(Arc::default()).await.unwrap().is_empty());
}

/// More than a store may write at once.
pub(crate) async fn a_large_batch_settles_completely(mut world: World) {
    let lane = world.lane();
    let messages: Vec<_> = (0..700).map(|_| world.message(&[lane], 1)).collect();
    world.store.enqueue(messages.into_iter().map(plain).collect()).await.unwrap();
    let mut batch = Vec::new();
    for lease in world.claim(lane, 1, 700).await {
        let attempt = Some(world.attempt(&lease, 1, delivered(1)));
        batch.push(Settlement { lease, attempt, state: delivered(1), lets_pass: false });
    }
    let answers = world.store.settle(Arc::new(batch)).await.unwrap();
    assert!(answers.len() == 700 && answers.iter().all(|answer| *answer == Settled::Done));
    let (mut found, mut after) = (0, None);
    loop {
        let query = AttemptQuery { after, limit: 250, ..AttemptQuery::default() };
        let page = world.store.attempts(lane.application, query).await.unwrap();
        found += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, world.health().await.open), (700, 0));
}
