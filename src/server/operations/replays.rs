//! Replay jobs: many dead letters taken up again, at a rate. They go on after a restart.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{ApplicationId, EndpointId, JobId, JobStatus, NewReplay, ReplayFilter, ReplayJob, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::{EndpointOf, Operator, Tenant};
use crate::server::body::{Body, NoMembers};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse, Ordering};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;

/// What clients know a job as.
const TASK: &str = "endpoint.recover";
/// Deliveries a second, if a request does not say.
const RATE: u32 = 100;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(recover))
        .routes(routes!(preview))
        .routes(routes!(list, start))
        .routes(routes!(get))
        .routes(routes!(stop))
        .routes(routes!(tasks))
        .routes(routes!(task))
}

/// Which dead letters of an endpoint to recover.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecoverIn {
    /// Whose message was accepted at or after this time.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Whose message was accepted before this time. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
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

/// A job, as clients know it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BackgroundTaskOut {
    #[schema(value_type = String)]
    id: JobId,
    /// `running`, `finished` or `failed` (stopped).
    status: &'static str,
    task: &'static str,
    data: ReplayJobOut,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Which dead letters to replay.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplayIn {
    /// Those to this endpoint. Default: all.
    endpoint_id: Option<String>,
    /// Whose message was accepted at or after this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Whose message was accepted before this time. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Deliveries a second: 1 to 10,000. Default: 100.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
}

/// How many dead letters a job would replay.
#[derive(Serialize, ToSchema)]
struct PreviewOut {
    count: u64,
}

/// A replay of many dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReplayJobOut {
    #[schema(value_type = String)]
    id: JobId,
    #[schema(value_type = String)]
    application_id: ApplicationId,
    #[schema(value_type = Option<String>)]
    endpoint_id: Option<EndpointId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Deliveries a second.
    rate: u32,
    /// `running`, `finished` or `stopped`.
    #[schema(value_type = String)]
    status: JobStatus,
    /// How many dead letters there were when it began.
    total: u64,
    /// How many it has taken up again.
    replayed: u64,
    /// How many it has left dead, because their endpoint takes nothing.
    skipped: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<ReplayJob> for ReplayJobOut {
    fn from(job: ReplayJob) -> Self {
        ReplayJobOut {
            id: job.id,
            application_id: job.application,
            endpoint_id: job.filter.endpoint,
            since: job.filter.since,
            until: job.filter.until,
            rate: job.rate,
            status: job.status,
            total: job.total,
            replayed: job.replayed,
            skipped: job.skipped,
            created_at: job.created_at,
            updated_at: job.updated_at,
        }
    }
}

fn task_status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Running | JobStatus::Paused => "running",
        JobStatus::Finished => "finished",
        JobStatus::Stopped => "failed",
    }
}

impl From<ReplayJob> for BackgroundTaskOut {
    fn from(job: ReplayJob) -> Self {
        BackgroundTaskOut {
            id: job.id,
            status: task_status(job.status),
            task: TASK,
            updated_at: job.updated_at,
            data: job.into(),
        }
    }
}

impl ReplayIn {
    fn filter(&self, api: &Api, application: ApplicationId) -> Result<ReplayFilter, Problem> {
        let endpoint = match &self.endpoint_id {
            Some(named) => Some(api.endpoint(application, named)?.id),
            None => None,
        };
        Ok(ReplayFilter { endpoint, since: self.since, until: self.until, ..ReplayFilter::default() })
    }
}

/// Replay an endpoint's dead letters
///
/// There is no limit on their number or age, and a restart does not end it. Its progress is under the same id at
/// `/background-task/{task_id}` and, with more to see, at `/app/{app_id}/replay/{job_id}`.
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/recover", operation_id = "v1.endpoint.recover",
    tag = "Endpoint", request_body = RecoverIn, responses((status = 202, body = RecoverOut)))]
async fn recover(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<RecoverIn>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, &raw, async {
        let endpoint = Some(found.endpoint.id);
        let filter = ReplayFilter { endpoint, since: Some(value.since), until: value.until, ..ReplayFilter::default() };
        let job = api.ringback.start_replay(found.application, NewReplay::from(filter).rate(RATE)).await?;
        let status = task_status(job.status);
        Ok(Answer::accepted(&RecoverOut { id: job.id, status, task: TASK, updated_at: job.updated_at }))
    })
    .await
}

/// Count what a replay would take up
#[utoipa::path(post, path = "/app/{app_id}/replay/preview", operation_id = "v1.replay.preview", tag = "Replay",
    request_body = ReplayIn, responses((status = 200, body = PreviewOut)))]
async fn preview(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Body { value, .. }: Body<ReplayIn>,
) -> Result<Json<PreviewOut>, Problem> {
    let filter = value.filter(&api, id)?;
    Ok(Json(PreviewOut { count: api.ringback.preview_replay(id, filter).await?.count }))
}

/// Start a replay job
#[utoipa::path(post, path = "/app/{app_id}/replay", operation_id = "v1.replay.create", tag = "Replay",
    request_body = ReplayIn, responses((status = 202, body = ReplayJobOut)))]
async fn start(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    once: Once,
    Body { value, raw }: Body<ReplayIn>,
) -> Result<Answer, Problem> {
    api.once(Some(id), once, &raw, async {
        let filter = value.filter(&api, id)?;
        let job = api.ringback.start_replay(id, NewReplay::from(filter).rate(value.rate.unwrap_or(RATE))).await?;
        Ok(Answer::accepted(&ReplayJobOut::from(job)))
    })
    .await
}

/// List replay jobs
#[utoipa::path(get, path = "/app/{app_id}/replay", operation_id = "v1.replay.list", tag = "Replay", params(ListQuery),
    responses((status = 200, body = ListResponse<ReplayJobOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListResponse<ReplayJobOut>>, Problem> {
    let all = api.ringback.replay_jobs().await?.into_iter().filter(|job| job.application == id).collect();
    Ok(Json(ListResponse::cut(
        all,
        &query,
        page::is_id::<JobId>,
        |job: &ReplayJob| job.id.to_string(),
        ReplayJobOut::from,
    )?))
}

impl Api {
    async fn job(&self, application: ApplicationId, named: &str) -> Result<ReplayJob, Problem> {
        let id = named.parse().map_err(|_| Problem::not_found("replay job"))?;
        let job = self.ringback.replay_job(id).await?;
        if job.application == application { Ok(job) } else { Err(Problem::not_found("replay job")) }
    }
}

/// Get a replay job, and how far it is
#[utoipa::path(get, path = "/app/{app_id}/replay/{job_id}", operation_id = "v1.replay.get", tag = "Replay",
    responses((status = 200, body = ReplayJobOut)))]
async fn get(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
) -> Result<Json<ReplayJobOut>, Problem> {
    Ok(Json(api.job(id, &named).await?.into()))
}

/// Stop a replay job; what it has taken up goes on
#[utoipa::path(post, path = "/app/{app_id}/replay/{job_id}/stop", operation_id = "v1.replay.stop", tag = "Replay",
    responses((status = 200, body = ReplayJobOut)))]
async fn stop(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    let job = api.job(id, &named).await?;
    api.once(Some(id), once, b"", async {
        Ok(Answer::ok(&ReplayJobOut::from(api.ringback.stop_replay(job.id).await?)))
    })
    .await
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
    /// Those that are `running`, `finished` or `failed` (stopped).
    status: Option<String>,
    /// Those of this kind: all jobs are `endpoint.recover`.
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
    let TasksQuery { limit, iterator, order, status, task } = query;
    let mut all = api.ringback.replay_jobs().await?;
    all.retain(|job| {
        let as_asked = |asked: &Option<String>, own: &str| asked.as_deref().is_none_or(|asked| asked == own);
        as_asked(&status, task_status(job.status)) && as_asked(&task, TASK)
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

/// Get a replay job
#[utoipa::path(get, path = "/background-task/{task_id}", operation_id = "v1.background-task.get",
    tag = "Background Task", responses((status = 200, body = BackgroundTaskOut)))]
async fn task(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(named): Path<String>,
) -> Result<Json<BackgroundTaskOut>, Problem> {
    let id = named.parse().map_err(|_| Problem::not_found("background task"))?;
    Ok(Json(api.ringback.replay_job(id).await?.into()))
}
