//! Small cases against the reference: see [`sepconv_fuzz::run_differential`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sepconv_fuzz::run_differential::check(data);
});
