//! The program as people and scripts use it: what it prints, and how it ends.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "cli/bulk.rs"]
mod bulk;
#[path = "cli/folder.rs"]
mod folder;
#[path = "cli/following.rs"]
mod following;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/listening.rs"]
mod listening;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/resources.rs"]
mod resources;
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/signing.rs"]
mod signing;
#[path = "cli/story.rs"]
mod story;
mod support;
