//! The second stage: what the values mean, checked.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ringback::egress::{Network, Policy, Proxy};
use ringback::{Invalid, KeySource, Secret};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::declared::{Declared, read_secret};
use super::key::nearest;
use super::value::{Error, Value};
use super::{InForce, Key, LogFormat, Settings};

/// A shorter one could be guessed.
const TOKEN: RangeInclusive<usize> = 16..=512;
/// The longest that a stop waits for requests to the API, in parts of the grace period and in all: they are short, and
/// most of the period is for deliveries.
const API_PART: u32 = 4;
const API_MOST: Duration = Duration::from_secs(5);
/// More would only be refused by the system.
const MAX_CONNECTIONS: u64 = 100_000;
/// Where name servers answer unless they say otherwise.
const DNS_PORT: u16 = 53;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Longer than this means "for ever" and can be said as this.
const MAX_DAYS: u64 = 36_500;

/// Checks all settings. What is declared comes later: it depends on them.
pub(super) fn check(in_force: InForce) -> Result<Settings, Error> {
    let mut config = config(&in_force)?;
    let api_grace = (config.shutdown_grace / API_PART).min(API_MOST);
    config.shutdown_grace -= api_grace;
    let settings = Settings {
        config,
        api_grace,
        listen: listen(&in_force)?,
        token: token(&in_force)?,
        public_url: public_url(&in_force)?,
        log: filter(&in_force)?,
        log_format: log_format(&in_force)?,
        max_connections: size(in_force.number(Key::MaxConnections, 1..=MAX_CONNECTIONS)?),
        declared: Declared::default(),
        warnings: Vec::new(),
        in_force,
    };
    Ok(settings)
}

fn config(in_force: &InForce) -> Result<ringback::Config, Error> {
    let count = 0..=u64::MAX;
    let small = 0..=u64::from(u32::MAX);
    let number = |key| in_force.number(key, count.clone());
    let per = |key| in_force.number(key, small.clone()).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let some =
        |key| in_force.optional(key, small.clone()).map(|number| number.and_then(|number| u32::try_from(number).ok()));
    let seconds = |key, most| in_force.number(key, 0..=most).map(Duration::from_secs);
    let days = |key| in_force.number(key, 0..=MAX_DAYS).map(|days| Duration::from_secs(days * DAY));
    let mut config = ringback::Config::new(in_force.text(Key::Data).unwrap_or_default());
    config.egress = policy(in_force)?;
    config.extra_roots = extra_roots(in_force)?;
    config.nameservers = nameservers(in_force)?;
    config.proxy = proxy(in_force)?;
    config.keys = keys(in_force)?;
    config.max_payload = size(number(Key::MaxPayload)?);
    config.max_endpoints = size(number(Key::MaxEndpoints)?);
    config.max_running_replays = size(number(Key::MaxRunningReplays)?);
    config.max_in_flight = size(number(Key::MaxInFlight)?);
    config.max_in_flight_per_endpoint = per(Key::MaxInFlightPerEndpoint)?;
    config.max_in_flight_per_origin = per(Key::MaxInFlightPerOrigin)?;
    config.max_in_flight_per_application = some(Key::MaxInFlightPerApplication)?;
    config.throttle_rate = some(Key::ThrottleRate)?;
    config.breaker_failures = per(Key::BreakerFailures)?;
    config.breaker_rest = seconds(Key::BreakerRestSeconds, DAY)?;
    config.breaker_max_rest = seconds(Key::BreakerMaxRestSeconds, DAY)?;
    config.max_open_bytes = number(Key::MaxOpenBytes)?;
    config.max_open_bytes_per_application = number(Key::MaxOpenBytesPerApplication)?;
    config.max_kept_bytes = number(Key::MaxKeptBytes)?;
    config.min_free_bytes = number(Key::MinFreeBytes)?;
    config.shutdown_grace = seconds(Key::ShutdownGraceSeconds, HOUR)?;
    config.idempotency_window = seconds(Key::IdempotencyWindowSeconds, 365 * DAY)?;
    config.keep_delivered = days(Key::KeepDeliveredDays)?;
    config.keep_ended = days(Key::KeepEndedDays)?;
    let some_days = |key| match in_force.get(key).value == Value::Absent {
        true => Ok(None),
        false => days(key).map(Some),
    };
    config.keep_payloads = some_days(Key::KeepPayloadsDays)?;
    config.keep_attempts = some_days(Key::KeepAttemptsDays)?;
    config.delete_on_success = in_force.is_on(Key::DeleteOnSuccess);
    let disable_after = seconds(Key::DisableAfterSeconds, 365 * DAY)?;
    config.disable_after = (!disable_after.is_zero()).then_some(disable_after);
    config.disable_after_failures = per(Key::DisableAfterFailures)?;
    config.operational_application = in_force.text(Key::OperationalApplication).map(str::to_owned);
    config.validate().map_err(|invalid| in_force.refused(&invalid))?;
    Ok(config)
}

/// A count of things in memory.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn policy(in_force: &InForce) -> Result<Policy, Error> {
    let network = |text: &String| {
        let problem = |error| in_force.error(Key::AllowNetwork, format_args!("`{}` is {error}", text.escape_debug()));
        text.parse::<Network>().map_err(problem)
    };
    let allowed_networks = in_force.list(Key::AllowNetwork).iter().map(network).collect::<Result<_, _>>()?;
    Ok(Policy { allowed_networks, allow_metadata: in_force.is_on(Key::AllowMetadata) })
}

fn extra_roots(in_force: &InForce) -> Result<Vec<u8>, Error> {
    let Some(path) = in_force.text(Key::ExtraRoots) else { return Ok(Vec::new()) };
    let problem =
        |error| in_force.error(Key::ExtraRoots, format_args!("{} cannot be read: {error}", path.escape_debug()));
    std::fs::read(path).map_err(problem)
}

fn nameservers(in_force: &InForce) -> Result<Vec<SocketAddr>, Error> {
    let server = |text: &String| {
        let with_port = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)).or_else(|_| text.parse());
        let shown = text.escape_debug();
        with_port.ok().filter(|server: &SocketAddr| server.port() != 0).ok_or_else(|| {
            let wrong = format_args!("`{shown}` is no address, such as 10.0.0.2 or 10.0.0.2:5353");
            in_force.error(Key::Nameserver, wrong)
        })
    };
    in_force.list(Key::Nameserver).iter().map(server).collect()
}

fn proxy(in_force: &InForce) -> Result<Option<Proxy>, Error> {
    let Value::Secret(text) = &in_force.get(Key::Proxy).value else { return Ok(None) };
    let parsed = text.expose().parse::<Proxy>();
    // It may hold a password: the problem is named, not the text.
    parsed.map(Some).map_err(|invalid| in_force.error(Key::Proxy, invalid.problem()))
}

fn listen(in_force: &InForce) -> Result<SocketAddr, Error> {
    let text = in_force.text(Key::Listen).unwrap_or_default();
    let wrong = "must be an address and a port, such as 127.0.0.1:8071 or [::1]:8071";
    text.parse().map_err(|_| in_force.error(Key::Listen, wrong))
}

fn token(in_force: &InForce) -> Result<Option<Secret>, Error> {
    let (key, token) = match (&in_force.get(Key::Token).value, in_force.text(Key::TokenFile)) {
        (Value::Secret(token), _) => (Key::Token, token.clone()),
        (_, Some(path)) => {
            let secret = read_secret(Path::new(path));
            (Key::TokenFile, secret.map_err(|problem| in_force.error(Key::TokenFile, problem))?)
        }
        (_, None) => return Ok(None),
    };
    match token_problem(&token) {
        Some(problem) => Err(in_force.error(key, problem)),
        None => Ok(Some(token)),
    }
}

/// Where the keys come from that stored secrets are sealed under. A file is read when the store is opened.
fn keys(in_force: &InForce) -> Result<KeySource, Error> {
    match (&in_force.get(Key::SealingKeys).value, in_force.text(Key::SealingKeyFile)) {
        (Value::Secret(text), _) => {
            let keys = text.expose().parse();
            let wrong = |invalid: Invalid| in_force.error(Key::SealingKeys, invalid.problem());
            keys.map(KeySource::Given).map_err(wrong)
        }
        (_, Some(path)) => Ok(KeySource::File(path.into())),
        (_, None) => Ok(KeySource::Folder),
    }
}

/// Why a text is no operator's token, if it is none. It must stand in a header as it is, and not be guessable.
pub(crate) fn token_problem(token: &Secret) -> Option<&'static str> {
    let stands = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !token.expose().bytes().all(stands) {
        return Some("a token has letters, digits and -._~+/= alone");
    }
    if !TOKEN.contains(&token.expose().len()) {
        return Some("a token has 16 to 512 characters; `openssl rand -hex 32` makes a good one");
    }
    None
}

fn public_url(in_force: &InForce) -> Result<Option<String>, Error> {
    let Some(text) = in_force.text(Key::PublicUrl) else { return Ok(None) };
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(text).ok().filter(is_plain) {
        Some(_) => Ok(Some(text.trim_end_matches('/').to_owned())),
        None => Err(in_force.error(Key::PublicUrl, "must be a URL, such as https://webhooks.acme.example")),
    }
}

/// What may be logged, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(in_force: &InForce) -> Result<String, Error> {
    let text = in_force.text(Key::Log).unwrap_or_default();
    // A blank after a comma would be part of the name that follows.
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if let Some(problem) = parts.iter().find_map(|part| level_problem(part)) {
        return Err(in_force.error(Key::Log, problem));
    }
    let filter = parts.join(",");
    match EnvFilter::builder().parse(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => Err(in_force.error(Key::Log, "must be a filter, such as info, or warn,ringback=debug")),
    }
}

/// Why a part of the filter is none, if it is a single word. A filter takes any word for a target and then shows that
/// target alone, so that a misspelled level would end the log.
fn level_problem(part: &str) -> Option<String> {
    let is_target = part.contains(['=', '[']) || part.contains("::") || part.starts_with("ringback");
    if part.is_empty() || is_target || part.parse::<LevelFilter>().is_ok() {
        return None;
    }
    let shown = part.escape_debug();
    Some(match nearest(&part.to_ascii_lowercase(), LEVELS) {
        Some(meant) => format!("`{shown}` is no level; did you mean `{meant}`?"),
        None => format!("`{shown}` is no level: {}; a target has one, as in {shown}=info", LEVELS.join(", ")),
    })
}

fn log_format(in_force: &InForce) -> Result<LogFormat, Error> {
    match in_force.text(Key::LogFormat) {
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(_) | None => Err(in_force.error(Key::LogFormat, "must be text or json")),
    }
}

impl InForce {
    fn text(&self, key: Key) -> Option<&str> {
        match &self.get(key).value {
            Value::Text(text) => Some(text),
            Value::Absent | Value::Secret(_) | Value::Number(_) | Value::Switch(_) | Value::List(_) => None,
        }
    }

    fn number(&self, key: Key, range: RangeInclusive<u64>) -> Result<u64, Error> {
        let number = match self.get(key).value {
            Value::Number(number) => Some(number),
            Value::Absent | Value::Text(_) | Value::Secret(_) | Value::Switch(_) | Value::List(_) => None,
        };
        let wrong = || self.error(key, format_args!("must be between {} and {}", range.start(), range.end()));
        number.filter(|number| range.contains(number)).ok_or_else(wrong)
    }

    /// A number that need not be given.
    fn optional(&self, key: Key, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        match self.get(key).value {
            Value::Absent => Ok(None),
            Value::Number(_) | Value::Text(_) | Value::Secret(_) | Value::Switch(_) | Value::List(_) => {
                self.number(key, range).map(Some)
            }
        }
    }

    fn is_on(&self, key: Key) -> bool {
        self.get(key).value == Value::Switch(true)
    }

    fn list(&self, key: Key) -> &[String] {
        match &self.get(key).value {
            Value::List(items) => items,
            Value::Absent | Value::Text(_) | Value::Secret(_) | Value::Number(_) | Value::Switch(_) => &[],
        }
    }
}
