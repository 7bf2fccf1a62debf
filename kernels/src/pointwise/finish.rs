//! The end of a tile: adds the residual, clamps, and stores. A residual may come behind the clamp.

use core::mem::MaybeUninit;

use super::PointwiseArgs;
use super::tile::{MAX_MR, place};
use crate::int8::{End, Int8};
use crate::simd::{PixelOffsets, Vector, copy_pixels, load, pixels_to_block, store};
use crate::{BLOCK, Epilogue, Residual};

/// Where pixels begin in a block of memory of the tile's own.
static DENSE: [usize; MAX_MR] = {
    let mut at = [0; MAX_MR];
    let mut p = 0;
    while p < MAX_MR {
        at[p] = p * BLOCK;
        p += 1;
    }
    at
};

/// Where `mr` values of a residual or an output are: in the caller's memory where whole vectors are there, else in a block
/// of the tile's own, so that vectors meet one path.
macro_rules! or_block {
    ($whole:expr, $ptr:expr, $pixels:expr, $block:expr) => {
        if $whole { ($ptr, $pixels) } else { ($block, DENSE.as_ptr()) }
    };
}

/// What becomes of a sum behind its residual: nothing, where the residual comes last.
#[inline(always)]
pub(super) fn behind_residual(a: &PointwiseArgs) -> &Epilogue {
    const NONE: &Epilogue = &Epilogue::NONE;
    if a.epilogue.adds_last() && a.residual.is_some() { NONE } else { &a.epilogue }
}

/// Adds the residual to `MR` pixels of `NP` panels, applies the activation, and stores.
///
/// AVX-512 applies the activation to a vector and stores it before the next, pixel by pixel. The others apply it to the whole tile before
/// the first store. On AVX2 that order is the faster one (`docs/kernels/pointwise.md`). One place stores, or LLVM keeps sums in memory
/// on NEON.
///
/// # Safety
/// As [`super::Pointwise::run`].
#[inline(always)]
pub(super) unsafe fn finish<S: Vector, const PLAIN: bool, const MR: usize, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs,
    mut acc: [[[S::f32s; NV]; NP]; MR],
    i: usize,
    last: usize,
    panel: usize,
    lane: usize,
) {
    let lanes = S::F32_LANES;
    const { assert!(MR <= MAX_MR) };
    let mut block = [const { MaybeUninit::<f32>::uninit() }; MAX_MR * BLOCK];
    let block = block.as_mut_ptr().cast::<f32>();
    // the last panel, of which a part may lie past the last channel
    let tail = panel + NP - 1;
    let channels = a.n.saturating_sub(tail * BLOCK + lane).min(NV * lanes);
    let full = channels == NV * lanes;
    // with AVX-512 a vector of which not all lanes are there is read and written by a mask, elsewhere by way of a block
    let masked = lanes == BLOCK;
    // SAFETY: the caller's: vectors are read and written whole only where 16 channels are there, and elsewhere no more
    // than `channels`; `block` and `DENSE` hold `MR` pixels.
    unsafe {
        if !PLAIN && let Some(r) = &a.residual {
            let from = r.ptr.wrapping_add(panel * r.panel + lane);
            let whole = r.whole || full;
            let end = from.wrapping_add((NP - 1) * r.panel);
            let in_place = whole || masked;
            let (residual, pixels) = or_block!(in_place, end, r.pixels.add(i), block.cast_const());
            if !in_place {
                pixels_to_block(last + 1, channels, end, r.pixels.add(i), block);
            }
            if a.epilogue.adds_last() {
                let clamp = a.epilogue.vectors(simd);
                for p in 0..MR {
                    for q in 0..NP {
                        for v in 0..NV {
                            acc[p][q][v] = clamp.apply(simd, acc[p][q][v]);
                        }
                    }
                }
            }
            for p in 0..MR {
                let at = place::<MR>(p, last);
                for q in 0..NP {
                    let value = if q + 1 < NP {
                        from.add(q * r.panel + *r.pixels.add(i + at))
                    } else {
                        residual.add(*pixels.add(at))
                    };
                    for v in 0..NV {
                        let value = if masked && q + 1 == NP && !whole {
                            simd.load_lanes(value, channels)
                        } else {
                            load(simd, value.add(v * lanes))
                        };
                        acc[p][q][v] = simd.add_f32s(acc[p][q][v], value);
                    }
                }
            }
        }
        let to = a.store.ptr.wrapping_add(panel * a.store.panel + lane);
        let whole = PLAIN || a.store.whole || full;
        let end = to.wrapping_add((NP - 1) * a.store.panel);
        let in_place = whole || masked;
        let (out, pixels) = or_block!(in_place, end, a.store.pixels.add(i), block);
        let end_of_sum = if PLAIN { &a.epilogue } else { behind_residual(a) };
        let epilogue = end_of_sum.vectors(simd);
        if lanes < BLOCK && !end_of_sum.is_none() {
            for p in 0..MR {
                for q in 0..NP {
                    for v in 0..NV {
                        acc[p][q][v] = epilogue.apply(simd, acc[p][q][v]);
                    }
                }
            }
        }
        for p in 0..MR {
            let at = place::<MR>(p, last);
            for q in 0..NP {
                let out = if q + 1 < NP {
                    to.add(q * a.store.panel + *a.store.pixels.add(i + at))
                } else {
                    out.add(*pixels.add(at))
                };
                for v in 0..NV {
                    let sum = if lanes == BLOCK { epilogue.apply(simd, acc[p][q][v]) } else { acc[p][q][v] };
                    if masked && q + 1 == NP && !whole {
                        simd.store_lanes(out, sum, channels);
                    } else {
                        store(simd, out.add(v * lanes), sum);
                    }
                }
            }
        }
        if !in_place {
            copy_pixels(
                last + 1,
                channels,
                (block, PixelOffsets::Every(BLOCK)),
                (end, PixelOffsets::Table(a.store.pixels.add(i))),
            );
        }
    }
}

/// The same of half a panel, two pixels a vector. No more than its half of 8 channels is read or written.
///
/// # Safety
/// As [`super::Pointwise::run`].
#[inline(always)]
pub(super) unsafe fn finish_half<S: Vector, const MR: usize>(
    simd: S,
    a: &PointwiseArgs,
    mut halves: [S::f32s; MR],
    i: usize,
    last: usize,
    panel: usize,
) {
    let mut block = [const { MaybeUninit::<f32>::uninit() }; MAX_MR * BLOCK];
    let block = block.as_mut_ptr().cast::<f32>();
    let channels = a.n - panel * BLOCK;
    // SAFETY: as in `finish`, with vectors of 8 channels.
    unsafe {
        let to = a.store.ptr.wrapping_add(panel * a.store.panel);
        let whole = a.store.whole || channels == BLOCK / 2;
        let (out, out_pixels) = or_block!(whole, to, a.store.pixels.add(i), block);
        if let Some(r) = &a.residual {
            let from = r.ptr.wrapping_add(panel * r.panel);
            let whole = r.whole || channels == BLOCK / 2;
            if !whole {
                pixels_to_block(last + 1, channels, from, r.pixels.add(i), block);
            }
            let (residual, pixels) = or_block!(whole, from, r.pixels.add(i), block.cast_const());
            if a.epilogue.adds_last() {
                let clamp = a.epilogue.vectors(simd);
                for p in 0..MR / 2 {
                    halves[p] = clamp.apply(simd, halves[p]);
                }
            }
            for p in 0..MR / 2 {
                let [lower, upper] =
                    [residual.add(*pixels.add(2 * p)), residual.add(*pixels.add(place::<MR>(2 * p + 1, last)))];
                halves[p] = simd.add_f32s(halves[p], simd.load_halves(lower, upper));
            }
        }
        let epilogue = behind_residual(a).vectors(simd);
        for p in 0..MR / 2 {
            let [lower, upper] =
                [out.add(*out_pixels.add(2 * p)), out.add(*out_pixels.add(place::<MR>(2 * p + 1, last)))];
            simd.store_halves(lower, upper, epilogue.apply(simd, halves[p]));
        }
        if !whole {
            copy_pixels(
                last + 1,
                channels,
                (block, PixelOffsets::Every(BLOCK)),
                (to, PixelOffsets::Table(a.store.pixels.add(i))),
            );
        }
    }
}

/// The end of a tile of the pointwise kernel: the pixels from `i` to `i + last`, in `NP` panels from `panel` on, of which vectors from
/// channel `lane` on. Sums that are partial are stored as they are.
///
/// # Safety
/// As the kernel's.
#[inline(always)]
pub(super) unsafe fn finish_int8<S: Vector, I: Int8<S>, const MR: usize, const NP: usize, const NV: usize>(
    simd: S,
    a: &PointwiseArgs<u8>,
    acc: [[[I::Sums; NV]; NP]; MR],
    i: usize,
    last: usize,
    panel: usize,
    lane: usize,
) {
    let first = lane / S::F32_LANES;
    // SAFETY: the caller's.
    unsafe {
        let Some(requantize) = &a.epilogue else {
            let sums = a.store.ptr.cast::<i32>();
            unrolled!(P in MR, of 0 1 2 3 4 5 6 7 8 9 10 11, {
                let pixel = *a.store.pixels.add(i + place::<MR>(P, last));
                unrolled!(Q in NP, of 0 1 2, {
                    for v in 0..NV {
                        let to = sums.add((panel + Q) * a.store.panel + pixel + lane + v * S::F32_LANES);
                        I::store_sums(simd, to, acc[P][Q][v]);
                    }
                });
            });
            return;
        };
        let end = End::<S, I>::new(simd, requantize, a.residual.is_some());
        let out = a.store.ptr.cast::<I::Stored>();
        let residual =
            a.residual.unwrap_or(Residual { ptr: core::ptr::null(), pixels: a.store.pixels, panel: 0, whole: true });
        unrolled!(P in MR, of 0 1 2 3 4 5 6 7 8 9 10 11, {
            let at = i + place::<MR>(P, last);
            unrolled!(Q in NP, of 0 1 2, {
                let m = a.bias.add((panel + Q) * a.w_panel).cast::<f32>().add(BLOCK);
                let added = residual.ptr.cast::<I::Stored>();
                let added = added.wrapping_add((panel + Q) * residual.panel + *residual.pixels.add(at));
                let to = out.add((panel + Q) * a.store.panel + *a.store.pixels.add(at));
                end.store(simd, acc[P][Q], first, m, added, to);
            });
        });
    }
}
