//! Request bodies: bounded, JSON, with errors that name the member.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::Api;
use super::problem::Problem;

/// How long a client may take to send a body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How much larger than its payload a request may be.
const BESIDE_THE_PAYLOAD: usize = 64 * 1024;

/// Members that clients know and this server does not serve: refused, so that nobody waits for what will not happen.
const NOT_SERVED: [&str; 11] = [
    "payloadRetentionHours",
    "transformations",
    "oauth2",
    "mtls",
    "featureFlags",
    "capabilities",
    "expiry",
    "groupName",
    "readOnly",
    "sessionId",
    "sessionIds",
];

/// A request body as it came.
pub(super) struct Raw(pub(super) Bytes);

/// A request body, read as JSON. An empty one counts as `{}`.
pub(super) struct Body<T> {
    pub(super) value: T,
    /// As it came.
    pub(super) raw: Bytes,
}

impl FromRequest<Arc<Api>> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Raw, Problem> {
        up_to(request, largest(api)).await.map(Raw)
    }
}

/// How large a request, or the part of one, may be that has one message.
pub(super) fn largest(api: &Api) -> usize {
    api.ringback.config().max_payload + BESIDE_THE_PAYLOAD
}

/// All of a request's body, which has so many bytes at most.
pub(super) async fn up_to(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(Problem::too_large("request", limit));
    }
    collect(request.into_body(), limit).await
}

async fn collect(body: axum::body::Body, limit: usize) -> Result<Bytes, Problem> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Err(_) => Err(Problem::too_slow()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large("request", limit)),
        Ok(Err(_)) => Err(Problem::invalid("body", "", "the request ended before its body did")),
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Body<T>, Problem> {
        let Raw(raw) = Raw::from_request(request, api).await?;
        let text: &[u8] = if raw.is_empty() { b"{}" } else { &raw };
        Ok(Body { value: read(text)?, raw })
    }
}

/// The body of an operation that asks for nothing: empty, or `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoMembers {}

/// Reads JSON. An error names the member that is wrong.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        explain("body", if path == "." { "" } else { &path }, &error.into_inner().to_string())
    })?;
    json.end().map_err(|error| Problem::invalid("body", "", error.to_string()))?;
    Ok(value)
}

/// serde names a member that is missing or unknown in its text alone; its path ends at the object around it.
pub(super) fn explain(place: &str, path: &str, text: &str) -> Problem {
    let named = ["unknown field `", "missing field `", "duplicate field `"].iter().find_map(|start| {
        let name = text.strip_prefix(start)?.split_once('`')?.0;
        Some((*start, name))
    });
    let Some((start, name)) = named else { return Problem::invalid(place, path, without_value(text)) };
    let path = match path.is_empty() || path == name || path.ends_with(&format!(".{name}")) {
        true if path.is_empty() => name.to_owned(),
        true => path.to_owned(),
        false => format!("{path}.{name}"),
    };
    let unknown = start.starts_with("unknown");
    let message = match unknown && NOT_SERVED.contains(&name) {
        true => "is not supported by this server; leave it out",
        false => text,
    };
    Problem::invalid(place, &path, message)
}

/// A complaint of serde's about a type, without the value, which may be a secret in the wrong place: clients log answers.
fn without_value(text: &str) -> String {
    let kinds = ["invalid type: ", "invalid value: "];
    let found = kinds.iter().find_map(|start| Some((start, text.strip_prefix(start)?.rsplit_once(", expected ")?)));
    let Some((start, (given, expected))) = found else { return text.to_owned() };
    let kind = given.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("{start}{kind}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    #[test]
    fn a_complaint_about_a_type_does_not_quote_the_value() {
        for (given, said) in [
            (r#"invalid type: string "can, expected ary\"", expected a map"#, "invalid type: string, expected a map"),
            ("invalid type: integer `4242`, expected a string", "invalid type: integer, expected a string"),
            (
                "invalid value: string \"c`y\", expected a time at line 1 column 2",
                "invalid value: string, expected a time at line 1 column 2",
            ),
            ("invalid type: map, expected u32", "invalid type: map, expected u32"),
            ("expected `,` at line 1 column 9", "expected `,` at line 1 column 9"),
        ] {
            assert_eq!(without_value(given), said);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let problem = collect(axum::body::Body::from_stream(never), 10).await.unwrap_err();
        assert_eq!(problem.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
