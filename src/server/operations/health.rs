//! Whether the server can do its work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::once::Answer;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ping))
}

/// How the server is, as far as everybody may know.
#[derive(Serialize, ToSchema)]
struct HealthOut {
    /// `ok`, or `failing` if the store cannot write.
    status: &'static str,
    version: &'static str,
}

/// Whether the server can accept messages
#[utoipa::path(get, path = "/health", operation_id = "v1.health.get", tag = "Health", security(()),
    responses((status = 200, body = HealthOut), (status = 500, body = HealthOut, description = "The store cannot write")))]
async fn health(State(api): State<Arc<Api>>) -> (StatusCode, Json<HealthOut>) {
    let ok = api.ringback.health().await.is_ok_and(|health| health.failed.is_none());
    let (status, word) = if ok { (StatusCode::OK, "ok") } else { (StatusCode::INTERNAL_SERVER_ERROR, "failing") };
    (status, Json(HealthOut { status: word, version: env!("CARGO_PKG_VERSION") }))
}

/// Whether the server answers
#[utoipa::path(get, path = "/health/ping", operation_id = "v1.health.ping", tag = "Health", security(()),
    responses((status = 204)))]
async fn ping() -> Answer {
    Answer::nothing()
}
