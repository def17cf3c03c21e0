//! See `ringback::fuzzing::url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::url(bytes));
