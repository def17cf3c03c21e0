//! Who gets what: filters, and endpoints that are disabled, enabled and deleted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "senders are tasks of their own")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringback::{
    CancelReason, EndpointId, EndpointSettings, EndpointStatus, Error, MessageId, NewApplication, NewEndpoint,
    NewMessage, NoRoute, Routing, State, StateKind,
};
use support::{Behaviour, Receiver, World, quick, retries, until};
use tokio::sync::Semaphore;

/// Which of these endpoints a message goes to.
async fn goes_to(world: &World, endpoints: &[EndpointId], message: NewMessage) -> Vec<usize> {
    match world.ringback.send(world.app, message).await.unwrap().routing.unwrap() {
        Routing::Nowhere(_) => Vec::new(),
        Routing::To(to) => to.iter().map(|id| endpoints.iter().position(|e| e == id).unwrap()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_types_are_taken_exactly_or_by_their_parent() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let mut endpoints = Vec::new();
    for types in [&[][..], &["call.completed"], &["call.*"], &["call.leg.*", "workflow.started"]] {
        let endpoint = types.iter().fold(quick(&receiver.url), |endpoint, name| endpoint.event_type(*name));
        endpoints.push(world.endpoint(endpoint).await.id);
    }
    let mut total = 0;
    for (event_type, expected) in [
        ("call.completed", &[0, 1, 2][..]),
        ("call.placed", &[0, 2]),
        ("call.leg.placed", &[0, 2, 3]),
        ("call", &[0]),
        ("callback.placed", &[0]),
        ("call.leg", &[0, 2]),
        ("Call.completed", &[0]),
        ("workflow.started", &[0, 3]),
        ("workflow.started.twice", &[0]),
    ] {
        assert_eq!(goes_to(&world, &endpoints, NewMessage::bytes(event_type, "{}")).await, expected, "{event_type}");
        total += expected.len();
    }
    receiver.wait_for(total).await;
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    assert_eq!(receiver.count(), total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_listened_to_by_dimension() {
    let world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let mut endpoints = Vec::new();
    for listed in [
        &[][..],
        &["eu"],
        &["eu", "us"],
        &["agent:a"],
        &["agent:a", "agent:b"],
        &["agent:a", "workflow:w"],
        &["eu", "agent:a"],
    ] {
        let endpoint = listed.iter().fold(quick(&receiver.url), |endpoint, channel| endpoint.channel(*channel));
        endpoints.push(world.endpoint(endpoint).await.id);
    }
    for (has, expected) in [
        (&[][..], &[0, 3, 4, 5][..]),
        (&["eu"], &[0, 1, 2, 3, 4, 5, 6]),
        (&["us"], &[0, 2, 3, 4, 5]),
        (&["apac"], &[0, 3, 4, 5]),
        (&["agent:a"], &[0, 3, 4, 5]),
        (&["agent:b"], &[0, 4]),
        (&["agent:c", "agent:a"], &[0, 3, 4, 5]),
        (&["workflow:w"], &[0, 3, 4, 5]),
        (&["workflow:x"], &[0, 3, 4]),
        (&["agent:a", "workflow:x"], &[0, 3, 4]),
        (&["agent:b", "eu"], &[0, 1, 2, 4]),
        (&["EU"], &[0, 3, 4, 5]),
    ] {
        let message = has.iter().fold(NewMessage::bytes("e", "{}"), |message, channel| message.channel(*channel));
        assert_eq!(goes_to(&world, &endpoints, message).await, expected, "{has:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_filter_holds_for_the_next_message() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url).event_type("a")).await.id;
    assert!(goes_to(&world, &[endpoint], NewMessage::bytes("b", "{}")).await.is_empty());
    world.ringback.update_endpoint(world.app, endpoint, quick(&receiver.url).event_type("b")).await.unwrap();
    assert_eq!(goes_to(&world, &[endpoint], NewMessage::bytes("b", "{}")).await, [0]);
    assert!(goes_to(&world, &[endpoint], NewMessage::bytes("a", "{}")).await.is_empty());
}

/// A receiver that is down, and an endpoint there whose deliveries wait long for their retries.
async fn waiting(world: &World, count: usize) -> (Receiver, EndpointId, Vec<MessageId>) {
    let receiver = Receiver::answering(500).await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[600_000]))).await.id;
    let sent = world.send_many(count).await;
    (receiver, endpoint, sent)
}

async fn all_canceled(world: &World, messages: &[MessageId], why: CancelReason) {
    world.all_ended(messages).await;
    for message in messages {
        let state = world.state(*message).await;
        assert!(matches!(state, State::Canceled { reason, .. } if reason == why), "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_endpoint_gets_nothing_and_what_waited_is_canceled() {
    let world = World::running().await;
    let (receiver, endpoint, sent) = waiting(&world, 600).await;
    receiver.wait_for(600).await;
    until(async || world.ringback.health().await.unwrap().leased == 0).await;
    let disabled = world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    assert!(matches!(disabled.status, EndpointStatus::Disabled { .. }));
    all_canceled(&world, &sent, CancelReason::EndpointDisabled).await;
    let ignored = world.ringback.send(world.app, NewMessage::bytes("e", "{}")).await.unwrap();
    assert_eq!(ignored.routing, Some(Routing::Nowhere(NoRoute::AllDisabled)));

    world.ringback.enable_endpoint(world.app, endpoint).await.unwrap();
    let taken = world.send("e", "{}").await;
    receiver.wait_for(601).await;
    let request = receiver.received().pop().unwrap();
    assert_eq!(request.header("svix-id"), Some(taken.to_string().as_str()), "only what was sent since");
    all_canceled(&world, &sent, CancelReason::EndpointDisabled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_is_canceled_by_the_next_run_if_none_runs() {
    for reopened in [false, true] {
        for deleted in [false, true] {
            let mut world = World::open().await;
            let (receiver, endpoint, sent) = waiting(&world, 3).await;
            match deleted {
                false => drop(world.ringback.disable_endpoint(world.app, endpoint).await.unwrap()),
                true => world.ringback.delete_endpoint(world.app, endpoint).await.unwrap(),
            }
            assert_eq!(world.state(sent[0]).await.kind(), StateKind::Waiting);
            if reopened {
                world.reopen().await;
            }
            world.run();
            let why = if deleted { CancelReason::EndpointDeleted } else { CancelReason::EndpointDisabled };
            all_canceled(&world, &sent, why).await;
            assert_eq!(receiver.count(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_endpoint_is_gone_and_its_log_stays() {
    let mut world = World::running().await;
    let (receiver, endpoint, sent) = waiting(&world, 1).await;
    until(async || !world.attempts(sent[0]).await.is_empty()).await;
    world.ringback.delete_endpoint(world.app, endpoint).await.unwrap();
    all_canceled(&world, &sent, CancelReason::EndpointDeleted).await;
    for reopened in [false, true] {
        if reopened {
            world.reopen().await;
        }
        assert!(world.ringback.endpoints(world.app).unwrap().is_empty());
        assert_eq!(world.ringback.endpoint(world.app, endpoint).unwrap_err(), Error::NotFound("endpoint"));
        let enabled = world.ringback.enable_endpoint(world.app, endpoint).await;
        assert_eq!(enabled.unwrap_err(), Error::NotFound("endpoint"));
        assert_eq!(world.attempts(sent[0]).await.len(), 1);
    }
    let nowhere = world.ringback.send(world.app, NewMessage::bytes("e", "{}")).await.unwrap();
    assert_eq!(nowhere.routing, Some(Routing::Nowhere(NoRoute::NoEndpoints)));
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uid_is_free_again_once_its_endpoint_is_deleted_or_renamed() {
    let world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let first = world.endpoint(quick(&receiver.url).uid("main")).await.id;
    world.ringback.delete_endpoint(world.app, first).await.unwrap();
    let second = world.endpoint(quick(&receiver.url).uid("main")).await.id;
    assert_eq!(world.ringback.endpoint_by_uid(world.app, "main").unwrap().id, second);
    world.ringback.update_endpoint(world.app, second, quick(&receiver.url).uid("other")).await.unwrap();
    world.endpoint(quick(&receiver.url).uid("main")).await;
    assert_eq!(world.ringback.endpoint_by_uid(world.app, "other").unwrap().id, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_on_its_way_may_finish_and_if_it_fails_is_not_tried_again() {
    for (status, expected) in [(200, StateKind::Delivered), (500, StateKind::Canceled)] {
        let world = World::running().await;
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&held), status)).await;
        let endpoint = world.endpoint(quick(&receiver.url)).await.id;
        let sent = world.send("e", "{}").await;
        receiver.wait_for(1).await;
        world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
        gate.add_permits(10);
        assert_eq!(world.ended(sent).await.kind(), expected);
        assert_eq!((world.attempts(sent).await.len(), receiver.count()), (1, 1), "it is on record");
    }
}

/// The counters follow the write that a look at the deliveries may already see.
async fn nothing_is_open(world: &World) {
    until(async || {
        let health = world.ringback.health().await.unwrap();
        (health.open, health.open_bytes, health.leased) == (0, 0, 0)
    })
    .await;
}

/// Sends as fast as it can until it is told to stop; gives what was accepted.
fn sender(world: &World, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<MessageId>> {
    let (ringback, app, stop) = (world.ringback.clone(), world.app, Arc::clone(stop));
    tokio::spawn(async move {
        let mut sent = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            sent.push(ringback.send(app, NewMessage::bytes("e", "{}")).await.unwrap().id);
        }
        sent
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attempt_starts_after_a_disable_returned_however_many_sends_race_it() {
    for _ in 0..4 {
        let world = World::running().await;
        let receiver = Receiver::answering(200).await;
        let endpoint = world.endpoint(quick(&receiver.url).max_in_flight(4)).await.id;
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4).map(|_| sender(&world, &stop)).collect();
        receiver.wait_for(20).await;
        world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
        let at_return = receiver.count();
        let late = world.ringback.send(world.app, NewMessage::bytes("e", "{}")).await.unwrap();
        assert_eq!(late.routing, Some(Routing::Nowhere(NoRoute::AllDisabled)));
        stop.store(true, Ordering::SeqCst);
        let mut sent = Vec::new();
        for sender in senders {
            sent.extend(sender.await.unwrap());
        }
        world.all_ended(&sent).await;
        // Those that were on their way, and no other.
        assert!(receiver.count() <= at_return + 4, "{} and {at_return}", receiver.count());
        nothing_is_open(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_disabled_endpoint_however_many_failures_race_it() {
    for _ in 0..4 {
        let world = World::running().await;
        let receiver = Receiver::answering(500).await;
        let endpoint = NewEndpoint::at(&receiver.url).retry(retries(&[600_000]));
        let endpoint = world.endpoint(endpoint).await.id;
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..6).map(|_| sender(&world, &stop)).collect();
        receiver.wait_for(30).await;
        world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
        stop.store(true, Ordering::SeqCst);
        let mut sent = Vec::new();
        for sender in senders {
            sent.extend(sender.await.unwrap());
        }
        world.all_ended(&sent).await;
        nothing_is_open(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_disabled_endpoint_when_a_replay_races_it() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[]))).await.id;
    let sent = world.send("e", "{}").await;
    world.ended(sent).await;
    for _ in 0..20 {
        let (replayed, disabled) = tokio::join!(
            world.ringback.replay(world.app, sent, endpoint),
            world.ringback.disable_endpoint(world.app, endpoint),
        );
        assert!(matches!(replayed, Ok(()) | Err(Error::Conflict(_))), "{replayed:?}");
        disabled.unwrap();
        world.ended(sent).await;
        world.ringback.enable_endpoint(world.app, endpoint).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_made_and_changed_at_the_same_time_are_all_there() {
    let mut world = World::open().await;
    let made: Vec<_> = (0..12)
        .map(|n| {
            let (ringback, app) = (world.ringback.clone(), world.app);
            let new = NewEndpoint::from(EndpointSettings::at(format!("https://a{n}.example/")));
            tokio::spawn(async move { ringback.create_endpoint(app, new).await.unwrap().id })
        })
        .collect();
    let mut expected = Vec::new();
    for endpoint in made {
        expected.push(endpoint.await.unwrap());
    }
    expected.sort_unstable();
    let listed = |world: &World| -> Vec<_> {
        world.ringback.endpoints(world.app).unwrap().iter().map(|endpoint| endpoint.id).collect()
    };
    assert_eq!(listed(&world), expected);
    world.reopen().await;
    assert_eq!(listed(&world), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_can_be_changed_while_its_endpoints_are() {
    let world = World::open().await;
    for n in 0..10 {
        let name = format!("Acme {n}");
        let new = NewEndpoint::from(EndpointSettings::at(format!("https://a{n}.example/")));
        let (changed, made) = tokio::join!(
            world.ringback.update_application(world.app, NewApplication::named(name.clone())),
            world.ringback.create_endpoint(world.app, new),
        );
        assert_eq!(changed.unwrap().name, name);
        made.unwrap();
        assert_eq!(world.ringback.application(world.app).unwrap().name, name);
        assert_eq!(world.ringback.endpoints(world.app).unwrap().len(), n + 1);
    }
    world.ringback.delete_application(world.app).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_deleted_application_is_canceled_also_after_a_restart() {
    for reopened in [false, true] {
        let mut world = World::open().await;
        let (receiver, _, sent) = waiting(&world, 3).await;
        world.ringback.delete_application(world.app).await.unwrap();
        assert_eq!(world.ringback.application(world.app).unwrap_err(), Error::NotFound("application"));
        let answer = world.ringback.send(world.app, NewMessage::bytes("e", "{}")).await;
        assert_eq!(answer, Err(Error::NotFound("application")));
        if reopened {
            world.reopen().await;
        }
        world.run();
        until(async || world.ringback.health().await.unwrap().open == 0).await;
        all_canceled(&world, &sent, CancelReason::EndpointDeleted).await;
        assert_eq!(receiver.count(), 0);
    }
}
