//! What the official client offers and the server does not have.

use svix::api::{AppUsageStatsIn, EndpointTransformationIn, EnvironmentIn, IntegrationIn};

use crate::client::{Client, HOOK, refused};

#[tokio::test]
async fn operations_that_the_server_does_not_have_are_refused_in_its_own_json() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    let main = || "main".to_owned();
    client.application("acme").await;
    client.endpoint("acme", "main", HOOK).await;
    let svix = &client.svix;
    let since = || "2026-01-01T00:00:00Z".to_owned();
    refused(501, svix.endpoint().transformation_get(acme(), main()).await);
    let transformation = EndpointTransformationIn::new();
    refused(501, svix.endpoint().transformation_partial_update(acme(), main(), transformation).await);
    refused(501, svix.message().expunge_all_contents(acme(), None).await);
    refused(501, svix.message().poller().poll(acme(), "sink".into(), None).await);
    refused(501, svix.integration().list(acme(), None).await);
    refused(501, svix.integration().create(acme(), IntegrationIn::new("x".into()), None).await);
    refused(501, svix.statistics().aggregate_event_types().await);
    refused(501, svix.statistics().aggregate_app_stats(AppUsageStatsIn::new(since(), since()), None).await);
    refused(501, svix.operational_webhook_endpoint().list(None).await);
    refused(501, svix.environment().export(None).await);
    refused(501, svix.environment().import(EnvironmentIn::new(), None).await);
    refused(501, svix.ingest().source().list(None).await);
}
