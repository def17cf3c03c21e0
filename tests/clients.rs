//! The official Rust client against the real program: every operation, and the receiver's verification. The clients of
//! other languages are in `tests/clients`.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "clients/rust/access.rs"]
mod access;
#[path = "clients/rust/applications.rs"]
mod applications;
#[path = "clients/rust/attempts.rs"]
mod attempts;
#[path = "clients/rust/client.rs"]
mod client;
#[path = "clients/rust/endpoints.rs"]
mod endpoints;
#[path = "clients/rust/errors.rs"]
mod errors;
#[path = "clients/rust/event_types.rs"]
mod event_types;
#[path = "clients/rust/messages.rs"]
mod messages;
#[path = "clients/rust/missing.rs"]
mod missing;
#[path = "clients/rust/operational.rs"]
mod operational;
mod support;
