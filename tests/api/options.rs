//! What few messages have: an ordering key, a schedule, an expiry, tags; and what is canceled by them.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::receiver::Behaviour;
use crate::support::until;

async fn send(api: &Api, members: Value) -> Value {
    let mut body = json!({"eventType": "call.completed", "payload": {"n": 1}});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    api.http.post("/app/acme/msg", body).await.is(202)
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_message_keeps_its_options_and_is_found_by_them() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let all =
        json!({"orderingKey": "agent 7", "deliverAt": "2020-01-01T00:00:00Z", "maxAge": 600, "tags": ["user:1", "b"]});
    let first = send(&api, all).await;
    assert_eq!((&first["orderingKey"], &first["tags"]), (&json!("agent 7"), &json!(["user:1", "b"])));
    assert_eq!(first["deliverAt"], Value::Null, "a time that is past means now");
    let time = |value: &Value| value.as_str().unwrap().parse::<ringback::Timestamp>().unwrap();
    let age = time(&first["expireAt"]).since(time(&first["timestamp"]));
    assert_eq!(age.as_secs(), 600);
    let second = send(&api, json!({"expireAt": "2090-01-01T00:00:00Z", "tags": ["user:1"]})).await;
    assert_eq!((&second["expireAt"], &second["orderingKey"]), (&json!("2090-01-01T00:00:00Z"), &Value::Null));
    let plain = send(&api, json!({})).await;
    assert_eq!((&plain["tags"], &plain["expireAt"]), (&Value::Null, &Value::Null));
    api.restart().await;
    for message in [&first, &second, &plain] {
        let path = format!("/app/acme/msg/{}", message["id"].as_str().unwrap());
        assert_eq!(api.http.get(&path).await.is(200), *message);
    }
    for (query, expected) in [
        ("tag=user%3A1", vec![&second, &first]),
        ("tag=b", vec![&first]),
        ("ordering_key=agent%207", vec![&first]),
        ("ordering_key=agent%208", vec![]),
        ("tag=user%3A1&ordering_key=agent%207", vec![&first]),
    ] {
        let page = api.http.get(&format!("/app/acme/msg?{query}")).await.is(200);
        let expected: Vec<_> = expected.into_iter().map(|message| message["id"].as_str().unwrap()).collect();
        assert_eq!(ids(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn a_payload_that_is_kept_longer_than_is_asked_for_is_refused_by_the_rules_of_its_application_and_event_type() {
    let api = Api::start().await;
    let application = |days: u64| json!({"name": "a", "uid": "acme", "retention": {"keepPayloadsDays": days}});
    api.http.post("/app", application(3)).await.is(201);
    let message = |days: u64| json!({"eventType": "e", "payload": {}, "payloadRetentionPeriod": days});
    api.http.post("/app/acme/msg", message(2)).await.names(&["body", "payloadRetentionPeriod"]);
    api.http.post("/app/acme/msg", message(3)).await.is(202);
    let kept = json!({"name": "e", "description": "e", "retention": {"keepPayloadsDays": 2}});
    api.http.post("/event-type", kept).await.is(201);
    api.http.post("/app/acme/msg", message(2)).await.is(202);
    let longer = json!({"name": "a", "uid": "acme", "retention": {"keepDeliveredDays": 90, "keepEndedDays": 90}});
    api.http.put("/app/acme", longer).await.is(200);
    let other = json!({"eventType": "f", "payload": {}, "payloadRetentionPeriod": 60});
    api.http.post("/app/acme/msg", other).await.names(&["body", "payloadRetentionPeriod"]);
}

#[tokio::test]
async fn the_options_are_part_of_what_an_idempotency_key_stands_for() {
    let api = Api::start().await;
    api.application("acme").await;
    let body = |members: Value| {
        let mut body = json!({"eventType": "e", "payload": {}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body
    };
    let options = [
        json!({}),
        json!({"orderingKey": "a"}),
        json!({"tags": ["a"]}),
        json!({"channels": ["a"]}),
        json!({"maxAge": 5}),
        json!({"deliverAt": "2020-01-01T00:00:00Z"}),
        json!({"expireAt": "2090-01-01T00:00:00Z"}),
    ];
    for (number, first) in options.iter().enumerate() {
        let key = format!("k{number}");
        let sent = api.http.post_under(&key, "/app/acme/msg", body(first.clone())).await.is(202);
        for other in &options {
            let again = api.http.post_under(&key, "/app/acme/msg", body(other.clone())).await;
            match first == other {
                true => assert_eq!(again.is(202)["id"], sent["id"]),
                false => drop(again.is(409)),
            }
        }
    }
}

#[tokio::test]
async fn a_held_delivery_shows_whom_it_waits_for_and_counts_as_pending() {
    let api = Api::start().await;
    api.application("acme").await;
    let settings = json!({"uid": "main", "retry": {"delaysMs": [3_600_000], "jitter": 0.0}});
    let receiver = api.endpoint_that("acme", settings, |_, _| Behaviour::Answer(500)).await;
    let first = send(&api, json!({"orderingKey": "a"})).await;
    let second = send(&api, json!({"orderingKey": "a"})).await;
    receiver.wait_for(1).await;
    let path = format!("/app/acme/msg/{}/endpoint", second["id"].as_str().unwrap());
    let shown = api.http.get(&path).await.is(200)["data"][0].clone();
    assert_eq!(shown["state"], json!({"state": "held", "behind": first["id"]}));
    assert_eq!(
        (&shown["status"], &shown["statusText"], &shown["nextAttempt"]),
        (&json!(1), &json!("pending"), &Value::Null)
    );
    until(|| async { api.http.get("/app/acme/endpoint/main/stats").await.is(200)["pending"] == 2 }).await;
    let pending = api.http.get("/app/acme/endpoint/main/msg?status=1").await.is(200);
    assert_eq!(ids(&pending).len(), 2);
    let doctor = api.http.get("/doctor").await.is(200);
    let counts = &doctor["applications"][0];
    assert_eq!(
        (&counts["held"], &counts["waiting"], &counts["addsUp"]),
        (&json!(1), &json!(1), &json!(true)),
        "{doctor}"
    );
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn what_fits_a_filter_is_counted_and_then_canceled() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let later = || json!({"deliverAt": in_an_hour(), "tags": ["user:1"]});
    for _ in 0..3 {
        send(&api, later()).await;
    }
    let kept = send(&api, json!({"deliverAt": in_an_hour(), "tags": ["user:2"]})).await;
    let cancel = async |body: Value| api.http.post("/app/acme/cancel", body).await.is(200);
    let done = |count: u64| json!({"canceled": count, "iterator": null, "done": true});
    assert_eq!(cancel(json!({"tag": "user:1", "preview": true})).await, done(3));
    assert_eq!(cancel(json!({"tag": "user:1", "endpointId": "main"})).await, done(3));
    assert_eq!(cancel(json!({"tag": "user:1"})).await, done(0));
    let path = format!("/app/acme/msg/{}/endpoint", kept["id"].as_str().unwrap());
    assert_eq!(api.http.get(&path).await.is(200)["data"][0]["state"]["state"], "waiting");
    let stats = api.http.get("/app/acme/endpoint/main/stats").await.is(200);
    assert_eq!((&stats["canceled"], &stats["pending"]), (&json!(3), &json!(1)));
    // Once under one key, also where there would be more to cancel meanwhile.
    let body = json!({"since": "2020-01-01T00:00:00Z"});
    let first = api.http.post_under("k", "/app/acme/cancel", body.clone()).await.is(200);
    assert_eq!(first, done(1));
    send(&api, later()).await;
    assert_eq!(api.http.post_under("k", "/app/acme/cancel", body).await.is(200), first);
    assert_eq!(receiver.count(), 0);
}

fn in_an_hour() -> String {
    use ringback::clock::{Clock, SystemClock};
    let now = SystemClock::starting_after(ringback::Timestamp::ZERO).now();
    (now + std::time::Duration::from_secs(3600)).to_string()
}
