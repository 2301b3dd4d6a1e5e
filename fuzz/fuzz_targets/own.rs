#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pspikessm_fuzz::own(bytes));
