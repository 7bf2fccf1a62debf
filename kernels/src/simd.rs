//! What a kernel asks of an instruction set, over [`pulp::Simd`].
//!
//! pulp gives the vectors and their arithmetic. Two things are added, because the contract on bits needs them: a clamp
//! that lets NaN and −0 through in the same way everywhere, and a step of a sum that is rounded as its [`Arithmetic`]
//! says.
//!
//! Everything here and everything that a kernel reaches is `#[inline(always)]`: the instructions are only enabled in
//! the function that [`crate::Kernels`] enters a kernel by.

use pulp::Simd;

use crate::{Arithmetic, BLOCK, Isa};

/// An instruction set as kernels see it.
pub trait Vector: Simd {
    /// Which one it is.
    const ISA: Isa;

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
#[cfg(target_arch = "x86_64")]
macro_rules! clamp_by_operand_order {
    () => {
        #[inline(always)]
        fn clamp(self, v: Self::f32s, lo: Self::f32s, hi: Self::f32s) -> Self::f32s {
            self.min_f32s(hi, self.max_f32s(lo, v))
        }
    };
}

#[cfg(target_arch = "x86_64")]
impl Vector for pulp::x86::V4 {
    const ISA: Isa = Isa::Avx512;
    clamp_by_operand_order!();
}

#[cfg(target_arch = "x86_64")]
impl Vector for pulp::x86::V3 {
    const ISA: Isa = Isa::Avx2;
    clamp_by_operand_order!();
}

#[cfg(target_arch = "x86_64")]
impl Vector for pulp::x86::V2 {
    const ISA: Isa = Isa::Sse42;
    clamp_by_operand_order!();
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
        let v: core::arch::aarch64::float32x4_t;
        // SAFETY: the instruction reads four floats that the caller says are there, at any alignment, and a vector
        // register and pulp's vector are the same four floats.
        unsafe {
            core::arch::asm!("ldr {v:q}, [{p}]", v = out(vreg) v, p = in(reg) p, options(nostack, readonly, preserves_flags));
            core::mem::transmute(v)
        }
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
}

impl MulAdd for Separate {
    const ARITHMETIC: Arithmetic = Arithmetic::Separate;

    #[inline(always)]
    fn mul_add<S: Vector>(simd: S, x: S::f32s, w: S::f32s, acc: S::f32s) -> S::f32s {
        simd.add_f32s(acc, simd.mul_f32s(x, w))
    }
}

/// Asks for the cache line at `p`, which need not be anybody's: nothing is read that the program could see, and no
/// address faults. Where the architecture has no stable way to ask, nothing is done.
#[inline(always)]
pub fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of the baseline, and a hint.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: the instruction is a hint; it touches neither memory that the compiler knows of, nor stack, nor flags.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
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

/// Reads the first `n` lanes of a vector; the others are zero. For the last channels at the door: slow, and rare.
///
/// # Safety
/// `p` is valid for reads of `n` values, and `n` is at most `S::F32_LANES`.
#[inline(always)]
pub unsafe fn load_lanes<S: Vector>(simd: S, p: *const f32, n: usize) -> S::f32s {
    let mut lanes = [0.0; BLOCK];
    // SAFETY: `n` values are readable by the caller's promise, and fit the array, which holds more than a vector.
    unsafe {
        for i in 0..n {
            lanes[i] = p.add(i).read();
        }
        load(simd, lanes.as_ptr())
    }
}

/// Writes the first `n` lanes of a vector.
///
/// # Safety
/// `p` is valid for writes of `n` values, and `n` is at most `S::F32_LANES`.
#[inline(always)]
pub unsafe fn store_lanes<S: Vector>(simd: S, p: *mut f32, v: S::f32s, n: usize) {
    let mut lanes = [0.0; BLOCK];
    // SAFETY: the array holds more than a vector; `n` values are writable by the caller's promise.
    unsafe {
        store(simd, lanes.as_mut_ptr(), v);
        for i in 0..n {
            p.add(i).write(lanes[i]);
        }
    }
}

/// Copies the first `n` channels of a block from `pixels` pixels to others, for the last channels at the door.
///
/// # Safety
/// `n` values, at most 16, are readable at each pixel of `from` and writable at each of `to`; they do not overlap.
#[inline(always)]
pub unsafe fn copy_lanes(
    mut from: *const f32,
    from_pixel: usize,
    mut to: *mut f32,
    to_pixel: usize,
    pixels: usize,
    n: usize,
) {
    for _ in 0..pixels {
        let mut at = 0;
        // by powers of two: each is a move or two, where a count that the compiler does not know is a loop
        for part in [16, 8, 4, 2, 1] {
            if n & part != 0 {
                // SAFETY: the caller's; parts follow each other and end at `n`.
                unsafe { core::ptr::copy_nonoverlapping(from.add(at), to.add(at), part) };
                at += part;
            }
        }
        (from, to) = (from.wrapping_add(from_pixel), to.wrapping_add(to_pixel));
    }
}
