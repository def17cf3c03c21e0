//! Canceling what waits of a message.

use crate::delivery::{CancelReason, DeliveryId};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::store::Cancel;

use super::Ringback;

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
}
