//! Hostile receivers: each has the outcome that it must have, and costs nobody else anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "receivers are tasks of their own, on the machine's clock")]

#[path = "support/hostile/mod.rs"]
mod hostile;
mod support;

#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/outcomes.rs"]
mod outcomes;

use tokio::sync::Mutex;

/// Held by each test: descriptors are counted for the whole process, and floods take the time of others.
static ALONE: Mutex<()> = Mutex::const_new(());
