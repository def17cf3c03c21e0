//! The table of settings: their names, kinds and defaults. File, environment, flags and help are read off it.

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Data,
    Listen,
    Token,
    TokenFile,
    SealingKeys,
    SealingKeyFile,
    PublicUrl,
    AllowNetwork,
    AllowMetadata,
    ExtraRoots,
    Nameserver,
    Proxy,
    Log,
    LogFormat,
    MaxConnections,
    ShutdownGraceSeconds,
    MaxPayload,
    MaxEndpoints,
    MaxRunningReplays,
    MaxInFlight,
    MaxInFlightPerEndpoint,
    MaxInFlightPerOrigin,
    MaxInFlightPerApplication,
    ThrottleRate,
    BreakerFailures,
    BreakerRestSeconds,
    BreakerMaxRestSeconds,
    MaxOpenBytes,
    MaxOpenBytesPerApplication,
    MaxKeptBytes,
    MinFreeBytes,
    IdempotencyWindowSeconds,
    KeepDeliveredDays,
    KeepEndedDays,
    KeepPayloadsDays,
    KeepAttemptsDays,
    DeleteOnSuccess,
    DisableAfterSeconds,
    DisableAfterFailures,
    OperationalApplication,
}

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// A text that no output shows, and that no flag sets: other users of the machine can read a command line.
    Secret,
    Number,
    Switch,
    /// In the environment with commas between the items; a flag is repeated.
    List,
}

/// What the table says of a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Its name in the file. A flag has `-` for `_`; the environment `RINGBACK_` and upper case.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What the help calls its value.
    pub(crate) value: &'static str,
    /// As it would stand in the environment.
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
}

const fn entry(
    name: &'static str,
    kind: Kind,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Entry {
    Entry { name, kind, value, default, help }
}

impl Key {
    pub(crate) const ALL: [Key; 40] = [
        Key::Data,
        Key::Listen,
        Key::Token,
        Key::TokenFile,
        Key::SealingKeys,
        Key::SealingKeyFile,
        Key::PublicUrl,
        Key::AllowNetwork,
        Key::AllowMetadata,
        Key::ExtraRoots,
        Key::Nameserver,
        Key::Proxy,
        Key::Log,
        Key::LogFormat,
        Key::MaxConnections,
        Key::ShutdownGraceSeconds,
        Key::MaxPayload,
        Key::MaxEndpoints,
        Key::MaxRunningReplays,
        Key::MaxInFlight,
        Key::MaxInFlightPerEndpoint,
        Key::MaxInFlightPerOrigin,
        Key::MaxInFlightPerApplication,
        Key::ThrottleRate,
        Key::BreakerFailures,
        Key::BreakerRestSeconds,
        Key::BreakerMaxRestSeconds,
        Key::MaxOpenBytes,
        Key::MaxOpenBytesPerApplication,
        Key::MaxKeptBytes,
        Key::MinFreeBytes,
        Key::IdempotencyWindowSeconds,
        Key::KeepDeliveredDays,
        Key::KeepEndedDays,
        Key::KeepPayloadsDays,
        Key::KeepAttemptsDays,
        Key::DeleteOnSuccess,
        Key::DisableAfterSeconds,
        Key::DisableAfterFailures,
        Key::OperationalApplication,
    ];

    /// What the table says of it. The limits' defaults are those of `ringback::Config`.
    pub(crate) fn entry(self) -> Entry {
        use Kind::{List, Number, Secret, Switch, Text};
        match self {
            Key::Data => entry("data", Text, "FOLDER", Some("./ringback-data"), "Where everything is kept"),
            Key::Listen => entry("listen", Text, "ADDRESS:PORT", Some("127.0.0.1:8071"), "Where the API answers"),
            Key::Token => entry(
                "token",
                Secret,
                "TOKEN",
                None,
                "The operator's token; without one, `operator.token` in the data folder holds it",
            ),
            Key::TokenFile => entry(
                "token_file",
                Text,
                "FILE",
                None,
                "A file that holds the operator's token, if RINGBACK_TOKEN does not",
            ),
            Key::SealingKeys => entry(
                "key",
                Secret,
                "ID:KEY",
                None,
                "The keys that stored secrets are sealed under; without any, `secrets.key` in the data folder holds them",
            ),
            Key::SealingKeyFile => entry(
                "key_file",
                Text,
                "FILE",
                None,
                "A file that holds the keys that stored secrets are sealed under, if RINGBACK_KEY does not",
            ),
            Key::PublicUrl => entry("public_url", Text, "URL", None, "Where clients reach the API from outside"),
            Key::AllowNetwork => entry(
                "allow_network",
                List,
                "NETWORK",
                None,
                "A network that may be called although it is private, such as 10.0.0.0/8 or 10.0.0.0/8:8080",
            ),
            Key::AllowMetadata => entry(
                "allow_metadata",
                Switch,
                "BOOL",
                Some("false"),
                "Whether allowed networks open a cloud's metadata addresses, too",
            ),
            Key::ExtraRoots => {
                entry("extra_roots", Text, "FILE", None, "Certificates to trust beside Mozilla's, as PEM")
            }
            Key::Nameserver => entry(
                "nameserver",
                List,
                "ADDRESS",
                None,
                "A name server to ask for receivers' names in place of the machine's, such as 10.0.0.2 or 10.0.0.2:5353",
            ),
            Key::Proxy => entry(
                "proxy",
                Secret,
                "URL",
                None,
                "A proxy that all deliveries go through, such as http://user:password@proxy.acme.example:3128",
            ),
            Key::Log => entry("log", Text, "FILTER", Some("info"), "What to log, such as debug or ringback=debug"),
            Key::LogFormat => entry("log_format", Text, "FORMAT", Some("text"), "text or json"),
            Key::MaxConnections => {
                entry("max_connections", Number, "COUNT", Some("1024"), "The most connections to the API at once")
            }
            Key::ShutdownGraceSeconds => entry(
                "shutdown_grace_seconds",
                Number,
                "SECONDS",
                Some("30"),
                "How long a stop waits for requests and deliveries that are on their way",
            ),
            Key::MaxPayload => entry("max_payload", Number, "BYTES", Some("1048576"), "The largest payload"),
            Key::MaxEndpoints => {
                entry("max_endpoints", Number, "COUNT", Some("1000"), "The most endpoints of an application")
            }
            Key::MaxRunningReplays => {
                entry("max_running_replays", Number, "COUNT", Some("8"), "The most replay jobs that get on at a time")
            }
            Key::MaxInFlight => entry("max_in_flight", Number, "COUNT", Some("1024"), "The most deliveries at once"),
            Key::MaxInFlightPerEndpoint => entry(
                "max_in_flight_per_endpoint",
                Number,
                "COUNT",
                Some("64"),
                "The most deliveries at once to an endpoint that does not say otherwise",
            ),
            Key::MaxInFlightPerOrigin => entry(
                "max_in_flight_per_origin",
                Number,
                "COUNT",
                Some("256"),
                "The most deliveries at once to one scheme, host and port",
            ),
            Key::MaxInFlightPerApplication => entry(
                "max_in_flight_per_application",
                Number,
                "COUNT",
                None,
                "The most deliveries at once to the endpoints of an application that does not say otherwise",
            ),
            Key::ThrottleRate => {
                entry("throttle_rate", Number, "COUNT", None, "The most attempts a second, to all endpoints together")
            }
            Key::BreakerFailures => entry(
                "breaker_failures",
                Number,
                "COUNT",
                Some("10"),
                "An endpoint rests after so many failures in a row; 0 turns this off",
            ),
            Key::BreakerRestSeconds => entry(
                "breaker_rest_seconds",
                Number,
                "SECONDS",
                Some("5"),
                "How long an endpoint rests at first; each rest that follows is twice as long",
            ),
            Key::BreakerMaxRestSeconds => {
                entry("breaker_max_rest_seconds", Number, "SECONDS", Some("300"), "The longest rest of an endpoint")
            }
            Key::MaxOpenBytes => entry(
                "max_open_bytes",
                Number,
                "BYTES",
                Some("8589934592"),
                "Sends are refused while this much payload waits",
            ),
            Key::MaxOpenBytesPerApplication => entry(
                "max_open_bytes_per_application",
                Number,
                "BYTES",
                Some("1073741824"),
                "An application's sends are refused while this much payload of its own waits",
            ),
            Key::MaxKeptBytes => entry(
                "max_kept_bytes",
                Number,
                "BYTES",
                Some("68719476736"),
                "Sends are refused while this much is kept",
            ),
            Key::MinFreeBytes => entry(
                "min_free_bytes",
                Number,
                "BYTES",
                Some("268435456"),
                "Sends are refused while less is free on the disk",
            ),
            Key::IdempotencyWindowSeconds => entry(
                "idempotency_window_seconds",
                Number,
                "SECONDS",
                Some("86400"),
                "How long an idempotency key is remembered",
            ),
            Key::KeepDeliveredDays => entry(
                "keep_delivered_days",
                Number,
                "DAYS",
                Some("30"),
                "How long messages that were delivered everywhere are kept",
            ),
            Key::KeepEndedDays => entry(
                "keep_ended_days",
                Number,
                "DAYS",
                Some("90"),
                "How long messages with a dead or canceled delivery are kept",
            ),
            Key::KeepPayloadsDays => entry(
                "keep_payloads_days",
                Number,
                "DAYS",
                None,
                "How long payloads are kept, if less than their message",
            ),
            Key::KeepAttemptsDays => entry(
                "keep_attempts_days",
                Number,
                "DAYS",
                None,
                "How long attempts are kept, if less than their message",
            ),
            Key::DeleteOnSuccess => entry(
                "delete_on_success",
                Switch,
                "BOOL",
                Some("false"),
                "Whether a payload goes as soon as it is delivered everywhere",
            ),
            Key::DisableAfterSeconds => entry(
                "disable_after_seconds",
                Number,
                "SECONDS",
                Some("432000"),
                "An endpoint that does nothing but fail for so long is disabled; 0 disables none",
            ),
            Key::DisableAfterFailures => {
                entry("disable_after_failures", Number, "COUNT", Some("10"), "And not before it has failed this often")
            }
            Key::OperationalApplication => entry(
                "operational_application",
                Text,
                "UID",
                None,
                "The application that is told what happens to endpoints and deliveries; it is made if it is missing",
            ),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    /// The environment's variable.
    pub(crate) fn variable(self) -> String {
        format!("RINGBACK_{}", self.name().to_ascii_uppercase())
    }

    /// The flag, without its dashes; `None` if it has none.
    pub(crate) fn flag(self) -> Option<String> {
        (self.entry().kind != Kind::Secret).then(|| self.name().replace('_', "-"))
    }

    /// The setting of this name.
    pub(crate) fn named(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// What was probably meant by a word that is none of these.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let allowed = (word.len() / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed, changed or swapped with their neighbour to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // Row by row of the table: `rows[i][j]` is the distance between the first `i` and the first `j` letters.
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_once_in_the_list_of_all() {
        let names: std::collections::BTreeSet<_> = Key::ALL.iter().map(|key| key.name()).collect();
        assert_eq!(names.len(), Key::ALL.len());
        assert_eq!(Key::named("max_payload"), Some(Key::MaxPayload));
        assert_eq!(Key::MaxPayload.variable(), "RINGBACK_MAX_PAYLOAD");
        assert_eq!(Key::MaxPayload.flag().as_deref(), Some("max-payload"));
    }

    #[test]
    fn no_flag_takes_a_secret() {
        assert_eq!((Key::Token.flag(), Key::SealingKeys.flag()), (None, None));
    }

    #[test]
    fn a_typo_finds_the_name_that_was_meant_and_nonsense_finds_none() {
        let names = || Key::ALL.map(Key::name);
        assert_eq!(nearest("max_paylod", names()), Some("max_payload"));
        assert_eq!(nearest("lissten", names()), Some("listen"));
        assert_eq!(nearest("max_inflight", names()), Some("max_in_flight"));
        assert_eq!(nearest("dtaa", names()), Some("data"));
        assert_eq!(nearest("databases_of_mine", names()), None);
    }
}
