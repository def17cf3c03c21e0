//! Profiles: everything that is particular to a vendor, as data.
//!
//! A profile says how a body is wrapped, how it is signed and in which headers, how long an attempt
//! may take, what is retried when, and which answers count as what. There is no code path per vendor:
//! the built-in ones (in `builtin.rs`) are values of the same type that a user writes as JSON.

mod builtin;
mod choice;
mod template;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;
use crate::retry::{RetryOn, RetryPolicy};
pub use choice::ProfileChoice;
pub use template::{Placeholder, Template};

/// The most headers of a profile, and the most key rules.
pub const MAX_RULES: usize = 16;
/// The longest an attempt may be allowed to take: 5 minutes.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// A vendor's way of sending: data, not code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// What the log calls it.
    pub name: String,
    /// How requests are signed. Default: not at all.
    #[serde(default)]
    pub signing: Signing,
    /// How the body is built from the payload. Default: as given.
    #[serde(default)]
    pub body: BodyMode,
    /// The names of the envelope's members. Default: `type`, `timestamp`, `data`.
    #[serde(default)]
    pub envelope: Envelope,
    /// The time limit of one attempt, in milliseconds: 1 to 300,000. Default: 15,000.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// When a failed attempt is tried again. Default: the schedule of the `svix` profile.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Which failures are retried. Default: every one.
    #[serde(default)]
    pub retry_on: RetryOn,
    /// Whether a `Retry-After` header of the answer is followed. Default: yes.
    #[serde(default = "yes")]
    pub follow_retry_after: bool,
    /// Whether an answer of 410 Gone disables the endpoint, beside ending the delivery. Default: yes.
    #[serde(default = "yes")]
    pub disable_on_gone: bool,
    /// Whether what the answer's header `webhook-delivery` asks for is done: `abort-message` ends the delivery, `disable`
    /// disables the endpoint. Default: no.
    #[serde(default)]
    pub follow_webhook_delivery: bool,
    /// The statuses that count as delivered. Default: 200 to 299.
    #[serde(default)]
    pub success: StatusRange,
    /// Whether an endpoint must name at least one event type. Default: no.
    #[serde(default)]
    pub event_types_required: bool,
}

const fn default_timeout() -> u64 {
    15_000
}

const fn yes() -> bool {
    true
}

/// How a request body is built from a message's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyMode {
    /// The payload's own bytes inside an object of three members, under the envelope's names.
    Envelope,
    /// The payload's bytes as they are.
    #[default]
    AsGiven,
    /// The payload's members, and the envelope's three beside them. The payload must be a JSON object.
    Superset,
}

/// The names of the envelope's three members, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// The member that holds the event type.
    pub event_type: String,
    /// The member that holds the message's time (RFC 3339, UTC).
    pub timestamp: String,
    /// The member that holds the payload.
    pub data: String,
}

impl Default for Envelope {
    fn default() -> Self {
        Envelope { event_type: "type".into(), timestamp: "timestamp".into(), data: "data".into() }
    }
}

/// A range of HTTP statuses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRange {
    /// The first status.
    pub from: u16,
    /// The last status.
    pub to: u16,
}

impl Default for StatusRange {
    fn default() -> Self {
        StatusRange { from: 200, to: 299 }
    }
}

impl StatusRange {
    /// Whether the status lies in the range.
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

/// How requests are signed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signing {
    /// Whether an endpoint has a secret. Default: none.
    #[serde(default)]
    pub secret: SecretRule,
    /// What a secret is. The first rule whose prefix fits a secret applies to it.
    #[serde(default)]
    pub keys: Vec<KeyRule>,
    /// What is signed, for example `{id}.{ts}.{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Template>,
    /// What stands between several signatures. Default: nothing may, and only the newest key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// The headers that carry id, time and signature. Written only where the endpoint has a secret, unless
    /// a header's value uses no `{sig}`.
    #[serde(default)]
    pub headers: Vec<HeaderRule>,
}

/// Whether an endpoint has a secret, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecretRule {
    /// It must have one; one is made where the caller gives none.
    Generated,
    /// It must have one, and the caller gives it.
    Required,
    /// It may have one. Without it there is no signature header.
    Optional,
    /// It has none.
    #[default]
    None,
}

/// What a secret is and what is made with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRule {
    /// What the secret is used for.
    pub kind: KeyKind,
    /// The text that secrets of this rule start with. Default: any secret.
    #[serde(default)]
    pub prefix: String,
    /// How the key's bytes are written in the secret. Default: raw.
    #[serde(default)]
    pub form: KeyForm,
    /// The least number of key bytes. Default: 1.
    #[serde(default = "one")]
    pub min_bytes: usize,
    /// The largest number of key bytes. Default: 512.
    #[serde(default = "most_key_bytes")]
    pub max_bytes: usize,
    /// How a signature is written. Default: lowercase hex.
    #[serde(default)]
    pub encoding: Encoding,
    /// The text around one signature, for example `v1,{sig}`. Default: `{sig}`.
    #[serde(default = "bare_signature")]
    pub format: Template,
}

const fn one() -> usize {
    1
}

const fn most_key_bytes() -> usize {
    512
}

fn bare_signature() -> Template {
    Template::parse("{sig}").expect("a known placeholder")
}

/// What a secret is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
    /// HMAC with SHA-1, for receivers that know nothing newer.
    HmacSha1,
    /// An ed25519 signature. The key is the 32-byte seed and the 32-byte public key.
    Ed25519,
    /// No signature: the secret itself is sent, as a token.
    StaticToken,
}

/// How the key's bytes are written in a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyForm {
    /// The whole text, prefix included, as UTF-8.
    #[default]
    Raw,
    /// Base64 of the text after the prefix.
    Base64,
}

/// How a signature's bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// Lowercase hex.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
    /// URL-safe base64 without padding.
    Base64url,
}

/// One header that a profile writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// The header's name.
    pub name: String,
    /// Its value over `{id}`, the times and `{sig}`.
    pub value: Template,
}

impl Profile {
    /// The built-in profile of this name: `svix`, `standard-webhooks`, `levers`, `levrage` or `subverse`.
    pub fn builtin(name: &str) -> Option<Profile> {
        builtin::by_name(name)
    }

    /// The names of the built-in profiles.
    pub const BUILTIN: [&'static str; 5] = ["svix", "standard-webhooks", "levers", "levrage", "subverse"];

    /// The time limit of one attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks that the profile can be used.
    ///
    /// # Errors
    /// The first field that is out of its range or contradicts another one.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.name.is_empty() || self.name.len() > 64 {
            return Err(Invalid::new("profile.name", "must have 1 to 64 characters"));
        }
        validate_timeout("profile.timeoutMs", self.timeout_ms)?;
        if !(100..=599).contains(&self.success.from) || !(self.success.from..=599).contains(&self.success.to) {
            return Err(Invalid::new("profile.success", "must be a range of statuses between 100 and 599"));
        }
        let names = [&self.envelope.event_type, &self.envelope.timestamp, &self.envelope.data];
        if names.iter().any(|name| name.is_empty() || name.len() > 64) {
            return Err(Invalid::new("profile.envelope", "each name must have 1 to 64 characters"));
        }
        if names[0] == names[1] || names[0] == names[2] || names[1] == names[2] {
            return Err(Invalid::new("profile.envelope", "the three names must differ"));
        }
        self.retry.validate()?;
        self.signing.validate()
    }
}

pub(crate) fn validate_timeout(field: &'static str, timeout_ms: u64) -> Result<(), Invalid> {
    if timeout_ms == 0 || Duration::from_millis(timeout_ms) > MAX_TIMEOUT {
        return Err(Invalid::new(field, "must be between 1 and 300,000 milliseconds"));
    }
    Ok(())
}

impl Signing {
    /// The rule that a secret falls under.
    pub(crate) fn rule(&self, secret: &str) -> Option<&KeyRule> {
        self.keys.iter().find(|rule| secret.starts_with(&rule.prefix))
    }

    fn validate(&self) -> Result<(), Invalid> {
        let field = "profile.signing";
        if self.secret == SecretRule::None {
            let signs = self.headers.iter().any(|header| header.value.uses(Placeholder::Signature));
            if !self.keys.is_empty() || signs {
                return Err(Invalid::new("profile.signing.secret", "is none, but there are keys or a {sig} header"));
            }
        } else if self.keys.is_empty() {
            return Err(Invalid::new("profile.signing.keys", "must have a rule where there is a secret"));
        }
        if let (SecretRule::Generated, Some(first)) = (self.secret, self.keys.first())
            && !(first.min_bytes..=first.max_bytes).contains(&first.generated_bytes())
        {
            return Err(Invalid::new(
                "profile.signing.keys",
                format!("the first one must take the {} bytes of a generated key", first.generated_bytes()),
            ));
        }
        if self.headers.len() > MAX_RULES || self.keys.len() > MAX_RULES {
            return Err(Invalid::new(field, "has at most 16 headers and 16 key rules"));
        }
        for rule in &self.keys {
            rule.validate()?;
            if rule.kind != KeyKind::StaticToken && self.content.is_none() {
                return Err(Invalid::new(
                    "profile.signing.content",
                    "says what is signed, for example {id}.{ts}.{body}",
                ));
            }
        }
        if let Some(content) = &self.content {
            if content.uses(Placeholder::Signature) {
                return Err(Invalid::new("profile.signing.content", "cannot use {sig}"));
            }
            // A receiver can only rebuild what is signed from what it gets.
            for placeholder in content.placeholders() {
                use Placeholder::*;
                let carried = match placeholder {
                    Id | Seconds | Millis | Iso => self.headers.iter().any(|h| h.value.uses(placeholder)),
                    Body | BodySha256Hex | BodySha256Base64 | Method | Url | Signature => true,
                };
                if !carried {
                    return Err(Invalid::new(
                        "profile.signing.headers",
                        "no header carries the id or the time that is signed",
                    ));
                }
            }
        }
        if self.secret != SecretRule::None
            && !self.headers.iter().any(|header| header.value.uses(Placeholder::Signature))
        {
            return Err(Invalid::new("profile.signing.headers", "no header carries {sig}"));
        }
        for (place, header) in self.headers.iter().enumerate() {
            header.validate()?;
            if self.headers[..place].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
                return Err(Invalid::new("profile.signing.headers", format!("{} stands twice", header.name)));
            }
        }
        if self.join.as_ref().is_some_and(|join| join.is_empty() || join.len() > 8 || !is_printable(join)) {
            return Err(Invalid::new(field, "join must have 1 to 8 printable ASCII characters"));
        }
        Ok(())
    }
}

impl KeyRule {
    fn validate(&self) -> Result<(), Invalid> {
        if self.min_bytes == 0 || self.min_bytes > self.max_bytes || self.max_bytes > most_key_bytes() {
            return Err(Invalid::new("profile.signing.keys", "minBytes and maxBytes must be between 1 and 512"));
        }
        if self.format.placeholders().any(|p| p != Placeholder::Signature) || !self.format.uses(Placeholder::Signature)
        {
            return Err(Invalid::new("profile.signing.keys", "format must use {sig}, and only it"));
        }
        if !is_printable(&self.format.to_string()) || !is_printable(&self.prefix) {
            return Err(Invalid::new("profile.signing.keys", "format and prefix are printable ASCII"));
        }
        if self.kind == KeyKind::Ed25519 && self.form != KeyForm::Base64 {
            return Err(Invalid::new("profile.signing.keys", "an ed25519 key is written in base64"));
        }
        Ok(())
    }

    /// How many key bytes a secret has that is made from 32 random bytes: a raw one is the text in base64.
    fn generated_bytes(&self) -> usize {
        let random = if self.kind == KeyKind::Ed25519 { 64 } else { 32 };
        match self.form {
            KeyForm::Base64 => random,
            KeyForm::Raw => self.prefix.len() + random.div_ceil(3) * 4,
        }
    }
}

/// Whether a text may stand in a header's value.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Header names that belong to the transport, to proxies, or to a cloud's metadata service: neither a tenant's
/// own headers nor a profile's may write them.
pub(crate) fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "te",
        "trailer",
        "connection",
        "keep-alive",
        "upgrade",
        "expect",
        "forwarded",
        "cookie",
        "metadata",
    ];
    const PREFIXES: [&str; 6] = [
        "proxy-",
        "x-forwarded-",
        "metadata-",
        "x-aws-ec2-metadata-token",
        "x-aliyun-ecs-metadata-token",
        "x-google-metadata",
    ];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl HeaderRule {
    fn validate(&self) -> Result<(), Invalid> {
        let field = "profile.signing.headers";
        if http::HeaderName::from_bytes(self.name.as_bytes()).is_err() {
            return Err(Invalid::new(field, format!("`{}` is not a header name", self.name.escape_debug())));
        }
        if is_reserved(&self.name) || self.name.eq_ignore_ascii_case("user-agent") {
            return Err(Invalid::new(field, format!("{} is reserved", self.name)));
        }
        if self.value.uses(Placeholder::Body) {
            return Err(Invalid::new(field, "a header cannot hold {body}"));
        }
        if !self.value.can_be_matched() {
            return Err(Invalid::new(field, "two placeholders need a text between them"));
        }
        if !is_printable(&self.value.to_string()) {
            return Err(Invalid::new(field, "a value is printable ASCII"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_profiles_are_valid_and_are_their_own_json_form() {
        for name in Profile::BUILTIN {
            let profile = Profile::builtin(name).unwrap();
            assert_eq!(profile.name, name);
            profile.validate().unwrap();
            let json = serde_json::to_string_pretty(&profile).unwrap();
            assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile, "{json}");
        }
        assert_eq!(Profile::builtin("hooli"), None);
    }

    #[test]
    fn a_profile_that_no_receiver_could_verify_is_refused() {
        let refused = [
            // The time is signed, but no header carries it.
            r#"{"name":"x","signing":{"secret":"required","content":"{ts}.{body}",
                "keys":[{"kind":"hmac-sha256"}],"headers":[{"name":"X-Sig","value":"{sig}"}]}}"#,
            // There is a secret, but no header carries a signature.
            r#"{"name":"x","signing":{"secret":"required","content":"{body}",
                "keys":[{"kind":"hmac-sha256"}],"headers":[{"name":"X-Id","value":"{id}"}]}}"#,
            // Nothing says what is signed.
            r#"{"name":"x","signing":{"secret":"required",
                "keys":[{"kind":"hmac-sha256"}],"headers":[{"name":"X-Sig","value":"{sig}"}]}}"#,
            // A header that the transport owns.
            r#"{"name":"x","signing":{"secret":"required","content":"{body}",
                "keys":[{"kind":"hmac-sha256"}],"headers":[{"name":"Host","value":"{sig}"}]}}"#,
            // A line break in what is written into the header.
            r#"{"name":"x","signing":{"secret":"required","content":"{body}",
                "keys":[{"kind":"hmac-sha256","format":"v1,\n{sig}"}],"headers":[{"name":"X-Sig","value":"{sig}"}]}}"#,
            // A generated secret has 32 bytes.
            r#"{"name":"x","signing":{"secret":"generated","content":"{body}",
                "keys":[{"kind":"hmac-sha512","form":"base64","minBytes":64}],
                "headers":[{"name":"X-Sig","value":"{sig}"}]}}"#,
            // An ed25519 key has no text of its own.
            r#"{"name":"x","signing":{"secret":"required","content":"{body}",
                "keys":[{"kind":"ed25519"}],"headers":[{"name":"X-Sig","value":"{sig}"}]}}"#,
            r#"{"name":"x","timeoutMs":0}"#,
            r#"{"name":"x","envelope":{"eventType":"a","timestamp":"a","data":"b"}}"#,
        ];
        for json in refused {
            let profile: Profile = serde_json::from_str(json).unwrap();
            assert!(profile.validate().is_err(), "{json}");
        }
    }

    #[test]
    fn unknown_members_are_refused() {
        let error = serde_json::from_str::<Profile>(r#"{"name":"x","timeout":3}"#).unwrap_err();
        assert!(error.to_string().contains("timeout"), "{error}");
    }
}
