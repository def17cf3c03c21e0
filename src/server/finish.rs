//! Requests are finished even if their client goes away: a change is never left half made.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::task::TaskTracker;

use super::problem::Problem;

/// The requests that are being answered.
pub(super) type Unfinished = TaskTracker;

/// Runs what changes something on a task of its own, which the end of the connection does not stop.
pub(super) async fn what_was_begun(State(unfinished): State<Unfinished>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match unfinished.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "see the server's log").into_response()
        }
    }
}

/// Waits until all of them are answered, for at most `grace`.
pub(super) async fn wait(unfinished: Unfinished, grace: Duration) {
    unfinished.close();
    let _ = tokio::time::timeout(grace, unfinished.wait()).await;
}
