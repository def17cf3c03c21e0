//! Replays: one delivery, an endpoint's, an application's; over a restart, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Behaviour, Receiver, until};

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// An endpoint with this many dead letters, which takes everything once the flag is set.
async fn with_dead_letters(api: &Api, letters: usize) -> (Receiver, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let receiver = api
        .endpoint_that("acme", json!({"uid": "main", "retry": {"delaysMs": []}}), move |_, _| {
            Behaviour::Answer(if seen.load(Ordering::SeqCst) { 200 } else { 500 })
        })
        .await;
    for number in 0..letters {
        api.send("acme", json!({"n": number})).await;
    }
    until(|| async { stats(api).await["fail"] == letters }).await;
    (receiver, mended)
}

async fn stats(api: &Api) -> Value {
    api.http.get("/app/acme/endpoint/main/stats").await.is(200)
}

#[tokio::test]
async fn a_resend_delivers_the_same_message_again() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let message = api.send("acme", json!({"n": 1})).await;
    receiver.expect(1).await;
    until(|| async { stats(&api).await["success"] == 1 }).await;
    api.http.post(&format!("/app/acme/msg/{message}/endpoint/main/resend"), json!({})).await.is(202);
    let received = receiver.expect(2).await;
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].header("svix-id"), received[1].header("svix-id"));
    until(|| async { api.http.get("/app/acme/attempt").await.is(200)["data"].as_array().unwrap().len() == 2 }).await;
    assert_eq!(api.http.get("/app/acme/attempt").await.is(200)["data"][0]["triggerType"], 1);
}

#[tokio::test]
async fn a_recovery_replays_an_endpoint_s_dead_letters_and_no_others() {
    let api = Api::start().await;
    api.application("acme").await;
    let (receiver, mended) = with_dead_letters(&api, 12).await;
    let dead = api
        .endpoint_that("acme", json!({"uid": "other", "retry": {"delaysMs": []}}), |_, _| Behaviour::Answer(500))
        .await;
    api.send("acme", json!({"n": 12})).await;
    dead.expect(1).await;
    until(|| async { stats(&api).await["fail"] == 13 }).await;

    let preview = json!({"endpointId": "main"});
    assert_eq!(api.http.post("/app/acme/replay/preview", preview).await.is(200), json!({"count": 13}));
    mended.store(true, Ordering::SeqCst);
    let job = api.http.post("/app/acme/endpoint/main/recover", json!({"since": LONG_AGO})).await.is(202);
    assert_eq!((&job["task"], &job["status"]), (&json!("endpoint.recover"), &json!("running")));
    receiver.expect(26).await;
    until(|| async { stats(&api).await["success"] == 13 }).await;
    let id = job["id"].as_str().unwrap();
    until(|| async { api.http.get(&format!("/background-task/{id}")).await.is(200)["status"] == "finished" }).await;
    let job = api.http.get(&format!("/app/acme/replay/{id}")).await.is(200);
    assert_eq!((&job["total"], &job["replayed"], &job["skipped"]), (&json!(13), &json!(13), &json!(0)));
    assert_eq!(dead.received().len(), 1, "the other endpoint's letter stays dead");
    assert_eq!(api.http.get("/app/acme/replay").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_recovery_goes_on_after_a_restart_in_its_middle_and_replays_each_letter_once() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let letters = 250;
    let (receiver, mended) = with_dead_letters(&api, letters).await;
    mended.store(true, Ordering::SeqCst);
    let job = api.http.post("/app/acme/endpoint/main/recover", json!({"since": LONG_AGO})).await.is(202);
    let path = format!("/app/acme/replay/{}", job["id"].as_str().unwrap());
    until(|| async { api.http.get(&path).await.is(200)["replayed"].as_u64().unwrap() >= 5 }).await;
    let before = api.http.get(&path).await.is(200)["replayed"].as_u64().unwrap();
    assert!(before < letters as u64, "the restart is in its middle: {before}");
    api.restart().await;
    until(|| async { api.http.get(&path).await.is(200)["status"] == "finished" }).await;
    until(|| async { stats(&api).await["success"] == letters }).await;
    let mut received: Vec<_> =
        receiver.received().iter().map(|request| request.header("svix-id").unwrap().to_owned()).collect();
    assert_eq!(received.len(), letters * 2, "one failure and one replay each");
    received.sort();
    received.dedup();
    assert_eq!(received.len(), letters);
    assert_eq!(api.http.get(&path).await.is(200)["replayed"], letters);
}

#[tokio::test]
async fn a_job_that_is_killed_in_its_middle_skips_no_letter() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let letters = 60;
    let (receiver, mended) = with_dead_letters(&api, letters).await;
    mended.store(true, Ordering::SeqCst);
    let job = api.http.post("/app/acme/replay", json!({"endpointId": "main", "rate": 30})).await.is(202);
    let path = format!("/app/acme/replay/{}", job["id"].as_str().unwrap());
    until(|| async { api.http.get(&path).await.is(200)["replayed"].as_u64().unwrap() >= 5 }).await;
    api.kill_and_restart().await;
    let after = api.http.get(&path).await.is(200);
    assert!(after["replayed"].as_u64().unwrap() < letters as u64, "the kill was in its middle: {after}");
    until(|| async { api.http.get(&path).await.is(200)["status"] == "finished" }).await;
    until(|| async { stats(&api).await["success"] == letters }).await;
    let mut received: Vec<_> =
        receiver.received().iter().map(|request| request.header("svix-id").unwrap().to_owned()).collect();
    received.sort();
    received.dedup();
    assert_eq!(received.len(), letters);
}

#[tokio::test]
async fn a_stopped_job_stays_stopped() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let (_receiver, _) = with_dead_letters(&api, 5).await;
    let job = api.http.post("/app/acme/replay", json!({"rate": 1})).await.is(202);
    let path = format!("/app/acme/replay/{}", job["id"].as_str().unwrap());
    let stopped = api.http.post(&format!("{path}/stop"), json!({})).await.is(200);
    assert_eq!(stopped["status"], "stopped");
    api.restart().await;
    assert_eq!(api.http.get(&path).await.is(200)["status"], "stopped");
}

#[tokio::test]
async fn a_window_that_ends_before_it_begins_is_refused() {
    let api = Api::start().await;
    api.application("acme").await;
    api.endpoint("acme", json!({"uid": "main"})).await;
    let body = json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"});
    api.http.post("/app/acme/endpoint/main/recover", body.clone()).await.names(&["body", "since"]);
    api.http.post("/app/acme/replay", body).await.names(&["body", "since"]);
    api.http.post("/app/acme/replay", json!({"rate": 0})).await.names(&["body", "rate"]);
    api.http.post("/app/acme/endpoint/main/recover", json!({})).await.names(&["body", "since"]);
}
