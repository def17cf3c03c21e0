//! A setting's value as it was given, and by whom.

use std::fmt;

use ringback::Secret;

use super::key::{Key, Kind};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { file: String, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

impl Origin {
    /// The word for its kind in JSON.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File { .. } => "file",
            Origin::Variable(_) => "environment",
            Origin::Flag(_) => "flag",
        }
    }
}

/// Settings that cannot be taken: where, and what is wrong. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct Error {
    place: String,
    problem: String,
}

impl Error {
    pub(super) fn new(place: impl fmt::Display, problem: impl Into<String>) -> Error {
        Error { place: place.to_string(), problem: problem.into() }
    }

    /// A setting's value is wrong. Variables and flags name the setting themselves; a line of a file does not.
    pub(super) fn of(key: Key, origin: &Origin, problem: impl fmt::Display) -> Error {
        match origin {
            Origin::Default => Error::new(key.name(), problem.to_string()),
            Origin::File { .. } => Error::new(origin, format!("{}: {problem}", key.name())),
            Origin::Variable(_) | Origin::Flag(_) => Error::new(origin, problem.to_string()),
        }
    }
}

/// A value of its setting's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    Text(String),
    Secret(Secret),
    Number(u64),
    Switch(bool),
    List(Vec<String>),
}

/// A value and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Given {
    /// A value from a source that has texts alone: the environment, a flag, the table of defaults.
    pub(super) fn from_text(key: Key, text: &str, origin: Origin) -> Result<Given, Error> {
        let value = match key.entry().kind {
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Secret => Ok(Value::Secret(text.into())),
            // As in the file: 1_048_576.
            Kind::Number => text.replace('_', "").parse().map(Value::Number).map_err(|_| NUMBER),
            Kind::Switch => text.parse().map(Value::Switch).map_err(|_| SWITCH),
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Value::List(items.map(str::to_owned).collect()))
            }
        };
        match value {
            Ok(value) => Ok(Given { key, value, origin }),
            Err(problem) => Err(Error::of(key, &origin, problem)),
        }
    }

    /// A value of the file.
    pub(super) fn from_toml(key: Key, value: &toml::de::DeValue<'_>, origin: Origin) -> Result<Given, Error> {
        let texts = |list: &toml::de::DeArray<'_>| -> Option<Vec<String>> {
            list.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        };
        let (value, problem) = match key.entry().kind {
            Kind::Text => (value.as_str().map(|text| Value::Text(text.to_owned())), TEXT),
            Kind::Secret => (value.as_str().map(|text| Value::Secret(text.into())), TEXT),
            Kind::Number => (value.as_integer().and_then(number).map(Value::Number), NUMBER),
            Kind::Switch => (value.as_bool().map(Value::Switch), SWITCH),
            Kind::List => {
                (value.as_array().and_then(texts).map(Value::List), "must be a list of texts, such as [\"…\"]")
            }
        };
        match value {
            Some(value) => Ok(Given { key, value, origin }),
            None => Err(Error::of(key, &origin, problem)),
        }
    }
}

const TEXT: &str = "must be a text";
const NUMBER: &str = "must be a whole number, not below 0";
const SWITCH: &str = "must be true or false";

fn number(written: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(written.as_str(), written.radix()).ok()
}
