//! Endpoints that are disabled and enabled: by whom, why, and what of theirs is taken up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Behaviour, Receiver, until};

const MAIN: &str = "/app/acme/endpoint/main";

/// An endpoint that answers with the status that stands in the cell; what fails is tried again every tenth of a second.
async fn endpoint(api: &Api, status: u16) -> (Receiver, Arc<AtomicU16>) {
    let answers = Arc::new(AtomicU16::new(status));
    let told = Arc::clone(&answers);
    let settings = json!({"uid": "main", "retry": {"delaysMs": vec![100; 50], "jitter": 0}});
    let behaviour = move |_: &_, _| Behaviour::Answer(told.load(Ordering::SeqCst));
    (api.endpoint_that("acme", settings, behaviour).await, answers)
}

async fn reason(api: &Api) -> Value {
    api.http.get(MAIN).await.is(200)["disabledReason"].clone()
}

#[tokio::test]
async fn an_endpoint_that_only_fails_is_disabled_over_kills_and_enabled_with_what_it_missed() {
    let settings = [
        ("RINGBACK_DISABLE_AFTER_SECONDS", "2"),
        ("RINGBACK_OPERATIONAL_APPLICATION", "operations"),
        // Without rests, so that it fails often enough within a few seconds.
        ("RINGBACK_BREAKER_FAILURES", "0"),
    ];
    let mut api = Api::start_with(&settings).await;
    let operator = Receiver::answering(204).await;
    api.http.post("/app/operations/endpoint", json!({"url": operator.url})).await.is(201);
    api.application("acme").await;
    let (receiver, answers) = endpoint(&api, 503).await;
    let message = api.send("acme", json!({"n": 1})).await;
    receiver.expect(8).await;
    let health = api.http.get(&format!("{MAIN}/health")).await.is(200);
    assert!(health["failing"]["failures"].as_u64().unwrap() >= 1 && health["failing"]["since"].is_string(), "{health}");
    assert!(health["failing"]["disableAt"].is_string() && health["failing"]["warned"].is_boolean(), "{health}");
    api.kill_and_restart().await;
    until(|| async { reason(&api).await == "failing" }).await;
    assert!(receiver.count() >= 10, "it has failed often enough: {}", receiver.count());
    let state = async |api: &Api| {
        let of = api.http.get(&format!("/app/acme/msg/{message}/endpoint")).await.is(200);
        of["data"][0]["state"]["state"].clone()
    };
    until(|| async { state(&api).await == "canceled" }).await;
    api.kill_and_restart().await;
    assert_eq!(reason(&api).await, "failing");
    let told = |event_type: &str| {
        let all = operator.received();
        let events = all.iter().map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
        events.filter(|event| event["type"] == event_type).collect::<Vec<_>>()
    };
    until(|| async { told("endpoint.disabled").len() == 1 }).await;
    assert_eq!(told("endpoint.failing").len(), 1, "it was warned of, once, whatever was killed");
    let since = told("endpoint.disabled")[0]["data"]["failSince"].clone();
    assert_eq!(told("endpoint.failing")[0]["data"]["failSince"], since);

    answers.store(200, Ordering::SeqCst);
    let enabled = api.http.post(&format!("{MAIN}/enable"), json!({"replay": {"rate": 1000}})).await.is(200);
    assert_eq!((&enabled["disabled"], &enabled["disabledReason"]), (&json!(false), &Value::Null));
    assert_eq!(enabled["replay"]["total"], 1);
    until(|| async { state(&api).await == "delivered" }).await;
    assert_eq!(api.http.get(&format!("{MAIN}/health")).await.is(200)["failing"], Value::Null);
    until(|| async { told("endpoint.enabled").len() == 1 }).await;
}

#[tokio::test]
async fn disabling_and_enabling_say_why_and_since_when_and_contradictions_are_refused() {
    let api = Api::start().await;
    api.application("acme").await;
    let (_receiver, _) = endpoint(&api, 200).await;
    let disabled = api.http.post(&format!("{MAIN}/disable"), json!({})).await.is(200);
    assert_eq!((&disabled["disabled"], &disabled["disabledReason"]), (&json!(true), &json!("requested")));
    assert!(disabled["disabledSince"].is_string());
    assert_eq!(
        api.http.post(&format!("{MAIN}/disable"), json!({})).await.is(200),
        disabled_again(&api, &disabled).await
    );
    for (body, loc) in [
        (json!({"replay": {"rate": 0}}), vec!["body", "replay", "rate"]),
        (json!({"replay": {"rate": 10001}}), vec!["body", "replay", "rate"]),
        (json!({"replay": {"since": "soon"}}), vec!["body", "replay", "since"]),
        (json!({"replay": {"until": "2026-01-01T00:00:00Z"}}), vec!["body", "replay", "until"]),
        (json!({"now": true}), vec!["body", "now"]),
    ] {
        let refused = api.http.post(&format!("{MAIN}/enable"), body).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(loc));
    }
    assert_eq!(reason(&api).await, "requested", "what is refused enables nothing");
    let enabled = api.http.post(&format!("{MAIN}/enable"), json!({})).await.is(200);
    assert_eq!((&enabled["disabled"], &enabled["replay"]), (&json!(false), &Value::Null));
    api.http.post("/app/acme/endpoint/none/enable", json!({})).await.is(404);
    let patched = api.http.patch(MAIN, json!({"autoDisable": false})).await.is(200);
    assert_eq!(patched["autoDisable"], false);
    let put = api.http.put(MAIN, json!({"url": "https://a.example/"})).await.is(200);
    assert_eq!(put["autoDisable"], false, "clients of before do not know it");
    assert_eq!(api.http.patch(MAIN, json!({"autoDisable": null})).await.is(200)["autoDisable"], Value::Null);
}

/// The endpoint as it was when it was disabled first: only its last change is later.
async fn disabled_again(api: &Api, before: &Value) -> Value {
    let now = api.http.get(MAIN).await.is(200);
    assert_eq!(now["disabledSince"], before["disabledSince"]);
    now
}

#[tokio::test]
async fn what_a_receiver_asks_for_is_done_and_stands_in_the_log_also_after_a_restart() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let asks = |word: &'static str| {
        move |_: &_, _| Behaviour::AnswerWith(503, vec![("Webhook-Delivery", word.to_owned())], Vec::new())
    };
    for (uid, word) in [("aborts", "abort-message"), ("leaves", "disable"), ("unclear", "later")] {
        api.endpoint_that("acme", json!({"uid": uid}), asks(word)).await;
    }
    api.endpoint_that("acme", json!({"uid": "levers", "profile": "levers"}), asks("disable")).await;
    let message = api.send("acme", json!({"n": 1})).await;
    let stands = async |api: &Api, uid: &str| {
        let shown = api.http.get(&format!("/app/acme/endpoint/{uid}")).await.is(200);
        let log = api.http.get(&format!("/app/acme/attempt/endpoint/{uid}")).await.is(200);
        let attempt = &log["data"][0];
        (shown["disabledReason"].clone(), attempt["asked"].clone(), attempt["result"].clone())
    };
    let (null, asked) = (Value::Null, json!("askedByReceiver"));
    until(|| async { stands(&api, "leaves").await.0 == asked }).await;
    until(|| async { api.http.get("/app/acme/attempt").await.is(200)["data"].as_array().unwrap().len() == 4 }).await;
    api.restart().await;
    assert_eq!(stands(&api, "aborts").await, (null.clone(), json!("abortMessage"), json!("dead")));
    assert_eq!(stands(&api, "leaves").await, (asked, json!("disable"), json!("waiting")));
    assert_eq!(stands(&api, "unclear").await, (null.clone(), null.clone(), json!("waiting")));
    assert_eq!(stands(&api, "levers").await, (null, json!("disable"), json!("waiting")), "it does not follow it");
    let of = api.http.get(&format!("/app/acme/msg/{message}/endpoint")).await.is(200);
    let state = |uid: &str| {
        let found = of["data"].as_array().unwrap().iter().find(|found| found["uid"] == uid).unwrap();
        found["state"].clone()
    };
    assert_eq!((&state("aborts")["state"], &state("aborts")["reason"]), (&json!("dead"), &json!("aborted")));
    assert_eq!(
        (&state("leaves")["state"], &state("leaves")["reason"]),
        (&json!("canceled"), &json!("endpointDisabled"))
    );
}
