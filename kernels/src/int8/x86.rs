//! x86-64: pairs of `i16` on SSE4.2, AVX2 and AVX-512.

use core::arch::x86_64::*;
use core::mem::transmute;

use pulp::Simd;

use super::{Int8, Int8Layout};

// SAFETY of all functions here: the token says that the CPU has the instructions, memory is the caller's, and all vectors of as many
// values are the same to the compiler.

/// What [`Int8`] asks of sums, by the instructions of one width.
macro_rules! sums {
    ($simd:ty, $sums:ty: $load:ident $store:ident $as:ty, $set:ident $add:ident $mul:ident $max:ident $min:ident
     $shift:ident) => {
        #[inline(always)]
        unsafe fn load_sums(_: $simd, p: *const i32) -> $sums {
            // SAFETY: see above.
            unsafe { $load(p.cast::<$as>()) }
        }

        #[inline(always)]
        unsafe fn store_sums(_: $simd, p: *mut i32, sums: $sums) {
            // SAFETY: see above.
            unsafe { $store(p.cast::<$as>(), sums) }
        }

        #[inline(always)]
        fn splat_sum(_: $simd, value: i32) -> $sums {
            // SAFETY: see above.
            unsafe { $set(value) }
        }

        #[inline(always)]
        fn add(_: $simd, a: $sums, b: $sums) -> $sums {
            // SAFETY: see above.
            unsafe { $add(a, b) }
        }

        #[inline(always)]
        fn mul(_: $simd, a: $sums, b: $sums) -> $sums {
            // SAFETY: see above.
            unsafe { $mul(a, b) }
        }

        #[inline(always)]
        fn max(_: $simd, a: $sums, b: $sums) -> $sums {
            // SAFETY: see above.
            unsafe { $max(a, b) }
        }

        #[inline(always)]
        fn min(_: $simd, a: $sums, b: $sums) -> $sums {
            // SAFETY: see above.
            unsafe { $min(a, b) }
        }

        #[inline(always)]
        fn shift_right(_: $simd, a: $sums, count: u32) -> $sums {
            // SAFETY: see above.
            unsafe { $shift(a, _mm_cvtsi32_si128(count as i32)) }
        }
    };
}

/// Each is a sum that LLVM leaves where it stands. LLVM would add up the products of several steps first, and spill the sums for that.
macro_rules! in_order {
    ($($feature:literal $name:ident: $v:ty, $class:ident, $add:ident, $target:literal, $text:literal;)*) => {$(
        #[cfg(feature = $feature)]
        #[target_feature(enable = $target)]
        #[inline]
        fn $name(sums: $v, products: $v) -> $v {
            #[cfg(miri)]
            return $add(sums, products);
            #[cfg(not(miri))]
            {
                let mut sums = sums;
                // SAFETY: the instruction reads and writes registers alone.
                unsafe {
                    core::arch::asm!($text, a = inout($class) sums, b = in($class) products,
                        options(pure, nomem, nostack, preserves_flags));
                }
                sums
            }
        }
    )*};
}

in_order! {
    "sse42" in_order_128: __m128i, xmm_reg, _mm_add_epi32, "sse2", "paddd {a}, {b}";
    "avx2" in_order_256: __m256i, ymm_reg, _mm256_add_epi32, "avx2", "vpaddd {a}, {a}, {b}";
    "avx512" in_order_512: __m512i, zmm_reg, _mm512_add_epi32, "avx512f", "vpaddd {a}, {a}, {b}";
}

/// Pairs of `i16`, by `pmaddwd`.
#[cfg(feature = "sse42")]
pub(crate) enum Sse42Pairs {}

#[cfg(feature = "sse42")]
impl Int8<pulp::x86::V2> for Sse42Pairs {
    type Stored = i16;
    type Weight = i16;
    type Values = __m128i;
    type Sums = __m128i;

    const STEP: usize = 2;
    const OFFSET: i32 = 0;

    sums!(pulp::x86::V2, __m128i: _mm_loadu_si128 _mm_storeu_si128 __m128i, _mm_set1_epi32 _mm_add_epi32 _mm_mullo_epi32
        _mm_max_epi32 _mm_min_epi32 _mm_sra_epi32);

    #[inline(always)]
    unsafe fn splat(_: pulp::x86::V2, x: *const i16) -> __m128i {
        // SAFETY: see above.
        unsafe { _mm_set1_epi32(x.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(_: pulp::x86::V2, w: *const i16) -> __m128i {
        // SAFETY: see above.
        unsafe { _mm_loadu_si128(w.cast()) }
    }

    #[inline(always)]
    fn ones(_: pulp::x86::V2) -> __m128i {
        // SAFETY: see above.
        unsafe { _mm_set1_epi16(1) }
    }

    #[inline(always)]
    fn dot(_: pulp::x86::V2, x: __m128i, w: __m128i, sums: __m128i) -> __m128i {
        // SAFETY: see above.
        unsafe { in_order_128(sums, _mm_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn taps(_: pulp::x86::V2, places: [*const i16; 4], v: usize) -> [__m128i; 2] {
        // SAFETY: see above, for channels `4 v` to `4 v + 3` of 16.
        unsafe {
            let [a, b, c, d] = places.map(|place| _mm_loadu_si128(place.add(v / 2 * 8).cast()));
            if v.is_multiple_of(2) {
                [_mm_unpacklo_epi16(a, b), _mm_unpacklo_epi16(c, d)]
            } else {
                [_mm_unpackhi_epi16(a, b), _mm_unpackhi_epi16(c, d)]
            }
        }
    }

    #[inline(always)]
    unsafe fn load_stored(_: pulp::x86::V2, p: *const i16, v: usize) -> __m128i {
        // SAFETY: see above.
        unsafe { _mm_cvtepi16_epi32(_mm_loadl_epi64(p.add(4 * v).cast())) }
    }

    #[inline(always)]
    fn scaled(
        _: pulp::x86::V2,
        sums: __m128i,
        m: <pulp::x86::V2 as Simd>::f32s,
        most: <pulp::x86::V2 as Simd>::f32s,
    ) -> __m128i {
        // SAFETY: see above.
        unsafe {
            let [m, most] = transmute::<[<pulp::x86::V2 as Simd>::f32s; 2], [__m128; 2]>([m, most]);
            _mm_cvtps_epi32(_mm_min_ps(_mm_mul_ps(_mm_cvtepi32_ps(sums), m), most))
        }
    }

    #[inline(always)]
    unsafe fn store_vectors<const NV: usize>(
        _: pulp::x86::V2,
        p: *mut i16,
        zero: i16,
        least: i16,
        values: [__m128i; NV],
    ) {
        // SAFETY: see above.
        unsafe {
            // vectors come in pairs on this level; of one, another level's, nothing is written
            for v in (0..NV / 2 * 2).step_by(2) {
                let pair = _mm_packs_epi32(values[v], values[v + 1]);
                let pair = _mm_max_epi16(_mm_adds_epi16(pair, _mm_set1_epi16(zero)), _mm_set1_epi16(least));
                _mm_storeu_si128(p.add(4 * v).cast(), pair);
            }
        }
    }

    fn layout() -> Int8Layout {
        Int8Layout::pairs(false)
    }
}

/// Pairs of `i16`, by `vpmaddwd`.
#[cfg(feature = "avx2")]
pub(crate) enum Avx2Pairs {}

#[cfg(feature = "avx2")]
impl Int8<pulp::x86::V3> for Avx2Pairs {
    type Stored = i16;
    type Weight = i16;
    type Values = __m256i;
    type Sums = __m256i;

    const STEP: usize = 2;
    const OFFSET: i32 = 0;

    sums!(pulp::x86::V3, __m256i: _mm256_loadu_si256 _mm256_storeu_si256 __m256i, _mm256_set1_epi32 _mm256_add_epi32
        _mm256_mullo_epi32 _mm256_max_epi32 _mm256_min_epi32 _mm256_sra_epi32);

    #[inline(always)]
    unsafe fn splat(_: pulp::x86::V3, x: *const i16) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi32(x.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(_: pulp::x86::V3, w: *const i16) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(w.cast()) }
    }

    #[inline(always)]
    fn ones(_: pulp::x86::V3) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi16(1) }
    }

    #[inline(always)]
    fn dot(_: pulp::x86::V3, x: __m256i, w: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { in_order_256(sums, _mm256_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn taps(_: pulp::x86::V3, places: [*const i16; 4], v: usize) -> [__m256i; 2] {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = places.map(|place| _mm256_loadu_si256(place.cast()));
            if v == 0 {
                [_mm256_unpacklo_epi16(a, b), _mm256_unpacklo_epi16(c, d)]
            } else {
                [_mm256_unpackhi_epi16(a, b), _mm256_unpackhi_epi16(c, d)]
            }
        }
    }

    #[inline(always)]
    unsafe fn load_stored(_: pulp::x86::V3, p: *const i16, v: usize) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let values = _mm256_loadu_si256(p.cast());
            let zero = _mm256_setzero_si256();
            // stored values are not negative
            if v == 0 { _mm256_unpacklo_epi16(values, zero) } else { _mm256_unpackhi_epi16(values, zero) }
        }
    }

    #[inline(always)]
    fn scaled(
        _: pulp::x86::V3,
        sums: __m256i,
        m: <pulp::x86::V3 as Simd>::f32s,
        most: <pulp::x86::V3 as Simd>::f32s,
    ) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let [m, most] = transmute::<[<pulp::x86::V3 as Simd>::f32s; 2], [__m256; 2]>([m, most]);
            _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), m), most))
        }
    }

    #[inline(always)]
    unsafe fn store_vectors<const NV: usize>(
        _: pulp::x86::V3,
        p: *mut i16,
        zero: i16,
        least: i16,
        values: [__m256i; NV],
    ) {
        // SAFETY: see above.
        unsafe {
            let block = _mm256_packs_epi32(values[0], values[NV - 1]);
            let block = _mm256_max_epi16(_mm256_adds_epi16(block, _mm256_set1_epi16(zero)), _mm256_set1_epi16(least));
            _mm256_storeu_si256(p.cast(), block);
        }
    }

    fn layout() -> Int8Layout {
        Int8Layout::pairs(true)
    }
}

/// Pairs of `i16`, by `vpmaddwd`.
#[cfg(feature = "avx512")]
pub(crate) enum Avx512Pairs {}

#[cfg(feature = "avx512")]
impl Int8<pulp::x86::V4> for Avx512Pairs {
    type Stored = i16;
    type Weight = i16;
    type Values = __m512i;
    type Sums = __m512i;

    const STEP: usize = 2;
    const OFFSET: i32 = 0;

    sums!(pulp::x86::V4, __m512i: _mm512_loadu_si512 _mm512_storeu_si512 __m512i, _mm512_set1_epi32 _mm512_add_epi32
        _mm512_mullo_epi32 _mm512_max_epi32 _mm512_min_epi32 _mm512_sra_epi32);

    #[inline(always)]
    fn scaled(
        _: pulp::x86::V4,
        sums: __m512i,
        m: <pulp::x86::V4 as Simd>::f32s,
        most: <pulp::x86::V4 as Simd>::f32s,
    ) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let [m, most] = transmute::<[<pulp::x86::V4 as Simd>::f32s; 2], [__m512; 2]>([m, most]);
            _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), m), most))
        }
    }

    #[inline(always)]
    unsafe fn splat(_: pulp::x86::V4, x: *const i16) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(x.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(_: pulp::x86::V4, w: *const i16) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(w.cast()) }
    }

    #[inline(always)]
    fn ones(_: pulp::x86::V4) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi16(1) }
    }

    #[inline(always)]
    fn dot(_: pulp::x86::V4, x: __m512i, w: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { in_order_512(sums, _mm512_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn taps(_: pulp::x86::V4, places: [*const i16; 4], _: usize) -> [__m512i; 2] {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = places.map(|place| _mm512_cvtepu16_epi32(_mm256_loadu_si256(place.cast())));
            [_mm512_or_si512(a, _mm512_slli_epi32::<16>(b)), _mm512_or_si512(c, _mm512_slli_epi32::<16>(d))]
        }
    }

    #[inline(always)]
    unsafe fn load_stored(_: pulp::x86::V4, p: *const i16, _: usize) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi16_epi32(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    unsafe fn store_vectors<const NV: usize>(
        _: pulp::x86::V4,
        p: *mut i16,
        zero: i16,
        least: i16,
        values: [__m512i; NV],
    ) {
        // SAFETY: see above.
        unsafe {
            for v in 0..NV {
                let block = _mm512_cvtsepi32_epi16(values[v]);
                let block =
                    _mm256_max_epi16(_mm256_adds_epi16(block, _mm256_set1_epi16(zero)), _mm256_set1_epi16(least));
                _mm256_storeu_si256(p.add(16 * v).cast(), block);
            }
        }
    }

    fn layout() -> Int8Layout {
        Int8Layout::pairs(false)
    }
}
