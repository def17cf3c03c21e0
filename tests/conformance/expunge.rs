//! Promises of `expunge`, and of finding an attempt by its id.

use ringback::store::{Expunge, Prune, Put, RecordKey, RecordKind, Replay, Replayed, Settlement};
use ringback::{ApplicationId, Attempt, AttemptId, DeliveryId, Lane, Message, MessageId, Response, StateKind};

use crate::world::{World, at, dead, delivered, plain, waiting};

async fn expunge(world: &World, application: ApplicationId, what: Expunge) -> bool {
    world.store.expunge(application, what).await.unwrap()
}

async fn message(world: &World, id: DeliveryId) -> Message {
    (*world.store.message(id.lane.application, id.message).await.unwrap().unwrap()).clone()
}

/// An attempt with an answer, that ended the lane's first delivery so.
async fn answered(world: &mut World, lane: Lane, seconds: u64, state: ringback::State) -> Attempt {
    let lease = world.claim_one(lane, seconds).await;
    let mut attempt = world.attempt(&lease, seconds, state);
    let headers = vec![("x-trace".to_owned(), "abc".to_owned())];
    let body = "the answer's body".into();
    attempt.response = Some(Response { status: 200, headers, body, truncated: true, expunged: false });
    world.settle(Settlement { lease, attempt: Some(attempt.clone()), state, lets_pass: false }).await;
    attempt
}

pub(crate) async fn an_expunged_payload_is_gone_and_all_else_of_the_message_stays(mut world: World) {
    let lane = world.lane();
    for length in [10, 40_000, 200_000] {
        let mut sent = world.message(&[lane], 1);
        sent.payload = vec![b'7'; length].into();
        sent.event_id = Some(format!("event {length}"));
        sent.channels = vec!["eu".into()];
        let id = DeliveryId { lane, message: sent.id };
        world.store_message(sent.clone()).await;
        let before = answered(&mut world, lane, 2, dead(2)).await;
        let mut expected = sent.clone();
        (expected.payload, expected.expunged) = (Default::default(), true);
        for again in [false, true, true] {
            assert!(expunge(&world, lane.application, Expunge::Payload(sent.id)).await, "once more does no harm");
            assert_eq!(message(&world, id).await, expected);
            let listed = world.messages(lane.application).await;
            assert_eq!(*listed[0], expected);
            let found = world.store.message_by_event_id(lane.application, format!("event {length}")).await.unwrap();
            assert_eq!(found, Some(sent.id));
            assert_eq!(world.state(id).await, dead(2));
            assert_eq!(world.attempts(id).await, std::slice::from_ref(&before));
            if again {
                world.reopen().await;
            }
        }
    }
}

pub(crate) async fn only_what_is_there_is_expunged(mut world: World) {
    let lane = world.lane();
    let elsewhere = world.lane().application;
    let id = world.send(&[lane], 1).await;
    let attempt = answered(&mut world, lane, 1, delivered(1)).await.id;
    let second = world.send(&[lane], 1).await;
    let unknown = [
        (elsewhere, Expunge::Payload(id.message)),
        (elsewhere, Expunge::Response(attempt)),
        (lane.application, Expunge::Payload(MessageId::from_parts(at(1), 0))),
        (lane.application, Expunge::Response(AttemptId::from_parts(at(1), 0))),
    ];
    for (application, what) in unknown {
        assert!(!expunge(&world, application, what).await, "{what:?}");
    }
    assert!(expunge(&world, lane.application, Expunge::Payload(id.message)).await);
    let other = message(&world, second).await;
    assert!(!other.expunged && &other.payload[..] == br#"{"a":1}"#, "the others keep theirs");
    assert!(!world.attempts(id).await[0].response.as_ref().unwrap().expunged, "the response is asked for by itself");
}

pub(crate) async fn what_waits_is_claimed_without_the_payload(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let id = world.send(&[lane, other], 1).await;
    let kept = world.send(&[lane], 1).await;
    world.pass(other, 1, waiting(2)).await;
    assert!(expunge(&world, lane.application, Expunge::Payload(id.message)).await);
    for lane in [lane, other] {
        let lease = world.claim_one(lane, 2).await;
        assert_eq!(lease.delivery, DeliveryId { lane, ..id });
        if let Some(message) = &lease.message {
            assert!(message.expunged && message.payload.is_empty());
        }
        assert_eq!(world.end(lease, 2, dead(2)).await, ringback::store::Settled::Done);
    }
    let lease = world.claim_one(lane, 2).await;
    assert_eq!(lease.delivery, kept);
    assert!(lease.message.as_ref().is_none_or(|message| !message.expunged && !message.payload.is_empty()));
}

pub(crate) async fn the_counts_stay_as_the_message_was_sent(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut sent = world.message(&[lane, other], 1);
    sent.payload = vec![1; 100_000].into();
    let id = world.store_message(sent).await;
    world.pass(lane, 1, waiting(2)).await;
    assert!(expunge(&world, lane.application, Expunge::Payload(id)).await);
    let counted = async |world: &World| (world.health().await.open, world.health().await.open_bytes);
    assert_eq!(counted(&world).await, (2, 200_000));
    world.reopen().await;
    assert_eq!(counted(&world).await, (2, 200_000));
    world.pass(lane, 2, delivered(2)).await;
    assert_eq!(counted(&world).await, (1, 100_000));
    world.pass(other, 2, dead(2)).await;
    assert_eq!(counted(&world).await, (0, 0));
    let prune = Prune { now: at(9), delivered_before: at(9), ended_before: at(9), limit: 10, ..Prune::default() };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 1);
    assert!(!expunge(&world, lane.application, Expunge::Payload(id)).await);
}

pub(crate) async fn an_expunged_response_has_no_body_and_the_attempt_stays(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let id = world.send(&[lane, other], 1).await;
    let first = answered(&mut world, lane, 1, waiting(2)).await;
    let second = answered(&mut world, lane, 2, delivered(2)).await;
    world.pass(other, 1, dead(1)).await;
    let unanswered = world.attempts(DeliveryId { lane: other, ..id }).await.remove(0);
    assert!(expunge(&world, lane.application, Expunge::Response(first.id)).await);
    assert!(
        expunge(&world, lane.application, Expunge::Response(unanswered.id)).await,
        "it is there, without an answer"
    );
    let mut expected = first.clone();
    let response = expected.response.as_mut().unwrap();
    (response.body, response.expunged) = (Default::default(), true);
    for _ in 0..2 {
        assert_eq!(world.attempts(id).await, [second.clone(), expected.clone()]);
        let found = world.store.attempt(lane.application, first.id).await.unwrap();
        assert_eq!(found, Some(expected.clone()));
        assert_eq!(world.store.attempt(lane.application, unanswered.id).await.unwrap(), Some(unanswered.clone()));
        assert!(expunge(&world, lane.application, Expunge::Response(first.id)).await);
        world.reopen().await;
    }
    assert!(!message(&world, id).await.expunged);
}

pub(crate) async fn an_attempt_is_found_by_its_id(mut world: World) {
    let lane = world.lane();
    let lanes = [lane, world.lane_beside(lane), world.lane_beside(lane)];
    let id = world.send(&lanes, 1).await;
    for lane in lanes {
        world.pass(lane, 1, waiting(2)).await;
        world.pass(lane, 2, delivered(2)).await;
    }
    let elsewhere = world.lane().application;
    for lane in lanes {
        for attempt in world.attempts(DeliveryId { lane, ..id }).await {
            assert_eq!(world.store.attempt(elsewhere, attempt.id).await.unwrap(), None);
            assert_eq!(world.store.attempt(lane.application, attempt.id).await.unwrap(), Some(attempt));
        }
    }
    let unknown = AttemptId::from_parts(at(1), 0);
    assert_eq!(world.store.attempt(lane.application, unknown).await.unwrap(), None);
}

pub(crate) async fn what_is_of_an_expunged_message_is_not_replayed(mut world: World) {
    let lane = world.lane();
    let mut ids = Vec::new();
    for seconds in [1, 2] {
        ids.push(world.send(&[lane], seconds).await);
        world.pass(lane, seconds, dead(seconds)).await;
    }
    let waits = world.send(&[lane], 3).await;
    world.pass(lane, 3, waiting(900)).await;
    for id in [ids[0], waits] {
        expunge(&world, lane.application, Expunge::Payload(id.message)).await;
    }
    let unknown = DeliveryId { message: world.message_id(9), ..waits };
    let replayed =
        world.store.replay(vec![ids[0].into(), waits.into(), unknown.into()], at(5), None).await.unwrap().unwrap();
    assert_eq!(replayed, [Replayed::Expunged, Replayed::Expunged, Replayed::NotFound]);
    assert_eq!((world.state(ids[0]).await, world.state(waits).await), (dead(1), waiting(900)));

    let key = RecordKey { kind: RecordKind::ReplayJob, application: None, key: vec![1] };
    let record = |expected| Some(Put { key: key.clone(), expected, active: true, value: Some("a job".into()) });
    let batch: Vec<Replay> = vec![ids[1].into(), ids[0].into(), unknown.into()];
    assert_eq!(world.store.replay(batch.clone(), at(5), record(1)).await.unwrap(), None, "its version comes first");
    let replayed = world.store.replay(batch.clone(), at(5), record(0)).await.unwrap().unwrap();
    assert_eq!(replayed, [Replayed::Untouched, Replayed::Expunged, Replayed::NotFound]);
    assert_eq!(world.store.get(key.clone()).await.unwrap(), None, "the record would count what was not replayed");
    assert_eq!(world.state(ids[1]).await, dead(2));
    let replayed = world.store.replay(vec![ids[1].into()], at(5), record(0)).await.unwrap().unwrap();
    assert_eq!(replayed, [Replayed::Reopened]);
    assert_eq!(world.store.get(key).await.unwrap().unwrap().version, 1);
    let replayed = world.store.replay(batch, at(6), None).await.unwrap().unwrap();
    assert_eq!(replayed, [Replayed::Hastened, Replayed::Expunged, Replayed::NotFound], "without a record, what can be");
    assert_eq!(world.state(ids[1]).await.kind(), StateKind::Waiting);
}

/// A store may keep what it has just been sent at hand.
pub(crate) async fn a_message_is_expunged_while_others_are_sent(mut world: World) {
    let lane = world.lane();
    for round in 1..20 {
        let batch: Vec<_> = (0..5).map(|_| plain(world.message(&[lane], round))).collect();
        let third = batch[2].message.id;
        world.store.enqueue(batch).await.unwrap();
        let other = plain(world.message(&[lane], round));
        let (expunged, sent) = tokio::join!(
            world.store.expunge(lane.application, Expunge::Payload(third)),
            world.store.enqueue(vec![other])
        );
        assert!(expunged.unwrap() && sent.is_ok());
        for lease in world.claim(lane, round, 6).await {
            let id = lease.delivery;
            let stored = message(&world, id).await;
            assert_eq!(stored.expunged, id.message == third);
            assert!(lease.message.as_ref().is_none_or(|message| **message == stored));
            world.end(lease, round, delivered(round)).await;
        }
    }
}
