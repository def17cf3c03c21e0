//! The transport alone: what each kind of receiver makes of an attempt, and of its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ringback::clock::SystemClock;
use ringback::egress::Policy;
use ringback::http::HttpTransport;
use ringback::transport::{Reply, Request, Transport};
use ringback::{Failure, Outcome, Secret, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::ALONE;
use crate::hostile::{Authority, Hostile, Receiver};

/// Longer than any attempt here takes, unless it is the time limit that is tested.
const AMPLE: Duration = Duration::from_secs(20);
/// The most bytes of headers, and of body, that are kept of an answer.
const KEPT: usize = 16 * 1024;

fn transport(roots: &str) -> HttpTransport {
    let policy = Policy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
    let clock = Arc::new(SystemClock::starting_after(Timestamp::ZERO));
    HttpTransport::new(policy, roots.as_bytes(), clock).unwrap()
}

fn request(url: &str, body: Bytes, timeout: Duration) -> Request {
    let headers = vec![("content-type".into(), Secret::from("application/json"))];
    Request { url: url.parse().unwrap(), headers, body, timeout }
}

async fn post(transport: &HttpTransport, url: &str) -> Reply {
    transport.post(request(url, Bytes::from_static(b"{}"), AMPLE)).await
}

fn answered(status: u16) -> Outcome {
    Outcome::answered(status)
}

#[track_caller]
fn keeps_little(reply: &Reply, kind: Hostile) {
    match (&reply.response, reply.outcome) {
        (Some(response), Outcome::Answered { status, .. }) => {
            assert_eq!(response.status, status, "{kind:?}");
            let headers: usize = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(headers <= KEPT && response.body.len() <= KEPT, "{kind:?}");
        }
        (None, Outcome::Failed(_)) => {}
        (response, outcome) => panic!("{kind:?}: {outcome:?} with {response:?}"),
    }
}

async fn comes_about(kind: Hostile, what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{kind:?}: {what} has not come about");
}

/// Posts to a receiver as often as it makes sense, the next one when the last one's connection is idle or gone.
async fn visit(transport: &HttpTransport, receiver: &Receiver) {
    let kind = receiver.kind;
    let limit = if kind.hangs() { Duration::from_millis(500) } else { AMPLE };
    let body = if kind.wants_much() { Bytes::from(vec![b'x'; 1 << 20]) } else { Bytes::from_static(b"{}") };
    // One of five seconds is enough.
    let connects = !matches!(kind, Hostile::NeverAccepts | Hostile::Refuses);
    let posts = if matches!(kind, Hostile::NeverAccepts | Hostile::TlsHangs) { 1 } else { 2 };
    for nth in 1..=posts {
        let reply = transport.post(request(&receiver.url, body.clone(), limit)).await;
        assert_eq!(reply.outcome, kind.outcome(limit), "{kind:?}, request {nth}");
        keeps_little(&reply, kind);
        if kind.hangs() {
            assert!(reply.timing.total() >= limit, "{kind:?}");
        }
        let connections = if kind.keeps() { 1 } else { nth };
        if connects {
            // The receiver may learn of its last connection later than the sender gives it up.
            comes_about(kind, "a connection of its own", || receiver.connections() == connections).await;
        }
        if !kind.keeps() && !kind.wants_much() {
            comes_about(kind, "its end", || receiver.open() == 0).await;
        }
        if matches!(reply.outcome, Outcome::Answered { .. }) && !kind.wants_much() {
            assert_eq!(receiver.requests(), nth, "{kind:?}");
        }
        // What the receiver did to the connection is known to the sender's machine: now to the sender, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(receiver.requests() <= nth, "{kind:?}: a request was sent again");
    }
    assert_eq!(
        receiver.connections(),
        if !connects {
            0
        } else if kind.keeps() {
            1
        } else {
            posts
        },
        "{kind:?}"
    );
    assert!(receiver.most_on_a_connection() <= if kind.keeps() { posts } else { 1 }, "{kind:?}: used again");
    assert_eq!(receiver.elsewhere(), 0, "{kind:?}: followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_has_its_outcome_and_only_a_connection_that_is_as_good_as_new_is_used_again() {
    let _alone = ALONE.lock().await;
    let authority = Authority::new();
    let transport = Arc::new(transport(&authority.roots));
    let mut visits = JoinSet::new();
    for kind in Hostile::ALL {
        let receiver = kind.start(&authority).await;
        let transport = Arc::clone(&transport);
        visits.spawn(async move { visit(&transport, &receiver).await });
    }
    let mut failed = 0;
    while let Some(visited) = visits.join_next().await {
        failed += usize::from(visited.is_err());
    }
    assert_eq!(failed, 0, "see above");
}

/// A receiver that gives each connection to `behave`, and counts them.
async fn receiver<F: Future<Output = ()> + Send + 'static>(
    behave: impl Fn(TcpStream) -> F + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(stream));
        }
    });
    (url, connections)
}

/// A receiver that answers every request so.
async fn answering(answer: String) -> (String, Arc<AtomicUsize>) {
    receiver(move |mut stream| {
        let answer = answer.clone();
        async move {
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_just_within_the_limits_is_an_answer() {
    let _alone = ALONE.lock().await;
    let end = "Content-Length: 0\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
    let headers = |count: usize| format!("HTTP/1.1 200 OK\r\n{}{end}", "A: b\r\n".repeat(count - 1));
    let bytes = |count: usize| format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n{end}", "x".repeat(count));
    for (answer, outcome) in [
        (interim.repeat(8) + &headers(1), answered(200)),
        (interim.repeat(9) + &headers(1), Outcome::Failed(Failure::Protocol)),
        (headers(100), answered(200)),
        (headers(101), Outcome::Failed(Failure::Protocol)),
        (bytes(16 * 1024 - 100), answered(200)),
        (bytes(16 * 1024), Outcome::Failed(Failure::Protocol)),
    ] {
        let (url, connections) = answering(answer.clone()).await;
        let transport = transport("");
        for _ in 0..2 {
            assert_eq!(post(&transport, &url).await.outcome, outcome, "{} bytes: {answer:.60?}", answer.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let good = outcome == answered(200);
        assert_eq!(connections.load(Ordering::SeqCst), if good { 1 } else { 2 }, "{answer:.60?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_a_head_begin_anew_with_each_request_of_a_connection() {
    let _alone = ALONE.lock().await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n".repeat(7);
    let large = "x".repeat(10_000);
    let (url, connections) =
        answering(format!("{interim}HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 2\r\n\r\nok")).await;
    let transport = transport("");
    for _ in 0..10 {
        let reply = post(&transport, &url).await;
        assert_eq!((reply.outcome, &reply.response.unwrap().body[..]), (answered(200), &b"ok"[..]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_that_is_reset_by_the_next_request_fails_that_one_and_it_is_not_sent_again() {
    let _alone = ALONE.lock().await;
    let (url, connections) = receiver(|mut stream| async move {
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        // Of the second request it takes no more than the first bytes.
        stream.read_exact(&mut request[..4]).await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let transport = transport("");
    assert_eq!(post(&transport, &url).await.outcome, answered(204));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(post(&transport, &url).await.outcome, Outcome::Failed(Failure::Reset));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // And the next one has a connection of its own.
    assert_eq!(post(&transport, &url).await.outcome, answered(204));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_packed_is_kept_packed() {
    let _alone = ALONE.lock().await;
    let authority = Authority::new();
    for (kind, start) in [(Hostile::GzipBomb, &[0x1f, 0x8b][..]), (Hostile::DeflateBomb, &[0x78, 0x9c])] {
        let receiver = kind.start(&authority).await;
        let response = post(&transport(""), &receiver.url).await.response.unwrap();
        assert!(response.body.starts_with(start) && response.truncated && response.body.len() == KEPT, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_values_that_are_no_utf8_are_kept_as_far_as_they_are_text() {
    let _alone = ALONE.lock().await;
    let receiver = Hostile::InvalidUtf8.start(&Authority::new()).await;
    let response = post(&transport(""), &receiver.url).await.response.unwrap();
    assert!(response.headers.contains(&("x-name".to_owned(), "caf\u{fffd} \u{fffd}\u{fffd}".to_owned())));
}
