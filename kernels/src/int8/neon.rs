//! NEON: pairs of `i16`, four channels a vector.

use core::arch::aarch64::*;
use core::mem::transmute;

use pulp::aarch64::Neon;

use super::{Int8, Int8Layout, StoredType};

/// Pairs of `i16`: the first values of `k` of four channels, then the second ones.
pub(crate) enum NeonPairs {}

impl Int8<Neon> for NeonPairs {
    type Stored = i16;
    type Weight = i16;
    type Values = int16x8_t;
    type Sums = int32x4_t;

    const STEP: usize = 2;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn splat(_: Neon, x: *const i16) -> int16x8_t {
        // SAFETY: the caller's; the token says that the CPU has NEON.
        unsafe { vcombine_s16(vld1_dup_s16(x), vld1_dup_s16(x.add(1))) }
    }

    #[inline(always)]
    unsafe fn weights(_: Neon, w: *const i16) -> int16x8_t {
        // SAFETY: as in `splat`.
        unsafe { vld1q_s16(w) }
    }

    #[inline(always)]
    fn ones(_: Neon) -> int16x8_t {
        // SAFETY: as in `splat`.
        unsafe { vdupq_n_s16(1) }
    }

    #[inline(always)]
    fn dot(_: Neon, x: int16x8_t, w: int16x8_t, sums: int32x4_t) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vmlal_high_s16(vmlal_s16(sums, vget_low_s16(x), vget_low_s16(w)), x, w) }
    }

    #[inline(always)]
    unsafe fn taps(_: Neon, places: [*const i16; 4], v: usize) -> [int16x8_t; 2] {
        // SAFETY: as in `splat`, for channels `4 v` to `4 v + 3` of 16.
        unsafe {
            let [a, b, c, d] = places.map(|place| vld1_s16(place.add(4 * v)));
            [vcombine_s16(a, b), vcombine_s16(c, d)]
        }
    }

    #[inline(always)]
    unsafe fn load_sums(_: Neon, p: *const i32) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vld1q_s32(p) }
    }

    #[inline(always)]
    unsafe fn store_sums(_: Neon, p: *mut i32, sums: int32x4_t) {
        // SAFETY: as in `splat`.
        unsafe { vst1q_s32(p, sums) }
    }

    #[inline(always)]
    unsafe fn load_stored(_: Neon, p: *const i16, v: usize) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vmovl_s16(vld1_s16(p.add(4 * v))) }
    }

    #[inline(always)]
    fn scaled(_: Neon, sums: int32x4_t, m: <Neon as pulp::Simd>::f32s, most: <Neon as pulp::Simd>::f32s) -> int32x4_t {
        // SAFETY: as in `splat`; all vectors of 4 floats are the same to the compiler.
        unsafe {
            let [m, most] = transmute::<[<Neon as pulp::Simd>::f32s; 2], [float32x4_t; 2]>([m, most]);
            vcvtnq_s32_f32(vminq_f32(vmulq_f32(vcvtq_f32_s32(sums), m), most))
        }
    }

    #[inline(always)]
    unsafe fn store_vectors<const NV: usize>(_: Neon, p: *mut i16, zero: i16, least: i16, values: [int32x4_t; NV]) {
        // SAFETY: as in `splat`.
        unsafe {
            // as on SSE4.2
            for v in (0..NV / 2 * 2).step_by(2) {
                let pair = vcombine_s16(vqmovn_s32(values[v]), vqmovn_s32(values[v + 1]));
                let pair = vmaxq_s16(vqaddq_s16(pair, vdupq_n_s16(zero)), vdupq_n_s16(least));
                vst1q_s16(p.add(4 * v), pair);
            }
        }
    }

    #[inline(always)]
    fn splat_sum(_: Neon, value: i32) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vdupq_n_s32(value) }
    }

    #[inline(always)]
    fn add(_: Neon, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vaddq_s32(a, b) }
    }

    #[inline(always)]
    fn mul(_: Neon, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vmulq_s32(a, b) }
    }

    #[inline(always)]
    fn max(_: Neon, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vmaxq_s32(a, b) }
    }

    #[inline(always)]
    fn min(_: Neon, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vminq_s32(a, b) }
    }

    #[inline(always)]
    fn shift_right(_: Neon, a: int32x4_t, count: u32) -> int32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vshlq_s32(a, vdupq_n_s32(-(count as i32))) }
    }

    fn layout() -> Int8Layout {
        Int8Layout {
            stored: StoredType::I16,
            offset: 0,
            step: 2,
            weight: 2,
            places: core::array::from_fn(|c| {
                let first = (c / 4 * 8 + c % 4) as u8;
                [first, first + 4, 0, 0]
            }),
            lanes: core::array::from_fn(|c| c as u8),
        }
    }
}
