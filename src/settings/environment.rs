//! The environment's variables, read once.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::key::{Key, nearest};
use super::value::{Error, Given, Origin};

/// What begins the name of every variable of ours.
const PREFIX: &str = "RINGBACK_";
/// What follows it in variables of ours that are no settings: the settings file, and what the client commands read.
const OTHERS: [&str; 3] = ["CONFIG", "SECRET", "SERVER"];

/// The environment's variables. An empty one counts as not set.
#[derive(Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Environment {
        std::env::vars_os().collect()
    }

    /// # Errors
    /// The variable is not UTF-8.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.0.get(std::ffi::OsStr::new(name)) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| Error::new(name, "is not UTF-8"))
    }

    /// The settings that it sets.
    pub(super) fn settings(&self) -> Result<Vec<Given>, Error> {
        let mut settings = Vec::new();
        for key in Key::ALL {
            if let Some(text) = self.get(&key.variable())? {
                settings.push(Given::from_text(key, text, Origin::Variable(key.variable()))?);
            } else if key == Key::Log
                && let Some(text) = self.get("RUST_LOG")?
            {
                settings.push(Given::from_text(key, text, Origin::Variable("RUST_LOG".into()))?);
            }
        }
        Ok(settings)
    }

    /// Variables that look like ours and are none. `used` are those that the file names.
    pub(super) fn unknown(&self, used: &[String]) -> Vec<String> {
        let settings = Key::ALL.map(|key| key.name().to_ascii_uppercase());
        let known: Vec<String> = settings.into_iter().chain(OTHERS.map(str::to_owned)).collect();
        let names = self.0.keys().filter_map(|name| name.to_str()).filter(|name| !used.iter().any(|used| used == name));
        let unknown =
            names.filter_map(|name| name.strip_prefix(PREFIX)).filter(|name| !known.iter().any(|known| known == name));
        let warning = |name: &str| {
            let shown = name.escape_debug();
            match nearest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("{PREFIX}{shown}: this variable is no setting; did you mean {PREFIX}{meant}?"),
                None => format!("{PREFIX}{shown}: this variable is no setting, and is ignored"),
            }
        };
        unknown.map(warning).collect()
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Environment(variables.filter(|(_, value): &(OsString, OsString)| !value.is_empty()).collect())
    }
}
