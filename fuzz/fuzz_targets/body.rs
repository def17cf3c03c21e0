//! See `src/server/fuzzing.rs`, which is part of the program and not of the library.

#![no_main]
#![allow(dead_code, unused_imports, reason = "the program has more uses for them")]

#[path = "../../src/server/mod.rs"]
mod server;
#[path = "../../src/settings/mod.rs"]
mod settings;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::body(bytes));
