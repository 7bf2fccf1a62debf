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

mod args;
mod driver;
mod pixels;
mod rows;
mod strip;
mod tile;

pub use args::DepthwiseArgs;
pub(crate) use driver::by_strips;

use crate::{Kernel, Level};

/// `f32_dwconv3x3s1`, `f32_dwconv3x3s2` and `f32_dwconv3x3s3`: 3×3, dilation 1, the same stride on both axes.
pub enum DwConv3x3<const STRIDE: usize> {}

/// `f32_dwconv`: any kernel, stride and dilation.
pub enum DwConv {}

impl<const STRIDE: usize> Kernel for DwConv3x3<STRIDE> {
    type Args = DepthwiseArgs;

    /// # Safety
    /// Every row is readable in whole channel blocks for the `(width − 1) × STRIDE + 3` pixels that the windows meet,
    /// but for those that are zeros by `edges` and `zeros`, `w` in whole blocks; the output rows are writable in
    /// `channels` channels of `width` pixels (in whole blocks with `whole_blocks`), and overlap nothing that is read.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe { driver::run3x3::<L, STRIDE>(simd, a) }
    }
}

impl Kernel for DwConv {
    type Args = DepthwiseArgs;

    /// # Safety
    /// As [`DwConv3x3::run`], for windows of `kernel`, `stride` and `dilation`.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe { driver::run_any::<L>(simd, a) }
    }
}
