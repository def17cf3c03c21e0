//! `ringback endpoint headers`: what an endpoint's requests carry beside the profile's headers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Named;
use crate::cli::arguments::{Header, headers_of};
use crate::cli::exit::Problem;
use crate::cli::records::Record;
use crate::cli::target::Session;

/// The server tells the names of headers whose values it keeps to itself.
#[derive(Deserialize)]
struct Headers {
    headers: BTreeMap<String, String>,
    #[serde(default)]
    sensitive: Vec<String>,
}

/// Changes headers, if there is anything to change, and shows them.
pub(super) async fn run(
    session: &Session,
    named: &Named,
    mut set: Vec<Header>,
    set_file: Option<&Path>,
    remove: &[String],
    sensitive: &[String],
) -> Result<(), Problem> {
    let path = named.below(&["headers"]);
    if let Some(file) = set_file {
        set.extend(headers_of(file)?);
    }
    if !set.is_empty() || !remove.is_empty() || !sensitive.is_empty() {
        let set: Map<String, Value> = set.into_iter().map(|header| (header.name, header.value.into())).collect();
        let mut change = json!({ "headers": set });
        if !remove.is_empty() {
            change["deleteHeaders"] = remove.into();
        }
        if !sensitive.is_empty() {
            change["sensitive"] = sensitive.into();
        }
        session.api.patch_silently(&path, &change).await?;
    }
    let Record { raw, value } = session.api.get::<Record<Headers>>(&path, &Vec::new()).await?;
    let out = &session.out;
    if out.json() {
        return out.raw(&raw);
    }
    if value.headers.is_empty() && value.sensitive.is_empty() {
        out.note("it has no headers of its own");
    }
    value.headers.iter().try_for_each(|(name, value)| out.field(&format!("{name}:"), value))?;
    value.sensitive.iter().try_for_each(|name| out.field(&format!("{name}:"), "(not shown)"))
}
