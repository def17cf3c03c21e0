//! What the operator is told, through the official client and the receiver's verification.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use svix::api::{
    EndpointCreatedEvent, EndpointDisabledEvent, EndpointEnabledEvent, EndpointIn, EndpointPatch, EndpointUpdatedEvent,
    MessageAttemptExhaustedEvent,
};

use crate::client::{Client, verifies};
use crate::support::{Behaviour, Received, Receiver, until};

/// The events of a type that have arrived, in the client's own type.
fn events<T: DeserializeOwned>(operator: &Receiver, event_type: &str) -> Vec<T> {
    let json = |request: &Received| serde_json::from_slice::<Value>(&request.body).unwrap();
    let all = operator.received().iter().map(json).filter(|event| event["type"] == event_type).collect::<Vec<_>>();
    all.into_iter().map(|event| serde_json::from_value(event).unwrap()).collect()
}

#[tokio::test]
async fn operational_events_are_read_and_verified_by_the_official_client() {
    let client = Client::start_with(&[("RINGBACK_OPERATIONAL_APPLICATION", "operations")]).await;
    let operator = Receiver::answering(204).await;
    let application = client.svix.application().get("operations".into()).await.unwrap();
    assert_eq!(application.uid.as_deref(), Some("operations"), "the server made it");
    let all = EndpointIn { uid: Some("all".into()), ..EndpointIn::new(operator.url.clone()) };
    client.svix.endpoint().create("operations".into(), all, None).await.unwrap();

    let app = client.application("acme").await;
    let gone = Receiver::answering(410).await;
    let id = client.endpoint(&app, "gone", &gone.url).await;
    let asking = Receiver::start(|_, _| {
        Behaviour::AnswerWith(500, vec![("Webhook-Delivery", "abort-message".into())], b"{}".to_vec())
    });
    client.endpoint(&app, "asking", &asking.await.url).await;
    let message = client.send(&app).await;
    until(|| async { events::<MessageAttemptExhaustedEvent>(&operator, "message.attempt.exhausted").len() == 2 }).await;
    until(|| async { events::<EndpointDisabledEvent>(&operator, "endpoint.disabled").len() == 1 }).await;
    let disabled = &events::<EndpointDisabledEvent>(&operator, "endpoint.disabled")[0].data;
    assert_eq!((&disabled.endpoint_id, disabled.endpoint_uid.as_deref()), (&id, Some("gone")));
    assert_eq!(disabled.app_uid.as_deref(), Some("acme"));
    assert!(disabled.fail_since.is_some());
    let exhausted = events::<MessageAttemptExhaustedEvent>(&operator, "message.attempt.exhausted");
    let mut statuses: Vec<_> = exhausted.iter().map(|event| event.data.last_attempt.response_status_code).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [410, 500]);
    assert!(exhausted.iter().all(|event| event.data.msg_id == message));
    let created = events::<EndpointCreatedEvent>(&operator, "endpoint.created");
    assert_eq!(created.len(), 2, "of the customer's, and not of the operator's");

    let found = client.api.http.get(&format!("/app/acme/endpoint/{id}")).await.is(200);
    assert_eq!((&found["disabled"], &found["disabledReason"]), (&json!(true), &json!("gone")));
    assert_eq!(found["disabledSince"], found["updatedAt"]);
    let change = EndpointPatch { disabled: Some(false), description: Some("back".into()), ..EndpointPatch::default() };
    client.svix.endpoint().patch("acme".into(), "gone".into(), change).await.unwrap();
    until(|| async { events::<EndpointEnabledEvent>(&operator, "endpoint.enabled").len() == 1 }).await;
    until(|| async { events::<EndpointUpdatedEvent>(&operator, "endpoint.updated").len() == 1 }).await;
    let secret = client.secret("operations", "all").await;
    operator.received().iter().for_each(|request| verifies(&secret, request));
}
