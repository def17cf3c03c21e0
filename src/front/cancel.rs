//! Canceling what has not been sent: of a message, or whatever fits a filter.

use std::time::Duration;

use crate::delivery::{CancelReason, Delivery, DeliveryId, StateKind};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::invalid::Invalid;
use crate::message::{validate_key, validate_wanted_tag};
use crate::store::{Cancel, MAX_WALK, MessageQuery, Order};
use crate::time::Timestamp;

use super::Ringback;

/// How many deliveries one write cancels.
const BITE: usize = 250;
/// How many messages one step looks at: ten walks' worth.
const STEP: usize = 10 * MAX_WALK;

/// Which deliveries to cancel. At least one member is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CancelFilter {
    /// Those to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of messages with this ordering key.
    pub ordering_key: Option<String>,
    /// Of messages of one of these event types, each exact or ending in `.*`. Empty: of any.
    pub event_types: Vec<String>,
    /// Of messages with this channel.
    pub channel: Option<String>,
    /// Of messages with this tag.
    pub tag: Option<String>,
    /// Of messages accepted at or after this time.
    pub since: Option<Timestamp>,
    /// Of messages accepted before this time.
    pub until: Option<Timestamp>,
}

/// How far a cancel by a filter has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancelStep {
    /// How many deliveries this step canceled; or would have, if it was a preview.
    pub canceled: u64,
    /// Where the next step goes on; `None` at the end.
    pub next: Option<MessageId>,
}

impl CancelFilter {
    fn validate(&self) -> Result<(), Invalid> {
        if *self == CancelFilter::default() {
            let give = "is empty: give endpointId, orderingKey, eventTypes, channel, tag, since or until";
            return Err(Invalid::new("filter", give));
        }
        if self.since.zip(self.until).is_some_and(|(since, until)| since >= until) {
            return Err(Invalid::new("since", "must be before until"));
        }
        if let Some(key) = &self.ordering_key {
            validate_key("orderingKey", key)?;
        }
        self.tag.as_deref().map_or(Ok(()), validate_wanted_tag)
    }

    /// The newest first: of an ordering key those that are held end before the one that they wait for.
    fn query(&self) -> MessageQuery {
        MessageQuery {
            since: self.since,
            until: self.until,
            event_types: self.event_types.clone(),
            channel: self.channel.clone(),
            endpoint: self.endpoint,
            ordering_key: self.ordering_key.clone(),
            tag: self.tag.clone(),
            order: Order::NewestFirst,
            limit: MAX_WALK,
            ..MessageQuery::default()
        }
    }

    fn takes(&self, delivery: &Delivery) -> bool {
        let not_sent = match delivery.state.kind() {
            StateKind::Waiting | StateKind::Held => true,
            StateKind::Leased | StateKind::Delivered | StateKind::Dead | StateKind::Canceled => false,
        };
        not_sent && self.endpoint.is_none_or(|endpoint| delivery.id.lane.endpoint == endpoint)
    }
}

impl Ringback {
    /// Cancels what waits of a message, or of its one delivery to `endpoint`; answers how many deliveries it canceled.
    /// Each can be replayed.
    ///
    /// A delivery that is being attempted right now is left to its attempt, and waits again if that fails. One that
    /// has ended stays as it is. Each delivery is canceled in a write of its own: after an error, or if the future is
    /// dropped, some of them may be.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such message, or it has no delivery to `endpoint`; [`Error::Storage`].
    pub async fn cancel(
        &self,
        application: ApplicationId,
        message: MessageId,
        endpoint: Option<EndpointId>,
    ) -> Result<u64, Error> {
        let store = &self.inner.store;
        let mut deliveries = store.deliveries(application, message).await?;
        deliveries.retain(|delivery| endpoint.is_none_or(|endpoint| delivery.id.lane.endpoint == endpoint));
        if deliveries.is_empty() {
            // A message that went nowhere has nothing to cancel; anything else that has no delivery is not there.
            store.message(application, message).await?.ok_or(Error::NotFound("message"))?;
            return if endpoint.is_some() { Err(Error::NotFound("delivery")) } else { Ok(0) };
        }
        let open: Vec<DeliveryId> =
            deliveries.iter().filter(|delivery| !delivery.state.is_terminal()).map(|delivery| delivery.id).collect();
        let mut canceled = 0;
        for id in open {
            canceled += store.cancel(Cancel::Delivery(id), CancelReason::Requested, self.now()).await? as u64;
        }
        Ok(canceled)
    }

    /// Cancels every delivery that waits or is held and fits the filter; answers how many. Each can be replayed. Messages
    /// that are accepted after the call are left alone.
    ///
    /// A delivery that is being attempted right now is left to its attempt. Deliveries are canceled 250 at a time: after an
    /// error, or if the future is dropped, some of them may be, and the same call cancels the rest.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such application or endpoint; [`Error::Invalid`]: an empty filter (`filter`), or a window
    /// that is empty (`since`); [`Error::Storage`].
    pub async fn cancel_where(&self, application: ApplicationId, mut filter: CancelFilter) -> Result<u64, Error> {
        filter.validate()?;
        let now = self.now() + Duration::from_millis(1);
        filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
        let (mut canceled, mut after) = (0, None);
        loop {
            let step = self.cancel_or_count(application, &filter, after, true).await?;
            canceled += step.canceled;
            after = step.next;
            if after.is_none() {
                return Ok(canceled);
            }
        }
    }

    /// One step of [`cancel_where`](Ringback::cancel_where), for a caller that shows how far it is: it looks at no more than
    /// 10,000 messages. The first step has no `after`, each further one has the `next` of the one before.
    ///
    /// # Errors
    /// As [`cancel_where`](Ringback::cancel_where).
    pub async fn cancel_step(
        &self,
        application: ApplicationId,
        filter: &CancelFilter,
        after: Option<MessageId>,
    ) -> Result<CancelStep, Error> {
        filter.validate()?;
        self.cancel_or_count(application, filter, after, true).await
    }

    /// How many deliveries such a step would cancel, as they stand now. It changes nothing.
    ///
    /// # Errors
    /// As [`cancel_where`](Ringback::cancel_where).
    pub async fn preview_cancel(
        &self,
        application: ApplicationId,
        filter: &CancelFilter,
        after: Option<MessageId>,
    ) -> Result<CancelStep, Error> {
        filter.validate()?;
        self.cancel_or_count(application, filter, after, false).await
    }

    async fn cancel_or_count(
        &self,
        application: ApplicationId,
        filter: &CancelFilter,
        mut after: Option<MessageId>,
        cancel: bool,
    ) -> Result<CancelStep, Error> {
        self.tenant(application)?;
        if let Some(endpoint) = filter.endpoint {
            self.destination(application, endpoint)?;
        }
        let store = &self.inner.store;
        let mut canceled = 0;
        for _ in 0..STEP / MAX_WALK {
            let walk = store.walk(application, MessageQuery { after, ..filter.query() }).await?;
            let deliveries = walk.messages.iter().flat_map(|walked| &walked.deliveries);
            let taken: Vec<DeliveryId> =
                deliveries.filter(|delivery| filter.takes(delivery)).map(|delivery| delivery.id).collect();
            if !cancel {
                canceled += taken.len() as u64;
            }
            for bite in taken.chunks(BITE).filter(|_| cancel) {
                let what = Cancel::Deliveries(bite.to_vec());
                canceled += store.cancel(what, CancelReason::Requested, self.now()).await? as u64;
            }
            after = walk.next;
            if after.is_none() {
                break;
            }
        }
        Ok(CancelStep { canceled, next: after })
    }
}
