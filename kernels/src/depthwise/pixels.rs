//! Tiles over all channels: 3×3 on a caller's NHWC tensor, where each pixel is read from end to end.
//!
//! ```text
//!   stride 1: 4 columns × 2 rows     stride 2: 2 × 2              stride 3: 4 × 1
//!
//!   x x x x x x                      x x x x x                    x x x x x x x x x x x x     for vectors of channels:
//!   x x x x x x     s s s s          x x x x x     s s            x x x x x x x x x x x x         load each input once,
//!   x x x x x x     s s s s          x x x x x     s s            x x x x x x x x x x x x         and add it to every sum
//!   x x x x x x                      x x x x x                          s  s  s  s                that it is a tap of
//!                                    x x x x x
//! ```
//!
//! The next vectors of a pixel lie behind those before, which a prefetcher follows. Tiles of one output row would take a line of each
//! pixel, and come back for the next line when it is evicted.
//!
//! Register budget, with weights in memory where registers are 16:
//!
//! | | sums | weights | inputs | in all |
//! |---|--:|--:|--:|--:|
//! | 4 × 2, one vector | 8 | 9 | 1 | 18 |
//! | 2 × 2 or 4 × 1, two vectors | 8 | 18 | 1 | 27 |
//!
//! Two vectors use both halves of a line at once. Where pixels lie a multiple of 1 KiB apart, lines fall into so few sets of L1 that
//! the second half of a line is evicted before its use.
//!
//! A tile that meets padding finds each input by a pointer of its own. So do the smaller tiles at the end of a row.
//!
//! What was tried: `docs/kernels/depthwise.md`.

use super::DepthwiseArgs;
use super::tile::tap;
use crate::BLOCK;
use crate::simd::{MulAdd, Vector, load, store};

/// Values from pixel to pixel at whose multiples, of 1 KiB, the inputs of a tile fall into too few sets of L1.
const SAME_SETS: usize = 256;

/// All rows.
///
/// # Safety
/// As [`super::DwConv3x3::run`], with `edges`.
#[inline(always)]
pub(super) unsafe fn rows<S: Vector, A: MulAdd, const STRIDE: usize>(simd: S, a: &DepthwiseArgs, edges: [bool; 2]) {
    // the last block has no two vectors
    let half = !a.channels.is_multiple_of(BLOCK);
    // SAFETY: the caller's.
    unsafe {
        match STRIDE {
            _ if const { S::FEW_TILES } => tiles::<S, A, STRIDE, 1, 1, 1>(simd, a, edges),
            1 if half || !a.x.pixel.is_multiple_of(SAME_SETS) => tiles::<S, A, STRIDE, 4, 2, 1>(simd, a, edges),
            // with as many registers LLVM keeps the weights of both vectors, and sums leave them
            2 if half || const { S::REGISTER_COUNT >= 32 } => tiles::<S, A, STRIDE, 4, 2, 1>(simd, a, edges),
            1 | 2 => tiles::<S, A, STRIDE, 2, 2, 2>(simd, a, edges),
            // rows share nothing
            _ => tiles::<S, A, STRIDE, 4, 1, 2>(simd, a, edges),
        }
    }
}

/// All rows, by tiles of `PX` × `PY` pixels and, where these end, smaller ones, `NV` vectors of channels at a time.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn tiles<S: Vector, A: MulAdd, const STRIDE: usize, const PX: usize, const PY: usize, const NV: usize>(
    simd: S,
    a: &DepthwiseArgs,
    edges: [bool; 2],
) {
    macro_rules! row_of_tiles {
        ($first:ident, $py:expr) => {{
            let mut x = 0;
            while x + PX <= a.width {
                tile::<S, A, STRIDE, PX, { $py }, NV>(simd, a, edges, $first, x, const { $py == PY });
                x += PX;
            }
            if const { PX > 2 } && x + 2 <= a.width {
                tile::<S, A, STRIDE, 2, { $py }, NV>(simd, a, edges, $first, x, false);
                x += 2;
            }
            if const { PX > 1 } && x < a.width {
                tile::<S, A, STRIDE, 1, { $py }, NV>(simd, a, edges, $first, x, false);
            }
        }};
    }
    let mut first = 0;
    // SAFETY: the caller's, for rows below `rows_out` and columns below `width`.
    unsafe {
        while first + PY <= a.rows_out {
            row_of_tiles!(first, PY);
            first += PY;
        }
        if const { PY > 1 } && first < a.rows_out {
            row_of_tiles!(first, 1);
        }
    }
}

/// Rows and columns of input that a tile reads at the most.
const MAX_ROWS: usize = 5;
const MAX_COLUMNS: usize = 12;

/// Where a tile finds the first channel of its inputs.
trait Inputs {
    fn at(&self, row: usize, column: usize) -> *const f32;
}

/// So many values apart in each row.
struct Apart {
    rows: [*const f32; MAX_ROWS],
    pixel: usize,
}

impl Inputs for Apart {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *const f32 {
        self.rows[row].wrapping_add(column * self.pixel)
    }
}

/// Each anywhere.
struct Anywhere([[*const f32; MAX_COLUMNS]; MAX_ROWS]);

impl Inputs for Anywhere {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *const f32 {
        self.0[row][column]
    }
}

/// `PX` output pixels from column `x` on, of `PY` rows from `first` on. Of a `full` tile it is worth telling whether it meets
/// padding.
///
/// # Safety
/// As [`rows`], for these rows and columns.
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const STRIDE: usize, const PX: usize, const PY: usize, const NV: usize>(
    simd: S,
    a: &DepthwiseArgs,
    edges: [bool; 2],
    first: usize,
    x: usize,
    full: bool,
) {
    let (columns, pixel) = ((PX - 1) * STRIDE + 3, a.x.pixel);
    let lacking = [edges[0] && x == 0, edges[1] && x + PX == a.width];
    // SAFETY: the caller's; a pointer to a column that is lacking is made and not used.
    unsafe {
        let mut rows = [a.zeros; MAX_ROWS];
        let mut padding = [false; MAX_ROWS];
        for r in 0..(PY - 1) * STRIDE + 3 {
            let row = *a.rows.add(first * STRIDE + r);
            rows[r] = row.wrapping_add(x * STRIDE * pixel).wrapping_sub(usize::from(edges[0]) * pixel);
            padding[r] = row == a.zeros;
        }
        if full && padding == [false; MAX_ROWS] && lacking == [false; 2] {
            return channels::<S, A, _, STRIDE, PX, PY, NV>(simd, a, &Apart { rows, pixel }, first, x);
        }
        let mut at = [[a.zeros; MAX_COLUMNS]; MAX_ROWS];
        for r in 0..(PY - 1) * STRIDE + 3 {
            for column in usize::from(lacking[0])..columns - usize::from(lacking[1]) {
                if !padding[r] {
                    at[r][column] = rows[r].wrapping_add(column * pixel);
                }
            }
        }
        channels::<S, A, _, STRIDE, PX, PY, NV>(simd, a, &Anywhere(at), first, x);
    }
}

/// All channels of a tile.
///
/// # Safety
/// As [`rows`]; all channels are readable at each of `inputs`.
#[inline(always)]
unsafe fn channels<
    S: Vector,
    A: MulAdd,
    I: Inputs,
    const STRIDE: usize,
    const PX: usize,
    const PY: usize,
    const NV: usize,
>(
    simd: S,
    a: &DepthwiseArgs,
    inputs: &I,
    first: usize,
    x: usize,
) {
    let lanes = S::F32_LANES;
    let epilogue = a.epilogue.vectors(simd);
    // SAFETY: the caller's; channels are a multiple of `NV` vectors.
    unsafe {
        let mut out = [core::ptr::null_mut::<f32>(); PY];
        for py in 0..PY {
            out[py] = (*a.out.add(first + py)).add(x * a.out_pixel);
        }
        let mut c = 0;
        while c < a.channels {
            let (block, lane) = (c / BLOCK, if NV * lanes == BLOCK { 0 } else { c % BLOCK });
            let w = a.w.add(block * 10 * BLOCK + lane);
            let mut acc = [[[simd.splat_f32s(0.0); PX]; PY]; NV];
            for v in 0..NV {
                acc[v] = [[load(simd, w.add(v * lanes)); PX]; PY];
            }
            unrolled!(ROW in (PY - 1) * STRIDE + 3, of 0 1 2 3 4 5, {
                unrolled!(COLUMN in (PX - 1) * STRIDE + 3, of 0 1 2 3 4 5 6 7 8 9 10 11, {
                    for v in 0..NV {
                        let input = load(simd, inputs.at(ROW, COLUMN).wrapping_add(c + v * lanes));
                        for py in 0..PY {
                            for px in 0..PX {
                                if let (Some(kh), Some(kw)) = (tap(ROW, py * STRIDE), tap(COLUMN, px * STRIDE)) {
                                    let weight = load(simd, w.add((1 + kh * 3 + kw) * BLOCK + v * lanes));
                                    acc[v][py][px] = A::mul_add(simd, input, weight, acc[v][py][px]);
                                }
                            }
                        }
                    }
                });
            });
            for py in 0..PY {
                let mut to = out[py].add(block * a.out_block + lane);
                for px in 0..PX {
                    for v in 0..NV {
                        store(simd, to.add(v * lanes), epilogue.apply(simd, acc[v][py][px]));
                    }
                    to = to.wrapping_add(a.out_pixel);
                }
            }
            c += NV * lanes;
        }
    }
}
