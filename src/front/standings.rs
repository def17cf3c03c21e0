//! What the chores do about endpoints that fail, and about receivers that want no more: keep the records of standings, warn,
//! disable.
//!
//! Invariant: a standing's record goes in the same write as its endpoint is disabled, enabled, moved or deleted
//! (`endpoints.rs`), so no restart finds an old one beside an endpoint that began anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::Lane;
use crate::endpoint::{DisableReason, Endpoint, EndpointStatus};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId};
use crate::observed::{Look, Stored, Unseen};
use crate::profile::MAX_TIMEOUT;
use crate::standing::{Failing, Follows, Standing};
use crate::store::{AttemptQuery, AttemptStatus, Order, Put, RecordKind};
use crate::time::Timestamp;

use super::{Ringback, records};

/// How many records one write changes.
const BITE: usize = 125;

/// A standing's record. Its name is the application's id and the endpoint's.
#[derive(Serialize, Deserialize)]
struct StoredStanding {
    v: u32,
    #[serde(flatten)]
    standing: Standing,
    /// When it was written.
    at: Timestamp,
}

/// What one standing's write says and does.
struct Step {
    look: Look,
    standing: Option<Standing>,
    puts: Vec<Put>,
    /// It was warned of: when it will be disabled at the earliest.
    warning: Option<Timestamp>,
}

impl Ringback {
    /// How long an endpoint has done nothing but fail; `None` if its last attempt that says something succeeded. Attempts
    /// count that ended while [`run`](Ringback::run) ran, in this process or in one before it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn failing(&self, application: ApplicationId, id: EndpointId) -> Result<Option<Failing>, Error> {
        let destination = self.destination(application, id)?;
        let rule = self.inner.observed.rule(destination.endpoint.settings.auto_disable);
        Ok(self.inner.observed.standing(destination.lane()).map(|standing| standing.shown(rule)))
    }

    /// Reads the standings, and removes those of endpoints that are not enabled any more.
    pub(super) async fn read_standings(&self) -> Result<(), Error> {
        let mut stale = Vec::new();
        for record in self.all_records(RecordKind::EndpointStanding, None).await? {
            let Some(lane) = lane_of(&record.key.key) else { continue };
            let stored = serde_json::from_slice::<StoredStanding>(&record.value).ok();
            match stored.filter(|_| self.inner.directory.open(lane).is_ok()) {
                Some(StoredStanding { standing, at, .. }) => {
                    self.inner.observed.read(lane, Stored { version: record.version, standing, at }, self.now());
                }
                None => stale.push(removal(lane, record.version)),
            }
        }
        for bite in stale.chunks(BITE) {
            self.inner.store.put(bite.to_vec()).await?;
        }
        Ok(())
    }

    /// Disables what is to be disabled, and writes the standings that are due.
    pub(super) async fn keep_standings(&self) -> Result<(), Error> {
        let observed = &self.inner.observed;
        while let Some((lane, reason)) = observed.take_closing() {
            if let Err(error) = self.disable_because(lane, reason).await {
                observed.put_back_closing(lane, reason);
                return Err(error);
            }
        }
        observed.note_due(self.now());
        loop {
            let looks = observed.take_due(BITE);
            if looks.is_empty() {
                break;
            }
            let lanes: Vec<Lane> = looks.iter().map(|look| look.lane).collect();
            if let Err(error) = self.look_at(looks).await {
                observed.put_back(lanes);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn look_at(&self, looks: Vec<Look>) -> Result<(), Error> {
        let mut steps = Vec::with_capacity(looks.len());
        for look in looks {
            steps.extend(self.step(look).await?);
        }
        let all = steps.iter().flat_map(|step| step.puts.iter().cloned()).collect();
        if self.put_with_events(all).await? {
            steps.into_iter().for_each(|step| self.done(step));
            return Ok(());
        }
        // One of them moved: its endpoint was changed meanwhile.
        for step in steps {
            if self.put_with_events(step.puts.clone()).await? {
                self.done(step);
            } else {
                let record = self.inner.store.get(records::standing_key(step.look.lane)).await?;
                let stored = record.and_then(|record| {
                    let StoredStanding { standing, at, .. } = serde_json::from_slice(&record.value).ok()?;
                    Some(Stored { version: record.version, standing, at })
                });
                self.inner.observed.written(step.look.lane, stored);
            }
        }
        Ok(())
    }

    /// What is to be written of a standing; `None` if it has been dealt with otherwise.
    async fn step(&self, look: Look) -> Result<Option<Step>, Error> {
        let observed = &self.inner.observed;
        let now = self.now();
        let version = look.stored.map_or(0, |stored| stored.version);
        let Some(destination) = self.inner.directory.destination(look.lane).filter(|shown| shown.open().is_ok()) else {
            // Its endpoint was closed, and the record went with that, or goes now.
            observed.forget(look.lane);
            let puts = if version > 0 { vec![removal(look.lane, version)] } else { Vec::new() };
            return Ok(Some(Step { look, standing: None, puts, warning: None }));
        };
        let recovered = look.stored.filter(|stored| {
            stored.standing.warned_at.is_some() && look.standing.is_none_or(|now| now.since != stored.standing.since)
        });
        let mut puts: Vec<Put> =
            recovered.iter().flat_map(|stored| self.recovered(&destination.endpoint, stored.standing)).collect();
        let Some(standing) = look.standing else {
            if version > 0 {
                puts.push(removal(look.lane, version));
            }
            return Ok(Some(Step { look, standing: None, puts, warning: None }));
        };
        let follows = standing.follows(observed.rule(destination.endpoint.settings.auto_disable), now);
        if follows != Follows::Nothing && self.worked_unseen(&look).await? {
            observed.works(look.lane);
            observed.put_back([look.lane]);
            return Ok(None);
        }
        let (standing, warning) = match follows {
            Follows::Disabling => {
                self.disable_because(look.lane, DisableReason::Failing).await?;
                observed.leave(look.lane);
                return Ok(None);
            }
            Follows::Warning(disable_at) => {
                puts.extend(self.warning(&destination.endpoint, standing, disable_at));
                (standing.warned(now), Some(disable_at))
            }
            Follows::Nothing => (standing, None),
        };
        puts.push(put(look.lane, standing, now, version));
        Ok(Some(Step { look, standing: Some(standing), puts, warning }))
    }

    fn done(&self, step: Step) {
        let Step { look, standing, warning, .. } = step;
        let version = look.stored.map_or(0, |stored| stored.version);
        if let (Some(standing), Some(disable_at)) = (standing, warning) {
            tracing::warn!(
                application = %look.lane.application,
                endpoint = %look.lane.endpoint,
                since = %standing.since,
                failures = standing.failures,
                %disable_at,
                "an endpoint does nothing but fail, and will be disabled"
            );
        }
        let at = self.now();
        let stored = standing.map(|standing| Stored { version: version + 1, standing, at });
        self.inner.observed.written(look.lane, stored);
    }

    /// Whether an attempt succeeded that a standing's record does not know of: between its last write and a crash.
    async fn worked_unseen(&self, look: &Look) -> Result<bool, Error> {
        let Some(Unseen { from, until }) = look.unseen else { return Ok(false) };
        let query = AttemptQuery {
            endpoint: Some(look.lane.endpoint),
            status: Some(AttemptStatus::Succeeded),
            // One that was on its way then started earlier.
            since: Some(from - MAX_TIMEOUT - Duration::from_secs(1)),
            until: Some(until + Duration::from_millis(1)),
            order: Order::NewestFirst,
            limit: 250,
            ..AttemptQuery::default()
        };
        let page = self.inner.store.attempts(look.lane.application, query).await?;
        let ended_after = |attempt: &crate::attempt::Attempt| attempt.started_at + attempt.timing.total() >= from;
        if page.items.iter().any(ended_after) {
            return Ok(true);
        }
        self.inner.observed.seen(look.lane);
        Ok(false)
    }

    /// Disables an endpoint that nobody asked to be disabled. One that was changed at this moment is left as it is: what it
    /// answers next decides.
    async fn disable_because(&self, lane: Lane, reason: DisableReason) -> Result<(), Error> {
        let Ok(old) = self.destination(lane.application, lane.endpoint) else { return Ok(()) };
        if !old.endpoint.is_enabled() {
            return Ok(());
        }
        let updated_at = self.later_than(old.endpoint.updated_at);
        let status = EndpointStatus::Disabled { since: updated_at, reason };
        let changed = Endpoint { status, updated_at, ..old.endpoint.clone() };
        match self.store_endpoint(changed, Some(&old), None, None).await {
            Ok(_) => {
                let Lane { application, endpoint } = lane;
                tracing::warn!(%application, %endpoint, reason = reason.code(), "an endpoint was disabled");
                Ok(())
            }
            Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The record's removal, at this version.
pub(super) fn removal(lane: Lane, version: u64) -> Put {
    Put { key: records::standing_key(lane), expected: version, active: true, value: None }
}

fn put(lane: Lane, standing: Standing, at: Timestamp, version: u64) -> Put {
    let stored = StoredStanding { v: records::VERSION, standing, at };
    let value = serde_json::to_vec(&stored).expect("a standing is plain data");
    Put { key: records::standing_key(lane), expected: version, active: true, value: Some(value.into()) }
}

fn lane_of(key: &[u8]) -> Option<Lane> {
    let (application, endpoint) = key.split_at_checked(16)?;
    let application = ApplicationId::from_bytes(application.try_into().ok()?);
    Some(Lane { application, endpoint: EndpointId::from_bytes(endpoint.try_into().ok()?) })
}
