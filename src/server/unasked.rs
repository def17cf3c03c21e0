//! Parameters that nobody asked for: an operation without any refuses them all, as the others do what they do not know.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::api::Api;
use super::auth;
use super::problem::Problem;

/// The operations that take no parameters in their query string, and the API that tells who asks.
#[derive(Clone)]
pub(super) struct Without {
    operations: Arc<BTreeSet<(&'static str, String)>>,
    api: Arc<Api>,
}

impl Without {
    /// As the document says.
    pub(super) fn parameters(document: &OpenApi, api: Arc<Api>) -> Without {
        let mut operations = BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let PathItem { get, put, post, delete, patch, .. } = item;
            let all = [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
            let without = all.into_iter().filter(|(_, operation)| operation.as_ref().is_some_and(takes_none));
            operations.extend(without.map(|(method, _)| (method, path.clone())));
        }
        Without { operations: Arc::new(operations), api }
    }

    fn refuses(&self, request: &Request) -> Option<Problem> {
        let query = request.uri().query()?;
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
        if !self.operations.iter().any(|(of, at)| (*of, at.as_str()) == (method, path)) {
            return None;
        }
        // Clients write `name=` for a parameter that they were not given.
        let (name, _) = url::form_urlencoded::parse(query.as_bytes()).find(|(_, value)| !value.is_empty())?;
        // Who may ask nothing is not told what could be asked.
        match auth::authenticate(&self.api, request.headers(), request.extensions()) {
            Ok(_) => Some(Problem::unknown_parameter(&name)),
            Err(problem) => Some(problem),
        }
    }
}

/// What is open to everybody is for probes, which add what they like.
fn takes_none(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    let is_asked = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => true,
    };
    operation.security.is_none() && !parameters.any(is_asked)
}

/// Refuses parameters where none are known.
pub(super) async fn is_refused(State(without): State<Without>, request: Request, next: Next) -> Response {
    match without.refuses(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}
