//! Connections: accepted within a limit, served as HTTP/1.1 with bounds on their heads, and let go at shutdown.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

use super::patient::Patient;

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
    let permits = Arc::new(Semaphore::new(most));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let grace = loop {
        // Permit before accept: what waits, waits in the kernel's queue.
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
            grace = &mut stopped => break grace,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            },
            grace = &mut stopped => break grace,
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        connections.spawn(async move {
            // A client that breaks off is its own doing; what it began is finished all the same.
            let _ = connection.await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    };
    drop(listener);
    // Idle connections end at once, the others after their answer. Those still open after the grace are cut.
    let _ = tokio::time::timeout(grace.unwrap_or_default(), graceful.shutdown()).await;
    connections.shutdown().await;
}

type Connection = http1::Connection<TokioIo<Patient<TcpStream>>, TowerToHyperService<Normalized>>;
type Normalized = tower_http::normalize_path::NormalizePath<Router>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = NormalizePathLayer::trim_trailing_slash().layer(router);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(service))
}
