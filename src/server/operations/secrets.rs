//! The secrets that endpoints' requests are signed with: revealed, and rotated.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use ringback::{Secret, signature};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::EndpointOf;
use crate::server::body::Body;
use crate::server::once::{Answer, Once};
use crate::server::problem::Problem;

/// How long an old secret signs beside the new one, if a rotation does not say: 24 hours.
const GRACE_SECONDS: u32 = 86_400;
/// The longest of it: 7 days.
const LONGEST_GRACE_SECONDS: u32 = 604_800;
pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(secret)).routes(routes!(rotate))
}

/// A secret.
#[derive(Serialize, ToSchema)]
struct EndpointSecretOut {
    /// The newest secret. Of an ed25519 key pair, the public half.
    key: String,
}

/// A new secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointSecretRotateIn {
    /// Default: one is made.
    #[schema(value_type = Option<String>)]
    key: Option<Secret>,
    /// How long the old one signs beside it: at most 604,800 (7 days); 0 revokes it at once. Default: 86,400.
    #[schema(maximum = 604800)]
    grace_period_seconds: Option<u32>,
}

/// Reveal an endpoint's newest secret
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/secret", operation_id = "v1.endpoint.get-secret",
    tag = "Endpoint", responses((status = 200, body = EndpointSecretOut)))]
async fn secret(State(api): State<Arc<Api>>, found: EndpointOf) -> Result<Json<EndpointSecretOut>, Problem> {
    Ok(Json(api.reveal(&found)?))
}

/// Give an endpoint a new secret
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate", operation_id = "v1.endpoint.rotate-secret",
    tag = "Endpoint", request_body = EndpointSecretRotateIn, responses((status = 200, body = EndpointSecretOut)))]
async fn rotate(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<EndpointSecretRotateIn>,
) -> Result<Json<EndpointSecretOut>, Problem> {
    let grace = value.grace_period_seconds.unwrap_or(GRACE_SECONDS);
    if grace > LONGEST_GRACE_SECONDS {
        return Err(Problem::invalid("body", "gracePeriodSeconds", "must be at most 604,800 (7 days)"));
    }
    // The receipt holds no secret: a repetition is answered with the newest, too.
    api.once(Some(found.application), once, &raw, async {
        let _changes = api.changes().await;
        let grace = Duration::from_secs(grace.into());
        let rotated = api.ringback.rotate_secret(found.application, found.endpoint.id, value.key, grace).await;
        if let Err(ringback::Error::Invalid(invalid)) = &rotated {
            return Err(Problem::invalid("body", "key", invalid.problem()));
        }
        rotated?;
        Ok(Answer::nothing())
    })
    .await?;
    Ok(Json(api.reveal(&found)?))
}

impl Api {
    fn reveal(&self, found: &EndpointOf) -> Result<EndpointSecretOut, Problem> {
        let secret = self.ringback.endpoint_secret(found.application, found.endpoint.id)?;
        let secret = secret.ok_or_else(|| Problem::not_found("secret: the endpoint's profile signs without one"))?;
        let profile = found.endpoint.settings.resolve_profile()?;
        let public = signature::public_key(&profile, &secret)?;
        Ok(EndpointSecretOut { key: public.unwrap_or_else(|| secret.expose().to_owned()) })
    }
}
