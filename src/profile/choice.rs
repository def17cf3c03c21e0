//! Which profile an endpoint has: a built-in one by its name, or one written out.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Profile;

/// A built-in profile by name, or a profile of the caller's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ProfileChoice {
    /// A built-in profile's name.
    Named(String),
    /// A profile written out.
    Custom(Box<Profile>),
}

// By hand, so that an error in a written-out profile names the member and not "no variant fits".
impl<'de> Deserialize<'de> for ProfileChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrProfile;
        impl<'de> Visitor<'de> for NameOrProfile {
            type Value = ProfileChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a profile's name or a profile")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<ProfileChoice, E> {
                Ok(name.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProfileChoice, A::Error> {
                Profile::deserialize(MapAccessDeserializer::new(map)).map(ProfileChoice::from)
            }
        }
        deserializer.deserialize_any(NameOrProfile)
    }
}

impl Default for ProfileChoice {
    fn default() -> Self {
        ProfileChoice::Named("svix".into())
    }
}

impl From<&str> for ProfileChoice {
    fn from(name: &str) -> Self {
        ProfileChoice::Named(name.to_owned())
    }
}

impl From<Profile> for ProfileChoice {
    fn from(profile: Profile) -> Self {
        ProfileChoice::Custom(Box::new(profile))
    }
}
