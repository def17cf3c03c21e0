//! A durable webhook sender to embed in a platform.
//!
//! [`Ringback`] is the handle: [`Ringback::send`] returns when a message is safe on disk, and
//! [`Ringback::run`] delivers. A [`Profile`] is a vendor's way of sending, as data. The log and replays are
//! methods of the handle, too.
//!
//! Read in this order: [`Ringback`], [`NewMessage`], [`NewEndpoint`], [`profile`], [`store`]. The layers and
//! one event's way through them are in `docs/architecture.md`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// values
mod application;
mod body;
mod endpoint;
mod event_type;
mod example;
mod header;
mod id;
mod invalid;
mod keyring;
pub mod levers;
pub mod levrage;
mod message;
mod open_enum;
mod ordering;
pub mod profile;
mod retention;
mod retry;
mod secret;
pub mod signature;
pub mod subverse;
mod time;

// decisions, and the records of what they decided on
mod attempt;
mod breaker;
mod delivery;
mod fanout;
mod health;
mod standing;
mod throttle;

// port
pub mod clock;
pub mod store;
pub mod transport;

// adapters (the stores stand under the port)
pub mod egress;
pub mod http;
mod key_file;
mod random;

// engine
mod board;
mod directory;
mod dispatcher;
mod observed;
mod plan;

// front
mod error;
mod front;

// for tests and benches
#[doc(hidden)]
pub mod testing;

// for fuzzing, in nobody else's build
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub use application::{Application, NewApplication};
pub use attempt::{Attempt, Response, Timing, Trigger, hint};
pub use breaker::BreakerState;
pub use delivery::{
    Asked, CancelReason, DeadReason, Delivery, DeliveryId, Failure, Lane, Outcome, Progress, State, StateKind, Terms,
    before, closes, lets_pass, next,
};
pub use endpoint::{DisableReason, Endpoint, EndpointSettings, EndpointStatus, NewEndpoint, SigningKey};
pub use error::Error;
pub use event_type::{EventType, NewEventType};
pub use example::{example, example_event_types};
pub use fanout::route;
pub use front::{
    CancelFilter, CancelStep, Config, EnableReplay, Erase, EraseJob, EraseStatus, Erasing, IssuedToken, JobStatus,
    KeySource, KeyUse, NewReplay, Pending, Receipt, ReplayFilter, ReplayJob, ReplayPreview, ReplaySkips, ReplayTo,
    ReplayWhat, Ringback, Sent, Token,
};
pub use header::CustomHeader;
pub use health::{EndpointHealth, Pace};
pub use id::{ApplicationId, AttemptId, EndpointId, JobId, MessageId, NotAnId, TokenId};
pub use invalid::Invalid;
pub use key_file::KeyFile;
pub use keyring::Keyring;
pub use message::{Message, NewMessage, NoRoute, Routing};
pub use ordering::BlockedHead;
pub use profile::{Profile, ProfileChoice};
pub use retention::Retention;
pub use retry::{Exponential, RetryOn, RetryPolicy, RetrySettings, Schedule};
pub use secret::Secret;
pub use standing::Failing;
pub use time::{NotATimestamp, Timestamp};
