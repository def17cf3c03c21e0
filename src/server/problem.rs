//! What a request is refused with: a status, a code that programs read, and words that people read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ringback::{Error, Invalid};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// After how many seconds a request that was refused for want of room may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
pub(super) const RETRY_AFTER_SECONDS: u64 = 1;

/// The code of a request that the server has no room for.
const OVERLOADED: &str = "overloaded";

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Detail,
}

#[derive(Debug)]
enum Detail {
    Text { code: &'static str, detail: String },
    Fields(Vec<ValidationErrorItem>),
}

/// An error.
#[derive(Serialize, ToSchema)]
pub(super) struct HttpErrorOut {
    /// For programs: it never changes.
    #[schema(example = "not_found")]
    code: &'static str,
    /// For people: what is wrong and, where that helps, what to do.
    detail: String,
}

/// What is wrong with the values of a request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HTTPValidationError {
    detail: Vec<ValidationErrorItem>,
}

/// A value that cannot be taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ValidationErrorItem {
    /// Where it stands: `body`, `query` or `header`, and the names from there on.
    #[schema(example = json!(["body", "url"]))]
    loc: Vec<String>,
    /// What would be right.
    msg: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, detail: Detail::Text { code, detail: detail.into() } }
    }

    /// The same for what does not exist and for what belongs to another application.
    pub(super) fn not_found(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    pub(super) fn unauthenticated() -> Problem {
        let detail = "a valid token is needed: Authorization: Bearer <token>";
        Problem::new(StatusCode::UNAUTHORIZED, "authentication_failed", detail)
    }

    pub(super) fn too_many_guesses() -> Problem {
        let detail = "too many wrong tokens came from this address; try again later";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "authentication_throttled", detail)
    }

    pub(super) fn forbidden() -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "insufficient_access", "this needs the operator's token")
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", detail)
    }

    pub(super) fn too_large(what: &str, limit: usize) -> Problem {
        let detail = format!("the {what} is too large; the limit is {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    pub(super) fn too_slow() -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request's body did not arrive in time")
    }

    /// A value at `place` (`body`, `query`, `header`), under the names of `path`.
    pub(super) fn invalid(place: &str, path: &str, msg: impl Into<String>) -> Problem {
        let names = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned);
        let loc = std::iter::once(place.to_owned()).chain(names).collect();
        let item = ValidationErrorItem { loc, msg: msg.into(), kind: "value_error" };
        Problem { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Detail::Fields(vec![item]) }
    }

    pub(super) fn unknown_parameter(name: &str) -> Problem {
        let msg = "the operation has no such parameter".to_owned();
        let item = ValidationErrorItem { loc: vec!["query".to_owned(), name.to_owned()], msg, kind: "value_error" };
        Problem { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Detail::Fields(vec![item]) }
    }

    /// Whether it was refused for want of room, or because it cannot be written now.
    fn may_come_again(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// Whether nothing was done, so that the same request may be tried again. A store that could not write may have
    /// written; one that had no room has not.
    pub(super) fn changed_nothing(&self) -> bool {
        let no_room = matches!(&self.detail, Detail::Text { code, .. } if *code == OVERLOADED);
        self.status.is_client_error() || self.status == StatusCode::NOT_IMPLEMENTED || no_room
    }
}

/// A problem as a part of an answer: of one message of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartOut {
    /// What the status of an answer of its own would be.
    pub(super) status: u16,
    /// For programs, unless a value is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What is wrong: words, or the values as in an answer with 422.
    #[schema(value_type = Object)]
    detail: Value,
    /// After how many seconds it may be tried again, if there was no room for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_seconds: Option<u64>,
}

impl From<Problem> for PartOut {
    fn from(problem: Problem) -> PartOut {
        let again = problem.may_come_again();
        let (code, detail) = match problem.detail {
            Detail::Text { code, detail } => (Some(code), Value::from(detail)),
            Detail::Fields(fields) => (None, serde_json::to_value(fields).expect("plain data with texts as keys")),
        };
        let retry_after_seconds = again.then_some(RETRY_AFTER_SECONDS);
        PartOut { status: problem.status.as_u16(), code, detail, retry_after_seconds }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Problem {
        Problem::invalid("body", invalid.field(), invalid.problem())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let text = error.to_string();
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::NotFound(what) => Problem::not_found(what),
            Error::UidTaken(_)
            | Error::NameTaken(_)
            | Error::EventIdTaken(_)
            | Error::IdempotencyConflict
            | Error::Conflict(_) => Problem::conflict(text),
            Error::ApplicationOverloaded(_) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "application_overloaded", text)
            }
            Error::NotCompacted(_) => Problem::new(StatusCode::CONFLICT, "not_compacted", text),
            Error::Overloaded(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED, text),
            Error::Storage(_) | Error::Closed => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
            // A store is not opened by a request; or a variant of a later version. Ours to mend, and never the caller's fault.
            error @ (Error::Keys(_) | _) => {
                tracing::error!(%error, "an error that the API does not know");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "see the server's log")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let again = self.may_come_again();
        let mut response = match self.detail {
            Detail::Text { code, detail } => Json(HttpErrorOut { code, detail }).into_response(),
            Detail::Fields(detail) => Json(HTTPValidationError { detail }).into_response(),
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if again {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
