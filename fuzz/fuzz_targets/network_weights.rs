//! Arbitrary bytes as files of weights: see [`sepconv_fuzz::network_weights`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sepconv_fuzz::network_weights::check(data);
});
