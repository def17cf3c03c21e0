//! What can go wrong for a caller of the library.

use crate::id::MessageId;
use crate::invalid::Invalid;
use crate::store;

/// Why a call did not do what it was asked. Unless a variant says otherwise, nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field's value cannot be taken: correct it.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// There is no such application, endpoint, message, delivery, attempt or job, or it belongs to another application.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The `uid` belongs to another application or endpoint: choose another.
    #[error("the uid {0} is taken")]
    UidTaken(String),
    /// The event type is registered already: choose another name, or change it.
    #[error("the name {0} is taken")]
    NameTaken(String),
    /// The `eventId` was used before in this application: the event was sent already, as this message.
    #[error("the event id was used before, by {0}")]
    EventIdTaken(MessageId),
    /// The idempotency key was used before with another content: use a new key for another message.
    #[error("the idempotency key was used before with another content")]
    IdempotencyConflict,
    /// The delivery is being attempted right now, or the record was changed at the same time: try again. Or something
    /// stands in the way that the text names.
    #[error("{0}")]
    Conflict(&'static str),
    /// The store has no room for more: try again later. Nothing was accepted.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The application has no room of its own left: too much waits to be delivered (send again once some of it has
    /// ended), or it has as many endpoints or tokens as it may have. Others go on. Nothing of this was accepted.
    #[error("overloaded: {0}")]
    ApplicationOverloaded(String),
    /// The store cannot be opened, or cannot write now. Nothing was acknowledged; what was being written may or may not
    /// be there once it works again. It goes on by itself when it can write.
    #[error(transparent)]
    Storage(store::Error),
    /// The keys that secrets are sealed under are not there, are others, or cannot be read: the text says which and
    /// where. Put them back. Nothing was changed.
    #[error("{0}")]
    Keys(String),
    /// The store was not compacted, and is as it was: the text says why. Nothing else is wrong with it.
    #[error("not compacted: {0}")]
    NotCompacted(String),
    /// `shutdown` has been called.
    #[error("ringback has been shut down")]
    Closed,
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Overloaded(what) => Error::Overloaded(what),
            store::Error::Closed => Error::Closed,
            store::Error::NotCompacted(why) => Error::NotCompacted(why),
            error @ (store::Error::Unavailable(_)
            | store::Error::Locked { .. }
            | store::Error::NewerFormat { .. }
            | store::Error::Open { .. }) => Error::Storage(error),
        }
    }
}
