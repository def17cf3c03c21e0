//! Applications.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{Application, ApplicationId, Erase, Error, NewApplication, Retention, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::erase::EraseJobOut;
use crate::server::api::Api;
use crate::server::auth::{Administered, Named, Operator, Tenant};
use crate::server::body::Body;
use crate::server::fields::{Patch, either, one_of};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse};
use crate::server::problem::Problem;
use crate::server::query::Query;
use crate::server::retention::{RetentionSchema, shown};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, put, patch, delete))
}

/// An application to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApplicationIn {
    /// A name for people.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// The platform's own name for it: works in place of the id in every path.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")]
    pub(super) uid: Option<String>,
    /// The platform's own notes: at most 50 entries, 4 KiB in all.
    metadata: Option<BTreeMap<String, String>>,
    /// How many requests a second its endpoints may get in all. A tenth of that may go out at once.
    #[schema(minimum = 1, maximum = 65535)]
    throttle_rate: Option<u32>,
    /// The older name of `throttleRate`.
    #[schema(minimum = 1, maximum = 65535)]
    rate_limit: Option<u32>,
    /// How many requests may be on their way to its endpoints in all. Where it is replaced by PUT, what is absent stays.
    #[schema(minimum = 1)]
    max_in_flight: Option<u32>,
    /// How many turns it has where others have one, when permits are scarce. Where it is replaced by PUT, what is absent
    /// stays.
    #[schema(minimum = 1, maximum = 100)]
    weight: Option<u32>,
    /// How long what is sent in it is kept. Where it is replaced by PUT, what is absent stays.
    #[schema(value_type = Option<RetentionSchema>)]
    retention: Option<Retention>,
}

/// What is to change of an application: what is absent stays, `null` resets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApplicationPatch {
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    name: Patch<String>,
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    uid: Patch<String>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    metadata: Patch<BTreeMap<String, String>>,
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    throttle_rate: Patch<u32>,
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    rate_limit: Patch<u32>,
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    max_in_flight: Patch<u32>,
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    weight: Patch<u32>,
    /// All of its rule.
    #[schema(value_type = Option<RetentionSchema>)]
    #[serde(default)]
    retention: Patch<Retention>,
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApplicationOut {
    #[schema(value_type = String, example = "app_01KAJ2Q3V5W8Z4T6Y7R9X0B1CD")]
    id: ApplicationId,
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u32>,
    rate_limit: Option<u32>,
    max_in_flight: Option<u32>,
    weight: Option<u32>,
    /// `null` where the server's rule holds.
    #[schema(value_type = Option<RetentionSchema>)]
    retention: Option<Retention>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Application> for ApplicationOut {
    fn from(application: Application) -> Self {
        ApplicationOut {
            id: application.id,
            uid: application.uid,
            name: application.name,
            metadata: application.metadata,
            throttle_rate: application.throttle_rate,
            rate_limit: application.throttle_rate,
            max_in_flight: application.max_in_flight,
            weight: application.weight,
            retention: shown(application.retention),
            created_at: application.created_at,
            updated_at: application.updated_at,
        }
    }
}

impl ApplicationIn {
    pub(super) fn into_new(self) -> Result<NewApplication, Problem> {
        let mut new = NewApplication::named(self.name);
        new.uid = self.uid;
        new.metadata = self.metadata.unwrap_or_default();
        new.throttle_rate = one_of("throttleRate", self.throttle_rate, self.rate_limit)?;
        new.max_in_flight = self.max_in_flight;
        new.weight = self.weight;
        new.retention = self.retention.unwrap_or_default();
        Ok(new)
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CreateQuery {
    /// Answer 200 with the application of this uid, if there is one.
    get_if_exists: Option<bool>,
}

/// List applications
#[utoipa::path(get, path = "/app", operation_id = "v1.application.list", tag = "Application", params(ListQuery),
    responses((status = 200, body = ListResponse<ApplicationOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    _: Operator,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListResponse<ApplicationOut>>, Problem> {
    let all = api.ringback.applications();
    Ok(Json(ListResponse::cut(
        all,
        &query,
        page::is_id::<ApplicationId>,
        |application| application.id.to_string(),
        ApplicationOut::from,
    )?))
}

/// Create an application
#[utoipa::path(post, path = "/app", operation_id = "v1.application.create", tag = "Application", params(CreateQuery),
    request_body = ApplicationIn,
    responses((status = 200, body = ApplicationOut, description = "There was one (`get_if_exists`)"),
              (status = 201, body = ApplicationOut)))]
async fn create(
    State(api): State<Arc<Api>>,
    _: Operator,
    Query(query): Query<CreateQuery>,
    once: Once,
    Body { value, raw }: Body<ApplicationIn>,
) -> Result<Answer, Problem> {
    api.once(None, once, &raw, async {
        let _changes = api.changes().await;
        let new = value.into_new()?;
        if query.get_if_exists == Some(true)
            && let Some(uid) = &new.uid
            && let Ok(application) = api.ringback.application_by_uid(uid)
        {
            return Ok(Answer::ok(&ApplicationOut::from(application)));
        }
        Ok(Answer::created(&ApplicationOut::from(api.ringback.create_application(new).await?)))
    })
    .await
}

/// Get an application
#[utoipa::path(get, path = "/app/{app_id}", operation_id = "v1.application.get", tag = "Application",
    responses((status = 200, body = ApplicationOut)))]
async fn get(State(api): State<Arc<Api>>, Tenant(id): Tenant) -> Result<Json<ApplicationOut>, Problem> {
    Ok(Json(api.ringback.application(id)?.into()))
}

/// Replace an application, or create it with this uid
#[utoipa::path(put, path = "/app/{app_id}", operation_id = "v1.application.update", tag = "Application",
    request_body = ApplicationIn,
    responses((status = 200, body = ApplicationOut), (status = 201, body = ApplicationOut, description = "It was made")))]
async fn put(
    State(api): State<Arc<Api>>,
    Named(named): Named,
    Body { value, .. }: Body<ApplicationIn>,
) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    let retention = value.retention;
    let mut new = value.into_new()?;
    match api.application_id(&named) {
        Ok(id) => {
            // Named by its uid, it keeps it: the same request once more would make another otherwise.
            if named.parse::<ApplicationId>().is_err() {
                new.uid.get_or_insert(named);
            }
            // Only this server knows these: a client that does not would reset them unknowingly.
            let old = api.ringback.application(id)?;
            new.max_in_flight = new.max_in_flight.or(old.max_in_flight);
            new.weight = new.weight.or(old.weight);
            new.retention = retention.unwrap_or(old.retention);
            let application = api.ringback.update_application(id, new).await?;
            Ok(Answer::ok(&ApplicationOut::from(application)))
        }
        // An id that is not there cannot be made; a uid can.
        Err(problem) if named.parse::<ApplicationId>().is_ok() => Err(problem),
        Err(_) => {
            new.uid.get_or_insert(named);
            let application = api.ringback.create_application(new).await?;
            Ok(Answer::created(&ApplicationOut::from(application)))
        }
    }
}

/// Change an application
#[utoipa::path(patch, path = "/app/{app_id}", operation_id = "v1.application.patch", tag = "Application",
    request_body = ApplicationPatch, responses((status = 200, body = ApplicationOut)))]
async fn patch(
    State(api): State<Arc<Api>>,
    Administered(id): Administered,
    Body { value, .. }: Body<ApplicationPatch>,
) -> Result<Json<ApplicationOut>, Problem> {
    let _changes = api.changes().await;
    let old = api.ringback.application(id)?;
    let rate = either("throttleRate", value.throttle_rate, value.rate_limit)?;
    let mut new = NewApplication::named(value.name.over(old.name));
    new.uid = value.uid.optional().over(old.uid);
    new.metadata = value.metadata.over(old.metadata);
    new.throttle_rate = rate.optional().over(old.throttle_rate);
    new.max_in_flight = value.max_in_flight.optional().over(old.max_in_flight);
    new.weight = value.weight.optional().over(old.weight);
    new.retention = value.retention.over(old.retention);
    Ok(Json(api.ringback.update_application(id, new).await?.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Whether everything that it has goes as well, for good: the answer is the erase job. Default: no.
    erase: Option<bool>,
}

/// Delete an application, with its endpoints and tokens
///
/// What is stored of its messages goes with retention, or with `erase=true` in a job that begins at once.
#[utoipa::path(delete, path = "/app/{app_id}", operation_id = "v1.application.delete", tag = "Application",
    params(DeleteQuery),
    responses((status = 204), (status = 202, body = EraseJobOut, description = "It is being erased")))]
async fn delete(
    State(api): State<Arc<Api>>,
    Administered(id): Administered,
    Query(query): Query<DeleteQuery>,
) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    if query.erase == Some(true) {
        return Ok(Answer::accepted(&api.erase(id, Erase::Application).await?));
    }
    api.ringback.delete_application(id).await?;
    Ok(Answer::nothing())
}

impl Api {
    /// The application that a message's sender names, made if it is not there.
    pub(super) async fn application_for(
        &self,
        named: &str,
        given: Option<ApplicationIn>,
    ) -> Result<ApplicationId, Problem> {
        let found = self.application_id(named);
        let (Err(_), Some(given)) = (&found, given) else { return found };
        let _changes = self.changes().await;
        if let Ok(id) = self.application_id(named) {
            return Ok(id);
        }
        let mut new = given.into_new()?;
        if new.uid.as_deref().is_some_and(|uid| uid != named) {
            return Err(Problem::invalid("body", "application.uid", "must be the one in the path"));
        }
        if named.parse::<ApplicationId>().is_ok() {
            return found;
        }
        new.uid = Some(named.to_owned());
        match self.ringback.create_application(new).await {
            Ok(application) => Ok(application.id),
            Err(Error::UidTaken(_)) => self.application_id(named),
            Err(error) => Err(error.into()),
        }
    }
}
