//! One pixel alone, which is what a dense layer is: it has too few sums for a tile, so it takes several panels at once.

use super::PointwiseArgs;
use super::finish::finish;
use crate::BLOCK;
use crate::simd::{MulAdd, Vector, load, prefetch};

/// Rows of weights that a single pixel asks for ahead of their use: it reads each once, from as far away as they lie.
const AHEAD: usize = 32;

/// One pixel times all panels, as many at a time as give enough sums to hide the latency.
///
/// # Safety
/// As [`super::Pointwise::run`], for pixel `i`.
#[inline(always)]
pub(super) unsafe fn few_pixels<S: Vector, A: MulAdd>(simd: S, a: &PointwiseArgs, i: usize, panels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match S::F32_LANES {
            16 => pixel::<S, A, 8, 1>(simd, a, i, panels),
            8 => pixel::<S, A, 4, 2>(simd, a, i, panels),
            4 => pixel::<S, A, 2, 4>(simd, a, i, panels),
            _ => pixel::<S, A, 1, 16>(simd, a, i, panels),
        }
    }
}

/// Pixel `i` times all panels, `NP` of `NV` vectors at a time.
///
/// # Safety
/// As [`super::Pointwise::run`], for pixel `i`.
#[inline(always)]
unsafe fn pixel<S: Vector, A: MulAdd, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs,
    i: usize,
    panels: usize,
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while first < panels {
        // the last group goes back over panels that were done where it would be short; the result is the same
        let mut panel = [0; NP];
        for q in 0..NP {
            panel[q] = (first + q).min(panels - 1);
        }
        // SAFETY: the caller's promise, for pixel `i` and panels below `panels`.
        unsafe {
            let mut acc = [[simd.splat_f32s(0.0); NV]; NP];
            let mut w = [a.w; NP];
            for q in 0..NP {
                w[q] = a.w.add(panel[q] * a.w_panel);
                let start = if a.partial.is_null() {
                    a.bias.add(panel[q] * a.w_panel)
                } else {
                    a.partial.add(panel[q] * a.partial_panel + i * BLOCK)
                };
                for v in 0..NV {
                    acc[q][v] = load(simd, start.add(v * lanes));
                }
            }
            let mut x = a.x.add(*a.x_pixels.add(i));
            let mut left = a.k;
            loop {
                let segment = left.min(a.segment);
                for k in 0..segment {
                    let value = simd.splat_f32s(*x.add(k));
                    for q in 0..NP {
                        prefetch(w[q].wrapping_add((k + AHEAD) * BLOCK));
                        for v in 0..NV {
                            let weight = load(simd, w[q].add(k * BLOCK + v * lanes));
                            acc[q][v] = A::mul_add(simd, value, weight, acc[q][v]);
                        }
                    }
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                x = x.add(a.x_segment);
                for q in 0..NP {
                    w[q] = w[q].add(segment * BLOCK);
                }
            }
            for q in 0..NP {
                // a constant range: of a variable one, a sum would be stored at every step of k
                if q < panels - first {
                    finish::<S, false, 1, 1, NV>(simd, a, [[acc[q]]], i, 0, panel[q], 0);
                }
            }
        }
        first += NP;
    }
}
