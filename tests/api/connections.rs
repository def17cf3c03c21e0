//! Floods: wrong tokens, and connections that are held.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::api::Api;

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_429_and_stops_nobody_who_was_at_work() {
    let api = Api::start().await;
    api.application("acme").await;
    let (at_work, fresh) = (api.http.with(api.token_of("acme").await), api.http.with(api.token_of("acme").await));
    at_work.from(9).get("/app/acme").await.is(200);
    let wrong = api.http.with("rbk_0000000000000000000000000000000000000000000");
    let mut refused = Vec::new();
    for _ in 0..100 {
        let answered = wrong.get("/app/acme").await;
        match answered.status {
            401 => assert!(refused.len() < 75, "a guess a second, and twenty at once"),
            _ => refused.push(answered),
        }
    }
    assert!(refused.len() >= 50, "{}", refused.len());
    for answered in &refused {
        assert_eq!(answered.is(429)["code"], "authentication_throttled");
        assert_eq!(answered.header("retry-after"), Some("1"));
    }
    // From the same address: those at work go on, and so does who was never seen.
    at_work.get("/app/acme").await.is(200);
    api.http.get("/app").await.is(200);
    api.http.anonymous().get("/app/acme").await.is(401);
    api.http.get("/health/ping").await.is(204);
    fresh.get("/app/acme").await.is(200);
    api.http.with("a-guess").get("/app/acme").await.is(429);
    // What was revoked is known no longer.
    at_work.post("/auth/logout", json!({})).await.is(204);
    at_work.get("/app/acme").await.is(401);
    assert_eq!(at_work.get("/app/acme").await.status, 429);
}

/// One that asked nothing, one in the middle of a head, one that was answered, one that takes nothing of its answer.
#[tokio::test]
async fn connections_that_are_idle_or_slow_make_room_for_others_when_all_are_taken() {
    let api = Api::start_with(&[("RINGBACK_MAX_CONNECTIONS", "4")]).await;
    for _ in 0..3 {
        let mut held = Vec::new();
        let asks = b"GET /api/v1/health/ping HTTP/1.1\r\nhost: a\r\n\r\n";
        for bytes in [&b""[..], b"GET /api/v1/health/pi", asks, b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"]
        {
            let mut connection = api.http.connect().await;
            connection.write_all(bytes).await.unwrap();
            held.push(connection);
        }
        for _ in 0..4 {
            api.http.get("/app").await.is(200);
        }
    }
}

/// With a good token, too: what is asked for is not begun before all of it is there.
#[tokio::test]
async fn a_body_that_comes_slowly_makes_room_for_others_and_is_taken_where_there_is_room() {
    let api = Api::start_with(&[("RINGBACK_MAX_CONNECTIONS", "3")]).await;
    let token = api.http.token.clone().unwrap();
    let body = br#"{"name":"slow"}"#;
    for expects in ["", "expect: 100-continue\r\n"] {
        let head = format!(
            "POST /api/v1/app HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n{expects}\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let begin = async || {
            let mut connection = api.http.connect().await;
            connection.write_all(head.as_bytes()).await.unwrap();
            connection.write_all(&body[..1]).await.unwrap();
            connection
        };
        let held = [begin().await, begin().await, begin().await];
        for _ in 0..4 {
            api.http.get("/app").await.is(200);
        }
        drop(held);
        let mut last = begin().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        last.write_all(&body[1..]).await.unwrap();
        let mut answer = Vec::new();
        last.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("HTTP/1.1 201"), "{answer}");
    }
}
