//! See `ringback::fuzzing::headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::headers(bytes));
