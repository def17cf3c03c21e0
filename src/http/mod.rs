//! One attempt over HTTP: a request out, a [`Reply`] back.
//!
//! ```text
//!   checked URL ─▶ a kept connection, or a new one ─▶ POST ─▶ head ────────────▶ body
//!   └─────────────────────── the attempt's time limit ──────────────────────────────┘
//!                  name, TCP, TLS: 5 s each                 status decided     at most 16 KiB, 2 s, and never
//!                                                                              past the limit
//! ```
//!
//! Invariants: every attempt ends by its time limit; what the receiver does after its response head cannot
//! change the outcome; no redirect is followed, and no request is sent twice.

mod answer;
mod connection;
mod pool;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use http::{Method, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use url::{Position, Url};

use crate::attempt::{Response, Timing};
use crate::clock::Clock;
use crate::delivery::{Failure, Outcome};
use crate::egress::{Connector, Gate, Proxy, Unconnected};
use crate::invalid::Invalid;
use crate::transport::{Reply, Request, Transport};

use connection::{Connection, Post, Unanswered};
use pool::{Origin, Pool};

pub(crate) use answer::{asked, retry_after};

/// How long the body is read for after the head.
const BODY_TIME: Duration = Duration::from_secs(2);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("ringback/", env!("CARGO_PKG_VERSION")));

/// The transport over real sockets: HTTP/1.1, with TLS by rustls, to addresses that a [`Policy`](crate::egress::Policy)
/// allows.
///
/// Its limits, per attempt: the request's own time limit for everything; within it 5 s for the name, 5 s for the
/// connection and 5 s for the TLS handshake; of the answer 8 interim (1xx) heads, each and its own head at most 16 KiB
/// and 100 fields, and 16 KiB of body, read for at most 2 s. Of a name's addresses at most 4 are tried. Connections are
/// kept for 30 s unused and used for 5 minutes at most; at most 256 are kept of an origin, and 2,048 in all.
///
/// It has no task but one that closes kept connections, and only while there are any.
pub struct HttpTransport {
    connector: Connector,
    pool: Pool,
    clock: Arc<dyn Clock>,
    /// Whether no descriptor was left for the connection that was wanted last.
    starved: AtomicBool,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

/// A head that came, and the connection that the body comes by.
struct Head {
    connection: Connection,
    answer: http::Response<Incoming>,
}

impl HttpTransport {
    /// A transport under this policy, or behind a [`Gate`] that others share. It trusts Mozilla's roots and those in
    /// `extra_roots`: any number of PEM certificates one after the other, or nothing. `clock` tells how far off the
    /// date in a `Retry-After` is.
    ///
    /// # Errors
    /// The field `extraRoots`: not PEM, or not certificates.
    pub fn new(gate: impl Into<Gate>, extra_roots: &[u8], clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        let connector = Connector::new(gate.into(), extra_roots)?;
        Ok(HttpTransport { connector, pool: Pool::default(), clock, starved: AtomicBool::new(false) })
    }

    /// Asks these name servers, over UDP and TCP, in place of those that the machine is set to. An empty list changes
    /// nothing.
    pub fn nameservers(self, nameservers: Vec<SocketAddr>) -> Self {
        HttpTransport { connector: self.connector.with_nameservers(nameservers), ..self }
    }

    /// Goes through this proxy.
    pub fn proxy(self, proxy: Proxy) -> Self {
        HttpTransport { connector: self.connector.with_proxy(proxy), ..self }
    }

    async fn attempt(&self, request: Request) -> Reply {
        let start = now();
        let deadline = start + request.timeout;
        let origin = Origin::of(&request.url);
        let head = timeout_at(deadline, self.head(request, &origin)).await.unwrap_or(Err(Failure::Timeout));
        let Head { mut connection, answer } = match head {
            Ok(head) => head,
            Err(failure) => {
                let timing = Timing { head_us: None, total_us: micros(start.elapsed()) };
                return Reply { outcome: Outcome::Failed(failure), response: None, timing };
            }
        };
        let head_at = now();
        let keeps = connection::keeps(answer.version(), answer.headers());
        let (head, mut body) = answer.into_parts();
        let status = head.status.as_u16();
        let outcome = Outcome::Answered {
            status,
            retry_after: retry_after(&head.headers, self.clock.wall()),
            asked: asked(&head.headers),
        };
        let headers = answer::kept_headers(&head.headers);
        let (body, truncated) = connection.read(&mut body, deadline.min(head_at + BODY_TIME)).await;
        if keeps && !truncated {
            self.pool.keep(origin, connection);
        }
        Reply {
            outcome,
            response: Some(Response { status, headers, body, truncated, expunged: false }),
            timing: Timing { head_us: Some(micros(head_at - start)), total_us: micros(start.elapsed()) },
        }
    }

    /// Sends the request and waits for the response's head.
    async fn head(&self, request: Request, origin: &Origin) -> Result<Head, Failure> {
        let mut post = post(&request)?;
        // One that was closed at the moment it was taken has written nothing, and gives the request back.
        while let Some(mut connection) = self.kept(&request.url, origin) {
            match connection.post(post).await {
                Ok(answer) => return Ok(Head { connection, answer }),
                Err(Unanswered::Unsent(unsent, _)) => post = *unsent,
                Err(Unanswered::Broken(failure)) => return Err(failure),
            }
        }
        let connected = match self.connector.connect(&request.url).await {
            // Connections that are kept for later are worth less than the one that is needed now.
            Err(Unconnected::NoDescriptor) if self.pool.let_go() => self.connector.connect(&request.url).await,
            connected => connected,
        };
        self.say_whether_descriptors_are_left(connected.as_ref().err());
        let (stream, peer) = connected.map_err(failure)?;
        let mut connection = Connection::new(stream, peer, now()).await?;
        match connection.post(post).await {
            Ok(answer) => Ok(Head { connection, answer }),
            Err(Unanswered::Unsent(_, failure) | Unanswered::Broken(failure)) => Err(failure),
        }
    }

    /// Once, and not for each attempt, until one has got a connection again.
    fn say_whether_descriptors_are_left(&self, failed: Option<&Unconnected>) {
        match failed {
            Some(Unconnected::NoDescriptor) if !self.starved.swap(true, Ordering::Relaxed) => tracing::error!(
                "no descriptor is left for a connection: raise the limit (`ulimit -n`), or lower max_in_flight"
            ),
            None if self.starved.load(Ordering::Relaxed) => self.starved.store(false, Ordering::Relaxed),
            Some(_) | None => {}
        }
    }

    /// A connection that was kept, and that the policy of this moment still allows.
    fn kept(&self, url: &Url, origin: &Origin) -> Option<Connection> {
        loop {
            let connection = self.pool.take(origin)?;
            if self.connector.admits(url, connection.peer) {
                return Some(connection);
            }
        }
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

/// The request as it goes out.
fn post(request: &Request) -> Result<Post, Failure> {
    let unsendable = |_| Failure::Unsendable;
    let target = &request.url[Position::BeforePath..Position::AfterQuery];
    let mut post = Post::new(Full::new(request.body.clone()));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = target.parse::<Uri>().map_err(|_| Failure::Unsendable)?;
    let headers = post.headers_mut();
    headers.reserve(request.headers.len() + 3);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::Unsendable)?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(unsendable)?;
        value.set_sensitive(true);
        // The last one of a name counts: ours stand last.
        headers.insert(name, value);
    }
    // Whom it goes to and where it ends is nobody's to say but ours, whatever was let through above.
    headers.remove(TRANSFER_ENCODING);
    let host = &request.url[Position::BeforeHost..Position::AfterPort];
    headers.insert(HOST, HeaderValue::from_str(host).map_err(unsendable)?);
    headers.insert(CONTENT_LENGTH, request.body.len().into());
    Ok(post)
}

/// The log's word for why there is no connection.
fn failure(unconnected: Unconnected) -> Failure {
    match unconnected {
        Unconnected::BlockedUrl => Failure::Blocked,
        Unconnected::BlockedAddress => Failure::BlockedAddress,
        Unconnected::NoName => Failure::Dns,
        Unconnected::Unreachable => Failure::Unreachable,
        Unconnected::NoDescriptor => Failure::Unreachable,
        Unconnected::Refused => Failure::Refused,
        Unconnected::Reset => Failure::Reset,
        Unconnected::Tls => Failure::Tls,
    }
}
