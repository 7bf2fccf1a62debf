//! The tile of a panel with few outputs. The lanes of a vector are pixels, since outputs would leave most of them idle.
//!
//! ```text
//!   for each tile of pixels:
//!       sums[outputs][pixels] = bias, or partial sums
//!       for each chunk of k:
//!           chunk[k][pixels] = the values of the pixels, transposed by 8 × 8
//!           for each output:
//!               acc[groups] = sums[output]
//!               for k ascending: acc[g] += chunk[k][g] × broadcast(w[k][output])
//!               sums[output] = acc
//!       store epilogue(sums [+ residual])
//! ```
//!
//! A chunk and the sums of a tile lie in memory of the tile's own, in L1. Several vectors of sums hide the latency of a multiply-add: eight on
//! AVX2, with a weight and an input ten registers. `docs/kernels/pointwise.md` has what was tried.

use core::mem::MaybeUninit;

use super::PointwiseArgs;
use super::finish::behind_residual;
use crate::simd::{MulAdd, Vector, load, opaque, store};
use crate::{BLOCK, Epilogue, Kernel, Level};

/// The most outputs of such a panel.
const MAX_OUTPUTS: usize = 4;

/// The most lanes that outputs may take for each pixel, lanes without a pixel counted: with more, vectors of outputs are faster.
const LANES_OF_PIXEL: usize = 5;

/// Values of `k`, and pixels, that are transposed at once.
const EIGHT: usize = 8;

/// Rows of a chunk: a chunk takes values until it has so many or more, eight at a time.
const ROWS: usize = 32;

/// The most pixels of a tile.
const MAX_PIXELS: usize = 64;

/// The number of outputs in the last panel, where the tile of few outputs is the fastest way to them; else 0.
#[inline(always)]
pub(super) fn few_outputs<S: Vector>(a: &PointwiseArgs) -> usize {
    let outputs = a.n % BLOCK;
    // an output takes as long in a tile that lacks pixels as in a whole one
    let lanes = a.m.next_multiple_of(pixels::<S>());
    let pays = !S::FEW_TILES
        && outputs <= MAX_OUTPUTS
        && a.segment.min(a.k) >= EIGHT
        && outputs * lanes <= LANES_OF_PIXEL * a.m;
    if pays { outputs } else { 0 }
}

/// The most vectors of pixels in a tile.
const MAX_GROUPS: usize = 8;

/// Vectors of pixels in a tile: enough sums to hide the latency of a multiply-add, of no more pixels than there is room for.
#[inline(always)]
const fn groups<S: Vector>() -> usize {
    let groups = MAX_PIXELS / S::F32_LANES;
    if groups < MAX_GROUPS { groups } else { MAX_GROUPS }
}

/// Pixels of a tile.
#[inline(always)]
const fn pixels<S: Vector>() -> usize {
    groups::<S>() * S::F32_LANES
}

/// `f32_pointwise`, of one panel with few outputs.
pub(super) enum FewOutputs {}

impl Kernel for FewOutputs {
    type Args = PointwiseArgs;

    /// # Safety
    /// As [`super::Pointwise::run`]; `n` is at most [`MAX_OUTPUTS`].
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs) {
        // SAFETY: the caller's.
        unsafe { tiles::<L::Token, L::MulAdd>(simd, a) }
    }
}

/// The memory of a tile. Before the rows of a chunk and behind them are some that a transposition writes beside those that it is for.
#[repr(align(64))]
struct Transposed {
    chunk: [MaybeUninit<f32>; (EIGHT + ROWS + EIGHT) * MAX_PIXELS],
    sums: [MaybeUninit<f32>; MAX_OUTPUTS * MAX_PIXELS],
}

/// Values of `k` of a chunk, all of one segment.
#[derive(Clone, Copy)]
struct Stretch {
    /// The first of them, from the first value of a pixel.
    at: usize,
    /// The place of its row, from the first value of the chunk. It lies before the chunk where that wraps.
    to: usize,
    /// How many: some eights, or fewer than eight.
    values: usize,
}

/// Where a pixel's next value of `k` is.
#[derive(Clone, Copy)]
struct Cursor {
    /// From the pixel's first value.
    at: usize,
    /// Values of this segment before it.
    done: usize,
    /// Values from it on, to the end of `k`.
    left: usize,
}

impl Cursor {
    /// The next chunk: its stretches and its rows, which are `pixels` values apart. The cursor is behind them then.
    ///
    /// Where fewer than eight values of a segment are left, the stretch begins with some that an earlier stretch has. They come to the same
    /// rows, or before the chunk.
    #[inline(always)]
    fn chunk(&mut self, a: &PointwiseArgs, pixels: usize, stretches: &mut [Stretch; ROWS]) -> (usize, usize) {
        let (mut count, mut row) = (0, 0);
        while row < ROWS && self.left > 0 {
            let here = (a.segment - self.done).min(self.left);
            let values =
                if here < EIGHT { here } else { here.min((ROWS - row).next_multiple_of(EIGHT)) / EIGHT * EIGHT };
            let again = if here < EIGHT && self.done >= EIGHT { EIGHT - here } else { 0 };
            stretches[count] = Stretch {
                at: self.at - again,
                to: row.wrapping_sub(again).wrapping_mul(pixels),
                values: values + again,
            };
            count += 1;
            row += values;
            self.at += values;
            self.done += values;
            self.left -= values;
            if self.done == a.segment {
                self.at = self.at.wrapping_add(a.x_segment.wrapping_sub(a.segment));
                self.done = 0;
            }
        }
        (count, row)
    }
}

/// All pixels, one tile after the other.
///
/// # Safety
/// As [`FewOutputs::run`].
#[inline(always)]
unsafe fn tiles<S: Vector, A: MulAdd>(simd: S, a: &PointwiseArgs) {
    let pixels = const { pixels::<S>() };
    let mut memory = MaybeUninit::<Transposed>::uninit();
    let memory = memory.as_mut_ptr();
    // SAFETY: the caller's, for pixels below `m`; the memory has rows of `pixels` values.
    unsafe {
        let (chunk, sums) = ((&raw mut (*memory).chunk).cast::<f32>(), (&raw mut (*memory).sums).cast::<f32>());
        let chunk = chunk.add(EIGHT * pixels);
        if a.m < pixels {
            // lanes without a pixel are computed as well; later tiles find what earlier ones left there
            chunk.write_bytes(0, (ROWS + EIGHT).min(a.k) * pixels);
        }
        let mut stretches = [Stretch { at: 0, to: 0, values: 0 }; ROWS];
        let mut rows = [a.x; MAX_PIXELS];
        for i in (0..a.m).step_by(pixels) {
            let count = pixels.min(a.m - i);
            for p in 0..count.next_multiple_of(EIGHT) {
                rows[p] = a.x.add(*a.x_pixels.add(i + p.min(count - 1)));
            }
            start::<S>(simd, a, i, count, sums);
            let mut cursor = Cursor { at: 0, done: 0, left: a.k };
            let mut w = a.w;
            while cursor.left > 0 {
                let (parts, values) = cursor.chunk(a, pixels, &mut stretches);
                for p in (0..count).step_by(EIGHT) {
                    let rows = &*rows.as_ptr().add(p).cast::<[*const f32; EIGHT]>();
                    transpose(simd, &stretches[..parts], rows, chunk.add(p), pixels);
                }
                for o in 0..a.n {
                    multiply::<S, A>(simd, chunk, values, w.add(o), sums.add(o * pixels));
                }
                w = w.wrapping_add(values * BLOCK);
            }
            finish::<S>(simd, a, i, count, sums);
        }
    }
}

/// What the sums of `count` pixels from `i` on start from: the bias, or partial sums.
///
/// # Safety
/// As [`FewOutputs::run`], for these pixels; `sums` has a row of a tile's pixels for each output.
#[inline(always)]
unsafe fn start<S: Vector>(simd: S, a: &PointwiseArgs, i: usize, count: usize, sums: *mut f32) {
    for o in 0..a.n {
        // SAFETY: the caller's.
        unsafe {
            let sums = sums.add(o * pixels::<S>());
            if a.partial.is_null() {
                let bias = simd.splat_f32s(*a.bias.add(o));
                for g in 0..groups::<S>() {
                    store(simd, sums.add(g * S::F32_LANES), bias);
                }
            } else {
                for p in 0..pixels::<S>() {
                    *sums.add(p) = *a.partial.add((i + p.min(count - 1)) * BLOCK + o);
                }
            }
        }
    }
}

/// A chunk of eight pixels: each value of `k` in a row of its own.
///
/// # Safety
/// The pixels begin at `rows`, and are readable in all stretches. Eight values are writable in the rows of all stretches from `to` on.
#[inline(always)]
unsafe fn transpose<S: Vector>(
    simd: S,
    stretches: &[Stretch],
    rows: &[*const f32; EIGHT],
    to: *mut f32,
    to_row: usize,
) {
    for stretch in stretches {
        let (x, mut at, mut to) = (*rows, stretch.at, to.wrapping_add(stretch.to));
        // SAFETY: the caller's.
        unsafe {
            if stretch.values < EIGHT {
                transpose_short(stretch, rows, to, to_row);
            }
            for _ in 0..stretch.values / EIGHT {
                simd.transpose_eight(x.map(|x| x.wrapping_add(at)), to, to_row);
                to = to.wrapping_add(EIGHT * to_row);
                // else each pixel has a pointer that moves
                at = opaque(at + EIGHT);
            }
        }
    }
}

/// The same of a stretch that is shorter than eight values: value by value. Never inlined, or the addresses of this loop would take the
/// registers of the pixels.
///
/// # Safety
/// As [`transpose`].
#[cold]
#[inline(never)]
unsafe fn transpose_short(stretch: &Stretch, rows: &[*const f32; EIGHT], to: *mut f32, to_row: usize) {
    for (p, x) in rows.iter().enumerate() {
        for j in 0..stretch.values {
            // SAFETY: the caller's.
            unsafe { *to.add(j * to_row + p) = *x.add(stretch.at + j) };
        }
    }
}

/// Adds `rows` values of `k` to the sums of one output, whose weights are a panel's row apart.
///
/// # Safety
/// `chunk` and `sums` have rows of a tile's pixels; `w` is readable once for each row.
#[inline(always)]
unsafe fn multiply<S: Vector, A: MulAdd>(simd: S, chunk: *const f32, rows: usize, w: *const f32, sums: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [simd.splat_f32s(0.0); MAX_GROUPS];
        for g in 0..groups::<S>() {
            acc[g] = load(simd, sums.add(g * S::F32_LANES));
        }
        let (mut x, mut w) = (chunk, w);
        macro_rules! step {
            () => {
                let weight = simd.splat_f32s(*w);
                for g in 0..groups::<S>() {
                    acc[g] = A::mul_add(simd, load(simd, x.add(g * S::F32_LANES)), weight, acc[g]);
                }
                (x, w) = (x.wrapping_add(pixels::<S>()), w.wrapping_add(BLOCK));
            };
        }
        for _ in 0..rows / 4 {
            for _ in 0..4 {
                step!();
            }
        }
        for _ in 0..rows % 4 {
            step!();
        }
        for g in 0..groups::<S>() {
            store(simd, sums.add(g * S::F32_LANES), acc[g]);
        }
    }
}

/// The clamp of the sums of `outputs` outputs.
///
/// # Safety
/// `sums` has a row of a tile's pixels for each output.
#[inline(always)]
unsafe fn clamp<S: Vector>(simd: S, epilogue: &Epilogue, outputs: usize, sums: *mut f32) {
    let epilogue = epilogue.vectors(simd);
    for v in 0..outputs * groups::<S>() {
        // SAFETY: the caller's.
        unsafe {
            let sums = sums.add(v * S::F32_LANES);
            store(simd, sums, epilogue.apply(simd, load(simd, sums)));
        }
    }
}

/// Adds the residual to the sums of `count` pixels from `i` on, applies the activation, and stores.
///
/// # Safety
/// As [`FewOutputs::run`], for these pixels; `sums` has a row of a tile's pixels for each output.
#[inline(always)]
unsafe fn finish<S: Vector>(simd: S, a: &PointwiseArgs, i: usize, count: usize, sums: *mut f32) {
    let row = pixels::<S>();
    // SAFETY: the caller's. All of a residual is read before anything is stored, which may be in its place.
    unsafe {
        if let Some(r) = &a.residual {
            if a.epilogue.adds_last() {
                clamp::<S>(simd, &a.epilogue, a.n, sums);
            }
            for p in 0..count {
                let values = r.ptr.add(*r.pixels.add(i + p));
                for o in 0..a.n {
                    *sums.add(o * row + p) += *values.add(o);
                }
            }
        }
        clamp::<S>(simd, behind_residual(a), a.n, sums);
        if a.store.whole {
            for p in 0..count {
                a.store.ptr.add(*a.store.pixels.add(i + p)).cast::<[f32; BLOCK]>().write_unaligned([0.0; BLOCK]);
            }
        }
        for o in 0..a.n {
            for p in 0..count {
                *a.store.ptr.add(o + *a.store.pixels.add(i + p)) = *sums.add(o * row + p);
            }
        }
    }
}
