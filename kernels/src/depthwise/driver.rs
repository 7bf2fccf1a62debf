//! The driver: splits the rows, blocks and columns of a call into tiles.

use super::DepthwiseArgs;
use super::rows::{NhwcRow, OutRow, PaddedRow, Row};
use super::tile::{tile_any, tile3x3};
use super::{pixels, strip, window};
use crate::simd::{MulAdd, Vector};
use crate::{BLOCK, Level};

/// Calls `$tile!(column, pixels)` for every tile of a row, in kernels for `$simd`.
macro_rules! for_each_tile {
    ($simd:ty, $width:expr, $tile:ident) => {{
        let width = $width;
        let mut x = 0;
        if const { !<$simd>::FEW_TILES } {
            // 7 + 7 is faster than 12 + 2
            while width - x >= 12 && width - x != 14 {
                $tile!(x, 12);
                x += 12;
            }
            match width - x {
                7 | 11 | 14 => {
                    $tile!(x, 7);
                    x += 7;
                }
                8..=10 => {
                    $tile!(x, 8);
                    x += 8;
                }
                _ => {}
            }
            match width - x {
                7 => {
                    $tile!(x, 7);
                    x += 7;
                }
                4..=6 => {
                    $tile!(x, 4);
                    x += 4;
                }
                _ => {}
            }
            if width - x >= 2 {
                $tile!(x, 2);
                x += 2;
            }
            if width - x == 1 {
                $tile!(x, 1);
            }
        } else {
            while width - x >= 4 {
                $tile!(x, 4);
                x += 4;
            }
            while x < width {
                $tile!(x, 1);
                x += 1;
            }
        }
    }};
}

/// A 3×3 kernel: by the layout of the rows, and by strips where there are registers for them.
///
/// # Safety
/// As [`super::DwConv3x3::run`].
#[inline(always)]
pub(super) unsafe fn run3x3<L: Level, const STRIDE: usize>(simd: L::Token, a: &DepthwiseArgs) {
    // SAFETY: the caller's promise.
    unsafe {
        match a.edges {
            None => rows3x3::<L::Token, L::MulAdd, PaddedRow, STRIDE>(simd, a),
            Some(_) if const { by_strips::<L::Token>() } => {
                rows3x3::<L::Token, L::MulAdd, NhwcRow, STRIDE>(simd, a);
            }
            Some(edges) => pixels::rows::<L::Token, L::MulAdd, STRIDE>(simd, a, edges.map(|columns| columns > 0)),
        }
    }
}

/// Whether an instruction set has the registers for [`strip`].
pub(crate) const fn by_strips<S: Vector>() -> bool {
    S::F32_LANES == BLOCK && S::REGISTER_COUNT >= 32
}

/// All rows. Where a vector is a block, by strips; else two at a time, so that the second finds its input in L1.
///
/// # Safety
/// As [`super::DwConv3x3::run`].
#[inline(always)]
unsafe fn rows3x3<S: Vector, A: MulAdd, R: Row, const STRIDE: usize>(simd: S, a: &DepthwiseArgs) {
    let blocks = a.channels.div_ceil(BLOCK);
    // SAFETY: the caller's, for each block of each row.
    unsafe {
        // at stride 3 rows share nothing
        if const { STRIDE < 3 && by_strips::<S>() } {
            for block in 0..blocks {
                strip::strips::<S, A, R, STRIDE>(simd, a, block);
            }
            return;
        }
        // The flags are read once, since LLVM would keep those of three rows on the stack. Only stride 3 on AVX-512 has flags here.
        let edges = a.edges.unwrap_or_default().map(|columns| columns > 0);
        for first in (0..a.rows_out).step_by(2) {
            for block in 0..blocks {
                for oy in first..a.rows_out.min(first + 2) {
                    row3x3::<S, A, R, STRIDE>(simd, a, edges, oy, block);
                }
            }
        }
    }
}

/// An output row of a block of channels: at each column the vectors of the block, which share cache lines.
///
/// # Safety
/// As [`super::DwConv3x3::run`], for that row and block.
#[inline(always)]
unsafe fn row3x3<S: Vector, A: MulAdd, R: Row, const STRIDE: usize>(
    simd: S,
    a: &DepthwiseArgs,
    edges: [bool; 2],
    oy: usize,
    block: usize,
) {
    // SAFETY: the caller's, for pixels below `width` and the vectors of the block.
    unsafe {
        let rows = [0, 1, 2].map(|kh| R::new(a, edges, oy * STRIDE + kh, block));
        let (w, out) = (a.w.add(block * 10 * BLOCK), OutRow::new(simd, a, oy, block));
        macro_rules! tile {
            ($x:expr, $px:literal) => {
                block_tile::<S, A, R, STRIDE, $px>(simd, rows, $x, w, &out, $x + $px == a.width);
            };
        }
        for_each_tile!(S, a.width, tile);
    }
}

/// `PX` output pixels of a block from column `x` on. It is a function, since in the macro that names the tiles it would touch the stack
/// more often on AVX2.
///
/// # Safety
/// As [`super::DwConv3x3::run`], for these pixels and the block of `rows`, `w` and `out`.
#[inline(always)]
unsafe fn block_tile<S: Vector, A: MulAdd, R: Row, const STRIDE: usize, const PX: usize>(
    simd: S,
    rows: [R; 3],
    x: usize,
    w: *const f32,
    out: &OutRow<S>,
    ends: bool,
) {
    // SAFETY: the caller's; a vector of the block is readable and writable whole where `vectors` says.
    unsafe {
        out.vectors::<PX>(
            x,
            #[inline(always)]
            |lane, to, pixel| {
                let rows = rows.map(|row| row.from(x * STRIDE, lane, (PX - 1) * STRIDE + 3, ends));
                tile3x3::<S, A, R, STRIDE, PX>(simd, rows, w.add(lane), to, pixel, out.epilogue);
            },
        );
    }
}

/// Any other window: all blocks of the one output row, in tiles of columns.
///
/// # Safety
/// As [`super::DwConv::run`].
#[inline(always)]
pub(super) unsafe fn run_any<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
    let [kh, kw] = a.kernel;
    let step = a.stride.wrapping_mul(a.x.pixel);
    // SAFETY: the caller's promise, for every block of channels and pixel.
    unsafe {
        if let Some(edges) = a.edges {
            return window::row::<L::Token, L::MulAdd>(simd, a, edges);
        }
        for block in 0..a.channels.div_ceil(BLOCK) {
            let w = a.w.add(block * (1 + kh * kw) * BLOCK);
            let out = OutRow::new(simd, a, 0, block);
            macro_rules! tile {
                ($x:expr, $px:literal) => {
                    out.vectors::<$px>(
                        $x,
                        #[inline(always)]
                        |lane, to, pixel| {
                            let first = block * a.x.block + $x * step + lane;
                            tile_any::<L::Token, L::MulAdd, $px>(
                                simd,
                                a,
                                [first, step],
                                w.add(lane),
                                to,
                                pixel,
                                out.epilogue,
                            );
                        },
                    );
                };
            }
            for_each_tile!(L::Token, a.width, tile);
        }
    }
}
