//! `ringback config`: the settings in force, with where each came from. Secrets are redacted.

use serde_json::{Value as Json, json};

use super::value::{Given, Origin, Value};
use super::{Declared, Settings};

const REDACTED: &str = "[redacted]";

impl Settings {
    /// One line a setting: its name, its value and where it came from.
    pub(crate) fn as_text(&self) -> String {
        let given = || self.in_force.0.values();
        let name = given().map(|given| given.key.name().len()).max().unwrap_or_default();
        let value = given().map(|given| text(given).chars().count()).max().unwrap_or_default();
        let line = |given: &Given| format!("{:name$}  {:value$}  {}\n", given.key.name(), text(given), given.origin);
        let mut lines: String = given().map(line).collect();
        let Declared { applications, event_types, profiles } = &self.declared;
        let endpoints: usize = applications.iter().map(|application| application.endpoints.len()).sum();
        lines.push_str(&format!(
            "\ndeclared: {} applications, {endpoints} endpoints, {} event types, {} profiles\n",
            applications.len(),
            event_types.len(),
            profiles.len(),
        ));
        lines
    }

    /// The same for a program.
    pub(crate) fn as_json(&self) -> Json {
        let setting = |given: &Given| {
            let from = match &given.origin {
                Origin::Default => Json::Null,
                origin @ (Origin::File { .. } | Origin::Variable(_) | Origin::Flag(_)) => origin.to_string().into(),
            };
            let shown = json!({"value": value(given), "source": given.origin.kind(), "from": from});
            (given.key.name().to_owned(), shown)
        };
        let settings: serde_json::Map<String, Json> = self.in_force.0.values().map(setting).collect();
        let application = |application: &super::DeclaredApplication| {
            let endpoints: Vec<&str> = application.endpoints.iter().map(|endpoint| endpoint.uid.as_str()).collect();
            json!({"uid": application.uid, "endpoints": endpoints})
        };
        let Declared { applications, event_types, profiles } = &self.declared;
        json!({
            "settings": settings,
            "declared": {
                "applications": applications.iter().map(application).collect::<Vec<_>>(),
                "eventTypes": event_types.iter().map(|event_type| event_type.name.as_str()).collect::<Vec<_>>(),
                "profiles": profiles.keys().collect::<Vec<_>>(),
            },
        })
    }
}

fn value(given: &Given) -> Json {
    match &given.value {
        Value::Absent => Json::Null,
        Value::Secret(_) => REDACTED.into(),
        Value::Text(text) => text.as_str().into(),
        Value::Number(number) => (*number).into(),
        Value::Switch(on) => (*on).into(),
        Value::List(items) => items.as_slice().into(),
    }
}

/// A control character in a value must not reach a terminal.
fn text(given: &Given) -> String {
    match &given.value {
        Value::Absent => "-".to_owned(),
        Value::Secret(_) => REDACTED.to_owned(),
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Number(number) => number.to_string(),
        Value::Switch(on) => on.to_string(),
        Value::List(items) if items.is_empty() => "-".to_owned(),
        Value::List(items) => items.join(",").escape_debug().to_string(),
    }
}
