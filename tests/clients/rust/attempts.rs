//! The log and the deliveries, through the official client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;
use svix::api::{
    ListResponseMessageAttemptOut, MessageAttemptListAttemptedMessagesOptions as MessagesOptions,
    MessageAttemptListByEndpointOptions as ByEndpoint, MessageAttemptListByMsgOptions as ByMessage,
    MessageAttemptTriggerType, MessageStatus, StatusCodeClass,
};

use crate::client::{Client, arrived, nobody, refused, refusing, verifies};
use crate::support::{Behaviour, Receiver, closed_port, until};

/// An application whose message one endpoint takes, one refuses for now, one refuses for good, and one cannot be reached.
struct Scene {
    client: Client,
    takes: Receiver,
    refuses: Receiver,
    /// What the one that refuses for good answers.
    refusal: Arc<AtomicU16>,
    names: HashMap<String, &'static str>,
    message: String,
}

impl Scene {
    async fn start() -> Scene {
        let client = Client::start().await;
        client.application("acme").await;
        let takes = Receiver::start(|_, _| Behaviour::AnswerWith(200, Vec::new(), b"thank you".to_vec())).await;
        let refusal = Arc::new(AtomicU16::new(422));
        let answers = Arc::clone(&refusal);
        let refuses = Receiver::start(move |_, _| refusing(answers.load(Ordering::SeqCst))).await;
        let fails = Receiver::answering(503).await;
        let unreachable = format!("http://{}/", closed_port().await);
        let mut names = HashMap::new();
        for (name, url) in
            [("takes", &takes.url), ("refuses", &refuses.url), ("fails", &fails.url), ("none", &unreachable)]
        {
            names.insert(client.endpoint("acme", name, url).await, name);
        }
        let message = client.send("acme").await;
        let scene = Scene { client, takes, refuses, refusal, names, message };
        until(|| async { scene.tried(ByMessage::default()).await.len() == 4 }).await;
        scene
    }

    async fn by_message(&self, options: ByMessage) -> ListResponseMessageAttemptOut {
        let attempts = self.client.svix.message_attempt();
        attempts.list_by_msg("acme".into(), self.message.clone(), Some(options)).await.unwrap()
    }

    /// The endpoints of a list of attempts, each once.
    async fn tried(&self, options: ByMessage) -> Vec<&'static str> {
        let page = self.by_message(options).await;
        let mut names: Vec<_> = page.data.iter().map(|attempt| self.names[&attempt.endpoint_id]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[tokio::test]
async fn attempts_are_listed_by_message_and_by_endpoint() {
    let scene = Scene::start().await;
    let any = ByMessage::default;
    for (options, names) in [
        (ByMessage { status: Some(MessageStatus::Success), ..any() }, &["takes"][..]),
        (ByMessage { status: Some(MessageStatus::Fail), ..any() }, &["fails", "none", "refuses"]),
        (ByMessage { status_code_class: Some(StatusCodeClass::Code2xx), ..any() }, &["takes"]),
        (ByMessage { status_code_class: Some(StatusCodeClass::Code4xx), ..any() }, &["refuses"]),
        (ByMessage { status_code_class: Some(StatusCodeClass::Code5xx), ..any() }, &["fails"]),
        (ByMessage { status_code_class: Some(StatusCodeClass::CodeNone), ..any() }, &["none"]),
        (ByMessage { endpoint_id: Some("refuses".into()), ..any() }, &["refuses"]),
        (ByMessage { channel: Some("all".into()), ..any() }, &["fails", "none", "refuses", "takes"]),
        (ByMessage { event_types: Some(vec!["other.event".into()]), ..any() }, &[]),
    ] {
        assert_eq!(scene.tried(options).await, names);
    }
    let attempts = scene.client.svix.message_attempt();
    let options = ByEndpoint { with_msg: Some(true), ..ByEndpoint::default() };
    let page = attempts.list_by_endpoint("acme".into(), "takes".into(), Some(options)).await.unwrap();
    let attempt = &page.data[0];
    assert_eq!((page.data.len(), page.done), (1, true));
    assert_eq!((attempt.status, attempt.response_status_code), (MessageStatus::Success, 200));
    assert_eq!((attempt.response.as_str(), &attempt.url), ("thank you", &scene.takes.url));
    assert_eq!(attempt.msg.as_ref().unwrap().payload, json!({"n": 1}));
    let get = async || attempts.get("acme".into(), scene.message.clone(), attempt.id.clone()).await.unwrap();
    assert_eq!((get().await.id, get().await.response), (attempt.id.clone(), "thank you".to_owned()));

    attempts.expunge_content("acme".into(), scene.message.clone(), attempt.id.clone()).await.unwrap();
    assert_eq!(get().await.response, "");
    refused(404, attempts.get("acme".into(), scene.message.clone(), nobody("atmpt")).await);
    refused(404, attempts.list_by_msg("acme".into(), nobody("msg"), None).await);

    let first = scene.by_message(ByMessage { limit: Some(1), ..any() }).await;
    let next = scene.by_message(ByMessage { limit: Some(1), iterator: first.iterator.clone(), ..any() }).await;
    assert_ne!(next.data[0].id, first.data[0].id);
    let back = scene.by_message(ByMessage { limit: Some(1), iterator: next.prev_iterator, ..any() }).await;
    assert_eq!(back.data[0].id, first.data[0].id);
}

#[tokio::test]
async fn destinations_and_attempted_messages_say_how_each_delivery_stands() {
    let scene = Scene::start().await;
    let attempts = scene.client.svix.message_attempt();
    let page = attempts.list_attempted_destinations("acme".into(), scene.message.clone(), None).await.unwrap();
    let standing: HashMap<&str, MessageStatus> =
        page.data.iter().map(|found| (scene.names[&found.id], found.status)).collect();
    let expected = [
        ("takes", MessageStatus::Success),
        ("fails", MessageStatus::Pending),
        ("refuses", MessageStatus::Fail),
        ("none", MessageStatus::Pending),
    ];
    assert_eq!(standing, HashMap::from(expected));
    for (endpoint, status) in expected {
        let options = MessagesOptions { status: Some(status), ..MessagesOptions::default() };
        let found = attempts.list_attempted_messages("acme".into(), endpoint.into(), Some(options)).await.unwrap();
        assert_eq!((&found.data[0].id, found.data[0].status), (&scene.message, status));
        assert_eq!(found.data[0].next_attempt.is_some(), status == MessageStatus::Pending);
    }
}

/// This client knows no canceled deliveries: it could not read their number.
#[tokio::test]
async fn canceled_deliveries_can_be_read_by_a_client_that_knows_none() {
    let scene = Scene::start().await;
    // What waits of an expunged message is canceled.
    scene.client.svix.message().expunge_content("acme".into(), scene.message.clone()).await.unwrap();
    let attempts = scene.client.svix.message_attempt();
    let status = async || {
        let page = attempts.list_attempted_messages("acme".into(), "fails".into(), None).await.unwrap();
        page.data[0].status
    };
    until(|| async { status().await == MessageStatus::Fail }).await;
}

#[tokio::test]
async fn the_newest_clients_query_is_taken() {
    let scene = Scene::start().await;
    let query = "with_content=false&expanded_statuses=true";
    for list in [format!("attempt/msg/{}", scene.message), "attempt/endpoint/takes".into(), "endpoint/takes/msg".into()]
    {
        let page = scene.client.api.http.get(&format!("/app/acme/{list}?{query}")).await.is(200);
        assert!(!page["data"].as_array().unwrap().is_empty(), "{list}: {page}");
    }
    scene.client.svix.message().expunge_content("acme".into(), scene.message.clone()).await.unwrap();
    for (query, status) in [("expanded_statuses=true", 4), ("expanded_statuses=false", 2), ("status=4", 4)] {
        let list = format!("/app/acme/endpoint/fails/msg?{query}");
        until(|| async { scene.client.api.http.get(&list).await.is(200)["data"][0]["status"] == status }).await;
    }
}

#[tokio::test]
async fn a_resent_message_arrives_again_and_verifies() {
    let scene = Scene::start().await;
    let attempts = scene.client.svix.message_attempt();
    scene.refusal.store(200, Ordering::SeqCst);
    attempts.resend("acme".into(), scene.message.clone(), "refuses".into(), None).await.unwrap();
    let requests = arrived(&scene.refuses, &scene.message, 2).await;
    let secret = scene.client.secret("acme", "refuses").await;
    requests.iter().for_each(|request| verifies(&secret, request));
    let of_refusing = || ByMessage { endpoint_id: Some("refuses".into()), ..ByMessage::default() };
    until(|| async { scene.by_message(of_refusing()).await.data.len() == 2 }).await;
    let newest = scene.by_message(of_refusing()).await.data.remove(0);
    assert_eq!((newest.status, newest.trigger_type), (MessageStatus::Success, MessageAttemptTriggerType::Manual));
    attempts.resend("acme".into(), scene.message.clone(), "takes".into(), None).await.unwrap();
    verifies(&scene.client.secret("acme", "takes").await, &arrived(&scene.takes, &scene.message, 2).await[1]);
    refused(404, attempts.resend("acme".into(), nobody("msg"), "takes".into(), None).await);
    refused(404, attempts.resend("acme".into(), scene.message.clone(), nobody("ep"), None).await);
}
