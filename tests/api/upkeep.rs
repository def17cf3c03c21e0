//! What an operator has done to the store: compaction, and rules of retention.

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

#[tokio::test]
async fn rules_of_retention_are_kept_shown_and_checked() {
    let mut api = Api::start().await;
    let rule = json!({"keepDeliveredDays": 7, "keepPayloadsDays": 0.5, "deleteOnSuccess": false});
    let made = api.http.post("/app", json!({"name": "A", "uid": "acme", "retention": rule})).await.is(201);
    assert_eq!(made["retention"], rule);
    let typed = json!({"name": "a.b", "description": "", "retention": {"keepEndedDays": 3}});
    assert_eq!(api.http.post("/event-type", typed).await.is(201)["retention"], json!({"keepEndedDays": 3}));
    api.restart().await;
    let patched = api.http.ask("PATCH", "/app/acme", &[], br#"{"name":"B"}"#).await.is(200);
    assert_eq!(patched["retention"], rule, "what is absent stays");
    assert_eq!(api.http.get("/event-type/a.b").await.is(200)["retention"], json!({"keepEndedDays": 3}));
    let put = api.http.ask("PUT", "/app/acme", &[], br#"{"name":"B"}"#).await.is(200);
    assert_eq!(put["retention"], rule, "a client that does not know it keeps it");
    let put = api.http.ask("PUT", "/event-type/a.b", &[], br#"{"description":"c"}"#).await.is(200);
    assert_eq!(put["retention"], json!({"keepEndedDays": 3}));
    let put = api.http.ask("PUT", "/event-type/a.b", &[], br#"{"description":"c","retention":null}"#).await.is(200);
    assert_eq!(put["retention"], Value::Null);
    let reset = api.http.ask("PATCH", "/app/acme", &[], br#"{"retention":null}"#).await.is(200);
    assert_eq!(reset["retention"], Value::Null);
    for (member, value) in [
        ("keepPayloadsDays", json!({"keepPayloadsDays": 91})),
        ("keepDeliveredDays", json!({"keepDeliveredDays": 0})),
        ("keepEndedDays", json!({"keepEndedDays": "7"})),
        ("deleteOnSuccess", json!({"deleteOnSuccess": true, "keepPayloadsDays": 1})),
        ("keepDays", json!({"keepDays": 1})),
    ] {
        let body = json!({"name": "B", "retention": value});
        let loc = ["body", "retention", member];
        api.http.ask("PUT", "/app/acme", &[], body.to_string().as_bytes()).await.names(&loc);
        let body = json!({"retention": value});
        api.http.ask("PATCH", "/event-type/a.b", &[], body.to_string().as_bytes()).await.names(&loc);
    }
}

#[tokio::test]
async fn a_payload_goes_as_soon_as_it_is_delivered_where_that_is_the_rule() {
    let api = Api::start().await;
    let rule = json!({"deleteOnSuccess": true});
    api.http.post("/app", json!({"name": "A", "uid": "acme", "retention": rule})).await.is(201);
    api.application("other").await;
    let mut receivers = Vec::new();
    for application in ["acme", "other"] {
        receivers.push(api.endpoint(application, json!({})).await);
    }
    let gone = api.send("acme", json!({"n": 1})).await;
    let kept = api.send("other", json!({"n": 1})).await;
    receivers[0].wait_for(1).await;
    receivers[1].wait_for(1).await;
    until(async || api.http.get(&format!("/app/acme/msg/{gone}")).await.is(200)["payload"] != json!({"n": 1})).await;
    assert_eq!(api.http.get(&format!("/app/other/msg/{kept}")).await.is(200)["payload"], json!({"n": 1}));
    let resend = api.http.get("/app/acme/endpoint").await.is(200)["data"][0]["id"].as_str().unwrap().to_owned();
    let resend = api.http.post(&format!("/app/acme/msg/{gone}/endpoint/{resend}/resend"), json!({})).await;
    assert!((400..500).contains(&resend.status), "there is nothing to send: {}", resend.status);
}

#[tokio::test]
async fn messages_are_erased_by_a_tag_or_one_by_one_and_an_application_as_a_whole() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({})).await;
    let mut sent = Vec::new();
    for (number, tag) in ["user:1", "user:1", "user:2"].into_iter().enumerate() {
        let body =
            json!({"eventType": "a.b", "payload": {"n": number}, "tags": [tag], "eventId": format!("e{number}")});
        sent.push(api.http.post("/app/acme/msg", body).await.is(202)["id"].as_str().unwrap().to_owned());
    }
    receiver.wait_for(3).await;
    let erase = async |body: Value| api.http.post("/app/acme/erase", body).await;
    assert_eq!(erase(json!({"tag": "user:1", "preview": true})).await.is(200), json!({"count": 2}));
    assert_eq!(erase(json!({"tag": "nobody", "preview": true})).await.is(200), json!({"count": 0}));
    let finished = async |job: &Value| {
        let path = format!("/erase/{}", job["id"].as_str().unwrap());
        until(async || api.http.get(&path).await.is(200)["status"] == "finished").await;
        api.http.get(&path).await.is(200)
    };
    let job = erase(json!({"tag": "user:1"})).await.is(202);
    assert_eq!((&job["what"], &job["messageId"], job.get("tag")), (&json!("tag"), &Value::Null, None));
    let done = finished(&job).await;
    assert_eq!((&done["messages"], &done["deliveries"]), (&json!(2), &json!(2)));
    for message in &sent[..2] {
        api.http.get(&format!("/app/acme/msg/{message}")).await.is(404);
    }
    api.http.get(&format!("/app/acme/msg/{}", sent[2])).await.is(200);
    assert_eq!(finished(&erase(json!({"messageId": sent[2]})).await.is(202)).await["messages"], json!(1));
    erase(json!({"messageId": sent[2]})).await.is(404);
    for (field, body) in [
        ("tag", json!({})),
        ("messageId", json!({"tag": "a", "messageId": sent[0]})),
        ("messageId", json!({"messageId": "x"})),
        ("tag", json!({"tag": ""})),
        ("everything", json!({"everything": true})),
    ] {
        erase(body).await.names(&["body", field]);
    }
    let job = api.http.ask("DELETE", "/app/acme?erase=true", &[], b"").await.is(202);
    assert_eq!(job["what"], "application");
    finished(&job).await;
    api.http.get("/app/acme").await.is(404);
    api.application("acme").await;
    assert_eq!(api.http.get("/erase").await.is(200)["data"].as_array().unwrap().len(), 3);
    api.http.get("/erase/job_00000000000000000000000000").await.is(404);
}
