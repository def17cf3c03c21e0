//! Applications: the platform's tenants. Endpoints and messages belong to one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::ApplicationId;
use crate::invalid::Invalid;
use crate::retention::Retention;
use crate::time::Timestamp;

/// The most entries of a metadata map.
pub const MAX_METADATA: usize = 50;
/// The highest throttle rate, in requests a second.
pub const MAX_THROTTLE_RATE: u32 = 65_535;
/// The highest weight.
pub const MAX_WEIGHT: u32 = 100;

/// A tenant of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// The platform's own name for it, unique in the store.
    pub uid: Option<String>,
    /// A name for people.
    pub name: String,
    /// The platform's own notes.
    pub metadata: BTreeMap<String, String>,
    /// How many requests a second its endpoints may get in all, with a tenth of that at once.
    pub throttle_rate: Option<u32>,
    /// How many requests may be on their way to its endpoints in all. Default: `Config::max_in_flight_per_application`.
    pub max_in_flight: Option<u32>,
    /// How many turns it has where others have one: 1 to 100. Default: 1.
    pub weight: Option<u32>,
    /// How long what was sent in it is kept, where that differs from the server's rule.
    #[serde(skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed: with each change a later time.
    pub updated_at: Timestamp,
}

/// What an application is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewApplication {
    /// A name for people: 1 to 256 characters.
    pub name: String,
    /// The platform's own name for it: 1 to 256 of `a-z A-Z 0-9 - _ .`, unique in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The platform's own notes: at most 50 entries, 4 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How many requests a second its endpoints may get in all: 1 to 65,535. A tenth of that may go out at once. Default:
    /// no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_rate: Option<u32>,
    /// How many requests may be on their way to its endpoints in all: from 1. Default:
    /// `Config::max_in_flight_per_application`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How many turns it has where others have one, when permits are scarce: 1 to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// How long what is sent in it is kept, where that is to differ from the server's rule. See [`Retention`].
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// Changes an application only if its `updated_at` is still this one; [`Error::Conflict`](crate::Error::Conflict)
    /// otherwise. For a caller who reads, changes and writes back. Default: the last writer wins. No part of the JSON
    /// form, and without a meaning where an application is made.
    #[serde(skip)]
    pub if_unchanged_since: Option<Timestamp>,
}

impl NewApplication {
    /// An application with this name for people.
    pub fn named(name: impl Into<String>) -> Self {
        NewApplication { name: name.into(), ..Default::default() }
    }

    /// Gives it the platform's own name.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.uid = Some(uid.into());
        self
    }

    /// Checks everything that making an application checks, but whether the uid is taken.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.name.is_empty() || self.name.chars().count() > 256 {
            return Err(Invalid::new("name", "must have 1 to 256 characters"));
        }
        validate_uid(self.uid.as_deref(), ApplicationId::PREFIX)?;
        validate_metadata(&self.metadata)?;
        if self.max_in_flight == Some(0) {
            return Err(Invalid::new("maxInFlight", "must be at least 1"));
        }
        validate_weight(self.weight)?;
        validate_throttle_rate(self.throttle_rate)?;
        self.retention.validate(&Retention::default())
    }

    /// Makes the application.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub(crate) fn build(self, id: ApplicationId, now: Timestamp) -> Result<Application, Invalid> {
        self.validate()?;
        let NewApplication { name, uid, metadata, throttle_rate, max_in_flight, weight, retention, .. } = self;
        Ok(Application {
            id,
            uid,
            name,
            metadata,
            throttle_rate,
            max_in_flight,
            weight,
            retention,
            created_at: now,
            updated_at: now,
        })
    }
}

/// A name has 1 to 256 harmless characters.
pub(crate) fn validate_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 256 || !name.bytes().all(harmless) {
        return Err(Invalid::new(field, "must have 1 to 256 characters of a-z, A-Z, 0-9, -, _ and ."));
    }
    Ok(())
}

/// A uid has 1 to 256 harmless characters, and does not look like an id.
pub(crate) fn validate_uid(uid: Option<&str>, prefix: &str) -> Result<(), Invalid> {
    let Some(uid) = uid else { return Ok(()) };
    validate_name("uid", uid)?;
    if uid.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_')) {
        return Err(Invalid::new("uid", format!("must not start with {prefix}_, as ids do")));
    }
    Ok(())
}

/// A rate is between one request a second and what a vendor's API can say.
pub(crate) fn validate_throttle_rate(rate: Option<u32>) -> Result<(), Invalid> {
    match rate {
        Some(rate) if !(1..=MAX_THROTTLE_RATE).contains(&rate) => {
            Err(Invalid::new("throttleRate", "must be between 1 and 65,535 requests a second"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A weight is between one turn and a hundred in a round.
pub(crate) fn validate_weight(weight: Option<u32>) -> Result<(), Invalid> {
    match weight {
        Some(weight) if !(1..=MAX_WEIGHT).contains(&weight) => Err(Invalid::new("weight", "must be between 1 and 100")),
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn validate_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > MAX_METADATA || bytes > 4096 {
        return Err(Invalid::new("metadata", "has at most 50 entries and 4 KiB"));
    }
    Ok(())
}
