//! Promises of `enqueue`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use ringback::store::{Enqueue, Enqueued, Idempotency, MessageQuery, Put};
use ringback::{DeliveryId, MessageId, NoRoute, Progress, Routing, testing};

use crate::world::{World, at, delivered, list_of, plain, waiting};

fn idempotency(key: &str, digest: u8, expires_at: u64) -> Option<Idempotency> {
    Some(Idempotency { key: key.into(), digest: [digest; 32], expires_at: at(expires_at) })
}

pub(crate) async fn a_message_is_stored_with_a_delivery_for_each_endpoint(mut world: World) {
    let first = world.lane();
    let second = world.lane_beside(first);
    let id = world.send(&[first, second], 7).await;
    let deliveries = world.deliveries(id).await;
    let ids: Vec<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, [id, DeliveryId { lane: second, ..id }]);
    for delivery in deliveries {
        assert_eq!(delivery.state, waiting(7));
        assert_eq!(delivery.progress, Progress::new(at(7)));
    }
    assert_eq!(world.messages(first.application).await.len(), 1);
}

pub(crate) async fn a_message_that_goes_nowhere_is_stored_with_its_reason(mut world: World) {
    let application = world.lane().application;
    let message = world.message_to_nobody(application, 1);
    let id = world.store_message(message).await;
    let stored = world.store.message(application, id).await.unwrap().unwrap();
    assert_eq!(stored.routing, Routing::Nowhere(NoRoute::NoEndpoints));
    assert!(world.store.deliveries(application, id).await.unwrap().is_empty());
    assert_eq!(world.health().await.open, 0);
}

pub(crate) async fn every_field_of_a_message_reads_back(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 5);
    message.event_type = "call.completed".into();
    message.event_id = Some("call_1-completed".into());
    message.channels = vec!["eu".into(), "agent:agent_123".into()];
    message.occurred_at = at(2);
    message.test = true;
    let id = world.store_message(message.clone()).await;
    // One with all of what few have, one with each alone.
    let mut options = vec![world.message(&[lane], 5)];
    options[0].ordering_key = Some("agent 7".into());
    options[0].deliver_at = Some(at(50));
    options[0].expires_at = Some(at(60));
    options[0].tags = vec!["user:123".into(), "b".into()];
    for alone in 0..4 {
        let mut other = world.message(&[lane], 5);
        match alone {
            0 => other.ordering_key = options[0].ordering_key.clone(),
            1 => other.deliver_at = options[0].deliver_at,
            2 => other.expires_at = options[0].expires_at,
            _ => other.tags = options[0].tags.clone(),
        }
        options.push(other);
    }
    for other in &options {
        world.store_message(other.clone()).await;
    }
    for reason in [NoRoute::NoEndpoints, NoRoute::AllDisabled, NoRoute::EventTypeNotWanted, NoRoute::ChannelsNotWanted]
    {
        let mut other = world.message_to_nobody(lane.application, 6);
        other.routing = Routing::Nowhere(reason);
        world.store_message(other.clone()).await;
        assert_eq!(world.store.message(lane.application, other.id).await.unwrap().as_deref(), Some(&other));
    }
    world.reopen().await;
    assert_eq!(world.store.message(lane.application, id).await.unwrap().as_deref(), Some(&message));
    for other in &options {
        assert_eq!(world.store.message(lane.application, other.id).await.unwrap().as_deref(), Some(other));
    }
    let by_event_id = world.store.message_by_event_id(lane.application, "call_1-completed".into()).await;
    assert_eq!(by_event_id.unwrap(), Some(id));
}

/// Sizes on both sides of where a store may split a payload, and bytes that no text has.
pub(crate) async fn any_payload_reads_back_byte_for_byte(mut world: World) {
    let lane = world.lane();
    let noise = |length: usize| (0..length).map(|i| (i * 31 + i / 251) as u8).collect::<Vec<u8>>();
    let mut payloads: Vec<Bytes> =
        vec![Bytes::new(), "{\"name\":\"Zoë 🦀 \\u0000\"}\n".into(), "\u{feff}日本語".into(), vec![0, 255, 128].into()];
    for size in [32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 100_000, 256 * 1024, 1024 * 1024] {
        payloads.push(noise(size).into());
    }
    let mut messages = Vec::new();
    for payload in payloads {
        let id = world.message_id(1);
        let routing = Routing::To(vec![lane.endpoint]);
        messages.push(testing::message(lane.application, id, at(1), payload, routing));
    }
    let batch = messages.iter().cloned().map(plain).collect();
    assert!(world.store.enqueue(batch).await.unwrap().iter().all(|answer| *answer == Enqueued::Stored));
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        let listed = world.messages(lane.application).await;
        assert!(listed.iter().rev().map(|message| &**message).eq(&messages), "the list, reopened: {reopened}");
        for (lease, message) in world.claim(lane, 1, messages.len()).await.into_iter().zip(&messages) {
            let stored = world.store.message(lane.application, message.id).await.unwrap();
            assert!(stored.as_deref() == Some(message), "{} bytes, reopened: {reopened}", message.payload.len());
            assert_eq!(lease.delivery.message, message.id);
            assert!(lease.message.as_deref().is_none_or(|leased| leased == message));
        }
    }
}

pub(crate) async fn an_event_id_is_unique_while_its_message_lives(mut world: World) {
    let lane = world.lane();
    let with_event_id = |mut message: ringback::Message| {
        message.event_id = Some("event-1".into());
        message
    };
    let message = with_event_id(world.message(&[lane], 1));
    let first = world.store_message(message).await;
    let again = with_event_id(world.message(&[lane], 2));
    assert_eq!(world.enqueue(plain(again.clone())).await, Enqueued::EventIdTaken(first));
    world.pass(lane, 2, delivered(2)).await;
    assert_eq!(world.enqueue(plain(again.clone())).await, Enqueued::EventIdTaken(first), "it has ended but it lives");

    let prune = ringback::store::Prune {
        now: at(10),
        delivered_before: at(10),
        limit: 10,
        ..ringback::store::Prune::default()
    };
    assert_eq!(world.store.prune(prune).await.unwrap().removed, 1);
    let found = world.store.message_by_event_id(lane.application, "event-1".into()).await.unwrap();
    assert_eq!(found, None);
    assert_eq!(world.enqueue(plain(again.clone())).await, Enqueued::Stored);
    let found = world.store.message_by_event_id(lane.application, "event-1".into()).await.unwrap();
    assert_eq!(found, Some(again.id));
}

pub(crate) async fn a_repeated_idempotency_key_is_answered_with_the_first_message(mut world: World) {
    let lane = world.lane();
    let first = Enqueue { idempotency: idempotency("key", 1, 100), ..plain(world.message(&[lane], 1)) };
    assert_eq!(world.enqueue(first.clone()).await, Enqueued::Stored);
    for seconds in [1, 50, 99] {
        let again = Enqueue { idempotency: idempotency("key", 1, 500), ..plain(world.message(&[lane], seconds)) };
        assert_eq!(world.enqueue(again).await, Enqueued::Repeated(first.message.id));
    }
    assert_eq!(world.messages(lane.application).await, [first.message]);
}

pub(crate) async fn other_content_under_an_idempotency_key_is_a_conflict(mut world: World) {
    let lane = world.lane();
    let first = Enqueue { idempotency: idempotency("key", 1, 100), ..plain(world.message(&[lane], 1)) };
    assert_eq!(world.enqueue(first).await, Enqueued::Stored);
    let other = Enqueue { idempotency: idempotency("key", 2, 100), ..plain(world.message(&[lane], 2)) };
    assert_eq!(world.enqueue(other).await, Enqueued::IdempotencyConflict);
    let other_key = Enqueue { idempotency: idempotency("key2", 2, 100), ..plain(world.message(&[lane], 2)) };
    assert_eq!(world.enqueue(other_key).await, Enqueued::Stored);
}

pub(crate) async fn an_idempotency_key_that_expired_may_be_used_anew(mut world: World) {
    let lane = world.lane();
    let first = Enqueue { idempotency: idempotency("key", 1, 100), ..plain(world.message(&[lane], 1)) };
    assert_eq!(world.enqueue(first).await, Enqueued::Stored);
    let second = Enqueue { idempotency: idempotency("key", 2, 200), ..plain(world.message(&[lane], 100)) };
    assert_eq!(world.enqueue(second.clone()).await, Enqueued::Stored, "it expires at its time, not after it");
    let third = Enqueue { idempotency: idempotency("key", 2, 300), ..plain(world.message(&[lane], 101)) };
    assert_eq!(world.enqueue(third).await, Enqueued::Repeated(second.message.id));
}

pub(crate) async fn an_endpoint_list_that_moved_makes_a_message_stale(mut world: World) {
    let lane = world.lane();
    let list = list_of(lane.application);
    let routed_over = |version| Some((list.clone(), version));
    let unlisted = Enqueue { routed_over: routed_over(0), ..plain(world.message(&[lane], 1)) };
    assert_eq!(world.enqueue(unlisted).await, Enqueued::Stored, "a missing list has version 0");
    let too_new = Enqueue { routed_over: routed_over(1), ..plain(world.message(&[lane], 1)) };
    assert_eq!(world.enqueue(too_new).await, Enqueued::Stale);

    let put = Put { key: list.clone(), expected: 0, active: true, value: Some(Bytes::new()) };
    assert!(world.store.put(vec![put]).await.unwrap());
    let batch =
        [0, 1, 2].map(|version| Enqueue { routed_over: routed_over(version), ..plain(world.message(&[lane], 2)) });
    let answers = world.store.enqueue(batch.to_vec()).await.unwrap();
    assert_eq!(answers, [Enqueued::Stale, Enqueued::Stored, Enqueued::Stale]);
    assert_eq!(world.messages(lane.application).await.len(), 2);
}

pub(crate) async fn of_several_reasons_to_refuse_the_first_is_answered(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 1);
    message.event_id = Some("event".into());
    let first = message.id;
    let item = Enqueue { idempotency: idempotency("key", 1, 100), ..plain(message) };
    assert_eq!(world.enqueue(item).await, Enqueued::Stored);

    let mut later = async |seconds: u64, digest: u8| {
        let mut message = world.message(&[lane], seconds);
        message.event_id = Some("event".into());
        let moved = Some((list_of(lane.application), 9));
        let idempotency = idempotency("key", digest, 900);
        world.enqueue(Enqueue { routed_over: moved, idempotency, ..plain(message) }).await
    };
    assert_eq!(later(50, 1).await, Enqueued::Repeated(first));
    assert_eq!(later(50, 2).await, Enqueued::IdempotencyConflict);
    assert_eq!(later(100, 2).await, Enqueued::EventIdTaken(first), "the key has expired");
}

pub(crate) async fn a_refused_message_leaves_nothing(mut world: World) {
    let lane = world.lane();
    let mut message = world.message(&[lane], 1);
    message.event_id = Some("event".into());
    let stale = Enqueue {
        routed_over: Some((list_of(lane.application), 3)),
        idempotency: idempotency("key", 1, 100),
        ..plain(message)
    };
    assert_eq!(world.enqueue(stale.clone()).await, Enqueued::Stale);
    let id = stale.message.id;
    assert_eq!(world.store.message(lane.application, id).await.unwrap(), None);
    assert!(world.store.deliveries(lane.application, id).await.unwrap().is_empty());
    assert_eq!(world.store.message_by_event_id(lane.application, "event".into()).await.unwrap(), None);
    assert_eq!((world.health().await.open, world.health().await.open_bytes), (0, 0));
    world.assert_nothing_to_claim(lane, 1).await;
    assert_eq!(world.enqueue(Enqueue { routed_over: None, ..stale }).await, Enqueued::Stored, "it is routed again");
}

pub(crate) async fn a_batch_sees_its_earlier_messages(mut world: World) {
    let lane = world.lane();
    let mut item = |event_id: &str, key: &str, digest| {
        let mut message = world.message(&[lane], 1);
        message.event_id = Some(event_id.into());
        Enqueue { idempotency: idempotency(key, digest, 100), ..plain(message) }
    };
    let batch =
        vec![item("e1", "k1", 1), item("e2", "k1", 1), item("e2", "k1", 2), item("e1", "k2", 1), item("e2", "k2", 1)];
    let first = batch[0].message.id;
    let answers = world.store.enqueue(batch).await.unwrap();
    let expected = [
        Enqueued::Stored,
        Enqueued::Repeated(first),
        Enqueued::IdempotencyConflict,
        Enqueued::EventIdTaken(first),
        Enqueued::Stored,
    ];
    assert_eq!(answers, expected);
}

pub(crate) async fn applications_share_neither_event_ids_nor_idempotency_keys(mut world: World) {
    let lanes = [world.lane(), world.lane()];
    for lane in lanes {
        let mut message = world.message(&[lane], 1);
        message.event_id = Some("event".into());
        let item = Enqueue { idempotency: idempotency("key", 1, 100), ..plain(message) };
        assert_eq!(world.enqueue(item.clone()).await, Enqueued::Stored);
        let found = world.store.message_by_event_id(lane.application, "event".into()).await.unwrap();
        assert_eq!(found, Some(item.message.id));
        assert_eq!(world.messages(lane.application).await, [item.message]);
    }
    assert_ne!(lanes[0].application, lanes[1].application);
}

pub(crate) async fn concurrent_sends_are_all_stored(mut world: World) {
    let lanes = [world.lane(), world.lane()];
    let messages: Vec<_> = (0..100).map(|i| world.message(&[lanes[i % 2]], 1)).collect();
    let same_key = |message| Enqueue { idempotency: idempotency("key", 1, 100), ..plain(message) };
    let racing: Vec<_> = (0..10).map(|_| same_key(world.message(&[lanes[0]], 1))).collect();
    let sends = messages.iter().cloned().map(|message| world.enqueue(plain(message)));
    let (answers, raced) = tokio::join!(join_all(sends), join_all(racing.into_iter().map(|item| world.enqueue(item))));
    assert!(answers.iter().all(|answer| *answer == Enqueued::Stored));
    assert_eq!(raced.iter().filter(|answer| **answer == Enqueued::Stored).count(), 1, "one wins: {raced:?}");

    let mut found: Vec<MessageId> = Vec::new();
    for lane in lanes {
        let query = MessageQuery { limit: 250, ..MessageQuery::default() };
        let page = world.store.messages(lane.application, query).await.unwrap();
        found.extend(page.items.iter().map(|message: &Arc<_>| message.id));
    }
    assert_eq!(found.len(), 101);
    assert!(messages.iter().all(|message| found.contains(&message.id)));
}
