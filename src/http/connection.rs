//! One HTTP/1.1 connection. It has no task of its own: whoever waits for an answer moves it along, so that dropping
//! an attempt closes its socket, and a connection that nobody uses does nothing.
//!
//! Invariants: a head has at most 16 KiB and 100 fields, and at most 8 interim heads come before it; a connection on
//! which anything odd happened is not used again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{HeaderValue, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};

use crate::attempt::MAX_RESPONSE_BODY;
use crate::delivery::Failure;
use crate::egress::Stream;

/// The largest head of an answer, interim ones included: 16 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// The most fields of a head.
const MAX_FIELDS: usize = 100;
/// The most interim (1xx) heads before the answer's own.
const MAX_INTERIM: u32 = 8;

pub(super) type Post = http::Request<Full<Bytes>>;
type Driver = http1::Connection<TokioIo<Watched>, Full<Bytes>>;

/// An open connection, and what moves it along.
pub(super) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Pin<Box<Driver>>>,
    interim: Interim,
    /// Whom it leads to, whatever is in between.
    pub(super) peer: SocketAddr,
    pub(super) opened: Instant,
}

/// Why no head came back.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The connection had ended before a byte of the request was written: here it is again, and how that came.
    Unsent(Box<Post>, Failure),
    /// It broke.
    Broken(Failure),
}

impl Connection {
    /// Speaks HTTP on an open stream.
    pub(super) async fn new(stream: Stream, peer: SocketAddr, opened: Instant) -> Result<Self, Failure> {
        let interim = Interim::default();
        let watched = TokioIo::new(Watched { stream, interim: interim.clone() });
        let mut settings = http1::Builder::new();
        settings.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).max_headers(MAX_FIELDS).title_case_headers(true);
        let (requests, driver) = settings.handshake(watched).await.map_err(|error| failure(&error))?;
        Ok(Connection { requests, driver: Some(Box::pin(driver)), interim, peer, opened })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn post(&mut self, mut request: Post) -> Result<Response<Incoming>, Unanswered> {
        self.interim.expect();
        let interim = self.interim.clone();
        hyper::ext::on_informational(&mut request, move |_| interim.came());
        let head = drive(&mut self.driver, self.requests.try_send_request(request)).await;
        // They may all have come at once, the answer after them: nothing was read then that could have been refused.
        if self.interim.are_too_many() {
            return Err(Unanswered::Broken(Failure::Protocol));
        }
        head.map_err(|mut refused| match refused.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request), unsent(refused.error())),
            None => Unanswered::Broken(failure(refused.error())),
        })
    }

    /// Reads a body, for as long and as much as is kept. The second tells whether there was more.
    pub(super) async fn read(&mut self, body: &mut Incoming, until: Instant) -> (Bytes, bool) {
        let mut kept = Vec::new();
        loop {
            let frame = timeout_at(until, drive(&mut self.driver, body.frame())).await;
            let chunk = match frame {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) => return (kept.into(), false),
                Ok(Some(Err(_))) | Err(_) => return (kept.into(), true),
            };
            let room = MAX_RESPONSE_BODY - kept.len();
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return (kept.into(), true);
            }
        }
    }

    /// Whether it can take another request now, after one whose answer was read to its end.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.poke();
        self.driver.is_some() && self.requests.is_ready()
    }

    /// Moves it along as far as it goes without waiting: one that the receiver has closed, or on which it wrote
    /// unasked, has ended afterwards.
    fn poke(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        // Unconstrained: looking at a connection costs a budget that is for work, and once that was spent, after a hundred
        // or so, one that is closed would look open.
        let looking = pin!(unconstrained(poll_fn(|context| driver.as_mut().poll(context))));
        if looking.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.driver = None;
        }
    }
}

/// Whether a connection may be kept after an answer with this head: nothing in it is said twice, and differently.
pub(super) fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let says_close = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    };
    version == Version::HTTP_11
        && !(headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH))
        && !headers.get_all(CONNECTION).iter().any(says_close)
}

/// Waits for something that the connection brings about.
async fn drive<F: Future>(driver: &mut Option<Pin<Box<Driver>>>, waiting: F) -> F::Output {
    let mut waiting = pin!(waiting);
    poll_fn(|context| {
        if let Poll::Ready(output) = waiting.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        let ended = driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready());
        if ended {
            // Its error goes to whoever waits for an answer.
            *driver = None;
        }
        waiting.as_mut().poll(context)
    })
    .await
}

/// How many interim heads came since the last request.
#[derive(Debug, Clone, Default)]
struct Interim(Arc<AtomicU32>);

impl Interim {
    fn expect(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn came(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn are_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_INTERIM
    }
}

/// A stream that reads nothing more once there were too many interim heads: the parser reads on without end.
struct Watched {
    stream: Stream,
    interim: Interim,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.interim.are_too_many() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The log's word for why a connection took no request: it was closed or reset, or the receiver spoke first. The
/// reason is beside the error that says so.
fn unsent(error: &hyper::Error) -> Failure {
    let Some(reason) = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>()) else {
        return Failure::Reset;
    };
    let by_io = std::error::Error::source(reason).is_some_and(|cause| cause.is::<io::Error>());
    if by_io || reason.is_closed() || reason.is_incomplete_message() { failure(reason) } else { Failure::Protocol }
}

/// The log's word for how a connection broke before a head came.
fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::Protocol;
    }
    if error.is_user() {
        return Failure::Unsendable;
    }
    // What TLS found wrong comes as an I/O error around it: an alert after the handshake, a record that was altered.
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let by_tls = cause.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>());
    if by_tls { Failure::Tls } else { Failure::Reset }
}
