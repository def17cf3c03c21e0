//! How an endpoint stands in the dispatcher's eyes: whether it rests, and what it may have on its way.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{BreakerState, EndpointHealth, Failing, Pace, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::EndpointOf;
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get))
}

/// How an endpoint stands. While nothing is delivered, and after a restart, nothing is known of any.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointHealthOut {
    breaker: BreakerOut,
    /// How many attempts in a row failed in a way that speaks about the endpoint.
    failures: u32,
    /// How many requests may be on their way to it now.
    cap: u32,
    /// How many are.
    in_flight: u32,
    /// `quick`, or `slow`: its attempts take a second and more, it does not answer, or nothing is known of it yet.
    pace: &'static str,
    /// How long it has done nothing but fail, over restarts; `null` if it last succeeded.
    failing: Option<FailingOut>,
}

/// How long an endpoint has done nothing but fail.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailingOut {
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    failures: u64,
    /// Whether the operator was warned that it will be disabled.
    warned: bool,
    /// When a failure disables it at the earliest; `null` where none does.
    #[schema(value_type = Option<String>, format = DateTime)]
    disable_at: Option<Timestamp>,
}

impl From<Failing> for FailingOut {
    fn from(failing: Failing) -> Self {
        let Failing { since, failures, warned, disable_at, .. } = failing;
        FailingOut { since, failures, warned, disable_at }
    }
}

/// Whether an endpoint gets requests.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BreakerOut {
    /// `closed`: it does. `resting`: none until `until`. `probing`: one at a time, until one is answered.
    state: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

impl From<EndpointHealth> for EndpointHealthOut {
    fn from(health: EndpointHealth) -> Self {
        let (state, until) = match health.breaker {
            BreakerState::Closed => ("closed", None),
            BreakerState::Resting { until } => ("resting", Some(until)),
            BreakerState::Probing => ("probing", None),
        };
        EndpointHealthOut {
            breaker: BreakerOut { state, until },
            failures: health.failures,
            cap: health.cap,
            in_flight: health.in_flight,
            pace: match health.pace {
                Pace::Quick => "quick",
                Pace::Slow => "slow",
            },
            failing: health.failing.map(FailingOut::from),
        }
    }
}

/// Show how an endpoint stands: whether it rests, and what it may have on its way
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/health", operation_id = "v1.endpoint.get-health",
    tag = "Endpoint", responses((status = 200, body = EndpointHealthOut)))]
async fn get(State(api): State<Arc<Api>>, found: EndpointOf) -> Result<Json<EndpointHealthOut>, Problem> {
    Ok(Json(api.ringback.endpoint_health(found.application, found.endpoint.id)?.into()))
}
