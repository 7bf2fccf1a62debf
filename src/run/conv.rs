//! A standard convolution, run: rows of it for another step, and one from tensor to tensor. `plan/conv.rs` has its layouts.

use core::ops::Range;

use sepconv_kernels::{BLOCK, PointwiseArgs, Residual, Store};

use super::bind::{BoundTensor, Memory, RowTarget, zero_columns};
use super::columns::Columns;
use super::staging::Rows;
use crate::plan::{ConvRows, ConvStep, Taps, TensorLayout, lanes, share};

impl ConvRows {
    /// Writes the tables of pixels that the plan did not keep, once for a piece.
    ///
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn prepare(
        &self,
        x: &TensorLayout,
        out: Option<&TensorLayout>,
        residual: Option<&TensorLayout>,
        scratch: *mut u8,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.x_pixels.prepare(Some(x), scratch);
            self.out_pixels.prepare(out, scratch);
            if let Some(pixels) = &self.residual_pixels {
                pixels.prepare(residual, scratch);
            }
        }
    }

    /// Computes output rows `rows` of some images in the panels `panels`: all rows, where there are several images.
    ///
    /// # Safety
    /// As [`super::Step::run`]; [`ConvRows::prepare`] wrote the tables for these layouts; `to` has room for those rows and
    /// panels, and `residual` has them too, the first of the panels of the first image first. There are at most as many images as the
    /// plan said.
    pub(super) unsafe fn run(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        images: Range<usize>,
        rows: Range<usize>,
        panels: Range<usize>,
        to: &RowTarget,
        residual: Option<&RowTarget>,
        scratch: *mut u8,
    ) {
        let conv = &*self.stage.op;
        let (k, width) = (conv.k(), self.extent.out[1]);
        let panel_len = (k + 1) * BLOCK;
        let outputs = lanes(&panels, conv.outputs);
        let rings = to.ring != usize::MAX;
        let most = if rings { self.group.min(to.ring) } else { self.group };
        let mut first = rows.start;
        while first < rows.end {
            let group = first..(first + most).min(rows.end);
            // SAFETY: offsets are those of pixels and channels of tensors that the plan was made for, tables and
            // windows have the sizes that `new` carved.
            unsafe {
                let store = if rings {
                    // rows of a ring may begin at any of its rows and go on with the first
                    to.store(to.first, self.out_pixels.row(first % to.ring, scratch))
                } else {
                    to.store(first, self.out_pixels.row(0, scratch))
                };
                let residual = residual.zip(self.residual_pixels.as_ref());
                let w = conv.weights.as_ptr::<f32>().add(panels.start * panel_len);
                // all columns, unless a row is too long for one call
                for column in (0..width).step_by(self.columns) {
                    let columns = self.columns.min(width - column);
                    let (source, segment, x_segment) =
                        self.source(memory, x, &images, &group, column..column + columns, scratch);
                    (memory.kernels.pointwise)(&PointwiseArgs {
                        m: images.len() * group.len() * columns,
                        k,
                        n: outputs,
                        x: source,
                        x_pixels: self.x_pixels.row(0, scratch),
                        segment,
                        x_segment,
                        w: w.add(BLOCK),
                        w_panel: panel_len,
                        bias: w,
                        partial: core::ptr::null(),
                        partial_panel: 0,
                        residual: residual.map(|(r, pixels)| {
                            let row = r.residual(first, pixels.row(0, scratch));
                            Residual { ptr: row.ptr.add(column * r.pixel), ..row }
                        }),
                        epilogue: self.stage.end.epilogue,
                        params: self.stage.end.params(panels.start),
                        store: Store { ptr: store.ptr.add(column * to.pixel), ..store },
                    });
                }
            }
            first = group.end;
        }
    }

    /// The first tap of the first pixel of some columns of a group of each image, the values of a segment of taps, and the values from one
    /// segment to the next. Taps are copied to scratch, unless they are read in place. There are fewer columns than a row has only of
    /// one row that is read in place or is copied as a window.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn source(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        images: &Range<usize>,
        group: &Range<usize>,
        columns: Range<usize>,
        scratch: *mut u8,
    ) -> (*const f32, usize, usize) {
        let conv = &*self.stage.op;
        // SAFETY: the caller's.
        unsafe {
            match self.taps {
                Taps::InPlace => {
                    let TensorLayout { within, .. } = x.layout;
                    let [sy, sx] = conv.window.stride;
                    let source = x.ptr.add(x.row(images.start, group.start * sy) + columns.start * sx * within.pixel);
                    (source, if within.block == BLOCK { conv.inputs } else { BLOCK }, within.block)
                }
                Taps::Planes => {
                    let (pixels, block) = self.copy_planes(memory, x, images.start, group, scratch);
                    (pixels, BLOCK, block)
                }
                Taps::Window => {
                    let (window, row) = self.copy_window(memory, x, images.clone(), group, columns, scratch);
                    let [segment, apart] = conv.segments(row);
                    (window, segment, apart)
                }
                Taps::Gathered => (self.gather(memory, x, images.clone(), group, scratch), conv.k(), 0),
            }
        }
    }

    /// Copies the pixels of planes that a group of output rows of a 1×1 convolution reads to channel blocks. Returns them and the
    /// length of a block.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn copy_planes(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        n: usize,
        group: &Range<usize>,
        scratch: *mut u8,
    ) -> (*const f32, usize) {
        let conv = &*self.stage.op;
        let [stride, _] = conv.window.stride;
        let width = conv.columns_read(self.extent.out[1]);
        let block = conv.rows_read(group.len()) * width * BLOCK;
        let blocks = 0..conv.inputs.div_ceil(BLOCK);
        // SAFETY: the blocks hold `rows_read × columns_read` pixels, which are in the input as well.
        unsafe {
            let pixels = scratch.add(self.window).cast::<f32>();
            let x = x.of_columns(width);
            if stride == 1 {
                let rows = Rows { image: n, rows: group.clone(), blocks };
                x.copy_rows(memory.kernels, &rows, pixels, block);
            } else {
                // a stride passes over rows
                for (i, y) in group.clone().enumerate() {
                    let row = Rows { image: n, rows: y * stride..y * stride + 1, blocks: blocks.clone() };
                    let to = pixels.add(i * stride * width * BLOCK);
                    x.copy_rows(memory.kernels, &row, to, block);
                }
            }
            (pixels, block)
        }
    }

    /// Copies what some columns of a group of output rows of each image read of the input rows, dense and padded. Returns these rows and
    /// the length of one.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn copy_window(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        images: Range<usize>,
        group: &Range<usize>,
        columns: Range<usize>,
        scratch: *mut u8,
    ) -> (*const f32, usize) {
        let conv = &*self.stage.op;
        let phases = conv.phases(self.columns);
        let row_len = phases.count * phases.len * conv.inputs;
        let columns = Columns { first: columns.start * conv.window.stride[1], before: self.extent.before[1], phases };
        // SAFETY: the window holds `rows_read` rows of each image, of the pixels of all phases.
        unsafe {
            let window = scratch.add(self.window).cast::<f32>();
            let rows = conv.rows_read(group.len());
            for (at, n, i) in images.enumerate().flat_map(|(at, n)| (0..rows).map(move |i| (at * rows + i, n, i))) {
                let to = window.add(at * row_len);
                let y = (group.start * conv.window.stride[0] + i).checked_sub(self.extent.before[0]);
                match y.filter(|&y| y < self.input.h) {
                    None => to.write_bytes(0, row_len),
                    Some(y) => x.copy_columns(memory.kernels, x.row(n, y), &columns, 1, to),
                }
            }
            (window, row_len)
        }
    }

    /// Gathers the taps of every pixel of a group of each image, zeros for padding.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn gather(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        images: Range<usize>,
        group: &Range<usize>,
        scratch: *mut u8,
    ) -> *const f32 {
        let conv = &*self.stage.op;
        let ([kh, kw], c) = (conv.window.kernel, conv.inputs);
        let ([sy, sx], [dy, dx]) = (conv.window.stride, conv.window.dilation);
        let [top, left] = self.extent.before;
        // SAFETY: `to` runs over images × group × width × k values, which `new` carved; taps are checked to be in the input.
        unsafe {
            let gathered = scratch.add(self.window).cast::<f32>();
            let mut to = gathered;
            for (n, oy) in images.flat_map(|n| group.clone().map(move |oy| (n, oy))) {
                for ox in 0..self.extent.out[1] {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let y = (oy * sy + ky * dy).checked_sub(top).filter(|&y| y < self.input.h);
                            let px = (ox * sx + kx * dx).checked_sub(left).filter(|&x| x < self.input.w);
                            match (y, px) {
                                (Some(y), Some(px)) => {
                                    let from = x.row(n, y) + px * x.layout.within.pixel;
                                    x.copy_pixels(memory.kernels, from, 1, 1, 1, to);
                                }
                                _ => to.write_bytes(0, c),
                            }
                            to = to.add(c);
                        }
                    }
                }
            }
            gathered
        }
    }
}

impl ConvStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
        let residual = self.ends.residual.map(|r| memory.bind(r));
        let panels = share(self.rows.stage.op.outputs.div_ceil(BLOCK), self.parts.panels, piece % self.parts.panels);
        let height = self.rows.extent.out[0];
        let lines = share(x.shape.n * height, self.parts.rows, piece / self.parts.panels);
        // SAFETY: the caller's; pieces share out rows and panels, so no two write the same value.
        unsafe {
            self.rows.prepare(&x.layout, Some(&out.layout), residual.as_ref().map(|r| &r.layout), scratch);
            let [of_output, of_residual] = &self.staging;
            // staged rows come a group at a time
            let staged = of_output.is_some() || of_residual.is_some();
            let most = if staged { self.rows.group } else { usize::MAX };
            let mut line = lines.start;
            while line < lines.end {
                let (n, y) = (line / height, line % height);
                let left = lines.end - line;
                // some whole images, or some rows of one
                let images = if y == 0 { n..n + (left / height).clamp(1, self.rows.images) } else { n..n + 1 };
                let end = height.min(y + left.min(most));
                let here = Rows { image: n, rows: y..end, blocks: panels.clone() };
                line += images.len() * here.rows.len();
                if panels.start == 0 && out.layout.columns != [0, 0] {
                    for n in images.clone() {
                        let first = out.ptr.add(out.row(n, y) - out.layout.origin);
                        zero_columns(first, here.rows.len(), &out.layout, out.shape.w, out.shape.c.div_ceil(BLOCK));
                    }
                }
                let residual = residual.map(|r| match of_residual {
                    Some(staging) => staging.load(memory.kernels, r, &here, scratch),
                    None => RowTarget::tensor(r, n, panels.start),
                });
                let to = match of_output {
                    Some(staging) => staging.target(&here, scratch),
                    None => RowTarget::tensor(out, n, panels.start),
                };
                self.rows.run(memory, x, images, here.rows.clone(), panels.clone(), &to, residual.as_ref(), scratch);
                if let Some(staging) = of_output {
                    staging.store(memory.kernels, out, &here, scratch);
                }
            }
        }
    }
}
