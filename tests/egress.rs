//! What is connected to, and what is not: names that change their addresses, policies that change, proxies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ringback::clock::SystemClock;
use ringback::egress::{Gate, Policy};
use ringback::http::HttpTransport;
use ringback::transport::{Request, Transport};
use ringback::{DeadReason, Failure, NewEndpoint, Outcome, State, Timestamp};
use support::dns::{Answer, Dns, addresses, parsed};
use support::{Behaviour, Receiver, World, retries};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DELIVERED: Outcome = Outcome::answered(204);
const BLOCKED: Outcome = Outcome::Failed(Failure::BlockedAddress);
const NO_NAME: Outcome = Outcome::Failed(Failure::Dns);

/// A receiver on every address of loopback, so that it could be reached wherever a name leads.
struct Everywhere {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Everywhere {
    async fn start() -> Everywhere {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        #[expect(clippy::disallowed_methods, reason = "a receiver under test is a task of its own")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        Everywhere { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }
}

fn allowing(networks: &[&str]) -> Policy {
    let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    Policy { allowed_networks, ..Policy::default() }
}

/// 127.0.0.1 stands for what may be called, 127.0.0.2 for what must not.
fn transport(gate: impl Into<Gate>, dns: &Dns) -> HttpTransport {
    let clock = Arc::new(SystemClock::starting_after(Timestamp::ZERO));
    HttpTransport::new(gate, b"", clock).unwrap().nameservers(vec![dns.address])
}

fn request(url: &str) -> Request {
    Request { url: url.parse().unwrap(), headers: vec![], body: Bytes::from_static(b"{}"), timeout: AMPLE }
}

const AMPLE: Duration = Duration::from_secs(60);

async fn post(transport: &HttpTransport, url: &str) -> Outcome {
    transport.post(request(url)).await.outcome
}

#[tokio::test]
async fn one_answer_that_must_not_be_called_refuses_all_of_a_names_addresses() {
    for (answer, outcome) in [
        (addresses(&["127.0.0.1"]), DELIVERED),
        (addresses(&["127.0.0.2"]), BLOCKED),
        (addresses(&["127.0.0.1", "127.0.0.2"]), BLOCKED),
        (addresses(&["127.0.0.2", "127.0.0.1"]), BLOCKED),
        (addresses(&["127.0.0.1", "::1"]), BLOCKED),
        (addresses(&["127.0.0.1", "::ffff:127.0.0.1"]), BLOCKED),
        (addresses(&["127.0.0.1", "169.254.169.254"]), BLOCKED),
        (addresses(&["127.0.0.1", "64:ff9b::7f00:1"]), BLOCKED),
        (Answer::Alias("inside.example", parsed(&["127.0.0.1"])), DELIVERED),
        (Answer::Alias("inside.example", parsed(&["10.0.0.1"])), BLOCKED),
        (Answer::Alias("inside.example", parsed(&["127.0.0.1", "10.0.0.1"])), BLOCKED),
        (addresses(&[]), NO_NAME),
        (Answer::NoSuchName, NO_NAME),
        (Answer::Fault, NO_NAME),
    ] {
        let receiver = Everywhere::start().await;
        let told = answer.clone();
        let dns = Dns::start(move |_| told.clone()).await;
        let transport = transport(allowing(&["127.0.0.1"]), &dns);
        assert_eq!(post(&transport, &receiver.url("acme.example")).await, outcome, "{answer:?}");
        assert_eq!(receiver.connections(), usize::from(outcome == DELIVERED), "{answer:?}");
    }
}

#[tokio::test]
async fn an_alias_that_has_to_be_asked_for_is_vetted_by_where_it_ends() {
    for (end, outcome) in [("127.0.0.1", DELIVERED), ("127.0.0.2", BLOCKED)] {
        let receiver = Everywhere::start().await;
        let dns = Dns::start(move |name| match name {
            "acme.example" => Answer::AliasAlone("second.example"),
            "second.example" => Answer::AliasAlone("third.internal"),
            _ => addresses(&[end]),
        })
        .await;
        let transport = transport(allowing(&["127.0.0.1"]), &dns);
        assert_eq!(post(&transport, &receiver.url("acme.example")).await, outcome, "{end}");
        assert_eq!(receiver.connections(), usize::from(outcome == DELIVERED), "{end}");
    }
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_stands_and_never_with_this_machines_search_list() {
    let dns = Dns::start(|_| Answer::NoSuchName).await;
    let transport = transport(allowing(&["127.0.0.1"]), &dns);
    assert_eq!(post(&transport, "http://acme.example/").await, NO_NAME);
    assert!(dns.names().iter().all(|name| name == "acme.example"), "{:?}", dns.names());
    assert!(!dns.names().is_empty());
}

#[tokio::test]
async fn localhost_and_addresses_are_never_asked_for() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|_| addresses(&["10.0.0.1"])).await;
    let transport = transport(allowing(&["127.0.0.0/8"]), &dns);
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "0x7f.1"] {
        assert_eq!(post(&transport, &receiver.url(host)).await, DELIVERED, "{host}");
    }
    assert_eq!(dns.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_changes_its_address_between_registration_and_attempts_is_vetted_each_time() {
    let receiver = Everywhere::start().await;
    let turn = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&turn);
    // Where the name leads at the first, the second and every later attempt.
    let dns = Dns::start(move |_| match at.load(Ordering::SeqCst) {
        0 => addresses(&["127.0.0.2"]),
        1 => addresses(&["127.0.0.1", "10.0.0.7"]),
        _ => addresses(&["127.0.0.1"]),
    })
    .await;
    let mut world = World::with(|config| {
        config.egress = allowing(&["127.0.0.1"]);
        config.nameservers = vec![dns.address];
    })
    .await;
    // Registered without a question: what a name leads to then would say nothing about later.
    world.endpoint(NewEndpoint::at(receiver.url("acme.example")).retry(retries(&[50, 50, 50]))).await;
    assert_eq!(dns.names(), Vec::<String>::new());
    let message = world.send("test.happened", "{}").await;
    let mut watched = world.ringback.watch();
    world.run();
    for next in 1..=2 {
        assert_eq!(watched.recv().await.unwrap().outcome, BLOCKED);
        assert_eq!(receiver.connections(), 0);
        turn.store(next, Ordering::SeqCst);
    }
    assert!(matches!(world.ended(message).await, State::Delivered { .. }));
    let outcomes: Vec<_> = world.attempts(message).await.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [BLOCKED, BLOCKED, DELIVERED]);
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_was_stored_under_another_policy_is_blocked_before_a_byte_leaves() {
    let receiver = Everywhere::start().await;
    let mut world = World::open().await;
    world.endpoint(NewEndpoint::at(receiver.url("127.0.0.1"))).await;
    let message = world.send("test.happened", "{}").await;
    world.stop().await;
    world.config.egress = Policy::default();
    world.reopen().await;
    world.run();
    assert!(matches!(world.ended(message).await, State::Dead { reason: DeadReason::Blocked, .. }));
    assert_eq!(world.attempts(message).await[0].outcome, Outcome::Failed(Failure::Blocked));
    assert_eq!(receiver.connections(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_kept_connection_is_not_used_once_the_policy_forbids_its_peer() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|_| addresses(&["127.0.0.1"])).await;
    let gate = Gate::from(allowing(&["127.0.0.0/8"]));
    let transport = transport(gate.clone(), &dns);
    let (by_name, by_address) = (receiver.url("acme.example"), receiver.url("127.0.0.1"));
    for url in [&by_name, &by_name, &by_address, &by_address] {
        assert_eq!(post(&transport, url).await, DELIVERED);
    }
    assert_eq!(receiver.connections(), 2, "each origin's connection was kept");
    // Another network keeps plain http to names open, so that the peer alone decides.
    gate.set(allowing(&["10.0.0.0/8"]));
    assert_eq!(post(&transport, &by_name).await, BLOCKED);
    assert_eq!(post(&transport, &by_address).await, Outcome::Failed(Failure::Blocked));
    assert_eq!(receiver.connections(), 2, "and no new one was made");
    gate.set(allowing(&["127.0.0.1"]));
    assert_eq!(post(&transport, &by_name).await, DELIVERED);
}

#[tokio::test]
async fn a_policy_that_is_changed_while_it_runs_counts_for_registration_and_for_the_next_attempt() {
    let receiver = Receiver::answering(204).await;
    let world = World::running().await;
    world.endpoint(NewEndpoint::at(&receiver.url)).await;
    let first = world.send("test.happened", "{}").await;
    assert!(matches!(world.ended(first).await, State::Delivered { .. }));
    world.ringback.set_egress(Policy::default());
    assert_eq!(*world.ringback.egress(), Policy::default());
    assert!(world.ringback.create_endpoint(world.app, NewEndpoint::at(&receiver.url)).await.is_err());
    let second = world.send("test.happened", "{}").await;
    assert!(matches!(world.ended(second).await, State::Dead { reason: DeadReason::Blocked, .. }));
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn names_that_nobody_answers_for_end_as_such_and_hold_up_no_other_name() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|name| match name.starts_with("silent") {
        true => Answer::Silence,
        false => addresses(&["127.0.0.1"]),
    })
    .await;
    let transport = Arc::new(transport(allowing(&["127.0.0.1"]), &dns));
    let silent: Vec<_> = (0..300)
        .map(|n| {
            let (transport, url) = (Arc::clone(&transport), receiver.url(&format!("silent{n}.example")));
            #[expect(clippy::disallowed_methods, reason = "attempts at the same time")]
            tokio::spawn(async move { post(&transport, &url).await })
        })
        .collect();
    while dns.names().len() < 300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for n in 0..20 {
        assert_eq!(post(&transport, &receiver.url(&format!("good{n}.example"))).await, DELIVERED);
    }
    assert!(silent.iter().all(|attempt| !attempt.is_finished()), "they were waiting all the while");
    for attempt in silent {
        assert_eq!(attempt.await.unwrap(), NO_NAME);
    }
    assert_eq!(receiver.connections(), 20);
}

#[tokio::test]
async fn an_attempts_time_limit_ends_its_question_too() {
    let dns = Dns::start(|_| Answer::Silence).await;
    let transport = transport(allowing(&["127.0.0.1"]), &dns);
    let limited = Request { timeout: Duration::from_millis(100), ..request("http://acme.example/") };
    assert_eq!(transport.post(limited).await.outcome, Outcome::Failed(Failure::Timeout));
}

#[tokio::test]
async fn a_name_server_that_answers_with_garbage_gives_no_address() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|_| Answer::Garbage).await;
    let transport = transport(allowing(&["127.0.0.1"]), &dns);
    assert_eq!(post(&transport, &receiver.url("acme.example")).await, NO_NAME);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let dns = Dns::start(|_| addresses(&["127.0.0.1", "127.0.0.3"])).await;
    // Of the two, whichever comes first: one of them has nobody who listens on its port.
    let lonely = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let port = lonely.local_addr().unwrap().port();
    let transport = transport(allowing(&["127.0.0.0/8"]), &dns);
    #[expect(clippy::disallowed_methods, reason = "a receiver under test is a task of its own")]
    tokio::spawn(async move {
        let (mut stream, _) = lonely.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    });
    assert_eq!(post(&transport, &format!("http://acme.example:{port}/")).await, DELIVERED);
}

/// A proxy on loopback that opens what it is asked for, or answers with a status; and the heads it was sent.
async fn proxy(status: u16) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, asked) = tokio::sync::mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "a proxy under test is a task of its own")]
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let heads = heads.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                heads.send(head.clone()).unwrap();
                client.write_all(format!("HTTP/1.1 {status} x\r\nX-Via: p\r\n\r\n").as_bytes()).await.unwrap();
                if status == 200 {
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    #[expect(clippy::disallowed_methods, reason = "a proxy connects")]
                    let mut behind = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
                }
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_vetted_address_and_for_nothing_else() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|name| match name {
        "acme.example" => addresses(&["127.0.0.1"]),
        _ => addresses(&["127.0.0.2"]),
    })
    .await;
    let (address, mut asked) = proxy(200).await;
    let through =
        transport(allowing(&["127.0.0.1"]), &dns).proxy(format!("http://ada:secret@{address}").parse().unwrap());
    assert_eq!(post(&through, &receiver.url("acme.example")).await, DELIVERED);
    assert_eq!(post(&through, &receiver.url("acme.example")).await, DELIVERED, "the tunnel is kept");
    let head = asked.recv().await.unwrap();
    let target = format!("127.0.0.1:{}", receiver.port);
    assert_eq!(
        head,
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic YWRhOnNlY3JldA==\r\n\r\n")
    );
    assert_eq!(post(&through, &receiver.url("inside.example")).await, BLOCKED);
    assert_eq!(post(&through, &receiver.url("127.0.0.2")).await, Outcome::Failed(Failure::Blocked));
    assert!(asked.try_recv().is_err(), "it was asked for nothing that is not vetted");
}

#[tokio::test]
async fn a_proxy_that_refuses_makes_the_receiver_unreachable() {
    let receiver = Everywhere::start().await;
    let dns = Dns::start(|_| addresses(&["127.0.0.1"])).await;
    for status in [403, 407, 502] {
        let (address, _asked) = proxy(status).await;
        let through = transport(allowing(&["127.0.0.1"]), &dns).proxy(format!("http://{address}").parse().unwrap());
        let outcome = post(&through, &receiver.url("acme.example")).await;
        assert_eq!(outcome, Outcome::Failed(Failure::Unreachable), "{status}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_redirect_inside_is_an_answer_and_never_followed() {
    let inside = Everywhere::start().await;
    let location = inside.url("127.0.0.1");
    for status in [301, 302, 303, 307, 308] {
        let location = location.clone();
        let receiver =
            Receiver::start(move |_, _| Behaviour::AnswerWith(status, vec![("Location", location.clone())], vec![]))
                .await;
        let dns = Dns::start(|_| Answer::NoSuchName).await;
        let outcome = post(&transport(allowing(&["127.0.0.0/8"]), &dns), &receiver.url).await;
        assert_eq!(outcome, Outcome::answered(status));
    }
    assert_eq!(inside.connections(), 0);
}
