//! Cancels by a filter: what waits and fits is not sent.

use std::sync::Arc;

use axum::extract::State;
use ringback::{CancelFilter, MessageId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::Tenant;
use crate::server::body::Body;
use crate::server::once::{Answer, Once};
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(cancel))
}

/// Which deliveries to cancel. At least one of the members that choose is given.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CancelIn {
    /// Those to this endpoint: its id or uid.
    endpoint_id: Option<String>,
    /// Of messages with this ordering key.
    ordering_key: Option<String>,
    /// Of messages of these event types, exact or ending in `.*`.
    event_types: Option<Vec<String>>,
    /// Of messages with this channel.
    channel: Option<String>,
    /// Of messages with this tag.
    tag: Option<String>,
    /// Of messages accepted at or after this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Of messages accepted before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Whether to count alone, and cancel nothing. Default: no.
    preview: Option<bool>,
    /// From the answer before.
    iterator: Option<String>,
}

/// What a cancel has done.
#[derive(Serialize, ToSchema)]
struct CancelOut {
    /// How many deliveries waited or were held, and are canceled; in a preview how many would be. One that is being
    /// attempted is left to its attempt.
    canceled: u64,
    /// To go on with, in a request that is the same otherwise: one request looks at 10,000 messages at most.
    iterator: Option<String>,
    /// Whether there is nothing more to look at.
    done: bool,
}

/// Cancel what waits, by a filter
///
/// What is canceled can be replayed.
#[utoipa::path(post, path = "/app/{app_id}/cancel", operation_id = "v1.message.cancel-matching", tag = "Message",
    request_body = CancelIn, responses((status = 200, body = CancelOut)))]
async fn cancel(
    State(api): State<Arc<Api>>,
    Tenant(application): Tenant,
    once: Once,
    Body { value, raw }: Body<CancelIn>,
) -> Result<Answer, Problem> {
    let endpoint = match &value.endpoint_id {
        Some(named) => Some(api.endpoint(application, named)?.id),
        None => None,
    };
    let after: Option<MessageId> = match &value.iterator {
        Some(text) => Some(
            text.parse()
                .map_err(|_| Problem::invalid("body", "iterator", "must be one from an answer of this operation"))?,
        ),
        None => None,
    };
    let filter = CancelFilter {
        endpoint,
        ordering_key: value.ordering_key,
        event_types: value.event_types.unwrap_or_default(),
        channel: value.channel,
        tag: value.tag,
        since: value.since,
        until: value.until,
    };
    api.once(Some(application), once, &raw, async {
        let step = match value.preview {
            Some(true) => api.ringback.preview_cancel(application, &filter, after).await?,
            Some(false) | None => api.ringback.cancel_step(application, &filter, after).await?,
        };
        let iterator = step.next.map(|id| id.to_string());
        Ok(Answer::ok(&CancelOut { canceled: step.canceled, done: iterator.is_none(), iterator }))
    })
    .await
}
