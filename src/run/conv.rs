//! A standard convolution, run: rows of it for another step, and one from tensor to tensor. `plan/conv.rs` has its layouts.

use core::ops::Range;

use sepconv_kernels::{BLOCK, PointwiseArgs, Residual, Store};

use super::bind::{BoundTensor, Memory, RowTarget, zero_columns};
use super::columns::Columns;
use super::staging::Rows;
use crate::plan::{ConvRows, ConvStep, Phases, Taps, TensorLayout, lanes, share};

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
                let (source, segment, x_segment) = match self.taps {
                    Taps::InPlace => {
                        let together = x.layout.within.block == BLOCK;
                        let source = x.ptr.add(x.row(images.start, first * conv.window.stride[0])).cast_const();
                        (source, if together { k } else { BLOCK }, x.layout.within.block)
                    }
                    Taps::Planes => {
                        let (pixels, block) = self.copy_planes(memory, x, images.start, &group, scratch);
                        (pixels, BLOCK, block)
                    }
                    Taps::Window(phases) => {
                        let (window, row) = self.copy_window(memory, x, images.clone(), &group, phases, scratch);
                        (window, conv.window.kernel[1] * conv.inputs, conv.window.dilation[0] * row)
                    }
                    Taps::Gathered => (self.gather(memory, x, images.clone(), &group, scratch), k, 0),
                };
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
                    (memory.kernels.pointwise)(&PointwiseArgs {
                        m: images.len() * group.len() * columns,
                        k,
                        n: outputs,
                        x: source.add(column * conv.window.stride[1] * x.layout.within.pixel),
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
                        epilogue: self.stage.epilogue,
                        store: Store { ptr: store.ptr.add(column * to.pixel), ..store },
                    });
                }
            }
            first = group.end;
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

    /// Copies the input rows that a group of output rows of each image reads, dense and padded, in `phases`. Returns them and the length
    /// of one.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn copy_window(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        images: Range<usize>,
        group: &Range<usize>,
        phases: Phases,
        scratch: *mut u8,
    ) -> (*const f32, usize) {
        let conv = &*self.stage.op;
        let c = conv.inputs;
        let row_len = phases.count * phases.len * c;
        let columns = Columns { first: 0, before: self.extent.before[1], phases };
        // SAFETY: the window holds `rows_read` rows of each image, of the pixels of all phases.
        unsafe {
            let window = scratch.add(self.window).cast::<f32>();
            let rows = conv.rows_read(group.len());
            for (at, n, i) in images.enumerate().flat_map(|(at, n)| (0..rows).map(move |i| (at * rows + i, n, i))) {
                let to = window.add(at * row_len);
                let y = (group.start * conv.window.stride[0] + i).checked_sub(self.extent.before[0]);
                let Some(y) = y.filter(|&y| y < self.input.h) else {
                    to.write_bytes(0, row_len);
                    continue;
                };
                x.copy_columns(memory.kernels, x.row(n, y), &columns, 1, to);
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
