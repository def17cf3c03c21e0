//! Endpoints: made, changed, listed, counted, tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use ringback::profile::BodyMode;
use ringback::store::CountQuery;
use ringback::{
    BlockedHead, DisableReason, Endpoint, EndpointId, EndpointSettings, EndpointStatus, NewEndpoint, ProfileChoice,
    RetrySettings, Secret, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::headers;
use super::messages::MessageOut;
use super::profiles::ProfileChoiceOut;
use crate::server::api::Api;
use crate::server::auth::{EndpointOf, Tenant};
use crate::server::body::Body;
use crate::server::fields::{Patch, either};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;
use crate::settings::profiles;

/// What statistics cover if a request does not say: 28 days.
const STATISTICS_WINDOW: Duration = Duration::from_secs(28 * 24 * 3600);

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, put, patch, delete))
        .routes(routes!(stats))
        .routes(routes!(send_example))
}

/// An endpoint to be made or changed. Where it is made, `url` is needed and what is absent has its default; where it is
/// changed by PATCH, what is absent stays and `null` resets; where it is replaced by PUT, what is absent has its default,
/// except for what only this server knows (`profile`, `body`, `timeoutMs`, `retry`, `maxInFlight`, `weight`, `blockedHead`, `headers`,
/// `secret`), which stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointIn {
    /// Where requests go: https, at most 2,048 bytes.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    url: Patch<String>,
    /// The platform's own name for it, unique in its application: works in place of the id in every path.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    uid: Patch<String>,
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    description: Patch<String>,
    /// Whether it gets nothing.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    disabled: Patch<bool>,
    /// The event types it takes, exact or ending in `.*`. None: all.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    event_types: Patch<Vec<String>>,
    /// The older name of `eventTypes`.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    filter_types: Patch<Vec<String>>,
    /// The channels it listens to. None: all.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    channels: Patch<Vec<String>>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    metadata: Patch<BTreeMap<String, String>>,
    /// How many requests a second it may get. A tenth of that may go out at once.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 65535)]
    #[serde(default)]
    throttle_rate: Patch<u32>,
    /// The older name of `throttleRate`.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 65535)]
    #[serde(default)]
    rate_limit: Patch<u32>,
    /// The secret to sign with, in the profile's form. Default: one is made where the profile says so.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    secret: Patch<Secret>,
    /// Headers that every request to it carries. Values of those whose names say that they carry credentials are never
    /// shown again; `PUT …/headers` marks others.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    headers: Patch<BTreeMap<String, Secret>>,
    /// The vendor's way of sending: a profile's name, or a profile. Default: `svix`.
    #[schema(value_type = Option<ProfileChoiceOut>)]
    #[serde(default)]
    profile: Patch<ProfileChoice>,
    /// `envelope`, `asGiven` or `superset`, in place of the profile's.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    body: Patch<BodyMode>,
    /// The time limit of one attempt, in place of the profile's: 1 to 300,000 ms.
    #[schema(value_type = Option<u64>)]
    #[serde(default)]
    timeout_ms: Patch<u64>,
    /// Over the profile's retry policy.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    retry: Patch<RetrySettings>,
    /// How many requests may be on their way to it at once: 1 to 1,024.
    #[schema(value_type = Option<u32>)]
    #[serde(default)]
    max_in_flight: Patch<u32>,
    /// How many turns it has where the application's other endpoints have one, when permits are scarce: 1 to 100.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 100)]
    #[serde(default)]
    weight: Patch<u32>,
    /// What a message with an ordering key does to those behind it while it fails: `{"rule":"wait"}` (the default),
    /// `{"rule":"skip","afterAttempts":3}` (they go on, and it is retried beside them) or
    /// `{"rule":"expire","afterSeconds":600}` (it gives up).
    #[schema(value_type = Option<BlockedHeadOut>)]
    #[serde(default)]
    blocked_head: Patch<BlockedHead>,
    /// Whether it is disabled once it has done nothing but fail for the server's `disable_after_seconds`. Default: yes.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    auto_disable: Patch<bool>,
    /// Whether it gets nothing but what is replayed to it.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    replay_only: Patch<bool>,
    /// Clients of before send it; it means nothing.
    #[schema(value_type = Option<u32>)]
    #[expect(dead_code, reason = "taken, since clients send it")]
    #[serde(default)]
    version: Patch<u32>,
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointOut {
    #[schema(value_type = String, example = "ep_01KAJ2Q3V5W8Z4T6Y7R9X0B1CD")]
    id: EndpointId,
    uid: Option<String>,
    url: String,
    description: String,
    disabled: bool,
    /// Since when it is disabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_since: Option<Timestamp>,
    /// Why it is disabled: `requested`, `failing` (nothing but failures for too long), `gone` (its receiver answered 410) or
    /// `askedByReceiver` (its receiver answered with `webhook-delivery: disable`).
    #[schema(value_type = Option<String>)]
    disabled_reason: Option<DisableReason>,
    event_types: Option<Vec<String>>,
    filter_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u32>,
    rate_limit: Option<u32>,
    /// Always 1; clients of before expect it.
    version: u32,
    /// A profile's name, or a profile.
    #[schema(value_type = ProfileChoiceOut)]
    profile: ProfileChoice,
    #[schema(value_type = Option<String>)]
    body: Option<BodyMode>,
    timeout_ms: Option<u64>,
    #[schema(value_type = Option<Object>)]
    retry: Option<RetrySettings>,
    max_in_flight: Option<u32>,
    weight: Option<u32>,
    #[schema(value_type = Option<BlockedHeadOut>)]
    blocked_head: Option<BlockedHead>,
    /// Whether it is disabled once it has done nothing but fail for long. Without it: yes.
    auto_disable: Option<bool>,
    /// Whether it gets nothing but what is replayed to it.
    replay_only: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What a message with an ordering key does to those behind it while it fails.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the document describes a type of the library with it")]
struct BlockedHeadOut {
    /// `wait`, `skip` or `expire`.
    rule: String,
    /// Of `skip`: the failed attempts of a round after which those behind go on.
    #[schema(minimum = 1, maximum = 51)]
    after_attempts: Option<u32>,
    /// Of `expire`: it gives up so long after its turn came.
    #[schema(minimum = 1, maximum = 2_592_000)]
    after_seconds: Option<u64>,
}

/// How the deliveries to an endpoint stand.
#[derive(Serialize, ToSchema)]
struct EndpointStats {
    /// Delivered.
    success: u64,
    /// Waiting for an attempt, or held behind another of their ordering key.
    pending: u64,
    /// Being attempted now.
    sending: u64,
    /// Given up.
    fail: u64,
    /// Ended by somebody.
    canceled: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// Messages accepted at or after this time. Default: 28 days before `until`.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Messages accepted before this time. Default: now.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Which example to send.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventExampleIn {
    event_type: String,
    #[expect(dead_code, reason = "taken, since clients send it: there is one example of an event type")]
    example_index: Option<u32>,
}

/// Types and channels as clients know them: none is `null`.
fn some_of(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

impl EndpointIn {
    fn over(self, api: &Api, old: EndpointSettings) -> Result<NewEndpoint, Problem> {
        let headers = match self.headers {
            Patch::Keep => old.headers,
            Patch::Reset => Vec::new(),
            Patch::Set(map) => headers::anew(map, &old.headers, &[]),
        };
        let settings = EndpointSettings {
            uid: self.uid.optional().over(old.uid),
            description: self.description.over(old.description),
            profile: api.written_out(self.profile.over(old.profile)),
            body: self.body.optional().over(old.body),
            timeout_ms: self.timeout_ms.optional().over(old.timeout_ms),
            retry: self.retry.optional().over(old.retry),
            max_in_flight: self.max_in_flight.optional().over(old.max_in_flight),
            weight: self.weight.optional().over(old.weight),
            blocked_head: self.blocked_head.optional().over(old.blocked_head),
            auto_disable: self.auto_disable.optional().over(old.auto_disable),
            replay_only: self.replay_only.over(old.replay_only),
            event_types: either("eventTypes", self.event_types, self.filter_types)?.over(old.event_types),
            channels: self.channels.over(old.channels),
            headers,
            metadata: self.metadata.over(old.metadata),
            throttle_rate: either("throttleRate", self.throttle_rate, self.rate_limit)?
                .optional()
                .over(old.throttle_rate),
            ..EndpointSettings::at(self.url.over(old.url))
        };
        let mut new = NewEndpoint::from(settings);
        if let Patch::Set(secret) = self.secret {
            new = new.secret(secret);
        }
        Ok(match self.disabled {
            Patch::Keep => new,
            Patch::Reset => new.disabled(false),
            Patch::Set(disabled) => new.disabled(disabled),
        })
    }

    fn has_url(&self) -> Result<(), Problem> {
        match self.url {
            Patch::Set(_) => Ok(()),
            Patch::Keep | Patch::Reset => Err(Problem::invalid("body", "url", "missing field `url`")),
        }
    }

    fn into_new(mut self, api: &Api) -> Result<NewEndpoint, Problem> {
        self.has_url()?;
        // What it is made from has no status: without this it would stay as it is.
        if self.disabled == Patch::Keep {
            self.disabled = Patch::Reset;
        }
        self.over(api, EndpointSettings::at(""))
    }

    fn replacing(mut self, api: &Api, old: EndpointSettings) -> Result<NewEndpoint, Problem> {
        self.has_url()?;
        if self.disabled == Patch::Keep {
            self.disabled = Patch::Reset;
        }
        let EndpointSettings { profile, body, timeout_ms, retry, max_in_flight, weight, blocked_head, .. } = old;
        let EndpointSettings { auto_disable, replay_only, headers, .. } = old;
        let own = EndpointSettings { profile, body, timeout_ms, retry, weight, ..EndpointSettings::at("") };
        let kept = EndpointSettings { max_in_flight, blocked_head, auto_disable, replay_only, headers, ..own };
        self.over(api, kept)
    }
}

impl Api {
    /// An operator's own profile is kept written out, so that no endpoint breaks when its declaration goes.
    fn written_out(&self, choice: ProfileChoice) -> ProfileChoice {
        profiles::resolve(choice, &self.options.profiles)
    }

    fn by_name(&self, choice: ProfileChoice) -> ProfileChoice {
        match &choice {
            ProfileChoice::Custom(profile) if self.options.profiles.get(&profile.name) == Some(profile) => {
                ProfileChoice::Named(profile.name.clone())
            }
            ProfileChoice::Custom(_) | ProfileChoice::Named(_) => choice,
        }
    }

    pub(super) fn show_endpoint(&self, endpoint: Endpoint) -> EndpointOut {
        let Endpoint { id, settings, status, created_at, updated_at, .. } = endpoint;
        let (disabled_since, disabled_reason) = match status {
            EndpointStatus::Enabled => (None, None),
            EndpointStatus::Disabled { since, reason } => (Some(since), Some(reason)),
            EndpointStatus::Deleted { since } => (Some(since), None),
        };
        EndpointOut {
            id,
            uid: settings.uid,
            url: settings.url,
            description: settings.description,
            disabled: disabled_since.is_some(),
            disabled_since,
            disabled_reason,
            filter_types: some_of(settings.event_types.clone()),
            event_types: some_of(settings.event_types),
            channels: some_of(settings.channels),
            metadata: settings.metadata,
            throttle_rate: settings.throttle_rate,
            rate_limit: settings.throttle_rate,
            version: 1,
            profile: self.by_name(settings.profile),
            body: settings.body,
            timeout_ms: settings.timeout_ms,
            retry: settings.retry,
            max_in_flight: settings.max_in_flight,
            weight: settings.weight,
            blocked_head: settings.blocked_head,
            auto_disable: settings.auto_disable,
            replay_only: settings.replay_only,
            created_at,
            updated_at,
        }
    }
}

/// List endpoints
#[utoipa::path(get, path = "/app/{app_id}/endpoint", operation_id = "v1.endpoint.list", tag = "Endpoint",
    params(ListQuery), responses((status = 200, body = ListResponse<EndpointOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListResponse<EndpointOut>>, Problem> {
    let all = api.ringback.endpoints(id)?;
    Ok(Json(ListResponse::cut(
        all,
        &query,
        page::is_id::<EndpointId>,
        |endpoint| endpoint.id.to_string(),
        |endpoint| api.show_endpoint(endpoint),
    )?))
}

/// Create an endpoint
#[utoipa::path(post, path = "/app/{app_id}/endpoint", operation_id = "v1.endpoint.create", tag = "Endpoint",
    request_body = EndpointIn, responses((status = 201, body = EndpointOut)))]
async fn create(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    once: Once,
    Body { value, raw }: Body<EndpointIn>,
) -> Result<Answer, Problem> {
    api.once(Some(id), once, &raw, async {
        let _changes = api.changes().await;
        let endpoint = api.ringback.create_endpoint(id, value.into_new(&api)?).await?;
        Ok(Answer::created(&api.show_endpoint(endpoint)))
    })
    .await
}

/// Get an endpoint
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.get", tag = "Endpoint",
    responses((status = 200, body = EndpointOut)))]
async fn get(State(api): State<Arc<Api>>, found: EndpointOf) -> Json<EndpointOut> {
    Json(api.show_endpoint(found.endpoint))
}

/// Replace an endpoint, or create it with this uid
#[utoipa::path(put, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.update", tag = "Endpoint",
    request_body = EndpointIn,
    responses((status = 200, body = EndpointOut), (status = 201, body = EndpointOut, description = "It was made")))]
async fn put(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Path((_, named)): Path<(String, String)>,
    Body { mut value, .. }: Body<EndpointIn>,
) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    // Named by its uid, it keeps it: the same request once more would make another otherwise.
    if let (Patch::Keep | Patch::Reset, Err(_)) = (&value.uid, named.parse::<EndpointId>()) {
        value.uid = Patch::Set(named.clone());
    }
    match api.endpoint(id, &named) {
        Ok(old) => {
            let new = value.replacing(&api, old.settings)?;
            let endpoint = api.ringback.update_endpoint(id, old.id, new).await?;
            Ok(Answer::ok(&api.show_endpoint(endpoint)))
        }
        Err(problem) if named.parse::<EndpointId>().is_ok() => Err(problem),
        Err(_) => {
            let endpoint = api.ringback.create_endpoint(id, value.into_new(&api)?).await?;
            Ok(Answer::created(&api.show_endpoint(endpoint)))
        }
    }
}

/// Change an endpoint
#[utoipa::path(patch, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.patch", tag = "Endpoint",
    request_body = EndpointIn, responses((status = 200, body = EndpointOut)))]
async fn patch(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Body { value, .. }: Body<EndpointIn>,
) -> Result<Json<EndpointOut>, Problem> {
    let _changes = api.changes().await;
    // Read again: it may have changed before this request had its turn.
    let old = api.ringback.endpoint(found.application, found.endpoint.id)?;
    if value.url == Patch::Reset {
        return Err(Problem::invalid("body", "url", "an endpoint has one"));
    }
    let new = value.over(&api, old.settings)?;
    Ok(Json(api.show_endpoint(api.ringback.update_endpoint(found.application, old.id, new).await?)))
}

/// Delete an endpoint; what waits for it is canceled
#[utoipa::path(delete, path = "/app/{app_id}/endpoint/{endpoint_id}", operation_id = "v1.endpoint.delete",
    tag = "Endpoint", responses((status = 204)))]
async fn delete(State(api): State<Arc<Api>>, found: EndpointOf) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    api.ringback.delete_endpoint(found.application, found.endpoint.id).await?;
    Ok(Answer::nothing())
}

/// Count an endpoint's deliveries by how they stand
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/stats", operation_id = "v1.endpoint.get-stats",
    tag = "Endpoint", params(StatsQuery), responses((status = 200, body = EndpointStats)))]
async fn stats(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Query(query): Query<StatsQuery>,
) -> Result<Json<EndpointStats>, Problem> {
    let since = match (query.since, query.until) {
        (Some(since), Some(until)) if since >= until => {
            return Err(Problem::invalid("query", "since", "must be before until"));
        }
        (Some(since), _) => since,
        (None, until) => until.unwrap_or_else(|| api.now()) - STATISTICS_WINDOW,
    };
    let window = CountQuery { endpoint: Some(found.endpoint.id), since: Some(since), until: query.until };
    let counts = api.ringback.counts(found.application, window).await?;
    Ok(Json(EndpointStats {
        success: counts.delivered,
        pending: counts.waiting + counts.held,
        sending: counts.leased,
        fail: counts.dead,
        canceled: counts.canceled,
    }))
}

/// Send an example event to an endpoint
#[utoipa::path(post, path = "/app/{app_id}/endpoint/{endpoint_id}/send-example", operation_id = "v1.endpoint.send-example",
    tag = "Endpoint", request_body = EventExampleIn, responses((status = 200, body = MessageOut)))]
async fn send_example(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    once: Once,
    Body { value, raw }: Body<EventExampleIn>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, &raw, async {
        let sent = api.ringback.send_test(found.application, found.endpoint.id, &value.event_type).await?;
        let message = api.ringback.message(found.application, sent.id).await?;
        Ok(Answer::ok(&MessageOut::of(&message, true)))
    })
    .await
}
