//! How a replay job gets on: turns, each a look at the next messages and one write of what is
//! taken up of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::delivery::Lane;
use crate::error::Error;
use crate::id::JobId;
use crate::store::{Replay, Replayed};
use crate::time::Timestamp;

use super::Ringback;
use super::choice::choices;
use super::job::{JobStatus, ReplayJob, Why};
use crate::directory::Destination;

/// How many messages one look is at, and how many looks a turn has: so a turn is bounded whatever the filter lets through.
const LOOK: usize = 500;
const LOOKS: usize = 8;

/// What a turn has found.
struct Haul {
    /// The job as it stands once the batch is taken up.
    job: ReplayJob,
    batch: Vec<Replay>,
}

impl Ringback {
    /// Gives a job its turn, and answers when it has the next one; `None` if it does not run (any more).
    pub(in super::super) async fn advance_replay(&self, id: JobId) -> Result<Option<Timestamp>, Error> {
        // Again from the start if it was paused or stopped between the read and the write.
        loop {
            let (job, version) = self.stored_job(id).await?;
            match job.status {
                JobStatus::Running => {}
                JobStatus::Paused | JobStatus::Finished | JobStatus::Stopped => return Ok(None),
            }
            // The record says when it took up the last ones, whatever became of the answer to that write.
            if self.now() < job.next_at() {
                return Ok(Some(job.next_at()));
            }
            let haul = self.haul(job).await?;
            let Some(job) = self.land(haul, version).await? else { continue };
            return Ok((job.status == JobStatus::Running).then(|| job.next_at()));
        }
    }

    /// Looks at the next messages until there are as many deliveries to take up as it may have at once.
    async fn haul(&self, mut job: ReplayJob) -> Result<Haul, Error> {
        let (application, most) = (job.application, job.slot_size());
        let source = self.replay_source(application, &job.filter);
        let mut batch: Vec<Replay> = Vec::with_capacity(most);
        for look in 0..LOOKS {
            // Where deliveries to take up stand close together, not many more messages are looked at than are used.
            let limit = if look == 0 { (most * 4).clamp(32, LOOK) } else { LOOK };
            let walk = self.inner.store.walk(application, job.filter.query(job.walked_to(), limit)).await?;
            for walked in &walk.messages {
                let message = walked.message.id;
                let source = source.as_deref().map(|source: &Destination| &source.endpoint);
                for choice in choices(&job.filter, source, job.to, walked) {
                    let delivery = |lane| crate::delivery::DeliveryId { lane, message };
                    let of = walked.deliveries.get(choice.place).map(|delivery| delivery.id.lane);
                    if of.is_some_and(|lane| job.has_dealt_with(delivery(lane), choice.place)) {
                        continue;
                    }
                    match choice.take {
                        Err(why) => job.skip(why),
                        Ok(replay) if !self.is_open(replay.delivery.lane) => job.skip(Why::Closed),
                        Ok(_) if batch.len() == most => {
                            job.stop_within(message, choice.place);
                            return Ok(Haul { job, batch });
                        }
                        Ok(replay) => batch.push(replay),
                    }
                }
                job.deal_with(message);
            }
            match walk.next {
                Some(last) => job.walk_to(last),
                None => {
                    job.status = JobStatus::Finished;
                    break;
                }
            }
            if batch.len() == most {
                break;
            }
        }
        Ok(Haul { job, batch })
    }

    /// Whether an endpoint takes anything. What goes to one that does not stays as it is: it can be replayed once it is
    /// enabled.
    fn is_open(&self, lane: Lane) -> bool {
        self.inner.directory.destination(lane).is_some_and(|destination: Arc<Destination>| destination.open().is_ok())
    }

    /// Writes what a turn has found. The record moves in the same write as what it counts; `None` if it has moved
    /// otherwise, and nothing was done.
    async fn land(&self, Haul { mut job, mut batch }: Haul, version: u64) -> Result<Option<ReplayJob>, Error> {
        let now = self.now();
        job.updated_at = now;
        loop {
            let mut counted = job.clone();
            counted.take_up(batch.len(), now);
            let put = counted.put(version);
            let Some(results) = self.inner.store.replay(batch.clone(), now, Some(put)).await? else { return Ok(None) };
            if results.iter().all(|result| result.is_taken_up()) {
                let lanes: BTreeSet<Lane> = batch.iter().map(|replay| replay.delivery.lane).collect();
                lanes.into_iter().for_each(|lane| self.note_if_closed(lane));
                return Ok(Some(counted));
            }
            // Nothing was done. What cannot be replayed is left out; the batch gets smaller each time.
            let mut kept = Vec::with_capacity(batch.len());
            for (replay, result) in batch.into_iter().zip(results) {
                match result {
                    Replayed::Expunged => job.skip(Why::Expunged),
                    Replayed::InFlight => job.skip(Why::UnderWay),
                    Replayed::NotFound => job.skip(Why::Gone),
                    Replayed::Untouched | Replayed::Reopened | Replayed::Added | Replayed::Hastened => {
                        kept.push(replay)
                    }
                }
            }
            batch = kept;
        }
    }
}
