//! See `ringback::fuzzing::address`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::address(bytes));
