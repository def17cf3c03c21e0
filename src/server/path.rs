//! What a path names.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::api::Api;
use super::problem::Problem;

/// The path's parameters, decoded. What is no text names nothing.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Path<T>, Problem> {
        let found = axum::extract::Path::from_request_parts(parts, api).await;
        found.map(|axum::extract::Path(names)| Path(names)).map_err(|_| Problem::not_found("path"))
    }
}
