//! Messages: sent, found, listed, canceled, and their payloads expunged.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use ringback::store::{MessageQuery, Order};
use ringback::{EndpointId, Message, MessageId, NewMessage, Routing, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::applications::ApplicationIn;
use crate::server::api::Api;
use crate::server::auth::{Administered, EndpointOf, MessageOf, Named, Tenant};
use crate::server::body::{self, Body, NoMembers, Raw};
use crate::server::once::{Answer, Once};
use crate::server::page::{self, ListResponse, Ordering, Start};
use crate::server::problem::Problem;
use crate::server::query::{self, Query};

const DAY_SECONDS: u64 = 24 * 3600;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get))
        .routes(routes!(expunge))
        .routes(routes!(cancel))
        .routes(routes!(cancel_delivery))
}

/// A message to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MessageIn<'a> {
    /// A dotted name. It need not be registered.
    #[schema(example = "call.completed")]
    event_type: String,
    /// A JSON object of at most 1 MiB. Its bytes are signed and sent as they stand here.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    payload: &'a RawValue,
    /// The platform's own id of the event, unique in the application while the message lives.
    #[schema(max_length = 256)]
    event_id: Option<String>,
    /// What endpoints may filter by: at most 20.
    channels: Option<Vec<String>>,
    /// When it happened; envelopes carry it. Default: when it was accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    occurred_at: Option<Timestamp>,
    /// Messages of one key reach each endpoint in the order of their acceptance.
    #[schema(max_length = 256)]
    ordering_key: Option<String>,
    /// Not to be attempted before this time: at most 30 days ahead. A time that is past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    deliver_at: Option<Timestamp>,
    /// No attempt starts after this time; later than `deliverAt`.
    #[schema(value_type = Option<String>, format = DateTime)]
    expire_at: Option<Timestamp>,
    /// Seconds: as `expireAt`, counted from the acceptance or from `deliverAt`. One of the two at most.
    #[schema(minimum = 1)]
    max_age: Option<u64>,
    /// What to find, cancel and erase it by, such as `user:123`: at most 20, each of at most 128 characters.
    tags: Option<Vec<String>>,
    /// A key under which a repetition is answered with the first one's result; in place of the header, which only a
    /// message that is sent alone has.
    #[schema(max_length = 256)]
    idempotency_key: Option<String>,
    /// The application, to be made with the uid of the path if it is not there.
    pub(super) application: Option<ApplicationIn>,
    /// Days. What the server keeps longer than this is refused: retention is the server's.
    payload_retention_period: Option<u64>,
    /// A payload as a text, in place of `payload`, which must be `{}`.
    transformations_params: Option<TransformationsParams>,
}

/// How clients hand over a payload that they have serialised themselves.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TransformationsParams {
    /// The payload's text: signed and sent as it is.
    raw_payload: String,
}

/// A message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageOut<'m> {
    #[schema(value_type = String, example = "msg_01KAJ2Q3V5W8Z4T6Y7R9X0B1CD")]
    id: MessageId,
    event_type: &'m str,
    event_id: Option<&'m str>,
    channels: Option<&'m [String]>,
    /// The payload, as it was given; `{}` if it was not asked for, or is expunged. One that is no JSON object, which only
    /// a text can be, is `{"rawPayload": text}`.
    #[schema(value_type = Object)]
    payload: Content<'m>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// Whether it is an example, sent as a test.
    test: bool,
    /// Whether its payload was expunged.
    expunged: bool,
    ordering_key: Option<&'m str>,
    /// When it is due, if that is later than its acceptance.
    #[schema(value_type = Option<String>, format = DateTime)]
    deliver_at: Option<Timestamp>,
    /// No attempt of its first round starts after this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    expire_at: Option<Timestamp>,
    tags: Option<&'m [String]>,
    /// Where it goes: `{"to": [ids]}`, or `{"nowhere": why}`.
    #[schema(value_type = Object)]
    routing: &'m Routing,
}

/// A payload in an answer.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'m> {
    Json(&'m RawValue),
    #[serde(rename_all = "camelCase")]
    Text {
        raw_payload: Cow<'m, str>,
    },
    None {},
}

impl<'m> Content<'m> {
    fn of(message: &'m Message, with_content: bool) -> Content<'m> {
        if !with_content || message.expunged {
            return Content::None {};
        }
        match serde_json::from_slice::<&RawValue>(&message.payload) {
            Ok(json) if json.get().starts_with('{') => Content::Json(json),
            // Clients read an object here.
            Ok(_) | Err(_) => Content::Text { raw_payload: String::from_utf8_lossy(&message.payload) },
        }
    }
}

impl<'m> MessageOut<'m> {
    pub(crate) fn of(message: &'m Message, with_content: bool) -> MessageOut<'m> {
        MessageOut {
            id: message.id,
            event_type: &message.event_type,
            event_id: message.event_id.as_deref(),
            channels: (!message.channels.is_empty()).then_some(&message.channels),
            payload: Content::of(message, with_content),
            timestamp: message.accepted_at,
            occurred_at: message.occurred_at,
            test: message.test,
            expunged: message.expunged,
            ordering_key: message.ordering_key.as_deref(),
            deliver_at: message.deliver_at,
            expire_at: message.expires_at,
            tags: (!message.tags.is_empty()).then_some(&message.tags),
            routing: &message.routing,
        }
    }
}

/// Deliveries that were canceled.
#[derive(Serialize, ToSchema)]
struct CanceledOut {
    /// How many waited and wait no more. One that is being attempted is left to its attempt.
    canceled: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ContentQuery {
    /// Whether the answer has the payload. Default: yes.
    with_content: Option<bool>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MessagesQuery {
    /// How many items at most: 1 to 250. Default: 50. A page that has 8 MiB of payloads ends early.
    limit: Option<usize>,
    /// From the page before.
    iterator: Option<String>,
    /// Default: descending, the newest first.
    #[param(inline)]
    order: Option<Ordering>,
    /// With this channel.
    channel: Option<String>,
    /// With this ordering key.
    ordering_key: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// Accepted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<Timestamp>,
    /// Accepted at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<Timestamp>,
    /// Whether the answer has the payloads. Default: yes.
    with_content: Option<bool>,
    /// Of these event types, exact or ending in `.*`.
    #[serde(default, deserialize_with = "query::list")]
    event_types: Vec<String>,
    /// Only those that matched no endpoint.
    unrouted: Option<bool>,
    /// Only those that went to this endpoint.
    endpoint_id: Option<String>,
}

/// Send a message
#[utoipa::path(post, path = "/app/{app_id}/msg", operation_id = "v1.message.create", tag = "Message",
    params(ContentQuery), request_body = MessageIn,
    responses((status = 202, body = MessageOut, description = "It is on stable storage, with all its deliveries")))]
async fn create(
    State(api): State<Arc<Api>>,
    Named(named): Named,
    Query(query): Query<ContentQuery>,
    once: Once,
    Raw(raw): Raw,
) -> Result<Answer, Problem> {
    let mut given: MessageIn<'_> = body::read(&raw)?;
    let mut new = api.new_message(&named, &raw, &given)?;
    let application = api.application_for(&named, given.application.take()).await?;
    match (once.key, &given.idempotency_key) {
        (Some(key), None) => new = new.idempotency_key(key),
        (Some(header), Some(member)) if header != *member => {
            return Err(Problem::invalid("body", "idempotencyKey", "is another one than the header's"));
        }
        (Some(_) | None, _) => {}
    }
    let with_content = query.with_content.unwrap_or(true);
    let sent = api.ringback.send(application, new).await?;
    let timed = given.deliver_at.is_some() || given.max_age.is_some();
    let (Some(routing), None, false) = (&sent.routing, &given.transformations_params, timed) else {
        let message = api.ringback.message(application, sent.id).await?;
        let answer = Answer::accepted(&MessageOut::of(&message, with_content));
        return Ok(if sent.repeated { answer.given_again() } else { answer });
    };
    // From what was given: nothing is read back.
    Ok(Answer::accepted(&MessageOut {
        id: sent.id,
        event_type: &given.event_type,
        event_id: given.event_id.as_deref(),
        channels: given.channels.as_deref().filter(|channels| !channels.is_empty()),
        payload: if with_content { Content::Json(given.payload) } else { Content::None {} },
        timestamp: sent.id.time(),
        occurred_at: given.occurred_at.unwrap_or(sent.id.time()),
        test: false,
        expunged: false,
        ordering_key: given.ordering_key.as_deref(),
        deliver_at: None,
        expire_at: given.expire_at,
        tags: given.tags.as_deref().filter(|tags| !tags.is_empty()),
        routing,
    }))
}

/// The members that few messages have.
fn with_options(mut new: NewMessage, given: &MessageIn<'_>) -> NewMessage {
    if let Some(key) = &given.ordering_key {
        new = new.ordering_key(key);
    }
    if let Some(time) = given.deliver_at {
        new = new.deliver_at(time);
    }
    if let Some(time) = given.expire_at {
        new = new.expires_at(time);
    }
    if let Some(seconds) = given.max_age {
        new = new.max_age(Duration::from_secs(seconds));
    }
    given.tags.iter().flatten().fold(new, |new, tag| new.tag(tag))
}

impl Api {
    /// The message that is asked for by this part of a request's body.
    pub(super) fn new_message(&self, named: &str, raw: &Bytes, given: &MessageIn<'_>) -> Result<NewMessage, Problem> {
        let payload = self.payload(named, raw, given)?;
        let mut new = NewMessage::bytes(given.event_type.clone(), payload);
        for channel in given.channels.iter().flatten() {
            new = new.channel(channel);
        }
        if let Some(id) = &given.event_id {
            new = new.event_id(id);
        }
        if let Some(time) = given.occurred_at {
            new = new.occurred_at(time);
        }
        if let Some(key) = &given.idempotency_key {
            new = new.idempotency_key(key);
        }
        Ok(with_options(new, given))
    }

    /// The payload's bytes, as they stand in the request.
    fn payload(&self, named: &str, raw: &Bytes, given: &MessageIn<'_>) -> Result<Bytes, Problem> {
        if let Some(days) = given.payload_retention_period {
            let longest = self.payload_is_kept(self.application_id(named).ok(), &given.event_type);
            let longest = longest.as_secs().div_ceil(DAY_SECONDS);
            if days < longest {
                let problem = format!("is not supported per message; payloads are kept for up to {longest} days here");
                return Err(Problem::invalid("body", "payloadRetentionPeriod", problem));
            }
        }
        let text = given.payload.get();
        let (payload, name) = match &given.transformations_params {
            None => (raw.slice_ref(text.as_bytes()), "payload"),
            Some(_) if text.trim_matches(['{', '}']).trim() != "" => {
                return Err(Problem::invalid("body", "payload", "must be {} beside transformationsParams.rawPayload"));
            }
            Some(given) => (Bytes::copy_from_slice(given.raw_payload.as_bytes()), "transformationsParams.rawPayload"),
        };
        if payload.len() > self.ringback.config().max_payload {
            return Err(Problem::too_large("payload", self.ringback.config().max_payload));
        }
        if name == "payload" && !text.starts_with('{') {
            return Err(Problem::invalid("body", name, "must be a JSON object"));
        }
        Ok(payload)
    }

    /// One page of messages, and where it ends.
    pub(super) async fn page_of_messages(
        &self,
        application: ringback::ApplicationId,
        start: &Start<MessageId>,
        descending: bool,
        query: MessageQuery,
    ) -> Result<(Vec<Arc<Message>>, bool), Problem> {
        let (after, backwards) = match start {
            Start::Beginning => (None, false),
            Start::After(id) => (Some(*id), false),
            Start::Before(id) => (Some(*id), true),
        };
        let order = if descending != backwards { Order::NewestFirst } else { Order::OldestFirst };
        let mut page = self.ringback.messages(application, MessageQuery { after, order, ..query }).await?;
        if backwards {
            page.items.reverse();
        }
        Ok((page.items, page.next.is_none()))
    }
}

/// List messages, the newest first
#[utoipa::path(get, path = "/app/{app_id}/msg", operation_id = "v1.message.list", tag = "Message",
    params(MessagesQuery), responses((status = 200, body = ListResponse<MessageOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    Tenant(id): Tenant,
    Query(query): Query<MessagesQuery>,
) -> Result<Answer, Problem> {
    let endpoint = match &query.endpoint_id {
        Some(named) => Some(api.endpoint(id, named)?.id),
        None => None,
    };
    let with_content = query.with_content.unwrap_or(true);
    let wanted = MessageQuery {
        since: query.after,
        until: query.before,
        event_types: query.event_types,
        channel: query.channel,
        endpoint,
        ordering_key: query.ordering_key,
        tag: query.tag,
        unrouted: query.unrouted.unwrap_or(false),
        limit: page::limit(query.limit)?,
        ..MessageQuery::default()
    };
    let start = page::start(query.iterator.as_deref(), |text| text.parse().ok())?;
    let descending = query.order != Some(Ordering::Ascending);
    let (messages, done) = api.page_of_messages(id, &start, descending, wanted).await?;
    let shown = messages.iter().map(|message| (message.id, MessageOut::of(message, with_content))).collect();
    Ok(Answer::ok(&ListResponse::of(shown, done, |(id, _)| id.to_string(), |(_, message)| message)))
}

/// Get a message by its id or event id
#[utoipa::path(get, path = "/app/{app_id}/msg/{msg_id}", operation_id = "v1.message.get", tag = "Message",
    params(ContentQuery), responses((status = 200, body = MessageOut)))]
async fn get(
    State(api): State<Arc<Api>>,
    found: MessageOf,
    Query(query): Query<ContentQuery>,
) -> Result<Answer, Problem> {
    let message = api.ringback.message(found.application, found.message).await?;
    Ok(Answer::ok(&MessageOut::of(&message, query.with_content.unwrap_or(true))))
}

/// Remove a message's payload for good; what waits of it is canceled
#[utoipa::path(delete, path = "/app/{app_id}/msg/{msg_id}/content", operation_id = "v1.message.expunge-content",
    tag = "Message", responses((status = 204)))]
async fn expunge(State(api): State<Arc<Api>>, _: Administered, found: MessageOf) -> Result<Answer, Problem> {
    api.ringback.expunge_message(found.application, found.message).await?;
    Ok(Answer::nothing())
}

/// Cancel what waits of a message
#[utoipa::path(post, path = "/app/{app_id}/msg/{msg_id}/cancel", operation_id = "v1.message.cancel", tag = "Message",
    responses((status = 200, body = CanceledOut)))]
async fn cancel(
    State(api): State<Arc<Api>>,
    found: MessageOf,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    cancel_of(&api, found, None, once).await
}

/// Cancel a message's delivery to one endpoint
#[utoipa::path(post, path = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/cancel",
    operation_id = "v1.message.cancel-delivery", tag = "Message", responses((status = 200, body = CanceledOut)))]
async fn cancel_delivery(
    State(api): State<Arc<Api>>,
    found: MessageOf,
    to: EndpointOf,
    once: Once,
    _: Body<NoMembers>,
) -> Result<Answer, Problem> {
    cancel_of(&api, found, Some(to.endpoint.id), once).await
}

async fn cancel_of(api: &Api, found: MessageOf, to: Option<EndpointId>, once: Once) -> Result<Answer, Problem> {
    api.once(Some(found.application), once, b"", async {
        let canceled = api.ringback.cancel(found.application, found.message, to).await?;
        Ok(Answer::ok(&CanceledOut { canceled }))
    })
    .await
}
