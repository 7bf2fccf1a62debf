//! Plain Rust: pairs of `i16`, a lane a vector.

use pulp::Scalar;

use super::{Int8, Int8Layout, StoredType};
use crate::BLOCK;

/// Pairs of `i16`.
pub(crate) enum ScalarPairs {}

/// 1.5 × 2^23: added to a float between −2^22 and 2^22, it rounds it to a whole number.
const ROUNDS: f32 = 12_582_912.0;

impl Int8<Scalar> for ScalarPairs {
    type Stored = i16;
    type Weight = i16;
    type Values = [i32; 2];
    type Sums = i32;

    const STEP: usize = 2;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn splat(_: Scalar, x: *const i16) -> [i32; 2] {
        // SAFETY: the caller's.
        unsafe { x.cast::<[i16; 2]>().read_unaligned() }.map(i32::from)
    }

    #[inline(always)]
    unsafe fn weights(simd: Scalar, w: *const i16) -> [i32; 2] {
        // SAFETY: the caller's.
        unsafe { Self::splat(simd, w) }
    }

    #[inline(always)]
    fn ones(_: Scalar) -> [i32; 2] {
        [1, 1]
    }

    #[inline(always)]
    fn dot(_: Scalar, x: [i32; 2], w: [i32; 2], sums: i32) -> i32 {
        sums.wrapping_add(x[0] * w[0]).wrapping_add(x[1] * w[1])
    }

    #[inline(always)]
    unsafe fn taps(_: Scalar, places: [*const i16; 4], v: usize) -> [[i32; 2]; 2] {
        // SAFETY: the caller's, for channel `v` of 16.
        let [a, b, c, d] = places.map(|place| i32::from(unsafe { place.add(v).read_unaligned() }));
        [[a, b], [c, d]]
    }

    #[inline(always)]
    unsafe fn load_sums(_: Scalar, p: *const i32) -> i32 {
        // SAFETY: the caller's.
        unsafe { p.read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_sums(_: Scalar, p: *mut i32, sums: i32) {
        // SAFETY: the caller's.
        unsafe { p.write_unaligned(sums) }
    }

    #[inline(always)]
    unsafe fn load_stored(_: Scalar, p: *const i16, v: usize) -> i32 {
        // SAFETY: the caller's, for value `v` of 16.
        i32::from(unsafe { p.add(v).read_unaligned() })
    }

    #[inline(always)]
    fn scaled(_: Scalar, sums: i32, m: f32, most: f32) -> i32 {
        let v = sums as f32 * m;
        let v = if v > most { most } else { v };
        // below −2^17 all values saturate alike
        let v = if v < -131_072.0 { -131_072.0 } else { v };
        ((v + ROUNDS) - ROUNDS) as i32
    }

    #[inline(always)]
    unsafe fn store_vectors<const NV: usize>(_: Scalar, p: *mut i16, zero: i16, least: i16, values: [i32; NV]) {
        for v in 0..NV {
            let value = values[v].clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
            // SAFETY: the caller's.
            unsafe { p.add(v).write_unaligned(value.saturating_add(zero).max(least)) };
        }
    }

    #[inline(always)]
    fn splat_sum(_: Scalar, value: i32) -> i32 {
        value
    }

    #[inline(always)]
    fn add(_: Scalar, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }

    #[inline(always)]
    fn mul(_: Scalar, a: i32, b: i32) -> i32 {
        a.wrapping_mul(b)
    }

    #[inline(always)]
    fn max(_: Scalar, a: i32, b: i32) -> i32 {
        a.max(b)
    }

    #[inline(always)]
    fn min(_: Scalar, a: i32, b: i32) -> i32 {
        a.min(b)
    }

    #[inline(always)]
    fn shift_right(_: Scalar, a: i32, count: u32) -> i32 {
        a >> count
    }

    fn layout() -> Int8Layout {
        Int8Layout::pairs(false)
    }
}

impl Int8Layout {
    /// Pairs of `i16`, of channels in order or by halves of 128 bits.
    pub(super) fn pairs(by_halves: bool) -> Int8Layout {
        let lanes: [u8; BLOCK] = core::array::from_fn(|c| if by_halves { super::HALVES[c] } else { c as u8 });
        Int8Layout {
            stored: StoredType::I16,
            offset: 0,
            step: 2,
            weight: 2,
            places: lanes.map(|lane| [2 * lane, 2 * lane + 1, 0, 0]),
            lanes,
        }
    }
}
