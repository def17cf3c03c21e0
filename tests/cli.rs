//! The program as people and scripts use it: what it prints, and how it ends.
#![cfg(feature = "sidecar")]

#[path = "cli/help.rs"]
mod help;
#[path = "cli/listening.rs"]
mod listening;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/signing.rs"]
mod signing;
