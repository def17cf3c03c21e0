//! Replay jobs: many deliveries taken up again, at a rate. They go on after a restart.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{
    ApplicationId, EndpointId, Error, Invalid, JobId, JobStatus, NewReplay, ReplayFilter, ReplayJob, ReplayPreview,
    ReplaySkips, ReplayTo, ReplayWhat, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::Tenant;
use crate::server::body::{Body, NoMembers};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(preview))
        .routes(routes!(list, start))
        .routes(routes!(get))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(stop))
}

/// What to replay, and where to.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplayIn {
    /// `failed` (dead, or canceled because the endpoint was disabled), `dead`, `canceled`, `delivered`, `all`, or
    /// `missing`: messages that the endpoint's filters take and that it never had a delivery of; needs `endpointId`.
    /// Default: `failed`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    what: ReplayWhat,
    /// Deliveries to this endpoint. Default: all.
    endpoint_id: Option<String>,
    /// Whose message was accepted at or after this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Whose message was accepted before this time. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Whose message is of one of these event types, exact or ending in `.*`: at most 200. Default: of any.
    event_types: Option<Vec<String>>,
    /// Whose message has this channel.
    channel: Option<String>,
    /// Whose message has this tag.
    tag: Option<String>,
    /// Send to this endpoint in place of those that the messages were for, each message once, whatever its filters.
    to_endpoint_id: Option<String>,
    /// Send to this URL: an endpoint is made for it, with the profile, the keys and the headers of `endpointId`, which
    /// gets nothing but replays. Not beside `toEndpointId`.
    to_url: Option<String>,
    /// Deliveries a second, kept over any second: 1 to 10,000. Default: 100.
    #[schema(minimum = 1, maximum = 10000)]
    rate: Option<u32>,
}

/// What a job would replay.
#[derive(Serialize, ToSchema)]
struct PreviewOut {
    /// How many deliveries, as they stand now.
    count: u64,
    /// How many of them would be skipped because their message's payload was expunged.
    expunged: u64,
}

/// Why deliveries were skipped, and how many.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReplaySkipsOut {
    /// Their endpoint takes nothing: it is disabled or deleted.
    closed: u64,
    /// Their message's payload was expunged.
    expunged: u64,
    /// They wait or are being attempted already.
    under_way: u64,
    /// Retention has removed their message meanwhile.
    gone: u64,
}

/// A replay of many deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplayJobOut {
    #[schema(value_type = String)]
    id: JobId,
    #[schema(value_type = String)]
    application_id: ApplicationId,
    /// What it replays.
    #[schema(value_type = String)]
    what: ReplayWhat,
    #[schema(value_type = Option<String>)]
    endpoint_id: Option<EndpointId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
    /// The endpoint that it sends to, if not to those that the messages were for.
    #[schema(value_type = Option<String>)]
    to_endpoint_id: Option<EndpointId>,
    /// Deliveries a second.
    rate: u32,
    /// `running`, `paused`, `finished` or `stopped`.
    #[schema(value_type = String)]
    status: JobStatus,
    /// How many deliveries there were to replay when it began.
    total: u64,
    /// How many messages it has dealt with.
    looked_at: u64,
    /// How many deliveries it has taken up.
    replayed: u64,
    /// How many it has left as they were.
    skipped: u64,
    /// And why.
    skips: ReplaySkipsOut,
    /// How long it takes at least from now on, by its rate; `null` unless it is running.
    remaining_seconds: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<ReplayJob> for ReplayJobOut {
    fn from(job: ReplayJob) -> Self {
        let remaining = job.remaining();
        let ReplayFilter { what, endpoint, since, until, event_types, channel, tag } = job.filter;
        let ReplaySkips { closed, expunged, under_way, gone, .. } = job.skips;
        ReplayJobOut {
            id: job.id,
            application_id: job.application,
            what,
            endpoint_id: endpoint,
            since,
            until,
            event_types: (!event_types.is_empty()).then_some(event_types),
            channel,
            tag,
            to_endpoint_id: job.to,
            rate: job.rate,
            status: job.status,
            total: job.total,
            looked_at: job.looked_at,
            replayed: job.replayed,
            skipped: job.skipped,
            skips: ReplaySkipsOut { closed, expunged, under_way, gone },
            remaining_seconds: remaining.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
            created_at: job.created_at,
            updated_at: job.updated_at,
        }
    }
}

impl ReplayIn {
    fn new_replay(self, api: &Api, application: ApplicationId) -> Result<NewReplay, Problem> {
        let to = match (self.to_endpoint_id, self.to_url) {
            (None, None) => ReplayTo::Itself,
            (Some(named), None) => ReplayTo::Endpoint(api.endpoint(application, &named)?.id),
            (None, Some(url)) => ReplayTo::Url(url),
            (Some(_), Some(_)) => return Err(Problem::invalid("body", "toUrl", "is given beside toEndpointId")),
        };
        let endpoint = match (&self.endpoint_id, &to) {
            (None, _) => None,
            (Some(named), ReplayTo::Itself) => Some(api.endpoint(application, named)?.id),
            // What one that was deleted was to get can go elsewhere; it is known by its id alone.
            (Some(named), ReplayTo::Endpoint(_) | ReplayTo::Url(_)) => match named.parse() {
                Ok(id) => Some(id),
                Err(_) => Some(api.endpoint(application, named)?.id),
            },
        };
        let filter = ReplayFilter {
            what: self.what,
            endpoint,
            since: self.since,
            until: self.until,
            event_types: self.event_types.unwrap_or_default(),
            channel: self.channel,
            tag: self.tag,
        };
        let new = NewReplay { to, ..filter.into() };
        Ok(match self.rate {
            Some(rate) => new.rate(rate),
            None => new,
        })
    }
}

/// The library's fields by the names that they have here.
pub(super) fn by_member(error: Error) -> Problem {
    let Error::Invalid(invalid) = error else { return error.into() };
    let member = match invalid.field() {
        "endpoint" => "endpointId".to_owned(),
        "to" => "toEndpointId".to_owned(),
        "url" => "toUrl".to_owned(),
        other => other.to_owned(),
    };
    Invalid::new(member, invalid.problem().to_owned()).into()
}

/// Count what a replay would take up
#[utoipa::path(post, path = "/app/{app_id}/replay/preview", operation_id = "v1.replay.preview", tag = "Replay",
    request_body = ReplayIn, responses((status = 200, body = PreviewOut)))]
async fn preview(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Body { value, .. }: Body<ReplayIn>,
) -> Result<Json<PreviewOut>, Problem> {
    let new = value.new_replay(&api, id)?;
    let ReplayPreview { count, expunged } = api.ringback.preview_replay(id, new).await.map_err(by_member)?;
    Ok(Json(PreviewOut { count, expunged }))
}

/// Start a replay job
///
/// Its total is counted first. Of more jobs than the server's `max_running_replays` the oldest of each application get on, the others
/// wait. An application has at most 100 that have not ended.
#[utoipa::path(post, path = "/app/{app_id}/replay", operation_id = "v1.replay.create", tag = "Replay",
    request_body = ReplayIn, responses((status = 202, body = ReplayJobOut)))]
async fn start(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    once: Once,
    Body { value, raw }: Body<ReplayIn>,
) -> Result<Answer, Problem> {
    api.once(Some(id), once, &raw, async {
        let new = value.new_replay(&api, id)?;
        let job = api.ringback.start_replay(id, new).await.map_err(by_member)?;
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

    async fn change_job(
        &self,
        application: ApplicationId,
        named: &str,
        once: Once,
        change: impl AsyncFnOnce(JobId) -> Result<ReplayJob, Error>,
    ) -> Result<Answer, Problem> {
        let id = self.job(application, named).await?.id;
        self.once(Some(application), once, b"", async { Ok(Answer::ok(&ReplayJobOut::from(change(id).await?))) }).await
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

/// Let a replay job rest until it is resumed, also over restarts
#[utoipa::path(post, path = "/app/{app_id}/replay/{job_id}/pause", operation_id = "v1.replay.pause", tag = "Replay",
    responses((status = 200, body = ReplayJobOut)))]
async fn pause(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    api.change_job(id, &named, once, async |job| api.ringback.pause_replay(job).await).await
}

/// Let a replay job that was paused go on where it was
#[utoipa::path(post, path = "/app/{app_id}/replay/{job_id}/resume", operation_id = "v1.replay.resume", tag = "Replay",
    responses((status = 200, body = ReplayJobOut)))]
async fn resume(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    api.change_job(id, &named, once, async |job| api.ringback.resume_replay(job).await).await
}

/// Stop a replay job for good; what it has taken up goes on
#[utoipa::path(post, path = "/app/{app_id}/replay/{job_id}/stop", operation_id = "v1.replay.stop", tag = "Replay",
    responses((status = 200, body = ReplayJobOut)))]
async fn stop(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    api.change_job(id, &named, once, async |job| api.ringback.stop_replay(job).await).await
}
