//! The pointwise microkernel: pixels × channels in times channels in × channels out, on packed weights.
//!
//! ```text
//!            panel: 16 output channels                 one tile: mr pixels × nv vectors of sums in registers
//!          ┌───────────────────────────┐
//!   bias   │ b0  b1  …             b15 │                acc[pixel][vector] = bias
//!   k = 0  │ w   w   …             w   │                for k ascending:
//!   k = 1  │                           │                    acc = acc + x[pixel][k] × w[k][vector]
//!    …     │                           │                out = clamp(acc [+ residual])
//!          └───────────────────────────┘
//! ```
//!
//! The sums of a tile start from the bias, or from partial sums that an earlier slab of `k` left in memory, and stay in
//! registers until the end of `k`. A value of `x` is broadcast and meets all vectors of the panel.
//!
//! Pixels are found by a table of offsets that the caller computes once for a group of rows, so that a tile may run
//! over the ends of rows, and `k` goes in segments that lie `x_segment` apart. That is all that the kernel knows of
//! layouts, and it serves four of them: NHWC (one segment), channel blocks (segments of 16), standard convolution (one
//! segment for each kernel row, or tap where there is dilation), and slabs of any.
//!
//! Registers on AVX2 (16): 6 × 2 sums, 2 weights, 1 broadcast. A last panel of at most 8 channels takes 12 × 1. NEON (32):
//! 6 × 4 sums, 4 weights, 1 broadcast. SSE4.2 (16, and a product needs one): 5 × 2 sums, half a panel at a time. One pixel
//! alone (a dense layer) has too few sums to hide the latency, so it takes four panels at once.
//!
//! AVX-512 (32, and a panel is one vector): 10 pixels of two panels, 20 sums; with more pixels their pointers do not fit
//! the 16 integer registers. An odd number of panels ends in 8 pixels of three, one panel alone takes 12 pixels, and is
//! bound by the 13 loads of its 12 multiply-adds (0.80 to 0.85 of the peak). Of a last panel of at most 8 channels, two
//! pixels share a vector, one in each half, in tiles of 10 pixels of one panel or two and that half:
//!
//! ```text
//!   value of pixel p     x x x x x x x x x x x x x x x x   ─▶ panel            blend: the lower half of the one,
//!   value of pixel p+1   y y y y y y y y y y y y y y y y   ─▶ panel            the upper half of the other
//!                        x x x x x x x x y y y y y y y y   ─▶ half a panel, its 8 weights in both halves
//! ```
//!
//! N = 24 went from 0.74 to 0.96 of the peak by that, and N = 88 from 0.90 to 0.99. The blend is an instruction of our own
//! choice: LLVM makes a shuffle of it, which takes a pipe of the multiply-adds (0.84).
//!
//! Pixels are split evenly over tiles: 49 are 4 × 6 + 5 × 5, never 8 × 6 + 1.
//!
//! The weights of a panel pass once for each tile. Where they are few, a tile goes over all panels and keeps its pixels
//! at hand; where they are many, all tiles go over a panel, and the last of them ask for the next: 7×7 planes, of nine
//! tiles, gained a seventh by that (79 → 92 % of the peak), since a first tile that waits for L3 takes more than twice
//! its time. On AVX-512 the two panels of a tile have to be asked for both: with one, a layer of 1024×1024 in its network
//! took 1.2 times as long.
//!
//! Instructions count as much as multiply-adds do. On AVX2 a step of 6 × 2 sums was 24 of them, 12 multiply-adds with 12 others,
//! and a core that shares its decoder with another thread hands out three or four a cycle: 0.71 of the peak, all in L1, where 20½
//! for a step have 0.91. So the 16 steps of a channel block stand one after the other, pixels are found by one index beside
//! pointers that stay, and weights are asked for four rows at a time: 20½. V2 1.0 224 has 76 million instructions for 90 and takes
//! 0.92 of the time beside a busy thread, V1 1.0 0.86; with the core to itself, 0.99. An index that LLVM can follow becomes a
//! pointer for each pixel again, which cost 2 %. By 4 steps: a third of the gain at most. By 8 steps: 21 for a step, V1 and V2 took 2
//! to 4 % longer beside busy neighbours (Zen 3), and the file compiled in four fifths of the time. Half a panel, 12 × 1: 27 instructions for 29, and
//! nearly twice the time to compile this file; 25 where pixels lie a block apart and need no pointer each, and the stem's nine taps
//! of a row one after the other as well: V2 0.35 96 had 2.4 % fewer instructions, and took as long. Not measured on AVX-512, whose
//! step is 36 instructions in 10 cycles.
//!
//! What stands around the loop was 180 instructions. Calls without partial sums, residual and vectors that are not whole have tiles
//! that do not ask for these. That took K = 16 from 0.80 to 0.89 of the peak, K = 24 from 0.86 to 0.92, and K = 32 from 0.89 to
//! 0.93.
//!
//! What lost: 4 pixels × 3 vectors on AVX2 spills (36–40 % of the peak); a division for each pixel of a tile in place
//! of the table of offsets cost a quarter at k = 16; slabs of 192 to 320 of `k` whose weights stay in L1, with partial
//! sums on the stack, took 3 to 5 % longer than long sums over weights that come from L2; one loop over all of `k`, or one
//! that tests at its end only, made LLVM keep sums on the stack (0.70 at K = 16). Each kind of
//! tile is a function of its own, which a call enters at most twice: inlined into one function, all tiles took twice as long to compile,
//! and were no faster.

mod args;
mod driver;
mod epilogue;
mod pixel;
mod tile;

pub use args::PointwiseArgs;

use crate::{Kernel, Level};

/// `f32_pointwise`.
pub enum Pointwise {}

impl Kernel for Pointwise {
    type Args = PointwiseArgs;

    /// # Safety
    /// For each of `m` pixels and `k` channels, `x` is readable where offsets and segments say, and `out` writable in
    /// `n` channels (all 16 of a panel with `whole_blocks`), as `residual` is readable. `w` and `bias` hold whole
    /// panels for `n` and `k`; `partial`, if any, `m` × 16 values a panel. `out` overlaps none of the others, but it
    /// may be `partial` or `residual` at the same offsets.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PointwiseArgs) {
        // SAFETY: the caller's promise.
        unsafe { driver::run::<L>(simd, a) }
    }
}
