//! Identifiers: 128 bits, ordered by time, with a prefix that says what they name.
//!
//! The first 48 bits are milliseconds since 1970, the other 80 are random (and, for ids made by one
//! [`IdSource`](crate::random::IdSource), ascending within a millisecond). The text form is the
//! prefix, an underscore and 26 digits of Crockford's base 32, which sorts as the bytes do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TEXT_DIGITS: usize = 26;

/// A text that is not an id of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ and {TEXT_DIGITS} letters and digits")]
pub struct NotAnId {
    prefix: &'static str,
}

fn encode(value: u128) -> String {
    (0..TEXT_DIGITS).rev().map(|digit| DIGITS[((value >> (digit * 5)) & 31) as usize] as char).collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_DIGITS {
        return None;
    }
    let mut value: u128 = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|d| *d == byte.to_ascii_uppercase())? as u128;
        // 26 digits hold 130 bits: the first may only be 0 to 7.
        if place == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | digit;
    }
    Some(value)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from its time and 80 random bits (the lower ones of `random`).
            pub fn from_parts(time: Timestamp, random: u128) -> Self {
                let millis = u128::from(time.as_millis()) & ((1 << 48) - 1);
                $name((millis << 80) | (random & ((1 << 80) - 1)))
            }

            /// When it was made, to the millisecond.
            pub fn time(self) -> Timestamp {
                Timestamp::from_millis((self.0 >> 80) as u64)
            }

            /// The 16 bytes, which sort by time.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id with these 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                $name(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", Self::PREFIX, encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map($name)
                    .ok_or(NotAnId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Names an [`Application`](crate::Application): a tenant of the platform.
    ApplicationId,
    "app"
);
id!(
    /// Names an [`Endpoint`](crate::Endpoint).
    EndpointId,
    "ep"
);
id!(
    /// Names a [`Message`](crate::Message); receivers see it as the message id header.
    MessageId,
    "msg"
);
id!(
    /// Names an [`Attempt`](crate::Attempt).
    AttemptId,
    "atmpt"
);
id!(
    /// Names a token of the API. It is no secret.
    TokenId,
    "tok"
);
id!(
    /// Names a replay job.
    JobId,
    "job"
);

#[cfg(feature = "sled")]
impl ApplicationId {
    /// No application: records that belong to the whole store are kept under it.
    pub(crate) const NONE: ApplicationId = ApplicationId(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_form_reads_back_and_sorts_as_the_bytes_do(a: u128, b: u128) {
            let (a, b) = (MessageId(a), MessageId(b));
            prop_assert_eq!(a.to_string().parse::<MessageId>(), Ok(a));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,40}") {
            let _ = text.parse::<AttemptId>();
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = ApplicationId::from_parts(Timestamp::from_millis(1), 7);
        assert!(id.to_string().parse::<EndpointId>().is_err());
        assert_eq!(id.time(), Timestamp::from_millis(1));
    }
}
