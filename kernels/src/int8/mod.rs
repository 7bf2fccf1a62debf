//! 8-bit arithmetic: what the int8 kernels ask of an instruction set.
//!
//! A quantized value `q`, 0 to 255, lies in memory between steps as `q − OFFSET`, in the type that the instruction set multiplies
//! fastest ([`Stored`](Int8::Stored)). A step of a sum multiplies [`STEP`](Int8::STEP) values of `k` at once:
//!
//! ```text
//!   x         k0 k1 | k0 k1 | k0 k1 | …        the same values in each lane
//!   weights   c0 c0 | c1 c1 | c2 c2 | …        those of k0 and k1
//!   sums      c0    | c1    | c2    | …        i32:  sum + x[k0] × w[k0] + x[k1] × w[k1]
//! ```
//!
//! | level | stored | `STEP` | a step |
//! |---|---|--:|---|
//! | AVX-512, AVX2, SSE4.2 | i16 | 2 | `pmaddwd`, `paddd` |
//! | NEON | i16 | 2 | `smlal`, twice |
//! | scalar | i16 | 2 | two products, two sums |
//!
//! No step saturates, for any values and weights: a product of pairs is at most 2 × 255 × 128. Sums are exact, so their order is free.
//!
//! `docs/kernels/int8.md` has the ways that lost.

mod convert;
mod depthwise;
mod end;
mod mean;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod scalar;
mod sum;
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2", feature = "sse42")))]
mod x86;

pub use convert::{CallerValue, ConvertArgs, FromCaller, ToCaller, ValuePlaces};
pub use depthwise::{Int8DwConv, Int8DwConv3x3};
pub(crate) use end::End;
pub use end::{QuantizedSum, Requantize};
pub use mean::{Int8Mean, Int8MeanArgs};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NeonPairs;
pub use pack::DepthwisePacking;
pub(crate) use scalar::ScalarPairs;
pub use sum::{Int8Sum, Int8SumArgs};
#[cfg(all(target_arch = "x86_64", feature = "avx2"))]
pub(crate) use x86::Avx2Pairs;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
pub(crate) use x86::Avx512Pairs;
#[cfg(all(target_arch = "x86_64", feature = "sse42"))]
pub(crate) use x86::Sse42Pairs;

use crate::BLOCK;
use crate::simd::Vector;

/// The type of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredType {
    /// `u8`
    U8,
    /// `i16`
    I16,
}

impl StoredType {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            StoredType::U8 => 1,
            StoredType::I16 => 2,
        }
    }
}

/// How the int8 kernels of an instruction set want values and weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Layout {
    /// What tensors between steps hold.
    pub stored: StoredType,
    /// What is taken off a quantized value to store it.
    pub offset: i32,
    /// Values of `k` that a step multiplies at once.
    pub step: usize,
    /// Bytes of a packed weight.
    pub weight: usize,
    /// In the 16 × `step` weights of a step, the place of the weight of channel `c` and of value `j` of `k`: `places[c][j]`.
    pub places: [[u8; 4]; BLOCK],
    /// In 16 biases or multipliers, the place of channel `c`.
    pub lanes: [u8; BLOCK],
}

/// A value in memory between steps.
pub trait StoredValue: Copy {
    /// The type, as a value.
    const TYPE: StoredType;

    /// A stored value, which the type holds.
    fn of(value: i32) -> Self;

    /// As an integer.
    fn value(self) -> i32;
}

impl StoredValue for u8 {
    const TYPE: StoredType = StoredType::U8;

    #[inline(always)]
    fn of(value: i32) -> u8 {
        value as u8
    }

    #[inline(always)]
    fn value(self) -> i32 {
        i32::from(self)
    }
}

impl StoredValue for i16 {
    const TYPE: StoredType = StoredType::I16;

    #[inline(always)]
    fn of(value: i32) -> i16 {
        value as i16
    }

    #[inline(always)]
    fn value(self) -> i32 {
        i32::from(self)
    }
}

/// 8-bit arithmetic on vectors of `S`. A vector of sums has as many lanes as one of floats; `16 / lanes` of them are a block.
pub trait Int8<S: Vector>: 'static {
    /// What memory between steps holds.
    type Stored: StoredValue;
    /// A packed weight.
    type Weight: Copy;
    /// Values of a step, in each lane.
    type Values: Copy;
    /// Sums, an i32 in each lane.
    type Sums: Copy;

    /// Values of `k` that a step multiplies at once: 2 or 4.
    const STEP: usize;
    /// What is taken off a quantized value to store it.
    const OFFSET: i32;
    /// Reads `STEP` values that lie together into every lane.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn splat(simd: S, x: *const Self::Stored) -> Self::Values;

    /// Reads the packed weights of a step, for a vector of sums.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn weights(simd: S, w: *const Self::Weight) -> Self::Values;

    /// Weights of one.
    fn ones(simd: S) -> Self::Values;

    /// A step of the sums.
    fn dot(simd: S, x: Self::Values, w: Self::Values, sums: Self::Sums) -> Self::Sums;

    /// Reads the 16 channels at each of four places, and gives vector `v` of the block, lane by lane: the values of the first
    /// `STEP` places in the first, and those of the others, where `STEP` is 2, in the second. Weights are packed as for four values of `k`.
    ///
    /// # Safety
    /// 16 values are readable at each place.
    unsafe fn taps(simd: S, places: [*const Self::Stored; 4], v: usize) -> [Self::Values; 2];

    /// Reads i32 values.
    ///
    /// # Safety
    /// As many are readable as a vector has lanes.
    unsafe fn load_sums(simd: S, p: *const i32) -> Self::Sums;

    /// Writes i32 values.
    ///
    /// # Safety
    /// As many are writable as a vector has lanes.
    unsafe fn store_sums(simd: S, p: *mut i32, sums: Self::Sums);

    /// Vector `v` of 16 stored values.
    ///
    /// # Safety
    /// 16 values are readable.
    unsafe fn load_stored(simd: S, p: *const Self::Stored, v: usize) -> Self::Sums;

    /// `rne(min(f32(sum) × m, most))` of each lane. Where that is below −2¹⁷, it is any number at most that.
    fn scaled(simd: S, sums: Self::Sums, m: S::f32s, most: S::f32s) -> Self::Sums;

    /// Writes the values of some vectors of a block that follow each other: `max(value + zero, least)`, computed in 16 bits, with saturation.
    /// The result fits the stored type. Vectors come in pairs, unless one is a block or a value.
    ///
    /// # Safety
    /// The values are writable.
    unsafe fn store_vectors<const NV: usize>(
        simd: S,
        p: *mut Self::Stored,
        zero: i16,
        least: i16,
        values: [Self::Sums; NV],
    );

    /// The same value in each lane.
    fn splat_sum(simd: S, value: i32) -> Self::Sums;

    /// Wrapping sums.
    fn add(simd: S, a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// The low 32 bits of products.
    fn mul(simd: S, a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// The larger of each lane.
    fn max(simd: S, a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// The smaller of each lane.
    fn min(simd: S, a: Self::Sums, b: Self::Sums) -> Self::Sums;

    /// Halved `count` times, rounded down.
    fn shift_right(simd: S, a: Self::Sums, count: u32) -> Self::Sums;

    /// How its kernels want memory.
    fn layout() -> Int8Layout;
}

/// The channels of the lanes of a block's vectors, where instructions work on halves of 128 bits.
pub(crate) const HALVES: [u8; BLOCK] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];
