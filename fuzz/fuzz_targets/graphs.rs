//! Random graphs against the interpreter: see [`sepconv_fuzz::graphs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sepconv_fuzz::graphs::check(data);
});
