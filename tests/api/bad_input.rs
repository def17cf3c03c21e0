//! What cannot be taken is refused at once, in the API's own shape, and names the field.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::Api;

#[tokio::test]
async fn a_payload_over_the_limit_is_413_and_so_is_a_request_over_64_kib_more() {
    let api = Api::start().await;
    api.application("acme").await;
    let message = |bytes: usize| {
        let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        format!("{{\"eventType\":\"e\",\"payload\":{payload}}}").into_bytes()
    };
    let limit = 1 << 20;
    api.http.ask("POST", "/app/acme/msg", &[], &message(limit)).await.is(202);
    for bytes in [limit + 1, limit + 200 * 1024, limit * 8] {
        let refused = api.http.ask("POST", "/app/acme/msg", &[], &message(bytes)).await.is(413);
        assert_eq!(refused["code"], "payload_too_large");
    }
    assert_eq!(api.http.get("/app/acme/msg?with_content=false").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_never_says_how_long_it_is_ends_at_the_limit() {
    let api = Api::start().await;
    api.application("acme").await;
    let token = api.http.token.clone().unwrap();
    let mut request = format!(
        "POST /api/v1/app/acme/msg HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..40 {
        request.extend_from_slice(format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16)).as_bytes());
    }
    api.http.raw(&request).await.is(413);
}

#[tokio::test]
async fn a_head_over_16_kib_is_refused_and_the_server_goes_on() {
    let api = Api::start().await;
    let refused = api.http.ask("GET", "/app", &[("x-large", &"a".repeat(20 * 1024))], b"").await;
    assert_eq!(refused.status, 431);
    api.http.get("/app").await.is(200);
}

#[tokio::test]
async fn every_wrong_member_is_named() {
    let api = Api::start().await;
    api.application("acme").await;
    let messages = [
        (json!({"payload": {}}), vec!["body", "eventType"]),
        (json!({"eventType": "e"}), vec!["body", "payload"]),
        (json!({"eventType": 7, "payload": {}}), vec!["body", "eventType"]),
        (json!({"eventType": "e e", "payload": {}}), vec!["body", "eventType"]),
        (json!({"eventType": "e", "payload": [1]}), vec!["body", "payload"]),
        (json!({"eventType": "e", "payload": "text"}), vec!["body", "payload"]),
        (json!({"eventType": "e", "payload": null}), vec!["body", "payload"]),
        (json!({"eventType": "e", "payload": {}, "channels": "a"}), vec!["body", "channels"]),
        (json!({"eventType": "e", "payload": {}, "channels": ["a b"]}), vec!["body", "channels"]),
        (json!({"eventType": "e", "payload": {}, "eventId": ""}), vec!["body", "eventId"]),
        (json!({"eventType": "e", "payload": {}, "occurredAt": "yesterday"}), vec!["body", "occurredAt"]),
        (json!({"eventType": "e", "payload": {}, "orderingKey": ""}), vec!["body", "orderingKey"]),
        (json!({"eventType": "e", "payload": {}, "orderingKey": "k".repeat(257)}), vec!["body", "orderingKey"]),
        (json!({"eventType": "e", "payload": {}, "deliverAt": "9000-01-01T00:00:00Z"}), vec!["body", "deliverAt"]),
        (json!({"eventType": "e", "payload": {}, "deliverAt": "tomorrow"}), vec!["body", "deliverAt"]),
        (json!({"eventType": "e", "payload": {}, "maxAge": 0}), vec!["body", "maxAge"]),
        (
            json!({"eventType": "e", "payload": {}, "maxAge": 1, "expireAt": "2090-01-01T00:00:00Z"}),
            vec!["body", "maxAge"],
        ),
        (
            json!({"eventType": "e", "payload": {}, "deliverAt": "2020-01-01T00:00:00Z", "expireAt": "2019-01-01T00:00:00Z"}),
            vec!["body", "expireAt"],
        ),
        (json!({"eventType": "e", "payload": {}, "tags": ["\n"]}), vec!["body", "tags"]),
        (json!({"eventType": "e", "payload": {}, "tags": vec!["t"; 21]}), vec!["body", "tags"]),
        (json!({"eventType": "e", "payload": {}, "featureFlags": ["a"]}), vec!["body", "featureFlags"]),
        (json!({"eventType": "e", "payload": {}, "payloadRetentionPeriod": 5}), vec!["body", "payloadRetentionPeriod"]),
        (json!({"eventType": "e", "payload": {}, "evenId": "x"}), vec!["body", "evenId"]),
    ];
    for (body, loc) in messages {
        api.http.post("/app/acme/msg", body).await.names(&loc);
    }
    let url = "https://a.example/";
    let endpoints = [
        (json!({}), vec!["body", "url"]),
        (json!({"url": null}), vec!["body", "url"]),
        (json!({"url": "not a url"}), vec!["body", "url"]),
        (json!({"url": "https://10.0.0.1/"}), vec!["body", "url"]),
        (json!({"url": "ftp://a.example/"}), vec!["body", "url"]),
        (json!({"url": url, "profile": "nobody"}), vec!["body", "profile"]),
        (json!({"url": url, "profile": {"name": "x", "singing": {}}}), vec!["body", "profile", "singing"]),
        (json!({"url": url, "body": "wrapped"}), vec!["body", "body"]),
        (json!({"url": url, "timeoutMs": 0}), vec!["body", "timeoutMs"]),
        (json!({"url": url, "timeoutMs": "5s"}), vec!["body", "timeoutMs"]),
        (json!({"url": url, "maxInFlight": 0}), vec!["body", "maxInFlight"]),
        (json!({"url": url, "blockedHead": {"rule": "skip"}}), vec!["body", "blockedHead"]),
        (json!({"url": url, "blockedHead": {"rule": "wait", "afterSeconds": 1}}), vec!["body", "blockedHead"]),
        (json!({"url": url, "blockedHead": {"rule": "drop"}}), vec!["body", "blockedHead", "rule"]),
        (
            json!({"url": url, "blockedHead": {"rule": "skip", "afterAttempts": 52}}),
            vec!["body", "blockedHead", "afterAttempts"],
        ),
        (json!({"url": url, "retry": {"delaysMs": [-1]}}), vec!["body", "retry", "delaysMs[0]"]),
        (json!({"url": url, "throttleRate": 0}), vec!["body", "throttleRate"]),
        (json!({"url": url, "weight": 0}), vec!["body", "weight"]),
        (json!({"url": url, "weight": 101}), vec!["body", "weight"]),
        (json!({"url": url, "throttleRate": 5, "rateLimit": 6}), vec!["body", "throttleRate"]),
        (json!({"url": url, "secret": "whsec_short"}), vec!["body", "secret"]),
        (json!({"url": url, "headers": {"svix-id": "x"}}), vec!["body", "headers"]),
        (json!({"url": url, "eventTypes": ["a b"]}), vec!["body", "eventTypes"]),
        (json!({"url": url, "disabled": "no"}), vec!["body", "disabled"]),
        (json!({"url": url, "uid": "ep_x"}), vec!["body", "uid"]),
        (json!({"url": url, "transformation": "x"}), vec!["body", "transformation"]),
    ];
    for (body, loc) in endpoints {
        api.http.post("/app/acme/endpoint", body).await.names(&loc);
    }
    for (body, loc) in [
        (json!({}), vec!["body", "filter"]),
        (json!({"preview": true}), vec!["body", "filter"]),
        (json!({"tag": "t", "endpoint": "x"}), vec!["body", "endpoint"]),
        (json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}), vec!["body", "since"]),
        (json!({"tag": "t", "iterator": "x"}), vec!["body", "iterator"]),
        (json!({"eventTypes": "a"}), vec!["body", "eventTypes"]),
    ] {
        api.http.post("/app/acme/cancel", body).await.names(&loc);
    }
    api.http.post("/app/acme/cancel", json!({"endpointId": "nobody"})).await.is(404);
    api.http.post("/app", json!({"name": ""})).await.names(&["body", "name"]);
    api.http.post("/app", json!({"name": "x", "uid": "a b"})).await.names(&["body", "uid"]);
    api.http.post("/app", json!({"name": "x", "maxInFlight": 0})).await.names(&["body", "maxInFlight"]);
    api.http.post("/app", json!({"name": "x", "throttleRate": 65_536})).await.names(&["body", "throttleRate"]);
    api.http.patch("/app/acme", json!({"weight": 101})).await.names(&["body", "weight"]);
    api.http.post("/event-type", json!({"description": "d"})).await.names(&["body", "name"]);
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let api = Api::start().await;
    api.application("acme").await;
    for (path, name) in [
        ("/app?limit=0", "limit"),
        ("/app?limit=251", "limit"),
        ("/app?limit=many", "limit"),
        ("/app?order=up", "order"),
        ("/app?limmit=3", "limmit"),
        ("/app/acme/msg?iterator=garbage", "iterator"),
        ("/app/acme/msg?before=noon", "before"),
        ("/app/acme/attempt?status=9", "status"),
        ("/app/acme/attempt?status_code_class=450", "status_code_class"),
        ("/app/acme/attempt?status=2&status_code=500", "status"),
    ] {
        api.http.get(path).await.names(&["query", name]);
    }
}

#[tokio::test]
async fn what_is_not_json_is_422_however_it_is_broken() {
    let api = Api::start().await;
    api.application("acme").await;
    let deep = format!("{{\"eventType\":\"e\",\"payload\":{{}},\"channels\":{}", "[".repeat(100_000));
    for body in
        ["", "{", "null", "[]", "\"x\"", "{\"a\":1}{}", "{\"eventType\":\"e\",\"payload\":{}} x", "\u{0}", &deep]
    {
        let answered = api.http.ask("POST", "/app/acme/msg", &[], body.as_bytes()).await;
        assert_eq!(answered.is(422)["detail"][0]["loc"][0], "body", "{body:.40}");
    }
    let invalid_utf8 = b"{\"eventType\":\"e\",\"payload\":{\"a\":\"\xff\"}}";
    api.http.ask("POST", "/app/acme/msg", &[], invalid_utf8).await.is(422);
    assert_eq!(api.http.get("/app/acme/msg").await.is(200)["data"], json!([]));
}

#[tokio::test]
async fn json_that_nests_deeper_than_128_levels_is_refused_by_its_name() {
    let api = Api::start().await;
    api.application("acme").await;
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let message = |levels: usize| format!(r#"{{"eventType":"e","payload":{}}}"#, nested(levels)).into_bytes();
    // This test's own parser has a limit, too.
    assert_eq!(api.http.ask("POST", "/app/acme/msg", &[], &message(128)).await.status, 202);
    for levels in [129, 100_000] {
        api.http.ask("POST", "/app/acme/msg", &[], &message(levels)).await.names(&["body", "payload"]);
    }
    let raw = json!({"eventType": "e", "payload": {}, "transformationsParams": {"rawPayload": nested(129)}});
    api.http.post("/app/acme/msg", raw).await.names(&["body", "payload"]);
    let schemas = format!(r#"{{"name":"e","description":"","schemas":{}}}"#, nested(129)).into_bytes();
    let refused = api.http.ask("POST", "/event-type", &[], &schemas).await.is(422);
    assert_eq!(refused["detail"][0]["loc"][1], "schemas", "{refused}");
    for path in ["/app", "/app/acme/endpoint", "/app/acme/replay", "/auth/logout"] {
        api.http.ask("POST", path, &[], nested(100_000).as_bytes()).await.is(422);
    }
    assert_eq!(api.http.get("/app/acme/msg?with_content=false").await.is(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_payload_s_bytes_reach_the_receiver_as_they_stood_in_the_request() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({})).await;
    let payload = "{ \"n\": 3.0,\t\"big\":12345678901234567890123, \"e\":\"\\u00e9é\", \"n\": 1e2 }";
    let body = format!("{{\"payload\": {payload} , \"eventType\":\"e\"}}");
    api.http.ask("POST", "/app/acme/msg", &[], body.as_bytes()).await.is(202);
    let received = receiver.expect(1).await;
    assert_eq!(String::from_utf8(received[0].body.clone()).unwrap(), payload);

    let own = json!({"eventType": "e", "payload": {}, "transformationsParams": {"rawPayload": "{\"a\" : 1.0}"}});
    api.http.post("/app/acme/msg", own).await.is(202);
    assert_eq!(receiver.expect(2).await[1].body, b"{\"a\" : 1.0}");
    let both = json!({"eventType": "e", "payload": {"a": 1}, "transformationsParams": {"rawPayload": "{}"}});
    api.http.post("/app/acme/msg", both).await.names(&["body", "payload"]);
}

#[tokio::test]
async fn unknown_ids_are_404_and_say_of_what() {
    let api = Api::start().await;
    api.application("acme").await;
    let id = |prefix: &str| format!("{prefix}_{}", "0".repeat(26));
    for (path, what) in [
        (format!("/app/{}", id("app")), "application"),
        ("/app/nobody".to_owned(), "application"),
        (format!("/app/acme/endpoint/{}", id("ep")), "endpoint"),
        (format!("/app/acme/msg/{}", id("msg")), "message"),
        ("/app/acme/msg/no_such_event".to_owned(), "message"),
        (format!("/app/acme/attempt/msg/{}", id("msg")), "message"),
        (format!("/app/acme/replay/{}", id("job")), "replay job"),
        ("/event-type/nothing".to_owned(), "event type"),
    ] {
        let answer: Value = api.http.get(&path).await.is(404);
        assert_eq!(answer["code"], "not_found", "{path}");
        assert!(answer["detail"].as_str().unwrap().contains(what), "{path}: {answer}");
    }
}

/// Clients write a whole request and only then read: with the connection closed on them they would see no answer at all.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_writes_all_before_it_reads() {
    let api = Api::start().await;
    api.application("acme").await;
    let token = api.http.token.clone().unwrap();
    let large = 8 << 20;
    for (token, path, length, status) in [
        (token.as_str(), "app/acme/msg", large, 413),
        (token.as_str(), "app/acme", large, 405),
        (token.as_str(), "nothing", large, 404),
        ("wrong", "app/acme/msg", large, 401),
        ("wrong", "app/acme/msg", 900 << 10, 401),
    ] {
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut connection = connect(&api).await;
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&vec![b' '; length]).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(first_line(&mut connection).await, format!("HTTP/1.1 {status}"), "{path}");
    }
    // One that asks before it writes is told at once, and not to go on.
    let head = format!(
        "POST /api/v1/app/acme/msg HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\n\
         content-length: {large}\r\n\r\n"
    );
    let mut connection = connect(&api).await;
    connection.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(first_line(&mut connection).await, "HTTP/1.1 413");
}

#[allow(clippy::disallowed_methods, reason = "a test's own client")]
async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(&api.http.address).await.unwrap()
}

/// Version and status of the answer.
async fn first_line(connection: &mut TcpStream) -> String {
    let mut start = [0; 12];
    connection.read_exact(&mut start).await.unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

#[tokio::test]
async fn a_path_that_is_no_text_names_nothing() {
    let api = Api::start().await;
    api.application("acme").await;
    for path in ["/app/%FF", "/app/acme/endpoint/%FF", "/event-type/%FF", "/profile/%FF", "/background-task/%FF"] {
        assert_eq!(api.http.get(path).await.is(404)["code"], "not_found", "{path}");
    }
}

#[tokio::test]
async fn parameters_and_members_of_operations_that_have_none_are_refused() {
    let api = Api::start().await;
    api.application("acme").await;
    let (endpoint, message, attempt) = api.delivered("acme").await;
    for (method, path) in [
        ("GET", "/app/acme"),
        ("HEAD", "/app/acme"),
        ("DELETE", "/app/acme"),
        ("POST", "/app/acme/endpoint"),
        ("POST", &format!("/app/acme/msg/{message}/cancel")),
    ] {
        let answered = api.http.ask(method, &format!("{path}?dry_run=true"), &[], b"").await;
        assert_eq!(answered.status, 422, "{method} {path}");
        if method != "HEAD" {
            answered.names(&["query", "dry_run"]);
        }
    }
    api.http.get("/app/acme?expand=").await.is(200);
    let known = format!("/app/acme/msg/{message}/attempt/{attempt}?expanded_statuses=true");
    api.http.get(&known).await.is(200);
    api.http.get("/health/ping?probe=1").await.is(204);
    api.http.anonymous().get("/app/acme?dry_run=true").await.is(401);
    for path in [
        format!("/app/acme/msg/{message}/cancel"),
        format!("/app/acme/msg/{message}/endpoint/{endpoint}/cancel"),
        format!("/app/acme/msg/{message}/endpoint/{endpoint}/resend"),
        "/auth/logout".to_owned(),
    ] {
        api.http.post(&path, json!({"endpointId": "x"})).await.names(&["body", "endpointId"]);
        api.http.ask("POST", &path, &[], b"{").await.is(422);
    }
    api.http
        .get(&format!("/app/acme/attempt/endpoint/{endpoint}?endpoint_id=x"))
        .await
        .names(&["query", "endpoint_id"]);
    api.http.get(&format!("/app/acme/attempt/msg/{message}?msg_id=x")).await.names(&["query", "msg_id"]);
}
