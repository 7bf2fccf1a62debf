//! Planes into pixels, and back: what stands between a caller's NCHW tensor and the kernels.
//!
//! ```text
//!   planes     c0: p0 p1 p2 p3 …    c1: p0 p1 p2 p3 …    c2: …    c3: …
//!   pixels     p0: c0 c1 c2 c3 …    p1: c0 c1 c2 c3 …
//! ```
//!
//! Nothing is computed. AVX and AVX-512 transpose eight planes by eight pixels in registers, other levels four by four, a block of
//! channels at a time.
//!
//! ```text
//!   for block of 16 channels:                AVX, AVX-512              others, and remainders
//!       for 8 (16) pixels:
//!           for 8 (4) channels:
//!               for 8 (4) pixels:            transpose 8 × 8           load 4 × 4, transpose, store 4 × 4
//! ```
//!
//! `docs/kernels/planes.md` has what was tried.

use core::ops::Range;

use crate::quad::Quad;
use crate::simd::Vector;
use crate::{BLOCK, Kernel, Level};

/// Where each of eight rows begins, `row` values apart.
#[inline(always)]
fn rows(from: *const f32, row: usize) -> [*const f32; 8] {
    core::array::from_fn(|i| from.wrapping_add(i * row))
}

/// The arguments of [`FromPlanes`]: pixels of a row, or of rows that follow each other without a gap. Distances are counted in values.
#[derive(Clone, Debug)]
pub struct FromPlanesArgs {
    /// The first pixel in the plane of channel 0.
    pub x: *const f32,
    /// From one plane to the next.
    pub plane: usize,
    /// From one pixel of a plane to the next.
    pub step: usize,
    /// Pixels.
    pub width: usize,
    /// Output channels that are copied; the first is a multiple of 16.
    pub channels: Range<usize>,
    /// How often each input channel stands in the output: output channel `c` is input channel `c / multiplier`.
    pub multiplier: usize,
    /// Where the block of the first channel goes.
    pub out: *mut f32,
    /// From one pixel of the output to the next.
    pub out_pixel: usize,
    /// From one block of 16 channels of the output to the next.
    pub out_block: usize,
    /// Whether each block has room for 16 channels: zeros are written behind the last channel then.
    pub whole: bool,
}

/// `f32_from_planes`.
pub enum FromPlanes {}

impl Kernel for FromPlanes {
    type Args = FromPlanesArgs;

    /// # Safety
    /// `x` is readable in every input channel that `channels` names, of `width` pixels; `out` is writable in these channels of
    /// `width` pixels, in whole blocks where it is `whole`; they do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &FromPlanesArgs) {
        let blocks = a.channels.len() / BLOCK;
        let width = if L::Token::TRANSPOSES_EIGHT && a.multiplier == 1 && a.step == 1 { a.width / 8 * 8 } else { 0 };
        // SAFETY: the caller's; whole blocks of the first pixels, then the last channels of these pixels, and all of the last pixels.
        unsafe {
            if width == 0 || blocks == 0 {
                return from_planes(a);
            }
            let x = a.x.add(a.channels.start * a.plane);
            for block in 0..blocks {
                for p in (0..width).step_by(8) {
                    let (x, out) =
                        (x.add(block * BLOCK * a.plane + p), a.out.add(block * a.out_block + p * a.out_pixel));
                    simd.transpose_eight(rows(x, a.plane), out, a.out_pixel);
                    simd.transpose_eight(rows(x.add(8 * a.plane), a.plane), out.add(8), a.out_pixel);
                }
            }
            let done = a.channels.start + blocks * BLOCK;
            if done < a.channels.end {
                let out = a.out.add(blocks * a.out_block);
                from_planes(&FromPlanesArgs { width, channels: done..a.channels.end, out, ..*a });
            }
            if width < a.width {
                let (x, out) = (a.x.add(width), a.out.add(width * a.out_pixel));
                from_planes(&FromPlanesArgs { x, width: a.width - width, channels: a.channels.clone(), out, ..*a });
            }
        }
    }
}

/// By quads, one function for all levels: four values fill a register of each. AVX leaves it the remainders.
///
/// # Safety
/// As [`FromPlanes::run`].
#[inline(never)]
unsafe fn from_planes(a: &FromPlanesArgs) {
    let first = a.channels.start / BLOCK;
    for block in first..a.channels.end.div_ceil(BLOCK) {
        let lanes = BLOCK.min(a.channels.end - block * BLOCK);
        // SAFETY: the caller's, for channels of the range and pixels below `width`.
        unsafe {
            let out = a.out.add((block - first) * a.out_block);
            if a.multiplier != 1 || a.step != 1 {
                look_up(a, block * BLOCK, lanes, out);
                continue;
            }
            let x = a.x.add(block * BLOCK * a.plane);
            let mut p = 0;
            while p < a.width {
                let width = BLOCK.min(a.width - p);
                to_pixels(a, x.add(p), lanes, out.add(p * a.out_pixel), [width, a.width - p]);
                p += width;
            }
        }
    }
}

/// `width` pixels, at most 16, of the first `lanes` channels of a block; `left` pixels of the call, these counted.
///
/// # Safety
/// As [`FromPlanes::run`], for these pixels and channels.
#[inline(always)]
unsafe fn to_pixels(a: &FromPlanesArgs, x: *const f32, lanes: usize, out: *mut f32, [width, left]: [usize; 2]) {
    // Where a pixel has at most four channels, a store may go beyond: what it writes there is overwritten by the next pixel.
    let over = a.channels.len() <= 4 && a.out_pixel <= 4;
    let end = left * a.out_pixel;
    for lane in (0..BLOCK).step_by(4) {
        let here = lanes.saturating_sub(lane).min(4);
        if here == 0 && !a.whole {
            break;
        }
        let mut p = 0;
        // SAFETY: the caller's, for pixels `p..p + 4` and channels `lane..lane + here`. Without a channel, nothing is read of `x`.
        unsafe {
            let (x, out) = (x.wrapping_add(lane * a.plane), out.add(lane));
            // loops of a number of channels that the compiler does not know would keep the registers in memory
            while here == 4 && p + 4 <= width {
                let load = |i: usize| Quad::load(x.add(i * a.plane + p));
                let [v0, v1, v2, v3] = Quad::transpose([load(0), load(1), load(2), load(3)]);
                let out = out.add(p * a.out_pixel);
                v0.store(out);
                v1.store(out.add(a.out_pixel));
                v2.store(out.add(2 * a.out_pixel));
                v3.store(out.add(3 * a.out_pixel));
                p += 4;
            }
            while p + 4 <= width {
                let load = |i: usize| if i < here { Quad::load(x.add(i * a.plane + p)) } else { Quad::zero() };
                let pixels = Quad::transpose([load(0), load(1), load(2), load(3)]);
                for (i, pixel) in pixels.into_iter().enumerate() {
                    let out = out.add((p + i) * a.out_pixel);
                    let room = a.whole || (over && (p + i) * a.out_pixel + 4 <= end);
                    if room { pixel.store(out) } else { pixel.store_first(out, here) }
                }
                p += 4;
            }
            while p < width {
                let out = out.add(p * a.out_pixel);
                for i in 0..here {
                    *out.add(i) = *x.add(i * a.plane + p);
                }
                for i in here..if a.whole { 4 } else { here } {
                    *out.add(i) = 0.0;
                }
                p += 1;
            }
        }
    }
}

/// `lanes` channels from `first` on, value by value: each several times, or of pixels that lie apart.
///
/// # Safety
/// As [`FromPlanes::run`], for these channels.
#[inline(always)]
unsafe fn look_up(a: &FromPlanesArgs, first: usize, lanes: usize, out: *mut f32) {
    for lane in 0..if a.whole { BLOCK } else { lanes } {
        for p in 0..a.width {
            // SAFETY: the caller's, for this channel and this pixel.
            unsafe {
                let x = a.x.wrapping_add((first + lane) / a.multiplier * a.plane + p * a.step);
                *out.add(p * a.out_pixel + lane) = if lane < lanes { *x } else { 0.0 };
            }
        }
    }
}

/// The arguments of [`ToPlanes`]. Distances are counted in values.
#[derive(Clone, Copy, Debug)]
pub struct ToPlanesArgs {
    /// The first pixel. Pixels lie 16 apart, in whole blocks.
    pub x: *const f32,
    /// From one block of 16 channels to the next.
    pub x_block: usize,
    /// Pixels.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Where the first pixel of the first plane goes.
    pub out: *mut f32,
    /// From one plane to the next.
    pub plane: usize,
    /// From one pixel of a plane to the next.
    pub step: usize,
}

/// `f32_to_planes`.
pub enum ToPlanes {}

impl Kernel for ToPlanes {
    type Args = ToPlanesArgs;

    /// # Safety
    /// `x` is readable in whole blocks for `channels` of `width` pixels; `out` is writable in `channels` planes of `width`
    /// pixels; they do not overlap.
    #[inline(always)]
    unsafe fn run<L: Level>(simd: L::Token, a: &ToPlanesArgs) {
        let eights = a.channels / 8;
        let width = if L::Token::TRANSPOSES_EIGHT && a.step == 1 { a.width / 8 * 8 } else { 0 };
        // SAFETY: the caller's; channels by eight of the first pixels, then the last channels of these pixels, and all of the last pixels.
        unsafe {
            if width == 0 || eights == 0 {
                return to_planes(a);
            }
            let eight = |i: usize| (a.x.add(i / 2 * a.x_block + i % 2 * 8), a.out.add(i * 8 * a.plane));
            for i in 0..eights {
                let (x, out) = eight(i);
                for p in (0..width).step_by(8) {
                    simd.transpose_eight(rows(x.add(p * BLOCK), BLOCK), out.add(p), a.plane);
                }
            }
            if eights * 8 < a.channels {
                let (x, out) = eight(eights);
                to_planes(&ToPlanesArgs { x, width, channels: a.channels - eights * 8, out, ..*a });
            }
            if width < a.width {
                let (x, out) = (a.x.add(width * BLOCK), a.out.add(width));
                to_planes(&ToPlanesArgs { x, width: a.width - width, out, ..*a });
            }
        }
    }
}

/// By quads, as [`from_planes`].
///
/// # Safety
/// As [`ToPlanes::run`].
#[inline(never)]
unsafe fn to_planes(a: &ToPlanesArgs) {
    for block in 0..a.channels.div_ceil(BLOCK) {
        let lanes = BLOCK.min(a.channels - block * BLOCK);
        let mut p = 0;
        while p < a.width {
            let width = BLOCK.min(a.width - p);
            // SAFETY: the caller's, for channels of the block and pixels `p..p + width`.
            unsafe {
                let x = a.x.add(block * a.x_block + p * BLOCK);
                let out = a.out.add(block * BLOCK * a.plane + p * a.step);
                block_to_planes(a, x, lanes, out, width);
            }
            p += width;
        }
    }
}

/// At most 16 pixels of the first `lanes` channels of a block.
///
/// # Safety
/// As [`ToPlanes::run`], for these pixels and channels.
#[inline(always)]
unsafe fn block_to_planes(a: &ToPlanesArgs, x: *const f32, lanes: usize, out: *mut f32, width: usize) {
    for lane in (0..lanes).step_by(4) {
        let here = 4.min(lanes - lane);
        let mut p = 0;
        // SAFETY: the caller's, for pixels `p..p + 4` and channels `lane..lane + here`; a block is read whole.
        unsafe {
            let (x, out) = (x.add(lane), out.add(lane * a.plane));
            while a.step == 1 && here == 4 && p + 4 <= width {
                let load = |i: usize| Quad::load(x.add((p + i) * BLOCK));
                let [v0, v1, v2, v3] = Quad::transpose([load(0), load(1), load(2), load(3)]);
                let out = out.add(p);
                v0.store(out);
                v1.store(out.add(a.plane));
                v2.store(out.add(2 * a.plane));
                v3.store(out.add(3 * a.plane));
                p += 4;
            }
            while p < width {
                for i in 0..here {
                    *out.add(i * a.plane + p * a.step) = *x.add(p * BLOCK + i);
                }
                p += 1;
            }
        }
    }
}
