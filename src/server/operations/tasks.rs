//! Replay jobs as clients of the field know them: started at an endpoint, looked after as background tasks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{JobId, JobStatus, ReplayFilter, ReplayJob, ReplayWhat, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::replays::{ReplayJobOut, by_member};
use crate::server::api::Api;
use crate::server::auth::{EndpointOf, Operator};
use crate::server::body::{Body, NoMembers};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse, Ordering};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(recover))
        .routes(routes!(replay_missing))
        .routes(routes!(bulk_replay))
        .routes(routes!(tasks))
        .routes(routes!(task))
        .routes(routes!(cancel))
}

/// Which messages a job is about.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecoverIn {
    /// Accepted at or after this time.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Accepted before this time. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Which messages and deliveries a job is about.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BulkReplayIn {
    /// Accepted at or after this time.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Accepted before this time. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Of one of these event types, exact or ending in `.*`. Default: of any.
    event_types: Option<Vec<String>>,
    /// With this channel.
    channel: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// 0: those that arrived; 2: dead letters; 4: those that were canceled. Default: all.
    status: Option<u8>,
    /// Not supported: leave it out.
    status_code_class: Option<u16>,
}

/// A job, as clients know it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecoverOut {
    #[schema(value_type = String)]
    id: JobId,
    status: &'static str,
    task: &'static str,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<&ReplayJob> for RecoverOut {
    fn from(job: &ReplayJob) -> Self {
        RecoverOut { id: job.id, status: status(job.status), task: kind(job), updated_at: job.updated_at }
    }
}

/// A job, as clients know it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BackgroundTaskOut {
    #[schema(value_type = String)]
    id: JobId,
    /// `running` (or paused), `finished` or `failed` (stopped).
    status: &'static str,
    /// `endpoint.recover` for what failed, `endpoint.replay` for what is missing, else `endpoint.bulk-replay`.
    task: &'static str,
    data: ReplayJobOut,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<ReplayJob> for BackgroundTaskOut {
    fn from(job: ReplayJob) -> Self {
        let RecoverOut { id, status, task, updated_at } = RecoverOut::from(&job);
        BackgroundTaskOut { id, status, task, updated_at, data: job.into() }
    }
}

/// What clients know a job as.
fn kind(job: &ReplayJob) -> &'static str {
    match job.filter.what {
        ReplayWhat::Failed => "endpoint.recover",
        ReplayWhat::Missing => "endpoint.replay",
        ReplayWhat::Dead | ReplayWhat::Canceled | ReplayWhat::Delivered | ReplayWhat::All => "endpoint.bulk-replay",
    }
}

fn status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Running | JobStatus::Paused => "running",
        JobStatus::Finished => "finished",
        JobStatus::Stopped => "failed",
    }
}

impl BulkReplayIn {
    fn filter(self) -> Result<ReplayFilter, Problem> {
        if self.status_code_class.is_some() {
            return Err(Problem::invalid("body", "statusCodeClass", "is not supported by this server; leave it out"));
        }
        let what = match self.status {
            None => ReplayWhat::All,
            Some(0) => ReplayWhat::Delivered,
            Some(2) => ReplayWhat::Dead,
            Some(4) => ReplayWhat::Canceled,
            Some(_) => {
                return Err(Problem::invalid("body", "status", "must be 0, 2 or 4: others are under way already"));
            }
        };
        Ok(ReplayFilter {
            what,
            endpoint: None,
            since: Some(self.since),
            until: self.until,
            event_types: self.event_types.unwrap_or_default(),
            channel: self.channel,
            tag: self.tag,
        })
    }
}

impl RecoverIn {
    fn filter(&self, what: ReplayWhat) -> ReplayFilter {
        ReplayFilter { what, since: Some(self.since), until: self.until, ..ReplayFilter::default() }
    }
}

/// Starts a job of this endpoint.
async fn start(
    api: &Api,
    found: EndpointOf,
    once: Once,
    raw: &[u8],
    filter: Result<ReplayFilter, Problem>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, raw, async {
        let filter = ReplayFilter { endpoint: Some(found.endpoint.id), ..filter? };
        let job = api.ringback.start_replay(found.application, filter).await.map_err(by_member)?;
        Ok(Answer::accepted(&RecoverOut::from(&job)))
    })
    .await
}

/// Replay what failed at an endpoint: dead letters, and what was canceled because it was disabled
///
/// There is no limit on their number or age, and a restart does not end it. Its progress is under the same id at
/// `/background-task/{task_id}` and at `/app/{app_id}/replay/{job_id}`, where it can be paused and stopped.
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/recover", operation_id = "v1.endpoint.recover",
    tag = "Endpoint", request_body = RecoverIn, responses((status = 202, body = RecoverOut)))]
async fn recover(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<RecoverIn>,
) -> Result<Answer, Problem> {
    start(&api, found, once, &raw, Ok(value.filter(ReplayWhat::Failed))).await
}

/// Replay what an endpoint never got: messages that its filters take and that it has no delivery of
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/replay-missing",
    operation_id = "v1.endpoint.replay-missing", tag = "Endpoint", request_body = RecoverIn,
    responses((status = 202, body = RecoverOut)))]
async fn replay_missing(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<RecoverIn>,
) -> Result<Answer, Problem> {
    start(&api, found, once, &raw, Ok(value.filter(ReplayWhat::Missing))).await
}

/// Replay an endpoint's deliveries, whatever became of them
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", operation_id = "v1.endpoint.bulk-replay",
    tag = "Endpoint", request_body = BulkReplayIn, responses((status = 202, body = RecoverOut)))]
async fn bulk_replay(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<BulkReplayIn>,
) -> Result<Answer, Problem> {
    start(&api, found, once, &raw, value.filter()).await
}

/// Which page of the jobs of all applications.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TasksQuery {
    /// How many items at most: 1 to 250. Default: 50.
    limit: Option<usize>,
    /// From the page before.
    iterator: Option<String>,
    /// Default: ascending.
    #[param(inline)]
    order: Option<Ordering>,
    /// Those that are `running` (or paused), `finished` or `failed` (stopped).
    status: Option<String>,
    /// Those of this kind.
    task: Option<String>,
}

/// List the replay jobs of all applications
#[utoipa::path(get, path = "/background-task", operation_id = "v1.background-task.list", tag = "Background Task",
    params(TasksQuery), responses((status = 200, body = ListResponse<BackgroundTaskOut>)))]
async fn tasks(
    State(api): State<Arc<Api>>,
    _: Operator,
    Query(query): Query<TasksQuery>,
) -> Result<Json<ListResponse<BackgroundTaskOut>>, Problem> {
    let TasksQuery { limit, iterator, order, status: wanted, task } = query;
    let mut all = api.ringback.replay_jobs().await?;
    all.retain(|job| {
        let as_asked = |asked: &Option<String>, own: &str| asked.as_deref().is_none_or(|asked| asked == own);
        as_asked(&wanted, status(job.status)) && as_asked(&task, kind(job))
    });
    let page = ListQuery { limit, iterator, order };
    Ok(Json(ListResponse::cut(
        all,
        &page,
        page::is_id::<JobId>,
        |job: &ReplayJob| job.id.to_string(),
        BackgroundTaskOut::from,
    )?))
}

fn task_id(named: &str) -> Result<JobId, Problem> {
    named.parse().map_err(|_| Problem::not_found("background task"))
}

/// Get a replay job
#[utoipa::path(get, path = "/background-task/{task_id}", operation_id = "v1.background-task.get",
    tag = "Background Task", responses((status = 200, body = BackgroundTaskOut)))]
async fn task(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(named): Path<String>,
) -> Result<Json<BackgroundTaskOut>, Problem> {
    Ok(Json(api.ringback.replay_job(task_id(&named)?).await?.into()))
}

/// Stop a replay job for good; what it has taken up goes on
#[utoipa::path(post, path = "/background-task/{task_id}/cancel", operation_id = "v1.background-task.cancel",
    tag = "Background Task", responses((status = 200, body = BackgroundTaskOut)))]
async fn cancel(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(named): Path<String>,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    let id = task_id(&named)?;
    api.once(None, once, b"", async { Ok(Answer::ok(&BackgroundTaskOut::from(api.ringback.stop_replay(id).await?))) })
        .await
}
