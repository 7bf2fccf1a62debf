//! A row of sums of two tensors of quantized values.
//!
//! ```text
//!   out[p][c] = clamp(((mx × (x − zero_x) + my × (y − zero_y) + 2^(shift − 1)) >> shift) + zero)
//! ```
//!
//! `y` may be one pixel for the whole row. Registers: two values and four constants.

use pulp::Simd;

use super::end::SumVectors;
use super::{Int8, QuantizedSum};
use crate::simd::Vector;
use crate::{BLOCK, Kernel, Level, RowPixels};

/// What [`Int8Sum`] computes on. Distances are counted in stored values, and all blocks are whole.
#[derive(Clone, Copy, Debug)]
pub struct Int8SumArgs {
    /// Channels.
    pub channels: usize,
    /// Pixels.
    pub width: usize,
    /// The first operand.
    pub x: RowPixels<*const u8>,
    /// The second operand. One pixel serves the whole row where pixels are 0 apart.
    pub y: RowPixels<*const u8>,
    /// The result.
    pub out: RowPixels<*mut u8>,
    /// The zero point of the first operand.
    pub zero: i32,
    /// How they are added.
    pub sum: QuantizedSum,
}

/// `int8_sum`.
pub enum Int8Sum {}

impl Kernel for Int8Sum {
    type Args = Int8SumArgs;

    /// # Safety
    /// `x` and `y` are readable, and `out` is writable, in whole blocks for `channels` of `width` pixels. `out` may be one of the others at
    /// the same places, and overlaps them nowhere else.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &Int8SumArgs) {
        // SAFETY: the caller's.
        unsafe {
            if const { L::Token::F32_LANES == 16 } {
                row::<L::Token, L::Int8, 1>(simd, a);
            } else {
                row::<L::Token, L::Int8, 2>(simd, a);
            }
        }
    }
}

/// All pixels, `NV` vectors at a time.
///
/// # Safety
/// As [`Int8Sum::run`].
#[inline(always)]
unsafe fn row<S: Vector, I: Int8<S>, const NV: usize>(simd: S, a: &Int8SumArgs) {
    let sum = SumVectors::<S, I>::new(simd, &a.sum, i32::MIN);
    let minus_zero = I::splat_sum(simd, I::OFFSET - a.zero);
    let [zero, least] = [a.sum.zeros[1], a.sum.bounds[0]].map(|value| (value - I::OFFSET) as i16);
    for block in 0..a.channels.div_ceil(BLOCK) {
        let x = a.x.ptr.cast::<I::Stored>().wrapping_add(block * a.x.block);
        let y = a.y.ptr.cast::<I::Stored>().wrapping_add(block * a.y.block);
        let out = a.out.ptr.cast::<I::Stored>().wrapping_add(block * a.out.block);
        for p in 0..a.width {
            for part in 0..BLOCK / (S::F32_LANES * NV) {
                let mut values = [minus_zero; NV];
                // SAFETY: the caller's, for vectors of the block.
                unsafe {
                    for v in 0..NV {
                        let from = I::load_stored(simd, x.wrapping_add(p * a.x.pixel), part * NV + v);
                        let other = I::load_stored(simd, y.wrapping_add(p * a.y.pixel), part * NV + v);
                        values[v] = sum.add(simd, I::add(simd, from, minus_zero), other);
                    }
                    let to = out.wrapping_add(p * a.out.pixel + part * NV * S::F32_LANES);
                    I::store_vectors(simd, to, zero, least, values);
                }
            }
        }
    }
}
