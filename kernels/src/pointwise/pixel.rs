//! One pixel alone, which is what a dense layer is, or two: they have too few sums for a tile, so they take several panels at once.

use super::PointwiseArgs;
use super::finish::finish;
use crate::BLOCK;
use crate::simd::{MulAdd, Vector, load, prefetch};

/// Rows of weights that are asked for ahead of their use: each is read once, from as far away as they lie.
const AHEAD: usize = 32;

/// One or two pixels times all panels, as many at a time as give enough sums to hide the latency. Both pixels meet a weight when it is read.
///
/// # Safety
/// As [`super::Pointwise::run`], for all pixels, of which there are at most two.
#[inline(always)]
pub(super) unsafe fn few_pixels<S: Vector, A: MulAdd>(simd: S, a: &PointwiseArgs, panels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match (S::F32_LANES, a.m) {
            (_, 0) => {}
            (16, 1) => pixels::<S, A, 1, 8, 1>(simd, a, 0, panels),
            (16, _) => pixels::<S, A, 2, 8, 1>(simd, a, 0, panels),
            (8, 1) => pixels::<S, A, 1, 4, 2>(simd, a, 0, panels),
            (8, _) => pixels::<S, A, 2, 2, 2>(simd, a, 0, panels),
            (4, 1) => pixels::<S, A, 1, 2, 4>(simd, a, 0, panels),
            (4, _) => pixels::<S, A, 2, 1, 4>(simd, a, 0, panels),
            _ => {
                for i in 0..a.m {
                    pixels::<S, A, 1, 1, 16>(simd, a, i, panels);
                }
            }
        }
    }
}

/// `P` pixels from `i` on times all panels, `NP` of `NV` vectors at a time.
///
/// # Safety
/// As [`super::Pointwise::run`], for these pixels.
#[inline(always)]
unsafe fn pixels<S: Vector, A: MulAdd, const P: usize, const NP: usize, const NV: usize>(
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
        // SAFETY: the caller's promise, for these pixels and panels below `panels`.
        unsafe {
            let mut acc = [[[simd.splat_f32s(0.0); NV]; NP]; P];
            let mut w = [a.w; NP];
            for q in 0..NP {
                w[q] = a.w.add(panel[q] * a.w_panel);
                for p in 0..P {
                    let start = if a.partial.is_null() {
                        a.bias.add(panel[q] * a.w_panel)
                    } else {
                        a.partial.add(panel[q] * a.partial_panel + (i + p) * BLOCK)
                    };
                    for v in 0..NV {
                        acc[p][q][v] = load(simd, start.add(v * lanes));
                    }
                }
            }
            let mut x = [a.x; P];
            for p in 0..P {
                x[p] = a.x.add(*a.x_pixels.add(i + p));
            }
            let mut left = a.k;
            loop {
                let segment = left.min(a.segment);
                for k in 0..segment {
                    let mut values = [simd.splat_f32s(0.0); P];
                    for p in 0..P {
                        values[p] = simd.splat_f32s(*x[p].add(k));
                    }
                    for q in 0..NP {
                        prefetch(w[q].wrapping_add((k + AHEAD) * BLOCK));
                        for v in 0..NV {
                            let weight = load(simd, w[q].add(k * BLOCK + v * lanes));
                            for p in 0..P {
                                acc[p][q][v] = A::mul_add(simd, values[p], weight, acc[p][q][v]);
                            }
                        }
                    }
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                for p in 0..P {
                    x[p] = x[p].add(a.x_segment);
                }
                for q in 0..NP {
                    w[q] = w[q].add(segment * BLOCK);
                }
            }
            for q in 0..NP {
                // a constant range: of a variable one, a sum would be stored at every step of k
                if q < panels - first {
                    for p in 0..P {
                        finish::<S, false, 1, 1, NV>(simd, a, [[acc[p][q]]], i + p, 0, panel[q], 0);
                    }
                }
            }
        }
        first += NP;
    }
}
