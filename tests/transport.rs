//! The HTTP transport over real sockets. The receivers here are bare TCP, so that they can answer anything.

#![expect(clippy::disallowed_methods, reason = "receivers under test are tasks of their own, on the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringback::clock::{Clock, SystemClock};
use ringback::egress::Policy;
use ringback::http::HttpTransport;
use ringback::transport::{Reply, Request, Transport};
use ringback::{Failure, Outcome, Response, Secret, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls;

/// Longer than any attempt here takes, unless it is the time limit that is tested.
const AMPLE: Duration = Duration::from_secs(60);

/// The wall clock of every test: 2026-11-21 07:28:00 UTC.
const NOW: Timestamp = Timestamp::from_millis(1_795_246_080_000);

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn wall(&self) -> Timestamp {
        NOW
    }
}

/// What a receiver saw.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A receiver's end of a connection.
struct Peer<S> {
    stream: S,
    seen: Seen,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads one request, head and body, and keeps it. `None` once the sender has closed.
    async fn request(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let mut byte = [0];
            if self.stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            text.push(byte[0].into());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                self.seen.requests.lock().unwrap().push(text.clone());
                return Some(text);
            }
        }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).await.is_ok()
    }

    /// Waits for the sender to close.
    async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

/// A receiver on loopback; each of its connections goes to `behave`.
async fn receiver<F, B>(behave: F) -> (SocketAddr, Seen)
where
    F: Fn(Peer<TcpStream>) -> B + Send + 'static,
    B: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            all.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(Peer { stream, seen: all.clone() }));
        }
    });
    (address, seen)
}

/// A receiver that gives every request the same answer, and keeps its connections.
async fn answering(answer: impl Into<String>) -> (SocketAddr, Seen) {
    let answer: String = answer.into();
    receiver(move |mut peer| {
        let answer = answer.clone();
        async move {
            while peer.request().await.is_some() {
                if !peer.send(&answer).await {
                    break;
                }
            }
        }
    })
    .await
}

fn allowing(networks: &[&str]) -> HttpTransport {
    trusting(networks, b"")
}

fn trusting(networks: &[&str], roots: &[u8]) -> HttpTransport {
    let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let policy = Policy { allowed_networks, ..Policy::default() };
    HttpTransport::new(policy, roots, Arc::new(StoppedClock)).unwrap()
}

fn loopback() -> HttpTransport {
    allowing(&["127.0.0.0/8"])
}

fn request(url: impl AsRef<str>) -> Request {
    Request {
        url: url.as_ref().parse().unwrap(),
        headers: vec![("content-type".into(), Secret::from("application/json"))],
        body: Bytes::from_static(b"{\"a\": 1}"),
        timeout: AMPLE,
    }
}

async fn post(url: impl AsRef<str>) -> Reply {
    loopback().post(request(url)).await
}

#[track_caller]
fn failure(reply: &Reply) -> Failure {
    assert_eq!((&reply.response, reply.timing.head_us), (&None, None));
    match reply.outcome {
        Outcome::Failed(failure) => failure,
        Outcome::Answered { status, .. } => panic!("answered {status}"),
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::answered(status)
}

#[tokio::test]
async fn each_status_is_an_answer_whatever_it_means() {
    for line in [
        "200 OK",
        "204 No Content",
        "299 Fine",
        "300 Multiple Choices",
        "304 Not Modified",
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "410 Gone",
        "418 Teapot",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "599 ",
        "999 ",
    ] {
        let bodiless = line.starts_with("204") || line.starts_with("304");
        let length = if bodiless { "" } else { "Content-Length: 0\r\n" };
        let (address, _) = answering(format!("HTTP/1.1 {line}\r\n{length}\r\n")).await;
        let reply = post(format!("http://{address}/")).await;
        assert_eq!(reply.outcome, answered(line[..3].parse().unwrap()), "{line}");
        let response = reply.response.unwrap();
        assert_eq!((response.body.len(), response.truncated), (0, false), "{line}");
        assert!(reply.timing.head_us.unwrap() <= reply.timing.total_us);
    }
}

#[tokio::test]
async fn the_answer_is_kept_as_it_came() {
    let (address, _) = answering("HTTP/1.0 200 OK\r\nX-Trace: 7\r\nx-trace: 8\r\nContent-Length: 4\r\n\r\npong").await;
    let response = post(format!("http://{address}/")).await.response.unwrap();
    let headers = [("x-trace", "7"), ("x-trace", "8"), ("content-length", "4")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(response, Response { status: 200, headers, body: "pong".into(), truncated: false, expunged: false });
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (elsewhere, seen) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
        let (address, _) = answering(answer).await;
        assert_eq!(post(format!("http://{address}/")).await.outcome, answered(status));
        assert_eq!(seen.connections(), 0);
    }
}

#[tokio::test]
async fn retry_after_is_read_from_every_answer_that_has_one() {
    for (status, value, seconds) in [
        (408, "3", Some(3)),
        (425, "Sat, 21 Nov 2026 07:30:00 GMT", Some(120)),
        (429, "120", Some(120)),
        (429, "Sat, 21 Nov 2026 07:00:00 GMT", Some(0)),
        (429, "99999999999999999999999", Some(24 * 3600)),
        (503, "soon", None),
        (503, "-1", None),
        (200, "7", Some(7)),
    ] {
        let (address, _) =
            answering(format!("HTTP/1.1 {status} x\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n")).await;
        let retry_after = seconds.map(Duration::from_secs);
        assert_eq!(
            post(format!("http://{address}/")).await.outcome,
            Outcome::Answered { status, retry_after, asked: None }
        );
    }
}

#[tokio::test]
async fn the_request_is_on_the_wire_as_it_was_given() {
    let (address, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut request = request(format!("http://{address}/hooks/a%20b?x=1&y=%2F"));
    let signature = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= v1,x";
    request.headers.push(("webhook-signature".into(), Secret::from(signature)));
    request.headers.push(("x-CUSTOM-iD".into(), Secret::from("  MiXed Case  ")));
    loopback().post(request).await;
    let sent = seen.requests().pop().unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /hooks/a%20b?x=1&y=%2F HTTP/1.1"));
    let mut headers: Vec<_> = lines.collect();
    headers.sort_unstable();
    let (host, agent) = (format!("Host: {address}"), format!("User-Agent: ringback/{}", env!("CARGO_PKG_VERSION")));
    let mut wanted = [
        "Accept: */*",
        "Content-Length: 8",
        "Content-Type: application/json",
        &host,
        &agent,
        "Webhook-Signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= v1,x",
        "X-Custom-Id:   MiXed Case  ",
    ];
    wanted.sort_unstable();
    assert_eq!(headers, wanted);
    assert_eq!(body, "{\"a\": 1}");
}

#[tokio::test]
async fn nothing_given_says_in_our_place_whom_a_request_is_for_or_where_it_ends() {
    let (address, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut request = request(format!("http://{address}/"));
    for (name, value) in [("host", "inside.example"), ("Content-Length", "1"), ("transfer-encoding", "chunked")] {
        request.headers.push((name.into(), Secret::from(value)));
    }
    assert_eq!(loopback().post(request).await.outcome, answered(204));
    let sent = seen.requests().pop().unwrap().to_lowercase();
    assert!(sent.contains(&format!("\r\nhost: {address}\r\n")) && sent.contains("\r\ncontent-length: 8\r\n"), "{sent}");
    assert_eq!(sent.matches("host:").count() + sent.matches("content-length:").count(), 2, "{sent}");
    assert!(!sent.contains("transfer-encoding"), "{sent}");
}

#[tokio::test]
async fn headers_that_cannot_be_written_send_nothing() {
    let (address, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    for (name, value) in [("x a", "1"), ("", "1"), ("x-a", "1\r\nx-b: 2"), ("x-a", "\0")] {
        let mut request = request(format!("http://{address}/"));
        request.headers.push((name.into(), Secret::from(value)));
        assert_eq!(failure(&loopback().post(request).await), Failure::Unsendable, "{name}: {value:?}");
    }
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn two_requests_use_one_connection() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong",
        "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
    ] {
        let (address, seen) = answering(answer).await;
        let transport = loopback();
        for _ in 0..2 {
            transport.post(request(format!("http://{address}/"))).await;
        }
        assert_eq!((seen.connections(), seen.requests().len()), (1, 2), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_the_receiver_closed_while_idle_is_replaced() {
    let (address, seen) = receiver(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let transport = loopback();
    for _ in 0..2 {
        assert_eq!(transport.post(request(format!("http://{address}/"))).await.outcome, answered(204));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((seen.connections(), seen.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_request_that_left_is_not_sent_again() {
    let (address, seen) = receiver(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        // The second one is read, and not answered.
        peer.request().await;
    })
    .await;
    let transport = loopback();
    assert_eq!(transport.post(request(format!("http://{address}/"))).await.outcome, answered(204));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(failure(&transport.post(request(format!("http://{address}/"))).await), Failure::Reset);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((seen.connections(), seen.requests().len()), (1, 2));
}

#[tokio::test]
async fn no_answer_within_the_time_limit_is_a_timeout() {
    let late = |first: &'static str| {
        receiver(move |mut peer| async move {
            peer.request().await;
            peer.send(first).await;
            peer.closed().await;
        })
    };
    for first in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nX-Drip: "] {
        let (address, _) = late(first).await;
        let start = Instant::now();
        let limit = Duration::from_millis(200);
        let reply = loopback().post(Request { timeout: limit, ..request(format!("http://{address}/")) }).await;
        assert_eq!(failure(&reply), Failure::Timeout, "{first:?}");
        assert!(start.elapsed() >= limit && reply.timing.total() >= limit);
    }
}

#[tokio::test]
async fn a_head_that_drips_past_the_time_limit_is_a_timeout() {
    let (address, _) = receiver(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nX-Drip: ").await;
        while peer.send("a").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let request = Request { timeout: Duration::from_millis(300), ..request(format!("http://{address}/")) };
    assert_eq!(failure(&loopback().post(request).await), Failure::Timeout);
}

#[tokio::test]
async fn a_body_that_drips_past_the_time_limit_changes_nothing() {
    let (address, _) = receiver(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
        while peer.send("a").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let limit = Duration::from_millis(500);
    let reply = loopback().post(Request { timeout: limit, ..request(format!("http://{address}/")) }).await;
    assert_eq!(reply.outcome, answered(200));
    assert!(reply.timing.total() >= limit);
    let response = reply.response.unwrap();
    assert!(response.truncated && response.body.iter().all(|byte| *byte == b'a'));
}

#[tokio::test]
async fn a_body_that_drips_is_left_two_seconds_after_the_head() {
    let (address, _) = receiver(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\na").await;
        peer.closed().await;
    })
    .await;
    // It is the time limit of a minute that would hang the test.
    let reply = post(format!("http://{address}/")).await;
    assert_eq!(reply.outcome, answered(201));
    assert!(reply.timing.total() >= Duration::from_secs(2));
    let response = reply.response.unwrap();
    assert_eq!((&response.body[..], response.truncated), (&b"a"[..], true));
}

#[tokio::test]
async fn an_endless_body_is_cut_at_16_kib_and_its_connection_closed() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let (address, seen) = receiver(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
            while peer.send([b'x'; 4096]).await {}
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let reply = post(format!("http://{address}/")).await;
    assert_eq!(reply.outcome, answered(200));
    let response = reply.response.unwrap();
    assert_eq!((response.body.len(), response.truncated), (16 * 1024, true));
    was_closed.recv().await.unwrap();
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn a_body_of_exactly_16_kib_is_whole_and_of_one_byte_more_is_not() {
    for (length, truncated) in [(16 * 1024, false), (16 * 1024 + 1, true)] {
        let body = "x".repeat(length);
        let (address, _) = answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        let response = post(format!("http://{address}/")).await.response.unwrap();
        assert_eq!((response.body.len(), response.truncated), (16 * 1024, truncated));
    }
}

#[tokio::test]
async fn a_reset_within_the_body_changes_nothing() {
    for head in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let (address, _) = receiver(move |mut peer| async move {
            peer.request().await;
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n1\r\na")).await;
        })
        .await;
        let reply = post(format!("http://{address}/")).await;
        assert_eq!(reply.outcome, answered(200));
        assert!(reply.response.unwrap().truncated, "{head}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_kept_as_it_came() {
    let (address, seen) = answering("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd").await;
    assert_eq!(&post(format!("http://{address}/")).await.response.unwrap().body[..], b"abcd");
    assert!(!seen.requests()[0].to_lowercase().contains("accept-encoding"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_failure() {
    assert_eq!(failure(&post("https://acme.invalid/").await), Failure::Dns);
    assert_eq!(failure(&post("http://acme.invalid/").await), Failure::Dns);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    // Bound and not listening: no other test can be given the port meanwhile.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    assert_eq!(failure(&post(format!("http://127.0.0.1:{port}/")).await), Failure::Refused);
    assert_eq!(failure(&post(format!("https://localhost:{port}/")).await), Failure::Refused);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_head_does_is_a_reset() {
    for first in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nX: y\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        for abort in [false, true] {
            let (address, _) = receiver(move |mut peer| async move {
                peer.request().await;
                peer.send(first).await;
                peer.stream.set_zero_linger().unwrap();
                if !abort {
                    peer.stream.shutdown().await.unwrap();
                    peer.closed().await;
                }
            })
            .await;
            assert_eq!(failure(&post(format!("http://{address}/")).await), Failure::Reset, "{first:?} {abort}");
        }
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    let endless = format!("HTTP/1.1 200 OK\r\nX-Endless: {}", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "220 mail.acme.example ESMTP\r\n",
        "+OK\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "\0\0\0\0\0\0\0\0",
        &endless,
        &many,
    ] {
        let (address, _) = answering(garbage).await;
        assert_eq!(failure(&post(format!("http://{address}/")).await), Failure::Protocol, "{garbage:.60?}");
    }
}

#[tokio::test]
async fn more_than_eight_interim_responses_are_a_protocol_failure_and_cost_the_connection() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let (address, _) = receiver(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.request().await;
            while peer.send("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n".repeat(100)).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            closed.send(()).await.unwrap();
        }
    })
    .await;
    assert_eq!(failure(&post(format!("http://{address}/")).await), Failure::Protocol);
    was_closed.recv().await.unwrap();
}

/// A certificate for loopback, in PEM, and a receiver that has it.
async fn tls_receiver() -> (SocketAddr, Seen, String) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (address, seen) = receiver(move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(peer.stream).await else { return };
            let mut peer = Peer { stream, seen: peer.seen };
            while peer.request().await.is_some() {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (address, seen, signed.cert.pem())
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_tls_failure() {
    let (address, seen, _) = tls_receiver().await;
    assert_eq!(failure(&post(format!("https://{address}/")).await), Failure::Tls);
    assert_eq!(failure(&post(format!("https://localhost:{}/", address.port())).await), Failure::Tls);
    assert!(seen.requests().is_empty());
}

#[tokio::test]
async fn an_extra_root_is_trusted_for_the_names_in_it_only() {
    let (address, seen, pem) = tls_receiver().await;
    let transport = trusting(&["127.0.0.0/8"], pem.as_bytes());
    for _ in 0..2 {
        assert_eq!(transport.post(request(format!("https://{address}/"))).await.outcome, answered(200));
    }
    let by_name = transport.post(request(format!("https://localhost:{}/", address.port()))).await;
    assert_eq!(by_name.outcome, answered(200));
    assert_eq!(seen.requests().len(), 3);
    let other = transport.post(request(format!("https://127.0.0.2:{}/", address.port()))).await;
    // Nothing listens there, or a certificate for another name: never an answer.
    assert!(matches!(failure(&other), Failure::Refused | Failure::Tls));
}

#[tokio::test]
async fn a_receiver_without_tls_behind_https_is_a_tls_failure() {
    let (address, _) = receiver(|mut peer| async move {
        peer.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    assert_eq!(failure(&post(format!("https://{address}/")).await), Failure::Tls);
    // And one that hangs up in the middle of the handshake.
    let (address, _) = receiver(|mut peer| async move {
        peer.stream.read_exact(&mut [0; 5]).await.unwrap();
        peer.stream.shutdown().await.unwrap();
        peer.closed().await;
    })
    .await;
    assert_eq!(failure(&post(format!("https://{address}/")).await), Failure::Tls);
}

#[tokio::test]
async fn without_allowance_nothing_on_this_machine_is_connected_to() {
    let (address, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let port = address.port();
    let nothing_allowed = allowing(&[]);
    let another_port = allowing(&["127.0.0.0/8:1"]);
    for transport in [&nothing_allowed, &another_port] {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "%31%32%37.0.0.1",
            "１２７.０.０.１",
            "127.0.0.1.",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LocalHost.",
        ] {
            for scheme in ["http", "https"] {
                let reply = transport.post(request(format!("{scheme}://{host}:{port}/"))).await;
                assert_eq!(failure(&reply), Failure::Blocked, "{scheme}://{host}");
            }
        }
    }
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn localhost_is_called_where_loopback_is_allowed() {
    let (address, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let only_this = allowing(&[&format!("127.0.0.1:{}", address.port())]);
    for transport in [&loopback(), &only_this] {
        let reply = transport.post(request(format!("http://localhost:{}/", address.port()))).await;
        assert_eq!(reply.outcome, answered(204));
    }
    assert_eq!(seen.requests().len(), 2);
}

/// Runs another test in a process whose environment names a proxy: it must pass, and the proxy see nothing.
#[tokio::test]
async fn the_proxy_of_the_environment_is_not_asked() {
    let (proxy, seen) = answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "localhost_is_called_where_loopback_is_allowed"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://{proxy}"));
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn the_system_clock_serves_a_transport() {
    let (address, _) = answering("HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n").await;
    let policy = Policy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
    let clock = Arc::new(SystemClock::starting_after(Timestamp::ZERO));
    let reply = HttpTransport::new(policy, b"", clock).unwrap().post(request(format!("http://{address}/"))).await;
    assert_eq!(
        reply.outcome,
        Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(5)), asked: None }
    );
}
