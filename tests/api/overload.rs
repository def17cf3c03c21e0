//! Too much is refused at once and says when to come again; what was accepted is kept.

use serde_json::json;

use crate::support::Behaviour;
use crate::support::api::Api;

#[tokio::test]
async fn one_application_s_limit_is_429_and_stops_nobody_else() {
    let api = Api::start_with(&[("RINGBACK_MAX_OPEN_BYTES_PER_APPLICATION", "20000")]).await;
    for name in ["busy", "quiet"] {
        api.application(name).await;
        let waits = json!({"retry": {"delaysMs": [600_000]}});
        api.endpoint_that(name, waits, |_, _| Behaviour::Answer(500)).await;
    }
    let body = json!({"eventType": "e", "payload": {"a": "x".repeat(3000)}});
    let mut accepted = 0;
    let refused = loop {
        let answered = api.http.post("/app/busy/msg", body.clone()).await;
        if answered.status != 202 {
            break answered;
        }
        accepted += 1;
        assert!(accepted < 20, "the limit is about six of them");
    };
    assert!(accepted >= 5, "{accepted}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let json = refused.is(429);
    assert!(json["detail"].as_str().unwrap().contains("application"), "{json}");
    api.http.post("/app/quiet/msg", body).await.is(202);
    let kept = api.http.get("/app/busy/msg?with_content=false").await.is(200);
    assert_eq!(kept["data"].as_array().unwrap().len(), accepted);
    assert_eq!(api.http.get("/doctor").await.is(200)["ok"], true);
}

#[tokio::test]
async fn the_whole_store_s_limit_is_503() {
    let api = Api::start_with(&[("RINGBACK_MAX_OPEN_BYTES", "20000")]).await;
    api.application("acme").await;
    api.endpoint_that("acme", json!({"retry": {"delaysMs": [600_000]}}), |_, _| Behaviour::Answer(500)).await;
    let body = json!({"eventType": "e", "payload": {"a": "x".repeat(3000)}});
    let refused = loop {
        let answered = api.http.post("/app/acme/msg", body.clone()).await;
        if answered.status != 202 {
            break answered;
        }
    };
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.is(503)["code"], "overloaded");
}

#[tokio::test]
async fn a_request_refused_for_want_of_room_can_be_tried_again_under_its_key() {
    let api = Api::start_with(&[("RINGBACK_MAX_OPEN_BYTES", "20000")]).await;
    api.application("acme").await;
    let waits = json!({"uid": "main", "retry": {"delaysMs": [600_000]}});
    api.endpoint_that("acme", waits, |_, _| Behaviour::Answer(500)).await;
    let mut waiting = Vec::new();
    for bytes in [3000, 1] {
        let body = json!({"eventType": "e", "payload": {"a": "x".repeat(bytes)}});
        loop {
            let answered = api.http.post("/app/acme/msg", body.clone()).await;
            if answered.status != 202 {
                break;
            }
            waiting.push(answered.json()["id"].as_str().unwrap().to_owned());
        }
    }
    let example = json!({"eventType": "svix.ping"});
    let path = "/app/acme/endpoint/main/send-example";
    for _ in 0..2 {
        assert_eq!(api.http.post_under("k", path, example.clone()).await.is(503)["code"], "overloaded");
    }
    for id in waiting {
        api.http.post(&format!("/app/acme/msg/{id}/cancel"), json!({})).await.is(200);
    }
    api.http.post_under("k", path, example).await.is(200);
}
