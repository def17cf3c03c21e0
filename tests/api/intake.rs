//! Many messages at once: lists, and streams of lines.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::api::Api;
use crate::support::{Behaviour, until};

/// A stream of lines that is written and read at the same time.
struct Lines {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Lines {
    async fn open(api: &Api, application: &str) -> Lines {
        let (read, mut write) = api.http.connect().await.into_split();
        let head = format!(
            "POST /api/v1/app/{application}/msg/ndjson HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            api.http.address,
            api.http.token.as_deref().unwrap()
        );
        write.write_all(head.as_bytes()).await.unwrap();
        Lines { read: BufReader::new(read), write }
    }

    async fn write(&mut self, text: &str) {
        self.write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
    }

    async fn end(&mut self) {
        self.write.write_all(b"0\r\n\r\n").await.unwrap();
    }

    /// The next line that is JSON: the head and the chunks' lengths are passed over.
    async fn result(&mut self) -> Option<Value> {
        let next = async {
            loop {
                let mut line = String::new();
                if self.read.read_line(&mut line).await.unwrap() == 0 {
                    return None;
                }
                if line.starts_with('{') {
                    return Some(serde_json::from_str(&line).unwrap());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("a result in time")
    }
}

fn message(number: usize) -> String {
    format!(r#"{{"eventType":"a.b","payload":{{"n":{number}.0}}}}"#)
}

async fn stored(api: &Api) -> usize {
    api.http.get("/app/acme/msg?limit=250").await.is(200)["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_list_has_a_result_each_in_order_and_payloads_as_they_stand() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let body = r#"{"messages": [
        {"eventType": "a.b", "payload": {"n":  1.0, "s": "\u0041"}},
        {"eventType": "no good", "payload": {}},
        {"eventType": "a.b", "payload": {}, "surprise": 1},
        {"eventType": "a.b", "payload": [1]},
        {"eventType": "a.b", "payload": {"n": 2}, "eventId": "e1", "idempotencyKey": "k1"},
        {"eventType": "a.b", "payload": {"n": 3}, "eventId": "e1"}
    ]}"#;
    let answer = api.http.ask("POST", "/app/acme/msg/batch", &[], body.as_bytes()).await.is(200);
    let results = answer["data"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 422, 422, 422, 202, 409], "{answer}");
    assert_eq!(results[1]["detail"][0]["loc"], json!(["body", "eventType"]));
    assert_eq!(results[2]["detail"][0]["loc"], json!(["body", "surprise"]));
    assert_eq!(results[3]["detail"][0]["loc"], json!(["body", "payload"]));
    assert_eq!((&results[5]["code"], &results[0]["repeated"]), (&json!("conflict"), &json!(false)));
    assert_eq!(results[0]["routing"]["to"].as_array().unwrap().len(), 1);
    let received = receiver.expect(2).await;
    let sent = received.iter().find(|one| one.header("svix-id") == results[0]["id"].as_str()).unwrap();
    assert_eq!(sent.body, br#"{"n":  1.0, "s": "\u0041"}"#, "to the byte");

    let again = r#"{"messages":[{"eventType":"a.b","payload":{"n": 2},"eventId":"e1","idempotencyKey":"k1"}]}"#;
    let again = api.http.ask("POST", "/app/acme/msg/batch", &[], again.as_bytes()).await.is(200);
    assert_eq!((&again["data"][0]["id"], &again["data"][0]["repeated"]), (&results[4]["id"], &json!(true)));
    assert_eq!(stored(&api).await, 2);
}

#[tokio::test]
async fn a_list_under_a_key_is_sent_once_and_its_bounds_are_said() {
    let api = Api::start().await;
    api.application("acme").await;
    let of = |count: usize| json!({"messages": vec![json!({"eventType": "a", "payload": {}}); count]});
    let first = api.http.post_under("k", "/app/acme/msg/batch", of(3)).await.is(200);
    assert_eq!(api.http.post_under("k", "/app/acme/msg/batch", of(3)).await.is(200), first);
    api.http.post_under("k", "/app/acme/msg/batch", of(4)).await.is(409);
    assert_eq!(stored(&api).await, 3);
    api.http.post("/app/acme/msg/batch", of(0)).await.names(&["body", "messages"]);
    api.http.post("/app/acme/msg/batch", of(1_001)).await.names(&["body", "messages"]);
    let nowhere = api.http.post("/app/nobody/msg/batch", of(2)).await.is(200);
    assert_eq!((&nowhere["data"][0]["status"], &nowhere["data"][1]["status"]), (&json!(404), &json!(404)));
    let large = json!({"eventType": "a", "payload": {"x": "x".repeat(1_200_000)}});
    let mixed = json!({"messages": [large, {"eventType": "a", "payload": {}}]});
    let answer = api.http.post("/app/acme/msg/batch", mixed).await.is(200);
    assert_eq!((&answer["data"][0]["status"], &answer["data"][1]["status"]), (&json!(413), &json!(202)));
    api.http.ask("POST", "/app/acme/msg/ndjson", &[("idempotency-key", "k")], b"{}").await.is(422);
}

#[tokio::test]
async fn the_results_of_a_stream_come_while_it_is_written_in_order_and_a_broken_line_is_not_the_end() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    let mut lines = Lines::open(&api, "acme").await;
    lines.write(&format!("{}\n{}", message(1), &message(2)[..10])).await;
    let first = lines.result().await.unwrap();
    assert_eq!((&first["line"], &first["status"]), (&json!(1), &json!(202)), "before the second one is whole");
    receiver.expect(1).await;
    lines.write(&format!("{}\r\n\n{{broken\n", &message(2)[10..])).await;
    let second = lines.result().await.unwrap();
    let broken = lines.result().await.unwrap();
    assert_eq!((&second["line"], &second["status"]), (&json!(2), &json!(202)));
    assert_eq!((&broken["line"], &broken["status"]), (&json!(4), &json!(422)), "the blank one counts");
    let keyed = r#"{"eventType":"a.b","payload":{},"idempotencyKey":"k"}"#;
    lines.write(&format!("{keyed}\n{keyed}\n{}", message(5))).await;
    lines.end().await;
    let mut rest = Vec::new();
    while let Some(result) = lines.result().await {
        rest.push(result);
    }
    let numbers: Vec<_> = rest.iter().map(|result| result["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 6, 7], "also the last one, without a newline");
    assert_eq!((&rest[0]["id"], &rest[1]["repeated"]), (&rest[1]["id"], &json!(true)));
    let bodies: Vec<_> = receiver.expect(4).await.into_iter().map(|one| one.body).collect();
    assert!(bodies.contains(&br#"{"n":2.0}"#.to_vec()), "to the byte");
    assert_eq!(stored(&api).await, 4);
}

#[tokio::test]
async fn a_line_that_is_too_long_costs_itself_alone() {
    let api = Api::start_with(&[("RINGBACK_MAX_PAYLOAD", "1000")]).await;
    api.application("acme").await;
    let body = format!("{}\n{{\"x\":\"{}\"}}\n{}\n", message(1), "x".repeat(300_000), message(3));
    let answered = api.http.ask("POST", "/app/acme/msg/ndjson", &[], body.as_bytes()).await;
    assert_eq!((answered.status, answered.header("content-type")), (200, Some("application/x-ndjson")));
    let text = String::from_utf8(answered.body).unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 413, 202], "{text}");
    assert_eq!(results[1]["code"], "payload_too_large");
}

#[tokio::test]
async fn lines_without_room_say_when_they_may_come_again_and_the_stream_goes_on() {
    let api = Api::start_with(&[("RINGBACK_MAX_OPEN_BYTES_PER_APPLICATION", "20000")]).await;
    api.application("acme").await;
    let waits = json!({"uid": "main", "retry": {"delaysMs": [600_000]}});
    api.endpoint_that("acme", waits, |_, _| Behaviour::Answer(500)).await;
    let line = json!({"eventType": "a.b", "payload": {"x": "x".repeat(3_000)}}).to_string();
    let mut lines = Lines::open(&api, "acme").await;
    lines.write(&format!("{line}\n").repeat(10)).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let result = lines.result().await.unwrap();
        if result["status"] == 429 {
            let told = (&result["code"], &result["retryAfterSeconds"]);
            assert_eq!(told, (&json!("application_overloaded"), &json!(1)));
        }
        statuses.push(result["status"].as_u64().unwrap());
    }
    assert!(statuses.contains(&202) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(stored(&api).await, statuses.iter().filter(|status| **status == 202).count());
    lines.write(&format!("{}\n", r#"{"eventType":"a.b","payload":{},"channels":["eu"]}"#)).await;
    lines.end().await;
    assert!(lines.result().await.unwrap()["status"].is_u64(), "it is still read");
    assert_eq!(lines.result().await, None);
}

#[tokio::test]
async fn who_does_not_read_the_results_is_not_read_on() {
    let api = Api::start().await;
    api.application("acme").await;
    let mut lines = Lines::open(&api, "acme").await;
    let chunk = format!("{}\n", message(1)).repeat(1_000);
    let written = async {
        for count in 0..2_000 {
            // The sockets' buffers take some; then the writing stands still.
            let write = tokio::time::timeout(Duration::from_secs(3), lines.write(&chunk));
            if write.await.is_err() {
                return count;
            }
        }
        panic!("all of it was taken: 80 MB, without anybody reading");
    };
    let count = written.await;
    let answered = stored(&api).await;
    assert!(answered > 0, "{count}");
    // The server has what it has read, and nothing hangs: others are served.
    api.send("acme", json!({"n": 1})).await;
    drop(lines);
    until(|| async { api.http.get("/health").await.status == 200 }).await;
}

#[tokio::test]
async fn a_long_stream_is_stored_whole() {
    let api = Api::start().await;
    api.application("acme").await;
    let Lines { read, mut write } = Lines::open(&api, "acme").await;
    let writing = async move {
        for bite in 0..20 {
            let text: String = (0..250).map(|number| format!("{}\n", message(bite * 250 + number))).collect();
            write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
        }
        write.write_all(b"0\r\n\r\n").await.unwrap();
        write
    };
    let mut read = read;
    let mut answer = Vec::new();
    let (_write, _) = tokio::join!(writing, read.read_to_end(&mut answer));
    let answered = crate::support::http::parse(&answer);
    let text = String::from_utf8(answered.body).unwrap();
    let numbers: Vec<u64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=5_000), "{} lines", numbers.len());
    assert_eq!(api.http.get("/doctor").await.is(200)["applications"][0]["messages"], 5_000);
}
