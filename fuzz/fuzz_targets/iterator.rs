//! See `src/server/fuzzing.rs`, which is part of the program and not of the library.

#![no_main]
#![allow(dead_code, reason = "the program starts the server; this asks its routes")]

#[path = "../../src/server/mod.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::iterator(bytes));
