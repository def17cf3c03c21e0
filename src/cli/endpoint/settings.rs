//! The settings of an endpoint as arguments, for making one and for changing one.

use std::path::PathBuf;
use std::time::Duration;

use ringback::BlockedHead;
use serde_json::{Map, Value};

use crate::cli::arguments::{Header, Json, ProfileChoice, header_map, headers_of, pair};
use crate::cli::exit::Problem;
use crate::cli::times;

/// The members of the API's object that have a default to go back to.
pub(super) const RESETTABLE: [&str; 16] = [
    "uid",
    "profile",
    "eventTypes",
    "channels",
    "body",
    "timeoutMs",
    "retry",
    "maxInFlight",
    "throttleRate",
    "weight",
    "blockedHead",
    "autoDisable",
    "replayOnly",
    "headers",
    "description",
    "metadata",
];

/// What an endpoint has beside its URL. Only what is given is said to the server.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Settings {
    /// Your own id of it; it can stand wherever an endpoint's id does
    #[arg(long)]
    uid: Option<String>,
    /// How it is sent to: svix, standard-webhooks, levers, levrage, subverse, one of the server's, or @file.json
    /// [default of a new one: svix]
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileChoice>,
    /// Only events of this type, such as call.completed; can be given more than once [default: all]
    #[arg(long, value_name = "TYPE")]
    event_type: Vec<String>,
    /// Only events in one of these channels; can be given more than once [default: all]
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// How the body is built, in place of the profile's way: asGiven, envelope or superset
    #[arg(long, value_name = "MODE")]
    body: Option<String>,
    /// How long an attempt may take, in place of the profile's limit, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    timeout: Option<Duration>,
    /// When it is tried again, in place of the profile's schedule: JSON or @file.json, such as
    /// '{"delaysMs":[1000,5000],"jitter":0}'
    #[arg(long, value_name = "JSON")]
    retry: Option<Json>,
    /// How many requests may be on their way to it at once, 1 to 1,024 [default: the server's]
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u32>,
    /// How many requests a second it may get, retries too: 1 to 65,535 [default: any number]
    #[arg(long, value_name = "N")]
    throttle_rate: Option<u32>,
    /// How many turns it has where the application's other endpoints have one, when not all can: 1 to 100
    /// [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// What a message with an ordering key does to those behind it while it fails: wait, skip:3 (after 3 failed attempts
    /// they go on), or expire:10m (it gives up once it has failed for so long) [default: wait]
    #[arg(long, value_name = "RULE", value_parser = blocked_head)]
    blocked_head: Option<BlockedHead>,
    /// Whether it is disabled once it has done nothing but fail for long [default: true]
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    auto_disable: Option<bool>,
    /// It gets nothing but what is replayed to it
    #[arg(long)]
    replay_only: bool,
    /// A header of every request. Others on this machine can read an argument: use --headers-file for what is secret
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<Header>,
    /// The headers of every request from a file, one a line
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Whatever you want to keep with it; can be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl Settings {
    /// The members of the API's object, those that were given.
    pub(super) fn members(&self) -> Result<Map<String, Value>, Problem> {
        let mut headers = self.header.clone();
        if let Some(file) = &self.headers_file {
            headers.extend(headers_of(file)?);
        }
        let many = |values: &[String]| (!values.is_empty()).then(|| Value::from(values));
        let object = |pairs: Vec<(String, String)>| {
            let members: Map<String, Value> = pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
            (!members.is_empty()).then_some(Value::Object(members))
        };
        let timeout = self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let members = [
            ("uid", self.uid.as_deref().map(Value::from)),
            ("profile", self.profile.as_ref().map(ProfileChoice::value).transpose()?),
            ("eventTypes", many(&self.event_type)),
            ("channels", many(&self.channel)),
            ("body", self.body.as_deref().map(Value::from)),
            ("timeoutMs", timeout.map(Value::from)),
            ("retry", self.retry.as_ref().map(schedule).transpose()?),
            ("maxInFlight", self.max_in_flight.map(Value::from)),
            ("throttleRate", self.throttle_rate.map(Value::from)),
            ("weight", self.weight.map(Value::from)),
            ("blockedHead", self.blocked_head.map(|rule| serde_json::json!(rule))),
            ("autoDisable", self.auto_disable.map(Value::from)),
            ("replayOnly", self.replay_only.then(|| true.into())),
            ("headers", object(header_map(headers).into_iter().collect())),
            ("description", self.description.as_deref().map(Value::from)),
            ("metadata", object(self.metadata.clone())),
        ];
        Ok(members.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect())
    }
}

/// A rule as people write it.
fn blocked_head(text: &str) -> Result<BlockedHead, String> {
    let wrong = || format!("`{text}` is no rule, such as wait, skip:3 or expire:10m");
    match text.split_once(':') {
        None if text == "wait" => Ok(BlockedHead::Wait),
        Some(("skip", attempts)) => {
            let after_attempts = attempts.parse().map_err(|_| wrong())?;
            Ok(BlockedHead::Skip { after_attempts })
        }
        Some(("expire", after)) => {
            let after_seconds = times::duration(after).map_err(|_| wrong())?.as_secs();
            Ok(BlockedHead::Expire { after_seconds })
        }
        Some(_) | None => Err(wrong()),
    }
}

/// The server could only say that it expected something else.
fn schedule(given: &Json) -> Result<Value, Problem> {
    match given.value()? {
        object @ Value::Object(_) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Problem::usage("--retry must be an object such as {\"delaysMs\":[1000,5000],\"jitter\":0}"))
        }
    }
}
