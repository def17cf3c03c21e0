//! Applications, endpoints and event types: made, changed, listed, deleted, by id and by uid.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Behaviour, until};

#[tokio::test]
async fn an_application_is_made_found_changed_replaced_and_deleted() {
    let api = Api::start().await;
    let body =
        json!({"name": "Acme", "uid": "acme", "metadata": {"a": "1"}, "rateLimit": 7, "maxInFlight": 5, "weight": 2});
    let made = api.http.post("/app/", body.clone()).await.is(201);
    assert_eq!((&made["throttleRate"], &made["rateLimit"]), (&json!(7), &json!(7)));
    api.http.post("/app", body.clone()).await.is(409);
    assert_eq!(api.http.post("/app?get_if_exists=true", body).await.is(200), made);
    assert_eq!(api.http.get("/app/acme").await.is(200), made);
    assert_eq!(api.http.get(&format!("/app/{}/", made["id"].as_str().unwrap())).await.is(200), made);

    let changed = api.http.patch("/app/acme", json!({"metadata": null, "name": "Acme Ltd"})).await.is(200);
    assert_eq!(
        (&changed["name"], &changed["metadata"], &changed["throttleRate"]),
        (&json!("Acme Ltd"), &json!({}), &json!(7))
    );
    assert_eq!(changed["createdAt"], made["createdAt"]);
    let replaced = api.http.put("/app/acme", json!({"name": "Acme", "uid": "acme"})).await.is(200);
    assert_eq!((&replaced["id"], &replaced["throttleRate"]), (&made["id"], &Value::Null));
    // Clients of before do not know these, and do not reset them unknowingly.
    assert_eq!((&replaced["maxInFlight"], &replaced["weight"]), (&json!(5), &json!(2)));
    let reset = api.http.patch("/app/acme", json!({"maxInFlight": null, "weight": 100})).await.is(200);
    assert_eq!((&reset["maxInFlight"], &reset["weight"]), (&Value::Null, &json!(100)));
    let upserted = api.http.put("/app/fresh", json!({"name": "Fresh"})).await.is(201);
    assert_eq!(upserted["uid"], "fresh");
    api.http.put(&format!("/app/app_{}", "0".repeat(26)), json!({"name": "x"})).await.is(404);

    api.http.delete("/app/acme").await.is(204);
    api.http.get("/app/acme").await.is(404);
    api.http.post("/app", json!({"name": "Acme", "uid": "acme"})).await.is(201);
}

#[tokio::test]
async fn applications_page_both_ways_in_either_order() {
    let api = Api::start().await;
    for number in 0..7 {
        api.application(&format!("a{number}")).await;
    }
    let uids = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|app| app["uid"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.http.get("/app?limit=3").await.is(200);
    assert_eq!(uids(&first), ["a0", "a1", "a2"]);
    let next = format!("/app?limit=3&iterator={}", first["iterator"].as_str().unwrap());
    let second = api.http.get(&next).await.is(200);
    assert_eq!((uids(&second), &second["done"]), (vec!["a3".into(), "a4".into(), "a5".into()], &json!(false)));
    let back = format!("/app?limit=3&iterator={}", second["prevIterator"].as_str().unwrap());
    assert_eq!(uids(&api.http.get(&back).await.is(200)), ["a0", "a1", "a2"]);
    assert_eq!(uids(&api.http.get("/app?limit=2&order=descending").await.is(200)), ["a6", "a5"]);
    let all = api.http.get("/app?limit=250").await.is(200);
    assert_eq!((uids(&all).len(), &all["done"]), (7, &json!(true)));
}

#[tokio::test]
async fn an_endpoint_keeps_all_that_it_was_given() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let body = json!({
        "url": "https://api.acme.example/hooks", "uid": "main", "description": "d", "eventTypes": ["call.*"],
        "channels": ["agent:a"], "metadata": {"k": "v"}, "throttleRate": 50, "headers": {"Authorization": "Bearer canary"},
        "profile": "levrage", "body": "asGiven", "timeoutMs": 2500, "maxInFlight": 3, "weight": 7, "blockedHead": {"rule": "skip", "afterAttempts": 2}, "secret": "any text at all",
        "retry": {"delaysMs": [1000, 5000], "jitter": 0.1, "alsoOn": [429], "maxAgeSeconds": 60}
    });
    let made = api.http.post("/app/acme/endpoint", body).await.is(201);
    for (name, expected) in [
        ("profile", json!("levrage")),
        ("body", json!("asGiven")),
        ("timeoutMs", json!(2500)),
        ("maxInFlight", json!(3)),
        ("weight", json!(7)),
        ("blockedHead", json!({"rule": "skip", "afterAttempts": 2})),
        ("retry", json!({"delaysMs": [1000, 5000], "jitter": 0.1, "alsoOn": [429], "maxAgeSeconds": 60})),
        ("filterTypes", json!(["call.*"])),
        ("eventTypes", json!(["call.*"])),
        ("channels", json!(["agent:a"])),
        ("rateLimit", json!(50)),
        ("disabled", json!(false)),
    ] {
        assert_eq!(made[name], expected, "{name}");
    }
    assert!(!made.to_string().contains("canary"), "{made}");
    api.restart().await;
    assert_eq!(api.http.get("/app/acme/endpoint/main").await.is(200), made);
    assert_eq!(api.http.get("/app/acme/endpoint/main/secret").await.is(200), json!({"key": "any text at all"}));
    let headers = api.http.get("/app/acme/endpoint/main/headers").await.is(200);
    assert_eq!(headers, json!({"headers": {}, "sensitive": ["Authorization"]}));
}

#[tokio::test]
async fn put_replaces_what_clients_know_and_keeps_what_only_this_server_has() {
    let api = Api::start().await;
    api.application("acme").await;
    let body = json!({"url": "https://a.example/", "uid": "main", "profile": "subverse", "eventTypes": ["call.placed"],
                      "timeoutMs": 900, "headers": {"x-a": "1"}, "disabled": true, "metadata": {"k": "v"}});
    let made = api.http.post("/app/acme/endpoint", body).await.is(201);
    assert_eq!(made["disabled"], true);
    let body = json!({"url": "https://b.example/", "uid": "main", "filterTypes": ["call.completed"]});
    let put = api.http.put("/app/acme/endpoint/main", body).await.is(200);
    assert_eq!((&put["id"], &put["url"], &put["disabled"]), (&made["id"], &json!("https://b.example/"), &json!(false)));
    assert_eq!((&put["metadata"], &put["eventTypes"]), (&json!({}), &json!(["call.completed"])));
    assert_eq!((&put["profile"], &put["timeoutMs"]), (&json!("subverse"), &json!(900)));
    let headers = api.http.get("/app/acme/endpoint/main/headers").await.is(200);
    assert_eq!(headers, json!({"headers": {"x-a": "1"}, "sensitive": []}));
    let fresh = api.http.put("/app/acme/endpoint/fresh", json!({"url": "https://c.example/"})).await.is(201);
    assert_eq!(fresh["uid"], "fresh");
}

#[tokio::test]
async fn patch_changes_what_it_names_and_null_resets() {
    let api = Api::start().await;
    api.application("acme").await;
    let body =
        json!({"url": "https://a.example/", "uid": "main", "timeoutMs": 900, "channels": ["c"], "description": "d"});
    api.http.post("/app/acme/endpoint", body).await.is(201);
    let change = json!({"timeoutMs": null, "channels": null, "disabled": true});
    let patched = api.http.patch("/app/acme/endpoint/main", change).await.is(200);
    assert_eq!(
        (&patched["timeoutMs"], &patched["channels"], &patched["disabled"]),
        (&Value::Null, &Value::Null, &json!(true))
    );
    assert_eq!((&patched["description"], &patched["url"]), (&json!("d"), &json!("https://a.example/")));
    let patched = api.http.patch("/app/acme/endpoint/main", json!({"disabled": false})).await.is(200);
    assert_eq!(patched["disabled"], false);
    let unnamed = api.http.patch("/app/acme/endpoint/main", json!({"uid": null})).await.is(200);
    assert_eq!(unnamed["uid"], Value::Null);
    api.http.get("/app/acme/endpoint/main").await.is(404);
}

#[tokio::test]
async fn headers_are_set_added_and_removed() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let path = "/app/acme/endpoint/main/headers";
    api.http.put(path, json!({"headers": {"X-A": "1", "X-B": "2"}})).await.is(204);
    api.http.patch(path, json!({"headers": {"x-b": null, "X-C": "3"}})).await.is(204);
    assert_eq!(api.http.get(path).await.is(200), json!({"headers": {"X-A": "1", "X-C": "3"}, "sensitive": []}));
    api.http.patch(path, json!({"headers": {}, "deleteHeaders": ["X-C"]})).await.is(204);
    api.send("acme", json!({})).await;
    let received = receiver.expect(1).await;
    assert_eq!(
        (received[0].header("x-a"), received[0].header("x-b"), received[0].header("x-c")),
        (Some("1"), None, None)
    );
    api.http.patch(path, json!({"headers": {"content-length": "1"}})).await.names(&["body", "headers"]);
}

#[tokio::test]
async fn the_values_of_sensitive_headers_are_sent_and_never_shown() {
    let api = Api::start().await;
    api.application("acme").await;
    let given = json!({"uid": "main", "headers": {"X-Team": "blue", "X-Api-Key": "canary-1"}});
    let receiver = api.endpoint("acme", given).await;
    let path = "/app/acme/endpoint/main/headers";
    let shown = async || api.http.get(path).await.is(200);
    assert_eq!(shown().await, json!({"headers": {"X-Team": "blue"}, "sensitive": ["X-Api-Key"]}));
    api.http.patch(path, json!({"headers": {"X-Partner": "canary-2"}, "sensitive": ["x-partner"]})).await.is(204);
    assert_eq!(shown().await, json!({"headers": {"X-Team": "blue"}, "sensitive": ["X-Api-Key", "X-Partner"]}));
    // Marked without being set; and nothing that was hidden comes to light by being set again.
    api.http.patch(path, json!({"headers": {}, "sensitive": ["X-Team"]})).await.is(204);
    api.http.patch(path, json!({"headers": {"X-Partner": "canary-3", "x-team": "canary-4"}})).await.is(204);
    assert_eq!(shown().await, json!({"headers": {}, "sensitive": ["X-Api-Key", "X-Partner", "x-team"]}));
    api.http.put(path, json!({"headers": {"X-Partner": "canary-5", "X-New": "n"}})).await.is(204);
    assert_eq!(shown().await, json!({"headers": {"X-New": "n"}, "sensitive": ["X-Partner"]}));
    let put = json!({"url": receiver.url, "headers": {"X-Partner": "canary-6"}});
    api.http.put("/app/acme/endpoint/main", put).await.is(200);
    assert_eq!(shown().await, json!({"headers": {}, "sensitive": ["X-Partner"]}));
    api.send("acme", json!({})).await;
    assert_eq!(receiver.expect(1).await[0].header("x-partner"), Some("canary-6"));
    // Only whoever sets all anew and says what is sensitive makes one that is shown; a credential never is.
    let plain = json!({"headers": {"X-Partner": "known", "Authorization": "Bearer canary"}, "sensitive": []});
    api.http.put(path, plain).await.is(204);
    assert_eq!(shown().await, json!({"headers": {"X-Partner": "known"}, "sensitive": ["Authorization"]}));
    for body in
        [json!({"headers": {}, "sensitive": ["X-None"]}), json!({"headers": {"X-A": null}, "sensitive": ["X-A"]})]
    {
        api.http.patch(path, body).await.names(&["body", "sensitive"]);
    }
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_old_one() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let old = api.http.get("/app/acme/endpoint/main/secret").await.is(200);
    let new = api.http.post("/app/acme/endpoint/main/secret/rotate", json!({"gracePeriodSeconds": 60})).await.is(200);
    assert_ne!(old, new);
    assert_eq!(api.http.get("/app/acme/endpoint/main/secret").await.is(200), new);
    api.send("acme", json!({})).await;
    let received = receiver.expect(1).await;
    assert_eq!(received[0].header("svix-signature").unwrap().split(' ').count(), 2);
    api.http
        .post("/app/acme/endpoint/main/secret/rotate", json!({"gracePeriodSeconds": 604_801}))
        .await
        .names(&["body", "gracePeriodSeconds"]);
    api.http.post("/app/acme/endpoint/main/secret/rotate", json!({"key": "whsec_x"})).await.names(&["body", "key"]);
}

#[tokio::test]
async fn the_public_half_of_a_key_pair_is_what_is_shown() {
    let api = Api::start().await;
    api.application("acme").await;
    let pair = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let body = json!({"url": "https://a.example/", "uid": "main", "secret": pair});
    api.http.post("/app/acme/endpoint", body).await.is(201);
    let shown = api.http.get("/app/acme/endpoint/main/secret").await.is(200);
    assert!(shown["key"].as_str().unwrap().starts_with("whpk_"), "{shown}");
}

#[tokio::test]
async fn an_example_is_sent_as_a_test_and_an_event_type_may_bring_its_own() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main", "eventTypes": ["never"]})).await;
    let levrage = api.endpoint("acme", json!({"uid": "levrage", "profile": "levrage", "secret": "s3cret"})).await;
    let schemas = json!({"1": {"type": "object", "examples": [{"invoice": 7}]}});
    let body = json!({"name": "invoice.paid", "description": "An invoice was paid", "schemas": schemas});
    api.http.post("/event-type", body).await.is(201);
    let path = "/app/acme/endpoint/main/send-example";
    let sent = api.http.post(path, json!({"eventType": "invoice.paid"})).await.is(200);
    assert_eq!((&sent["test"], &sent["payload"]), (&json!(true), &json!({"invoice": 7})));
    assert_eq!(receiver.expect(1).await[0].body, br#"{"invoice":7}"#);
    api.http.post("/app/acme/endpoint/levrage/send-example", json!({"eventType": "CALL_ENDED"})).await.is(200);
    assert!(levrage.expect(1).await[0].header("x-levrage-signature").is_some());
    api.http
        .post("/app/acme/endpoint/levrage/send-example", json!({"eventType": "no.such"}))
        .await
        .names(&["body", "eventType"]);
}

#[tokio::test]
async fn event_types_are_registered_archived_and_removed() {
    let mut api = Api::start().await;
    for name in ["call.placed", "call.completed", "-odd", "workflow.failed"] {
        api.http.post("/event-type", json!({"name": name, "description": "d"})).await.is(201);
    }
    api.http.post("/event-type", json!({"name": "call.placed", "description": "d"})).await.is(409);
    let names = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.http.get("/event-type?limit=2").await.is(200);
    assert_eq!(names(&first), ["-odd", "call.completed"]);
    let back = api.http.get("/event-type?limit=2&order=descending").await.is(200);
    assert_eq!(names(&back), ["workflow.failed", "call.placed"]);
    let next = format!("/event-type?limit=2&order=descending&iterator={}", back["iterator"].as_str().unwrap());
    assert_eq!(names(&api.http.get(&next).await.is(200)), ["call.completed", "-odd"]);

    api.http.patch("/event-type/call.placed", json!({"deprecated": true, "schemas": {"1": {}}})).await.is(200);
    api.http.delete("/event-type/call.placed").await.is(204);
    api.restart().await;
    let archived = api.http.get("/event-type/call.placed").await.is(200);
    assert_eq!(
        (&archived["archived"], &archived["deprecated"], &archived["schemas"]),
        (&json!(true), &json!(true), &json!({"1": {}}))
    );
    assert_eq!(names(&api.http.get("/event-type").await.is(200)).len(), 3);
    assert_eq!(names(&api.http.get("/event-type?include_archived=true").await.is(200)).len(), 4);
    api.http.delete("/event-type/call.placed?expunge=true").await.is(204);
    api.http.get("/event-type/call.placed").await.is(404);
    let put = json!({"description": "again"});
    assert_eq!(api.http.put("/event-type/call.placed", put.clone()).await.is(201)["archived"], false);
    api.http.put("/event-type/call.placed", put).await.is(200);
}

#[tokio::test]
async fn a_message_may_bring_its_application_along() {
    let api = Api::start().await;
    let body = json!({"eventType": "e", "payload": {}, "application": {"name": "New", "uid": "new"}});
    api.http.post("/app/new/msg", body.clone()).await.is(202);
    api.http.post("/app/new/msg", body.clone()).await.is(202);
    assert_eq!(api.http.get("/app/new").await.is(200)["name"], "New");
    api.http.post("/app/other/msg", body).await.names(&["body", "application", "uid"]);
    api.http.post("/app/nobody/msg", json!({"eventType": "e", "payload": {}})).await.is(404);
}

#[tokio::test]
async fn the_doctor_s_counts_add_up() {
    let api = Api::start().await;
    api.application("acme").await;
    for _ in 0..3 {
        api.delivered("acme").await;
    }
    let report = api.http.get("/doctor").await.is(200);
    let counts = &report["applications"][0];
    assert_eq!((&report["ok"], &counts["messages"], &counts["addsUp"]), (&json!(true), &json!(3), &json!(true)));
    // The second went to two endpoints, the third to three.
    assert_eq!(counts["routed"], 6);
    api.http.anonymous().get("/health").await.is(200);
    api.http.anonymous().get("/health/ping").await.is(204);
    assert_eq!(api.http.anonymous().ask("HEAD", "/health", &[], b"").await.status, 200);
}

#[tokio::test]
async fn what_is_put_again_under_its_uid_stays_one_and_keeps_the_uid() {
    let api = Api::start().await;
    for (path, body) in [
        ("/app/acme", json!({"name": "Acme"})),
        ("/app/acme/endpoint/main", json!({"url": "https://a.example/"})),
        ("/app/acme/endpoint/main", json!({"url": "https://b.example/", "uid": null})),
    ] {
        let first = api.http.put(path, body.clone()).await.json();
        for _ in 0..2 {
            let again = api.http.put(path, body.clone()).await.is(200);
            assert_eq!((&again["id"], &again["uid"]), (&first["id"], &first["uid"]), "{path}");
        }
    }
    for list in ["/app", "/app/acme/endpoint"] {
        assert_eq!(api.http.get(list).await.is(200)["data"].as_array().unwrap().len(), 1, "{list}");
    }
}

#[tokio::test]
async fn an_endpoint_that_rests_is_shown_with_when_its_rest_ends() {
    let environment = [
        ("RINGBACK_BREAKER_FAILURES", "10"),
        ("RINGBACK_BREAKER_REST_SECONDS", "600"),
        ("RINGBACK_BREAKER_MAX_REST_SECONDS", "600"),
    ];
    let api = Api::start_with(&environment).await;
    api.application("acme").await;
    let settings = json!({"uid": "main", "maxInFlight": 2, "retry": {"delaysMs": [1, 1, 1], "jitter": 0}});
    let receiver = api.endpoint_that("acme", settings, |_, _| Behaviour::Answer(500)).await;
    let path = "/app/acme/endpoint/main/health";
    let unknown = json!({"breaker": {"state": "closed"}, "failures": 0, "cap": 2, "inFlight": 0, "pace": "slow",
        "failing": null});
    assert_eq!(api.http.get(path).await.is(200), unknown);
    let mut last = String::new();
    for _ in 0..6 {
        last = api.send("acme", json!({})).await;
    }
    until(async || api.http.get(path).await.is(200)["breaker"]["state"] == "resting").await;
    until(async || api.http.get(path).await.is(200)["inFlight"] == 0).await;
    // How long it has failed is counted once that is on disk, a moment later.
    until(async || {
        let health = api.http.get(path).await.is(200);
        health["failing"]["failures"] == health["failures"]
    })
    .await;
    let resting = api.http.get(path).await.is(200);
    assert_eq!((&resting["cap"], resting["failures"].as_u64() >= Some(10)), (&json!(0), true), "{resting}");
    let end: ringback::Timestamp = resting["breaker"]["until"].as_str().unwrap().parse().unwrap();
    assert!(end > ringback::Timestamp::ZERO);
    let destinations = api.http.get(&format!("/app/acme/msg/{last}/endpoint")).await.is(200);
    assert_eq!(destinations["data"][0]["health"], resting);
    assert!((10..=11).contains(&receiver.count()), "{}", receiver.count());
    // Another application's token finds nothing.
    api.application("other").await;
    let token = api.token_of("other").await;
    api.http.with(token).get(path).await.is(404);
}
