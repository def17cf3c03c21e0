//! Erasing for good: messages by a tag, one message, or an application.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{ApplicationId, Erase, EraseJob, EraseStatus, Erasing, JobId, MessageId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::{Administered, Operator};
use crate::server::body::Body;
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(list)).routes(routes!(get))
}

/// What is to be erased: one of `tag` and `messageId`. A whole application is erased by deleting it with `erase=true`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EraseIn {
    /// Every message with this tag that was accepted until now.
    #[schema(min_length = 1, max_length = 128, example = "user:123")]
    tag: Option<String>,
    /// This message.
    #[schema(value_type = Option<String>)]
    message_id: Option<MessageId>,
    /// Only counts the messages that would go. Default: no.
    #[serde(default)]
    preview: bool,
}

/// How an erase job stands. The tag is not shown: it may name a person, and is forgotten when the job is done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EraseJobOut {
    #[schema(value_type = String)]
    id: JobId,
    #[schema(value_type = String)]
    application_id: ApplicationId,
    /// `message`, `tag` or `application`.
    #[schema(value_type = String)]
    what: Erasing,
    #[schema(value_type = Option<String>)]
    message_id: Option<MessageId>,
    /// `running` or `finished`.
    #[schema(value_type = String)]
    status: EraseStatus,
    /// Messages that are gone, with their payloads.
    messages: u64,
    /// Their deliveries.
    deliveries: u64,
    /// Their attempts.
    attempts: u64,
    /// Messages with an attempt on its way, which is waited for.
    in_flight: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How many messages would go.
#[derive(Serialize, ToSchema)]
struct ErasePreviewOut {
    count: u64,
}

impl From<EraseJob> for EraseJobOut {
    fn from(job: EraseJob) -> Self {
        EraseJobOut {
            id: job.id,
            application_id: job.application,
            what: job.what,
            message_id: job.message,
            status: job.status,
            messages: job.messages,
            deliveries: job.deliveries,
            attempts: job.attempts,
            in_flight: job.in_flight,
            created_at: job.created_at,
            updated_at: job.updated_at,
        }
    }
}

impl EraseIn {
    fn what(&self) -> Result<Erase, Problem> {
        match (&self.tag, self.message_id) {
            (Some(tag), None) => Ok(Erase::Tag(tag.clone())),
            (None, Some(id)) => Ok(Erase::Message(id)),
            (None, None) => {
                Err(Problem::invalid("body", "tag", "give tag or messageId: one of them says what is erased"))
            }
            (Some(_), Some(_)) => Err(Problem::invalid("body", "messageId", "must not be given with tag")),
        }
    }
}

impl Api {
    /// Starts a job; where nobody delivers, and so nobody erases, it is carried out before this answers.
    pub(super) async fn erase(&self, application: ApplicationId, what: Erase) -> Result<EraseJobOut, Problem> {
        let job = self.ringback.start_erase(application, what).await?;
        match self.ringback.is_running() {
            true => Ok(job.into()),
            false => Ok(self.ringback.finish_erasing(job.id).await?.into()),
        }
    }
}

/// Erase messages for good
///
/// What waits is canceled; messages go with their payloads, deliveries, attempts, event ids and idempotency keys, in a job
/// that a restart does not end. With `preview`, the number of messages is answered with 200, and nothing is done.
#[utoipa::path(post, path = "/app/{app_id}/erase", operation_id = "v1.erase.create", tag = "Erase", request_body = EraseIn,
    responses((status = 202, body = EraseJobOut), (status = 200, body = ErasePreviewOut, description = "A preview")))]
async fn start(
    State(api): State<Arc<Api>>,
    Administered(id): Administered,
    once: Once,
    Body { value, raw }: Body<EraseIn>,
) -> Result<Answer, Problem> {
    let what = value.what()?;
    if value.preview {
        let count = api.ringback.preview_erase(id, &what).await?;
        return Ok(Answer::ok(&ErasePreviewOut { count }));
    }
    api.once(Some(id), once, &raw, async { Ok(Answer::accepted(&api.erase(id, what).await?)) }).await
}

/// List erase jobs
#[utoipa::path(get, path = "/erase", operation_id = "v1.erase.list", tag = "Erase", params(ListQuery),
    responses((status = 200, body = ListResponse<EraseJobOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    _: Operator,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListResponse<EraseJobOut>>, Problem> {
    let all = api.ringback.erase_jobs().await?;
    let id = |job: &EraseJob| job.id.to_string();
    Ok(Json(ListResponse::cut(all, &query, page::is_id::<JobId>, id, EraseJobOut::from)?))
}

/// Get how an erase job stands
#[utoipa::path(get, path = "/erase/{job_id}", operation_id = "v1.erase.get", tag = "Erase",
    responses((status = 200, body = EraseJobOut)))]
async fn get(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(named): Path<String>,
) -> Result<Json<EraseJobOut>, Problem> {
    let id = named.parse().map_err(|_| Problem::not_found("erase job"))?;
    Ok(Json(api.ringback.erase_job(id).await?.into()))
}
