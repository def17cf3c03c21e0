//! Connections: each with a place, served as HTTP/1.1 with bounds on their heads, and let go at shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

use super::patient::Patient;
use super::places::{Place, Places};
use super::source::Source;

/// The largest request head: 16 KiB. A larger one is answered with 431.
const MAX_HEAD: usize = 16 * 1024;
/// How long a client may take to send a head, the time between two requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long accepting rests after it failed, for example because no descriptor is free.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A listener that is being served.
pub(crate) struct Listening {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Serves what the listener accepts, at most `most` connections at once.
    pub(crate) fn start(listener: TcpListener, router: Router, most: usize) -> Listening {
        let (stop, stopped) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the one task of a server; `stop` joins it")]
        let task = tokio::spawn(serve(listener, router, most, stopped));
        Listening { stop, task }
    }

    /// Waits until the task has ended by itself; afterwards there is nothing to stop.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the server ended");
        }
    }

    /// Accepts nothing more, and gives the connections this long to end.
    pub(crate) async fn stop(self, grace: Duration) {
        let _ = self.stop.send(grace);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server ended without finishing");
        }
    }
}

async fn serve(listener: TcpListener, router: Router, most: usize, mut stopped: oneshot::Receiver<Duration>) {
    let places = Places::new(most);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let grace = loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Where the process may have fewer descriptors than places, those who wait for nothing hold them all.
                    places.make_room();
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            },
            grace = &mut stopped => break grace,
        };
        let source = Source::from(peer.ip());
        // One waits here, the others in the kernel's queue.
        let taken = tokio::select! {
            taken = places.take(source) => taken,
            grace = &mut stopped => break grace,
        };
        let Some(taken) = taken else { continue };
        let connection = graceful.watch(connection(stream, router.clone(), source, taken.place()));
        connections.spawn(async move {
            tokio::select! {
                // A client that breaks off is its own doing; what it began is finished all the same.
                _ = connection => {}
                () = taken.must_end() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    };
    drop(listener);
    // Idle connections end at once, the others after their answer. Those still open after the grace are cut.
    let _ = tokio::time::timeout(grace.unwrap_or_default(), graceful.shutdown()).await;
    connections.shutdown().await;
}

fn connection(
    stream: TcpStream,
    router: Router,
    source: Source,
    place: Arc<Place>,
) -> impl GracefulConnection<Error = hyper::Error> + Send {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(NormalizePathLayer::trim_trailing_slash().layer(router));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        place.is_the_servers_turn();
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(Arc::clone(&place));
        let (answer, place) = (service.call(request), Arc::clone(&place));
        async move {
            let answer = answer.await;
            place.is_the_clients_turn();
            answer
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback::Timestamp;
    use ringback::clock::{Clock, SystemClock};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    #[tokio::test(start_paused = true)]
    async fn a_head_that_takes_a_minute_ends_its_connection() {
        for start in [&b""[..], b"GET /", b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let listening = Listening::start(listener, Router::new(), 4);
            let mut client = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
            let clock = SystemClock::starting_at(Timestamp::ZERO);
            client.write_all(start).await.unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
            assert!(clock.now() >= Timestamp::ZERO + HEAD_TIMEOUT, "{}", clock.now());
            listening.stop(Duration::ZERO).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_has_no_longer_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = Listening::start(listener, Router::new(), 4);
        let mut client = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let mut drops = 0;
        while client.write_all(b"a").await.is_ok() {
            drops += 1;
            assert!(drops < 200, "a drop a second would hold it for ever");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(drops > 30, "{drops}");
        listening.stop(Duration::ZERO).await;
    }
}
