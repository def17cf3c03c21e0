//! The settings of a [`Ringback`](crate::Ringback): plain data with defaults.

use std::path::PathBuf;
use std::time::Duration;

use std::net::SocketAddr;

use crate::application::{validate_throttle_rate, validate_uid};
use crate::egress::{Policy, Proxy};
use crate::id::ApplicationId;
use crate::invalid::Invalid;
use crate::keyring::Keyring;
use crate::retention::Retention;
use crate::store::MAX_OPEN_BYTES_PER_APPLICATION;

/// The longest that an endpoint may be made to rest.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// Where the keys come from that endpoints' signing keys and header values are sealed under in the store.
#[derive(Debug, Clone, Default)]
pub enum KeySource {
    /// The file `secrets.key` in [`Config::path`]. It is made by the first open, never where something is sealed already.
    #[default]
    Folder,
    /// The file at this path, in the form of [`KeyFile`](crate::KeyFile). Each open reads it; none makes it.
    File(PathBuf),
    /// These.
    Given(Keyring),
}

/// The settings of a [`Ringback`](crate::Ringback). Every limit that it keeps is named here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The store's folder. It is made if it is not there. Default: `ringback-data`.
    pub path: PathBuf,
    /// Where the keys come from that secrets are sealed under. Default: the file `secrets.key` in `path`.
    pub keys: KeySource,
    /// Which addresses may be called beyond public ones by https; [`set_egress`](crate::Ringback::set_egress) puts another
    /// policy in force later. Default: none.
    pub egress: Policy,
    /// Certificates of authorities to trust beside Mozilla's, for receivers inside the operator's network: PEM,
    /// one after the other. Default: none.
    pub extra_roots: Vec<u8>,
    /// The name servers that are asked for receivers' names, over UDP and TCP, in place of those that the machine is
    /// set to. An answer is waited for for 5 seconds in all. Default: none.
    pub nameservers: Vec<SocketAddr>,
    /// A proxy that all deliveries go through. The environment's (`HTTPS_PROXY` and the like) is never asked. While it
    /// cannot be reached, attempts fail as `unreachable` and are made again by the schedule. Default: none.
    pub proxy: Option<Proxy>,
    /// How long an endpoint may do nothing but fail before it is disabled: from 1 second. The operator is warned after
    /// half of it, and it is not disabled sooner than half of it after the warning. `None`: never. Default: 5 days.
    pub disable_after: Option<Duration>,
    /// An endpoint is not disabled before it has failed this often: from 1. Default: 10.
    pub disable_after_failures: u32,
    /// The uid of the application that the operator hears of endpoints and deliveries through: operational events are
    /// messages of it. It is made if it is not there. Default: none.
    pub operational_application: Option<String>,
    /// The largest payload, in bytes: at most 16 MiB. Default: 1 MiB.
    pub max_payload: usize,
    /// The most endpoints of an application. Default: 1,000.
    pub max_endpoints: usize,
    /// The most messages of one [`send_batch`](crate::Ringback::send_batch). Default: 1,000.
    pub max_batch: usize,
    /// The most replay jobs that get on at a time; the oldest of each application first, and
    /// further ones wait. Default: 8.
    pub max_running_replays: usize,
    /// The most requests on their way at once, in all. Default: 1,024.
    pub max_in_flight: usize,
    /// The most requests on their way to one endpoint, where it does not say otherwise: at most 1,024. Default: 64.
    pub max_in_flight_per_endpoint: u32,
    /// The most requests on their way to one scheme, host and port. Default: 256.
    pub max_in_flight_per_origin: u32,
    /// The most requests on their way to the endpoints of one application, where it does not say otherwise: from 1. Default:
    /// none; it is its share, a half of `max_in_flight` where there are other applications.
    pub max_in_flight_per_application: Option<u32>,
    /// How many requests a second all endpoints may get in all: 1 to 65,535. A tenth of that may go out at once. Default:
    /// no limit.
    pub throttle_rate: Option<u32>,
    /// After so many attempts in a row that failed in a way that speaks about the endpoint (a timeout, a network failure,
    /// 429, 500 and above), the endpoint rests; 0: never. Ten are more than one message has under any built-in schedule.
    /// Default: 10.
    pub breaker_failures: u32,
    /// How long an endpoint rests at first. Each rest that follows is twice as long as the one before; half of it is
    /// drawn at random. From 1 ms. Default: 5 seconds.
    pub breaker_rest: Duration,
    /// The longest rest, whether for failures or for a `Retry-After`: from `breaker_rest` to 24 hours. Default: 5 minutes.
    pub breaker_max_rest: Duration,
    /// The most attempts that have ended and are not on disk yet. Default: 8,192.
    pub max_unsettled: usize,
    /// How long an idempotency key is remembered. Default: 24 hours.
    pub idempotency_window: Duration,
    /// How long messages that were delivered everywhere are kept, with their attempts. Default: 30 days.
    pub keep_delivered: Duration,
    /// How long messages with a dead or canceled delivery are kept, with their attempts. Default: 90 days.
    pub keep_ended: Duration,
    /// How long payloads are kept, once all deliveries of their message have ended; the rest of the message stays. Default:
    /// as long as their message.
    pub keep_payloads: Option<Duration>,
    /// How long attempts are kept, with the bodies of their responses. Default: as long as their message.
    pub keep_attempts: Option<Duration>,
    /// Whether a payload goes as soon as its message is delivered everywhere. Default: no.
    pub delete_on_success: bool,
    /// How often retention looks for what it may remove. Default: 1 hour.
    pub prune_every: Duration,
    /// How long [`shutdown`](crate::Ringback::shutdown) lets requests on their way finish. Default: 30 seconds.
    pub shutdown_grace: Duration,
    /// Sends are refused while this many bytes of payload wait to be delivered. Default: 8 GiB.
    pub max_open_bytes: u64,
    /// A send is refused by itself that would take the payload waiting to be delivered in its own application beyond this
    /// many bytes, so that no application takes all the room. Default: 1 GiB.
    pub max_open_bytes_per_application: u64,
    /// Sends are refused while this many bytes of messages and attempts are kept. The folder takes up to six
    /// times as much. Default: 64 GiB.
    pub max_kept_bytes: u64,
    /// Sends are refused while less than this is free on the file system. Default: 256 MiB.
    pub min_free_bytes: u64,
    /// Fresh messages are kept in memory up to this many bytes. Default: 32 MiB.
    pub max_cached_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Config {
            path: "ringback-data".into(),
            keys: KeySource::default(),
            egress: Policy::default(),
            extra_roots: Vec::new(),
            nameservers: Vec::new(),
            proxy: None,
            disable_after: Some(DAY * 5),
            disable_after_failures: 10,
            operational_application: None,
            max_payload: 1 << 20,
            max_endpoints: 1_000,
            max_batch: 1_000,
            max_running_replays: 8,
            max_in_flight: 1_024,
            max_in_flight_per_endpoint: 64,
            max_in_flight_per_origin: 256,
            max_in_flight_per_application: None,
            throttle_rate: None,
            breaker_failures: 10,
            breaker_rest: Duration::from_secs(5),
            breaker_max_rest: Duration::from_secs(300),
            max_unsettled: 8_192,
            idempotency_window: DAY,
            keep_delivered: DAY * 30,
            keep_ended: DAY * 90,
            keep_payloads: None,
            keep_attempts: None,
            delete_on_success: false,
            prune_every: Duration::from_secs(3600),
            shutdown_grace: Duration::from_secs(30),
            max_open_bytes: 8 << 30,
            max_open_bytes_per_application: MAX_OPEN_BYTES_PER_APPLICATION,
            max_kept_bytes: 64 << 30,
            min_free_bytes: 256 << 20,
            max_cached_bytes: 32 << 20,
        }
    }
}

impl Config {
    /// The defaults, with the store in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Config { path: path.into(), ..Config::default() }
    }

    /// The server's own rule of retention.
    pub fn retention(&self) -> Retention {
        Retention {
            keep_delivered: Some(self.keep_delivered),
            keep_ended: Some(self.keep_ended),
            keep_payloads: self.keep_payloads,
            keep_attempts: self.keep_attempts,
            delete_on_success: Some(self.delete_on_success),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first field that is out of its range, by its name in camelCase.
    pub fn validate(&self) -> Result<(), Invalid> {
        let positive = [
            ("maxPayload", self.max_payload),
            ("maxEndpoints", self.max_endpoints),
            ("maxBatch", self.max_batch),
            ("maxRunningReplays", self.max_running_replays),
            ("maxInFlight", self.max_in_flight),
            ("maxInFlightPerEndpoint", self.max_in_flight_per_endpoint as usize),
            ("maxInFlightPerOrigin", self.max_in_flight_per_origin as usize),
            ("maxUnsettled", self.max_unsettled),
            ("disableAfterFailures", self.disable_after_failures as usize),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Invalid::new(field, "must be at least 1"));
        }
        if self.max_payload > 16 << 20 {
            return Err(Invalid::new("maxPayload", "must be at most 16 MiB"));
        }
        if self.max_in_flight_per_endpoint > 1024 {
            return Err(Invalid::new("maxInFlightPerEndpoint", "must be at most 1,024"));
        }
        if self.max_in_flight_per_application == Some(0) {
            return Err(Invalid::new("maxInFlightPerApplication", "must be at least 1"));
        }
        validate_throttle_rate(self.throttle_rate)?;
        if self.breaker_rest < Duration::from_millis(1) {
            return Err(Invalid::new(
                "breakerRest",
                "must be at least 1 millisecond; rests are turned off by `breaker_failures` = 0",
            ));
        }
        if self.breaker_max_rest > LONGEST_REST {
            return Err(Invalid::new("breakerMaxRest", "must be at most 24 hours"));
        }
        if self.breaker_max_rest < self.breaker_rest {
            return Err(Invalid::new("breakerMaxRest", "must not be shorter than the first rest (`breaker_rest`)"));
        }
        if self.disable_after.is_some_and(|after| after < Duration::from_secs(1)) {
            return Err(Invalid::new("disableAfter", "must be at least 1 second; without it, nothing is disabled"));
        }
        if let Err(invalid) = validate_uid(self.operational_application.as_deref(), ApplicationId::PREFIX) {
            return Err(Invalid::new("operationalApplication", invalid.problem().to_owned()));
        }
        if self.prune_every < Duration::from_millis(10) {
            return Err(Invalid::new("pruneEvery", "must be at least 10 milliseconds"));
        }
        let longest = self.keep_delivered.max(self.keep_ended);
        for (field, span) in [("keepPayloads", self.keep_payloads), ("keepAttempts", self.keep_attempts)] {
            if span.is_some_and(|span| span.is_zero() || span > longest) {
                return Err(Invalid::new(field, "must be more than 0, and not longer than the messages are kept"));
            }
        }
        if self.delete_on_success && self.keep_payloads.is_some() {
            let problem = "must not be set with `keep_payloads`: payloads either go at once, or after a time";
            return Err(Invalid::new("deleteOnSuccess", problem));
        }
        if self.nameservers.iter().any(|server| server.port() == 0) {
            return Err(Invalid::new("nameservers", "must have a port; name servers answer at 53"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn no_message_that_fails_alone_makes_its_endpoint_rest_under_any_built_in_schedule() {
        for name in Profile::BUILTIN {
            let attempts = Profile::builtin(name).unwrap().retry.retries() + 1;
            assert!(attempts < Config::default().breaker_failures as usize, "{name}");
        }
    }

    #[test]
    fn rests_that_contradict_each_other_are_refused() {
        let with = |rest, max_rest| Config {
            breaker_rest: Duration::from_millis(rest),
            breaker_max_rest: Duration::from_millis(max_rest),
            ..Config::default()
        };
        assert_eq!(with(0, 10).validate().unwrap_err().field(), "breakerRest");
        assert_eq!(with(11, 10).validate().unwrap_err().field(), "breakerMaxRest");
        assert_eq!(with(1, 86_400_001).validate().unwrap_err().field(), "breakerMaxRest");
        assert!(with(10, 10).validate().is_ok());
        let none = Config { max_in_flight_per_application: Some(0), ..Config::default() };
        assert_eq!(none.validate().unwrap_err().field(), "maxInFlightPerApplication");
        let none = Config { throttle_rate: Some(0), ..Config::default() };
        assert_eq!(none.validate().unwrap_err().field(), "throttleRate");
    }

    #[test]
    fn a_name_server_without_a_port_is_refused_and_not_asked_in_vain() {
        let with = |server: &str| Config { nameservers: vec![server.parse().unwrap()], ..Config::default() };
        assert_eq!(with("10.0.0.2:0").validate().unwrap_err().field(), "nameservers");
        assert!(with("10.0.0.2:53").validate().is_ok());
    }

    #[test]
    fn spans_of_payloads_and_attempts_are_not_longer_than_their_messages_are_kept() {
        const DAY: Duration = Duration::from_secs(86_400);
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().map_err(|invalid| invalid.field().to_owned())
        };
        assert_eq!(refused(|config| config.keep_payloads = Some(DAY * 91)), Err("keepPayloads".into()));
        assert_eq!(refused(|config| config.keep_attempts = Some(Duration::ZERO)), Err("keepAttempts".into()));
        let both = |config: &mut Config| (config.keep_payloads, config.delete_on_success) = (Some(DAY), true);
        assert_eq!(refused(both), Err("deleteOnSuccess".into()));
        assert_eq!(refused(|config| config.keep_payloads = Some(DAY * 90)), Ok(()));
    }
}
