//! Depthwise convolutions of quantized values: 3×3 at stride 1 and 2, and any other window.
//!
//! ```text
//!   input rows, in channel blocks [C/16][x][16]         four rows of a column, channel by channel
//!
//!   r0   x x x x x x                                    r0 r1 r2 r3 | r0 r1 r2 r3 | …     as values of k
//!   r1   x x x x x x        for each column, the tile   w0 w1 w2  0 | …                   the upper output row
//!   r2   x x x x x x        reads them once:             0 w0 w1 w2 | …                   the lower one, at stride 1
//!   r3   x x x x x x
//! ```
//!
//! So the taps of a column are a step of sums or two, as four values of `k` are in a pointwise convolution, and serve two output rows and
//! three output columns. The other windows take any four taps at a time.
//!
//! | registers | tile: columns × rows × vectors | sums | taps | product | in all |
//! |---|---|--:|--:|--:|--:|
//! | AVX-512, 32 | 8 × 2 × 1 | 16 | 2 | 1 | 19 |
//! | AVX2, 16 | 3 × 2 × 2 | 12 | 2 | 1 | 15 |
//! | SSE4.2, 16 | 3 × 2 × 2, half a block at a time | 12 | 2 | 1 | 15 |
//! | NEON, 32 | 3 × 2 × 4 | 24 | 2 | – | 26 |
//!
//! Weights are read from L1 where they are multiplied. `docs/kernels/int8.md` has what was tried.

use pulp::Simd;

use super::pack::{DepthwisePacking, HEADER};
use super::{End, Int8};
use crate::simd::{Vector, opaque_ptr};
use crate::{BLOCK, DepthwiseArgs, Kernel, Level};

/// `int8_dwconv3x3s1` and `int8_dwconv3x3s2`: 3×3, dilation 1.
pub enum Int8DwConv3x3<const STRIDE: usize> {}

/// `int8_dwconv`: any kernel, stride and dilation.
pub enum Int8DwConv {}

impl<const STRIDE: usize> Kernel for Int8DwConv3x3<STRIDE> {
    type Args = DepthwiseArgs<u8>;

    /// # Safety
    /// As [`crate::DwConv3x3`]'s, of stored values in whole blocks, without edges, and of weights packed by [`DepthwisePacking`].
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs<u8>) {
        const { assert!(STRIDE == 1 || STRIDE == 2) };
        // SAFETY: the caller's.
        unsafe {
            if const { L::Token::F32_LANES == 16 } {
                rows3x3::<L::Token, L::Int8, STRIDE, 1>(simd, a);
            } else if const { L::Token::F32_LANES == 8 } {
                rows3x3::<L::Token, L::Int8, STRIDE, 2>(simd, a);
            } else if const { L::Token::REGISTER_COUNT == 32 && L::Token::F32_LANES == 4 } {
                rows3x3::<L::Token, L::Int8, STRIDE, 4>(simd, a);
            } else {
                rows3x3::<L::Token, L::Int8, STRIDE, 2>(simd, a);
            }
        }
    }
}

/// What a tile of a block reads and writes.
struct BlockTile<'a, S: Vector, I: Int8<S>> {
    /// The weights of the block, behind its biases and multipliers.
    header: *const u8,
    end: &'a End<S, I>,
    /// The first vector of the block.
    first: usize,
}

impl<S: Vector, I: Int8<S>> BlockTile<'_, S, I> {
    /// Biases of vector `v`.
    ///
    /// # Safety
    /// The header is readable.
    #[inline(always)]
    unsafe fn bias(&self, simd: S, v: usize) -> I::Sums {
        // SAFETY: the caller's.
        unsafe { I::load_sums(simd, self.header.cast::<i32>().add((self.first + v) * S::F32_LANES)) }
    }

    /// The weights of four taps, of vector `v`: of the first `STEP`, and of the others.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    unsafe fn weights(&self, simd: S, four: usize, v: usize) -> [I::Values; 2] {
        let row = BLOCK * I::STEP;
        // SAFETY: the caller's.
        unsafe {
            let w = self.header.add(HEADER).cast::<I::Weight>();
            let w = w.add(four * 4 * BLOCK + (self.first + v) * S::F32_LANES * I::STEP);
            let others = if I::STEP == 4 { w } else { w.add(row) };
            [I::weights(simd, w), I::weights(simd, others)]
        }
    }

    /// Adds four taps times their weights.
    ///
    /// # Safety
    /// As [`BlockTile::weights`].
    #[inline(always)]
    unsafe fn step(&self, simd: S, taps: [I::Values; 2], four: usize, v: usize, sums: I::Sums) -> I::Sums {
        // SAFETY: the caller's.
        let [first, others] = unsafe { self.weights(simd, four, v) };
        let sums = I::dot(simd, taps[0], first, sums);
        if I::STEP == 4 { sums } else { I::dot(simd, taps[1], others, sums) }
    }

    /// Ends the sums of a pixel.
    ///
    /// # Safety
    /// The pixel is writable.
    #[inline(always)]
    unsafe fn store<const NV: usize>(&self, simd: S, sums: [I::Sums; NV], out: *mut I::Stored) {
        // SAFETY: the caller's.
        unsafe {
            let m = self.header.cast::<f32>().add(BLOCK);
            self.end.store(simd, sums, self.first, m, core::ptr::null(), out);
        }
    }
}

/// All rows: at stride 1 two at a time.
///
/// # Safety
/// As [`Int8DwConv3x3::run`].
#[inline(always)]
unsafe fn rows3x3<S: Vector, I: Int8<S>, const STRIDE: usize, const NV: usize>(simd: S, a: &DepthwiseArgs<u8>) {
    let end = End::<S, I>::new(simd, &a.epilogue, false);
    let at_once = if STRIDE == 1 { 2 } else { 1 };
    let packing = if STRIDE == 1 { DepthwisePacking::TwoRows3x3 } else { DepthwisePacking::Columns3x3 };
    let block_len = HEADER + packing.values() * BLOCK * size_of::<I::Weight>();
    for first in (0..a.rows_out).step_by(at_once) {
        let last = (a.rows_out - 1) * STRIDE + 2;
        for block in 0..a.channels.div_ceil(BLOCK) {
            // SAFETY: the caller's. A row that is not there has weights of zero, and another stands for it.
            unsafe {
                let rows = [0, 1, 2, 3].map(|i| {
                    let row = (*a.rows.add((first * STRIDE + i).min(last))).cast::<I::Stored>();
                    row.add(block * a.x.block)
                });
                let out = [first, (first + 1).min(a.rows_out - 1)]
                    .map(|y| (*a.out.add(y)).cast::<I::Stored>().add(block * a.out_block));
                for part in 0..BLOCK / (S::F32_LANES * NV) {
                    let tile = BlockTile { header: a.w.add(block * block_len), end: &end, first: part * NV };
                    if STRIDE == 1 && first + 1 < a.rows_out {
                        columns3x3::<S, I, STRIDE, 2, NV>(simd, a, &tile, rows, out);
                    } else {
                        columns3x3::<S, I, STRIDE, 1, NV>(simd, a, &tile, rows, out);
                    }
                }
            }
        }
    }
}

/// All columns of `ROWS` output rows, in tiles.
///
/// # Safety
/// As [`Int8DwConv3x3::run`], for these rows.
#[inline(always)]
unsafe fn columns3x3<S: Vector, I: Int8<S>, const STRIDE: usize, const ROWS: usize, const NV: usize>(
    simd: S,
    a: &DepthwiseArgs<u8>,
    tile: &BlockTile<'_, S, I>,
    rows: [*const I::Stored; 4],
    out: [*mut I::Stored; 2],
) {
    let mut x = 0;
    macro_rules! tiles {
        ($columns:literal, $left:pat) => {
            while matches!(a.width - x, $left) {
                // SAFETY: the caller's.
                unsafe {
                    let rows = rows.map(|row| row.add(x * STRIDE * BLOCK));
                    let out = out.map(|out| out.add(x * a.out_pixel));
                    tile3x3::<S, I, STRIDE, ROWS, NV, $columns>(simd, tile, rows, out, a.out_pixel);
                }
                x += $columns;
            }
        };
    }
    if const { S::F32_LANES == 16 } {
        tiles!(8, 8..);
        tiles!(4, 4..);
    } else {
        tiles!(3, 5.. | 3);
    }
    tiles!(2, 2..);
    tiles!(1, 1);
}

/// The output column, of `columns`, of which input column `x` is tap `kx`.
const fn column_of(x: usize, kx: usize, stride: usize, columns: usize) -> Option<usize> {
    match x.checked_sub(kx) {
        Some(from) if from.is_multiple_of(stride) && from / stride < columns => Some(from / stride),
        _ => None,
    }
}

/// `T` output columns of `ROWS` rows.
///
/// # Safety
/// As [`Int8DwConv3x3::run`], for these columns.
#[inline(always)]
unsafe fn tile3x3<S: Vector, I: Int8<S>, const STRIDE: usize, const ROWS: usize, const NV: usize, const T: usize>(
    simd: S,
    tile: &BlockTile<'_, S, I>,
    rows: [*const I::Stored; 4],
    out: [*mut I::Stored; 2],
    out_pixel: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[[tile.bias(simd, 0); NV]; T]; ROWS];
        unrolled!(V in NV, of 0 1 2 3, {
            let bias = tile.bias(simd, V);
            for row in 0..ROWS {
                for column in 0..T {
                    sums[row][column][V] = bias;
                }
            }
        });
        let mut header = tile.header;
        unrolled!(X in (T - 1) * STRIDE + 3, of 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16, {
            unrolled!(V in NV, of 0 1 2 3, {
                let taps = I::taps(simd, rows.map(|row| row.add(X * BLOCK)), tile.first + V);
                // else LLVM would read all weights first, and keep them on the stack
                header = opaque_ptr(header);
                let tile = BlockTile { header, ..*tile };
                unrolled!(KX in 3, of 0 1 2, {
                    if let Some(column) = const { column_of(X, KX, STRIDE, T) } {
                        let fours = if STRIDE == 1 { 2 } else { 1 };
                        for row in 0..ROWS {
                            sums[row][column][V] = tile.step(simd, taps, KX * fours + row, V, sums[row][column][V]);
                        }
                    }
                });
            });
        });
        unrolled!(ROW in ROWS, of 0 1, {
            unrolled!(X in T, of 0 1 2 3 4 5 6 7, {
                tile.store(simd, sums[ROW][X], out[ROW].add(X * out_pixel));
            });
        });
    }
}

impl Kernel for Int8DwConv {
    type Args = DepthwiseArgs<u8>;

    /// # Safety
    /// As [`crate::DwConv`]'s, of stored values in whole blocks, without edges, and of weights packed by [`DepthwisePacking`].
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs<u8>) {
        // SAFETY: the caller's.
        unsafe {
            if const { L::Token::F32_LANES == 16 } {
                row::<L::Token, L::Int8, 1>(simd, a);
            } else if const { L::Token::REGISTER_COUNT == 32 && L::Token::F32_LANES == 4 } {
                row::<L::Token, L::Int8, 4>(simd, a);
            } else {
                row::<L::Token, L::Int8, 2>(simd, a);
            }
        }
    }
}

/// The output row, four pixels at a time.
///
/// # Safety
/// As [`Int8DwConv::run`].
#[inline(always)]
unsafe fn row<S: Vector, I: Int8<S>, const NV: usize>(simd: S, a: &DepthwiseArgs<u8>) {
    let end = End::<S, I>::new(simd, &a.epilogue, false);
    let [kh, kw] = a.kernel;
    let step = a.stride * a.x.pixel;
    let block_len = HEADER + DepthwisePacking::AnyWindow([kh, kw]).values() * BLOCK * size_of::<I::Weight>();
    for block in 0..a.channels.div_ceil(BLOCK) {
        for part in 0..BLOCK / (S::F32_LANES * NV) {
            // SAFETY: the caller's.
            unsafe {
                let tile = BlockTile { header: a.w.add(block * block_len), end: &end, first: part * NV };
                let out = (*a.out).cast::<I::Stored>().add(block * a.out_block);
                let mut x = 0;
                while x < a.width {
                    let from = block * a.x.block + x * step;
                    if a.width - x >= 4 {
                        tile_any::<S, I, NV, 4>(simd, a, &tile, [from, step], out.add(x * a.out_pixel));
                        x += 4;
                    } else {
                        tile_any::<S, I, NV, 1>(simd, a, &tile, [from, step], out.add(x * a.out_pixel));
                        x += 1;
                    }
                }
            }
        }
    }
}

/// `T` output pixels, the first of which reads from `from` on, each `step` values behind the one before.
///
/// # Safety
/// As [`Int8DwConv::run`], for these pixels.
#[inline(always)]
unsafe fn tile_any<S: Vector, I: Int8<S>, const NV: usize, const T: usize>(
    simd: S,
    a: &DepthwiseArgs<u8>,
    tile: &BlockTile<'_, S, I>,
    [from, step]: [usize; 2],
    out: *mut I::Stored,
) {
    let [kh, kw] = a.kernel;
    // SAFETY: the caller's. The last tap stands for those that are not there, whose weights are zero.
    unsafe {
        let mut sums = [[tile.bias(simd, 0); NV]; T];
        unrolled!(V in NV, of 0 1 2 3, {
            let bias = tile.bias(simd, V);
            for x in 0..T {
                sums[x][V] = bias;
            }
        });
        let mut tap = 0;
        let (mut ky, mut kx) = (0, 0);
        while tap < kh * kw {
            let mut places = [core::ptr::null::<I::Stored>(); 4];
            for place in &mut places {
                *place = (*a.rows.add(ky)).cast::<I::Stored>().add(from + *a.taps.add(kx));
                if kx + 1 < kw {
                    kx += 1;
                } else if ky + 1 < kh {
                    (ky, kx) = (ky + 1, 0);
                }
            }
            unrolled!(X in T, of 0 1 2 3, {
                let places = places.map(|place| place.add(X * step));
                unrolled!(V in NV, of 0 1 2 3, {
                    let taps = I::taps(simd, places, tile.first + V);
                    sums[X][V] = tile.step(simd, taps, tap / 4, V, sums[X][V]);
                });
            });
            tap += 4;
        }
        unrolled!(X in T, of 0 1 2 3, {
            tile.store(simd, sums[X], out.add(X * a.out_pixel));
        });
    }
}
