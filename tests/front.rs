//! Promises of what the handle keeps beside messages, over the real store: endpoints' status, event types, tokens,
//! receipts, cancels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "front/cancel.rs"]
mod cancel;
#[path = "front/endpoints.rs"]
mod endpoints;
#[path = "front/event_types.rs"]
mod event_types;
#[path = "front/receipts.rs"]
mod receipts;
#[path = "front/tokens.rs"]
mod tokens;
