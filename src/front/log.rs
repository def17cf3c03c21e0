//! The log: messages, how their deliveries stand, and every attempt.

use std::sync::Arc;

use crate::attempt::Attempt;
use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane, StateKind};
use crate::error::Error;
use crate::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::message::Message;
use crate::store::{AttemptQuery, Cancel, CountQuery, Counts, DeadQuery, Expunge, MessageQuery, Page};

use super::Ringback;

impl Ringback {
    /// A message by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], also once retention has removed it; [`Error::Storage`].
    pub async fn message(&self, application: ApplicationId, id: MessageId) -> Result<Arc<Message>, Error> {
        self.inner.store.message(application, id).await?.ok_or(Error::NotFound("message"))
    }

    /// A message by the caller's own id of the event.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn message_by_event_id(&self, application: ApplicationId, id: &str) -> Result<Arc<Message>, Error> {
        let found = self.inner.store.message_by_event_id(application, id.to_owned()).await?;
        self.message(application, found.ok_or(Error::NotFound("message"))?).await
    }

    /// Messages in the query's order; those that matched no endpoint are among them, with the reason in their routing.
    /// Give a page's `next` as the query's `after` to get the following one. A page of large payloads ends early, with a
    /// `next`, once it has 8 MiB of them.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn messages(
        &self,
        application: ApplicationId,
        query: MessageQuery,
    ) -> Result<Page<Arc<Message>, MessageId>, Error> {
        Ok(self.inner.store.messages(application, query).await?)
    }

    /// How the deliveries of a message stand, in the order of its routing.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn deliveries(&self, application: ApplicationId, message: MessageId) -> Result<Vec<Delivery>, Error> {
        Ok(self.inner.store.deliveries(application, message).await?)
    }

    /// Attempts by message, endpoint, status, event type, channel and time, in the query's order. Give a page's `next`
    /// as the query's `after` to get the following one.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn attempts(
        &self,
        application: ApplicationId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt, AttemptId>, Error> {
        Ok(self.inner.store.attempts(application, query).await?)
    }

    /// An attempt by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], also once retention has removed it; [`Error::Storage`].
    pub async fn attempt(&self, application: ApplicationId, id: AttemptId) -> Result<Attempt, Error> {
        self.inner.store.attempt(application, id).await?.ok_or(Error::NotFound("attempt"))
    }

    /// Erases a message's payload for good: the message stays on record, marked as `expunged`. What still waits of it is
    /// canceled. What is on its way is not called back: if it fails, its retry finds nothing to send and ends as dead.
    /// May be repeated.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn expunge_message(&self, application: ApplicationId, id: MessageId) -> Result<(), Error> {
        let store = &self.inner.store;
        if !store.expunge(application, Expunge::Payload(id)).await? {
            return Err(Error::NotFound("message"));
        }
        for delivery in store.deliveries(application, id).await? {
            if matches!(delivery.state.kind(), StateKind::Waiting | StateKind::Held) {
                store.cancel(Cancel::Delivery(delivery.id), CancelReason::Expunged, self.now()).await?;
            }
        }
        Ok(())
    }

    /// Erases the body of an attempt's response for good: the attempt stays on record, its response marked as
    /// `expunged`. May be repeated, and does nothing where no response came.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`].
    pub async fn expunge_attempt(&self, application: ApplicationId, id: AttemptId) -> Result<(), Error> {
        match self.inner.store.expunge(application, Expunge::Response(id)).await? {
            true => Ok(()),
            false => Err(Error::NotFound("attempt")),
        }
    }

    /// Dead letters, by endpoint and message. Give a page's `next` as the query's `after` to get the following one.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn dead_letters(
        &self,
        application: ApplicationId,
        query: DeadQuery,
    ) -> Result<Page<DeliveryId, (EndpointId, MessageId)>, Error> {
        Ok(self.inner.store.dead_letters(application, query).await?)
    }

    /// How many messages an application (or an endpoint of it, deleted ones included) has, and how their deliveries
    /// stand: counted in the store, row by row, which takes a while where there are many. Sends and deliveries go on
    /// meanwhile. If the counts do not [add up](Counts::adds_up), stored rows were lost.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such application, or no such endpoint; [`Error::Storage`].
    pub async fn counts(&self, application: ApplicationId, query: CountQuery) -> Result<Counts, Error> {
        self.tenant(application)?;
        if let Some(endpoint) = query.endpoint {
            let known = self.inner.directory.destination(Lane { application, endpoint });
            known.ok_or(Error::NotFound("endpoint"))?;
        }
        Ok(self.inner.store.count(application, query).await?)
    }
}
