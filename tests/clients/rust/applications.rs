//! Applications, through the official client.

use std::collections::HashMap;

use serde_json::json;
use svix::api::{ApplicationIn, ApplicationListOptions, ApplicationPatch, Ordering};

use crate::client::{Client, nobody, refused};

fn named(name: &str) -> ApplicationIn {
    ApplicationIn::new(name.into())
}

fn patch(change: serde_json::Value) -> ApplicationPatch {
    serde_json::from_value(change).unwrap()
}

#[tokio::test]
async fn applications_are_made_found_changed_and_deleted() {
    let client = Client::start().await;
    let applications = client.svix.application();
    let metadata = HashMap::from([("tier".to_owned(), "gold".to_owned())]);
    let uid = || Some("acme".to_owned());
    let given = ApplicationIn { metadata: Some(metadata.clone()), rate_limit: Some(50), uid: uid(), ..named("Acme") };
    let made = applications.create(given, None).await.unwrap();
    assert!(made.id.starts_with("app_"), "{made:?}");
    assert_eq!((&made.name, &made.uid, &made.metadata, made.rate_limit), (&"Acme".into(), &uid(), &metadata, Some(50)));
    refused(409, applications.create(ApplicationIn { uid: uid(), ..named("Other") }, None).await);
    let again = ApplicationIn { uid: uid(), ..named("Other") };
    assert_eq!(applications.get_or_create(again, None).await.unwrap(), made);
    assert_eq!(applications.get(made.id.clone()).await.unwrap(), made);
    assert_eq!(applications.get("acme".into()).await.unwrap(), made);

    let replaced = applications.update("acme".into(), ApplicationIn { uid: uid(), ..named("Acme Ltd") }).await.unwrap();
    assert_eq!((&replaced.id, replaced.name.as_str(), replaced.rate_limit), (&made.id, "Acme Ltd", None));
    assert!(replaced.metadata.is_empty());
    let upserted = applications.update("fresh".into(), named("Fresh")).await.unwrap();
    assert_eq!(upserted.uid.as_deref(), Some("fresh"));

    let patched = applications.patch("acme".into(), patch(json!({"rateLimit": 7}))).await.unwrap();
    assert_eq!((patched.name.as_str(), patched.rate_limit), ("Acme Ltd", Some(7)));
    let reset = applications.patch("acme".into(), patch(json!({"rateLimit": null, "uid": null}))).await.unwrap();
    assert_eq!((reset.rate_limit, reset.uid), (None, None));
    refused(404, applications.get("acme".into()).await);

    applications.delete(made.id.clone()).await.unwrap();
    refused(404, applications.get(made.id).await);
    refused(404, applications.delete(nobody("app")).await);
}

#[tokio::test]
async fn applications_page_both_ways() {
    let client = Client::start().await;
    for number in 0..5 {
        client.application(&format!("a{number}")).await;
    }
    let page = async |iterator: Option<String>, order: Ordering| {
        let options = ApplicationListOptions { limit: Some(2), iterator, order: Some(order) };
        let page = client.svix.application().list(Some(options)).await.unwrap();
        let uids: Vec<String> = page.data.into_iter().map(|application| application.uid.unwrap()).collect();
        (uids, page.iterator, page.prev_iterator, page.done)
    };
    for (order, uids) in
        [(Ordering::Ascending, ["a0", "a1", "a2", "a3", "a4"]), (Ordering::Descending, ["a4", "a3", "a2", "a1", "a0"])]
    {
        let (first, next, _, done) = page(None, order).await;
        assert_eq!((first.as_slice(), done), ([uids[0], uids[1]].map(String::from).as_slice(), false));
        let (second, next, previous, done) = page(next, order).await;
        assert_eq!((second.as_slice(), done), ([uids[2], uids[3]].map(String::from).as_slice(), false));
        let (third, _, _, done) = page(next, order).await;
        assert_eq!((third.as_slice(), done), ([uids[4]].map(String::from).as_slice(), true));
        assert_eq!(page(previous, order).await.0, first);
    }
}
