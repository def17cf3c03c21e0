//! Promises of the log: what can be found, and what an entry holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests write to sockets of their own")]

mod support;

use ringback::store::{AttemptQuery, AttemptStatus, CountQuery, Counts, DeadQuery, MessageQuery};
use ringback::{
    ApplicationId, Attempt, EndpointId, Error, Invalid, MessageId, NewApplication, NewEndpoint, NewMessage, NoRoute,
    Profile, Routing, State, StateKind, Timestamp, Trigger, example_event_types,
};
use support::{Behaviour, Receiver, World, quick, retries};

/// Everything that a query finds, read in pages of `limit`: complete, in order, without repeats.
async fn pages(world: &World, query: AttemptQuery, limit: usize) -> Vec<Attempt> {
    let mut all: Vec<Attempt> = Vec::new();
    let mut after = query.after;
    loop {
        let page = world.ringback.attempts(world.app, AttemptQuery { after, limit, ..query.clone() }).await.unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.next.is_none() || page.items.len() == limit, "a page that is not the last is full");
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first, each once");
    all
}

/// Two endpoints, one that fails twice before it takes a message and one that takes all.
async fn busy() -> (World, Vec<MessageId>, [EndpointId; 2]) {
    let world = World::running().await;
    let failing = Receiver::start(|request, _| match request.path.as_str() {
        "/hook" => Behaviour::Answer(503),
        _ => Behaviour::Answer(200),
    })
    .await;
    let well = Receiver::answering(200).await;
    let failing = world.endpoint(NewEndpoint::at(&failing.url).retry(retries(&[1, 1]))).await.id;
    let well = world.endpoint(quick(&well.url)).await.id;
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.extend(world.send_many(5).await);
        world.all_ended(&sent).await;
    }
    (world, sent, [failing, well])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_found_by_message_endpoint_status_and_time_in_pages() {
    let (world, sent, [failing, well]) = busy().await;
    let any = AttemptQuery::default;
    let all = pages(&world, any(), 250).await;
    assert_eq!(all.len(), 20 * 3 + 20);
    let middle = all[all.len() / 2].started_at;
    let status = |status| AttemptQuery { status: Some(status), ..any() };
    let at = |id: EndpointId| move |attempt: &Attempt| attempt.delivery.lane.endpoint == id;
    type Fits<'a> = Box<dyn Fn(&Attempt) -> bool + 'a>;
    let rows: Vec<(AttemptQuery, Fits, usize)> = vec![
        (any(), Box::new(|_| true), 80),
        (AttemptQuery { endpoint: Some(failing), ..any() }, Box::new(at(failing)), 60),
        (AttemptQuery { endpoint: Some(well), ..any() }, Box::new(at(well)), 20),
        (AttemptQuery { message: Some(sent[7]), ..any() }, Box::new(|a| a.delivery.message == sent[7]), 4),
        (
            AttemptQuery { message: Some(sent[7]), endpoint: Some(failing), ..any() },
            Box::new(|a| a.delivery.message == sent[7] && at(failing)(a)),
            3,
        ),
        (status(AttemptStatus::Succeeded), Box::new(Attempt::succeeded), 20),
        (status(AttemptStatus::Failed), Box::new(|a| !a.succeeded()), 60),
        (status(AttemptStatus::Code(503)), Box::new(at(failing)), 60),
        (status(AttemptStatus::Class(2)), Box::new(at(well)), 20),
        (status(AttemptStatus::NoAnswer), Box::new(|_| false), 0),
        (AttemptQuery { since: Some(middle), ..any() }, Box::new(|a| a.started_at >= middle), usize::MAX),
        (AttemptQuery { until: Some(middle), ..any() }, Box::new(|a| a.started_at < middle), usize::MAX),
        (
            AttemptQuery { until: Some(middle), endpoint: Some(well), ..status(AttemptStatus::Code(200)) },
            Box::new(|a| a.started_at < middle && at(well)(a)),
            usize::MAX,
        ),
    ];
    for (query, fits, count) in rows {
        let expected: Vec<&Attempt> = all.iter().filter(|attempt| fits(attempt)).collect();
        assert!(count == usize::MAX || count == expected.len(), "{query:?}");
        for limit in [1, 7, 250] {
            let found = pages(&world, query.clone(), limit).await;
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query:?} by {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_dead_letters_are_listed_in_pages() {
    let (world, sent, [failing, _]) = busy().await;
    let mut found = Vec::new();
    let mut query = MessageQuery { limit: 6, ..MessageQuery::default() };
    loop {
        let page = world.ringback.messages(world.app, query.clone()).await.unwrap();
        found.extend(page.items.iter().map(|message| message.id));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    found.reverse();
    assert_eq!(found, sent);
    let since = Some(sent[5].time());
    let of_type = MessageQuery { event_types: vec!["test.other".into()], limit: 10, ..MessageQuery::default() };
    assert!(world.ringback.messages(world.app, of_type).await.unwrap().items.is_empty());
    let later = MessageQuery { since, limit: 250, ..MessageQuery::default() };
    let later = world.ringback.messages(world.app, later).await.unwrap().items;
    assert_eq!(later.len(), sent.iter().filter(|id| Some(id.time()) >= since).count());

    let mut dead = Vec::new();
    let mut query = DeadQuery { endpoint: Some(failing), limit: 3, ..DeadQuery::default() };
    loop {
        let page = world.ringback.dead_letters(world.app, query.clone()).await.unwrap();
        dead.extend(page.items.iter().map(|id| id.message));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(dead, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_16_kib_of_an_answer_are_kept() {
    let world = World::running().await;
    const KEPT: usize = 16 * 1024;
    for (length, kept, truncated) in [(0, 0, false), (KEPT, KEPT, false), (KEPT + 1, KEPT, true), (99_999, KEPT, true)]
    {
        let body: Vec<u8> = (0..length).map(|n: usize| (n % 251) as u8).collect();
        let answer = body.clone();
        let receiver =
            Receiver::start(move |_, _| Behaviour::AnswerWith(200, vec![("X-Trace", "abc".into())], answer.clone()))
                .await;
        let endpoint = world.endpoint(quick(&receiver.url)).await.id;
        let sent = world.send("test.happened", "{}").await;
        assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
        let response = world.attempts(sent).await[0].response.clone().unwrap();
        assert_eq!((response.status, response.body.len(), response.truncated), (200, kept, truncated));
        assert_eq!(response.body, body[..kept]);
        assert!(response.headers.contains(&("x-trace".into(), "abc".into())));
        world.ringback.delete_endpoint(world.app, endpoint).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_of_a_request_are_logged_with_custom_values_redacted() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = quick(&receiver.url).header("Authorization", "Bearer abc").header("X-Client-ID", "client");
    world.endpoint(endpoint).await;
    let sent = world.send("test.happened", "{}").await;
    world.ended(sent).await;
    let attempt = world.attempts(sent).await.remove(0);
    let request = &receiver.received()[0];
    let logged = |name: &str| attempt.request_headers.iter().find(|(n, _)| n == name).unwrap().1.as_str();
    for name in ["svix-id", "svix-timestamp", "svix-signature", "Content-Type"] {
        assert_eq!(Some(logged(name)), request.header(name), "{name}");
    }
    for name in ["Authorization", "X-Client-ID"] {
        assert_eq!(logged(name), "[redacted]");
    }
    assert!(!serde_json::to_string(&attempt).unwrap().contains("abc"));
    assert!(attempt.timing.head_us.unwrap() <= attempt.timing.total_us);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_sent_as_it_is_is_not_logged() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let profile: Profile = serde_json::from_value(serde_json::json!({
        "name": "token",
        "signing": {
            "secret": "required",
            "keys": [{"kind": "static-token"}],
            "headers": [{"name": "X-Token", "value": "{sig}"}],
        },
    }))
    .unwrap();
    world.endpoint(quick(&receiver.url).profile(profile).secret("s3cr3t")).await;
    let sent = world.send("test.happened", "{}").await;
    world.ended(sent).await;
    assert_eq!(receiver.received()[0].header("x-token"), Some("s3cr3t"));
    assert!(!serde_json::to_string(&world.attempts(sent).await).unwrap().contains("s3cr3t"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_goes_nowhere_is_listed_with_its_reason() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let mut sent = vec![(world.send("call.placed", "{}").await, NoRoute::NoEndpoints)];
    let only = quick(&receiver.url).event_type("invoice.*").channel("eu");
    let endpoint = world.endpoint(only).await.id;
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    sent.push((world.send("call.placed", "{}").await, NoRoute::AllDisabled));
    world.ringback.enable_endpoint(world.app, endpoint).await.unwrap();
    sent.push((world.send("call.placed", "{}").await, NoRoute::EventTypeNotWanted));
    sent.push((world.send("invoice.paid", "{}").await, NoRoute::ChannelsNotWanted));
    let wanted = NewMessage::bytes("invoice.paid", "{}").channel("eu");
    let routed = world.ringback.send(world.app, wanted).await.unwrap();
    assert_eq!(routed.routing, Some(Routing::To(vec![endpoint])));
    world.ended(routed.id).await;
    world.reopen().await;
    let query = MessageQuery { unrouted: true, limit: 250, ..MessageQuery::default() };
    let listed = world.ringback.messages(world.app, query).await.unwrap().items;
    let expected: Vec<_> = sent.into_iter().rev().map(|(id, why)| (id, Routing::Nowhere(why))).collect();
    assert_eq!(listed.iter().map(|message| (message.id, message.routing.clone())).collect::<Vec<_>>(), expected);
    for (id, routing) in expected {
        assert!(world.deliveries(id).await.is_empty());
        let Routing::Nowhere(why) = routing else { panic!("it goes nowhere") };
        assert!(!why.describe().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_profile_sends_its_vendor_s_test_events_to_one_endpoint_whatever_its_filters() {
    let world = World::running().await;
    let other = Receiver::answering(200).await;
    world.endpoint(quick(&other.url)).await;
    for name in Profile::BUILTIN {
        let receiver = Receiver::answering(200).await;
        let endpoint = quick(&receiver.url).profile(name).event_type("never.sent").channel("nowhere");
        let endpoint = world.endpoint(endpoint).await.id;
        for (place, event_type) in example_event_types(name).iter().enumerate() {
            let sent = world.ringback.send_test(world.app, endpoint, event_type).await.unwrap();
            assert_eq!(sent.routing, Some(Routing::To(vec![endpoint])));
            assert_eq!(world.ended(sent.id).await.kind(), StateKind::Delivered, "{name} {event_type}");
            assert_eq!(world.attempts(sent.id).await[0].trigger, Trigger::Test);
            let message = world.ringback.message(world.app, sent.id).await.unwrap();
            assert!(message.test && message.event_type == *event_type);
            let body: serde_json::Value = serde_json::from_slice(&receiver.received()[place].body).unwrap();
            let named = ["type", "event", "eventType"].iter().find_map(|member| body.get(member));
            let wrapped = ["levers", "levrage", "subverse"].contains(&name);
            assert_eq!(named.and_then(|value| value.as_str()), wrapped.then_some(*event_type));
        }
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_that_the_vendor_does_not_have_is_refused_with_those_it_has() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    for name in ["levers", "levrage", "subverse"] {
        let endpoint = world.endpoint(quick(&receiver.url).profile(name).event_type("x")).await.id;
        let answer = world.ringback.send_test(world.app, endpoint, "invoice.paid").await;
        let Err(Error::Invalid(invalid)) = answer else { panic!("{answer:?}") };
        assert_eq!(invalid.field(), "eventType");
        assert!(example_event_types(name).iter().all(|known| invalid.problem().contains(known)), "{invalid}");
    }
    let svix = world.endpoint(quick(&receiver.url)).await.id;
    let answer = world.ringback.send_test(world.app, svix, "not a name").await;
    assert!(matches!(&answer, Err(Error::Invalid(invalid)) if field(invalid) == "eventType"), "{answer:?}");
    let any = world.ringback.send_test(world.app, svix, "invoice.paid").await.unwrap().id;
    assert_eq!(world.ended(any).await.kind(), StateKind::Delivered);
    assert_eq!((world.message_count().await, receiver.count()), (1, 1));
}

fn field(invalid: &Invalid) -> &str {
    invalid.field()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_to_an_endpoint_that_takes_nothing_is_a_conflict() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    world.ringback.disable_endpoint(world.app, endpoint).await.unwrap();
    let answer = world.ringback.send_test(world.app, endpoint, "example.event").await;
    assert!(matches!(answer, Err(Error::Conflict(_))), "{answer:?}");
    world.ringback.delete_endpoint(world.app, endpoint).await.unwrap();
    let answer = world.ringback.send_test(world.app, endpoint, "example.event").await;
    assert_eq!(answer, Err(Error::NotFound("endpoint")));
    assert_eq!((world.message_count().await, receiver.count()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_message_that_fails_is_retried_and_ends_as_any_other() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let sent = world.ringback.send_test(world.app, endpoint, "example.event").await.unwrap().id;
    assert!(matches!(world.ended(sent).await, State::Dead { .. }));
    let triggers: Vec<_> = world.attempts(sent).await.iter().map(|attempt| attempt.trigger).collect();
    assert_eq!(triggers, [Trigger::Test, Trigger::Retry, Trigger::Retry]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_found_by_its_event_id() {
    let mut world = World::open().await;
    let at: Timestamp = "2026-01-31T08:30:00.5Z".parse().unwrap();
    let message = NewMessage::bytes("call.placed", r#"{"n": 1.0}"#).event_id("call_1").channel("eu").channel("agent:a");
    let sent = world.ringback.send(world.app, message.occurred_at(at)).await.unwrap().id;
    world.reopen().await;
    let found = world.ringback.message_by_event_id(world.app, "call_1").await.unwrap();
    assert_eq!(*found, *world.ringback.message(world.app, sent).await.unwrap());
    assert_eq!((found.id, found.event_id.as_deref(), found.occurred_at), (sent, Some("call_1"), at));
    assert_eq!(found.channels, ["eu", "agent:a"]);
    assert_eq!(&found.payload[..], br#"{"n": 1.0}"#);
    let other = world.ringback.message_by_event_id(world.app, "call_2").await;
    assert_eq!(other.unwrap_err(), Error::NotFound("message"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_add_up_by_application_and_endpoint_and_know_what_there_is() {
    let (world, sent, [failing, well]) = busy().await;
    let all = CountQuery::default();
    let of = |endpoint| CountQuery { endpoint: Some(endpoint), ..all };
    let counts = world.ringback.counts(world.app, all).await.unwrap();
    assert!(counts.adds_up());
    let none = Counts::default();
    assert_eq!(counts, Counts { messages: 20, routed: 40, delivered: 20, dead: 20, ..none });
    let shown = serde_json::to_value(counts).unwrap();
    assert_eq!(shown["routed"], 40);
    let failed = world.ringback.counts(world.app, of(failing)).await.unwrap();
    assert_eq!(failed, Counts { messages: 20, routed: 20, dead: 20, ..none });
    let since = CountQuery { since: Some(sent[5].time()), ..of(well) };
    let later = sent.iter().filter(|id| id.time() >= sent[5].time()).count() as u64;
    let expected = Counts { messages: later, routed: later, delivered: later, ..none };
    assert_eq!(world.ringback.counts(world.app, since).await.unwrap(), expected);
    world.ringback.delete_endpoint(world.app, failing).await.unwrap();
    assert_eq!(world.ringback.counts(world.app, of(failing)).await.unwrap(), failed, "its log is kept");

    let other = world.ringback.create_application(NewApplication::named("Other")).await.unwrap().id;
    assert_eq!(world.ringback.counts(other, all).await.unwrap(), none);
    let stranger = world.ringback.counts(other, of(well)).await;
    assert_eq!(stranger, Err(Error::NotFound("endpoint")));
    let unknown = ApplicationId::from_bytes([7; 16]);
    assert_eq!(world.ringback.counts(unknown, all).await, Err(Error::NotFound("application")));
}
