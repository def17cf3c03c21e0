//! Enabling an endpoint together with a replay of what it missed: one write for both.

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId};
use crate::time::Timestamp;

use super::Ringback;
use super::replay::{NewReplay, ReplayFilter, ReplayJob};

/// What is replayed of an endpoint that is enabled again: its dead letters, and what was canceled because it was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnableReplay {
    /// Whose message was accepted at or after this time. Default: all that are kept.
    pub since: Option<Timestamp>,
    /// Deliveries a second: 1 to 10,000. Default: 100.
    pub rate: u32,
}

impl Default for EnableReplay {
    fn default() -> Self {
        EnableReplay { since: None, rate: NewReplay::from(ReplayFilter::default()).rate }
    }
}

impl Ringback {
    /// Lets an endpoint take messages again, and starts a job that replays what failed and what was canceled while it was
    /// disabled: both are on disk in one write, so that neither happens without the other. Messages that were sent while it
    /// was disabled made no delivery to it; a job with [`ReplayWhat::Missing`](crate::ReplayWhat::Missing) takes those up.
    ///
    /// Of an endpoint that is enabled already it starts the job alone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] (`rate`); [`Error::Conflict`] if it was changed at the same time: then
    /// nothing was done; [`Error::ApplicationOverloaded`] if the application has 100 jobs that have not ended;
    /// [`Error::Storage`].
    pub async fn enable_and_replay(
        &self,
        application: ApplicationId,
        id: EndpointId,
        replay: EnableReplay,
    ) -> Result<(Endpoint, ReplayJob), Error> {
        let old = self.destination(application, id)?;
        let filter = ReplayFilter { endpoint: Some(id), since: replay.since, ..ReplayFilter::default() };
        let (job, record) = self.prepare_replay(application, NewReplay::from(filter).rate(replay.rate)).await?;
        let updated_at = self.later_than(old.endpoint.updated_at);
        let status = old.endpoint.status.disabled(false, updated_at);
        let changed = Endpoint { status, updated_at, ..old.endpoint.clone() };
        let endpoint = self.store_endpoint_with(changed, Some(&old), None, None, Some(record)).await?;
        self.inner.jobs.notify_one();
        Ok((endpoint, job))
    }
}
