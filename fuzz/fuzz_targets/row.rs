//! See `ringback::fuzzing::row`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::row(bytes));
