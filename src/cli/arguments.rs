//! Arguments that several commands take: texts of the form `name: value`, JSON in place or from a file, profiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ringback::Profile;
use serde_json::Value;

use super::exit::Problem;

/// A header as it is written: `X-Team: blue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` has no colon: `Name: value`"))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err(format!("`{text}` has no name: `Name: value`"));
        }
        Ok(Header { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Headers as a JSON object has them. The last one of a name counts.
pub(super) fn header_map(headers: impl IntoIterator<Item = Header>) -> BTreeMap<String, String> {
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

/// The headers of a file: one a line. In an argument list, everybody on the machine could read their values.
pub(super) fn headers_of(file: &Path) -> Result<Vec<Header>, Problem> {
    let text = read(file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    // Without the line itself: it may hold what is secret.
    let problem = |place: usize| format!("{}:{}: must be `Name: value`", file.display(), place + 1);
    lines.map(|(place, line)| line.parse().map_err(|_| Problem::usage(problem(place)))).collect()
}

/// A name and a value: `team=blue`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`: `name=value`"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// JSON: in place, or `@file.json`.
#[derive(Debug, Clone)]
pub(super) struct Json(String);

impl FromStr for Json {
    type Err = String;

    fn from_str(text: &str) -> Result<Json, String> {
        Ok(Json(text.to_owned()))
    }
}

impl Json {
    pub(super) fn value(&self) -> Result<Value, Problem> {
        let text = match self.0.strip_prefix('@') {
            Some(file) => read(Path::new(file))?,
            None => self.0.clone(),
        };
        serde_json::from_str(&text).map_err(|error| Problem::usage(format!("`{}` is not JSON: {error}", self.0)))
    }
}

/// A profile: the name of one, or `@file.json`.
#[derive(Debug, Clone)]
pub(super) enum ProfileChoice {
    Name(String),
    File(PathBuf),
}

impl FromStr for ProfileChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ProfileChoice, String> {
        Ok(match text.strip_prefix('@') {
            Some(file) => ProfileChoice::File(file.into()),
            None => ProfileChoice::Name(text.to_owned()),
        })
    }
}

impl ProfileChoice {
    /// As the API takes it: a name, which the server knows more of than this program, or the profile itself.
    pub(super) fn value(&self) -> Result<Value, Problem> {
        match self {
            ProfileChoice::Name(name) => Ok(Value::from(name.as_str())),
            ProfileChoice::File(file) => {
                serde_json::to_value(profile_of(file)?).map_err(|error| Problem::failed(error.to_string()))
            }
        }
    }

    /// The profile itself, without a server.
    pub(super) fn profile(&self) -> Result<Profile, Problem> {
        match self {
            ProfileChoice::Name(name) => Profile::builtin(name).ok_or_else(|| {
                let known = Profile::BUILTIN.join(", ");
                Problem::usage(format!("there is no profile `{name}`: {known}, or @file.json for one of your own"))
            }),
            ProfileChoice::File(file) => profile_of(file),
        }
    }
}

fn profile_of(file: &Path) -> Result<Profile, Problem> {
    let shown = file.display();
    let profile: Profile = serde_json::from_str(&read(file)?)
        .map_err(|error| Problem::usage(format!("{shown} is not a profile: {error}")))?;
    profile.validate().map_err(|error| Problem::usage(format!("{shown}: {error}")))?;
    Ok(profile)
}

/// The text of a file.
pub(super) fn read(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| Problem::usage(format!("{} cannot be read: {error}", file.display())))
}

/// The bytes of a file, or of the standard input for `-` and for nothing.
pub(super) async fn input(file: Option<&Path>) -> Result<Vec<u8>, Problem> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => {
            std::fs::read(file).map_err(|error| Problem::usage(format!("{} cannot be read: {error}", file.display())))
        }
        None => {
            let read = tokio::io::stdin().read_to_end(&mut bytes).await;
            read.map(|_| bytes).map_err(|error| Problem::usage(format!("the standard input cannot be read: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_name_and_a_value() {
        let header: Header = "X-Team:  blue: light ".parse().unwrap();
        assert_eq!((header.name.as_str(), header.value.as_str()), ("X-Team", "blue: light"));
        assert!("X-Team".parse::<Header>().is_err() && ": x".parse::<Header>().is_err());
    }

    #[test]
    fn an_unknown_profile_is_answered_with_the_known_ones() {
        let problem = "hooli".parse::<ProfileChoice>().unwrap().profile().unwrap_err();
        assert!(problem.text.contains("standard-webhooks"), "{}", problem.text);
    }
}
