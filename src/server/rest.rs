//! Bodies as they come: whose turn it is meanwhile, and the rest of a request that was answered before all of it was read,
//! which is read too, and dropped.
//!
//! Clients write a request and then read the answer. Closed on with bytes under way, a connection is reset, and its client
//! gets an error of the network in place of the refusal that it was sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::places::Place;

/// How much of the rest is read at most.
const MOST: usize = 64 * 1024 * 1024;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing may come: a client that has stopped to write waits for its answer.
const PAUSE: Duration = Duration::from_millis(500);

/// A request's body, of which the handler and what comes after it read in turn.
#[derive(Clone)]
struct Shared(Arc<Mutex<Reading>>);

struct Reading {
    body: Body,
    ended: bool,
    /// Whose turn is told, until there is an answer.
    place: Option<Arc<Place>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut reading = self.lock();
        if reading.ended {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut reading.body).poll_frame(context);
        reading.ended = matches!(frame, Poll::Ready(None | Some(Err(_))));
        if let Some(place) = &reading.place {
            // Nothing is begun before all of it is there: a client that writes slowly does so on its own time.
            match (reading.ended, &frame) {
                (true, _) => place.is_the_servers_turn(),
                (false, Poll::Pending) => place.is_the_clients_turn(),
                (false, Poll::Ready(_)) => {}
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let reading = self.lock();
        reading.ended || reading.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

/// Marks an answer that is written while its request is read: the rest of that is the answer's business.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadsOn;

/// Answers a request, and gives the answer once the request is read.
pub(super) async fn is_read(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Who asks before it writes has written nothing yet, and will not after a refusal.
    let asks_before = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let place = parts.extensions.get::<Arc<Place>>().cloned();
    let mut shared = Shared(Arc::new(Mutex::new(Reading { body, ended: false, place })));
    let response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    if response.extensions().get::<ReadsOn>().is_some() {
        return response;
    }
    // The answer stands, and what is left of the request is the client's doing.
    let place = shared.lock().place.take();
    place.inspect(|place| place.is_the_clients_turn());
    if !asks_before {
        // What comes later than this is cut off.
        let _ = tokio::time::timeout(PATIENCE, drop_all(&mut shared)).await;
    }
    response
}

async fn drop_all(body: &mut Shared) {
    let mut read = 0;
    while read < MOST
        && let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
