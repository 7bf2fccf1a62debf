//! The depthwise kernels: 3×3 at stride 1, 2 and 3, and one kernel for every other window.
//!
//! ```text
//!   input rows, in channel blocks [C/16][x][16], padded        one tile: up to 12 output pixels × 1 vector of sums
//!
//!   r0   x x x x x x x x x x x x x x   kh = 0                  for each kernel row, its 3 weights in registers:
//!   r1   x x x x x x x x x x x x x x   kh = 1                      for each input of the row:
//!   r2   x x x x x x x x x x x x x x   kh = 2                          load it once
//!                                                                      and add it to every sum that it is a tap of
//!         s s s s s s s s s s s s                              clamp and store the sums
//! ```
//!
//! A sum sees `kh` and `kw` ascending.
//!
//! Rows come as pointers. A row of padding points to zeros, and a ring of rows needs no copy; the kernel knows of neither. Columns of
//! padding are in the rows. A pixel is 16 values from the next, so that no stride makes the lines of a tile collide in the cache.
//!
//! Register budget of a tile:
//!
//! | registers | sums | weights | inputs | in all |
//! |---|--:|--:|--:|--:|
//! | AVX2, 16, and NEON, 32 | 12 | 3 | 1 | 16 |
//! | SSE4.2, 16 | 12 | 3 | 1, and a product | 17 |
//! | other windows | 12 | 1 | 1 | 14 |
//!
//! 12 sums leave slack between the steps of one sum: 8 would be just the latency of a multiply-add times the two pipes.
//!
//! Every loop of a tile whose index is that of a sum is unrolled by `unrolled!`. LLVM keeps the sums of a loop that it does not unroll
//! in memory.
//!
//! Two layouts have tiles of their own: AVX-512 goes down strips of columns ([`strip`]), and all others read a caller's NHWC tensor
//! by tiles that go over all channels ([`pixels`]; [`window`] for windows that are not 3×3).
//!
//! `docs/kernels/depthwise.md` has all register budgets, and what was tried.

mod args;
mod driver;
mod pixels;
mod planes;
mod rows;
mod strip;
mod tile;
mod window;

pub use args::DepthwiseArgs;
pub(crate) use driver::by_strips;
pub(crate) use planes::copies;
pub use planes::{DwPlanes, DwPlanesArgs};
pub use window::EDGE_TAPS;

use crate::activation::by_parts;
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
    /// `channels` channels of `width` pixels (in whole blocks with `whole_blocks`), and overlap nothing that is read. With `edges` rows need be
    /// readable in `channels` channels, a multiple of [`edge_channels`](crate::Kernels::edge_channels), and a window lacks fewer columns than it
    /// has.
    /// Of an activation by channel, `params` is readable for whole 16 channels.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe {
            if !by_parts::<L, Self>(a) {
                driver::run3x3::<L, STRIDE>(simd, a);
            }
        }
    }
}

impl Kernel for DwConv {
    type Args = DepthwiseArgs;

    /// # Safety
    /// As [`DwConv3x3::run`], for windows of `kernel` at `stride`, of which each column is at its place of `taps`; with `edges` of at most
    /// [`EDGE_TAPS`] taps.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &DepthwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe {
            if !by_parts::<L, Self>(a) {
                driver::run_any::<L>(simd, a);
            }
        }
    }
}
