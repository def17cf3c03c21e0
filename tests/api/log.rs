//! The log: attempts, messages, deliveries, and their filters and pages.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Behaviour, until};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_with_large_messages_end_early_and_skip_nothing() {
    let api = Api::start().await;
    api.application("acme").await;
    let receiver = api.endpoint("acme", json!({"uid": "main"})).await;
    for _ in 0..10 {
        api.send("acme", json!({"a": "x".repeat(1_000_000)})).await;
    }
    receiver.expect(10).await;
    let log = "/app/acme/attempt/endpoint/main?with_content=false&with_msg=true&limit=250";
    until(|| async { api.http.get(log).await.is(200)["done"] == false }).await;
    for (path, first) in [("/app/acme/msg?limit=250", 9), ("/app/acme/endpoint/main/msg?limit=250", 9), (log, 9)] {
        let page = api.http.get(path).await.is(200);
        assert_eq!((ids(&page).len(), &page["done"]), (first, &json!(false)), "{path}");
        let iterator = page["iterator"].as_str().unwrap();
        let rest = api.http.get(&format!("{path}&iterator={iterator}")).await.is(200);
        assert_eq!((ids(&rest).len(), &rest["done"]), (10 - first, &json!(true)), "{path}");
        let back = rest["prevIterator"].as_str().unwrap();
        let back = api.http.get(&format!("{path}&iterator={back}")).await.is(200);
        assert_eq!(ids(&back), ids(&page), "{path}");
    }
}

#[tokio::test]
async fn messages_page_both_ways_and_by_every_filter() {
    let api = Api::start().await;
    api.application("acme").await;
    let endpoint = api.endpoint("acme", json!({"eventTypes": ["call.*"], "uid": "main"})).await;
    let mut sent = Vec::new();
    for number in 0..9 {
        let event_type = ["call.placed", "call.completed", "workflow.failed"][number % 3];
        let body = json!({"eventType": event_type, "payload": {"n": number}, "channels": [format!("c{}", number % 2)]});
        sent.push(api.http.post("/app/acme/msg", body).await.is(202)["id"].as_str().unwrap().to_owned());
    }
    sent.reverse();
    let first = api.http.get("/app/acme/msg?limit=4").await.is(200);
    assert_eq!((ids(&first), &first["done"]), (sent[..4].to_vec(), &json!(false)));
    let next = |page: &Value, name: &str| format!("/app/acme/msg?limit=4&iterator={}", page[name].as_str().unwrap());
    let second = api.http.get(&next(&first, "iterator")).await.is(200);
    let third = api.http.get(&next(&second, "iterator")).await.is(200);
    assert_eq!((ids(&second), ids(&third), &third["done"]), (sent[4..8].to_vec(), sent[8..].to_vec(), &json!(true)));
    let back = api.http.get(&next(&third, "prevIterator")).await.is(200);
    assert_eq!((ids(&back), &back["done"]), (sent[4..8].to_vec(), &json!(false)));
    let start = api.http.get(&next(&back, "prevIterator")).await.is(200);
    assert_eq!((ids(&start), &start["done"]), (sent[..4].to_vec(), &json!(true)));
    let oldest = api.http.get("/app/acme/msg?limit=2&order=ascending").await.is(200);
    assert_eq!(ids(&oldest), [sent[8].clone(), sent[7].clone()]);

    for (query, expected) in [
        ("event_types=call.placed", vec![2, 5, 8]),
        ("event_types=call.placed&event_types=workflow.failed", vec![0, 2, 3, 5, 6, 8]),
        ("event_types=call.*", vec![1, 2, 4, 5, 7, 8]),
        ("channel=c1", vec![1, 3, 5, 7]),
        ("unrouted=true", vec![0, 3, 6]),
        ("endpoint_id=main&channel=c1", vec![1, 5, 7]),
    ] {
        let page = api.http.get(&format!("/app/acme/msg?{query}")).await.is(200);
        let expected: Vec<String> = expected.iter().map(|place: &usize| sent[*place].clone()).collect();
        assert_eq!(ids(&page), expected, "{query}");
    }
    let bare = api.http.get("/app/acme/msg?with_content=false&limit=1").await.is(200);
    assert_eq!(bare["data"][0]["payload"], json!({}));
    let why = api.http.get("/app/acme/msg?unrouted=true").await.is(200);
    assert_eq!(why["data"][0]["routing"], json!({"nowhere": "eventTypeNotWanted"}));
    endpoint.expect(6).await;
}

#[tokio::test]
async fn attempts_are_found_by_endpoint_message_status_and_class_with_a_hint() {
    let api = Api::start().await;
    api.application("acme").await;
    let failing = api
        .endpoint_that("acme", json!({"uid": "failing", "retry": {"delaysMs": [1, 1]}}), |_, number| {
            Behaviour::AnswerWith(if number < 2 { 503 } else { 404 }, Vec::new(), b"not \x1b[31mtoday".to_vec())
        })
        .await;
    let good = api.endpoint("acme", json!({"uid": "good"})).await;
    let message = api.send("acme", json!({"callId": "c"})).await;
    failing.expect(3).await;
    good.expect(1).await;
    until(|| async { api.http.get("/app/acme/attempt").await.is(200)["data"].as_array().unwrap().len() == 4 }).await;

    let count = async |path: &str| api.http.get(path).await.is(200)["data"].as_array().unwrap().len();
    assert_eq!(count("/app/acme/attempt/endpoint/failing").await, 3);
    assert_eq!(count("/app/acme/attempt/endpoint/failing?status=0").await, 0);
    assert_eq!(count("/app/acme/attempt/endpoint/failing?status=2").await, 3);
    assert_eq!(count("/app/acme/attempt/endpoint/failing?status=1").await, 0);
    assert_eq!(count("/app/acme/attempt/endpoint/failing?status_code_class=500").await, 2);
    assert_eq!(count("/app/acme/attempt?status_code=404").await, 1);
    assert_eq!(count(&format!("/app/acme/attempt/msg/{message}")).await, 4);
    assert_eq!(count(&format!("/app/acme/attempt/msg/{message}?endpoint_id=good")).await, 1);
    assert_eq!(count("/app/acme/attempt?event_types=other").await, 0);
    assert_eq!(count("/app/acme/attempt?after=2100-01-01T00:00:00Z").await, 0);

    let page = api.http.get("/app/acme/attempt/endpoint/failing?limit=1&with_msg=true").await.is(200);
    let last = &page["data"][0];
    assert_eq!((&last["responseStatusCode"], &last["status"], &last["number"]), (&json!(404), &json!(2), &json!(3)));
    assert_eq!((&last["trigger"], &last["result"]), (&json!("retry"), &json!("dead")));
    assert_eq!(last["response"], "not \u{1b}[31mtoday");
    assert!(last["hint"].as_str().unwrap().contains("path"));
    assert_eq!(last["msg"]["payload"], json!({"callId": "c"}));
    assert!(last["requestHeaders"].to_string().contains("svix-signature"), "{last}");
    let one = api.http.get(&format!("/app/acme/msg/{message}/attempt/{}", last["id"].as_str().unwrap())).await.is(200);
    assert_eq!(one["id"], last["id"]);
    let other = api.send("acme", json!({})).await;
    api.http.get(&format!("/app/acme/msg/{other}/attempt/{}", last["id"].as_str().unwrap())).await.is(404);
}

#[tokio::test]
async fn a_receiver_that_nobody_runs_is_in_the_log_with_the_reason() {
    let api = Api::start().await;
    api.application("acme").await;
    let closed = crate::support::closed_port().await;
    let body = json!({"url": format!("http://{closed}/"), "uid": "closed", "retry": {"delaysMs": []}});
    api.http.post("/app/acme/endpoint", body).await.is(201);
    api.send("acme", json!({})).await;
    until(|| async { !ids(&api.http.get("/app/acme/attempt?status_code_class=0").await.is(200)).is_empty() }).await;
    let attempt = &api.http.get("/app/acme/attempt").await.is(200)["data"][0];
    assert_eq!((&attempt["failure"], &attempt["responseStatusCode"]), (&json!("refused"), &json!(0)));
    assert!(attempt["response"].as_str().unwrap().starts_with("refused: nothing listens"), "{attempt}");
}

#[tokio::test]
async fn a_message_shows_how_each_delivery_stands_and_an_endpoint_its_messages() {
    let api = Api::start().await;
    api.application("acme").await;
    let good = api.endpoint("acme", json!({"uid": "good"})).await;
    let slow = api
        .endpoint_that("acme", json!({"uid": "waits", "retry": {"delaysMs": [600_000]}}), |_, _| Behaviour::Answer(500))
        .await;
    let message = api.send("acme", json!({})).await;
    good.expect(1).await;
    slow.expect(1).await;
    let path = format!("/app/acme/msg/{message}/endpoint");
    until(|| async { api.http.get(&path).await.is(200)["data"][1]["attempts"] == 1 }).await;
    until(|| async { api.http.get(&path).await.is(200)["data"][0]["attempts"] == 1 }).await;
    let page = api.http.get(&path).await.is(200);
    assert_eq!((&page["data"][0]["uid"], &page["data"][0]["statusText"]), (&json!("good"), &json!("success")));
    assert_eq!((&page["data"][1]["uid"], &page["data"][1]["status"]), (&json!("waits"), &json!(1)));
    assert!(page["data"][1]["nextAttempt"].is_string(), "{page}");

    let of = async |query: &str| ids(&api.http.get(&format!("/app/acme/endpoint/waits/msg{query}")).await.is(200));
    assert_eq!(of("").await, [message.as_str()]);
    assert_eq!(of("?status=1").await, [message.as_str()]);
    assert!(of("?status=0").await.is_empty());
    let stats = api.http.get("/app/acme/endpoint/waits/stats").await.is(200);
    assert_eq!(stats, json!({"success": 0, "pending": 1, "sending": 0, "fail": 0, "canceled": 0}));

    let canceled = api.http.post(&format!("/app/acme/msg/{message}/cancel"), json!({})).await.is(200);
    assert_eq!(canceled, json!({"canceled": 1}));
    assert_eq!(of("?status=4").await, [message.as_str()]);
    let state = &api.http.get(&path).await.is(200)["data"][1]["state"];
    assert_eq!((&state["state"], &state["reason"]), (&json!("canceled"), &json!("requested")));
}

#[tokio::test]
async fn expunged_content_is_gone_from_every_answer_and_from_the_disk() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let receiver = api
        .endpoint_that("acme", json!({}), |_, _| Behaviour::AnswerWith(200, Vec::new(), b"answer-with-canary".to_vec()))
        .await;
    let message = api.send("acme", json!({"secret": "payload-canary"})).await;
    receiver.expect(1).await;
    until(|| async { !ids(&api.http.get("/app/acme/attempt").await.is(200)).is_empty() }).await;
    let attempt = ids(&api.http.get("/app/acme/attempt").await.is(200)).remove(0);
    api.http.delete(&format!("/app/acme/msg/{message}/content")).await.is(204);
    api.http.delete(&format!("/app/acme/msg/{message}/attempt/{attempt}/content")).await.is(204);
    for restarted in [false, true] {
        if restarted {
            api.restart().await;
        }
        let shown = api.http.get(&format!("/app/acme/msg/{message}")).await.is(200);
        assert_eq!((&shown["payload"], &shown["expunged"]), (&json!({}), &json!(true)));
        let shown = api.http.get(&format!("/app/acme/msg/{message}/attempt/{attempt}")).await.is(200);
        assert_eq!((&shown["response"], &shown["responseStatusCode"]), (&json!(""), &json!(200)));
    }
    let endpoint = ids(&api.http.get("/app/acme/endpoint").await.is(200)).remove(0);
    let again = format!("/app/acme/msg/{message}/endpoint/{endpoint}/resend");
    assert!(api.http.post(&again, json!({})).await.is(409)["detail"].as_str().unwrap().contains("expunged"));
}
