//! Promises of `cancel`.

use std::sync::Arc;

use ringback::{
    ApplicationId, CancelFilter, CancelReason, EndpointId, Error, MessageId, NewApplication, NewEndpoint, NewMessage,
    State, StateKind,
};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

/// The endpoints of a message's deliveries in a state of this kind, in the order of its routing.
async fn in_state(world: &World, message: MessageId, kind: StateKind) -> Vec<EndpointId> {
    let deliveries = world.deliveries(message).await;
    deliveries.into_iter().filter(|d| d.state.kind() == kind).map(|d| d.id.lane.endpoint).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_of_a_message_is_canceled_and_never_sent() {
    let mut world = World::open().await;
    let receivers = [Receiver::answering(200).await, Receiver::answering(200).await];
    let mut endpoints = Vec::new();
    for receiver in &receivers {
        endpoints.push(world.endpoint(quick(&receiver.url)).await.id);
    }
    let [all, one, kept] = [(); 3].map(|()| world.send("test.happened", "{}"));
    let (all, one, kept) = (all.await, one.await, kept.await);
    let cancel = async |message, endpoint| world.ringback.cancel(world.app, message, endpoint).await;
    assert_eq!(cancel(all, None).await, Ok(2));
    assert_eq!(cancel(one, Some(endpoints[1])).await, Ok(1));
    assert_eq!((cancel(all, None).await, cancel(one, Some(endpoints[1])).await), (Ok(0), Ok(0)), "they have ended");
    world.reopen().await;
    for delivery in world.deliveries(all).await {
        let State::Canceled { reason, .. } = delivery.state else { panic!("{delivery:?}") };
        assert_eq!(reason, CancelReason::Requested);
    }
    assert_eq!(in_state(&world, one, StateKind::Canceled).await, endpoints[1..]);
    world.run();
    world.all_ended(&[one, kept]).await;
    assert_eq!(receivers.each_ref().map(Receiver::count), [2, 1]);

    world.ringback.replay(world.app, all, endpoints[0]).await.unwrap();
    until(async || in_state(&world, all, StateKind::Delivered).await == endpoints[..1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_being_attempted_is_left_to_its_attempt() {
    let world = World::running().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&held), 500)).await;
    world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[600_000]))).await;
    let sent = world.send("test.happened", "{}").await;
    receiver.wait_for(1).await;
    assert_eq!(world.ringback.cancel(world.app, sent, None).await, Ok(0));
    gate.add_permits(1);
    world.becomes(sent, StateKind::Waiting).await;
    assert_eq!(world.ringback.cancel(world.app, sent, None).await, Ok(1), "now it waits for its retry");
    assert_eq!(world.state(sent).await.kind(), StateKind::Canceled);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_cannot_be_canceled() {
    let world = World::open().await;
    let nowhere = world.send("test.happened", "{}").await;
    let endpoint = world.endpoint(NewEndpoint::at("https://a.example/")).await.id;
    let sent = world.send("test.happened", "{}").await;
    let other = world.endpoint(NewEndpoint::at("https://b.example/")).await.id;
    let neighbour = world.ringback.create_application(NewApplication::named("B")).await.unwrap().id;
    let cancel = async |app: ApplicationId, message, endpoint| world.ringback.cancel(app, message, endpoint).await;
    let unknown = MessageId::from_bytes([1; 16]);
    assert_eq!(cancel(world.app, unknown, None).await, Err(Error::NotFound("message")));
    assert_eq!(cancel(world.app, unknown, Some(endpoint)).await, Err(Error::NotFound("message")));
    assert_eq!(cancel(neighbour, sent, None).await, Err(Error::NotFound("message")), "it is another's");
    assert_eq!(cancel(world.app, sent, Some(other)).await, Err(Error::NotFound("delivery")));
    assert_eq!(cancel(world.app, nowhere, None).await, Ok(0));
    assert_eq!(world.state(sent).await.kind(), StateKind::Waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fits_a_filter_is_canceled_and_nothing_else() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let mut endpoints = Vec::new();
    for _ in 0..2 {
        endpoints.push(world.endpoint(quick(&receiver.url)).await.id);
    }
    let of = |event_type: &'static str| NewMessage::bytes(event_type, "{}");
    let messages = [
        of("call.started").tag("user:1").ordering_key("a"),
        of("call.ended").tag("user:1").channel("eu"),
        of("call.ended").tag("user:2").ordering_key("a"),
        of("invoice.paid").ordering_key("a"),
    ];
    let mut sent = Vec::new();
    for message in messages {
        sent.push(world.ringback.send(world.app, message).await.unwrap());
    }
    let any = CancelFilter::default;
    let time = |place: usize| Some(sent[place].id.time());
    let filters = [
        (CancelFilter { endpoint: Some(endpoints[1]), ..any() }, 4),
        (CancelFilter { ordering_key: Some("a".into()), ..any() }, 6),
        (CancelFilter { event_types: vec!["call.*".into()], ..any() }, 6),
        (CancelFilter { event_types: vec!["call.ended".into(), "invoice.paid".into()], ..any() }, 6),
        (CancelFilter { channel: Some("eu".into()), ..any() }, 2),
        (CancelFilter { tag: Some("user:1".into()), endpoint: Some(endpoints[0]), ..any() }, 2),
        (CancelFilter { tag: Some("user".into()), ..any() }, 0),
        (CancelFilter { until: time(0), ..any() }, 0),
    ];
    for (filter, count) in &filters {
        let step = world.ringback.preview_cancel(world.app, filter, None).await.unwrap();
        assert_eq!((step.canceled, step.next), (*count, None), "{filter:?}");
    }
    let refused = async |filter| world.ringback.cancel_where(world.app, filter).await.unwrap_err().to_string();
    assert!(refused(any()).await.contains("orderingKey"), "it says what to give");
    assert!(refused(CancelFilter { since: time(1), until: time(1), ..any() }).await.contains("since"));
    let nobody = CancelFilter { endpoint: Some(EndpointId::from_bytes([9; 16])), ..any() };
    assert_eq!(world.ringback.cancel_where(world.app, nobody).await, Err(Error::NotFound("endpoint")));

    let filter = CancelFilter { tag: Some("user:1".into()), endpoint: Some(endpoints[0]), ..any() };
    assert_eq!(world.ringback.cancel_where(world.app, filter.clone()).await, Ok(2));
    assert_eq!(world.ringback.cancel_where(world.app, filter).await, Ok(0), "the rest of it, which is nothing");
    world.run();
    let all: Vec<MessageId> = sent.iter().map(|sent| sent.id).collect();
    world.all_ended(&all).await;
    for (place, message) in all.iter().enumerate() {
        let canceled = if place < 2 { &endpoints[..1] } else { &[][..] };
        assert_eq!(in_state(&world, *message, StateKind::Canceled).await, canceled, "{place}");
    }
    assert_eq!(receiver.count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_is_canceled_in_steps_and_what_is_on_its_way_is_left_alone() {
    let mut world = World::open().await;
    let let_go = Arc::new(Semaphore::new(0));
    let holding = Arc::clone(&let_go);
    let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&holding), 200)).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let mut sent = Vec::new();
    for bite in 0..11 {
        let message = |n: usize| {
            let message = NewMessage::bytes("e", "{}");
            if n < 2 && bite == 0 { message.ordering_key("a") } else { message.ordering_key("b") }
        };
        let all = world.ringback.send_batch(world.app, (0..1_000).map(message).collect()).await.unwrap();
        sent.extend(all.into_iter().map(|sent| sent.unwrap().id));
    }
    world.run();
    receiver.wait_for(2).await;
    let filter = CancelFilter { endpoint: Some(endpoint), ..CancelFilter::default() };
    let first = world.ringback.cancel_step(world.app, &filter, None).await.unwrap();
    assert_eq!((first.canceled, first.next.is_some()), (10_000, true));
    let second = world.ringback.cancel_step(world.app, &filter, first.next).await.unwrap();
    assert_eq!((second.canceled, second.next), (998, None));
    let_go.add_permits(100);
    world.all_ended(&sent[..5]).await;
    assert_eq!(receiver.count(), 2, "what was on its way, and nothing that waited behind it");
    until(async || world.ringback.health().await.unwrap().open == 0).await;
}
