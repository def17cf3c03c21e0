//! The headers that every request to an endpoint carries. Their names are shown, their values never.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::{CustomHeader, NewEndpoint, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::EndpointOf;
use crate::server::body::Body;
use crate::server::once::Answer;
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get, put, patch))
}

/// An endpoint's headers, all of them sensitive.
#[derive(Serialize, ToSchema)]
struct EndpointHeadersOut {
    /// Headers whose values may be shown: none.
    headers: BTreeMap<String, String>,
    /// The names of the headers.
    sensitive: Vec<String>,
}

/// All headers of an endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndpointHeadersIn {
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<String, Secret>,
}

/// Headers to set, and, with `null` or in `deleteHeaders`, to remove.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointHeadersPatchIn {
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    headers: BTreeMap<String, Option<Secret>>,
    #[serde(default)]
    delete_headers: Vec<String>,
}

/// Get the names of an endpoint's headers
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.get-headers",
    tag = "Endpoint", responses((status = 200, body = EndpointHeadersOut)))]
async fn get(found: EndpointOf) -> Json<EndpointHeadersOut> {
    let names = found.endpoint.settings.headers.into_iter().map(|header| header.name);
    Json(EndpointHeadersOut { headers: BTreeMap::new(), sensitive: names.collect() })
}

/// Replace an endpoint's headers
#[utoipa::path(put, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.update-headers",
    tag = "Endpoint", request_body = EndpointHeadersIn, responses((status = 204)))]
async fn put(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Body { value, .. }: Body<EndpointHeadersIn>,
) -> Result<Answer, Problem> {
    let headers = value.headers.into_iter().map(|(name, value)| CustomHeader::new(name, value)).collect();
    api.set_headers(&found, |_| headers).await
}

/// Set or remove some of an endpoint's headers
#[utoipa::path(patch, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.patch-headers",
    tag = "Endpoint", request_body = EndpointHeadersPatchIn, responses((status = 204)))]
async fn patch(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Body { value, .. }: Body<EndpointHeadersPatchIn>,
) -> Result<Answer, Problem> {
    let EndpointHeadersPatchIn { headers, delete_headers } = value;
    api.set_headers(&found, |mut kept| {
        let touched = |name: &str| {
            let same = |other: &String| other.eq_ignore_ascii_case(name);
            headers.keys().any(same) || delete_headers.iter().any(same)
        };
        kept.retain(|header| !touched(&header.name));
        kept.extend(headers.into_iter().filter_map(|(name, value)| Some(CustomHeader::new(name, value?))));
        kept
    })
    .await
}

impl Api {
    async fn set_headers(
        &self,
        found: &EndpointOf,
        change: impl FnOnce(Vec<CustomHeader>) -> Vec<CustomHeader>,
    ) -> Result<Answer, Problem> {
        let _changes = self.changes().await;
        // Read again: it may have changed before this request had its turn.
        let mut settings = self.ringback.endpoint(found.application, found.endpoint.id)?.settings;
        settings.headers = change(std::mem::take(&mut settings.headers));
        let new = NewEndpoint::from(settings);
        self.ringback.update_endpoint(found.application, found.endpoint.id, new).await?;
        Ok(Answer::nothing())
    }
}
