//! Rows: where a tile reads its inputs, and where it stores its outputs.

use core::mem::MaybeUninit;

use super::DepthwiseArgs;
use super::tile::MAX_PX;
use crate::BLOCK;
use crate::epilogue::EpilogueVectors;
use crate::pack::RowLayout;
use crate::simd::{PixelOffsets, Vector, copy_pixels};

/// An input row of a block of channels, and what a tile reads of it.
pub(super) trait Row: Copy {
    /// Row `row` of a call, in that block; `edges` are those of the call.
    ///
    /// # Safety
    /// As [`super::DwConv3x3::run`]: the call has that row.
    unsafe fn new(a: &DepthwiseArgs, edges: [bool; 2], row: usize, block: usize) -> Self;

    /// What `count` columns from `x` on are, for a tile that ends its row or does not.
    fn from(self, x: usize, lane: usize, count: usize, ends: bool) -> Self;

    /// Column `i` of these `count`, each once and in their order.
    fn next(&mut self, i: usize, count: usize) -> *const f32;
}

/// A row of channel blocks, padding included.
#[derive(Clone, Copy)]
pub(super) struct PaddedRow(*const f32);

impl Row for PaddedRow {
    #[inline(always)]
    unsafe fn new(a: &DepthwiseArgs, _: [bool; 2], row: usize, block: usize) -> PaddedRow {
        // SAFETY: the caller's.
        PaddedRow(unsafe { (*a.rows.add(row)).add(block * a.x.block) })
    }

    #[inline(always)]
    fn from(self, x: usize, lane: usize, _: usize, _: bool) -> PaddedRow {
        PaddedRow(self.0.wrapping_add(x * BLOCK + lane))
    }

    #[inline(always)]
    fn next(&mut self, i: usize, _: usize) -> *const f32 {
        self.0.wrapping_add(i * BLOCK)
    }
}

/// A row of a caller's NHWC tensor. Only the first and the last column of a tile can be padding: they have pointers of their
/// own.
#[derive(Clone, Copy)]
pub(super) struct NhwcRow {
    at: *const f32,
    pixel: usize,
    first: *const f32,
    last: *const f32,
    zeros: *const f32,
    edges: [bool; 2],
}

impl Row for NhwcRow {
    #[inline(always)]
    unsafe fn new(a: &DepthwiseArgs, edges: [bool; 2], row: usize, block: usize) -> NhwcRow {
        // SAFETY: the caller's.
        let row = unsafe { *a.rows.add(row) };
        // of zeros, every pixel of every block is the same
        let x = if row == a.zeros { RowLayout { block: 0, pixel: 0 } } else { a.x };
        let at = row.wrapping_add(block * x.block).wrapping_sub(usize::from(edges[0]) * x.pixel);
        NhwcRow { at, pixel: x.pixel, first: at, last: at, zeros: a.zeros, edges }
    }

    #[inline(always)]
    fn from(self, x: usize, lane: usize, count: usize, ends: bool) -> NhwcRow {
        let at = self.at.wrapping_add(x * self.pixel + lane);
        let first = if self.edges[0] && x == 0 { self.zeros } else { at };
        let last = if self.edges[1] && ends { self.zeros } else { at.wrapping_add((count - 1) * self.pixel) };
        NhwcRow { at, first, last, ..self }
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

/// An output row of a block of channels, and the epilogue: all that a tile needs to know of its call.
pub(super) struct OutRow<S: Vector> {
    pub(super) ptr: *mut f32,
    pub(super) pixel: usize,
    /// Channels that are computed.
    channels: usize,
    /// Channels that may be written.
    pub(super) writable: usize,
    pub(super) epilogue: EpilogueVectors<S>,
}

impl<S: Vector> OutRow<S> {
    /// # Safety
    /// As [`super::DwConv3x3::run`], for that row and block.
    #[inline(always)]
    pub(super) unsafe fn new(simd: S, a: &DepthwiseArgs, oy: usize, block: usize) -> OutRow<S> {
        let channels = BLOCK.min(a.channels - block * BLOCK);
        OutRow {
            // SAFETY: the caller's.
            ptr: unsafe { (*a.out.add(oy)).add(block * a.out_block) },
            pixel: a.out_pixel,
            channels,
            writable: if a.whole_blocks { BLOCK } else { channels },
            epilogue: a.epilogue.vectors(simd),
        }
    }

    /// Calls `tile` for each vector that has channels, with its first lane, where its `PX` pixels from column `x` on go,
    /// and the distance between these. A vector of which only some lanes may be written goes over a block of its own.
    ///
    /// # Safety
    /// `x` and the columns behind it are below the width; `tile` writes whole vectors there and nothing else.
    #[inline(always)]
    pub(super) unsafe fn vectors<const PX: usize>(&self, x: usize, tile: impl Fn(usize, *mut f32, usize)) {
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
                    copy_pixels(PX, there, (at, PixelOffsets::Every(BLOCK)), (to, PixelOffsets::Every(self.pixel)));
                }
            }
            lane += S::F32_LANES;
        }
    }
}
