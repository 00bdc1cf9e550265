#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orun::fuzz::run("criu", data));
