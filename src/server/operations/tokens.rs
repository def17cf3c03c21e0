//! Tokens of applications: what a customer's portal or a customer's own code asks with.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::applications::ApplicationIn;
use crate::server::api::Api;
use crate::server::auth::{self, Administered, Caller, Named};
use crate::server::body::{Body, NoMembers};
use crate::server::once::Answer;
use crate::server::problem::Problem;

/// How long a token is good for, if a request does not say: 28 days.
const LIFETIME_SECONDS: u64 = 28 * 24 * 3600;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(portal_access)).routes(routes!(logout)).routes(routes!(expire_all))
}

/// A token to be made.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AppPortalAccessIn {
    /// The application, to be made with the uid of the path if it is not there.
    application: Option<ApplicationIn>,
    /// For how many seconds it is good: at most ten years. Default: 28 days.
    #[schema(minimum = 1)]
    expiry: Option<u64>,
}

/// Which tokens are to be revoked: all. Clients can ask for some, or for later; neither is served.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApplicationTokenExpireIn {}

/// A token that reaches one application.
#[derive(Serialize, ToSchema)]
struct AppPortalAccessOut {
    /// Where the API is.
    url: String,
    /// It is shown this once.
    token: String,
}

/// Make a token that reaches this application alone
///
/// Each call makes one, whatever the idempotency key: a token is not stored, so it cannot be given twice.
#[utoipa::path(post, path = "/auth/app-portal-access/{app_id}", operation_id = "v1.authentication.app-portal-access",
    tag = "Authentication", request_body = AppPortalAccessIn, responses((status = 200, body = AppPortalAccessOut)))]
async fn portal_access(
    State(api): State<Arc<Api>>,
    Named(named): Named,
    Body { value, .. }: Body<AppPortalAccessIn>,
) -> Result<Json<AppPortalAccessOut>, Problem> {
    let application = api.application_for(&named, value.application).await?;
    let lifetime = Duration::from_secs(value.expiry.unwrap_or(LIFETIME_SECONDS));
    let issued = api.ringback.issue_token(application, lifetime, None).await?;
    Ok(Json(AppPortalAccessOut { url: api.public_url(), token: issued.secret.expose().to_owned() }))
}

/// Revoke the token that this request carries
#[utoipa::path(post, path = "/auth/logout", operation_id = "v1.authentication.logout", tag = "Authentication",
    responses((status = 204)))]
async fn logout(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    match caller {
        Caller::Operator => {
            Err(Problem::conflict("the operator's token is the server's own; it cannot be revoked here"))
        }
        Caller::Application(_) => {
            api.ringback.revoke_presented(auth::token(&headers)?).await?;
            Ok(Answer::nothing())
        }
    }
}

/// Revoke all tokens of an application, at once
#[utoipa::path(post, path = "/auth/app/{app_id}/expire-all", operation_id = "v1.authentication.expire-all",
    tag = "Authentication", request_body = ApplicationTokenExpireIn, responses((status = 204)))]
async fn expire_all(
    State(api): State<Arc<Api>>,
    Administered(id): Administered,
    _: Body<ApplicationTokenExpireIn>,
) -> Result<Answer, Problem> {
    api.ringback.revoke_tokens(id).await?;
    Ok(Answer::nothing())
}
