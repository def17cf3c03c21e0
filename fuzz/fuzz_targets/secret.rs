//! See `ringback::fuzzing::secret`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringback::fuzzing::secret(bytes));
