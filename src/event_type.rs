//! Event types that were registered: a catalogue for people and tools. What is sent need not be in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::application::validate_name;
use crate::invalid::Invalid;
use crate::message::validate_event_type;
use crate::retention::Retention;
use crate::time::Timestamp;

/// The longest description of an event type, in bytes: 4 KiB.
pub const MAX_DESCRIPTION: usize = 4 * 1024;
/// The most bytes of an event type's schemas, as compact JSON: 256 KiB.
pub const MAX_SCHEMAS: usize = 256 * 1024;

/// A registered event type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EventType {
    /// Its name, as messages carry it.
    pub name: String,
    /// What it means, for people.
    pub description: String,
    /// Whether it is kept for the record only.
    pub archived: bool,
    /// Whether new receivers should use another.
    pub deprecated: bool,
    /// JSON Schemas of its payload by version.
    pub schemas: Option<Value>,
    /// The feature flag that a receiver needs to be shown it. It is kept and shown; nothing is filtered by it.
    pub feature_flag: Option<String>,
    /// How long messages of it are kept, where that differs from the server's rule.
    #[serde(skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed: with each change a later time.
    pub updated_at: Timestamp,
}

/// What an event type is registered with. The JSON form is camelCase and every member but `name` is optional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewEventType {
    /// Its name, as messages carry it: a dotted name of 1 to 256 characters of `a-z A-Z 0-9 - _ .`.
    pub name: String,
    /// What it means, for people: at most 4 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is kept for the record only.
    #[serde(default)]
    pub archived: bool,
    /// Whether new receivers should use another.
    #[serde(default)]
    pub deprecated: bool,
    /// JSON Schemas of its payload: an object whose members are versions (`"1"`, `"2"`), each a schema. At most 256 KiB.
    /// `send_test` uses the example in the last version: its `examples`, of which the first, or its `example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Value>,
    /// The feature flag that a receiver needs to be shown it: 1 to 256 of `a-z A-Z 0-9 - _ .`. It is kept and shown;
    /// nothing is filtered by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_flag: Option<String>,
    /// How long messages of it are kept, where that is to differ from the server's rule. See [`Retention`].
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// Changes an event type only if its `updated_at` is still this one; [`Error::Conflict`](crate::Error::Conflict)
    /// otherwise. For a caller who reads, changes and writes back. Default: the last writer wins. No part of the JSON
    /// form, and without a meaning for `create_event_type`.
    #[serde(skip)]
    pub if_unchanged_since: Option<Timestamp>,
}

impl NewEventType {
    /// An event type with this name.
    pub fn named(name: impl Into<String>) -> Self {
        NewEventType { name: name.into(), ..Default::default() }
    }

    /// Checks everything that registering it checks, but whether there is room.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.checked().map(drop)
    }

    /// Checks everything, and gives the schemas' text.
    pub(crate) fn checked(&self) -> Result<String, Invalid> {
        validate_event_type("name", &self.name)?;
        if self.description.len() > MAX_DESCRIPTION {
            return Err(Invalid::new("description", "has at most 4 KiB"));
        }
        self.feature_flag.as_deref().map_or(Ok(()), |flag| validate_name("featureFlag", flag))?;
        self.retention.validate(&Retention::default())?;
        let text = match &self.schemas {
            Some(Value::Object(versions)) => serde_json::to_string(versions).expect("a JSON value has a text"),
            Some(_) => return Err(Invalid::new("schemas", "must be an object of JSON Schemas by version")),
            None => String::new(),
        };
        if text.len() > MAX_SCHEMAS {
            return Err(Invalid::new("schemas", "have at most 256 KiB"));
        }
        Ok(text)
    }

    /// The event type, once it has been checked.
    pub(crate) fn build(self, created_at: Timestamp, updated_at: Timestamp) -> EventType {
        let NewEventType { name, description, archived, deprecated, schemas, feature_flag, retention, .. } = self;
        EventType { name, description, archived, deprecated, schemas, feature_flag, retention, created_at, updated_at }
    }
}

impl EventType {
    /// The example in the schema of the last version: the first of its `examples`, else its `example`. Versions that
    /// are numbers count as such and come after others; those sort as texts.
    pub fn example(&self) -> Option<&Value> {
        let versions = self.schemas.as_ref()?.as_object()?;
        let (_, schema) = versions.iter().max_by_key(|(version, _)| (version.parse::<u64>().ok(), *version))?;
        let first = schema.get("examples").and_then(Value::as_array).and_then(|examples| examples.first());
        first.or_else(|| schema.get("example"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(schemas: Value) -> EventType {
        let new = NewEventType { schemas: Some(schemas), ..NewEventType::named("a.b") };
        new.validate().unwrap();
        new.build(Timestamp::ZERO, Timestamp::ZERO)
    }

    #[test]
    fn the_example_is_the_last_version_s_first() {
        let cases = [
            (json!({"1": {"examples": [{"n": 1}, {"n": 2}]}}), Some(json!({"n": 1}))),
            (json!({"1": {"example": {"n": 1}}}), Some(json!({"n": 1}))),
            (json!({"1": {"examples": [{"n": 1}], "example": 2}}), Some(json!({"n": 1}))),
            (json!({"1": {"examples": [], "example": 2}}), Some(json!(2))),
            (json!({"2": {"example": 2}, "10": {"example": 10}}), Some(json!(10))),
            (json!({"10": {"example": 10}, "draft": {"example": 0}}), Some(json!(10))),
            (json!({"a": {"example": 1}, "b": {"example": 2}}), Some(json!(2))),
            (json!({"1": {"example": 1}, "2": {"type": "object"}}), None),
            (json!({"1": "no schema"}), None),
            (json!({}), None),
        ];
        for (schemas, expected) in cases {
            assert_eq!(with(schemas.clone()).example(), expected.as_ref(), "{schemas}");
        }
    }

    #[test]
    fn each_field_out_of_its_range_is_named() {
        let base = || NewEventType::named("a.b");
        let long = |bytes| json!({"1": "x".repeat(bytes - r#"{"1":""}"#.len())});
        let cases = [
            (NewEventType::named("a b"), "name"),
            (NewEventType::named(""), "name"),
            (NewEventType { description: "x".repeat(4097), ..base() }, "description"),
            (NewEventType { schemas: Some(json!([])), ..base() }, "schemas"),
            (NewEventType { schemas: Some(long(MAX_SCHEMAS + 1)), ..base() }, "schemas"),
            (NewEventType { feature_flag: Some(String::new()), ..base() }, "featureFlag"),
            (NewEventType { feature_flag: Some("a b".into()), ..base() }, "featureFlag"),
        ];
        for (new, field) in cases {
            assert_eq!(new.validate().unwrap_err().field(), field);
        }
        let most = NewEventType { schemas: Some(long(MAX_SCHEMAS)), feature_flag: Some("_beta".into()), ..base() };
        assert_eq!(most.checked().unwrap().len(), MAX_SCHEMAS);
    }

    #[test]
    fn unknown_members_are_refused_and_camel_case_is_read() {
        assert!(serde_json::from_str::<NewEventType>(r#"{"name":"a","featureflag":"x"}"#).is_err());
        let read: NewEventType = serde_json::from_str(r#"{"name":"a","featureFlag":"x","archived":true}"#).unwrap();
        assert_eq!((read.feature_flag.as_deref(), read.archived), (Some("x"), true));
    }
}
