//! A depthwise convolution of few channels, run. `plan/flat.rs` says how rows lie.

use core::ops::Range;
use core::ptr::null;

use sepconv_kernels::pack::RowLayout;
use sepconv_kernels::{BLOCK, CHANNEL_PARAMS, DepthwiseArgs};

use super::bind::{BoundTensor, Memory, zero_columns};
use super::columns::Columns;
use crate::plan::{Down, FlatStep, Order, share};

/// The columns of an output row that lie in a section.
struct FlatRow {
    image: usize,
    row: usize,
    columns: Range<usize>,
}

impl FlatStep {
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, memory: &Memory<'_>, piece: usize, scratch: *mut u8) {
        let (x, out) = (memory.bind(self.ends.input), memory.bind(self.ends.output));
        let [_, of_sections] = self.parts;
        let [height, width] = self.extent.out;
        let lines = share(out.shape.n * height, self.parts[0], piece / of_sections);
        let sections = share(width.div_ceil(self.columns), of_sections, piece % of_sections);
        let window = &self.stage.op.window;
        // SAFETY: the caller's, and rows of the ring, tables and pointers are as many as the plan carved; pieces share out rows or columns, so
        // no two write the same value. The one with the first columns writes the columns of zeros beside them.
        unsafe {
            scratch.add(self.scratch.zeros).cast::<f32>().write_bytes(0, self.ring[1]);
            let taps = scratch.add(self.scratch.taps).cast::<usize>();
            for kx in 0..window.kernel[1] {
                taps.add(kx).write(self.phases.at(kx * window.dilation[1]) * self.stage.op.outputs());
            }
            if out.layout.columns != [0, 0] && sections.start == 0 {
                for line in lines.clone() {
                    let first = out.ptr.add(out.row(line / height, line % height) - out.layout.origin);
                    zero_columns(first, 1, &out.layout, width, out.shape.c.div_ceil(BLOCK));
                }
            }
            for section in sections {
                let columns = section * self.columns..width.min((section + 1) * self.columns);
                if let Some(down) = &self.down {
                    self.down(memory, [x, out], down, lines.clone(), columns, scratch);
                    continue;
                }
                // the image and the row that the ring has come to
                let mut filled = [usize::MAX, 0];
                for line in lines.clone() {
                    let section = FlatRow { image: line / height, row: line % height, columns: columns.clone() };
                    if filled[0] != section.image {
                        filled = [section.image, 0];
                    }
                    filled[1] = self.fill_ring(memory, x, &section, filled[1], scratch);
                    self.compute(memory, [x, out], &section, scratch);
                }
            }
        }
    }

    /// Computes a section of some rows of all images, by calls that go down rows.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn down(
        &self,
        memory: &Memory<'_>,
        [x, out]: [BoundTensor; 2],
        down: &Down,
        lines: Range<usize>,
        columns: Range<usize>,
        scratch: *mut u8,
    ) {
        let depthwise = &*self.stage.op;
        let (window, channels) = (&depthwise.window, depthwise.outputs());
        let values = columns.len() * channels;
        let (height, [_, len]) = (self.extent.out[0], self.ring);
        let read = self.columns_read(&columns);
        // SAFETY: the caller's; a call has no more rows than the plan says, and the ring has all rows that these read.
        unsafe {
            let weights = self.weights_of_lanes(down, values, scratch);
            let params = self.params_of_lanes(down, values, scratch);
            let ring = scratch.add(self.scratch.ring).cast::<f32>();
            let rows = scratch.add(self.scratch.rows).cast::<*const f32>();
            let mut line = lines.start;
            while line < lines.end {
                let (image, y) = (line / height, line % height);
                let count = down.rows.min(height - y).min(lines.end - line);
                line += count;
                for i in 0..(count - 1) * window.stride[0] + window.reach(0) {
                    let to = ring.add(i * len);
                    let row = (y * window.stride[0] + i).checked_sub(self.extent.before[0]);
                    match row.filter(|&row| row < x.shape.h) {
                        None => to.write_bytes(0, len),
                        Some(row) => x.copy_columns(memory.kernels, x.row(image, row), &read, depthwise.multiplier, to),
                    }
                }
                for ky in 0..window.kernel[0] {
                    rows.add(ky).write(ring.add(ky * window.dilation[0] * len));
                }
                let (to, together) = self.target(out, [image, y], columns.start, scratch);
                let out_pixel = if together { out.layout.row } else { values };
                self.call(memory, [values, count], [len, out_pixel], window.stride[0], [weights, params], to, scratch);
                if !together {
                    for i in 0..count {
                        out.scatter(to.add(i * values), image, y + i, columns.clone());
                    }
                }
            }
        }
    }

    /// The input columns that output columns read.
    fn columns_read(&self, columns: &Range<usize>) -> Columns {
        let first = columns.start * self.stage.op.window.stride[1];
        Columns { first, before: self.extent.before[1], phases: self.phases }
    }

    /// Where columns from `column` on of row `y` of image `n` are computed to, and whether that is the output: pixels that lie together.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn target(&self, out: BoundTensor, [n, y]: [usize; 2], column: usize, scratch: *mut u8) -> (*mut f32, bool) {
        let channels = self.stage.op.outputs();
        let together = out.layout.order == Order::Pixels && out.layout.within.pixel == channels;
        // SAFETY: the caller's.
        let to = unsafe {
            if together { out.ptr.add(out.row(n, y) + column * channels) } else { scratch.add(self.scratch.out).cast() }
        };
        (to, together)
    }

    /// Calls the kernel for `width` pixels of so many lanes, so many values apart in the input and in the output, with weights and parameters
    /// of these lanes. Pointers to the rows are written.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn call(
        &self,
        memory: &Memory<'_>,
        [lanes, width]: [usize; 2],
        [pixel, out_pixel]: [usize; 2],
        stride: usize,
        [weights, params]: [*const f32; 2],
        to: *mut f32,
        scratch: *mut u8,
    ) {
        // SAFETY: the caller's.
        unsafe {
            (memory.kernels.dwconv)(&DepthwiseArgs {
                channels: lanes,
                width,
                rows_out: 1,
                rows: scratch.add(self.scratch.rows).cast(),
                x: RowLayout { block: BLOCK, pixel },
                edges: None,
                zeros: scratch.add(self.scratch.zeros).cast(),
                w: weights,
                out: &raw const to,
                out_block: BLOCK,
                out_pixel,
                whole_blocks: false,
                kernel: self.stage.op.window.kernel,
                stride,
                taps: scratch.add(self.scratch.taps).cast(),
                dilation: 1,
                epilogue: self.stage.end.epilogue,
                params,
            });
        }
    }

    /// Writes weights for each lane of a section of `values` values.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn weights_of_lanes(&self, down: &Down, values: usize, scratch: *mut u8) -> *const f32 {
        let [kh, kw] = self.stage.op.window.kernel;
        // unreached: only operators with flat weights are planned so
        let Some(flat) = &self.stage.op.flat else { unreachable!("flat rows without flat weights") };
        let (blocks, len) = (flat.lanes / BLOCK, (kh * kw + 1) * BLOCK);
        // SAFETY: the caller's; the plan carved blocks for the longest section, and flat weights have blocks for their lanes.
        unsafe {
            let to = scratch.add(down.weights).cast::<f32>();
            for block in 0..values.div_ceil(BLOCK) {
                let from = flat.weights.as_ptr::<f32>().add(block % blocks * len);
                core::ptr::copy_nonoverlapping(from, to.add(block * len), len);
            }
            to
        }
    }

    /// Writes the parameters of an activation by channel for each lane of a section of `values` values; null where there are none.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn params_of_lanes(&self, down: &Down, values: usize, scratch: *mut u8) -> *const f32 {
        let (Some(flat), Some(params)) = (&self.stage.op.flat, &self.stage.end.params) else { return null() };
        let (from, blocks) = (params.values.as_ptr::<f32>(), flat.lanes / BLOCK);
        // SAFETY: the caller's; the plan carved blocks for the longest section, and parameters are packed for the lanes of flat weights.
        unsafe {
            let to = scratch.add(down.params).cast::<f32>();
            for block in 0..values.div_ceil(BLOCK) {
                let from = from.add(block % blocks * CHANNEL_PARAMS);
                core::ptr::copy_nonoverlapping(from, to.add(block * CHANNEL_PARAMS), CHANNEL_PARAMS);
            }
            to
        }
    }

    /// Copies the rows that a section of an output row reads to the ring, but for those before row `filled`. Returns the end of its rows.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn fill_ring(
        &self,
        memory: &Memory<'_>,
        x: BoundTensor,
        section: &FlatRow,
        filled: usize,
        scratch: *mut u8,
    ) -> usize {
        let depthwise = &*self.stage.op;
        let window = &depthwise.window;
        let [rows, len] = self.ring;
        let needed = window.rows_needed(&(section.row..section.row + 1), self.extent.before[0], x.shape.h);
        let columns = self.columns_read(&section.columns);
        // SAFETY: the caller's; a row of the ring has room for the columns of all phases.
        unsafe {
            let ring = scratch.add(self.scratch.ring).cast::<f32>();
            for y in needed.start.max(filled)..needed.end {
                let to = ring.add(y % rows * len);
                x.copy_columns(memory.kernels, x.row(section.image, y), &columns, depthwise.multiplier, to);
            }
        }
        needed.end.max(filled)
    }

    /// Computes a section of an output row.
    ///
    /// # Safety
    /// As [`FlatStep::run`]; the ring has its rows.
    unsafe fn compute(&self, memory: &Memory<'_>, [x, out]: [BoundTensor; 2], section: &FlatRow, scratch: *mut u8) {
        let depthwise = &*self.stage.op;
        let (window, channels) = (&depthwise.window, depthwise.outputs());
        // unreached: only operators with flat weights are planned so
        let Some(flat) = &depthwise.flat else { unreachable!("flat rows without flat weights") };
        let values = section.columns.len() * channels;
        // SAFETY: the caller's; a vector of the last pixel reads up to a block behind the last column.
        unsafe {
            let (to, together) = self.target(out, [section.image, section.row], section.columns.start, scratch);
            let rows = scratch.add(self.scratch.rows).cast::<*const f32>();
            let whole = values / flat.lanes;
            // whole pixels of the kernel, and the rest of the last one
            for (first, width, lanes) in [(0, whole, flat.lanes), (whole * flat.lanes, 1, values % flat.lanes)] {
                if width == 0 || lanes == 0 {
                    continue;
                }
                for ky in 0..window.kernel[0] {
                    rows.add(ky).write(self.input_row(x.shape.h, section, ky, scratch).add(first));
                }
                let pixels = [flat.lanes; 2];
                let packed = [flat.weights.as_ptr(), self.stage.end.params(0)];
                self.call(memory, [lanes, width], pixels, 1, packed, to.add(first), scratch);
            }
            if !together {
                out.scatter(to, section.image, section.row, section.columns.clone());
            }
        }
    }

    /// The row of the ring that row `ky` of a window reads, or the row of zeros, of `height` rows of input.
    ///
    /// # Safety
    /// As [`FlatStep::run`].
    unsafe fn input_row(&self, height: usize, section: &FlatRow, ky: usize, scratch: *const u8) -> *const f32 {
        let window = &self.stage.op.window;
        let y = (section.row * window.stride[0] + ky * window.dilation[0]).checked_sub(self.extent.before[0]);
        let [rows, len] = self.ring;
        // SAFETY: the caller's.
        unsafe {
            match y.filter(|&y| y < height) {
                None => scratch.add(self.scratch.zeros).cast(),
                Some(y) => scratch.add(self.scratch.ring).cast::<f32>().add(y % rows * len),
            }
        }
    }
}
