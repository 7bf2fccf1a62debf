//! What a tile multiplies: floats, or 8-bit values. Driver and tile are written once over it.

use core::marker::PhantomData;

use super::PointwiseArgs;
use super::finish::{finish, finish_half, finish_int8};
use crate::int8::Int8;
use crate::simd::{MulAdd, Vector, load};
use crate::{BLOCK, Level, Pointee};

/// What a kernel multiplies, on every level.
pub(super) trait Multiplied: 'static {
    /// What the pointers of its arguments point to.
    type Pointee: Pointee;
    /// What tiles of one level multiply.
    type On<L: Level>: TileProduct<L::Token, Pointee = Self::Pointee>;
}

/// Floats.
pub(super) enum Floats {}

impl Multiplied for Floats {
    type Pointee = f32;
    type On<L: Level> = FloatProduct<L::MulAdd>;
}

/// Quantized values.
pub(super) enum Quantized {}

impl Multiplied for Quantized {
    type Pointee = u8;
    type On<L: Level> = Int8Product<L::Int8>;
}

/// What a tile multiplies on vectors of `S`.
pub(super) trait TileProduct<S: Vector>: 'static {
    /// What the pointers of its arguments point to.
    type Pointee: Pointee;
    /// An input.
    type Input: Copy;
    /// A packed weight.
    type Weight: Copy;
    /// A sum, or a bias, in memory.
    type Sum: Copy;
    /// Inputs or weights in a register.
    type Values: Copy;
    /// Sums in a register: as many as `S` has floats in one.
    type Sums: Copy;

    /// Values of `k` of a step.
    const STEP: usize;
    /// Whether the last panel has tiles of its own, where only its first 8 channels count.
    const HAS_HALVES: bool;
    /// Whether two pixels share a vector in these.
    const SHARES_VECTORS: bool;

    /// Zeros.
    fn zero(simd: S) -> Self::Sums;

    /// The values of a step, in each lane.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn splat(simd: S, x: *const Self::Input) -> Self::Values;

    /// A vector of the weights of a step.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn weights(simd: S, w: *const Self::Weight) -> Self::Values;

    /// A step of the sums.
    fn step(simd: S, x: Self::Values, w: Self::Values, sums: Self::Sums) -> Self::Sums;

    /// Reads sums, or biases.
    ///
    /// # Safety
    /// A vector of them is readable.
    unsafe fn load(simd: S, p: *const Self::Sum) -> Self::Sums;

    /// The lower half of the values of the first pixel, and the upper half of those of the second.
    fn of_two(simd: S, first: Self::Values, second: Self::Values) -> Self::Values;

    /// Half a vector of weights, twice.
    ///
    /// # Safety
    /// Half a vector is readable.
    unsafe fn half_weights(simd: S, w: *const Self::Weight) -> Self::Values;

    /// Half a vector of sums from each of two places.
    ///
    /// # Safety
    /// Half a vector is readable at each.
    unsafe fn load_halves(simd: S, lower: *const Self::Sum, upper: *const Self::Sum) -> Self::Sums;

    /// The end of a tile: see [`finish`].
    ///
    /// # Safety
    /// As that function's.
    unsafe fn finish<const PLAIN: bool, const MR: usize, const NP: usize, const NV: usize>(
        simd: S,
        a: &PointwiseArgs<Self::Pointee>,
        acc: [[[Self::Sums; NV]; NP]; MR],
        i: usize,
        last: usize,
        panel: usize,
        lane: usize,
    );

    /// The end of a tile of half a panel: see [`finish_half`].
    ///
    /// # Safety
    /// As that function's.
    unsafe fn finish_half<const MR: usize>(
        simd: S,
        a: &PointwiseArgs<Self::Pointee>,
        halves: [Self::Sums; MR],
        i: usize,
        last: usize,
        panel: usize,
    );
}

/// Floats, with a step rounded as `A` says.
pub(super) struct FloatProduct<A>(PhantomData<A>);

impl<S: Vector, A: MulAdd> TileProduct<S> for FloatProduct<A> {
    type Pointee = f32;
    type Input = f32;
    type Weight = f32;
    type Sum = f32;
    type Values = S::f32s;
    type Sums = S::f32s;

    const STEP: usize = 1;
    const HAS_HALVES: bool = true;
    const SHARES_VECTORS: bool = S::F32_LANES == BLOCK;

    #[inline(always)]
    fn zero(simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }

    #[inline(always)]
    unsafe fn splat(simd: S, x: *const f32) -> S::f32s {
        // SAFETY: the caller's.
        simd.splat_f32s(unsafe { *x })
    }

    #[inline(always)]
    unsafe fn weights(simd: S, w: *const f32) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { load(simd, w) }
    }

    #[inline(always)]
    fn step(simd: S, x: S::f32s, w: S::f32s, sums: S::f32s) -> S::f32s {
        A::mul_add(simd, x, w, sums)
    }

    #[inline(always)]
    unsafe fn load(simd: S, p: *const f32) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { load(simd, p) }
    }

    #[inline(always)]
    fn of_two(simd: S, first: S::f32s, second: S::f32s) -> S::f32s {
        simd.halves(first, second)
    }

    #[inline(always)]
    unsafe fn half_weights(simd: S, w: *const f32) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { simd.load_halves(w, w) }
    }

    #[inline(always)]
    unsafe fn load_halves(simd: S, lower: *const f32, upper: *const f32) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { simd.load_halves(lower, upper) }
    }

    #[inline(always)]
    unsafe fn finish<const PLAIN: bool, const MR: usize, const NP: usize, const NV: usize>(
        simd: S,
        a: &PointwiseArgs,
        acc: [[[S::f32s; NV]; NP]; MR],
        i: usize,
        last: usize,
        panel: usize,
        lane: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { finish::<S, PLAIN, MR, NP, NV>(simd, a, acc, i, last, panel, lane) }
    }

    #[inline(always)]
    unsafe fn finish_half<const MR: usize>(
        simd: S,
        a: &PointwiseArgs,
        halves: [S::f32s; MR],
        i: usize,
        last: usize,
        panel: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { finish_half(simd, a, halves, i, last, panel) }
    }
}

/// Quantized values, by the 8-bit arithmetic `I`.
pub(super) struct Int8Product<I>(PhantomData<I>);

impl<S: Vector, I: Int8<S>> TileProduct<S> for Int8Product<I> {
    type Pointee = u8;
    type Input = I::Stored;
    type Weight = I::Weight;
    type Sum = i32;
    type Values = I::Values;
    type Sums = I::Sums;

    const STEP: usize = I::STEP;
    const HAS_HALVES: bool = false;
    const SHARES_VECTORS: bool = false;

    #[inline(always)]
    fn zero(simd: S) -> I::Sums {
        I::splat_sum(simd, 0)
    }

    #[inline(always)]
    unsafe fn splat(simd: S, x: *const I::Stored) -> I::Values {
        // SAFETY: the caller's.
        unsafe { I::splat(simd, x) }
    }

    #[inline(always)]
    unsafe fn weights(simd: S, w: *const I::Weight) -> I::Values {
        // SAFETY: the caller's.
        unsafe { I::weights(simd, w) }
    }

    #[inline(always)]
    fn step(simd: S, x: I::Values, w: I::Values, sums: I::Sums) -> I::Sums {
        I::dot(simd, x, w, sums)
    }

    #[inline(always)]
    unsafe fn load(simd: S, p: *const i32) -> I::Sums {
        // SAFETY: the caller's.
        unsafe { I::load_sums(simd, p) }
    }

    // vectors are not shared
    #[inline(always)]
    fn of_two(_: S, first: I::Values, _: I::Values) -> I::Values {
        first
    }

    #[inline(always)]
    unsafe fn half_weights(simd: S, w: *const I::Weight) -> I::Values {
        // SAFETY: the caller's.
        unsafe { I::weights(simd, w) }
    }

    #[inline(always)]
    unsafe fn load_halves(simd: S, lower: *const i32, _: *const i32) -> I::Sums {
        // SAFETY: the caller's.
        unsafe { I::load_sums(simd, lower) }
    }

    /// A tile has whole panels: `NV` vectors are a block, and `lane` is 0. A partial sum is stored as it is.
    #[inline(always)]
    unsafe fn finish<const PLAIN: bool, const MR: usize, const NP: usize, const NV: usize>(
        simd: S,
        a: &PointwiseArgs<u8>,
        acc: [[[I::Sums; NV]; NP]; MR],
        i: usize,
        last: usize,
        panel: usize,
        lane: usize,
    ) {
        // SAFETY: the caller's, for the pixels `i` to `i + last` and `NP` panels.
        unsafe { finish_int8::<S, I, MR, NP, NV>(simd, a, acc, i, last, panel, lane) }
    }

    #[inline(always)]
    unsafe fn finish_half<const MR: usize>(
        _: S,
        _: &PointwiseArgs<u8>,
        _: [I::Sums; MR],
        _: usize,
        _: usize,
        _: usize,
    ) {
    }
}
