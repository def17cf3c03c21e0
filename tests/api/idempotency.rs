//! What is asked twice under one key is done once, also over a restart.

use serde_json::json;

use crate::support::api::Api;

#[tokio::test]
async fn the_same_key_with_the_same_body_is_answered_as_before_and_another_body_is_a_conflict() {
    let mut api = Api::start().await;
    let body = json!({"name": "Acme"});
    let first = api.http.post_under("k1", "/app", body.clone()).await.is(201);
    let again = api.http.post_under("k1", "/app", body.clone()).await.is(201);
    assert_eq!(first, again);
    api.http.post_under("k1", "/app", json!({"name": "Other"})).await.is(409);
    api.restart().await;
    assert_eq!(api.http.post_under("k1", "/app", body).await.is(201), first);
    assert_eq!(api.http.get("/app").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_sent_twice_under_one_key_is_one_message() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let body = json!({"eventType": "call.completed", "payload": {"n": 1}});
    let first = api.http.post_under("k", "/app/acme/msg", body.clone()).await.is(202);
    let again = api.http.post_under("k", "/app/acme/msg", body.clone()).await.is(202);
    assert_eq!(first, again);
    let other = json!({"eventType": "call.completed", "payload": {"n": 2}});
    assert_eq!(api.http.post_under("k", "/app/acme/msg", other).await.is(409)["code"], "conflict");
    api.restart().await;
    assert_eq!(api.http.post_under("k", "/app/acme/msg", body).await.is(202)["id"], first["id"]);
    assert_eq!(api.http.get("/app/acme/msg").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_operation_and_one_application() {
    let api = Api::start().await;
    api.application("a").await;
    api.application("b").await;
    let body = json!({"url": "https://x.example/"});
    let a = api.http.post_under("k", "/app/a/endpoint", body.clone()).await.is(201);
    let b = api.http.post_under("k", "/app/b/endpoint", body.clone()).await.is(201);
    assert_ne!(a["id"], b["id"]);
    api.http.post_under("k", "/app/a/msg", json!({"eventType": "e", "payload": {}})).await.is(202);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let api = Api::start().await;
    api.application("acme").await;
    api.http.post_under("k", "/app/acme/endpoint", json!({"url": "ftp://x"})).await.is(422);
    api.http.post_under("k", "/app/acme/endpoint", json!({"url": "https://x.example/"})).await.is(201);
}

#[tokio::test]
async fn a_rotation_that_is_repeated_rotates_once_and_its_secret_is_in_no_receipt() {
    let api = Api::start().await;
    api.application("acme").await;
    let endpoint = api.http.post("/app/acme/endpoint", json!({"url": "https://x.example/"})).await.is(201);
    let path = format!("/app/acme/endpoint/{}/secret/rotate", endpoint["id"].as_str().unwrap());
    let first = api.http.post_under("k", &path, json!({})).await.is(200);
    let again = api.http.post_under("k", &path, json!({})).await.is(200);
    assert_eq!(first, again);
    assert_ne!(api.http.post_under("k2", &path, json!({})).await.is(200), first);
}

#[tokio::test]
async fn many_at_once_under_one_key_are_done_once() {
    let api = Api::start().await;
    let asked = (0..20).map(|_| api.http.post_under("k", "/app", json!({"name": "Acme"})));
    let answered = futures_util::future::join_all(asked).await;
    let made = answered.iter().filter(|answer| answer.status == 201).count();
    assert!(made >= 1 && answered.iter().all(|answer| matches!(answer.status, 201 | 409)), "{answered:?}");
    assert_eq!(api.http.get("/app").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_id_is_taken_once() {
    let api = Api::start().await;
    api.application("acme").await;
    let body = json!({"eventType": "e", "payload": {}, "eventId": "call_1"});
    let sent = api.http.post("/app/acme/msg", body.clone()).await.is(202);
    assert_eq!(api.http.post("/app/acme/msg", body).await.is(409)["code"], "conflict");
    assert_eq!(api.http.get("/app/acme/msg/call_1").await.is(200)["id"], sent["id"]);
}
