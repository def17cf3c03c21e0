//! See `ringback::fuzzing::signature`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::signature(bytes));
