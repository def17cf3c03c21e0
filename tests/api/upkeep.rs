//! What an operator has done to the store: compaction.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::until;

#[tokio::test]
async fn a_compaction_runs_in_the_background_and_says_how_it_stands() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let message = api.send("acme", json!({"n": 1})).await;
    let none = api.http.get("/compact").await.is(200);
    assert_eq!((&none["status"], &none["copiedBytes"]), (&json!("none"), &Value::Null));
    let kept = none["keptBytes"].as_u64().unwrap();
    assert!(kept > 0 && none["diskBytes"].as_u64().unwrap() > kept, "{none}");
    for number in 1..=2 {
        let begun = api.http.post("/compact", json!({})).await.is(202);
        assert!(["running", "finished"].contains(&begun["status"].as_str().unwrap()), "{begun}");
        until(async || api.http.get("/compact").await.is(200)["status"] == "finished").await;
        let finished = api.http.get("/compact").await.is(200);
        assert!(finished["beforeBytes"].as_u64() > Some(0) && finished["afterBytes"].as_u64() > Some(0), "{finished}");
        assert!(api.data().join(format!("sled.{number}")).is_dir());
        api.http.get(&format!("/app/acme/msg/{message}")).await.is(200);
    }
    assert_eq!(api.http.get("/doctor").await.is(200)["store"]["keptBytes"], json!(kept));
    api.kill_and_restart().await;
    assert_eq!(api.http.get("/compact").await.is(200)["status"], "none", "since this start");
    assert_eq!(api.http.get(&format!("/app/acme/msg/{message}")).await.is(200)["payload"], json!({"n": 1}));
}

#[tokio::test]
async fn a_compaction_without_room_is_refused() {
    let api = Api::start_with(&[("RINGBACK_MIN_FREE_BYTES", "1152921504606846976")]).await;
    let refused = api.http.post("/compact", json!({})).await.is(409);
    assert_eq!(refused["code"], "not_compacted");
    assert!(refused["detail"].as_str().unwrap().contains("make room"), "{refused}");
    api.http.post("/compact", json!({"now": true})).await.names(&["body", "now"]);
}
