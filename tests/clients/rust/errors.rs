//! Refusals as the official client's own errors, and idempotency keys.

use serde_json::json;
use svix::api::{
    ApplicationCreateOptions, ApplicationIn, ApplicationListOptions, EndpointCreateOptions, EndpointIn,
    EndpointSecretRotateIn, MessageCreateOptions,
};

use crate::client::{Client, HOOK, event, invalid, nobody, refused};

#[tokio::test]
async fn refusals_come_as_the_clients_error() {
    let client = Client::start().await;
    let acme = client.application("acme").await;
    let stranger = client.with_token("wrong");
    assert_eq!(refused(401, stranger.application().list(None).await).code, "authentication_failed");
    refused(401, stranger.message().create(acme.clone(), event("a", json!({})), None).await);
    assert_eq!(refused(404, client.svix.application().get(nobody("app")).await).code, "not_found");
    let taken = ApplicationIn { uid: Some(acme.clone()), ..ApplicationIn::new("x".into()) };
    assert_eq!(refused(409, client.svix.application().create(taken, None).await).code, "conflict");
    // A little more than is allowed, and so much more that the server answers before it has read it all.
    for length in [1024 * 1024 + 1, 16 * 1024 * 1024] {
        let large = event("call.ended", json!({"text": "x".repeat(length)}));
        let answer = client.svix.message().create(acme.clone(), large, None).await;
        assert_eq!(refused(413, answer).code, "payload_too_large");
    }
}

#[tokio::test]
async fn an_invalid_value_is_named_in_the_clients_validation_error() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    client.endpoint("acme", "main", HOOK).await;
    let (applications, endpoints, messages) =
        (client.svix.application(), client.svix.endpoint(), client.svix.message());
    invalid(&["body", "name"], applications.create(ApplicationIn::new(String::new()), None).await);
    invalid(&["body", "url"], endpoints.create(acme(), EndpointIn::new("no url".into()), None).await);
    let secret = EndpointIn { secret: Some("whsec_short".into()), ..EndpointIn::new(HOOK.into()) };
    invalid(&["body", "secret"], endpoints.create(acme(), secret, None).await);
    let key = EndpointSecretRotateIn { key: Some("whsec_short".into()) };
    invalid(&["body", "key"], endpoints.rotate_secret(acme(), "main".into(), key, None).await);
    invalid(&["body", "eventType"], messages.create(acme(), event("no spaces", json!({})), None).await);
    invalid(&["body", "payload"], messages.create(acme(), event("a", json!([1])), None).await);
    let options = ApplicationListOptions { limit: Some(251), iterator: None, order: None };
    invalid(&["query", "limit"], applications.list(Some(options)).await);
}

#[tokio::test]
async fn one_key_does_one_thing_once() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let key = || Some("one key".to_owned());
    let send = async |payload| {
        let options = MessageCreateOptions { idempotency_key: key(), with_content: None };
        client.svix.message().create(acme(), event("call.ended", payload), Some(options)).await
    };
    let sent = send(json!({"n": 1})).await.unwrap();
    assert_eq!(send(json!({"n": 1})).await.unwrap(), sent);
    refused(409, send(json!({"n": 2})).await);
    assert_eq!(client.svix.message().list(acme(), None).await.unwrap().data.len(), 1);

    let create = async |name: &str| {
        let options = ApplicationCreateOptions { idempotency_key: key() };
        client.svix.application().create(ApplicationIn::new(name.into()), Some(options)).await
    };
    let made = create("One").await.unwrap();
    assert_eq!(create("One").await.unwrap(), made);
    refused(409, create("Two").await);

    let open = async |url: &str| {
        let options = EndpointCreateOptions { idempotency_key: key() };
        client.svix.endpoint().create(acme(), EndpointIn::new(url.into()), Some(options)).await
    };
    let opened = open(HOOK).await.unwrap();
    assert_eq!(open(HOOK).await.unwrap(), opened);
    refused(409, open("https://other.example/").await);
}
