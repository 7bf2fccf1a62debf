//! A standard convolution on the pointwise microkernel, 1×1 included: taps are segments of `k`, found by offsets.
//!
//! ```text
//!   1×1, no padding    pixels are read where they lie
//!   k×k                the input rows of a group of output rows are copied once, dense and with their padding; the taps of a
//!                      kernel row then lie together, and each kernel row is a segment
//!   dilated columns    the taps of each pixel of a group are gathered: one segment
//! ```

use core::ops::Range;

use sepconv_kernels::pack::{RowLayout, dense_row};
use sepconv_kernels::{BLOCK, PointwiseArgs};

use super::cost::Thresholds;
use super::legal::{Chain, Misfit, STAGES};
use super::{Bound, Conv, Ends, Layout, PixelTable, Run, Tensor, busiest, lanes, rows_within, share, zero_columns};
use crate::memory::{Arc, Carver, product};
use crate::shape::Extent;
use crate::{Result, Shape};

/// How taps are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taps {
    InPlace,
    Window,
    Gathered,
}

/// Computes rows of a convolution, some panels at a time, to wherever its caller wants them.
#[derive(Debug)]
pub(super) struct ConvRows {
    pub(super) conv: Arc<Conv>,
    pub(super) input: Shape,
    pub(super) extent: Extent,
    taps: Taps,
    /// Output rows of one call of the kernel.
    group: usize,
    x_pixels: PixelTable,
    out_pixels: PixelTable,
    residual_pixels: Option<PixelTable>,
    window: usize,
}

/// What rows are computed to.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Of(&'a Tensor),
    /// A ring of so many rows.
    Ring(Layout, usize),
}

/// Where the rows of one image go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// The first pixel of the first row, in the first of the panels asked for.
    pub(super) ptr: *mut f32,
    /// From one row to the next.
    pub(super) row: usize,
    /// Rows after which the first comes again, or `usize::MAX`.
    pub(super) ring: usize,
    /// From one pixel to the next.
    pub(super) pixel: usize,
    /// From one panel to the next.
    pub(super) block: usize,
    /// Whether there is room for 16 channels in every panel.
    pub(super) whole: bool,
}

impl Target {
    /// The rows of image `n` of a tensor, from channel block `block` on.
    ///
    /// # Safety
    /// The tensor has that image and block.
    pub(super) unsafe fn tensor(out: Bound, n: usize, block: usize) -> Target {
        let Layout { row, within: RowLayout { block: from_block, pixel }, whole, .. } = out.layout;
        // SAFETY: the caller's.
        let ptr = unsafe { out.ptr.add(out.row(n, 0) + block * from_block) };
        Target { ptr, row, ring: usize::MAX, pixel, block: from_block, whole }
    }

    /// The offset of row `y` from `ptr`.
    pub(super) fn at(&self, y: usize) -> usize {
        y % self.ring * self.row
    }
}

impl ConvRows {
    /// Rows of `conv` over `input` to `out`, with `residual` added; its scratch is carved from the worker's. `budget` is the
    /// number of values that the input of one kernel call may take.
    pub(super) fn new(
        conv: Arc<Conv>,
        x: &Tensor,
        out: Rows<'_>,
        residual: Option<&Tensor>,
        budget: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<ConvRows> {
        let (input, most) = (x.shape, thresholds.planned_offsets);
        let extent = conv.window.over([input.h, input.w])?;
        let [kh, kw] = conv.window.kernel;
        let taps = if kh * kw == 1 && extent.before == [0, 0] && extent.after == [0, 0] {
            Taps::InPlace
        } else if conv.window.dilation[1] == 1 {
            Taps::Window
        } else {
            Taps::Gathered
        };
        let width = extent.out[1];
        // Windows overlap: of a window that is copied, an output row adds what its stride passes. By the values of all
        // taps a group would be a single row where channels are many, and every group reads all weights.
        let values = match taps {
            Taps::Window => {
                product(&[width, conv.window.stride[0].min(kh), conv.window.stride[1].min(kw), conv.inputs])?
            }
            _ => product(&[width, conv.k()])?,
        };
        let group = rows_within(budget, values, extent.out[0]);
        let (k, columns) = (conv.k(), window_columns(&conv, width));
        let window = match taps {
            Taps::InPlace => 0,
            Taps::Window => product(&[window_rows(&conv, group), columns, conv.inputs])?,
            Taps::Gathered => product(&[group, width, k])?,
        };
        let dense = |w, c| Layout::nhwc(Shape { n: 1, h: group, w, c }, c);
        let x_pixels = match taps {
            Taps::InPlace => PixelTable::of(x, group, width, conv.window.stride, most, scratch)?,
            Taps::Window => {
                PixelTable::within(dense(columns, conv.inputs), group, width, conv.window.stride, most, scratch)?
            }
            Taps::Gathered => PixelTable::within(dense(width, k), group, width, [1, 1], most, scratch)?,
        };
        let out_pixels = match out {
            Rows::Of(out) => PixelTable::of(out, group, width, [1, 1], most, scratch)?,
            Rows::Ring(layout, rows) => PixelTable::of_ring(layout, rows, width, most, scratch)?,
        };
        let of_residual = |residual| PixelTable::of(residual, group, width, [1, 1], most, scratch);
        let residual_pixels = residual.map(of_residual).transpose()?;
        let window = scratch.floats(window)?;
        Ok(ConvRows { taps, group, x_pixels, out_pixels, residual_pixels, window, conv, input, extent })
    }

    /// Writes the tables of pixels that depend on the caller's tensors, once for a piece. The layout of a ring is known.
    ///
    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn prepare(
        &self,
        x: &Layout,
        out: Option<&Layout>,
        residual: Option<&Layout>,
        scratch: *mut f32,
    ) {
        let x = (self.taps == Taps::InPlace).then_some(x);
        // SAFETY: the caller's.
        unsafe {
            self.x_pixels.prepare(x, scratch);
            self.out_pixels.prepare(out, scratch);
            if let Some(pixels) = &self.residual_pixels {
                pixels.prepare(residual, scratch);
            }
        }
    }

    /// Computes output rows `rows` of image `n` in the panels `panels`.
    ///
    /// # Safety
    /// As [`super::Step::run`]; [`ConvRows::prepare`] wrote the tables for these layouts; `to` has room for those rows and
    /// panels, and `residual` is of the output's shape.
    pub(super) unsafe fn run(
        &self,
        run: &Run<'_>,
        x: Bound,
        n: usize,
        rows: Range<usize>,
        panels: Range<usize>,
        to: &Target,
        residual: Option<Bound>,
        scratch: *mut f32,
    ) {
        let conv = &*self.conv;
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
                        let source = x.ptr.add(x.row(n, first * conv.window.stride[0])).cast_const();
                        (source, if together { k } else { BLOCK }, x.layout.within.block)
                    }
                    Taps::Window => {
                        let (window, row) = self.copy_window(x, n, &group, scratch);
                        (window, conv.window.kernel[1] * conv.inputs, conv.window.dilation[0] * row)
                    }
                    Taps::Gathered => (self.gather(x, n, &group, scratch), k, 0),
                };
                // rows of a ring may begin at any of its rows and go on with the first
                let (out, first_out) = if rings { (to.ptr, first % to.ring) } else { (to.ptr.add(to.at(first)), 0) };
                let residual_ptr =
                    |r: Bound| r.ptr.add(r.row(n, first) + panels.start * r.layout.within.block).cast_const();
                let residual_pixels = match &self.residual_pixels {
                    Some(pixels) => pixels.row(0, scratch),
                    None => core::ptr::null(),
                };
                let w = conv.weights.as_ptr().add(panels.start * panel_len);
                (run.kernels.pointwise)(&PointwiseArgs {
                    m: group.len() * width,
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
                    residual: residual.map_or(core::ptr::null(), residual_ptr),
                    residual_pixels,
                    residual_panel: residual.map_or(0, |r| r.layout.within.block),
                    out,
                    out_pixels: self.out_pixels.row(first_out, scratch),
                    out_panel: to.block,
                    whole_blocks: to.whole,
                    residual_whole: residual.is_some_and(|r| r.layout.whole),
                    clamp: conv.clamp,
                });
            }
            first = group.end;
        }
    }

    /// Copies the input rows that a group of output rows reads, dense and padded. Returns them and the length of one.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn copy_window(&self, x: Bound, n: usize, group: &Range<usize>, scratch: *mut f32) -> (*const f32, usize) {
        let conv = &*self.conv;
        let c = conv.inputs;
        let columns = window_columns(conv, self.extent.out[1]);
        let row_len = columns * c;
        let left = self.extent.before[1].min(columns);
        let copied = self.input.w.min(columns - left);
        // SAFETY: the window holds `window_rows × columns` pixels; `copied` columns are in the input as well.
        unsafe {
            let window = scratch.add(self.window);
            for i in 0..window_rows(conv, group.len()) {
                let to = window.add(i * row_len);
                let y = (group.start * conv.window.stride[0] + i).checked_sub(self.extent.before[0]);
                match y.filter(|&y| y < self.input.h) {
                    None => to.write_bytes(0, row_len),
                    Some(y) => {
                        to.write_bytes(0, left * c);
                        dense_row(x.ptr.add(x.row(n, y)), x.layout.within, to.add(left * c), copied, c);
                        to.add((left + copied) * c).write_bytes(0, (columns - left - copied) * c);
                    }
                }
            }
            (window, row_len)
        }
    }

    /// Gathers the taps of every pixel of a group, zeros for padding.
    ///
    /// # Safety
    /// As [`ConvRows::run`].
    unsafe fn gather(&self, x: Bound, n: usize, group: &Range<usize>, scratch: *mut f32) -> *const f32 {
        let conv = &*self.conv;
        let ([kh, kw], c) = (conv.window.kernel, conv.inputs);
        let ([sy, sx], [dy, dx]) = (conv.window.stride, conv.window.dilation);
        let [top, left] = self.extent.before;
        // SAFETY: `to` runs over group × width × k values, which `new` carved; taps are checked to be in the input.
        unsafe {
            let gathered = scratch.add(self.window);
            let mut to = gathered;
            for oy in group.clone() {
                for ox in 0..self.extent.out[1] {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let y = (oy * sy + ky * dy).checked_sub(top).filter(|&y| y < self.input.h);
                            let px = (ox * sx + kx * dx).checked_sub(left).filter(|&x| x < self.input.w);
                            match (y, px) {
                                (Some(y), Some(px)) => {
                                    let from = x.ptr.add(x.row(n, y) + px * x.layout.within.pixel);
                                    dense_row(from, x.layout.within, to, 1, c);
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

/// Input rows that `rows` output rows read.
fn window_rows(conv: &Conv, rows: usize) -> usize {
    (rows - 1) * conv.window.stride[0] + conv.window.reach(0)
}

/// Input columns that a row of `width` output pixels reads.
fn window_columns(conv: &Conv, width: usize) -> usize {
    (width - 1) * conv.window.stride[1] + conv.window.reach(1)
}

/// A convolution from tensor to tensor.
#[derive(Debug)]
pub(crate) struct ConvStep {
    rows: ConvRows,
    ends: Ends,
    /// How pixels are shared out: parts of the rows of all images, times parts of the panels.
    row_parts: usize,
    panel_parts: usize,
}

impl ConvStep {
    /// A step of a convolution alone, or an error where it does not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        tensors: &[Tensor],
        ends: Ends,
        workers: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<ConvStep> {
        chain.over(tensors, &ends)?;
        let (Some(conv), None) = (chain.head().cloned(), chain.depthwise()) else {
            return Err(Misfit::Order.named(STAGES));
        };
        let (x, out) = (&tensors[ends.input], Rows::Of(&tensors[ends.output]));
        let residual = ends.residual.map(|r| &tensors[r]);
        let rows = ConvRows::new(conv, x, out, residual, thresholds.group_values, thresholds, scratch)?;
        let (lines, panels) = (x.shape.n * rows.extent.out[0], rows.conv.outputs.div_ceil(BLOCK));
        let (row_parts, panel_parts) = if workers == 1 {
            (1, 1)
        } else if busiest(lines, workers) <= busiest(panels, workers) {
            (workers.min(lines), 1)
        } else {
            (1, workers.min(panels))
        };
        Ok(ConvStep { rows, ends, row_parts, panel_parts })
    }

    pub(super) fn pieces(&self) -> usize {
        self.row_parts * self.panel_parts
    }

    /// # Safety
    /// As [`super::Step::run`].
    pub(super) unsafe fn run(&self, run: &Run<'_>, piece: usize, scratch: *mut f32) {
        let (x, out) = (run.bind(self.ends.input), run.bind(self.ends.output));
        let residual = self.ends.residual.map(|r| run.bind(r));
        let panels = share(self.rows.conv.outputs.div_ceil(BLOCK), self.panel_parts, piece % self.panel_parts);
        let height = self.rows.extent.out[0];
        let lines = share(x.shape.n * height, self.row_parts, piece / self.panel_parts);
        // SAFETY: the caller's; pieces share out rows and panels, so no two write the same value.
        unsafe {
            self.rows.prepare(&x.layout, Some(&out.layout), residual.as_ref().map(|r| &r.layout), scratch);
            let mut line = lines.start;
            while line < lines.end {
                let (n, y) = (line / height, line % height);
                let rows = y..height.min(y + lines.end - line);
                line += rows.len();
                if panels.start == 0 && out.layout.columns != [0, 0] {
                    let first = out.ptr.add(out.row(n, y) - out.layout.origin);
                    zero_columns(first, rows.len(), &out.layout, out.shape.w, out.shape.c.div_ceil(BLOCK));
                }
                let to = Target::tensor(out, n, panels.start);
                self.rows.run(run, x, n, rows, panels.clone(), &to, residual, scratch);
            }
        }
    }
}
