//! Promises of delivery, over real sockets and the real store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "receivers are tasks of their own, on the machine's clock")]

mod support;

#[path = "delivery/attempts.rs"]
mod attempts;
#[path = "delivery/bodies.rs"]
mod bodies;
#[path = "delivery/erase.rs"]
mod erase;
#[path = "delivery/expunge.rs"]
mod expunge;
#[path = "delivery/lanes.rs"]
mod lanes;
#[path = "delivery/life.rs"]
mod life;
#[path = "delivery/ordering.rs"]
mod ordering;
#[path = "delivery/outcomes.rs"]
mod outcomes;
#[path = "delivery/schedule.rs"]
mod schedule;
#[path = "delivery/standing.rs"]
mod standing;
