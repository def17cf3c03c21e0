//! One attempt over HTTP: a request out, a [`Reply`] back.
//!
//! ```text
//!   checked URL ─▶ connect ─▶ POST ─▶ head ─────────────▶ body
//!   └──────────── the attempt's time limit ────────────────────┘
//!                                     status decided      at most 16 KiB, 2 s, and never past the limit
//! ```
//!
//! Invariants: every attempt ends by its time limit; what the receiver does after its response head cannot
//! change the outcome; no redirect is followed, and no request is sent twice.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

use crate::attempt::{MAX_RESPONSE_BODY, Response, Timing};
use crate::clock::Clock;
use crate::delivery::{Failure, MAX_RETRY_AFTER, Outcome};
use crate::egress::{Clients, Policy, Unresolved};
use crate::invalid::Invalid;
use crate::time::Timestamp;
use crate::transport::{Reply, Request, Transport};

/// How much of a response's headers the log keeps, names and values together: 16 KiB.
const MAX_RESPONSE_HEADERS: usize = 16 * 1024;

/// How long the body is read for after the head.
const BODY_TIME: Duration = Duration::from_secs(2);

/// The transport over real sockets: HTTP/1.1, with TLS by rustls, to addresses that a [`Policy`] allows.
///
/// Its limits, per attempt: 5 s for name, TCP and TLS together; the request's own time limit for everything; of
/// the response 16 KiB of headers and 16 KiB of body, read for at most 2 s. Connections are kept for 30 s, at
/// most 256 of them per origin. Its client runs a task for each connection on the runtime that posts; the task
/// ends with the connection.
///
/// Interim (1xx) responses are read until the time limit and not counted: the client shows neither them nor the
/// bytes below them. A receiver that sends them as fast as they are read occupies one thread of the runtime for up
/// to about 0.3 s at a time (measured over loopback, optimised), which is by how much time limits on that thread
/// may then be late.
pub struct HttpTransport {
    clients: Clients,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// A transport under this policy. It trusts Mozilla's roots and those in `extra_roots`: any number of PEM
    /// certificates one after the other, or nothing. `clock` tells how far off the date in a `Retry-After` is.
    ///
    /// # Errors
    /// The field `extraRoots`: not PEM, or not certificates.
    pub fn new(policy: Policy, extra_roots: &[u8], clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        Ok(HttpTransport { clients: Clients::new(policy, extra_roots)?, clock })
    }

    async fn attempt(&self, request: Request) -> Reply {
        let start = now();
        let deadline = start + request.timeout;
        let head = timeout_at(deadline, self.head(request)).await.unwrap_or(Err(Failure::Timeout));
        let answer = match head {
            Ok(answer) => answer,
            Err(failure) => {
                let timing = Timing { head_us: None, total_us: micros(start.elapsed()) };
                return Reply { outcome: Outcome::Failed(failure), response: None, timing };
            }
        };
        let head_at = now();
        let status = answer.status().as_u16();
        let outcome = Outcome::Answered { status, retry_after: retry_after(answer.headers(), self.clock.wall()) };
        let headers = kept_headers(answer.headers());
        let (body, truncated) = read_body(answer, deadline.min(head_at + BODY_TIME)).await;
        Reply {
            outcome,
            response: Some(Response { status, headers, body, truncated, expunged: false }),
            timing: Timing { head_us: Some(micros(head_at - start)), total_us: micros(start.elapsed()) },
        }
    }

    /// Sends the request and waits for the response's head.
    async fn head(&self, request: Request) -> Result<reqwest::Response, Failure> {
        let client = self.clients.for_url(&request.url).map_err(|_| Failure::Blocked)?;
        let headers = request_headers(&request)?;
        let sent = client.post(request.url).headers(headers).body(request.body).send().await;
        sent.map_err(|error| classify(&error))
    }
}

impl Transport for HttpTransport {
    /// Cancel safe: dropping it closes the connection, and the receiver may have got the request.
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(self.attempt(request))
    }
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "time limits of sockets are the runtime's; the clock seam is for dates"
    )]
    Instant::now()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn request_headers(request: &Request) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::Unsendable)?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| Failure::Unsendable)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    // The client leaves it out where there is no body, and some receivers answer that with 411.
    if request.body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(headers)
}

/// The first headers that fit, as text.
fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = MAX_RESPONSE_HEADERS;
    let fits = |(name, value): &(&HeaderName, &HeaderValue)| {
        let left = room.checked_sub(name.as_str().len() + value.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().take_while(fits).map(text).collect()
}

/// What arrives of the body in time, and whether there was more than is kept. A small body is read to its end,
/// which frees its connection for the next request; a larger one costs the connection.
async fn read_body(mut answer: reqwest::Response, until: Instant) -> (Bytes, bool) {
    let mut body = Vec::new();
    loop {
        let Ok(Ok(chunk)) = timeout_at(until, answer.chunk()).await else {
            return (body.into(), true);
        };
        let Some(chunk) = chunk else {
            return (body.into(), false);
        };
        let room = MAX_RESPONSE_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return (body.into(), true);
        }
    }
}

/// How long the receiver asks to be left alone: seconds or an IMF-fixdate (RFC 9110), at most 24 h. Whatever
/// else stands there is as if nothing did.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wanted = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number too large for 64 bits fails.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        // The parser takes the two obsolete forms, too, whose year or zone has to be guessed.
        if httpdate::fmt_http_date(date) != text {
            return None;
        }
        (Timestamp::ZERO + date.duration_since(SystemTime::UNIX_EPOCH).ok()?).since(now)
    };
    Some(wanted.min(MAX_RETRY_AFTER))
}

/// The log's word for why no answer came. It goes by the types of an error's causes, which is not a contract
/// of the libraries that raise it. That is good enough here because nothing depends on it but one thing: all
/// words that this can give but `Unsendable` are retried alike.
fn classify(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::Unsendable;
    }
    let connecting = error.is_connect();
    let mut cause = Some(error as &(dyn Error + 'static));
    while let Some(error) = cause {
        if let Some(failure) = failure_of(error, connecting) {
            return failure;
        }
        // The source of an I/O error is its inner error's source: the inner error itself would be skipped.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if connecting { Failure::Unreachable } else { Failure::Reset }
}

/// What one error in the chain of causes says by itself.
fn failure_of(error: &(dyn Error + 'static), connecting: bool) -> Option<Failure> {
    if let Some(unresolved) = error.downcast_ref::<Unresolved>() {
        return Some(match unresolved {
            Unresolved::NotFound(_) => Failure::Dns,
            Unresolved::Blocked(_) => Failure::BlockedAddress,
        });
    }
    if error.is::<rustls::Error>() {
        return Some(Failure::Tls);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_parse().then_some(Failure::Protocol);
    }
    let kind = error.downcast_ref::<io::Error>()?.kind();
    if kind == io::ErrorKind::ConnectionRefused {
        return Some(Failure::Refused);
    }
    // Only a handshake reads while it connects.
    if kind == io::ErrorKind::UnexpectedEof && connecting {
        return Some(Failure::Tls);
    }
    let reset = [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted, io::ErrorKind::BrokenPipe];
    reset.contains(&kind).then_some(Failure::Reset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// 2026-11-21 07:28:00 UTC.
    const NOW: Timestamp = Timestamp::from_millis(1_795_246_080_000);

    fn asked(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
        retry_after(&headers, NOW).map(|wanted| wanted.as_secs())
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_never_exceeds_a_day() {
        const DAY: u64 = 24 * 3600;
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("000120", Some(120)),
            ("86401", Some(DAY)),
            ("18446744073709551616", Some(DAY)),
            ("99999999999999999999999999999999999999", Some(DAY)),
            ("Sat, 21 Nov 2026 07:30:00 GMT", Some(120)),
            ("Sat, 21 Nov 2026 07:20:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(DAY)),
        ] {
            assert_eq!(asked(value), seconds, "{value}");
        }
    }

    #[test]
    fn a_retry_after_that_is_neither_is_ignored() {
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x10",
            "1, 2",
            "soon",
            "Saturday, 21-Nov-26 07:30:00 GMT",
            "Sat Nov 21 07:30:00 2026",
            "Sun, 21 Nov 2026 07:30:00 GMT",
            "Sat, 31 Feb 2026 07:30:00 GMT",
            "2026-11-21T07:30:00Z",
            "caf\u{e9}",
        ] {
            assert_eq!(asked(value), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW), None);
    }

    fn posting_to(url: String) -> Request {
        Request { url: url.parse().unwrap(), headers: vec![], body: Bytes::new(), timeout: Duration::from_secs(20) }
    }

    async fn post_where_names_have(answers: &[&str], url: String) -> Outcome {
        let policy = Policy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
        let clients = Clients::with_answers(policy, answers.iter().map(|answer| answer.parse().unwrap()).collect());
        let clock = Arc::new(SystemClock::starting_at(NOW));
        HttpTransport { clients, clock }.post(posting_to(url)).await.outcome
    }

    #[tokio::test]
    async fn a_name_with_one_answer_that_is_blocked_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://acme.example:{}/", listener.local_addr().unwrap().port());
        for answers in [&["10.0.0.1"][..], &["127.0.0.1", "10.0.0.1"], &["127.0.0.1", "1.1.1.1"], &["::1"]] {
            let outcome = post_where_names_have(answers, url.clone()).await;
            assert_eq!(outcome, Outcome::Failed(Failure::BlockedAddress), "{answers:?}");
        }
        assert_eq!(post_where_names_have(&[], url).await, Outcome::Failed(Failure::Dns));
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
    }

    #[tokio::test]
    async fn a_name_whose_answers_are_all_allowed_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://acme.example:{}/", listener.local_addr().unwrap().port());
        let serve = async {
            let mut stream = listener.accept().await.unwrap().0;
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            stream
        };
        let (outcome, _stream) = tokio::join!(post_where_names_have(&["127.0.0.1"], url), serve);
        assert_eq!(outcome, Outcome::Answered { status: 204, retry_after: None });
    }

    #[test]
    fn at_most_16_kib_of_headers_are_kept() {
        let mut headers = HeaderMap::new();
        for _ in 0..5 {
            headers.append("x-large", HeaderValue::from_bytes(&[b'a'; 4000]).unwrap());
        }
        assert_eq!(kept_headers(&headers).len(), 4);
    }

    #[test]
    fn header_values_that_are_no_text_are_shown_all_the_same() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(b"a\xff").unwrap())]);
        assert_eq!(kept_headers(&headers), [("retry-after".to_owned(), "a\u{fffd}".to_owned())]);
    }
}
