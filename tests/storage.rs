//! Promises of the folder: who may open it, how full it may get, what a failing disk and damage cost, that
//! its secrets are sealed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "children of a test are told by their environment what to do")]

mod support;

#[path = "storage/damage.rs"]
mod damage;
#[path = "storage/full.rs"]
mod full;
#[path = "storage/holder.rs"]
mod holder;
#[path = "storage/retention.rs"]
mod retention;
#[path = "storage/sealing.rs"]
mod sealing;
