//! Any window on a caller's NHWC tensor: one output row, where each pixel is read from end to end.
//!
//! ```text
//!   x x x x x x x x x      kh = 0      for vectors of channels:
//!   x x x x x x x x x      kh = 1          for each tap: load its weight, and a pixel for each sum
//!       s s s s s s s s
//! ```
//!
//! Eight sums, a weight and an input are ten registers. Windows at the ends of a row meet padding: they are tiles of one pixel, which
//! looks for each tap.

use super::DepthwiseArgs;
use crate::BLOCK;
use crate::simd::{MulAdd, Vector, load, store};

/// The most taps of a window that [`DwConv`](super::DwConv) reads with [`edges`](DepthwiseArgs::edges).
pub const EDGE_TAPS: usize = 16;

/// All columns of the row.
///
/// # Safety
/// As [`super::DwConv::run`], with `edges`.
#[inline(always)]
pub(super) unsafe fn row<S: Vector, A: MulAdd>(simd: S, a: &DepthwiseArgs, edges: [usize; 2]) {
    let reach = (a.kernel[1] - 1) * a.dilation + 1;
    let columns = (a.width - 1) * a.stride + reach;
    // output pixels whose windows lack no column
    let first = edges[0].div_ceil(a.stride).min(a.width);
    let end = (columns - edges[1]).checked_sub(reach).map_or(0, |last| last / a.stride + 1).clamp(first, a.width);
    let mut x = 0;
    // SAFETY: the caller's, for columns below `width`.
    unsafe {
        let no_padding = (0..a.kernel[0]).all(|ky| *a.rows.add(ky) != a.zeros);
        while x < a.width {
            let inside = x >= first && x < end;
            let left = if inside && const { !S::FEW_TILES } { end - x } else { 0 };
            x += match (left, no_padding) {
                (8.., true) => tile::<S, A, 8, true>(simd, a, edges, x, |_| true),
                (4.., true) => tile::<S, A, 4, true>(simd, a, edges, x, |_| true),
                (4.., false) => tile::<S, A, 4, false>(simd, a, edges, x, |_| true),
                _ => {
                    let there = edges[0]..columns - edges[1];
                    let is_there = |kx| inside || there.contains(&(x * a.stride + kx * a.dilation));
                    tile::<S, A, 1, false>(simd, a, edges, x, is_there)
                }
            };
        }
    }
}

/// `PX` output pixels from column `x` on, all channels. `is_there` says of which columns of the kernel the pixels are in the row. Where
/// `ALL` taps are, from pixel to pixel it is one distance for all.
///
/// # Safety
/// As [`row`], for these pixels.
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const PX: usize, const ALL: bool>(
    simd: S,
    a: &DepthwiseArgs,
    edges: [usize; 2],
    x: usize,
    is_there: impl Fn(usize) -> bool,
) -> usize {
    let ([kh, kw], step) = (a.kernel, a.stride.wrapping_mul(a.x.pixel));
    debug_assert!(kh * kw <= EDGE_TAPS);
    let epilogue = a.epilogue.vectors(simd);
    // SAFETY: the caller's; channels are whole vectors, and there are no more taps than places.
    unsafe {
        // where the first pixel finds each tap, and from there to the next pixel
        let mut taps = [(a.zeros, 0); EDGE_TAPS];
        for ky in 0..kh {
            let row = *a.rows.add(ky);
            let first = row.wrapping_add(x.wrapping_mul(step)).wrapping_sub(edges[0].wrapping_mul(a.x.pixel));
            for kx in 0..kw {
                if row != a.zeros && is_there(kx) {
                    taps[ky * kw + kx] = (first.wrapping_add(*a.taps.add(kx)), step);
                }
            }
        }
        let out = (*a.out).add(x * a.out_pixel);
        for c in (0..a.channels).step_by(S::F32_LANES) {
            let (block, lane) = (c / BLOCK, c % BLOCK);
            let mut w = a.w.add(block * (1 + kh * kw) * BLOCK + lane);
            let mut acc = [simd.load_start(w); PX];
            for &(from, its_step) in taps.get_unchecked(..kh * kw) {
                let step = if ALL { step } else { its_step };
                w = w.add(BLOCK);
                let (weight, from) = (load(simd, w), from.wrapping_add(c));
                unrolled!(P in PX, of 0 1 2 3 4 5 6 7, {
                    acc[P] = A::mul_add(simd, load(simd, from.add(P * step)), weight, acc[P]);
                });
            }
            let mut to = out.add(block * a.out_block + lane);
            unrolled!(P in PX, of 0 1 2 3 4 5 6 7, {
                store(simd, to, epilogue.apply(simd, acc[P]));
                to = to.wrapping_add(a.out_pixel);
            });
        }
    }
    PX
}
