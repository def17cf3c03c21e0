//! What the file declares: applications with their endpoints, event types, profiles. Checked when it is read, so that
//! a start that begins does not end in the middle.
//!
//! Endpoints stand in the file as they do in the API, in camelCase. Secrets and header values may come from the
//! environment or from files of their own instead.

use std::collections::BTreeMap;
use std::path::Path;

use ringback::egress::Policy;
use ringback::{CustomHeader, EndpointSettings, NewApplication, NewEndpoint, NewEventType, Profile, Secret};
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::environment::Environment;
use super::file::{Named, Table};
use super::profiles;
use super::value::Error;

/// What is to be there when the server starts. Nothing else is removed.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) applications: Vec<DeclaredApplication>,
    pub(crate) event_types: Vec<NewEventType>,
    /// The operator's own profiles, by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// An application, found again by its uid.
#[derive(Debug)]
pub(crate) struct DeclaredApplication {
    pub(crate) uid: String,
    pub(crate) new: NewApplication,
    pub(crate) endpoints: Vec<DeclaredEndpoint>,
}

/// An endpoint, found again by its uid.
#[derive(Debug)]
pub(crate) struct DeclaredEndpoint {
    pub(crate) uid: String,
    /// With the profile written out if it is the operator's own.
    pub(crate) settings: EndpointSettings,
    /// `None` leaves the secret to whoever made it.
    pub(crate) secret: Option<DeclaredSecret>,
    /// `None` leaves it as it is.
    pub(crate) disabled: Option<bool>,
}

/// A secret, and where it was given.
#[derive(Debug)]
pub(crate) struct DeclaredSecret {
    pub(crate) secret: Secret,
    /// Without the secret: `secret`, `secret_env (ACME_SECRET)`, `secret_file (/run/secrets/acme)`.
    pub(crate) shown: String,
    /// The member of the table.
    member: &'static str,
}

/// Reads what is declared.
pub(super) struct Reader<'r> {
    pub(super) environment: &'r Environment,
    pub(super) policy: &'r Policy,
    /// The variables that hold secrets.
    pub(super) used: Vec<String>,
    pub(super) declared: Declared,
}

/// Members of ours beside those of [`EndpointSettings`].
const ENDPOINT: [&str; 5] = ["secret", "secret_env", "secret_file", "headers", "disabled"];

impl Reader<'_> {
    /// Reads all of it. Profiles first: endpoints name them, wherever in the file they stand.
    pub(super) fn read(&mut self, tables: Vec<Named<'_>>) -> Result<(), Error> {
        let (own, others): (Vec<_>, Vec<_>) = tables.into_iter().partition(|(name, _)| *name == "profile");
        for (_, table) in own {
            self.profile(&table)?;
        }
        for (name, table) in others {
            match name {
                "application" => self.application(table)?,
                _ => self.event_type(&table)?,
            }
        }
        Ok(())
    }

    fn profile(&mut self, table: &Table<'_>) -> Result<(), Error> {
        let profile: Profile = table.read(&[])?;
        profile.validate().map_err(|invalid| {
            let member = invalid.field().strip_prefix("profile.").unwrap_or(invalid.field());
            table.error(member, invalid.problem())
        })?;
        if Profile::builtin(&profile.name).is_some() {
            return Err(table.error("name", format!("{} is built in; choose another name", profile.name)));
        }
        let name = profile.name.clone();
        if self.declared.profiles.insert(name.clone(), profile).is_some() {
            return Err(table.error("name", format!("the profile {} is declared twice", name.escape_debug())));
        }
        Ok(())
    }

    fn event_type(&mut self, table: &Table<'_>) -> Result<(), Error> {
        let event_type: NewEventType = table.read(&[])?;
        event_type.validate().map_err(|invalid| table.invalid(&invalid))?;
        if self.declared.event_types.iter().any(|other| other.name == event_type.name) {
            let name = event_type.name.escape_debug();
            return Err(table.error("name", format!("the event type {name} is declared twice")));
        }
        self.declared.event_types.push(event_type);
        Ok(())
    }

    fn application(&mut self, mut table: Table<'_>) -> Result<(), Error> {
        let whole = table.clone();
        let endpoints = table.take_tables("application", "endpoint")?;
        // The name is for people; a platform that has none for it may leave it out.
        table.fill_in("name", "uid");
        let new: NewApplication = table.read(&["endpoint"])?;
        new.validate().map_err(|invalid| whole.invalid(&invalid))?;
        let uid = new.uid.clone().ok_or_else(|| whole.error("uid", REQUIRED))?;
        if self.declared.applications.iter().any(|other| other.uid == uid) {
            return Err(whole.error("uid", format!("the application {uid} is declared twice")));
        }
        let mut declared = DeclaredApplication { uid, new, endpoints: Vec::new() };
        for table in endpoints {
            let whole = table.clone();
            let endpoint = self.endpoint(table)?;
            if declared.endpoints.iter().any(|other| other.uid == endpoint.uid) {
                let uid = &endpoint.uid;
                return Err(whole.error("uid", format!("the application declares the endpoint {uid} twice")));
            }
            declared.endpoints.push(endpoint);
        }
        self.declared.applications.push(declared);
        Ok(())
    }

    fn endpoint(&mut self, mut table: Table<'_>) -> Result<DeclaredEndpoint, Error> {
        let whole = table.clone();
        let disabled = table.take_switch("disabled")?;
        let secret = self.secret(&mut table)?;
        let headers = self.headers(&mut table)?;
        let settings: EndpointSettings = table.read(&ENDPOINT)?;
        let profile = profiles::resolve(settings.profile, &self.declared.profiles);
        let settings = EndpointSettings { headers, profile, ..settings };
        let uid = settings.uid.clone().ok_or_else(|| whole.error("uid", REQUIRED))?;
        let mut new = NewEndpoint::from(settings.clone());
        if let Some(given) = &secret {
            new = new.secret(given.secret.clone());
        }
        new.validate().map_err(|invalid| match &secret {
            Some(given) if invalid.field() == "secret" => {
                whole.error_named(given.member, &given.shown, invalid.problem())
            }
            Some(_) | None => whole.invalid(&invalid),
        })?;
        let url = settings.url.parse().map_err(|_| whole.error("url", "is not a URL"))?;
        self.policy.check_url(&url).map_err(|invalid| whole.invalid(&invalid))?;
        Ok(DeclaredEndpoint { uid, settings, secret, disabled })
    }

    /// The endpoint's secret, from the one place that is given.
    fn secret(&mut self, table: &mut Table<'_>) -> Result<Option<DeclaredSecret>, Error> {
        let whole = table.clone();
        let mut secret = None;
        for (member, source) in
            [("secret", Source::Text), ("secret_env", Source::Variable), ("secret_file", Source::File)]
        {
            let Some(text) = table.take_text(member)? else { continue };
            if secret.is_some() {
                return Err(whole.error(member, "the secret is given twice"));
            }
            let found = self.get(source, &text).map_err(|problem| whole.error(member, problem))?;
            let shown = match source {
                Source::Text => member.to_owned(),
                Source::Variable | Source::File => format!("{member} ({})", text.escape_debug()),
            };
            secret = Some(DeclaredSecret { secret: found, shown, member });
        }
        Ok(secret)
    }

    /// The endpoint's headers: a text, `{ env = "VARIABLE" }` or `{ file = "path" }` each, which no output shows; or
    /// `{ value = "text", sensitive = false }`, which may be shown.
    fn headers(&mut self, table: &mut Table<'_>) -> Result<Vec<CustomHeader>, Error> {
        let whole = table.clone();
        let mut headers = Vec::new();
        for (name, value) in table.take_entries("headers")? {
            let found = match (shown(&value), source(&value)) {
                (Some(text), _) => Ok(CustomHeader::plain(name.as_str(), text)),
                (None, Some((source, text))) => {
                    self.get(source, text).map(|value| CustomHeader::new(name.as_str(), value))
                }
                (None, None) => Err(HEADER.to_owned()),
            };
            headers.push(found.map_err(|problem| whole.error(&format!("headers.{name}"), problem))?);
        }
        Ok(headers)
    }

    fn get(&mut self, source: Source, text: &str) -> Result<Secret, String> {
        match source {
            Source::Text => Ok(Secret::from(text)),
            Source::Variable => {
                self.used.push(text.to_owned());
                let value = self.environment.get(text).map_err(|error| error.to_string())?;
                value.map(Secret::from).ok_or_else(|| format!("the variable {} is not set", text.escape_debug()))
            }
            Source::File => read_secret(Path::new(text)),
        }
    }
}

const HEADER: &str =
    r#"must be a text, { env = "VARIABLE" } or { file = "path" }, or { value = "text", sensitive = false }"#;
const REQUIRED: &str = "is required: by its uid it is found again at the next start";

/// Where a secret stands.
#[derive(Debug, Clone, Copy)]
enum Source {
    Text,
    Variable,
    File,
}

fn source<'v>(value: &'v DeValue<'_>) -> Option<(Source, &'v str)> {
    if let Some(text) = value.as_str() {
        return Some((Source::Text, text));
    }
    let entries = value.as_table().filter(|entries| entries.len() == 1)?;
    let (name, text) = entries.iter().next()?;
    let source = match name.get_ref().as_ref() {
        "env" => Source::Variable,
        "file" => Source::File,
        _ => return None,
    };
    Some((source, text.get_ref().as_str()?))
}

/// The text of a header that is declared as one that may be shown.
fn shown<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    let entries = value.as_table().filter(|entries| entries.len() == 2)?;
    let sensitive = entries.get("sensitive")?.get_ref().as_bool()?;
    entries.get("value")?.get_ref().as_str().filter(|_| !sensitive)
}

/// A secret that is a file's only line.
pub(super) fn read_secret(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{shown} is empty")),
        line if line.contains('\n') => Err(format!("{shown} has more than one line")),
        line => Ok(Secret::from(line)),
    }
}
