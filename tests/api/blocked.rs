//! What an application is told of a name that leads where it must not.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ringback::clock::SystemClock;
use ringback::store::sled::{SledConfig, SledStore};
use ringback::transport::{Reply, Request, Transport};
use ringback::{
    Config, Failure, NewApplication, NewEndpoint, NewMessage, Outcome, RetryPolicy, Ringback, StateKind, Timestamp,
    Timing,
};
use serde_json::Value;

use crate::support::api::Api;
use crate::support::{run, until};

/// Names that start with `kept` lead inside, all others nowhere.
struct Names;

impl Transport for Names {
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let kept = request.url.host_str().is_some_and(|host| host.starts_with("kept"));
        let (failure, total_us) = if kept { (Failure::BlockedAddress, 1_000) } else { (Failure::Dns, 700_000) };
        let timing = Timing { head_us: None, total_us };
        Box::pin(async move { Reply { outcome: Outcome::Failed(failure), response: None, timing } })
    }
}

/// A folder with an application `acme` whose two endpoints each have a delivery that gave up.
async fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path());
    let store = SledStore::open(SledConfig {
        path: config.path.clone(),
        max_open_bytes: config.max_open_bytes,
        max_open_bytes_per_application: config.max_open_bytes_per_application,
        max_kept_bytes: config.max_kept_bytes,
        min_free_bytes: config.min_free_bytes,
        max_cached_bytes: config.max_cached_bytes,
    });
    let store = Arc::new(store.await.unwrap());
    let clock = Arc::new(SystemClock::starting_after(Timestamp::ZERO));
    let ringback = Ringback::from_parts(config, store, Arc::new(Names), clock).await.unwrap();
    let acme = ringback.create_application(NewApplication::named("acme").uid("acme")).await.unwrap().id;
    for url in ["https://kept.example/", "https://lost.example/"] {
        let endpoint = NewEndpoint::at(url).retry(RetryPolicy::delays(Vec::new()));
        ringback.create_endpoint(acme, endpoint).await.unwrap();
    }
    let running = run(&ringback);
    let message = ringback.send(acme, NewMessage::json("e", &serde_json::json!({})).unwrap()).await.unwrap().id;
    until(|| async {
        let all = ringback.deliveries(acme, message).await.unwrap();
        all.len() == 2 && all.iter().all(|delivery| delivery.state.kind() == StateKind::Dead)
    })
    .await;
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    folder
}

/// Without what differs between any two attempts: whose they are, and when.
fn without_identity(item: &Value) -> String {
    let mut item = item.clone();
    for name in ["id", "endpointId", "url", "timestamp", "requestHeaders", "createdAt", "updatedAt"] {
        item.as_object_mut().unwrap().remove(name);
    }
    if let Some(state) = item.get_mut("state").and_then(Value::as_object_mut) {
        state.remove("at");
    }
    item.to_string()
}

#[tokio::test]
async fn a_name_that_leads_inside_looks_to_an_application_like_one_that_leads_nowhere() {
    let api = Api::over(folder().await, &[]).await;
    let own = api.http.with(api.token_of("acme").await);
    let message = api.http.get("/app/acme/msg").await.is(200)["data"][0]["id"].as_str().unwrap().to_owned();
    let mut lists = vec![
        "/app/acme/attempt".to_owned(),
        "/app/acme/attempt?status=2&with_msg=true".to_owned(),
        "/app/acme/attempt?status_code_class=0".to_owned(),
        format!("/app/acme/attempt/msg/{message}"),
        format!("/app/acme/msg/{message}/endpoint"),
    ];
    let attempts = api.http.get("/app/acme/attempt").await.is(200);
    let mut failures: Vec<_> =
        attempts["data"].as_array().unwrap().iter().map(|item| item["failure"].clone()).collect();
    failures.sort_by_key(Value::to_string);
    assert_eq!(failures, ["blockedAddress", "dns"], "the operator is told what it was");
    for path in lists.drain(..) {
        let answered = own.get(&path).await;
        let page = answered.is(200);
        let [one, other] = &page["data"].as_array().unwrap()[..] else { panic!("{path}: {page}") };
        assert_eq!(without_identity(one), without_identity(other), "{path}");
        // A setting that every endpoint shows has the word in its name.
        let text = String::from_utf8(answered.body).unwrap().replace("blockedHead", "");
        assert!(!text.contains("blocked") && !text.contains("must not"), "{path}: {text}");
    }
    let mut singles = Vec::new();
    for attempt in attempts["data"].as_array().unwrap() {
        let (id, endpoint) = (attempt["id"].as_str().unwrap(), attempt["endpointId"].as_str().unwrap());
        let single = own.get(&format!("/app/acme/msg/{message}/attempt/{id}")).await.is(200);
        let of_one = own.get(&format!("/app/acme/attempt/endpoint/{endpoint}")).await.is(200);
        let stats = own.get(&format!("/app/acme/endpoint/{endpoint}/stats")).await.is(200);
        let messages = own.get(&format!("/app/acme/endpoint/{endpoint}/msg")).await.is(200)["data"].to_string();
        singles.push((without_identity(&single), without_identity(&of_one["data"][0]), stats.to_string(), messages));
    }
    assert_eq!(singles[0], singles[1]);
}
