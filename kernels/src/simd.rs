//! What a kernel asks of an instruction set, over [`pulp::Simd`].
//!
//! pulp gives the vectors and their arithmetic. Two things are added, because the contract on bits needs them: a clamp
//! that lets NaN and −0 through in the same way everywhere, and a step of a sum that is rounded as its [`Arithmetic`]
//! says.
//!
//! Everything here and everything that a kernel reaches is `#[inline(always)]`: the instructions are only enabled in
//! the function that [`crate::Kernels`] enters a kernel by.

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::{float32x4_t, uint32x4_t, vdupq_n_f32, vextq_f32, vshlq_n_u32, vuzp1q_f32, vuzp2q_f32};
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64;
#[cfg(any(
    target_arch = "aarch64",
    all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2", feature = "sse42"))
))]
use core::mem::transmute;

use pulp::Simd;

use crate::quad::Quad;
use crate::{Arithmetic, BLOCK, Isa};

/// An instruction set as kernels see it.
pub trait Vector: Simd {
    /// Which one it is.
    const ISA: Isa;

    /// Whether kernels have few shapes of tiles for it, and are compiled quickly: where a vector is one value, a wide tile gains
    /// little.
    const FEW_TILES: bool = Self::F32_LANES == 1;

    /// Whether [`Vector::transpose_eight`] takes vectors of eight values. Elsewhere it takes four at a time.
    const TRANSPOSES_EIGHT: bool = false;

    /// `min(max(lo, v), hi)` of each lane, where a comparison with NaN is false: NaN comes out as it went in, and so
    /// does a −0 that meets a bound of +0.
    fn clamp(self, v: Self::f32s, lo: Self::f32s, hi: Self::f32s) -> Self::f32s;

    /// Reads what a sum starts from, into a register of its own however many sums start from one address.
    ///
    /// # Safety
    /// As [`load`].
    #[inline(always)]
    unsafe fn load_start(self, p: *const f32) -> Self::f32s {
        // SAFETY: the caller's.
        unsafe { load(self, p) }
    }

    /// Reads the first `n` lanes of a vector; the others are zero. For the last channels of a caller's tensor.
    ///
    /// # Safety
    /// `p` is valid for reads of `n` values, and `n` is at most `F32_LANES`.
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, n: usize) -> Self::f32s {
        let mut lanes = [0.0; BLOCK];
        // SAFETY: `n` values are readable by the caller's promise, and fit the array, which holds more than a vector.
        unsafe {
            for i in 0..n {
                lanes[i] = p.add(i).read();
            }
            load(self, lanes.as_ptr())
        }
    }

    /// The low nine bits of each lane, as sign and exponent of a float with no other bit set.
    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::f32s) -> Self::f32s {
        let mut lanes = [0.0; BLOCK];
        // SAFETY: the array holds a vector.
        unsafe {
            store(self, lanes.as_mut_ptr(), v);
            for i in 0..Self::F32_LANES {
                lanes[i] = f32::from_bits(lanes[i].to_bits() << 23);
            }
            load(self, lanes.as_ptr())
        }
    }

    /// The lower half of the lanes of `lower`, and the upper of `upper`.
    #[inline(always)]
    fn halves(self, lower: Self::f32s, upper: Self::f32s) -> Self::f32s {
        let mut lanes = [[0.0; BLOCK]; 2];
        let half = Self::F32_LANES / 2;
        // SAFETY: each array holds a vector.
        unsafe {
            store(self, lanes[0].as_mut_ptr(), lower);
            store(self, lanes[1].as_mut_ptr(), upper);
            let upper = lanes[1];
            lanes[0][half..].copy_from_slice(&upper[half..]);
            load(self, lanes[0].as_ptr())
        }
    }

    /// Reads half a vector from each of two places.
    ///
    /// # Safety
    /// Both are valid for reads of half of `F32_LANES` values.
    #[inline(always)]
    unsafe fn load_halves(self, lower: *const f32, upper: *const f32) -> Self::f32s {
        let mut lanes = [0.0; BLOCK];
        let half = Self::F32_LANES / 2;
        // SAFETY: the caller's; the array holds a vector.
        unsafe {
            core::ptr::copy_nonoverlapping(lower, lanes.as_mut_ptr(), half);
            core::ptr::copy_nonoverlapping(upper, lanes.as_mut_ptr().add(half), half);
            load(self, lanes.as_ptr())
        }
    }

    /// Writes the halves of a vector to two places, the upper one last.
    ///
    /// # Safety
    /// Both are valid for writes of half of `F32_LANES` values.
    #[inline(always)]
    unsafe fn store_halves(self, lower: *mut f32, upper: *mut f32, v: Self::f32s) {
        let mut lanes = [0.0; BLOCK];
        let half = Self::F32_LANES / 2;
        // SAFETY: the caller's; the array holds a vector.
        unsafe {
            store(self, lanes.as_mut_ptr(), v);
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), lower, half);
            core::ptr::copy_nonoverlapping(lanes.as_ptr().add(half), upper, half);
        }
    }

    /// The values at even places of two vectors in a row, and those at odd places, in an order of lanes that [`Vector::in_order`] undoes.
    #[inline(always)]
    fn even_odd(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2] {
        let mut lanes = [0.0; 2 * BLOCK];
        let mut parted = [[0.0; BLOCK]; 2];
        // SAFETY: the arrays hold two vectors, and one.
        unsafe {
            store(self, lanes.as_mut_ptr(), a);
            store(self, lanes.as_mut_ptr().add(Self::F32_LANES), b);
            for i in 0..Self::F32_LANES {
                parted[0][i] = lanes[2 * i];
                parted[1][i] = lanes[2 * i + 1];
            }
            parted.map(|lanes| load(self, lanes.as_ptr()))
        }
    }

    /// Lanes that [`Vector::even_odd`] parted, in the order of the values.
    #[inline(always)]
    fn in_order(self, v: Self::f32s) -> Self::f32s {
        v
    }

    /// A zero, and then all values but the last.
    #[inline(always)]
    fn after_zero(self, v: Self::f32s) -> Self::f32s {
        let mut lanes = [0.0; BLOCK + 1];
        // SAFETY: the array holds a value more than a vector.
        unsafe {
            store(self, lanes.as_mut_ptr().add(1), v);
            load(self, lanes.as_ptr())
        }
    }

    /// All values but the first, and then a zero.
    #[inline(always)]
    fn before_zero(self, v: Self::f32s) -> Self::f32s {
        let mut lanes = [0.0; BLOCK + 1];
        // SAFETY: as in `after_zero`.
        unsafe {
            store(self, lanes.as_mut_ptr(), v);
            load(self, lanes.as_ptr().add(1))
        }
    }

    /// For each lane, the lane of `v` that `from` names: below `F32_LANES`.
    #[inline(always)]
    fn pick(self, v: Self::f32s, from: &[u32; BLOCK]) -> Self::f32s {
        let (mut lanes, mut picked) = ([0.0; BLOCK], [0.0; BLOCK]);
        // SAFETY: an array holds a vector or more.
        unsafe {
            store(self, lanes.as_mut_ptr(), v);
            for i in 0..Self::F32_LANES {
                picked[i] = lanes[from[i] as usize % BLOCK];
            }
            load(self, picked.as_ptr())
        }
    }

    /// Writes the columns of 8 × 8 values as rows, `to_row` values apart.
    ///
    /// # Safety
    /// Eight values are readable at each of `rows`, and writable in each of eight rows at `to`; they do not overlap.
    #[inline(always)]
    unsafe fn transpose_eight(self, rows: [*const f32; 8], to: *mut f32, to_row: usize) {
        for i in [0, 4] {
            for j in [0, 4] {
                // SAFETY: the caller's.
                unsafe {
                    let columns = Quad::transpose(core::array::from_fn(|row| Quad::load(rows[j + row].add(i))));
                    for (column, quad) in columns.into_iter().enumerate() {
                        quad.store(to.add((i + column) * to_row + j));
                    }
                }
            }
        }
    }

    /// Writes the first `n` lanes of a vector.
    ///
    /// # Safety
    /// `p` is valid for writes of `n` values, and `n` is at most `F32_LANES`.
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: Self::f32s, n: usize) {
        let mut lanes = [0.0; BLOCK];
        // SAFETY: the array holds more than a vector; `n` values are writable by the caller's promise.
        unsafe {
            store(self, lanes.as_mut_ptr(), v);
            for i in 0..n {
                p.add(i).write(lanes[i]);
            }
        }
    }
}

/// The clamp of an instruction set whose own minimum and maximum treat NaN or −0 in another way.
macro_rules! clamp_by_selection {
    () => {
        #[inline(always)]
        fn clamp(self, v: Self::f32s, lo: Self::f32s, hi: Self::f32s) -> Self::f32s {
            let v = self.select_f32s(self.greater_than_f32s(lo, v), lo, v);
            self.select_f32s(self.less_than_f32s(hi, v), hi, v)
        }
    };
}

/// x86's `minps` and `maxps` return their second operand when either is NaN or both are zeros: the value goes second.
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2", feature = "sse42")))]
macro_rules! clamp_by_operand_order {
    () => {
        #[inline(always)]
        fn clamp(self, v: Self::f32s, lo: Self::f32s, hi: Self::f32s) -> Self::f32s {
            self.min_f32s(hi, self.max_f32s(lo, v))
        }
    };
}

/// [`Vector::transpose_eight`] of the levels that have AVX.
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2")))]
macro_rules! transpose_eight_by_avx {
    () => {
        const TRANSPOSES_EIGHT: bool = true;

        #[inline(always)]
        unsafe fn transpose_eight(self, rows: [*const f32; 8], to: *mut f32, to_row: usize) {
            // SAFETY: the caller's; the token says that the CPU has AVX.
            unsafe { transpose_eight(rows, to, to_row) }
        }
    };
}

/// Of `shufps`: the lanes at even places of four lanes of each register, and those at odd places.
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2", feature = "sse42")))]
const EVEN: i32 = 0b10_00_10_00;
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2", feature = "sse42")))]
const ODD: i32 = 0b11_01_11_01;

#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
impl Vector for pulp::x86::V4 {
    const ISA: Isa = Isa::Avx512;
    clamp_by_operand_order!();
    transpose_eight_by_avx!();

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_lanes`.
        unsafe { transmute(x86_64::_mm512_slli_epi32::<23>(transmute::<Self::f32s, x86_64::__m512i>(v))) }
    }

    #[inline(always)]
    fn even_odd(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2] {
        // SAFETY: as in `load_lanes`.
        unsafe {
            let [a, b] = transmute::<[Self::f32s; 2], [x86_64::__m512; 2]>([a, b]);
            transmute([x86_64::_mm512_shuffle_ps::<EVEN>(a, b), x86_64::_mm512_shuffle_ps::<ODD>(a, b)])
        }
    }

    #[inline(always)]
    fn in_order(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_lanes`. Pairs of lanes come from the two vectors in turns.
        unsafe {
            let pairs = x86_64::_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            transmute(x86_64::_mm512_permutexvar_pd(pairs, transmute::<Self::f32s, x86_64::__m512d>(v)))
        }
    }

    #[inline(always)]
    fn pick(self, v: Self::f32s, from: &[u32; BLOCK]) -> Self::f32s {
        // SAFETY: as in `load_lanes`; the array holds a vector.
        unsafe {
            let from = x86_64::_mm512_loadu_epi32(from.as_ptr().cast());
            transmute(x86_64::_mm512_permutexvar_ps(from, transmute::<Self::f32s, x86_64::__m512>(v)))
        }
    }

    #[inline(always)]
    fn after_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_lanes`.
        unsafe {
            transmute(x86_64::_mm512_alignr_epi32::<15>(
                transmute::<Self::f32s, x86_64::__m512i>(v),
                x86_64::_mm512_setzero_si512(),
            ))
        }
    }

    #[inline(always)]
    fn before_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_lanes`.
        unsafe {
            transmute(x86_64::_mm512_alignr_epi32::<1>(
                x86_64::_mm512_setzero_si512(),
                transmute::<Self::f32s, x86_64::__m512i>(v),
            ))
        }
    }

    #[inline(always)]
    fn halves(self, lower: Self::f32s, upper: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_lanes`.
        unsafe {
            let [lower, upper] = transmute::<[Self::f32s; 2], [x86_64::__m512; 2]>([lower, upper]);
            transmute(blend(lower, upper))
        }
    }

    #[inline(always)]
    unsafe fn load_halves(self, lower: *const f32, upper: *const f32) -> Self::f32s {
        // SAFETY: as in `load_lanes`; eight values are readable at both by the caller's promise.
        unsafe {
            let lower = x86_64::_mm512_castps256_ps512(x86_64::_mm256_loadu_ps(lower));
            transmute(x86_64::_mm512_insertf32x8::<1>(lower, x86_64::_mm256_loadu_ps(upper)))
        }
    }

    #[inline(always)]
    unsafe fn store_halves(self, lower: *mut f32, upper: *mut f32, v: Self::f32s) {
        // SAFETY: as in `load_lanes`; eight values are writable at both by the caller's promise.
        unsafe {
            let v: x86_64::__m512 = transmute(v);
            x86_64::_mm256_storeu_ps(lower, x86_64::_mm512_castps512_ps256(v));
            x86_64::_mm256_storeu_ps(upper, x86_64::_mm512_extractf32x8_ps::<1>(v));
        }
    }

    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, n: usize) -> Self::f32s {
        // SAFETY: the token says that the CPU has AVX-512; lanes that the mask leaves out are not read, and all vectors of
        // 16 floats are the same to the compiler.
        unsafe { transmute(x86_64::_mm512_maskz_loadu_ps(first_lanes(n), p)) }
    }

    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: Self::f32s, n: usize) {
        // SAFETY: as in `load_lanes`, of lanes that are not written.
        unsafe { x86_64::_mm512_mask_storeu_ps(p, first_lanes(n), transmute::<Self::f32s, x86_64::__m512>(v)) }
    }
}

/// The lower half of the lanes of `lower`, the upper of `upper`.
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
#[target_feature(enable = "avx512f")]
#[inline]
fn blend(lower: x86_64::__m512, upper: x86_64::__m512) -> x86_64::__m512 {
    const UPPER: u16 = 0xff00;
    #[cfg(miri)]
    return x86_64::_mm512_mask_blend_ps(UPPER, lower, upper);
    // LLVM makes a shuffle of the intrinsic, which takes a pipe of the multiply-adds
    #[cfg(not(miri))]
    {
        let v;
        // SAFETY: the instruction reads and writes registers alone.
        unsafe {
            core::arch::asm!("vblendmps {v}{{{k}}}, {lower}, {upper}", v = lateout(zmm_reg) v, k = in(kreg) UPPER,
                lower = in(zmm_reg) lower, upper = in(zmm_reg) upper, options(pure, nomem, nostack, preserves_flags));
        }
        v
    }
}

/// [`Vector::transpose_eight`] by AVX. Halves of rows meet in a register when they are read, so that all shuffles stay in their half.
///
/// # Safety
/// As [`Vector::transpose_eight`].
#[cfg(all(target_arch = "x86_64", any(feature = "avx512", feature = "avx2")))]
#[target_feature(enable = "avx")]
#[inline]
unsafe fn transpose_eight(rows: [*const f32; 8], to: *mut f32, to_row: usize) {
    use x86_64::{_mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps};
    const LOW: i32 = 0b01_00_01_00;
    const HIGH: i32 = 0b11_10_11_10;
    for half in 0..2 {
        // SAFETY: the caller's.
        unsafe {
            let halves: [x86_64::__m256; 4] =
                core::array::from_fn(|i| x86_64::_mm256_loadu2_m128(rows[i + 4].add(4 * half), rows[i].add(4 * half)));
            let [a, b, c, d] = halves;
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ef, gh) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps::<LOW>(ab, cd),
                _mm256_shuffle_ps::<HIGH>(ab, cd),
                _mm256_shuffle_ps::<LOW>(ef, gh),
                _mm256_shuffle_ps::<HIGH>(ef, gh),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                x86_64::_mm256_storeu_ps(to.add((4 * half + i) * to_row), column);
            }
        }
    }
}

/// The mask of the first `n` of 16 lanes.
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
#[inline(always)]
fn first_lanes(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

#[cfg(all(target_arch = "x86_64", feature = "avx2"))]
impl Vector for pulp::x86::V3 {
    const ISA: Isa = Isa::Avx2;
    clamp_by_operand_order!();
    transpose_eight_by_avx!();

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`.
        unsafe { transmute(x86_64::_mm256_slli_epi32::<23>(transmute::<Self::f32s, x86_64::__m256i>(v))) }
    }

    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, n: usize) -> Self::f32s {
        /// Eight lanes that are read, and eight that are not.
        static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        debug_assert!(n <= 8);
        // SAFETY: as in `even_odd`; the mask lies in the table, and lanes that it leaves out are not read.
        unsafe {
            let mask = MASKS.as_ptr().add(8 - n).cast::<x86_64::__m256i>().read_unaligned();
            transmute(x86_64::_mm256_maskload_ps(p, mask))
        }
    }

    #[inline(always)]
    fn even_odd(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2] {
        // SAFETY: the token says that the CPU has AVX2; all vectors of 8 floats are the same to the compiler.
        unsafe {
            let [a, b] = transmute::<[Self::f32s; 2], [x86_64::__m256; 2]>([a, b]);
            transmute([x86_64::_mm256_shuffle_ps::<EVEN>(a, b), x86_64::_mm256_shuffle_ps::<ODD>(a, b)])
        }
    }

    #[inline(always)]
    fn in_order(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`. Pairs of lanes come from the two vectors in turns.
        unsafe {
            transmute(x86_64::_mm256_permute4x64_pd::<0b11_01_10_00>(transmute::<Self::f32s, x86_64::__m256d>(v)))
        }
    }

    #[inline(always)]
    fn pick(self, v: Self::f32s, from: &[u32; BLOCK]) -> Self::f32s {
        // SAFETY: as in `even_odd`; the array holds a vector.
        unsafe {
            let from = x86_64::_mm256_loadu_si256(from.as_ptr().cast());
            transmute(x86_64::_mm256_permutevar8x32_ps(transmute::<Self::f32s, x86_64::__m256>(v), from))
        }
    }

    #[inline(always)]
    fn after_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`. The other register has zeros, and the lower half of the lanes.
        unsafe {
            let v: x86_64::__m256i = transmute(v);
            let below = x86_64::_mm256_permute2x128_si256::<0x08>(v, v);
            transmute(x86_64::_mm256_alignr_epi8::<12>(v, below))
        }
    }

    #[inline(always)]
    fn before_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`. The other register has the upper half of the lanes, and zeros.
        unsafe {
            let v: x86_64::__m256i = transmute(v);
            let above = x86_64::_mm256_permute2x128_si256::<0x81>(v, v);
            transmute(x86_64::_mm256_alignr_epi8::<4>(above, v))
        }
    }
}

#[cfg(all(target_arch = "x86_64", feature = "sse42"))]
impl Vector for pulp::x86::V2 {
    const ISA: Isa = Isa::Sse42;
    clamp_by_operand_order!();

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`.
        unsafe { transmute(x86_64::_mm_slli_epi32::<23>(transmute::<Self::f32s, x86_64::__m128i>(v))) }
    }

    #[inline(always)]
    fn even_odd(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2] {
        // SAFETY: SSE is there on every x86-64; all vectors of 4 floats are the same to the compiler.
        unsafe {
            let [a, b] = transmute::<[Self::f32s; 2], [x86_64::__m128; 2]>([a, b]);
            transmute([x86_64::_mm_shuffle_ps::<EVEN>(a, b), x86_64::_mm_shuffle_ps::<ODD>(a, b)])
        }
    }

    #[inline(always)]
    fn after_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`.
        unsafe { transmute(x86_64::_mm_slli_si128::<4>(transmute::<Self::f32s, x86_64::__m128i>(v))) }
    }

    #[inline(always)]
    fn before_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `even_odd`.
        unsafe { transmute(x86_64::_mm_srli_si128::<4>(transmute::<Self::f32s, x86_64::__m128i>(v))) }
    }
}

#[cfg(target_arch = "aarch64")]
impl Vector for pulp::aarch64::Neon {
    const ISA: Isa = Isa::Neon;

    /// The two pipes that do multiply-adds do all of this too, so an instruction less counts. FMIN passes NaN, and
    /// differs from the contract for a bound of −0 alone, which it takes where the value is +0. All vectors of a call
    /// have one bound: LLVM makes one branch of these for a whole tile. FMAX would not do: its bound that differs is
    /// +0, which is ReLU's.
    #[inline(always)]
    fn clamp(self, v: Self::f32s, lo: Self::f32s, hi: Self::f32s) -> Self::f32s {
        let v = self.select_f32s(self.greater_than_f32s(lo, v), lo, v);
        if hi.0.to_bits() == (-0.0f32).to_bits() {
            self.select_f32s(self.less_than_f32s(hi, v), hi, v)
        } else {
            self.min_f32s(v, hi)
        }
    }

    /// A copy of a register takes a slot of those two pipes, and a load takes none. LLVM would load once and copy.
    #[cfg(not(miri))]
    #[inline(always)]
    unsafe fn load_start(self, p: *const f32) -> Self::f32s {
        let v: float32x4_t;
        // SAFETY: the instruction reads four floats that the caller says are there, at any alignment, and a vector
        // register and pulp's vector are the same four floats.
        unsafe {
            core::arch::asm!("ldr {v:q}, [{p}]", v = out(vreg) v, p = in(reg) p, options(nostack, readonly, preserves_flags));
            transmute(v)
        }
    }

    #[inline(always)]
    fn low_bits_to_exponent(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_start`.
        unsafe { transmute(vshlq_n_u32::<23>(transmute::<Self::f32s, uint32x4_t>(v))) }
    }

    #[inline(always)]
    fn even_odd(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2] {
        // SAFETY: as in `load_start`.
        unsafe {
            let [a, b] = transmute::<[Self::f32s; 2], [float32x4_t; 2]>([a, b]);
            transmute([vuzp1q_f32(a, b), vuzp2q_f32(a, b)])
        }
    }

    #[inline(always)]
    fn after_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_start`.
        unsafe { transmute(vextq_f32::<3>(vdupq_n_f32(0.0), transmute::<Self::f32s, float32x4_t>(v))) }
    }

    #[inline(always)]
    fn before_zero(self, v: Self::f32s) -> Self::f32s {
        // SAFETY: as in `load_start`.
        unsafe { transmute(vextq_f32::<1>(transmute::<Self::f32s, float32x4_t>(v), vdupq_n_f32(0.0))) }
    }
}

impl Vector for pulp::Scalar {
    const ISA: Isa = Isa::Scalar;
    clamp_by_selection!();
}

/// How a step of a sum is rounded: the type-level twin of [`Arithmetic`].
pub trait MulAdd: 'static {
    /// Which one it is.
    const ARITHMETIC: Arithmetic;

    /// `acc + x × w` of each lane.
    fn mul_add<S: Vector>(simd: S, x: S::f32s, w: S::f32s, acc: S::f32s) -> S::f32s;

    /// The product of each lane, rounded, and what it was rounded by.
    fn product<S: Vector>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2];
}

/// [`Arithmetic::Fused`].
pub enum Fused {}

/// [`Arithmetic::Separate`].
pub enum Separate {}

impl MulAdd for Fused {
    const ARITHMETIC: Arithmetic = Arithmetic::Fused;

    #[inline(always)]
    fn mul_add<S: Vector>(simd: S, x: S::f32s, w: S::f32s, acc: S::f32s) -> S::f32s {
        simd.mul_add_f32s(x, w, acc)
    }

    #[inline(always)]
    fn product<S: Vector>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
        let product = simd.mul_f32s(a, b);
        [product, simd.mul_add_f32s(a, b, simd.neg_f32s(product))]
    }
}

impl MulAdd for Separate {
    const ARITHMETIC: Arithmetic = Arithmetic::Separate;

    #[inline(always)]
    fn mul_add<S: Vector>(simd: S, x: S::f32s, w: S::f32s, acc: S::f32s) -> S::f32s {
        simd.add_f32s(acc, simd.mul_f32s(x, w))
    }

    /// By halves of 12 bits, whose products are exact: T. J. Dekker, *A floating-point technique for extending the available precision*, 1971.
    #[inline(always)]
    fn product<S: Vector>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
        let product = simd.mul_f32s(a, b);
        let mask = simd.splat_f32s(f32::from_bits(0xffff_f000));
        let [a_high, b_high] = [a, b].map(|v| simd.and_f32s(v, mask));
        let (a_low, b_low) = (simd.sub_f32s(a, a_high), simd.sub_f32s(b, b_high));
        let mut rest = simd.sub_f32s(simd.mul_f32s(a_high, b_high), product);
        for (x, y) in [(a_high, b_low), (a_low, b_high), (a_low, b_low)] {
            rest = simd.add_f32s(rest, simd.mul_f32s(x, y));
        }
        [product, rest]
    }
}

/// Asks for the cache line at `p`, which need not be anybody's: nothing is read that the program could see, and no
/// address faults. Where the architecture has no stable way to ask, nothing is done.
#[inline(always)]
pub fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of the baseline, and a hint.
    unsafe {
        x86_64::_mm_prefetch::<{ x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: the instruction is a hint; it touches neither memory that the compiler knows of, nor stack, nor flags.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

/// Identity that hides the value from LLVM, so that LLVM does not turn one index into a pointer per pixel.
#[inline(always)]
pub fn opaque(index: usize) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let same;
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) index => same, options(pure, nomem, nostack, preserves_flags));
        }
        same
    }
    // no other instruction set has tiles that need it
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    index
}

/// Identity that hides a reference from LLVM, so that LLVM reads the arguments of a kernel where they are used. Else it reads all of them
/// first, and writes those that have no register to the stack: half of the instructions of a short call.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through the pointer")
)]
pub fn opaque_ref<T>(args: &T) -> &T {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let same: *const T;
        // SAFETY: no instruction at all, and the same reference.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) core::ptr::from_ref(args) => same, options(nomem, nostack, preserves_flags));
            &*same
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    args
}

/// Identity that hides a pointer from LLVM, so that LLVM reads what is there again where it is used, and keeps nothing of it on the stack.
/// It does so on x86-64: no other instruction set has tiles that need it.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through the pointer")
)]
pub fn opaque_ptr<T>(p: *const T) -> *const T {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let same: *const T;
        // SAFETY: no instruction at all, and the same pointer.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) p => same, options(nomem, nostack, preserves_flags));
        }
        same
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    p
}

/// Reads a vector.
///
/// # Safety
/// `p` is valid for reads of `S::F32_LANES` values.
#[inline(always)]
pub unsafe fn load<S: Vector>(_: S, p: *const f32) -> S::f32s {
    // SAFETY: the caller's; a vector is plain floats, and no alignment is assumed.
    unsafe { p.cast::<S::f32s>().read_unaligned() }
}

/// Writes a vector.
///
/// # Safety
/// `p` is valid for writes of `S::F32_LANES` values.
#[inline(always)]
pub unsafe fn store<S: Vector>(_: S, p: *mut f32, v: S::f32s) {
    // SAFETY: the caller's; a vector is plain floats, and no alignment is assumed.
    unsafe { p.cast::<S::f32s>().write_unaligned(v) }
}

/// Copies `n` values, at most 16: the last channels of a pixel of a caller's tensor.
///
/// # Safety
/// `n` values are readable at `from` and writable at `to`; they do not overlap.
#[inline(always)]
unsafe fn copy_lanes(from: *const f32, to: *mut f32, n: usize) {
    let mut at = 0;
    // by powers of two: each is a move or two, where a count that the compiler does not know is a call
    macro_rules! parts {
        ($($part:literal)*) => {
            $(if n & $part != 0 {
                // SAFETY: the caller's; parts follow each other and end at `n`.
                unsafe { to.wrapping_add(at).cast::<[f32; $part]>().write_unaligned(from.wrapping_add(at).cast::<[f32; $part]>().read_unaligned()) };
                at = at.wrapping_add($part);
            })*
        };
    }
    parts!(16 8 4 2 1);
    let _ = at;
}

/// Where the pixels of a tile begin.
#[derive(Clone, Copy, Debug)]
pub enum PixelOffsets {
    /// So many values apart.
    Every(usize),
    /// As a table says.
    Table(*const usize),
}

/// Copies `n` values, at most 16, of each of `count` pixels: those of a tile of which not all channels are there. Never
/// inlined, since tiles are many, and called cold, or sums would be saved before it is known that it is called.
///
/// # Safety
/// `n` values are readable at each pixel of `from` and writable at each of `to`; they do not overlap. Tables have `count`
/// places.
#[cold]
#[inline(never)]
pub unsafe fn copy_pixels(
    count: usize,
    n: usize,
    (from, from_places): (*const f32, PixelOffsets),
    (to, to_places): (*mut f32, PixelOffsets),
) {
    let place = |places, p: usize| match places {
        PixelOffsets::Every(pixel) => p.wrapping_mul(pixel),
        // SAFETY: the caller's.
        PixelOffsets::Table(table) => unsafe { *table.wrapping_add(p) },
    };
    for p in 0..count {
        // SAFETY: the caller's.
        unsafe { copy_lanes(from.wrapping_add(place(from_places, p)), to.wrapping_add(place(to_places, p)), n) }
    }
}

/// Copies `n` values, at most 16, of each of `count` pixels into a block of 16 values a pixel. The other values of the block
/// become zeros, so that a vector may be read whole. Called cold, as [`copy_pixels`] is.
///
/// # Safety
/// `places` has `count` places. `n` values are readable at each of them from `from`, and 16 × `count` writable at `block`;
/// they do not overlap.
#[cold]
#[inline(never)]
pub unsafe fn pixels_to_block(count: usize, n: usize, from: *const f32, places: *const usize, block: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        block.write_bytes(0, count * BLOCK);
        copy_pixels(count, n, (from, PixelOffsets::Table(places)), (block, PixelOffsets::Every(BLOCK)));
    }
}
