//! Endpoints: where an application's messages go, with what filters, keys and overrides of the profile.
//!
//! Invariant: an [`Endpoint`] that exists has passed every check that needs no network.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::application::{validate_metadata, validate_throttle_rate, validate_uid, validate_weight};
use crate::header::{CustomHeader, is_reserved, validate_headers};
use crate::id::{ApplicationId, EndpointId};
use crate::invalid::Invalid;
use crate::message::{validate_channel, validate_event_type};
use crate::ordering::BlockedHead;
use crate::profile::{BodyMode, Profile, ProfileChoice, SecretRule, validate_timeout};
use crate::retry::RetrySettings;
use crate::secret::Secret;
use crate::signature;
use crate::time::Timestamp;

/// The most event types of an endpoint.
pub const MAX_EVENT_TYPES: usize = 200;
/// The most channels of an endpoint.
pub const MAX_CHANNELS: usize = 100;
/// The longest URL.
pub const MAX_URL: usize = 2048;
/// The most keys of an endpoint that sign at the same time.
pub const MAX_KEYS: usize = 10;

/// Where an application's messages go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The application that it belongs to.
    pub application: ApplicationId,
    /// What the caller set.
    #[serde(flatten)]
    pub settings: EndpointSettings,
    /// The signing keys, newest first. Never shown.
    #[serde(skip)]
    pub keys: Vec<SigningKey>,
    /// Whether and why it gets nothing.
    pub status: EndpointStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed: with each change a later time.
    pub updated_at: Timestamp,
}

/// Whether an endpoint gets messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointStatus {
    /// It gets what its filters let through.
    Enabled,
    /// New messages make no delivery to it, and what waited was canceled.
    Disabled {
        /// Since when.
        since: Timestamp,
        /// Why.
        #[serde(default)]
        reason: DisableReason,
    },
    /// It is gone; its log remains until retention ends it.
    Deleted {
        /// Since when.
        since: Timestamp,
    },
}

/// Why an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DisableReason {
    /// The platform or an operator asked for it.
    // The default, since nothing else disabled an endpoint before there were reasons.
    #[default]
    Requested,
    /// Nothing but failures came from it for as long as `Config::disable_after` says.
    Failing,
    /// Its receiver answered 410 Gone.
    Gone,
    /// Its receiver asked for it, with the answer's header `webhook-delivery: disable`.
    AskedByReceiver,
}

impl DisableReason {
    /// The stable word for it in logs and JSON.
    pub fn code(self) -> &'static str {
        match self {
            DisableReason::Requested => "requested",
            DisableReason::Failing => "failing",
            DisableReason::Gone => "gone",
            DisableReason::AskedByReceiver => "askedByReceiver",
        }
    }
}

/// One signing key of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The secret, in the profile's form.
    pub secret: Secret,
    /// When it stops signing; `None` for the newest key.
    pub expires_at: Option<Timestamp>,
}

/// What a caller can set on an endpoint. The JSON form is camelCase and every member but `url` is optional.
///
/// ```
/// let endpoint: ringback::EndpointSettings = serde_json::from_str(
///     r#"{"url": "https://api.acme.example/hooks", "profile": "levrage", "retry": {"alsoOn": [429]}}"#,
/// )?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSettings {
    /// Where requests go: https, at most 2,048 bytes, without user or password.
    pub url: String,
    /// The platform's own name for it, unique in its application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// A note for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The vendor's way of sending: a built-in profile's name, or a profile. Default: `svix`.
    #[serde(default)]
    pub profile: ProfileChoice,
    /// In place of the profile's body mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyMode>,
    /// In place of the profile's time limit of one attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Over the profile's retry policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySettings>,
    /// How many requests may be on their way to it at once: 1 to 1,024. Default: `Config::max_in_flight_per_endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How many requests a second it may get: 1 to 65,535. A tenth of that may go out at once. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_rate: Option<u32>,
    /// How many turns it has where the application's other endpoints have one, when permits are scarce: 1 to 100.
    /// Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What a delivery with an ordering key does to those behind it while it fails. Default: they wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_head: Option<BlockedHead>,
    /// Whether it is disabled once it has done nothing but fail for `Config::disable_after`. Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_disable: Option<bool>,
    /// The event types it takes, exact or ending in `.*`. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// The channels it listens to. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Whether it gets nothing but what is replayed to it: no message is routed to it, whatever its filters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay_only: bool,
    /// Headers that every request to it carries. No output shows the values of those that are sensitive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CustomHeader>,
    /// The platform's own notes: at most 50 entries, 4 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What an endpoint is made from, or changed to: its settings and, where the caller has them, its secret and whether it
/// is disabled.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEndpoint {
    pub(crate) settings: EndpointSettings,
    pub(crate) secret: Option<Secret>,
    pub(crate) disabled: Option<bool>,
    pub(crate) if_unchanged_since: Option<Timestamp>,
}

impl From<EndpointSettings> for NewEndpoint {
    fn from(settings: EndpointSettings) -> Self {
        NewEndpoint { settings, secret: None, disabled: None, if_unchanged_since: None }
    }
}

impl NewEndpoint {
    /// An endpoint at this URL, with the `svix` profile.
    pub fn at(url: impl Into<String>) -> Self {
        EndpointSettings::at(url).into()
    }

    /// Checks everything that making an endpoint checks, but whether the uid is taken and the URL's address may be
    /// called ([`Policy::check_url`](crate::egress::Policy::check_url)).
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let (_, profile) = self.settings.validate()?;
        match &self.secret {
            Some(secret) => signature::validate_secret(&profile, secret),
            None if profile.signing.secret == SecretRule::Required => Err(secret_needed(&profile)),
            None => Ok(()),
        }
    }

    /// The vendor's way of sending: a built-in profile's name, or a [`Profile`].
    pub fn profile(mut self, profile: impl Into<ProfileChoice>) -> Self {
        self.settings.profile = profile.into();
        self
    }

    /// The secret to sign with, in the profile's form. Default: one is made where the profile says so.
    pub fn secret(mut self, secret: impl Into<Secret>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// Adds an event type that it takes, exact or ending in `.*`.
    pub fn event_type(mut self, name: impl Into<String>) -> Self {
        self.settings.event_types.push(name.into());
        self
    }

    /// Adds a channel that it listens to.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.settings.channels.push(channel.into());
        self
    }

    /// Adds a header that every request to it carries, and whose value is shown by nothing.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.settings.headers.push(CustomHeader::new(name, value));
        self
    }

    /// Adds a header that every request to it carries, and whose value may be shown, unless its name says that it carries
    /// credentials (see [`CustomHeader`]).
    pub fn plain_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push(CustomHeader::plain(name, value.into()));
        self
    }

    /// The platform's own name for it.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.settings.uid = Some(uid.into());
        self
    }

    /// In place of the profile's body mode.
    pub fn body(mut self, body: BodyMode) -> Self {
        self.settings.body = Some(body);
        self
    }

    /// In place of the profile's time limit of one attempt: 1 ms to 5 minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// In place of the profile's retry policy.
    pub fn retry(mut self, retry: impl Into<RetrySettings>) -> Self {
        self.settings.retry = Some(retry.into());
        self
    }

    /// Whether it is disabled: from the start, or by the same write as the other changes. Default: it is made enabled,
    /// and stays as it is when it is changed.
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Changes an endpoint only if its `updated_at` is still this one; [`Error::Conflict`](crate::Error::Conflict)
    /// otherwise. For a caller who reads, changes and writes back. Default: the last writer wins. Without a meaning
    /// where an endpoint is made.
    pub fn if_unchanged_since(mut self, updated_at: Timestamp) -> Self {
        self.if_unchanged_since = Some(updated_at);
        self
    }

    /// How many requests a second it may get: 1 to 65,535, with a tenth of that at once.
    pub fn throttle_rate(mut self, rate: u32) -> Self {
        self.settings.throttle_rate = Some(rate);
        self
    }

    /// How many turns it has where the application's other endpoints have one: 1 to 100.
    pub fn weight(mut self, weight: u32) -> Self {
        self.settings.weight = Some(weight);
        self
    }

    /// What a delivery with an ordering key does to those behind it while it fails. Default: they wait.
    pub fn blocked_head(mut self, rule: BlockedHead) -> Self {
        self.settings.blocked_head = Some(rule);
        self
    }

    /// Whether it is disabled once it has done nothing but fail for `Config::disable_after`. Default: yes.
    pub fn auto_disable(mut self, auto_disable: bool) -> Self {
        self.settings.auto_disable = Some(auto_disable);
        self
    }

    /// How many requests may be on their way to it at once: 1 to 1,024.
    pub fn max_in_flight(mut self, most: u32) -> Self {
        self.settings.max_in_flight = Some(most);
        self
    }
}

impl EndpointSettings {
    /// Settings for this URL, with the `svix` profile.
    pub fn at(url: impl Into<String>) -> Self {
        EndpointSettings {
            url: url.into(),
            uid: None,
            description: String::new(),
            profile: ProfileChoice::default(),
            body: None,
            timeout_ms: None,
            retry: None,
            max_in_flight: None,
            throttle_rate: None,
            weight: None,
            blocked_head: None,
            auto_disable: None,
            event_types: Vec::new(),
            channels: Vec::new(),
            replay_only: false,
            headers: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The profile with this endpoint's overrides applied.
    ///
    /// # Errors
    /// An unknown name, an override out of its range, or a custom profile that is not valid.
    pub fn resolve_profile(&self) -> Result<Profile, Invalid> {
        let mut profile = match &self.profile {
            ProfileChoice::Named(name) => Profile::builtin(name).ok_or_else(|| {
                let known = Profile::BUILTIN.join(", ");
                Invalid::new("profile", format!("unknown profile `{}`; built in are {known}", name.escape_debug()))
            })?,
            ProfileChoice::Custom(profile) => {
                profile.validate()?;
                (**profile).clone()
            }
        };
        if let Some(body) = self.body {
            profile.body = body;
        }
        if let Some(timeout) = self.timeout_ms {
            validate_timeout("timeoutMs", timeout)?;
            profile.timeout_ms = timeout;
        }
        if let Some(retry) = &self.retry {
            profile.retry = retry.over(&profile.retry)?;
        }
        Ok(profile)
    }

    /// Takes out the headers that were stored before their names were reserved, and gives the names. The endpoint can still
    /// be used without them.
    pub(crate) fn take_out_reserved(&mut self) -> Vec<String> {
        let Ok(profile) = self.resolve_profile() else { return Vec::new() };
        let (reserved, kept) =
            std::mem::take(&mut self.headers).into_iter().partition(|header| is_reserved(&header.name, &profile));
        self.headers = kept;
        let reserved: Vec<CustomHeader> = reserved;
        reserved.into_iter().map(|header| header.name).collect()
    }

    /// Checks everything but the URL's address, which is the egress policy's to judge.
    pub(crate) fn validate(&self) -> Result<(Url, Profile), Invalid> {
        let url = parse_url(&self.url)?;
        let profile = self.resolve_profile()?;
        validate_uid(self.uid.as_deref(), EndpointId::PREFIX)?;
        validate_metadata(&self.metadata)?;
        if self.description.len() > 1024 {
            return Err(Invalid::new("description", "has at most 1,024 bytes"));
        }
        if self.max_in_flight.is_some_and(|most| !(1..=1024).contains(&most)) {
            return Err(Invalid::new("maxInFlight", "must be between 1 and 1,024"));
        }
        validate_throttle_rate(self.throttle_rate)?;
        validate_weight(self.weight)?;
        self.blocked_head.unwrap_or_default().validate()?;
        if profile.event_types_required && self.event_types.is_empty() {
            return Err(Invalid::new("eventTypes", format!("the profile {} needs at least one", profile.name)));
        }
        if self.event_types.len() > MAX_EVENT_TYPES {
            return Err(Invalid::new("eventTypes", "has at most 200 event types"));
        }
        for name in &self.event_types {
            validate_event_type("eventTypes", name.strip_suffix(".*").unwrap_or(name))?;
        }
        if self.channels.len() > MAX_CHANNELS {
            return Err(Invalid::new("channels", "has at most 100 channels"));
        }
        self.channels.iter().try_for_each(|channel| validate_channel(channel))?;
        validate_headers(&self.headers, &profile)?;
        Ok((url, profile))
    }
}

/// Reads an endpoint's URL. The checks here need no policy: form, length, no user, no fragment.
fn parse_url(text: &str) -> Result<Url, Invalid> {
    let invalid = |problem: &'static str| Invalid::new("url", problem);
    if text.len() > MAX_URL {
        return Err(invalid("has at most 2,048 bytes"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.contains('\\') {
        return Err(invalid("must have no space, control character or backslash"));
    }
    let url = Url::parse(text).map_err(|_| invalid("is not a URL, such as https://api.acme.example/hooks"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(invalid("must start with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must have no user or password; use a header"));
    }
    if url.fragment().is_some() {
        return Err(invalid("must have no fragment (#…)"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("must have a host"));
    }
    Ok(url)
}

fn secret_needed(profile: &Profile) -> Invalid {
    Invalid::new("secret", format!("the profile {} needs one", profile.name))
}

/// The keys of a new endpoint: the caller's secret, one made from `random`, or none, as the profile says.
pub(crate) fn first_keys(
    profile: &Profile,
    given: Option<Secret>,
    random: [u8; 32],
) -> Result<Vec<SigningKey>, Invalid> {
    let secret = match (given, profile.signing.secret) {
        (Some(secret), _) => {
            signature::validate_secret(profile, &secret)?;
            Some(secret)
        }
        (None, SecretRule::Generated) => signature::secret_from(profile, random),
        (None, SecretRule::Required) => return Err(secret_needed(profile)),
        (None, SecretRule::Optional | SecretRule::None) => None,
    };
    Ok(secret.map(|secret| SigningKey { secret, expires_at: None }).into_iter().collect())
}

impl EndpointStatus {
    /// The status once it has been asked to be disabled or not; what is so already stays since when it is, and why.
    pub(crate) fn disabled(&self, disabled: bool, now: Timestamp) -> EndpointStatus {
        match self {
            EndpointStatus::Enabled if disabled => {
                EndpointStatus::Disabled { since: now, reason: DisableReason::Requested }
            }
            EndpointStatus::Disabled { .. } if !disabled => EndpointStatus::Enabled,
            EndpointStatus::Enabled | EndpointStatus::Disabled { .. } | EndpointStatus::Deleted { .. } => self.clone(),
        }
    }
}

impl Endpoint {
    /// Whether new messages make deliveries to it.
    pub fn is_enabled(&self) -> bool {
        self.status == EndpointStatus::Enabled
    }

    /// The secrets that sign at this time, newest first.
    pub(crate) fn active_secrets(&self, now: Timestamp) -> Vec<Secret> {
        let active = |key: &&SigningKey| key.expires_at.is_none_or(|end| now < end);
        self.keys.iter().filter(active).map(|key| key.secret.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: EndpointSettings) -> String {
        settings.validate().unwrap_err().field().to_owned()
    }

    #[test]
    fn urls_that_no_request_should_go_to_are_refused() {
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL));
        for url in [
            "",
            "a.example",
            "ftp://a.example/",
            "https://",
            "https://user@a.example/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a.example\\@b.example/",
            "https://a.example/\r\nX: y",
            " https://a.example/",
            &long,
        ] {
            assert_eq!(refused(EndpointSettings::at(url)), "url", "{url:?}");
        }
    }

    #[test]
    fn each_other_field_out_of_its_range_is_named() {
        let base = || EndpointSettings::at("https://a.example/");
        let cases = [
            (EndpointSettings { profile: "hooli".into(), ..base() }, "profile"),
            (EndpointSettings { profile: "subverse".into(), ..base() }, "eventTypes"),
            (EndpointSettings { event_types: vec!["a..b".into()], ..base() }, "eventTypes"),
            (EndpointSettings { event_types: vec!["*".into()], ..base() }, "eventTypes"),
            (EndpointSettings { channels: vec!["agent:".into()], ..base() }, "channels"),
            (EndpointSettings { channels: vec!["c".into(); 101], ..base() }, "channels"),
            (EndpointSettings { uid: Some("ep_1".into()), ..base() }, "uid"),
            (EndpointSettings { timeout_ms: Some(300_001), ..base() }, "timeoutMs"),
            (EndpointSettings { max_in_flight: Some(0), ..base() }, "maxInFlight"),
            (
                EndpointSettings { blocked_head: Some(BlockedHead::Skip { after_attempts: 0 }), ..base() },
                "blockedHead.afterAttempts",
            ),
            (EndpointSettings { throttle_rate: Some(0), ..base() }, "throttleRate"),
            (EndpointSettings { throttle_rate: Some(65_536), ..base() }, "throttleRate"),
            (EndpointSettings { weight: Some(0), ..base() }, "weight"),
            (EndpointSettings { weight: Some(101), ..base() }, "weight"),
            (
                EndpointSettings { retry: Some(RetrySettings { jitter: Some(2.0), ..Default::default() }), ..base() },
                "retry.jitter",
            ),
        ];
        for (settings, field) in cases {
            assert_eq!(refused(settings), field);
        }
    }
}
