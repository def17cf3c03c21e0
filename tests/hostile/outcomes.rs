//! Whole deliveries: each kind of receiver ends in its outcome, gives back what it held, and delays nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringback::store::AttemptQuery;
use ringback::{Attempt, EndpointId, MessageId, NewEndpoint, NewMessage, Outcome, StateKind};
use tokio::sync::Semaphore;

use crate::ALONE;
use crate::hostile::{self, Authority, Hostile};
use crate::support::{Behaviour, Receiver, World, retries, until};

/// The time limit of attempts that end by nothing else.
const SHORT: Duration = Duration::from_millis(500);
/// The time limit of all others.
const AMPLE: Duration = Duration::from_secs(60);
/// The requests on their way in all: fewer than there are kinds.
const IN_FLIGHT: usize = 16;
/// Of those, to endpoints that have never answered, where there is one application: a half.
const UNANSWERED: usize = 8;
/// The most bytes of headers, and of body, that are kept of an answer.
const KEPT: usize = 16 * 1024;

fn limit(kind: Hostile) -> Duration {
    if kind.outcome(SHORT) == Hostile::Silent.outcome(SHORT) { SHORT } else { AMPLE }
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn once(url: &str, event_type: &str) -> NewEndpoint {
    NewEndpoint::at(url).event_type(event_type).retry(retries(&[]))
}

async fn send(world: &World, event_type: &'static str, payload: String) -> MessageId {
    world.ringback.send(world.app, NewMessage::bytes(event_type, payload)).await.unwrap().id
}

fn event_type(kind: Hostile) -> &'static str {
    if kind.wants_much() { "hostile.large" } else { "hostile.small" }
}

/// Sends one message to every hostile endpoint, and compares the log with what must stand in it.
async fn round(world: &World, hostile: &[(hostile::Receiver, EndpointId)]) {
    let small = send(world, "hostile.small", "{}".to_owned()).await;
    let large = send(world, "hostile.large", format!("\"{}\"", "x".repeat((1 << 20) - 2))).await;
    world.all_ended(&[small, large]).await;
    let mut attempts = world.attempts(small).await;
    attempts.extend(world.attempts(large).await);
    assert_eq!(attempts.len(), hostile.len(), "one attempt for each");
    for (receiver, endpoint) in hostile {
        let kind = receiver.kind;
        let attempt = attempts.iter().find(|attempt| attempt.delivery.lane.endpoint == *endpoint).unwrap();
        assert_eq!(attempt.outcome, kind.outcome(limit(kind)), "{kind:?}");
        let good = matches!(attempt.outcome, Outcome::Answered { status: 200, .. });
        assert_eq!(attempt.result == StateKind::Delivered, good, "{kind:?}");
        keeps_little(attempt, kind);
        assert_eq!(receiver.elsewhere(), 0, "{kind:?}: followed");
        if !kind.keeps() && !kind.wants_much() {
            until(async || receiver.open() == 0).await;
        }
    }
}

fn keeps_little(attempt: &Attempt, kind: Hostile) {
    let Some(response) = &attempt.response else {
        return assert!(matches!(attempt.outcome, Outcome::Failed(_)), "{kind:?}");
    };
    let headers: usize = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(headers <= KEPT && response.body.len() <= KEPT, "{kind:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_ends_in_its_outcome_and_gives_back_permits_and_descriptors() {
    let _alone = ALONE.lock().await;
    let authority = Authority::new();
    let mut world = World::with(|config| {
        config.extra_roots = authority.roots.clone().into_bytes();
        config.max_in_flight = IN_FLIGHT;
        config.max_in_flight_per_endpoint = 1;
        config.max_in_flight_per_origin = 1;
        // The one with the absurd Retry-After rests its lane; it is to have its second message within the test.
        (config.breaker_rest, config.breaker_max_rest) = (SHORT, SHORT);
    })
    .await;
    world.run();
    // What the store opens when it is first written to is not the receivers' doing.
    send(&world, "nobody.listens", "{}".to_owned()).await;
    let before = descriptors();
    let mut hostile = Vec::new();
    for kind in Hostile::ALL {
        let receiver = kind.start(&authority).await;
        let endpoint = once(&receiver.url, event_type(kind)).timeout(limit(kind));
        let endpoint = world.endpoint(endpoint).await.id;
        hostile.push((receiver, endpoint));
    }
    // The second one shows that the lanes and the origins, each of which has one permit, have it again.
    for _ in 0..2 {
        round(&world, &hostile).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let endpoints: Vec<EndpointId> = hostile.iter().map(|(_, endpoint)| *endpoint).collect();
    drop(hostile);
    until(async || descriptors() <= before).await;
    all_permits_are_there(&world).await;
    the_same_endpoints_can_be_good(&world, &endpoints).await;
    world.stop().await;
}

/// As many requests are on their way at once as there are permits, and one more is not: of those for endpoints that
/// have never answered, and, once all have, of all.
async fn all_permits_are_there(world: &World) {
    let gate = Arc::new(Semaphore::new(0));
    let mut good = Vec::new();
    for _ in 0..=IN_FLIGHT {
        let gate = Arc::clone(&gate);
        let receiver = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&gate), 200)).await;
        world.endpoint(once(&receiver.url, "good.held")).await;
        good.push(receiver);
    }
    let arrived = || good.iter().map(Receiver::count).sum::<usize>();
    let mut before = 0;
    for permits in [UNANSWERED, IN_FLIGHT] {
        let sent = send(world, "good.held", "{}".to_owned()).await;
        until(async || arrived() == before + permits).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(arrived(), before + permits);
        gate.add_permits(good.len());
        world.all_ended(&[sent]).await;
        before += good.len();
        assert_eq!(arrived(), before);
    }
}

async fn the_same_endpoints_can_be_good(world: &World, endpoints: &[EndpointId]) {
    let good = Receiver::answering(200).await;
    for endpoint in endpoints {
        let changed = once(&good.url, "good.again");
        world.ringback.update_endpoint(world.app, *endpoint, changed).await.unwrap();
    }
    let sent = send(world, "good.again", "{\"n\":1}".to_owned()).await;
    world.all_ended(&[sent]).await;
    assert!(world.deliveries(sent).await.iter().all(|delivery| delivery.state.kind() == StateKind::Delivered));
    assert_eq!(good.count(), endpoints.len());
    assert!(good.received().iter().all(|request| request.body == b"{\"n\":1}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_good_endpoints_get_everything_once_beside_two_hundred_hostile_ones() {
    const HOSTILE: usize = 200;
    const GOOD: usize = 20;
    const PER_ENDPOINT: usize = 2;
    let _alone = ALONE.lock().await;
    let authority = Authority::new();
    let mut world = World::with(|config| {
        config.extra_roots = authority.roots.clone().into_bytes();
        config.max_in_flight = HOSTILE * PER_ENDPOINT + GOOD;
        config.max_in_flight_per_endpoint = PER_ENDPOINT as u32;
    })
    .await;
    let (mut hostile, mut good) = (Vec::new(), Vec::new());
    for (n, kind) in Hostile::ALL.into_iter().cycle().take(HOSTILE).enumerate() {
        let receiver = kind.start(&authority).await;
        let endpoint = world.endpoint(once(&receiver.url, "hostile.happened").timeout(AMPLE)).await.id;
        hostile.push((receiver, endpoint));
        if n % (HOSTILE / GOOD) == 0 {
            let receiver = Receiver::answering(200).await;
            world.endpoint(once(&receiver.url, "good.happened")).await;
            good.push(receiver);
        }
    }
    world.run();
    // One more than a lane may have on its way, so that each hanging one is full and has a backlog.
    for _ in 0..=PER_ENDPOINT {
        send(&world, "hostile.happened", "{}".to_owned()).await;
    }
    let hanging: Vec<_> = hostile.iter().filter(|(receiver, _)| receiver.kind.hangs()).collect();
    assert!(hanging.len() >= 9);
    until(async || hanging.iter().all(|(receiver, _)| receiver.open() == PER_ENDPOINT)).await;

    let payloads: Vec<String> = (0..20).map(|n| format!("{{\"n\":{n}}}")).collect();
    let mut sent = Vec::new();
    for payload in &payloads {
        sent.push(send(&world, "good.happened", payload.clone()).await);
    }
    world.all_ended(&sent).await;
    // Nothing has come to its end that all the good ones could have waited for.
    for (receiver, endpoint) in hanging {
        assert_eq!((receiver.open(), receiver.connections()), (PER_ENDPOINT, PER_ENDPOINT), "{:?}", receiver.kind);
        let query = AttemptQuery { endpoint: Some(*endpoint), limit: 1, ..AttemptQuery::default() };
        assert!(world.ringback.attempts(world.app, query).await.unwrap().items.is_empty(), "{:?}", receiver.kind);
    }
    let ids: BTreeSet<String> = sent.iter().map(MessageId::to_string).collect();
    for receiver in &good {
        let received = receiver.received();
        assert_eq!(received.len(), payloads.len(), "each once");
        let came: BTreeSet<String> = received.iter().map(|r| r.header("svix-id").unwrap().to_owned()).collect();
        assert_eq!(came, ids);
        let bodies: BTreeSet<Vec<u8>> = received.into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, payloads.iter().map(|payload| payload.clone().into_bytes()).collect());
    }
    drop(hostile);
    world.stop().await;
}
