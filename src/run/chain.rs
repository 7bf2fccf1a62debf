//! A depthwise convolution with the stages before it and behind it fused in, run.
//!
//! ```text
//!   for group of output rows:           (slabs: one group)
//!       for slab of channel blocks:     (row ring: one slab)
//!           head   → rows of the ring that are not there yet
//!           depthwise → the group's rows
//!           tail   → sums, or the output after the last slab
//! ```
//!
//! `plan/chain.rs` has the two schedules, and decides all sizes.

use core::ops::Range;

use sepconv_kernels::{BLOCK, BlockRowArgs, DepthwiseArgs, Epilogue, FromPlanesArgs, KernelKind, PointwiseArgs, Store};

use super::bind::{BoundTensor, Memory, RowTarget, zero_columns};
use super::staging::Rows;
use crate::plan::{ChainStep, ConvStage, Order, PackedStage, RowSource, TailPixels, lanes, rows_in, share};

impl ChainStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (piece, channels) = (piece / self.parts.channels, piece % self.parts.channels);
        let height = self.extent.out[0];
        let lines = share(self.middle.n * height, self.parts.lines, piece);
        let blocks = share(self.middle.c.div_ceil(BLOCK), self.parts.channels, channels);
        // SAFETY: every offset is that of a row, pixel and channel of tensors that the plan was made for, or of scratch
        // as `new` carved it; pieces write disjoint rows of the output, or disjoint channels of the same rows. Of those
        // the one with the first channels writes the columns of zeros beside them.
        unsafe {
            let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
            scratch.add(self.scratch.zeros).cast::<f32>().write_bytes(0, self.zero_row);
            let ring = scratch.add(self.scratch.ring).cast::<f32>();
            zero_columns(ring, self.ring.rows, &self.ring.layout, self.middle.w, self.portions.slab);
            self.prepare(memory, x, out, scratch);
            let mut line = lines.start;
            while line < lines.end {
                let (image, y) = (line / height, line % height);
                let rows = y..height.min(y + (lines.end - line));
                line += rows.len();
                if out.layout.columns != [0, 0] && blocks.start == 0 {
                    let first = out.ptr.add(out.row(image, rows.start) - out.layout.origin);
                    zero_columns(first, rows.len(), &out.layout, out.shape.w, out.shape.c.div_ceil(BLOCK));
                }
                self.image(memory, [x, out], Rows { image, rows, blocks: blocks.clone() }, scratch);
            }
        }
    }

    /// Computes rows of an image.
    ///
    /// # Safety
    /// As [`ChainStep::run`]; tables, the row of zeros and the columns of the ring are written.
    unsafe fn image(&self, memory: &Memory<'_>, [x, out]: [BoundTensor; 2], of: Rows, scratch: *mut u8) {
        let Rows { image: n, rows, blocks } = of;
        let slabs = blocks.len().div_ceil(self.portions.slab);
        for outer in 0..if self.alone { slabs } else { 1 } {
            let inner = if self.alone { outer..outer + 1 } else { 0..slabs };
            let mut filled = 0;
            let mut first = rows.start;
            while first < rows.end {
                let group = first..(first + self.portions.group).min(rows.end);
                first = group.end;
                let needed = self.rows_needed(&group);
                for slab in inner.clone() {
                    let slab = share(blocks.len(), slabs, slab);
                    let slab = blocks.start + slab.start..blocks.start + slab.end;
                    let here = Rows { image: n, rows: group.clone(), blocks: slab.clone() };
                    // of another slab, or of another piece, the ring holds nothing
                    let kept = if inner.len() == 1 { needed.start.max(filled) } else { needed.start };
                    // SAFETY: the caller's.
                    unsafe {
                        self.fill_ring(memory, x, n, kept.min(needed.end)..needed.end, slab.clone(), scratch);
                        self.depthwise_rows(memory, x, out, n, &group, slab.clone(), scratch);
                        match (&self.tail, &self.staging[0]) {
                            (Some(tail), _) => self.tail_rows(memory, tail, out, n, &group, slab, scratch),
                            (None, Some(staging)) => staging.store(memory.kernels, out, &here, scratch),
                            (None, None) => {}
                        }
                    }
                }
                filled = filled.max(needed.end);
            }
        }
    }

    /// The rows of the middle tensor that a group of output rows reads.
    fn rows_needed(&self, group: &Range<usize>) -> Range<usize> {
        self.depthwise.op.window.rows_needed(group, self.extent.before[0], self.middle.h)
    }

    /// Writes the tables of pixels that all groups of a piece read, but for those that were written when it was planned.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn prepare(&self, memory: &Memory<'_>, x: BoundTensor, out: BoundTensor, scratch: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            if let Some(head) = &self.head {
                head.prepare(&x.layout, None, None, scratch);
            }
            // the other kernels know their own
            if self.kind == KernelKind::DwConv {
                let pixel = match self.source {
                    RowSource::InPlace | RowSource::Pixels(_) => x.layout.within.pixel,
                    RowSource::Copy | RowSource::Head => self.ring.layout.within.pixel,
                };
                let window = &self.depthwise.op.window;
                for kx in 0..window.kernel[1] {
                    // of a single column the product is read by no tap, and may overflow
                    let offset = (kx * window.dilation[1]).wrapping_mul(pixel);
                    scratch.add(self.scratch.taps).cast::<usize>().add(kx).write(offset);
                }
            }
            if let Some((_, pixels)) = &self.tail {
                pixels.dense.prepare(None, scratch);
                pixels.out.prepare(Some(&out.layout), scratch);
                if let (Some(pixels), Some(r)) = (&pixels.residual, self.ends.residual) {
                    pixels.prepare(Some(&memory.bind(r).layout), scratch);
                }
            }
        }
    }

    /// The ring, as what fills it sees it.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn ring_target(&self, scratch: *mut u8) -> RowTarget {
        RowTarget {
            // SAFETY: the caller's.
            ptr: unsafe { scratch.add(self.scratch.ring).cast::<f32>().add(self.ring.layout.origin) },
            first: 0,
            row: self.ring.layout.row,
            ring: self.ring.rows,
            pixel: BLOCK,
            block: self.ring.layout.within.block,
            whole: true,
        }
    }

    /// Computes or copies rows of the middle tensor.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn fill_ring(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        n: usize,
        rows: Range<usize>,
        slab: Range<usize>,
        scratch: *mut u8,
    ) {
        if rows.is_empty() {
            return;
        }
        // SAFETY: the caller's.
        unsafe {
            let to = self.ring_target(scratch);
            if let Some(head) = &self.head {
                head.run(memory, x, n..n + 1, rows, slab, &to, None, scratch);
            } else if self.source == RowSource::Copy {
                self.copy_rows(memory, x, n, rows, &slab, &to);
            }
        }
    }

    /// Copies rows of the input to the ring.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn copy_rows(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        n: usize,
        rows: Range<usize>,
        slab: &Range<usize>,
        to: &RowTarget,
    ) {
        // output channels of the slab: with a multiplier they need not begin at a whole input channel
        let first = slab.start * BLOCK;
        let channels = first..first + lanes(slab, self.middle.c);
        let (width, multiplier) = (self.middle.w, self.depthwise.op.multiplier);
        for y in rows {
            // SAFETY: the caller's.
            unsafe {
                let out = to.ptr.add(to.at(y));
                match x.layout.order {
                    Order::Planes => {
                        let copy = x.planes(x.row(n, y), width, channels.clone(), out, to.block);
                        (memory.kernels.from_planes)(&FromPlanesArgs { multiplier, ..copy });
                    }
                    Order::Pixels | Order::Blocks => (memory.kernels.block_row)(&BlockRowArgs {
                        x: x.ptr.add(x.row(n, y)),
                        layout: x.layout.within,
                        width,
                        channels: channels.clone(),
                        multiplier,
                        out,
                        out_block: to.block,
                    }),
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
        memory: &Memory<'_>,
        x: BoundTensor,
        out: BoundTensor,
        n: usize,
        group: &Range<usize>,
        slab: Range<usize>,
        scratch: *mut u8,
    ) {
        let window = &self.depthwise.op.window;
        let [kh, kw] = window.kernel;
        let width = self.extent.out[1];
        // SAFETY: the caller's; a pointer is made for every row that a window meets, and rows outside the plane are
        // zeros.
        unsafe {
            let zeros = scratch.add(self.scratch.zeros).cast::<f32>().cast_const();
            let ring = scratch.add(self.scratch.ring).cast::<f32>().cast_const();
            let pointers = scratch.add(self.scratch.row_pointers).cast::<*const f32>();
            let (layout, edges) = match self.source {
                RowSource::InPlace => (x.layout.within, None),
                RowSource::Pixels(edges) => (x.layout.within, Some(edges)),
                _ => (self.ring.layout.within, None),
            };
            let taps = scratch.add(self.scratch.taps).cast::<usize>();
            let row_pointer = |y: Option<usize>| match (y.filter(|&y| y < self.middle.h), self.source) {
                (None, _) => zeros,
                // of a caller's tensor `origin` is 0: a pointer that leaves it could be that of the zeros
                (Some(y), RowSource::InPlace | RowSource::Pixels(_)) => {
                    x.ptr.add(x.row(n, y) - x.layout.origin + slab.start * layout.block).cast_const()
                }
                (Some(y), _) => ring.add(y % self.ring.rows * self.ring.layout.row),
            };
            let kernel = match self.kind {
                KernelKind::DwConv3x3S1 => memory.kernels.dwconv3x3s1,
                KernelKind::DwConv3x3S2 => memory.kernels.dwconv3x3s2,
                KernelKind::DwConv3x3S3 => memory.kernels.dwconv3x3s3,
                _ => memory.kernels.dwconv,
            };
            let channels = lanes(&slab, self.middle.c);
            let target = self.depthwise_target(out, n, group, &slab, scratch);
            let outs = scratch.add(self.scratch.out_pointers).cast::<*mut f32>();
            let mut y = group.start;
            while y < group.end {
                let rows_out = self.portions.rows_at_once.min(group.end - y);
                for i in 0..rows_in(self.kind, window, rows_out) {
                    let step = if self.kind == KernelKind::DwConv { window.dilation[0] } else { 1 };
                    let row = (y * window.stride[0] + i * step).checked_sub(self.extent.before[0]);
                    pointers.add(i).write(row_pointer(row));
                }
                for i in 0..rows_out {
                    outs.add(i).write(target.ptr.add(target.at(y + i)));
                }
                kernel(&DepthwiseArgs {
                    channels,
                    width,
                    rows_out,
                    rows: pointers,
                    x: layout,
                    edges,
                    zeros,
                    w: self.depthwise.op.weights.as_ptr::<f32>().add(slab.start * (1 + kh * kw) * BLOCK),
                    out: outs,
                    out_block: target.block,
                    out_pixel: target.pixel,
                    whole_blocks: target.whole,
                    kernel: window.kernel,
                    stride: window.stride[1],
                    taps,
                    dilation: window.dilation[1],
                    epilogue: self.depthwise.end.epilogue,
                    params: self.depthwise.end.params(slab.start),
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
        out: BoundTensor,
        n: usize,
        group: &Range<usize>,
        slab: &Range<usize>,
        scratch: *mut u8,
    ) -> RowTarget {
        let row = self.extent.out[1] * BLOCK;
        let first = group.start;
        // SAFETY: the caller's.
        unsafe {
            match (&self.tail, &self.staging[0]) {
                (Some(_), _) => RowTarget {
                    ptr: scratch.add(self.scratch.depthwise).cast(),
                    first,
                    row,
                    ring: usize::MAX,
                    pixel: BLOCK,
                    block: group.len() * row,
                    whole: true,
                },
                (None, Some(staging)) => {
                    let rows = Rows { image: n, rows: group.clone(), blocks: slab.clone() };
                    staging.target(&rows, scratch)
                }
                (None, None) => RowTarget::tensor(out, n, slab.start),
            }
        }
    }

    /// Adds a slab to the tail's sums, or finishes them.
    ///
    /// # Safety
    /// As [`ChainStep::run`].
    unsafe fn tail_rows(
        &self,
        memory: &Memory<'_>,
        (tail, pixels): &(ConvStage, TailPixels),
        out: BoundTensor,
        n: usize,
        group: &Range<usize>,
        slab: Range<usize>,
        scratch: *mut u8,
    ) {
        let width = self.extent.out[1];
        let m = group.len() * width;
        let (is_first, is_last) = (slab.start == 0, slab.end == self.middle.c.div_ceil(BLOCK));
        let PackedStage { op: tail, end, .. } = tail;
        let panel_len = (tail.inputs + 1) * BLOCK;
        // SAFETY: the caller's; the tables hold a group's pixels, the partial sums a group's pixels in every panel.
        unsafe {
            let dense = pixels.dense.row(0, scratch);
            let here = Rows { image: n, rows: group.clone(), blocks: 0..tail.outputs.div_ceil(BLOCK) };
            let [of_output, of_residual] = &self.staging;
            let residual = self.ends.residual.filter(|_| is_last).map(|r| match of_residual {
                Some(staging) => staging.load(memory.kernels, memory.bind(r), &here, scratch),
                None => RowTarget::tensor(memory.bind(r), n, 0),
            });
            let residual = residual.as_ref().zip(pixels.residual.as_ref());
            let partial = scratch.add(self.scratch.partial).cast::<f32>();
            let partial_panel = m * BLOCK;
            let (store, epilogue) = if is_last {
                let to = match of_output {
                    Some(staging) => staging.target(&here, scratch),
                    None => RowTarget::tensor(out, n, 0),
                };
                (to.store(group.start, pixels.out.row(0, scratch)), end.epilogue)
            } else {
                (Store { ptr: partial, pixels: dense, panel: partial_panel, whole: true }, Epilogue::NONE)
            };
            let w = tail.weights.as_ptr::<f32>();
            (memory.kernels.pointwise)(&PointwiseArgs {
                m,
                k: lanes(&slab, tail.inputs),
                n: tail.outputs,
                x: scratch.add(self.scratch.depthwise).cast(),
                x_pixels: dense,
                segment: BLOCK,
                x_segment: m * BLOCK,
                w: w.add((1 + slab.start * BLOCK) * BLOCK),
                w_panel: panel_len,
                bias: w,
                partial: if is_first { core::ptr::null() } else { partial },
                partial_panel,
                residual: residual.map(|(r, pixels)| r.residual(group.start, pixels.row(0, scratch))),
                epilogue,
                params: end.params(0),
                store,
            });
            if let (true, Some(staging)) = (is_last, of_output) {
                staging.store(memory.kernels, out, &here, scratch);
            }
        }
    }
}
