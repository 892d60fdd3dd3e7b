#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transship::fuzzing::run("manifest", data));
