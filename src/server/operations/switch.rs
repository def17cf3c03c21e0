//! Endpoints switched off and on, and what they missed taken up again.

use std::sync::Arc;

use axum::extract::State;
use ringback::{EnableReplay, Error, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::endpoints::EndpointOut;
use super::replays::ReplayJobOut;
use crate::server::api::Api;
use crate::server::auth::EndpointOf;
use crate::server::body::{Body, NoMembers};
use crate::server::once::{Answer, Once};
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(enable)).routes(routes!(disable))
}

/// What is to happen with what the endpoint did not get.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnableIn {
    /// Start a job that replays what failed, and what was canceled because the endpoint was disabled. Default: nothing is
    /// replayed.
    replay: Option<EnableReplayIn>,
}

/// What is replayed, and how fast.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnableReplayIn {
    /// Whose message was accepted at or after this time. Default: all that are kept.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Deliveries a second: 1 to 10,000. Default: 100.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
}

/// An endpoint, and the job that replays what it did not get.
#[derive(Serialize, ToSchema)]
struct EnabledOut {
    #[serde(flatten)]
    endpoint: EndpointOut,
    /// The job that was started, if one was asked for.
    replay: Option<ReplayJobOut>,
}

/// Enable an endpoint
///
/// With `replay` the endpoint and the job are stored in one write: neither happens without the other.
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/enable", operation_id = "v1.endpoint.enable",
    tag = "Endpoint", request_body = EnableIn, responses((status = 200, body = EnabledOut)))]
async fn enable(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<EnableIn>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, &raw, async {
        let _changes = api.changes().await;
        let (endpoint, job) = match value.replay {
            None => (api.ringback.enable_endpoint(found.application, found.endpoint.id).await?, None),
            Some(EnableReplayIn { since, rate }) => {
                let default = EnableReplay::default();
                let replay = EnableReplay { since, rate: rate.unwrap_or(default.rate) };
                let both = api.ringback.enable_and_replay(found.application, found.endpoint.id, replay).await;
                let (endpoint, job) = both.map_err(within_replay)?;
                (endpoint, Some(job))
            }
        };
        Ok(Answer::ok(&EnabledOut { endpoint: api.show_endpoint(endpoint), replay: job.map(ReplayJobOut::from) }))
    })
    .await
}

/// What the library refuses of the replay stands in the request's `replay`.
fn within_replay(error: Error) -> Problem {
    if let Error::Invalid(invalid) = &error {
        return Problem::invalid("body", &format!("replay.{}", invalid.field()), invalid.problem());
    }
    error.into()
}

/// Disable an endpoint; what waits for it is canceled
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/disable", operation_id = "v1.endpoint.disable",
    tag = "Endpoint", responses((status = 200, body = EndpointOut)))]
async fn disable(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, b"", async {
        let _changes = api.changes().await;
        let endpoint = api.ringback.disable_endpoint(found.application, found.endpoint.id).await?;
        Ok(Answer::ok(&api.show_endpoint(endpoint)))
    })
    .await
}
