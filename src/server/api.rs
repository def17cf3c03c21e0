//! What every handler shares, and the routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use ringback::Ringback;

use super::Options;

/// What every handler shares.
pub(super) struct Api {
    pub(super) ringback: Ringback,
    pub(super) options: Options,
    pub(super) address: SocketAddr,
}

impl Api {
    pub(super) fn new(ringback: Ringback, address: SocketAddr, options: Options) -> Api {
        Api { ringback, options, address }
    }
}

/// The routes.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new().route("/api/v1/health/ping", get(|| async { StatusCode::NO_CONTENT })).with_state(api)
}
