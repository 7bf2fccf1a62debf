//! Depthwise kernels: 3×3 at stride 1, 2 and 3 with register tiles of their own, and one for every other window.
//!
//! ```text
//!   input rows, in channel blocks [C/16][x][16], padded        one tile: up to 12 output pixels × 1 vector of sums
//!
//!   r0   x x x x x x x x x x x x x x   kh = 0                  for each kernel row, its 3 weights in registers:
//!   r1   x x x x x x x x x x x x x x   kh = 1                      for each input of the row:
//!   r2   x x x x x x x x x x x x x x   kh = 2                          load it once
//!                                                                      and give it to every sum that it is a tap of
//!         s s s s s s s s s s s s                              so that a sum sees kh and kw ascending
//! ```
//!
//! Rows come as pointers: a row of padding points to zeros, a ring needs no copy, and the kernel knows of neither.
//! Columns of padding are in the rows. A pixel is 16 values from the next, so no stride makes sets of the cache
//! collide.
//!
//! Registers on AVX2 (16): 12 sums, 3 weights, 1 input. At stride 1 that is 42 loads of inputs and 9 of weights for 108
//! multiply-adds; at stride 2, 75 and 9. Twelve sums leave slack between the steps of one: with 8, which is the latency
//! of a multiply-add times the two pipes, whatever comes late is lost. Other windows: the same sums, one weight, and a
//! load for each multiply-add; the loads bound it. NEON (32) takes the same tiles; AVX-512 goes down strips of columns
//! instead (`depthwise/strip.rs`).
//!
//! All vectors of a channel block are done at one place before the next place: they share cache lines. One vector at a
//! time over whole rows took 1.6 times as long at stride 2 on planes that do not fit L1. Asking for the lines of coming
//! pixels lost a quarter: the rows are streams that the hardware sees. Two output rows of a block are done one after
//! the other, so that the second finds its rows in L1.
//!
//! What stands around the multiply-adds decides. Of the peak, in L1, stride 1 has 0.90 and stride 2 0.83 so. It was
//! 0.78 and 0.62 while each tile chose between whole vectors and tails, and had 2 rows × 4 sums: a tile is now one
//! block of code without a branch, its pointers are made once for a row, and its stores walk one pointer, since LLVM
//! keeps a table of twelve distances on the stack otherwise. What remains of a row is told apart three times, so that
//! each width is there once or twice: an arm for each rest with all of its tiles is no faster, and took the compiler
//! twice as long. What lost: one list of widths that is gone through one by one (0.65 at 7 pixels), a match in a loop
//! (3 % at 7 pixels), a loop over the one or two tiles of 7 (on NEON the first turn is then there twice); clamping and
//! storing each sum as soon as it is done; skewing the order so that the three taps of a row lie further apart.
//!
//! Rows of a caller's NHWC tensor are read where they lie, by tiles that go over all channels (`depthwise/pixels.rs`), and
//! with AVX-512 by strips.
//!
//! Every loop of a tile that a sum is indexed by is unrolled here and not by the compiler, which keeps the sums of a
//! loop that it leaves one in memory.

use core::mem::MaybeUninit;

use crate::pack::RowLayout;
use crate::simd::{MulAdd, Places, Vector, copy_pixels, load, store};
use crate::{BLOCK, Kernel, Level};

/// What the depthwise kernels compute on. Offsets and distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseArgs {
    /// Channels.
    pub channels: usize,
    /// Output pixels of a row.
    pub width: usize,
    /// Output rows, 1 for [`DwConv`].
    pub rows_out: usize,
    /// Pointers to input rows, at the first tap of the first output pixel, or behind it where `edges` lack that column.
    /// [`DwConv3x3`] takes the `(rows_out − 1) × stride + 3` that its taps meet, [`DwConv`] one for each kernel row.
    pub rows: *const *const f32,
    /// Where the values of a row lie.
    pub x: RowLayout,
    /// None where rows are channel blocks with all columns that windows meet. Else rows are NHWC, of whole blocks of 16
    /// channels, and this says whether the first and the last of these columns are lacking: they are zeros then.
    /// [`DwConv`] takes none.
    pub edges: Option<[bool; 2]>,
    /// 16 zeros. With `edges` as many as channels, and a row whose pointer is this is all zeros.
    pub zeros: *const f32,
    /// Weights: for each channel block 16 of bias, then 16 for each tap.
    pub w: *const f32,
    /// Pointers to the output rows.
    pub out: *const *mut f32,
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

/// `f32_dwconv3x3s1`, `f32_dwconv3x3s2` and `f32_dwconv3x3s3`: 3×3, dilation 1, the same stride on both axes.
pub enum DwConv3x3<const STRIDE: usize> {}

/// `f32_dwconv`: any kernel, stride and dilation.
pub enum DwConv {}

mod pixels;
mod planes;
mod strip;

pub use planes::{DwPlanes, DwPlanesArgs};

impl<const STRIDE: usize> Kernel for DwConv3x3<STRIDE> {
    type Args = DepthwiseArgs;

    /// # Safety
    /// Every row is readable in whole channel blocks for the `(width − 1) × STRIDE + 3` pixels that the windows meet,
    /// but for those that are zeros by `edges` and `zeros`, `w` in whole blocks; the output rows are writable in
    /// `channels` channels of `width` pixels (in whole blocks with `whole_blocks`), and overlap nothing that is read.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe {
            match a.edges {
                None => rows3x3::<L::Token, L::Step, Blocks, STRIDE>(simd, a),
                Some(_) if const { by_strips::<L::Token>() } => {
                    rows3x3::<L::Token, L::Step, Pixels, STRIDE>(simd, a);
                }
                Some(edges) => pixels::rows::<L::Token, L::Step, STRIDE>(simd, a, edges),
            }
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
/// As [`DwConv3x3::run`].
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
        // Read once: of three rows' flags, LLVM would keep each on the stack. Only stride 3 with AVX-512 has any here; on AVX2,
        // before a caller's pixels had tiles of their own, 7×7×960 took 1.5 times as long.
        let edges = a.edges.unwrap_or_default();
        for first in (0..a.rows_out).step_by(2) {
            for block in 0..blocks {
                for oy in first..a.rows_out.min(first + 2) {
                    row3x3::<S, A, R, STRIDE>(simd, a, edges, oy, block);
                }
            }
        }
    }
}

/// An input row of a block of channels, and what a tile reads of it.
trait Row: Copy {
    /// Row `row` of a call, in that block; `edges` are those of the call.
    ///
    /// # Safety
    /// As [`DwConv3x3::run`]: the call has that row.
    unsafe fn new(a: &DepthwiseArgs, edges: [bool; 2], row: usize, block: usize) -> Self;

    /// What `count` columns from `x` on are, for a tile that ends its row or does not.
    fn from(self, x: usize, lane: usize, count: usize, ends: bool) -> Self;

    /// Column `i` of these `count`, each once and in their order.
    fn next(&mut self, i: usize, count: usize) -> *const f32;
}

/// A row of channel blocks, padding included.
#[derive(Clone, Copy)]
struct Blocks(*const f32);

impl Row for Blocks {
    #[inline(always)]
    unsafe fn new(a: &DepthwiseArgs, _: [bool; 2], row: usize, block: usize) -> Blocks {
        // SAFETY: the caller's.
        Blocks(unsafe { (*a.rows.add(row)).add(block * a.x.block) })
    }

    #[inline(always)]
    fn from(self, x: usize, lane: usize, _: usize, _: bool) -> Blocks {
        Blocks(self.0.wrapping_add(x * BLOCK + lane))
    }

    #[inline(always)]
    fn next(&mut self, i: usize, _: usize) -> *const f32 {
        self.0.wrapping_add(i * BLOCK)
    }
}

/// A row of a caller's NHWC tensor. Only the first and the last column of a tile can be padding: they have pointers of their
/// own.
#[derive(Clone, Copy)]
struct Pixels {
    at: *const f32,
    pixel: usize,
    first: *const f32,
    last: *const f32,
    zeros: *const f32,
    edges: [bool; 2],
}

impl Row for Pixels {
    #[inline(always)]
    unsafe fn new(a: &DepthwiseArgs, edges: [bool; 2], row: usize, block: usize) -> Pixels {
        // SAFETY: the caller's.
        let row = unsafe { *a.rows.add(row) };
        // of zeros, every pixel of every block is the same
        let x = if row == a.zeros { RowLayout { block: 0, pixel: 0 } } else { a.x };
        let at = row.wrapping_add(block * x.block).wrapping_sub(usize::from(edges[0]) * x.pixel);
        Pixels { at, pixel: x.pixel, first: at, last: at, zeros: a.zeros, edges }
    }

    #[inline(always)]
    fn from(self, x: usize, lane: usize, count: usize, ends: bool) -> Pixels {
        let at = self.at.wrapping_add(x * self.pixel + lane);
        let first = if self.edges[0] && x == 0 { self.zeros } else { at };
        let last = if self.edges[1] && ends { self.zeros } else { at.wrapping_add((count - 1) * self.pixel) };
        Pixels { at, first, last, ..self }
    }

    #[inline(always)]
    fn next(&mut self, i: usize, count: usize) -> *const f32 {
        // one addition after the other: of products, LLVM would keep a table on the stack
        let at = self.at;
        self.at = at.wrapping_add(self.pixel);
        match i {
            0 => self.first,
            _ if i == count - 1 => self.last,
            _ => at,
        }
    }
}

/// An output row of a block of channels, and the clamp: all that a tile needs to know of its call.
struct Out<S: Vector> {
    ptr: *mut f32,
    pixel: usize,
    /// Channels that are computed.
    channels: usize,
    /// Channels that may be written.
    writable: usize,
    lo: S::f32s,
    hi: S::f32s,
}

impl<S: Vector> Out<S> {
    /// # Safety
    /// As [`DwConv3x3::run`], for that row and block.
    #[inline(always)]
    unsafe fn new(simd: S, a: &DepthwiseArgs, oy: usize, block: usize) -> Out<S> {
        let channels = BLOCK.min(a.channels - block * BLOCK);
        Out {
            // SAFETY: the caller's.
            ptr: unsafe { (*a.out.add(oy)).add(block * a.out_block) },
            pixel: a.out_pixel,
            channels,
            writable: if a.whole_blocks { BLOCK } else { channels },
            lo: simd.splat_f32s(a.clamp[0]),
            hi: simd.splat_f32s(a.clamp[1]),
        }
    }

    /// Calls `tile` for each vector that has channels, with its first lane, where its `PX` pixels from column `x` on go,
    /// and the distance between these. A vector of which only some lanes may be written goes over a block of its own.
    ///
    /// # Safety
    /// `x` and the columns behind it are below the width; `tile` writes whole vectors there and nothing else.
    #[inline(always)]
    unsafe fn vectors<const PX: usize>(&self, x: usize, tile: impl Fn(usize, *mut f32, usize)) {
        let mut lane = 0;
        while lane < self.channels {
            let mut lanes = [const { MaybeUninit::<f32>::uninit() }; MAX_PX * BLOCK];
            let there = self.writable - lane;
            // SAFETY: the caller's; of `lanes` no more than may be written is copied, and all that was written by `tile`.
            unsafe {
                let to = self.ptr.add(x * self.pixel + lane);
                let whole = there >= S::F32_LANES;
                // one call, or the tile would be there twice
                let (at, pixel) = if whole { (to, self.pixel) } else { (lanes.as_mut_ptr().cast(), BLOCK) };
                tile(lane, at, pixel);
                if !whole {
                    copy_pixels(PX, there, (at, Places::Every(BLOCK)), (to, Places::Every(self.pixel)));
                }
            }
            lane += S::F32_LANES;
        }
    }
}

/// Calls `$tile!(column, pixels)` for every tile of a row, in kernels for `$simd`.
macro_rules! tiles {
    ($simd:ty, $width:expr, $tile:ident) => {{
        let width = $width;
        let mut x = 0;
        if const { !<$simd>::FEW_TILES } {
            // what 12 leave of 14 is slower than twice 7
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

/// An output row of a block of channels: at each column the vectors of the block, which share cache lines.
///
/// # Safety
/// As [`DwConv3x3::run`], for that row and block.
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
        let (w, out) = (a.w.add(block * 10 * BLOCK), Out::new(simd, a, oy, block));
        macro_rules! tile {
            ($x:expr, $px:literal) => {
                block_tile::<S, A, R, STRIDE, $px>(simd, rows, $x, w, &out, $x + $px == a.width);
            };
        }
        tiles!(S, a.width, tile);
    }
}

/// `PX` output pixels of a block from column `x` on. In the macro that names the tiles, this would touch the stack a fifth more
/// often on AVX2.
///
/// # Safety
/// As [`DwConv3x3::run`], for these pixels and the block of `rows`, `w` and `out`.
#[inline(always)]
unsafe fn block_tile<S: Vector, A: MulAdd, R: Row, const STRIDE: usize, const PX: usize>(
    simd: S,
    rows: [R; 3],
    x: usize,
    w: *const f32,
    out: &Out<S>,
    ends: bool,
) {
    // SAFETY: the caller's; a vector of the block is readable and writable whole where `vectors` says.
    unsafe {
        out.vectors::<PX>(
            x,
            #[inline(always)]
            |lane, to, pixel| {
                let rows = rows.map(|row| row.from(x * STRIDE, lane, (PX - 1) * STRIDE + 3, ends));
                tile3x3::<S, A, R, STRIDE, PX>(simd, rows, w.add(lane), to, pixel, [out.lo, out.hi]);
            },
        );
    }
}

/// The most pixels of a tile.
const MAX_PX: usize = 12;

/// Which of the three taps of a window that begins at `start` the input at `at` is.
#[inline(always)]
const fn tap(at: usize, start: usize) -> Option<usize> {
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
unsafe fn tile3x3<S: Vector, A: MulAdd, R: Row, const STRIDE: usize, const PX: usize>(
    simd: S,
    mut rows: [R; 3],
    w: *const f32,
    mut out: *mut f32,
    out_pixel: usize,
    clamp: [S::f32s; 2],
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
            store(simd, out, simd.clamp(acc[P], clamp[0], clamp[1]));
            out = out.wrapping_add(out_pixel);
        });
    }
}

impl Kernel for DwConv {
    type Args = DepthwiseArgs;

    /// # Safety
    /// As [`DwConv3x3::run`], for windows of `kernel`, `stride` and `dilation`.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        let [kh, kw] = a.kernel;
        // SAFETY: the caller's promise, for every block of channels and pixel.
        unsafe {
            for block in 0..a.channels.div_ceil(BLOCK) {
                let w = a.w.add(block * (1 + kh * kw) * BLOCK);
                let out = Out::new(simd, a, 0, block);
                macro_rules! tile {
                    ($x:expr, $px:literal) => {
                        out.vectors::<$px>(
                            $x,
                            #[inline(always)]
                            |lane, to, pixel| {
                                let first = block * a.x.block + $x * a.stride * BLOCK + lane;
                                tile::<L::Token, L::Step, $px>(
                                    simd,
                                    a,
                                    first,
                                    w.add(lane),
                                    to,
                                    pixel,
                                    [out.lo, out.hi],
                                );
                            },
                        );
                    };
                }
                tiles!(L::Token, a.width, tile);
            }
        }
    }
}

/// `PX` output pixels of one vector of channels, for any window; `first` is the first tap's place in its row.
///
/// # Safety
/// As [`DwConv::run`], for those pixels and channels.
#[inline(always)]
unsafe fn tile<S: Vector, A: MulAdd, const PX: usize>(
    simd: S,
    a: &DepthwiseArgs,
    first: usize,
    mut w: *const f32,
    mut out: *mut f32,
    out_pixel: usize,
    clamp: [S::f32s; 2],
) {
    let [kh, kw] = a.kernel;
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [load(simd, w); PX];
        for ky in 0..kh {
            let mut x = (*a.rows.add(ky)).add(first);
            for _ in 0..kw {
                w = w.add(BLOCK);
                let weight = load(simd, w);
                unrolled!(P in PX, of 0 1 2 3 4 5 6 7 8 9 10 11, {
                    acc[P] = A::mul_add(simd, load(simd, x.add(P * a.stride * BLOCK)), weight, acc[P]);
                });
                // one past the last tap is never read
                x = x.wrapping_add(a.dilation * BLOCK);
            }
        }
        unrolled!(P in PX, of 0 1 2 3 4 5 6 7 8 9 10 11, {
            store(simd, out, simd.clamp(acc[P], clamp[0], clamp[1]));
            out = out.wrapping_add(out_pixel);
        });
    }
}
