//! Arbitrary descriptions and shapes into `new` and `plan`: see [`sepconv_fuzz::describe`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sepconv_fuzz::describe::check(data);
});
