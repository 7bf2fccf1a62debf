//! The pointwise kernel: multiplies `m` pixels × `k` input channels by `k` × `n` output channels, on packed weights.
//!
//! ```text
//!            panel: 16 output channels                 one tile: MR pixels × NP panels × NV vectors of sums, in registers
//!          ┌───────────────────────────┐
//!   bias   │ b0  b1  …             b15 │                acc[MR][NP][NV] = bias, or partial sums
//!   k = 0  │ w   w   …             w   │                for k ascending:
//!   k = 1  │                           │                    weights[NP][NV] = row k of the panels
//!    …     │                           │                    for each pixel p: acc[p] += broadcast(x[p][k]) × weights
//!          └───────────────────────────┘                store epilogue(acc [+ residual])
//! ```
//!
//! A sum stays in a register until the end of `k`. Partial sums are what an earlier slab of `k` left in memory.
//!
//! The caller writes a table of the offsets of the pixels once for a group of rows, so that a tile may run over the end of a row.
//! Segments of `k` lie `x_segment` apart. The kernel knows nothing else of layouts, and serves four of them: NHWC (one segment),
//! channel blocks (segments of 16), standard convolution (a segment for each kernel row, or for each tap of a kernel of one row), and slabs of
//! any.
//!
//! Register budget, by the source:
//!
//! | registers | tile | sums | weights | inputs | in all |
//! |---|---|--:|--:|--:|--:|
//! | AVX-512, 32 | 10 pixels × 2 panels of one vector | 20 | 2 | 1 | 23 |
//! | | 8 × 3 panels, the last of an odd number | 24 | 3 | 1 | 28 |
//! | | 10 × 2 panels and a half | 25 | 3 | 3 | 31 |
//! | AVX2, 16 | 6 × 2 vectors of a panel | 12 | 2 | 1 | 15 |
//! | | 12 × 1, half a panel | 12 | 1 | 1 | 14 |
//! | NEON, 32 | 6 × 4 | 24 | 4 | 1 to 4 | 29 to 32 |
//! | SSE4.2, 16 | 5 × 2, half a panel at a time | 10 | 2 | 1, and a product | 14 |
//!
//! On AVX-512 the pointers of more pixels do not fit the 16 integer registers. Two pixels share a vector there where the last panel
//! has at most 8 channels:
//!
//! ```text
//!   value of pixel p     x x x x x x x x x x x x x x x x   ─▶ panel            blend: the lower half of the one,
//!   value of pixel p+1   y y y y y y y y y y y y y y y y   ─▶ panel            the upper half of the other
//!                        x x x x x x x x y y y y y y y y   ─▶ half a panel, its 8 weights in both halves
//! ```
//!
//! A panel with at most 4 outputs leaves most lanes idle. Where there are enough pixels, another tile computes it, whose lanes are pixels:
//! `few_outputs.rs`.
//!
//! Each kind of tile is a kernel of its own that `L::enter` enters, since LLVM's time grows faster than a function.
//!
//! `docs/kernels/pointwise.md` has the other tiles, and what was tried.

mod args;
mod driver;
mod few_outputs;
mod finish;
mod pixel;
mod product;
mod tile;

pub use args::PointwiseArgs;

use crate::activation::by_parts;
use crate::{BLOCK, Kernel, Level};

/// `f32_pointwise`.
pub enum Pointwise {}

impl Kernel for Pointwise {
    type Args = PointwiseArgs;

    /// # Safety
    /// For each of `m` pixels and `k` channels, `x` is readable where offsets and segments say, and `store` writable in
    /// `n` channels (all 16 of a panel where it is `whole`), as `residual` is readable. `w` and `bias` hold whole
    /// panels for `n` and `k`; `partial`, if any, `m` × 16 values a panel. `store` overlaps none of the others, but it
    /// may be `partial` or `residual` at the same offsets.
    /// Of an activation by channel, `params` is readable for whole 16 channels.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe {
            if !by_parts::<L, Self>(a) {
                driver::run::<L>(simd, a);
            }
        }
    }
}

/// `int8_pointwise`: the same of quantized values. The input and the output are stored values, in whole blocks of 16 channels.
pub enum Int8Pointwise {}

impl Kernel for Int8Pointwise {
    type Args = PointwiseArgs<u8>;

    /// # Safety
    /// As [`Pointwise::run`], of stored values, with all 16 channels of each block of `store` and of `residual`. `x` is readable for all of `k`,
    /// which is a multiple of 4, as a segment is. `bias` has 16 i32, and 16 multipliers behind them, in the order of
    /// [`Int8Layout::lanes`](crate::Int8Layout). Partial sums are i32 in that order, and distances between them count i32. `params` is not read.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs<u8>) {
        // SAFETY: the caller's promise.
        unsafe { driver::all_panels::<L, product::Quantized>(simd, a, a.n.div_ceil(BLOCK), false) }
    }
}
