//! What every handler shares, and the routes with their document.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use ringback::{Ringback, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, MutexGuard};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

use super::auth::Caller;
use super::guesses::{Guesses, Presented, Refused};
use super::operations::{
    applications, attempts, cancels, compact, deliveries, doctor, endpoint_health, endpoints, erase, event_types,
    headers, health, intake, messages, missing, profiles, replays, secrets, switch, tasks, tokens,
};
use super::problem::Problem;
use super::source::Source;
use super::{Options, door, finish, openapi, rest, unasked};

/// What every handler shares.
pub(super) struct Api {
    pub(super) ringback: Ringback,
    pub(super) options: Options,
    address: SocketAddr,
    operator: [u8; 32],
    guesses: Guesses,
    changes: Mutex<()>,
}

impl Api {
    pub(super) fn new(ringback: Ringback, address: SocketAddr, options: Options) -> Api {
        let operator = Sha256::digest(options.operator_token.expose()).into();
        Api { ringback, options, address, operator, guesses: Guesses::new(), changes: Mutex::new(()) }
    }

    /// Whose token it is. Digests are compared, so that neither length nor content shows in the time it takes.
    pub(super) fn caller(&self, token: &str, source: Source) -> Result<Caller, Refused> {
        let presented = Presented::new(token);
        self.guesses.admit(source, presented, || {
            if presented.hash().ct_eq(&self.operator).into() {
                return Some(Caller::Operator);
            }
            self.ringback.authenticate(token).map(Caller::Application)
        })
    }

    /// Changes of applications, endpoints and event types read, decide and write: one at a time.
    pub(super) async fn changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().await
    }

    /// Where clients reach the API.
    pub(super) fn public_url(&self) -> String {
        self.options.public_url.clone().unwrap_or_else(|| format!("http://{}", self.address))
    }

    /// The time by the wall clock, which requests' windows are in.
    pub(super) fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a window's default end, which is not the engine's time")]
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}

fn operations() -> OpenApiRouter<Arc<Api>> {
    let operations = [
        applications::routes(),
        endpoints::routes(),
        endpoint_health::routes(),
        switch::routes(),
        secrets::routes(),
        headers::routes(),
        messages::routes(),
        cancels::routes(),
        intake::routes(),
        attempts::routes(),
        deliveries::routes(),
        replays::routes(),
        tasks::routes(),
        event_types::routes(),
        tokens::routes(),
        profiles::routes(),
        health::routes(),
        doctor::routes(),
        compact::routes(),
        erase::routes(),
    ];
    operations.into_iter().fold(OpenApiRouter::new(), OpenApiRouter::merge)
}

/// The routes.
pub(super) fn router(api: Arc<Api>, unfinished: finish::Unfinished) -> Router {
    let (router, mut document) =
        OpenApiRouter::with_openapi(openapi::head()).nest("/api/v1", operations()).split_for_parts();
    openapi::complete(&mut document);
    let without = unasked::Without::parameters(&document, Arc::clone(&api));
    let document: bytes::Bytes = document.to_json().expect("a document is plain data").into();
    let document = move || async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() };
    // Tokens are in a header of their own, which no page sends unasked: any page may ask.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("svix-req-id"),
        HeaderName::from_static("svix-retry-count"),
    ]);
    router
        .route("/api/v1/openapi.json", get(document))
        .method_not_allowed_fallback(missing::other_method)
        .fallback(missing::no_route)
        .layer(middleware::from_fn_with_state(without, unasked::is_refused))
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler panicked");
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "server_error", "see the server's log")
                .into_response()
        }))
        .layer(middleware::from_fn_with_state(unfinished, finish::what_was_begun))
        .layer(middleware::from_fn(rest::is_read))
        .layer(cors)
        .layer(middleware::from_fn(door::is_passed))
        .with_state(api)
}
