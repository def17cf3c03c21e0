//! Promises of an endpoint's status where it is one of several settings.

use ringback::{CancelReason, EndpointStatus, NewApplication, NewEndpoint, State, StateKind};

use crate::support::{Receiver, World, retries, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_made_disabled_gets_nothing_until_it_is_enabled() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).disabled(true)).await;
    world.reopen().await;
    world.run();
    let before = world.send("test.happened", "{}").await;
    assert!(world.deliveries(before).await.is_empty());
    let enabled = NewEndpoint::at(&receiver.url).disabled(false);
    world.ringback.update_endpoint(world.app, endpoint.id, enabled).await.unwrap();
    let after = world.send("test.happened", "{}").await;
    assert_eq!(world.ended(after).await.kind(), StateKind::Delivered);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_disables_an_endpoint_cancels_what_waits_for_it() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let patient = || NewEndpoint::at(&receiver.url).retry(retries(&[600_000]));
    let endpoint = world.endpoint(patient()).await;
    let sent = world.send("test.happened", "{}").await;
    until(async || !world.attempts(sent).await.is_empty()).await;
    let disabled = patient().throttle_rate(5).disabled(true);
    let changed = world.ringback.update_endpoint(world.app, endpoint.id, disabled).await.unwrap();
    let State::Canceled { reason, .. } = world.ended(sent).await else { panic!() };
    assert_eq!((reason, receiver.count()), (CancelReason::EndpointDisabled, 1));
    world.reopen().await;
    let found = world.ringback.endpoint(world.app, endpoint.id).unwrap();
    assert!(matches!(found.status, EndpointStatus::Disabled { .. }));
    assert_eq!((found.settings.throttle_rate, &found), (Some(5), &changed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttle_rate_is_kept_and_shown() {
    let mut world = World::open().await;
    let new = NewApplication { throttle_rate: Some(65_535), ..NewApplication::named("Acme") };
    world.ringback.update_application(world.app, new).await.unwrap();
    let endpoint = world.endpoint(NewEndpoint::at("https://a.example/").throttle_rate(1)).await;
    world.reopen().await;
    let application = serde_json::to_value(world.ringback.application(world.app).unwrap()).unwrap();
    let endpoint = serde_json::to_value(world.ringback.endpoint(world.app, endpoint.id).unwrap()).unwrap();
    assert_eq!((&application["throttleRate"], &endpoint["throttleRate"]), (&65_535.into(), &1.into()));
    let parsed: NewApplication = serde_json::from_str(r#"{"name":"A","throttleRate":7}"#).unwrap();
    assert_eq!(parsed.throttle_rate, Some(7));
}
