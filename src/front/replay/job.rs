//! Replay jobs as values: what a job is to replay, how it stands, and its stored form.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::DeliveryId;
use crate::id::{ApplicationId, EndpointId, JobId, MessageId};
use crate::invalid::Invalid;
use crate::message::{validate_channel, validate_event_type, validate_wanted_tag};
use crate::store::{MessageQuery, Order, Put};
use crate::time::Timestamp;

use super::super::records;
use super::pace::Pace;

/// The highest rate of a replay job, in deliveries a second.
pub const MAX_RATE: u32 = 10_000;
/// The most event types that a job asks for.
pub const MAX_EVENT_TYPES: usize = 200;

/// Which deliveries a job takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplayWhat {
    /// Those that failed: dead letters, and those that were canceled because their endpoint was disabled.
    #[default]
    Failed,
    /// Dead letters alone.
    Dead,
    /// Those that were canceled, whoever did it.
    Canceled,
    /// Those that arrived.
    Delivered,
    /// Every one, delivered or not. One that still waits or is being attempted is left to its round.
    All,
    /// Those that there are not: messages that the endpoint's filters take and that it never had a delivery of, because
    /// they are older than the endpoint, or than its filters, or were sent while it was disabled. Messages that were
    /// sent as a test to another endpoint are none of these.
    Missing,
}

/// What of an application a job replays: the messages, and which of their deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayFilter {
    /// Which deliveries.
    #[serde(default)]
    pub what: ReplayWhat,
    /// Those to this endpoint. Default: all. [`ReplayWhat::Missing`] needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
    /// Whose message was accepted at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whose message was accepted before this time. Default: the job's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whose message is of one of these event types, each exact or ending in `.*`: at most 200. Empty: of any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Whose message has this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Whose message has this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl ReplayFilter {
    /// Checks what needs no look at the application.
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.what == ReplayWhat::Missing && self.endpoint.is_none() {
            return Err(Invalid::new("endpoint", "is needed: what is missing is missing somewhere"));
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Invalid::new("since", "must be before until"));
        }
        if self.event_types.len() > MAX_EVENT_TYPES {
            return Err(Invalid::new("eventTypes", "has at most 200 event types"));
        }
        for name in &self.event_types {
            validate_event_type("eventTypes", name.strip_suffix(".*").unwrap_or(name))?;
        }
        if let Some(channel) = &self.channel {
            validate_channel(channel).map_err(|invalid| Invalid::new("channel", invalid.problem().to_owned()))?;
        }
        self.tag.as_deref().map_or(Ok(()), validate_wanted_tag)
    }

    /// The messages that it may be about, from the oldest on: at most so many are looked at.
    pub(super) fn query(&self, after: Option<MessageId>, limit: usize) -> MessageQuery {
        // What is missing somewhere was not routed there.
        let endpoint = self.endpoint.filter(|_| self.what != ReplayWhat::Missing);
        MessageQuery {
            since: self.since,
            until: self.until,
            event_types: self.event_types.clone(),
            channel: self.channel.clone(),
            tag: self.tag.clone(),
            endpoint,
            order: Order::OldestFirst,
            after,
            limit,
            ..MessageQuery::default()
        }
    }
}

/// Where a job sends what it takes up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReplayTo {
    /// Where it was to go.
    #[default]
    Itself,
    /// To another endpoint of the application, whatever its filters. It gets each message once, as a delivery of its own.
    Endpoint(EndpointId),
    /// To this URL: an endpoint is made for it, with the profile, the keys and the headers of the filter's `endpoint`, and
    /// it gets nothing but replays ([`EndpointSettings::replay_only`](crate::EndpointSettings::replay_only)).
    Url(String),
}

/// A replay job to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReplay {
    /// What it replays.
    pub filter: ReplayFilter,
    /// Where to. Default: where it was to go.
    pub to: ReplayTo,
    /// Deliveries a second: 1 to 10,000, kept over any second. Default: 100.
    pub rate: u32,
}

impl From<ReplayFilter> for NewReplay {
    fn from(filter: ReplayFilter) -> Self {
        NewReplay { filter, to: ReplayTo::Itself, rate: 100 }
    }
}

impl NewReplay {
    /// So many deliveries a second.
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// To another endpoint of the application.
    pub fn to(mut self, endpoint: EndpointId) -> Self {
        self.to = ReplayTo::Endpoint(endpoint);
        self
    }

    /// To a URL of its own.
    pub fn to_url(mut self, url: impl Into<String>) -> Self {
        self.to = ReplayTo::Url(url.into());
        self
    }
}

/// What a job would replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayPreview {
    /// How many deliveries, as they stand now.
    pub count: u64,
    /// How many of them are of a message whose payload was expunged: they would be skipped.
    pub expunged: u64,
}

/// Why a job has skipped deliveries, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReplaySkips {
    /// Their endpoint takes nothing: it is disabled or deleted.
    pub closed: u64,
    /// Their message's payload was expunged.
    pub expunged: u64,
    /// They wait or are being attempted already.
    pub under_way: u64,
    /// Retention has removed their message meanwhile.
    pub gone: u64,
}

/// Why a job skips a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Closed,
    Expunged,
    UnderWay,
    Gone,
}

/// A replay of many deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReplayJob {
    /// Its id.
    pub id: JobId,
    /// The application.
    pub application: ApplicationId,
    /// What it replays. `until` is its start at the latest.
    pub filter: ReplayFilter,
    /// The endpoint that it sends to, if not to those that the messages were for.
    #[serde(default)]
    pub to: Option<EndpointId>,
    /// Deliveries a second.
    pub rate: u32,
    /// How it stands.
    pub status: JobStatus,
    /// How many deliveries there were to replay when it began.
    pub total: u64,
    /// How many messages it has dealt with, of those that its filter lets through.
    #[serde(default)]
    pub looked_at: u64,
    /// How many deliveries it has taken up (one that was replayed by hand meanwhile counts, too).
    pub replayed: u64,
    /// How many it has left as they were.
    pub skipped: u64,
    /// And why.
    #[serde(default)]
    pub skips: ReplaySkips,
    /// Of a job that an older version began: the last dead letter that it had dealt with, by endpoint and message.
    after: Option<(EndpointId, MessageId)>,
    /// The last message that it has dealt with.
    #[serde(default)]
    done: Option<MessageId>,
    /// The message that it is in the middle of, and how many places of its routing it has dealt with.
    #[serde(default)]
    within: Option<(MessageId, usize)>,
    /// How often it has taken up something, and when it may again.
    #[serde(default)]
    slot: u32,
    #[serde(default)]
    next_at: Timestamp,
    /// Whether the operator need not hear of its end (any more).
    #[serde(default = "yes")]
    pub(in super::super) told: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last got on.
    pub updated_at: Timestamp,
}

/// Jobs of before there was somebody to hear of them are nothing new.
const fn yes() -> bool {
    true
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStatus {
    /// It goes on, also after a restart; behind older jobs of its application if there are more than
    /// `Config::max_running_replays`.
    Running,
    /// It rests until it is resumed.
    Paused,
    /// It has dealt with all there was.
    Finished,
    /// It was stopped.
    Stopped,
}

impl JobStatus {
    /// Whether there is nothing more to come.
    pub fn has_ended(self) -> bool {
        match self {
            JobStatus::Running | JobStatus::Paused => false,
            JobStatus::Finished | JobStatus::Stopped => true,
        }
    }
}

impl ReplayJob {
    pub(super) fn new(id: JobId, application: ApplicationId, new: (ReplayFilter, Option<EndpointId>, u32)) -> Self {
        let (filter, to, rate) = new;
        let now = id.time();
        ReplayJob {
            id,
            application,
            filter,
            to,
            rate,
            status: JobStatus::Running,
            total: 0,
            looked_at: 0,
            replayed: 0,
            skipped: 0,
            skips: ReplaySkips::default(),
            after: None,
            done: None,
            within: None,
            told: true,
            slot: 0,
            next_at: Timestamp::ZERO,
            created_at: now,
            updated_at: now,
        }
    }

    /// How long it takes at least from now on, by its rate; `None` unless it is running.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.replayed + self.skipped);
        match self.status {
            JobStatus::Running => Some(Duration::from_secs_f64(left as f64 / f64::from(self.rate.max(1)))),
            JobStatus::Paused | JobStatus::Finished | JobStatus::Stopped => None,
        }
    }

    fn pace(&self) -> Pace {
        Pace::of(self.rate, self.to.is_some() || self.filter.what == ReplayWhat::Missing)
    }

    /// How many deliveries it may take up at its next turn.
    pub(super) fn slot_size(&self) -> usize {
        self.pace().size(self.slot)
    }

    /// When it has its next turn.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// It takes up so many.
    pub(super) fn take_up(&mut self, deliveries: usize, now: Timestamp) {
        if deliveries > 0 {
            self.replayed += deliveries as u64;
            self.slot = self.slot.wrapping_add(1);
            self.next_at = now + self.pace().length();
        }
    }

    pub(super) fn skip(&mut self, why: Why) {
        self.skipped += 1;
        *match why {
            Why::Closed => &mut self.skips.closed,
            Why::Expunged => &mut self.skips.expunged,
            Why::UnderWay => &mut self.skips.under_way,
            Why::Gone => &mut self.skips.gone,
        } += 1;
    }

    /// Where its walk goes on.
    pub(super) fn walked_to(&self) -> Option<MessageId> {
        self.done
    }

    /// It is through with all messages up to this one, the others that its filter leaves out included.
    pub(super) fn walk_to(&mut self, message: MessageId) {
        (self.done, self.within) = (Some(message), None);
    }

    /// It has dealt with a message of its filter.
    pub(super) fn deal_with(&mut self, message: MessageId) {
        self.looked_at += 1;
        self.walk_to(message);
    }

    /// It stops in the middle of a message, in front of this place of its routing.
    pub(super) fn stop_within(&mut self, message: MessageId, place: usize) {
        self.within = Some((message, place));
    }

    /// Whether it has dealt with the delivery at this place of its message's routing.
    pub(super) fn has_dealt_with(&self, id: DeliveryId, place: usize) -> bool {
        let within = self.within.is_some_and(|(message, done)| message == id.message && place < done);
        within || self.after.is_some_and(|after| (id.lane.endpoint, id.message) <= after)
    }

    /// The job as it is stored.
    pub(in super::super) fn put(&self, expected: u64) -> Put {
        let value = serde_json::to_vec(self).expect("a job is plain data");
        Put { key: records::job_key(self.id), expected, active: true, value: Some(value.into()) }
    }

    /// A job from its stored form, an older version's too; `None` if it is none.
    pub(in super::super) fn read(stored: &[u8]) -> Option<ReplayJob> {
        let mut value: Value = serde_json::from_slice(stored).ok()?;
        let filter = value.get_mut("filter")?.as_object_mut()?;
        // Before there was a choice, jobs were about dead letters alone.
        filter.entry("what").or_insert_with(|| "dead".into());
        serde_json::from_value(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it was written before jobs had a choice, in the middle of its way.
    const OLD: &str = r#"{"id":"JOB","application":"APP","filter":{"until":"2027-01-15T08:00:00.001Z"},"rate":50,
        "status":"running","total":7,"replayed":2,"skipped":1,"after":["EP","MSG"],
        "createdAt":"2027-01-15T08:00:00Z","updatedAt":"2027-01-15T08:00:01Z"}"#;

    #[test]
    fn a_job_of_an_older_version_is_read_and_goes_on_with_dead_letters_behind_its_last_one() {
        let time = Timestamp::from_millis(1_800_000_000_000);
        let endpoint = |number| EndpointId::from_parts(time, number);
        let message = |number| MessageId::from_parts(time, number);
        let application = ApplicationId::from_parts(time, 1);
        let text = OLD
            .replace("JOB", &JobId::from_parts(time, 1).to_string())
            .replace("APP", &application.to_string())
            .replace("EP", &endpoint(5).to_string())
            .replace("MSG", &message(5).to_string());
        let job = ReplayJob::read(text.as_bytes()).unwrap();
        assert_eq!(
            (job.filter.what, job.status, job.total, job.replayed),
            (ReplayWhat::Dead, JobStatus::Running, 7, 2)
        );
        assert_eq!((job.walked_to(), job.to, job.next_at()), (None, None, Timestamp::ZERO));
        let lane = |number| crate::delivery::Lane { application, endpoint: endpoint(number) };
        for (of, message, done) in
            [(4, message(9), true), (5, message(5), true), (5, message(6), false), (6, message(1), false)]
        {
            assert_eq!(job.has_dealt_with(DeliveryId { lane: lane(of), message }, 0), done, "{of}");
        }
        let again = ReplayJob::read(&job.put(1).value.unwrap()).unwrap();
        assert_eq!(again, job);
        assert_eq!(ReplayJob::read(b"{}"), None);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_its_field() {
        let at = Timestamp::from_millis;
        let filter = ReplayFilter::default;
        let many = vec!["a".to_owned(); MAX_EVENT_TYPES + 1];
        for (filter, field) in [
            (ReplayFilter { what: ReplayWhat::Missing, ..filter() }, "endpoint"),
            (ReplayFilter { since: Some(at(2)), until: Some(at(2)), ..filter() }, "since"),
            (ReplayFilter { event_types: vec!["a..b".into()], ..filter() }, "eventTypes"),
            (ReplayFilter { event_types: many, ..filter() }, "eventTypes"),
            (ReplayFilter { channel: Some("no channel".into()), ..filter() }, "channel"),
        ] {
            assert_eq!(filter.validate().unwrap_err().field(), field, "{filter:?}");
        }
        assert_eq!(ReplayFilter { event_types: vec!["call.*".into()], ..filter() }.validate(), Ok(()));
    }
}
