//! Requests as nobody should write them, over raw sockets: each is refused or read in one way alone, and changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::Api;
use crate::support::http::parse;
use crate::support::until;

/// What a client waits for an answer, or for the end of a connection, before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that comes until the server closes.
async fn all_of(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    // A reset after the answer is an end, too.
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Writes one request, and reads until the server closes; the client does not.
async fn exchange(api: &Api, request: impl AsRef<[u8]>) -> String {
    let mut connection = api.http.connect().await;
    let _ = connection.write_all(request.as_ref()).await;
    all_of(&mut connection).await
}

/// The statuses of all answers on a connection.
fn statuses(answers: &str) -> Vec<u16> {
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|rest| rest.get(..3).and_then(|status| status.parse().ok()).unwrap_or_default()).collect()
}

fn authorized(api: &Api) -> String {
    format!("authorization: Bearer {}\r\n", api.http.token.clone().unwrap())
}

/// What is there, as the operator sees it.
async fn everything(api: &Api) -> Value {
    let (apps, messages) = (api.http.get("/app").await.is(200), api.http.get("/app/acme/msg").await.is(200));
    json!([apps["data"], messages["data"]])
}

/// A POST that would make an application, with these headers and this body.
fn post(api: &Api, headers: &str, body: &str) -> String {
    format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{}{headers}\r\n{body}", authorized(api))
}

/// A request that would make an application if it was taken for one.
fn smuggled(api: &Api) -> String {
    let body = r#"{"name":"smuggled"}"#;
    post(api, &format!("content-length: {}\r\n", body.len()), body)
}

#[tokio::test]
async fn lengths_that_can_be_read_in_two_ways_are_refused_and_their_connection_is_closed() {
    let api = Api::start().await;
    api.application("acme").await;
    let before = everything(&api).await;
    let body = r#"{"name":"x"}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (headers, body) in [
        ("content-length: 12\r\ncontent-length: 13\r\n", body),
        ("content-length: 12, 12\r\n", body),
        ("content-length: 12, 13\r\n", body),
        ("content-length: -1\r\n", body),
        ("content-length: +12\r\n", body),
        ("content-length: 0x0c\r\n", body),
        ("content-length: 12 \t 3\r\n", body),
        ("content-length: \r\n", body),
        ("content-length: 99999999999999999999999999\r\n", body),
        ("transfer-encoding: gzip, chunked\r\n", &chunks),
        ("transfer-encoding: chunked, chunked\r\n", &chunks),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunks),
        ("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", &chunks),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &chunks),
        ("transfer-encoding: xchunked\r\n", &chunks),
        ("transfer-encoding: chunked;a=b\r\n", &chunks),
        ("transfer-encoding: \"chunked\"\r\n", &chunks),
        ("transfer-encoding: \x0bchunked\r\n", &chunks),
        ("transfer-encoding: identity\r\ncontent-length: 12\r\n", body),
        ("transfer-encoding : chunked\r\n", &chunks),
        ("content-length : 12\r\n", body),
        ("content-length\r\n: 12\r\n", body),
    ] {
        let answers = exchange(&api, post(&api, headers, body) + &smuggled(&api)).await;
        assert_eq!(statuses(&answers), [400], "{headers:?}: {answers}");
    }
    assert_eq!(everything(&api).await, before);
}

/// A length beside chunks is what one program reads and the next does not. Chunks count; what comes after them is dropped.
#[tokio::test]
async fn after_a_request_with_both_a_length_and_chunks_nothing_on_its_connection_counts() {
    let api = Api::start().await;
    api.application("acme").await;
    let body = r#"{"name":"x","uid":"x"}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let whole = smuggled(&api).len() + chunks.len();
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n".to_owned(),
        format!("Content-Length: {whole}\r\nTransfer-Encoding: Chunked\r\n"),
        format!("transfer-encoding: chunked\r\nconnection: keep-alive\r\ncontent-length: {whole}\r\n"),
        "transfer-encoding: chunked\r\ncontent-length: 4\r\ncontent-length: 9\r\n".to_owned(),
    ] {
        let answers = exchange(&api, post(&api, &headers, &chunks) + &smuggled(&api)).await;
        assert!(matches!(statuses(&answers)[..], [201 | 400 | 409]), "{headers:?}: {answers}");
        assert!(answers.to_lowercase().contains("connection: close\r\n"), "{headers:?}: {answers}");
    }
    let applications = everything(&api).await[0].to_string();
    assert!(!applications.contains("smuggled"), "{applications}");
}

#[tokio::test]
async fn heads_that_are_not_as_they_should_be_are_refused() {
    let api = Api::start().await;
    api.application("acme").await;
    let before = everything(&api).await;
    let token = authorized(&api);
    let body = "content-length: 12\r\n\r\n{\"name\":\"x\"}";
    for (head, status) in [
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x-a: b\r\n folded: c\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x-a : b\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token} x-a: b\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x-a: b\rx-b: c\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x-a: \0\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x\0a: b\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}: b\r\n{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}no colon\r\n{body}"), 400),
        (format!("POST /api/v1/app\0 HTTP/1.1\r\nhost: a\r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\nhost: a\r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\nHost: b\r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: \r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a/b\r\n{token}{body}"), 400),
        (format!("POST http://b/api/v1/app HTTP/1.1\r\nhost: a\r\n{token}{body}"), 400),
        (format!("POST http://b@a/api/v1/app HTTP/1.1\r\nhost: a\r\n{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}{token}{body}"), 400),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\n{token}{body}"), 400),
        (
            format!(
                "POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}idempotency-key: a\r\nidempotency-key: b\r\n{body}"
            ),
            400,
        ),
        (format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}expect: 200-ok\r\n{body}"), 417),
        (format!("OPTIONS * HTTP/1.1\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n{token}\r\n"), 400),
        (format!("CONNECT /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("GET a:443 HTTP/1.1\r\nhost: a:443\r\n{token}\r\n"), 400),
        (format!("GET api/v1/app HTTP/1.1\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("GET  /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("GET /api/v1/app HTTP/1.1 x\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("GET /api/v1/app HTTP/2.0\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("G\u{c9}T /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}\r\n"), 400),
        (format!("GET /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}x: {}\r\n\r\n", "a".repeat(16 * 1024)), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n{token}\r\n", "a".repeat(16 * 1024)), 431),
        (format!("GET /api/v1/app HTTP/1.1\r\nhost: a\r\n{token}{}\r\n", "x: y\r\n".repeat(200)), 431),
        ("\r\n\r\n\r\n \r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), 400),
    ] {
        let answers = exchange(&api, &head).await;
        assert_eq!(statuses(&answers), [status], "{head:.200?}: {answers}");
    }
    // Those whose version it does not speak are told so, or nothing at all.
    for head in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /api/v1/app\r\n", "GET /\r\n\r\n"] {
        let answers = exchange(&api, head).await;
        assert!(statuses(&answers).iter().all(|status| *status == 400), "{head:?}: {answers}");
    }
    assert_eq!(everything(&api).await, before);
}

#[tokio::test]
async fn what_is_no_text_in_a_head_is_no_token_and_no_parameter() {
    let api = Api::start().await;
    api.application("acme").await;
    let token = authorized(&api);
    let with = |line: &[u8], rest: &str| {
        let rest = format!(" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}\r\n");
        [b"GET /api/v1/app", line, rest.as_bytes()].concat()
    };
    let no_token =
        b"GET /api/v1/app HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer \xff\xfe\r\n\r\n";
    assert_eq!(statuses(&exchange(&api, no_token).await), [401]);
    for (line, allowed) in [
        (&b"?limit=\xff"[..], [400, 422]),
        (b"?\xff\xfe=1", [400, 422]),
        (b"?limit=%FF", [422, 422]),
        (b"?%FF=1", [422, 422]),
        (b"?limit=%", [422, 422]),
        (b"/\xff", [400, 404]),
    ] {
        let answers = exchange(&api, with(line, &token)).await;
        let [status] = statuses(&answers)[..] else { panic!("{line:?}: {answers}") };
        assert!(allowed.contains(&status), "{line:?}: {answers}");
    }
}

#[tokio::test]
async fn what_is_unusual_and_sound_is_answered() {
    let api = Api::start().await;
    api.application("acme").await;
    let token = authorized(&api);
    let close = "connection: close\r\n";
    for (head, status) in [
        (format!("GET /api/v1/app HTTP/1.0\r\n{token}\r\n"), 200),
        (format!("GET http://a/api/v1/app HTTP/1.1\r\nhost: A\r\n{close}{token}\r\n"), 200),
        (format!("GET /api/v1/app HTTP/1.1\nhost: a\n{}\n", format!("{close}{token}").replace("\r\n", "\n")), 200),
        (
            format!(
                "GET /api/v1/app HTTP/1.1\r\nhost: a\r\n{close}aUTHORIZATION: bEARER {}\r\n\r\n",
                api.http.token.clone().unwrap()
            ),
            200,
        ),
        (
            format!(
                "POST /api/v1/app/acme/msg HTTP/1.1\r\nhost: a\r\n{close}{token}content-length: 2\r\ncontent-length: 2\r\n\r\n[]"
            ),
            422,
        ),
        (format!("TRACE /api/v1/app HTTP/1.1\r\nhost: a\r\n{close}{token}\r\n"), 405),
        (format!("BREW /api/v1/app HTTP/1.1\r\nhost: a\r\n{close}{token}\r\n"), 405),
        (format!("GET /api/v1/app HTTP/1.1\r\nhost: a\r\n{close}{token}expect: 100-continue\r\n\r\n"), 200),
        (format!("GET /api/v1/{} HTTP/1.1\r\nhost: a\r\n{close}{token}\r\n", "a".repeat(12_000)), 404),
    ] {
        let answers = exchange(&api, &head).await;
        let answered = answers.replace("HTTP/1.0 ", "HTTP/1.1 ");
        assert_eq!(statuses(&answered), [status], "{head:.200?}: {answers}");
    }
    // Trailers are read and mean nothing, whatever they are called.
    let chunked = format!("transfer-encoding: chunked\r\n{close}");
    let trailers = "2\r\n{}\r\n0\r\nauthorization: Bearer x\r\ncontent-length: 9\r\n\r\n";
    let answers = exchange(&api, post(&api, &chunked, trailers)).await;
    assert_eq!(statuses(&answers), [422], "{answers}");
}

#[tokio::test]
async fn requests_behind_one_another_are_answered_in_their_order() {
    let api = Api::start().await;
    api.application("acme").await;
    let token = authorized(&api);
    let get = |path: &str, more: &str| format!("GET /api/v1{path} HTTP/1.1\r\nhost: a\r\n{token}{more}\r\n");
    let chunked = "3\r\n{\"n\r\n9\r\name\":\"x\"}\r\n0\r\n\r\n";
    let all = get("/app/acme", "")
        + &get("/nothing", "")
        + &post(&api, "transfer-encoding: chunked\r\n", chunked)
        + &get("/app/nobody", "")
        + &get("/health/ping", "connection: close\r\n")
        + &smuggled(&api);
    assert_eq!(statuses(&exchange(&api, all).await), [200, 404, 201, 404, 204]);
    assert_eq!(everything(&api).await[0].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn chunks_that_are_none_end_the_request_and_its_connection() {
    let api = Api::start().await;
    api.application("acme").await;
    let before = everything(&api).await;
    let body = r#"{"name":"x"}"#;
    for chunks in [
        format!("{:x};{}\r\n{body}\r\n0\r\n\r\n", body.len(), "a=b;".repeat(64 * 1024)),
        format!("{:x}\n{body}\n0\n\n", body.len()),
        format!("{:x}\r\n{body}x\r\n0\r\n\r\n", body.len()),
        format!("0x{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        format!("-{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        format!("fffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        format!("\r\n{body}\r\n0\r\n\r\n"),
        format!("{:x}\r\n{body}\r\n0\r\n{}\r\n", body.len(), "a: b\r\n".repeat(64 * 1024)),
    ] {
        let mut connection = api.http.connect().await;
        let request = post(&api, "transfer-encoding: chunked\r\n", &chunks) + &smuggled(&api);
        let _ = connection.write_all(request.as_bytes()).await;
        // A chunk that is larger than all that comes would be waited for.
        let _ = connection.shutdown().await;
        let answers = all_of(&mut connection).await;
        let refused = matches!(statuses(&answers)[..], [] | [400 | 413 | 422]);
        assert!(refused, "{chunks:.60?}: {answers}");
    }
    assert_eq!(everything(&api).await, before);
}

#[tokio::test]
async fn one_byte_too_many_is_413_whether_it_was_announced_or_not() {
    let api = Api::start_with(&[("RINGBACK_MAX_PAYLOAD", "1024")]).await;
    api.application("acme").await;
    let limit = 1024 + 64 * 1024;
    let to = |headers: &str, body: &str| {
        let head =
            format!("POST /api/v1/app/acme/msg HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}", authorized(&api));
        format!("{head}{headers}\r\n{body}")
    };
    let body = |bytes: usize| {
        let start = r#"{"eventType":"e","payload":{}"#;
        format!("{start}{}}}", " ".repeat(bytes - start.len() - 1))
    };
    let announced = |bytes| to(&format!("content-length: {bytes}\r\n"), &body(bytes));
    let chunked = |bytes| to("transfer-encoding: chunked\r\n", &format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", body(bytes)));
    for (request, status) in
        [(announced(limit), 202), (chunked(limit), 202), (announced(limit + 1), 413), (chunked(limit + 1), 413)]
    {
        assert_eq!(statuses(&exchange(&api, request).await), [status]);
    }
    assert_eq!(everything(&api).await[1].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_from_one_application_to_another() {
    let api = Api::start().await;
    api.application("acme").await;
    api.application("rival").await;
    let (endpoint, ..) = api.delivered("acme").await;
    let rival = api.http.with(api.token_of("rival").await);
    for (method, path) in [
        ("GET", "/app/rival%2f..%2facme".to_owned()),
        ("GET", "/app/rival%2F..%2Facme/endpoint".to_owned()),
        ("GET", "/app/rival/../acme".to_owned()),
        ("GET", "/app/rival/..%2facme".to_owned()),
        ("GET", "/app/rival/%2e%2e/acme/endpoint".to_owned()),
        ("GET", format!("/app/rival/endpoint/..%2f..%2facme%2fendpoint%2f{endpoint}")),
        ("GET", format!("/app/rival/endpoint/{endpoint}")),
        ("DELETE", format!("/app/rival/./../acme/endpoint/{endpoint}")),
        ("DELETE", format!("/app/rival/../acme/endpoint/{endpoint}/")),
        ("GET", "/app/rival%00acme".to_owned()),
        ("GET", "/app/acme%20".to_owned()),
        ("GET", "/app/%61cme".to_owned()),
        ("GET", "/app//acme".to_owned()),
        ("GET", "//app/acme".to_owned()),
        ("GET", "/app/ACME".to_owned()),
        ("GET", "/app/rival;acme".to_owned()),
        ("GET", "/app/acme///".to_owned()),
        ("GET", "/app/rival%252f..%252facme".to_owned()),
        ("GET", "/app/acme%c0%af".to_owned()),
        ("GET", format!("/app/{}/endpoint", "a".repeat(8_000))),
    ] {
        let answered = rival.ask(method, &path, &[], b"").await;
        assert_eq!(answered.status, 404, "{method} {path}: {}", String::from_utf8_lossy(&answered.body));
        assert!(!String::from_utf8_lossy(&answered.body).contains("receiver"), "{path}");
    }
    api.http.get(&format!("/app/acme/endpoint/{endpoint}")).await.is(200);
    rival.get("/app/%72ival/").await.is(200);
}

#[tokio::test]
async fn whatever_came_before_the_next_honest_request_is_answered_and_no_descriptor_is_left() {
    let api = Api::start().await;
    api.application("acme").await;
    let before = everything(&api).await;
    // Those of the requests before may be about to close.
    let mut open = api.descriptors();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        open = open.min(api.descriptors());
    }
    let mut held = Vec::new();
    for half in ["", "P", "POST /api/v1/app HTTP/1.1\r\nhost: a\r\n", &post(&api, "content-length: 12\r\n", "{")] {
        for _ in 0..8 {
            let mut connection = api.http.connect().await;
            connection.write_all(half.as_bytes()).await.unwrap();
            held.push(connection);
        }
    }
    for bad in ["\0", "GET", "GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n"] {
        let mut connection = api.http.connect().await;
        connection.write_all(bad.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        all_of(&mut connection).await;
    }
    assert_eq!(everything(&api).await, before);
    assert!(api.descriptors() >= open + 32);
    drop(held);
    until(|| async { api.descriptors() <= open }).await;
    assert_eq!(everything(&api).await, before);
    // And a connection that is used again is as good as a new one.
    let mut connection = api.http.connect().await;
    let get = |more: &str| format!("GET /api/v1/app/acme HTTP/1.1\r\nhost: a\r\n{}{more}\r\n", authorized(&api));
    connection.write_all(get("").as_bytes()).await.unwrap();
    connection.write_all(get("connection: close\r\n").as_bytes()).await.unwrap();
    let answers = all_of(&mut connection).await;
    assert_eq!(statuses(&answers), [200, 200]);
    assert_eq!(parse(answers.as_bytes()).status, 200);
}
