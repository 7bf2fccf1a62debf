//! The end of exact sums: multiplied, rounded once, clamped, perhaps added to another tensor, and stored.
//!
//! ```text
//!   v = rne(f32(sum) × m[c])                                   clamped to the bounds, less the zero point
//!   q = v + zero                                               without a second tensor
//!   q = ((ma × v + mb × (b − zero_b) + 2^(shift − 1)) >> shift) + zero     clamped, with one
//! ```

use crate::simd::{Vector, load};

use super::Int8;

/// What becomes of an exact sum, in quantized values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantize {
    /// The zero point of the result: 0 to 255, as all quantized values are.
    pub zero: i32,
    /// Its least and its largest value.
    pub bounds: [i32; 2],
    /// How a residual is added. Without it, none is.
    pub sum: Option<QuantizedSum>,
}

/// A sum of two quantized tensors: `((m₀ × (a − zero_a) + m₁ × (b − zero_b) + 2^(shift − 1)) >> shift) + zero`, clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizedSum {
    /// Of both tensors, each less than 2²¹ in absolute value.
    pub multipliers: [i32; 2],
    /// 1 to 31.
    pub shift: u32,
    /// The zero points of the second tensor, and of the result.
    pub zeros: [i32; 2],
    /// The least and the largest value of the result.
    pub bounds: [i32; 2],
}

/// [`Requantize`] in registers.
pub(crate) struct End<S: Vector, I: Int8<S>> {
    most: S::f32s,
    zero: i16,
    least: i16,
    sum: Option<SumVectors<S, I>>,
}

/// [`QuantizedSum`] in registers.
pub(crate) struct SumVectors<S: Vector, I: Int8<S>> {
    /// The least value of the first tensor, less its zero point.
    least: I::Sums,
    multipliers: [I::Sums; 2],
    /// Half of a unit of the result, less the zero point of the second tensor times its multiplier.
    rest: I::Sums,
    shift: u32,
    /// The largest value of the result, less its zero point.
    most: I::Sums,
}

impl<S: Vector, I: Int8<S>> Clone for SumVectors<S, I> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Vector, I: Int8<S>> Copy for SumVectors<S, I> {}

impl<S: Vector, I: Int8<S>> Clone for End<S, I> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Vector, I: Int8<S>> Copy for End<S, I> {}

impl<S: Vector, I: Int8<S>> End<S, I> {
    /// The registers of `requantize`; with its sum, where there is a residual.
    #[inline(always)]
    pub(crate) fn new(simd: S, requantize: &Requantize, residual: bool) -> Self {
        let Requantize { zero, bounds: [least, most], sum } = *requantize;
        let last = sum.filter(|_| residual);
        let (end_zero, end_least) = match last {
            Some(sum) => (sum.zeros[1], sum.bounds[0]),
            None => (zero, least),
        };
        End {
            most: simd.splat_f32s((most - zero) as f32),
            zero: (end_zero - I::OFFSET) as i16,
            least: (end_least - I::OFFSET) as i16,
            sum: last.map(|sum| SumVectors::new(simd, &sum, least - zero)),
        }
    }

    /// Ends `NV` vectors of sums from vector `first` of a block on, with the multipliers of the block and what is added, the values of the
    /// block, and stores them.
    ///
    /// # Safety
    /// The multipliers of the block are readable, and what is added; `out`, where the block goes, is writable in these vectors.
    #[inline(always)]
    pub(crate) unsafe fn store<const NV: usize>(
        &self,
        simd: S,
        sums: [I::Sums; NV],
        first: usize,
        m: *const f32,
        residual: *const I::Stored,
        out: *mut I::Stored,
    ) {
        let mut values = sums;
        // SAFETY: the caller's.
        unsafe {
            for v in 0..NV {
                values[v] = I::scaled(simd, sums[v], load(simd, m.add((first + v) * S::F32_LANES)), self.most);
            }
            if let Some(sum) = &self.sum {
                for v in 0..NV {
                    values[v] = sum.add(simd, values[v], I::load_stored(simd, residual, first + v));
                }
            }
            I::store_vectors(simd, out.add(first * S::F32_LANES), self.zero, self.least, values);
        }
    }
}

impl<S: Vector, I: Int8<S>> SumVectors<S, I> {
    /// The registers of `sum`, of which the first tensor is at least `least` above its zero point.
    #[inline(always)]
    pub(crate) fn new(simd: S, sum: &QuantizedSum, least: i32) -> Self {
        let [ma, mb] = sum.multipliers;
        let stored_zero = sum.zeros[0] - I::OFFSET;
        SumVectors {
            least: I::splat_sum(simd, least),
            multipliers: [I::splat_sum(simd, ma), I::splat_sum(simd, mb)],
            rest: I::splat_sum(simd, (1i32 << (sum.shift - 1)).wrapping_sub(mb.wrapping_mul(stored_zero))),
            shift: sum.shift,
            most: I::splat_sum(simd, sum.bounds[1] - sum.zeros[1]),
        }
    }

    /// The sum of values less their zero point, and of stored ones, less the zero point of the result.
    #[inline(always)]
    pub(crate) fn add(&self, simd: S, values: I::Sums, residual: I::Sums) -> I::Sums {
        let [ma, mb] = self.multipliers;
        let values = I::max(simd, values, self.least);
        let sum = I::add(simd, I::mul(simd, values, ma), I::mul(simd, residual, mb));
        I::min(simd, I::shift_right(simd, I::add(simd, sum, self.rest), self.shift), self.most)
    }
}
