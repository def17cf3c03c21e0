//! The HTTP API as clients meet it: the real program, real sockets, the real store.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "api/access.rs"]
mod access;
#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/blocked.rs"]
mod blocked;
#[path = "api/connections.rs"]
mod connections;
#[path = "api/document.rs"]
mod document;
#[path = "api/door.rs"]
mod door;
#[path = "api/idempotency.rs"]
mod idempotency;
#[path = "api/intake.rs"]
mod intake;
#[path = "api/log.rs"]
mod log;
#[path = "api/options.rs"]
mod options;
#[path = "api/overload.rs"]
mod overload;
#[path = "api/replays.rs"]
mod replays;
#[path = "api/resources.rs"]
mod resources;
#[path = "api/standing.rs"]
mod standing;
mod support;
#[path = "api/upkeep.rs"]
mod upkeep;
