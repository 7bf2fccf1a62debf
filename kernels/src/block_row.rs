//! Rows of any layout into channel blocks: the copy between a caller's NHWC tensor and the depthwise kernels.
//!
//! ```text
//!   NHWC            p0: c0 … c15 c16 … c31    p1: c0 … c15 c16 … c31
//!                       └── 16 ──┘                └── 16 ──┘
//!   block 0         p0: c0 … c15   p1: c0 … c15   …
//!   block 1         p0: c16 … c31  p1: c16 … c31  …
//! ```
//!
//! The copy computes nothing. It is a kernel because of the width of its vectors (`docs/kernels/depthwise.md`).

use core::ops::Range;

use crate::pack::RowLayout;
use crate::simd::{Vector, load, store};
use crate::{BLOCK, Kernel, Level};

/// What [`BlockRow`] copies. Offsets and distances are counted in values.
#[derive(Clone, Debug)]
pub struct BlockRowArgs {
    /// The row.
    pub x: *const f32,
    /// Where its values lie.
    pub layout: RowLayout,
    /// Pixels.
    pub width: usize,
    /// Output channels that are copied; the first is a multiple of 16.
    pub channels: Range<usize>,
    /// How often each input channel stands in the output: output channel `c` is input channel `c / multiplier`.
    pub multiplier: usize,
    /// Where the block of the first channel goes; pixels lie 16 apart.
    pub out: *mut f32,
    /// From one block to the next.
    pub out_block: usize,
}

/// `f32_blockrow`.
pub enum BlockRow {}

impl Kernel for BlockRow {
    type Args = BlockRowArgs;

    /// # Safety
    /// `x` is readable in every input channel that `channels` names, of `width` pixels; `out` is writable in whole
    /// blocks for `channels`; they do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &BlockRowArgs) {
        let first = a.channels.start / BLOCK;
        // SAFETY: the caller's, for channels of the range and pixels below `width`.
        unsafe {
            for block in first..a.channels.end.div_ceil(BLOCK) {
                let n = BLOCK.min(a.channels.end - block * BLOCK);
                let out = a.out.add((block - first) * a.out_block);
                match a.multiplier {
                    1 => once(simd, a.x.add(block * a.layout.block), a.layout.pixel, n, out, a.width),
                    2 if n == BLOCK => {
                        let half = block * BLOCK / 2;
                        let x = a.x.add(half / BLOCK * a.layout.block + half % BLOCK);
                        twice(x, a.layout.pixel, out, a.width);
                    }
                    _ if n == BLOCK && a.layout.block == BLOCK => repeated(simd, a, block * BLOCK, out),
                    _ => any(a, block * BLOCK, n, out),
                }
            }
        }
    }
}

/// A block of which `n` channels are there; zeros behind them.
///
/// # Safety
/// `n` values of each pixel are readable, and 16 writable.
#[inline(always)]
unsafe fn once<S: Vector>(simd: S, x: *const f32, pixel: usize, n: usize, out: *mut f32, width: usize) {
    for p in 0..width {
        // SAFETY: the caller's, for pixel `p`.
        unsafe {
            let (x, out) = (x.add(p * pixel), out.add(p * BLOCK));
            let mut lane = 0;
            while lane < BLOCK {
                let v = match n.saturating_sub(lane) {
                    0 => simd.splat_f32s(0.0),
                    left if left < S::F32_LANES => simd.load_lanes(x.add(lane), left),
                    _ => load(simd, x.add(lane)),
                };
                store(simd, out.add(lane), v);
                lane += S::F32_LANES;
            }
        }
    }
}

/// A whole block of half as many input channels.
///
/// # Safety
/// 8 values of each pixel are readable, and 16 writable.
#[inline(always)]
unsafe fn twice(x: *const f32, pixel: usize, out: *mut f32, width: usize) {
    for p in 0..width {
        let mut lanes = [0.0; BLOCK];
        // SAFETY: the caller's, for pixel `p`.
        unsafe {
            for half in 0..BLOCK / 2 {
                let value = *x.add(p * pixel + half);
                (lanes[2 * half], lanes[2 * half + 1]) = (value, value);
            }
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), out.add(p * BLOCK), BLOCK);
        }
    }
}

/// The input channels that a copy reads.
fn inputs(a: &BlockRowArgs) -> Range<usize> {
    a.channels.start / a.multiplier..a.channels.end.div_ceil(a.multiplier)
}

/// A whole block, from `first` on, of channels that lie together: a vector of them has all that a vector of output repeats.
///
/// # Safety
/// As [`BlockRow::run`], with blocks of input 16 apart.
#[inline(always)]
unsafe fn repeated<S: Vector>(simd: S, a: &BlockRowArgs, first: usize, out: *mut f32) {
    let there = inputs(a);
    let count = there.len().min(S::F32_LANES);
    for lane in (0..BLOCK).step_by(S::F32_LANES) {
        let channel = |lane: usize| (first + lane) / a.multiplier;
        // the last vector of input ends with the last channel
        let start = channel(lane).min(there.end - count);
        let from = core::array::from_fn(|i| if i < S::F32_LANES { (channel(lane + i) - start) as u32 } else { 0 });
        for p in 0..a.width {
            // SAFETY: the caller's.
            unsafe {
                let x = a.x.add(start + p * a.layout.pixel);
                let v = if count == S::F32_LANES { load(simd, x) } else { simd.load_lanes(x, count) };
                store(simd, out.add(p * BLOCK + lane), simd.pick(v, &from));
            }
        }
    }
}

/// `n` channels from `first` on, each looked up; zeros behind them.
///
/// # Safety
/// As [`BlockRow::run`], for the block that begins at `first`.
#[inline(always)]
unsafe fn any(a: &BlockRowArgs, first: usize, n: usize, out: *mut f32) {
    let mut places = [0; BLOCK];
    for lane in 0..n {
        let c = (first + lane) / a.multiplier;
        places[lane] = c / BLOCK * a.layout.block + c % BLOCK;
    }
    for p in 0..a.width {
        let mut lanes = [0.0; BLOCK];
        // SAFETY: the caller's, for pixel `p`.
        unsafe {
            let x = a.x.add(p * a.layout.pixel);
            for lane in 0..n {
                lanes[lane] = *x.add(places[lane]);
            }
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), out.add(p * BLOCK), BLOCK);
        }
    }
}
