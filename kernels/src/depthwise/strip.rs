//! Strips: 3×3 down a strip of columns, from the first row of the call to the last, where a vector is a block of channels.
//!
//! ```text
//!              strip of up to 8 columns                   stride 1: three output rows are under way
//!   row r     x x x x x x x x x x   ──▶  kh = 2 of out r − 2, which is then done
//!                                        kh = 1 of out r − 1
//!                                        kh = 0 of out r, which begins with it
//! ```
//!
//! ```text
//!   nine weights and the bias in registers
//!   for each input row of the call:
//!       for each input of the row: load it once, and add it to the sums of the output rows that it meets
//!       clamp and store the output row that is done
//! ```
//!
//! A sum sees `kh` and `kw` ascending. Register budget, of 32:
//!
//! | | sums | weights | inputs | in all |
//! |---|--:|--:|--:|--:|
//! | stride 1, 7 columns | 3 × 7 | 9 | 1 | 31 |
//! | stride 1, 8 columns | 3 × 8 | 7, and two from memory | 1 | 32 |
//! | stride 2, 8 columns | 2 × 8 | 9 | 1 | 26 |
//!
//! What was tried: `docs/kernels/depthwise.md`.

use super::DepthwiseArgs;
use super::rows::{OutRow, Row};
use super::tile::tap;
use crate::BLOCK;
use crate::simd::{MulAdd, Vector, load, store};

/// All rows of a block of channels, strip by strip.
///
/// # Safety
/// As [`super::DwConv3x3::run`], for that block.
#[inline(always)]
pub(super) unsafe fn strips<S: Vector, A: MulAdd, R: Row, const STRIDE: usize>(
    simd: S,
    a: &DepthwiseArgs,
    block: usize,
) {
    let mut x = 0;
    while x < a.width {
        macro_rules! strip {
            ($px:literal) => {{
                // SAFETY: the caller's, for columns below `width`.
                unsafe {
                    match STRIDE {
                        1 => strip1::<S, A, R, $px>(simd, a, block, x),
                        _ => strip2::<S, A, R, $px>(simd, a, block, x),
                    }
                }
                x += $px;
            }};
        }
        match a.width - x {
            left if left.is_multiple_of(7) => strip!(7),
            8.. => strip!(8),
            4.. => strip!(4),
            2.. => strip!(2),
            _ => strip!(1),
        }
    }
}

/// Sums of one output row of a strip.
type Sums<S, const PX: usize> = [<S as pulp::Simd>::f32s; PX];

/// The weights of a block and its bias.
///
/// # Safety
/// As [`super::DwConv3x3::run`], for that block.
#[inline(always)]
unsafe fn weights<S: Vector>(simd: S, a: &DepthwiseArgs, block: usize) -> ([[S::f32s; 3]; 3], S::f32s) {
    // SAFETY: the caller's.
    unsafe {
        let bias = a.w.add(block * 10 * BLOCK);
        let mut w = [[simd.splat_f32s(0.0); 3]; 3];
        for kh in 0..3 {
            for kw in 0..3 {
                w[kh][kw] = load(simd, bias.add((1 + kh * 3 + kw) * BLOCK));
            }
        }
        (w, load(simd, bias))
    }
}

/// An input row gives its taps to the output rows that it meets: `kh` of them is the kernel row that it is to each.
macro_rules! feed {
    ($simd:ident, $a:ident, $row:expr, $block:ident, $x:ident, $w:ident, $stride:literal, $px:ident: $($kh:literal $sums:ident),*) => {{
        let count = ($px - 1) * $stride + 3;
        let row = R::new($a, $a.edges.unwrap_or_default().map(|columns| columns > 0), $row, $block);
        let mut row = row.from($x * $stride, 0, count, $x + $px == $a.width);
        unrolled!(IX in (PX - 1) * $stride + 3, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16, {
            let v = load($simd, row.next(IX, count));
            $(
                for ox in 0..$px {
                    if let Some(kw) = tap(IX, ox * $stride) {
                        $sums[ox] = A::mul_add($simd, v, $w[$kh][kw], $sums[ox]);
                    }
                }
            )*
        });
    }};
}

/// A strip of `PX` columns from `x` on at stride 1.
///
/// # Safety
/// As [`super::DwConv3x3::run`], for that block and these columns.
#[inline(always)]
unsafe fn strip1<S: Vector, A: MulAdd, R: Row, const PX: usize>(simd: S, a: &DepthwiseArgs, block: usize, x: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (w, bias) = weights(simd, a, block);
        let [mut s0, mut s2]: [Sums<S, PX>; 2] = [[bias; PX]; 2];
        feed!(simd, a, 0, block, x, w, 1, PX: 0 s2);
        let mut s1 = s2;
        s2 = [bias; PX];
        let rows = a.rows_out;
        if rows > 1 {
            feed!(simd, a, 1, block, x, w, 1, PX: 1 s1, 0 s2);
            (s0, s1, s2) = (s1, s2, [bias; PX]);
            for row in 2..rows {
                feed!(simd, a, row, block, x, w, 1, PX: 2 s0, 1 s1, 0 s2);
                put(simd, a, block, x, row - 2, s0);
                (s0, s1, s2) = (s1, s2, [bias; PX]);
            }
        }
        feed!(simd, a, rows, block, x, w, 1, PX: 2 s0, 1 s1);
        if rows > 1 {
            put(simd, a, block, x, rows - 2, s0);
        }
        s0 = s1;
        feed!(simd, a, rows + 1, block, x, w, 1, PX: 2 s0);
        put(simd, a, block, x, rows - 1, s0);
    }
}

/// The same at stride 2: two output rows are under way where they share a row.
///
/// # Safety
/// As [`strip1`].
#[inline(always)]
unsafe fn strip2<S: Vector, A: MulAdd, R: Row, const PX: usize>(simd: S, a: &DepthwiseArgs, block: usize, x: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (w, bias) = weights(simd, a, block);
        let [mut s0, mut s1]: [Sums<S, PX>; 2] = [[bias; PX]; 2];
        feed!(simd, a, 0, block, x, w, 2, PX: 0 s0);
        let last = a.rows_out - 1;
        for y in 0..last {
            feed!(simd, a, 2 * y + 1, block, x, w, 2, PX: 1 s0);
            feed!(simd, a, 2 * y + 2, block, x, w, 2, PX: 2 s0, 0 s1);
            put(simd, a, block, x, y, s0);
            (s0, s1) = (s1, [bias; PX]);
        }
        feed!(simd, a, 2 * last + 1, block, x, w, 2, PX: 1 s0);
        feed!(simd, a, 2 * last + 2, block, x, w, 2, PX: 2 s0);
        put(simd, a, block, x, last, s0);
    }
}

/// Applies the epilogue to an output row of a strip, and stores it.
///
/// # Safety
/// As [`strip1`], for output row `oy`.
#[inline(always)]
unsafe fn put<S: Vector, const PX: usize>(
    simd: S,
    a: &DepthwiseArgs,
    block: usize,
    x: usize,
    oy: usize,
    sums: Sums<S, PX>,
) {
    // SAFETY: the caller's.
    unsafe {
        let out = OutRow::new(simd, a, oy, block);
        let mut to = [out.ptr.add(x * out.pixel); PX];
        for p in 1..PX {
            to[p] = to[p - 1].add(out.pixel);
        }
        macro_rules! each {
            ($to:ident, $v:ident, $store:expr) => {
                unrolled!(P in PX, of 0 1 2 3 4 5 6 7, {
                    let ($to, $v) = (to[P], out.epilogue.apply(simd, sums[P]));
                    $store;
                });
            };
        }
        if out.writable < BLOCK {
            each!(to, v, simd.store_lanes(to, v, out.writable));
        } else {
            each!(to, v, store(simd, to, v));
        }
    }
}
