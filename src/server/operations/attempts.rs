//! Attempts: the log of what was tried, by endpoint, by message, or of a whole application.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringback::store::{AttemptQuery, AttemptStatus, MAX_PAGE_BYTES, Order};
use ringback::{
    ApplicationId, Asked, Attempt, AttemptId, EndpointId, Failure, Message, MessageId, Outcome, Response, StateKind,
    Timestamp, Trigger,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::messages::MessageOut;
use crate::server::api::Api;
use crate::server::auth::{Administered, Caller, EndpointOf, MessageOf, Tenant};
use crate::server::once::Answer;
use crate::server::page::{self, ListResponse, Ordering, Start};
use crate::server::path::Path;
use crate::server::problem::Problem;
use crate::server::query::{self, Query};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_by_endpoint))
        .routes(routes!(list_by_message))
        .routes(routes!(get))
        .routes(routes!(expunge))
}

/// An attempt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MessageAttemptOut<'a> {
    #[schema(value_type = String, example = "atmpt_01KAJ2Q3V5W8Z4T6Y7R9X0B1CD")]
    id: AttemptId,
    #[schema(value_type = String)]
    msg_id: MessageId,
    #[schema(value_type = String)]
    endpoint_id: EndpointId,
    url: &'a str,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// 0: it delivered the message; 2: it did not.
    status: u8,
    status_text: &'static str,
    /// 0 if none came.
    response_status_code: u16,
    response_duration_ms: u64,
    /// The first 16 KiB of the answer's body (base64 if it is no text); without an answer, why there is none.
    response: String,
    /// 0: by schedule; 1: by hand (a replay or a test).
    trigger_type: u8,
    /// Its number among all attempts of the delivery.
    number: u32,
    /// The round: one more with each replay.
    round: u32,
    /// `first`, `retry`, `replay` or `test`.
    #[schema(value_type = String)]
    trigger: Trigger,
    /// How the delivery stood after it: `delivered`, `waiting`, `dead` or `canceled`.
    #[schema(value_type = String)]
    result: StateKind,
    /// Why no answer came, as a word for programs. With an application's token, `dns` also stands for `blockedAddress`.
    failure: Option<&'static str>,
    /// What the answer's header `webhook-delivery` asked for: `abortMessage` or `disable`. It is done where the endpoint's
    /// profile follows it.
    asked: Option<&'static str>,
    /// What it probably means, for people.
    hint: Option<&'static str>,
    /// As they were written; secret values are redacted.
    #[schema(value_type = Vec<Vec<String>>)]
    request_headers: &'a [(String, String)],
    #[schema(value_type = Vec<Vec<String>>)]
    response_headers: &'a [(String, String)],
    /// Whether the body had more than is kept.
    truncated: bool,
    /// The message, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageOut<'a>>,
}

fn response_text(response: &Response) -> String {
    match std::str::from_utf8(&response.body) {
        Ok(text) => text.to_owned(),
        // A body that was cut within a letter is still a text.
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&response.body[..error.valid_up_to()]).into_owned()
        }
        Err(_) => BASE64_STANDARD.encode(&response.body),
    }
}

/// What a caller is told of an attempt's end.
struct Told {
    failure: Option<&'static str>,
    hint: Option<&'static str>,
    status: u16,
    duration: Duration,
}

impl Told {
    /// The operator learns all of it. An application does not learn whether a name leads to an address that must not be called
    /// or nowhere, nor how long that took to find out: it would learn the names of the operator's own network.
    fn of(attempt: &Attempt, caller: Caller) -> Told {
        let (failure, status) = match attempt.outcome {
            Outcome::Answered { status, .. } => (None, status),
            Outcome::Failed(failure) => (Some(failure), 0),
        };
        match (caller, failure) {
            (Caller::Application(_), Some(Failure::Dns | Failure::BlockedAddress)) => Told {
                failure: Some(Failure::Dns.code()),
                hint: Some("the host's name leads to no address that can be called: is the URL right?"),
                status,
                duration: Duration::ZERO,
            },
            (Caller::Operator | Caller::Application(_), failure) => Told {
                failure: failure.map(Failure::code),
                hint: attempt.hint(),
                status,
                duration: attempt.timing.total(),
            },
        }
    }
}

impl<'a> MessageAttemptOut<'a> {
    fn of(attempt: &'a Attempt, caller: Caller, with_content: bool, message: Option<&'a Message>) -> Self {
        let Told { failure, hint, status, duration } = Told::of(attempt, caller);
        let answered = attempt.response.as_ref();
        let text = match (answered, failure) {
            (Some(response), _) if with_content => response_text(response),
            (None, Some(code)) => format!("{code}: {}", hint.unwrap_or_default()),
            (_, _) => String::new(),
        };
        let (number, text_of_status) = if attempt.succeeded() { (0, "success") } else { (2, "fail") };
        MessageAttemptOut {
            id: attempt.id,
            msg_id: attempt.delivery.message,
            endpoint_id: attempt.delivery.lane.endpoint,
            url: &attempt.url,
            timestamp: attempt.started_at,
            status: number,
            status_text: text_of_status,
            response_status_code: status,
            response_duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            response: text,
            trigger_type: match attempt.trigger {
                Trigger::First | Trigger::Retry => 0,
                Trigger::Replay | Trigger::Test => 1,
            },
            number: attempt.number,
            round: attempt.round,
            trigger: attempt.trigger,
            result: attempt.result,
            failure,
            asked: match attempt.outcome {
                Outcome::Answered { asked, .. } => asked.map(Asked::code),
                Outcome::Failed(_) => None,
            },
            hint,
            request_headers: &attempt.request_headers,
            response_headers: answered.map(|response| response.headers.as_slice()).unwrap_or_default(),
            truncated: answered.is_some_and(|response| response.truncated),
            msg: message.map(|message| MessageOut::of(message, with_content)),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AttemptsQuery {
    /// How many items at most: 1 to 250. Default: 50. A page that has 8 MiB of payloads ends early.
    limit: Option<usize>,
    /// From the page before.
    iterator: Option<String>,
    /// Default: descending, the newest first.
    #[param(inline)]
    order: Option<Ordering>,
    /// 0: those that delivered; 2: those that did not. (1, 3 and 4 are no states of an attempt: an empty page.)
    status: Option<u8>,
    /// 0: without an answer; 100, 200, 300, 400, 500: answered with a status of this class.
    status_code_class: Option<u16>,
    /// Answered with this status.
    status_code: Option<u16>,
    /// Of messages with this channel.
    channel: Option<String>,
    /// To this endpoint.
    endpoint_id: Option<String>,
    /// Of this message.
    msg_id: Option<String>,
    /// Started before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<Timestamp>,
    /// Started at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<Timestamp>,
    /// Whether the answer has bodies. Default: yes.
    with_content: Option<bool>,
    /// Whether the answer has the messages. Default: no.
    with_msg: Option<bool>,
    /// Whether canceled attempts have a status of their own: an attempt that was made is never canceled.
    #[expect(dead_code, reason = "taken, since clients send it")]
    expanded_statuses: Option<bool>,
    /// Of messages of these event types, exact or ending in `.*`.
    #[serde(default, deserialize_with = "query::list")]
    event_types: Vec<String>,
}

impl AttemptsQuery {
    /// The result that is asked for; `Err` if no attempt can have it.
    fn status(&self) -> Result<Result<Option<AttemptStatus>, ()>, Problem> {
        let given = [self.status.is_some(), self.status_code.is_some(), self.status_code_class.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let problem = "one of status, status_code and status_code_class can be asked for";
            return Err(Problem::invalid("query", "status", problem));
        }
        if let Some(code) = self.status_code {
            return Ok(Ok(Some(AttemptStatus::Code(code))));
        }
        match (self.status, self.status_code_class) {
            (None, None) => Ok(Ok(None)),
            (Some(0), _) => Ok(Ok(Some(AttemptStatus::Succeeded))),
            (Some(2), _) => Ok(Ok(Some(AttemptStatus::Failed))),
            (Some(1 | 3 | 4), _) => Ok(Err(())),
            (Some(_), _) => Err(Problem::invalid("query", "status", "must be 0, 1, 2, 3 or 4")),
            (None, Some(0)) => Ok(Ok(Some(AttemptStatus::NoAnswer))),
            (None, Some(class @ (100 | 200 | 300 | 400 | 500))) => Ok(Ok(Some(AttemptStatus::Class(class / 100)))),
            (None, Some(_)) => {
                Err(Problem::invalid("query", "status_code_class", "must be 0, 100, 200, 300, 400 or 500"))
            }
        }
    }
}

impl Api {
    async fn attempts(
        &self,
        caller: Caller,
        application: ApplicationId,
        (endpoint, message): (Option<EndpointId>, Option<MessageId>),
        query: AttemptsQuery,
    ) -> Result<Answer, Problem> {
        let limit = page::limit(query.limit)?;
        let start = page::start(query.iterator.as_deref(), |text| text.parse().ok())?;
        let status = query.status()?;
        let endpoint = match (&query.endpoint_id, endpoint) {
            (Some(_), Some(_)) => return Err(Problem::unknown_parameter("endpoint_id")),
            (Some(named), None) => Some(self.endpoint(application, named)?.id),
            (None, endpoint) => endpoint,
        };
        let message = match (&query.msg_id, message) {
            (Some(_), Some(_)) => return Err(Problem::unknown_parameter("msg_id")),
            (Some(named), None) => Some(self.message_id(application, named).await?),
            (None, message) => message,
        };
        let (after, backwards) = match start {
            Start::Beginning => (None, false),
            Start::After(id) => (Some(id), false),
            Start::Before(id) => (Some(id), true),
        };
        let descending = query.order != Some(Ordering::Ascending);
        let order = if descending != backwards { Order::NewestFirst } else { Order::OldestFirst };
        let (mut attempts, mut done) = match status {
            Err(()) => (Vec::new(), true),
            Ok(status) => {
                let (since, until, channel, event_types) =
                    (query.after, query.before, query.channel, query.event_types);
                let wanted =
                    AttemptQuery { endpoint, message, status, since, until, channel, event_types, order, after, limit };
                let page = self.ringback.attempts(application, wanted).await?;
                (page.items, page.next.is_none())
            }
        };
        let mut messages = HashMap::new();
        if query.with_msg == Some(true) {
            let room_for;
            (messages, room_for) = self.messages_of(application, &attempts).await?;
            done &= room_for == attempts.len();
            attempts.truncate(room_for);
        }
        if backwards {
            attempts.reverse();
        }
        let with_content = query.with_content.unwrap_or(true);
        let shown = attempts.iter().map(|attempt| {
            let message = messages.get(&attempt.delivery.message).map(Arc::as_ref);
            MessageAttemptOut::of(attempt, caller, with_content, message)
        });
        let cursor = |attempt: &MessageAttemptOut<'_>| attempt.id.to_string();
        Ok(Answer::ok(&ListResponse::of(shown.collect(), done, cursor, |attempt| attempt)))
    }

    /// The messages of the first attempts, and of how many: as many as a page of messages has room for.
    async fn messages_of(
        &self,
        application: ApplicationId,
        attempts: &[Attempt],
    ) -> Result<(HashMap<MessageId, Arc<Message>>, usize), Problem> {
        let mut found: HashMap<MessageId, Arc<Message>> = HashMap::new();
        let mut bytes = 0;
        for (number, attempt) in attempts.iter().enumerate() {
            if bytes >= MAX_PAGE_BYTES {
                return Ok((found, number));
            }
            let id = attempt.delivery.message;
            if let Entry::Vacant(entry) = found.entry(id) {
                // One that retention has taken meanwhile is left out.
                match self.ringback.message(application, id).await {
                    Ok(message) => drop(entry.insert(message)),
                    Err(ringback::Error::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // The answer has each as often as it has attempts.
            bytes += found.get(&id).map_or(0, |message| message.payload.len());
        }
        Ok((found, attempts.len()))
    }
}

/// List all attempts of an application, the newest first
#[utoipa::path(get, path = "/app/{app_id}/attempt", operation_id = "v1.message-attempt.list", tag = "Message Attempt",
    params(AttemptsQuery), responses((status = 200, body = ListResponse<MessageAttemptOut>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Tenant(id): Tenant,
    Query(query): Query<AttemptsQuery>,
) -> Result<Answer, Problem> {
    api.attempts(caller, id, (None, None), query).await
}

/// List the attempts to an endpoint, the newest first
#[utoipa::path(get, path = "/app/{app_id}/attempt/endpoint/{endpoint_id}",
    operation_id = "v1.message-attempt.list-by-endpoint", tag = "Message Attempt", params(AttemptsQuery),
    responses((status = 200, body = ListResponse<MessageAttemptOut>)))]
async fn list_by_endpoint(
    State(api): State<Arc<Api>>,
    caller: Caller,
    found: EndpointOf,
    Query(query): Query<AttemptsQuery>,
) -> Result<Answer, Problem> {
    api.attempts(caller, found.application, (Some(found.endpoint.id), None), query).await
}

/// List the attempts of a message, the newest first
#[utoipa::path(get, path = "/app/{app_id}/attempt/msg/{msg_id}", operation_id = "v1.message-attempt.list-by-msg",
    tag = "Message Attempt", params(AttemptsQuery), responses((status = 200, body = ListResponse<MessageAttemptOut>)))]
async fn list_by_message(
    State(api): State<Arc<Api>>,
    caller: Caller,
    found: MessageOf,
    Query(query): Query<AttemptsQuery>,
) -> Result<Answer, Problem> {
    // The same 404 as elsewhere for a message that is not there, and not an empty page.
    api.ringback.message(found.application, found.message).await?;
    api.attempts(caller, found.application, (None, Some(found.message)), query).await
}

impl Api {
    async fn attempt_of(&self, found: &MessageOf, named: &str) -> Result<Attempt, Problem> {
        let id = named.parse().map_err(|_| Problem::not_found("attempt"))?;
        let attempt = self.ringback.attempt(found.application, id).await?;
        match attempt.delivery.message == found.message {
            true => Ok(attempt),
            false => Err(Problem::not_found("attempt")),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AttemptOptions {
    /// Whether canceled attempts have a status of their own: an attempt that was made is never canceled.
    #[expect(dead_code, reason = "taken, since clients send it")]
    expanded_statuses: Option<bool>,
}

/// Get an attempt
#[utoipa::path(get, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", operation_id = "v1.message-attempt.get",
    tag = "Message Attempt", params(AttemptOptions), responses((status = 200, body = MessageAttemptOut)))]
async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    found: MessageOf,
    Path((_, _, named)): Path<(String, String, String)>,
    _: Query<AttemptOptions>,
) -> Result<Answer, Problem> {
    let attempt = api.attempt_of(&found, &named).await?;
    Ok(Answer::ok(&MessageAttemptOut::of(&attempt, caller, true, None)))
}

/// Remove the stored response of an attempt for good
#[utoipa::path(delete, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
    operation_id = "v1.message-attempt.expunge-content", tag = "Message Attempt", responses((status = 204)))]
async fn expunge(
    State(api): State<Arc<Api>>,
    _: Administered,
    found: MessageOf,
    Path((_, _, named)): Path<(String, String, String)>,
) -> Result<Answer, Problem> {
    let attempt = api.attempt_of(&found, &named).await?;
    api.ringback.expunge_attempt(found.application, attempt.id).await?;
    Ok(Answer::nothing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback::{DeliveryId, Lane, Progress, testing};

    fn shown(failure: Failure, total_us: u64, caller: Caller) -> String {
        let at = Timestamp::from_millis(1_000);
        let lane = Lane { application: ApplicationId::from_parts(at, 1), endpoint: EndpointId::from_parts(at, 2) };
        let delivery = DeliveryId { lane, message: MessageId::from_parts(at, 3) };
        let id = AttemptId::from_parts(at, 4);
        let outcome = Outcome::Failed(failure);
        let mut attempt = testing::attempt(id, delivery, Progress::new(at), outcome, StateKind::Waiting);
        attempt.timing.total_us = total_us;
        serde_json::to_string(&MessageAttemptOut::of(&attempt, caller, true, None)).unwrap()
    }

    #[test]
    fn an_application_cannot_tell_a_name_that_is_kept_from_it_from_one_that_does_not_resolve() {
        let application = Caller::Application(ApplicationId::from_parts(Timestamp::ZERO, 1));
        let told = [(Failure::Dns, 900_000), (Failure::BlockedAddress, 2_000)].map(|(f, us)| shown(f, us, application));
        assert_eq!(told[0], told[1]);
        assert!(told[0].contains(r#""failure":"dns""#) && told[0].contains(r#""responseDurationMs":0"#), "{}", told[0]);
        let all = shown(Failure::BlockedAddress, 2_000, Caller::Operator);
        assert!(all.contains(r#""failure":"blockedAddress""#) && all.contains(r#""responseDurationMs":2"#), "{all}");
        assert!(shown(Failure::Dns, 2_000, Caller::Operator).contains("does not resolve"));
        let refused = [application, Caller::Operator].map(|caller| shown(Failure::Refused, 2_000, caller));
        assert_eq!(refused[0], refused[1], "of other failures both are told the same");
    }
}
