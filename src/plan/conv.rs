//! A standard convolution on the pointwise microkernel, planned: taps are segments of `k`, found by offsets.
//!
//! ```text
//!   1×1, no padding    pixels are read where they lie; of a caller's planes, groups of rows are transposed to channel blocks
//!   k×k                the input rows of a group of output rows are copied once, dense and with their padding; columns that are a
//!                      dilation apart are put together, so the taps of a kernel row lie together: each kernel row is a segment
//!   1×k                the same; of 16 input channels or more, each tap is a segment
//!   far taps           the taps of each pixel of a group are gathered, one segment: windows reach over far more than they have taps
//! ```

use sepconv_kernels::BLOCK;

use super::cost::Thresholds;
use super::layout::{Order, PlannedTensor, TensorLayout};
use super::offsets::{Phases, PixelTable};
use super::share::{ConvParts, evenly, rows_within};
use super::stage::{Chain, ConvStage, Ends, Misfit, PackedConv, STAGES};
use super::staging::{self, Staging, pixels_of};
use crate::memory::{Carver, product};
use crate::shape::Extent;
use crate::{Result, Shape};

/// How taps are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taps {
    InPlace,
    /// Pixels of a caller's planes, as channel blocks in scratch.
    Planes,
    Window,
    Gathered,
}

/// Rows of a convolution, some panels at a time, to wherever the step wants them.
#[derive(Debug)]
pub(crate) struct ConvRows {
    pub(crate) stage: ConvStage,
    pub(crate) input: Shape,
    pub(crate) extent: Extent,
    pub(crate) taps: Taps,
    /// Output rows of one call of the kernel.
    pub(crate) group: usize,
    /// Images of one call, of which it takes all rows: a batch of small planes is as good as a large one. 1 where they have more rows, and
    /// where pixels go to a ring, or lie in a caller's planes.
    pub(crate) images: usize,
    /// Columns of one call: fewer than a row has only where one row alone would leave L2. A window has the columns that these read.
    pub(crate) columns: usize,
    pub(crate) x_pixels: PixelTable,
    pub(crate) out_pixels: PixelTable,
    pub(crate) residual_pixels: Option<PixelTable>,
    /// The place of the copied pixels or window, or of the gathered taps, in a worker's scratch.
    pub(crate) window: usize,
}

/// Where rows are computed to.
#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    Tensor(&'a PlannedTensor),
    /// A ring of so many rows.
    Ring(TensorLayout, usize),
}

impl ConvRows {
    /// Rows of a convolution over `x` to `out`, with `residual` added; scratch is carved from the worker's. `budget` is the
    /// number of values that the input of one kernel call may take.
    pub(super) fn new(
        stage: ConvStage,
        x: &PlannedTensor,
        out: Destination<'_>,
        residual: Option<&PlannedTensor>,
        budget: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<ConvRows> {
        let conv = &*stage.op;
        let (input, most) = (x.shape, thresholds.planned_offsets);
        let extent = conv.window.over([input.h, input.w])?;
        let taps = Taps::of(conv, &extent, x.layout.order, thresholds.far_taps);
        let width = extent.out[1];
        let group = group_rows(conv, taps, &extent, out, budget, thresholds)?;
        let k = conv.k();
        let values = |columns| {
            let columns_read = conv.columns_read(columns);
            match taps {
                Taps::InPlace | Taps::Gathered => product(&[group, columns, k]),
                Taps::Planes => product(&[conv.rows_read(group), columns_read, conv.inputs.next_multiple_of(BLOCK)]),
                Taps::Window => product(&[conv.rows_read(group), conv.phases(columns).columns()?, conv.inputs]),
            }
        };
        let of_image = values(width)?;
        // where pixels are found in planes, or in a ring, a call has whole rows of one image
        let anywhere = match out {
            Destination::Tensor(out) => {
                [Some(x), Some(out), residual].into_iter().flatten().all(|tensor| tensor.layout.order != Order::Planes)
            }
            Destination::Ring(..) => false,
        };
        // tables that the plan does not keep are written by each piece of a run
        let kept = (most / (group * width)).max(1);
        let images = if anywhere && group == extent.out[0] {
            evenly(input.n, rows_within(budget, of_image, input.n).min(kept))
        } else {
            1
        };
        // values that a column adds to a call
        let of_column = match taps {
            _ if !anywhere || group > 1 || images > 1 => 0,
            Taps::InPlace => k,
            Taps::Window => conv.window.kernel[0].saturating_mul(conv.window.stride[1]).saturating_mul(conv.inputs),
            Taps::Planes | Taps::Gathered => 0,
        };
        let least = conv.window.least_columns(thresholds.part_overlaps);
        let columns = if of_column == 0 {
            width
        } else {
            evenly(width, rows_within(budget, of_column, width).max(least).min(width))
        };
        let columns_read = conv.columns_read(columns);
        let window = if taps == Taps::InPlace { 0 } else { product(&[images, values(columns)?])? };
        let pixels = [images, group, columns];
        let dense = |h, w, c| TensorLayout::nhwc(Shape { n: images, h, w, c });
        let x_pixels = match taps {
            Taps::InPlace => PixelTable::of(x, pixels, conv.window.stride, most, scratch)?,
            Taps::Planes => {
                let blocks = TensorLayout::blocked(Shape::new(1, group, columns_read, BLOCK), [0, 0])?;
                PixelTable::within(blocks, pixels, conv.window.stride, Phases::ONE, most, scratch)?
            }
            Taps::Window => {
                let phases = conv.phases(columns);
                let window = dense(conv.rows_read(group), phases.columns()?, conv.inputs);
                PixelTable::within(window, pixels, conv.window.stride, phases, most, scratch)?
            }
            Taps::Gathered => PixelTable::within(dense(group, width, k), pixels, [1, 1], Phases::ONE, most, scratch)?,
        };
        let out_pixels = match out {
            Destination::Tensor(out) => pixels_of(out, pixels, most, scratch)?,
            Destination::Ring(layout, rows) => PixelTable::of_ring(layout, rows, width, most, scratch)?,
        };
        let of_residual = |residual| pixels_of(residual, pixels, most, scratch);
        let residual_pixels = residual.map(of_residual).transpose()?;
        let window = scratch.values::<f32>(window)?;
        Ok(ConvRows {
            taps,
            group,
            images,
            columns,
            x_pixels,
            out_pixels,
            residual_pixels,
            window,
            stage,
            input,
            extent,
        })
    }
}

impl Taps {
    fn of(conv: &PackedConv, extent: &Extent, order: Order, far_taps: usize) -> Taps {
        if conv.window.kernel == [1, 1] && extent.before == [0, 0] && extent.after == [0, 0] {
            if order == Order::Planes { Taps::Planes } else { Taps::InPlace }
        } else {
            let copied = conv.window.reach(0).saturating_mul(conv.columns_read(extent.out[1]));
            let taps = conv.window.kernel[0].saturating_mul(conv.window.kernel[1]).saturating_mul(extent.out[1]);
            // rows that are copied serve several output rows
            if copied > taps.saturating_mul(far_taps) { Taps::Gathered } else { Taps::Window }
        }
    }
}

/// Output rows of one call of the kernel, of which the input takes at most `budget` values.
///
/// Windows overlap: of a window that is copied, an output row adds what its stride passes. By the values of all taps a group would
/// be a single row where channels are many, and every group reads all weights. Rows that are transposed on their way in or out are in
/// scratch as well, and fewer of them stay in L2, unless weights come from beyond it for every group.
fn group_rows(
    conv: &PackedConv,
    taps: Taps,
    extent: &Extent,
    out: Destination<'_>,
    budget: usize,
    thresholds: &Thresholds,
) -> Result<usize> {
    let ([kh, kw], [sy, sx]) = (conv.window.kernel, conv.window.stride);
    let width = extent.out[1];
    let values = match taps {
        Taps::Window => product(&[width, sy.min(kh), sx.min(kw), conv.inputs])?,
        Taps::InPlace | Taps::Planes | Taps::Gathered => product(&[width, conv.k()])?,
    };
    let to_planes = matches!(out, Destination::Tensor(out) if out.layout.order == Order::Planes);
    let staged = if to_planes { product(&[width, conv.outputs.next_multiple_of(BLOCK)])? } else { 0 };
    let transposed = to_planes || taps == Taps::Planes;
    if transposed && conv.weights.len() <= thresholds.tail_weights {
        return Ok(rows_within(thresholds.staged_values, values.saturating_add(staged), extent.out[0]));
    }
    Ok(rows_within(budget, values, extent.out[0]))
}

impl PackedConv {
    /// Input rows that `rows` output rows read.
    pub(crate) fn rows_read(&self, rows: usize) -> usize {
        (rows - 1) * self.window.stride[0] + self.window.reach(0)
    }

    /// The order of the columns that a copied row of `width` output pixels reads: those that a dilation puts apart lie together.
    pub(crate) fn phases(&self, width: usize) -> Phases {
        Phases::new(self.columns_read(width), self.window.dilation[1])
    }

    /// The values of a segment of a copied window of rows of `row` values, and the values from one segment to the next.
    pub(crate) fn segments(&self, row: usize) -> [usize; 2] {
        let ([kh, kw], dilation) = (self.window.kernel, self.window.dilation[0]);
        match kh {
            1 if self.inputs >= BLOCK => [self.inputs, self.inputs],
            1 => [kw * self.inputs, 0],
            _ => [kw * self.inputs, dilation * row],
        }
    }

    /// Input columns that a row of `width` output pixels reads.
    pub(crate) fn columns_read(&self, width: usize) -> usize {
        (width - 1) * self.window.stride[1] + self.window.reach(1)
    }
}

/// A convolution from tensor to tensor.
#[derive(Debug)]
pub(crate) struct ConvStep {
    pub(crate) rows: ConvRows,
    pub(crate) ends: Ends,
    pub(crate) parts: ConvParts,
    /// Of the output and of the residual, where they lie in planes.
    pub(crate) staging: [Option<Staging>; 2],
}

impl ConvStep {
    /// A step of a convolution alone, or an error where it does not fit the tensors.
    pub(super) fn new(
        chain: &Chain,
        tensors: &[PlannedTensor],
        ends: Ends,
        workers: usize,
        thresholds: &Thresholds,
        scratch: &mut Carver,
    ) -> Result<ConvStep> {
        chain.over(tensors, &ends)?;
        let (Some(stage), None) = (chain.head(), chain.depthwise()) else {
            return Err(Misfit::Order.named(STAGES));
        };
        let (x, out) = (&tensors[ends.input], &tensors[ends.output]);
        let residual = ends.residual.map(|r| &tensors[r]);
        let to = Destination::Tensor(out);
        let rows = ConvRows::new(stage.cloned(), x, to, residual, thresholds.group_values, thresholds, scratch)?;
        let blocks = stage.op.outputs.div_ceil(BLOCK);
        let staging = staging::of_ends(tensors, &ends, rows.group, blocks, scratch)?;
        let lines = x.shape.n * rows.extent.out[0];
        let parts = ConvParts::new(lines, blocks, workers);
        Ok(ConvStep { rows, ends, parts, staging })
    }
}
