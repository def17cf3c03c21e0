//! The settings of the server, in two stages: what was given, by whom; then what it means.
//!
//! ```text
//!   table of defaults ─┐
//!   settings file ─────┤ typed values, the last one given counts      checked
//!   environment ───────┼─────────────────────────────────────────▶ Settings ──▶ serve
//!   flags ─────────────┘ (`key`, `value`)                             (`check`)
//!   [[application]] … in the file ────────────────────────────────▶ Declared
//! ```
//!
//! Invariants: every complaint names the line, the variable or the flag that it is about; no output shows a secret;
//! nothing outside this folder reads the environment for a setting.

mod check;
mod declared;
mod environment;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
pub(crate) mod profiles;
mod report;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback::{Invalid, Secret};

pub(crate) use check::token_problem;
pub(crate) use declared::{Declared, DeclaredApplication, DeclaredEndpoint};
pub(crate) use environment::Environment;
pub(crate) use key::{Key, Kind};
pub(crate) use value::Error;

use declared::Reader;
use file::File;
use value::{Given, Origin, Value};

/// What the command line sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// The settings file.
    pub(crate) config: Option<PathBuf>,
    /// Settings, each with its values: one, but for lists.
    pub(crate) given: Vec<(Key, Vec<String>)>,
}

/// What the server runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The library's. Its grace period is what requests to the API leave of the whole.
    pub(crate) config: ringback::Config,
    /// How long requests to the API may take to finish at a stop.
    pub(crate) api_grace: Duration,
    pub(crate) listen: SocketAddr,
    /// The operator's token, if it was set. Otherwise the data folder has one.
    pub(crate) token: Option<Secret>,
    pub(crate) public_url: Option<String>,
    /// A filter that can be read.
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) max_connections: usize,
    pub(crate) declared: Declared,
    /// What the operator should know, but what stops nothing.
    pub(crate) warnings: Vec<String>,
    in_force: InForce,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Reads the settings of all sources, and checks them.
    ///
    /// # Errors
    /// The first that cannot be taken.
    pub(crate) fn read(flags: &Flags, environment: &Environment) -> Result<Settings, Error> {
        let path = match &flags.config {
            Some(path) => Some(path.as_path()),
            None => environment.get("RINGBACK_CONFIG")?.map(Path::new),
        };
        let file = path.map(File::read).transpose()?;
        Settings::from_sources(file.as_ref(), environment, flags)
    }

    fn from_sources(file: Option<&File>, environment: &Environment, flags: &Flags) -> Result<Settings, Error> {
        let mut in_force = InForce::defaults()?;
        let (settings, tables) = file.map(File::parse).transpose()?.unwrap_or_default();
        in_force.give(settings)?;
        in_force.give(environment.settings()?)?;
        in_force.give(flags.settings()?)?;
        let mut settings = check::check(in_force)?;
        let policy = &settings.config.egress;
        let mut reader = Reader { environment, policy, used: Vec::new(), declared: Declared::default() };
        reader.read(tables)?;
        settings.warnings.extend(environment.unknown(&reader.used));
        settings.declared = reader.declared;
        Ok(settings)
    }

    /// The complaint about a setting that the library refused.
    pub(crate) fn refused(&self, invalid: &Invalid) -> Error {
        self.in_force.refused(invalid)
    }

    /// The complaint about listening where other machines reach the API, without a token that was set.
    pub(crate) fn not_without_a_token(&self) -> Error {
        let problem = format!(
            "other machines can reach {}, so a token must be set: RINGBACK_TOKEN, or token_file with a file that holds it",
            self.listen
        );
        self.in_force.error(Key::Listen, problem)
    }
}

impl Flags {
    fn settings(&self) -> Result<Vec<Given>, Error> {
        let given = self.given.iter().map(|(key, values)| {
            let origin = Origin::Flag(key.flag().unwrap_or_default());
            Given::from_text(*key, &values.join(","), origin)
        });
        given.collect()
    }
}

/// The value of every setting, and who gave it.
#[derive(Debug)]
struct InForce(BTreeMap<Key, Given>);

impl InForce {
    fn defaults() -> Result<InForce, Error> {
        let default = |key: Key| {
            let given = match key.entry().default {
                Some(text) => Given::from_text(key, text, Origin::Default)?,
                None if key.entry().kind == Kind::List => {
                    Given { key, value: Value::List(Vec::new()), origin: Origin::Default }
                }
                None => Given { key, value: Value::Absent, origin: Origin::Default },
            };
            Ok((key, given))
        };
        Key::ALL.into_iter().map(default).collect::<Result<_, Error>>().map(InForce)
    }

    /// Puts the settings of a source over those before it. A secret and a file that holds it are one setting.
    fn give(&mut self, source: Vec<Given>) -> Result<(), Error> {
        for (pair, problem) in [
            ([Key::Token, Key::TokenFile], "the token is given twice; keep token or token_file"),
            ([Key::SealingKeys, Key::SealingKeyFile], "the keys are given twice; keep key or key_file"),
        ] {
            let mut given = source.iter().filter(|given| pair.contains(&given.key));
            match (given.next(), given.next()) {
                (Some(_), Some(second)) => return Err(Error::of(second.key, &second.origin, problem)),
                (Some(_), None) => {
                    let absent = |key| (key, Given { key, value: Value::Absent, origin: Origin::Default });
                    self.0.extend(pair.map(absent));
                }
                (None, _) => {}
            }
        }
        self.0.extend(source.into_iter().map(|given| (given.key, given)));
        Ok(())
    }

    fn get(&self, key: Key) -> &Given {
        self.0.get(&key).expect("every setting has at least its default")
    }

    fn error(&self, key: Key, problem: impl std::fmt::Display) -> Error {
        Error::of(key, &self.get(key).origin, problem)
    }

    /// The complaint about a field of the library's configuration, whose name is in camelCase.
    fn refused(&self, invalid: &Invalid) -> Error {
        let mut name = String::new();
        for letter in invalid.field().chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        // A span of time is a number of seconds or days here, and says so.
        let spans = ["", "_seconds", "_days"].map(|unit| format!("{name}{unit}"));
        match spans.iter().find_map(|name| Key::named(name)) {
            Some(key) => self.error(key, invalid.problem()),
            None => Error::new(invalid.field(), invalid.problem()),
        }
    }
}

#[cfg(test)]
mod tests;
