//! Promises of `cancel`.

use std::sync::Arc;

use ringback::{
    ApplicationId, CancelReason, EndpointId, Error, MessageId, NewApplication, NewEndpoint, State, StateKind,
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
