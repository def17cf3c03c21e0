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
    assert_eq!(api.http.post("/app/acme/replay/preview", preview).await.is(200), json!({"count": 13, "expunged": 0}));
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

#[tokio::test]
async fn what_an_endpoint_never_got_is_given_to_it_as_clients_ask_for_it() {
    let api = Api::start().await;
    api.application("acme").await;
    let old = api.endpoint("acme", json!({"uid": "old"})).await;
    for number in 0..4 {
        api.send("acme", json!({"n": number})).await;
    }
    old.expect(4).await;
    let new = api.endpoint("acme", json!({"uid": "new"})).await;
    let path = "/app/acme/endpoint/new/replay-missing";
    let job = api.http.post(path, json!({"since": LONG_AGO})).await.is(202);
    assert_eq!(job["task"], "endpoint.replay");
    let received = new.expect(4).await;
    let ids = |received: &[crate::support::Received]| {
        received.iter().map(|one| one.header("svix-id").unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&received), ids(&old.expect(4).await));
    let task = format!("/background-task/{}", job["id"].as_str().unwrap());
    until(|| async { api.http.get(&task).await.is(200)["status"] == "finished" }).await;
    let again = api.http.post(path, json!({"since": LONG_AGO})).await.is(202);
    let again = format!("/app/acme/replay/{}", again["id"].as_str().unwrap());
    until(|| async { api.http.get(&again).await.is(200)["status"] == "finished" }).await;
    assert_eq!((&api.http.get(&again).await.is(200)["total"], new.received().len()), (&json!(0), 4));

    let bulk = "/app/acme/endpoint/old/bulk-replay";
    let job = api.http.post(bulk, json!({"since": LONG_AGO, "status": 0, "eventTypes": ["call.*"]})).await.is(202);
    assert_eq!(job["task"], "endpoint.bulk-replay");
    old.expect(8).await;
    api.http.post(bulk, json!({"since": LONG_AGO, "status": 1})).await.names(&["body", "status"]);
    api.http.post(bulk, json!({"since": LONG_AGO, "statusCodeClass": 500})).await.names(&["body", "statusCodeClass"]);
    api.http.post(bulk, json!({})).await.names(&["body", "since"]);
    let of_kind = api.http.get("/background-task?task=endpoint.replay&status=finished").await.is(200);
    assert_eq!(of_kind["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_paused_job_rests_over_a_kill_and_goes_on_when_it_is_resumed() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let letters = 40;
    let (receiver, mended) = with_dead_letters(&api, letters).await;
    mended.store(true, Ordering::SeqCst);
    let job = api.http.post("/app/acme/replay", json!({"endpointId": "main", "rate": 20})).await.is(202);
    let path = format!("/app/acme/replay/{}", job["id"].as_str().unwrap());
    until(|| async { api.http.get(&path).await.is(200)["replayed"].as_u64().unwrap() >= 5 }).await;
    let paused = api.http.post(&format!("{path}/pause"), json!({})).await.is(200);
    assert_eq!((&paused["status"], &paused["remainingSeconds"]), (&json!("paused"), &Value::Null));
    api.kill_and_restart().await;
    assert_eq!(api.http.get(&path).await.is(200), paused, "it rests");
    assert!(paused["replayed"].as_u64().unwrap() < letters as u64);
    let resumed = api.http.post(&format!("{path}/resume"), json!({})).await.is(200);
    assert!(resumed["remainingSeconds"].as_u64().unwrap() >= 1, "{resumed}");
    until(|| async { api.http.get(&path).await.is(200)["status"] == "finished" }).await;
    until(|| async { stats(&api).await["success"] == letters }).await;
    let ended = api.http.get(&path).await.is(200);
    assert_eq!((&ended["replayed"], &ended["skipped"], &ended["lookedAt"]), (&json!(40), &json!(0), &json!(40)));
    let ids: std::collections::BTreeSet<_> =
        receiver.received().iter().map(|request| request.header("svix-id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), letters);
}

#[tokio::test]
async fn a_replay_goes_to_another_endpoint_or_to_a_url_with_the_first_one_s_secret() {
    let api = Api::start().await;
    api.application("acme").await;
    let (_, _) = with_dead_letters(&api, 3).await;
    let spare = api.endpoint("acme", json!({"uid": "spare", "eventTypes": ["none.such"]})).await;
    let body = json!({"what": "failed", "endpointId": "main", "toEndpointId": "spare"});
    let job = api.http.post("/app/acme/replay", body).await.is(202);
    assert_eq!(job["total"], 3);
    spare.expect(3).await;

    let receiver = Receiver::answering(200).await;
    let body = json!({"endpointId": "main", "toUrl": receiver.url});
    let job = api.http.post("/app/acme/replay", body).await.is(202);
    assert_eq!(receiver.expect(3).await.len(), 3);
    let made = format!("/app/acme/endpoint/{}", job["toEndpointId"].as_str().unwrap());
    assert_eq!(api.http.get(&made).await.is(200)["replayOnly"], true);
    let secret = async |path: &str| api.http.get(&format!("{path}/secret")).await.is(200)["key"].clone();
    assert_eq!(secret(&made).await, secret("/app/acme/endpoint/main").await);
    assert_eq!(stats(&api).await["fail"], 3, "where they failed they stay as they are");

    for (body, member) in [
        (json!({"toEndpointId": "spare", "toUrl": "https://a.example/"}), "toUrl"),
        (json!({"toUrl": "https://a.example/"}), "endpointId"),
        (json!({"endpointId": "main", "toUrl": "https://169.254.169.254/"}), "toUrl"),
        (json!({"what": "missing"}), "endpointId"),
        (json!({"what": "some"}), "what"),
        (json!({"eventTypes": [".."]}), "eventTypes"),
        (json!({"channel": "no channel"}), "channel"),
    ] {
        api.http.post("/app/acme/replay", body.clone()).await.names(&["body", member]);
        api.http.post("/app/acme/replay/preview", body).await.names(&["body", member]);
    }
    api.http.post("/app/acme/endpoint/spare", json!({})).await;
    api.http.ask("DELETE", "/app/acme/endpoint/spare", &[], b"").await.is(204);
    api.http.post("/app/acme/replay", json!({"toEndpointId": "spare"})).await.is(404);
}

#[tokio::test]
async fn a_message_goes_to_an_endpoint_that_it_was_not_for_only_if_that_is_asked_for() {
    let api = Api::start().await;
    api.application("acme").await;
    let message = api.send("acme", json!({"n": 1})).await;
    let late = api.endpoint("acme", json!({"uid": "late"})).await;
    let path = format!("/app/acme/msg/{message}/endpoint/late/resend");
    api.http.post(&path, json!({})).await.is(404);
    api.http.post(&path, json!({"add": true})).await.is(202);
    assert_eq!(late.expect(1).await[0].body, br#"{"n":1}"#);
    let to = api.http.get(&format!("/app/acme/msg/{message}")).await.is(200)["routing"]["to"].clone();
    assert_eq!(to.as_array().unwrap().len(), 1, "its log says where it went");
}
