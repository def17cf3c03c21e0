//! Event types, through the official client.

use serde_json::json;
use svix::api::{EventTypeDeleteOptions, EventTypeIn, EventTypeListOptions, EventTypePatch, EventTypeUpdate, Ordering};

use crate::client::{Client, invalid, refused};

fn described(name: &str) -> EventTypeIn {
    let schemas = Some(json!({"1": {"title": "A call", "type": "object"}}));
    EventTypeIn { schemas, ..EventTypeIn::new("A call".into(), name.into()) }
}

#[tokio::test]
async fn event_types_are_made_changed_archived_and_expunged() {
    let client = Client::start().await;
    let types = client.svix.event_type();
    let name = || "call.ended".to_owned();
    let made = types.create(described("call.ended"), None).await.unwrap();
    assert_eq!((made.name.as_str(), &made.schemas), ("call.ended", &described("x").schemas));
    assert_eq!((made.archived, made.deprecated), (Some(false), false));
    refused(409, types.create(described("call.ended"), None).await);
    invalid(&["body", "name"], types.create(described("no spaces"), None).await);
    assert_eq!(types.get(name()).await.unwrap(), made);
    let change = EventTypePatch { description: Some("Calls".into()), ..EventTypePatch::new() };
    let patched = types.patch(name(), change).await.unwrap();
    assert_eq!((patched.description.as_str(), &patched.schemas), ("Calls", &made.schemas));
    let replaced = types.update(name(), EventTypeUpdate::new("All calls".into())).await.unwrap();
    assert_eq!(replaced.description, "All calls");
    let upserted = types.update("call.started".into(), EventTypeUpdate::new("Made".into())).await.unwrap();
    assert_eq!(upserted.name, "call.started");

    types.delete(name(), None).await.unwrap();
    assert_eq!(types.get(name()).await.unwrap().archived, Some(true));
    types.delete(name(), Some(EventTypeDeleteOptions { expunge: Some(true) })).await.unwrap();
    refused(404, types.get(name()).await);
    refused(404, types.delete(name(), None).await);
}

#[tokio::test]
async fn event_types_are_listed_with_and_without_the_archived() {
    let client = Client::start().await;
    let types = client.svix.event_type();
    for name in ["a", "b", "c"] {
        types.create(described(name), None).await.unwrap();
    }
    types.delete("c".into(), None).await.unwrap();
    let list = async |include_archived, with_content, iterator| {
        let (limit, order) = (Some(2), Some(Ordering::Descending));
        let options = EventTypeListOptions { limit, iterator, order, include_archived, with_content };
        types.list(Some(options)).await.unwrap()
    };
    let current = list(None, None, None).await;
    let names: Vec<&str> = current.data.iter().map(|found| found.name.as_str()).collect();
    assert_eq!((names, current.done, &current.data[0].schemas), (vec!["b", "a"], true, &None));
    let first = list(Some(true), Some(true), None).await;
    assert_eq!((first.data[0].name.as_str(), first.done), ("c", false));
    assert_eq!(first.data[1].schemas, described("x").schemas);
    let second = list(Some(true), Some(true), first.iterator).await;
    assert_eq!((second.data.len(), second.done), (1, true));
    assert_eq!(list(Some(true), Some(true), second.prev_iterator).await.data, first.data);
}
