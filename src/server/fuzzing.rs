//! What holds for any request's body and any page's iterator, over the real routes, in this process and in memory.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request as HttpRequest;
use http_body_util::BodyExt;
use ringback::clock::SystemClock;
use ringback::store::memory::MemoryStore;
use ringback::transport::{Reply, Request, Transport};
use ringback::{
    Config, NewApplication, NewEndpoint, NewEventType, NewMessage, NewReplay, ReplayFilter, Ringback, Secret, Timestamp,
};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::Options;
use super::api::{self, Api};
use super::finish::Unfinished;
use super::source::Source;

const TOKEN: &str = "an operator's token";
/// After how many inputs what they have left behind is dropped.
const INPUTS: u32 = 256;

/// What bodies are sent to.
const OPERATIONS: [(&str, &str); 15] = [
    ("POST", "/app"),
    ("PUT", "/app/acme"),
    ("PATCH", "/app/acme"),
    ("POST", "/app/acme/endpoint"),
    ("PUT", "/app/acme/endpoint/main"),
    ("PATCH", "/app/acme/endpoint/main"),
    ("PUT", "/app/acme/endpoint/main/headers"),
    ("PATCH", "/app/acme/endpoint/main/headers"),
    ("POST", "/app/acme/endpoint/main/secret/rotate"),
    ("POST", "/app/acme/msg"),
    ("POST", "/event-type"),
    ("PUT", "/event-type/call.ended"),
    ("POST", "/app/acme/replay/preview"),
    ("POST", "/auth/app-portal-access/acme"),
    ("POST", "/app/acme/cancel"),
];

/// Lists, and how the ids of their items begin.
const LISTS: [(&str, &str); 8] = [
    ("/app", "app_"),
    ("/app/acme/endpoint", "ep_"),
    ("/app/acme/endpoint/main/msg", "msg_"),
    ("/app/acme/msg", "msg_"),
    ("/app/acme/attempt", "atmpt_"),
    ("/app/acme/attempt/endpoint/main", "atmpt_"),
    ("/app/acme/replay", "job_"),
    ("/event-type", "evtype_"),
];

/// Nothing leaves.
struct Nowhere;

impl Transport for Nowhere {
    fn post(&self, _: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

struct World {
    runtime: Runtime,
    router: Router,
    inputs: u32,
}

struct Answered {
    status: u16,
    body: Vec<u8>,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("answers are JSON")
    }

    /// It names this place.
    fn names(&self, place: &str) {
        let json = self.json();
        let item = &json["detail"][0];
        assert!(item["loc"][0] == place && item["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{json}");
    }
}

async fn filled() -> Ringback {
    let clock = Arc::new(SystemClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
    let parts = Ringback::from_parts(Config::default(), Arc::new(MemoryStore::new()), Arc::new(Nowhere), clock);
    let ringback = parts.await.expect("a memory store opens");
    let acme = ringback.create_application(NewApplication::named("acme").uid("acme")).await.expect("it is new").id;
    ringback.create_application(NewApplication::named("other")).await.expect("it is new");
    for uid in ["main", "second", "third"] {
        let endpoint = NewEndpoint::at("https://a.example/").uid(uid);
        ringback.create_endpoint(acme, endpoint).await.expect("it is new");
    }
    for name in ["call.ended", "call.placed", "call.missed"] {
        ringback.create_event_type(NewEventType::named(name)).await.expect("it is new");
        ringback.send(acme, NewMessage::bytes(name, "{}")).await.expect("there is room");
    }
    for _ in 0..3 {
        ringback.start_replay(acme, NewReplay::from(ReplayFilter::default()).rate(10)).await.expect("there is room");
    }
    ringback
}

impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let options = Options {
            operator_token: Secret::new(TOKEN),
            public_url: None,
            profiles: Default::default(),
            max_connections: 1,
        };
        let ringback = runtime.block_on(filled());
        let api = Api::new(ringback, (Ipv4Addr::LOCALHOST, 1).into(), options);
        World { runtime, router: api::router(Arc::new(api), Unfinished::new()), inputs: 0 }
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answered {
        let request = HttpRequest::builder().method(method).uri(format!("/api/v1{path}")).header("host", "a");
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        let request = request.extension(Source::from(IpAddr::from(Ipv4Addr::LOCALHOST)));
        let request = request.body(Body::from(body.to_vec())).expect("a request");
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("a router always answers");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("it is in memory").to_bytes().to_vec();
            Answered { status, body }
        })
    }
}

fn in_a_world(look: impl FnOnce(&World)) {
    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }
    WORLD.with_borrow_mut(|held| {
        let mut world = held.take().filter(|world| world.inputs < INPUTS).unwrap_or_else(World::new);
        world.inputs += 1;
        look(&world);
        *held = Some(world);
    });
}

/// A body is taken, or refused by the name of what is wrong with it; what it says of a payload is kept byte for byte; no
/// answer repeats a secret. The first byte chooses the operation.
pub(crate) fn body(bytes: &[u8]) {
    let (choice, body) = bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest));
    let (method, path) = OPERATIONS[choice % OPERATIONS.len()];
    in_a_world(|world| {
        let answered = world.ask(method, path, body);
        match answered.status {
            200..=202 => drop(answered.json()),
            204 => assert!(answered.body.is_empty()),
            422 => answered.names("body"),
            // Of the body, only a name that is taken or a limit can be the reason.
            404 | 409 | 413 | 429 => drop(answered.json()["code"].as_str().expect("a code")),
            status => panic!("{method} {path}: {status} {}", String::from_utf8_lossy(&answered.body)),
        }
        if answered.status == 202 && path.ends_with("/msg") {
            #[derive(serde::Deserialize)]
            struct Sent<'a> {
                #[serde(borrow)]
                payload: &'a RawValue,
            }
            let sent: Sent<'_> = serde_json::from_slice(&answered.body).expect("a message");
            let text = String::from_utf8_lossy(body);
            assert!(text.contains(sent.payload.get()) || text.contains("rawPayload"), "{text}");
        }
        if let Ok(Value::Object(given)) = serde_json::from_slice(body)
            && let Some(secret) = given.get("secret").and_then(Value::as_str).filter(|secret| secret.len() > 20)
            && String::from_utf8_lossy(body).matches(secret).count() == 1
        {
            assert!(!String::from_utf8_lossy(&answered.body).contains(secret), "{method} {path} repeats a secret");
        }
    });
}

/// A page's iterator leads on in its own list, and is refused by every other. The first byte chooses the list.
pub(crate) fn iterator(bytes: &[u8]) {
    let (choice, text) = bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest));
    let (list, prefix) = LISTS[choice % LISTS.len()];
    let given: String = url::form_urlencoded::byte_serialize(text).collect();
    // A longer one is no URL.
    if given.len() > 8_192 {
        return;
    }
    in_a_world(|world| {
        let page = |iterator: &str| world.ask("GET", &format!("{list}?limit=2&iterator={iterator}"), b"");
        let answered = page(&given);
        match answered.status {
            200 => {
                let text = String::from_utf8_lossy(text);
                let own = text.strip_prefix('-').unwrap_or(&text).starts_with(prefix);
                assert!(own || text.is_empty(), "{list} takes {text:?}");
            }
            422 => return answered.names("query"),
            status => panic!("{list}: {status} {}", String::from_utf8_lossy(&answered.body)),
        }
        let shown = answered.json();
        assert!(shown["data"].as_array().is_some_and(|items| items.len() <= 2), "{shown}");
        for name in ["iterator", "prevIterator"] {
            if let Some(next) = shown[name].as_str() {
                let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
                assert_eq!(page(&next).status, 200, "{list} refuses its own {name}");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn what_holds_for_any_body_holds_for_the_seeds_and_for_what_is_near_them() {
        corpus::holds("body", body);
    }

    #[test]
    fn what_holds_for_any_iterator_holds_for_the_seeds_and_for_what_is_near_them() {
        corpus::holds("iterator", iterator);
    }
}
