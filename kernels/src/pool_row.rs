//! A row of maxima, or of means, over a window that slides over a plane.
//!
//! ```text
//!   for each output pixel: the taps of its window that lie in the plane, row by row
//!     maximum   v = first tap;  v = x unless v > x                 NaN of either stays
//!     mean      s = first tap;  s = s + x;  s / divisor            divisor: the taps in the plane, or all of the window
//! ```
//!
//! Padding takes no part in a maximum, and adds nothing to a sum. The caller leaves out rows of padding; columns of padding are left out here.
//! A vector of channels goes over all pixels of the row before the next. `docs/kernels/rows.md` has more.

use crate::join_row::RowPixels;
use crate::simd::{Vector, load, store};
use crate::{BLOCK, Kernel, Level};

/// What is taken of the taps of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolOf {
    /// The largest value.
    Maximum,
    /// The sum, over the number of taps that lie in the plane.
    MeanInside,
    /// The sum, over the number of all taps.
    MeanOfAll {
        /// Taps of the window.
        taps: usize,
    },
}

/// What [`PoolRow`] computes on. Distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct PoolRowArgs {
    /// Channels.
    pub channels: usize,
    /// The input rows that the window meets: at least one.
    pub rows: usize,
    /// The first of these rows. `ptr` is its first column.
    pub x: RowPixels<*const f32>,
    /// From one input row to the next.
    pub x_row: usize,
    /// Columns of the input.
    pub columns: usize,
    /// Columns of the window.
    pub kernel: usize,
    /// Columns from one window to the next.
    pub stride: usize,
    /// Columns of padding before the first column. Every window has a column of the plane.
    pub before: usize,
    /// Output pixels.
    pub width: usize,
    /// The output row.
    pub out: RowPixels<*mut f32>,
    /// What is taken of a window.
    pub of: PoolOf,
}

/// `f32_poolrow`.
pub enum PoolRow {}

impl Kernel for PoolRow {
    type Args = PoolRowArgs;

    /// # Safety
    /// `x` is readable in `channels` of `columns` pixels of each row, `out` writable in `width` pixels, in whole blocks where they say
    /// so. They do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &PoolRowArgs) {
        let whole = a.x.whole && a.out.whole;
        for block in 0..a.channels.div_ceil(BLOCK) {
            let channels = if whole { BLOCK } else { BLOCK.min(a.channels - block * BLOCK) };
            for lane in (0..channels).step_by(<L::Token as pulp::Simd>::F32_LANES) {
                // SAFETY: the caller's, for the channels of the block that are there.
                unsafe { pixels(simd, a, block, lane, channels - lane) }
            }
        }
    }
}

/// A vector of channels, of which `there` are there, in all pixels of the row.
///
/// # Safety
/// As [`PoolRow::run`], for these channels.
#[inline(always)]
unsafe fn pixels<S: Vector>(simd: S, a: &PoolRowArgs, block: usize, lane: usize, there: usize) {
    let full = there >= S::F32_LANES;
    let load_tap = |tap: *const f32| {
        // SAFETY: the caller's, for the channels that are there.
        unsafe { if full { load(simd, tap) } else { simd.load_lanes(tap, there) } }
    };
    // SAFETY: the caller's; columns are kept inside of the plane.
    unsafe {
        let x = a.x.ptr.add(block * a.x.block + lane);
        let out = a.out.ptr.add(block * a.out.block + lane);
        for p in 0..a.width {
            let first = (p * a.stride).saturating_sub(a.before);
            let end = (p * a.stride + a.kernel).saturating_sub(a.before).min(a.columns);
            let mut v = load_tap(x.add(first * a.x.pixel));
            for row in 0..a.rows {
                for column in first + usize::from(row == 0)..end {
                    let tap = load_tap(x.add(row * a.x_row + column * a.x.pixel));
                    v = match a.of {
                        PoolOf::Maximum => maximum(simd, v, tap),
                        PoolOf::MeanInside | PoolOf::MeanOfAll { .. } => simd.add_f32s(v, tap),
                    };
                }
            }
            let taps = match a.of {
                PoolOf::Maximum => None,
                PoolOf::MeanInside => Some(a.rows * (end - first)),
                PoolOf::MeanOfAll { taps } => Some(taps),
            };
            if let Some(taps) = taps {
                v = simd.div_f32s(v, simd.splat_f32s(taps as f32));
            }
            let out = out.add(p * a.out.pixel);
            if full { store(simd, out, v) } else { simd.store_lanes(out, v, there) }
        }
    }
}

/// The larger value; NaN where one of them is NaN.
#[inline(always)]
fn maximum<S: Vector>(simd: S, v: S::f32s, x: S::f32s) -> S::f32s {
    // a comparison with NaN is false, so NaN of `x` comes out of the first selection, and NaN of `v` out of the second
    let larger = simd.select_f32s(simd.greater_than_f32s(v, x), v, x);
    simd.select_f32s(simd.equal_f32s(v, v), larger, v)
}
