//! Event types: what a platform says of its events. They need not be registered to be sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{EventType, NewEventType, Retention, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::{Caller, Operator};
use crate::server::body::Body;
use crate::server::fields::Patch;
use crate::server::once::{Answer, Once};
use crate::server::page::{ListQuery, ListResponse, Ordering};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::Query;
use crate::server::retention::{RetentionSchema, shown};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, put, patch, delete))
}

/// An event type to be made or changed. By PATCH, what is absent stays and `null` resets.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventTypeIn {
    /// A dotted name; where the path has it, it may be left out.
    name: Option<String>,
    /// For people: at most 4 KiB.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    description: Patch<String>,
    /// Whether lists leave it out.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    archived: Patch<bool>,
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    deprecated: Patch<bool>,
    /// JSON Schemas by version; an example in the last one is what `send-example` sends.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    schemas: Patch<Value>,
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    feature_flag: Patch<String>,
    /// How long messages of it are kept. By PUT, too, what is absent stays.
    #[schema(value_type = Option<RetentionSchema>)]
    #[serde(default)]
    retention: Patch<Retention>,
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventTypeOut {
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    #[schema(value_type = Option<Object>)]
    schemas: Option<Value>,
    feature_flag: Option<String>,
    /// `null` where the server's rule holds.
    #[schema(value_type = Option<RetentionSchema>)]
    retention: Option<Retention>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl EventTypeOut {
    fn of(found: &EventType, with_content: bool) -> EventTypeOut {
        EventTypeOut {
            name: found.name.clone(),
            description: found.description.clone(),
            archived: found.archived,
            deprecated: found.deprecated,
            schemas: found.schemas.clone().filter(|_| with_content),
            feature_flag: found.feature_flag.clone(),
            retention: shown(found.retention),
            created_at: found.created_at,
            updated_at: found.updated_at,
        }
    }
}

/// What an event type would be registered with to be as it is.
fn as_new(found: &EventType) -> NewEventType {
    NewEventType {
        description: found.description.clone(),
        archived: found.archived,
        deprecated: found.deprecated,
        schemas: found.schemas.clone(),
        feature_flag: found.feature_flag.clone(),
        retention: found.retention,
        ..NewEventType::named(found.name.clone())
    }
}

impl EventTypeIn {
    fn over(self, old: NewEventType) -> NewEventType {
        let mut new = old;
        new.description = self.description.over(new.description);
        new.archived = self.archived.over(new.archived);
        new.deprecated = self.deprecated.over(new.deprecated);
        new.schemas = self.schemas.optional().over(new.schemas);
        new.feature_flag = self.feature_flag.optional().over(new.feature_flag);
        new.retention = self.retention.over(new.retention);
        new
    }

    /// The name in the path, which a body may repeat.
    fn named(&self, path: &str) -> Result<(), Problem> {
        match self.name.as_deref() {
            Some(name) if name != path => Err(Problem::invalid("body", "name", "must be the one in the path")),
            Some(_) | None => Ok(()),
        }
    }
}

/// Which page of the event types.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventTypesQuery {
    /// How many items at most: 1 to 250. Default: 50.
    limit: Option<usize>,
    /// From the page before.
    iterator: Option<String>,
    /// By name. Default: ascending.
    #[param(inline)]
    order: Option<Ordering>,
    /// Whether archived ones are listed. Default: no.
    include_archived: Option<bool>,
    /// Whether the answer has the schemas. Default: no.
    with_content: Option<bool>,
}

/// What the cursors of their list begin with.
const CURSOR: &str = "evtype_";

/// List event types
#[utoipa::path(get, path = "/event-type", operation_id = "v1.event-type.list", tag = "Event Type",
    params(EventTypesQuery), responses((status = 200, body = ListResponse<EventTypeOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    _: Caller,
    Query(query): Query<EventTypesQuery>,
) -> Result<Json<ListResponse<EventTypeOut>>, Problem> {
    let archived = query.include_archived.unwrap_or(false);
    let with_content = query.with_content.unwrap_or(false);
    let all = api.ringback.event_types().into_iter().filter(|found| archived || !found.archived).collect();
    let page = ListQuery { limit: query.limit, iterator: query.iterator, order: query.order };
    // A name may begin with the sign of a backward iterator; the prefix parts them.
    let cursor = |found: &Arc<EventType>| format!("{CURSOR}{}", found.name);
    Ok(Json(ListResponse::cut(
        all,
        &page,
        |text| text.starts_with(CURSOR),
        cursor,
        |found| EventTypeOut::of(&found, with_content),
    )?))
}

/// Create an event type
#[utoipa::path(post, path = "/event-type", operation_id = "v1.event-type.create", tag = "Event Type",
    request_body = EventTypeIn, responses((status = 201, body = EventTypeOut)))]
async fn create(
    State(api): State<Arc<Api>>,
    _: Operator,
    once: Once,
    Body { value, raw }: Body<EventTypeIn>,
) -> Result<Answer, Problem> {
    api.once(None, once, &raw, async {
        let _changes = api.changes().await;
        let Some(name) = value.name.clone() else {
            return Err(Problem::invalid("body", "name", "missing field `name`"));
        };
        let made = api.ringback.create_event_type(value.over(NewEventType::named(name))).await?;
        Ok(Answer::created(&EventTypeOut::of(&made, true)))
    })
    .await
}

/// Get an event type
#[utoipa::path(get, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.get", tag = "Event Type",
    responses((status = 200, body = EventTypeOut)))]
async fn get(State(api): State<Arc<Api>>, _: Caller, Path(name): Path<String>) -> Result<Json<EventTypeOut>, Problem> {
    let found = api.ringback.event_type(&name)?;
    Ok(Json(EventTypeOut::of(&found, true)))
}

/// Replace an event type, or create it
#[utoipa::path(put, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.update", tag = "Event Type",
    request_body = EventTypeIn,
    responses((status = 200, body = EventTypeOut), (status = 201, body = EventTypeOut, description = "It was made")))]
async fn put(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(name): Path<String>,
    Body { value, .. }: Body<EventTypeIn>,
) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    value.named(&name)?;
    // Only this server knows it: a client that does not would reset it unknowingly.
    let retention = api.ringback.event_type(&name).map(|old| old.retention).unwrap_or_default();
    let new = value.over(NewEventType { retention, ..NewEventType::named(name) });
    let (put, made) = api.ringback.put_event_type(new).await?;
    let shown = EventTypeOut::of(&put, true);
    Ok(if made { Answer::created(&shown) } else { Answer::ok(&shown) })
}

/// Change an event type
#[utoipa::path(patch, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.patch", tag = "Event Type",
    request_body = EventTypeIn, responses((status = 200, body = EventTypeOut)))]
async fn patch(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(name): Path<String>,
    Body { value, .. }: Body<EventTypeIn>,
) -> Result<Json<EventTypeOut>, Problem> {
    let _changes = api.changes().await;
    value.named(&name)?;
    let old = api.ringback.event_type(&name)?;
    let (put, _) = api.ringback.put_event_type(value.over(as_new(&old))).await?;
    Ok(Json(EventTypeOut::of(&put, true)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Remove it for good, and do not only archive it.
    expunge: Option<bool>,
}

/// Archive an event type, or remove it
#[utoipa::path(delete, path = "/event-type/{event_type_name}", operation_id = "v1.event-type.delete", tag = "Event Type",
    params(DeleteQuery), responses((status = 204)))]
async fn delete(
    State(api): State<Arc<Api>>,
    _: Operator,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<Answer, Problem> {
    let _changes = api.changes().await;
    let found = api.ringback.event_type(&name)?;
    match query.expunge == Some(true) {
        true => api.ringback.delete_event_type(&name).await?,
        false => {
            let mut archived = as_new(&found);
            archived.archived = true;
            api.ringback.put_event_type(archived).await?;
        }
    }
    Ok(Answer::nothing())
}
