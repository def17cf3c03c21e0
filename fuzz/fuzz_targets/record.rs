//! See `ringback::fuzzing::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::record(bytes));
