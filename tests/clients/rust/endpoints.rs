//! Endpoints, their secrets and headers, examples and recovery, through the official client.

use std::collections::HashMap;

use serde_json::json;
use svix::api::{
    BackgroundTaskListOptions, BackgroundTaskStatus, BackgroundTaskType, EndpointGetStatsOptions, EndpointHeadersIn,
    EndpointHeadersPatchIn, EndpointIn, EndpointListOptions, EndpointPatch, EndpointSecretRotateIn, EndpointUpdate,
    EventExampleIn, Ordering, RecoverIn, ReplayIn,
};

use crate::client::{Client, HOOK, accepts, arrived, nobody, refused, refusing, verifies};
use crate::support::{Receiver, until};

const SECRET: &str = "whsec_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ";

fn patch(change: serde_json::Value) -> EndpointPatch {
    serde_json::from_value(change).unwrap()
}

fn texts(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn sorted(texts: &Option<Vec<String>>) -> Option<Vec<String>> {
    texts.clone().map(|mut texts| {
        texts.sort();
        texts
    })
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn endpoints_are_made_found_changed_and_deleted() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let endpoints = client.svix.endpoint();
    let given = EndpointIn {
        uid: Some("main".into()),
        description: Some("theirs".into()),
        filter_types: texts(&["call.ended", "call.started"]),
        channels: texts(&["ch0", "ch1"]),
        metadata: Some(map(&[("team", "a")])),
        rate_limit: Some(20),
        disabled: Some(true),
        secret: Some(SECRET.into()),
        headers: Some(map(&[("X-Team", "a")])),
        ..EndpointIn::new(HOOK.into())
    };
    let made = endpoints.create(acme(), given.clone(), None).await.unwrap();
    assert!(made.id.starts_with("ep_"), "{made:?}");
    assert_eq!((&made.uid, made.description.as_str(), &made.url), (&given.uid, "theirs", &given.url));
    assert_eq!(
        (sorted(&made.filter_types), sorted(&made.channels)),
        (given.filter_types.clone(), given.channels.clone())
    );
    assert_eq!((Some(&made.metadata), made.rate_limit, made.disabled), (given.metadata.as_ref(), Some(20), Some(true)));
    assert_eq!(client.secret("acme", "main").await, SECRET);
    assert_eq!(endpoints.get(acme(), made.id.clone()).await.unwrap(), made);
    assert_eq!(endpoints.get(acme(), "main".into()).await.unwrap(), made);
    refused(409, endpoints.create(acme(), given, None).await);

    let change = patch(json!({"disabled": false, "description": "ours"}));
    let patched = endpoints.patch(acme(), "main".into(), change).await.unwrap();
    assert_eq!((patched.disabled, patched.description.as_str(), patched.rate_limit), (Some(false), "ours", Some(20)));
    assert_eq!(sorted(&patched.channels), texts(&["ch0", "ch1"]));
    let change = patch(json!({"channels": null, "filterTypes": ["call.ended"], "rateLimit": null}));
    let patched = endpoints.patch(acme(), "main".into(), change).await.unwrap();
    assert_eq!((&patched.channels, &patched.filter_types, patched.rate_limit), (&None, &texts(&["call.ended"]), None));

    let update = EndpointUpdate { uid: Some("main".into()), ..EndpointUpdate::new(format!("{HOOK}/2")) };
    let replaced = endpoints.update(acme(), "main".into(), update).await.unwrap();
    assert_eq!((&replaced.id, replaced.url, replaced.filter_types), (&made.id, format!("{HOOK}/2"), None));
    assert_eq!(client.secret("acme", "main").await, SECRET);
    let upserted = endpoints.update(acme(), "fresh".into(), EndpointUpdate::new(HOOK.into())).await.unwrap();
    assert_eq!(upserted.uid.as_deref(), Some("fresh"));

    for number in 0..3 {
        client.endpoint("acme", &format!("e{number}"), HOOK).await;
    }
    let page = async |iterator: Option<String>| {
        let options = EndpointListOptions { limit: Some(3), iterator, order: Some(Ordering::Descending) };
        endpoints.list(acme(), Some(options)).await.unwrap()
    };
    let uids = |page: &svix::api::ListResponseEndpointOut| -> Vec<String> {
        page.data.iter().map(|endpoint| endpoint.uid.clone().unwrap()).collect()
    };
    let first = page(None).await;
    assert_eq!((uids(&first), first.done), (texts(&["e2", "e1", "e0"]).unwrap(), false));
    let second = page(first.iterator.clone()).await;
    assert_eq!((uids(&second), second.done), (texts(&["fresh", "main"]).unwrap(), true));
    assert_eq!(page(second.prev_iterator).await.data, first.data);

    endpoints.delete(acme(), "main".into()).await.unwrap();
    refused(404, endpoints.get(acme(), made.id).await);
    refused(404, endpoints.delete(acme(), nobody("ep")).await);
}

#[tokio::test]
async fn requests_carry_the_endpoints_headers() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let receiver = Receiver::answering(200).await;
    let endpoints = client.svix.endpoint();
    let headers = Some(map(&[("X-One", "1"), ("X-Two", "2")]));
    let given = EndpointIn { uid: Some("main".into()), headers, ..EndpointIn::new(receiver.url.clone()) };
    endpoints.create(acme(), given, None).await.unwrap();
    let names = async || {
        let found = endpoints.get_headers(acme(), "main".into()).await.unwrap();
        let mut names: Vec<String> = found.headers.into_keys().chain(found.sensitive).collect();
        names.sort();
        names
    };
    let arrive = async || {
        let request = arrived(&receiver, &client.send("acme").await, 1).await.remove(0);
        ["x-one", "x-two", "x-three"].map(|name| request.header(name).map(str::to_owned))
    };
    let expected = |values: [Option<&str>; 3]| values.map(|value| value.map(str::to_owned));
    assert_eq!(names().await, ["X-One", "X-Two"]);
    assert_eq!(arrive().await, expected([Some("1"), Some("2"), None]));
    let all = EndpointHeadersIn { headers: map(&[("X-Two", "22"), ("X-Three", "3")]) };
    endpoints.update_headers(acme(), "main".into(), all).await.unwrap();
    assert_eq!(names().await, ["X-Three", "X-Two"]);
    assert_eq!(arrive().await, expected([None, Some("22"), Some("3")]));
    let some = EndpointHeadersPatchIn { headers: map(&[("X-One", "11")]) };
    endpoints.patch_headers(acme(), "main".into(), some).await.unwrap();
    assert_eq!(arrive().await, expected([Some("11"), Some("22"), Some("3")]));
}

#[tokio::test]
async fn old_and_new_secrets_verify_while_they_overlap() {
    let client = Client::start().await;
    client.application("acme").await;
    let receiver = Receiver::answering(200).await;
    client.endpoint("acme", "main", &receiver.url).await;
    let first = client.secret("acme", "main").await;
    let request = arrived(&receiver, &client.send("acme").await, 1).await.remove(0);
    verifies(&first, &request);

    let rotate = async |key: Option<String>| {
        let body = EndpointSecretRotateIn { key };
        client.svix.endpoint().rotate_secret("acme".into(), "main".into(), body, None).await.unwrap();
        client.secret("acme", "main").await
    };
    let second = rotate(None).await;
    assert_ne!(second, first);
    let overlapping = arrived(&receiver, &client.send("acme").await, 1).await.remove(0);
    verifies(&first, &overlapping);
    verifies(&second, &overlapping);
    assert!(!accepts(&second, &request), "it was signed before");
    assert_eq!(rotate(Some(SECRET.into())).await, SECRET);
    let with_three = arrived(&receiver, &client.send("acme").await, 1).await.remove(0);
    for secret in [&first, &second, SECRET] {
        verifies(secret, &with_three);
    }
}

#[tokio::test]
async fn examples_are_sent_and_verify() {
    let client = Client::start().await;
    client.application("acme").await;
    let receiver = Receiver::answering(200).await;
    client.endpoint("acme", "main", &receiver.url).await;
    let example = EventExampleIn::new("svix.ping".into());
    let sent = client.svix.endpoint().send_example("acme".into(), "main".into(), example, None).await.unwrap();
    assert_eq!(sent.event_type, "svix.ping");
    verifies(&client.secret("acme", "main").await, &arrived(&receiver, &sent.id, 1).await[0]);
}

#[tokio::test]
async fn recovery_is_a_background_task_that_delivers_what_was_dead() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let receiver = Receiver::start(|_, before| refusing(if before == 0 { 422 } else { 200 })).await;
    client.endpoint("acme", "main", &receiver.url).await;
    let endpoints = client.svix.endpoint();
    let stats = async |options| endpoints.get_stats(acme(), "main".into(), options).await.unwrap();
    let message = client.send("acme").await;
    until(|| async { stats(None).await.fail == 1 }).await;
    let past = || Some("2020-01-01T00:00:00Z".to_owned());
    assert_eq!(stats(Some(EndpointGetStatsOptions { since: past(), until: None })).await.fail, 1);
    assert_eq!(stats(Some(EndpointGetStatsOptions { since: None, until: past() })).await.fail, 0);

    let begun = endpoints.recover(acme(), "main".into(), RecoverIn::new(past().unwrap()), None).await.unwrap();
    assert_eq!(begun.task, BackgroundTaskType::EndpointRecover);
    verifies(&client.secret("acme", "main").await, &arrived(&receiver, &message, 2).await[1]);
    until(|| async { stats(None).await.success == 1 }).await;
    let tasks = client.svix.background_task();
    until(|| async { tasks.get(begun.id.clone()).await.unwrap().status == BackgroundTaskStatus::Finished }).await;
    let listed = async |status, task| {
        let options = BackgroundTaskListOptions { status, task, limit: None, iterator: None, order: None };
        tasks.list(Some(options)).await.unwrap().data.len()
    };
    let recover = Some(BackgroundTaskType::EndpointRecover);
    assert_eq!(listed(None, None).await, 1);
    assert_eq!(listed(Some(BackgroundTaskStatus::Finished), recover).await, 1);
    assert_eq!(listed(Some(BackgroundTaskStatus::Running), None).await, 0);
    assert_eq!(listed(None, Some(BackgroundTaskType::EndpointReplay)).await, 0);
    refused(404, tasks.get("qtask_none".into()).await);

    let late = Receiver::answering(200).await;
    client.endpoint("acme", "late", &late.url).await;
    let missing = endpoints.replay_missing(acme(), "late".into(), ReplayIn::new(past().unwrap()), None).await.unwrap();
    assert_eq!(missing.task, BackgroundTaskType::EndpointReplay);
    arrived(&late, &message, 1).await;
    until(|| async { tasks.get(missing.id.clone()).await.unwrap().status == BackgroundTaskStatus::Finished }).await;
}
