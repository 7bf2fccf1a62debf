//! Depthwise kernels: 3×3 at stride 1 and 2 with register tiles of their own, and one for every other window.
//!
//! ```text
//!   input rows, in channel blocks [C/16][x][16], padded        one tile: 2 output rows × px pixels × 1 vector of sums
//!
//!   r0   x x x x x x   ─┐ kh = 0 of row 0                      for each input row, for each pixel of it:
//!   r1   x x x x x x   ─┼ kh = 1 of row 0, kh = 0 of row 1         load x once
//!   r2   x x x x x x   ─┼ kh = 2 of row 0, kh = 1 of row 1         and give it to every sum that it is a tap of
//!   r3   x x x x x x   ─┘                  kh = 2 of row 1     so that a sum sees kh and kw ascending
//! ```
//!
//! Rows come as pointers: a row of padding points to zeros, a ring needs no copy, and the kernel knows of neither.
//! Columns of padding are in the rows. A pixel is 16 values from the next, so no stride makes sets of the cache collide.
//!
//! Registers on AVX2 (16), stride 1: 2 × 4 sums, two kernel rows of 3 weights, 1 input: 15. The weights of a tile are read
//! again from L1, at most 18 loads for 72 multiply-adds. Stride 2 shares one kernel row of weights between two output rows:
//! 8 sums, 6 weights, 1 input. Other windows: 8 pixels of sums, one weight, 8 loads for 8 multiply-adds; the loads bound it.
//! AVX-512 and NEON (32) take the same tiles.
//!
//! All vectors of a channel block are done at one place before the next place: they share cache lines. One vector at a time over
//! whole rows took 1.6 times as long at stride 2 on planes that do not fit L1. Asking for the lines of coming pixels lost a quarter:
//! the rows are streams that the hardware sees.
//!
//! Every loop of a tile that a sum is indexed by is unrolled here and not by the compiler. Left to LLVM, the loop over output
//! rows stayed one on NEON, and the 2 × 4 tile stored its sums at every tap; the 17 inputs of 1 × 8 at stride 2 stayed one on
//! AVX2 and NEON, with a branch for each of them.
//!
//! Not taken, by count and not by measurement: all 9 weights in registers on AVX2 leaves room for 6 sums, too few for the
//! latency of a multiply-add; one row at a time loads each input three times.

use crate::simd::{MulAdd, Vector, load, store, store_lanes};
use crate::{BLOCK, Kernel};

/// What the depthwise kernels compute on. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseArgs {
    /// Channels.
    pub channels: usize,
    /// Output pixels of a row.
    pub width: usize,
    /// Output rows, 1 or 2 for [`DwConv3x3`] and 1 for [`DwConv`].
    pub rows_out: usize,
    /// Pointers to input rows, at the first tap of the first output pixel. [`DwConv3x3`] takes the
    /// `(rows_out − 1) × stride + 3` that its taps meet, [`DwConv`] one for each kernel row.
    pub rows: *const *const f32,
    /// From one channel block of a row to the next; pixels lie 16 apart.
    pub x_block: usize,
    /// Weights: for each channel block 16 of bias, then 16 for each tap.
    pub w: *const f32,
    /// The output rows.
    pub out: [*mut f32; 2],
    /// From one channel block of an output row to the next.
    pub out_block: usize,
    /// From one output pixel to the next.
    pub out_pixel: usize,
    /// Whether the last block of `out` has room for 16 channels whatever `channels` is.
    pub whole_blocks: bool,
    /// Rows and columns of the kernel; [`DwConv3x3`] knows its own.
    pub kernel: [usize; 2],
    /// Pixels from one output pixel's window to the next; [`DwConv3x3`] knows its own.
    pub stride: usize,
    /// Pixels from one tap to the next in a row; 1 for [`DwConv3x3`].
    pub dilation: usize,
    /// Lower and upper bound of the clamp.
    pub clamp: [f32; 2],
}

/// `f32_dwconv3x3s1` and `f32_dwconv3x3s2`: 3×3, dilation 1, the same stride on both axes.
pub enum DwConv3x3<const STRIDE: usize> {}

/// `f32_dwconv`: any kernel, stride and dilation.
pub enum DwConv {}

/// Calls `$body` with `$i` each of the constants below `$count`, so that nothing is left to the unroller: a tile whose loops
/// stay loops keeps its sums in memory.
macro_rules! unrolled {
    ($i:ident in $count:expr, of $($n:literal)*, $body:block) => {
        const { assert!($count <= [$($n),*].len()) };
        $({
            const $i: usize = $n;
            if const { $i < $count } $body
        })*
    };
}

impl<const STRIDE: usize> Kernel for DwConv3x3<STRIDE> {
    type Args = DepthwiseArgs;

    /// # Safety
    /// Every row is readable in whole channel blocks for the `(width − 1) × STRIDE + 3` pixels that the windows meet, `w`
    /// in whole blocks; the output rows are writable in `channels` channels of `width` pixels (in whole blocks with
    /// `whole_blocks`), and overlap nothing that is read.
    #[inline(always)]
    unsafe fn run<S: Vector, A: MulAdd>(simd: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise, for every block of channels.
        unsafe {
            for block in 0..a.channels.div_ceil(BLOCK) {
                match a.rows_out {
                    2 => rows3x3::<S, A, STRIDE, 2>(simd, a, block),
                    _ => rows3x3::<S, A, STRIDE, 1>(simd, a, block),
                }
            }
        }
    }
}

/// One or two output rows of a block of channels.
///
/// All vectors of a block are done at one place before the next: they share cache lines, which rows of a hundred pixels would
/// have pushed out of L1 before a second pass came.
///
/// # Safety
/// As [`DwConv3x3::run`], for channels of `block`.
#[inline(always)]
unsafe fn rows3x3<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize>(
    simd: S,
    a: &DepthwiseArgs,
    block: usize,
) {
    let channels = block * BLOCK..a.channels.min((block + 1) * BLOCK);
    macro_rules! tiles {
        ($px:literal, $x:expr) => {
            for c in channels.clone().step_by(S::F32_LANES) {
                tile3x3::<S, A, STRIDE, ROWS, $px>(simd, a, c, $x);
            }
        };
    }
    let mut x = 0;
    // SAFETY: the caller's, for pixels below `width`.
    unsafe {
        if ROWS == 1 {
            while x + 8 <= a.width {
                tiles!(8, x);
                x += 8;
            }
        }
        while x + 4 <= a.width {
            tiles!(4, x);
            x += 4;
        }
        match a.width - x {
            0 => {}
            1 => tiles!(1, x),
            2 => tiles!(2, x),
            _ => tiles!(3, x),
        }
    }
}

/// Which of the three taps of a window that begins at `start` the input at `at` is.
#[inline(always)]
const fn tap(at: usize, start: usize) -> Option<usize> {
    match at.checked_sub(start) {
        Some(tap) if tap < 3 => Some(tap),
        _ => None,
    }
}

/// `ROWS × PX` output pixels from column `x0` on, of one vector of channels.
///
/// # Safety
/// As [`DwConv3x3::run`], for those pixels and channels.
#[inline(always)]
unsafe fn tile3x3<S: Vector, A: MulAdd, const STRIDE: usize, const ROWS: usize, const PX: usize>(
    simd: S,
    a: &DepthwiseArgs,
    c: usize,
    x0: usize,
) {
    let (block, lane) = (c / BLOCK, c % BLOCK);
    // SAFETY: the caller's.
    unsafe {
        let w = a.w.add(block * 10 * BLOCK + lane);
        let bias = load(simd, w);
        let mut acc = [[bias; PX]; ROWS];
        for oy in 0..ROWS {
            for px in 0..PX {
                acc[oy][px] = simd.load_start(w);
            }
        }
        unrolled!(IY in (ROWS - 1) * STRIDE + 3, of 0 1 2 3 4, {
            let row = (*a.rows.add(IY)).add(block * a.x_block + x0 * STRIDE * BLOCK + lane);
            // the kernel rows that this input row is a tap row of, one for each output row
            let mut weights = [[bias; 3]; ROWS];
            for oy in 0..ROWS {
                if let Some(kh) = tap(IY, oy * STRIDE) {
                    for kw in 0..3 {
                        weights[oy][kw] = load(simd, w.add((1 + kh * 3 + kw) * BLOCK));
                    }
                }
            }
            unrolled!(IX in (PX - 1) * STRIDE + 3, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16, {
                let v = load(simd, row.add(IX * BLOCK));
                for oy in 0..ROWS {
                    if tap(IY, oy * STRIDE).is_some() {
                        for ox in 0..PX {
                            if let Some(kw) = tap(IX, ox * STRIDE) {
                                acc[oy][ox] = A::mul_add(simd, v, weights[oy][kw], acc[oy][ox]);
                            }
                        }
                    }
                }
            });
        });
        unrolled!(OY in ROWS, of 0 1, {
            epilogue(simd, a, acc[OY], OY, c, x0);
        });
    }
}

/// Clamps and stores `PX` pixels from column `x0` on of output row `oy`, for the vector of channels from `c` on.
///
/// Whole vectors and tails go in loops of their own: with the choice inside one loop, LLVM leaves it a loop, and keeps the
/// sums in memory that it indexes there, stored at every tap.
///
/// # Safety
/// As [`DwConv3x3::run`], for those pixels and channels.
#[inline(always)]
unsafe fn epilogue<S: Vector, const PX: usize>(
    simd: S,
    a: &DepthwiseArgs,
    sums: [S::f32s; PX],
    oy: usize,
    c: usize,
    x0: usize,
) {
    let (lo, hi) = (simd.splat_f32s(a.clamp[0]), simd.splat_f32s(a.clamp[1]));
    // SAFETY: the caller's.
    unsafe {
        let out = a.out[oy].add(c / BLOCK * a.out_block + x0 * a.out_pixel + c % BLOCK);
        if a.whole_blocks || c + S::F32_LANES <= a.channels {
            for p in 0..PX {
                store(simd, out.add(p * a.out_pixel), simd.clamp(sums[p], lo, hi));
            }
        } else {
            let mut clamped = sums;
            for p in 0..PX {
                clamped[p] = simd.clamp(sums[p], lo, hi);
            }
            for p in 0..PX {
                store_lanes(simd, out.add(p * a.out_pixel), clamped[p], a.channels - c);
            }
        }
    }
}

impl Kernel for DwConv {
    type Args = DepthwiseArgs;

    /// # Safety
    /// As [`DwConv3x3::run`], for windows of `kernel`, `stride` and `dilation`.
    #[inline(always)]
    unsafe fn run<S: Vector, A: MulAdd>(simd: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise, for every vector of channels and pixel.
        unsafe {
            let mut c = 0;
            while c < a.channels {
                let mut x = 0;
                while x + 8 <= a.width {
                    tile::<S, A, 8>(simd, a, c, x);
                    x += 8;
                }
                if x + 4 <= a.width {
                    tile::<S, A, 4>(simd, a, c, x);
                    x += 4;
                }
                while x < a.width {
                    tile::<S, A, 1>(simd, a, c, x);
                    x += 1;
                }
                c += S::F32_LANES;
            }
        }
    }
}

/// `PX` output pixels from column `x0` on, of one vector of channels, for any window.
///
/// # Safety
/// As [`DwConv::run`], for those pixels and channels.
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const PX: usize>(simd: S, a: &DepthwiseArgs, c: usize, x0: usize) {
    let (block, lane) = (c / BLOCK, c % BLOCK);
    let [kh, kw] = a.kernel;
    // SAFETY: the caller's.
    unsafe {
        let mut w = a.w.add(block * (1 + kh * kw) * BLOCK + lane);
        let mut acc = [load(simd, w); PX];
        for ky in 0..kh {
            let mut x = (*a.rows.add(ky)).add(block * a.x_block + x0 * a.stride * BLOCK + lane);
            for _ in 0..kw {
                w = w.add(BLOCK);
                let weight = load(simd, w);
                for p in 0..PX {
                    acc[p] = A::mul_add(simd, load(simd, x.add(p * a.stride * BLOCK)), weight, acc[p]);
                }
                // one past the last tap is never read
                x = x.wrapping_add(a.dilation * BLOCK);
            }
        }
        epilogue(simd, a, acc, 0, c, x0);
    }
}
