//! What is refused before anybody looks at what is asked: requests that another program on the way could read differently.
//!
//! The parser below has refused malformed heads and lengths by now. A request with both a length and chunks reaches this as a
//! chunked one; the parser closes its connection after the answer, so that nothing that follows it counts as a request.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Headers of which the first and the last would be as good: they stand once or not at all.
const ONCE: [HeaderName; 4] =
    [header::HOST, header::AUTHORIZATION, HeaderName::from_static("idempotency-key"), header::CONTENT_TYPE];

/// Passes sound requests on. The connection of any other is closed: where its end is, is not certain.
pub(super) async fn is_passed(request: Request, next: Next) -> Response {
    let Some(problem) = unsound(&request) else { return next.run(request).await };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn malformed(detail: impl Into<String>) -> Option<Problem> {
    Some(Problem::new(StatusCode::BAD_REQUEST, "malformed_request", detail))
}

fn unsound(request: &Request) -> Option<Problem> {
    let (headers, uri) = (request.headers(), request.uri());
    if let Some(name) = ONCE.iter().find(|name| headers.get_all(*name).iter().count() > 1) {
        return malformed(format!("the header {name} stands more than once"));
    }
    if !uri.path().starts_with('/') || request.method() == Method::CONNECT {
        return malformed("the request's target must be a path");
    }
    let host = match headers.get(header::HOST).map(|host| host.to_str().ok().and_then(|host| host.parse().ok())) {
        Some(Some(host)) => Some(host),
        Some(None) => return malformed("the header host must be a name or an address"),
        None if request.version() == Version::HTTP_10 => None,
        None => return malformed("the header host is missing"),
    };
    let names_another = |target: &Authority| host.is_some_and(|host: Authority| host != *target);
    if uri.authority().is_some_and(names_another) {
        return malformed("the request's target and its header host name different hosts");
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !chunked(coding)) || codings.next().is_some() {
        return malformed("of the transfer codings there is chunked alone, once");
    }
    match headers.get(header::EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => Some(Problem::new(
            StatusCode::EXPECTATION_FAILED,
            "expectation_failed",
            "only 100-continue can be expected",
        )),
        _ => None,
    }
}
