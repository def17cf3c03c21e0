//! The headers that every request to an endpoint carries beside the profile's.
//!
//! Invariants: none of them writes a header that is ours; no output shows the value of one that is sensitive.

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::invalid::Invalid;
use crate::profile::{self, Profile};
use crate::secret::{REDACTED, Secret};

/// The most custom headers of an endpoint.
pub const MAX_HEADERS: usize = 32;
/// The most bytes of an endpoint's custom headers, names and values together.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A header that every request to an endpoint carries. Its value is sealed in the store, whatever it is; one that is
/// sensitive is shown by nothing.
///
/// A header is sensitive if it was made so, and always if its name says that it carries credentials: if it contains
/// `auth`, `token`, `secret`, `passw`, `pwd`, `passphrase`, `credential`, `session`, `cookie`, `signature`, `bearer` or
/// `jwt`, or has `key`, `apikey`, `sig`, `pin` or `otp` as a word between other signs, or ends in `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CustomHeader {
    /// The name: a token by RFC 9110, none of the reserved ones.
    pub name: String,
    /// The value: printable.
    pub value: Secret,
    /// Whether it was made sensitive. [`is_sensitive`](CustomHeader::is_sensitive) looks at the name, too.
    sensitive: bool,
}

impl CustomHeader {
    /// A header whose value is shown by nothing.
    pub fn new(name: impl Into<String>, value: impl Into<Secret>) -> Self {
        CustomHeader { name: name.into(), value: value.into(), sensitive: true }
    }

    /// A header whose value may be shown, unless its name says that it carries credentials.
    pub fn plain(name: impl Into<String>, value: impl Into<Secret>) -> Self {
        let name = name.into();
        CustomHeader { sensitive: carries_credentials(&name), name, value: value.into() }
    }

    /// Whether no output may show its value.
    pub fn is_sensitive(&self) -> bool {
        self.sensitive || carries_credentials(&self.name)
    }

    /// Its value, if it may be shown.
    pub fn shown(&self) -> Option<&str> {
        (!self.is_sensitive()).then(|| self.value.expose())
    }
}

/// Whether a header's name says that its value gives access to something.
fn carries_credentials(name: &str) -> bool {
    const PARTS: [&str; 12] = [
        "auth",
        "token",
        "secret",
        "passw",
        "pwd",
        "passphrase",
        "credential",
        "session",
        "cookie",
        "signature",
        "bearer",
        "jwt",
    ];
    const WORDS: [&str; 5] = ["key", "apikey", "sig", "pin", "otp"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
        || name.ends_with("key")
        || name.split(|sign: char| !sign.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

impl Serialize for CustomHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serializer.serialize_struct("CustomHeader", 3)?;
        shown.serialize_field("name", &self.name)?;
        shown.serialize_field("value", self.shown().unwrap_or(REDACTED))?;
        shown.serialize_field("sensitive", &self.is_sensitive())?;
        shown.end()
    }
}

impl<'de> Deserialize<'de> for CustomHeader {
    /// `{"name", "value", "sensitive"}`; it is sensitive unless `false` is said.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            name: String,
            value: Secret,
            sensitive: Option<bool>,
        }
        let Written { name, value, sensitive } = Written::deserialize(deserializer)?;
        Ok(match sensitive {
            Some(false) => CustomHeader::plain(name, value),
            Some(true) | None => CustomHeader::new(name, value),
        })
    }
}

/// Beside what nobody may write: the names of signature headers, and the profile's own.
pub(crate) fn is_reserved(name: &str, profile: &Profile) -> bool {
    let lower = name.to_ascii_lowercase();
    profile::is_reserved(name)
        || ["webhook-", "svix-"].iter().any(|prefix| lower.starts_with(prefix))
        || profile.signing.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
}

pub(crate) fn validate_headers(headers: &[CustomHeader], profile: &Profile) -> Result<(), Invalid> {
    let invalid = |problem: String| Invalid::new("headers", problem);
    if headers.len() > MAX_HEADERS {
        return Err(invalid("has at most 32 headers".into()));
    }
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.expose().len()).sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(invalid("have at most 16 KiB in all".into()));
    }
    for (place, header) in headers.iter().enumerate() {
        let shown = header.name.escape_debug();
        if http::HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            return Err(invalid(format!("`{shown}` is not a header name")));
        }
        if header.value.expose().bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
            return Err(invalid(format!("the value of `{shown}` must be printable ASCII, without a line break")));
        }
        if is_reserved(&header.name, profile) {
            return Err(invalid(format!("`{shown}` is reserved")));
        }
        if headers[..place].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
            return Err(invalid(format!("`{shown}` stands twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointSettings;

    fn refused(settings: EndpointSettings) -> String {
        settings.validate().unwrap_err().field().to_owned()
    }

    fn with_headers(headers: &[(&str, &str)]) -> EndpointSettings {
        let header = |(name, value): &(&str, &str)| CustomHeader::new(*name, *value);
        EndpointSettings { headers: headers.iter().map(header).collect(), ..EndpointSettings::at("https://a.example/") }
    }

    #[test]
    fn headers_that_could_forge_a_request_are_refused() {
        for headers in [
            &[("X-A", "1\r\nX-B: 2")][..],
            &[("X A", "1")],
            &[("", "1")],
            &[("Host", "b.example")],
            &[("Svix-Signature", "v1,forged")],
            &[("WEBHOOK-ID", "1")],
            &[("X-Forwarded-For", "1")],
            &[("Proxy-Authorization", "1")],
            &[("Metadata-Flavor", "Google")],
            &[("Metadata", "true")],
            &[("X-aws-ec2-metadata-token-ttl-seconds", "60")],
            &[("X-Aliyun-ECS-Metadata-Token", "t")],
            &[("Content-Length", "1")],
            &[("Content-Type", "text/plain")],
            &[("Transfer-Encoding", "chunked")],
            &[("TE", "trailers")],
            &[("Trailer", "X-A")],
            &[("Connection", "close")],
            &[("Keep-Alive", "1")],
            &[("Upgrade", "h2c")],
            &[("Expect", "100-continue")],
            &[("Forwarded", "for=1.2.3.4")],
            &[("Cookie", "a=b")],
            &[("X-A", "1"), ("x-a", "2")],
            &[("X-A", "\u{e9}")],
        ] {
            assert_eq!(refused(with_headers(headers)), "headers", "{headers:?}");
        }
        assert!(with_headers(&[("Authorization", "Bearer t"), ("X-Client-ID", "c")]).validate().is_ok());
        let levrage = EndpointSettings { profile: "levrage".into(), ..with_headers(&[("x-levrage-signature", "0")]) };
        assert_eq!(refused(levrage), "headers");
    }

    #[test]
    fn a_header_value_is_in_no_output() {
        let settings = with_headers(&[("Authorization", "Bearer canary")]);
        let shown = format!("{settings:?}{}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("canary"));
    }

    #[test]
    fn what_carries_credentials_by_its_name_is_never_shown() {
        for name in [
            "Authorization",
            "X-Auth",
            "X-Api-Key",
            "ApiKey",
            "x-token",
            "X-Hook-Secret",
            "X-Password",
            "X-Session-Id",
            "X-Cookie",
            "X-Signature",
            "X-Sig",
            "X-Credential",
            "Ocp-Apim-Subscription-Key",
            "X-OTP",
            "X-JWT",
            "X-MyKey",
            "bearer",
        ] {
            let header = CustomHeader::plain(name, "canary");
            assert!(header.is_sensitive() && header.shown().is_none(), "{name}");
            assert_eq!(header, CustomHeader::new(name, "canary"), "{name}");
        }
        for name in ["X-Team", "X-Region", "X-Keyboard", "X-Monkeys", "X-Design", "Accept", "X-Pinned", "X-Client-ID"] {
            assert_eq!(CustomHeader::plain(name, "blue").shown(), Some("blue"), "{name}");
            assert_eq!(CustomHeader::new(name, "blue").shown(), None, "{name}");
        }
    }

    #[test]
    fn a_header_is_sensitive_in_json_unless_it_says_otherwise() {
        let read = |json: &str| serde_json::from_str::<CustomHeader>(json).unwrap();
        let written = |json: &str| serde_json::to_string(&read(json)).unwrap();
        let hidden = r#"{"name":"X-A","value":"[redacted]","sensitive":true}"#;
        assert_eq!(written(r#"{"name":"X-A","value":"v"}"#), hidden);
        assert_eq!(written(r#"{"name":"X-A","value":"v","sensitive":true}"#), hidden);
        let plain = r#"{"name":"X-A","value":"v","sensitive":false}"#;
        assert_eq!(written(plain), plain);
        assert!(read(r#"{"name":"X-Token","value":"v","sensitive":false}"#).is_sensitive());
    }
}
