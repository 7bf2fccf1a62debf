//! A depthwise convolution, with what stands before it and behind it fused in.
//!
//! ```text
//!   head: none │ 1×1 │ k×k          depthwise                 tail: none │ 1×1
//!   input ───────────────▶ ring of padded rows ──▶ a few rows ─────────────▶ output
//!                          in channel blocks       in channel blocks         [+ shortcut]
//! ```
//!
//! The tensor between head and depthwise never exists as a whole. Two schedules, one loop:
//!
//! - *row ring*: all channels, a group of output rows at a time. The ring keeps the rows that the next group needs again.
//! - *channel slabs*: all rows of a piece, some channel blocks at a time. The tail's sums rest in memory between slabs.
//!
//! ```text
//!   for group of output rows:           (slabs: one group)
//!       for slab of channel blocks:     (row ring: one slab)
//!           head   → rows of the ring that are not there yet
//!           depthwise → the group's rows
//!           tail   → sums, or the output after the last slab
//! ```
//!
//! A depthwise convolution alone has no sums to rest, and goes over its slabs in the outer loop: a slab's ring stays in
//! L1.
//!
//! What lost: some channel blocks at a time from head to depthwise, so that rows stay in L1 between them. The head
//! takes 10 % longer when it does not go over all panels with the pixels at hand, and the depthwise kernel gains
//! nothing over rows in L2.
//!
//! Without a head the rows are read in place if the producer has left columns of zeros beside them, or if the kernel
//! can do without these columns; else they are copied into the ring. A row of vertical padding is a pointer to one row
//! of zeros.
//!
//! What lost there: the general kernel on rows in place, a block of channels at a time: it takes a quarter longer with a
//! distance between pixels that it does not know, and gains only where no row is read twice.

use core::ops::Range;

use sepconv_kernels::{BLOCK, BlockRowArgs, DepthwiseArgs, Isa, KernelKind, Kernels, PointwiseArgs};

use super::conv::{ConvRows, Rows, Target};
use super::{Bound, Conv, Depthwise, Ends, Layout, PixelTable, Place, Run, Tensor, rows_within, share, zero_columns};
use crate::memory::{Arc, Carver, product, text};
use crate::shape::{Extent, Window};
use crate::{Result, Schedule, Shape};

/// What fills the ring.
#[derive(Debug)]
enum Head {
    /// Nothing: rows are read in place.
    InPlace,
    /// Nothing: the caller's rows are read in place, and the kernel knows which columns of padding they lack.
    Pixels([bool; 2]),
    /// Rows are copied, each channel as often as the multiplier says.
    Copy,
    /// Rows are computed.
    Conv(Arc<ConvRows>),
}

/// Places in a worker's scratch.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    zeros: usize,
    ring: usize,
    depthwise: usize,
    partial: usize,
    row_pointers: usize,
    out_pointers: usize,
}

/// The pixels of a group, as the tail finds them.
#[derive(Debug)]
struct TailPixels {
    /// Of the depthwise rows, and of partial sums.
    dense: PixelTable,
    out: PixelTable,
    residual: Option<PixelTable>,
}

/// A depthwise convolution from tensor to tensor.
#[derive(Debug)]
pub(crate) struct ChainStep {
    head: Head,
    depthwise: Arc<Depthwise>,
    tail: Option<(Arc<Conv>, TailPixels)>,
    ends: Ends,
    /// The tensor that the depthwise convolution reads: what the head makes, each channel `multiplier` times.
    middle: Shape,
    extent: Extent,
    /// The schedule: output rows of a group, and channel blocks of a slab.
    group: usize,
    slab: usize,
    /// Output rows of one call of the depthwise kernel.
    rows_at_once: usize,
    /// Rows of the ring, and the layout of `slab` blocks of one.
    ring_rows: usize,
    ring: Layout,
    /// Values of the row that stands for rows of padding.
    zero_row: usize,
    /// Nothing is computed before or behind the depthwise convolution: the outer loop is over slabs.
    alone: bool,
    scratch: Scratch,
    kind: KernelKind,
    /// Parts that the rows of each image are shared out in, and its channels.
    parts: usize,
    channel_parts: usize,
}

/// What a chain is made of, before it is planned.
pub(super) struct ChainParts {
    pub(super) head: Option<Arc<Conv>>,
    pub(super) depthwise: Arc<Depthwise>,
    pub(super) tail: Option<Arc<Conv>>,
}

/// Values of ring and depthwise rows that stay in L2, with room for weights.
#[derive(Clone, Copy)]
struct Budget {
    /// Of a group of rows.
    group: usize,
    /// The same where the tail's weights are so many that they come from L3 for every group: they come less often.
    large_group: usize,
    /// Of a slab.
    slab: usize,
}

impl Budget {
    /// 160 to 224 KiB of the 512 that the L2 of a processor without AVX-512 may have. With AVX-512 it is 1 MiB or more but
    /// for a few clients': 384 KiB took 2 to 3 % off V2 there, and 512 KiB gained no more.
    fn of(isa: Isa) -> Budget {
        match isa {
            Isa::Avx512 => Budget { group: 96 << 10, large_group: 96 << 10, slab: 96 << 10 },
            _ => Budget { group: 48 << 10, large_group: 56 << 10, slab: 40 << 10 },
        }
    }
}

/// Planes of at most this many output pixels go by slabs of channels: every weight is then read once, and the whole plane of a
/// slab fits the cache.
pub(super) const SLAB_PIXELS: usize = 14 * 14;

/// The schedule of a chain with a head, where the plan may choose.
///
/// Larger planes go by slabs as well where a slab of three blocks fits the cache, and all channels not even by half of the rows at
/// a time: 32-192-32 takes 2 to 9 % less at 16×16 to 20×20 then (AVX2), 16-96-16 would take up to 12 % more, 24-144-24 7 % at
/// 24×24 and 18 to 28 % beyond.
pub(super) fn preferred_schedule(isa: Isa, depthwise: &Depthwise, middle: Shape, out: Shape) -> Result<Schedule> {
    let pixels = out.h * out.w;
    let extent = depthwise.window.over([middle.h, middle.w])?;
    let rows = product(&[middle.h, extent.before[1] + middle.w + extent.after[1]])?;
    let block = product(&[rows.saturating_add(pixels), BLOCK])?;
    let budget = Budget::of(isa);
    let fits = block <= budget.slab / 3;
    let all_fit_by_halves = block.saturating_mul(out.c.div_ceil(BLOCK)) <= 2 * budget.group;
    Ok(if pixels <= SLAB_PIXELS || (fits && !all_fit_by_halves) { Schedule::ChannelSlabs } else { Schedule::RowRing })
}

/// Weights of a tail that stay in L2 from group to group.
pub(super) const TAIL_WEIGHTS: usize = 96 << 10;
/// Values of a ring of all channels: 32 MiB, beyond any L2 and most L3, where nothing is won by keeping rows.
const LONG_ROWS_VALUES: usize = 8 << 20;
/// Values of the ring of a depthwise convolution alone: 20 KiB, which leaves room for weights and output in an L1 of 32
/// KiB.
const NEAR_VALUES: usize = 5 << 10;
/// Values from pixel to pixel, 1 KiB, at whose multiples a channel of all pixels falls into few sets of an L1.
const SAME_SET_VALUES: usize = 256;
/// Values of input that one call of the kernel goes over to fill the ring.
const HEAD_VALUES: usize = 32 << 10;

/// Whether a depthwise kernel reads a caller's rows where they lie. No copy into channel blocks is faster: it is written and read
/// besides.
fn reads_pixels(kind: KernelKind, channels: usize, columns: [usize; 2]) -> bool {
    kind != KernelKind::DwConv && columns.iter().all(|&columns| columns <= 1) && channels.is_multiple_of(BLOCK)
}

/// Output rows of one call that goes over a caller's pixels in strips: all, but where pixels fall into few sets of L1. The
/// prefetcher follows a strip down its rows, and what it brings there evicts what it brought before, the sooner if input and
/// output share those sets, as two large allocations do (28×28×256: 60 µs with all rows, 42 with four at a time).
fn strip_rows(stride: usize, channels: usize, rows: usize) -> usize {
    let few = match stride {
        1 if channels.is_multiple_of(2 * SAME_SET_VALUES) => 2,
        1 if channels.is_multiple_of(SAME_SET_VALUES) => 4,
        2 if channels.is_multiple_of(SAME_SET_VALUES) => 3,
        2 if channels.is_multiple_of(SAME_SET_VALUES / 2) && rows > 7 => 3,
        _ => rows,
    };
    few.min(rows)
}

/// Input rows that one call of a depthwise kernel is given, for `rows` output rows or, of the general kernel, for one.
fn rows_in(kind: KernelKind, window: &Window, rows: usize) -> usize {
    match kind {
        KernelKind::DwConv => window.kernel[0],
        _ => (rows - 1) * window.stride[0] + window.kernel[0],
    }
}

impl ChainStep {
    pub(super) fn new(
        parts: ChainParts,
        tensors: &[Tensor],
        ends: Ends,
        schedule: Schedule,
        by_channels: bool,
        workers: usize,
        kernels: &Kernels,
        carver: &mut Carver,
    ) -> Result<ChainStep> {
        let ChainParts { head, depthwise, tail } = parts;
        let (by_strips, near) = (kernels.dwconv3x3_by_strips(), Budget::of(kernels.isa()));
        let Tensor { shape, layout, place } = tensors[ends.input];
        let padded = matches!(place, Place::Arena(_)) && layout.whole;
        let window = depthwise.window;
        let before_head = match &head {
            None => [shape.h, shape.w],
            Some(conv) => conv.window.over([shape.h, shape.w])?.out,
        };
        let extent = window.over(before_head)?;
        let middle = Shape::new(shape.n, before_head[0], before_head[1], depthwise.outputs());
        let columns = [extent.before[1], extent.after[1]];
        let kind = match (window.kernel, window.stride, window.dilation) {
            ([3, 3], [1, 1], [1, 1]) => KernelKind::DwConv3x3S1,
            ([3, 3], [2, 2], [1, 1]) => KernelKind::DwConv3x3S2,
            ([3, 3], [3, 3], [1, 1]) => KernelKind::DwConv3x3S3,
            _ => KernelKind::DwConv,
        };
        // where no rows are computed
        let rows = if depthwise.multiplier > 1 {
            Head::Copy
        } else if padded && layout.columns == columns {
            Head::InPlace
        } else if !padded && reads_pixels(kind, shape.c, columns) {
            Head::Pixels(columns.map(|columns| columns > 0))
        } else {
            Head::Copy
        };
        let by_pixels = head.is_none() && matches!(rows, Head::Pixels(_));
        let has_ring = head.is_some() || matches!(rows, Head::Copy);
        // strips go down rows that lie there, and read each once
        let strips = by_strips && !has_ring && matches!(kind, KernelKind::DwConv3x3S1 | KernelKind::DwConv3x3S2);
        let pixel_strips = strips && by_pixels;
        // nothing is computed before or behind it
        let alone = tail.is_none() && head.is_none();
        let blocks = middle.c.div_ceil(BLOCK);
        let [height, width] = extent.out;
        let padded_width = columns[0] + middle.w + columns[1];
        product(&[padded_width, blocks, BLOCK])?;

        // workers share out the rows of an image only where images alone do not come out even
        let shared = !shape.n.is_multiple_of(workers);
        // sums of a tail go over all channels
        let by_channels = by_channels && tail.is_none();
        let parts = if shared && !by_channels { workers.min(height) } else { 1 };
        let channel_parts = if shared && by_channels { workers.min(blocks) } else { 1 };
        let piece_rows = height.div_ceil(parts);
        let rows_read = |rows: usize| ((rows - 1) * window.stride[0] + window.reach(0)).min(middle.h);
        let (group, slab) = match schedule {
            _ if alone => {
                let group = if pixel_strips {
                    strip_rows(window.stride[0], shape.c, piece_rows)
                } else if strips {
                    piece_rows
                } else {
                    2.min(piece_rows)
                };
                let near = NEAR_VALUES / product(&[padded_width, rows_read(group), BLOCK])?;
                (group, if by_pixels || strips { blocks } else { near.clamp(1, blocks) })
            }
            Schedule::RowRing => {
                let row = if has_ring { product(&[padded_width, blocks * BLOCK])? } else { 0 };
                let out_row = if tail.is_some() { width * blocks * BLOCK } else { 0 };
                let overlap = window.reach(0).saturating_sub(window.stride[0]).saturating_mul(row);
                let heavy = tail.as_ref().is_some_and(|tail| tail.weights.len() > TAIL_WEIGHTS);
                let budget = if heavy { near.large_group } else { near.group }.saturating_sub(overlap);
                let group =
                    rows_within(budget, window.stride[0].saturating_mul(row).saturating_add(out_row), piece_rows);
                // the 3×3 kernels take two rows at a time
                let group = if group > 1 { group } else { 2.min(piece_rows) };
                let group = piece_rows.div_ceil(piece_rows.div_ceil(group));
                // rows too long for all channels at once: some channels at a time, which computes or copies rows again
                let block = product(&[padded_width, rows_read(group), BLOCK])?;
                let slab = (LONG_ROWS_VALUES / block).clamp(1, blocks);
                (group, blocks.div_ceil(blocks.div_ceil(slab)))
            }
            Schedule::ChannelSlabs => {
                let plane = product(&[padded_width, rows_read(piece_rows)])?.saturating_add(width * piece_rows);
                let plane = product(&[plane, BLOCK])?;
                let slab = (near.slab / plane.max(1)).clamp(1, blocks);
                (piece_rows, blocks.div_ceil(blocks.div_ceil(slab)))
            }
        };
        let ring = Layout::blocked(Shape { c: slab * BLOCK, ..middle }, columns);
        let ring_rows = if has_ring { rows_read(group) } else { 0 };
        let head = match head {
            Some(conv) => {
                let to = Rows::Ring(ring, ring_rows);
                let rows = ConvRows::new(conv, &tensors[ends.input], to, None, HEAD_VALUES, carver)?;
                Head::Conv(Arc::try_new("plan", rows)?)
            }
            None => rows,
        };
        let slabs = blocks.div_ceil(slab);
        let rows_at_once = match kind {
            KernelKind::DwConv => 1,
            _ if pixel_strips => strip_rows(window.stride[0], shape.c, group),
            _ => group,
        };
        let pixels = product(&[group, width])?;
        let zero_row = match head {
            Head::Pixels(_) => middle.c,
            Head::InPlace => layout.row,
            Head::Copy | Head::Conv(_) => ring.row,
        };
        let tailed = usize::from(tail.is_some());
        let scratch = Scratch {
            zeros: carver.floats(zero_row)?,
            ring: carver.floats(product(&[ring_rows, ring.row])?)?,
            depthwise: carver.floats(product(&[tailed, pixels, slab, BLOCK])?)?,
            partial: carver.floats(match &tail {
                Some(tail) if slabs > 1 => product(&[pixels, tail.outputs.div_ceil(BLOCK), BLOCK])?,
                _ => 0,
            })?,
            row_pointers: carver.words(rows_in(kind, &window, rows_at_once))?,
            out_pointers: carver.words(rows_at_once)?,
        };
        let tail = match tail {
            Some(tail) => {
                let rows = Layout::blocked(Shape::new(1, group, width, BLOCK), [0, 0]);
                let dense = PixelTable::within(rows, group, width, [1, 1], carver)?;
                let out = PixelTable::of(&tensors[ends.output], group, width, [1, 1], carver)?;
                let of_residual = |r: usize| PixelTable::of(&tensors[r], group, width, [1, 1], carver);
                let residual = ends.residual.map(of_residual).transpose()?;
                Some((tail, TailPixels { dense, out, residual }))
            }
            None => None,
        };
        Ok(ChainStep {
            head,
            depthwise,
            tail,
            ends,
            middle,
            extent,
            group,
            slab,
            rows_at_once,
            ring_rows,
            ring,
            zero_row,
            alone,
            scratch,
            kind,
            parts,
            channel_parts,
        })
    }

    /// How it goes over its plane, in words.
    pub(super) fn explain_schedule(&self) -> Result<String> {
        let blocks = self.middle.c.div_ceil(BLOCK);
        let head = match &self.head {
            Head::InPlace => "rows read in place",
            Head::Pixels(_) => "pixels read in place",
            Head::Copy => "rows copied into the ring",
            Head::Conv(_) => "rows computed into the ring",
        };
        if self.slab < blocks {
            text(format_args!("channel slabs of {} over {} rows; {head}", self.slab * BLOCK, self.group))
        } else {
            text(format_args!("row ring, {} output rows at a time; {head}", self.group))
        }
    }

    pub(super) fn kind(&self) -> KernelKind {
        self.kind
    }

    pub(super) fn pieces(&self) -> usize {
        self.middle.n * self.parts * self.channel_parts
    }

    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, run: &Run<'_>, piece: usize, scratch: *mut f32) {
        let (piece, channels) = (piece / self.channel_parts, piece % self.channel_parts);
        let (n, part) = (piece / self.parts, piece % self.parts);
        let rows = share(self.extent.out[0], self.parts, part);
        let blocks = share(self.middle.c.div_ceil(BLOCK), self.channel_parts, channels);
        let slabs = blocks.len().div_ceil(self.slab);
        // SAFETY: every offset is that of a row, pixel and channel of tensors that the plan was made for, or of scratch
        // as `new` carved it; pieces write disjoint rows of the output.
        unsafe {
            let (x, out) = (run.bind(self.ends.input), run.bind(self.ends.output));
            scratch.add(self.scratch.zeros).write_bytes(0, self.zero_row);
            let ring = scratch.add(self.scratch.ring);
            zero_columns(ring, self.ring_rows, &self.ring, self.middle.w, self.slab);
            if out.layout.columns != [0, 0] && blocks.start == 0 {
                let first = out.ptr.add(out.row(n, rows.start) - out.layout.origin);
                zero_columns(first, rows.len(), &out.layout, out.shape.w, out.shape.c.div_ceil(BLOCK));
            }
            self.prepare(run, x, out, scratch);
            for outer in 0..if self.alone { slabs } else { 1 } {
                let inner = if self.alone { outer..outer + 1 } else { 0..slabs };
                let mut filled = 0;
                let mut first = rows.start;
                while first < rows.end {
                    let group = first..(first + self.group).min(rows.end);
                    first = group.end;
                    let needed = self.rows_needed(&group);
                    for slab in inner.clone() {
                        let slab = share(blocks.len(), slabs, slab);
                        let slab = blocks.start + slab.start..blocks.start + slab.end;
                        // of another slab, or of another piece, the ring holds nothing
                        let kept = if inner.len() == 1 { needed.start.max(filled) } else { needed.start };
                        self.fill_ring(run, x, n, kept.min(needed.end)..needed.end, slab.clone(), scratch);
                        self.depthwise_rows(run, x, out, n, &group, slab.clone(), scratch);
                        if let Some(tail) = &self.tail {
                            self.tail_rows(run, tail, out, n, &group, slab, scratch);
                        }
                    }
                    filled = filled.max(needed.end);
                }
            }
        }
    }

    /// The rows of the middle tensor that a group of output rows reads.
    fn rows_needed(&self, group: &Range<usize>) -> Range<usize> {
        let (stride, top) = (self.depthwise.window.stride[0], self.extent.before[0]);
        let start = (group.start * stride).saturating_sub(top).min(self.middle.h);
        let end = ((group.end - 1) * stride + self.depthwise.window.reach(0)).saturating_sub(top).min(self.middle.h);
        start..end.max(start)
    }

    /// Writes the tables of pixels that all groups of a piece read, but for those that were written when it was planned.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn prepare(&self, run: &Run<'_>, x: Bound, out: Bound, scratch: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            if let Head::Conv(head) = &self.head {
                head.prepare(&x.layout, None, None, scratch);
            }
            if let Some((_, pixels)) = &self.tail {
                pixels.dense.prepare(None, scratch);
                pixels.out.prepare(Some(&out.layout), scratch);
                if let (Some(pixels), Some(r)) = (&pixels.residual, self.ends.residual) {
                    pixels.prepare(Some(&run.bind(r).layout), scratch);
                }
            }
        }
    }

    /// The ring, as what fills it sees it.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn ring_target(&self, scratch: *mut f32) -> Target {
        Target {
            // SAFETY: the caller's.
            ptr: unsafe { scratch.add(self.scratch.ring + self.ring.origin) },
            row: self.ring.row,
            ring: self.ring_rows,
            pixel: BLOCK,
            block: self.ring.within.block,
            whole: true,
        }
    }

    /// Computes or copies rows of the middle tensor.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn fill_ring(
        &self,
        run: &Run<'_>,
        x: Bound,
        n: usize,
        rows: Range<usize>,
        slab: Range<usize>,
        scratch: *mut f32,
    ) {
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's.
        unsafe {
            let to = self.ring_target(scratch);
            match &self.head {
                Head::InPlace | Head::Pixels(_) => {}
                Head::Copy => {
                    // output channels of the slab: with a multiplier they need not begin at a whole input channel
                    let channels = slab.start * BLOCK..(slab.end * BLOCK).min(self.middle.c);
                    for y in rows {
                        (run.kernels.block_row)(&BlockRowArgs {
                            x: x.ptr.add(x.row(n, y)),
                            layout: x.layout.within,
                            width: self.middle.w,
                            channels: channels.clone(),
                            multiplier: self.depthwise.multiplier,
                            out: to.ptr.add(to.at(y)),
                            out_block: self.ring.within.block,
                        });
                    }
                }
                Head::Conv(head) => {
                    head.run(run, x, n, rows, slab, &to, None, scratch);
                }
            }
        }
    }

    /// Computes a group of rows of a slab, to the output or to where the tail reads them.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn depthwise_rows(
        &self,
        run: &Run<'_>,
        x: Bound,
        out: Bound,
        n: usize,
        group: &Range<usize>,
        slab: Range<usize>,
        scratch: *mut f32,
    ) {
        let window = &self.depthwise.window;
        let [kh, kw] = window.kernel;
        let width = self.extent.out[1];
        // SAFETY: the caller's; a pointer is made for every row that a window meets, and rows outside the plane are
        // zeros.
        unsafe {
            let zeros = scratch.add(self.scratch.zeros).cast_const();
            let ring = scratch.add(self.scratch.ring).cast_const();
            let pointers = scratch.add(self.scratch.row_pointers).cast::<*const f32>();
            let (layout, edges) = match self.head {
                Head::InPlace => (x.layout.within, None),
                Head::Pixels(edges) => (x.layout.within, Some(edges)),
                _ => (self.ring.within, None),
            };
            let row_pointer = |y: Option<usize>| match (y.filter(|&y| y < self.middle.h), &self.head) {
                (None, _) => zeros,
                // of a caller's tensor `origin` is 0: a pointer that leaves it could be that of the zeros
                (Some(y), Head::InPlace | Head::Pixels(_)) => {
                    x.ptr.add(x.row(n, y) - x.layout.origin + slab.start * layout.block).cast_const()
                }
                (Some(y), _) => ring.add(y % self.ring_rows * self.ring.row),
            };
            let kernel = match self.kind {
                KernelKind::DwConv3x3S1 => run.kernels.dwconv3x3s1,
                KernelKind::DwConv3x3S2 => run.kernels.dwconv3x3s2,
                KernelKind::DwConv3x3S3 => run.kernels.dwconv3x3s3,
                _ => run.kernels.dwconv,
            };
            let channels = (slab.end * BLOCK).min(self.middle.c) - slab.start * BLOCK;
            let target = self.depthwise_target(out, n, group, &slab, scratch);
            let outs = scratch.add(self.scratch.out_pointers).cast::<*mut f32>();
            let mut y = group.start;
            while y < group.end {
                let rows_out = self.rows_at_once.min(group.end - y);
                for i in 0..rows_in(self.kind, window, rows_out) {
                    let step = if self.kind == KernelKind::DwConv { window.dilation[0] } else { 1 };
                    let row = (y * window.stride[0] + i * step).checked_sub(self.extent.before[0]);
                    pointers.add(i).write(row_pointer(row));
                }
                for i in 0..rows_out {
                    outs.add(i).write(target.ptr.add(target.at(y - group.start + i)));
                }
                kernel(&DepthwiseArgs {
                    channels,
                    width,
                    rows_out,
                    rows: pointers,
                    x: layout,
                    edges,
                    zeros,
                    w: self.depthwise.weights.as_ptr().add(slab.start * (1 + kh * kw) * BLOCK),
                    out: outs,
                    out_block: target.block,
                    out_pixel: target.pixel,
                    whole_blocks: target.whole,
                    kernel: window.kernel,
                    stride: window.stride[1],
                    dilation: window.dilation[1],
                    clamp: self.depthwise.clamp,
                });
                y += rows_out;
            }
        }
    }

    /// Where the depthwise rows of a group go: to the output, or to where the tail finds all pixels of a block together.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn depthwise_target(
        &self,
        out: Bound,
        n: usize,
        group: &Range<usize>,
        slab: &Range<usize>,
        scratch: *mut f32,
    ) -> Target {
        let row = self.extent.out[1] * BLOCK;
        // SAFETY: the caller's.
        unsafe {
            match self.tail {
                Some(_) => Target {
                    ptr: scratch.add(self.scratch.depthwise),
                    row,
                    ring: usize::MAX,
                    pixel: BLOCK,
                    block: group.len() * row,
                    whole: true,
                },
                None => {
                    let to = Target::tensor(out, n, slab.start);
                    Target { ptr: to.ptr.add(to.at(group.start)), ..to }
                }
            }
        }
    }

    /// Adds a slab to the tail's sums, or finishes them.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn tail_rows(
        &self,
        run: &Run<'_>,
        (tail, pixels): &(Arc<Conv>, TailPixels),
        out: Bound,
        n: usize,
        group: &Range<usize>,
        slab: Range<usize>,
        scratch: *mut f32,
    ) {
        let width = self.extent.out[1];
        let m = group.len() * width;
        let (is_first, is_last) = (slab.start == 0, slab.end == self.middle.c.div_ceil(BLOCK));
        let panel_len = (tail.inputs + 1) * BLOCK;
        // SAFETY: the caller's; the tables hold a group's pixels, the partial sums a group's pixels in every panel.
        unsafe {
            let (dense, out_pixels) = (pixels.dense.row(0, scratch), pixels.out.row(0, scratch));
            let residual_pixels = match &pixels.residual {
                Some(pixels) => pixels.row(0, scratch),
                None => core::ptr::null(),
            };
            let residual = if is_last { self.ends.residual.map(|r| run.bind(r)) } else { None };
            let partial = scratch.add(self.scratch.partial);
            let partial_panel = m * BLOCK;
            let (to, out_pixels, out_panel, whole_blocks, clamp) = if is_last {
                let to = out.ptr.add(out.row(n, group.start));
                (to, out_pixels, out.layout.within.block, out.layout.whole, tail.clamp)
            } else {
                (partial, dense, partial_panel, true, [f32::NEG_INFINITY, f32::INFINITY])
            };
            let w = tail.weights.as_ptr();
            (run.kernels.pointwise)(&PointwiseArgs {
                m,
                k: (slab.end * BLOCK).min(tail.inputs) - slab.start * BLOCK,
                n: tail.outputs,
                x: scratch.add(self.scratch.depthwise),
                x_pixels: dense,
                segment: BLOCK,
                x_segment: m * BLOCK,
                w: w.add((1 + slab.start * BLOCK) * BLOCK),
                w_panel: panel_len,
                bias: w,
                partial: if is_first { core::ptr::null() } else { partial },
                partial_panel,
                residual: residual.map_or(core::ptr::null(), |r| r.ptr.add(r.row(n, group.start)).cast_const()),
                residual_pixels,
                residual_panel: residual.map_or(0, |r| r.layout.within.block),
                out: to,
                out_pixels,
                out_panel,
                whole_blocks,
                residual_whole: residual.is_some_and(|r| r.layout.whole),
                clamp,
            });
        }
    }
}
