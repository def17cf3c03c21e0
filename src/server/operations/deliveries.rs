//! Deliveries: how those of a message or to an endpoint stand, and attempting one again.

use std::sync::Arc;

use axum::extract::State;
use ringback::store::MessageQuery;
use ringback::{
    Delivery, EndpointHealth, EndpointId, Message, MessageId, State as DeliveryState, StateKind, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::endpoint_health::EndpointHealthOut;
use super::endpoints::EndpointOut;
use super::messages::MessageOut;
use crate::server::api::Api;
use crate::server::auth::{EndpointOf, MessageOf};
use crate::server::body::Body;
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListQuery, ListResponse, Start};
use crate::server::problem::Problem;
use crate::server::query::{self, Query};

/// How many pages of messages are looked through for one page of those whose delivery stands as asked for.
const PAGES_LOOKED_THROUGH: usize = 40;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(destinations)).routes(routes!(attempted_messages)).routes(routes!(resend))
}

/// How a delivery stands, as clients number it.
fn number(kind: StateKind) -> (u8, &'static str) {
    match kind {
        StateKind::Delivered => (0, "success"),
        // Clients know no held ones: to them they wait.
        StateKind::Waiting | StateKind::Held => (1, "pending"),
        StateKind::Dead => (2, "fail"),
        StateKind::Leased => (3, "sending"),
        StateKind::Canceled => (4, "canceled"),
    }
}

/// A delivery, with its endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MessageEndpointOut {
    #[serde(flatten)]
    endpoint: EndpointOut,
    /// 0 delivered, 1 waiting (or held), 2 dead, 3 being attempted, 4 canceled.
    status: u8,
    status_text: &'static str,
    /// When it is attempted next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt: Option<Timestamp>,
    /// How it stands, with the time and the reason; held behind another of its ordering key: with that message.
    #[schema(value_type = Object)]
    state: DeliveryState,
    /// The attempts so far.
    attempts: u32,
    round: u32,
    /// How the endpoint stands.
    health: EndpointHealthOut,
}

/// A message, with how its delivery to the endpoint stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointMessageOut<'m> {
    #[serde(flatten)]
    message: MessageOut<'m>,
    /// 0 delivered, 1 waiting, 2 dead, 3 being attempted, 4 canceled.
    status: u8,
    status_text: &'static str,
    /// When it is attempted next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt: Option<Timestamp>,
}

fn next_attempt(state: DeliveryState) -> Option<Timestamp> {
    match state {
        DeliveryState::Waiting { due } => Some(due),
        DeliveryState::Held { .. }
        | DeliveryState::Leased { .. }
        | DeliveryState::Delivered { .. }
        | DeliveryState::Dead { .. }
        | DeliveryState::Canceled { .. } => None,
    }
}

/// Nothing.
#[derive(Serialize, ToSchema)]
struct EmptyResponse {}

/// List the endpoints that a message went to, and how each delivery stands
#[utoipa::path(get, path = "/app/{app_id}/msg/{msg_id}/endpoint",
    operation_id = "v1.message-attempt.list-attempted-destinations", tag = "Message Attempt", params(ListQuery),
    responses((status = 200, body = ListResponse<MessageEndpointOut>)))]
async fn destinations(
    State(api): State<Arc<Api>>,
    found: MessageOf,
    Query(query): Query<ListQuery>,
) -> Result<Answer, Problem> {
    api.ringback.message(found.application, found.message).await?;
    let mut all = Vec::new();
    for delivery in api.ringback.deliveries(found.application, found.message).await? {
        // One that was deleted since is in the log alone.
        let id = delivery.id.lane.endpoint;
        if let (Ok(endpoint), Ok(health)) =
            (api.ringback.endpoint(found.application, id), api.ringback.endpoint_health(found.application, id))
        {
            all.push((endpoint, health, delivery));
        }
    }
    all.sort_by_key(|(endpoint, ..)| endpoint.id);
    let show = |(endpoint, health, Delivery { state, progress, .. }): (_, EndpointHealth, _)| {
        let (status, status_text) = number(state.kind());
        MessageEndpointOut {
            endpoint: api.show_endpoint(endpoint),
            status,
            status_text,
            next_attempt: next_attempt(state),
            state,
            attempts: progress.attempts,
            round: progress.round,
            health: health.into(),
        }
    };
    Ok(Answer::ok(&ListResponse::cut(
        all,
        &query,
        page::is_id::<EndpointId>,
        |(endpoint, ..)| endpoint.id.to_string(),
        show,
    )?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AttemptedQuery {
    /// How many items at most: 1 to 250. Default: 50. A page may have fewer although there are more.
    limit: Option<usize>,
    /// From the page before.
    iterator: Option<String>,
    /// With this channel.
    channel: Option<String>,
    /// Whose delivery stands so: 0 delivered, 1 waiting, 2 dead, 3 being attempted, 4 canceled.
    status: Option<u8>,
    /// Accepted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<Timestamp>,
    /// Accepted at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<Timestamp>,
    /// Whether the answer has the payloads. Default: yes.
    with_content: Option<bool>,
    /// Whether canceled deliveries have the status 4 and not 2, `fail`: clients of before know no 4. Default: no, unless
    /// they are asked for.
    expanded_statuses: Option<bool>,
    /// Of these event types, exact or ending in `.*`.
    #[serde(default, deserialize_with = "query::list")]
    event_types: Vec<String>,
}

/// List the messages that went to an endpoint, the newest first, and how each delivery stands
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/msg",
    operation_id = "v1.message-attempt.list-attempted-messages", tag = "Message Attempt", params(AttemptedQuery),
    responses((status = 200, body = ListResponse<EndpointMessageOut>)))]
async fn attempted_messages(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Query(query): Query<AttemptedQuery>,
) -> Result<Answer, Problem> {
    if query.status.is_some_and(|status| status > 4) {
        return Err(Problem::invalid("query", "status", "must be 0, 1, 2, 3 or 4"));
    }
    let limit = page::limit(query.limit)?;
    let mut start = page::start(query.iterator.as_deref(), |text| text.parse().ok())?;
    let backwards = matches!(start, Start::Before(_));
    let wanted = MessageQuery {
        since: query.after,
        until: query.before,
        event_types: query.event_types,
        channel: query.channel,
        endpoint: Some(found.endpoint.id),
        limit,
        ..MessageQuery::default()
    };
    let mut rows = Vec::new();
    let mut done = false;
    // The cursors are of what was looked at, so that a page without a match still leads on.
    let (mut first, mut last) = (None, None);
    for _ in 0..PAGES_LOOKED_THROUGH {
        let (messages, ended) = api.page_of_messages(found.application, &start, true, wanted.clone()).await?;
        done = ended;
        let (Some(newest), Some(oldest)) = (messages.first(), messages.last()) else { break };
        if backwards {
            last = last.or(Some(oldest.id));
            first = Some(newest.id);
            start = Start::Before(newest.id);
        } else {
            first = first.or(Some(newest.id));
            last = Some(oldest.id);
            start = Start::After(oldest.id);
        }
        rows = api.standing(&found, messages, query.status).await?;
        // A page's worth was looked at: a further look could go over the limit.
        if done || query.status.is_none() || !rows.is_empty() {
            break;
        }
    }
    let with_content = query.with_content.unwrap_or(true);
    let expanded = query.expanded_statuses == Some(true) || query.status == Some(4);
    let shown = rows.iter().map(|(message, state)| {
        let kind = state.kind();
        let unknown = kind == StateKind::Canceled && !expanded;
        let (status, status_text) = number(if unknown { StateKind::Dead } else { kind });
        let message = MessageOut::of(message, with_content);
        EndpointMessageOut { message, status, status_text, next_attempt: next_attempt(*state) }
    });
    Ok(Answer::ok(&ListResponse {
        data: shown.collect(),
        iterator: last.map(|id: MessageId| id.to_string()),
        prev_iterator: first.map(|id: MessageId| format!("-{id}")),
        done,
    }))
}

impl Api {
    /// How the deliveries of these messages to the endpoint stand; only those that stand as asked for.
    async fn standing(
        &self,
        found: &EndpointOf,
        messages: Vec<Arc<Message>>,
        status: Option<u8>,
    ) -> Result<Vec<(Arc<Message>, DeliveryState)>, Problem> {
        let mut standing = Vec::with_capacity(messages.len());
        for message in messages {
            let deliveries = self.ringback.deliveries(found.application, message.id).await?;
            let own = deliveries.iter().find(|delivery| delivery.id.lane.endpoint == found.endpoint.id);
            let as_asked = |state: &DeliveryState| status.is_none_or(|status| number(state.kind()).0 == status);
            if let Some(state) = own.map(|delivery| delivery.state).filter(as_asked) {
                standing.push((message, state));
            }
        }
        Ok(standing)
    }
}

/// How to attempt a delivery again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResendIn {
    /// Whether a message that was not to go to this endpoint is given a delivery to it. Default: no; that is 404.
    #[serde(default)]
    add: bool,
}

/// Attempt a delivery again: in a new round of the full schedule if it had ended, at once if it waits
#[utoipa::path(post, path = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
    operation_id = "v1.message-attempt.resend", tag = "Message Attempt", request_body = ResendIn,
    responses((status = 202, body = EmptyResponse)))]
async fn resend(
    State(api): State<Arc<Api>>,
    found: MessageOf,
    to: EndpointOf,
    once: Once,
    Body { value, .. }: Body<ResendIn>,
) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, if value.add { b"add" } else { b"" }, async {
        let (application, message, endpoint) = (found.application, found.message, to.endpoint.id);
        match value.add {
            true => api.ringback.replay_to(application, message, endpoint).await?,
            false => api.ringback.replay(application, message, endpoint).await?,
        }
        Ok(Answer::accepted(&EmptyResponse {}))
    })
    .await
}
