//! Four values in a register, for transposing: SSE2 and NEON are there on all CPUs of their kind.

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as arch;

#[cfg(target_arch = "x86_64")]
type Lanes = arch::__m128;
#[cfg(target_arch = "aarch64")]
type Lanes = arch::float32x4_t;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Lanes = [f32; 4];

#[derive(Clone, Copy)]
pub(crate) struct Quad(Lanes);

impl Quad {
    #[inline(always)]
    pub(crate) fn zero() -> Quad {
        // SAFETY: all zeros are four zeros.
        unsafe { core::mem::zeroed() }
    }

    /// # Safety
    /// Four values are readable.
    #[inline(always)]
    pub(crate) unsafe fn load(p: *const f32) -> Quad {
        // SAFETY: the caller's; a register holds four values.
        unsafe { Quad(p.cast::<Lanes>().read_unaligned()) }
    }

    /// # Safety
    /// Four values are writable.
    #[inline(always)]
    pub(crate) unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's.
        unsafe { p.cast::<Lanes>().write_unaligned(self.0) }
    }

    /// # Safety
    /// `n ≤ 4` values are writable.
    #[inline(always)]
    pub(crate) unsafe fn store_first(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller's; the array has four values.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.into_iter().enumerate().take(n) {
                p.add(i).write(lane);
            }
        }
    }

    /// The columns of four rows of four values.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn transpose([a, b, c, d]: [Quad; 4]) -> [Quad; 4] {
        use arch::{_mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
        // SAFETY: SSE is there on every x86-64.
        unsafe {
            let (ab, cd) = (_mm_unpacklo_ps(a.0, b.0), _mm_unpacklo_ps(c.0, d.0));
            let (ef, gh) = (_mm_unpackhi_ps(a.0, b.0), _mm_unpackhi_ps(c.0, d.0));
            [_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab), _mm_movelh_ps(ef, gh), _mm_movehl_ps(gh, ef)].map(Quad)
        }
    }

    #[inline(always)]
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn transpose([a, b, c, d]: [Quad; 4]) -> [Quad; 4] {
        use arch::{
            vreinterpretq_f32_f64 as narrow, vreinterpretq_f64_f32 as wide, vtrn1q_f32, vtrn1q_f64, vtrn2q_f32,
            vtrn2q_f64,
        };
        // SAFETY: NEON is there on every AArch64.
        unsafe {
            let (ab, cd) = (wide(vtrn1q_f32(a.0, b.0)), wide(vtrn1q_f32(c.0, d.0)));
            let (ef, gh) = (wide(vtrn2q_f32(a.0, b.0)), wide(vtrn2q_f32(c.0, d.0)));
            [vtrn1q_f64(ab, cd), vtrn1q_f64(ef, gh), vtrn2q_f64(ab, cd), vtrn2q_f64(ef, gh)].map(|v| Quad(narrow(v)))
        }
    }

    #[inline(always)]
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn transpose(quads: [Quad; 4]) -> [Quad; 4] {
        core::array::from_fn(|i| Quad(quads.map(|quad| quad.0[i])))
    }
}
