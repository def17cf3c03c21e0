//! The API's answers, as far as people are shown them. Programs get the server's own JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Query;
use super::endpoint::health::Health;
use super::exit::Problem;
use super::target::Session;

/// An answer: what the server wrote, and what of it people are shown.
#[derive(Debug)]
pub(super) struct Record<T> {
    /// As it was written.
    pub(super) raw: Box<RawValue>,
    /// As it is shown.
    pub(super) value: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Record { raw, value })
    }
}

/// One page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    /// Its items.
    pub(super) data: Vec<Record<T>>,
    /// Where the next page begins.
    pub(super) iterator: Option<String>,
    /// Whether this was the last page.
    #[serde(default)]
    pub(super) done: bool,
}

/// The most items of one page.
const PAGE: usize = 250;

/// The first items of a list, and whether there are more.
pub(super) async fn list<T: DeserializeOwned>(
    session: &Session,
    path: &[&str],
    query: &Query,
    most: usize,
) -> Result<(Vec<Record<T>>, bool), Problem> {
    let mut items = Vec::new();
    let mut iterator = None;
    loop {
        let mut query = query.clone();
        query.push(("limit", PAGE.min(most - items.len()).to_string()));
        query.extend(iterator.take().map(|iterator| ("iterator", iterator)));
        let page: Page<T> = session.api.get(path, &query).await?;
        let empty = page.data.is_empty();
        items.extend(page.data);
        if page.done || empty || page.iterator.is_none() {
            return Ok((items, false));
        }
        if items.len() >= most {
            return Ok((items, true));
        }
        iterator = page.iterator;
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) uid: Option<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) throttle_rate: Option<u32>,
    pub(super) max_in_flight: Option<u32>,
    pub(super) weight: Option<u32>,
    #[serde(default)]
    pub(super) retention: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) created_at: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) uid: Option<String>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) disabled: bool,
    pub(super) disabled_since: Option<String>,
    pub(super) disabled_reason: Option<String>,
    pub(super) event_types: Option<Vec<String>>,
    pub(super) channels: Option<Vec<String>>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) profile: Value,
    pub(super) body: Option<String>,
    pub(super) timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) retry: Value,
    pub(super) max_in_flight: Option<u32>,
    pub(super) throttle_rate: Option<u32>,
    pub(super) weight: Option<u32>,
    pub(super) auto_disable: Option<bool>,
    #[serde(default)]
    pub(super) replay_only: bool,
    #[serde(default)]
    pub(super) blocked_head: Value,
    #[serde(default)]
    pub(super) created_at: String,
}

impl Endpoint {
    /// The profile's name, for one that the endpoint has to itself, too.
    pub(super) fn profile_name(&self) -> &str {
        self.profile.as_str().or_else(|| self.profile["name"].as_str()).unwrap_or_default()
    }

    /// How many requests it may get, if there is a limit.
    pub(super) fn throttle(&self) -> String {
        self.throttle_rate.map(|rate| format!("{rate} a second")).unwrap_or_default()
    }

    /// Whether it takes events, and if not, since when and why.
    pub(super) fn state(&self) -> String {
        if !self.disabled {
            return "enabled".to_owned();
        }
        let why = match self.disabled_reason.as_deref() {
            Some("requested") | None => "",
            Some("failing") => ": it did nothing but fail",
            Some("gone") => ": its receiver is gone (410)",
            Some("askedByReceiver") => ": its receiver asked for it",
            Some(other) => &format!(": {other}"),
        };
        match &self.disabled_since {
            Some(since) => format!("disabled since {since}{why}"),
            None => format!("disabled{why}"),
        }
    }

    /// Which events it wants.
    pub(super) fn wants(&self) -> String {
        if self.replay_only {
            return "replays only".to_owned();
        }
        let types = self.event_types.as_deref().unwrap_or_default();
        let channels = self.channels.as_deref().unwrap_or_default();
        let types = if types.is_empty() { "all".to_owned() } else { types.join(" ") };
        if channels.is_empty() { types } else { format!("{types} in {}", channels.join(" ")) }
    }
}

/// What people call the endpoints of an application: their uids, where they have one.
#[derive(Debug, Default)]
pub(super) struct EndpointNames(BTreeMap<String, String>);

impl EndpointNames {
    /// The names of all of them.
    pub(super) async fn of(session: &Session, app: &str) -> Result<EndpointNames, Problem> {
        let (endpoints, _) = list::<Endpoint>(session, &["app", app, "endpoint"], &Vec::new(), usize::MAX).await?;
        let names = endpoints.into_iter().map(|Record { value, .. }| {
            let name = value.uid.unwrap_or_else(|| value.id.clone());
            (value.id, name)
        });
        Ok(EndpointNames(names.collect()))
    }

    /// Asks again if this one is unknown: it may have been made meanwhile. One that is gone is not asked for twice.
    pub(super) async fn learn(&mut self, session: &Session, app: &str, id: &str) -> Result<(), Problem> {
        if !self.0.contains_key(id) {
            self.0.extend(EndpointNames::of(session, app).await?.0);
            self.0.entry(id.to_owned()).or_insert_with(|| id.to_owned());
        }
        Ok(())
    }

    /// Its name, or else its id: it may have been deleted.
    pub(super) fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventType {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) archived: bool,
    #[serde(default)]
    pub(super) deprecated: bool,
    #[serde(default)]
    pub(super) retention: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) event_type: String,
    pub(super) event_id: Option<String>,
    pub(super) channels: Option<Vec<String>>,
    pub(super) payload: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) timestamp: String,
    pub(super) occurred_at: Option<String>,
    #[serde(default)]
    pub(super) routing: Value,
    #[serde(default)]
    pub(super) test: bool,
    #[serde(default)]
    pub(super) expunged: bool,
    pub(super) ordering_key: Option<String>,
    pub(super) deliver_at: Option<String>,
    pub(super) expire_at: Option<String>,
    pub(super) tags: Option<Vec<String>>,
}

impl Message {
    /// Where it went, or why nowhere.
    pub(super) fn went(&self) -> String {
        if let Some(to) = self.routing["to"].as_array() {
            return match to.len() {
                1 => "to 1 endpoint".to_owned(),
                count => format!("to {count} endpoints"),
            };
        }
        match self.routing["nowhere"].as_str() {
            Some("noEndpoints") => "nowhere: the application has no endpoints".to_owned(),
            Some("allDisabled") => "nowhere: every endpoint is disabled".to_owned(),
            Some("eventTypeNotWanted") => "nowhere: no endpoint wants this event type".to_owned(),
            Some("channelsNotWanted") => "nowhere: no endpoint wants one of its channels".to_owned(),
            Some(other) => format!("nowhere: {other}"),
            None => "not routed yet".to_owned(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) id: String,
    pub(super) msg_id: String,
    pub(super) endpoint_id: String,
    #[serde(default)]
    pub(super) response: String,
    #[serde(default)]
    pub(super) response_status_code: i64,
    #[serde(default)]
    pub(super) response_duration_ms: u64,
    #[serde(default)]
    pub(super) timestamp: String,
    #[serde(default)]
    pub(super) number: u32,
    #[serde(default)]
    pub(super) round: u32,
    #[serde(default)]
    pub(super) trigger: String,
    #[serde(default)]
    pub(super) result: String,
    pub(super) failure: Option<String>,
    pub(super) hint: Option<String>,
    #[serde(default)]
    pub(super) truncated: bool,
    /// Of its message, if that was asked for.
    pub(super) msg: Option<AttemptedMessage>,
}

/// What of an attempt's message is shown beside it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttemptedMessage {
    pub(super) event_type: String,
}

impl Attempt {
    /// The status, or what happened in its place.
    pub(super) fn outcome(&self) -> String {
        match &self.failure {
            Some(failure) => failure.clone(),
            None => self.response_status_code.to_string(),
        }
    }

    /// How long it took.
    pub(super) fn took(&self) -> Duration {
        Duration::from_millis(self.response_duration_ms)
    }
}

/// How a message stands at an endpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destination {
    pub(super) id: String,
    pub(super) uid: Option<String>,
    #[serde(default)]
    pub(super) url: String,
    #[serde(default)]
    pub(super) state: State,
    pub(super) next_attempt: Option<String>,
    #[serde(default)]
    pub(super) attempts: u32,
    #[serde(default)]
    pub(super) round: u32,
    pub(super) health: Option<Health>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct State {
    pub(super) state: String,
    pub(super) at: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) behind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplayJob {
    pub(super) id: String,
    pub(super) endpoint_id: Option<String>,
    #[serde(default)]
    pub(super) what: String,
    pub(super) to_endpoint_id: Option<String>,
    pub(super) status: String,
    #[serde(default)]
    pub(super) total: u64,
    #[serde(default)]
    pub(super) replayed: u64,
    #[serde(default)]
    pub(super) skipped: u64,
    #[serde(default)]
    pub(super) skips: ReplaySkips,
    pub(super) remaining_seconds: Option<u64>,
    #[serde(default)]
    pub(super) created_at: String,
}

/// How many deliveries a job has left as they were, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReplaySkips {
    pub(super) closed: u64,
    pub(super) expunged: u64,
    pub(super) under_way: u64,
    pub(super) gone: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_the_server_wrote() {
        let page: Page<Message> = serde_json::from_str(
            r#"{"data":[{"id":"msg_1","eventType":"a.b","payload":{"b":1.0,"a":1}}],"iterator":null,"done":true}"#,
        )
        .unwrap();
        assert_eq!(page.data[0].raw.get(), r#"{"id":"msg_1","eventType":"a.b","payload":{"b":1.0,"a":1}}"#);
        assert_eq!(page.data[0].value.payload.as_ref().unwrap().get(), r#"{"b":1.0,"a":1}"#);
        assert_eq!(page.data[0].value.went(), "not routed yet");
    }
}
