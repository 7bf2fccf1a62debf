//! The tiles of one output row: up to 12 pixels of one vector of channels, for 3×3 windows and for any other.

use super::DepthwiseArgs;
use super::rows::Row;
use crate::BLOCK;
use crate::epilogue::EpilogueVectors;
use crate::simd::{MulAdd, Vector, load, store};

/// The most pixels of a tile.
pub(super) const MAX_PX: usize = 12;

/// Which of the three taps of a window that begins at `start` the input at `at` is.
#[inline(always)]
pub(super) const fn tap(at: usize, start: usize) -> Option<usize> {
    match at.checked_sub(start) {
        Some(tap) if tap < 3 => Some(tap),
        _ => None,
    }
}

/// `PX` output pixels of one vector of channels.
///
/// # Safety
/// Whole vectors are readable at the `(PX − 1) × STRIDE + 3` pixels of each row and at bias and taps in `w`, and
/// writable at `PX` pixels of `out`.
#[inline(always)]
pub(super) unsafe fn tile3x3<S: Vector, A: MulAdd, R: Row, const STRIDE: usize, const PX: usize>(
    simd: S,
    mut rows: [R; 3],
    w: *const f32,
    mut out: *mut f32,
    out_pixel: usize,
    epilogue: EpilogueVectors<S>,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [simd.load_start(w); PX];
        for px in 1..PX {
            acc[px] = simd.load_start(w);
        }
        unrolled!(KH in 3usize, of 0 1 2, {
            let weights = [1, 2, 3].map(|kw| load(simd, w.add((KH * 3 + kw) * BLOCK)));
            unrolled!(IX in (PX - 1) * STRIDE + 3, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18
                19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35, {
                let v = load(simd, rows[KH].next(IX, (PX - 1) * STRIDE + 3));
                for ox in 0..PX {
                    if let Some(kw) = tap(IX, ox * STRIDE) {
                        acc[ox] = A::mul_add(simd, v, weights[kw], acc[ox]);
                    }
                }
            });
        });
        unrolled!(P in PX, of 0 1 2 3 4 5 6 7 8 9 10 11, {
            store(simd, out, epilogue.apply(simd, acc[P]));
            out = out.wrapping_add(out_pixel);
        });
    }
}

/// `PX` output pixels of one vector of channels, for any window; `first` is the first tap's place in its row, and pixels are `step` values
/// apart.
///
/// # Safety
/// As [`super::DwConv::run`], for those pixels and channels.
#[inline(always)]
pub(super) unsafe fn tile_any<S: Vector, A: MulAdd, const PX: usize>(
    simd: S,
    a: &DepthwiseArgs,
    [first, step]: [usize; 2],
    mut w: *const f32,
    mut out: *mut f32,
    out_pixel: usize,
    epilogue: EpilogueVectors<S>,
) {
    let [kh, kw] = a.kernel;
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [load(simd, w); PX];
        for ky in 0..kh {
            let row = (*a.rows.add(ky)).add(first);
            for kx in 0..kw {
                let x = row.add(*a.taps.add(kx));
                w = w.add(BLOCK);
                let weight = load(simd, w);
                unrolled!(P in PX, of 0 1 2 3 4 5 6 7 8 9 10 11, {
                    acc[P] = A::mul_add(simd, load(simd, x.add(P * step)), weight, acc[P]);
                });
            }
        }
        unrolled!(P in PX, of 0 1 2 3 4 5 6 7 8 9 10 11, {
            store(simd, out, epilogue.apply(simd, acc[P]));
            out = out.wrapping_add(out_pixel);
        });
    }
}
