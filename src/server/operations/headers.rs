//! The headers that every request to an endpoint carries. Their names are shown, and the values of those that are not sensitive.

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

/// An endpoint's headers.
#[derive(Serialize, ToSchema)]
struct EndpointHeadersOut {
    /// The headers whose values may be shown.
    headers: BTreeMap<String, String>,
    /// The names of the others.
    sensitive: Vec<String>,
}

/// All headers of an endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndpointHeadersIn {
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<String, Secret>,
    /// The names of headers whose values are never shown, beside those whose names say that they carry credentials.
    /// Default: those that were sensitive before.
    sensitive: Option<Vec<String>>,
}

/// Headers to set, and, with `null` or in `deleteHeaders`, to remove.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointHeadersPatchIn {
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    headers: BTreeMap<String, Option<Secret>>,
    #[serde(default)]
    delete_headers: Vec<String>,
    /// The names of headers whose values are never shown from now on, those that are not set here included. Those that
    /// were sensitive before stay so.
    #[serde(default)]
    sensitive: Vec<String>,
}

/// Get an endpoint's headers
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.get-headers",
    tag = "Endpoint", responses((status = 200, body = EndpointHeadersOut)))]
async fn get(found: EndpointOf) -> Json<EndpointHeadersOut> {
    let mut out = EndpointHeadersOut { headers: BTreeMap::new(), sensitive: Vec::new() };
    for header in found.endpoint.settings.headers {
        match header.shown() {
            Some(value) => drop(out.headers.insert(header.name.clone(), value.to_owned())),
            None => out.sensitive.push(header.name),
        }
    }
    Json(out)
}

/// Replace an endpoint's headers
#[utoipa::path(put, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.update-headers",
    tag = "Endpoint", request_body = EndpointHeadersIn, responses((status = 204)))]
async fn put(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Body { value, .. }: Body<EndpointHeadersIn>,
) -> Result<Answer, Problem> {
    let EndpointHeadersIn { headers, sensitive } = value;
    let named = sensitive.clone().unwrap_or_default();
    api.set_headers(&found, &named, |old| match sensitive {
        Some(sensitive) => anew(headers, &[], &sensitive),
        None => anew(headers, &old, &[]),
    })
    .await
}

/// Set or remove some of an endpoint's headers
#[utoipa::path(patch, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", operation_id = "v1.endpoint.patch-headers",
    tag = "Endpoint", request_body = EndpointHeadersPatchIn, responses((status = 204)))]
async fn patch(
    State(api): State<Arc<Api>>,
    found: EndpointOf,
    Body { value, .. }: Body<EndpointHeadersPatchIn>,
) -> Result<Answer, Problem> {
    let EndpointHeadersPatchIn { headers, delete_headers, sensitive } = value;
    api.set_headers(&found, &sensitive, |old| {
        let touched = |name: &str| {
            let same = |other: &String| other.eq_ignore_ascii_case(name);
            headers.keys().any(same) || delete_headers.iter().any(same)
        };
        let untouched = old.iter().filter(|header| !touched(&header.name)).cloned();
        let mut kept: Vec<CustomHeader> = untouched
            .map(|header| match names(&sensitive, &header.name) {
                true => CustomHeader::new(header.name, header.value),
                false => header,
            })
            .collect();
        let set = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        kept.extend(anew(set, &old, &sensitive));
        kept
    })
    .await
}

fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Headers that are set. Those that are named are sensitive, and those that were stay so: a client that does not know of
/// it must not give away what another one has hidden.
pub(super) fn anew(
    set: impl IntoIterator<Item = (String, Secret)>,
    old: &[CustomHeader],
    sensitive: &[String],
) -> Vec<CustomHeader> {
    let was = |name: &str| old.iter().any(|header| header.name.eq_ignore_ascii_case(name) && header.is_sensitive());
    let header = |(name, value): (String, Secret)| {
        let hidden = names(sensitive, &name) || was(&name);
        if hidden { CustomHeader::new(name, value) } else { CustomHeader::plain(name, value) }
    };
    set.into_iter().map(header).collect()
}

impl Api {
    async fn set_headers(
        &self,
        found: &EndpointOf,
        sensitive: &[String],
        change: impl FnOnce(Vec<CustomHeader>) -> Vec<CustomHeader>,
    ) -> Result<Answer, Problem> {
        let _changes = self.changes().await;
        // Read again: it may have changed before this request had its turn.
        let mut settings = self.ringback.endpoint(found.application, found.endpoint.id)?.settings;
        settings.headers = change(std::mem::take(&mut settings.headers));
        let is_there = |name: &&String| settings.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        if let Some(name) = sensitive.iter().find(|name| !is_there(name)) {
            let problem = format!("the endpoint would have no header `{}`", name.escape_debug());
            return Err(Problem::invalid("body", "sensitive", problem));
        }
        let new = NewEndpoint::from(settings);
        self.ringback.update_endpoint(found.application, found.endpoint.id, new).await?;
        Ok(Answer::nothing())
    }
}
