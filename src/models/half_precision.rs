//! The 16-bit floats of a file of weights, as `f32`, which every one of their values is exactly.
//!
//! | | sign | exponent | fraction |
//! |---|---|---|---|
//! | binary16 | 1 | 5, biased by 15 | 10 |
//! | bfloat16 | 1 | 8, biased by 127 | 7 |
//! | `f32` | 1 | 8, biased by 127 | 23 |
//!
//! The crate `half`, to which the tests hold these functions, would bring two more crates and a procedural macro to every
//! build of the feature.

/// IEEE 754's binary16.
pub(super) fn f16(bits: u16) -> f32 {
    let [sign, exponent, fraction] = [bits >> 15, bits >> 10 & 0x1f, bits & 0x3ff].map(u32::from);
    let magnitude = match exponent {
        // zero and subnormal numbers: the fraction in units of 2^-24, which is zero or a normal number of `f32`
        0 => (fraction as f32 / (1 << 24) as f32).to_bits(),
        // infinity and NaN
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign << 31 | magnitude)
}

/// bfloat16: the upper half of an `f32`.
pub(super) fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
