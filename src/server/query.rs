//! Query strings: typed, with errors that name the parameter.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::api::Api;
use super::body::explain;
use super::problem::Problem;

/// A query string. A parameter that is given several times counts as one list, as do values with commas between them.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Query<T>, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        // Clients write `name=` for a parameter that they were not given.
        if value.is_empty() {
            continue;
        }
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => merged.push((name.into_owned(), value.into_owned())),
        }
    }
    let merged = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(merged).finish();
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(merged.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        explain("query", if path == "." { "" } else { &path }, &error.into_inner().to_string())
    })
}

/// Values with commas between them.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Some {
        #[serde(default, deserialize_with = "list")]
        event_types: Vec<String>,
        limit: Option<u16>,
        with_content: Option<bool>,
    }

    #[test]
    fn a_list_is_written_in_either_way() {
        for query in ["event_types=a&event_types=b&limit=3", "event_types=a%2Cb&limit=3&with_content="] {
            let expected = Some { event_types: vec!["a".into(), "b".into()], limit: Some(3), with_content: None };
            assert_eq!(read::<Some>(query).unwrap(), expected);
        }
    }

    #[test]
    fn an_error_names_the_parameter() {
        for (query, name) in [("limit=x", "limit"), ("limti=3", "limti"), ("with_content=yes", "with_content")] {
            let problem = format!("{:?}", read::<Some>(query).unwrap_err());
            assert!(problem.contains(&format!("[\"query\", \"{name}\"]")), "{problem}");
        }
    }
}
