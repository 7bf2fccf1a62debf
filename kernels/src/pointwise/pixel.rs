//! One pixel alone, which is what a dense layer is, or two: they have too few sums for a tile, so they take several panels at once.

use super::PointwiseArgs;
use super::product::TileProduct;
use super::tile::LINE;
use crate::BLOCK;
use crate::simd::{Vector, prefetch};

/// Lines of weights that are asked for ahead of their use: each is read once, from as far away as they lie.
const AHEAD: usize = 32;

/// One or two pixels times all panels, as many at a time as give enough sums to hide the latency. Both pixels meet a weight when it is read.
///
/// # Safety
/// As [`super::Pointwise::run`], for all pixels, of which there are at most two.
#[inline(always)]
pub(super) unsafe fn few_pixels<S: Vector, P: TileProduct<S>>(simd: S, a: &PointwiseArgs<P::Pointee>, panels: usize) {
    // SAFETY: the caller's.
    unsafe {
        if a.m == 0 {
            return;
        }
        if const { S::F32_LANES == 16 } {
            if a.m == 1 {
                pixels::<S, P, 1, 8, 1>(simd, a, 0, panels);
            } else {
                pixels::<S, P, 2, 8, 1>(simd, a, 0, panels);
            }
        } else if const { S::F32_LANES == 8 } {
            if a.m == 1 {
                pixels::<S, P, 1, 4, 2>(simd, a, 0, panels);
            } else {
                pixels::<S, P, 2, 2, 2>(simd, a, 0, panels);
            }
        } else if const { S::F32_LANES == 4 } {
            if a.m == 1 {
                pixels::<S, P, 1, 2, 4>(simd, a, 0, panels);
            } else {
                pixels::<S, P, 2, 1, 4>(simd, a, 0, panels);
            }
        } else {
            for i in 0..a.m {
                pixels::<S, P, 1, 1, 16>(simd, a, i, panels);
            }
        }
    }
}

/// `M` pixels from `i` on times all panels, `NP` of `NV` vectors at a time.
///
/// # Safety
/// As [`super::Pointwise::run`], for these pixels.
#[inline(always)]
unsafe fn pixels<S: Vector, P: TileProduct<S>, const M: usize, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs<P::Pointee>,
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
            let mut acc = [[[P::zero(simd); NV]; NP]; M];
            let mut w = [a.w.cast::<P::Weight>(); NP];
            for q in 0..NP {
                w[q] = a.w.add(panel[q] * a.w_panel).cast();
                for p in 0..M {
                    let start = if a.partial.is_null() {
                        a.bias.add(panel[q] * a.w_panel).cast::<P::Sum>()
                    } else {
                        a.partial.cast::<P::Sum>().add(panel[q] * a.partial_panel + (i + p) * BLOCK)
                    };
                    for v in 0..NV {
                        acc[p][q][v] = P::load(simd, start.add(v * lanes));
                    }
                }
            }
            let mut x = [a.x.cast::<P::Input>(); M];
            for p in 0..M {
                x[p] = a.x.cast::<P::Input>().add(*a.x_pixels.add(i + p));
            }
            let mut left = a.k;
            loop {
                let segment = left.min(a.segment);
                for step in 0..segment / P::STEP {
                    let k = step * P::STEP;
                    let mut values = [P::splat(simd, x[0].add(k)); M];
                    for p in 1..M {
                        values[p] = P::splat(simd, x[p].add(k));
                    }
                    for q in 0..NP {
                        let w = w[q].add(k * BLOCK);
                        prefetch(w.cast::<u8>().wrapping_add(AHEAD * LINE));
                        for v in 0..NV {
                            let weight = P::weights(simd, w.add(v * lanes * P::STEP));
                            for p in 0..M {
                                acc[p][q][v] = P::step(simd, values[p], weight, acc[p][q][v]);
                            }
                        }
                    }
                }
                left -= segment;
                if left == 0 {
                    break;
                }
                for p in 0..M {
                    x[p] = x[p].add(a.x_segment);
                }
                for q in 0..NP {
                    w[q] = w[q].add(segment * BLOCK);
                }
            }
            for q in 0..NP {
                // a constant range: of a variable one, a sum would be stored at every step of k
                if q < panels - first {
                    for p in 0..M {
                        P::finish::<false, 1, 1, NV>(simd, a, [[acc[p][q]]], i + p, 0, panel[q], 0);
                    }
                }
            }
        }
        first += NP;
    }
}
