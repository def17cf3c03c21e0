//! Messages, through the official client.

use serde_json::json;
use svix::api::{
    ApplicationIn, ListResponseMessageOut, MessageCreateOptions, MessageGetOptions, MessageIn, MessageListOptions,
};

use crate::client::{Client, arrived, event, invalid, nobody, refused, verifies};
use crate::support::Receiver;

#[tokio::test]
async fn messages_are_made_found_and_expunged() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let messages = client.svix.message();
    let payload = json!({"call": {"id": "c1", "ü": "€ 5"}});
    let given = MessageIn {
        event_id: Some("event-1".into()),
        channels: Some(vec!["a".into(), "b".into()]),
        ..event("call.ended", payload.clone())
    };
    let made = messages.create(acme(), given.clone(), None).await.unwrap();
    assert!(made.id.starts_with("msg_"), "{made:?}");
    assert_eq!((&made.payload, &made.event_id, &made.event_type), (&payload, &given.event_id, &given.event_type));
    refused(409, messages.create(acme(), given, None).await);
    assert_eq!(messages.get(acme(), made.id.clone(), None).await.unwrap(), made);
    assert_eq!(messages.get(acme(), "event-1".into(), None).await.unwrap(), made);
    let without = Some(MessageGetOptions { with_content: Some(false) });
    assert_eq!(messages.get(acme(), "event-1".into(), without).await.unwrap().payload, json!({}));
    let options = Some(MessageCreateOptions { with_content: Some(false), idempotency_key: None });
    let bare = messages.create(acme(), event("call.ended", payload.clone()), options).await.unwrap();
    assert_eq!(bare.payload, json!({}));
    assert_eq!(messages.get(acme(), bare.id, None).await.unwrap().payload, payload);

    messages.expunge_content(acme(), made.id.clone()).await.unwrap();
    assert!(!messages.get(acme(), made.id, None).await.unwrap().payload.to_string().contains("c1"));
    refused(404, messages.get(acme(), nobody("msg"), None).await);
    refused(404, messages.expunge_content(acme(), nobody("msg")).await);
}

#[tokio::test]
async fn a_message_can_bring_its_application() {
    let client = Client::start().await;
    let messages = client.svix.message();
    let application = ApplicationIn { uid: Some("made".into()), ..ApplicationIn::new("Made".into()) };
    let given = MessageIn { application: Some(application), ..event("call.ended", json!({})) };
    messages.create("made".into(), given.clone(), None).await.unwrap();
    messages.create("made".into(), given.clone(), None).await.unwrap();
    assert_eq!(messages.list("made".into(), None).await.unwrap().data.len(), 2);
    invalid(&["body", "application", "uid"], messages.create("other".into(), given, None).await);
    refused(404, messages.create("none".into(), event("call.ended", json!({})), None).await);
}

#[tokio::test]
async fn a_text_is_sent_as_it_is() {
    let client = Client::start().await;
    client.application("acme").await;
    let receiver = Receiver::answering(200).await;
    client.endpoint("acme", "main", &receiver.url).await;
    let secret = client.secret("acme", "main").await;
    for (text, shown) in [
        ("{ \"b\": 1.50,\n  \"a\": 1 }", json!({"b": 1.5, "a": 1})),
        ("just a text", json!({"rawPayload": "just a text"})),
        ("[1, 2]", json!({"rawPayload": "[1, 2]"})),
    ] {
        let channels = Some(vec!["main".into()]);
        let message = MessageIn { channels, ..MessageIn::new_raw_payload("call.ended".into(), text.into()) };
        let made = client.svix.message().create("acme".into(), message, None).await.unwrap();
        assert_eq!(made.payload, shown);
        let request = arrived(&receiver, &made.id, 1).await.remove(0);
        assert_eq!(String::from_utf8_lossy(&request.body), text);
        verifies(&secret, &request);
    }
}

#[tokio::test]
async fn messages_are_listed_by_channel_type_and_time() {
    let client = Client::start().await;
    client.application("acme").await;
    let messages = client.svix.message();
    let mut sent = Vec::new();
    for (number, event_type) in ["call.started", "call.ended", "call.started", "call.failed"].into_iter().enumerate() {
        let channels = Some(vec![if number % 2 == 0 { "even".to_owned() } else { "odd".to_owned() }]);
        let message = MessageIn { channels, ..event(event_type, json!({"number": number})) };
        sent.push(messages.create("acme".into(), message, None).await.unwrap());
        // Times are in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let list = async |options| messages.list("acme".into(), Some(options)).await.unwrap();
    let ids = |page: &ListResponseMessageOut| page.data.iter().map(|message| message.id.clone()).collect::<Vec<_>>();
    let of = |numbers: &[usize]| numbers.iter().map(|number| sent[*number].id.clone()).collect::<Vec<_>>();
    let any = MessageListOptions::default;
    assert_eq!(list(any()).await.data, sent.iter().rev().cloned().collect::<Vec<_>>());
    let without = list(MessageListOptions { with_content: Some(false), ..any() }).await;
    assert!(without.data.iter().all(|message| message.payload == json!({})));
    let event_types = |types: &[&str]| Some(types.iter().map(|name| (*name).to_owned()).collect());
    for (options, numbers) in [
        (MessageListOptions { channel: Some("even".into()), ..any() }, &[2, 0][..]),
        (MessageListOptions { event_types: event_types(&["call.started"]), ..any() }, &[2, 0]),
        (MessageListOptions { event_types: event_types(&["call.ended", "call.failed"]), ..any() }, &[3, 1]),
        (MessageListOptions { before: Some(sent[2].timestamp.clone()), ..any() }, &[1, 0]),
        (MessageListOptions { after: Some(sent[2].timestamp.clone()), ..any() }, &[3, 2]),
    ] {
        assert_eq!(ids(&list(options).await), of(numbers));
    }
    let first = list(MessageListOptions { limit: Some(2), ..any() }).await;
    let second = list(MessageListOptions { limit: Some(2), iterator: first.iterator.clone(), ..any() }).await;
    assert_eq!((ids(&first), ids(&second), second.done), (of(&[3, 2]), of(&[1, 0]), true));
    let back = list(MessageListOptions { limit: Some(2), iterator: second.prev_iterator, ..any() }).await;
    assert_eq!(ids(&back), ids(&first));
}
