//! Profiles: the vendors' ways of sending, built in and the operator's own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::Profile;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::Caller;
use crate::server::path::Path;
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// A profile.
#[derive(Serialize, ToSchema)]
struct ProfileOut {
    /// Whether it comes with the server.
    builtin: bool,
    /// All that is particular to the vendor.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    profile: Profile,
}

/// A profile's name, or a profile written out: how an endpoint says which it has.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document alone needs it")]
pub(super) enum ProfileChoiceOut {
    Name(String),
    #[schema(value_type = Object)]
    Profile(Box<Profile>),
}

/// All profiles.
#[derive(Serialize, ToSchema)]
struct ProfilesOut {
    data: Vec<ProfileOut>,
}

/// List profiles
#[utoipa::path(get, path = "/profile", operation_id = "v1.profile.list", tag = "Profile",
    responses((status = 200, body = ProfilesOut)))]
async fn list(State(api): State<Arc<Api>>, _: Caller) -> Json<ProfilesOut> {
    let builtin = Profile::BUILTIN.iter().filter_map(|name| Profile::builtin(name));
    let builtin = builtin.map(|profile| ProfileOut { builtin: true, profile });
    let own = api.options.profiles.values().cloned().map(|profile| ProfileOut { builtin: false, profile });
    Json(ProfilesOut { data: builtin.chain(own).collect() })
}

/// Get a profile
#[utoipa::path(get, path = "/profile/{profile_name}", operation_id = "v1.profile.get", tag = "Profile",
    responses((status = 200, body = ProfileOut)))]
async fn get(State(api): State<Arc<Api>>, _: Caller, Path(name): Path<String>) -> Result<Json<ProfileOut>, Problem> {
    let own = api.options.profiles.get(&name).cloned().map(|profile| ProfileOut { builtin: false, profile });
    let found = own.or_else(|| Some(ProfileOut { builtin: true, profile: Profile::builtin(&name)? }));
    found.map(Json).ok_or_else(|| Problem::not_found("profile"))
}
