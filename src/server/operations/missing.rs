//! What has no route: operations that clients offer and this server does not have, and paths that are none.

use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode};

use crate::server::auth::Caller;
use crate::server::problem::Problem;

/// Where clients have operations that this server does not have: `*` is any one segment.
const NOT_BUILT: [&str; 22] = [
    "/api/v1/app/*/autoconfig",
    "/api/v1/app/*/destination",
    "/api/v1/app/*/endpoint/*/attempt-stats",
    "/api/v1/app/*/endpoint/*/mtls",
    "/api/v1/app/*/endpoint/*/oauth",
    "/api/v1/app/*/endpoint/*/rate-limit",
    "/api/v1/app/*/endpoint/*/transformation",
    "/api/v1/app/*/integration",
    "/api/v1/app/*/msg/bulk-expunge",
    "/api/v1/app/*/msg/expunge-all-contents",
    "/api/v1/app/*/msg/precheck",
    "/api/v1/app/*/poller",
    "/api/v1/auth",
    "/api/v1/connector",
    "/api/v1/environment",
    "/api/v1/event-type/import",
    "/api/v1/ingest",
    "/api/v1/operational-webhook",
    "/api/v1/stats",
    "/api/v1/stream",
    "/api/v1/transformation-template",
    "/ingest/api/v1",
];

fn is_under(path: &str, pattern: &str) -> bool {
    let mut segments = path.split('/');
    pattern.split('/').all(|wanted| segments.next().is_some_and(|segment| wanted == "*" || wanted == segment))
}

/// Whether the path is the pattern's own, and not only under it.
fn is(path: &str, pattern: &str) -> bool {
    is_under(path, pattern) && path.split('/').count() == pattern.split('/').count()
}

fn not_built(method: &Method, path: &str) -> Problem {
    let detail = format!("this server does not have the operation {method} {path}");
    Problem::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
}

/// Answers what no route takes.
pub(crate) async fn no_route(_: Caller, method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let path = uri.path();
    if NOT_BUILT.iter().any(|pattern| is_under(path, pattern)) {
        return not_built(&method, path);
    }
    Problem::not_found(&format!("operation: {method} {path}; see /api/v1/openapi.json"))
}

/// Answers a path that has other methods.
pub(crate) async fn other_method(_: Caller, method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let path = uri.path();
    // Its last segment may be a word where a route has an id: `msg/bulk-expunge` is no message.
    if NOT_BUILT.iter().any(|pattern| is(path, pattern)) {
        return not_built(&method, path);
    }
    let detail = format!("{path} has no operation {method}; see /api/v1/openapi.json");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_lies_under_it() {
        assert!(is_under("/api/v1/stream/s1/events", "/api/v1/stream"));
        assert!(is_under("/api/v1/app/a/endpoint/b/oauth", "/api/v1/app/*/endpoint/*/oauth"));
        assert!(!is_under("/api/v1/app/a/endpoint/b", "/api/v1/app/*/endpoint/*/oauth"));
        assert!(!is_under("/api/v1/streaming", "/api/v1/stream"));
        assert!(is("/api/v1/app/a/msg/bulk-expunge", "/api/v1/app/*/msg/bulk-expunge"));
        assert!(!is("/api/v1/auth/logout", "/api/v1/auth"));
    }
}
