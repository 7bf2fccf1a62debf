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

use sepconv_kernels::{BLOCK, BlockRowArgs, DepthwiseArgs, KernelKind, PointwiseArgs};

use super::conv::{ConvRows, Rows, Target};
use super::cost::Thresholds;
use super::legal::{Chain, Misfit, STAGES};
use super::{
    Bound, Conv, Depthwise, Ends, Layout, Lowering, PixelTable, Place, Run, Tensor, lanes, rows_within, share,
    zero_columns,
};
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

impl TailPixels {
    /// Of groups of at most `rows` rows of `width` pixels.
    fn new(
        tensors: &[Tensor],
        ends: &Ends,
        [rows, width]: [usize; 2],
        thresholds: &Thresholds,
        carver: &mut Carver,
    ) -> Result<TailPixels> {
        let most = thresholds.planned_offsets;
        let dense = Layout::blocked(Shape::new(1, rows, width, BLOCK), [0, 0])?;
        let dense = PixelTable::within(dense, rows, width, [1, 1], most, carver)?;
        let out = PixelTable::of(&tensors[ends.output], rows, width, [1, 1], most, carver)?;
        let of_residual = |r: usize| PixelTable::of(&tensors[r], rows, width, [1, 1], most, carver);
        let residual = ends.residual.map(of_residual).transpose()?;
        Ok(TailPixels { dense, out, residual })
    }
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

/// The schedule of a chain with a head, where the plan may choose: [`Thresholds::slab_pixels`] says why.
pub(super) fn preferred_schedule(
    thresholds: &Thresholds,
    depthwise: &Depthwise,
    middle: Shape,
    out: Shape,
) -> Result<Schedule> {
    let pixels = out.h * out.w;
    let extent = depthwise.window.over([middle.h, middle.w])?;
    let rows = product(&[middle.h, extent.before[1] + middle.w + extent.after[1]])?;
    let block = product(&[rows.saturating_add(pixels), BLOCK])?;
    let fits = block <= thresholds.slab_values / 3;
    let all = block.saturating_mul(out.c.div_ceil(BLOCK));
    let all_fit_by_halves = all <= thresholds.ring_values.saturating_mul(2);
    let slabs = pixels <= thresholds.slab_pixels || (fits && !all_fit_by_halves);
    Ok(if slabs { Schedule::ChannelSlabs } else { Schedule::RowRing })
}

/// Input rows that one call of a depthwise kernel is given, for `rows` output rows or, of the general kernel, for one.
fn rows_in(kind: KernelKind, window: &Window, rows: usize) -> usize {
    match kind {
        KernelKind::DwConv => window.kernel[0],
        _ => (rows - 1) * window.stride[0] + window.kernel[0],
    }
}

/// The plane that a depthwise convolution goes over, before it is cut into groups and slabs.
struct Plane {
    middle: Shape,
    extent: Extent,
    window: Window,
    kind: KernelKind,
    /// Columns of padding on each side, and the length of a row with them.
    columns: [usize; 2],
    padded_width: usize,
    /// Channel blocks.
    blocks: usize,
    /// Output rows of the longest piece.
    piece_rows: usize,
}

/// Output rows of a group, and channel blocks of a slab.
struct Portions {
    group: usize,
    slab: usize,
}

impl Plane {
    fn new(middle: Shape, window: Window, parts: usize) -> Result<Plane> {
        let extent = window.over([middle.h, middle.w])?;
        let columns = [extent.before[1], extent.after[1]];
        let padded_width = columns[0] + middle.w + columns[1];
        let blocks = middle.c.div_ceil(BLOCK);
        product(&[padded_width, blocks, BLOCK])?;
        let kind = match (window.kernel, window.stride, window.dilation) {
            ([3, 3], [1, 1], [1, 1]) => KernelKind::DwConv3x3S1,
            ([3, 3], [2, 2], [1, 1]) => KernelKind::DwConv3x3S2,
            ([3, 3], [3, 3], [1, 1]) => KernelKind::DwConv3x3S3,
            _ => KernelKind::DwConv,
        };
        let piece_rows = extent.out[0].div_ceil(parts);
        Ok(Plane { middle, extent, window, kind, columns, padded_width, blocks, piece_rows })
    }

    /// What gives the rows where none are computed. No copy into channel blocks is faster than to read a caller's rows
    /// where they lie: it is written and read besides.
    fn rows_of(&self, x: &Tensor, multiplier: usize) -> Head {
        let padded = matches!(x.place, Place::Arena(_)) && x.layout.whole;
        let by_pixels = self.kind != KernelKind::DwConv
            && self.columns.iter().all(|&columns| columns <= 1)
            && self.middle.c.is_multiple_of(BLOCK);
        if multiplier > 1 {
            Head::Copy
        } else if padded && x.layout.columns == self.columns {
            Head::InPlace
        } else if !padded && by_pixels {
            Head::Pixels(self.columns.map(|columns| columns > 0))
        } else {
            Head::Copy
        }
    }

    /// Input rows inside the plane that `rows` output rows, at least one, read at the most.
    fn rows_read(&self, rows: usize) -> usize {
        ((rows - 1) * self.window.stride[0] + self.window.reach(0)).min(self.middle.h)
    }

    /// Portions of a depthwise convolution with nothing before or behind it.
    fn alone(&self, strips: bool, by_pixels: bool, thresholds: &Thresholds) -> Result<Portions> {
        let group = match (strips, by_pixels) {
            (true, true) => thresholds.strip_rows(self.window.stride[0], self.middle.c, self.piece_rows),
            (true, false) => self.piece_rows,
            // the kernels take two rows at a time
            (false, _) => self.piece_rows.min(2),
        };
        let near = thresholds.near_ring / product(&[self.padded_width, self.rows_read(group), BLOCK])?;
        let slab = if by_pixels || strips { self.blocks } else { near.clamp(1, self.blocks) };
        Ok(Portions { group, slab })
    }

    /// Portions by rows of all channels, before a tail or none.
    fn row_ring(&self, has_ring: bool, tail: Option<&Conv>, thresholds: &Thresholds) -> Result<Portions> {
        let stride = self.window.stride[0];
        let row = if has_ring { product(&[self.padded_width, self.blocks, BLOCK])? } else { 0 };
        let out_row = if tail.is_some() { product(&[self.extent.out[1], self.blocks, BLOCK])? } else { 0 };
        let overlap = self.window.reach(0).saturating_sub(stride).saturating_mul(row);
        let heavy = tail.is_some_and(|tail| tail.weights.len() > thresholds.tail_weights);
        let budget = if heavy { thresholds.ring_values_heavy } else { thresholds.ring_values }.saturating_sub(overlap);
        let group = rows_within(budget, stride.saturating_mul(row).saturating_add(out_row), self.piece_rows);
        // the 3×3 kernels take two rows at a time
        let group = if group > 1 { group } else { self.piece_rows.min(2) };
        let group = self.piece_rows.div_ceil(self.piece_rows.div_ceil(group));
        // rows too long for all channels at once: some channels at a time, which computes or copies rows again
        let block = product(&[self.padded_width, self.rows_read(group), BLOCK])?;
        Ok(Portions { group, slab: self.even_slab(thresholds.long_rows / block) })
    }

    /// Portions by slabs of channels.
    fn channel_slabs(&self, thresholds: &Thresholds) -> Result<Portions> {
        let plane = product(&[self.padded_width, self.rows_read(self.piece_rows)])?
            .saturating_add(product(&[self.extent.out[1], self.piece_rows])?);
        let block = product(&[plane, BLOCK])?;
        Ok(Portions { group: self.piece_rows, slab: self.even_slab(thresholds.slab_values / block) })
    }

    /// Blocks of as many slabs as slabs of at most `blocks` blocks are, and that are as even as can be.
    fn even_slab(&self, blocks: usize) -> usize {
        self.blocks.div_ceil(self.blocks.div_ceil(blocks.clamp(1, self.blocks)))
    }
}

impl ChainStep {
    /// A step of stages with a depthwise convolution, or an error where they do not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        tensors: &[Tensor],
        ends: Ends,
        schedule: Schedule,
        by_channels: bool,
        workers: usize,
        lowering: &Lowering,
        carver: &mut Carver,
    ) -> Result<ChainStep> {
        let thresholds = &lowering.thresholds;
        let [after_head, ..] = chain.over(tensors, &ends)?;
        let (head, tail) = (chain.head().cloned(), chain.tail().cloned());
        let depthwise = chain.depthwise().cloned().ok_or_else(|| Misfit::Order.named(STAGES))?;
        let (x, window) = (&tensors[ends.input], depthwise.window);
        let middle = Shape { c: depthwise.outputs(), ..after_head };

        // workers share out the rows of an image only where images alone do not come out even
        let shared = !middle.n.is_multiple_of(workers);
        // sums of a tail go over all channels
        let by_channels = by_channels && tail.is_none();
        let [height, width] = window.over([middle.h, middle.w])?.out;
        let parts = if shared && !by_channels { workers.min(height) } else { 1 };
        let plane = Plane::new(middle, window, parts)?;
        let channel_parts = if shared && by_channels { workers.min(plane.blocks) } else { 1 };

        // where no rows are computed
        let rows = plane.rows_of(x, depthwise.multiplier);
        let by_pixels = head.is_none() && matches!(rows, Head::Pixels(_));
        let has_ring = head.is_some() || matches!(rows, Head::Copy);
        // strips go down rows that lie there, and read each once
        let by_strips = thresholds.strips.unwrap_or(lowering.kernels.dwconv3x3_by_strips());
        let strips = by_strips && !has_ring && matches!(plane.kind, KernelKind::DwConv3x3S1 | KernelKind::DwConv3x3S2);
        let alone = tail.is_none() && head.is_none();
        let Portions { group, slab } = match schedule {
            _ if alone => plane.alone(strips, by_pixels, thresholds)?,
            Schedule::RowRing => plane.row_ring(has_ring, tail.as_deref(), thresholds)?,
            Schedule::ChannelSlabs => plane.channel_slabs(thresholds)?,
        };
        let ring = Layout::blocked(Shape { c: slab * BLOCK, ..middle }, plane.columns)?;
        let ring_rows = if has_ring { plane.rows_read(group) } else { 0 };
        let head = match head {
            None => rows,
            Some(conv) => {
                let to = Rows::Ring(ring, ring_rows);
                let rows = ConvRows::new(conv, x, to, None, thresholds.head_values, thresholds, carver)?;
                Head::Conv(Arc::try_new("plan", rows)?)
            }
        };
        let rows_at_once = match plane.kind {
            KernelKind::DwConv => 1,
            _ if strips && by_pixels => thresholds.strip_rows(window.stride[0], middle.c, group),
            _ => group,
        };
        let zero_row = match head {
            Head::Pixels(_) => middle.c,
            Head::InPlace => x.layout.row,
            Head::Copy | Head::Conv(_) => ring.row,
        };
        let pixels = product(&[group, width])?;
        let scratch = Scratch {
            zeros: carver.floats(zero_row)?,
            ring: carver.floats(product(&[ring_rows, ring.row])?)?,
            depthwise: carver.floats(product(&[usize::from(tail.is_some()), pixels, slab, BLOCK])?)?,
            partial: carver.floats(match &tail {
                Some(tail) if slab < plane.blocks => product(&[pixels, tail.outputs.div_ceil(BLOCK), BLOCK])?,
                _ => 0,
            })?,
            row_pointers: carver.words(rows_in(plane.kind, &window, rows_at_once))?,
            out_pointers: carver.words(rows_at_once)?,
        };
        let tail = match tail {
            Some(tail) => Some((tail, TailPixels::new(tensors, &ends, [group, width], thresholds, carver)?)),
            None => None,
        };
        let Plane { extent, kind, .. } = plane;
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
        // as `new` carved it; pieces write disjoint rows of the output, or disjoint channels of the same rows. Of those
        // the one with the first channels writes the columns of zeros beside them.
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
                    let first = slab.start * BLOCK;
                    let channels = first..first + lanes(&slab, self.middle.c);
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
            let channels = lanes(&slab, self.middle.c);
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
                k: lanes(&slab, tail.inputs),
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
